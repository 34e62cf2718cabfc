//! The unanswered sends to one conversation, in order. What is persisted of a lane is `next` and
//! of each send all but its last six fields; the rest lives as long as the app or the connection.

use crate::interface::PersistId;
use prost::Message;
use roost_protocol::time::Instant;
use roost_protocol::wire::{self, ErrorCode};
use std::collections::VecDeque;

/// One write that has no answer yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unanswered {
    /// Its name for ever.
    pub(crate) id: u64,
    /// Its client_sequence; changes when the lane is renumbered.
    pub(crate) number: u64,
    /// The app's name of it.
    pub(crate) tag: u64,
    /// The newest seq held when it was written; it cannot be stored below.
    pub(crate) seen: u64,
    pub(crate) seen_uncounted: u64,
    /// What it says: content, `reply_to` and device versions; all else is empty.
    pub(crate) said: wire::Send,
    /// It may leave once this record is confirmed.
    pub(crate) persist: PersistId,
    /// Named in this life of the app, or looked for and not found: it cannot have been stored in a
    /// life that this device forgot.
    pub(crate) new: bool,
    /// Sent on this connection, not answered.
    pub(crate) flying: bool,
    /// Encrypted for device lists that are not current: it waits for what the app makes of it.
    pub(crate) stale: bool,
    /// How often that was said in this life of the app.
    pub(crate) rounds: u32,
    /// Refused for good; it is dropped as soon as nothing of the lane is in flight.
    pub(crate) refused: Option<(ErrorCode, String)>,
}

impl Unanswered {
    /// Bytes of what it says.
    pub(crate) fn bytes(&self) -> usize {
        self.said.encoded_len()
    }
}

/// Why a lane sends nothing. It is looked at when nothing of the lane is in flight any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Go back to the lowest not accepted.
    Repeat,
    /// The server expects this number.
    Gap { expected: u64 },
    /// Some were refused for good: the rest is renumbered.
    Refused,
    /// Numbers were used in a life this device does not remember: read up to `head` first.
    Conflict {
        /// The number to go on from.
        expected: u64,
        /// The durable head.
        head: u64,
        /// Everything up to here was looked through.
        looked: u64,
        /// A page is on its way.
        looking: bool,
    },
}

/// The unanswered sends to one conversation.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    /// The number of the next new send.
    pub(crate) next: u64,
    /// In the order of their numbers.
    pub(crate) sends: VecDeque<Unanswered>,
    /// One in flight until one was accepted as new.
    pub(crate) solo: bool,
    /// Sent on this connection and not answered, dropped ones included.
    pub(crate) in_flight: usize,
    /// Answered, but the answer's record is not confirmed.
    pub(crate) confirming: usize,
    pub(crate) hold: Option<Hold>,
    /// Nothing is sent before.
    pub(crate) delay_until: Option<Instant>,
}

impl Default for Lane {
    /// A lane nothing is known of: this may be a device that forgot that it ever wrote here.
    fn default() -> Self {
        Self {
            next: 1,
            sends: VecDeque::new(),
            solo: true,
            in_flight: 0,
            confirming: 0,
            hold: None,
            delay_until: None,
        }
    }
}

impl Lane {
    pub(crate) fn find(&mut self, id: u64) -> Option<&mut Unanswered> {
        self.sends.iter_mut().find(|send| send.id == id)
    }

    /// Gives the sends whose number is at least `from` the numbers `to`, `to + 1`…
    pub(crate) fn renumber(&mut self, from: u64, to: u64) {
        let mut number = to;
        for send in self.sends.iter_mut().filter(|send| send.number >= from) {
            send.number = number;
            number = number.saturating_add(1);
        }
        self.next = number;
    }

    /// The connection is gone: nothing is in flight, nothing is held.
    pub(crate) fn disconnect(&mut self) {
        self.in_flight = 0;
        self.delay_until = None;
        if matches!(self.hold, Some(Hold::Conflict { .. } | Hold::Gap { .. })) {
            self.solo = true;
        }
        self.hold = None;
        for send in &mut self.sends {
            (send.flying, send.stale) = (false, false);
        }
    }

    /// Takes the sends of another lane behind its own: both were the same conversation.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.next = self.next.max(other.next.saturating_sub(count(other.sends.len())));
        for mut send in other.sends {
            send.number = self.next;
            self.next = self.next.saturating_add(1);
            self.sends.push_back(send);
        }
        self.solo = true;
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        self.confirming = self.confirming.saturating_add(other.confirming);
        self.hold = self.hold.take().or(other.hold);
        self.delay_until = self.delay_until.max(other.delay_until);
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
