//! Many seeds: three devices, a server, lost connections, killed apps, old backups, restored
//! stores. When the faults stop, everybody has everything, once and in order.

use crate::hand::config;
use crate::server::{Server, USERS};
use crate::speech::{content_of, new_group, text_in, text_of, text_shown};
use prost::Message;
use roost_client::{
    Command, Config, Credential, Event, Input, Order, Output, Peer, PersistId, Restored, Session,
};
use roost_protocol::encode;
use roost_protocol::frame::FrameReader;
use roost_protocol::ids::{Sequence, UserId};
use roost_protocol::preface::PREFACE;
use roost_protocol::request::{Ask, ConversationSettings};
use roost_protocol::time::{Duration, Now};
use roost_protocol::wire::{self, ErrorCode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % below
    }
}

/// One direction of an edge's queue may outlive the connection.
struct Edge {
    number: u64,
    queue: VecDeque<(u32, wire::client_frame::Body)>,
}

struct Device {
    session: Session,
    /// Confirmed records, and those on their way.
    disk: Vec<Vec<u8>>,
    writing: VecDeque<(PersistId, Vec<u8>)>,
    backup: Vec<Vec<u8>>,
    connecting: bool,
    connected: bool,
    reader: FrameReader,
    preface: bool,
    edge: Edge,
    /// Frames of the server on their way.
    incoming: VecDeque<(u32, wire::server_frame::Body)>,
    /// Shown messages and other records: seq to what they say.
    shown: BTreeMap<u64, String>,
    last_shown: u64,
    accepted: BTreeMap<u64, u64>,
    refused: BTreeSet<u64>,
    /// Questions of this life of the app that have no answer; new groups by their tags.
    asked: BTreeSet<u64>,
    groups: BTreeSet<u64>,
    answered: BTreeSet<u64>,
}

