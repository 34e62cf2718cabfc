//! A pair of detached connections that never shook hands: what peers may do to each other.

use super::*;
use crate::alert::{OpenError, Violation};
use crate::record::BODY_MAX_BYTES;

/// What a peer could do.
impl Detached {
    const fn skip_sequences(&mut self, send: u64, receive: u64) {
        self.send_sequence = send;
        self.receive_sequence = receive;
    }

    const fn sequences(&self) -> (u64, u64) {
        (self.send_sequence, self.receive_sequence)
    }

    /// A record of any kind.
    fn seal_any(&mut self, kind: u8, content: &[u8], sealed: &mut Vec<u8>) {
        let key = self.sealing_key().unwrap();
        self.seal_record(&key, kind, content, sealed).unwrap();
    }

    fn update_without_a_word(&mut self) {
        self.send.update(self.suite).unwrap();
        self.send_sequence = 0;
    }
}

/// Both ends of a connection.
fn pair(suite: Suite) -> (Detached, Detached) {
    let (a, b) = (Secret([1; 32]), Secret([2; 32]));
    let end = |role, send, receive| {
        Detached::new(&Beginning {
            role,
            suite,
            send,
            receive,
            send_sequence: 0,
            receive_sequence: 0,
        })
        .unwrap()
    };
    (end(Role::Client, &a, &b), end(Role::Server, &b, &a))
}

fn aes() -> (Detached, Detached) {
    pair(Suite::Aes128Gcm)
}

fn sealed(by: &mut Detached, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    by.seal(plain, &mut out).unwrap();
    out
}

fn opened(by: &mut Detached, stream: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut plain = Vec::new();
    assert_eq!(by.open(stream, &mut plain)?, stream.len());
    Ok(plain)
}

/// What a server makes of a record of any kind that a client sealed.
fn verdict(kind: u8, content: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (mut client, mut server) = aes();
    let mut stream = Vec::new();
    client.seal_any(kind, content, &mut stream);
    opened(&mut server, &stream)
}

fn broke(violation: Violation) -> Result<Vec<u8>, OpenError> {
    Err(OpenError::Violation(violation))
}

#[test]
fn an_idle_connection_is_144_bytes() {
    // The memory budget of a connection is made of this; see docs before raising it.
    assert_eq!(size_of::<Detached>(), 144);
    assert_eq!(size_of::<Option<Detached>>(), 144);
}

#[test]
fn both_suites_carry_data_both_ways() {
    for suite in [Suite::Aes128Gcm, Suite::ChaCha20Poly1305] {
        let (mut client, mut server) = pair(suite);
        let long: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for plain in [&b"a"[..], b"hello", &long] {
            let stream = sealed(&mut client, plain);
            let records = plain.len().div_ceil(PLAINTEXT_MAX_BYTES);
            assert_eq!(stream.len(), plain.len() + records * 22);
            assert_eq!(opened(&mut server, &stream).unwrap(), plain);
            let stream = sealed(&mut server, plain);
            assert_eq!(opened(&mut client, &stream).unwrap(), plain);
        }
        assert!(sealed(&mut client, b"").is_empty());
    }
}

#[test]
fn the_state_says_nothing_of_its_secrets() {
    let text = format!("{:?}", aes().0);
    assert!(!text.contains("[1, 1") && text.contains("send_sequence"), "{text}");
}

#[test]
fn a_record_waits_until_it_is_whole() {
    let (mut client, mut server) = aes();
    let stream = [sealed(&mut client, b"one"), sealed(&mut client, b"two")].concat();
    for cut in 0..stream.len() {
        let (mut fresh, mut plain) = (aes().1, Vec::new());
        let taken = fresh.open(&stream[..cut], &mut plain).unwrap();
        assert_eq!(taken, if cut < 25 { 0 } else { 25 });
        let rest = stream[taken..].to_vec();
        assert_eq!(fresh.open(&rest, &mut plain).unwrap(), rest.len());
        assert_eq!(plain, b"onetwo");
    }
    assert_eq!(opened(&mut server, &stream).unwrap(), b"onetwo");
}

