//! Executions whose Program runs at a [`Host`](crate::Host): what goes there, what comes back.
//!
//! The entry's `execution` is then the follower: it takes what the workflow reports, and is never fed by itself, but for
//! an end before the first report. What the engine has for the workflow passes the outbox.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use baton_execution::{Ending, Fault, HistoryEvent, HistoryEventKind, Input, OperationId, Outcome, Start, fault_type};
use baton_proto::{DataLoader, Timestamp, condition, decode_event, encode_event, history_v1};
use baton_store::{OutboxRow, OutboxUpdate};
use baton_types::{ApiError, Digest, ErrorKind, Phase};
use bytes::Bytes;
use futures::FutureExt as _;
use prost::Message as _;

use crate::{
    changes, effects,
    entry::{AfterCommit, Entry, OutboxMessage, Record},
    errors,
    execution::{Stalled, Step, StepEffect},
    history::StoreBlobs,
    host::{HostEnding, HostError, HostState, HostedInput, HostedRun, HostedStart, HostedTask, Report, Reported},
    ledger,
    message::{Message, MessageKind, Reply},
    steps,
    worker::{Shared, now_ms},
};

/// First and longest pause before something is given to the host again, in milliseconds. The longest is short: what waits
/// for the host is to go on soon after it is back.
const RETRY_MS: (i64, i64) = (500, 10_000);
/// Inputs are given together up to this size, in bytes: a host has limits of its own.
const TOGETHER_BYTES_MAX: usize = 256 * 1024;
/// Attempts after which it is shown that the host does not take something.
const SHOWN_AFTER: u32 = 3;
/// Holds a deleted execution until its workflow has ended too.
const TERMINATION_FINALIZER: &str = "baton.dev/temporal-termination";

/// What an outbox row has for the host; one of its fields is set.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HostMessage {
    /// Inputs; for a start the first one.
    #[prost(message, repeated, tag = "1")]
    pub(crate) events: Vec<history_v1::HistoryEvent>,
    #[prost(bool, tag = "2")]
    pub(crate) start: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) suspend: Option<SuspendMessage>,
    #[prost(string, optional, tag = "4")]
    pub(crate) cancel: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) terminate: Option<String>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct SuspendMessage {
    #[prost(bool, tag = "1")]
    pub(crate) suspended: bool,
}

/// An answer that was taken here and that the workflow has not reported yet: a second one is refused.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answered {
    #[prost(string, tag = "1")]
    pub(crate) position: String,
    #[prost(uint32, tag = "2")]
    pub(crate) attempt: u32,
    /// Of the outcome, to know the same answer again.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) digest: Vec<u8>,
}

/// Names an outcome by its content.
pub(crate) fn outcome_digest(outcome: &Outcome) -> Vec<u8> {
    Digest::of(&serde_json::to_vec(outcome).unwrap_or_default()).as_bytes().to_vec()
}

/// The answer to a wait that was taken and is not reported yet.
pub(crate) fn answered<'a>(entry: &'a Entry, id: &OperationId) -> Option<&'a Answered> {
    entry.extra.answered.iter().find(|it| it.position == id.position && it.attempt == id.attempt)
}

fn encode_input(entry: &mut Entry, input: Input) -> history_v1::HistoryEvent {
    let event = HistoryEvent { number: 0, time_ms: 0, kind: HistoryEventKind::Input(input) };
    encode_event(&event, &mut entry.draft.blobs)
}

fn push(shared: &Arc<Shared>, entry: &mut Entry, message: HostMessage) {
    steps::push_outbox(shared, entry, &OutboxMessage { host: Some(message), ..OutboxMessage::default() });
}

/// Has a new execution started at the host.
pub(crate) fn start(shared: &Arc<Shared>, entry: &mut Entry, start: Start) {
    let started = encode_input(entry, Input::Started(start));
    push(shared, entry, HostMessage { events: vec![started], start: true, ..HostMessage::default() });
}

/// Has the host end a workflow whose execution has ended here.
pub(crate) fn terminate(shared: &Arc<Shared>, entry: &mut Entry, reason: &str) {
    if workflow_id(entry).is_some() {
        push(shared, entry, HostMessage { terminate: Some(reason.to_owned()), ..HostMessage::default() });
        let finalizers = &mut entry.resource.metadata_mut().finalizers;
        if !finalizers.iter().any(|finalizer| finalizer == TERMINATION_FINALIZER) {
            finalizers.push(TERMINATION_FINALIZER.to_owned());
        }
    }
}

