use super::*;
use crate::tun::network::HOST;
use proptest::prelude::*;
use std::net::SocketAddrV4;

const SERVER_FIRST: u32 = u32::MAX - 5;

fn network(devices: u32) -> Network {
    Network { server: SocketAddrV4::new(HOST, 4_000), devices, key: 7 }
}

fn at(ms: u64) -> Instant {
    Instant { ns: ms * 1_000_000 }
}

/// Says hello, answers everything with "ok", and notes what it is told.
#[derive(Default)]
struct Heard {
    said: Vec<u8>,
    came: Vec<u8>,
    ended: Vec<End>,
    is_quiet: bool,
}

impl App for Heard {
    fn opened(&mut self, _: DeviceIndex, _: Instant, out: &mut Vec<u8>) {
        out.extend_from_slice(b"hello");
        self.said.extend_from_slice(b"hello");
    }

    fn received(&mut self, _: DeviceIndex, bytes: &[u8], _: Instant, out: &mut Vec<u8>) {
        self.came.extend_from_slice(bytes);
        if !self.is_quiet {
            out.extend_from_slice(b"ok");
            self.said.extend_from_slice(b"ok");
        }
    }

    fn closed(&mut self, _: DeviceIndex, end: End, _: Instant) {
        self.ended.push(end);
    }
}

/// A device and somebody who writes segments to it by hand.
struct Hand {
    crowd: Crowd,
    heard: Heard,
    now: Instant,
}

impl Hand {
    fn new() -> Self {
        let heard = Heard { is_quiet: true, ..Heard::default() };
        let mut hand = Self { crowd: Crowd::new(network(3)), heard, now: at(0) };
        hand.crowd.connect(1, hand.now);
        hand
    }

    fn connected() -> Self {
        let mut hand = Self::new();
        hand.told(SYN | ACK, 0, 1, b"");
        let said = hand.crowd.network.first_sequence(1).wrapping_add(6);
        assert_eq!(hand.sent().pop().map(|of| of.2), Some(b"hello".to_vec()));
        hand.told(ACK, 1, 6, b"");
        assert_eq!(hand.crowd.next_sequence(1), said);
        assert!(hand.crowd.flights.is_empty() && hand.crowd.packets.is_empty());
        hand
    }

    /// Numbers count from the first ones of both sides.
    fn told(&mut self, flags: u8, sequence: u32, acknowledged: u32, payload: &[u8]) {
        let network = self.crowd.network;
        let mut packet = Vec::new();
        let segment = Segment {
            from: network.server,
            to: network.address_of(1),
            sequence: SERVER_FIRST.wrapping_add(sequence),
            acknowledged: network.first_sequence(1).wrapping_add(acknowledged),
            flags,
            payload,
        };
        packet::write(&segment, &mut packet);
        self.crowd.packet(&packet, self.now, &mut self.heard);
    }

    /// Flags, numbers as in [`Hand::told`], and payload of what was sent since.
    fn sent(&mut self) -> Vec<(u8, (u32, u32), Vec<u8>)> {
        let first = self.crowd.network.first_sequence(1);
        let read = |packet| {
            let of = packet::parse(packet).unwrap();
            let acknowledged = of.acknowledged.wrapping_sub(SERVER_FIRST);
            let numbers = (of.sequence.wrapping_sub(first), acknowledged);
            (of.flags, numbers, of.payload.to_vec())
        };
        let sent = self.crowd.packets.iter().map(read).collect();
        self.crowd.packets.clear();
        sent
    }

    fn later(&mut self, ms: u64) {
        self.now = self.now + Duration::from_ms(ms);
        self.crowd.retry(self.now, &mut self.heard);
    }
}

#[test]
fn a_device_at_rest_is_twelve_bytes() {
    assert_eq!(size_of::<Peer>(), 12);
    let hand = Hand::connected();
    assert_eq!((hand.crowd.flights.len(), hand.crowd.out.len()), (0, 0));
}

