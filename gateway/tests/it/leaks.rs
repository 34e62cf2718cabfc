//! Whatever peers do, nothing of them stays: connections that are reset in every state, a process
//! without descriptors to spare. Descriptors, counts and memory are what they were.

use crate::certificates::client;
use crate::device::{Bystanders, Device, Wire, hello, message};
use crate::roost::{Driver, Server, Setup, on_both_drivers, pause, waits_until};
use crate::tls::{first_words, socket};
use roost_protocol::encode;
use roost_protocol::wire;
use roost_protocol::wire::client_frame::Body as Ask;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};
use socket2::SockRef;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const OPEN: &str = "roost_connections_open";
const MIB: u64 = 1024 * 1024;
const ROUNDS: usize = 3;
/// Connections that show how far the server has got: enough for each of a few shards to have one.
const LATE: usize = 16;
/// How often that is tried, and how often a number is looked at before it is tried again.
const TRIES_MAX: u32 = 100;
const LOOKS_PER_TRY: u32 = 400;

/// Closes without an end: what is under way is thrown away, and the peer hears a reset.
fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Memory of the server in RAM.
fn resident_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Connections of a port that somebody holds, also those in rings, which are no descriptors; and
/// how many of them the server has taken.
pub(crate) fn sockets_at(port: u16) -> (usize, usize) {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let (mut held, mut taken) = (0, 0);
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Established, or closed by the peer only.
        if fields[1].ends_with(&format!(":{port:04X}")) && matches!(fields[3], "01" | "08") {
            held += 1;
            // What waits to be accepted has no inode yet.
            taken += usize::from(fields[9] != "0");
        }
    }
    (held, taken)
}

/// Waits until the server is done with whoever came before, but for so many. Connections are taken
/// in the order they came in, so when late ones have been taken and counted, and nobody else is
/// there, all others have come and gone. Without them a server that has not looked yet would seem
/// to be done.
#[track_caller]
fn sees_everybody_out(server: &Server, at: SocketAddr, staying: u64) {
    let expected = staying + u64::try_from(LATE).unwrap();
    for _ in 0..TRIES_MAX {
        // They say nothing: where that is not allowed for long, others take their place.
        let late: Vec<TcpStream> = (0..LATE).map(|_| TcpStream::connect(at).unwrap()).collect();
        let is_done = || {
            let (held, taken) = sockets_at(at.port());
            held == taken && server.metric(OPEN) == expected
        };
        let done = (0..LOOKS_PER_TRY).any(|_| {
            pause();
            is_done()
        });
        drop(late);
        if done {
            server.metric_becomes(OPEN, |open| open == staying);
            return;
        }
    }
    panic!("{} are there, not {expected}; log: {}", server.metric(OPEN), server.log());
}

/// Does the same several times. The first time makes what a server keeps; afterwards nothing grows.
#[track_caller]
pub(crate) fn leaves_nothing(server: &Server, at: SocketAddr, mut round: impl FnMut()) {
    let (mut descriptors, mut memory) = (Vec::new(), 0);
    for number in 0..ROUNDS {
        round();
        sees_everybody_out(server, at, 0);
        // What a shard says at different times does not fit together, so each is waited for.
        server.metric_becomes("roost_tls_handshakes_in_progress", |count| count == 0);
        server.metric_becomes("roost_address_prefixes", |count| count == 0);
        waits_until("no sockets stay", || sockets_at(at.port()).0 == 0);
        if number == 0 {
            (descriptors, memory) = (server.descriptors(), resident_bytes(server));
        } else {
            server.descriptors_become(&descriptors);
        }
    }
    let now = resident_bytes(server);
    assert!(now < memory + 16 * MIB, "{memory} bytes became {now}");
}

/// What a device says: the preface, Hello, a question, half of another one.
fn words(server: &Server, user: &str, connection: u64) -> Vec<u8> {
    let mut bytes = first_words(server, user, connection);
    encode::client(2, Ask::Sync(wire::Sync::default()), &mut bytes);
    bytes.extend([0x20, 0x08]);
    bytes
}

