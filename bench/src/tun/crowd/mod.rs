//! The TCP of all devices: packets in, packets out. As little as one known exchange needs: no
//! congestion control, no options, a fixed window, and what is not acknowledged is sent again after
//! a second.
//!
//! A device at rest is 12 bytes. Its address and its first sequence number follow from its number;
//! only what is on its way to the server is remembered until it is acknowledged.

use super::network::Network;
use super::packet::{self, ACK, FIN, PAYLOAD_MAX, PSH, RST, SYN, Segment};
use crate::swarm::DeviceIndex;
use roost_protocol::time::{Duration, Instant};
use std::collections::{BTreeMap, VecDeque};

/// What is not answered for so long is sent again.
pub(super) const RETRY: Duration = Duration::from_seconds(1);
/// So often; then the connection is given up.
pub(super) const RETRIES_MAX: u8 = 15;
/// What one device may have on its way.
pub(super) const FLIGHT_BYTES_MAX: usize = 32 * 1024;

/// What devices say.
pub(super) trait App {
    /// A device's connection stands: its first words.
    fn opened(&mut self, device: DeviceIndex, now: Instant, out: &mut Vec<u8>);

    /// The server said something; what is appended to `out` is the answer.
    fn received(&mut self, device: DeviceIndex, bytes: &[u8], now: Instant, out: &mut Vec<u8>);

    /// A device's connection is over.
    fn closed(&mut self, device: DeviceIndex, end: End, now: Instant);
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The device left, and the server knows it.
    Left,
    /// The server closed it.
    ByServer,
    /// The server reset it.
    Reset,
    /// The server answered nothing any more.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Away,
    /// A SYN is on its way.
    Connecting,
    Open,
    /// A FIN is on its way, or its answer is.
    Closing,
}

#[derive(Debug, Clone, Copy, Default)]
struct Peer {
    /// Bytes sent so far, without SYN and FIN.
    sent: u32,
    /// The server's next sequence number.
    expected: u32,
    state: State,
}

/// What the server has not acknowledged: a SYN, or the last bytes that were sent.
#[derive(Debug)]
struct Flight {
    bytes: Vec<u8>,
    has_fin: bool,
    tries: u8,
    sent_at: Instant,
}

/// What was counted of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WireCounts {
    /// From the server.
    pub(super) received: u64,
    /// To the server.
    pub(super) sent: u64,
    /// Sent again: they were not answered.
    pub(super) retried: u64,
    /// Came again, or before their turn.
    pub(super) repeated: u64,
    /// Were none of a device.
    pub(super) strays: u64,
}

/// Packets that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Packets {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Packets {
    /// Each in turn.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, segment: &Segment<'_>) {
        packet::write(segment, &mut self.bytes);
        self.ends.push(self.bytes.len());
    }
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Crowd {
    network: Network,
    peers: Vec<Peer>,
    flights: BTreeMap<DeviceIndex, Flight>,
    /// When to look at a flight again. Flights that are gone by then are passed over.
    due: VecDeque<(Instant, DeviceIndex)>,
    out: Vec<u8>,
    pub(super) packets: Packets,
    pub(super) counts: WireCounts,
}

impl Crowd {
    /// Nobody is connected.
    pub(super) fn new(network: Network) -> Self {
        Self {
            peers: vec![Peer::default(); network.devices as usize],
            network,
            flights: BTreeMap::new(),
            due: VecDeque::new(),
            out: Vec::new(),
            packets: Packets::default(),
            counts: WireCounts::default(),
        }
    }

    /// Lets a device connect, if it is away.
    pub(super) fn connect(&mut self, index: DeviceIndex, now: Instant) {
        let peer = &mut self.peers[index as usize];
        if peer.state == State::Away {
            *peer = Peer { state: State::Connecting, ..Peer::default() };
            self.flight(index, now);
            self.emit(index, SYN, self.network.first_sequence(index), &[]);
        }
    }

    /// Whether a device has no connection, not even one that is ending.
    pub(super) fn is_away(&self, index: DeviceIndex) -> bool {
        self.peers[index as usize].state == State::Away
    }

    /// Lets a device say something. Says whether it could.
    pub(super) fn send(&mut self, index: DeviceIndex, bytes: &[u8], now: Instant) -> bool {
        if self.peers[index as usize].state != State::Open {
            return false;
        }
        let flight = self.flight(index, now);
        if flight.bytes.len() + bytes.len() > FLIGHT_BYTES_MAX {
            return false;
        }
        flight.bytes.extend_from_slice(bytes);
        let sequence = self.next_sequence(index);
        let length = u32::try_from(bytes.len()).expect("a flight is short");
        let sent = &mut self.peers[index as usize].sent;
        *sent = sent.wrapping_add(length);
        self.emit_bytes(index, sequence, bytes);
        true
    }

