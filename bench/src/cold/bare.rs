//! The bare echo: a process of its own, so that its processor time is taken as the server's is, on
//! the same event loop with the same settings, and with nothing above it.

use super::scenario::Side;
use crate::args::EchoArgs;
use crate::floor::Echo;
use crate::server::{ServerError, end, pin};
use crate::stop;
use roost_event_loop::{Choice, EventLoop, Settings as LoopSettings, probe};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Backlog of the listener, as large as the server's is by default.
const BACKLOG: u32 = 4_096;

/// What it says when it is ready: where it listens.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    tcp: SocketAddr,
}

/// Says where it listens, then echoes until the process is told to end.
///
/// # Errors
/// There is no loop, or it cannot listen there.
pub fn serve(args: &EchoArgs, say: impl FnOnce(&str)) -> io::Result<()> {
    stop::watch()?;
    let kind = probe(Choice::Auto).map_err(|error| error.source)?.kind;
    let defaults = LoopSettings::default();
    // As the server's limits do, with some places to spare.
    let sockets_max = args.connections.saturating_add(1_024);
    let settings = LoopSettings { sockets_max, turn_us_per_newcomer: 0, ..defaults };
    let mut event_loop = EventLoop::new(kind, &settings)?;
    let (_, tcp) = event_loop.listen(args.listen, BACKLOG, false)?;
    let ready = serde_json::to_string(&Ready { tcp }).expect("an address is text");
    say(&format!("{ready}\n"));
    event_loop.run(&mut Echo::until(stop::is_wanted))
}

/// The process, as the run sees it.
#[derive(Debug)]
pub(super) struct Bare {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Bare {
    /// Starts it on these processors; the calling thread is on them afterwards, too.
    pub(super) fn start(cpus: &[usize], connections: u32) -> Result<Self, ServerError> {
        let program = std::env::current_exe().map_err(ServerError::Folder)?;
        let mut command = Command::new(&program);
        command.args(["echo", "--connections", &connections.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        // Ctrl-C is for this program, which then stops the other.
        command.process_group(0);
        // A child inherits the processors of the thread that starts it.
        pin(cpus)?;
        let spawned = command.spawn();
        let mut child = spawned.map_err(|source| ServerError::Start { program, source })?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        // Without a line the text stays empty, which is no address.
        let _result = BufReader::new(stdout).read_line(&mut line);
        let ready = serde_json::from_str::<Ready>(&line);
        // From here on the process ends with this value, ready or not.
        let mut bare = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let refused = |error: serde_json::Error| ServerError::NotReady {
            said: line.clone(),
            log: error.to_string(),
        };
        bare.address = ready.map_err(refused)?.tcp;
        Ok(bare)
    }

    pub(super) fn side(&self) -> Side {
        Side { address: self.address, pid: Some(self.child.id()) }
    }

    /// Ends it. Its connections have ended, so there is nothing that it could do badly.
    pub(super) fn stop(mut self) {
        if kill_process(Pid::from_child(&self.child), Signal::TERM).is_ok() {
            drop(self.child.wait());
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
