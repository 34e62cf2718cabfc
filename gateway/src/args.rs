//! What people type: the command line of `roost`, as it stands. What it means is decided in
//! `config`.

use crate::commands::store::args::StoreArgs;
use crate::config::{Driver, Durability, Listen};
use clap::{Args as ClapArgs, Parser, Subcommand};
use roost_client::Peer;
use roost_protocol::ids::UserId;
use std::path::PathBuf;

/// A chat connection gateway that holds millions of mostly idle connections.
///
/// Without a command it serves on this machine only, with its data in ./roost-data.
#[derive(Debug, Parser)]
#[command(name = "roost", version)]
pub struct Args {
    /// What to do; to serve, when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Args {
    /// The command, or to serve with local defaults.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Serve(Box::default()))
    }
}

/// A subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(Box<ServeArgs>),
    /// Print a token for development, signed with the data folder's key
    Token(TokenArgs),
    /// Chat in the terminal
    Chat(Box<ChatArgs>),
    /// Ask the server to stop in order, and wait until it has
    Drain(DrainArgs),
    /// Look at what is stored, check it, export it, repair it
    Store(Box<StoreArgs>),
}

/// `roost serve`. What is given here goes before what the file says.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct ServeArgs {
    /// Read settings from this file (TOML)
    #[arg(long, value_name = "FILE", env = "ROOST_CONFIG")]
    pub config: Option<PathBuf>,
    /// Keep messages and keys in this folder [default: ./roost-data]
    #[arg(long, value_name = "DIR", env = "ROOST_DATA")]
    pub data: Option<PathBuf>,
    /// Listen for plain TCP here, or `off` [default: 127.0.0.1:4000, off if the file has listeners]
    #[arg(long, value_name = "ADDR", env = "ROOST_TCP")]
    pub tcp: Option<Listen>,
    /// Listen for TLS here, or `off` [default: 127.0.0.1:4443, off if the file has listeners]
    #[arg(long, value_name = "ADDR", env = "ROOST_TLS")]
    pub tls: Option<Listen>,
    /// Answer /metrics, /live and /ready here, or `off` [default: 127.0.0.1:4080]
    #[arg(long, value_name = "ADDR", env = "ROOST_ADMIN")]
    pub admin: Option<Listen>,
    /// Run so many shards, a thread each [default: one per core]
    #[arg(long, value_name = "N", env = "ROOST_SHARDS")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..))]
    pub shards: Option<u8>,
    /// How to talk to the kernel [default: auto]
    #[arg(long, value_enum, value_name = "DRIVER", env = "ROOST_DRIVER")]
    pub driver: Option<Driver>,
    /// When a message counts as kept: `fsync`, or `interval=MS` to lose up to MS milliseconds
    /// when the machine stops [default: fsync]
    #[arg(long, value_name = "WHEN", env = "ROOST_DURABILITY")]
    pub durability: Option<Durability>,
    /// Write log lines as JSON
    #[arg(long)]
    pub json: bool,
    /// Listen for plain TCP on an address that other machines reach
    #[arg(long)]
    pub allow_plaintext: bool,
}

/// `roost token`.
#[derive(Debug, Clone, ClapArgs)]
pub struct TokenArgs {
    /// The server's data folder
    #[arg(long, value_name = "DIR", env = "ROOST_DATA", default_value = "./roost-data")]
    pub data: PathBuf,
    /// Whom the token names
    #[arg(long, value_name = "NAME", value_parser = parse_user)]
    pub user: UserId,
    /// Which device it names; else the device chooses its own id
    #[arg(long, value_name = "NAME", value_parser = parse_device)]
    pub device: Option<String>,
    /// For how long it is good: 90s, 15m, 24h, 7d
    #[arg(long = "ttl", value_name = "TIME", default_value = "24h", value_parser = parse_ttl_s)]
    pub ttl_s: u64,
}

/// `roost drain`.
#[derive(Debug, Clone, ClapArgs)]
pub struct DrainArgs {
    /// The server's data folder
    #[arg(long, value_name = "DIR", env = "ROOST_DATA", default_value = "./roost-data")]
    pub data: PathBuf,
    /// Wait for so long
    #[arg(long = "wait", value_name = "SECONDS", default_value = "60")]
    pub wait_s: u64,
}

/// `roost chat`.
#[derive(Debug, Clone, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(group = clap::ArgGroup::new("credential").required(true).args(["data", "token"]))]
pub struct ChatArgs {
    /// Connect here
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_server)]
    pub server: String,
    /// Use TLS
    #[arg(long)]
    pub tls: bool,
    /// Trust this certificate or authority (PEM) [default: the data folder's own certificate]
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub ca: Option<PathBuf>,
    /// Sign a token with the key of this data folder
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Use this token
    #[arg(long, value_name = "TOKEN", env = "ROOST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Who I am
    #[arg(long, value_name = "NAME", value_parser = parse_user)]
    pub user: UserId,
    /// Which device I am; else one is made up and kept in the state file
    #[arg(long, value_name = "NAME", value_parser = parse_device)]
    pub device: Option<String>,
    /// Whom to write to: a user, or a conversation by its id; else say it with /open
    #[arg(long, value_name = "NAME", value_parser = parse_peer)]
    pub to: Option<Peer>,
    /// Keep what must outlive this run in this file
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Print each event as a line of JSON
    #[arg(long)]
    pub json: bool,
    /// Send nothing
    #[arg(long)]
    pub receive_only: bool,
    /// Send lines as they stand, also those that begin with a slash
    #[arg(long)]
    pub no_commands: bool,
    /// Do not tell that I have read what is printed
    #[arg(long)]
    pub no_read: bool,
    /// Leave when nothing happened for so long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub exit_when_idle: Option<u32>,
}

