//! One transaction's guards and mutations, as statements.
//!
//! Guards and expectations are all looked at before the first mutation, so that a refused transaction has touched nothing
//! and needs no savepoint. Mutations after that fail only on data that no caller should send (a journal position twice) or
//! on the disk.

use rusqlite::OptionalExtension;

use super::rows::{
    blob_sum, change_code, change_sum, is_pinned, journal_sum, mailbox_sum, meta_sum, outbox_sum,
    resource_sum, snapshot_sum, state_code,
};
use super::writer::SqliteWriter;
use crate::error::CommitError;
use crate::model::{
    BlobPut, ChangeKind, Committed, Expect, Guard, JournalAppend, Number, OutboxUpdate,
    ResourceDelete, ResourceKey, ResourcePut, Txn, Uid,
};
use crate::value::{hex, seal};

/// What a replaced row was, as far as its indexes care.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Indexed {
    state: i64,
    owner: Option<Uid>,
    expires_at: Option<i64>,
    deleting: bool,
}

impl Indexed {
    fn of(put: &ResourcePut) -> Self {
        Self {
            state: state_code(put.state),
            owner: put.owner,
            expires_at: put.expires_at_ms,
            deleting: put.deleting,
        }
    }
}

/// A refusal, or a database error.
pub(super) enum Stop {
    Refused(CommitError),
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

fn conflict(what: String, expected: u64, found: u64) -> Stop {
    Stop::Refused(CommitError::Conflict {
        what,
        expected,
        found,
    })
}

fn not_found(what: impl Into<String>) -> Stop {
    Stop::Refused(CommitError::NotFound { what: what.into() })
}

/// Expectations are all checked before any write, so a resource may appear only once in a transaction.
fn check_once_each(txn: &Txn) -> Result<(), Stop> {
    if txn.puts.len() + txn.deletes.len() < 2 {
        return Ok(());
    }
    let mut numbers: Vec<Number> = txn
        .puts
        .iter()
        .map(|put| put.number)
        .chain(txn.deletes.iter().map(|delete| delete.number))
        .collect();
    numbers.sort_unstable();
    match numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Stop::Refused(CommitError::Rejected {
            detail: format!("resource {} appears twice", pair[0]),
        })),
        None => Ok(()),
    }
}

