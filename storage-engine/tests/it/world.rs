//! Some stores on a simulated disk, and a model of what they must hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use roost_storage_engine::{
    DiskError, Durability, Kill, NewRecord, OpenError, OpenSettings, Opened, Position, Query,
    ReadError, ReadId, Settings, SimDisk, Store, StoreError, StoreEvent, StoreOp, StoredRecord,
    StreamId, open,
};

/// Numbers from a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        let high = u32::try_from(self.0 >> 33).unwrap();
        high % bound.max(1)
    }
}

/// Something that was appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Logged {
    Record(StoredRecord),
    Trim(u64),
    Delete,
}

/// A stream as it should be.
#[derive(Clone, Default)]
pub(crate) struct Expected {
    pub(crate) log: Vec<Logged>,
    pub(crate) durable: usize,
}

impl Expected {
    /// What can be read when the log ends after so many.
    pub(crate) fn shown(&self, count: usize) -> Vec<StoredRecord> {
        let mut records: Vec<StoredRecord> = Vec::new();
        for logged in &self.log[..count] {
            match logged {
                Logged::Record(record) => records.push(record.clone()),
                Logged::Trim(seq) => records.retain(|one| one.seq == 0 || one.seq >= *seq),
                Logged::Delete => records.clear(),
            }
        }
        records
    }

    pub(crate) fn records(&self) -> Vec<StoredRecord> {
        self.shown(self.log.len())
    }

    /// The number and the seq that come next: both begin anew after a deletion.
    fn next(&self) -> (u64, u64) {
        let from = self.log.iter().rposition(|logged| *logged == Logged::Delete).unwrap_or(0);
        let records = self.log[from..].iter().filter_map(|logged| match logged {
            Logged::Record(record) => Some(record),
            Logged::Trim(_) | Logged::Delete => None,
        });
        records.fold((1, 1), |(number, seq), record| (number + 1, seq.max(record.seq + 1)))
    }
}

pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) stores: Vec<Store>,
    pub(crate) settings: OpenSettings,
    pub(crate) incarnation: u64,
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    pub(crate) model: BTreeMap<StreamId, Expected>,
    /// (shard, position, stream, records then) of what is not durable.
    waiting: Vec<(u8, Position, StreamId, usize)>,
    pub(crate) events: Vec<(u8, StoreEvent)>,
}

/// Small segments, so that a test sees many.
pub(crate) fn small() -> OpenSettings {
    let settings = Settings {
        segment_bytes: 12 << 10,
        first_segment_bytes: 8 << 10,
        batch_max_bytes: 32 << 10,
        durability: Durability::Fsync,
        retry_ms: 1000,
        tables_a_stream_max: 2,
        reserve_bytes: 1,
        erase_after_ms: 5,
        cache_bytes: 4 << 10,
        ..Settings::DEFAULT
    };
    OpenSettings { shards: 2, settings, fresh_incarnation: 1 }
}

/// The place of the first page of a table's file, as its footer and keys say.
pub(crate) fn first_page(table: &[u8]) -> usize {
    let footer = &table[table.len() - 4096..];
    let end = usize::try_from(u64::from_le_bytes(footer[48..56].try_into().unwrap())).unwrap();
    let (stream, place) = (usize::from(footer[109]), usize::from(footer[110]));
    let key = &table[end + stream..][..place];
    key.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
}

/// A stream of the few a test uses, in a partition of its own.
pub(crate) fn stream(number: u8) -> StreamId {
    StreamId(u128::from(number) << 118 | u128::from(number))
}

impl World {
    pub(crate) fn new(settings: OpenSettings, seed: u64) -> Self {
        let mut world = Self {
            disk: SimDisk::new(),
            stores: Vec::new(),
            settings,
            incarnation: 0,
            now: 1,
            dice: Dice(seed),
            model: BTreeMap::new(),
            waiting: Vec::new(),
            events: Vec::new(),
        };
        world.reopen().expect("an empty folder opens");
        world
    }

    pub(crate) fn reopen(&mut self) -> Result<(), OpenError> {
        self.settings.fresh_incarnation += 1;
        let Opened { stores, incarnation, keeper, .. } = open(&mut self.disk, &self.settings)?;
        self.stores = stores;
        self.disk.attach(keeper, self.settings.shards);
        self.incarnation = incarnation;
        self.waiting.clear();
        Ok(())
    }

    pub(crate) fn home(&self, stream: StreamId) -> u8 {
        self.settings.home(stream.partition())
    }

    pub(crate) fn store(&mut self, stream: StreamId) -> &mut Store {
        let home = self.home(stream);
        &mut self.stores[usize::from(home)]
    }

