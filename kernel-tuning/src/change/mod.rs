//! From findings to changes: which values and files would be written, and what is left alone and
//! why. Pure; what is done with them is below.

mod apply;
mod machine;
mod undo;

pub(crate) use apply::apply;
pub(crate) use machine::{Attributes, Machine, Real};
pub(crate) use undo::undo;

use crate::check::{Report, SYSCTL_FILE};
use crate::facts::Facts;
use crate::root::sysctl_path;
use crate::settings::{Change, Scope, State, find};
use crate::text::wrap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const LIMITS_FILE: &str = "/etc/security/limits.d/90-roost-tune.conf";
const TMPFILES_FILE: &str = "/etc/tmpfiles.d/90-roost-tune.conf";

/// One thing that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Step {
    /// A value that the kernel shows as a file.
    Value { path: String, value: String },
    /// A whole file.
    File { path: String, text: String },
}

impl Step {
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Value { path, .. } | Self::File { path, .. } => path,
        }
    }
}

/// All that would be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Changes {
    /// In the order in which they are done.
    pub steps: Vec<Step>,
    /// Sysctls among them, by name.
    pub sysctls: BTreeMap<String, String>,
    /// Values of devices among them, by path.
    pub devices: BTreeMap<String, String>,
    /// Descriptors of the service.
    pub nofile: Option<u64>,
    /// What is not done here, and why.
    pub left: Vec<(String, String)>,
    /// Parameters of the kernel, which whoever installs the machine must set.
    pub boot: BTreeSet<String>,
    /// What must be done by hand afterwards.
    pub afterwards: Vec<String>,
}

/// What is chosen on the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// The unit that gets the drop-in.
    pub unit: String,
    /// Settings to leave alone.
    pub skip: Vec<String>,
}

impl Changes {
    /// What would bring a machine to the goal of a report.
    pub(crate) fn of(facts: &Facts, report: &Report, choice: &Choice) -> Self {
        let mut changes = Self::default();
        for finding in &report.findings {
            let wanted = matches!(finding.state, State::Stops | State::Slows | State::Advised);
            if !wanted || finding.changes.is_empty() {
                continue;
            }
            if choice.skip.iter().any(|key| key == finding.setting) {
                changes.leave(finding.setting, "left out by --skip");
                continue;
            }
            for change in &finding.changes {
                changes.take(facts, change);
            }
        }
        changes.write_down(facts, choice);
        changes
    }

    fn leave(&mut self, what: &str, why: &str) {
        let pair = (what.to_owned(), why.to_owned());
        if !self.left.contains(&pair) {
            self.left.push(pair);
        }
    }

    fn take(&mut self, facts: &Facts, change: &Change) {
        match change {
            Change::Sysctl { key, value } => match why_not(facts, key) {
                Some(why) => self.leave(key, &why),
                None => {
                    self.sysctls.insert(key.clone(), value.clone());
                }
            },
            Change::Sysfs { path, value } if facts.first_network_namespace => {
                self.devices.insert(path.clone(), value.clone());
            }
            Change::Sysfs { path, .. } => self.leave(path, "belongs to the host: set it there"),
            Change::Nofile { value } => {
                self.nofile = Some(self.nofile.map_or(*value, |known| known.max(*value)));
            }
            Change::Boot { parameter } => {
                self.boot.insert(parameter.clone());
            }
        }
    }

    /// Makes the steps of what was taken.
    fn write_down(&mut self, facts: &Facts, choice: &Choice) {
        if !facts.first_network_namespace {
            // Files are the machine's, and would hold for its first namespace at the next start.
            let live = self.sysctls.iter();
            self.steps = live.map(|(key, value)| value_step(&sysctl_path(key), value)).collect();
            if self.nofile.take().is_some() {
                self.leave("RLIMIT_NOFILE", "the unit is the host's: --ulimit of the container");
            }
            return;
        }
        // Before any file asks for more descriptors than there may be: with such a file, logins are
        // refused.
        let most = "fs.nr_open";
        if let Some(value) = self.sysctls.get(most) {
            self.steps.push(value_step(&sysctl_path(most), value));
        } else if self.nofile > facts.number(most) {
            self.nofile = None;
            self.leave("RLIMIT_NOFILE", "is above fs.nr_open: raise that with it");
        }
        // Files first: whatever is live will then also be so at the next start.
        if !self.sysctls.is_empty() {
            self.steps.push(file_step(SYSCTL_FILE, &sysctl_file(facts, &self.sysctls)));
        }
        if !self.devices.is_empty() {
            self.steps.push(file_step(TMPFILES_FILE, &tmpfiles(&self.devices)));
        }
        if let Some(nofile) = self.nofile {
            let unit = unit_file(&choice.unit);
            // Nobody's hard limit is lowered.
            let hard = nofile.max(facts.process.nofile_hard);
            self.steps.push(file_step(&unit, &drop_in(hard)));
            self.steps.push(file_step(LIMITS_FILE, &limits(nofile, hard)));
            self.afterwards.push(format!(
                "systemctl daemon-reload && systemctl restart {}; logins have the new limit from \
                 the next one on",
                choice.unit
            ));
        }
        for (key, value) in self.sysctls.iter().filter(|(key, _)| *key != most) {
            self.steps.push(value_step(&sysctl_path(key), value));
        }
        for (path, value) in &self.devices {
            self.steps.push(value_step(path, value));
        }
        if self.sysctls.contains_key("net.core.somaxconn") {
            self.afterwards.push("start the server again: listen() took the old bound".to_owned());
        }
        for parameter in &self.boot {
            self.afterwards.push(format!(
                "add {parameter} to the kernel's command line (GRUB_CMDLINE_LINUX, update-grub) \
                 for the next start"
            ));
        }
    }

