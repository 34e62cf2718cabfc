//! How far each member has got, and who is told of it.
//!
//! Delivered marks are soft: devices say them again. Read marks are records, and owe the telling.
//! A sender is told at most once in `limits.receipt_interval_ms`: the first news at once, what
//! comes within the interval at its end, received and read together. In direct conversations that
//! is by reader; in groups by conversation, and told is only how far *all* have got, to those who
//! have messages that were not ticked yet.

use super::members::{Member, MemberNumber};
use super::records::{KIND_READ, ReadRecord};
use super::{Conversation, confirm};
use crate::shard::codec::Writer;
use crate::shard::context::{Context, Effect};
use crate::shard::links::{Arrival, Cause, Owed, Taken, Token};
use crate::shard::message::{DeliveredMark, ReadTold, ReceiptTold, ToConversation, ToMailbox};
use roost_protocol::ids::{Sequence, UserKey};
use roost_storage_engine::{Appended, SegmentId};
use std::sync::Arc;

/// What waits to be told, by reader; groups have one of it.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    /// From when on something may be told at once (monotonic ms).
    next_ms: [u64; 2],
    /// When something is to be told; 0: nothing is.
    due_ms: [u64; 2],
    /// When this conversation is looked at next; 0: no timer was set. One serves both.
    timer_ms: u64,
    /// Segments whose read marks were not told yet: each owes one message until then.
    debts: Vec<(usize, SegmentId)>,
    /// Groups: somebody has a message that was not ticked by all.
    pub(crate) awaited: bool,
    /// Groups: those who are last in receiving, and in reading.
    last: [Last; 2],
}

/// How many are last, and where. When none is there any more, all have got further: until then a
/// mark changes nothing, and nobody need look at every member.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    seq: Sequence,
    count: usize,
}

/// How far a member has got: received, read; `None` when it does not count for all.
pub(crate) type Got = [Option<Sequence>; 2];

impl Receipts {
    /// A member of a group has got further. Says whether it was the last of the last.
    pub(crate) fn moved(&mut self, before: Got, after: Got) -> bool {
        let mut all = false;
        for ((last, before), after) in self.last.iter_mut().zip(before).zip(after) {
            if before == Some(last.seq) && before != after {
                last.count = last.count.saturating_sub(1);
                all |= last.count == 0;
            }
        }
        all
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.debts.is_empty() && self.due_ms == [0; 2]
    }

    fn take_debts(&mut self, slot: usize) -> Vec<SegmentId> {
        let mut taken = Vec::new();
        self.debts.retain(|(of, segment)| {
            if *of == slot {
                taken.push(*segment);
            }
            *of != slot
        });
        taken
    }
}

/// What the last of some members has, and the last but that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Least {
    least: Option<(Sequence, MemberNumber)>,
    second: Option<Sequence>,
    /// How many have as little.
    count: usize,
}

impl Least {
    fn take(&mut self, seq: Sequence, member: MemberNumber) {
        match self.least {
            Some((least, _)) if seq >= least => {
                self.count += usize::from(seq == least);
                self.second = Some(self.second.map_or(seq, |second| second.min(seq)));
            }
            Some((least, _)) => {
                self.second = Some(least);
                (self.least, self.count) = (Some((seq, member)), 1);
            }
            None => (self.least, self.count) = (Some((seq, member)), 1),
        }
    }

    fn last(&self) -> Last {
        Last { seq: self.least.map_or(Sequence(0), |(seq, _)| seq), count: self.count }
    }

    /// What all of them have but this one; nothing if there is no other.
    fn without(&self, member: MemberNumber) -> Sequence {
        match self.least {
            Some((_, least)) if least == member => self.second.unwrap_or_default(),
            Some((seq, _)) => seq,
            None => Sequence(0),
        }
    }
}

impl Conversation {
    /// A device holds everything up to a seq. Soft: nothing is written.
    pub(crate) fn delivered(&mut self, ctx: &mut Context, mark: DeliveredMark, cause: Cause) {
        self.refresh_durable(ctx.store.durable());
        let Some(number) = self.members.find(mark.user) else { return };
        let (direct, durable) = (self.is_direct(), self.durable.seq);
        let member = self.members.get_mut(number);
        // What is said again is told again where it may have been forgotten.
        let news = match direct {
            true => mark.seq > member.delivered_told,
            false => mark.seq > member.delivered || self.receipts.awaited,
        };
        // A watermark from the future, or of what a crash took back, says nothing; nor does that of
        // somebody who left.
        if !news || mark.seq > durable || !member.is_present() {
            return;
        }
        let before = member.got();
        if mark.seq > member.delivered {
            member.delivered = mark.seq;
            member.delivered_ms = ctx.now.wall.ms;
            self.snapshot_number = 0;
        }
        ctx.stats.receipts_total += 1;
        let after = member.got();
        self.tell_soon(ctx, number, (before, after), cause);
    }

