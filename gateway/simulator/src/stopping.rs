//! A clean stop: the server is told to, drains, settles what it owes, and the machine is switched
//! off. The next start must have nothing to tell again, and nothing may be missing.

use crate::host::Waiting;
use crate::simulation::{Event, MS, Simulation};
use crate::trace::Broken;

/// A stop under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopping {
    /// The server is started again afterwards.
    again: bool,
}

impl Simulation {
    /// Tells the server to stop. If it takes too long it is killed.
    pub(crate) fn stop(&mut self, again: bool) {
        if !self.host.is_up() || self.host.stopping.is_some() {
            return;
        }
        self.tell(|| "the server is told to stop".to_owned());
        self.host.stopping = Some(Stopping { again });
        let shards = u8::try_from(self.host.seats.len()).unwrap_or(u8::MAX);
        for shard in 0..shards {
            self.give(shard, Waiting::Drain);
        }
        let process = self.host.process;
        let patience_ms = u64::from(self.plan.limits.drain_ms);
        self.after(patience_ms * MS, Event::StopLate { process });
    }

    /// Whether a stop has come to its end: then the process is gone.
    pub(crate) fn look_at_stop(&mut self) -> Result<(), Broken> {
        let Some(Stopping { again }) = self.host.stopping else { return Ok(()) };
        let settled = self.host.seats.iter().all(|seat| seat.drained && seat.shard.owes_nothing());
        if !settled || !self.host.disk.pending().is_empty() {
            return Ok(());
        }
        self.tell(|| "the server stops, and owes nothing".to_owned());
        let stamps = self.host.seats.iter().map(|seat| seat.shard.store().max_stamp());
        let max_stamp = stamps.max().unwrap_or(0);
        let Some(mut keeper) = self.host.disk.detach() else {
            return Err(Broken::new("a store without a keeper"));
        };
        self.host.told = keeper.close_cleanly(&mut self.host.disk, max_stamp, true).is_ok();
        self.crash(true);
        self.started_again(again);
        Ok(())
    }

    /// The server had its time to stop.
    pub(crate) fn stop_late(&mut self, process: u32) {
        let Some(Stopping { again }) = self.host.stopping else { return };
        if process == self.host.process {
            self.tell(|| "the server does not stop in time".to_owned());
            self.crash(false);
            self.started_again(again);
        }
    }

    fn started_again(&mut self, again: bool) {
        if again {
            let ms = self.faults.prng.range(1, 300);
            self.after(ms * MS, Event::Restart);
        }
    }
}
