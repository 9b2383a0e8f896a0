//! The handle of the engine, and its start and stop.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use baton_execution::{Activities, Outcome, Programs};
use baton_proto::{ExecutionResource, history_v1};
use baton_store::{Lane, MailboxRow, Number, Store, StoreError, Txn};
use baton_types::{ApiError, Digest, ErrorKind, Uid, Violation};
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    CALLBACK_TOKEN_BYTES_MAX, answers,
    api::{Admitted, CarriedOver, Children, Created, Deleted, Heartbeat, Mailbox, Released},
    approvals::Decide,
    delivery, errors,
    hide::Hidden,
    history::{StoreBlobs, read_events},
    host::{Host, Receiver},
    message::{AnswerReply, Change, Message, MessageKind, Reply},
    sealer::{Claims, Sealer},
    stored::Row,
    timers::Timers,
    transients::Watching,
    worker::{Route, Shared, Worker, now_ms},
};

/// Rows read at a time at start.
const RECOVERY_PAGE: usize = 1000;
/// Longest wait for a mailbox or for new history in one call.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// How the engine uses this machine.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Worker threads; executions are spread over them.
    pub workers: usize,
    /// Most executions that are kept in memory while they wait, over all workers. More live on disk alone.
    pub resident_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { workers: thread::available_parallelism().map_or(2, NonZeroUsize::get), resident_max: 1024 }
    }
}

