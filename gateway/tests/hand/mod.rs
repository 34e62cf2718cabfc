//! A shard that is fed by hand, over a disk in memory.

use roost_gateway::ids::{EdgeId, ShardId};
use roost_gateway::limits::Limits;
use roost_gateway::shard::auth::ticket::{TicketKey, TicketKeys};
use roost_gateway::shard::auth::token::{TokenKey, TokenKeys, TokenRules};
use roost_gateway::shard::{
    EdgeConfig, Input, ListenerRules, Outbox, Output, Secrets, Shard, ShardConfig,
};
use roost_protocol::time::{Duration, Instant, Now, Timestamp};
use roost_protocol::wire::{self, ActivityState, client_frame};
use roost_protocol::{encode, preface};
use roost_storage_engine::{OpenSettings, Settings, SimDisk, open};
use std::sync::Arc;

const SECRET: &[u8] = b"a secret of a test, long enough to be taken";
const START: Now =
    Now { monotonic: Instant { ns: 1_000_000_000 }, wall: Timestamp { ms: 1_795_000_000_000 } };

/// The shard, alone in its server.
pub(crate) struct World {
    pub(crate) shard: Shard,
    outbox: Outbox,
    disk: SimDisk,
    sent: Vec<(EdgeId, Vec<u8>)>,
    now: Now,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut disk = SimDisk::new();
        let settings = OpenSettings {
            shards: 1,
            settings: Settings { first_segment_bytes: 64 << 20, ..Settings::default() },
            fresh_incarnation: 7,
        };
        let store = open(&mut disk, &settings).unwrap().stores.remove(0);
        let keys = TokenKeys::new(vec![TokenKey::from_secret("test", SECRET).unwrap()]).unwrap();
        let edges = EdgeConfig {
            tenant: String::new(),
            token_keys: Arc::new(keys),
            token_rules: TokenRules::default(),
            listeners: [ListenerRules::PLAIN].into(),
            tls: None,
            incarnation: 1,
            server_run: 1,
        };
        // Nobody is silent for too long in what a measurement takes.
        let limits = Limits { heartbeat_background_ms: 1_800_000, ..Limits::default() };
        let config = ShardConfig { id: ShardId(0), shards: 1, node: 0, limits, edges, seed: 1 };
        let ticket_keys = TicketKeys::new(TicketKey { id: 1, key: [7; 32] }, Vec::new());
        let shard = Shard::open(config, store);
        let mut world = Self { shard, outbox: Outbox::new(), disk, sent: Vec::new(), now: START };
        world.feed(Input::Secrets(Secrets { ticket_keys, nonce_prefix: [1; 8] }));
        world
    }

    pub(crate) fn feed(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &mut self.outbox);
    }

    /// A tenth of a second passes.
    pub(crate) fn tick(&mut self) {
        self.now.monotonic = self.now.monotonic + Duration::from_ms(100);
        self.feed(Input::Tick);
        self.turn();
    }

    /// Ends the batch and answers everything it asked for. Says whether there was anything.
    pub(crate) fn turn(&mut self) -> bool {
        self.shard.end_batch(self.now, &mut self.outbox);
        let mut busy = false;
        for output in self.outbox.drain() {
            busy = true;
            match output {
                Output::Send { edge, buffer } => self.sent.push((edge, buffer)),
                Output::Store(op) => self.disk.submit(0, op),
                Output::Close { .. }
                | Output::Abort { .. }
                | Output::Pause { .. }
                | Output::Resume { .. }
                | Output::PauseAccepting { .. }
                | Output::ResumeAccepting { .. }
                | Output::Forward { .. }
                | Output::Report(_)
                | Output::Drained => {}
            }
        }
        while let Some((edge, buffer)) = self.sent.pop() {
            self.feed(Input::Sent { edge, buffer });
        }
        while !self.disk.pending().is_empty() {
            let (_, done) = self.disk.complete(0, &mut |_| 0);
            self.feed(Input::Stored(done));
        }
        busy
    }

    /// A device in the background of a user of its own says Hello.
    pub(crate) fn connect(&mut self, slot: u32) {
        let claims = serde_json::json!({ "sub": format!("user{slot}"), "device": "phone",
            "iat": START.wall.ms / 1000, "exp": START.wall.ms / 1000 + 3600 });
        let header = jsonwebtoken::Header {
            kid: Some("test".to_owned()),
            ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
        };
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let mut hello = wire::Hello { token, connection_number: 1, ..wire::Hello::default() };
        hello.set_activity(ActivityState::ActivityBackground);
        let mut bytes = preface::PREFACE.to_vec();
        encode::client(1, client_frame::Body::Hello(hello), &mut bytes);
        let edge = EdgeId { slot, generation: 1 };
        self.feed(Input::Opened { edge, listener: 0, peer: None });
        self.feed(Input::Received { edge, bytes: &mut bytes });
    }
}
