//! What the scheduler does to the store: starts executions, and notes how far it has come.

use std::sync::Arc;

use baton_proto::v1;
use baton_store::{CommitError, Committed, Lane, ResourcePut, Store, Txn};
use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    SHOW_PAUSE, Scheduler,
    entry::{Key, Surplus},
    rows::{self, Place, Progress},
    start::{Job, Outcome},
    status,
};
use crate::app::App;

/// Jobs at the same time: enough to fill a group of the committer.
const JOBS_MAX: usize = 64;

/// A job of a workflow, and how far that one has come once it is done.
pub(super) struct Task {
    pub(super) key: Key,
    pub(super) job: Job,
    pub(super) next: Progress,
    /// Whether more is to be done, that has to wait for the next second.
    pub(super) more: bool,
}

impl Scheduler {
    /// Starts what is due.
    pub(super) async fn look(&mut self) -> Result<(), String> {
        let now_ms = self.clock.now_ms();
        let mut tasks = Vec::new();
        let due: Vec<Key> =
            self.queue.iter().take_while(|(due, _)| *due <= now_ms).map(|(_, key)| Arc::clone(key)).collect();
        for key in due {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if entry.hears() {
                // It had to wait: what it did not hear is told again.
                entry.held = None;
                self.rewind_for(&key);
            } else if let Some((job, next)) = entry.look(now_ms) {
                tasks.push(Task { key, job, next, more: false });
                continue;
            } else {
                entry.held = None;
            }
            self.enqueue(&key);
        }
        self.perform(tasks).await
    }

    /// Does what is to be done, then notes how far each has come.
    pub(super) async fn perform(&mut self, tasks: Vec<Task>) -> Result<(), String> {
        if tasks.is_empty() {
            return Ok(());
        }
        self.follow_executions()?;
        let (app, now_ms) = (&self.app, self.clock.now_ms());
        let perform = |Task { key, job, next, more }: Task| async move {
            let outcome = job.perform(app, now_ms).await;
            (key, next, more, outcome)
        };
        let jobs: Vec<_> = tasks.into_iter().map(perform).collect();
        let done: Vec<(Key, Progress, bool, Outcome)> = stream::iter(jobs).buffer_unordered(JOBS_MAX).collect().await;
        for (key, next, more, outcome) in done {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            match outcome {
                Outcome::Done { started, refused } => {
                    entry.done(next, started, refused.as_ref());
                    if more {
                        entry.wait_for_allowance();
                    }
                }
                Outcome::NotNow(why) => {
                    tracing::debug!(namespace = key.0, workflow = key.1, "executions are started later: {why}");
                    entry.hold(now_ms);
                }
            }
            for execution in &entry.progress.active {
                self.running.insert(execution.uid, Arc::clone(&key));
            }
            self.enqueue(&key);
        }
        self.write_rows().await?;
        self.prune().await;
        Ok(())
    }

    /// Writes how far schedules have come, where that is not written yet.
    ///
    /// # Errors
    /// If the rows are not what they were: somebody else leads, or the store is at its end.
    pub(super) async fn write_rows(&mut self) -> Result<(), String> {
        let store = self.app.store();
        let mut writes = Vec::new();
        for (key, entry) in self.entries.iter().filter(|(_, entry)| entry.row_is_old) {
            let put = rows::put(store, &key.0, entry.spec.uid, entry.place, &entry.progress);
            writes.push(write(store, Arc::clone(key), put));
        }
        let written: Vec<_> = stream::iter(writes).buffer_unordered(JOBS_MAX).collect().await;
        for (key, place) in written {
            let place = place.map_err(|failed| format!("the row of the schedule of '{}': {failed}", key.1))?;
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.place = Some(place);
                entry.row_is_old = false;
            }
        }
        Ok(())
    }

    pub(super) fn has_something_to_show(&self) -> bool {
        !self.unscheduled.is_empty() || self.entries.values().any(|entry| entry.status_is_old || entry.row_is_old)
    }

    /// Brings rows and statuses up to date; at most once in a while, as every write is one of the whole workflow.
    pub(super) async fn show(&mut self) -> Result<(), String> {
        self.write_rows().await?;
        let app = &self.app;
        let mut writes = Vec::new();
        for (key, entry) in self.entries.iter().filter(|(_, entry)| entry.status_is_old) {
            writes.push(status::write(app, Arc::clone(key), entry.spec.uid, Some(entry.shown())));
        }
        for (key, uid) in &self.unscheduled {
            writes.push(status::write(app, Arc::clone(key), *uid, None));
        }
        let written: Vec<Option<Key>> = stream::iter(writes).buffer_unordered(JOBS_MAX).collect().await;
        for key in written.into_iter().flatten() {
            self.unscheduled.remove(&key);
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.status_is_old = false;
            }
        }
        self.show_at = Instant::now() + SHOW_PAUSE;
        Ok(())
    }

    /// Deletes ended executions beyond the limits of their workflows' histories.
    pub(super) async fn prune(&mut self) {
        let (app, mut deletions) = (&self.app, Vec::new());
        for (key, entry) in &mut self.entries {
            for surplus in entry.take_surplus() {
                deletions.push(delete(app, Arc::clone(key), surplus));
            }
        }
        let left: Vec<Option<(Key, Surplus)>> = stream::iter(deletions).buffer_unordered(JOBS_MAX).collect().await;
        for (key, surplus) in left.into_iter().flatten() {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.put_back(surplus);
            }
        }
    }
}

async fn write(store: &Store, key: Key, put: ResourcePut) -> (Key, Result<Place, CommitError>) {
    let (uid, number) = (put.uid, put.number);
    let committed = store.commit_async(Lane::Internal, Txn { puts: vec![put], ..Txn::default() }).await;
    let revision = |committed: &Committed| committed.revisions.first().copied().unwrap_or_default();
    (key, committed.map(|committed| Place { uid, number, revision: revision(&committed) }))
}

/// Deletes an execution; gives it back if its end is to be reported first.
async fn delete(app: &App, key: Key, surplus: Surplus) -> Option<(Key, Surplus)> {
    let execution = &surplus.execution;
    if let Some(reported) = app.reported() {
        let uid = *execution.uid.as_bytes();
        let row = app.read(move |store| store.get_by_uid(uid)).await.ok().flatten();
        if row.is_some_and(|row| reported.is_behind(&row)) {
            return Some((key, surplus));
        }
    }
    let request = v1::DeleteRequest {
        namespace: key.0.clone(),
        name: execution.name.clone(),
        uid: execution.uid.to_string(),
        resource_version: String::new(),
    };
    if let Err(refused) = app.delete::<v1::WorkflowExecution>(&request).await {
        tracing::debug!(namespace = key.0, name = request.name, "an ended execution stays: {refused}");
    }
    None
}
