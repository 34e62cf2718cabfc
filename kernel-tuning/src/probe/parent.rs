//! The parent of a probe: opens pairs chunk by chunk, looks at memory before each, names what
//! strikes, and raises it if it may.

use super::group::Group;
use super::order::{PORTS, Predictions};
use super::processes::{Process, Reply, Role};
use super::singles::{self, Singles};
use super::slabs::{self, Slabs};
use super::strikes::Failure;
use super::{Outcome, Strike, Wanted};
use crate::clock::{now_ms, wait_ms};
use crate::error::Error;
use crate::facts::{UNLIMITED, capability, parse_meminfo, parse_slabs};
use crate::netlink::loopback_up;
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

/// Pairs that are opened at once: fewer than wait in any accept queue.
pub(super) const CHUNK: u64 = 2_000;
/// Connections to one address from the start, when all are spread: a third of its ports.
const PER_ADDRESS: u64 = 10_000;
/// Ends of one process beyond which a further one is started when all are spread.
const DESCRIPTORS_LEFT: u64 = 200;
/// Kernel memory of a pair that is being opened, at most.
const PAIR_BYTES_MOST: u64 = 16 << 10;
/// A chunk's longest time.
const CHUNK_MS: u64 = 30_000;
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const WIDEST: &str = "1024 65535";
/// Looks at whether sockets are gone, and the pause between two.
const LOOKS: u32 = 100;
const LOOK_MS: u64 = 100;
/// Connects are slow when they take so many times as long as the fastest ones of this probe, and a
/// whole chunk of them at least so long: what a busy machine adds is less.
const SLOW_TIMES: u64 = 10;
const SLOW_CHUNK_MS: u64 = 400;

fn broken(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Probe(format!("{what}: {error}; nothing was opened"))
}

pub(super) fn run(wanted: &Wanted) -> Result<Outcome, Error> {
    let predictions = wanted.order_for.map(Predictions::new);
    let first = predictions.as_ref().map(Predictions::first_report);
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| {
        broken("no network namespace can be made (containers forbid it)", error)
    })?;
    loopback_up().map_err(|error| broken("its loopback device does not come up", error))?;
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let listener = TcpListener::bind(address).map_err(|error| broken("no listener", error))?;
    // Deeper than the standard library's 128: connects of a chunk must not wait for each other.
    rustix::net::listen(&listener, 65_535).map_err(|error| broken("no listener", error))?;
    listener.set_nonblocking(true).map_err(|error| broken("no listener", error))?;
    let port = listener.local_addr().map_err(|error| broken("no listener", error))?.port();
    let singles = match &predictions {
        Some(predictions) => singles::strike(wanted, predictions)?,
        None => Singles::default(),
    };
    let slabs = read_slabs()?;
    let group = wanted.memory_limit_bytes.map(Group::make).transpose()?;
    let mut probe = Probe::new(wanted, listener, port, group);
    probe.predictions = predictions;
    let outcome = probe.run(&slabs);
    let left = probe.end(&slabs);
    let mut outcome = Outcome { left, ..outcome? };
    outcome.strikes.extend(singles.strikes);
    outcome.order = first.map(|first| Predictions::judge(&first, &outcome, &singles.why_not));
    Ok(outcome)
}

fn read_slabs() -> Result<Slabs, Error> {
    let path = "/proc/slabinfo";
    let text =
        fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    Ok(parse_slabs(&text))
}

/// Free memory and pages of files.
fn room_bytes() -> u64 {
    parse_meminfo(&fs::read_to_string("/proc/meminfo").unwrap_or_default()).room_bytes()
}

struct Probe<'a> {
    wanted: &'a Wanted,
    listener: TcpListener,
    port: u16,
    clients: Vec<Process>,
    servers: Vec<Process>,
    strikes: Vec<Strike>,
    reached: u64,
    /// Which of the addresses 127.0.0.1, 127.0.0.2, … is connected to.
    address: u32,
    /// Connections to it.
    of_address: u64,
    /// All are spread from now on: the range of ports was used up in every way.
    few_per_address: bool,
    descriptors: u64,
    /// A process was ended, and with it what it held: there is nothing left to measure.
    lost: bool,
    until_ms: u64,
    predictions: Option<Predictions>,
    /// Microseconds of the fastest connect, as chunks show it; 0: none yet.
    fastest_us: u64,
    /// Last, so that processes have ended before it is removed.
    group: Option<Group>,
}

/// Whether to go on.
enum Next {
    Again,
    Stop,
}

