//! Reading connections, and the statements they run.
//!
//! A pool of a few connections, each used by one thread at a time and never across an await: an old snapshot would keep
//! the log from wrapping. Every read has a limit, and a budget after which the store's watchdog interrupts it.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, InterruptHandle, OptionalExtension, Params, Row};

use super::rows::{self, RESOURCE_COLUMNS, RowError};
use super::schema::PAGE_BYTES;
use super::{DATABASE_FILE, doing, limit_of, open_for_reading, writer};
use crate::backend::{ChangePage, Head, Reads, Which};
use crate::error::StoreError;
use crate::maintenance::VerifyReport;
use crate::model::{
    Digest, JournalRecord, ListPage, ListQuery, MailboxRow, Number, OutboxRow, ResourceKey, Rows,
    SnapshotRecord, StoredResource, TimerKey, TimerRow, Uid, canonical_labels,
};
use crate::options::StoreOptions;
use crate::value::{Table, hex};

/// Revisions that one scan of the change table looks at: bounds the work when few are of the wanted kind.
const CHANGE_SCAN_MAX: u64 = 5_000;
/// Readers at most: more only divide the cache.
const READERS_MAX: usize = 16;

/// One connection and since when it is busy.
struct Slot {
    connection: Connection,
    clock: Arc<Clock>,
}

/// Shared with the watchdog, which interrupts only while it holds the lock: never a later statement.
struct Clock {
    busy_since: Mutex<Option<Instant>>,
    interrupt: InterruptHandle,
}

impl Clock {
    fn set(&self, since: Option<Instant>) {
        *self
            .busy_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = since;
    }
}

struct Pool {
    idle: Vec<Slot>,
    closed: bool,
}

pub(crate) struct SqliteReads {
    pool: Mutex<Pool>,
    returned: Condvar,
    clocks: Vec<Arc<Clock>>,
    budget: Duration,
    pub(super) path: PathBuf,
}

/// Gives the slot back also when a read panics.
struct Lease<'p> {
    reads: &'p SqliteReads,
    slot: Option<Slot>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.clock.set(None);
            let mut pool = self.reads.lock();
            if !pool.closed {
                pool.idle.push(slot);
            }
            drop(pool);
            self.reads.returned.notify_one();
        }
    }
}

