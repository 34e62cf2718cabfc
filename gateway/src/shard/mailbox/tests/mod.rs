//! Mailboxes driven by hand: the store of one shard on a simulated disk, and everybody else played
//! by the test.

mod blocks;
mod channels;
mod devices;
mod fan_out;
mod full;
mod groups;
mod lists;
mod presence;
mod recovery;
mod requests;
mod sharers;
mod versions;

use super::*;
use crate::ids::{EdgeId, ShardId};
use crate::limits::Limits;
use crate::shard::links::{Links, Token};
use crate::shard::message::{
    ActivityTold, Card, Deliver, Fresh, Gone, MailboxAsk, Message, OwnMarks, Point, ReadMark,
    Recipients, SyncAsk, ToConversation,
};
use bytes::Bytes;
use roost_protocol::encode::PushedMessage;
use roost_protocol::ids::{
    ClientMessageId, ConnectionNumber, ConversationId, DeviceId, MessageId, Sequence, UserId,
};
use roost_protocol::time::{Instant, Now, Timestamp};
use roost_protocol::wire::message::Content;
use roost_storage_engine::{Kill, OpenSettings, Settings, SimDisk, StoreEvent, open};
use std::sync::Arc;

/// When the world begins.
const START_MS: u64 = 1_800_000_000_000;

/// See the module's comment.
struct World {
    disk: SimDisk,
    ctx: Context,
    boxes: Mailboxes,
    limits: Limits,
    tick: u64,
    connections: u64,
    /// What conversations were told.
    told: Vec<ToConversation>,
    /// What connections were told, but for replies.
    edges: Vec<(EdgeAddress, ToEdge)>,
    replies: Vec<(EdgeAddress, u32, Reply)>,
    /// The log takes nothing that is not flushed by hand.
    held: bool,
    /// Debts of earlier runs that were told.
    retold: u64,
}

/// A user of that number.
fn user(n: u32) -> (UserKey, UserId) {
    let id = UserId::new(&format!("user-{n}")).unwrap();
    (id.key(""), id)
}

fn device(n: u8) -> DeviceId {
    DeviceId([n; 16])
}

/// The connection of a user's device.
fn edge(n: u32, device: u8) -> EdgeAddress {
    let slot = n * 256 + u32::from(device);
    EdgeAddress { shard: ShardId(0), edge: EdgeId { slot, generation: 1 } }
}

fn direct(one: u32, other: u32) -> ConversationId {
    ConversationId::direct(user(one).0, user(other).0)
}

fn group(n: u128) -> ConversationId {
    ConversationId::from_u128((n << 64) | 2)
}

fn channel(n: u128) -> ConversationId {
    ConversationId::from_u128((n << 64) | 3)
}

fn at(seq: u64) -> Point {
    Point { seq: Sequence(seq), uncounted: 0 }
}

fn card(one: u32, other: u32) -> Arc<Card> {
    let mut users = [user(one), user(other)];
    users.sort();
    Arc::new(Card::Direct(users))
}

fn message(conversation: ConversationId, seq: u64) -> PushedMessage {
    PushedMessage {
        conversation,
        seq: Sequence(seq),
        message_id: MessageId(seq),
        uncounted: 0,
        client_message_id: None,
        sender: 0,
        reply_to: Sequence(0),
        content: Content::Body(Bytes::from_static(b"hello")),
    }
}

fn fresh(conversation: ConversationId, seq: u64, sender: UserKey) -> Box<Fresh> {
    let message = message(conversation, seq);
    Box::new(Fresh {
        frame: message.to_frame().into(),
        message,
        ciphertexts: Vec::new(),
        sender,
        sender_edge: edge(u32::MAX / 256, 0),
        client_message_id: ClientMessageId(seq),
    })
}

/// A message of one user to another, for both.
fn said(from: u32, to: u32, seq: u64) -> Deliver {
    let conversation = direct(from, to);
    Deliver {
        conversation,
        card: card(from, to),
        recipients: Recipients::Two([user(from).0, user(to).0]),
        head: at(seq),
        message_id: MessageId(seq),
        own_marks: OwnMarks::One((user(from).0, at(seq))),
        memberships: Vec::new(),
        fresh: Some(fresh(conversation, seq, user(from).0)),
    }
}

