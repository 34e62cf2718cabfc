//! A session driven by hand: frames in, frames out.

use bytes::Bytes;
use roost_client::{
    Command, Config, Credential, Event, Input, Output, Peer, PersistId, Restored, Session,
};
use roost_protocol::encode;
use roost_protocol::frame::FrameReader;
use roost_protocol::ids::{ConversationId, Sequence, UserId};
use roost_protocol::preface::PREFACE;
use roost_protocol::request::{Ask, Content};
use roost_protocol::time::{Duration, Instant, Now, Timestamp};
use roost_protocol::wire::{self, client_frame::Body, server_frame};

use prost::Message;

/// When a hand-driven test begins, in milliseconds since 1970.
pub(crate) const WALL: u64 = 1_800_000_000_000;

pub(crate) struct Hand {
    pub(crate) session: Session,
    pub(crate) now: Now,
    /// Frames the session sent, oldest first.
    pub(crate) sent: Vec<(u32, Body)>,
    pub(crate) events: Vec<Event>,
    /// Every record, confirmed or not.
    pub(crate) records: Vec<Vec<u8>>,
    /// Not confirmed yet.
    pub(crate) unconfirmed: Vec<PersistId>,
    /// Confirm at once.
    pub(crate) durable: bool,
    pub(crate) connects: usize,
    pub(crate) disconnects: usize,
    pub(crate) tokens_needed: usize,
    pub(crate) heartbeats: usize,
    reader: FrameReader,
    preface: bool,
}

pub(crate) fn config() -> Config {
    Config::new("test/1", 7)
}

pub(crate) fn token() -> Credential {
    Credential::Token("token".to_owned())
}

impl Hand {
    pub(crate) fn new() -> Self {
        Self::with(config(), token(), Restored::default())
    }

    pub(crate) fn with(config: Config, credential: Credential, restored: Restored) -> Self {
        Self {
            session: Session::new(config, credential, restored),
            now: Now { monotonic: Instant::default(), wall: Timestamp { ms: WALL } },
            sent: Vec::new(),
            events: Vec::new(),
            records: Vec::new(),
            unconfirmed: Vec::new(),
            durable: true,
            connects: 0,
            disconnects: 0,
            tokens_needed: 0,
            heartbeats: 0,
            reader: FrameReader::new(),
            preface: false,
        }
    }

    /// The same device after its app was killed.
    pub(crate) fn restarted(&self) -> Self {
        let mut next = Self::with(config(), token(), self.restored());
        next.now = self.now;
        next
    }

    pub(crate) fn restored(&self) -> Restored {
        Restored::from_records(self.records.iter().map(Vec::as_slice)).unwrap()
    }

