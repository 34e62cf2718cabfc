//! The bodies of records: varints and bytes, nothing else. What was written by this code is read
//! by this code; a body that does not parse is corruption and is reported as such.

use roost_protocol::ids::{ConversationId, DeviceId, UserId, UserKey};

/// A record's body does not hold what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Puts a body together.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// What was written.
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn number(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
        self
    }

    pub(crate) fn fixed(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64).raw(text.as_bytes())
    }
}

/// Takes a body apart.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        // Every element takes at least a byte: a longer claim is a lie.
        if count > self.0.len() { Err(Malformed) } else { Ok(count) }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        u8::try_from(self.number()?).map_err(|_| Malformed)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn fixed(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn user_id(&mut self) -> Result<UserId, Malformed> {
        let length = self.count()?;
        let text = std::str::from_utf8(self.raw(length)?).map_err(|_| Malformed)?;
        UserId::new(text).map_err(|_| Malformed)
    }

    pub(crate) fn user(&mut self) -> Result<UserKey, Malformed> {
        self.array().map(UserKey::from_bytes)
    }

    pub(crate) fn conversation(&mut self) -> Result<ConversationId, Malformed> {
        self.array().map(ConversationId::from_bytes)
    }

    pub(crate) fn device(&mut self) -> Result<DeviceId, Malformed> {
        self.array().map(DeviceId)
    }
}
