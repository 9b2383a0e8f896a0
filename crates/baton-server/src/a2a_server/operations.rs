//! What the operations do, whichever binding carried them.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use baton_execution::ProgramKind;
use baton_proto::v1::{AgentExecution, AgentExecutionSpec, Json, ListRequest, ObjectMeta};
use baton_types::{ApiError, Digest, ErrorKind};
use futures::{StreamExt as _, stream::BoxStream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    A2aServer, Place,
    error::{A2aError, Kind},
    push, stream,
    task::Task,
    wire::{self, Message},
};
use crate::{
    app::{
        App, ExecutionKind as _, WriteOptions,
        outside::{INTERFACE, Interface},
    },
    interop::{follow, moves},
};

/// Longest that `SendMessage` waits for the end of a task; its client then gets the task as it is.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// Messages in a task that is asked for without a number.
const HISTORY_DEFAULT: usize = 100;
/// Tasks of a page: if nothing is said, and at most.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: i64 = 100;
/// What agents answer with.
const OUTPUT_MODES: [&str; 2] = ["text/plain", "application/json"];
const STATES: [&str; 8] = [
    "TASK_STATE_SUBMITTED",
    "TASK_STATE_WORKING",
    "TASK_STATE_COMPLETED",
    "TASK_STATE_FAILED",
    "TASK_STATE_CANCELED",
    "TASK_STATE_INPUT_REQUIRED",
    "TASK_STATE_REJECTED",
    "TASK_STATE_AUTH_REQUIRED",
];

/// An operation of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    SendMessage,
    SendStreamingMessage,
    GetTask,
    ListTasks,
    CancelTask,
    SubscribeToTask,
    CreatePushConfig,
    GetPushConfig,
    ListPushConfigs,
    DeletePushConfig,
    GetExtendedAgentCard,
}

impl Operation {
    /// As JSON-RPC names it.
    pub(super) fn parse(method: &str) -> Option<Self> {
        Some(match method {
            "SendMessage" => Self::SendMessage,
            "SendStreamingMessage" => Self::SendStreamingMessage,
            "GetTask" => Self::GetTask,
            "ListTasks" => Self::ListTasks,
            "CancelTask" => Self::CancelTask,
            "SubscribeToTask" => Self::SubscribeToTask,
            "CreateTaskPushNotificationConfig" => Self::CreatePushConfig,
            "GetTaskPushNotificationConfig" => Self::GetPushConfig,
            "ListTaskPushNotificationConfigs" => Self::ListPushConfigs,
            "DeleteTaskPushNotificationConfig" => Self::DeletePushConfig,
            "GetExtendedAgentCard" => Self::GetExtendedAgentCard,
            _ => return None,
        })
    }
}

