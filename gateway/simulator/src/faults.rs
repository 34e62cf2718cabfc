//! What breaks, and when. Weights are drawn anew per seed.

use crate::plan::FaultWeights;
use crate::prng::Prng;
use crate::simulation::{Event, MS, Simulation};
use crate::trace::Broken;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) prng: Prng,
    /// Nothing breaks any more.
    pub(crate) over: bool,
    /// The last process that met a flush that failed: what it could not seal stays unsealed until
    /// the next start.
    pub(crate) flush_failed_in: u32,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Power,
    Disconnect,
    Stall,
    AppKill,
    Backup,
    Full,
    FlushFails,
    Offline,
    Stop,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { prng: Prng::new(seed, 6), over: false, flush_failed_in: 0 }
    }

    pub(crate) fn next_is_power(&mut self) -> bool {
        self.prng.percent(50)
    }

    fn draw(&mut self, weights: FaultWeights) -> Option<Fault> {
        let all = [
            (weights.kill, Fault::Kill),
            (weights.power, Fault::Power),
            (weights.disconnect, Fault::Disconnect),
            (weights.stall, Fault::Stall),
            (weights.app_kill, Fault::AppKill),
            (weights.backup, Fault::Backup),
            (weights.full, Fault::Full),
            (weights.flush_fails, Fault::FlushFails),
            (weights.offline, Fault::Offline),
            (weights.stop, Fault::Stop),
        ];
        let sum: u64 = all.iter().map(|(weight, _)| weight).sum();
        if sum == 0 {
            return None;
        }
        let mut drawn = self.prng.below(sum);
        for (weight, fault) in all {
            if drawn < weight {
                return Some(fault);
            }
            drawn -= weight;
        }
        None
    }
}

impl Simulation {
    pub(crate) fn plan_faults(&mut self) {
        let delay = self.faults.prng.range(1, self.plan.fault_every_ms);
        self.after(delay * MS, Event::Fault);
    }

    /// After a start in a broken world: often it does not last.
    pub(crate) fn after_restart(&mut self) {
        if self.faults.over || self.plan.chaos_ms == 0 || self.host.process == 1 {
            return;
        }
        let weights = self.plan.faults;
        if weights.kill + weights.power > 0 && self.faults.prng.percent(40) {
            let delay = self.faults.prng.range(1, 200_000) * 1000;
            let power = weights.kill == 0 || self.faults.next_is_power();
            self.after(delay, Event::Crash { power });
        }
    }

    pub(crate) fn fault(&mut self) -> Result<(), Broken> {
        if self.faults.over {
            return Ok(());
        }
        self.plan_faults();
        let Some(fault) = self.faults.draw(self.plan.faults) else { return Ok(()) };
        match fault {
            Fault::Kill => self.after(0, Event::Crash { power: false }),
            Fault::Stop => self.stop(true),
            Fault::Power => self.after(0, Event::Crash { power: true }),
            Fault::Disconnect => {
                if let Some(id) = self.some_connection() {
                    self.tell(|| format!("connection {id} is cut"));
                    self.cut(id);
                }
            }
            Fault::Stall => {
                let ms = self.faults.prng.range(1, 10_000);
                if let Some(id) = self.some_connection() {
                    self.tell(|| format!("connection {id} stalls for {ms} ms"));
                    self.stall(id, ms);
                }
            }
            Fault::AppKill => self.kill_some_app(false),
            Fault::Backup => self.kill_some_app(true),
            Fault::Full => {
                self.tell(|| "the disk is full".to_owned());
                self.host.disk.set_full(true);
                let ms = self.faults.prng.range(1, 2_000);
                self.after(ms * MS, Event::Mend);
            }
            Fault::FlushFails => {
                self.tell(|| "flushes fail".to_owned());
                self.host.disk.set_flush_fails(true);
                self.faults.flush_failed_in = self.host.process;
                let ms = self.faults.prng.range(1, 500);
                self.after(ms * MS, Event::Mend);
            }
            Fault::Offline => {
                let index = self.faults.prng.place(self.devices.len());
                let online = self.devices[index].online;
                return self.set_online(index, !online);
            }
        }
        Ok(())
    }

    fn some_connection(&mut self) -> Option<u64> {
        let open = self.open_connections();
        (!open.is_empty()).then(|| self.faults.prng.pick(&open))
    }

    fn kill_some_app(&mut self, backup: bool) {
        let index = self.faults.prng.place(self.devices.len());
        let late = self.plan.late_user && self.devices[index].user + 1 == self.plan.devices.len();
        if late {
            return;
        }
        self.app_kill(index, backup);
        let ms = self.faults.prng.range(0, 1_000);
        self.after(ms * MS, Event::AppStart { device: index });
    }

    /// The process or the machine dies and is started again; sometimes it dies while it starts.
    pub(crate) fn fail_over(&mut self, power: bool) {
        if !self.host.is_up() {
            return;
        }
        self.crash(power);
        if self.faults.prng.percent(15) {
            let steps = self.faults.prng.below_u32(80);
            self.host.disk.stop_after(Some(steps));
        }
        let ms = self.faults.prng.range(1, 300);
        self.after(ms * MS, Event::Restart);
    }

    /// What was broken for a while is whole again.
    pub(crate) fn mend(&mut self) {
        self.host.disk.set_full(false);
        self.host.disk.set_flush_fails(false);
    }
}
