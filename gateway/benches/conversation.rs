//! What one write costs the shard that is home to its conversation: from the queue of another
//! shard to the log, and from its flush to the queues of those it concerns. Edges and mailboxes are
//! on the other shard, so nothing of them is measured; nor is the disk.
//!
//! ```sh
//! cargo bench -p roost-gateway --bench conversation            # measure
//! cargo bench -p roost-gateway --bench conversation -- --smoke # only see that it runs
//! ```

use bytes::Bytes;
use roost_gateway::ids::{EdgeAddress, EdgeId, ShardId};
use roost_gateway::limits::Limits;
use roost_gateway::shard::auth::token::{TokenKeys, TokenRules};
use roost_gateway::shard::message::{
    Create, DeliveredMark, Message, Parcel, RequestTag, Settle, Submit, ToConversation,
};
use roost_gateway::shard::{EdgeConfig, Input, ListenerRules, Outbox, Output, Shard, ShardConfig};
use roost_protocol::ids::{
    ClientMessageId, ClientSequence, ConnectionNumber, ConversationId, DeviceId, Sequence, UserId,
    UserKey,
};
use roost_protocol::request::Content;
use roost_protocol::time::{Duration, Instant, Now, Timestamp};
use roost_storage_engine::{OpenSettings, Settings, SimDisk, open};
use std::sync::Arc;

/// What the server uses.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Inputs between two ends of a batch.
const BATCH: u64 = 64;
/// Bytes of a message's body.
const BODY_BYTES: usize = 100;

/// The shard under test, number 0 of two, and the disk below it.
struct Bench {
    shard: Shard,
    disk: SimDisk,
    outbox: Outbox,
    now: Now,
    spent_ns: u64,
    owed: [u64; 2],
}

impl Bench {
    fn new() -> Self {
        let mut disk = SimDisk::new();
        let settings = OpenSettings {
            shards: 2,
            settings: Settings { first_segment_bytes: 64 << 20, ..Settings::DEFAULT },
            fresh_incarnation: 1,
        };
        let opened = open(&mut disk, &settings).expect("an empty disk opens");
        disk.attach(opened.keeper, 2);
        let config = ShardConfig {
            id: ShardId(0),
            shards: 2,
            node: 0,
            limits: Limits { actor_memory_bytes: 1 << 40, ..Limits::default() },
            edges: EdgeConfig {
                tenant: String::new(),
                token_keys: Arc::new(TokenKeys::new(Vec::new()).expect("no keys, no namesakes")),
                token_rules: TokenRules::default(),
                listeners: [ListenerRules::PLAIN].into(),
                tls: None,
                incarnation: 1,
                server_run: 1,
            },
            seed: 1,
        };
        let store = opened.stores.into_iter().next().expect("a store for each shard");
        let now = Now {
            monotonic: Instant { ns: 1_000_000_000 },
            wall: Timestamp { ms: 1_800_000_000_000 },
        };
        let shard = Shard::open(config, store);
        let mut bench = Self { shard, disk, outbox: Outbox::new(), now, spent_ns: 0, owed: [0; 2] };
        bench.end_batch();
        bench
    }

    /// Feeds parcels of the other shard, ends the batch, and lets the disk answer.
    fn batch(&mut self, parcels: Vec<ToConversation>) {
        self.now.monotonic = self.now.monotonic + Duration::from_ms(1);
        let begun = roost_event_loop::now();
        for message in parcels {
            let parcel = Parcel::Message { message: message.into(), owed: false };
            let input = Input::Arrived { from: ShardId(1), parcel };
            self.shard.handle(self.now, input, &mut self.outbox);
        }
        self.spent_ns += roost_event_loop::now().monotonic.since(begun.monotonic).ns;
        self.end_batch();
    }

