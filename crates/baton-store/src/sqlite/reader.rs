//! The reading half of the backend: one statement a question.
//!
//! Every read has a limit given by the caller. A damaged row among many is set aside and named; where a part would be
//! worse than nothing (a journal, a change) it fails the read.

use bytes::Bytes;
use rusqlite::OptionalExtension;

use super::pool::SqliteReads;
use super::rows::{self, RESOURCE_COLUMNS};
use super::schema::PAGE_BYTES;
use super::{doing, limit_of, scan, writer};
use crate::backend::{ChangePage, Head, Reads, Which};
use crate::error::StoreError;
use crate::maintenance::VerifyReport;
use crate::model::{
    Digest, ExpiringRow, JournalRecord, ListPage, ListQuery, MailboxRow, Number, OutboxRow, ResourceKey, Rows,
    SnapshotRecord, StoredResource, TimerKey, TimerRow, Uid,
};
use crate::value::{Table, hex};

impl Reads for SqliteReads {
    fn head(&self) -> Result<Head, StoreError> {
        self.with(|connection| writer::read_head(connection).map_err(doing("read the head")))
    }

    fn get(&self, key: &ResourceKey) -> Result<Option<StoredResource>, StoreError> {
        let sql = resources("WHERE kind = ? AND ns = ? AND name = ?");
        self.one("get a resource", &sql, (&key.kind, &key.namespace, &key.name), rows::resource)
    }

    fn get_by_uid(&self, uid: &Uid) -> Result<Option<StoredResource>, StoreError> {
        self.one("get a resource by uid", &resources("WHERE uid = ?"), [uid], rows::resource)
    }

    fn get_by_number(&self, number: Number) -> Result<Option<StoredResource>, StoreError> {
        self.one("get a resource by number", &resources("WHERE n = ?"), [number], rows::resource)
    }

    fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.with(|connection| scan::list(connection, query))
    }

    fn by_owner(&self, owner: &Uid, after: Number, limit: usize) -> Result<Rows<StoredResource>, StoreError> {
        let sql = resources("WHERE owner = ? AND n > ? ORDER BY n LIMIT ?");
        self.many("list by owner", &sql, (owner, after, limit_of(limit)), rows::resource)
    }

    fn numbers(&self, which: Which, limit: usize) -> Result<Vec<Number>, StoreError> {
        // Each condition is spelled as in its partial index, or SQLite would not use it.
        let (sql, value) = match which {
            Which::Active { after } => ("SELECT n FROM resource WHERE state = 1 AND n > ? ORDER BY n LIMIT ?", after),
            Which::Deleting { after } => {
                ("SELECT n FROM resource WHERE deleting = 1 AND n > ? ORDER BY n LIMIT ?", after)
            }
        };
        self.column("list numbers", sql, (value, limit_of(limit)))
    }

    fn expiring(
        &self,
        before_ms: i64,
        after: Option<ExpiringRow>,
        limit: usize,
    ) -> Result<Vec<ExpiringRow>, StoreError> {
        // The first condition is spelled as in the partial index.
        let sql = "SELECT expires_at, n FROM resource WHERE expires_at IS NOT NULL AND deleting = 0 \
            AND expires_at <= ? AND (expires_at, n) > (?, ?) ORDER BY expires_at, n LIMIT ?";
        let after = after.unwrap_or(ExpiringRow { expires_at_ms: i64::MIN, number: i64::MIN });
        let params = (before_ms, after.expires_at_ms, after.number, limit_of(limit));
        let found = self.many("list expired resources", sql, params, |row| {
            Ok(ExpiringRow { expires_at_ms: row.get(0)?, number: row.get(1)? })
        })?;
        Ok(found.items)
    }

    fn journal(&self, n: Number, from_seq: i64, limit: usize) -> Result<Vec<JournalRecord>, StoreError> {
        let sql = "SELECT seq, body FROM journal WHERE n = ? AND seq >= ? ORDER BY seq LIMIT ?";
        let found = self.many("read a journal", sql, (n, from_seq, limit_of(limit)), |row| {
            let seq: i64 = row.get(0)?;
            let key = || format!("{seq} of execution {n}");
            Ok(JournalRecord { seq, body: rows::body(row, 1, Table::Journal, rows::journal_sum(n, seq), key, n)? })
        })?;
        // Half a history is worse than none.
        match found.corrupt.into_iter().next() {
            Some(corrupt) => Err(StoreError::Corrupt { table: corrupt.table, key: corrupt.key }),
            None => Ok(found.items),
        }
    }

    fn journal_last(&self, n: Number) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT seq FROM journal WHERE n = ? ORDER BY seq DESC LIMIT 1";
        Ok(self.column("read a journal's end", sql, [n])?.pop())
    }

    fn snapshot(&self, n: Number) -> Result<Option<SnapshotRecord>, StoreError> {
        self.one("read a snapshot", "SELECT seq, body FROM snapshot WHERE n = ?", [n], |row| {
            let seq = row.get(0)?;
            let key = || format!("of execution {n}");
            Ok(SnapshotRecord { seq, body: rows::body(row, 1, Table::Snapshot, rows::snapshot_sum(n, seq), key, n)? })
        })
    }

    fn timers_due(&self, until_ms: i64, after: Option<TimerKey>, limit: usize) -> Result<Vec<TimerRow>, StoreError> {
        let sql =
            "SELECT due, n, id FROM timer WHERE due <= ? AND (due, n, id) > (?, ?, ?) ORDER BY due, n, id LIMIT ?";
        let after = after.unwrap_or(TimerRow { due_ms: i64::MIN, n: i64::MIN, id: i64::MIN });
        let params = (until_ms, after.due_ms, after.n, after.id, limit_of(limit));
        let found = self.many("read timers", sql, params, |row| {
            Ok(TimerRow { due_ms: row.get(0)?, n: row.get(1)?, id: row.get(2)? })
        })?;
        Ok(found.items)
    }

    fn outbox_due(&self, now_ms: i64, limit: usize) -> Result<Rows<OutboxRow>, StoreError> {
        let sql = "SELECT id, n, next_at, attempts, body FROM outbox WHERE next_at <= ? ORDER BY next_at, id LIMIT ?";
        self.many("read the outbox", sql, (now_ms, limit_of(limit)), rows::outbox)
    }

    fn outbox_next(&self) -> Result<Option<i64>, StoreError> {
        let next: Vec<Option<i64>> = self.column("read the outbox", "SELECT min(next_at) FROM outbox", [])?;
        Ok(next.into_iter().next().flatten())
    }

    fn outbox_by_execution(&self, n: Number) -> Result<Rows<OutboxRow>, StoreError> {
        let sql = "SELECT id, n, next_at, attempts, body FROM outbox WHERE n = ? ORDER BY id";
        self.many("read the outbox of an execution", sql, [n], rows::outbox)
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.one("read a blob", "SELECT body FROM blob WHERE digest = ?", [digest], |row| {
            rows::body(row, 0, Table::Blob, rows::blob_sum(digest), || hex(digest), 0)
        })
    }

    fn mailbox(&self, id: &[u8; 16]) -> Result<Option<MailboxRow>, StoreError> {
        let sql = "SELECT expires, answered, body FROM mailbox WHERE id = ?";
        self.one("read a mailbox", sql, [id], |row| rows::mailbox(row, id))
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.one("read a named value", "SELECT v FROM meta WHERE k = ?", [key], |row| {
            Ok(rows::body(row, 0, Table::Meta, rows::meta_sum(key), || key.to_owned(), 0)?.to_vec())
        })
    }

    fn changes(&self, kind: Option<&str>, after: u64, limit: usize) -> Result<Option<ChangePage>, StoreError> {
        self.with(|connection| scan::changes(connection, kind, after, limit))
    }

    fn change_body(&self, revision: u64) -> Result<Option<Bytes>, StoreError> {
        let sql = format!("SELECT {} FROM change WHERE revision = ?", rows::CHANGE_COLUMNS);
        self.one("read a change", &sql, [revision.cast_signed()], |row| Ok(rows::change(row)?.body))
    }

    fn size(&self) -> Result<(u64, u64), StoreError> {
        self.with(|connection| {
            let count = |name: &str| {
                let pages: i64 = connection
                    .pragma_query_value(None, name, |row| row.get(0))
                    .optional()
                    .map_err(doing("read the size"))?
                    .unwrap_or(0);
                Ok(pages.cast_unsigned() * PAGE_BYTES)
            };
            Ok((count("page_count")?, count("freelist_count")?))
        })
    }

    fn verify(&self, full: bool) -> Result<VerifyReport, StoreError> {
        super::verify::verify(self, full)
    }

    fn interrupt_overdue(&self) {
        self.interrupt_over_budget();
    }

    fn close(&self) {
        self.close_all();
    }
}

fn resources(rest: &str) -> String {
    format!("SELECT {RESOURCE_COLUMNS} FROM resource {rest}")
}
