//! Devices that have no sockets: they live behind a TUN device, and this process answers their
//! packets itself (`--peers tun`). So the kernel holds the server's end of each connection only,
//! and one machine tests a server of millions.
//!
//! The way through: `link` makes a network namespace and the `device`, `crowd` is the TCP of all
//! devices (its `packet`s, and the `network` of their addresses), `guests` say what devices say,
//! and `run` drives them from the first SYN to the last FIN. `crowd` and `guests` know no kernel:
//! packets and times come in, packets go out.

mod bits;
mod crowd;
mod device;
mod guests;
mod link;
mod netlink;
mod network;
mod packet;
mod returns;
mod run;

pub use guests::Signer;
pub use link::{Link, TunError, enter, reachable};
pub use network::HOST;
pub use run::{Findings, Settings, Storm, StormFindings, run};
