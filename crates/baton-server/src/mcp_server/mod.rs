//! Workflows and agents as tools for any client of the Model Context Protocol: `/mcp/{namespace}`, streamable HTTP.
//!
//! What is published (see [`crate::app::outside`]) is listed as a tool. A call begins an execution, which is durable whatever
//! becomes of the client, of the connection and of this server. A client that knows the tasks extension of the protocol gets a
//! task, whose id is the execution's uid; any other is answered when the execution has ended, or after [`WAIT`] with a receipt,
//! to be collected with the tool `baton_result`.
//!
//! # Invariants
//! - Stateless: nothing is kept of a client between two requests, so any server of the store answers, before and after a restart.
//! - A repeat of a call with the same `_meta` key `baton.dev/idempotencyKey` begins nothing new. The ids of requests are no such
//!   keys: every client counts them from 1.
//! - A client that goes away stops waiting and nothing else.
//!
//! # Deliberately absent
//! Sessions, resources, prompts, sampling. Decisions on approvals: see [`crate::interop`].
//!
//! # Failure
//! What a model can mend (arguments) is a result that is an error; what it cannot is an error of the protocol.

mod calls;
mod tasks;
mod tools;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request},
    response::{IntoResponse as _, Response},
    routing::any,
};
use baton_types::{ApiError, ErrorKind, check_namespace};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CancelTaskParams, GetTaskParams, GetTaskResult, Implementation,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, UpdateTaskParams,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{app::App, errors, rest};

/// How long a call waits for its execution if it does not say: below what clients usually wait for an answer.
pub(crate) const WAIT: Duration = Duration::from_secs(50);
/// Longest that a call can ask to wait.
const WAIT_MAX: Duration = Duration::from_mins(10);
/// Calls that wait at the same time; further ones are answered with a receipt at once.
const WAITING_MAX: usize = 1024;

/// What clients are told about this server.
const INSTRUCTIONS: &str = "Each tool starts a durable run of a workflow or an agent. A run that takes long is answered with a \
     receipt: collect it later with baton_result, do not call the tool again. Some runs wait until a person has decided on an \
     approval; you cannot decide.";

/// The namespace of a request, from its path.
#[derive(Clone)]
struct Namespace(String);

#[derive(Clone)]
struct McpServer {
    app: App,
    waiting: Arc<Semaphore>,
}

/// The one route.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(app: &App, stopping: &CancellationToken) -> Router<S> {
    let server = McpServer { app: app.clone(), waiting: Arc::new(Semaphore::new(WAITING_MAX)) };
    // Hosts and origins are judged for all of the server's routes alike.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .disable_allowed_hosts()
        .with_max_request_body_bytes(rest::BODY_BYTES_MAX)
        .with_cancellation_token(stopping.clone());
    let service =
        StreamableHttpService::new(move || Ok(server.clone()), Arc::new(NeverSessionManager::default()), config);
    let answer = move |Path(namespace): Path<String>, mut request: Request| {
        let service = service.clone();
        async move {
            if let Err(message) = check_namespace(&namespace) {
                let message = format!("the namespace in the path {message}");
                return rest::refuse(ApiError::new(ErrorKind::NotFound, "PATH_NOT_FOUND", message));
            }
            request.extensions_mut().insert(Namespace(namespace));
            let response: Response = service.handle(request).await.map(Body::new).into_response();
            response
        }
    };
    Router::new().route("/mcp/{namespace}", any(answer))
}

/// The namespace that a request is about.
fn namespace(context: &RequestContext<RoleServer>) -> Result<String, ErrorData> {
    let parts = context.extensions.get::<axum::http::request::Parts>();
    let namespace = parts.and_then(|parts| parts.extensions.get::<Namespace>());
    namespace.map(|it| it.0.clone()).ok_or_else(|| ErrorData::internal_error("the request has no namespace", None))
}

/// An error of the application layer as one of the protocol.
fn refused(error: &ApiError) -> ErrorData {
    errors::log(error);
    let data = json!({"reason": error.reason, "hint": error.hint, "violations": error.violations.iter().map(ToString::to_string).collect::<Vec<_>>()});
    let message = error.message.clone();
    match error.kind {
        ErrorKind::InvalidArgument
        | ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::FailedPrecondition
        | ErrorKind::TooLarge
        | ErrorKind::Gone => ErrorData::invalid_params(message, Some(data)),
        ErrorKind::Unauthenticated
        | ErrorKind::PermissionDenied
        | ErrorKind::ResourceExhausted
        | ErrorKind::StorageFull
        | ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Unimplemented
        | ErrorKind::Internal => ErrorData::internal_error(message, Some(data)),
    }
}

impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tasks().build())
            .with_server_info(Implementation::new("baton", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        tools::list(&self.app, &namespace(&context)?, cursor).await.map_err(|error| refused(&error))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let namespace = namespace(&context)?;
        calls::call(self, &namespace, request, &context).await
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let execution = tasks::find(&self.app, &namespace(&context)?, &request.task_id).await?;
        Ok(GetTaskResult::new(tasks::detailed(&self.app, &execution).await.map_err(|error| refused(&error))?))
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        tasks::find(&self.app, &namespace(&context)?, &request.task_id).await?;
        let message = "this task asks nothing of the client that began it: its approvals are decided by a person, with baton \
                       approve or baton deny";
        Err(ErrorData::invalid_params(message, None))
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let execution = tasks::find(&self.app, &namespace(&context)?, &request.task_id).await?;
        tasks::cancel(&self.app, &execution).await.map(drop).map_err(|error| refused(&error))
    }
}
