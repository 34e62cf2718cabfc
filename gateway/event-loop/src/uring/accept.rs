//! Accepting. A listener accepts into one ring at a time, because an accept waits exclusively: with
//! two armed, one that is cancelled can take a wake-up with it. While a table has plenty of room
//! one multishot accept takes all that come; near the end of a table it is cancelled, and single
//! accepts, no more than there are free places, fill it exactly. When they have all ended the
//! listener moves on to another ring.
//!
//! A gentle listener takes single accepts only, a few at a time. Each waits at the end of the
//! kernel's queue, so loops that share a socket take turns.

use super::op::{Op, Tag};
use super::peers::address_bytes;
use super::ring::{COMPLETIONS, Completion};
use super::{Outcome, Turn, Uring};
use crate::event::{Event, ListenerId};
use crate::listener::{AcceptError, Listening};
use crate::settings::Accepting;
use io_uring::{opcode, types};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// One call takes at most one connection more than there are places for completions; below twice
/// that many free slots a multishot accept could overrun the table.
const MULTISHOT_ROOM: u32 = 2 * (COMPLETIONS + 1);

/// Single accepts armed at a time.
const SINGLES_MAX: u32 = 32;

/// The same of a gentle listener.
const GENTLE_SINGLES: u32 = 8;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one listener")]
struct Listener {
    socket: OwnedFd,
    /// How many bytes the address of a peer has, if it is to be told.
    peer_bytes: Option<u32>,
    /// It takes single accepts only.
    is_gentle: bool,
    /// Where it accepts now.
    ring: usize,
    /// Accepts with the kernel.
    armed: u32,
    /// The one that is armed takes many.
    multishot: bool,
    /// Those armed are being cancelled.
    cancelling: bool,
    /// The handler wants none.
    paused: bool,
    /// The handler is done with it.
    closing: bool,
    /// Something ran out, which was told; wait until there may be room.
    waiting: bool,
    /// It was told, and no connection was accepted since.
    told: bool,
}

/// All listeners of a loop, by id; closed ones leave a hole.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    listeners: Vec<Option<Listener>>,
    /// Something changed, so look whether accepts must be armed.
    dirty: bool,
}

impl Listeners {
    pub(super) fn add(
        &mut self,
        socket: Listening,
        accepting: Accepting,
    ) -> io::Result<ListenerId> {
        let (socket, peer_bytes) = match socket {
            Listening::Tcp(listener) => {
                let is_ipv6 = listener.local_addr()?.is_ipv6();
                (listener.into(), accepting.tells_peers.then(|| address_bytes(is_ipv6)))
            }
            Listening::Unix(listener) => (listener.into(), None),
        };
        self.dirty = true;
        self.listeners.push(Some(Listener {
            socket,
            peer_bytes,
            is_gentle: accepting.is_gentle,
            ring: 0,
            armed: 0,
            multishot: false,
            cancelling: false,
            paused: false,
            closing: false,
            waiting: false,
            told: false,
        }));
        let id = self.listeners.len() - 1;
        Ok(ListenerId(u32::try_from(id).expect("fewer listeners than descriptors")))
    }

    /// How many bytes the address of a listener's peer has, if it is to be told.
    fn peer_bytes(&self, id: ListenerId) -> Option<u32> {
        self.listeners.get(id.0 as usize)?.as_ref()?.peer_bytes
    }

    pub(super) fn set_paused(&mut self, id: ListenerId, paused: bool) {
        self.dirty = true;
        if let Some(listener) = self.get_mut(id) {
            listener.paused = paused;
        }
    }

    pub(super) fn close(&mut self, id: ListenerId) {
        self.dirty = true;
        if let Some(listener) = self.get_mut(id) {
            listener.closing = true;
        }
    }

    /// A socket was closed.
    pub(super) fn note_room(&mut self) {
        self.retry();
    }

    /// A slot was taken by somebody else.
    pub(super) const fn note_taken(&mut self, free: u32) {
        self.dirty |= free <= MULTISHOT_ROOM;
    }

    /// Whoever waits for room tries again.
    pub(super) fn retry(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            self.dirty |= listener.waiting;
            listener.waiting = false;
        }
    }

    /// Those that are not closed.
    pub(super) fn ids(&self) -> impl Iterator<Item = ListenerId> {
        let ids = (0..).zip(&self.listeners).filter(|(_, listener)| listener.is_some());
        ids.map(|(id, _)| ListenerId(id))
    }

    fn get_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.listeners.get_mut(id.0 as usize)?.as_mut()
    }
}

