//! A phone's notification extension: woken by a notification, it connects beside the app as the
//! same device, fetches what is new, acknowledges it and is gone some seconds later. It speaks the
//! protocol by hand and keeps nothing; nobody may push to it.

use crate::network::Party;
use crate::simulation::{Event, MS, Simulation};
use crate::trace::Broken;
use prost::Message as _;
use roost_protocol::encode;
use roost_protocol::frame::FrameReader;
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::limits::FRAME_MAX_BYTES;
use roost_protocol::preface::PREFACE;
use roost_protocol::wire::{self, ErrorCode, client_frame, server_frame};
use std::collections::BTreeMap;

/// How long a phone lets it run, at most.
const LIFE_MS: u64 = 5_000;
/// Conversations that it fetches.
const FETCHES_MAX: usize = 3;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Extension {
    device: usize,
    /// Of its next connection; the app's next one is refused once and goes on behind it.
    number: u64,
    reader: FrameReader,
    /// Its connection, as long as it runs.
    connection: Option<u64>,
    asked: u32,
    /// Pages under way, by request: of which conversation, and behind which record.
    pages: BTreeMap<u32, (ConversationId, u64)>,
}

impl Simulation {
    /// A notification comes to a phone, whether its app runs or not.
    pub(crate) fn act_extension(&mut self, index: usize) {
        let any = self.workload.prng.place(self.devices.len());
        let device = if self.workload.prng.percent(50) { any } else { index };
        let (reader, pages) = (FrameReader::new(), BTreeMap::new());
        let extension = Extension { device, number: 1, reader, connection: None, asked: 1, pages };
        let place = self.extensions.len();
        self.extensions.push(extension);
        self.extension_connects(place);
        let ends = self.workload.prng.range(1, LIFE_MS);
        self.after(ends * MS, Event::ExtensionEnds { extension: place });
    }

    fn extension_name(&self, place: usize) -> String {
        format!("{}'s extension", self.devices[self.extensions[place].device].name)
    }

    fn extension_connects(&mut self, place: usize) {
        let id = self.connect(Party::Extension { extension: place });
        self.extensions[place].connection = Some(id);
        self.extensions[place].reader = FrameReader::new();
        let name = self.extension_name(place);
        self.tell(|| format!("{name} connects"));
    }

    /// The phone ends it.
    pub(crate) fn extension_ends(&mut self, place: usize) {
        if let Some(id) = self.extensions[place].connection.take() {
            let name = self.extension_name(place);
            self.tell(|| format!("{name} is ended"));
            self.client_leaves(id);
        }
    }

    fn is_of_extension(&self, place: usize, id: u64) -> bool {
        self.extensions[place].connection == Some(id)
    }

    pub(crate) fn extension_connected(&mut self, place: usize, id: u64) {
        if !self.is_of_extension(place, id) {
            return;
        }
        let of = &self.extensions[place];
        let device = &self.devices[of.device];
        let mut out = PREFACE.to_vec();
        let hello = wire::Hello {
            token: device.token().to_owned(),
            device: device.id.0.to_vec().into(),
            connection_number: of.number,
            role: wire::Role::Extension.into(),
            client: "simulated/1".to_owned(),
            ..wire::Hello::default()
        };
        encode::client(1, client_frame::Body::Hello(hello), &mut out);
        self.transmit(id, &out);
    }

    /// Its connection is gone, or could not be made.
    pub(crate) fn extension_disconnected(&mut self, place: usize, id: u64) {
        if self.is_of_extension(place, id) {
            self.extensions[place].connection = None;
        }
    }

    pub(crate) fn extension_received(
        &mut self,
        place: usize,
        id: u64,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        if !self.is_of_extension(place, id) {
            return Ok(());
        }
        let mut reader = std::mem::take(&mut self.extensions[place].reader);
        reader.push(bytes);
        let mut out = Vec::new();
        while let Some(content) = reader
            .next_frame(FRAME_MAX_BYTES)
            .map_err(|error| Broken::new(format!("bytes that are no frame: {error:?}")))?
        {
            if !content.is_empty() {
                let frame = wire::ServerFrame::decode(content)
                    .map_err(|error| Broken::new(format!("a frame that is none: {error}")))?;
                self.extension_told(place, frame, &mut out)?;
            }
        }
        if self.is_of_extension(place, id) {
            self.extensions[place].reader = reader;
            if !out.is_empty() {
                self.transmit(id, &out);
            }
        }
        Ok(())
    }

