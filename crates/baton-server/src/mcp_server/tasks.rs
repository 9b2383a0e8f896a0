//! Executions as tasks of the tasks extension (SEP-2663). The id of a task is the uid of its execution.

use baton_proto::ExecutionResource;
use baton_types::{ApiError, ErrorKind};
use rmcp::{
    ErrorData,
    model::{DetailedTask, InputRequests, Task, TaskPayload, TaskStatus},
};
use serde_json::Value;

use super::{calls, refused};
use crate::{
    app::{App, outside::Interface},
    interop::{Ending, changed, question},
};

/// How often a client should look, in milliseconds.
const POLL_MS: u64 = 1000;

/// The execution of a task.
pub(super) async fn find(app: &App, namespace: &str, id: &str) -> Result<ExecutionResource, ErrorData> {
    let found = app.begun_through(Interface::Mcp, namespace, id).await.map_err(|error| refused(&error))?;
    found.ok_or_else(|| {
        let id = crate::app::shortened(id);
        ErrorData::invalid_params(format!("no task '{id}' in the namespace '{namespace}'"), None)
    })
}

/// Asks an execution to wind up; one that has ended stays as it is.
pub(super) async fn cancel(app: &App, execution: &ExecutionResource) -> Result<(), ApiError> {
    if execution.phase().is_terminal() {
        return Ok(());
    }
    match app.cancel_begun(execution, "cancelled by the client that began it, over MCP").await {
        Ok(_) => Ok(()),
        // It ended meanwhile.
        Err(refused) if refused.kind == ErrorKind::FailedPrecondition => Ok(()),
        Err(refused) => Err(refused),
    }
}

/// A task as it is answered to the call that began it.
pub(super) fn begun(execution: &ExecutionResource) -> Task {
    let meta = execution.metadata();
    let created = meta.creation_timestamp.unwrap_or_default();
    let updated = changed(execution);
    let message = format!("{} '{}' in the namespace '{}'", execution.kind(), meta.name, meta.namespace);
    Task::new(meta.uid.clone(), TaskStatus::Working, created.to_string(), updated.to_string())
        .with_status_message(message)
        .with_poll_interval_ms(POLL_MS)
}

/// A task with what its state has.
pub(super) async fn detailed(app: &App, execution: &ExecutionResource) -> Result<DetailedTask, ApiError> {
    let task = begun(execution);
    if let Some(ending) = Ending::of(app, execution).await? {
        return Ok(match ending {
            Ending::Cancelled(said) => DetailedTask::new(task.with_status_message(said), TaskPayload::Cancelled),
            ending @ (Ending::Output(_) | Ending::Failed(_)) => {
                let result = serde_json::to_value(calls::result(&ending)).unwrap_or_default();
                let result = if let Value::Object(result) = result { result } else { serde_json::Map::new() };
                DetailedTask::new(task, TaskPayload::Completed { result })
            }
        });
    }
    let questions = app.questions(execution).await?;
    if questions.is_empty() {
        return Ok(DetailedTask::new(task, TaskPayload::Working));
    }
    // The client is asked nothing: it shows what a person is asked, who is not the client.
    let asked = questions.iter().map(question).collect::<Vec<_>>().join("\n");
    let payload = TaskPayload::InputRequired { input_requests: InputRequests::new() };
    Ok(DetailedTask::new(task.with_status_message(asked), payload))
}
