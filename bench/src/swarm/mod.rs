//! All simulated devices of one thread: their connections, frames in and frames out. What they
//! say to each other is a scenario's business.
//!
//! A device is a few dozen bytes: what waits to be sent has a buffer only while it waits, half a
//! frame only while it is half.

mod driven;
mod sealed;

pub use driven::{Driven, FRAME_MAX_BYTES, Flow, Frame, Scenario};
pub(crate) use driven::{Piece, cut, cut_all};
pub use sealed::{TlsError, TlsPlan};

use crate::wire;
use roost_event_loop::{Actions, CloseCause, SocketId};
use roost_protocol::frame;
use roost_protocol::preface::PREFACE;
use roost_protocol::time::{Duration, Instant};
use sealed::{Sealed, Unsealed};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A device of a swarm, counted from 0.
pub type DeviceIndex = u32;

/// Connections between one source address and the server: far below the range of ports.
const PER_ADDRESS: u32 = 10_000;
/// Handshakes under way at a time, so that none waits longer than the server allows.
pub const CONNECTING_MAX: u32 = 512;
/// When no device was taken in for so long, those that wait are not taken in.
const SILENCE: Duration = Duration::from_seconds(20);
/// The request id of the `Sync` behind a Hello.
pub const SYNC: u32 = 2;
/// Nobody's device index.
const NOBODY: DeviceIndex = DeviceIndex::MAX;
/// Connections held up for so long by the generator itself are begun at once.
const CATCH_UP: Duration = Duration::from_ms(100);
/// Buffers kept for reuse.
const SPARE_MAX: usize = 4_096;

/// How a swarm connects.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub server: SocketAddr,
    /// Connections begun a second, at most.
    pub connect_rate: u32,
    /// How many devices there are.
    pub devices: u32,
    /// One token for each device; none when the scenario opens connections itself.
    pub tokens: Vec<String>,
    /// The number of each device's first connection: above that of earlier runs.
    pub connection_number: u64,
    /// No device comes by itself, only who is told to.
    pub comes_when_told: bool,
    /// Devices leave and come back, with the ticket that they were given.
    pub comes_back: bool,
    /// Whoever cannot connect may try again; otherwise that ends its part in the run.
    pub tries_again: bool,
    /// Handshakes under way at a time.
    pub connecting_max: u32,
    /// Devices seal what they say.
    pub tls: Option<TlsPlan>,
}

/// What one run counted about connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Devices that were welcomed.
    pub welcomed: u32,
    /// Connections that were welcomed and then ended, though nobody wanted that.
    pub disconnected: u32,
    /// Connections that devices ended.
    pub left: u32,
    /// Connections that could not be made, or ended before Welcome.
    pub refused: u32,
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// Heartbeats that came back.
    pub echoes: u64,
    /// Buffers that were sent: about what the server receives.
    pub sends: u64,
    /// Buffers that were received: about what the server sends.
    pub receives: u64,
    /// TLS handshakes done.
    pub handshakes: u64,
    /// Those of them that resumed a session.
    pub resumed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Away,
    Connecting,
    Ready,
    Leaving,
    Gone,
}

