//! A heartbeat allocates nothing: an allocator counts.
#![expect(unsafe_code, reason = "an allocator that counts is unsafe to write")]
#![expect(clippy::unwrap_used, reason = "clippy only sees the functions that are tests themselves")]

use hand::World;
use roost_gateway::ids::EdgeId;
use roost_gateway::shard::Input;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

mod hand;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator with the arguments as they came; counting
// touches no memory that was allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` above, so from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

const EDGE: EdgeId = EdgeId { slot: 0, generation: 1 };

fn heartbeats(world: &mut World, number: u64) {
    for _ in 0..number {
        world.feed(Input::Received { edge: EDGE, bytes: &mut [0] });
        world.turn();
        world.turn();
    }
}

#[test]
fn a_heartbeat_allocates_nothing() {
    let mut world = World::new();
    world.connect(EDGE.slot);
    while world.turn() {}
    assert_eq!(world.shard.stats().welcomed_total, 1);
    // What signing in left is put away.
    (0..1000).for_each(|_| world.tick());
    heartbeats(&mut world, 10);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    heartbeats(&mut world, 1000);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(world.shard.stats().heartbeats_total, 1010);
    assert_eq!(allocations, 0);
}
