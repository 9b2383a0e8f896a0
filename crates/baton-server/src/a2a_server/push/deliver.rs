//! Sends notifications: compares each configuration with its task, and sends where they differ.
//!
//! One task of the server follows the changes of configurations and of agent executions; what has to be sent is sent by a task
//! for each configuration, so that a receiver that is slow or gone delays nobody else. What woke a look never alters what it
//! does, so a restart needs nothing but a look at every configuration.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_execution::{Activities, ActivityTask, Emitter, Fault, OperationId, Origin};
use baton_proto::kind;
use baton_store::{Change, ChangeKind, CommitError, ListQuery, ResourceKey, StoredResource};
use baton_types::{ApiError, Digest, Uid};
use ring::hmac;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    super::task::Task,
    is_gone, remove,
    rows::{PUSH, Row, Target, execution_of},
    write,
};
use crate::{
    app::{App, now_ms, outside::Interface},
    metrics,
};

/// How long a state is tried.
pub(super) const DEADLINE: Duration = Duration::from_hours(24);
/// Annotation of an execution: the notification that was given up last, and why.
pub(super) const ABANDONED: &str = "baton.dev/push-abandoned";
/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// Pause when the store does not answer, and before everything is followed again.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Requests at the same time.
const SENDING_MAX: usize = 64;
/// Time for one request, in milliseconds.
const REQUEST_MS_MAX: u64 = 30_000;
/// Longest text that is kept of what an attempt met, in characters.
const ERROR_CHARS_MAX: usize = 256;
/// Rows read at a time.
const PAGE_ROWS: usize = 500;

/// Sends what there is to send, until the server stops.
pub(crate) struct Pushing {
    app: App,
    activities: Arc<dyn Activities>,
    sending: Arc<Semaphore>,
}

/// What follows an attempt.
enum Next {
    /// There is nothing to send now.
    Even,
    /// There may be, after a pause.
    Again(Duration),
}

/// The configurations that may have something to send, by execution; and who is at work.
#[derive(Default)]
struct Board {
    open: HashMap<Uid, HashSet<ResourceKey>>,
    running: JoinSet<ResourceKey>,
    busy: HashSet<ResourceKey>,
    /// Those that changed while they were busy.
    again: HashSet<ResourceKey>,
}

impl Pushing {
    pub(crate) fn new(app: App, activities: Arc<dyn Activities>) -> Self {
        Self { app, activities, sending: Arc::new(Semaphore::new(SENDING_MAX)) }
    }