#[derive(Debug)]
pub(super) struct Device {
    socket: SocketId,
    out: Vec<u8>,
    pub(super) state: State,
    sending: bool,
    dirty: bool,
    /// Connections begun so far.
    visits: u16,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Swarm {
    plan: Plan,
    pub(super) devices: Vec<Device>,
    by_slot: Vec<DeviceIndex>,
    pub(super) halves: BTreeMap<DeviceIndex, Vec<u8>>,
    sealed: Option<Sealed>,
    /// Connections that are given up.
    doomed: Vec<SocketId>,
    dirty: Vec<DeviceIndex>,
    spare: Vec<Vec<u8>>,
    pub(crate) counts: Counts,
    /// Those below it have come at least once.
    next_connect: u32,
    /// Those below it come by themselves.
    comes: u32,
    returning: VecDeque<DeviceIndex>,
    leaving: Vec<DeviceIndex>,
    connect_at: Instant,
    /// Of devices that come back: the newest ticket of each, once it has one.
    tickets: Vec<Box<[u8]>>,
    /// What each device syncs from in the same segment as its Hello, when it does.
    cursors: BTreeMap<DeviceIndex, u64>,
    pub(super) connecting: u32,
    started: Option<Instant>,
    ready: u32,
    failed: Vec<DeviceIndex>,
    stalls: Vec<(DeviceIndex, bool)>,
    /// Welcomed, refused and left when that changed last.
    progress: (u32, u32, u32),
    progress_at: Instant,
    heartbeat_ms: u32,
    heartbeat: &'static [u8],
    heartbeats_from: Option<Instant>,
    heartbeats_due: u64,
    first_refusal: Option<String>,
}

impl Swarm {
    /// Devices that are not connected yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let socket = SocketId { slot: u32::MAX, generation: 0 };
        let device = || Device {
            socket,
            out: Vec::new(),
            state: State::Away,
            sending: false,
            dirty: false,
            visits: 0,
        };
        let comes = if plan.comes_when_told { 0 } else { plan.devices };
        let tickets = if plan.comes_back { plan.devices as usize } else { 0 };
        let tickets = vec![Box::default(); tickets];
        let devices: Vec<Device> = (0..plan.devices).map(|_| device()).collect();
        Self {
            sealed: plan.tls.clone().map(|tls| Sealed::new(tls, devices.len())),
            doomed: Vec::new(),
            plan,
            devices,
            by_slot: Vec::new(),
            halves: BTreeMap::new(),
            dirty: Vec::new(),
            spare: Vec::new(),
            counts: Counts::default(),
            next_connect: 0,
            comes,
            returning: VecDeque::new(),
            leaving: Vec::new(),
            connect_at: Instant::default(),
            tickets,
            cursors: BTreeMap::new(),
            connecting: 0,
            started: None,
            ready: 0,
            failed: Vec::new(),
            stalls: Vec::new(),
            progress: (0, 0, 0),
            progress_at: Instant::default(),
            heartbeat_ms: 0,
            heartbeat: &[frame::HEARTBEAT],
            heartbeats_from: None,
            heartbeats_due: 0,
            first_refusal: None,
        }
    }

    /// How many devices there are.
    #[must_use]
    pub fn devices(&self) -> u32 {
        u32::try_from(self.devices.len()).expect("devices are counted in a u32")
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Why the first connection that failed did.
    #[must_use]
    pub fn first_refusal(&self) -> Option<&str> {
        self.first_refusal.as_deref()
    }

    /// When the first connection was begun.
    #[must_use]
    pub const fn started(&self) -> Option<Instant> {
        self.started
    }

    /// Whether every device that was to come was welcomed or refused.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.next_connect >= self.comes && self.returning.is_empty() && self.connecting == 0
    }

    /// Lets a device that left, or has not come yet, come back; with a cursor it syncs right behind
    /// its Hello, as request [`SYNC`].
    pub fn come_back(&mut self, index: DeviceIndex, cursor: Option<u64>) {
        if let Some(cursor) = cursor {
            self.cursors.insert(index, cursor);
        }
        self.returning.push_back(index);
    }

    /// Devices that could not connect since this was asked last.
    pub fn take_failed(&mut self) -> Vec<DeviceIndex> {
        std::mem::take(&mut self.failed)
    }

    /// A device reads nothing any more, or reads again: what it is sent fills the buffers between.
    pub fn stall(&mut self, index: DeviceIndex, stalls: bool) {
        self.stalls.push((index, stalls));
    }

    /// Lets a device leave, after what it still has to say.
    pub fn leave(&mut self, index: DeviceIndex) {
        self.leaving.push(index);
    }

    /// How fast devices come, at most.
    #[must_use]
    pub const fn connect_rate(&self) -> u32 {
        self.plan.connect_rate
    }

    /// Whether a device has a token to say Hello with.
    #[must_use]
    pub fn has_token(&self, index: DeviceIndex) -> bool {
        self.plan.tokens.get(index as usize).is_some_and(|token| !token.is_empty())
    }

    /// How fast devices come from now on, and where to.
    pub const fn redirect(&mut self, server: SocketAddr, connect_rate: u32) {
        self.plan.server = server;
        self.plan.connect_rate = connect_rate;
    }

