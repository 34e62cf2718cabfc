//! The golden vectors: these bytes mean this, for ever.
//!
//! The files in `protocol/vectors` are their own source. To add a vector, write what goes in
//! (for a frame: name, direction, message) and run the tests with `ROOST_WRITE_VECTORS=1`: what
//! is missing is filled in, what is there is never changed, only compared.

use crate::schema::{Schema, Used, hex, unhex};
use prost::Message;
use roost_protocol::error;
use roost_protocol::frame::{self, Cut};
use roost_protocol::ids::{ConversationId, DeviceId, KeyKind, MessageId, UserId, UserKey};
use roost_protocol::preface::{self, Preface};
use roost_protocol::request::{self, Request};
use roost_protocol::varint::{self, Varint};
use roost_protocol::wire::{self, ErrorCode};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

const FRAME_MAX_BYTES: usize = roost_protocol::limits::FRAME_MAX_BYTES;

/// A vector of `frames.json`.
pub(crate) struct FrameVector {
    /// What it shows.
    pub(crate) name: String,
    /// Sent by a device, not by the server.
    pub(crate) from_client: bool,
    /// Encoding the meaning gives these bytes again.
    pub(crate) canonical: bool,
    /// The whole frame with its length.
    pub(crate) frame: Vec<u8>,
    /// The fields that are set; null for a heartbeat.
    message: Value,
}

/// All vectors of frames.
pub(crate) fn frames() -> Vec<FrameVector> {
    let file = read("frames.json");
    let text = |entry: &Value, key: &str| entry[key].as_str().map(str::to_owned);
    list(&file, "frames")
        .iter()
        .map(|entry| FrameVector {
            name: text(entry, "name").expect("a name"),
            from_client: {
                assert!(entry["direction"] == "client" || entry["direction"] == "server");
                entry["direction"] == "client"
            },
            canonical: entry["canonical"].as_bool().unwrap_or(true),
            frame: text(entry, "frame").map_or_else(Vec::new, |frame| unhex(&frame)),
            message: entry["message"].clone(),
        })
        .collect()
}

/// All vectors of frames that are refused.
pub(crate) fn refused() -> Vec<Vec<u8>> {
    let file = read("refusals.json");
    list(&file, "refusals").iter().map(|entry| unhex(string(&entry["frame"]))).collect()
}

#[test]
fn the_files_are_whole() {
    complete("frames.json", |_, entry, vectors| {
        let from_client = entry["direction"] == "client";
        if !entry.contains_key("frame") {
            let message = &entry["message"];
            let frame = encode(vectors, from_client, message, &mut Used::new());
            entry.insert("frame".into(), hex(&frame).into());
        }
    });
    complete("refusals.json", |_, entry, vectors| {
        if !entry.contains_key("frame") {
            let frame = encode(vectors, true, &entry["message"], &mut Used::new());
            entry.insert("frame".into(), hex(&frame).into());
        }
    });
    complete("keys.json", |section, entry, _| fill_key(section, entry));
    complete("message_ids.json", |_, entry, _| {
        let number = |key: &str| entry[key].as_u64().and_then(|n| u16::try_from(n).ok());
        let id = MessageId::from_parts(
            number64(&entry["wall_ms"]),
            number("generator").expect("10 bits"),
            number("sequence").expect("12 bits"),
        );
        entry.entry("message_id").or_insert(id.0.to_string().into());
    });
    complete("framing.json", |_, _, _| ());
    complete("preface.json", |_, _, _| ());
}

