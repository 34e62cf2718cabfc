//! What stays of a connection, and how it seals.

use crate::alert::Alert;
use crate::record::{
    ALERT, APPLICATION_DATA, HANDSHAKE, HEADER_BYTES, PLAINTEXT_MAX_BYTES, TAG_BYTES, header,
};
use crate::secrets::{Keys, Secret, Suite};
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use std::fmt;

/// The message by which a side announces its next keys; its last byte asks the other to do so too.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
/// Records of a key that are left over for its last words: the announcement of the next one, and
/// an alert.
const LAST_RECORDS: u64 = 2;

/// Which side we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// A `KeyUpdate` that goes out before the next data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owed {
    Nothing,
    /// The peer asked for it.
    Update,
    /// The peer has sealed as much with its key as is good.
    UpdateAndRequest,
}

/// A connection after its handshake: 144 bytes, without a heap.
///
/// It is deliberately not `Clone`: two of one connection would seal two records with one nonce,
/// which gives the authentication key away. For the same reason it must not be used on both sides
/// of a `fork`, nor be restored from a snapshot.
pub struct Detached {
    send_sequence: u64,
    pub(crate) receive_sequence: u64,
    send: Keys,
    pub(crate) receive: Keys,
    pub(crate) suite: Suite,
    pub(crate) role: Role,
    /// New keys of the peer without data between.
    pub(crate) key_updates: u8,
    /// Records of the peer without data between.
    pub(crate) empty_records: u8,
    pub(crate) owed: Owed,
    /// We said our last.
    ended: bool,
    /// The peer said its last, or nothing more of it is believed.
    pub(crate) peer_ended: bool,
}

/// What both directions of a connection begin with.
pub(crate) struct Beginning<'a> {
    pub(crate) role: Role,
    pub(crate) suite: Suite,
    pub(crate) send: &'a Secret,
    pub(crate) receive: &'a Secret,
    pub(crate) send_sequence: u64,
    pub(crate) receive_sequence: u64,
}

impl Detached {
    /// `None`: the cipher library failed.
    pub(crate) fn new(beginning: &Beginning<'_>) -> Option<Self> {
        let &Beginning { role, suite, send, receive, send_sequence, receive_sequence } = beginning;
        Some(Self {
            send_sequence,
            receive_sequence,
            send: Keys::of(suite, send)?,
            receive: Keys::of(suite, receive)?,
            suite,
            role,
            key_updates: 0,
            empty_records: 0,
            owed: Owed::Nothing,
            ended: false,
            peer_ended: false,
        })
    }

    /// Whether rustls has the same keys: `send` and `receive` are key and IV.
    pub(crate) fn agrees(&self, send: (&[u8], &[u8]), receive: (&[u8], &[u8])) -> bool {
        self.send.are(self.suite, send.0, send.1)
            && self.receive.are(self.suite, receive.0, receive.1)
    }

    /// What was agreed on.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Whether the peer said that it sends nothing more. The end of a stream without that is a
    /// truncation.
    #[must_use]
    pub const fn peer_has_closed(&self) -> bool {
        self.peer_ended
    }

    /// Whether we said our last: nothing more is sealed.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Seals data in records of at most [`PLAINTEXT_MAX_BYTES`] and appends them. Nothing comes of
    /// no data. What was appended must be sent, once and in this order; what cannot be written is
    /// written later as it is, never sealed again.
    ///
    /// # Errors
    /// The connection is over; `sealed` has then no part of `plain` but perhaps whole records of
    /// its beginning.
    pub fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SealError> {
        if self.ended {
            return Err(SealError::Ended);
        }
        if plain.is_empty() {
            return Ok(());
        }
        let records = plain.len().div_ceil(PLAINTEXT_MAX_BYTES);
        sealed.reserve(plain.len() + records * crate::record::OVERHEAD_BYTES);
        let mut key = None;
        for part in plain.chunks(PLAINTEXT_MAX_BYTES) {
            if self.owed != Owed::Nothing || self.is_worn() {
                self.update_keys(sealed)?;
                key = None;
            }
            let key = match &key {
                Some(key) => key,
                None => key.insert(self.sealing_key()?),
            };
            self.seal_record(key, APPLICATION_DATA, part, sealed)?;
        }
        Ok(())
    }

