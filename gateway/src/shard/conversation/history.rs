//! Pages of a conversation, before and after a seq or a time. Nobody is shown what is not durable,
//! and members of a group only what was said while they were in it.

use super::records::{self, SaidWhat};
use super::{Conversation, unknown_conversation};
use crate::shard::context::{Context, Reading, conversation_stream};
use crate::shard::links::{Cause, Token};
use crate::shard::message::{Card, HistoryAsk, Point, Reply};
use bytes::Bytes;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{MessageId, Sequence, UserKey};
use roost_protocol::limits::REPLY_MAX_BYTES;
use roost_protocol::request::HistoryFrom;
use roost_protocol::wire::{self, ErrorCode, message::Content};
use roost_storage_engine::{Query, StoredRecord};

/// What a page's messages cost beside their bodies, for the page's byte limit.
const MESSAGE_OVERHEAD_BYTES: usize = 64;
/// Bytes of bodies in a page.
const PAGE_BYTES: usize = REPLY_MAX_BYTES - 1024;

/// Records that somebody may read, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u64,
    last: u64,
}

/// A search goes on into what became durable while it looked, so often at most.
const SEARCH_ROUNDS: u32 = 4;

/// A search for the first record of a time: it lies in these seqs, or behind them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    low: u64,
    high: u64,
    /// The seq that is being read.
    middle: u64,
    time_ms: u64,
    /// What became durable from here on was not looked at, and how often it was, yet.
    end: u64,
    rounds: u32,
}

/// Whether messages go when they are old; else a hole is damage and not the end.
const fn expires(ctx: &Context) -> bool {
    ctx.limits.retention_days > 0 || ctx.limits.retention_mib > 0
}

impl Conversation {
    /// Starts a page: reads what it needs, or answers at once when there is nothing, or when what
    /// was just loaded to bring the conversation into memory holds all of it.
    pub(crate) fn history(
        &mut self,
        ctx: &mut Context,
        ask: Box<HistoryAsk>,
        loaded: &[StoredRecord],
        cause: Cause,
    ) {
        self.refresh_durable(ctx.store.durable());
        let Some(spans) = self.spans(ask.user) else {
            return ctx.refuse(ask.edge, ask.request, &unknown_conversation());
        };
        ctx.stats.history_pages_total += 1;
        let Some(span) = span_of(&spans, ask.from) else {
            let reply = self.page(&ask, &spans, &[]);
            return ctx.reply(ask.edge, ask.request, Reply::History(Box::new(reply)));
        };
        let (HistoryFrom::BeforeTime(time_ms) | HistoryFrom::AfterTime(time_ms)) = ask.from else {
            let query = self.query(&ask, span);
            if let Some(records) = loaded_page(&query, span.first, loaded) {
                return self.answer(ctx, &ask, &records);
            }
            ctx.links.hold(cause.token);
            self.reading += 1;
            return ctx.read(query, Reading::History { ask, token: cause.token });
        };
        ctx.links.hold(cause.token);
        self.reading += 1;
        let (low, high) = (span.first, self.durable.seq.0.saturating_add(1));
        let (end, rounds) = (high, 0);
        let search = Search { low, high, middle: low, time_ms, end, rounds };
        self.search(ctx, ask, search, cause.token);
    }

    /// What a page that does not begin at a time is read with.
    fn query(&self, ask: &HistoryAsk, span: Span) -> Query {
        let stream = conversation_stream(self.id);
        let limit = usize::try_from(ask.limit).unwrap_or(usize::MAX);
        let max_bytes = PAGE_BYTES;
        let behind = span.last.saturating_add(1);
        match ask.from {
            HistoryFrom::Before(seq) => {
                Query::Before { stream, seq: seq.0.min(behind), limit, max_bytes }
            }
            HistoryFrom::After(seq) => {
                let seq = seq.0.max(span.first.saturating_sub(1));
                Query::After { stream, seq, limit, max_bytes }
            }
            HistoryFrom::Newest | HistoryFrom::BeforeTime(_) | HistoryFrom::AfterTime(_) => {
                Query::Before { stream, seq: behind, limit, max_bytes }
            }
        }
    }

