//! What happens to a running execution: inputs, answers, time, its end.

use std::sync::Arc;

use baton_execution::{
    Ancestor, Command, Ending, Fault, Grant, HistoryEventKind, Input, OperationId, Outcome, Start, Used,
    canonical_json, fault_type,
};
use baton_proto::{
    CallbackState, ExecutionResource, Timestamp, condition,
    v1::{CallbackStatus, ExecutionReference, PinnedTemplate},
};
use baton_store::{ExecState, OutboxRow, TimerRow};
use baton_types::{ApiError, Digest, ErrorKind, Phase, Uid};
use prost::Message as _;
use serde_json::Value;

use crate::{
    CALLBACK_FINALIZER, answers,
    api::{Admitted, ChildCreated, Created},
    approvals, callers, effects,
    entry::{AfterCommit, Definition, EXECUTION_TIMER, Entry, OutboxMessage},
    errors,
    execution::{Execution, Pinned, Stalled, StepEffect},
    held,
    history::{LoadError, load_execution},
    hosted,
    message::{Ack, Reply},
    status,
    stored::{ReturnAddress, StoredExecution},
    worker::{Shared, now_ms},
};

/// A status that is older than this is written again with the next step.
const STATUS_PERIOD_MS: i64 = 1000;
/// An outbox row that was just dispatched is looked at again after this time, if nothing was heard of it.
const OUTBOX_GRACE_MS: i64 = 5000;

/// The entry of a new execution, with its first step as the draft.
pub(crate) fn create(shared: &Arc<Shared>, number: i64, admitted: Admitted, reply: Reply<Created>) -> Entry {
    let now = now_ms();
    let at = Timestamp::from_millis(now);
    let mut resource = admitted.resource;
    let uid: Uid = resource.metadata().uid.parse().unwrap_or_default();
    let token = resource.take_callback_token();
    resource.clear_status();
    let timeout_ms = admitted.timeout_ms.filter(|_| admitted.held.is_none());
    let timeout_at_ms = timeout_ms.map_or(0, |limit| now.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX)));
    let mut extra = StoredExecution {
        depth: admitted.parent.as_ref().map_or(0, |parent| parent.depth),
        timeout_at_ms,
        hosted: shared.elsewhere.host.is_some(),
        ..StoredExecution::default()
    };
    if !resource.request_id().is_empty() {
        extra.spec_digest = spec_digest(&resource);
    }
    add_first_address(shared, &mut resource, &mut extra, uid, &token);
    let caller = shared.sealer.open_token(&token).filter(|claims| !claims.is_mailbox()).and_then(|claims| claims.uid());
    let owner = admitted.parent.as_ref().map(|parent| parent.uid).or(caller);
    write_first_status(&mut resource, uid, admitted.parent.as_ref(), at);
    let keep = !admitted.template_name.is_empty();
    *resource.template_mut() = Some(PinnedTemplate {
        name: admitted.template_name,
        generation: admitted.template_generation,
        digest: admitted.digest.to_string(),
    });
    let grant = admitted.parent.and_then(|parent| parent.grant);
    let start = start_of(&resource, uid, admitted.input, admitted.settings, grant);
    let pinned = Pinned { kind: resource.program_kind(), digest: admitted.digest, definition: &admitted.definition };
    let execution = Execution::new(shared.programs.as_ref(), &pinned);
    let mut entry = Entry::from_row(crate::stored::Row {
        number,
        uid,
        revision: 0,
        state: ExecState::Active,
        owner,
        resource,
        extra,
    });
    entry.draft.create = true;
    entry.draft.put = true;
    callers::watch(&mut entry);
    if !shared.knows_definition(&admitted.digest) {
        entry.draft.definition = Some(Definition { digest: admitted.digest, content: admitted.definition, keep });
    }
    if timeout_at_ms > 0 {
        entry.draft.timers_set.push(TimerRow { due_ms: timeout_at_ms, n: number, id: EXECUTION_TIMER });
    }
    match execution {
        Ok(execution) => {
            entry.execution = Some(execution);
            match &admitted.held {
                Some(held) => held::hold(&mut entry, start, admitted.timeout_ms, held),
                None => held::begin(shared, &mut entry, start),
            }
        }
        Err(fault) => {
            entry.extra.used = Some(baton_proto::encode_used(&Used::default()));
            finish(shared, &mut entry, &Ending::Failed { fault, partial_output: None });
        }
    }
    write_running_status(shared, &mut entry);
    entry.draft.after.push(AfterCommit::Created { reply, existing: false });
    entry
}