/// What an operation gives.
pub(super) enum Reply {
    Whole(Value),
    Stream(BoxStream<'static, Result<Value, A2aError>>),
}

/// Does what a client asks of an agent.
pub(super) async fn perform(
    server: &A2aServer,
    place: &Place,
    operation: Operation,
    params: Value,
) -> Result<Reply, A2aError> {
    let app = &server.app;
    let whole = |value| Ok(Reply::Whole(value));
    match operation {
        Operation::SendMessage => {
            let request: wire::SendMessage = wire::read(params)?;
            let history = wire::history_length(request.configuration.history_length)?.unwrap_or(HISTORY_DEFAULT);
            let at_once = request.configuration.return_immediately;
            let task = send(server, place, request).await?;
            let task = if at_once { task } else { settled(server, place, task).await? };
            whole(json!({"task": task.whole(app, history, true).await?}))
        }
        Operation::SendStreamingMessage => {
            let task = send(server, place, wire::read(params)?).await?;
            Ok(Reply::Stream(stream::updates(server, place, task, 0).await?))
        }
        Operation::GetTask => {
            let request: wire::OfTask = wire::read(params)?;
            wire::no_tenant(&request.tenant)?;
            let history = wire::history_length(request.history_length)?.unwrap_or(HISTORY_DEFAULT);
            whole(find(app, place, &request.id).await?.whole(app, history, true).await?)
        }
        Operation::ListTasks => whole(list(app, place, wire::read(params)?).await?),
        Operation::CancelTask => {
            let request: wire::OfTask = wire::read(params)?;
            wire::no_tenant(&request.tenant)?;
            let task = find(app, place, &request.id).await?;
            whole(cancel(app, &task).await?.whole(app, 0, true).await?)
        }
        Operation::SubscribeToTask => {
            let request: wire::OfTask = wire::read(params)?;
            wire::no_tenant(&request.tenant)?;
            // What was said before is in the task itself.
            let (_, after) = find(app, place, &request.id).await?.told(app, 0).await?;
            let task = find(app, place, &request.id).await?;
            if task.execution.phase().is_terminal() {
                let message = "the task has ended: get it instead";
                return Err(A2aError::new(Kind::UnsupportedOperation, message));
            }
            Ok(Reply::Stream(stream::updates(server, place, task, after).await?))
        }
        Operation::CreatePushConfig => {
            let config: wire::PushConfig = wire::read(params)?;
            let target = push::check(&config, &server.egress, "")?;
            let task = find(app, place, &config.task_id).await?;
            whole(push::put(app, &place.namespace, &task, target).await?)
        }
        Operation::GetPushConfig => {
            let (task, request) = of_config(app, place, params).await?;
            whole(push::get(app, &place.namespace, &task, &request.id).await?)
        }
        Operation::ListPushConfigs => {
            let (task, _) = of_config(app, place, params).await?;
            let configs = push::list(app, &place.namespace, &task).await?;
            whole(json!({"configs": configs, "nextPageToken": ""}))
        }
        Operation::DeletePushConfig => {
            let (task, request) = of_config(app, place, params).await?;
            push::delete(app, &place.namespace, &task, &request.id).await?;
            whole(json!({}))
        }
        Operation::GetExtendedAgentCard => {
            let message = "there is no extended card: what the agent offers stands in its public card";
            Err(A2aError::new(Kind::ExtendedCardNotConfigured, message))
        }
    }
}

/// The task of an agent with an id. Whoever may see a task is decided in [`App::begun_through`].
pub(super) async fn find(app: &App, place: &Place, id: &str) -> Result<Task, A2aError> {
    let found = app.begun_through(Interface::A2a, &place.namespace, id).await?.and_then(Task::of);
    let of_agent =
        |task: &Task| task.object().and_then(|it| it.spec.as_ref()).is_some_and(|it| it.agent == place.agent);
    found.filter(of_agent).ok_or_else(|| A2aError::no_task(id))
}

async fn of_config(app: &App, place: &Place, params: Value) -> Result<(Task, wire::OfConfig), A2aError> {
    let request: wire::OfConfig = wire::read(params)?;
    wire::no_tenant(&request.tenant)?;
    Ok((find(app, place, &request.task_id).await?, request))
}

/// Begins the task of a message; a repeat of the message gives the same task.
async fn send(server: &A2aServer, place: &Place, request: wire::SendMessage) -> Result<Task, A2aError> {
    let (app, message) = (&server.app, &request.message);
    wire::no_tenant(&request.tenant)?;
    let said = message.said()?;
    check_modes(&request.configuration.accepted_output_modes)?;
    let push = request.configuration.task_push_notification_config.as_ref();
    let push = push
        .map(|config| push::check(config, &server.egress, "configuration.taskPushNotificationConfig."))
        .transpose()?;
    if !message.task.is_empty() {
        return Err(to_existing(&find(app, place, &message.task).await?));
    }
    let mut metadata = ObjectMeta {
        namespace: place.namespace.clone(),
        name: Interface::A2a.execution_name(ProgramKind::Agent, &place.agent, &message.id),
        ..ObjectMeta::default()
    };
    metadata.labels.insert(INTERFACE.to_owned(), Interface::A2a.as_str().to_owned());
    let spec = AgentExecutionSpec {
        agent: place.agent.clone(),
        message: said.text,
        input: said.input.map(|input| Json::from_value(&input)),
        attachments: said.attachments,
        session: place.session_of(&context(place, message)?)?,
        request_id: message.id.clone(),
        ..AgentExecutionSpec::default()
    };
    let object = AgentExecution { metadata: Some(metadata), spec: Some(spec), ..AgentExecution::default() };
    let written = app.create(object, WriteOptions::default()).await.map_err(|refused| match refused.kind {
        ErrorKind::AlreadyExists => A2aError::field("message.messageId", "was used for another message before"),
        _ => A2aError::from(refused),
    })?;
    let task = Task::of(written.object.into_execution()).ok_or_else(|| ApiError::internal("no agent execution"))?;
    if let Some(target) = push {
        push::put(app, &place.namespace, &task, target).await?;
    }
    Ok(task)
}

/// The id of the context of a message: the client's, or one that is the same for every repeat of the message.
fn context(place: &Place, message: &Message) -> Result<String, A2aError> {
    if !message.context.is_empty() {
        place.session_of(&message.context)?;
        return Ok(message.context.clone());
    }
    let identity = ["a2a context", &place.namespace, &place.agent, &message.id].join("\0");
    Ok(hex::encode(&Digest::of(identity.as_bytes()).as_bytes()[..16]))
}

fn check_modes(accepted: &[String]) -> Result<(), A2aError> {
    let fits = |mode: &String| {
        let mode = mode.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        OUTPUT_MODES.contains(&mode.as_str())
            || matches!(mode.as_str(), "text" | "text/*" | "application/*" | "*/*" | "*")
    };
    if accepted.is_empty() || accepted.iter().any(fits) {
        return Ok(());
    }
    let message = format!("none of acceptedOutputModes is what agents answer with: {}", OUTPUT_MODES.join(", "));
    Err(A2aError::new(Kind::ContentTypeNotSupported, message))
}

/// Why a message cannot be added to a task.
fn to_existing(task: &Task) -> A2aError {
    let message = match task.standing() {
        _ if task.execution.phase().is_terminal() => {
            "the task has ended; send the message without 'taskId', with its 'contextId' to go on with the conversation"
        }
        standing if standing.asks.is_empty() => {
            "the task is at work and takes no further message; send the message without 'taskId', with its 'contextId', to have \
             it dealt with next"
        }
        _ => {
            "the task waits for a person to decide on an approval; whoever asks for a task does not decide about its tool calls, so \
             this is not done by a message"
        }
    };
    A2aError::new(Kind::UnsupportedOperation, message)
}

/// A task once it has ended or asks people something, or after [`WAIT_MAX`].
async fn settled(server: &A2aServer, place: &Place, mut task: Task) -> Result<Task, A2aError> {
    let Ok(_place) = Arc::clone(&server.following).try_acquire_owned() else { return Ok(task) };
    let is_settled = |task: &Task| task.execution.phase().is_terminal() || !task.standing().asks.is_empty();
    if is_settled(&task) {
        return Ok(task);
    }
    let deadline = Instant::now() + WAIT_MAX;
    let mut events = follow(&server.app, &task.execution, 0).await?;
    loop {
        let event = tokio::select! {
            event = events.next() => event.transpose()?,
            () = sleep_until(deadline) => None,
            () = server.stopping.cancelled() => None,
        };
        let over = event.is_none();
        if over || event.as_ref().is_some_and(moves) {
            task = find(&server.app, place, &task.id).await?;
        }
        if over || is_settled(&task) {
            return Ok(task);
        }
    }
}

async fn cancel(app: &App, task: &Task) -> Result<Task, A2aError> {
    let not_cancelable = || A2aError::new(Kind::TaskNotCancelable, "the task has ended");
    if task.execution.phase().is_terminal() {
        return Err(not_cancelable());
    }
    match app.cancel_begun(&task.execution, "cancelled by the client that began it, over A2A").await {
        Ok(execution) => Task::of(execution).ok_or_else(|| ApiError::internal("no agent execution").into()),
        Err(refused) if refused.kind == ErrorKind::FailedPrecondition => Err(not_cancelable()),
        Err(refused) => Err(refused.into()),
    }
}

/// A page of the agent's tasks, those that changed last first. Each page looks at all of them; kept in memory is one page.
async fn list(app: &App, place: &Place, request: wire::ListTasks) -> Result<Value, A2aError> {
    wire::no_tenant(&request.tenant)?;
    let history = wire::history_length(request.history_length)?.unwrap_or_default();
    let size = match request.page_size {
        None => PAGE_DEFAULT,
        Some(size @ 1..=PAGE_MAX) => usize::try_from(size).unwrap_or(PAGE_DEFAULT),
        Some(other) => return Err(A2aError::field("pageSize", format!("is {other}, allowed are 1 to {PAGE_MAX}"))),
    };
    let before = match request.page_token.as_str() {
        "" => u64::MAX,
        token => token.parse().map_err(|_| A2aError::field("pageToken", "is not one that this server gave"))?,
    };
    if !matches!(request.status.as_str(), "" | "TASK_STATE_UNSPECIFIED") && !STATES.contains(&request.status.as_str()) {
        let message = format!("is '{}', allowed are {}", crate::app::shortened(&request.status), STATES.join(", "));
        return Err(A2aError::field("status", message));
    }
    let mut query = ListRequest {
        namespace: place.namespace.clone(),
        label_selector: format!("{INTERFACE}={}", Interface::A2a.as_str()),
        field_selector: format!("spec.agent={}", place.agent),
        ..ListRequest::default()
    };
    let (mut total, mut page) = (0_i32, Vec::new());
    loop {
        let (meta, objects) = app.list::<AgentExecution>(&query).await?;
        for object in objects {
            let Some(task) = Task::of(object.into_execution()).filter(|task| request.selects(task)) else { continue };
            total = total.saturating_add(1);
            let revision: u64 = task.execution.metadata().resource_version.parse().unwrap_or_default();
            if revision < before {
                page.push((revision, task));
            }
        }
        page.sort_by_key(|(revision, _)| Reverse(*revision));
        page.truncate(size + 1);
        if meta.r#continue.is_empty() {
            break;
        }
        query.r#continue = meta.r#continue;
    }
    let more = page.len() > size;
    page.truncate(size);
    let next = page.last().filter(|_| more).map(|(revision, _)| revision.to_string()).unwrap_or_default();
    let mut tasks = Vec::with_capacity(page.len());
    for (_, task) in &page {
        tasks.push(task.whole(app, history, request.include_artifacts).await?);
    }
    Ok(json!({"tasks": tasks, "nextPageToken": next, "pageSize": size, "totalSize": total}))
}

impl wire::ListTasks {
    fn selects(&self, task: &Task) -> bool {
        let state =
            matches!(self.status.as_str(), "" | "TASK_STATE_UNSPECIFIED") || task.standing().state == self.status;
        let context = self.context_id.is_empty() || task.context == self.context_id;
        let since = self.status_timestamp_after.is_none_or(|since| task.updated().as_millis() >= since.as_millis());
        state && context && since
    }
}
