//! Send queues: they exist while something is queued or being sent. An idle connection has none.

use super::table::{Edge, Flags};
use crate::ids::EdgeId;

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
        let pending = &mut self.queues[edge.queue as usize].pending;
        if pending.capacity() == 0
            && let Some(buffer) = self.buffers.pop()
        {
            *pending = buffer;
        }
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
        self.buffers.pop().unwrap_or_default()
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