#[test]
fn one_damaged_bit_ends_the_connection() {
    let stream = sealed(&mut aes().0, b"hello");
    for at in 5..stream.len() {
        let mut damaged = stream.clone();
        damaged[at] ^= 1;
        let mut server = aes().1;
        assert_eq!(opened(&mut server, &damaged), broke(Violation::NotAuthentic), "byte {at}");
        // Not even what is good is believed afterwards.
        assert_eq!(opened(&mut server, &stream), Ok(Vec::new()));
    }
    // The version means nothing, but it is authenticated.
    for at in 1..3 {
        let mut damaged = stream.clone();
        damaged[at] ^= 1;
        assert_eq!(opened(&mut aes().1, &damaged), broke(Violation::NotAuthentic));
    }
}

#[test]
fn records_out_of_order_or_twice_do_not_open() {
    let (mut client, mut server) = aes();
    let (first, second) = (sealed(&mut client, b"1"), sealed(&mut client, b"2"));
    assert_eq!(opened(&mut server, &second), broke(Violation::NotAuthentic));
    let mut server = aes().1;
    assert_eq!(opened(&mut server, &first).unwrap(), b"1");
    assert_eq!(opened(&mut server, &first), broke(Violation::NotAuthentic));
}

#[test]
fn headers_are_judged_before_their_bodies_come() {
    let cases: [(&[u8], Violation); 9] = [
        (&[20, 3, 3, 0, 1, 1], Violation::NotProtected),
        (&[21, 3, 3, 0, 2, 1, 0], Violation::NotProtected),
        (&[22, 3, 3, 0, 2, 1, 0], Violation::NotProtected),
        (&[22], Violation::NotProtected),
        (b"GET / HTTP/1.1", Violation::NotProtected),
        (&[0x80, 0x2e], Violation::NotProtected),
        (&[23, 3, 3, 0x41, 0x01], Violation::RecordTooLong),
        (&[23, 3, 3, 0xff, 0xff], Violation::RecordTooLong),
        (&[23, 3, 3, 0, 16], Violation::NotAuthentic),
    ];
    for (stream, violation) in cases {
        let outcome = aes().1.open(stream, &mut Vec::new());
        assert_eq!(outcome, Err(violation.into()), "{stream:?}");
    }
    for stream in [&[23][..], &[23, 3, 3, 0x41, 0], &[23, 9, 9, 0, 17], &[]] {
        assert_eq!(aes().1.open(stream, &mut Vec::new()), Ok(0));
    }
}

#[test]
fn content_is_at_most_16_kib_padding_included() {
    let most = vec![7; PLAINTEXT_MAX_BYTES];
    assert_eq!(verdict(APPLICATION_DATA, &most).unwrap(), most);
    let more = vec![7; PLAINTEXT_MAX_BYTES + 1];
    assert_eq!(verdict(APPLICATION_DATA, &more), broke(Violation::RecordTooLong));
    let padded = [&vec![7; PLAINTEXT_MAX_BYTES][..], &[APPLICATION_DATA]].concat();
    assert_eq!(verdict(0, &padded), broke(Violation::RecordTooLong));
    let widest = vec![7; BODY_MAX_BYTES - TAG_BYTES - 1];
    assert_eq!(verdict(APPLICATION_DATA, &widest), broke(Violation::RecordTooLong));
}

#[test]
fn padding_is_taken_away() {
    for padding in [0, 1, 255, 10_000] {
        let content = [&b"hello"[..], &[APPLICATION_DATA], &vec![0; padding]].concat();
        assert_eq!(verdict(0, &content).unwrap(), b"hello");
    }
    assert_eq!(verdict(0, &[0; 100]), broke(Violation::NoContentType));
    assert_eq!(verdict(0, &[]), broke(Violation::NoContentType));
    // Zeros of the content stay.
    assert_eq!(verdict(APPLICATION_DATA, &[0; 9]).unwrap(), [0; 9]);
}

