//! The settings of a server: command line over file over defaults, checked and complete.
//!
//! Every error names the setting and what to do. Files are opened by [`FileConfig::read`] alone;
//! what is decided here depends on nothing but its arguments.

mod error;
mod listeners;

pub use error::ConfigError;
pub use listeners::{ListenAddress, ListenerConfig, ListenerFile, SocketMode};

use crate::args::ServeArgs;
use crate::keys::{TlsFiles, TokenKeyFile};
use crate::limits::{Limits, LimitsError, LimitsFile};
use crate::shard::auth::token::TokenRules;
use clap::ValueEnum;
use serde::Deserialize;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where messages and keys are kept unless said otherwise.
pub const DATA_DEFAULT: &str = "./roost-data";
/// Bytes of a segment file unless said otherwise.
pub const SEGMENT_DEFAULT_BYTES: u32 = 64 * 1024 * 1024;

/// A message id names 64 nodes of 16 shards.
const SHARDS_MAX: u64 = 16;
const TCP_PORT: u16 = 4000;
const TLS_PORT: u16 = 4443;
const ADMIN_PORT: u16 = 4080;
/// Certificates, at most.
const CERTIFICATES_MAX: usize = 1_000;

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Whoever has none is refused.
    #[default]
    Required,
    /// Whoever has a wrong one is refused.
    Optional,
}

/// Whose client certificates are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCa {
    /// Certificates of authorities in PEM.
    pub file: PathBuf,
    /// Whoever has none is refused.
    pub are_required: bool,
}

/// How the server talks to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// io_uring where the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring, or do not start.
    Uring,
    /// epoll.
    Epoll,
}

/// When a message counts as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Durability {
    /// When its record is on the disk.
    #[default]
    Fsync,
    /// When it is written; flushed this often. What is younger is lost when the machine stops,
    /// not when the process does.
    Interval {
        /// Between two flushes, 1 to 10,000.
        ms: u32,
    },
}

impl FromStr for Durability {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "fsync" {
            return Ok(Self::Fsync);
        }
        let ms = text.strip_prefix("interval=").and_then(|ms| ms.parse().ok());
        match ms {
            Some(ms @ 1..=10_000) => Ok(Self::Interval { ms }),
            _ => Err("write fsync, or interval=MS with 1 to 10000 milliseconds"),
        }
    }
}

impl TryFrom<String> for Durability {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A listener's setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// No such listener.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl Listen {
    const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }

    const fn local(port: u16) -> Self {
        Self::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| "write an IP address and a port, 127.0.0.1:4000 or [::1]:4000, or off")
    }
}

impl TryFrom<String> for Listen {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The configuration file, as it stands. Paths in it are relative to where the server is started.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The folder of messages and keys.
    pub data: Option<PathBuf>,
    /// The plain listener.
    pub tcp: Option<Listen>,
    /// The TLS listener.
    pub tls: Option<Listen>,
    /// Further listeners.
    #[serde(default)]
    pub listeners: Vec<ListenerFile>,
    /// The admin listener.
    pub admin: Option<Listen>,
    /// How many shards; one per core when absent.
    pub shards: Option<u8>,
    /// How to talk to the kernel.
    pub driver: Option<Driver>,
    /// When a message counts as kept.
    pub durability: Option<Durability>,
    /// Commits come before the shards' own work, where the system allows it; absent means so.
    pub real_time_commits: Option<bool>,
    /// Log lines as JSON.
    #[serde(default)]
    pub json: bool,
    /// Plain TCP on an address that other machines reach.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The certificate chain in PEM, the server's own first.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key in PEM.
    pub tls_key: Option<PathBuf>,
    /// Further certificates, for other names.
    #[serde(default)]
    pub tls_certificates: Vec<TlsFiles>,
    /// Authorities of client certificates, in PEM. Without it none are asked for.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether a client must have one.
    pub tls_client_certificates: Option<ClientCertificates>,
    /// The system may write the process's memory, keys included, into a core file.
    #[serde(default)]
    pub core_dumps: bool,
    /// Bytes of a segment file, 1 MiB to 1 GiB.
    pub segment_bytes: Option<u32>,
    /// Who may enter.
    #[serde(default)]
    pub auth: AuthFile,
    /// Bounds.
    #[serde(default)]
    pub limits: LimitsFile,
}

