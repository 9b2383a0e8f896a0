//! The committer's statements, prepared once for life: looking each up in a cache costs more than some of them.

use rusqlite::{Connection, Statement};

macro_rules! statements {
    ($($name:ident: $sql:expr,)*) => {
        /// Every statement of the write path.
        pub(super) struct Statements<'c> { $(pub(super) $name: Statement<'c>,)* }

        impl<'c> Statements<'c> {
            pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
                Ok(Self { $($name: connection.prepare($sql)?,)* })
            }
        }
    };
}

statements! {
    begin: "BEGIN IMMEDIATE",
    commit: "COMMIT",
    rollback: "ROLLBACK",
    savepoint: "SAVEPOINT one",
    savepoint_undo: "ROLLBACK TO one",
    savepoint_release: "RELEASE one",
    head_put: "UPDATE head SET revision = ?, compacted = ?, number = ?, outbox = ?",
    resource_by_name: "SELECT n, revision FROM resource WHERE kind = ? AND ns = ? AND name = ?",
    resource_by_number: "SELECT revision, uid, state, owner, expires_at, deleting, kind, ns, name \
        FROM resource WHERE n = ?",
    resource_revision: "SELECT revision FROM resource WHERE n = ?",
    resource_insert: "INSERT INTO resource \
        (n, kind, ns, name, uid, revision, state, owner, expires_at, deleting, labels, body) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    // SQLite rewrites the entry of every index whose columns are assigned, also to the same value: two forms.
    resource_update: "UPDATE resource SET revision = ?, labels = ?, body = ? WHERE n = ?",
    resource_update_indexed: "UPDATE resource SET revision = ?, labels = ?, body = ?, state = ?, owner = ?, \
        expires_at = ?, deleting = ? WHERE n = ?",
    resource_delete: "DELETE FROM resource WHERE n = ?",
    change_insert: "INSERT INTO change (revision, previous, kind, ns, name, uid, n, op, body) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    journal_insert: "INSERT INTO journal (rid, n, seq, body) VALUES (?, ?, ?, ?)",
    journal_last: "SELECT seq FROM journal WHERE n = ? ORDER BY seq DESC LIMIT 1",
    snapshot_put: "INSERT OR REPLACE INTO snapshot (n, seq, body) VALUES (?, ?, ?)",
    timer_set: "INSERT OR REPLACE INTO timer (due, n, id) VALUES (?, ?, ?)",
    timer_clear: "DELETE FROM timer WHERE due = ? AND n = ? AND id = ?",
    timer_exists: "SELECT 1 FROM timer WHERE due = ? AND n = ? AND id = ?",
    outbox_insert: "INSERT INTO outbox (id, n, next_at, attempts, body) VALUES (?, ?, ?, ?, ?)",
    outbox_update: "UPDATE outbox SET next_at = ?, attempts = ? WHERE id = ?",
    outbox_update_body: "UPDATE outbox SET next_at = ?, attempts = ?, body = ? WHERE id = ?",
    outbox_delete: "DELETE FROM outbox WHERE id = ?",
    outbox_exists: "SELECT 1 FROM outbox WHERE id = ?",
    blob_insert: "INSERT INTO blob (digest, pinned, body) VALUES (?, ?, ?)",
    blob_pin: "UPDATE blob SET pinned = 1 WHERE digest = ?",
    blob_exists: "SELECT 1 FROM blob WHERE digest = ?",
    blob_ref_put: "INSERT OR IGNORE INTO blob_ref (n, digest) VALUES (?, ?)",
    mailbox_put: "INSERT INTO mailbox (id, expires, answered, body) VALUES (?, ?, ?, ?) ON CONFLICT (id) \
        DO UPDATE SET expires = excluded.expires, answered = excluded.answered, body = excluded.body",
    mailbox_delete: "DELETE FROM mailbox WHERE id = ?",
    mailbox_answered: "SELECT answered FROM mailbox WHERE id = ?",
    meta_put: "INSERT OR REPLACE INTO meta (k, v) VALUES (?, ?)",
    meta_delete: "DELETE FROM meta WHERE k = ?",
    doomed_put: "INSERT OR IGNORE INTO doomed (n) VALUES (?)",
    wal_frames: "PRAGMA wal_checkpoint(NOOP)",
    checkpoint: "PRAGMA wal_checkpoint(PASSIVE)",
}
