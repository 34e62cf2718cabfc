//! A small server of two users and three devices: numbers, history, sync, some settings. It answers
//! late, loses connections, refuses at random, and may forget what it never made durable.

use crate::hand::{WALL, id_bytes};
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, DeviceId, MessageId};
use roost_protocol::wire::send::Content;
use roost_protocol::wire::{self, ErrorCode, client_frame, server_frame::Body};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A stored write.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) sender: usize,
    pub(crate) client_message_id: u64,
    pub(crate) message_id: u64,
    pub(crate) content: Content,
}

/// What a conversation remembers of a device's writes.
#[derive(Debug, Clone, Default)]
struct Writer {
    last: u64,
    /// Id and seq of the last ones.
    recent: VecDeque<(u64, u64)>,
    newest_connection: u64,
}

pub(crate) struct Server {
    pub(crate) log: Vec<Stored>,
    writers: BTreeMap<usize, Writer>,
    numbers: BTreeMap<usize, u64>,
    pub(crate) delivered: BTreeMap<usize, u64>,
    pub(crate) store: u64,
    pub(crate) run: u64,
    pub(crate) wall: u64,
    /// How many more sends are refused, with this code.
    pub(crate) refusing: Option<(ErrorCode, u32)>,
    /// Of both users' device lists.
    pub(crate) devices_version: u64,
    /// Until when the conversation is muted, as each device said, in the order taken.
    pub(crate) muted: Vec<(usize, u64)>,
    pub(crate) groups: BTreeSet<Bytes>,
}

/// Users by device: the first two are ann's.
pub(crate) const USERS: [&str; 3] = ["ann", "ann", "bob"];
/// A page is small, so that there are many.
const PAGE: usize = 3;
/// How many writes are remembered by id, and so how many may be unanswered. Few, so that a backup
/// is soon too old for it.
const RECENT: usize = 3;

