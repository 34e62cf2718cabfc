//! Users who were away come back: half of them leave, the others write to them, and they return
//! within some seconds, each with news in a few of its conversations. Each must find every message
//! once. With a restart everybody leaves and the server is started anew, with cold caches.

use super::anew::Restart;
use super::load;
use super::population::{FLYING_MAX, Population, Ties, direct};
use super::retries::{BUSY, Retries};
use crate::latency::histogram;
use crate::process::Usage;
use crate::swarm::{DeviceIndex, Flow, Frame, SYNC, Scenario, Swarm};
use crate::target::{read_body, scramble};
use crate::wire::{self, ConversationBytes, Incoming, Write};
use hdrhistogram::Histogram;
use roost_event_loop::CloseCause;
use roost_protocol::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// The request ids of pages count from here.
const PAGE: u32 = 1_000;
/// The request ids of news count from here.
const NEWS: u32 = 50;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_seconds(120);
/// From the last one's leaving to the first one's return, so that what leaving caused is over.
const PAUSE: Duration = Duration::from_seconds(3);
/// Whoever misses something syncs again after so long, at most so often.
const ROUND: Duration = Duration::from_seconds(1);
const ROUNDS_MAX: u32 = 30;

/// What is to be done.
pub struct Settings {
    /// The user id of each device.
    pub users: Vec<String>,
    /// What users have.
    pub ties: Ties,
    /// In how many of their conversations those who return have news.
    pub fresh: u32,
    /// Within what time they return.
    pub over: Duration,
    /// Where the server is.
    pub server: SocketAddr,
    /// The server's process, if it can be seen.
    pub server_pid: Option<u32>,
    /// Before they return the server is started anew.
    pub restart: Option<Restart>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("ties", &self.ties).finish_non_exhaustive()
    }
}

/// What the run found.
#[derive(Debug)]
pub struct Findings {
    /// Devices that returned.
    pub returned: u64,
    /// Of them, those that were up to date in the end.
    pub caught_up: u64,
    /// Messages that they missed and found.
    pub found: u64,
    /// Of these, found only when devices synced once more: the server had not told all yet.
    pub late: u64,
    /// Messages that nobody found.
    pub lost: u64,
    /// Messages found twice.
    pub duplicated: u64,
    /// Requests that were refused as busy and repeated.
    pub repeated: u64,
    /// From Hello to Welcome.
    pub welcomed_us: Histogram<u64>,
    /// From Hello to having everything.
    pub caught_up_us: Histogram<u64>,
    /// From the first return to the last one's being up to date.
    pub took: Duration,
    /// When everybody had connected for the first time.
    pub connected: Option<Instant>,
    /// The server before and after the return.
    pub server: [Option<Usage>; 2],
    /// Buffers that came during the return: about what the server sent.
    pub received: u64,
    /// Why the run ended before it was done.
    pub failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Populating,
    Syncing,
    Leaving,
    News,
    Emptying,
    Pausing,
    Returning,
    Waiting,
}