    fn end_batch(&mut self) {
        loop {
            let begun = roost_event_loop::now();
            self.shard.end_batch(self.now, &mut self.outbox);
            self.spent_ns += roost_event_loop::now().monotonic.since(begun.monotonic).ns;
            let mut forwarded = 0;
            let mut note = Settle::default();
            for output in self.outbox.drain() {
                match output {
                    Output::Forward { parcel, .. } => {
                        forwarded += 1;
                        if let Parcel::Message { message: Message::ToMailbox(_), owed } = parcel {
                            note.credit[2] += 1;
                            self.owed[1] += u64::from(owed);
                        }
                    }
                    Output::Store(op) => self.disk.submit(0, op),
                    Output::Send { .. }
                    | Output::Close { .. }
                    | Output::Abort { .. }
                    | Output::Pause { .. }
                    | Output::Resume { .. }
                    | Output::PauseAccepting { .. }
                    | Output::ResumeAccepting { .. }
                    | Output::Report(_)
                    | Output::Drained => {}
                }
            }
            note.confirmed = self.owed;
            let mut done = Vec::new();
            while !self.disk.pending().is_empty() {
                done.push(self.disk.complete(0, &mut |_| 0));
            }
            if done.is_empty() && forwarded == 0 {
                return;
            }
            let begun = roost_event_loop::now();
            let input = Input::Slots { by: ShardId(1), slots: forwarded };
            self.shard.handle(self.now, input, &mut self.outbox);
            let input = Input::Arrived { from: ShardId(1), parcel: Parcel::Settle(note) };
            self.shard.handle(self.now, input, &mut self.outbox);
            for (shard, done) in done {
                if shard == 0 {
                    self.shard.handle(self.now, Input::Stored(done), &mut self.outbox);
                }
            }
            self.spent_ns += roost_event_loop::now().monotonic.since(begun.monotonic).ns;
        }
    }

    /// Runs rounds of a batch each; nanoseconds for each input, in the best tenth of them: what
    /// else runs on the machine is left out.
    fn measure(&mut self, rounds: u64, mut batch: impl FnMut() -> Vec<ToConversation>) -> u64 {
        let mut best = u64::MAX;
        for _ in 0..10 {
            let (before, mut inputs) = (self.spent_ns, 0);
            for _ in 0..rounds.div_ceil(10) {
                let parcels = batch();
                inputs += parcels.len() as u64;
                self.batch(parcels);
            }
            best = best.min((self.spent_ns - before) / inputs.max(1));
        }
        best
    }
}

/// Somebody whose mailbox is on the other shard.
fn user(names: &mut std::ops::RangeFrom<u32>) -> (UserKey, UserId) {
    names
        .map(|name| UserId::new(&format!("user-{name}")).expect("a short name"))
        .map(|id| (id.key(""), id))
        .find(|(key, _)| key.partition() % 2 == 1)
        .expect("every second name")
}

fn edge(slot: u32) -> EdgeAddress {
    EdgeAddress { shard: ShardId(1), edge: EdgeId { slot, generation: 1 } }
}

/// Two who talk, and how far they are.
struct Pair {
    id: ConversationId,
    users: [(UserKey, UserId); 2],
    said: u64,
}

/// Direct conversations that live on the shard under test.
fn pairs(count: usize, names: &mut std::ops::RangeFrom<u32>) -> Vec<Pair> {
    let mut found = Vec::new();
    while found.len() < count {
        let users = [user(names), user(names)];
        let id = ConversationId::direct(users[0].0, users[1].0);
        if id.partition().is_multiple_of(2) {
            found.push(Pair { id, users, said: 0 });
        }
    }
    found
}

impl Pair {
    /// The next write; the two take turns.
    fn say(&mut self, body: &Bytes) -> ToConversation {
        let by = usize::from(!self.said.is_multiple_of(2));
        let (own, peer) = (&self.users[by], &self.users[1 - by]);
        let opening = (self.said == 0).then(|| Box::new((own.1.clone(), peer.1.clone())));
        let seen = self.said;
        self.said += 1;
        ToConversation::Submit(Box::new(Submit {
            edge: edge(1),
            request: RequestTag { id: 1, ..RequestTag::default() },
            conversation: self.id,
            user: own.0,
            peer_key: opening.as_ref().map(|_| peer.0),
            opening,
            by_user: false,
            device: DeviceId([1; 16]),
            connection: ConnectionNumber(1),
            client_message_id: ClientMessageId(self.said),
            client_sequence: ClientSequence(seen / 2 + 1),
            seen: Sequence(seen),
            seen_uncounted: 0,
            reply_to: Sequence(0),
            content: Content::Body(body.clone()),
            people: Vec::new(),
        }))
    }

