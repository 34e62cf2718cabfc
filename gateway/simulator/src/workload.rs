//! What people do: they say things to each other and read. Weights are drawn anew per seed.

use crate::prng::Prng;
use crate::simulation::{Event, MS, Simulation};
use crate::trace::Broken;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) prng: Prng,
    left: u64,
}

impl Workload {
    pub(crate) fn new(seed: u64) -> Self {
        Self { prng: Prng::new(seed, 5), left: 0 }
    }
}

impl Simulation {
    /// Plans so many actions over some milliseconds.
    pub(crate) fn plan_actions(&mut self, actions: u64, over_ms: u64) {
        self.workload.left = actions;
        let burst = self.workload.prng.percent(40);
        let within = if burst { over_ms.min(100) } else { over_ms };
        let from = self.workload.prng.below(over_ms.saturating_sub(within) + 1);
        for _ in 0..actions {
            let at = from + self.workload.prng.below(within + 1);
            self.after(at * MS, Event::Act);
        }
    }

    pub(crate) fn act(&mut self) -> Result<(), Broken> {
        if self.faults.over {
            return Ok(());
        }
        if !self.plan.acts.is_empty() {
            return self.act_mixed();
        }
        let running = |device: &crate::device::Device| device.session.is_some();
        let all = self.devices.iter().enumerate();
        let able: Vec<usize> =
            all.filter(|(_, device)| running(device)).map(|(index, _)| index).collect();
        if able.is_empty() {
            return Ok(());
        }
        let index = self.workload.prng.pick(&able);
        if self.workload.prng.percent(self.plan.read_percent) {
            let through = self.history.read_through(index);
            if !through.is_empty() {
                let (conversation, seq) = self.workload.prng.pick(&through);
                return self.read(index, conversation, seq);
            }
        }
        let users = self.people.len();
        let own = self.devices[index].user;
        let to = (own + 1 + self.workload.prng.place(users - 1)) % users;
        let filler = self.workload.prng.below(self.plan.body_max_bytes + 1);
        let filler = "x".repeat(usize::try_from(filler).unwrap_or(0));
        self.say(index, to, &filler)?;
        Ok(())
    }
}
