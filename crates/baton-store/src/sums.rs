//! What every backend writes alike: the codes of states and kinds, and which columns of a row its checksum covers.

use crate::model::{BlobPut, ChangeKind, Digest, ExecState, Number, ResourceKey, ResourcePut, Uid};
use crate::value::{RowSum, Table};

/// `resource.state` of an active execution, as the partial indexes spell it.
pub(crate) const STATE_ACTIVE: i64 = 1;

pub(crate) fn state_code(state: ExecState) -> i64 {
    match state {
        ExecState::None => 0,
        ExecState::Active => STATE_ACTIVE,
        ExecState::Parked => 2,
        ExecState::Closed => 3,
    }
}

pub(crate) fn state_of(code: i64) -> Option<ExecState> {
    [ExecState::None, ExecState::Active, ExecState::Parked, ExecState::Closed]
        .into_iter()
        .find(|state| state_code(*state) == code)
}

pub(crate) fn change_code(kind: ChangeKind) -> i64 {
    match kind {
        ChangeKind::Added => 1,
        ChangeKind::Modified => 2,
        ChangeKind::Deleted => 3,
    }
}

pub(crate) fn change_of(code: i64) -> Option<ChangeKind> {
    [ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted].into_iter().find(|kind| change_code(*kind) == code)
}

/// The sum of a resource row covers every column: a flipped bit in its revision or owner is as bad as one in its body.
pub(crate) fn resource_sum(put: &ResourcePut, revision: u64) -> RowSum {
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

/// The columns of a change that its checksum covers beside the body.
pub(crate) fn change_sum(
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

pub(crate) fn journal_sum(n: Number, seq: i64) -> RowSum {
    RowSum::new(Table::Journal).int(n).int(seq)
}

pub(crate) fn snapshot_sum(n: Number, seq: i64) -> RowSum {
    RowSum::new(Table::Snapshot).int(n).int(seq)
}

/// Due time and attempts change without the body and are left out.
pub(crate) fn outbox_sum(id: i64, n: Number) -> RowSum {
    RowSum::new(Table::Outbox).int(id).int(n)
}

pub(crate) fn blob_sum(digest: &Digest) -> RowSum {
    RowSum::new(Table::Blob).bytes(digest)
}

pub(crate) fn mailbox_sum(id: &[u8; 16], expires_ms: i64, answered: bool) -> RowSum {
    RowSum::new(Table::Mailbox).bytes(id).int(expires_ms).int(i64::from(answered))
}

pub(crate) fn meta_sum(key: &str) -> RowSum {
    RowSum::new(Table::Meta).bytes(key.as_bytes())
}

/// Whether a blob is kept without references.
pub(crate) fn is_pinned(blob: &BlobPut) -> bool {
    blob.n.is_none()
}
