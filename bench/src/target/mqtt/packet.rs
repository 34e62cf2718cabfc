//! MQTT packets of 3.1.1 and 5, written and cut by hand. Their lengths are written like the
//! numbers of protobuf.

use roost_protocol::varint::write_number;

/// Which MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V3,
    /// 5.
    V5,
}

/// A packet of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// The answer to Connect: 0 is good. How many packets may be unacknowledged.
    Connack { code: u8, receive_maximum: u16 },
    /// A message; `id` with QoS 1 only.
    Publish { topic: &'a [u8], id: Option<u16>, body: &'a [u8] },
    /// A message of ours is taken. Codes from 0x80 refuse it.
    Puback { id: u16, code: u8 },
    /// What was subscribed to; codes from 0x80 refuse it.
    Suback { code: u8 },
    /// It is there.
    Pingresp,
    /// It says why it ends the connection.
    Disconnect { code: u8 },
}

/// Why bytes are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotMqtt;

/// What a client says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connect<'a> {
    pub(super) version: Version,
    pub(super) client: &'a str,
    /// The broker keeps what is missed while away.
    pub(super) persistent: bool,
    pub(super) keep_alive_s: u16,
}

pub(super) const PINGREQ: &[u8] = &[0xc0, 0];

/// Appends a Connect.
pub(super) fn connect(connect: &Connect<'_>, out: &mut Vec<u8>) {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T'];
    body.push(if connect.version == Version::V5 { 5 } else { 4 });
    body.push(if connect.persistent { 0 } else { 2 });
    body.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    if connect.version == Version::V5 {
        if connect.persistent {
            // A session that does not expire.
            body.extend_from_slice(&[5, 0x11, 0xff, 0xff, 0xff, 0xff]);
        } else {
            body.push(0);
        }
    }
    text(connect.client.as_bytes(), &mut body);
    whole(0x10, &body, out);
}

/// Appends a Subscribe to these topics. MQTT 5 can leave out what the client itself writes.
pub(super) fn subscribe(version: Version, qos: u8, topics: &[String], out: &mut Vec<u8>) {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    for topic in topics {
        text(topic.as_bytes(), &mut body);
        body.push(if version == Version::V5 { qos | 4 } else { qos });
    }
    whole(0x82, &body, out);
}

/// Appends a message; with an id it has QoS 1.
pub(super) fn publish(
    version: Version,
    topic: &[u8],
    id: Option<u16>,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let properties = usize::from(version == Version::V5);
    let id_bytes = if id.is_some() { 2 } else { 0 };
    out.push(if id.is_some() { 0x32 } else { 0x30 });
    let length = 2 + topic.len() + id_bytes + properties + body.len();
    write_number(length as u64, out);
    text(topic, out);
    if let Some(id) = id {
        out.extend_from_slice(&id.to_be_bytes());
    }
    out.extend(std::iter::repeat_n(0, properties));
    out.extend_from_slice(body);
}

/// Appends the acknowledgement of a message.
pub(super) fn puback(id: u16, out: &mut Vec<u8>) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

/// Cuts the next packet off. None: it is not whole yet.
pub(super) fn cut<'a>(
    version: Version,
    rest: &mut &'a [u8],
) -> Result<Option<Packet<'a>>, NotMqtt> {
    let Some((&kind, mut after)) = rest.split_first() else { return Ok(None) };
    let Some(length) = varint(&mut after)? else { return Ok(None) };
    let Some((content, next)) = after.split_at_checked(length) else { return Ok(None) };
    let packet = packet(version, kind, content).ok_or(NotMqtt)?;
    *rest = next;
    Ok(Some(packet))
}

fn packet(version: Version, kind: u8, mut content: &[u8]) -> Option<Packet<'_>> {
    Some(match kind >> 4 {
        2 => {
            let code = *content.get(1)?;
            let receive_maximum =
                if version == Version::V5 { receive_maximum(content.get(2..)?)? } else { u16::MAX };
            Packet::Connack { code, receive_maximum }
        }
        3 => {
            let length = number(&mut content)?;
            let (topic, after) = content.split_at_checked(length.into())?;
            content = after;
            let id = if kind & 6 == 0 { None } else { Some(number(&mut content)?) };
            if version == Version::V5 {
                let properties = varint(&mut content).ok()??;
                content = content.get(properties..)?;
            }
            Packet::Publish { topic, id, body: content }
        }
        4 => {
            let id = number(&mut content)?;
            Packet::Puback { id, code: content.first().copied().unwrap_or(0) }
        }
        9 => Packet::Suback { code: content.get(2..)?.iter().copied().max()? },
        13 => Packet::Pingresp,
        14 => Packet::Disconnect { code: content.first().copied().unwrap_or(0) },
        _ => return None,
    })
}

