//! Memory of the machine and of the control group.

use super::judgement::at_least;
use super::{Bite, Change, Context, Judgement, Page, Scope, Setting, State, Wish};
use crate::cost::SERVER_BYTES;
use crate::goal::Profile;
use crate::text::{bytes, count};

/// What stays free for everything else.
pub(crate) const SPARE_BYTES: u64 = 512 << 20;

pub(super) static ROOM: Setting = Setting {
    key: "memory",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "ENOMEM or ENOBUFS from socket(), accept() and send(); then the kernel ends the \
              process with the most memory, which is the server",
    cost: "a larger machine, or more of them: roost-tune plan counts both",
    reference: "Documentation/filesystems/proc.rst, meminfo; roost-tune plan",
    page: Page {
        what: "Memory that sessions may still take: MemFree and the pages of files. MemAvailable \
               is not it: it counts the inode and directory entry of every socket, 1,057 bytes, as \
               if they could be given back.",
        when: "Always the last limit, and the only one that money raises.",
        high: "Memory that stands idle.",
        measured: "4.4 million server-side connections took it down to 0.92 GiB free while \
                   MemAvailable said 7.0 GiB. 2.2 million pairs with both ends on a machine of 24 \
                   GiB left 2.1 GiB.",
    },
    wishes: &[],
    judge: |context| {
        let memory = &context.facts.memory;
        if memory.total_bytes == 0 {
            return Judgement::new(State::Unknown, "not shown", "-");
        }
        let room = memory.room_bytes().saturating_sub(SPARE_BYTES);
        let each = context.cost.bytes();
        judge_room(context, room, each, "a larger machine, or several: roost-tune plan counts them")
    },
};

pub(super) static GROUP_ROOM: Setting = Setting {
    key: "cgroup.memory.max",
    reads: &[],
    scope: Scope::ControlGroup,
    symptom: "sockets fail with ENOMEM, or the kernel ends the container (OOMKilled) though the \
              server's own memory is small",
    cost: "memory of the machine",
    reference: "Documentation/admin-guide/cgroup-v2.rst, memory.max and memory.stat",
    page: Page {
        what: "The memory limit of a container, pod or service. The kernel's memory of sockets, \
               inodes and entries counts in it, not only the process. The lower of memory.max and \
               memory.high counts, of this group and all above it, and MemoryMax= and \
               MemoryHigh= of the unit.",
        when: "Every container: about 4.2 KB a session come on top of what the server's own \
               figures say.",
        high: "The machine itself runs out first.",
        measured: "memory.stat has slab and sock; memory.events counts how often the limit was \
                   reached. Version 1 does not count the TCP part of an accepted socket, 2,521 \
                   bytes: of a pair of 7,879 bytes it counted 5,153, and 64 MiB ended a probe at \
                   12,000 pairs, by ending a process. Version 2 was not measured; all is taken to \
                   count. roost-tune probe --memory-limit shows it.",
    },
    wishes: &[],
    judge: |context| match context.facts.group_room_bytes() {
        None => Judgement::fits("no limit", "-"),
        Some(room) => judge_room(
            context,
            room,
            context.cost.counted_bytes(context.facts),
            "raise the limit of the container: --memory, resources.limits.memory, or MemoryMax=; \
             the kernel's part of each session counts in it",
        ),
    },
};

fn judge_room(context: &Context<'_>, room: u64, each: u64, remedy: &str) -> Judgement {
    let each = each.max(1);
    let needed = context.goal.connections.saturating_mul(each).saturating_add(SERVER_BYTES);
    let at = Bite::At(room.saturating_sub(SERVER_BYTES) / each);
    if room >= needed {
        return Judgement::fits(bytes(room), bytes(needed)).bites(at);
    }
    Judgement::new(State::Stops, bytes(room), bytes(needed)).bites(at).remedy(remedy)
}

pub(super) static MIN_FREE: Setting = Setting {
    key: "vm.min_free_kbytes",
    reads: &["vm.min_free_kbytes"],
    scope: Scope::Machine,
    symptom: "packets are dropped when they arrive: page allocation failure, order:0 in the \
              kernel's log; TcpExtTCPBacklogDrop",
    cost: "memory that nobody may use",
    reference: "Documentation/admin-guide/sysctl/vm.rst, min_free_kbytes",
    page: Page {
        what: "Memory that is kept for whoever cannot wait, as the path of arriving packets.",
        when: "When memory is nearly full of sockets: pages of files cannot be given back as fast \
               as packets arrive.",
        high: "Above a few per cent of memory the machine runs out earlier than it must.",
        measured: "/proc/zoneinfo; allocstall in /proc/vmstat counts who had to wait.",
    },
    wishes: &[],
    judge: |context| {
        let total_kib = context.facts.memory.total_bytes / 1024;
        let large = context.goal.connections >= 500_000;
        // Half a per cent, between the kernel's own default and 512 MiB.
        let needed = if large { (total_kib / 200).clamp(1, 524_288) } else { 1 };
        let place = ("vm.min_free_kbytes", Scope::Machine);
        at_least(context, place, needed, State::Advised, |_| Bite::Always)
    },
};

