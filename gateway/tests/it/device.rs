//! A device that speaks the wire by hand, over blocking sockets: so it can do what no SDK does.

use crate::roost::{PATIENCE, Server};
use bytes::Bytes;
use prost::Message;
use roost_protocol::encode;
use roost_protocol::frame::FrameReader;
use roost_protocol::limits::FRAME_MAX_BYTES;
use roost_protocol::preface::PREFACE;
use roost_protocol::wire::client_frame::Body as Ask;
use roost_protocol::wire::send::Content;
use roost_protocol::wire::server_frame::Body as Told;
use roost_protocol::wire::{self, ErrorCode, ServerFrame};
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection, without manners.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    reader: FrameReader,
    closed: bool,
}

impl Wire {
    /// Connects and says nothing.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Connects with a kernel that holds little for it, and sends the preface.
    pub(crate) fn narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        let mut wire = Self::over(socket.into());
        wire.write(&PREFACE);
        wire
    }

    /// Connects from one of this machine's addresses, and says nothing.
    pub(crate) fn from(own: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    /// Connects to a Unix socket, and says nothing. What is done with it is the same.
    pub(crate) fn unix(path: &Path) -> Self {
        let stream = OwnedFd::from(UnixStream::connect(path).unwrap());
        Self::with(stream.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self::with(stream)
    }

    fn with(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, reader: FrameReader::new(), closed: false }
    }

    /// Connects and sends the preface.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut wire = Self::silent(address);
        wire.write(&PREFACE);
        wire
    }

    pub(crate) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    #[track_caller]
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Writes as long as the server listens.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, request_id: u32, body: Ask) {
        let mut frame = Vec::new();
        encode::client(request_id, body, &mut frame);
        self.write(&frame);
    }

    /// The next frame; none at the end of the connection, orderly or not.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<ServerFrame> {
        loop {
            while let Some(content) = self.reader.next_frame(FRAME_MAX_BYTES).unwrap() {
                if !content.is_empty() {
                    return Some(ServerFrame::decode(content).unwrap());
                }
            }
            if self.closed {
                return None;
            }
            let mut chunk = vec![0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(count) => self.reader.push(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.closed = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the server says nothing: {error}"),
            }
        }
    }

    /// The error that ends the connection, and the id it answers; then its end.
    #[track_caller]
    fn last_words(&mut self) -> (u32, wire::Error) {
        loop {
            let frame = self.next().expect("an error before the end");
            let Some(Told::Error(error)) = frame.body else { continue };
            assert_eq!(error.class, i32::from(roost_protocol::error::class(error.code())));
            assert_eq!(self.next(), None, "nothing follows the last words");
            return (frame.request_id, error);
        }
    }

    /// Asserts that the connection ends with this error, which answers no request.
    #[track_caller]
    pub(crate) fn ends_with(&mut self, code: ErrorCode) {
        let (request_id, error) = self.last_words();
        assert_eq!((error.code(), request_id), (code, 0), "{error:?}");
    }

    /// Asserts that nothing but an error comes on a new connection; gives it and what it answers.
    #[track_caller]
    pub(crate) fn refused_hello(&mut self) -> (u32, wire::Error) {
        self.last_words()
    }

    /// Sends byte by byte, as slowly as this, until the server says something or closes; gives
    /// how many bytes were sent.
    pub(crate) fn drip(&mut self, bytes: &[u8], pace: Duration) -> usize {
        self.stream.set_read_timeout(Some(pace)).unwrap();
        let is_quiet = |wire: &Self| {
            let peeked = wire.stream.peek(&mut [0]);
            peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        let mut sent = 0;
        for byte in bytes {
            if !self.try_write(&[*byte]) || !is_quiet(self) {
                break;
            }
            sent += 1;
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        sent
    }

    /// Asserts that the connection is open and answers.
    #[track_caller]
    pub(crate) fn is_alive(&mut self) {
        self.ask(u32::MAX, Ask::Sync(wire::Sync::default()));
        loop {
            let frame = self.next().expect("the connection is open");
            if frame.request_id == u32::MAX {
                assert!(matches!(frame.body, Some(Told::Sync(_))), "{frame:?}");
                return;
            }
        }
    }

    /// Asserts that the connection ends, with words or without; gives the code if there was one.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> Option<ErrorCode> {
        let mut code = None;
        while let Some(frame) = self.next() {
            if let Some(Told::Error(error)) = frame.body
                && frame.request_id == 0
            {
                code = Some(error.code());
            }
        }
        code
    }
}

