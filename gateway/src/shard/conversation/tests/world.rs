//! Conversations of one shard over a simulated disk, fed by hand. What they tell connections,
//! mailboxes and other shards is kept for the test to look at.

use super::super::table::Conversations;
use super::super::{Conversation, replay, snapshot};
use crate::ids::{EdgeAddress, EdgeId, ShardId};
use crate::limits::Limits;
use crate::shard::context::{Context, Effect, Reading, conversation_stream};
use crate::shard::links::{Arrival, Cause, Links, Owed};
use crate::shard::message::{
    BlockTold, ConversationAsk, ConversationRequest, Create, Deliver, DeliveredMark, Hint,
    HistoryAsk, Message, Parcel, Part, PresenceLook, ReadTold, ReceiptTold, Reply, RequestTag,
    Submit, ToConversation, ToEdge, ToMailbox, Watch,
};
use roost_protocol::ids::{
    ClientMessageId, ClientSequence, ConnectionNumber, ConversationId, DeviceId, MessageId,
    Sequence, UserId, UserKey,
};
use roost_protocol::request::{Content, GroupChange, HistoryFrom};
use roost_protocol::time::{Duration, Instant, Now, Timestamp};
use roost_protocol::wire::{self, ErrorCode, server_frame};
use roost_storage_engine::{
    Kill, OpenSettings, Query, Settings, SimDisk, StoreEvent, StoredRecord, open,
};
use std::collections::BTreeMap;

/// See the module's comment.
pub(crate) struct World {
    pub(crate) ctx: Context,
    pub(crate) conversations: Conversations,
    disk: SimDisk,
    limits: Limits,
    shards: u8,
    pub(crate) tick: u64,
    requests: u32,
    ids: u64,
    /// The last accepted number of a device in a conversation.
    numbers: BTreeMap<(UserKey, u8, ConversationId), u64>,
    pub(crate) edges: Vec<(EdgeAddress, ToEdge)>,
    pub(crate) told: Vec<(ShardId, ToMailbox)>,
    pub(crate) hints: Vec<(ShardId, Hint)>,
    /// What of `Owed::Replay` was confirmed.
    pub(crate) confirmed: u32,
}

/// Somebody by name.
pub(crate) fn user(name: &str) -> (UserKey, UserId) {
    let id = UserId::new(name).unwrap();
    (id.key(""), id)
}

pub(crate) fn key(name: &str) -> UserKey {
    user(name).0
}

pub(crate) fn ids(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| user(name).1).collect()
}

/// The direct conversation of two.
pub(crate) fn direct(one: &str, other: &str) -> ConversationId {
    ConversationId::direct(key(one), key(other))
}

pub(crate) fn body(text: &str) -> Content {
    Content::Body(text.to_owned().into())
}

