//! What a seed decides before anything happens: the bounds of the server, the people, how bad the
//! world is. Weights are drawn anew for every seed, so that some worlds are all crash and others
//! all traffic; many have very few messages, because a later message heals the loss of an earlier.

use crate::prng::Prng;
use crate::token;
use crate::weights::ActWeights;
use roost_gateway::limits::Limits;
use roost_storage_engine::{Durability, Settings};

/// A delay: mostly from `low` to `high` microseconds, sometimes a hundred times as long.
#[derive(Debug, Clone, Copy)]
pub struct Delay {
    /// The least, in microseconds.
    pub low_us: u64,
    /// The usual most, in microseconds.
    pub high_us: u64,
    /// How often in a hundred it is much longer.
    pub long_percent: u64,
}

impl Delay {
    /// Draws one, in nanoseconds.
    pub fn draw(self, prng: &mut Prng) -> u64 {
        let us = prng.range(self.low_us, self.high_us);
        let long = self.long_percent > 0 && prng.percent(self.long_percent);
        let us = if long { us.saturating_mul(prng.range(10, 100)) } else { us };
        us.saturating_mul(1000)
    }

    const fn calm() -> Self {
        Self { low_us: 100, high_us: 300, long_percent: 0 }
    }
}

/// How often what breaks, as weights against each other; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultWeights {
    /// The process dies, the page cache stays.
    pub kill: u64,
    /// The power goes.
    pub power: u64,
    /// A connection is cut, at any byte.
    pub disconnect: u64,
    /// A connection carries nothing for a while.
    pub stall: u64,
    /// An app dies and comes back with what it had persisted.
    pub app_kill: u64,
    /// A device is restored from an old backup.
    pub backup: u64,
    /// The disk is full for a while.
    pub full: u64,
    /// Flushes fail until the process is gone.
    pub flush_fails: u64,
    /// A person goes offline or comes back.
    pub offline: u64,
    /// The server is stopped cleanly and started again.
    pub stop: u64,
}

impl FaultWeights {
    fn draw(prng: &mut Prng) -> Self {
        let mut weight = |percent, most| {
            if prng.percent(percent) { prng.range(1, most) } else { 0 }
        };
        Self {
            kill: weight(70, 6),
            power: weight(70, 6),
            disconnect: weight(60, 6),
            stall: weight(40, 4),
            app_kill: weight(40, 4),
            backup: weight(25, 3),
            full: weight(20, 2),
            flush_fails: weight(20, 2),
            offline: weight(50, 4),
            stop: 0,
        }
    }
}

/// See the module's comment.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What everything was drawn from.
    pub seed: u64,
    /// Shards at first.
    pub shards: u8,
    /// The most shards after a restart.
    pub shards_max: u8,
    /// Bounds of the server.
    pub limits: Limits,
    /// Bounds of the store.
    pub store: Settings,
    /// Devices of each user.
    pub devices: Vec<usize>,
    /// For how long a token is good, in seconds.
    pub token_life_s: u64,
    /// The last user connects only when the faults are over.
    pub late_user: bool,
    /// How many in a hundred are online at first.
    pub online_percent: u64,
    /// What people say, or do, in all.
    pub messages: u64,
    /// Bytes that a body is filled up to, at most.
    pub body_max_bytes: u64,
    /// How often in a hundred a person reads instead of writing.
    pub read_percent: u64,
    /// What people do; nothing: they only talk to each other and read.
    pub acts: ActWeights,
    /// How often in a hundred somebody turns to anybody rather than to whom they know.
    pub stranger_percent: u64,
    /// Members that a new group is given, at most.
    pub group_members: usize,
    /// Entries and messages of a page that an observer asks for.
    pub probe_page: (u32, u32),
    /// Between two ticks of the shards, in milliseconds.
    pub tick_ms: u64,
    /// For how long things break, in milliseconds.
    pub chaos_ms: u64,
    /// Between two things that break, in milliseconds, at most.
    pub fault_every_ms: u64,
    /// What breaks.
    pub faults: FaultWeights,
    /// Crashes come early in what is being written.
    pub torn: bool,
    /// Two crashes right before the end.
    pub last_crashes: bool,
    /// Bytes on the way.
    pub network: Delay,
    /// Most bytes that arrive at once.
    pub chunk_bytes: u64,
    /// A commit.
    pub commit: Delay,
    /// Any other op of a disk.
    pub disk: Delay,
    /// A parcel between two shards.
    pub queue: Delay,
    /// The same of what the slow shard hands on, if there is one.
    pub slow: Delay,
    /// The shard whose parcels take that long.
    pub slow_queue: Option<u8>,
    /// From an input to the turn that takes it.
    pub turn: Delay,
    /// A device's own storage.
    pub persist: Delay,
}