#[test]
fn frames_encode_to_their_bytes_and_decode_to_their_meaning() {
    let schema = Schema::read();
    let mut names = BTreeSet::new();
    for vector in frames() {
        let name = &vector.name;
        assert!(names.insert(name.clone()), "{name} is there twice");
        let encoded = encode(&schema, vector.from_client, &vector.message, &mut Used::new());
        assert_eq!(encoded == vector.frame, vector.canonical, "{name}: {}", hex(&encoded));
        match frame::cut(&vector.frame, FRAME_MAX_BYTES) {
            Ok(Cut::Heartbeat) => assert_eq!(vector.message, Value::Null, "{name}"),
            Ok(Cut::Frame { content, consumed }) => {
                assert_eq!(consumed, vector.frame.len(), "{name}");
                let Ok(Cut::Frame { content: expected, .. }) =
                    frame::cut(&encoded, FRAME_MAX_BYTES)
                else {
                    assert_eq!(encoded, [0], "{name}: nothing known remains");
                    continue;
                };
                if vector.from_client {
                    same::<wire::ClientFrame>(name, content, expected, vector.canonical);
                } else {
                    same::<wire::ServerFrame>(name, content, expected, vector.canonical);
                }
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// What prost makes of a vector's bytes is what it makes of the meaning's bytes, and goes back
/// to exactly those.
fn same<M: Message + Default + PartialEq + Debug>(
    name: &str,
    bytes: &[u8],
    meant: &[u8],
    whole: bool,
) {
    let decoded = M::decode(bytes).expect(name);
    let expected = M::decode(meant).expect(name);
    assert_eq!(decoded, expected, "{name}");
    assert_eq!(hex(&expected.encode_to_vec()), hex(meant), "{name}");
    if whole {
        assert_eq!(hex(bytes), hex(meant), "{name}");
    }
}

#[test]
fn every_field_and_every_value_has_a_vector() {
    let schema = Schema::read();
    let mut used = Used::new();
    for vector in frames() {
        encode(&schema, vector.from_client, &vector.message, &mut used);
    }
    // What is 0 is not written, so no vector can show it by name unless the field is optional.
    let silent = |value: &String| {
        ["ERROR_UNSPECIFIED", "ROLE_MAIN", "ACTIVITY_FOREGROUND", "CLASS_NEVER", "KIND_DIRECT"]
            .iter()
            .chain(["MEMBER_ROLE_MEMBER", "PUSH_NONE"].iter())
            .any(|silent| value.ends_with(&format!(".{silent}")))
    };
    let missing: Vec<String> =
        schema.everything().difference(&used).filter(|v| !silent(v)).cloned().collect();
    assert!(missing.is_empty(), "no vector uses {missing:?}");
}

#[test]
fn errors_carry_the_class_of_the_table() {
    for vector in frames() {
        let Some(error) = vector.message.get("error") else { continue };
        let Some(code) = error["code"].as_str().and_then(ErrorCode::from_str_name) else {
            continue;
        };
        let class = error["class"].as_str().unwrap_or("CLASS_NEVER");
        assert_eq!(class, error::class(code).as_str_name(), "{}", vector.name);
        let name = format!("error_{}", error::name(code));
        assert!(vector.name.starts_with(&name), "{} is no {name}", vector.name);
    }
}

#[test]
fn what_is_served_is_taken_and_all_else_is_unimplemented() {
    for vector in frames().iter().filter(|v| v.from_client && v.message != Value::Null) {
        let Ok(Cut::Frame { content, .. }) = frame::cut(&vector.frame, FRAME_MAX_BYTES) else {
            panic!("{} is a frame", vector.name)
        };
        let body = vector.message.as_object().and_then(|m| m.keys().find(|k| *k != "request_id"));
        let body = body.map_or("none", String::as_str);
        let expected = match body {
            "set_push_token" | "set_quiet_hours" => "unimplemented",
            "publish_keys" | "fetch_keys" | "create_upload" | "create_download" => "unimplemented",
            "none" if vector.message.get("request_id").is_none() => "ignored",
            "none" => "unimplemented",
            // It shows the fields, of which a request may have one.
            "history" if vector.name == "history_by_time" => "invalid_request",
            _ => "taken",
        };
        let decoded = request::decode(content).unwrap();
        let id = vector.message.get("request_id").and_then(Value::as_u64).unwrap_or(0);
        assert_eq!(u64::from(decoded.request_id), id, "{}", vector.name);
        match decoded.body {
            Ok(Request::IgnoredNotice) => assert_eq!(expected, "ignored", "{}", vector.name),
            Ok(_) => assert_eq!(expected, "taken", "{}", vector.name),
            Err(refusal) => assert_eq!(expected, error::name(refusal.code), "{}", vector.name),
        }
    }
}

#[test]
fn what_is_refused_for_what_it_says_gets_its_code() {
    let (schema, mut names) = (Schema::read(), BTreeSet::new());
    for entry in list(&read("refusals.json"), "refusals") {
        let (name, bytes) = (string(&entry["name"]), unhex(string(&entry["frame"])));
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        let encoded = encode(&schema, true, &entry["message"], &mut Used::new());
        assert_eq!(hex(&encoded), hex(&bytes), "{name}");
        let Ok(Cut::Frame { content, .. }) = frame::cut(&bytes, FRAME_MAX_BYTES) else {
            panic!("{name} is a frame")
        };
        let decoded = request::decode(content).unwrap();
        let id = entry["message"].get("request_id").and_then(Value::as_u64).unwrap_or(0);
        assert_eq!(u64::from(decoded.request_id), id, "{name}");
        let refusal = decoded.body.expect_err(name);
        assert_eq!(error::name(refusal.code), string(&entry["code"]), "{name}: {}", refusal.text);
    }
}

#[test]
fn two_vectors_by_hand() {
    let named = |name: &str| {
        let vector = frames().into_iter().find(|v| v.name == name).expect("is there");
        vector.frame[1..].to_vec()
    };
    let push = wire::ServerFrame::decode(named("example_11_bob_message").as_slice()).unwrap();
    let Some(wire::server_frame::Body::Message(message)) = push.body else { panic!("a message") };
    let key = |user: &str| UserId::new(user).unwrap().key("");
    let conversation = ConversationId::direct(key("ann"), key("bob"));
    assert_eq!(push.request_id, 0);
    assert_eq!(message.conversation.as_ref(), conversation.to_bytes());
    assert_eq!((message.seq, message.uncounted, message.client_message_id), (1, 0, 0));
    assert_eq!(MessageId(message.message_id), MessageId::from_parts(1_767_225_661_000, 3, 0));
    assert_eq!(message.content, Some(wire::message::Content::Body(b"hello bob"[..].into())));

    let gap = wire::ServerFrame::decode(named("error_gap").as_slice()).unwrap();
    let Some(wire::server_frame::Body::Error(error)) = gap.body else { panic!("an error") };
    assert_eq!(
        (gap.request_id, error.code(), error.expected_sequence),
        (17, ErrorCode::ErrorGap, 22)
    );
}

#[test]
fn keys_are_derived_as_ever() {
    let file = read("keys.json");
    for section in ["users", "direct", "groups", "devices", "partitions"] {
        for entry in list(&file, section) {
            let mut inputs = entry.as_object().expect("an object").clone();
            for output in ["id", "partition", "kind"] {
                inputs.remove(output);
            }
            if section == "users" {
                inputs.remove("key");
            }
            fill_key(section, &mut inputs);
            assert_eq!(Value::Object(inputs), *entry);
        }
    }
    for entry in list(&file, "invalid_users") {
        assert!(UserId::new(string(&entry["user"])).is_err(), "{entry}");
    }
}

fn fill_key(section: &str, entry: &mut Map<String, Value>) {
    let key = |entry: &Map<String, Value>, name: &str| UserKey::from_bytes(id(&entry[name]));
    let (name, bytes) = match section {
        "users" => {
            let user = UserId::new(string(&entry["user"])).expect("a valid user id");
            ("key", user.key(string(&entry["tenant"])).to_bytes())
        }
        "direct" => {
            let id = ConversationId::direct(key(entry, "one"), key(entry, "other"));
            ("id", id.to_bytes())
        }
        "groups" => {
            let channel = entry["channel"].as_bool().expect("a bool");
            let id = ConversationId::group(key(entry, "creator"), id(&entry["nonce"]), channel);
            ("id", id.to_bytes())
        }
        "devices" => ("id", DeviceId::named(string(&entry["name"])).0),
        "partitions" => ("key", id(&entry["key"])),
        "invalid_users" => return,
        other => unreachable!("keys.json has no section {other}"),
    };
    entry.entry(name).or_insert(hex(&bytes).into());
    if section != "devices" {
        let key = UserKey::from_bytes(bytes);
        let kind = match key.kind() {
            KeyKind::User => "user",
            KeyKind::Direct => "direct",
            KeyKind::Group => "group",
            KeyKind::Channel => "channel",
        };
        entry.entry("kind").or_insert(kind.into());
        entry.entry("partition").or_insert(key.partition().into());
    }
}

#[test]
fn message_ids_hold_their_time() {
    let file = read("message_ids.json");
    for entry in list(&file, "message_ids") {
        let id = MessageId(number64(&entry["message_id"]));
        assert_eq!(id.wall_ms(), number64(&entry["wall_ms"]), "{entry}");
        assert_eq!(Some(id.0 >> 12 & 0x3ff), entry["generator"].as_u64(), "{entry}");
        assert_eq!(Some(id.0 & 0xfff), entry["sequence"].as_u64(), "{entry}");
    }
}

#[test]
fn lengths_and_streams_are_cut_as_they_say() {
    let file = read("framing.json");
    for entry in list(&file, "lengths") {
        let bytes = unhex(string(&entry["bytes"]));
        match varint::read(&bytes) {
            Varint::Value { value, bytes: taken } => {
                assert_eq!(Some(u64::from(value)), entry["value"].as_u64(), "{entry}");
                assert_eq!(Some(taken as u64), entry["takes"].as_u64(), "{entry}");
            }
            Varint::Incomplete => assert_eq!(entry["error"], "incomplete", "{entry}"),
            Varint::Invalid => assert_eq!(entry["error"], "invalid", "{entry}"),
        }
    }
    for entry in list(&file, "streams") {
        let limit = usize::try_from(entry["frame_max_bytes"].as_u64().expect("a limit")).unwrap();
        let (mut reader, mut cut, mut error) = (frame::FrameReader::new(), Vec::new(), Value::Null);
        for chunk in entry["chunks"].as_array().expect("chunks") {
            reader.push(&unhex(string(chunk)));
            loop {
                match reader.next_frame(limit) {
                    Ok(Some(frame)) => cut.push(Value::from(hex(frame))),
                    Ok(None) => break,
                    Err(frame::FrameError::TooLarge { .. }) => error = "frame_too_large".into(),
                    Err(frame::FrameError::InvalidLength) => error = "malformed_frame".into(),
                }
                if error != Value::Null {
                    break;
                }
            }
        }
        assert_eq!(Value::Array(cut), entry["frames"], "{entry}");
        assert_eq!(error, *entry.get("error").unwrap_or(&Value::Null), "{entry}");
        if error == Value::Null {
            assert_eq!(Some(reader.pending_bytes() as u64), entry["pending"].as_u64(), "{entry}");
        }
    }
}

#[test]
fn prefaces_are_judged_as_they_say() {
    for entry in list(&read("preface.json"), "prefaces") {
        let result = match preface::check(&unhex(string(&entry["bytes"]))) {
            Preface::Valid => "valid",
            Preface::Incomplete => "incomplete",
            Preface::UnsupportedVersion(_) => "unsupported_version",
            Preface::Invalid => "bad_preface",
        };
        assert_eq!(entry["result"], result, "{entry}");
    }
}

#[test]
fn the_worked_example_is_made_of_vectors() {
    let page = include_str!("../../PROTOCOL.md");
    let squeezed: String = page.split_whitespace().collect();
    for vector in frames().iter().filter(|v| v.name.starts_with("example_")) {
        assert!(page.contains(&format!("`{}`", vector.name)), "{} is not shown", vector.name);
        assert!(squeezed.contains(&hex(&vector.frame)), "{}: {}", vector.name, hex(&vector.frame));
    }
}

#[test]
fn the_page_names_every_message_code_and_file() {
    let page = include_str!("../../PROTOCOL.md");
    for used in Schema::read().everything() {
        let (owner, name) = used.split_once('.').expect("two parts");
        let named = match owner {
            "ErrorCode" => name.trim_start_matches("ERROR_").to_lowercase(),
            _ => owner.to_owned(),
        };
        assert!(page.contains(&format!("`{named}`")), "PROTOCOL.md does not name {named}");
    }
    for entry in std::fs::read_dir(folder()).expect("the vectors") {
        let name = entry.expect("a file").file_name().into_string().expect("UTF-8");
        assert!(page.contains(&format!("vectors/{name}")), "PROTOCOL.md does not list {name}");
    }
}

fn encode(schema: &Schema, from_client: bool, message: &Value, used: &mut Used) -> Vec<u8> {
    if *message == Value::Null {
        return vec![frame::HEARTBEAT];
    }
    let name = if from_client { "ClientFrame" } else { "ServerFrame" };
    let content = schema.encode(name, message, used);
    let mut out = Vec::new();
    varint::write(u32::try_from(content.len()).expect("short"), &mut out);
    out.extend(content);
    out
}

/// Fills in what a file lacks, and compares or, when asked to, writes it.
fn complete(name: &str, fill: impl Fn(&str, &mut Map<String, Value>, &Schema)) {
    let schema = Schema::read();
    let mut file = read(name);
    for (section, entries) in file.as_object_mut().expect("an object of sections") {
        for entry in entries.as_array_mut().into_iter().flatten() {
            fill(section, entry.as_object_mut().expect("entries are objects"), &schema);
        }
    }
    let (path, text) = (folder().join(name), render(&file));
    if std::env::var_os("ROOST_WRITE_VECTORS").is_some() {
        std::fs::write(&path, &text).expect("the vectors are writable");
    }
    let there = std::fs::read_to_string(&path).expect("the file is there");
    assert!(
        there == text,
        "{name} lacks something: run the_files_are_whole with ROOST_WRITE_VECTORS=1"
    );
}

/// One line for each vector, names first, so that a difference is read line by line.
fn render(file: &Value) -> String {
    let sections = file.as_object().expect("an object of sections");
    let mut parts = Vec::new();
    for (section, entries) in sorted(sections) {
        let content = match entries.as_array() {
            None => entries.to_string(),
            Some(entries) => {
                let lines: Vec<String> = entries.iter().map(line).collect();
                format!("[\n{}\n]", lines.join(",\n"))
            }
        };
        parts.push(format!("{}: {content}", Value::from(section.as_str())));
    }
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

fn line(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let pairs = sorted(object).into_iter();
            let pairs = pairs.map(|(key, value)| format!("\"{key}\": {}", line(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(line).collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

fn sorted(object: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut pairs: Vec<_> = object.iter().collect();
    let first = ["about", "name", "request_id", "direction", "code", "canonical"];
    pairs.sort_by_key(|(key, _)| {
        (first.iter().position(|name| name == key).unwrap_or(first.len()), key.as_str())
    });
    pairs
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).expect("the file is there");
    serde_json::from_str(&text).expect("JSON")
}

fn list<'a>(file: &'a Value, section: &str) -> &'a [Value] {
    file[section].as_array().expect("a list of vectors")
}

fn string(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn number64(value: &Value) -> u64 {
    string(value).parse().expect("a decimal")
}

fn id(value: &Value) -> [u8; 16] {
    unhex(string(value)).try_into().expect("16 bytes")
}
