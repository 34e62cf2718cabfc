//! Many small append-only streams in few files, group-committed.
//!
//! The store knows streams and records and nothing of chat. It does no IO and reads no clock: it
//! asks for what it needs as [`StoreOp`]s, each answered by exactly one [`StoreDone`]. Two disks
//! perform them: [`disk`] in the real world, [`SimDisk`] in any other. What lies on disk is told
//! byte by byte in `FORMAT.md`.

mod catalogue;
pub mod disk;
mod error;
mod filter;
mod header;
mod index;
pub mod inspect;
mod keeper;
mod layout;
mod op;
mod open;
mod position;
mod query;
mod reading;
mod record;
mod recovery;
mod settings;
mod sim_disk;
mod store;
mod table;
mod view;

pub use error::{Damage, DiskError, OpenError, ReadError, StoreError};
pub use keeper::{Keeper, Pause, Tended};
pub use op::{CommitPart, StoreDone, StoreOp};
pub use open::{Folder, OpenSettings, Opened, open};
pub use position::{CommitId, FetchId, FileId, Position, ReadId, SegmentId, StreamId, TableId};
pub use query::{Query, StoredRecord};
pub use recovery::RecoveryReport;
pub use settings::{Durability, Settings};
pub use sim_disk::{Chance, Kill, SimDisk};
pub use store::{Appended, NewRecord, Store, StoreEvent, StoreStats};
pub use table::TableRoot;
pub use view::View;
