//! What matters when many come, or leave, at once.

use super::judgement::at_least;
use super::{Bite, Page, Scope, Setting, State, Wish};
use crate::goal::Profile;
use crate::text::count;

/// The kernel's default since 5.4: never ask for less.
const BACKLOG_LEAST: u64 = 4_096;
/// A pause of a shard that newcomers should outlive, as a part of a second.
const PAUSE_PARTS: u64 = 2;

const fn waiting(connects_per_s: u64) -> u64 {
    let wanted = (connects_per_s / PAUSE_PARTS).next_power_of_two();
    if wanted < BACKLOG_LEAST { BACKLOG_LEAST } else { wanted }
}

pub(super) static SOMAXCONN: Setting = Setting {
    key: "net.core.somaxconn",
    reads: &["net.core.somaxconn"],
    scope: Scope::NetworkNamespace,
    symptom: "connects hang for 1, 3, 7 seconds (SYN is sent again); TcpExtListenOverflows and \
              ListenDrops grow",
    cost: "about 2.9 KB for each connection that waits to be accepted",
    reference: "Documentation/admin-guide/sysctl/net.rst, somaxconn; listen(2)",
    page: Page {
        what: "Connections that may wait to be accepted at one listener. What a program asks for \
               in listen() is cut to this.",
        when: "When many devices come back at once and a shard is busy for a moment: half a second \
               at 20,000 a second is 10,000 that wait. Roost has a listener a shard.",
        high: "Devices wait for a server that is not able to serve them instead of trying another \
               one.",
        measured: "With 4,096 and a server that does not accept, 4,097 connects got through and \
                   the rest hung. nstat -az TcpExtListenOverflows; ss -ltn shows the queue and its \
                   bound.",
    },
    wishes: &[],
    judge: |context| {
        let needed = waiting(context.goal.connects_per_s);
        let place = ("net.core.somaxconn", Scope::NetworkNamespace);
        at_least(context, place, needed, State::Slows, |now| Bite::Burst(now + 1))
            .remedy("the server must be started again: listen() takes it once")
    },
};

pub(super) static SYN_BACKLOG: Setting = Setting {
    key: "net.ipv4.tcp_max_syn_backlog",
    reads: &["net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_syncookies"],
    scope: Scope::NetworkNamespace,
    symptom: "with tcp_syncookies 0 connects hang; with 1 kernel log: possible SYN flooding on \
              port, sending cookies",
    cost: "about 341 bytes for each connection whose handshake is under way",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_max_syn_backlog",
    page: Page {
        what: "Handshakes of TCP that may be under way at one listener.",
        when: "Devices on mobile networks take 100 ms and more for a handshake: 10,000 a second \
               are then 1,000 under way.",
        high: "A flood of SYN packets takes more memory before cookies begin.",
        measured: "TcpExtSyncookiesSent, TcpExtTCPReqQFullDrop.",
    },
    wishes: &[],
    judge: |context| {
        let needed = waiting(context.goal.connects_per_s);
        let place = ("net.ipv4.tcp_max_syn_backlog", Scope::NetworkNamespace);
        let cookies = context.facts.number("net.ipv4.tcp_syncookies").unwrap_or(0) > 0;
        let low = if cookies { State::Advised } else { State::Slows };
        at_least(context, place, needed, low, Bite::Burst)
    },
};

pub(super) static SYN_COOKIES: Setting = Setting {
    key: "net.ipv4.tcp_syncookies",
    reads: &["net.ipv4.tcp_syncookies"],
    scope: Scope::NetworkNamespace,
    symptom: "a flood of SYN packets keeps everybody out; TcpExtTCPReqQFullDrop grows",
    cost: "connections made with a cookie lose options of TCP that do not fit into it",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_syncookies",
    page: Page {
        what: "Answering SYN packets without remembering them when the queue is full.",
        when: "Always on: it does nothing until the queue is full.",
        high: "2 sends cookies always, which is for tests.",
        measured: "TcpExtSyncookiesSent, SyncookiesRecv, SyncookiesFailed.",
    },
    wishes: &[],
    judge: |context| {
        let place = ("net.ipv4.tcp_syncookies", Scope::NetworkNamespace);
        at_least(context, place, 1, State::Slows, |_| Bite::Never)
    },
};

