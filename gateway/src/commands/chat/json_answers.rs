//! Answers as JSON: one line each, named by what it holds. What has nothing to hold is `done`.

use super::json::line_of;
use super::json_records::{self, MemberLine, RecordLine};
use super::shown::Eyes;
use roost_client::Answer;
use roost_protocol::ids::{ConversationId, DeviceId, MessageId, Sequence};
use roost_protocol::wire::{self, Audience, ConversationKind};
use serde::Serialize;

/// What an answer is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub(super) command: &'static str,
    pub(super) conversation: Option<ConversationId>,
    pub(super) seq: Option<Sequence>,
}

#[derive(Debug, Default, Serialize)]
struct AnswerLine {
    event: &'static str,
    command: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Info>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<Vec<DeviceLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    privacy: Option<PrivacyLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<EntryLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<MemberLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipts: Option<Vec<ReceiptLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presences: Option<Vec<PresenceLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<RecordLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

/// What others may learn, as it is set.
#[derive(Debug, Serialize)]
struct PrivacyLine {
    presence: &'static str,
    contacts_only: bool,
    read_receipts: bool,
}

/// What an audience is called.
pub(super) const fn audience(audience: Audience) -> &'static str {
    match audience {
        Audience::Everyone => "everyone",
        Audience::Contacts => "contacts",
        Audience::Nobody => "nobody",
    }
}

#[derive(Debug, Serialize)]
struct Info {
    kind: &'static str,
    name: String,
    picture: String,
    member_count: u32,
    own: Option<MemberLine>,
}

#[derive(Debug, Serialize)]
struct DeviceLine {
    device: String,
    this: bool,
    name: String,
    client: String,
    registered_ms: u64,
    last_seen_ms: u64,
    connected: bool,
}

/// An entry of the list.
#[derive(Debug, Serialize)]
struct EntryLine {
    conversation: String,
    kind: &'static str,
    title: String,
    peer: String,
    head: u64,
    read: u64,
    unread: u64,
    time_ms: u64,
    member: u32,
    muted_until_ms: u64,
    archived: bool,
    pinned: u32,
    request: bool,
    left: bool,
    hidden: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct ReceiptLine {
    member: u32,
    user: Option<String>,
    delivered: u64,
    delivered_at_ms: u64,
    read: u64,
    read_at_ms: u64,
}

#[derive(Debug, Serialize)]
struct PresenceLine {
    user: String,
    online: bool,
    last_seen_ms: u64,
}

/// The line of an answer.
pub(super) fn answer(about: &About, answer: &Answer, eyes: &Eyes<'_>) -> String {
    let mut line = AnswerLine {
        command: about.command,
        conversation: about.conversation.map(|id| id.to_string()),
        seq: about.seq.map(|seq| seq.0),
        ..AnswerLine::default()
    };
    match answer {
        Answer::Done => line.event = "done",
        Answer::Devices(list) => {
            line.event = "devices";
            line.version = Some(list.version);
            let device = |device| device_line(device, eyes.device);
            line.devices = Some(list.devices.iter().map(device).collect());
        }
        Answer::Blocks(list) => {
            (line.event, line.more) = ("blocks", Some(list.more));
            line.users = Some(list.users.clone());
            line.privacy = list.privacy.as_ref().map(|privacy| PrivacyLine {
                presence: audience(privacy.presence()),
                contacts_only: privacy.contacts_only(),
                read_receipts: privacy.read_receipts(),
            });
        }
        Answer::Conversations(list) => {
            (line.event, line.more) = ("list", Some(list.more));
            let entry = |entry| entry_line(entry, unread(entry), eyes);
            line.entries = Some(list.entries.iter().filter_map(entry).collect());
        }
        Answer::GroupCreated { conversation, head } => {
            line.event = "group_created";
            line.conversation = Some(conversation.to_string());
            line.head = Some(head.0);
        }
        Answer::Description(description) => {
            (line.event, line.head) = ("info", Some(description.head));
            line.info = Some(info(description));
        }
        Answer::Members(list) => {
            (line.event, line.more) = ("members", Some(list.more));
            line.members = Some(list.members.iter().map(json_records::member).collect());
        }
        Answer::Receipts(reply) => {
            (line.event, line.more) = ("receipts", Some(reply.more));
            let receipt = |receipt| receipt_line(receipt, about, eyes);
            line.receipts = Some(reply.members.iter().map(receipt).collect());
        }
        Answer::Presence(reply) => {
            line.event = "presence";
            line.presences = Some(reply.presences.iter().map(presence_line).collect());
        }
        Answer::History(page) => {
            (line.event, line.more) = ("history", Some(page.more));
            line.head = Some(page.head);
            let id = about.conversation.unwrap_or(ConversationId::from_u128(0));
            let record = |message| json_records::record(&eyes.record(id, message));
            line.messages = Some(page.messages.iter().map(record).collect());
        }
        // Only asked by us, for ourselves.
        Answer::UserDevices(_) => return String::new(),
    }
    line_of(&line)
}

/// The line for users who came or went.
pub(super) fn presences(presences: &[wire::Presence]) -> String {
    line_of(&AnswerLine {
        event: "presence",
        command: "/watch",
        presences: Some(presences.iter().map(presence_line).collect()),
        ..AnswerLine::default()
    })
}

/// The line for an entry that changed.
pub(super) fn entry(entry: &wire::Entry, unread: u64, eyes: &Eyes<'_>) -> String {
    #[derive(Serialize)]
    struct Line {
        event: &'static str,
        #[serde(flatten)]
        entry: EntryLine,
    }
    let line = entry_line(entry, unread, eyes).map(|entry| Line { event: "entry", entry });
    line.map(|line| line_of(&line)).unwrap_or_default()
}

/// What is unread by an entry alone.
pub(super) const fn unread(entry: &wire::Entry) -> u64 {
    let head = entry.head.saturating_sub(entry.head_uncounted);
    let read = entry.read.saturating_sub(entry.read_uncounted);
    if entry.request { 0 } else { head.saturating_sub(read) }
}

/// What a kind is called.
pub(super) const fn kind(kind: ConversationKind) -> &'static str {
    match kind {
        ConversationKind::KindDirect => "direct",
        ConversationKind::KindGroup => "group",
        ConversationKind::KindChannel => "channel",
    }
}

