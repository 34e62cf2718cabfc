//! Checks of sync, history and watermarks.

use super::fields::{self, invalid};
use super::{History, HistoryFrom, Mark, Request};
use crate::error::Refusal;
use crate::ids::Sequence;
use crate::limits;
use crate::wire;

pub(super) fn sync(sync: &wire::Sync) -> Result<Request, Refusal> {
    let limit = fields::limit(sync.limit, limits::SYNC_PAGE_MAX, "sync.limit is at most 500")?;
    Ok(Request::Sync { cursor: sync.cursor, limit })
}

pub(super) fn history(history: &wire::History) -> Result<History, Refusal> {
    let target = fields::target(&history.conversation, &history.user)?;
    let asked = [
        history.before.map(|seq| HistoryFrom::Before(Sequence(seq))),
        history.after.map(|seq| HistoryFrom::After(Sequence(seq))),
        (history.before_time_ms != 0).then_some(HistoryFrom::BeforeTime(history.before_time_ms)),
        (history.after_time_ms != 0).then_some(HistoryFrom::AfterTime(history.after_time_ms)),
    ];
    let mut asked = asked.into_iter().flatten();
    let from = asked.next().unwrap_or(HistoryFrom::Newest);
    if asked.next().is_some() {
        return Err(invalid(
            "history has at most one of before, after, before_time_ms and after_time_ms",
        ));
    }
    let limit = match history.limit.map(usize::try_from) {
        None => limits::HISTORY_PAGE_DEFAULT,
        Some(Ok(limit)) if (1..=limits::HISTORY_PAGE_MAX).contains(&limit) => limit,
        Some(_) => return Err(invalid("history.limit is 1 to 100")),
    };
    Ok(History { target, from, limit })
}

pub(super) fn marks(marks: &[wire::Mark]) -> Result<Vec<Mark>, Refusal> {
    if marks.len() > limits::MARKS_MAX {
        return Err(invalid("a notice names at most 256 conversations"));
    }
    marks.iter().map(|mark| self::mark(&mark.conversation, mark.seq, mark.uncounted)).collect()
}

/// One watermark.
pub(super) fn mark(conversation: &[u8], seq: u64, uncounted: u64) -> Result<Mark, Refusal> {
    if uncounted > seq {
        return Err(invalid("uncounted is at most seq"));
    }
    let conversation = fields::conversation(conversation)?;
    Ok(Mark { conversation, seq: Sequence(seq), uncounted })
}
