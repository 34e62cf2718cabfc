//! A page: the last chunks of some streams, in their order, behind a directory that says where each
//! begins. It is what a read of a stream fetches first, and mostly all.

use super::chunk::Head;
use super::line::{Line, mask};
use crate::layout::{crc, put, u32_at, u32_of, u64_of, usize_of};
use crate::position::StreamId;

/// Bytes before the directory.
const HEAD_BYTES: usize = 12;
const BYTES_AT: usize = 4;
const COUNT_AT: usize = 8;
const EACH: usize = 2;
/// Bytes of a page at most.
pub(crate) const PAGE_BYTES_MAX: usize = 64 << 10;

/// A page that is being made.
#[derive(Debug, Default)]
pub(crate) struct PageDraft {
    pub(crate) first: Option<StreamId>,
    /// Chunks, one behind the other, and where each begins.
    pub(crate) chunks: Vec<u8>,
    begins: Vec<usize>,
}

impl PageDraft {
    /// Bytes that it will have.
    pub(crate) fn bytes(&self) -> usize {
        HEAD_BYTES + EACH * self.begins.len() + self.chunks.len()
    }

    /// Notes that the chunk of a stream is written next to `chunks`.
    pub(crate) fn begin(&mut self, stream: StreamId) {
        self.first.get_or_insert(stream);
        self.begins.push(self.chunks.len());
    }

    /// Writes it to the end of a buffer, where it will lie at `at`, and begins anew.
    pub(crate) fn write(&mut self, buffer: &mut Vec<u8>, at: u64) {
        assert!(self.bytes() <= PAGE_BYTES_MAX, "what is large is not put into a page");
        let start = buffer.len();
        let directory = HEAD_BYTES + EACH * self.begins.len();
        buffer.resize(start + directory, 0);
        let head = &mut buffer[start..];
        let count = u16::try_from(self.begins.len()).expect("a page is small");
        put(head, BYTES_AT, &u32_of(self.bytes()).to_le_bytes());
        put(head, COUNT_AT, &count.to_le_bytes());
        for (place, begin) in self.begins.iter().enumerate() {
            let begin = u16::try_from(directory + begin).expect("a page is small");
            put(head, HEAD_BYTES + EACH * place, &begin.to_le_bytes());
        }
        let sum = crc(&head[4..]) ^ mask(at);
        put(head, 0, &sum.to_le_bytes());
        buffer.extend_from_slice(&self.chunks);
        self.chunks.clear();
        self.begins.clear();
        self.first = None;
    }
}

/// A page whose directory is whole.
#[derive(Clone, Debug)]
pub(crate) struct Page<'a> {
    at: u64,
    /// Exactly its bytes.
    bytes: &'a [u8],
    /// Where each chunk begins, two bytes each.
    directory: &'a [u8],
}

impl<'a> Page<'a> {
    /// The page that these bytes, which lie at `at`, begin with; none if its directory is damaged.
    pub(crate) fn parse(bytes: &'a [u8], at: u64) -> Option<Self> {
        if bytes.len() < HEAD_BYTES {
            return None;
        }
        let all = bytes.get(..usize_of(u32_at(bytes, BYTES_AT)))?;
        let count = usize::from(u16::from_le_bytes([bytes[COUNT_AT], bytes[COUNT_AT + 1]]));
        let directory = all.get(..HEAD_BYTES + EACH * count)?;
        if crc(&directory[4..]) ^ mask(at) != u32_at(directory, 0) {
            return None;
        }
        Some(Self { at, bytes: all, directory: &directory[HEAD_BYTES..] })
    }

