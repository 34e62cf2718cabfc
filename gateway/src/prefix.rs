//! Networks: addresses by their leading bits.

use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 address is here one of IPv6, behind so many bits.
const IPV4_AT: u8 = 96;
/// The first of those.
const IPV4_FIRST: u128 = 0xffff_0000_0000;

/// All addresses that begin alike, as `10.0.0.0/8` or `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix {
    /// The first of them, in 128 bits.
    first: u128,
    /// Leading bits that count, of 128.
    bits: u8,
}

impl Prefix {
    /// Whether all addresses of a kind are among them.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.bits == 0 || (self.bits == IPV4_AT && self.first == IPV4_FIRST)
    }

    /// Whether an address is one of them. One of IPv4 that was mapped into IPv6 is one of IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        leading(number(address), self.bits) == self.first
    }
}

/// What addresses of one network have in common, with so many bits for each kind: a number that no
/// other network has.
pub(crate) fn network_of(address: IpAddr, ipv4_bits: u8, ipv6_bits: u8) -> u128 {
    let bits = match address.to_canonical() {
        IpAddr::V4(_) => IPV4_AT.saturating_add(ipv4_bits),
        IpAddr::V6(_) => ipv6_bits,
    };
    leading(number(address), bits)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn leading(address: u128, bits: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
    address & mask
}

impl FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write a network, as 10.0.0.0/8 or 2001:db8::/32, or one address";
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong)?;
        let (before, most) = match address {
            IpAddr::V4(_) => (IPV4_AT, 32),
            IpAddr::V6(_) => (0, 128),
        };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong)?;
        if bits > most {
            return Err(wrong);
        }
        let prefix = Self { first: leading(number(address), before + bits), bits: before + bits };
        if prefix.first != number(address) {
            return Err("the address has bits behind the network's; write its first address");
        }
        Ok(prefix)
    }
}

impl TryFrom<String> for Prefix {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = Ipv6Addr::from_bits(self.first);
        match (first.to_ipv4_mapped(), self.bits.checked_sub(IPV4_AT)) {
            (Some(first), Some(bits)) => write!(f, "{first}/{bits}"),
            (Some(_), None) | (None, _) => write!(f, "{first}/{}", self.bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_in_its_network_and_in_no_other() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("::1", "::1", "::2"),
            ("192.0.2.128/25", "192.0.2.200", "192.0.2.127"),
        ];
        for (network, inside, outside) in cases {
            assert!(prefix(network).contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!prefix(network).contains(outside.parse().unwrap()), "{outside} in {network}");
            let again = prefix(network).to_string();
            assert_eq!(prefix(&again), prefix(network));
        }
        assert_eq!(prefix("10.0.0.0/8").to_string(), "10.0.0.0/8");
    }

    #[test]
    fn everything_is_what_leaves_nobody_out() {
        for (text, is) in [
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("::ffff:0.0.0.0/96", true),
            ("0.0.0.0/1", false),
            ("::/96", false),
            ("10.0.0.0/8", false),
            ("::/1", false),
        ] {
            assert_eq!(prefix(text).is_everything(), is, "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0.1/8", "::/129", "10.0.0.0/", "a/8", "10.0.0/8"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks_of_both_kinds_are_told_apart() {
        let of = |text: &str| network_of(text.parse().unwrap(), 24, 64);
        assert_eq!(of("192.0.2.1"), of("192.0.2.255"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("::"), of("0.0.0.0"));
    }
}
