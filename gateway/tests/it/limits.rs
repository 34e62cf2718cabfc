//! Each bound holds and says so: of requests, of what waits for a device, of what a device leaves
//! half said. Whoever keeps to the rules notices nothing.

use crate::device::{Bystanders, Device, Wire, body_of, hello, message};
use crate::roost::{PATIENCE, Server, Setup, on_both_drivers};
use bytes::Bytes;
use roost_protocol::encode;
use roost_protocol::error::name;
use roost_protocol::ids::{ConversationId, UserId};
use roost_protocol::limits::FRAME_MAX_BYTES;
use roost_protocol::wire::client_frame::Body as Ask;
use roost_protocol::wire::send::Content;
use roost_protocol::wire::server_frame::Body as Told;
use roost_protocol::wire::{self, ErrorCode};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const REFUSALS: &str = "roost_refusals_total";
const TOO_SLOW: &str = "roost_too_slow_total";
const MIB: u64 = 1024 * 1024;

/// Thousands of descriptors at once are for one test at a time.
pub(crate) static MANY_SOCKETS: Mutex<()> = Mutex::new(());

/// Asks what is refused with this; the connection goes on and the counter rises.
#[track_caller]
fn refused(server: &Server, device: &mut Device, ask: Ask, code: ErrorCode) -> wire::Error {
    let before = server.metric(REFUSALS);
    let error = device.refused(ask);
    assert_eq!(name(error.code()), name(code), "{}", error.text);
    server.metric_rises(REFUSALS, before);
    error
}

fn conversation_of(one: &str, other: &str) -> Bytes {
    let key = |user| UserId::new(user).unwrap().key("");
    ConversationId::direct(key(one), key(other)).to_wire()
}

/// The most memory the server ever had, in bytes.
fn peak_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

