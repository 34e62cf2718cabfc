//! `roost chat`: a device in a terminal or in a script.
//!
//! - What is typed, or comes on stdin, is sent line by line, also to somebody who is offline, also
//!   while there is no connection. Empty lines of a script are messages too; in a terminal they
//!   are not. The end of stdin alone does not end a script: it goes on to receive.
//! - A line that begins with a slash is a command (`slash` knows them all, `/help` lists them); one
//!   that begins with two is a message that begins with one. `--no-commands` makes all messages. In
//!   a script the next line waits for the answer to a command.
//! - What is received is printed, and marked as read when it was printed (not with `--no-read`).
//! - The device's state is in a file, one per server, user and device, so a killed chat loses and
//!   repeats nothing of what it took; `device` says how. Lines that wait in a pipe in front of a
//!   chat that is killed are lost with the pipe: the last line taken is the last one with a `sent`
//!   in this run or the next.
//! - `--exit-when-idle` counts only while the server is reached and has answered everything. While
//!   it is not reached, and nothing is left to send, it leaves after another minute; with something
//!   left it stays.
//! - It ends with an error when the server refuses it for good, when a line was refused, or when it
//!   has to leave without having reached the server at all.

mod ask;
mod cipher;
mod connection;
mod credentials;
mod device;
mod json;
mod json_answers;
mod json_records;
mod lines;
mod names;
mod pending;
mod plain;
mod plain_answers;
mod printer;
mod render;
mod shown;
pub(crate) mod slash;
mod speaking;
mod state_entries;
mod state_file;
mod state_path;
mod status;
mod tls;
mod wake;

pub use state_file::StateError;
pub use tls::TlsError;

use crate::args::ChatArgs;
use crate::keys::KeysError;
use connection::Connection;
use credentials::Credentials;
use device::{Device, Parts};
use names::Names;
use printer::Printer;
use render::Renderer;
use roost_client::{Config, Credential, Restored, Session};
use roost_protocol::ids::DeviceId;
use roost_protocol::time::Duration;
use state_entries::{Owner, Unprinted};
use state_file::StateFile;
use std::io::{self, IsTerminal};
use std::{fmt, thread};
use tls::TlsTarget;
use wake::Wake;

/// What we call ourselves.
const CLIENT: &str = concat!("roost-chat/", env!("CARGO_PKG_VERSION"));

/// Chats until there is a reason to end.
///
/// # Errors
/// See [`ChatError`]; the process should end with code 1.
pub fn run(args: &ChatArgs) -> Result<(), ChatError> {
    let tls = if args.tls {
        Some(TlsTarget::new(&args.server, args.ca.as_deref(), args.data.as_deref())?)
    } else {
        None
    };
    let credentials = match &args.data {
        Some(data) => Credentials::Key {
            data: data.clone(),
            user: args.user.clone(),
            device: args.device.clone(),
        },
        None => Credentials::Token,
    };
    let token = match (credentials.renew()?, &args.token) {
        (Some(token), _) => token,
        (None, Some(token)) => token.clone(),
        // The command line asks for one of the two.
        (None, None) => return Err(ChatError::NoToken),
    };
    let home = open_home(args, token)?;
    let wake = Wake::new().map_err(ChatError::System)?;
    let listening = listen(args, &wake)?;
    let parts = Parts {
        session: home.session,
        state: home.state,
        owner: home.owner,
        connection: Connection::new(&args.server, tls, wake.clone()),
        printer: listening.printer,
        renderer: Renderer::new(args.json, args.user.clone(), home.names),
        credentials,
        typed: listening.typed,
        wake,
        me: args.user.clone(),
        to: args.to.clone(),
        takes_commands: !args.no_commands,
        marks_read: !args.no_read,
        server: args.server.clone(),
        idle: args.exit_when_idle.map(|seconds| Duration::from_seconds(u64::from(seconds))),
        is_interactive: listening.terminal.is_some(),
    };
    let mut device = Device::new(parts, home.unprinted);
    let outcome = device.run();
    if let Some(thread) = listening.terminal
        && !thread.is_finished()
    {
        // The editor has the terminal in raw mode; only its thread can give it back.
        match &outcome {
            Ok(()) => device.say("* done; press Ctrl-D\n"),
            Err(error) => device.say(&format!("! {error}\n* press Ctrl-D\n")),
        }
        drop(device);
        thread.join().map_err(|_| ChatError::System(io::Error::other("the editor failed")))?;
    }
    outcome
}

/// What a device comes back with.
struct Home {
    session: Session,
    state: StateFile,
    owner: Owner,
    unprinted: Option<Unprinted>,
    names: Names,
}

fn open_home(args: &ChatArgs, token: String) -> Result<Home, ChatError> {
    let name = device_name(args, &token)?;
    let path = state_path::path(args, &name)?;
    let (mut state, contents) = StateFile::open(&path)?;
    let is_new = contents.owner.is_none();
    let owner = match contents.owner {
        Some(Owner { user, name: device, .. })
            if (args.user.as_str(), &name) != (&user, &device) =>
        {
            return Err(StateError::OtherOwner { path, user, device }.into());
        }
        Some(owner) => owner,
        None => Owner { device: random()?, user: args.user.as_str().to_owned(), name },
    };
    let mut config = Config::new(CLIENT, u64::from_le_bytes(random()?));
    config.device = Some(if owner.name.is_empty() {
        DeviceId(owner.device)
    } else {
        DeviceId::named(&owner.name)
    });
    let damaged = |error| StateError::Damaged { path: path.clone(), what: format!("{error}") };
    let records = contents.records.iter().map(Vec::as_slice);
    let restored = Restored::from_records(records).map_err(damaged)?;
    let session = Session::new(config, Credential::Token(token), restored);
    let unprinted = contents.unprinted.filter(|lines| lines.printed < lines.text.len());
    let names = Names::restored(contents.names);
    if is_new || (unprinted.is_none() && state.is_bloated(true)) {
        state.compact(&pending::compacted(&owner, &session, names.all()))?;
    }
    Ok(Home { session, state, owner, unprinted, names })
}

