//! The forms of rows: which columns a checksum covers, and how columns become the types of [`crate::model`].

use std::borrow::Cow;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::error::StoreError;
use crate::model::{
    BlobPut, Change, ChangeKind, CorruptRow, Digest, ExecState, MailboxRow, Number, OutboxRow, ResourceKey,
    ResourcePut, StoredResource, Uid,
};
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

pub(super) fn state_code(state: ExecState) -> i64 {
    match state {
        ExecState::None => 0,
        ExecState::Active => super::schema::STATE_ACTIVE,
        ExecState::Parked => 2,
        ExecState::Closed => 3,
    }
}

fn state_of(code: i64) -> Option<ExecState> {
    [ExecState::None, ExecState::Active, ExecState::Parked, ExecState::Closed]
        .into_iter()
        .find(|state| state_code(*state) == code)
}

pub(super) fn change_code(kind: ChangeKind) -> i64 {
    match kind {
        ChangeKind::Added => 1,
        ChangeKind::Modified => 2,
        ChangeKind::Deleted => 3,
    }
}

fn change_of(code: i64) -> Option<ChangeKind> {
    [ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted].into_iter().find(|kind| change_code(*kind) == code)
}

/// The sum of a resource row covers every column: a flipped bit in its revision or owner is as bad as one in its body.
pub(super) fn resource_sum(put: &ResourcePut, revision: u64) -> RowSum {
    RowSum::new(Table::Resource)
        .int(put.number)
        .bytes(put.key.kind.as_bytes())
        .bytes(put.key.namespace.as_bytes())
        .bytes(put.key.name.as_bytes())
        .bytes(&put.uid)
        .int(revision.cast_signed())
        .int(state_code(put.state))
        .optional(put.owner.as_ref().map(<[u8; 16]>::as_slice))
        .optional(put.expires_at_ms.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice))
        .int(i64::from(put.deleting))
        .optional(put.labels.as_ref().map(String::as_bytes))
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

/// The columns of a change that its checksum covers beside the body.
pub(super) fn change_sum(
    revision: u64,
    previous: u64,
    key: &ResourceKey,
    uid: &Uid,
    number: Number,
    kind: ChangeKind,
) -> RowSum {
    RowSum::new(Table::Change)
        .int(revision.cast_signed())
        .int(previous.cast_signed())
        .bytes(key.kind.as_bytes())
        .bytes(key.namespace.as_bytes())
        .bytes(key.name.as_bytes())
        .bytes(uid)
        .int(number)
        .int(change_code(kind))
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

pub(super) fn journal_sum(n: Number, seq: i64) -> RowSum {
    RowSum::new(Table::Journal).int(n).int(seq)
}

pub(super) fn snapshot_sum(n: Number, seq: i64) -> RowSum {
    RowSum::new(Table::Snapshot).int(n).int(seq)
}

/// Due time and attempts change without the body and are left out.
pub(super) fn outbox_sum(id: i64, n: Number) -> RowSum {
    RowSum::new(Table::Outbox).int(id).int(n)
}

pub(super) fn blob_sum(digest: &Digest) -> RowSum {
    RowSum::new(Table::Blob).bytes(digest)
}

pub(super) fn mailbox_sum(id: &[u8; 16], expires_ms: i64, answered: bool) -> RowSum {
    RowSum::new(Table::Mailbox).bytes(id).int(expires_ms).int(i64::from(answered))
}

pub(super) fn meta_sum(key: &str) -> RowSum {
    RowSum::new(Table::Meta).bytes(key.as_bytes())
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

/// Whether a blob is kept without references.
pub(super) fn is_pinned(blob: &BlobPut) -> bool {
    blob.n.is_none()
}
