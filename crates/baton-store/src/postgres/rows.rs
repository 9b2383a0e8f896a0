//! How columns become the types of [`crate::model`]. The sums are those of every backend, see [`crate::sums`].

use std::borrow::Cow;

use bytes::Bytes;
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::model::{
    Change, ChangeKind, CorruptRow, Expect, MailboxRow, Number, OutboxRow, ResourceKey, ResourcePut, Rows,
    StoredResource, Uid,
};
use crate::sums::{change_of, change_sum, mailbox_sum, outbox_sum, resource_sum, state_of};
use crate::value::{RowSum, Table, hex, open};

/// Why a row could not be turned into a value.
pub(super) enum RowError {
    Corrupt(CorruptRow),
    Database(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for RowError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl RowError {
    pub(super) fn into_store(self, operation: &'static str) -> StoreError {
        match self {
            Self::Corrupt(row) => StoreError::Corrupt { table: row.table, key: row.key },
            Self::Database(source) => StoreError::Postgres { operation, source },
        }
    }
}

/// Turns rows into values, setting damaged ones aside.
pub(super) fn collect<T>(
    operation: &'static str,
    found: &[Row],
    convert: impl Fn(&Row) -> Result<T, RowError>,
) -> Result<Rows<T>, StoreError> {
    let mut rows = Rows::default();
    for row in found {
        match convert(row) {
            Ok(value) => rows.items.push(value),
            Err(RowError::Corrupt(corrupt)) => rows.corrupt.push(corrupt),
            Err(error @ RowError::Database(_)) => return Err(error.into_store(operation)),
        }
    }
    Ok(rows)
}

/// 16 bytes of a column; damaged ones have another length.
fn uid(row: &Row, index: usize) -> Result<Option<Uid>, tokio_postgres::Error> {
    Ok(row.try_get::<_, &[u8]>(index)?.try_into().ok())
}

/// The columns in the order that [`resource`] reads.
pub(super) const RESOURCE_COLUMNS: &str =
    "n, kind, ns, name, uid, revision, state, owner, expires_at, deleting, labels, body";

/// A resource from [`RESOURCE_COLUMNS`], which begin at column `at`.
pub(super) fn resource(row: &Row, at: usize) -> Result<StoredResource, RowError> {
    let number: Number = row.try_get(at)?;
    let damaged = |detail: String| {
        RowError::Corrupt(CorruptRow { table: Table::Resource.name(), key: format!("{number} ({detail})"), number })
    };
    let key = ResourceKey {
        kind: Cow::Owned(row.try_get(at + 1)?),
        namespace: row.try_get(at + 2)?,
        name: row.try_get(at + 3)?,
    };
    let text = key.to_string();
    let revision = row.try_get::<_, i64>(at + 5)?.cast_unsigned();
    let owner: Option<&[u8]> = row.try_get(at + 7)?;
    let put = ResourcePut {
        uid: uid(row, at + 4)?.ok_or_else(|| damaged(text.clone()))?,
        number,
        expect: Expect::Absent,
        body: Bytes::new(),
        labels: row.try_get(at + 10)?,
        state: state_of(row.try_get(at + 6)?).ok_or_else(|| damaged(text.clone()))?,
        owner: owner.map(TryInto::try_into).transpose().map_err(|_| damaged(text.clone()))?,
        expires_at_ms: row.try_get(at + 8)?,
        deleting: row.try_get(at + 9)?,
        key,
    };
    let stored: &[u8] = row.try_get(at + 11)?;
    let body = open(Table::Resource, resource_sum(&put, revision), stored, String::new).map_err(|_| damaged(text))?;
    Ok(StoredResource {
        key: put.key,
        uid: put.uid,
        number,
        revision,
        state: put.state,
        owner: put.owner,
        expires_at_ms: put.expires_at_ms,
        deleting: put.deleting,
        labels: put.labels,
        body,
    })
}

/// The columns in the order that [`change`] reads.
pub(super) const CHANGE_COLUMNS: &str = "revision, previous, kind, ns, name, uid, n, op, body";

/// A change from [`CHANGE_COLUMNS`], which begin at column `at`.
pub(super) fn change(row: &Row, at: usize) -> Result<Change, RowError> {
    let revision = row.try_get::<_, i64>(at)?.cast_unsigned();
    let damaged =
        || RowError::Corrupt(CorruptRow { table: Table::Change.name(), key: revision.to_string(), number: 0 });
    let mut change = Change {
        revision,
        previous_revision: row.try_get::<_, i64>(at + 1)?.cast_unsigned(),
        key: ResourceKey {
            kind: Cow::Owned(row.try_get(at + 2)?),
            namespace: row.try_get(at + 3)?,
            name: row.try_get(at + 4)?,
        },
        uid: uid(row, at + 5)?.ok_or_else(damaged)?,
        number: row.try_get(at + 6)?,
        kind: ChangeKind::Added,
        body: Bytes::new(),
    };
    change.kind = change_of(row.try_get(at + 7)?).ok_or_else(damaged)?;
    let sum = change_sum(revision, change.previous_revision, &change.key, &change.uid, change.number, change.kind);
    change.body = open(Table::Change, sum, row.try_get(at + 8)?, String::new).map_err(|_| damaged())?;
    Ok(change)
}

/// A body of a row whose key columns are known: column `index`, checked against `sum`.
pub(super) fn body(
    row: &Row,
    index: usize,
    table: Table,
    sum: RowSum,
    key: impl Fn() -> String,
    number: Number,
) -> Result<Bytes, RowError> {
    let corrupt = || RowError::Corrupt(CorruptRow { table: table.name(), key: key(), number });
    open(table, sum, row.try_get(index)?, String::new).map_err(|_| corrupt())
}

/// A row of `id, n, next_at, attempts, body`.
pub(super) fn outbox(row: &Row) -> Result<OutboxRow, RowError> {
    let (id, n): (i64, Number) = (row.try_get(0)?, row.try_get(1)?);
    let body = body(row, 4, Table::Outbox, outbox_sum(id, n), || format!("{id} of execution {n}"), id)?;
    let attempts = u32::try_from(row.try_get::<_, i64>(3)?).unwrap_or(u32::MAX);
    Ok(OutboxRow { id, n, next_at_ms: row.try_get(2)?, attempts, body })
}

/// A row of `expires, answered, body`.
pub(super) fn mailbox(row: &Row, id: &[u8; 16]) -> Result<MailboxRow, RowError> {
    let (expires_ms, answered) = (row.try_get(0)?, row.try_get(1)?);
    let body = body(row, 2, Table::Mailbox, mailbox_sum(id, expires_ms, answered), || hex(id), 0)?;
    Ok(MailboxRow { id: *id, expires_ms, answered, body })
}
