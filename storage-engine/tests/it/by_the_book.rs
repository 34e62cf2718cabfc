//! `FORMAT.md` is true: a reader made from its text, with nothing of this crate's own code, finds
//! in segments, tables and the catalogue what the store itself answers.

use std::collections::BTreeMap;

use roost_storage_engine::{Query, StreamId};

use crate::format::fixture;
use crate::world::{World, small, stream};

fn number(bytes: &[u8], at: usize, count: usize) -> u64 {
    bytes[at..at + count].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

fn low32(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap()
}

fn crc(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum).unwrap()
}

fn stream_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(bytes[at..at + 16].try_into().unwrap())
}

fn halves(stream: u128) -> (u64, u64) {
    let low = u64::try_from(stream & u128::from(u64::MAX)).unwrap();
    (low, u64::try_from(stream >> 64).unwrap())
}

/// Where the piece ends that begins here, if it is whole.
fn end_of(bytes: &[u8], stream: u128, mask: u32) -> Option<usize> {
    let (mut rest, mut length) = (bytes.get(4..)?, 0);
    for shift in (0..35).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        rest = behind;
        length |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    let end = bytes.len() - rest.len() + index(length);
    let whole = bytes.get(..end)?;
    (crc(&whole[4..]) ^ salt(stream) ^ mask == low32(number(whole, 0, 4))).then_some(end)
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint of more than 64 bits");
}

