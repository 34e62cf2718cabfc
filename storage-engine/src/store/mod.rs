//! The store of one shard: what is appended, what is durable, what is owed. A value without IO:
//! it asks for everything with ops. Reading is in `reading.rs`.

mod calm;
mod tending;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Damage, DiskError, ReadError, StoreError};
use crate::header::{Identity, Opening, write_identity, write_opening};
use crate::index::{Entry, SegmentIndex};
use crate::layout::{
    BLOCK_BYTES, HEADER_BYTES, OPENING_AT, VERSION, block_ceil, index_of, u32_of, u64_of, usize_of,
};
use crate::op::{CommitPart, StoreDone, StoreOp};
use crate::position::{CommitId, Position, ReadId, SegmentId, StreamId};
use crate::query::StoredRecord;
use crate::reading::{Held, Reading};
use crate::record::{self, CONTROL_BYTES, Durable, Form, Mask, RECORD_HEAD_MAX, Role};
use crate::settings::{Durability, Settings};
use calm::Calm;
use tending::Tending;

/// Gathered bytes that do not wait for more.
const COMMIT_SOON_BYTES: usize = 64 << 10;
/// Buffers kept for reuse.
const SPARE_BUFFERS: usize = 4;
/// Indices kept for reuse: of the segment that comes next, and of one that is being sealed.
const SPARE_INDICES: usize = 2;

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// The dense number of its stream, 0 = unnumbered.
    pub number: u64,
    /// The second number that only some carry, growing in its stream; 0 = none.
    pub seq: u64,
    /// The writer's time, 0 = none. The store keeps the largest.
    pub stamp: u64,
    /// What it is, for the writer to know.
    pub kind: u8,
    /// Whether loading the stream may begin here. Such a record has no seq: what is voided or left
    /// out by its seq must not be what others are loaded from. Records without a seq before it are
    /// left out when it is sealed.
    pub snapshot_start: bool,
    /// The body, in parts that are written one behind the other.
    pub body: &'a [&'a [u8]],
}

/// Where a record went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Its end: what `Durable` must reach before anyone is shown it.
    pub position: Position,
    /// Its segment: what owes for it.
    pub segment: SegmentId,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreEvent {
    /// Everything up to here may be shown.
    Durable(Position),
    /// A read ended.
    Read {
        /// What `read` answered.
        id: ReadId,
        /// The records in the query's order.
        result: Result<Vec<StoredRecord>, ReadError>,
    },
    /// The disk is full: appends answer `Full` from now on.
    Full,
    /// The disk has room again.
    Room,
    /// A write or flush failed. The process must exit.
    Fatal(StoreError),
    /// Bytes that were durable are not as they were written. Their neighbours were served.
    Corrupt(Damage),
    /// A segment of this run left what recovery reads.
    Sealed(SegmentId),
    /// Sealing failed. It is tried again, but for damage: then the segment and all behind it stay
    /// as they are until the next start. That it waits for room is said once.
    NotSealed {
        /// The segment.
        segment: SegmentId,
        /// Why.
        error: DiskError,
    },
    /// All segments of earlier runs are sealed for this store: see `seal_old`.
    OldSealed,
    /// Merging tables failed; it is tried again after the next sealing.
    NotMerged(DiskError),
}

/// Counts since open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreStats {
    /// Records appended.
    pub records: u64,
    /// Bytes appended, with record heads.
    pub bytes: u64,
    /// Commits ended.
    pub commits: u64,
    /// Flushes among them.
    pub flushes: u64,
    /// Bytes of the largest commit.
    pub largest_commit: u64,
    /// Reads asked.
    pub reads: u64,
    /// Fetches asked.
    pub fetches: u64,
    /// Segments sealed.
    pub sealed: u64,
    /// Damaged records and blocks met.
    pub corrupt: u64,
    /// Segments not sealed, of this run and earlier ones.
    pub unsealed_segments: u64,
    /// Tables of the folder, of all stores.
    pub tables: u64,
    /// Bytes of them.
    pub table_bytes: u64,
    /// Bytes of memory for knowing of them, shared by all stores.
    pub table_memory_bytes: u64,
    /// Bytes that merging wrote for this store.
    pub merged_bytes: u64,
    /// Reads answered from what was read before, without a fetch.
    pub cache_hits: u64,
    /// Bytes of tables kept in memory.
    pub cache_bytes: u64,
}

/// How far the making of a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Making {
    Wanted,
    Asked,
    Ready,
}

