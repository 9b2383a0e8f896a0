//! The scheduler: starts executions of workflows that have a `schedule`. Runs where this server leads.
//!
//! [`Scheduler`] follows the workflows, keeps those with a schedule in one queue in the order in which they are due, and
//! creates executions through the application layer, as everybody does. What a time means is [`baton_workflow::Schedule`]'s,
//! what is due is [`plan`]'s; this is the shell around them.
//!
//! # Invariants
//! - The name of an execution follows from the workflow and from the time or the event that it is for. Creating it again finds
//!   it there: a crash between the creation and the note of it starts nothing twice.
//! - How far a schedule has come is a row of its own; the workflow's status only shows it.
//! - What is not due costs nothing: there is one queue, and one timer for its first entry. Executions are followed only while
//!   some run that a schedule started, events only while there is a schedule that waits for them.
//!
//! # Deliberately absent
//! Waiting in line: an execution that may not start because one is running does not start later either.
//!
//! # Failure
//! What cannot be done now is tried again, ever less often. What is refused for good is said in the workflow's status, and the
//! schedule goes on with its next time. When a watch is lost, everything is read again.

mod clock;
mod entry;
mod hearing;
mod plan;
mod policy;
mod rows;
mod start;
mod status;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use baton_proto::{Resource as _, kind};
use baton_store::{
    ChangeKind, ExecState, Lane, ListQuery, ResourceDelete, StoredResource, Txn, Watch, WatchBatch, WatchError,
};
use baton_types::Uid;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

pub use self::clock::{Clock, SystemClock};
pub(crate) use self::policy::Policy;
use self::{
    entry::{Entry, Found, Key, Spec},
    rows::{Place, Progress, SCHEDULE},
    start::Ended,
};
use crate::{app::App, metrics};

/// Rows read at a time at the start.
const PAGE_ROWS: usize = 500;
/// Pause before everything is read again.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two writes of what statuses show.
const SHOW_PAUSE: Duration = Duration::from_secs(1);

/// By which time schedules are kept.
#[derive(Clone, Debug)]
pub struct ScheduleOptions {
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Default for ScheduleOptions {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock) }
    }
}

pub(crate) struct Scheduler {
    app: App,
    clock: Arc<dyn Clock>,
    entries: BTreeMap<Key, Entry>,
    /// When to look at which, the first first.
    queue: BTreeSet<(i64, Key)>,
    /// Executions that run, and whose schedule started them.
    running: HashMap<Uid, Key>,
    /// Workflows without a schedule whose status still tells of one.
    unscheduled: BTreeMap<Key, Uid>,
    /// Followed only while there is something to hear.
    executions: Option<Watch>,
    events: Option<Watch>,
    /// Where events are to be followed from, if not from where they are.
    rewind: Option<u64>,
    /// Not before that are statuses written again.
    show_at: Instant,
}

impl Scheduler {
    pub(crate) fn new(app: App, options: ScheduleOptions) -> Self {
        Self {
            app,
            clock: options.clock,
            entries: BTreeMap::new(),
            queue: BTreeSet::new(),
            running: HashMap::new(),
            unscheduled: BTreeMap::new(),
            executions: None,
            events: None,
            rewind: None,
            show_at: Instant::now(),
        }
    }

