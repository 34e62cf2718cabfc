//! Files, descriptors, watches, maps and tasks.

use super::judgement::at_least;
use super::{Bite, Change, Context, Judgement, Page, Scope, Setting, State};
use crate::facts::parse_pair;
use crate::goal::OTHER_DESCRIPTORS;
use crate::text::count;

/// What a process has open besides sockets when it opens nothing but sockets.
const FIRST_DESCRIPTORS: u64 = 6;
/// A ring's table has 16,384 places; with room for rings, segments and tables of the store.
const URING_NOFILE: u64 = 65_536;
/// systemd's own default when no file says anything: soft, hard.
const SYSTEMD_DEFAULT: (u64, u64) = (1_024, 524_288);

pub(super) static NOFILE: Setting = Setting {
    key: "RLIMIT_NOFILE",
    reads: &["fs.nr_open"],
    scope: Scope::Process,
    symptom: "EMFILE (Too many open files) from socket() and accept(); a ring's table of more \
              places is refused with EMFILE, too",
    cost: "8 bytes a descriptor, in powers of two, only when they are used",
    reference: "getrlimit(2); Documentation/admin-guide/sysctl/fs.rst, nr_open",
    page: Page {
        what: "How many descriptors one process may have. io_uring takes the same number as the \
               bound of one ring's table of direct descriptors, though those are no descriptors.",
        when: "First of all: most systems start services with 1,024 and logins with as many. A \
               server that waits with epoll needs one for each session. Roost with io_uring holds \
               sockets in rings of 16,384 places and opens as many rings as it needs, so the limit \
               must allow one such table, and then a hundred rings are a hundred descriptors.",
        high: "Programs that close every possible descriptor before they start another one take \
               seconds with a billion allowed (old Python, some shells); keep it in the millions.",
        measured: "With 20,000 allowed, socket() failed with EMFILE after 19,994 sockets, and \
                   IORING_REGISTER_FILES2 with 20,001 places. 221 rings of 19,900 places in one \
                   process held 4.4 million connections under that same limit. roost-tune probe \
                   --raise shows it.",
    },
    wishes: &[],
    judge: judge_nofile,
};

fn judge_nofile(context: &Context<'_>) -> Judgement {
    let (process, layout) = (&context.facts.process, context.layout);
    let (soft, hard) = context.facts.server_nofile();
    let connections = context.goal.connections;
    let needed = connections.saturating_add(OTHER_DESCRIPTORS);
    let now = if soft == hard { count(soft) } else { format!("{}:{}", count(soft), count(hard)) };
    let bites = Bite::At(soft.saturating_sub(FIRST_DESCRIPTORS));
    if soft >= needed {
        return Judgement::fits(now, count(needed)).bites(bites);
    }
    if layout.uring && soft >= layout.slots + OTHER_DESCRIPTORS && layout.slots >= 16_384 {
        return Judgement::new(State::Avoided, now, count(needed)).bites(bites).remedy(format!(
            "one table would end there; Roost opens {} rings of {} places by itself. A server with \
             one table each needs {} processes",
            count(layout.tables),
            count(layout.slots),
            count(connections.div_ceil(hard.saturating_sub(OTHER_DESCRIPTORS).max(1))),
        ));
    }
    let wanted = if layout.uring { URING_NOFILE.min(needed) } else { needed };
    let judgement = Judgement::new(State::Stops, now, count(wanted)).bites(bites);
    let judgement = judgement.change(Change::Nofile { value: wanted });
    let state = if layout.uring { State::Slows } else { State::Stops };
    let judgement = Judgement { state, ..judgement };
    if wanted <= hard || process.may_raise_limits {
        return judgement.remedy(
            "LimitNOFILE= in the service's unit, which apply writes; for a shell: ulimit -n",
        );
    }
    let tables = connections.div_ceil(hard.saturating_sub(OTHER_DESCRIPTORS).max(1));
    judgement.remedy(format!(
        "the hard limit of {} cannot be raised from here (no CAP_SYS_RESOURCE); a service that \
         systemd starts may have more, which apply writes into its unit. Without that {} \
         processes, or io_uring with several rings, go further",
        count(hard),
        count(tables),
    ))
}

