//! Outgoing connections: a socket is made straight into the ring's table, so it never takes a
//! descriptor of the process; then options, bind and connect follow as one chain.

use super::op::{Op, Tag};
use super::perform::set_option;
use super::slots::Flag;
use super::{Outcome, Turn, Uring};
use crate::event::{CloseCause, Event, SocketId};
use crate::gate::Pass;
use io_uring::squeue::Flags;
use io_uring::{opcode, types};
use socket2::{Domain, SockAddr, Type};
use std::io;
use std::net::SocketAddr;

static ONE: i32 = 1;

/// `IP_BIND_ADDRESS_NO_PORT`: the port is chosen at connect, so ports are shared between remote
/// addresses and do not run out.
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;

/// One connection being made. The kernel reads the addresses, so they are boxed.
#[derive(Debug)]
struct Entry {
    token: u64,
    local: Option<SocketAddr>,
    local_raw: SockAddr,
    remote_raw: SockAddr,
    /// Known once the socket is made.
    socket: Option<SocketId>,
}

/// All connections being made.
#[derive(Debug, Default)]
pub(super) struct Connects {
    entries: Vec<Option<Box<Entry>>>,
    free: Vec<u32>,
}

impl Connects {
    fn insert(&mut self, entry: Entry) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("fewer connects than slots")
        });
        self.entries[index as usize] = Some(Box::new(entry));
        index
    }

    /// Those whose addresses the kernel may still read.
    pub(super) fn under_way(&self) -> impl Iterator<Item = (u32, SocketId)> {
        let entries = (0u32..).zip(&self.entries);
        entries.filter_map(|(index, entry)| Some((index, entry.as_ref()?.socket?)))
    }

    fn remove(&mut self, index: u32) -> Option<Box<Entry>> {
        let entry = self.entries.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(entry)
    }
}

impl Uring {
    pub(super) fn connect(
        &mut self,
        token: u64,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> io::Result<()> {
        let Ok(ring) = self.rings.with_room(self.waker.fd()) else {
            let error = io::Error::from_raw_os_error(libc::ENFILE);
            self.outcomes.push_back(Outcome::ConnectFailed { token, error });
            return Ok(());
        };
        let local_raw = SockAddr::from(local.unwrap_or(remote));
        let remote_raw = SockAddr::from(remote);
        let entry = Entry { token, local, local_raw, remote_raw, socket: None };
        let index = self.connects.insert(entry);
        let domain = i32::from(Domain::for_address(remote));
        let socket = opcode::Socket::new(domain, i32::from(Type::STREAM), libc::IPPROTO_TCP);
        let socket = socket.file_index(Some(types::DestinationSlot::auto_target())).build();
        let ring = self.rings.at(ring);
        ring.reserve(1);
        ring.ring.push_plain(&socket.user_data(Tag::index(Op::Socket, index).encode()))
    }

    pub(super) fn socket_made(
        &mut self,
        ring: usize,
        index: u32,
        result: i32,
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        self.rings.at(ring).release();
        let Ok(place) = u32::try_from(result) else {
            self.connect_failed(index, -result, turn);
            return Ok(());
        };
        self.vacate(ring, place, turn);
        let socket = self.rings.open(ring, place, Pass::Past);
        self.rings.slot(socket).expect("it was just opened").set(Flag::UNTOLD);
        let entry = self.connects.entries.get_mut(index as usize);
        let entry = entry.and_then(Option::as_mut).expect("it is under way");
        entry.socket = Some(socket);
        let tag = Tag::index(Op::Connect, index).encode();
        let step = Flags::IO_LINK | Flags::SKIP_SUCCESS;
        let fd = types::Fixed(place);
        let ring = &mut self.rings.at(ring).ring;
        ring.reserve(4)?;
        let option = set_option(place, libc::IPPROTO_TCP, libc::TCP_NODELAY, &ONE);
        // SAFETY: the option's value is static.
        unsafe { ring.push(&option.flags(step).user_data(tag)) }?;
        if let Some(local) = entry.local {
            if local.is_ipv4() && local.port() == 0 {
                let option = set_option(place, libc::IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &ONE);
                // SAFETY: the option's value is static.
                unsafe { ring.push(&option.flags(step).user_data(tag)) }?;
            }
            let raw = &entry.local_raw;
            let bind = opcode::Bind::new(fd, raw.as_ptr().cast(), raw.len()).build();
            // SAFETY: the address stays in its box until the last completion of the chain.
            unsafe { ring.push(&bind.flags(step).user_data(tag)) }?;
        }
        let raw = &entry.remote_raw;
        let connect = opcode::Connect::new(fd, raw.as_ptr().cast(), raw.len()).build();
        // SAFETY: the address stays in its box until the last completion of the chain.
        unsafe { ring.push(&connect.user_data(tag)) }
    }

    /// The chain ended: by the connect, or by the first step that failed, which cancels the rest
    /// without a word.
    pub(super) fn connect_done(
        &mut self,
        index: u32,
        result: i32,
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        let entry = self.connects.entries.get(index as usize).and_then(Option::as_ref);
        let Some(socket) = entry.and_then(|entry| entry.socket) else { return Ok(()) };
        if result < 0 {
            self.connect_failed(index, -result, turn);
            return self.finish(socket, CloseCause::Requested);
        }
        let Some(entry) = self.connects.remove(index) else { return Ok(()) };
        self.rings.slot(socket).expect("nobody else closes it").clear(Flag::UNTOLD);
        self.arm_poll(socket)?;
        turn.tell(Event::Connected { socket, token: entry.token });
        Ok(())
    }

    fn connect_failed(&mut self, index: u32, errno: i32, turn: &mut Turn<'_>) {
        if let Some(entry) = self.connects.remove(index) {
            let error = io::Error::from_raw_os_error(errno);
            turn.tell(Event::ConnectFailed { token: entry.token, error });
        }
    }
}