pub(crate) fn rustls_client(server: &Server) -> Arc<ClientConfig> {
    let file = server.data().join("keys/tls-cert.pem");
    client(&CertificateDer::from_pem_file(file).unwrap(), None)
}

pub(crate) fn connection(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

/// Hears a server out, whatever it says and however it ends.
fn listens(mut stream: &TcpStream) {
    drop(stream.read_to_end(&mut Vec::new()));
}

/// A handshake up to a step: nothing said, half a Hello, all of it, the server's answer read, the
/// last word said, something said behind it, half a record.
fn shakes_hands(server: &Server, config: &Arc<ClientConfig>, steps: u32, user: &str) -> TcpStream {
    let (mut stream, mut tls) = (socket(server), connection(config));
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    match steps {
        0 => {}
        1 => stream.write_all(&hello[..hello.len() / 2]).unwrap(),
        _ => stream.write_all(&hello).unwrap(),
    }
    if steps < 3 {
        return stream;
    }
    while tls.is_handshaking() && !tls.wants_write() {
        assert!(tls.read_tls(&mut stream).unwrap() > 0);
        tls.process_new_packets().unwrap();
    }
    if steps > 4 {
        tls.writer().write_all(&words(server, user, 1)).unwrap();
    }
    while steps > 3 && tls.wants_write() {
        tls.write_tls(&mut stream).unwrap();
    }
    if steps > 5 {
        stream.write_all(&[23, 3, 3, 1, 0, 7]).unwrap();
    }
    stream
}

on_both_drivers! {
    fn resets_in_every_state(driver) {
        let server = Setup::new(driver).shards(2).start();
        let mut round = 0;
        leaves_nothing(&server, server.tcp, || {
            round += 1;
            let all = words(&server, "eve", round);
            for cut in (0..all.len()).step_by(all.len() / 20).chain([all.len()]) {
                let mut wire = Wire::silent(server.tcp);
                wire.write(&all[..cut]);
                reset(wire.stream());
            }
            // In the middle of what it is sent, and with much that it never read.
            for user in 0..4 {
                let user = format!("deaf{user}");
                let mut wire = Wire::narrow(server.tcp);
                wire.ask(1, Ask::Hello(hello(&server.token(&user), 1, round)));
                let mut deaf = Device::welcomed(wire);
                for number in 1..=3 {
                    let number = (round - 1) * 3 + number;
                    deaf.send(message("bob", number, &[b'x'; 40_000]));
                }
                for request in 100..110 {
                    let page =
                        wire::History { user: "bob".to_owned(), ..wire::History::default() };
                    deaf.wire.ask(request, Ask::History(page));
                }
                reset(deaf.wire.stream());
            }
        });
        let mut bystanders = Bystanders::new(&server);
        bystanders.are_unharmed();
    }

    fn resets_in_every_state_of_a_handshake(driver) {
        // Descriptors of a process with keys are nobody's business; here they are.
        let server = Setup::new(driver).with_tls().config("core_dumps = true\n").start();
        let config = rustls_client(&server);
        let mut round = 0;
        leaves_nothing(&server, server.tls(), || {
            round += 1;
            for steps in (0..7).flat_map(|steps| [steps; 8]) {
                reset(&shakes_hands(&server, &config, steps, &format!("user{round}")));
            }
            // And in order, without a goodbye.
            for steps in 0..7 {
                drop(shakes_hands(&server, &config, steps, &format!("user{round}")));
            }
        });
        assert!(server.metric("roost_tls_handshakes_total") > 0);
    }

    fn whatever_is_said_wrongly_in_tls(driver) {
        let config = "core_dumps = true\nlimits.hello_timeout_ms = 1000\n";
        let server = Setup::new(driver).with_tls().config(config).start();
        let good = rustls_client(&server);
        let mut other = (*good).clone();
        other.alpn_protocols = vec![b"h2".to_vec()];
        let other = Arc::new(other);
        let mut round = 0;
        leaves_nothing(&server, server.tls(), || {
            round += 1;
            // No record; a Hello without end; a record that nobody sealed.
            let endless = [&[22, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60][..], &[0; 16_380]].concat();
            let next = [&[22, 3, 1, 0x40, 0][..], &[0; 16_384]].concat();
            let endless = [&endless[..], &next, &next].concat();
            let wrong = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), endless];
            for bytes in wrong {
                let mut stream = socket(&server);
                // It may be reset before the last byte.
                drop(stream.write_all(&bytes));
                listens(&stream);
            }
            let mut stream = shakes_hands(&server, &other, 2, "nobody");
            listens(&stream);
            // A record that nobody sealed, a new handshake, a goodbye in plain text.
            let wrong = [&[23, 3, 3, 0, 20][..], &[22, 3, 3, 0, 4, 1, 0, 0, 0], &[21, 3, 3, 0]];
            for (number, bytes) in wrong.into_iter().enumerate() {
                stream = shakes_hands(&server, &good, 5, &format!("user{round}.{number}"));
                stream.write_all(bytes).and_then(|()| stream.write_all(&[1; 20])).unwrap();
                listens(&stream);
            }
            // Many that stop in the middle, and are let go of.
            let held: Vec<TcpStream> =
                (0..60).map(|at| shakes_hands(&server, &good, at % 4, "nobody")).collect();
            server.metric_becomes(OPEN, |open| open == 0);
            drop(held);
        });
        let least = 6 * u64::try_from(ROUNDS).unwrap();
        server.metric_becomes("roost_tls_failed_total", |failed| failed >= least);
    }

    fn resets_of_proxies_in_every_state(driver) {
        let config = "[[listeners]]\naddress = \"127.0.0.1:0\"\nproxy = true\n\
                      trusted = [\"127.0.0.1\"]\n[limits]\nconnections_per_prefix_max = 1000\n";
        let server = Setup::new(driver).config(config).start();
        let at: SocketAddr = server.listener(0).parse().unwrap();
        let mut round = 0;
        leaves_nothing(&server, at, || {
            round += 1;
            let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
            let all = [&header[..], &words(&server, "eve", round)].concat();
            for cut in (0..all.len()).step_by(9) {
                let mut wire = Wire::silent(at);
                wire.write(&all[..cut]);
                reset(wire.stream());
            }
        });
        server.metric_becomes("roost_proxied_total", |count| count > 0);
    }

    fn a_process_without_descriptors_waits_and_goes_on(driver) {
        let server = Setup::new(driver).shards(1).descriptors(96).start();
        let mut bystanders = Bystanders::new(&server);
        let crowd = |server: &Server| -> Vec<Wire> {
            (0..300).map(|_| Wire::open(server.tcp)).collect()
        };
        leaves_nothing_but(&server, 2, || {
            let held = crowd(&server);
            if driver == Driver::Epoll {
                // Each socket is a descriptor there.
                let line = server.logs("RLIMIT_NOFILE");
                assert!(line.contains("WARN") && line.contains("96"), "{line}");
            } else {
                // A ring's table is as long as the limit, so there are several rings by now.
                server.metric_becomes(OPEN, |open| open == 302);
            }
            bystanders.chat();
            drop(held);
        });
        bystanders.are_unharmed();
        Device::sign_in(&server, "late").wire.is_alive();
    }
}

/// The same with some that stay.
#[track_caller]
fn leaves_nothing_but(server: &Server, open: u64, mut round: impl FnMut()) {
    let mut descriptors = Vec::new();
    for number in 0..ROUNDS {
        round();
        sees_everybody_out(server, server.tcp, open);
        if number == 0 {
            descriptors = server.descriptors();
        }
        server.descriptors_become(&descriptors);
    }
}