#[test]
fn the_first_words_go_with_the_acknowledgement() {
    let mut hand = Hand::new();
    assert_eq!(hand.sent().first().map(|of| (of.0, of.1.0)), Some((SYN, 0)));
    hand.told(SYN | ACK, 0, 1, b"");
    assert_eq!(hand.sent(), [(ACK | PSH, (1, 1), b"hello".to_vec())]);
    hand.told(ACK | PSH, 1, 6, b"welcome");
    assert_eq!(hand.sent(), [(ACK, (6, 8), Vec::new())]);
    assert_eq!(hand.heard.came, b"welcome");
}

#[test]
fn what_is_not_answered_is_sent_again_until_it_is_given_up() {
    let mut hand = Hand::new();
    hand.sent();
    hand.later(999);
    assert!(hand.sent().is_empty());
    hand.later(1);
    assert_eq!(hand.sent().len(), 1, "the SYN");
    hand.told(SYN | ACK, 0, 1, b"");
    hand.sent();
    for _ in 0..RETRIES_MAX {
        hand.later(1_000);
        assert_eq!(hand.sent(), [(ACK | PSH, (1, 1), b"hello".to_vec())]);
    }
    hand.later(1_000);
    assert_eq!(hand.sent().pop().map(|of| of.0), Some(RST | ACK));
    assert_eq!(hand.heard.ended, [End::Silent]);
    hand.later(1_000_000);
    assert!(hand.crowd.due.is_empty() && hand.crowd.flights.is_empty());
}

#[test]
fn half_an_acknowledgement_leaves_the_other_half() {
    let mut hand = Hand::connected();
    assert!(hand.crowd.send(1, b"abcdef", hand.now));
    hand.sent();
    hand.told(ACK, 1, 10, b"");
    hand.told(ACK, 1, 13, b"");
    hand.told(ACK, 1, 3, b"");
    hand.later(1_000);
    assert_eq!(hand.sent(), [(ACK | PSH, (10, 1), b"ef".to_vec())]);
    hand.told(ACK, 1, 12, b"");
    hand.later(1_000);
    assert!(hand.sent().is_empty());
}

#[test]
fn repeated_and_early_segments_are_acknowledged_and_not_told() {
    let mut hand = Hand::connected();
    hand.told(ACK, 1, 6, b"abc");
    hand.told(ACK, 1, 6, b"abc");
    hand.told(ACK, 9, 6, b"later");
    hand.told(ACK, 2, 6, b"bcde");
    assert_eq!(hand.heard.came, b"abcde");
    let numbers: Vec<u32> = hand.sent().iter().map(|of| of.1.1).collect();
    assert_eq!((numbers, hand.crowd.counts.repeated), (vec![4, 4, 4, 6], 2));
    hand.told(ACK, 5, 6, b"");
    assert_eq!(hand.sent(), [(ACK, (6, 6), Vec::new())], "a probe for life");
    hand.told(ACK, 6, 6, b"");
    assert!(hand.sent().is_empty(), "a bare acknowledgement");
    hand.told(SYN | ACK, 0, 1, b"");
    assert_eq!(hand.sent(), [(ACK, (6, 6), Vec::new())], "a SYN that came again");
}

#[test]
fn a_server_that_closes_has_its_answer() {
    let mut hand = Hand::connected();
    hand.told(ACK | FIN, 1, 6, b"bye");
    assert_eq!(hand.sent(), [(FIN | ACK, (6, 5), Vec::new())]);
    assert_eq!((&*hand.heard.came, &*hand.heard.ended), (&b"bye"[..], &[End::ByServer][..]));
    hand.told(ACK, 5, 7, b"");
    assert!(hand.sent().is_empty());
    hand.told(ACK | FIN, 1, 6, b"bye");
    assert_eq!(hand.sent(), [(RST, (6, SERVER_FIRST.wrapping_neg()), Vec::new())]);
}

