//! The seam between what every backend shares and the database itself.
//!
//! A backend gives one [`Engine`] whose [`Writer`] is used by the committer thread alone, one [`Reads`] shared by everybody,
//! and [`Ids`]. Queueing, grouping, the ring, failure handling and the public API are on this side of the seam; statements
//! and transactions are on the other. Every backend runs the same suite, [`testing`](crate::testing).
//!
//! # Invariants
//! - [`Writer::apply`] is one database transaction: durable when it returns `Ok`, absent when it returns
//!   [`GroupError::NotDone`], unknown after [`GroupError::Fatal`].
//! - Revisions are consecutive in group order and start one above the last committed group's, whoever committed that.
//! - Whatever a `Writer` has committed, `Reads` sees.

use bytes::Bytes;

use crate::error::{CommitError, StoreError};
use crate::maintenance::{SweepReport, VerifyReport};
use crate::model::{
    Change, Committed, Digest, ExpiringRow, JournalRecord, ListPage, ListQuery, MailboxRow, Number, OutboxRow,
    ResourceKey, Rows, SnapshotRecord, StoredResource, TimerKey, TimerRow, Txn, Uid,
};
use crate::options::StoreOptions;

/// The state that outlives every group: one row in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Last revision handed out.
    pub(crate) revision: u64,
    /// Changes up to this one may be gone.
    pub(crate) compacted: u64,
    /// Highest resource number ever committed.
    pub(crate) number: i64,
    /// Highest outbox id ever committed.
    pub(crate) outbox: i64,
}

/// Why a whole group was not committed.
#[derive(Clone, Debug)]
pub(crate) enum GroupError {
    /// Definite: rolled back, and the store goes on.
    NotDone(CommitError),
    /// Unknown: the store must stop.
    Fatal(String),
}

/// A group's outcomes, one for each transaction in order.
pub(crate) type Outcomes = Vec<Result<Committed, CommitError>>;

/// One bounded step of upkeep, run between groups in a transaction of its own.
#[derive(Clone, Debug)]
pub(crate) enum Upkeep {
    /// Notes that `revision` was current at `now_ms`, and finds how far history may be compacted.
    Mark { now_ms: i64, keep_revisions: u64, keep_age_ms: i64 },
    /// Deletes some changes at or below the compacted revision.
    DeleteChanges { rows_max: usize },
    /// Deletes some rows that nothing needs any more.
    Sweep { now_ms: i64, rows_max: usize },
    /// Gives free pages back to the file system.
    Vacuum { pages_max: u32 },
}

/// What a step did.
#[derive(Clone, Debug)]
pub(crate) enum UpkeepReport {
    /// The revision up to which changes may now be deleted; it is durable.
    Compacted(u64),
    /// Rows or pages done.
    Done(u64),
    /// A sweep.
    Swept(SweepReport),
}

/// What becomes the [`Writer`] on the committer's thread; dropped last of all.
pub(crate) trait Engine: Send {
    /// Prepares a writer on the calling thread and hands it to `body`.
    fn run(&mut self, options: &StoreOptions, body: &mut dyn FnMut(&mut dyn Writer)) -> Result<(), StoreError>;
}

/// Numbers that are never given twice.
pub(crate) trait Ids: Send + Sync {
    fn next_number(&self) -> Number;
    fn next_outbox_id(&self) -> i64;
}

/// The one connection that writes.
pub(crate) trait Writer {
    /// Applies a group in one transaction.
    fn apply(&mut self, group: &[&Txn]) -> Result<Outcomes, GroupError>;
    /// Runs one step of upkeep.
    fn upkeep(&mut self, step: &Upkeep) -> Result<UpkeepReport, GroupError>;
    /// Called after a group's answers are out: the place for work such as a checkpoint.
    fn settle(&mut self) -> Result<(), GroupError>;
    /// The state as of the last commit.
    fn head(&self) -> Head;
    /// What other servers committed after one revision and up to another, all of it and in order; `None` if that cannot
    /// be had now, and watchers must look into the table.
    fn others(&mut self, after: u64, until: u64) -> Option<Vec<Change>>;
    /// Bytes in the write-ahead log.
    fn wal_bytes(&self) -> u64;
    /// Called once, at the end.
    fn finish(&mut self) -> Result<(), GroupError>;
}

/// Reading, from any thread.
pub(crate) trait Reads: Send + Sync {
    fn head(&self) -> Result<Head, StoreError>;
    fn get(&self, key: &ResourceKey) -> Result<Option<StoredResource>, StoreError>;
    fn get_by_uid(&self, uid: &Uid) -> Result<Option<StoredResource>, StoreError>;
    fn get_by_number(&self, number: Number) -> Result<Option<StoredResource>, StoreError>;
    fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError>;
    fn by_owner(&self, owner: &Uid, after: Number, limit: usize) -> Result<Rows<StoredResource>, StoreError>;
    fn numbers(&self, which: Which, limit: usize) -> Result<Vec<Number>, StoreError>;
    fn expiring(
        &self,
        before_ms: i64,
        after: Option<ExpiringRow>,
        limit: usize,
    ) -> Result<Vec<ExpiringRow>, StoreError>;
    fn journal(&self, n: Number, from_seq: i64, limit: usize) -> Result<Vec<JournalRecord>, StoreError>;
    fn journal_last(&self, n: Number) -> Result<Option<i64>, StoreError>;
    fn snapshot(&self, n: Number) -> Result<Option<SnapshotRecord>, StoreError>;
    fn timers_due(&self, until_ms: i64, after: Option<TimerKey>, limit: usize) -> Result<Vec<TimerRow>, StoreError>;
    fn outbox_due(&self, now_ms: i64, limit: usize) -> Result<Rows<OutboxRow>, StoreError>;
    fn outbox_next(&self) -> Result<Option<i64>, StoreError>;
    fn outbox_by_execution(&self, n: Number) -> Result<Rows<OutboxRow>, StoreError>;
    fn blob(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError>;
    fn mailbox(&self, id: &[u8; 16]) -> Result<Option<MailboxRow>, StoreError>;
    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Changes after a revision, in order, of one kind or all. `None` if they may be compacted.
    fn changes(&self, kind: Option<&str>, after: u64, limit: usize) -> Result<Option<ChangePage>, StoreError>;
    fn change_body(&self, revision: u64) -> Result<Option<Bytes>, StoreError>;
    /// Size of the database in bytes and free bytes within it.
    fn size(&self) -> Result<(u64, u64), StoreError>;
    fn verify(&self, full: bool) -> Result<VerifyReport, StoreError>;
    /// Interrupts reads that are over their budget.
    fn interrupt_overdue(&self);
    /// Closes all connections; later reads find the store closed.
    fn close(&self);
}

/// Sets of resources that are found by number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Executions that recovery must load.
    Active { after: Number },
    /// Deletion was asked for.
    Deleting { after: Number },
}

/// Some changes, and how far the scan went.
#[derive(Clone, Debug)]
pub(crate) struct ChangePage {
    pub(crate) changes: Vec<Change>,
    pub(crate) scanned_to: u64,
}
