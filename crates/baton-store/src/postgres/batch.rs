//! The rows of a group as columns, and the statements that take them, in an order in which none stands in another's way.

use std::collections::BTreeMap;

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::group::{BlobFold, Group, OutboxFold, ResourceFold};
use super::statements::Statements;
use crate::model::ResourcePut;
use crate::sums::{
    blob_sum, change_code, change_sum, journal_sum, mailbox_sum, meta_sum, outbox_sum, resource_sum, snapshot_sum,
    state_code,
};
use crate::value::{RowSum, seal};

/// One statement with its columns, and how many rows it must touch where that is known.
pub(super) struct Bulk<'s, 'b> {
    pub(super) statement: &'s Statement,
    pub(super) columns: Vec<&'b (dyn ToSql + Sync)>,
    pub(super) rows: Option<usize>,
}

fn sealed(sum: RowSum, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    seal(&mut value, sum, body);
    value
}

macro_rules! columns {
    ($(#[$doc:meta])* $name:ident<$life:lifetime> { $($column:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Default)]
        struct $name<$life> { $($column: Vec<$type>,)* _life: std::marker::PhantomData<&$life ()> }

        impl<$life> $name<$life> {
            fn columns(&self) -> Vec<&(dyn ToSql + Sync)> {
                vec![$(&self.$column as &(dyn ToSql + Sync)),*]
            }
        }
    };
}

columns! {
    /// Resource rows; the last four only where they are inserted.
    Resources<'g> {
        n: i64,
        revision: i64,
        state: i64,
        owner: Option<&'g [u8]>,
        expires_at: Option<i64>,
        deleting: bool,
        labels: Option<&'g str>,
        body: Vec<u8>,
        kind: &'g str,
        namespace: &'g str,
        name: &'g str,
        uid: &'g [u8],
    }
}

columns! {
    Changes<'g> {
        revision: i64,
        previous: i64,
        kind: &'g str,
        namespace: &'g str,
        name: &'g str,
        uid: &'g [u8],
        n: i64,
        op: i64,
        body: Vec<u8>,
    }
}

columns! { Timers<'g> { due: i64, n: i64, id: i64, } }
columns! { Records<'g> { n: i64, seq: i64, body: Vec<u8>, } }
columns! { Outbox<'g> { id: i64, n: i64, next_at: i64, attempts: i64, body: Vec<u8>, } }
columns! { OutboxUpdates<'g> { id: i64, next_at: i64, attempts: i64, body: Option<Vec<u8>>, } }
columns! { Blobs<'g> { digest: &'g [u8], pinned: bool, body: Vec<u8>, } }
columns! { BlobRefs<'g> { n: i64, digest: &'g [u8], } }
columns! { Mailboxes<'g> { id: &'g [u8], expires: i64, answered: bool, body: Vec<u8>, } }
columns! { Meta<'g> { key: &'g str, value: Vec<u8>, } }

/// All columns of a group.
#[derive(Default)]
pub(super) struct Batch<'g> {
    timer_clear: Timers<'g>,
    timer_set: Timers<'g>,
    outbox_delete: Vec<i64>,
    outbox_insert: Outbox<'g>,
    outbox_update: OutboxUpdates<'g>,
    resource_delete: Vec<i64>,
    resource_update: Resources<'g>,
    resource_insert: Resources<'g>,
    doomed: Vec<i64>,
    changes: Changes<'g>,
    journal: Records<'g>,
    snapshots: Records<'g>,
    blobs: Blobs<'g>,
    blob_pin: Vec<&'g [u8]>,
    blob_refs: BlobRefs<'g>,
    mailbox_delete: Vec<&'g [u8]>,
    mailboxes: Mailboxes<'g>,
    meta_delete: Vec<&'g str>,
    meta: Meta<'g>,
}

impl<'g> Batch<'g> {
    pub(super) fn of(group: &'g Group<'g>) -> Self {
        let mut batch = Self { doomed: group.doomed.iter().copied().collect(), ..Self::default() };
        for (number, fold) in &group.resources {
            match fold {
                ResourceFold::Insert(put, revision) => batch.resource_insert.push(put, *revision),
                ResourceFold::Update(put, revision) => batch.resource_update.push(put, *revision),
                ResourceFold::Delete => batch.resource_delete.push(*number),
                ResourceFold::Nothing => {}
            }
        }
        batch.add_changes(group);
        for record in &group.journal {
            batch.journal.push(record.n, record.seq, sealed(journal_sum(record.n, record.seq), &record.body));
        }
        for snapshot in group.snapshots.values() {
            let (n, seq) = (snapshot.n, snapshot.seq);
            batch.snapshots.push(n, seq, sealed(snapshot_sum(n, seq), &snapshot.body));
        }
        for (timer, set) in &group.timers {
            let timers = if *set { &mut batch.timer_set } else { &mut batch.timer_clear };
            timers.due.push(timer.due_ms);
            timers.n.push(timer.n);
            timers.id.push(timer.id);
        }
        batch.add_outbox(&group.outbox);
        for (digest, fold) in &group.blobs {
            match fold {
                BlobFold::Insert { body, pinned } => {
                    batch.blobs.digest.push(digest);
                    batch.blobs.pinned.push(*pinned);
                    batch.blobs.body.push(sealed(blob_sum(digest), body));
                }
                BlobFold::Pin => batch.blob_pin.push(digest),
            }
        }
        for (n, digest) in &group.blob_refs {
            batch.blob_refs.n.push(*n);
            batch.blob_refs.digest.push(digest);
        }
        for (id, row) in &group.mailboxes {
            let Some(row) = row else {
                batch.mailbox_delete.push(id);
                continue;
            };
            batch.mailboxes.id.push(id);
            batch.mailboxes.expires.push(row.expires_ms);
            batch.mailboxes.answered.push(row.answered);
            batch.mailboxes.body.push(sealed(mailbox_sum(id, row.expires_ms, row.answered), &row.body));
        }
        for (key, value) in &group.meta {
            match value {
                Some(value) => {
                    batch.meta.key.push(key);
                    batch.meta.value.push(sealed(meta_sum(key), value));
                }
                None => batch.meta_delete.push(key),
            }
        }
        batch
    }

