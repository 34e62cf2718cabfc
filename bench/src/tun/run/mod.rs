//! The loop: packets in, packets out, and what is due; from the first SYN to the last FIN.

mod storm;

pub use storm::{Storm, StormFindings};

use crate::measure::{Look, Meter, Observed};
use crate::process::available_bytes;
use crate::scenario::idle;
use crate::scenario::talk::{self, Talk};
use crate::stop;
use crate::swarm::{CONNECTING_MAX, Counts, DeviceIndex};
use crate::tun::crowd::{Crowd, WireCounts};
use crate::tun::guests::{Guests, Signer};
use crate::tun::link::{Link, TunError};
use crate::tun::network::Network;
use crate::tun::returns::Returns;
use roost_event_loop::now;
use roost_protocol::frame::HEARTBEAT;
use roost_protocol::time::{Duration, Instant};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::SocketAddrV4;

/// Packets that are read before what they lead to is written.
const READS_MAX: usize = 128;
/// Longest packet; the device's own limit is smaller.
const PACKET_BYTES: usize = 2_048;
/// Nothing is due sooner, unless messages are.
const TICK: Duration = Duration::from_ms(1);
/// When nothing goes on for so long, whoever waits waits in vain.
const SILENCE: Duration = Duration::from_seconds(20);
/// How long answers may take when nothing new is begun.
const PATIENCE: Duration = Duration::from_seconds(5);
/// Connections held up for so long by the generator itself are begun at once.
const CATCH_UP: Duration = Duration::from_ms(100);
/// Devices that leave at a time.
const LEAVING_MAX: u32 = 512;
/// Memory is looked at so often while devices come, and no more of them come below this: the kernel
/// would begin to end processes.
/// When so many were refused, the others are not asked.
const REFUSED_MAX: u32 = 1_000;
const LOOK_EVERY: Duration = Duration::from_ms(100);
const ROOM_MIN_BYTES: u64 = 400 << 20;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Where devices connect to.
    pub server: SocketAddrV4,
    /// How many there are.
    pub devices: u32,
    /// Connections begun a second, at most.
    pub connect_rate: u32,
    /// The number of the devices' connections, above that of earlier runs.
    pub connection_number: u64,
    /// From the last Welcome to measuring.
    pub settle: Duration,
    /// How long to hold the connections and measure.
    pub hold: Duration,
    /// Devices leave and return; otherwise they only hold their connections.
    pub storm: Option<Storm>,
    /// Where the server can be seen.
    pub observed: Observed,
}

/// What the run found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What every run that holds connections finds.
    pub idle: idle::Findings,
    /// Of connections.
    pub counts: Counts,
    /// When the first device began to connect.
    pub started: Option<Instant>,
    /// Packets from the server, and to it.
    pub packets: [u64; 2],
    /// Segments that were not answered in time and sent again.
    pub retried: u64,
    /// Segments of the server that came again.
    pub repeated: u64,
    /// Packets that the kernel had no room for.
    pub dropped: u64,
    /// Of devices that left and returned.
    pub storm: StormFindings,
    /// Of messages, if there were any.
    pub talk: Option<talk::Findings>,
    /// The server's resident memory when all had left.
    pub rss_bytes_left: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Begin,
    Connecting,
    Settling,
    Holding,
    /// Before a storm.
    Calm,
    /// Those who will return leave.
    Going,
    Away,
    Returning,
    Draining,
    Leaving,
    Over,
}

struct Run<'a> {
    link: &'a Link,
    settings: Settings,
    crowd: Crowd,
    guests: Guests,
    phase: Phase,
    phase_ends: Instant,
    /// Those below it have begun to connect.
    next_connect: u32,
    connect_at: Instant,
    /// Those below it were let go, and so many of them were connected.
    next_leave: u32,
    let_go: u32,
    heartbeats_from: Option<Instant>,
    heartbeats_due: u64,
    /// Of [`Counts`], when somebody last came, went or was refused.
    progress: u32,
    progress_at: Instant,
    looked_at: Instant,
    /// Those who have not begun to return, and since when they do.
    order: Vec<DeviceIndex>,
    broke: Instant,
    out: Vec<u8>,
    findings: Findings,
}

/// Connects, holds and lets go.
///
/// # Errors
/// The device fails.
pub fn run(
    link: &Link,
    settings: Settings,
    signer: Signer,
    meter: Meter,
    talk: Option<Talk>,
) -> Result<Findings, TunError> {
    let network = Network {
        server: settings.server,
        devices: settings.devices,
        key: settings.connection_number,
    };
    let returns = settings.storm.is_some().then(|| Returns::new(settings.devices));
    let number = settings.connection_number;
    let mut run = Run {
        link,
        settings,
        crowd: Crowd::new(network),
        guests: Guests::new(settings.devices, signer, number, meter, talk, returns),
        phase: Phase::Begin,
        phase_ends: Instant::default(),
        next_connect: 0,
        connect_at: Instant::default(),
        next_leave: 0,
        let_go: 0,
        heartbeats_from: None,
        heartbeats_due: 0,
        progress: 0,
        progress_at: Instant::default(),
        looked_at: Instant::default(),
        order: Vec::new(),
        broke: Instant::default(),
        out: Vec::new(),
        findings: Findings::default(),
    };
    run.findings.idle.empty = Some(Look::at(settings.observed, now().monotonic));
    while run.phase != Phase::Over && !stop::is_wanted() {
        let has_read = run.read()?;
        run.turn(now().monotonic);
        let has_written = run.write()?;
        if !has_read && !has_written {
            run.wait()?;
        }
    }
    Ok(run.finish())
}

