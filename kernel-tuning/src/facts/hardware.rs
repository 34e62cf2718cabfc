//! Processors, network cards and disks, as `/sys` shows them.

use crate::root::Root;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Cards and disks, at most.
const DEVICES_MAX: usize = 64;
/// Queues of a card, at most.
const QUEUES_MAX: usize = 1_024;

/// Processors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cpus {
    pub count: u32,
    pub model: String,
    /// How they choose their speed; absent where the host chooses.
    pub governor: Option<String>,
}

impl Cpus {
    pub(super) fn read(root: &Root) -> Self {
        let info = root.text("/proc/cpuinfo").unwrap_or_default();
        let count = info.lines().filter(|line| line.starts_with("processor")).count();
        let model = info.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
        let governor = root.word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        Self { count, model: model.trim().to_owned(), governor }
    }
}

/// A network card with a device behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Nic {
    pub name: String,
    pub driver: String,
    pub receive_queues: u32,
    pub send_queues: u32,
    /// Receive queues whose packets are spread over processors by software (RPS).
    pub receive_queues_spread: u32,
    /// Send queues that belong to certain processors (XPS).
    pub send_queues_placed: u32,
    /// Interrupts of the card by the processors that may take them.
    pub interrupts: BTreeMap<String, String>,
    /// Places in its receive ring now and at most; absent where the driver does not say.
    pub ring: Option<(u32, u32)>,
    /// Microseconds that interrupts are held back to gather packets; absent likewise.
    pub coalesce_us: Option<u32>,
    /// The node whose memory is near it; -1: does not matter.
    pub node: i32,
}

impl Nic {
    pub(super) fn read_all(root: &Root) -> Vec<Self> {
        let names = root.names("/sys/class/net").into_iter().take(DEVICES_MAX);
        let names = names.filter(|name| root.exists(&format!("/sys/class/net/{name}/device")));
        names.map(|name| Self::read(root, name)).collect()
    }

    fn read(root: &Root, name: String) -> Self {
        let top = format!("/sys/class/net/{name}");
        let queues: Vec<String> =
            root.names(&format!("{top}/queues")).into_iter().take(QUEUES_MAX).collect();
        let count = |start: &str, mask: Option<&str>| {
            let of_kind = queues.iter().filter(|queue| queue.starts_with(start));
            let counted = of_kind.filter(|queue| {
                let Some(mask) = mask else { return true };
                let mask = root.word(&format!("{top}/queues/{queue}/{mask}")).unwrap_or_default();
                mask.bytes().any(|b| b.is_ascii_hexdigit() && b != b'0')
            });
            u32::try_from(counted.count()).unwrap_or(u32::MAX)
        };
        let driver = root.link(&format!("{top}/device/driver"));
        let driver = driver.and_then(|path| Some(path.rsplit('/').next()?.to_owned()));
        let node = root.word(&format!("{top}/device/numa_node"));
        Self {
            receive_queues: count("rx-", None),
            send_queues: count("tx-", None),
            receive_queues_spread: count("rx-", Some("rps_cpus")),
            send_queues_placed: count("tx-", Some("xps_cpus")),
            interrupts: interrupts(root, &top, &name),
            driver: driver.unwrap_or_default(),
            node: node.and_then(|word| word.parse().ok()).unwrap_or(-1),
            ring: None,
            coalesce_us: None,
            name,
        }
    }
}

/// Interrupts of a card: those of its device, else those that carry its name.
fn interrupts(root: &Root, top: &str, name: &str) -> BTreeMap<String, String> {
    let mut numbers = root.names(&format!("{top}/device/msi_irqs"));
    if numbers.is_empty() {
        let device = root.link(&format!("{top}/device")).unwrap_or_default();
        let device = device.rsplit('/').next().unwrap_or(name).to_owned();
        let table = root.text("/proc/interrupts").unwrap_or_default();
        let of_card = table.lines().filter(|line| {
            let label = line.split_whitespace().last().unwrap_or_default();
            label.starts_with(name) || !device.is_empty() && label.starts_with(&device)
        });
        let number = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
        numbers = of_card.filter_map(number).collect();
    }
    let affinity = |number: String| {
        let cpus = root.word(&format!("/proc/irq/{number}/smp_affinity_list"))?;
        Some((number, cpus))
    };
    numbers.into_iter().take(QUEUES_MAX).filter_map(affinity).collect()
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Disk {
    pub name: String,
    /// The scheduler in use.
    pub scheduler: String,
    /// `write back` or `write through`.
    pub write_cache: String,
    pub is_rotational: bool,
}

impl Disk {
    pub(super) fn read_all(root: &Root) -> Vec<Self> {
        let names = root.names("/sys/block").into_iter();
        let real =
            |name: &String| !["loop", "ram", "zram", "dm-"].iter().any(|p| name.starts_with(p));
        names.filter(real).take(DEVICES_MAX).map(|name| Self::read(root, name)).collect()
    }

    fn read(root: &Root, name: String) -> Self {
        let of = |file: &str| root.word(&format!("/sys/block/{name}/queue/{file}"));
        let scheduler = of("scheduler").unwrap_or_default();
        let chosen = scheduler.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let scheduler = chosen.map_or(scheduler.as_str(), |(chosen, _)| chosen).to_owned();
        Self {
            scheduler,
            write_cache: of("write_cache").unwrap_or_default(),
            is_rotational: of("rotational").as_deref() == Some("1"),
            name,
        }
    }
}
