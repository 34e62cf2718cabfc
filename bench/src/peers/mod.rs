//! Other brokers from Debian's packages, started for a run on loopback: what they are called, how
//! they are configured, and a child process of each.

mod child;
mod config;
mod ejabberd;

pub use child::{Broker, BrokerError, log_tail};
pub use config::{Peer, Setup};

use std::path::PathBuf;

/// Where programs are looked for besides `PATH`: services lie where users do not look.
const ELSEWHERE: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program, if it is installed.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(ELSEWHERE.map(PathBuf::from));
    folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_file()))
}

/// What to say of those that are not: the command that installs them.
#[must_use]
pub fn install_command(peers: &[Peer]) -> String {
    let packages: Vec<&str> = peers.iter().map(|peer| peer.package()).collect();
    format!("apt-get install -y {}", packages.join(" "))
}
