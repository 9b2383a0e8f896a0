//! The worker thread: one queue for all its executions, one commit under way for each of them.
//!
//! A wake-up takes what is in the queue, lets each message change its execution's draft, and then hands the drafts to the
//! store. So inputs that arrive together become one step and one transaction.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use baton_execution::{Activities, Programs};
use baton_store::{CommitError, Committed, Lane, Number, Store};
use baton_types::{ApiError, Digest};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::{Notify, watch};

use crate::{
    answers,
    api::{Children, Created, Deleted},
    approvals, callers, changes, delivery, effects,
    engine::Elsewhere,
    entry::{AfterCommit, Entry},
    errors, held, hosted,
    message::{AnswerReply, DeliveryResult, Message, MessageKind},
    sealer::Sealer,
    steps,
    stored::Row,
    timers::Timers,
    transients::Transients,
};

/// Messages taken before drafts are handed to the store.
const DRAIN_MAX: usize = 512;
/// How long an execution waits before it is written down that it waits: most answers come sooner.
const SETTLE_AFTER: Duration = Duration::from_millis(40);
/// How long a worker looks for the word of its only commit before it sleeps: about as long as a commit takes. Waking a
/// sleeper costs a third of that again, for every step of an execution that runs alone.
const LOOK_FOR: Duration = Duration::from_micros(200);
/// Pause before a commit is repeated that found no room.
const RECOMMIT_AFTER: Duration = Duration::from_millis(250);

/// Milliseconds since 1970, never going back within this process.
pub(crate) fn now_ms() -> i64 {
    static LATEST: AtomicI64 = AtomicI64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    LATEST.fetch_max(now, Ordering::Relaxed).max(now)
}

/// Finds the worker of an execution.
pub(crate) struct Route {
    workers: Vec<Sender<Message>>,
}

impl Route {
    pub(crate) fn new(workers: Vec<Sender<Message>>) -> Self {
        Self { workers }
    }

    /// Queues a message. After the end of the workers it is dropped, and with it the reply: the caller hears of it.
    pub(crate) fn send(&self, message: Message) {
        let index =
            usize::try_from(message.number.rem_euclid(i64::try_from(self.workers.len()).unwrap_or(1))).unwrap_or(0);
        if let Some(worker) = self.workers.get(index) {
            let _gone = worker.send(message);
        }
    }

    pub(crate) fn stop(&self) {
        for worker in &self.workers {
            let _gone = worker.send(Message { number: 0, kind: MessageKind::Stop });
        }
    }
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) programs: Arc<dyn Programs>,
    pub(crate) activities: Arc<dyn Activities>,
    pub(crate) children: Arc<dyn Children>,
    pub(crate) elsewhere: Elsewhere,
    pub(crate) route: Arc<Route>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Most executions held in memory by one worker while they wait.
    pub(crate) resident_max: usize,
    /// When the engine started, in milliseconds since 1970.
    pub(crate) started_ms: i64,
    /// Templates whose content is known to be in the store.
    pub(crate) known_definitions: Mutex<HashSet<Digest>>,
    /// Woken when a mailbox was answered.
    pub(crate) mailbox_answered: Notify,
    /// Who follows which history; empty most of the time.
    pub(crate) followers: Mutex<HashMap<Number, watch::Sender<i64>>>,
    pub(crate) followers_count: AtomicUsize,
    /// What activities emit while they run.
    pub(crate) transients: Arc<Transients>,
    /// Executions held in memory, over all workers.
    pub(crate) resident: AtomicUsize,
}

