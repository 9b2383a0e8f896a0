//! What a client of another protocol is shown of an execution: that it moves on, what people are asked, how it ended.
//!
//! Both [`crate::mcp_server`] and [`crate::a2a_server`] follow the event history, which is numbered and durable: whoever comes
//! back, to this server or to one that was started again, sees the same.
//!
//! # Deliberately absent
//! Decisions. An approval is shown to the client that began the execution and cannot be answered by it: whoever asks for a run
//! must not be the one who allows its tool calls.

use baton_proto::{
    ExecutionResource, Timestamp,
    history_v1::{Data, HistoryEvent, history_event::Attributes, note},
    v1::{AgentExecution, Approval, HistoryRequest, WorkflowExecution},
};
use baton_types::{ApiError, Digest, Phase};
use futures::{StreamExt as _, stream::BoxStream};
use serde_json::Value;

use crate::app::App;

/// Largest output that goes into an answer, in bytes; of a larger one, only where it is.
pub(crate) const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// How an execution ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    /// With this output.
    Output(Value),
    /// With a fault or past its time; a text that says so.
    Failed(String),
    /// Because somebody wanted it to; a text that says so.
    Cancelled(String),
}

impl Ending {
    /// Of an execution; `None` if it has not ended.
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) async fn of(app: &App, execution: &ExecutionResource) -> Result<Option<Self>, ApiError> {
        let phase = execution.phase();
        if !phase.is_terminal() {
            return Ok(None);
        }
        let said = problem(execution);
        Ok(Some(match phase {
            Phase::Completed => Self::Output(output(app, execution).await?),
            Phase::Cancelled => Self::Cancelled(said.unwrap_or_else(|| "the execution was cancelled".to_owned())),
            Phase::TimedOut => Self::Failed(said.unwrap_or_else(|| "the execution ran out of time".to_owned())),
            Phase::Pending | Phase::Running | Phase::Suspended | Phase::Failed => {
                Self::Failed(said.unwrap_or_else(|| "the execution failed".to_owned()))
            }
        }))
    }
}

/// What `status.error` says, in one line.
fn problem(execution: &ExecutionResource) -> Option<String> {
    let error = execution.error()?.as_ref()?;
    let parts = [error.title.as_str(), error.detail.as_str()].into_iter().filter(|part| !part.is_empty());
    let said = parts.collect::<Vec<_>>().join(": ");
    Some(match (error.r#type.as_str(), said.as_str()) {
        ("", "") => return None,
        (kind, "") => kind.to_owned(),
        ("", said) => said.to_owned(),
        (kind, said) => format!("{said} ({kind})"),
    })
}

async fn output(app: &App, execution: &ExecutionResource) -> Result<Value, ApiError> {
    let Some(text) = app.output_of(execution).await? else { return Ok(Value::Null) };
    if text.len() > OUTPUT_BYTES_MAX {
        let meta = execution.metadata();
        let plural = execution.kind().to_ascii_lowercase();
        return Ok(Value::String(format!(
            "the output has {} bytes, more than {OUTPUT_BYTES_MAX}; it is at \
             /apis/baton.dev/v1/namespaces/{}/{plural}s/{}/output",
            text.len(),
            meta.namespace,
            meta.name
        )));
    }
    serde_json::from_str(&text).map_err(|error| ApiError::internal(format!("an output is not JSON: {error}")))
}

/// When an execution last came into another state, as far as its status says.
pub(crate) fn changed(execution: &ExecutionResource) -> Timestamp {
    let transitions = execution.conditions().into_iter().flatten().filter_map(|it| it.last_transition_time);
    let ended = execution.completion_time().copied().flatten();
    let created = execution.metadata().creation_timestamp.unwrap_or_default();
    transitions.chain(ended).max_by_key(Timestamp::as_millis).unwrap_or(created)
}

/// An output as text: a text as it is, anything else as JSON.
pub(crate) fn shown(output: &Value) -> String {
    output.as_str().map_or_else(|| output.to_string(), str::to_owned)
}

/// A question to a person, in one line for whoever waits for the answer. The arguments are for whoever decides.
pub(crate) fn question(approval: &Approval) -> String {
    let (name, namespace) =
        approval.metadata.as_ref().map(|meta| (meta.name.as_str(), meta.namespace.as_str())).unwrap_or_default();
    let spec = approval.spec.clone().unwrap_or_default();
    let tool = if spec.tool.is_empty() { String::new() } else { format!(" for the tool '{}'", spec.tool) };
    let asked = [spec.message.as_str(), spec.why.as_str()].into_iter().filter(|part| !part.is_empty());
    let asked = asked.collect::<Vec<_>>().join("; ");
    format!(
        "waits for a person to decide on the approval '{name}'{tool}: {asked}. It is decided with baton approve {name} -n \
         {namespace}, or baton deny; not through this protocol"
    )
}

/// Follows the history of an execution of either kind.
///
/// # Errors
/// As for [`App::watch_history`].
pub(crate) async fn follow(
    app: &App,
    execution: &ExecutionResource,
    after: i32,
) -> Result<BoxStream<'static, Result<HistoryEvent, ApiError>>, ApiError> {
    let meta = execution.metadata();
    let request = HistoryRequest {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        after,
        ..HistoryRequest::default()
    };
    Ok(match execution {
        ExecutionResource::Workflow(_) => app.watch_history::<WorkflowExecution>(&request).await?.boxed(),
        ExecutionResource::Agent(_) => app.watch_history::<AgentExecution>(&request).await?.boxed(),
    })
}

/// Whether a client may be shown another state after an event.
pub(crate) fn moves(event: &HistoryEvent) -> bool {
    matches!(
        event.attributes,
        Some(
            Attributes::Started(_)
                | Attributes::ApprovalRequested(_)
                | Attributes::CallbackAnswered(_)
                | Attributes::WaitClosed(_)
                | Attributes::Suspended(_)
                | Attributes::Resumed(_)
                | Attributes::Ended(_)
        )
    )
}

/// What an event says of how far an execution has come, in a few words; `None` for most events.
pub(crate) fn progress(event: &HistoryEvent) -> Option<String> {
    let Some(Attributes::Note(note)) = &event.attributes else { return None };
    match note.note.as_ref()? {
        note::Note::TaskStarted(task) => Some(format!("{} '{}'", task.kind, task.name)),
        note::Note::Artifact(it) => Some(format!("made '{}', {} bytes", it.name, it.size_bytes)),
        note::Note::TaskRetried(task) => Some(format!("'{}' is tried again, attempt {}", task.position, task.attempt)),
        note::Note::TaskCompleted(_)
        | note::Note::TaskSkipped(_)
        | note::Note::TaskFaulted(_)
        | note::Note::TaskCancelled(_)
        | note::Note::Message(_) => None,
    }
}

/// A text of a history; empty if it is none.
///
/// # Errors
/// What the store answers.
pub(crate) async fn text_of(app: &App, data: &Data) -> Result<String, ApiError> {
    let text = match data.digest.parse::<Digest>() {
        Err(_) => data.text.clone(),
        Ok(digest) => {
            let content = app.read(move |store| store.blob(digest.as_bytes())).await?.unwrap_or_default();
            String::from_utf8_lossy(&content).into_owned()
        }
    };
    Ok(serde_json::from_str::<String>(&text).unwrap_or_default())
}
