//! Tables, indexes and the settings of a connection.
//!
//! The journal is keyed by append order, not by execution: with (n, seq) as primary key every active execution would dirty
//! a page of its own in every group, which measured 1.2 to 4 times slower. Partial indexes hold only the rows that their
//! one query wants. No triggers, foreign keys or functions: another database runs the same statements.
//!
//! # Invariants
//! - `PRAGMA user_version` is the format; it rises with any change that an older version would misread.
//! - `resource.n`, `outbox.id` and revisions are never used twice: their high-water marks are in `head`.

use rusqlite::Connection;

/// `PRAGMA application_id`: "Batn".
pub(crate) const APPLICATION_ID: i64 = 0x4261_746e;
/// `PRAGMA user_version`: the newest format known here.
pub(crate) const FORMAT: i64 = 1;
/// Bytes in a page. 8 KiB measured 1.4 to 1.7 times faster than 4 KiB; 16 KiB added nothing.
pub(crate) const PAGE_BYTES: u64 = 8192;

/// Must be set before the first table exists.
pub(crate) const CREATION_PRAGMAS: &str = "PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL;";

pub(crate) const TABLES: &str = "
CREATE TABLE meta (k TEXT PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL,
    compacted INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    outbox INTEGER NOT NULL
);
INSERT INTO head VALUES (1, 0, 0, 0, 0, 0);
CREATE TABLE mark (at INTEGER PRIMARY KEY, revision INTEGER NOT NULL);
CREATE TABLE resource (
    n INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    ns TEXT NOT NULL,
    name TEXT NOT NULL,
    uid BLOB NOT NULL,
    revision INTEGER NOT NULL,
    state INTEGER NOT NULL,
    owner BLOB,
    expires_at INTEGER,
    deleting INTEGER NOT NULL,
    labels TEXT,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX resource_name ON resource (kind, ns, name);
CREATE UNIQUE INDEX resource_uid ON resource (uid);
CREATE INDEX resource_active ON resource (state) WHERE state = 1;
CREATE INDEX resource_owner ON resource (owner) WHERE owner IS NOT NULL;
CREATE INDEX resource_expires ON resource (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX resource_deleting ON resource (deleting) WHERE deleting = 1;
CREATE TABLE change (
    revision INTEGER PRIMARY KEY,
    previous INTEGER NOT NULL,
    kind TEXT NOT NULL,
    ns TEXT NOT NULL,
    name TEXT NOT NULL,
    uid BLOB NOT NULL,
    n INTEGER NOT NULL,
    op INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE journal (rid INTEGER PRIMARY KEY, n INTEGER NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX journal_seq ON journal (n, seq);
CREATE TABLE snapshot (n INTEGER PRIMARY KEY, seq INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE timer (
    due INTEGER NOT NULL, n INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (due, n, id)
) WITHOUT ROWID;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    n INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX outbox_next ON outbox (next_at);
CREATE INDEX outbox_n ON outbox (n);
CREATE TABLE blob (digest BLOB NOT NULL UNIQUE, pinned INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE blob_ref (n INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (n, digest)) WITHOUT ROWID;
CREATE INDEX blob_ref_digest ON blob_ref (digest);
CREATE TABLE mailbox (id BLOB NOT NULL UNIQUE, expires INTEGER NOT NULL, answered INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX mailbox_expires ON mailbox (expires);
CREATE TABLE doomed (n INTEGER PRIMARY KEY);
";

/// Settings of every connection. mmap stays off: an I/O error under mmap is a signal, not an error code.
fn common(connection: &Connection, cache_bytes: usize) -> rusqlite::Result<()> {
    let cache_kib = i64::try_from(cache_bytes / 1024).unwrap_or(i64::MAX);
    connection.execute_batch(&format!(
        "PRAGMA mmap_size = 0; PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; \
         PRAGMA cache_size = -{cache_kib}; PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY;"
    ))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Settings of the committer's connection. Checkpoints are started by the committer, which looks at their result; the
/// automatic ones would hide an I/O error.
pub(crate) fn for_writing(connection: &Connection, cache_bytes: usize) -> rusqlite::Result<()> {
    common(connection, cache_bytes)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; \
         PRAGMA journal_size_limit = 67108864;",
    )
}

/// Settings of a reading connection.
pub(crate) fn for_reading(connection: &Connection, cache_bytes: usize) -> rusqlite::Result<()> {
    common(connection, cache_bytes)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0;")
}
