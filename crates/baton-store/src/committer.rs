//! The one thread that writes.
//!
//! It takes what is waiting, applies it as one transaction, and only when that is durable publishes the changes and calls
//! each transaction's `done`. There is no linger: while one group syncs, the next gathers.
//!
//! # Invariants
//! - Publication follows durability: ring first, then the head, then the answers, in group order.
//! - Every accepted transaction's `done` is called exactly once, whatever happens.
//!
//! # Failure
//! An I/O error leaves the outcome unknown, and the kernel may have dropped the pages that failed, so that a second sync
//! would lie. The store is dead from then on: everything waiting is told so, and nothing is tried again. Lack of room is
//! definite: the group is refused, the ballast is released, and the store goes on.
//! A backend behind a network asks afterwards what became of a commit, and only if it cannot know is the store dead.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::backend::{GroupError, Outcomes, Upkeep, UpkeepReport, Writer};
use crate::error::CommitError;
use crate::model::{Change, ChangeKind, Committed, Expect, Txn};
use crate::queue::Limits;
use crate::shared::Shared;
use crate::stats::names;

/// Called with the outcome on the committer thread.
pub(crate) type Done = Box<dyn FnOnce(Result<Committed, CommitError>) + Send>;
/// Called with a step's report on the committer thread.
pub(crate) type UpkeepDone = Box<dyn FnOnce(Result<UpkeepReport, CommitError>) + Send>;

/// What waits in the queue.
pub(crate) enum Work {
    Commit { txn: Box<Txn>, done: Done },
    Upkeep { step: Upkeep, done: UpkeepDone },
}

impl Work {
    /// Answers without having done anything.
    pub(crate) fn refuse(self, error: CommitError) {
        match self {
            Self::Commit { done, .. } => answer(|| done(Err(error))),
            Self::Upkeep { done, .. } => answer(|| done(Err(error))),
        }
    }
}

/// A panic in a caller's closure must not take the committer down with it.
fn answer(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("a commit's callback panicked; the commit itself stands");
    }
}

/// Runs until the queue is closed and empty, or the store has failed.
pub(crate) fn run(shared: &Shared, writer: &mut dyn Writer) {
    let limits =
        Limits { operations_max: shared.options.group_operations_max, bytes_max: shared.options.group_bytes_max };
    let mut taken = Vec::new();
    while shared.queue.take(limits, &mut taken) {
        let mut group: Vec<(Box<Txn>, Done)> = Vec::with_capacity(taken.len());
        let mut steps = Vec::new();
        for work in taken.drain(..) {
            match work {
                Work::Commit { txn, done } => group.push((txn, done)),
                Work::Upkeep { step, done } => steps.push((step, done)),
            }
        }
        let mut result = commit(shared, writer, group);
        for (step, done) in steps {
            result = match result {
                Ok(()) => upkeep(shared, writer, &step, done),
                Err(detail) => {
                    answer(|| {
                        done(Err(CommitError::Failed { detail: Arc::clone(&detail) }));
                    });
                    Err(detail)
                }
            };
        }
        let result = result.and_then(|()| match writer.settle() {
            Err(GroupError::Fatal(detail)) => Err(Arc::from(detail)),
            Ok(()) | Err(GroupError::NotDone(_)) => Ok(()),
        });
        shared.counters.wal_bytes.store(writer.wal_bytes(), Relaxed);
        if let Err(detail) = result {
            shared.fail(&detail);
            return;
        }
    }
    if let Err(GroupError::Fatal(detail)) = writer.finish() {
        shared.fail(&Arc::from(detail));
    }
}

/// Commits one group and answers it. `Err` says why the store must stop.
fn commit(shared: &Shared, writer: &mut dyn Writer, group: Vec<(Box<Txn>, Done)>) -> Result<(), Arc<str>> {
    if group.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    let txns: Vec<&Txn> = group.iter().map(|(txn, _)| txn.as_ref()).collect();
    let outcome = writer.apply(&txns);
    shared.counters.group(group.len(), begun.elapsed());
    match outcome {
        Ok(outcomes) => {
            publish(shared, writer, group, outcomes);
            Ok(())
        }
        Err(GroupError::NotDone(error)) => {
            let error = with_figures(shared, error);
            tracing::warn!(%error, operations = group.len(), "group refused");
            for (_, done) in group {
                let error = error.clone();
                answer(|| done(Err(error)));
            }
            Ok(())
        }
        Err(GroupError::Fatal(detail)) => {
            let detail: Arc<str> = Arc::from(detail);
            shared.fail(&detail);
            for (_, done) in group {
                let detail = Arc::clone(&detail);
                answer(|| done(Err(CommitError::Failed { detail })));
            }
            Err(detail)
        }
    }
}