    /// A mailbox tells its user's read mark.
    pub(crate) fn read(
        &mut self,
        ctx: &mut Context,
        told: ReadTold,
        taken: Option<Taken>,
        cause: Cause,
    ) {
        let number = self
            .members
            .find(told.user)
            .filter(|number| !self.is_channel() && self.members.get(*number).is_present());
        let Some(number) = number else { return confirm(ctx, taken, cause) };
        // What was not said cannot have been read.
        let seq = told.seq.min(self.head.seq);
        if seq <= self.members.get(number).read {
            return confirm(ctx, taken, cause);
        }
        let record = ReadRecord { member: number, seq, ms: ctx.now.wall.ms, private: told.private };
        let mut out = Writer::default();
        record.encode(&mut out);
        let Ok(appended) = self.append_state(ctx, KIND_READ, &out) else {
            // The mark is safe in the mailbox, and owed: it is tried again until it is here too.
            let message = ToConversation::ReadTold(told).into();
            ctx.retry.push_back(Arrival { message, token: Token::NONE, taken });
            return;
        };
        let before = self.members.get(number).got();
        self.note_read(record);
        ctx.stats.reads_total += 1;
        let after = self.members.get(number).got();
        // Of two, the other is not told; in a group it has at least been received.
        if !told.private || !self.is_direct() {
            self.owe_receipt(ctx, number, appended);
            self.tell_soon(ctx, number, (before, after), cause);
        }
        confirm(ctx, taken, cause);
        self.snapshot_when_due(ctx);
    }

    /// A read mark changes the state.
    pub(crate) fn note_read(&mut self, record: ReadRecord) {
        let member = self.members.get_mut(record.member);
        member.read = member.read.max(record.seq);
        member.read_ms = record.ms;
        member.private = record.private;
    }

    /// A group's record moved marks by itself: its writer has what it answers, or somebody left
    /// who was the last.
    pub(crate) fn note_moved(
        &mut self,
        ctx: &mut Context,
        (member, changed): (MemberNumber, bool),
        moved: (Got, Got),
        appended: Appended,
        cause: Cause,
    ) {
        if !self.receipts.awaited || (moved.0 == moved.1 && !changed) {
            return;
        }
        self.owe_receipt(ctx, member, appended);
        self.tell_soon(ctx, member, moved, cause);
    }

    /// Direct conversations have a place for each reader, groups one for all.
    const fn slot(&self, reader: MemberNumber) -> usize {
        if self.is_direct() { reader.index() } else { 0 }
    }

    /// What a record says must be told, also after a crash: its segment stays with what is to be
    /// recovered until it was.
    fn owe_receipt(&mut self, ctx: &mut Context, reader: MemberNumber, appended: Appended) {
        let debt = (self.slot(reader), appended.segment);
        if !self.receipts.debts.contains(&debt) {
            self.receipts.debts.push(debt);
            ctx.store.owe(appended.segment, 1);
        }
    }

    /// Tells the senders how far a reader has got: at once, or when the interval is over.
    fn tell_soon(
        &mut self,
        ctx: &mut Context,
        reader: MemberNumber,
        (before, after): (Got, Got),
        cause: Cause,
    ) {
        let (slot, now_ms) = (self.slot(reader), ctx.now_ms());
        let interval_ms = u64::from(ctx.limits.receipt_interval_ms);
        let mut worth_it = true;
        if !self.is_direct() {
            worth_it = self.receipts.moved(before, after) || interval_ms == 0;
            if self.is_channel() || !self.receipts.awaited {
                return self.settle_receipts(ctx, slot);
            }
        }
        let next_ms = self.receipts.next_ms[slot];
        if worth_it && now_ms >= next_ms {
            self.receipts.next_ms[slot] = now_ms + interval_ms;
            self.tell_receipts(ctx, slot, cause);
        } else if self.receipts.due_ms[slot] == 0 {
            ctx.stats.receipts_coalesced_total += 1;
            let due_ms = next_ms.max(now_ms + u64::from(!worth_it) * interval_ms).max(1);
            self.receipts.due_ms[slot] = due_ms;
            self.look_at(ctx, due_ms);
        }
    }

    fn look_at(&mut self, ctx: &mut Context, due_ms: u64) {
        if self.receipts.timer_ms == 0 || due_ms < self.receipts.timer_ms {
            self.receipts.timer_ms = due_ms;
            ctx.timers.at(due_ms, self.id);
        }
    }

