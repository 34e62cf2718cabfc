//! Who is let in, and as whom: listeners for proxies, limits by network, the rate. Time is the
//! test's, so slow peers cost no time.

use super::{World, edge};
use crate::ids::EdgeId;
use crate::prefix::Prefix;
use crate::shard::edge::entrance::{ListenerRules, Trust};
use crate::shard::edge::table::State;
use crate::shard::output::Output;
use crate::shard::report::{Refused, Report};
use roost_protocol::time::Instant;
use std::net::IpAddr;

/// The listeners: for devices, for proxies of 10.0.0.0/8, for proxies of this machine, for proxies
/// of 10.0.0.0/8 with TLS.
const DIRECT: u16 = 0;
const PROXIED: u16 = 1;
const LOCAL: u16 = 2;
const SECURE: u16 = 3;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

fn v2(source: [u8; 4]) -> Vec<u8> {
    let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&start[..], &source, &[198, 51, 100, 1, 0, 1, 0, 2]].concat()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn world() -> World {
    let mut world = World::new();
    let network: Prefix = "10.0.0.0/8".parse().unwrap();
    let networks = || Some(Trust::Networks(vec![network]));
    world.edges.config.listeners = [
        ListenerRules::PLAIN,
        ListenerRules { secure: false, proxy: networks() },
        ListenerRules { secure: false, proxy: Some(Trust::Local) },
        ListenerRules { secure: true, proxy: networks() },
    ]
    .into();
    world
}

impl World {
    fn opens(&mut self, slot: u32, listener: u16, peer: Option<IpAddr>) -> EdgeId {
        let id = edge(slot);
        self.edges.opened(&mut self.ctx, &mut self.outbox, id, listener, peer);
        id
    }

    fn says(&mut self, id: EdgeId, bytes: &[u8]) {
        self.edges.received(&mut self.ctx, &mut self.outbox, id, bytes);
    }

    fn state(&mut self, id: EdgeId) -> Option<State> {
        self.edges.table.get(id).map(|edge| edge.state)
    }

    /// Whether it was thrown out without a word; then the driver says that it is gone.
    #[track_caller]
    fn was_thrown_out(&mut self, id: EdgeId, why: Refused) {
        let outputs: Vec<Output> = self.outbox.drain().collect();
        let aborts = |output: &Output| matches!(output, Output::Abort { edge } if *edge == id);
        assert_eq!(outputs.iter().filter(|output| aborts(output)).count(), 1, "{outputs:?}");
        assert!(!outputs.iter().any(|output| matches!(output, Output::Send { .. })));
        let tells = |report: &Report| matches!(report, Report::Refused { why: w, .. } if *w == why);
        let told = self.ctx.reports.drain(..).filter(tells).count() > 0;
        assert!(told, "nobody was told of {why:?}");
        self.edges.closed(&mut self.ctx, id);
        assert_eq!(self.state(id), None);
    }

    /// Seconds pass, with the ticks of each.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.ctx.now.monotonic.ns += 100_000_000;
            let tick = u32::try_from(self.ctx.now.monotonic.ns / 100_000_000).unwrap();
            self.edges.sweep(&mut self.ctx, &mut self.outbox, tick);
        }
    }

    #[track_caller]
    fn keeps_nothing(&self) {
        assert_eq!((self.ctx.stats.connections, self.edges.table.open()), (0, 0));
        assert_eq!((self.edges.partials.bytes(), self.edges.address_prefixes()), (0, 0));
    }
}

#[test]
fn a_proxy_is_believed_only_if_it_is_trusted() {
    let mut world = world();
    for (slot, peer) in [(1, ip("11.0.0.1")), (2, ip("2001:db8::1")), (3, None)] {
        let id = world.opens(slot, PROXIED, peer);
        // It has no place in the table, so whatever it says is not even looked at.
        assert_eq!(world.state(id), None);
        world.says(id, V1);
        world.was_thrown_out(id, Refused::Untrusted);
    }
    assert_eq!(world.ctx.stats.refused_untrusted_total, 3);
    for (slot, listener, peer) in [(1, PROXIED, ip("::ffff:10.1.2.3")), (2, LOCAL, None)] {
        let id = world.opens(slot, listener, peer);
        assert_eq!(world.state(id), Some(State::Proxy));
        world.says(id, &[V1, b"ROO\x01"].concat());
        assert_eq!(world.state(id), Some(State::Hello));
        world.edges.closed(&mut world.ctx, id);
    }
    assert_eq!(world.ctx.stats.proxied_total, 2);
    world.keeps_nothing();
}