#[test]
fn types_that_have_no_place_are_refused() {
    for kind in [1, 19, 20, 24, 255] {
        assert_eq!(verdict(kind, &[1]), broke(Violation::UnknownContent), "{kind}");
    }
    assert_eq!(verdict(HANDSHAKE, &[]), broke(Violation::Empty));
    assert_eq!(verdict(ALERT, &[]), broke(Violation::Empty));
    assert_eq!(verdict(ALERT, &[1]), broke(Violation::Malformed));
    assert_eq!(verdict(ALERT, &[1, 0, 1, 0]), broke(Violation::Malformed));
    // A renegotiation, a ticket from a client, a certificate asked for, a finished too many.
    for message in [1, 4, 13, 20, 254] {
        let outcome = verdict(HANDSHAKE, &[message, 0, 0, 0]);
        assert_eq!(outcome, broke(Violation::UnexpectedHandshake), "{message}");
    }
}

#[test]
fn alerts_end_it_but_close_notify_is_clean() {
    for description in [10, 20, 40, 80, 255] {
        for level in [1, 2] {
            let outcome = verdict(ALERT, &[level, description]);
            assert_eq!(outcome, Err(OpenError::Peer(description)));
        }
    }
    assert_eq!(OpenError::Peer(10).alert(), None);
    assert_eq!(verdict(ALERT, &[1, 90]), Ok(Vec::new()));
    let (mut client, mut server) = aes();
    let mut stream = sealed(&mut client, b"bye");
    client.close(&mut stream);
    client.close(&mut stream);
    assert_eq!(client.seal(b"more", &mut stream), Err(SealError::Ended));
    stream.extend_from_slice(b"garbage behind the end");
    assert!(!server.peer_has_closed());
    assert_eq!(opened(&mut server, &stream).unwrap(), b"bye");
    assert!(server.peer_has_closed());
    // The other direction goes on until it says so itself.
    let stream = sealed(&mut server, b"still here");
    assert_eq!(opened(&mut client, &stream).unwrap(), b"still here");
}

#[test]
fn refusing_tells_why_and_is_final() {
    let (mut client, mut server) = aes();
    let mut stream = Vec::new();
    server.refuse(Violation::NotAuthentic.alert(), &mut stream);
    server.refuse(Alert::InternalError, &mut stream);
    assert_eq!(stream.len(), 24);
    assert_eq!(opened(&mut client, &stream), Err(OpenError::Peer(20)));
    assert_eq!(server.seal(b"x", &mut stream), Err(SealError::Ended));
    let late = sealed(&mut client, b"late");
    assert_eq!(opened(&mut server, &late), Ok(Vec::new()));
}

#[test]
fn a_key_update_rolls_at_once_and_is_answered_before_data() {
    for (asks, answer_bytes) in [(0, 0), (1, 27)] {
        let (mut client, mut server) = aes();
        let mut stream = sealed(&mut client, b"old");
        client.seal_any(HANDSHAKE, &[24, 0, 0, 1, asks], &mut stream);
        client.update_without_a_word();
        stream.extend_from_slice(&sealed(&mut client, b"new"));
        assert_eq!(opened(&mut server, &stream).unwrap(), b"oldnew");
        assert_eq!(server.sequences(), (0, 1));
        let answer = sealed(&mut server, b"hi");
        assert_eq!(answer.len(), answer_bytes + 24);
        assert_eq!(opened(&mut client, &answer).unwrap(), b"hi");
        assert_eq!(sealed(&mut server, b"hi").len(), 24, "it is answered once");
    }
}

#[test]
fn a_key_update_is_welcome_after_as_many_empty_records_as_may_be() {
    let (mut client, mut server) = aes();
    let mut stream = Vec::new();
    for _ in 0..32 {
        client.seal_any(APPLICATION_DATA, &[], &mut stream);
    }
    client.seal_any(HANDSHAKE, &[24, 0, 0, 1, 0], &mut stream);
    client.update_without_a_word();
    assert_eq!(opened(&mut server, &stream).unwrap(), b"");
    // It does not make room for another empty one.
    let mut stream = Vec::new();
    client.seal_any(APPLICATION_DATA, &[], &mut stream);
    assert_eq!(opened(&mut server, &stream), broke(Violation::TooManyEmptyRecords));
}