impl Shared {
    pub(crate) fn knows_definition(&self, digest: &Digest) -> bool {
        self.known_definitions.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    fn definition_is_stored(&self, digest: Digest) {
        self.known_definitions.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    fn tell_followers(&self, number: Number, last_event: i64) {
        if self.followers_count.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(follower) = self.followers.lock().unwrap_or_else(PoisonError::into_inner).get(&number) {
            follower.send_replace(last_event);
        }
    }
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    receiver: Receiver<Message>,
    entries: HashMap<Number, Box<Entry>>,
    dirty: Vec<Number>,
    /// Commits whose word is to come.
    under_way: usize,
    /// Executions to look at again, in order of time.
    settle: VecDeque<(Instant, Number)>,
    recommit: VecDeque<(Instant, Number)>,
    /// Executions that waited when last seen, in that order: the first to leave memory.
    parked: VecDeque<Number>,
    stopping: bool,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, receiver: Receiver<Message>) -> Self {
        Self {
            shared,
            receiver,
            entries: HashMap::new(),
            dirty: Vec::new(),
            under_way: 0,
            settle: VecDeque::new(),
            recommit: VecDeque::new(),
            parked: VecDeque::new(),
            stopping: false,
        }
    }

    /// The thread: works until it is told to stop and nothing is under way.
    pub(crate) fn run(mut self) {
        // Activities and children are begun on this thread, and may want the runtime's timers and sockets.
        let runtime = self.shared.runtime.clone();
        let _entered = runtime.enter();
        loop {
            let next = [self.settle.front(), self.recommit.front()].into_iter().flatten().map(|(at, _)| *at).min();
            let first = match (self.look(), next) {
                (Some(message), _) => Ok(message),
                (None, Some(at)) => self.receiver.recv_deadline(at),
                (None, None) => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for _ in 0..DRAIN_MAX {
                let Ok(message) = self.receiver.try_recv() else { break };
                self.take(message);
            }
            self.wake_due();
            self.submit_dirty();
            self.shrink();
            // What waits for room was not written; it is decided anew at the next start.
            if self.stopping && self.entries.values().all(|entry| !entry.committing || entry.waits_for_room) {
                return;
            }
        }
    }

    /// Looks for a message without sleeping, if one is about to come.
    fn look(&self) -> Option<Message> {
        if self.under_way != 1 {
            return None;
        }
        let begun = Instant::now();
        while begun.elapsed() < LOOK_FOR {
            if let Ok(message) = self.receiver.try_recv() {
                return Some(message);
            }
            std::thread::yield_now();
        }
        None
    }

    fn take(&mut self, message: Message) {
        let Message { number, kind } = message;
        match kind {
            MessageKind::Stop => self.stopping = true,
            MessageKind::Committed(result) => {
                self.under_way -= 1;
                self.committed(number, result);
            }
            MessageKind::Create { admitted, reply } => {
                let created = catch_unwind(AssertUnwindSafe(|| steps::create(&self.shared, number, *admitted, reply)));
                match created {
                    Ok(entry) => {
                        self.entries.insert(number, Box::new(entry));
                        self.dirty.push(number);
                    }
                    Err(_panic) => {
                        tracing::error!(number, "the creation of an execution panicked; nothing was written");
                    }
                }
            }
            kind => self.take_for_existing(number, kind),
        }
    }

    fn take_for_existing(&mut self, number: Number, kind: MessageKind) {
        if !self.entries.contains_key(&number) {
            // Whoever awaits a child's creation, or wants it no more, is in memory: for anybody else it is no news.
            if matches!(kind, MessageKind::ChildDone { .. }) {
                return;
            }
            match self.load_row(number) {
                Ok(Some(entry)) => {
                    self.entries.insert(number, Box::new(entry));
                }
                Ok(None) => return refuse(&self.shared, kind, None),
                Err(error) => return refuse(&self.shared, kind, Some(&error)),
            }
        }
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if entry.committing {
            entry.queue.push_back(Message { number, kind });
            return;
        }
        if !guarded(&self.shared, entry, kind) {
            return self.drop_entry(number, &errors::panicked());
        }
        self.drain_queue(number);
        self.dirty.push(number);
    }

    fn load_row(&self, number: Number) -> Result<Option<Entry>, ApiError> {
        let stored = self.shared.store.get_by_number(number).map_err(|error| errors::read_failed(&error))?;
        stored.map(|stored| Row::read(&stored, &self.shared.sealer).map(Entry::from_row)).transpose()
    }

    fn wake_due(&mut self) {
        let now = Instant::now();
        while let Some((_, number)) = self.settle.front().copied().filter(|(at, _)| *at <= now) {
            self.settle.pop_front();
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.settling = false;
            }
            if self.entries.contains_key(&number) {
                self.take_for_existing(number, MessageKind::Settle);
            }
        }
        while let Some((_, number)) = self.recommit.front().copied().filter(|(at, _)| *at <= now) {
            self.recommit.pop_front();
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.committing = false;
                entry.waits_for_room = false;
                self.dirty.push(number);
            }
        }
    }

