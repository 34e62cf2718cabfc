//! Accepting. A listener has a single accept or a few armed, and renews them once a turn: so a turn
//! takes no more connections than that, however many wait in the kernel, and whoever is connected
//! has its share. (One multishot accept takes all that wait in one call, as far as there is room
//! for completions, at some ten microseconds each.) They are no more than there are free places,
//! so a table is filled exactly.
//!
//! A listener accepts into one ring at a time, because an accept waits exclusively: with two rings
//! armed, one that is cancelled can take a wake-up with it. When a ring is full and its accepts
//! have all ended, the listener moves on to another.
//!
//! Each accept waits at the end of the kernel's queue, so loops that share a socket take turns.

use super::op::{Op, Tag};
use super::peers::address_bytes;
use super::ring::Completion;
use super::{Outcome, Turn, Uring};
use crate::event::{Event, ListenerId};
use crate::gate::Pass;
use crate::listener::{AcceptError, Listening};
use crate::settings::Accepting;
use io_uring::{opcode, types};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one listener")]
struct Listener {
    socket: OwnedFd,
    /// How many bytes the address of a peer has, if it is to be told.
    peer_bytes: Option<u32>,
    /// Where it accepts now.
    ring: usize,
    /// Accepts with the kernel.
    armed: u32,
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
            ring: 0,
            armed: 0,
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
        if self.gate.is_crowded() {
            // While newcomers wait at the gate, further ones wait in the kernel.
            self.listeners.dirty = true;
            return Ok(());
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
        // Places that are kept for one listener are lost to the others.
        let listeners = u32::try_from(self.listeners.listeners.len()).unwrap_or(u32::MAX);
        let share = (self.rings.sockets_max() / listeners.saturating_mul(4)).max(1);
        let fd = types::Fd(listener.socket.as_raw_fd());
        let user_data = Tag::index(Op::Accept, id.0).encode();
        let ring = self.rings.at(listener.ring);
        let count = self.gate.accepts().min(share).saturating_sub(listener.armed).min(ring.free());
        listener.armed += count;
        ring.reserve_accepts(count);
        for _ in 0..count {
            let null = std::ptr::null_mut();
            let accept = opcode::Accept::new(fd, null, std::ptr::null_mut());
            let accept = accept.file_index(Some(types::DestinationSlot::auto_target())).build();
            ring.ring.push_plain(&accept.user_data(user_data))?;
        }
        Ok(())
    }

    /// Whoever accepts in a ring behind the first so many does so further in front from now on.
    /// Says whether nobody accepts there any more.
    pub(super) fn leave_rings(&mut self, rings: usize) -> io::Result<bool> {
        if !self.rings.have_plenty(rings) {
            return Ok(false);
        }
        let mut are_left = true;
        for index in 0..self.listeners.listeners.len() {
            let Some(mut listener) = self.listeners.listeners[index].take() else { continue };
            if listener.armed > 0 && listener.ring >= rings {
                are_left = false;
                if !listener.cancelling {
                    let id = ListenerId(u32::try_from(index).expect("few listeners"));
                    self.cancel_accepts(id, &mut listener)?;
                }
            }
            self.listeners.listeners[index] = Some(listener);
        }
        Ok(are_left)
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
        self.rings.at(ring).release_accept();
        let listeners = &mut self.listeners;
        let Some(Some(listener)) = listeners.listeners.get_mut(id.0 as usize) else {
            return Ok(());
        };
        if failed.is_none() {
            listener.told = false;
        }
        listener.armed -= 1;
        if listener.armed == 0 {
            listener.cancelling = false;
        }
        listeners.dirty = true;
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
        let socket = self.rings.open(ring, place, Pass::Newcomer);
        if let Some(bytes) = self.listeners.peer_bytes(listener) {
            return self.ask_peer(socket, listener, bytes);
        }
        self.arm_poll(socket)?;
        turn.tell(Event::Opened { socket, listener, peer: None });
        Ok(())
    }

    /// An accept may tell of a reused place before the close that freed it is told, within one
    /// call. Then the close happened, and its own completion finds an old generation.
    pub(super) fn vacate(&mut self, ring: usize, place: u32, turn: &mut Turn<'_>) {
        if let Some(socket) = self.rings.occupant(ring, place) {
            self.closed(socket, turn);
        }
    }
}
