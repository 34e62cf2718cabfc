//! What a session is told once.

use crate::limits;
use roost_protocol::ids::DeviceId;
use roost_protocol::time::Duration;
use roost_protocol::wire;

/// How a device wants to see a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Messages strictly in the order of their seq, each once, catching up upward.
    #[default]
    InOrder,
    /// The newest page first, then downward to what the device held before. What lies below the
    /// very first page comes on demand ([`crate::Command::FetchOlder`]).
    Newest,
}

/// What a session is told once, when it is made.
#[derive(Debug, Clone)]
pub struct Config {
    /// 16 random bytes made at install; the server ignores them when the token names a device.
    pub device: Option<DeviceId>,
    /// `app/version os/version`, at most 128 bytes, for the operator.
    pub client: String,
    /// The app itself, or a notification extension of the phone. An extension fetches and
    /// acknowledges only: it sends no messages and never moves the cursor.
    pub role: wire::Role,
    /// Seeds jitter and the ids of messages. A real device takes it from the system's random
    /// source at each start; a simulator from its own, another one for each device and start (two
    /// devices of a user must not give two messages one name).
    pub seed: u64,
    /// The order of [`crate::Event::Message`].
    pub order: Order,
    /// Tell the server *delivered* as soon as messages are persisted.
    pub auto_delivered: bool,
    /// A request without an answer for so long means that the connection is dead.
    pub request_timeout: Duration,
    /// The activity told in the first Hello.
    pub activity: wire::ActivityState,
}

impl Config {
    /// The usual configuration of an app's main session.
    #[must_use]
    pub fn new(client: &str, seed: u64) -> Self {
        Self {
            device: None,
            client: client.to_owned(),
            role: wire::Role::Main,
            seed,
            order: Order::InOrder,
            auto_delivered: true,
            request_timeout: limits::REQUEST_TIMEOUT,
            activity: wire::ActivityState::ActivityForeground,
        }
    }
}

/// What proves who the user is, until the server has given a ticket.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A JWT.
    Token(String),
    /// None yet: a restored ticket, or [`crate::Output::NeedToken`].
    None,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(token) => write!(f, "Token({} bytes)", token.len()),
            Self::None => f.write_str("None"),
        }
    }
}
