//! A run from start to end: for each round a server, tokens, a loop; then one result.

mod capacity;
mod others;
mod round;
mod settings;
mod talkers;
mod tun;

pub use round::{Devices, own_rss_bytes, part};
pub(crate) use round::{drive, names};

use crate::agents::{self, AgentError};
use crate::args::{Scenario as Wanted, Tls};
use crate::latency::{self, Latency};
use crate::machine;
use crate::peers::{self, Peer};
use crate::preflight::{self, Refused};
use crate::report::Report;
use crate::result::{Document, Environment, Figures, SCHEMA};
use crate::scenario::mix::MixError;
use crate::server::ServerError;
use crate::stop;
use crate::swarm::TlsError;
use crate::target::xmpp::RegisterError;
use crate::tun::TunError;
use hdrhistogram::Histogram;
use roost_event_loop::now;
use roost_gateway::keys::KeysError;
use std::collections::BTreeMap;
use std::fmt;
use std::io;

/// Measures what was asked for.
///
/// # Errors
/// The run could not begin, or the loop itself failed.
pub fn run(wanted: &Wanted) -> Result<Report, RunError> {
    prepare(wanted)?;
    let document = match wanted {
        Wanted::Capacity(args) => capacity::search(args, document(wanted))?,
        Wanted::Idle(_)
        | Wanted::Pairs(_)
        | Wanted::Fanout(_)
        | Wanted::Hot(_)
        | Wanted::Catchup(_)
        | Wanted::Storm(_)
        | Wanted::Slow(_)
        | Wanted::Mixed(_)
        | Wanted::Soak(_) => measure(wanted)?,
    };
    Ok(Report::new(document))
}

/// Looks whether a run can begin, and does what is done once for all rounds.
///
/// # Errors
/// It cannot begin.
pub fn prepare(wanted: &Wanted) -> Result<(), RunError> {
    if wanted.common().tls != Tls::Off && !wanted.common().target.is_roost() {
        return Err(RunError::NoTls);
    }
    restart_has_meaning(wanted)?;
    preflight::check(wanted)?;
    let can_share = agents::can_share(wanted) && wanted.common().target.is_roost();
    if !wanted.common().agents.is_empty() && !can_share {
        return Err(RunError::CannotShare);
    }
    if !wanted.common().target.is_roost() && !others::can(wanted) {
        return Err(RunError::NoMeaning);
    }
    tun::prepare(wanted)?;
    stop::watch().map_err(RunError::Loop)
}

/// A restart is of a server of this run, with all users at this generator.
fn restart_has_meaning(wanted: &Wanted) -> Result<(), RunError> {
    let common = wanted.common();
    let why = if !wanted.restarts() {
        return Ok(());
    } else if !common.spawn {
        "--restart is for a server that the run itself starts: take --spawn in place of --server"
    } else if !common.target.is_roost() {
        "--restart is for Roost: leave out --target or --restart"
    } else if !common.agents.is_empty() {
        "--restart is for one generator: leave out --agents or --restart"
    } else if wanted.is_behind_tun() {
        "--restart is for devices with sockets: leave out --peers tun or --restart"
    } else if wanted.connections() < 2 {
        "--restart needs two users at least, who write to each other: raise --connections"
    } else {
        return Ok(());
    };
    Err(RunError::CannotRestart(why))
}

fn document(wanted: &Wanted) -> Document {
    Document {
        schema: SCHEMA,
        scenario: wanted.name().to_owned(),
        target: wanted.common().target.label(),
        date: machine::date(now().wall),
        command: std::env::args().collect(),
        environment: Environment::of(wanted.common()),
        settings: settings::of(wanted),
        ..Document::default()
    }
}

/// All rounds of a scenario.
fn measure(wanted: &Wanted) -> Result<Document, RunError> {
    let mut gathered = Gathered::new(wanted, std::env::args().collect());
    for _ in 0..wanted.common().rounds {
        gathered.add(wanted)?;
        if stop::is_wanted() {
            gathered.fail("ended by a signal: this is what there was".to_owned());
            break;
        }
    }
    Ok(gathered.finish())
}

/// The rounds of a scenario, one after the other.
#[derive(Debug)]
pub struct Gathered {
    document: Document,
    histograms: BTreeMap<String, Histogram<u64>>,
    of_several: bool,
    /// A round could not begin; the next would not either.
    pub has_failed_to_begin: bool,
}

impl Gathered {
    /// Nothing yet. `command`: what measures it.
    #[must_use]
    pub fn new(wanted: &Wanted, command: Vec<String>) -> Self {
        Self {
            document: Document { command, ..document(wanted) },
            histograms: BTreeMap::new(),
            of_several: wanted.common().rounds > 1,
            has_failed_to_begin: false,
        }
    }

