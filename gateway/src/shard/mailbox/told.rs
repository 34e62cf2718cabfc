//! What conversations tell: there is something new, somebody received or read, somebody asks.

use super::cells::{Body, Mailbox};
use super::held::{HeldPush, Loading};
use super::pushes::Pushes;
use super::records::{ROWS_PER_RECORD, State};
use super::row::{Own, Row, row_of};
use super::slot::Device;
use super::slot::seconds;
use super::{Mailboxes, bump, presence};
use crate::ids::EdgeAddress;
use crate::shard::context::Context;
use crate::shard::links::{Arrival, Cause};
use crate::shard::loading;
use crate::shard::message::{
    Deliver, Membership, Part, Point, Rank, ReceiptTold, Recipients, ToEdge, ToMailbox,
};
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, UserKey};

/// Lists that may be loading at a time because others ask.
const LOADS_FOR_OTHERS_MAX: usize = 256;
/// About how long after that an answer may be asked for again.
const BUSY_MS: u32 = 200;
/// Up to so many things about users are looked through, more are put in order first.
const FEW: usize = 8;

impl Mailboxes {
    /// Handles a message of rank 3. News never wait for a load: those of a mailbox that is not in
    /// memory go to the rows. Questions may, and are then kept without their credit.
    pub(crate) fn handle_told(&mut self, ctx: &mut Context, arrival: Arrival<ToMailbox>) {
        if !self.stalled.is_empty() || !self.has_room(ctx, &arrival.message) {
            // The checkpoint that makes room was asked for; until then the credit is held.
            self.stalled.push_back(arrival);
            return;
        }
        self.take_told(ctx, arrival);
    }

    /// Whether a message's rows fit into the table. One that never would fits an empty one.
    fn has_room(&self, ctx: &Context, message: &ToMailbox) -> bool {
        let most = ctx.limits.head_table_rows_max as usize;
        let needed = match message {
            ToMailbox::Deliver(deliver) => deliver.recipients.as_slice().len(),
            ToMailbox::ReceiptTold(_) => 1,
            ToMailbox::PresenceAsked(_)
            | ToMailbox::DevicesAsked(_)
            | ToMailbox::BlockConfirmed(_)
            | ToMailbox::VersionWanted(_)
            | ToMailbox::ChannelConfirmed(_) => 0,
        };
        needed == 0 || self.rows.count == 0 || self.rows.count + needed <= most
    }

