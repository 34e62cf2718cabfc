//! Numbers and flaws as people and machines read them.

use roost_storage_engine::StreamId;
use roost_storage_engine::inspect::Flaw;
use serde_json::{Value, json};

/// Bytes with a unit, about.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = "B";
    let (mut whole, mut tenths) = (bytes, 0);
    for next in UNITS {
        if whole < 1024 {
            break;
        }
        tenths = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit = next;
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{tenths} {unit}") }
}

/// A ratio with two digits behind the point; a dash without a second number.
pub(super) fn ratio(one: u64, other: u64) -> String {
    if other == 0 {
        return "-".to_owned();
    }
    let hundredths = u128::from(one) * 100 / u128::from(other);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// A stream as it is typed.
pub(super) fn hex(stream: StreamId) -> String {
    format!("{:032x}", stream.0)
}

/// A flaw for machines.
pub(super) fn flaw(flaw: &Flaw) -> Value {
    json!({
        "file": flaw.file,
        "offset": flaw.offset,
        "stream": flaw.stream.map(hex),
        "kind": flaw.kind.word(),
        "what": flaw.kind.to_string(),
    })
}

/// Several.
pub(super) fn flaws(flaws: &[Flaw]) -> Value {
    flaws.iter().map(flaw).collect()
}

/// Lines of columns, the first one to the left and the others to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(place, (cell, &width))| {
            if place == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    std::iter::once(&head).chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit() {
        let sizes = [0, 1023, 1024, 1536, 1 << 20, (1 << 30) + (1 << 29), u64::MAX];
        let texts = sizes.map(size);
        let wanted = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.5 GiB", "16383.9 PiB"];
        assert_eq!(texts, wanted);
        assert_eq!((ratio(3, 2), ratio(1, 0)), ("1.50".to_owned(), "-".to_owned()));
    }

    #[test]
    fn columns_are_lined_up() {
        let rows = vec![vec!["a".to_owned(), "10".to_owned()]];
        assert_eq!(table(&["file", "n"], &rows), ["  file   n", "  a     10"]);
    }
}
