//! Whether limits strike where, and in the order in which, `check` says.

use super::{Order, Outcome, Row, Strike};
use crate::check::{self, Report};
use crate::facts::{self, Facts};
use crate::goal::{Driver, Goal};
use crate::root::Root;
use crate::settings::{Bite, State};

pub(super) const PORTS: &str = "net.ipv4.ip_local_port_range";
/// Pairs by which a strike may be off: limits are met within a chunk of opens.
const OFF_MOST: u64 = 2 * super::parent::CHUNK;

/// What `check` says while the probe raises one limit after the other.
#[derive(Debug)]
pub(super) struct Predictions {
    facts: Facts,
    goal: Goal,
    /// Ports of the second half that were taken before the range was widened.
    second_half_taken: u64,
}

impl Predictions {
    /// From the machine as it is now, which must be before the namespace: some values show in the
    /// first one only.
    pub(super) fn new(connections: u64) -> Self {
        let facts = facts::collect(&Root::new("/"), crate::args::DEFAULT_UNIT);
        Self::of(facts, connections)
    }

    /// A process with a descriptor for each session, as the probe's are.
    fn of(mut facts: Facts, connections: u64) -> Self {
        facts.systemd = false;
        let driver = Driver::Epoll;
        let goal = Goal { connections, loopback: true, driver, ..Goal::default() };
        Self { facts, goal, second_half_taken: 0 }
    }

    pub(super) const fn facts(&self) -> &Facts {
        &self.facts
    }

    fn report(&self) -> Report {
        check::check(&self.facts, &self.goal)
    }

    /// Sessions at which a setting bites.
    pub(super) fn at(&self, setting: &str) -> Option<u64> {
        number(self.report().findings.iter().find(|f| f.setting == setting)?.bites)
    }

    fn ports(&self) -> Option<u64> {
        let &[low, high] = self.facts.numbers(PORTS).as_slice() else { return None };
        Some((high + 1).saturating_sub(low))
    }

    /// Sessions from which on connects become slow: asked with a goal that the range still holds.
    /// The kernel gives every other port first, and is slow when all of those are taken. Of a range
    /// that was widened when it was full, the others that were taken come on top.
    pub(super) fn slow_at(&self) -> Option<u64> {
        let goal = Goal { connections: self.ports()? / 4 * 3, ..self.goal.clone() };
        let asked = Self { facts: self.facts.clone(), goal, second_half_taken: 0 };
        Some(asked.at(PORTS)? + self.second_half_taken)
    }

    /// The range of ports was full, and is wider now.
    pub(super) fn widened(&mut self, range: &str) {
        self.second_half_taken += self.ports().unwrap_or(0) / 2;
        self.raised(PORTS, range);
    }

    fn raised(&mut self, sysctl: &str, value: &str) {
        self.facts.sysctls.insert(sysctl.to_owned(), value.to_owned());
    }

    /// What is left to say of a goal when all is struck that could be. `facts` must be as they were
    /// at the start, `why_not` is what singles said of what they could not strike.
    pub(super) fn judge(first: &Report, outcome: &Outcome, why_not: &[(String, String)]) -> Order {
        let mut rows: Vec<Row> = outcome.strikes.iter().filter_map(row).collect();
        let as_predicted = is_as_predicted(&mut rows);
        let open = first.findings.iter().filter(|finding| {
            matches!(finding.state, State::Stops | State::Slows | State::Avoided)
                && !outcome.strikes.iter().any(|strike| strike.limit == finding.setting)
        });
        let rest = open.map(|finding| {
            let known = why_not.iter().find(|(setting, _)| setting == finding.setting);
            let why = known.map_or_else(|| reason(finding.setting), |(_, why)| why.clone());
            Row {
                limit: finding.setting.to_owned(),
                predicted: number(finding.bites),
                struck: None,
                why,
            }
        });
        let goal = first.goal.connections;
        rows.extend(rest.collect::<Vec<_>>());
        Order { goal, as_predicted, rows }
    }

    pub(super) fn first_report(&self) -> Report {
        self.report()
    }
}

const fn number(bites: Bite) -> Option<u64> {
    match bites {
        Bite::At(number) | Bite::SlowAt(number) | Bite::Burst(number) => Some(number),
        Bite::Always | Bite::Never => None,
    }
}

