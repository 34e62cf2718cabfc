//! What a scenario that carries messages needs of whatever is measured: Roost, or another broker.
//!
//! A [`Target`] is a codec and a small state machine for each device, without sockets: it is given
//! bytes that came to a device and gives bytes that the device is to send, and tells what happened
//! in the scenario's own words ([`Happened`]). The same swarm, on the same event loop, drives all
//! of them, and the same scenario ([`crate::scenario::rooms`]) writes, checks and measures. So
//! figures of two targets differ in the target only.
//!
//! To add a target: implement the trait in a file of its own beside `roost.rs`, map a room to the
//! nearest thing that it has (a topic, a subject, a stream), and say in [`Target::differences`]
//! what that does not promise.

mod again;
pub mod layout;
pub mod mqtt;
pub mod nats;
pub mod redis;
pub mod redis_streams;
mod resp;
pub mod roost;
mod topics;
pub mod websocket;
pub mod xmpp;

pub use layout::{Layout, Room, Seat, SeatIndex};

use crate::swarm::DeviceIndex;
use roost_protocol::time::Instant;
use std::fmt;

/// What a target gives back beside the message itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promises {
    /// It says that it has a message ([`Happened::Accepted`]). Otherwise a message counts as
    /// accepted when it is written.
    pub accepts: bool,
    /// It tells the writer in a room of two that the other side has a message
    /// ([`Happened::Ticked`]).
    pub ticks: bool,
    /// Acceptance means that the message survives a loss of power.
    pub durable: bool,
}

/// How a device says that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Once in so long.
    pub every_ms: u32,
    /// What it says.
    pub bytes: &'static [u8],
}

/// What happened at a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The target took the device in: it may write and will get what others write.
    Ready,
    /// Something of [`Target::set_up`] is done.
    SetUp,
    /// The target has a message of this seat.
    Accepted {
        /// Whose.
        seat: SeatIndex,
        /// Which of its messages.
        number: u64,
        /// Where it stands for [`Happened::Ticked`]: at least 1 and growing with `number`.
        place: u64,
    },
    /// A message came to this seat.
    Arrived {
        /// To whom.
        seat: SeatIndex,
        /// Whose it is.
        author: DeviceIndex,
        /// Which of the author's messages in this room.
        number: u64,
    },
    /// The other side of a room of two has everything of this seat up to a place.
    Ticked {
        /// Whose messages.
        seat: SeatIndex,
        /// Up to there.
        place: u64,
    },
    /// The target answered an [`Act`].
    Acted,
    /// The device asked for what it missed.
    Pulled,
    /// The target refused something for the moment: it is said again later ([`Target::again`]).
    Refused,
    /// The target wants the device to say a [`Heartbeat`] once in so many milliseconds.
    HeartbeatEvery(u32),
    /// The target answered a [`Heartbeat`].
    Echoed,
}

/// What devices do besides writing; a target that has no such thing says so by refusing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Somebody types in the room of this seat.
    Typing(SeatIndex),
    /// Somebody read what came to this seat.
    Read(SeatIndex),
    /// Somebody looks at the last messages of the room of this seat.
    History(SeatIndex),
    /// Somebody wants to know who of the room of this seat is there.
    Presence(SeatIndex),
}

/// Why a device cannot go on; ends the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// See the module's comment. `device` names a device, a seat is a device's place in a room; both
/// are the [`Layout`]'s, which an implementation is made with. Bytes to send are appended to `out`.
pub trait Target: fmt::Debug {
    /// What it gives back.
    fn promises(&self) -> Promises;

    /// What idle devices say, if they must; [`Happened::HeartbeatEvery`] changes how often.
    fn heartbeat(&self) -> Option<Heartbeat>;

    /// Connections of a device. The first ones of all devices come first, then their second ones:
    /// `open`, `receive` and `closed` are told of the connection, whose device is the remainder by
    /// the number of devices. A device writes on its first.
    fn connections_per_device(&self) -> u32 {
        1
    }

    /// A device's connection stands: its first words, among them that it wants what is written
    /// in its rooms. Called again when it comes back after having left.
    fn open(&mut self, device: DeviceIndex, out: &mut Vec<u8>);

    /// Bytes came to a device. Says how many were used up: what is left stands again before the
    /// next bytes. Answers that cannot wait (a protocol's own acknowledgements) go to `out`.
    ///
    /// # Errors
    /// The target refused something, or says what cannot be.
    fn receive(
        &mut self,
        device: DeviceIndex,
        bytes: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<usize, Refusal>;

    /// Every device is ready: what this one has to make before anybody writes (its groups). Gives
    /// the number of [`Happened::SetUp`] to wait for.
    fn set_up(&mut self, device: DeviceIndex, out: &mut Vec<u8>) -> u32;

    /// Writes the message of that number, counted from 1 for each seat. The first 16 bytes of a
    /// body name its author and number ([`read_body`]).
    fn write(&mut self, seat: SeatIndex, number: u64, body: &[u8], out: &mut Vec<u8>);

    /// Tells that this device has everything that came to it, if the target has such a message.
    fn acknowledge(&mut self, device: DeviceIndex, out: &mut Vec<u8>);

    /// Does something else. Gives the number of [`Happened::Acted`] to wait for; none: there is no
    /// such thing here.
    fn act(&mut self, device: DeviceIndex, act: Act, out: &mut Vec<u8>) -> Option<u32> {
        let _: (DeviceIndex, Act, &mut Vec<u8>) = (device, act, out);
        None
    }

    /// Says again what was refused for the moment, if something of it is due, and names the device.
    /// Called once a turn until there is nothing.
    fn again(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<DeviceIndex> {
        let _: (Instant, &mut Vec<u8>) = (now, out);
        None
    }

    /// A connection ended: what it had not finished will not come.
    fn closed(&mut self, device: DeviceIndex) {
        let _: DeviceIndex = device;
    }
}

/// Who wrote a body, and its number.
#[must_use]
pub fn read_body(body: &[u8]) -> Option<(u64, u64)> {
    let (author, rest) = body.split_first_chunk::<8>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*author), u64::from_le_bytes(*number)))
}

/// Puts who wrote a body and its number into its first 16 bytes.
///
/// # Panics
/// The body is shorter.
pub fn mark_body(body: &mut [u8], author: DeviceIndex, number: u64) {
    body[..8].copy_from_slice(&u64::from(author).to_le_bytes());
    body[8..16].copy_from_slice(&number.to_le_bytes());
}

/// Spreads numbers over 64 bits; different ones stay different (`splitmix64`).
#[must_use]
pub const fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of a message by somebody.
    pub(super) fn body(author: DeviceIndex, number: u64) -> [u8; 16] {
        let mut body = [0; 16];
        mark_body(&mut body, author, number);
        body
    }

    #[test]
    fn bodies_say_who_wrote_them() {
        let mut body = [7; 20];
        mark_body(&mut body, 9, 1 << 40);
        assert_eq!((read_body(&body), body[16]), (Some((9, 1 << 40)), 7));
        assert_eq!(read_body(&body[..15]), None);
    }

    #[test]
    fn different_writes_have_different_ids() {
        let ids: std::collections::BTreeSet<u64> = (0..10_000).map(scramble).collect();
        assert!(ids.len() == 10_000 && !ids.contains(&0));
    }
}
