//! What a run says: a result as JSON, a few lines for the terminal, a page with plots.

pub mod arithmetic;
pub mod rounds;
pub mod summary;

use crate::floor;
use crate::result::{Document, SCHEMA};
use serde_json::{Map, Value};

/// A result and how a terminal shows it.
#[derive(Debug)]
pub struct Report {
    /// The result.
    pub document: Document,
    lines: String,
}

impl Report {
    /// Of a result, in the usual words.
    #[must_use]
    pub fn new(document: Document) -> Self {
        Self { lines: summary::lines(&document), document }
    }

    /// Of a result, in words of its own.
    pub(crate) const fn with_lines(document: Document, lines: String) -> Self {
        Self { document, lines }
    }

    /// Of fields and lines that somebody else made.
    pub(crate) fn of_parts(
        mut fields: Map<String, Value>,
        mut lines: String,
        failures: Vec<String>,
    ) -> Self {
        let mut text = |name: &str| {
            let value = fields.remove(name);
            value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (scenario, date) = (text("scenario"), text("date"));
        fields.remove("schema");
        let flush = fields.remove("fdatasync_us");
        for failure in &failures {
            summary::line(&mut lines, "FAILED", failure);
        }
        let mut document = Document {
            schema: SCHEMA,
            scenario,
            date,
            command: std::env::args().collect(),
            fdatasync_us: flush.and_then(|flush| serde_json::from_value(flush).ok()),
            failures,
            ..Document::default()
        };
        document.figures.more = fields;
        Self { document, lines }
    }

    /// Holds its figures against what the machine does without a broker.
    pub fn hold_against(&mut self, floor: &Document) {
        floor::add_ratios(&mut self.document, floor);
        let below = floor.figures.more.clone();
        self.document.figures.more.insert("floor".to_owned(), below.into());
        summary::floor_ratios(&mut self.lines, &self.document);
    }

    /// The lines for the terminal, failures last but for what is beside the figures.
    #[must_use]
    pub fn lines(&self) -> &str {
        &self.lines
    }
}
