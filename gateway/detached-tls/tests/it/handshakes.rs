//! Handshakes: full, resumed, refused, in pieces.

use crate::world::{
    Ours, PROTOCOL, World, drained, heard, name, rustls_client, rustls_server, said, shake,
    shake_ours, ticket_keys,
};
use roost_detached_tls::{HandshakeError, Suite};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519MLKEM768};
use std::sync::Arc;

const SUITES: [(rustls::SupportedCipherSuite, Suite); 2] = [
    (TLS13_AES_128_GCM_SHA256, Suite::Aes128Gcm),
    (TLS13_CHACHA20_POLY1305_SHA256, Suite::ChaCha20Poly1305),
];

/// Both say something and hear it.
fn talk(ours: &mut Ours, theirs: &mut rustls::Connection) {
    for plain in [&b"x"[..], &[7; 40_000]] {
        let sealed = said(theirs, plain);
        assert!(ours.takes(&sealed).unwrap().is_empty());
        assert_eq!(ours.hears(), plain);
        let sealed = ours.says(plain);
        assert_eq!(heard(theirs, &sealed).unwrap(), plain);
    }
}

#[test]
fn our_server_and_a_client_of_rustls() {
    let world = World::new();
    for (suite, agreed) in SUITES {
        for piece in [1, 7, 100_000] {
            let config = Arc::new(world.rustls_client(&[suite], &[PROTOCOL]));
            let (mut server, mut client) = (Ours::server(&world), rustls_client(&config));
            shake(&mut server, &mut client, piece);
            let established = server.established.as_ref().unwrap();
            assert_eq!(established.protocol.as_deref(), Some(PROTOCOL));
            assert_eq!(established.server_name.as_deref(), Some("localhost"));
            assert_eq!(established.detached.suite(), agreed);
            assert!(established.ticket_taker.is_none() && !established.is_resumed);
            talk(&mut server, &mut client);
        }
    }
}

#[test]
fn our_client_and_a_server_of_rustls() {
    let world = World::new();
    for (suite, agreed) in SUITES {
        for piece in [1, 7, 100_000] {
            let config = Arc::new(world.rustls_server(&[suite]));
            let (mut client, mut server) = (Ours::client(&world, None), rustls_server(&config));
            shake(&mut client, &mut server, piece);
            let established = client.established.as_ref().unwrap();
            assert_eq!(established.protocol.as_deref(), Some(PROTOCOL));
            assert_eq!(established.detached.suite(), agreed);
            talk(&mut client, &mut server);
        }
    }
}

#[test]
fn aes_is_taken_whatever_the_client_likes_better() {
    let world = World::new();
    let order = [TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256];
    let config = Arc::new(world.rustls_client(&order, &[PROTOCOL]));
    let (mut server, mut client) = (Ours::server(&world), rustls_client(&config));
    shake(&mut server, &mut client, 1000);
    assert_eq!(server.detached().suite(), Suite::Aes128Gcm);
}

#[test]
fn a_second_hello_and_a_hybrid_exchange() {
    let world = World::new();
    let groups: [&'static dyn rustls::crypto::SupportedKxGroup; 2] = [SECP256R1, X25519MLKEM768];
    for group in groups {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = vec![group];
        let config = world.rustls_client_with(provider, &[PROTOCOL]);
        let (mut server, mut client) = (Ours::server(&world), rustls_client(&Arc::new(config)));
        shake(&mut server, &mut client, 100);
        talk(&mut server, &mut client);
    }
    // A server that wants another group than the first one offered asks again.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![SECP256R1];
    let config = Arc::new(world.rustls_server_with(provider));
    let (mut client, mut server) = (Ours::client(&world, None), rustls_server(&config));
    shake(&mut client, &mut server, 100);
    talk(&mut client, &mut server);
}

#[test]
fn rustls_resumes_with_us_on_another_shard_and_after_a_restart() {
    let world = World::new();
    let config = Arc::new(world.rustls_client(&[], &[PROTOCOL]));
    let (mut server, mut client) = (Ours::server(&world), rustls_client(&config));
    shake(&mut server, &mut client, 1000);
    assert!(!server.is_resumed());
    // Another server with the same keys, as after a restart.
    let again = world.again();
    let (mut server, mut client) = (Ours::server(&again), rustls_client(&config));
    shake(&mut server, &mut client, 1);
    assert!(server.is_resumed());
    talk(&mut server, &mut client);
    // With other keys a whole handshake is made.
    again.tickets.replace_keys(ticket_keys(2));
    let (mut server, mut client) = (Ours::server(&again), rustls_client(&config));
    shake(&mut server, &mut client, 1000);
    assert!(!server.is_resumed());
    talk(&mut server, &mut client);
}

#[test]
fn we_resume_with_rustls_and_with_ourselves() {
    let world = World::new();
    let config = Arc::new(world.rustls_server(&[]));
    let (mut client, mut server) = (Ours::client(&world, None), rustls_server(&config));
    shake(&mut client, &mut server, 1000);
    let session = client.session();
    assert!(session.is_some(), "rustls sends tickets right away");
    let (mut client, mut server) = (Ours::client(&world, session), rustls_server(&config));
    shake(&mut client, &mut server, 1);
    assert!(client.is_resumed());
    talk(&mut client, &mut server);

    let mut session = None;
    for round in 0..5 {
        let (mut client, mut server) = (Ours::client(&world, session), Ours::server(&world));
        shake_ours(&mut client, &mut server);
        assert_eq!((client.is_resumed(), server.is_resumed()), (round > 0, round > 0));
        assert_eq!(client.tickets.len(), 1, "one ticket a connection");
        session = client.session();
        let sealed = client.says(b"hello");
        server.takes(&sealed).unwrap();
        assert_eq!(server.hears(), b"hello");
    }
}

#[test]
fn data_right_behind_the_handshake_waits_for_us() {
    let world = World::new();
    let config = Arc::new(world.rustls_client(&[], &[PROTOCOL]));
    let (mut server, mut client) = (Ours::server(&world), rustls_client(&config));
    let flight = server.takes(&drained(&mut client)).unwrap();
    heard(&mut client, &flight).unwrap();
    let last = said(&mut client, b"preface");
    let tickets = server.takes(&last).unwrap();
    assert_eq!(server.hears(), b"preface");
    heard(&mut client, &tickets).unwrap();
    talk(&mut server, &mut client);
}

#[test]
fn every_cut_of_a_handshake_comes_to_the_same() {
    let world = World::new();
    let config = Arc::new(world.rustls_client(&[], &[PROTOCOL]));
    let hello = drained(&mut rustls_client(&config)).len();
    for cut in (0..hello).step_by(11) {
        let (mut server, mut client) = (Ours::server(&world), rustls_client(&config));
        let hello = drained(&mut client);
        let at = cut.min(hello.len());
        assert!(server.takes(&hello[..at]).unwrap().is_empty());
        let flight = server.takes(&hello[at..]).unwrap();
        heard(&mut client, &flight).unwrap();
        let last = [drained(&mut client), said(&mut client, b"hi")].concat();
        let at = cut % last.len();
        let mut tickets = server.takes(&last[..at]).unwrap();
        tickets.extend(server.takes(&last[at..]).unwrap());
        assert_eq!(server.hears(), b"hi");
        heard(&mut client, &tickets).unwrap();
        talk(&mut server, &mut client);
    }
}

/// What a client of rustls is told by our server, which refuses it.
fn refusal(world: &World, config: rustls::ClientConfig) -> (HandshakeError, rustls::Error) {
    let (mut server, mut client) = (Ours::server(world), rustls_client(&Arc::new(config)));
    let (error, alert) = server.takes(&drained(&mut client)).unwrap_err();
    (error, heard(&mut client, &alert).unwrap_err())
}

#[test]
fn another_protocol_suite_or_version_is_refused_with_its_alert() {
    let world = World::new();
    let (error, told) = refusal(&world, world.rustls_client(&[], &[b"h2", b"roost/2"]));
    assert!(matches!(error, HandshakeError::Tls(_)), "{error}");
    assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
    let (_, told) = refusal(&world, world.rustls_client(&[TLS13_AES_256_GCM_SHA384], &[PROTOCOL]));
    assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure));
}

