//! Resources and execution histories in one transactional store, with watch.
//!
//! Everything durable of Baton lies here: resources with one store-wide revision, the changes that watchers replay, and for
//! each execution its journal, program snapshot, timers, outbox rows and payloads. [`Store::commit`] takes a [`Txn`] of
//! guards and mutations; one committer thread groups whatever is waiting into one database transaction and answers after
//! the sync. The embedded backend is SQLite ([`Store::open`]); several servers share a PostgreSQL database
//! ([`Store::open_postgres`]). What a backend must do is small and kept apart, and one suite runs on both.
//!
//! # Invariants
//! - Acknowledged means synced. Whatever cannot be known is said to be unknown ([`CommitError::Failed`]).
//! - A transaction happens whole or not at all, and a refused one never harms the others of its group.
//! - Revisions are consecutive and in commit order; watchers see a change only once it is durable.
//! - Every body carries a checksum over its row; a mismatch is [`StoreError::Corrupt`] and affects that row alone.
//!
//! # Deliberately absent
//! No clock and no policy: callers pass times and decide when to compact and sweep. No knowledge of bodies. No encryption
//! yet: a value's first byte is its format, which leaves room for it.
//!
//! # Failure
//! An I/O error in a commit or a checkpoint stops the store for good ([`Store::failed`]): after a failed sync nothing that
//! the kernel says about that file can be trusted. A full disk refuses and goes on. Reads fail by themselves. A database
//! server that goes away is waited for; a commit that was on its way then is looked up afterwards.
//!
//! # Blocking
//! Reads block for microseconds when the pages are in memory and for a disk read otherwise. Async callers may call them
//! directly where that is fine, or in `spawn_blocking`.

mod backend;
mod committer;
mod directory;
mod error;
mod leadership;
mod maintenance;
mod model;
mod options;
mod postgres;
mod queue;
mod refusals;
mod ring;
mod shared;
mod sqlite;
mod stats;
mod store;
mod sums;
mod threads;
mod value;
mod watch;

#[cfg(feature = "testing")]
pub mod bench;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{CommitError, Gone, StoreError, WatchError};
pub use leadership::Leadership;
pub use maintenance::{CompactReport, Keep, SweepReport, VerifyReport};
pub use model::{
    BlobPut, Change, ChangeKind, Committed, CorruptRow, Digest, ExecState, Expect, ExpiringRow, Guard, JournalAppend,
    JournalRecord, Lane, ListPage, ListQuery, MailboxRow, Number, OutboxRow, OutboxUpdate, ResourceDelete, ResourceKey,
    ResourcePut, Rows, SnapshotPut, SnapshotRecord, StoredResource, TimerKey, TimerRow, Txn, Uid, canonical_labels,
};
pub use options::StoreOptions;
pub use sqlite::BackupReport;
pub use stats::{GroupSummary, StoreStats, names as metric_names};
pub use store::Store;
pub use watch::{Watch, WatchBatch};

/// The flags that the bundled SQLite was compiled with, as far as this build was told: without `HAVE_FDATASYNC` it syncs
/// file times with every commit.
pub const SQLITE_BUILD_FLAGS: Option<&str> = option_env!("LIBSQLITE3_FLAGS");

/// The version of SQLite in this binary.
pub fn sqlite_version() -> &'static str {
    sqlite::library_version()
}