fn workflow_id(entry: &Entry) -> Option<String> {
    entry.resource.temporal_workflow_id().filter(|id| !id.is_empty()).cloned()
}

/// Whether the workflow has reported nothing yet, so that nothing has happened.
fn is_unbegun(entry: &Entry) -> bool {
    entry.execution.as_ref().is_some_and(|execution| execution.next_event == 1)
}

/// Gives one input to the workflow. `false` if it is not wanted (any more).
pub(crate) fn give(shared: &Arc<Shared>, entry: &mut Entry, input: Input) -> bool {
    let wanted = entry.execution.as_ref().is_some_and(|execution| execution.wants(&input));
    match input {
        Input::Suspended | Input::Resumed => {
            let suspend = SuspendMessage { suspended: input == Input::Suspended };
            push(shared, entry, HostMessage { suspend: Some(suspend), ..HostMessage::default() });
            return true;
        }
        Input::CancelRequested { .. } | Input::TimeoutReached if is_unbegun(entry) => {
            return end_unbegun(shared, entry, input);
        }
        Input::CancelRequested { .. } if entry.cancel_given => return true,
        Input::CancelRequested { reason } => {
            entry.cancel_given = true;
            push(shared, entry, HostMessage { cancel: Some(reason), ..HostMessage::default() });
            return true;
        }
        Input::CallbackAnswered { ref id, ref outcome, .. } => {
            if !wanted || answered(entry, id).is_some() {
                return false;
            }
            entry.extra.answered.push(Answered {
                position: id.position.clone(),
                attempt: id.attempt,
                digest: outcome_digest(outcome),
            });
            entry.heartbeats.remove(id);
            entry.draft.put = true;
        }
        Input::Started(_)
        | Input::ActivityCompleted { .. }
        | Input::ActivityFailed { .. }
        | Input::TimerFired { .. }
        | Input::TimeoutReached
        | Input::ChildStarted { .. } => {
            if !wanted {
                return false;
            }
        }
    }
    let event = encode_input(entry, input);
    if !join_last(entry, &event) {
        push(shared, entry, HostMessage { events: vec![event], ..HostMessage::default() });
    }
    true
}

/// Adds an input to those that are given with the same commit.
fn join_last(entry: &mut Entry, event: &history_v1::HistoryEvent) -> bool {
    let Some(row) = entry.draft.outbox_put.last_mut() else { return false };
    let Ok(OutboxMessage { host: Some(mut message), .. }) = OutboxMessage::decode(row.body.clone()) else {
        return false;
    };
    if message.start || message.events.is_empty() || row.body.len() + event.encoded_len() > TOGETHER_BYTES_MAX {
        return false;
    }
    message.events.push(event.clone());
    row.body = OutboxMessage { host: Some(message), ..OutboxMessage::default() }.encode_to_vec().into();
    true
}

/// Ends an execution of which nothing has happened yet: the host need not be asked. If its workflow starts after all, its
/// first report is refused.
fn end_unbegun(shared: &Arc<Shared>, entry: &mut Entry, input: Input) -> bool {
    let Some(execution) = &mut entry.execution else { return false };
    let mut step = Step::default();
    if let Err(stalled) = execution.feed(input, now_ms(), &mut step) {
        tracing::error!(execution_id = %entry.uid, %stalled, "an execution that had not begun could not be ended by its program");
        return false;
    }
    let Some(ending) = step.ending.take() else { return false };
    entry.draft.step.events.append(&mut step.events);
    terminate(shared, entry, "the execution ended before it began");
    steps::finish(shared, entry, &ending);
    true
}

/// Has an outbox row given to the host, after those before it: of a suspension and an answer, the first is to be there
/// first.
pub(crate) fn dispatch(shared: &Arc<Shared>, entry: &mut Entry, row: &OutboxRow) {
    let number = entry.number;
    let queue = entry.host_queue.get_or_insert_with(|| {
        let rows = shared.store.outbox_by_execution(number).map(|rows| rows.items).unwrap_or_default();
        rows.into_iter().filter(|row| of_row(row).is_some()).collect()
    });
    match queue.iter_mut().find(|waiting| waiting.id == row.id) {
        Some(waiting) => waiting.clone_from(row),
        None => queue.push_back(row.clone()),
    }
    queue.make_contiguous().sort_unstable_by_key(|row| row.id);
    let first = queue.front().is_some_and(|first| first.id == row.id);
    if !first && row.next_at_ms <= now_ms() {
        // Its turn comes with those before it. Until then it is not to be found due over and over.
        let update = OutboxUpdate {
            id: row.id,
            n: number,
            next_at_ms: now_ms() + RETRY_MS.1,
            attempts: row.attempts,
            body: None,
        };
        entry.draft.outbox_update.push(update);
    }
    send_first(shared, entry);
}

