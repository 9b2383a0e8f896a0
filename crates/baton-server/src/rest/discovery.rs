//! What the server is and offers: version, health, metrics, and the lists by which clients of Kubernetes find kinds.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use baton_proto::{API_VERSION, Resource, v1};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Rest, json as answer, refusal::GROUP};

/// Version of the API within its group.
const VERSION: &str = "v1";

/// Verbs of every kind.
const VERBS: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];

/// Subresources of executions, with their verbs.
const EXECUTION_SUBRESOURCES: [(&str, &[&str]); 10] = [
    ("status", &["get"]),
    ("cancel", &["create"]),
    ("terminate", &["create"]),
    ("suspend", &["create"]),
    ("resume", &["create"]),
    ("output", &["get"]),
    ("history", &["get"]),
    ("stream", &["get"]),
    ("callbacks", &["create", "get"]),
    ("callbacks/retry", &["create"]),
];

/// Routes without a resource, each served with and without a slash at its end.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Rest>)> {
    vec![
        ("/", get(async || answer(StatusCode::OK, &index()))),
        ("/version", get(async || answer(StatusCode::OK, &version()))),
        ("/healthz", get(async |State(rest): State<Rest>| told(rest.app.healthy()))),
        ("/livez", get(async || "ok")),
        ("/readyz", get(async |State(rest): State<Rest>| told(rest.app.ready()))),
        ("/metrics", get(metrics)),
        (
            "/api",
            get(async || {
                answer(
                    StatusCode::OK,
                    &json!({"kind": "APIVersions", "versions": [], "serverAddressByClientCIDRs": []}),
                )
            }),
        ),
        (
            "/apis",
            get(async || {
                answer(StatusCode::OK, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]}))
            }),
        ),
        ("/apis/baton.dev", get(async || answer(StatusCode::OK, &whole_group()))),
        ("/apis/baton.dev/v1", get(async || answer(StatusCode::OK, &resources()))),
    ]
}

/// Paths of what a server says of itself.
const OF_THE_SERVER: [&str; 4] = ["/healthz", "/livez", "/readyz", "/metrics"];

/// Whether a path is one of those, with or without a slash at its end.
pub(crate) fn is_of_the_server(path: &str) -> bool {
    OF_THE_SERVER.contains(&path.strip_suffix('/').unwrap_or(path))
}