impl SqliteWriter<'_> {
    /// Checks, then writes, one transaction.
    pub(super) fn apply_one(&mut self, txn: &Txn) -> Result<Committed, Stop> {
        check_once_each(txn)?;
        for guard in &txn.guards {
            self.check_guard(guard)?;
        }
        self.replaced.clear();
        for put in &txn.puts {
            let replaced = self.check_put(put)?;
            self.replaced.push(replaced);
        }
        for delete in &txn.deletes {
            self.check_row(&delete.key, &delete.uid, delete.number, delete.revision)?;
        }
        for blob in txn.blobs.iter().filter(|blob| blob.body.is_none()) {
            if !self.s.blob_exists.exists([&blob.digest])? {
                return Err(not_found(format!("blob {}", hex(&blob.digest))));
            }
        }
        self.write(txn)
    }

    fn check_guard(&mut self, guard: &Guard) -> Result<(), Stop> {
        match guard {
            Guard::ResourceAt { number, revision } => {
                let found = self.revision_of(*number)?;
                if found != *revision {
                    return Err(conflict(format!("resource {number}"), *revision, found));
                }
            }
            Guard::ResourceExists(number) => {
                self.revision_of(*number)?;
            }
            Guard::ResourceAbsent(key) => self.check_absent(key)?,
            Guard::JournalNext { n, seq } => {
                let last: Option<i64> = self
                    .s
                    .journal_last
                    .query_row([n], |row| row.get(0))
                    .optional()?;
                if let Some(next) = last.map(|last| last.saturating_add(1))
                    && next != *seq
                {
                    let what = format!("the journal of execution {n}");
                    return Err(conflict(what, seq.cast_unsigned(), next.cast_unsigned()));
                }
            }
            Guard::TimerExists(timer) => {
                if !self
                    .s
                    .timer_exists
                    .exists((timer.due_ms, timer.n, timer.id))?
                {
                    return Err(not_found(format!(
                        "timer {} of execution {}",
                        timer.id, timer.n
                    )));
                }
            }
            Guard::MailboxUnanswered(id) => {
                let answered: Option<i64> = self
                    .s
                    .mailbox_answered
                    .query_row([id], |row| row.get(0))
                    .optional()?;
                match answered {
                    None => return Err(not_found(format!("mailbox {}", hex(id)))),
                    Some(0) => {}
                    Some(_) => {
                        return Err(conflict(format!("mailbox {} (1: answered)", hex(id)), 0, 1));
                    }
                }
            }
            Guard::OutboxExists(id) => {
                if !self.s.outbox_exists.exists([id])? {
                    return Err(not_found(format!("outbox row {id}")));
                }
            }
        }
        Ok(())
    }

    fn revision_of(&mut self, number: Number) -> Result<u64, Stop> {
        let found: Option<i64> = self
            .s
            .resource_revision
            .query_row([number], |row| row.get(0))
            .optional()?;
        found
            .map(i64::cast_unsigned)
            .ok_or_else(|| not_found(format!("resource {number}")))
    }

    fn check_absent(&mut self, key: &ResourceKey) -> Result<(), Stop> {
        let found: Option<(Number, i64)> = self
            .s
            .resource_by_name
            .query_row((&key.kind, &key.namespace, &key.name), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        match found {
            None => Ok(()),
            Some((number, revision)) => Err(Stop::Refused(CommitError::Exists {
                key: key.to_string(),
                number,
                revision: revision.cast_unsigned(),
            })),
        }
    }

    /// `None` for a creation, else the row that will be replaced.
    fn check_put(&mut self, put: &ResourcePut) -> Result<Option<Indexed>, Stop> {
        match put.expect {
            Expect::Absent => self.check_absent(&put.key).map(|()| None),
            Expect::Revision(revision) => self
                .check_row(&put.key, &put.uid, put.number, revision)
                .map(Some),
        }
    }

    /// The living row must have this number, key, uid and revision.
    fn check_row(
        &mut self,
        key: &ResourceKey,
        uid: &Uid,
        number: Number,
        revision: u64,
    ) -> Result<Indexed, Stop> {
        let mut rows = self.s.resource_by_number.query([number])?;
        let Some(row) = rows.next()? else {
            return Err(not_found(key.to_string()));
        };
        let found: i64 = row.get(0)?;
        let found_uid: Uid = row.get(1)?;
        let same_key = row.get_ref(6)?.as_bytes().ok() == Some(key.kind.as_bytes())
            && row.get_ref(7)?.as_bytes().ok() == Some(key.namespace.as_bytes())
            && row.get_ref(8)?.as_bytes().ok() == Some(key.name.as_bytes());
        if !same_key || found_uid != *uid {
            return Err(not_found(format!(
                "{key} with number {number} and uid {}",
                hex(uid)
            )));
        }
        if found.cast_unsigned() != revision {
            return Err(conflict(key.to_string(), revision, found.cast_unsigned()));
        }
        Ok(Indexed {
            state: row.get(2)?,
            owner: row.get(3)?,
            expires_at: row.get(4)?,
            deleting: row.get::<_, i64>(5)? != 0,
        })
    }

    fn write(&mut self, txn: &Txn) -> Result<Committed, Stop> {
        for timer in &txn.timers_clear {
            self.s
                .timer_clear
                .execute((timer.due_ms, timer.n, timer.id))?;
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
            seal(
                &mut self.scratch,
                snapshot_sum(snapshot.n, snapshot.seq),
                &snapshot.body,
            );
            self.s
                .snapshot_put
                .execute((snapshot.n, snapshot.seq, &self.scratch))?;
        }
        for timer in &txn.timers_set {
            self.s
                .timer_set
                .execute((timer.due_ms, timer.n, timer.id))?;
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
                self.s
                    .resource_update
                    .execute((signed, &put.labels, &self.scratch, put.number))?;
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
        self.record_change(
            revision, previous, &put.key, &put.uid, put.number, kind, &put.body,
        )?;
        Ok(revision)
    }

    fn delete_resource(&mut self, delete: &ResourceDelete) -> Result<u64, Stop> {
        self.pending.revision += 1;
        let revision = self.pending.revision;
        self.s.resource_delete.execute([delete.number])?;
        self.s.doomed_put.execute([delete.number])?;
        let ResourceDelete {
            key,
            uid,
            number,
            revision: previous,
            body,
        } = delete;
        self.record_change(
            revision,
            *previous,
            key,
            uid,
            *number,
            ChangeKind::Deleted,
            body,
        )?;
        Ok(revision)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one argument a column, in the order of the columns"
    )]
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
        seal(
            &mut self.scratch,
            change_sum(revision, previous, key, uid, number, kind),
            body,
        );
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
        seal(
            &mut self.scratch,
            journal_sum(record.n, record.seq),
            &record.body,
        );
        self.s
            .journal_insert
            .execute((self.journal_rid, record.n, record.seq, &self.scratch))?;
        Ok(())
    }

    fn write_outbox(&mut self, txn: &Txn) -> Result<(), Stop> {
        for row in &txn.outbox_put {
            self.pending.outbox = self.pending.outbox.max(row.id);
            seal(&mut self.scratch, outbox_sum(row.id, row.n), &row.body);
            self.s.outbox_insert.execute((
                row.id,
                row.n,
                row.next_at_ms,
                row.attempts,
                &self.scratch,
            ))?;
        }
        for OutboxUpdate {
            id,
            n,
            next_at_ms,
            attempts,
            body,
        } in &txn.outbox_update
        {
            match body {
                None => self.s.outbox_update.execute((next_at_ms, attempts, id))?,
                Some(body) => {
                    seal(&mut self.scratch, outbox_sum(*id, *n), body);
                    self.s
                        .outbox_update_body
                        .execute((next_at_ms, attempts, &self.scratch, id))?
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
                self.s
                    .blob_insert
                    .execute((&blob.digest, is_pinned(blob), &self.scratch))?;
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
            seal(
                &mut self.scratch,
                mailbox_sum(&row.id, row.expires_ms, row.answered),
                &row.body,
            );
            self.s
                .mailbox_put
                .execute((&row.id, row.expires_ms, row.answered, &self.scratch))?;
        }
        Ok(())
    }
}