    fn add_changes(&mut self, group: &'g Group<'g>) {
        let columns = &mut self.changes;
        for change in &group.changes {
            let sum = change_sum(change.revision, change.previous, change.key, change.uid, change.number, change.kind);
            columns.revision.push(change.revision.cast_signed());
            columns.previous.push(change.previous.cast_signed());
            columns.kind.push(&change.key.kind);
            columns.namespace.push(&change.key.namespace);
            columns.name.push(&change.key.name);
            columns.uid.push(change.uid);
            columns.n.push(change.number);
            columns.op.push(change_code(change.kind));
            columns.body.push(sealed(sum, change.body));
        }
    }

    fn add_outbox(&mut self, outbox: &BTreeMap<i64, OutboxFold<'g>>) {
        for (id, fold) in outbox {
            if matches!(fold, OutboxFold::Delete | OutboxFold::Replace(_)) {
                self.outbox_delete.push(*id);
            }
            match fold {
                OutboxFold::Insert(state) | OutboxFold::Replace(state) => {
                    let columns = &mut self.outbox_insert;
                    columns.id.push(*id);
                    columns.n.push(state.n);
                    columns.next_at.push(state.next_at_ms);
                    columns.attempts.push(i64::from(state.attempts));
                    columns.body.push(sealed(outbox_sum(*id, state.n), state.body));
                }
                OutboxFold::Update { n, next_at_ms, attempts, body } => {
                    let columns = &mut self.outbox_update;
                    columns.id.push(*id);
                    columns.next_at.push(*next_at_ms);
                    columns.attempts.push(i64::from(*attempts));
                    columns.body.push(body.map(|body| sealed(outbox_sum(*id, *n), body)));
                }
                OutboxFold::Delete => {}
            }
        }
    }

    /// The statements that are needed. Deletes come first, so that a name or an id is free when it is taken again.
    pub(super) fn statements<'s, 'b>(&'b self, s: &'s Statements) -> Vec<Bulk<'s, 'b>> {
        let exactly = |statement, columns: Vec<&'b (dyn ToSql + Sync)>, rows: usize| {
            (rows, Bulk { statement, columns, rows: Some(rows) })
        };
        let about = |statement, columns: Vec<&'b (dyn ToSql + Sync)>, rows: usize| {
            (rows, Bulk { statement, columns, rows: None })
        };
        let update_columns = |mut columns: Vec<&'b (dyn ToSql + Sync)>| {
            columns.truncate(8);
            columns
        };
        let all = [
            about(&s.timer_clear, self.timer_clear.columns(), self.timer_clear.n.len()),
            about(&s.outbox_delete, vec![&self.outbox_delete], self.outbox_delete.len()),
            exactly(&s.resource_delete, vec![&self.resource_delete], self.resource_delete.len()),
            exactly(&s.resource_update, update_columns(self.resource_update.columns()), self.resource_update.n.len()),
            exactly(&s.resource_insert, self.resource_insert.columns(), self.resource_insert.n.len()),
            about(&s.doomed_put, vec![&self.doomed], self.doomed.len()),
            exactly(&s.change_insert, self.changes.columns(), self.changes.n.len()),
            exactly(&s.journal_insert, self.journal.columns(), self.journal.n.len()),
            exactly(&s.snapshot_put, self.snapshots.columns(), self.snapshots.n.len()),
            about(&s.timer_set, self.timer_set.columns(), self.timer_set.n.len()),
            exactly(&s.outbox_insert, self.outbox_insert.columns(), self.outbox_insert.id.len()),
            about(&s.outbox_update, self.outbox_update.columns(), self.outbox_update.id.len()),
            exactly(&s.blob_insert, self.blobs.columns(), self.blobs.digest.len()),
            exactly(&s.blob_pin, vec![&self.blob_pin], self.blob_pin.len()),
            about(&s.blob_ref_put, self.blob_refs.columns(), self.blob_refs.n.len()),
            about(&s.mailbox_delete, vec![&self.mailbox_delete], self.mailbox_delete.len()),
            exactly(&s.mailbox_put, self.mailboxes.columns(), self.mailboxes.id.len()),
            about(&s.meta_delete, vec![&self.meta_delete], self.meta_delete.len()),
            exactly(&s.meta_put, self.meta.columns(), self.meta.key.len()),
        ];
        all.into_iter().filter(|(rows, _)| *rows > 0).map(|(_, bulk)| bulk).collect()
    }
}

impl<'g> Resources<'g> {
    fn push(&mut self, put: &'g ResourcePut, revision: u64) {
        self.n.push(put.number);
        self.revision.push(revision.cast_signed());
        self.state.push(state_code(put.state));
        self.owner.push(put.owner.as_ref().map(<[u8; 16]>::as_slice));
        self.expires_at.push(put.expires_at_ms);
        self.deleting.push(put.deleting);
        self.labels.push(put.labels.as_deref());
        self.body.push(sealed(resource_sum(put, revision), &put.body));
        self.kind.push(&put.key.kind);
        self.namespace.push(&put.key.namespace);
        self.name.push(&put.key.name);
        self.uid.push(&put.uid);
    }
}

impl Records<'_> {
    fn push(&mut self, n: i64, seq: i64, body: Vec<u8>) {
        self.n.push(n);
        self.seq.push(seq);
        self.body.push(body);
    }
}
