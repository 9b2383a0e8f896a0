//! What can go wrong, by what the caller can do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a transaction was not committed.
///
/// Every variant but [`CommitError::Failed`] is definite: nothing of the transaction was written.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommitError {
    /// Something is not in the state that the transaction expected.
    #[error("{what} is at {found}, the transaction expects {expected}")]
    Conflict {
        /// What was looked at.
        what: String,
        /// What the transaction expects (a revision or a journal position).
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The key is taken.
    #[error("{key} exists at revision {revision}")]
    Exists {
        /// Key as text.
        key: String,
        /// Number of the resource there.
        number: i64,
        /// Its revision.
        revision: u64,
    },
    /// Something that must be there is not.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The queue is full. Try again after a short wait.
    #[error("the commit queue is full: {operations} transactions, {bytes} bytes")]
    Overloaded {
        /// Transactions waiting.
        operations: usize,
        /// Bytes waiting.
        bytes: usize,
    },
    /// There is no room on the disk.
    #[error("the store's disk has {free} bytes free, {needed} are needed")]
    DiskFull {
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The database server cannot be reached, or cannot write now. Try again later.
    #[error("the database cannot take commits now: {detail}; nothing was written")]
    Unavailable {
        /// What was tried, and what came of it.
        detail: String,
    },
    /// The data itself cannot be stored, for example a journal position that is taken.
    #[error("the store cannot take this transaction: {detail}")]
    Rejected {
        /// The database's words.
        detail: String,
    },
    /// The store is dead or closed. The outcome is unknown: repeat with the same key after a restart.
    #[error("the store stopped: {detail}; the outcome is unknown")]
    Failed {
        /// Why it stopped.
        detail: Arc<str>,
    },
}

/// Why the store could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A row's checksum does not match. Other rows are not affected.
    #[error("{table} row {key} is damaged on disk: its checksum does not match")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Primary key as text.
        key: String,
    },
    /// The database could not do something.
    #[error("{operation} in the store")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// Cause.
        #[source]
        source: rusqlite::Error,
    },
    /// A file could not be read or written.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The directory or its files cannot be written.
    #[error("the data directory {} cannot be written", path.display())]
    ReadOnly {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Another process, or another store in this one, has the directory.
    #[error("the data directory {} is in use by another process", path.display())]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// The file is there but is not a Baton store.
    #[error("{} is not a Baton store: {found}", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// Written by a newer version.
    #[error("{} has store format {found}, this version reads formats 1 to {supported}", path.display())]
    NewerFormat {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        supported: i64,
    },
    /// On a file system that cannot hold a write-ahead log safely.
    #[error("the data directory {} is on a network file system ({filesystem})", path.display())]
    NetworkFilesystem {
        /// Which.
        path: PathBuf,
        /// Kind of file system.
        filesystem: &'static str,
    },
    /// The linked SQLite has a known data-corrupting bug.
    #[error("SQLite {found} is too old: 3.51.3 or later is needed")]
    LibraryTooOld {
        /// Version linked.
        found: &'static str,
    },
    /// A restore was cut short.
    #[error("a restore into {} was interrupted", path.display())]
    RestoreUnfinished {
        /// The data directory.
        path: PathBuf,
    },
    /// Something is in the way of a backup or a restore.
    #[error("{} exists", path.display())]
    Occupied {
        /// What.
        path: PathBuf,
    },
    /// A backup, or the database, failed its check.
    #[error("{} failed its check: {detail}", path.display())]
    CheckFailed {
        /// Which file.
        path: PathBuf,
        /// First finding.
        detail: String,
    },
    /// There is no room for a backup.
    #[error("{} has {free} bytes free, the backup needs {needed}", path.display())]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The address of the database cannot be understood.
    #[error("the address of the database cannot be used: {detail}")]
    Address {
        /// What is wrong with it; never its password.
        detail: String,
    },
    /// The database server does not answer, or does not let this server in.
    #[error("connect to {address}")]
    Unreachable {
        /// Where, without password.
        address: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database server could not do something.
    #[error("{operation} in the database")]
    Postgres {
        /// What was being done.
        operation: &'static str,
        /// Cause.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database server is set up in a way that loses data or has another meaning.
    #[error("{address} has {setting} '{found}', {needed} is needed")]
    Setting {
        /// Where, without password.
        address: String,
        /// Which setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        needed: &'static str,
    },
    /// The role that connects lacks a right.
    #[error("role '{role}' at {address} may not {action}")]
    Privilege {
        /// Where, without password.
        address: String,
        /// Who.
        role: String,
        /// What it may not do.
        action: String,
    },
    /// Makes no sense for a store in PostgreSQL.
    #[error("a store in PostgreSQL has no {operation}")]
    Unsupported {
        /// What was asked for.
        operation: &'static str,
    },
    /// A maintenance step was not committed.
    #[error("a maintenance step was not committed")]
    Maintenance(#[source] CommitError),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// What a person can do about it, as one line.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Corrupt { .. } | Self::CheckFailed { .. } => {
                Some("restore from a backup, or delete the damaged resource")
            }
            Self::ReadOnly { .. } => Some("choose a directory that the server's user can write to"),
            Self::Locked { .. } => Some("stop the other server, or give this one a data directory of its own"),
            Self::Foreign { .. } => Some("choose an empty directory, or another database"),
            Self::NewerFormat { .. } => Some("run the version that wrote it, or restore an older backup"),
            Self::NetworkFilesystem { .. } => {
                Some("use a local disk; allow_network_filesystem overrides this at the data's risk")
            }
            Self::LibraryTooOld { .. } => Some("build with the bundled SQLite"),
            Self::RestoreUnfinished { .. } => Some("run the restore again, with replacing allowed"),
            Self::Occupied { .. } => Some("choose another path, or remove what is there"),
            Self::NoRoom { .. } => Some("free some space, or back up to another disk"),
            Self::Address { .. } => {
                Some("give it as postgresql://user:password@host:port/database?sslmode=verify-full")
            }
            Self::Unreachable { .. } => Some("check host, port, password and sslmode, and that the server runs"),
            Self::Setting { .. } => Some("change it for this database: ALTER DATABASE … SET …"),
            Self::Privilege { .. } => {
                Some("let an administrator grant it, or create the schema: CREATE SCHEMA baton AUTHORIZATION …")
            }
            Self::Unsupported { .. } => Some("use PostgreSQL's own tools: pg_dump, pg_basebackup, or your provider's"),
            Self::Database { .. } | Self::Postgres { .. } | Self::Io { .. } | Self::Maintenance(_) | Self::Closed => {
                None
            }
        }
    }
}

/// Why a watch cannot go on from a revision: list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// Changes after the revision were compacted away.
    #[error("revision {from} is older than the oldest kept, {compacted}")]
    Compacted {
        /// Asked for.
        from: u64,
        /// Everything up to here is gone.
        compacted: u64,
    },
    /// The revision is not of this store's past: another cluster, or a restored backup.
    #[error("revision {from} is newer than the store's, {head}")]
    Ahead {
        /// Asked for.
        from: u64,
        /// The store's revision.
        head: u64,
    },
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Its position is no longer there.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The changes could not be read.
    #[error("read changes")]
    Store(#[from] StoreError),
}