/// The return address that an execution is created with, if there is one.
fn add_first_address(
    shared: &Shared,
    resource: &mut ExecutionResource,
    extra: &mut StoredExecution,
    uid: Uid,
    token: &[u8],
) {
    if token.is_empty() {
        return;
    }
    let at = Timestamp::from_millis(now_ms());
    let address = ReturnAddress::new(&shared.sealer, uid, token);
    let receiver = callers::receiver_name(shared, token);
    let callback = status::new_callback(address.fingerprint.clone(), receiver, CallbackState::Waiting, at);
    resource.callbacks_mut().push(callback);
    resource.metadata_mut().finalizers.push(CALLBACK_FINALIZER.to_owned());
    extra.addresses.push(address);
}

fn start_of(resource: &ExecutionResource, uid: Uid, input: Value, settings: Value, grant: Option<Grant>) -> Start {
    let metadata = resource.metadata();
    let template = resource.template().and_then(Option::as_ref).cloned().unwrap_or_default();
    let itself = Ancestor {
        kind: resource.program_kind().template_kind().to_owned(),
        name: if template.name.is_empty() { template.digest } else { template.name },
        input: baton_types::fingerprint(canonical_json(&input).to_string().as_bytes()),
    };
    Start {
        uid,
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        input,
        env: resource.env().clone(),
        settings,
        grant: Some(grant.unwrap_or_default().of(itself)),
        carried_over: Value::Null,
    }
}

fn write_first_status(
    resource: &mut ExecutionResource,
    uid: Uid,
    parent: Option<&crate::api::ParentRef>,
    at: Timestamp,
) {
    let generation = resource.metadata().generation;
    resource.set_phase(if resource.suspend() { Phase::Suspended } else { Phase::Running });
    *resource.start_time_mut() = Some(at);
    *resource.observed_generation_mut() = generation;
    resource.set_condition(condition::ACCEPTED, true, "Admitted", "", at);
    status::write_callback_condition(resource, at);
    if let Some(parent) = parent {
        *resource.root_mut() = Some(parent.root.clone());
        *resource.parent_mut() = Some(ExecutionReference {
            kind: parent.kind.execution_kind().to_owned(),
            name: parent.name.clone(),
            uid: parent.uid.to_string(),
            position: parent.operation.clone(),
        });
    } else {
        let root = ExecutionReference {
            kind: resource.kind().to_owned(),
            name: resource.metadata().name.clone(),
            uid: uid.to_string(),
            position: String::new(),
        };
        *resource.root_mut() = Some(root);
    }
}

/// SHA-256 of the spec as it is without its token: what a repeated create is compared with.
pub(crate) fn spec_digest(resource: &ExecutionResource) -> Vec<u8> {
    let bytes = match resource {
        ExecutionResource::Workflow(it) => it.spec.as_ref().map(|spec| v1_without_token_workflow(spec).encode_to_vec()),
        ExecutionResource::Agent(it) => it.spec.as_ref().map(|spec| {
            baton_proto::v1::AgentExecutionSpec { callback_token: Vec::new(), ..spec.clone() }.encode_to_vec()
        }),
    };
    baton_types::Digest::of(&bytes.unwrap_or_default()).as_bytes().to_vec()
}