    fn submit_dirty(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            if entry.committing {
                continue;
            }
            if entry.draft.is_empty() {
                self.rest(number);
                continue;
            }
            let lane = if entry.draft.create && entry.owner.is_none() { Lane::External } else { Lane::Internal };
            match entry.transaction() {
                Ok(txn) => {
                    entry.committing = true;
                    self.under_way += 1;
                    let route = Arc::clone(&self.shared.route);
                    let done = move |result| route.send(Message { number, kind: MessageKind::Committed(result) });
                    self.shared.store.commit(lane, txn, Box::new(done));
                }
                Err(error) => {
                    tracing::error!(execution_id = %entry.uid, detail = error.detail, "a step could not be written");
                    self.drop_entry(number, &error);
                }
            }
        }
    }

    fn committed(&mut self, number: Number, result: Result<Committed, CommitError>) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let revisions = match result {
            Ok(committed) => committed.revisions,
            Err(error) => return self.commit_failed(number, &error),
        };
        entry.committing = false;
        if let Some(revision) = entry.own_revision(&revisions) {
            entry.revision = revision;
            entry.resource.metadata_mut().resource_version = revision.to_string();
        }
        let last_event = entry.draft.step.events.last().map(|event| event.number);
        let (step_effects, draft) = entry.committed();
        self.shared.timers.arm(
            &[draft.timers_set, draft.step.timers_set.iter().map(|timer| entry.timer_row(*timer)).collect()].concat(),
        );
        if let Some(definition) = draft.definition.filter(|definition| definition.keep) {
            self.shared.definition_is_stored(definition.digest);
        }
        for effect in step_effects {
            effects::carry_out(&self.shared, entry, effect);
        }
        for row in draft.outbox_put {
            delivery::dispatch(&self.shared, entry, &row);
        }
        for after in draft.after {
            tell(&self.shared, entry, after, draft.delete);
        }
        if let Some(last_event) = last_event {
            self.shared.tell_followers(number, last_event);
        }
        if draft.put {
            self.shared.transients.written(number);
        }
        if draft.delete {
            let queue = std::mem::take(&mut entry.queue);
            self.entries.remove(&number);
            for message in queue {
                refuse(&self.shared, message.kind, None);
            }
            return;
        }
        self.drain_queue(number);
        self.dirty.push(number);
    }

    /// Takes what has queued up, once: what has to wait for a commit queues up again.
    fn drain_queue(&mut self, number: Number) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        for _ in 0..entry.queue.len() {
            let Some(message) = entry.queue.pop_front() else { break };
            if !guarded(&self.shared, entry, message.kind) {
                return self.drop_entry(number, &errors::panicked());
            }
        }
    }

    fn commit_failed(&mut self, number: Number, error: &CommitError) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if entry.draft.create {
            return self.create_failed(number, error);
        }
        match error {
            // Nothing was written and nothing is wrong with the step: it waits for room, or for the database. Its execution
            // stays as it is.
            CommitError::DiskFull { .. } | CommitError::Overloaded { .. } | CommitError::Unavailable { .. } => {
                tracing::warn!(execution_id = %entry.uid, %error, "a step waits to be written");
                entry.waits_for_room = true;
                self.recommit.push_back((Instant::now() + RECOMMIT_AFTER, number));
            }
            CommitError::Failed { .. } => self.drop_entry(number, &errors::commit_failed(error)),
            CommitError::Conflict { .. }
            | CommitError::Exists { .. }
            | CommitError::NotFound { .. }
            | CommitError::Rejected { .. } => {
                tracing::error!(execution_id = %entry.uid, %error, "a step was refused by the store; the execution is read again");
                self.drop_entry(number, &errors::commit_failed(error));
                self.shared.route.send(Message { number, kind: MessageKind::Recover });
            }
        }
    }

    fn create_failed(&mut self, number: Number, error: &CommitError) {
        let Some(mut entry) = self.entries.remove(&number) else { return };
        let refusal = errors::commit_failed(error);
        for after in std::mem::take(&mut entry.draft.after) {
            match (after, error) {
                (AfterCommit::Created { reply, .. }, CommitError::Exists { number, .. }) => {
                    let token = entry
                        .extra
                        .addresses
                        .first()
                        .and_then(|address| address.token(&self.shared.sealer, entry.uid))
                        .unwrap_or_default();
                    let kind = MessageKind::Repeat {
                        request_id: entry.resource.request_id().to_owned(),
                        spec_digest: entry.extra.spec_digest.clone(),
                        token,
                        reply,
                    };
                    self.shared.route.send(Message { number: *number, kind });
                }
                (after, _) => tell_error(&self.shared, after, &refusal),
            }
        }
        for message in entry.queue {
            refuse(&self.shared, message.kind, Some(&refusal));
        }
    }

    /// Forgets what is in memory of an execution; the store has the truth.
    fn drop_entry(&mut self, number: Number, error: &ApiError) {
        let Some(mut entry) = self.entries.remove(&number) else { return };
        for (_, running) in entry.running.drain() {
            running.abort();
        }
        for after in std::mem::take(&mut entry.draft.after) {
            tell_error(&self.shared, after, error);
        }
        for message in entry.queue {
            refuse(&self.shared, message.kind, Some(error));
        }
    }

    /// Nothing is to be written of an execution now: note when to look again, or let it leave memory.
    fn rest(&mut self, number: Number) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if entry.is_closed() && entry.is_idle() {
            // Word of its answers is about to come back; until then it is kept like one that waits.
            if entry.has_answers_under_way() {
                self.park(number);
            } else {
                self.entries.remove(&number);
            }
        } else if steps::wants_settling(entry) {
            if !entry.settling {
                entry.settling = true;
                self.settle.push_back((Instant::now() + SETTLE_AFTER, number));
            }
        } else if entry.is_idle() {
            self.park(number);
        }
    }

    /// Puts an execution last among those that may leave memory, once.
    fn park(&mut self, number: Number) {
        if let Some(entry) = self.entries.get_mut(&number).filter(|entry| !entry.in_parked) {
            entry.in_parked = true;
            self.parked.push_back(number);
        }
    }

    fn shrink(&mut self) {
        while self.entries.len() > self.shared.resident_max {
            let Some(number) = self.parked.pop_front() else { break };
            match self.entries.get_mut(&number) {
                Some(entry) if entry.is_idle() => drop(self.entries.remove(&number)),
                Some(entry) => entry.in_parked = false,
                None => {}
            }
        }
        // Numbers of executions that have left otherwise pile up only until here.
        if self.parked.len() > 4 * self.shared.resident_max {
            let entries = &self.entries;
            self.parked.retain(|number| entries.contains_key(number));
        }
        self.shared.resident.store(self.entries.len(), Ordering::Relaxed);
    }
}