    /// What would change, as people read it.
    pub(crate) fn diff(&self, before: impl Fn(&str) -> Option<String>) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let old = before(step.path());
            match step {
                Step::Value { path, value } => {
                    let old = old.map_or_else(|| "-".to_owned(), |old| normal(&old));
                    if !is_same(path, &old, value) {
                        put_line!(text, "{path}: {old} -> {value}");
                    }
                }
                Step::File { path, text: new } => {
                    let old = old.unwrap_or_default();
                    if old == *new {
                        continue;
                    }
                    put_line!(text, "{path}:");
                    let gone = old.lines().filter(|line| !new.lines().any(|other| other == *line));
                    gone.for_each(|line| put_line!(text, "  - {line}"));
                    let came = new.lines().filter(|line| !old.lines().any(|other| other == *line));
                    came.for_each(|line| put_line!(text, "  + {line}"));
                }
            }
        }
        for (what, why) in &self.left {
            text.push_str(&wrap(&format!("not {what}: {why}"), 100, ""));
        }
        for line in &self.afterwards {
            text.push_str(&wrap(&format!("then: {line}"), 100, ""));
        }
        text
    }
}

/// Why a sysctl is not ours to change here.
fn why_not(facts: &Facts, key: &str) -> Option<String> {
    // The one that is told beside another setting holds for the machine's namespaces to come.
    let scope = find(key).map_or(Scope::Machine, |setting| setting.scope);
    if facts.first_network_namespace || scope == Scope::NetworkNamespace {
        return None;
    }
    Some(
        "holds for the whole machine and not for this network namespace: apply it in the first one"
            .to_owned(),
    )
}

fn value_step(path: &str, value: &str) -> Step {
    Step::Value { path: path.to_owned(), value: value.to_owned() }
}

fn file_step(path: &str, text: &str) -> Step {
    Step::File { path: path.to_owned(), text: text.to_owned() }
}

/// Blanks of any kind between numbers are the same to the kernel.
pub(crate) fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the kernel takes two texts for the same value: choices are marked in what it shows, and
/// masks of processors have commas and as many zeros as it likes.
fn is_same(path: &str, one: &str, other: &str) -> bool {
    let (one, other) = (undo::chosen(one), undo::chosen(other));
    if path.ends_with("_cpus") || path.ends_with("/smp_affinity") {
        return mask(&one) == mask(&other);
    }
    normal(&one) == normal(&other)
}

/// Digits of a mask, groups of 32 bits made whole, without zeros in front.
fn mask(text: &str) -> String {
    let mut digits = String::new();
    for group in text.trim().split(',') {
        put!(digits, "{group:0>8}");
    }
    digits.trim_start_matches('0').to_ascii_lowercase()
}

const HEADER: &str = "# Written by roost-tune apply; roost-tune undo takes it away.\n";

/// Ours, with what an earlier apply put into it.
fn sysctl_file(facts: &Facts, wanted: &BTreeMap<String, String>) -> String {
    let earlier = facts.configured.iter().filter(|line| line.file == SYSCTL_FILE);
    let mut all: BTreeMap<&str, &str> =
        earlier.map(|line| (line.key.as_str(), line.value.as_str())).collect();
    all.extend(wanted.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let mut text = HEADER.to_owned();
    for (key, value) in all {
        put_line!(text, "{key} = {value}");
    }
    text
}

fn tmpfiles(devices: &BTreeMap<String, String>) -> String {
    let mut text = HEADER.to_owned();
    for (path, value) in devices {
        put_line!(text, "w {path} - - - - {value}");
    }
    text
}

pub(crate) fn unit_file(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}.d/90-roost-tune.conf")
}

pub(crate) fn drop_in(nofile: u64) -> String {
    format!("{HEADER}[Service]\nLimitNOFILE={nofile}\n")
}

fn limits(soft: u64, hard: u64) -> String {
    let mut text = HEADER.to_owned();
    for who in ["*", "root"] {
        put_line!(text, "{who} soft nofile {soft}");
        put_line!(text, "{who} hard nofile {hard}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_the_kernel_means_them() {
        let rps = "/sys/class/net/eth0/queues/rx-0/rps_cpus";
        assert!(is_same(rps, "00000000,0000000f\n", "f"));
        assert!(is_same(rps, "1,00000000", "00000001,0"));
        assert!(is_same(rps, "FFFFFFFF", "ffffffff") && is_same(rps, "00", "0"));
        assert!(!is_same(rps, "1,00000000", "1") && !is_same(rps, "3", "f"));
        let pages = "/sys/kernel/mm/transparent_hugepage/enabled";
        assert!(is_same(pages, "always [madvise] never", "madvise"));
        assert!(is_same("/proc/sys/net/ipv4/tcp_mem", "1\t2\t3\n", "1 2 3"));
        assert!(!is_same("/proc/sys/fs/file-max", "010", "10"), "only masks are numbers");
    }
}
