//! Every parser of what is read from disk, each by itself, for the fuzzer and for a test with dice:
//! what `fuzz_targets/parsers.rs` calls. Checksums are made right first, or hardly anything would
//! be reached. Nothing may panic or take memory that a damaged length claims.

use bytes::Bytes;

use crate::catalogue::Catalogue;
use crate::error::DiskError;
use crate::filter;
use crate::header::{read_identity, read_opening};
use crate::layout::{
    BLOCK_BYTES, OPENING_AT, crc, index_of, put, seal_block, u32_at, u64_at, u64_of, u128_at,
    usize_of,
};
use crate::position::{SegmentId, StreamId, TableId};
use crate::record::{Form, Mask, claims_behind, parse, plausible, salt_of, seal};
use crate::table::former::{LEAF_BYTES, decode as decode_former, read_leaf};
use crate::table::{HEAD_MIN, Head, Item, Line, Page, TableRoot, decode, mask, read_items};

const STREAM: StreamId = StreamId(7 << 100 | 3);
const PLACE: u64 = 12_345;
const SEGMENT: SegmentId = SegmentId(1 << 32 | 1);

/// Gives a piece of input, whose first byte says which, to a parser.
pub fn parsers(input: &[u8]) {
    let Some((&which, rest)) = input.split_first() else { return };
    let bytes = rest.to_vec();
    match which % 10 {
        0 => segment_header(bytes),
        1 => catalogue(bytes),
        2 => records(bytes, Form::Narrow),
        3 => records(bytes, Form::Wide),
        4 => page(bytes),
        5 => chunk(bytes),
        6 => list(bytes),
        7 => leaf(bytes),
        8 => former_chunk(bytes),
        _ => root(&bytes),
    }
}

fn mask_of(form: Form) -> Mask {
    Mask::new(SEGMENT, 99, form)
}

fn segment_header(mut bytes: Vec<u8>) {
    bytes.resize(usize_of(BLOCK_BYTES), 0);
    put(&mut bytes, 8, b"RoostSeg");
    let opening = usize_of(OPENING_AT);
    put(&mut bytes, opening + 8, b"RoostOpn");
    seal_block(&mut bytes[..opening], 0);
    let _refused = read_identity(&bytes);
    let mask = mask_of(Form::Narrow);
    seal_block(&mut bytes[opening..opening + 32], mask.at(OPENING_AT).value);
    assert!(read_opening(&bytes, mask).is_some(), "it is whole");
}

fn catalogue(mut bytes: Vec<u8>) {
    if bytes.len() < 20 {
        return;
    }
    put(&mut bytes, 8, b"RoostCat");
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    put(&mut bytes, 16, &length.to_le_bytes());
    seal_block(&mut bytes, 0);
    if let Ok(catalogue) = Catalogue::decode(&bytes) {
        let again = Catalogue::decode(&catalogue.encode());
        assert!(again.is_ok_and(|again| again == catalogue), "it is written as it was read");
    }
}

fn records(mut bytes: Vec<u8>, form: Form) {
    let mask = mask_of(form);
    let mut at = 0;
    while let Some(length) = bytes.get(at..).and_then(|rest| plausible(rest, form)) {
        let Some(record) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..length)) else {
            break;
        };
        let offset = u32::try_from(at).unwrap_or(0);
        let value = mask.at(offset).value;
        match form {
            Form::Wide if record.len() > 4 => seal_block(record, value),
            Form::Narrow if record.len() > 20 => {
                let salt = salt_of(StreamId(u128_at(record, 0)));
                seal(&mut record[16..], salt ^ value);
            }
            Form::Wide | Form::Narrow => break,
        }
        let Some(found) = parse(&bytes[at..], mask.at(offset)) else { break };
        assert!(found.body <= found.length && found.length > 0, "a body lies in its record");
        at += usize_of(found.length);
    }
    let _furthest = claims_behind(&bytes, 0, mask);
}

/// Makes the checksum of a head right.
fn seal_head(chunk: &mut [u8]) {
    let head = Head::bytes_said(chunk).map_or(0, index_of);
    if let Some(head) = chunk.get_mut(..head).filter(|head| head.len() > 4) {
        let sum = crc(&head[4..]);
        put(head, 0, &sum.to_le_bytes());
    }
}

fn page(mut bytes: Vec<u8>) {
    if bytes.len() < 12 {
        return;
    }
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    put(&mut bytes, 4, &length.to_le_bytes());
    let streams = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) % 64;
    put(&mut bytes, 8, &u16::try_from(streams).unwrap_or(0).to_le_bytes());
    let directory = 12 + 2 * streams;
    for stream in 0..streams {
        let Some(&[low, high]) = bytes.get(12 + 2 * stream..14 + 2 * stream) else { return };
        if let Some(chunk) = bytes.get_mut(usize::from(u16::from_le_bytes([low, high]))..) {
            seal_head(chunk);
        }
    }
    let Some(room) = bytes.get_mut(..directory) else { return };
    let sum = crc(&room[4..]) ^ mask(PLACE);
    put(room, 0, &sum.to_le_bytes());
    let Some(page) = Page::parse(&bytes, PLACE) else { return };
    let _tight = page.is_tight();
    for line in page.lines().flatten() {
        look_at(&line);
        let _found = page.line_of(line.stream);
        let last = line.last.map(|last| (index_of(last.offset - PLACE), usize_of(last.stored)));
        let chunk = last.and_then(|(from, stored)| bytes.get(from..from.checked_add(stored)?));
        if let Some(chunk) = chunk {
            look_into(&Bytes::copy_from_slice(chunk), line.stream);
        }
    }
}

