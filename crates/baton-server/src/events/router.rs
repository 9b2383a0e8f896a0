//! Follows the rows of events and subscriptions, and answers tokens. Runs where this server leads.
//!
//! # Invariants
//! - One task looks at everything in the order in which it was committed; answers go out beside it.
//! - A subscription has at most one answer under way. Its row goes once the answer was taken, or will never be; or when the
//!   execution that listens ends while it is followed, or has left several behind. One that is overlooked then, over a restart,
//!   goes when its time is over.
//!
//! # Failure
//! Rows that cannot be read are named in the log and left alone. A watch that ends begins anew, with all rows.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use baton_engine::{Engine, Sealer};
use baton_execution::Outcome;
use baton_proto::{Resource as _, v1::WorkflowExecution};
use baton_store::{
    Change, ChangeKind, ListQuery, ResourceDelete, Store, StoredResource, Watch, WatchBatch, WatchError,
};
use baton_types::{ApiError, Phase, Uid, fingerprint};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    EVENT, EventsOptions, SUBSCRIPTION,
    index::{Index, Room, Told},
    remove, rows,
    rows::{KeptSubscription, Row},
    subscriptions::{Name, Subscriptions},
};
use crate::{
    app::{self, ServedResource as _},
    errors, metrics,
};

/// Rows read at a time at the start: events may have hundreds of kilobytes.
const PAGE_ROWS: usize = 128;
/// Answers on their way at a time: enough to fill groups of the committer.
const ANSWERS_MAX: usize = 256;
/// Pauses before an answer that was not taken now is given again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Pause before all rows are read again.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// Events that are let go of in one transaction.
const TRIM_EVENTS: usize = 256;

/// What came of something that ran beside.
enum Done {
    /// A subscription is settled.
    Settled(Name),
    /// Old events were removed, or not.
    Trimmed,
    /// So was what somebody who has ended listened to.
    Left,
}

pub(crate) struct Router {
    store: Store,
    engine: Engine,
    sealer: Arc<Sealer>,
    options: EventsOptions,
    index: Index,
    subscriptions: Subscriptions,
    answers: Arc<Semaphore>,
    beside: JoinSet<Done>,
    trimming: bool,
}

impl Router {
    pub(crate) fn new(store: Store, engine: Engine, sealer: Arc<Sealer>, options: EventsOptions) -> Self {
        Self {
            store,
            engine,
            sealer,
            options,
            index: Index::default(),
            subscriptions: Subscriptions::default(),
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
            beside: JoinSet::new(),
            trimming: false,
        }
    }

