//! A process of the probe, as the parent sees it.

use super::strikes::Failure;
use crate::clock::now_ms;
use crate::error::Error;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A reply's length, at most.
const REPLY_BYTES_MAX: usize = 128;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
    /// A server that watches its ends.
    Watcher,
    /// Holds files, and is not root's.
    Outsider,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Watcher => "server-epoll",
            Self::Outsider => "outsider",
        }
    }
}

/// What it answered.
pub(super) type Reply = Result<u64, Failure>;

/// A process that holds ends of connections. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    line: UnixStream,
    /// Ends that it holds.
    pub(super) held: u64,
}

impl Process {
    /// Starts one; a server accepts from the listener.
    pub(super) fn start(role: Role, listener: Option<&TcpListener>) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::Probe(format!("a process of the probe did not start: {error}"))
        };
        let program = std::env::current_exe().map_err(failed)?;
        let kind = SocketType::STREAM;
        let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.map_err(|error| failed(error.into()))?;
        let stdin = match listener {
            None => Stdio::null(),
            Some(listener) => {
                let copy: OwnedFd = listener.as_fd().try_clone_to_owned().map_err(failed)?;
                Stdio::from(copy)
            }
        };
        let child = Command::new(program)
            .args(["probe-child", role.name()])
            .stdin(stdin)
            .stdout(Stdio::from(theirs))
            .spawn()
            .map_err(failed)?;
        Ok(Self { child, line: UnixStream::from(ours), held: 0 })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says what to do, without waiting for it.
    pub(super) fn tell(&mut self, command: &str) -> Result<(), Failure> {
        self.line.write_all(format!("{command}\n").as_bytes()).map_err(|_| Failure::gone())
    }

    pub(super) fn tell_open(&mut self, count: u64, address: SocketAddr) -> Result<(), Failure> {
        self.tell(&format!("open {count} {address}"))
    }

    /// Waits for the answer until a time.
    pub(super) fn answer(&mut self, until_ms: u64) -> Reply {
        let mut reply = Vec::new();
        let mut byte = [0];
        loop {
            let left = until_ms.saturating_sub(now_ms()).max(1);
            let wait = Some(Duration::from_millis(left));
            self.line.set_read_timeout(wait).map_err(|_| Failure::gone())?;
            match self.line.read(&mut byte) {
                Ok(0) => return Err(Failure::gone()),
                Ok(_) if byte == *b"\n" => break,
                Ok(_) if reply.len() < REPLY_BYTES_MAX => reply.extend(byte),
                Ok(_) => return Err(Failure::gone()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Failure::late());
                }
                Err(_) => return Err(Failure::gone()),
            }
        }
        let reply = String::from_utf8_lossy(&reply).into_owned();
        parse(&reply)
    }
}

fn parse(reply: &str) -> Reply {
    let words: Vec<&str> = reply.split(' ').collect();
    match words.as_slice() {
        ["done", count] => count.parse().map_err(|_| Failure::gone()),
        ["failed", after, call, errno] => {
            let (Ok(after), Ok(errno)) = (after.parse(), errno.parse()) else {
                return Err(Failure::gone());
            };
            Err(Failure { after, call: (*call).to_owned(), errno })
        }
        _ => Err(Failure::gone()),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; both calls then say so, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood_or_refused() {
        assert_eq!(parse("done 7"), Ok(7));
        let failed = parse("failed 3 connect 99").unwrap_err();
        assert_eq!((failed.after, failed.call.as_str(), failed.errno), (3, "connect", 99));
        assert_eq!(parse("failed x connect 99"), Err(Failure::gone()));
        assert_eq!(parse(""), Err(Failure::gone()));
    }
}
