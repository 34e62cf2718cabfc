//! Ten thousand at once who mean no good, or mean nothing any more. Each test takes as many
//! connections as a process may have, so they run one after the other.

use crate::device::Device;
use crate::leaks::{connection, leaves_nothing, rustls_client};
use crate::limits::{MANY_SOCKETS, connections_max};
use crate::roost::{Driver, PATIENCE, Server, Setup, on_both_drivers};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::PoisonError;
use std::time::Duration;

const TOTAL: &str = "roost_connections_total";
const IN_PROGRESS: &str = "roost_tls_handshakes_in_progress";
const PREFIX_BUSY: &str = "roost_refused_prefix_unauthenticated_total";
/// Addresses of this machine that a crowd comes from.
const ADDRESSES: u8 = 5;

/// A crowd that comes from one of several addresses after the other. Whoever is one too many may be
/// reset before it has seen that it was connected, and is not in it.
fn crowd(at: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = |number: usize| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let host = 2 + u8::try_from(number * usize::from(ADDRESSES) / count).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
        if let Err(error) = socket.connect(&at.into()) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            return None;
        }
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(stream)
    };
    (0..count).filter_map(connect).collect()
}

/// What a client says first in TLS.
fn client_hello(server: &Server) -> Vec<u8> {
    let mut bytes = Vec::new();
    connection(&rustls_client(server)).write_tls(&mut bytes).unwrap();
    bytes
}

/// Hears everybody out: nobody is left with a connection.
fn all_are_let_go_of(crowd: Vec<TcpStream>) {
    for mut stream in crowd {
        let mut said = Vec::new();
        // A reset is an end as well.
        if let Err(error) = stream.read_to_end(&mut said) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
}

/// A server whose rings are small, so that a crowd fills several.
fn server(driver: Driver, config: &str) -> Server {
    let setup = Setup::new(driver).with_tls().shards(1).config(config);
    if driver == Driver::Uring { setup.descriptors(2_048).start() } else { setup.start() }
}

on_both_drivers! {
    fn half_open_handshakes_by_the_ten_thousand(driver) {
        let turn = MANY_SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        let all = connections_max();
        // Nine tenths of what comes from an address.
        let most = all / usize::from(ADDRESSES) * 9 / 10;
        let config = format!(
            "core_dumps = true\n[limits]\nhello_timeout_ms = 3000\nhalf_frame_timeout_ms = 3000\n\
             handshakes_in_progress_max = 256\nunauthenticated_per_prefix_max = {most}\n"
        );
        let server = server(driver, &config);
        let hello = client_hello(&server);
        let (mut rounds, at_first) = (0, server.descriptors());
        leaves_nothing(&server, server.tls(), || {
            let mut crowd = crowd(server.tls(), all);
            rounds += 1;
            // Nothing, a byte, half of it, all of it but a byte, all of it; then silence.
            let cuts = [0, 1, hello.len() / 2, hello.len() - 1, hello.len()];
            for (number, stream) in crowd.iter_mut().enumerate() {
                // Whoever is one too many is reset already.
                drop(stream.write_all(&hello[..cuts[number / 7 % cuts.len()]]));
            }
            assert!(server.metric(IN_PROGRESS) <= 256);
            // Somebody who is honest is served meanwhile.
            Device::sign_in_as(&server, "honest", 1, rounds).wire.is_alive();
            all_are_let_go_of(crowd);
        });
        // Each was let in or was one too many.
        let expected = rounds * u64::try_from(all).unwrap();
        server.metric_becomes(TOTAL, |let_in| let_in + server.metric(PREFIX_BUSY) >= expected);
        assert!(server.metric(PREFIX_BUSY) > 0);
        // Rings that only the crowd needed go as well.
        server.descriptors_become(&at_first);
        drop(turn);
    }

    fn resets_by_the_ten_thousand(driver) {
        let turn = MANY_SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server(driver, "core_dumps = true\n");
        let (hello, at_first) = (client_hello(&server), server.descriptors());
        leaves_nothing(&server, server.tls(), || {
            let mut crowd = crowd(server.tls(), connections_max());
            for (number, stream) in crowd.iter_mut().enumerate() {
                drop(stream.write_all(&hello[..number % hello.len()]));
                SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(crowd);
        });
        server.descriptors_become(&at_first);
        drop(turn);
    }
}