impl<'a> Probe<'a> {
    fn new(wanted: &'a Wanted, listener: TcpListener, port: u16, group: Option<Group>) -> Self {
        let soft = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
        Self {
            wanted,
            listener,
            port,
            clients: Vec::new(),
            servers: Vec::new(),
            strikes: Vec::new(),
            reached: 0,
            address: 0,
            of_address: 0,
            few_per_address: wanted.spread,
            descriptors: soft,
            lost: false,
            until_ms: now_ms() + wanted.seconds * 1_000,
            predictions: None,
            fastest_us: 0,
            group,
        }
    }

    fn run(&mut self, before: &Slabs) -> Result<Outcome, Error> {
        let wanted = self.wanted;
        let begin_ms = now_ms();
        let room = room_bytes();
        self.add(Role::Client)?;
        self.add(self.server_role())?;
        let mut early = None;
        let mut late = None;
        // Small numbers are still the filling of caches that had room; so a fifth is where it
        // begins.
        let late_at = wanted.predict_from.min(wanted.pairs);
        let early_at = late_at / 5;
        while self.reached < wanted.pairs {
            let milestones = [early_at, late_at, wanted.pairs];
            let target = milestones.into_iter().find(|m| *m > self.reached).unwrap_or(wanted.pairs);
            if let Next::Stop = self.open_chunk(target - self.reached)? {
                break;
            }
            if self.reached >= early_at && early.is_none() {
                early = Some((read_slabs()?, self.reached));
            }
            if self.reached >= late_at && late.is_none() {
                late = Some((read_slabs()?, self.reached));
            }
        }
        let open_ms = now_ms() - begin_ms;
        let after = read_slabs()?;
        if wanted.unread {
            self.send_unread();
        }
        let group_bytes = self.group.as_ref().filter(|_| !self.lost).map(Group::used_bytes);
        if self.lost {
            return Ok(Outcome {
                wanted: wanted.pairs,
                reached: self.reached,
                strikes: std::mem::take(&mut self.strikes),
                processes: self.processes(),
                open_ms,
                kernel: kernel(),
                ..Outcome::default()
            });
        }
        let (grown, others_bytes) = slabs::grown(before, &after, wanted.epoll);
        let kernel = kernel();
        let (early, early_at) = early.unwrap_or_else(|| (before.clone(), 0));
        let enough = self.reached.saturating_sub(early_at) >= 1_000;
        let between = |late: &Slabs, at| {
            slabs::measure(&kernel, wanted.epoll, (&early, early_at), (late, at))
        };
        let predicted = late.as_ref().filter(|_| enough && late_at >= 1_000);
        let predicted = predicted.map(|(late, at)| (between(late, *at), *at));
        Ok(Outcome {
            wanted: wanted.pairs,
            reached: self.reached,
            strikes: std::mem::take(&mut self.strikes),
            processes: self.processes(),
            group_bytes,
            grown,
            others_bytes,
            predicted_from: predicted.as_ref().map_or(0, |(_, at)| *at),
            predicted: predicted.map_or_else(Default::default, |(m, _)| m.predict(self.reached)),
            memory_fell_bytes: room.saturating_sub(room_bytes()),
            open_ms,
            measured: enough.then(|| between(&after, self.reached)),
            kernel,
            ..Outcome::default()
        })
    }

    fn processes(&self) -> u64 {
        u64::try_from(self.clients.len() + self.servers.len()).unwrap_or(0)
    }

    const fn server_role(&self) -> Role {
        if self.wanted.epoll { Role::Watcher } else { Role::Server }
    }

    fn add(&mut self, role: Role) -> Result<(), Error> {
        let listener = (role != Role::Client).then_some(&self.listener);
        let process = Process::start(role, listener)?;
        if let Some(group) = &self.group {
            group.add(process.id())?;
        }
        match role {
            Role::Client => self.clients.push(process),
            Role::Server | Role::Watcher | Role::Outsider => self.servers.push(process),
        }
        Ok(())
    }