fn v1_without_token_workflow(spec: &baton_proto::v1::WorkflowExecutionSpec) -> baton_proto::v1::WorkflowExecutionSpec {
    baton_proto::v1::WorkflowExecutionSpec { callback_token: None, ..spec.clone() }
}

/// Brings the running half to memory if it is not there. `false` if there is none to have.
pub(crate) fn ensure_running(shared: &Arc<Shared>, entry: &mut Entry) -> bool {
    if entry.execution.is_some() {
        return true;
    }
    if entry.is_closed() || entry.stalled.is_some() {
        return false;
    }
    match load_execution(&shared.store, shared.programs.as_ref(), entry) {
        Ok(execution) => {
            let (activities, children) = (execution.open.activities.keys(), execution.open.children.keys());
            entry.redo = if entry.extra.hosted {
                children.cloned().collect()
            } else {
                activities.chain(children).cloned().collect()
            };
            entry.execution = Some(execution);
            true
        }
        // It may be readable the next time: nothing is concluded from it.
        Err(LoadError::Read(error)) => {
            tracing::error!(execution_id = %entry.uid, detail = error.detail, %error, "an execution cannot be read");
            false
        }
        Err(LoadError::Stalled(stalled)) => {
            stall(entry, &stalled);
            false
        }
    }
}

/// Stops an execution that this build cannot go on with. It keeps its place: a build that can will go on.
fn stall(entry: &mut Entry, stalled: &Stalled) {
    tracing::error!(execution_id = %entry.uid, name = entry.resource.metadata().name, %stalled, "the execution is stalled");
    let reason = match stalled {
        Stalled::NonDeterminism { .. } => "NonDeterminism",
        Stalled::Program { .. } => "ProgramError",
        Stalled::Hole { .. } => "HistoryDamaged",
        Stalled::Load(_) => "TemplateNotLoadable",
    };
    entry.execution = None;
    entry.stalled = Some(stalled.to_string());
    entry.resource.set_condition("Stalled", true, reason, &stalled.to_string(), Timestamp::from_millis(now_ms()));
    entry.draft.put = true;
}

/// Gives one input to the execution. `false` if it was not wanted (any more) or cannot be taken.
pub(crate) fn feed(shared: &Arc<Shared>, entry: &mut Entry, input: Input) -> bool {
    if !ensure_running(shared, entry) {
        return false;
    }
    if entry.extra.hosted {
        return hosted::give(shared, entry, input);
    }
    let Some(execution) = entry.execution.as_mut().filter(|execution| execution.wants(&input)) else { return false };
    let now = now_ms();
    let step = &mut entry.draft.step;
    let before = step.mark();
    if let Err(stalled) = execution.feed(input, now, step) {
        // Nothing of this input is recorded: it was not taken.
        step.back_to(&before);
        stall(entry, &stalled);
        return false;
    }
    after_step(shared, entry, before.events);
    true
}

/// What a step means beyond its Program: its events are those of the draft from `first` on.
pub(crate) fn after_step(shared: &Arc<Shared>, entry: &mut Entry, first: usize) {
    if let Some(execution) = &entry.execution {
        entry.heartbeats.retain(|id, _| execution.open.waits.contains_key(id));
    }
    arm_heartbeats(entry, first);
    close_waits(shared, entry);
    if let Some(ending) = entry.draft.step.ending.take() {
        finish(shared, entry, &ending);
    }
}

/// Arms the heartbeat timers of waits that were opened by the events from `first` on.
fn arm_heartbeats(entry: &mut Entry, first: usize) {
    for event in &entry.draft.step.events[first..] {
        if let HistoryEventKind::Command(Command::AwaitCallback { heartbeat_timeout_ms: Some(timeout), .. }) =
            &event.kind
        {
            let due_ms = event.time_ms.saturating_add(i64::try_from(*timeout).unwrap_or(i64::MAX));
            entry.draft.timers_set.push(TimerRow { due_ms, n: entry.number, id: -event.number });
        }
    }
}

