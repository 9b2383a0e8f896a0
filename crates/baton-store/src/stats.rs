//! Counters of the committer, for `/metrics`, alarms and the benchmark.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Names of the metrics that the committer records; the unit is in the name.
pub mod names {
    /// Histogram: transactions in a group.
    pub const GROUP_OPERATIONS: &str = "baton_store_group_operations";
    /// Histogram: from taking a group to its sync, in seconds.
    pub const GROUP_SECONDS: &str = "baton_store_group_seconds";
    /// Gauge: transactions waiting.
    pub const QUEUE_OPERATIONS: &str = "baton_store_queue_operations";
    /// Gauge: bytes in the write-ahead log.
    pub const WAL_BYTES: &str = "baton_store_wal_bytes";
    /// Gauge: bytes free on the store's disk.
    pub const FREE_BYTES: &str = "baton_store_free_bytes";
}

/// Buckets of the group size: 1, 2, 3 to 4, 5 to 8, … up to 1024, and more.
const BUCKETS: usize = 12;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) wal_bytes: AtomicU64,
    groups: AtomicU64,
    operations: AtomicU64,
    slowest_group_us: AtomicU64,
    busy_us: AtomicU64,
    sizes: [AtomicU64; BUCKETS],
}

impl Counters {
    pub(crate) fn group(&self, operations: usize, took: Duration) {
        let bucket = usize::BITS - operations.saturating_sub(1).leading_zeros();
        if let Some(count) = self.sizes.get((bucket as usize).min(BUCKETS - 1)) {
            count.fetch_add(1, Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.groups.fetch_add(1, Relaxed);
        self.operations.fetch_add(operations as u64, Relaxed);
        self.busy_us.fetch_add(micros, Relaxed);
        self.slowest_group_us.fetch_max(micros, Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a group has at most some thousand transactions")]
        metrics::histogram!(names::GROUP_OPERATIONS).record(operations as f64);
        metrics::histogram!(names::GROUP_SECONDS).record(took.as_secs_f64());
    }

    pub(crate) fn summary(&self) -> GroupSummary {
        let mut sizes = [0; BUCKETS];
        for (size, count) in sizes.iter_mut().zip(&self.sizes) {
            *size = count.load(Relaxed);
        }
        GroupSummary {
            groups: self.groups.load(Relaxed),
            operations: self.operations.load(Relaxed),
            busy_us: self.busy_us.load(Relaxed),
            slowest_us: self.slowest_group_us.load(Relaxed),
            sizes,
        }
    }
}

/// What the committer has done since the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Groups committed or refused.
    pub groups: u64,
    /// Transactions in them.
    pub operations: u64,
    /// Microseconds spent on them, sync included.
    pub busy_us: u64,
    /// The slowest group in microseconds.
    pub slowest_us: u64,
    /// Groups by size: 1, 2, 3 to 4, 5 to 8, … 513 to 1024, more.
    pub sizes: [u64; BUCKETS],
}

/// The store's state in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Transactions waiting.
    pub queue_operations: usize,
    /// Bytes waiting.
    pub queue_bytes: usize,
    /// The committer's work so far.
    pub groups: GroupSummary,
    /// Bytes in the write-ahead log.
    pub wal_bytes: u64,
    /// Bytes in the database file.
    pub database_bytes: u64,
    /// Bytes in it that are free for reuse.
    pub database_free_bytes: u64,
    /// Bytes free on the disk, as of the last second.
    pub free_bytes: u64,
    /// Current revision.
    pub revision: u64,
    /// Changes up to this revision may be gone.
    pub compacted_revision: u64,
}
