//! The fields of a record: numbers as LEB128 of at most 64 bits, bytes with their length.

use crate::error::RestoreError;
use crate::interface::{Peer, PersistId};
use crate::lane::Unanswered;
use bytes::Bytes;
use prost::Message;
use roost_protocol::ids::{ConversationId, UserId};

/// Appends fields.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.push(tag);
        self
    }

    pub(crate) fn number(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.0.extend_from_slice(bytes);
        self
    }

    /// A message of the wire.
    pub(crate) fn message(&mut self, message: &impl Message) -> &mut Self {
        self.number(u64::try_from(message.encoded_len()).unwrap_or(u64::MAX));
        message.encode(self.0).expect("a vector grows as needed");
        self
    }

    pub(crate) fn conversation(&mut self, id: ConversationId) -> &mut Self {
        self.0.extend_from_slice(&id.to_bytes());
        self
    }

    pub(crate) fn peer(&mut self, peer: &Peer) -> &mut Self {
        match peer {
            Peer::User(user) => self.tag(0).bytes(user.as_str().as_bytes()),
            Peer::Conversation(id) => self.tag(1).conversation(*id),
        }
    }

    pub(crate) fn pairs(&mut self, pairs: &[(u64, u64)]) -> &mut Self {
        self.number(u64::try_from(pairs.len()).unwrap_or(u64::MAX));
        for (left, right) in pairs {
            self.number(*left).number(*right);
        }
        self
    }
}

/// Reads fields.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The next tag, or nothing at the end.
    pub(crate) fn tag(&mut self) -> Option<u8> {
        let (tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*tag)
    }

    pub(crate) fn number(&mut self) -> Result<u64, RestoreError> {
        let mut value = 0_u128;
        for shift in (0..70).step_by(7) {
            let byte = self.tag().ok_or(RestoreError::Truncated)?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value.try_into().map_err(|_| RestoreError::Invalid("a number too large"));
            }
        }
        Err(RestoreError::Invalid("a number too long"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, RestoreError> {
        self.number().map(|number| number != 0)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RestoreError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(RestoreError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn slice(&mut self) -> Result<&'a [u8], RestoreError> {
        let length = usize::try_from(self.number()?).map_err(|_| RestoreError::Truncated)?;
        self.take(length)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, RestoreError> {
        self.slice().map(Bytes::copy_from_slice)
    }

    pub(crate) fn user(&mut self) -> Result<UserId, RestoreError> {
        let text = std::str::from_utf8(self.slice()?).ok();
        text.and_then(|text| UserId::new(text).ok()).ok_or(RestoreError::Invalid("a bad user id"))
    }

    pub(crate) fn conversation(&mut self) -> Result<ConversationId, RestoreError> {
        ConversationId::from_slice(self.take(16)?).ok_or(RestoreError::Truncated)
    }

    pub(crate) fn peer(&mut self) -> Result<Peer, RestoreError> {
        match self.tag() {
            Some(0) => self.user().map(Peer::User),
            Some(1) => self.conversation().map(Peer::Conversation),
            Some(_) => Err(RestoreError::Invalid("a peer that is neither user nor conversation")),
            None => Err(RestoreError::Truncated),
        }
    }

    pub(crate) fn send(&mut self) -> Result<Unanswered, RestoreError> {
        Ok(Unanswered {
            id: self.number()?,
            number: self.number()?,
            tag: self.number()?,
            seen: self.number()?,
            seen_uncounted: self.number()?,
            said: self.message()?,
            persist: PersistId::default(),
            new: false,
            flying: false,
            stale: false,
            rounds: 0,
            refused: None,
        })
    }

    /// A message of the wire.
    pub(crate) fn message<M: Message + Default>(&mut self) -> Result<M, RestoreError> {
        M::decode(self.bytes()?).map_err(|_| RestoreError::Invalid("a message that is none"))
    }

    pub(crate) fn pairs(&mut self) -> Result<Vec<(u64, u64)>, RestoreError> {
        let count = self.number()?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((self.number()?, self.number()?));
        }
        Ok(pairs)
    }
}
