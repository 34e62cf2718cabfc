//! Who connects. An accept into the ring's table gives no address, and there is no descriptor to
//! ask with; so each new socket is asked through the ring, before the handler hears of it.

use super::op::{Op, Tag};
use super::perform::get_option;
use super::slots::Flag;
use super::{Turn, Uring};
use crate::event::{CloseCause, Event, ListenerId, SocketId};
use socket2::{SockAddr, SockAddrStorage};
use std::fmt;
use std::io;

/// `SO_PEERNAME`: the address of the peer, as an option of the socket.
const SO_PEERNAME: i32 = 28;

/// The kernel refuses to fill more than the address has, and does not say how much that is.
pub(super) const fn address_bytes(is_ipv6: bool) -> u32 {
    if is_ipv6 { IPV6_BYTES } else { IPV4_BYTES }
}

const IPV4_BYTES: u32 = 16;
const IPV6_BYTES: u32 = 28;
const _: () = assert!(size_of::<libc::sockaddr_in>() == IPV4_BYTES as usize);
const _: () = assert!(size_of::<libc::sockaddr_in6>() == IPV6_BYTES as usize);

/// One question. The kernel writes the address, so it is boxed.
struct Entry {
    socket: SocketId,
    listener: ListenerId,
    address: Box<SockAddrStorage>,
    bytes: u32,
}

/// All questions that are not answered: at most one for each connection that one call accepts.
#[derive(Default)]
pub(super) struct Peers {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// Why the kernel did not answer, as it was logged: that is so for all or for none.
    told: Option<i32>,
}

impl Peers {
    fn insert(&mut self, entry: Entry) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("fewer questions than slots")
        });
        self.entries[index as usize] = Some(entry);
        index
    }

    fn remove(&mut self, index: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(index as usize)?.take()?;
        self.free.push(index);
        if self.free.len() == self.entries.len() {
            // A burst is over: it leaves no memory.
            *self = Self { told: self.told, ..Self::default() };
        }
        Some(entry)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} questions for peers", self.entries.len() - self.free.len())
    }
}

impl Uring {
    /// Asks who a new connection is. The handler hears of the socket with the answer.
    pub(super) fn ask_peer(
        &mut self,
        socket: SocketId,
        listener: ListenerId,
        bytes: u32,
    ) -> io::Result<()> {
        self.rings.slot(socket).expect("it was just opened").set(Flag::UNTOLD);
        let address = Box::new(SockAddrStorage::zeroed());
        let index = self.peers.insert(Entry { socket, listener, address, bytes });
        // Taken from where the box stays: moving it would end the pointer's right to write.
        let entry = self.peers.entries[index as usize].as_mut().expect("it was just put there");
        let to = std::ptr::from_mut(&mut *entry.address).cast();
        let (ring, place) = self.rings.of(socket.slot);
        let ask = get_option(place, libc::SOL_SOCKET, SO_PEERNAME, to, bytes);
        // SAFETY: the address stays in its box until the completion, and has room for `bytes`.
        unsafe { ring.ring.push(&ask.user_data(Tag::index(Op::Peer, index).encode())) }
    }

    pub(super) fn peer_told(
        &mut self,
        index: u32,
        result: i32,
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        let Some(entry) = self.peers.remove(index) else { return Ok(()) };
        let Entry { socket, listener, address, bytes } = entry;
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        if result < 0 {
            // It was gone before anybody could ask. Nobody heard of it, nobody hears of its end.
            if result != -libc::ENOTCONN && self.peers.told.replace(result) != Some(result) {
                let error = io::Error::from_raw_os_error(-result);
                tracing::error!(
                    %error,
                    "the kernel does not say through the ring who connects, so nobody is let in \
                     where that must be known: at listeners for proxies, and with limits by \
                     network. Use the epoll driver, or allow getsockopt on rings. Not said again"
                );
            }
            return self.finish(socket, CloseCause::Reset);
        }
        slot.clear(Flag::UNTOLD);
        self.arm_poll(socket)?;
        // SAFETY: the kernel filled in a whole address of the listener's family.
        let peer = unsafe { SockAddr::new(*address, bytes) }.as_socket();
        turn.tell(Event::Opened { socket, listener, peer });
        Ok(())
    }
}
