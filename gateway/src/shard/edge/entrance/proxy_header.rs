//! The PROXY protocol, versions 1 and 2: what a proxy says in front of a connection about who
//! really connects. Only the source is of interest here; extensions are passed over.
//!
//! A header is refused at its first wrong byte, or waited for; bytes behind it are not looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A line of version 1 at most, its end included: so the protocol says.
pub(crate) const V1_MAX_BYTES: usize = 107;
/// What may follow the first 16 bytes of version 2: addresses, of which the longest have 216 bytes,
/// and extensions. Proxies are told to stay far below it.
pub(crate) const V2_REST_MAX_BYTES: usize = 4096;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProxyHeader {
    /// Who connects to the proxy. None: the proxy itself does, or it cannot say.
    pub(crate) source: Option<IpAddr>,
    /// How long it is; what follows is the peer's.
    pub(crate) bytes: usize,
}

/// What comes is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoProxyHeader;

/// Reads the header at the start of a stream. `Ok(None)`: it is not whole yet.
pub(crate) fn read(stream: &[u8]) -> Result<Option<ProxyHeader>, NoProxyHeader> {
    match stream.first() {
        None => Ok(None),
        Some(first) if Some(first) == V1_START.first() => read_v1(stream),
        Some(_) => read_v2(stream),
    }
}

/// Whether a stream begins with this, as far as it is there.
fn begins_with(stream: &[u8], start: &[u8]) -> Result<bool, NoProxyHeader> {
    if stream.len() >= start.len() {
        return if stream.starts_with(start) { Ok(true) } else { Err(NoProxyHeader) };
    }
    if start.starts_with(stream) { Ok(false) } else { Err(NoProxyHeader) }
}

fn read_v1(stream: &[u8]) -> Result<Option<ProxyHeader>, NoProxyHeader> {
    if !begins_with(stream, V1_START)? {
        return Ok(None);
    }
    let within = stream.get(..V1_MAX_BYTES).unwrap_or(stream);
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return if stream.len() < V1_MAX_BYTES { Ok(None) } else { Err(NoProxyHeader) };
    };
    let line = within.get(V1_START.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(NoProxyHeader)?;
    Ok(Some(ProxyHeader { source: v1_source(line)?, bytes: end + 1 }))
}

/// What follows the first word, without the line's end.
fn v1_source(line: &str) -> Result<Option<IpAddr>, NoProxyHeader> {
    let mut words = line.split(' ');
    let source = match words.next() {
        // Whatever else it says means nothing.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => v1_addresses::<Ipv4Addr>(&mut words)?,
        Some("TCP6") => v1_addresses::<Ipv6Addr>(&mut words)?,
        Some(_) | None => return Err(NoProxyHeader),
    };
    for _ in 0..2 {
        v1_port(words.next().unwrap_or_default())?;
    }
    if words.next().is_some() {
        return Err(NoProxyHeader);
    }
    Ok(Some(source))
}

/// The source, once the destination is an address too.
fn v1_addresses<'a, A: FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<IpAddr, NoProxyHeader> {
    let mut next = || -> Result<A, NoProxyHeader> {
        words.next().unwrap_or_default().parse().map_err(|_| NoProxyHeader)
    };
    let source = next()?;
    next()?;
    Ok(source.into())
}

fn v1_port(word: &str) -> Result<(), NoProxyHeader> {
    let has_one_form = word == "0" || !word.starts_with(['0', '+']);
    if has_one_form && word.parse::<u16>().is_ok() { Ok(()) } else { Err(NoProxyHeader) }
}

fn read_v2(stream: &[u8]) -> Result<Option<ProxyHeader>, NoProxyHeader> {
    if !begins_with(stream, V2_START)? {
        return Ok(None);
    }
    let command = stream.get(12);
    if command.is_some_and(|byte| !matches!(byte, 0x20 | 0x21)) {
        return Err(NoProxyHeader);
    }
    let Some(fixed) = stream.first_chunk::<V2_FIXED_BYTES>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let rest_bytes = usize::from(u16::from_be_bytes([high, low]));
    if rest_bytes > V2_REST_MAX_BYTES || rest_bytes < least_bytes(command, family)? {
        return Err(NoProxyHeader);
    }
    let bytes = V2_FIXED_BYTES + rest_bytes;
    let Some(rest) = stream.get(V2_FIXED_BYTES..bytes) else { return Ok(None) };
    let source = match (command, family) {
        (0x21, TCP_OVER_IPV4) => rest.first_chunk().map(|source| IpAddr::from(*source as [u8; 4])),
        (0x21, TCP_OVER_IPV6) => rest.first_chunk().map(|source| IpAddr::from(*source as [u8; 16])),
        // The proxy's own connection, a Unix socket, or something that it has no word for.
        _ => None,
    };
    Ok(Some(ProxyHeader { source, bytes }))
}