fn of_row(row: &OutboxRow) -> Option<HostMessage> {
    OutboxMessage::decode(row.body.clone()).ok()?.host
}

/// Sends what is first in the queue, if its pause is over and nothing is on its way. What is to end a workflow that was
/// started waits for nothing else.
fn send_first(shared: &Arc<Shared>, entry: &mut Entry) {
    let ends = |row: &&OutboxRow| of_row(row).is_some_and(|it| it.cancel.is_some() || it.terminate.is_some());
    let started = workflow_id(entry).is_some();
    let queue = entry.host_queue.iter().flatten();
    let first = queue.clone().find(|row| started && ends(row)).or_else(|| queue.clone().next()).cloned();
    let Some(row) = first.filter(|row| !entry.host_busy && (row.attempts == 0 || row.next_at_ms <= now_ms())) else {
        return;
    };
    entry.host_busy = true;
    send(shared, entry, &row, of_row(&row).unwrap_or_default());
}

/// Sets one row going; its result comes back as a message.
fn send(shared: &Arc<Shared>, entry: &Entry, row: &OutboxRow, message: HostMessage) {
    let (route, number, outbox_id, attempts) = (Arc::clone(&shared.route), entry.number, row.id, row.attempts);
    let settle = move |result| {
        route.send(Message { number, kind: MessageKind::HostDone { outbox_id, attempts, result } });
    };
    if entry.is_closed() && message.terminate.is_none() {
        return settle(Ok(None));
    }
    let Some(host) = shared.elsewhere.host.clone() else {
        let why = "the execution runs on Temporal, and this server is not configured for it".to_owned();
        return settle(Err(HostError::Unavailable(why)));
    };
    if message.start {
        return match hosted_start(shared, entry, message) {
            Ok(start) => drop(shared.runtime.spawn(async move {
                settle(unbroken(async { host.start(start).await.map(Some) }).await);
            })),
            Err(why) => settle(Err(HostError::Unavailable(why))),
        };
    }
    let Some(workflow_id) = workflow_id(entry) else {
        return settle(Err(HostError::Unavailable("its workflow is not started yet".to_owned())));
    };
    let input = match message {
        HostMessage { terminate: Some(reason), .. } => HostedInput::Terminate { reason },
        HostMessage { cancel: Some(reason), .. } => HostedInput::Cancel { reason },
        HostMessage { suspend: Some(SuspendMessage { suspended }), .. } => {
            HostedInput::Suspend { suspended, generation: row.id }
        }
        HostMessage { events, .. } => HostedInput::Events(events),
    };
    shared.runtime.spawn(async move {
        settle(unbroken(async { host.give(&workflow_id, input).await.map(|()| None) }).await);
    });
}

/// A panic of the host's adapter is one more reason to try again.
async fn unbroken<T>(call: impl Future<Output = Result<T, HostError>>) -> Result<T, HostError> {
    let called = AssertUnwindSafe(call).catch_unwind().await;
    called
        .unwrap_or_else(|_panic| Err(HostError::Unavailable("the host's adapter met a problem of its own".to_owned())))
}

