//! RocksDB: a log-structured tree in C++.

use crate::store::engine::{Batch, Engine, Failure, key, seq_of};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB, DBCompressionType,
    Direction, IteratorMode, Options, ReadOptions, SliceTransform, WriteBatch, WriteOptions,
};
use std::fs;
use std::path::Path;

/// What it is, for the report.
pub(super) const SETTINGS: &str = "block cache as given, indices and filters in memory beside \
     it, bloom filters of 10 bits over stream prefixes, two memtables of 64 MiB, two background \
     jobs, log files recycled so that a sync finds written blocks, WriteOptions::sync (fdatasync), \
     no compression; settling is flush and a compaction of everything to the bottom";

const MEMTABLE_BYTES: usize = 64 << 20;
const STREAM_BYTES: usize = 16;
const RECYCLED_LOGS: usize = 4;

/// A database.
pub(super) struct Rocks {
    database: DB,
    durable: WriteOptions,
}

impl Rocks {
    /// Opens a folder.
    ///
    /// # Errors
    /// RocksDB's.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, Failure> {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_lru_cache(usize::try_from(cache_bytes)?));
        tables.set_bloom_filter(10.0, false);
        tables.set_whole_key_filtering(false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&tables);
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(STREAM_BYTES));
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(MEMTABLE_BYTES);
        options.set_max_background_jobs(2);
        options.set_recycle_log_file_num(RECYCLED_LOGS);
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let database = DB::open(&options, folder)?;
        complain_about_slow_checksums(folder)?;
        Ok(Self { database, durable })
    }
}

/// Checksums of its log are a large part of its work; without the processor's instruction for them
/// it would be measured unfairly, and its own log says whether it has it.
fn complain_about_slow_checksums(folder: &Path) -> Result<(), Failure> {
    let log = fs::read_to_string(folder.join("LOG"))?;
    let fast = log.lines().any(|line| line.contains("Fast CRC32 supported: Supported"));
    let help = "rocksdb was built without fast checksums: build with CXXFLAGS='-msse4.2 -mpclmul'";
    if fast { Ok(()) } else { Err(help.into()) }
}

impl Engine for Rocks {
    fn commit(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut writing = WriteBatch::default();
        for record in batch.records() {
            writing.put(record.key(), record.body);
        }
        self.database.write_opt(writing, &self.durable)?;
        Ok(())
    }

    fn last(
        &mut self,
        stream: u128,
        limit: usize,
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<(), Failure> {
        let (first, last) = (key(stream, 0), key(stream, u64::MAX));
        let mut reading = ReadOptions::default();
        reading.set_prefix_same_as_start(true);
        reading.set_iterate_lower_bound(first);
        let from = IteratorMode::From(&last, Direction::Reverse);
        for found in self.database.iterator_opt(from, reading).take(limit) {
            let (key, body) = found?;
            visit(seq_of(&key).ok_or("a key of another form")?, &body);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, _at_rest: bool) -> Result<Box<dyn Engine>, Failure> {
        self.database.flush()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.database.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.database.cancel_all_background_work(true);
        Ok(())
    }
}
