//! A real `roost serve` in a process of its own, and what an operator can ask of it.

use roost_event_loop::Choice;
use roost_gateway::keys::sign_token;
use roost_protocol::ids::UserId;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// No answer takes so long, unless something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what no event announces: counters are published every tenth of a second,
/// and the server needs the processor as well.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// How often it is looked before it counts as what does not come: a minute, and more where looking
/// itself takes long.
const LOOKS_MAX: u32 = 15_000;

/// Lets others have the processor before the next look.
pub(crate) fn pause() {
    std::thread::park_timeout(LOOK_EVERY);
}

/// Looks until something is so.
#[track_caller]
pub(crate) fn waits_until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(looks(is_so), "in vain: {what}");
}

/// Whether something is so before it has been looked at too often.
pub(crate) fn looks(mut is_so: impl FnMut() -> bool) -> bool {
    (0..LOOKS_MAX).any(|look| {
        if look > 0 {
            pause();
        }
        is_so()
    })
}

/// Which driver a test is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    Uring,
    Epoll,
}

impl Driver {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }

    /// Whether this machine has it; says so loudly when it has not.
    pub(crate) fn is_here(self) -> bool {
        let choice = match self {
            Self::Uring => Choice::Uring,
            Self::Epoll => Choice::Epoll,
        };
        // In a thread of its own: what a ring leaves behind interrupts its thread's later reads.
        let probing = std::thread::Builder::new().name("probe".to_owned());
        match probing.spawn(move || roost_event_loop::probe(choice)).unwrap().join().unwrap() {
            Ok(_) => true,
            Err(error) => {
                eprintln!("SKIPPED, this machine has no {}: {error}", self.name());
                false
            }
        }
    }
}

/// Makes two tests of each function, one per driver.
macro_rules! on_both_drivers {
    ($($(#[$meta:meta])* fn $name:ident($driver:ident) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            fn run($driver: $crate::roost::Driver) {
                if $driver.is_here() $body
            }

            #[test]
            fn uring() {
                run($crate::roost::Driver::Uring);
            }

            #[test]
            fn epoll() {
                run($crate::roost::Driver::Epoll);
            }
        }
    )+};
}
pub(crate) use on_both_drivers;

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    driver: Driver,
    config: String,
    durability: Option<&'static str>,
    shards: u8,
    log: Option<&'static str>,
    /// How many descriptors it may have.
    descriptors: Option<u32>,
    /// Its network is its own.
    own_network: bool,
    tcp: SocketAddr,
    /// None: no TLS.
    tls: Option<SocketAddr>,
}

/// A port that nobody listens on, and that the system gives to no outgoing connection: a server
/// that comes back to its address must find it free.
fn quiet_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first_outgoing: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let span = first_outgoing - FIRST_PORT;
    let start = u16::try_from(std::process::id() % u32::from(span)).unwrap();
    for _ in 0..span {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + start.wrapping_add(offset) % span;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        }
    }
    panic!("there is no free port");
}