/// A good Hello.
pub(crate) fn hello(token: &str, device: u128, connection_number: u64) -> wire::Hello {
    wire::Hello {
        token: token.to_owned(),
        device: device.to_be_bytes().to_vec().into(),
        connection_number,
        role: wire::Role::Main.into(),
        activity: wire::ActivityState::ActivityForeground.into(),
        client: "it/1".to_owned(),
        ..wire::Hello::default()
    }
}

/// A device that was welcomed.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) wire: Wire,
    pub(crate) welcome: wire::Welcome,
    next_request: u32,
    pushed: VecDeque<Told>,
}

impl Device {
    /// Signs in as the only device of a user, for the first time.
    #[track_caller]
    pub(crate) fn sign_in(server: &Server, user: &str) -> Self {
        Self::sign_in_as(server, user, 1, 1)
    }

    #[track_caller]
    pub(crate) fn sign_in_as(server: &Server, user: &str, device: u128, connection: u64) -> Self {
        // Made before it connects: from then on the time for Hello runs.
        let hello = hello(&server.token(user), device, connection);
        let mut wire = Wire::open(server.tcp);
        wire.ask(1, Ask::Hello(hello));
        Self::welcomed(wire)
    }

    /// Waits for Welcome on a connection that said Hello as request 1.
    #[track_caller]
    pub(crate) fn welcomed(mut wire: Wire) -> Self {
        let frame = wire.next().expect("a Welcome");
        assert_eq!(frame.request_id, 1);
        let Some(Told::Welcome(welcome)) = frame.body else { panic!("refused: {frame:?}") };
        Self { wire, welcome, next_request: 2, pushed: VecDeque::new() }
    }

    /// Asks and waits for the answer; keeps what is pushed meanwhile.
    #[track_caller]
    pub(crate) fn ask(&mut self, body: Ask) -> Told {
        let request_id = self.next_request;
        self.next_request += 1;
        self.wire.ask(request_id, body);
        self.answer(request_id)
    }

    #[track_caller]
    pub(crate) fn answer(&mut self, request_id: u32) -> Told {
        loop {
            let frame = self.wire.next().expect("an answer");
            let body = frame.body.expect("a body");
            if frame.request_id == request_id {
                return body;
            }
            assert_eq!(frame.request_id, 0, "the answer to another request: {body:?}");
            self.pushed.push_back(body);
        }
    }

    /// Asks what is refused; the connection goes on.
    #[track_caller]
    pub(crate) fn refused(&mut self, body: Ask) -> wire::Error {
        match self.ask(body) {
            Told::Error(error) => {
                assert_eq!(error.class, i32::from(roost_protocol::error::class(error.code())));
                error
            }
            other => panic!("taken: {other:?}"),
        }
    }

    /// Sends a message.
    #[track_caller]
    pub(crate) fn send(&mut self, send: wire::Send) -> wire::SendReply {
        match self.ask(Ask::Send(send)) {
            Told::Send(reply) => reply,
            other => panic!("not sent: {other:?}"),
        }
    }

    /// The next push.
    #[track_caller]
    pub(crate) fn push(&mut self) -> Told {
        if let Some(body) = self.pushed.pop_front() {
            return body;
        }
        let frame = self.wire.next().expect("a push");
        assert_eq!(frame.request_id, 0, "an answer to nothing: {frame:?}");
        frame.body.expect("a body")
    }

    /// All of a conversation, which is there.
    #[track_caller]
    pub(crate) fn history(&mut self, user: &str) -> Vec<wire::Message> {
        let all = self.pages(user);
        assert_ne!(all.len(), 0, "there is no conversation with {user}");
        all
    }

