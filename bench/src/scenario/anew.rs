//! Everybody leaves, the server is started anew over the same folder, and when it is calm everybody
//! returns, as devices do: with a ticket, asking for what they missed. Then each writes to its next
//! neighbour, so each receives a message and acknowledges it. What filled the store and what
//! sessions take are then not of one process.

use super::calm::Calm;
use super::load;
use super::population::{FLYING_MAX, direct};
use super::retries::{BUSY, Retries};
use crate::measure::Observed;
use crate::process::Usage;
use crate::swarm::{DeviceIndex, Frame, SYNC, Swarm};
use crate::target::{mark_body, read_body, scramble};
use crate::wire::{self, ConversationBytes, Incoming, Pushed, Receipt, Write};
use roost_protocol::time::{Duration, Instant};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

/// The request id of the message that each device writes.
const NEWS: u32 = 50;
/// The last 16 bits of its id; the population's have the round there.
const NEWS_ID: u64 = 0xffff;
/// Bytes of its body.
const BODY_BYTES: usize = 100;
/// Before they leave, so that what the last first message causes is over.
const PAUSE: Duration = Duration::from_seconds(3);
/// Syncs of all devices that are under way before they leave.
const SYNCS_MAX: u64 = 2_000;
/// How long it may take until anything goes on.
const PATIENCE: Duration = Duration::from_seconds(120);

/// Starts the server anew and says where devices find it, and where it can be seen.
pub type Restart = Box<dyn FnMut() -> Result<(SocketAddr, Observed), String>>;

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Resident memory of the server that was filled, when everything was there.
    pub filled_rss_bytes: Option<u64>,
    /// Devices that were welcomed before the restart.
    pub welcomed_before: u32,
    /// How long the new server was waited for.
    pub calm_after: Duration,
    /// Whether it was calm then; otherwise that took too long.
    pub is_calm: bool,
    /// When they began to return.
    pub returned: Option<Instant>,
    /// Devices that their neighbour's message came to.
    pub received: u32,
    /// Devices whose acknowledgement the neighbour was told of.
    pub acknowledged: u32,
    /// Messages that came once more.
    pub duplicated: u64,
    /// Requests that were refused as busy and repeated.
    pub repeated: u64,
}

/// What a step led to.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing that others must know.
    Goes,
    /// There is another server, which can be seen there.
    Restarted(Observed),
    /// It rests, and nobody has come yet.
    Calm,
    /// All are there again, and up to date.
    Back,
    /// Each has received a message and acknowledged it.
    Over,
    /// It cannot go on.
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pausing,
    Syncing,
    Resting,
    Leaving,
    Calming,
    Returning,
    Writing,
}

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    cursor: u64,
    /// The place of the message that it wrote, once that is accepted.
    seq: u64,
    /// How far its next neighbour has acknowledged.
    delivered: u64,
    has_received: bool,
    /// Its next neighbour has acknowledged its message.
    is_acknowledged: bool,
}

/// See the module's comment.
pub(super) struct Anew {
    users: Rc<[String]>,
    /// The number of the message that each writes to its next neighbour.
    number: u32,
    restart: Restart,
    observed: Observed,
    members: Vec<Member>,
    phase: Phase,
    pause_ends: Option<Instant>,
    calm: Calm,
    /// The next device of a phase in which one follows the other.
    next: DeviceIndex,
    /// Answers that are waited for.
    left: u64,
    retries: Retries,
    /// What changes as long as anything goes on, and when it did last.
    progress: ([u64; 5], Instant),
    findings: Findings,
    failure: Option<String>,
}

