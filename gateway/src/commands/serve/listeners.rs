//! Listening sockets, all bound before any is served.
//!
//! Each shard has a socket of its own for an address: the kernel spreads connections over them
//! (`SO_REUSEPORT`). A path can have one socket only, so the shards have duplicates of it, take a
//! few connections at a time and thereby take turns.

use super::error::ServeError;
use crate::config::{Config, ListenAddress, ListenerConfig};
use crate::shard::ListenerRules;
use roost_event_loop::{Accepting, Listening};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 65_535;
/// How often an address that is in use is tried again, and after what time.
const BIND_TRIES: u32 = 20;
const BIND_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Every listener of a server.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) all: Vec<Bound>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Bound {
    /// The setting it is from.
    pub(super) setting: String,
    /// Where it is; a port of 0 became a real one.
    pub(super) address: ListenAddress,
    pub(super) rules: ListenerRules,
    accepting: Accepting,
    /// One for each shard, until the shards have them.
    sockets: Vec<Listening>,
    /// A Unix socket's file, which goes with this.
    _file: Option<SocketFile>,
}

impl Listeners {
    pub(super) fn bind(config: &Config, shards: u8) -> Result<Self, ServeError> {
        let counts_peers = config.limits.connections_per_prefix_max > 0
            || config.limits.unauthenticated_per_prefix_max > 0;
        let unacknowledged = match config.limits.unacknowledged_timeout_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms.into())),
        };
        let bind = |listener: ListenerConfig| {
            let ListenerConfig { setting, address, mode, rules } = listener;
            let failed = |source| {
                let (setting, address) = (setting.clone(), address.clone());
                ServeError::Bind { setting, address, source }
            };
            let (address, sockets, file) = match &address {
                ListenAddress::Tcp(address) => {
                    let (address, sockets) =
                        bind_tcp(*address, shards, unacknowledged).map_err(failed)?;
                    (ListenAddress::Tcp(address), sockets, None)
                }
                ListenAddress::Unix(path) => {
                    let (sockets, file) = bind_unix(path, mode, shards).map_err(failed)?;
                    (address.clone(), sockets, Some(file))
                }
            };
            let tells_peers = counts_peers || rules.proxy.is_some();
            let accepting = Accepting { tells_peers };
            Ok(Bound { setting, address, rules, accepting, sockets, _file: file })
        };
        let all =
            config.all_listeners().into_iter().map(bind).collect::<Result<_, ServeError>>()?;
        Ok(Self { all })
    }

    /// What holds for each, in order.
    pub(super) fn rules(&self) -> Vec<ListenerRules> {
        self.all.iter().map(|bound| bound.rules.clone()).collect()
    }

    /// The next shard's sockets, one of each listener, in order.
    pub(super) fn take(&mut self) -> Vec<(Listening, Accepting)> {
        let next = |bound: &mut Bound| {
            let socket = bound.sockets.pop().expect("a listener has a socket for each shard");
            (socket, bound.accepting)
        };
        self.all.iter_mut().map(next).collect()
    }

    /// Where the listener of a setting is.
    pub(super) fn address(&self, setting: &str) -> Option<&ListenAddress> {
        self.all.iter().find(|bound| bound.setting == setting).map(|bound| &bound.address)
    }
}

// ---- TCP ----

/// Accepted sockets inherit the bound on what their peers leave unacknowledged.
fn bind_tcp(
    asked: SocketAddr,
    shards: u8,
    unacknowledged: Option<Duration>,
) -> io::Result<(SocketAddr, Vec<Listening>)> {
    let (mut address, mut bound) = (asked, Vec::new());
    // The first one takes the port alone, so that a port in use by another server is noticed.
    if asked.port() != 0 {
        bind_alone(address)?;
    }
    for _ in 0..shards {
        let socket = bind(address, true)?;
        // Before it listens: whoever connects from then on inherits it.
        socket.set_tcp_user_timeout(unacknowledged)?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr()?;
        bound.push(listener.into());
    }
    Ok((address, bound))
}

