//! Figures of a run held against the floor of its machine.

use crate::report::arithmetic::{ratio, round};
use crate::result::{Document, numbers};
use serde_json::{Map, json};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where the ratios stand in a result.
pub const FLOOR_RATIO: &str = "floor_ratio";

/// A figure, what of the floor it is held against (the first that is there), as they are called.
const HELD: [(&str, &[&str]); 5] = [
    (
        "delivered_per_s",
        &[
            "echo.io_uring.batch_8_x_100_b.messages_per_s",
            "echo.epoll.batch_8_x_100_b.messages_per_s",
        ],
    ),
    ("sent_per_s", &["disk.group_commit.group_of_256.messages_per_s"]),
    ("connect_per_s", &["accept.pairs_per_s"]),
    ("latency_us.sent.p99", &["disk.fdatasync_us.overwritten.p99"]),
    ("kernel.slab_bytes_per_connection_pair", &["accept.kernel_bytes_per_pair"]),
];

/// What the machine does without a broker, as a file says.
///
/// # Errors
/// The file is no result of `floor`.
pub fn read(file: &Path) -> Result<Document, FloorError> {
    let failed = |why: String| FloorError { file: file.to_owned(), why };
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let floor = Document::parse(&text).map_err(|error| failed(error.to_string()))?;
    if floor.scenario != "floor" {
        return Err(failed(format!("it is a result of {}", floor.scenario)));
    }
    Ok(floor)
}

/// Puts [`FLOOR_RATIO`] into a result and into those within: each figure divided by what the
/// machine does without a broker.
pub fn add_ratios(document: &mut Document, floor: &Document) {
    let below = numbers(&floor.figures);
    let figures = numbers(&document.figures);
    let mut ratios = Map::new();
    for (name, against) in HELD {
        let floor = against.iter().find_map(|name| below.get(*name));
        if let (Some(figure), Some(floor)) = (figures.get(name), floor)
            && *floor > 0.0
        {
            ratios.insert(name.to_owned(), json!(round(ratio(*figure, *floor))));
        }
    }
    document.figures.more.insert(FLOOR_RATIO.to_owned(), ratios.into());
    for result in &mut document.results {
        add_ratios(result, floor);
    }
}

/// Why there are no ratios.
#[derive(Debug)]
pub struct FloorError {
    file: PathBuf,
    why: String,
}

impl fmt::Display for FloorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--floor {}: {}; make one with: roost-bench floor --json FILE, or say --floor without \
             a file",
            self.file.display(),
            self.why
        )
    }
}

impl std::error::Error for FloorError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Figures;

    #[test]
    fn figures_are_divided_by_what_they_are_held_against() {
        let more = |value: serde_json::Value| Document {
            figures: Figures {
                more: value.as_object().cloned().unwrap_or_default(),
                ..Figures::default()
            },
            ..Document::default()
        };
        let floor = more(json!({
            "accept": { "pairs_per_s": 50_000.0 },
            "echo": { "epoll": { "batch_8_x_100_b": { "messages_per_s": 1e6 } } },
        }));
        let mut document = more(json!({}));
        document.figures.delivered_per_s = Some(250_000.0);
        document.figures.connect_per_s = Some(10_000.0);
        document.figures.sent_per_s = Some(1.0);
        document.results.push(document.clone());
        add_ratios(&mut document, &floor);
        let expected = json!({ "delivered_per_s": 0.25, "connect_per_s": 0.2 });
        assert_eq!(document.figures.more["floor_ratio"], expected);
        assert_eq!(document.results[0].figures.more["floor_ratio"], expected);
    }
}
