//! What one durable append costs the heap, on the thread that appends: an allocator counts.
#![expect(unsafe_code, reason = "an allocator that counts is unsafe to write")]
#![expect(clippy::unwrap_used, reason = "clippy only sees the functions that are tests themselves")]

use roost_bench::store::append::Names;
use roost_bench::store::engine::Record;
use roost_bench::store::roost::Roost;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

struct Counting;

thread_local! {
    /// Helper threads count for themselves.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator with the arguments as they came; counting
// touches no memory that was allocated, and its cell needs none.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises about the block and the size are passed on.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` above, so from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

const STREAMS: u32 = 1_000;
const BATCH: usize = 1_000;
const WARM_BATCHES: u32 = 100;
const BATCHES: u32 = 100;
const BODY: [u8; 256] = [7; 256];

/// Appends a batch, waits until it is durable, and gives what the calls and the waiting allocated.
fn commit(roost: &mut Roost, names: &mut Names) -> [u64; 2] {
    let begin = ALLOCATIONS.get();
    let mut last = 0;
    for _ in 0..BATCH {
        let (stream, seq) = names.draw();
        last = roost.append(Record { stream, seq, body: &BODY }).unwrap().unwrap();
    }
    let appended = ALLOCATIONS.get();
    while roost.durable() < last {
        roost.end_batch();
        roost.wait().unwrap();
    }
    [appended - begin, ALLOCATIONS.get() - appended]
}

#[test]
fn appends_allocate_next_to_nothing() {
    let name = format!("append-allocations-{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut roost = Roost::open(&folder).unwrap();
    let mut names = Names::new(STREAMS);
    for _ in 0..WARM_BATCHES {
        commit(&mut roost, &mut names);
    }
    let (mut calls, mut waiting) = (0, 0);
    for _ in 0..BATCHES {
        let [call, wait] = commit(&mut roost, &mut names);
        calls += call;
        waiting += wait;
    }
    drop(roost);
    std::fs::remove_dir_all(&folder).unwrap();
    let records = u64::from(BATCHES) * u64::try_from(BATCH).unwrap();
    eprintln!(
        "{records} appends: {calls} allocations in the calls, {waiting} in {BATCHES} commits"
    );
    assert!(calls * 1_000 < records, "{calls} allocations in {records} calls");
    assert!(waiting < u64::from(BATCHES) * 50, "{waiting} allocations in {BATCHES} commits");
}
