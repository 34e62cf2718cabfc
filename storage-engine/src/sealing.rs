//! Active to sealed: a pure function from the bytes of a segment to what is added at its end. The
//! records stay where they are, so a crash in the middle loses nothing.

use bytes::Bytes;

use crate::error::DiskError;
use crate::filter;
use crate::header::{HeaderFault, read_identity};
use crate::layout::{
    BLOCK_BYTES, HEADER_BYTES, block_ceil, put, seal_block, u32_of, u64_of, usize_of,
};
use crate::position::{SegmentId, StreamId};
use crate::record::{Mask, parse};
use crate::sealed::{
    BLOCK_HEAD, ITEM_BYTES, ITEMS_EACH, LINE_BYTES, LINES_EACH, Line, SealedRoot, records_end,
    write_line,
};

/// What sealing adds to a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedTail {
    /// Where the bytes go; the file ends with them.
    pub offset: u64,
    /// Index, root and footer.
    pub bytes: Vec<u8>,
    /// What stays in memory.
    pub root: SealedRoot,
}

/// A record for the index.
struct Item {
    stream: StreamId,
    offset: u32,
    length: u32,
    seq: u64,
    snapshot: bool,
}

impl SealedRoot {
    /// The index of a segment whose records end at `length`; `bytes` holds at least those.
    ///
    /// # Errors
    /// `Corrupt` names the first record that is not as it was written; nothing is sealed then.
    pub fn seal(segment: SegmentId, bytes: &[u8], length: u64) -> Result<SealedTail, DiskError> {
        let end = records_end(length, bytes).ok_or(DiskError::Short)?;
        let identity = read_identity(bytes).map_err(|fault| match fault {
            HeaderFault::Bad => DiskError::Corrupt { offset: 0 },
            HeaderFault::Newer(version) => DiskError::Newer { version },
        })?;
        if identity.segment != segment {
            return Err(DiskError::Corrupt { offset: 0 });
        }
        let mask = Mask::new(segment, identity.salt);
        let (mut items, max_stamp) = scan(&bytes[..end], mask)?;
        items.sort_by_key(|item| item.stream);
        let lines = lines_of(&items);
        let directory_at = block_ceil(length);
        let mut tail = Vec::new();
        write_directory(&mut tail, &lines, directory_at, mask);
        let list_at = directory_at + u64_of(tail.len());
        write_list(&mut tail, &items, directory_at, mask);
        let root_at = directory_at + u64_of(tail.len());
        let root = root_of(segment, identity.salt, &lines, items.len());
        let root = Self { length, directory_at, list_at, root_at, max_stamp, ..root };
        tail.extend_from_slice(&root.keys);
        tail.extend_from_slice(&root.filter);
        tail.resize(tail.len().next_multiple_of(usize_of(BLOCK_BYTES)), 0);
        tail.extend_from_slice(&root.footer());
        Ok(SealedTail { offset: directory_at, bytes: tail, root })
    }
}

/// All records up to the end, in their order, and the largest stamp.
fn scan(bytes: &[u8], mask: Mask) -> Result<(Vec<Item>, u64), DiskError> {
    let mut items = Vec::new();
    let mut max_stamp = 0;
    let mut at = usize_of(HEADER_BYTES);
    while at < bytes.len() {
        let offset = u32_of(at);
        let found = parse(&bytes[at..], mask.at(offset))
            .ok_or_else(|| DiskError::Corrupt { offset: u64::from(offset) })?;
        if found.durable.is_none() {
            max_stamp = found.stamp.max(max_stamp);
            let (stream, seq, length) = (found.stream, found.seq, found.length);
            items.push(Item { stream, offset, length, seq, snapshot: found.snapshot });
        }
        at += usize_of(found.length);
    }
    Ok((items, max_stamp))
}

fn lines_of(items: &[Item]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut first_item = 0;
    for group in items.chunk_by(|one, other| one.stream == other.stream) {
        let sequenced = || group.iter().map(|item| item.seq).filter(|&seq| seq > 0);
        lines.push(Line {
            stream: group[0].stream,
            count: u32_of(group.len()),
            sequenced: u32_of(sequenced().count()),
            snapshot: group.iter().rposition(|item| item.snapshot).map(u32_of),
            first_item,
            first_seq: sequenced().min().unwrap_or(0),
            last_seq: sequenced().max().unwrap_or(0),
        });
        first_item += u32_of(group.len());
    }
    lines
}

/// Adds a block with these lines to the tail; `begin` is where the tail goes in the file.
fn write_block(tail: &mut Vec<u8>, begin: u64, mask: Mask, count: usize, lines: &[u8]) {
    let at = u32::try_from(begin + u64_of(tail.len())).expect("segments have at most 1 GiB");
    let start = tail.len();
    tail.resize(start + usize_of(BLOCK_BYTES), 0);
    let block = &mut tail[start..];
    put(block, 4, &u32_of(count).to_le_bytes());
    put(block, BLOCK_HEAD, lines);
    seal_block(block, mask.at(at));
}

fn write_directory(tail: &mut Vec<u8>, lines: &[Line], begin: u64, mask: Mask) {
    for some in lines.chunks(LINES_EACH) {
        let mut bytes = vec![0; some.len() * LINE_BYTES];
        for (line, room) in some.iter().zip(bytes.chunks_exact_mut(LINE_BYTES)) {
            write_line(room, line);
        }
        write_block(tail, begin, mask, some.len(), &bytes);
    }
}

fn write_list(tail: &mut Vec<u8>, items: &[Item], begin: u64, mask: Mask) {
    for some in items.chunks(usize_of(ITEMS_EACH)) {
        let mut bytes = vec![0; some.len() * ITEM_BYTES];
        for (item, room) in some.iter().zip(bytes.chunks_exact_mut(ITEM_BYTES)) {
            put(room, 0, &item.offset.to_le_bytes());
            put(room, 4, &item.length.to_le_bytes());
            put(room, 8, &item.seq.to_le_bytes());
        }
        write_block(tail, begin, mask, some.len(), &bytes);
    }
}

/// Keys, filter and bitmap; the places are filled in by the caller.
fn root_of(segment: SegmentId, salt: u64, lines: &[Line], items: usize) -> SealedRoot {
    let mut bitmap = [0; filter::BITMAP_BYTES];
    let mut bloom = filter::empty(lines.len());
    let mut keys = Vec::new();
    for line in lines {
        filter::mark_partition(&mut bitmap, line.stream);
        filter::add(&mut bloom, line.stream);
    }
    for some in lines.chunks(LINES_EACH) {
        keys.extend_from_slice(&some[0].stream.0.to_le_bytes());
    }
    SealedRoot {
        segment,
        salt,
        length: 0,
        directory_at: 0,
        list_at: 0,
        root_at: 0,
        items: u32_of(items),
        max_stamp: 0,
        bitmap: Bytes::copy_from_slice(&bitmap),
        keys: Bytes::from(keys),
        filter: Bytes::from(bloom),
    }
}
