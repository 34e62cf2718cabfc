//! `roost store stats`.

use super::args::PlaceArgs;
use super::progress::Bar;
use super::{Finding, Site, StoreToolError, print, print_json};
use roost_storage_engine::inspect::{StoreNumbers, stats, total_bytes};
use serde_json::json;
use std::io::Write;

pub(super) fn run(place: &PlaceArgs, out: &mut impl Write) -> Result<Finding, StoreToolError> {
    let mut site = Site::open(place)?;
    let totals = total_bytes(&mut site.folder);
    let (segments, tables) = totals.map_err(|error| site.error(error))?;
    let bar = Bar::new(segments + tables);
    let numbers = stats(&mut site.folder, &mut |bytes| bar.add(bytes));
    bar.end();
    let numbers = numbers.map_err(|error| site.error(error))?;
    if place.json {
        print_json(out, site.facts(), as_json(&numbers))?;
    } else {
        text(&site, &numbers, out).map_err(StoreToolError::Output)?;
    }
    Ok(if numbers.flaws.is_empty() { Finding::Whole } else { Finding::Damaged })
}

fn as_json(numbers: &StoreNumbers) -> serde_json::Value {
    let biggest = numbers.biggest.iter().map(|one| {
        json!({ "stream": print::hex(one.stream), "bytes": one.bytes, "records": one.records })
    });
    json!({
        "streams": numbers.streams,
        "records": numbers.records,
        "body_bytes": numbers.body_bytes,
        "disk_bytes": numbers.disk_bytes,
        "table_bytes": numbers.table_bytes,
        "table_body_bytes": numbers.table_body_bytes,
        "chunk_bytes": numbers.chunk_bytes,
        "unsealed_records": numbers.unsealed_records,
        "unsealed_bytes": numbers.unsealed_bytes,
        "spare_bytes": numbers.spare_bytes,
        "reserve_bytes": numbers.reserve_bytes,
        "leftover_bytes": numbers.leftover_bytes,
        "root_bytes": numbers.root_bytes,
        "tables_a_stream": numbers.tables_a_stream,
        "biggest": biggest.collect::<Vec<_>>(),
        "damage": print::flaws(&numbers.flaws),
    })
}

fn text(site: &Site, numbers: &StoreNumbers, out: &mut impl Write) -> std::io::Result<()> {
    let size = print::size;
    writeln!(out, "{}", site.title())?;
    let of_disk = print::ratio(numbers.disk_bytes, numbers.body_bytes);
    let of_tables = print::ratio(numbers.table_body_bytes, numbers.chunk_bytes);
    let lines = [
        ("streams", numbers.streams.to_string()),
        ("records", format!("{} ({} unsealed)", numbers.records, numbers.unsealed_records)),
        ("bodies", size(numbers.body_bytes)),
        ("on disk", format!("{}, {of_disk} times the bodies", size(numbers.disk_bytes))),
        ("tables", format!("{}, bodies {of_tables} times smaller", size(numbers.table_bytes))),
        ("unsealed", size(numbers.unsealed_bytes)),
        ("spare files", size(numbers.spare_bytes)),
        ("reserve", format!("{} (besides)", size(numbers.reserve_bytes))),
        ("left over", size(numbers.leftover_bytes)),
        ("roots in memory", size(numbers.root_bytes)),
    ];
    for (name, value) in lines {
        writeln!(out, "  {name:<16}{value}")?;
    }
    writeln!(out, "tables that a stream is in")?;
    let last = numbers.tables_a_stream.len() - 1;
    for (tables, streams) in numbers.tables_a_stream.iter().enumerate() {
        if *streams > 0 {
            let more = if tables == last { " or more" } else { "" };
            writeln!(out, "  {:<16}{streams}", format!("{tables}{more}"))?;
        }
    }
    writeln!(out, "biggest streams")?;
    for one in &numbers.biggest {
        let (stream, bytes) = (print::hex(one.stream), size(one.bytes));
        writeln!(out, "  {stream}  {bytes:>10}  {} records", one.records)?;
    }
    for flaw in &numbers.flaws {
        writeln!(out, "damaged, not counted: {flaw}")?;
    }
    Ok(())
}
