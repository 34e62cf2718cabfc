//! A network namespace of our own, and the wire into it.

use super::device::Device;
use super::netlink;
use super::network::{HOST, NETWORK, PREFIX_BITS};
use super::packet::MTU;
use nix::sched::{CloneFlags, unshare};
use rustix::fd::BorrowedFd;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

/// Packets of the kernel that may wait for us.
const QUEUE_PACKETS: u32 = 1 << 16;
/// Buckets of the namespace's own table of connections: at most what the kernel takes.
const BUCKETS_MAX: u32 = 1 << 24;
/// With fewer connections the machine's table will do.
const BUCKETS_FROM: u32 = 200_000;
const BUCKETS: &str = "/proc/sys/net/ipv4/tcp_child_ehash_entries";
/// In a namespace of its own the kernel's queues are as long as they can be: a queue that is full
/// there says nothing about the server.
const SETTINGS: [(&str, &str); 3] = [
    ("/proc/sys/net/core/somaxconn", "65535"),
    ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "65535"),
    ("/proc/sys/net/ipv4/tcp_syncookies", "0"),
];
const ROUTES: &str = "/proc/net/route";

/// Puts the calling thread, and whatever it starts from now on, into a network namespace of its own
/// with room for so many connections. It is gone with the last of them.
///
/// # Errors
/// The system does not allow it.
pub fn enter(connections: u32) -> Result<(), TunError> {
    let leave =
        || unshare(CloneFlags::CLONE_NEWNET).map_err(|error| TunError::Namespace(error.into()));
    leave()?;
    if connections > BUCKETS_FROM {
        // What a new namespace gets is set in the one that it is made from.
        let buckets = connections.saturating_mul(2).checked_next_power_of_two();
        set(BUCKETS, &buckets.unwrap_or(BUCKETS_MAX).min(BUCKETS_MAX).to_string())?;
        leave()?;
    }
    netlink::up(netlink::LOOPBACK_INDEX, None, None)
        .map_err(|source| TunError::Link { what: "the loopback device", source })?;
    SETTINGS.iter().try_for_each(|(path, value)| set(path, value))
}

fn set(path: &'static str, value: &str) -> Result<(), TunError> {
    match fs::write(path, value) {
        // A kernel without the setting has no need of it.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(TunError::Setting { path, source: error })
        }
        _ => Ok(()),
    }
}

/// The wire: on its far side all devices.
#[derive(Debug)]
pub struct Link {
    device: Device,
}

impl Link {
    /// Makes it in this network namespace.
    ///
    /// # Errors
    /// The system does not allow it, or the addresses are taken.
    pub fn make() -> Result<Self, TunError> {
        let routes = fs::read_to_string(ROUTES).unwrap_or_default();
        if let Some(device) = taken_by(&routes) {
            return Err(TunError::Taken { device: device.to_owned() });
        }
        let device = Device::make().map_err(TunError::Device)?;
        let of = |what| move |source: io::Error| TunError::Link { what, source };
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None);
        let index = any.and_then(|any| name_to_index(any, &device.name));
        let index = index.map_err(|error| of("the TUN device")(error.into()))?;
        let mtu = u32::try_from(MTU).expect("it is small");
        netlink::up(index, Some(mtu), Some(QUEUE_PACKETS)).map_err(of("the TUN device"))?;
        netlink::add_address(index, HOST, PREFIX_BITS).map_err(of("its address"))?;
        Ok(Self { device })
    }

    pub(super) fn read(&self, packet: &mut [u8]) -> Result<Option<usize>, TunError> {
        self.device.read(packet).map_err(TunError::Wire)
    }

    pub(super) fn write(&self, packet: &[u8]) -> Result<bool, TunError> {
        self.device.write(packet).map_err(TunError::Wire)
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.device.file()
    }
}

/// The device that has a way to our addresses already, other than the way to everywhere.
fn taken_by(routes: &str) -> Option<&str> {
    let own_mask = u32::MAX << (32 - u32::from(PREFIX_BITS));
    routes.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // The kernel prints addresses as numbers of a machine with the low byte first.
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::swap_bytes);
        let (network, mask) = (number(1)?, number(7)?);
        let both = mask & own_mask;
        (mask != 0 && network & both == NETWORK.to_bits() & both).then(|| fields[0])
    })
}

