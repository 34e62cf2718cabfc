//! What holds a running gateway back at this moment, and what to do about it.

use crate::args::DoctorArgs;
use crate::clock::{now_ms, wait_ms};
use crate::error::Error;
use crate::facts::{Cgroup, Memory, UNLIMITED, limit_of, parse_meminfo};
use crate::root::Root;
use crate::settings::SPARE_BYTES;
use crate::text::{bytes, count, percent, wrap};
use crate::watch::{counter, descriptors, softirq_share};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Ticks of the kernel's clock in a second, as `/proc` counts: the same on all machines we know.
const TICKS_PER_S: u64 = 100;
/// Threads of a process that are looked at.
const THREADS_MAX: usize = 1_024;
/// Listeners come first in `/proc/PID/net/tcp`: so many bytes are enough for them.
const LISTENERS_MAX: usize = 256;

/// One look at a process.
#[derive(Debug, Clone, Default)]
struct Look {
    at_ms: u64,
    status: String,
    limits: String,
    netstat: String,
    snmp: String,
    stat: String,
    pressure_io: String,
    descriptors: u64,
    /// Name and ticks by thread.
    threads: BTreeMap<String, (String, u64)>,
    memory: Memory,
    group: Cgroup,
    /// Connections that wait to be accepted, most of any listener.
    waiting: u64,
    somaxconn: u64,
}

impl Look {
    fn read(root: &Root, pid: u32) -> Self {
        let of = |file: &str| root.text(&format!("/proc/{pid}/{file}")).unwrap_or_default();
        let threads = root.names(&format!("/proc/{pid}/task")).into_iter().take(THREADS_MAX);
        let threads = threads.filter_map(|thread| {
            let stat = of(&format!("task/{thread}/stat"));
            Some((thread, parse_thread(&stat)?))
        });
        Self {
            at_ms: now_ms(),
            status: of("status"),
            limits: of("limits"),
            netstat: of("net/netstat"),
            snmp: of("net/snmp"),
            stat: root.text("/proc/stat").unwrap_or_default(),
            pressure_io: root.text("/proc/pressure/io").unwrap_or_default(),
            descriptors: descriptors(root, pid),
            threads: threads.collect(),
            memory: parse_meminfo(&root.text("/proc/meminfo").unwrap_or_default()),
            group: Cgroup::read_of(root, &pid.to_string()),
            waiting: waiting(&of("net/tcp")).max(waiting(&of("net/tcp6"))),
            somaxconn: root.number("/proc/sys/net/core/somaxconn").unwrap_or(0),
        }
    }

    /// A number in `/proc/PID/status`.
    fn number(&self, name: &str) -> u64 {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    fn counter(&self, group: &str, name: &str) -> u64 {
        let text = if group == "Tcp" { &self.snmp } else { &self.netstat };
        counter(text, group, name).unwrap_or(0)
    }
}

/// Name and ticks of a thread; the name is in parentheses and may hold blanks.
fn parse_thread(stat: &str) -> Option<(String, u64)> {
    let (before, rest) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let mut words = rest.split_whitespace().skip(11);
    let user: u64 = words.next()?.parse().ok()?;
    let system: u64 = words.next()?.parse().ok()?;
    Some((name, user + system))
}

/// The longest accept queue in a table of sockets: state 0A listens.
fn waiting(table: &str) -> u64 {
    let queues = table.lines().skip(1).take(LISTENERS_MAX).filter_map(|line| {
        let mut words = line.split_whitespace().skip(3);
        (words.next()? == "0A").then_some(())?;
        let (_, waiting) = words.next()?.split_once(':')?;
        u64::from_str_radix(waiting, 16).ok()
    });
    queues.max().unwrap_or(0)
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Diagnosis {
    /// The setting, as in the table of `check`.
    setting: &'static str,
    what: String,
    remedy: &'static str,
}

/// All that was found, the worst first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Diagnoses {
    process: String,
    healthy: bool,
    found: Vec<Diagnosis>,
    /// How it is otherwise.
    state: Vec<String>,
}

/// Looks twice and says what was seen; whether nothing holds it back.
pub(crate) fn run(args: &DoctorArgs, out: &mut dyn Write) -> Result<bool, Error> {
    let root = Root::new(&args.root);
    let before = Look::read(&root, args.pid);
    if before.status.is_empty() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(Error::Process { pid: args.pid, source });
    }
    if root.is_real() {
        wait_ms(args.interval * 1_000);
    }
    let now = Look::read(&root, args.pid);
    if now.status.is_empty() {
        let source = io::Error::other("it ended meanwhile");
        return Err(Error::Process { pid: args.pid, source });
    }
    let diagnoses = diagnose(&before, &now);
    if args.json {
        let text = serde_json::to_string_pretty(&diagnoses).map_err(io::Error::other)?;
        writeln!(out, "{text}")?;
    } else {
        out.write_all(say(&diagnoses).as_bytes())?;
    }
    Ok(diagnoses.healthy)
}

