//! XMPP over plain TCP (RFC 6120, 6121): a direct room is messages to each other's full address, a
//! group is a room of multi-user chat (XEP-0045). Each device is a user of its own, who signs in
//! with SASL PLAIN; accounts are registered before anything is measured ([`register`]).
//!
//! Core XMPP accepts nothing. With acknowledgements (XEP-0198) the server says after each message
//! that it has handled it.

mod register;
mod stanza;

pub use register::{RegisterError, register};

use super::layout::{Layout, SeatIndex};
use super::topics::{number, put_number};
use super::{Happened, Heartbeat, Promises, Refusal, Target, read_body};
use crate::swarm::DeviceIndex;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use stanza::{NotXmpp, Piece};
use std::collections::VecDeque;
use std::io::Write as _;
use std::rc::Rc;

/// How often a device says that it is there.
const HEARTBEAT_MS: u32 = 60_000;
const PING: &[u8] = b"<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>";
/// Asks what was handled; no stanza, so it is not counted among them.
const REQUEST: &[u8] = b"<r xmlns='urn:xmpp:sm:3'/>";
const ENABLE: &[u8] = b"<enable xmlns='urn:xmpp:sm:3'/>";
const BIND: &[u8] = b"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
    <resource>b</resource></bind></iq>";
/// Of all users of a run.
const PASSWORD: &str = "roost-bench";
/// The bytes of a body that name a message, and how many letters they are.
const MARK_BYTES: usize = 16;
const MARK_LETTERS: usize = 22;

/// How far a device has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// It waits for what the server can do.
    #[default]
    Opening,
    /// It waits for whether its password is right.
    Authenticating,
    /// It is signed in and waits for what the server can do now.
    Reopening,
    /// It waits for its address.
    Binding,
    /// It waits for so many rooms to let it in.
    Joining(u32),
    /// It waits for acknowledgements to be switched on.
    Enabling,
    Ready,
}

#[derive(Debug, Default)]
struct Device {
    state: State,
    /// Stanzas that came since acknowledgements are on.
    handled: u32,
    /// Messages that the server has acknowledged, and those that it has not.
    acknowledged: u64,
    unanswered: VecDeque<(SeatIndex, u64)>,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Xmpp {
    layout: Rc<Layout>,
    run: String,
    domain: String,
    acknowledges: bool,
    /// What a message begins with, by seat.
    heads: Vec<Box<[u8]>>,
    devices: Vec<Device>,
    letters: String,
}

impl Xmpp {
    /// Users and rooms begin with `run`; `domain` is the host that the server serves.
    #[must_use]
    pub fn new(
        layout: Rc<Layout>,
        devices: u32,
        run: String,
        domain: String,
        acknowledges: bool,
    ) -> Self {
        let head = |seat: SeatIndex| {
            let room = layout.room_of(seat);
            let head = if room.direct && room.seats == 2 {
                let peer = user(&run, layout.other(seat));
                format!("<message to='{peer}@{domain}/b' type='chat'><body>")
            } else {
                let room = layout.seat(seat).room;
                format!("<message to='{run}r{room}@conference.{domain}' type='groupchat'><body>")
            };
            head.into_bytes().into_boxed_slice()
        };
        let heads = (0..layout.seat_count()).map(head).collect();
        let devices = (0..devices).map(|_| Device::default()).collect();
        Self { layout, run, domain, acknowledges, heads, devices, letters: String::new() }
    }

    /// What is said beside its figures.
    #[must_use]
    pub fn differences(durable: bool) -> Vec<String> {
        let durability = if durable {
            "durability: a message is in the archive (XEP-0313) before the server acknowledges it \
             (XEP-0198), but nothing flushes it before: a loss of power loses messages"
        } else {
            "durability: none, and nothing is accepted: a message counts as accepted when it is \
             written"
        };
        [
            durability,
            "a group is a room of multi-user chat, which also sends each message back to its \
             writer; who is in it is told to nobody",
            "messages are XML with text bodies (of at least 22 letters); no second tick",
            "accounts are registered before anything is measured, passwords are kept plain",
        ]
        .map(str::to_owned)
        .into()
    }

    /// The names of all users of a run.
    pub fn users(run: &str, devices: u32) -> impl Iterator<Item = String> {
        let run = run.to_owned();
        (0..devices).map(move |device| user(&run, device))
    }

