//! What can be known before a run: better refused with a reason than failed in the middle.

use crate::args::{Common, Output, Scenario as Wanted};
use crate::process::available_bytes;
use roost_event_loop::{Choice, Kind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Descriptors of the generator and the server besides connections.
const OTHER_DESCRIPTORS: u64 = 200;
/// Memory of a connection: both ends in the kernel, the server's part and the generator's.
const CONNECTION_BYTES: u64 = 9_300;
/// The other end is not in the kernel: the server's part, the device's own few bytes, and the
/// namespace's table of connections.
const LONE_CONNECTION_BYTES: u64 = 4_700;
/// The other end is elsewhere.
const FAR_CONNECTION_BYTES: u64 = 5_500;
/// What must be left for everybody else.
const SPARE_BYTES: u64 = 512 << 20;
/// A server that is there takes a connection within so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks whether a run can work.
///
/// # Errors
/// It cannot, or would do harm.
pub fn check(wanted: &Wanted) -> Result<(), Refused> {
    let common = wanted.common();
    output(&common.output)?;
    let connections = u64::from(wanted.connections());
    let behind_tun = wanted.is_behind_tun();
    let is_ring = roost_event_loop::probe(Choice::Auto).is_ok_and(|of| of.kind == Kind::Uring);
    descriptors(descriptors_needed(common, connections, behind_tun, is_ring))?;
    memory(common, behind_tun, connections)?;
    if let Some(server) = common.server {
        if !behind_tun {
            ports(server, connections)?;
        }
        TcpStream::connect_timeout(&server, PATIENCE)
            .map_err(|source| Refused::Unreachable { server, source })?;
    }
    Ok(())
}

/// Looks whether so many connections, both ends of them, fit this machine.
///
/// # Errors
/// They do not.
pub fn pairs(common: &Common, connections: u64) -> Result<(), Refused> {
    output(&common.output)?;
    let is_ring = roost_event_loop::probe(Choice::Auto).is_ok_and(|of| of.kind == Kind::Uring);
    descriptors(descriptors_needed(common, connections, false, is_ring))?;
    memory(common, false, connections)
}

/// Files that are to be written can be.
///
/// # Errors
/// One cannot.
pub fn output(output: &Output) -> Result<(), Refused> {
    let files = [output.json.as_deref(), output.html.as_deref()];
    files.into_iter().flatten().try_for_each(writable)
}

fn writable(path: &Path) -> Result<(), Refused> {
    let existed = path.exists();
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|source| Refused::Output { path: path.to_owned(), source })?;
    if !existed {
        // It was made only to see whether it can be.
        drop(std::fs::remove_file(path));
    }
    Ok(())
}

/// A socket of `io_uring` is a place in a ring's table; one of epoll is a descriptor. A broker that
/// is started here inherits the limit, and has a descriptor for each connection.
fn descriptors_needed(common: &Common, connections: u64, behind_tun: bool, is_ring: bool) -> u64 {
    let starts_broker = common.spawn && !common.target.is_roost();
    let takes_none = behind_tun || is_ring && !starts_broker;
    OTHER_DESCRIPTORS + if takes_none { 0 } else { connections }
}

/// The soft limit is raised as far as it must be; the hard one is the operator's.
fn descriptors(needed: u64) -> Result<(), Refused> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    let fits = limit.maximum.is_none_or(|hard| hard >= needed);
    if fits && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    Err(Refused::Descriptors { needed, allowed: limit.maximum.unwrap_or(u64::MAX) })
}

fn memory(common: &Common, behind_tun: bool, connections: u64) -> Result<(), Refused> {
    let each = match (behind_tun, common.spawn) {
        (true, _) => LONE_CONNECTION_BYTES,
        (false, true) => CONNECTION_BYTES,
        (false, false) => FAR_CONNECTION_BYTES,
    };
    let needed = connections * each + SPARE_BYTES;
    match available_bytes() {
        Some(available) if needed > available && !common.force => {
            Err(Refused::Memory { needed, available })
        }
        _ => Ok(()),
    }
}

