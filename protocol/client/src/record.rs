//! Records: a version byte, then changes, each a tag byte and its fields as bounded numbers and
//! bytes. Each record decodes alone. Tags are never reused; PROTOCOL.md does not know them, they
//! are the device's own.

use crate::change_codec::{Reader, Writer};
use crate::error::RestoreError;
use crate::interface::Peer;
use crate::lane::Unanswered;
use crate::steps::Steps;
use crate::stretches::Stretches;
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, UserId};
use roost_protocol::wire;

/// The first byte of every record.
pub(crate) const VERSION: u8 = 1;

/// One change of what is persisted. Values are absolute, so that repeating one is harmless.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    ConnectionNumber(u64),
    /// Empty: there is none.
    Ticket {
        ticket: Bytes,
        expires_ms: u64,
    },
    Store(u64),
    Run(u64),
    Cursor(u64),
    /// How many messages were named.
    Named(u64),
    /// The direct conversation with a user has this id.
    PeerNamed {
        user: UserId,
        conversation: ConversationId,
    },
    /// It does not exist any more (another store).
    PeerUnnamed {
        user: UserId,
    },
    Queued {
        peer: Peer,
        send: Unanswered,
    },
    Answered {
        peer: Peer,
        id: u64,
    },
    /// Sends numbered `from` and above now count from `to`.
    Renumbered {
        peer: Peer,
        from: u64,
        to: u64,
    },
    Next {
        peer: Peer,
        next: u64,
    },
    Held {
        conversation: ConversationId,
        floor: Option<u64>,
        held: Stretches,
        steps: Steps,
    },
    Entry {
        conversation: ConversationId,
        known: bool,
        target: u64,
        peer_delivered: u64,
        peer_read: u64,
    },
    ReadMark {
        conversation: ConversationId,
        seq: u64,
        uncounted: u64,
        pending: bool,
    },
    /// A write says something else under its name.
    Rewritten {
        peer: Peer,
        id: u64,
        said: wire::Send,
    },
    /// The entry of the user's list; without the conversation's id.
    Listed {
        conversation: ConversationId,
        entry: wire::Entry,
    },
    /// A new group was asked for.
    Creating {
        tag: u64,
        group: wire::CreateGroup,
    },
    /// That was answered.
    Created {
        nonce: Bytes,
    },
}

/// Appends one change to a record that begins with [`VERSION`].
pub(crate) fn encode(change: &Change, out: &mut Vec<u8>) {
    let mut writer = Writer(out);
    match change {
        Change::ConnectionNumber(number) => writer.tag(1).number(*number),
        Change::Ticket { ticket, expires_ms } => writer.tag(2).bytes(ticket).number(*expires_ms),
        Change::Store(store) => writer.tag(3).number(*store),
        Change::Run(run) => writer.tag(4).number(*run),
        Change::Cursor(cursor) => writer.tag(5).number(*cursor),
        Change::Named(count) => writer.tag(6).number(*count),
        Change::PeerNamed { user, conversation } => {
            writer.tag(7).bytes(user.as_str().as_bytes()).conversation(*conversation)
        }
        Change::PeerUnnamed { user } => writer.tag(8).bytes(user.as_str().as_bytes()),
        Change::Queued { peer, send } => writer
            .tag(16)
            .peer(peer)
            .number(send.id)
            .number(send.number)
            .number(send.tag)
            .number(send.seen)
            .number(send.seen_uncounted)
            .message(&send.said),
        Change::Answered { peer, id } => writer.tag(10).peer(peer).number(*id),
        Change::Renumbered { peer, from, to } => {
            writer.tag(11).peer(peer).number(*from).number(*to)
        }
        Change::Next { peer, next } => writer.tag(12).peer(peer).number(*next),
        Change::Held { conversation, floor, held, steps } => writer
            .tag(13)
            .conversation(*conversation)
            .number(floor.map_or(0, |floor| floor.saturating_add(1)))
            .pairs(held.as_slice())
            .pairs(steps.as_slice()),
        Change::Entry { conversation, known, target, peer_delivered, peer_read } => writer
            .tag(14)
            .conversation(*conversation)
            .number(u64::from(*known))
            .number(*target)
            .number(*peer_delivered)
            .number(*peer_read),
        Change::ReadMark { conversation, seq, uncounted, pending } => writer
            .tag(15)
            .conversation(*conversation)
            .number(*seq)
            .number(*uncounted)
            .number(u64::from(*pending)),
        Change::Rewritten { peer, id, said } => writer.tag(17).peer(peer).number(*id).message(said),
        Change::Listed { conversation, entry } => {
            writer.tag(18).conversation(*conversation).message(entry)
        }
        Change::Creating { tag, group } => writer.tag(19).number(*tag).message(group),
        Change::Created { nonce } => writer.tag(20).bytes(nonce),
    };
}

