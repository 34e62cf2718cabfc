//! `roost store repair`: takes the store's lock, so that no server runs meanwhile.

use super::args::PlaceArgs;
use super::progress::Bar;
use super::{Finding, Site, StoreToolError, path_of, print, print_json};
use roost_storage_engine::disk::{LookFolder, RealFolder};
use roost_storage_engine::inspect::{
    DAMAGED, Fate, Hole, Mended, RepairSettings, Repaired, repair, total_bytes,
};
use serde_json::{Value, json};
use std::io::{self, Write};

pub(super) fn run(
    place: &PlaceArgs,
    dry_run: bool,
    cut_at_holes: bool,
    out: &mut impl Write,
) -> Result<Finding, StoreToolError> {
    let mut site = Site::open(place)?;
    let path = path_of(place);
    let totals = total_bytes(&mut site.folder);
    let (segments, tables) = totals.map_err(|error| site.error(error))?;
    // Locking would make files where there is no store.
    let is_store = segments + tables > 0 || path.join("catalogue").exists();
    if !is_store {
        return Err(site.error(roost_storage_engine::inspect::InspectError::NoStore));
    }
    let mut folder = RealFolder::open(&path).map_err(StoreToolError::Folder)?;
    if !dry_run {
        LookFolder::make_damaged(&path).map_err(StoreToolError::Look)?;
    }
    let bar = Bar::new(segments + tables);
    let settings = RepairSettings { fresh_incarnation: random()?, dry: dry_run, cut_at_holes };
    let repaired = repair(&mut folder, settings, &mut |bytes| bar.add(bytes));
    bar.end();
    if !dry_run {
        // It stays only if something is in it.
        drop(std::fs::remove_dir(path.join(DAMAGED)));
    }
    let repaired = repaired.map_err(|error| site.error(error))?;
    if place.json {
        print_json(out, site.facts(), as_json(&repaired, dry_run))?;
    } else {
        text(&site, &repaired, settings, out).map_err(StoreToolError::Output)?;
    }
    let damaged = dry_run && !(repaired.flaws.is_empty() && repaired.holes.is_empty());
    Ok(if damaged { Finding::Damaged } else { Finding::Whole })
}

fn random() -> Result<u64, StoreToolError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StoreToolError::Random(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}

const fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Rewritten => "rewritten",
        Fate::SetAside => "set_aside",
        Fate::Lost => "missing",
    }
}

fn as_json(repaired: &Repaired, dry_run: bool) -> Value {
    let files = repaired.files.iter().map(|one| {
        let streams = one
            .streams
            .iter()
            .map(|(stream, records)| json!({ "stream": print::hex(*stream), "records": records }));
        json!({
            "file": one.file,
            "fate": fate(one.fate),
            "kept": one.kept,
            "lost": one.lost,
            "marks_lost": one.marks_lost,
            "streams": streams.collect::<Vec<_>>(),
        })
    });
    let holes = repaired.holes.iter().map(|hole| {
        json!({
            "stream": print::hex(hole.stream),
            "before": hole.before,
            "next": hole.next,
            "behind": hole.behind,
        })
    });
    json!({
        "dry_run": dry_run,
        "incarnation": repaired.incarnation.map(|number| number.to_string()),
        "damage": print::flaws(&repaired.flaws),
        "files": files.collect::<Vec<_>>(),
        "holes": holes.collect::<Vec<_>>(),
    })
}

fn text(
    site: &Site,
    repaired: &Repaired,
    settings: RepairSettings,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}", site.title())?;
    if repaired.flaws.is_empty() {
        writeln!(out, "all whole: there is no damage to repair")?;
    }
    for flaw in &repaired.flaws {
        writeln!(out, "damaged: {flaw}")?;
    }
    for one in &repaired.files {
        mended(one, settings.dry, out)?;
    }
    holes(&repaired.holes, settings.cut_at_holes, out)?;
    match repaired.incarnation {
        None => writeln!(out, "nothing was changed"),
        Some(_) => writeln!(
            out,
            "repaired; the files as they were are in {DAMAGED}/. Devices will be told of another \
             store and resync"
        ),
    }
}

fn holes(holes: &[Hole], cut: bool, out: &mut impl Write) -> io::Result<()> {
    for Hole { stream, before, next, behind } in holes {
        writeln!(
            out,
            "stream {}: nothing between the records {before} and {next}; {behind} are behind",
            print::hex(*stream)
        )?;
    }
    if !holes.is_empty() && !cut {
        writeln!(
            out,
            "the server refuses streams with such a hole. `roost store export` gives what is \
             there; with `--cut-at-holes` they end at the hole and can be used again"
        )?;
    }
    Ok(())
}

fn mended(one: &Mended, dry_run: bool, out: &mut impl Write) -> io::Result<()> {
    let would = if dry_run { "would be " } else { "" };
    let what = match one.fate {
        Fate::Rewritten => "written anew",
        Fate::SetAside => "moved away, nothing in it can be used",
        Fate::Lost => "left out, it is missing",
    };
    let lost = one.lost.map_or_else(|| "unknown".to_owned(), |lost| lost.to_string());
    writeln!(out, "{}: {would}{what}; records kept {}, lost {lost}", one.file, one.kept)?;
    for (stream, records) in &one.streams {
        writeln!(out, "  stream {} loses {records} records", print::hex(*stream))?;
    }
    match one.marks_lost {
        Some(0) => Ok(()),
        Some(count) => {
            writeln!(out, "  what was trimmed or deleted of {count} streams may be seen again")
        }
        None => writeln!(out, "  what was trimmed or deleted may be seen again"),
    }
}