/// A segment of this run that is not sealed.
#[derive(Debug)]
pub(crate) struct LiveSegment {
    id: SegmentId,
    making: Making,
    /// The position of its first byte.
    start: u64,
    /// Where the next byte goes.
    end: u32,
    capacity: u32,
    mask: Mask,
    owed: u64,
    sealing: bool,
    opening: Opening,
    pub(crate) index: SegmentIndex,
}

/// Bytes of one segment that wait for a commit.
#[derive(Debug)]
struct Gathered {
    segment: SegmentId,
    offset: u32,
    bytes: Vec<u8>,
    /// Where the room for the control record is.
    control: usize,
    mask: Mask,
    /// The position of the end of its last record.
    position: u64,
}

/// The records of the block that the last commit ended in. The next one writes them again: so it
/// writes whole blocks, of which the system need read nothing first.
#[derive(Debug, Default)]
struct Tail {
    /// Where they end.
    end: Durable,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct InFlight {
    id: CommitId,
    end: Position,
    end_at: Durable,
    sync: bool,
}

/// The store of one shard.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Store {
    settings: Settings,
    run: u32,
    shard: u8,
    salt: u64,
    max_stamp: u64,
    pub(crate) failed: Option<StoreError>,
    full: bool,
    /// When making a segment that failed for want of room is tried again.
    retry_at: u64,
    now_ms: u64,
    now_us: u64,
    /// When the last sealing was begun.
    seal_begun_ms: u64,
    /// When the last commit was begun.
    commit_begun_us: u64,
    commit_due_us: Option<u64>,

    active: LiveSegment,
    next: Option<LiveSegment>,
    rolled: BTreeMap<SegmentId, LiveSegment>,
    pub(crate) held: Held,
    /// Nothing in the segments of earlier runs owes anything.
    told: bool,
    tending: Tending,
    calm: Calm,

    gathered: Vec<Gathered>,
    tail: Tail,
    /// Bytes of all of it.
    gathered_bytes: usize,
    /// Whether the last of it may grow.
    open: bool,
    spare: Vec<Vec<u8>>,
    /// Of segments that were sealed, for those to come; cleared bit by bit as batches end.
    spare_indices: Vec<SegmentIndex>,
    in_flight: Option<InFlight>,
    commits: u64,
    appended: Position,
    durable: Position,
    written_at: Durable,
    synced: Position,
    synced_at: Durable,
    /// Segments written since their last flush.
    unsynced: BTreeSet<SegmentId>,
    synced_ms: u64,
    /// The next commit flushes, whatever the interval.
    flush_asked: bool,
    pub(crate) stats: StoreStats,
    pub(crate) reading: Reading,
}

/// What a store begins with.
pub(crate) struct Beginning {
    pub(crate) settings: Settings,
    pub(crate) run: u32,
    pub(crate) shard: u8,
    pub(crate) salt: u64,
    pub(crate) max_stamp: u64,
    pub(crate) told: bool,
    pub(crate) held: Held,
}

impl Store {
    pub(crate) fn new(beginning: Beginning) -> Self {
        let Beginning { settings, run, shard, salt, max_stamp, told, held } = beginning;
        let id = SegmentId::new(run, shard, 1);
        let opening = Opening { previous: None, previous_length: 0 };
        Self {
            settings,
            run,
            shard,
            salt,
            max_stamp,
            failed: None,
            full: false,
            retry_at: 0,
            now_ms: 0,
            now_us: 0,
            seal_begun_ms: 0,
            commit_begun_us: 0,
            commit_due_us: None,
            active: LiveSegment::new(id, salt, &settings, opening),
            next: None,
            rolled: BTreeMap::new(),
            held,
            told,
            tending: Tending::new(),
            calm: Calm::default(),
            gathered: Vec::new(),
            tail: Tail::default(),
            gathered_bytes: 0,
            open: false,
            spare: Vec::new(),
            spare_indices: Vec::new(),
            in_flight: None,
            commits: 0,
            appended: Position(0),
            durable: Position(0),
            written_at: Durable::NOTHING,
            synced: Position(0),
            synced_at: Durable::NOTHING,
            unsynced: BTreeSet::new(),
            synced_ms: 0,
            flush_asked: false,
            stats: StoreStats::default(),
            reading: Reading::new(settings.cache_bytes),
        }
    }

    /// Takes a record into the gathering batch. No IO: `end_batch` starts the commit.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing was taken then.
    pub fn append(&mut self, record: &NewRecord<'_>) -> Result<Appended, StoreError> {
        let role = if record.snapshot_start { Role::Snapshot } else { Role::Plain };
        self.append_as(record, role)
    }