const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// What the addresses of a family take. A connection that is none is refused.
const fn least_bytes(command: u8, family: u8) -> Result<usize, NoProxyHeader> {
    match (command, family) {
        (0x20, _) | (_, UNSPECIFIED) => Ok(0),
        (_, TCP_OVER_IPV4) => Ok(12),
        (_, TCP_OVER_IPV6) => Ok(36),
        (_, UNIX_STREAM) => Ok(216),
        _ => Err(NoProxyHeader),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// A header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&V2_START[..], &[command, family], &length, rest].concat()
    }

    #[test]
    fn version_1_says_who_connects() {
        let lines = [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", source("192.0.2.7")),
            ("PROXY TCP6 2001:db8::7 ::1 1 65535\r\n", source("2001:db8::7")),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", source("0.0.0.0")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        ];
        for (line, source) in lines {
            let stream = [line.as_bytes(), b"ROO\x01"].concat();
            assert_eq!(read(&stream), Ok(Some(ProxyHeader { source, bytes: line.len() })));
        }
    }

    #[test]
    fn version_1_is_refused_if_anything_is_wrong() {
        let lines = [
            "PROXX",
            "PROXY\t",
            "PROXY TCP4\r\n",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3 1 2\r\n",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY \r\n",
            "proxy TCP4",
            "ROO\x01",
            "\u{16}\u{3}\u{1}",
        ];
        for line in lines {
            assert_eq!(read(line.as_bytes()), Err(NoProxyHeader), "{line:?}");
        }
        // The longest line there may be, and one byte more.
        let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
        assert!(matches!(read(line(V1_MAX_BYTES).as_bytes()), Ok(Some(_))));
        assert_eq!(read(line(V1_MAX_BYTES + 1).as_bytes()), Err(NoProxyHeader));
        assert_eq!(read(line(500).as_bytes()), Err(NoProxyHeader));
    }

    #[test]
    fn version_2_says_who_connects() {
        let ipv4 = [192, 0, 2, 7, 198, 51, 100, 1, 0, 1, 0, 2];
        let mut ipv6 = [0; 36];
        ipv6[15] = 1;
        let extended = [&ipv4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        let headers = [
            (v2(0x21, 0x11, &ipv4), source("192.0.2.7")),
            (v2(0x21, 0x11, &extended), source("192.0.2.7")),
            (v2(0x21, 0x21, &ipv6), source("::1")),
            (v2(0x21, 0x31, &[7; 216]), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x00, &[9; 40]), None),
            // Of the proxy itself, whatever it says about addresses.
            (v2(0x20, 0x11, &ipv4), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0xff, &[1]), None),
            (v2(0x21, 0x00, &[0; V2_REST_MAX_BYTES]), None),
        ];
        for (header, source) in headers {
            let stream = [&header[..], b"\x16\x03\x01"].concat();
            assert_eq!(read(&stream), Ok(Some(ProxyHeader { source, bytes: header.len() })));
        }
    }

    #[test]
    fn version_2_is_refused_if_anything_is_wrong() {
        let headers = [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x41, &[0; 12]),
            v2(0x21, 0x00, &[0; V2_REST_MAX_BYTES + 1]),
            v2(0x21, 0x00, &[0; 0xffff])[..16].to_vec(),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
            b"\r\n\r\n\x01".to_vec(),
            b"\n".to_vec(),
        ];
        for header in headers {
            assert_eq!(read(&header), Err(NoProxyHeader), "{header:?}");
        }
    }

    fn any_header() -> impl Strategy<Value = (Vec<u8>, Option<IpAddr>)> {
        let v1 = |proto: &str, from: IpAddr, to: IpAddr, ports: (u16, u16)| {
            let line = format!("PROXY {proto} {from} {to} {} {}\r\n", ports.0, ports.1);
            (line.into_bytes(), Some(from))
        };
        prop_oneof![
            (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<(u16, u16)>())
                .prop_map(move |(from, to, ports)| v1("TCP4", from.into(), to.into(), ports)),
            (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<(u16, u16)>())
                .prop_map(move |(from, to, ports)| v1("TCP6", from.into(), to.into(), ports)),
            (any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 8..300)).prop_map(
                |(from, rest)| (v2(0x21, 0x11, &[&from[..], &rest].concat()), Some(from.into()))
            ),
            (any::<[u8; 16]>(), prop::collection::vec(any::<u8>(), 20..300)).prop_map(
                |(from, rest)| (v2(0x21, 0x21, &[&from[..], &rest].concat()), Some(from.into()))
            ),
            (any::<u8>(), prop::collection::vec(any::<u8>(), 0..300))
                .prop_map(|(family, rest)| (v2(0x20, family, &rest), None)),
        ]
    }

    proptest! {
        /// However a header is cut, it is waited for; and what follows changes nothing.
        #[test]
        fn a_header_is_whole_at_its_last_byte(
            (header, source) in any_header(),
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            for cut in 0..header.len() {
                prop_assert_eq!(read(&header[..cut]), Ok(None), "cut at {}", cut);
            }
            let bytes = header.len();
            let stream = [header, behind].concat();
            prop_assert_eq!(read(&stream), Ok(Some(ProxyHeader { source, bytes })));
        }

        /// Any bytes get an answer, which more bytes do not change; and nobody waits without end.
        #[test]
        fn an_answer_is_final(
            start in prop_oneof![Just(&b""[..]), Just(V1_START), Just(&V2_START[..])],
            rest in prop::collection::vec(any::<u8>(), 0..200),
            damage in any::<prop::sample::Index>(),
            (header, _) in any_header(),
        ) {
            let mut damaged = header;
            let at = damage.index(damaged.len());
            damaged[at] ^= 0x20;
            for stream in [[start, &rest].concat(), damaged] {
                let mut answer = Ok(None);
                for cut in 0..=stream.len() {
                    let now = read(&stream[..cut]);
                    if answer != Ok(None) {
                        prop_assert_eq!(now, answer);
                    }
                    answer = now;
                }
                if let Ok(Some(header)) = answer {
                    prop_assert!(header.bytes <= stream.len());
                }
            }
            let endless = [start, &[b'x'; V2_FIXED_BYTES + V2_REST_MAX_BYTES][..]].concat();
            prop_assert_ne!(read(&endless), Ok(None));
        }
    }
}