/// `[auth]` of the configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthFile {
    /// `[[auth.keys]]`: what tokens are checked with. Without any, the data folder's own key.
    #[serde(default)]
    pub keys: Vec<TokenKeyFile>,
    /// `aud` of a token must hold this.
    pub audience: Option<String>,
    /// `iss` of a token must be this.
    pub issuer: Option<String>,
    /// How far apart the clocks of issuer and server may be: 0 to 600 s.
    pub leeway_s: Option<u64>,
    /// Separates users of the same name of different apps. Never change it: users' keys follow
    /// from it.
    pub tenant: Option<String>,
}

impl FileConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is not such a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Understands a file's text; the path is for the error.
    ///
    /// # Errors
    /// It is no TOML, has a setting that does not exist, or a value of the wrong kind.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text)
            .map_err(|error| ConfigError::Syntax { path: path.to_owned(), error: Box::new(error) })
    }
}

/// Who may enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// What tokens are checked with; none means the data folder's own key.
    pub keys: Vec<TokenKeyFile>,
    /// What else a token must say.
    pub rules: TokenRules,
    /// For the keys of users; empty by default.
    pub tenant: String,
}

/// Everything a server must be told, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder of messages and keys.
    pub data: PathBuf,
    /// The plain listener, if any.
    pub tcp: Option<SocketAddr>,
    /// The TLS listener, if any.
    pub tls: Option<SocketAddr>,
    /// Further listeners.
    pub listeners: Vec<ListenerConfig>,
    /// The admin listener, if any.
    pub admin: Option<SocketAddr>,
    /// How many shards, 1 to 255; none means one per usable core.
    pub shards: Option<u8>,
    /// How to talk to the kernel.
    pub driver: Driver,
    /// When a message counts as kept.
    pub durability: Durability,
    /// Commits come before the shards' own work, where the system allows it.
    pub real_time_commits: bool,
    /// Log lines as JSON.
    pub json: bool,
    /// The operator's certificates, the one for unknown names first; none means the development
    /// certificate of the data folder.
    pub tls_files: Vec<TlsFiles>,
    /// Whose client certificates are good, if any are asked for.
    pub client_ca: Option<ClientCa>,
    /// The system may write the process's memory into a core file though it holds keys.
    pub core_dumps: bool,
    /// Bytes of a segment file.
    pub segment_bytes: u32,
    /// Who may enter.
    pub auth: Auth,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// Puts the command line over the file over the defaults, and checks the whole.
    ///
    /// # Errors
    /// The first setting that cannot be.
    pub fn resolve(args: &ServeArgs, file: &FileConfig) -> Result<Self, ConfigError> {
        let listen = |arg: Option<Listen>, file: Option<Listen>, otherwise: Listen| {
            arg.or(file).unwrap_or(otherwise).address()
        };
        // Whoever lists listeners wants those, and `tcp` and `tls` only if they are said.
        let local = |port| {
            if file.listeners.is_empty() { Listen::local(port) } else { Listen::Off }
        };
        let data = args.data.clone().or_else(|| file.data.clone());
        let config = Self {
            data: data.unwrap_or_else(|| PathBuf::from(DATA_DEFAULT)),
            tcp: listen(args.tcp, file.tcp, local(TCP_PORT)),
            tls: listen(args.tls, file.tls, local(TLS_PORT)),
            listeners: listeners::listeners(&file.listeners)?,
            admin: listen(args.admin, file.admin, Listen::local(ADMIN_PORT)),
            shards: args.shards.or(file.shards),
            driver: args.driver.or(file.driver).unwrap_or_default(),
            durability: args.durability.or(file.durability).unwrap_or_default(),
            real_time_commits: file.real_time_commits.unwrap_or(true),
            json: args.json || file.json,
            tls_files: tls_files(file)?,
            client_ca: client_ca(file)?,
            core_dumps: file.core_dumps,
            segment_bytes: file.segment_bytes.unwrap_or(SEGMENT_DEFAULT_BYTES),
            auth: auth(&file.auth)?,
            limits: Limits::with(&file.limits),
        };
        config.check_listeners(args.allow_plaintext || file.allow_plaintext)?;
        config.check_numbers()?;
        if config.data.as_os_str().is_empty() {
            return Err(ConfigError::Empty { setting: "data" });
        }
        Ok(config)
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let shards = self.shards.unwrap_or(1);
        check_range("shards", shards.into(), 1, SHARDS_MAX)?;
        check_range("segment_bytes", self.segment_bytes.into(), 1024 * 1024, 1024 * 1024 * 1024)?;
        check_range("auth.leeway_s", self.auth.rules.leeway_s, 0, 600)?;
        self.limits.check().map_err(ConfigError::Number)
    }
}

