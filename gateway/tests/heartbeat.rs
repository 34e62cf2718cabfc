//! A heartbeat allocates nothing: an allocator counts.
#![expect(unsafe_code, reason = "an allocator that counts is unsafe to write")]
#![expect(clippy::unwrap_used, reason = "clippy only sees the functions that are tests themselves")]

use roost_gateway::ids::{EdgeId, ShardId};
use roost_gateway::limits::Limits;
use roost_gateway::shard::auth::ticket::{TicketKey, TicketKeys};
use roost_gateway::shard::auth::token::{TokenKey, TokenKeys, TokenRules};
use roost_gateway::shard::{EdgeConfig, Input, Outbox, Output, Secrets, Shard, ShardConfig};
use roost_protocol::time::{Instant, Now, Timestamp};
use roost_protocol::wire::{self, client_frame};
use roost_protocol::{encode, preface};
use roost_storage_engine::{OpenSettings, Settings, SimDisk, open};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

const SECRET: &[u8] = b"a secret of a test, long enough to be taken";
const EDGE: EdgeId = EdgeId { slot: 0, generation: 1 };
const NOW: Now =
    Now { monotonic: Instant { ns: 1_000_000_000 }, wall: Timestamp { ms: 1_795_000_000_000 } };

struct World {
    shard: Shard,
    outbox: Outbox,
    disk: SimDisk,
}

impl World {
    fn new() -> Self {
        let mut disk = SimDisk::new();
        let settings = OpenSettings {
            shards: 1,
            settings: Settings { segment_bytes: 1 << 20, ..Settings::default() },
            fresh_incarnation: 7,
        };
        let store = open(&mut disk, &settings).unwrap().stores.remove(0);
        let keys = TokenKeys::new(vec![TokenKey::from_secret("test", SECRET).unwrap()]).unwrap();
        let edges = EdgeConfig {
            tenant: String::new(),
            token_keys: Arc::new(keys),
            token_rules: TokenRules::default(),
            tls: None,
            incarnation: 1,
            server_run: 1,
        };
        let limits = Limits::default();
        let config = ShardConfig { id: ShardId(0), shards: 1, node: 0, limits, edges, seed: 1 };
        let ticket_keys = TicketKeys::new(TicketKey { id: 1, key: [7; 32] }, Vec::new());
        let mut world = Self { shard: Shard::open(config, store), outbox: Outbox::new(), disk };
        world.feed(Input::Secrets(Secrets { ticket_keys, nonce_prefix: [1; 8] }));
        world
    }

    fn feed(&mut self, input: Input<'_>) {
        self.shard.handle(NOW, input, &mut self.outbox);
    }

    /// Ends the batch and answers everything it asked for. Says whether there was anything.
    fn turn(&mut self) -> bool {
        self.shard.end_batch(NOW, &mut self.outbox);
        let mut sent = None;
        let mut busy = false;
        for output in self.outbox.drain() {
            busy = true;
            match output {
                Output::Send { edge: _, buffer } => sent = Some(buffer),
                Output::Store(op) => self.disk.submit(0, op),
                Output::Close { .. }
                | Output::Abort { .. }
                | Output::Pause { .. }
                | Output::Resume { .. }
                | Output::Forward { .. }
                | Output::Report(_)
                | Output::Drained => {}
            }
        }
        if let Some(buffer) = sent {
            self.feed(Input::Sent { edge: EDGE, buffer });
        }
        while !self.disk.pending().is_empty() {
            let (_, done) = self.disk.complete(0, &mut |_| 0);
            self.feed(Input::Stored(done));
        }
        busy
    }

    fn sign_in(&mut self) {
        let claims = serde_json::json!({ "sub": "ann", "device": "phone", "iat": NOW.wall.ms / 1000,
            "exp": NOW.wall.ms / 1000 + 3600 });
        let header = jsonwebtoken::Header {
            kid: Some("test".to_owned()),
            ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
        };
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let hello = wire::Hello { token, connection_number: 1, ..wire::Hello::default() };
        let mut bytes = preface::PREFACE.to_vec();
        encode::client(1, client_frame::Body::Hello(hello), &mut bytes);
        self.feed(Input::Opened { edge: EDGE, secure: false });
        self.feed(Input::Received { edge: EDGE, bytes: &mut bytes });
        while self.turn() {}
        assert_eq!(self.shard.stats().welcomed_total, 1);
    }

    fn heartbeats(&mut self, number: u64) {
        for _ in 0..number {
            self.feed(Input::Received { edge: EDGE, bytes: &mut [0] });
            self.turn();
            self.turn();
        }
    }
}

#[test]
fn a_heartbeat_allocates_nothing() {
    let mut world = World::new();
    world.sign_in();
    world.heartbeats(10);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    world.heartbeats(1000);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(world.shard.stats().heartbeats_total, 1010);
    assert_eq!(allocations, 0);
}