impl Plan {
    /// Draws a world.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut prng = Prng::new(seed, 1);
        let few = prng.percent(70);
        let chaos_ms = if few { prng.range(200, 6_000) } else { prng.range(2_000, 20_000) };
        let users = prng.range(2, if few { 3 } else { 4 });
        let shards_max = prng.pick(&[1, 2, 2, 3, 3, 4]);
        let long = prng.range(0, 10);
        let mut delay = |most: u64| Delay {
            low_us: 1,
            high_us: prng.range(2, most),
            long_percent: long.saturating_sub(5),
        };
        let (network, commit, disk) = (delay(20_000), delay(30_000), delay(10_000));
        let (queue, turn, persist) = (delay(3_000), delay(1_000), delay(10_000));
        let mut plan = Self {
            seed,
            shards: u8::try_from(prng.range(1, u64::from(shards_max))).unwrap_or(1),
            shards_max,
            limits: draw_limits(&mut prng),
            store: draw_store(&mut prng),
            devices: (0..users).map(|_| prng.pick(&[1, 1, 2])).collect(),
            token_life_s: token::LONG_S,
            late_user: prng.percent(30),
            online_percent: 80,
            messages: if few { prng.range(1, 8) } else { prng.range(9, 80) },
            body_max_bytes: prng.pick(&[20, 20, 200, 1_500]),
            read_percent: prng.pick(&[0, 20, 40]),
            acts: ActWeights::default(),
            stranger_percent: 100,
            group_members: 0,
            probe_page: (2, 7),
            tick_ms: 100,
            chaos_ms,
            fault_every_ms: prng.range(50, chaos_ms.max(51)),
            faults: FaultWeights::draw(&mut prng),
            torn: false,
            last_crashes: prng.percent(50),
            network,
            chunk_bytes: prng.pick(&[3, 50, 1_000, 100_000]),
            commit,
            disk,
            queue,
            slow: queue,
            slow_queue: None,
            turn,
            persist,
        };
        let mut stops = Prng::new(seed, 10);
        plan.faults.stop = if stops.percent(25) { stops.range(1, 4) } else { 0 };
        plan.hunt(&mut Prng::new(seed, 7));
        plan
    }

    /// Some worlds are made for what hardly ever happens by chance.
    fn hunt(&mut self, prng: &mut Prng) {
        match prng.below(8) {
            0 => self.hunt_stale_copies(prng),
            1 => self.hunt_change_numbers(prng),
            2 => self.hunt_cuts(prng),
            _ => {}
        }
    }

    /// What a connection said waits in the queue of a slow shard while the device, restored from a
    /// backup that knows nothing of it, says something else by the next connection.
    fn hunt_stale_copies(&mut self, prng: &mut Prng) {
        self.shards_max = self.shards_max.max(2);
        self.shards = self.shards_max;
        let slow = prng.below(u64::from(self.shards_max));
        self.slow_queue = u8::try_from(slow).ok();
        let high_us = prng.range(20_000, 3_000_000);
        self.slow = Delay { low_us: 1, high_us, long_percent: 0 };
        self.limits.credit_per_rank = prng.pick(&[5, 1_024]);
        self.faults =
            FaultWeights { backup: 4, app_kill: 1, disconnect: 2, ..FaultWeights::default() };
        self.messages = prng.range(3, 30);
        self.fault_every_ms = prng.range(50, 1_000);
    }

    /// A mailbox changes between its snapshot and the flush of it, a device syncs, the server dies
    /// before the next snapshot, and the device stays away until the numbers have caught up.
    fn hunt_change_numbers(&mut self, prng: &mut Prng) {
        self.limits.actor_memory_bytes = 0;
        self.limits.checkpoint_interval_ms = 3_000;
        self.devices = vec![2; self.devices.len().max(3)];
        self.late_user = false;
        self.commit = Delay { low_us: 1, high_us: prng.range(10_000, 100_000), long_percent: 0 };
        let (kill, power) = (prng.range(1, 3), prng.range(1, 3));
        self.faults = FaultWeights { kill, power, offline: 8, ..FaultWeights::default() };
        self.messages = prng.range(10, 60);
        self.read_percent = 40;
        self.fault_every_ms = prng.range(50, 500);
    }

    /// Large commits are torn, and torn again right after the recovery, when others have written.
    fn hunt_cuts(&mut self, prng: &mut Prng) {
        self.torn = true;
        if prng.percent(70) {
            (self.shards, self.shards_max) = (1, 1);
        }
        self.limits.actor_memory_bytes = Limits::default().actor_memory_bytes;
        self.limits.checkpoint_interval_ms = 3_000;
        self.commit = Delay { low_us: 1, high_us: prng.range(20_000, 200_000), long_percent: 0 };
        self.devices = vec![2; self.devices.len().max(3)];
        self.late_user = false;
        self.chaos_ms = self.chaos_ms.max(4_000);
        let power = prng.range(2, 6);
        self.faults = FaultWeights { power, app_kill: 1, offline: 2, ..FaultWeights::default() };
        self.messages = prng.range(80, 200);
        self.body_max_bytes = 20;
        self.fault_every_ms = prng.range(50, 300);
        self.last_crashes = true;
    }

    /// A world where nothing breaks by itself, for stories.
    #[must_use]
    pub fn calm(shards: u8) -> Self {
        let calm = Delay::calm();
        Self {
            seed: 0,
            shards,
            shards_max: shards,
            limits: Limits { checkpoint_interval_ms: 200, ..Limits::default() },
            store: small_store(64 << 10),
            devices: Vec::new(),
            token_life_s: token::LONG_S,
            late_user: false,
            online_percent: 80,
            messages: 0,
            body_max_bytes: 0,
            read_percent: 0,
            acts: ActWeights::default(),
            stranger_percent: 100,
            group_members: 0,
            probe_page: (2, 7),
            tick_ms: 100,
            chaos_ms: 0,
            fault_every_ms: 1,
            faults: FaultWeights::default(),
            torn: false,
            last_crashes: false,
            network: calm,
            chunk_bytes: 100_000,
            commit: calm,
            disk: calm,
            queue: calm,
            slow: calm,
            slow_queue: None,
            turn: calm,
            persist: calm,
        }
    }
}