    /// Lets a device leave, if it is connected.
    pub(super) fn leave(&mut self, index: DeviceIndex, now: Instant) {
        if self.peers[index as usize].state == State::Open {
            self.peers[index as usize].state = State::Closing;
            self.flight(index, now).has_fin = true;
            self.emit(index, FIN | ACK, self.next_sequence(index), &[]);
        }
    }

    /// A packet came from the server.
    pub(super) fn packet<A: App>(&mut self, packet: &[u8], now: Instant, app: &mut A) {
        self.counts.received += 1;
        let segment = packet::parse(packet).filter(|segment| segment.from == self.network.server);
        let addressed = segment.and_then(|of| Some((of, self.network.index_of(of.to)?)));
        let Some((segment, index)) = addressed else {
            self.counts.strays += 1;
            return;
        };
        match self.peers[index as usize].state {
            State::Away => self.refuse(index, &segment),
            State::Connecting => self.answered(index, &segment, now, app),
            State::Open | State::Closing => self.continued(index, &segment, now, app),
        }
    }

    /// Sends again what was not answered in time.
    pub(super) fn retry<A: App>(&mut self, now: Instant, app: &mut A) {
        while let Some((_, index)) = self.due.pop_front_if(|(due, _)| *due <= now) {
            let Some(flight) = self.flights.get_mut(&index) else { continue };
            if flight.sent_at + RETRY > now {
                continue;
            }
            if flight.tries >= RETRIES_MAX {
                self.emit(index, RST | ACK, self.next_sequence(index), &[]);
                self.end(index, End::Silent, now, app);
                continue;
            }
            flight.tries += 1;
            flight.sent_at = now;
            self.due.push_back((now + RETRY, index));
            self.counts.retried += 1;
            self.repeat(index);
        }
    }

    /// What a device has on its way, from now on something.
    fn flight(&mut self, index: DeviceIndex, now: Instant) -> &mut Flight {
        self.flights.entry(index).or_insert_with(|| {
            self.due.push_back((now + RETRY, index));
            Flight { bytes: Vec::new(), has_fin: false, tries: 0, sent_at: now }
        })
    }

    /// The number of the byte that a device sends next; its FIN has it too.
    fn next_sequence(&self, index: DeviceIndex) -> u32 {
        let sent = self.peers[index as usize].sent;
        self.network.first_sequence(index).wrapping_add(1).wrapping_add(sent)
    }

    /// The number of the first byte that is not acknowledged, of so many.
    fn flight_sequence(&self, index: DeviceIndex, bytes: usize) -> u32 {
        let length = u32::try_from(bytes).expect("a flight is short");
        self.next_sequence(index).wrapping_sub(length)
    }

    fn emit(&mut self, index: DeviceIndex, flags: u8, sequence: u32, payload: &[u8]) {
        let has_ack = flags & ACK != 0;
        self.counts.sent += 1;
        self.packets.push(&Segment {
            from: self.network.address_of(index),
            to: self.network.server,
            sequence,
            acknowledged: if has_ack { self.peers[index as usize].expected } else { 0 },
            flags,
            payload,
        });
    }

    fn emit_bytes(&mut self, index: DeviceIndex, mut sequence: u32, bytes: &[u8]) {
        for part in bytes.chunks(PAYLOAD_MAX) {
            self.emit(index, ACK | PSH, sequence, part);
            sequence = sequence.wrapping_add(u32::try_from(part.len()).expect("it is short"));
        }
    }

    fn acknowledge(&mut self, index: DeviceIndex) {
        self.emit(index, ACK, self.sequence_behind_all(index), &[]);
    }

    /// The next number, behind a FIN too.
    fn sequence_behind_all(&self, index: DeviceIndex) -> u32 {
        let is_closing = self.peers[index as usize].state == State::Closing;
        self.next_sequence(index).wrapping_add(is_closing.into())
    }

    fn repeat(&mut self, index: DeviceIndex) {
        if self.peers[index as usize].state == State::Connecting {
            return self.emit(index, SYN, self.network.first_sequence(index), &[]);
        }
        let Some(flight) = self.flights.get_mut(&index) else { return };
        let (bytes, has_fin) = (std::mem::take(&mut flight.bytes), flight.has_fin);
        self.emit_bytes(index, self.flight_sequence(index, bytes.len()), &bytes);
        if has_fin {
            self.emit(index, FIN | ACK, self.next_sequence(index), &[]);
        }
        if let Some(flight) = self.flights.get_mut(&index) {
            flight.bytes = bytes;
        }
    }