/// The name of the device, or nothing. A token decides, so it must not say something else than the
/// command line: the state would mix two devices.
fn device_name(args: &ChatArgs, token: &str) -> Result<String, ChatError> {
    let claims = credentials::peek(token);
    if let Some(token) = claims.sub.filter(|user| user != args.user.as_str()) {
        return Err(ChatError::OtherUser { token });
    }
    match (claims.device, &args.device) {
        (Some(token), Some(device)) if token != *device => Err(ChatError::OtherDevice { token }),
        // Without a claim the name is ours alone.
        (Some(device), _) => Ok(device),
        (None, device) => Ok(device.clone().unwrap_or_default()),
    }
}

/// Where lines come from and go to.
struct Listening {
    typed: Option<std::sync::mpsc::Receiver<lines::Typed>>,
    printer: Printer,
    terminal: Option<thread::JoinHandle<()>>,
}

fn listen(args: &ChatArgs, wake: &Wake) -> Result<Listening, ChatError> {
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if is_terminal && !args.json && !args.receive_only {
        let terminal = lines::from_terminal(wake.clone())
            .map_err(|error| ChatError::System(io::Error::other(error)))?;
        return Ok(Listening {
            typed: Some(terminal.typed),
            printer: Printer::Terminal(terminal.printer),
            terminal: Some(terminal.thread),
        });
    }
    let typed = if args.receive_only {
        None
    } else {
        Some(lines::from_stdin(wake.clone()).map_err(ChatError::System)?)
    };
    let printer = Printer::stdout().map_err(ChatError::Output)?;
    Ok(Listening { typed, printer, terminal: None })
}

fn random<const N: usize>() -> Result<[u8; N], ChatError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ChatError::System(io::Error::other(error)))?;
    Ok(bytes)
}

/// Why a chat ended. The text names the remedy.
#[derive(Debug)]
pub enum ChatError {
    /// The signing key cannot be used.
    Keys(KeysError),
    /// Neither a key nor a token was given.
    NoToken,
    /// The device's state cannot be kept.
    State(StateError),
    /// TLS cannot be used.
    Tls(TlsError),
    /// The server refuses this device.
    Refused {
        /// The code, as PROTOCOL.md names it.
        code: String,
        /// What the server said.
        text: String,
    },
    /// The token names another user.
    OtherUser {
        /// Whom it names.
        token: String,
    },
    /// The token names another device.
    OtherDevice {
        /// Which it names.
        token: String,
    },
    /// The server was never reached.
    Unreachable {
        /// Where it should be.
        server: String,
        /// What the system said last.
        reason: String,
    },
    /// Some lines were refused; each was told of.
    NotSent {
        /// How many.
        lines: u64,
    },
    /// Nobody reads what we print.
    Output(io::Error),
    /// The system refuses something that it should not.
    System(io::Error),
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(error) => error.fmt(f),
            Self::NoToken => f.write_str("give --data DIR or --token TOKEN"),
            Self::State(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Refused { code, text } if code == "replaced" => write!(
                f,
                "the server ended this chat: {text} ({code}); the same device is connected \
                 elsewhere, give one of them another --device"
            ),
            Self::Refused { code, text } if code.starts_with("token_") || code == "signed_out" => {
                write!(
                    f,
                    "the server refuses the token: {text} ({code}); get a new one, or point --data \
                     at the data folder of this very server"
                )
            }
            Self::Refused { code, text } => write!(f, "the server refuses us: {text} ({code})"),
            Self::OtherUser { token } => {
                write!(f, "the token is for {token:?}; give that name with --user")
            }
            Self::OtherDevice { token } => write!(
                f,
                "the token is for the device {token:?}; give that name with --device, or leave it \
                 out"
            ),
            Self::Unreachable { server, reason } => write!(
                f,
                "{server} was not reached: {reason}; is the server running, and is this its \
                 address?"
            ),
            Self::NotSent { lines } => write!(f, "{lines} lines were not sent; each was told of"),
            Self::Output(error) => write!(f, "cannot write to stdout: {error}"),
            Self::System(error) => write!(f, "the system refuses: {error}"),
        }
    }
}

impl std::error::Error for ChatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Keys(error) => Some(error),
            Self::State(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Output(error) | Self::System(error) => Some(error),
            Self::NoToken
            | Self::Refused { .. }
            | Self::OtherUser { .. }
            | Self::OtherDevice { .. }
            | Self::Unreachable { .. }
            | Self::NotSent { .. } => None,
        }
    }
}

impl From<KeysError> for ChatError {
    fn from(error: KeysError) -> Self {
        Self::Keys(error)
    }
}

impl From<StateError> for ChatError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<TlsError> for ChatError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

/// What fails without a word about what was tried is printing.
impl From<io::Error> for ChatError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
