//! What is measured: Roost, or another broker.

use crate::target::mqtt::{Speech, Version};
use clap::{Args as ClapArgs, ValueEnum};

/// What is measured.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct TargetArgs {
    /// What is measured [default: roost]; others are measured with idle, pairs, fanout, hot and
    /// capacity
    #[arg(long, value_enum, value_name = "NAME")]
    pub target: Option<TargetName>,
    /// With --spawn of another broker: with its durable configuration, not that of its makers
    #[arg(long, requires = "spawn", requires = "target")]
    pub durable: bool,
    /// With --target mqtt: 3 is 3.1.1
    #[arg(long, value_name = "3|5", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u8).range(3..=5))]
    pub mqtt_version: u8,
    /// With --target mqtt: 0, or 1 with an acknowledgement on each hop
    #[arg(long, value_name = "0|1", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=1))]
    pub qos: u8,
    /// With --target mqtt: the broker keeps sessions of those who are away
    #[arg(long)]
    pub persistent_sessions: bool,
    /// With --target xmpp: the host that the server serves
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub xmpp_domain: String,
}

/// A target by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// This repository's server
    #[default]
    Roost,
    /// Redis publish and subscribe
    Redis,
    /// Redis streams: XADD and XREAD
    RedisStreams,
    /// MQTT 3.1.1 or 5, QoS 0 or 1
    Mqtt,
    /// Core NATS
    Nats,
    /// NATS with a stream that acknowledges
    Jetstream,
    /// A WebSocket echo server
    Websocket,
    /// XMPP with a password over plain TCP, multi-user chat for groups
    Xmpp,
}

impl TargetName {
    /// As the command line and results call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Roost => "roost",
            Self::Redis => "redis",
            Self::RedisStreams => "redis-streams",
            Self::Mqtt => "mqtt",
            Self::Nats => "nats",
            Self::Jetstream => "jetstream",
            Self::Websocket => "websocket",
            Self::Xmpp => "xmpp",
        }
    }
}

impl TargetArgs {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> TargetName {
        self.target.unwrap_or_default()
    }

    /// Whether it is this repository's server.
    #[must_use]
    pub fn is_roost(&self) -> bool {
        self.name() == TargetName::Roost
    }

    /// How MQTT is spoken.
    #[must_use]
    pub const fn speech(&self) -> Speech {
        Speech {
            version: if self.mqtt_version == 5 { Version::V5 } else { Version::V3 },
            acknowledged: self.qos > 0,
            persistent: self.persistent_sessions,
            durable: self.durable,
        }
    }

    /// What is measured, in words that tell one configuration from another.
    #[must_use]
    pub fn label(&self) -> String {
        let mut label = self.name().name().to_owned();
        if self.name() == TargetName::Mqtt {
            label += if self.mqtt_version == 5 { " 5" } else { " 3.1.1" };
            label += if self.qos > 0 { " QoS 1" } else { " QoS 0" };
            if self.persistent_sessions {
                label += " persistent";
            }
        }
        if self.durable {
            label += " durable";
        }
        label
    }
}
