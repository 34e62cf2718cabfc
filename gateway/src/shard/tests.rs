//! A shard as a whole, on a simulated disk.

use super::*;
use crate::ids::{EdgeAddress, EdgeId};
use crate::shard::message::{Create, RequestTag, ToConversation};
use roost_protocol::ids::{ConversationId, UserId};
use roost_protocol::time::Timestamp;
use roost_storage_engine::{OpenSettings, Settings, SimDisk, open};

/// Conversations begun in a tick.
const EACH_TICK: u64 = 1_000;
const MEMORY_BYTES: u64 = 8 << 20;

fn shard(disk: &mut SimDisk, memory_bytes: u64) -> Shard {
    let settings = Settings { commit_interval_us: 0, ..Settings::DEFAULT };
    let opened = open(disk, &OpenSettings { shards: 1, settings, fresh_incarnation: 5 });
    let mut opened = opened.unwrap();
    disk.attach(opened.keeper, 1);
    let config = ShardConfig {
        id: ShardId(0),
        shards: 1,
        node: 0,
        limits: Limits { actor_memory_bytes: memory_bytes, ..Limits::default() },
        edges: EdgeConfig {
            tenant: String::new(),
            token_keys: std::sync::Arc::default(),
            token_rules: auth::token::TokenRules::default(),
            listeners: [ListenerRules::PLAIN].into(),
            tls: None,
            incarnation: 1,
            server_run: 1,
        },
        seed: 7,
    };
    Shard::open(config, opened.stores.remove(0))
}

/// Everything that is wanted of the disk happens, until nothing is.
fn run(shard: &mut Shard, disk: &mut SimDisk, outbox: &mut Outbox, now: Now) {
    loop {
        shard.end_batch(now, outbox);
        for output in outbox.drain() {
            if let Output::Store(op) = output {
                disk.submit(0, op);
            }
        }
        if disk.pending().is_empty() {
            return;
        }
        let (_, done) = disk.complete(0, &mut |_| 0);
        shard.handle(now, Input::Stored(done), outbox);
    }
}

/// A group that somebody begins.
fn begun(number: u64) -> ToConversation {
    let creator = UserId::new(&format!("user-{}", number % 100)).unwrap();
    let address = EdgeId { slot: 0, generation: 1 };
    ToConversation::Create(Box::new(Create {
        edge: EdgeAddress { shard: ShardId(0), edge: address },
        request: RequestTag::default(),
        conversation: ConversationId::from_u128(u128::from(number) << 70 | 2),
        creator: (creator.key(""), creator),
        name: "a group".to_owned(),
        picture: String::new(),
        members: Vec::new(),
    }))
}

fn at_tick(tick: u64) -> Now {
    let ms = tick * u64::from(TICK_MS);
    Now {
        monotonic: Instant { ns: ms * 1_000_000 },
        wall: Timestamp { ms: 1_800_000_000_000 + ms },
    }
}

#[test]
fn memory_keeps_its_bound_however_fast_actors_come() {
    let (mut disk, mut outbox) = (SimDisk::new(), Outbox::new());
    let mut shard = shard(&mut disk, MEMORY_BYTES);
    let mut most = 0;
    for tick in 1..=60 {
        let now = at_tick(tick);
        shard.handle(now, Input::Tick, &mut outbox);
        for number in 0..EACH_TICK {
            let message = begun(tick * EACH_TICK + number).into();
            shard.route(Arrival { message, token: links::Token::NONE, taken: None });
        }
        run(&mut shard, &mut disk, &mut outbox, now);
        most = most.max(shard.conversations.bytes() + shard.mailboxes.bytes());
    }
    assert!(shard.ctx.stats.loads_total >= 60 * EACH_TICK, "all of them came");
    assert!(most < 2 * MEMORY_BYTES, "{most} bytes");
}

#[test]
fn what_nobody_touched_for_a_minute_has_left_memory_a_minute_later() {
    let (mut disk, mut outbox) = (SimDisk::new(), Outbox::new());
    let mut shard = shard(&mut disk, 1 << 40);
    let begin = at_tick(1);
    shard.handle(begin, Input::Tick, &mut outbox);
    for number in 0..5_000 {
        let message = begun(number).into();
        shard.route(Arrival { message, token: links::Token::NONE, taken: None });
    }
    run(&mut shard, &mut disk, &mut outbox, begin);
    let room = shard.conversations.bytes();
    assert!(room > 0);
    for tick in 2..=1_201 {
        let now = at_tick(tick);
        shard.handle(now, Input::Tick, &mut outbox);
        let before = shard.ctx.stats.evictions_total;
        run(&mut shard, &mut disk, &mut outbox, now);
        let gone = shard.ctx.stats.evictions_total - before;
        assert!(gone == 0 || tick > 600, "{gone} go in tick {tick}");
    }
    assert_eq!((shard.actors(), shard.conversations.bytes()), (0, 0));
}

/// A stop that is told to the shard, with work left: it says so until everything is durable where
/// it is owed, and a start after it has nothing to tell again.
#[test]
fn a_shard_that_is_drained_settles_what_it_owes() {
    let (mut disk, mut outbox) = (SimDisk::new(), Outbox::new());
    let mut shard = shard(&mut disk, 1 << 40);
    let begin = at_tick(1);
    shard.handle(begin, Input::Tick, &mut outbox);
    for number in 0..500 {
        let message = begun(number).into();
        shard.route(Arrival { message, token: links::Token::NONE, taken: None });
    }
    run(&mut shard, &mut disk, &mut outbox, begin);
    assert!(!shard.owes_nothing(), "the checkpoint is not due yet");
    shard.handle(at_tick(2), Input::Drain, &mut outbox);
    for tick in 2..20 {
        shard.handle(at_tick(tick), Input::Tick, &mut outbox);
        run(&mut shard, &mut disk, &mut outbox, at_tick(tick));
    }
    assert!(shard.owes_nothing());
}