fn row(strike: &Strike) -> Option<Row> {
    let predicted = Some(strike.predicted?);
    let why = strike.error.clone();
    Some(Row { limit: strike.limit.clone(), predicted, struck: Some(strike.at), why })
}

/// Sorts rows by where they struck; whether that is also the order of what was predicted, and each
/// is near to it. What bites bursts has no place in the order of sessions.
fn is_as_predicted(rows: &mut [Row]) -> bool {
    rows.sort_by_key(|row| row.struck);
    let near = rows.iter().all(|row| {
        let (predicted, struck) = (row.predicted.unwrap_or(0), row.struck.unwrap_or(0));
        predicted.abs_diff(struck) <= OFF_MOST.max(predicted / 50)
    });
    let of_sessions = rows.iter().filter(|row| row.limit != "net.core.somaxconn");
    near && of_sessions.map(|row| row.predicted).is_sorted()
}

/// Why a limit is never struck by a probe, or what would do it.
fn reason(setting: &str) -> String {
    let why = match setting {
        "net.ipv4.tcp_mem" => "a run of so many pairs with --unread strikes it",
        "net.ipv4.tcp_ehash_entries" => "it has no error: packets take longer to find their socket",
        "memory" => {
            "the kernel would end programs: the probe ends before that (--keep-free); \
             --memory-limit strikes a control group's"
        }
        "cgroup.memory.max" => "--memory-limit strikes one of the probe's own",
        "net.ipv4.tcp_max_orphans" => "needs peers that vanish, and holds for the whole machine",
        "fs.epoll.max_user_watches" => "a run with --epoll of so many pairs strikes it",
        _ => "a run of so many pairs strikes it",
    };
    why.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Facts {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machines/two-cores-24g.json");
        facts::load(std::path::Path::new(path)).unwrap()
    }

    fn strike(limit: &str, at: u64, predicted: Option<u64>) -> Strike {
        let (limit, error) = (limit.to_owned(), "E".to_owned());
        Strike { at, limit, error, raised: String::new(), predicted }
    }

    #[test]
    fn predictions_follow_what_is_raised() {
        let mut predictions = Predictions::of(machine(), 2_000_000);
        assert_eq!(predictions.at("RLIMIT_NOFILE"), Some(19_994));
        assert_eq!(predictions.at(PORTS), Some(28_232));
        assert_eq!(predictions.slow_at(), Some(14_116));
        assert_eq!(predictions.at("fs.file-max"), Some((2_466_165 - 590) / 2));
        assert_eq!(predictions.at("net.core.somaxconn"), Some(4_097));
        predictions.widened("1024 65535");
        assert_eq!((predictions.at(PORTS), predictions.slow_at()), (Some(64_512), Some(46_372)));
    }

    #[test]
    fn another_order_and_another_place_are_said() {
        let report = Predictions::of(machine(), 2_000_000).first_report();
        let judge = |strikes: Vec<Strike>| {
            let outcome = Outcome { strikes, ..Outcome::default() };
            let why = ("fs.nr_open".to_owned(), "no right".to_owned());
            Predictions::judge(&report, &outcome, &[why])
        };
        let first = || strike("RLIMIT_NOFILE", 19_994, Some(19_994));
        let ports = |at| strike(PORTS, at, Some(28_232));
        let order = judge(vec![ports(28_231), first(), strike("time", 1, None)]);
        assert!(order.as_predicted, "{order:?}");
        let rest: Vec<&str> =
            order.rows.iter().filter(|r| r.struck.is_none()).map(|r| r.limit.as_str()).collect();
        assert_eq!(
            rest,
            [
                "net.ipv4.tcp_ehash_entries",
                "net.ipv4.tcp_mem",
                "fs.nr_open",
                "fs.file-max",
                "net.core.somaxconn",
                "net.ipv4.tcp_max_orphans"
            ]
        );
        assert!(order.rows.iter().any(|row| row.why == "no right"));
        assert!(!judge(vec![first(), ports(19_000)]).as_predicted, "too early");
        let late = strike("RLIMIT_NOFILE", 22_000, Some(22_000));
        let early = strike(PORTS, 21_000, Some(23_000));
        assert!(!judge(vec![late, early]).as_predicted, "the other way round");
    }
}