    /// For a device that has no connection: the server's is none either.
    fn refuse(&mut self, index: DeviceIndex, segment: &Segment<'_>) {
        let wants_answer = segment.flags & (SYN | FIN) != 0 || !segment.payload.is_empty();
        if wants_answer && !segment.has(RST) {
            self.counts.strays += 1;
            self.emit(index, RST, segment.acknowledged, &[]);
        }
    }

    fn answered<A: App>(
        &mut self,
        index: DeviceIndex,
        segment: &Segment<'_>,
        now: Instant,
        app: &mut A,
    ) {
        let is_answer = segment.has(ACK) && segment.acknowledged == self.next_sequence(index);
        if !is_answer {
            // Of an earlier connection, which the server has not given up.
            self.refuse(index, segment);
        } else if segment.has(RST) {
            self.end(index, End::Reset, now, app);
        } else if segment.has(SYN) {
            self.flights.remove(&index);
            let peer = &mut self.peers[index as usize];
            (peer.state, peer.expected) = (State::Open, segment.sequence.wrapping_add(1));
            self.with_out(index, now, |out| app.opened(index, now, out));
        }
    }

    fn continued<A: App>(
        &mut self,
        index: DeviceIndex,
        segment: &Segment<'_>,
        now: Instant,
        app: &mut A,
    ) {
        let expected = self.peers[index as usize].expected;
        if segment.has(RST) {
            if segment.sequence == expected {
                let is_closing = self.peers[index as usize].state == State::Closing;
                self.end(index, if is_closing { End::Left } else { End::Reset }, now, app);
            }
            return;
        }
        if segment.has(SYN) {
            // The acknowledgement of its SYN was lost; the first words are sent again in time.
            return self.acknowledge(index);
        }
        if segment.has(ACK) {
            self.acknowledged(index, segment.acknowledged);
        }
        let known = expected.wrapping_sub(segment.sequence) as usize;
        let has_fin = segment.has(FIN);
        let is_in_order = known <= segment.payload.len();
        let fresh = segment.payload.get(known..).unwrap_or_default();
        if !is_in_order || (fresh.is_empty() && !has_fin) {
            // Nothing new. A bare acknowledgement in its place wants no answer; everything else,
            // a probe for life among them, does.
            if known != 0 || !segment.payload.is_empty() {
                self.counts.repeated += 1;
                self.acknowledge(index);
            }
            return;
        }
        let length = u32::try_from(fresh.len()).expect("a packet is short");
        self.peers[index as usize].expected =
            expected.wrapping_add(length).wrapping_add(has_fin.into());
        if has_fin {
            if !fresh.is_empty() {
                let mut unsaid = std::mem::take(&mut self.out);
                app.received(index, fresh, now, &mut unsaid);
                unsaid.clear();
                self.out = unsaid;
            }
            self.finished(index, now, app);
        } else {
            self.with_out(index, now, |out| app.received(index, fresh, now, out));
        }
    }

    /// Sends what the device says to what came, or else acknowledges that.
    fn with_out(&mut self, index: DeviceIndex, now: Instant, say: impl FnOnce(&mut Vec<u8>)) {
        let mut out = std::mem::take(&mut self.out);
        say(&mut out);
        if out.is_empty() || !self.send(index, &out, now) {
            self.acknowledge(index);
        }
        out.clear();
        self.out = out;
    }

    /// The server has everything below a number.
    fn acknowledged(&mut self, index: DeviceIndex, number: u32) {
        let Some(flight) = self.flights.get(&index) else { return };
        let (bytes, has_fin) = (flight.bytes.len(), flight.has_fin);
        let count = number.wrapping_sub(self.flight_sequence(index, bytes)) as usize;
        let outstanding = bytes + usize::from(has_fin);
        if count == outstanding {
            self.flights.remove(&index);
        } else if (1..outstanding).contains(&count)
            && let Some(flight) = self.flights.get_mut(&index)
        {
            flight.bytes.drain(..count.min(bytes));
            flight.tries = 0;
        }
    }

    /// The server says nothing more.
    fn finished<A: App>(&mut self, index: DeviceIndex, now: Instant, app: &mut A) {
        if self.peers[index as usize].state == State::Closing {
            self.acknowledge(index);
            self.end(index, End::Left, now, app);
        } else {
            self.emit(index, FIN | ACK, self.next_sequence(index), &[]);
            self.end(index, End::ByServer, now, app);
        }
    }

    fn end<A: App>(&mut self, index: DeviceIndex, end: End, now: Instant, app: &mut A) {
        self.peers[index as usize].state = State::Away;
        self.flights.remove(&index);
        app.closed(index, end, now);
    }
}

#[cfg(test)]
mod tests;
