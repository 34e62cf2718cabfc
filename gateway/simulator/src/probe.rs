//! An observer that speaks the protocol by hand: it connects as one more device of a user, asks
//! for the whole list and the whole history, and decides nothing. What it reads is the truth that
//! everybody's view is held against. Directed tests use it to say what no good device says.

use crate::token;
use bytes::Bytes;
use prost::Message as _;
use roost_protocol::encode;
use roost_protocol::frame::FrameReader;
use roost_protocol::ids::ConversationId;
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
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) user: String,
    pub(crate) progress: Progress,
    pub(crate) seen: Vec<Seen>,
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
    /// A probe of a user; `number` rises with each.
    pub(crate) fn new(user: &str, number: u64, issued_s: u64) -> Self {
        Self {
            user: user.to_owned(),
            progress: Progress::Asking,
            seen: Vec::new(),
            token: token::token(user, issued_s),
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
        // Pushes and everything else say nothing to a probe.
        if let Some(server_frame::Body::Welcome(_)) = frame.body {
            self.sync(0, out);
        } else if let Some(server_frame::Body::Sync(reply)) = frame.body {
            self.take_entries(reply, out);
        } else if let Some(server_frame::Body::History(reply)) = frame.body {
            self.take_page(reply, out);
        } else if let Some(server_frame::Body::Error(error)) = frame.body {
            // Two who ask for the same at the same time would do so for ever.
            if error.code() == wire::ErrorCode::ErrorBusy
                && let Some(last) = self.last.take()
            {
                return self.ask(last, out);
            }
            self.fail(&format!("{:?}: {}", error.code(), error.text));
        }
    }

    fn take_entries(&mut self, reply: wire::SyncReply, out: &mut Vec<u8>) {
        for entry in reply.entries {
            if let Some(id) = ConversationId::from_slice(&entry.conversation) {
                self.seen.push(Seen { id, entry, messages: Vec::new(), head: 0 });
            }
        }
        if reply.more { self.sync(reply.cursor, out) } else { self.history(0, out) }
    }

    fn take_page(&mut self, reply: wire::HistoryReply, out: &mut Vec<u8>) {
        let Some(seen) = self.seen.get_mut(self.reading) else { return };
        seen.messages.extend(reply.messages);
        seen.head = reply.head;
        if reply.more {
            self.history(reply.next, out);
        } else {
            self.reading += 1;
            self.history(0, out);
        }
    }

    fn sync(&mut self, cursor: u64, out: &mut Vec<u8>) {
        self.ask(client_frame::Body::Sync(wire::Sync { cursor, limit: 2 }), out);
    }

    fn history(&mut self, after: u64, out: &mut Vec<u8>) {
        let Some(seen) = self.seen.get(self.reading) else {
            self.progress = Progress::Done;
            return;
        };
        let history = wire::History {
            conversation: Bytes::copy_from_slice(&seen.id.to_bytes()),
            after: Some(after),
            limit: Some(7),
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
