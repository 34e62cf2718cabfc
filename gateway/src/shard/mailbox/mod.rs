//! Mailboxes: one per user. Which devices there are and where they are connected; the list of
//! conversations with what is new; sync.
//!
//! A mailbox learns by being told and may forget what is soft: it is told again until a checkpoint
//! holds it. It never asks a conversation for messages.

pub(crate) mod checkpoint;
pub(crate) mod entries;
pub(crate) mod records;
pub(crate) mod registration;
pub(crate) mod sync;
pub(crate) mod told;

use crate::ids::EdgeAddress;
use crate::shard::context::{Context, Effect, Reading, mailbox_stream};
use crate::shard::links::{Arrival, Cause, Taken};
use crate::shard::loading::{self, ToActor};
use crate::shard::message::{Rank, ToEdge, ToMailbox, ToOwnMailbox};
use crate::shard::report::Report;
use checkpoint::Rows;
use entries::{CHANGE_BLOCK, Entries};
use hashbrown::HashMap;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConnectionNumber, ConversationId, DeviceId, UserId, UserKey};
use roost_storage_engine::{Appended, NewRecord, Query, StoredRecord};
use std::collections::VecDeque;

/// A device of a user.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    /// The newest connection heard in this run of the server, also after it ended.
    pub(crate) connection: ConnectionNumber,
    /// Raised when the device is signed out: older tickets end.
    pub(crate) epoch: u32,
    /// Where its app is connected.
    pub(crate) main: Option<EdgeAddress>,
    /// Where its notification extension is connected.
    pub(crate) extension: Option<EdgeAddress>,
}

impl Device {
    pub(crate) const fn new(id: DeviceId) -> Self {
        Self { id, connection: ConnectionNumber(0), epoch: 0, main: None, extension: None }
    }

    const fn is_connected(&self) -> bool {
        self.main.is_some() || self.extension.is_some()
    }
}

/// What stays in memory of a connected user whose list is evicted.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) user_id: Option<UserId>,
    /// In the order of their last use: the one unused for longest comes first. Snapshots and the
    /// records of connections keep the order.
    pub(crate) devices: Vec<Device>,
    /// The number of the last numbered record of the stream.
    pub(crate) number: u64,
    /// Connection numbers, or the order of use, changed since they were last written.
    pub(crate) connections_changed: bool,
}

impl Slot {
    fn is_connected(&self) -> bool {
        self.devices.iter().any(Device::is_connected)
    }

    /// A device connected, or was connected until now.
    fn note_use(&mut self, place: usize) {
        let later = &mut self.devices[place..];
        self.connections_changed |= later.len() > 1;
        later.rotate_left(1);
    }

    /// Which device makes room for another: the one unused for longest. One that is connected is
    /// in use, so it goes only when all are, and then the one that connected first.
    fn longest_unused(&self) -> usize {
        self.devices.iter().position(|device| !device.is_connected()).unwrap_or(0)
    }
}

#[derive(Debug)]
enum Body {
    /// On disk; news go to the rows.
    Cold,
    /// Being read. What came meanwhile waits; nothing of the slot is known yet if it is new.
    Loading {
        waiting: Vec<Arrival<ToOwnMailbox>>,
    },
    Active(Box<Entries>),
    Corrupt,
}

#[derive(Debug)]
struct Mailbox {
    slot: Slot,
    body: Body,
    touched_tick: u32,
    /// Which place among those that eviction looks at is this one's; 0: none, there is nothing to
    /// let go of.
    stamp: u32,
}

/// The mailboxes of a shard.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    cells: HashMap<UserKey, Mailbox, foldhash::fast::FixedState>,
    order: VecDeque<(UserKey, u32)>,
    stamps: u32,
    rows: Rows,
    /// Messages of rank 3 that found no room among the rows.
    stalled: VecDeque<Arrival<ToMailbox>>,
    seed: u64,
    bytes: u64,
}