struct World {
    dice: Dice,
    server: Server,
    devices: Vec<Device>,
    now: Now,
    tag: u64,
    /// Tags in the order in which each device said them.
    said: Vec<Vec<u64>>,
    /// Queues of connections that are gone for the device but not for the server.
    stale: Vec<(usize, Edge)>,
    order: Order,
    /// Devices came back with an old backup, or the server did: exactly-once display is off.
    forgot: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9) ^ 0x55);
        let order = if dice.roll(3) == 0 { Order::Newest } else { Order::InOrder };
        let now = Now {
            wall: roost_protocol::time::Timestamp { ms: crate::hand::WALL },
            ..Now::default()
        };
        let devices = (0..3).map(|at| Device::new(&[], seed * 3 + at, order)).collect();
        let mut world = Self {
            dice,
            server: Server::new(),
            devices,
            now,
            tag: 0,
            said: vec![vec![]; 3],
            stale: vec![],
            order,
            forgot: false,
        };
        for device in 0..3 {
            world.feed(device, Input::Start);
        }
        world
    }

    fn feed(&mut self, device: usize, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.devices[device].session.handle(self.now, input, &mut outputs);
        for output in outputs {
            self.perform(device, output);
        }
        let session = &self.devices[device].session;
        assert!(session.next_deadline().is_none_or(|due| due.ns < u64::MAX));
    }

    fn perform(&mut self, at: usize, output: Output) {
        let device = &mut self.devices[at];
        match output {
            Output::Connect => device.connecting = true,
            Output::Transmit(bytes) => device.transmit(&bytes),
            Output::Disconnect => self.cut(at),
            Output::Persist { id, record } => device.writing.push_back((id, record)),
            Output::NeedToken => panic!("no token is ever refused here"),
            Output::Event(event) => self.told(at, event),
        }
    }

    fn told(&mut self, at: usize, event: Event) {
        let strict = self.order == Order::InOrder && !self.forgot;
        let device = &mut self.devices[at];
        match event {
            Event::Message { .. } | Event::Record { .. } => {
                let (seq, text) = text_shown(&event);
                if strict {
                    assert!(seq > device.last_shown, "{seq} after {}", device.last_shown);
                }
                if !self.forgot {
                    assert!(!device.shown.contains_key(&seq), "{seq} is shown twice");
                }
                device.last_shown = device.last_shown.max(seq);
                device.shown.insert(seq, text);
            }
            Event::EncryptAgain { tag, client_message_id, versions } => {
                let content = (self.dice.roll(4) > 0).then(|| content_of(tag, versions[0].version));
                let command = Command::EncryptedAgain { client_message_id, content };
                self.feed(at, Input::Command(command));
            }
            Event::Answer { tag, answer } => {
                assert!(device.asked.remove(&tag) || device.groups.contains(&tag) || self.forgot);
                assert!(device.answered.insert(tag) || self.forgot, "{tag} is answered twice");
                assert!(answer.is_ok() || self.forgot, "{answer:?}");
            }
            Event::Accepted { tag, seq, .. } => {
                let before = device.accepted.insert(tag, seq.0);
                assert!(before.is_none() || self.forgot, "{tag} is accepted twice");
                device.shown.insert(seq.0, text_of(tag));
            }
            Event::Refused { tag, .. } => {
                assert!(device.refused.insert(tag) || self.forgot);
            }
            Event::Dropped { above, .. } => {
                device.shown.retain(|seq, _| *seq <= above.0);
                device.accepted.retain(|_, seq| *seq <= above.0);
                device.last_shown = device.last_shown.min(above.0);
            }
            Event::Fatal { code, text } => panic!("fatal: {code:?} {text}"),
            _ => {}
        }
    }

    /// The device's connection is gone; what is in the edge's queue may still be served.
    fn cut(&mut self, at: usize) {
        let device = &mut self.devices[at];
        (device.connecting, device.connected) = (false, false);
        device.incoming.clear();
        let edge = std::mem::replace(&mut device.edge, Edge { number: 0, queue: VecDeque::new() });
        self.stale.push((at, edge));
    }

    fn kill(&mut self, at: usize, old_backup: bool) {
        self.cut(at);
        let device = &mut self.devices[at];
        let records = if old_backup { device.backup.clone() } else { device.disk.clone() };
        let keep_shown = std::mem::take(&mut device.shown);
        let (accepted, refused) =
            (std::mem::take(&mut device.accepted), std::mem::take(&mut device.refused));
        let (backup, last_shown) = (device.backup.clone(), device.last_shown);
        let (groups, answered) =
            (std::mem::take(&mut device.groups), std::mem::take(&mut device.answered));
        let seed = self.dice.roll(1 << 30);
        *device = Device::new(&records, seed, self.order);
        device.backup = backup;
        (device.shown, device.last_shown) = (keep_shown, last_shown);
        (device.accepted, device.refused) = (accepted, refused);
        (device.groups, device.answered) = (groups, answered);
        self.feed(at, Input::Start);
    }

    /// One random step.
    fn step(&mut self, faults: bool) {
        let at = self.dice.roll(3) as usize;
        match self.dice.roll(if faults { 24 } else { 16 }) {
            0..=3 => self.serve(at),
            4..=7 => self.receive(at),
            8..=10 => self.confirm(at),
            11 | 12 => self.link(at),
            13 => self.pass(Duration::from_ms(self.dice.0 % 50)),
            14 => self.tick(at),
            15 | 16 => self.serve_stale(),
            17 | 18 if self.tag < 60 => self.say(at),
            22 if self.dice.roll(4) == 0 => self.ask(at),
            23 if self.dice.roll(10) == 0 => self.server.devices_version += 1,
            19 if self.devices[at].connected => {
                self.cut(at);
                self.feed(at, Input::Disconnected);
            }
            20 if self.dice.roll(6) == 0 => self.kill(at, false),
            21 if self.dice.roll(4) == 0 => {
                let codes = [ErrorCode::ErrorBusy, ErrorCode::ErrorForbidden];
                self.server.refusing = Some((codes[self.dice.roll(2) as usize], 2));
            }
            _ => {}
        }
    }

    fn say(&mut self, at: usize) {
        self.tag += 1;
        let peer = if USERS[at] == "ann" { "bob" } else { "ann" };
        let to = Peer::User(UserId::new(peer).unwrap());
        // Sometimes encrypted for a list that is not current.
        let content = content_of(self.tag, self.server.devices_version - self.dice.roll(2));
        let (reply_to, tag) = (Sequence(0), self.tag);
        self.said[at].push(tag);
        self.feed(at, Input::Command(Command::Write { to, content, reply_to, tag }));
    }

    fn ask(&mut self, at: usize) {
        self.tag += 1;
        let tag = self.tag;
        let conversation = crate::server::the_conversation();
        let settings =
            ConversationSettings { muted_until_ms: Some(tag), ..ConversationSettings::default() };
        let device = &mut self.devices[at];
        let ask = match self.dice.roll(4) {
            0 => Ask::ListDevices,
            1 => Ask::CreateGroup(new_group(tag)),
            _ => Ask::SetConversation { conversation, settings },
        };
        if matches!(ask, Ask::CreateGroup(_)) {
            device.groups.insert(tag);
        } else {
            device.asked.insert(tag);
        }
        self.feed(at, Input::Command(Command::Ask { ask, tag }));
    }

    fn serve(&mut self, at: usize) {
        let Some((id, body)) = self.devices[at].edge.queue.pop_front() else { return };
        let number = self.devices[at].edge.number;
        let before = self.server.log.len();
        if let Some(answer) = self.server.answer(at, number, body) {
            self.devices[at].incoming.push_back((id, answer));
        }
        self.fan_out(before, at);
    }

    fn serve_stale(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let place = self.dice.roll(self.stale.len() as u64) as usize;
        let (at, edge) = &mut self.stale[place];
        let (at, number) = (*at, edge.number);
        match edge.queue.pop_front() {
            // A late Hello is refused by its number; nobody hears the answer.
            Some((_, body)) => {
                let before = self.server.log.len();
                self.server.answer(at, number, body);
                self.fan_out(before, at);
            }
            None => {
                self.stale.remove(place);
            }
        }
    }

    /// Pushes what is new to all devices but the sending one, unless a push is lost.
    fn fan_out(&mut self, before: usize, from: usize) {
        for seq in before + 1..=self.server.log.len() {
            for to in (0..3).filter(|to| *to != from) {
                if self.devices[to].session.is_welcomed() {
                    let lost = self.dice.roll(4) == 0;
                    let behind = wire::server_frame::Body::Behind(wire::Behind {});
                    let push = if lost { behind } else { self.server.push(to, seq as u64) };
                    self.devices[to].incoming.push_back((0, push));
                }
            }
        }
    }

    fn receive(&mut self, at: usize) {
        let Some((id, body)) = self.devices[at].incoming.pop_front() else { return };
        let mut bytes = Vec::new();
        encode::server(id, body, &mut bytes);
        let cut = self.dice.roll(bytes.len() as u64) as usize;
        self.feed(at, Input::Received(&bytes[..cut]));
        self.feed(at, Input::Received(&bytes[cut..]));
    }

    fn confirm(&mut self, at: usize) {
        let Some((id, record)) = self.devices[at].writing.pop_front() else { return };
        self.devices[at].disk.push(record);
        if self.dice.roll(40) == 0 {
            self.devices[at].backup = self.devices[at].disk.clone();
        }
        self.feed(at, Input::Persisted(id));
    }

    fn link(&mut self, at: usize) {
        if !std::mem::take(&mut self.devices[at].connecting) {
            return;
        }
        let device = &mut self.devices[at];
        device.reader = FrameReader::new();
        device.preface = false;
        device.connected = true;
        self.feed(at, Input::Connected);
    }

    fn pass(&mut self, length: Duration) {
        self.now.monotonic = self.now.monotonic + length;
        self.now.wall.ms += length.as_ms();
        self.server.wall = self.now.wall.ms;
    }

    fn tick(&mut self, at: usize) {
        let due = self.devices[at].session.next_deadline();
        if due.is_some_and(|due| due <= self.now.monotonic) {
            self.feed(at, Input::Tick);
        }
    }

    /// Without faults, until nothing happens any more.
    fn settle(&mut self) {
        self.server.refusing = None;
        for round in 0..40 {
            for _ in 0..400 {
                self.step(false);
            }
            self.pass(Duration::from_seconds(1));
            for at in 0..3 {
                self.tick(at);
                if round < 20 {
                    self.feed(at, Input::Command(Command::Sync));
                }
            }
        }
        for at in 0..3 {
            let session = &self.devices[at].session;
            assert!(session.is_welcomed() && session.is_idle(), "device {at}: {session:#?}");
        }
    }

    fn check(&self) {
        let mut placed = BTreeSet::new();
        for (index, stored) in self.server.log.iter().enumerate() {
            assert!(placed.insert(text_in(&stored.content)), "visible twice at {}", index + 1);
        }
        self.check_asked();
        for (at, device) in self.devices.iter().enumerate() {
            // With the newest first, what lies below the first page comes on demand.
            let first = match self.order {
                Order::InOrder => 0,
                Order::Newest => device.session_floor(),
            };
            for (index, stored) in self.server.log.iter().enumerate().skip(first) {
                let shown = device.shown.get(&(index as u64 + 1));
                let said = text_in(&stored.content);
                assert_eq!(shown, Some(&said), "device {at}, seq {}", index + 1);
            }
            assert_eq!(device.session.unanswered(), 0);
            self.check_said(at, device);
            let foreign = self.server.log.iter().rposition(|s| USERS[s.sender] != USERS[at]);
            let all = device.session_floor() == 0 || self.order == Order::Newest;
            assert!(all && device.shown.len() >= self.server.log.len().min(3), "device {at}");
            if let Some(foreign) = foreign {
                let delivered = self.server.delivered.get(&at).copied().unwrap_or(0);
                assert!(
                    delivered > foreign as u64,
                    "device {at} said {delivered}, not {}: {:#?}",
                    foreign + 1,
                    device.session
                );
            }
        }
    }

    /// Every question of a living app is answered, changes were taken in order, and a group that
    /// somebody was told of is there.
    fn check_asked(&self) {
        for (at, device) in self.devices.iter().enumerate() {
            assert_eq!(device.asked.iter().collect::<Vec<_>>(), Vec::<&u64>::new());
            assert_eq!(device.session.unanswered_asks(), 0);
            let own = self.server.muted.iter().filter(|(of, _)| *of == at);
            let values: Vec<u64> = own.map(|(_, value)| *value).collect();
            assert!(values.is_sorted(), "device {at} changed {values:?}");
            for tag in device.answered.intersection(&device.groups) {
                let nonce = new_group(*tag).nonce;
                assert!(self.server.groups.contains(&nonce[..]), "group {tag}");
            }
        }
    }

    /// What a device said is stored in the order in which it was said, or was refused.
    fn check_said(&self, at: usize, device: &Device) {
        let mut last = 0;
        for tag in &self.said[at] {
            let text = text_of(*tag);
            let place = self.server.log.iter().position(|stored| text_in(&stored.content) == text);
            if let Some(seq) = device.accepted.get(tag) {
                assert_eq!(place, Some(*seq as usize - 1), "{tag} was accepted");
            }
            if device.refused.contains(tag) && !self.forgot {
                assert_eq!(place, None, "{tag} was refused");
            }
            // An old backup says again what was refused since.
            let again = device.refused.contains(tag);
            if let Some(place) = place.filter(|_| !again) {
                assert!(place + 1 > last, "{tag} of device {at} overtook");
                last = place + 1;
            }
        }
    }

    /// What was written down is what the session is.
    fn check_records(&mut self) {
        for device in &mut self.devices {
            let written = device.writing.iter().map(|(_, record)| record);
            let records: Vec<&[u8]> =
                device.disk.iter().chain(written).map(Vec::as_slice).collect();
            let restored = Restored::from_records(records).unwrap();
            assert_eq!(restored.snapshot(), device.session.snapshot());
            let snapshot = device.session.snapshot();
            let again = Restored::from_records(snapshot.iter().map(Vec::as_slice)).unwrap();
            assert_eq!(again.snapshot(), snapshot);
        }
    }
}

