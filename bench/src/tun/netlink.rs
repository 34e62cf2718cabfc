//! The little that a network namespace of our own needs: a device comes up, and has an address.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::io;
use std::net::Ipv4Addr;

const HEADER_BYTES: usize = 16;
const REPLY_BYTES_MAX: usize = 4 * 1024;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE_ONLY: u16 = 0x200 | 0x400;
const TYPE_ERROR: u16 = 2;

const SET_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const UP: u32 = 1;
const LINK_MTU: u16 = 4;
const LINK_QUEUE: u16 = 13;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const INET: u8 = 2;

/// In a new namespace the loopback device is the first one.
pub(super) const LOOPBACK_INDEX: u32 = 1;

#[expect(clippy::host_endian_bytes, reason = "netlink is in the machine's byte order")]
const fn word(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}

#[expect(clippy::host_endian_bytes, reason = "netlink is in the machine's byte order")]
const fn half(number: u16) -> [u8; 2] {
    number.to_ne_bytes()
}

#[expect(clippy::host_endian_bytes, reason = "netlink is in the machine's byte order")]
fn error_in(reply: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(*reply.get(4..)?.first_chunk()?);
    let error = i32::from_ne_bytes(*reply.get(HEADER_BYTES..)?.first_chunk()?);
    (kind == TYPE_ERROR).then(|| error.wrapping_neg())
}

fn attribute(kind: u16, value: &[u8; 4]) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..2].copy_from_slice(&half(8));
    bytes[2..4].copy_from_slice(&half(kind));
    bytes[4..].copy_from_slice(value);
    bytes
}

/// Sends a message and waits for its acknowledgement.
fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut message = word(length).to_vec();
    message.extend(half(kind));
    message.extend(half(REQUEST | ACKNOWLEDGE | flags));
    message.extend(word(1));
    message.extend(word(0));
    message.extend(body);
    let socket: OwnedFd =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &message, SendFlags::empty())?;
    let mut reply = vec![0; REPLY_BYTES_MAX];
    let (length, _) = recv(&socket, reply.as_mut_slice(), RecvFlags::empty())?;
    match error_in(&reply[..length]) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error)),
        None => Err(Errno::PROTO.into()),
    }
}

/// Brings a device up; of its queue so many packets may wait.
pub(super) fn up(index: u32, mtu: Option<u32>, queue: Option<u32>) -> io::Result<()> {
    let mut body = vec![0; 4];
    body.extend(word(index));
    body.extend(word(UP));
    body.extend(word(UP));
    let attributes = [(LINK_MTU, mtu), (LINK_QUEUE, queue)];
    for (kind, value) in attributes.iter().filter_map(|(kind, value)| Some((kind, (*value)?))) {
        body.extend(attribute(*kind, &word(value)));
    }
    ask(SET_LINK, 0, &body)
}

/// Gives a device an address, and with it the way to its network.
pub(super) fn add_address(index: u32, address: Ipv4Addr, prefix_bits: u8) -> io::Result<()> {
    let mut body = vec![INET, prefix_bits, 0, 0];
    body.extend(word(index));
    body.extend(attribute(LOCAL, &address.octets()));
    body.extend(attribute(ADDRESS, &address.octets()));
    ask(NEW_ADDRESS, CREATE_ONLY, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_does_not_come_up() {
        // Without the right to do it the kernel says that first.
        assert!(up(u32::MAX >> 1, Some(1_500), Some(9)).is_err());
        assert!(add_address(u32::MAX >> 1, Ipv4Addr::new(198, 18, 0, 1), 15).is_err());
    }

    #[test]
    fn an_acknowledgement_is_told_from_an_error() {
        let mut reply = vec![0; HEADER_BYTES + 4];
        assert_eq!(error_in(&reply), None);
        reply[4..6].copy_from_slice(&half(TYPE_ERROR));
        assert_eq!(error_in(&reply), Some(0));
        reply[HEADER_BYTES..].copy_from_slice(&word(1_u32.wrapping_neg()));
        assert_eq!(error_in(&reply), Some(1));
        assert_eq!(error_in(&reply[..7]), None);
    }
}
