//! A handshake under way, and what comes of it.

use crate::adapter::{ClientKernel, Connection, Parts, Step};
use crate::alert::Alert;
use crate::capture::{self, Captured};
use crate::detached::{Beginning, Detached, Role};
use crate::record::any_record;
use crate::secrets::Suite;
use crate::session::{self, Session};
use crate::settings::{ClientSettings, ServerSettings};
use rustls::pki_types::ServerName;
use std::fmt;

/// A handshake under way: some kilobytes, so put a limit on how many there are.
///
/// The input is the caller's buffer: rustls is shown one record of it at a time, so that data that
/// came right behind the handshake stays where it is, for [`Detached::open`].
pub struct Handshake {
    connection: Connection,
    captured: Captured,
    /// Bytes at the start of the input that rustls has seen and still needs.
    shown: usize,
    has_spoken: bool,
    failed: bool,
}

/// How far a handshake got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes at the start of the input that are not needed any more; take them away.
    pub taken: usize,
    /// It is done: call [`Handshake::finish`]. What is left of the input is data.
    pub is_done: bool,
}

/// What a handshake came to.
pub struct Established {
    /// The connection.
    pub detached: Detached,
    /// The name of the protocol that was agreed on, if the client offered any.
    pub protocol: Option<Box<[u8]>>,
    /// Of a server: the name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// Whether a session was resumed.
    pub is_resumed: bool,
    /// Of a client: takes the server's tickets. It is large: drop it when no ticket is wanted, or
    /// when one has come.
    pub ticket_taker: Option<TicketTaker>,
}

impl Handshake {
    /// A server's, before the first byte.
    ///
    /// # Errors
    /// The settings do not fit together, which would be a mistake of ours.
    pub fn server(settings: &ServerSettings) -> Result<Self, HandshakeError> {
        Ok(Self::of(Connection::server(&settings.config)?))
    }

    /// A client's, before its first byte: the first [`Handshake::advance`] says Hello. With a
    /// session of an earlier connection, it is resumed if the server agrees.
    ///
    /// # Errors
    /// As above.
    pub fn client(
        settings: &ClientSettings,
        server: ServerName<'static>,
        session: Option<Session>,
    ) -> Result<Self, HandshakeError> {
        // rustls asks for a session while it makes the connection.
        let made = session::offering(session, || Connection::client(&settings.config, server));
        Ok(Self::of(made?))
    }

    fn of(connection: Connection) -> Self {
        Self {
            connection,
            captured: Captured::default(),
            shown: 0,
            has_spoken: false,
            failed: false,
        }
    }

