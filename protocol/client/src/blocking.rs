//! A session over a std socket, for tests and small tools. It keeps its records in memory only.

use crate::{Command, Config, Credential, Event, Input, Output, Peer, Restored, Session};
use bytes::Bytes;
use roost_protocol::time::{Duration, Instant, Now, Timestamp};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time;

/// A device over a plain TCP connection. Each call blocks; records count as durable at once.
pub struct BlockingClient {
    address: SocketAddr,
    token: String,
    session: Session,
    stream: Option<TcpStream>,
    events: VecDeque<Event>,
    origin: time::Instant,
    /// The session asked for a token; it gets the only one there is, but not in a tight loop.
    token_due: Option<time::Instant>,
}

/// Without the token.
impl std::fmt::Debug for BlockingClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockingClient")
            .field("address", &self.address)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// The longest a read waits.
const READ_MAX: time::Duration = time::Duration::from_millis(100);
/// The shortest: zero means for ever to the system.
const READ_MIN: time::Duration = time::Duration::from_millis(1);
/// How long the session waits for the token.
const TOKEN_AFTER: time::Duration = time::Duration::from_millis(500);
/// How long connecting may take.
const CONNECT_MAX: time::Duration = time::Duration::from_secs(5);

impl BlockingClient {
    /// Connects, and waits until the server has welcomed or refused the device.
    ///
    /// # Errors
    /// The address cannot be resolved, or the server refuses the device, or is silent for 10 s.
    pub fn connect(address: impl ToSocketAddrs, config: Config, token: &str) -> io::Result<Self> {
        Self::restore(address, config, token, Restored::default())
    }

    /// The same for a device with a past, as [`Self::snapshot`] gave it.
    ///
    /// # Errors
    /// As for [`Self::connect`].
    pub fn restore(
        address: impl ToSocketAddrs,
        config: Config,
        token: &str,
        restored: Restored,
    ) -> io::Result<Self> {
        let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let mut client = Self {
            address,
            token: token.to_owned(),
            session: Session::new(config, Credential::Token(token.to_owned()), restored),
            stream: None,
            events: VecDeque::new(),
            origin: monotonic(),
            token_due: None,
        };
        client.feed(Input::Start);
        let deadline = monotonic() + time::Duration::from_secs(10);
        while monotonic() < deadline {
            let settled =
                |event: &Event| matches!(event, Event::Connected(_) | Event::Fatal { .. });
            match client.events.iter().find(|event| settled(event)) {
                Some(Event::Fatal { code, text }) => {
                    let name = roost_protocol::error::name(*code);
                    return Err(io::Error::other(format!("{name}: {text}")));
                }
                Some(_) => return Ok(client),
                None => client.turn(deadline)?,
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Says something; the answer is an event with the tag.
    pub fn send(&mut self, to: Peer, body: impl Into<Bytes>, tag: u64) {
        self.command(Command::Send { to, body: body.into(), tag });
    }

    /// Any other command.
    pub fn command(&mut self, command: Command) {
        self.feed(Input::Command(command));
    }

    /// The next event, or `None` at the deadline.
    ///
    /// # Errors
    /// The socket cannot be set up; a lost connection is an event instead.
    pub fn next_event(&mut self, deadline: time::Instant) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if monotonic() >= deadline {
                return Ok(None);
            }
            self.turn(deadline)?;
        }
    }

    /// The session, to ask for its state.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The device's state, for [`Restored::from_records`].
    #[must_use]
    pub fn snapshot(&self) -> Vec<Vec<u8>> {
        self.session.snapshot()
    }

    /// Waits for bytes or for time to pass, and hands them over.
    fn turn(&mut self, deadline: time::Instant) -> io::Result<()> {
        if self.token_due.is_some_and(|due| due <= monotonic()) {
            self.token_due = None;
            self.feed(Input::Token(self.token.clone()));
        }
        let now = self.now().monotonic;
        let mut wait = deadline.saturating_duration_since(monotonic()).min(READ_MAX);
        if let Some(due) = self.session.next_deadline() {
            wait = wait.min(time::Duration::from_nanos(due.since(now).ns));
        }
        let wait = wait.max(READ_MIN);
        let Some(stream) = self.stream.as_mut() else {
            // Nothing to read from: a channel nobody writes to is a wait with an end.
            let (_sender, receiver) = std::sync::mpsc::channel::<()>();
            let _timed_out = receiver.recv_timeout(wait);
            self.feed(Input::Tick);
            return Ok(());
        };
        stream.set_read_timeout(Some(wait))?;
        let mut buffer = vec![0; 64 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) => self.lost(),
            Ok(length) => self.feed(Input::Received(buffer.get(..length).unwrap_or_default())),
            Err(error) if is_timeout(error.kind()) => self.feed(Input::Tick),
            Err(_) => self.lost(),
        }
        Ok(())
    }

    fn lost(&mut self) {
        self.stream = None;
        self.feed(Input::Disconnected);
    }

    /// Feeds one input and does everything that follows from it.
    fn feed(&mut self, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.session.handle(self.now(), input, &mut outputs);
        let mut queue = VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            let Some(answer) = self.perform(output) else { continue };
            let mut outputs = Vec::new();
            self.session.handle(self.now(), answer, &mut outputs);
            queue.extend(outputs);
        }
    }

    /// Does one thing; gives what has to be fed because of it.
    fn perform(&mut self, output: Output) -> Option<Input<'static>> {
        match output {
            Output::Connect => {
                let connected = TcpStream::connect_timeout(&self.address, CONNECT_MAX)
                    .and_then(|stream| stream.set_nodelay(true).map(|()| stream));
                match connected {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        Some(Input::Connected)
                    }
                    Err(_) => Some(Input::ConnectFailed),
                }
            }
            Output::Transmit(bytes) => match self.stream.as_mut()?.write_all(&bytes) {
                Ok(()) => None,
                Err(_) => {
                    self.stream = None;
                    Some(Input::Disconnected)
                }
            },
            Output::Disconnect => {
                self.stream = None;
                None
            }
            Output::Persist { id, .. } => Some(Input::Persisted(id)),
            Output::NeedToken => {
                self.token_due = Some(monotonic() + TOKEN_AFTER);
                None
            }
            Output::Event(event) => {
                self.events.push_back(event);
                None
            }
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic: Instant::default() + duration(monotonic() - self.origin),
            wall: Timestamp { ms: wall_ms() },
        }
    }
}

const fn is_timeout(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn duration(length: time::Duration) -> Duration {
    Duration { ns: u64::try_from(length.as_nanos()).unwrap_or(u64::MAX) }
}

#[expect(clippy::disallowed_methods, reason = "this file is a driver: it brings the time in")]
fn monotonic() -> time::Instant {
    time::Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this file is a driver: it brings the time in")]
fn wall_ms() -> u64 {
    let since = time::SystemTime::now().duration_since(time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
