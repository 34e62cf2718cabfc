//! What an operator's tools ask over HTTP, on a thread of its own: `/metrics`, `/live`, `/ready`.
//!
//! It has no authentication, so it listens on loopback only (`config` sees to that), and it
//! changes nothing.

use crate::driver::metrics::{Process, ShardMetrics, Shards};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use std::fmt;
use std::future::IntoFuture;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The admin listener. Dropping it, or [`AdminServer::stop`], ends it.
#[derive(Debug)]
pub struct AdminServer {
    /// Closing this end wakes the thread, which then leaves.
    alive: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    ready: Arc<AtomicBool>,
}

impl AdminServer {
    /// Listens, and answers on a thread named `admin`. `metrics` has one entry per shard, in
    /// order; `ready` says whether devices should be sent here. Also gives the address, for port
    /// 0 becomes a real one.
    ///
    /// # Errors
    /// The address is taken or not of this machine, or there is no thread to be had.
    pub fn start(
        address: SocketAddr,
        metrics: Vec<Arc<ShardMetrics>>,
        ready: Arc<AtomicBool>,
    ) -> Result<(SocketAddr, Self), AdminError> {
        let listen = |source| AdminError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let (alive, stop) = UnixStream::pair().map_err(AdminError::Thread)?;
        stop.set_nonblocking(true).map_err(AdminError::Thread)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(AdminError::Thread)?;
        let router = router(metrics, ready);
        let thread = Builder::new()
            .name("admin".to_owned())
            .spawn(move || run(&runtime, listener, stop, router))
            .map_err(AdminError::Thread)?;
        Ok((bound, Self { alive: Some(alive), thread: Some(thread) }))
    }

    /// Ends it and waits until it has; requests in progress are cut off.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was reported when it happened.
            drop(thread.join());
        }
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(runtime: &tokio::runtime::Runtime, listener: TcpListener, stop: UnixStream, router: Router) {
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stop = tokio::net::UnixStream::from_std(stop)?;
        let server = tokio::spawn(axum::serve(listener, router).into_future());
        stop.readable().await?;
        server.abort();
        io::Result::Ok(())
    };
    if let Err(error) = runtime.block_on(serve) {
        tracing::error!(%error, "the admin listener ended");
    }
}

fn router(metrics: Vec<Arc<ShardMetrics>>, ready: Arc<AtomicBool>) -> Router {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Shards(metrics)));
    registry.register_collector(Box::new(Process));
    Router::new()
        .route("/metrics", get(answer_metrics))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(answer_ready))
        .with_state(Shared { registry: Arc::new(registry), ready })
}

async fn answer_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let mut body = String::new();
    match text::encode(&mut body, &shared.registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, METRICS_TYPE)], body).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn answer_ready(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Why there is no admin listener.
#[derive(Debug)]
pub enum AdminError {
    /// The address cannot be had.
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The thread or what it needs cannot be had.
    Thread(io::Error),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, source } => {
                write!(f, "cannot listen on {address} for admin: {source}; choose another --admin")
            }
            Self::Thread(source) => {
                write!(f, "cannot start the admin thread: {source}; see ulimit -n and -u")
            }
        }
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } | Self::Thread(source) => Some(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn start(shards: usize) -> (SocketAddr, AdminServer, Vec<Arc<ShardMetrics>>, Arc<AtomicBool>) {
        let metrics: Vec<_> = (0..shards).map(|_| Arc::new(ShardMetrics::default())).collect();
        let ready = Arc::new(AtomicBool::new(false));
        let address = "127.0.0.1:0".parse().unwrap();
        let (address, server) =
            AdminServer::start(address, metrics.clone(), Arc::clone(&ready)).unwrap();
        (address, server, metrics, ready)
    }

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut socket = TcpStream::connect(address).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: roost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn live_and_ready_are_two_things() {
        let (address, server, _, ready) = start(1);
        assert!(ask(address, "/live").starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/ready").starts_with("HTTP/1.1 503"));
        ready.store(true, Ordering::Relaxed);
        assert!(ask(address, "/ready").starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/other").starts_with("HTTP/1.1 404"));
        server.stop();
    }

    #[test]
    fn metrics_come_per_shard() {
        let (address, _server, metrics, _) = start(2);
        metrics[0].messages_total.add(3);
        metrics[1].messages_total.add(4);
        metrics[1].connections_open.set(5);
        let text = ask(address, "/metrics");
        assert!(text.contains("content-type: application/openmetrics-text; version=1.0.0"));
        for line in [
            "# HELP roost_messages Messages taken into a conversation",
            "# TYPE roost_messages counter",
            "roost_messages_total{shard=\"0\"} 3",
            "roost_messages_total{shard=\"1\"} 4",
            "# TYPE roost_connections_open gauge",
            "roost_connections_open{shard=\"1\"} 5",
            "roost_connections_total{shard=\"0\"} 0",
            "# TYPE process_resident_memory_bytes gauge",
            "# TYPE roost_allocator_allocated_bytes gauge",
            "# EOF",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
        }
        let resident = text.lines().find(|line| line.starts_with("process_resident"));
        assert!(resident.unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap() > 100_000);
    }

    #[test]
    fn stopping_frees_the_port_even_while_somebody_is_connected() {
        let (address, server, _, _) = start(1);
        let mut socket = TcpStream::connect(address).unwrap();
        assert!(ask(address, "/live").starts_with("HTTP/1.1 200"));
        server.stop();
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_taken_address_is_named() {
        let (address, _server, _, _) = start(1);
        let error = AdminServer::start(address, Vec::new(), Arc::default()).unwrap_err();
        let expected = format!("cannot listen on {address} for admin: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
