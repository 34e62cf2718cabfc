//! `roost serve`: from settings to running workers, and back.

use crate::args::ServeArgs;
use crate::budget::MemoryBudget;
use crate::config::{Config, ConfigError, Driver, Durability, FileConfig};
use crate::driver::admin::AdminServer;
use crate::driver::disk::StoreDisk;
use crate::driver::log::Logger;
use crate::driver::mesh::{Mesh, weave};
use crate::driver::metrics::ShardMetrics;
use crate::driver::worker::{Control, Remains, Shared, Worker, WorkerParts};
use crate::ids::ShardId;
use crate::keys::{self, KeysError};
use crate::shard::auth::ticket::TicketKeys;
use crate::shard::auth::token::{TokenKeyError, TokenKeys};
use crate::shard::{EdgeConfig, Input, Outbox, PROTOCOL, Secrets, Shard, ShardConfig};
use crate::ticket_keys;
use roost_detached_tls::{ServerSettings, Tickets};
use roost_event_loop::{
    Choice, EventLoop, Kind, ListenerId, Probed, Settings as LoopSettings, Waker,
};
use roost_storage_engine::disk::{Disk, Files, FolderError, KeeperThread, RealFolder};
use roost_storage_engine::{
    Durability as StoreDurability, OpenError, OpenSettings, Settings as StoreSettings, Store,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 65_535;
/// How often an address that is in use is tried again, and after what time.
const BIND_TRIES: u32 = 20;
const BIND_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How often ticket keys are looked at.
const KEYS_EVERY: Duration = Duration::from_secs(3600);

/// Serves until told to stop.
///
/// # Errors
/// Whatever kept it from starting, or the store's failure while it ran.
pub fn run(args: &ServeArgs) -> Result<(), ServeError> {
    let file = args.config.as_deref().map(FileConfig::read).transpose()?.unwrap_or_default();
    let config = Config::resolve(args, &file)?;
    let probed = probe(config.driver)?;
    tracing::info!(reason = %probed.reason, "driver chosen: {:?}", probed.kind);
    let server = Server::prepare(config, &probed)?;
    let budget = MemoryBudget::of(&server.config.limits, server.shards);
    tracing::info!(
        connections_max = server.config.limits.connections_max,
        plain_session_bytes = budget.plain_session_bytes,
        tls_session_bytes = budget.tls_session_bytes,
        sessions_mib = budget.sessions_bytes >> 20,
        shared_mib = budget.shared_bytes >> 20,
        "memory budget; the kernel's for sockets comes on top"
    );
    server.serve()
}

fn probe(driver: Driver) -> Result<Probed, ServeError> {
    let choice = match driver {
        Driver::Auto => Choice::Auto,
        Driver::Uring => Choice::Uring,
        Driver::Epoll => Choice::Epoll,
    };
    roost_event_loop::probe(choice).map_err(|error| ServeError::Driver(error.to_string()))
}

/// Everything that is made before the first worker starts.
struct Server {
    config: Config,
    kind: Kind,
    shards: u8,
    folder: RealFolder,
    stores: Vec<Store>,
    keeper: Arc<KeeperThread>,
    edges: EdgeConfig,
    ticket_keys: TicketKeys,
    tls_tickets: Option<Arc<Tickets>>,
    listeners: Listeners,
}

/// One socket per shard and address, all bound before any is served.
struct Listeners {
    tcp: Vec<TcpListener>,
    tls: Vec<TcpListener>,
    tcp_address: Option<SocketAddr>,
    tls_address: Option<SocketAddr>,
}

/// A worker as the main thread sees it.
struct Running {
    thread: JoinHandle<Result<Remains, String>>,
    control: Sender<Control>,
    waker: Waker,
}

impl Server {
    fn prepare(config: Config, probed: &Probed) -> Result<Self, ServeError> {
        let shards = config.shards.unwrap_or_else(default_shards);
        let store_path = config.data.join("store");
        std::fs::create_dir_all(&store_path)
            .map_err(|source| ServeError::Data { path: store_path.clone(), source })?;
        let mut folder = RealFolder::open(&store_path).map_err(ServeError::Folder)?;
        let now = roost_event_loop::now().wall;
        let (tls, tls_tickets) = match config.tls {
            Some(_) => {
                let keys = ticket_keys::load_or_rotate_tls(&config.data, now)?;
                let tickets = Arc::new(Tickets::new(keys, ticket_keys::TLS_TICKET_LIFE_S));
                (Some(tls_settings(&config, Arc::clone(&tickets))?), Some(tickets))
            }
            None => (None, None),
        };
        let edges = edge_config(&config, tls)?;
        let ticket_keys = ticket_keys::load_or_rotate(&config.data, now)?;
        let listeners = Listeners::bind(&config, shards)?;
        if let Durability::Interval { ms } = config.durability {
            tracing::warn!(
                ms,
                "durability is interval: messages are acknowledged before they are on disk; a \
                 power cut may lose those of the last {ms} ms, and devices are told of another \
                 store after an unclean stop"
            );
        }
        let settings = OpenSettings {
            shards,
            settings: store_settings(&config),
            fresh_incarnation: random()?,
        };
        let opened = roost_storage_engine::open(&mut folder, &settings)?;
        tracing::info!(report = ?opened.report, run = opened.run, "the store is open");
        let edges = EdgeConfig { incarnation: opened.incarnation, server_run: random()?, ..edges };
        let kind = probed.kind;
        let keeper = KeeperThread::start(&folder, opened.keeper);
        let keeper = Arc::new(keeper.map_err(ServeError::Thread)?);
        let stores = opened.stores;
        Ok(Self {
            config,
            kind,
            shards,
            folder,
            stores,
            keeper,
            edges,
            ticket_keys,
            tls_tickets,
            listeners,
        })
    }

    fn serve(mut self) -> Result<(), ServeError> {
        let ready = Arc::new(AtomicBool::new(false));
        let metrics: Vec<_> = (0..self.shards).map(|_| Arc::new(ShardMetrics::default())).collect();
        let admin = self.config.admin.map(|address| {
            AdminServer::start(address, metrics.clone(), Arc::clone(&ready))
                .map_err(|error| ServeError::Admin(error.to_string()))
        });
        let admin = admin.transpose()?;
        let shared = Arc::new(Shared::default());
        shared.working.store(usize::from(self.shards), Ordering::SeqCst);
        shared.owing.store(usize::from(self.shards), Ordering::SeqCst);
        let running = self.start(&metrics, &shared)?;
        ready.store(true, Ordering::SeqCst);
        self.announce(admin.as_ref().map(|(address, _)| *address));
        let signals = signals().map_err(ServeError::Signals)?;
        let mut end = Remains { max_stamp: 0, told: true };
        let mut failure = None;
        self.supervise(&signals, &running, &shared, &ready)?;
        for worker in running {
            match worker.thread.join() {
                Ok(Ok(Remains { max_stamp, told })) => {
                    end.max_stamp = end.max_stamp.max(max_stamp);
                    end.told &= told;
                }
                Ok(Err(error)) => failure = Some(ServeError::Worker(error)),
                Err(_) => failure = Some(ServeError::Worker("a worker panicked".to_owned())),
            }
        }
        if shared.failed.load(Ordering::SeqCst) {
            return Err(ServeError::StoreFailed);
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if matches!(self.config.durability, Durability::Interval { .. }) {
            rustix::fs::sync();
        }
        let keeper = Arc::into_inner(self.keeper).and_then(KeeperThread::stop);
        let mut keeper =
            keeper.ok_or_else(|| ServeError::Worker("the keeper is gone".to_owned()))?;
        keeper
            .close_cleanly(&mut self.folder, end.max_stamp, end.told)
            .map_err(|error| OpenError::Folder { segment: None, error })?;
        tracing::info!(owes_nothing = end.told, "stopped cleanly");
        Ok(())
    }

    fn start(
        &mut self,
        metrics: &[Arc<ShardMetrics>],
        shared: &Arc<Shared>,
    ) -> Result<Vec<Running>, ServeError> {
        let meshes = weave(self.shards, self.config.limits.queue_slots);
        let stores = std::mem::take(&mut self.stores);
        let tcp = std::mem::take(&mut self.listeners.tcp).into_iter().map(Some);
        let tcp = tcp.chain(std::iter::repeat_with(|| None));
        let tls = std::mem::take(&mut self.listeners.tls).into_iter().map(Some);
        let tls = tls.chain(std::iter::repeat_with(|| None));
        let cpus = allowed_cpus(usize::from(self.shards));
        let mut started = Vec::new();
        let parts = stores.into_iter().zip(meshes).zip(tcp.zip(tls)).zip(metrics).enumerate();
        for (index, (((store, mesh), (tcp, tls)), metrics)) in parts {
            let id = ShardId(u8::try_from(index).expect("shards are counted in a u8"));
            let start = Start {
                id,
                shards: self.shards,
                kind: self.kind,
                config: self.config.clone(),
                edges: self.edges.clone(),
                secrets: self.secrets()?,
                seed: random()?,
                store,
                mesh,
                tcp,
                tls,
                files: self.folder.files(),
                keeper: Arc::clone(&self.keeper),
                metrics: Arc::clone(metrics),
                shared: Arc::clone(shared),
                cpu: cpus.get(index).copied(),
            };
            started.push(start.spawn()?);
        }
        introduce(started)
    }

    fn secrets(&self) -> Result<Secrets, ServeError> {
        Ok(Secrets { ticket_keys: self.ticket_keys.clone(), nonce_prefix: keys::nonce_prefix()? })
    }

    /// Waits for a signal, rotating ticket keys meanwhile; then drains.
    fn supervise(
        &mut self,
        signals: &Receiver<i32>,
        running: &[Running],
        shared: &Shared,
        ready: &AtomicBool,
    ) -> Result<(), ServeError> {
        let mut waited = Duration::ZERO;
        let step = Duration::from_millis(200);
        loop {
            match signals.recv_timeout(step) {
                Ok(signal) => {
                    tracing::info!(signal, "draining; a second signal ends at once");
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if shared.failed.load(Ordering::SeqCst)
                || running.iter().any(|r| r.thread.is_finished())
            {
                break;
            }
            waited += step;
            if waited >= KEYS_EVERY {
                waited = Duration::ZERO;
                // The keys there are stay good: nobody is sent away for what a file cannot do.
                if let Err(error) = self.rotate_keys(running) {
                    tracing::error!(%error, "ticket keys were not rotated; tried again in an hour");
                }
            }
        }
        ready.store(false, Ordering::SeqCst);
        for worker in running {
            worker.tell(Control::Drain);
        }
        Ok(())
    }

    /// Replaces the keys of tickets that are a day old.
    fn rotate_keys(&mut self, running: &[Running]) -> Result<(), ServeError> {
        let now = roost_event_loop::now().wall;
        self.ticket_keys = ticket_keys::load_or_rotate(&self.config.data, now)?;
        for worker in running {
            worker.tell(Control::Secrets(self.secrets()?));
        }
        if let Some(tickets) = &self.tls_tickets {
            tickets.replace_keys(ticket_keys::load_or_rotate_tls(&self.config.data, now)?);
        }
        Ok(())
    }

    fn announce(&self, admin: Option<SocketAddr>) {
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        if self.config.json {
            let line = serde_json::json!({
                "event": "ready",
                "tcp": text(self.listeners.tcp_address),
                "tls": text(self.listeners.tls_address),
                "admin": text(admin),
                "pid": std::process::id(),
                "driver": driver_name(self.kind),
                "shards": self.shards,
            });
            print_line(&line.to_string());
            return;
        }
        print_line(&self.greeting(admin));
    }

    fn greeting(&self, admin: Option<SocketAddr>) -> String {
        let data = self.config.data.display();
        let plain = self.listeners.tcp_address;
        let mut lines = vec![format!(
            "roost is ready: {} shard(s) on {}, data in {data}",
            self.shards,
            driver_name(self.kind)
        )];
        let listeners = [("plain", plain), ("TLS", self.listeners.tls_address), ("admin", admin)];
        for (name, address) in listeners {
            if let Some(address) = address {
                lines.push(format!("  {name:<6}{address}"));
            }
        }
        let (server, tls) = match (plain, self.listeners.tls_address) {
            (Some(plain), _) => (plain.to_string(), ""),
            (None, Some(tls)) => (tls.to_string(), " --tls"),
            (None, None) => return lines.join("\n"),
        };
        lines.push("Chat with yourself from two other terminals:".to_owned());
        for (user, to) in [("alice", "bob"), ("bob", "alice")] {
            lines.push(format!(
                "  cargo run --release -- chat --server {server}{tls} --data {data} --user {user} \
                 --to {to}"
            ));
        }
        lines.join("\n")
    }
}

/// What a worker's thread is started with.
struct Start {
    id: ShardId,
    shards: u8,
    kind: Kind,
    config: Config,
    edges: EdgeConfig,
    secrets: Secrets,
    seed: u64,
    store: Store,
    mesh: Mesh,
    tcp: Option<TcpListener>,
    tls: Option<TcpListener>,
    files: Arc<Files>,
    keeper: Arc<KeeperThread>,
    metrics: Arc<ShardMetrics>,
    shared: Arc<Shared>,
    cpu: Option<usize>,
}

/// A worker that has made its loop and waits for everybody's wakers.
struct Started {
    thread: JoinHandle<Result<Remains, String>>,
    control: Sender<Control>,
    waker: Waker,
    wakers: Sender<Vec<Waker>>,
}

impl Start {
    fn spawn(self) -> Result<Started, ServeError> {
        let (control, controlled) = mpsc::channel();
        let (wakers, all_wakers) = mpsc::channel();
        let (made, maker) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("shard-{}", self.id.0))
            .spawn(move || {
                let shared = Arc::clone(&self.shared);
                let outcome = self.run(controlled, &all_wakers, &made);
                if outcome.is_err() {
                    shared.failed.store(true, Ordering::SeqCst);
                }
                outcome
            })
            .map_err(ServeError::Thread)?;
        match maker.recv() {
            Ok(waker) => Ok(Started { thread, control, waker, wakers }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(ServeError::Worker(error)),
                Ok(Ok(_)) | Err(_) => Err(ServeError::Worker("a worker did not start".to_owned())),
            },
        }
    }

    fn run(
        self,
        control: Receiver<Control>,
        wakers: &Receiver<Vec<Waker>>,
        made: &Sender<Waker>,
    ) -> Result<Remains, String> {
        let text = |error: std::io::Error| error.to_string();
        if let Some(cpu) = self.cpu {
            pin(cpu);
        }
        let limits = self.config.limits.clone();
        let settings = LoopSettings {
            sockets_max: limits.connections_max / u32::from(self.shards),
            ..LoopSettings::default()
        };
        let mut event_loop = EventLoop::new(self.kind, &settings).map_err(text)?;
        let waker = event_loop.waker();
        let mut listeners: Vec<ListenerId> = Vec::new();
        if let Some(listener) = self.tcp {
            listeners.push(event_loop.adopt_listener(listener).map_err(text)?.0);
        }
        let mut secure = Vec::new();
        if let Some(listener) = self.tls {
            secure.push(event_loop.adopt_listener(listener).map_err(text)?.0);
        }
        listeners.extend(&secure);
        let name = format!("disk-{}", self.id.0);
        let wake = waker.clone();
        let wake = Box::new(move || wake.wake());
        let (disk, answers) =
            Disk::new(Arc::clone(&self.files), &self.keeper, &name, wake).map_err(text)?;
        let mut shard = Shard::open(
            ShardConfig {
                id: self.id,
                shards: self.shards,
                node: 0,
                limits: limits.clone(),
                edges: self.edges,
                seed: self.seed,
            },
            self.store,
        );
        let now = roost_event_loop::now();
        shard.handle(now, Input::Secrets(self.secrets), &mut Outbox::new());
        let mut mesh = self.mesh;
        made.send(waker.clone()).map_err(|_| "the main thread is gone".to_owned())?;
        mesh.set_wakers(wakers.recv().map_err(|_| "another worker did not start".to_owned())?);
        let mut worker = Worker::new(WorkerParts {
            shard,
            mesh,
            disk: StoreDisk::new(self.files, disk, answers),
            logger: Logger::new(self.id),
            waker: waker.clone(),
            control,
            shared: self.shared,
            metrics: self.metrics,
            secure,
            listeners,
            drain_ms: limits.drain_ms,
        });
        // What was owed before the restart is told again without waiting for anybody.
        waker.wake();
        event_loop.run(&mut worker).map_err(text)?;
        Ok(worker.remains())
    }
}

fn introduce(started: Vec<Started>) -> Result<Vec<Running>, ServeError> {
    let all: Vec<Waker> = started.iter().map(|worker| worker.waker.clone()).collect();
    for worker in &started {
        let gone = || ServeError::Worker("a worker ended before it began".to_owned());
        worker.wakers.send(all.clone()).map_err(|_| gone())?;
    }
    Ok(started
        .into_iter()
        .map(|worker| Running {
            thread: worker.thread,
            control: worker.control,
            waker: worker.waker,
        })
        .collect())
}

impl Running {
    fn tell(&self, control: Control) {
        // A worker that ended needs no telling.
        if self.control.send(control).is_ok() {
            self.waker.wake();
        }
    }
}

impl Listeners {
    fn bind(config: &Config, shards: u8) -> Result<Self, ServeError> {
        let (tcp, tcp_address) = bind_all(config.tcp, shards, "tcp")?;
        let (tls, tls_address) = bind_all(config.tls, shards, "tls")?;
        Ok(Self { tcp, tls, tcp_address, tls_address })
    }
}

fn bind_all(
    address: Option<SocketAddr>,
    shards: u8,
    setting: &'static str,
) -> Result<(Vec<TcpListener>, Option<SocketAddr>), ServeError> {
    let Some(asked) = address else { return Ok((Vec::new(), None)) };
    let mut bound = Vec::new();
    let mut address = asked;
    // The first one takes the port alone, so that a port in use by another server is noticed.
    for index in 0..shards {
        let failed = |source| ServeError::Bind { setting, address: asked, source };
        if index == 0 && asked.port() != 0 {
            bind_alone(address).map_err(failed)?;
        }
        let listener = bind(address, true).map_err(failed)?;
        address = listener.local_addr().map_err(failed)?;
        bound.push(listener);
    }
    Ok((bound, Some(address)))
}

/// Whether nobody listens there. The rings of a server that was killed give its listeners back a
/// moment after the process is gone, so it is tried again for a while.
fn bind_alone(address: SocketAddr) -> std::io::Result<()> {
    for _ in 0..BIND_TRIES {
        match bind(address, false) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                thread::park_timeout(BIND_AGAIN_AFTER);
            }
            other => return other.map(drop),
        }
    }
    bind(address, false).map(drop)
}

fn bind(address: SocketAddr, reuse_port: bool) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&address.into())?;
    if reuse_port {
        socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    }
    Ok(socket.into())
}

