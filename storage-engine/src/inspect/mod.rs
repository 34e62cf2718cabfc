//! Looks at a store from outside, with or without a server on it: what it consists of, whether it
//! is whole, what it holds. Only `repair` changes something, and needs the folder for itself.
//!
//! Every byte may be damaged or hostile: lengths are checked against the file before anything is
//! allocated, and what is damaged is named and left out.

mod export;
mod facts;
mod flaw;
mod lines;
mod logs;
mod look;
mod repair;
mod segment;
mod snapshot;
mod stats;
mod streams;
mod verify;

pub use export::{Exported, export};
pub use facts::{
    LineFacts, RecordFacts, RootFacts, SegmentFacts, SegmentState, StoreFacts, StreamPart,
    TableFacts, inspect, inspect_stream,
};
pub use flaw::{Flaw, FlawKind, InspectError};
pub use look::{Look, Watched};
pub use repair::{DAMAGED, Fate, Hole, Mended, RepairSettings, Repaired, repair};
pub use snapshot::{Progress, Snapshot, total_bytes};
pub use stats::{StoreNumbers, StreamSize, stats};
pub use streams::FoundRecord;
pub use verify::{Verified, verify};
