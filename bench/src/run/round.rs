//! One round.

use super::talkers::Staying;
use super::{RunError, others, tun};
use crate::agents;
use crate::args::{CatchupArgs, Common, IdleArgs, Scenario as Wanted, StormArgs, TiesArgs, Tls};
use crate::floor;
use crate::machine::FlushTime;
use crate::measure::Meter;
use crate::measure::progress::Progress;
use crate::process::Usage;
use crate::report::rounds::{self, Came, Found};
use crate::result::Document;
use crate::scenario::anew::Restart;
use crate::scenario::catchup::{self, Catchup};
use crate::scenario::idle::{self, Idle};
use crate::scenario::load::{Load, Pace};
use crate::scenario::mix::MixFile;
use crate::scenario::population::Ties;
use crate::scenario::rooms::{self, DELIVERED, Extra, Mix, Rooms, Stalls};
use crate::scenario::storm::{self, Storm};
use crate::server::{self, Ending, PageCache, Server};
use crate::stop;
use crate::swarm::{CONNECTING_MAX, Driven, Plan, Scenario, Swarm, TlsPlan};
use crate::target::roost::Roost;
use crate::target::{Layout, Target};
use crate::tokens::Signer;
use roost_event_loop::{Choice, EventLoop, Settings as LoopSettings, now};
use roost_gateway::keys;
use roost_protocol::time::{Duration, Instant};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

/// Buffers of the loop: what comes to one device at once is small.
const RECEIVE_BYTES: usize = 16 * 1024;
/// Ramps and phases are as fine as this.
const TICK_MS: u64 = 2;

/// One round, from a server of its own to the last arrival.
pub(super) fn round(wanted: &Wanted, document: &mut Document) -> Result<Found, RunError> {
    if wanted.is_behind_tun() {
        return tun::round(wanted, document);
    }
    let common = wanted.common();
    let started = now().wall;
    let server = Server::of(common)?;
    let rss_before_bytes = own_rss_bytes();
    let users = names(wanted.connections(), started.ms);
    if common.spawn {
        document.fdatasync_us = Some(FlushTime::measure(&server.data).map_err(RunError::Disk)?);
    }
    document.environment.versions.driver.clone_from(&server.driver);
    document.environment.versions.shards = server.shards;
    document.environment.versions.target.clone_from(&server.version);
    if !common.target.is_roost() {
        server::pin(&common.generator_cpus())?;
        if wanted.load().is_some() || matches!(wanted, Wanted::Capacity(_)) {
            document.differences = others::differences(&common.target, &server);
        }
        let devices = Devices {
            users: Vec::new(),
            tokens: Vec::new(),
            connection_number: started.ms,
            rss_before_bytes,
        };
        return generate(wanted, server, devices);
    }
    // Signing may use every processor; measuring may not.
    server::pin(&both(&common.spawned_cpus(), &common.generator_cpus()))?;
    let tokens = Signer::new(server.secret.as_ref(), &server.data)?.sign(&users)?;
    server::pin(&common.generator_cpus())?;
    let devices = Devices { users, tokens, connection_number: started.ms, rss_before_bytes };
    if wanted.load().is_some() {
        document.differences = others::differences(&common.target, &server);
    }
    if common.agents.is_empty() {
        return generate(wanted, server, devices);
    }
    let found = agents::round(wanted, &server, devices)?;
    Ok(ended(found, server))
}

/// The devices of a run, or of a generator's part of it.
#[derive(Debug)]
pub struct Devices {
    /// Their users.
    pub users: Vec<String>,
    /// A token for each.
    pub tokens: Vec<String>,
    /// The number of their first connections.
    pub connection_number: u64,
    /// What this program took before it made any of this.
    pub rss_before_bytes: u64,
}

/// What this program takes now.
#[must_use]
pub fn own_rss_bytes() -> u64 {
    Usage::of(std::process::id()).map_or(0, |of| of.rss_bytes)
}

/// A generator's part of a round, against a server that somebody else looks after.
///
/// # Errors
/// As in a whole run.
pub fn part(wanted: &Wanted, server: SocketAddr, devices: Devices) -> Result<Found, RunError> {
    stop::watch().map_err(RunError::Loop)?;
    generate(wanted, Server::elsewhere(server), devices)
}