    /// Whether nobody is connected or about to be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settled() && self.leaving.is_empty() && self.by_slot.iter().all(|i| *i == NOBODY)
    }

    /// Every device now says that it is there, once in the server's interval, evenly spread.
    pub const fn start_heartbeats(&mut self, now: Instant) {
        if self.heartbeats_from.is_none() {
            self.heartbeats_from = Some(now);
        }
    }

    /// No device says any more that it is there, until they are to say so again.
    pub const fn stop_heartbeats(&mut self) {
        self.heartbeats_from = None;
        self.heartbeats_due = 0;
    }

    /// Where to write what a device is to send next.
    pub fn out(&mut self, index: DeviceIndex) -> &mut Vec<u8> {
        self.mark_dirty(index);
        let device = &mut self.devices[index as usize];
        if device.out.capacity() == 0
            && let Some(buffer) = self.spare.pop()
        {
            device.out = buffer;
        }
        &mut device.out
    }

    pub(super) fn connect(&mut self, now: Instant, actions: &mut Actions) {
        self.started.get_or_insert(now);
        self.give_up_on_silence(now);
        let gap = Duration { ns: 1_000_000_000 / u64::from(self.plan.connect_rate.max(1)) };
        // What a pause of the generator held up may follow at once, but no more than that.
        let earliest = Instant { ns: now.ns.saturating_sub(CATCH_UP.ns) };
        self.connect_at = self.connect_at.max(earliest);
        while self.connect_at <= now && self.connecting < self.plan.connecting_max {
            let index = if self.next_connect < self.comes {
                self.next_connect += 1;
                self.next_connect - 1
            } else if let Some(index) = self.returning.pop_front() {
                index
            } else {
                return;
            };
            self.connect_at = self.connect_at + gap;
            self.connecting += 1;
            self.devices[index as usize].state = State::Connecting;
            actions.connect(index.into(), source(self.plan.server, index), self.plan.server);
        }
    }

    /// A device's connection stands. Says whether it may speak at once.
    pub(super) fn connected(&mut self, socket: SocketId, index: DeviceIndex) -> bool {
        let slot = socket.slot as usize;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, NOBODY);
        }
        self.by_slot[slot] = index;
        self.devices[index as usize].socket = socket;
        let Some(sealed) = &mut self.sealed else { return true };
        if sealed.connected(index) {
            self.mark_dirty(index);
        } else {
            self.seal_failed(socket, index);
        }
        false
    }

    /// Whether devices seal what they say.
    pub(super) const fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Sealed bytes came to a device; what they say is appended to `plain`. Says whether the device
    /// may speak from now on.
    pub(super) fn unseal(
        &mut self,
        socket: SocketId,
        index: DeviceIndex,
        bytes: &[u8],
        plain: &mut Vec<u8>,
    ) -> bool {
        let Some(sealed) = &mut self.sealed else { return false };
        let outcome = sealed.received(index, bytes, plain);
        (self.counts.handshakes, self.counts.resumed) = (sealed.done, sealed.resumed);
        if sealed.has_raw(index) {
            self.mark_dirty(index);
        }
        if outcome == Unsealed::Failed {
            self.seal_failed(socket, index);
        }
        outcome == Unsealed::Open
    }

    fn seal_failed(&mut self, socket: SocketId, index: DeviceIndex) {
        let why = self.sealed.as_ref().map(|sealed| sealed.failure.clone()).unwrap_or_default();
        self.refused(index, || format!("TLS: {why}"));
        self.doomed.push(socket);
    }

    fn mark_dirty(&mut self, index: DeviceIndex) {
        let device = &mut self.devices[index as usize];
        if !device.dirty {
            device.dirty = true;
            self.dirty.push(index);
        }
    }

    /// A server that takes connections and says nothing is none that devices can talk to.
    fn give_up_on_silence(&mut self, now: Instant) {
        let progress = (self.counts.welcomed, self.counts.refused, self.counts.left);
        if self.connecting == 0 || self.progress != progress {
            (self.progress, self.progress_at) = (progress, now);
        } else if now.since(self.progress_at) >= SILENCE {
            let waits =
                |index: &DeviceIndex| self.devices[*index as usize].state == State::Connecting;
            let waiting: Vec<DeviceIndex> = (0..self.devices()).filter(waits).collect();
            for index in waiting {
                self.refused(index, || {
                    format!(
                        "no answer within {} s; is it what it should be?",
                        SILENCE.as_ms() / 1_000
                    )
                });
            }
        }
    }

    /// The number of a device's next connection, and its id.
    pub fn next_connection(&mut self, index: DeviceIndex) -> (u64, [u8; 16]) {
        let device = &mut self.devices[index as usize];
        let number = self.plan.connection_number + u64::from(device.visits);
        device.visits += 1;
        let mut id = [0xbe; 16];
        id[..4].copy_from_slice(&index.to_le_bytes());
        (number, id)
    }

    /// Lets a device say Hello to a Roost server.
    pub fn hello(&mut self, index: DeviceIndex) {
        let (number, id) = self.next_connection(index);
        let cursor = self.cursors.remove(&index);
        let ticket = self.tickets.get_mut(index as usize).map(std::mem::take).unwrap_or_default();
        let token = std::mem::take(&mut self.plan.tokens[index as usize]);
        let out = self.out(index);
        out.extend_from_slice(&PREFACE);
        if ticket.is_empty() {
            wire::hello(token, id, number, out);
        } else {
            wire::hello_again(&ticket, id, number, out);
        }
        if let Some(cursor) = cursor {
            wire::sync(SYNC, cursor, out);
        }
    }

    /// The server took a device in, and gave it a ticket to come back with.
    pub fn welcomed_with(&mut self, index: DeviceIndex, ticket: &[u8]) {
        if let Some(kept) = self.tickets.get_mut(index as usize) {
            *kept = ticket.into();
        }
        self.welcomed(index);
    }

    /// The server took a device in.
    pub fn welcomed(&mut self, index: DeviceIndex) {
        let device = &mut self.devices[index as usize];
        if device.state == State::Connecting {
            device.state = State::Ready;
            self.connecting -= 1;
            self.ready += 1;
            self.counts.welcomed += 1;
        }
    }

    /// Devices say that they are there once in so long.
    pub const fn heartbeat_every(&mut self, ms: u32) {
        self.heartbeat_ms = ms;
    }

    /// What a device says to show that it is there; a heartbeat of Roost unless it is changed.
    pub const fn heartbeat_is(&mut self, bytes: &'static [u8]) {
        self.heartbeat = bytes;
    }

    /// Whether a device is connected and was taken in.
    #[must_use]
    pub fn is_ready(&self, index: DeviceIndex) -> bool {
        self.devices[index as usize].state == State::Ready
    }

    /// Whether a device left and its connection is over.
    #[must_use]
    pub fn is_away(&self, index: DeviceIndex) -> bool {
        self.devices[index as usize].state == State::Away
    }

    /// How many devices are connected and were taken in.
    #[must_use]
    pub const fn ready(&self) -> u32 {
        self.ready
    }

    /// The server does not take a device in, which ends its part in the run.
    pub fn refused(&mut self, index: DeviceIndex, why: impl FnOnce() -> String) {
        if self.devices[index as usize].state != State::Connecting {
            return;
        }
        self.connecting -= 1;
        self.counts.refused += 1;
        self.devices[index as usize].state =
            if self.plan.tries_again { State::Away } else { State::Gone };
        if self.plan.tries_again {
            self.failed.push(index);
        }
        if self.first_refusal.is_none() {
            self.first_refusal = Some(why());
        }
    }

    pub(super) fn closed(&mut self, socket: SocketId, cause: CloseCause) -> Option<DeviceIndex> {
        let index = self.device_of(socket)?;
        self.halves.remove(&index);
        if let Some(sealed) = &mut self.sealed {
            sealed.closed(index);
        }
        self.by_slot[socket.slot as usize] = NOBODY;
        let device = &mut self.devices[index as usize];
        device.out = Vec::new();
        device.sending = false;
        match device.state {
            State::Connecting => {
                self.refused(index, || format!("{cause} before Welcome"));
                None
            }
            State::Ready => {
                device.state = State::Gone;
                self.ready -= 1;
                self.counts.disconnected += 1;
                Some(index)
            }
            State::Leaving => {
                device.state = State::Away;
                self.counts.left += 1;
                None
            }
            State::Away | State::Gone => None,
        }
    }

    pub(super) fn device_of(&self, socket: SocketId) -> Option<DeviceIndex> {
        let index = *self.by_slot.get(socket.slot as usize)?;
        let device = self.devices.get(index as usize)?;
        (device.socket == socket).then_some(index)
    }

    pub(super) fn sent(&mut self, socket: SocketId, mut buffer: Vec<u8>) {
        let Some(index) = self.device_of(socket) else { return };
        let device = &mut self.devices[index as usize];
        device.sending = false;
        buffer.clear();
        let has_raw = self.sealed.as_ref().is_some_and(|sealed| sealed.has_raw(index));
        if device.out.is_empty() && !has_raw {
            if self.spare.len() < SPARE_MAX && buffer.capacity() <= 1 << 16 {
                self.spare.push(buffer);
            }
        } else if !device.dirty {
            device.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Hands everything that waits to the loop, one buffer a device.
    pub(super) fn flush(&mut self, actions: &mut Actions) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let has_raw = self.sealed.as_ref().is_some_and(|sealed| sealed.has_raw(index));
            let device = &mut self.devices[index as usize];
            device.dirty = false;
            if device.sending || (device.out.is_empty() && !has_raw) {
                continue;
            }
            let mut buffer = std::mem::take(&mut device.out);
            if let Some(sealed) = &mut self.sealed {
                let mut record = self.spare.pop().unwrap_or_default();
                sealed.seal(index, &buffer, &mut record);
                buffer.clear();
                if self.spare.len() < SPARE_MAX && buffer.capacity() > 0 {
                    self.spare.push(buffer);
                }
                buffer = record;
            }
            if !buffer.is_empty() {
                device.sending = true;
                self.counts.sends += 1;
                actions.send(device.socket, buffer);
            }
        }
        for socket in self.doomed.drain(..) {
            actions.close(socket);
        }
        self.dirty = dirty;
        for (index, stalls) in self.stalls.drain(..) {
            let socket = self.devices[index as usize].socket;
            if stalls { actions.pause(socket) } else { actions.resume(socket) }
        }
        for index in std::mem::take(&mut self.leaving) {
            let device = &mut self.devices[index as usize];
            if device.sending && !device.out.is_empty() {
                self.leaving.push(index);
            } else if device.state == State::Ready {
                device.state = State::Leaving;
                self.ready -= 1;
                actions.close(device.socket);
            }
        }
    }

    pub(super) fn heartbeats(&mut self, now: Instant) {
        let (Some(from), 1..) = (self.heartbeats_from, self.heartbeat_ms) else { return };
        let count = u64::from(self.devices());
        let wanted = now.since(from).as_ms() * count / u64::from(self.heartbeat_ms);
        // A pause of the generator is not made up by a burst of heartbeats of the same device.
        for number in self.heartbeats_due.max(wanted.saturating_sub(count))..wanted {
            let index = DeviceIndex::try_from(number % count).expect("it is below a u32");
            if self.devices[index as usize].state == State::Ready {
                let heartbeat = self.heartbeat;
                self.out(index).extend_from_slice(heartbeat);
                self.counts.heartbeats += 1;
            }
        }
        self.heartbeats_due = wanted;
    }
}

/// Where a device connects from: one address of this machine for ten thousand devices, when the
/// server is on this machine too.
fn source(server: SocketAddr, index: DeviceIndex) -> Option<SocketAddr> {
    let IpAddr::V4(address) = server.ip() else { return None };
    if !address.is_loopback() {
        return None;
    }
    let [_, _, high, low] = (index / PER_ADDRESS + 1).to_be_bytes();
    Some(SocketAddr::new(Ipv4Addr::new(127, 1, high, low).into(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_devices_share_an_address() {
        let server: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let from = |index| source(server, index).map(|address| address.to_string());
        assert_eq!(from(9_999).as_deref(), Some("127.1.0.1:0"));
        assert_eq!(from(10_000).as_deref(), Some("127.1.0.2:0"));
        assert_eq!(from(9_999_999).as_deref(), Some("127.1.3.232:0"));
        assert_eq!(source("192.0.2.1:4000".parse().unwrap(), 0), None);
    }
}