    fn element(
        &mut self,
        device: DeviceIndex,
        element: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<(), Refusal> {
        let refused = || {
            let said = stanza::excerpt(element);
            Refusal(format!("device {device} was refused by the XMPP server: {said}"))
        };
        let name = stanza::name(element);
        if matches!(name, b"iq" | b"message" | b"presence") {
            let handled = &mut self.devices[device as usize].handled;
            *handled = handled.wrapping_add(1);
            if stanza::attribute(element, b"type") == Some(b"error") {
                return Err(refused());
            }
        }
        let state = self.devices[device as usize].state;
        match (name, state) {
            (b"message", _) => happened.extend(self.arrived(device, element)),
            (b"stream:features", State::Opening) => {
                if !stanza::holds(element, b">PLAIN<") {
                    return Err(Refusal(format!(
                        "device {device}: the XMPP server takes no password over plain TCP; it \
                         says {}",
                        stanza::excerpt(element)
                    )));
                }
                self.sign_in(device, out);
            }
            (b"success", State::Authenticating) => {
                header(&self.domain, out);
                self.devices[device as usize].state = State::Reopening;
            }
            (b"stream:features", State::Reopening) => {
                out.extend_from_slice(BIND);
                self.devices[device as usize].state = State::Binding;
            }
            (b"iq", State::Binding) => self.join(device, out, happened),
            (b"presence", State::Joining(left)) if is_own_presence(element) => {
                self.joined(device, left - 1, out, happened);
            }
            (b"enabled", State::Enabling) => {
                let of = &mut self.devices[device as usize];
                (of.state, of.handled) = (State::Ready, 0);
                happened.push(Happened::Ready);
            }
            (b"r", _) => {
                out.extend_from_slice(b"<a xmlns='urn:xmpp:sm:3' h='");
                put_number(self.devices[device as usize].handled.into(), out);
                out.extend_from_slice(b"'/>");
            }
            (b"a", _) => self.acknowledged(device, element, happened).ok_or_else(refused)?,
            (b"iq", State::Ready) if stanza::attribute(element, b"id") == Some(b"ping") => {
                happened.push(Happened::Echoed);
            }
            (b"failure" | b"failed" | b"stream:error", _) => return Err(refused()),
            _ => {}
        }
        Ok(())
    }

    fn sign_in(&mut self, device: DeviceIndex, out: &mut Vec<u8>) {
        let secret = STANDARD.encode(format!("\0{}\0{PASSWORD}", user(&self.run, device)));
        write!(
            out,
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
        )
        .expect("memory takes all");
        self.devices[device as usize].state = State::Authenticating;
    }

    /// Says that it is there, to all of its groups, too.
    fn join(&mut self, device: DeviceIndex, out: &mut Vec<u8>, happened: &mut Vec<Happened>) {
        out.extend_from_slice(b"<presence/>");
        let mut rooms = 0;
        for seat in self.layout.seats_of(device) {
            let room = self.layout.room_of(*seat);
            if room.direct && room.seats == 2 {
                continue;
            }
            rooms += 1;
            let (run, domain, room) = (&self.run, &self.domain, self.layout.seat(*seat).room);
            write!(
                out,
                "<presence to='{run}r{room}@conference.{domain}/d{device}'>\
                 <x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>"
            )
            .expect("memory takes all");
        }
        self.joined(device, rooms, out, happened);
    }

    fn joined(
        &mut self,
        device: DeviceIndex,
        left: u32,
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) {
        let state = &mut self.devices[device as usize].state;
        if left > 0 {
            *state = State::Joining(left);
        } else if self.acknowledges {
            out.extend_from_slice(ENABLE);
            *state = State::Enabling;
        } else {
            *state = State::Ready;
            happened.push(Happened::Ready);
        }
    }

    /// What it means that the server handled so many of a device's stanzas, which are its messages
    /// alone. None: it handled more than there are.
    fn acknowledged(
        &mut self,
        device: DeviceIndex,
        element: &[u8],
        happened: &mut Vec<Happened>,
    ) -> Option<()> {
        let of = &mut self.devices[device as usize];
        let handled = number(stanza::attribute(element, b"h")?)?;
        if handled == of.acknowledged {
            happened.push(Happened::Echoed);
        }
        while of.acknowledged < handled {
            let (seat, number) = of.unanswered.pop_front()?;
            of.acknowledged += 1;
            happened.push(Happened::Accepted { seat, number, place: number });
        }
        Some(())
    }

    fn arrived(&self, device: DeviceIndex, element: &[u8]) -> Option<Happened> {
        let body = stanza::text(element, b"body")?;
        let mark = STANDARD_NO_PAD.decode(body.get(..MARK_LETTERS)?).ok()?;
        let (author, number) = read_body(&mark)?;
        let author = DeviceIndex::try_from(author).ok()?;
        let mut seats = self.layout.seats_of(device).iter().copied();
        let seat = if stanza::attribute(element, b"type") == Some(b"groupchat") {
            let room = self.room(stanza::attribute(element, b"from")?)?;
            seats.find(|seat| self.layout.seat(*seat).room == room)
        } else {
            seats.find(|seat| {
                let room = self.layout.room_of(*seat);
                room.direct && room.seats == 2 && self.layout.other(*seat) == author
            })
        }?;
        (author != device).then_some(Happened::Arrived { seat, author, number })
    }

    /// Which room has this address.
    fn room(&self, address: &[u8]) -> Option<u32> {
        let rest = address.strip_prefix(self.run.as_bytes())?.strip_prefix(b"r")?;
        let end = rest.iter().position(|byte| *byte == b'@')?;
        u32::try_from(number(&rest[..end])?).ok()
    }
}

/// The user of a device.
fn user(run: &str, device: DeviceIndex) -> String {
    format!("{run}d{device}")
}

/// What a stream begins with.
fn header(domain: &str, out: &mut Vec<u8>) {
    write!(
        out,
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
         to='{domain}' version='1.0'>"
    )
    .expect("memory takes all");
}

/// Whether a room says that it let this device in.
fn is_own_presence(element: &[u8]) -> bool {
    stanza::holds(element, b"code='110'") || stanza::holds(element, b"code=\"110\"")
}

impl Target for Xmpp {
    fn promises(&self) -> Promises {
        Promises { accepts: self.acknowledges, ticks: false, durable: false }
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        // A ping is a stanza and would be counted among the messages.
        let bytes = if self.acknowledges { REQUEST } else { PING };
        Some(Heartbeat { every_ms: HEARTBEAT_MS, bytes })
    }

