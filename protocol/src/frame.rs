//! Framing: a length as an unsigned LEB128 number, then that many bytes. Length 0 is a heartbeat.

use crate::varint::{self, Varint};

/// A heartbeat on the wire.
pub const HEARTBEAT: u8 = 0;

/// What the start of a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut<'a> {
    /// A whole frame: its content, and how many bytes of the buffer it took with its length.
    Frame {
        /// The content, never empty.
        content: &'a [u8],
        /// Bytes to drop from the buffer.
        consumed: usize,
    },
    /// A heartbeat; one byte to drop.
    Heartbeat,
    /// The frame needs this many bytes in all, or at least so many when its length is not whole.
    Incomplete {
        /// Bytes from the start of the buffer.
        needed: usize,
    },
}

/// A buffer that does not start with a frame. The connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The length claims more than the limit; nothing of it was read.
    TooLarge {
        /// What it claims, in bytes.
        claimed: usize,
    },
    /// The length is not a number.
    InvalidLength,
}

/// Looks at the start of a buffer. Copies nothing, keeps nothing.
///
/// # Errors
/// [`FrameError`] when no further byte can make it a frame.
pub fn cut(buffer: &[u8], frame_max_bytes: usize) -> Result<Cut<'_>, FrameError> {
    match varint::read(buffer) {
        Varint::Value { value: 0, .. } => Ok(Cut::Heartbeat),
        Varint::Value { value, bytes } => {
            let length = usize::try_from(value).unwrap_or(usize::MAX);
            if length > frame_max_bytes {
                return Err(FrameError::TooLarge { claimed: length });
            }
            let consumed = bytes.saturating_add(length);
            Ok(buffer.get(bytes..consumed).map_or(
                Cut::Incomplete { needed: consumed },
                |content| Cut::Frame { content, consumed },
            ))
        }
        Varint::Incomplete => Ok(Cut::Incomplete { needed: buffer.len().saturating_add(1) }),
        Varint::Invalid => Err(FrameError::InvalidLength),
    }
}

/// Cuts a stream of chunks into frames, for those who may own a buffer per connection. (The
/// gateway does not: it keeps only halves of frames, in a pool.)
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameReader {
    /// An empty reader.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), start: 0 }
    }

    /// Takes what arrived.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 64 * 1024 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole frame, if there is one: `Some(&[])` is a heartbeat.
    ///
    /// # Errors
    /// [`FrameError`] when the stream cannot go on.
    pub fn next_frame(&mut self, frame_max_bytes: usize) -> Result<Option<&[u8]>, FrameError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        match cut(rest, frame_max_bytes)? {
            Cut::Frame { content, consumed } => {
                self.start = self.start.saturating_add(consumed);
                let from = self.start.saturating_sub(content.len());
                Ok(self.buffer.get(from..self.start))
            }
            Cut::Heartbeat => {
                self.start = self.start.saturating_add(1);
                Ok(Some(&[]))
            }
            Cut::Incomplete { .. } => Ok(None),
        }
    }

    /// Bytes kept that are not yet a frame.
    #[must_use]
    pub const fn pending_bytes(&self) -> usize {
        self.buffer.len().saturating_sub(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_claim_is_refused_before_its_bytes_come() {
        let mut bytes = Vec::new();
        varint::write(1001, &mut bytes);
        assert_eq!(cut(&bytes, 1000), Err(FrameError::TooLarge { claimed: 1001 }));
        assert_eq!(cut(&bytes, 1001), Ok(Cut::Incomplete { needed: 1003 }));
    }

    #[test]
    fn frames_and_heartbeats_come_in_order_however_they_are_cut() {
        let stream = [2, b'a', b'b', 0, 1, b'c'];
        for size in 1..=stream.len() {
            let mut reader = FrameReader::new();
            let mut frames: Vec<Vec<u8>> = Vec::new();
            for chunk in stream.chunks(size) {
                reader.push(chunk);
                while let Some(frame) = reader.next_frame(10).unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [b"ab".to_vec(), vec![], b"c".to_vec()]);
            assert_eq!(reader.pending_bytes(), 0);
        }
    }
}