/// What is not on this machine.
#[derive(Clone, Default)]
pub struct Elsewhere {
    /// Where the Programs of new executions run; `None` for here.
    pub host: Option<Arc<dyn Host>>,
    /// Who answers tokens that are not Baton's own.
    pub receivers: Vec<Arc<dyn Receiver>>,
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let receivers: Vec<&str> = self.receivers.iter().map(|receiver| receiver.name()).collect();
        f.debug_struct("Elsewhere").field("host", &self.host.is_some()).field("receivers", &receivers).finish()
    }
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What is unfinished cannot be read.
    #[error("read unfinished executions")]
    Store(#[source] StoreError),
    /// The system gives no thread.
    #[error("start the thread '{name}'")]
    Thread {
        /// What it was for.
        name: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// A handle of the running engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    threads: Arc<Mutex<Vec<thread::JoinHandle<()>>>>,
    pub(crate) scan: Arc<Mutex<crate::reconcile::Cursors>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Starts workers and timers over a store, and sets going what was unfinished in it. Activities run in the Tokio runtime
    /// that it is called in.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        options: EngineOptions,
        store: Store,
        sealer: Arc<Sealer>,
        programs: Arc<dyn Programs>,
        activities: Arc<dyn Activities>,
        children: Arc<dyn Children>,
        elsewhere: Elsewhere,
    ) -> Result<Self, StartError> {
        let workers = options.workers.max(1);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| crossbeam_channel::unbounded()).unzip();
        let shared = Arc::new(Shared {
            store,
            sealer,
            programs,
            activities,
            children,
            elsewhere,
            route: Arc::new(Route::new(senders)),
            timers: Timers::new(),
            runtime: tokio::runtime::Handle::current(),
            started_ms: now_ms(),
            resident_max: (options.resident_max / workers).max(16),
            known_definitions: Mutex::new(HashSet::new()),
            mailbox_answered: Notify::new(),
            followers: Mutex::new(HashMap::new()),
            followers_count: AtomicUsize::new(0),
            transients: Arc::default(),
            resident: AtomicUsize::new(0),
        });
        let engine = Self { shared: Arc::clone(&shared), threads: Arc::default(), scan: Arc::default() };
        for (index, receiver) in receivers.into_iter().enumerate() {
            let worker = Worker::new(Arc::clone(&shared), receiver);
            engine.spawn(format!("baton-worker-{index}"), move || worker.run())?;
        }
        let timing = Arc::clone(&shared);
        engine.spawn("baton-timers".to_owned(), move || timing.timers.run(&timing.store, &timing.route))?;
        let recovering = Arc::clone(&shared);
        engine.spawn("baton-recovery".to_owned(), move || {
            if let Err(error) = recover(&recovering) {
                tracing::error!(%error, "unfinished executions could not be read; the reconciler tries again");
            }
        })?;
        Ok(engine)
    }

    fn spawn(&self, name: String, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        // Programs recurse with the depth of expressions and documents; the pages are only used if they are needed.
        const STACK_BYTES: usize = 16 * 1024 * 1024;
        let thread = thread::Builder::new()
            .name(name.clone())
            .stack_size(STACK_BYTES)
            .spawn(work)
            .map_err(|source| StartError::Thread { name, source })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Stops taking work and returns when every commit under way is through. What is unfinished goes on at the next start.
    pub async fn shutdown(&self) {
        self.shared.timers.stop();
        self.shared.route.stop();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        drop(joined.await);
    }

    /// Creates an execution, or returns the one that the same request created before.
    ///
    /// # Errors
    /// AlreadyExists for another request under the name; ResourceExhausted, StorageFull, Unavailable from the store.
    pub async fn create(&self, admitted: Admitted) -> Result<Created, ApiError> {
        let number = self.shared.store.next_number();
        self.ask(number, |reply| MessageKind::Create { admitted: Box::new(admitted), reply }).await
    }

    /// Changes an execution's metadata or `spec.suspend`. A change that changes nothing keeps the resourceVersion.
    ///
    /// # Errors
    /// NotFound, what `change` refuses, and what the store refuses.
    pub async fn update(&self, uid: Uid, change: Change) -> Result<ExecutionResource, ApiError> {
        self.ask(self.number_of(uid)?, |reply| MessageKind::Update { change, reply }).await
    }

    /// Asks an execution to wind up; it ends as Cancelled. Returns once the request is durable.
    ///
    /// # Errors
    /// NotFound; FailedPrecondition if it has ended.
    pub async fn cancel(&self, uid: Uid, reason: String) -> Result<ExecutionResource, ApiError> {
        self.ask(self.number_of(uid)?, |reply| MessageKind::End { reason, terminate: false, reply }).await
    }

    /// Ends an execution at once, whatever it is doing.
    ///
    /// # Errors
    /// NotFound; FailedPrecondition if it has ended.
    pub async fn terminate(&self, uid: Uid, reason: String) -> Result<ExecutionResource, ApiError> {
        self.ask(self.number_of(uid)?, |reply| MessageKind::End { reason, terminate: true, reply }).await
    }

    /// Deletes an execution: a running one ends first, and callers are told before it goes.
    ///
    /// # Errors
    /// NotFound; Conflict if it is not at the expected revision.
    pub async fn delete(&self, uid: Uid, expected_revision: Option<u64>) -> Result<Deleted, ApiError> {
        self.ask(self.number_of(uid)?, |reply| MessageKind::Delete { expected_revision, reply }).await
    }

    /// Lets an execution that is held ([`Admitted::held`]) take its first step; any other is left as it is. Returns once the
    /// step is durable.
    ///
    /// # Errors
    /// NotFound; what the store refuses.
    pub async fn release(&self, uid: Uid, released: Released) -> Result<ExecutionResource, ApiError> {
        self.ask(self.number_of(uid)?, |reply| MessageKind::Release { released, reply }).await
    }

    /// What an execution that has ended leaves for others; `None` if nothing.
    ///
    /// # Errors
    /// NotFound; the content cannot be read.
    pub fn carried_over(&self, uid: Uid) -> Result<Option<CarriedOver>, ApiError> {
        let row = self.row(uid)?;
        let Ok(digest) = <[u8; 32]>::try_from(row.extra.carried_digest.as_slice()) else { return Ok(None) };
        let digest = Digest::from_bytes(digest);
        let content = self.shared.store.blob(digest.as_bytes()).map_err(|error| errors::read_failed(&error))?;
        let missing = || ApiError::internal(format!("what execution {uid} left, {digest}, is not in the store"));
        Ok(Some(CarriedOver { digest, content: content.ok_or_else(missing)? }))
    }

    /// Adds a return address to an execution; one that has ended answers at once.
    ///
    /// # Errors
    /// NotFound; InvalidArgument for a token that nobody here can answer; ResourceExhausted past 64 addresses.
    pub async fn attach(&self, uid: Uid, token: Vec<u8>) -> Result<ExecutionResource, ApiError> {
        self.check_token(&token)?;
        self.ask(self.number_of(uid)?, |reply| MessageKind::Attach { token, reply }).await
    }

    /// Tries undelivered answers of an execution again now: all, or that of one return address.
    ///
    /// # Errors
    /// NotFound.
    pub async fn retry_callbacks(&self, uid: Uid, fingerprint: Option<String>) -> Result<ExecutionResource, ApiError> {
        self.ask(self.number_of(uid)?, |reply| MessageKind::RetryCallbacks { fingerprint, reply }).await
    }

    /// Whether an engine here can answer a token.
    ///
    /// # Errors
    /// InvalidArgument or FailedPrecondition with the reason.
    pub fn check_token(&self, token: &[u8]) -> Result<(), ApiError> {
        if token.len() <= CALLBACK_TOKEN_BYTES_MAX
            && self.shared.sealer.open_token(token).is_none()
            && let Some(verdict) = self.shared.elsewhere.receivers.iter().find_map(|receiver| receiver.accepts(token))
        {
            return verdict;
        }
        self.open(token).map(|_| ())
    }

    /// The execution that waits, or has waited, for the answer to a token; `None` for a caller outside, and for what is no token
    /// of ours.
    pub fn waits_for(&self, token: &[u8]) -> Option<Uid> {
        let claims = self.shared.sealer.open_token(token)?;
        claims.uid().filter(|_| !claims.is_mailbox())
    }

    /// Answers a wait by its token. Returns the token's fingerprint once the answer is durable. Where the answer repeats
    /// the token, its fingerprint is recorded instead.
    ///
    /// # Errors
    /// InvalidArgument (not ours, tampered with), NotFound (its execution is gone), FailedPrecondition (expired, answered
    /// before, of a stale attempt), TooLarge. None of them changes anything.
    pub async fn answer(&self, token: &[u8], mut outcome: Outcome) -> Result<String, ApiError> {
        let (claims, fingerprint) = self.open(token)?;
        if let Some(hidden) = Hidden::new(token) {
            hidden.outcome(&mut outcome);
        }
        answers::check_payload(&outcome)?;
        if !claims.is_mailbox() {
            let number = claims.number;
            return self
                .ask(number, |reply| MessageKind::Answer {
                    claims,
                    fingerprint,
                    outcome,
                    used: None,
                    reply: AnswerReply::Caller(reply),
                })
                .await;
        }
        let (reply, answer) = oneshot::channel();
        delivery::put_in_mailbox(&self.shared, &claims, &outcome, move |result| drop(reply.send(result)));
        answer.await.map_err(|_| errors::stopped())?.map(|()| fingerprint)
    }

    /// Decides on a question of an execution, known by the name of its approval. Returns once the decision is durable.
    ///
    /// # Errors
    /// NotFound; InvalidArgument and Invalid for a decision that cannot be taken; Conflict if it was decided before, if its
    /// time is over, or if the digest is that of other arguments. None of them changes anything.
    pub async fn decide(&self, uid: Uid, name: String, decide: Decide) -> Result<(), ApiError> {
        let decide = Box::new(decide);
        self.ask(self.number_of(uid)?, |reply| MessageKind::Decide { name, decide, reply }).await
    }

    /// Says that somebody still works on the answer to a wait, and learns whether it is still wanted.
    ///
    /// # Errors
    /// As for [`Self::answer`].
    pub async fn heartbeat(&self, token: &[u8]) -> Result<Heartbeat, ApiError> {
        let (claims, fingerprint) = self.open(token)?;
        if claims.is_mailbox() {
            return Ok(Heartbeat { fingerprint, cancel_requested: false });
        }
        let number = claims.number;
        self.ask(number, |reply| MessageKind::Heartbeat { claims, fingerprint, reply }).await
    }

    /// Makes a return address for a caller outside.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn create_mailbox(&self, namespace: &str, expires_after: Duration) -> Result<Mailbox, ApiError> {
        let id = self.shared.sealer.random_id().map_err(|error| ApiError::internal(error.to_string()))?;
        let expires_ms = now_ms().saturating_add(i64::try_from(expires_after.as_millis()).unwrap_or(i64::MAX));
        let claims = Claims { namespace: namespace.to_owned(), uid: id.to_vec(), expires_ms, ..Claims::default() };
        let row = MailboxRow { id, expires_ms, answered: false, body: bytes::Bytes::new() };
        let txn = Txn { mailbox_put: vec![row], ..Txn::default() };
        self.shared.store.commit_async(Lane::External, txn).await.map_err(|error| errors::commit_failed(&error))?;
        let token = self.shared.sealer.mint(&claims).into_bytes();
        Ok(Mailbox { fingerprint: baton_types::fingerprint(&token), token, expires_ms })
    }

    /// The answer in a mailbox, waiting for it at most `timeout` (and at most a minute). `None` if there is none yet.
    ///
    /// # Errors
    /// InvalidArgument for a token that is not of a mailbox; NotFound if it was swept.
    pub async fn await_mailbox(&self, token: &[u8], timeout: Duration) -> Result<Option<Outcome>, ApiError> {
        let fingerprint = baton_types::fingerprint(token);
        let claims = self
            .shared
            .sealer
            .open_token(token)
            .filter(Claims::is_mailbox)
            .ok_or_else(|| errors::token_unknown(&fingerprint))?;
        let id: [u8; 16] = claims.uid.as_slice().try_into().map_err(|_| errors::token_unknown(&fingerprint))?;
        let deadline = tokio::time::Instant::now() + timeout.min(WAIT_MAX);
        loop {
            let answered = self.shared.mailbox_answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            let row = self
                .shared
                .store
                .mailbox(&id)
                .map_err(|error| errors::read_failed(&error))?
                .ok_or_else(|| errors::callback_gone(&fingerprint))?;
            if row.answered {
                return serde_json::from_slice(&row.body)
                    .map(Some)
                    .map_err(|error| ApiError::internal(error.to_string()));
            }
            if tokio::time::timeout_at(deadline, answered).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Events of an execution's history after a number, at most `limit`, and whether the execution has ended.
    ///
    /// # Errors
    /// NotFound.
    pub fn history(
        &self,
        uid: Uid,
        after: i32,
        limit: usize,
    ) -> Result<(Vec<history_v1::HistoryEvent>, bool), ApiError> {
        // The row is read first: if it says ended, all events are there to be read.
        let row = self.row(uid)?;
        let events = read_events(&self.shared.store, &row, i64::from(after), limit)?;
        Ok((events, row.resource.phase().is_terminal()))
    }

    /// Waits until an execution's history has events after a number, or has ended, or a minute has passed.
    ///
    /// # Errors
    /// NotFound.
    pub async fn wait_history(&self, uid: Uid, after: i32) -> Result<(), ApiError> {
        let number = self.number_of(uid)?;
        let mut follower = Follower::new(&self.shared, number);
        let (events, ended) = self.history(uid, after, 1)?;
        if events.is_empty() && !ended {
            drop(tokio::time::timeout(WAIT_MAX, follower.receiver.changed()).await);
        }
        Ok(())
    }

    /// Looks on while the activities of an execution run: at what they emit from their beginning on, and at each change of its row.
    ///
    /// # Errors
    /// NotFound; ResourceExhausted if [`WATCHERS_MAX`](crate::WATCHERS_MAX) look on already.
    pub fn watch(&self, uid: Uid) -> Result<Watching, ApiError> {
        self.shared.transients.watch(self.number_of(uid)?)
    }

    /// The whole output of an execution as JSON text, also where it is too long for `status`.
    ///
    /// # Errors
    /// NotFound, also if there is no output.
    pub fn output(&self, uid: Uid) -> Result<String, ApiError> {
        let row = self.row(uid)?;
        let stored = Digest::from_bytes(match <[u8; 32]>::try_from(row.extra.output_digest.as_slice()) {
            Ok(digest) => digest,
            Err(_) => {
                return row
                    .resource
                    .output()
                    .and_then(Option::as_ref)
                    .map(|output| output.text.clone())
                    .ok_or_else(|| ApiError::new(ErrorKind::NotFound, "NO_OUTPUT", "the execution has no output"));
            }
        });
        let content = baton_proto::DataLoader::load(&StoreBlobs::new(&self.shared.store), &stored)
            .ok_or_else(|| ApiError::internal(format!("output {stored} is not in the store")))?;
        String::from_utf8(content).map_err(|error| ApiError::internal(error.to_string()))
    }

    /// Executions that are in memory now.
    pub fn resident(&self) -> usize {
        self.shared.resident.load(Ordering::Relaxed)
    }

    pub(crate) fn row(&self, uid: Uid) -> Result<Row, ApiError> {
        let stored = self.shared.store.get_by_uid(*uid.as_bytes()).map_err(|error| errors::read_failed(&error))?;
        Row::read(&stored.ok_or_else(|| gone(uid))?, &self.shared.sealer)
    }

    pub(crate) fn number_of(&self, uid: Uid) -> Result<Number, ApiError> {
        let stored = self.shared.store.get_by_uid(*uid.as_bytes()).map_err(|error| errors::read_failed(&error))?;
        stored.map(|stored| stored.number).ok_or_else(|| gone(uid))
    }

    fn open(&self, token: &[u8]) -> Result<(Claims, String), ApiError> {
        if token.len() > CALLBACK_TOKEN_BYTES_MAX {
            let message = format!("has {} bytes, allowed are at most {CALLBACK_TOKEN_BYTES_MAX}", token.len());
            return Err(ApiError::violations(vec![Violation::new("callbackToken", message)]));
        }
        let fingerprint = baton_types::fingerprint(token);
        let claims = self.shared.sealer.open_token(token).ok_or_else(|| errors::token_unknown(&fingerprint))?;
        if claims.expires_ms < now_ms() {
            return Err(errors::token_expired(&fingerprint));
        }
        Ok((claims, fingerprint))
    }

    pub(crate) async fn ask<T>(
        &self,
        number: Number,
        message: impl FnOnce(Reply<T>) -> MessageKind,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.shared.route.send(Message { number, kind: message(reply) });
        answer.await.map_err(|_| errors::stopped())?
    }
}

fn gone(uid: Uid) -> ApiError {
    ApiError::new(ErrorKind::NotFound, "NOT_FOUND", format!("no execution with uid {uid}"))
}

/// Sets going what has work to do and what is to be delivered.
fn recover(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let mut after = 0;
    loop {
        let page = shared.store.active(after, RECOVERY_PAGE)?;
        let Some(last) = page.last() else { break };
        after = *last;
        for number in page {
            shared.route.send(Message { number, kind: MessageKind::Recover });
        }
    }
    for row in shared.store.outbox_due(i64::MAX, usize::MAX >> 1)?.items {
        // Those whose pause is not over keep it.
        if row.attempts == 0 {
            shared.route.send(Message { number: row.n, kind: MessageKind::Deliver(row) });
        }
    }
    Ok(())
}

/// Somebody who follows a history, entered for as long as this lives.
struct Follower {
    shared: Arc<Shared>,
    number: Number,
    receiver: watch::Receiver<i64>,
}

impl Follower {
    fn new(shared: &Arc<Shared>, number: Number) -> Self {
        let mut followers = shared.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = followers.entry(number).or_insert_with(|| watch::channel(0).0).subscribe();
        shared.followers_count.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared), number, receiver }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followers = self.shared.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if followers.get(&self.number).is_some_and(|sender| sender.receiver_count() <= 1) {
            followers.remove(&self.number);
        }
        self.shared.followers_count.fetch_sub(1, Ordering::Relaxed);
    }
}