    /// Goes on with what came; appends what is to be sent. `input` is all bytes that were not taken
    /// before, at the same place in the same order: some of them may have been opened in place.
    ///
    /// # Errors
    /// The handshake failed. What was appended is still to be sent: the alert that says why.
    pub fn advance(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> Result<Progress, HandshakeError> {
        if self.failed {
            return Err(HandshakeError::Internal("it failed before"));
        }
        let before = output.len();
        let outcome = capture::during(&mut self.captured, || {
            advance(&mut self.connection, &mut self.shown, input, output)
        });
        if let Err(error) = &outcome {
            self.failed = true;
            // rustls does not say what is wrong with every message.
            if output.len() == before {
                output.extend_from_slice(&self.refusal(error.alert()));
            }
        }
        self.has_spoken |= output.len() > before;
        outcome
    }

    /// What to send when the caller gives up on it: nothing once something was said, for then only
    /// what is protected would be believed.
    #[must_use]
    pub fn refusal(&self, alert: Alert) -> Vec<u8> {
        if self.has_spoken { Vec::new() } else { alert.in_plain().to_vec() }
    }

    /// Takes the handshake apart, once it is done, and keeps what is needed. Every object of rustls
    /// is dropped here, but for the client's [`TicketTaker`].
    ///
    /// # Errors
    /// It is not done, or the keys are not those of rustls: nothing may be sealed then.
    pub fn finish(self) -> Result<Established, HandshakeError> {
        let role = match &self.connection {
            Connection::Server(_) => Role::Server,
            Connection::Client(_) => Role::Client,
        };
        let protocol = self.connection.protocol();
        let is_resumed = self.connection.is_resumed();
        let Parts { send, receive, kernel } = self.connection.into_parts()?;
        let Captured { server, client, server_name } = self.captured;
        let (Some(server), Some(client)) = (server, client) else {
            return Err(HandshakeError::Internal("rustls did not tell the secrets"));
        };
        let (of_us, of_peer) = match role {
            Role::Server => (&server, &client),
            Role::Client => (&client, &server),
        };
        let suite = if send.is_aes { Suite::Aes128Gcm } else { Suite::ChaCha20Poly1305 };
        let detached = Detached::new(&Beginning {
            role,
            suite,
            send: of_us,
            receive: of_peer,
            send_sequence: send.sequence,
            receive_sequence: receive.sequence,
        });
        let detached = detached.ok_or(HandshakeError::Internal("the cipher library failed"))?;
        let sending = (send.key.as_ref(), send.iv.as_ref());
        let receiving = (receive.key.as_ref(), receive.iv.as_ref());
        if !detached.agrees(sending, receiving) {
            return Err(HandshakeError::Internal("the keys are not those of rustls"));
        }
        Ok(Established {
            detached,
            protocol,
            server_name,
            is_resumed,
            ticket_taker: kernel.map(TicketTaker),
        })
    }
}

fn advance(
    connection: &mut Connection,
    shown: &mut usize,
    input: &mut [u8],
    output: &mut Vec<u8>,
) -> Result<Progress, HandshakeError> {
    let (mut taken, mut is_hopeless) = (0, false);
    loop {
        let (_, rest) = input.split_at_mut_checked(taken).ok_or(MISCOUNTED)?;
        let seen = rest.get_mut(..*shown).ok_or(MISCOUNTED)?;
        let (discarded, step) = connection.step(seen, output);
        taken += discarded;
        *shown = shown.checked_sub(discarded).ok_or(MISCOUNTED)?;
        if step.is_err() {
            let seen = input.get_mut(taken..taken + *shown).ok_or(MISCOUNTED)?;
            last_words(connection, seen, output);
        }
        match step? {
            Step::Again => {}
            Step::Ready if *shown > 0 => {
                return Err(HandshakeError::Internal("a part of a message came with the last"));
            }
            Step::Ready => return Ok(Progress { taken, is_done: true }),
            Step::NeedsMore if is_hopeless => return Err(HandshakeError::NoRecord),
            Step::NeedsMore => {
                let rest = input.get(taken + *shown..).unwrap_or_default();
                match any_record(rest) {
                    None => return Ok(Progress { taken, is_done: false }),
                    Some(Ok(length)) if rest.len() < length => {
                        return Ok(Progress { taken, is_done: false });
                    }
                    Some(Ok(length)) => *shown += length,
                    // rustls says what is wrong with it.
                    Some(Err(())) => {
                        is_hopeless = true;
                        *shown += rest.len();
                    }
                }
            }
        }
    }
}

/// Fetches the alert with which rustls refuses. It is asked for no more than what it has to say:
/// after an error nothing that came is looked at again.
fn last_words(connection: &mut Connection, seen: &mut [u8], output: &mut Vec<u8>) {
    while connection.has_output() {
        if !matches!(connection.step(seen, output), (0, Ok(Step::Again))) {
            return;
        }
    }
}

const MISCOUNTED: HandshakeError = HandshakeError::Internal("the input is not what it was");

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl fmt::Debug for Established {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Established")
            .field("detached", &self.detached)
            .field("is_resumed", &self.is_resumed)
            .finish_non_exhaustive()
    }
}

/// What a client understands a server's tickets with.
pub struct TicketTaker(Box<ClientKernel>);

impl TicketTaker {
    /// Makes a session of a ticket's message. `None`: it is not one, or may not be kept.
    pub fn take(&mut self, ticket: &[u8]) -> Option<Session> {
        session::taking(|| self.0.handle_new_session_ticket(ticket).ok())
    }
}

impl fmt::Debug for TicketTaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketTaker").finish_non_exhaustive()
    }
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq)]
pub enum HandshakeError {
    /// rustls refuses it; the alert that says so is in the output.
    Tls(rustls::Error),
    /// What came is no record.
    NoRecord,
    /// The peer left before it was done.
    PeerClosed,
    /// What must not be.
    Internal(&'static str),
}

impl HandshakeError {
    const fn alert(&self) -> Alert {
        match self {
            Self::Tls(_) | Self::NoRecord => Alert::DecodeError,
            Self::PeerClosed => Alert::CloseNotify,
            Self::Internal(_) => Alert::InternalError,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => error.fmt(f),
            Self::NoRecord => f.write_str("what came is no TLS record"),
            Self::PeerClosed => f.write_str("the peer closed before the handshake was done"),
            Self::Internal(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            Self::NoRecord | Self::PeerClosed | Self::Internal(_) => None,
        }
    }
}
