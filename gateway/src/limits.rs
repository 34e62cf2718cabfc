//! Every bound of the server that an operator may change: its default, its range, what it is for.
//!
//! Adding a bound is adding one entry below; `[limits]` of the configuration file, the defaults
//! and the range checks follow from it. Bounds of the protocol itself are in
//! `roost_protocol::limits`; nothing here may be more generous than those.

use roost_protocol::limits as protocol;
use serde::Deserialize;
use std::fmt;

const KIB: u32 = 1024;
const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// Conversations in a user's list, at most: a list is stored as one record.
pub(crate) const CONVERSATIONS_PER_USER_MOST: u32 = 20_000;
/// Whom a user may block, at most: they are part of that record.
pub(crate) const BLOCKS_MOST: u32 = 1_000;

/// What a frame holds besides a message's body, at most.
const FRAME_OVERHEAD_BYTES: u32 = 1024;

macro_rules! limits {
    ($(
        $(#[$doc:meta])+
        $name:ident: $type:ident = $default:expr, $min:expr => $max:expr;
    )+) => {
        /// Every bound of the server, checked. See the fields for defaults and ranges.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$doc])+ pub $name: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// `[limits]` of the configuration file: what is absent keeps its default.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct LimitsFile {
            $($(#[$doc])+ pub $name: Option<$type>,)+
        }

        impl Limits {
            /// The defaults, with what the file says put over them; not yet checked.
            #[must_use]
            pub fn with(file: &LimitsFile) -> Self {
                let default = Self::default();
                Self { $($name: file.$name.unwrap_or(default.$name),)+ }
            }

            fn check_ranges(&self) -> Result<(), LimitsError> {
                $(
                    let (min, max): ($type, $type) = ($min, $max);
                    if self.$name < min || self.$name > max {
                        return Err(LimitsError::OutOfRange {
                            limit: concat!("limits.", stringify!($name)),
                            value: self.$name.into(),
                            min: min.into(),
                            max: max.into(),
                        });
                    }
                )+
                Ok(())
            }
        }
    };
}

limits! {
    /// How often a device in the foreground says that it is there. Default 12 s, 1 s to 10 min.
    heartbeat_foreground_ms: u32 = 12_000, 1_000 => 600_000;
    /// The same in the background. Default 4 min, 1 s to 30 min.
    heartbeat_background_ms: u32 = 240_000, 1_000 => 1_800_000;
    /// From accepting a connection to a whole `Hello`. Default 10 s, 0.5 s to 2 min.
    hello_timeout_ms: u32 = 10_000, 500 => 120_000;
    /// From the first byte of a frame to its last. Default 10 s, 0.5 s to 2 min.
    half_frame_timeout_ms: u32 = 10_000, 500 => 120_000;
    /// For how long a socket may take no byte of what waits for it. Default 30 s, 1 s to 10 min.
    send_stall_timeout_ms: u32 = 30_000, 1_000 => 600_000;
    /// For how long a peer may leave what was sent to it without an acknowledgement, or have no
    /// room for it: then the kernel ends the connection (`TCP_USER_TIMEOUT`). Default 1 min, which
    /// is five heartbeats in the foreground; at most 1 h; 0: as long as the kernel likes, about a
    /// quarter of an hour. Not less than `send_stall_timeout_ms`.
    unacknowledged_timeout_ms: u32 = 60_000, 0 => 3_600_000;
    /// From the wish to stop to the end of the process, with settling what is owed, which needs
    /// what is left when the last device went. Default 10 s, 0 to 10 min.
    drain_ms: u32 = 10_000, 0 => 600_000;
    /// Connections a shard asks to leave in a second when the server stops, unless it must be more
    /// to reach all within two thirds of `drain_ms`. Default 20,000; 10 to 1,000,000.
    goaways_per_second: u32 = 20_000, 10 => 1_000_000;
    /// For how long a connection outlives its token, and a ticket likewise. Default 1 min, at
    /// most 1 h.
    token_grace_ms: u32 = 60_000, 0 => 3_600_000;
    /// Between two pushes to a sender of how far a reader has got; in groups, all of them together.
    /// The first comes at once. Default 1 s, at most 1 min; 0: each mark is pushed by itself.
    receipt_interval_ms: u32 = 1_000, 0 => 60_000;
    /// Between two checkpoints of a shard. Default 5 s, 0.1 s to 10 min.
    checkpoint_interval_ms: u32 = 5_000, 100 => 600_000;
    /// Microseconds from the beginning of a commit to that of the next one, at least, unless much
    /// gathers: a commit costs the server as much processor time as a dozen messages. Default 400,
    /// at most 10,000.
    commit_interval_us: u32 = 400, 0 => 10_000;
    /// Days for which messages are kept; 0 is for ever, the default. At most 36,500. Older ones go
    /// as tables are merged, once a snapshot of their conversation stands for them.
    retention_days: u32 = 0, 0 => 36_500;
    /// MiB that tables may take on the disk before the oldest messages go; 0 is no bound, the
    /// default.
    retention_mib: u32 = 0, 0 => u32::MAX;
    /// Records of a conversation after which a snapshot is written beside them: what loading it
    /// reads at most. Default 1,000; 1 to 1,000,000.
    snapshot_every_records: u32 = 1_000, 1 => 1_000_000;

    /// Sessions of the whole server: devices that were welcomed and have not gone. A shard counts
    /// those whose users are at home there, up to its part, rounded up. Whoever comes then is told
    /// `overloaded`, but for a device that takes over its own session. Default 1,000,000; 1 to
    /// 10,000,000.
    connections_max: u32 = 1_000_000, 1 => 10_000_000;
    /// Connections of one network, of the whole server; 0 is no limit, the default. A shard takes
    /// its part, rounded up: how the kernel spreads connections over shards is not even, so some
    /// may be refused before that. At most 10,000,000.
    connections_per_prefix_max: u32 = 0, 0 => 10_000_000;
    /// Those of them that are not welcomed yet; counted likewise. 0 is no limit, the default. At
    /// most 10,000,000.
    unauthenticated_per_prefix_max: u32 = 0, 0 => 10_000_000;
    /// Leading bits of an IPv4 address that name its network. Default 32, 8 to 32.
    prefix_ipv4_bits: u8 = 32, 8 => 32;
    /// The same of an IPv6 address. Default 64, 16 to 128.
    prefix_ipv6_bits: u8 = 64, 16 => 128;
    /// Connections that each listener takes in a second; a shard takes its part. Those that come
    /// faster wait in the kernel. 0 is no limit, the default. At most 10,000,000.
    connections_per_second: u32 = 0, 0 => 10_000_000;
    /// Requests a connection may have unanswered. Default 64; 1 to 256, the protocol's bound.
    requests_in_flight_max: u32 = 64, 1 => 256;
    /// Bytes of a frame that a device sends. Default and most 256 KiB; at least 8 KiB.
    frame_max_bytes: u32 = 256 * KIB, 8 * KIB => 256 * KIB;
    /// Bytes of a message's body. Default and most 64 KiB; at least 1 KiB; 1 KiB below a frame.
    body_max_bytes: u32 = 64 * KIB, KIB => 64 * KIB;
    /// Bytes of unfinished frames, per shard. Default 64 MiB; 1 MiB to 64 GiB.
    half_frame_pool_bytes: u64 = 64 * MIB, MIB => 64 * GIB;
    /// Bytes waiting for one socket; a page that is being prepared counts as 64 KiB. From there
    /// on nothing more is read from it. Default 256 KiB; 160 KiB to 64 MiB.
    send_queue_bytes: u32 = 256 * KIB, 160 * KIB => 64 * 1024 * KIB;
    /// Bytes waiting for all sockets, per shard. Default 256 MiB; 1 MiB to 256 GiB.
    send_queues_bytes: u64 = 256 * MIB, MIB => 256 * GIB;

    /// Bytes of conversations and mailboxes in memory, per shard. Default 256 MiB; 8 MiB to 1 TiB.
    actor_memory_bytes: u64 = 256 * MIB, 8 * MIB => 1024 * GIB;
    /// Rows in the table of conversation heads, per shard. Default 65,536; 256 to 16,777,216.
    head_table_rows_max: u32 = 65_536, 256 => 16_777_216;
    /// Messages that wait for one actor while it is loaded. Default 1,024; 16 to 65,536.
    loading_inputs_max: u32 = 1_024, 16 => 65_536;
    /// Signatures of tokens that a shard checks per turn. Default 64; 1 to 4,096.
    verifications_per_turn_max: u32 = 64, 1 => 4_096;
    /// TLS handshakes under way at once, per shard: some 5 KB each. Further ones wait. Default
    /// 16,384; 16 to 1,048,576.
    handshakes_in_progress_max: u32 = 16_384, 16 => 1_048_576;
    /// Steps of TLS handshakes that a shard takes per turn: a full one is two, about 60
    /// microseconds together. Messages wait for no more than that. Default 8; 1 to 4,096.
    handshake_steps_per_turn_max: u32 = 8, 1 => 4_096;
    /// Messages of one rank on their way to another shard, or within this one, held until what they
    /// cause is on disk and handed on. Default 4,096; 1 to 65,536.
    credit_per_rank: u32 = 4_096, 1 => 65_536;
    /// Places in the queue from one shard to another. Default 4,096; 2 to 1,048,576. A place
    /// is free again as soon as the other shard took the message out.
    queue_slots: u32 = 4_096, 2 => 1_048_576;
    /// Bytes of what is owed to other actors and not yet confirmed, per shard. Default 256 MiB;
    /// 1 MiB to 64 GiB.
    untold_bytes_max: u64 = 256 * MIB, MIB => 64 * GIB;

    /// Devices of a user. Default and most 10; at least 1.
    devices_max: u32 = 10, 1 => 10;
    /// Direct conversations a user may open in an hour. Default 50; 1 to 60,000.
    first_contacts_per_hour: u32 = 50, 1 => 60_000;

    /// Writes a second of one connection. Default 500; 1 to 1,000,000.
    connection_sends_per_second: u32 = 500, 1 => 1_000_000;
    /// Writes a second of all connections of a user together. Default 500; 1 to 1,000,000.
    user_sends_per_second: u32 = 500, 1 => 1_000_000;
    /// Writes that may come at once. Default 1,000; 1 to 1,000,000.
    sends_burst: u32 = 1_000, 1 => 1_000_000;
    /// Questions a second of one connection: sync, history, lists, presence. Default 200; 1 to
    /// 1,000,000.
    connection_queries_per_second: u32 = 200, 1 => 1_000_000;
    /// The same of all connections of a user together. Default 400; 1 to 1,000,000.
    user_queries_per_second: u32 = 400, 1 => 1_000_000;
    /// Questions that may come at once: a return asks one for each conversation with news. Default
    /// 2,000; 1 to 1,000,000.
    queries_burst: u32 = 2_000, 1 => 1_000_000;
    /// New groups and changes of groups a second of one connection. Default 5; 1 to 1,000,000.
    connection_group_changes_per_second: u32 = 5, 1 => 1_000_000;
    /// The same of all connections of a user together. Default 5; 1 to 1,000,000.
    user_group_changes_per_second: u32 = 5, 1 => 1_000_000;
    /// New groups and changes of groups that may come at once. Default 100; 1 to 1,000,000.
    group_changes_burst: u32 = 100, 1 => 1_000_000;

    /// For how long a watch of somebody's presence or of a channel lasts unless it is renewed.
    /// Default 5 min, 1 s to 1 h.
    watch_ms: u32 = 300_000, 1_000 => 3_600_000;
    /// Watches of channels by the connections of one shard. Default 1,048,576; 16 to 67,108,864.
    channel_watches_max: u32 = 1_048_576, 16 => 67_108_864;
    /// Conversations in a user's list. Default and most 20,000; at least 1. Past it new groups and
    /// strangers are not taken in.
    conversations_per_user_max: u32 = CONVERSATIONS_PER_USER_MOST,
        1 => CONVERSATIONS_PER_USER_MOST;
    /// Messages of one conversation that a user may delete for themselves. Default 1,024; at most
    /// 4,096.
    hidden_per_conversation_max: u32 = 1_024, 0 => 4_096;
    /// Whom a user may block. Default and most 1,000.
    blocks_max: u32 = BLOCKS_MOST, 0 => BLOCKS_MOST;
    /// For how long somebody must have come or gone before those who watch are told. Default 5 s,
    /// at most 10 min.
    presence_debounce_ms: u32 = 5_000, 0 => 600_000;
    /// Connections that watch one user; the others ask. Default 1,000; at most 100,000.
    watchers_max: u32 = 1_000, 0 => 100_000;
}

impl Limits {
    /// Checks each bound against its range, and those that depend on each other.
    ///
    /// # Errors
    /// The first bound that does not hold.
    pub fn check(&self) -> Result<(), LimitsError> {
        self.check_ranges()?;
        let relations: [(bool, Relation); 4] = [
            (
                self.heartbeat_foreground_ms <= self.heartbeat_background_ms,
                ("limits.heartbeat_foreground_ms", "limits.heartbeat_background_ms"),
            ),
            (
                self.body_max_bytes.saturating_add(FRAME_OVERHEAD_BYTES) <= self.frame_max_bytes,
                ("limits.body_max_bytes plus 1024", "limits.frame_max_bytes"),
            ),
            (
                u64::from(self.send_queue_bytes) <= self.send_queues_bytes,
                ("limits.send_queue_bytes", "limits.send_queues_bytes"),
            ),
            (
                // A window that stays closed is the kernel's to judge as well.
                self.unacknowledged_timeout_ms == 0
                    || self.send_stall_timeout_ms <= self.unacknowledged_timeout_ms,
                ("limits.send_stall_timeout_ms", "limits.unacknowledged_timeout_ms"),
            ),
        ];
        match relations.into_iter().find(|(holds, _)| !holds) {
            Some((_, (low, high))) => Err(LimitsError::Order { low, high }),
            None => Ok(()),
        }
    }
}

/// Of a shard's connections one in so many is beside the limit: for devices that take over their
/// own session, and for those who are told that there is no room; and as many again for those who
/// were told something and have not gone yet.
const BESIDE_PART: u32 = 256;
/// The least and the most of that.
const BESIDE_MIN: u32 = 8;
const BESIDE_MAX: u32 = 1_024;

impl Limits {
    /// A shard's part of `connections_max`, rounded up: so many sessions may users have who are at
    /// home there.
    #[must_use]
    pub fn connections_of_shard(&self, shards: u8) -> u32 {
        self.connections_max.div_ceil(u32::from(shards.max(1)))
    }

    /// Places of a shard for newcomers when there is no other left, and as many again for
    /// connections that are being ended.
    #[must_use]
    pub fn beside_of_shard(&self, shards: u8) -> u32 {
        (self.connections_of_shard(shards) / BESIDE_PART).clamp(BESIDE_MIN, BESIDE_MAX)
    }

    /// Sockets that a shard may ever have: all sessions may be there, since the kernel chooses the
    /// shard.
    #[must_use]
    pub fn sockets_of_shard(&self, shards: u8) -> u32 {
        let part = self.connections_of_shard(shards);
        part * u32::from(shards.max(1)) + 2 * self.beside_of_shard(shards)
    }
}

/// What must not be more than what.
type Relation = (&'static str, &'static str);

/// A bound that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitsError {
    /// Outside its range.
    OutOfRange {
        /// Which setting.
        limit: &'static str,
        /// What it is.
        value: u64,
        /// The least it may be.
        min: u64,
        /// The most it may be.
        max: u64,
    },
    /// Two bounds contradict each other.
    Order {
        /// What must not be more than the other.
        low: &'static str,
        /// The other.
        high: &'static str,
    },
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { limit, value, min, max } => {
                write!(f, "{limit} is {value}; choose a number from {min} to {max}")
            }
            Self::Order { low, high } => {
                write!(f, "{low} is more than {high}; lower the first or raise the second")
            }
        }
    }
}