impl World {
    fn new(limits: Limits) -> Self {
        let mut disk = SimDisk::new();
        let ctx = begin(&mut disk, &limits);
        Self {
            disk,
            ctx,
            boxes: Mailboxes::new(7, 1_000_000_000),
            limits,
            tick: 1,
            connections: 0,
            told: Vec::new(),
            edges: Vec::new(),
            replies: Vec::new(),
            held: false,
            retold: 0,
        }
    }

    /// Lets the disk do its work and everything happen that waits for it.
    fn run(&mut self) {
        loop {
            self.boxes.step_tellings(&mut self.ctx);
            self.collect();
            let now_us = self.ctx.now.monotonic.ns / 1000;
            if !self.held {
                self.ctx.store.end_batch(now_us, &mut self.ctx.ops);
            }
            for op in self.ctx.ops.drain(..) {
                self.disk.submit(0, op);
            }
            let mut events = Vec::new();
            self.ctx.store.take_ready(&mut events);
            if events.is_empty() && !self.disk.pending().is_empty() {
                let (_, done) = self.disk.complete(0, &mut |_| 0);
                self.ctx.store.handle(done, &mut events, &mut self.ctx.ops);
            }
            let idle = events.is_empty()
                && self.disk.pending().is_empty()
                && !self.boxes.has_tellings(&self.ctx);
            for event in events {
                self.take(event);
            }
            let mut due = Vec::new();
            self.ctx.release(&mut due);
            for effect in due {
                if let Effect::EvictMailbox { user, number } = effect {
                    self.boxes.evict(&mut self.ctx, user, number);
                } else if let Effect::Checkpoint(counts) = effect {
                    self.boxes.end_checkpoint(&mut self.ctx, &counts);
                    self.boxes.take_stalled(&mut self.ctx);
                } else {
                    panic!("not of a mailbox: {effect:?}");
                }
            }
            self.collect();
            if idle && self.ctx.ops.is_empty() {
                return;
            }
        }
    }

    fn take(&mut self, event: StoreEvent) {
        let StoreEvent::Read { id, result } = event else { return };
        let records = result.as_deref().ok();
        match self.ctx.reading.remove(&id) {
            Some(Reading::Mailbox(user)) => {
                let told = self.boxes.loaded(&mut self.ctx, user, records, self.tick);
                self.retold += told.unwrap_or(0);
            }
            Some(Reading::ReplayMailbox(user)) => {
                let told = self.boxes.tell_again(&mut self.ctx, user, records);
                self.retold += told.unwrap_or(0);
            }
            other => panic!("not of a mailbox: {other:?}"),
        }
    }

    /// Plays the conversations and the connections.
    fn collect(&mut self) {
        while let Some(arrival) = self.ctx.links.next_arrival() {
            self.ctx.links.release(arrival.token);
            let Message::ToConversation(told) = arrival.message else {
                panic!("not for a conversation: {:?}", arrival.message)
            };
            self.told.push(told);
        }
        while let Some((edge, what)) = self.ctx.links.next_for_edge() {
            let edge = EdgeAddress { shard: ShardId(0), edge };
            if let ToEdge::Reply { request, reply } = what {
                self.replies.push((edge, request.id, reply));
            } else {
                self.edges.push((edge, what));
            }
        }
        self.ctx.links.pump();
        self.ctx.links.take_settled();
    }

    // ---- time ----

    fn pass_ms(&mut self, ms: u64) {
        self.ctx.now.monotonic = Instant { ns: self.ctx.now.monotonic.ns + ms * 1_000_000 };
        self.ctx.now.wall.ms += ms;
        self.tick += ms / 100;
        self.boxes.tick(&mut self.ctx);
        self.run();
    }

    /// Lets lists, and then slots, leave memory.
    fn evict_all(&mut self) {
        for _ in 0..3 {
            self.tick += 10_000;
            self.boxes.evict_some(&mut self.ctx, self.tick, 1, 100_000);
            self.run();
        }
    }