fn hosted_start(shared: &Shared, entry: &Entry, message: HostMessage) -> Result<HostedStart, String> {
    let metadata = entry.resource.metadata();
    let template = entry.resource.template().and_then(Option::as_ref).ok_or("status.template is missing")?;
    let deadline_ms = (entry.extra.timeout_at_ms > 0).then_some(entry.extra.timeout_at_ms);
    Ok(HostedStart {
        installation: ledger::installation(&shared.sealer),
        uid: entry.uid,
        kind: entry.resource.program_kind(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        digest: template.digest.parse().map_err(|_| "the digest of the template is malformed")?,
        started: message.events.into_iter().next().ok_or("the first input is missing")?,
        suspended: entry.resource.suspend(),
        deadline_ms,
    })
}

/// Records how the host took something.
pub(crate) fn given(
    shared: &Arc<Shared>,
    entry: &mut Entry,
    outbox_id: i64,
    attempts: u32,
    result: Result<Option<HostedRun>, HostError>,
) {
    entry.host_busy = false;
    match result {
        Ok(run) => {
            settle(entry, outbox_id);
            trouble(entry, None);
            if let Some(run) = run {
                note_run(entry, &run);
            }
        }
        Err(HostError::Gone(_)) if entry.is_closed() => settle(entry, outbox_id),
        Err(HostError::Gone(why)) => {
            // It is kept until it is known that the workflow has ended.
            tracing::info!(execution_id = %entry.uid, why, "the host does not take an input; asking what became of the workflow");
            put_off(entry, outbox_id, attempts.saturating_add(1), RETRY_MS.1);
            ask(shared, entry);
        }
        Err(HostError::Unavailable(why)) => {
            let attempts = attempts.saturating_add(1);
            put_off(entry, outbox_id, attempts, RETRY_MS.0.saturating_mul(1 << attempts.min(10)).min(RETRY_MS.1));
            if entry.resource.phase() == Phase::Pending {
                waits_for_host(entry, &why);
            } else if attempts >= SHOWN_AFTER {
                trouble(entry, Some(&format!("Temporal does not take what there is for its workflow: {why}")));
            }
            tracing::debug!(execution_id = %entry.uid, why, attempts, "the host cannot be reached; trying again");
        }
    }
    send_first(shared, entry);
}

/// A row is done with. One that ended the workflow lets go of a deletion that waited for it.
fn settle(entry: &mut Entry, outbox_id: i64) {
    entry.draft.outbox_delete.push(outbox_id);
    let queue = entry.host_queue.get_or_insert_default();
    let ended = queue.iter().any(|row| row.id == outbox_id && of_row(row).is_some_and(|it| it.terminate.is_some()));
    queue.retain(|row| row.id != outbox_id);
    if ended {
        entry.resource.metadata_mut().finalizers.retain(|finalizer| finalizer != TERMINATION_FINALIZER);
        entry.draft.put = true;
        changes::delete_if_free(entry);
    }
}

fn put_off(entry: &mut Entry, outbox_id: i64, attempts: u32, pause_ms: i64) {
    let next_at_ms = now_ms() + pause_ms;
    if let Some(row) = entry.host_queue.iter_mut().flatten().find(|row| row.id == outbox_id) {
        (row.attempts, row.next_at_ms) = (attempts, next_at_ms);
    }
    let update = OutboxUpdate { id: outbox_id, n: entry.number, next_at_ms, attempts, body: None };
    entry.draft.outbox_update.push(update);
}

/// Shows what a new execution waits for.
fn waits_for_host(entry: &mut Entry, why: &str) {
    show(entry, condition::WAITING, Some(("Host", &format!("not started yet: {why}"))));
}

/// Shows that something keeps the workflow from going on, or that nothing does any more.
fn trouble(entry: &mut Entry, why: Option<&str>) {
    show(entry, "Stalled", why.map(|why| ("Host", why)));
}

fn show(entry: &mut Entry, kind: &str, what: Option<(&str, &str)>) {
    let shown = entry.resource.conditions().into_iter().flatten().find(|it| it.r#type == kind);
    let shown = shown.filter(|it| it.status == "True").map(|it| (it.reason.clone(), it.message.clone()));
    if shown.as_ref().map(|(reason, message)| (reason.as_str(), message.as_str())) == what {
        return;
    }
    let (reason, message) = what.unwrap_or(("GoesOn", ""));
    entry.resource.set_condition(kind, what.is_some(), reason, message, Timestamp::from_millis(now_ms()));
    entry.draft.put = true;
}

fn note_run(entry: &mut Entry, run: &HostedRun) {
    if entry.resource.temporal_run_id() != Some(&run.run_id) || workflow_id(entry).as_ref() != Some(&run.workflow_id) {
        entry.resource.temporal_workflow_id_mut().clone_from(&run.workflow_id);
        entry.resource.temporal_run_id_mut().clone_from(&run.run_id);
        entry.draft.put = true;
    }
}

/// Asks the host what has become of a workflow.
fn ask(shared: &Arc<Shared>, entry: &Entry) {
    let (Some(host), Some(workflow_id)) = (shared.elsewhere.host.clone(), workflow_id(entry)) else { return };
    let (route, number) = (Arc::clone(&shared.route), entry.number);
    shared.runtime.spawn(async move {
        if let Ok(state) = host.state(&workflow_id).await {
            route.send(Message { number, kind: MessageKind::HostState(state) });
        }
    });
}

/// Takes notice of what the host says of a workflow: one that has ended without a report ends its execution.
pub(crate) fn state(shared: &Arc<Shared>, entry: &mut Entry, state: HostState) {
    if entry.is_closed() || !entry.extra.hosted {
        return;
    }
    let (how, reason) = match state {
        HostState::Running { run_id, trouble: _ } => {
            if let Some(workflow_id) = workflow_id(entry) {
                note_run(entry, &HostedRun { workflow_id, run_id });
            }
            return;
        }
        HostState::Unknown => (HostEnding::Failed, "Temporal does not know its workflow any more".to_owned()),
        HostState::Ended { how, reason } => (how, reason),
    };
    let failed = |what: &str| {
        let detail = if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") };
        Ending::Failed { fault: Fault::new(fault_type::RUNTIME, 500, detail).non_retryable(), partial_output: None }
    };
    let (word, ending) = match how {
        HostEnding::Completed => ("EndedInTemporal", failed("its workflow ended in Temporal without a result")),
        HostEnding::Failed => ("FailedInTemporal", failed("its workflow failed in Temporal")),
        HostEnding::TimedOut => ("TimedOut", Ending::TimedOut { partial_output: None }),
        HostEnding::Cancelled => {
            ("Cancelled", Ending::Cancelled { reason: or(&reason, "cancelled in Temporal"), partial_output: None })
        }
        HostEnding::Terminated => {
            ("Terminated", Ending::Cancelled { reason: or(&reason, "terminated in Temporal"), partial_output: None })
        }
    };
    tracing::warn!(execution_id = %entry.uid, ?how, reason, "the workflow ended in Temporal without a report");
    steps::finish_with(shared, entry, word, ending);
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}

/// The activity that is open under an id, for the worker that is to run it.
pub(crate) fn task(shared: &Arc<Shared>, entry: &mut Entry, id: &OperationId) -> Result<Option<HostedTask>, ApiError> {
    if entry.is_closed() {
        return Ok(None);
    }
    if entry.resource.suspend() {
        let message = "the execution is suspended; its activities begin when it is resumed";
        return Err(ApiError::new(ErrorKind::Unavailable, "EXECUTION_SUSPENDED", message));
    }
    if !steps::ensure_running(shared, entry) {
        return Err(errors::stalled(entry.stalled.as_deref()));
    }
    Ok(effects::task_of(shared, entry, id))
}

/// Data of a report, and what the store has.
struct Contents<'a> {
    given: BTreeMap<Digest, Bytes>,
    stored: StoreBlobs<'a>,
}

impl DataLoader for Contents<'_> {
    fn load(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.given.get(digest).map(|content| content.to_vec()).or_else(|| self.stored.load(digest))
    }
}