pub(super) static OVERCOMMIT: Setting = Setting {
    key: "vm.overcommit_memory",
    reads: &["vm.overcommit_memory"],
    scope: Scope::Machine,
    symptom: "2: ENOMEM from mmap() though memory is free; the server's allocator reserves more \
              addresses than it uses",
    cost: "0 and 1: the kernel may have to end a process when promises come due",
    reference: "Documentation/mm/overcommit-accounting.rst",
    page: Page {
        what: "Whether memory may be promised that is not there: 0 with sense, 1 always, 2 never.",
        when: "Machines that a database was tuned for have 2.",
        high: "1 promises everything.",
        measured: "CommitLimit and Committed_AS of /proc/meminfo.",
    },
    wishes: &[],
    judge: |context| {
        let key = "vm.overcommit_memory";
        match context.facts.number(key) {
            None => Judgement::hidden(context, key, Scope::Machine),
            Some(2) => Judgement::new(State::Slows, "2", "0")
                .bites(Bite::Always)
                .remedy("somebody chose it on purpose: ask them, then set it to 0")
                .sysctl(key, 0),
            Some(now) => Judgement::fits(count(now), "0 or 1"),
        }
    },
};

const SWAP_WISHES: &[Wish] = &[Wish {
    profile: Profile::Latency,
    value: "1",
    reason: "an idle session's state that went to disk makes its next message wait for the disk",
}];

pub(super) static SWAP: Setting = Setting {
    key: "vm.swappiness",
    reads: &["vm.swappiness"],
    scope: Scope::Machine,
    symptom: "messages to sessions that were idle for long wait for the disk",
    cost: "less memory for pages of files",
    reference: "Documentation/admin-guide/sysctl/vm.rst, swappiness",
    page: Page {
        what: "How gladly the kernel moves memory of processes to disk rather than dropping pages \
               of files.",
        when: "Only with swap. The kernel's own memory of sockets never moves, so swap cannot make \
               room for more sessions.",
        high: "Idle sessions go to disk, and all of them come back at once.",
        measured: "VmSwap of /proc/PID/status; si and so of vmstat 1.",
    },
    wishes: SWAP_WISHES,
    judge: |context| {
        if context.facts.memory.swap_bytes == 0 {
            return Judgement::fits("no swap", "any");
        }
        super::judgement::wished(context, ("vm.swappiness", Scope::Machine), SWAP_WISHES)
    },
};

const HUGE_PAGES_FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

pub(super) static HUGE_PAGES: Setting = Setting {
    key: "transparent_hugepage",
    reads: &[],
    scope: Scope::Machine,
    symptom: "always: the server's memory grows in steps of 2 MiB and does not shrink when \
              sessions leave",
    cost: "madvise: a few more misses in the processor's table of pages",
    reference: "Documentation/admin-guide/mm/transhuge.rst",
    page: Page {
        what: "Whether programs get pages of 2 MiB without asking.",
        when: "Memory that is given back in small pieces, as a server's is when sessions leave.",
        high: "always: one session that stays keeps 2 MiB.",
        measured: "AnonHugePages of /proc/PID/smaps_rollup. Not measured with Roost.",
    },
    wishes: &[],
    judge: |context| match context.facts.huge_pages.as_deref() {
        None => Judgement::new(State::Unknown, "not shown", "madvise"),
        Some("always") => Judgement::new(State::Advised, "always", "madvise")
            .bites(Bite::Always)
            .change(Change::Sysfs { path: HUGE_PAGES_FILE.to_owned(), value: "madvise".to_owned() })
            .remedy("memory of sessions that left goes back in small pages"),
        Some(now) => Judgement::fits(now, "madvise or never"),
    },
};

pub(super) static NUMA: Setting = Setting {
    key: "kernel.numa_balancing",
    reads: &["kernel.numa_balancing"],
    scope: Scope::Machine,
    symptom: "single messages wait for some ms while the kernel moves pages between nodes",
    cost: "memory may stay on the node where it was touched first",
    reference: "Documentation/admin-guide/sysctl/kernel.rst, numa_balancing",
    page: Page {
        what: "Whether the kernel looks which node uses a page and moves it there.",
        when: "Machines with more than one node. Roost's shards are pinned and touch their memory \
               first, so it lies right already.",
        high: "Faults and moves for nothing.",
        measured: "numa_pages_migrated of /proc/vmstat. Not measured with Roost: the machine at \
                   hand has one node.",
    },
    wishes: &[],
    judge: |context| {
        let key = "kernel.numa_balancing";
        if context.facts.memory.nodes < 2 {
            return Judgement::fits("one node", "any");
        }
        match context.facts.number(key) {
            None => Judgement::hidden(context, key, Scope::Machine),
            Some(0) => Judgement::fits("0", "0"),
            Some(now) => Judgement::new(State::Advised, count(now), "0")
                .bites(Bite::Always)
                .remedy("pinned shards have their memory on their node from the start")
                .sysctl(key, 0),
        }
    },
};
