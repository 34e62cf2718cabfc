//! What the devices behind the wire say: Hello, heartbeats, and, if it is wanted, messages.

use super::bits::Bits;
use super::crowd::{App, End};
use super::returns::Returns;
use crate::measure::Meter;
use crate::scenario::talk::Talk;
use crate::swarm::{Counts, DeviceIndex, Piece, SYNC, cut_all};
use crate::wire::{self, Incoming};
use roost_protocol::preface::PREFACE;
use roost_protocol::time::Instant;
use std::collections::BTreeMap;

/// Complaints that are kept; of the others there are many already.
const COMPLAINTS_MAX: usize = 5;

/// Signs the token of a device's user, when it is needed.
pub type Signer = Box<dyn FnMut(DeviceIndex) -> Result<String, String>>;

/// See the module's comment.
pub(super) struct Guests {
    signer: Signer,
    connection_number: u64,
    ready_bits: Bits,
    /// Devices whose connection was begun and that are neither taken in nor refused.
    waiting_bits: Bits,
    /// Frames of which only a part came.
    halves: BTreeMap<DeviceIndex, Vec<u8>>,
    pub(super) talk: Option<Talk>,
    /// Of those who leave and return, if any do.
    pub(super) returns: Option<Returns>,
    pub(super) meter: Meter,
    pub(super) counts: Counts,
    pub(super) ready: u32,
    /// How many wait to be taken in.
    pub(super) connecting: u32,
    /// Devices below it leave: who of them goes is not lost.
    pub(super) leaving_below: DeviceIndex,
    pub(super) heartbeat_ms: u32,
    pub(super) complaints: Vec<String>,
}

impl Guests {
    pub(super) fn new(
        devices: u32,
        signer: Signer,
        connection_number: u64,
        meter: Meter,
        talk: Option<Talk>,
        returns: Option<Returns>,
    ) -> Self {
        Self {
            signer,
            connection_number,
            ready_bits: Bits::new(devices),
            waiting_bits: Bits::new(devices),
            halves: BTreeMap::new(),
            talk,
            returns,
            meter,
            counts: Counts::default(),
            ready: 0,
            connecting: 0,
            leaving_below: 0,
            heartbeat_ms: 0,
            complaints: Vec::new(),
        }
    }

    pub(super) fn is_ready(&self, index: DeviceIndex) -> bool {
        self.ready_bits.get(index)
    }

    /// A device's connection is begun.
    pub(super) fn begin(&mut self, index: DeviceIndex) {
        self.waiting_bits.set(index, true);
        self.connecting += 1;
    }