    fn open(&mut self, _device: DeviceIndex, out: &mut Vec<u8>) {
        header(&self.domain, out);
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
            |NotXmpp| Refusal(format!("device {device}: what came is not what XMPP servers say"));
        while let Some(piece) = stanza::cut(&mut rest).map_err(wrong)? {
            match piece {
                Piece::Element(element) => self.element(device, element, out, happened)?,
                Piece::Begin => {}
                Piece::End => {
                    return Err(Refusal(format!(
                        "device {device}: the XMPP server ended the stream"
                    )));
                }
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn set_up(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) -> u32 {
        0
    }

    fn write(&mut self, seat: SeatIndex, number: u64, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.heads[seat as usize]);
        self.letters.clear();
        STANDARD_NO_PAD.encode_string(&body[..MARK_BYTES], &mut self.letters);
        out.extend_from_slice(self.letters.as_bytes());
        let filled = out.len() + body.len().saturating_sub(MARK_LETTERS);
        out.resize(filled, b'.');
        out.extend_from_slice(b"</body></message>");
        if self.acknowledges {
            let device = self.layout.seat(seat).device;
            self.devices[device as usize].unanswered.push_back((seat, number));
            out.extend_from_slice(REQUEST);
        }
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

    fn xmpp(layout: Layout, acknowledges: bool) -> Xmpp {
        let devices = layout.devices();
        Xmpp::new(Rc::new(layout), devices, "7".to_owned(), "host".to_owned(), acknowledges)
    }

    /// What a device answers to these bytes, and what happened.
    fn told(xmpp: &mut Xmpp, device: DeviceIndex, bytes: &[u8]) -> (String, Vec<Happened>) {
        let (mut out, mut happened) = (Vec::new(), Vec::new());
        assert_eq!(xmpp.receive(device, bytes, &mut out, &mut happened), Ok(bytes.len()));
        (String::from_utf8(out).unwrap(), happened)
    }

    fn sign_in(xmpp: &mut Xmpp, device: DeviceIndex) -> (String, Vec<Happened>) {
        let mut out = Vec::new();
        xmpp.open(device, &mut out);
        assert!(out.starts_with(b"<stream:stream ") && out.ends_with(b"version='1.0'>"));
        let features = b"<?xml version='1.0'?><stream:stream id='1'><stream:features>\
            <mechanisms><mechanism>PLAIN</mechanism></mechanisms></stream:features>";
        let (said, _) = told(xmpp, device, features);
        let secret = STANDARD.encode(format!("\x007d{device}\0roost-bench"));
        assert!(said.ends_with(&format!("mechanism='PLAIN'>{secret}</auth>")), "{said}");
        assert!(told(xmpp, device, b"<success xmlns='s'/>").0.starts_with("<stream:stream "));
        let features = b"<stream:stream id='2'><stream:features><bind/></stream:features>";
        assert!(told(xmpp, device, features).0.contains("<resource>b</resource>"));
        told(xmpp, device, b"<iq type='result' id='bind'><bind><jid>a@host/b</jid></bind></iq>")
    }

    #[test]
    fn a_device_signs_in_and_is_ready_when_it_has_its_address() {
        let mut xmpp = xmpp(Layout::pairs(1), false);
        assert_eq!(sign_in(&mut xmpp, 1), ("<presence/>".to_owned(), vec![Happened::Ready]));
        let echo = b"<iq type='result' id='ping' to='a@host/b'/>";
        assert_eq!(told(&mut xmpp, 1, echo).1, [Happened::Echoed]);
    }

    #[test]
    fn messages_arrive_when_they_are_whole() {
        let mut xmpp = xmpp(Layout::pairs(1), false);
        let (mut out, mut long) = (Vec::new(), [7; 100]);
        long[..16].copy_from_slice(&body(0, 5));
        xmpp.write(0, 5, &long, &mut out);
        let said = String::from_utf8(out.clone()).unwrap();
        assert!(said.starts_with("<message to='7d1@host/b' type='chat'><body>"), "{said}");
        let text = said.split(['<', '>']).nth(4).unwrap();
        assert_eq!(text.len(), 100, "as long as the body");
        for end in 0..out.len() {
            let (mut answer, mut happened) = (Vec::new(), Vec::new());
            assert_eq!(xmpp.receive(1, &out[..end], &mut answer, &mut happened), Ok(0), "{end}");
        }
        let (answer, happened) = told(&mut xmpp, 1, &out);
        assert_eq!(happened, [Happened::Arrived { seat: 1, author: 0, number: 5 }]);
        assert_eq!(answer, "");
        out.clear();
        xmpp.write(0, 6, &body(0, 6), &mut out);
        assert_eq!(told(&mut xmpp, 1, &out).1.len(), 1, "a body may be shorter than its mark");
    }

    #[test]
    fn a_group_is_a_room_that_lets_its_members_in() {
        let mut xmpp = xmpp(Layout::fanout(2), false);
        let (said, happened) = sign_in(&mut xmpp, 2);
        assert!(said.contains("to='7r0@conference.host/d2'") && happened.is_empty(), "{said}");
        let others = b"<presence from='7r0@conference.host/d0'><x><item/></x></presence>";
        assert!(told(&mut xmpp, 2, others).1.is_empty());
        let own = b"<presence from='7r0@conference.host/d2'><x><status code='110'/></x></presence>";
        assert_eq!(told(&mut xmpp, 2, own).1, [Happened::Ready]);
        let mark = STANDARD_NO_PAD.encode(body(0, 9));
        let push = format!(
            "<message from='7r0@conference.host/d0' type='groupchat'><body>{mark}</body></message>"
        );
        let arrived = Happened::Arrived { seat: 2, author: 0, number: 9 };
        assert_eq!(told(&mut xmpp, 2, push.as_bytes()).1, [arrived]);
        assert!(told(&mut xmpp, 0, push.as_bytes()).1.is_empty(), "its own message");
    }

    #[test]
    fn messages_are_acknowledged_in_order_and_what_came_is_too() {
        let mut xmpp = xmpp(Layout::pairs(1), true);
        assert_eq!(sign_in(&mut xmpp, 0), (format!("<presence/>{}", text(ENABLE)), vec![]));
        let enabled = b"<presence from='a'/><enabled xmlns='urn:xmpp:sm:3'/>";
        assert_eq!(told(&mut xmpp, 0, enabled).1, [Happened::Ready]);
        let mut out = Vec::new();
        for number in 1..=3 {
            xmpp.write(0, number, &body(0, number), &mut out);
        }
        assert!(out.ends_with(REQUEST));
        let accepted = |number| Happened::Accepted { seat: 0, number, place: number };
        assert_eq!(told(&mut xmpp, 0, b"<a h='2'/>").1, [accepted(1), accepted(2)]);
        assert_eq!(told(&mut xmpp, 0, b"<a h='2'/>").1, [Happened::Echoed], "a heartbeat's");
        assert_eq!(told(&mut xmpp, 0, b"<a h='3'/>").1, [accepted(3)]);
        let push = b"<message from='x' type='chat'><body>hello</body></message><r xmlns='s'/>";
        assert_eq!(told(&mut xmpp, 0, push).0, "<a xmlns='urn:xmpp:sm:3' h='1'/>");
        xmpp.receive(0, b"<a h='9'/>", &mut Vec::new(), &mut Vec::new()).unwrap_err();
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn refusals_and_nonsense_end_the_run() {
        let wrong_password = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/>\
            <text xml:lang='en'>Invalid username or password</text></failure>";
        let mut of = xmpp(Layout::pairs(1), true);
        let (mut out, mut happened) = (Vec::new(), Vec::new());
        let error = of.receive(0, wrong_password, &mut out, &mut happened).unwrap_err();
        assert!(error.0.contains("<not-authorized/>"), "{error}");
        for wrong in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"<stream:features><starttls><required/></starttls></stream:features>",
            b"<stream:error><conflict/></stream:error>",
            b"<message type='error'><error/></message>",
            b"</stream:stream>",
            b"<a h='1'/>",
        ] {
            let mut of = xmpp(Layout::pairs(1), true);
            of.receive(0, wrong, &mut out, &mut happened).unwrap_err();
        }
    }
}
