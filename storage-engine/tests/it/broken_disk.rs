//! Disks that fail for real: a file system whose device has less room than it says, so that the
//! device itself refuses writes, and a limit on the size of files. Both end the store at once, and
//! nothing that was acknowledged is lost. The first needs root, loop devices and `mkfs.ext4`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use roost_storage_engine::disk::{Disk, KeeperThread, RealFolder};
use roost_storage_engine::{
    DiskError, NewRecord, OpenSettings, Query, Settings, Store, StoreDone, StoreError, StoreEvent,
    open,
};

use crate::world::{Dice, stream};

const SEGMENT_BYTES: u32 = 4 << 20;
const BODY_BYTES: usize = 20_000;
/// Tells the child of `a_file_that_may_not_grow` where to write.
const CHILD: &str = "ROOST_STORE_LIMITED_CHILD";

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}: run this test as root");
}

/// ext4 on a loop device over a file of a tmpfs with less room than the file's size.
struct Fragile {
    room: PathBuf,
    point: PathBuf,
    _place: tempfile::TempDir,
}

impl Fragile {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let (room, point) = (place.path().join("room"), place.path().join("point"));
        fs::create_dir(&room).unwrap();
        fs::create_dir(&point).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "test"]).arg(&room));
        let fragile = Self { room, point, _place: place };
        File::create(fragile.image()).unwrap().set_len(256 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(fragile.image()));
        fragile.mount();
        fragile
    }

    fn image(&self) -> PathBuf {
        self.room.join("image")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(&self.point));
    }

    /// The device gets all the room that it said it had, and the file system starts afresh.
    fn mend(&self) {
        run(Command::new("umount").arg(&self.point));
        run(Command::new("mount").args(["-o", "remount,size=300m"]).arg(&self.room));
        self.mount();
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        for point in [&self.point, &self.room] {
            drop(Command::new("umount").arg("-l").arg(point).status());
        }
    }
}

struct Running {
    store: Store,
    disk: Disk,
    answers: Receiver<StoreDone>,
    now_ms: u64,
    _keeper: KeeperThread,
    _folder: RealFolder,
}

fn start(path: &Path, segment_bytes: u32) -> Running {
    let mut folder = RealFolder::open(path).unwrap();
    let settings = Settings {
        segment_bytes,
        first_segment_bytes: SEGMENT_BYTES,
        reserve_bytes: 0,
        ..Settings::DEFAULT
    };
    let settings = OpenSettings { shards: 1, settings, fresh_incarnation: 7 };
    let mut opened = open(&mut folder, &settings).unwrap();
    let store = opened.stores.remove(0);
    let keeper = KeeperThread::start(&folder, opened.keeper).unwrap();
    let (disk, answers) = Disk::new(folder.files(), &keeper, "broken", Box::new(|| ())).unwrap();
    Running { store, disk, answers, now_ms: 1, _keeper: keeper, _folder: folder }
}

impl Running {
    /// A batch and the next answer; what happened.
    fn turn(&mut self) -> Vec<StoreEvent> {
        let (mut events, mut ops) = (Vec::new(), Vec::new());
        self.now_ms += 1;
        self.store.end_batch(self.now_ms * 1000, &mut ops);
        self.store.take_ready(&mut events);
        self.submit(&mut ops);
        if let Ok(done) = self.answers.recv_timeout(Duration::from_millis(20)) {
            self.store.handle(done, &mut events, &mut ops);
        }
        self.submit(&mut ops);
        events
    }

    fn submit(&mut self, ops: &mut Vec<roost_storage_engine::StoreOp>) {
        for op in ops.drain(..) {
            self.disk.submit(op);
        }
    }

