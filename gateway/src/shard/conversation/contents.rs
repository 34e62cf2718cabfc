//! What may be written: bodies, and what points at an earlier record. Everything is checked before
//! anything is changed.

use super::authors::{Author, Class};
use super::members::{MemberNumber, Role};
use super::records::{self, Change};
use super::{Conversation, Paused, forbidden, invalid, not_found};
use crate::shard::codec::Writer;
use crate::shard::context::{Context, Reading, conversation_stream};
use crate::shard::links::Cause;
use crate::shard::message::Submit;
use bytes::Bytes;
use prost::Message;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{DeviceId, Sequence, UserKey};
use roost_protocol::request::{self, Ciphertext};
use roost_protocol::wire::{self, message::Content};
use roost_storage_engine::{Query, StoredRecord};

/// A write that the rules allow, ready to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) kind: u8,
    /// It raises what is unread.
    pub(crate) counted: bool,
    /// As it is pushed.
    pub(crate) content: Content,
    /// As it is stored, unless it is a plain body.
    encoded: Vec<u8>,
    /// For each device its own, instead of the content.
    pub(crate) ciphertexts: Vec<(UserKey, DeviceId, Bytes)>,
    /// What it changes of the group.
    pub(crate) change: Option<Box<Change>>,
}

impl Prepared {
    fn body(body: &Bytes) -> Self {
        Self {
            kind: records::KIND_MESSAGE,
            counted: true,
            content: Content::Body(body.clone()),
            encoded: Vec::new(),
            ciphertexts: Vec::new(),
            change: None,
        }
    }

    fn of(kind: u8, counted: bool, encoded: Vec<u8>, content: Content) -> Self {
        Self { kind, counted, content, encoded, ciphertexts: Vec::new(), change: None }
    }

    pub(crate) fn change(change: Change) -> Self {
        let mut out = Writer::default();
        change.encode(&mut out);
        let content = Content::System(change.message.clone());
        let prepared = Self::of(records::KIND_CHANGE, false, out.bytes, content);
        Self { change: Some(Box::new(change)), ..prepared }
    }

    /// What the record holds behind its head.
    pub(crate) fn stored(&self) -> &[u8] {
        if let Content::Body(body) = &self.content { body } else { &self.encoded }
    }
}

