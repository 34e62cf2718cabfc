//! The bounds of every field of a request: what is just within is taken, what is just outside is
//! refused, and the text says which field and what its bound is.

mod asks;
mod writes;

use bytes::Bytes;
use prost::Message;
use roost_protocol::ids::{ConversationId, UserId, UserKey};
use roost_protocol::request::{self, Ask, Request};
use roost_protocol::wire::{self, ErrorCode, client_frame::Body};

fn ann() -> UserKey {
    UserId::new("ann").expect("a user id").key("")
}

fn direct() -> Bytes {
    let bob = UserId::new("bob").expect("a user id").key("");
    ConversationId::direct(ann(), bob).to_wire()
}

fn group() -> Bytes {
    ConversationId::group(ann(), [7; 16], false).to_wire()
}

fn channel() -> Bytes {
    ConversationId::group(ann(), [7; 16], true).to_wire()
}

fn a_user() -> Bytes {
    ann().to_wire()
}

fn asked(body: Body) -> Result<Request, (ErrorCode, &'static str)> {
    let frame = wire::ClientFrame { request_id: 7, body: Some(body) };
    let decoded = request::decode(&frame.encode_to_vec()).expect("a frame");
    decoded.body.map_err(|refusal| (refusal.code, refusal.text))
}

#[track_caller]
fn ask(body: Body) -> Ask {
    match asked(body) {
        Ok(Request::Ask(ask)) => ask,
        other => unreachable!("not an ask: {other:?}"),
    }
}

#[track_caller]
fn taken(body: Body) {
    asked(body).expect("within its bounds");
}

#[track_caller]
fn refused(body: Body, text: &'static str) {
    assert_eq!(asked(body), Err((ErrorCode::ErrorInvalidRequest, text)));
}

#[track_caller]
fn too_large(body: Body) {
    assert_eq!(asked(body), Err((ErrorCode::ErrorTooLarge, "a body has at most 65536 bytes")));
}

/// A list of users from the fewest to the most, and what is said about any other.
#[track_caller]
fn users(least: usize, most: usize, texts: [&'static str; 3], make: impl Fn(Vec<String>) -> Body) {
    let [count, id, twice] = texts;
    let people = |count: usize| (0..count).map(|number| format!("u{number}")).collect::<Vec<_>>();
    taken(make(people(least)));
    taken(make(people(most)));
    refused(make(people(most + 1)), count);
    if least > 0 {
        refused(make(people(least - 1)), count);
    }
    taken(make(vec!["u".repeat(64)]));
    for wrong in [String::new(), "u".repeat(65), "a\nb".into(), "a\u{9f}".into()] {
        refused(make(vec![wrong]), id);
    }
    if most > 1 {
        refused(make(vec!["bob".into(), "bob".into()]), twice);
    }
    if most > 2 {
        refused(make(vec!["bob".into(), "cat".into(), "bob".into()]), twice);
    }
}

/// A text from its fewest to its most bytes.
#[track_caller]
fn text(least: usize, most: usize, texts: [&'static str; 2], make: impl Fn(String) -> Body) {
    let [length, control] = texts;
    taken(make("é".repeat(most / 2)));
    taken(make("x".repeat(most)));
    taken(make("x".repeat(least)));
    refused(make("x".repeat(most + 1)), length);
    refused(make(format!("x{}", "é".repeat(most / 2))), length);
    if least > 0 {
        refused(make("x".repeat(least - 1)), length);
    }
    refused(make("a\u{7}b".into()), control);
    refused(make("a\u{85}b".into()), control);
}

/// A number of elements: 0 means the most.
#[track_caller]
fn limit(most: usize, text: &'static str, make: impl Fn(u32) -> Body, got: impl Fn(Ask) -> usize) {
    let number = u32::try_from(most).expect("a small number");
    assert_eq!(got(ask(make(0))), most);
    assert_eq!(got(ask(make(1))), 1);
    assert_eq!(got(ask(make(number))), most);
    refused(make(number + 1), text);
    refused(make(u32::MAX), text);
}

/// A field that names a conversation of certain kinds.
#[track_caller]
fn kinds(right: &[Bytes], text: &'static str, make: impl Fn(Bytes) -> Body) {
    for id in right {
        taken(make(id.clone()));
    }
    for id in [direct(), group(), channel(), a_user()] {
        if !right.contains(&id) {
            refused(make(id), text);
        }
    }
    id_of_16_bytes(make);
}

#[track_caller]
fn id_of_16_bytes(make: impl Fn(Bytes) -> Body) {
    for length in [1, 15, 17] {
        refused(make(vec![1; length].into()), "a conversation id has 16 bytes");
    }
}
