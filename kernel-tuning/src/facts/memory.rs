//! Memory of the machine, and how the kernel lays out the objects that connections are made of.

use crate::root::Root;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of a page. Other sizes than that of x86-64 are not known to us: arm64 kernels of
/// distributions use it, too.
pub(crate) const PAGE_BYTES: u64 = 4096;

pub(crate) const fn pages_to_bytes(pages: u64) -> u64 {
    pages.saturating_mul(PAGE_BYTES)
}

/// Bytes, as `/proc/meminfo` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// Pages of files, which the kernel gives away when they are needed.
    pub file_bytes: u64,
    pub swap_bytes: u64,
    pub slab_bytes: u64,
    /// Nodes with memory of their own.
    pub nodes: u32,
}

impl Memory {
    pub(super) fn read(root: &Root) -> Self {
        let text = root.text("/proc/meminfo").unwrap_or_default();
        let nodes = root.names("/sys/devices/system/node");
        let is_node = |name: &&String| {
            let number = name.strip_prefix("node");
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        let nodes = u32::try_from(nodes.iter().filter(is_node).count()).unwrap_or(u32::MAX);
        Self { nodes: nodes.max(1), ..parse_meminfo(&text) }
    }

    /// What connections may take: `MemAvailable` is not it, since it counts the inodes and
    /// directory entries of sockets, which are pinned, as if they could be given back.
    pub(crate) const fn room_bytes(&self) -> u64 {
        self.free_bytes.saturating_add(self.file_bytes)
    }
}

/// `/proc/meminfo`; what it lacks is nothing.
pub(crate) fn parse_meminfo(text: &str) -> Memory {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0).saturating_mul(1024)
    };
    Memory {
        total_bytes: bytes("MemTotal:"),
        free_bytes: bytes("MemFree:"),
        file_bytes: bytes("Active(file):").saturating_add(bytes("Inactive(file):")),
        swap_bytes: bytes("SwapTotal:"),
        slab_bytes: bytes("Slab:"),
        nodes: 1,
    }
}

/// One cache of `/proc/slabinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SlabShape {
    /// Objects that there is room for.
    pub objects: u64,
    pub object_bytes: u64,
    pub objects_per_slab: u64,
    pub pages_per_slab: u64,
    pub slabs: u64,
}

impl SlabShape {
    /// All its memory, with what is lost between objects.
    pub(crate) const fn bytes(&self) -> u64 {
        pages_to_bytes(self.pages_per_slab.saturating_mul(self.slabs))
    }
}

/// Caches by their names; only root may read them.
pub(crate) fn parse_slabs(text: &str) -> BTreeMap<String, SlabShape> {
    text.lines().filter_map(parse_slab).collect()
}

fn parse_slab(line: &str) -> Option<(String, SlabShape)> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let [_active, objects, object_bytes, objects_per_slab, pages_per_slab]: [u64; 5] = {
        let mut numbers = words.by_ref().map(|word| word.parse().ok());
        [numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??]
    };
    let mut rest = words.skip_while(|word| *word != "slabdata").skip(2);
    let slabs = rest.next()?.parse().ok()?;
    Some((name, SlabShape { objects, object_bytes, objects_per_slab, pages_per_slab, slabs }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_counted_whole() {
        let text = "slabinfo - version: 2.1\n# name            <active_objs> ...\n\
                    TCP                20118  20163   2368   13    8 : tunables    0    0    0 : \
                    slabdata   1551   1551      0\n";
        let slabs = parse_slabs(text);
        assert_eq!(slabs.len(), 1);
        let tcp = slabs["TCP"];
        assert_eq!((tcp.objects, tcp.object_bytes, tcp.slabs), (20_163, 2_368, 1_551));
        assert_eq!(tcp.bytes(), 1_551 * 32_768);
    }

    #[test]
    fn room_is_what_is_free_and_what_files_hold() {
        let text = "MemTotal: 24684084 kB\nMemFree: 1000 kB\nActive(file): 20 kB\n\
                    Inactive(file): 4 kB\nMemAvailable: 99999999 kB\n";
        let memory = parse_meminfo(text);
        assert_eq!(memory.room_bytes(), 1_024 * 1024);
        assert_eq!(memory.swap_bytes, 0);
    }
}