    fn checkpoint(&mut self) {
        self.boxes.begin_checkpoint(&mut self.ctx);
        while self.boxes.checkpoint_has_more() {
            self.boxes.step_checkpoint(&mut self.ctx);
        }
        self.run();
    }

    /// The process dies and comes back; what it owes is told again.
    fn restart(&mut self) {
        self.disk.crash(Kill::PowerCut, &mut |_| 0);
        let now = self.ctx.now;
        self.ctx = begin(&mut self.disk, &self.limits);
        self.ctx.now = now;
        self.boxes = Mailboxes::new(7, 1_000_000_000);
        (self.told, self.edges, self.replies) = (Vec::new(), Vec::new(), Vec::new());
        for stream in self.ctx.store.replay_streams() {
            let user = UserKey::from_u128(stream.0);
            self.ctx.read(Query::Replay { stream }, Reading::ReplayMailbox(user));
        }
        self.run();
    }

    // ---- what others do ----

    fn own(&mut self, message: ToOwnMailbox) {
        let arrival = Arrival { message, token: Token::NONE, taken: None };
        self.boxes.handle(&mut self.ctx, arrival, self.tick);
    }

    fn tell(&mut self, message: ToMailbox) {
        let arrival = Arrival { message, token: Token::NONE, taken: None };
        self.boxes.handle_told(&mut self.ctx, arrival);
        self.collect();
    }

    fn deliver(&mut self, deliver: Deliver) {
        self.tell(ToMailbox::Deliver(Box::new(deliver)));
    }

    fn hello(&mut self, n: u32, of: u8) -> Register {
        self.connections += 1;
        let (key, id) = user(n);
        Register {
            edge: edge(n, of),
            user: key,
            user_id: id,
            device: device(of),
            connection: ConnectionNumber(self.connections),
            role: wire::Role::Main,
            token_issued_ms: self.ctx.now.wall.ms,
            ticket_epoch: None,
            client: "test 1.0".to_owned(),
            activity: wire::ActivityState::ActivityForeground,
        }
    }

    fn register(&mut self, register: Register) {
        self.own(ToOwnMailbox::Register(Box::new(register)));
    }

    /// A device connects, and is welcomed.
    fn connect(&mut self, n: u32, of: u8) {
        let register = self.hello(n, of);
        self.register(register);
        self.run();
        let last = self.edges.pop();
        assert!(matches!(last, Some((_, ToEdge::Registered { .. }))), "{last:?}");
    }

    fn disconnect(&mut self, n: u32, of: u8) {
        let (user, device) = (user(n).0, device(of));
        let gone = Gone { edge: edge(n, of), user, device };
        self.own(ToOwnMailbox::Gone(Box::new(gone)));
        self.run();
    }

    fn activity(&mut self, n: u32, of: u8, state: wire::ActivityState) {
        let (user, device) = (user(n).0, device(of));
        self.own(ToOwnMailbox::Activity(ActivityTold { edge: edge(n, of), user, device, state }));
        self.run();
    }

    /// A request of a user's device, not waited for.
    fn ask(&mut self, n: u32, of: u8, what: MailboxRequest) -> u32 {
        self.connections += 1;
        let id = u32::try_from(self.connections).unwrap();
        let (user, device) = (user(n).0, device(of));
        let request = RequestTag { id, ..RequestTag::default() };
        let ask = MailboxAsk { edge: edge(n, of), request, user, device, what };
        self.own(ToOwnMailbox::Ask(Box::new(ask)));
        id
    }

    /// The answer to a request, if there is one.
    fn answer(&mut self, id: u32) -> Option<Reply> {
        self.run();
        let place = self.replies.iter().position(|(_, of, _)| *of == id)?;
        Some(self.replies.remove(place).2)
    }

    /// A request and its answer.
    fn asked(&mut self, n: u32, of: u8, what: MailboxRequest) -> server_frame::Body {
        let id = self.ask(n, of, what);
        match self.answer(id) {
            Some(Reply::Frame(body)) => *body,
            other => panic!("{other:?}"),
        }
    }

