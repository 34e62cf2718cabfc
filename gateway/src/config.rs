//! The settings of a server: command line over file over defaults, checked and complete.
//!
//! Every error names the setting and what to do. Files are opened by [`FileConfig::read`] alone;
//! what is decided here depends on nothing but its arguments.

use crate::args::ServeArgs;
use crate::keys::{TlsFiles, TokenKeyFile};
use crate::limits::{Limits, LimitsError, LimitsFile};
use crate::shard::auth::token::TokenRules;
use clap::ValueEnum;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, fs, io};

/// Where messages and keys are kept unless said otherwise.
pub const DATA_DEFAULT: &str = "./roost-data";
/// Bytes of a segment file unless said otherwise.
pub const SEGMENT_DEFAULT_BYTES: u32 = 64 * 1024 * 1024;

/// A message id names 64 nodes of 16 shards.
const SHARDS_MAX: u64 = 16;
const TCP_PORT: u16 = 4000;
const TLS_PORT: u16 = 4443;
const ADMIN_PORT: u16 = 4080;

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
    /// The admin listener.
    pub admin: Option<Listen>,
    /// How many shards; one per core when absent.
    pub shards: Option<u8>,
    /// How to talk to the kernel.
    pub driver: Option<Driver>,
    /// When a message counts as kept.
    pub durability: Option<Durability>,
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
    /// The admin listener, if any.
    pub admin: Option<SocketAddr>,
    /// How many shards, 1 to 255; none means one per usable core.
    pub shards: Option<u8>,
    /// How to talk to the kernel.
    pub driver: Driver,
    /// When a message counts as kept.
    pub durability: Durability,
    /// Log lines as JSON.
    pub json: bool,
    /// The operator's certificate; none means the development certificate of the data folder.
    pub tls_files: Option<TlsFiles>,
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
        let listen = |arg: Option<Listen>, file: Option<Listen>, port| {
            arg.or(file).unwrap_or_else(|| Listen::local(port)).address()
        };
        let data = args.data.clone().or_else(|| file.data.clone());
        let config = Self {
            data: data.unwrap_or_else(|| PathBuf::from(DATA_DEFAULT)),
            tcp: listen(args.tcp, file.tcp, TCP_PORT),
            tls: listen(args.tls, file.tls, TLS_PORT),
            admin: listen(args.admin, file.admin, ADMIN_PORT),
            shards: args.shards.or(file.shards),
            driver: args.driver.or(file.driver).unwrap_or_default(),
            durability: args.durability.or(file.durability).unwrap_or_default(),
            json: args.json || file.json,
            tls_files: tls_files(file)?,
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

    fn check_listeners(&self, allow_plaintext: bool) -> Result<(), ConfigError> {
        if self.tcp.is_none() && self.tls.is_none() {
            return Err(ConfigError::NoListener);
        }
        if let Some(address) = self.tcp.filter(|address| !is_loopback(*address))
            && !allow_plaintext
        {
            return Err(ConfigError::PlaintextExposed { address });
        }
        if let Some(address) = self.admin.filter(|address| !is_loopback(*address)) {
            return Err(ConfigError::AdminExposed { address });
        }
        let all = [("tcp", self.tcp), ("tls", self.tls), ("admin", self.admin)];
        for (index, (first, one)) in all.into_iter().enumerate() {
            for (second, other) in all.into_iter().skip(index + 1) {
                if let Some(address) = one.filter(|address| address.port() != 0)
                    && one == other
                {
                    return Err(ConfigError::SameAddress { first, second, address });
                }
            }
        }
        Ok(())
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

fn tls_files(file: &FileConfig) -> Result<Option<TlsFiles>, ConfigError> {
    match (&file.tls_certificate, &file.tls_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }))
        }
        (Some(_), None) => {
            Err(ConfigError::HalfPair { present: "tls_certificate", missing: "tls_key" })
        }
        (None, Some(_)) => {
            Err(ConfigError::HalfPair { present: "tls_key", missing: "tls_certificate" })
        }
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
        /// A setting.
        first: &'static str,
        /// Another.
        second: &'static str,
        /// What both say.
        address: SocketAddr,
    },
    /// A certificate without a key, or the other way round.
    HalfPair {
        /// What is set.
        present: &'static str,
        /// What is not.
        missing: &'static str,
    },
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
                f.write_str("tcp and tls are both off; give one of them an address")
            }
            Self::PlaintextExposed { address } => write!(
                f,
                "tcp is {address}, which other machines reach, and tokens would pass unencrypted; \
                 use tls there, or a loopback address, or say --allow-plaintext"
            ),
            Self::AdminExposed { address } => write!(
                f,
                "admin is {address}, which other machines reach, and it asks nobody who they are; \
                 choose a loopback address, as 127.0.0.1:{}, and a proxy in front of it",
                address.port()
            ),
            Self::SameAddress { first, second, address } => {
                write!(f, "{first} and {second} are both {address}; give each its own port")
            }
            Self::HalfPair { present, missing } => write!(
                f,
                "{present} is set and {missing} is not; set both, or neither to use the \
                 development certificate"
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
            | Self::HalfPair { .. }
            | Self::KidRepeated { .. }
            | Self::KeysMissing { .. }
            | Self::Empty { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::auth::token::TokenAlgorithm;
    use expect_test::{Expect, expect};

    fn resolve(file: &str) -> Result<Config, ConfigError> {
        let file = FileConfig::parse(file, Path::new("roost.toml"))?;
        Config::resolve(&ServeArgs::default(), &file)
    }

    /// What a person is told about each of these files.
    #[track_caller]
    fn refused(files: &[&str], expected: &Expect) {
        let told = files.iter().map(|file| {
            let text = resolve(file).unwrap_err().to_string();
            let (text, _) = text.split_once(", expected one of").unwrap_or((&text, ""));
            text.trim_end().replace("; ", ";\n  ").replace(", and ", ",\n  and ")
        });
        expected.assert_eq(&told.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn nothing_said_is_a_server_for_this_machine() {
        let config = resolve("").unwrap();
        expect![[r#"
            (
                "./roost-data",
                Some(
                    127.0.0.1:4000,
                ),
                Some(
                    127.0.0.1:4443,
                ),
                Some(
                    127.0.0.1:4080,
                ),
                None,
                Auto,
                Fsync,
                67108864,
                Auth {
                    keys: [],
                    rules: TokenRules {
                        audience: None,
                        issuer: None,
                        leeway_s: 60,
                        life_max_s: 31622400,
                    },
                    tenant: "",
                },
            )
        "#]]
        .assert_debug_eq(&(
            &config.data,
            config.tcp,
            config.tls,
            config.admin,
            config.shards,
            config.driver,
            config.durability,
            config.segment_bytes,
            &config.auth,
        ));
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.tls_files, None);
    }

    #[test]
    fn a_file_says_everything() {
        let config = resolve(
            r#"
            data = "/var/lib/roost"
            tcp = "off"
            tls = "[::]:443"
            admin = "127.0.0.1:9000"
            shards = 8
            driver = "uring"
            durability = "interval=50"
            json = true
            tls_certificate = "cert.pem"
            tls_key = "key.pem"
            segment_bytes = 16777216
            [auth]
            audience = "roost"
            issuer = "app"
            leeway_s = 5
            tenant = "blue"
            [[auth.keys]]
            kid = "2026"
            algorithm = "ES256"
            file = "app.pem"
            [limits]
            connections_max = 1000
            "#,
        )
        .unwrap();
        assert_eq!((config.tcp, config.tls), (None, Some("[::]:443".parse().unwrap())));
        assert_eq!((config.shards, config.driver), (Some(8), Driver::Uring));
        assert_eq!(config.durability, Durability::Interval { ms: 50 });
        assert_eq!(config.auth.keys[0].algorithm, TokenAlgorithm::ES256);
        assert_eq!(config.auth.rules.audience.as_deref(), Some("roost"));
        assert_eq!((config.auth.rules.leeway_s, config.auth.tenant.as_str()), (5, "blue"));
        assert_eq!(config.limits.connections_max, 1_000);
        assert!(config.json && config.tls_files.is_some());
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let file = FileConfig::parse("tcp = \"off\"\nshards = 8", Path::new("f")).unwrap();
        let args = ServeArgs {
            tcp: Some("127.0.0.1:1".parse().unwrap()),
            shards: Some(2),
            ..ServeArgs::default()
        };
        let config = Config::resolve(&args, &file).unwrap();
        assert_eq!((config.tcp, config.shards), (Some("127.0.0.1:1".parse().unwrap()), Some(2)));
    }

    #[test]
    fn plain_tcp_stays_on_the_machine_unless_allowed() {
        for local in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(resolve(&format!("tcp = \"{local}\"")).is_ok(), "{local}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            assert!(resolve(&format!("tcp = \"{open}\"")).is_err(), "{open}");
            let allowed = format!("tcp = \"{open}\"\nallow_plaintext = true");
            assert!(resolve(&allowed).is_ok(), "{open}");
        }
        refused(
            &["tcp = \"0.0.0.0:4000\""],
            &expect![[r#"
            tcp is 0.0.0.0:4000, which other machines reach,
              and tokens would pass unencrypted;
              use tls there, or a loopback address, or say --allow-plaintext"#]],
        );
    }

    #[test]
    fn admin_stays_on_the_machine() {
        let files = ["admin = \"0.0.0.0:4080\"\nallow_plaintext = true"];
        refused(
            &files,
            &expect![[r#"
            admin is 0.0.0.0:4080, which other machines reach,
              and it asks nobody who they are;
              choose a loopback address, as 127.0.0.1:4080,
              and a proxy in front of it"#]],
        );
    }

    #[test]
    fn listeners_make_sense_together() {
        assert!(resolve("tcp = \"127.0.0.1:0\"\ntls = \"127.0.0.1:0\"").is_ok());
        let files = [
            "tcp = \"off\"\ntls = \"off\"",
            "tcp = \"127.0.0.1:4443\"",
            "tls = \"127.0.0.1:4080\"",
        ];
        refused(
            &files,
            &expect![[r#"
            tcp and tls are both off;
              give one of them an address
            tcp and tls are both 127.0.0.1:4443;
              give each its own port
            tls and admin are both 127.0.0.1:4080;
              give each its own port"#]],
        );
    }

    #[test]
    fn a_certificate_has_a_key() {
        let files = ["tls_certificate = \"cert.pem\"", "tls_key = \"key.pem\""];
        refused(
            &files,
            &expect![[r#"
            tls_certificate is set and tls_key is not;
              set both, or neither to use the development certificate
            tls_key is set and tls_certificate is not;
              set both, or neither to use the development certificate"#]],
        );
    }

    #[test]
    fn auth_makes_sense() {
        let key = "[[auth.keys]]\nkid = \"a\"\nalgorithm = \"EdDSA\"\nfile = \"f\"\n";
        let files = [
            &key.repeat(2),
            "[auth]\naudience = \"roost\"",
            "[auth]\nissuer = \"app\"",
            "[auth]\ntenant = \"\"",
            "[auth]\nleeway_s = 601",
            "data = \"\"",
        ];
        refused(
            &files,
            &expect![[r#"
            auth.keys has the kid "a" twice;
              give each key its own
            auth.audience is set and auth.keys is empty;
              tokens of `roost token` do not carry it;
              add the app's key to auth.keys, or remove auth.audience
            auth.issuer is set and auth.keys is empty;
              tokens of `roost token` do not carry it;
              add the app's key to auth.keys, or remove auth.issuer
            auth.tenant is empty;
              say something or remove it
            auth.leeway_s is 601;
              choose a number from 0 to 600
            data is empty;
              say something or remove it"#]],
        );
    }

    #[test]
    fn numbers_have_ranges() {
        let files = [
            "shards = 0",
            "segment_bytes = 4096",
            "segment_bytes = 2147483648",
            "[limits]\ndevices_max = 11",
            "[limits]\nheartbeat_foreground_ms = 500000",
        ];
        refused(
            &files,
            &expect![[r#"
            shards is 0;
              choose a number from 1 to 16
            segment_bytes is 4096;
              choose a number from 1048576 to 1073741824
            segment_bytes is 2147483648;
              choose a number from 1048576 to 1073741824
            limits.devices_max is 11;
              choose a number from 1 to 10
            limits.heartbeat_foreground_ms is more than limits.heartbeat_background_ms;
              lower the first or raise the second"#]],
        );
    }

    #[test]
    fn a_file_with_a_mistake_is_refused() {
        let files = [
            "tpc = \"127.0.0.1:4000\"",
            "[limits]\nconnection_max = 1",
            "[auth]\nkeys = [{ kid = \"a\", algorithm = \"none\", file = \"f\" }]",
            "tcp = \"localhost:4000\"",
            "durability = \"interval=0\"",
            "driver = \"kqueue\"",
            "shards = 256",
            "[limits]\ndevices_max = -1",
            "not toml",
        ];
        refused(
            &files,
            &expect![[r#"
            roost.toml does not hold settings: TOML parse error at line 1, column 1
              |
            1 | tpc = "127.0.0.1:4000"
              | ^^^
            unknown field `tpc`
            roost.toml does not hold settings: TOML parse error at line 2, column 1
              |
            2 | connection_max = 1
              | ^^^^^^^^^^^^^^
            unknown field `connection_max`
            roost.toml does not hold settings: TOML parse error at line 2, column 34
              |
            2 | keys = [{ kid = "a", algorithm = "none", file = "f" }]
              |                                  ^^^^^^
            unknown variant `none`
            roost.toml does not hold settings: TOML parse error at line 1, column 7
              |
            1 | tcp = "localhost:4000"
              |       ^^^^^^^^^^^^^^^^
            write an IP address and a port, 127.0.0.1:4000 or [::1]:4000, or off
            roost.toml does not hold settings: TOML parse error at line 1, column 14
              |
            1 | durability = "interval=0"
              |              ^^^^^^^^^^^^
            write fsync, or interval=MS with 1 to 10000 milliseconds
            roost.toml does not hold settings: TOML parse error at line 1, column 10
              |
            1 | driver = "kqueue"
              |          ^^^^^^^^
            unknown variant `kqueue`
            roost.toml does not hold settings: TOML parse error at line 1, column 10
              |
            1 | shards = 256
              |          ^^^
            invalid value: integer `256`, expected u8
            roost.toml does not hold settings: TOML parse error at line 2, column 15
              |
            2 | devices_max = -1
              |               ^^
            invalid value: integer `-1`, expected u32
            roost.toml does not hold settings: TOML parse error at line 1, column 5
              |
            1 | not toml
              |     ^
            key with no value, expected `=`"#]],
        );
        let missing = FileConfig::read(Path::new("no-such-file.toml")).unwrap_err();
        expect![[r#"
            cannot read no-such-file.toml: No such file or directory (os error 2);
            check --config"#]]
        .assert_eq(&missing.to_string().replace("; ", ";\n"));
    }
}
