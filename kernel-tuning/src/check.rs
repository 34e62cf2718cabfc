//! Facts and a goal in, findings out, in the order in which they bite. Pure.

use crate::cost::SessionCost;
use crate::facts::Facts;
use crate::goal::{GATEWAY_CONNECTIONS_MAX, Goal};
use crate::settings::{Bite, Change, Context, SETTINGS, State};
use serde::Serialize;

/// The file that `apply` writes; whatever sorts behind it wins at the next start.
pub(crate) const SYSCTL_FILE: &str = "/etc/sysctl.d/90-roost-tune.conf";

const SYSCTL_CONF: &str = "/etc/sysctl.conf";

/// What is found about one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub setting: &'static str,
    pub state: State,
    pub now: String,
    pub needed: String,
    pub bites: Bite,
    /// Where the setting holds.
    pub scope: &'static str,
    /// What is seen when it is too low.
    pub effect: &'static str,
    pub cost: &'static str,
    pub remedy: String,
    pub reference: &'static str,
    /// What files say about it that is not what is now, or that would win over ours.
    pub managed: Option<String>,
    pub changes: Vec<Change>,
}

impl Finding {
    /// What bites first comes first; what fits comes last.
    fn order(&self) -> (u8, (u8, u64)) {
        let class = match self.state {
            State::Stops | State::Slows | State::Avoided => 0,
            State::Advised => 1,
            State::Unknown => 2,
            State::Fits => 3,
        };
        (class, self.bites.rank())
    }
}

/// All findings for a goal on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub machine: String,
    pub goal: Goal,
    /// Nothing stops it.
    pub fits: bool,
    /// What stops it first, if anything.
    pub first: Option<&'static str>,
    /// Bytes that one session takes of this machine.
    pub session_bytes: u64,
    pub findings: Vec<Finding>,
    /// What is no setting of the machine, and yet must be known.
    pub notes: Vec<String>,
}

/// Judges every setting.
pub(crate) fn check(facts: &Facts, goal: &Goal) -> Report {
    let layout = goal.layout(facts);
    let cost = SessionCost::of(facts, goal, &layout);
    let context = Context { facts, goal, layout: &layout, cost: &cost };
    let mut findings: Vec<Finding> = SETTINGS
        .iter()
        .map(|setting| {
            let judged = (setting.judge)(&context);
            Finding {
                setting: setting.key,
                state: judged.state,
                now: judged.now,
                needed: judged.needed,
                bites: judged.bites,
                scope: setting.scope.words(),
                effect: setting.symptom,
                cost: setting.cost,
                remedy: judged.remedy,
                reference: setting.reference,
                managed: managed(facts, setting.key, &judged.changes),
                changes: judged.changes,
            }
        })
        .collect();
    findings.sort_by_key(Finding::order);
    let first = findings.iter().find(|finding| finding.state == State::Stops);
    let first = first.map(|finding| finding.setting);
    Report {
        machine: machine(facts),
        fits: first.is_none(),
        first,
        session_bytes: cost.bytes(),
        notes: notes(facts, goal, &cost),
        findings,
        goal: goal.clone(),
    }
}

/// The machine in a line.
pub(crate) fn machine(facts: &Facts) -> String {
    let kind = facts.container.as_ref().map_or(String::new(), |kind| format!(", in {kind}"));
    format!(
        "{} cores, {}, {} node{}, Linux {}{kind}",
        facts.cpus.count,
        crate::text::bytes(facts.memory.total_bytes),
        facts.memory.nodes.max(1),
        if facts.memory.nodes > 1 { "s" } else { "" },
        if facts.kernel.is_empty() { "unknown" } else { &facts.kernel },
    )
}

fn notes(facts: &Facts, goal: &Goal, cost: &SessionCost) -> Vec<String> {
    let mut notes = vec![if goal.connections > GATEWAY_CONNECTIONS_MAX {
        format!(
            "limits.connections_max of Roost may be {GATEWAY_CONNECTIONS_MAX} at most: {} need \
             several gateways",
            goal.connections
        )
    } else {
        format!(
            "limits.connections_max of Roost is 1,000,000 unless its configuration says otherwise: \
             connections_max = {}",
            goal.connections
        )
    }];
    notes.push(format!("figures of memory: {}", cost.source));
    if facts.kernel_version().is_none() {
        notes.push(format!(
            "the kernel calls itself {:?}, which is no release that we know; figures and defaults \
             of Linux 6.18 are taken: measure with roost-tune probe",
            facts.kernel
        ));
    } else if !facts.kernel_is_at_least(5, 15) {
        notes.push(format!(
            "Linux {} is older than 5.15, the oldest that this table was made for; upgrade it, or \
             measure with roost-tune probe and read each page of explain",
            facts.kernel
        ));
    }
    if facts.sysctls_read_only {
        notes.push(
            "/proc/sys is read-only here: apply cannot change values; set them on the host, or use \
             apply --emit docker or --emit kubernetes"
                .to_owned(),
        );
    }
    if !facts.first_network_namespace {
        notes.push(
            "this is a network namespace of its own: settings of the machine are not shown or not \
             ours to change; run check on the host, too"
                .to_owned(),
        );
    }
    notes
}

/// Which files set a sysctl, the one that wins last; told if it will not be as it is now, or if
/// what we write would lose.
fn managed(facts: &Facts, key: &str, changes: &[Change]) -> Option<String> {
    let mut others =
        facts.configured.iter().filter(|line| line.key == key && line.file != SYSCTL_FILE);
    let last = others.next_back()?;
    let ours = changes.iter().find_map(|change| match change {
        Change::Sysctl { key: ours, value } if ours == key => Some(value),
        Change::Sysctl { .. }
        | Change::Sysfs { .. }
        | Change::Nofile { .. }
        | Change::Boot { .. } => None,
    });
    let wins = is_later(&last.file);
    match ours {
        Some(value) if last.file == SYSCTL_CONF => Some(format!(
            "{SYSCTL_CONF} sets it to {}: sysctl --system reads it last, so it wins over {value}; \
             systemd reads it only where /etc/sysctl.d has a link to it. Change or remove its line \
             there",
            last.value
        )),
        Some(value) if wins => Some(format!(
            "{} sets it to {} and comes after {SYSCTL_FILE}: at the next start that wins over \
             {value}; change or remove its line there",
            last.file, last.value
        )),
        Some(value) => Some(format!(
            "{} sets it to {}; {SYSCTL_FILE} comes later and wins with {value}",
            last.file, last.value
        )),
        None if facts.sysctls.get(key).is_some_and(|now| *now != last.value) => Some(format!(
            "{} sets it to {} at the next start, which is not what it is now",
            last.file, last.value
        )),
        None => None,
    }
}

/// Whether a file takes effect after ours.
fn is_later(file: &str) -> bool {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    file == SYSCTL_CONF || name(file) > name(SYSCTL_FILE)
}
