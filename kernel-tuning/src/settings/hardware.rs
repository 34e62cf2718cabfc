//! Network cards and disks. What is wrong with one of them is said of that one.

use super::{Bite, Change, Context, Judgement, Page, Scope, Setting, State};
use crate::facts::{Disk, Nic};
use crate::goal::Profile;

/// Below this many packets a second one queue does.
const QUEUE_PACKETS_PER_S: u64 = 100_000;

/// Packets a second, both ways: a heartbeat is two and its acknowledgement, a message about six.
const fn packets(context: &Context<'_>) -> u64 {
    let goal = context.goal;
    goal.connections / goal.heartbeat_s * 3 + goal.messages_per_s.saturating_mul(6)
}

/// The words for each card, or that there is none.
fn by_card(context: &Context<'_>, of: impl Fn(&Nic) -> String) -> String {
    let nics = &context.facts.nics;
    if nics.is_empty() {
        return "no card shown".to_owned();
    }
    nics.iter().map(|nic| format!("{} {}", nic.name, of(nic))).collect::<Vec<_>>().join(", ")
}

/// Whether packets are few, or all stay on this machine.
fn is_quiet(context: &Context<'_>) -> bool {
    context.goal.loopback || packets(context) < QUEUE_PACKETS_PER_S
}

pub(super) static QUEUES: Setting = Setting {
    key: "nic.queues",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "one core at 100 % in softirq while others are idle; rx_missed or rx_dropped of the \
              card grow",
    cost: "an interrupt and some memory a queue",
    reference: "Documentation/networking/scaling.rst, RSS",
    page: Page {
        what: "Queues that the card spreads arriving connections over (RSS), each with an \
               interrupt that one core serves.",
        when: "From about 100,000 packets a second on.",
        high: "More queues than cores are of no use.",
        measured: "ethtool -l DEVICE; /proc/interrupts; roost-tune watch shows softirq by core.",
    },
    wishes: &[],
    judge: |context| {
        let now =
            by_card(context, |nic| format!("{} in, {} out", nic.receive_queues, nic.send_queues));
        let cores = context.facts.cpus.count;
        let narrow = context.facts.nics.iter().find(|nic| {
            // A queue less than cores, as some drivers have, does not matter.
            nic.receive_queues.saturating_mul(4) < cores.saturating_mul(3)
        });
        match narrow {
            Some(nic) if !is_quiet(context) => {
                Judgement::new(State::Advised, now, format!("{cores} in"))
                    .bites(Bite::Always)
                    .remedy(format!(
                        "ethtool -L {} combined {cores}; a virtual machine may have to be started \
                         with more (virtio: queues=), or spread in software (nic.rps)",
                        nic.name
                    ))
            }
            _ => Judgement::fits(now, "enough for these packets"),
        }
    },
};

pub(super) static SPREAD: Setting = Setting {
    key: "nic.rps",
    reads: &["net.core.rps_sock_flow_entries"],
    scope: Scope::Hardware,
    symptom: "one core at 100 % in softirq while others are idle",
    cost: "an interrupt between cores for a packet; only worth it with fewer queues than cores",
    reference: "Documentation/networking/scaling.rst, RPS and RFS",
    page: Page {
        what: "Spreading packets over cores in software, when the card has fewer queues than \
               cores.",
        when: "Virtual machines with one queue.",
        high: "With a queue a core it only costs.",
        measured: "/sys/class/net/DEVICE/queues/rx-0/rps_cpus; the second column of \
                   /proc/net/softnet_stat must not grow with it.",
    },
    wishes: &[],
    judge: |context| {
        let now = by_card(context, |nic| {
            format!("{} of {} queues", nic.receive_queues_spread, nic.receive_queues)
        });
        let cores = context.facts.cpus.count;
        let is_narrow = |nic: &&Nic| {
            nic.receive_queues > 0
                && nic.receive_queues.saturating_mul(2) <= cores
                && nic.receive_queues_spread < nic.receive_queues
        };
        let Some(nic) = context.facts.nics.iter().find(is_narrow) else {
            return Judgement::fits(now, "none needed");
        };
        if is_quiet(context) {
            return Judgement::fits(now, "none for these packets");
        }
        let mut judged = Judgement::new(State::Advised, now, "all queues").bites(Bite::Always);
        for queue in 0..nic.receive_queues {
            let path = format!("/sys/class/net/{}/queues/rx-{queue}/rps_cpus", nic.name);
            judged = judged.change(Change::Sysfs { path, value: cpu_mask(cores) });
        }
        judged.remedy("every core may take packets of these queues")
    },
};