/// Bounds far below those an operator may set: what happens once a month happens every second.
fn draw_limits(prng: &mut Prng) -> Limits {
    let default = Limits::default();
    let credit_per_rank = prng.pick(&[1, 1, 2, 5, 1_024]);
    let slots = prng.pick(&[2, 3, 8, 4_096]);
    Limits {
        credit_per_rank,
        queue_slots: slots,
        actor_memory_bytes: prng.pick(&[0, 0, 3_000, default.actor_memory_bytes]),
        head_table_rows_max: prng.pick(&[2, 4, 64, 65_536]),
        loading_inputs_max: prng.pick(&[1, 3, 1_024]),
        checkpoint_interval_ms: prng.pick(&[100, 500, 3_000]),
        untold_bytes_max: prng.pick(&[1, 4_096, 65_536, default.untold_bytes_max]),
        send_queue_bytes: prng.pick(&[200, 2_000, default.send_queue_bytes]),
        verifications_per_turn_max: prng.pick(&[1, 64]),
        // Not drawn by itself, so that older seeds tell the stories they told.
        snapshot_every_records: if slots == 3 { 2 } else { 1_000 },
        ..default
    }
}

fn draw_store(prng: &mut Prng) -> Settings {
    small_store(prng.pick(&[8 << 10, 8 << 10, 12 << 10, 64 << 10]))
}

/// With some sizes commits wait for each other, with others segments are sealed while little
/// happens.
const fn small_store(segment_bytes: u32) -> Settings {
    let calms = segment_bytes == 64 << 10;
    let usual = Settings::DEFAULT;
    Settings {
        segment_bytes,
        first_segment_bytes: 8 << 10,
        batch_max_bytes: 64 << 10,
        durability: Durability::Fsync,
        retry_ms: 300,
        commit_interval_us: if segment_bytes == 12 << 10 { 400 } else { 0 },
        tables_a_stream_max: 2,
        reserve_bytes: 1,
        erase_after_ms: 500,
        cache_bytes: 4 << 10,
        rest_after_ms: if calms { 500 } else { usual.rest_after_ms },
        rest_records: if calms { 10 } else { usual.rest_records },
        rest_index_bytes: if calms { 2 << 10 } else { usual.rest_index_bytes },
        ..usual
    }
}
