//! MQTT 3.1.1 and 5 with QoS 0 or 1: a room is a topic (or, if direct, one for each side).

mod packet;

pub use packet::Version;

use super::layout::{Layout, SeatIndex};
use super::topics::Topics;
use super::{Happened, Heartbeat, Promises, Refusal, Target};
use crate::swarm::DeviceIndex;
use packet::{Connect, NotMqtt, Packet};
use std::collections::VecDeque;
use std::rc::Rc;

/// How often a device says that it is there, and after how long the broker gives it up.
const HEARTBEAT_MS: u32 = 60_000;
const KEEP_ALIVE_S: u16 = 120;
/// As many messages of a conversation may be on their way: a broker must take as many.
const RECEIVE_MAXIMUM: u16 = 32;

/// How it is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speech {
    /// Which MQTT.
    pub version: Version,
    /// QoS 1: each message is acknowledged on both hops; otherwise QoS 0.
    pub acknowledged: bool,
    /// The broker keeps sessions of those who are away.
    pub persistent: bool,
    /// The broker writes what it keeps to its disk as often as it can.
    pub durable: bool,
}

#[derive(Debug, Default)]
struct Device {
    /// Published and not acknowledged.
    unanswered: VecDeque<(u16, SeatIndex, u64)>,
    /// The newest packet id.
    packet: u16,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Mqtt {
    topics: Topics,
    run: String,
    speech: Speech,
    devices: Vec<Device>,
}

impl Mqtt {
    /// Topics and clients' names begin with `run`.
    #[must_use]
    pub fn new(layout: Rc<Layout>, devices: u32, run: String, speech: Speech) -> Self {
        let devices = (0..devices).map(|_| Device::default()).collect();
        Self { topics: Topics::new(layout, run.clone()), run, speech, devices }
    }

    /// What is said beside its figures.
    #[must_use]
    pub fn differences(speech: Speech) -> Vec<String> {
        let durability = if speech.durable && speech.acknowledged {
            "durability: mosquitto writes its whole store anew and flushes it when something \
             changed, but between messages, not before it answers: accepted does not mean on the \
             disk"
        } else {
            "durability: none; accepted means in the broker's memory"
        };
        let qos = if speech.acknowledged {
            "QoS 1: broker and reader acknowledge each message on their own; the writer never \
             learns of the reader"
        } else {
            "QoS 0: nobody acknowledges anything; a message counts as accepted when it is written"
        };
        let session = if speech.persistent {
            "persistent sessions: what is missed while away is kept by the broker, up to its limits"
        } else {
            "clean sessions: who is away misses messages for good"
        };
        [durability, qos, session].map(str::to_owned).into()
    }

    fn packet(
        &mut self,
        device: DeviceIndex,
        packet: Packet<'_>,
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<(), Refusal> {
        match packet {
            Packet::Connack { code: 0, receive_maximum } if receive_maximum < RECEIVE_MAXIMUM => {
                return Err(Refusal(format!(
                    "the broker takes {receive_maximum} unacknowledged messages of a device, \
                     {RECEIVE_MAXIMUM} are needed (mosquitto: max_inflight_messages 0)"
                )));
            }
            Packet::Connack { code: 0, .. } => {
                let topics = self.topics.read_by(device);
                if topics.is_empty() {
                    happened.push(Happened::Ready);
                } else {
                    let names: Vec<String> =
                        topics.into_iter().map(|topic| self.topics.name(topic)).collect();
                    let qos = u8::from(self.speech.acknowledged);
                    packet::subscribe(self.speech.version, qos, &names, out);
                }
            }
            Packet::Suback { code } if code < 0x80 => happened.push(Happened::Ready),
            Packet::Publish { topic, id, body } => {
                if let Some(id) = id {
                    packet::puback(id, out);
                }
                happened.extend(self.topics.arrived(device, topic, body));
            }
            Packet::Puback { id, code } if code < 0x80 => {
                let unanswered = &mut self.devices[device as usize].unanswered;
                let place = unanswered.iter().position(|of| of.0 == id);
                let of = place.and_then(|place| unanswered.remove(place));
                let Some((_, seat, number)) = of else {
                    return Err(Refusal(format!("device {device}: an answer to nothing it asked")));
                };
                happened.push(Happened::Accepted { seat, number, place: number });
            }
            Packet::Pingresp => happened.push(Happened::Echoed),
            Packet::Connack { code, .. }
            | Packet::Suback { code }
            | Packet::Puback { code, .. }
            | Packet::Disconnect { code } => {
                return Err(Refusal(format!(
                    "device {device} was refused by the broker with code {code:#04x}"
                )));
            }
        }
        Ok(())
    }
}

impl Target for Mqtt {
    fn promises(&self) -> Promises {
        Promises { accepts: self.speech.acknowledged, ticks: false, durable: false }
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        Some(Heartbeat { every_ms: HEARTBEAT_MS, bytes: packet::PINGREQ })
    }

