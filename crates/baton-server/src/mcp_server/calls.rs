//! Calls of tools: what they begin, how long they wait, what they answer.

use std::{sync::Arc, time::Duration};

use baton_execution::ProgramKind;
use baton_proto::{
    ExecutionResource,
    history_v1::HistoryEvent,
    v1::{
        Agent, AgentExecution, AgentExecutionSpec, Approval, Json, ObjectMeta, Workflow, WorkflowExecution,
        WorkflowExecutionSpec,
    },
};
use baton_types::{ApiError, ErrorKind, Violation, parse_duration};
use futures::StreamExt as _;
use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult, JsonObject,
        ProgressNotificationParam,
    },
    service::RequestContext,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{McpServer, WAIT, WAIT_MAX, refused, tasks, tools};
use crate::{
    app::{
        App, ExecutionKind as _, WriteOptions,
        outside::{INTERFACE, Interface},
    },
    interop::{Ending, follow, moves, progress, question, shown},
};

/// In `_meta`: the same for every repeat of one call.
const IDEMPOTENCY_KEY: &str = "baton.dev/idempotencyKey";
/// In `_meta`: how long the call waits, such as `10s`.
const WAIT_KEY: &str = "baton.dev/wait";

/// Answers a call.
pub(super) async fn call(
    server: &McpServer,
    namespace: &str,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let arguments = request.arguments.unwrap_or_default();
    let app = &server.app;
    match request.name.as_ref() {
        tools::RESULT => {
            let execution = tasks::find(app, namespace, id_of(&arguments)?).await?;
            let wait = wait_of(arguments.get("wait"), "wait")?;
            Ok(settle(server, execution, wait, true, context).await.map_err(|error| refused(&error))?.into())
        }
        tools::CANCEL => {
            let execution = tasks::find(app, namespace, id_of(&arguments)?).await?;
            tasks::cancel(app, &execution).await.map_err(|error| refused(&error))?;
            Ok(CallToolResult::success(vec![ContentBlock::text("the run was asked to wind up")]).into())
        }
        tool => {
            let wait = wait_of(context.meta.get(WAIT_KEY), WAIT_KEY)?;
            let key = key_of(context)?;
            let begun = match begin(app, namespace, tool, arguments, key).await {
                Ok(Some(begun)) => begun,
                Ok(None) => {
                    let tool = crate::app::shortened(tool);
                    let message =
                        format!("no tool '{tool}' in the namespace '{namespace}'; tools/list names those there are");
                    return Err(ErrorData::invalid_params(message, None));
                }
                Err(wrong) if is_of_the_arguments(&wrong) => return Ok(CallToolResult::error(told(&wrong)).into()),
                Err(error) => return Err(refused(&error)),
            };
            if context.client_capabilities().is_some_and(|client| client.supports_tasks()) {
                return Ok(CallToolResponse::Task(CreateTaskResult::new(tasks::begun(&begun))));
            }
            Ok(settle(server, begun, wait, false, context).await.map_err(|error| refused(&error))?.into())
        }
    }
}

fn id_of(arguments: &JsonObject) -> Result<&str, ErrorData> {
    let id = arguments.get("id").and_then(Value::as_str);
    id.ok_or_else(|| ErrorData::invalid_params("'id' must be the id in the receipt of a run, as a text", None))
}

fn wait_of(value: Option<&Value>, field: &str) -> Result<Duration, ErrorData> {
    let Some(value) = value else { return Ok(WAIT) };
    let wait = value.as_str().map(parse_duration).and_then(Result::ok).filter(|wait| *wait <= WAIT_MAX);
    wait.ok_or_else(|| {
        let message = format!("'{field}' must be a duration such as 30s, up to {} minutes", WAIT_MAX.as_secs() / 60);
        ErrorData::invalid_params(message, None)
    })
}

