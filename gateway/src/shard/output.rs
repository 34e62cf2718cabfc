//! What a shard wants.

use crate::ids::{EdgeId, ShardId};
use crate::shard::message::Parcel;
use crate::shard::report::Report;
use roost_storage_engine::StoreOp;

/// One wish. The driver performs all of them in order after `end_batch`.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes; answered by `Input::Sent`, or by `Closed`. At most one outstanding per
    /// connection.
    Send {
        /// The connection.
        edge: EdgeId,
        /// What to send, given back by `Sent`.
        buffer: Vec<u8>,
    },
    /// End the connection, after what is being sent; answered by `Closed`.
    Close {
        /// The connection.
        edge: EdgeId,
    },
    /// End the connection at once, whatever is being sent; answered by `Closed`.
    Abort {
        /// The connection.
        edge: EdgeId,
    },
    /// Stop receiving from it.
    Pause {
        /// The connection.
        edge: EdgeId,
    },
    /// Receive from it again.
    Resume {
        /// The connection.
        edge: EdgeId,
    },
    /// Take no further connections of a listener until `ResumeAccepting`: they wait in the kernel.
    /// One that was taken at this moment still opens.
    PauseAccepting {
        /// Which one, in the order of `EdgeConfig::listeners`.
        listener: u16,
    },
    /// Take its connections again.
    ResumeAccepting {
        /// Which one.
        listener: u16,
    },
    /// Put this into the queue to another shard. There is room: the shard counts.
    Forward {
        /// Whose queue.
        to: ShardId,
        /// What to carry.
        parcel: Parcel,
    },
    /// Perform this on the disk; answered by `Input::Stored`.
    Store(StoreOp),
    /// For the operator.
    Report(Report),
    /// Drained: the process may stop when every shard said so.
    Drained,
}

/// Wishes for which an outbox keeps room.
const ROOM_KEPT: usize = 4_096;

/// The wishes of one batch, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    outputs: Vec<Output>,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { outputs: Vec::new() }
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Takes everything, keeping the space.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Output> {
        self.outputs.drain(..)
    }

    /// Lets go of room that only the busiest moment needed.
    pub(crate) fn give_back(&mut self) {
        self.outputs.shrink_to(ROOM_KEPT);
    }

    /// How many wishes wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_busy_batch_goes() {
        let mut outbox = Outbox::new();
        for _ in 0..10 * ROOM_KEPT {
            outbox.push(Output::Drained);
        }
        outbox.give_back();
        assert_eq!(outbox.drain().count(), 10 * ROOM_KEPT, "what waits stays");
        outbox.give_back();
        assert_eq!(outbox.outputs.capacity(), ROOM_KEPT);
    }
}