/// As [`handle`]. `false` if it panicked: a bug, which must not take the executions of this worker down with it.
fn guarded(shared: &Arc<Shared>, entry: &mut Entry, kind: MessageKind) -> bool {
    let handled = catch_unwind(AssertUnwindSafe(|| {
        handle(shared, entry, kind);
        steps::redo_open(shared, entry);
    }));
    if handled.is_err() {
        tracing::error!(execution_id = %entry.uid, name = entry.resource.metadata().name, "a step panicked; the execution is read again when it is next needed");
    }
    handled.is_ok()
}

/// Lets one message change the draft of its execution.
fn handle(shared: &Arc<Shared>, entry: &mut Entry, kind: MessageKind) {
    if entry.draft.delete {
        return refuse(shared, kind, None);
    }
    // A version that a writer saw is only known to be the present one when nothing is on its way to the store.
    if entry.draft.put && matches!(kind, MessageKind::Update { .. } | MessageKind::Delete { .. }) {
        return entry.queue.push_back(Message { number: entry.number, kind });
    }
    steps::record_started_children(shared, entry);
    match kind {
        MessageKind::Recover => {
            steps::ensure_running(shared, entry);
        }
        MessageKind::ActivityDone { id, result } => steps::activity_done(shared, entry, id, result),
        MessageKind::ChildDone { id, result } => steps::child_done(shared, entry, id, result),
        MessageKind::Answer { claims, fingerprint, outcome, used, reply } => {
            answers::answer(
                shared,
                entry,
                &claims,
                fingerprint,
                answers::Answer { outcome, used: used.map(|used| *used) },
                reply,
            );
        }
        MessageKind::Heartbeat { claims, fingerprint, reply } => {
            let _gone = reply.send(answers::heartbeat(shared, entry, &claims, fingerprint));
        }
        MessageKind::Decide { name, decide, reply } => approvals::decide(shared, entry, &name, *decide, reply),
        MessageKind::TimerDue(row) => steps::timer_due(shared, entry, row),
        MessageKind::End { reason, terminate, reply } => steps::end(shared, entry, &reason, terminate, reply),
        MessageKind::CallerGone { caller, operation, ack } => {
            steps::caller_gone(shared, entry, caller, operation.as_ref(), ack);
        }
        MessageKind::ChildMissing { position } => steps::child_missing(shared, entry, &position),
        MessageKind::Settle => steps::settle(shared, entry),
        MessageKind::Update { change, reply } => changes::update(shared, entry, change, reply),
        MessageKind::Release { released, reply } => held::release(shared, entry, released, reply),
        MessageKind::Delete { expected_revision, reply } => changes::delete(shared, entry, expected_revision, reply),
        MessageKind::Attach { token, reply } => changes::attach(shared, entry, &token, reply),
        MessageKind::Repeat { request_id, spec_digest, token, reply } => {
            changes::repeat(shared, entry, &request_id, &spec_digest, &token, reply);
        }
        MessageKind::RetryCallbacks { fingerprint, reply } => {
            delivery::retry(shared, entry, fingerprint.as_deref(), reply);
        }
        MessageKind::Deliver(row) => delivery::dispatch(shared, entry, &row),
        MessageKind::Delivered { outbox_id, fingerprint, result } => {
            delivery::settled(shared, entry, outbox_id, &fingerprint, result);
        }
        MessageKind::Report { report, reply } => hosted::report(shared, entry, report, reply),
        MessageKind::Task { id, reply } => {
            let _gone = reply.send(hosted::task(shared, entry, &id));
        }
        MessageKind::HostDone { outbox_id, attempts, result } => {
            hosted::given(shared, entry, outbox_id, attempts, result);
        }
        MessageKind::HostState(state) => hosted::state(shared, entry, state),
        MessageKind::CallersHeard { row, heard } => callers::heard(shared, entry, row, heard),
        MessageKind::Create { .. } | MessageKind::Committed(_) | MessageKind::Stop => {}
    }
}

