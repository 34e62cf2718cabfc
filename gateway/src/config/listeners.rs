//! `[[listeners]]`: where the server listens beside `tcp` and `tls`, and what holds there.

use super::{Config, ConfigError, is_loopback};
use crate::prefix::Prefix;
use crate::shard::{ListenerRules, Trust};
use serde::Deserialize;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

/// What a Unix socket's path may have: the system takes 107 bytes, and a few are needed while it is
/// made.
const PATH_MAX_BYTES: usize = 90;
/// Who may open a Unix socket's file unless said otherwise: its owner and group.
const MODE_DEFAULT: u32 = 0o660;
/// Listeners of all kinds, at most.
const LISTENERS_MAX: usize = 64;

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ListenAddress {
    /// An address; the unspecified one of IPv6 takes IPv4 as well.
    Tcp(SocketAddr),
    /// A socket at this path, for programs of this machine.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether one of them takes what is meant for the other.
    fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(other)) => one == other,
            (Self::Tcp(one), Self::Tcp(other)) => {
                let same_port = one.port() != 0 && one.port() == other.port();
                let takes_both =
                    |address: &SocketAddr| address.is_ipv6() && address.ip().is_unspecified();
                let takes = |one: &SocketAddr, other: &SocketAddr| {
                    takes_both(one)
                        || (one.is_ipv4() == other.is_ipv4() && one.ip().is_unspecified())
                };
                same_port && (one == other || takes(one, other) || takes(other, one))
            }
            (Self::Unix(_), Self::Tcp(_)) | (Self::Tcp(_), Self::Unix(_)) => false,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match path.as_os_str().as_bytes().len() {
                0 => Err("a path follows `unix:`"),
                1..=PATH_MAX_BYTES => Ok(Self::Unix(path)),
                _ => Err("the path of a Unix socket has at most 90 bytes"),
            };
        }
        let address = text.parse().map(Self::Tcp);
        address.map_err(|_| "write an IP address and a port, [::]:4443, or unix:/run/roost.sock")
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Permissions of a Unix socket's file, in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SocketMode(u32);

impl TryFrom<String> for SocketMode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o777 && (3..=4).contains(&text.len()) => Ok(Self(mode)),
            _ => Err("write permissions in octal, as \"0660\""),
        }
    }
}

/// One of `[[listeners]]`, as it stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerFile {
    /// Where.
    pub address: ListenAddress,
    /// Its connections speak TLS.
    #[serde(default)]
    pub tls: bool,
    /// Its connections begin with a PROXY header.
    #[serde(default)]
    pub proxy: bool,
    /// The networks whose PROXY header is believed.
    #[serde(default)]
    pub trusted: Vec<Prefix>,
    /// Who may open a Unix socket's file.
    pub mode: Option<SocketMode>,
}

/// A listener, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// The setting it is from.
    pub setting: String,
    /// Where.
    pub address: ListenAddress,
    /// Permissions of a Unix socket's file.
    pub mode: u32,
    /// What holds there.
    pub rules: ListenerRules,
}

impl ListenerConfig {
    fn simple(setting: &str, address: SocketAddr, rules: ListenerRules) -> Self {
        let (setting, address) = (setting.to_owned(), ListenAddress::Tcp(address));
        Self { setting, address, mode: MODE_DEFAULT, rules }
    }
}

/// Checks each of `[[listeners]]` by itself.
pub(super) fn listeners(files: &[ListenerFile]) -> Result<Vec<ListenerConfig>, ConfigError> {
    if files.len() > LISTENERS_MAX {
        return Err(ConfigError::ManyListeners { max: LISTENERS_MAX });
    }
    files.iter().enumerate().map(|(index, file)| listener(index, file)).collect()
}

fn listener(index: usize, file: &ListenerFile) -> Result<ListenerConfig, ConfigError> {
    let setting = format!("listeners[{index}]");
    let is_unix = matches!(file.address, ListenAddress::Unix(_));
    let contradiction = match (file.proxy, is_unix, file.trusted.is_empty()) {
        (true, false, true) => Some(
            "expects a PROXY header and trusts nobody with one; name the networks of the proxies \
             in its `trusted`",
        ),
        (false, _, false) => Some(
            "names `trusted` networks and expects no PROXY header; say \
                                   `proxy = true`, or remove them",
        ),
        (true, true, false) => Some(
            "is a Unix socket, where whoever may open the file is trusted; remove `trusted`, and \
             choose `mode`",
        ),
        _ if file.trusted.iter().any(Prefix::is_everything) => Some(
            "trusts every address with a PROXY header, and whoever reaches it could pretend to be \
             anybody; name the networks of your proxies in its `trusted`",
        ),
        _ if file.mode.is_some() && !is_unix => {
            Some("is no Unix socket and has no `mode`; remove it")
        }
        _ => None,
    };
    if let Some(what) = contradiction {
        return Err(ConfigError::Listener { setting, what });
    }
    let trust = if is_unix { Trust::Local } else { Trust::Networks(file.trusted.clone()) };
    let rules = ListenerRules { secure: file.tls, proxy: file.proxy.then_some(trust) };
    let mode = file.mode.map_or(MODE_DEFAULT, |mode| mode.0);
    Ok(ListenerConfig { setting, address: file.address.clone(), mode, rules })
}

impl Config {
    /// All listeners for devices and proxies: `tcp`, `tls`, and the others in their order.
    #[must_use]
    pub fn all_listeners(&self) -> Vec<ListenerConfig> {
        let tcp = self.tcp.map(|at| ListenerConfig::simple("tcp", at, ListenerRules::PLAIN));
        let tls = self.tls.map(|at| ListenerConfig::simple("tls", at, ListenerRules::SECURE));
        tcp.into_iter().chain(tls).chain(self.listeners.iter().cloned()).collect()
    }

    /// Whether anything speaks TLS.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some() || self.listeners.iter().any(|listener| listener.rules.secure)
    }

    pub(super) fn check_listeners(&self, allow_plaintext: bool) -> Result<(), ConfigError> {
        let all = self.all_listeners();
        if all.is_empty() {
            return Err(ConfigError::NoListener);
        }
        for listener in &all {
            if let ListenAddress::Tcp(address) = listener.address
                && !listener.rules.secure
                && !is_loopback(address)
                && !allow_plaintext
            {
                let setting = listener.setting.clone();
                return Err(ConfigError::PlaintextExposed { setting, address });
            }
        }
        if let Some(address) = self.admin.filter(|address| !is_loopback(*address)) {
            return Err(ConfigError::AdminExposed { address });
        }
        let admin = self.admin.map(|at| ("admin".to_owned(), ListenAddress::Tcp(at)));
        let all = all.into_iter().map(|listener| (listener.setting, listener.address));
        let all: Vec<_> = all.chain(admin).collect();
        for (index, (first, one)) in all.iter().enumerate() {
            let mut later = all.iter().skip(index + 1);
            if let Some((second, other)) = later.find(|(_, other)| one.collides(other)) {
                return Err(ConfigError::SameAddress {
                    first: (first.clone(), one.clone()),
                    second: (second.clone(), other.clone()),
                });
            }
        }
        Ok(())
    }
}
