//! Listeners, proxies in front, limits by network: the real server, its peers with bad manners.
//! Who is let in is decided, and mostly tested, in `shard/edge/entrance`.

use crate::device::{Bystanders, Device, Wire, hello, message};
use crate::roost::{Server, Setup, on_both_drivers};
use roost_protocol::preface::PREFACE;
use roost_protocol::wire::ErrorCode;
use roost_protocol::wire::client_frame::Body as Ask;
use rustix::process::Signal;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;

const OPEN: &str = "roost_connections_open";
const PROXIED: &str = "roost_proxied_total";

/// Trusts this machine by its second address only.
const PROXY: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\nproxy = true\n\
                     trusted = [\"127.0.0.2\"]\n";

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

fn v2(source: [u8; 4]) -> Vec<u8> {
    let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f";
    // With an extension behind the addresses.
    [&start[..], &source, &[198, 51, 100, 1, 0, 1, 0, 2, 4, 0, 0]].concat()
}

/// A proxy's connection, from its address.
fn proxy(server: &Server) -> Wire {
    Wire::from(Ipv4Addr::new(127, 0, 0, 2), server.listener(0).parse().unwrap())
}

/// Says Hello behind whatever was said before.
#[track_caller]
fn sign_in(mut wire: Wire, server: &Server, user: &str, connection: u64) -> Device {
    wire.write(&PREFACE);
    wire.ask(1, Ask::Hello(hello(&server.token(user), 1, connection)));
    Device::welcomed(wire)
}

on_both_drivers! {
    fn one_listener_takes_both_kinds_of_addresses(driver) {
        let config = "allow_plaintext = true\n[[listeners]]\naddress = \"[::]:0\"\n";
        let server = Setup::new(driver).config(config).start();
        let any: SocketAddr = server.listener(0).parse().unwrap();
        let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for (connection, ip) in (1..).zip(both) {
            let wire = Wire::silent(SocketAddr::new(ip, any.port()));
            sign_in(wire, &server, "ann", connection).wire.is_alive();
        }
        // And the old options still hold.
        Device::sign_in(&server, "bob").leave();
    }

    fn a_unix_socket_serves_all_shards_and_goes_with_the_server(driver) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roost.sock");
        let config = format!("[[listeners]]\naddress = \"unix:{}\"\nmode = \"0600\"\n",
            path.display());
        let mut server = Setup::new(driver).shards(2).config(&config).start();
        assert_eq!(server.listener(0), format!("unix:{}", path.display()));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let users: Vec<String> = (0..40).map(|user| format!("user{user}")).collect();
        let mut devices: Vec<Device> =
            users.iter().map(|user| sign_in(Wire::unix(&path), &server, user, 1)).collect();
        for (user, device) in users.iter().zip(&mut devices).skip(1) {
            assert_eq!(device.send(message("user0", 1, user.as_bytes())).seq, 1);
        }
        server.metric_becomes("roost_connections_total", |count| count == 40);
        // Another one is refused by name, and does not harm the first.
        let data = folder.path().join("data");
        let said = Setup::new(driver).config(&config).refused_on(&data, &[]);
        assert!(said.contains("roost.sock") && said.contains("in use"), "{said}");
        sign_in(Wire::unix(&path), &server, "late", 1).leave();
        // A killed one leaves its file, and the next one takes its place.
        server.kill();
        assert!(path.exists());
        server.restart();
        let device = sign_in(Wire::unix(&path), &server, "user0", 2);
        device.leave();
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        assert!(!path.exists());
    }

    fn the_kernel_spreads_connections_over_shards(driver) {
        let server = Setup::new(driver).shards(2).start();
        let wires: Vec<Wire> = (0..400).map(|_| Wire::silent(server.tcp)).collect();
        server.metric_becomes(OPEN, |open| open == 400);
        let by_shard = server.metric_by_shard(OPEN);
        assert!(by_shard.iter().all(|open| (120..=280).contains(open)), "{by_shard:?}");
        drop(wires);
        server.metric_becomes(OPEN, |open| open == 0);
    }

    fn a_trusted_proxy_says_who_connects(driver) {
        let server = Setup::new(driver).config(PROXY).start();
        let headers = [V1.to_vec(), v2([192, 0, 2, 7]), b"PROXY UNKNOWN\r\n".to_vec()];
        for (connection, header) in (1..).zip(headers) {
            // With everything in one segment, and byte by byte.
            let mut wire = proxy(&server);
            wire.write(&header);
            sign_in(wire, &server, "ann", connection * 2).wire.is_alive();
            let mut wire = proxy(&server);
            header.iter().for_each(|byte| wire.write(&[*byte]));
            sign_in(wire, &server, "ann", connection * 2 + 1).wire.is_alive();
        }
        server.metric_becomes(PROXIED, |count| count == 6);
        server.metric_becomes(OPEN, |open| open == 0);
    }

    fn headers_that_are_not_believed(driver) {
        let config = format!("{PROXY}[limits]\nhello_timeout_ms = 1000\n");
        let server = Setup::new(driver).config(&config).start();
        let mut bystanders = Bystanders::new(&server);
        let before = server.descriptors();
        // From elsewhere: not a byte of it is looked at.
        let mut wire = Wire::silent(server.listener(0).parse().unwrap());
        assert_eq!(wire.ends(), None);
        server.metric_becomes("roost_refused_untrusted_total", |count| count == 1);
        let line = server.logs("Name the networks of your proxies");
        assert!(line.contains("127.0.0.1"), "{line}");
        // No header, half of one, a wrong one.
        let wrong: [&[u8]; 4] = [b"ROO\x01", b"PROXY TCP9 1", b"\r\n\r\n\x01", b"\x16\x03\x01"];
        for (count, bytes) in (1..).zip(wrong) {
            let mut wire = proxy(&server);
            wire.write(bytes);
            if bytes.starts_with(b"PROXY") {
                wire.write(b"\r\n");
            }
            assert_eq!(wire.ends(), None);
            server.metric_becomes("roost_refused_proxy_header_total", |now| now == count);
        }
        let mut held: Vec<Wire> = [&b""[..], b"PROXY TCP4 "].iter().map(|start| {
            let mut wire = proxy(&server);
            wire.write(start);
            wire
        }).collect();
        for wire in &mut held {
            assert_eq!(wire.ends(), None);
        }
        server.metric_becomes("roost_refused_no_proxy_header_total", |count| count == 2);
        // A header where none is expected is no preface.
        let mut wire = Wire::silent(server.tcp);
        wire.write(V1);
        wire.ends_with(ErrorCode::ErrorBadPreface);
        server.metric_becomes(OPEN, |open| open == 2);
        drop((held, wire));
        server.descriptors_become(&before);
        bystanders.are_unharmed();
    }

    fn a_network_has_its_part_and_no_more(driver) {
        let config = format!(
            "{PROXY}[limits]\nconnections_per_prefix_max = 5\nunauthenticated_per_prefix_max = 3\n"
        );
        let server = Setup::new(driver).shards(1).config(&config).start();
        let mut of_two: Vec<Device> = (1..=5)
            .map(|number| {
                let mut wire = proxy(&server);
                wire.write(&v2([192, 0, 2, 7]));
                sign_in(wire, &server, &format!("user{number}"), 1)
            })
            .collect();
        server.metric_becomes("roost_address_prefixes", |count| count == 1);
        let mut wire = proxy(&server);
        wire.write(&v2([192, 0, 2, 7]));
        assert_eq!(wire.ends(), None);
        server.metric_becomes("roost_refused_prefix_total", |count| count == 1);
        // Another one behind the same proxy; and somebody who comes without it.
        let mut wire = proxy(&server);
        wire.write(&v2([192, 0, 2, 8]));
        sign_in(wire, &server, "other", 1).wire.is_alive();
        let silent: Vec<Wire> = (0..3).map(|_| Wire::silent(server.tcp)).collect();
        server.metric_becomes("roost_connections_total", |count| count >= 9);
        assert_eq!(Wire::silent(server.tcp).ends(), None);
        let refused = "roost_refused_prefix_unauthenticated_total";
        server.metric_becomes(refused, |count| count == 1);
        drop(silent);
        of_two.pop().unwrap().leave();
        server.metric_becomes("roost_address_prefixes", |count| count == 1);
        let mut wire = proxy(&server);
        wire.write(&v2([192, 0, 2, 7]));
        sign_in(wire, &server, "sixth", 1).wire.is_alive();
        drop(of_two);
        server.metric_becomes("roost_address_prefixes", |count| count == 0);
    }

    fn many_at_once_wait_for_their_turn(driver) {
        let config = "[limits]\nconnections_per_second = 100\n";
        let server = Setup::new(driver).shards(1).config(config).start();
        let tokens: Vec<String> =
            (0..120).map(|user| server.token(&format!("user{user}"))).collect();
        let greets = |token: &String| {
            let mut wire = Wire::open(server.tcp);
            wire.ask(1, Ask::Hello(hello(token, 1, 1)));
            wire
        };
        // They are there at once, however slow the machine is.
        server.stop();
        let wires: Vec<Wire> = tokens.iter().map(greets).collect();
        server.signal(Signal::CONT);
        // Nobody is sent away.
        for wire in wires {
            Device::welcomed(wire).leave();
        }
        // Under epoll it takes all that wait at once.
        let least = if driver == crate::roost::Driver::Uring { 3 } else { 1 };
        server.metric_becomes("roost_accept_pauses_total", |pauses| pauses >= least);
    }
}