#[derive(Debug, Clone, Copy, Default)]
struct Returner {
    cursor: u64,
    hello: Instant,
    /// Pages that are not there yet.
    pages: u16,
    /// Pages asked for so far.
    asked: u32,
    /// The sync is through.
    synced: bool,
    done: bool,
    /// Which of the news were found.
    found: u64,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Catchup {
    settings: Settings,
    population: Population,
    devices: Vec<Returner>,
    phase: Phase,
    phase_ends: Instant,
    /// What the phase waits for.
    left: u64,
    /// News that were sent.
    written: u64,
    /// How often those who missed something asked again.
    rounds: u32,
    began: Instant,
    /// The conversations of pages that are not there yet.
    asked: BTreeMap<(DeviceIndex, u64), ConversationBytes>,
    retries: Retries,
    findings: Findings,
}

impl Catchup {
    /// Before the first connection.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let findings = Findings {
            returned: 0,
            caught_up: 0,
            found: 0,
            late: 0,
            lost: 0,
            duplicated: 0,
            repeated: 0,
            welcomed_us: histogram(),
            caught_up_us: histogram(),
            took: Duration::default(),
            connected: None,
            server: [None; 2],
            received: 0,
            failure: None,
        };
        Self {
            population: Population::new(settings.ties, settings.users.as_slice().into()),
            devices: vec![Returner::default(); settings.users.len()],
            phase: Phase::Connecting,
            // Connecting ends by itself, sooner or later.
            phase_ends: Instant { ns: u64::MAX },
            left: 0,
            written: 0,
            rounds: 0,
            began: Instant::default(),
            asked: BTreeMap::new(),
            retries: Retries::default(),
            findings,
            settings,
        }
    }

    /// What was found; also counts what nobody found.
    #[must_use]
    pub fn into_findings(mut self) -> Findings {
        self.findings.lost = self.missing();
        self.findings.repeated = self.retries.count;
        self.findings
    }

    /// Those who go away: every second one. The others write to them.
    fn returners(&self) -> impl Iterator<Item = DeviceIndex> + use<> {
        let users = u32::try_from(self.settings.users.len()).expect("users are counted in a u32");
        (0..users).step_by(2)
    }

    /// Everybody who comes in the end.
    fn comers(&self) -> Vec<DeviceIndex> {
        let users = u32::try_from(self.settings.users.len()).expect("users are counted in a u32");
        if self.settings.restart.is_some() {
            (0..users).collect()
        } else {
            self.returners().collect()
        }
    }

    fn fail(&mut self, why: String) {
        self.findings.failure.get_or_insert(why);
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.phase_ends = now + PATIENCE;
        self.retries.forget();
    }

    fn advance(&mut self, swarm: &mut Swarm, now: Instant) -> bool {
        let phase = self.phase;
        match phase {
            Phase::Connecting if swarm.settled() => {
                self.findings.connected = Some(now);
                if let Some(why) = swarm.first_refusal() {
                    self.fail(format!("devices could not connect: {why}"));
                }
                self.phase = Phase::Populating;
            }
            Phase::Populating if self.population.step(swarm) => {
                self.enter(Phase::Syncing, now);
                for index in self.comers() {
                    self.left += 1;
                    wire::sync(SYNC, 0, swarm.out(index));
                }
            }
            Phase::Syncing if self.left == 0 => {
                self.enter(Phase::Leaving, now);
                self.returners().for_each(|index| swarm.leave(index));
            }
            Phase::Leaving if u64::from(swarm.counts().left) == self.returners().count() as u64 => {
                self.enter(Phase::News, now);
            }
            Phase::News if self.write_news(swarm) => {
                self.enter(Phase::Emptying, now);
                if self.settings.restart.is_some() {
                    (0..swarm.devices()).filter(|i| i % 2 == 1).for_each(|i| swarm.leave(i));
                }
            }
            Phase::Emptying if self.settings.restart.is_none() || swarm.is_empty() => {
                self.enter(Phase::Pausing, now);
                self.phase_ends = now + PAUSE;
                self.restart();
            }
            Phase::Pausing if now >= self.phase_ends => {
                self.enter(Phase::Returning, now);
                self.return_all(swarm, now);
            }
            Phase::Returning if self.left == 0 => return self.returned(swarm, now),
            Phase::Waiting if now >= self.phase_ends => {
                self.enter(Phase::Returning, now);
                self.ask_again(swarm);
            }
            Phase::Waiting | Phase::Pausing => {}
            Phase::Connecting
            | Phase::Populating
            | Phase::Syncing
            | Phase::Leaving
            | Phase::News
            | Phase::Emptying
            | Phase::Returning => {
                if now >= self.phase_ends {
                    let left = self.left;
                    self.fail(format!("{phase:?} took too long; {left} are left"));
                }
            }
        }
        self.findings.failure.is_some()
    }

    /// All are up to date as they think. Says whether that is the end.
    fn returned(&mut self, swarm: &Swarm, now: Instant) -> bool {
        if self.rounds == 0 {
            self.findings.received = swarm.counts().receives - self.findings.received;
            self.findings.took = now.since(self.began);
            self.findings.server[1] = self.settings.server_pid.and_then(Usage::of);
            self.findings.late = self.missing();
        }
        if self.missing() == 0 || self.rounds == ROUNDS_MAX {
            return true;
        }
        self.rounds += 1;
        self.enter(Phase::Waiting, now);
        self.phase_ends = now + ROUND;
        false
    }

    /// News that nobody has found yet.
    fn missing(&self) -> u64 {
        let expected = self.returners().count() as u64 * u64::from(self.settings.fresh);
        expected.saturating_sub(self.findings.found)
    }

    /// Those who miss something sync once more.
    fn ask_again(&mut self, swarm: &mut Swarm) {
        for index in self.returners() {
            let device = &mut self.devices[index as usize];
            if device.found.count_ones() < self.settings.fresh {
                device.synced = false;
                self.left += 1;
                wire::sync(SYNC, device.cursor, swarm.out(index));
            }
        }
    }

    fn restart(&mut self) {
        let Some(restart) = &mut self.settings.restart else { return };
        match restart() {
            Ok((server, seen)) => {
                (self.settings.server, self.settings.server_pid) = (server, seen.pid);
            }
            Err(why) => self.fail(why),
        }
    }

    /// Those who stayed write to those who went. Says whether all of it is there.
    fn write_news(&mut self, swarm: &mut Swarm) -> bool {
        let writers = u64::from(swarm.devices() / 2);
        while self.written < writers * u64::from(self.settings.fresh) && self.left < FLYING_MAX {
            let (number, writer) = (self.written / writers, 2 * (self.written % writers) + 1);
            self.write_one(swarm, number, writer);
            self.written += 1;
            self.left += 1;
        }
        self.left == 0
    }

    fn write_one(&self, swarm: &mut Swarm, number: u64, writer: u64) {
        let users = u64::from(swarm.devices());
        // The conversation was begun by the one who went; this is the first answer.
        let reader = (writer + users - 1 - 2 * number % users) % users;
        let name = |user: u64| &*self.settings.users[usize::try_from(user).expect("a device")];
        let conversation = direct(name(writer), name(reader));
        let mut body = [0; 100];
        body[..8].copy_from_slice(&writer.to_le_bytes());
        body[8..16].copy_from_slice(&number.to_le_bytes());
        let write = Write {
            conversation: &conversation,
            number: 1,
            id: scramble(writer << 32 | number | 1 << 31),
            seen: 1,
            body: &body,
        };
        let request = NEWS + u32::try_from(number).expect("a few");
        let index = DeviceIndex::try_from(writer).expect("a device");
        wire::send_as(request, &write, swarm.out(index));
    }

    fn return_all(&mut self, swarm: &mut Swarm, now: Instant) {
        let comers = self.comers();
        let ms = self.settings.over.as_ms().max(1);
        let rate = u64::try_from(comers.len()).unwrap_or(u64::MAX) * 1_000 / ms;
        swarm.redirect(self.settings.server, u32::try_from(rate).unwrap_or(u32::MAX).max(1));
        self.findings.server[0] = self.settings.server_pid.and_then(Usage::of);
        self.findings.received = swarm.counts().receives;
        self.began = now;
        self.left = comers.len() as u64;
        self.findings.returned = self.left;
        for index in comers {
            let device = &mut self.devices[index as usize];
            device.synced = false;
            swarm.come_back(index, Some(device.cursor));
        }
    }

    fn synced(&mut self, swarm: &mut Swarm, index: DeviceIndex, body: &[u8], now: Instant) {
        let (entries, cursor, more) = wire::entries(body);
        let returning = self.phase == Phase::Returning;
        let device = &mut self.devices[index as usize];
        device.cursor = cursor;
        // In each direct conversation a device holds the one message there was.
        for entry in entries.iter().filter(|entry| returning && entry.head > 1) {
            if entry.conversation[15] & 3 == 1 {
                let request = PAGE + device.asked;
                device.asked += 1;
                device.pages += 1;
                self.asked.insert((index, request.into()), entry.conversation);
                wire::history(request, &entry.conversation, 1, swarm.out(index));
            }
        }
        if more {
            return wire::sync(SYNC, cursor, swarm.out(index));
        }
        if returning {
            device.synced = true;
            self.look(index, now);
        } else {
            self.left -= 1;
        }
    }

    fn pulled(&mut self, swarm: &Swarm, index: DeviceIndex, request: u64, body: &[u8]) {
        let (messages, more) = wire::page(body);
        if more {
            self.fail(format!("page {request} of device {index} is not all there is"));
        }
        let users = swarm.devices();
        let device = &mut self.devices[index as usize];
        device.pages -= 1;
        self.asked.remove(&(index, request));
        for message in messages.iter().filter(|message| !message.own) {
            let Some((writer, number)) = read_body(message.body) else { continue };
            let expected = (u64::from(index) + 1 + 2 * number) % u64::from(users);
            if writer != expected {
                continue;
            }
            let bit = 1_u64 << number.min(63);
            if device.found & bit == 0 {
                device.found |= bit;
                self.findings.found += 1;
            } else {
                self.findings.duplicated += 1;
            }
        }
    }

    /// Asks again for what was refused as busy.
    fn repeat(&self, swarm: &mut Swarm, index: DeviceIndex, request: u64) {
        if request == u64::from(SYNC) {
            let cursor = self.devices[index as usize].cursor;
            wire::sync(SYNC, cursor, swarm.out(index));
        } else if self.phase == Phase::Populating {
            self.population.repeat(swarm, index, request);
        } else if let Some(conversation) = self.asked.get(&(index, request)) {
            let request = u32::try_from(request).expect("a request of ours");
            wire::history(request, conversation, 1, swarm.out(index));
        } else {
            self.write_one(swarm, request.saturating_sub(NEWS.into()), index.into());
        }
    }

    /// Whether a device is up to date now.
    fn look(&mut self, index: DeviceIndex, now: Instant) {
        let device = &mut self.devices[index as usize];
        if !device.synced || device.pages > 0 {
            return;
        }
        if self.rounds > 0 {
            device.synced = false;
            self.left -= 1;
        } else if !device.done {
            device.done = true;
            let us = now.since(device.hello).ns / 1_000;
            self.findings.caught_up_us.saturating_record(us);
            self.findings.caught_up += 1;
            self.left -= 1;
        }
    }
}

