//! The contract of [`baton_engine::Ledger`] as messages of `baton.worker.v1`, in both directions.
//!
//! # Invariants
//! - What is read is checked: uids, digests, and that content is what its digest says.
//! - Every pair is the inverse of the other; a test holds that.

use baton_engine::{HostedRun, HostedTask, Report, Reported};
use baton_execution::{ActivityTask, Emitter, OperationId, Origin, ProgramKind};
use baton_proto::{history_v1, worker_v1};
use baton_types::{ApiError, Digest, Uid, Violation};
use serde_json::{Map, Value};

/// A uid in its text form.
pub(crate) fn uid(field: &str, text: &str) -> Result<Uid, ApiError> {
    text.parse().map_err(|error| refused(field, &error))
}

/// A digest in its text form.
pub(crate) fn digest(field: &str, text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: String| refused(field, &error))
}

/// The operation of a message.
pub(crate) fn operation(field: &str, wire: Option<history_v1::Operation>) -> Result<OperationId, ApiError> {
    let wire = wire.ok_or_else(|| refused(field, &"must be given"))?;
    let attempt = u32::try_from(wire.attempt)
        .map_err(|_| refused(&format!("{field}.attempt"), &format!("{} is less than 0", wire.attempt)))?;
    Ok(OperationId::new(wire.position, attempt))
}

/// An operation as a message.
pub(crate) fn of_operation(id: &OperationId) -> history_v1::Operation {
    history_v1::Operation { position: id.position.clone(), attempt: i32::try_from(id.attempt).unwrap_or(i32::MAX) }
}

/// A report of a message.
pub(crate) fn report(wire: worker_v1::ReportRequest) -> Result<Report, ApiError> {
    let mut contents = Vec::with_capacity(wire.contents.len());
    for (index, it) in wire.contents.into_iter().enumerate() {
        let field = format!("contents[{index}].digest");
        let named = digest(&field, &it.digest)?;
        if Digest::of(&it.content) != named {
            return Err(refused(&field, &format!("{named} is not the digest of the content beside it")));
        }
        contents.push((named, it.content));
    }
    Ok(Report {
        uid: uid("uid", &wire.uid)?,
        run: HostedRun { workflow_id: wire.workflow_id, run_id: wire.run_id },
        events: wire.events,
        contents,
        want_state: wire.want_state,
    })
}

/// A report as a message.
pub(crate) fn of_report(report: Report) -> worker_v1::ReportRequest {
    let content =
        |(digest, content): (Digest, bytes::Bytes)| worker_v1::Content { digest: digest.to_string(), content };
    worker_v1::ReportRequest {
        uid: report.uid.to_string(),
        workflow_id: report.run.workflow_id,
        run_id: report.run.run_id,
        events: report.events,
        contents: report.contents.into_iter().map(content).collect(),
        want_state: report.want_state,
    }
}

/// What became of a report, of a message.
pub(crate) fn reported(wire: worker_v1::ReportResponse) -> Result<Reported, ApiError> {
    use worker_v1::report_response::Reported as Wire;
    match wire.reported {
        Some(Wire::Taken(it)) => {
            Ok(Reported::Taken { state: it.state.map(|state| digest("taken.state", &state)).transpose()? })
        }
        Some(Wire::Diverged(it)) => Ok(Reported::Diverged { state: digest("diverged.state", &it.state)? }),
        Some(Wire::Closed(worker_v1::Closed {})) => Ok(Reported::Closed),
        None => Err(refused("reported", &"is none of taken, diverged and closed")),
    }
}

/// What became of a report, as a message.
pub(crate) fn of_reported(reported: &Reported) -> worker_v1::ReportResponse {
    use worker_v1::report_response::Reported as Wire;
    let wire = match reported {
        Reported::Taken { state } => Wire::Taken(worker_v1::Taken { state: state.map(|it| it.to_string()) }),
        Reported::Diverged { state } => Wire::Diverged(worker_v1::Diverged { state: state.to_string() }),
        Reported::Closed => Wire::Closed(worker_v1::Closed {}),
    };
    worker_v1::ReportResponse { reported: Some(wire) }
}

/// The task of a message.
pub(crate) fn task(wire: worker_v1::GetTaskResponse) -> Result<Option<HostedTask>, ApiError> {
    let Some(task) = wire.task else { return Ok(None) };
    let input = serde_json::from_str(&task.input_json).map_err(|error| refused("task.input_json", &error))?;
    let task = ActivityTask {
        execution: uid("task.execution", &task.execution)?,
        namespace: task.namespace,
        name: task.name,
        id: operation("task.operation", task.operation)?,
        idempotency_key: task.idempotency_key,
        activity: task.activity,
        input,
        start_to_close_ms: task.start_to_close_ms,
        // Those who look on look at the server: from here they see what is recorded.
        emitter: Emitter::default(),
        origin: task.origin.map(origin).transpose()?.unwrap_or_default(),
    };
    Ok(Some(HostedTask { task, token: wire.token }))
}

/// A task as a message.
pub(crate) fn of_task(task: Option<HostedTask>) -> worker_v1::GetTaskResponse {
    let Some(HostedTask { task, token }) = task else { return worker_v1::GetTaskResponse::default() };
    let task = worker_v1::ActivityTask {
        execution: task.execution.to_string(),
        namespace: task.namespace,
        name: task.name,
        operation: Some(of_operation(&task.id)),
        idempotency_key: task.idempotency_key,
        activity: task.activity,
        input_json: task.input.to_string(),
        start_to_close_ms: task.start_to_close_ms,
        origin: Some(of_origin(task.origin)),
    };
    worker_v1::GetTaskResponse { task: Some(task), token }
}

fn origin(wire: worker_v1::Origin) -> Result<Origin, ApiError> {
    let kinds = [ProgramKind::Workflow, ProgramKind::Agent];
    let labels = if wire.labels_json.is_empty() {
        Map::new()
    } else {
        serde_json::from_str(&wire.labels_json).map_err(|error| refused("task.origin.labels_json", &error))?
    };
    Ok(Origin {
        kind: kinds.into_iter().find(|kind| kind.template_kind() == wire.kind),
        root: if wire.root.is_empty() { None } else { Some(uid("task.origin.root", &wire.root)?) },
        template: wire.template,
        session: wire.session,
        labels,
    })
}

fn of_origin(origin: Origin) -> worker_v1::Origin {
    worker_v1::Origin {
        kind: origin.kind.map(|kind| kind.template_kind().to_owned()).unwrap_or_default(),
        root: origin.root.map(|root| root.to_string()).unwrap_or_default(),
        template: origin.template,
        session: origin.session,
        labels_json: Value::Object(origin.labels).to_string(),
    }
}

fn refused(field: &str, why: &dyn std::fmt::Display) -> ApiError {
    ApiError::violations(vec![Violation::new(field, why.to_string())])
}
