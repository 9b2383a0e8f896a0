//! Deciding over a group and folding what is accepted into the rows that it leaves behind.
//!
//! Nothing here talks to the database: [`Facts`] say what was there, the batch of rows goes out afterwards. Rows that a
//! group touches more than once are written once, in their last state, so that each kind needs one statement.
//!
//! # Invariants
//! - A transaction is looked at whole before anything of it is folded in: a refused one leaves no trace.
//! - Facts and folded rows agree at all times, so a later transaction sees earlier ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;

use super::facts::{Facts, Living};
use crate::error::CommitError;
use crate::model::{
    BlobPut, ChangeKind, Committed, Digest, Expect, Guard, JournalAppend, MailboxRow, Number, ResourceKey, ResourcePut,
    SnapshotPut, TimerRow, Txn, Uid,
};
use crate::refusals::{check_once_each, conflict, exists, not_found};
use crate::sums::is_pinned;
use crate::value::hex;

/// What becomes of one resource row.
#[derive(Clone, Copy, Debug)]
pub(super) enum ResourceFold<'g> {
    Insert(&'g ResourcePut, u64),
    Update(&'g ResourcePut, u64),
    Delete,
    /// Created and deleted within the group.
    Nothing,
}

/// What becomes of one outbox row.
#[derive(Clone, Copy, Debug)]
pub(super) enum OutboxFold<'g> {
    Insert(OutboxState<'g>),
    /// Deleted, then put again with the same id.
    Replace(OutboxState<'g>),
    Update {
        n: Number,
        next_at_ms: i64,
        attempts: u32,
        body: Option<&'g Bytes>,
    },
    Delete,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxState<'g> {
    pub(super) n: Number,
    pub(super) next_at_ms: i64,
    pub(super) attempts: u32,
    pub(super) body: &'g Bytes,
}

/// What becomes of one blob.
#[derive(Clone, Copy, Debug)]
pub(super) enum BlobFold<'g> {
    Insert { body: &'g Bytes, pinned: bool },
    Pin,
}

/// One change, in the order of revisions.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeFold<'g> {
    pub(super) revision: u64,
    pub(super) previous: u64,
    pub(super) key: &'g ResourceKey,
    pub(super) uid: &'g Uid,
    pub(super) number: Number,
    pub(super) kind: ChangeKind,
    pub(super) body: &'g Bytes,
}

/// A group in the making.
#[derive(Debug, Default)]
pub(super) struct Group<'g> {
    pub(super) facts: Facts,
    /// Last revision handed out.
    pub(super) revision: u64,
    pub(super) resources: BTreeMap<Number, ResourceFold<'g>>,
    pub(super) doomed: BTreeSet<Number>,
    pub(super) changes: Vec<ChangeFold<'g>>,
    pub(super) journal: Vec<&'g JournalAppend>,
    pub(super) snapshots: BTreeMap<Number, &'g SnapshotPut>,
    /// Whether each is set in the end.
    pub(super) timers: BTreeMap<TimerRow, bool>,
    pub(super) outbox: BTreeMap<i64, OutboxFold<'g>>,
    pub(super) blobs: BTreeMap<Digest, BlobFold<'g>>,
    pub(super) blob_refs: BTreeSet<(Number, Digest)>,
    pub(super) mailboxes: BTreeMap<[u8; 16], Option<&'g MailboxRow>>,
    pub(super) meta: BTreeMap<&'g str, Option<&'g [u8]>>,
}

/// Two new resources of one transaction are not compared with the facts, which are of before it.
fn check_new_twice(txn: &Txn) -> Result<(), CommitError> {
    let new = || txn.puts.iter().filter(|put| put.expect == Expect::Absent);
    let (mut keys, mut uids) = (HashSet::new(), HashSet::new());
    match new().find(|put| !keys.insert(&put.key) || !uids.insert(put.uid)) {
        Some(put) => Err(CommitError::Rejected { detail: format!("{} or its uid appears twice", put.key) }),
        None => Ok(()),
    }
}

impl<'g> Group<'g> {
    pub(super) fn new(facts: Facts, revision: u64) -> Self {
        Self { facts, revision, ..Self::default() }
    }

    /// Checks a transaction, and takes it in if nothing speaks against it.
    pub(super) fn admit(&mut self, txn: &'g Txn) -> Result<Committed, CommitError> {
        self.check(txn)?;
        Ok(self.fold(txn))
    }

