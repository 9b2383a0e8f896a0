//! `status` of an execution, derived from its Program and its ending.

mod usage;

use baton_execution::{ArtifactSummary, Ending, OperationId, Outcome, QuestionKind, WaitReason, Waiting};
use baton_proto::{
    CallbackState, ExecutionResource, Timestamp, condition,
    v1::{CallbackStatus, ExecutionArtifact, Json, Problem, ProgressStatus, TaskProgress, WaitingFor},
};
use baton_types::{Digest, Phase};
use serde_json::{Value, json};

use crate::{PAYLOAD_BYTES_MAX, execution::Execution};

fn count(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// Writes what the Program says of itself.
pub(crate) fn write_progress(
    resource: &mut ExecutionResource,
    execution: &Execution,
    now: Timestamp,
    fingerprint: impl Fn(&OperationId) -> String,
    approval: impl Fn(&OperationId) -> String,
) {
    let progress = execution.program().progress();
    let at = Timestamp::from_millis;
    *resource.progress_mut() = Some(ProgressStatus {
        tasks_started: count(progress.tasks_started),
        tasks_ended: count(progress.tasks_ended),
        recent: progress
            .recent
            .into_iter()
            .map(|task| TaskProgress {
                position: task.position,
                name: task.name,
                kind: task.kind,
                state: task.state,
                started: Some(at(task.started_ms)),
                ended: task.ended_ms.map(at),
            })
            .collect(),
    });
    resource.set_artifacts(progress.artifacts.iter().map(artifact).collect());
    usage::write(resource, progress.usage, &progress.tree, now);
    let parked: Vec<_> = progress.waiting.iter().filter(|it| it.reason != WaitReason::Activity).collect();
    // What a person is asked is told before whatever else is waited for.
    let first = parked.iter().find(|it| it.reason == WaitReason::Approval).or_else(|| parked.first());
    match (execution.suspended, first) {
        (true, _) => resource.set_condition(condition::WAITING, true, "Suspended", "spec.suspend is true", now),
        (false, Some(first)) => {
            let more = if parked.len() > 1 { format!(" and {} more", parked.len() - 1) } else { String::new() };
            resource.set_condition(
                condition::WAITING,
                true,
                first.reason.as_str(),
                &format!("{}{more}", first.on),
                now,
            );
        }
        (false, None) => clear_waiting(resource, now),
    }
    let asks = |id: &OperationId| execution.open.waits.get(id).and_then(|wait| wait.asks);
    let in_doubt = |id: &OperationId| asks(id) == Some(QuestionKind::InDoubt);
    let is_open = execution.open.waits.keys().any(in_doubt);
    write_in_doubt(resource, is_open, progress.waiting.iter().find(|it| in_doubt(&it.id)), now);
    *resource.waiting_for_mut() = progress
        .waiting
        .into_iter()
        .map(|it| WaitingFor {
            fingerprint: if execution.open.waits.contains_key(&it.id) && asks(&it.id).is_none() {
                fingerprint(&it.id)
            } else {
                String::new()
            },
            approval: asks(&it.id).map(|_| approval(&it.id)).unwrap_or_default(),
            operation: it.id.to_string(),
            reason: it.reason.to_string(),
            on: it.on,
            since: Some(at(it.since_ms)),
            until: it.until_ms.map(at),
        })
        .collect();
}

fn artifact(made: &ArtifactSummary) -> ExecutionArtifact {
    ExecutionArtifact {
        name: made.name.clone(),
        media_type: made.media_type.clone(),
        digest: made.digest.clone(),
        size_bytes: i32::try_from(made.size_bytes).unwrap_or(i32::MAX),
    }
}

/// Says whether a call is in doubt and a person is asked what becomes of it. An execution that ends before the decision
/// leaves the call in doubt.
fn write_in_doubt(resource: &mut ExecutionResource, is_open: bool, asked: Option<&Waiting>, now: Timestamp) {
    if let Some(it) = asked {
        return resource.set_condition(condition::IN_DOUBT, true, "Asked", &it.on, now);
    }
    let was = resource.conditions().is_some_and(|all| all.iter().any(|it| it.r#type == condition::IN_DOUBT));
    if was && !is_open {
        resource.set_condition(condition::IN_DOUBT, false, "Decided", "", now);
    }
}

fn clear_waiting(resource: &mut ExecutionResource, now: Timestamp) {
    if resource.conditions().is_some_and(|all| all.iter().any(|it| it.r#type == condition::WAITING)) {
        resource.set_condition(condition::WAITING, false, "NotWaiting", "", now);
    }
}

/// Writes the terminal status. Returns the output's content if it is too long for status and must be stored by digest.
pub(crate) fn write_ending(
    resource: &mut ExecutionResource,
    ending: &Ending,
    now: Timestamp,
) -> Option<(Digest, Vec<u8>)> {
    let (phase, output, problem, reason) = match ending {
        Ending::Completed { output } => (Phase::Completed, Some(output), None, "Completed"),
        Ending::Failed { fault, partial_output } => {
            (Phase::Failed, partial_output.as_ref(), Some(Problem::from_fault(fault)), "Failed")
        }
        Ending::Cancelled { reason, partial_output } => {
            let problem = Problem {
                r#type: baton_execution::fault_type::CANCELLED.to_owned(),
                title: "cancelled".to_owned(),
                status: 499,
                detail: reason.clone(),
                ..Problem::default()
            };
            (Phase::Cancelled, partial_output.as_ref(), Some(problem), "Cancelled")
        }
        Ending::TimedOut { partial_output } => {
            let problem = Problem {
                r#type: baton_execution::fault_type::TIMEOUT.to_owned(),
                title: "timeout".to_owned(),
                status: 408,
                detail: "the execution did not end within spec.timeout".to_owned(),
                ..Problem::default()
            };
            (Phase::TimedOut, partial_output.as_ref(), Some(problem), "TimedOut")
        }
    };
    let problem = problem.map(bounded);
    let message = problem.as_ref().map(|problem| problem.detail.clone()).unwrap_or_default();
    resource.set_phase(phase);
    *resource.completion_time_mut() = Some(now);
    *resource.error_mut() = problem;
    resource.waiting_for_mut().clear();
    clear_waiting(resource, now);
    let terminal = if phase == Phase::Completed { condition::COMPLETE } else { condition::FAILED };
    resource.set_condition(terminal, true, reason, &message, now);
    let text = output?.to_string();
    if text.len() <= PAYLOAD_BYTES_MAX {
        *resource.output_mut() = Some(Json { text });
        return None;
    }
    let digest = Digest::of(text.as_bytes());
    let metadata = resource.metadata();
    let plural =
        if resource.kind() == baton_proto::kind::AGENT_EXECUTION { "agentexecutions" } else { "workflowexecutions" };
    let path = format!(
        "/apis/{}/namespaces/{}/{plural}/{}/output",
        baton_proto::API_VERSION,
        metadata.namespace,
        metadata.name
    );
    *resource.output_mut() =
        Some(Json::from_value(&json!({"$ref": path, "digest": digest.to_string(), "sizeBytes": text.len()})));
    Some((digest, text.into_bytes()))
}

/// Longest text of a problem in `status`, in bytes. The whole of it is in the history.
const PROBLEM_TEXT_BYTES_MAX: usize = 16 * 1024;

/// A problem that fits into `status`, and into every answer that is made of it.
fn bounded(mut problem: Problem) -> Problem {
    for text in [&mut problem.r#type, &mut problem.title, &mut problem.detail, &mut problem.instance] {
        if text.len() > PROBLEM_TEXT_BYTES_MAX {
            let end = (0..=PROBLEM_TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
            text.truncate(end);
            text.push('…');
        }
    }
    if problem.data.as_ref().is_some_and(|data| data.text.len() > PAYLOAD_BYTES_MAX) {
        problem.data = None;
    }
    problem
}

/// What whoever waited is told, from the terminal status alone.
pub(crate) fn outcome_of(resource: &ExecutionResource) -> Outcome {
    let output =
        || resource.output().and_then(Option::as_ref).and_then(|output| output.to_value().ok()).unwrap_or(Value::Null);
    let fault = || {
        let problem = resource.error().and_then(Option::as_ref).cloned().unwrap_or_default();
        problem.to_fault(baton_execution::fault_type::RUNTIME)
    };
    match resource.phase() {
        Phase::Completed => Outcome::Completed(output()),
        Phase::Cancelled => Outcome::Cancelled { reason: fault().detail.unwrap_or_default() },
        Phase::Failed | Phase::TimedOut | Phase::Pending | Phase::Running | Phase::Suspended => {
            Outcome::Failed(fault())
        }
    }
}

/// A new entry of `status.callbacks`.
pub(crate) fn new_callback(
    fingerprint: String,
    receiver: &str,
    state: CallbackState,
    now: Timestamp,
) -> CallbackStatus {
    CallbackStatus {
        fingerprint,
        state: state.as_str().to_owned(),
        added_time: Some(now),
        receiver: receiver.to_owned(),
        ..CallbackStatus::default()
    }
}

/// Brings the condition `CallbackDelivered` in line with `status.callbacks`.
pub(crate) fn write_callback_condition(resource: &mut ExecutionResource, now: Timestamp) {
    let Some(callbacks) = resource.callbacks() else { return };
    if callbacks.is_empty() {
        return;
    }
    let of = |state: CallbackState| callbacks.iter().filter(|it| it.state == state.as_str()).count();
    let (delivered, rejected, abandoned) =
        (of(CallbackState::Delivered), of(CallbackState::Rejected), of(CallbackState::Abandoned));
    let total = callbacks.len();
    let (status, reason) = if delivered == total {
        (true, "Delivered")
    } else if of(CallbackState::Waiting) == total {
        (false, "NotEnded")
    } else if delivered + rejected + abandoned < total {
        (false, "Pending")
    } else if abandoned > 0 {
        (false, "Abandoned")
    } else {
        (false, "Rejected")
    };
    let message = format!("{delivered} of {total} delivered");
    resource.set_condition(condition::CALLBACK_DELIVERED, status, reason, &message, now);
}
