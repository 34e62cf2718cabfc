//! What only the wire shows: a notification extension beside its app, connections that share what
//! their user may, and a deletion for all as a record.

use crate::device::{Device, Wire, body_of, hello, message};
use crate::roost::{Server, Setup, on_both_drivers, waits_until};
use bytes::Bytes;
use roost_protocol::error::name;
use roost_protocol::wire::client_frame::Body as Ask;
use roost_protocol::wire::send::Content;
use roost_protocol::wire::server_frame::Body as Told;
use roost_protocol::wire::{self, ErrorCode};

/// Burst of a connection's sends where they are shared, beyond which the share is seen.
const RATES: &str = "limits.sends_burst = 4\nlimits.user_sends_per_second = 2\n\
    limits.connection_sends_per_second = 1000000\n";

#[track_caller]
fn extension(server: &Server, user: &str, connection: u64) -> Device {
    let mut wire = Wire::open(server.tcp);
    let role = wire::Role::Extension.into();
    let hello = wire::Hello { role, ..hello(&server.token(user), 1, connection) };
    wire.ask(1, Ask::Hello(hello));
    Device::welcomed(wire)
}

/// The next push of this kind, others left out.
#[track_caller]
fn pushed(device: &mut Device, is_it: impl Fn(&Told) -> bool) -> Told {
    loop {
        let told = device.push();
        if is_it(&told) {
            return told;
        }
    }
}

#[track_caller]
fn is_online(device: &mut Device, user: &str) -> bool {
    let look = wire::QueryPresence { users: vec![user.to_owned()], ..Default::default() };
    match device.ask(Ask::QueryPresence(look)) {
        Told::PresenceReply(found) => found.presences[0].online,
        other => panic!("{other:?}"),
    }
}

/// The delay after which the sends of a connection are taken again, as it is told behind one that
/// was taken: the longer the machine took for that, the shorter it is.
#[track_caller]
fn delay_ms(device: &mut Device, to: &str) -> u32 {
    let (mut is_taken, mut delay_ms) = (false, None);
    waits_until("one is refused behind one that is taken", || {
        match device.ask(Ask::Send(message(to, 1, b"quick"))) {
            Told::Send(_) => is_taken = true,
            Told::Error(error) => {
                assert_eq!(name(error.code()), name(ErrorCode::ErrorRateLimited));
                delay_ms = is_taken.then_some(error.retry_after_ms);
            }
            other => panic!("{other:?}"),
        }
        delay_ms.is_some()
    });
    delay_ms.unwrap()
}

