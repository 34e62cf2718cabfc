//! `roost store inspect`.

use super::args::PlaceArgs;
use super::progress::Bar;
use super::{Finding, Site, StoreToolError, print, print_json};
use roost_storage_engine::StreamId;
use roost_storage_engine::inspect::{
    Flaw, SegmentFacts, StoreFacts, StreamPart, TableFacts, inspect, inspect_stream, total_bytes,
};
use serde_json::{Value, json};
use std::io::{self, Write};

/// The store as a whole.
pub(super) fn all(place: &PlaceArgs, out: &mut impl Write) -> Result<Finding, StoreToolError> {
    let mut site = Site::open(place)?;
    let bar = bar(&mut site)?;
    let facts = inspect(&mut site.folder, &mut |bytes| bar.add(bytes));
    bar.end();
    let facts = facts.map_err(|error| site.error(error))?;
    if place.json {
        print_json(out, site.facts(), as_json(&facts))?;
    } else {
        text(&site, &facts, out).map_err(StoreToolError::Output)?;
    }
    Ok(finding(&facts.flaws))
}

/// One stream, file by file.
pub(super) fn stream(
    place: &PlaceArgs,
    stream: StreamId,
    out: &mut impl Write,
) -> Result<Finding, StoreToolError> {
    let mut site = Site::open(place)?;
    let bar = bar(&mut site)?;
    let found = inspect_stream(&mut site.folder, stream, &mut |bytes| bar.add(bytes));
    bar.end();
    let (parts, flaws) = found.map_err(|error| site.error(error))?;
    if place.json {
        let parts: Vec<Value> = parts.iter().map(part_json).collect();
        let more = json!({
            "stream": print::hex(stream),
            "files": parts,
            "damage": print::flaws(&flaws),
        });
        print_json(out, site.facts(), more)?;
    } else {
        writeln!(out, "{}\nstream {}", site.title(), print::hex(stream))
            .and_then(|()| stream_text(&parts, &flaws, out))
            .map_err(StoreToolError::Output)?;
    }
    Ok(finding(&flaws))
}

fn bar(site: &mut Site) -> Result<Bar, StoreToolError> {
    let (segments, _tables) = total_bytes(&mut site.folder).map_err(|error| site.error(error))?;
    Ok(Bar::new(segments))
}

fn finding(flaws: &[Flaw]) -> Finding {
    if flaws.is_empty() { Finding::Whole } else { Finding::Damaged }
}

fn as_json(facts: &StoreFacts) -> Value {
    let named = |files: &[(String, u64)]| -> Vec<Value> {
        files.iter().map(|(file, bytes)| json!({ "file": file, "bytes": bytes })).collect()
    };
    let cuts = facts.cuts.iter().map(|(id, end)| json!({ "segment": id.to_string(), "end": end }));
    let ids = |ids: &[roost_storage_engine::SegmentId]| -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    };
    json!({
        "run": facts.run,
        "incarnation": facts.incarnation.to_string(),
        "clean": facts.clean,
        "interval": facts.interval,
        "max_stamp": facts.max_stamp.to_string(),
        "retained_from": facts.retained_from.to_string(),
        "last_table": facts.last_table,
        "last_sealing": facts.last_sealing,
        "cuts": cuts.collect::<Vec<_>>(),
        "voided": ids(&facts.voided),
        "absorbed": ids(&facts.absorbed),
        "segments": facts.segments.iter().map(segment_json).collect::<Vec<_>>(),
        "tables": facts.tables.iter().map(table_json).collect::<Vec<_>>(),
        "spares": named(&facts.spares),
        "reserve_bytes": facts.reserve_bytes,
        "leftovers": named(&facts.leftovers),
        "damage": print::flaws(&facts.flaws),
    })
}

fn segment_json(one: &SegmentFacts) -> Value {
    json!({
        "file": one.file,
        "id": one.id.to_string(),
        "run": one.id.run(),
        "shard": one.id.shard(),
        "ordinal": one.id.ordinal(),
        "state": one.state.word(),
        "bytes": one.bytes,
        "end": one.end,
        "records": one.records,
        "streams": one.streams,
        "commits": one.commits,
        "damaged_at": one.damaged,
    })
}

fn table_json(one: &TableFacts) -> Value {
    let root = one.root.map(|root| {
        json!({
            "low": root.low,
            "high": root.high,
            "streams": root.streams,
            "records": root.records,
            "marks": root.marks,
            "min_stamp": root.min_stamp.to_string(),
            "max_stamp": root.max_stamp.to_string(),
            "partitions": root.partitions,
            "memory_bytes": root.memory_bytes,
        })
    });
    json!({ "file": one.file, "id": one.id.to_string(), "bytes": one.bytes, "root": root })
}