    /// Voids the earlier records of a stream with a seq below this one; records without a seq
    /// stay. It is a record of its own: durable when `Durable` reaches it. The space comes back as
    /// tables are merged.
    ///
    /// # Errors
    /// As `append`.
    pub fn trim(&mut self, stream: StreamId, seq: u64) -> Result<Appended, StoreError> {
        self.append_as(&NewRecord { seq, ..mark(stream) }, Role::Trim)
    }

    /// Voids all earlier records of a stream. What is appended later begins it anew. The space
    /// comes back [`Settings::erase_after_ms`] after the mark was sealed, at the latest.
    ///
    /// # Errors
    /// As `append`.
    pub fn delete(&mut self, stream: StreamId) -> Result<Appended, StoreError> {
        self.append_as(&mark(stream), Role::Delete)
    }

    fn append_as(&mut self, record: &NewRecord<'_>, role: Role) -> Result<Appended, StoreError> {
        let body: usize = record.body.iter().map(|part| part.len()).sum();
        let bytes = RECORD_HEAD_MAX + body;
        self.check_room(bytes)?;
        let begins = !self.open;
        let needed = bytes + if begins { CONTROL_BYTES } else { 0 };
        if needed > usize_of(self.active.capacity - self.active.end) {
            if self.sealing_lags() {
                return Err(StoreError::Busy);
            }
            self.roll();
        }
        if !self.open {
            self.begin_part();
        }
        let offset = self.active.end;
        let mask = self.active.mask.at(offset);
        let part = self.gathered.last_mut().expect("a part was begun");
        // With room for the zeros at the end of the commit, which need no new memory then.
        part.bytes.reserve(bytes + usize_of(BLOCK_BYTES));
        let length = record::write(&mut part.bytes, record, role, body, mask);
        self.active.index.add(record.stream, Entry::alone(record.seq, offset, length, role));
        self.active.end += length;
        self.gathered_bytes += usize_of(length);
        self.appended = Position(self.active.start + u64::from(self.active.end));
        part.position = self.appended.0;
        self.max_stamp = self.max_stamp.max(record.stamp);
        self.stats.records += 1;
        self.stats.bytes += u64::from(length);
        Ok(Appended { position: self.appended, segment: self.active.id })
    }

