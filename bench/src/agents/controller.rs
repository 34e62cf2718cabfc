//! The side that starts all others and makes one result of theirs.

use super::message::{Order, Part, Reply, VERSION, Word, hear, say};
use crate::args::Scenario as Wanted;
use crate::latency::{Latency, curve, histogram};
use crate::measure::admin::Asked;
use crate::measure::meter::Tally;
use crate::measure::{Look, Metered};
use crate::report::arithmetic::{round as rounded, whole};
use crate::report::rounds::{Found, server as server_figures};
use crate::result::{Figures, GeneratorFigures, Sample};
use crate::run::Devices;
use crate::server::Server;
use roost_event_loop::now;
use roost_protocol::time::Duration;
use serde_json::json;
use std::fmt;
use std::io::{self, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::Builder;

struct Agent {
    name: String,
    speaks: TcpStream,
    hears: BufReader<TcpStream>,
}

/// One round over all agents.
///
/// # Errors
/// An agent cannot be reached, or could not do its part.
pub fn round(wanted: &Wanted, server: &Server, devices: Devices) -> Result<Found, AgentError> {
    let names = &wanted.common().agents;
    let mut agents = Vec::new();
    for (place, part) in split(wanted, devices, names.len()).into_iter().enumerate() {
        agents.push(Agent::order(&names[place], server.address, part)?);
    }
    for agent in &mut agents {
        match agent.hear()? {
            Reply::Ready => {}
            Reply::Failed(why) => return Err(agent.failed(why)),
            // A scenario that failed before it could begin.
            Reply::Found(part) => return Err(agent.failed(part.round.failures.join("; "))),
        }
    }
    for agent in &mut agents {
        say(&mut agent.speaks, &Word::Go).map_err(|source| agent.lost(source))?;
    }
    let count = agents.len();
    let parts = listen(agents);
    let (metered, parts) = watch(wanted, server, parts, count)?;
    merge(metered, parts)
}

impl Agent {
    fn order(
        name: &str,
        server: SocketAddr,
        part: (Vec<String>, Devices),
    ) -> Result<Self, AgentError> {
        let unreachable = |source| AgentError::Lost { agent: name.to_owned(), source };
        let mut speaks = TcpStream::connect(name).map_err(unreachable)?;
        let hears = BufReader::new(speaks.try_clone().map_err(unreachable)?);
        let (command, devices) = part;
        let order = Order {
            version: VERSION,
            command,
            server: reachable(server, speaks.local_addr().map_err(unreachable)?.ip()),
            users: devices.users,
            tokens: devices.tokens,
            connection_number: devices.connection_number,
        };
        say(&mut speaks, &order).map_err(unreachable)?;
        Ok(Self { name: name.to_owned(), speaks, hears })
    }

    fn hear(&mut self) -> Result<Reply, AgentError> {
        hear(&mut self.hears)
            .map_err(|source| AgentError::Lost { agent: self.name.clone(), source })
    }

    fn lost(&self, source: io::Error) -> AgentError {
        AgentError::Lost { agent: self.name.clone(), source }
    }

    fn failed(&self, why: String) -> AgentError {
        AgentError::Failed { agent: self.name.clone(), why }
    }
}

/// A server that listens everywhere is reached at the address that agents see of this machine.
fn reachable(server: SocketAddr, here: IpAddr) -> SocketAddr {
    if server.ip().is_unspecified() { SocketAddr::new(here, server.port()) } else { server }
}

/// Everybody's share: a command line, and devices side by side.
fn split(wanted: &Wanted, devices: Devices, agents: usize) -> Vec<(Vec<String>, Devices)> {
    let agents = u32::try_from(agents).unwrap_or(u32::MAX).max(1);
    let (mut users, mut tokens) = (devices.users.into_iter(), devices.tokens.into_iter());
    (0..agents)
        .map(|place| {
            let (command, count) = command(wanted, |whole| share(whole, place, agents));
            let count = count as usize;
            let devices = Devices {
                users: users.by_ref().take(count).collect(),
                tokens: tokens.by_ref().take(count).collect(),
                connection_number: devices.connection_number,
                rss_before_bytes: devices.rss_before_bytes,
            };
            (command, devices)
        })
        .collect()
}

/// Parts that differ by one at most and add up.
const fn share(whole: u32, place: u32, parts: u32) -> u32 {
    whole / parts + if place < whole % parts { 1 } else { 0 }
}

/// A share's command line, and how many devices that is.
fn command(wanted: &Wanted, share: impl Fn(u32) -> u32) -> (Vec<String>, u32) {
    let common = wanted.common();
    let mut words: Vec<String> = ["roost-bench", wanted.name()].map(str::to_owned).into();
    let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
    add("--server", "127.0.0.1:1".to_owned());
    add("--data", ".".to_owned());
    add("--seconds", wanted.seconds().to_string());
    add("--warmup", common.warmup.to_string());
    add("--connect-rate", share(common.connect_rate).max(1).to_string());
    let devices = match wanted {
        Wanted::Pairs(args) => {
            add("--pairs", share(args.pairs).to_string());
            add("--body-bytes", args.load.body_bytes.to_string());
            match args.load.window {
                Some(window) => add("--window", window.to_string()),
                None => {
                    let rate = args.load.rate.unwrap_or_else(|| wanted.default_rate());
                    add("--rate", share(rate).max(1).to_string());
                }
            }
            share(args.pairs) * 2
        }
        Wanted::Idle(args) => {
            add("--connections", share(args.connections).to_string());
            add("--settle", args.settle.to_string());
            add("--rate", share(args.rate).to_string());
            share(args.connections)
        }
        Wanted::Storm(args) => {
            add("--connections", share(args.connections).to_string());
            add("--away", args.away.to_string());
            add("--at-once", share(args.at_once).max(1).to_string());
            add("--within", args.within.to_string());
            add("--talkers", share(args.talkers).to_string());
            add("--rate", share(args.rate).max(1).to_string());
            share(args.connections) + share(args.talkers)
        }
        Wanted::Fanout(_)
        | Wanted::Hot(_)
        | Wanted::Catchup(_)
        | Wanted::Slow(_)
        | Wanted::Mixed(_)
        | Wanted::Soak(_)
        | Wanted::Capacity(_) => 0,
    };
    (words, devices)
}

/// Whether a scenario can be shared: its devices have nothing to do with each other, or in pairs.
#[must_use]
pub const fn can_share(wanted: &Wanted) -> bool {
    matches!(wanted, Wanted::Pairs(_) | Wanted::Idle(_) | Wanted::Storm(_))
}

/// All agents are heard at the same time.
fn listen(agents: Vec<Agent>) -> Receiver<Result<Part, AgentError>> {
    let (sender, receiver) = channel();
    for mut agent in agents {
        let sender = sender.clone();
        let heard = move || {
            let reply = agent.hear().and_then(|reply| match reply {
                Reply::Found(part) => Ok(*part),
                Reply::Failed(why) => Err(agent.failed(why)),
                Reply::Ready => Err(agent.failed("it was ready twice".to_owned())),
            });
            // The controller gave up: then nobody needs it.
            drop(sender.send(reply));
        };
        let started = Builder::new().name("hear-agent".to_owned()).spawn(heard);
        drop(started);
    }
    receiver
}

/// Looks at the server while the agents measure, and gathers what they found.
fn watch(
    wanted: &Wanted,
    server: &Server,
    parts: Receiver<Result<Part, AgentError>>,
    count: usize,
) -> Result<(Metered, Vec<Part>), AgentError> {
    let observed = server.observed();
    let mut found = Vec::new();
    let warmup = u64::from(wanted.common().warmup);
    wait(&parts, warmup * 1_000, &mut found)?;
    let (begin, asked_begin) = (Look::at(observed, now().monotonic), Asked::at(observed.admin));
    wait(&parts, u64::from(wanted.seconds()) * 1_000, &mut found)?;
    let (end, asked_end) = (Look::at(observed, now().monotonic), Asked::at(observed.admin));
    while found.len() < count {
        found.push(parts.recv().map_err(|_| AgentError::Gone)??);
    }
    let metered = Metered {
        length: end.at.since(begin.at),
        looks: [Some(begin), Some(end)],
        said: [asked_begin.answer(), asked_end.answer()],
        ..Metered::default()
    };
    Ok((metered, found))
}

fn wait(
    parts: &Receiver<Result<Part, AgentError>>,
    ms: u64,
    found: &mut Vec<Part>,
) -> Result<(), AgentError> {
    let ends = now().monotonic + Duration::from_ms(ms);
    loop {
        let left = ends.since(now().monotonic);
        match parts.recv_timeout(std::time::Duration::from_nanos(left.ns)) {
            Ok(part) => found.push(part?),
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            // All have answered; nothing is left to wait for but time, which does not matter.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn merge(mut metered: Metered, parts: Vec<Part>) -> Result<Found, AgentError> {
    let mut all = Found::default();
    let mut generator = GeneratorFigures::default();
    for part in &parts {
        for (name, times) in part.histograms().map_err(AgentError::Histogram)? {
            let sum = all.histograms.entry(name).or_insert_with(histogram);
            sum.add(&times).expect("all histograms have the same bounds");
        }
        add_figures(&mut all.round.figures, &part.round.figures);
        add_samples(&mut all.round.samples, &part.round.samples);
        all.round.failures.extend(part.round.failures.iter().cloned());
        if let Some(of) = &part.round.figures.generator {
            generator.limited |= of.limited;
            generator.cpu_share = rounded(generator.cpu_share + of.cpu_share);
            let worse = of
                .late_us
                .filter(|late| generator.late_us.is_none_or(|known| late.p99 > known.p99));
            generator.late_us = worse.or(generator.late_us);
        }
    }
    generator.more.insert("agents".to_owned(), json!(parts.len()));
    let seconds = whole(metered.length.ns) / 1e9;
    let count = |rate: Option<f64>| whole_number(rate.unwrap_or(0.0) * seconds);
    metered.counts =
        Tally { delivered: count(all.round.figures.delivered_per_s), ..Tally::default() };
    let figures = &mut all.round.figures;
    figures.server = server_figures(&metered, seconds * 1e6);
    figures.generator = Some(generator);
    for (name, times) in &all.histograms {
        figures.latency_us.insert(name.clone(), Latency::of(times));
        all.percentiles.insert(name.clone(), curve(times));
    }
    Ok(all)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of messages that was a whole number before it was divided"
)]
fn whole_number(value: f64) -> u64 {
    value.clamp(0.0, 1e18).round() as u64
}

fn add_figures(sum: &mut Figures, part: &Figures) {
    let add = |sum: &mut Option<f64>, part: Option<f64>| {
        if let Some(part) = part {
            *sum = Some(rounded(sum.unwrap_or(0.0) + part));
        }
    };
    add(&mut sum.connect_per_s, part.connect_per_s);
    add(&mut sum.sent_per_s, part.sent_per_s);
    add(&mut sum.delivered_per_s, part.delivered_per_s);
    add(&mut sum.ticked_per_s, part.ticked_per_s);
    let add = |sum: &mut Option<u64>, part: Option<u64>| {
        if let Some(part) = part {
            *sum = Some(sum.unwrap_or(0) + part);
        }
    };
    add(&mut sum.connections, part.connections);
    add(&mut sum.disconnected, part.disconnected);
    add(&mut sum.lost, part.lost);
    add(&mut sum.duplicated, part.duplicated);
    for (name, value) in &part.more {
        let known = sum.more.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        if let Some(value) = value.as_u64() {
            sum.more.insert(name.clone(), json!(known + value));
        }
    }
}

/// All began at the same moment, so seconds of the same number are the same seconds.
fn add_samples(sum: &mut Vec<Sample>, part: &[Sample]) {
    if sum.is_empty() {
        sum.extend_from_slice(part);
        return;
    }
    for (sum, part) in sum.iter_mut().zip(part) {
        sum.connected += part.connected;
        sum.sent_per_s += part.sent_per_s;
        sum.delivered_per_s += part.delivered_per_s;
        sum.ticked_per_s += part.ticked_per_s;
        sum.errors += part.errors;
        sum.generator_cpu_share += part.generator_cpu_share;
        sum.p50_us = sum.p50_us.max(part.p50_us);
        sum.p99_us = sum.p99_us.max(part.p99_us);
        sum.max_us = sum.max_us.max(part.max_us);
        sum.measured &= part.measured;
    }
}

/// Why there is no result of several generators.
#[derive(Debug)]
pub enum AgentError {
    /// An agent cannot be reached, or went away.
    Lost {
        /// Which one.
        agent: String,
        /// Why.
        source: io::Error,
    },
    /// An agent could not do its part.
    Failed {
        /// Which one.
        agent: String,
        /// Why not.
        why: String,
    },
    /// What an agent sent cannot be read.
    Histogram(io::Error),
    /// An agent could not be listened to.
    Gone,
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { agent, source } => write!(
                f,
                "the agent at {agent}: {source}; start it with: roost-bench agent --listen {agent}"
            ),
            Self::Failed { agent, why } => write!(f, "the agent at {agent} failed: {why}"),
            Self::Histogram(source) => write!(f, "an agent's histogram: {source}"),
            Self::Gone => write!(f, "an agent was gone before it had answered"),
        }
    }
}

