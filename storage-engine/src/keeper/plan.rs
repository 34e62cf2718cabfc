//! Which tables to merge. Pure: sizes and places in, a choice out.

use std::sync::Arc;

use crate::filter::BITMAP_BYTES;
use crate::position::TableId;
use crate::table::TableRoot;
use crate::view::bytes_of;

/// n to the power of 1.6, in thousandths: what a merge may cost in bytes for each table that it
/// takes away. The exponent was found by trying: with four tables a stream it writes within a
/// tenth of the fewest bytes possible for up to fifty sealings, and 1.2 times for three hundred.
const WORTH: [u64; 16] = [
    0, 1000, 3031, 5800, 9190, 13_133, 17_581, 22_501, 27_858, 33_635, 39_811, 46_369, 53_296,
    60_577, 68_202, 76_160,
];

/// When idle a table is merged with newer ones that have at least this part of its bytes.
const IDLE_PART: u64 = 16;

/// The tables to merge so that no stream is in more than `most`, oldest first.
pub(crate) fn choose(tables: &[Arc<TableRoot>], most: usize) -> Option<Vec<Arc<TableRoot>>> {
    let deepest = (0..BITMAP_BYTES * 8)
        .map(|partition| over(tables, partition))
        .max_by_key(Vec::len)
        .filter(|over| over.len() > most)?;
    let mut bytes = deepest.last()?.file_bytes();
    let mut best: Option<(u64, usize)> = None;
    for (place, table) in deepest.iter().enumerate().rev().skip(1) {
        bytes += table.file_bytes();
        let fewer = (deepest.len() - 1 - place).min(WORTH.len() - 1);
        let cost = bytes.saturating_mul(1000) / WORTH[fewer];
        if best.is_none_or(|(least, _)| cost <= least) {
            best = Some((cost, place));
        }
    }
    let (_cost, from) = best?;
    Some(closure(tables, deepest[from..].to_vec()))
}

/// The tables with streams of a partition, oldest first.
fn over(tables: &[Arc<TableRoot>], partition: usize) -> Vec<Arc<TableRoot>> {
    let has = |table: &&Arc<TableRoot>| table.bitmap[partition / 8] & 1 << (partition % 8) != 0;
    tables.iter().filter(has).cloned().collect()
}

fn overlap(one: &TableRoot, other: &TableRoot) -> bool {
    one.bitmap.iter().zip(other.bitmap.iter()).any(|(one, other)| one & other != 0)
}

/// With what must be merged too: a table that shares partitions with one of them and is neither
/// older nor newer than all of them would otherwise have no place in the order.
pub(crate) fn closure(
    tables: &[Arc<TableRoot>],
    mut chosen: Vec<Arc<TableRoot>>,
) -> Vec<Arc<TableRoot>> {
    loop {
        let low = chosen.iter().map(|table| table.low).min().unwrap_or(0);
        let high = chosen.iter().map(|table| table.high).max().unwrap_or(0);
        let between = tables.iter().find(|table| {
            table.high > low
                && table.low < high
                && !chosen.iter().any(|one| one.id == table.id)
                && chosen.iter().any(|one| overlap(one, table))
        });
        match between {
            Some(table) => chosen.push(Arc::clone(table)),
            None => break,
        }
    }
    chosen.sort_by_key(|table| table.high);
    chosen
}

/// The tables to merge while nothing else is to do, oldest first: all of them, or all but a first
/// one that is so much larger than the others that its bytes would be written too often.
pub(crate) fn when_idle(tables: &[Arc<TableRoot>]) -> Option<Vec<Arc<TableRoot>>> {
    let (first, others) = tables.split_first()?;
    let all = bytes_of(others) >= first.file_bytes() / IDLE_PART;
    let chosen = if all { tables } else { others };
    let apart = (0..BITMAP_BYTES * 8).all(|partition| over(chosen, partition).len() < 2);
    (!apart).then(|| closure(tables, chosen.to_vec()))
}

/// A table and all older ones that share partitions with it, oldest first.
pub(crate) fn down_to_the_oldest(
    tables: &[Arc<TableRoot>],
    newest: &Arc<TableRoot>,
) -> Vec<Arc<TableRoot>> {
    let older = tables.iter().filter(|table| table.high < newest.low && overlap(table, newest));
    closure(tables, older.chain([newest]).cloned().collect())
}

