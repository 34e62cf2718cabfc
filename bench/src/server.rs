//! The server that is measured: started and stopped by the run, or somebody else's.

use crate::args::{Common, Tls, Tokens};
use crate::measure::Observed;
use crate::peers::{Broker, BrokerError, log_tail};
use crate::tokens::Secret;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// How long a server may take to stop before it is killed: two minutes, for millions of connections
/// that end.
const STOP_STEPS: u32 = 2_400;
const STOP_STEP: Duration = Duration::from_millis(50);
/// No device of a run is held back by how much it says or asks: that is what is measured.
const CONFIG: &str = "\
[limits]
connections_max = 10000000
connection_sends_per_second = 1000000
user_sends_per_second = 1000000
sends_burst = 1000000
connection_queries_per_second = 1000000
user_queries_per_second = 1000000
queries_burst = 1000000
connection_group_changes_per_second = 1000000
user_group_changes_per_second = 1000000
group_changes_burst = 1000000
first_contacts_per_hour = 60000
";

/// A server to measure.
#[derive(Debug)]
pub struct Server {
    /// Where devices connect to: its TLS listener, if they are to seal.
    pub address: SocketAddr,
    /// Its process, if it runs here.
    pub pid: Option<u32>,
    /// Its admin listener.
    pub admin: Option<SocketAddr>,
    /// Its data folder, for the signing key.
    pub data: PathBuf,
    /// How it talks to the kernel, as it says itself.
    pub driver: Option<String>,
    /// How many shards it has, as it says itself.
    pub shards: Option<u32>,
    /// Of another broker: what it says of its version.
    pub version: Option<String>,
    /// Of another broker: it flushes before it acknowledges, if its configuration says so.
    pub flushes: bool,
    /// Its system calls are to be counted.
    counts_syscalls: bool,
    /// What it was told to check tokens with, if that is not its own key.
    pub secret: Option<Secret>,
    /// How fast its processors are is to be measured.
    has_yardstick: bool,
    spawned: Option<Spawned>,
}

#[derive(Debug)]
struct Spawned {
    child: Child,
    /// Open as long as the server runs: writing to a closed pipe would end it.
    _stdout: Option<BufReader<ChildStdout>>,
    /// Another broker may end as it likes when it is told to.
    is_ours: bool,
    log: PathBuf,
    /// Made for this run and removed at its end.
    folder: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Ready {
    tcp: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    driver: String,
    shards: u32,
}

/// What a restart does with what the kernel keeps of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCache {
    /// It stays: the new server reads as it would have read anyway.
    Kept,
    /// It is dropped, as root: the new server reads from the disk.
    Dropped,
}

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It is somebody else's.
    Untouched,
    /// It stopped when told to.
    Clean,
    /// It stopped with an error, or was not there any more.
    Failed,
    /// It did not stop and was killed.
    Killed,
}

impl Server {
    /// The server that the command line names or wants.
    ///
    /// # Errors
    /// It does not start.
    pub fn of(args: &Common) -> Result<Self, ServerError> {
        let server = match args.server {
            Some(address) => Self {
                pid: args.server_pid,
                admin: args.server_admin,
                data: args.data.clone().unwrap_or_default(),
                ..Self::elsewhere(address)
            },
            None => Self::spawn(args)?,
        };
        Ok(Self { counts_syscalls: args.syscalls, has_yardstick: args.yardstick, ..server })
    }

    /// Another broker, in a folder of its own.
    fn broker(args: &Common, folder: PathBuf) -> Result<Self, ServerError> {
        fs::create_dir_all(&folder).map_err(ServerError::Folder)?;
        // A child inherits the processors of the thread that starts it.
        pin(&args.spawned_cpus())?;
        let broker = Broker::start(&args.target, &folder);
        pin(&args.generator_cpus())?;
        let Broker { child, address, version, log, flushes } = match broker {
            Ok(broker) => broker,
            Err(error) => {
                drop(fs::remove_dir_all(&folder));
                return Err(ServerError::Broker(error));
            }
        };
        let (pid, data) = (Some(child.id()), folder.clone());
        let spawned = Spawned { child, _stdout: None, is_ours: false, log, folder };
        let (version, spawned) = (Some(version), Some(spawned));
        Ok(Self { pid, data, version, flushes, spawned, ..Self::elsewhere(address) })
    }

    /// One that somebody else looks after.
    #[must_use]
    pub const fn elsewhere(address: SocketAddr) -> Self {
        Self {
            address,
            pid: None,
            admin: None,
            data: PathBuf::new(),
            driver: None,
            shards: None,
            version: None,
            flushes: false,
            counts_syscalls: false,
            secret: None,
            has_yardstick: false,
            spawned: None,
        }
    }

