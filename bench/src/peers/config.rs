//! How brokers are configured: once as their makers do it, once so that nothing acknowledged is
//! lost, as far as they can. Limits on what one connection may have waiting are out of the way in
//! both, as Roost's are: a bench is not a stranger.

use super::ejabberd;
use crate::args::{TargetArgs, TargetName};
use clap::ValueEnum;
use std::io;
use std::path::Path;
use std::process::Command;

/// A broker that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Eclipse Mosquitto, MQTT
    Mosquitto,
    /// nats-server
    Nats,
    /// redis-server
    Redis,
    /// ejabberd, XMPP
    Ejabberd,
}

/// A configuration to start a broker with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Which broker.
    pub peer: Peer,
    /// Its file.
    pub text: String,
}

impl Peer {
    /// Who serves a target, if it is one that can be started.
    #[must_use]
    pub const fn of(target: TargetName) -> Option<Self> {
        match target {
            TargetName::Mqtt => Some(Self::Mosquitto),
            TargetName::Nats | TargetName::Jetstream => Some(Self::Nats),
            TargetName::Redis | TargetName::RedisStreams => Some(Self::Redis),
            TargetName::Xmpp => Some(Self::Ejabberd),
            TargetName::Roost | TargetName::Websocket => None,
        }
    }

    /// Its program.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::Nats => "nats-server",
            Self::Redis => "redis-server",
            Self::Ejabberd => "ejabberdctl",
        }
    }

    /// Debian's package of it.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Mosquitto | Self::Nats | Self::Redis => self.program(),
            Self::Ejabberd => "ejabberd",
        }
    }

    /// What its configuration is called: ejabberd goes by the end of the name.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Mosquitto | Self::Nats | Self::Redis => "broker.conf",
            Self::Ejabberd => "broker.yml",
        }
    }

    /// What starts it with a configuration, its files in a folder. `program` is where
    /// [`Peer::program`] lies.
    ///
    /// # Errors
    /// What is installed is not as Debian installs it.
    pub fn command(self, program: &Path, file: &Path, folder: &Path) -> io::Result<Command> {
        let mut command = Command::new(program);
        match self {
            Self::Mosquitto | Self::Nats => command.arg("-c").arg(file),
            Self::Redis => command.arg(file),
            Self::Ejabberd => return ejabberd::command(program, file, folder),
        };
        Ok(command)
    }

    /// The first line of what it says of its version.
    #[must_use]
    pub fn version(self, program: &Path) -> String {
        let argument = match self {
            Self::Mosquitto => "-h",
            Self::Nats | Self::Redis => "--version",
            Self::Ejabberd => return ejabberd::version(program).unwrap_or_default(),
        };
        let output = Command::new(program).arg(argument).output();
        let text = output.map(|of| String::from_utf8_lossy(&of.stdout).into_owned());
        text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    }
}

impl Setup {
    /// For a target on this port of loopback, with its files in a folder. `nats_flushes`: the
    /// server is new enough to flush before it acknowledges.
    #[must_use]
    pub fn of(
        args: &TargetArgs,
        port: u16,
        folder: &Path,
        user: &str,
        nats_flushes: bool,
    ) -> Option<Self> {
        let peer = Peer::of(args.name())?;
        let folder = folder.display();
        let text = match peer {
            Peer::Mosquitto => {
                let persistence = if args.durable {
                    format!(
                        "persistence true\npersistence_location {folder}/\n\
                         autosave_on_changes true\nautosave_interval 1\n"
                    )
                } else {
                    "persistence false\n".to_owned()
                };
                format!(
                    "listener {port} 127.0.0.1\nallow_anonymous true\nuser {user}\n\
                     max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n\
                     sys_interval 0\nlog_type error\nlog_dest stderr\n{persistence}"
                )
            }
            Peer::Nats => {
                let mut text = format!(
                    "listen: 127.0.0.1:{port}\nmax_connections: 1000000\nmax_pending: 1GB\n\
                     write_deadline: \"60s\"\n"
                );
                if args.name() == TargetName::Jetstream {
                    let sync =
                        if args.durable && nats_flushes { ", sync_interval: always" } else { "" };
                    text += &format!("jetstream {{ store_dir: \"{folder}/jetstream\"{sync} }}\n");
                }
                text
            }
            Peer::Redis => {
                let durability = if args.durable {
                    "appendonly yes\nappendfsync always\nauto-aof-rewrite-percentage 0\n"
                } else {
                    "appendonly no\n"
                };
                format!(
                    "bind 127.0.0.1\nport {port}\nprotected-mode no\ndaemonize no\n\
                     dir {folder}\nsave \"\"\nmaxclients 1000000\ntcp-backlog 4096\n\
                     client-output-buffer-limit pubsub 0 0 0\n{durability}"
                )
            }
            Peer::Ejabberd => ejabberd::configuration(args, port),
        };
        Some(Self { peer, text })
    }
}

/// Whether a server of this version flushes before it acknowledges when told to (2.10 and later).
/// `text`: what it says of its version.
pub(super) fn nats_flushes(text: &str) -> bool {
    let Some((_, version)) = text.rsplit_once('v') else { return false };
    let mut parts = version.trim().split('.').map_while(|part| part.parse::<u32>().ok());
    parts.next().zip(parts.next()) >= Some((2, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(target: TargetName, durable: bool, flushes: bool) -> String {
        let args = TargetArgs { target: Some(target), durable, ..TargetArgs::default() };
        Setup::of(&args, 7, Path::new("folder"), "me", flushes).map(|of| of.text).unwrap()
    }

    #[test]
    fn durable_configurations_differ() {
        let redis = setup(TargetName::RedisStreams, true, false);
        assert!(redis.contains("port 7\n") && redis.contains("appendfsync always\n"), "{redis}");
        assert!(setup(TargetName::Redis, false, false).contains("appendonly no\n"));
        let mosquitto = setup(TargetName::Mqtt, true, false);
        assert!(mosquitto.contains("autosave_on_changes true\nautosave_interval 1\n"));
        assert!(mosquitto.contains("persistence_location folder/\n"), "{mosquitto}");
        assert!(setup(TargetName::Mqtt, false, false).contains("persistence false\n"));
        assert!(setup(TargetName::Xmpp, true, false).contains("\n  mod_mam: {default: always}\n"));
        assert!(!setup(TargetName::Xmpp, false, false).contains("mod_mam"));
    }

    #[test]
    fn nats_is_told_to_flush_only_where_it_can() {
        assert!(setup(TargetName::Jetstream, true, true).contains("sync_interval: always"));
        assert!(!setup(TargetName::Jetstream, true, false).contains("sync_interval"));
        assert!(!setup(TargetName::Nats, false, true).contains("jetstream"));
        let known = [("v2.9.10", false), ("v2.10.1", true), ("v3.0.0", true), ("what?", false)];
        for (version, flushes) in known {
            assert_eq!(nats_flushes(&format!("nats-server: {version}\n")), flushes, "{version}");
        }
    }

    #[test]
    fn an_echo_is_not_started() {
        let args = TargetArgs { target: Some(TargetName::Websocket), ..TargetArgs::default() };
        assert_eq!(Setup::of(&args, 7, Path::new(""), "", false), None);
    }
}