    /// What a user may read, oldest first and not empty of itself; `None` for strangers. A channel
    /// trusts that whoever asks follows it.
    fn spans(&self, user: UserKey) -> Option<Vec<Span>> {
        let durable = self.durable.seq.0;
        let all = vec![Span { first: 1, last: durable }];
        if self.is_channel() {
            return Some(all);
        }
        let member = self.members.get(self.members.find(user)?);
        if self.is_direct() {
            return (self.head.seq.0 > 0).then_some(all);
        }
        let ends = member.stretches.iter().map(|stretch| {
            let left = if stretch.left.0 > 0 { stretch.left.0 } else { u64::MAX };
            Span { first: stretch.joined.0, last: left.min(durable) }
        });
        Some(ends.filter(|span| span.first <= span.last).collect())
    }

    // ---- by time ----

    /// Narrows a search, or ends it with the page it was for.
    fn search(
        &mut self,
        ctx: &mut Context,
        ask: Box<HistoryAsk>,
        mut search: Search,
        token: Token,
    ) {
        let behind = self.durable.seq.0.saturating_add(1);
        // All was earlier; what was being flushed meanwhile may be so, too.
        if search.low == search.end && search.end < behind && search.rounds < SEARCH_ROUNDS {
            let rounds = search.rounds + 1;
            search = Search { high: behind, end: behind, rounds, ..search };
        }
        if search.low < search.high {
            let middle = search.low + (search.high - search.low) / 2;
            let stream = conversation_stream(self.id);
            let query = Query::After { stream, seq: middle - 1, limit: 1, max_bytes: 1 };
            let search = Search { middle, ..search };
            return ctx.read(query, Reading::Time { ask, search, token });
        }
        let from = match ask.from {
            HistoryFrom::AfterTime(_) => HistoryFrom::After(Sequence(search.low - 1)),
            HistoryFrom::BeforeTime(_)
            | HistoryFrom::Newest
            | HistoryFrom::Before(_)
            | HistoryFrom::After(_) => HistoryFrom::Before(Sequence(search.low)),
        };
        let ask = Box::new(HistoryAsk { from, ..*ask });
        let spans = self.spans(ask.user).unwrap_or_default();
        if let Some(span) = span_of(&spans, from) {
            let query = self.query(&ask, span);
            return ctx.read(query, Reading::History { ask, token });
        }
        self.reading -= 1;
        let reply = self.page(&ask, &spans, &[]);
        ctx.reply(ask.edge, ask.request, Reply::History(Box::new(reply)));
        ctx.links.release(token);
    }

    /// A record in the middle of what is searched was read.
    pub(crate) fn searched(
        &mut self,
        ctx: &mut Context,
        ask: Box<HistoryAsk>,
        search: Search,
        token: Token,
        records: Option<&[StoredRecord]>,
    ) {
        let Some(records) = records else {
            self.reading -= 1;
            return unreadable(ctx, &ask, token);
        };
        let found = records.first().filter(|record| record.seq < search.high);
        let earlier = |record: &&StoredRecord| MessageId(record.stamp).wall_ms() < search.time_ms;
        let search = match found.filter(earlier) {
            Some(record) => Search { low: record.seq.saturating_add(1), ..search },
            // It is later, or there is nothing from here on.
            None => Search { high: search.middle, ..search },
        };
        self.search(ctx, ask, search, token);
    }

    // ---- the page ----

    /// Answers with what was read.
    pub(crate) fn history_read(
        &mut self,
        ctx: &mut Context,
        ask: &HistoryAsk,
        token: Token,
        records: Option<&[StoredRecord]>,
    ) {
        self.reading -= 1;
        self.refresh_durable(ctx.store.durable());
        let Some(records) = records else { return unreadable(ctx, ask, token) };
        if records.is_empty() && expires(ctx) {
            self.answer_trimmed(ctx, ask);
        } else {
            self.answer(ctx, ask, records);
        }
        ctx.links.release(token);
    }

    /// Answers with records that are what its query finds.
    fn answer(&self, ctx: &mut Context, ask: &HistoryAsk, records: &[StoredRecord]) {
        let spans = self.spans(ask.user).unwrap_or_default();
        let mut reply = self.page(ask, &spans, records);
        if let (HistoryFrom::After(seq), Some(first)) = (ask.from, records.first())
            && expires(ctx)
            && let Some(span) = span_of(&spans, ask.from)
            && first.seq > seq.0.saturating_add(1).max(span.first)
        {
            reply.first_seq = first.seq;
        }
        ctx.reply(ask.edge, ask.request, Reply::History(Box::new(reply)));
    }

