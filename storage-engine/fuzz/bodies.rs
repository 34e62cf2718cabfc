//! What the fuzz target does with a piece of input; `tests/it/hostile.rs` runs the same.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use roost_storage_engine::inspect::{RepairSettings, Watched, export, repair, stats, verify};
use roost_storage_engine::{
    NewRecord, OpenSettings, Query, Settings, SimDisk, Store, StoreEvent, StreamId, open,
};

const STREAMS: u8 = 4;

fn settings() -> OpenSettings {
    let settings = Settings {
        segment_bytes: 8 << 10,
        first_segment_bytes: 8 << 10,
        batch_max_bytes: 32 << 10,
        tables_a_stream_max: 2,
        reserve_bytes: 0,
        ..Settings::DEFAULT
    };
    OpenSettings { shards: 1, settings, fresh_incarnation: 7 }
}

fn stream(number: u8) -> StreamId {
    StreamId(u128::from(number) << 118 | u128::from(number))
}

/// Batches and answers until nothing is left to do, or long enough.
fn settle(store: &mut Store, disk: &mut SimDisk, events: &mut Vec<StoreEvent>) {
    let mut ops = Vec::new();
    for _ in 0..1000 {
        store.end_batch(1, &mut ops);
        store.take_ready(events);
        for op in ops.drain(..) {
            disk.submit(0, op);
        }
        if disk.pending().is_empty() {
            return;
        }
        while !disk.pending().is_empty() {
            let (_shard, done) = disk.complete(0, &mut |_| 0);
            store.handle(done, events, &mut ops);
            for op in ops.drain(..) {
                disk.submit(0, op);
            }
        }
    }
}

/// The files of a store with segments, tables, marks and snapshots, whole.
fn whole() -> &'static BTreeMap<String, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut disk = SimDisk::new();
        let opened = open(&mut disk, &settings()).expect("an empty folder opens");
        disk.attach(opened.keeper, 1);
        let mut stores = opened.stores;
        let store = &mut stores[0];
        let mut events = Vec::new();
        for turn in 0..120_u64 {
            let number = turn / u64::from(STREAMS) + 1;
            let snapshot_start = number == 9;
            let record = NewRecord {
                stream: stream((turn % u64::from(STREAMS)) as u8),
                number,
                seq: if snapshot_start { 0 } else { number },
                stamp: turn,
                kind: 1,
                snapshot_start,
                body: &[&[turn as u8; 150], b" and some more"],
            };
            store.append(&record).expect("there is room");
            if turn == 60 {
                store.trim(stream(1), 4).expect("there is room");
            }
            if turn % 5 == 0 {
                settle(store, &mut disk, &mut events);
            }
        }
        settle(store, &mut disk, &mut events);
        let files = disk.names();
        files
            .into_iter()
            .map(|name| {
                let bytes = disk.content(&name).unwrap_or_default().to_vec();
                (name, bytes)
            })
            .collect()
    })
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    (sum as u32).to_le_bytes()
}

/// Makes checksums right again, so that what is behind them is reached.
fn resum(name: &str, bytes: &mut [u8]) {
    let whole = bytes.len();
    let mut sum = |from: usize, to: usize| {
        if from + 4 <= to && to <= whole {
            let right = crc(&bytes[from + 4..to]);
            bytes[from..from + 4].copy_from_slice(&right);
        }
    };
    if name == "catalogue" {
        sum(0, whole);
    } else if name.ends_with(".table") && whole > 4096 {
        sum(0, 64);
        let footer = whole - 4096;
        let end = u64::from_le_bytes(bytes[footer + 48..footer + 56].try_into().expect("eight"));
        let root = u32::from_le_bytes(bytes[footer + 100..footer + 104].try_into().expect("four"));
        let range = usize::try_from(end)
            .ok()
            .and_then(|end| Some(end..end.checked_add(usize::try_from(root).ok()?)?));
        if let Some(root) = range.and_then(|range| bytes.get(range)) {
            let right = crc(root);
            bytes[footer + 104..footer + 108].copy_from_slice(&right);
        }
        let right = crc(&bytes[footer + 4..]);
        bytes[footer..footer + 4].copy_from_slice(&right);
        resum_pages(bytes, footer);
    } else if whole >= 512 {
        sum(0, 512);
    }
}

fn number(bytes: Option<&[u8]>) -> Option<usize> {
    let bytes = bytes?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
}

