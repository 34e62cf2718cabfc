//! What the kernel tells, or takes, through netlink only: the loopback device of a new network
//! namespace is brought up, and rings and coalescing of cards are asked for (ethtool).
//!
//! Messages are made by hand: there are three of them. Numbers are in the machine's byte order, as
//! the interface wants.

use crate::facts::Nic;
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use std::io;

const HEADER_BYTES: usize = 16;
const REPLY_BYTES_MAX: usize = 16 * 1024;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const TYPE_ERROR: u16 = 2;

const SET_LINK: u16 = 16;
/// In a new namespace the loopback device is the first one.
const LOOPBACK_INDEX: u32 = 1;
const UP: u32 = 1;

const CONTROL_FAMILY: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const RINGS_GET: u8 = 15;
const RINGS_RECEIVE_MAX: u16 = 2;
const RINGS_RECEIVE: u16 = 6;
const COALESCE_GET: u8 = 19;
const COALESCE_RECEIVE_US: u16 = 2;
const ETHTOOL_HEADER: u16 = 1;
const DEVICE_NAME: u16 = 2;
const NESTED: u16 = 0x8000;

#[expect(clippy::host_endian_bytes, reason = "netlink is in the machine's byte order")]
const fn word(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}

#[expect(clippy::host_endian_bytes, reason = "netlink is in the machine's byte order")]
const fn half(number: u16) -> [u8; 2] {
    number.to_ne_bytes()
}

#[expect(clippy::host_endian_bytes, reason = "netlink is in the machine's byte order")]
fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[expect(clippy::host_endian_bytes, reason = "netlink is in the machine's byte order")]
fn half_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A whole message.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend(word(length));
    bytes.extend(half(kind));
    bytes.extend(half(flags));
    bytes.extend(word(1));
    bytes.extend(word(0));
    bytes.extend(body);
    bytes
}

/// An attribute, filled up to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = half(u16::try_from(4 + value.len()).unwrap_or(u16::MAX)).to_vec();
    bytes.extend(half(kind));
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of an attribute.
fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let length = usize::from(half_at(rest, 0)?);
        let kind = half_at(rest, 2)? & !NESTED;
        if length < 4 || length > rest.len() {
            return None;
        }
        if kind == wanted {
            return rest.get(4..length);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// Sends a message and gives the body of the answer.
fn ask(socket: &OwnedFd, request: &[u8]) -> io::Result<Vec<u8>> {
    send(socket, request, SendFlags::empty())?;
    let mut reply = vec![0; REPLY_BYTES_MAX];
    let (length, _) = recv(socket, reply.as_mut_slice(), RecvFlags::empty())?;
    reply.truncate(length);
    if half_at(&reply, 4) == Some(TYPE_ERROR) {
        // An error of zero is the acknowledgement.
        let negative = word_at(&reply, HEADER_BYTES).unwrap_or(0);
        let errno = i32::try_from(negative.wrapping_neg()).unwrap_or(0);
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
    }
    Ok(reply.get(HEADER_BYTES..).unwrap_or_default().to_vec())
}

/// No protocol is that of links and routes, number 0.
fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<OwnedFd> {
    let family = AddressFamily::NETLINK;
    Ok(socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?)
}

/// Brings the loopback device of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let mut body = vec![0; 4];
    body.extend(word(LOOPBACK_INDEX));
    body.extend(word(UP));
    body.extend(word(UP));
    ask(&open(None)?, &message(SET_LINK, REQUEST | ACKNOWLEDGE, &body)).map(drop)
}

/// Adds what only ethtool knows. Cards and kernels that do not tell stay as they are.
pub(crate) fn complete(nics: &mut [Nic]) {
    if nics.is_empty() {
        return;
    }
    let Ok(socket) = open(Some(netlink::GENERIC)) else { return };
    let Some(family) = ethtool_family(&socket) else { return };
    for nic in nics {
        let get = |command| {
            let name = [nic.name.as_bytes(), b"\0"].concat();
            let header = attribute(ETHTOOL_HEADER | NESTED, &attribute(DEVICE_NAME, &name));
            let body = [&[command, 1, 0, 0], header.as_slice()].concat();
            // The acknowledgement is not asked for, so the next answer is not mixed up with it.
            ask(&socket, &message(family, REQUEST, &body)).ok()
        };
        let number = |reply: &[u8], kind| word_at(find(reply.get(4..)?, kind)?, 0);
        if let Some(reply) = get(RINGS_GET) {
            let ring = number(&reply, RINGS_RECEIVE).zip(number(&reply, RINGS_RECEIVE_MAX));
            nic.ring = ring.filter(|(_, most)| *most > 0);
        }
        nic.coalesce_us = get(COALESCE_GET).and_then(|r| number(&r, COALESCE_RECEIVE_US));
    }
}

fn ethtool_family(socket: &OwnedFd) -> Option<u16> {
    let body = [&[GET_FAMILY, 1, 0, 0], attribute(FAMILY_NAME, b"ethtool\0").as_slice()].concat();
    let reply = ask(socket, &message(CONTROL_FAMILY, REQUEST, &body)).ok()?;
    half_at(find(reply.get(4..)?, FAMILY_ID)?, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_garbage_is_not() {
        let bytes = [attribute(3, b"abc"), attribute(NESTED | 7, &[1, 2, 3, 4])].concat();
        assert_eq!(find(&bytes, 3), Some(&b"abc"[..]));
        assert_eq!(find(&bytes, 7), Some(&[1, 2, 3, 4][..]));
        assert_eq!(find(&bytes, 8), None);
        assert_eq!(find(&[2, 0, 3, 0], 3), None);
        assert_eq!(find(&[255, 255, 3, 0], 3), None);
    }

    #[test]
    fn cards_that_do_not_tell_stay_as_they_are() {
        let nic = Nic { name: "no-such-card".to_owned(), ..Nic::default() };
        let mut nics = [nic.clone()];
        complete(&mut nics);
        assert_eq!(nics, [nic]);
    }
}
