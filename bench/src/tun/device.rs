//! The kernel's end of the wire: a TUN device, whose packets this process reads and writes.
#![expect(unsafe_code, reason = "no crate of ours has a safe call that makes a TUN device")]

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use std::io;

/// `TUNSETIFF` of linux/if_tun.h: `_IOW('T', 202, int)`, which despite that takes a [`Request`].
const SET_INTERFACE: Opcode = opcode::write::<i32>(b'T', 202);
const PATH: &str = "/dev/net/tun";
/// Packets of the network layer, without a header of the device's own.
const FLAGS: u16 = 0x0001 | 0x1000;
const NAME_BYTES: usize = 16;
/// The kernel puts a number in place of `%d`.
const NAME: &[u8] = b"roost%d";

/// `struct ifreq` of linux/if.h: a name, and a union of 24 bytes that begins with flags here.
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    flags: u16,
    rest: [u8; 22],
}

/// A device. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Device {
    file: OwnedFd,
    /// As the kernel calls it.
    pub(super) name: String,
}

impl Device {
    /// Makes one in the network namespace of the calling thread.
    pub(super) fn make() -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open(PATH, flags, Mode::empty())?;
        let mut request = Request { name: [0; NAME_BYTES], flags: FLAGS, rest: [0; 22] };
        request.name[..NAME.len()].copy_from_slice(NAME);
        // SAFETY: the opcode reads a `struct ifreq` and writes one back; `Request` has its size and
        // layout (asserted in a test), and any bytes are a valid `Request`.
        let update = unsafe { Updater::<SET_INTERFACE, Request>::new(&mut request) };
        // SAFETY: the call takes no other pointer than that of `update`, and its file is open.
        unsafe { ioctl(&file, update) }?;
        let name = request.name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self { name: String::from_utf8_lossy(name).into_owned(), file })
    }

    /// Takes a packet of the kernel. None: there is none now.
    pub(super) fn read(&self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match rustix::io::read(&self.file, &mut *packet) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the kernel a packet. Says whether it took it: one that it has no room for is lost, as
    /// on any wire.
    pub(super) fn write(&self, packet: &[u8]) -> io::Result<bool> {
        loop {
            match rustix::io::write(&self.file, packet) {
                Ok(_) => return Ok(true),
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// To wait for packets.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_the_kernel_has_it() {
        assert_eq!((size_of::<Request>(), align_of::<Request>()), (40, 2));
        assert_eq!(std::mem::offset_of!(Request, flags), NAME_BYTES);
        assert!(NAME.len() < NAME_BYTES);
    }
}