impl std::error::Error for AgentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lost { source, .. } | Self::Histogram(source) => Some(source),
            Self::Failed { .. } | Self::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Round;

    #[test]
    fn shares_add_up() {
        for whole in [0, 1, 7, 100] {
            let parts: Vec<u32> = (0..3).map(|place| share(whole, place, 3)).collect();
            assert_eq!(parts.iter().sum::<u32>(), whole);
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn a_server_that_listens_everywhere_is_reached_here() {
        let here: IpAddr = "192.0.2.7".parse().unwrap();
        let reached = |text: &str| reachable(text.parse().unwrap(), here).to_string();
        assert_eq!(reached("0.0.0.0:5"), "192.0.2.7:5");
        assert_eq!(reached("198.51.100.1:5"), "198.51.100.1:5");
    }

    #[test]
    fn figures_of_parts_are_added_up() {
        let part = Round {
            figures: Figures { ticked_per_s: Some(2.5), lost: Some(1), ..Figures::default() },
            ..Round::default()
        };
        let mut sum = Figures::default();
        add_figures(&mut sum, &part.figures);
        add_figures(&mut sum, &part.figures);
        assert_eq!((sum.ticked_per_s, sum.lost, sum.sent_per_s), (Some(5.0), Some(2), None));
    }
}
