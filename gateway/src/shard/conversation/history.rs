//! Pages of a conversation, before and after a seq. Nobody is shown what is not durable.

use super::Conversation;
use super::records::{KIND_MESSAGE, MessageHead};
use crate::shard::codec::Reader;
use crate::shard::context::{Context, Reading, conversation_stream};
use crate::shard::links::{Cause, Token};
use crate::shard::message::{HistoryAsk, Reply};
use roost_protocol::error::Refusal;
use roost_protocol::ids::UserKey;
use roost_protocol::limits::REPLY_MAX_BYTES;
use roost_protocol::request::HistoryFrom;
use roost_protocol::wire::{self, ErrorCode};
use roost_storage_engine::{Query, StoredRecord};

/// What a page's messages cost beside their bodies, for the page's byte limit.
const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// Whether messages go when they are old; else a hole is damage and not the end.
fn expires(ctx: &Context) -> bool {
    ctx.limits.retention_days > 0 || ctx.limits.retention_mib > 0
}

impl Conversation {
    /// Starts a page: reads what it needs, or answers at once when there is nothing.
    pub(crate) fn history(&mut self, ctx: &mut Context, ask: HistoryAsk, cause: Cause) {
        self.refresh_durable(ctx.store.durable());
        if !self.members.iter().any(|member| member.user == ask.user) {
            return ctx.refuse(ask.edge, ask.request, &super::unknown_conversation());
        }
        ctx.stats.history_pages_total += 1;
        let stream = conversation_stream(self.id);
        let limit = usize::try_from(ask.limit).unwrap_or(usize::MAX);
        let past_head = self.durable.seq.0 + 1;
        let max_bytes = REPLY_MAX_BYTES - 1024;
        let query = match ask.from {
            HistoryFrom::Newest => Query::Before { stream, seq: past_head, limit, max_bytes },
            HistoryFrom::Before(seq) => {
                Query::Before { stream, seq: seq.0.min(past_head), limit, max_bytes }
            }
            HistoryFrom::After(seq) => Query::After { stream, seq: seq.0, limit, max_bytes },
        };
        let nothing = match ask.from {
            HistoryFrom::Newest => self.durable.seq.0 == 0,
            HistoryFrom::Before(seq) => seq.0 <= 1 || self.durable.seq.0 == 0,
            HistoryFrom::After(seq) => seq >= self.durable.seq,
        };
        if nothing {
            let reply = self.page(&ask, &[]);
            return ctx.reply(ask.edge, ask.request, Reply::History(Box::new(reply)));
        }
        ctx.links.hold(cause.token);
        self.reading += 1;
        ctx.read(query, Reading::History { ask: Box::new(ask), token: cause.token });
    }

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
        match records {
            Some(records) if records.is_empty() && expires(ctx) => {
                // There is something on that side, or nothing would have been read: it expired.
                let mut error = Refusal::new(
                    ErrorCode::ErrorTrimmed,
                    "what was asked for is no longer kept; go on from first_seq",
                )
                .to_wire();
                error.first_seq = match ask.from {
                    HistoryFrom::Before(seq) => seq.0.min(self.durable.seq.0 + 1),
                    HistoryFrom::Newest | HistoryFrom::After(_) => self.durable.seq.0 + 1,
                };
                ctx.stats.refusals_total += 1;
                ctx.reply(ask.edge, ask.request, Reply::Error(Box::new(error)));
            }
            Some(records) => {
                let mut reply = self.page(ask, records);
                if let (HistoryFrom::After(seq), Some(first)) = (ask.from, records.first())
                    && expires(ctx)
                    && first.seq > seq.0 + 1
                {
                    reply.first_seq = first.seq;
                }
                ctx.reply(ask.edge, ask.request, Reply::History(Box::new(reply)));
            }
            None => {
                let refusal = Refusal::new(
                    ErrorCode::ErrorStorageCorrupt,
                    "this part of the conversation cannot be read",
                );
                ctx.refuse(ask.edge, ask.request, &refusal);
            }
        }
        ctx.links.release(token);
    }

    fn page(&self, ask: &HistoryAsk, records: &[StoredRecord]) -> wire::HistoryReply {
        let mut messages = Vec::with_capacity(records.len());
        let mut bytes = 0;
        let mut last = 0;
        for record in records.iter().filter(|record| record.seq <= self.durable.seq.0) {
            let Some(message) = self.message(record, ask.user) else { continue };
            bytes += record.body.len() + MESSAGE_OVERHEAD_BYTES;
            if bytes > REPLY_MAX_BYTES - 1024 && !messages.is_empty() {
                break;
            }
            last = record.seq;
            messages.push(message);
        }
        let more = last != 0
            && match ask.from {
                HistoryFrom::Newest | HistoryFrom::Before(_) => last > 1,
                HistoryFrom::After(_) => last < self.durable.seq.0,
            };
        wire::HistoryReply {
            messages,
            more,
            head: self.durable.seq.0,
            head_uncounted: self.durable.uncounted,
            first_seq: 0,
            next: if more { last } else { 0 },
            conversation: if ask.by_user {
                self.id.to_bytes().to_vec().into()
            } else {
                bytes::Bytes::new()
            },
        }
    }

    fn message(&self, record: &StoredRecord, asker: UserKey) -> Option<wire::Message> {
        if record.kind != KIND_MESSAGE {
            return None;
        }
        let mut reader = Reader(&record.body);
        let head = MessageHead::decode(&mut reader).ok()?;
        let body = record.body.slice(record.body.len() - reader.0.len()..);
        let own = self.members.get(usize::from(head.member))?.user == asker;
        Some(wire::Message {
            seq: record.seq,
            message_id: record.stamp,
            uncounted: head.uncounted,
            client_message_id: if own { head.client_message_id.0 } else { 0 },
            reply_to: head.reply_to.0,
            content: Some(wire::message::Content::Body(body)),
            ..wire::Message::default()
        })
    }
}