    fn spawn(args: &Common) -> Result<Self, ServerError> {
        let own = std::env::current_exe().map_err(ServerError::Folder)?;
        let beside = own.parent().unwrap_or_else(|| Path::new("."));
        let folder = beside.join(format!("roost-bench-{}", std::process::id()));
        if args.target.is_roost() {
            Self::spawn_in(args, folder)
        } else {
            Self::broker(args, folder)
        }
    }

    fn spawn_in(args: &Common, folder: PathBuf) -> Result<Self, ServerError> {
        let program = program(args.server_program.as_deref())?;
        fs::create_dir_all(&folder).map_err(ServerError::Folder)?;
        let data = args.data.clone().unwrap_or_else(|| folder.join("data"));
        let log = folder.join("server.log");
        let stderr = File::create(&log).map_err(ServerError::Folder)?;
        let mut command = Command::new(&program);
        command.args(["serve", "--json", "--data"]).arg(&data);
        let given: Vec<&str> = args.server_args.split_whitespace().collect();
        let is_given = |name: &str| given.iter().any(|word| word.split('=').next() == Some(name));
        let shards = args.spawned_cpus().len().to_string();
        let config = folder.join("server.toml");
        let secret = match args.tokens {
            Tokens::Eddsa => None,
            Tokens::Hs256 => Some(Secret::in_folder(&folder).map_err(ServerError::Folder)?),
        };
        let told = secret.as_ref().map(Secret::configuration).unwrap_or_default();
        let told = configuration(args.heartbeat) + &told;
        fs::write(&config, told).map_err(ServerError::Folder)?;
        let config = config.to_string_lossy();
        let seals = args.tls != Tls::Off;
        let defaults = [
            ("--tcp", "127.0.0.1:0"),
            ("--tls", if seals { "127.0.0.1:0" } else { "off" }),
            ("--admin", "127.0.0.1:0"),
            ("--shards", &*shards),
            ("--config", &config),
        ];
        for (name, value) in defaults {
            if !is_given(name) {
                command.args([name, value]);
            }
        }
        command.args(&given).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        // Ctrl-C is for this program, which then stops the server.
        command.process_group(0);
        // A child inherits the processors of the thread that starts it.
        pin(&args.spawned_cpus())?;
        let child = command.spawn();
        pin(&args.generator_cpus())?;
        let mut child = child.map_err(|source| ServerError::Start { program, source })?;
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        let read = stdout.read_line(&mut line);
        let spawned = Spawned { child, _stdout: Some(stdout), is_ours: true, log, folder };
        let ready = read.ok().and_then(|_| serde_json::from_str::<Ready>(&line).ok());
        let ready = ready.and_then(|ready| {
            let address = if seals { ready.tls } else { ready.tcp };
            address.map(|address| (address, ready))
        });
        let Some((address, Ready { admin, driver, shards, .. })) = ready else {
            return Err(ServerError::NotReady { said: line, log: spawned.log_tail() });
        };
        Ok(Self {
            pid: Some(spawned.child.id()),
            admin,
            data,
            driver: Some(driver),
            shards: Some(shards),
            secret,
            spawned: Some(spawned),
            ..Self::elsewhere(address)
        })
    }

    /// Where it can be seen.
    #[must_use]
    pub const fn observed(&self) -> Observed {
        Observed {
            pid: self.pid,
            admin: self.admin,
            counts_syscalls: self.counts_syscalls,
            has_yardstick: self.has_yardstick,
        }
    }

    /// Stops it and starts it again over the same data.
    ///
    /// # Errors
    /// It was not started by us, does not stop or start, or the page cache cannot be dropped.
    pub fn restart(&mut self, args: &Common, cache: PageCache) -> Result<(), ServerError> {
        let Some(mut spawned) = self.spawned.take() else { return Err(ServerError::NotOurs) };
        if spawned.stop() != Ending::Clean {
            return Err(ServerError::NotReady {
                said: "nothing: it did not stop cleanly".to_owned(),
                log: spawned.log_tail(),
            });
        }
        if cache == PageCache::Dropped {
            rustix::fs::sync();
            fs::write("/proc/sys/vm/drop_caches", "3").map_err(ServerError::DropCaches)?;
        }
        let folder = spawned.take_folder();
        let (counts_syscalls, has_yardstick) = (self.counts_syscalls, self.has_yardstick);
        *self = Self { counts_syscalls, has_yardstick, ..Self::spawn_in(args, folder)? };
        Ok(())
    }

    /// Stops it, if it was started by us. Says how that went and what it logged last.
    #[must_use]
    pub fn stop(self) -> (Ending, String) {
        match self.spawned {
            None => (Ending::Untouched, String::new()),
            Some(mut spawned) => (spawned.stop(), spawned.log_tail()),
        }
    }
}

impl Spawned {
    /// The folder is somebody else's from now on.
    fn take_folder(&mut self) -> PathBuf {
        std::mem::take(&mut self.folder)
    }