    /// Appends the next record of a stream: three of four have a seq, some begin a snapshot.
    pub(crate) fn append(&mut self, stream: StreamId, bytes: usize) -> Result<(), StoreError> {
        let (number, next_seq) = self.model.entry(stream).or_default().next();
        let snapshot_start = stream.0 % 2 == 1 && number % 11 == 5;
        let sequenced = stream.0.is_multiple_of(3) || !number.is_multiple_of(4);
        let sequenced = sequenced && !snapshot_start;
        let body: Vec<u8> = (0..bytes)
            .map(|at| u8::try_from((at + bytes + usize::try_from(number).unwrap()) % 251).unwrap())
            .collect();
        let record = StoredRecord {
            number,
            seq: if sequenced { next_seq } else { 0 },
            stamp: self.now,
            kind: u8::try_from(number % 7).unwrap(),
            snapshot_start,
            body: Bytes::from(body),
        };
        let (front, back) = record.body.split_at(bytes / 3);
        let new = NewRecord {
            stream,
            number,
            seq: record.seq,
            stamp: record.stamp,
            kind: record.kind,
            snapshot_start: record.snapshot_start,
            body: &[front, back],
        };
        let appended = self.store(stream).append(&new)?;
        self.logged(stream, Logged::Record(record), appended.position);
        Ok(())
    }

    pub(crate) fn trim(&mut self, stream: StreamId, seq: u64) -> Result<(), StoreError> {
        let appended = self.store(stream).trim(stream, seq)?;
        self.logged(stream, Logged::Trim(seq), appended.position);
        Ok(())
    }

    pub(crate) fn delete(&mut self, stream: StreamId) -> Result<(), StoreError> {
        let appended = self.store(stream).delete(stream)?;
        self.logged(stream, Logged::Delete, appended.position);
        Ok(())
    }

    fn logged(&mut self, stream: StreamId, logged: Logged, position: Position) {
        let expected = self.model.entry(stream).or_default();
        expected.log.push(logged);
        let count = expected.log.len();
        let home = self.home(stream);
        self.waiting.push((home, position, stream, count));
    }

    pub(crate) fn submit(&mut self, shard: u8, ops: Vec<StoreOp>) {
        for op in ops {
            self.disk.submit(shard, op);
        }
    }

    pub(crate) fn end_batch(&mut self, shard: u8) {
        let mut ops = Vec::new();
        self.stores[usize::from(shard)].end_batch(self.now * 1000, &mut ops);
        self.submit(shard, ops);
    }

    pub(crate) fn complete(&mut self, index: usize) {
        let dice = &mut self.dice;
        let (shard, done) = self.disk.complete(index, &mut |below| dice.below(below));
        let (mut events, mut ops) = (Vec::new(), Vec::new());
        self.stores[usize::from(shard)].handle(done, &mut events, &mut ops);
        self.submit(shard, ops);
        self.note(shard, events);
    }

    pub(crate) fn note(&mut self, shard: u8, events: Vec<StoreEvent>) {
        for event in events {
            if let StoreEvent::Durable(position) = event {
                let model = &mut self.model;
                self.waiting.retain(|&(home, end, stream, count)| {
                    let done = home == shard && end <= position;
                    if done {
                        let expected = model.get_mut(&stream).unwrap();
                        expected.durable = expected.durable.max(count);
                    }
                    !done
                });
            }
            self.events.push((shard, event));
        }
    }

