//! One transaction's guards and mutations, as statements.
//!
//! Guards and expectations are all looked at before the first mutation, so that a refused transaction has touched nothing
//! and needs no savepoint. Mutations after that fail only on data that no caller should send (a journal position twice) or
//! on the disk.

use super::check::{Indexed, Stop};
use super::rows::{
    blob_sum, change_code, change_sum, is_pinned, journal_sum, mailbox_sum, meta_sum, outbox_sum, resource_sum,
    snapshot_sum,
};
use super::writer::SqliteWriter;
use crate::model::{
    BlobPut, ChangeKind, Committed, Expect, JournalAppend, Number, OutboxUpdate, ResourceDelete, ResourceKey,
    ResourcePut, Txn, Uid,
};
use crate::value::seal;

impl SqliteWriter<'_> {
    /// Checks, then writes, one transaction.
    pub(super) fn apply_one(&mut self, txn: &Txn) -> Result<Committed, Stop> {
        self.check(txn)?;
        self.write(txn)
    }

    fn write(&mut self, txn: &Txn) -> Result<Committed, Stop> {
        for timer in &txn.timers_clear {
            self.s.timer_clear.execute((timer.due_ms, timer.n, timer.id))?;
        }
        for id in &txn.outbox_delete {
            self.s.outbox_delete.execute([id])?;
        }
        let mut revisions = Vec::with_capacity(txn.puts.len() + txn.deletes.len());
        for (index, put) in txn.puts.iter().enumerate() {
            let replaced = self.replaced.get(index).copied().flatten();
            revisions.push(self.put_resource(put, replaced)?);
        }
        for delete in &txn.deletes {
            revisions.push(self.delete_resource(delete)?);
        }
        for record in &txn.journal {
            self.append(record)?;
        }
        if let Some(snapshot) = &txn.snapshot {
            seal(&mut self.scratch, snapshot_sum(snapshot.n, snapshot.seq), &snapshot.body);
            self.s.snapshot_put.execute((snapshot.n, snapshot.seq, &self.scratch))?;
        }
        for timer in &txn.timers_set {
            self.s.timer_set.execute((timer.due_ms, timer.n, timer.id))?;
        }
        self.write_outbox(txn)?;
        for blob in &txn.blobs {
            self.put_blob(blob)?;
        }
        self.write_mailboxes(txn)?;
        for (key, value) in &txn.meta {
            match value {
                Some(value) => {
                    seal(&mut self.scratch, meta_sum(key), value);
                    self.s.meta_put.execute((key, &self.scratch))?;
                }
                None => {
                    self.s.meta_delete.execute([key])?;
                }
            }
        }
        Ok(Committed { revisions })
    }

    fn put_resource(&mut self, put: &ResourcePut, replaced: Option<Indexed>) -> Result<u64, Stop> {
        self.pending.revision += 1;
        let revision = self.pending.revision;
        let signed = revision.cast_signed();
        seal(&mut self.scratch, resource_sum(put, revision), &put.body);
        let indexed = Indexed::of(put);
        let kind = match (replaced, put.expect) {
            (None, _) => {
                self.pending.number = self.pending.number.max(put.number);
                self.s.resource_insert.execute(rusqlite::params![
                    put.number,
                    put.key.kind,
                    put.key.namespace,
                    put.key.name,
                    put.uid,
                    signed,
                    indexed.state,
                    put.owner,
                    put.expires_at_ms,
                    put.deleting,
                    put.labels,
                    self.scratch
                ])?;
                ChangeKind::Added
            }
            (Some(old), _) if old == indexed => {
                self.s.resource_update.execute((signed, &put.labels, &self.scratch, put.number))?;
                ChangeKind::Modified
            }
            (Some(_), _) => {
                self.s.resource_update_indexed.execute(rusqlite::params![
                    signed,
                    put.labels,
                    self.scratch,
                    indexed.state,
                    put.owner,
                    put.expires_at_ms,
                    put.deleting,
                    put.number
                ])?;
                ChangeKind::Modified
            }
        };
        let previous = match put.expect {
            Expect::Absent => 0,
            Expect::Revision(previous) => previous,
        };
        self.record_change(revision, previous, &put.key, &put.uid, put.number, kind, &put.body)?;
        Ok(revision)
    }

    fn delete_resource(&mut self, delete: &ResourceDelete) -> Result<u64, Stop> {
        self.pending.revision += 1;
        let revision = self.pending.revision;
        self.s.resource_delete.execute([delete.number])?;
        self.s.doomed_put.execute([delete.number])?;
        let ResourceDelete { key, uid, number, revision: previous, body } = delete;
        self.record_change(revision, *previous, key, uid, *number, ChangeKind::Deleted, body)?;
        Ok(revision)
    }

    #[expect(clippy::too_many_arguments, reason = "one argument a column, in the order of the columns")]
    fn record_change(
        &mut self,
        revision: u64,
        previous: u64,
        key: &ResourceKey,
        uid: &Uid,
        number: Number,
        kind: ChangeKind,
        body: &[u8],
    ) -> Result<(), Stop> {
        seal(&mut self.scratch, change_sum(revision, previous, key, uid, number, kind), body);
        self.s.change_insert.execute(rusqlite::params![
            revision.cast_signed(),
            previous.cast_signed(),
            key.kind,
            key.namespace,
            key.name,
            uid,
            number,
            change_code(kind),
            self.scratch
        ])?;
        Ok(())
    }

    fn append(&mut self, record: &JournalAppend) -> Result<(), Stop> {
        self.journal_rid += 1;
        seal(&mut self.scratch, journal_sum(record.n, record.seq), &record.body);
        self.s.journal_insert.execute((self.journal_rid, record.n, record.seq, &self.scratch))?;
        Ok(())
    }

    fn write_outbox(&mut self, txn: &Txn) -> Result<(), Stop> {
        for row in &txn.outbox_put {
            self.pending.outbox = self.pending.outbox.max(row.id);
            seal(&mut self.scratch, outbox_sum(row.id, row.n), &row.body);
            self.s.outbox_insert.execute((row.id, row.n, row.next_at_ms, row.attempts, &self.scratch))?;
        }
        for OutboxUpdate { id, n, next_at_ms, attempts, body } in &txn.outbox_update {
            match body {
                None => self.s.outbox_update.execute((next_at_ms, attempts, id))?,
                Some(body) => {
                    seal(&mut self.scratch, outbox_sum(*id, *n), body);
                    self.s.outbox_update_body.execute((next_at_ms, attempts, &self.scratch, id))?
                }
            };
        }
        Ok(())
    }

    /// Same digest, same body: a blob that is there is not written again.
    fn put_blob(&mut self, blob: &BlobPut) -> Result<(), Stop> {
        if let Some(body) = &blob.body {
            if !self.s.blob_exists.exists([&blob.digest])? {
                seal(&mut self.scratch, blob_sum(&blob.digest), body);
                self.s.blob_insert.execute((&blob.digest, is_pinned(blob), &self.scratch))?;
            } else if is_pinned(blob) {
                self.s.blob_pin.execute([&blob.digest])?;
            }
        } else if is_pinned(blob) {
            self.s.blob_pin.execute([&blob.digest])?;
        }
        if let Some(n) = blob.n {
            self.s.blob_ref_put.execute((n, &blob.digest))?;
        }
        Ok(())
    }

    fn write_mailboxes(&mut self, txn: &Txn) -> Result<(), Stop> {
        for id in &txn.mailbox_delete {
            self.s.mailbox_delete.execute([id])?;
        }
        for row in &txn.mailbox_put {
            seal(&mut self.scratch, mailbox_sum(&row.id, row.expires_ms, row.answered), &row.body);
            self.s.mailbox_put.execute((&row.id, row.expires_ms, row.answered, &self.scratch))?;
        }
        Ok(())
    }
}