/// A checksum at the front, of all from byte 4, mixed with a mask.
fn check(bytes: &[u8], mask: u32) {
    assert_eq!(crc(&bytes[4..]) ^ mask, low32(number(bytes, 0, 4)), "a checksum");
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Piece {
    flags: u8,
    number: u64,
    seq: u64,
    stamp: u64,
    kind: u8,
    body: Vec<u8>,
    bytes: usize,
}

fn salt(stream: u128) -> u32 {
    let (low, high) = halves(stream);
    let high = high.rotate_left(32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    low32(low.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(high) >> 32)
}

fn piece(bytes: &[u8], stream: u128, mask: u32) -> Piece {
    let mut rest = &bytes[4..];
    let length = index(varint(&mut rest));
    let whole = bytes.len() - rest.len() + length;
    check(&bytes[..whole], salt(stream) ^ mask);
    let mut rest = &rest[..length];
    let (flags, kind) = (rest[0], rest[1]);
    rest = &rest[2..];
    let own = if flags & 8 != 0 { varint(&mut rest) } else { 0 };
    let mut seq = 0;
    if flags & 16 != 0 {
        let folded = varint(&mut rest);
        let far = folded / 2;
        seq = if folded.is_multiple_of(2) {
            own.wrapping_add(far)
        } else {
            own.wrapping_sub(far + 1)
        };
    }
    let mut stamp = 0;
    if flags & 32 != 0 {
        stamp = number(rest, 0, 8);
        rest = &rest[8..];
    }
    Piece { flags, number: own, seq, stamp, kind, body: rest.to_vec(), bytes: whole }
}

/// What a folder says of a stream: voided as its marks say.
type Streams = BTreeMap<u128, Vec<Piece>>;

fn void(streams: &mut Streams, stream: u128, floor: u64, deletes: bool) {
    let all = streams.entry(stream).or_default();
    all.retain(|one| !deletes && (one.seq == 0 || one.seq >= floor));
}

fn segment(bytes: &[u8], id: u64, end: Option<u64>, streams: &mut Streams) {
    check(&bytes[..512], 0);
    assert_eq!(&bytes[8..16], b"RoostSeg");
    assert_eq!((number(bytes, 16, 4), number(bytes, 20, 4)), (3, 4096));
    assert_eq!((number(bytes, 24, 8), number(bytes, 32, 4)), (id, id >> 32));
    let mask = crc(&bytes[24..32].iter().chain(&bytes[40..48]).copied().collect::<Vec<u8>>());
    let at_mask = |at: usize| mask ^ low32(u64::try_from(at).unwrap()).wrapping_mul(0x9e37_79b1);
    let opening = &bytes[512..];
    if crc(&opening[4..32]) ^ at_mask(512) != low32(number(opening, 0, 4)) {
        // Never written to; what is there is of an earlier use.
        assert!(end.is_none());
        return;
    }
    assert_eq!(&opening[8..16], b"RoostOpn");
    assert!(opening[32..3584].iter().all(|&byte| byte == 0));
    let mut at = 4096;
    let mut controls = 0;
    // Of this run's segments nothing says where they end; what lies behind never passes.
    while end.map_or(at + 16 < bytes.len(), |end| at < index(end)) {
        let stream = stream_at(bytes, at);
        if end.is_none() && end_of(&bytes[at + 16..], stream, at_mask(at)).is_none() {
            break;
        }
        let found = piece(&bytes[at + 16..], stream, at_mask(at));
        if found.flags & 128 != 0 {
            assert_eq!((stream, found.flags, found.kind, found.bytes + 16), (0, 128, 0, 47));
            assert_eq!(&found.body[..8], b"RoostCmt");
            controls += 1;
        } else if found.flags & 6 != 0 {
            void(streams, stream, found.seq, found.flags & 4 != 0);
        } else {
            streams.entry(stream).or_default().push(found.clone());
        }
        at += 16 + found.bytes;
    }
    assert!(controls > 0, "each commit begins with a control record");
}

fn mix(place: u64) -> u32 {
    low32(place ^ place >> 32).wrapping_mul(0x9e37_79b1)
}

/// (flags, what the head says behind its seqs) and the records of a chunk.
struct Chunk {
    flags: u8,
    stream: u128,
    floor: u64,
    snapshot: Option<u64>,
    /// Place of the list, its chunks, their bytes, their records.
    list: Option<[u64; 4]>,
    bytes: usize,
    pieces: Vec<Piece>,
    seqs: (u64, u64, u64),
}

fn seqs(rest: &mut &[u8]) -> (u64, u64, u64) {
    let count = varint(rest);
    if count == 0 {
        return (0, 0, 0);
    }
    let first = varint(rest);
    (count, first, first + varint(rest))
}

fn chunk(bytes: &[u8]) -> Chunk {
    let head = index(number(bytes, 4, 2));
    check(&bytes[..head], 0);
    assert_eq!(bytes[7], 0xc5);
    let (flags, stream) = (bytes[6], stream_at(bytes, 8));
    let mut rest = &bytes[24..head];
    let records = varint(&mut rest);
    let stored = index(varint(&mut rest));
    let seqs_here = seqs(&mut rest);
    let floor = if flags & 4 != 0 { varint(&mut rest) } else { 0 };
    let snapshot = (flags & 8 != 0).then(|| varint(&mut rest));
    let list = (flags & 16 != 0).then(|| {
        let list = [(); 4].map(|()| varint(&mut rest));
        seqs(&mut rest);
        list
    });
    let mut payload = bytes[head..head + stored].to_vec();
    if flags & 1 != 0 {
        payload = lz4_flex::block::decompress(&payload, index(varint(&mut rest))).unwrap();
    }
    let mut at = 0;
    let mut one = || {
        let size = index(varint(&mut rest));
        let found = piece(&payload[at..at + size], stream, 0);
        assert_eq!(found.bytes, size);
        at += size;
        found
    };
    let pieces: Vec<Piece> = (0..records).map(|_| one()).collect();
    assert!(rest.is_empty() && at == payload.len(), "nothing is left over");
    let with = || pieces.iter().map(|one| one.seq).filter(|&seq| seq > 0);
    let said = (with().count(), with().min().unwrap_or(0), with().max().unwrap_or(0));
    assert_eq!((u64::try_from(said.0).unwrap(), said.1, said.2), seqs_here);
    let bytes = head + stored;
    Chunk { flags, stream, floor, snapshot, list, bytes, pieces, seqs: seqs_here }
}

/// The chunks that a list names, and their records.
fn listed(table: &[u8], [at, chunks, bytes, records]: [u64; 4], stream: u128) -> Vec<Vec<Piece>> {
    let (mut place, mut expected, mut all) = (at, at - bytes, Vec::new());
    while u64::try_from(all.len()).unwrap() < chunks {
        let from = index(place);
        let items = index(number(table, from + 4, 4));
        let length = if items == 127 { 4096 } else { 16 + 32 * items };
        check(&table[from..from + length], mix(place));
        for item in table[from + 16..].chunks(32).take(items) {
            assert_eq!(number(item, 0, 8), expected, "chunks lie one behind the other");
            let found = chunk(&table[index(expected)..]);
            assert_eq!(
                (found.stream, number(item, 8, 4)),
                (stream, found.bytes.try_into().unwrap())
            );
            assert_eq!(index(number(item, 12, 4)), found.pieces.len());
            assert_eq!((number(item, 16, 8), number(item, 24, 8)), (found.seqs.1, found.seqs.2));
            assert_eq!(found.flags & !1, 0, "the last chunk only says more");
            expected += u64::try_from(found.bytes).unwrap();
            all.push(found.pieces);
        }
        place += 4096;
    }
    assert_eq!((expected, index(records)), (at, all.iter().map(Vec::len).sum()));
    all
}

fn filter_has(filter: &[u8], stream: u128) -> bool {
    let (low, high) = halves(stream);
    let start = (low ^ high.rotate_left(23)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let step = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..5).all(|turn: u64| {
        let mixed = start.wrapping_add(turn.wrapping_mul(step));
        let bit = index((mixed ^ mixed >> 31) % (u64::try_from(filter.len()).unwrap() * 8));
        filter[bit / 8] & 1 << (bit % 8) != 0
    })
}

/// Chunks that were listed, compressed, and marks: what of the text was met.
#[derive(Default)]
struct Met {
    lists: usize,
    compressed: usize,
    marks: u64,
    snapshots: usize,
}

fn table(bytes: &[u8], id: u64, streams: &mut Streams, met: &mut Met) {
    let footer = &bytes[bytes.len() - 4096..];
    check(&bytes[..64], 0);
    check(footer, 0);
    for (head, magic) in [(bytes, 8), (footer, 8)] {
        assert_eq!(&head[magic..magic + 8], b"RoostTab");
        assert_eq!((number(head, 16, 4), number(head, 24, 8)), (3, id));
    }
    let (end, pages) = (number(footer, 48, 8), index(number(footer, 96, 4)));
    let root = &bytes[index(end)..][..index(number(footer, 100, 4))];
    assert_eq!(u64::from(crc(root)), number(footer, 104, 4));
    let [left_out, kept, place_bytes] = [108, 109, 110].map(|at| usize::from(footer[at]));
    let alike = stream_at(footer, 112);
    let each = kept + place_bytes + 1;
    let (keys, filter) = root.split_at(pages * each);
    let (mut found, mut records, mut marks, mut before) = (0, 0, 0, None);
    for key in keys.chunks(each) {
        let high = key[..kept].iter().fold(0_u128, |bits, &byte| bits << 8 | u128::from(byte));
        let shift = 8 * (16 - left_out - kept);
        let first = alike | if shift < 128 { high << shift } else { 0 };
        let at = number(key, kept, place_bytes);
        let page = &bytes[index(at)..];
        let count = index(number(page, 8, 2));
        check(&page[..12 + 2 * count], mix(at));
        let page_bytes = index(number(page, 4, 4));
        assert_eq!(page_bytes.div_ceil(256) - 1, usize::from(key[each - 1]));
        let mut next = 12 + 2 * count;
        for one in 0..count {
            assert_eq!(index(number(page, 12 + 2 * one, 2)), next, "without gaps");
            let last = chunk(&page[next..]);
            let stream = last.stream;
            assert!(before.is_none_or(|before| before < stream), "in the order of streams");
            assert!(stream >= first && (one > 0 || before.is_none_or(|before| before < first)));
            before = Some(stream);
            let partition = index(u64::try_from(stream >> 118).unwrap());
            assert!(footer[128 + partition / 8] & 1 << (partition % 8) != 0);
            assert!(filter_has(filter, stream));
            let mut chunks = last.list.map_or(Vec::new(), |list| listed(bytes, list, stream));
            met.lists += usize::from(last.list.is_some());
            met.compressed += usize::from(last.flags & 1 != 0);
            met.snapshots += usize::from(last.snapshot.is_some());
            next += last.bytes;
            chunks.push(last.pieces);
            if let Some(chunk) = last.snapshot {
                assert!(chunks[index(chunk)].iter().any(|one| one.flags & 1 != 0));
            }
            let deletes = last.flags & 2 != 0;
            marks += u64::from(deletes || last.floor > 0);
            void(streams, stream, last.floor, deletes);
            let all: Vec<Piece> = chunks.into_iter().flatten().collect();
            records += u64::try_from(all.len()).unwrap();
            streams.entry(stream).or_default().extend(all);
            found += 1;
        }
        assert_eq!(next, page_bytes);
    }
    let said = [56, 64, 72].map(|at| number(footer, at, 8));
    assert_eq!(said, [found, records, marks]);
    met.marks += marks;
}

/// Everything in the folder, by the catalogue.
fn folder(world: &World, met: &mut Met) -> Streams {
    let content = |name: &str| world.disk.content(name).unwrap();
    let head = content("catalogue");
    check(head, 0);
    assert_eq!(&head[8..16], b"RoostCat");
    assert_eq!((number(head, 4, 4), index(number(head, 16, 4))), (3, head.len()));
    let run = number(head, 20, 4);
    let count = |at| index(number(head, at, 4));
    let (cuts, tails) = (count(44), count(64));
    let cut = |one: usize| (number(head, 104 + 16 * one, 8), number(head, 112 + 16 * one, 8));
    let ends: BTreeMap<u64, u64> = (0..cuts).map(cut).collect();
    let singles = 104 + 16 * (cuts + tails);
    let single = |one: usize| number(head, singles + 8 * one, 8);
    let (voided, absorbed, tables) = (count(48), count(60), count(56));
    assert_eq!(singles + 8 * (voided + absorbed + tables), head.len());
    let gone: Vec<u64> = (0..voided + absorbed).map(single).collect();
    let mut named: Vec<u64> = (voided + absorbed..).take(tables).map(single).collect();
    let name = |id: u64, ending: &str| format!("{id:016x}.{ending}");
    let newest = |id: &u64| {
        let bytes = content(&name(*id, "table"));
        number(bytes, bytes.len() - 4096 + 40, 8)
    };
    named.sort_by_key(newest);
    let mut streams = Streams::new();
    for id in named {
        table(content(&name(id, "table")), id, &mut streams, met);
    }
    for file in world.disk.names() {
        let Some(id) = file.strip_suffix(".active") else { continue };
        let id = u64::from_str_radix(id, 16).unwrap();
        if !gone.contains(&id) {
            let end = (id >> 32 != run).then(|| ends[&id]);
            segment(content(&file), id, end, &mut streams);
        }
    }
    streams
}

fn compare(world: &mut World, streams: &Streams) {
    assert!(!streams.is_empty());
    for (&id, pieces) in streams {
        let all =
            Query::After { stream: StreamId(id), seq: 0, limit: usize::MAX, max_bytes: usize::MAX };
        let answered = world.read(all).unwrap();
        let answered =
            answered.iter().map(|one| (one.number, one.seq, one.stamp, one.kind, &*one.body));
        let with_seq = pieces.iter().filter(|one| one.seq > 0);
        let book = with_seq.map(|one| (one.number, one.seq, one.stamp, one.kind, &*one.body));
        assert!(answered.eq(book), "stream {id:x}");
    }
}

#[test]
fn the_frozen_folder_is_as_the_text_says() {
    let mut world = World::new(small(), 11);
    world.disk = fixture("v3");
    let streams = folder(&world, &mut Met::default());
    world.reopen().unwrap();
    compare(&mut world, &streams);
}

#[test]
fn long_streams_marks_and_compressed_chunks_are_as_the_text_says() {
    let mut settings = small();
    settings.settings.segment_bytes = 512 << 10;
    settings.settings.first_segment_bytes = 512 << 10;
    settings.settings.batch_max_bytes = 1 << 20;
    settings.settings.erase_after_ms = u64::MAX;
    let mut world = World::new(settings, 5);
    for turn in 0..1400_u32 {
        let number = u8::try_from(turn % 3 * 2 + turn % 2).unwrap();
        world.append(stream(number), 900 + index(u64::from(turn % 200))).unwrap();
        if turn % 5 == 0 {
            world.settle();
        }
        if turn == 900 {
            world.trim(stream(0), 60).unwrap();
            world.delete(stream(5)).unwrap();
        }
    }
    world.settle();
    let mut met = Met::default();
    let streams = folder(&world, &mut met);
    let all = met.lists > 0 && met.compressed > 0 && met.marks > 0 && met.snapshots > 0;
    assert!(all, "{} {} {} {}", met.lists, met.compressed, met.marks, met.snapshots);
    compare(&mut world, &streams);
}
