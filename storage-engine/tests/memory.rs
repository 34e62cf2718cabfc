//! What a store keeps in memory: nothing that counts for a stream at rest, little for an active
//! one, and nothing new for an append. A program of its own, because it counts every allocation.

#![expect(unsafe_code, reason = "an allocator that counts is unsafe to write")]
#![expect(clippy::unwrap_used, reason = "a helper of a test stops the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

use roost_storage_engine::disk::{Disk, KeeperThread, RealFolder};
use roost_storage_engine::{
    Durability, NewRecord, OpenSettings, Query, Settings, Store, StoreDone, StoreEvent, StoreOp,
    StreamId, open,
};

/// Counts what is allocated, and how often.
struct Counting;

static BYTES: AtomicU64 = AtomicU64::new(0);
thread_local! {
    /// Allocations of this thread: helper threads allocate what they like.
    static CALLS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread allocated and those that it gave back, together.
    static MOVED: Cell<u64> = const { Cell::new(0) };
}

/// What is counted is the whole program's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: every call goes to the system's allocator with the arguments it came with; the counters
// change nothing about the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let bytes = u64::try_from(layout.size()).unwrap_or(0);
        CALLS.set(CALLS.get() + 1);
        MOVED.set(MOVED.get() + bytes);
        BYTES.fetch_add(bytes, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let bytes = u64::try_from(layout.size()).unwrap_or(0);
        MOVED.set(MOVED.get() + bytes);
        BYTES.fetch_sub(bytes, Ordering::Relaxed);
        // SAFETY: `at` came from `alloc` above, with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Running {
    store: Store,
    disk: Disk,
    answers: Receiver<StoreDone>,
    events: Vec<StoreEvent>,
    /// Ops that are not answered: what they take for a moment is not what a store takes.
    asked: usize,
    /// The most bytes that one call of the store allocated and gave back.
    moved_max: u64,
    _keeper: KeeperThread,
    _folder: RealFolder,
}

fn start(path: &Path, segment_bytes: u32) -> Running {
    let mut folder = RealFolder::open(path).unwrap();
    let settings = Settings {
        segment_bytes,
        first_segment_bytes: segment_bytes,
        durability: Durability::Interval { ms: 1_000_000 },
        reserve_bytes: 0,
        ..Settings::DEFAULT
    };
    let settings = OpenSettings { shards: 1, settings, fresh_incarnation: 7 };
    let mut opened = open(&mut folder, &settings).unwrap();
    let store = opened.stores.remove(0);
    let keeper = KeeperThread::start(&folder, opened.keeper).unwrap();
    let (disk, answers) = Disk::new(folder.files(), &keeper, "memory", Box::new(|| ())).unwrap();
    Running {
        store,
        disk,
        answers,
        events: Vec::new(),
        asked: 0,
        moved_max: 0,
        _keeper: keeper,
        _folder: folder,
    }
}

impl Running {
    fn end_batch(&mut self) {
        let mut ops = Vec::new();
        let before = MOVED.get();
        self.store.end_batch(1, &mut ops);
        self.note_moved(before);
        self.submit(ops);
    }

    fn note_moved(&mut self, before: u64) {
        self.moved_max = self.moved_max.max(MOVED.get() - before);
    }

    fn submit(&mut self, ops: Vec<StoreOp>) {
        self.asked += ops.len();
        for op in ops {
            self.disk.submit(op);
        }
    }

    fn take(&mut self, done: StoreDone) {
        let mut ops = Vec::new();
        self.asked = self.asked.saturating_sub(1);
        let before = MOVED.get();
        self.store.handle(done, &mut self.events, &mut ops);
        self.note_moved(before);
        self.submit(ops);
        self.end_batch();
    }

    fn append(&mut self, stream: u64) {
        let stream = spread(stream);
        let record = NewRecord {
            stream,
            number: 1,
            seq: 1,
            stamp: 0,
            kind: 1,
            snapshot_start: false,
            body: &[b"sixteen bytes..."],
        };
        loop {
            let before = MOVED.get();
            let appended = self.store.append(&record);
            self.note_moved(before);
            if appended.is_ok() {
                return;
            }
            self.end_batch();
            let done = self.answers.recv().unwrap();
            self.take(done);
        }
    }

    /// Until everything is durable, sealed and merged.
    fn settle(&mut self) {
        self.store.flush_soon();
        self.end_batch();
        while self.store.synced() < self.store.appended() || !self.store.is_tidy() || self.asked > 0
        {
            let done = self.answers.recv().unwrap();
            self.take(done);
            self.store.flush_soon();
            self.end_batch();
        }
    }
}

