//! Every connection of a shard, by slot. An idle one costs its slot and nothing else.

use super::queue;
use super::tls_slab::{self, TlsSlab};
use super::transport::Tls;
use crate::ids::EdgeId;
use roost_protocol::ids::{ConnectionNumber, DeviceId, OptionalUserId, UserKey};

/// What a piece of the table takes: as much as the allocator hands out without a remainder.
const CHUNK_BYTES: usize = 64 * 1024;
/// Connections in one piece: the table grows without moving.
const CHUNK: usize = CHUNK_BYTES / size_of::<Edge>();

// The budget of a session is made of this; see docs on memory before raising it.
pub(crate) const EDGE_BYTES: usize = size_of::<Edge>();
const _: () = assert!(EDGE_BYTES == 72);

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No connection has this slot.
    Free,
    /// A PROXY header is expected.
    Proxy,
    /// The four bytes of the preface are expected.
    Preface,
    /// Hello is expected.
    Hello,
    /// The mailbox was asked.
    Registering,
    /// Welcomed.
    Ready,
    /// Told why; being ended.
    Closing,
    /// The driver was asked to end it at once.
    Aborting,
}

impl State {
    /// On its way out: what it says is not heard any more.
    pub(crate) const fn is_leaving(self) -> bool {
        matches!(self, Self::Closing | Self::Aborting)
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) device: DeviceId,
    pub(crate) connection: ConnectionNumber,
    /// The user's key follows from it, for less than the cache line that it would take.
    pub(crate) user_id: OptionalUserId,
    token_expires_s: u32,
    /// Where its TLS is in the slab, if it has any.
    tls: u32,
    pub(crate) generation: u32,
    pub(crate) queue: u32,
    /// The tick at which it was last heard.
    pub(crate) heard_tick: u32,
    /// What Welcome or its refusal answers; once it was welcomed, the epoch of its device.
    hello_id_or_epoch: u32,
    pub(crate) in_flight: u16,
    /// How many of those in flight may be answered with a page.
    pub(crate) pages: u16,
    /// Connections of its user, this one included, that share what the user may.
    pub(crate) sharers: u8,
    pub(crate) state: State,
    pub(crate) flags: Flags,
}

bitflags::bitflags! {
    /// What is on or off for a connection.
    #[derive(Debug, Clone, Copy, Default)]
    pub(crate) struct Flags: u8 {
        /// Pushes were dropped and it was not told yet.
        const BEHIND = 1 << 0;
        /// The driver was asked to stop receiving.
        const PAUSED = 1 << 1;
        /// In the list of those that have something to send.
        const READY = 1 << 2;
        /// Told that its token expires.
        const WARNED = 1 << 3;
        /// Its Hello waits for its turn of verification.
        const DEFERRED = 1 << 4;
        /// The driver was asked to close it.
        const CLOSE_ASKED = 1 << 5;
        /// Not in the foreground: the long heartbeat interval holds.
        const BACKGROUND = 1 << 6;
        /// A notification extension, not the app.
        const EXTENSION = 1 << 7;
    }
}

impl Edge {
    const fn free() -> Self {
        Self {
            device: DeviceId([0; 16]),
            connection: ConnectionNumber(0),
            user_id: OptionalUserId::NONE,
            token_expires_s: 0,
            tls: tls_slab::NONE,
            generation: 0,
            queue: queue::NONE,
            heard_tick: 0,
            hello_id_or_epoch: 0,
            in_flight: 0,
            pages: 0,
            sharers: 1,
            state: State::Free,
            flags: Flags::empty(),
        }
    }

    /// What Welcome or its refusal answers; 0 once it was welcomed.
    pub(crate) fn hello_id(&self) -> u32 {
        if self.state == State::Ready { 0 } else { self.hello_id_or_epoch }
    }

    /// Hello came.
    pub(crate) const fn set_hello_id(&mut self, request_id: u32) {
        self.hello_id_or_epoch = request_id;
    }

    /// Of the device, once it was welcomed; goes into its tickets.
    pub(crate) fn epoch(&self) -> u32 {
        if self.state == State::Ready { self.hello_id_or_epoch } else { 0 }
    }

    /// Its user's key, once Hello has said who that is.
    pub(crate) fn user(&self, tenant: &str) -> Option<UserKey> {
        self.user_id.key(tenant)
    }

    /// Whether its bytes are sealed.
    pub(crate) const fn speaks_tls(&self) -> bool {
        self.tls != tls_slab::NONE
    }

    /// When the token that it came with ends; tokens count whole seconds.
    pub(crate) fn set_token_expiry(&mut self, expires_ms: u64) {
        self.token_expires_s = u32::try_from(expires_ms / 1000).unwrap_or(u32::MAX);
    }

    pub(crate) fn token_expires_ms(&self) -> u64 {
        u64::from(self.token_expires_s) * 1000
    }
}

/// A piece of the table. Without a connection it has no memory.
#[derive(Debug, Default)]
struct Chunk {
    edges: Vec<Edge>,
    open: usize,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct EdgeTable {
    chunks: Vec<Chunk>,
    open: u64,
    tls: TlsSlab,
    counts: Counts,
}

/// How many connections are where in their lives; those that are being aborted are nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Not welcomed yet.
    pub(crate) newcomers: u32,
    /// Welcomed.
    pub(crate) sessions: u32,
    /// Told why, and not gone yet.
    pub(crate) closing: u32,
}

impl Counts {
    const fn of(&mut self, state: State) -> Option<&mut u32> {
        match state {
            State::Proxy | State::Preface | State::Hello | State::Registering => {
                Some(&mut self.newcomers)
            }
            State::Ready => Some(&mut self.sessions),
            State::Closing => Some(&mut self.closing),
            State::Aborting | State::Free => None,
        }
    }