    /// The interval may be over.
    pub(crate) fn receipts_due(&mut self, ctx: &mut Context) {
        self.refresh_durable(ctx.store.durable());
        let now_ms = ctx.now_ms();
        if now_ms >= self.receipts.timer_ms {
            self.receipts.timer_ms = 0;
        }
        for slot in 0..2 {
            let due_ms = self.receipts.due_ms[slot];
            if due_ms != 0 && due_ms <= now_ms {
                self.receipts.due_ms[slot] = 0;
                let interval_ms = u64::from(ctx.limits.receipt_interval_ms);
                self.receipts.next_ms[slot] = now_ms + interval_ms;
                self.tell_receipts(ctx, slot, Cause::NONE);
            }
        }
        let later = self.receipts.due_ms.into_iter().filter(|due_ms| *due_ms != 0).min();
        if let Some(due_ms) = later {
            self.look_at(ctx, due_ms);
        }
    }

    fn settle_receipts(&mut self, ctx: &mut Context, slot: usize) {
        for segment in self.receipts.take_debts(slot) {
            ctx.store.settle(segment, 1);
        }
    }

    fn tell_receipts(&mut self, ctx: &mut Context, slot: usize, cause: Cause) {
        if self.is_direct() {
            self.tell_of(ctx, MemberNumber::of(slot), cause);
        } else {
            self.tell_by_all(ctx, cause);
        }
    }

    // ---- direct ----

    /// Tells the other of the two how far this one has got.
    fn tell_of(&mut self, ctx: &mut Context, reader: MemberNumber, cause: Cause) {
        let to = self.members.list[1 - reader.index()].user;
        let member = self.members.get_mut(reader);
        let news = |now: Sequence, told: &mut Sequence| {
            let news = now > *told;
            *told = now.max(*told);
            if news { now } else { Sequence(0) }
        };
        let delivered = news(member.delivered, &mut member.delivered_told);
        let shown = if member.private { member.read_told } else { member.read };
        let read = news(shown, &mut member.read_told);
        if delivered.0 == 0 && read.0 == 0 {
            return self.settle_receipts(ctx, reader.index());
        }
        if self.receipts.debts.is_empty() {
            // Delivered alone waits for no flush: it stays true though the server forgets.
            let message = self.receipt_told(to, delivered, read);
            let home = ctx.home_of_user(to);
            return ctx.links.tell(home, message, Owed::Nothing, cause);
        }
        let debts = self.receipts.take_debts(reader.index());
        self.tell_one(ctx, (to, delivered, read), &debts, cause);
    }

    fn receipt_told(&self, to: UserKey, delivered: Sequence, read: Sequence) -> ToMailbox {
        let (conversation, card) = (self.id, Arc::clone(&self.card));
        ToMailbox::ReceiptTold(Box::new(ReceiptTold { conversation, card, to, delivered, read }))
    }

    /// Tells one sender, once for each segment that owes it: nearly always there is one.
    fn tell_one(
        &self,
        ctx: &mut Context,
        (user, delivered, read): (UserKey, Sequence, Sequence),
        debts: &[SegmentId],
        cause: Cause,
    ) {
        let to = ctx.home_of_user(user);
        let end = ctx.log_end();
        let owed = debts.iter().map(|segment| Owed::Segment(*segment));
        let free = debts.is_empty().then_some(Owed::Nothing);
        for owed in owed.chain(free) {
            let message = self.receipt_told(user, delivered, read).into();
            ctx.park(end, Effect::Tell { to, message, owed }, cause);
        }
    }

    // ---- groups ----

    /// How far all who are in have got: received, read.
    fn by_all(&self) -> (Least, Least) {
        let (mut received, mut read) = (Least::default(), Least::default());
        for (number, member) in self.members.iter_present() {
            received.take(member.has_received(), number);
            if !member.private {
                read.take(member.has_read(), number);
            }
        }
        (received, read)
    }

    /// Tells those with messages that were not ticked how far all have got. Looks at every member
    /// once.
    fn tell_by_all(&mut self, ctx: &mut Context, cause: Cause) {
        ctx.stats.receipt_rounds_total += 1;
        let (received, read) = self.by_all();
        let mut told = Vec::new();
        self.receipts.awaited = false;
        self.receipts.last = [received.last(), read.last()];
        for (index, member) in self.members.list.iter_mut().enumerate() {
            if member.undelivered.0 == 0 && member.unread.0 == 0 {
                continue;
            }
            let number = MemberNumber::of(index);
            let last = member.own_last;
            let [received, read] = told_of_all(&received, &read, number);
            let received = tick(&mut member.undelivered, received, last);
            let read = tick(&mut member.unread, read, last);
            self.receipts.awaited |= member.undelivered.0 > 0 || member.unread.0 > 0;
            if received.0 > 0 || read.0 > 0 {
                told.push((member.user, received, read));
            }
        }
        let debts = self.receipts.take_debts(0);
        for segment in &debts {
            ctx.store.owe(*segment, u32::try_from(told.len()).unwrap_or(u32::MAX));
        }
        for one in told {
            self.tell_one(ctx, one, &debts, cause);
        }
        for segment in debts {
            ctx.store.settle(segment, 1);
        }
    }