on_both_drivers! {
    fn an_extension_fetches_and_acknowledges_and_nothing_else(driver) {
        let server = Setup::new(driver).config("limits.presence_debounce_ms = 0\n").start();
        let mut ann = Device::sign_in(&server, "ann");
        let bob = Device::sign_in(&server, "bob");
        let sent = ann.send(message("bob", 1, b"one"));
        let id = sent.conversation;
        bob.leave();
        // The end of a connection is noticed when it is; no clock says when.
        waits_until("bob is gone", || !is_online(&mut ann, "bob"));
        // It comes while the app is away, and is nobody in front of anything.
        let mut first = extension(&server, "bob", 2);
        assert!(!is_online(&mut ann, "bob"));
        let history = first.history("ann");
        assert_eq!(history.iter().map(body_of).collect::<Vec<_>>(), [b"one"]);
        let mark = wire::Mark { conversation: id, seq: 1, uncounted: 0 };
        first.wire.ask(0, Ask::Delivered(wire::Delivered { marks: vec![mark.clone()] }));
        let receipts = pushed(&mut ann, |told| matches!(told, Told::Receipts(_)));
        let Told::Receipts(receipts) = receipts else { unreachable!("it was looked for") };
        assert_eq!((receipts.receipts[0].delivered, receipts.receipts[0].read), (1, 0));
        // What an app would do is refused, or not heard.
        let forbidden = ErrorCode::ErrorForbidden;
        let asks = [
            Ask::Send(message("ann", 1, b"no")),
            Ask::Block(wire::Block { user: "ann".to_owned(), unblock: false }),
            Ask::ListDevices(wire::ListDevices {}),
        ];
        for ask in asks {
            assert_eq!(name(first.refused(ask).code()), name(forbidden));
        }
        first.wire.ask(0, Ask::Read(wire::Read { marks: vec![mark] }));
        first.wire.ask(0, Ask::Activity(wire::Activity::default()));
        first.wire.is_alive();
        assert!(!is_online(&mut ann, "bob"));
        // A second one takes its place; the app comes beside it, and only the app gets pushes.
        let mut second = extension(&server, "bob", 3);
        assert_eq!(first.wire.ends(), Some(ErrorCode::ErrorReplaced));
        let mut app = Device::sign_in_as(&server, "bob", 1, 4);
        ann.send(message("bob", 2, b"two"));
        let told = pushed(&mut app, |told| matches!(told, Told::Message(_)));
        let Told::Message(told) = told else { unreachable!("it was looked for") };
        assert_eq!(body_of(&told), b"two");
        second.wire.ask(77, Ask::Sync(wire::Sync::default()));
        let frame = second.wire.next().unwrap();
        assert_eq!(frame.request_id, 77, "nothing was pushed to it: {frame:?}");
        let Some(Told::Sync(reply)) = frame.body else { panic!("{:?}", frame.body) };
        assert_eq!((reply.entries[0].head, reply.entries[0].read), (2, 0));
        app.wire.is_alive();
    }

    fn connections_of_a_user_share_what_the_user_may(driver) {
        let server = Setup::new(driver).config(RATES).start();
        let mut alone = Device::sign_in(&server, "ann");
        let alone_ms = delay_ms(&mut alone, "bob");
        assert!(alone_ms <= 500, "two a second: {alone_ms}");
        // A second device of another user: each may half as much, as soon as it is told of the
        // other one; then only it may have to wait for more than half a second.
        let mut phone = Device::sign_in_as(&server, "carol", 1, 1);
        let mut tablet = Device::sign_in_as(&server, "carol", 2, 1);
        for device in [&mut phone, &mut tablet] {
            waits_until("one a second", || {
                let shared_ms = delay_ms(device, "bob");
                assert!(shared_ms <= 1_000, "one a second: {shared_ms}");
                shared_ms > 500
            });
        }
        // When one has gone the other may all of it again.
        tablet.leave();
        waits_until("it shares with nobody", || delay_ms(&mut phone, "bob") <= 500);
    }

    fn a_deletion_for_all_is_a_record_and_takes_the_body_from_nobody_twice(driver) {
        let server = Setup::new(driver).start();
        let mut ann = Device::sign_in(&server, "ann");
        let mut bob = Device::sign_in(&server, "bob");
        let id = ann.send(message("bob", 1, b"oh no")).conversation;
        let write = |number, content| wire::Send {
            user: String::new(),
            conversation: id.clone(),
            content: Some(content),
            ..message("", number, b"")
        };
        let delete = || Content::Delete(wire::Delete { seq: 1 });
        // Not by who did not write it, and not what is no message.
        let code = bob.refused(Ask::Send(write(1, delete()))).code();
        assert_eq!(name(code), name(ErrorCode::ErrorForbidden));
        let nothing = Content::Delete(wire::Delete { seq: 9 });
        let code = ann.refused(Ask::Send(write(2, nothing))).code();
        assert_eq!(name(code), name(ErrorCode::ErrorNotFound));
        let deleted = ann.send(write(2, delete()));
        assert_eq!((deleted.seq, deleted.uncounted), (2, 1));
        // Sent again it is the same, and nobody is told twice.
        assert_eq!(ann.send(write(2, delete())), deleted);
        let told = pushed(&mut bob, |told| {
            matches!(told, Told::Message(message) if message.seq == 2)
        });
        let Told::Message(told) = told else { unreachable!("it was looked for") };
        let expected = wire::message::Content::Delete(wire::Delete { seq: 1 });
        assert_eq!(told.content, Some(expected.clone()));
        let (next, body) = (Bytes::from_static(b"after"), Bytes::from_static(b"after"));
        ann.send(write(3, Content::Body(next)));
        let Told::Message(after) = pushed(&mut bob, |told| matches!(told, Told::Message(_))) else {
            unreachable!("it was looked for")
        };
        assert_eq!((after.seq, body_of(&after)), (3, &*body));
        // A device that comes late finds the record, in its place.
        let mut late = Device::sign_in_as(&server, "bob", 2, 1);
        let history = late.history("ann");
        let found = history.iter().find(|message| message.seq == 2).unwrap();
        assert_eq!(found.content, Some(expected));
        let entry = match late.ask(Ask::Sync(wire::Sync::default())) {
            Told::Sync(reply) => reply.entries[0].clone(),
            other => panic!("no sync: {other:?}"),
        };
        assert_eq!((entry.head, entry.head_uncounted), (3, 1));
    }
}