/// The changes of one record.
pub(crate) fn decode(record: &[u8]) -> Result<Vec<Change>, RestoreError> {
    let (version, rest) = record.split_first().ok_or(RestoreError::Empty)?;
    if *version != VERSION {
        return Err(RestoreError::UnknownVersion(*version));
    }
    let mut reader = Reader::new(rest);
    let mut changes = Vec::new();
    while let Some(tag) = reader.tag() {
        changes.push(change(tag, &mut reader)?);
    }
    Ok(changes)
}

fn change(tag: u8, reader: &mut Reader<'_>) -> Result<Change, RestoreError> {
    Ok(match tag {
        1 => Change::ConnectionNumber(reader.number()?),
        2 => Change::Ticket { ticket: reader.bytes()?, expires_ms: reader.number()? },
        3 => Change::Store(reader.number()?),
        4 => Change::Run(reader.number()?),
        5 => Change::Cursor(reader.number()?),
        6 => Change::Named(reader.number()?),
        7 => Change::PeerNamed { user: reader.user()?, conversation: reader.conversation()? },
        8 => Change::PeerUnnamed { user: reader.user()? },
        // 9 was a send that knew nothing but a body.
        10 => Change::Answered { peer: reader.peer()?, id: reader.number()? },
        11 => Change::Renumbered {
            peer: reader.peer()?,
            from: reader.number()?,
            to: reader.number()?,
        },
        12 => Change::Next { peer: reader.peer()?, next: reader.number()? },
        13 => Change::Held {
            conversation: reader.conversation()?,
            floor: reader.number()?.checked_sub(1),
            held: Stretches::from_sorted(reader.pairs()?)
                .ok_or(RestoreError::Invalid("stretches out of order"))?,
            steps: Steps::from_sorted(reader.pairs()?)
                .ok_or(RestoreError::Invalid("steps out of order"))?,
        },
        14 => Change::Entry {
            conversation: reader.conversation()?,
            known: reader.flag()?,
            target: reader.number()?,
            peer_delivered: reader.number()?,
            peer_read: reader.number()?,
        },
        15 => Change::ReadMark {
            conversation: reader.conversation()?,
            seq: reader.number()?,
            uncounted: reader.number()?,
            pending: reader.flag()?,
        },
        16 => Change::Queued { peer: reader.peer()?, send: reader.send()? },
        17 => Change::Rewritten {
            peer: reader.peer()?,
            id: reader.number()?,
            said: reader.message()?,
        },
        18 => Change::Listed { conversation: reader.conversation()?, entry: reader.message()? },
        19 => Change::Creating { tag: reader.number()?, group: reader.message()? },
        20 => Change::Created { nonce: reader.bytes()? },
        unknown => return Err(RestoreError::UnknownTag(unknown)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_records_say_what_is_wrong() {
        assert_eq!(decode(&[]), Err(RestoreError::Empty));
        assert_eq!(decode(&[9]), Err(RestoreError::UnknownVersion(9)));
        assert_eq!(decode(&[VERSION, 200]), Err(RestoreError::UnknownTag(200)));
        assert_eq!(decode(&[VERSION, 1]), Err(RestoreError::Truncated));
        assert_eq!(decode(&[VERSION, 1, 0x80]), Err(RestoreError::Truncated));
        let said = decode(&[VERSION, 200]).unwrap_err().to_string();
        assert!(said.contains("unknown tag 200"), "{said}");
        assert_eq!(decode(&[VERSION]), Ok(vec![]));
    }

    #[test]
    fn every_cut_of_a_record_is_an_error_or_fewer_changes() {
        let user = UserId::new("bob").unwrap();
        let conversation = ConversationId::from_u128(77);
        let changes = [
            Change::Ticket { ticket: Bytes::from_static(b"ticket"), expires_ms: 1 << 40 },
            Change::PeerNamed { user, conversation },
            Change::Held {
                conversation,
                floor: Some(3),
                held: Stretches::from_sorted(vec![(4, 9), (11, 11)]).unwrap(),
                steps: Steps::from_sorted(vec![(4, 1)]).unwrap(),
            },
            Change::Store(u64::MAX),
        ];
        let mut record = vec![VERSION];
        changes.iter().for_each(|change| encode(change, &mut record));
        assert_eq!(decode(&record).unwrap(), changes);
        for cut in 1..record.len() {
            if let Ok(fewer) = decode(&record[..cut]) {
                assert_eq!(fewer, changes[..fewer.len()]);
            }
        }
    }
}