impl fmt::Debug for Anew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anew").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Anew {
    /// All are still there, on the server that can be seen there. `written`: messages that each
    /// has written to its next neighbour. `settle`: how long what is measured will have rested.
    pub(super) fn new(
        users: Rc<[String]>,
        written: u32,
        restart: Restart,
        observed: Observed,
        settle: Duration,
    ) -> Self {
        Self {
            members: vec![Member::default(); users.len()],
            users,
            number: written + 1,
            restart,
            observed,
            phase: Phase::Pausing,
            pause_ends: None,
            calm: Calm::new(settle),
            next: 0,
            left: 0,
            retries: Retries::default(),
            progress: ([0; 5], Instant::default()),
            findings: Findings::default(),
            failure: None,
        }
    }

    /// What was found.
    pub(super) fn into_findings(self) -> Findings {
        Findings { repeated: self.retries.count, ..self.findings }
    }

    fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.next = 0;
        self.retries.forget();
    }

    /// Goes on: once a turn.
    pub(super) fn step(&mut self, swarm: &mut Swarm, now: Instant) -> Step {
        while let Some((device, request)) = self.retries.next(now) {
            self.repeat(swarm, device, request);
        }
        let step = self.advance(swarm, now);
        self.look_for_progress(swarm, now);
        self.failure.take().map_or(step, Step::Failed)
    }

    fn advance(&mut self, swarm: &mut Swarm, now: Instant) -> Step {
        let (phase, counts) = (self.phase, swarm.counts());
        match phase {
            Phase::Pausing if now >= *self.pause_ends.get_or_insert(now + PAUSE) => {
                self.findings.filled_rss_bytes = self.usage().map(|usage| usage.rss_bytes);
                self.enter(Phase::Syncing);
            }
            Phase::Syncing if self.sync_all(swarm) => {
                swarm.stop_heartbeats();
                self.enter(Phase::Resting);
            }
            Phase::Resting if counts.echoes == counts.heartbeats => {
                self.findings.welcomed_before = counts.welcomed;
                (0..swarm.devices()).for_each(|index| swarm.leave(index));
                self.enter(Phase::Leaving);
            }
            Phase::Leaving if swarm.is_empty() => return self.start(swarm),
            Phase::Calming => {
                if let Some(waited) = self.calm.look(now, || self.observed.pid.and_then(Usage::of))
                {
                    self.findings.calm_after = waited.length;
                    self.findings.is_calm = waited.is_calm;
                    self.return_all(swarm, now);
                    return Step::Calm;
                }
            }
            Phase::Returning
                if swarm.settled() && (self.left == 0 || swarm.first_refusal().is_some()) =>
            {
                if let Some(why) = swarm.first_refusal() {
                    self.fail(format!("{} devices could not return: {why}", counts.refused));
                }
                self.enter(Phase::Writing);
                return Step::Back;
            }
            Phase::Writing if self.write_all(swarm) => return Step::Over,
            Phase::Pausing
            | Phase::Syncing
            | Phase::Resting
            | Phase::Leaving
            | Phase::Returning
            | Phase::Writing => {}
        }
        Step::Goes
    }

    fn usage(&self) -> Option<Usage> {
        self.observed.pid.and_then(Usage::of)
    }

    /// Whoever waits for what never comes says so.
    fn look_for_progress(&mut self, swarm: &Swarm, now: Instant) {
        let Findings { received, acknowledged, .. } = self.findings;
        let counts = swarm.counts();
        let connections = u64::from(counts.welcomed) + u64::from(counts.left);
        let of = [received, acknowledged, self.next].map(u64::from);
        let progress = [of[0], of[1], of[2], self.left, connections];
        let waits = !matches!(self.phase, Phase::Pausing | Phase::Calming);
        if self.progress.0 != progress || !waits {
            self.progress = (progress, now);
        } else if now.since(self.progress.1) >= PATIENCE {
            let (phase, users) = (self.phase, self.users.len());
            self.fail(format!(
                "{phase:?} took too long: of {users} users {received} have received a message and \
                 {acknowledged} acknowledged it"
            ));
        }
    }

    /// Every device learns where to go on from. Says whether all have.
    fn sync_all(&mut self, swarm: &mut Swarm) -> bool {
        while self.next < swarm.devices() && self.left < SYNCS_MAX {
            wire::sync(SYNC, 0, swarm.out(self.next));
            self.next += 1;
            self.left += 1;
        }
        self.left == 0
    }

    fn start(&mut self, swarm: &mut Swarm) -> Step {
        match (self.restart)() {
            Ok((server, observed)) => {
                swarm.redirect(server, swarm.connect_rate());
                self.observed = observed;
                self.enter(Phase::Calming);
                Step::Restarted(observed)
            }
            Err(why) => Step::Failed(why),
        }
    }

    fn return_all(&mut self, swarm: &mut Swarm, now: Instant) {
        self.enter(Phase::Returning);
        self.findings.returned = Some(now);
        self.left = self.members.len() as u64;
        for (index, member) in (0..).zip(&self.members) {
            swarm.come_back(index, Some(member.cursor));
        }
        swarm.start_heartbeats(now);
    }

    /// Each writes to its next neighbour. Says whether all know that it was acknowledged.
    fn write_all(&mut self, swarm: &mut Swarm) -> bool {
        while self.next < swarm.devices() && self.left < FLYING_MAX {
            self.write(swarm, self.next);
            self.next += 1;
            self.left += 1;
        }
        let all = self.members.len();
        [self.findings.received, self.findings.acknowledged].map(|of| of as usize) == [all; 2]
    }

    /// A device's next neighbour.
    fn after(&self, index: DeviceIndex) -> usize {
        (index as usize + 1) % self.users.len()
    }

    fn conversation(&self, index: DeviceIndex) -> ConversationBytes {
        direct(&self.users[index as usize], &self.users[self.after(index)])
    }

    fn write(&self, swarm: &mut Swarm, index: DeviceIndex) {
        let mut body = [0; BODY_BYTES];
        mark_body(&mut body, index, self.number.into());
        let write = Write {
            conversation: &self.conversation(index),
            number: self.number.into(),
            id: scramble(u64::from(index) << 16 | NEWS_ID),
            seen: (self.number - 1).into(),
            body: &body,
        };
        if self.number == 1 {
            wire::send_first(NEWS, &self.users[self.after(index)], &write, swarm.out(index));
        } else {
            wire::send_as(NEWS, &write, swarm.out(index));
        }
    }

    fn repeat(&self, swarm: &mut Swarm, index: DeviceIndex, request: u64) {
        if request == u64::from(SYNC) {
            wire::sync(SYNC, self.members[index as usize].cursor, swarm.out(index));
        } else {
            self.write(swarm, index);
        }
    }

    /// A frame came to a device.
    pub(super) fn frame(
        &mut self,
        swarm: &mut Swarm,
        index: DeviceIndex,
        frame: &Frame<'_>,
        now: Instant,
    ) {
        match frame.says {
            Incoming::Sync(body) => {
                let (_, cursor, more) = wire::entries(body);
                self.members[index as usize].cursor = cursor;
                if more {
                    wire::sync(SYNC, cursor, swarm.out(index));
                } else {
                    self.left = self.left.saturating_sub(1);
                }
            }
            Incoming::SendReply { seq, .. } if frame.request == u64::from(NEWS) => {
                self.left = self.left.saturating_sub(1);
                self.members[index as usize].seq = seq;
                self.look_at(index);
            }
            Incoming::Message(pushed) => {
                if let Some(conversation) = pushed.conversation {
                    wire::delivered(&conversation, pushed.seq, swarm.out(index));
                }
                self.told(index, &pushed);
            }
            Incoming::Receipts(body) if self.phase == Phase::Writing => {
                wire::room_receipts(body).for_each(|receipt| self.acknowledged(index, &receipt));
            }
            Incoming::Error { code: BUSY, .. } => self.retries.put(index, frame.request, now),
            Incoming::Error { code, .. } => self.fail(load::refused(index, frame.request, code)),
            Incoming::Behind if self.phase == Phase::Writing => {
                self.fail(format!("device {index} fell behind"));
            }
            Incoming::Welcome { .. }
            | Incoming::SendReply { .. }
            | Incoming::Receipts(_)
            | Incoming::History(_)
            | Incoming::GroupCreated { .. }
            | Incoming::Behind
            | Incoming::Other => {}
        }
    }

    /// A message came; it is acknowledged already.
    fn told(&mut self, index: DeviceIndex, pushed: &Pushed<'_>) {
        let expected = |(author, number): (u64, u64)| {
            let author = DeviceIndex::try_from(author).ok().filter(|of| self.is_device(*of));
            author.is_some_and(|author| self.after(author) == index as usize)
                && number == u64::from(self.number)
        };
        if pushed.own || !read_body(pushed.body).is_some_and(expected) {
            return;
        }
        let member = &mut self.members[index as usize];
        if std::mem::replace(&mut member.has_received, true) {
            self.findings.duplicated += 1;
        } else {
            self.findings.received += 1;
        }
    }

    fn is_device(&self, index: DeviceIndex) -> bool {
        (index as usize) < self.members.len()
    }

    /// A device is told how far another has got.
    fn acknowledged(&mut self, index: DeviceIndex, receipt: &Receipt) {
        if receipt.conversation == Some(self.conversation(index)) {
            let member = &mut self.members[index as usize];
            member.delivered = member.delivered.max(receipt.delivered);
            self.look_at(index);
        }
    }

    /// Whether a device's message was accepted and acknowledged.
    fn look_at(&mut self, index: DeviceIndex) {
        let member = &mut self.members[index as usize];
        if member.seq > 0 && member.delivered >= member.seq && !member.is_acknowledged {
            member.is_acknowledged = true;
            self.findings.acknowledged += 1;
        }
    }
}
