//! Peers that break the rules of the connection: each is told which, is closed where PROTOCOL.md
//! says so, is counted, and costs nobody else anything.

use crate::device::{Bystanders, Device, Wire, hello, message};
use crate::roost::{Server, Setup, on_both_drivers};
use roost_protocol::error::name;
use roost_protocol::limits::FRAME_MAX_BYTES;
use roost_protocol::varint;
use roost_protocol::wire::client_frame::Body as Ask;
use roost_protocol::wire::server_frame::Body as Told;
use roost_protocol::wire::{self, ErrorCode};
use rustix::process::Signal;
use std::time::Duration;

const FRAMES_REFUSED: &str = "roost_frames_refused_total";
const TOO_SLOW: &str = "roost_too_slow_total";

/// The length of a frame.
fn length(bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    varint::write(u32::try_from(bytes).unwrap(), &mut out);
    out
}

/// Says something on a new connection and asserts how it ends.
#[track_caller]
fn opens_and_ends(server: &Server, counter: &str, first: &[u8], code: ErrorCode) {
    let before = server.metric(counter);
    let mut wire = Wire::silent(server.tcp);
    wire.write(first);
    wire.ends_with(code);
    server.metric_rises(counter, before);
}

/// Says something on a welcomed connection and asserts how it ends.
#[track_caller]
fn welcomed_and_ends(server: &Server, user: &str, bytes: &[u8], code: ErrorCode) {
    let before = server.metric(FRAMES_REFUSED);
    let mut device = Device::sign_in(server, user);
    device.wire.write(bytes);
    device.wire.ends_with(code);
    server.metric_rises(FRAMES_REFUSED, before);
}

