//! Devices that write as fast as they are answered and note every answer, and the questions
//! afterwards: whether everything noted is there.

use crate::device::{Device, Wire, body_of, hello, message};
use crate::roost::{PATIENCE, Server};
use roost_protocol::encode;
use roost_protocol::wire::client_frame::Body as Ask;
use roost_protocol::wire::server_frame::Body as Told;
use roost_protocol::wire::{self, ErrorCode};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Builder, JoinHandle};

/// Writers here say as much as the server takes: for its configuration.
pub(crate) const UNHELD: &str = "\
limits.connection_sends_per_second = 1000000
limits.user_sends_per_second = 1000000
limits.sends_burst = 1000000
limits.queries_burst = 1000000
";

/// Messages a writer has on their way; a conversation takes 32.
const WINDOW: u64 = 24;
/// How often a recipient syncs until its list shows what was written.
const SYNCS_MAX: u32 = 20_000;

/// One who writes to one other, as PROTOCOL.md section 9 asks: what is unanswered is repeated
/// with the same numbers.
#[derive(Debug)]
struct Writer {
    name: String,
    to: String,
    connection: u64,
    /// Messages that were sent, answered or not.
    sent: u64,
    /// What each answered message got.
    noted: BTreeMap<u64, (u64, u64)>,
}

/// What the n-th message of a writer says: from a few bytes to some KiB.
fn body(writer: &str, number: u64) -> Vec<u8> {
    let mut body = format!("{writer} {number} ").into_bytes();
    let more = usize::try_from(number.wrapping_mul(0x9e37_79b9) >> 7).unwrap() % 2_000;
    body.resize(body.len() + more, b'.');
    body
}

impl Writer {
    fn first_unanswered(&self) -> u64 {
        (1..).find(|number| !self.noted.contains_key(number)).expect("numbers do not end")
    }

    /// Writes until the server is gone.
    fn write(&mut self, address: SocketAddr, token: &str, noted: &Sender<()>) {
        self.connection += 1;
        let mut wire = Wire::open(address);
        wire.ask(1, Ask::Hello(hello(token, 1, self.connection)));
        match wire.next().map(|frame| frame.body) {
            Some(Some(Told::Welcome(_))) => {}
            // It was gone sooner, or is about to be.
            None => return,
            Some(Some(Told::Error(error)))
                if error.code == i32::from(ErrorCode::ErrorGoingAway) =>
            {
                return;
            }
            other => panic!("{other:?}"),
        }
        let mut next = self.first_unanswered();
        loop {
            let window = self.first_unanswered() + WINDOW;
            let mut frames = Vec::new();
            while next < window {
                if !self.noted.contains_key(&next) {
                    let send = message(&self.to, next, &body(&self.name, next));
                    let id = u32::try_from(next).unwrap();
                    encode::client(id, Ask::Send(send), &mut frames);
                    self.sent = self.sent.max(next);
                }
                next += 1;
            }
            // When it is gone, what it answered before still counts.
            let is_there = frames.is_empty() || wire.try_write(&frames);
            if !self.note(&mut wire, is_there, noted) {
                return;
            }
        }
    }

    /// Notes one answer, or all there are when the server is gone; false at the end.
    fn note(&mut self, wire: &mut Wire, is_there: bool, noted: &Sender<()>) -> bool {
        loop {
            let Some(frame) = wire.next() else { return false };
            match frame.body {
                Some(Told::Send(reply)) => {
                    let number = u64::from(frame.request_id);
                    self.noted.insert(number, (reply.seq, reply.message_id));
                    // Nobody listens any more when the server is being killed.
                    noted.send(()).unwrap_or(());
                }
                Some(Told::GoAway(_)) => {}
                Some(Told::Error(error)) => {
                    assert_eq!(error.code(), ErrorCode::ErrorGoingAway, "{error:?}");
                }
                other => panic!("{other:?}"),
            }
            if is_there {
                return true;
            }
        }
    }