fn check_range(limit: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Number(LimitsError::OutOfRange { limit, value, min, max }))
}

const fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn tls_files(file: &FileConfig) -> Result<Vec<TlsFiles>, ConfigError> {
    let first = match (&file.tls_certificate, &file.tls_key) {
        (None, None) if file.tls_certificates.len() > CERTIFICATES_MAX => {
            return Err(ConfigError::ManyCertificates { max: CERTIFICATES_MAX });
        }
        (None, None) => return Ok(file.tls_certificates.clone()),
        (Some(certificate), Some(key)) => {
            TlsFiles { certificate: certificate.clone(), key: key.clone() }
        }
        (Some(_), None) => {
            return Err(ConfigError::HalfPair { present: "tls_certificate", missing: "tls_key" });
        }
        (None, Some(_)) => {
            return Err(ConfigError::HalfPair { present: "tls_key", missing: "tls_certificate" });
        }
    };
    if file.tls_certificates.len() >= CERTIFICATES_MAX {
        return Err(ConfigError::ManyCertificates { max: CERTIFICATES_MAX });
    }
    Ok(std::iter::once(first).chain(file.tls_certificates.iter().cloned()).collect())
}

fn client_ca(file: &FileConfig) -> Result<Option<ClientCa>, ConfigError> {
    let are_required =
        file.tls_client_certificates.unwrap_or_default() == ClientCertificates::Required;
    match (&file.tls_client_ca, file.tls_client_certificates) {
        (Some(ca), _) => Ok(Some(ClientCa { file: ca.clone(), are_required })),
        (None, Some(_)) => Err(ConfigError::NoClientCa),
        (None, None) => Ok(None),
    }
}

fn auth(file: &AuthFile) -> Result<Auth, ConfigError> {
    for (index, key) in file.keys.iter().enumerate() {
        if file.keys.iter().skip(index + 1).any(|other| other.kid == key.kid) {
            return Err(ConfigError::KidRepeated { kid: key.kid.clone() });
        }
    }
    let texts = [
        ("auth.audience", &file.audience, true),
        ("auth.issuer", &file.issuer, true),
        ("auth.tenant", &file.tenant, false),
    ];
    for (setting, text, needs_keys) in texts {
        let Some(text) = text else { continue };
        if text.is_empty() {
            return Err(ConfigError::Empty { setting });
        }
        if needs_keys && file.keys.is_empty() {
            return Err(ConfigError::KeysMissing { setting });
        }
    }
    let default = TokenRules::default();
    let rules = TokenRules {
        audience: file.audience.clone(),
        issuer: file.issuer.clone(),
        leeway_s: file.leeway_s.unwrap_or(default.leeway_s),
        ..default
    };
    let tenant = file.tenant.clone().unwrap_or_default();
    Ok(Auth { keys: file.keys.clone(), rules, tenant })
}

#[cfg(test)]
mod tests;
