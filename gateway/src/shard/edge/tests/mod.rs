//! Welcomed connections driven by hand: what a device sends goes in, the test plays the actors.

use super::*;
use crate::ids::ShardId;
use crate::limits::Limits;
use crate::shard::links::Links;
use crate::shard::message::{Message, Part, RequestTag, ToConversation, ToEdge};
use roost_protocol::encode;
use roost_protocol::frame::FrameReader;
use roost_protocol::ids::{ConnectionNumber, ConversationId, DeviceId, UserId};
use roost_protocol::wire::{self, client_frame, server_frame};
use roost_storage_engine::{OpenSettings, Settings, SimDisk, open};

const PEER: &str = "bob";

/// See the module's comment.
struct World {
    ctx: Context,
    outbox: Outbox,
    edges: Edges,
}

fn edge(slot: u32) -> EdgeId {
    EdgeId { slot, generation: 1 }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn with_peer() -> ConversationId {
    ConversationId::direct(user("ann").key(""), user(PEER).key(""))
}

impl World {
    fn new() -> Self {
        let limits = Limits::default();
        let mut disk = SimDisk::new();
        let settings =
            OpenSettings { shards: 1, settings: Settings::DEFAULT, fresh_incarnation: 5 };
        let store = open(&mut disk, &settings).unwrap().stores.remove(0);
        let links = Links::new(ShardId(0), 1, limits.credit_per_rank, limits.queue_slots);
        let config = EdgeConfig {
            tenant: String::new(),
            token_keys: Arc::new(TokenKeys::default()),
            token_rules: TokenRules::default(),
            listeners: [ListenerRules::PLAIN, ListenerRules::SECURE].into(),
            tls: None,
            incarnation: 1,
            server_run: 1,
        };
        let ctx = Context::new(limits, links, store, 3, 0);
        Self { ctx, outbox: Outbox::new(), edges: Edges::new(config) }
    }

    /// A connection of a user that was welcomed.
    fn welcomed(&mut self, slot: u32, role: wire::Role) -> EdgeId {
        let id = edge(slot);
        self.edges.opened(&mut self.ctx, &mut self.outbox, id, 0, None);
        let edge = self.edges.table.get(id).unwrap();
        edge.state = State::Registering;
        edge.user_id = user("ann").into();
        edge.device = DeviceId([1; 16]);
        edge.connection = ConnectionNumber(1);
        edge.set_token_expiry(1 << 40);
        edge.flags.set(Flags::EXTENSION, role == wire::Role::Extension);
        assert!(self.edges.table.welcome(id, 0).is_some());
        id
    }

    /// A device sends a frame. Gives what actors are told because of it.
    fn sends(&mut self, id: EdgeId, request: u32, body: client_frame::Body) -> Vec<Message> {
        let mut bytes = Vec::new();
        encode::client(request, body, &mut bytes);
        self.edges.received(&mut self.ctx, &mut self.outbox, id, &bytes);
        self.arrivals()
    }

    fn arrivals(&mut self) -> Vec<Message> {
        let mut told = Vec::new();
        while let Some(arrival) = self.ctx.links.next_arrival() {
            self.ctx.links.release(arrival.token);
            told.push(arrival.message);
        }
        self.ctx.links.take_settled();
        told
    }

    /// Hints that were given since the last look.
    fn hints(&mut self) -> usize {
        std::iter::from_fn(|| self.ctx.links.next_hint()).count()
    }

    fn tells(&mut self, id: EdgeId, what: ToEdge) {
        self.edges.take(&mut self.ctx, &mut self.outbox, id, what);
    }

    /// What the device received since the last look.
    fn received(&mut self, id: EdgeId) -> Vec<(u32, server_frame::Body)> {
        use prost::Message as _;
        self.edges.flush(&mut self.ctx, &mut self.outbox);
        let (mut reader, mut sent) = (FrameReader::new(), Vec::new());
        for output in self.outbox.drain() {
            if let Output::Send { edge, buffer } = output
                && edge == id
            {
                reader.push(&buffer);
                sent.push(buffer);
            }
        }
        for buffer in sent {
            self.edges.sent(&mut self.ctx, &mut self.outbox, id, buffer);
        }
        let mut found = Vec::new();
        while let Some(content) = reader.next_frame(1 << 20).unwrap() {
            let frame = wire::ServerFrame::decode(content).unwrap();
            found.push((frame.request_id, frame.body.unwrap()));
        }
        found
    }

    /// The error that answers a request, and nothing else was said.
    fn refused(&mut self, id: EdgeId) -> (u32, ErrorCode) {
        let mut received = self.received(id);
        assert_eq!(received.len(), 1, "{received:?}");
        let (request, body) = received.remove(0);
        let server_frame::Body::Error(error) = body else { panic!("{body:?}") };
        (request, error.code())
    }

    fn in_flight(&self, id: EdgeId) -> u16 {
        self.edges.table.peek(id).unwrap().in_flight
    }
}

fn query(users: &[&str]) -> client_frame::Body {
    let users = users.iter().map(|user| (*user).to_owned()).collect();
    client_frame::Body::QueryPresence(wire::QueryPresence { users, ..Default::default() })
}

fn part(user: &str, request: u32) -> ToEdge {
    let presence = wire::Presence { user: user.to_owned(), ..wire::Presence::default() };
    let request = RequestTag { id: request, ..RequestTag::default() };
    ToEdge::Part { request, part: Box::new(Part::Presence(presence)) }
}

fn mark() -> Vec<wire::Mark> {
    vec![wire::Mark { conversation: with_peer().to_wire(), seq: 1, uncounted: 0 }]
}

#[test]
fn an_id_that_is_gathered_for_is_refused_and_the_first_goes_on() {
    let mut world = World::new();
    let id = world.welcomed(3, wire::Role::Main);
    assert_eq!(world.sends(id, 7, query(&["bob", "eve"])).len(), 2);
    world.tells(id, part("bob", 7));
    assert_eq!(world.sends(id, 7, query(&["zoe"])).len(), 0, "nobody is asked");
    assert_eq!(world.refused(id), (7, ErrorCode::ErrorInvalidRequest));
    let devices = wire::ListUserDevices {
        users: vec!["bob".to_owned()],
        conversation: with_peer().to_wire(),
    };
    let devices = client_frame::Body::ListUserDevices(devices);
    assert_eq!(world.sends(id, 7, devices.clone()).len(), 0);
    assert_eq!(world.refused(id), (7, ErrorCode::ErrorInvalidRequest));
    world.tells(id, part("eve", 7));
    let received = world.received(id);
    let [(7, server_frame::Body::PresenceReply(reply))] = received.as_slice() else {
        panic!("{received:?}")
    };
    assert_eq!(reply.presences.len(), 2);
    assert_eq!(world.in_flight(id), 0, "each was answered once");
    // The id is free again.
    assert_eq!(world.sends(id, 7, devices).len(), 1);
}

#[test]
fn an_extension_fetches_and_acknowledges() {
    let mut world = World::new();
    let id = world.welcomed(3, wire::Role::Extension);
    let delivered = client_frame::Body::Delivered(wire::Delivered { marks: mark() });
    assert!(matches!(
        world.sends(id, 0, delivered).as_slice(),
        [Message::ToConversation(ToConversation::Delivered(_))]
    ));
    let sync = client_frame::Body::Sync(wire::Sync::default());
    assert!(matches!(
        world.sends(id, 1, sync).as_slice(),
        [Message::ToOwnMailbox(ToOwnMailbox::Sync(_))]
    ));
    let history = wire::History { conversation: with_peer().to_wire(), ..wire::History::default() };
    assert!(matches!(
        world.sends(id, 2, client_frame::Body::History(history)).as_slice(),
        [Message::ToConversation(ToConversation::History(_))]
    ));
    assert_eq!(world.received(id), []);
}

#[test]
fn an_extension_is_refused_everything_else() {
    let mut world = World::new();
    let id = world.welcomed(3, wire::Role::Extension);
    let conversation = with_peer().to_bytes().to_vec();
    let send = wire::Send {
        user: PEER.to_owned(),
        client_message_id: 1,
        client_sequence: 1,
        content: Some(wire::send::Content::Body(bytes::Bytes::from_static(b"no"))),
        ..wire::Send::default()
    };
    let block = wire::Block { user: PEER.to_owned(), unblock: false };
    let out = wire::SignOut { all_others: true, ..wire::SignOut::default() };
    let requests = [
        client_frame::Body::Send(send),
        client_frame::Body::Block(block),
        client_frame::Body::SignOut(out),
        client_frame::Body::ListDevices(wire::ListDevices {}),
        client_frame::Body::ListConversations(wire::ListConversations::default()),
        query(&["bob"]),
    ];
    for (request, body) in (1..).zip(requests) {
        let told = world.sends(id, request, body);
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(world.refused(id), (request, ErrorCode::ErrorForbidden));
    }
    assert_eq!(world.in_flight(id), 0);
    // Notices have no answer: they are ignored.
    let foreground = wire::ActivityState::ActivityForeground.into();
    let users = vec![PEER.to_owned()];
    let notices = [
        client_frame::Body::Read(wire::Read { marks: mark() }),
        client_frame::Body::Activity(wire::Activity { state: foreground }),
        client_frame::Body::Typing(wire::Typing {
            conversation: conversation.into(),
            stopped: false,
        }),
        client_frame::Body::WatchPresence(wire::WatchPresence { users, ..Default::default() }),
    ];
    for body in notices {
        let told = world.sends(id, 0, body.clone());
        assert!(told.is_empty() && world.hints() == 0, "{told:?}");
        assert_eq!(world.received(id), []);
        // Of the app they are heard.
        let app = world.welcomed(100, wire::Role::Main);
        let told = world.sends(app, 0, body);
        assert_eq!(told.len() + world.hints(), 1);
        world.edges.closed(&mut world.ctx, app);
        world.arrivals();
    }
}

#[test]
fn an_extension_is_pushed_nothing() {
    let mut world = World::new();
    let mut pushed = Vec::new();
    let news = wire::News { head: 3, ..wire::News::default() };
    encode::server(0, server_frame::Body::News(news), &mut pushed);
    let push = bytes::Bytes::from(pushed);
    for (slot, role, expected) in [(1, wire::Role::Main, 1), (2, wire::Role::Extension, 0)] {
        let id = world.welcomed(slot, role);
        world.tells(id, ToEdge::Push(push.clone()));
        world.tells(
            id,
            ToEdge::Receipt {
                conversation: with_peer(),
                delivered: roost_protocol::ids::Sequence(1),
                read: roost_protocol::ids::Sequence(0),
            },
        );
        assert_eq!(world.received(id).len(), 2 * expected);
    }
}

/// A page that a request of this id is answered with.
fn page(request: u32, body: usize) -> ToEdge {
    let content = wire::message::Content::Body(vec![7; body].into());
    let message = wire::Message { seq: 1, content: Some(content), ..wire::Message::default() };
    let page = wire::HistoryReply { messages: vec![message], ..wire::HistoryReply::default() };
    let request = RequestTag { id: request, page: true, contact: false };
    ToEdge::Reply { request, reply: crate::shard::message::Reply::History(Box::new(page)) }
}

#[test]
fn pages_that_were_asked_for_together_are_sent_together() {
    let mut world = World::new();
    let id = world.welcomed(3, wire::Role::Main);
    let history = wire::History { conversation: with_peer().to_wire(), ..wire::History::default() };
    let ask = |world: &mut World, requests: std::ops::Range<u32>| {
        for request in requests {
            world.sends(id, request, client_frame::Body::History(history.clone()));
        }
    };
    ask(&mut world, 1..4);
    world.tells(id, page(1, 10));
    assert_eq!(world.received(id).len(), 0, "two more are under way");
    assert!(world.edges.has_deferred(&world.ctx), "it does not wait for something to happen");
    world.tells(id, page(2, 10));
    world.tells(id, page(3, 10));
    assert_eq!(world.received(id).len(), 3);
    assert!(!world.edges.has_deferred(&world.ctx));
    // What is long on its way does not hold others up for long, and much is sent at once.
    ask(&mut world, 4..7);
    world.tells(id, page(4, 10));
    let batches = (0..).take_while(|_| world.received(id).is_empty()).count();
    assert_eq!(batches, 3);
    world.tells(id, page(5, 20_000));
    assert_eq!(world.received(id).len(), 1);
    world.tells(id, page(6, 10));
    assert_eq!(world.received(id).len(), 1, "nothing else is under way");
}

#[test]
fn devices_are_asked_to_leave_so_many_a_second() {
    let mut world = World::new();
    world.ctx.limits.goaways_per_second = 20;
    let ids: Vec<EdgeId> = (0..5).map(|slot| world.welcomed(slot, wire::Role::Main)).collect();
    let told = |world: &mut World| {
        world.edges.flush(&mut world.ctx, &mut world.outbox);
        let mut told = Vec::new();
        for output in world.outbox.drain() {
            if let Output::Send { edge, .. } = output {
                told.push(edge.slot);
            }
        }
        told
    };
    world.edges.drain(&mut world.ctx, &mut world.outbox);
    assert_eq!(told(&mut world), [0, 1]);
    world.edges.sweep(&mut world.ctx, &mut world.outbox, 1);
    assert_eq!(told(&mut world), [2, 3]);
    // When the time is up the last one is told why it is ended.
    let ends = world.ctx.limits.drain_ms / 100;
    world.edges.sweep(&mut world.ctx, &mut world.outbox, ends);
    assert_eq!(world.refused(ids[4]), (0, ErrorCode::ErrorGoingAway));
}

mod entrance;
mod places;
mod secure;