impl Uring {
    pub(super) fn arm_listeners(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.listeners.dirty) {
            return Ok(());
        }
        for index in 0..self.listeners.listeners.len() {
            let Some(mut listener) = self.listeners.listeners[index].take() else { continue };
            let id = ListenerId(u32::try_from(index).expect("few listeners"));
            let done = listener.closing && listener.armed == 0;
            if !done {
                self.arm_listener(id, &mut listener)?;
                self.listeners.listeners[index] = Some(listener);
            }
        }
        Ok(())
    }

    fn arm_listener(&mut self, id: ListenerId, listener: &mut Listener) -> io::Result<()> {
        if listener.cancelling {
            return Ok(());
        }
        if listener.closing || listener.paused {
            return if listener.armed > 0 { self.cancel_accepts(id, listener) } else { Ok(()) };
        }
        if listener.waiting {
            // Also while others of its accepts are armed: what failed would fail again at once.
            return Ok(());
        }
        if listener.armed == 0 {
            match self.rings.with_room(self.waker.fd()) {
                Ok(ring) => listener.ring = ring,
                Err(reason) => {
                    listener.waiting = true;
                    if !std::mem::replace(&mut listener.told, true) {
                        self.outcomes.push_back(Outcome::ListenerPaused { listener: id, reason });
                    }
                    return Ok(());
                }
            }
        }
        let free = self.rings.at(listener.ring).free();
        if listener.armed > 0 && listener.multishot {
            if free <= MULTISHOT_ROOM {
                return self.cancel_accepts(id, listener);
            }
            return Ok(());
        }
        if listener.armed > 0 && free > 2 * MULTISHOT_ROOM && !listener.is_gentle {
            // The table emptied meanwhile.
            return self.cancel_accepts(id, listener);
        }
        let fd = types::Fd(listener.socket.as_raw_fd());
        let user_data = Tag::index(Op::Accept, id.0).encode();
        // Places that are kept for one listener are lost to the others.
        let count = u32::try_from(self.listeners.listeners.len()).unwrap_or(u32::MAX);
        let gentle_singles = (self.rings.sockets_max() / (4 * count)).clamp(1, GENTLE_SINGLES);
        listener.multishot = listener.armed == 0 && free > MULTISHOT_ROOM && !listener.is_gentle;
        let ring = self.rings.at(listener.ring);
        if listener.multishot {
            listener.armed = 1;
            let accept = opcode::AcceptMulti::new(fd).allocate_file_index(true).build();
            return ring.ring.push_plain(&accept.user_data(user_data));
        }
        let most = if listener.is_gentle { gentle_singles } else { SINGLES_MAX };
        let count = most.saturating_sub(listener.armed).min(free);
        listener.armed += count;
        ring.reserve(count);
        for _ in 0..count {
            let null = std::ptr::null_mut();
            let accept = opcode::Accept::new(fd, null, std::ptr::null_mut());
            let accept = accept.file_index(Some(types::DestinationSlot::auto_target())).build();
            ring.ring.push_plain(&accept.user_data(user_data))?;
        }
        Ok(())
    }

    fn cancel_accepts(&mut self, id: ListenerId, listener: &mut Listener) -> io::Result<()> {
        listener.cancelling = true;
        let user_data = Tag::index(Op::Accept, id.0).encode();
        self.rings.at(listener.ring).ring.push_cancel(user_data, true)
    }

    pub(super) fn accepted(
        &mut self,
        ring: usize,
        id: ListenerId,
        completion: Completion,
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        let mut failed = None;
        match u32::try_from(completion.result) {
            Ok(place) => self.opened(ring, id, place, turn)?,
            Err(_) => failed = Some(-completion.result),
        }
        let short = self.rings.at(ring).free() <= MULTISHOT_ROOM;
        let listeners = &mut self.listeners;
        let Some(Some(listener)) = listeners.listeners.get_mut(id.0 as usize) else {
            return Ok(());
        };
        if failed.is_none() {
            listener.told = false;
        }
        if !completion.more {
            listener.armed -= 1;
            if !listener.multishot {
                self.rings.at(ring).release();
            }
            if listener.armed == 0 {
                listener.cancelling = false;
            }
            listeners.dirty = true;
        } else if short && !listener.cancelling {
            // At once, so that the cancel goes with the next enter of this very turn.
            listener.cancelling = true;
            self.rings.at(ring).ring.push_cancel(completion.user_data, true)?;
        }
        let Some(errno) = failed.filter(|errno| *errno != libc::ECANCELED) else { return Ok(()) };
        match AcceptError::from_errno(errno) {
            AcceptError::Retry => {}
            AcceptError::Pause(reason) => {
                listener.waiting = true;
                if !std::mem::replace(&mut listener.told, true) {
                    turn.tell(Event::ListenerPaused { listener: id, reason });
                }
            }
        }
        Ok(())
    }

    fn opened(
        &mut self,
        ring: usize,
        listener: ListenerId,
        place: u32,
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        self.vacate(ring, place, turn);
        let socket = self.rings.open(ring, place);
        if let Some(bytes) = self.listeners.peer_bytes(listener) {
            return self.ask_peer(socket, listener, bytes);
        }
        self.arm_poll(socket)?;
        turn.tell(Event::Opened { socket, listener, peer: None });
        Ok(())
    }

    /// A multishot accept may tell of a reused place before the close that freed it is told, within
    /// one call. Then the close happened, and its own completion finds an old generation.
    pub(super) fn vacate(&mut self, ring: usize, place: u32, turn: &mut Turn<'_>) {
        if let Some(socket) = self.rings.occupant(ring, place) {
            self.closed(socket, turn);
        }
    }
}
