//! The catalogue: one small file, replaced atomically at each start, each clean stop, and whenever
//! tables come or go. It says which files make up the store, which run is under way, and where
//! recovery cut the segments of earlier ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::layout::{VERSION, crc, index_of, put, u32_at, u32_of, u64_at, u64_of};
use crate::position::{SegmentId, TableId};

/// The file's name.
pub(crate) const NAME: &str = "catalogue";

const MAGIC: [u8; 8] = *b"RoostCat";
/// Bytes before the lists; version 1 had 56, and the first two lists only.
const HEAD_BYTES: usize = 104;
const HEAD_BYTES_1: usize = 56;
const CLEAN: u32 = 1;
const INTERVAL: u32 = 2;
const TOLD: u32 = 4;

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Catalogue {
    /// Starts so far; segments of this run are not in `cuts`.
    pub(crate) run: u32,
    /// Changes when what was shown may have been lost.
    pub(crate) incarnation: u64,
    /// No record of the runs before this one has a larger stamp.
    pub(crate) max_stamp: u64,
    /// Whether the run ended with everything flushed.
    pub(crate) clean: bool,
    /// After a clean stop: whether no record of any unsealed segment owed anybody anything.
    pub(crate) told: bool,
    /// Whether the run shows what is not flushed.
    pub(crate) interval: bool,
    /// Where the records of each unsealed segment of earlier runs end.
    pub(crate) cuts: BTreeMap<SegmentId, u64>,
    /// Segments that do not count and are being removed.
    pub(crate) voided: BTreeSet<SegmentId>,
    /// The tables.
    pub(crate) tables: BTreeSet<TableId>,
    /// Segments whose records are in tables; their files go when nobody reads them.
    pub(crate) absorbed: BTreeSet<SegmentId>,
    /// The last segment of each shard of this run that is in a table, and where its records end:
    /// the next one names it.
    pub(crate) tails: BTreeMap<SegmentId, u64>,
    /// The last table's number.
    pub(crate) last_table: u64,
    /// The last sealing's number.
    pub(crate) last_sealing: u64,
    /// Records with a seq and a smaller stamp may go once a later snapshot stands for them.
    pub(crate) retained_from: u64,
}

/// What reading it found instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CatalogueFault {
    Bad,
    Newer(u32),
}

impl Catalogue {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        let flag = |holds: bool, flag: u32| if holds { flag } else { 0 };
        let flags = flag(self.clean, CLEAN) | flag(self.interval, INTERVAL) | flag(self.told, TOLD);
        put(&mut bytes, 4, &VERSION.to_le_bytes());
        put(&mut bytes, 8, &MAGIC);
        put(&mut bytes, 20, &self.run.to_le_bytes());
        put(&mut bytes, 24, &self.incarnation.to_le_bytes());
        put(&mut bytes, 32, &self.max_stamp.to_le_bytes());
        put(&mut bytes, 40, &flags.to_le_bytes());
        put(&mut bytes, 44, &u32_of(self.cuts.len()).to_le_bytes());
        put(&mut bytes, 48, &u32_of(self.voided.len()).to_le_bytes());
        put(&mut bytes, 56, &u32_of(self.tables.len()).to_le_bytes());
        put(&mut bytes, 60, &u32_of(self.absorbed.len()).to_le_bytes());
        put(&mut bytes, 64, &u32_of(self.tails.len()).to_le_bytes());
        put(&mut bytes, 72, &self.last_table.to_le_bytes());
        put(&mut bytes, 80, &self.last_sealing.to_le_bytes());
        put(&mut bytes, 88, &self.retained_from.to_le_bytes());
        let mut pairs = |all: &BTreeMap<SegmentId, u64>| {
            for (segment, length) in all {
                bytes.extend_from_slice(&segment.0.to_le_bytes());
                bytes.extend_from_slice(&length.to_le_bytes());
            }
        };
        pairs(&self.cuts);
        pairs(&self.tails);
        let singles = self.voided.iter().chain(&self.absorbed).map(|segment| segment.0);
        for id in singles.chain(self.tables.iter().map(|table| table.0)) {
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        let total = u32_of(bytes.len());
        put(&mut bytes, 16, &total.to_le_bytes());
        let sum = crc(&bytes[4..]);
        put(&mut bytes, 0, &sum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CatalogueFault> {
        if bytes.len() < HEAD_BYTES_1 || bytes[8..16] != MAGIC {
            return Err(CatalogueFault::Bad);
        }
        let version = u32_at(bytes, 4);
        if version > VERSION {
            return Err(CatalogueFault::Newer(version));
        }
        let head = if version == 1 { HEAD_BYTES_1 } else { HEAD_BYTES };
        if bytes.len() < head {
            return Err(CatalogueFault::Bad);
        }
        let count = |at| if at + 4 <= head { u64::from(u32_at(bytes, at)) } else { 0 };
        let wide = |at| if at + 8 <= head { u64_at(bytes, at) } else { 0 };
        let (cuts, voided) = (count(44), count(48));
        let (tables, absorbed, tails) = (count(56), count(60), count(64));
        let total = u64_of(head) + (cuts + tails) * 16 + (voided + absorbed + tables) * 8;
        let whole = total == u64_of(bytes.len())
            && total == u64::from(u32_at(bytes, 16))
            && crc(&bytes[4..]) == u32_at(bytes, 0);
        if !whole {
            return Err(CatalogueFault::Bad);
        }
        let mut rest = &bytes[head..];
        let mut take = |count: u64, each: u64| {
            let (some, behind) = rest.split_at(index_of(count * each));
            rest = behind;
            some
        };
        let pair = |bytes: &[u8]| (SegmentId(u64_at(bytes, 0)), u64_at(bytes, 8));
        let segment = |bytes: &[u8]| SegmentId(u64_at(bytes, 0));
        let flags = u32_at(bytes, 40);
        Ok(Self {
            run: u32_at(bytes, 20),
            incarnation: u64_at(bytes, 24),
            max_stamp: u64_at(bytes, 32),
            clean: flags & CLEAN != 0,
            told: flags & TOLD != 0,
            interval: flags & INTERVAL != 0,
            cuts: take(cuts, 16).chunks_exact(16).map(pair).collect(),
            tails: take(tails, 16).chunks_exact(16).map(pair).collect(),
            voided: take(voided, 8).chunks_exact(8).map(segment).collect(),
            absorbed: take(absorbed, 8).chunks_exact(8).map(segment).collect(),
            tables: take(tables, 8).chunks_exact(8).map(|id| TableId(u64_at(id, 0))).collect(),
            last_table: wide(72),
            last_sealing: wide(80),
            retained_from: wide(88),
        })
    }
}
