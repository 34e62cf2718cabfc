//! What a heartbeat and a message cost the server, beside a bare echo on equally cold connections:
//! both servers run at once on the same processors, each with as many connections, and are spoken
//! to by turns by one generator, at the same pace and in the same order. The bare echo is a process
//! of its own on the server's own event loop, so what is compared is the gateway alone.

mod bare;
mod findings;
mod scenario;
mod script;

pub use bare::serve;

use crate::args::{ColdArgs, Common, Tls};
use crate::preflight::{self, Refused};
use crate::report::Report;
use crate::result::{Document, Environment, SCHEMA};
use crate::run::{self, RunError};
use crate::server::{self, Server, ServerError};
use crate::stop;
use crate::swarm::{CONNECTING_MAX, Plan};
use crate::tokens::Signer;
use crate::{machine, scenario::load::Pace};
use bare::Bare;
use roost_event_loop::now;
use roost_gateway::keys::KeysError;
use scenario::Cold;
use script::Crowd;
use serde_json::json;
use std::fmt;

/// How long each part is measured unless told otherwise.
const SECONDS: u32 = 20;
/// So rarely do devices of this scenario have to say that they are there, unless told otherwise:
/// what is said is said by the script.
const HEARTBEAT_S: u32 = 600;

/// Measures what was asked for.
///
/// # Errors
/// It could not begin, or the generator's loop failed.
pub fn run(args: &ColdArgs) -> Result<Report, ColdError> {
    let common = common(args)?;
    let crowd = Crowd::of(args);
    preflight::pairs(&common, u64::from(crowd.devices()))?;
    stop::watch().map_err(RunError::Loop)?;
    let mut document = document(args, &common);
    let server = Server::of(&common)?;
    document.environment.versions.driver.clone_from(&server.driver);
    document.environment.versions.shards = server.shards;
    let bare = Bare::start(&common.spawned_cpus(), crowd.devices())?;
    server::pin(&common.generator_cpus())?;
    let run = now().wall.ms;
    let users = run::names(crowd.devices(), run);
    let signer = Signer::new(server.secret.as_ref(), &server.data)?;
    let tokens = crowd.tokens(&users, &signer)?;
    let plan = Plan {
        server: bare.address,
        connect_rate: common.connect_rate,
        devices: crowd.devices(),
        tokens,
        connection_number: run,
        comes_when_told: true,
        comes_back: false,
        tries_again: false,
        connecting_max: CONNECTING_MAX,
        tls: None,
    };
    let sides = [bare.side(), scenario::Side::of(&server)];
    let settings =
        scenario::Settings { sides, pace: pace(args), script: crowd.script(args), users };
    let cold = run::drive(plan, Cold::new(settings))?.scenario;
    let mut found = cold.into_findings();
    bare.stop();
    let (ending, log_tail) = server.stop();
    ending.note(&log_tail, &mut found.failures);
    findings::fill(&mut document, &found);
    let lines = findings::lines(&document, &found);
    Ok(Report::with_lines(document, lines))
}

/// What all scenarios take, as this one needs it.
fn common(args: &ColdArgs) -> Result<Common, ColdError> {
    let mut common = args.common.clone();
    let is_whole = common.spawn && common.target.is_roost();
    if !is_whole || common.tls != Tls::Off || !common.agents.is_empty() {
        return Err(ColdError::NotSpawned);
    }
    common.heartbeat.get_or_insert(HEARTBEAT_S);
    common.seconds.get_or_insert(SECONDS);
    Ok(common)
}

fn pace(args: &ColdArgs) -> Pace {
    args.at_once.map_or(Pace::Rate(args.rate), Pace::Window)
}

fn document(args: &ColdArgs, common: &Common) -> Document {
    let part = format!("{:?}", args.part).to_lowercase();
    let pace = match pace(args) {
        Pace::Rate(rate) => json!({ "rate": rate }),
        Pace::Window(window) => json!({ "at_once": window }),
    };
    let mut settings = json!({
        "part": part,
        "connections": args.connections,
        "active": args.active,
        "seconds": common.seconds,
        "warmup": common.warmup,
        "turns": args.turns,
    });
    if let (Some(settings), Some(pace)) = (settings.as_object_mut(), pace.as_object()) {
        settings.extend(pace.clone());
    }
    Document {
        schema: SCHEMA,
        scenario: "cold".to_owned(),
        target: common.target.label(),
        date: machine::date(now().wall),
        command: std::env::args().collect(),
        environment: Environment::of(common),
        settings: settings.as_object().cloned().unwrap_or_default(),
        ..Document::default()
    }
}

/// Why there is no report.
#[derive(Debug)]
pub enum ColdError {
    /// Only a server of plain Roost that the run starts itself is held against the bare echo.
    NotSpawned,
    /// As in any other run.
    Run(RunError),
}

impl From<RunError> for ColdError {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<Refused> for ColdError {
    fn from(error: Refused) -> Self {
        Self::Run(error.into())
    }
}

impl From<ServerError> for ColdError {
    fn from(error: ServerError) -> Self {
        Self::Run(error.into())
    }
}

impl From<KeysError> for ColdError {
    fn from(error: KeysError) -> Self {
        Self::Run(error.into())
    }
}

impl fmt::Display for ColdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSpawned => f.write_str(
                "cold starts both servers itself: say --spawn, without --target, --tls or --agents",
            ),
            Self::Run(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ColdError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotSpawned => None,
            Self::Run(error) => Some(error),
        }
    }
}