#[test]
fn a_header_may_come_in_any_pieces() {
    let mut world = world();
    let headers = [V1.to_vec(), v2([192, 0, 2, 7]), b"PROXY UNKNOWN\r\n".to_vec()];
    for (slot, header) in (0..).zip(headers) {
        let id = world.opens(slot, PROXIED, ip("10.0.0.1"));
        for byte in &header {
            assert_eq!(world.state(id), Some(State::Proxy));
            world.says(id, &[*byte]);
        }
        assert_eq!(world.state(id), Some(State::Preface));
        world.says(id, b"RO");
        world.says(id, b"O\x01");
        assert_eq!(world.state(id), Some(State::Hello));
        world.edges.closed(&mut world.ctx, id);
    }
    world.keeps_nothing();
}

#[test]
fn what_is_no_header_ends_it_at_once() {
    let mut world = world();
    let wrong: [&[u8]; 5] =
        [b"ROO\x01", b"\x16\x03\x01\x02\0", b"GET ", b"PROXY TCP4 1\r\n", &[b'x'; 70_000]];
    for (slot, bytes) in (0..).zip(wrong) {
        for listener in [PROXIED, SECURE] {
            let id = world.opens(slot, listener, ip("10.0.0.1"));
            world.says(id, bytes);
            world.was_thrown_out(id, Refused::BadProxyHeader);
        }
    }
    // Half of one that then goes wrong.
    let id = world.opens(9, PROXIED, ip("10.0.0.1"));
    world.says(id, b"PROXY TCP4 1.2.3.4 ");
    world.says(id, b"5.6.7.8.9 1 2\r\n");
    world.was_thrown_out(id, Refused::BadProxyHeader);
    assert_eq!(world.ctx.stats.refused_proxy_header_total, 11);
    world.keeps_nothing();
}

/// Also when a byte comes each second: the time runs from the beginning.
#[test]
fn a_header_that_does_not_come_in_time_ends_it() {
    let mut world = world();
    let silent = world.opens(1, PROXIED, ip("10.0.0.1"));
    let drips = world.opens(2, SECURE, ip("10.0.0.1"));
    for byte in V1.iter().take(9) {
        world.says(drips, &[*byte]);
        world.wait(1);
    }
    assert_eq!(world.state(drips), Some(State::Proxy));
    assert!(world.outbox.is_empty());
    world.says(drips, &V1[9..10]);
    world.wait(3);
    let aborted: Vec<EdgeId> = world
        .outbox
        .drain()
        .filter_map(|output| if let Output::Abort { edge } = output { Some(edge) } else { None })
        .collect();
    assert!(aborted.contains(&silent) && aborted.contains(&drips));
    assert_eq!(world.ctx.stats.refused_no_proxy_header_total, 2);
    for id in [silent, drips] {
        world.edges.closed(&mut world.ctx, id);
    }
    world.keeps_nothing();
}

#[test]
fn half_headers_share_the_pool_of_half_frames() {
    let mut world = world();
    world.ctx.limits.half_frame_pool_bytes = 100;
    for slot in 0..20 {
        let id = world.opens(slot, PROXIED, ip("10.0.0.1"));
        world.says(id, &V1[..20]);
    }
    assert!(world.edges.partials_over(&world.ctx));
    world.edges.sweep_partials(&mut world.ctx, &mut world.outbox);
    assert!(world.edges.partials.bytes() <= 100);
    assert!(world.ctx.stats.refused_no_proxy_header_total >= 15);
}