    /// A group begins: everybody is where it begins.
    pub(crate) fn count_last(&mut self) {
        let (received, read) = self.by_all();
        self.receipts.last = [received.last(), read.last()];
    }

    /// After loading: what was told in an earlier run of the server may be forgotten, so it is told
    /// again when somebody says something.
    pub(crate) fn note_loaded(&mut self, same_run: bool) {
        if !self.is_direct() {
            self.count_last();
        }
        for member in self.members.list.iter_mut().filter(|_| !same_run) {
            (member.delivered_told, member.read_told) = Default::default();
            if member.own_last.0 > 0 && member.is_present() {
                (member.undelivered, member.unread) = (Sequence(1), Sequence(1));
            }
        }
        let waits = |member: &Member| member.undelivered.0 > 0 || member.unread.0 > 0;
        self.receipts.awaited = self.members.list.iter().any(waits);
    }

    /// What everybody should know, after a crash. Returns how many messages.
    pub(crate) fn tell_receipts_again(&self, ctx: &mut Context) -> u64 {
        let mut told = Vec::new();
        if self.is_direct() {
            for (index, member) in self.members.list.iter().enumerate() {
                let read = if member.private { Sequence(0) } else { member.read };
                told.push((self.members.list[1 - index].user, member.delivered, read));
            }
        } else if !self.is_channel() {
            let (received, read) = self.by_all();
            for (number, member) in self.members.iter_present().filter(|(_, m)| m.own_last.0 > 0) {
                let [received, read] = told_of_all(&received, &read, number);
                told.push((member.user, received, read));
            }
        }
        told.retain(|(_, delivered, read)| delivered.0 > 0 || read.0 > 0);
        let end = ctx.log_end();
        for (user, delivered, read) in &told {
            let message = self.receipt_told(*user, *delivered, *read).into();
            let to = ctx.home_of_user(*user);
            ctx.park(end, Effect::Tell { to, message, owed: Owed::Replay }, Cause::NONE);
        }
        told.len() as u64
    }
}

/// How far all but one have received and read. Who does not tell is left out of those who have
/// read: what is read by all others is received by all only when those have it, too.
fn told_of_all(received: &Least, read: &Least, but: MemberNumber) -> [Sequence; 2] {
    let received = received.without(but);
    [received, read.without(but).min(received)]
}

/// All have got this far: gives how far to tell somebody whose first message that was not ticked is
/// this one, and moves it behind; 0 when there is nothing to tell.
fn tick(first: &mut Sequence, all: Sequence, last: Sequence) -> Sequence {
    if first.0 == 0 || all < *first {
        return Sequence(0);
    }
    *first = if all < last { all.next() } else { Sequence(0) };
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_all_but_one() {
        let mut least = Least::default();
        assert_eq!(least.without(MemberNumber(0)), Sequence(0));
        for (number, seq) in [(0, 7), (1, 3), (2, 9), (3, 5), (4, 3)] {
            least.take(Sequence(seq), MemberNumber(number));
        }
        assert_eq!(least.without(MemberNumber(2)), Sequence(3));
        assert_eq!(least.without(MemberNumber(1)), Sequence(3));
        let mut pair = Least::default();
        pair.take(Sequence(4), MemberNumber(0));
        pair.take(Sequence(2), MemberNumber(1));
        assert_eq!(pair.without(MemberNumber(1)), Sequence(4));
        assert_eq!(pair.without(MemberNumber(0)), Sequence(2));
    }

    #[test]
    fn a_tick_is_told_once() {
        let mut first = Sequence(5);
        assert_eq!(tick(&mut first, Sequence(4), Sequence(9)), Sequence(0));
        assert_eq!(tick(&mut first, Sequence(6), Sequence(9)), Sequence(6));
        assert_eq!(first, Sequence(7));
        assert_eq!(tick(&mut first, Sequence(6), Sequence(9)), Sequence(0));
        assert_eq!(tick(&mut first, Sequence(9), Sequence(9)), Sequence(9));
        assert_eq!(first, Sequence(0));
    }
}