/// Whether nothing older than these shares a partition with them: then their marks have nothing
/// left to void.
pub(crate) fn is_bottom(tables: &[Arc<TableRoot>], chosen: &[Arc<TableRoot>]) -> bool {
    let low = chosen.iter().map(|table| table.low).min().unwrap_or(0);
    let is_chosen = |id: TableId| chosen.iter().any(|one| one.id == id);
    !tables.iter().any(|table| {
        table.high < low && !is_chosen(table.id) && chosen.iter().any(|one| overlap(one, table))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::table::keys::Keys;

    fn table(id: u64, low: u64, high: u64, bytes: u64, partitions: &[usize]) -> Arc<TableRoot> {
        let mut bitmap = [0; BITMAP_BYTES];
        for partition in partitions {
            bitmap[partition / 8] |= 1 << (partition % 8);
        }
        Arc::new(TableRoot {
            id: TableId(id),
            low,
            high,
            end: bytes,
            streams: 1,
            records: 1,
            marks: 0,
            min_stamp: 0,
            max_stamp: 0,
            bitmap: Bytes::copy_from_slice(&bitmap),
            keys: Keys::none(),
            filter: Bytes::new(),
        })
    }

    fn ids(chosen: &[Arc<TableRoot>]) -> Vec<u64> {
        chosen.iter().map(|table| table.id.0).collect()
    }

    #[test]
    fn few_tables_are_left_alone() {
        let four: Vec<_> = (1..5).map(|id| table(id, id, id, 1 << 20, &[7])).collect();
        assert!(choose(&four, 4).is_none());
        let apart: Vec<_> = (1..9)
            .map(|id| table(id, id, id, 1 << 20, &[usize::try_from(id % 2).unwrap_or(0)]))
            .collect();
        assert!(choose(&apart, 4).is_none());
    }

    #[test]
    fn the_large_old_one_is_spared() {
        let mut five: Vec<_> = (2..6).map(|id| table(id, id, id, 1 << 20, &[7])).collect();
        five.insert(0, table(1, 1, 1, 100 << 20, &[7]));
        assert_eq!(ids(&choose(&five, 4).unwrap_or_default()), [2, 3, 4, 5]);
    }

    #[test]
    fn what_lies_between_comes_along() {
        let tables = [
            table(1, 1, 1, 1 << 20, &[0, 1]),
            table(2, 2, 2, 1 << 20, &[1, 2]),
            table(3, 3, 3, 1 << 20, &[0]),
            table(4, 4, 4, 1 << 20, &[5]),
        ];
        let chosen = vec![Arc::clone(&tables[0]), Arc::clone(&tables[2])];
        assert_eq!(ids(&closure(&tables, chosen)), [1, 2, 3]);
        let alone = vec![Arc::clone(&tables[2])];
        assert!(!is_bottom(&tables, &alone));
        assert!(is_bottom(&tables, &[Arc::clone(&tables[3])]));
        assert_eq!(ids(&down_to_the_oldest(&tables, &tables[2])), [1, 2, 3]);
    }

    #[test]
    fn idle_time_makes_few_of_many() {
        let mut tables = vec![table(1, 1, 1, 1000 << 20, &[7]), table(2, 2, 2, 10 << 20, &[7])];
        assert!(when_idle(&tables).is_none());
        tables.push(table(3, 3, 3, 10 << 20, &[7]));
        assert_eq!(ids(&when_idle(&tables).unwrap_or_default()), [2, 3]);
        tables.push(table(4, 4, 4, 100 << 20, &[7]));
        assert_eq!(ids(&when_idle(&tables).unwrap_or_default()), [1, 2, 3, 4]);
        assert!(when_idle(&tables[..1]).is_none());
        assert!(when_idle(&[]).is_none());
    }

    /// Bytes written by merging for each byte sealed, and the most tables there were.
    fn simulate(sealings: u64) -> (u64, usize) {
        let (mut tables, mut written, mut most): (Vec<Arc<TableRoot>>, u64, usize) =
            (Vec::new(), 0, 0);
        let each = 64 << 20;
        for id in 1..=sealings {
            tables.push(table(id, id, id, each, &[3]));
            most = most.max(tables.len());
            while let Some(chosen) = choose(&tables, 4) {
                let bytes = chosen.iter().map(|table| table.end).sum();
                let (low, high) = (chosen[0].low, chosen[chosen.len() - 1].high);
                written += bytes;
                tables.retain(|table| !chosen.iter().any(|one| one.id == table.id));
                tables.push(table(1000 + id, low, high, bytes, &[3]));
                tables.sort_by_key(|table| table.high);
            }
        }
        (written * 100 / (sealings * each), most)
    }

    #[test]
    fn merging_stays_cheap() {
        assert_eq!(simulate(12), (100, 5));
        let (after_24, _) = simulate(24);
        assert!(after_24 <= 180, "{after_24}");
        let (after_300, most) = simulate(300);
        assert!(after_300 <= 650, "{after_300}");
        assert_eq!(most, 5);
    }
}
