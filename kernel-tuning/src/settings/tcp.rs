//! Memory and behaviour of TCP itself.

use super::judgement::wished;
use super::{Bite, Change, Context, Judgement, Page, Scope, Setting, State, Wish};
use crate::facts::pages_to_bytes;
use crate::goal::Profile;
use crate::text::{bytes, count};

pub(super) static TCP_MEM: Setting = Setting {
    key: "net.ipv4.tcp_mem",
    reads: &["net.ipv4.tcp_mem"],
    scope: Scope::Machine,
    symptom: "TcpExtTCPMemoryPressures grows, windows shrink, and above the third number kernel \
              log: TCP: out of memory -- consider tuning tcp_mem",
    cost: "none while sessions are idle; at most a page (4 KiB) a session with a byte on its way",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_mem",
    page: Page {
        what: "Pages that the buffers of all sockets may take: below the first number all is well, \
               above the second the kernel saves, above the third it refuses. It does not count \
               the sockets themselves.",
        when: "A message to everybody at once, or many readers that do not read: every socket with \
               one byte waiting counts as a whole page. Idle sessions count as nothing.",
        high: "Slow readers may take memory that the machine does not have; Roost's own bounds for \
               what waits (limits.send_queue_bytes) are reached first.",
        measured: "With 383,867 in the middle, 398,000 sockets with an unread byte raised \
                   TCPMemoryPressures; at 796,000, above the third number, messages of 100 bytes \
                   still went through, since every socket may hold tcp_rmem[0] and tcp_wmem[0]. \
                   roost-tune probe --unread shows it.",
    },
    wishes: &[],
    judge: judge_memory,
};

fn judge_memory(context: &Context<'_>) -> Judgement {
    let (key, facts, goal) = ("net.ipv4.tcp_mem", context.facts, context.goal);
    let numbers = facts.numbers(key);
    let &[_, pressure, _] = numbers.as_slice() else {
        return Judgement::hidden(context, key, Scope::Machine);
    };
    let now = numbers.iter().map(|n| count(*n)).collect::<Vec<_>>().join(" ");
    // Not more than half of memory: whatever is asked for, the machine must live.
    let most = (facts.memory.total_bytes / pages_to_bytes(1)) / 3;
    let wanted = goal.connections.min(most.max(pressure));
    let needed = format!("{} {wanted} {}", wanted / 4 * 3, wanted / 2 * 3);
    let bites = Bite::SlowAt(pressure);
    if pressure >= goal.connections {
        return Judgement::fits(now, needed).bites(bites);
    }
    let judged = Judgement::new(State::Slows, now, needed.clone()).bites(bites);
    if wanted == pressure {
        return judged.remedy(format!(
            "half of the {} of this machine are in it already; a message to everybody must be \
             spread over time",
            bytes(facts.memory.total_bytes)
        ));
    }
    judged.sysctl(key, needed).remedy(
        "felt when so many sockets have a byte waiting at once, as after a message to everybody",
    )
}

/// Sockets that a bucket may hold before looking one up becomes slow.
const PER_BUCKET: u64 = 2;
const BUCKET_BYTES: u64 = 16;
/// The most that a network namespace may ask for.
const CHILD_MOST: u64 = 16 << 20;

pub(super) static HASH: Setting = Setting {
    key: "net.ipv4.tcp_ehash_entries",
    reads: &["net.ipv4.tcp_ehash_entries", "net.ipv4.tcp_child_ehash_entries"],
    scope: Scope::Boot,
    symptom: "no error: every packet takes longer to find its socket, so connects and messages \
              cost more time of the processor",
    cost: "16 bytes a bucket, from the start of the machine",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_ehash_entries and \
                tcp_child_ehash_entries; kernel-parameters.rst, thash_entries=",
    page: Page {
        what: "Buckets of the table in which every packet's socket is found. Set at the start of \
               the machine: thash_entries=. A network namespace made later may have one of its own \
               (tcp_child_ehash_entries, from Linux 6.1 on).",
        when: "Beyond two sockets a bucket.",
        high: "Memory that is used from the start: 16 MiB for a million buckets.",
        measured: "At 2 million server-side sockets: with 262,144 buckets 71,500 connects a second \
                   and 14.0 s for a message on each; with 8,388,608 buckets 93,000 and 9.8 s.",
    },
    wishes: &[],
    judge: judge_hash,
};

fn judge_hash(context: &Context<'_>) -> Judgement {
    let (facts, goal) = (context.facts, context.goal);
    let sockets = goal.connections.saturating_mul(goal.ends());
    let needed = (sockets / PER_BUCKET).max(1).checked_next_power_of_two().unwrap_or(u64::MAX);
    // A namespace that shares the table of the first one says so with a minus.
    let said = facts.sysctls.get("net.ipv4.tcp_ehash_entries");
    let now = said.and_then(|text| text.trim_start_matches('-').parse::<u64>().ok());
    let Some(now) = now else {
        let judged = Judgement::hidden(context, "net.ipv4.tcp_ehash_entries", Scope::Boot);
        let remedy = format!(
            "before Linux 6.1 only the kernel's log says it: dmesg, TCP established hash table \
             entries; {} are needed, by thash_entries=",
            count(needed)
        );
        return judged.remedy(remedy);
    };
    let bites = Bite::SlowAt(now.saturating_mul(PER_BUCKET) / goal.ends());
    if now >= needed {
        return Judgement::fits(count(now), count(needed)).bites(bites);
    }
    let judged = Judgement::new(State::Slows, count(now), count(needed))
        .bites(bites)
        .change(Change::Boot { parameter: format!("thash_entries={needed}") });
    let child = "net.ipv4.tcp_child_ehash_entries";
    let wanted = needed.min(CHILD_MOST);
    if facts.number(child).is_some_and(|now| now < wanted) {
        return judged.sysctl(child, wanted).remedy(format!(
            "thash_entries= takes effect at the next start; until then in network namespaces \
                 that are made after apply (PrivateNetwork=, ip netns, containers), each of which \
                 then takes {} for its own table",
            bytes(wanted * BUCKET_BYTES)
        ));
    }
    judged.remedy("a parameter of the kernel: it takes effect at the next start of the machine")
}