    /// Appends until the store stops; gives how many were acknowledged, and why it stopped.
    fn append_until_it_stops(&mut self) -> (u64, StoreError) {
        let (mut waiting, mut acknowledged, mut dice) = (Vec::new(), 0, Dice(5));
        for number in 1..=20_000 {
            let body: Vec<u8> =
                (0..BODY_BYTES).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
            let new = NewRecord {
                stream: stream(3),
                number,
                seq: number,
                stamp: number,
                kind: 1,
                snapshot_start: false,
                body: &[&body],
            };
            loop {
                match self.store.append(&new) {
                    Ok(appended) => break waiting.push((appended.position, number)),
                    Err(StoreError::Busy) => {}
                    Err(error) => return (acknowledged, error),
                }
                self.turn();
            }
            for event in self.turn() {
                if let StoreEvent::Durable(end) = event {
                    let shown = waiting.iter().take_while(|(position, _)| *position <= end);
                    acknowledged = shown.last().map_or(acknowledged, |(_, number)| *number);
                }
            }
        }
        panic!("it never stopped");
    }

    fn numbers(&mut self) -> Vec<u64> {
        let mut ops = Vec::new();
        let (limit, max_bytes) = (usize::MAX, usize::MAX);
        let query = Query::After { stream: stream(3), seq: 0, limit, max_bytes };
        let wanted = self.store.read(query, &mut ops);
        self.submit(&mut ops);
        loop {
            for event in self.turn() {
                match event {
                    StoreEvent::Read { id, result } if id == wanted => {
                        return result.unwrap().iter().map(|record| record.number).collect();
                    }
                    StoreEvent::Corrupt(damage) => panic!("{damage:?}"),
                    _ => {}
                }
            }
        }
    }
}

fn check_all_there(path: &Path, acknowledged: u64) {
    let numbers = start(path, SEGMENT_BYTES).numbers();
    let found = u64::try_from(numbers.len()).unwrap();
    assert!(found >= acknowledged, "{found} of {acknowledged} acknowledged records");
    assert!(numbers.iter().copied().eq(1..=found), "no gap");
}

#[test]
fn a_device_that_refuses_writes_ends_the_store_and_loses_nothing() {
    let fragile = Fragile::new();
    let data = fragile.point.join("data");
    let mut running = start(&data, SEGMENT_BYTES);
    let (acknowledged, error) = running.append_until_it_stops();
    // If it is a new segment that meets it, the device says that it has no room: then nothing was
    // lost, and the store only waits for room.
    let expected = |error| matches!(error, StoreError::Failed(DiskError::Io { .. }));
    assert!(expected(error) || error == StoreError::Full, "{error:?}");
    assert!(acknowledged > 100, "it went well for a while: {acknowledged}");
    // Nobody may use it any more.
    assert_eq!(running.store.append(&nothing()), Err(error));
    drop(running);
    fragile.mend();
    check_all_there(&data, acknowledged);
}

fn nothing() -> NewRecord<'static> {
    let (number, seq, stamp, kind) = (0, 0, 0, 0);
    NewRecord { stream: stream(3), number, seq, stamp, kind, snapshot_start: false, body: &[] }
}

#[test]
fn a_file_that_may_not_grow_ends_the_store_and_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    // 8 MiB in units of 512 bytes: enough for the first segment.
    let script = "trap '' XFSZ; ulimit -f 16384; exec \"$0\" --exact broken_disk::limited_child";
    let mut child = Command::new("/bin/sh");
    child.args(["-c", script]).arg(std::env::current_exe().unwrap()).env(CHILD, &data);
    assert!(child.status().unwrap().success());
    let said = fs::read_to_string(place.path().join("acknowledged")).unwrap();
    let acknowledged: u64 = said.parse().unwrap();
    assert!(acknowledged > 10, "{acknowledged}");
    check_all_there(&data, acknowledged);
}

/// Not a test of its own: what the one above runs under a limit.
#[test]
fn limited_child() {
    let Some(data) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let mut running = start(&data, 4 * SEGMENT_BYTES);
    let (acknowledged, error) = running.append_until_it_stops();
    // EFBIG
    assert_eq!(error, StoreError::Failed(DiskError::Io { code: 27 }));
    fs::write(data.with_file_name("acknowledged"), acknowledged.to_string()).unwrap();
}