    pub(crate) fn feed(&mut self, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.session.handle(self.now, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Connect => {
                    self.connects += 1;
                    self.reader = FrameReader::new();
                    self.preface = false;
                }
                Output::Transmit(bytes) => self.transmitted(&bytes),
                Output::Disconnect => self.disconnects += 1,
                Output::Persist { id, record } => {
                    self.records.push(record);
                    self.unconfirmed.push(id);
                }
                Output::NeedToken => self.tokens_needed += 1,
                Output::Event(event) => self.events.push(event),
            }
        }
        if self.durable {
            self.confirm();
        }
    }

    /// Confirms every record.
    pub(crate) fn confirm(&mut self) {
        while let Some(id) = self.unconfirmed.pop() {
            self.unconfirmed.clear();
            self.feed(Input::Persisted(id));
        }
    }

    fn transmitted(&mut self, bytes: &[u8]) {
        let bytes = if self.preface {
            bytes
        } else {
            self.preface = true;
            bytes.strip_prefix(&PREFACE).expect("a connection begins with the preface")
        };
        self.reader.push(bytes);
        while let Some(frame) = self.reader.next_frame(300_000).unwrap() {
            if frame.is_empty() {
                self.heartbeats += 1;
                continue;
            }
            roost_protocol::request::decode(frame).unwrap().body.unwrap();
            let frame = wire::ClientFrame::decode(frame).unwrap();
            self.sent.push((frame.request_id, frame.body.unwrap()));
        }
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.feed(Input::Command(command));
    }

    pub(crate) fn say(&mut self, to: &Peer, text: &str, tag: u64) {
        let body = Bytes::copy_from_slice(text.as_bytes());
        self.command(Command::Send { to: to.clone(), body, tag });
    }

    /// Time passes, without a Tick.
    pub(crate) fn pass(&mut self, length: Duration) {
        self.now.monotonic = self.now.monotonic + length;
        self.now.wall.ms += length.as_ms();
    }

    /// Time passes to the next deadline; a Tick.
    pub(crate) fn tick(&mut self) {
        let due = self.session.next_deadline().expect("something is due");
        let length = due.since(self.now.monotonic);
        self.pass(length);
        self.feed(Input::Tick);
    }

    pub(crate) fn answer(&mut self, id: u32, body: server_frame::Body) {
        let mut bytes = Vec::new();
        encode::server(id, body, &mut bytes);
        self.feed(Input::Received(&bytes));
    }

    pub(crate) fn refuse(&mut self, id: u32, code: wire::ErrorCode) {
        self.error(id, wire::Error { code: code.into(), ..wire::Error::default() });
    }

    pub(crate) fn error(&mut self, id: u32, mut error: wire::Error) {
        error.class = roost_protocol::error::class(error.code()).into();
        self.answer(id, server_frame::Body::Error(error));
    }

    pub(crate) fn push(&mut self, body: server_frame::Body) {
        self.answer(0, body);
    }

    pub(crate) fn push_message(&mut self, seq: u64, text: &str) {
        self.push(server_frame::Body::Message(message(seq, text)));
    }

    /// Connected, welcomed and synced, with these entries.
    pub(crate) fn online(&mut self, entries: Vec<wire::Entry>) {
        self.welcomed(welcome());
        self.synced(1, entries);
    }

    pub(crate) fn welcomed(&mut self, welcome: wire::Welcome) {
        if self.connects == 0 {
            self.feed(Input::Start);
        }
        self.feed(Input::Connected);
        let (id, _) = self.take_hello();
        self.answer(id, server_frame::Body::Welcome(welcome));
    }

    /// Loses the connection and comes back to be welcomed.
    pub(crate) fn reconnect(&mut self, welcome: wire::Welcome) {
        self.feed(Input::Disconnected);
        self.sent.clear();
        self.tick();
        self.welcomed(welcome);
    }

    pub(crate) fn synced(&mut self, cursor: u64, entries: Vec<wire::Entry>) {
        let (id, _) = self.take_sync();
        let reply = wire::SyncReply { entries, cursor, more: false };
        self.answer(id, server_frame::Body::Sync(reply));
    }

    pub(crate) fn page(&mut self, messages: Vec<wire::Message>, head: u64) -> wire::History {
        let (id, asked) = self.take_history();
        let reply = wire::HistoryReply { messages, head, ..wire::HistoryReply::default() };
        self.answer(id, server_frame::Body::History(reply));
        asked
    }

    pub(crate) fn accept(&mut self, id: u32, seq: u64) {
        let message_id = message_id(seq);
        let reply = wire::SendReply { message_id, seq, ..wire::SendReply::default() };
        self.answer(id, server_frame::Body::Send(reply));
    }

    /// The frames that were not taken yet, and that this is about.
    pub(crate) fn taken(&mut self, is_it: impl Fn(&Body) -> bool) -> Vec<(u32, Body)> {
        self.sent.extract_if(.., |(_, body)| is_it(body)).collect()
    }

    pub(crate) fn write(&mut self, content: Content, tag: u64) {
        let (to, reply_to) = (Peer::Conversation(room()), Sequence(0));
        self.command(Command::Write { to, content, reply_to, tag });
    }

    pub(crate) fn ask(&mut self, ask: Ask, tag: u64) {
        self.command(Command::Ask { ask, tag });
    }

    /// What was answered: tags, and the codes of refusals.
    pub(crate) fn answers(&self) -> Vec<(u64, Option<wire::ErrorCode>)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Answer { tag, answer } => {
                    Some((*tag, answer.as_ref().as_ref().err().map(|refused| refused.code)))
                }
                _ => None,
            })
            .collect()
    }

    pub(crate) fn refusals(&self) -> Vec<(u64, wire::ErrorCode)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Refused { tag, code, .. } => Some((*tag, *code)),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Message { body, .. } => Some(String::from_utf8_lossy(body).into_owned()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn accepted(&self) -> Vec<(u64, u64)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Accepted { tag, seq, .. } => Some((*tag, seq.0)),
                _ => None,
            })
            .collect()
    }
}

