//! The outside of records: lengths and headers.

use crate::alert::Violation;

/// Content of a record, at most.
pub const PLAINTEXT_MAX_BYTES: usize = 1 << 14;
/// What a record that this crate seals has besides its content: header, content type, tag.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// A whole record, at most.
pub const RECORD_MAX_BYTES: usize = HEADER_BYTES + BODY_MAX_BYTES;

/// Type, version and length.
pub(crate) const HEADER_BYTES: usize = 5;
/// What both AEADs add.
pub(crate) const TAG_BYTES: usize = 16;
/// What follows the header, at most: with padding and whatever an AEAD adds.
pub(crate) const BODY_MAX_BYTES: usize = PLAINTEXT_MAX_BYTES + 256;
/// A content type and a tag: less cannot be opened.
const BODY_MIN_BYTES: usize = 1 + TAG_BYTES;

pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;

/// The header of a protected record.
pub(crate) fn header(body_bytes: usize) -> Option<[u8; HEADER_BYTES]> {
    let [high, low] = u16::try_from(body_bytes).ok()?.to_be_bytes();
    Some([APPLICATION_DATA, 3, 3, high, low])
}

/// The record at the start of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) header: [u8; HEADER_BYTES],
    /// Without the tag.
    pub(crate) sealed: &'a [u8],
    pub(crate) tag: &'a [u8],
}

impl<'a> Record<'a> {
    /// Cuts the protected record at the start of a stream. `None`: it has not arrived as a whole.
    /// What is wrong with a header is said before its body is waited for. The version means
    /// nothing, as RFC 8446 wants it.
    pub(crate) fn cut(stream: &'a [u8]) -> Result<Option<Self>, Violation> {
        let Some((&header, rest)) = stream.split_first_chunk::<HEADER_BYTES>() else {
            // Whoever does not begin like a record need not be waited for.
            return match stream.first() {
                Some(&APPLICATION_DATA) | None => Ok(None),
                Some(_) => Err(Violation::NotProtected),
            };
        };
        let [kind, _, _, high, low] = header;
        if kind != APPLICATION_DATA {
            return Err(Violation::NotProtected);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > BODY_MAX_BYTES {
            return Err(Violation::RecordTooLong);
        }
        if length < BODY_MIN_BYTES {
            return Err(Violation::NotAuthentic);
        }
        let Some((body, _)) = rest.split_at_checked(length) else { return Ok(None) };
        let (sealed, tag) = body.split_at(length - TAG_BYTES);
        Ok(Some(Self { header, sealed, tag }))
    }

    /// Bytes of the stream that it is.
    pub(crate) const fn bytes(&self) -> usize {
        HEADER_BYTES + self.sealed.len() + self.tag.len()
    }
}

/// The length of the first record of a stream, protected or not. `None`: its header has not come;
/// an error: there is none.
pub(crate) fn any_record(stream: &[u8]) -> Option<Result<usize, ()>> {
    let is_kind = |kind: u8| (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind);
    if !is_kind(*stream.first()?) {
        return Some(Err(()));
    }
    let (&[_, major, _, high, low], _) = stream.split_first_chunk::<HEADER_BYTES>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_one = major == 3 && length <= BODY_MAX_BYTES;
    Some(if is_one { Ok(HEADER_BYTES + length) } else { Err(()) })
}

/// Whether the first record of a stream is there as a whole, or is known to be none: whether
/// there is something for a handshake to do.
#[must_use]
pub fn has_whole_record(stream: &[u8]) -> bool {
    match any_record(stream) {
        None => false,
        Some(Ok(length)) => stream.len() >= length,
        Some(Err(())) => true,
    }
}