#[test]
fn a_device_that_leaves_waits_for_the_server_and_may_come_again() {
    let mut hand = Hand::connected();
    assert!(hand.crowd.send(1, b"last", hand.now));
    hand.crowd.leave(1, hand.now);
    hand.sent();
    hand.later(1_000);
    let last = (ACK | PSH, (6, 1), b"last".to_vec());
    assert_eq!(hand.sent(), [last, (FIN | ACK, (10, 1), Vec::new())]);
    hand.told(ACK, 1, 10, b"");
    hand.later(1_000);
    assert_eq!(hand.sent(), [(FIN | ACK, (10, 1), Vec::new())]);
    hand.told(ACK | FIN, 1, 11, b"");
    assert_eq!(hand.sent(), [(ACK, (11, 2), Vec::new())]);
    assert_eq!(hand.heard.ended, [End::Left]);
    hand.crowd.connect(1, hand.now);
    hand.told(SYN | ACK, 0, 1, b"");
    assert_eq!(hand.sent().len(), 2);
}

#[test]
fn a_reset_counts_only_in_its_place() {
    let mut hand = Hand::connected();
    hand.told(RST, 3, 0, b"");
    assert_eq!(hand.heard.ended, []);
    hand.told(RST, 1, 0, b"");
    assert_eq!(hand.heard.ended, [End::Reset]);
    let mut refused = Hand::new();
    refused.told(RST | ACK, 0, 1, b"");
    assert_eq!(refused.heard.ended, [End::Reset]);
}

#[test]
fn what_is_nobodys_is_counted() {
    let mut hand = Hand::new();
    hand.crowd.packet(b"no packet", hand.now, &mut hand.heard);
    assert_eq!(hand.crowd.counts.strays, 1);
}

#[test]
fn nobody_has_more_on_the_way_than_the_limit() {
    let mut hand = Hand::connected();
    assert!(hand.crowd.send(1, &vec![0; FLIGHT_BYTES_MAX], hand.now));
    assert!(hand.sent().iter().all(|of| of.2.len() <= PAYLOAD_MAX));
    assert!(!hand.crowd.send(1, b"x", hand.now));
}

/// The other side of the property: a plain TCP that sends everything again when asked to.
#[derive(Default)]
struct Server {
    is_open: bool,
    stream: Vec<u8>,
    acknowledged: usize,
    came: Vec<u8>,
}

impl Server {
    fn segment<'a>(
        network: &Network,
        flags: u8,
        at: usize,
        heard: u32,
        payload: &'a [u8],
    ) -> Segment<'a> {
        let offset = u32::try_from(at).unwrap();
        Segment {
            from: network.server,
            to: network.address_of(0),
            sequence: SERVER_FIRST.wrapping_add(offset),
            acknowledged: network.first_sequence(0).wrapping_add(heard),
            flags,
            payload,
        }
    }

    fn heard(&self) -> u32 {
        1 + u32::try_from(self.came.len()).unwrap()
    }

    fn packet(&mut self, network: &Network, packet: &[u8], out: &mut Vec<Vec<u8>>) {
        let of = packet::parse(packet).unwrap();
        if of.has(SYN) {
            push(&Self::segment(network, SYN | ACK, 0, 1, b""), out);
            return;
        }
        self.is_open = true;
        let acknowledged = of.acknowledged.wrapping_sub(SERVER_FIRST).wrapping_sub(1) as usize;
        assert!(acknowledged <= self.stream.len(), "acknowledged what was never sent");
        self.acknowledged = self.acknowledged.max(acknowledged);
        let offset = of.sequence.wrapping_sub(network.first_sequence(0)).wrapping_sub(1) as usize;
        if !of.payload.is_empty() {
            let known = self.came.len().checked_sub(offset);
            if let Some(fresh) = known.and_then(|known| of.payload.get(known..)) {
                self.came.extend_from_slice(fresh);
            }
            push(&Self::segment(network, ACK, 1 + self.acknowledged, self.heard(), b""), out);
        }
    }

    fn send_all(&self, network: &Network, size: usize, out: &mut Vec<Vec<u8>>) {
        if self.is_open {
            let mut from = self.acknowledged;
            for part in self.stream[from..].chunks(size) {
                push(&Self::segment(network, ACK | PSH, 1 + from, self.heard(), part), out);
                from += part.len();
            }
        }
    }
}