/// Drives the devices, then stops the server.
fn generate(wanted: &Wanted, server: Server, devices: Devices) -> Result<Found, RunError> {
    let Devices { users, tokens, connection_number, rss_before_bytes } = devices;
    let connecting_max =
        if let Wanted::Catchup(args) = wanted { args.at_once } else { CONNECTING_MAX };
    let mut plan = Plan {
        server: server.address,
        connect_rate: wanted.common().connect_rate,
        devices: wanted.connections(),
        tokens: Vec::new(),
        connection_number,
        comes_when_told: false,
        comes_back: matches!(wanted, Wanted::Catchup(_)),
        tries_again: false,
        connecting_max,
        tls: tls(wanted.common(), &server)?,
    };
    if !wanted.common().target.is_roost() {
        return others::generate(wanted, plan, server, connection_number);
    }
    match wanted {
        Wanted::Idle(args) => {
            plan.tokens = tokens;
            plan.comes_back = args.restart;
            let floor = floor::slab_bytes_per_pair(args.connections);
            let server = shared(server);
            let driven =
                drive(plan, idle(args, wanted.seconds(), users, rss_before_bytes, &server))?;
            Ok(idle_ended(driven.swarm, driven.scenario, server, floor))
        }
        Wanted::Storm(args) => of_storm(args, plan, (users, tokens), server),
        Wanted::Catchup(args) => {
            plan.tokens = tokens;
            of_catchup(args, plan, users, server)
        }
        Wanted::Pairs(_)
        | Wanted::Fanout(_)
        | Wanted::Hot(_)
        | Wanted::Slow(_)
        | Wanted::Mixed(_)
        | Wanted::Soak(_)
        | Wanted::Capacity(_) => {
            let (layout, extra) = layout(wanted)?;
            let layout = Rc::new(layout);
            let target = Roost::new(Rc::clone(&layout), users, tokens, connection_number);
            let found = of_rooms(wanted, plan, (layout, extra), target, &server)?;
            Ok(ended(found, server))
        }
    }
}

/// How devices seal, if they do.
fn tls(common: &Common, server: &Server) -> Result<Option<TlsPlan>, RunError> {
    if common.tls == Tls::Off {
        return Ok(None);
    }
    let own = || server.data.join(keys::TLS_CERTIFICATE);
    let certificates = common.ca.clone().unwrap_or_else(own);
    let plan = TlsPlan::new(&certificates, server.address.ip(), common.tls == Tls::Resume);
    plan.map(Some).map_err(RunError::Tls)
}

/// A server that a scenario may start anew.
pub(super) type Shared = Rc<RefCell<Server>>;

pub(super) fn shared(server: Server) -> Shared {
    Rc::new(RefCell::new(server))
}

/// The scenario is over: nobody starts the server anew any more.
fn alone(server: Shared) -> Server {
    Rc::into_inner(server).expect("the scenario is over").into_inner()
}

/// Starts the server anew when a scenario wants that.
fn restart(server: &Shared, common: &Common, cache: PageCache) -> Restart {
    let (server, common) = (Rc::clone(server), common.clone());
    Box::new(move || {
        let mut server = server.borrow_mut();
        server.restart(&common, cache).map_err(|error| error.to_string())?;
        Ok((server.address, server.observed()))
    })
}

/// Stops the server. `floor`: the slab of a bare pair of sockets, for comparison.
pub(super) fn idle_ended(swarm: Swarm, idle: Idle, server: Shared, floor: Option<f64>) -> Found {
    let came = came(&swarm, idle.connected());
    let found = idle.into_findings(now().monotonic);
    drop(swarm);
    let ending = alone(server).stop();
    noted(rounds::of_idle(found, came, floor), ending)
}