    /// Everything that is not as it should be for the writer and the one written to.
    fn ask(&mut self, server: &Server, wrong: &mut Vec<String>) {
        self.connection += 1;
        let mut own = Device::sign_in_as(server, &self.name, 1, self.connection);
        let there = own.pages(&self.to);
        for (number, (seq, message_id)) in &self.noted {
            let found = there.iter().find(|message| message.seq == *seq);
            let is_it = found.is_some_and(|found| {
                found.message_id == *message_id && body_of(found) == body(&self.name, *number)
            });
            if !is_it {
                wrong.push(format!("{} {number} was acknowledged with {seq}: gone", self.name));
            }
        }
        for (message, seq) in there.iter().zip(1..) {
            if message.seq != seq || seq > self.sent || body_of(message) != body(&self.name, seq) {
                wrong.push(format!("{}: {} stands at the place of {seq}", self.name, message.seq));
            }
        }
        if there.is_empty() {
            return;
        }
        let mut other = Device::sign_in_as(server, &self.to, 1, self.connection);
        let theirs = other.pages(&self.name);
        if theirs.iter().map(body_of).ne(there.iter().map(body_of)) {
            wrong.push(format!("{} and {} see different histories", self.name, self.to));
        }
        if !lists(&mut other, &self.name, there.last().map_or(0, |last| last.seq)) {
            wrong.push(format!("{} is not told of what {} wrote", self.to, self.name));
        }
    }
}

/// Whether the conversation with a peer is in the list of a device, with this head: what is owed
/// from before a crash is told again, which may come after the first question.
fn lists(device: &mut Device, peer: &str, head: u64) -> bool {
    (0..SYNCS_MAX).any(|_| {
        let Told::Sync(sync) = device.ask(Ask::Sync(wire::Sync::default())) else { return false };
        sync.entries.iter().any(|entry| entry.peer == peer && entry.head == head)
    })
}

/// Many who write at once.
#[derive(Debug)]
pub(crate) struct Load {
    writers: Vec<Writer>,
}

impl Load {
    pub(crate) fn new(writers: usize) -> Self {
        let writer = |number: usize| Writer {
            name: format!("writer {number}"),
            to: format!("reader {number}"),
            connection: 0,
            sent: 0,
            noted: BTreeMap::new(),
        };
        Self { writers: (0..writers).map(writer).collect() }
    }

    /// Lets all write until so many more answers are noted; then the server is ended, and what
    /// was on its way to the writers is noted too. What ends it hears of each answer after those.
    pub(crate) fn write_until(
        &mut self,
        server: &Server,
        answers: u64,
        end: impl FnOnce(&Receiver<()>),
    ) {
        let (noted, answered) = mpsc::channel();
        let writers: Vec<JoinHandle<Writer>> = std::mem::take(&mut self.writers)
            .into_iter()
            .map(|mut writer| {
                let (address, noted) = (server.tcp, noted.clone());
                let token = server.token(&writer.name);
                let run = move || {
                    writer.write(address, &token, &noted);
                    writer
                };
                Builder::new().name("writer".to_owned()).spawn(run).unwrap()
            })
            .collect();
        drop(noted);
        for _ in 0..answers {
            answered.recv_timeout(PATIENCE).expect("somebody writes");
        }
        end(&answered);
        self.writers = writers.into_iter().map(|thread| thread.join().unwrap()).collect();
    }

    /// Asks everybody. Gives what is not as it should be.
    pub(crate) fn ask_everybody(&mut self, server: &Server) -> Vec<String> {
        let mut wrong = Vec::new();
        for writer in &mut self.writers {
            writer.ask(server, &mut wrong);
        }
        // Who loses one loses thousands; the first few say it.
        wrong.truncate(20);
        wrong
    }

    pub(crate) fn noted(&self) -> usize {
        self.writers.iter().map(|writer| writer.noted.len()).sum()
    }
}