    /// There is something on that side, or nothing would have been read: it expired.
    fn answer_trimmed(&self, ctx: &mut Context, ask: &HistoryAsk) {
        let text = "what was asked for is no longer kept; go on from first_seq";
        let mut error = Refusal::new(ErrorCode::ErrorTrimmed, text).to_wire();
        let behind = self.durable.seq.0.saturating_add(1);
        error.first_seq = match ask.from {
            HistoryFrom::Before(seq) => seq.0.min(behind),
            HistoryFrom::Newest
            | HistoryFrom::After(_)
            | HistoryFrom::BeforeTime(_)
            | HistoryFrom::AfterTime(_) => behind,
        };
        ctx.stats.refusals_total += 1;
        ctx.reply(ask.edge, ask.request, Reply::Error(Box::new(error)));
    }

    fn page(
        &self,
        ask: &HistoryAsk,
        spans: &[Span],
        records: &[StoredRecord],
    ) -> wire::HistoryReply {
        let mut messages = Vec::with_capacity(records.len());
        let (mut bytes, mut last) = (0, 0);
        let span = span_of(spans, ask.from);
        let readable = |seq| span.is_some_and(|span| span.first <= seq && seq <= span.last);
        for record in records.iter().filter(|record| readable(record.seq)) {
            let Some((message, size)) = self.message(record, ask) else { continue };
            bytes += size + MESSAGE_OVERHEAD_BYTES;
            if bytes > PAGE_BYTES && !messages.is_empty() {
                break;
            }
            last = record.seq;
            messages.push(message);
        }
        let beyond = match ask.from {
            HistoryFrom::After(_) | HistoryFrom::AfterTime(_) => {
                spans.last().is_some_and(|span| last < span.last)
            }
            HistoryFrom::Newest | HistoryFrom::Before(_) | HistoryFrom::BeforeTime(_) => {
                spans.first().is_some_and(|span| last > span.first)
            }
        };
        let more = last != 0 && beyond;
        let head = if spans.is_empty() { Point::default() } else { self.readable_head(ask.user) };
        let conversation = if ask.by_user { self.id.to_wire() } else { Bytes::new() };
        wire::HistoryReply {
            messages,
            more,
            head: head.seq.0,
            head_uncounted: head.uncounted,
            first_seq: 0,
            next: if more { last } else { 0 },
            conversation,
        }
    }

    /// The newest durable record this user may read.
    fn readable_head(&self, user: UserKey) -> Point {
        match self.members.find(user) {
            Some(number) if !self.is_channel() => self.members.get(number).head(self.durable),
            Some(_) | None => self.durable,
        }
    }

    /// A record as the asking device gets it, and about how large it is.
    fn message(&self, record: &StoredRecord, ask: &HistoryAsk) -> Option<(wire::Message, usize)> {
        let said = records::said(record).ok()?;
        let own = self.members.list.get(said.author.index())?.user == ask.user;
        let (content, size) = match said.what {
            SaidWhat::Content(content) => (Some(content), record.body.len()),
            SaidWhat::ToDevices(all) => {
                let found = self.ciphertext_for(ask, all);
                let size = found.as_ref().map_or(0, |ciphertext| ciphertext.body.len());
                (found.map(Content::Ciphertext), size)
            }
        };
        let message = wire::Message {
            conversation: Bytes::new(),
            seq: record.seq,
            message_id: record.stamp,
            uncounted: said.uncounted,
            client_message_id: if own { said.client_message_id.0 } else { 0 },
            sender: if self.is_direct() { 0 } else { said.author.to_wire() },
            reply_to: said.reply_to.0,
            content,
        };
        Some((message, size))
    }

    fn ciphertext_for(
        &self,
        ask: &HistoryAsk,
        all: wire::ToDevices,
    ) -> Option<wire::DeviceCiphertext> {
        let Card::Direct(_) = &*self.card else { return None };
        let user = self.card.user_id(ask.user)?;
        let own = |ciphertext: &wire::DeviceCiphertext| {
            ciphertext.user == user.as_str() && ciphertext.device.as_ref() == ask.device.0
        };
        all.ciphertexts.into_iter().find(own)
    }
}

/// What a query for a page finds, if all of it is among the records that were loaded to bring the
/// conversation into memory. These are all there are from some record on, so a page of the newest
/// needs no read of its own. Nobody may read what is before `first`.
fn loaded_page(query: &Query, first: u64, loaded: &[StoredRecord]) -> Option<Vec<StoredRecord>> {
    let seen = loaded.iter().filter(|record| record.seq > 0);
    let oldest = seen.clone().next()?.seq;
    match *query {
        Query::After { seq, limit, .. } if oldest <= seq.saturating_add(1) => {
            Some(seen.filter(|record| record.seq > seq).take(limit).cloned().collect())
        }
        Query::Before { seq, limit, .. } => {
            let newest_first = seen.rev().filter(|record| record.seq < seq);
            let page: Vec<StoredRecord> = newest_first.take(limit).cloned().collect();
            (oldest <= first || page.len() == limit).then_some(page)
        }
        Query::After { .. }
        | Query::Load { .. }
        | Query::LoadWithRecent { .. }
        | Query::Replay { .. } => None,
    }
}