/// Where devices reach a server that says where it listens.
///
/// # Errors
/// They cannot reach it.
pub fn reachable(address: SocketAddr) -> Result<SocketAddrV4, TunError> {
    match address {
        SocketAddr::V4(address) if address.ip().is_unspecified() => {
            Ok(SocketAddrV4::new(HOST, address.port()))
        }
        // Only an address of this machine is the kernel's own end of the wire.
        SocketAddr::V4(address) if !address.ip().is_loopback() && is_ours(*address.ip()) => {
            Ok(address)
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => Err(TunError::Unreachable { address }),
    }
}

fn is_ours(address: Ipv4Addr) -> bool {
    TcpListener::bind(SocketAddrV4::new(address, 0)).is_ok()
}

/// Why there are no devices behind a wire.
#[derive(Debug)]
pub enum TunError {
    /// There is no namespace.
    Namespace(io::Error),
    /// The namespace is not as it must be.
    Setting {
        /// The file of the setting.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// There is no TUN device.
    Device(io::Error),
    /// The device cannot be used.
    Link {
        /// What does not come up.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else has our addresses.
    Taken {
        /// On which device.
        device: String,
    },
    /// The server listens where devices cannot come to.
    Unreachable {
        /// Where.
        address: SocketAddr,
    },
    /// Packets cannot be read or written any more.
    Wire(io::Error),
}

impl fmt::Display for TunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(source) => write!(
                f,
                "no network namespace can be made: {source}; --peers tun needs root (CAP_SYS_ADMIN \
                 and CAP_NET_ADMIN)"
            ),
            Self::Setting { path, source } => write!(f, "cannot write {path}: {source}"),
            Self::Device(source) => write!(
                f,
                "no TUN device can be made: {source}; --peers tun needs root and /dev/net/tun \
                 (modprobe tun; in a container: --device /dev/net/tun --cap-add NET_ADMIN)"
            ),
            Self::Link { what, source } => write!(f, "{what} cannot be set up: {source}"),
            Self::Taken { device } => write!(
                f,
                "the addresses of the devices, {NETWORK}/{PREFIX_BITS}, are taken by {device} \
                 here; run the server and the bench in a network namespace of their own, or use \
                 --spawn"
            ),
            Self::Unreachable { address } => write!(
                f,
                "devices behind a TUN device cannot reach {address}; the server must listen at \
                 0.0.0.0 or at an IPv4 address of this network namespace that is not loopback"
            ),
            Self::Wire(source) => write!(f, "the TUN device failed: {source}"),
        }
    }
}

impl std::error::Error for TunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Namespace(source)
            | Self::Setting { source, .. }
            | Self::Device(source)
            | Self::Link { source, .. }
            | Self::Wire(source) => Some(source),
            Self::Taken { .. } | Self::Unreachable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";

    #[test]
    fn a_route_to_our_addresses_is_found() {
        let routes = |line: &str| format!("{HEAD}{line}\n");
        let everywhere = routes("eth0 00000000 0104A8C0 0003 0 0 0 00000000 0 0 0");
        assert_eq!(taken_by(&everywhere), None);
        let elsewhere = routes("eth0 0000A8C0 00000000 0001 0 0 0 0000FFFF 0 0 0");
        assert_eq!(taken_by(&elsewhere), None);
        let part = routes("eth1 000713C6 00000000 0001 0 0 0 00FFFFFF 0 0 0");
        assert_eq!(taken_by(&part), Some("eth1"), "198.19.7.0/24");
        let around = routes("eth2 000000C6 00000000 0001 0 0 0 000000FF 0 0 0");
        assert_eq!(taken_by(&around), Some("eth2"), "198.0.0.0/8");
        assert_eq!(taken_by(&routes("nonsense")), None);
    }

    #[test]
    fn a_server_must_be_at_the_near_end_of_the_wire() {
        let address = |text: &str| reachable(text.parse().unwrap()).map(|to| to.to_string());
        assert_eq!(address("0.0.0.0:7").unwrap(), "198.18.0.1:7");
        for far in ["127.0.0.1:7", "[::1]:7", "192.0.2.1:7"] {
            let text = address(far).unwrap_err().to_string();
            assert!(text.contains(far) && text.contains("0.0.0.0"), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_is_missing() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(TunError::Namespace(denied()).to_string().contains("needs root"));
        assert!(TunError::Device(denied()).to_string().contains("/dev/net/tun"));
        let taken = TunError::Taken { device: "eth1".to_owned() }.to_string();
        assert!(taken.contains("eth1") && taken.contains("198.18.0.0/15"), "{taken}");
    }
}