    /// Works until the server stops.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                Err(lost) = self.follow() => tracing::warn!("schedules are read again: {lost}"),
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = sleep(RELOAD_PAUSE) => {}
            }
            let options = ScheduleOptions { clock: self.clock };
            self = Self::new(self.app, options);
        }
    }

    /// Reads everything and follows it, until that cannot be followed any more; why.
    async fn follow(&mut self) -> Result<Infallible, String> {
        let mut workflows = self.load().await?;
        loop {
            self.listen().map_err(text)?;
            metrics::schedules(self.entries.len());
            let due = self.queue.first().map(|(due, _)| *due);
            let (clock, show) = (Arc::clone(&self.clock), self.has_something_to_show());
            tokio::select! {
                // What was said of a workflow counts from then on, so it goes before what is due.
                biased;
                batch = workflows.next() => self.workflows_changed(&batch.map_err(text)?).await?,
                batch = next(&mut self.executions) => {
                    self.executions_changed(&batch.map_err(text)?);
                    self.prune().await;
                }
                () = async { clock.until(due.unwrap_or_default()).await }, if due.is_some() => self.look().await?,
                () = sleep_until(self.show_at), if show => self.show().await?,
                batch = next(&mut self.events) => self.hear(&batch.map_err(text)?).await?,
            }
        }
    }

    /// Opens and closes what is followed only while it is needed.
    fn listen(&mut self) -> Result<(), WatchError> {
        if self.running.is_empty() {
            self.executions = None;
        }
        if !self.entries.values().any(Entry::hears) {
            (self.events, self.rewind) = (None, None);
        } else if let Some(from) = self.rewind.take() {
            self.events = Some(self.app.store().watch(Some(crate::events::EVENT), from)?);
        }
        Ok(())
    }

    /// Follows executions from now on: to be called before one is created.
    fn follow_executions(&mut self) -> Result<(), String> {
        if self.executions.is_none() {
            let store = self.app.store();
            let watch = store.watch(Some(kind::WORKFLOW_EXECUTION), store.revision());
            self.executions = Some(watch.map_err(text)?);
        }
        Ok(())
    }

    /// All workflows with a schedule and how far each has come, and what follows.
    async fn load(&mut self) -> Result<Watch, String> {
        let mut known = HashMap::new();
        for row in self.rows(SCHEDULE).await?.0 {
            match rows::read(&row) {
                Ok(read) => drop(known.insert(row.key.name.clone(), (row, read))),
                Err(why) => tracing::warn!(key = %row.key, "a schedule begins anew: {why}"),
            }
        }
        let (workflows, from) = self.rows(kind::WORKFLOW).await?;
        for row in &workflows {
            let uid = Uid::from_bytes(row.uid).to_string();
            let progress = known.remove(&uid).map(|(_, progress)| progress);
            if let Some(gone) = self.consider(row, progress, row.revision) {
                self.forget(&row.key.namespace, Uid::from_bytes(row.uid), gone).await;
            }
        }
        // Their workflows were deleted while nobody looked.
        for (row, (_, place)) in known.into_values() {
            if let Ok(uid) = row.key.name.parse() {
                self.forget(&row.key.namespace, uid, place).await;
            }
        }
        self.find_running().await?;
        self.write_rows().await?;
        self.catch_up().await?;
        self.app.store().watch(Some(kind::WORKFLOW), from).map_err(text)
    }

    /// All rows of a kind, and the revision from which on changes are to be followed.
    async fn rows(&self, kind: &'static str) -> Result<(Vec<StoredResource>, u64), String> {
        let read = self.app.read(move |store| {
            let (mut rows, mut from, mut after) = (Vec::new(), None, None);
            loop {
                let page = store.list(&ListQuery { after, ..ListQuery::new(kind, PAGE_ROWS) })?;
                from.get_or_insert(page.revision);
                rows.extend(page.items);
                match page.last.filter(|_| page.more) {
                    Some(last) => after = Some(last),
                    None => return Ok((rows, from.unwrap_or_default())),
                }
            }
        });
        read.await.map_err(text)
    }

    /// What became of the executions that were running.
    async fn find_running(&mut self) -> Result<(), String> {
        self.follow_executions()?;
        let running: Vec<(Key, Uid)> = self
            .entries
            .iter()
            .flat_map(|(key, entry)| entry.progress.active.iter().map(|it| (Arc::clone(key), it.uid)))
            .collect();
        for (key, uid) in running {
            let row = self.app.read(move |store| store.get_by_uid(*uid.as_bytes())).await.map_err(text)?;
            if row.is_some_and(|row| row.state != ExecState::Closed) {
                self.running.insert(uid, key);
            } else {
                let ended = self.end_of(uid).await?;
                self.execution_ended(&key, uid, ended);
            }
        }
        Ok(())
    }

    /// How an execution ended that runs no more.
    async fn end_of(&self, uid: Uid) -> Result<Ended, String> {
        let now_ms = self.clock.now_ms();
        let row = self.app.read(move |store| store.get_by_uid(*uid.as_bytes())).await.map_err(text)?;
        let execution = row.and_then(|row| baton_engine::decode_stored(&row.key.kind, &row.body, row.revision).ok());
        let ended = execution.and_then(|execution| Ended::of(&execution, now_ms));
        Ok(ended.unwrap_or(Ended { time_ms: now_ms, completed: false }))
    }

    async fn workflows_changed(&mut self, batch: &WatchBatch) -> Result<(), String> {
        for change in &batch.changes {
            let row = StoredResource {
                key: change.key.clone(),
                uid: change.uid,
                number: change.number,
                revision: change.revision,
                state: ExecState::None,
                owner: None,
                expires_at_ms: None,
                deleting: false,
                labels: None,
                body: change.body.clone(),
            };
            let key = entry::key_of(&row);
            let gone = match change.kind {
                ChangeKind::Deleted => {
                    self.unscheduled.remove(&key);
                    self.drop_entry(&key)
                }
                ChangeKind::Added | ChangeKind::Modified => self.consider(&row, None, change.revision),
            };
            if let Some(place) = gone {
                self.forget(&change.key.namespace, Uid::from_bytes(change.uid), place).await;
            }
        }
        self.write_rows().await
    }

    /// Takes over a workflow as it is now. Returns the row of a schedule that there is no more.
    fn consider(&mut self, row: &StoredResource, known: Option<(Progress, Place)>, revision: u64) -> Option<Place> {
        let key = entry::key_of(row);
        let workflow = match entry::decode(&row.body, row.revision) {
            Ok(workflow) => workflow,
            Err(failed) => {
                tracing::error!(key = %row.key, detail = failed.detail, "a workflow cannot be read: {failed}");
                return None;
            }
        };
        let version = entry::version(&workflow)?;
        let present = self.entries.get(&key).map(|entry| (entry.spec.uid, entry.spec.generation));
        if present == Some(version) && workflow.metadata().is_some_and(|meta| meta.deletion_timestamp.is_none()) {
            return None;
        }
        let now_ms = self.clock.now_ms();
        let old = present.filter(|(uid, _)| *uid != version.0).and_then(|_| self.drop_entry(&key));
        match Spec::read(&workflow) {
            Ok(Found::Scheduled(spec)) => {
                self.unscheduled.remove(&key);
                match self.entries.get_mut(&key) {
                    Some(entry) => entry.change(*spec, now_ms, revision),
                    None => drop(self.entries.insert(Arc::clone(&key), Entry::new(*spec, known, now_ms, revision))),
                }
                self.rewind_for(&key);
                self.enqueue(&key);
                old
            }
            Ok(Found::Unscheduled { shown }) => {
                let place = self.drop_entry(&key);
                if shown {
                    self.unscheduled.insert(key, version.0);
                }
                place.or(known.map(|(_, place)| place)).or(old)
            }
            Err(why) => {
                tracing::warn!(key = %row.key, "the schedule of a workflow is not kept: {why}");
                self.drop_entry(&key).or(old)
            }
        }
    }

    /// Has events followed from where a workflow has come to, if it listens.
    fn rewind_for(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get(key).filter(|entry| entry.hears()) {
            let cursor = entry.progress.cursor;
            let present = self.events.as_ref().map(Watch::revision);
            if present.is_none_or(|present| cursor < present) {
                self.rewind = Some(self.rewind.map_or(cursor, |rewind| rewind.min(cursor)));
            }
        }
    }

    fn drop_entry(&mut self, key: &Key) -> Option<Place> {
        let entry = self.entries.remove(key)?;
        if let Some(queued) = entry.queued_ms {
            self.queue.remove(&(queued, Arc::clone(key)));
        }
        self.running.retain(|_, of| of != key);
        entry.place
    }

    /// Puts a workflow where it belongs in the queue.
    fn enqueue(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let due = entry.due_ms();
        if due != entry.queued_ms {
            if let Some(queued) = entry.queued_ms.take() {
                self.queue.remove(&(queued, Arc::clone(key)));
            }
            self.queue.extend(due.map(|due| (due, Arc::clone(key))));
            entry.queued_ms = due;
        }
    }

    fn executions_changed(&mut self, batch: &WatchBatch) {
        let now_ms = self.clock.now_ms();
        for change in &batch.changes {
            let uid = Uid::from_bytes(change.uid);
            let Some(key) = self.running.get(&uid).cloned() else { continue };
            let execution = baton_engine::decode_stored(&change.key.kind, &change.body, change.revision).ok();
            let ended = execution.and_then(|execution| Ended::of(&execution, now_ms));
            let gone = (change.kind == ChangeKind::Deleted).then_some(Ended { time_ms: now_ms, completed: false });
            if let Some(ended) = ended.or(gone) {
                self.execution_ended(&key, uid, ended);
            }
        }
    }

    fn execution_ended(&mut self, key: &Key, uid: Uid, ended: Ended) {
        self.running.remove(&uid);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.ended_by_uid(uid, ended);
            self.enqueue(key);
        }
    }

    /// Removes the row of a schedule that there is no more; what stays is removed at the next start.
    async fn forget(&self, namespace: &str, workflow: Uid, place: Place) {
        let delete = ResourceDelete {
            key: rows::key(namespace, workflow),
            uid: place.uid,
            number: place.number,
            revision: place.revision,
            body: bytes::Bytes::new(),
        };
        let txn = Txn { deletes: vec![delete], ..Txn::default() };
        if let Err(failed) = self.app.store().commit_async(Lane::Internal, txn).await {
            tracing::debug!("the row of a schedule stays for now: {failed}");
        }
    }
}

/// The next changes of what is followed; never, if nothing is.
async fn next(watch: &mut Option<Watch>) -> Result<WatchBatch, WatchError> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
