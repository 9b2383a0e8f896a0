//! Upkeep that the server's reconcilers call: compaction, sweeping, vacuum, verification.
//!
//! Everything here runs in bounded steps, each a transaction of its own on the committer between two groups, so that no
//! amount of old data makes a commit wait for long. Nothing here has a clock or a thread: the caller says when and passes
//! the time.
//!
//! # Failure
//! A step that fails is not done; the next call starts where the last one ended.

use crate::backend::{Upkeep, UpkeepReport};
use crate::error::{CommitError, StoreError};
use crate::model::CorruptRow;
use crate::store::Store;

/// Rows that one step deletes at most.
const STEP_ROWS_MAX: usize = 500;

/// How much of the change history to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At least so many revisions.
    pub revisions: u64,
    /// At least so long.
    pub age_ms: i64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { revisions: 100_000, age_ms: 3_600_000 }
    }
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactReport {
    /// Changes up to this revision are gone.
    pub compacted: u64,
    /// Rows deleted.
    pub deleted: u64,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Rows deleted.
    pub deleted: u64,
    /// Whether more is waiting: call again.
    pub more: bool,
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// The database's own findings about pages and indexes.
    pub problems: Vec<String>,
    /// Values whose checksum does not match; only a full verification looks.
    pub corrupt: Vec<CorruptRow>,
    /// Values looked at.
    pub values_checked: u64,
}

impl VerifyReport {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.corrupt.is_empty()
    }
}

impl Store {
    /// Drops old changes. Blocking; returns when all that may go is gone.
    ///
    /// A revision's age is known from earlier calls: call it every few minutes. The new lower bound is durable before the
    /// first row goes, so that a watch from below it is told [`Gone`](crate::Gone) and never misses changes.
    pub fn compact(&self, now_ms: i64, keep: Keep) -> Result<CompactReport, StoreError> {
        let mark = Upkeep::Mark { now_ms, keep_revisions: keep.revisions, keep_age_ms: keep.age_ms };
        let UpkeepReport::Compacted(compacted) = self.upkeep(mark)? else {
            return Err(mismatch());
        };
        let mut report = CompactReport { compacted, deleted: 0 };
        loop {
            let UpkeepReport::Done(rows) = self.upkeep(Upkeep::DeleteChanges { rows_max: STEP_ROWS_MAX })? else {
                return Err(mismatch());
            };
            report.deleted += rows;
            if rows < STEP_ROWS_MAX as u64 {
                return Ok(report);
            }
        }
    }

    /// One step of deleting what deleted resources left behind, expired mailboxes and timers of nobody. Blocking.
    ///
    /// Call it when [`StoreStats::queue_operations`](crate::StoreStats::queue_operations) is small, until `more` is false.
    pub fn sweep(&self, now_ms: i64) -> Result<SweepReport, StoreError> {
        match self.upkeep(Upkeep::Sweep { now_ms, rows_max: STEP_ROWS_MAX })? {
            UpkeepReport::Swept(report) => Ok(report),
            UpkeepReport::Compacted(_) | UpkeepReport::Done(_) => Err(mismatch()),
        }
    }

    /// Gives up to `pages_max` free pages (8 KiB each) back to the file system; 256 is a good step. Returns how many. Blocking.
    pub fn vacuum(&self, pages_max: u32) -> Result<u64, StoreError> {
        match self.upkeep(Upkeep::Vacuum { pages_max })? {
            UpkeepReport::Done(pages) => Ok(pages),
            UpkeepReport::Compacted(_) | UpkeepReport::Swept(_) => Err(mismatch()),
        }
    }

    /// Checks the database: its pages always, every index and every value's checksum if `full`. Blocking, and reads the
    /// whole file: once a week is often enough.
    pub fn verify(&self, full: bool) -> Result<VerifyReport, StoreError> {
        self.reads().verify(full)
    }
}

/// A backend that answers a step with another step's report is broken; say so instead of guessing.
fn mismatch() -> StoreError {
    StoreError::Maintenance(CommitError::Rejected { detail: "the step's report is of another kind".to_owned() })
}
