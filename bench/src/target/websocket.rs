//! A WebSocket echo server: what a device writes comes back to it, and counts as arrived at the
//! other side of its pair. It shows what WebSocket itself costs; there are no groups.

use super::layout::{Layout, SeatIndex};
use super::{Happened, Heartbeat, Promises, Refusal, Target, read_body};
use crate::swarm::DeviceIndex;
use std::rc::Rc;

/// How often a device says that it is there.
const HEARTBEAT_MS: u32 = 60_000;
/// A ping without content, masked with zeros.
const PING: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];
const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: cm9vc3QtYmVuY2gtLi4uLg==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
/// Longest answer to that, and longest message.
const HEAD_MAX_BYTES: usize = 1 << 14;
const MESSAGE_MAX_BYTES: usize = 1 << 20;

/// See the module's comment.
#[derive(Debug)]
pub struct WebSocket {
    layout: Rc<Layout>,
    is_open: Vec<bool>,
}

/// A frame of a server: its kind and content.
type Cut<'a> = Option<(u8, &'a [u8], usize)>;

impl WebSocket {
    /// What is said beside its figures.
    pub const DIFFERENCES: [&str; 3] = [
        "durability: none; nothing is accepted: a message counts as accepted when it is written",
        "an echo: a message comes back to who wrote it, and that counts as its arrival",
        "frames are masked with zeros, which costs a server as much as any mask",
    ];

    /// For these devices.
    #[must_use]
    pub fn new(layout: Rc<Layout>, devices: u32) -> Self {
        Self { layout, is_open: vec![false; devices as usize] }
    }

    fn frame(
        &self,
        device: DeviceIndex,
        (kind, content): (u8, &[u8]),
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<(), Refusal> {
        match kind {
            1 | 2 => {
                let mut seats = self.layout.seats_of(device).iter();
                if let (Some(own), Some((_, number))) = (seats.next(), read_body(content)) {
                    let room = self.layout.room_of(*own);
                    let seat = if *own == room.first { room.first + 1 } else { room.first };
                    happened.push(Happened::Arrived { seat, author: device, number });
                }
            }
            9 => frame(10, content, out),
            10 => happened.push(Happened::Echoed),
            _ => {
                return Err(Refusal(format!(
                    "device {device}: the server ended with a frame of kind {kind}"
                )));
            }
        }
        Ok(())
    }
}

/// Appends a frame of a client.
fn frame(kind: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | kind);
    match (u8::try_from(content.len()), u16::try_from(content.len())) {
        (Ok(length @ 0..=125), _) => out.push(0x80 | length),
        (_, Ok(length)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(content.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(content);
}

/// Cuts the next frame of a server off. None: it is not whole yet. Fails with what is none.
fn cut(bytes: &[u8]) -> Result<Cut<'_>, ()> {
    let &[first, length, ..] = bytes else { return Ok(None) };
    if first & 0xf0 != 0x80 || length & 0x80 != 0 {
        // In pieces, with extensions, or masked: not asked for.
        return Err(());
    }
    let (length, head) = match length {
        126 => {
            let Some(&[high, low]) = bytes.get(2..4) else { return Ok(None) };
            (usize::from(u16::from_be_bytes([high, low])), 4)
        }
        127 => {
            let Some(rest) = bytes.get(2..) else { return Ok(None) };
            let Some((length, _)) = rest.split_first_chunk::<8>() else { return Ok(None) };
            (usize::try_from(u64::from_be_bytes(*length)).map_err(|_| ())?, 10)
        }
        length => (length.into(), 2),
    };
    if length > MESSAGE_MAX_BYTES {
        return Err(());
    }
    let content = bytes.get(head..head + length);
    Ok(content.map(|content| (first & 0xf, content, head + length)))
}

impl Target for WebSocket {
    fn promises(&self) -> Promises {
        Promises { accepts: false, ticks: false, durable: false }
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        Some(Heartbeat { every_ms: HEARTBEAT_MS, bytes: PING })
    }

    fn open(&mut self, _device: DeviceIndex, out: &mut Vec<u8>) {
        out.extend_from_slice(UPGRADE);
    }

    fn receive(
        &mut self,
        device: DeviceIndex,
        bytes: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<usize, Refusal> {
        let wrong = || Refusal(format!("device {device}: what came is no WebSocket"));
        let mut used = 0;
        if !self.is_open[device as usize] {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                return if bytes.len() > HEAD_MAX_BYTES { Err(wrong()) } else { Ok(0) };
            };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                return Err(wrong());
            }
            self.is_open[device as usize] = true;
            happened.push(Happened::Ready);
            used = end + 4;
        }
        while let Some((kind, content, length)) = cut(&bytes[used..]).map_err(|()| wrong())? {
            self.frame(device, (kind, content), out, happened)?;
            used += length;
        }
        Ok(used)
    }

    fn set_up(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) -> u32 {
        0
    }

    fn write(&mut self, _seat: SeatIndex, _number: u64, body: &[u8], out: &mut Vec<u8>) {
        frame(2, body, out);
    }

    fn acknowledge(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) {}

    fn closed(&mut self, device: DeviceIndex) {
        self.is_open[device as usize] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::body;

    #[test]
    fn an_echo_counts_as_arrival_at_the_other_side() {
        let mut target = WebSocket::new(Rc::new(Layout::pairs(1)), 2);
        let (mut out, mut happened) = (Vec::new(), Vec::new());
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n".to_vec();
        assert_eq!(target.receive(1, &bytes[..20], &mut out, &mut happened), Ok(0));
        bytes.extend(b"\x82\x10");
        bytes.extend(body(1, 9));
        bytes.extend(b"\x89\x01x\x8a\0\x82");
        let used = target.receive(1, &bytes, &mut out, &mut happened);
        assert_eq!(used, Ok(bytes.len() - 1));
        let arrived = Happened::Arrived { seat: 0, author: 1, number: 9 };
        assert_eq!(happened, [Happened::Ready, arrived, Happened::Echoed]);
        assert_eq!(out, b"\x8a\x81\0\0\0\0x");
    }

    #[test]
    fn frames_of_all_lengths_are_written_and_cut() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let content = vec![7; length];
            let mut out = Vec::new();
            frame(2, &content, &mut out);
            let head = out.len() - length;
            assert_eq!(out[head - 4..head], [0; 4]);
            // A server does not mask.
            out.drain(head - 4..head);
            out[1] &= 0x7f;
            assert_eq!(cut(&out), Ok(Some((2, &*content, out.len()))), "{length}");
            assert_eq!(cut(&out[..out.len() - 1]), Ok(None), "{length}");
        }
        assert_eq!((cut(&[0x82, 0x81]), cut(&[0x02, 0])), (Err(()), Err(())));
        assert_eq!(cut(&[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0]), Err(()));
    }

    #[test]
    fn other_servers_are_refused() {
        let mut target = WebSocket::new(Rc::new(Layout::pairs(1)), 2);
        let answer = b"HTTP/1.1 404 Not Found\r\n\r\n";
        target.receive(0, answer, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    }
}