impl SqliteReads {
    pub(crate) fn open(dir: &std::path::Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let path = dir.join(DATABASE_FILE);
        let count = options.readers.clamp(1, READERS_MAX);
        let idle = (0..count)
            .map(|_| {
                let connection = open_for_reading(&path, options.cache_bytes / count)?;
                let interrupt = connection.get_interrupt_handle();
                Ok(Slot {
                    connection,
                    clock: Arc::new(Clock {
                        busy_since: Mutex::new(None),
                        interrupt,
                    }),
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let clocks = idle.iter().map(|slot| Arc::clone(&slot.clock)).collect();
        let budget = Duration::from_millis(options.read_budget_ms);
        let pool = Mutex::new(Pool {
            idle,
            closed: false,
        });
        Ok(Self {
            pool,
            returned: Condvar::new(),
            clocks,
            budget,
            path,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` on an idle connection, waiting for one.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut pool = self.lock();
        let slot = loop {
            if pool.closed {
                return Err(StoreError::Closed);
            }
            if let Some(slot) = pool.idle.pop() {
                break slot;
            }
            pool = self
                .returned
                .wait(pool)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(pool);
        slot.clock.set(Some(Instant::now()));
        let lease = Lease {
            reads: self,
            slot: Some(slot),
        };
        let slot = lease.slot.as_ref().ok_or(StoreError::Closed)?;
        read(&slot.connection)
    }

    fn one<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        convert: impl FnOnce(&Row<'_>) -> Result<T, RowError>,
    ) -> Result<Option<T>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(sql).map_err(doing(operation))?;
            let mut found = statement.query(params).map_err(doing(operation))?;
            match found.next().map_err(doing(operation))? {
                Some(row) => convert(row)
                    .map(Some)
                    .map_err(|error| error.into_store(operation)),
                None => Ok(None),
            }
        })
    }

    fn column<T: rusqlite::types::FromSql>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
    ) -> Result<Vec<T>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(sql).map_err(doing(operation))?;
            let values = statement
                .query_map(params, |row| row.get(0))
                .map_err(doing(operation))?;
            values
                .collect::<rusqlite::Result<_>>()
                .map_err(doing(operation))
        })
    }

    fn many<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        convert: impl Fn(&Row<'_>) -> Result<T, RowError>,
    ) -> Result<Rows<T>, StoreError> {
        self.with(|connection| collect(connection, operation, sql, params, &convert))
    }
}

/// Reads rows, setting damaged ones aside.
fn collect<T>(
    connection: &Connection,
    operation: &'static str,
    sql: &str,
    params: impl Params,
    convert: &impl Fn(&Row<'_>) -> Result<T, RowError>,
) -> Result<Rows<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(doing(operation))?;
    let mut found = statement.query(params).map_err(doing(operation))?;
    let mut rows = Rows::default();
    while let Some(row) = found.next().map_err(doing(operation))? {
        match convert(row) {
            Ok(value) => rows.items.push(value),
            Err(RowError::Corrupt(corrupt)) => rows.corrupt.push(corrupt),
            Err(error @ RowError::Database(_)) => return Err(error.into_store(operation)),
        }
    }
    Ok(rows)
}

/// The statement of a list, and the text that its labels must contain.
fn list_sql(query: &ListQuery) -> (String, Vec<Box<dyn rusqlite::ToSql>>) {
    let mut sql = format!("SELECT {RESOURCE_COLUMNS} FROM resource WHERE kind = ?");
    let mut params: Vec<Box<dyn rusqlite::ToSql>> = vec![Box::new(query.kind.clone().into_owned())];
    match (&query.namespace, &query.after) {
        (Some(namespace), after) => {
            sql.push_str(" AND ns = ?");
            params.push(Box::new(namespace.clone()));
            if let Some((after_namespace, after_name)) = after {
                // A position in an earlier namespace is before all of this one, in a later one after all of it.
                let name = match after_namespace.cmp(namespace) {
                    std::cmp::Ordering::Equal => Some(after_name.clone()),
                    std::cmp::Ordering::Less => None,
                    std::cmp::Ordering::Greater => {
                        sql.push_str(" AND 0");
                        None
                    }
                };
                if let Some(name) = name {
                    sql.push_str(" AND name > ?");
                    params.push(Box::new(name));
                }
            }
        }
        (None, Some((namespace, name))) => {
            sql.push_str(" AND (ns, name) > (?, ?)");
            params.push(Box::new(namespace.clone()));
            params.push(Box::new(name.clone()));
        }
        (None, None) => {}
    }
    for (key, value) in &query.labels {
        if let Some(text) = canonical_labels([(key.as_str(), value.as_str())]) {
            sql.push_str(" AND instr(labels, ?) > 0");
            params.push(Box::new(text));
        }
    }
    sql.push_str(" ORDER BY ns, name LIMIT ?");
    params.push(Box::new(limit_of(query.limit.saturating_add(1))));
    (sql, params)
}

/// A row of a list with its place, which is needed also when the row is damaged.
struct Listed {
    place: (String, String),
    row: Result<StoredResource, crate::model::CorruptRow>,
}

fn listed(row: &Row<'_>) -> Result<Listed, RowError> {
    let text = |index| -> rusqlite::Result<String> {
        Ok(row
            .get_ref(index)?
            .as_bytes()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default())
    };
    let place = (text(2)?, text(3)?);
    match rows::resource(row) {
        Ok(resource) => Ok(Listed {
            place,
            row: Ok(resource),
        }),
        Err(RowError::Corrupt(corrupt)) => Ok(Listed {
            place,
            row: Err(corrupt),
        }),
        Err(error) => Err(error),
    }
}

fn list(connection: &Connection, query: &ListQuery) -> Result<ListPage, StoreError> {
    const OPERATION: &str = "list resources";
    // One transaction, so that the revision is that of the rows.
    let snapshot = connection
        .unchecked_transaction()
        .map_err(doing(OPERATION))?;
    let revision = writer::read_head(&snapshot)
        .map_err(doing(OPERATION))?
        .revision;
    let (sql, params) = list_sql(query);
    let params = rusqlite::params_from_iter(params);
    let mut rows = collect(&snapshot, OPERATION, &sql, params, &listed)?.items;
    let more = rows.len() > query.limit;
    rows.truncate(query.limit);
    let last = rows.last().map(|listed| listed.place.clone());
    let mut page = ListPage {
        items: Vec::with_capacity(rows.len()),
        corrupt: Vec::new(),
        revision,
        more,
        last,
    };
    for listed in rows {
        match listed.row {
            Ok(resource) => page.items.push(resource),
            Err(corrupt) => page.corrupt.push(corrupt),
        }
    }
    Ok(page)
}

fn changes(
    connection: &Connection,
    kind: Option<&str>,
    after: u64,
    limit: usize,
) -> Result<Option<ChangePage>, StoreError> {
    const OPERATION: &str = "read changes";
    let snapshot = connection
        .unchecked_transaction()
        .map_err(doing(OPERATION))?;
    let head = writer::read_head(&snapshot).map_err(doing(OPERATION))?;
    if after < head.compacted {
        return Ok(None);
    }
    let until = after.saturating_add(CHANGE_SCAN_MAX).min(head.revision);
    let sql = format!(
        "SELECT {} FROM change WHERE revision > ?1 AND revision <= ?2 AND (?3 IS NULL OR kind = ?3) \
         ORDER BY revision LIMIT ?4",
        rows::CHANGE_COLUMNS
    );
    let params = (
        after.cast_signed(),
        until.cast_signed(),
        kind,
        limit_of(limit),
    );
    let found = collect(&snapshot, OPERATION, &sql, params, &rows::change)?;
    if let Some(corrupt) = found.corrupt.into_iter().next() {
        // A watcher must not miss a change without knowing.
        return Err(StoreError::Corrupt {
            table: corrupt.table,
            key: corrupt.key,
        });
    }
    let changes = found.items;
    let scanned_to = match changes.last() {
        Some(last) if changes.len() >= limit => last.revision,
        _ => until,
    };
    Ok(Some(ChangePage {
        changes,
        scanned_to,
    }))
}

impl Reads for SqliteReads {
    fn head(&self) -> Result<Head, StoreError> {
        self.with(|connection| writer::read_head(connection).map_err(doing("read the head")))
    }

    fn get(&self, key: &ResourceKey) -> Result<Option<StoredResource>, StoreError> {
        let sql = resources("WHERE kind = ? AND ns = ? AND name = ?");
        self.one(
            "get a resource",
            &sql,
            (&key.kind, &key.namespace, &key.name),
            rows::resource,
        )
    }

    fn get_by_uid(&self, uid: &Uid) -> Result<Option<StoredResource>, StoreError> {
        self.one(
            "get a resource by uid",
            &resources("WHERE uid = ?"),
            [uid],
            rows::resource,
        )
    }

    fn get_by_number(&self, number: Number) -> Result<Option<StoredResource>, StoreError> {
        self.one(
            "get a resource by number",
            &resources("WHERE n = ?"),
            [number],
            rows::resource,
        )
    }

    fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.with(|connection| list(connection, query))
    }

    fn by_owner(
        &self,
        owner: &Uid,
        after: Number,
        limit: usize,
    ) -> Result<Rows<StoredResource>, StoreError> {
        let sql = resources("WHERE owner = ? AND n > ? ORDER BY n LIMIT ?");
        self.many(
            "list by owner",
            &sql,
            (owner, after, limit_of(limit)),
            rows::resource,
        )
    }

    fn numbers(&self, which: Which, limit: usize) -> Result<Vec<Number>, StoreError> {
        // Each condition is spelled as in its partial index, or SQLite would not use it.
        let (sql, value) = match which {
            Which::Active { after } => (
                "SELECT n FROM resource WHERE state = 1 AND n > ? ORDER BY n LIMIT ?",
                after,
            ),
            Which::Deleting { after } => (
                "SELECT n FROM resource WHERE deleting = 1 AND n > ? ORDER BY n LIMIT ?",
                after,
            ),
            Which::Expiring { before_ms } => (
                "SELECT n FROM resource WHERE expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?",
                before_ms,
            ),
        };
        self.column("list numbers", sql, (value, limit_of(limit)))
    }

    fn journal(
        &self,
        n: Number,
        from_seq: i64,
        limit: usize,
    ) -> Result<Vec<JournalRecord>, StoreError> {
        let sql = "SELECT seq, body FROM journal WHERE n = ? AND seq >= ? ORDER BY seq LIMIT ?";
        let found = self.many(
            "read a journal",
            sql,
            (n, from_seq, limit_of(limit)),
            |row| {
                let seq: i64 = row.get(0)?;
                let key = || format!("{seq} of execution {n}");
                Ok(JournalRecord {
                    seq,
                    body: rows::body(row, 1, Table::Journal, rows::journal_sum(n, seq), key, n)?,
                })
            },
        )?;
        // Half a history is worse than none.
        match found.corrupt.into_iter().next() {
            Some(corrupt) => Err(StoreError::Corrupt {
                table: corrupt.table,
                key: corrupt.key,
            }),
            None => Ok(found.items),
        }
    }

    fn journal_last(&self, n: Number) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT seq FROM journal WHERE n = ? ORDER BY seq DESC LIMIT 1";
        Ok(self.column("read a journal's end", sql, [n])?.pop())
    }

    fn snapshot(&self, n: Number) -> Result<Option<SnapshotRecord>, StoreError> {
        self.one(
            "read a snapshot",
            "SELECT seq, body FROM snapshot WHERE n = ?",
            [n],
            |row| {
                let seq = row.get(0)?;
                let key = || format!("of execution {n}");
                Ok(SnapshotRecord {
                    seq,
                    body: rows::body(row, 1, Table::Snapshot, rows::snapshot_sum(n, seq), key, n)?,
                })
            },
        )
    }

    fn timers_due(
        &self,
        until_ms: i64,
        after: Option<TimerKey>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        let sql = "SELECT due, n, id FROM timer WHERE due <= ? AND (due, n, id) > (?, ?, ?) ORDER BY due, n, id LIMIT ?";
        let after = after.unwrap_or(TimerRow {
            due_ms: i64::MIN,
            n: i64::MIN,
            id: i64::MIN,
        });
        let params = (until_ms, after.due_ms, after.n, after.id, limit_of(limit));
        let found = self.many("read timers", sql, params, |row| {
            Ok(TimerRow {
                due_ms: row.get(0)?,
                n: row.get(1)?,
                id: row.get(2)?,
            })
        })?;
        Ok(found.items)
    }

    fn outbox_due(&self, now_ms: i64, limit: usize) -> Result<Rows<OutboxRow>, StoreError> {
        let sql = "SELECT id, n, next_at, attempts, body FROM outbox WHERE next_at <= ? ORDER BY next_at, id LIMIT ?";
        self.many(
            "read the outbox",
            sql,
            (now_ms, limit_of(limit)),
            rows::outbox,
        )
    }

    fn outbox_next(&self) -> Result<Option<i64>, StoreError> {
        let next: Vec<Option<i64>> =
            self.column("read the outbox", "SELECT min(next_at) FROM outbox", [])?;
        Ok(next.into_iter().next().flatten())
    }

    fn outbox_by_execution(&self, n: Number) -> Result<Rows<OutboxRow>, StoreError> {
        let sql = "SELECT id, n, next_at, attempts, body FROM outbox WHERE n = ? ORDER BY id";
        self.many("read the outbox of an execution", sql, [n], rows::outbox)
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.one(
            "read a blob",
            "SELECT body FROM blob WHERE digest = ?",
            [digest],
            |row| {
                rows::body(
                    row,
                    0,
                    Table::Blob,
                    rows::blob_sum(digest),
                    || hex(digest),
                    0,
                )
            },
        )
    }

    fn mailbox(&self, id: &[u8; 16]) -> Result<Option<MailboxRow>, StoreError> {
        let sql = "SELECT expires, answered, body FROM mailbox WHERE id = ?";
        self.one("read a mailbox", sql, [id], |row| rows::mailbox(row, id))
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.one(
            "read a named value",
            "SELECT v FROM meta WHERE k = ?",
            [key],
            |row| {
                Ok(rows::body(
                    row,
                    0,
                    Table::Meta,
                    rows::meta_sum(key),
                    || key.to_owned(),
                    0,
                )?
                .to_vec())
            },
        )
    }

    fn changes(
        &self,
        kind: Option<&str>,
        after: u64,
        limit: usize,
    ) -> Result<Option<ChangePage>, StoreError> {
        self.with(|connection| changes(connection, kind, after, limit))
    }

    fn change_body(&self, revision: u64) -> Result<Option<Bytes>, StoreError> {
        let sql = format!(
            "SELECT {} FROM change WHERE revision = ?",
            rows::CHANGE_COLUMNS
        );
        self.one("read a change", &sql, [revision.cast_signed()], |row| {
            Ok(rows::change(row)?.body)
        })
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
        for clock in &self.clocks {
            let busy_since = clock
                .busy_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if busy_since.is_some_and(|since| since.elapsed() > self.budget) {
                clock.interrupt.interrupt();
            }
        }
    }

    fn close(&self) {
        let mut pool = self.lock();
        pool.closed = true;
        pool.idle.clear();
        drop(pool);
        self.returned.notify_all();
    }
}

fn resources(rest: &str) -> String {
    format!("SELECT {RESOURCE_COLUMNS} FROM resource {rest}")
}
