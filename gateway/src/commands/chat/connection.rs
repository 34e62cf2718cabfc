//! The connection to the server: TCP, or TLS over it. Nothing here blocks but closing, and that at
//! most for a second; names are resolved and sockets connected on a thread of their own.

use super::tls::TlsTarget;
use super::wake::Wake;
use roost_protocol::time::{Duration, Instant};
use rustix::event::{PollFd, PollFlags};
use rustls::ClientConnection;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::{thread, time};

/// How long one address may take to answer.
const CONNECT_TIMEOUT: time::Duration = time::Duration::from_secs(5);
/// How long the handshake of TLS may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_seconds(10);
/// How long closing may take to send what is left.
const CLOSE_TIMEOUT: time::Duration = time::Duration::from_secs(1);
/// What is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// What happened on the connection.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing more for now.
    Nothing,
    /// It is up.
    Connected,
    /// It did not come up.
    Failed(io::Error),
    /// The server's certificate is not trusted; coming back changes nothing.
    Untrusted(rustls::Error),
    /// Bytes came.
    Received(Vec<u8>),
    /// It is gone.
    Lost,
}

/// A connection that may be up.
#[derive(Debug)]
pub(super) struct Connection {
    server: String,
    tls: Option<TlsTarget>,
    wake: Wake,
    results: Receiver<Attempt>,
    report: Sender<Attempt>,
    /// Attempts so far: the result of an older one is dropped.
    attempts: u64,
    link: Link,
    /// What the socket did not take yet; plain connections only.
    unsent: Vec<u8>,
}

#[derive(Debug)]
struct Attempt {
    number: u64,
    result: io::Result<TcpStream>,
}

#[derive(Debug)]
enum Link {
    Down,
    Connecting,
    Handshaking { stream: TcpStream, tls: Box<ClientConnection>, deadline: Instant },
    Plain(TcpStream),
    Tls { stream: TcpStream, tls: Box<ClientConnection> },
}

impl Connection {
    pub(super) fn new(server: &str, tls: Option<TlsTarget>, wake: Wake) -> Self {
        let (report, results) = channel();
        Self {
            server: server.to_owned(),
            tls,
            wake,
            results,
            report,
            attempts: 0,
            link: Link::Down,
            unsent: Vec::new(),
        }
    }

    /// Begins to connect; [`Step::Connected`] or a failure follows.
    pub(super) fn connect(&mut self) -> io::Result<()> {
        self.attempts = self.attempts.saturating_add(1);
        self.unsent.clear();
        self.link = Link::Connecting;
        let (number, server) = (self.attempts, self.server.clone());
        let (report, wake) = (self.report.clone(), self.wake.clone());
        let thread = thread::Builder::new().name("connect".to_owned()).spawn(move || {
            let result = connect(&server);
            // Nobody listens any more when the chat has ended.
            if report.send(Attempt { number, result }).is_ok() {
                wake.ring();
            }
        })?;
        drop(thread);
        Ok(())
    }

    /// What to wait for, besides the wake.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let (stream, writes) = match &self.link {
            Link::Down | Link::Connecting => return None,
            Link::Plain(stream) => (stream, !self.unsent.is_empty()),
            Link::Handshaking { stream, tls, .. } | Link::Tls { stream, tls } => {
                (stream, tls.wants_write())
            }
        };
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, writes);
        Some(PollFd::new(stream, flags))
    }

    /// When [`Self::advance`] is due though nothing came.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match &self.link {
            Link::Handshaking { deadline, .. } => Some(*deadline),
            Link::Down | Link::Connecting | Link::Plain(_) | Link::Tls { .. } => None,
        }
    }

    /// Sends what can be sent and takes the next thing that happened.
    pub(super) fn advance(&mut self, now: Instant) -> Step {
        let step = match &mut self.link {
            Link::Down => return Step::Nothing,
            Link::Connecting => self.take_attempt(now),
            Link::Handshaking { .. } => self.handshake(now),
            Link::Plain(stream) => match write_some(stream, &mut self.unsent) {
                Ok(()) => read_some(stream),
                Err(_) => Step::Lost,
            },
            Link::Tls { stream, tls } => advance_tls(stream, tls),
        };
        if matches!(step, Step::Failed(_) | Step::Untrusted(_) | Step::Lost) {
            self.link = Link::Down;
        }
        step
    }

    fn take_attempt(&mut self, now: Instant) -> Step {
        let attempt = loop {
            match self.results.try_recv() {
                Ok(attempt) if attempt.number == self.attempts => break attempt,
                // Of an attempt that was given up.
                Ok(_) => {}
                Err(_) => return Step::Nothing,
            }
        };
        let stream = match attempt.result {
            Ok(stream) => stream,
            Err(error) => return Step::Failed(error),
        };
        let Some(target) = &self.tls else {
            self.link = Link::Plain(stream);
            return Step::Connected;
        };
        let tls = match ClientConnection::new(target.config.clone(), target.name.clone()) {
            Ok(tls) => Box::new(tls),
            Err(error) => return Step::Untrusted(error),
        };
        self.link = Link::Handshaking { stream, tls, deadline: now + HANDSHAKE_TIMEOUT };
        self.handshake(now)
    }

    fn handshake(&mut self, now: Instant) -> Step {
        let Link::Handshaking { stream, tls, deadline } = &mut self.link else {
            return Step::Nothing;
        };
        if now >= *deadline {
            return Step::Failed(ErrorKind::TimedOut.into());
        }
        while tls.is_handshaking() {
            match handshake_step(stream, tls) {
                Ok(true) => {}
                Ok(false) => return Step::Nothing,
                Err(HandshakeError::Io(error)) => return Step::Failed(error),
                Err(HandshakeError::Tls(error)) => return Step::Untrusted(error),
            }
        }
        let Link::Handshaking { stream, mut tls, .. } =
            std::mem::replace(&mut self.link, Link::Down)
        else {
            unreachable!("looked at above");
        };
        // Bounded by the session: what it has in flight.
        tls.set_buffer_limit(None);
        self.link = Link::Tls { stream, tls };
        Step::Connected
    }

    /// Takes bytes to send; they go out now or with the next [`Self::advance`], which also notices
    /// when they cannot.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        match &mut self.link {
            // It was lost and the session is about to be told, or it was not up.
            Link::Down | Link::Connecting | Link::Handshaking { .. } => {}
            Link::Plain(_) => self.unsent.extend_from_slice(bytes),
            Link::Tls { tls, .. } => {
                let taken = tls.writer().write_all(bytes);
                assert!(taken.is_ok(), "the buffer has no limit");
            }
        }
    }

    /// Sends what was handed over, as far as the server takes it at once, and closes.
    pub(super) fn close(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        let link = std::mem::replace(&mut self.link, Link::Down);
        // Best effort: what is lost here is sent again on the next connection.
        let _done: io::Result<()> = match link {
            Link::Down | Link::Connecting | Link::Handshaking { .. } => Ok(()),
            Link::Plain(mut stream) => {
                make_blocking(&stream).and_then(|()| stream.write_all(&self.unsent))
            }
            Link::Tls { mut stream, mut tls } => {
                tls.send_close_notify();
                make_blocking(&stream).and_then(|()| {
                    while tls.wants_write() {
                        tls.write_tls(&mut stream)?;
                    }
                    Ok(())
                })
            }
        };
        self.unsent.clear();
    }
}