/// All processors as the kernel writes masks: groups of 32 bits with commas.
fn cpu_mask(cores: u32) -> String {
    let (full, rest) = (cores / 32, cores % 32);
    let mut groups: Vec<String> = Vec::new();
    if rest > 0 {
        groups.push(format!("{:x}", (1_u64 << rest) - 1));
    }
    groups.extend((0..full).map(|_| "ffffffff".to_owned()));
    groups.join(",")
}

pub(super) static SEND_PLACEMENT: Setting = Setting {
    key: "nic.xps",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "time in locks of send queues (perf: queued_spin_lock below dev_queue_xmit)",
    cost: "nothing once it is set",
    reference: "Documentation/networking/scaling.rst, XPS",
    page: Page {
        what: "Which core uses which send queue.",
        when: "Several send queues: each core should have its own. Drivers of today set it up.",
        high: "A mask with all cores for all queues is as if there were none.",
        measured: "/sys/class/net/DEVICE/queues/tx-0/xps_cpus.",
    },
    wishes: &[],
    judge: |context| {
        let now = by_card(context, |nic| {
            format!("{} of {} queues", nic.send_queues_placed, nic.send_queues)
        });
        let is_free = |nic: &&Nic| nic.send_queues > 1 && nic.send_queues_placed < nic.send_queues;
        match context.facts.nics.iter().find(is_free) {
            Some(nic) if !is_quiet(context) => Judgement::new(State::Advised, now, "all queues")
                .bites(Bite::Always)
                .remedy(format!("write one core's mask to each xps_cpus of {}", nic.name)),
            _ => Judgement::fits(now, "none needed"),
        }
    },
};

pub(super) static INTERRUPTS: Setting = Setting {
    key: "nic.interrupts",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "one core at 100 % in softirq though the card has many queues",
    cost: "none; irqbalance moves them by itself, which pinned shards do not like",
    reference: "Documentation/core-api/irq/irq-affinity.rst",
    page: Page {
        what: "Which cores serve the card's interrupts.",
        when: "Several queues whose interrupts all point at one core.",
        high: "Interrupts on another node than the card cross between them with every packet.",
        measured: "/proc/interrupts, /proc/irq/N/smp_affinity_list.",
    },
    wishes: &[],
    judge: |context| {
        let crowded = |nic: &&Nic| {
            let mut places = nic.interrupts.values();
            let first = places.next();
            nic.interrupts.len() > 2
                && first.is_some_and(|first| !first.contains(['-', ',']))
                && places.all(|place| Some(place) == first)
        };
        let now = by_card(context, |nic| format!("{} interrupts", nic.interrupts.len()));
        match context.facts.nics.iter().find(crowded) {
            Some(nic) if !is_quiet(context) => {
                Judgement::new(State::Advised, now, "spread over cores").bites(Bite::Always).remedy(
                    format!(
                        "all of {} are served by one core: start irqbalance, or write a core to \
                         each /proc/irq/N/smp_affinity_list",
                        nic.name
                    ),
                )
            }
            _ => Judgement::fits(now, "spread over cores"),
        }
    },
};

pub(super) static RING: Setting = Setting {
    key: "nic.ring",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "rx_missed_errors or rx_no_buffer of the card grow in storms; devices send again",
    cost: "2 KB a place; a longer queue when it is full",
    reference: "ethtool(8), -g and -G; Documentation/networking/ethtool-netlink.rst, RINGS_GET",
    page: Page {
        what: "Packets that the card may put into memory before the kernel takes them.",
        when: "Storms: 10,000 devices that come back in a moment send 30,000 packets.",
        high: "Packets wait in a long queue; caches are missed.",
        measured: "ethtool -S DEVICE. The loopback device has none.",
    },
    wishes: &[],
    judge: |context| {
        let words = |nic: &Nic| {
            nic.ring
                .map_or_else(|| "not shown".to_owned(), |(now, most)| format!("{now} of {most}"))
        };
        let now = by_card(context, words);
        let wanted = if context.goal.profile == Profile::Throughput { 4_096 } else { 1_024 };
        let is_short = |nic: &&Nic| nic.ring.is_some_and(|(now, most)| now < wanted.min(most));
        match context.facts.nics.iter().find(is_short) {
            Some(nic) if !context.goal.loopback => {
                let wanted = nic.ring.map_or(wanted, |(_, most)| wanted.min(most));
                Judgement::new(State::Advised, now, wanted.to_string())
                    .bites(Bite::Always)
                    .remedy(format!("ethtool -G {} rx {wanted}", nic.name))
            }
            _ => Judgement::fits(now, "any"),
        }
    },
};

