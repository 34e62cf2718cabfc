//! A seed from beginning to end: people talk while things break, then nothing breaks any more and
//! everybody must agree; and once more after a last power cut.

use crate::host::Sabotage;
use crate::people::People;
use crate::plan::Plan;
use crate::simulation::{MS, Simulation};
use crate::trace::Broken;

/// How a seed ended.
#[derive(Debug)]
pub struct Outcome {
    /// The promise that was broken, if one was.
    pub result: Result<(), Broken>,
    /// Equal for equal runs.
    pub hash: u64,
    /// What happened, in words, when asked for.
    pub story: Vec<String>,
    /// How often the server was started.
    pub starts: u32,
}

/// What kind of world a seed is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// People talk to each other, in direct conversations, and read.
    Talk,
    /// They do everything that can be asked of the server, in small worlds.
    Mixed,
    /// 200 users for 24 hours, on 4 shards.
    Day,
}

/// Runs a seed of people who talk.
#[must_use]
pub fn run_seed(seed: u64, told: bool, sabotage: Sabotage) -> Outcome {
    run_world(World::Talk, seed, told, sabotage)
}

/// Runs a seed.
#[must_use]
pub fn run_world(world: World, seed: u64, told: bool, sabotage: Sabotage) -> Outcome {
    let plan = match world {
        World::Talk => Plan::draw(seed),
        World::Mixed => Plan::draw_mixed(seed),
        World::Day => Plan::draw_day(seed),
    };
    let mut simulation = Simulation::new(plan, told);
    simulation.sabotage(sabotage);
    let result = simulation.live();
    Outcome {
        result,
        hash: simulation.trace().hash(),
        story: simulation.trace().lines().to_vec(),
        starts: simulation.starts(),
    }
}

impl Simulation {
    fn live(&mut self) -> Result<(), Broken> {
        let plan = self.plan.clone();
        self.tell(|| format!("{plan:?}"));
        self.populate();
        self.restart(None)?;
        let late = plan.late_user.then(|| plan.devices.len() - 1);
        for index in 0..self.devices.len() {
            if late != Some(self.devices[index].user) {
                self.devices[index].online = self.workload.prng.percent(plan.online_percent);
                self.app_start(index)?;
            }
        }
        if !plan.acts.is_empty() {
            self.open_mixed()?;
        }
        self.plan_actions(plan.messages, plan.chaos_ms);
        self.plan_faults();
        self.run_for_ms(plan.chaos_ms)?;
        if plan.last_crashes {
            self.crash_twice()?;
        }
        self.quiet()?;
        self.converge()?;
        if plan.seed.is_multiple_of(2) {
            self.tell(|| "a last power cut".to_owned());
            if self.host.is_up() {
                self.crash(true);
            }
            self.restart(None)?;
            self.converge()?;
        }
        Ok(())
    }

    /// Makes the devices of the planned users.
    pub(crate) fn populate(&mut self) {
        for (user, devices) in self.plan.devices.clone().into_iter().enumerate() {
            for number in 0..devices {
                let user_name = People::usual_name(user);
                self.add_device(&format!("{user_name}/{number}"), &user_name);
            }
        }
    }

    /// Two crashes right before the end, the second shortly after the first start.
    fn crash_twice(&mut self) -> Result<(), Broken> {
        for _ in 0..2 {
            let power = self.faults.next_is_power();
            if self.host.is_up() {
                self.crash(power);
            }
            self.restart(None)?;
            let us = self.faults.prng.range(1, 60_000);
            self.run_until(self.now_ns + us * 1000)?;
        }
        if self.faults.prng.percent(50) && self.host.is_up() {
            self.crash(true);
        }
        Ok(())
    }

    /// Nothing breaks any more, and everybody comes.
    pub(crate) fn quiet(&mut self) -> Result<(), Broken> {
        self.tell(|| "the faults are over".to_owned());
        self.faults.over = true;
        // A line of some bytes a second would need hours to agree.
        self.plan.chunk_bytes = self.plan.chunk_bytes.max(4_096);
        self.plan.slow_queue = None;
        self.mend();
        self.host.disk.stop_after(None);
        let flush_failed = self.faults.flush_failed_in == self.host.process;
        if self.host.is_up() && (flush_failed || self.host.stopping.is_some()) {
            self.crash(false);
        }
        self.restart(None)?;
        for index in 0..self.devices.len() {
            self.app_start(index)?;
            self.set_online(index, true)?;
        }
        self.run_until(self.now_ns + MS)
    }
}
