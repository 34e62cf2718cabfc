//! How old the records of a table are whose footer is damaged.

use crate::filter;
use crate::inspect::flaw::InspectError;
use crate::inspect::look::Look;
use crate::inspect::snapshot::TableSeen;
use crate::layout::{BLOCK_BYTES, block_is_whole, u64_at};
use crate::position::StreamId;
use crate::table::TableRoot;

/// The sealings of a table whose root is gone: what the rest of its footer says if that is
/// possible, else the only ones that no other table has.
pub(super) fn place_of(
    look: &mut dyn Look,
    table: &TableSeen,
    streams: &[StreamId],
    roots: &[&TableRoot],
    last: u64,
) -> Result<(u64, u64), InspectError> {
    let at = table.file_bytes.saturating_sub(u64::from(BLOCK_BYTES));
    if let Ok(footer) = look.bytes(&table.name, at, BLOCK_BYTES) {
        let (low, high) = (u64_at(&footer, 32), u64_at(&footer, 40));
        let apart = |root: &&TableRoot| {
            let shared = streams.iter().any(|one| filter::has_partition(&root.bitmap, *one));
            !shared || root.high < low || root.low > high
        };
        let possible = low > 0 && low <= high && high <= last && roots.iter().all(apart);
        if possible || block_is_whole(&footer, 0) {
            return Ok((low, high));
        }
    }
    let mut free: Vec<(u64, u64)> = Vec::new();
    let mut covered: Vec<(u64, u64)> = roots.iter().map(|root| (root.low, root.high)).collect();
    covered.sort_unstable();
    let mut next = 1;
    for (low, high) in covered.into_iter().chain([(last.saturating_add(1), u64::MAX)]) {
        if low > next {
            free.push((next, low - 1));
        }
        next = next.max(high.saturating_add(1));
    }
    match free[..] {
        [only] => Ok(only),
        _ => Err(InspectError::NoPlace { file: table.name.clone() }),
    }
}