    /// Runs until `stopping` is cancelled. What is being sent then is sent again after the next start.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let this = Arc::new(self);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                lost = this.follow() => tracing::warn!("push notifications are followed again: {lost}"),
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = sleep(STORE_PAUSE) => {}
            }
        }
    }

    /// Looks at every configuration, then at those that something happens to, until that cannot be done any more; why.
    async fn follow(self: &Arc<Self>) -> String {
        let mut board = Board::default();
        let revision = match self.open(&mut board).await {
            Ok(revision) => revision,
            Err(why) => return why.to_string(),
        };
        let watch = |kind| self.app.store().watch(Some(kind), revision);
        let (mut rows, mut executions) = match (watch(PUSH), watch(kind::AGENT_EXECUTION)) {
            (Ok(rows), Ok(executions)) => (rows, executions),
            (Err(why), _) | (_, Err(why)) => return why.to_string(),
        };
        let all: Vec<_> = board.open.values().flatten().cloned().collect();
        for key in all {
            self.touch(&mut board, key);
        }
        loop {
            tokio::select! {
                batch = rows.next() => match batch {
                    Ok(batch) => batch.changes.iter().for_each(|change| self.row_changed(&mut board, change)),
                    Err(why) => return why.to_string(),
                },
                batch = executions.next() => match batch {
                    Ok(batch) => {
                        for change in &batch.changes {
                            let keys = board.open.get(&Uid::from_bytes(change.uid)).cloned().unwrap_or_default();
                            for key in keys {
                                self.touch(&mut board, key);
                            }
                        }
                    }
                    Err(why) => return why.to_string(),
                },
                Some(ended) = board.running.join_next() => match ended {
                    Ok(key) => {
                        board.busy.remove(&key);
                        if board.again.remove(&key) {
                            self.touch(&mut board, key);
                        }
                    }
                    Err(why) => return format!("a look at a configuration stopped: {why}"),
                },
            }
        }
    }

    /// Notes every configuration that is not done; the revision from which on changes are still to be looked at.
    async fn open(&self, board: &mut Board) -> Result<u64, ApiError> {
        let (mut after, mut revision) = (None, None);
        loop {
            let query = ListQuery { after, ..ListQuery::new(PUSH, PAGE_ROWS) };
            let page = self.app.read(move |store| store.list(&query)).await?;
            let revision = *revision.get_or_insert(page.revision);
            page.items.iter().for_each(|row| board.note(&row.key, &row.body));
            match page.last.filter(|_| page.more) {
                Some(last) => after = Some(last),
                None => return Ok(revision),
            }
        }
    }

    fn row_changed(self: &Arc<Self>, board: &mut Board, change: &Arc<Change>) {
        match change.kind {
            ChangeKind::Deleted => board.forget(&change.key),
            ChangeKind::Added | ChangeKind::Modified => {
                board.note(&change.key, &change.body);
                // What this wrote itself changes nothing, and is found to be even.
                if board.has(&change.key) {
                    self.touch(board, change.key.clone());
                }
            }
        }
    }

    fn touch(self: &Arc<Self>, board: &mut Board, key: ResourceKey) {
        if board.busy.insert(key.clone()) {
            let this = Arc::clone(self);
            board.running.spawn(async move {
                loop {
                    match this.attempt(&key).await {
                        Ok(Next::Even) => return key,
                        Ok(Next::Again(pause)) => sleep(pause).await,
                        Err(error) => {
                            tracing::warn!(%key, "a push notification is looked at later: {error}");
                            sleep(STORE_PAUSE).await;
                        }
                    }
                }
            });
        } else {
            board.again.insert(key);
        }
    }

    /// Sends the state that a task is in, if the receiver does not know it.
    async fn attempt(&self, key: &ResourceKey) -> Result<Next, ApiError> {
        let lookup = key.clone();
        let Some(stored) = self.app.read(move |store| store.get(&lookup)).await? else { return Ok(Next::Even) };
        let (mut row, target) = match Row::decode(self.app.sealer(), key, &stored.body) {
            Ok(read) => read,
            Err(why) => {
                tracing::error!(%key, "a push notification configuration cannot be read: {why}");
                return Ok(Next::Even);
            }
        };
        let Some(task) = self.task_of(key).await? else { return self.orphan(&stored, &row).await };
        let state = task.standing().key();
        if row.done || row.sent == state || row.abandoned == state {
            return Ok(Next::Even);
        }
        if row.trying != state {
            (row.trying, row.since_ms, row.attempts) = (state.clone(), now_ms(), 0);
        }
        let payload = match task.whole(&self.app, 0, true).await {
            Ok(whole) => json!({"task": whole}),
            Err(gone) if is_gone(&gone) => return Ok(Next::Again(STORE_PAUSE)),
            Err(error) => return Err(error),
        };
        let sent = self.send(key, &task, &state, &target, &payload).await;
        row.attempts = row.attempts.saturating_add(1);
        let mut pause = Duration::ZERO;
        match sent {
            Ok(()) => {
                metrics::push_sent("accepted");
                (row.sent, row.abandoned) = (state, String::new());
                row.error.clear();
            }
            Err(fault) => {
                row.error = shortened(&fault.detail.clone().unwrap_or_else(|| fault.kind.clone()), &target);
                let over = now_ms().saturating_sub(row.since_ms) >= millis(DEADLINE);
                if is_final(&fault) || over {
                    metrics::push_sent(if over { "abandoned" } else { "rejected" });
                    tracing::warn!(%key, state, "a push notification was given up: {}", row.error);
                    self.show(&task, &row, &state).await;
                    row.abandoned = state;
                } else {
                    metrics::push_sent("failed");
                    pause = pause_after(row.attempts);
                }
            }
        }
        row.done = task.execution.phase().is_terminal() && pause.is_zero();
        let Some(owner) = execution_of(key) else { return Ok(Next::Even) };
        match write(&self.app, key, owner, Some(&stored), row.encode()).await {
            Ok(()) => Ok(Next::Again(pause)),
            // Set again, or deleted meanwhile: the next look sees it.
            Err(CommitError::Conflict { .. } | CommitError::NotFound { .. }) => Ok(Next::Again(Duration::ZERO)),
            Err(failed) => Err(baton_engine::commit_failed(&failed)),
        }
    }

    async fn task_of(&self, key: &ResourceKey) -> Result<Option<Task>, ApiError> {
        let Some(uid) = execution_of(key) else { return Ok(None) };
        let found = self.app.begun_through(Interface::A2a, &key.namespace, &uid.to_string()).await?;
        Ok(found.and_then(Task::of))
    }

    /// A configuration goes with its execution.
    async fn orphan(&self, stored: &StoredResource, row: &Row) -> Result<Next, ApiError> {
        if !row.done {
            metrics::push_sent("lost");
            tracing::warn!(key = %stored.key, "an execution was deleted before its push notification was delivered");
        }
        match remove(&self.app, stored).await {
            Ok(()) | Err(CommitError::NotFound { .. }) => Ok(Next::Even),
            Err(CommitError::Conflict { .. }) => Ok(Next::Again(Duration::ZERO)),
            Err(failed) => Err(baton_engine::commit_failed(&failed)),
        }
    }

    /// Notes on the execution what was given up, for people.
    async fn show(&self, task: &Task, row: &Row, state: &str) {
        let said = format!("configuration '{}', {state}, {} attempts: {}", row.id, row.attempts, row.error);
        let (Ok(uid), Ok(engine)) = (task.id.parse::<Uid>(), self.app.engine()) else { return };
        let note = move |execution: &mut baton_proto::ExecutionResource| {
            execution.metadata_mut().annotations.insert(ABANDONED.to_owned(), said);
            Ok(())
        };
        if let Err(error) = engine.update(uid, Box::new(note)).await {
            tracing::warn!(execution_id = %uid, "that a push notification was given up is not noted: {error}");
        }
    }

    async fn send(
        &self,
        key: &ResourceKey,
        task: &Task,
        state: &str,
        target: &Target,
        payload: &Value,
    ) -> Result<(), Fault> {
        let _place = self.sending.acquire().await;
        let identity = [key.name.as_str(), state].join("\0");
        let id = hex::encode(&Digest::of(identity.as_bytes()).as_bytes()[..16]);
        let headers = headers(&id, now_ms() / 1000, target, payload);
        let input = json!({
            "method": "POST", "endpoint": target.url, "headers": headers, "body": payload, "output": "response",
        });
        let request = ActivityTask {
            execution: Uid::from_bytes([0; 16]),
            namespace: key.namespace.clone(),
            name: task.execution.metadata().name.clone(),
            idempotency_key: id,
            id: OperationId::new("/", 1),
            activity: "http".to_owned(),
            input,
            start_to_close_ms: REQUEST_MS_MAX,
            emitter: Emitter::default(),
            origin: Origin::default(),
        };
        self.activities.run(request).await.map(drop)
    }
}

