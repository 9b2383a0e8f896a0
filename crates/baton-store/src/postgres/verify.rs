//! Checking every value's checksum. Pages and indexes are the server's: it has `pg_amcheck` and its own page checksums.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::doing;
use super::pool::{Param, PostgresReads};
use super::rows::{self, CHANGE_COLUMNS, RESOURCE_COLUMNS, RowError};
use crate::error::StoreError;
use crate::maintenance::VerifyReport;
use crate::sums::{blob_sum, journal_sum, meta_sum, snapshot_sum};
use crate::value::{Table, hex};

/// Rows read in one snapshot, so that the server can clean up meanwhile.
const CHUNK_ROWS: u32 = 2_000;
const OPERATION: &str = "check values";

/// Reads one value: nothing but whether it is whole.
type Check = fn(&Row) -> Result<(), RowError>;

/// The values of one table in the order of a key.
struct Walk {
    table: &'static str,
    columns: &'static str,
    /// Columns of the key, at the end of each row.
    key: &'static [&'static str],
    check: Check,
}

const WALKS: [Walk; 8] = [
    Walk { table: "resource", columns: RESOURCE_COLUMNS, key: &["n"], check: |row| rows::resource(row, 0).map(|_| ()) },
    Walk {
        table: "change",
        columns: CHANGE_COLUMNS,
        key: &["revision"],
        check: |row| rows::change(row, 0).map(|_| ()),
    },
    Walk {
        table: "journal",
        columns: "n, seq, body",
        key: &["n", "seq"],
        check: |row| {
            let (n, seq) = (row.try_get(0)?, row.try_get(1)?);
            let key = || format!("{seq} of execution {n}");
            rows::body(row, 2, Table::Journal, journal_sum(n, seq), key, n).map(|_| ())
        },
    },
    Walk {
        table: "snapshot",
        columns: "n, seq, body",
        key: &["n"],
        check: |row| {
            let (n, seq) = (row.try_get(0)?, row.try_get(1)?);
            let key = || format!("of execution {n}");
            rows::body(row, 2, Table::Snapshot, snapshot_sum(n, seq), key, n).map(|_| ())
        },
    },
    Walk {
        table: "outbox",
        columns: "id, n, next_at, attempts, body",
        key: &["id"],
        check: |row| rows::outbox(row).map(|_| ()),
    },
    Walk {
        table: "blob",
        columns: "digest, body",
        key: &["digest"],
        check: |row| {
            let digest: [u8; 32] = row.try_get::<_, &[u8]>(0)?.try_into().unwrap_or([0; 32]);
            rows::body(row, 1, Table::Blob, blob_sum(&digest), || hex(&digest), 0).map(|_| ())
        },
    },
    Walk {
        table: "mailbox",
        columns: "expires, answered, body, id",
        key: &["id"],
        check: |row| {
            let id: [u8; 16] = row.try_get::<_, &[u8]>(3)?.try_into().unwrap_or([0; 16]);
            rows::mailbox(row, &id).map(|_| ())
        },
    },
    Walk {
        table: "meta",
        columns: "k, v",
        key: &["k"],
        check: |row| {
            let key: String = row.try_get(0)?;
            rows::body(row, 1, Table::Meta, meta_sum(&key), || key.clone(), 0).map(|_| ())
        },
    },
];

/// Checks on a session of its own: no budget applies, and the readers stay free.
pub(super) fn verify(reads: &PostgresReads, full: bool) -> Result<VerifyReport, StoreError> {
    reads.unbounded(move |client| async move {
        let mut report = VerifyReport::default();
        if full {
            for walk in WALKS {
                follow(&client, &walk, &mut report).await?;
            }
        }
        Ok(report)
    })
}

/// One chunk after another, each from where the last one ended.
async fn follow(client: &Client, walk: &Walk, report: &mut VerifyReport) -> Result<(), StoreError> {
    let Walk { table, columns, key, check } = walk;
    let keys = key.join(", ");
    let places: Vec<String> = (1..=key.len()).map(|place| format!("${place}")).collect();
    let select = format!("SELECT {columns}, {keys} FROM {table}");
    let rest = format!("ORDER BY {keys} LIMIT {CHUNK_ROWS}");
    let first = format!("{select} {rest}");
    let next = format!("{select} WHERE ({keys}) > ({}) {rest}", places.join(", "));
    let mut after: Vec<Param> = Vec::new();
    loop {
        let sql = if after.is_empty() { &first } else { &next };
        let params: Vec<&(dyn ToSql + Sync)> = after.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect();
        let found = client.query(sql, &params).await.map_err(doing(OPERATION))?;
        let Some(last) = found.last() else { return Ok(()) };
        for row in &found {
            report.values_checked += 1;
            match check(row) {
                Ok(()) => {}
                Err(RowError::Corrupt(row)) => report.corrupt.push(row),
                Err(error @ RowError::Database(_)) => return Err(error.into_store(OPERATION)),
            }
        }
        let width = last.len() - key.len();
        after =
            (width..last.len()).map(|index| key_of(last, index)).collect::<Result<_, _>>().map_err(doing(OPERATION))?;
    }
}

/// A column of a key, to be sent back.
fn key_of(row: &Row, index: usize) -> Result<Param, tokio_postgres::Error> {
    Ok(match *row.columns()[index].type_() {
        Type::BYTEA => Box::new(row.try_get::<_, Vec<u8>>(index)?),
        Type::TEXT => Box::new(row.try_get::<_, String>(index)?),
        _ => Box::new(row.try_get::<_, i64>(index)?),
    })
}
