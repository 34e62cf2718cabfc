//! How records are opened, and what they may say.

use crate::alert::{OpenError, Violation};
use crate::detached::{Detached, Owed, Role};
use crate::record::{ALERT, APPLICATION_DATA, HANDSHAKE, PLAINTEXT_MAX_BYTES, Record};
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use zeroize::Zeroize;

/// New keys without data between, at most; as in rustls and BoringSSL.
const KEY_UPDATES_MAX: u8 = 32;
/// Records without data between, at most.
const EMPTY_RECORDS_MAX: u8 = 32;

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

impl Detached {
    /// Opens the whole records at the start of what the peer sent, from the receive buffer straight
    /// into `plain`, to which their content is appended. Gives how many bytes were taken; what is
    /// left is less than a record, and comes again in front of what follows.
    ///
    /// # Errors
    /// The connection cannot go on: say [`OpenError::alert`] and end it. What was appended before
    /// is good.
    pub fn open(&mut self, stream: &[u8], plain: &mut Vec<u8>) -> Result<usize, OpenError> {
        self.open_with_tickets(stream, plain, &mut |_| {})
    }

    /// The same for a client that wants the server's session tickets; each comes as the body of
    /// its message, for [`crate::TicketTaker`].
    ///
    /// # Errors
    /// As [`Detached::open`].
    pub fn open_with_tickets(
        &mut self,
        stream: &[u8],
        plain: &mut Vec<u8>,
        on_ticket: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, OpenError> {
        let outcome = self.open_records(stream, plain, on_ticket);
        if outcome.is_err() {
            self.peer_ended = true;
        }
        outcome
    }

    fn open_records(
        &mut self,
        stream: &[u8],
        plain: &mut Vec<u8>,
        on_ticket: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, OpenError> {
        let (mut taken, mut key) = (0, None);
        while !self.peer_ended {
            let Some(record) = Record::cut(stream.get(taken..).unwrap_or_default())? else {
                return Ok(taken);
            };
            let with = match &key {
                Some(key) => key,
                None => key.insert(self.receive.aead(self.suite).ok_or(OpenError::Internal)?),
            };
            let start = plain.len();
            let kind = self.open_record(with, &record, plain)?;
            taken += record.bytes();
            if kind == APPLICATION_DATA {
                self.data_came(plain.len() - start)?;
                continue;
            }
            // What is no data is looked at where it was opened, and does not stay there.
            let content = plain.split_off(start);
            // New keys are counted by themselves.
            if kind != HANDSHAKE || content.first() != Some(&KEY_UPDATE) {
                self.counts_as_empty()?;
            }
            match kind {
                HANDSHAKE => {
                    if self.handshake_came(&content, on_ticket)? {
                        key = None;
                    }
                }
                ALERT => self.alert_came(&content)?,
                _ => return Err(Violation::UnknownContent.into()),
            }
        }
        // What follows the peer's last words means nothing.
        Ok(stream.len())
    }

    /// Appends the content of a record and gives its type.
    fn open_record(
        &mut self,
        key: &LessSafeKey,
        record: &Record<'_>,
        plain: &mut Vec<u8>,
    ) -> Result<u8, OpenError> {
        let sequence = self.receive_sequence;
        self.receive_sequence = sequence.checked_add(1).ok_or(OpenError::Internal)?;
        if self.receive_sequence == self.suite.records_max() {
            self.owed = Owed::UpdateAndRequest;
        }
        let nonce = Nonce::assume_unique_for_key(self.receive.nonce(sequence));
        let start = plain.len();
        plain.resize(start + record.sealed.len(), 0);
        let out = plain.get_mut(start..).unwrap_or_default();
        let aad = Aad::from(record.header);
        if key.open_separate_gather(nonce, aad, record.sealed, record.tag, out).is_err() {
            // What a forged record would say is nobody's business.
            out.zeroize();
            plain.truncate(start);
            return Err(Violation::NotAuthentic.into());
        }
        let padding = out.iter().rev().take_while(|byte| **byte == 0).count();
        let content = out.len() - padding;
        let (kind, content) = match out.get(..content).and_then(<[u8]>::split_last) {
            Some((kind, content)) => (*kind, content.len()),
            None => (0, 0),
        };
        let verdict = if kind == 0 {
            Err(Violation::NoContentType.into())
        } else if record.sealed.len() > PLAINTEXT_MAX_BYTES + 1 {
            Err(Violation::RecordTooLong.into())
        } else {
            Ok(kind)
        };
        plain.truncate(if verdict.is_ok() { start + content } else { start });
        verdict
    }

    fn data_came(&mut self, bytes: usize) -> Result<(), OpenError> {
        if bytes == 0 {
            return self.counts_as_empty();
        }
        self.empty_records = 0;
        self.key_updates = 0;
        Ok(())
    }

    fn counts_as_empty(&mut self) -> Result<(), OpenError> {
        self.empty_records += 1;
        if self.empty_records > EMPTY_RECORDS_MAX {
            return Err(Violation::TooManyEmptyRecords.into());
        }
        Ok(())
    }

    /// Says whether the peer has other keys from now on.
    fn handshake_came(
        &mut self,
        content: &[u8],
        on_ticket: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, OpenError> {
        match content.first() {
            None => Err(Violation::Empty.into()),
            Some(&KEY_UPDATE) => self.key_update_came(content).map(|()| true),
            Some(&NEW_SESSION_TICKET) if self.role == Role::Client => {
                tickets_in(content, on_ticket).map(|()| false)
            }
            Some(_) => Err(Violation::UnexpectedHandshake.into()),
        }
    }

    fn key_update_came(&mut self, content: &[u8]) -> Result<(), OpenError> {
        let asked = match content {
            [_, 0, 0, 1, asked @ (0 | 1)] => *asked == 1,
            [_, 0, 0, 1, _] => return Err(Violation::KeyUpdateRequest.into()),
            // It ends where its record does: what follows would be under other keys, and nobody
            // splits five bytes.
            [_] | [_, 0] | [_, 0, 0] | [_, 0, 0, 1, ..] => {
                return Err(Violation::KeyUpdateNotAlone.into());
            }
            _ => return Err(Violation::Malformed.into()),
        };
        self.key_updates += 1;
        if self.key_updates > KEY_UPDATES_MAX {
            return Err(Violation::TooManyKeyUpdates.into());
        }
        self.receive.update(self.suite).ok_or(OpenError::Internal)?;
        self.receive_sequence = 0;
        if asked && self.owed == Owed::Nothing {
            self.owed = Owed::Update;
        }
        Ok(())
    }

    fn alert_came(&mut self, content: &[u8]) -> Result<(), OpenError> {
        match content {
            [] => Err(Violation::Empty.into()),
            [_, CLOSE_NOTIFY] => {
                self.peer_ended = true;
                Ok(())
            }
            // Announces close_notify, which follows.
            [_, USER_CANCELED] => Ok(()),
            [_, description] => Err(OpenError::Peer(*description)),
            _ => Err(Violation::Malformed.into()),
        }
    }
}

/// Gives the bodies of the tickets that a record holds. They begin and end in it.
fn tickets_in(mut content: &[u8], on_ticket: &mut dyn FnMut(&[u8])) -> Result<(), OpenError> {
    while let Some((&[kind, high, middle, low], rest)) = content.split_first_chunk() {
        if kind != NEW_SESSION_TICKET {
            return Err(Violation::UnexpectedHandshake.into());
        }
        let length = u32::from_be_bytes([0, high, middle, low]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (body, after) = rest.split_at_checked(length).ok_or(Violation::Malformed)?;
        on_ticket(body);
        content = after;
    }
    if content.is_empty() { Ok(()) } else { Err(Violation::Malformed.into()) }
}