on_both_drivers! {
    fn pages_of_history_have_1_to_100_messages(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let mut device = Device::sign_in(&server, "eve");
        device.send(message("bob", 1, b"hello"));
        let page = |limit| {
            Ask::History(wire::History { user: "bob".to_owned(), limit, ..Default::default() })
        };
        for limit in [0, 101, 1_000_000_000, u32::MAX] {
            let invalid = ErrorCode::ErrorInvalidRequest;
            refused(&server, &mut device, page(Some(limit)), invalid);
        }
        for limit in [None, Some(1), Some(100)] {
            let Told::History(page) = device.ask(page(limit)) else { panic!("no page") };
            assert_eq!(page.messages.len(), 1);
        }
        let sync = Ask::Sync(wire::Sync { cursor: 0, limit: 501 });
        refused(&server, &mut device, sync, ErrorCode::ErrorInvalidRequest);
        bystanders.are_unharmed();
    }

    fn one_device_too_many_signs_out_the_one_unused_for_longest(driver) {
        let server = Setup::new(driver).shards(1).config("limits.devices_max = 3\n").start();
        let mut tickets = BTreeMap::new();
        let sign_in = |device, connection| Device::sign_in_as(&server, "eve", device, connection);
        let mut leave = |device: Device, id: u128, left: u64| {
            tickets.insert(id, device.welcome.ticket.clone());
            server.metric_becomes("roost_connections_open", |open| open == left + 1);
            device.leave();
            server.metric_becomes("roost_connections_open", |open| open == left);
        };
        // The third stays; of the others the first was here after the second.
        let first = sign_in(1, 1);
        let mut third = sign_in(3, 1);
        leave(sign_in(2, 1), 2, 2);
        leave(first, 1, 1);
        let mut fourth = sign_in(4, 1);
        let by_ticket = |id: u128| {
            let mut wire = Wire::open(server.tcp);
            let ticket = tickets[&id].clone();
            wire.ask(1, Ask::Hello(wire::Hello { ticket, ..hello("", id, 2) }));
            wire
        };
        let (_, error) = by_ticket(2).refused_hello();
        assert_eq!(error.code(), ErrorCode::ErrorSignedOut);
        let mut first = Device::welcomed(by_ticket(1));
        for device in [&mut first, &mut third, &mut fourth] {
            device.wire.is_alive();
        }
        // All are here: the one that came first goes.
        sign_in(5, 1).wire.is_alive();
        third.wire.ends_with(ErrorCode::ErrorSignedOut);
        first.wire.is_alive();
    }

    fn a_body_over_the_limit(driver) {
        for (config, limit) in [("", 65_536), ("limits.body_max_bytes = 1024\n", 1024)] {
            let server = Setup::new(driver).config(config).start();
            let mut bystanders = Bystanders::new(&server);
            let mut device = Device::sign_in(&server, "eve");
            let told = device.welcome.limits.unwrap().body_max_bytes;
            assert_eq!(usize::try_from(told).unwrap(), limit);
            let over = Ask::Send(message("bob", 1, &vec![7; limit + 1]));
            refused(&server, &mut device, over, ErrorCode::ErrorTooLarge);
            // A refusal takes no number; the limit itself fits, and so does nothing at all.
            assert_eq!(device.send(message("bob", 1, &vec![7; limit])).seq, 1);
            assert_eq!(device.send(message("bob", 2, b"")).seq, 2);
            let bodies = device.history("bob").iter().map(|m| body_of(m).len()).collect::<Vec<_>>();
            assert_eq!(bodies, [limit, 0]);
            bystanders.are_unharmed();
        }
    }

    fn ids_that_are_empty_or_too_long(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let mut device = Device::sign_in(&server, "eve");
        let of = |bytes: usize| Bytes::from(vec![1; bytes]);
        let long = "u".repeat(65);
        let targets = [
            (Bytes::new(), ""), (of(1), ""), (of(15), ""), (of(17), ""), (of(1000), ""),
            (Bytes::new(), long.as_str()), (Bytes::new(), "a\nb"), (Bytes::new(), "\u{85}"),
            (of(16), "bob"), (Bytes::new(), "eve"),
        ];
        let invalid = ErrorCode::ErrorInvalidRequest;
        for (conversation, user) in targets {
            let user = user.to_owned();
            let mut send = message(&user, 1, b"hello");
            send.conversation = conversation.clone();
            refused(&server, &mut device, Ask::Send(send), invalid);
            let history = wire::History { conversation, user, ..Default::default() };
            refused(&server, &mut device, Ask::History(history), invalid);
        }
        let good = || message("bob", 1, b"hello");
        let wrong = [
            wire::Send { client_message_id: 0, ..good() },
            wire::Send { client_sequence: 0, ..good() },
            wire::Send { seen: 1, seen_uncounted: 2, ..good() },
            wire::Send { content: None, ..good() },
        ];
        for send in wrong {
            refused(&server, &mut device, Ask::Send(send), invalid);
        }
        let other = Content::Delete(wire::Delete::default());
        let send = wire::Send { content: Some(other), ..good() };
        refused(&server, &mut device, Ask::Send(send), invalid);
        // A notice has no reply, so its mistake is told with no id; the connection goes on.
        for bytes in [0, 15, 17] {
            let mark = wire::Mark { conversation: of(bytes), seq: 1, ..Default::default() };
            let before = server.metric(REFUSALS);
            device.wire.ask(0, Ask::Read(wire::Read { marks: vec![mark] }));
            let Told::Error(error) = device.push() else { panic!("not told") };
            assert_eq!(error.code(), invalid);
            server.metric_rises(REFUSALS, before);
        }
        assert_eq!(device.send(good()).seq, 1);
        bystanders.are_unharmed();
    }

    fn an_id_is_never_a_capability(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let mut eve = Device::sign_in(&server, "eve");
        let theirs = conversation_of("ann", "bob");
        let nobodys = conversation_of("nobody", "noone");
        let unknown = ErrorCode::ErrorUnknownConversation;
        let mut told = Vec::new();
        for conversation in [theirs, nobodys] {
            let mut send = message("", 1, b"let me in");
            send.conversation = conversation.clone();
            told.push(refused(&server, &mut eve, Ask::Send(send.clone()), unknown));
            // An id cannot open a conversation, whatever is said with it.
            send.first = false;
            told.push(refused(&server, &mut eve, Ask::Send(send), unknown));
            let asked = conversation.clone();
            let history = wire::History { conversation: asked, ..Default::default() };
            told.push(refused(&server, &mut eve, Ask::History(history), unknown));
            let mark = wire::Mark { conversation, seq: 1, uncounted: 0 };
            eve.wire.ask(0, Ask::Delivered(wire::Delivered { marks: vec![mark.clone()] }));
            eve.wire.ask(0, Ask::Read(wire::Read { marks: vec![mark] }));
        }
        // What is others' looks like what is not there.
        assert_eq!(told[..3], told[3..]);
        let Told::Sync(sync) = eve.ask(Ask::Sync(wire::Sync::default())) else { panic!("no sync") };
        assert!(sync.entries.iter().all(|entry| entry.head == 0), "{sync:?}");
        let history = wire::History { user: "ann".to_owned(), ..Default::default() };
        refused(&server, &mut eve, Ask::History(history), unknown);
        let send = wire::Send { first: false, ..message("ann", 1, b"hello") };
        refused(&server, &mut eve, Ask::Send(send), unknown);
        bystanders.are_unharmed();
        bystanders.saw_no_receipts();
    }

    fn more_requests_than_may_be_in_flight(driver) {
        let server = Setup::new(driver).config("limits.requests_in_flight_max = 1\n").start();
        let mut bystanders = Bystanders::new(&server);
        let mut device = Device::sign_in(&server, "eve");
        let before = server.metric(REFUSALS);
        let mut asked = Vec::new();
        for request_id in 100..300 {
            encode::client(request_id, Ask::Sync(wire::Sync::default()), &mut asked);
        }
        device.wire.write(&asked);
        let mut answers = BTreeMap::new();
        while answers.len() < 200 {
            let frame = device.wire.next().expect("the connection goes on");
            let code = match frame.body {
                Some(Told::Sync(_)) => None,
                Some(Told::Error(error)) => {
                    assert_eq!(error.class(), wire::ErrorClass::ClassRetry);
                    Some(error.code())
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(answers.insert(frame.request_id, code), None, "answered once");
        }
        let refused = answers.values().filter(|code| code.is_some()).count();
        assert!(refused > 0 && refused < 200, "{refused} of 200");
        let all = answers.values().flatten();
        assert!(all.into_iter().all(|code| *code == ErrorCode::ErrorTooManyInFlight));
        server.metric_rises(REFUSALS, before);
        // What was answered is no longer in flight, and a notice never was.
        for request_id in 0..20 {
            device.wire.ask(request_id, Ask::Activity(wire::Activity::default()));
        }
        device.wire.is_alive();
        bystanders.are_unharmed();
    }

    fn a_device_that_never_reads_what_is_pushed(driver) {
        let config = "limits.send_queue_bytes = 163840\nlimits.send_queues_bytes = 1048576\n\
                      limits.send_stall_timeout_ms = 1000\n";
        let server = Setup::new(driver).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        let mut deaf = Wire::narrow(server.tcp);
        deaf.ask(1, Ask::Hello(hello(&server.token("deaf"), 1, 1)));
        let mut deaf = Device::welcomed(deaf);
        let mut loud = Device::sign_in(&server, "loud");
        let before = peak_bytes(&server);
        let mut sent = 0;
        while sent < 150 {
            sent += 1;
            loud.send(message("deaf", sent, &[b'x'; 65_536]));
            if sent % 50 == 0 {
                bystanders.chat();
            }
        }
        server.metric_rises("roost_behind_total", 0);
        server.metric_rises("roost_pushes_dropped_total", 0);
        server.metric_rises(TOO_SLOW, 0);
        deaf.wire.ends();
        assert!(peak_bytes(&server) - before < 32 * MIB, "{before} {}", peak_bytes(&server));
        bystanders.are_unharmed();
        // It comes back and has lost nothing.
        let mut deaf = Device::sign_in_as(&server, "deaf", 1, 2);
        let history = deaf.history("loud");
        assert_eq!(u64::try_from(history.len()).unwrap(), sent);
    }

    fn a_device_that_is_behind_is_told_when_it_reads_again(driver) {
        let config = "limits.send_queue_bytes = 163840\nlimits.send_queues_bytes = 1048576\n\
                      limits.send_stall_timeout_ms = 60000\n";
        let server = Setup::new(driver).config(config).start();
        let mut slow = Wire::narrow(server.tcp);
        slow.ask(1, Ask::Hello(hello(&server.token("slow"), 1, 1)));
        let mut slow = Device::welcomed(slow);
        let mut loud = Device::sign_in(&server, "loud");
        let mut sent = 0;
        while server.metric("roost_behind_total") == 0 {
            sent += 1;
            loud.send(message("slow", sent, &[b'x'; 65_536]));
            assert!(sent < 1000, "all of it went somewhere");
        }
        let mut seen = 0;
        loop {
            match slow.push() {
                Told::Message(message) => {
                    assert_eq!(message.seq, seen + 1, "pushes come in order");
                    seen = message.seq;
                }
                Told::Behind(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(seen < sent);
        assert_eq!(u64::try_from(slow.history("loud").len()).unwrap(), sent);
    }

    fn a_device_that_asks_and_never_reads(driver) {
        let config = "limits.send_queue_bytes = 163840\nlimits.send_queues_bytes = 1048576\n\
                      limits.send_stall_timeout_ms = 1000\n";
        let server = Setup::new(driver).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        let mut deaf = Wire::narrow(server.tcp);
        deaf.ask(1, Ask::Hello(hello(&server.token("deaf"), 1, 1)));
        let mut deaf = Device::welcomed(deaf);
        for number in 1..=4 {
            deaf.send(message("bob", number, &[b'x'; 60_000]));
        }
        let before = peak_bytes(&server);
        let mut asks = Vec::new();
        let page = wire::History { user: "bob".to_owned(), ..Default::default() };
        for request_id in 100..150 {
            encode::client(request_id, Ask::History(page.clone()), &mut asks);
        }
        deaf.wire.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        // Until the server reads no more, or has cut it off.
        let mut rounds = 0;
        while rounds < 20_000 && deaf.wire.try_write(&asks) {
            rounds += 1;
        }
        assert!(rounds < 20_000, "the server reads on and on");
        server.metric_rises("roost_paused_total", 0);
        server.metric_rises(TOO_SLOW, 0);
        deaf.wire.ends();
        assert!(peak_bytes(&server) - before < 48 * MIB, "{before} {}", peak_bytes(&server));
        bystanders.are_unharmed();
    }

    fn many_that_ask_and_never_read_do_not_cost_others_their_connection(driver) {
        let config = "limits.send_queue_bytes = 163840\nlimits.send_queues_bytes = 1048576\n\
                      limits.send_stall_timeout_ms = 60000\n\
                      limits.requests_in_flight_max = 8\n";
        let server = Setup::new(driver).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        let mut writer = Device::sign_in(&server, "deaf");
        for number in 1..=4 {
            writer.send(message("bob", number, &[b'x'; 60_000]));
        }
        let mut asks = Vec::new();
        let page = wire::History { user: "bob".to_owned(), ..Default::default() };
        for request_id in 100..160 {
            encode::client(request_id, Ask::History(page.clone()), &mut asks);
        }
        let before = peak_bytes(&server);
        let mut crowd = Vec::new();
        for round in 0..8 {
            for device in 2..=9 {
                let mut deaf = Wire::narrow(server.tcp);
                let token = server.token("deaf");
                deaf.ask(1, Ask::Hello(hello(&token, device, round + 1)));
                let mut deaf = Device::welcomed(deaf).wire;
                deaf.write(&asks);
                crowd.push(deaf);
            }
            bystanders.chat();
        }
        // Those in the way are cut off, if anybody is.
        assert!(peak_bytes(&server) - before < 48 * MIB, "{before} {}", peak_bytes(&server));
        bystanders.are_unharmed();
    }

    fn pages_asked_for_all_at_once_are_prepared_a_few_at_a_time(driver) {
        // Those who are read last wait for all others, through windows of a few KiB: nothing may be
        // too slow.
        let config = "limits.send_stall_timeout_ms = 600000\n\
                      limits.unacknowledged_timeout_ms = 0\n\
                      limits.heartbeat_foreground_ms = 240000\n";
        let server = Setup::new(driver).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        let mut writer = Device::sign_in(&server, "eager");
        for number in 1..=2 {
            writer.send(message("bob", number, &[b'x'; 60_000]));
        }
        let page = wire::History { user: "bob".to_owned(), ..Default::default() };
        let mut asks = Vec::new();
        for request_id in 100..150 {
            encode::client(request_id, Ask::History(page.clone()), &mut asks);
        }
        let before = peak_bytes(&server);
        let mut crowd = Vec::new();
        for device in 2..=10 {
            let mut wire = Wire::narrow(server.tcp);
            wire.ask(1, Ask::Hello(hello(&server.token("eager"), device, 1)));
            let mut eager = Device::welcomed(wire);
            eager.wire.write(&asks);
            crowd.push(eager.wire);
        }
        // All have as many pages as the server prepares for them, and read none.
        bystanders.are_unharmed();
        server.metric_becomes("roost_history_pages_total", |pages| pages > 18);
        bystanders.are_unharmed();
        let (after, asked) = (peak_bytes(&server), 9 * 50 * 120_000);
        assert!(after - before < asked / 4, "{before} became {after}");
        // They read after all: nothing was dropped.
        for mut wire in crowd {
            let mut answered = Vec::new();
            while answered.len() < 50 {
                let frame = wire.next().expect("a page");
                // Who lets so much wait may miss a hint, and is told so.
                if let Some(Told::DevicesChanged(_) | Told::Behind(_)) = frame.body {
                    continue;
                }
                let Some(Told::History(page)) = frame.body else { panic!("no page: {frame:?}") };
                assert_eq!(page.messages.len(), 2);
                answered.push(frame.request_id);
            }
            answered.sort_unstable();
            assert_eq!(answered, (100..150).collect::<Vec<_>>());
            wire.is_alive();
        }
    }

    fn when_all_send_queues_together_are_full_the_log_says_so(driver) {
        let config = "limits.send_queue_bytes = 1048576\nlimits.send_queues_bytes = 1048576\n";
        let server = Setup::new(driver).shards(1).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        let mut writer = Device::sign_in(&server, "deaf");
        for number in 1..=2 {
            writer.send(message("bob", number, &[b'x'; 60_000]));
        }
        let page = wire::History { user: "bob".to_owned(), ..Default::default() };
        let mut asks = Vec::new();
        for request_id in 100..160 {
            encode::client(request_id, Ask::History(page.clone()), &mut asks);
        }
        let mut crowd = Vec::new();
        for device in 2..=4 {
            let mut deaf = Wire::narrow(server.tcp);
            deaf.ask(1, Ask::Hello(hello(&server.token("deaf"), device, 1)));
            let mut deaf = Device::welcomed(deaf).wire;
            deaf.write(&asks);
            crowd.push(deaf);
        }
        let line = server.logs("limits.send_queues_bytes");
        assert!(line.contains("WARN") && line.contains("limit_bytes=1048576"), "{line}");
        bystanders.are_unharmed();
    }

    fn one_connection_more_than_there_may_be_is_told_to_come_back_later(driver) {
        let server = Setup::new(driver).shards(1).config("limits.connections_max = 3\n").start();
        let mut first = Device::sign_in(&server, "first");
        let mut bystanders = Bystanders::new(&server);
        let fourth = || {
            let mut fourth = Wire::open(server.tcp);
            fourth.ask(1, Ask::Hello(hello(&server.token("fourth"), 1, 1)));
            fourth
        };
        for _ in 0..20 {
            let (request_id, error) = fourth().refused_hello();
            assert_eq!((error.code(), request_id), (ErrorCode::ErrorOverloaded, 1));
            assert!((5_000..=15_000).contains(&error.retry_after_ms), "{error:?}");
        }
        let line = server.logs("limits.connections_max");
        assert!(line.contains("WARN") && line.contains("limit=3"), "{line}");
        first.wire.is_alive();
        first.leave();
        server.metric_becomes("roost_connections_open", |open| open == 2);
        Device::welcomed(fourth()).wire.is_alive();
        bystanders.are_unharmed();
    }

    fn a_device_takes_over_its_session_also_when_there_is_no_room(driver) {
        let server = Setup::new(driver).shards(1).config("limits.connections_max = 3\n").start();
        let mut bystanders = Bystanders::new(&server);
        let mut device = Device::sign_in_as(&server, "ann2", 1, 1);
        for connection in 2..40 {
            // The old connection is still there, for all the server knows.
            let next = Device::sign_in_as(&server, "ann2", 1, connection);
            let mut before = std::mem::replace(&mut device, next);
            before.wire.ends_with(ErrorCode::ErrorReplaced);
            // Another device of the same user takes over nothing.
            let mut other = Wire::open(server.tcp);
            other.ask(1, Ask::Hello(hello(&server.token("ann2"), 2, connection)));
            assert_eq!(other.refused_hello().1.code(), ErrorCode::ErrorOverloaded);
        }
        device.wire.is_alive();
        bystanders.are_unharmed();
        server.metric_becomes("roost_connections_open", |open| open == 3);
        server.metric_becomes("roost_replaced_total", |count| count == 38);
        server.metric_becomes("roost_refused_full_total", |count| count == 38);
    }

    fn sessions_are_counted_whatever_shard_they_come_by(driver) {
        let server = Setup::new(driver).shards(2).config("limits.connections_max = 2\n").start();
        // A place for a user at home on each shard; everybody else is one too many.
        let (mut held, mut number) = (Vec::new(), 0);
        while held.len() < 2 {
            number += 1;
            let user = format!("user {number}");
            let mut wire = Wire::open(server.tcp);
            wire.ask(1, Ask::Hello(hello(&server.token(&user), 1, 1)));
            match wire.next().expect("an answer").body {
                Some(Told::Welcome(_)) => held.push((user, wire)),
                Some(Told::Error(error)) => assert_eq!(error.code(), ErrorCode::ErrorOverloaded),
                other => panic!("{other:?}"),
            }
        }
        for connection in 2..30 {
            for (user, wire) in &mut held {
                let next = Device::sign_in_as(&server, user, 1, connection).wire;
                std::mem::replace(wire, next).ends_with(ErrorCode::ErrorReplaced);
            }
            let mut stranger = Wire::open(server.tcp);
            stranger.ask(1, Ask::Hello(hello(&server.token("stranger"), 1, connection)));
            assert_eq!(stranger.refused_hello().1.code(), ErrorCode::ErrorOverloaded);
        }
        server.metric_becomes("roost_sessions", |sessions| sessions == 2);
        server.metric_becomes("roost_welcomed_total", |welcomed| welcomed == 2 + 2 * 28);
        let welcomed = server.metric_by_shard("roost_welcomed_total");
        assert!(welcomed.iter().all(|count| *count > 0), "by both shards: {welcomed:?}");
        assert_eq!(server.metric_by_shard("roost_sessions"), [1, 1]);
        held.iter_mut().for_each(|(_, wire)| wire.is_alive());
        server.metric_becomes("roost_connections_open", |open| open == 2);
    }

    fn whoever_is_told_no_and_stays_takes_nobodys_place(driver) {
        let server = Setup::new(driver).shards(1).config("limits.connections_max = 3\n").start();
        let mut bystanders = Bystanders::new(&server);
        // They hear what they are told, and do not go.
        let told = |count| {
            let refused = (0..count).map(|_| {
                let mut wire = Wire::silent(server.tcp);
                wire.write(b"nonsense");
                wire.ends_with(ErrorCode::ErrorBadPreface);
                wire
            });
            refused.collect::<Vec<Wire>>()
        };
        let some = told(4);
        let mut third = Device::sign_in(&server, "third");
        let many = told(40);
        for connection in 2..20 {
            third = Device::sign_in_as(&server, "third", 1, connection);
        }
        third.wire.is_alive();
        bystanders.are_unharmed();
        server.metric_becomes("roost_sessions", |sessions| sessions == 3);
        drop((some, many));
        server.metric_becomes("roost_connections_open", |open| open == 3);
    }

    fn the_limit_is_reached_and_told_also_beside_another_listener(driver) {
        let config = "limits.connections_max = 60\n";
        let server = Setup::new(driver).with_tls().shards(1).config(config).start();
        let mut crowd = sign_in_many(&server, 60);
        let mut late = Wire::open(server.tcp);
        late.ask(1, Ask::Hello(hello(&server.token("late"), 1, 1)));
        assert_eq!(late.refused_hello().1.code(), ErrorCode::ErrorOverloaded);
        crowd.iter_mut().for_each(Wire::is_alive);
    }

    fn who_is_silent_where_there_is_no_room_keeps_others_waiting_for_a_while_only(driver) {
        let config = "limits.connections_max = 2\nlimits.hello_timeout_ms = 2000\n";
        let server = Setup::new(driver).shards(1).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        let silent: Vec<Wire> = (0..16).map(|_| Wire::silent(server.tcp)).collect();
        let line = server.logs("limits.connections_max");
        assert!(line.contains("limit=2"), "{line}");
        let mut late = Wire::open(server.tcp);
        late.ask(1, Ask::Hello(hello(&server.token("late"), 1, 1)));
        assert_eq!(late.refused_hello().1.code(), ErrorCode::ErrorOverloaded);
        drop(silent);
        bystanders.are_unharmed();
    }

    fn ten_thousand_connections_with_half_a_frame_each(driver) {
        let turn = MANY_SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        let config = "limits.half_frame_pool_bytes = 4194304\n\
                      limits.half_frame_timeout_ms = 120000\n\
                      limits.heartbeat_foreground_ms = 240000\n\
                      limits.hello_timeout_ms = 120000\n";
        let server = Setup::new(driver).config(config).start();
        let mut bystanders = Bystanders::new(&server);
        let mut crowd = sign_in_many(&server, connections_max());
        bystanders.chat();
        let before = peak_bytes(&server);
        let mut half = Vec::new();
        roost_protocol::varint::write(u32::try_from(FRAME_MAX_BYTES).unwrap(), &mut half);
        half.resize(FRAME_MAX_BYTES / 2, 0x12);
        let mut taken = 0;
        for (index, wire) in crowd.iter_mut().enumerate() {
            wire.stream().set_write_timeout(Some(PATIENCE)).unwrap();
            taken += u64::from(wire.try_write(&half));
            if index % 500 == 0 {
                bystanders.chat();
            }
        }
        bystanders.are_unharmed();
        server.metric_rises(TOO_SLOW, 0);
        let (after, held) = (peak_bytes(&server), taken * u64::try_from(half.len()).unwrap());
        // Two pools, what is on its way, and the allocator's share.
        assert!(after - before < 64 * MIB, "{before} became {after}");
        assert!(held > 256 * MIB, "{held} bytes sent would not show a leak");
        // The server lets go of nearly all of them: two pools hold some sixty.
        server.metric_becomes("roost_connections_open", |open| open < 100);
        drop(crowd);
        bystanders.are_unharmed();
        drop(turn);
    }
}

/// Ten thousand, or as many as this process may have: a socket is a descriptor here and there.
pub(crate) fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let descriptors = limit.current.and_then(|max| usize::try_from(max).ok());
    descriptors.map_or(10_000, |max| max.saturating_sub(1_000).min(10_000))
}

/// Welcomed connections: ten devices of each user.
fn sign_in_many(server: &Server, count: usize) -> Vec<Wire> {
    let mut crowd = Vec::with_capacity(count);
    for first in (0..count).step_by(500) {
        let group: Vec<usize> = (first..count.min(first + 500)).collect();
        let mut wires: Vec<Wire> = Vec::new();
        let mut token = String::new();
        for index in group {
            if index % 10 == 0 {
                token = server.token(&format!("user {}", index / 10));
            }
            let mut wire = Wire::open(server.tcp);
            let device = u128::try_from(index).unwrap() + 1;
            wire.ask(1, Ask::Hello(hello(&token, device, 1)));
            wires.push(wire);
        }
        for wire in wires {
            crowd.push(Device::welcomed(wire).wire);
        }
    }
    crowd
}
