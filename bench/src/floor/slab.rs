//! Kernel memory of a bare pair of sockets.

use crate::process::kernel_slab_bytes;
use crate::report::arithmetic::whole;
use rustix::net::sockopt::set_socket_linger;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::park_timeout;
use std::time::Duration;

/// Enough pairs that what others do in the kernel meanwhile does not matter much.
const PAIRS: u32 = 4_000;

/// The kernel gives back what connections took little by little: so often it is looked at whether
/// it has.
const LOOKS: u32 = 50;
const LOOK: Duration = Duration::from_millis(100);
/// Less than this between two looks is nothing.
const STILL_BYTES: u64 = 256 << 10;

/// Where each of the kernel's caches can be told to give back what it does not use.
const CACHES: &str = "/sys/kernel/slab";

/// Slab memory of a bare pair of connected sockets, both ends on this machine: connected, accepted
/// and held. None: too few were asked for to tell, or the system gives no more.
///
/// To be asked before other sockets are made: those who were closed leave room in the kernel's
/// caches that new ones take without any growth. As root that room is given back before and after.
#[must_use]
pub fn slab_bytes_per_pair(connections: u32) -> Option<f64> {
    let pairs = connections.min(PAIRS);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).ok()?;
    let address = listener.local_addr().ok()?;
    settle();
    let before = kernel_slab_bytes();
    let mut held = Vec::new();
    for _ in 0..pairs {
        let Ok(device) = TcpStream::connect(address) else { break };
        let Ok((server, _)) = listener.accept() else { break };
        held.push((device, server));
    }
    let grown = kernel_slab_bytes().saturating_sub(before);
    let count = u64::try_from(held.len()).ok()?;
    for (device, server) in &held {
        // A reset leaves nothing that waits; without it the next figures are off by a little.
        let _results = [device, server].map(|end| set_socket_linger(end, Some(Duration::ZERO)));
    }
    drop(held);
    settle();
    (count >= 100).then(|| whole(grown) / whole(count))
}

/// Waits until the kernel gave back what was closed.
fn settle() {
    wait_until_still();
    for cache in fs::read_dir(CACHES).into_iter().flatten().flatten() {
        // Only root may; then the figures are a little lower than they should be.
        drop(fs::write(cache.path().join("shrink"), "1"));
    }
    wait_until_still();
}

fn wait_until_still() {
    let mut known = kernel_slab_bytes();
    for _ in 0..LOOKS {
        park_timeout(LOOK);
        let slab = kernel_slab_bytes();
        if slab + STILL_BYTES >= known {
            return;
        }
        known = slab;
    }
}
