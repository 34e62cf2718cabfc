//! A broker as a child of this program: started on a free port of loopback, and ended whatever
//! happens.

use super::config::{Peer, Setup, nats_flushes};
use super::{install_command, installed};
use crate::args::TargetArgs;
use crate::stop;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::park_timeout;
use std::time::Duration;

/// A port that was free may be taken a moment later: so often another one is tried.
const TRIES: u32 = 3;
/// How long a broker may take to listen.
const LISTEN_STEPS: u32 = 1_500;
const LISTEN_STEP: Duration = Duration::from_millis(20);
/// What is shown of its log.
const LOG_LINES: usize = 10;

/// A broker that listens. Whoever holds it must end it; see [`crate::server::Server`].
#[derive(Debug)]
pub struct Broker {
    /// Its process.
    pub child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it says of its version.
    pub version: String,
    /// What it logs.
    pub log: PathBuf,
    /// NATS: it flushes before it acknowledges, if it is to be durable.
    pub flushes: bool,
}

impl Broker {
    /// Starts the broker of a target, with its files, its configuration and its log in a folder.
    ///
    /// # Errors
    /// It is not installed, cannot be started, or ends at once.
    pub fn start(args: &TargetArgs, folder: &Path) -> Result<Self, BrokerError> {
        let peer = Peer::of(args.name()).ok_or(BrokerError::NotOurs)?;
        let program = installed(peer.program()).ok_or(BrokerError::Missing(peer))?;
        let version = peer.version(&program);
        let mut ended = String::new();
        for _ in 0..TRIES {
            let port = free_port().map_err(BrokerError::Folder)?;
            let flushes = peer == Peer::Nats && nats_flushes(&version);
            let setup = Setup::of(args, port, folder, &user(), flushes);
            let setup = setup.ok_or(BrokerError::NotOurs)?;
            let mut broker = Self::start_with(&setup, port, &program, folder)?;
            match broker.wait() {
                Ok(()) => {
                    (broker.version, broker.flushes) = (version, flushes);
                    return Ok(broker);
                }
                Err(why) => ended = why,
            }
            broker.end();
            if stop::is_wanted() {
                break;
            }
        }
        Err(BrokerError::Ended { peer, why: ended })
    }

    fn start_with(
        setup: &Setup,
        port: u16,
        program: &Path,
        folder: &Path,
    ) -> Result<Self, BrokerError> {
        let file = folder.join(setup.peer.file());
        fs::write(&file, &setup.text).map_err(BrokerError::Folder)?;
        let log = folder.join("server.log");
        let output = File::create(&log).map_err(BrokerError::Folder)?;
        let errors = output.try_clone().map_err(BrokerError::Folder)?;
        let start = |source| BrokerError::Start { program: program.to_owned(), source };
        let mut command = setup.peer.command(program, &file, folder).map_err(start)?;
        command.current_dir(folder);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // Ctrl-C is for this program, which then ends the broker.
        command.process_group(0);
        let child = command.spawn().map_err(start)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { child, address, version: String::new(), log, flushes: false })
    }

    /// Waits until it listens. Says why it does not.
    fn wait(&mut self) -> Result<(), String> {
        for _ in 0..LISTEN_STEPS {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended with {status} and said:\n{}", log_tail(&self.log)));
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if stop::is_wanted() {
                return Err("the run was ended by a signal".to_owned());
            }
            park_timeout(LISTEN_STEP);
        }
        Err(format!("it does not listen at {} and said:\n{}", self.address, log_tail(&self.log)))
    }

    /// Ends it at once.
    fn end(&mut self) {
        // It may have ended already, which is the aim.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}

/// Who runs this: mosquitto, started by root, would become somebody who may not write our folder.
fn user() -> String {
    let is_root = rustix::process::geteuid().is_root();
    let name = std::env::var("USER").ok().filter(|name| !name.is_empty());
    if is_root { "root".to_owned() } else { name.unwrap_or_else(|| "nobody".to_owned()) }
}

/// The last lines of a log.
pub fn log_tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Why a broker is not there.
#[derive(Debug)]
pub enum BrokerError {
    /// Nobody serves this target here: it must run already.
    NotOurs,
    /// It is not installed.
    Missing(Peer),
    /// Its folder cannot be used, or there is no port.
    Folder(io::Error),
    /// It cannot be started.
    Start {
        /// Its program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended, or does not listen.
    Ended {
        /// Which broker.
        peer: Peer,
        /// What it said.
        why: String,
    },
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => {
                write!(f, "this target cannot be started here: start it and use --server")
            }
            Self::Missing(peer) => write!(
                f,
                "{} is not installed; install it with: {}",
                peer.program(),
                install_command(&[*peer])
            ),
            Self::Folder(source) => write!(f, "cannot make a broker's folder: {source}"),
            Self::Start { program, source } => {
                write!(f, "cannot start {}: {source}", program.display())
            }
            Self::Ended { peer, why } => {
                write!(f, "{} could not be started: {why}", peer.program())
            }
        }
    }
}

impl std::error::Error for BrokerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Folder(source) | Self::Start { source, .. } => Some(source),
            Self::NotOurs | Self::Missing(_) | Self::Ended { .. } => None,
        }
    }
}