/// Answers whoever waits for a commit that is durable.
fn tell(shared: &Arc<Shared>, entry: &mut Entry, after: AfterCommit, deleted: bool) {
    match after {
        AfterCommit::Resource(reply) => {
            let _gone = reply.send(Ok(entry.resource.clone()));
        }
        AfterCommit::Created { reply, existing } => {
            let _gone = reply.send(Ok(Created { resource: entry.resource.clone(), existing }));
        }
        AfterCommit::Deleted { reply } => {
            if !deleted && changes::delete_if_free(entry) {
                entry.draft.after.push(AfterCommit::Deleted { reply });
            } else {
                let _gone = reply.send(Ok(Deleted { gone: deleted, resource: entry.resource.clone() }));
            }
        }
        AfterCommit::Answered { reply: AnswerReply::Caller(reply), fingerprint } => {
            let _gone = reply.send(Ok(fingerprint));
        }
        AfterCommit::Answered { reply: AnswerReply::Outbox { number, outbox_id }, fingerprint } => {
            shared.route.send(Message {
                number,
                kind: MessageKind::Delivered { outbox_id, fingerprint, result: DeliveryResult::Delivered },
            });
        }
        AfterCommit::Reported { reply, reported } => {
            let _gone = reply.send(Ok(reported));
        }
        AfterCommit::Decided(reply) => {
            let _gone = reply.send(Ok(()));
        }
        AfterCommit::Ack(ack) => ack.done(),
    }
}