/// Gives a chunk to its parser: damage lies in it, or in what it decompresses to.
fn look_into(chunk: &Bytes, stream: StreamId) {
    let mut faults = Vec::new();
    decode(chunk, stream, &mut faults);
    let most = u64_of(chunk.len()).saturating_mul(1 << 10);
    assert!(faults.iter().all(|fault| fault.at <= most), "damage has a place");
}

fn look_at(line: &Line) {
    let _numbers = (line.chunks(), line.chunk_bytes(), line.begin());
    let _range = line.list_range((0, u32::MAX));
}

fn chunk(mut bytes: Vec<u8>) {
    if bytes.len() < HEAD_MIN {
        return;
    }
    seal_head(&mut bytes);
    let _line = Head::parse(&bytes).and_then(|head| head.line(PLACE));
    let stream = StreamId(u128_at(&bytes, 8));
    look_into(&Bytes::from(bytes), stream);
}

/// Makes the checksum of each block right.
fn seal_blocks(bytes: &mut [u8]) {
    for (turn, block) in bytes.chunks_mut(usize_of(BLOCK_BYTES)).enumerate() {
        if block.len() > 4 {
            seal_block(block, mask(PLACE + u64_of(turn) * u64::from(BLOCK_BYTES)));
        }
    }
}

fn list(mut bytes: Vec<u8>) {
    seal_blocks(&mut bytes);
    let items: Vec<Item> = read_items(&bytes, PLACE).unwrap_or_default();
    assert!(items.len() <= bytes.len() / 32, "each item has its bytes");
}

fn leaf(mut bytes: Vec<u8>) {
    bytes.resize(usize_of(LEAF_BYTES), 0);
    seal_blocks(&mut bytes);
    for line in read_leaf(&bytes, PLACE).unwrap_or_default() {
        look_at(&line);
    }
}

fn former_chunk(mut bytes: Vec<u8>) {
    if bytes.len() < 64 {
        return;
    }
    let stored = u32::try_from(bytes.len()).unwrap_or(0);
    put(&mut bytes, 4, &stored.to_le_bytes());
    put(&mut bytes, 24, &STREAM.0.to_le_bytes());
    seal_block(&mut bytes, 0);
    decode_former(&Bytes::from(bytes), STREAM, &mut Vec::new());
}

/// The input overwrites the beginning of a footer, and what lies before it.
fn root(input: &[u8]) {
    const FOOTER: usize = 4096;
    let (footer, before) = input.split_at(input.len().min(256));
    let mut bytes = before.to_vec();
    let end = u64_of(bytes.len() / 2);
    bytes.resize(bytes.len() + FOOTER, 0);
    let at = bytes.len() - FOOTER;
    put(&mut bytes, at, footer);
    put(&mut bytes, at + 8, b"RoostTab");
    put(&mut bytes, at + 24, &1_u64.to_le_bytes());
    put(&mut bytes, at + 48, &end.to_le_bytes());
    let root = usize_of(u32_at(&bytes, at + 100)) % (at + 1);
    put(&mut bytes, at + 100, &u32::try_from(root).unwrap_or(0).to_le_bytes());
    if let Some(root) = bytes.get(index_of(end)..).and_then(|rest| rest.get(..root)) {
        let sum = crc(root);
        put(&mut bytes, at + 104, &sum.to_le_bytes());
    }
    seal_block(&mut bytes[at..], 0);
    let mut read = |offset: u64, length: u32| {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|from| bytes.get(from..from.checked_add(usize_of(length))?));
        range.map(<[u8]>::to_vec).ok_or(DiskError::Short)
    };
    let Ok(root) = TableRoot::load(TableId(1), u64_of(bytes.len()), &mut read) else { return };
    assert_eq!(root.end, u64_at(&bytes, at + 48), "as the footer says");
    for page in 0..root.pages().min(64) {
        let _range = root.page_range(page);
    }
    for number in 0..16_u32 {
        let stream = StreamId(u128::from(number) << 120 | u128::from(number));
        let _spot = root.spot_of(stream);
        let _either = (filter::has_partition(&root.bitmap, stream), root.may_hold(stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random numbers that are the same each time.
    fn next(state: &mut u64) -> u8 {
        *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (*state >> 56).try_into().unwrap()
    }

    #[test]
    fn no_parser_panics_at_what_dice_give_it() {
        let mut state = 1;
        for turn in 0..60_000_u32 {
            let mut input = vec![u8::try_from(turn % 10).unwrap()];
            let length = 16 * usize::from(next(&mut state)) / (1 + usize::from(turn % 7 == 0) * 15);
            // Small numbers are met more often than they would be.
            let small = next(&mut state) % 4;
            input.extend((0..length).map(|_| {
                let byte = next(&mut state);
                if byte % 4 < small { byte % 5 } else { byte }
            }));
            parsers(&input);
        }
    }
}