fn diagnose(before: &Look, now: &Look) -> Diagnoses {
    let ms = now.at_ms.saturating_sub(before.at_ms).max(1);
    let soft = limit_of(&now.limits, "Max open files").map_or(UNLIMITED, |(soft, _)| soft);
    let (thread, busy) = busiest(before, now, ms);
    let mut found = Vec::new();
    found.extend(descriptors_of(now, soft));
    found.extend(memory_of(now));
    found.extend(network_of(before, now));
    found.extend(time_of(before, now, ms, &thread, busy));
    let name = now.status.lines().find_map(|line| line.strip_prefix("Name:"));
    Diagnoses {
        process: name.unwrap_or("?").trim().to_owned(),
        healthy: found.is_empty(),
        state: vec![
            format!("descriptors {} of {}", count(now.descriptors), count(soft)),
            format!("memory {}", bytes(now.number("VmRSS:") * 1_024)),
            format!("busiest thread {thread}: {}", percent(busy, 1_000)),
            format!("waiting to be accepted {}, of {}", count(now.waiting), count(now.somaxconn)),
        ],
        found,
    }
}

/// The thread with the most time, and its share in thousandths.
fn busiest(before: &Look, now: &Look, ms: u64) -> (String, u64) {
    let share = |(id, (name, ticks)): (&String, &(String, u64))| {
        let old = before.threads.get(id).map_or(*ticks, |(_, old)| *old);
        let used_ms = ticks.saturating_sub(old).saturating_mul(1_000) / TICKS_PER_S;
        (used_ms.saturating_mul(1_000) / ms, name.clone())
    };
    let most = now.threads.iter().map(share).max().unwrap_or_default();
    (most.1, most.0)
}

fn descriptors_of(now: &Look, soft: u64) -> Option<Diagnosis> {
    (now.descriptors.saturating_mul(100) >= soft.saturating_mul(95)).then(|| Diagnosis {
        setting: "RLIMIT_NOFILE",
        what: format!(
            "{} of {} descriptors are open: accept() fails with EMFILE, and Roost pauses accepting",
            count(now.descriptors),
            count(soft)
        ),
        remedy: "LimitNOFILE= in the unit, or io_uring, which needs none for sockets",
    })
}

fn memory_of(now: &Look) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    if let (Some(max), Some(room)) = (now.group.memory_max_bytes, now.group.memory_room_bytes())
        && room < max / 20
    {
        found.push(Diagnosis {
            setting: "cgroup.memory.max",
            what: format!(
                "the control group has {} left of {}: sockets fail with ENOMEM, or the kernel ends \
                 the process",
                bytes(room),
                bytes(max)
            ),
            remedy: "raise the container's limit; the kernel's part of each session counts in it",
        });
    }
    let room = now.memory.room_bytes();
    if now.memory.total_bytes > 0 && room < SPARE_BYTES {
        found.push(Diagnosis {
            setting: "memory",
            what: format!("{} are left on the machine", bytes(room)),
            remedy: "fewer sessions here: limits.connections_max; more machines: roost-tune plan",
        });
    }
    let swapped = now.number("VmSwap:") * 1_024;
    if swapped > 1 << 20 {
        found.push(Diagnosis {
            setting: "vm.swappiness",
            what: format!("{} of the process are on disk", bytes(swapped)),
            remedy: "swapoff -a when memory is enough, or vm.swappiness 1",
        });
    }
    found
}

fn network_of(before: &Look, now: &Look) -> Vec<Diagnosis> {
    let grown = |group: &str, name: &str| {
        now.counter(group, name).saturating_sub(before.counter(group, name))
    };
    let mut found = Vec::new();
    let overflows = grown("TcpExt", "ListenOverflows");
    if overflows > 0 || now.somaxconn > 0 && now.waiting >= now.somaxconn {
        found.push(Diagnosis {
            setting: "net.core.somaxconn",
            what: format!(
                "the accept queue is full: {} wait, {} were turned away just now",
                count(now.waiting),
                count(overflows)
            ),
            remedy: "the server accepts too slowly (see its core), or the queue is too short for \
                     the storm",
        });
    }
    let pressures = grown("TcpExt", "TCPMemoryPressures") + grown("TcpExt", "TCPAbortOnMemory");
    if pressures > 0 {
        found.push(Diagnosis {
            setting: "net.ipv4.tcp_mem",
            what: "buffers of sockets take more than tcp_mem allows: windows shrink".to_owned(),
            remedy: "readers that do not read, or a message to everybody at once; else raise it",
        });
    }
    let (again, sent) = (grown("Tcp", "RetransSegs"), grown("Tcp", "OutSegs"));
    if again >= 100 && again.saturating_mul(20) > sent {
        found.push(Diagnosis {
            setting: "nic.ring",
            what: format!("{} of what is sent is sent again", percent(again, sent.max(again))),
            remedy: "packets are lost: ethtool -S for the card's drops, softnet_stat for ours, \
                     else the network",
        });
    }
    found
}