    fn complain(&mut self, what: impl FnOnce() -> String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what());
        }
    }

    /// The server does not take a device in.
    fn refused(&mut self, index: DeviceIndex, now: Instant, why: impl FnOnce() -> String) {
        if !self.waits_no_more(index) {
            return;
        }
        match self.returns.as_mut().filter(|returns| returns.has_begun()) {
            Some(returns) => {
                returns.failed(index, now);
                self.meter.error();
            }
            None => {
                self.counts.refused += 1;
                self.complain(|| format!("device {index}: {}", why()));
            }
        }
    }

    fn waits_no_more(&mut self, index: DeviceIndex) -> bool {
        let waited = self.waiting_bits.get(index);
        self.waiting_bits.set(index, false);
        self.connecting -= u32::from(waited);
        waited
    }

    fn frame(&mut self, index: DeviceIndex, content: &[u8], now: Instant, out: &mut Vec<u8>) {
        let (request, says) = wire::read(content);
        let is_ready = self.is_ready(index);
        match says {
            Incoming::Welcome { heartbeat_ms, ticket } if !is_ready => {
                self.heartbeat_ms = heartbeat_ms;
                if let Some(returns) = &mut self.returns {
                    returns.welcomed(index, ticket, now, &mut self.meter);
                }
                self.waits_no_more(index);
                self.ready += 1;
                self.counts.welcomed += 1;
                self.ready_bits.set(index, true);
            }
            Incoming::Error { code, .. } if !is_ready => {
                self.refused(index, now, || format!("refused with error {code}"));
            }
            Incoming::Error { code, .. }
                if !self.talk.as_ref().is_some_and(|talk| talk.has(index)) =>
            {
                self.complain(|| format!("device {index}: error {code}"));
            }
            Incoming::Sync(_) if self.returns.is_some() => {
                if let Some(returns) = &mut self.returns {
                    returns.caught_up(index, now, &mut self.meter);
                }
            }
            Incoming::Welcome { .. }
            | Incoming::Error { .. }
            | Incoming::SendReply { .. }
            | Incoming::Message(_)
            | Incoming::Receipts(_)
            | Incoming::History(_)
            | Incoming::Sync(_)
            | Incoming::GroupCreated { .. }
            | Incoming::Behind
            | Incoming::Other => {
                if let Some(talk) = &mut self.talk {
                    talk.frame(index, request, &says, now, &mut self.meter, out);
                }
            }
        }
    }

    /// Takes all whole frames. Says how many bytes they took.
    fn cut(&mut self, index: DeviceIndex, bytes: &[u8], now: Instant, out: &mut Vec<u8>) -> usize {
        cut_all(bytes, |piece| match piece {
            Piece::Heartbeat => self.counts.echoes += 1,
            Piece::Frame(content) => self.frame(index, content, now, out),
            Piece::Broken(error) => {
                self.complain(|| format!("device {index}: what came is no frame: {error:?}"));
            }
        })
    }
}

impl App for Guests {
    fn opened(&mut self, device: DeviceIndex, now: Instant, out: &mut Vec<u8>) {
        let mut id = [0xbe; 16];
        id[..4].copy_from_slice(&device.to_le_bytes());
        let before = out.len();
        out.extend_from_slice(&PREFACE);
        let returns = self.returns.as_mut();
        // Each further connection of a device has a higher number.
        let again = u64::from(returns.as_ref().is_some_and(|returns| returns.has_begun()));
        let number = self.connection_number + again;
        if let Some(ticket) = returns.and_then(|returns| returns.opened(device, now)) {
            wire::hello_again(ticket, id, number, out);
        } else {
            match (self.signer)(device) {
                Ok(token) => wire::hello(token, id, number, out),
                Err(why) => {
                    out.truncate(before);
                    return self.refused(device, now, || why);
                }
            }
        }
        if self.returns.is_some() {
            // A client asks for what it missed in the same breath.
            wire::sync(SYNC, 0, out);
        }
    }

    fn received(&mut self, device: DeviceIndex, bytes: &[u8], now: Instant, out: &mut Vec<u8>) {
        self.counts.receives += 1;
        let half = self.halves.remove(&device);
        let whole = half.map(|mut half| {
            half.extend_from_slice(bytes);
            half
        });
        let bytes = whole.as_deref().unwrap_or(bytes);
        let used = self.cut(device, bytes, now, out);
        if let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            self.halves.insert(device, rest.to_vec());
        }
    }

    fn closed(&mut self, device: DeviceIndex, end: End, now: Instant) {
        self.halves.remove(&device);
        if !self.is_ready(device) {
            return self.refused(device, now, || format!("{} before Welcome", words(end)));
        }
        self.ready_bits.set(device, false);
        self.ready -= 1;
        if device < self.leaving_below {
            self.counts.left += 1;
        } else {
            self.counts.disconnected += 1;
            self.complain(|| format!("device {device} lost its connection: {}", words(end)));
        }
    }
}

const fn words(end: End) -> &'static str {
    match end {
        End::Left => "it left",
        End::ByServer => "the server closed it",
        End::Reset => "the server reset it",
        End::Silent => "the server's kernel acknowledged nothing for a quarter of a minute",
    }
}
