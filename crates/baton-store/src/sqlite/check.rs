//! What a transaction expects, checked before it writes anything.

use rusqlite::OptionalExtension;

use super::rows::state_code;
use super::writer::SqliteWriter;
use crate::error::CommitError;
use crate::model::{Expect, Guard, Number, ResourceKey, ResourcePut, Txn, Uid};
use crate::refusals::{check_once_each, conflict, exists, not_found};
use crate::value::hex;

/// What a replaced row was, as far as its indexes care.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Indexed {
    pub(super) state: i64,
    pub(super) owner: Option<Uid>,
    pub(super) expires_at: Option<i64>,
    pub(super) deleting: bool,
}

impl Indexed {
    pub(super) fn of(put: &ResourcePut) -> Self {
        Self { state: state_code(put.state), owner: put.owner, expires_at: put.expires_at_ms, deleting: put.deleting }
    }
}

/// A refusal, or a database error.
pub(super) enum Stop {
    Refused(CommitError),
    Database(rusqlite::Error),
}

impl From<CommitError> for Stop {
    fn from(refusal: CommitError) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl SqliteWriter<'_> {
    /// Looks at every guard and expectation of a transaction, and notes what its puts will replace.
    pub(super) fn check(&mut self, txn: &Txn) -> Result<(), Stop> {
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
                return Err(not_found(format!("blob {}", hex(&blob.digest))).into());
            }
        }
        Ok(())
    }

    fn check_guard(&mut self, guard: &Guard) -> Result<(), Stop> {
        match guard {
            Guard::ResourceAt { number, revision } => {
                let found = self.revision_of(*number)?;
                if found != *revision {
                    return Err(conflict(format!("resource {number}"), *revision, found).into());
                }
            }
            Guard::ResourceExists(number) => {
                self.revision_of(*number)?;
            }
            Guard::ResourceAbsent(key) => self.check_absent(key)?,
            Guard::JournalNext { n, seq } => {
                let last: Option<i64> = self.s.journal_last.query_row([n], |row| row.get(0)).optional()?;
                if let Some(next) = last.map(|last| last.saturating_add(1))
                    && next != *seq
                {
                    let what = format!("the journal of execution {n}");
                    return Err(conflict(what, seq.cast_unsigned(), next.cast_unsigned()).into());
                }
            }
            Guard::TimerExists(timer) => {
                if !self.s.timer_exists.exists((timer.due_ms, timer.n, timer.id))? {
                    return Err(not_found(format!("timer {} of execution {}", timer.id, timer.n)).into());
                }
            }
            Guard::MailboxUnanswered(id) => {
                let answered: Option<i64> = self.s.mailbox_answered.query_row([id], |row| row.get(0)).optional()?;
                match answered {
                    None => return Err(not_found(format!("mailbox {}", hex(id))).into()),
                    Some(0) => {}
                    Some(_) => {
                        return Err(conflict(format!("mailbox {} (1: answered)", hex(id)), 0, 1).into());
                    }
                }
            }
            Guard::OutboxExists(id) => {
                if !self.s.outbox_exists.exists([id])? {
                    return Err(not_found(format!("outbox row {id}")).into());
                }
            }
        }
        Ok(())
    }

    fn revision_of(&mut self, number: Number) -> Result<u64, Stop> {
        let found: Option<i64> = self.s.resource_revision.query_row([number], |row| row.get(0)).optional()?;
        found.map(i64::cast_unsigned).ok_or_else(|| not_found(format!("resource {number}")).into())
    }

    fn check_absent(&mut self, key: &ResourceKey) -> Result<(), Stop> {
        let found: Option<(Number, i64)> = self
            .s
            .resource_by_name
            .query_row((&key.kind, &key.namespace, &key.name), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            None => Ok(()),
            Some((number, revision)) => Err(exists(key, number, revision.cast_unsigned()).into()),
        }
    }

    /// `None` for a creation, else the row that will be replaced.
    fn check_put(&mut self, put: &ResourcePut) -> Result<Option<Indexed>, Stop> {
        match put.expect {
            Expect::Absent => self.check_absent(&put.key).map(|()| None),
            Expect::Revision(revision) => self.check_row(&put.key, &put.uid, put.number, revision).map(Some),
        }
    }

    /// The living row must have this number, key, uid and revision.
    fn check_row(&mut self, key: &ResourceKey, uid: &Uid, number: Number, revision: u64) -> Result<Indexed, Stop> {
        let mut rows = self.s.resource_by_number.query([number])?;
        let Some(row) = rows.next()? else {
            return Err(not_found(key.to_string()).into());
        };
        let found: i64 = row.get(0)?;
        let found_uid: Uid = row.get(1)?;
        let same_key = row.get_ref(6)?.as_bytes().ok() == Some(key.kind.as_bytes())
            && row.get_ref(7)?.as_bytes().ok() == Some(key.namespace.as_bytes())
            && row.get_ref(8)?.as_bytes().ok() == Some(key.name.as_bytes());
        if !same_key || found_uid != *uid {
            return Err(not_found(format!("{key} with number {number} and uid {}", hex(uid))).into());
        }
        if found.cast_unsigned() != revision {
            return Err(conflict(key.to_string(), revision, found.cast_unsigned()).into());
        }
        Ok(Indexed {
            state: row.get(2)?,
            owner: row.get(3)?,
            expires_at: row.get(4)?,
            deleting: row.get::<_, i64>(5)? != 0,
        })
    }
}