impl Device {
    fn new(records: &[Vec<u8>], seed: u64, order: Order) -> Self {
        let restored = Restored::from_records(records.iter().map(Vec::as_slice)).unwrap();
        let config = Config { order, seed, ..config() };
        let credential = Credential::Token("token".to_owned());
        Self {
            session: Session::new(config, credential, restored),
            disk: records.to_vec(),
            writing: VecDeque::new(),
            backup: records.to_vec(),
            connecting: false,
            connected: false,
            reader: FrameReader::new(),
            preface: false,
            edge: Edge { number: 0, queue: VecDeque::new() },
            incoming: VecDeque::new(),
            shown: BTreeMap::new(),
            last_shown: 0,
            accepted: BTreeMap::new(),
            refused: BTreeSet::new(),
            asked: BTreeSet::new(),
            groups: BTreeSet::new(),
            answered: BTreeSet::new(),
        }
    }

    /// The place of the oldest page this device was shown without a hole above it.
    fn session_floor(&self) -> usize {
        let mut top = self.shown.keys().next_back().copied().unwrap_or(0);
        while top > 0 && self.shown.contains_key(&top) {
            top -= 1;
        }
        top as usize
    }

    fn transmit(&mut self, bytes: &[u8]) {
        let bytes = if self.preface { bytes } else { bytes.strip_prefix(&PREFACE).unwrap() };
        self.preface = true;
        self.reader.push(bytes);
        while let Some(frame) = self.reader.next_frame(300_000).unwrap() {
            if frame.is_empty() {
                self.incoming.push_back((0, wire::server_frame::Body::Behind(wire::Behind {})));
                continue;
            }
            let frame = wire::ClientFrame::decode(frame).unwrap();
            let body = frame.body.unwrap();
            if let wire::client_frame::Body::Hello(hello) = &body {
                self.edge.number = hello.connection_number;
            }
            self.edge.queue.push_back((frame.request_id, body));
        }
    }
}

