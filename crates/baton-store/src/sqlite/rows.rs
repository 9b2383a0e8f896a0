//! The forms of rows: which columns a checksum covers, and how columns become the types of [`crate::model`].

use std::borrow::Cow;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::error::StoreError;
use crate::model::{
    Change, ChangeKind, CorruptRow, ExecState, MailboxRow, Number, OutboxRow, ResourceKey, ResourcePut, StoredResource,
};
pub(super) use crate::sums::{
    blob_sum, change_code, change_sum, is_pinned, journal_sum, mailbox_sum, meta_sum, outbox_sum, resource_sum,
    snapshot_sum, state_code,
};
use crate::sums::{change_of, state_of};
use crate::value::{RowSum, Table, hex, open};

/// Why a row could not be turned into a value.
pub(super) enum RowError {
    Corrupt(CorruptRow),
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl RowError {
    pub(super) fn into_store(self, operation: &'static str) -> StoreError {
        match self {
            Self::Corrupt(row) => StoreError::Corrupt { table: row.table, key: row.key },
            Self::Database(source) => StoreError::Database { operation, source },
        }
    }
}

/// The columns in the order that [`resource`] reads.
pub(super) const RESOURCE_COLUMNS: &str =
    "n, kind, ns, name, uid, revision, state, owner, expires_at, deleting, labels, body";

/// A resource from [`RESOURCE_COLUMNS`].
pub(super) fn resource(row: &Row<'_>) -> Result<StoredResource, RowError> {
    let number: Number = row.get(0)?;
    let damaged = |detail: String| {
        RowError::Corrupt(CorruptRow { table: Table::Resource.name(), key: format!("{number} ({detail})"), number })
    };
    let column = |_: rusqlite::Error| damaged("a column has another type".to_owned());
    let read = || -> rusqlite::Result<(ResourcePut, u64, i64)> {
        let put = ResourcePut {
            key: ResourceKey { kind: Cow::Owned(row.get(1)?), namespace: row.get(2)?, name: row.get(3)? },
            uid: row.get(4)?,
            number,
            expect: crate::model::Expect::Absent,
            body: bytes::Bytes::new(),
            labels: row.get(10)?,
            state: ExecState::None,
            owner: row.get(7)?,
            expires_at_ms: row.get(8)?,
            deleting: row.get::<_, i64>(9)? != 0,
        };
        Ok((put, row.get::<_, i64>(5)?.cast_unsigned(), row.get(6)?))
    };
    let (mut put, revision, state) = read().map_err(column)?;
    let text = put.key.to_string();
    put.state = state_of(state).ok_or_else(|| damaged(text.clone()))?;
    let stored = blob(row, 11).ok_or_else(|| damaged(text.clone()))?;
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

fn blob<'r>(row: &'r Row<'_>, index: usize) -> Option<&'r [u8]> {
    match row.get_ref(index) {
        Ok(ValueRef::Blob(bytes)) => Some(bytes),
        _ => None,
    }
}

/// The columns in the order that [`change`] reads.
pub(super) const CHANGE_COLUMNS: &str = "revision, previous, kind, ns, name, uid, n, op, body";

/// A change from [`CHANGE_COLUMNS`].
pub(super) fn change(row: &Row<'_>) -> Result<Change, RowError> {
    let revision = row.get::<_, i64>(0)?.cast_unsigned();
    let damaged =
        || RowError::Corrupt(CorruptRow { table: Table::Change.name(), key: revision.to_string(), number: 0 });
    let read = || -> rusqlite::Result<(Change, i64)> {
        let change = Change {
            revision,
            previous_revision: row.get::<_, i64>(1)?.cast_unsigned(),
            key: ResourceKey { kind: Cow::Owned(row.get(2)?), namespace: row.get(3)?, name: row.get(4)? },
            uid: row.get(5)?,
            number: row.get(6)?,
            kind: ChangeKind::Added,
            body: bytes::Bytes::new(),
        };
        Ok((change, row.get(7)?))
    };
    let (mut change, code) = read().map_err(|_| damaged())?;
    change.kind = change_of(code).ok_or_else(damaged)?;
    let sum = change_sum(revision, change.previous_revision, &change.key, &change.uid, change.number, change.kind);
    change.body = open(Table::Change, sum, blob(row, 8).ok_or_else(damaged)?, String::new).map_err(|_| damaged())?;
    Ok(change)
}

/// A body of a row whose key columns are known: column `index`, checked against `sum`.
pub(super) fn body(
    row: &Row<'_>,
    index: usize,
    table: Table,
    sum: RowSum,
    key: impl Fn() -> String,
    number: Number,
) -> Result<bytes::Bytes, RowError> {
    let corrupt = || RowError::Corrupt(CorruptRow { table: table.name(), key: key(), number });
    open(table, sum, blob(row, index).ok_or_else(corrupt)?, String::new).map_err(|_| corrupt())
}

/// A row of `id, n, next_at, attempts, body`.
pub(super) fn outbox(row: &Row<'_>) -> Result<OutboxRow, RowError> {
    let (id, n): (i64, Number) = (row.get(0)?, row.get(1)?);
    let body = body(row, 4, Table::Outbox, outbox_sum(id, n), || format!("{id} of execution {n}"), id)?;
    let attempts = u32::try_from(row.get::<_, i64>(3)?).unwrap_or(u32::MAX);
    Ok(OutboxRow { id, n, next_at_ms: row.get(2)?, attempts, body })
}

/// A row of `expires, answered, body`.
pub(super) fn mailbox(row: &Row<'_>, id: &[u8; 16]) -> Result<MailboxRow, RowError> {
    let (expires_ms, answered) = (row.get(0)?, row.get::<_, i64>(1)? != 0);
    let body = body(row, 2, Table::Mailbox, mailbox_sum(id, expires_ms, answered), || hex(id), 0)?;
    Ok(MailboxRow { id: *id, expires_ms, answered, body })
}