/// Why a write cannot be written now.
#[derive(Debug)]
pub(crate) enum Halt {
    /// A rule says no.
    Refused(Refusal),
    /// It was encrypted for other devices than there are.
    DevicesChanged,
    /// Who wrote this record must be looked up first.
    LookUp(Sequence),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Conversation {
    /// Checks a write. `target` is who wrote the record it is about, when that had to be looked up.
    pub(crate) fn prepare(
        &self,
        ctx: &Context,
        submit: &Submit,
        member: MemberNumber,
        target: Option<Option<Author>>,
    ) -> Result<Prepared, Halt> {
        self.permit(member)?;
        if submit.reply_to > self.head.seq {
            return Err(invalid("reply_to is above the head").into());
        }
        match &submit.content {
            request::Content::Body(body) => Ok(Prepared::body(body)),
            request::Content::Edit { seq, body } => {
                let author = self.author(member, *seq, target)?;
                if author.member != member {
                    return Err(forbidden("only its author edits a message").into());
                }
                if author.class == Class::Sealed {
                    return Err(forbidden("ciphertexts are not edited, but sent anew").into());
                }
                let edit = wire::Edit { seq: seq.0, body: body.clone() };
                let encoded = edit.encode_to_vec();
                Ok(Prepared::of(records::KIND_EDIT, false, encoded, Content::Edit(edit)))
            }
            request::Content::Delete { seq } => {
                let author = self.author(member, *seq, target)?;
                let tends = !self.is_direct() && self.members.get(member).role >= Role::Admin;
                if author.member != member && !tends {
                    return Err(forbidden("you may delete your own messages only").into());
                }
                let delete = wire::Delete { seq: seq.0 };
                let encoded = delete.encode_to_vec();
                Ok(Prepared::of(records::KIND_DELETE, false, encoded, Content::Delete(delete)))
            }
            request::Content::Reaction { seq, reaction } => {
                self.author(member, *seq, target)?;
                let reaction = wire::Reaction { seq: seq.0, reaction: reaction.clone() };
                let encoded = reaction.encode_to_vec();
                let content = Content::Reaction(reaction);
                Ok(Prepared::of(records::KIND_REACTION, false, encoded, content))
            }
            request::Content::Forward { conversation, seq, body } => {
                let conversation = conversation.to_wire();
                let forward = wire::Forward { conversation, seq: seq.0, body: body.clone() };
                let encoded = forward.encode_to_vec();
                Ok(Prepared::of(records::KIND_FORWARD, true, encoded, Content::Forward(forward)))
            }
            request::Content::Group(change) => {
                let change = self.draft(ctx, member, change, &submit.people)?;
                Ok(Prepared::change(change))
            }
            request::Content::ToDevices { ciphertexts, key_message, versions } => {
                self.check_versions(versions)?;
                Ok(self.to_devices(ciphertexts, *key_message)?)
            }
        }
    }

    /// Whether this member may write anything at all.
    fn permit(&self, member: MemberNumber) -> Result<(), Refusal> {
        if let Some(direct) = &self.direct {
            direct.permit(member)?;
        }
        if !self.is_direct() && !self.members.get(member).is_present() {
            return Err(forbidden("you are no longer in it"));
        }
        Ok(())
    }

    /// Who wrote a message that this member may read.
    fn author(
        &self,
        member: MemberNumber,
        seq: Sequence,
        target: Option<Option<Author>>,
    ) -> Result<Author, Halt> {
        let missing = not_found("there is no such message");
        let readable = seq.0 > 0 && seq <= self.head.seq && self.members.get(member).was_in(seq);
        if !readable && !self.is_channel() {
            return Err(missing.into());
        }
        let found = match (self.authors.get(seq, self.head.seq), target) {
            (Some(author), _) => Some(author),
            (None, Some(found)) => found,
            (None, None) if seq.0 > 0 && seq <= self.head.seq => return Err(Halt::LookUp(seq)),
            (None, None) => None,
        };
        match found {
            Some(author) if author.class != Class::Fixed => Ok(author),
            Some(_) | None => Err(missing.into()),
        }
    }

    fn to_devices(
        &self,
        ciphertexts: &[Ciphertext],
        key_message: bool,
    ) -> Result<Prepared, Refusal> {
        let mut kept = Vec::with_capacity(ciphertexts.len());
        let mut travelling = Vec::with_capacity(ciphertexts.len());
        for Ciphertext { user, device, body } in ciphertexts {
            let Some(key) = self.card.key_of(user) else {
                return Err(invalid("a ciphertext is for a device of one of the two"));
            };
            kept.push((key, *device, body.clone()));
            travelling.push(wire::DeviceCiphertext {
                user: user.as_str().to_owned(),
                device: Bytes::copy_from_slice(&device.0),
                body: body.clone(),
            });
        }
        let stored = wire::ToDevices { ciphertexts: travelling, key_message };
        // Whoever has no ciphertext gets the place without content: see `deliver.rs`.
        let content = Content::Ciphertext(wire::DeviceCiphertext::default());
        let encoded = stored.encode_to_vec();
        let prepared = Prepared::of(records::KIND_TO_DEVICES, !key_message, encoded, content);
        Ok(Prepared { ciphertexts: kept, ..prepared })
    }

    // ---- records that are no longer in memory ----

    /// Looks up who wrote a record. Everything that comes meanwhile waits behind this write.
    pub(crate) fn look_up(
        &mut self,
        ctx: &mut Context,
        submit: Box<Submit>,
        target: Sequence,
        cause: Cause,
    ) {
        ctx.stats.author_reads_total += 1;
        ctx.links.hold(cause.token);
        let token = cause.token;
        self.paused = Some(Box::new(Paused { submit, target, token, waiting: Vec::new() }));
        let seq = target.next().0;
        let stream = conversation_stream(self.id);
        let query = Query::Before { stream, seq, limit: 1, max_bytes: 1 };
        ctx.read(query, Reading::Target(self.id));
    }
}

/// Who wrote a record, if it is among those read.
pub(crate) fn author_in(records: &[StoredRecord], target: Sequence) -> Option<Author> {
    let record = records.first().filter(|record| record.seq == target.0)?;
    let said = records::said(record).ok()?;
    Some(Author { member: said.author, class: records::class_of(record.kind) })
}