fn unreadable(ctx: &mut Context, ask: &HistoryAsk, token: Token) {
    let text = "this part of the conversation cannot be read";
    let refusal = Refusal::new(ErrorCode::ErrorStorageCorrupt, text);
    ctx.refuse(ask.edge, ask.request, &refusal);
    ctx.links.release(token);
}

/// The stretch in which a page begins: it ends there at the latest, and the next page goes on in
/// the next one.
fn span_of(spans: &[Span], from: HistoryFrom) -> Option<Span> {
    let span = match from {
        HistoryFrom::Newest => spans.last(),
        HistoryFrom::Before(seq) => spans.iter().rev().find(|span| span.first < seq.0),
        HistoryFrom::After(seq) => spans.iter().find(|span| span.last > seq.0),
        // Where it begins is looked for: anywhere.
        HistoryFrom::BeforeTime(_) | HistoryFrom::AfterTime(_) => spans.first(),
    };
    span.copied().filter(|span| span.first <= span.last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(seq: u64) -> StoredRecord {
        let (kind, body) = (1, Bytes::new());
        StoredRecord { number: 10 + seq, seq, stamp: 0, kind, snapshot_start: false, body }
    }

    #[test]
    fn a_page_is_taken_from_what_was_loaded_only_if_all_of_it_is_there() {
        // Records without a seq lie between.
        let loaded: Vec<_> = [0, 5, 0, 6, 7, 0].into_iter().map(stored).collect();
        let stream = roost_storage_engine::StreamId(1);
        let after = |seq, limit| Query::After { stream, seq, limit, max_bytes: 1 << 20 };
        let before = |seq, limit| Query::Before { stream, seq, limit, max_bytes: 1 << 20 };
        let found = |query, first| -> Option<Vec<u64>> {
            let page = loaded_page(&query, first, &loaded)?;
            Some(page.iter().map(|record| record.seq).collect())
        };
        assert_eq!(found(after(3, 9), 1), None, "the fourth is not among them");
        assert_eq!(found(after(4, 9), 1), Some(vec![5, 6, 7]));
        assert_eq!(found(after(4, 2), 1), Some(vec![5, 6]));
        assert_eq!(found(after(6, 9), 1), Some(vec![7]));
        assert_eq!(found(before(8, 3), 1), Some(vec![7, 6, 5]));
        assert_eq!(found(before(8, 4), 1), None, "the fourth is not among them");
        assert_eq!(found(before(8, 4), 4), None, "nor here");
        assert_eq!(found(before(8, 4), 5), Some(vec![7, 6, 5]), "there is none that may be read");
        assert_eq!(found(before(7, 1), 1), Some(vec![6]));
        assert_eq!(found(before(5, 1), 1), None);
        let query = before(5, 1);
        assert!(
            loaded_page(&query, 1, &[]).is_none() && loaded_page(&query, 1, &[stored(0)]).is_none()
        );
    }

    #[test]
    fn a_page_stays_in_one_stretch_and_the_next_goes_on_in_the_next() {
        let spans = [Span { first: 3, last: 7 }, Span { first: 12, last: 20 }];
        let before = |seq| span_of(&spans, HistoryFrom::Before(Sequence(seq)));
        let after = |seq| span_of(&spans, HistoryFrom::After(Sequence(seq)));
        assert_eq!(span_of(&spans, HistoryFrom::Newest), Some(spans[1]));
        assert_eq!((before(u64::MAX), before(13)), (Some(spans[1]), Some(spans[1])));
        assert_eq!((before(12), before(9)), (Some(spans[0]), Some(spans[0])));
        assert_eq!(before(4), Some(spans[0]));
        assert_eq!((before(3), before(0)), (None, None));
        assert_eq!((after(0), after(6)), (Some(spans[0]), Some(spans[0])));
        assert_eq!((after(7), after(19)), (Some(spans[1]), Some(spans[1])));
        assert_eq!((after(20), after(u64::MAX)), (None, None));
        let nothing = [Span { first: 1, last: 0 }];
        assert_eq!(span_of(&nothing, HistoryFrom::Newest), None);
    }
}