pub(super) fn idle(
    args: &IdleArgs,
    seconds: u32,
    users: Vec<String>,
    rss_before_bytes: u64,
    server: &Shared,
) -> Idle {
    let observed = server.borrow().observed();
    let settings = idle::Settings {
        users,
        ties: ties(&args.ties),
        settle: Duration::from_seconds(args.settle.into()),
        messages_per_second: args.rate,
        rss_before_bytes,
        hold: Duration::from_seconds(seconds.into()),
        observed,
    };
    let progress = Progress::new(args.common.output.progress);
    let meter = match args.rate {
        0 => Meter::new(observed, &[], 0, false, progress),
        _ => Meter::new(observed, &rooms::STAGES, DELIVERED, true, progress),
    };
    // What the sessions take of memory is not a matter of what the kernel has read already.
    let restart = args.restart.then(|| restart(server, &args.common, PageCache::Kept));
    Idle::new(settings, meter, restart)
}

fn of_storm(
    args: &StormArgs,
    mut plan: Plan,
    (mut users, mut tokens): (Vec<String>, Vec<String>),
    server: Server,
) -> Result<Found, RunError> {
    plan.devices = plan.devices.saturating_sub(args.talkers);
    let leavers = usize::try_from(plan.devices).expect("devices are fewer than memory has bytes");
    let theirs = (users.split_off(leavers), tokens.split_off(leavers));
    let staying =
        (args.talkers > 0).then(|| Staying::begin(&plan, theirs, args.rate)).transpose()?;
    plan.tries_again = true;
    plan.connecting_max = args.at_once;
    let settings = storm::Settings {
        tokens,
        talkers: staying.as_ref().map(Staying::signals),
        server: server.address,
        calm: Duration::from_seconds(args.common.warmup.into()),
        away: Duration::from_seconds(args.away.into()),
        within: Duration::from_seconds(args.within.into()),
        observed: server.observed(),
    };
    let progress = Progress::new(args.common.output.progress);
    let meter = Meter::new(server.observed(), &storm::STAGES, storm::BACK, false, progress);
    let driven = drive(plan, Storm::new(settings, meter))?;
    let found = driven.scenario.into_findings(now().monotonic);
    let stayed = staying.map(Staying::end).transpose()?;
    let came = came(&driven.swarm, found.connected);
    Ok(ended(rounds::of_storm(found, stayed, came), server))
}

fn of_catchup(
    args: &CatchupArgs,
    plan: Plan,
    users: Vec<String>,
    server: Server,
) -> Result<Found, RunError> {
    let server = shared(server);
    let settings = catchup_settings(args, &server, users);
    let driven = drive(plan, Catchup::new(settings))?;
    let found = driven.scenario.into_findings();
    let came = came(&driven.swarm, found.connected);
    Ok(ended(rounds::of_catchup(found, came), alone(server)))
}

/// A scenario over rooms, on whatever target.
pub(super) fn of_rooms<T: Target>(
    wanted: &Wanted,
    plan: Plan,
    (layout, extra): (Rc<Layout>, Extra),
    target: T,
    server: &Server,
) -> Result<Found, RunError> {
    let common = wanted.common();
    let args = wanted.load().expect("scenarios over rooms have a load");
    let load = Load {
        pace: args.pace(wanted.default_rate()),
        body_bytes: usize::try_from(args.body_bytes).expect("bodies are below 4 GiB"),
        warmup: Duration::from_seconds(common.warmup.into()),
        measure: Duration::from_seconds(wanted.seconds().into()),
    };
    let ticks = target.promises().ticks && layout.rooms().iter().any(|room| room.direct);
    let open_loop = matches!(load.pace, Pace::Rate(_));
    let progress = Progress::new(common.output.progress);
    let meter = Meter::new(server.observed(), &rooms::STAGES, DELIVERED, open_loop, progress);
    let rooms = Rooms::new(load, layout, target, meter).with(extra);
    let driven = drive(plan, rooms)?;
    let found = driven.scenario.into_findings(now().monotonic);
    let came = came(&driven.swarm, found.connected);
    let found = rounds::of_rooms(found, came, ticks);
    Ok(if let Wanted::Soak(args) = wanted { rounds::leak(found, args.leak) } else { found })
}