    fn check_room(&self, bytes: usize) -> Result<(), StoreError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let smallest = usize_of(self.settings.bytes_of(2));
        let most = smallest - usize_of(HEADER_BYTES) - CONTROL_BYTES;
        if bytes > most || bytes > self.settings.batch_max_bytes {
            return Err(StoreError::TooLarge);
        }
        if self.full {
            return Err(StoreError::Full);
        }
        if self.gathered_bytes + bytes > self.settings.batch_max_bytes {
            return Err(StoreError::Busy);
        }
        Ok(())
    }

    /// Goes on in the next segment, made or not: its commit waits for it.
    pub(super) fn roll(&mut self) {
        let mut next = self.next.take().unwrap_or_else(|| self.following());
        let rolled = &self.active;
        next.start = rolled.start + u64::from(rolled.end);
        next.opening =
            Opening { previous: Some(rolled.id), previous_length: u64::from(rolled.end) };
        self.open = false;
        self.calm.rolled();
        if rolled.end == HEADER_BYTES {
            // Nothing was written to it: it is passed over, and removed at the next start.
            next.opening = rolled.opening;
            self.active = next;
        } else {
            let rolled = core::mem::replace(&mut self.active, next);
            self.rolled.insert(rolled.id, rolled);
        }
    }

    fn following(&mut self) -> LiveSegment {
        let id = SegmentId::new(self.run, self.shard, self.active.id.ordinal() + 1);
        let index = self.spare_index().unwrap_or_else(SegmentIndex::new);
        LiveSegment {
            index,
            ..LiveSegment::new(id, self.salt, &self.settings, self.active.opening)
        }
    }

    /// Begins the part of a commit, with room for its control record.
    fn begin_part(&mut self) {
        let active = &mut self.active;
        // The largest, so that the next batch, too, fits without growing.
        let largest = self.spare.iter().enumerate().max_by_key(|(_, buffer)| buffer.capacity());
        let largest = largest.map(|(place, _)| place);
        let mut bytes = largest.map(|place| self.spare.swap_remove(place)).unwrap_or_default();
        assert!(bytes.is_empty(), "spare buffers are empty");
        let mut offset = active.end;
        if active.end == HEADER_BYTES {
            offset = OPENING_AT;
            write_opening(&mut bytes, &active.opening, active.mask);
        } else if self.tail.end == (Durable { segment: active.id, offset: u64::from(offset) }) {
            bytes.extend_from_slice(&self.tail.bytes);
            offset -= u32_of(self.tail.bytes.len());
        }
        let control = bytes.len();
        record::reserve_control(&mut bytes, Form::Narrow);
        active.end += u32_of(CONTROL_BYTES);
        let (segment, mask) = (active.id, active.mask);
        self.gathered.push(Gathered { segment, offset, bytes, control, mask, position: 0 });
        self.open = true;
    }

    /// Ends a batch: asks for segments ahead of need, seals what can be sealed, and starts the
    /// commit of what gathered if none is under way and none was begun just before: see
    /// [`Settings::commit_interval_us`]. `now_us` is monotonic.
    pub fn end_batch(&mut self, now_us: u64, ops: &mut Vec<StoreOp>) {
        self.now_us = self.now_us.max(now_us);
        self.now_ms = self.now_us / 1000;
        if self.failed.is_some() {
            return;
        }
        self.rest();
        self.ask_segments(ops);
        self.start_commit(ops);
        self.start_seal(ops);
        self.ask_keeper(ops);
    }

    /// When a batch is to be ended at the latest: what gathered waits for its commit until then.
    #[must_use]
    pub fn commit_due_us(&self) -> Option<u64> {
        self.commit_due_us
    }

    /// Whether the last commit was begun so shortly before that more may gather.
    fn waits_for_more(&mut self) -> bool {
        let due = self.commit_begun_us.saturating_add(self.settings.commit_interval_us);
        let waits = self.now_us < due
            && self.gathered_bytes < COMMIT_SOON_BYTES
            && !self.flush_asked
            && self.commits > 0;
        self.commit_due_us = waits.then_some(due);
        waits
    }

    fn ask_segments(&mut self, ops: &mut Vec<StoreOp>) {
        if self.next.is_none() && (self.is_quarter_written() || self.calm.wants_next()) {
            self.next = Some(self.following());
        }
        if self.full && self.now_ms < self.retry_at {
            return;
        }
        let (salt, settings) = (self.salt, self.settings);
        let all = self.rolled.values_mut().chain([&mut self.active]).chain(self.next.as_mut());
        for segment in all.filter(|segment| segment.making == Making::Wanted) {
            segment.making = Making::Asked;
            let identity =
                Identity { segment: segment.id, salt, version: VERSION, recycled: false };
            let header = write_identity(&identity);
            let bytes = u64::from(segment.capacity);
            let reserve_bytes = settings.reserve_for(bytes);
            ops.push(StoreOp::Create { segment: segment.id, header, bytes, reserve_bytes });
        }
    }

    fn start_commit(&mut self, ops: &mut Vec<StoreOp>) {
        self.commit_due_us = None;
        if self.in_flight.is_some() {
            return;
        }
        let ready = self.gathered.iter().take_while(|part| self.is_ready(part.segment)).count();
        let due = match self.settings.durability {
            Durability::Fsync => true,
            Durability::Interval { ms } => self.now_ms.saturating_sub(self.synced_ms) >= ms,
        };
        let sync = due || self.flush_asked;
        let owes_flush = sync && !self.unsynced.is_empty();
        if (ready == 0 && !owes_flush) || self.waits_for_more() {
            return;
        }
        self.commit_begun_us = self.now_us;
        self.open = self.open && ready < self.gathered.len();
        let (mut end, mut end_at) = (self.durable, self.written_at);
        let mut size = 0;
        let mut parts = Vec::with_capacity(ready + self.unsynced.len());
        for part in self.gathered.drain(..ready) {
            let offset = u64::from(part.offset) + u64_of(part.bytes.len());
            let part = finish(part, self.synced_at, &mut end);
            size += part.bytes.len();
            end_at = Durable { segment: part.segment, offset };
            self.tail.keep(&part, end_at);
            self.unsynced.remove(&part.segment);
            parts.push(part);
        }
        let written = parts.len();
        if sync {
            parts.extend(self.unsynced.iter().map(|&segment| flush_only(segment)));
            self.synced_ms = self.now_ms;
            self.flush_asked = false;
        }
        self.unsynced.extend(parts[..written].iter().map(|part| part.segment));
        self.gathered_bytes = self.gathered.iter().map(|part| part.bytes.len()).sum();
        self.commits += 1;
        let id = CommitId(self.commits);
        self.in_flight = Some(InFlight { id, end, end_at, sync });
        self.stats.largest_commit = self.stats.largest_commit.max(u64_of(size));
        ops.push(StoreOp::Commit { id, parts, sync });
    }

    fn is_ready(&self, segment: SegmentId) -> bool {
        let found =
            if segment == self.active.id { Some(&self.active) } else { self.rolled.get(&segment) };
        found.is_some_and(|segment| segment.making == Making::Ready)
    }

    /// Takes an answer. Events are in order; the ops are more fetches of reads.
    pub fn handle(
        &mut self,
        done: StoreDone,
        events: &mut Vec<StoreEvent>,
        ops: &mut Vec<StoreOp>,
    ) {
        match done {
            StoreDone::Committed { id, outcome, buffers } => {
                self.committed(id, outcome, buffers, ops);
            }
            StoreDone::Fetched { id, outcome } => self.fetched(id, outcome, ops),
            StoreDone::Created { segment, outcome } => self.created(segment, outcome),
            StoreDone::Sealed { segment, outcome } => self.sealed(segment, outcome),
            StoreDone::Retired { segment: _ } => {}
            StoreDone::Tended { outcome } => self.tended(outcome),
            StoreDone::Viewed { view } => self.adopt(view),
        }
        self.leave(ops);
        self.take_ready(events);
    }

    fn committed(
        &mut self,
        id: CommitId,
        outcome: Result<(), DiskError>,
        buffers: Vec<Vec<u8>>,
        ops: &mut Vec<StoreOp>,
    ) {
        let commit = self.in_flight.take().expect("an answer follows a question");
        assert_eq!(commit.id, id, "one commit is under way at a time");
        if let Err(error) = outcome {
            self.fail(error);
            return;
        }
        for mut buffer in buffers {
            if self.spare.len() < SPARE_BUFFERS && buffer.capacity() > 0 {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
        self.stats.commits += 1;
        let moved = commit.end > self.durable;
        self.durable = commit.end;
        self.written_at = commit.end_at;
        if commit.sync {
            self.stats.flushes += 1;
            self.synced = commit.end;
            self.synced_at = commit.end_at;
            self.unsynced.clear();
        }
        if moved {
            self.ready(StoreEvent::Durable(self.durable));
            self.resume_waiting(ops);
        }
    }

    /// Final: after a failed write or flush only a new process may look at the files.
    fn fail(&mut self, error: DiskError) {
        let error = StoreError::Failed(error);
        if self.failed.is_none() {
            self.failed = Some(error);
            self.ready(StoreEvent::Fatal(error));
            self.stop_waiting();
        }
    }

    fn created(&mut self, segment: SegmentId, outcome: Result<(), DiskError>) {
        let making = match outcome {
            Ok(()) => Making::Ready,
            Err(DiskError::Full) => Making::Wanted,
            Err(error) => return self.fail(error),
        };
        if let Some(found) = self.live_mut(segment) {
            assert_eq!(found.making, Making::Asked, "an answer follows a question");
            found.making = making;
        }
        let full = making != Making::Ready;
        if full {
            self.retry_at = self.now_ms.saturating_add(self.settings.retry_ms);
        }
        if full != self.full {
            self.full = full;
            self.ready(if full { StoreEvent::Full } else { StoreEvent::Room });
        }
    }

    fn live_mut(&mut self, segment: SegmentId) -> Option<&mut LiveSegment> {
        if segment == self.active.id {
            return Some(&mut self.active);
        }
        let next = self.next.as_mut().filter(|next| next.id == segment);
        next.or_else(|| self.rolled.get_mut(&segment))
    }

    /// The streams of this store with records in segments of earlier runs that are not sealed, in
    /// order. None when the last run said at its clean stop that they owe nothing.
    #[must_use]
    pub fn replay_streams(&self) -> Vec<StreamId> {
        if self.told {
            return Vec::new();
        }
        let streams = self.held.old.values().flat_map(|old| old.index.streams());
        streams.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Notes that a record of this segment owes others `count` messages.
    pub fn owe(&mut self, segment: SegmentId, count: u32) {
        if let Some(found) = self.live_mut(segment) {
            assert!(!found.sealing, "what is sealed owes nothing");
            found.owed += u64::from(count);
        }
    }

    /// Notes that `count` of what a segment owed is durable over there.
    pub fn settle(&mut self, segment: SegmentId, count: u32) {
        if let Some(found) = self.live_mut(segment) {
            assert!(found.owed >= u64::from(count), "no more is settled than was owed");
            found.owed -= u64::from(count);
        }
    }

    /// Whether no record of this run owes anything. Those of earlier runs are not looked at.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        self.live().chain(&self.next).all(|segment| segment.owed == 0)
    }

    /// Bytes appended since the oldest rolled-over segment of this run that still owes something
    /// began; 0 if none does.
    #[must_use]
    pub fn untold_bytes(&self) -> u64 {
        let oldest = self.rolled.values().find(|segment| segment.owed > 0);
        oldest.map_or(0, |segment| self.appended.0 - segment.start)
    }

    /// The end of the last record appended.
    #[must_use]
    pub fn appended(&self) -> Position {
        self.appended
    }

    /// Everything up to here may be shown. In interval mode it is written, not flushed.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Everything up to here is flushed. A clean stop waits until this is `appended`.
    #[must_use]
    pub fn synced(&self) -> Position {
        self.synced
    }

    /// Lets the next commit flush although the interval is not over: for a clean stop.
    pub fn flush_soon(&mut self) {
        self.flush_asked = true;
    }

    /// The run: how often this folder was opened.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.run
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> u8 {
        self.shard
    }

    /// The largest stamp ever appended by any shard before this run, or by this one in it.
    #[must_use]
    pub fn max_stamp(&self) -> u64 {
        self.max_stamp
    }

    /// Counts since open.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let unsealed = self.rolled.len() + self.held.old.len() + 1;
        let tables = self.held.view.tables();
        StoreStats {
            unsealed_segments: u64_of(unsealed),
            tables: u64_of(tables.len()),
            table_bytes: self.held.view.table_bytes(),
            table_memory_bytes: tables.iter().map(|table| table.memory_bytes()).sum(),
            cache_bytes: u64_of(self.reading.cache.bytes()),
            ..self.stats
        }
    }

    fn ready(&mut self, event: StoreEvent) {
        self.reading.ready.push(event);
    }

    /// The unsealed segments of this run that a read may look into, newest first.
    pub(crate) fn live(&self) -> impl Iterator<Item = &LiveSegment> {
        core::iter::once(&self.active).chain(self.rolled.values().rev())
    }
}