    /// Batches and completions until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        loop {
            for shard in 0..self.settings.shards {
                self.end_batch(shard);
                let mut events = Vec::new();
                self.stores[usize::from(shard)].take_ready(&mut events);
                self.note(shard, events);
            }
            if self.disk.pending().is_empty() {
                return;
            }
            while !self.disk.pending().is_empty() {
                self.complete(0);
            }
        }
    }

    pub(crate) fn crash(&mut self, kill: Kill) {
        let dice = &mut self.dice;
        self.disk.crash(kill, &mut |below| dice.below(below));
        self.stores.clear();
    }

    /// Reads, completing everything that waits.
    pub(crate) fn read(&mut self, query: Query) -> Result<Vec<StoredRecord>, ReadError> {
        let shard = self.home(query.stream());
        let mut ops = Vec::new();
        let id = self.stores[usize::from(shard)].read(query, &mut ops);
        self.submit(shard, ops);
        loop {
            let mut events = Vec::new();
            self.stores[usize::from(shard)].take_ready(&mut events);
            self.note(shard, events);
            if let Some(result) = self.take_read(shard, id) {
                return result;
            }
            assert!(!self.disk.pending().is_empty(), "a read is answered");
            self.complete(0);
        }
    }

    fn take_read(
        &mut self,
        shard: u8,
        wanted: ReadId,
    ) -> Option<Result<Vec<StoredRecord>, ReadError>> {
        let place = self.events.iter().position(|(home, event)| {
            *home == shard && matches!(event, StoreEvent::Read { id, .. } if *id == wanted)
        })?;
        match self.events.remove(place).1 {
            StoreEvent::Read { result, .. } => Some(result),
            other => panic!("not a read: {other:?}"),
        }
    }

    /// After a crash: what is stored is a beginning of what was appended, and holds all that was
    /// durable (`keeps`). From now on the model is what is stored.
    pub(crate) fn adopt_survivors(&mut self, keeps: bool) {
        for stream in self.model.keys().copied().collect::<Vec<_>>() {
            let loaded = self.read(Query::Load { stream }).unwrap();
            let all = Query::After { stream, seq: 0, limit: usize::MAX, max_bytes: usize::MAX };
            let sequenced = self.read(all).unwrap();
            let expected = self.model.get_mut(&stream).unwrap();
            let least = if keeps { expected.durable } else { 0 };
            let count = (least..=expected.log.len()).rev().find(|&count| {
                let shown = expected.shown(count);
                let begin = shown.iter().rposition(|record| record.snapshot_start).unwrap_or(0);
                let with_seq = shown.iter().filter(|record| record.seq > 0);
                loaded == shown[begin..] && sequenced.iter().eq(with_seq)
            });
            let Some(count) = count else {
                panic!("{stream:?} is no beginning of what was appended: {loaded:?}");
            };
            expected.log.truncate(count);
            expected.durable = count;
        }
        self.check();
    }

    /// Everything stored, asked in every way, is what the model says. Call it when all is durable.
    pub(crate) fn check(&mut self) {
        let damage = |event: &StoreEvent| match event {
            StoreEvent::Corrupt(_) => true,
            StoreEvent::NotSealed { error, .. } | StoreEvent::NotMerged(error) => {
                *error != DiskError::Full
            }
            _ => false,
        };
        assert!(!self.saw(damage), "nothing was damaged");
        for (stream, expected) in self.model.clone() {
            let all = expected.shown(expected.durable);
            let begin = all.iter().rposition(|record| record.snapshot_start).unwrap_or(0);
            assert_eq!(self.read(Query::Load { stream }).unwrap(), all[begin..]);
            let with_recent = self.read(Query::LoadWithRecent { stream }).unwrap();
            assert!(with_recent.ends_with(&all[begin..]), "{stream:?}: something is missing");
            let sequenced = |records: &[StoredRecord]| -> Vec<StoredRecord> {
                records.iter().filter(|record| record.seq > 0).cloned().collect()
            };
            let (all_sequenced, recent) = (sequenced(&all), sequenced(&with_recent));
            assert!(all_sequenced.ends_with(&recent), "{stream:?}: there is a gap");
            let sequenced: Vec<_> = all.iter().filter(|record| record.seq > 0).cloned().collect();
            let most = sequenced.last().map_or(0, |record| record.seq) + 2;
            let mut bounds = vec![0, 1, most / 2, most, u64::MAX];
            let chosen = self.dice.below(u32::try_from(most).unwrap());
            bounds.push(u64::from(chosen));
            for seq in bounds {
                for limit in [0, 1, 3, 1000] {
                    let max_bytes = usize::MAX;
                    let got = self.read(Query::After { stream, seq, limit, max_bytes }).unwrap();
                    let wanted = sequenced.iter().filter(|record| record.seq > seq).take(limit);
                    assert!(got.iter().eq(wanted), "after {seq}, {limit} of {stream:?}");
                    let got = self.read(Query::Before { stream, seq, limit, max_bytes }).unwrap();
                    let below = sequenced.iter().rev().filter(|record| record.seq < seq);
                    assert!(got.iter().eq(below.take(limit)), "before {seq}, {limit}: {stream:?}");
                }
            }
        }
    }

    pub(crate) fn saw(&self, wanted: impl Fn(&StoreEvent) -> bool) -> bool {
        self.events.iter().any(|(_, event)| wanted(event))
    }

    /// What starts do once everything is told: one seals the old segments, the others follow.
    pub(crate) fn seal_old(&mut self) {
        for shard in 0..self.settings.shards {
            let store = &mut self.stores[usize::from(shard)];
            if shard == 0 { store.seal_old() } else { store.await_old_sealed() }
        }
        self.settle();
        let done = self.events.iter().filter(|(_, event)| *event == StoreEvent::OldSealed).count();
        assert_eq!(done, usize::from(self.settings.shards), "every store hears that it is over");
        self.events.retain(|(_, event)| *event != StoreEvent::OldSealed);
    }

    /// The same, on a disk that may stop any time.
    pub(crate) fn seal_old_as_far_as_it_goes(&mut self) {
        self.stores[0].seal_old();
        for _ in 0..4 {
            self.end_batch(0);
            let pending = self.disk.pending().len();
            for _ in 0..pending {
                self.complete(0);
            }
        }
        self.events.clear();
    }
}