/// Streams that are spread over all partitions, as hashes are.
fn spread(stream: u64) -> StreamId {
    let high = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    StreamId(u128::from(high) << 64 | u128::from(stream))
}

fn in_use() -> u64 {
    BYTES.load(Ordering::SeqCst)
}

#[test]
fn cold_streams_cost_two_bytes_and_active_ones_less_than_a_hundred() {
    const STREAMS: u64 = 1_000_000;
    const ACTIVE: u64 = STREAMS / 100;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = tempfile::tempdir().unwrap();
    let mut running = start(place.path(), 16 << 20);
    for stream in 0..STREAMS {
        running.append(stream);
    }
    running.settle();
    drop(running);

    let before = in_use();
    let empty = tempfile::tempdir().unwrap();
    let other = start(empty.path(), 1 << 20);
    let of_empty = in_use() - before;
    drop(other);
    let before = in_use();
    let mut running = start(place.path(), 1 << 20);
    running.store.seal_old();
    running.settle();
    let cold = (in_use() - before).saturating_sub(of_empty);
    println!("{cold} bytes for {STREAMS} streams at rest");
    assert!(cold < STREAMS * 5 / 2, "{cold} bytes for a million streams at rest");

    let before = in_use();
    for stream in 0..ACTIVE {
        running.append(stream * 97 % STREAMS);
        if stream % 500 == 0 {
            running.settle();
        }
    }
    running.settle();
    let active = in_use().saturating_sub(before);
    println!("{active} bytes for {ACTIVE} active ones");
    assert!(active < ACTIVE * 100, "{active} bytes for ten thousand active streams");

    let mut ops = Vec::new();
    let query =
        Query::Before { stream: spread(97), seq: u64::MAX, limit: 10, max_bytes: usize::MAX };
    let id = running.store.read(query, &mut ops);
    running.submit(ops);
    let answer = |event: &StoreEvent| matches!(event, StoreEvent::Read { id: of, .. } if *of == id);
    while !running.events.iter().any(answer) {
        let done = running.answers.recv().unwrap();
        running.take(done);
    }
    let found = running.events.iter().find(|event| answer(event));
    assert!(
        matches!(found, Some(StoreEvent::Read { result: Ok(records), .. }) if records.len() == 2)
    );
}

#[test]
fn a_warm_append_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = tempfile::tempdir().unwrap();
    let mut running = start(place.path(), 1 << 20);
    // Some segments' worth: all that is used again has its size.
    for number in 0..100_000_u64 {
        running.append(number % 1000);
        if number % 5000 == 0 {
            running.settle();
        }
    }
    running.settle();
    let (mut worst, mut segment) = (0, None);
    for number in 0..4000_u64 {
        let before = CALLS.get();
        let record = NewRecord {
            stream: spread(number % 1000),
            number,
            seq: number,
            stamp: number,
            kind: 1,
            snapshot_start: false,
            body: &[&[7; 16]],
        };
        let appended = running.store.append(&record);
        let calls = CALLS.get() - before;
        // The first of a segment begins its buffer.
        if segment.replace(appended.unwrap().segment) == segment {
            worst = worst.max(calls);
        }
    }
    assert_eq!(worst, 0, "an append allocated");
}

#[test]
fn no_call_moves_much_memory_however_many_streams_a_segment_has() {
    const STREAMS: u64 = 500_000;
    const MOVED_MAX: u64 = 256 << 10;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = tempfile::tempdir().unwrap();
    // All streams are in one segment, then in the next one: their indices grow while it is written,
    // and are left when it is sealed.
    let mut running = start(place.path(), 24 << 20);
    for stream in 0..3 * STREAMS {
        running.append(stream % STREAMS);
        if stream % 20_000 == 0 {
            running.store.flush_soon();
            running.events.clear();
        }
        // What gathers while the disk is slow is not what is looked at here.
        while stream % 250 == 0 && running.store.durable() < running.store.appended() {
            running.end_batch();
            let done = running.answers.recv().unwrap();
            running.take(done);
        }
    }
    running.settle();
    assert!(running.store.stats().sealed >= 2);
    println!("{} bytes moved by one call", running.moved_max);
    assert!(running.moved_max <= MOVED_MAX, "{} bytes moved by one call", running.moved_max);
}