/// A server elsewhere is reached from one address, which has so many ports.
fn ports(server: SocketAddr, connections: u64) -> Result<(), Refused> {
    if server.ip().is_loopback() {
        return Ok(());
    }
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.unwrap_or_default();
    let bounds: Vec<u64> = range.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let &[low, high] = bounds.as_slice() else { return Ok(()) };
    let ports = (high + 1).saturating_sub(low).max(1);
    if connections > ports {
        return Err(Refused::Sources { needed: connections.div_ceil(ports), ports });
    }
    Ok(())
}

/// Why a run is refused.
#[derive(Debug)]
pub enum Refused {
    /// A file cannot be written.
    Output {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Too few descriptors.
    Descriptors {
        /// As many are needed.
        needed: u64,
        /// As many this process may have.
        allowed: u64,
    },
    /// Too little memory.
    Memory {
        /// As much is needed, about.
        needed: u64,
        /// As much there is.
        available: u64,
    },
    /// Too few addresses to connect from.
    Sources {
        /// As many are needed.
        needed: u64,
        /// Connections that one of them can have.
        ports: u64,
    },
    /// Nobody listens there.
    Unreachable {
        /// Where.
        server: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output { path, source } => {
                write!(f, "cannot write {}: {source}; nothing was measured", path.display())
            }
            Self::Descriptors { needed, allowed } => write!(
                f,
                "{needed} descriptors are needed and {allowed} are allowed; as root: \
                 sysctl -w fs.nr_open={needed}; prlimit --nofile={needed} --pid $$"
            ),
            Self::Memory { needed, available } => write!(
                f,
                "about {} MiB of memory are needed and {} MiB are there; ask for fewer \
                 connections, or go on with --force",
                needed >> 20,
                available >> 20
            ),
            Self::Sources { needed, ports } => write!(
                f,
                "{needed} source addresses are needed, each is good for {ports} connections: \
                 sysctl -w net.ipv4.ip_local_port_range='1024 65535' gives one address more \
                 ports; beyond that use several machines (--agents)"
            ),
            Self::Unreachable { server, source } => {
                write!(f, "nobody takes connections at {server}: {source}; is the server running?")
            }
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Output { source, .. } | Self::Unreachable { source, .. } => Some(source),
            Self::Descriptors { .. } | Self::Memory { .. } | Self::Sources { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Wanted as Line};
    use clap::Parser;

    #[test]
    fn a_refusal_says_what_helps() {
        let text = Refused::Descriptors { needed: 1_000_200, allowed: 20_000 }.to_string();
        assert!(text.contains("1000200") && text.contains("20000") && text.contains("prlimit"));
        let text = Refused::Memory { needed: 3 << 30, available: 1 << 30 }.to_string();
        assert!(text.contains("3072 MiB") && text.contains("--force"));
    }

    #[test]
    fn connections_take_descriptors_without_a_ring_and_in_a_broker() {
        let needed = |line: &str, behind_tun: bool, is_ring: bool| {
            let line = format!("roost-bench idle {line}");
            let Line::Server(wanted) = Args::try_parse_from(line.split(' ')).unwrap().wanted else {
                panic!("idle")
            };
            descriptors_needed(wanted.common(), 7, behind_tun, is_ring) - OTHER_DESCRIPTORS
        };
        assert_eq!([true, false].map(|is_ring| needed("--spawn", false, is_ring)), [0, 7]);
        assert_eq!(needed("--spawn", true, false), 0);
        assert_eq!(needed("--spawn --target redis", false, true), 7);
        assert_eq!(needed("--server 127.0.0.1:1 --target redis", false, true), 0);
    }

    #[test]
    fn more_descriptors_than_there_can_be_are_refused() {
        assert!(matches!(descriptors(u64::MAX), Err(Refused::Descriptors { .. }) | Ok(())));
        assert!(descriptors(10).is_ok());
    }

    #[test]
    fn a_file_in_no_folder_cannot_be_written() {
        assert!(matches!(writable(Path::new("no/such/folder/x")), Err(Refused::Output { .. })));
    }

    #[test]
    fn a_far_server_needs_an_address_for_its_ports() {
        let far: SocketAddr = "192.0.2.1:1".parse().unwrap();
        assert!(matches!(ports(far, 10_000_000), Err(Refused::Sources { .. })));
        assert!(ports("127.0.0.1:1".parse().unwrap(), 10_000_000).is_ok());
    }
}