    fn extension_told(
        &mut self,
        place: usize,
        frame: wire::ServerFrame,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let request = frame.request_id;
        match frame.body {
            Some(server_frame::Body::Welcome(_)) => {
                let limit = self.plan.probe_page.0;
                let sync = wire::Sync { cursor: 0, limit };
                self.extension_asks(place, client_frame::Body::Sync(sync), out);
            }
            Some(server_frame::Body::Sync(reply)) => self.extension_chooses(place, &reply, out),
            Some(server_frame::Body::History(page)) => {
                return self.extension_given(place, request, &page, out);
            }
            Some(server_frame::Body::Error(error)) => self.extension_refused(place, &error),
            // The connection's own business.
            Some(server_frame::Body::GoAway(_) | server_frame::Body::TokenExpiring(_)) | None => {}
            Some(other) => {
                let name = self.extension_name(place);
                return Err(Broken::new(format!("{name} is told {other:?}")));
            }
        }
        Ok(())
    }

    fn extension_asks(&mut self, place: usize, body: client_frame::Body, out: &mut Vec<u8>) -> u32 {
        let of = &mut self.extensions[place];
        of.asked += 1;
        encode::client(of.asked, body, out);
        of.asked
    }

    /// Asks for what is new in some conversations. What strangers say is not acknowledged.
    fn extension_chooses(&mut self, place: usize, reply: &wire::SyncReply, out: &mut Vec<u8>) {
        let device = self.extensions[place].device;
        let held: BTreeMap<ConversationId, u64> =
            self.history.read_through(device).into_iter().collect();
        let open = reply.entries.iter().filter(|entry| !entry.left && !entry.request);
        let known = open.filter_map(|entry| ConversationId::from_slice(&entry.conversation));
        let known = known.filter(|id| matches!(id.kind(), KeyKind::Direct | KeyKind::Group));
        for id in known.take(FETCHES_MAX) {
            self.extension_fetches(place, id, held.get(&id).copied().unwrap_or(0), out);
        }
    }

    fn extension_fetches(
        &mut self,
        place: usize,
        id: ConversationId,
        after: u64,
        out: &mut Vec<u8>,
    ) {
        let history = wire::History {
            conversation: id.to_wire(),
            after: Some(after),
            limit: Some(self.plan.probe_page.1),
            ..wire::History::default()
        };
        let request = self.extension_asks(place, client_frame::Body::History(history), out);
        self.extensions[place].pages.insert(request, (id, after));
    }

    /// A page: all of it is true, and then acknowledged.
    fn extension_given(
        &mut self,
        place: usize,
        request: u32,
        page: &wire::HistoryReply,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let name = self.extension_name(place);
        let Some((id, after)) = self.extensions[place].pages.remove(&request) else {
            return Err(Broken::new(format!("{name} is given a page it did not ask for")));
        };
        let device = self.extensions[place].device;
        let user = self.devices[device].user;
        let mut last = after;
        for message in &page.messages {
            if message.seq <= last || message.seq > page.head {
                let seq = message.seq;
                return Err(Broken::new(format!("{name} is given {seq} behind {last} of {id}")));
            }
            last = message.seq;
            self.check_given(user, &name, id, message)?;
            self.note_acknowledged(user, id, last);
        }
        self.tell(|| format!("{name} has {id} from {after} to {last}"));
        if last > after {
            let mark = wire::Mark { conversation: id.to_wire(), seq: last, uncounted: 0 };
            let delivered = wire::Delivered { marks: vec![mark] };
            encode::client(0, client_frame::Body::Delivered(delivered), out);
        }
        if page.more {
            self.extension_fetches(place, id, page.next, out);
        }
        Ok(())
    }

    fn note_acknowledged(&mut self, user: usize, id: ConversationId, seq: u64) {
        self.history.acknowledged.entry((user, id)).or_default().insert(seq);
        let top = self.history.tops.entry((id, user)).or_default();
        *top = seq.max(*top);
    }

    fn extension_refused(&mut self, place: usize, error: &wire::Error) {
        let name = self.extension_name(place);
        let (code, expected) = (error.code(), error.expected_connection_number);
        self.tell(|| format!("{name} is refused: {code:?} {}", error.text));
        if code == ErrorCode::ErrorConnectionSuperseded && expected > self.extensions[place].number
        {
            if let Some(id) = self.extensions[place].connection.take() {
                self.client_leaves(id);
            }
            self.extensions[place].number = expected;
            self.extension_connects(place);
        }
    }
}