pub(super) static SYSTEMD_NOFILE: Setting = Setting {
    key: "systemd.DefaultLimitNOFILE",
    reads: &[],
    scope: Scope::Machine,
    symptom: "the service sees EMFILE though ulimit -n in a shell says enough",
    cost: "none until descriptors are used",
    reference: "systemd.exec(5), LimitNOFILE=; systemd-system.conf(5)",
    page: Page {
        what: "What services get when their unit says nothing: 1,024 soft and 524,288 hard. If the \
               files of the unit (--unit) say LimitNOFILE=, that is judged instead.",
        when: "A service does not inherit the limits of any shell, nor those of limits.d. Roost \
               does not raise its own soft limit, so its unit must say LimitNOFILE=.",
        high: "A high default reaches every service, also those that loop over all descriptors; \
               set it in the unit of the one that needs it.",
        measured: "systemctl show roost -p LimitNOFILE, or /proc/PID/limits; roost-tune doctor \
                   --pid prints what the running process has.",
    },
    wishes: &[],
    judge: judge_systemd,
};

fn judge_systemd(context: &Context<'_>) -> Judgement {
    if !context.facts.systemd {
        return Judgement::fits("no systemd", "-");
    }
    let unit = &context.facts.unit;
    let said = context.facts.systemd_default_nofile.as_deref();
    let (soft, hard) =
        unit.nofile_pair().unwrap_or_else(|| said.map_or(SYSTEMD_DEFAULT, parse_pair));
    let of = if unit.nofile.is_some() { unit.name.as_str() } else { "default" };
    let now = format!("{}:{} ({of})", count(soft), count(hard));
    let needed = context.goal.connections.saturating_add(OTHER_DESCRIPTORS);
    let wanted = if context.layout.uring { URING_NOFILE.min(needed) } else { needed };
    let bites = Bite::At(soft.saturating_sub(FIRST_DESCRIPTORS));
    if soft >= wanted {
        return Judgement::fits(now, count(wanted)).bites(bites);
    }
    let state = if context.layout.uring { State::Slows } else { State::Stops };
    Judgement::new(state, now, count(wanted))
        .bites(bites)
        .change(Change::Nofile { value: wanted })
        .remedy("the drop-in for the unit, which apply writes: LimitNOFILE=")
}

pub(super) static NR_OPEN: Setting = Setting {
    key: "fs.nr_open",
    reads: &["fs.nr_open"],
    scope: Scope::Machine,
    symptom: "setrlimit() fails with EPERM above it; systemd starts the service with less and says \
              so only in its log",
    cost: "none until descriptors are used",
    reference: "Documentation/admin-guide/sysctl/fs.rst, nr_open",
    page: Page {
        what: "The most that RLIMIT_NOFILE of any process may be set to. 1,048,576 by default.",
        when: "A process with a descriptor for each session, beyond a million. Rings of 16,384 \
               places never come near it.",
        high: "Nothing by itself: each process still needs its limit raised.",
        measured: "ulimit -n 1048577 in a root shell fails with EPERM when it is 1,048,576.",
    },
    wishes: &[],
    judge: |context| {
        let needed = context.goal.connections.saturating_add(OTHER_DESCRIPTORS);
        let at = |now: u64| Bite::At(now.saturating_sub(FIRST_DESCRIPTORS));
        let judged = at_least(context, ("fs.nr_open", Scope::Machine), needed, State::Stops, at);
        if judged.state == State::Stops && context.layout.uring {
            let remedy = format!(
                "one table would end there; Roost's {} rings do not come near it",
                count(context.layout.tables)
            );
            return Judgement { state: State::Avoided, remedy, changes: Vec::new(), ..judged };
        }
        judged.remedy("only then can the limit of the process be raised that far")
    },
};

const FILE_MAX_STEP: u64 = 100_000;

pub(super) static FILE_MAX: Setting = Setting {
    key: "fs.file-max",
    reads: &["fs.file-max", "fs.file-nr"],
    scope: Scope::Machine,
    symptom: "ENFILE (Too many open files in system) in every program that is not root's, even for \
              loading a shared library; kernel log: VFS: file-max limit reached",
    cost: "about 195 bytes a file, only when it is open",
    reference: "Documentation/admin-guide/sysctl/fs.rst, file-max & file-nr",
    page: Page {
        what: "Open files of the whole machine. A socket is one, also when it is only in a ring's \
               table.",
        when: "Its default is a tenth of memory in KiB, so 2.4 million with 24 GiB: enough for a \
               server of that size, not for both ends of two million connections.",
        high: "It no longer guards against a program that leaks files.",
        measured: "A root process with CAP_SYS_ADMIN passed it unhindered, and at 2.6 million \
                   files every command of other users failed with ENFILE.",
    },
    wishes: &[],
    judge: |context| {
        let (facts, goal) = (context.facts, context.goal);
        let files = goal.connections.saturating_mul(goal.ends());
        // In large steps: what is open changes from one look to the next.
        let needed = files.saturating_add(files / 10).saturating_add(facts.files_open + 10_000);
        let needed = needed.checked_next_multiple_of(FILE_MAX_STEP).unwrap_or(needed);
        let at = |now: u64| Bite::At(now.saturating_sub(facts.files_open) / goal.ends());
        at_least(context, ("fs.file-max", Scope::Machine), needed, State::Stops, at)
            .remedy("root's own processes pass it, everybody else's fail: raise it all the same")
    },
};

