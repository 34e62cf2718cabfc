//! After the handshake: what rustls makes of our records, and we of its.

use crate::world::{
    Ours, PROTOCOL, World, drained, heard, rustls_client, rustls_server, said, shake,
};
use roost_detached_tls::{Alert, OpenError, Violation};
use std::sync::Arc;

/// Our server and a client of rustls that shook hands.
fn served() -> (Ours, rustls::Connection) {
    let world = World::new();
    let config = Arc::new(world.rustls_client(&[], &[PROTOCOL]));
    let (mut server, mut client) = (Ours::server(&world), rustls_client(&config));
    shake(&mut server, &mut client, 1000);
    (server, client)
}

#[test]
fn thousands_of_key_updates_by_rustls() {
    let (mut ours, mut theirs) = served();
    for round in 0..3_000_u32 {
        theirs.refresh_traffic_keys().unwrap();
        let plain = round.to_be_bytes();
        let sealed = said(&mut theirs, &plain);
        ours.takes(&sealed).unwrap();
        assert_eq!(ours.hears(), plain);
        // rustls asks for ours with each of its own; we answer before our data.
        let answer = ours.says(&plain);
        assert_eq!(answer.len(), 27 + 26, "round {round}");
        assert_eq!(heard(&mut theirs, &answer).unwrap(), plain);
    }
}

#[test]
fn our_client_and_key_updates_of_a_server() {
    let world = World::new();
    let config = Arc::new(world.rustls_server(&[]));
    let (mut ours, mut theirs) = (Ours::client(&world, None), rustls_server(&config));
    shake(&mut ours, &mut theirs, 1000);
    for _ in 0..100 {
        theirs.refresh_traffic_keys().unwrap();
        ours.takes(&said(&mut theirs, b"x")).unwrap();
        assert_eq!(ours.hears(), b"x");
        assert_eq!(heard(&mut theirs, &ours.says(b"y")).unwrap(), b"y");
    }
}

#[test]
fn key_updates_without_data_end_at_the_33rd() {
    let (mut ours, mut theirs) = served();
    let mut updates = Vec::new();
    for _ in 0..32 {
        theirs.refresh_traffic_keys().unwrap();
        updates.extend(drained(&mut theirs));
    }
    ours.takes(&updates).unwrap();
    theirs.refresh_traffic_keys().unwrap();
    let more = drained(&mut theirs);
    let outcome = ours.detached().open(&more, &mut Vec::new());
    assert_eq!(outcome, Err(OpenError::Violation(Violation::TooManyKeyUpdates)));
}

#[test]
fn one_byte_records_and_every_split() {
    let (mut ours, mut theirs) = served();
    let mut stream = Vec::new();
    for byte in 0..=255_u8 {
        stream.extend(said(&mut theirs, &[byte]));
    }
    for byte in &stream {
        ours.takes(std::slice::from_ref(byte)).unwrap();
    }
    assert_eq!(ours.hears(), (0..=255).collect::<Vec<u8>>());
    for cut in 0..60 {
        let sealed = said(&mut theirs, &[7; 38]);
        let (first, second) = sealed.split_at(cut);
        ours.takes(first).unwrap();
        assert_eq!(ours.hears(), b"", "cut at {cut}");
        ours.takes(second).unwrap();
        assert_eq!(ours.hears(), [7; 38]);
    }
    // One byte a record, by us.
    let mut stream = Vec::new();
    for byte in 0..=255_u8 {
        stream.extend(ours.says(&[byte]));
    }
    assert_eq!(heard(&mut theirs, &stream).unwrap(), (0..=255).collect::<Vec<u8>>());
}

#[test]
fn close_notify_is_understood_both_ways() {
    let (mut ours, mut theirs) = served();
    theirs.send_close_notify();
    let sealed = drained(&mut theirs);
    ours.takes(&sealed).unwrap();
    assert!(ours.detached().peer_has_closed());
    let mut sealed = ours.says(b"last");
    ours.detached().close(&mut sealed);
    let mut rest = sealed.as_slice();
    theirs.read_tls(&mut rest).unwrap();
    let state = theirs.process_new_packets().unwrap();
    assert_eq!(state.plaintext_bytes_to_read(), 4);
    assert!(state.peer_has_closed());
}

#[test]
fn alerts_are_understood_both_ways() {
    let (mut ours, mut theirs) = served();
    let mut sealed = Vec::new();
    ours.detached().refuse(Alert::BadRecordMac, &mut sealed);
    let error = heard(&mut theirs, &sealed).unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));

    let (mut ours, mut theirs) = served();
    let mut sealed = ours.says(b"x");
    sealed[8] ^= 1;
    assert!(heard(&mut theirs, &sealed).is_err());
    let alert = drained(&mut theirs);
    let outcome = ours.detached().open(&alert, &mut Vec::new());
    assert_eq!(outcome, Err(OpenError::Peer(20)));
}

#[test]
fn a_ciphertext_that_is_sent_late_is_the_same() {
    // A write that failed, or was cut short, goes on with the same bytes; rustls reads them.
    let (mut ours, mut theirs) = served();
    let first = ours.says(b"first");
    let (sent, unsent) = first.split_at(9);
    assert_eq!(heard(&mut theirs, sent).unwrap(), b"");
    let second = ours.says(b"second");
    assert_eq!(heard(&mut theirs, unsent).unwrap(), b"first");
    assert_eq!(heard(&mut theirs, &second).unwrap(), b"second");
}
