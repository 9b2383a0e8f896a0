//! The reading half: one statement a question, each on a session of the pool.
//!
//! One statement is one snapshot, which is why a list and a page of changes ask for the head in the same one.

use bytes::Bytes;
use tokio_postgres::Row;

use super::list::{aliased, list};
use super::pool::{Param, PostgresReads};
use super::rows::{self, CHANGE_COLUMNS, RESOURCE_COLUMNS, collect};
use super::{doing, limit_of};
use crate::backend::{ChangePage, Head, Reads, Which};
use crate::error::StoreError;
use crate::maintenance::VerifyReport;
use crate::model::{
    Digest, ExpiringRow, JournalRecord, ListPage, ListQuery, MailboxRow, Number, OutboxRow, ResourceKey, Rows,
    SnapshotRecord, StoredResource, TimerKey, TimerRow, Uid,
};
use crate::sums::{blob_sum, journal_sum, meta_sum, snapshot_sum};
use crate::value::{Table, hex};

/// Revisions that one scan of the change table looks at: bounds the work when few are of the wanted kind.
const CHANGE_SCAN_MAX: i64 = 5_000;

/// Values for the places of a statement.
macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$(Box::new($value) as Param),*] };
}

fn resources(rest: &str) -> String {
    format!("SELECT {RESOURCE_COLUMNS} FROM resource {rest}")
}

/// The head as the first row has it.
pub(super) fn revision_of(found: &[Row], operation: &'static str, index: usize) -> Result<u64, StoreError> {
    let row =
        found.first().ok_or_else(|| StoreError::Corrupt { table: "head", key: "1 (it is missing)".to_owned() })?;
    Ok(row.try_get::<_, i64>(index).map_err(doing(operation))?.cast_unsigned())
}

impl Reads for PostgresReads {
    fn head(&self) -> Result<Head, StoreError> {
        const OPERATION: &str = "read the head";
        let found = self.query(OPERATION, "SELECT revision, compacted FROM head", Vec::new())?;
        let (revision, compacted) = (revision_of(&found, OPERATION, 0)?, revision_of(&found, OPERATION, 1)?);
        Ok(Head { revision, compacted, number: 0, outbox: 0 })
    }

    fn get(&self, key: &ResourceKey) -> Result<Option<StoredResource>, StoreError> {
        let params = params![key.kind.clone().into_owned(), key.namespace.clone(), key.name.clone()];
        let sql = resources("WHERE kind = $1 AND ns = $2 AND name = $3");
        self.one("get a resource", sql, params, |row| rows::resource(row, 0))
    }

    fn get_by_uid(&self, uid: &Uid) -> Result<Option<StoredResource>, StoreError> {
        self.one("get a resource by uid", resources("WHERE uid = $1"), params![uid.to_vec()], |row| {
            rows::resource(row, 0)
        })
    }

    fn get_by_number(&self, number: Number) -> Result<Option<StoredResource>, StoreError> {
        self.one("get a resource by number", resources("WHERE n = $1"), params![number], |row| rows::resource(row, 0))
    }

    fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        list(self, query)
    }

    fn by_owner(&self, owner: &Uid, after: Number, limit: usize) -> Result<Rows<StoredResource>, StoreError> {
        let params = params![owner.to_vec(), after, limit_of(limit)];
        let sql = resources("WHERE owner = $1 AND n > $2 ORDER BY n LIMIT $3");
        self.many("list by owner", sql, params, |row| rows::resource(row, 0))
    }

    fn numbers(&self, which: Which, limit: usize) -> Result<Vec<Number>, StoreError> {
        // Each condition is spelled as in its partial index, or it would not be used.
        let (sql, after) = match which {
            Which::Active { after } => ("SELECT n FROM resource WHERE state = 1 AND n > $1 ORDER BY n LIMIT $2", after),
            Which::Deleting { after } => {
                ("SELECT n FROM resource WHERE deleting AND n > $1 ORDER BY n LIMIT $2", after)
            }
        };
        Ok(self.many("list numbers", sql, params![after, limit_of(limit)], |row| Ok(row.try_get(0)?))?.items)
    }

    fn expiring(
        &self,
        before_ms: i64,
        after: Option<ExpiringRow>,
        limit: usize,
    ) -> Result<Vec<ExpiringRow>, StoreError> {
        // The first conditions are spelled as in the partial index.
        let sql = "SELECT expires_at, n FROM resource WHERE expires_at IS NOT NULL AND NOT deleting \
            AND expires_at <= $1 AND (expires_at, n) > ($2, $3) ORDER BY expires_at, n LIMIT $4";
        let after = after.unwrap_or(ExpiringRow { expires_at_ms: i64::MIN, number: i64::MIN });
        let params = params![before_ms, after.expires_at_ms, after.number, limit_of(limit)];
        let found = self.many("list expired resources", sql, params, |row| {
            Ok(ExpiringRow { expires_at_ms: row.try_get(0)?, number: row.try_get(1)? })
        })?;
        Ok(found.items)
    }

    fn journal(&self, n: Number, from_seq: i64, limit: usize) -> Result<Vec<JournalRecord>, StoreError> {
        let sql = "SELECT seq, body FROM journal WHERE n = $1 AND seq >= $2 ORDER BY seq LIMIT $3";
        let found = self.many("read a journal", sql, params![n, from_seq, limit_of(limit)], |row| {
            let seq: i64 = row.try_get(0)?;
            let key = || format!("{seq} of execution {n}");
            Ok(JournalRecord { seq, body: rows::body(row, 1, Table::Journal, journal_sum(n, seq), key, n)? })
        })?;
        // Half a history is worse than none.
        match found.corrupt.into_iter().next() {
            Some(corrupt) => Err(StoreError::Corrupt { table: corrupt.table, key: corrupt.key }),
            None => Ok(found.items),
        }
    }

    fn journal_last(&self, n: Number) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT seq FROM journal WHERE n = $1 ORDER BY seq DESC LIMIT 1";
        self.one("read a journal's end", sql, params![n], |row| Ok(row.try_get(0)?))
    }

    fn snapshot(&self, n: Number) -> Result<Option<SnapshotRecord>, StoreError> {
        self.one("read a snapshot", "SELECT seq, body FROM snapshot WHERE n = $1", params![n], |row| {
            let seq = row.try_get(0)?;
            let key = || format!("of execution {n}");
            Ok(SnapshotRecord { seq, body: rows::body(row, 1, Table::Snapshot, snapshot_sum(n, seq), key, n)? })
        })
    }

    fn timers_due(&self, until_ms: i64, after: Option<TimerKey>, limit: usize) -> Result<Vec<TimerRow>, StoreError> {
        let sql = "SELECT due, n, id FROM timer WHERE due <= $1 AND (due, n, id) > ($2, $3, $4) \
            ORDER BY due, n, id LIMIT $5";
        let after = after.unwrap_or(TimerRow { due_ms: i64::MIN, n: i64::MIN, id: i64::MIN });
        let params = params![until_ms, after.due_ms, after.n, after.id, limit_of(limit)];
        let found = self.many("read timers", sql, params, |row| {
            Ok(TimerRow { due_ms: row.try_get(0)?, n: row.try_get(1)?, id: row.try_get(2)? })
        })?;
        Ok(found.items)
    }

    fn outbox_due(&self, now_ms: i64, limit: usize) -> Result<Rows<OutboxRow>, StoreError> {
        let sql = "SELECT id, n, next_at, attempts, body FROM outbox WHERE next_at <= $1 ORDER BY next_at, id LIMIT $2";
        self.many("read the outbox", sql, params![now_ms, limit_of(limit)], rows::outbox)
    }

    fn outbox_next(&self) -> Result<Option<i64>, StoreError> {
        let next =
            self.one("read the outbox", "SELECT min(next_at) FROM outbox", Vec::new(), |row| Ok(row.try_get(0)?))?;
        Ok(next.flatten())
    }

    fn outbox_by_execution(&self, n: Number) -> Result<Rows<OutboxRow>, StoreError> {
        let sql = "SELECT id, n, next_at, attempts, body FROM outbox WHERE n = $1 ORDER BY id";
        self.many("read the outbox of an execution", sql, params![n], rows::outbox)
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.one("read a blob", "SELECT body FROM blob WHERE digest = $1", params![digest.to_vec()], |row| {
            rows::body(row, 0, Table::Blob, blob_sum(digest), || hex(digest), 0)
        })
    }

    fn mailbox(&self, id: &[u8; 16]) -> Result<Option<MailboxRow>, StoreError> {
        let sql = "SELECT expires, answered, body FROM mailbox WHERE id = $1";
        self.one("read a mailbox", sql, params![id.to_vec()], |row| rows::mailbox(row, id))
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.one("read a named value", "SELECT v FROM meta WHERE k = $1", params![key.to_owned()], |row| {
            Ok(rows::body(row, 0, Table::Meta, meta_sum(key), || key.to_owned(), 0)?.to_vec())
        })
    }

    fn changes(&self, kind: Option<&str>, after: u64, limit: usize) -> Result<Option<ChangePage>, StoreError> {
        const OPERATION: &str = "read changes";
        let sql = format!(
            "SELECT h.revision, h.compacted, {} FROM head h LEFT JOIN LATERAL (SELECT {CHANGE_COLUMNS} FROM change \
             WHERE revision > $1 AND revision <= least($2, h.revision) AND ($3::text IS NULL OR kind = $3) \
             ORDER BY revision LIMIT $4) c ON true ORDER BY c.revision",
            aliased("c", CHANGE_COLUMNS)
        );
        let from = after.cast_signed();
        let until = from.saturating_add(CHANGE_SCAN_MAX);
        let params = params![from, until, kind.map(str::to_owned), limit_of(limit)];
        let mut found = self.query(OPERATION, sql, params)?;
        let (head, compacted) = (revision_of(&found, OPERATION, 0)?, revision_of(&found, OPERATION, 1)?);
        if after < compacted {
            return Ok(None);
        }
        found.retain(|row| matches!(row.try_get::<_, Option<i64>>(2), Ok(Some(_)) | Err(_)));
        let page = collect(OPERATION, &found, |row| rows::change(row, 2))?;
        if let Some(corrupt) = page.corrupt.into_iter().next() {
            // A watcher must not miss a change without knowing.
            return Err(StoreError::Corrupt { table: corrupt.table, key: corrupt.key });
        }
        let changes = page.items;
        let scanned_to = match changes.last() {
            Some(last) if changes.len() >= limit => last.revision,
            _ => until.cast_unsigned().min(head),
        };
        Ok(Some(ChangePage { changes, scanned_to }))
    }

    fn change_body(&self, revision: u64) -> Result<Option<Bytes>, StoreError> {
        let sql = format!("SELECT {CHANGE_COLUMNS} FROM change WHERE revision = $1");
        self.one("read a change", sql, params![revision.cast_signed()], |row| Ok(rows::change(row, 0)?.body))
    }

    fn size(&self) -> Result<(u64, u64), StoreError> {
        let sql = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 FROM pg_class c \
            JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'baton' AND c.relkind = 'r'";
        let size: Option<i64> = self.one("read the size", sql, Vec::new(), |row| Ok(row.try_get(0)?))?;
        Ok((size.unwrap_or(0).cast_unsigned(), 0))
    }

    fn verify(&self, full: bool) -> Result<VerifyReport, StoreError> {
        super::verify::verify(self, full)
    }

    /// The server does that by itself.
    fn interrupt_overdue(&self) {}

    fn close(&self) {
        self.close_all();
    }
}