/// Who talks with whom, and what else they do.
pub(super) fn layout(wanted: &Wanted) -> Result<(Layout, Extra), RunError> {
    let mixed = |args: &crate::args::MixedArgs| {
        let mix = MixFile::of(args.mix.as_deref()).map_err(RunError::Mix)?;
        let layout = mix.layout(args.connections);
        let away = Duration::from_seconds(mix.away_seconds.into());
        let extra = Extra::Mix(Box::new(Mix::new(mix.weights, away, &layout)));
        Ok((layout, extra))
    };
    Ok(match wanted {
        Wanted::Pairs(args) => (Layout::pairs(args.pairs), Extra::None),
        Wanted::Fanout(args) => (Layout::fanout(args.subscribers), Extra::None),
        Wanted::Hot(_) => (Layout::hot(), Extra::None),
        Wanted::Slow(args) => {
            let stalled = (args.subscribers * args.stalled / 100).clamp(1, args.subscribers - 1);
            let length = Duration::from_seconds(args.stall.into());
            let stalls = Stalls::new(args.subscribers + 1, stalled, length);
            (Layout::fanout(args.subscribers), Extra::Stalls(stalls))
        }
        Wanted::Mixed(args) => return mixed(args),
        Wanted::Soak(args) => return mixed(&args.mixed),
        Wanted::Idle(_) | Wanted::Catchup(_) | Wanted::Storm(_) | Wanted::Capacity(_) => {
            (Layout::default(), Extra::None)
        }
    })
}

fn came(swarm: &Swarm, connected: Option<Instant>) -> Came {
    Came { counts: swarm.counts(), started: swarm.started(), connected }
}

/// Stops the server. How that went belongs to the round.
pub(super) fn ended(found: Found, server: Server) -> Found {
    noted(found, server.stop())
}

pub(super) fn noted(mut found: Found, (ending, log_tail): (Ending, String)) -> Found {
    ending.note(&log_tail, &mut found.round.failures);
    found
}

/// Runs the loop until the scenario is over. The connections end with the loop.
pub(crate) fn drive<S: Scenario>(plan: Plan, scenario: S) -> Result<Driven<S>, RunError> {
    let probed =
        roost_event_loop::probe(Choice::Auto).map_err(|error| RunError::Loop(error.source))?;
    let defaults = LoopSettings::default();
    let settings = LoopSettings {
        receive_buffer_bytes: RECEIVE_BYTES,
        tick_ms: TICK_MS,
        // With room for those that are being closed while others come.
        sockets_max: defaults.sockets_max.max(plan.devices.saturating_mul(2)),
        // What is measured is the server: the generator takes all it can in a turn.
        turn_us_per_newcomer: 0,
        ..defaults
    };
    let mut event_loop = EventLoop::new(probed.kind, &settings).map_err(RunError::Loop)?;
    let mut driven = Driven::new(Swarm::new(plan), scenario, event_loop.waker());
    event_loop.run(&mut driven).map_err(RunError::Loop)?;
    Ok(driven)
}

fn catchup_settings(args: &CatchupArgs, server: &Shared, users: Vec<String>) -> catchup::Settings {
    let restart = args.restart.then(|| restart(server, &args.common, PageCache::Dropped));
    let now = server.borrow();
    catchup::Settings {
        users,
        ties: ties(&args.ties),
        fresh: args.fresh,
        over: Duration::from_seconds(args.over.into()),
        server: now.address,
        server_pid: now.pid,
        restart,
    }
}

const fn ties(args: &TiesArgs) -> Ties {
    Ties { conversations: args.conversations, groups: args.groups, group_size: args.group_size }
}

/// Users that no earlier run of this server knew. Their ids are as short as those of most apps,
/// which are numbers: a longer one costs the server memory.
pub(crate) fn names(count: u32, run: u64) -> Vec<String> {
    let run = base_36(run);
    (0..count).map(|index| format!("{run}{}", base_36(index.into()))).collect()
}

pub(super) fn base_36(mut number: u64) -> String {
    let mut digits = Vec::new();
    while number > 0 || digits.is_empty() {
        let digit = u32::try_from(number % 36).unwrap_or_default();
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        number /= 36;
    }
    digits.iter().rev().collect()
}

fn both(some: &[usize], others: &[usize]) -> Vec<usize> {
    some.iter().chain(others).copied().collect()
}
