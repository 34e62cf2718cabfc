//! Send queues: they exist while something is queued or being sent. An idle connection has none.

use super::table::{Edge, Flags};
use crate::ids::EdgeId;
use crate::shard::evicting::shrink;

/// No queue.
pub(crate) const NONE: u32 = u32::MAX;
/// Buffers larger than this are not kept for reuse.
const KEPT_BUFFER_MAX_BYTES: usize = 16 * 1024;
/// Buffers kept for reuse.
const KEPT_BUFFERS_MAX: usize = 4096;

/// What one connection has yet to send.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    /// Frames in plain, one after the other.
    pub(crate) pending: Vec<u8>,
    /// Bytes the driver has; 0: no send outstanding.
    pub(crate) in_flight_bytes: usize,
    /// The tick at which the outstanding send began.
    pub(crate) since_tick: u32,
    /// Batches at whose end it could have been sent and was not.
    pub(crate) held: u8,
}

impl SendQueue {
    /// Bytes that wait here or with the driver.
    pub(crate) const fn bytes(&self) -> usize {
        self.pending.len() + self.in_flight_bytes
    }
}

/// All queues of a shard.
#[derive(Debug, Default)]
pub(crate) struct SendQueues {
    queues: Vec<SendQueue>,
    free: Vec<u32>,
    buffers: Vec<Vec<u8>>,
    /// Fewest that were kept at any time since [`Self::give_back`]: so many nobody needed.
    unused: usize,
    /// Connections that have something to send and nothing outstanding.
    pub(crate) ready: Vec<EdgeId>,
    /// Bytes in all queues.
    pub(crate) bytes: usize,
}

impl SendQueues {
    pub(crate) fn open(&mut self) -> u32 {
        if let Some(index) = self.free.pop() {
            return index;
        }
        self.queues.push(SendQueue::default());
        u32::try_from(self.queues.len() - 1).expect("no more queues than connections")
    }

    /// Appends to what a connection has yet to send, and notes that it has something.
    pub(crate) fn append(&mut self, edge: &mut Edge, id: EdgeId, write: impl FnOnce(&mut Vec<u8>)) {
        if edge.queue == NONE {
            edge.queue = self.open();
        }
        let index = edge.queue as usize;
        if self.queues[index].pending.capacity() == 0
            && let Some(buffer) = self.take_kept()
        {
            self.queues[index].pending = buffer;
        }
        let pending = &mut self.queues[index].pending;
        let before = pending.len();
        write(pending);
        self.bytes += pending.len() - before;
        if !edge.flags.contains(Flags::READY) {
            edge.flags.set(Flags::READY, true);
            self.ready.push(id);
        }
    }

    pub(crate) fn get(&mut self, index: u32) -> &mut SendQueue {
        &mut self.queues[index as usize]
    }

    /// Gives back a queue and what it held.
    pub(crate) fn close(&mut self, index: u32) {
        let queue = std::mem::take(&mut self.queues[index as usize]);
        self.bytes -= queue.bytes();
        self.keep(queue.pending);
        self.free.push(index);
    }

    /// An empty buffer.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.take_kept().unwrap_or_default()
    }

    fn take_kept(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop();
        self.unused = self.unused.min(self.buffers.len());
        buffer
    }

    /// Lets go of the buffers that nobody needed since the last call, and of room for queues.
    pub(crate) fn give_back(&mut self) {
        self.buffers.truncate(self.buffers.len() - self.unused);
        self.unused = self.buffers.len();
        if self.free.len() == self.queues.len() {
            self.queues = Vec::new();
            self.free = Vec::new();
        }
        shrink(&mut self.ready);
    }

    /// Keeps a buffer for reuse.
    pub(crate) fn keep(&mut self, mut buffer: Vec<u8>) {
        let worth_it = buffer.capacity() > 0 && buffer.capacity() <= KEPT_BUFFER_MAX_BYTES;
        if worth_it && self.buffers.len() < KEPT_BUFFERS_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_nobody_needs_go() {
        let mut queues = SendQueues::default();
        for _ in 0..100 {
            queues.keep(Vec::with_capacity(100));
        }
        queues.give_back();
        assert_eq!(queues.buffers.len(), 100, "they came since the last call");
        let three = [queues.buffer(), queues.buffer(), queues.buffer()];
        three.into_iter().for_each(|buffer| queues.keep(buffer));
        queues.give_back();
        assert_eq!(queues.buffers.len(), 3, "so many were needed at a time");
        queues.give_back();
        assert_eq!(queues.buffers.len(), 0);
    }
}