fn key_of(context: &RequestContext<RoleServer>) -> Result<Option<String>, ErrorData> {
    match context.meta.get(IDEMPOTENCY_KEY) {
        None => Ok(None),
        Some(Value::String(key)) if !key.is_empty() => Ok(Some(key.clone())),
        Some(_) => {
            Err(ErrorData::invalid_params(format!("_meta '{IDEMPOTENCY_KEY}' must be a text that is not empty"), None))
        }
    }
}

/// Whether a model can mend what is wrong: the error is then a result of the call.
fn is_of_the_arguments(error: &ApiError) -> bool {
    matches!(
        error.kind,
        ErrorKind::InvalidArgument | ErrorKind::Invalid | ErrorKind::AlreadyExists | ErrorKind::TooLarge
    )
}

fn told(error: &ApiError) -> Vec<ContentBlock> {
    let mut text = error.message.clone();
    if error.kind == ErrorKind::AlreadyExists {
        "the idempotency key was used for another call before".clone_into(&mut text);
    }
    for violation in &error.violations {
        text.push('\n');
        text.push_str(&violation.to_string());
    }
    vec![ContentBlock::text(text)]
}

/// Begins the execution that a tool stands for; `None` if there is no such tool.
async fn begin(
    app: &App,
    namespace: &str,
    tool: &str,
    arguments: JsonObject,
    key: Option<String>,
) -> Result<Option<ExecutionResource>, ApiError> {
    let Some((kind, name)) = tools::template_of(tool) else { return Ok(None) };
    let mut metadata = ObjectMeta { namespace: namespace.to_owned(), ..ObjectMeta::default() };
    metadata.labels.insert(INTERFACE.to_owned(), Interface::Mcp.as_str().to_owned());
    match &key {
        Some(key) => metadata.name = Interface::Mcp.execution_name(kind, name, key),
        None => metadata.generate_name = format!("{}-", Interface::Mcp.as_str()),
    }
    let request_id = key.unwrap_or_default();
    let options = WriteOptions::default();
    Ok(Some(match kind {
        ProgramKind::Workflow => {
            let Some(workflow) = app.offered::<Workflow>(Interface::Mcp, namespace, name).await? else {
                return Ok(None);
            };
            let (_, wrapped) = tools::input_of(&tools::definition_of(&workflow));
            let input = input_of(arguments, wrapped)?;
            let input = Some(Json::from_value(&input));
            let spec = WorkflowExecutionSpec {
                workflow: name.to_owned(),
                input,
                request_id,
                ..WorkflowExecutionSpec::default()
            };
            let object =
                WorkflowExecution { metadata: Some(metadata), spec: Some(spec), ..WorkflowExecution::default() };
            app.create(object, options).await?.object.into_execution()
        }
        ProgramKind::Agent => {
            if app.offered::<Agent>(Interface::Mcp, namespace, name).await?.is_none() {
                return Ok(None);
            }
            let (message, input) = message_of(arguments)?;
            let spec = AgentExecutionSpec {
                agent: name.to_owned(),
                message,
                input,
                request_id,
                ..AgentExecutionSpec::default()
            };
            let object = AgentExecution { metadata: Some(metadata), spec: Some(spec), ..AgentExecution::default() };
            app.create(object, options).await?.object.into_execution()
        }
    }))
}

fn input_of(mut arguments: JsonObject, wrapped: bool) -> Result<Value, ApiError> {
    if !wrapped {
        return Ok(Value::Object(arguments));
    }
    let input = arguments.shift_remove("input");
    match (input, arguments.keys().next()) {
        (Some(input), None) => Ok(input),
        (None, _) => Err(ApiError::violations(vec![Violation::new("input", "must be set: the input of the workflow")])),
        (Some(_), Some(other)) => Err(unknown(other, "'input'")),
    }
}

fn message_of(mut arguments: JsonObject) -> Result<(String, Option<Json>), ApiError> {
    let message = match arguments.shift_remove("message") {
        Some(Value::String(message)) if !message.is_empty() => message,
        _ => {
            return Err(ApiError::violations(vec![Violation::new(
                "message",
                "must be a text: what the agent is asked",
            )]));
        }
    };
    let input = arguments.shift_remove("input").filter(|input| !input.is_null()).map(|input| Json::from_value(&input));
    match arguments.keys().next() {
        None => Ok((message, input)),
        Some(other) => Err(unknown(other, "'message' and 'input'")),
    }
}

