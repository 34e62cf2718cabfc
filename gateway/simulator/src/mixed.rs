//! Worlds in which people do everything that can be asked of the server: small ones in great
//! numbers, and a whole day of many.

use crate::plan::{Delay, FaultWeights, Plan};
use crate::prng::Prng;
use crate::token;
use crate::weights::ActWeights;
use roost_gateway::limits::Limits;
use roost_storage_engine::Settings;

/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Plan {
    /// Draws a small world: two to four people, most times few things that are done.
    #[must_use]
    pub fn draw_mixed(seed: u64) -> Self {
        let mut plan = Self::draw(seed);
        let mut prng = Prng::new(seed, 8);
        plan.acts = ActWeights::draw_new(&mut prng);
        plan.stranger_percent = prng.pick(&[5, 20, 50]);
        plan.group_members = 3;
        let few = prng.percent(70);
        plan.messages = if few { prng.range(1, 15) } else { prng.range(16, 150) };
        if prng.percent(50) {
            let users = prng.range(2, 4);
            plan.devices = (0..users).map(|_| prng.pick(&[1, 1, 2, 3])).collect();
        }
        plan.chaos_ms = plan.chaos_ms.max(prng.range(500, 10_000));
        plan
    }

    /// Draws a day: 200 users, 4 shards, 24 hours in which everything is done, the server dies some
    /// times, and people come and go.
    #[must_use]
    pub fn draw_day(seed: u64) -> Self {
        let mut prng = Prng::new(seed, 9);
        let mut plan = Self::draw(seed);
        let delay = |high_us| Delay { low_us: 50, high_us, long_percent: 1 };
        plan.shards = 4;
        plan.shards_max = 4;
        plan.limits = Limits {
            heartbeat_foreground_ms: 600_000,
            heartbeat_background_ms: 1_800_000,
            checkpoint_interval_ms: 30_000,
            actor_memory_bytes: prng.pick(&[100_000, 1_000_000, 256 << 20]),
            snapshot_every_records: prng.pick(&[20, 1_000]),
            ..Limits::default()
        };
        plan.store = Settings { segment_bytes: 256 << 10, ..plan.store };
        plan.devices = (0..200).map(|_| prng.pick(&[1, 1, 1, 2, 2, 3])).collect();
        plan.token_life_s = prng.pick(&[3 * 3_600, token::LONG_S]);
        plan.late_user = false;
        plan.online_percent = 40;
        plan.messages = 6_000;
        plan.body_max_bytes = 200;
        plan.acts = ActWeights::ordinary();
        plan.stranger_percent = 10;
        plan.group_members = 20;
        plan.probe_page = (100, 100);
        plan.tick_ms = 2_000;
        plan.chaos_ms = DAY_MS;
        plan.fault_every_ms = 10 * 60 * 1000;
        plan.faults = FaultWeights {
            kill: 2,
            power: 2,
            disconnect: 30,
            stall: 10,
            app_kill: 20,
            backup: 3,
            full: 1,
            flush_fails: 1,
            offline: 300,
            stop: plan.faults.stop,
        };
        plan.torn = false;
        plan.last_crashes = prng.percent(50);
        (plan.network, plan.commit, plan.disk) = (delay(40_000), delay(3_000), delay(1_000));
        (plan.queue, plan.turn, plan.persist) = (delay(100), delay(100), delay(5_000));
        (plan.slow, plan.slow_queue) = (plan.queue, None);
        plan.chunk_bytes = 100_000;
        plan
    }
}