    fn done(&mut self, n: u32, of: u8, what: MailboxRequest) {
        let body = self.asked(n, of, what);
        assert!(matches!(body, server_frame::Body::Done(_)), "{body:?}");
    }

    fn refused(&mut self, n: u32, of: u8, what: MailboxRequest) -> ErrorCode {
        let id = self.ask(n, of, what);
        match self.answer(id) {
            Some(Reply::Error(error)) => error.code(),
            other => panic!("{other:?}"),
        }
    }

    fn sync(&mut self, n: u32, of: u8, cursor: u64) -> wire::SyncReply {
        self.connections += 1;
        let id = u32::try_from(self.connections).unwrap();
        let request = RequestTag { id, ..RequestTag::default() };
        let (edge, user) = (edge(n, of), user(n).0);
        self.own(ToOwnMailbox::Sync(SyncAsk { edge, request, user, cursor, limit: 500 }));
        match self.answer(id) {
            Some(Reply::Sync(reply)) => *reply,
            other => panic!("{other:?}"),
        }
    }

    /// The whole list, by conversation.
    fn entries(&mut self, n: u32, of: u8) -> BTreeMap<ConversationId, wire::Entry> {
        let mut cursor = 0;
        let mut found = BTreeMap::new();
        loop {
            let page = self.sync(n, of, cursor);
            for entry in page.entries {
                found.insert(ConversationId::from_slice(&entry.conversation).unwrap(), entry);
            }
            cursor = page.cursor;
            if !page.more {
                return found;
            }
        }
    }

    fn entry(&mut self, n: u32, of: u8, conversation: ConversationId) -> wire::Entry {
        self.entries(n, of).remove(&conversation).expect("an entry")
    }

    fn read(&mut self, n: u32, of: u8, conversation: ConversationId, seq: u64) {
        self.own(ToOwnMailbox::ReadMark(Box::new(ReadMark {
            edge: edge(n, of),
            user: user(n).0,
            conversation,
            seq: Sequence(seq),
            uncounted: 0,
        })));
        self.run();
    }

    /// The entries that were pushed since the last look, each by itself.
    fn changed(&mut self) -> Vec<(EdgeAddress, wire::Entry)> {
        let mut found = Vec::new();
        for (edge, body) in self.pushed() {
            if let server_frame::Body::EntryChanged(changed) = body {
                found.extend(changed.entries.into_iter().map(|entry| (edge, entry)));
            }
        }
        found
    }

    /// What was pushed since the last look, by connection.
    fn pushed(&mut self) -> Vec<(EdgeAddress, server_frame::Body)> {
        self.collect();
        let mut found = Vec::new();
        for (edge, what) in std::mem::take(&mut self.edges) {
            if let ToEdge::Push(frame) = what {
                found.push((edge, decode(&frame)));
            } else {
                self.edges.push((edge, what));
            }
        }
        found
    }
}

fn decode(frame: &Bytes) -> server_frame::Body {
    use prost::Message as _;
    let mut reader = roost_protocol::frame::FrameReader::new();
    reader.push(frame);
    let content = reader.next_frame(1 << 20).unwrap().unwrap();
    wire::ServerFrame::decode(content).unwrap().body.unwrap()
}

fn begin(disk: &mut SimDisk, limits: &Limits) -> Context {
    let settings = OpenSettings {
        shards: 1,
        settings: Settings { commit_interval_us: 0, ..Settings::DEFAULT },
        fresh_incarnation: 5,
    };
    let mut opened = open(disk, &settings).unwrap();
    disk.attach(opened.keeper, 1);
    let links = Links::new(ShardId(0), 1, limits.credit_per_rank, limits.queue_slots);
    let store = opened.stores.remove(0);
    let mut ctx = Context::new(limits.clone(), links, store, 3, 0);
    ctx.now = Now { monotonic: Instant { ns: 1_000_000_000 }, wall: Timestamp { ms: START_MS } };
    ctx
}
