//! The processes of a probe. Each holds as many ends as it may have descriptors, and does what the
//! parent says, a line at a time:
//!
//! ```text
//! open COUNT ADDRESS     client: connects           done N, or failed N CALL ERRNO
//! accept COUNT           server: accepts            likewise; fewer when nobody comes
//! send COUNT             client: 100 bytes on each  likewise; fewer when all had theirs
//! nofile LIMIT           raises its own limit       done 0, or failed 0 setrlimit ERRNO
//! files COUNT            opens files, not sockets   done N, or failed N open ERRNO
//! ```
//!
//! It ends when the parent does.

use crate::error::Error;
use rustix::event::epoll;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, accept_with, connect, send, socket_with,
    sockopt,
};
use rustix::process::{
    Gid, Resource, Rlimit, Signal, Uid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddrV4;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Ends of one process, whatever its limit says.
const HELD_MAX: usize = 2_000_000;
/// How long a server waits for a connection that is announced.
const ACCEPT_WAIT_MS: i64 = 400;
/// How long a client waits for one that is not answered.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// A command's length, at most.
const COMMAND_BYTES_MAX: usize = 128;
/// Killed first when memory ends, so that nobody else is.
const OOM_SCORE: &str = "1000";

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

/// What failed: after how many, which call, and how.
struct Failed {
    after: u64,
    call: &'static str,
    error: Errno,
}

type Done = Result<u64, Failed>;

/// Runs until the parent is gone.
pub(super) fn run(role: &str) -> Result<(), Error> {
    if role == "outsider" {
        become_nobody().map_err(io::Error::from)?;
    }
    // After that, since the kernel forgets it with the user.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    // Without this file nothing worse happens than that the kernel chooses for itself.
    drop(fs::write("/proc/self/oom_score_adj", OOM_SCORE));
    let parent = rustix::io::dup(rustix::stdio::stdout()).map_err(io::Error::from)?;
    let mut parent = UnixStream::from(parent);
    let mut holder = Holder::new(role == "server-epoll")?;
    while let Some(command) = read_line(&mut parent)? {
        let reply = match holder.perform(&command) {
            Ok(count) => format!("done {count}\n"),
            Err(Failed { after, call, error }) => {
                format!("failed {after} {call} {}\n", error.raw_os_error())
            }
        };
        parent.write_all(reply.as_bytes())?;
    }
    Ok(())
}

/// Gives up root and with it every capability.
fn become_nobody() -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)
}

fn read_line(parent: &mut UnixStream) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < COMMAND_BYTES_MAX {
        if parent.read(&mut byte)? == 0 {
            return Ok(None);
        }
        if byte == *b"\n" {
            return Ok(String::from_utf8(line).ok());
        }
        line.extend(byte);
    }
    Ok(None)
}

/// The ends that are held.
struct Holder {
    held: Vec<OwnedFd>,
    watcher: Option<OwnedFd>,
    /// Ends that a message was sent on.
    sent: usize,
}

impl Holder {
    fn new(watches: bool) -> Result<Self, Error> {
        let watcher = watches.then(|| epoll::create(epoll::CreateFlags::CLOEXEC)).transpose();
        let watcher = watcher.map_err(io::Error::from)?;
        Ok(Self { held: Vec::new(), watcher, sent: 0 })
    }

    fn perform(&mut self, command: &str) -> Done {
        let invalid = Failed { after: 0, call: "command", error: Errno::INVAL };
        let words: Vec<&str> = command.split(' ').collect();
        match words.as_slice() {
            ["open", count, address] => match (count.parse(), address.parse()) {
                (Ok(count), Ok(address)) => self.open(count, address),
                _ => Err(invalid),
            },
            ["accept", count] => match count.parse() {
                Ok(count) => self.accept(count),
                Err(_) => Err(invalid),
            },
            ["send", count] => match count.parse() {
                Ok(count) => self.send(count),
                Err(_) => Err(invalid),
            },
            ["nofile", limit] => match limit.parse() {
                Ok(limit) => raise(limit),
                Err(_) => Err(invalid),
            },
            ["files", count] => match count.parse() {
                Ok(count) => self.files(count),
                Err(_) => Err(invalid),
            },
            _ => Err(invalid),
        }
    }

    /// Opens the smallest files that there are: they share an inode.
    fn files(&mut self, count: u64) -> Done {
        for after in 0..count {
            let opened = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let file = opened.map_err(|error| Failed { after, call: "open", error })?;
            self.hold(file, after)?;
        }
        Ok(count)
    }

    fn open(&mut self, count: u64, address: SocketAddrV4) -> Done {
        for after in 0..count {
            let failed = |call| move |error| Failed { after, call, error };
            let flags = SocketFlags::CLOEXEC;
            let end = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
            let end = end.map_err(failed("socket"))?;
            sockopt::set_socket_timeout(&end, sockopt::Timeout::Send, Some(CONNECT_WAIT))
                .map_err(failed("setsockopt"))?;
            connect(&end, &address).map_err(failed("connect"))?;
            self.hold(end, after)?;
        }
        Ok(count)
    }

    fn accept(&mut self, count: u64) -> Done {
        let listener = rustix::stdio::stdin();
        for after in 0..count {
            let failed = |call| move |error| Failed { after, call, error };
            let end = loop {
                match accept_with(listener, SocketFlags::CLOEXEC) {
                    Ok(end) => break end,
                    Err(Errno::AGAIN | Errno::INTR) => {
                        if !is_readable(listener).map_err(failed("poll"))? {
                            return Ok(after);
                        }
                    }
                    Err(error) => return Err(failed("accept")(error)),
                }
            };
            if let Some(watcher) = &self.watcher {
                let data = epoll::EventData::new_u64(after);
                epoll::add(watcher, &end, data, epoll::EventFlags::IN)
                    .map_err(failed("epoll_ctl"))?;
            }
            self.hold(end, after)?;
        }
        Ok(count)
    }

    fn hold(&mut self, end: OwnedFd, after: u64) -> Result<(), Failed> {
        if self.held.len() >= HELD_MAX {
            return Err(Failed { after, call: "hold", error: Errno::MFILE });
        }
        self.held.push(end);
        Ok(())
    }

    /// A message on so many ends that had none yet.
    fn send(&mut self, count: usize) -> Done {
        let message = [0x5a; 100];
        let mut after = 0;
        for end in self.held.iter().skip(self.sent).take(count) {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            send(end, &message, flags).map_err(|error| Failed { after, call: "send", error })?;
            after += 1;
            self.sent += 1;
        }
        Ok(after)
    }
}

fn is_readable(listener: BorrowedFd<'_>) -> Result<bool, Errno> {
    let wait = Timespec { tv_sec: 0, tv_nsec: ACCEPT_WAIT_MS * 1_000_000 };
    let mut wanted = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
    match poll(&mut wanted, Some(&wait)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error),
    }
}

fn raise(limit: u64) -> Done {
    let now = getrlimit(Resource::Nofile);
    let maximum = now.maximum.map_or(limit, |hard| hard.max(limit));
    let wanted = Rlimit { current: Some(limit), maximum: Some(maximum) };
    let failed = |error| Failed { after: 0, call: "setrlimit", error };
    setrlimit(Resource::Nofile, wanted).map(|()| 0).map_err(failed)
}