pub(super) static EPOLL_WATCHES: Setting = Setting {
    key: "fs.epoll.max_user_watches",
    reads: &["fs.epoll.max_user_watches"],
    scope: Scope::Machine,
    symptom: "ENOSPC (No space left on device) from epoll_ctl()",
    cost: "about 231 bytes a watched socket, only when it is watched",
    reference: "epoll(7), /proc interfaces",
    page: Page {
        what: "Sockets that all processes of one user may watch with epoll. Its default is 4 per \
               cent of memory.",
        when: "Only with epoll, and only with little memory: 5.4 million with 24 GiB.",
        high: "Kernel memory that a user can take with watches.",
        measured: "Read it; one session takes one watch, and a second one if the other end is on \
                   this machine and uses epoll, too.",
    },
    wishes: &[],
    judge: |context| {
        let place = ("fs.epoll.max_user_watches", Scope::Machine);
        if context.layout.uring {
            let now = context.facts.number(place.0).map_or_else(|| "not shown".to_owned(), count);
            return Judgement::fits(now, "not used by io_uring");
        }
        let ends = context.goal.ends();
        let needed = context.goal.connections.saturating_mul(ends).saturating_add(1_000);
        at_least(context, place, needed, State::Stops, |now| Bite::At(now / ends))
    },
};

/// Maps of a ring: its two queues, its entries, its buffers.
const MAPS_PER_RING: u64 = 4;
/// Maps of a process that has just begun, with room for those of its allocator.
const OTHER_MAPS: u64 = 20_000;

pub(super) static MAP_COUNT: Setting = Setting {
    key: "vm.max_map_count",
    reads: &["vm.max_map_count"],
    scope: Scope::Machine,
    symptom: "ENOMEM from mmap() though memory is free: a ring cannot be opened, a thread not \
              started",
    cost: "about 200 bytes a map, only when it is there",
    reference: "Documentation/admin-guide/sysctl/vm.rst, max_map_count",
    page: Page {
        what: "Ranges of memory with rights of their own that one process may have.",
        when: "Each ring takes about four, the allocator some thousands after much came and went.",
        high: "Only that a process can make the kernel keep longer lists.",
        measured: "wc -l /proc/PID/maps. 221 rings were opened with 65,530 allowed.",
    },
    wishes: &[],
    judge: |context| {
        let rings = if context.layout.uring { context.layout.tables } else { 1 };
        let needed = rings.saturating_mul(MAPS_PER_RING).saturating_add(OTHER_MAPS);
        let at = |now: u64| {
            let rings = now.saturating_sub(OTHER_MAPS) / MAPS_PER_RING;
            Bite::At(rings.saturating_mul(context.layout.slots))
        };
        at_least(context, ("vm.max_map_count", Scope::Machine), needed, State::Stops, at)
    },
};

/// Threads of a server besides its shards, and what a package's scripts start.
const OTHER_TASKS: u64 = 64;

pub(super) static TASKS: Setting = Setting {
    key: "cgroup.pids.max",
    reads: &[],
    scope: Scope::ControlGroup,
    symptom: "EAGAIN from clone(): the server does not start, or io_uring cannot start its workers",
    cost: "about 20 KiB a thread, only when it is there",
    reference: "Documentation/admin-guide/cgroup-v2.rst, pids.max; systemd: TasksMax=",
    page: Page {
        what: "Threads and processes of a control group.",
        when: "Small containers. Roost takes a thread a shard, some helpers, and io_uring's \
               workers for the disk.",
        high: "A program gone wild takes the process ids of all.",
        measured: "pids.current and pids.peak of the group.",
    },
    wishes: &[],
    judge: |context| {
        let needed = u64::from(context.facts.cpus.count).saturating_mul(4) + OTHER_TASKS;
        match context.facts.tasks_max() {
            None => Judgement::fits("no limit", count(needed)),
            Some(max) if max >= needed => Judgement::fits(count(max), count(needed)),
            Some(max) => Judgement::new(State::Stops, count(max), count(needed))
                .bites(Bite::At(0))
                .remedy("TasksMax= of the unit, or --pids-limit of the container"),
        }
    },
};
