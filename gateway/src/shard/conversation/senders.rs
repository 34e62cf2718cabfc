//! Per sending device: its last number, and what answers its last 32 writes again.

use roost_protocol::ids::{ClientMessageId, ClientSequence, ConnectionNumber, DeviceId, MessageId};
use roost_protocol::limits::UNANSWERED_WRITES_MAX;
use roost_storage_engine::Position;
use std::collections::VecDeque;

use crate::shard::message::Point;

/// An accepted write, as it is answered when it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) client_message_id: ClientMessageId,
    pub(crate) message_id: MessageId,
    pub(crate) point: Point,
    /// Where the record ends in this run's log; what was loaded is durable and has 0.
    pub(crate) position: Position,
}

/// One device that writes to a conversation.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    /// Index of the member.
    pub(crate) member: u8,
    pub(crate) device: DeviceId,
    pub(crate) last: ClientSequence,
    /// The newest connection this device was heard on in this run of the server.
    pub(crate) connection: ConnectionNumber,
    /// The last accepted writes, oldest first.
    pub(crate) window: VecDeque<Accepted>,
}

/// What a write's number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one: accept it, if the rules allow.
    Next,
    /// It was accepted before.
    Duplicate(Accepted),
    /// The number is used up; go on from this one after reading up to the head.
    Conflict { expected: ClientSequence },
    /// Something before it is missing.
    Gap { expected: ClientSequence },
    /// It came by a connection older than one already heard.
    Stale,
}

impl Sender {
    pub(crate) fn new(member: u8, device: DeviceId) -> Self {
        Self {
            member,
            device,
            last: ClientSequence(0),
            connection: ConnectionNumber(0),
            window: VecDeque::new(),
        }
    }

    /// Judges a write by its number and id alone: this comes before membership and rights, so that
    /// a duplicate gets the original's answer even from somebody removed since.
    pub(crate) fn judge(
        &mut self,
        connection: ConnectionNumber,
        number: ClientSequence,
        id: ClientMessageId,
    ) -> Verdict {
        if connection < self.connection {
            return Verdict::Stale;
        }
        self.connection = connection;
        if let Some(accepted) = self.window.iter().rev().find(|a| a.client_message_id == id) {
            return Verdict::Duplicate(*accepted);
        }
        let expected = ClientSequence(self.last.0 + 1);
        match number.cmp(&expected) {
            std::cmp::Ordering::Equal => Verdict::Next,
            std::cmp::Ordering::Less => Verdict::Conflict { expected },
            std::cmp::Ordering::Greater => Verdict::Gap { expected },
        }
    }

    /// Remembers an accepted write.
    pub(crate) fn accept(&mut self, number: ClientSequence, accepted: Accepted) {
        assert!(number.0 == self.last.0 + 1, "client sequences are dense");
        self.last = number;
        if self.window.len() == UNANSWERED_WRITES_MAX {
            self.window.pop_front();
        }
        self.window.push_back(accepted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_protocol::ids::Sequence;

    fn accepted(id: u64) -> Accepted {
        Accepted {
            client_message_id: ClientMessageId(id),
            message_id: MessageId(id),
            point: Point { seq: Sequence(id), uncounted: 0 },
            position: Position(0),
        }
    }

    fn judge(sender: &mut Sender, number: u64, id: u64) -> Verdict {
        sender.judge(ConnectionNumber(1), ClientSequence(number), ClientMessageId(id))
    }

    #[test]
    fn numbers_are_dense_and_ids_are_remembered_for_32_writes() {
        let mut sender = Sender::new(0, DeviceId([1; 16]));
        for n in 1..=40 {
            assert_eq!(judge(&mut sender, n, n), Verdict::Next);
            sender.accept(ClientSequence(n), accepted(n));
        }
        assert_eq!(judge(&mut sender, 40, 40), Verdict::Duplicate(accepted(40)));
        // An id among the last 32 is a duplicate, whatever its number.
        assert_eq!(judge(&mut sender, 41, 9), Verdict::Duplicate(accepted(9)));
        let expected = ClientSequence(41);
        assert_eq!(judge(&mut sender, 8, 8), Verdict::Conflict { expected });
        assert_eq!(judge(&mut sender, 40, 99), Verdict::Conflict { expected });
        assert_eq!(judge(&mut sender, 42, 99), Verdict::Gap { expected });
    }

    #[test]
    fn a_stale_copy_is_refused_before_anything_else() {
        let mut sender = Sender::new(0, DeviceId([1; 16]));
        let id = ClientMessageId(1);
        assert_eq!(sender.judge(ConnectionNumber(7), ClientSequence(1), id), Verdict::Next);
        assert_eq!(sender.judge(ConnectionNumber(6), ClientSequence(1), id), Verdict::Stale);
        assert_eq!(sender.judge(ConnectionNumber(7), ClientSequence(1), id), Verdict::Next);
    }
}
