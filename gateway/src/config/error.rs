//! What is said about settings that cannot be.

use super::ListenAddress;
use crate::limits::LimitsError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fmt, io};

/// Why a server cannot be started like this. The text names the setting and the remedy.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a configuration file.
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, column and reason.
        error: Box<toml::de::Error>,
    },
    /// Nobody could connect.
    NoListener,
    /// Messages and tokens would be readable on the network.
    PlaintextExposed {
        /// Which setting.
        setting: String,
        /// Where.
        address: SocketAddr,
    },
    /// Whoever reaches it could read the metrics.
    AdminExposed {
        /// Where.
        address: SocketAddr,
    },
    /// Two listeners want one address.
    SameAddress {
        /// A setting, and what it says.
        first: (String, ListenAddress),
        /// Another.
        second: (String, ListenAddress),
    },
    /// What a listener says contradicts itself.
    Listener {
        /// Which one.
        setting: String,
        /// What, and what to do.
        what: &'static str,
    },
    /// More listeners than make sense.
    ManyListeners {
        /// How many there may be.
        max: usize,
    },
    /// A certificate without a key, or the other way round.
    HalfPair {
        /// What is set.
        present: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// More certificates than make sense.
    ManyCertificates {
        /// How many there may be.
        max: usize,
    },
    /// Client certificates that nobody could have issued.
    NoClientCa,
    /// Two keys with one name.
    KidRepeated {
        /// The name.
        kid: String,
    },
    /// A setting that only makes sense with the app's own keys.
    KeysMissing {
        /// Which setting.
        setting: &'static str,
    },
    /// A setting that says nothing.
    Empty {
        /// Which setting.
        setting: &'static str,
    },
    /// A number out of its range, or numbers that contradict each other.
    Number(LimitsError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => {
                write!(f, "cannot read {}: {source}; check --config", path.display())
            }
            Self::Syntax { path, error } => {
                write!(f, "{} does not hold settings: {error}", path.display())
            }
            Self::NoListener => {
                f.write_str("tcp and tls are both off; give one of them an address, or a listener")
            }
            Self::PlaintextExposed { setting, address } => write!(
                f,
                "{setting} is {address}, which other machines reach, and tokens would pass \
                 unencrypted; use tls there, or a loopback address, or say --allow-plaintext"
            ),
            Self::AdminExposed { address } => write!(
                f,
                "admin is {address}, which other machines reach, and it asks nobody who they are; \
                 choose a loopback address, as 127.0.0.1:{}, and a proxy in front of it",
                address.port()
            ),
            Self::SameAddress { first: (first, one), second: (second, other) } if one == other => {
                write!(f, "{first} and {second} are both {one}; give each its own port")
            }
            Self::SameAddress { first: (first, one), second: (second, other) } => write!(
                f,
                "{first} is {one} and {second} is {other}, and one takes what is meant for the \
                 other ([::] takes IPv4 as well); give each its own port"
            ),
            Self::Listener { setting, what } => write!(f, "{setting} {what}"),
            Self::ManyListeners { max } => {
                write!(f, "listeners has more than {max} entries; remove some")
            }
            Self::HalfPair { present, missing } => write!(
                f,
                "{present} is set and {missing} is not; set both, or neither to use the \
                 development certificate"
            ),
            Self::ManyCertificates { max } => {
                write!(f, "there are more than {max} certificates; remove some")
            }
            Self::NoClientCa => f.write_str(
                "tls_client_certificates is set and tls_client_ca is not; name the file of the \
                 authorities that issue them, or remove it",
            ),
            Self::KidRepeated { kid } => {
                write!(f, "auth.keys has the kid {kid:?} twice; give each key its own")
            }
            Self::KeysMissing { setting } => write!(
                f,
                "{setting} is set and auth.keys is empty; tokens of `roost token` do not carry it; \
                 add the app's key to auth.keys, or remove {setting}"
            ),
            Self::Empty { setting } => write!(f, "{setting} is empty; say something or remove it"),
            Self::Number(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Syntax { error, .. } => Some(error),
            Self::Number(error) => Some(error),
            Self::NoListener
            | Self::PlaintextExposed { .. }
            | Self::AdminExposed { .. }
            | Self::SameAddress { .. }
            | Self::Listener { .. }
            | Self::ManyListeners { .. }
            | Self::HalfPair { .. }
            | Self::ManyCertificates { .. }
            | Self::NoClientCa
            | Self::KidRepeated { .. }
            | Self::KeysMissing { .. }
            | Self::Empty { .. } => None,
        }
    }
}
