//! Limits that need no pairs: a queue that nobody empties, the bound of other bounds, and files of
//! the whole machine, held without sockets.

use super::order::Predictions;
use super::processes::{Process, Reply, Role};
use super::{Strike, Wanted};
use crate::clock::now_ms;
use crate::error::Error;
use crate::facts::parse_meminfo;
use crate::root::Root;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

/// A reply's longest time.
const REPLY_MS: u64 = 30_000;
/// What the queue is raised to, and a number that does not fit into it any more.
const LONGER_QUEUE: u64 = 8_192;
const SOMAXCONN: &str = "net.core.somaxconn";
const NR_OPEN: &str = "fs.nr_open";
const FILE_MAX: &str = "fs.file-max";
/// Descriptors that a process of the probe leaves for itself.
const OWN_DESCRIPTORS: u64 = 50;
/// Files that are left for the one who is to fail.
const LAST_FILES: u64 = 2_000;
/// Kernel memory of an open file, at most.
const FILE_BYTES_MOST: u64 = 400;
/// More than that the probe does not hold, however much memory there is.
const FILES_MOST: u64 = 8_000_000;

/// What was struck, and what was not with the reason.
#[derive(Debug, Default)]
pub(super) struct Singles {
    pub(super) strikes: Vec<Strike>,
    pub(super) why_not: Vec<(String, String)>,
}

impl Singles {
    fn struck(&mut self, limit: &str, at: u64, predicted: Option<u64>, error: String) {
        let (limit, raised) = (limit.to_owned(), String::new());
        self.strikes.push(Strike { at, limit, error, raised, predicted });
    }

    fn not(&mut self, limit: &str, why: impl Into<String>) {
        self.why_not.push((limit.to_owned(), why.into()));
    }
}

/// Strikes them one by one, in the probe's namespace.
pub(super) fn strike(wanted: &Wanted, predictions: &Predictions) -> Result<Singles, Error> {
    let mut singles = Singles::default();
    queue(&mut singles, predictions)?;
    most_of_a_process(&mut singles, predictions)?;
    if wanted.open_files {
        files(&mut singles, predictions, wanted)?;
    } else {
        let why = "--open-files strikes it: for a moment nobody but root can then open a file";
        singles.not(FILE_MAX, why);
    }
    Ok(singles)
}

fn tell(process: &mut Process, command: &str) -> Reply {
    process.tell(command)?;
    process.answer(now_ms() + REPLY_MS)
}

fn held(reply: &Reply) -> u64 {
    match reply {
        Ok(count) => *count,
        Err(failure) => failure.after,
    }
}

/// Connects to a listener that never accepts, before and after the queue is made longer.
fn queue(singles: &mut Singles, predictions: &Predictions) -> Result<(), Error> {
    let fill = |most: u64| -> Result<Reply, Error> {
        let failed = |error| Error::Probe(format!("no listener for the queue: {error}"));
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let listener = TcpListener::bind(any).map_err(failed)?;
        rustix::net::listen(&listener, i32::MAX).map_err(|error| failed(error.into()))?;
        let port = listener.local_addr().map_err(failed)?.port();
        let mut client = Process::start(Role::Client, None)?;
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let told = client.tell_open(most, to);
        Ok(told.and_then(|()| client.answer(now_ms() + REPLY_MS)))
    };
    let now = predictions.facts().number(SOMAXCONN).unwrap_or(0);
    let descriptors = predictions.facts().process.nofile_soft.saturating_sub(OWN_DESCRIPTORS);
    if now + 100 > descriptors {
        singles.not(SOMAXCONN, "one process may not have as many descriptors as the queue places");
        return Ok(());
    }
    let predicted = predictions.at(SOMAXCONN);
    match fill(now + 100)? {
        Ok(_) => singles.not(SOMAXCONN, "the queue took more than its bound"),
        Err(failure) => {
            let at = failure.after;
            let limit = failure.limit(false).to_owned();
            singles.struck(&limit, at, predicted, failure.words());
        }
    }
    let path = crate::root::sysctl_path(SOMAXCONN);
    let longer = LONGER_QUEUE.to_string();
    if now < LONGER_QUEUE && LONGER_QUEUE + 100 < descriptors && fs::write(path, &longer).is_ok() {
        let more = held(&fill(LONGER_QUEUE + 100)?);
        if let Some(strike) = singles.strikes.last_mut() {
            strike.raised = format!("raised to {longer} in the probe's namespace: {more} went in");
        }
    }
    Ok(())
}

