//! `roost serve`: from settings to running workers, and back.

mod error;
mod listeners;
mod start;
mod tls;

pub use error::ServeError;

use super::lock_note;
use crate::args::ServeArgs;
use crate::budget::MemoryBudget;
use crate::config::{Config, Driver, Durability, FileConfig, ListenAddress};
use crate::driver::admin::AdminServer;
use crate::driver::mesh::weave;
use crate::driver::metrics::ShardMetrics;
use crate::driver::worker::{Control, Remains, Shared};
use crate::ids::ShardId;
use crate::keys;
use crate::shard::auth::ticket::TicketKeys;
use crate::shard::auth::token::TokenKeys;
use crate::shard::{EdgeConfig, ListenerRules, Secrets};
use crate::ticket_keys;
use listeners::Listeners;
use roost_detached_tls::{ServerSettings, Tickets};
use roost_event_loop::{Choice, Kind, Probed};
use roost_storage_engine::disk::{KeeperThread, RealFolder};
use roost_storage_engine::{
    Durability as StoreDurability, OpenError, OpenSettings, Settings as StoreSettings, Store,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use start::{Running, Start, introduce};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use tls::TlsSource;

/// How often ticket keys are looked at.
const KEYS_EVERY: Duration = Duration::from_secs(3600);
/// Within this time a second signal means no more than the first.
const SIGNALS_TOGETHER: Duration = Duration::from_secs(1);
/// How often it is looked whether certificates changed.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(2);

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
    /// Where certificates are read again.
    tls_source: Option<TlsSource>,
    listeners: Listeners,
}