    fn check(&self, txn: &Txn) -> Result<(), CommitError> {
        check_once_each(txn)?;
        check_new_twice(txn)?;
        for guard in &txn.guards {
            self.check_guard(guard)?;
        }
        for put in &txn.puts {
            match put.expect {
                Expect::Absent => self.check_new(put)?,
                Expect::Revision(revision) => self.check_row(&put.key, &put.uid, put.number, revision)?,
            }
        }
        for delete in &txn.deletes {
            self.check_row(&delete.key, &delete.uid, delete.number, delete.revision)?;
        }
        for blob in txn.blobs.iter().filter(|blob| blob.body.is_none()) {
            if !self.facts.blobs.contains(&blob.digest) {
                return Err(not_found(format!("blob {}", hex(&blob.digest))));
            }
        }
        self.check_outbox_ids(txn)
    }

    /// What the database would refuse by its keys, but only if the row were still there at the end of the group.
    fn check_outbox_ids(&self, txn: &Txn) -> Result<(), CommitError> {
        let mut own = BTreeSet::new();
        for row in &txn.outbox_put {
            let taken = self.facts.outbox.contains(&row.id) && !txn.outbox_delete.contains(&row.id);
            if taken || !own.insert(row.id) {
                return Err(CommitError::Rejected { detail: format!("outbox row {} exists", row.id) });
            }
        }
        Ok(())
    }

    /// Here and not by the database's keys, for the same reason.
    fn check_new(&self, put: &ResourcePut) -> Result<(), CommitError> {
        self.check_absent(&put.key)?;
        let taken = if self.facts.resources.contains_key(&put.number) {
            format!("number {}", put.number)
        } else if self.facts.uids.contains(&put.uid) {
            format!("uid {}", hex(&put.uid))
        } else {
            return Ok(());
        };
        Err(CommitError::Rejected { detail: format!("{taken} is another resource's") })
    }

    fn check_guard(&self, guard: &Guard) -> Result<(), CommitError> {
        match guard {
            Guard::ResourceAt { number, revision } => {
                let found = self.living(*number)?.revision;
                if found != *revision {
                    return Err(conflict(format!("resource {number}"), *revision, found));
                }
            }
            Guard::ResourceExists(number) => {
                self.living(*number)?;
            }
            Guard::ResourceAbsent(key) => self.check_absent(key)?,
            Guard::JournalNext { n, seq } => {
                if let Some(next) = self.facts.journal_last.get(n).map(|last| last.saturating_add(1))
                    && next != *seq
                {
                    let what = format!("the journal of execution {n}");
                    return Err(conflict(what, seq.cast_unsigned(), next.cast_unsigned()));
                }
            }
            Guard::TimerExists(timer) => {
                if !self.facts.timers.contains(timer) {
                    return Err(not_found(format!("timer {} of execution {}", timer.id, timer.n)));
                }
            }
            Guard::MailboxUnanswered(id) => match self.facts.mailboxes.get(id) {
                None => return Err(not_found(format!("mailbox {}", hex(id)))),
                Some(false) => {}
                Some(true) => return Err(conflict(format!("mailbox {} (1: answered)", hex(id)), 0, 1)),
            },
            Guard::OutboxExists(id) => {
                if !self.facts.outbox.contains(id) {
                    return Err(not_found(format!("outbox row {id}")));
                }
            }
        }
        Ok(())
    }

    fn living(&self, number: Number) -> Result<&Living, CommitError> {
        self.facts.resources.get(&number).ok_or_else(|| not_found(format!("resource {number}")))
    }

    fn check_absent(&self, key: &ResourceKey) -> Result<(), CommitError> {
        let found = self.facts.names.get(key).and_then(|number| Some((*number, self.facts.resources.get(number)?)));
        match found {
            None => Ok(()),
            Some((number, living)) => Err(exists(key, number, living.revision)),
        }
    }

    /// The living row must have this number, key, uid and revision.
    fn check_row(&self, key: &ResourceKey, uid: &Uid, number: Number, revision: u64) -> Result<(), CommitError> {
        let found = self.facts.resources.get(&number).ok_or_else(|| not_found(key.to_string()))?;
        if found.key != *key || found.uid != *uid {
            return Err(not_found(format!("{key} with number {number} and uid {}", hex(uid))));
        }
        if found.revision != revision {
            return Err(conflict(key.to_string(), revision, found.revision));
        }
        Ok(())
    }

