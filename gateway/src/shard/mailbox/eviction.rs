//! Mailboxes leave memory: first the list, which is written as a snapshot, then, when nobody is
//! connected, the slot. One that is connected and of which nothing else is to be kept is packed.

use super::cells::{Body, Mailbox};
use super::entries::Entries;
use super::{Mailboxes, append, records};
use crate::shard::context::{Context, Effect};
use crate::shard::links::Cause;
use roost_protocol::ids::UserKey;

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
        for _ in 0..most.min(self.cells.order_len()) {
            let Some(user) = self.cells.next_in_order() else { continue };
            let written = self.write_unwritten(ctx, user, Cause::NONE).is_ok();
            let rests = self.cells.rest(user);
            self.cells.stand_again(user);
            if rests {
                continue;
            }
            let Some(mailbox) = self.cells.get_mut(user) else { continue };
            if let Body::Active(entries) = &mut mailbox.body {
                let bytes = entries.bytes();
                self.bytes = self.bytes + bytes - entries.accounted_bytes;
                entries.accounted_bytes = bytes;
            }
            if tick.saturating_sub(mailbox.touched_tick.into()) >= idle_ticks && written {
                self.write_to_evict(ctx, user);
            }
        }
    }

    /// Writes what of a mailbox is not in the store; it leaves memory when that is durable.
    fn write_to_evict(&mut self, ctx: &mut Context, user: UserKey) {
        // Without room on the disk it stays where it is.
        if self.write_cold(ctx, user).is_err() {
            return;
        }
        let Some(mailbox) = self.cells.get_mut(user) else { return };
        let may_leave = match &mailbox.body {
            Body::Active(entries) => entries.unnumbered().is_empty(),
            Body::Cold(_) => !mailbox.slot.is_connected(),
            Body::Loading(_) | Body::Corrupt => false,
        };
        if !may_leave || !write_down(ctx, mailbox) {
            return;
        }
        let effect = Effect::EvictMailbox { user, number: mailbox.slot.number };
        let end = ctx.log_end();
        ctx.park_eviction(end, effect);
    }

    /// Lets go of a list, and of the slot when nobody is connected, if nothing happened since.
    pub(crate) fn evict(&mut self, ctx: &mut Context, user: UserKey, number: u64) {
        // One that rests meanwhile is left alone.
        let Some(mailbox) = self.cells.awake(user) else { return };
        if mailbox.slot.number != number || mailbox.slot.soft_changed {
            return;
        }
        match &mailbox.body {
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
