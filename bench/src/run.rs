//! A run from start to end: a server, tokens, a loop, a report.

use crate::args::{CatchupArgs, Common, IdleArgs, Scenario as Wanted, TiesArgs};
use crate::machine::{self, FlushTime, Machine};
use crate::report::{self, Report, Surroundings};
use crate::scenario::catchup::{self, Catchup, Restart};
use crate::scenario::fanout::Fanout;
use crate::scenario::idle::{self, Idle};
use crate::scenario::load::{Load, Pace};
use crate::scenario::pairs::Pairs;
use crate::scenario::population::Ties;
use crate::server::{self, Server, ServerError};
use crate::swarm::{Counts, Driven, Plan, Scenario, Swarm};
use crate::tokens;
use roost_event_loop::{Choice, EventLoop, Settings as LoopSettings};
use roost_gateway::keys::KeysError;
use roost_protocol::time::{Duration, Instant};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;

/// Buffers of the loop: what comes to one device at once is small.
const RECEIVE_BYTES: usize = 16 * 1024;
/// Ramps and phases are as fine as this.
const TICK_MS: u64 = 2;

/// Measures what was asked for.
///
/// # Errors
/// The run could not begin, or the loop itself failed.
pub fn run(wanted: &Wanted) -> Result<Report, RunError> {
    let common = wanted.common();
    let started = roost_event_loop::now().wall;
    let server = Server::of(common)?;
    let users = names(wanted.connections(), started.ms);
    let flush = common.spawn.then(|| FlushTime::measure(&server.data)).transpose();
    let flush = flush.map_err(RunError::Disk)?;
    // Signing may use every processor; measuring may not.
    server::pin(&both(&common.server_cpus, &common.cpus))?;
    let tokens = tokens::sign(&server.data, &users)?;
    server::pin(&common.cpus)?;
    let plan = Plan {
        server: server.address,
        connect_rate: common.connect_rate,
        tokens,
        connection_number: started.ms,
        comes_back: matches!(wanted, Wanted::Catchup(_)),
    };
    let swarm = Swarm::new(plan);
    let mut around = Surroundings {
        date: machine::date(started),
        machine: Machine::this(),
        flush,
        driver: server.driver.clone(),
        shards: server.shards,
        ending: server::Ending::Untouched,
        log_tail: String::new(),
    };
    match wanted {
        Wanted::Pairs(args) => {
            let load =
                load(&args.common, (args.rate, args.window), args.body_bytes, &server, users);
            let (scenario, counts, started) = drive(swarm, Pairs::new(load))?;
            let found = scenario.into_findings();
            around.end(server, found.failure.is_some());
            Ok(report::of_pairs(wanted, &around, &found, counts, started))
        }
        Wanted::Idle(args) => {
            let settings = idle_settings(args, &server, users);
            let (scenario, counts, started) = drive(swarm, Idle::new(settings))?;
            let found = scenario.into_findings();
            around.end(server, found.failure.is_some());
            Ok(report::of_idle(wanted, &around, &found, counts, started))
        }
        Wanted::Fanout(args) => {
            let load =
                load(&args.common, (args.rate, args.window), args.body_bytes, &server, users);
            let (scenario, counts, started) = drive(swarm, Fanout::new(load))?;
            let found = scenario.into_findings();
            around.end(server, found.failure.is_some());
            Ok(report::of_fanout(wanted, &around, &found, counts, started))
        }
        Wanted::Catchup(args) => {
            let server = Rc::new(RefCell::new(server));
            let settings = catchup_settings(args, &server, users);
            let (scenario, counts, started) = drive(swarm, Catchup::new(settings))?;
            let found = scenario.into_findings();
            let server = Rc::into_inner(server).expect("the scenario is over").into_inner();
            around.end(server, found.failure.is_some());
            Ok(report::of_catchup(wanted, &around, &found, counts, started))
        }
    }
}

/// Runs the loop until the scenario is over. The connections end with the loop. Gives the scenario,
/// what was counted of connections, and when the first of them began.
fn drive<S: Scenario>(swarm: Swarm, scenario: S) -> Result<(S, Counts, Option<Instant>), RunError> {
    let probed =
        roost_event_loop::probe(Choice::Auto).map_err(|error| RunError::Loop(error.source))?;
    let settings = LoopSettings {
        receive_buffer_bytes: RECEIVE_BYTES,
        tick_ms: TICK_MS,
        ..LoopSettings::default()
    };
    let mut event_loop = EventLoop::new(probed.kind, &settings).map_err(RunError::Loop)?;
    let mut driven = Driven::new(swarm, scenario, event_loop.waker());
    event_loop.run(&mut driven).map_err(RunError::Loop)?;
    let (counts, started) = (driven.swarm.counts(), driven.swarm.started());
    Ok((driven.scenario, counts, started))
}

fn load(
    common: &Common,
    (rate, window): (Option<u32>, u32),
    body_bytes: u32,
    server: &Server,
    users: Vec<String>,
) -> Load {
    Load {
        pace: rate.map_or(Pace::Window(window), Pace::Rate),
        body_bytes: usize::try_from(body_bytes).expect("bodies are below 4 GiB"),
        warmup: Duration::from_seconds(common.warmup.into()),
        measure: Duration::from_seconds(common.seconds.into()),
        server_pid: server.pid,
        users,
    }
}

fn idle_settings(args: &IdleArgs, server: &Server, users: Vec<String>) -> idle::Settings {
    idle::Settings {
        users,
        ties: ties(&args.ties),
        settle: Duration::from_seconds(args.settle.into()),
        hold: Duration::from_seconds(args.common.seconds.into()),
        server_pid: server.pid,
    }
}

fn catchup_settings(
    args: &CatchupArgs,
    server: &Rc<RefCell<Server>>,
    users: Vec<String>,
) -> catchup::Settings {
    let common = args.common.clone();
    let restart = args.restart.then(|| -> Restart {
        let server = Rc::clone(server);
        Box::new(move || {
            let mut server = server.borrow_mut();
            server.restart(&common).map_err(|error| error.to_string())?;
            Ok((server.address, server.pid))
        })
    });
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

/// Users that no earlier run of this server knew.
fn names(count: u32, run: u64) -> Vec<String> {
    (0..count).map(|index| format!("{run:x}-{index:x}")).collect()
}

fn both(some: &[usize], others: &[usize]) -> Vec<usize> {
    some.iter().chain(others).copied().collect()
}

/// Why there is no report.
#[derive(Debug)]
pub enum RunError {
    /// There is no server to measure.
    Server(ServerError),
    /// There is no key to sign with.
    Keys(KeysError),
    /// The disk cannot be timed.
    Disk(io::Error),
    /// The generator's loop failed.
    Loop(io::Error),
}

impl From<ServerError> for RunError {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}

impl From<KeysError> for RunError {
    fn from(error: KeysError) -> Self {
        Self::Keys(error)
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Disk(error) => write!(f, "cannot time the disk: {error}"),
            Self::Loop(error) => write!(f, "the generator's loop failed: {error}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Server(error) => Some(error),
            Self::Keys(error) => Some(error),
            Self::Disk(error) | Self::Loop(error) => Some(error),
        }
    }
}