/// The headers of a notification. Those of the signature are what "Standard Webhooks" has, with the token as its key.
fn headers(id: &str, seconds: i64, target: &Target, payload: &Value) -> Value {
    let mut headers = json!({
        "content-type": "application/a2a+json", "a2a-version": super::super::PROTOCOL_VERSION,
        "webhook-id": id, "webhook-timestamp": seconds.to_string(),
    });
    if !target.token.is_empty() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, target.token.as_bytes());
        let signed = hmac::sign(&key, format!("{id}.{seconds}.{payload}").as_bytes());
        headers["webhook-signature"] = format!("v1,{}", STANDARD.encode(signed.as_ref())).into();
        headers["x-a2a-notification-token"] = target.token.as_str().into();
    }
    if !target.scheme.is_empty() {
        headers["authorization"] = format!("{} {}", target.scheme, target.credentials).into();
    }
    headers
}

/// Whether a receiver will never take this notification, or the policy does not let it go there.
fn is_final(fault: &Fault) -> bool {
    let answered = fault.data.as_ref().and_then(|data| data["statusCode"].as_u64());
    match answered {
        Some(status) => matches!(status, 300..500) && !matches!(status, 401 | 403 | 404 | 408 | 425 | 429),
        None => fault.non_retryable,
    }
}