fn entry_line(entry: &wire::Entry, unread: u64, eyes: &Eyes<'_>) -> Option<EntryLine> {
    let id = ConversationId::from_slice(&entry.conversation)?;
    Some(EntryLine {
        conversation: id.to_string(),
        kind: kind(entry.kind()),
        title: if entry.peer.is_empty() { eyes.names.title(id) } else { entry.peer.clone() },
        peer: entry.peer.clone(),
        head: entry.head,
        read: entry.read,
        unread,
        time_ms: MessageId(entry.last_message_id).wall_ms(),
        member: entry.member,
        muted_until_ms: entry.muted_until_ms,
        archived: entry.archived,
        pinned: entry.pinned,
        request: entry.request,
        left: entry.left,
        hidden: entry.hidden.clone(),
    })
}

fn info(description: &wire::ConversationDescription) -> Info {
    Info {
        kind: kind(description.kind()),
        name: description.name.clone(),
        picture: description.picture.clone(),
        member_count: description.member_count,
        own: description.own.as_ref().map(json_records::member),
    }
}

fn device_line(device: &wire::Device, own: Option<DeviceId>) -> DeviceLine {
    DeviceLine {
        device: device_text(&device.device),
        this: own.is_some_and(|own| own.0[..] == device.device[..]),
        name: device.name.clone(),
        client: device.client.clone(),
        registered_ms: device.registered_ms,
        last_seen_ms: device.last_seen_ms,
        connected: device.connected,
    }
}

/// The id of a device as `/sign-out` takes it.
pub(super) fn device_text(id: &[u8]) -> String {
    <[u8; 16]>::try_from(id).map(|id| format!("{:?}", DeviceId(id))).unwrap_or_default()
}

fn receipt_line(receipt: &wire::MemberReceipt, about: &About, eyes: &Eyes<'_>) -> ReceiptLine {
    let who = about.conversation.and_then(|id| eyes.names.member(id, receipt.member));
    ReceiptLine {
        member: receipt.member,
        user: who.map(str::to_owned),
        delivered: receipt.delivered,
        delivered_at_ms: receipt.delivered_at_ms,
        read: receipt.read,
        read_at_ms: receipt.read_at_ms,
    }
}

fn presence_line(presence: &wire::Presence) -> PresenceLine {
    PresenceLine {
        user: presence.user.clone(),
        online: presence.online,
        last_seen_ms: presence.last_seen_ms,
    }
}
