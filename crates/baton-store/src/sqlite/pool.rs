//! Reading connections, each used by one thread at a time.
//!
//! # Invariants
//! - A connection is never held across an await: an old snapshot would keep the log from wrapping.
//! - A read over its budget is interrupted, and only that read: the watchdog looks and interrupts under one lock.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, InterruptHandle, Params, Row};

use super::rows::RowError;
use super::{DATABASE_FILE, doing, open_for_reading};
use crate::error::StoreError;
use crate::model::Rows;
use crate::options::StoreOptions;

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
        *self.busy_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
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
    pub(crate) fn open(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let path = dir.join(DATABASE_FILE);
        let count = options.readers.clamp(1, READERS_MAX);
        let idle = (0..count)
            .map(|_| {
                let connection = open_for_reading(&path, options.cache_bytes / count)?;
                let interrupt = connection.get_interrupt_handle();
                Ok(Slot { connection, clock: Arc::new(Clock { busy_since: Mutex::new(None), interrupt }) })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let clocks = idle.iter().map(|slot| Arc::clone(&slot.clock)).collect();
        let budget = Duration::from_millis(options.read_budget_ms);
        let pool = Mutex::new(Pool { idle, closed: false });
        Ok(Self { pool, returned: Condvar::new(), clocks, budget, path })
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` on an idle connection, waiting for one.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut pool = self.lock();
        let slot = loop {
            if pool.closed {
                return Err(StoreError::Closed);
            }
            if let Some(slot) = pool.idle.pop() {
                break slot;
            }
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        };
        drop(pool);
        slot.clock.set(Some(Instant::now()));
        let lease = Lease { reads: self, slot: Some(slot) };
        let slot = lease.slot.as_ref().ok_or(StoreError::Closed)?;
        read(&slot.connection)
    }

    pub(super) fn one<T>(
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
                Some(row) => convert(row).map(Some).map_err(|error| error.into_store(operation)),
                None => Ok(None),
            }
        })
    }

    pub(super) fn column<T: rusqlite::types::FromSql>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
    ) -> Result<Vec<T>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(sql).map_err(doing(operation))?;
            let values = statement.query_map(params, |row| row.get(0)).map_err(doing(operation))?;
            values.collect::<rusqlite::Result<_>>().map_err(doing(operation))
        })
    }

    pub(super) fn many<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        convert: impl Fn(&Row<'_>) -> Result<T, RowError>,
    ) -> Result<Rows<T>, StoreError> {
        self.with(|connection| collect(connection, operation, sql, params, &convert))
    }

    /// Interrupts whatever has been busy for longer than the budget.
    pub(super) fn interrupt_over_budget(&self) {
        for clock in &self.clocks {
            let busy_since = clock.busy_since.lock().unwrap_or_else(PoisonError::into_inner);
            if busy_since.is_some_and(|since| since.elapsed() > self.budget) {
                clock.interrupt.interrupt();
            }
        }
    }

    /// Closes idle connections now and leased ones when they come back.
    pub(super) fn close_all(&self) {
        let mut pool = self.lock();
        pool.closed = true;
        pool.idle.clear();
        drop(pool);
        self.returned.notify_all();
    }
}

/// Reads rows, setting damaged ones aside.
pub(super) fn collect<T>(
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::store::Store;

    const ENDLESS: &str = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";

    #[test]
    fn a_read_over_its_budget_is_interrupted_and_the_connection_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { read_budget_ms: 0, readers: 1, free_bytes_min: 0, ..StoreOptions::default() };
        let _store = Store::open(dir.path(), options.clone()).unwrap();
        let reads = SqliteReads::open(dir.path(), &options).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    reads.interrupt_over_budget();
                    std::thread::yield_now();
                }
            });
            let outcome = reads.column::<i64>("count for ever", ENDLESS, []);
            ended.store(true, Ordering::Relaxed);
            let Err(StoreError::Database { source, .. }) = outcome else { panic!("{outcome:?}") };
            assert_eq!(source.sqlite_error_code(), Some(rusqlite::ErrorCode::OperationInterrupted));
        });
        assert_eq!(reads.column::<i64>("count", "SELECT 1", []).unwrap(), [1]);
        reads.close_all();
        assert!(matches!(reads.column::<i64>("count", "SELECT 1", []), Err(StoreError::Closed)));
    }
}