/// Resolves the name and connects to the first address that answers.
fn connect(server: &str) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn make_blocking(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(CLOSE_TIMEOUT))
}

/// Whether there is nothing to do but wait.
fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn write_some(stream: &mut TcpStream, unsent: &mut Vec<u8>) -> io::Result<()> {
    while !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(sent) => drop(unsent.drain(..sent)),
            Err(error) if is_wait(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_some(stream: &mut TcpStream) -> Step {
    let mut buffer = vec![0; READ_BYTES];
    match stream.read(&mut buffer) {
        Ok(0) => Step::Lost,
        Ok(length) => {
            buffer.truncate(length);
            Step::Received(buffer)
        }
        Err(error) if is_wait(&error) => Step::Nothing,
        Err(_) => Step::Lost,
    }
}

#[derive(Debug)]
enum HandshakeError {
    Io(io::Error),
    Tls(rustls::Error),
}

/// Does what can be done; whether anything was.
fn handshake_step(
    stream: &mut TcpStream,
    tls: &mut ClientConnection,
) -> Result<bool, HandshakeError> {
    let mut progress = false;
    while tls.wants_write() {
        match tls.write_tls(stream) {
            Ok(_) => progress = true,
            Err(error) if is_wait(&error) => break,
            Err(error) => return Err(HandshakeError::Io(error)),
        }
    }
    if tls.wants_read() {
        match tls.read_tls(stream) {
            Ok(0) => return Err(HandshakeError::Io(ErrorKind::UnexpectedEof.into())),
            Ok(_) => progress = true,
            Err(error) if is_wait(&error) => return Ok(progress),
            Err(error) => return Err(HandshakeError::Io(error)),
        }
        if let Err(error) = tls.process_new_packets() {
            // The alert that tells the server why.
            let _told = tls.write_tls(stream);
            let is_trust = matches!(error, rustls::Error::InvalidCertificate(_));
            return Err(if is_trust {
                HandshakeError::Tls(error)
            } else {
                HandshakeError::Io(io::Error::other(error))
            });
        }
    }
    Ok(progress)
}

fn advance_tls(stream: &mut TcpStream, tls: &mut ClientConnection) -> Step {
    loop {
        while tls.wants_write() {
            match tls.write_tls(stream) {
                Ok(_) => {}
                Err(error) if is_wait(&error) => break,
                Err(_) => return Step::Lost,
            }
        }
        // First what is there in clear text, then the socket.
        let mut buffer = vec![0; READ_BYTES];
        match tls.reader().read(&mut buffer) {
            Ok(0) => return Step::Lost,
            Ok(length) => {
                buffer.truncate(length);
                return Step::Received(buffer);
            }
            Err(error) if is_wait(&error) => {}
            Err(_) => return Step::Lost,
        }
        match tls.read_tls(stream) {
            // The reader tells a proper end from a cut one; both are the end.
            Ok(0) => return Step::Lost,
            Ok(_) => {}
            Err(error) if is_wait(&error) => return Step::Nothing,
            Err(_) => return Step::Lost,
        }
        if tls.process_new_packets().is_err() {
            let _told = tls.write_tls(stream);
            return Step::Lost;
        }
    }
}
