//! Checking a whole database: the engine's own check of pages and indexes, and every value's checksum.

use rusqlite::{Connection, Row};

use super::pool::SqliteReads;
use super::rows::{self, RESOURCE_COLUMNS, RowError};
use super::{doing, open_for_reading};
use crate::error::StoreError;
use crate::maintenance::VerifyReport;
use crate::value::{Table, hex};

/// Findings of the engine's check at most: one is enough to act.
const PROBLEMS_MAX: u32 = 100;
/// Page cache of the checking connection; the check reads everything once.
const CACHE_BYTES: usize = 8 << 20;
/// Rows read in one snapshot, so that the log can wrap meanwhile.
const CHUNK_ROWS: i64 = 2_000;

/// Checks on a connection of its own: no budget applies, and the readers stay free.
pub(super) fn verify(reads: &SqliteReads, full: bool) -> Result<VerifyReport, StoreError> {
    let connection = open_for_reading(&reads.path, CACHE_BYTES)?;
    let mut report = VerifyReport { problems: check(&connection, full)?, ..VerifyReport::default() };
    if full {
        values(&connection, &mut report)?;
    }
    Ok(report)
}

/// The engine's check; empty if it found nothing.
pub(super) fn check(connection: &Connection, full: bool) -> Result<Vec<String>, StoreError> {
    const OPERATION: &str = "check the database";
    let name = if full { "integrity_check" } else { "quick_check" };
    let mut statement = connection.prepare(&format!("PRAGMA {name}({PROBLEMS_MAX})")).map_err(doing(OPERATION))?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0)).map_err(doing(OPERATION))?;
    let lines = lines.collect::<rusqlite::Result<Vec<_>>>().map_err(doing(OPERATION))?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Reads one value: nothing but whether it is whole.
type Check = fn(&Row<'_>) -> Result<(), RowError>;

/// For each table: rowid and the columns that its check reads.
const TABLES: [(&str, &str, Check); 7] = [
    ("resource", RESOURCE_COLUMNS, |row| rows::resource(row).map(|_| ())),
    ("change", rows::CHANGE_COLUMNS, |row| rows::change(row).map(|_| ())),
    ("journal", "n, seq, body", |row| {
        let (n, seq) = (row.get(0)?, row.get(1)?);
        let key = || format!("{seq} of execution {n}");
        rows::body(row, 2, Table::Journal, rows::journal_sum(n, seq), key, n).map(|_| ())
    }),
    ("snapshot", "n, seq, body", |row| {
        let (n, seq) = (row.get(0)?, row.get(1)?);
        let key = || format!("of execution {n}");
        rows::body(row, 2, Table::Snapshot, rows::snapshot_sum(n, seq), key, n).map(|_| ())
    }),
    ("outbox", "id, n, next_at, attempts, body", |row| rows::outbox(row).map(|_| ())),
    ("blob", "digest, body", |row| {
        let digest: [u8; 32] = row.get(0)?;
        rows::body(row, 1, Table::Blob, rows::blob_sum(&digest), || hex(&digest), 0).map(|_| ())
    }),
    ("mailbox", "expires, answered, body, id", |row| {
        let id: [u8; 16] = row.get(3)?;
        rows::mailbox(row, &id).map(|_| ())
    }),
];

fn values(connection: &Connection, report: &mut VerifyReport) -> Result<(), StoreError> {
    for (table, columns, check) in TABLES {
        let sql = format!("SELECT {columns}, rowid FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?");
        let mut after = i64::MIN;
        while let Some(last) = chunk(connection, &sql, after, check, report)? {
            after = last;
        }
    }
    let mut statement = connection.prepare("SELECT k, v FROM meta").map_err(doing("check values"))?;
    let mut found = statement.query([]).map_err(doing("check values"))?;
    while let Some(row) = found.next().map_err(doing("check values"))? {
        let key: String = row.get(0).map_err(doing("check values"))?;
        let result = rows::body(row, 1, Table::Meta, rows::meta_sum(&key), || key.clone(), 0).map(|_| ());
        note(result, report)?;
    }
    Ok(())
}

/// Checks one chunk; the last rowid looked at, or `None` at the end.
fn chunk(
    connection: &Connection,
    sql: &str,
    after: i64,
    check: Check,
    report: &mut VerifyReport,
) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(doing("check values"))?;
    let rowid = statement.column_count() - 1;
    let mut found = statement.query((after, CHUNK_ROWS)).map_err(doing("check values"))?;
    let mut last = None;
    while let Some(row) = found.next().map_err(doing("check values"))? {
        last = Some(row.get(rowid).map_err(doing("check values"))?);
        note(check(row), report)?;
    }
    Ok(last)
}

fn note(result: Result<(), RowError>, report: &mut VerifyReport) -> Result<(), StoreError> {
    report.values_checked += 1;
    match result {
        Ok(()) => Ok(()),
        Err(RowError::Corrupt(row)) => {
            report.corrupt.push(row);
            Ok(())
        }
        Err(error @ RowError::Database(_)) => Err(error.into_store("check values")),
    }
}