fn edge_config(config: &Config, tls: Option<ServerSettings>) -> Result<EdgeConfig, ServeError> {
    let mut token_keys = keys::load_token_keys(&config.auth.keys)?;
    if token_keys.is_empty() {
        token_keys.push(keys::SigningKey::load_or_create(&config.data)?.verifying_key()?);
    }
    Ok(EdgeConfig {
        tenant: config.auth.tenant.clone(),
        token_keys: Arc::new(TokenKeys::new(token_keys)?),
        token_rules: config.auth.rules.clone(),
        tls,
        incarnation: 0,
        server_run: 0,
    })
}

fn tls_settings(config: &Config, tickets: Arc<Tickets>) -> Result<ServerSettings, ServeError> {
    let files = match &config.tls_files {
        Some(files) => files.clone(),
        None => keys::load_or_create_tls(&config.data)?,
    };
    let bad = |path: &Path, what: String| ServeError::Tls { path: path.to_owned(), what };
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| bad(&files.certificate, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| bad(&files.key, error.to_string()))?;
    ServerSettings::new(certificates, key, &[PROTOCOL], tickets)
        .map_err(|error| bad(&files.certificate, error.to_string()))
}

fn store_settings(config: &Config) -> StoreSettings {
    StoreSettings {
        segment_bytes: config.segment_bytes,
        commit_interval_us: u64::from(config.limits.commit_interval_us),
        retain_bytes: u64::from(config.limits.retention_mib) << 20,
        // What sealing a segment mostly needs; with many streams of one small record each it may
        // need more, and waits for room.
        reserve_bytes: u64::from(config.segment_bytes) * 9 / 8,
        durability: match config.durability {
            Durability::Fsync => StoreDurability::Fsync,
            Durability::Interval { ms } => StoreDurability::Interval { ms: ms.into() },
        },
        ..StoreSettings::default()
    }
}

