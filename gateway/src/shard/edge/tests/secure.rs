//! Connections that speak TLS, their client driven by hand, without sockets.

use super::{World, edge};
use crate::ids::EdgeId;
use crate::limits::Limits;
use crate::shard::edge::transport::{PROTOCOL, Tls};
use crate::shard::output::Output;
use roost_detached_tls::{
    ClientSettings, Detached, Handshake, ServerSettings, TicketKey, TicketKeys, Tickets,
};
use roost_protocol::preface::PREFACE;
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::sync::Arc;

/// A shard with a certificate, and a client that trusts it.
struct Secure {
    world: World,
    client: ClientSettings,
}

/// A client and what it has not looked at yet.
struct Client {
    id: EdgeId,
    handshake: Option<Handshake>,
    detached: Option<Detached>,
    input: Vec<u8>,
    /// What the server said.
    plain: Vec<u8>,
}

impl Secure {
    fn new(limits: Limits) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let keys = TicketKeys::new(TicketKey { id: 1, key: [1; 32] }, Vec::new());
        let tickets = Arc::new(Tickets::new(keys, 60));
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let mut world = World::new();
        world.ctx.limits = limits;
        let settings = ServerSettings::new(vec![certificate], key, &[PROTOCOL], tickets);
        world.edges.config.tls = Some(settings.unwrap());
        Self { world, client: ClientSettings::new(roots, &[PROTOCOL]).unwrap() }
    }

    /// A new connection. Its client has said Hello, which is not delivered.
    fn connect(&mut self, slot: u32) -> (Client, Vec<u8>) {
        let id = edge(slot);
        let World { ctx, outbox, edges } = &mut self.world;
        edges.opened(ctx, outbox, id, 1, None);
        let name = ServerName::try_from("localhost").unwrap();
        let mut handshake = Handshake::client(&self.client, name, None).unwrap();
        let mut hello = Vec::new();
        handshake.advance(&mut [], &mut hello).unwrap();
        let (input, plain) = (Vec::new(), Vec::new());
        (Client { id, handshake: Some(handshake), detached: None, input, plain }, hello)
    }

    fn delivers(&mut self, id: EdgeId, bytes: &[u8]) {
        let World { ctx, outbox, edges } = &mut self.world;
        edges.received(ctx, outbox, id, bytes);
    }

    /// The end of a batch; what is sent is not reported as sent.
    fn turn(&mut self) -> Vec<Output> {
        let World { ctx, outbox, edges } = &mut self.world;
        edges.take_handshakes(ctx, outbox);
        edges.flush(ctx, outbox);
        outbox.drain().collect()
    }

    fn sent(&mut self, id: EdgeId, buffer: Vec<u8>) {
        let World { ctx, outbox, edges } = &mut self.world;
        edges.sent(ctx, outbox, id, buffer);
    }

    fn in_progress(&self) -> u64 {
        self.world.ctx.stats.tls_handshakes_in_progress
    }

    /// Batches until nothing more comes of them; says whether the server closed.
    fn runs(&mut self, client: &mut Client) -> bool {
        let mut closed = false;
        loop {
            let outputs = self.turn();
            if outputs.is_empty() {
                return closed;
            }
            for output in outputs {
                if let Output::Send { edge, buffer } = output {
                    assert_eq!(edge, client.id);
                    let answer = client.takes(&buffer);
                    self.sent(edge, buffer);
                    if !answer.is_empty() {
                        self.delivers(edge, &answer);
                    }
                } else {
                    assert!(matches!(output, Output::Close { .. }), "{output:?}");
                    closed = true;
                }
            }
        }
    }

    /// A connection whose handshake is done and which has sent its preface.
    fn established(&mut self, slot: u32) -> Client {
        let (mut client, hello) = self.connect(slot);
        self.delivers(client.id, &hello);
        assert!(!self.runs(&mut client));
        let preface = client.says(&PREFACE);
        self.delivers(client.id, &preface);
        client
    }

    fn closed(&mut self, id: EdgeId) {
        self.world.edges.closed(&mut self.world.ctx, id);
    }

    /// Nothing of a connection is left but the slot of an open one.
    fn is_clean(&self) {
        let edges = &self.world.edges;
        assert_eq!(edges.secure.records.bytes() + edges.partials.bytes(), 0);
        assert_eq!(edges.queues.bytes, 0);
    }
}