fn unknown(argument: &str, allowed: &str) -> ApiError {
    let message = format!("is no argument of this tool; allowed: {allowed}");
    ApiError::violations(vec![Violation::new(crate::app::shortened(argument), message)])
}

/// Waits for the end of an execution, telling the client how far it is; gives a receipt if it does not come in time, or, unless
/// `patient`, if a person is to decide first.
async fn settle(
    server: &McpServer,
    execution: ExecutionResource,
    wait: Duration,
    patient: bool,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, ApiError> {
    let app = &server.app;
    let deadline = Instant::now() + wait;
    let place = Arc::clone(&server.waiting).try_acquire_owned().ok();
    let mut current = execution;
    if let (Some(_), false) = (&place, current.phase().is_terminal()) {
        let mut events = follow(app, &current, 0).await?;
        loop {
            let event = tokio::select! {
                event = events.next() => event.transpose()?,
                () = sleep_until(deadline) => None,
                () = context.ct.cancelled() => None,
            };
            let Some(event) = event else { break };
            tell(context, &event).await;
            if !moves(&event) {
                continue;
            }
            current = again(app, current).await?;
            if current.phase().is_terminal() || !(patient || app.questions(&current).await?.is_empty()) {
                break;
            }
        }
        current = again(app, current).await?;
    }
    match Ending::of(app, &current).await? {
        Some(ending) => Ok(result(&ending)),
        None => Ok(receipt(&current, &app.questions(&current).await?)),
    }
}

/// An execution as it is now.
async fn again(app: &App, execution: ExecutionResource) -> Result<ExecutionResource, ApiError> {
    let meta = execution.metadata();
    let found = app.begun_through(Interface::Mcp, &meta.namespace, &meta.uid).await?;
    found.ok_or_else(|| ApiError::not_found("execution", &meta.name, &meta.namespace))
}

/// Sends a notification of progress, if the client wants any and there is something to tell.
async fn tell(context: &RequestContext<RoleServer>, event: &HistoryEvent) {
    let (Some(token), Some(message)) = (context.meta.get_progress_token(), progress(event)) else { return };
    let progress = ProgressNotificationParam::new(token, f64::from(event.number)).with_message(message);
    // A client that is not there any more needs no progress.
    let _ = context.peer.notify_progress(progress).await;
}

/// The result of a run that has ended.
pub(super) fn result(ending: &Ending) -> CallToolResult {
    match ending {
        Ending::Output(output) => {
            let mut result = CallToolResult::success(vec![ContentBlock::text(shown(output))]);
            result.structured_content = output.is_object().then(|| output.clone());
            result
        }
        Ending::Failed(said) => CallToolResult::error(vec![ContentBlock::text(format!("the run failed: {said}"))]),
        Ending::Cancelled(said) => {
            CallToolResult::error(vec![ContentBlock::text(format!("the run was cancelled: {said}"))])
        }
    }
}

/// What a client gets of a run that has not ended: where to ask for it.
fn receipt(execution: &ExecutionResource, questions: &[Approval]) -> CallToolResult {
    let meta = execution.metadata();
    let (state, why) = match questions {
        [] => ("running", "it goes on, whatever becomes of this connection".to_owned()),
        questions => ("waiting", questions.iter().map(question).collect::<Vec<_>>().join("\n")),
    };
    let message = format!(
        "the run has not ended: {why}. Collect its result later with the tool {} and {{\"id\": \"{}\"}}; do not start it again. \
         It is the {} '{}' in the namespace '{}'.",
        tools::RESULT,
        meta.uid,
        execution.kind(),
        meta.name,
        meta.namespace
    );
    let mut result = CallToolResult::success(vec![ContentBlock::text(message.clone())]);
    result.structured_content =
        Some(json!({"id": meta.uid, "execution": meta.name, "state": state, "message": message}));
    result
}
