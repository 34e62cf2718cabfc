//! Mailboxes leave memory: first the list, which is written as a snapshot, then, when nobody is
//! connected, the slot. One that is connected and of which nothing else is to be kept is packed.

use super::cells::{Body, Mailbox};
use super::entries::Entries;
use super::{Mailboxes, append, records};
use crate::shard::context::{Context, Effect};
use crate::shard::links::Cause;
use roost_protocol::ids::UserKey;

/// Ticks after which the slot of somebody who is not connected may leave: all that it saves who
/// comes back is a read, and a crowd that has left should not be seen in the memory for long.
const AWAY_TICKS: u64 = 200;
/// Records of what is soft of a slot behind a snapshot: then another snapshot is written.
const SOFT_RECORDS_MAX: u32 = 8;

impl Mailboxes {
    /// An empty list is not worth its memory: an idle user of whom nothing is known costs a slot.
    pub(super) fn let_go_of_empty(&mut self, user: UserKey) {
        if self.cells.entries(user).is_some_and(Entries::is_pristine)
            && let Some(mailbox) = self.cells.get_mut(user)
        {
            self.bytes -= cool(mailbox);
        }
        self.cells.rest(user);
    }

    /// Looks at a few mailboxes and lets go of the lists that were not touched lately.
    pub(crate) fn evict_some(
        &mut self,
        ctx: &mut Context,
        tick: u64,
        idle_ticks: u64,
        most: usize,
    ) {
        let looks = most.min(self.cells.order_len());
        let mut away = 0;
        for _ in 0..looks {
            let Some(user) = self.cells.next_in_order() else { continue };
            let written = self.write_unwritten(ctx, user, Cause::NONE).is_ok();
            if self.cells.rest(user) {
                continue;
            }
            let Some(mailbox) = self.cells.awake(user) else { continue };
            if let Body::Active(entries) = &mut mailbox.body {
                let bytes = entries.bytes();
                self.bytes = self.bytes + bytes - entries.accounted_bytes;
                entries.accounted_bytes = bytes;
            }
            let only_slot = matches!(&mailbox.body, Body::Cold(rows) if rows.is_empty());
            let is_away = only_slot && !mailbox.slot.is_connected();
            away += usize::from(is_away);
            let idle_ticks = if is_away { idle_ticks.min(AWAY_TICKS) } else { idle_ticks };
            let is_due = tick.saturating_sub(mailbox.touched_tick.into()) >= idle_ticks;
            if !(is_due && written && self.write_to_evict(ctx, user)) {
                self.cells.stand_again(user);
            }
        }
        if looks > 0 {
            self.crowd_left = away > looks / 2;
        }
    }

    /// Whether most of those that eviction looked at last are of users who are not connected: a
    /// crowd has left.
    pub(crate) const fn crowd_left(&self) -> bool {
        self.crowd_left
    }

    /// Writes what of a mailbox is not in the store; it leaves memory when that is durable, and
    /// does not stand in the order until then. Says whether it does.
    fn write_to_evict(&mut self, ctx: &mut Context, user: UserKey) -> bool {
        // Without room on the disk it stays where it is.
        if self.write_cold(ctx, user).is_err() {
            return false;
        }
        let Some(mailbox) = self.cells.awake(user) else { return false };
        let may_leave = match &mailbox.body {
            Body::Active(entries) => entries.unnumbered().is_empty(),
            Body::Cold(_) => !mailbox.slot.is_connected(),
            Body::Loading(_) | Body::Corrupt => false,
        };
        if !may_leave || !write_down(ctx, mailbox) {
            return false;
        }
        let effect = Effect::EvictMailbox { user, number: mailbox.slot.number };
        let end = ctx.log_end();
        ctx.park_eviction(end, effect);
        true
    }

    /// Lets go of a list, and of the slot when nobody is connected, if nothing happened since.
    pub(crate) fn evict(&mut self, ctx: &mut Context, user: UserKey, number: u64) {
        self.let_go(ctx, user, number);
        // Whoever is still awake is looked at again.
        self.cells.stand_again(user);
    }

    fn let_go(&mut self, ctx: &mut Context, user: UserKey, number: u64) {
        // One that rests meanwhile is left alone.
        let Some(mailbox) = self.cells.awake(user) else { return };
        if mailbox.slot.number != number || mailbox.slot.soft_changed {
            return;
        }
        match &mailbox.body {
            // A mark that came meanwhile and found no room is nowhere else.
            Body::Active(entries) if !entries.unwritten.is_empty() => {}
            Body::Active(entries) if entries.stored_number == number => {
                self.bytes -= cool(mailbox);
                ctx.stats.evictions_total += 1;
                self.cells.rest(user);
            }
            Body::Cold(rows) if !mailbox.slot.is_connected() && rows.is_empty() => {
                self.cells.remove(user);
            }
            Body::Active(_) | Body::Cold(_) | Body::Loading(_) | Body::Corrupt => {}
        }
    }
}

/// Writes a snapshot of a list, or only what is soft of the slot when that is all that is not
/// stored. Says whether there was room.
fn write_down(ctx: &mut Context, mailbox: &mut Mailbox) -> bool {
    let (user, run) = (mailbox.user, ctx.store.run());
    let slot = &mut mailbox.slot;
    let entries = match &mut mailbox.body {
        Body::Active(entries) => Some(entries),
        Body::Cold(_) | Body::Loading(_) | Body::Corrupt => None,
    };
    let Some(entries) = entries else {
        if slot.soft_changed {
            let body = records::encode_soft(slot, None, run);
            if append(ctx, slot, user, records::KIND_SOFT, &body.bytes).is_err() {
                return false;
            }
            slot.soft_changed = false;
        }
        return true;
    };
    let stored = entries.stored_number == slot.number && slot.number > 0;
    if stored && !slot.soft_changed {
        return true;
    }
    let soft = stored && entries.since_snapshot < SOFT_RECORDS_MAX;
    let (kind, body) = if soft {
        (records::KIND_SOFT, records::encode_soft(slot, Some(&**entries), run))
    } else {
        (records::KIND_SNAPSHOT, records::encode_snapshot(user, slot, entries, run))
    };
    if append(ctx, slot, user, kind, &body.bytes).is_err() {
        return false;
    }
    entries.stored_number = slot.number;
    entries.since_snapshot = if soft { entries.since_snapshot + 1 } else { 0 };
    slot.soft_changed = false;
    if !soft {
        entries.clean();
        // The block stands in a record before the snapshot, which nobody reads any more.
        entries.block_end = 0;
    }
    true
}

/// Takes a list out of memory. Gives the bytes that were counted for it.
fn cool(mailbox: &mut Mailbox) -> u64 {
    let Body::Active(entries) = std::mem::replace(&mut mailbox.body, Body::Cold(Vec::new())) else {
        return 0;
    };
    let requests = entries.list.iter().any(|entry| entry.is_request());
    mailbox.slot.screens = requests || mailbox.slot.privacy.contacts_only;
    mailbox.slot.blocks_some = entries.profile.blocks_some();
    entries.accounted_bytes
}
