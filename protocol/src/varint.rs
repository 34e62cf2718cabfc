//! Unsigned LEB128: lengths of frames, at most five bytes and 32 bits, never padded; and the
//! numbers inside of messages, at most ten bytes and 64 bits.

/// Most bytes of a frame's length.
pub const VARINT_MAX_BYTES: usize = 5;

/// What the start of a buffer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Varint {
    /// A whole number and how many bytes it took.
    Value {
        /// The number.
        value: u32,
        /// Bytes it took, 1 to 5.
        bytes: usize,
    },
    /// More bytes are needed.
    Incomplete,
    /// Longer than five bytes, or more than 32 bits, or padded with needless bytes.
    Invalid,
}

/// Reads a number from the start of a buffer.
#[must_use]
pub fn read(buffer: &[u8]) -> Varint {
    let mut value: u64 = 0;
    let mut shift: u32 = 0;
    for (index, byte) in buffer.iter().take(VARINT_MAX_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f).wrapping_shl(shift);
        if byte & 0x80 == 0 {
            let padded = *byte == 0 && index > 0;
            return match u32::try_from(value) {
                Ok(value) if !padded => Varint::Value { value, bytes: index.saturating_add(1) },
                Ok(_) | Err(_) => Varint::Invalid,
            };
        }
        shift = shift.saturating_add(7);
    }
    if buffer.len() < VARINT_MAX_BYTES { Varint::Incomplete } else { Varint::Invalid }
}

/// Appends a number.
pub fn write(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// How many bytes [`write`] takes.
#[must_use]
pub const fn length(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

/// Takes a number of a message, as protobuf writes it, from the start of a buffer. `None` when it
/// is not whole or has more than 64 bits.
#[must_use]
pub fn take_number(buffer: &mut &[u8]) -> Option<u64> {
    let (first, mut rest) = buffer.split_first()?;
    let mut value = u64::from(first & 0x7f);
    let (mut last, mut shift) = (*first, 7_u32);
    while last & 0x80 != 0 {
        let (byte, after) = rest.split_first()?;
        // The tenth byte holds the last bit, and nothing follows it.
        if shift == 63 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f).wrapping_shl(shift);
        (last, rest, shift) = (*byte, after, shift.saturating_add(7));
    }
    *buffer = rest;
    Some(value)
}

/// Appends a number of a message.
#[inline]
pub fn write_number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// How many bytes [`write_number`] takes: one for each seven bits.
#[inline]
#[must_use]
pub const fn number_length(value: u64) -> usize {
    let bits = u64::BITS.wrapping_sub((value | 1).leading_zeros());
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_of_messages_are_those_of_prost(value: u64, shift in 0_u32..64) {
            let (value, mut out, mut expected) = (value >> shift, Vec::new(), Vec::new());
            write_number(value, &mut out);
            prost::encoding::encode_varint(value, &mut expected);
            prop_assert_eq!(&out, &expected);
            prop_assert_eq!(number_length(value), out.len());
        }

        #[test]
        fn numbers_of_messages_are_taken_as_prost_does(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..14),
            high: u16,
        ) {
            // Most bytes say that another follows.
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte |= if high >> at & 1 == 1 { 0x80 } else { 0 };
            }
            let (mut ours, mut theirs) = (bytes.as_slice(), bytes.as_slice());
            let taken = take_number(&mut ours);
            prop_assert_eq!(taken, prost::encoding::decode_varint(&mut theirs).ok());
            if taken.is_some() {
                prop_assert_eq!(ours, theirs);
            }
        }

        #[test]
        fn what_was_written_is_read(value: u32) {
            let mut out = Vec::new();
            write(value, &mut out);
            prop_assert_eq!(out.len(), length(value));
            prop_assert_eq!(read(&out), Varint::Value { value, bytes: out.len() });
            while out.pop().is_some() {
                prop_assert_eq!(read(&out), Varint::Incomplete);
            }
        }
    }

    #[test]
    fn endless_padded_and_oversized_numbers_are_invalid() {
        assert_eq!(read(&[0x80; 5]), Varint::Invalid);
        assert_eq!(read(&[0x80; 4]), Varint::Incomplete);
        assert_eq!(read(&[0x81, 0x00]), Varint::Invalid);
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Varint::Invalid);
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
            Varint::Value { value: u32::MAX, bytes: 5 }
        );
    }
}