    /// Whether a checkpoint must make room.
    pub(crate) fn rows_full(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// Goes on with what waited for room.
    pub(crate) fn take_stalled(&mut self, ctx: &mut Context) {
        while let Some(arrival) = self.stalled.front() {
            if !self.has_room(ctx, &arrival.message) {
                return;
            }
            let Some(arrival) = self.stalled.pop_front() else { return };
            self.take_told(ctx, arrival);
        }
    }

    fn take_told(&mut self, ctx: &mut Context, arrival: Arrival<ToMailbox>) {
        let Arrival { message, token, .. } = arrival;
        match message {
            ToMailbox::Deliver(deliver) => self.deliver(ctx, &deliver),
            ToMailbox::ReceiptTold(told) => self.receipt(ctx, &told),
            question @ (ToMailbox::PresenceAsked(_)
            | ToMailbox::DevicesAsked(_)
            | ToMailbox::BlockConfirmed(_)
            | ToMailbox::VersionWanted(_)
            | ToMailbox::ChannelConfirmed(_)) => {
                self.question(ctx, question, Cause::message(token, Rank::Three));
            }
        }
        ctx.links.release(token);
    }

    // ---- news ----

    fn deliver(&mut self, ctx: &mut Context, deliver: &Deliver) {
        let mut pushes = Pushes::new(ctx, deliver);
        let details = Details::new(deliver);
        for user in deliver.recipients.as_slice() {
            let own = details.of(*user);
            self.deliver_to(ctx, *user, &own, deliver, &mut pushes);
        }
        pushes.finish(ctx);
    }

    fn deliver_to(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        own: &Own<'_>,
        deliver: &Deliver,
        pushes: &mut Pushes<'_>,
    ) {
        let Some(mailbox) = self.cells.get_mut(user) else {
            return self.deliver_away(ctx, user, own, deliver);
        };
        if deliver.begins_by(user) {
            let (now_s, per_hour) = (seconds(ctx.now.wall), ctx.limits.first_contacts_per_hour);
            mailbox.slot.contacts.take(now_s, per_hour);
        }
        let rows = match &mut mailbox.body {
            Body::Active(_) => return self.deliver_active(ctx, user, own, deliver, pushes),
            Body::Corrupt => return self.deliver_away(ctx, user, own, deliver),
            Body::Cold(rows) => rows,
            Body::Loading(loading) => &mut loading.rows,
        };
        let (row, new) = row_of(rows, deliver.conversation, &deliver.card);
        let mark = row.own_mark;
        let news = row.deliver(deliver.head, deliver.message_id, own) | new;
        let marked = row.own_mark != mark;
        let overfull = rows.len() > ROWS_PER_RECORD;
        if news {
            self.rows.count += usize::from(new);
            self.rows.enqueue(mailbox);
        } else if deliver.fresh.is_none() {
            // What is told again is pushed only if it is news here.
            return;
        }
        if mailbox.slot.screens {
            self.hold_pushes(ctx, user, deliver.conversation, pushes);
        } else {
            pushes.to(ctx, user, mailbox.slot.devices.as_slice());
        }
        if overfull {
            // Without room on the disk they wait for the checkpoint.
            drop(self.write_cold(ctx, user));
        }
        if let Some(fresh) = deliver.fresh.as_deref()
            && marked
        {
            self.show_when_loaded(ctx, user, deliver.conversation, fresh.sender_edge);
        }
    }

    /// News for a user whose list is in memory.
    fn deliver_active(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        own: &Own<'_>,
        deliver: &Deliver,
        pushes: &mut Pushes<'_>,
    ) {
        let conversation = deliver.conversation;
        let Some(mailbox) = self.cells.get_mut(user) else { return };
        let Mailbox { slot, body: Body::Active(entries), .. } = mailbox else { return };
        let known = entries.find(conversation);
        if known.is_none() && entries.list.len() >= conversations_max(ctx) {
            ctx.stats.entries_dropped_total += 1;
            return;
        }
        let place = known.unwrap_or_else(|| entries.entry(conversation, &deliver.card));
        let (was_request, read) = (entries.at(place).is_request(), entries.at(place).read());
        let row = &mut entries.at_mut(place).row;
        let news = row.deliver(deliver.head, deliver.message_id, own) | known.is_none();
        entries.decide(place, user, slot.privacy.contacts_only);
        let is_request = entries.at(place).is_request();
        let marked = own.mark.is_some() && entries.at(place).read() != read;
        if news {
            entries.soil(place);
            bump(ctx, user, slot, entries, place);
        }
        if !is_request && (news || deliver.fresh.is_some()) {
            pushes.to(ctx, user, slot.devices.as_slice());
        }
        if news {
            self.rows.enqueue(mailbox);
        }
        // Whoever sent it knows how far it moved the mark.
        let by = deliver.fresh.as_ref().map(|fresh| fresh.sender_edge);
        if was_request != is_request || (is_request && known.is_none()) {
            self.push_entry(ctx, user, conversation, None, Cause::NONE);
        } else if marked {
            self.push_entry(ctx, user, conversation, by, Cause::NONE);
        }
    }

    /// News for a user who has no list here.
    fn deliver_away(&mut self, ctx: &mut Context, user: UserKey, own: &Own<'_>, deliver: &Deliver) {
        let (row, new) = self.rows.of_away(user, deliver.conversation, &deliver.card);
        row.deliver(deliver.head, deliver.message_id, own);
        if new && !own.wrote && deliver.fresh.is_some() {
            ctx.stats.away_total += 1;
        }
        if new && self.rows.away_len(user) > ROWS_PER_RECORD {
            // Without room on the disk they wait for the checkpoint.
            drop(self.write_away(ctx, user));
        }
    }

    fn receipt(&mut self, ctx: &mut Context, told: &ReceiptTold) {
        let user = told.to;
        let Some(mailbox) = self.cells.get_mut(user) else {
            self.rows.of_away(user, told.conversation, &told.card).0.receipt(told);
            return;
        };
        let (news, new) = match &mut mailbox.body {
            Body::Active(_) => (receipt_active(ctx, mailbox, told), false),
            Body::Cold(rows) => receipt_row(rows, told),
            Body::Loading(loading) => receipt_row(&mut loading.rows, told),
            Body::Corrupt => {
                self.rows.of_away(user, told.conversation, &told.card).0.receipt(told);
                return;
            }
        };
        self.rows.count += usize::from(new);
        self.rows.enqueue(mailbox);
        if !news {
            return;
        }
        for edge in mailbox.slot.devices.as_slice().iter().filter_map(Device::main) {
            let what = ToEdge::Receipt {
                conversation: told.conversation,
                delivered: told.delivered,
                read: told.read,
            };
            ctx.links.tell_edge(edge, what);
        }
    }

    /// Takes a row into a list that is in memory.
    pub(super) fn merge_row(&mut self, ctx: &mut Context, user: UserKey, row: &Row) {
        let most = conversations_max(ctx);
        let Some(mailbox) = self.cells.get_mut(user) else { return };
        let Mailbox { slot, body: Body::Active(entries), .. } = mailbox else { return };
        match (State { user, slot, entries }).take_row(row, most) {
            Some((place, true)) => {
                entries.soil(place);
                bump(ctx, user, slot, entries, place);
                self.rows.enqueue(mailbox);
            }
            Some((_, false)) => {}
            None => ctx.stats.entries_dropped_total += 1,
        }
    }

    // ---- what may not be pushed unseen ----

    /// Keeps pushes until it is known whether the conversation is a stranger's request. The list is
    /// loaded for that.
    fn hold_pushes(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        conversation: ConversationId,
        pushes: &mut Pushes<'_>,
    ) {
        let Some(mailbox) = self.cells.get(user) else { return };
        let devices = mailbox.slot.devices.as_slice().iter();
        let edges = devices.filter_map(|device| device.main().map(|edge| (device.id, edge)));
        let frames = edges.filter_map(|(device, edge)| {
            pushes.frame(user, device, edge).map(|frame| HeldPush { conversation, edge, frame })
        });
        let frames: Vec<HeldPush> = frames.collect();
        if frames.is_empty() {
            return;
        }
        match self.load_for_others(ctx, user) {
            Some(loading) => frames.into_iter().for_each(|push| loading.hold(push)),
            // Too many are being loaded: the devices ask for it themselves.
            None => frames.iter().for_each(|push| ctx.links.tell_edge(push.edge, ToEdge::Behind)),
        }
    }

    /// The user wrote, which moved the read mark: the other connected devices are shown the entry
    /// as soon as the list is there. It is loaded for that, if not too many are; else they find it
    /// by Sync.
    fn show_when_loaded(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        conversation: ConversationId,
        but: EdgeAddress,
    ) {
        if !self.main_edges(user, Some(but)).is_empty()
            && let Some(loading) = self.load_for_others(ctx, user)
        {
            loading.show(conversation, Some(but));
        }
    }

    /// The list is there: pushes what is not a request, and entries of which the devices should
    /// know, the requests among them.
    pub(super) fn release_pushes(&self, ctx: &mut Context, user: UserKey, held: &mut Loading) {
        let (pushes, behind) = held.take_pushes();
        let Some(mailbox) = self.cells.get(user) else { return };
        let Some(entries) = mailbox.entries() else { return };
        for HeldPush { conversation, edge, frame } in pushes {
            let Some(entry) = entries.get(conversation) else { continue };
            if entry.is_request() {
                held.show(conversation, None);
            } else {
                ctx.stats.deliveries_total += 1;
                ctx.links.tell_edge(edge, ToEdge::Push(frame));
            }
        }
        for (conversation, but) in held.take_shown() {
            self.push_entry(ctx, user, conversation, but, Cause::NONE);
        }
        if behind {
            for edge in mailbox.slot.devices.as_slice().iter().filter_map(Device::main) {
                ctx.links.tell_edge(edge, ToEdge::Behind);
            }
        }
    }

    /// Brings a list into memory because others want to know, if not too many are.
    fn load_for_others(&mut self, ctx: &mut Context, user: UserKey) -> Option<&mut Loading> {
        let under_way =
            self.cells.get(user).is_some_and(|mailbox| matches!(mailbox.body, Body::Loading(_)));
        if !under_way {
            if self.loads_for_others >= LOADS_FOR_OTHERS_MAX {
                return None;
            }
            self.load(ctx, user)?.for_others = true;
            self.loads_for_others += 1;
        }
        match &mut self.cells.get_mut(user)?.body {
            Body::Loading(loading) => Some(loading),
            Body::Cold(_) | Body::Active(_) | Body::Corrupt => None,
        }
    }

    // ---- questions ----

    /// Somebody else wants something of a mailbox: at once if it is in memory as far as needed.
    pub(super) fn question(&mut self, ctx: &mut Context, question: ToMailbox, cause: Cause) {
        let user = asked_of(&question);
        let ready = match self.cells.get(user) {
            None => matches!(question, ToMailbox::BlockConfirmed(_)),
            Some(mailbox) => match &mailbox.body {
                Body::Active(_) => true,
                Body::Corrupt => return self.cannot_answer(ctx, &question),
                Body::Loading(_) => matches!(question, ToMailbox::BlockConfirmed(_)),
                Body::Cold(_) => match &question {
                    ToMailbox::PresenceAsked(_) => !mailbox.slot.blocks_some,
                    ToMailbox::DevicesAsked(_) | ToMailbox::BlockConfirmed(_) => true,
                    ToMailbox::VersionWanted(_)
                    | ToMailbox::ChannelConfirmed(_)
                    | ToMailbox::Deliver(_)
                    | ToMailbox::ReceiptTold(_) => false,
                },
            },
        };
        if !ready {
            let unheard = match self.load_for_others(ctx, user) {
                Some(loading) => loading.ask(question),
                None => Some(question),
            };
            if let Some(question) = unheard {
                self.cannot_answer(ctx, &question);
            }
            return;
        }
        match question {
            ToMailbox::PresenceAsked(asked) => self.presence_asked(ctx, &asked),
            ToMailbox::DevicesAsked(asked) => self.devices_asked(ctx, &asked, cause),
            ToMailbox::BlockConfirmed(confirmed) => self.block_confirmed(ctx, confirmed),
            ToMailbox::VersionWanted(wanted) => self.version_wanted(ctx, wanted),
            ToMailbox::ChannelConfirmed(confirmed) => {
                self.channel_confirmed(ctx, confirmed, cause);
            }
            ToMailbox::Deliver(_) | ToMailbox::ReceiptTold(_) => {
                unreachable!("news are no questions")
            }
        }
    }

    /// Says so where somebody waits, when a mailbox cannot be read or too many are being.
    pub(super) fn cannot_answer(&mut self, ctx: &mut Context, question: &ToMailbox) {
        ctx.stats.busy_total += 1;
        match question {
            ToMailbox::PresenceAsked(asked) => presence::answer_hidden(ctx, asked),
            ToMailbox::DevicesAsked(asked) => {
                let refusal = loading::busy(ctx, BUSY_MS);
                let part = Part::Refused(Box::new(refusal.to_wire()));
                ctx.links.tell_edge(
                    asked.edge,
                    ToEdge::Part { request: asked.request, part: Box::new(part) },
                );
            }
            ToMailbox::ChannelConfirmed(confirmed) => {
                let refusal = loading::busy(ctx, BUSY_MS);
                let (user, channel) = (confirmed.user, confirmed.conversation);
                for waiting in self.unconfirmed.take(user, channel, confirmed.number) {
                    ctx.refuse(waiting.edge, waiting.request, &refusal);
                }
            }
            // The conversation asks again when it must know.
            ToMailbox::VersionWanted(_)
            | ToMailbox::BlockConfirmed(_)
            | ToMailbox::Deliver(_)
            | ToMailbox::ReceiptTold(_) => {}
        }
    }

    /// Somebody writes: for those who are connected, unless it may be a stranger.
    pub(crate) fn typing_told(
        &self,
        ctx: &mut Context,
        conversation: ConversationId,
        recipients: &Recipients,
        frame: &Bytes,
    ) {
        let mut edges = vec![Vec::new(); usize::from(ctx.links.shards())];
        for user in recipients.as_slice() {
            let Some(mailbox) = self.cells.get(*user) else { continue };
            let entry = mailbox.entries().map(|entries| entries.get(conversation));
            let shown = match entry {
                Some(entry) => entry.is_some_and(|entry| !entry.is_request()),
                // Nothing is loaded for a hint.
                None => !mailbox.slot.screens,
            };
            if !shown {
                continue;
            }
            for edge in mailbox.slot.devices.as_slice().iter().filter_map(Device::main) {
                edges[edge.shard.index()].push(edge.edge);
            }
        }
        for (shard, edges) in ctx.links.all().zip(edges) {
            if !edges.is_empty() {
                ctx.links.push_to_edges(shard, edges, frame.clone());
            }
        }
    }
}

fn conversations_max(ctx: &Context) -> usize {
    ctx.limits.conversations_per_user_max as usize
}

/// A receipt for a list that is in memory. Says whether it is to be pushed.
fn receipt_active(ctx: &mut Context, mailbox: &mut Mailbox, told: &ReceiptTold) -> bool {
    let Mailbox { slot, body: Body::Active(entries), .. } = mailbox else { return false };
    let known = entries.find(told.conversation);
    if known.is_none() && entries.list.len() >= conversations_max(ctx) {
        ctx.stats.entries_dropped_total += 1;
        return false;
    }
    let place = known.unwrap_or_else(|| entries.entry(told.conversation, &told.card));
    entries.decide(place, told.to, slot.privacy.contacts_only);
    if !entries.at_mut(place).row.receipt(told) {
        return false;
    }
    entries.soil(place);
    bump(ctx, told.to, slot, entries, place);
    !entries.at(place).is_request()
}

fn receipt_row(rows: &mut Vec<Row>, told: &ReceiptTold) -> (bool, bool) {
    let (row, new) = row_of(rows, told.conversation, &told.card);
    (row.receipt(told), new)
}

/// Whose mailbox a question is about.
fn asked_of(question: &ToMailbox) -> UserKey {
    match question {
        ToMailbox::PresenceAsked(asked) => asked.about.0,
        ToMailbox::DevicesAsked(asked) => asked.about.0,
        ToMailbox::BlockConfirmed(confirmed) => confirmed.user,
        ToMailbox::VersionWanted(wanted) => wanted.user,
        ToMailbox::ChannelConfirmed(confirmed) => confirmed.user,
        ToMailbox::ReceiptTold(told) => told.to,
        ToMailbox::Deliver(_) => unreachable!("news are for many"),
    }
}

/// What a delivery says to single recipients.
struct Details<'a> {
    deliver: &'a Deliver,
    marks: ByUser<'a, (UserKey, Point)>,
    memberships: ByUser<'a, Membership>,
}