    const fn moved(&mut self, from: State, to: State) {
        if let Some(count) = self.of(from) {
            *count -= 1;
        }
        if let Some(count) = self.of(to) {
            *count += 1;
        }
    }
}

impl EdgeTable {
    /// Connections there are.
    pub(crate) const fn open(&self) -> u64 {
        self.open
    }

    /// Where in their lives they are.
    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// A mailbox took the device, which has this epoch. Gives what Welcome answers, if this is what
    /// the connection waits for.
    pub(crate) fn welcome(&mut self, id: EdgeId, epoch: u32) -> Option<u32> {
        let edge = self.get(id).filter(|edge| edge.state == State::Registering)?;
        let hello_id = std::mem::replace(&mut edge.hello_id_or_epoch, epoch);
        self.moves(id, State::Ready);
        Some(hello_id)
    }

    /// A connection is on its way out from now on. Says whether it was not yet.
    pub(crate) fn leaves(&mut self, id: EdgeId, to: State) -> bool {
        let from = self.get(id).map_or(State::Free, |edge| edge.state);
        let is_news = !matches!(from, State::Free | State::Aborting) && from != to;
        if is_news {
            self.moves(id, to);
        }
        is_news
    }

    fn moves(&mut self, id: EdgeId, to: State) {
        if let Some(edge) = self.get(id) {
            let from = std::mem::replace(&mut edge.state, to);
            self.counts.moved(from, to);
        }
    }

    /// Slots there are, free ones included.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).expect("slots are counted in a u32")
    }

    /// Takes a slot into use.
    pub(crate) fn insert(&mut self, id: EdgeId) -> &mut Edge {
        let (chunk, place) = (id.slot as usize / CHUNK, id.slot as usize % CHUNK);
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, Chunk::default);
        }
        let chunk = &mut self.chunks[chunk];
        if chunk.edges.is_empty() {
            chunk.edges.reserve_exact(CHUNK);
            chunk.edges.resize_with(CHUNK, Edge::free);
        }
        chunk.open += 1;
        let edge = &mut chunk.edges[place];
        assert!(edge.state == State::Free, "a slot is used by one connection at a time");
        *edge = Edge { generation: id.generation, state: State::Preface, ..Edge::free() };
        self.open += 1;
        self.counts.moved(State::Free, State::Preface);
        edge
    }

    /// The connection, if it is still this one.
    pub(crate) fn get(&mut self, id: EdgeId) -> Option<&mut Edge> {
        let chunk = self.chunks.get_mut(id.slot as usize / CHUNK)?;
        let edge = chunk.edges.get_mut(id.slot as usize % CHUNK)?;
        (edge.state != State::Free && edge.generation == id.generation).then_some(edge)
    }

    /// The same, to look at.
    pub(crate) fn peek(&self, id: EdgeId) -> Option<&Edge> {
        let chunk = self.chunks.get(id.slot as usize / CHUNK)?;
        let edge = chunk.edges.get(id.slot as usize % CHUNK)?;
        (edge.state != State::Free && edge.generation == id.generation).then_some(edge)
    }

    /// The connection that now has a slot.
    pub(crate) fn at(&self, slot: u32) -> Option<EdgeId> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?;
        let edge = chunk.edges.get(slot as usize % CHUNK)?;
        (edge.state != State::Free).then_some(EdgeId { slot, generation: edge.generation })
    }

    /// From now on the bytes of this connection are sealed.
    pub(crate) fn seal(&mut self, id: EdgeId) {
        let place = self.tls.insert(Tls::NEW);
        match self.get(id) {
            Some(edge) => edge.tls = place,
            None => self.tls.remove(place),
        }
    }

    /// The TLS of a connection that speaks it.
    pub(crate) fn tls(&mut self, id: EdgeId) -> Option<&mut Tls> {
        let place = self.peek(id)?.tls;
        self.tls.get(place)
    }

    /// Frees a slot.
    pub(crate) fn remove(&mut self, id: EdgeId) -> Option<Edge> {
        let edge = self.get(id)?;
        let gone = std::mem::replace(edge, Edge::free());
        self.tls.remove(gone.tls);
        self.open -= 1;
        self.counts.moved(gone.state, State::Free);
        let chunk = &mut self.chunks[id.slot as usize / CHUNK];
        chunk.open -= 1;
        if chunk.open == 0 {
            *chunk = Chunk::default();
        }
        Some(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_generation_names_nobody() {
        let mut table = EdgeTable::default();
        let first = EdgeId { slot: 5, generation: 1 };
        table.insert(first);
        assert!(table.remove(first).is_some());
        let second = EdgeId { slot: 5, generation: 2 };
        table.insert(second);
        assert!(table.get(first).is_none());
        assert!(table.get(second).is_some());
        assert_eq!(table.open(), 1);
    }

    #[test]
    fn a_piece_has_no_remainder() {
        const { assert!(CHUNK_BYTES - CHUNK * EDGE_BYTES < EDGE_BYTES) };
    }

    #[test]
    fn a_piece_without_connections_has_no_memory() {
        let mut table = EdgeTable::default();
        let slots = [3, 1030, 1031];
        for slot in slots {
            table.insert(EdgeId { slot, generation: 1 });
        }
        for slot in slots {
            assert!(table.remove(EdgeId { slot, generation: 1 }).is_some());
        }
        assert!(table.chunks.iter().all(|chunk| chunk.edges.capacity() == 0));
        assert_eq!(table.at(3), None);
        table.insert(EdgeId { slot: 1031, generation: 2 });
        assert_eq!(table.at(1031), Some(EdgeId { slot: 1031, generation: 2 }));
    }
}
