//! An observer that speaks the protocol by hand: it connects as one more device of a user, asks
//! for the whole list and the whole history, and decides nothing. What it reads is the truth that
//! everybody's view is held against. Directed tests use it to say what no good device says.

use crate::token;
use prost::Message as _;
use roost_protocol::encode;
use roost_protocol::frame::FrameReader;
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::limits::FRAME_MAX_BYTES;
use roost_protocol::preface::PREFACE;
use roost_protocol::wire::{self, client_frame, server_frame};

/// How far a probe is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It asks.
    Asking,
    /// It has read everything.
    Done,
    /// It must be tried again.
    Failed(String),
}

/// One conversation as the server tells it to somebody new.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: ConversationId,
    pub(crate) entry: wire::Entry,
    pub(crate) messages: Vec<wire::Message>,
    pub(crate) head: u64,
    /// Of a group that the user is in.
    pub(crate) members: Vec<wire::Member>,
    /// How far they have got, of the newest record.
    pub(crate) receipts: Vec<wire::MemberReceipt>,
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) user: String,
    pub(crate) progress: Progress,
    pub(crate) seen: Vec<Seen>,
    pub(crate) blocks: Vec<String>,
    pub(crate) devices: Vec<wire::Device>,
    /// Entries and messages of a page.
    page: (u32, u32),
    token: String,
    device: [u8; 16],
    number: u64,
    reader: FrameReader,
    asked: u32,
    /// What was asked last.
    last: Option<client_frame::Body>,
    /// The conversation whose history is being read.
    reading: usize,
}

impl Probe {
    /// A probe of a user; `number` rises with each. It asks for so many entries and messages a
    /// page.
    pub(crate) fn new(user: &str, number: u64, issued_s: u64, page: (u32, u32)) -> Self {
        Self {
            user: user.to_owned(),
            progress: Progress::Asking,
            seen: Vec::new(),
            blocks: Vec::new(),
            devices: Vec::new(),
            page,
            token: token::token(user, issued_s, token::LONG_S),
            device: [0xee; 16],
            number,
            reader: FrameReader::new(),
            asked: 1,
            last: None,
            reading: 0,
        }
    }

    pub(crate) fn fail(&mut self, why: &str) {
        if self.progress == Progress::Asking {
            self.progress = Progress::Failed(why.to_owned());
        }
    }

    /// The first bytes of a connection.
    pub(crate) fn hello(&self) -> Vec<u8> {
        let mut out = PREFACE.to_vec();
        let hello = wire::Hello {
            token: self.token.clone(),
            device: self.device.to_vec().into(),
            connection_number: self.number,
            client: "probe".to_owned(),
            ..wire::Hello::default()
        };
        encode::client(1, client_frame::Body::Hello(hello), &mut out);
        out
    }

    /// Takes bytes; gives what to ask next.
    pub(crate) fn received(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut reader = std::mem::take(&mut self.reader);
        reader.push(bytes);
        let mut out = Vec::new();
        loop {
            match reader.next_frame(FRAME_MAX_BYTES) {
                Ok(Some([])) => {}
                Ok(Some(content)) => match wire::ServerFrame::decode(content) {
                    Ok(frame) => self.take(frame, &mut out),
                    Err(error) => self.fail(&format!("a frame that is none: {error}")),
                },
                Ok(None) => break,
                Err(error) => {
                    self.fail(&format!("bytes that are no frame: {error:?}"));
                    break;
                }
            }
        }
        self.reader = reader;
        out
    }

    fn take(&mut self, frame: wire::ServerFrame, out: &mut Vec<u8>) {
        // Pushes say nothing to a probe.
        if frame.request_id == 0 && !matches!(frame.body, Some(server_frame::Body::Error(_))) {
            return;
        }
        match frame.body {
            Some(server_frame::Body::Welcome(_)) => self.sync(0, out),
            Some(server_frame::Body::Sync(reply)) => self.take_entries(reply, out),
            Some(server_frame::Body::History(reply)) => self.take_page(reply, out),
            Some(server_frame::Body::MemberList(list)) => self.take_members(list, out),
            Some(server_frame::Body::ReceiptDetails(reply)) => self.take_receipts(reply, out),
            Some(server_frame::Body::BlockList(list)) => {
                self.blocks.extend(list.users);
                self.ask(client_frame::Body::ListDevices(wire::ListDevices {}), out);
            }
            Some(server_frame::Body::DeviceList(list)) => {
                self.devices = list.devices;
                self.progress = Progress::Done;
            }
            Some(server_frame::Body::Error(error)) => self.take_error(&error, out),
            Some(_) | None => {}
        }
    }

