//! Reports of shards as log lines: a level that says what a person must do, and not more than a
//! line a second of what could come by the thousand.

use crate::ids::ShardId;
use crate::shard::{Refused, Report};
use roost_protocol::time::Instant;
use std::collections::BTreeMap;

/// Between two lines of a report that may come often.
const OFTEN_EVERY_MS: u64 = 1000;

/// Writes the reports of one shard.
#[derive(Debug)]
pub struct Logger {
    shard: ShardId,
    last: BTreeMap<&'static str, (Instant, u64)>,
}

impl Logger {
    /// For a shard.
    #[must_use]
    pub const fn new(shard: ShardId) -> Self {
        Self { shard, last: BTreeMap::new() }
    }

    fn often(&mut self, now: Instant, kind: &'static str) -> Option<u64> {
        let (last, held) = self.last.entry(kind).or_default();
        if now.since(*last).as_ms() < OFTEN_EVERY_MS && last.ns != 0 {
            *held += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(held))
    }

    /// One report. Says whether the process must stop.
    pub(crate) fn write(&mut self, now: Instant, report: &Report) -> bool {
        let shard = self.shard.0;
        match report {
            Report::StoreFailed { what } => {
                tracing::error!(
                    shard,
                    what,
                    "the store failed; nothing more is acknowledged and the process ends. Check \
                     the disk, then start again: what was acknowledged is on it"
                );
                return true;
            }
            Report::StorageFull => tracing::error!(
                shard,
                "the disk is full: sends are refused with storage_full, reads go on. Make room; \
                 sends resume by themselves"
            ),
            Report::StorageRoom => tracing::info!(shard, "the disk has room again"),
            Report::Corrupt(damage) => tracing::error!(
                shard,
                %damage,
                "damaged bytes in the store; their neighbours are served. Stop the server, look \
                 with `roost store verify`, restore the file from a backup or save what is whole \
                 with `roost store repair`"
            ),
            Report::NotTidied { what } => tracing::warn!(
                shard,
                what,
                "the store could not be tidied up; nothing is lost. It is tried again: check for \
                 room on the disk"
            ),
            Report::Unreadable { stream } => tracing::error!(
                shard,
                stream = %format_args!("{:032x}", stream.0),
                "the records of this conversation or mailbox do not fit together; requests for it \
                 are refused. Restore it from a backup"
            ),
            Report::Retold { shard: _, streams } => {
                tracing::info!(shard, streams, "everything owed before the restart was told again");
            }
            Report::UserIdCollision => {
                tracing::error!(shard, "two user ids have the same key; the second is refused");
            }
            Report::HalfFramePoolFull { .. }
            | Report::SendQueuesFull { .. }
            | Report::ConnectionsFull { .. }
            | Report::ClockBehind { .. }
            | Report::HelloRefused { .. }
            | Report::Refused { .. } => self.write_often(now, report),
        }
        false
    }

    /// What could come by the thousand: a line a second at most.
    fn write_often(&mut self, now: Instant, report: &Report) {
        let shard = self.shard.0;
        match report {
            Report::HalfFramePoolFull { limit_bytes } => {
                if let Some(held) = self.often(now, "half_frame_pool") {
                    tracing::warn!(
                        shard,
                        limit_bytes,
                        held,
                        "too many unfinished frames: the oldest connections were closed. Raise \
                         limits.half_frame_pool_bytes if these were honest"
                    );
                }
            }
            Report::SendQueuesFull { limit_bytes } => {
                if let Some(held) = self.often(now, "send_queues") {
                    tracing::warn!(
                        shard,
                        limit_bytes,
                        held,
                        "send queues are full: pushes are dropped and devices sync. Raise \
                         limits.send_queues_bytes"
                    );
                }
            }
            Report::ConnectionsFull { limit } => {
                if let Some(held) = self.often(now, "connections") {
                    tracing::warn!(
                        shard,
                        limit,
                        held,
                        "there are as many connections as there may be: who comes is told to \
                         come back later. Raise limits.connections_max"
                    );
                }
            }
            Report::ClockBehind { behind_ms } => {
                if let Some(held) = self.often(now, "clock") {
                    tracing::warn!(
                        shard,
                        behind_ms,
                        held,
                        "the wall clock is behind the newest message id; ids stay unique and \
                         rising. Check the time source"
                    );
                }
            }
            Report::HelloRefused { code } => {
                if let Some(held) = self.often(now, "hello") {
                    tracing::debug!(shard, ?code, held, "a device was refused at hello");
                }
            }
            Report::Refused { why, peer } => {
                let (kind, text) = refusal(*why);
                if let Some(held) = self.often(now, kind) {
                    let peer = peer.map(tracing::field::display);
                    tracing::warn!(shard, peer, held, "{text}");
                }
            }
            Report::StoreFailed { .. }
            | Report::StorageFull
            | Report::StorageRoom
            | Report::Corrupt(_)
            | Report::NotTidied { .. }
            | Report::Unreadable { .. }
            | Report::Retold { .. }
            | Report::UserIdCollision => {}
        }
    }
}

/// What an operator is told of connections that are not let in, and a name for it.
const fn refusal(why: Refused) -> (&'static str, &'static str) {
    match why {
        Refused::Untrusted => (
            "untrusted",
            "a connection to a listener for proxies was refused. Name the networks of your \
             proxies in its `trusted`, and no others",
        ),
        Refused::BadProxyHeader => (
            "proxy_header",
            "a proxy's connection did not begin with a PROXY header. Let the proxy send one, or \
             say `proxy = false` for this listener",
        ),
        Refused::NoProxyHeader => (
            "no_proxy_header",
            "a proxy's connection did not begin with a whole PROXY header in time. Health checks \
             should send one, too",
        ),
        Refused::PrefixFull => (
            "prefix",
            "a network has as many connections as it may: further ones are refused. Raise \
             limits.connections_per_prefix_max if they are honest",
        ),
        Refused::PrefixBusy => (
            "prefix_unauthenticated",
            "a network has as many unauthenticated connections as it may: further ones are \
             refused. Raise limits.unauthenticated_per_prefix_max if they are honest",
        ),
    }
}