/// Ports below it are for services of the system.
const FIRST_PORT: u16 = 10_240;
/// A free port of this machine.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Setup {
    pub(crate) const fn new(driver: Driver) -> Self {
        Self {
            driver,
            config: String::new(),
            durability: None,
            shards: 2,
            log: None,
            descriptors: None,
            own_network: false,
            tcp: ANYWHERE,
            tls: None,
        }
    }

    pub(crate) fn with_tls(mut self) -> Self {
        self.tls = Some(quiet_port());
        self
    }

    /// The text of its configuration file.
    pub(crate) fn config(mut self, text: &str) -> Self {
        text.clone_into(&mut self.config);
        self
    }

    pub(crate) const fn durability(mut self, value: &'static str) -> Self {
        self.durability = Some(value);
        self
    }

    pub(crate) const fn shards(mut self, shards: u8) -> Self {
        self.shards = shards;
        self
    }

    /// It may have no more descriptors than that.
    pub(crate) const fn descriptors(mut self, max: u32) -> Self {
        self.descriptors = Some(max);
        self
    }

    /// It has a network of its own, with addresses of this machine only. Takes root.
    pub(crate) const fn own_network(mut self) -> Self {
        self.own_network = true;
        self
    }

    /// Which lines it logs, as `ROOST_LOG` says.
    pub(crate) const fn log(mut self, lines: &'static str) -> Self {
        self.log = Some(lines);
        self
    }

    fn command(&self, files: &Path, data: &Path) -> Command {
        let config = files.join("roost.toml");
        fs::write(&config, &self.config).unwrap();
        let mut command = self.bare_command();
        command.arg("--config").arg(config).arg("--data").arg(data);
        command
    }

    /// `roost serve` without a configuration file or a data folder.
    pub(crate) fn bare_command(&self) -> Command {
        let roost = env!("CARGO_BIN_EXE_roost");
        let limit = self.descriptors.map(|max| format!("ulimit -n {max} && "));
        let network = self.own_network.then(|| "ip link set lo up && ".to_owned());
        let before: String = [limit, network].into_iter().flatten().collect();
        let mut command = Command::new(roost);
        if !before.is_empty() {
            command = Command::new(if self.own_network { "unshare" } else { "sh" });
            if self.own_network {
                command.args(["--net", "sh"]);
            }
            command.args(["-c", &format!("{before}exec \"$0\" \"$@\""), roost]);
        }
        command.args(["serve", "--json", "--driver", self.driver.name()]);
        let tls = self.tls.map_or_else(|| "off".to_owned(), |address| address.to_string());
        command.env("ROOST_TCP", self.tcp.to_string()).env("ROOST_TLS", tls);
        command.env("ROOST_ADMIN", ANYWHERE.to_string());
        command.arg("--shards").arg(self.shards.to_string());
        if let Some(durability) = self.durability {
            command.args(["--durability", durability]);
        }
        command.env_remove("ROOST_DURABILITY").env_remove("ROOST_LOG");
        if let Some(lines) = self.log {
            command.env("ROOST_LOG", lines);
        }
        command
    }

    /// Starts it on a data folder of its own.
    pub(crate) fn start(&self) -> Server {
        let files = Rc::new(TempDir::new().unwrap());
        let data = files.path().join("data");
        self.start_in(files, &data)
    }

    /// Starts it on a data folder that is somewhere.
    pub(crate) fn start_on(&self, data: &Path) -> Server {
        self.start_in(Rc::new(TempDir::new().unwrap()), data)
    }

    fn start_in(&self, files: Rc<TempDir>, data: &Path) -> Server {
        let log = files.path().join("log");
        let tcp = if self.tcp == ANYWHERE { quiet_port() } else { self.tcp };
        let mut command = Self { tcp, ..self.clone() }.command(files.path(), data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("not ready: {}", fs::read_to_string(&log).unwrap()));
        assert_eq!(ready["event"], "ready");
        assert_eq!(ready["driver"], self.driver.name());
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        let (tcp, admin) = (address("tcp"), address("admin"));
        let tls = self.tls.map(|_| address("tls"));
        let setup = Self { tls, ..self.clone() };
        let listeners = ready["listeners"].as_array().unwrap().iter();
        let listeners = listeners.filter(|at| at["setting"].as_str().unwrap().contains('['));
        let listeners = listeners.map(|at| at["address"].as_str().unwrap().to_owned()).collect();
        Server { child, files, data: data.to_owned(), tcp, listeners, admin, setup }
    }

    /// Starts one that must not come up, perhaps with more said on the command line; gives what
    /// it says, with the data folder as DATA and the folder of its configuration as FILES.
    #[track_caller]
    pub(crate) fn refused_on(&self, data: &Path, more: &[&str]) -> String {
        let files = TempDir::new().unwrap();
        let mut command = self.command(files.path(), data);
        let said = refused(command.args(more));
        let said = said.replace(&data.display().to_string(), "DATA");
        said.replace(&files.path().display().to_string(), "FILES")
    }
}

/// Waits until a process ended by itself; one that does not is killed.
#[track_caller]
pub(crate) fn waits_for(child: &mut Child) -> ExitStatus {
    let mut status = None;
    let ended = looks(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        child.kill().unwrap();
    }
    status.expect("a process that ends by itself")
}