fn close_waits(shared: &Arc<Shared>, entry: &mut Entry) {
    approvals::settle(shared, entry);
    let mut given_up = std::mem::take(&mut entry.draft.step.given_up);
    given_up.retain(|id| !entry.created.contains(id));
    let children = entry.execution.as_ref().map(|execution| &execution.open.children);
    entry.created.retain(|id| children.is_some_and(|children| children.contains_key(id)));
    entry.given_up.extend(given_up);
    for id in std::mem::take(&mut entry.draft.step.closed_waits) {
        push_outbox(shared, entry, &OutboxMessage::given_up(id));
    }
}

pub(crate) fn push_outbox(shared: &Arc<Shared>, entry: &mut Entry, message: &OutboxMessage) {
    let row = OutboxRow {
        id: shared.store.next_outbox_id(),
        n: entry.number,
        next_at_ms: now_ms() + OUTBOX_GRACE_MS,
        attempts: 0,
        body: message.encode_to_vec().into(),
    };
    entry.draft.outbox_put.push(row);
}

/// The end of an execution: status, answers for every return address, and word to whoever still works for it.
pub(crate) fn finish(shared: &Arc<Shared>, entry: &mut Entry, ending: &Ending) {
    let at = Timestamp::from_millis(now_ms());
    carry_over(entry, ending, at);
    let holders = entry.execution.take().is_some_and(|execution| {
        entry.extra.used = Some(baton_proto::encode_used(&execution.program().progress().tree.used));
        write_progress(shared, &mut entry.resource, entry.number, &entry.uid, &execution, at);
        let holders = execution.open.waits.values().any(|wait| wait.asks.is_none());
        holders || !execution.open.children.is_empty() || execution.open.bound_children
    });
    if let Some((digest, content)) = status::write_ending(&mut entry.resource, ending, at) {
        entry.extra.output_digest = digest.as_bytes().to_vec();
        entry.draft.blobs.push((digest, content));
    }
    if entry.extra.timeout_at_ms > 0 {
        entry.draft.timers_set.retain(|row| row.id != EXECUTION_TIMER);
        entry.draft.timers_clear.push(TimerRow {
            due_ms: entry.extra.timeout_at_ms,
            n: entry.number,
            id: EXECUTION_TIMER,
        });
    }
    entry.stalled = None;
    entry.draft.put = true;
    callers::unwatch(entry);
    entry.extra.answered.clear();
    let mut fingerprints = Vec::new();
    // Who was found to be gone before is told no more.
    let waiting = |it: &&mut CallbackStatus| it.state == CallbackState::Waiting.as_str();
    for callback in entry.resource.callbacks_mut().iter_mut().filter(waiting) {
        CallbackState::Pending.as_str().clone_into(&mut callback.state);
        fingerprints.push(callback.fingerprint.clone());
    }
    for fingerprint in fingerprints {
        push_outbox(shared, entry, &OutboxMessage { fingerprint, ..OutboxMessage::default() });
    }
    if holders {
        push_outbox(shared, entry, &OutboxMessage::default());
    }
    status::write_callback_condition(&mut entry.resource, at);
    let labels = [("kind", entry.resource.kind()), ("phase", entry.resource.phase().as_str())];
    metrics::counter!("baton_executions_ended_total", &labels).increment(1);
    tracing::info!(execution_id = %entry.uid, namespace = entry.resource.metadata().namespace, name = entry.resource.metadata().name, phase = %entry.resource.phase(), "execution ended");
}

/// Keeps what the Program leaves for others.
fn carry_over(entry: &mut Entry, ending: &Ending, at: Timestamp) {
    let program = entry.execution.as_ref().map(Execution::program);
    let Some(left) = program.and_then(|program| program.carry_over(ending.phase(), at.as_millis())) else { return };
    let content = left.to_string().into_bytes();
    let digest = Digest::of(&content);
    entry.extra.carried_digest = digest.as_bytes().to_vec();
    entry.draft.blobs.push((digest, content));
}