impl Scenario for Catchup {
    fn greeted(&mut self, index: DeviceIndex, now: Instant) {
        self.devices[index as usize].hello = now;
    }

    fn frame(&mut self, swarm: &mut Swarm, index: DeviceIndex, frame: Frame<'_>, now: Instant) {
        if self.phase == Phase::Populating {
            self.population.frame(swarm, index, &frame);
        }
        match frame.says {
            Incoming::Sync(body) => self.synced(swarm, index, body, now),
            Incoming::History(body) => {
                self.pulled(swarm, index, frame.request, body);
                self.look(index, now);
            }
            Incoming::SendReply { .. } if self.phase == Phase::News => self.left -= 1,
            Incoming::Welcome { .. } if self.phase == Phase::Returning => {
                let us = now.since(self.devices[index as usize].hello).ns / 1_000;
                self.findings.welcomed_us.saturating_record(us);
            }
            Incoming::Error { code: BUSY, .. } => self.retries.put(index, frame.request, now),
            Incoming::Error { code, .. } => {
                self.fail(load::refused(index, frame.request, code));
            }
            Incoming::Welcome { .. }
            | Incoming::SendReply { .. }
            | Incoming::Message(_)
            | Incoming::Receipts(_)
            | Incoming::GroupCreated { .. }
            | Incoming::Behind
            | Incoming::Other => {}
        }
    }

    fn closed(&mut self, _: &mut Swarm, index: DeviceIndex, cause: CloseCause) {
        self.fail(load::disconnected(index, cause));
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        swarm.start_heartbeats(now);
        while let Some((device, request)) = self.retries.next(now) {
            self.repeat(swarm, device, request);
        }
        if self.advance(swarm, now) { Flow::Stop } else { Flow::Wait }
    }
}