/// What a server that stands by says of itself.
#[derive(Clone)]
pub(super) struct Standby {
    /// Whether it can stand by; otherwise why not.
    pub(super) healthy: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Whether requests that reach it are answered; otherwise why not.
    pub(super) ready: Ready,
    /// Writes the page of metrics.
    pub(super) metrics_page: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Asks whether requests are answered; otherwise why not.
pub(crate) type Ready = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The routes of [`is_of_the_server`] while another server leads.
pub(super) fn standby_routes() -> Vec<(&'static str, MethodRouter<Standby>)> {
    vec![
        ("/healthz", get(async |State(standby): State<Standby>| told((standby.healthy)()))),
        ("/livez", get(async || "ok")),
        ("/readyz", get(async |State(standby): State<Standby>| told((standby.ready)().await))),
        ("/metrics", get(async |State(standby): State<Standby>| page((standby.metrics_page)()))),
    ]
}

/// Healthy is who can serve: a store that failed stays failed until the process is started again. Ready is who is healthy and
/// reaches what executions need.
fn told(state: Result<(), String>) -> Response {
    match state {
        Ok(()) => "ok".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn metrics(State(rest): State<Rest>) -> Response {
    page((rest.metrics_page)())
}

fn page(text: String) -> Response {
    let mut response = Response::new(text.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

fn index() -> Value {
    json!({
        "product": "baton",
        "version": env!("CARGO_PKG_VERSION"),
        "paths": [
            "/apis", "/apis/baton.dev", "/apis/baton.dev/v1",
            "/apis/baton.dev/v1/agentexecutions", "/apis/baton.dev/v1/agents", "/apis/baton.dev/v1/approvals", "/apis/baton.dev/v1/artifacts",
            "/apis/baton.dev/v1/callbacks:await", "/apis/baton.dev/v1/callbacks:cancel", "/apis/baton.dev/v1/callbacks:complete",
            "/apis/baton.dev/v1/callbacks:create", "/apis/baton.dev/v1/callbacks:fail", "/apis/baton.dev/v1/callbacks:heartbeat",
            "/apis/baton.dev/v1/namespaces/{namespace}/{plural}", "/apis/baton.dev/v1/namespaces/{namespace}/{plural}/{name}",
            "/apis/baton.dev/v1/namespaces/{namespace}/{plural}/{name}/{subresource}",
            "/apis/baton.dev/v1/namespaces/{namespace}/workflowexecutions:import",
            "/apis/baton.dev/v1/secrets", "/apis/baton.dev/v1/sessions", "/apis/baton.dev/v1/skills",
            "/apis/baton.dev/v1/workflowexecutions", "/apis/baton.dev/v1/workflows",
            "/healthz", "/livez", "/metrics", "/openapi/v3", "/openapi/v3/apis/baton.dev/v1", "/readyz", "/version",
        ],
    })
}

/// As Kubernetes writes it; clients read `gitVersion` as a semantic version.
fn version() -> Value {
    json!({
        "major": env!("CARGO_PKG_VERSION_MAJOR"), "minor": env!("CARGO_PKG_VERSION_MINOR"),
        "gitVersion": concat!("v", env!("CARGO_PKG_VERSION")), "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        "product": "baton",
    })
}

fn group() -> Value {
    let version = json!({"groupVersion": API_VERSION, "version": VERSION});
    json!({"name": GROUP, "versions": [version], "preferredVersion": version})
}

fn whole_group() -> Value {
    let mut whole = group();
    whole["kind"] = "APIGroup".into();
    whole["apiVersion"] = "v1".into();
    whole
}

fn resources() -> Value {
    let mut list = Vec::new();
    template::<v1::Workflow>(&mut list);
    template::<v1::Agent>(&mut list);
    template::<v1::Secret>(&mut list);
    template::<v1::McpServer>(&mut list);
    template::<v1::Skill>(&mut list);
    template::<v1::Artifact>(&mut list);
    subresource::<v1::Artifact>(&mut list, "content", &["get"]);
    execution::<v1::WorkflowExecution>(&mut list);
    execution::<v1::AgentExecution>(&mut list);
    subresource::<v1::AgentExecution>(&mut list, "artifacts", &["get"]);
    kind::<v1::Approval>(&mut list, &["get", "list", "watch"]);
    subresource::<v1::Approval>(&mut list, "status", &["get"]);
    for name in ["approve", "deny", "decide"] {
        subresource::<v1::Approval>(&mut list, name, &["create"]);
    }
    template::<v1::Session>(&mut list);
    subresource::<v1::Session>(&mut list, "export", &["get"]);
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": list})
}

fn kind<R: Resource>(list: &mut Vec<Value>, verbs: &[&str]) {
    list.push(json!({
        "name": R::PLURAL, "singularName": R::KIND.to_ascii_lowercase(), "namespaced": true, "kind": R::KIND,
        "verbs": verbs, "shortNames": R::SHORT_NAMES, "categories": ["all", "baton"],
    }));
}

fn template<R: Resource>(list: &mut Vec<Value>) {
    kind::<R>(list, &VERBS);
    subresource::<R>(list, "status", &["get"]);
}

fn execution<R: Resource>(list: &mut Vec<Value>) {
    kind::<R>(list, &VERBS);
    for (name, verbs) in EXECUTION_SUBRESOURCES {
        subresource::<R>(list, name, verbs);
    }
}

fn subresource<R: Resource>(list: &mut Vec<Value>, name: &str, verbs: &[&str]) {
    list.push(json!({"name": format!("{}/{name}", R::PLURAL), "singularName": "", "namespaced": true, "kind": R::KIND, "verbs": verbs}));
}
