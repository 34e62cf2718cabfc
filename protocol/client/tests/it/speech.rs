//! What the devices of the random tests say: each write holds its tag, whatever its form.

use crate::hand::{group, user};
use crate::server::{USERS, device_id};
use bytes::Bytes;
use roost_client::Event;
use roost_protocol::ids::Sequence;
use roost_protocol::request::{Ciphertext, Content, CreateGroup, DeviceVersion};
use roost_protocol::wire::{self, message, send};

/// What a write with this tag says.
pub(crate) fn text_of(tag: u64) -> String {
    format!("text {tag}")
}

/// Every form of a write in turn; `version` is that of the device lists.
pub(crate) fn content_of(tag: u64, version: u64) -> Content {
    let (seq, body) = (Sequence(1), Bytes::from(text_of(tag)));
    match tag % 6 {
        0 | 1 => Content::Body(body),
        2 => Content::Edit { seq, body },
        3 => Content::Reaction { seq, reaction: text_of(tag) },
        4 => Content::Forward { conversation: group(), seq, body },
        _ => to_devices(&body, version),
    }
}

fn to_devices(body: &Bytes, version: u64) -> Content {
    let ciphertexts = USERS.iter().enumerate().map(|(device, name)| Ciphertext {
        user: user(name),
        device: device_id(device),
        body: body.clone(),
    });
    let of = |name: &str| DeviceVersion { user: user(name), version };
    Content::ToDevices {
        ciphertexts: ciphertexts.collect(),
        key_message: false,
        versions: vec![of("ann"), of("bob")],
    }
}

pub(crate) fn new_group(tag: u64) -> CreateGroup {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&tag.to_be_bytes());
    let (name, picture, members) = (text_of(tag), String::new(), vec![]);
    CreateGroup { nonce, name, picture, members, channel: false }
}

/// What a stored write says.
pub(crate) fn text_in(content: &send::Content) -> String {
    let body = match content {
        send::Content::Body(body) => body.clone(),
        send::Content::Edit(edit) => edit.body.clone(),
        send::Content::Reaction(reaction) => Bytes::from(reaction.reaction.clone()),
        send::Content::Forward(forward) => forward.body.clone(),
        send::Content::ToDevices(all) => all.ciphertexts[0].body.clone(),
        other => panic!("nobody says {other:?}"),
    };
    String::from_utf8(body.to_vec()).unwrap()
}

/// What a device was shown: the place, and what it says.
pub(crate) fn text_shown(event: &Event) -> (u64, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match event {
        Event::Message { seq, body, .. } => (seq.0, text(body)),
        Event::Record { record, .. } => (record.seq, text_of_record(record)),
        other => panic!("no record: {other:?}"),
    }
}

fn text_of_record(record: &wire::Message) -> String {
    match &record.content {
        Some(message::Content::Edit(edit)) => String::from_utf8(edit.body.to_vec()).unwrap(),
        Some(message::Content::Reaction(reaction)) => reaction.reaction.clone(),
        other => panic!("nobody says {other:?}"),
    }
}