    /// Opens up to a chunk.
    fn open_chunk(&mut self, most: u64) -> Result<Next, Error> {
        let needed = CHUNK * PAIR_BYTES_MOST + self.wanted.keep_free_bytes;
        let room = room_bytes();
        if room < needed {
            let error = format!("{} MiB are free, {} must be", room >> 20, needed >> 20);
            return Ok(self.strike("memory", error, String::new()));
        }
        if now_ms() > self.until_ms {
            let error = format!("{} s are over", self.wanted.seconds);
            return Ok(self.strike("time", error, String::new()));
        }
        self.spread()?;
        let mut count = most.min(CHUNK);
        if self.few_per_address {
            count = count.min(PER_ADDRESS - self.of_address);
        }
        let begin_ms = now_ms();
        let until_ms = begin_ms + CHUNK_MS;
        let to = SocketAddr::from((Ipv4Addr::from(0x7f00_0001 + self.address), self.port));
        let (Some(client), Some(server)) = (self.clients.last_mut(), self.servers.last_mut())
        else {
            return Ok(Next::Stop);
        };
        let told = server.tell(&format!("accept {count}"));
        let told = told.and_then(|()| client.tell_open(count, to));
        let opened = told.and_then(|()| client.answer(until_ms));
        let accepted = server.answer(until_ms);
        let held = |reply: &Reply| match reply {
            Ok(count) => *count,
            Err(failure) => failure.after,
        };
        client.held += held(&opened);
        server.held += held(&accepted);
        let pairs = held(&opened).min(held(&accepted));
        self.notice_pace(pairs, now_ms() - begin_ms);
        self.reached += pairs;
        self.of_address += held(&opened);
        match (opened, accepted) {
            (Ok(_), Ok(_)) => Ok(Next::Again),
            (Err(failure), Ok(_)) => self.struck(&failure, Role::Client),
            (Ok(_), Err(failure)) => {
                let next = self.struck(&failure, self.server_role())?;
                self.accept_the_rest(count - pairs.min(count))?;
                Ok(next)
            }
            // The client's error is why the server waited in vain; else both met the same limit.
            (Err(failure), Err(other)) => {
                let next = self.struck(&failure, Role::Client)?;
                if let (Next::Again, true) = (&next, failure.errno == other.errno) {
                    self.relieve(&other, self.server_role())?;
                }
                Ok(next)
            }
        }
    }

    /// Notes when connects become slow, which is no error.
    fn notice_pace(&mut self, pairs: u64, ms: u64) {
        let Some(us) = ms.saturating_mul(1_000).checked_div(pairs).filter(|_| pairs >= CHUNK / 4)
        else {
            return;
        };
        let is_slow = ms >= SLOW_CHUNK_MS && us >= self.fastest_us.saturating_mul(SLOW_TIMES);
        if self.fastest_us > 0 && is_slow && !self.few_per_address {
            let predicted = self.predictions.as_ref().and_then(Predictions::slow_at);
            let error = format!(
                "no error: connect() takes {us} us instead of {}, so long are ports looked for",
                self.fastest_us
            );
            // Once for each range: told apart by what was predicted.
            let range = fs::read_to_string(PORT_RANGE).unwrap_or_default();
            let range = range.split_whitespace().collect::<Vec<_>>().join(" ");
            let raised = format!("not raised: past the half of {range}");
            self.strike_at(PORTS, error, raised, predicted);
        }
        let us = us.max(1);
        self.fastest_us = if self.fastest_us == 0 { us } else { self.fastest_us.min(us) };
    }

    /// What a full server left in the queue is taken by the next one.
    fn accept_the_rest(&mut self, most: u64) -> Result<(), Error> {
        if most == 0 || !(self.wanted.raise || self.wanted.spread) {
            return Ok(());
        }
        let until_ms = now_ms() + CHUNK_MS;
        if let Some(server) = self.servers.last_mut() {
            let told = server.tell(&format!("accept {most}"));
            let taken = told.and_then(|()| server.answer(until_ms)).unwrap_or(0);
            server.held += taken;
            self.reached += taken;
        }
        Ok(())
    }

    /// Another process or address before the one in use is full.
    fn spread(&mut self) -> Result<(), Error> {
        if self.few_per_address && self.of_address >= PER_ADDRESS {
            self.next_address();
        }
        if !self.wanted.spread {
            return Ok(());
        }
        let full = self.descriptors.saturating_sub(DESCRIPTORS_LEFT + CHUNK);
        if self.clients.last().is_some_and(|process| process.held > full) {
            self.add(Role::Client)?;
        }
        if self.servers.last().is_some_and(|process| process.held > full) {
            self.add(self.server_role())?;
        }
        Ok(())
    }

    const fn next_address(&mut self) {
        self.address += 1;
        self.of_address = 0;
    }

    fn strike(&mut self, limit: &str, error: String, raised: String) -> Next {
        self.strike_at(limit, error, raised, None)
    }

    fn strike_at(
        &mut self,
        limit: &str,
        error: String,
        raised: String,
        predicted: Option<u64>,
    ) -> Next {
        let next = if raised.is_empty() { Next::Stop } else { Next::Again };
        // A limit that was gone around strikes again at every process or address: told once.
        let known = |strike: &Strike| strike.limit == limit && strike.raised == raised;
        if !self.strikes.iter().any(known) {
            let (at, limit) = (self.reached, limit.to_owned());
            self.strikes.push(Strike { at, limit, error, raised, predicted });
        }
        next
    }