#[test]
fn data_under_the_old_key_does_not_open_after_the_new_one() {
    let (mut client, mut server) = aes();
    let mut stream = Vec::new();
    client.seal_any(HANDSHAKE, &[24, 0, 0, 1, 0], &mut stream);
    stream.extend_from_slice(&sealed(&mut client, b"old"));
    assert_eq!(opened(&mut server, &stream), broke(Violation::NotAuthentic));
}

#[test]
fn a_key_update_has_one_shape() {
    let cases: [(&[u8], Violation); 9] = [
        (&[24, 0, 0, 1, 2], Violation::KeyUpdateRequest),
        (&[24, 0, 0, 1, 255], Violation::KeyUpdateRequest),
        (&[24, 0, 0, 0], Violation::Malformed),
        (&[24, 0, 0, 2, 0, 0], Violation::Malformed),
        (&[24, 1, 0, 1, 0], Violation::Malformed),
        (&[24], Violation::KeyUpdateNotAlone),
        (&[24, 0, 0, 1], Violation::KeyUpdateNotAlone),
        (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], Violation::KeyUpdateNotAlone),
        (&[24, 0, 0, 1, 0, 4], Violation::KeyUpdateNotAlone),
    ];
    for (content, violation) in cases {
        assert_eq!(verdict(HANDSHAKE, content), broke(violation), "{content:?}");
    }
}

#[test]
fn thousands_of_key_updates_with_data_between() {
    for suite in [Suite::Aes128Gcm, Suite::ChaCha20Poly1305] {
        let (mut client, mut server) = pair(suite);
        for round in 0..4_000_u32 {
            let mut stream = Vec::new();
            client.seal_any(HANDSHAKE, &[24, 0, 0, 1, u8::from(round % 3 == 0)], &mut stream);
            client.update_without_a_word();
            client.seal(&round.to_be_bytes(), &mut stream).unwrap();
            assert_eq!(opened(&mut server, &stream).unwrap(), round.to_be_bytes());
            let answer = sealed(&mut server, b"ok");
            assert_eq!(opened(&mut client, &answer).unwrap(), b"ok");
        }
    }
}

#[test]
fn floods_without_data_end() {
    let (mut client, mut server) = aes();
    let update = |server: &mut Detached, client: &mut Detached| {
        let mut stream = Vec::new();
        client.seal_any(HANDSHAKE, &[24, 0, 0, 1, 1], &mut stream);
        client.update_without_a_word();
        opened(server, &stream)
    };
    for _ in 0..32 {
        assert!(update(&mut server, &mut client).is_ok());
    }
    let stream = sealed(&mut client, b"data");
    assert!(opened(&mut server, &stream).is_ok());
    for _ in 0..32 {
        assert!(update(&mut server, &mut client).is_ok());
    }
    assert_eq!(update(&mut server, &mut client), broke(Violation::TooManyKeyUpdates));

    for (kind, content) in [(APPLICATION_DATA, &b""[..]), (ALERT, &[1, 90])] {
        let (mut client, mut server) = aes();
        let mut stream = Vec::new();
        for _ in 0..32 {
            client.seal_any(kind, content, &mut stream);
        }
        client.seal(b"data", &mut stream).unwrap();
        assert_eq!(opened(&mut server, &stream).unwrap(), b"data");
        let mut stream = Vec::new();
        for _ in 0..33 {
            client.seal_any(kind, content, &mut stream);
        }
        let outcome = opened(&mut server, &stream);
        assert_eq!(outcome, broke(Violation::TooManyEmptyRecords));
    }
}