    fn begins(&self) -> impl Iterator<Item = usize> + '_ {
        let begins = self.directory.chunks_exact(EACH);
        begins.map(|begin| usize::from(u16::from_le_bytes([begin[0], begin[1]])))
    }

    /// Where the first chunk begins whose stream is not before this one, if they are in order. It
    /// looks at few of them, and whether these are damaged is not asked.
    fn begin_of(&self, stream: StreamId) -> Option<usize> {
        let begin = |place: usize| {
            let begin = self.directory.get(EACH * place..EACH * (place + 1))?;
            Some(usize::from(u16::from_le_bytes([begin[0], begin[1]])))
        };
        let (mut low, mut high) = (0, self.directory.len() / EACH);
        while low < high {
            let middle = low + (high - low) / 2;
            if Head::stream_said(self.bytes.get(begin(middle)?..)?)? < stream {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        begin(low)
    }

    /// Bytes of the page.
    pub(crate) fn bytes(&self) -> u32 {
        u32_of(self.bytes.len())
    }

    /// Bytes before the first chunk.
    pub(crate) fn directory_bytes(&self) -> u32 {
        u32_of(HEAD_BYTES + self.directory.len())
    }

    /// Whether its chunks lie one behind the other and end with it, as far as that can be told.
    pub(crate) fn is_tight(&self) -> bool {
        let mut next = usize_of(self.directory_bytes());
        let follows = self.begins().all(|begin| {
            let head = self.bytes.get(begin..).and_then(Head::parse);
            let tight = head.is_none() || begin == next;
            next = head.map_or(next, |head| begin + usize_of(head.bytes()));
            tight
        });
        let damaged = self.lines().any(|line| line.is_err());
        damaged || (follows && next == self.bytes.len())
    }

    /// The places of its chunks.
    pub(crate) fn places(&self) -> impl Iterator<Item = u64> + '_ {
        self.begins().map(|begin| self.at + u64_of(begin))
    }

    /// The line of each stream; of one with a damaged head the place of the damage.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Result<Line, u64>> + '_ {
        self.begins().map(|begin| self.line(begin))
    }

    fn line(&self, begin: usize) -> Result<Line, u64> {
        let at = self.at + u64_of(begin);
        let head = self.bytes.get(begin..).and_then(Head::parse);
        let whole = head.filter(|head| begin + usize_of(head.bytes()) <= self.bytes.len());
        whole.and_then(|head| head.line(at)).ok_or(at)
    }

    /// The line of a stream, if it has one here. If a head is damaged that may be its own, the
    /// place of that.
    pub(crate) fn line_of(&self, stream: StreamId) -> Result<Option<Line>, u64> {
        let near = self.begin_of(stream).and_then(|begin| self.line(begin).ok());
        if let Some(line) = near.filter(|line| line.stream == stream) {
            return Ok(Some(line));
        }
        // It has none, or something is damaged.
        let mut damaged = None;
        for line in self.lines() {
            match line {
                Ok(line) if line.stream == stream => return Ok(Some(line)),
                Ok(_) => {}
                Err(at) => damaged = damaged.or(Some(at)),
            }
        }
        damaged.map_or(Ok(None), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::{Draft, OfStream, Seqs, encode};
    use super::*;

    const AT: u64 = 5000;

    fn page(streams: &[u128]) -> Vec<u8> {
        let mut draft = PageDraft::default();
        for &stream in streams {
            let stream = StreamId(stream);
            draft.begin(stream);
            let of_stream = OfStream { floor: 1, ..OfStream::default() };
            let seqs = Seqs::default();
            let empty = Draft { stream, pieces: &[], sizes: &[], seqs, of_stream };
            encode(&mut draft.chunks, &empty, true);
        }
        let bytes = draft.bytes();
        let mut buffer = vec![7; 3];
        draft.write(&mut buffer, AT);
        assert_eq!(buffer.len(), 3 + bytes);
        buffer.split_off(3)
    }

    #[test]
    fn each_stream_is_found() {
        let mut bytes = page(&[3, 5, 9]);
        // What is read may go on behind it.
        bytes.extend_from_slice(&[1; 50]);
        let page = Page::parse(&bytes, AT).unwrap();
        assert!(page.is_tight());
        let streams: Vec<u128> = page.lines().map(|line| line.unwrap().stream.0).collect();
        assert_eq!(streams, [3, 5, 9]);
        for stream in [3, 5, 9] {
            assert_eq!(page.line_of(StreamId(stream)).unwrap().unwrap().floor, 1);
        }
        assert_eq!(page.line_of(StreamId(4)), Ok(None));
        assert!(Page::parse(&bytes, AT + 1).is_none(), "it belongs to its place");
    }

    #[test]
    fn a_stream_is_found_among_many_by_looking_at_few() {
        let streams: Vec<u128> = (1..=200).map(|number| number * 7).collect();
        let bytes = page(&streams);
        let page = Page::parse(&bytes, AT).unwrap();
        let begins: Vec<usize> = page.begins().collect();
        for (place, &stream) in streams.iter().enumerate() {
            assert_eq!(page.begin_of(StreamId(stream)), Some(begins[place]));
            assert_eq!(page.begin_of(StreamId(stream - 1)), Some(begins[place]));
            assert_eq!(page.line_of(StreamId(stream)).unwrap().unwrap().stream.0, stream);
            assert_eq!(page.line_of(StreamId(stream + 1)), Ok(None));
        }
        assert_eq!(page.begin_of(StreamId(1401)), None);
    }

    #[test]
    fn a_flipped_bit_hides_one_stream_or_is_seen_at_once() {
        let whole = page(&[3, 5, 9]);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Some(page) = Page::parse(&bytes, AT) else {
                assert!(bit / 8 < HEAD_BYTES + 3 * EACH, "bit {bit}");
                continue;
            };
            let found = [3, 5, 9].map(|stream| page.line_of(StreamId(stream)));
            assert_eq!(found.iter().filter(|line| line.is_err()).count(), 1, "bit {bit}");
        }
    }
}