/// Asks for as many descriptors as one process may ever have, and for one more: none is opened.
fn most_of_a_process(singles: &mut Singles, predictions: &Predictions) -> Result<(), Error> {
    let Some(most) = predictions.facts().number(NR_OPEN) else { return Ok(()) };
    let mut process = Process::start(Role::Client, None)?;
    match (tell(&mut process, &format!("nofile {most}")), tell(&mut process, &beyond(most))) {
        (Ok(_), Err(failure)) => {
            let at = predictions.at(NR_OPEN).unwrap_or(most);
            let error = format!("{} for {}, not for {most}", failure.words(), most + 1);
            singles.struck(NR_OPEN, at, Some(at), error);
        }
        (Err(_), _) => {
            let hard = predictions.facts().process.nofile_hard;
            singles.not(
                NR_OPEN,
                format!(
                    "never met here: without CAP_SYS_RESOURCE no process comes beyond its hard \
                     limit of {hard} descriptors"
                ),
            );
        }
        (Ok(_), Ok(_)) => singles.not(NR_OPEN, "the kernel allowed more than it says"),
    }
    Ok(())
}

fn beyond(most: u64) -> String {
    format!("nofile {}", most.saturating_add(1))
}

/// Holds files without sockets in processes of root, which pass the limit, until a process that is
/// not root's cannot open any more; then gives all of them back at once.
fn files(singles: &mut Singles, predictions: &Predictions, wanted: &Wanted) -> Result<(), Error> {
    let root = Root::new("/");
    let max = root.number("/proc/sys/fs/file-max").unwrap_or(u64::MAX);
    let open = root.number("/proc/sys/fs/file-nr").unwrap_or(0);
    let needed = max.saturating_sub(open);
    let memory = parse_meminfo(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let room = memory.room_bytes().saturating_sub(wanted.keep_free_bytes);
    if needed > FILES_MOST || needed.saturating_mul(FILE_BYTES_MOST) > room {
        singles.not(FILE_MAX, format!("{max} files are more than the probe may hold here"));
        return Ok(());
    }
    let mut outsider = Process::start(Role::Outsider, None)?;
    let each = predictions.facts().process.nofile_soft.saturating_sub(OWN_DESCRIPTORS).max(1);
    let mut holders: Vec<Process> = Vec::new();
    let mut held_by_root = 0;
    while held_by_root + LAST_FILES < needed {
        let mut holder = Process::start(Role::Client, None)?;
        let count = each.min(needed - LAST_FILES - held_by_root);
        let reply = tell(&mut holder, &format!("files {count}"));
        held_by_root += held(&reply);
        holders.push(holder);
        if let Err(failure) = reply {
            singles.not(FILE_MAX, format!("{} at {held_by_root} files", failure.words()));
            return Ok(());
        }
    }
    let reply = tell(&mut outsider, &format!("files {}", LAST_FILES * 4));
    // What root may still do at this moment, which is why it must be somebody else.
    let passes = tell(&mut Process::start(Role::Client, None)?, "files 10").is_ok();
    let at = (held_by_root + held(&reply)) / 2;
    match reply {
        Ok(_) => singles.not(FILE_MAX, format!("{at} pairs' worth of files went in")),
        Err(failure) => {
            let too = if passes { "; root's processes pass it" } else { "" };
            let error = format!("{}, of a process that is not root's{too}", failure.words());
            let limit = failure.limit(false).to_owned();
            singles.struck(&limit, at, predictions.at(FILE_MAX), error);
        }
    }
    Ok(())
}