pub(crate) fn the_conversation() -> ConversationId {
    ConversationId::from_u128(0xabc1)
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            log: Vec::new(),
            writers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            delivered: BTreeMap::new(),
            store: 5,
            run: 1,
            wall: WALL,
            refusing: None,
            devices_version: 1,
            muted: Vec::new(),
            groups: BTreeSet::new(),
        }
    }

    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// Answers one frame of a device; `number` is its connection's.
    pub(crate) fn answer(
        &mut self,
        device: usize,
        number: u64,
        body: client_frame::Body,
    ) -> Option<Body> {
        match body {
            client_frame::Body::Hello(hello) => Some(self.hello(device, hello.connection_number)),
            client_frame::Body::Send(send) => Some(self.send(device, number, &send)),
            client_frame::Body::Sync(sync) => Some(self.sync(device, sync.cursor)),
            client_frame::Body::History(history) => Some(self.history(device, &history)),
            client_frame::Body::Delivered(delivered) => {
                for mark in delivered.marks {
                    let held = self.delivered.entry(device).or_default();
                    *held = mark.seq.max(*held);
                }
                None
            }
            asked => self.asked(device, number, asked),
        }
    }

    /// What is no message; a connection that is not the newest changes nothing.
    fn asked(&mut self, device: usize, number: u64, asked: client_frame::Body) -> Option<Body> {
        if self.numbers.get(&device).is_some_and(|newest| number < *newest) {
            return Some(error(ErrorCode::ErrorStaleConnection, |_| ()));
        }
        match asked {
            client_frame::Body::SetConversation(set) => {
                self.muted.push((device, set.muted_until_ms.unwrap_or_default()));
                Some(Body::Done(wire::Done {}))
            }
            client_frame::Body::CreateGroup(group) => {
                let mut id = [2; 16];
                id[..8].copy_from_slice(&group.nonce[..8]);
                self.groups.insert(group.nonce);
                let conversation = Bytes::copy_from_slice(&id);
                Some(Body::GroupCreated(wire::GroupCreated { conversation, head: 0 }))
            }
            client_frame::Body::ListDevices(_) => {
                Some(Body::DeviceList(wire::DeviceList::default()))
            }
            _ => None,
        }
    }

    fn hello(&mut self, device: usize, number: u64) -> Body {
        let highest = self.numbers.entry(device).or_default();
        if number <= *highest {
            let expected = *highest + 1;
            return error(ErrorCode::ErrorConnectionSuperseded, |error| {
                error.expected_connection_number = expected;
            });
        }
        *highest = number;
        Body::Welcome(wire::Welcome {
            server_time_ms: self.wall,
            store_incarnation: self.store,
            server_run: self.run,
            limits: Some(wire::Limits { unanswered_writes_max: 3, ..wire::Limits::default() }),
            ..crate::hand::welcome()
        })
    }

    fn send(&mut self, device: usize, number: u64, send: &wire::Send) -> Body {
        let head = self.head();
        let by_user = !send.user.is_empty();
        if self.log.is_empty() && !(by_user && send.first) {
            return error(ErrorCode::ErrorUnknownConversation, |_| ());
        }
        let wall = self.wall;
        let writer = self.writers.entry(device).or_default();
        if number < writer.newest_connection {
            return error(ErrorCode::ErrorStaleConnection, |_| ());
        }
        writer.newest_connection = number;
        let known = writer.recent.iter().find(|(id, _)| *id == send.client_message_id);
        let expected = writer.last + 1;
        if let Some((_, seq)) = known {
            let seq = *seq;
            return self.accepted(seq, by_user);
        }
        if send.client_sequence < expected {
            return error(ErrorCode::ErrorSequenceConflict, |error| {
                error.expected_sequence = expected;
                error.head = head;
            });
        }
        if send.client_sequence > expected {
            return error(ErrorCode::ErrorGap, |error| error.expected_sequence = expected);
        }
        if let Some((code, left)) = self.refusing.take() {
            if left > 1 {
                self.refusing = Some((code, left - 1));
            }
            return error(code, |error| error.retry_after_ms = 5);
        }
        let versions = self.devices_version;
        if send.device_versions.iter().any(|of| of.version != versions) {
            return error(ErrorCode::ErrorDevicesChanged, |error| {
                error.devices = send.device_versions.clone();
                error.devices.iter_mut().for_each(|of| of.version = versions);
            });
        }
        writer.last = expected;
        writer.recent.push_back((send.client_message_id, head + 1));
        if writer.recent.len() > RECENT {
            writer.recent.pop_front();
        }
        self.log.push(Stored {
            sender: device,
            client_message_id: send.client_message_id,
            message_id: MessageId::from_parts(wall, 1, 1).0,
            content: send.content.clone().unwrap(),
        });
        self.accepted(head + 1, by_user)
    }

    fn accepted(&self, seq: u64, by_user: bool) -> Body {
        let conversation = if by_user { id_bytes(the_conversation()) } else { Bytes::new() };
        let message_id = self.log[seq as usize - 1].message_id;
        Body::Send(wire::SendReply { message_id, seq, conversation, ..Default::default() })
    }

    fn sync(&self, device: usize, cursor: u64) -> Body {
        let entries = if cursor < self.head() { vec![self.entry(device)] } else { vec![] };
        Body::Sync(wire::SyncReply { entries, cursor: self.head(), more: false })
    }

    fn entry(&self, device: usize) -> wire::Entry {
        wire::Entry {
            conversation: id_bytes(the_conversation()),
            peer: if USERS[device] == "ann" { "bob".to_owned() } else { "ann".to_owned() },
            head: self.head(),
            ..wire::Entry::default()
        }
    }

    fn history(&self, device: usize, asked: &wire::History) -> Body {
        if self.log.is_empty() {
            return error(ErrorCode::ErrorUnknownConversation, |_| ());
        }
        let limit = PAGE.min(asked.limit.unwrap_or(50) as usize);
        let seqs: Vec<u64> = match (asked.before, asked.after) {
            (_, Some(after)) => (after + 1..=self.head()).collect(),
            (before, None) => (1..before.unwrap_or(u64::MAX).min(self.head() + 1)).rev().collect(),
        };
        let more = seqs.len() > limit;
        let page = &seqs[..limit.min(seqs.len())];
        Body::History(wire::HistoryReply {
            messages: page.iter().map(|seq| self.message(device, *seq)).collect(),
            more,
            head: self.head(),
            next: page.last().copied().filter(|_| more).unwrap_or(0),
            conversation: if asked.user.is_empty() {
                Bytes::new()
            } else {
                id_bytes(the_conversation())
            },
            ..wire::HistoryReply::default()
        })
    }

    fn message(&self, device: usize, seq: u64) -> wire::Message {
        let stored = &self.log[seq as usize - 1];
        let own = USERS[device] == USERS[stored.sender];
        wire::Message {
            seq,
            message_id: stored.message_id,
            client_message_id: if own { stored.client_message_id } else { 0 },
            content: seen_by(device, &stored.content),
            ..wire::Message::default()
        }
    }

    pub(crate) fn push(&self, device: usize, seq: u64) -> Body {
        let conversation = id_bytes(the_conversation());
        Body::Message(wire::Message { conversation, ..self.message(device, seq) })
    }

    /// Begins again from a copy that is older by some messages.
    pub(crate) fn restore(&mut self, length: usize) {
        self.log.truncate(length);
        self.store += 1;
        self.restart();
        for (device, writer) in &mut self.writers {
            writer.recent.retain(|(_, seq)| *seq <= length as u64);
            let own = self.log.iter().filter(|stored| stored.sender == *device);
            writer.last = own.count() as u64;
        }
        self.delivered.clear();
    }

    pub(crate) fn restart(&mut self) {
        self.run += 1;
        for writer in self.writers.values_mut() {
            writer.newest_connection = 0;
        }
    }
}

/// The id of a device.
pub(crate) fn device_id(device: usize) -> DeviceId {
    DeviceId([device as u8 + 1; 16])
}

/// What a device is told of a write.
fn seen_by(device: usize, content: &Content) -> Option<wire::message::Content> {
    use wire::message::Content as C;
    Some(match content.clone() {
        Content::Body(body) => C::Body(body),
        Content::Edit(edit) => C::Edit(edit),
        Content::Delete(delete) => C::Delete(delete),
        Content::Reaction(reaction) => C::Reaction(reaction),
        Content::Forward(forward) => C::Forward(forward),
        Content::ToDevices(all) => {
            let own = device_id(device).0;
            C::Ciphertext(all.ciphertexts.into_iter().find(|one| one.device == own[..])?)
        }
        Content::GroupChange(_) => unreachable!("this is no group"),
    })
}

fn error(code: ErrorCode, fill: impl FnOnce(&mut wire::Error)) -> Body {
    let class = roost_protocol::error::class(code).into();
    let mut error = wire::Error { code: code.into(), class, ..wire::Error::default() };
    fill(&mut error);
    Body::Error(error)
}
