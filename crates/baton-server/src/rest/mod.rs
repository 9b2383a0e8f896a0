//! REST in the manner of Kubernetes: `/apis/baton.dev/v1/namespaces/{namespace}/{plural}[/{name}[/{subresource}]]`.
//!
//! One set of handlers, generic over the kinds, decodes a [`call::Call`], asks the [`App`], and encodes its answer. What a
//! call means is decided there, not here: handlers check shape only (path, query, media type, size, field names).
//!
//! # Invariants
//! - Every refusal is a Kubernetes `Status` object; see [`Refusal`].
//! - A body is read up to [`body::BODY_BYTES_MAX`] and no further, whatever its declared length.
//! - A callback token goes in and never comes out, but for the answer of `callbacks:create`.
//!
//! # Deliberately absent
//! Table output, server-side apply, strategic and JSON patch, aggregated discovery: refused or answered in the
//! older form that clients fall back to.
//!
//! # Failure
//! A panic of a handler is one answer with code 500 and a line in the log; the connection lives on.

mod approvals;
mod artifacts;
mod body;
mod call;
mod callbacks;
mod discovery;
mod events;
mod executions;
mod guard;
mod openapi;
mod query;
mod refusal;
mod resources;
mod sessions;
mod stream;
mod tokens;
mod value;
mod watch;

pub(crate) use body::BODY_BYTES_MAX;
pub(crate) use value::parse_file;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode, Uri},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};
use baton_activities::EgressPolicy;
use baton_proto::v1;
use baton_types::{ApiError, ErrorKind};
use bytes::Bytes;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use self::discovery::{Ready, is_of_the_server};
use self::{call::handle, refusal::Refusal};
use crate::{
    a2a_server,
    app::{App, ExecutionKind, ServedResource},
    mcp_server,
};

/// What every handler needs.
#[derive(Clone)]
pub(crate) struct Rest {
    /// The application layer.
    pub(crate) app: App,
    /// Cancelled when the server stops: streams end.
    pub(crate) stopping: CancellationToken,
    /// Whom what goes out by a client's wish may go to.
    pub(crate) egress: Arc<EgressPolicy>,
    /// Writes the page of metrics, in the text form of Prometheus.
    pub(crate) metrics_page: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Path of the API group and version; every resource is below it.
const ROOT: &str = "/apis/baton.dev/v1";

/// All routes.
pub(crate) fn router(rest: Rest) -> Router {
    let router = Router::new()
        .merge(resource::<v1::Workflow>())
        .merge(resource::<v1::Agent>())
        .merge(resource::<v1::Secret>())
        .merge(resource::<v1::McpServer>())
        .merge(resource::<v1::Skill>())
        .merge(resource::<v1::Artifact>())
        .merge(artifact_routes())
        .merge(resource::<v1::WorkflowExecution>())
        .merge(resource::<v1::AgentExecution>())
        .merge(execution::<v1::WorkflowExecution>())
        .merge(execution::<v1::AgentExecution>())
        .merge(approval_routes())
        .merge(resource::<v1::Session>())
        .route(&in_namespace::<v1::Session>("/{name}/export"), get(handle::<v1::Session, _>(sessions::export)))
        .route(
            &in_namespace::<v1::WorkflowExecution>(":import"),
            post(handle::<v1::WorkflowExecution, _>(executions::import)),
        )
        .merge(mcp_server::router(&rest.app, &rest.stopping))
        .merge(a2a_server::router(&rest.app, &rest.stopping, &rest.egress))
        .route("/events", post(events::publish))
        .route(&format!("{ROOT}/namespaces/{{namespace}}/events"), post(events::publish));
    both(router.merge(callback_routes()), discovery::routes().into_iter().chain(openapi::routes()))
        .method_not_allowed_fallback(call::method_not_allowed)
        .fallback(call::no_such_path)
        .layer(middleware::from_fn(guard::refuse_foreign_pages))
        .layer(CatchPanicLayer::custom(on_panic))
        .with_state(rest)
}

/// What a server says of itself while another one leads.
pub(crate) fn standby_router(
    healthy: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    ready: Ready,
    metrics_page: Arc<dyn Fn() -> String + Send + Sync>,
) -> Router {
    both(Router::new(), discovery::standby_routes().into_iter())
        .method_not_allowed_fallback(call::method_not_allowed)
        .fallback(call::no_such_path)
        .layer(middleware::from_fn(guard::refuse_foreign_pages))
        .layer(CatchPanicLayer::custom(on_panic))
        .with_state(discovery::Standby { healthy, ready, metrics_page })
}

/// Refuses what comes from a foreign page: see `guard`.
///
/// # Errors
/// PermissionDenied.
pub(crate) fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    guard::check(uri, headers).map_err(Refusal::into_error)
}

/// Reads a body whole, for the protocols beside REST.
///
/// # Errors
/// TooLarge; InvalidArgument if the connection broke.
pub(crate) async fn read_body(headers: &HeaderMap, stream: Body) -> Result<Bytes, ApiError> {
    body::read(headers, stream).await.map_err(Refusal::into_error)
}

/// Reads JSON, within the limits of a body.
///
/// # Errors
/// InvalidArgument with what is wrong.
pub(crate) fn parse_json(text: &[u8]) -> Result<Value, ApiError> {
    let parsed = value::parse(text, body::MediaType::Json).map_err(Refusal::into_error)?;
    if parsed.duplicates.is_empty() {
        return Ok(parsed.value);
    }
    let message = format!("the body has fields that are set more than once: {}", parsed.duplicates.join(", "));
    Err(ApiError::new(ErrorKind::InvalidArgument, "BODY_MALFORMED", message))
}