    /// All of a conversation; nothing when it is not there.
    #[track_caller]
    pub(crate) fn pages(&mut self, user: &str) -> Vec<wire::Message> {
        let (mut after, mut all) = (0, Vec::new());
        loop {
            let ask = wire::History {
                user: user.to_owned(),
                after: Some(after),
                limit: Some(100),
                ..wire::History::default()
            };
            let page = match self.ask(Ask::History(ask)) {
                Told::History(page) => page,
                Told::Error(error) if error.code() == ErrorCode::ErrorUnknownConversation => {
                    return all;
                }
                other => panic!("no page: {other:?}"),
            };
            all.extend(page.messages);
            if !page.more {
                return all;
            }
            after = page.next;
        }
    }

    /// Goes away, in order.
    pub(crate) fn leave(self) {
        self.wire.stream.shutdown(Shutdown::Both).unwrap();
    }
}

/// A message to a user; its number names it.
pub(crate) fn message(to: &str, number: u64, body: &[u8]) -> wire::Send {
    wire::Send {
        user: to.to_owned(),
        client_message_id: 0x1d00_0000 + number,
        client_sequence: number,
        first: true,
        content: Some(Content::Body(Bytes::copy_from_slice(body))),
        ..wire::Send::default()
    }
}

/// The body of a message.
#[track_caller]
pub(crate) fn body_of(message: &wire::Message) -> &[u8] {
    match &message.content {
        Some(wire::message::Content::Body(body)) => body,
        other => panic!("not a body: {other:?}"),
    }
}

/// Two who chat while somebody else misbehaves.
#[derive(Debug)]
pub(crate) struct Bystanders {
    ann: Device,
    bob: Device,
    said: u64,
}

impl Bystanders {
    #[track_caller]
    pub(crate) fn new(server: &Server) -> Self {
        Self::of(Device::sign_in(server, "ann"), Device::sign_in(server, "bob"))
    }

    /// The users `ann` and `bob`, who have not met.
    #[track_caller]
    pub(crate) fn of(ann: Device, bob: Device) -> Self {
        let mut pair = Self { ann, bob, said: 0 };
        // They say nothing while others misbehave, which takes a slow machine longer than a device
        // in front of somebody may be silent.
        let activity = || wire::Activity { state: wire::ActivityState::ActivityBackground.into() };
        for device in [&mut pair.ann, &mut pair.bob] {
            device.wire.ask(0, Ask::Activity(activity()));
        }
        pair.chat();
        pair
    }

    /// One message from Ann to Bob, pushed and ticked.
    #[track_caller]
    pub(crate) fn chat(&mut self) {
        self.said += 1;
        let body = format!("message {}", self.said);
        let reply = self.ann.send(message("bob", self.said, body.as_bytes()));
        assert_eq!(reply.seq, self.said);
        self.arrives(&reply.conversation, body.as_bytes());
    }

    /// Waits until Bob has what Ann said last: pushed, or pulled when pushes were dropped.
    #[track_caller]
    fn arrives(&mut self, conversation: &[u8], body: &[u8]) {
        loop {
            match self.bob.push() {
                // Others may write to Bob as well, and what was pulled may be pushed still.
                Told::Message(message)
                    if message.conversation == conversation && message.seq == self.said =>
                {
                    assert_eq!(body_of(&message), body);
                    return;
                }
                Told::Behind(_) => {
                    let history = self.bob.history("ann");
                    if history.last().map(body_of) == Some(body) {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// Asserts that nobody told Ann how far Bob is: he did not say.
    #[track_caller]
    pub(crate) fn saw_no_receipts(&self) {
        let receipts = |told: &&Told| matches!(told, Told::Receipts(_));
        assert_eq!(self.ann.pushed.iter().find(receipts), None);
    }

    /// Asserts that they still chat, and that nothing they said was lost.
    #[track_caller]
    pub(crate) fn are_unharmed(&mut self) {
        self.chat();
        let history = self.bob.history("ann");
        let expected: Vec<String> = (1..=self.said).map(|n| format!("message {n}")).collect();
        let said: Vec<&[u8]> = history.iter().map(body_of).collect();
        assert_eq!(said, expected.iter().map(String::as_bytes).collect::<Vec<_>>());
    }
}
