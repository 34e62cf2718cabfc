//! How fast bare connections are made, and what the kernel keeps for them.

use super::{FloorFailure, Settings, clock, per_second, side, slab_bytes_per_pair};
use crate::server::pin;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// One side connects, the other accepts; both hold.
pub(super) fn measure(settings: &Settings) -> Result<Value, FloorFailure> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    let (cpus, count) = (settings.server_cpus.clone(), settings.connections as usize);
    let accepting = side("accepting", move || {
        // Where it runs changes the figure, not whether there is one.
        drop(pin(&cpus));
        listener.incoming().take(count).filter_map(Result::ok).collect::<Vec<_>>()
    })?;
    let started = clock();
    let connected: Result<Vec<TcpStream>, _> =
        (0..count).map(|_| TcpStream::connect(address)).collect();
    // Whoever still waits in `accept` is let go.
    if connected.is_err() {
        for _ in 0..count {
            drop(TcpStream::connect(address));
        }
    }
    let accepted = accepting.join().unwrap_or_default();
    let took = clock() - started;
    let pairs = accepted.len().min(connected?.len()) as u64;
    Ok(json!({
        "pairs": pairs,
        "pairs_per_s": per_second(pairs, took),
        "kernel_bytes_per_pair": slab_bytes_per_pair(settings.connections),
    }))
}