/// Whether an entry that has nothing to write now is to be looked at again a little later.
pub(crate) fn wants_settling(entry: &Entry) -> bool {
    !entry.is_closed()
        && entry.stalled.is_none()
        && (!entry.started.is_empty()
            || (entry.stored_state == ExecState::Active && entry.state() == ExecState::Parked))
}

/// Writes down that the execution waits, if it still does.
pub(crate) fn settle(shared: &Arc<Shared>, entry: &mut Entry) {
    if entry.stored_state == ExecState::Active && entry.state() == ExecState::Parked {
        entry.draft.put = true;
        write_running_status(shared, entry);
    }
}

/// Brings `status` of a running execution up to date if its row is to be written anyway or was not for a while.
pub(crate) fn write_running_status(shared: &Arc<Shared>, entry: &mut Entry) {
    if entry.is_closed() {
        return;
    }
    let now = now_ms();
    let Some(execution) = &entry.execution else { return };
    // What leaves the parked state must be found by a recovery, so that its activities are not lost.
    if entry.stored_state == ExecState::Parked && !entry.is_parked(execution)
        || now - entry.status_written_ms > STATUS_PERIOD_MS && entry.status_written_ms > 0
    {
        entry.draft.put = true;
    }
    if entry.draft.put {
        entry.status_written_ms = now;
        if entry.extra.held.is_some() || entry.extra.hosted && execution.next_event == 1 {
            return entry.resource.set_phase(Phase::Pending);
        }
        entry.resource.set_phase(if execution.suspended { Phase::Suspended } else { Phase::Running });
        write_progress(shared, &mut entry.resource, entry.number, &entry.uid, execution, Timestamp::from_millis(now));
    }
}

fn write_progress(
    shared: &Arc<Shared>,
    resource: &mut ExecutionResource,
    number: i64,
    uid: &Uid,
    execution: &Execution,
    at: Timestamp,
) {
    let (namespace, name) = (resource.metadata().namespace.clone(), resource.metadata().name.clone());
    let fingerprint = |id: &OperationId| {
        let expires_ms = execution.open.waits.get(id).map_or(0, |wait| wait.expires_ms);
        baton_types::fingerprint(effects::wait_token(shared, &namespace, number, *uid, id, expires_ms).as_bytes())
    };
    let approval = |id: &OperationId| effects::child_name(&name, *uid, id);
    status::write_progress(resource, execution, at, fingerprint, approval);
}

/// Sets going again what was open when the execution was brought to memory: what has no recorded result is done again,
/// what must not be is in doubt.
pub(crate) fn redo_open(shared: &Arc<Shared>, entry: &mut Entry) {
    for id in std::mem::take(&mut entry.redo) {
        let Some(execution) = &entry.execution else { return };
        if execution.open.children.contains_key(&id) {
            effects::carry_out(shared, entry, StepEffect::StartChild(id.clone()));
        }
        let Some(execution) = &entry.execution else { return };
        let effect = execution.open.activities.get(&id).map(|activity| activity.effect);
        match effect {
            None => {}
            Some(_) if entry.running.contains_key(&id) => {}
            Some(baton_execution::Effect::Repeatable) => {
                effects::carry_out(shared, entry, StepEffect::StartActivity(id));
            }
            Some(baton_execution::Effect::Once) => {
                let fault = effects::in_doubt(&id);
                feed(shared, entry, Input::ActivityFailed { id, fault });
                write_running_status(shared, entry);
            }
        }
    }
}

pub(crate) fn activity_done(shared: &Arc<Shared>, entry: &mut Entry, id: OperationId, result: Result<Value, Fault>) {
    entry.running.remove(&id);
    let input = match result {
        Ok(output) => Input::ActivityCompleted { id, output },
        Err(fault) => Input::ActivityFailed { id, fault },
    };
    feed(shared, entry, input);
    write_running_status(shared, entry);
}