/// Runs what must fail by itself; gives what it said last.
#[track_caller]
pub(crate) fn refused(command: &mut Command) -> String {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    waits_for(&mut child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it was content: {said}");
    assert_eq!(output.status.code(), Some(1), "it crashed: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "it said that it is ready");
    let at = said.find("roost: ").unwrap_or_else(|| panic!("no word to the operator: {said}"));
    said[at..].trim_end().to_owned()
}

/// A server that is up. It is killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where its data folder may be; it is gone when the last server on it is.
    files: Rc<TempDir>,
    data: PathBuf,
    pub(crate) tcp: SocketAddr,
    listeners: Vec<String>,
    admin: SocketAddr,
    setup: Setup,
}

impl Server {
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// A token for a user; the device then chooses its own id.
    pub(crate) fn token(&self, user: &str) -> String {
        let user = UserId::new(user).unwrap();
        let now = roost_event_loop::now().wall;
        sign_token(&self.data, &user, None, 24 * 60 * 60, now).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops it where it is, and waits until no thread of it runs. One that waits for a disk stops
    /// on its way back from there.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        for task in fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap() {
            let stat = task.unwrap().path().join("stat");
            let is_stopped = || {
                // The state follows the name in parentheses.
                let stat = fs::read_to_string(&stat).unwrap();
                stat.rsplit(')').next().unwrap().trim_start().starts_with(['T', 'D'])
            };
            waits_until("it stops", is_stopped);
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ended by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        waits_for(&mut self.child)
    }

    /// Where it listens for TLS.
    pub(crate) fn tls(&self) -> SocketAddr {
        self.setup.tls.unwrap()
    }

    /// Where the n-th of `[[listeners]]` is.
    pub(crate) fn listener(&self, index: usize) -> &str {
        &self.listeners[index]
    }

    /// Descriptors that it has open, but for files: of those the store has more or fewer.
    pub(crate) fn descriptors(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let links = all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|to| to.is_relative()).collect()
    }

    /// Waits until it has as many descriptors open as these, or fewer.
    #[track_caller]
    pub(crate) fn descriptors_become(&self, before: &[PathBuf]) {
        let mut last = Vec::new();
        for _ in 0..LOOKS_MAX {
            last = self.descriptors();
            if last.len() <= before.len() {
                return;
            }
            pause();
        }
        panic!("{last:?} are open, and {before:?} were before");
    }

    /// A file beside its data folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Starts one that was killed on its folder, at the addresses it had.
    pub(crate) fn restart(&mut self) {
        self.setup.tcp = self.tcp;
        self.waits_for_addresses();
        *self = self.setup.start_in(Rc::clone(&self.files), &self.data);
    }

    /// The kernel takes a ring apart after its process has ended, and with it the listeners. How
    /// long that takes is up to the machine; a server tries for a second only.
    fn waits_for_addresses(&self) {
        let addresses = || [Some(self.setup.tcp), self.setup.tls].into_iter().flatten();
        let are_free = || addresses().all(|at| TcpListener::bind(at).is_ok());
        waits_until("its addresses are free", are_free);
    }

    /// Starts it again on its folder, where it listens for TLS again.
    pub(crate) fn start_again(mut self) -> Self {
        self.kill();
        self.waits_for_addresses();
        self.setup.start_in(Rc::clone(&self.files), &self.data)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap()
    }

    /// Waits until a line of its log holds this.
    #[track_caller]
    pub(crate) fn logs(&self, text: &str) -> String {
        for _ in 0..LOOKS_MAX {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            pause();
        }
        panic!("no line with {text}; log: {}", self.log());
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: roost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body.to_owned()
    }

    /// A number of /metrics, over all shards.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.metric_by_shard(name).into_iter().sum()
    }

    /// The same of each shard.
    pub(crate) fn metric_by_shard(&self, name: &str) -> Vec<u64> {
        let text = self.get("/metrics");
        let lines: Vec<u64> = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(!lines.is_empty(), "there is no number {name} in {text}");
        lines
    }

    /// Waits until a number is what it should be: no event announces that.
    #[track_caller]
    pub(crate) fn metric_becomes(&self, name: &str, is_good: impl Fn(u64) -> bool) -> u64 {
        let mut last = 0;
        for _ in 0..LOOKS_MAX {
            last = self.metric(name);
            if is_good(last) {
                return last;
            }
            pause();
        }
        panic!("{name} stays {last}; log: {}", self.log());
    }

    /// Asserts that a counter rises above what it was.
    #[track_caller]
    pub(crate) fn metric_rises(&self, name: &str, before: u64) {
        self.metric_becomes(name, |now| now > before);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be stopped or gone already; there is nothing to do about an error.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("log of the server:\n{}", self.log());
        }
    }
}