fn run(seed: u64, mishap: impl Fn(&mut World)) {
    let mut world = World::new(seed);
    for round in 0..3 {
        for step in 0..1500 {
            world.step(true);
            if step % 100 == 0 {
                world.check_records();
            }
        }
        if round == 1 {
            mishap(&mut world);
        }
    }
    world.settle();
    world.check();
    world.check_records();
    assert!(!world.server.log.is_empty());
}

/// The seeds of one test: 60 of them, or as many as `ROOST_SEEDS` says.
fn seeds(base: u64) -> std::ops::Range<u64> {
    let count = std::env::var("ROOST_SEEDS").ok().and_then(|count| count.parse().ok());
    base..base + count.unwrap_or(60)
}

#[test]
fn lost_connections_and_killed_apps() {
    for seed in seeds(0) {
        println!("seed {seed}");
        run(seed, |_| ());
    }
}

#[test]
fn an_old_backup_of_a_device() {
    for seed in seeds(10_000) {
        println!("seed {seed}");
        run(seed, |world| {
            world.forgot = true;
            let at = world.dice.roll(3) as usize;
            world.kill(at, true);
        });
    }
}

#[test]
fn a_restart_of_the_server() {
    for seed in seeds(20_000) {
        println!("seed {seed}");
        run(seed, |world| {
            world.server.restart();
            world.stale.clear();
            for at in 0..3 {
                let connected = world.devices[at].connected;
                world.cut(at);
                world.stale.clear();
                world.server.delivered.clear();
                if connected {
                    world.feed(at, Input::Disconnected);
                } else {
                    world.feed(at, Input::ConnectFailed);
                }
            }
        });
    }
}

#[test]
fn another_store() {
    for seed in seeds(30_000) {
        println!("seed {seed}");
        run(seed, |world| {
            world.forgot = true;
            let length = world.server.log.len() / 2;
            world.server.restore(length.max(1).min(world.server.log.len()));
            world.stale.clear();
            for at in 0..3 {
                let connected = world.devices[at].connected;
                world.cut(at);
                world.stale.clear();
                if connected {
                    world.feed(at, Input::Disconnected);
                } else {
                    world.feed(at, Input::ConnectFailed);
                }
            }
            // Nothing new is stored before every device has compared its head: heads alone cannot
            // tell two stories of the same length apart.
            world.server.refusing = Some((ErrorCode::ErrorBusy, u32::MAX));
            for _ in 0..60 {
                (0..200).for_each(|_| world.step(false));
                world.pass(Duration::from_ms(500));
                (0..3).for_each(|at| world.tick(at));
            }
            world.server.refusing = None;
        });
    }
}
