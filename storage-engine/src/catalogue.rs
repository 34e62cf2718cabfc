//! The catalogue: one small file, replaced atomically at each start and each clean stop. It says
//! which run is under way and where recovery cut the segments of earlier ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::layout::{VERSION, crc, index_of, put, u32_at, u32_of, u64_at, u64_of};
use crate::position::SegmentId;

/// The file's name.
pub(crate) const NAME: &str = "catalogue";

const MAGIC: [u8; 8] = *b"RoostCat";
const HEAD_BYTES: usize = 56;
const CLEAN: u32 = 1;
const INTERVAL: u32 = 2;

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
    /// Whether the run shows what is not flushed.
    pub(crate) interval: bool,
    /// Where the records of each unsealed segment of earlier runs end.
    pub(crate) cuts: BTreeMap<SegmentId, u64>,
    /// Segments that do not count and are being removed.
    pub(crate) voided: BTreeSet<SegmentId>,
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
        let flags = if self.clean { CLEAN } else { 0 } | if self.interval { INTERVAL } else { 0 };
        let total = HEAD_BYTES + self.cuts.len() * 16 + self.voided.len() * 8;
        put(&mut bytes, 4, &VERSION.to_le_bytes());
        put(&mut bytes, 8, &MAGIC);
        put(&mut bytes, 16, &u32_of(total).to_le_bytes());
        put(&mut bytes, 20, &self.run.to_le_bytes());
        put(&mut bytes, 24, &self.incarnation.to_le_bytes());
        put(&mut bytes, 32, &self.max_stamp.to_le_bytes());
        put(&mut bytes, 40, &flags.to_le_bytes());
        put(&mut bytes, 44, &u32_of(self.cuts.len()).to_le_bytes());
        put(&mut bytes, 48, &u32_of(self.voided.len()).to_le_bytes());
        for (segment, length) in &self.cuts {
            bytes.extend_from_slice(&segment.0.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        for segment in &self.voided {
            bytes.extend_from_slice(&segment.0.to_le_bytes());
        }
        assert_eq!(bytes.len(), total, "the length is part of the file");
        let sum = crc(&bytes[4..]);
        put(&mut bytes, 0, &sum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CatalogueFault> {
        if bytes.len() < HEAD_BYTES || bytes[8..16] != MAGIC {
            return Err(CatalogueFault::Bad);
        }
        let version = u32_at(bytes, 4);
        if version > VERSION {
            return Err(CatalogueFault::Newer(version));
        }
        let (cuts, voided) = (u64::from(u32_at(bytes, 44)), u64::from(u32_at(bytes, 48)));
        let voided_at = u64_of(HEAD_BYTES) + cuts * 16;
        let total = voided_at + voided * 8;
        let whole = total == u64_of(bytes.len())
            && total == u64::from(u32_at(bytes, 16))
            && crc(&bytes[4..]) == u32_at(bytes, 0);
        if !whole {
            return Err(CatalogueFault::Bad);
        }
        let (cuts, voided) = bytes[HEAD_BYTES..].split_at(index_of(cuts * 16));
        let flags = u32_at(bytes, 40);
        Ok(Self {
            run: u32_at(bytes, 20),
            incarnation: u64_at(bytes, 24),
            max_stamp: u64_at(bytes, 32),
            clean: flags & CLEAN != 0,
            interval: flags & INTERVAL != 0,
            cuts: cuts
                .chunks_exact(16)
                .map(|cut| (SegmentId(u64_at(cut, 0)), u64_at(cut, 8)))
                .collect(),
            voided: voided.chunks_exact(8).map(|id| SegmentId(u64_at(id, 0))).collect(),
        })
    }
}
