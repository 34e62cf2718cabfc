//! `roost store verify`.

use super::args::PlaceArgs;
use super::progress::Bar;
use super::{Finding, Site, StoreToolError, print, print_json};
use roost_storage_engine::inspect::{Flaw, FlawKind, InspectError, Verified, total_bytes, verify};
use serde_json::json;
use std::io::Write;

pub(super) fn run(place: &PlaceArgs, out: &mut impl Write) -> Result<Finding, StoreToolError> {
    let mut site = Site::open(place)?;
    let verified = match look(&mut site) {
        // Damage like any other, but that nothing else can be found without it.
        Err(InspectError::BadCatalogue) => {
            let (file, kind) = ("catalogue".to_owned(), FlawKind::Catalogue);
            let flaw = Flaw { file, offset: 0, stream: None, kind };
            Verified { files: 1, flaws: vec![flaw], ..Verified::default() }
        }
        other => other.map_err(|error| site.error(error))?,
    };
    if place.json {
        let more = json!({
            "whole": verified.flaws.is_empty(),
            "files": verified.files,
            "bytes": verified.bytes,
            "records": verified.records,
            "damage": print::flaws(&verified.flaws),
        });
        print_json(out, site.facts(), more)?;
    } else {
        text(&site, &verified, out).map_err(StoreToolError::Output)?;
    }
    Ok(if verified.flaws.is_empty() { Finding::Whole } else { Finding::Damaged })
}

fn look(site: &mut Site) -> Result<Verified, InspectError> {
    let (segments, tables) = total_bytes(&mut site.folder)?;
    let bar = Bar::new(segments + tables);
    let verified = verify(&mut site.folder, &mut |bytes| bar.add(bytes));
    bar.end();
    verified
}

fn text(site: &Site, verified: &Verified, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{}", site.title())?;
    for flaw in &verified.flaws {
        writeln!(out, "damaged: {flaw}")?;
    }
    let Verified { files, bytes, records, flaws } = verified;
    let size = print::size(*bytes);
    writeln!(out, "{files} files, {size}, {records} records checked")?;
    match flaws.len() {
        0 => writeln!(out, "all whole"),
        count => writeln!(
            out,
            "{count} damaged; stop the server and run `roost store repair --dry-run` to see what \
             can be kept"
        ),
    }
}