    /// Works until the server stops.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                lost = self.follow() => tracing::warn!("events are read again: {lost}"),
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = sleep(RELOAD_PAUSE) => {}
            }
            (self.index, self.subscriptions, self.trimming) = (Index::default(), Subscriptions::default(), false);
            self.beside.abort_all();
            self.beside = JoinSet::new();
        }
    }

    /// Reads all rows and follows what happens to them, until that cannot be followed any more; why.
    async fn follow(&mut self) -> String {
        let mut changes = match self.load().await {
            Ok(changes) => changes,
            Err(error) => return error,
        };
        for name in self.subscriptions.names() {
            self.tell(&name);
        }
        loop {
            metrics::events_kept(self.index.len(), self.subscriptions.len());
            self.trim();
            let lost = tokio::select! {
                batch = changes.next() => batch.map(|batch| self.changed(&batch)),
                Some(done) = self.beside.join_next() => {
                    self.done(done);
                    Ok(())
                }
            };
            if let Err(lost) = lost {
                return lost.to_string();
            }
        }
    }

    /// Everything that is there, and what follows it.
    async fn load(&mut self) -> Result<Watch, String> {
        let read = |stored: StoredResource| match rows::read_event(&Row::of(&stored)) {
            Ok(event) => Some(event),
            Err(why) => {
                tracing::warn!(key = %stored.key, "an event is left out: {why}");
                None
            }
        };
        let from_events = self.rows(EVENT, read, |router, event| {
            if let Some((kept, body)) = event {
                router.index.insert(kept, body);
            }
        });
        let from_events = from_events.await?;
        // What was committed while the pages were read is in the index, but told only when the watch has come to it.
        self.index.see(from_events);
        // What becomes of subscriptions meanwhile is seen twice, which changes nothing.
        self.rows(SUBSCRIPTION, |stored| stored, |router, stored| _ = router.subscribed(&Row::of(&stored))).await?;
        // One watch of everything, as the order of kinds among each other matters.
        self.store.watch(None, from_events).map_err(|error: WatchError| error.to_string())
    }

    /// Takes all rows of a kind, page by page as they are read, and gives the revision from which on changes are to be followed.
    async fn rows<T: Send + 'static>(
        &mut self,
        kind: &'static str,
        read: impl Fn(StoredResource) -> T + Copy + Send + 'static,
        mut take: impl FnMut(&mut Self, T),
    ) -> Result<u64, String> {
        let (mut from, mut after) = (None, None);
        loop {
            let store = self.store.clone();
            let page = move || {
                let page = store.list(&ListQuery { after, ..ListQuery::new(kind, PAGE_ROWS) })?;
                for row in page.corrupt {
                    tracing::warn!(table = row.table, key = row.key, "a row of the event bus is damaged and left out");
                }
                let rows: Vec<T> = page.items.into_iter().map(read).collect();
                Ok((rows, page.revision, page.last.filter(|_| page.more)))
            };
            let page = tokio::task::spawn_blocking(page).await.map_err(|stopped| stopped.to_string())?;
            let (rows, revision, last) = page.map_err(|error: baton_store::StoreError| error.to_string())?;
            from.get_or_insert(revision);
            for row in rows {
                take(self, row);
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(from.unwrap_or_default()),
            }
        }
    }

    fn changed(&mut self, batch: &WatchBatch) {
        let mut touched = BTreeSet::new();
        for change in &batch.changes {
            match change.key.kind.as_ref() {
                EVENT => self.event_changed(change, &mut touched),
                SUBSCRIPTION if change.kind == ChangeKind::Deleted => self.subscriptions.remove(&change.key.name),
                SUBSCRIPTION => {
                    if let Some(name) = self.subscribed(&Row::of_change(change)) {
                        self.look_at_others(&name);
                        touched.insert(name);
                    }
                }
                WorkflowExecution::KIND => self.execution_changed(change),
                _ => {}
            }
        }
        self.index.see(batch.revision);
        for name in touched {
            self.tell(&name);
        }
    }

    fn event_changed(&mut self, change: &Change, touched: &mut BTreeSet<Name>) {
        if change.kind == ChangeKind::Deleted {
            self.index.remove(change.previous_revision);
            return;
        }
        match rows::read_event(&Row::of_change(change)) {
            Ok((kept, body)) => {
                self.subscriptions.touched_by(&kept, touched);
                self.index.insert(kept, body);
            }
            Err(why) => tracing::warn!(key = %change.key, "an event is left out: {why}"),
        }
    }

    /// Removes what an execution listens to that has ended.
    fn execution_changed(&mut self, change: &Change) {
        let listening = self.subscriptions.of(Uid::from_bytes(change.uid));
        if listening.is_empty() || (change.kind != ChangeKind::Deleted && !has_ended(change)) {
            return;
        }
        let (store, deletes) = (self.store.clone(), listening.iter().map(|kept| removal_of(kept)).collect());
        self.beside.spawn(async move {
            if let Err(error) = remove_each(&store, deletes).await {
                tracing::debug!("what an ended execution listened to stays for now: {error}");
            }
            Done::Left
        });
    }

    /// Removes what an execution goes on without: a task that lost a race, or that timed out, listens no more.
    fn look_at_others(&mut self, name: &Name) {
        let listening = self.subscriptions.grown(name);
        if listening.is_empty() {
            return;
        }
        let (store, engine) = (self.store.clone(), self.engine.clone());
        self.beside.spawn(async move {
            let mut closed = Vec::new();
            for kept in listening {
                if engine.heartbeat(&kept.token).await.is_err_and(|error| !errors::passes(error.kind)) {
                    closed.push(removal_of(&kept));
                }
            }
            if let Err(error) = remove_each(&store, closed).await {
                tracing::debug!("what an execution listens to no more stays for now: {error}");
            }
            Done::Left
        });
    }

    fn subscribed(&mut self, row: &Row<'_>) -> Option<Name> {
        match rows::read_subscription(&self.sealer, |token| self.engine.waits_for(token), row) {
            Ok(kept) => Some(self.subscriptions.insert(kept)),
            Err(why) => {
                tracing::warn!(key = %row.key, "a subscription is left out: {why}");
                None
            }
        }
    }

    /// Sends a subscription its answer, if there is one and none is under way.
    fn tell(&mut self, name: &Name) {
        let Some(waiting) = self.subscriptions.get_mut(name) else { return };
        if waiting.answering || waiting.kept.expires_ms <= app::now_ms() {
            return;
        }
        let Some(told) = self.index.gather(&waiting.kept) else { return };
        if told.lost {
            let (namespace, fingerprint) = (&waiting.kept.key.namespace, fingerprint(&waiting.kept.token));
            tracing::warn!(
                namespace,
                fingerprint,
                "events were given up before a listener was told of them: there were more than events.keep-max or events.keep-bytes"
            );
        }
        waiting.answering = true;
        let answer = Answer {
            store: self.store.clone(),
            engine: self.engine.clone(),
            places: Arc::clone(&self.answers),
            subscription: Arc::clone(&waiting.kept),
        };
        let name = Arc::clone(name);
        self.beside.spawn(async move {
            answer.give(told).await;
            Done::Settled(name)
        });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Settled(name)) => self.subscriptions.remove(&name),
            Ok(Done::Trimmed) => self.trimming = false,
            Err(error) if error.is_panic() => tracing::error!(%error, "an answer of the event bus stopped"),
            Ok(Done::Left) | Err(_) => {}
        }
    }

    /// Lets go of events if there are too many.
    fn trim(&mut self) {
        let room = Room { events: self.options.keep_max, bytes: self.options.keep_bytes };
        if self.trimming || !self.index.is_too_large(room) {
            return;
        }
        self.trimming = true;
        let given_up = self.index.give_up(room, TRIM_EVENTS);
        let deletes: Vec<ResourceDelete> = given_up
            .iter()
            .map(|event| ResourceDelete {
                key: event.key.clone(),
                uid: event.uid,
                number: event.number,
                revision: event.revision,
                body: bytes::Bytes::new(),
            })
            .collect();
        let store = self.store.clone();
        self.beside.spawn(async move {
            if let Err(error) = remove_each(&store, deletes).await {
                tracing::debug!("an old event stays for now: {error}");
                sleep(RELOAD_PAUSE).await;
            }
            Done::Trimmed
        });
    }
}

