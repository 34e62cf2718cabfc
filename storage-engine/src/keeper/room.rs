//! Room for a sealing on a full disk: a file that means nothing and goes when there is no other
//! room. Without a sealing the log could not be given back, and the disk would stay full.

use super::remove_spares;
use crate::error::DiskError;
use crate::open::Folder;
use crate::position::SegmentId;

/// The room that is given up when there is no other.
pub(crate) const RESERVE: &str = "reserve";

/// Bytes that a stream may take in a table beside its records, less what each of these gives back
/// because it does not name its stream there: the head of a chunk, its place in a page, the filter.
const STREAM_BYTES_MAX: u64 = 32;
/// This part of a table's records may come in heads, keys and lists.
const OVERHEAD_PART: u64 = 64;
/// Header, footer, and what whole blocks leave over.
const FRAME_BYTES: u64 = 16 << 10;
/// A sealing that found too little room is tried again with this part of its segment more.
const MORE_PART: u64 = 16;

/// What the table of a segment may take at most that has so many bytes of so many streams.
pub(crate) fn sealing_bytes_max(bytes: u64, streams: u64) -> u64 {
    bytes + bytes / OVERHEAD_PART + streams * STREAM_BYTES_MAX + FRAME_BYTES
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Room {
    /// Whether there is to be one.
    kept: bool,
    /// Bytes that it must have; a larger one, which was made with a segment, stays.
    wanted: u64,
    /// The largest part of it that tables of many tiny streams need.
    foreseen: u64,
    /// The sealing that found too little room, and how much that was, the reserve included.
    starved: Option<(SegmentId, u64)>,
    /// What there was for the sealing under way.
    had: u64,
}

impl Room {
    pub(super) fn new(kept: bool, wanted: u64) -> Self {
        Self { kept, wanted, foreseen: 0, starved: None, had: 0 }
    }

    /// Bytes of the reserve that is there.
    fn taken(&mut self, folder: &mut dyn Folder) -> u64 {
        if !self.kept {
            return 0;
        }
        let taken = folder.length(RESERVE).unwrap_or(0);
        self.wanted = self.wanted.max(taken);
        taken
    }

    /// Bytes that the reserve lacks.
    pub(super) fn lacking_bytes(&mut self, folder: &mut dyn Folder) -> u64 {
        let taken = self.taken(folder);
        self.wanted - taken
    }

    /// Whether a sealing may find room: not if it did not before, and there is hardly more now.
    /// So a full disk does not cost a sealing each time that it is tried again.
    pub(super) fn may_do(
        &mut self,
        folder: &mut dyn Folder,
        segment: SegmentId,
        length: u64,
    ) -> bool {
        // If the system does not say, it is tried.
        let free = folder.free().unwrap_or(u64::MAX);
        self.had = free.saturating_add(self.taken(folder));
        let starved = self.starved.filter(|(starved, _)| *starved == segment);
        starved.is_none_or(|(_, had)| self.had > had.saturating_add(length / MORE_PART))
    }

    /// Notes how a sealing ended.
    pub(super) fn note(&mut self, segment: SegmentId, full: bool) {
        self.starved = full.then_some((segment, self.had));
    }

    /// Gives the reserve up, and spare files with it. Answers whether there was one.
    pub(super) fn give_up(&mut self, folder: &mut dyn Folder) -> Result<bool, DiskError> {
        if self.taken(folder) == 0 {
            return Ok(false);
        }
        remove_spares(folder)?;
        folder.remove(RESERVE)?;
        folder.sync()?;
        Ok(true)
    }

    /// Takes room while there is some. Without it sealing on a full disk waits until there is room.
    pub(super) fn take(&mut self, folder: &mut dyn Folder) {
        if self.lacking_bytes(folder) > 0 {
            // Tried again after the next sealing; no segment is made before.
            let _full = folder.reserve(self.wanted);
        }
    }

    /// Wants so much, if it is more than before and any is kept.
    pub(super) fn want(&mut self, folder: &mut dyn Folder, bytes: u64) {
        if self.kept && bytes > self.wanted {
            (self.wanted, self.foreseen) = (bytes, bytes);
            self.take(folder);
        }
    }

    /// Gives back what the segments that are left do not need, of which the largest needs so much.
    pub(super) fn shrink(&mut self, folder: &mut dyn Folder, bytes: u64) -> Result<(), DiskError> {
        let needed = bytes.max(self.foreseen);
        if self.taken(folder) > needed {
            folder.end(RESERVE, needed)?;
            self.wanted = needed;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::{Facts, TableWriter};
    use crate::position::{StreamId, TableId};
    use crate::record::{Fields, PIECE_HEAD_MAX, Role, salt_of, write_piece};
    use crate::sim_disk::SimDisk;
    use crate::table::{Piece, Voids};

    /// Bytes of a table and what was said of it before, for streams with so many records each.
    fn table_of(streams: u32, each: u32, fields: Fields, body: &[u8]) -> (u64, u64) {
        let facts = Facts {
            id: TableId(1),
            low: 1,
            high: 1,
            streams_max: u64::from(streams),
            compress: false,
        };
        let mut writer = TableWriter::new(facts);
        let mut segment = 0;
        for stream in 0..streams {
            let stream = StreamId(u128::from(stream) << 96 | 7);
            writer.begin_stream(stream);
            for _ in 0..each {
                writer.add(&Piece::Parts { fields, body });
                let mut piece = Vec::with_capacity(PIECE_HEAD_MAX);
                segment +=
                    16 + write_piece(&mut piece, &fields, &[body], body.len(), salt_of(stream));
            }
            writer.end_stream(Voids::default());
        }
        let root = writer.finish();
        let segment = u64::try_from(segment).unwrap();
        (root.file_bytes(), sealing_bytes_max(segment, u64::from(streams)))
    }

    #[test]
    fn what_found_no_room_is_tried_again_only_when_there_is_more() {
        let (mut disk, mut room) = (SimDisk::new(), Room::new(false, 0));
        let (one, other) = (SegmentId::new(1, 0, 1), SegmentId::new(1, 1, 1));
        disk.set_full(true);
        assert!(room.may_do(&mut disk, one, 1000), "it was never tried");
        room.note(one, true);
        for _ in 0..3 {
            assert!(!room.may_do(&mut disk, one, 1000), "nothing has changed");
        }
        assert!(room.may_do(&mut disk, other, 1000), "another one may need less");
        disk.set_full(false);
        assert!(room.may_do(&mut disk, one, 1000));
        room.note(one, false);
        disk.set_full(true);
        assert!(room.may_do(&mut disk, one, 1000));
    }

    #[test]
    fn no_table_takes_more_than_is_said() {
        let none =
            Fields { number: 0, seq: 0, stamp: 0, kind: 0, role: Role::Plain, control: false };
        let far = Fields { number: u64::MAX, seq: u64::MAX, stamp: u64::MAX, ..none };
        let most = Fields { number: u64::MAX, seq: 1, stamp: 1, ..none };
        for fields in [none, far, most] {
            for (streams, each, bytes) in [(20_000, 1, 0), (5_000, 4, 0), (1, 20_000, 0)] {
                let (table, said) = table_of(streams, each, fields, &vec![7; bytes]);
                assert!(table <= said, "{table} of {said}: {streams} with {each}, {fields:?}");
            }
        }
        let (table, said) = table_of(100, 100, most, &[9; 300]);
        assert!(table <= said && said < table + table / 8, "{table} of {said}");
    }
}
