//! Why a server does not start, or ends.

use crate::config::{ConfigError, ListenAddress};
use crate::keys::KeysError;
use crate::shard::auth::token::TokenKeyError;
use roost_storage_engine::OpenError;
use roost_storage_engine::disk::FolderError;
use std::fmt;
use std::path::PathBuf;

/// Why a server did not start, or ended. Each says what to do.
#[derive(Debug)]
#[expect(missing_docs, reason = "the texts below say what each is")]
pub enum ServeError {
    Config(ConfigError),
    Driver(String),
    Data { path: PathBuf, source: std::io::Error },
    Folder(FolderError),
    Keys(KeysError),
    TokenKeys(TokenKeyError),
    Open(OpenError),
    Bind { setting: String, address: ListenAddress, source: std::io::Error },
    Tls { path: PathBuf, what: String },
    Admin(String),
    Thread(std::io::Error),
    Worker(String),
    Signals(std::io::Error),
    Random(String),
    StoreFailed,
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Driver(what) => f.write_str(what),
            Self::Data { path, source } => write!(
                f,
                "cannot make the data folder {}: {source}. Choose another with --data, or make it \
                 writable for this user",
                path.display()
            ),
            Self::Folder(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::TokenKeys(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Bind { setting, address, source } => write!(
                f,
                "cannot listen on {address} ({setting}): {source}. Stop what uses it, or choose \
                 another with {} (port 0 takes a free one)",
                option(setting)
            ),
            Self::Tls { path, what } => write!(
                f,
                "cannot use {} for TLS: {what}. Give a PEM file with tls_certificate and tls_key",
                path.display()
            ),
            Self::Admin(what) => f.write_str(what),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Worker(what) => write!(f, "a shard ended: {what}"),
            Self::Signals(error) => write!(f, "cannot listen for signals: {error}"),
            Self::Random(what) => write!(f, "the system gives no random bytes: {what}"),
            Self::StoreFailed => f.write_str(
                "the store failed (see the log above); what was acknowledged is on disk. Check \
                 the disk, then start again",
            ),
        }
    }
}

impl std::error::Error for ServeError {}

macro_rules! from {
    ($($source:ty => $variant:ident),+) => {$(
        impl From<$source> for ServeError {
            fn from(error: $source) -> Self {
                Self::$variant(error)
            }
        }
    )+};
}

from!(ConfigError => Config, KeysError => Keys, TokenKeyError => TokenKeys, OpenError => Open);

/// How a setting is called where it can be changed.
fn option(setting: &str) -> String {
    if setting.starts_with("listeners") {
        format!("{setting}.address")
    } else {
        format!("--{setting}")
    }
}