/// One answer on its way.
struct Answer {
    store: Store,
    engine: Engine,
    places: Arc<Semaphore>,
    subscription: Arc<KeptSubscription>,
}

impl Answer {
    /// Answers until the answer is taken, or will never be, or nobody waits any more; then the subscription is removed.
    async fn give(self, told: Told) {
        let fingerprint = fingerprint(&self.subscription.token);
        let mut pause = PAUSE_MIN;
        loop {
            match self.try_once(&told).await {
                Ok(_) => {
                    metrics::events_told("accepted");
                    break;
                }
                Err(error) if errors::passes(error.kind) && app::now_ms() < self.subscription.expires_ms => {
                    tracing::debug!(fingerprint, "a listener is told later: {error}");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => {
                    tracing::debug!(fingerprint, "a listener is there no more: {error}");
                    metrics::events_told(error.reason);
                    break;
                }
            }
        }
        if let Err(error) = remove(&self.store, vec![removal_of(&self.subscription)]).await {
            tracing::debug!(fingerprint, "a subscription that was answered stays until the next start: {error}");
        }
    }

    async fn try_once(&self, told: &Told) -> Result<String, ApiError> {
        let _place = self.places.acquire().await.map_err(|closed| ApiError::internal(closed.to_string()))?;
        let answer = self.read(told).await?;
        self.engine.answer(&self.subscription.token, Outcome::Completed(answer)).await
    }

    /// The answer, with what is not in memory read from the store.
    async fn read(&self, told: &Told) -> Result<Value, ApiError> {
        let mut events = Vec::with_capacity(told.events.len());
        for (kept, body) in &told.events {
            let body = if let Some(body) = body {
                Some((**body).clone())
            } else {
                let (store, key) = (self.store.clone(), kept.key.clone());
                let read = tokio::task::spawn_blocking(move || store.get(&key)).await;
                let stored = match read {
                    Ok(stored) => stored.map_err(|error| baton_engine::read_failed(&error))?,
                    Err(stopped) => return Err(ApiError::internal(format!("a read was stopped: {stopped}"))),
                };
                // One that was let go of in the meantime is not told.
                stored.and_then(|stored| rows::read_event(&Row::of(&stored)).ok()).map(|(_, body)| body)
            };
            if let Some(body) = body {
                events.push(json!({"event": body, "cursor": kept.revision.to_string()}));
            }
        }
        Ok(json!({"events": events, "cursor": told.cursor.to_string()}))
    }
}

fn removal_of(kept: &KeptSubscription) -> ResourceDelete {
    ResourceDelete {
        key: kept.key.clone(),
        uid: kept.uid,
        number: kept.number,
        revision: kept.revision,
        body: bytes::Bytes::new(),
    }
}

/// Removes rows one by one, as others may be removing the same ones; gives the first refusal.
async fn remove_each(store: &Store, deletes: Vec<ResourceDelete>) -> Result<(), ApiError> {
    futures::future::join_all(deletes.into_iter().map(|it| remove(store, vec![it]))).await.into_iter().collect()
}

fn has_ended(change: &Change) -> bool {
    let execution = WorkflowExecution::decode_stored(&change.body, change.revision).ok();
    let status = execution.and_then(|execution| execution.status);
    status.and_then(|status| status.phase.parse::<Phase>().ok()).is_some_and(Phase::is_terminal)
}