impl LiveSegment {
    fn new(id: SegmentId, salt: u64, settings: &Settings, opening: Opening) -> Self {
        Self {
            id,
            making: Making::Wanted,
            start: 0,
            end: HEADER_BYTES,
            capacity: settings.bytes_of(id.ordinal()),
            mask: Mask::new(id, salt, Form::Narrow),
            owed: 0,
            sealing: false,
            opening,
            index: SegmentIndex::new(),
        }
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.id
    }

    pub(crate) fn mask(&self) -> Mask {
        self.mask
    }

    /// The position of a record's end.
    pub(crate) fn position(&self, entry: &Entry) -> Position {
        Position(self.start + entry.end())
    }
}

impl Tail {
    fn keep(&mut self, part: &CommitPart, end: Durable) {
        let block = end.offset - end.offset % u64::from(BLOCK_BYTES);
        let from = index_of(block.max(part.offset) - part.offset);
        let to = index_of(end.offset - part.offset);
        self.end = end;
        self.bytes.clear();
        // A first commit that ends in the header's block has its beginning in another's hands.
        if block >= part.offset {
            self.bytes.extend_from_slice(&part.bytes[from..to]);
        }
    }
}

/// A record that only voids others.
fn mark(stream: StreamId) -> NewRecord<'static> {
    NewRecord { stream, number: 0, seq: 0, stamp: 0, kind: 0, snapshot_start: false, body: &[] }
}

/// A part as it is written, with its control record filled; moves `end` to its end. Zeros go on to
/// the end of the block: see [`Tail`].
fn finish(mut part: Gathered, durable: Durable, end: &mut Position) -> CommitPart {
    let control = u32_of(part.control);
    let room = &mut part.bytes[part.control..part.control + CONTROL_BYTES];
    record::write_control(room, durable, part.mask.at(part.offset + control));
    *end = Position(part.position);
    let whole = block_ceil(u64::from(part.offset) + u64_of(part.bytes.len()));
    part.bytes.resize(index_of(whole - u64::from(part.offset)), 0);
    CommitPart { segment: part.segment, offset: u64::from(part.offset), bytes: part.bytes }
}

fn flush_only(segment: SegmentId) -> CommitPart {
    CommitPart { segment, offset: 0, bytes: Vec::new() }
}