fn part_json(part: &StreamPart) -> Value {
    let records = part.records.iter().map(|one| {
        json!({
            "offset": one.offset,
            "number": one.number,
            "seq": one.seq,
            "stamp": one.stamp.to_string(),
            "kind": one.kind,
            "role": one.role,
            "body_bytes": one.body_bytes,
        })
    });
    let line = part.line.map(|line| {
        json!({
            "offset": line.offset,
            "bytes": line.bytes,
            "chunks": line.chunks,
            "floor": line.floor,
            "deletes": line.deletes,
        })
    });
    json!({ "file": part.file, "line": line, "records": records.collect::<Vec<_>>() })
}

fn text(site: &Site, facts: &StoreFacts, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", site.title())?;
    let end = if facts.clean { "stopped cleanly" } else { "not stopped cleanly, or running" };
    let mode = if facts.interval { ", interval" } else { "" };
    writeln!(out, "run {}, {end}{mode}; incarnation {}", facts.run, facts.incarnation)?;
    let (tables, sealings) = (facts.last_table, facts.last_sealing);
    writeln!(out, "{tables} tables and {sealings} sealings so far")?;
    let rows: Vec<Vec<String>> = facts.segments.iter().map(segment_row).collect();
    let head =
        ["segment", "run", "shard", "state", "bytes", "end", "records", "streams", "commits"];
    print_table(out, "segments", &head, &rows)?;
    let rows: Vec<Vec<String>> = facts.tables.iter().map(table_row).collect();
    let head =
        ["table", "sealings", "bytes", "records", "streams", "marks", "stamps", "partitions"];
    print_table(out, "tables, oldest first", &head, &rows)?;
    if !facts.cuts.is_empty() {
        let cuts = facts.cuts.iter().map(|(id, end)| format!("{id} at {end}"));
        writeln!(out, "cut: {}", cuts.collect::<Vec<_>>().join(", "))?;
    }
    for (name, ids) in [("voided", &facts.voided), ("absorbed", &facts.absorbed)] {
        if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            writeln!(out, "{name}: {}", ids.join(", "))?;
        }
    }
    for (name, files) in [("spares", &facts.spares), ("left over", &facts.leftovers)] {
        let bytes = files.iter().map(|(_, bytes)| *bytes).sum();
        writeln!(out, "{name}: {} ({})", files.len(), print::size(bytes))?;
    }
    writeln!(out, "reserve: {}", print::size(facts.reserve_bytes))?;
    flaws_text(&facts.flaws, out)
}

fn flaws_text(flaws: &[Flaw], out: &mut impl Write) -> io::Result<()> {
    for flaw in flaws {
        writeln!(out, "damaged: {flaw}")?;
    }
    Ok(())
}

fn print_table(
    out: &mut impl Write,
    title: &str,
    head: &[&str],
    rows: &[Vec<String>],
) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "{title}: none");
    }
    writeln!(out, "{title}")?;
    for line in print::table(head, rows) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn segment_row(one: &SegmentFacts) -> Vec<String> {
    let damaged = if one.damaged.is_some() { "damaged" } else { one.state.word() };
    vec![
        one.file.clone(),
        one.id.run().to_string(),
        one.id.shard().to_string(),
        damaged.to_owned(),
        print::size(one.bytes),
        one.end.to_string(),
        one.records.to_string(),
        one.streams.to_string(),
        one.commits.to_string(),
    ]
}

fn table_row(one: &TableFacts) -> Vec<String> {
    let mut row = vec![one.file.clone()];
    let Some(root) = one.root else {
        row.extend(["damaged".to_owned(), print::size(one.bytes)]);
        return row;
    };
    row.extend([
        format!("{}..{}", root.low, root.high),
        print::size(one.bytes),
        root.records.to_string(),
        root.streams.to_string(),
        root.marks.to_string(),
        format!("{}..{}", root.min_stamp, root.max_stamp),
        root.partitions.to_string(),
    ]);
    row
}

fn stream_text(parts: &[StreamPart], flaws: &[Flaw], out: &mut impl Write) -> io::Result<()> {
    if parts.is_empty() {
        writeln!(out, "nothing is stored of it")?;
    }
    for part in parts {
        write!(out, "{}: {} records", part.file, part.records.len())?;
        if let Some(line) = part.line {
            let size = print::size(line.bytes);
            write!(out, " in {} chunks from byte {}, {size}", line.chunks, line.offset)?;
            if line.deletes {
                write!(out, "; all older files' are void")?;
            } else if line.floor > 0 {
                write!(out, "; older files' with a seq below {} are void", line.floor)?;
            }
        }
        writeln!(out)?;
        let rows: Vec<Vec<String>> = part
            .records
            .iter()
            .map(|one| {
                let numbers = [one.offset, one.number, one.seq, one.stamp];
                let mut row: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                row.extend([one.kind.to_string(), one.role.to_owned()]);
                row.push(one.body_bytes.to_string());
                row
            })
            .collect();
        let head = ["at", "number", "seq", "stamp", "kind", "role", "body"];
        for line in print::table(&head, &rows) {
            writeln!(out, "{line}")?;
        }
    }
    flaws_text(flaws, out)
}