/// Makes a durable group visible to watchers, after what other servers committed before it, then answers.
fn publish(shared: &Shared, writer: &mut dyn Writer, group: Vec<(Box<Txn>, Done)>, outcomes: Outcomes) {
    let mut answers = Vec::with_capacity(group.len());
    let head = writer.head().revision;
    let own: usize = outcomes.iter().flatten().map(|committed| committed.revisions.len()).sum();
    let (known, before) = (shared.rings().last(), head.saturating_sub(own as u64));
    let missed = if known < before { writer.others(known, before) } else { Some(Vec::new()) };
    {
        let mut rings = shared.rings_mut();
        match missed {
            Some(changes) => changes.into_iter().for_each(|change| rings.push(change)),
            None => rings.begin_again(before),
        }
        for ((txn, done), outcome) in group.into_iter().zip(outcomes) {
            if let Ok(committed) = &outcome {
                changes(*txn, &committed.revisions, |change| rings.push(change));
            }
            answers.push((done, outcome));
        }
    }
    shared.raise_head(head);
    shared.set_compacted(writer.head().compacted);
    for (done, outcome) in answers {
        answer(|| done(outcome));
    }
}

/// The changes of one transaction, in the order of its revisions.
fn changes(txn: Txn, revisions: &[u64], mut push: impl FnMut(Change)) {
    let mut revisions = revisions.iter().copied();
    for (put, revision) in txn.puts.into_iter().zip(revisions.by_ref()) {
        let (kind, previous_revision) = match put.expect {
            Expect::Absent => (ChangeKind::Added, 0),
            Expect::Revision(previous) => (ChangeKind::Modified, previous),
        };
        let (key, uid, number, body) = (put.key, put.uid, put.number, put.body);
        push(Change { revision, previous_revision, key, uid, number, kind, body });
    }
    for (delete, revision) in txn.deletes.into_iter().zip(revisions) {
        push(Change {
            revision,
            previous_revision: delete.revision,
            key: delete.key,
            uid: delete.uid,
            number: delete.number,
            kind: ChangeKind::Deleted,
            body: delete.body,
        });
    }
}

/// Fills in the disk's figures and releases the ballast, so that the next deletes find room.
fn with_figures(shared: &Shared, error: CommitError) -> CommitError {
    match error {
        CommitError::DiskFull { .. } if shared.has_directory() => {
            if shared.release_ballast() {
                tracing::warn!("the disk is full; the ballast was released, new work is refused until there is room");
            }
            CommitError::DiskFull { free: shared.measure_free(), needed: shared.options.free_bytes_min }
        }
        error => error,
    }
}

fn upkeep(shared: &Shared, writer: &mut dyn Writer, step: &Upkeep, done: UpkeepDone) -> Result<(), Arc<str>> {
    match writer.upkeep(step) {
        Ok(report) => {
            shared.set_compacted(writer.head().compacted);
            answer(|| done(Ok(report)));
            Ok(())
        }
        Err(GroupError::NotDone(error)) => {
            let error = with_figures(shared, error);
            answer(|| done(Err(error)));
            Ok(())
        }
        Err(GroupError::Fatal(detail)) => {
            let detail: Arc<str> = Arc::from(detail);
            shared.fail(&detail);
            answer(|| {
                done(Err(CommitError::Failed { detail: Arc::clone(&detail) }));
            });
            Err(detail)
        }
    }
}

/// Records the gauges; called about once a second.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub(crate) fn record_gauges(shared: &Shared) {
    metrics::gauge!(names::QUEUE_OPERATIONS).set(shared.queue.depth().0 as f64);
    if shared.has_directory() {
        metrics::gauge!(names::WAL_BYTES).set(shared.counters.wal_bytes.load(Relaxed) as f64);
        metrics::gauge!(names::FREE_BYTES).set(shared.free_bytes() as f64);
    }
}