fn tell_error(shared: &Arc<Shared>, after: AfterCommit, error: &ApiError) {
    match after {
        AfterCommit::Resource(reply) => drop(reply.send(Err(error.clone()))),
        AfterCommit::Created { reply, .. } => drop(reply.send(Err(error.clone()))),
        AfterCommit::Deleted { reply } => drop(reply.send(Err(error.clone()))),
        AfterCommit::Answered { reply: AnswerReply::Caller(reply), .. } => drop(reply.send(Err(error.clone()))),
        AfterCommit::Answered { reply: AnswerReply::Outbox { number, outbox_id }, fingerprint } => {
            let result = DeliveryResult::Failed(error.to_string());
            shared.route.send(Message { number, kind: MessageKind::Delivered { outbox_id, fingerprint, result } });
        }
        AfterCommit::Reported { reply, .. } => drop(reply.send(Err(error.clone()))),
        AfterCommit::Decided(reply) => drop(reply.send(Err(error.clone()))),
        AfterCommit::Ack(ack) => drop(ack),
    }
}

/// Answers a message whose execution is not there (`error` is `None`) or cannot be read.
fn refuse(shared: &Arc<Shared>, kind: MessageKind, error: Option<&ApiError>) {
    let gone = || {
        error.cloned().unwrap_or_else(|| {
            ApiError::new(baton_types::ErrorKind::NotFound, "NOT_FOUND", "the execution does not exist any more")
        })
    };
    match kind {
        MessageKind::Answer { fingerprint, reply, .. } => {
            let refusal = error.cloned().unwrap_or_else(|| errors::callback_gone(&fingerprint));
            match reply {
                AnswerReply::Caller(reply) => drop(reply.send(Err(refusal))),
                AnswerReply::Outbox { number, outbox_id } => {
                    let text = refusal.to_string();
                    let result =
                        if error.is_some() { DeliveryResult::Failed(text) } else { DeliveryResult::Rejected(text) };
                    shared
                        .route
                        .send(Message { number, kind: MessageKind::Delivered { outbox_id, fingerprint, result } });
                }
            }
        }
        MessageKind::Heartbeat { fingerprint, reply, .. } => {
            drop(reply.send(Err(error.cloned().unwrap_or_else(|| errors::callback_gone(&fingerprint)))));
        }
        MessageKind::Create { reply, .. } | MessageKind::Repeat { reply, .. } => drop(reply.send(Err(gone()))),
        MessageKind::End { reply, .. }
        | MessageKind::Update { reply, .. }
        | MessageKind::Release { reply, .. }
        | MessageKind::Attach { reply, .. }
        | MessageKind::RetryCallbacks { reply, .. } => {
            drop(reply.send(Err(gone())));
        }
        MessageKind::Delete { reply, .. } => drop(reply.send(Err(gone()))),
        MessageKind::Decide { reply, .. } => drop(reply.send(Err(gone()))),
        MessageKind::Report { reply, .. } => drop(reply.send(Err(gone()))),
        MessageKind::Task { reply, .. } => drop(reply.send(Err(gone()))),
        MessageKind::Recover
        | MessageKind::TimerDue(_)
        | MessageKind::Deliver(_)
        | MessageKind::ActivityDone { .. } => {
            if let Some(error) = error {
                tracing::error!(detail = error.detail, %error, "an execution cannot be read");
            }
        }
        MessageKind::ChildDone { .. }
        | MessageKind::CallerGone { .. }
        | MessageKind::ChildMissing { .. }
        | MessageKind::Delivered { .. }
        | MessageKind::Committed(_)
        | MessageKind::HostDone { .. }
        | MessageKind::HostState(_)
        | MessageKind::CallersHeard { .. }
        | MessageKind::Settle
        | MessageKind::Stop => {}
    }
}
