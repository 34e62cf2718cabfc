//! A shard as a whole, on a simulated disk.

use super::*;
use crate::ids::{EdgeAddress, EdgeId};
use crate::shard::message::{Create, Gone, Register, RequestTag, ToConversation, ToOwnMailbox};
use roost_protocol::ids::{ConnectionNumber, ConversationId, DeviceId, UserId};
use roost_protocol::time::Timestamp;
use roost_protocol::wire;
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

/// A user who connects, and who leaves.
fn comes_and_goes(number: u32) -> (ToOwnMailbox, ToOwnMailbox) {
    let user_id = UserId::new(&format!("user-{number}")).unwrap();
    let (user, device) = (user_id.key(""), DeviceId([1; 16]));
    let edge = EdgeId { slot: number, generation: 1 };
    let edge = EdgeAddress { shard: ShardId(0), edge };
    let register = Register {
        edge,
        user,
        user_id,
        device,
        connection: ConnectionNumber(1),
        role: wire::Role::Main,
        token_issued_ms: 1_800_000_000_000,
        ticket_epoch: None,
        client: "test 1.0".to_owned(),
        activity: wire::ActivityState::ActivityForeground,
    };
    let gone = ToOwnMailbox::Gone(Box::new(Gone { edge, user, device }));
    (ToOwnMailbox::Register(Box::new(register)), gone)
}

#[test]
fn a_crowd_that_has_left_is_out_of_memory_a_minute_later() {
    const CROWD: u32 = 20_000;
    const MINUTE_TICKS: u64 = 600;
    let (mut disk, mut outbox) = (SimDisk::new(), Outbox::new());
    let mut shard = shard(&mut disk, 1 << 40);
    let mut tick = 0;
    let mut passes = |shard: &mut Shard, told: Vec<ToOwnMailbox>| {
        tick += 1;
        shard.handle(at_tick(tick), Input::Tick, &mut outbox);
        for message in told {
            let message = Message::ToOwnMailbox(message);
            shard.route(Arrival { message, token: links::Token::NONE, taken: None });
        }
        run(shard, &mut disk, &mut outbox, at_tick(tick));
    };
    let crowd: Vec<u32> = (0..CROWD).collect();
    for part in crowd.chunks(500) {
        passes(&mut shard, part.iter().map(|number| comes_and_goes(*number).0).collect());
    }
    // They are there for a while: nobody is left in the order of eviction.
    for _ in 0..2 * MINUTE_TICKS {
        passes(&mut shard, Vec::new());
    }
    assert_eq!((shard.mailboxes_resting(), shard.mailboxes.order_len()), (20_000, 0));
    let sealed = shard.store().stats().sealed;
    passes(&mut shard, crowd.iter().map(|number| comes_and_goes(*number).1).collect());
    for since in 1..MINUTE_TICKS {
        passes(&mut shard, Vec::new());
        let is_early = since < 200;
        assert!(!is_early || shard.actors() == 20_000, "whoever comes back soon costs no read");
    }
    assert_eq!((shard.actors(), shard.mailboxes.order_len()), (0, 0));
    let stats = shard.store().stats();
    assert!(stats.sealed > sealed && stats.unsealed_segments == 1, "{stats:?}");
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