    fn take_error(&mut self, error: &wire::Error, out: &mut Vec<u8>) {
        // Two who ask for the same at the same time would do so for ever.
        if error.code() == wire::ErrorCode::ErrorBusy
            && let Some(last) = self.last.take()
        {
            return self.ask(last, out);
        }
        // A channel that was left tells nothing any more.
        let left = self.seen.get(self.reading).is_some_and(|seen| seen.entry.left);
        if error.code() == wire::ErrorCode::ErrorUnknownConversation && left {
            return self.next_conversation(out);
        }
        self.fail(&format!("{:?}: {}", error.code(), error.text));
    }

    fn take_members(&mut self, list: wire::MemberList, out: &mut Vec<u8>) {
        let Some(seen) = self.seen.get_mut(self.reading) else { return };
        seen.members.extend(list.members);
        let after_member = seen.members.last().map_or(0, |member| member.member);
        if list.more {
            return self.list_members(after_member, out);
        }
        self.receipt_details(0, out);
    }

    fn take_receipts(&mut self, reply: wire::ReceiptDetailsReply, out: &mut Vec<u8>) {
        let Some(seen) = self.seen.get_mut(self.reading) else { return };
        seen.receipts.extend(reply.members);
        let after_member = seen.receipts.last().map_or(0, |member| member.member);
        if reply.more {
            self.receipt_details(after_member, out)
        } else {
            self.next_conversation(out)
        }
    }

    fn list_members(&mut self, after_member: u32, out: &mut Vec<u8>) {
        let Some(seen) = self.seen.get(self.reading) else { return };
        let conversation = seen.id.to_wire();
        let list = wire::ListMembers { conversation, after_member, limit: self.page.0 };
        self.ask(client_frame::Body::ListMembers(list), out);
    }

    fn receipt_details(&mut self, after_member: u32, out: &mut Vec<u8>) {
        let Some(seen) = self.seen.get(self.reading) else { return };
        let conversation = seen.id.to_wire();
        let details = wire::ReceiptDetails { conversation, seq: seen.head, after_member };
        self.ask(client_frame::Body::ReceiptDetails(details), out);
    }

    fn next_conversation(&mut self, out: &mut Vec<u8>) {
        self.reading += 1;
        self.history(0, out);
    }

    fn take_entries(&mut self, reply: wire::SyncReply, out: &mut Vec<u8>) {
        for entry in reply.entries {
            if let Some(id) = ConversationId::from_slice(&entry.conversation) {
                let (messages, members, receipts) = (Vec::new(), Vec::new(), Vec::new());
                self.seen.push(Seen { id, entry, messages, head: 0, members, receipts });
            }
        }
        if reply.more { self.sync(reply.cursor, out) } else { self.history(0, out) }
    }

    fn take_page(&mut self, reply: wire::HistoryReply, out: &mut Vec<u8>) {
        let Some(seen) = self.seen.get_mut(self.reading) else { return };
        seen.messages.extend(reply.messages);
        seen.head = reply.head;
        let in_group = seen.id.kind() == KeyKind::Group && !seen.entry.left;
        if reply.more {
            self.history(reply.next, out);
        } else if in_group {
            self.list_members(0, out);
        } else {
            self.next_conversation(out);
        }
    }

    fn sync(&mut self, cursor: u64, out: &mut Vec<u8>) {
        self.ask(client_frame::Body::Sync(wire::Sync { cursor, limit: self.page.0 }), out);
    }

    fn history(&mut self, after: u64, out: &mut Vec<u8>) {
        let Some(seen) = self.seen.get(self.reading) else {
            let blocks = wire::ListBlocks { after: String::new(), limit: 100 };
            return self.ask(client_frame::Body::ListBlocks(blocks), out);
        };
        let history = wire::History {
            conversation: seen.id.to_wire(),
            after: Some(after),
            limit: Some(self.page.1),
            ..wire::History::default()
        };
        self.ask(client_frame::Body::History(history), out);
    }

    fn ask(&mut self, body: client_frame::Body, out: &mut Vec<u8>) {
        self.asked += 1;
        self.last = Some(body.clone());
        encode::client(self.asked, body, out);
    }
}