fn time_of(before: &Look, now: &Look, ms: u64, thread: &str, busy: u64) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    if busy >= 900 {
        found.push(Diagnosis {
            setting: "cpu",
            what: format!("thread {thread} uses {} of its core", percent(busy, 1_000)),
            remedy: "more shards on more cores, a longer heartbeat interval, or fewer sessions",
        });
    }
    if let Some((core, share)) = softirq_share(&before.stat, &now.stat)
        && share >= 500
    {
        found.push(Diagnosis {
            setting: "nic.queues",
            what: format!("core {core} spends {} in softirq", percent(share, 1_000)),
            remedy: "more queues of the card, or RPS",
        });
    }
    let switches = |look: &Look| look.number("nonvoluntary_ctxt_switches:");
    let forced = switches(now).saturating_sub(switches(before)).saturating_mul(1_000) / ms;
    if forced > 500 {
        found.push(Diagnosis {
            setting: "cpu",
            what: format!("others took the core from it {} times a second", count(forced)),
            remedy: "keep other programs off the shards' cores",
        });
    }
    let stalled = now.pressure_io.lines().find_map(|line| {
        let average = line.strip_prefix("some avg10=")?;
        average.split('.').next()?.parse::<u64>().ok()
    });
    if stalled.is_some_and(|percent| percent >= 20) {
        found.push(Diagnosis {
            setting: "disk.scheduler",
            what: format!("programs waited for the disk {} % of the time", stalled.unwrap_or(0)),
            remedy: "a faster disk for the store, or fewer programs on it",
        });
    }
    found
}

fn say(diagnoses: &Diagnoses) -> String {
    let mut text = format!("{}: {}\n", diagnoses.process, diagnoses.state.join("; "));
    if diagnoses.healthy {
        text.push_str("nothing of the machine holds it back at this moment\n");
    }
    for (at, Diagnosis { setting, what, remedy }) in diagnoses.found.iter().enumerate() {
        put_line!(text, "{}. {setting}", at + 1);
        text.push_str(&wrap(what, 100, "   "));
        text.push_str(&wrap(&format!("do: {remedy}"), 100, "   "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;

    fn calm() -> Look {
        Look {
            status: "Name:\troost\nVmRSS:\t1000 kB\nVmSwap:\t0 kB\n".to_owned(),
            limits: "Max open files            1000                 1000                 files\n"
                .to_owned(),
            netstat: "TcpExt: ListenOverflows TCPMemoryPressures\nTcpExt: 5 0\n".to_owned(),
            snmp: "Tcp: OutSegs RetransSegs\nTcp: 1000 5\n".to_owned(),
            memory: Memory { total_bytes: 8 << 30, free_bytes: 4 << 30, ..Memory::default() },
            descriptors: 10,
            somaxconn: 4_096,
            ..Look::default()
        }
    }

    #[test]
    fn a_calm_process_is_healthy() {
        let diagnoses = diagnose(&calm(), &Look { at_ms: 1_000, ..calm() });
        assert!(diagnoses.healthy, "{diagnoses:?}");
        assert!(say(&diagnoses).starts_with("roost: descriptors 10 of 1,000"));
    }

    #[test]
    fn each_trouble_is_named_by_its_setting() {
        let thread = |ticks| BTreeMap::from([("7".to_owned(), ("shard 0".to_owned(), ticks))]);
        let before = Look { threads: thread(100), ..calm() };
        let group = Cgroup {
            version: 2,
            memory_max_bytes: Some(1 << 30),
            memory_used_bytes: (1 << 30) - 1,
            ..Cgroup::default()
        };
        let now = Look {
            at_ms: 1_000,
            threads: thread(198),
            descriptors: 990,
            netstat: "TcpExt: ListenOverflows TCPMemoryPressures\nTcpExt: 9 1\n".to_owned(),
            snmp: "Tcp: OutSegs RetransSegs\nTcp: 2000 505\n".to_owned(),
            memory: Memory { total_bytes: 8 << 30, free_bytes: 1 << 20, ..Memory::default() },
            pressure_io: "some avg10=42.10 avg60=1.00\n".to_owned(),
            status: "Name:\troost\nVmRSS:\t1000 kB\nVmSwap:\t9000 kB\n".to_owned(),
            group,
            ..calm()
        };
        let diagnoses = diagnose(&before, &now);
        let named: Vec<&str> = diagnoses.found.iter().map(|found| found.setting).collect();
        assert_eq!(
            named,
            [
                "RLIMIT_NOFILE",
                "cgroup.memory.max",
                "memory",
                "vm.swappiness",
                "net.core.somaxconn",
                "net.ipv4.tcp_mem",
                "nic.ring",
                "cpu",
                "disk.scheduler"
            ]
        );
        assert!(named.iter().all(|name| settings::find(name).is_some()));
    }

    #[test]
    fn threads_and_listeners_are_read() {
        let stat = "7 (shard (0) x) R 1 2 3 4 5 6 7 8 9 10 120 30 0 0";
        assert_eq!(parse_thread(stat), Some(("shard (0) x".to_owned(), 150)));
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   0: 0100007F:0FA0 \
                     00000000:0000 0A 00000000:0000002A 00:0\n   1: 0100007F:0FA0 0100007F:9999 01 \
                     00000000:000000FF 00:0\n";
        assert_eq!(waiting(table), 42);
    }
}