impl Client {
    /// Takes bytes of the server; gives what its handshake answers.
    fn takes(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let mut output = Vec::new();
        if let Some(handshake) = &mut self.handshake {
            let progress = handshake.advance(&mut self.input, &mut output).unwrap();
            self.input.drain(..progress.taken);
            if !progress.is_done {
                return output;
            }
            self.detached = Some(self.handshake.take().unwrap().finish().unwrap().detached);
        }
        let detached = self.detached.as_mut().unwrap();
        let taken = detached.open(&self.input, &mut self.plain).unwrap();
        self.input.drain(..taken);
        output
    }

    fn says(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.detached.as_mut().unwrap().seal(plain, &mut sealed).unwrap();
        sealed
    }
}

#[test]
fn a_record_in_pieces_owns_a_buffer_only_while_it_is_half() {
    let mut secure = Secure::new(Limits::default());
    let mut client = secure.established(3);
    secure.is_clean();
    // Half the length of a frame.
    let sealed = client.says(&[0x80]);
    for (count, byte) in (1..).zip(&sealed) {
        secure.delivers(client.id, std::slice::from_ref(byte));
        let held = secure.world.edges.secure.records.bytes();
        assert_eq!(held > 0, count < sealed.len(), "after {count} bytes");
    }
    assert!(secure.world.edges.partials.bytes() > 0, "half a frame is one in plain now");
    secure.closed(client.id);
    secure.is_clean();
}

#[test]
fn half_a_record_has_as_long_as_half_a_frame() {
    let mut secure = Secure::new(Limits::default());
    let mut client = secure.established(3);
    let sealed = client.says(&[0x80]);
    secure.delivers(client.id, &sealed[..9]);
    let patience_ms = u64::from(secure.world.ctx.limits.half_frame_timeout_ms);
    let World { ctx, outbox, edges } = &mut secure.world;
    edges.sweep(ctx, outbox, 1);
    assert!(edges.secure.records.bytes() > 0);
    ctx.now.monotonic.ns += (patience_ms + 1) * 1_000_000;
    edges.sweep(ctx, outbox, 2);
    assert!(secure.runs(&mut client), "it is closed");
    assert!(!client.plain.is_empty() && client.detached.unwrap().peer_has_closed());
    secure.closed(client.id);
    secure.is_clean();
}

#[test]
fn a_turn_takes_a_few_steps_and_everybody_gets_theirs() {
    let limits = Limits { handshake_steps_per_turn_max: 2, ..Limits::default() };
    let mut secure = Secure::new(limits);
    let mut clients: Vec<Client> = Vec::new();
    for slot in 0..7 {
        let (client, hello) = secure.connect(slot);
        secure.delivers(client.id, &hello);
        clients.push(client);
    }
    assert_eq!(secure.in_progress(), 0);
    let mut order = Vec::new();
    for turn in 1..=4 {
        assert!(secure.world.edges.has_deferred(&secure.world.ctx));
        for output in secure.turn() {
            if let Output::Send { edge, .. } = output {
                order.push(edge.slot);
            }
        }
        assert_eq!(secure.in_progress(), (turn * 2).min(7));
    }
    assert_eq!(order, [0, 1, 2, 3, 4, 5, 6], "in the order they came");
    assert!(!secure.world.edges.has_deferred(&secure.world.ctx));
    for client in clients {
        secure.closed(client.id);
    }
    secure.turn();
    assert_eq!(secure.in_progress(), 0);
    secure.is_clean();
}

