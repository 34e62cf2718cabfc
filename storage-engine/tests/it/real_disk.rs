//! The same store on a real file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use roost_storage_engine::disk::{Disk, FolderError, KeeperThread, RealFolder};
use roost_storage_engine::{
    DiskError, FetchPart, FileId, Folder, NewRecord, OpenSettings, Query, Store, StoreDone,
    StoreError, StoreEvent, StoreOp, StreamId, open,
};

use crate::world::{small, stream};

struct Running {
    store: Store,
    disk: Disk,
    answers: Receiver<StoreDone>,
    keeper: KeeperThread,
    folder: RealFolder,
}

fn start(path: &Path) -> Running {
    let mut settings = small();
    settings.shards = 1;
    start_with(path, &settings)
}

fn start_with(path: &Path, settings: &OpenSettings) -> Running {
    let mut folder = RealFolder::open(path).unwrap();
    let mut opened = open(&mut folder, settings).unwrap();
    let store = opened.stores.remove(0);
    let keeper = KeeperThread::start(&folder, opened.keeper).unwrap();
    let (disk, answers) = Disk::new(folder.files(), &keeper, "shard-0", Box::new(|| ())).unwrap();
    Running { store, disk, answers, keeper, folder }
}

impl Running {
    fn submit(&mut self, ops: Vec<StoreOp>) {
        for op in ops {
            self.disk.submit(op);
        }
    }

    fn wait(&mut self, wanted: impl Fn(&StoreEvent) -> bool) -> StoreEvent {
        loop {
            let (mut events, mut ops) = (Vec::new(), Vec::new());
            self.store.end_batch(1, &mut ops);
            self.store.take_ready(&mut events);
            self.submit(ops);
            if let Some(place) = events.iter().position(&wanted) {
                return events.remove(place);
            }
            let (done, mut ops) = (self.answers.recv().unwrap(), Vec::new());
            self.store.handle(done, &mut events, &mut ops);
            self.submit(ops);
            if let Some(place) = events.iter().position(&wanted) {
                return events.remove(place);
            }
        }
    }

    /// Until the keeper has nothing to do.
    fn tidy(&mut self) {
        loop {
            let (mut events, mut ops) = (Vec::new(), Vec::new());
            self.store.end_batch(1, &mut ops);
            self.store.take_ready(&mut events);
            self.submit(ops);
            if self.store.is_tidy() {
                return;
            }
            let (done, mut ops) = (self.answers.recv().unwrap(), Vec::new());
            self.store.handle(done, &mut events, &mut ops);
            self.submit(ops);
        }
    }

    fn append(&mut self, number: u64) {
        let new = NewRecord {
            stream: stream(3),
            number,
            seq: number,
            stamp: number,
            kind: 1,
            snapshot_start: false,
            body: &[b"body ", &number.to_le_bytes()],
        };
        let position = self.store.append(&new).unwrap().position;
        self.wait(|event| matches!(event, StoreEvent::Durable(end) if *end >= position));
    }

    fn count(&mut self) -> usize {
        let mut ops = Vec::new();
        let wanted = self.store.read(Query::Load { stream: stream(3) }, &mut ops);
        self.submit(ops);
        let event =
            self.wait(|event| matches!(event, StoreEvent::Read { id, .. } if *id == wanted));
        match event {
            StoreEvent::Read { result, .. } => result.unwrap().len(),
            other => panic!("not a read: {other:?}"),
        }
    }
}

#[test]
fn what_is_written_is_there_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let mut running = start(place.path());
    for number in 1..=300 {
        running.append(number);
    }
    assert_eq!(running.count(), 300);
    running.tidy();
    assert!(running.store.stats().sealed > 0);
    let Running { store, disk, keeper, mut folder, .. } = running;
    drop(disk);
    let mut keeper = keeper.stop().unwrap();
    keeper.close_cleanly(&mut folder, store.max_stamp(), false).unwrap();
    drop(folder);

    let mut running = start(place.path());
    assert_eq!(running.store.run(), 2);
    assert_eq!(running.store.max_stamp(), 300);
    assert_eq!(running.count(), 300);
    running.append(301);
    running.store.seal_old();
    running.wait(|event| *event == StoreEvent::OldSealed);
    assert_eq!(running.count(), 301);
    drop(running);
    assert_eq!(start(place.path()).count(), 301);
}

#[test]
fn a_second_process_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let _first = RealFolder::open(place.path()).unwrap();
    let error = RealFolder::open(place.path()).unwrap_err();
    assert!(matches!(error, FolderError::InUse { process, .. }
        if process == Some(std::process::id())));
    assert!(error.to_string().contains("in use by process"));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, b"not a folder").unwrap();
    let error = RealFolder::open(&file.join("data")).unwrap_err();
    assert!(matches!(error, FolderError::Unwritable { .. }));
}