/// Reads a body that is JSON.
///
/// # Errors
/// As for [`read_body`] and [`parse_json`].
pub(crate) async fn read_json(headers: &HeaderMap, stream: Body) -> Result<Value, ApiError> {
    parse_json(&read_body(headers, stream).await?)
}

/// A refusal of what did not get as far as the router.
pub(crate) fn refuse(error: ApiError) -> Response {
    Refusal::from(error).into_response()
}

/// What every kind has.
fn resource<R: ServedResource>() -> Router<Rest> {
    Router::new()
        .route(&format!("{ROOT}/{}", R::PLURAL), get(handle::<R, _>(resources::list::<R>)))
        .route(
            &in_namespace::<R>(""),
            get(handle::<R, _>(resources::list::<R>)).post(handle::<R, _>(resources::create::<R>)),
        )
        .route(
            &in_namespace::<R>("/{name}"),
            get(handle::<R, _>(resources::get::<R>))
                .put(handle::<R, _>(resources::replace::<R>))
                .patch(handle::<R, _>(resources::patch::<R>))
                .delete(handle::<R, _>(resources::delete::<R>)),
        )
        .route(&in_namespace::<R>("/{name}/status"), get(handle::<R, _>(resources::get::<R>)))
}

/// What executions have beside that.
fn execution<R: ExecutionKind>() -> Router<Rest> {
    Router::new()
        .route(&in_namespace::<R>("/{name}/cancel"), post(handle::<R, _>(executions::cancel::<R>)))
        .route(&in_namespace::<R>("/{name}/terminate"), post(handle::<R, _>(executions::terminate::<R>)))
        .route(&in_namespace::<R>("/{name}/suspend"), post(handle::<R, _>(executions::suspend::<R>)))
        .route(&in_namespace::<R>("/{name}/resume"), post(handle::<R, _>(executions::resume::<R>)))
        .route(&in_namespace::<R>("/{name}/output"), get(handle::<R, _>(executions::output::<R>)))
        .route(&in_namespace::<R>("/{name}/history"), get(handle::<R, _>(executions::history::<R>)))
        .route(&in_namespace::<R>("/{name}/stream"), get(handle::<R, _>(stream::stream::<R>)))
        .route(
            &in_namespace::<R>("/{name}/callbacks"),
            get(handle::<R, _>(executions::callbacks::<R>)).post(handle::<R, _>(executions::attach_callback::<R>)),
        )
        .route(&in_namespace::<R>("/{name}/callbacks/retry"), post(handle::<R, _>(executions::retry_callback::<R>)))
}

/// Approvals are raised by executions: they are read, and decided.
fn approval_routes() -> Router<Rest> {
    type Of = v1::Approval;
    Router::new()
        .route(
            &format!("{ROOT}/{}", <Of as baton_proto::Resource>::PLURAL),
            get(handle::<Of, _>(resources::list::<Of>)),
        )
        .route(&in_namespace::<Of>(""), get(handle::<Of, _>(resources::list::<Of>)))
        .route(&in_namespace::<Of>("/{name}"), get(handle::<Of, _>(resources::get::<Of>)))
        .route(&in_namespace::<Of>("/{name}/status"), get(handle::<Of, _>(resources::get::<Of>)))
        .route(&in_namespace::<Of>("/{name}/approve"), post(handle::<Of, _>(approvals::approve)))
        .route(&in_namespace::<Of>("/{name}/deny"), post(handle::<Of, _>(approvals::deny)))
        .route(&in_namespace::<Of>("/{name}/decide"), post(handle::<Of, _>(approvals::decide)))
}

/// Contents of what was uploaded, and of what executions of agents made.
fn artifact_routes() -> Router<Rest> {
    type Of = v1::Artifact;
    type Execution = v1::AgentExecution;
    Router::new()
        .route(&in_namespace::<Of>("/{name}/content"), get(handle::<Of, _>(artifacts::content)))
        .route(&in_namespace::<Execution>("/{name}/artifacts"), get(handle::<Execution, _>(artifacts::of_execution)))
}

fn callback_routes() -> Router<Rest> {
    let path = |verb: &str| format!("{ROOT}/callbacks:{verb}");
    Router::new()
        .route(&path("create"), post(callbacks::create))
        .route(&path("await"), post(callbacks::wait))
        .route(&path("complete"), post(callbacks::complete))
        .route(&path("fail"), post(callbacks::fail))
        .route(&path("cancel"), post(callbacks::cancel))
        .route(&path("heartbeat"), post(callbacks::heartbeat))
}

fn in_namespace<R: ServedResource>(rest: &str) -> String {
    format!("{ROOT}/namespaces/{{namespace}}/{}{rest}", R::PLURAL)
}

/// Adds `routes`, each with and without a slash at its end: clients of Kubernetes ask for both.
fn both<S: Clone + Send + Sync + 'static>(
    mut router: Router<S>,
    routes: impl Iterator<Item = (&'static str, MethodRouter<S>)>,
) -> Router<S> {
    for (path, route) in routes {
        if path != "/" {
            router = router.route(&format!("{path}/"), route.clone());
        }
        router = router.route(path, route);
    }
    router
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is tower-http's")]
fn on_panic(cause: Box<dyn std::any::Any + Send>) -> Response {
    Refusal::from(ApiError::internal(format!("a handler panicked: {}", panic_message(cause.as_ref())))).into_response()
}

/// What a panic said.
pub(crate) fn panic_message(cause: &(dyn std::any::Any + Send)) -> &str {
    cause
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| cause.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// An answer with a JSON body.
fn json<T: serde::Serialize>(status: StatusCode, body: &T) -> Result<Response, Refusal> {
    let text = serde_json::to_vec(body)
        .map_err(|error| ApiError::internal(format!("an answer cannot be written as JSON: {error}")))?;
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(axum::http::header::CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    Ok(response)
}