fn push(segment: &Segment<'_>, out: &mut Vec<Vec<u8>>) {
    let mut packet = Vec::new();
    packet::write(segment, &mut packet);
    out.push(packet);
}

struct World {
    crowd: Crowd,
    heard: Heard,
    server: Server,
    to_server: Vec<Vec<u8>>,
    to_device: Vec<Vec<u8>>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut crowd = Crowd::new(network(1));
        crowd.connect(0, at(0));
        let stream: Vec<u8> = (0..=255).collect();
        let server = Server { stream, ..Server::default() };
        let (to_server, to_device) = (Vec::new(), Vec::new());
        Self { crowd, heard: Heard::default(), server, to_server, to_device, now: at(0) }
    }

    fn collect(&mut self) {
        self.to_server.extend(self.crowd.packets.iter().map(<[u8]>::to_vec));
        self.crowd.packets.clear();
    }

    fn second(&mut self, size: usize) {
        self.now = self.now + RETRY;
        self.crowd.retry(self.now, &mut self.heard);
        self.server.send_all(&self.crowd.network, size, &mut self.to_device);
    }

    fn deliver(&mut self, to_server: bool, place: usize) {
        let queue = if to_server { &mut self.to_server } else { &mut self.to_device };
        if queue.is_empty() {
            return;
        }
        let packet = queue.remove(place % queue.len());
        if to_server {
            self.server.packet(&self.crowd.network, &packet, &mut self.to_device);
        } else {
            self.crowd.packet(&packet, self.now, &mut self.heard);
        }
        self.collect();
        self.check();
    }

    fn disturb(&mut self, to_server: bool, place: usize, copies: bool) {
        let queue = if to_server { &mut self.to_server } else { &mut self.to_device };
        if queue.is_empty() {
            return;
        }
        let packet = queue.remove(place % queue.len());
        if copies && queue.len() < 100 {
            queue.extend([packet.clone(), packet]);
        }
    }

    fn check(&self) {
        assert!(self.server.stream.starts_with(&self.heard.came), "told in order, once");
        assert!(self.heard.said.starts_with(&self.server.came), "sent in order, once");
        assert_eq!(self.crowd.flights.len().min(1), self.crowd.flights.len());
    }
}

proptest! {
    #[test]
    fn whatever_is_lost_doubled_or_late_nothing_is_in_the_end(
        steps in proptest::collection::vec((0_u8..12, any::<u8>()), 0..80),
    ) {
        let mut world = World::new();
        world.collect();
        for (what, number) in steps {
            let (place, to_server) = (usize::from(number), what % 2 == 0);
            match what {
                0..=5 => world.deliver(to_server, place),
                6 | 7 => world.disturb(to_server, place, false),
                8 | 9 => world.disturb(to_server, place, true),
                _ => world.second(1 + place),
            }
            world.collect();
        }
        // Somebody who was not answered for a quarter of a minute may give up.
        let mut rounds = 0;
        while world.heard.ended.is_empty() && rounds < 40 {
            rounds += 1;
            world.second(100);
            world.collect();
            while !(world.to_server.is_empty() && world.to_device.is_empty()) {
                world.deliver(true, 0);
                world.deliver(false, 0);
            }
        }
        if world.heard.ended.is_empty() {
            prop_assert_eq!(&world.heard.came, &world.server.stream);
            prop_assert_eq!(&world.heard.said, &world.server.came);
            prop_assert!(world.crowd.flights.is_empty());
        } else {
            prop_assert_eq!(&*world.heard.ended, &[End::Silent]);
            prop_assert!(world.now >= at(1_000 * u64::from(RETRIES_MAX)));
        }
    }
}