#[test]
fn more_fetches_than_may_wait_are_answered_all_the_same() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = RealFolder::open(place.path()).unwrap();
    let opened = open(&mut folder, &small()).unwrap();
    let run = opened.run;
    let keeper = KeeperThread::start(&folder, opened.keeper).unwrap();
    let wake = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&wake);
    let woken = Box::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let (mut disk, answers) = Disk::new(folder.files(), &keeper, "shard-0", woken).unwrap();
    let file = FileId::Segment(roost_storage_engine::SegmentId::new(run, 0, 9));
    for number in 0..5000 {
        let id = roost_storage_engine::FetchId(number);
        let parts = vec![FetchPart { file, ranges: vec![(0, 1)] }];
        disk.submit(StoreOp::Fetch { id, parts });
    }
    drop(disk);
    assert_eq!(answers.try_iter().count(), 5000);
    assert!(wake.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

#[test]
fn the_reserve_grows_with_what_sealing_many_tiny_streams_needs() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = small();
    settings.shards = 1;
    settings.settings.segment_bytes = 256 << 10;
    settings.settings.first_segment_bytes = 256 << 10;
    settings.settings.reserve_bytes = 288 << 10;
    // Nothing is merged: each table is of one segment.
    settings.settings.tables_a_stream_max = 64;
    let bytes = |name: &Path| fs::metadata(name).unwrap().len();
    let largest = || {
        let tables = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_table = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "table");
        tables.filter(is_table).map(|path| bytes(&path)).max().unwrap_or(0)
    };
    let reserve = || bytes(&place.path().join("reserve"));
    let mut running = start_with(place.path(), &settings);
    let mut next = 1;
    // It grows when the keeper tends what there is, which may be a few segments later.
    let mut sealed = 0;
    while sealed < 2 || (reserve() < largest() && sealed < 20) {
        sealed = running.store.stats().sealed;
        for _ in 0..100 {
            let stream = StreamId(next << 90 | next);
            let new = NewRecord {
                stream,
                number: 0,
                seq: 0,
                stamp: 0,
                kind: 1,
                snapshot_start: false,
                body: &[],
            };
            let mut appended = running.store.append(&new);
            if appended == Err(StoreError::Busy) {
                // Sealing lags behind.
                running.tidy();
                appended = running.store.append(&new);
            }
            appended.unwrap();
            next += 1;
        }
        running.store.flush_soon();
        let appended = running.store.appended();
        running.wait(|event| matches!(event, StoreEvent::Durable(end) if *end >= appended));
    }
    let (largest, reserve) = (largest(), reserve());
    assert!(largest > 288 << 10, "a table is larger than nine eighths of its segment: {largest}");
    assert!(reserve >= largest, "{reserve} kept for {largest}");
}

#[test]
fn the_reserve_is_for_the_largest_segment_there_is() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = small();
    settings.shards = 1;
    settings.settings.segment_bytes = 1 << 20;
    settings.settings.first_segment_bytes = 64 << 10;
    settings.settings.reserve_bytes = 1152 << 10;
    let reserve = || fs::metadata(place.path().join("reserve")).unwrap().len();
    let mut running = start_with(place.path(), &settings);
    assert_eq!(reserve(), 72 << 10, "nine eighths of the first segment");
    let mut number = 0;
    // The second segment is made when a quarter of the first is written.
    while running.store.stats().sealed < 1 {
        number += 1;
        running.append(number);
    }
    assert_eq!(reserve(), 1152 << 10);
    let stop = |running: Running| {
        let Running { store, disk, keeper, mut folder, .. } = running;
        drop(disk);
        let mut keeper = keeper.stop().unwrap();
        keeper.close_cleanly(&mut folder, store.max_stamp(), true).unwrap();
    };
    stop(running);
    assert_eq!(reserve(), 1152 << 10, "the second segment is not sealed");
    let mut running = start_with(place.path(), &settings);
    assert!(reserve() < 1152 << 10, "little is written in it");
    running.store.seal_old();
    running.wait(|event| *event == StoreEvent::OldSealed);
    stop(running);
    assert_eq!(reserve(), 72 << 10);
}

#[test]
fn a_commits_flush_spares_the_keeper_its_own() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = RealFolder::open(place.path()).unwrap();
    let files = folder.files();
    // Who flushes a file that is not there hears of it.
    let nothing = |folder: &mut RealFolder| folder.relieve("none");
    assert_eq!(nothing(&mut folder), Err(DiskError::Missing));
    files.note_flush();
    assert_eq!(nothing(&mut folder), Ok(()));
    assert_eq!(nothing(&mut folder), Err(DiskError::Missing), "no commit since");
}