    /// Says that we send nothing more, and appends it. The second time nothing is said.
    pub fn close(&mut self, sealed: &mut Vec<u8>) {
        self.last_words(Alert::CloseNotify, sealed);
    }

    /// Says what was wrong, and appends it. Nothing is sealed or opened afterwards.
    pub fn refuse(&mut self, alert: Alert, sealed: &mut Vec<u8>) {
        self.last_words(alert, sealed);
        self.peer_ended = true;
    }

    fn last_words(&mut self, alert: Alert, sealed: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        let before = sealed.len();
        let said = self
            .sealing_key()
            .and_then(|key| self.seal_record(&key, ALERT, &alert.encoded(), sealed));
        if said.is_err() {
            // The peer then sees a truncated stream, which it must take for an error.
            sealed.truncate(before);
        }
        self.ended = true;
    }

    /// Whether the key has sealed as much as is good.
    const fn is_worn(&self) -> bool {
        self.send_sequence >= self.suite.records_max() - LAST_RECORDS
    }

    /// Announces the next key under the old one, and takes it.
    fn update_keys(&mut self, sealed: &mut Vec<u8>) -> Result<(), SealError> {
        let asks = u8::from(self.owed == Owed::UpdateAndRequest);
        let [a, b, c, d] = KEY_UPDATE;
        let key = self.sealing_key()?;
        self.seal_record(&key, HANDSHAKE, &[a, b, c, d, asks], sealed)?;
        self.owed = Owed::Nothing;
        if self.send.update(self.suite).is_none() {
            self.ended = true;
            return Err(SealError::Internal);
        }
        self.send_sequence = 0;
        Ok(())
    }

    fn sealing_key(&self) -> Result<LessSafeKey, SealError> {
        self.send.aead(self.suite).ok_or(SealError::Internal)
    }

    /// Seals one record straight from the caller's bytes into the caller's buffer.
    fn seal_record(
        &mut self,
        key: &LessSafeKey,
        kind: u8,
        content: &[u8],
        sealed: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        // The number is used up before there is a record: whatever happens below, no other record
        // is sealed under it.
        let sequence = self.send_sequence;
        self.send_sequence = sequence.checked_add(1).ok_or(SealError::Internal)?;
        let nonce = Nonce::assume_unique_for_key(self.send.nonce(sequence));
        let header = header(content.len() + 1 + TAG_BYTES).ok_or(SealError::Internal)?;
        let start = sealed.len();
        sealed.extend_from_slice(&header);
        sealed.resize(start + HEADER_BYTES + content.len() + 1 + TAG_BYTES, 0);
        let body = sealed.get_mut(start + HEADER_BYTES..).unwrap_or_default();
        let (ciphertext, type_and_tag) = body.split_at_mut(content.len());
        let aad = Aad::from(header);
        let outcome =
            key.seal_out_of_place_scatter(nonce, aad, content, ciphertext, &[kind], type_and_tag);
        if outcome.is_err() {
            sealed.truncate(start);
            self.ended = true;
            return Err(SealError::Internal);
        }
        Ok(())
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached")
            .field("suite", &self.suite)
            .field("role", &self.role)
            .field("send_sequence", &self.send_sequence)
            .field("receive_sequence", &self.receive_sequence)
            .field("ended", &self.ended)
            .field("peer_ended", &self.peer_ended)
            .finish_non_exhaustive()
    }
}

/// Why nothing more is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// We said our last already.
    Ended,
    /// The cipher library failed, or a counter is used up.
    Internal,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "the connection was closed from this side",
            Self::Internal => "the cipher library failed",
        })
    }
}

impl std::error::Error for SealError {}

#[cfg(test)]
mod tests;