    /// The one who did not speak last has received it.
    fn delivered(&self) -> ToConversation {
        let by = usize::from(!self.said.is_multiple_of(2));
        ToConversation::Delivered(DeliveredMark {
            conversation: self.id,
            user: self.users[by].0,
            seq: Sequence(self.said),
        })
    }
}

fn direct(count: usize, rounds: u64, name: &str) {
    let mut bench = Bench::new();
    let mut pairs = pairs(count, &mut (0..));
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    for some in pairs.chunks_mut(64) {
        bench.batch(some.iter_mut().map(|pair| pair.say(&body)).collect());
    }
    let mut next = 0;
    let mut take = || {
        next = (next + 1) % count;
        next
    };
    let said = bench.measure(rounds, || (0..BATCH).map(|_| pairs[take()].say(&body)).collect());
    let delivered =
        bench.measure(rounds, || (0..BATCH).map(|_| pairs[take()].delivered()).collect());
    report(name, "write", said);
    report(name, "delivered", delivered);
}

/// A group whose members all receive each message.
fn group(members: usize, rounds: u64, name: &str) {
    let mut bench = Bench::new();
    let names = &mut (0..);
    let people: Vec<(UserKey, UserId)> = (0..members).map(|_| user(names)).collect();
    let ids = (0..=u8::MAX).map(|n| ConversationId::group(people[0].0, [n; 16], false));
    let id = ids.into_iter().find(|id| id.partition().is_multiple_of(2)).expect("every second");
    bench.batch(vec![ToConversation::Create(Box::new(Create {
        edge: edge(1),
        request: RequestTag { id: 1, page: false, contact: false },
        conversation: id,
        creator: people[0].clone(),
        name: "everybody".to_owned(),
        picture: String::new(),
        members: people[1..].to_vec(),
    }))]);
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    let mut said = 0;
    let mut write = || {
        said += 1;
        ToConversation::Submit(Box::new(Submit {
            edge: edge(1),
            request: RequestTag { id: 1, page: false, contact: false },
            conversation: id,
            user: people[0].0,
            opening: None,
            peer_key: None,
            by_user: false,
            device: DeviceId([1; 16]),
            connection: ConnectionNumber(1),
            client_message_id: ClientMessageId(said),
            client_sequence: ClientSequence(said),
            seen: Sequence(said),
            seen_uncounted: 1,
            reply_to: Sequence(0),
            content: Content::Body(body.clone()),
            people: Vec::new(),
        }))
    };
    let written = bench.measure(rounds, || (0..BATCH).map(|_| write()).collect());
    let mut seq = 1;
    let delivered = bench.measure(rounds.div_ceil(8), || {
        seq += 1;
        let mark = |user: &(UserKey, UserId)| {
            let seq = Sequence(seq);
            ToConversation::Delivered(DeliveredMark { conversation: id, user: user.0, seq })
        };
        people[1..].iter().map(mark).collect()
    });
    report(name, "write", written);
    report(name, "delivered", delivered);
}

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn report(name: &str, what: &str, ns: u64) {
    println!("{name:<40} {what:<12} {ns:>8} ns");
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let rounds = if smoke { 2 } else { 20_000 };
    direct(if smoke { 4 } else { 100 }, rounds, "direct, 100 conversations");
    direct(if smoke { 4 } else { 20_000 }, rounds, "direct, 20,000 conversations");
    group(if smoke { 5 } else { 500 }, rounds, "group of 500");
}
