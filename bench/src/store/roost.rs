//! Ours: one store on one thread, which commits and reads by itself, as the peers' callers do; the
//! helper threads make segments, seal and merge. Everything that this program knows of the storage
//! engine is in this file.

use super::engine::{Batch, Engine, Failure, Record};
use super::hold::{Begun, Held, Holds};
use roost_storage_engine::disk::{Disk, KeeperThread, RealFolder};
use roost_storage_engine::{
    NewRecord, OpenSettings, Position, Query, ReadId, Settings, Store, StoreDone, StoreError,
    StoreEvent, StoreOp, StoredRecord, StreamId, open,
};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// What it is, for the report.
pub const SETTINGS: &str = "default settings: segments of 64 MiB, fdatasync a commit; one shard, \
     commits and reads on the calling thread as the peers' are, sealing on the keeper's";
/// A store that waits so long for its disk asks again.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long the store held the calling thread, by what it did.
#[derive(Debug, Default)]
struct AllHolds {
    answer: Holds,
    end: Holds,
    append: Holds,
    nothing: Holds,
}

/// The store and its disk.
#[derive(Debug)]
pub struct Roost {
    path: PathBuf,
    store: Store,
    disk: Disk,
    answers: Receiver<StoreDone>,
    keeper: KeeperThread,
    folder: RealFolder,
    ops: Vec<StoreOp>,
    /// Answers to what the calling thread did itself.
    done: Vec<StoreDone>,
    events: Vec<StoreEvent>,
    stamp: u64,
    old_sealed: bool,
    holds: AllHolds,
    /// Whether appends are looked at, too.
    watched: bool,
    /// The last read that ended.
    found: Option<(ReadId, Vec<StoredRecord>)>,
}

impl Roost {
    /// Opens a folder, new or old. What an earlier run left unsealed is sealed in the background
    /// from then on, as a server does.
    ///
    /// # Errors
    /// The store's.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_with(path, Settings::default())
    }

    fn open_with(path: &Path, settings: Settings) -> Result<Self, Failure> {
        let mut folder = RealFolder::open(path)?;
        let now = roost_event_loop::now().wall.ms;
        let settings = OpenSettings {
            shards: 1,
            settings,
            fresh_incarnation: now.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        let mut opened = open(&mut folder, &settings)?;
        let store = opened.stores.pop().ok_or("one shard, one store")?;
        let keeper = KeeperThread::start(&folder, opened.keeper)?;
        let (disk, answers) = Disk::new(folder.files(), &keeper, "shard-0", Box::new(|| ()))?;
        let stamp = store.max_stamp();
        let mut roost = Self {
            path: path.to_owned(),
            store,
            disk,
            answers,
            keeper,
            folder,
            ops: Vec::new(),
            done: Vec::new(),
            events: Vec::new(),
            stamp,
            old_sealed: false,
            holds: AllHolds::default(),
            watched: false,
            found: None,
        };
        roost.store.seal_old();
        roost.store.take_ready(&mut roost.events);
        roost.note_events()?;
        Ok(roost)
    }

    /// Takes a record into the batch and gives the position it will be durable at; nothing if the
    /// store has no room until its commit ends.
    ///
    /// # Errors
    /// The store's.
    pub fn append(&mut self, record: Record<'_>) -> Result<Option<u64>, Failure> {
        self.stamp += 1;
        let new = NewRecord {
            stream: StreamId(record.stream),
            number: record.seq,
            seq: record.seq,
            stamp: self.stamp,
            kind: 1,
            snapshot_start: false,
            body: &[record.body],
        };
        let begun = self.watched.then(Begun::now);
        let appended = self.store.append(&new);
        if let Some(begun) = begun {
            self.holds.append.end_beside(begun, &mut self.holds.nothing);
        }
        match appended {
            Ok(appended) => Ok(Some(appended.position.0)),
            Err(StoreError::Busy) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the batch: what gathered is committed if nothing is under way.
    pub fn end_batch(&mut self) {
        let now_us = roost_event_loop::now().monotonic.ns / 1000;
        let begun = Begun::now();
        self.store.end_batch(now_us, &mut self.ops);
        self.holds.end.end_beside(begun, &mut self.holds.nothing);
        self.submit();
    }

    /// Waits for an answer of the disk and takes all that are there.
    ///
    /// # Errors
    /// The disk failed, is full, or gave other bytes than were written.
    pub fn wait(&mut self) -> Result<(), Failure> {
        if self.done.is_empty() {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(done) => self.take(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the disk's threads ended".into());
                }
            }
        }
        for done in core::mem::take(&mut self.done) {
            self.take(done);
        }
        while let Ok(done) = self.answers.try_recv() {
            self.take(done);
        }
        self.submit();
        self.note_events()
    }

    fn note_events(&mut self) -> Result<(), Failure> {
        for event in self.events.drain(..) {
            match event {
                StoreEvent::Fatal(error) => return Err(error.into()),
                StoreEvent::Full => return Err("the disk is full".into()),
                StoreEvent::Corrupt(_)
                | StoreEvent::NotSealed { .. }
                | StoreEvent::NotMerged(_) => {
                    return Err(format!("{event:?}").into());
                }
                StoreEvent::Read { id, result } => self.found = Some((id, result?)),
                StoreEvent::OldSealed => self.old_sealed = true,
                StoreEvent::Durable(_) | StoreEvent::Room | StoreEvent::Sealed(_) => {}
            }
        }
        Ok(())
    }

    /// Everything up to this position is durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.store.durable().0
    }

    /// Commits that ended since it was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.store.stats().commits
    }

    fn take(&mut self, done: StoreDone) {
        if matches!(done, StoreDone::Committed { .. } | StoreDone::Fetched { .. }) {
            return self.store.handle(done, &mut self.events, &mut self.ops);
        }
        let begun = Begun::now();
        self.store.handle(done, &mut self.events, &mut self.ops);
        self.holds.answer.end_beside(begun, &mut self.holds.nothing);
    }

    /// How long the store held this thread.
    #[must_use]
    pub fn holds(&self) -> Held {
        let AllHolds { answer, end, append, nothing } = &self.holds;
        Held {
            answer: answer.found(),
            end: end.found(),
            append: append.found(),
            nothing: nothing.found(),
        }
    }

    fn submit(&mut self) {
        for op in self.ops.drain(..) {
            self.done.extend(self.disk.perform(op));
        }
    }

    fn wait_until_durable(&mut self, position: u64) -> Result<(), Failure> {
        while self.durable() < position {
            self.end_batch();
            self.wait()?;
        }
        Ok(())
    }

    fn read(&mut self, query: Query) -> Result<Vec<StoredRecord>, Failure> {
        let wanted = self.store.read(query, &mut self.ops);
        self.submit();
        self.store.take_ready(&mut self.events);
        self.note_events()?;
        loop {
            if let Some((id, records)) = self.found.take()
                && id == wanted
            {
                return Ok(records);
            }
            self.wait()?;
        }
    }
}