#[test]
fn those_that_begin_wait_while_many_are_under_way() {
    let limits = Limits { handshakes_in_progress_max: 2, ..Limits::default() };
    let mut secure = Secure::new(limits);
    let mut clients: Vec<Client> = Vec::new();
    for slot in 0..4 {
        let (client, hello) = secure.connect(slot);
        secure.delivers(client.id, &hello);
        clients.push(client);
    }
    assert_eq!(secure.turn().len(), 2);
    assert_eq!((secure.turn().len(), secure.in_progress()), (0, 2));
    assert!(!secure.world.edges.has_deferred(&secure.world.ctx), "it does not spin");
    // One that goes makes room for one.
    secure.closed(clients.remove(0).id);
    assert_eq!((secure.turn().len(), secure.in_progress()), (1, 2));
    for client in &clients {
        secure.closed(client.id);
    }
    secure.turn();
    secure.is_clean();
}

#[test]
fn a_silent_peer_makes_room_for_those_that_wait() {
    let limits = Limits { handshakes_in_progress_max: 2, ..Limits::default() };
    let mut secure = Secure::new(limits);
    let clients: Vec<EdgeId> = (0..3)
        .map(|slot| {
            let (client, hello) = secure.connect(slot);
            secure.delivers(client.id, &hello);
            client.id
        })
        .collect();
    secure.turn();
    secure.turn();
    assert_eq!((secure.in_progress(), secure.world.ctx.stats.tls_failed_total), (2, 0));
    let now = &mut secure.world.ctx.now.monotonic;
    *now = *now + roost_protocol::time::Duration::from_ms(1_000);
    secure.turn();
    secure.turn();
    // The first one went, the third one is under way.
    assert_eq!((secure.in_progress(), secure.world.ctx.stats.tls_failed_total), (2, 1));
    for id in clients {
        secure.closed(id);
    }
    secure.turn();
    secure.is_clean();
}

#[test]
fn what_is_sealed_behind_a_send_comes_after_it() {
    let mut secure = Secure::new(Limits::default());
    let mut client = secure.established(3);
    let id = client.id;
    let say = |secure: &mut Secure, byte: u8| {
        let edges = &mut secure.world.edges;
        let edge = edges.table.get(id).unwrap();
        edges.queues.append(edge, id, |pending| pending.push(byte));
    };
    say(&mut secure, 1);
    let [Output::Send { buffer: first, .. }] = &mut secure.turn()[..] else { panic!() };
    let first = std::mem::take(first);
    // While that is on its way something is queued, and then the client breaks a rule.
    say(&mut secure, 2);
    assert!(secure.turn().is_empty(), "one send at a time");
    secure.delivers(id, &[23, 3, 3, 0xff, 0xff]);
    assert!(secure.turn().is_empty(), "nothing is closed before the alert is out");
    client.takes(&first);
    assert_eq!(client.plain, [1]);
    secure.sent(id, first);
    let outputs = secure.turn();
    let [Output::Send { buffer, .. }, Output::Close { .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let error = client.detached.unwrap().open(buffer, &mut client.plain).unwrap_err();
    assert_eq!(error, roost_detached_tls::OpenError::Peer(22));
    assert!(matches!(secure.world.edges.table.tls(id), Some(Tls::Failed)));
    secure.closed(id);
    secure.is_clean();
}

#[test]
fn a_client_that_says_goodbye_is_answered_with_one() {
    let mut secure = Secure::new(Limits::default());
    let mut client = secure.established(3);
    let mut sealed = Vec::new();
    client.detached.as_mut().unwrap().close(&mut sealed);
    secure.delivers(client.id, &sealed);
    assert!(secure.runs(&mut client));
    assert!(client.detached.as_ref().unwrap().peer_has_closed() && client.plain.is_empty());
    assert_eq!(secure.world.ctx.stats.tls_failed_total, 0);
}