/// What an attempt met, without what the client gave in confidence.
fn shortened(detail: &str, target: &Target) -> String {
    let mut text = detail.to_owned();
    for secret in [&target.token, &target.credentials].into_iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "***");
    }
    text.chars().take(ERROR_CHARS_MAX).collect()
}

fn pause_after(attempts: u32) -> Duration {
    PAUSE.0.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(PAUSE.1)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Board {
    /// Notes a configuration, or that it is done.
    fn note(&mut self, key: &ResourceKey, body: &[u8]) {
        let done = serde_json::from_slice::<Row>(body).is_ok_and(|row| row.done);
        if done {
            self.forget(key);
        } else if let Some(execution) = execution_of(key) {
            self.open.entry(execution).or_default().insert(key.clone());
        }
    }

    fn forget(&mut self, key: &ResourceKey) {
        let Some(execution) = execution_of(key) else { return };
        if let Some(keys) = self.open.get_mut(&execution) {
            keys.remove(key);
            if keys.is_empty() {
                self.open.remove(&execution);
            }
        }
    }

    fn has(&self, key: &ResourceKey) -> bool {
        execution_of(key).and_then(|execution| self.open.get(&execution)).is_some_and(|keys| keys.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_signed_with_the_token_of_its_configuration() {
        let target =
            Target { token: "t0p".into(), scheme: "Bearer".into(), credentials: "abc".into(), ..Target::default() };
        let payload = json!({"task": {"id": "x"}});
        let headers = headers("i", 7, &target, &payload);
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"t0p");
        let signature = headers["webhook-signature"].as_str().unwrap().strip_prefix("v1,").unwrap();
        hmac::verify(&key, br#"i.7.{"task":{"id":"x"}}"#, &STANDARD.decode(signature).unwrap()).unwrap();
        assert_eq!(
            (&headers["authorization"], &headers["x-a2a-notification-token"]),
            (&json!("Bearer abc"), &json!("t0p"))
        );
        let bare = super::headers("i", 7, &Target::default(), &payload);
        assert!(bare.get("webhook-signature").is_none() && bare.get("authorization").is_none());
    }

    #[test]
    fn what_is_refused_for_good_is_not_tried_again() {
        let answered = |status: u16| Fault::new("x", status, "no").with_data(json!({"statusCode": status}));
        for (status, last) in
            [(400, true), (410, true), (302, true), (429, false), (404, false), (500, false), (503, false)]
        {
            assert_eq!(is_final(&answered(status)), last, "{status}");
        }
        assert!(is_final(&Fault::new("x", 400, "refused by the policy").non_retryable()));
        assert!(!is_final(&Fault::new("x", 502, "connection refused")));
    }

    #[test]
    fn errors_are_kept_without_secrets() {
        let target = Target { token: "hunter2".into(), ..Target::default() };
        assert_eq!(shortened("no hunter2 here", &target), "no *** here");
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let seconds = [1, 2, 3, 10, 99].map(|attempts| pause_after(attempts).as_secs());
        assert_eq!(seconds, [1, 2, 4, 300, 300]);
    }
}