pub(crate) fn child_done(
    shared: &Arc<Shared>,
    entry: &mut Entry,
    id: OperationId,
    result: Result<ChildCreated, Fault>,
) {
    let given_up =
        entry.given_up.iter().position(|other| *other == id).map(|at| entry.given_up.swap_remove(at)).is_some();
    let wanted = entry.execution.as_ref().is_some_and(|execution| execution.open.children.contains_key(&id));
    match result {
        Ok(child) if wanted => {
            entry.created.push(id.clone());
            let ChildCreated { kind, name, uid } = child;
            entry.started.push(Input::ChildStarted { id, kind: kind.to_owned(), name, uid });
        }
        // It came to be after it was given up: it is told that nobody waits.
        Ok(_) if given_up => {
            push_outbox(shared, entry, &OutboxMessage::given_up(id));
            entry.draft.put = true;
        }
        // It has answered already.
        Ok(_) => {}
        Err(fault) => {
            let fault = fault.at(&id.position);
            let taken = feed(
                shared,
                entry,
                // It never came to be, so it used nothing.
                Input::CallbackAnswered {
                    id: id.clone(),
                    outcome: Outcome::Failed(fault.clone()),
                    used: Some(Used::default()),
                },
            );
            if !taken && wanted {
                tracing::warn!(execution_id = %entry.uid, position = id.position, %fault, "a child that nobody awaits could not be started");
                if let Some(execution) = &mut entry.execution {
                    execution.open.children.remove(&id);
                }
            }
            write_running_status(shared, entry);
        }
    }
}

/// Records children that were started since the last step.
pub(crate) fn record_started_children(shared: &Arc<Shared>, entry: &mut Entry) {
    for input in std::mem::take(&mut entry.started) {
        feed(shared, entry, input);
    }
}

pub(crate) fn timer_due(shared: &Arc<Shared>, entry: &mut Entry, row: TimerRow) {
    if entry.is_closed() {
        return entry.draft.timers_clear.push(row);
    }
    if row.id == callers::CALLERS_TIMER {
        return callers::due(shared, entry, row);
    }
    ensure_running(shared, entry);
    let open = entry
        .execution
        .as_ref()
        .map(|execution| execution.open.timers.iter().find(|(_, timer)| timer.id == row.id).map(|(id, _)| id.clone()));
    let taken = match open {
        None => false,
        Some(_) if row.id == EXECUTION_TIMER => feed(shared, entry, Input::TimeoutReached),
        Some(Some(id)) => feed(shared, entry, Input::TimerFired { id }),
        Some(None) if row.id > 0 => true,
        Some(None) => answers::heartbeat_due(shared, entry, row),
    };
    if taken {
        entry.draft.timers_clear.push(row);
    } else {
        shared.timers.again(row);
    }
    write_running_status(shared, entry);
}

pub(crate) fn end(
    shared: &Arc<Shared>,
    entry: &mut Entry,
    reason: &str,
    terminate: bool,
    reply: Reply<ExecutionResource>,
) {
    let title = match &entry.resource {
        ExecutionResource::Workflow(_) => "workflow execution",
        ExecutionResource::Agent(_) => "agent execution",
    };
    if entry.is_closed() {
        let refusal = errors::ended(title, &entry.resource.metadata().name, entry.resource.phase());
        return drop(reply.send(Err(refusal)));
    }
    if terminate {
        finish_as(shared, entry, "Terminated", reason);
    } else if !feed(shared, entry, Input::CancelRequested { reason: reason.to_owned() }) {
        let refusal = ApiError::new(
            ErrorKind::FailedPrecondition,
            "EXECUTION_STALLED",
            format!(
                "{title} '{}' cannot wind up: {}",
                entry.resource.metadata().name,
                entry.stalled.clone().unwrap_or_default()
            ),
        );
        return drop(reply.send(Err(refusal.hint("end it at once with baton terminate"))));
    }
    entry.draft.after.push(AfterCommit::Resource(reply));
}