/// Takes a step that a workflow reports.
pub(crate) fn report(shared: &Arc<Shared>, entry: &mut Entry, report: Report, reply: Reply<Reported>) {
    match take_report(shared, entry, report) {
        Ok(reported) => entry.draft.after.push(AfterCommit::Reported { reply, reported }),
        Err(error) => drop(reply.send(Err(error))),
    }
    steps::write_running_status(shared, entry);
}

fn take_report(shared: &Arc<Shared>, entry: &mut Entry, report: Report) -> Result<Reported, ApiError> {
    if !entry.extra.hosted || entry.is_closed() {
        return Ok(Reported::Closed);
    }
    if !steps::ensure_running(shared, entry) {
        return Err(errors::stalled(entry.stalled.as_deref()));
    }
    let events = decode_report(shared, &report.events, report.contents)?;
    let next = entry.execution.as_ref().map_or(1, |execution| execution.next_event);
    let mut entry_state = None;
    match events.first().map(|event| event.number) {
        None => {}
        Some(first) if first == next => follow(shared, entry, events)?,
        Some(first) if first < next && is_recorded(shared, entry, &events)? => {}
        Some(_) => return Ok(Reported::Diverged { state: state_of(entry)? }),
    }
    note_run(entry, &report.run);
    if report.want_state && !entry.is_closed() {
        entry_state = Some(state_of(entry)?);
    }
    Ok(Reported::Taken { state: entry_state })
}