impl Mailboxes {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            cells: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            order: VecDeque::new(),
            stamps: 0,
            rows: Rows::default(),
            stalled: VecDeque::new(),
            seed,
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Handles a message of rank 1.
    pub(crate) fn handle(&mut self, ctx: &mut Context, arrival: Arrival<ToOwnMailbox>, tick: u64) {
        let user = arrival.message.user();
        let needs_list =
            matches!(arrival.message, ToOwnMailbox::Sync(_) | ToOwnMailbox::ReadMark(_));
        let Some(mailbox) = self.cells.get_mut(&user) else {
            if let ToOwnMailbox::Gone(_) = arrival.message {
                return ctx.links.release(arrival.token);
            }
            return self.load(ctx, user, vec![arrival]);
        };
        match &mut mailbox.body {
            Body::Loading { waiting } => loading::wait(ctx, waiting, arrival),
            Body::Corrupt => loading::refuse_unreadable(ctx, arrival),
            Body::Cold if needs_list => self.load(ctx, user, vec![arrival]),
            Body::Cold | Body::Active(_) => {
                mailbox.touched_tick = u32::try_from(tick).unwrap_or(u32::MAX);
                self.dispatch(ctx, user, arrival);
            }
        }
    }

    fn dispatch(&mut self, ctx: &mut Context, user: UserKey, arrival: Arrival<ToOwnMailbox>) {
        let Arrival { message, token, .. } = arrival;
        let cause = Cause::message(token, Rank::One);
        match message {
            ToOwnMailbox::Register(register) => self.register(ctx, &register, cause),
            ToOwnMailbox::Gone(gone) => self.gone(&gone),
            ToOwnMailbox::Sync(ask) => self.sync(ctx, &ask, cause),
            ToOwnMailbox::ReadMark(mark) => self.read_mark(ctx, &mark, cause),
        }
        ctx.links.release(token);
        self.let_go_of_empty(user);
    }

    // ---- coming and going ----

    fn load(&mut self, ctx: &mut Context, user: UserKey, waiting: Vec<Arrival<ToOwnMailbox>>) {
        ctx.stats.loads_total += 1;
        let body = Body::Loading { waiting };
        if let Some(mailbox) = self.cells.get_mut(&user) {
            mailbox.body = body;
        } else {
            let slot = Slot::default();
            self.cells.insert(user, Mailbox { slot, body, touched_tick: 0, stamp: 0 });
        }
        ctx.read(Query::Load { stream: mailbox_stream(user) }, Reading::Mailbox(user));
    }

    /// The records of a mailbox were read.
    pub(crate) fn loaded(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        records: Option<&[StoredRecord]>,
        tick: u64,
    ) {
        let Some(mailbox) = self.cells.get_mut(&user) else { return };
        let Body::Loading { waiting } = std::mem::replace(&mut mailbox.body, Body::Corrupt) else {
            return;
        };
        let run = ctx.store.run();
        let seed = self.seed;
        let found = records.ok_or(crate::shard::codec::Malformed);
        let Ok(mut replayed) = found.and_then(|records| records::replay(records, run, seed)) else {
            ctx.reports.push(Report::Unreadable { stream: mailbox_stream(user) });
            for arrival in waiting {
                loading::refuse_unreadable(ctx, arrival);
            }
            return;
        };
        if mailbox.slot.devices.is_empty() {
            // New in memory: the slot is what was stored. A slot that stayed knows better.
            mailbox.slot.devices = std::mem::take(&mut replayed.devices);
            mailbox.slot.user_id = replayed.user_id.take();
        }
        mailbox.slot.number = mailbox.slot.number.max(replayed.number);
        mailbox.touched_tick = u32::try_from(tick).unwrap_or(u32::MAX);
        replayed.entries.accounted_bytes = replayed.entries.bytes();
        self.bytes += replayed.entries.accounted_bytes;
        mailbox.body = Body::Active(Box::new(replayed.entries));
        for conversation in replayed.touched {
            self.bump(ctx, user, conversation);
        }
        for (conversation, row) in self.rows.take(user) {
            self.merge(ctx, user, conversation, &row);
        }
        for arrival in waiting {
            self.handle(ctx, arrival, tick);
        }
    }

