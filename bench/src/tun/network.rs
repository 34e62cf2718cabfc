//! Who has which address: 198.18.0.0/15, which is set aside for benchmarks (RFC 2544).

use crate::swarm::DeviceIndex;
use crate::target::scramble;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The whole network, and how many of its bits are fixed.
pub(super) const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
pub(super) const PREFIX_BITS: u8 = 15;
/// The machine's own address in it, where a server of `--spawn` listens.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The address of the first devices.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 0);
/// Devices of one address, and the port of its first one.
const PER_ADDRESS: u32 = 10_000;
const FIRST_PORT: u32 = 10_000;

/// Addresses and first sequence numbers, which all follow from a device's number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    pub(super) server: SocketAddrV4,
    pub(super) devices: u32,
    /// Another run has other sequence numbers.
    pub(super) key: u64,
}

impl Network {
    pub(super) fn address_of(&self, index: DeviceIndex) -> SocketAddrV4 {
        let address = Ipv4Addr::from_bits(FIRST.to_bits() + index / PER_ADDRESS);
        let port = u16::try_from(FIRST_PORT + index % PER_ADDRESS).expect("below 20,000");
        SocketAddrV4::new(address, port)
    }

    pub(super) fn index_of(&self, address: SocketAddrV4) -> Option<DeviceIndex> {
        let block = address.ip().to_bits().checked_sub(FIRST.to_bits())?;
        let within = u32::from(address.port()).checked_sub(FIRST_PORT)?;
        let index = block.checked_mul(PER_ADDRESS)?.checked_add(within)?;
        (within < PER_ADDRESS && index < self.devices).then_some(index)
    }

    /// The sequence number of a device's SYN.
    pub(super) fn first_sequence(&self, index: DeviceIndex) -> u32 {
        u32::try_from(scramble(self.key ^ scramble(index.into())) >> 32).expect("32 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_an_address_of_its_own_in_the_network() {
        let server = SocketAddrV4::new(HOST, 4_000);
        let network = Network { server, devices: 10_000_000, key: 1 };
        for index in [0, 1, 9_999, 10_000, 2_560_000, 9_999_999] {
            let address = network.address_of(index);
            assert_eq!(network.index_of(address), Some(index));
            assert_eq!(address.ip().to_bits() >> 17, NETWORK.to_bits() >> 17, "{address}");
            assert!(*address.ip() != HOST);
        }
        assert_eq!(network.address_of(10_000).to_string(), "198.18.1.1:10000");
        for foreign in ["198.18.0.1:10000", "198.18.1.0:9999", "198.18.1.0:20000", "1.2.3.4:10000"]
        {
            assert_eq!(network.index_of(foreign.parse().unwrap()), None, "{foreign}");
        }
        let few = Network { devices: 5, ..network };
        assert_eq!(few.index_of(network.address_of(5)), None);
    }

    #[test]
    fn runs_and_devices_begin_at_different_numbers() {
        let server = SocketAddrV4::new(HOST, 4_000);
        let network = Network { server, devices: 9, key: 1 };
        let other = Network { key: 2, ..network };
        assert_ne!(network.first_sequence(0), network.first_sequence(1));
        assert_ne!(network.first_sequence(0), other.first_sequence(0));
    }
}