#[test]
fn a_key_is_replaced_before_it_is_worn() {
    let (mut client, mut server) = aes();
    let most = Suite::Aes128Gcm.records_max();
    client.skip_sequences(most - 3, 0);
    server.skip_sequences(0, most - 3);
    let last = sealed(&mut client, b"last");
    assert_eq!(last.len(), 26, "the old key seals on up to its limit");
    let next = sealed(&mut client, b"next");
    assert_eq!(next.len(), 27 + 26, "a KeyUpdate comes first");
    assert_eq!(client.sequences().0, 1);
    assert_eq!(opened(&mut server, &last).unwrap(), b"last");
    assert_eq!(opened(&mut server, &next).unwrap(), b"next");
    // A write of many records changes keys in their midst.
    client.skip_sequences(most - 3, 0);
    server.skip_sequences(0, most - 3);
    let long = vec![9; 3 * PLAINTEXT_MAX_BYTES];
    let stream = sealed(&mut client, &long);
    assert_eq!(stream.len(), long.len() + 3 * 22 + 27);
    assert_eq!(opened(&mut server, &stream).unwrap(), long);
    // ChaCha20 does not wear.
    let (mut client, _) = pair(Suite::ChaCha20Poly1305);
    client.skip_sequences(most, 0);
    assert_eq!(sealed(&mut client, b"x").len(), 23);
}

#[test]
fn a_peer_that_wears_its_key_is_asked_for_another() {
    let (mut client, mut server) = aes();
    let most = Suite::Aes128Gcm.records_max();
    server.skip_sequences(0, most - 1);
    // A peer that does not count.
    client.skip_sequences(most - 1, 0);
    let mut stream = Vec::new();
    client.seal_any(APPLICATION_DATA, b"worn", &mut stream);
    assert_eq!(opened(&mut server, &stream).unwrap(), b"worn");
    let answer = sealed(&mut server, b"x");
    assert_eq!(answer.len(), 27 + 23);
    assert_eq!(opened(&mut client, &answer).unwrap(), b"x");
    let updated = sealed(&mut client, b"y");
    assert_eq!(updated.len(), 27 + 23, "the request is answered");
    assert_eq!(opened(&mut server, &updated).unwrap(), b"y");
    assert_eq!(server.sequences().1, 1);
}

#[test]
fn a_used_up_counter_seals_and_opens_nothing() {
    let (mut client, mut server) = pair(Suite::ChaCha20Poly1305);
    client.skip_sequences(u64::MAX, 0);
    let mut out = Vec::new();
    assert!(client.seal(b"x", &mut out).is_err());
    let stream = sealed(&mut pair(Suite::ChaCha20Poly1305).0, b"x");
    server.skip_sequences(0, u64::MAX);
    assert_eq!(opened(&mut server, &stream), Err(OpenError::Internal));
}

#[test]
fn no_two_records_are_sealed_under_one_nonce() {
    let (mut client, _) = aes();
    let (mut before, mut out) = (client.sequences().0, Vec::new());
    for step in 0..50_u8 {
        if step % 10 == 9 {
            client.owed = Owed::Update;
        }
        let first = out.len();
        client.seal(&[step; 40_000][..usize::from(step) * 800], &mut out).unwrap();
        let after = client.sequences().0;
        let records =
            u64::try_from((out.len() - first).div_ceil(PLAINTEXT_MAX_BYTES + 22)).unwrap();
        // It counts up by one a record, or began again under a new key.
        assert!(after == before + records || step % 10 == 9, "{step}: {before} {after}");
        before = after;
    }
}

#[test]
fn tickets_are_for_clients() {
    let (mut client, mut server) = aes();
    let mut stream = Vec::new();
    server.seal_any(HANDSHAKE, &[4, 0, 0, 2, 7, 8, 4, 0, 0, 0], &mut stream);
    let (mut found, mut plain) = (Vec::new(), Vec::new());
    client.open_with_tickets(&stream, &mut plain, &mut |body| found.push(body.to_vec())).unwrap();
    assert_eq!(found, [vec![7, 8], vec![]]);
    for (content, violation) in [
        (&[4, 0, 0, 3, 1][..], Violation::Malformed),
        (&[4, 0, 0], Violation::Malformed),
        (&[4, 0, 0, 0, 1, 0, 0, 0], Violation::UnexpectedHandshake),
    ] {
        let (mut client, mut server) = aes();
        let mut stream = Vec::new();
        server.seal_any(HANDSHAKE, content, &mut stream);
        assert_eq!(opened(&mut client, &stream), broke(violation));
    }
}
