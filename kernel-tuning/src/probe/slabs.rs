//! What the kernel's caches grew by, and what of it belongs to connections.
//!
//! Other programs make the kernel allocate meanwhile. Caches of files, processes and blocks never
//! belong to a connection and are left out. Whoever lists `/proc/PID/fd` leaves an inode of proc,
//! with its directory entry, for each descriptor: they are left out, too, and the kernel gives them
//! back when it needs memory.

use crate::cost::Measured;
use crate::facts::{SlabShape, pages_to_bytes};
use std::collections::BTreeMap;

pub(super) type Slabs = BTreeMap<String, SlabShape>;

/// Beginnings of the names of caches that connections do not use.
const OTHERS: [&str; 33] = [
    "ext4_",
    "jbd2_",
    "xfs_",
    "btrfs_",
    "buffer_head",
    "radix_tree",
    "xarray",
    "shmem_",
    "kernfs_",
    "proc_",
    "pde_",
    "inode_cache",
    "vm_area",
    "vma_lock",
    "maple_node",
    "anon_vma",
    "mm_struct",
    "task_",
    "signal_cache",
    "sighand",
    "files_cache",
    "fs_cache",
    "cred_jar",
    "pid",
    "names_cache",
    "bio",
    "blkdev_",
    "zs_handle",
    "fsnotify",
    "dax_",
    "io_kiocb",
    "seq_file",
    "debug_objects",
];
/// eventpoll_pwq is merged with this one on kernels that merge caches of one size.
const WATCH_CACHES: [&str; 2] = ["anon_vma_chain", "eventpoll_pwq"];
/// What somebody leaves who lists descriptors.
const LISTED: &str = "proc_inode_cache";
const WITH_EACH_LISTED: [&str; 2] = ["dentry", "lsm_inode_cache"];
/// Thousandths of an object a pair that are taken for noise.
const NOISE_MILLI: u64 = 15;
/// Objects come whole: a number so near to a whole one is meant to be it.
const WHOLE_MILLI: u64 = 80;

fn is_of_connections(name: &str, watched: bool) -> bool {
    if watched && WATCH_CACHES.contains(&name) {
        return true;
    }
    !OTHERS.iter().any(|other| name.starts_with(other))
}

fn grown_objects(from: &Slabs, to: &Slabs, name: &str) -> u64 {
    let of = |slabs: &Slabs| slabs.get(name).map_or(0, |slab| slab.objects);
    of(to).saturating_sub(of(from))
}

/// Objects of a cache that connections made.
fn objects(from: &Slabs, to: &Slabs, name: &str) -> u64 {
    let grown = grown_objects(from, to, name);
    if WITH_EACH_LISTED.contains(&name) {
        return grown.saturating_sub(grown_objects(from, to, LISTED));
    }
    grown
}

/// Bytes of all that connections made, by cache; and what others did meanwhile.
pub(super) fn grown(from: &Slabs, to: &Slabs, watched: bool) -> (BTreeMap<String, u64>, u64) {
    let mut others = 0;
    let mut of_connections = BTreeMap::new();
    for (name, shape) in to {
        let before = from.get(name).copied().unwrap_or_default();
        let all = shape.bytes().saturating_sub(before.bytes());
        let bytes = if is_of_connections(name, watched) {
            if WITH_EACH_LISTED.contains(&name.as_str()) {
                bytes_of(shape, objects(from, to, name))
            } else {
                all
            }
        } else {
            0
        };
        others += all.saturating_sub(bytes);
        if bytes > 0 {
            of_connections.insert(name.clone(), bytes);
        }
    }
    (of_connections, others)
}

/// Bytes of objects with their part of what a slab loses.
fn bytes_of(shape: &SlabShape, objects: u64) -> u64 {
    let slab = pages_to_bytes(shape.pages_per_slab);
    objects.saturating_mul(slab) / shape.objects_per_slab.max(1)
}

/// Bytes of one pair, from what was there at two numbers of pairs: whatever does not grow with them
/// falls out. Caches that grow by less than noise are left out.
pub(super) fn measure(
    kernel: &str,
    watched: bool,
    (from, pairs_from): (&Slabs, u64),
    (to, pairs_to): (&Slabs, u64),
) -> Measured {
    let pairs = pairs_to.saturating_sub(pairs_from).max(1);
    let mut pair_millibytes = BTreeMap::new();
    for (name, shape) in to.iter().filter(|(name, _)| is_of_connections(name, watched)) {
        let milli = objects(from, to, name).saturating_mul(1_000) / pairs;
        let whole = (milli + 500) / 1_000 * 1_000;
        let milli = if whole > 0 && milli.abs_diff(whole) <= WHOLE_MILLI { whole } else { milli };
        if milli >= NOISE_MILLI {
            pair_millibytes.insert(name.clone(), bytes_of(shape, milli));
        }
    }
    Measured { kernel: kernel.to_owned(), pairs: pairs_to, watched, pair_millibytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(objects: u64, object_bytes: u64, objects_per_slab: u64, pages: u64) -> SlabShape {
        let slabs = objects.div_ceil(objects_per_slab);
        SlabShape { objects, object_bytes, objects_per_slab, pages_per_slab: pages, slabs }
    }

    fn slabs(pairs: u64, listed: u64) -> Slabs {
        let of = |name: &str, shape| (name.to_owned(), shape);
        BTreeMap::from([
            of("TCP", shape(300 + pairs * 2, 2_368, 13, 8)),
            of("dentry", shape(80_000 + pairs * 2 + listed, 192, 21, 1)),
            of("proc_inode_cache", shape(100 + listed, 696, 23, 4)),
            of("kmalloc-128", shape(5_000 + pairs / 3, 128, 32, 1)),
            of("kmalloc-64", shape(5_000 + pairs / 1_000, 64, 64, 1)),
            of("ext4_inode_cache", shape(pairs * 7, 1_000, 16, 4)),
        ])
    }

    #[test]
    fn a_pair_is_what_grows_with_pairs() {
        let (early, late) = (slabs(2_000, 0), slabs(10_000, 5_000));
        let measured = measure("k", false, (&early, 2_000), (&late, 10_000));
        let names: Vec<&str> = measured.pair_millibytes.keys().map(String::as_str).collect();
        assert_eq!(names, ["TCP", "dentry", "kmalloc-128"]);
        // Two sockets, thirteen of which take 32 KiB.
        assert_eq!(measured.pair_millibytes["TCP"], 2_000 * 32_768 / 13);
        assert_eq!(measured.pair_millibytes["dentry"], 2_000 * 4_096 / 21);
        assert_eq!(measured.predict(1_000)["kmalloc-128"] / 1_000, 42);
    }

    #[test]
    fn what_others_did_is_told_apart() {
        let (before, after) = (slabs(0, 0), slabs(20_000, 9_000));
        let (of_connections, others) = grown(&before, &after, false);
        assert!(!of_connections.contains_key("ext4_inode_cache"));
        let predicted = measure("k", false, (&slabs(2_000, 0), 2_000), (&slabs(10_000, 0), 10_000));
        let predicted: u64 = predicted.predict(20_000).values().sum();
        let measured: u64 = of_connections.values().sum();
        assert!(predicted.abs_diff(measured) * 50 < measured, "{predicted} {measured}");
        assert!(others > 140_000 * 1_000);
    }
}