    /// Raises the change number of an entry, reserving a block first when it must.
    fn bump(&mut self, ctx: &mut Context, user: UserKey, conversation: ConversationId) {
        let Some(Mailbox { slot, body: Body::Active(entries), .. }) = self.cells.get_mut(&user)
        else {
            return;
        };
        let (mut change, mut block_end) = (entries.change, entries.block_end);
        let mut numbered = true;
        if change >= block_end {
            block_end = change + CHANGE_BLOCK;
            let body = records::encode_number(block_end);
            numbered = append(ctx, slot, user, records::KIND_RESERVE, &body.bytes).is_ok();
        }
        if numbered {
            change += 1;
            entries.change = change;
            entries.block_end = block_end;
        }
        entries.snapshot_number = 0;
        if let Some(entry) = entries.get_mut(conversation) {
            entry.unnumbered = !numbered;
            if numbered {
                entry.change = change;
            }
        }
    }

    /// An empty list is not worth its memory: an idle user of whom nothing is known costs a slot.
    fn let_go_of_empty(&mut self, user: UserKey) {
        if let Some(mailbox) = self.cells.get_mut(&user)
            && let Body::Active(entries) = &mailbox.body
            && entries.is_pristine()
        {
            self.bytes -= entries.accounted_bytes;
            mailbox.body = Body::Cold;
            mailbox.stamp = 0;
        }
        self.watch(user);
    }

    /// Puts a mailbox of which there is something to let go before the clock hand of eviction. An
    /// idle, connected user with an empty list takes no place there.
    fn watch(&mut self, user: UserKey) {
        let Some(mailbox) = self.cells.get_mut(&user) else { return };
        let idle = matches!(mailbox.body, Body::Cold) && mailbox.slot.is_connected();
        if mailbox.stamp == 0 && !idle {
            self.stamps = self.stamps.checked_add(1).unwrap_or(1);
            mailbox.stamp = self.stamps;
            self.order.push_back((user, self.stamps));
        }
    }

    // ---- eviction ----

    /// Looks at a few mailboxes and lets go of the lists that were not touched lately.
    pub(crate) fn evict_some(
        &mut self,
        ctx: &mut Context,
        tick: u64,
        idle_ticks: u64,
        most: usize,
    ) {
        for _ in 0..most.min(self.order.len()) {
            let Some((user, stamp)) = self.order.pop_front() else { return };
            let written = self.write_unwritten(ctx, user, Cause::NONE).is_ok();
            let Some(mailbox) = self.cells.get_mut(&user) else { continue };
            if mailbox.stamp != stamp {
                continue;
            }
            if matches!(mailbox.body, Body::Cold) && mailbox.slot.is_connected() {
                mailbox.stamp = 0;
                continue;
            }
            self.order.push_back((user, stamp));
            if let Body::Active(entries) = &mut mailbox.body {
                let bytes = entries.bytes();
                self.bytes = self.bytes + bytes - entries.accounted_bytes;
                entries.accounted_bytes = bytes;
            }
            if tick.saturating_sub(mailbox.touched_tick.into()) < idle_ticks || !written {
                continue;
            }
            match &mut mailbox.body {
                Body::Active(entries) if entries.list.iter().any(|entry| entry.unnumbered) => {}
                Body::Active(entries) => {
                    let fresh = entries.snapshot_number == mailbox.slot.number
                        && !mailbox.slot.connections_changed;
                    if !fresh {
                        let body =
                            records::encode_snapshot(&mailbox.slot, entries, ctx.store.run());
                        let slot = &mut mailbox.slot;
                        if append(ctx, slot, user, records::KIND_SNAPSHOT, &body.bytes).is_err() {
                            continue;
                        }
                        entries.snapshot_number = slot.number;
                        // The block stands in a record before the snapshot, which nobody reads
                        // any more.
                        entries.block_end = 0;
                        slot.connections_changed = false;
                    }
                    let effect = Effect::EvictMailbox { user, number: mailbox.slot.number };
                    let end = ctx.log_end();
                    ctx.park_eviction(end, effect);
                }
                Body::Cold if !mailbox.slot.is_connected() => {
                    let slot = &mut mailbox.slot;
                    if slot.connections_changed {
                        let body = records::encode_connections(&slot.devices, ctx.store.run());
                        let kind = records::KIND_CONNECTIONS;
                        if append(ctx, slot, user, kind, &body.bytes).is_err() {
                            continue;
                        }
                        slot.connections_changed = false;
                    }
                    let effect = Effect::EvictMailbox { user, number: slot.number };
                    let end = ctx.log_end();
                    ctx.park_eviction(end, effect);
                }
                Body::Cold | Body::Loading { .. } | Body::Corrupt => {}
            }
        }
    }