    fn open(&mut self, device: DeviceIndex, out: &mut Vec<u8>) {
        let connect = Connect {
            version: self.speech.version,
            client: &format!("{}d{device}", self.run),
            persistent: self.speech.persistent,
            keep_alive_s: KEEP_ALIVE_S,
        };
        packet::connect(&connect, out);
    }

    fn receive(
        &mut self,
        device: DeviceIndex,
        bytes: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<usize, Refusal> {
        let mut rest = bytes;
        let wrong =
            |NotMqtt| Refusal(format!("device {device}: what came is not what MQTT brokers say"));
        while let Some(packet) = packet::cut(self.speech.version, &mut rest).map_err(wrong)? {
            self.packet(device, packet, out, happened)?;
        }
        Ok(bytes.len() - rest.len())
    }

    fn set_up(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) -> u32 {
        0
    }

    fn write(&mut self, seat: SeatIndex, number: u64, body: &[u8], out: &mut Vec<u8>) {
        let device = self.topics.layout().seat(seat).device;
        let id = self.speech.acknowledged.then(|| {
            let of = &mut self.devices[device as usize];
            // 0 is none.
            of.packet = of.packet.checked_add(1).unwrap_or(1);
            of.unanswered.push_back((of.packet, seat, number));
            of.packet
        });
        packet::publish(self.speech.version, self.topics.written(seat), id, body, out);
    }

    fn acknowledge(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) {}

    fn closed(&mut self, device: DeviceIndex) {
        self.devices[device as usize] = Device::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::body;

    fn mqtt() -> Mqtt {
        let speech =
            Speech { version: Version::V3, acknowledged: true, persistent: false, durable: false };
        Mqtt::new(Rc::new(Layout::pairs(1)), 2, "7".to_owned(), speech)
    }

    #[test]
    fn a_device_subscribes_when_it_is_connected_and_is_then_ready() {
        let (mut mqtt, mut out, mut happened) = (mqtt(), Vec::new(), Vec::new());
        assert_eq!(mqtt.receive(1, b"\x20\x02\0\0", &mut out, &mut happened), Ok(4));
        assert_eq!((&*out, happened.len()), (&b"\x82\x09\0\x01\0\x047.s1\x01"[..], 0));
        assert_eq!(mqtt.receive(1, b"\x90\x03\0\x01\x01", &mut out, &mut happened), Ok(5));
        assert_eq!(happened, [Happened::Ready]);
    }

    #[test]
    fn both_hops_are_acknowledged() {
        let (mut mqtt, mut out, mut happened) = (mqtt(), Vec::new(), Vec::new());
        mqtt.devices[0].packet = u16::MAX;
        mqtt.write(0, 70_000, &body(0, 70_000), &mut out);
        assert_eq!(out[..10], *b"\x32\x18\0\x047.s1\0\x01");
        let mut push = out.clone();
        push[9] = 9;
        out.clear();
        assert_eq!(mqtt.receive(1, &push, &mut out, &mut happened), Ok(push.len()));
        assert_eq!(out, b"\x40\x02\0\x09");
        assert_eq!(mqtt.receive(0, b"\x40\x02\0\x01", &mut out, &mut happened), Ok(4));
        let arrived = Happened::Arrived { seat: 1, author: 0, number: 70_000 };
        let accepted = Happened::Accepted { seat: 0, number: 70_000, place: 70_000 };
        assert_eq!(happened, [arrived, accepted]);
    }

    #[test]
    fn refusals_end_the_run() {
        let mut mqtt = mqtt();
        for wrong in [&b"\x20\x02\0\x05"[..], b"\x90\x03\0\x01\x80", b"\x40\x02\0\x01", b"\x10\0"] {
            mqtt.receive(0, wrong, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        }
    }
}