fn decode_report(
    shared: &Shared,
    events: &[history_v1::HistoryEvent],
    contents: Vec<(Digest, Bytes)>,
) -> Result<Vec<HistoryEvent>, ApiError> {
    let malformed = |what: String| ApiError::new(ErrorKind::InvalidArgument, "REPORT_MALFORMED", what);
    if let Some((digest, _)) = contents.iter().find(|(digest, content)| Digest::of(content) != *digest) {
        return Err(malformed(format!("the content that is named {digest} has another digest")));
    }
    let contents = Contents { given: contents.into_iter().collect(), stored: StoreBlobs::new(&shared.store) };
    let decoded: Result<Vec<HistoryEvent>, _> = events.iter().map(|event| decode_event(event, &contents)).collect();
    let decoded = decoded.map_err(|error| malformed(error.to_string()))?;
    if let Some(pair) = decoded.windows(2).find(|pair| pair[1].number != pair[0].number + 1) {
        return Err(malformed(format!("event {} comes after event {}", pair[1].number, pair[0].number)));
    }
    Ok(decoded)
}

/// Lets the follower take new events, and what they mean here.
fn follow(shared: &Arc<Shared>, entry: &mut Entry, events: Vec<HistoryEvent>) -> Result<(), ApiError> {
    let Some(execution) = &mut entry.execution else { return Err(errors::stalled(None)) };
    let mut step = Step::default();
    if let Err(stalled) = execution.follow(events, |taken| step.append(taken)) {
        // It has taken a part of them: it is made anew from the store when it is next needed.
        entry.execution = None;
        return Err(differs(entry, &stalled));
    }
    // Timers and activities are the workflow's; children are ours.
    step.timers_set.clear();
    step.timers_clear.clear();
    step.effects.retain(|effect| matches!(effect, StepEffect::StartChild(_)));
    let open = &execution.open;
    entry.extra.answered.retain(|it| open.waits.contains_key(&OperationId::new(it.position.clone(), it.attempt)));
    let first = entry.draft.step.events.len();
    entry.draft.step.append(step);
    entry.draft.put = true;
    steps::after_step(shared, entry, first);
    Ok(())
}

/// A worker whose build makes something else of the history than ours. It reports again until one of the two has changed.
fn differs(entry: &mut Entry, stalled: &Stalled) -> ApiError {
    tracing::error!(execution_id = %entry.uid, name = entry.resource.metadata().name, %stalled, "a worker reports what this server does not follow");
    ApiError::new(
        ErrorKind::Unavailable,
        "REPORT_NOT_FOLLOWED",
        format!("the report is not what this server makes of the history: {stalled}"),
    )
    .hint("run workers and servers of the same version")
}

/// Whether the history has these very events.
fn is_recorded(shared: &Arc<Shared>, entry: &Entry, events: &[HistoryEvent]) -> Result<bool, ApiError> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(true) };
    let blobs = StoreBlobs::new(&shared.store);
    let mut recorded: Vec<HistoryEvent> = Vec::new();
    let mut from = first.number;
    while recorded.last().is_none_or(|event| event.number < last.number) {
        let records = shared.store.journal(entry.number, from, 64).map_err(|error| errors::read_failed(&error))?;
        let Some(end) = records.last() else { break };
        from = end.seq + 1;
        for record in &records {
            let record = Record::decode(record.body.clone()).map_err(|error| ApiError::internal(error.to_string()))?;
            for event in &record.events {
                recorded.push(decode_event(event, &blobs).map_err(|error| ApiError::internal(error.to_string()))?);
            }
        }
    }
    recorded.extend(entry.draft.step.events.iter().cloned());
    recorded.retain(|event| (first.number..=last.number).contains(&event.number));
    Ok(recorded == events)
}

/// The present state, kept by its digest.
fn state_of(entry: &mut Entry) -> Result<Digest, ApiError> {
    let Some(execution) = &entry.execution else { return Err(errors::stalled(None)) };
    let state = execution.snapshot().map_err(|error| ApiError::internal(error.to_string()))?;
    let digest = Digest::of(&state);
    entry.draft.blobs.push((digest, state));
    Ok(digest)
}