    fn struck(&mut self, failure: &Failure, role: Role) -> Result<Next, Error> {
        let grouped = self.group.as_ref().is_some_and(Group::is_full);
        let limit = failure.limit(grouped);
        self.lost |= failure.is_gone();
        let predicted = self.predictions.as_ref().and_then(|said| said.at(limit));
        let raised = self.relieve(failure, role)?;
        Ok(self.strike_at(limit, failure.words(), raised, predicted))
    }

    /// Raises what struck, within the probe. Empty: it is not raised.
    fn relieve(&mut self, failure: &Failure, role: Role) -> Result<String, Error> {
        if !(self.wanted.raise || self.wanted.spread) {
            return Ok(String::new());
        }
        match failure.limit(false) {
            "RLIMIT_NOFILE" => self.more_descriptors(role),
            "net.ipv4.ip_local_port_range" => Ok(self.more_ports()),
            _ => Ok(String::new()),
        }
    }

    fn more_descriptors(&mut self, role: Role) -> Result<String, Error> {
        let limit = getrlimit(Resource::Nofile);
        let hard = limit.maximum.unwrap_or(UNLIMITED);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let most = fs::read_to_string("/proc/sys/fs/nr_open").unwrap_or_default();
        let most = most.trim().parse().unwrap_or(hard);
        let goal = self.wanted.pairs.saturating_add(DESCRIPTORS_LEFT);
        let may_raise = capability(&status, crate::facts::CAP_SYS_RESOURCE);
        let to = if may_raise { goal.min(most) } else { goal.min(hard) };
        let processes = if role == Role::Client { &mut self.clients } else { &mut self.servers };
        if let Some(process) = processes.last_mut()
            && to > process.held + DESCRIPTORS_LEFT
        {
            let told = process.tell(&format!("nofile {to}"));
            if told.and_then(|()| process.answer(now_ms() + CHUNK_MS)).is_ok() {
                return Ok(format!("raised to {to} for this process"));
            }
        }
        self.add(role)?;
        Ok(format!("not possible beyond {hard} here, so further processes"))
    }

    fn more_ports(&mut self) -> String {
        let now = fs::read_to_string(PORT_RANGE).unwrap_or_default();
        let now = now.split_whitespace().collect::<Vec<_>>().join(" ");
        if now != WIDEST && fs::write(PORT_RANGE, WIDEST).is_ok() {
            if let Some(predictions) = &mut self.predictions {
                predictions.widened(WIDEST);
            }
            return format!("{now} widened to {WIDEST} in the probe's namespace");
        }
        self.few_per_address = true;
        self.next_address();
        format!("no wider range than {WIDEST}, so further addresses, {PER_ADDRESS} to each")
    }

    /// A message on each connection that nobody reads, until the kernel counts that it must save.
    fn send_unread(&mut self) {
        let until_ms = self.until_ms.max(now_ms() + CHUNK_MS);
        let before = pressures();
        let mut sent = 0;
        let mut at = 0;
        while let Some(client) = self.clients.get_mut(at) {
            let told = client.tell(&format!("send {CHUNK}"));
            let reply = told.and_then(|()| client.answer(until_ms));
            let count = match &reply {
                Ok(count) => *count,
                Err(failure) => failure.after,
            };
            sent += count;
            // Whoever sent less than it was told has none left.
            at += usize::from(count < CHUNK);
            if pressures() > before {
                self.strikes.push(Strike {
                    at: sent,
                    limit: "net.ipv4.tcp_mem".to_owned(),
                    error: "TcpExtTCPMemoryPressures grew: so many had an unread message"
                        .to_owned(),
                    raised: String::new(),
                    predicted: self.predictions.as_ref().and_then(|p| p.at("net.ipv4.tcp_mem")),
                });
                return;
            }
            if let Err(failure) = reply {
                self.strike(failure.limit(false), failure.words(), String::new());
                return;
            }
        }
    }

    /// Ends all processes and waits until the kernel has freed their sockets, which it does later
    /// by itself: about 200,000 a second. Gives how many are left.
    fn end(&mut self, before: &Slabs) -> u64 {
        self.clients.clear();
        self.servers.clear();
        let sockets = |slabs: &Slabs| slabs.get("TCP").map_or(0, |slab| slab.objects);
        let mut left = 0;
        for _ in 0..LOOKS {
            left = read_slabs().map_or(0, |now| sockets(&now).saturating_sub(sockets(before)));
            // Caches keep some hundred for the next ones.
            if left <= self.reached / 50 + 500 {
                return 0;
            }
            wait_ms(LOOK_MS);
        }
        left
    }
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// How often the kernel began to save memory of sockets, in this namespace.
fn pressures() -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    crate::watch::counter(&text, "TcpExt", "TCPMemoryPressures").unwrap_or(0)
}