impl Run<'_> {
    /// Takes packets. Says whether there were any.
    fn read(&mut self) -> Result<bool, TunError> {
        let mut packet = [0; PACKET_BYTES];
        for count in 0..READS_MAX {
            let Some(length) = self.link.read(&mut packet)? else { return Ok(count > 0) };
            self.crowd.packet(&packet[..length], now().monotonic, &mut self.guests);
        }
        Ok(true)
    }

    fn write(&mut self) -> Result<bool, TunError> {
        for packet in self.crowd.packets.iter() {
            self.findings.dropped += u64::from(!self.link.write(packet)?);
        }
        let any = !self.crowd.packets.is_empty();
        self.crowd.packets.clear();
        Ok(any)
    }

    fn wait(&self) -> Result<(), TunError> {
        let next = self.guests.talk.as_ref().and_then(Talk::next_due);
        let until_next = next.map_or(TICK, |next| next.since(now().monotonic));
        let nanoseconds = i64::try_from(until_next.ns.min(TICK.ns)).unwrap_or(0);
        let timeout = Timespec { tv_sec: 0, tv_nsec: nanoseconds };
        let mut wanted = [PollFd::from_borrowed_fd(self.link.file(), PollFlags::IN)];
        match poll(&mut wanted, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(TunError::Wire(error.into())),
        }
    }

    fn fail(&mut self, why: String) {
        self.findings.idle.failure.get_or_insert(why);
    }

    fn enter(&mut self, phase: Phase, ends: Instant) {
        (self.phase, self.phase_ends) = (phase, ends);
        let name = match phase {
            Phase::Begin | Phase::Connecting => "connecting",
            Phase::Settling => "settling",
            Phase::Holding => return,
            Phase::Calm => "calm",
            Phase::Away => "away",
            Phase::Returning => "returning",
            Phase::Draining => "draining",
            Phase::Going | Phase::Leaving | Phase::Over => "leaving",
        };
        self.guests.meter.enter(name, None);
    }

    fn turn(&mut self, now: Instant) {
        self.crowd.retry(now, &mut self.guests);
        self.guests.meter.turn(now, self.guests.ready.into());
        self.heartbeats(now);
        self.talk(now);
        if let Some(storm) = self.settings.storm {
            self.storm(storm, now);
        }
        match self.phase {
            Phase::Begin => {
                self.findings.started = Some(now);
                self.connect_at = now;
                self.progress_at = now;
                self.heartbeats_from = Some(now);
                self.enter(Phase::Connecting, now);
            }
            Phase::Connecting => self.connect(now),
            Phase::Settling if now >= self.phase_ends => {
                self.findings.idle.heartbeats = self.guests.counts.heartbeats;
                self.guests.meter.begin(now, self.settings.hold);
                self.enter(Phase::Holding, now + self.settings.hold);
            }
            Phase::Holding if now >= self.phase_ends || self.guests.ready == 0 => {
                let sent = self.guests.counts.heartbeats;
                self.findings.idle.heartbeats = sent - self.findings.idle.heartbeats;
                self.guests.meter.end(now);
                self.drain(now);
            }
            Phase::Draining if now >= self.phase_ends || self.is_still() => self.let_all_go(now),
            Phase::Leaving => self.leave(now),
            Phase::Settling
            | Phase::Holding
            | Phase::Calm
            | Phase::Going
            | Phase::Away
            | Phase::Returning
            | Phase::Draining
            | Phase::Over => {}
        }
    }

    fn drain(&mut self, now: Instant) {
        self.heartbeats_from = None;
        if let Some(talk) = &mut self.guests.talk {
            talk.stop();
        }
        self.enter(Phase::Draining, now + PATIENCE);
    }

    fn is_still(&self) -> bool {
        if self.settings.storm.is_some() {
            return self.is_quiet_after_storm();
        }
        let counts = self.guests.counts;
        counts.echoes == counts.heartbeats && self.guests.talk.as_ref().is_none_or(Talk::is_still)
    }

    fn connect(&mut self, now: Instant) {
        let counts = self.guests.counts;
        let all_came = self.next_connect == self.settings.devices || counts.refused > REFUSED_MAX;
        if all_came && self.guests.connecting == 0 {
            self.findings.idle.connected = Some(Look::at(self.settings.observed, now));
            if counts.refused > 0 {
                self.fail(format!("{} devices could not connect", counts.refused));
                return self.let_all_go(now);
            }
            if let Some(talk) = &mut self.guests.talk {
                talk.begin(now);
            }
            return match self.settings.storm {
                Some(storm) => self.enter(Phase::Calm, now + storm.calm),
                None => self.enter(Phase::Settling, now + self.settings.settle),
            };
        }
        if self.is_silent(now) {
            let (waiting, s) = (self.guests.connecting, SILENCE.as_ms() / 1_000);
            self.fail(format!("{waiting} devices had no answer within {s} s"));
            return self.let_all_go(now);
        }
        if now.since(self.looked_at) >= LOOK_EVERY {
            self.looked_at = now;
            if let Some(room) = available_bytes().filter(|room| *room < ROOM_MIN_BYTES) {
                let (ready, mib) = (self.guests.ready, room >> 20);
                self.fail(format!(
                    "no more devices came: {ready} are connected, {mib} MiB are left"
                ));
                return self.let_all_go(now);
            }
        }
        let gap = Duration { ns: 1_000_000_000 / u64::from(self.settings.connect_rate.max(1)) };
        let earliest = Instant { ns: now.ns.saturating_sub(CATCH_UP.ns) };
        self.connect_at = self.connect_at.max(earliest);
        while self.connect_at <= now
            && self.guests.connecting < CONNECTING_MAX
            && !all_came
            && self.next_connect < self.settings.devices
        {
            self.guests.begin(self.next_connect);
            self.crowd.connect(self.next_connect, now);
            self.next_connect += 1;
            self.connect_at = self.connect_at + gap;
        }
    }

    /// Whether nobody came, went or was refused for long.
    fn is_silent(&mut self, now: Instant) -> bool {
        let counts = self.guests.counts;
        let progress = counts
            .welcomed
            .wrapping_add(counts.refused)
            .wrapping_add(counts.left)
            .wrapping_add(counts.disconnected);
        if progress != self.progress {
            (self.progress, self.progress_at) = (progress, now);
        }
        now.since(self.progress_at) >= SILENCE
    }

    fn let_all_go(&mut self, now: Instant) {
        self.heartbeats_from = None;
        self.guests.leaving_below = DeviceIndex::MAX;
        self.next_leave = 0;
        self.progress_at = now;
        self.enter(Phase::Leaving, now);
    }

    /// Lets those below an end leave, a part at a time.
    fn let_some_go(&mut self, end: DeviceIndex, now: Instant) {
        while self.next_leave < end
            && self.let_go < self.guests.counts.left.saturating_add(LEAVING_MAX)
        {
            if self.guests.is_ready(self.next_leave) {
                self.crowd.leave(self.next_leave, now);
                self.let_go += 1;
            }
            self.next_leave += 1;
        }
    }

    fn leave(&mut self, now: Instant) {
        self.let_some_go(self.settings.devices, now);
        let is_over = self.next_leave == self.settings.devices && self.guests.ready == 0;
        if is_over || self.is_silent(now) {
            let look = Look::at(self.settings.observed, now);
            self.findings.rss_bytes_left = look.server.map(|server| server.rss_bytes);
            self.enter(Phase::Over, now);
        }
    }

    /// As in a swarm: every device once in the server's interval, evenly spread.
    fn heartbeats(&mut self, now: Instant) {
        let (Some(from), 1..) = (self.heartbeats_from, self.guests.heartbeat_ms) else { return };
        let count = u64::from(self.settings.devices);
        let wanted = now.since(from).as_ms() * count / u64::from(self.guests.heartbeat_ms);
        for number in self.heartbeats_due.max(wanted.saturating_sub(count))..wanted {
            let index = u32::try_from(number % count).expect("it is below a u32");
            if self.guests.is_ready(index) && self.crowd.send(index, &[HEARTBEAT], now) {
                self.guests.counts.heartbeats += 1;
            }
        }
        self.heartbeats_due = wanted;
    }

    fn talk(&mut self, now: Instant) {
        let Guests { talk: Some(talk), meter, .. } = &mut self.guests else { return };
        self.out.clear();
        while let Some(writer) = talk.write(now, meter, &mut self.out) {
            // What does not go out is never answered, and counted then.
            self.crowd.send(writer, &self.out, now);
            self.out.clear();
        }
    }

    fn finish(mut self) -> Findings {
        let WireCounts { received, sent, retried, repeated, strays: _ } = self.crowd.counts;
        self.findings.packets = [received, sent];
        (self.findings.retried, self.findings.repeated) = (retried, repeated);
        self.findings.counts = self.guests.counts;
        if let Some(returns) = &self.guests.returns {
            self.findings.storm.back = returns.back;
            self.findings.storm.repeated = returns.repeated;
        }
        self.findings.talk = self.guests.talk.map(Talk::into_findings);
        if let Some(failure) = &mut self.findings.idle.failure {
            for complaint in &self.guests.complaints {
                failure.push_str("\n  ");
                failure.push_str(complaint);
            }
        } else if !self.guests.complaints.is_empty() {
            self.findings.idle.failure = Some(self.guests.complaints.join("\n  "));
        }
        self.findings.idle.metered = self.guests.meter.finish(now().monotonic);
        self.findings
    }
}