const RECEIVE_WISHES: &[Wish] = &[
    Wish {
        profile: Profile::Density,
        value: "4096 131072 262144",
        reason: "messages are at most 64 KiB, so no window beyond 256 KiB is of use, and a socket \
                 cannot take more",
    },
    Wish {
        profile: Profile::Throughput,
        value: "4096 131072 16777216",
        reason: "bandwidth times round trip of fast peers far away: 1 Gbit/s and 100 ms are 12 MB",
    },
];

pub(super) static RECEIVE_BUFFERS: Setting = Setting {
    key: "net.ipv4.tcp_rmem",
    reads: &["net.ipv4.tcp_rmem"],
    scope: Scope::NetworkNamespace,
    symptom: "too small: uploads are slow over long distances; nothing fails",
    cost: "up to the third number for each socket whose bytes are not read",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_rmem",
    page: Page {
        what: "What may wait to be read at one socket: at least, at first, at most.",
        when: "Only while bytes wait. An idle socket takes nothing of it, whatever it says.",
        high: "Peers that send faster than the server reads take kernel memory.",
        measured: "200,000 idle sockets after a message each: 0 bytes left behind. One unread \
                   message of 100 bytes: 841 bytes of slab, a page of tcp_mem.",
    },
    wishes: RECEIVE_WISHES,
    judge: |context| {
        wished(context, ("net.ipv4.tcp_rmem", Scope::NetworkNamespace), RECEIVE_WISHES)
    },
};

const SEND_WISHES: &[Wish] = &[
    Wish {
        profile: Profile::Density,
        value: "4096 16384 262144",
        reason: "what the kernel holds for a reader that does not read is bounded by it: 100,000 \
                 of them could take 400 GB with 4 MiB each, 25 GB with 256 KiB, before tcp_mem \
                 ends it",
    },
    Wish {
        profile: Profile::Throughput,
        value: "4096 65536 16777216",
        reason: "windows of fast peers far away are kept full",
    },
];

pub(super) static SEND_BUFFERS: Setting = Setting {
    key: "net.ipv4.tcp_wmem",
    reads: &["net.ipv4.tcp_wmem"],
    scope: Scope::NetworkNamespace,
    symptom: "too small: downloads are slow over long distances; nothing fails",
    cost: "up to the third number for each socket whose peer does not read",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_wmem",
    page: Page {
        what: "What may wait to be acknowledged at one socket: at least, at first, at most.",
        when: "Only while bytes wait, as with slow and dead readers.",
        high: "Slow readers hold kernel memory; Roost's send queue fills only when this is full.",
        measured: "One message of 100 bytes sent and not acknowledged: 1,097 bytes of slab.",
    },
    wishes: SEND_WISHES,
    judge: |context| wished(context, ("net.ipv4.tcp_wmem", Scope::NetworkNamespace), SEND_WISHES),
};

const SLOW_START_WISHES: &[Wish] = &[
    Wish {
        profile: Profile::Latency,
        value: "0",
        reason: "after a pause the first burst goes out at once and not ten packets a round trip",
    },
    Wish {
        profile: Profile::Throughput,
        value: "0",
        reason: "pages of history after a pause leave at the speed that was reached before",
    },
];

pub(super) static SLOW_START: Setting = Setting {
    key: "net.ipv4.tcp_slow_start_after_idle",
    reads: &["net.ipv4.tcp_slow_start_after_idle"],
    scope: Scope::NetworkNamespace,
    symptom: "1: the first page of history after a pause takes some round trips more",
    cost: "0: a burst into a network that became slower meanwhile",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_slow_start_after_idle",
    page: Page {
        what: "Whether a connection that was silent begins slowly again.",
        when: "Answers of more than 14 KB after a pause. A chat message never notices.",
        high: "With 0 a device that moved to a slow network loses packets of the first burst.",
        measured: "ss -ti shows cwnd before and after a pause. Not measured with Roost.",
    },
    wishes: SLOW_START_WISHES,
    judge: |context| {
        let place = ("net.ipv4.tcp_slow_start_after_idle", Scope::NetworkNamespace);
        wished(context, place, SLOW_START_WISHES)
    },
};

const NOT_SENT_WISHES: &[Wish] = &[Wish {
    profile: Profile::Latency,
    value: "131072",
    reason: "what is queued behind a slow network waits in the server, where newer state can still \
             replace it, and not in the kernel",
}];

pub(super) static NOT_SENT: Setting = Setting {
    key: "net.ipv4.tcp_notsent_lowat",
    reads: &["net.ipv4.tcp_notsent_lowat"],
    scope: Scope::NetworkNamespace,
    symptom: "unlimited: a small message waits behind a page of history in the kernel's queue",
    cost: "a wake-up more for each 128 KiB to a slow reader",
    reference: "Documentation/networking/ip-sysctl.rst, tcp_notsent_lowat",
    page: Page {
        what: "Bytes in a socket's queue that are not on their way yet, above which it is not \
               writable.",
        when: "Large answers to slow devices.",
        high: "Nothing but the wait.",
        measured: "ss -tim shows notsent. Not measured with Roost.",
    },
    wishes: NOT_SENT_WISHES,
    judge: |context| {
        let place = ("net.ipv4.tcp_notsent_lowat", Scope::NetworkNamespace);
        wished(context, place, NOT_SENT_WISHES)
    },
};
