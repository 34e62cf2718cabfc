//! Processors: how many are needed, and how fast they wake up.

use super::{Bite, Change, Judgement, Page, Scope, Setting, State, Wish};
use crate::goal::Profile;
use crate::plan;
use crate::text::count;

/// Share of a core, in per cent, that steady work may take: the rest is for storms.
pub(crate) const BUSY_PERCENT: u64 = 70;

pub(super) static CORES: Setting = Setting {
    key: "cpu",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "latency grows without bound: a core at 100 % in the shard's thread or in softirq",
    cost: "a larger machine, or more of them",
    reference: "docs/benchmarks.md; proc_stat(5); cgroup-v2.rst, cpu.max",
    page: Page {
        what: "Time that heartbeats, messages and connects take of the cores, by what they were \
               measured to cost here: 14 microseconds a heartbeat, 28 a message in an open loop, \
               83 a connect, 273 with TLS.",
        when: "Short heartbeat intervals: a million sessions at 60 s are 16,667 heartbeats a \
               second, a quarter of a core.",
        high: "Cores that stand idle.",
        measured: "roost-bench idle, pairs and storm print the server's time for each. A quota of \
                   the control group (cpu.max) counts as that many cores.",
    },
    wishes: &[],
    judge: |context| {
        let cores_milli = plan::cores_milli(context.facts);
        let used = plan::steady_milli(context.goal);
        let needed = used.saturating_mul(100).div_ceil(BUSY_PERCENT);
        let now = format!("{} cores", milli(cores_milli));
        let text = format!("{} cores", milli(needed.max(1)));
        let at = context.goal.connections.saturating_mul(cores_milli) / needed.max(1);
        if cores_milli >= needed {
            return Judgement::fits(now, text).bites(Bite::SlowAt(at));
        }
        Judgement::new(State::Stops, now, text).bites(Bite::SlowAt(at)).remedy(format!(
            "a longer heartbeat interval than {} s, fewer messages, or more cores",
            count(context.goal.heartbeat_s)
        ))
    },
};

/// `1.25`.
pub(crate) fn milli(milli: u64) -> String {
    format!("{}.{:02}", count(milli / 1_000), milli % 1_000 / 10)
}

const GOVERNOR_WISHES: &[Wish] = &[Wish {
    profile: Profile::Latency,
    value: "performance",
    reason: "a core that slept does not first have to become fast",
}];

pub(super) static GOVERNOR: Setting = Setting {
    key: "cpu.governor",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "single messages take longer on a quiet machine than on a busy one",
    cost: "electricity",
    reference: "Documentation/admin-guide/pm/cpufreq.rst",
    page: Page {
        what: "How processors choose their speed. Virtual machines usually do not show it: the \
               host chooses.",
        when: "Machines of metal, and latencies below a millisecond.",
        high: "performance: electricity and heat.",
        measured: "roost-bench pairs --rate 1000 before and after. Not measured here: this machine \
                   does not show it.",
    },
    wishes: GOVERNOR_WISHES,
    judge: |context| {
        let Some(now) = context.facts.cpus.governor.as_deref() else {
            return Judgement::fits("the host's", "any");
        };
        if context.goal.profile != Profile::Latency || now == "performance" {
            return Judgement::fits(now, "any");
        }
        let mut judged = Judgement::new(State::Advised, now, "performance").bites(Bite::Always);
        for cpu in 0..context.facts.cpus.count {
            judged = judged.change(Change::Sysfs {
                path: format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"),
                value: "performance".to_owned(),
            });
        }
        judged.remedy("a core that slept does not first have to become fast")
    },
};