    fn add(&mut self, wanted: &Wanted) -> Result<(), RunError> {
        let found = round::round(wanted, &mut self.document)?;
        let number = self.document.rounds.len() + 1;
        for (name, times) in found.histograms {
            let sum = self.histograms.entry(name).or_insert_with(latency::histogram);
            sum.add(&times).expect("all histograms have the same bounds");
        }
        let of = |why: &String| {
            if self.of_several { format!("round {number}: {why}") } else { why.clone() }
        };
        self.document.failures.extend(found.round.failures.iter().map(of));
        self.document.rounds.push(found.round);
        Ok(())
    }

    /// One more round; one that cannot begin is a failure of this scenario only.
    pub fn round(&mut self, wanted: &Wanted) {
        self.of_several = true;
        if let Err(error) = self.add(wanted) {
            self.has_failed_to_begin = true;
            self.fail(error.to_string());
        }
    }

    /// Notes what must not be.
    pub fn fail(&mut self, why: String) {
        self.document.failures.push(why);
    }

    /// All rounds together.
    #[must_use]
    pub fn finish(mut self) -> Document {
        if self.document.rounds.is_empty() {
            return self.document;
        }
        let (mut figures, spread) = Figures::combine(&self.document.rounds);
        for (name, times) in self.histograms.iter().filter(|(_, times)| !times.is_empty()) {
            figures.latency_us.insert(name.clone(), Latency::of(times));
            self.document.percentiles.insert(name.clone(), latency::curve(times));
        }
        (self.document.figures, self.document.spread) = (figures, spread);
        self.document
    }
}

/// Why there is no report.
#[derive(Debug)]
pub enum RunError {
    /// It would not work, or do harm.
    Refused(Refused),
    /// There is no server to measure.
    Server(ServerError),
    /// There is no key to sign with.
    Keys(KeysError),
    /// The disk cannot be timed.
    Disk(io::Error),
    /// The generator's loop failed.
    Loop(io::Error),
    /// What devices have and do is not said.
    Mix(MixError),
    /// The generators elsewhere did not do their part.
    Agents(AgentError),
    /// No broker that was asked for is installed.
    NoPeers(Vec<Peer>),
    /// The target has no meaning for the scenario.
    NoMeaning,
    /// The scenario is one generator's.
    CannotShare,
    /// The server cannot be started anew in this run: why, and what helps.
    CannotRestart(&'static str),
    /// The target has no accounts for the devices.
    Accounts(RegisterError),
    /// Only connections to Roost are sealed.
    NoTls,
    /// Nobody is trusted.
    Tls(TlsError),
    /// Devices without sockets cannot do it.
    NotBehindTun(String),
    /// There are no devices without sockets.
    Tun(TunError),
}

impl From<AgentError> for RunError {
    fn from(error: AgentError) -> Self {
        Self::Agents(error)
    }
}

impl From<TunError> for RunError {
    fn from(error: TunError) -> Self {
        Self::Tun(error)
    }
}

impl From<Refused> for RunError {
    fn from(error: Refused) -> Self {
        Self::Refused(error)
    }
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
            Self::Refused(error) => error.fmt(f),
            Self::Server(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Disk(error) => write!(f, "cannot time the disk: {error}"),
            Self::Loop(error) => write!(f, "the generator's loop failed: {error}"),
            Self::Mix(error) => error.fmt(f),
            Self::Agents(error) => error.fmt(f),
            Self::CannotShare => write!(f, "--agents is for idle, pairs and storm of Roost"),
            Self::NoPeers(missing) => write!(
                f,
                "none of these brokers is installed; install them with: {}",
                peers::install_command(missing)
            ),
            Self::NoMeaning => write!(
                f,
                "other brokers are measured with idle, pairs, fanout, hot and capacity; an echo \
                 server with idle, pairs and capacity"
            ),
            Self::CannotRestart(why) => f.write_str(why),
            Self::NoTls => write!(f, "--tls is for Roost; other brokers are measured without"),
            Self::Accounts(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::NotBehindTun(why) => f.write_str(why),
            Self::Tun(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Server(error) => Some(error),
            Self::Keys(error) => Some(error),
            Self::Disk(error) | Self::Loop(error) => Some(error),
            Self::Mix(error) => Some(error),
            Self::Agents(error) => Some(error),
            Self::Accounts(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Tun(error) => Some(error),
            Self::NoTls
            | Self::CannotShare
            | Self::CannotRestart(_)
            | Self::NoMeaning
            | Self::NotBehindTun(_)
            | Self::NoPeers(_) => None,
        }
    }
}