macro_rules! take {
    ($name:ident, $variant:ident, $type:ty) => {
        impl Hand {
            /// The oldest frame of this kind that was not taken yet.
            pub(crate) fn $name(&mut self) -> (u32, $type) {
                let place =
                    self.sent.iter().position(|(_, body)| matches!(body, Body::$variant(_)));
                let Some(place) = place else {
                    panic!("no {} among {:?}", stringify!($variant), self.sent)
                };
                match self.sent.remove(place) {
                    (id, Body::$variant(taken)) => (id, taken),
                    _ => unreachable!(),
                }
            }
        }
    };
}

take!(take_hello, Hello, wire::Hello);
take!(take_sync, Sync, wire::Sync);
take!(take_send, Send, wire::Send);
take!(take_history, History, wire::History);
take!(take_delivered, Delivered, wire::Delivered);
take!(take_read, Read, wire::Read);
take!(take_refresh, Refresh, wire::Refresh);

pub(crate) fn welcome() -> wire::Welcome {
    wire::Welcome {
        ticket: Bytes::from_static(b"ticket"),
        ticket_expires_ms: WALL + 86_400_000,
        heartbeat_foreground_ms: 12_000,
        heartbeat_background_ms: 240_000,
        server_time_ms: WALL,
        store_incarnation: 11,
        server_run: 21,
        user: "ann".to_owned(),
        device: Bytes::from_static(&[1; 16]),
        limits: None,
    }
}

pub(crate) fn bob() -> Peer {
    Peer::User(UserId::new("bob").unwrap())
}

pub(crate) fn room() -> ConversationId {
    ConversationId::from_u128(0x10_01)
}

/// A group: the last two bits say so.
pub(crate) fn group() -> ConversationId {
    ConversationId::from_u128(0x20_02)
}

pub(crate) fn channel() -> ConversationId {
    ConversationId::from_u128(0x30_03)
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn id_bytes(id: ConversationId) -> Bytes {
    id.to_wire()
}

pub(crate) fn message_id(seq: u64) -> u64 {
    roost_protocol::ids::MessageId::from_parts(WALL + seq, 1, 1).0
}

pub(crate) fn entry(head: u64) -> wire::Entry {
    wire::Entry {
        conversation: id_bytes(room()),
        peer: "bob".to_owned(),
        head,
        ..wire::Entry::default()
    }
}

pub(crate) fn message(seq: u64, text: &str) -> wire::Message {
    wire::Message {
        conversation: id_bytes(room()),
        seq,
        message_id: message_id(seq),
        content: Some(wire::message::Content::Body(Bytes::copy_from_slice(text.as_bytes()))),
        ..wire::Message::default()
    }
}

pub(crate) fn messages(seqs: impl IntoIterator<Item = u64>) -> Vec<wire::Message> {
    seqs.into_iter().map(|seq| message(seq, &format!("m{seq}"))).collect()
}
