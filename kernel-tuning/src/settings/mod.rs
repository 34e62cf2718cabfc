//! The table of settings: the one place that knows them. `check`, `plan`, `apply`, `explain`,
//! `profiles` and the guide all come from it.
//!
//! Adding one is adding an entry to a file below, and its name to `SETTINGS` and to the guide's
//! list, which a test compares.

mod descriptors;
mod hardware;
mod judgement;
mod memory;
mod ports;
mod processors;
mod storms;
mod tcp;
mod uring;

pub(crate) use judgement::{Bite, Change, Context, Judgement, State};
pub(crate) use memory::SPARE_BYTES;
pub(crate) use processors::{BUSY_PERCENT, milli};

pub(crate) use crate::goal::Profile;
use std::collections::BTreeSet;

/// Where a setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In each network namespace by itself.
    NetworkNamespace,
    /// On the whole machine: a container has that of its host.
    Machine,
    /// In each process.
    Process,
    /// In the control group.
    ControlGroup,
    /// Until the next start of the machine only by a parameter of the kernel.
    Boot,
    /// A device.
    Hardware,
}

impl Scope {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::NetworkNamespace => "network namespace",
            Self::Machine => "machine",
            Self::Process => "process",
            Self::ControlGroup => "control group",
            Self::Boot => "machine, at its start",
            Self::Hardware => "device",
        }
    }
}

/// A page for `explain`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// What it is.
    pub what: &'static str,
    /// When it matters.
    pub when: &'static str,
    /// What goes wrong when it is too high.
    pub high: &'static str,
    /// How it is seen, and what was measured.
    pub measured: &'static str,
}

/// What a profile wants of a setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub profile: Profile,
    pub value: &'static str,
    pub reason: &'static str,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// A sysctl's name, or one of ours.
    pub key: &'static str,
    /// Sysctls that judging it reads.
    pub reads: &'static [&'static str],
    pub scope: Scope,
    /// What is seen when it is too low: the exact error if there is one.
    pub symptom: &'static str,
    /// What more of it costs.
    pub cost: &'static str,
    /// Where the kernel's documentation has it.
    pub reference: &'static str,
    pub page: Page,
    pub wishes: &'static [Wish],
    /// Whether it fits a goal.
    pub judge: fn(&Context<'_>) -> Judgement,
}

/// All of them.
pub(crate) static SETTINGS: &[&Setting] = &[
    &descriptors::NOFILE,
    &descriptors::SYSTEMD_NOFILE,
    &descriptors::NR_OPEN,
    &descriptors::FILE_MAX,
    &descriptors::EPOLL_WATCHES,
    &descriptors::MAP_COUNT,
    &descriptors::TASKS,
    &ports::PORT_RANGE,
    &ports::CONNTRACK,
    &storms::SOMAXCONN,
    &storms::SYN_BACKLOG,
    &storms::SYN_COOKIES,
    &storms::DEVICE_BACKLOG,
    &storms::ORPHANS,
    &storms::TIME_WAIT,
    &tcp::TCP_MEM,
    &tcp::HASH,
    &tcp::RECEIVE_BUFFERS,
    &tcp::SEND_BUFFERS,
    &tcp::SLOW_START,
    &tcp::NOT_SENT,
    &memory::ROOM,
    &memory::GROUP_ROOM,
    &memory::MIN_FREE,
    &memory::OVERCOMMIT,
    &memory::SWAP,
    &memory::HUGE_PAGES,
    &memory::NUMA,
    &uring::URING,
    &uring::LOCKED,
    &uring::KERNEL_TLS,
    &processors::CORES,
    &processors::GOVERNOR,
    &hardware::QUEUES,
    &hardware::SPREAD,
    &hardware::SEND_PLACEMENT,
    &hardware::INTERRUPTS,
    &hardware::RING,
    &hardware::COALESCING,
    &hardware::SCHEDULER,
    &hardware::WRITE_CACHE,
];

/// Every sysctl that a judgement reads, each once.
pub(crate) fn sysctls() -> BTreeSet<&'static str> {
    SETTINGS.iter().flat_map(|setting| setting.reads.iter().copied()).collect()
}

/// A setting by its name.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().copied().find(|setting| setting.key.eq_ignore_ascii_case(key))
}

/// Names that contain a part of what was asked for.
pub(crate) fn near(name: &str) -> Vec<&'static str> {
    let name = name.to_ascii_lowercase();
    let last = name.rsplit(['.', '_', '-']).next().unwrap_or_default().to_owned();
    let is_near = |key: &&str| {
        let key = key.to_ascii_lowercase();
        key.contains(&name) || last.len() > 2 && key.contains(&last)
    };
    SETTINGS.iter().map(|setting| setting.key).filter(is_near).take(5).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_there_once_and_says_all() {
        let keys: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        assert_eq!(keys.len(), SETTINGS.len());
        for setting in SETTINGS {
            let Page { what, when, high, measured } = setting.page;
            let texts = [what, when, high, measured, setting.symptom, setting.cost];
            assert!(texts.iter().all(|text| text.len() > 10), "{} lacks a text", setting.key);
            assert!(setting.reference.len() > 5, "{}", setting.key);
        }
    }

    #[test]
    fn the_guide_lists_them_all() {
        let guide = include_str!("../../README.md");
        for setting in SETTINGS {
            let Setting { key, scope, symptom, .. } = setting;
            let row = format!("| `{key}` | {} | {symptom} |\n", scope.words());
            assert!(guide.contains(&row), "kernel-tuning/README.md has no row {row}");
        }
    }

    #[test]
    fn a_name_that_is_nearly_right_finds_its_neighbours() {
        assert!(find("NET.core.somaxconn").is_some());
        assert!(find("somaxconn").is_none());
        assert_eq!(near("somaxconn"), ["net.core.somaxconn"]);
        assert!(near("net.ipv4.tcp_orphans").contains(&"net.ipv4.tcp_max_orphans"));
        assert!(near("zzz").is_empty());
    }
}