impl<'a> Details<'a> {
    fn new(deliver: &'a Deliver) -> Self {
        Self {
            deliver,
            marks: ByUser::new(deliver.own_marks.as_slice(), |(user, _)| *user),
            memberships: ByUser::new(&deliver.memberships, |membership| membership.user),
        }
    }

    fn of(&self, user: UserKey) -> Own<'a> {
        let sender = self.deliver.fresh.as_ref().map(|fresh| fresh.sender);
        let mark = self.marks.find(user).map(|(_, mark)| *mark);
        let membership = self.memberships.find(user);
        Own {
            mark,
            // Told again, a mark tells who wrote.
            wrote: sender
                .map_or_else(|| mark.is_some_and(|mark| mark.seq.0 > 0), |sender| sender == user),
            membership,
            by: sender.filter(|_| membership.is_some_and(|membership| !membership.left)),
        }
    }
}

/// Things about users, few as they are or many in order.
struct ByUser<'a, T> {
    few: &'a [T],
    many: Vec<&'a T>,
    user: fn(&T) -> UserKey,
}

impl<'a, T> ByUser<'a, T> {
    fn new(items: &'a [T], user: fn(&T) -> UserKey) -> Self {
        if items.len() <= FEW {
            return Self { few: items, many: Vec::new(), user };
        }
        let mut many: Vec<&T> = items.iter().collect();
        many.sort_by_key(|item| user(item));
        Self { few: &[], many, user }
    }

    fn find(&self, user: UserKey) -> Option<&'a T> {
        if self.many.is_empty() {
            return self.few.iter().find(|item| (self.user)(item) == user);
        }
        let place = self.many.binary_search_by_key(&user, |item| (self.user)(item)).ok()?;
        Some(self.many[place])
    }
}