/// Whether nobody listens there. The rings of a server that was killed give its listeners back a
/// moment after the process is gone, so it is tried again for a while.
fn bind_alone(address: SocketAddr) -> io::Result<()> {
    for _ in 0..BIND_TRIES {
        match bind(address, false) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                thread::park_timeout(BIND_AGAIN_AFTER);
            }
            other => return other.map(drop),
        }
    }
    bind(address, false).map(drop)
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        // [::] takes IPv4 as well, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

// ---- Unix ----

/// The file of a Unix socket. It is removed with this, unless another server has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode_of(&self.path).is_ok_and(|inode| inode == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "a socket's file stays");
        }
    }
}

fn inode_of(path: &Path) -> io::Result<(u64, u64)> {
    let facts = fs::symlink_metadata(path)?;
    Ok((facts.dev(), facts.ino()))
}

/// Made beside its place and moved there: so it never is there without its permissions, and a dead
/// server's file is replaced in one step.
fn bind_unix(path: &Path, mode: u32, shards: u8) -> io::Result<(Vec<Listening>, SocketFile)> {
    refuse_if_in_use(path)?;
    let draft = path.with_added_extension(std::process::id().to_string());
    // Left by one of the same number that was killed; anything else there is somebody's.
    if fs::symlink_metadata(&draft).is_ok_and(|facts| facts.file_type().is_socket()) {
        fs::remove_file(&draft)?;
    }
    let listener = bind_draft(&draft)?;
    let listening = listen_draft(&listener, &draft, mode).and_then(|()| {
        let sockets = (1..shards).map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>()?;
        let inode = inode_of(&draft)?;
        fs::rename(&draft, path)?;
        let sockets = sockets.into_iter().chain([listener]).map(Listening::from).collect();
        Ok((sockets, SocketFile { path: path.to_owned(), inode }))
    });
    if listening.is_err() {
        drop(fs::remove_file(&draft));
    }
    listening
}

fn bind_draft(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

fn listen_draft(listener: &UnixListener, path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    SockRef::from(listener).listen(BACKLOG)
}

/// A file that is no socket stays, and so does one that somebody listens at.
fn refuse_if_in_use(path: &Path) -> io::Result<()> {
    let facts = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        facts => facts?,
    };
    if !facts.file_type().is_socket() {
        return Err(io::Error::other("there is a file that is no socket"));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "the file of a dead server is replaced");
            Ok(())
        }
        // Also when so many wait there that it takes no more.
        Ok(()) => Err(io::Error::from(ErrorKind::AddrInUse)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(io::Error::from(ErrorKind::AddrInUse))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    #[test]
    fn whoever_is_accepted_has_as_long_to_acknowledge_as_the_listener_says() {
        let anywhere = "127.0.0.1:0".parse().unwrap();
        for timeout in [Some(Duration::from_millis(1_500)), None] {
            let (address, mut sockets) = bind_tcp(anywhere, 1, timeout).unwrap();
            let Some(Listening::Tcp(listener)) = sockets.pop() else { panic!("no TCP") };
            let _peer = TcpStream::connect(address).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(SockRef::from(&accepted).tcp_user_timeout().unwrap(), timeout);
        }
    }

    #[test]
    fn a_dead_servers_file_is_replaced_and_the_own_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        // Dead: nobody listens, and the file is still there.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (sockets, file) = bind_unix(&path, 0o600, 3).unwrap();
        assert_eq!(sockets.len(), 3);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop((sockets, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_living_server_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (sockets, file) = bind_unix(&path, 0o600, 1).unwrap();
        let error = bind_unix(&path, 0o600, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        drop(sockets);
        // Another one took its place after it died: its file is not ours.
        let (_sockets, _file) = bind_unix(&path, 0o600, 1).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
        let text = folder.path().join("text");
        fs::write(&text, "precious").unwrap();
        assert!(bind_unix(&text, 0o600, 1).is_err());
        assert_eq!(fs::read(&text).unwrap(), b"precious");
    }
}