/// The longest life of a token, in days; the server refuses more.
const TTL_MAX_DAYS: u64 = 366;

/// A time with its unit, in seconds: `90s`, `15m`, `24h`, `7d`.
///
/// # Errors
/// A text for the person who typed it.
pub fn parse_ttl_s(text: &str) -> Result<u64, &'static str> {
    const FORM: &str = "write a whole number and a unit: 90s, 15m, 24h or 7d";
    let unit = text.chars().next_back().ok_or(FORM)?;
    let unit_s = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(FORM),
    };
    let number = text.strip_suffix(unit).ok_or(FORM)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FORM);
    }
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_s));
    match seconds {
        Some(0) => Err("a token that is good for no time is no use"),
        Some(seconds) if seconds <= TTL_MAX_DAYS * 24 * 60 * 60 => Ok(seconds),
        _ => Err("a token is good for at most 366d"),
    }
}

fn parse_user(text: &str) -> Result<UserId, roost_protocol::ids::InvalidUserId> {
    UserId::new(text)
}

fn parse_peer(text: &str) -> Result<Peer, roost_protocol::ids::InvalidUserId> {
    crate::commands::chat::slash::peer(text).ok_or(roost_protocol::ids::InvalidUserId)
}

fn parse_device(text: &str) -> Result<String, &'static str> {
    if crate::shard::auth::token::is_device_name(text) {
        return Ok(text.to_owned());
    }
    Err("a device's name is 1 to 64 bytes")
}

fn parse_server(text: &str) -> Result<String, &'static str> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(1..) => Ok(text.to_owned()),
        _ => Err("write host and port: localhost:4000, 192.0.2.1:4443, [::1]:4000"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use expect_test::expect;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let words = std::iter::once("roost").chain(line.split_whitespace());
        Args::try_parse_from(words).map(Args::into_command)
    }

    fn kind(line: &str) -> ErrorKind {
        parse(line).unwrap_err().kind()
    }

    /// The first line of what a person is told.
    fn told(line: &str) -> String {
        let text = parse(line).unwrap_err().to_string();
        text.lines().next().unwrap().replace(": ", ":\n  ")
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn to_serve_is_the_default() {
        let Ok(Command::Serve(serve)) = parse("") else { panic!("serves") };
        assert!(serve.tcp.is_none() && serve.data.is_none() && !serve.json);
    }

    #[test]
    fn serve_takes_its_flags() {
        let line = "serve --data d --tcp off --tls [::]:4443 --shards 2 --driver epoll \
                    --durability interval=20 --json --allow-plaintext";
        let Ok(Command::Serve(serve)) = parse(line) else { panic!("serves") };
        assert_eq!(serve.tcp, Some(Listen::Off));
        assert_eq!(serve.tls, Some(Listen::At("[::]:4443".parse().unwrap())));
        assert_eq!(serve.driver, Some(Driver::Epoll));
        assert_eq!(serve.durability, Some(Durability::Interval { ms: 20 }));
        assert!(serve.json && serve.allow_plaintext && serve.shards == Some(2));
    }

    #[test]
    fn a_ttl_has_a_unit() {
        let good =
            [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("366d", 31_622_400)];
        for (text, seconds) in good {
            assert_eq!(parse_ttl_s(text), Ok(seconds));
        }
        let bad = ["", "s", "10", "1.5h", "-1h", "+1h", "1 h", "1w", "0s", "367d", "é"];
        for text in bad {
            assert!(parse_ttl_s(text).is_err(), "{text}");
        }
        assert!(parse_ttl_s("99999999999999999999d").is_err());
        assert!(parse_ttl_s("9999999999999999999d").is_err());
    }

    #[test]
    fn chat_needs_a_token_or_a_key() {
        let chat = "chat --server localhost:4000 --user ann --to bob";
        assert_eq!(kind(chat), ErrorKind::MissingRequiredArgument);
        assert!(parse(&format!("{chat} --data d")).is_ok());
        assert!(parse(&format!("{chat} --token t --exit-when-idle 3")).is_ok());
        assert_eq!(kind(&format!("{chat} --token t --data d")), ErrorKind::ArgumentConflict);
        let no_tls = format!("{chat} --token t --ca f");
        assert_eq!(kind(&no_tls), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn a_person_is_told_what_to_write() {
        let lines = [
            "serve --tcp localhost",
            "serve --durability sometimes",
            "serve --driver kqueue",
            "serve --shards 256",
            "token --user ann --ttl 1w",
            "chat --server localhost --token t --user ann --to bob",
        ];
        let texts: Vec<String> = lines.iter().map(|line| told(line)).collect();
        expect![[r#"
            error:
              invalid value 'localhost' for '--tcp <ADDR>':
              write an IP address and a port, 127.0.0.1:4000 or [::1]:4000, or off
            error:
              invalid value 'sometimes' for '--durability <WHEN>':
              write fsync, or interval=MS with 1 to 10000 milliseconds
            error:
              invalid value 'kqueue' for '--driver <DRIVER>'
            error:
              invalid value '256' for '--shards <N>':
              256 is not in 1..=255
            error:
              invalid value '1w' for '--ttl <TIME>':
              write a whole number and a unit:
              90s, 15m, 24h or 7d
            error:
              invalid value 'localhost' for '--server <HOST:PORT>':
              write host and port:
              localhost:4000, 192.0.2.1:4443, [::1]:4000"#]]
        .assert_eq(&texts.join("\n"));
    }
}
