//! The ring, locked memory, and TLS in the kernel.

use super::{Bite, Judgement, Page, Scope, Setting, State};
use crate::facts::UNLIMITED;
use crate::goal::Driver;
use crate::text::bytes;

pub(super) static URING: Setting = Setting {
    key: "kernel.io_uring_disabled",
    reads: &["kernel.io_uring_disabled"],
    scope: Scope::Machine,
    symptom: "EPERM from io_uring_setup(): roost serve says so at its start and takes epoll",
    cost: "a large part of the kernel that programs can reach; many hardened systems forbid it",
    reference: "Documentation/admin-guide/sysctl/kernel.rst, io_uring_disabled",
    page: Page {
        what: "0: everybody may use io_uring; 1: only those with CAP_SYS_ADMIN or in \
               io_uring_group; 2: nobody. Roost uses it from Linux 6.11 on. Filters of system \
               calls (Docker's default, since 2023) forbid it, too, whatever this says.",
        when: "With io_uring the limit of descriptors does not bound a process, and a cold message \
               costs a tenth less; with epoll all works, too.",
        high: "More of the kernel can be reached by a broken program.",
        measured: "roost serve prints its driver and why; docker run --security-opt \
                   seccomp=FILE allows it.",
    },
    wishes: &[],
    judge: |context| {
        let facts = context.facts;
        let disabled = facts.number("kernel.io_uring_disabled");
        let now = match disabled {
            _ if facts.kernel_version().is_none() => format!("unknown kernel {}", facts.kernel),
            _ if !facts.kernel_is_at_least(6, 11) => format!("Linux {}, too old", facts.kernel),
            Some(value) if value > 0 => value.to_string(),
            _ if facts.process.is_filtered => "0, and a filter is on".to_owned(),
            _ => "0".to_owned(),
        };
        if facts.uring_is_there() {
            let judged = Judgement::fits(now, "0, Linux 6.11 or newer");
            if facts.process.is_filtered {
                return judged.remedy("whether the filter forbids it, roost serve says");
            }
            return judged;
        }
        let wanted = context.goal.driver == Driver::Uring;
        let state = if wanted { State::Stops } else { State::Advised };
        let judged = Judgement::new(state, now, "0, Linux 6.11 or newer");
        let judged = judged.bites(if wanted { Bite::At(0) } else { Bite::Always });
        let remedy = "without it Roost waits with epoll and needs a descriptor for each session";
        match disabled {
            Some(value) if value > 0 && facts.kernel_is_at_least(6, 11) => judged.remedy(format!(
                "{remedy}; whoever forbade it had reasons: ask before you allow it"
            )),
            _ => judged.remedy(format!("{remedy}; a newer kernel has what Roost needs")),
        }
    },
};

/// Rings lock nothing since Linux 5.12; buffers that are registered do, a few MiB.
const LOCKED_BYTES: u64 = 8 << 20;

pub(super) static LOCKED: Setting = Setting {
    key: "RLIMIT_MEMLOCK",
    reads: &[],
    scope: Scope::Process,
    symptom: "ENOMEM from io_uring_setup() or io_uring_register(), before Linux 5.12 for every \
              ring",
    cost: "memory that cannot move to disk",
    reference: "io_uring_setup(2), io_uring_register(2); getrlimit(2)",
    page: Page {
        what: "Memory that a process may lock. From Linux 5.12 on rings count in the control group \
               instead, only registered buffers count here.",
        when: "Old kernels with many rings. CAP_IPC_LOCK passes it.",
        high: "A program can keep memory from everybody.",
        measured: "221 rings were opened with 8 MiB allowed.",
    },
    wishes: &[],
    judge: |context| {
        let now = context.facts.process.memlock_bytes;
        let text = if now == UNLIMITED { "unlimited".to_owned() } else { bytes(now) };
        if !context.layout.uring {
            return Judgement::fits(text, "not used by epoll");
        }
        if now >= LOCKED_BYTES {
            return Judgement::fits(text, bytes(LOCKED_BYTES));
        }
        Judgement::new(State::Advised, text, bytes(LOCKED_BYTES))
            .bites(Bite::Always)
            .remedy("LimitMEMLOCK=8M in the unit")
    },
};

pub(super) static KERNEL_TLS: Setting = Setting {
    key: "kernel.tls",
    reads: &[],
    scope: Scope::Machine,
    symptom: "none: Roost does TLS itself",
    cost: "about 1.5 KB of kernel for each session that uses it",
    reference: "Documentation/networking/tls.rst",
    page: Page {
        what: "Records of TLS made and opened by the kernel (the module tls).",
        when: "For Roost never: it holds many idle sessions, and the kernel's state of each is \
               larger than ours. It pays where files are sent.",
        high: "Kernel memory of every session.",
        measured: "/proc/net/tls_stat counts sessions; /proc/sys/net/ipv4/tcp_available_ulp says \
                   whether it is there.",
    },
    wishes: &[],
    judge: |context| {
        let now = if context.facts.kernel_tls { "there" } else { "not loaded" };
        Judgement::fits(now, "not used")
    },
};
