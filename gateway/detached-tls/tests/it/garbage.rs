//! Bytes of somebody who means harm: an error and its alert, never a panic, never growth.

use crate::world::{Ours, PROTOCOL, World, drained, heard, rustls_client, said, shake};
use proptest::collection::vec;
use proptest::prelude::*;
use roost_detached_tls::Handshake;
use std::sync::{Arc, OnceLock};

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

fn hello() -> Vec<u8> {
    let config = Arc::new(world().rustls_client(&[], &[PROTOCOL]));
    drained(&mut rustls_client(&config))
}

/// A handshake takes bytes in pieces as whoever sends them likes.
fn handshake_takes(bytes: &[u8], piece: usize) {
    let mut handshake = Handshake::server(&world().server).unwrap();
    let (mut input, mut output) = (Vec::new(), Vec::new());
    for part in bytes.chunks(piece) {
        input.extend_from_slice(part);
        match handshake.advance(&mut input, &mut output) {
            Ok(progress) => {
                assert!(!progress.is_done, "nobody guesses a Finished");
                input.drain(..progress.taken);
            }
            Err(error) => return assert!(!output.is_empty(), "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn garbage_instead_of_a_hello(bytes in vec(any::<u8>(), 0..2000), piece in 1_usize..400) {
        handshake_takes(&bytes, piece);
    }

    #[test]
    fn a_damaged_hello(at in 0_usize..10_000, xor in 1_u8.., cut in 0_usize..600) {
        let mut bytes = hello();
        let at = at % bytes.len();
        bytes[at] ^= xor;
        bytes.extend_from_slice(&hello()[..cut % 200]);
        handshake_takes(&bytes, 97);
    }

    #[test]
    fn garbage_instead_of_a_finished(
        kind in 20_u8..24,
        body in vec(any::<u8>(), 0..300),
        piece in 1_usize..100,
    ) {
        let [high, low] = u16::try_from(body.len()).unwrap().to_be_bytes();
        let bytes = [&hello()[..], &[kind, 3, 3, high, low], &body].concat();
        handshake_takes(&bytes, piece);
    }

    #[test]
    fn garbage_after_the_handshake(
        good in vec(any::<u8>(), 0..100),
        bytes in vec(any::<u8>(), 0..300),
        looks_right in any::<bool>(),
        piece in 1_usize..100,
    ) {
        let config = Arc::new(world().rustls_client(&[], &[PROTOCOL]));
        let (mut server, mut client) = (Ours::server(world()), rustls_client(&config));
        shake(&mut server, &mut client, 1000);
        let mut stream = said(&mut client, &good);
        if looks_right {
            let [high, low] = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            stream.extend_from_slice(&[23, 3, 3, high, low]);
        }
        stream.extend_from_slice(&bytes);
        let (mut held, mut plain, mut ended) = (Vec::new(), Vec::new(), false);
        for part in stream.chunks(piece) {
            held.extend_from_slice(part);
            match server.detached().open(&held, &mut plain) {
                Ok(taken) => {
                    held.drain(..taken);
                }
                Err(error) => {
                    let mut alert = Vec::new();
                    server.detached().refuse(error.alert().unwrap(), &mut alert);
                    prop_assert!(heard(&mut client, &alert).is_err());
                    ended = true;
                    break;
                }
            }
        }
        // What was good is heard, and nothing of what was not.
        prop_assert_eq!(&plain, &good);
        prop_assert!(ended || held.len() < 5 + 16_640);
    }
}