#[test]
fn a_connection_is_of_whom_the_header_names() {
    let mut world = world();
    world.ctx.limits.connections_per_prefix_max = 2;
    let come = |world: &mut World, slot: u32, source: [u8; 4]| {
        let id = world.opens(slot, PROXIED, ip("10.0.0.1"));
        world.says(id, &v2(source));
        id
    };
    for slot in 0..2 {
        come(&mut world, slot, [192, 0, 2, 7]);
    }
    assert_eq!(world.edges.address_prefixes(), 1);
    let third = come(&mut world, 2, [192, 0, 2, 7]);
    world.was_thrown_out(third, Refused::PrefixFull);
    // Others by the same proxy, and the same one without it.
    come(&mut world, 3, [192, 0, 2, 8]);
    let direct = world.opens(4, DIRECT, ip("192.0.2.7"));
    world.was_thrown_out(direct, Refused::PrefixFull);
    assert_eq!(world.ctx.stats.refused_prefix_total, 2);
    // The proxy's own connections are nobody's.
    for slot in 10..20 {
        let id = world.opens(slot, PROXIED, ip("10.0.0.1"));
        world.says(id, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
        assert_eq!(world.state(id), Some(State::Preface));
    }
    world.edges.closed(&mut world.ctx, edge(0));
    let again = world.opens(4, DIRECT, ip("192.0.2.7"));
    assert_eq!(world.state(again), Some(State::Preface));
    for slot in 0..20 {
        world.edges.closed(&mut world.ctx, edge(slot));
    }
    world.keeps_nothing();
}

#[test]
fn a_network_that_only_connects_does_not_keep_itself_out() {
    let mut world = world();
    world.ctx.limits.unauthenticated_per_prefix_max = 3;
    for slot in 0..3 {
        world.opens(slot, DIRECT, ip("2001:db8::1"));
    }
    let fourth = world.opens(3, DIRECT, ip("2001:db8::ffff"));
    world.was_thrown_out(fourth, Refused::PrefixBusy);
    assert_eq!(world.ctx.stats.refused_prefix_unauthenticated_total, 1);
    // One is welcomed, one gives up: there is room for two.
    let first = edge(0);
    world.edges.table.get(first).unwrap().state = State::Registering;
    world.edges.welcome(&mut world.ctx, &mut world.outbox, first, 1, 0);
    world.edges.closed(&mut world.ctx, edge(1));
    for slot in [1, 3] {
        let id = world.opens(slot, DIRECT, ip("2001:db8::1"));
        assert_eq!(world.state(id), Some(State::Preface));
    }
    // Who stays silent for too long makes room, too.
    world.wait(15);
    for slot in 0..4 {
        world.edges.closed(&mut world.ctx, edge(slot));
    }
    world.keeps_nothing();
}

#[test]
fn connections_that_come_too_fast_wait() {
    let mut world = world();
    world.ctx.limits.connections_per_second = 50;
    world.ctx.now.monotonic = Instant { ns: 5_000_000_000 };
    let (mut taken, mut pauses, mut resumes, mut open) = (0, 0, 0, true);
    let mut others = 0;
    for round in 0..100 {
        for _ in 0..if open { 8 } else { 0 } {
            let id = world.opens(taken, DIRECT, None);
            world.edges.closed(&mut world.ctx, id);
            taken += 1;
        }
        // Few come elsewhere, and they wait for nobody.
        if round % 2 == 0 {
            let id = world.opens(taken, LOCAL, None);
            world.edges.closed(&mut world.ctx, id);
            others += 1;
        }
        world.wait(0);
        world.ctx.now.monotonic.ns += 100_000_000;
        world.edges.sweep(&mut world.ctx, &mut world.outbox, 50 + taken);
        for output in world.outbox.drain() {
            let resumed = matches!(output, Output::ResumeAccepting { listener: DIRECT });
            let paused = matches!(output, Output::PauseAccepting { listener: DIRECT });
            assert!(resumed || paused, "{output:?}");
            open = resumed;
            resumes += u64::from(resumed);
            pauses += u64::from(!resumed);
        }
    }
    // Ten seconds' worth, and what is saved up and taken at once.
    assert!((500..=530).contains(&taken), "{taken}");
    assert!(pauses > 10 && pauses - resumes <= 1, "{pauses} {resumes}");
    assert_eq!(world.ctx.stats.accept_pauses_total, pauses);
    assert_eq!(world.ctx.stats.connections_total, u64::from(taken + others));
}

/// A device that says its first words at a byte a second has no more time than others.
#[test]
fn first_words_that_drip_in_end_in_time() {
    let mut world = world();
    world.ctx.limits.hello_timeout_ms = 60_000;
    world.ctx.limits.half_frame_timeout_ms = 120_000;
    let id = world.opens(1, DIRECT, None);
    let words = [&b"ROO\x01"[..], &[0xc0, 0x3e], &[8; 8_000]].concat();
    let said = words.iter().take_while(|byte| {
        world.says(id, &[**byte]);
        world.wait(1);
        world.state(id) != Some(State::Closing)
    });
    let said = said.count();
    assert!((59..63).contains(&said), "{said} seconds");
    assert_eq!(world.ctx.stats.too_slow_total, 1);
    let outputs: Vec<Output> = world.outbox.drain().collect();
    let told = matches!(outputs[..], [Output::Send { .. }, Output::Close { .. }]);
    assert!(told, "{outputs:?}");
    world.edges.closed(&mut world.ctx, id);
    world.keeps_nothing();
}