impl Server {
    fn prepare(config: Config, probed: &Probed) -> Result<Self, ServeError> {
        let shards = config.shards.unwrap_or_else(default_shards);
        let store_path = config.data.join("store");
        std::fs::create_dir_all(&store_path)
            .map_err(|source| ServeError::Data { path: store_path.clone(), source })?;
        let mut folder = RealFolder::open(&store_path).map_err(ServeError::Folder)?;
        if let Err(error) = lock_note::say_namespace(&config.data) {
            tracing::warn!(%error, "`roost drain` will not see whether this is another container");
        }
        let now = roost_event_loop::now().wall;
        let (tls_source, tls) = if config.speaks_tls() {
            if !config.core_dumps {
                keep_memory_private();
            }
            let keys = ticket_keys::load_or_rotate_tls(&config.data, now)?;
            let tickets = Arc::new(Tickets::new(keys, ticket_keys::TLS_TICKET_LIFE_S));
            let (source, settings) = TlsSource::open(&config, tickets)?;
            (Some(source), Some(settings))
        } else {
            (None, None)
        };
        let ticket_keys = ticket_keys::load_or_rotate(&config.data, now)?;
        let listeners = Listeners::bind(&config, shards)?;
        let edges = edge_config(&config, listeners.rules(), tls)?;
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
            tls_source,
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
        // Before anybody is told that we are ready: who is may send signals.
        let signals = signals().map_err(ServeError::Signals)?;
        let running = self.start(&metrics, &shared)?;
        ready.store(true, Ordering::SeqCst);
        self.announce(admin.as_ref().map(|(address, _)| *address));
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
        let cpus = start::allowed_cpus(usize::from(self.shards));
        let mut started = Vec::new();
        let parts = stores.into_iter().zip(meshes).zip(metrics).enumerate();
        for (index, ((store, mesh), metrics)) in parts {
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
                listeners: self.listeners.take(),
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

    /// Waits for a signal to stop, rotating ticket keys and reading certificates meanwhile; then
    /// drains.
    fn supervise(
        &mut self,
        signals: &Receiver<i32>,
        running: &[Running],
        shared: &Shared,
        ready: &AtomicBool,
    ) -> Result<(), ServeError> {
        let (mut since_keys, mut since_look) = (Duration::ZERO, Duration::ZERO);
        let step = Duration::from_millis(200);
        loop {
            match signals.recv_timeout(step) {
                Ok(SIGHUP) => self.reload(running),
                Ok(signal) => {
                    tracing::info!(signal, "draining; another signal, in a second, ends at once");
                    if let Err(error) = lock_note::say_draining(&self.config.data) {
                        tracing::warn!(%error, "a second `roost drain` would end this at once");
                    }
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
            since_keys += step;
            if since_keys >= KEYS_EVERY {
                since_keys = Duration::ZERO;
                // The keys there are stay good: nobody is sent away for what a file cannot do.
                if let Err(error) = self.rotate_keys(running) {
                    tracing::error!(%error, "ticket keys were not rotated; tried again in an hour");
                }
            }
            since_look += step;
            if since_look >= CERTIFICATES_EVERY {
                since_look = Duration::ZERO;
                let source = self.tls_source.as_mut();
                if source.is_some_and(|source| source.has_changed() || source.retries()) {
                    self.reload(running);
                }
            }
        }
        ready.store(false, Ordering::SeqCst);
        for worker in running {
            worker.tell(Control::Drain);
        }
        Ok(())
    }

    /// Reads certificates again, for connections that come from now on.
    fn reload(&mut self, running: &[Running]) {
        let Some(source) = &mut self.tls_source else {
            tracing::info!("nothing to read again: nobody speaks TLS here");
            return;
        };
        let read = source.read();
        source.has_failed = read.is_err();
        match read {
            Ok(settings) => {
                for worker in running {
                    worker.tell(Control::Certificates(settings.clone()));
                }
            }
            Err(error) => tracing::error!(
                %error,
                "certificates were not replaced: those that were read before are used on. Tried \
                 again when a file changes, within a minute, and at SIGHUP"
            ),
        }
    }

    /// Replaces the keys of tickets that are a day old.
    fn rotate_keys(&mut self, running: &[Running]) -> Result<(), ServeError> {
        let now = roost_event_loop::now().wall;
        self.ticket_keys = ticket_keys::load_or_rotate(&self.config.data, now)?;
        for worker in running {
            worker.tell(Control::Secrets(self.secrets()?));
        }
        if let Some(source) = &self.tls_source {
            source.tickets.replace_keys(ticket_keys::load_or_rotate_tls(&self.config.data, now)?);
        }
        Ok(())
    }

    fn announce(&self, admin: Option<SocketAddr>) {
        let text = |address: Option<&ListenAddress>| address.map(ToString::to_string);
        if self.config.json {
            let listeners = self.listeners.all.iter().map(|bound| {
                serde_json::json!({
                    "setting": bound.setting,
                    "address": bound.address.to_string(),
                    "tls": bound.rules.secure,
                    "proxy": bound.rules.proxy.is_some(),
                })
            });
            let line = serde_json::json!({
                "event": "ready",
                "tcp": text(self.listeners.address("tcp")),
                "tls": text(self.listeners.address("tls")),
                "listeners": listeners.collect::<Vec<_>>(),
                "admin": admin.map(|address| address.to_string()),
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
        let mut lines = vec![format!(
            "roost is ready: {} shard(s) on {}, data in {data}",
            self.shards,
            driver_name(self.kind)
        )];
        for bound in &self.listeners.all {
            let name = if bound.rules.secure { "TLS" } else { "plain" };
            let behind = if bound.rules.proxy.is_some() { ", with PROXY headers" } else { "" };
            lines.push(format!("  {name:<6}{}{behind}", bound.address));
        }
        if let Some(address) = admin {
            lines.push(format!("  admin {address}"));
        }
        let open = |secure: bool| {
            self.listeners.all.iter().find_map(|bound| match &bound.address {
                ListenAddress::Tcp(address) => {
                    let rules = ListenerRules { secure, proxy: None };
                    (bound.rules == rules).then_some(address)
                }
                ListenAddress::Unix(_) => None,
            })
        };
        let (server, tls) = match (open(false), open(true)) {
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

fn edge_config(
    config: &Config,
    listeners: Vec<ListenerRules>,
    tls: Option<ServerSettings>,
) -> Result<EdgeConfig, ServeError> {
    let mut token_keys = keys::load_token_keys(&config.auth.keys)?;
    if token_keys.is_empty() {
        token_keys.push(keys::SigningKey::load_or_create(&config.data)?.verifying_key()?);
    }
    Ok(EdgeConfig {
        tenant: config.auth.tenant.clone(),
        token_keys: Arc::new(TokenKeys::new(token_keys)?),
        token_rules: config.auth.rules.clone(),
        listeners: listeners.into(),
        tls,
        incarnation: 0,
        server_run: 0,
    })
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

/// Keys are in memory: neither a core file nor another process of this user gets at it.
fn keep_memory_private() {
    let private = rustix::process::DumpableBehavior::NotDumpable;
    if let Err(error) = rustix::process::set_dumpable_behavior(private) {
        tracing::warn!(%error, "core files of this process would hold its keys");
    }
}

/// SIGTERM and SIGINT, one by one, of which a second one ends the process; and SIGHUP.
fn signals() -> Result<Receiver<i32>, std::io::Error> {
    let ends = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&ends))?;
    }
    let mut caught = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in caught.forever() {
            if sender.send(signal).is_err() {
                return;
            }
            if signal != SIGHUP {
                // Two that come together are two who want the same, as two `roost drain` do.
                thread::park_timeout(SIGNALS_TOGETHER);
                ends.store(true, Ordering::SeqCst);
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