    fn fold(&mut self, txn: &'g Txn) -> Committed {
        for timer in &txn.timers_clear {
            self.timers.insert(*timer, false);
            self.facts.timers.remove(timer);
        }
        for id in &txn.outbox_delete {
            self.outbox.insert(*id, OutboxFold::Delete);
            self.facts.outbox.remove(id);
        }
        let mut revisions = Vec::with_capacity(txn.puts.len() + txn.deletes.len());
        for put in &txn.puts {
            revisions.push(self.fold_put(put));
        }
        for delete in &txn.deletes {
            let revision = self.next_revision();
            let fold = match self.resources.get(&delete.number) {
                Some(ResourceFold::Insert(..)) => ResourceFold::Nothing,
                _ => ResourceFold::Delete,
            };
            self.resources.insert(delete.number, fold);
            self.doomed.insert(delete.number);
            self.facts.resources.remove(&delete.number);
            self.facts.names.remove(&delete.key);
            self.facts.uids.remove(&delete.uid);
            let (key, uid, number, previous) = (&delete.key, &delete.uid, delete.number, delete.revision);
            let (kind, body) = (ChangeKind::Deleted, &delete.body);
            self.changes.push(ChangeFold { revision, previous, key, uid, number, kind, body });
            revisions.push(revision);
        }
        for record in &txn.journal {
            self.journal.push(record);
            let last = self.facts.journal_last.entry(record.n).or_insert(record.seq);
            *last = record.seq.max(*last);
        }
        if let Some(snapshot) = &txn.snapshot {
            self.snapshots.insert(snapshot.n, snapshot);
        }
        for timer in &txn.timers_set {
            self.timers.insert(*timer, true);
            self.facts.timers.insert(*timer);
        }
        self.fold_outbox(txn);
        for blob in &txn.blobs {
            self.fold_blob(blob);
        }
        for id in &txn.mailbox_delete {
            self.mailboxes.insert(*id, None);
            self.facts.mailboxes.remove(id);
        }
        for row in &txn.mailbox_put {
            self.mailboxes.insert(row.id, Some(row));
            self.facts.mailboxes.insert(row.id, row.answered);
        }
        for (key, value) in &txn.meta {
            self.meta.insert(key, value.as_deref());
        }
        Committed { revisions }
    }

    fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn fold_put(&mut self, put: &'g ResourcePut) -> u64 {
        let revision = self.next_revision();
        let (kind, previous) = match put.expect {
            Expect::Absent => (ChangeKind::Added, 0),
            Expect::Revision(previous) => (ChangeKind::Modified, previous),
        };
        let fold = match (self.resources.get(&put.number), kind) {
            (Some(ResourceFold::Insert(..)), _) | (_, ChangeKind::Added) => ResourceFold::Insert(put, revision),
            _ => ResourceFold::Update(put, revision),
        };
        self.resources.insert(put.number, fold);
        self.facts.names.insert(put.key.clone(), put.number);
        self.facts.uids.insert(put.uid);
        self.facts.resources.insert(put.number, Living { key: put.key.clone(), uid: put.uid, revision });
        let (key, uid, number, body) = (&put.key, &put.uid, put.number, &put.body);
        self.changes.push(ChangeFold { revision, previous, key, uid, number, kind, body });
        revision
    }

    fn fold_outbox(&mut self, txn: &'g Txn) {
        for row in &txn.outbox_put {
            let state = OutboxState { n: row.n, next_at_ms: row.next_at_ms, attempts: row.attempts, body: &row.body };
            let fold = match self.outbox.get(&row.id) {
                Some(_) => OutboxFold::Replace(state),
                None => OutboxFold::Insert(state),
            };
            self.outbox.insert(row.id, fold);
            self.facts.outbox.insert(row.id);
        }
        for update in &txn.outbox_update {
            let (n, next_at_ms, attempts) = (update.n, update.next_at_ms, update.attempts);
            let state = |old: &OutboxState<'g>| OutboxState {
                // A body is summed over the execution that comes with it.
                n: old.n,
                next_at_ms,
                attempts,
                body: update.body.as_ref().unwrap_or(old.body),
            };
            let fold = match self.outbox.get(&update.id) {
                Some(OutboxFold::Delete) => continue,
                Some(OutboxFold::Insert(old)) => OutboxFold::Insert(state(old)),
                Some(OutboxFold::Replace(old)) => OutboxFold::Replace(state(old)),
                Some(OutboxFold::Update { body, .. }) => {
                    OutboxFold::Update { n, next_at_ms, attempts, body: update.body.as_ref().or(*body) }
                }
                None => OutboxFold::Update { n, next_at_ms, attempts, body: update.body.as_ref() },
            };
            self.outbox.insert(update.id, fold);
        }
    }

    /// Same digest, same body: a blob that is there is not written again.
    fn fold_blob(&mut self, blob: &'g BlobPut) {
        let pinned = is_pinned(blob);
        match (&blob.body, self.facts.blobs.contains(&blob.digest)) {
            (Some(body), false) => {
                self.blobs.insert(blob.digest, BlobFold::Insert { body, pinned });
                self.facts.blobs.insert(blob.digest);
            }
            _ if pinned => {
                let fold = self.blobs.entry(blob.digest).or_insert(BlobFold::Pin);
                if let BlobFold::Insert { pinned, .. } = fold {
                    *pinned = true;
                }
            }
            _ => {}
        }
        if let Some(n) = blob.n {
            self.blob_refs.insert((n, blob.digest));
        }
    }
}