    fn stop(&mut self) -> Ending {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return Ending::Failed;
        }
        let asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if asked.is_err() {
            return Ending::Failed;
        }
        for _ in 0..STOP_STEPS {
            match self.child.try_wait() {
                Ok(Some(_)) if !self.is_ours => return Ending::Clean,
                Ok(Some(status)) => return Ending::of(status),
                Ok(None) => thread::park_timeout(STOP_STEP),
                Err(_) => return Ending::Failed,
            }
        }
        Ending::Killed
    }

    fn log_tail(&self) -> String {
        log_tail(&self.log)
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        end(&mut self.child);
        if !self.folder.as_os_str().is_empty() {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

/// Ends a child that is still there, at once.
pub(crate) fn end(child: &mut Child) {
    // Nothing can be done about failures: the child may be gone already, which is the aim.
    if matches!(child.try_wait(), Ok(None)) && child.kill().is_ok() {
        drop(child.wait());
    }
}

impl Ending {
    /// Puts among a run's failures that the server ended badly, and what it logged if any failed.
    pub(crate) fn note(self, log_tail: &str, failures: &mut Vec<String>) {
        if matches!(self, Self::Failed | Self::Killed) {
            failures.push(format!("the server did not stop cleanly: {self:?}"));
        }
        if !failures.is_empty() && !log_tail.is_empty() {
            failures.push(format!("the server logged last:\n{log_tail}"));
        }
    }

    fn of(status: ExitStatus) -> Self {
        if status.success() { Self::Clean } else { Self::Failed }
    }
}

/// What is written into the configuration of a server that is started.
fn configuration(heartbeat_s: Option<u32>) -> String {
    let heartbeat = heartbeat_s.map(|seconds| {
        let ms = seconds * 1_000;
        format!("heartbeat_foreground_ms = {ms}\nheartbeat_background_ms = {ms}\n")
    });
    format!("{CONFIG}{}", heartbeat.unwrap_or_default())
}

/// The server's program, which lies beside this one unless another is given.
pub(crate) fn program(given: Option<&Path>) -> Result<PathBuf, ServerError> {
    let program = if let Some(given) = given {
        // A child may be started in another folder.
        std::path::absolute(given).map_err(ServerError::Folder)?
    } else {
        let own = std::env::current_exe().map_err(ServerError::Folder)?;
        own.parent().unwrap_or_else(|| Path::new(".")).join("roost")
    };
    if program.is_file() { Ok(program) } else { Err(ServerError::Missing { program }) }
}

/// Puts the calling thread on these processors.
///
/// # Errors
/// There are no such processors.
pub fn pin(cpus: &[usize]) -> Result<(), ServerError> {
    let mut set = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU) {
        set.set(*cpu);
    }
    let refused =
        |source: rustix::io::Errno| ServerError::Pin { cpus: cpus.to_vec(), source: source.into() };
    sched_setaffinity(None, &set).map_err(refused)
}

/// Why there is no server.
#[derive(Debug)]
pub enum ServerError {
    /// The program is not there.
    Missing {
        /// Where it should be.
        program: PathBuf,
    },
    /// It cannot be started.
    Start {
        /// Which program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not say that it is ready.
    NotReady {
        /// What it said instead.
        said: String,
        /// What it logged.
        log: String,
    },
    /// The folder of the run cannot be used.
    Folder(io::Error),
    /// Another broker is not there.
    Broker(BrokerError),
    /// It was not started by this run.
    NotOurs,
    /// The page cache cannot be dropped.
    DropCaches(io::Error),
    /// Processors that do not exist.
    Pin {
        /// Which were wanted.
        cpus: Vec<usize>,
        /// Why not.
        source: io::Error,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { program } => write!(
                f,
                "{} is not there; build it first: cargo build --release -p roost-gateway",
                program.display()
            ),
            Self::Start { program, source } => {
                write!(f, "cannot start {}: {source}", program.display())
            }
            Self::NotReady { said, log } => {
                write!(f, "the server did not get ready; it said {said:?} and logged:\n{log}")
            }
            Self::Broker(error) => error.fmt(f),
            Self::NotOurs => f.write_str("only a server of --spawn can be started anew"),
            Self::DropCaches(source) => {
                write!(f, "cannot drop the page cache: {source}; this needs root")
            }
            Self::Folder(source) => write!(f, "cannot make a folder for this run: {source}"),
            Self::Pin { cpus, source } => {
                write!(f, "cannot run on processors {cpus:?}: {source}; see --cpus, --server-cpus")
            }
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { source, .. }
            | Self::Folder(source)
            | Self::DropCaches(source)
            | Self::Pin { source, .. } => Some(source),
            Self::Broker(source) => Some(source),
            Self::Missing { .. } | Self::NotReady { .. } | Self::NotOurs => None,
        }
    }
}