pub(super) static DEVICE_BACKLOG: Setting = Setting {
    key: "net.core.netdev_max_backlog",
    reads: &["net.core.netdev_max_backlog"],
    scope: Scope::Machine,
    symptom: "packets are lost within the machine and sent again; the second column of \
              /proc/net/softnet_stat grows",
    cost: "up to 2 KB a packet that waits",
    reference: "Documentation/admin-guide/sysctl/net.rst, netdev_max_backlog",
    page: Page {
        what: "Packets that may wait for one processor: those that software spread to it (RPS), \
               and all of the loopback device.",
        when: "Storms with software spreading, and load generators on the same machine. Cards \
               whose queues have a processor each do not pass through it.",
        high: "Packets wait longer in a queue that is always full.",
        measured: "/proc/net/softnet_stat, a line for each processor; roost-tune watch has it as \
                   drops.",
    },
    wishes: &[Wish {
        profile: Profile::Throughput,
        value: "16384",
        reason: "bursts of large messages wait instead of being sent again",
    }],
    judge: |context| {
        let fast = context.goal.profile == Profile::Throughput;
        let storm = context.goal.connects_per_s.next_power_of_two().clamp(1_024, 16_384);
        let needed = if fast { 16_384 } else { storm.min(4_096) };
        let place = ("net.core.netdev_max_backlog", Scope::Machine);
        at_least(context, place, needed, State::Advised, Bite::Burst)
    },
};

pub(super) static ORPHANS: Setting = Setting {
    key: "net.ipv4.tcp_max_orphans",
    reads: &["net.ipv4.tcp_max_orphans"],
    scope: Scope::Machine,
    symptom: "connections that the server closes are reset at once, so the last bytes may be lost; \
              kernel log: TCP: too many orphaned sockets",
    cost: "about 2.5 KB for each connection closed with bytes that nobody acknowledged",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_max_orphans",
    page: Page {
        what: "Sockets that no program has any more and that still have something to send.",
        when: "A drain or a stop while many peers are unreachable: their last bytes stay for \
               minutes.",
        high: "Memory that nothing but time gives back.",
        measured: "/proc/net/sockstat, orphan; TcpExtTCPAbortOnMemory.",
    },
    wishes: &[],
    judge: |context| {
        let needed = (context.goal.connections / 4).max(8_192);
        let place = ("net.ipv4.tcp_max_orphans", Scope::Machine);
        at_least(context, place, needed, State::Slows, Bite::Burst)
            .remedy("a quarter of all sessions may then go at once; a paced drain needs less")
    },
};

pub(super) static TIME_WAIT: Setting = Setting {
    key: "net.ipv4.tcp_max_tw_buckets",
    reads: &["net.ipv4.tcp_max_tw_buckets"],
    scope: Scope::NetworkNamespace,
    symptom: "kernel log: TCP: time wait bucket table overflow; late packets of an old connection \
              meet a new one",
    cost: "about 260 bytes a connection in TIME_WAIT, for a minute",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_max_tw_buckets",
    page: Page {
        what: "Closed connections that are remembered for a minute, on the side that closed first.",
        when: "A server that closes: after a drain of N sessions in less than a minute it has N.",
        high: "Memory for a minute; nothing else.",
        measured: "/proc/net/sockstat, tw; TcpExtTCPTimeWaitOverflow.",
    },
    wishes: &[],
    judge: |context| {
        let needed = (context.goal.connections / 4).max(8_192);
        let place = ("net.ipv4.tcp_max_tw_buckets", Scope::NetworkNamespace);
        at_least(context, place, needed, State::Advised, Bite::Burst).remedy(format!(
            "room for {}, a quarter of all sessions, within one minute",
            count(needed)
        ))
    },
};