impl std::error::Error for LimitsError {}

// The ranges above never promise more than the protocol.
const _: () = assert!(protocol::FRAME_MAX_BYTES == 256 * 1024);
const _: () = assert!(protocol::BODY_MAX_BYTES == 64 * 1024);
const _: () = assert!(protocol::REPLY_MAX_BYTES < 160 * 1024);
const _: () = assert!(protocol::REQUESTS_IN_FLIGHT_MAX == 256);
const _: () = assert!(protocol::DEVICES_MAX == 10);

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Limits::default().check(), Ok(()));
        assert_eq!(Limits::with(&LimitsFile::default()), Limits::default());
    }

    #[test]
    fn a_shard_has_its_part_of_the_sessions_and_room_for_all_of_them() {
        let sockets = |connections_max, shards| {
            let limits = Limits { connections_max, ..Limits::default() };
            (limits.connections_of_shard(shards), limits.sockets_of_shard(shards))
        };
        assert_eq!(sockets(3, 1), (3, 19));
        assert_eq!(sockets(3, 2), (2, 20));
        assert_eq!(sockets(100_000, 2), (50_000, 100_390));
        assert_eq!(sockets(10_000_000, 1), (10_000_000, 10_002_048));
    }

    #[test]
    fn what_the_file_says_replaces_the_default() {
        let file = LimitsFile { connections_max: Some(7), ..LimitsFile::default() };
        let expected = Limits { connections_max: 7, ..Limits::default() };
        assert_eq!(Limits::with(&file), expected);
    }

    #[test]
    fn the_edges_of_a_range_belong_to_it() {
        let requests =
            |requests_in_flight_max| Limits { requests_in_flight_max, ..Limits::default() };
        assert!(requests(1).check().is_ok());
        assert!(requests(256).check().is_ok());
        let error = requests(257).check().unwrap_err();
        expect!["limits.requests_in_flight_max is 257; choose a number from 1 to 256"]
            .assert_eq(&error.to_string());
        assert!(requests(0).check().is_err());
    }

    #[test]
    fn bounds_may_not_contradict_each_other() {
        let default = Limits::default();
        let wrong = [
            Limits { heartbeat_background_ms: 11_999, ..default.clone() },
            Limits { frame_max_bytes: 64 * KIB, ..default.clone() },
            Limits { send_queue_bytes: 2048 * KIB, send_queues_bytes: MIB, ..default.clone() },
            Limits { send_stall_timeout_ms: 60_001, ..default },
        ];
        let told: Vec<String> = wrong
            .iter()
            .filter_map(|limits| limits.check().err())
            .map(|error| error.to_string().replace("; ", ";\n  "))
            .collect();
        expect![[r#"
            limits.heartbeat_foreground_ms is more than limits.heartbeat_background_ms;
              lower the first or raise the second
            limits.body_max_bytes plus 1024 is more than limits.frame_max_bytes;
              lower the first or raise the second
            limits.send_queue_bytes is more than limits.send_queues_bytes;
              lower the first or raise the second
            limits.send_stall_timeout_ms is more than limits.unacknowledged_timeout_ms;
              lower the first or raise the second"#]]
        .assert_eq(&told.join("\n"));
    }
}