pub(super) static COALESCING: Setting = Setting {
    key: "nic.coalescing",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "latency: every message waits so long; density: time in interrupts",
    cost: "fewer interrupts against a wait for each packet",
    reference: "ethtool(8), -c and -C",
    page: Page {
        what: "Microseconds for which the card holds an interrupt back to gather packets.",
        when: "Latencies below a millisecond, or cores that are busy with interrupts.",
        high: "Every message waits that long.",
        measured: "ethtool -c DEVICE, and roost-bench pairs over a real network. Not measured \
                   here.",
    },
    wishes: &[],
    judge: |context| {
        let words = |nic: &Nic| {
            nic.coalesce_us.map_or_else(|| "not shown".to_owned(), |us| format!("{us} us"))
        };
        let now = by_card(context, words);
        let is_late = |nic: &&Nic| nic.coalesce_us.is_some_and(|us| us > 25);
        match context.facts.nics.iter().find(is_late) {
            Some(nic) if context.goal.profile == Profile::Latency => {
                Judgement::new(State::Advised, now, "25 us or less")
                    .bites(Bite::Always)
                    .remedy(format!("ethtool -C {} rx-usecs 25 adaptive-rx off", nic.name))
            }
            _ => Judgement::fits(now, "any"),
        }
    },
};

pub(super) static SCHEDULER: Setting = Setting {
    key: "disk.scheduler",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "first ticks wait behind other reads and writes",
    cost: "none: fairness between programs, where several use the disk",
    reference: "Documentation/block/switching-sched.rst",
    page: Page {
        what: "Who orders requests before the disk does.",
        when: "Commits of the store are small and wait for the disk; virtual and flash disks order \
               for themselves.",
        high: "none on a turning disk: long seeks.",
        measured: "roost-bench prints fdatasync before each run. Not measured by scheduler.",
    },
    wishes: &[],
    judge: |context| {
        let disks = &context.facts.disks;
        let now = disks.iter().map(|disk| format!("{} {}", disk.name, disk.scheduler));
        let now = now.collect::<Vec<_>>().join(", ");
        let heavy = |disk: &&Disk| ["bfq", "cfq"].contains(&disk.scheduler.as_str());
        match disks.iter().find(heavy) {
            Some(disk) if !disk.is_rotational => {
                let path = format!("/sys/block/{}/queue/scheduler", disk.name);
                Judgement::new(State::Advised, now, "none or mq-deadline")
                    .bites(Bite::Always)
                    .change(Change::Sysfs { path, value: "none".to_owned() })
                    .remedy("commits do not wait for turns")
            }
            _ => Judgement::fits(now, "none or mq-deadline"),
        }
    },
};

pub(super) static WRITE_CACHE: Setting = Setting {
    key: "disk.write_cache",
    reads: &[],
    scope: Scope::Hardware,
    symptom: "write back without battery: a flush for each commit, 0.1 to 0.5 ms; write through: \
              no flush is sent, so the disk itself must be safe",
    cost: "none: the kernel flushes where it is needed",
    reference: "Documentation/block/writeback_cache_control.rst",
    page: Page {
        what: "Whether the disk says that it has a cache which loses its content without power.",
        when: "Write back: every commit ends with a flush, which is what durability costs. A disk \
               that lies with write through loses messages that were ticked.",
        high: "Forcing write through makes commits fast and untrue.",
        measured: "On this kind of machine a 4 KiB append with fdatasync took 0.20 to 0.25 ms at \
                   p50; each sync sent exactly one flush.",
    },
    wishes: &[],
    judge: |context| {
        let disks = &context.facts.disks;
        let now = disks.iter().map(|disk| format!("{} {}", disk.name, disk.write_cache));
        let now = now.collect::<Vec<_>>().join(", ");
        Judgement::fits(now, "as the disk truly is")
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_in_groups() {
        assert_eq!(cpu_mask(2), "3");
        assert_eq!(cpu_mask(32), "ffffffff");
        assert_eq!(cpu_mask(64), "ffffffff,ffffffff");
        assert_eq!(cpu_mask(36), "f,ffffffff");
    }
}
