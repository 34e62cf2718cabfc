//! IPv4 and TCP headers, read and written by hand.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Flags of a segment.
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// Largest packet of the device, and the payload that fits into it.
pub(super) const MTU: usize = 1_500;
pub(super) const PAYLOAD_MAX: usize = MTU - HEADERS;
/// Headers without options.
const HEADERS: usize = IP_HEADER + TCP_HEADER;
const IP_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
/// What a SYN says: the largest payload it takes, and nothing else.
const SYN_OPTIONS: [u8; 4] = [2, 4, 0x05, 0xb4];
/// What a device takes at once; without scaling there is no more.
const WINDOW: u16 = u16::MAX;
const PROTOCOL_TCP: u8 = 6;

/// One TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) sequence: u32,
    /// Counts only with [`ACK`].
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) payload: &'a [u8],
}

impl Segment<'_> {
    pub(super) const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// Reads a packet. Checksums are those of the kernel itself and are not looked at.
pub(super) fn parse(packet: &[u8]) -> Option<Segment<'_>> {
    let (&first, total) = (packet.first()?, usize::from(half(packet, 2)?));
    let ip_header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || ip_header < IP_HEADER || *packet.get(9)? != PROTOCOL_TCP {
        return None;
    }
    let packet = packet.get(..total)?;
    let tcp = packet.get(ip_header..)?;
    let tcp_header = usize::from(tcp.get(12)? >> 4) * 4;
    if tcp_header < TCP_HEADER {
        return None;
    }
    let address = |at| Some(Ipv4Addr::from_bits(word(packet, at)?));
    Some(Segment {
        from: SocketAddrV4::new(address(12)?, half(tcp, 0)?),
        to: SocketAddrV4::new(address(16)?, half(tcp, 2)?),
        sequence: word(tcp, 4)?,
        acknowledged: word(tcp, 8)?,
        flags: *tcp.get(13)?,
        payload: tcp.get(tcp_header..)?,
    })
}

/// Appends a packet. Its payload is at most [`PAYLOAD_MAX`] bytes.
pub(super) fn write(segment: &Segment<'_>, out: &mut Vec<u8>) {
    let options: &[u8] = if segment.has(SYN) { &SYN_OPTIONS } else { &[] };
    let tcp_bytes = TCP_HEADER + options.len() + segment.payload.len();
    let total = u16::try_from(IP_HEADER + tcp_bytes).expect("a payload fits into a packet");
    let start = out.len();
    out.extend_from_slice(&[0x45, 0]);
    out.extend_from_slice(&total.to_be_bytes());
    // Not to be cut into fragments, 64 hops, and a checksum that follows.
    out.extend_from_slice(&[0, 0, 0x40, 0, 64, PROTOCOL_TCP, 0, 0]);
    out.extend_from_slice(&segment.from.ip().octets());
    out.extend_from_slice(&segment.to.ip().octets());
    let checksum = !folded(sum(&out[start..]));
    out[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());

    let tcp = out.len();
    out.extend_from_slice(&segment.from.port().to_be_bytes());
    out.extend_from_slice(&segment.to.port().to_be_bytes());
    out.extend_from_slice(&segment.sequence.to_be_bytes());
    out.extend_from_slice(&segment.acknowledged.to_be_bytes());
    let words = u8::try_from((TCP_HEADER + options.len()) / 4).expect("options are few");
    out.extend_from_slice(&[words << 4, segment.flags]);
    out.extend_from_slice(&WINDOW.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(options);
    out.extend_from_slice(segment.payload);
    let pseudo = sum(&out[start + 12..start + 20]) + u32::from(PROTOCOL_TCP) + u32::from(total)
        - u32::try_from(IP_HEADER).expect("it is small");
    let checksum = !folded(pseudo + sum(&out[tcp..]));
    out[tcp + 16..tcp + 18].copy_from_slice(&checksum.to_be_bytes());
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The sum of all halves, an odd byte filled up. No packet is long enough for it to overflow.
fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    sum + rest.first().map_or(0, |last| u32::from(*last) << 8)
}

/// In ones' complement: what does not fit is added again.
fn folded(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    u16::try_from((once & 0xffff) + (once >> 16)).expect("a sum of halves fits after two foldings")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        for (flags, payload) in [(SYN, &b""[..]), (ACK | PSH, b"hello"), (ACK | FIN, b"odd")] {
            let segment = Segment {
                from: endpoint("198.18.1.7:10001"),
                to: endpoint("198.18.0.1:443"),
                sequence: 0xfffe_fdfc,
                acknowledged: 0x0102_0304,
                flags,
                payload,
            };
            let mut packet = vec![9; 3];
            write(&segment, &mut packet);
            assert_eq!(parse(&packet[3..]), Some(segment));
            // A right checksum makes the sum over everything zero.
            let packet = &packet[3..];
            assert_eq!(folded(sum(&packet[..IP_HEADER])), 0xffff);
            let length = u32::try_from(packet.len() - IP_HEADER).unwrap();
            let pseudo = sum(&packet[12..20]) + u32::from(PROTOCOL_TCP) + length;
            assert_eq!(folded(pseudo + sum(&packet[IP_HEADER..])), 0xffff);
        }
    }

    #[test]
    fn a_known_checksum() {
        // The example of RFC 1071, section 3.
        assert_eq!(folded(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
        assert_eq!(folded(0x1_ffff), 1);
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        let segment = Segment {
            from: endpoint("1.2.3.4:5"),
            to: endpoint("6.7.8.9:10"),
            sequence: 1,
            acknowledged: 2,
            flags: ACK,
            payload: b"abc",
        };
        let mut whole = Vec::new();
        write(&segment, &mut whole);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        for (at, value) in [(0, 0x65), (0, 0x44), (9, 17), (32, 0x40), (32, 0xf0)] {
            let mut broken = whole.clone();
            broken[at] = value;
            assert_eq!(parse(&broken), None, "byte {at} is {value:#x}");
        }
        whole.extend_from_slice(b"padding");
        assert_eq!(parse(&whole), Some(segment), "what is behind the packet is not its own");
    }
}
