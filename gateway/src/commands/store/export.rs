//! `roost store export`: records as lines of JSON, for backups, other tools and the curious.
//!
//! Numbers of 64 bits that are names (`stamp`) are decimal strings, as in `roost chat --json`.

use super::args::PlaceArgs;
use super::progress::Bar;
use super::{Finding, Site, StoreToolError, print};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roost_storage_engine::StreamId;
use roost_storage_engine::inspect::{FoundRecord, InspectError, export, total_bytes};
use serde::Serialize;
use std::io::{self, Write};

#[derive(Debug, Serialize)]
struct Line {
    stream: String,
    number: u64,
    seq: u64,
    stamp: String,
    kind: u8,
    snapshot: bool,
    body: String,
}

pub(super) fn run(
    place: &PlaceArgs,
    only: Option<StreamId>,
    bodies: bool,
    out: &mut impl Write,
) -> Result<Finding, StoreToolError> {
    let mut site = Site::open(place)?;
    let totals = total_bytes(&mut site.folder);
    let (segments, tables) = totals.map_err(|error| site.error(error))?;
    let bar = Bar::new(if only.is_none() { segments + tables } else { 0 });
    let mut failed = None;
    let mut give = |found: &FoundRecord| {
        let written = if bodies { out.write_all(&found.record.body) } else { line(found, out) };
        failed = written.err();
        failed.is_none()
    };
    let exported = export(&mut site.folder, only, &mut give, &mut |bytes| bar.add(bytes));
    bar.end();
    let exported = match (exported, failed) {
        (Err(InspectError::Stopped), Some(error)) => return Err(StoreToolError::Output(error)),
        (exported, _) => exported.map_err(|error| site.error(error))?,
    };
    // Standard output is the records' alone.
    let mut err = io::stderr().lock();
    for flaw in &exported.flaws {
        let told = if place.json {
            writeln!(err, "{}", print::flaw(flaw))
        } else {
            writeln!(err, "damaged, left out: {flaw}")
        };
        told.map_err(StoreToolError::Output)?;
    }
    Ok(if exported.flaws.is_empty() { Finding::Whole } else { Finding::Damaged })
}

fn line(found: &FoundRecord, out: &mut impl Write) -> io::Result<()> {
    let record = &found.record;
    let line = Line {
        stream: print::hex(found.stream),
        number: record.number,
        seq: record.seq,
        stamp: record.stamp.to_string(),
        kind: record.kind,
        snapshot: record.snapshot_start,
        body: STANDARD.encode(&record.body),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