impl Engine for Roost {
    fn commit(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut end = 0;
        for record in batch.records() {
            end = loop {
                if let Some(position) = self.append(record)? {
                    break position;
                }
                self.end_batch();
                self.wait()?;
            };
        }
        self.wait_until_durable(end)
    }

    fn last(
        &mut self,
        stream: u128,
        limit: usize,
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<(), Failure> {
        let stream = StreamId(stream);
        let all = usize::MAX;
        let query = Query::Before { stream, seq: u64::MAX, limit, max_bytes: all };
        for record in self.read(query)? {
            visit(record.seq, &record.body);
        }
        Ok(())
    }

    /// A segment of this run that is not full stays open, so the run ends and another one seals
    /// what it left.
    fn settle(self: Box<Self>, at_rest: bool) -> Result<Box<dyn Engine>, Failure> {
        let path = self.path.clone();
        self.close()?;
        let usual = Settings::default();
        // What is merged after ten minutes of rest is merged now.
        let idle_merge_ms = if at_rest { 0 } else { usual.idle_merge_ms };
        let mut next = Self::open_with(&path, Settings { idle_merge_ms, ..usual })?;
        while !next.old_sealed || !next.store.is_tidy() {
            next.end_batch();
            next.wait()?;
        }
        Ok(Box::new(next))
    }

    fn watch(&mut self) {
        self.watched = true;
    }

    fn held(&self) -> Option<Held> {
        Some(self.holds())
    }

    fn close(mut self: Box<Self>) -> Result<(), Failure> {
        let appended: Position = self.store.appended();
        while self.store.synced() < appended {
            self.store.flush_soon();
            self.end_batch();
            self.wait()?;
        }
        let Self { store, disk, keeper, mut folder, .. } = *self;
        drop(disk);
        let mut keeper = keeper.stop().ok_or("the keeper's thread ended")?;
        keeper.close_cleanly(&mut folder, store.max_stamp(), true)?;
        Ok(())
    }
}