/// Ends the execution as cancelled without asking its Program; `word` is the reason of the condition.
pub(crate) fn finish_as(shared: &Arc<Shared>, entry: &mut Entry, word: &str, reason: &str) {
    if entry.extra.hosted {
        hosted::terminate(shared, entry, reason);
    }
    finish_with(shared, entry, word, Ending::Cancelled { reason: reason.to_owned(), partial_output: None });
}

/// Ends the execution without asking its Program; `word` is the reason of the condition.
pub(crate) fn finish_with(shared: &Arc<Shared>, entry: &mut Entry, word: &str, mut ending: Ending) {
    if ensure_running(shared, entry)
        && let Some(execution) = &mut entry.execution
    {
        if let Ending::Failed { partial_output, .. }
        | Ending::Cancelled { partial_output, .. }
        | Ending::TimedOut { partial_output } = &mut ending
        {
            *partial_output = partial_output.take().or_else(|| execution.program().partial_output());
        }
        execution.end(ending.clone(), now_ms(), &mut entry.draft.step);
        entry.draft.step.ending = None;
        close_waits(shared, entry);
    }
    finish(shared, entry, &ending);
    let message =
        entry.resource.error().and_then(Option::as_ref).map(|problem| problem.detail.clone()).unwrap_or_default();
    entry.resource.set_condition(condition::FAILED, true, word, &message, Timestamp::from_millis(now_ms()));
}

pub(crate) fn caller_gone(
    shared: &Arc<Shared>,
    entry: &mut Entry,
    caller: Uid,
    operation: Option<&OperationId>,
    ack: Option<Arc<Ack>>,
) {
    entry.draft.after.extend(ack.map(AfterCommit::Ack));
    if entry.is_closed() || entry.resource.parent_close_policy() == "Abandon" {
        return;
    }
    let gone = |token: Vec<u8>| {
        let claims = shared.sealer.open_token(&token);
        claims.is_some_and(|it| it.uid() == Some(caller) && operation.is_none_or(|id| it.operation() == *id))
    };
    let tokens = entry.extra.addresses.iter().filter_map(|address| address.token(&shared.sealer, entry.uid));
    let (concerned, others): (Vec<bool>, Vec<bool>) = tokens.map(gone).partition(|gone| *gone);
    // A later attempt of the same caller, or anybody else who is to be told, still waits.
    if !others.is_empty() {
        return;
    }
    let concerns = !concerned.is_empty();
    let child = entry.resource.parent().and_then(Option::as_ref).is_some_and(|parent| {
        parent.uid == caller.to_string() && operation.is_none_or(|id| parent.position == id.to_string())
    });
    if concerns || child {
        let reason = "whoever waited for this execution has ended or given up (spec.parentClosePolicy is Cancel)";
        feed(shared, entry, Input::CancelRequested { reason: reason.to_owned() });
    }
}

/// Fails the wait for a child that is gone without an answer: damage, or a store that was restored.
pub(crate) fn child_missing(shared: &Arc<Shared>, entry: &mut Entry, operation: &str) {
    if entry.is_closed() || !ensure_running(shared, entry) {
        return;
    }
    let exists = |id: &OperationId| {
        let metadata = entry.resource.metadata();
        let name = effects::child_name(&metadata.name, entry.uid, id);
        crate::reconcile::child_exists(shared, &metadata.namespace, &name).unwrap_or(true)
    };
    let open = entry.execution.as_ref().and_then(|execution| {
        execution.open.waits.keys().find(|id| id.to_string() == operation && !execution.open.children.contains_key(id))
    });
    // It may have come to be since the reconciler looked.
    if let Some(id) = open.cloned().filter(|id| !exists(id)) {
        let fault = Fault::new(fault_type::RUNTIME, 500, "the execution that was waited for does not exist any more")
            .at(&id.position);
        feed(shared, entry, Input::CallbackAnswered { id, outcome: Outcome::Failed(fault), used: None });
        write_running_status(shared, entry);
    }
}