on_both_drivers! {
    fn a_wrong_preface(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let wrong = [&b"G"[..], b"GET / HTTP/1.1\r\n\r\n", b"RO0\x01", b"\x16\x03\x01\x02", b"\0"];
        for first in wrong {
            opens_and_ends(&server, FRAMES_REFUSED, first, ErrorCode::ErrorBadPreface);
        }
        for version in [0, 2, 255] {
            let first = [b'R', b'O', b'O', version];
            opens_and_ends(&server, FRAMES_REFUSED, &first, ErrorCode::ErrorUnsupportedVersion);
        }
        bystanders.are_unharmed();
    }

    fn a_frame_over_the_limit_is_refused_by_its_length_alone(driver) {
        let server = Setup::new(driver).config("limits.frame_max_bytes = 131072\n").start();
        let mut bystanders = Bystanders::new(&server);
        let too_large = ErrorCode::ErrorFrameTooLarge;
        for (user, bytes) in [("one", 131_073), ("two", FRAME_MAX_BYTES), ("max", 0xffff_ffff)] {
            welcomed_and_ends(&server, user, &length(bytes), too_large);
        }
        // Before Welcome a frame has no more room than all bytes together.
        let first = [&b"ROO\x01"[..], &length(8193)].concat();
        opens_and_ends(&server, FRAMES_REFUSED, &first, too_large);
        // The limit itself is no mistake: the server waits for the bytes.
        let mut device = Device::sign_in(&server, "limit");
        device.wire.write(&length(131_072));
        device.wire.write(&vec![0xff; 131_072]);
        device.wire.ends_with(ErrorCode::ErrorMalformedFrame);
        bystanders.are_unharmed();
    }

    fn a_length_that_never_ends(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let malformed = ErrorCode::ErrorMalformedFrame;
        let first = [&b"ROO\x01"[..], &[0x80; 5]].concat();
        opens_and_ends(&server, FRAMES_REFUSED, &first, malformed);
        let wrong: [&[u8]; 4] =
            [&[0x80; 5], &[0xff; 5], &[0x80, 0x00], &[0xff, 0xff, 0xff, 0xff, 0x1f]];
        for (bytes, user) in wrong.into_iter().zip(["a", "b", "c", "d"]) {
            welcomed_and_ends(&server, user, bytes, malformed);
        }
        bystanders.are_unharmed();
    }

    fn broken_protobuf(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let malformed = ErrorCode::ErrorMalformedFrame;
        opens_and_ends(&server, FRAMES_REFUSED, b"ROO\x01\x02\xff\xff", malformed);
        let wrong: [&[u8]; 4] = [
            // A field number of 0; a length beyond the frame; a wire type that is none; a user
            // that is not UTF-8.
            &[2, 0x00, 0x00],
            &[2, 0x12, 0x7f],
            &[2, 0x0f, 0x00],
            &[7, 0x08, 0x02, 0x12, 0x03, 0x12, 0x01, 0xff],
        ];
        for (bytes, user) in wrong.into_iter().zip(["a", "b", "c", "d"]) {
            welcomed_and_ends(&server, user, bytes, malformed);
        }
        bystanders.are_unharmed();
    }

    fn last_words_reach_who_is_still_talking(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let mut wire = Wire::narrow(server.tcp);
        wire.ask(1, Ask::Hello(hello(&server.token("eve"), 1, 1)));
        let mut eve = Device::welcomed(wire);
        for number in 1..=3 {
            eve.send(message("bob", number, &[b'x'; 40_000]));
        }
        // A page that its kernel cannot hold: what is said behind it waits at the server's.
        let page = wire::History { user: "bob".to_owned(), ..Default::default() };
        eve.wire.ask(100, Ask::History(page));
        eve.wire.stream().peek(&mut [0]).unwrap();
        let before = server.metric(FRAMES_REFUSED);
        eve.wire.write(&[&[0x80; 5], &[0; 200_000][..]].concat());
        server.metric_rises(FRAMES_REFUSED, before);
        let page = eve.answer(100);
        assert!(matches!(page, Told::History(page) if page.messages.len() == 3));
        eve.wire.ends_with(ErrorCode::ErrorMalformedFrame);
        bystanders.are_unharmed();
    }

    fn a_first_frame_that_is_not_hello(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let sync = |limit| Ask::Sync(wire::Sync { limit, ..wire::Sync::default() });
        let asks = [
            (1, sync(0)),
            (1, sync(501)),
            (1, Ask::ListBlocks(wire::ListBlocks::default())),
            (0, Ask::Delivered(wire::Delivered::default())),
            (0, sync(0)),
        ];
        for (request_id, ask) in asks {
            let before = server.metric(FRAMES_REFUSED);
            let mut wire = Wire::open(server.tcp);
            wire.ask(request_id, ask);
            wire.ends_with(ErrorCode::ErrorHelloExpected);
            server.metric_rises(FRAMES_REFUSED, before);
        }
        // A heartbeat, an unknown notice, an unknown request.
        for frame in [&[0][..], &[3, 0xba, 0x3e, 0x00], &[5, 0x08, 0x07, 0xba, 0x3e, 0x00]] {
            let first = [b"ROO\x01", frame].concat();
            opens_and_ends(&server, FRAMES_REFUSED, &first, ErrorCode::ErrorHelloExpected);
        }
        bystanders.are_unharmed();
    }

    fn a_second_hello(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let mut device = Device::sign_in(&server, "eve");
        let before = server.metric(FRAMES_REFUSED);
        device.wire.ask(2, Ask::Hello(hello(&server.token("eve"), 1, 2)));
        device.wire.ends_with(ErrorCode::ErrorHelloRepeated);
        server.metric_rises(FRAMES_REFUSED, before);
        // Both at once: the first is welcomed, the second ends it.
        let mut wire = Wire::open(server.tcp);
        wire.ask(1, Ask::Hello(hello(&server.token("eve"), 1, 3)));
        wire.ask(2, Ask::Hello(hello(&server.token("eve"), 1, 4)));
        Device::welcomed(wire).wire.ends_with(ErrorCode::ErrorHelloRepeated);
        bystanders.are_unharmed();
    }

    fn a_hello_with_a_field_out_of_its_bounds(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let good = || hello(&server.token("eve"), 1, 1);
        let invalid = ErrorCode::ErrorInvalidRequest;
        let ticket = |bytes: usize| wire::Hello {
            token: String::new(),
            ticket: vec![7; bytes].into(),
            ..good()
        };
        let wrong = [
            (wire::Hello { device: vec![1; 15].into(), ..good() }, invalid),
            (wire::Hello { device: vec![1; 17].into(), ..good() }, invalid),
            (wire::Hello { device: vec![].into(), ..good() }, invalid),
            (wire::Hello { connection_number: 0, ..good() }, invalid),
            (wire::Hello { client: "c".repeat(129), ..good() }, invalid),
            (wire::Hello { role: 9, ..good() }, invalid),
            (wire::Hello { activity: 9, ..good() }, invalid),
            (wire::Hello { ticket: vec![7; 64].into(), ..good() }, invalid),
            (wire::Hello { token: String::new(), ..good() }, invalid),
            (ticket(513), ErrorCode::ErrorTicketInvalid),
            (ticket(512), ErrorCode::ErrorTicketInvalid),
            (ticket(1), ErrorCode::ErrorTicketInvalid),
        ];
        for (hello, code) in wrong {
            let before = server.metric(FRAMES_REFUSED);
            let mut wire = Wire::open(server.tcp);
            wire.ask(7, Ask::Hello(hello));
            let (request_id, error) = wire.refused_hello();
            assert_eq!((name(error.code()), request_id), (name(code), 7), "{}", error.text);
            server.metric_rises(FRAMES_REFUSED, before);
        }
        let mut wire = Wire::open(server.tcp);
        wire.ask(0, Ask::Hello(good()));
        let (request_id, error) = wire.refused_hello();
        assert_eq!((error.code(), request_id), (invalid, 0));
        bystanders.are_unharmed();
    }

    fn an_older_connection_number(driver) {
        let server = Setup::new(driver).shards(1).log("debug").start();
        let mut bystanders = Bystanders::new(&server);
        let mut device = Device::sign_in_as(&server, "eve", 1, 5);
        for number in [1, 4, 5] {
            let before = server.metric("roost_superseded_total");
            let mut wire = Wire::open(server.tcp);
            wire.ask(3, Ask::Hello(hello(&server.token("eve"), 1, number)));
            let (request_id, error) = wire.refused_hello();
            assert_eq!((error.code(), request_id), (ErrorCode::ErrorConnectionSuperseded, 3));
            assert_eq!(error.expected_connection_number, 6);
            server.metric_rises("roost_superseded_total", before);
        }
        let line = server.logs("refused at hello");
        assert!(line.contains("code=ErrorConnectionSuperseded"), "{line}");
        device.wire.is_alive();
        let newer = Device::sign_in_as(&server, "eve", 1, 6);
        device.wire.ends_with(ErrorCode::ErrorReplaced);
        server.metric_rises("roost_replaced_total", 0);
        newer.leave();
        bystanders.are_unharmed();
    }

    fn half_a_frame_and_silence(driver) {
        let config = "limits.half_frame_timeout_ms = 500\nlimits.hello_timeout_ms = 60000\n";
        let server = Setup::new(driver).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        let slow = ErrorCode::ErrorTooSlow;
        // Half a preface, half a Hello, a length without its end.
        for first in [&b"RO"[..], b"ROO\x01\xc0\x01\x08", b"ROO\x01\xc0"] {
            opens_and_ends(&server, TOO_SLOW, first, slow);
        }
        for (user, bytes) in [("a", &[0x80][..]), ("b", &[9, 8]), ("c", &[0x80, 0x80, 0x10, 1])] {
            let before = server.metric(TOO_SLOW);
            let mut device = Device::sign_in(&server, user);
            device.wire.write(bytes);
            device.wire.ends_with(slow);
            server.metric_rises(TOO_SLOW, before);
        }
        bystanders.are_unharmed();
    }

    fn no_hello_at_all(driver) {
        let config = "limits.half_frame_timeout_ms = 60000\nlimits.hello_timeout_ms = 1500\n";
        let server = Setup::new(driver).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        for first in [&b""[..], b"R", b"ROO\x01", b"ROO\x01\x8f"] {
            opens_and_ends(&server, TOO_SLOW, first, ErrorCode::ErrorTooSlow);
        }
        bystanders.are_unharmed();
    }

    fn a_hello_that_drips_in_has_no_more_time_than_others(driver) {
        let config = "limits.half_frame_timeout_ms = 120000\nlimits.hello_timeout_ms = 1500\n";
        let server = Setup::new(driver).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        let before = server.metric(TOO_SLOW);
        let mut wire = Wire::open(server.tcp);
        // At this pace its 8,000 bytes would take minutes.
        let hello = [&length(8000)[..], &[8; 8000]].concat();
        assert!(wire.drip(&hello, Duration::from_millis(40)) < hello.len());
        assert_eq!(wire.ends(), Some(ErrorCode::ErrorTooSlow));
        server.metric_rises(TOO_SLOW, before);
        bystanders.are_unharmed();
    }

    fn the_last_words_of_a_long_silence_are_not_cut_short(driver) {
        // It was silent for longer than a device may take nothing; that counts from now on.
        let config = "limits.heartbeat_foreground_ms = 1000\nlimits.send_stall_timeout_ms = 2400\n";
        let server = Setup::new(driver).config(config).start();
        let mut quiet = Device::sign_in(&server, "quiet");
        quiet.wire.ends_with(ErrorCode::ErrorIdleTimeout);
        // It does not close either, and is let go of in the end.
        server.metric_becomes("roost_connections_open", |open| open == 0);
        assert_eq!(server.metric(TOO_SLOW), 0);
    }

    fn bytes_after_go_away(driver) {
        let setup = Setup::new(driver).shards(1).config("limits.drain_ms = 3000\n");
        let mut server = setup.start();
        let mut polite = Device::sign_in(&server, "polite");
        let mut rude = Device::sign_in(&server, "rude");
        let mut deaf = Device::sign_in(&server, "deaf");
        let mut mute = Wire::open(server.tcp);
        polite.send(message("deaf", 1, b"before"));
        let refused = server.metric(FRAMES_REFUSED);
        server.signal(Signal::TERM);
        for device in [&mut polite, &mut rude, &mut deaf] {
            let away = loop {
                if let Told::GoAway(away) = device.push() {
                    break away;
                }
            };
            assert_eq!(away.alternative, "");
        }
        mute.ends_with(ErrorCode::ErrorGoingAway);
        // What still comes is served or refused as ever: nothing is half done.
        let reply = polite.send(message("deaf", 2, b"after"));
        assert_eq!(reply.seq, 2);
        polite.leave();
        rude.wire.write(&[0xff; 5]);
        rude.wire.ends_with(ErrorCode::ErrorMalformedFrame);
        server.metric_rises(FRAMES_REFUSED, refused);
        // Who does not leave is told at the end.
        deaf.wire.ends_with(ErrorCode::ErrorGoingAway);
        assert!(server.wait().success());
        let server = server.start_again();
        let mut device = Device::sign_in(&server, "deaf");
        assert_eq!(device.history("polite").len(), 2);
    }

    fn after_go_away_every_shard_still_answers(driver) {
        // Nobody is connected to one of the two shards, and both are home to conversations.
        let mut server = Setup::new(driver).shards(2).start();
        let mut device = Device::sign_in(&server, "ann");
        server.signal(Signal::TERM);
        while !matches!(device.push(), Told::GoAway(_)) {}
        for user in 0..12 {
            assert_eq!(device.send(message(&format!("user {user}"), 1, b"after")).seq, 1);
        }
        device.leave();
        assert!(server.wait().success());
        let server = server.start_again();
        let mut device = Device::sign_in_as(&server, "ann", 1, 2);
        for user in 0..12 {
            assert_eq!(device.history(&format!("user {user}")).len(), 1);
        }
    }
}
