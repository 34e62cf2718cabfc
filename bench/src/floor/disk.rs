//! The disk: one block flushed at a time, and groups of messages committed at once.

use super::{FloorFailure, Settings, clock};
use crate::latency::{Latency, histogram};
use crate::machine::FlushTime;
use crate::report::arithmetic::{ratio, round, whole};
use crate::stop;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// Messages committed together, and what one takes in a log.
const GROUPS: [u64; 3] = [16, 256, 4_096];
const MESSAGE_BYTES: u64 = 140;
/// Bytes of the file that groups are written over, round and round.
const FILE_BYTES: u64 = 64 << 20;

pub(super) fn measure(settings: &Settings) -> Result<Value, FloorFailure> {
    let flush = FlushTime::measure(&settings.folder)?;
    let path = settings.folder.join("groups");
    let mut file = File::create(&path)?;
    let piece = vec![0x5a; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    let mut groups = Map::new();
    for count in GROUPS {
        groups.insert(format!("group_of_{count}"), group(settings, &file, count)?);
    }
    Ok(json!({ "fdatasync_us": flush, "group_commit": groups }))
}

fn group(settings: &Settings, file: &File, count: u64) -> Result<Value, FloorFailure> {
    let bytes = count * MESSAGE_BYTES;
    let group = vec![0xa5; usize::try_from(bytes).unwrap_or_default()];
    let (mut times, mut at, mut commits) = (histogram(), 0, 0_u64);
    let started = clock();
    while (clock() - started) < settings.length / 2 && !stop::is_wanted() {
        let before = clock();
        file.write_all_at(&group, at)?;
        file.sync_data()?;
        let us = u64::try_from((clock() - before).as_micros()).unwrap_or(u64::MAX);
        times.saturating_record(us);
        commits += 1;
        at += bytes;
        if at + bytes > FILE_BYTES {
            at = 0;
        }
    }
    let messages = ratio(whole(commits * count), (clock() - started).as_secs_f64());
    Ok(json!({ "messages_per_s": round(messages), "commit_us": Latency::of(&times) }))
}
