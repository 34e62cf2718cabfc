//! A real file system that fills up: a tmpfs of 64 MiB, mounted by this test (as root, as the
//! power cut test of the gateway).

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use roost_storage_engine::disk::{Disk, KeeperThread, RealFolder};
use roost_storage_engine::{
    DiskError, NewRecord, OpenSettings, Query, Settings, Store, StoreDone, StoreError, StoreEvent,
    open,
};

use crate::world::{Dice, stream};

/// A small file system, unmounted when it is dropped.
struct Small {
    point: PathBuf,
    _place: tempfile::TempDir,
}

impl Small {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let point = place.path().join("small");
        fs::create_dir(&point).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m", "roost-test"]).arg(&point);
        assert!(mount.status().unwrap().success(), "this test mounts a tmpfs: run it as root");
        Self { point, _place: place }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.point).status());
    }
}

/// Turns after which what did not happen never will: one waits 30 ms for the disk at most.
const TURNS_MAX: usize = 2_000;

struct Running {
    store: Store,
    disk: Disk,
    answers: Receiver<StoreDone>,
    events: Vec<StoreEvent>,
    now_ms: u64,
    dice: Dice,
    next: u64,
    keeper: KeeperThread,
    folder: RealFolder,
}

fn start(small: &Small) -> Running {
    let mut folder = RealFolder::open(&small.point.join("data")).unwrap();
    let settings = Settings {
        segment_bytes: 4 << 20,
        first_segment_bytes: 4 << 20,
        reserve_bytes: 5 << 20,
        retry_ms: 10,
        ..Settings::DEFAULT
    };
    let settings = OpenSettings { shards: 1, settings, fresh_incarnation: 7 };
    let mut opened = open(&mut folder, &settings).unwrap();
    let store = opened.stores.remove(0);
    let keeper = KeeperThread::start(&folder, opened.keeper).unwrap();
    let (disk, answers) = Disk::new(folder.files(), &keeper, "small", Box::new(|| ())).unwrap();
    let (events, dice) = (Vec::new(), Dice(5));
    Running { store, disk, answers, events, now_ms: 1, dice, next: 1, keeper, folder }
}

impl Running {
    /// A batch, and the answers to it as they come.
    fn turn(&mut self) {
        let mut ops = Vec::new();
        self.now_ms += 20;
        self.store.end_batch(self.now_ms * 1000, &mut ops);
        loop {
            for op in ops.drain(..) {
                self.disk.submit(op);
            }
            self.store.take_ready(&mut self.events);
            match self.answers.recv_timeout(Duration::from_millis(30)) {
                Ok(done) => self.store.handle(done, &mut self.events, &mut ops),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("the disk's threads ended"),
            }
        }
    }

    /// Turns until something is so, or for long enough to say that it never will be.
    fn turn_until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if is_so(self) {
                return;
            }
            self.turn();
        }
    }

    /// Half a megabyte that no compressor makes smaller, in ten streams.
    fn write(&mut self) -> Result<(), StoreError> {
        for _ in 0..10 {
            let mut body = vec![0; 50_000];
            for byte in &mut body {
                *byte = u8::try_from(self.dice.below(256)).unwrap();
            }
            let number = self.next.div_ceil(10);
            let record = NewRecord {
                stream: stream(u8::try_from(self.next % 10).unwrap()),
                number,
                seq: number,
                stamp: self.next,
                kind: 1,
                snapshot_start: false,
                body: &[&body],
            };
            self.store.append(&record)?;
            self.next += 1;
        }
        Ok(())
    }

    fn write_until_full(&mut self) {
        let mut refused = 0;
        for _ in 0..TURNS_MAX {
            // Sealing may make room once more.
            refused = if self.write() == Err(StoreError::Full) { refused + 1 } else { 0 };
            self.turn();
            if refused == 5 {
                return;
            }
        }
        panic!("it never filled up");
    }

    /// Records that can be read, of all streams.
    fn count(&mut self) -> u64 {
        let mut found = 0;
        for number in 0..10 {
            let mut ops = Vec::new();
            let stream = stream(number);
            let query = Query::After { stream, seq: 0, limit: usize::MAX, max_bytes: usize::MAX };
            let id = self.store.read(query, &mut ops);
            for op in ops {
                self.disk.submit(op);
            }
            let answer = loop {
                let here = self.events.iter().position(
                    |event| matches!(event, StoreEvent::Read { id: of, .. } if *of == id),
                );
                match here {
                    Some(place) => break self.events.remove(place),
                    None => self.turn(),
                }
            };
            let StoreEvent::Read { result, .. } = answer else { panic!("a read is answered") };
            found += u64::try_from(result.unwrap().len()).unwrap();
        }
        found
    }
}

#[test]
fn a_full_disk_stops_writes_only_and_only_while_it_is_full() {
    let small = Small::new();
    // Somebody else takes room, and gives it back.
    let other = small.point.join("other");
    fs::write(&other, vec![1; 20 << 20]).unwrap();
    let mut running = start(&small);
    running.write_until_full();
    let accepted = running.next - 1;
    assert_eq!(running.write(), Err(StoreError::Full));
    // Nothing that was taken is lost, and reading goes on.
    for _ in 0..10 {
        running.turn();
    }
    assert!(!running.events.iter().any(|event| matches!(event, StoreEvent::Fatal(_))));
    let readable = running.count();
    assert!(readable + 200 >= accepted, "{readable} of {accepted}");
    // No segment took the room that sealing used and gave back, when it has given it back.
    let reserve = || fs::metadata(small.point.join("data/reserve")).map_or(0, |file| file.len());
    running.turn_until(|_| reserve() >= 5 << 20);
    assert!(reserve() >= 5 << 20, "{}", reserve());
    // Sealing came to its end in the room that was kept for it, or waits for room.
    let refused = |event: &StoreEvent| match event {
        StoreEvent::NotSealed { error, .. } => *error != DiskError::Full,
        _ => false,
    };
    assert!(!running.events.iter().any(refused));

    fs::remove_file(&other).unwrap();
    running.turn_until(|running| running.events.contains(&StoreEvent::Room));
    assert!(running.events.contains(&StoreEvent::Room));
    let before = running.next;
    // What was sealed meanwhile may have to be absorbed first.
    let mut written = Err(StoreError::Busy);
    running.turn_until(|running| {
        written = running.write();
        written != Err(StoreError::Busy)
    });
    written.unwrap();
    running.turn_until(|running| running.store.durable() == running.store.appended());
    assert_eq!(running.store.durable(), running.store.appended());
    assert_eq!(running.count(), running.next - 1);
    assert!(running.next > before);

    // And full again, to the end of the process.
    running.events.clear();
    running.write_until_full();
    let readable = running.count();
    let Running { disk, keeper, folder, .. } = running;
    drop((disk, keeper, folder));
    fs::write(&other, [0]).ok();
    let mut running = start(&small);
    assert!(running.count() >= readable);
}