#[test]
fn what_is_no_hello_is_refused_with_an_alert() {
    let world = World::new();
    let cases: [&[u8]; 8] = [
        b"R",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"ROO\x01\x05hello",
        &[22, 3, 1, 0xff, 0xff, 1, 2, 3],
        &[22, 3, 1, 0, 0],
        &[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
        &[22, 3, 1, 0, 5, 1, 0, 0, 1, 7],
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
    ];
    for bytes in cases {
        let (error, told) = Ours::server(&world).takes(bytes).unwrap_err();
        assert_eq!((told[0], told.len(), told[5]), (21, 7, 2), "{bytes:?}: {error}");
    }
}

#[test]
fn a_client_does_not_trust_strangers() {
    let (world, stranger) = (World::new(), World::new());
    let config = Arc::new(stranger.rustls_server(&[]));
    let (mut client, mut server) = (Ours::client(&world, None), rustls_server(&config));
    heard(&mut server, &client.takes(&[]).unwrap()).unwrap();
    let (error, alert) = client.takes(&drained(&mut server)).unwrap_err();
    assert!(matches!(error, HandshakeError::Tls(rustls::Error::InvalidCertificate(_))), "{error}");
    assert!(heard(&mut server, &alert).is_err());
}

#[test]
fn a_handshake_that_is_not_done_gives_no_connection() {
    let world = World::new();
    let mut server = Ours::server(&world);
    let hello = drained(&mut rustls_client(&Arc::new(world.rustls_client(&[], &[PROTOCOL]))));
    server.takes(&hello).unwrap();
    assert!(server.handshake.take().unwrap().finish().is_err());
    let client = roost_detached_tls::Handshake::client(&world.client, name(), None).unwrap();
    assert!(client.finish().is_err());
}

#[test]
fn early_data_of_a_client_is_dropped() {
    let world = World::new();
    // A server of rustls that allows it, so that the client has a ticket that does.
    let mut generous = world.rustls_server(&[]);
    generous.ticketer = Arc::new(NoTickets);
    generous.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    generous.max_early_data_size = 1024;
    let mut config = world.rustls_client(&[], &[PROTOCOL]);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let (mut there, mut client) = (rustls_server(&Arc::new(generous)), rustls_client(&config));
    for _ in 0..4 {
        heard(&mut there, &drained(&mut client)).unwrap();
        heard(&mut client, &drained(&mut there)).unwrap();
    }
    let mut client = rustls::ClientConnection::new(Arc::clone(&config), name()).unwrap();
    let mut early = client.early_data().expect("the ticket allows it");
    std::io::Write::write_all(&mut early, b"replayed").unwrap();
    let (mut server, mut client) = (Ours::server(&world), client.into());
    shake(&mut server, &mut client, 1000);
    assert_eq!(server.hears(), b"");
    talk(&mut server, &mut client);
}

/// No tickets: sessions are kept at the server, which early data needs.
#[derive(Debug)]
struct NoTickets;

impl rustls::server::ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
