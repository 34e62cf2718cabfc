//! Many small append-only streams in few files, group-committed.
//!
//! The store knows streams and records and nothing of chat. It does no IO and reads no clock: it
//! asks for what it needs as [`StoreOp`]s, each answered by exactly one [`StoreDone`]. Two disks
//! perform them: [`disk`] in the real world, [`SimDisk`] in any other. What lies on disk is told
//! byte by byte in `FORMAT.md`; `README.md` says what it is for, and what it promises.
//!
//! The thread that has a [`Store`] appends ([`Store::append`]), ends its batch
//! ([`Store::end_batch`]), hands the ops over, and gives answers back as they come
//! ([`Store::handle`]); what happened is told as [`StoreEvent`]s. Here with helper threads:
//!
//! ```
//! use roost_storage_engine::disk::{Disk, KeeperThread, RealFolder};
//! use roost_storage_engine::{
//!     NewRecord, OpenSettings, Query, Settings, StoreEvent, StreamId, open,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::tempdir()?;
//! # let path = place.path();
//! let mut folder = RealFolder::open(path)?;
//! let settings = Settings { reserve_bytes: 0, ..Settings::DEFAULT };
//! let opened = open(&mut folder, &OpenSettings { shards: 1, settings, fresh_incarnation: 42 })?;
//! let mut store = opened.stores.into_iter().next().ok_or("one shard has one store")?;
//! let keeper = KeeperThread::start(&folder, opened.keeper)?;
//! let (mut disk, answers) = Disk::new(folder.files(), &keeper, "shard-0", Box::new(|| ()))?;
//! let (mut ops, mut events) = (Vec::new(), Vec::new());
//!
//! let stream = StreamId(7 << 100);
//! let record = NewRecord {
//!     stream,
//!     number: 1,
//!     seq: 1,
//!     stamp: 1_700_000_000_000,
//!     kind: 0,
//!     snapshot_start: false,
//!     body: &[b"first ", b"record"],
//! };
//! let appended = store.append(&record)?;
//! // Nobody is shown it before it is durable.
//! let mut now_us = 0;
//! while store.durable() < appended.position {
//!     now_us += 1; // a monotonic clock
//!     store.end_batch(now_us, &mut ops);
//!     ops.drain(..).for_each(|op| disk.submit(op));
//!     store.handle(answers.recv()?, &mut events, &mut ops);
//! }
//!
//! let wanted = store.read(
//!     Query::After { stream, seq: 0, limit: 10, max_bytes: 1 << 20 },
//!     &mut ops,
//! );
//! let records = loop {
//!     store.take_ready(&mut events);
//!     let answer = events.drain(..).find_map(|event| match event {
//!         StoreEvent::Read { id, result } if id == wanted => Some(result),
//!         _ => None,
//!     });
//!     if let Some(result) = answer {
//!         break result?;
//!     }
//!     ops.drain(..).for_each(|op| disk.submit(op));
//!     store.handle(answers.recv()?, &mut events, &mut ops);
//! };
//! assert_eq!(&*records[0].body, b"first record");
//!
//! // A clean stop.
//! drop(disk);
//! let mut keeper = keeper.stop().ok_or("the keeper ended")?;
//! keeper.close_cleanly(&mut folder, store.max_stamp(), store.owes_nothing())?;
//! # Ok(())
//! # }
//! ```

mod catalogue;
pub mod disk;
mod error;
mod filter;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
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
pub use op::{CommitPart, FetchPart, Left, StoreDone, StoreOp};
pub use open::{Folder, OpenSettings, Opened, open};
pub use position::{CommitId, FetchId, FileId, Position, ReadId, SegmentId, StreamId, TableId};
pub use query::{Query, StoredRecord};
pub use recovery::RecoveryReport;
pub use settings::{Durability, Settings};
pub use sim_disk::{Chance, Kill, SimDisk};
pub use store::{Appended, NewRecord, Store, StoreEvent, StoreStats};
pub use table::TableRoot;
pub use view::View;