/// The checksums of the pages' directories, and of the heads of the chunks that they name.
fn resum_pages(bytes: &mut [u8], footer: usize) {
    let keys_at = number(bytes.get(footer + 48..footer + 56)).unwrap_or(0);
    let pages = number(bytes.get(footer + 96..footer + 100)).unwrap_or(0).min(100);
    let (stream, place) = (usize::from(bytes[footer + 109]), usize::from(bytes[footer + 110]));
    for page in 0..pages {
        let from = keys_at.saturating_add(page * (stream + place + 1) + stream);
        let to = from.saturating_add(place.min(7));
        let Some(at) = number(bytes.get(from..to)).filter(|&at| at < footer) else { return };
        let streams = number(bytes.get(at + 8..at + 10)).unwrap_or(0);
        let begins: Vec<usize> = (0..streams)
            .map_while(|one| number(bytes.get(at + 12 + one * 2..)?.get(..2)))
            .collect();
        let Some(directory) = bytes.get_mut(at..at + 12 + begins.len() * 2) else { return };
        let mask = ((at ^ at >> 32) as u32).wrapping_mul(0x9e37_79b1);
        let sum = u32::from_le_bytes(crc(&directory[4..])) ^ mask;
        directory[..4].copy_from_slice(&sum.to_le_bytes());
        for begin in begins {
            let head_bytes = number(bytes.get(at + begin + 4..).and_then(|rest| rest.get(..2)));
            let head = head_bytes.and_then(|head| bytes.get_mut(at + begin..)?.get_mut(..head));
            if let Some(head) = head.filter(|head| head.len() > 4) {
                let right = crc(&head[4..]);
                head[..4].copy_from_slice(&right);
            }
        }
    }
}

/// Overwrites, cuts and makes longer what the input says, and makes some checksums right.
fn damaged(mut input: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = whole().clone();
    let names: Vec<String> = files.keys().cloned().collect();
    while let [what, file, a, b, c, length, rest @ ..] = input {
        let name = &names[usize::from(*file) % names.len()];
        let bytes = files.get_mut(name).expect("a name of the list");
        let at = u32::from_le_bytes([*a, *b, *c, 0]) as usize % (bytes.len() + 64);
        let (patch, behind) = rest.split_at(usize::from(*length).min(rest.len()));
        input = behind;
        match what % 8 {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(patch),
            _ => {
                for (place, byte) in bytes.iter_mut().skip(at).zip(patch) {
                    *place = *byte;
                }
            }
        }
        if what & 0x80 != 0 {
            resum(name, bytes);
        }
    }
    files
}

fn disk_of(files: &BTreeMap<String, Vec<u8>>) -> SimDisk {
    let mut disk = SimDisk::new();
    for (name, bytes) in files {
        disk.put_file(name, bytes);
    }
    disk
}

/// Opens a damaged folder, reads everything in every way, merges, looks from outside, repairs.
/// Nothing may panic, hang, or take memory that a damaged length claims.
pub(crate) fn folder(input: &[u8]) {
    let files = damaged(input);
    let mut disk = disk_of(&files);
    if let Ok(opened) = open(&mut disk, &settings()) {
        disk.attach(opened.keeper, 1);
        let mut stores = opened.stores;
        let store = &mut stores[0];
        let mut events = Vec::new();
        store.seal_old();
        settle(store, &mut disk, &mut events);
        for number in 0..STREAMS {
            let stream = stream(number);
            let (seq, limit, max_bytes) = (12, 5, 600);
            for query in [
                Query::Load { stream },
                Query::LoadWithRecent { stream },
                Query::Replay { stream },
                Query::Before { stream, seq, limit, max_bytes },
                Query::After { stream, seq, limit, max_bytes },
            ] {
                let mut ops = Vec::new();
                let id = store.read(query, &mut ops);
                for op in ops {
                    disk.submit(0, op);
                }
                settle(store, &mut disk, &mut events);
                let answered = events
                    .iter()
                    .any(|event| matches!(event, StoreEvent::Read { id: of, .. } if *of == id));
                assert!(answered, "every read is answered");
            }
        }
        if let Some(mut keeper) = disk.detach() {
            drop(keeper.compact(&mut disk, &mut |_| ()));
        }
    }
    let mut disk = disk_of(&files);
    drop(verify(&mut Watched(&mut disk), &mut |_| ()));
    drop(stats(&mut Watched(&mut disk), &mut |_| ()));
    drop(export(&mut Watched(&mut disk), None, &mut |_| true, &mut |_| ()));
    let settings = RepairSettings { fresh_incarnation: 5, dry: false, cut_at_holes: true };
    drop(repair(&mut disk, settings, &mut |_| ()));
}