/// The property of that name among those of a Connack. Others are passed over.
fn receive_maximum(mut properties: &[u8]) -> Option<u16> {
    let length = varint(&mut properties).ok()??;
    let mut rest = properties.get(..length)?;
    while let Some((&name, mut after)) = rest.split_first() {
        rest = match name {
            0x21 => return number(&mut after),
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => after.get(1..)?,
            0x13 | 0x22 => after.get(2..)?,
            0x11 | 0x27 => after.get(4..)?,
            0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                let length = number(&mut after)?;
                after.get(length.into()..)?
            }
            0x26 => {
                for _ in 0..2 {
                    let length = number(&mut after)?;
                    after = after.get(length.into()..)?;
                }
                after
            }
            _ => return None,
        };
    }
    Some(u16::MAX)
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    let (bytes, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(u16::from_be_bytes(*bytes))
}

fn varint(rest: &mut &[u8]) -> Result<Option<usize>, NotMqtt> {
    let mut value = 0;
    for shift in 0..4 {
        let Some((&byte, after)) = rest.split_first() else { return Ok(None) };
        *rest = after;
        value |= usize::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Err(NotMqtt)
}

fn whole(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    write_number(body.len() as u64, out);
    out.extend_from_slice(body);
}

fn text(text: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("names are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: Version, persistent: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let of = Connect { version, client: "d1", persistent, keep_alive_s: 120 };
        connect(&of, &mut out);
        out
    }

    #[test]
    fn connect_says_version_session_and_name() {
        assert_eq!(of(Version::V3, false), b"\x10\x0e\0\x04MQTT\x04\x02\0\x78\0\x02d1");
        assert_eq!(of(Version::V3, true), b"\x10\x0e\0\x04MQTT\x04\0\0\x78\0\x02d1");
        assert_eq!(of(Version::V5, false), b"\x10\x0f\0\x04MQTT\x05\x02\0\x78\0\0\x02d1");
        let expected = b"\x10\x14\0\x04MQTT\x05\0\0\x78\x05\x11\xff\xff\xff\xff\0\x02d1";
        assert_eq!(of(Version::V5, true), expected);
    }

    #[test]
    fn subscriptions_of_version_5_leave_out_what_is_ones_own() {
        let topics = ["a".to_owned(), "bc".to_owned()];
        let mut out = Vec::new();
        subscribe(Version::V3, 1, &topics, &mut out);
        assert_eq!(out, b"\x82\x0b\0\x01\0\x01a\x01\0\x02bc\x01");
        out.clear();
        subscribe(Version::V5, 1, &topics[..1], &mut out);
        assert_eq!(out, b"\x82\x07\0\x01\0\0\x01a\x05");
    }

    #[test]
    fn messages_have_an_id_with_qos_1() {
        let mut out = Vec::new();
        publish(Version::V3, b"a", Some(258), b"xy", &mut out);
        assert_eq!(out, b"\x32\x07\0\x01a\x01\x02xy");
        out.clear();
        publish(Version::V5, b"a", None, &[7; 200], &mut out);
        assert_eq!(out[..8], *b"\x30\xcc\x01\0\x01a\0\x07");
        out.clear();
        puback(258, &mut out);
        assert_eq!(out, b"\x40\x02\x01\x02");
    }

    #[test]
    fn packets_are_cut_only_when_they_are_whole() {
        let bytes = b"\x20\x02\0\0\x90\x03\0\x01\x01\x32\x07\0\x01a\x01\x02xy\x40\x02\0\x09\xd0\0";
        let mut rest = &bytes[..];
        let mut packets = Vec::new();
        while let Some(packet) = cut(Version::V3, &mut rest).unwrap() {
            packets.push(packet);
        }
        let expected = [
            Packet::Connack { code: 0, receive_maximum: u16::MAX },
            Packet::Suback { code: 1 },
            Packet::Publish { topic: b"a", id: Some(258), body: b"xy" },
            Packet::Puback { id: 9, code: 0 },
            Packet::Pingresp,
        ];
        assert_eq!(packets, expected);
        for end in 0..9 {
            assert_eq!(cut(Version::V3, &mut &bytes[9..][..end]), Ok(None), "{end}");
        }
        assert_eq!(cut(Version::V3, &mut &b"\x30\xff\xff\xff\xff\x01"[..]), Err(NotMqtt));
        assert_eq!(cut(Version::V3, &mut &b"\x32\x03\0\x01a"[..]), Err(NotMqtt));
        assert_eq!(cut(Version::V3, &mut &b"\x10\0"[..]), Err(NotMqtt));
    }

    #[test]
    fn version_5_has_properties_and_reasons() {
        let of = |bytes: &'static [u8]| cut(Version::V5, &mut &*bytes).unwrap();
        let connack = of(b"\x20\x09\0\0\x06\x22\0\x0a\x21\0\x14");
        assert_eq!(connack, Some(Packet::Connack { code: 0, receive_maximum: 20 }));
        let publish = of(b"\x30\x08\0\x01a\x02\x01\x01xy");
        assert_eq!(publish, Some(Packet::Publish { topic: b"a", id: None, body: b"xy" }));
        assert_eq!(of(b"\x40\x03\0\x09\x97"), Some(Packet::Puback { id: 9, code: 0x97 }));
        assert_eq!(of(b"\xe0\x01\x8b"), Some(Packet::Disconnect { code: 0x8b }));
    }
}