pub(crate) fn device(number: u8) -> DeviceId {
    DeviceId([number; 16])
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(1, Limits::default())
    }

    pub(crate) fn with(shards: u8, limits: Limits) -> Self {
        let now = Now {
            monotonic: Instant { ns: 5_000_000_000 },
            wall: Timestamp { ms: 1_800_000_000_000 },
        };
        Self::open(SimDisk::new(), shards, limits, now)
    }

    fn open(mut disk: SimDisk, shards: u8, limits: Limits, now: Now) -> Self {
        let settings = Settings { first_segment_bytes: 1 << 20, ..Settings::DEFAULT };
        let settings = OpenSettings { shards, settings, fresh_incarnation: 1 };
        let opened = open(&mut disk, &settings).unwrap();
        disk.attach(opened.keeper, shards);
        let store = opened.stores.into_iter().next().unwrap();
        let links = Links::new(ShardId(0), shards, 1 << 20, 1 << 20);
        let mut ctx = Context::new(limits.clone(), links, store, 7, 0);
        ctx.now = now;
        Self {
            ctx,
            conversations: Conversations::new(7),
            disk,
            limits,
            shards,
            tick: 1,
            requests: 0,
            ids: 0,
            numbers: BTreeMap::new(),
            edges: Vec::new(),
            told: Vec::new(),
            hints: Vec::new(),
            confirmed: 0,
        }
    }

    // ---- time, disk, crashes ----

    /// The power goes; what was not flushed is lost. Everything owed is told again.
    pub(crate) fn crash(self) -> Self {
        let Self { mut disk, limits, shards, ctx, ids, numbers, .. } = self;
        disk.crash(Kill::PowerCut, &mut |_| 0);
        let mut world = Self::open(disk, shards, limits, ctx.now);
        (world.ids, world.numbers) = (ids, numbers);
        for stream in world.ctx.store.replay_streams() {
            let id = ConversationId::from_u128(stream.0);
            world.conversations.replay(&mut world.ctx, id);
        }
        world.flush();
        world
    }

    /// Commits what was appended, and does what became possible.
    pub(crate) fn flush(&mut self) {
        loop {
            self.settle();
            let us = self.ctx.now.monotonic.ns / 1000;
            self.ctx.store.end_batch(us, &mut self.ctx.ops);
            if self.ctx.ops.is_empty() {
                return;
            }
        }
    }

    /// Does what is possible without a commit.
    pub(crate) fn settle(&mut self) {
        loop {
            for op in std::mem::take(&mut self.ctx.ops) {
                self.disk.submit(0, op);
            }
            let mut events = Vec::new();
            while !self.disk.pending().is_empty() {
                let (shard, done) = self.disk.complete(0, &mut |_| 0);
                if shard == 0 {
                    self.ctx.store.handle(done, &mut events, &mut self.ctx.ops);
                }
            }
            self.ctx.store.take_ready(&mut events);
            let quiet = events.is_empty() && self.ctx.ops.is_empty();
            for event in events {
                self.take(event);
            }
            self.release();
            let worked = self.route();
            if quiet && !worked {
                return;
            }
        }
    }

    fn take(&mut self, event: StoreEvent) {
        let StoreEvent::Read { id, result } = event else { return };
        let records = result.as_deref().ok();
        let (ctx, tick) = (&mut self.ctx, self.tick);
        match ctx.reading.remove(&id) {
            Some(Reading::Conversation(id)) => {
                self.conversations.loaded(ctx, id, records, tick);
            }
            Some(Reading::History { ask, token }) => {
                self.conversations.history_read(ctx, &ask, token, records);
            }
            Some(Reading::Time { ask, search, token }) => {
                self.conversations.searched(ctx, ask, search, token, records);
            }
            Some(Reading::Target(id)) => self.conversations.target_read(ctx, id, records),
            Some(Reading::Mailbox(_) | Reading::ReplayMailbox(_)) | None => {}
        }
    }

    fn release(&mut self) {
        let mut due = Vec::new();
        self.ctx.release(&mut due);
        for effect in due {
            if let Effect::EvictConversation { id, number } = effect {
                self.conversations.evict(&mut self.ctx, id, number);
            }
        }
    }

    fn route(&mut self) -> bool {
        let mut worked = false;
        self.ctx.links.pump();
        while let Some(Arrival { message, token, taken }) = self.ctx.links.next_arrival() {
            worked = true;
            match message {
                Message::ToConversation(message) => {
                    let arrival = Arrival { message, token, taken };
                    self.conversations.handle(&mut self.ctx, arrival, self.tick);
                }
                Message::ToMailbox(message) => {
                    self.told.push((ShardId(0), message));
                    self.ctx.links.release(token);
                }
                other => panic!("nobody tells this: {other:?}"),
            }
        }
        while let Some((edge, what)) = self.ctx.links.next_for_edge() {
            self.edges.push((EdgeAddress { shard: ShardId(0), edge }, what));
        }
        while let Some(hint) = self.ctx.links.next_hint() {
            self.hints.push((ShardId(0), hint));
        }
        let parcels: Vec<_> = self.ctx.links.take_outgoing().collect();
        for (to, parcel) in parcels {
            match parcel {
                Parcel::Message { message: Message::ToMailbox(message), .. } => {
                    self.told.push((to, message));
                }
                Parcel::Message { message: Message::ToEdge { edge, what }, .. } => {
                    self.edges.push((edge, what));
                }
                Parcel::Hint(hint) => self.hints.push((to, hint)),
                other => panic!("nobody forwards this: {other:?}"),
            }
        }
        for (owed, number) in self.ctx.links.take_settled() {
            match owed {
                Owed::Segment(segment) => self.ctx.store.settle(segment, number),
                Owed::Replay => self.confirmed += number,
                Owed::Nothing => {}
            }
        }
        worked
    }

    /// Time passes, and the tick of its end.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let now = &mut self.ctx.now;
        now.monotonic = now.monotonic + Duration::from_ms(ms);
        now.wall.ms += ms;
        self.tick += ms / 100;
        let now_ms = self.ctx.now_ms();
        while let Some(due) = self.ctx.timers.next_due(now_ms) {
            for id in due {
                self.conversations.due(&mut self.ctx, id);
            }
        }
        for arrival in std::mem::take(&mut self.ctx.retry) {
            let Arrival { message: Message::ToConversation(message), token, taken } = arrival
            else {
                panic!("only conversations try again here")
            };
            let arrival = Arrival { message, token, taken };
            self.conversations.handle(&mut self.ctx, arrival, self.tick);
        }
        self.flush();
    }

    /// Everything that nothing happens to leaves memory.
    pub(crate) fn evict_all(&mut self) {
        // What is due is told first.
        self.pass_ms(2_000);
        self.conversations.evict_some(&mut self.ctx, self.tick, 1, 1_000);
        self.flush();
        assert_eq!(self.conversations.len(), 0, "something does not leave memory");
    }

    /// Nothing is in memory any more, and nothing was written for that: as a start after a clean
    /// stop finds it.
    pub(crate) fn forget_all(&mut self) {
        self.flush();
        self.conversations = Conversations::new(7);
    }

    pub(crate) fn set_disk_full(&mut self, full: bool) {
        self.disk.set_full(full);
    }

    // ---- telling ----

    pub(crate) fn tell(&mut self, message: impl Into<ToConversation>) {
        let message: ToConversation = message.into();
        self.ctx.links.tell(ShardId(0), message, Owed::Nothing, Cause::NONE);
        self.settle();
    }

    /// What a mailbox owes: it must be confirmed.
    pub(crate) fn owe(&mut self, message: ToConversation) {
        self.ctx.links.tell(ShardId(0), message, Owed::Replay, Cause::NONE);
        self.flush();
    }

    pub(crate) fn edge_of(&self, who: &str) -> EdgeAddress {
        let slot = u32::try_from(key(who).as_u128() >> 100).unwrap();
        EdgeAddress { shard: ShardId(0), edge: EdgeId { slot, generation: 1 } }
    }

    pub(crate) fn next_request(&mut self) -> RequestTag {
        self.requests += 1;
        RequestTag { id: self.requests, ..RequestTag::default() }
    }

    /// A write of somebody's first device, with the number that is next there.
    pub(crate) fn draft(&mut self, who: &str, id: ConversationId, content: Content) -> Submit {
        let number = self.numbers.get(&(key(who), 1, id)).copied().unwrap_or(0) + 1;
        self.ids += 1;
        let people = people_of(&content);
        Submit {
            edge: self.edge_of(who),
            request: self.next_request(),
            conversation: id,
            user: key(who),
            opening: None,
            peer_key: None,
            by_user: false,
            device: device(1),
            connection: ConnectionNumber(1),
            client_message_id: ClientMessageId(self.ids),
            client_sequence: ClientSequence(number),
            seen: Sequence(0),
            seen_uncounted: 0,
            reply_to: Sequence(0),
            content,
            people,
        }
    }

    /// Submits a write and gives the answer once it is durable.
    pub(crate) fn submit(&mut self, submit: Submit) -> Result<u64, wire::Error> {
        let (request, user, id) = (submit.request, submit.user, submit.conversation);
        let (device, number) = (submit.device.0[0], submit.client_sequence.0);
        self.tell(ToConversation::Submit(Box::new(submit)));
        self.flush();
        match self.answer(request) {
            Reply::Sent { point, .. } => {
                self.numbers.insert((user, device, id), number);
                Ok(point.seq.0)
            }
            Reply::Error(error) => Err(*error),
            other => panic!("not the answer to a write: {other:?}"),
        }
    }

    /// A write of somebody was accepted: the next number is due.
    pub(crate) fn accepted(&mut self, who: &str, id: ConversationId) {
        *self.numbers.entry((key(who), 1, id)).or_default() += 1;
    }

    pub(crate) fn write(
        &mut self,
        who: &str,
        id: ConversationId,
        content: Content,
    ) -> Result<u64, ErrorCode> {
        let submit = self.draft(who, id, content);
        self.submit(submit).map_err(|error| error.code())
    }

    /// The same, having seen everything.
    pub(crate) fn say(&mut self, who: &str, id: ConversationId, text: &str) -> u64 {
        let mut submit = self.draft(who, id, body(text));
        submit.seen = self.active(id).head_of(key(who)).seq;
        submit.seen_uncounted = self.active(id).head_of(key(who)).uncounted;
        self.submit(submit).unwrap_or_else(|error| panic!("{who} may not speak: {error:?}"))
    }

    /// Says something to a user, for the first time.
    pub(crate) fn open_direct(&mut self, who: &str, to: &str, content: Content) -> Submit {
        let mut submit = self.draft(who, direct(who, to), content);
        submit.opening = Some(Box::new((user(who).1, user(to).1)));
        submit.peer_key = Some(key(to));
        submit.by_user = true;
        submit
    }

    /// Two who have talked: `ann` said seq 1.
    pub(crate) fn pair(&mut self, ann: &str, bob: &str) -> ConversationId {
        let submit = self.open_direct(ann, bob, body("hello"));
        assert_eq!(self.submit(submit).unwrap(), 1);
        direct(ann, bob)
    }

    pub(crate) fn change(
        &mut self,
        who: &str,
        id: ConversationId,
        change: GroupChange,
    ) -> Result<u64, ErrorCode> {
        self.write(who, id, Content::Group(change))
    }

    /// A group of people, the first of whom is the owner.
    pub(crate) fn group(&mut self, nonce: u8, names: &[&str]) -> ConversationId {
        let create = self.create(nonce, names, false);
        let id = create.conversation;
        assert_eq!(self.creates(create), Ok(1));
        id
    }

    pub(crate) fn create(&mut self, nonce: u8, names: &[&str], channel: bool) -> Create {
        let creator = user(names[0]);
        Create {
            edge: self.edge_of(names[0]),
            request: self.next_request(),
            conversation: ConversationId::group(creator.0, [nonce; 16], channel),
            creator,
            name: "the group".to_owned(),
            picture: String::new(),
            members: names[1..].iter().map(|name| user(name)).collect(),
        }
    }

    /// Asks for a group; gives its head.
    pub(crate) fn creates(&mut self, create: Create) -> Result<u64, ErrorCode> {
        let request = create.request;
        self.tell(ToConversation::Create(Box::new(create)));
        self.flush();
        match self.answer(request) {
            Reply::Frame(body) => match *body {
                server_frame::Body::GroupCreated(created) => Ok(created.head),
                other => panic!("not a group: {other:?}"),
            },
            Reply::Error(error) => Err(error.code()),
            other => panic!("not a group: {other:?}"),
        }
    }

    pub(crate) fn ask(
        &mut self,
        who: &str,
        id: ConversationId,
        what: ConversationRequest,
    ) -> Result<server_frame::Body, ErrorCode> {
        let (edge, request) = (self.edge_of(who), self.next_request());
        let user = key(who);
        let ask = ConversationAsk { edge, request, conversation: id, user, what };
        self.tell(ToConversation::Ask(Box::new(ask)));
        self.flush();
        match self.answer(request) {
            Reply::Frame(body) => Ok(*body),
            Reply::Error(error) => Err(error.code()),
            other => panic!("not an answer: {other:?}"),
        }
    }

    pub(crate) fn history(
        &mut self,
        who: &str,
        id: ConversationId,
        from: HistoryFrom,
        limit: u32,
    ) -> Result<wire::HistoryReply, ErrorCode> {
        self.history_on(who, 1, id, from, limit)
    }

    pub(crate) fn history_on(
        &mut self,
        who: &str,
        on: u8,
        id: ConversationId,
        from: HistoryFrom,
        limit: u32,
    ) -> Result<wire::HistoryReply, ErrorCode> {
        let (edge, request) = (self.edge_of(who), self.next_request());
        self.tell(ToConversation::History(Box::new(HistoryAsk {
            edge,
            request,
            conversation: id,
            user: key(who),
            device: device(on),
            by_user: false,
            from,
            limit,
        })));
        self.flush();
        match self.answer(request) {
            Reply::History(page) => Ok(*page),
            Reply::Error(error) => Err(error.code()),
            other => panic!("not a page: {other:?}"),
        }
    }

    /// The seqs somebody can read, page by page, oldest first, and the head they are shown.
    pub(crate) fn readable(&mut self, who: &str, id: ConversationId) -> (Vec<u64>, u64) {
        let (mut seqs, mut after) = (Vec::new(), 0);
        loop {
            let from = HistoryFrom::After(Sequence(after));
            let page = self.history(who, id, from, 3).unwrap();
            seqs.extend(page.messages.iter().map(|message| message.seq));
            if !page.more {
                return (seqs, page.head);
            }
            after = page.next;
        }
    }

    pub(crate) fn delivered(&mut self, who: &str, id: ConversationId, seq: u64) {
        let mark = DeliveredMark { conversation: id, user: key(who), seq: Sequence(seq) };
        self.tell(ToConversation::Delivered(mark));
        self.flush();
    }

    pub(crate) fn read(&mut self, who: &str, id: ConversationId, seq: u64) {
        self.read_as(who, id, seq, false);
    }

    pub(crate) fn read_as(&mut self, who: &str, id: ConversationId, seq: u64, private: bool) {
        self.owe(ToConversation::ReadTold(ReadTold {
            conversation: id,
            user: key(who),
            seq: Sequence(seq),
            uncounted: 0,
            private,
        }));
    }

    pub(crate) fn block(&mut self, who: &str, peer: &str, number: u64, blocked: bool) {
        let mut users = [user(who), user(peer)];
        users.sort();
        self.owe(ToConversation::BlockTold(BlockTold {
            conversation: direct(who, peer),
            users: Box::new(users),
            by: key(who),
            number,
            blocked,
        }));
    }

    pub(crate) fn look(&mut self, who: &str, about: &str, id: ConversationId) {
        let look = PresenceLook {
            edge: self.edge_of(who),
            request: self.next_request(),
            conversation: id,
            asker: key(who),
            about: user(about),
            watch: Watch::Once,
        };
        self.tell(ToConversation::Look(Box::new(look)));
        self.flush();
    }

    // ---- looking ----

    /// The answer to a request: there is exactly one.
    pub(crate) fn answer(&mut self, request: RequestTag) -> Reply {
        let place = self.edges.iter().position(|(_, what)| answers(what, request));
        let place = place.unwrap_or_else(|| panic!("{request:?} has no answer"));
        let (_, what) = self.edges.remove(place);
        assert!(!self.is_answered(request), "answered twice");
        match what {
            ToEdge::Reply { reply, .. } => reply,
            other => panic!("not a reply: {other:?}"),
        }
    }

    /// Whether a request is answered already.
    pub(crate) fn is_answered(&self, request: RequestTag) -> bool {
        self.edges.iter().any(|(_, what)| answers(what, request))
    }

    pub(crate) fn parts(&mut self) -> Vec<Part> {
        let (parts, others) = std::mem::take(&mut self.edges)
            .into_iter()
            .partition(|(_, what)| matches!(what, ToEdge::Part { .. }));
        self.edges = others;
        let parts: Vec<(EdgeAddress, ToEdge)> = parts;
        parts
            .into_iter()
            .filter_map(|(_, what)| match what {
                ToEdge::Part { part, .. } => Some(*part),
                _ => None,
            })
            .collect()
    }

    /// What mailboxes were told since the last look.
    pub(crate) fn take_told(&mut self) -> Vec<ToMailbox> {
        std::mem::take(&mut self.told).into_iter().map(|(_, told)| told).collect()
    }

    pub(crate) fn take_delivers(&mut self) -> Vec<Deliver> {
        let delivers = self.take_told().into_iter().filter_map(|told| match told {
            ToMailbox::Deliver(deliver) => Some(*deliver),
            _ => None,
        });
        delivers.collect()
    }

    /// Receipts as (to whom, delivered, read).
    pub(crate) fn take_receipts(&mut self) -> Vec<(UserKey, u64, u64)> {
        let receipts = self.take_told().into_iter().filter_map(|told| match told {
            ToMailbox::ReceiptTold(told) => Some(*told),
            _ => None,
        });
        receipts.map(|ReceiptTold { to, delivered, read, .. }| (to, delivered.0, read.0)).collect()
    }

    pub(crate) fn active(&mut self, id: ConversationId) -> &mut Conversation {
        self.conversations.active(id).expect("it is in memory")
    }

    /// All durable records of a conversation, oldest first.
    pub(crate) fn records(&mut self, id: ConversationId) -> Vec<StoredRecord> {
        let stream = conversation_stream(id);
        let read = self.ctx.store.read(Query::Load { stream }, &mut self.ctx.ops);
        for _ in 0..100 {
            let mut events = Vec::new();
            for op in std::mem::take(&mut self.ctx.ops) {
                self.disk.submit(0, op);
            }
            while !self.disk.pending().is_empty() {
                let (_, done) = self.disk.complete(0, &mut |_| 0);
                self.ctx.store.handle(done, &mut events, &mut self.ctx.ops);
            }
            self.ctx.store.take_ready(&mut events);
            for event in events {
                match event {
                    StoreEvent::Read { id, result } if id == read => return result.unwrap(),
                    other => self.take(other),
                }
            }
        }
        panic!("the records do not come")
    }

    /// What these records bring back, as the body of a snapshot, without what only lives in memory.
    pub(crate) fn digest_of(
        &self,
        id: ConversationId,
        records: &[StoredRecord],
    ) -> Option<Vec<u8>> {
        let run = self.ctx.store.run();
        replay::replay(id, records, run)
            .expect("its own records")
            .map(|mut state| digest(&mut state))
    }

    /// The same of what is in memory.
    pub(crate) fn digest(&mut self, id: ConversationId) -> Vec<u8> {
        let body = snapshot::encode(self.active(id), 0);
        let mut reader = crate::shard::codec::Reader(&body.bytes);
        let mut copy = snapshot::decode(id, &mut reader, 0).expect("a snapshot");
        assert!(reader.0.is_empty(), "a snapshot is read to its end");
        digest(&mut copy)
    }

    /// When a record was said, by its id.
    pub(crate) fn said_ms(message: &wire::Message) -> u64 {
        MessageId(message.message_id).wall_ms()
    }
}

fn answers(what: &ToEdge, request: RequestTag) -> bool {
    matches!(what, ToEdge::Reply { request: of, .. } if of.id == request.id)
}

fn digest(state: &mut Conversation) -> Vec<u8> {
    for member in &mut state.members.list {
        member.delivered = Sequence(0);
        member.delivered_ms = 0;
        // What was told is soft, too.
        (member.delivered_told, member.read_told) = Default::default();
        (member.undelivered, member.unread) = Default::default();
    }
    state.senders.list.retain(|sender| sender.last.0 > 0);
    for sender in &mut state.senders.list {
        sender.connection = ConnectionNumber(0);
    }
    snapshot::encode(state, 0).bytes
}

/// The keys of the users that a content names.
fn people_of(content: &Content) -> Vec<UserKey> {
    let users = match content {
        Content::Group(
            GroupChange::Add(users)
            | GroupChange::Remove(users)
            | GroupChange::Promote(users)
            | GroupChange::Demote(users),
        ) => users.clone(),
        Content::Group(GroupChange::Transfer(user)) => vec![user.clone()],
        _ => Vec::new(),
    };
    users.iter().map(|user| user.key("")).collect()
}