fn default_shards() -> u8 {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // A message id has 10 bits for node and shard: 16 shards a node.
    u8::try_from(cores.min(16)).unwrap_or(16)
}

/// The processors this process may use, if there are enough for a shard each.
fn allowed_cpus(shards: usize) -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    let cpus: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    if cpus.len() < shards || shards < 2 { Vec::new() } else { cpus }
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %error, "could not pin a shard to its processor");
    }
}

/// SIGTERM and SIGINT, one by one; the second ends the process.
fn signals() -> Result<Receiver<i32>, std::io::Error> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let second = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&second))?;
        signal_hook::flag::register(signal, Arc::clone(&second))?;
    }
    let mut caught = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in caught.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn random() -> Result<u64, ServeError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| ServeError::Random(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}

const fn driver_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Uring => "uring",
        Kind::Epoll => "epoll",
    }
}

#[expect(clippy::print_stdout, reason = "the line that tells a person or a tool that it is ready")]
fn print_line(line: &str) {
    println!("{line}");
}

/// Why a server did not start, or ended. Each says what to do.
#[derive(Debug)]
#[expect(missing_docs, reason = "the texts below say what each is")]
pub enum ServeError {
    Config(ConfigError),
    Driver(String),
    Data { path: PathBuf, source: std::io::Error },
    Folder(FolderError),
    Keys(KeysError),
    TokenKeys(TokenKeyError),
    Open(OpenError),
    Bind { setting: &'static str, address: SocketAddr, source: std::io::Error },
    Tls { path: PathBuf, what: String },
    Admin(String),
    Thread(std::io::Error),
    Worker(String),
    Signals(std::io::Error),
    Random(String),
    StoreFailed,
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Driver(what) => f.write_str(what),
            Self::Data { path, source } => write!(
                f,
                "cannot make the data folder {}: {source}. Choose another with --data, or make it \
                 writable for this user",
                path.display()
            ),
            Self::Folder(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::TokenKeys(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Bind { setting, address, source } => write!(
                f,
                "cannot listen on {address} ({setting}): {source}. Stop what uses it, or choose \
                 another with --{setting} (port 0 takes a free one)"
            ),
            Self::Tls { path, what } => write!(
                f,
                "cannot use {} for TLS: {what}. Give a PEM file with tls_certificate and tls_key",
                path.display()
            ),
            Self::Admin(what) => f.write_str(what),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Worker(what) => write!(f, "a shard ended: {what}"),
            Self::Signals(error) => write!(f, "cannot listen for signals: {error}"),
            Self::Random(what) => write!(f, "the system gives no random bytes: {what}"),
            Self::StoreFailed => f.write_str(
                "the store failed (see the log above); what was acknowledged is on disk. Check \
                 the disk, then start again",
            ),
        }
    }
}

impl std::error::Error for ServeError {}

macro_rules! from {
    ($($source:ty => $variant:ident),+) => {$(
        impl From<$source> for ServeError {
            fn from(error: $source) -> Self {
                Self::$variant(error)
            }
        }
    )+};
}

from!(ConfigError => Config, KeysError => Keys, TokenKeyError => TokenKeys, OpenError => Open);