    /// Lets go of a list, and of the slot when nobody is connected, if nothing happened since.
    pub(crate) fn evict(&mut self, ctx: &mut Context, user: UserKey, number: u64) {
        let Some(mailbox) = self.cells.get_mut(&user) else { return };
        if mailbox.slot.number != number || mailbox.slot.connections_changed {
            return;
        }
        match &mailbox.body {
            Body::Active(entries) if entries.snapshot_number == number => {
                self.bytes -= entries.accounted_bytes;
                mailbox.body = Body::Cold;
                ctx.stats.evictions_total += 1;
            }
            Body::Cold if !mailbox.slot.is_connected() => {
                self.cells.remove(&user);
            }
            Body::Active(_) | Body::Cold | Body::Loading { .. } | Body::Corrupt => {}
        }
    }
}

/// Appends a numbered record to a mailbox's stream.
fn append(
    ctx: &mut Context,
    slot: &mut Slot,
    user: UserKey,
    kind: u8,
    body: &[u8],
) -> Result<Appended, Refusal> {
    let appended = ctx.append(&NewRecord {
        stream: mailbox_stream(user),
        number: slot.number + 1,
        seq: 0,
        stamp: 0,
        kind,
        snapshot_start: kind == records::KIND_SNAPSHOT,
        body: &[body],
    })?;
    slot.number += 1;
    Ok(appended)
}

impl ToActor for ToOwnMailbox {
    const UNREADABLE: &'static str = "this mailbox cannot be read; the operator has been told";

    fn must_wait(&self, _taken: Option<Taken>) -> bool {
        matches!(self, Self::Gone(_) | Self::ReadMark(_))
    }

    fn refuse(self, ctx: &mut Context, _taken: Option<Taken>, refusal: &Refusal) {
        match self {
            Self::Register(register) => {
                let error = Box::new(refusal.to_wire());
                ctx.links.tell_edge(register.edge, ToEdge::Refused(error));
            }
            Self::Sync(ask) => ctx.refuse(ask.edge, ask.request, refusal),
            Self::ReadMark(_) | Self::Gone(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EdgeId, ShardId};

    fn slot(devices: u8) -> Slot {
        let devices = (1..=devices).map(|id| Device::new(DeviceId([id; 16]))).collect();
        Slot { devices, ..Slot::default() }
    }

    fn ids(slot: &Slot) -> Vec<u8> {
        slot.devices.iter().map(|device| device.id.0[0]).collect()
    }

    #[test]
    fn the_device_unused_for_longest_makes_room() {
        let mut slot = slot(4);
        let edge = EdgeAddress { shard: ShardId(0), edge: EdgeId { slot: 1, generation: 1 } };
        // The last to register was used last; that changes nothing worth a record.
        slot.note_use(3);
        assert!(!slot.connections_changed);
        assert_eq!(slot.longest_unused(), 0);
        // The first comes back: the second is now the one unused for longest.
        slot.note_use(0);
        assert!(slot.connections_changed);
        assert_eq!((ids(&slot), slot.longest_unused()), (vec![2, 3, 4, 1], 0));
        // Whoever is connected is in use, however long ago that began.
        slot.devices[0].main = Some(edge);
        slot.devices[1].extension = Some(edge);
        assert_eq!(slot.longest_unused(), 2);
        for device in &mut slot.devices {
            device.main = Some(edge);
        }
        assert_eq!(slot.longest_unused(), 0);
    }
}
