//! Published agents for any client of the Agent2Agent protocol, version 1.0: `/a2a/{namespace}/{agent}`, over JSON-RPC and
//! HTTP+JSON.
//!
//! A message begins an execution of the agent, which is the task: its id is the execution's uid. The context is the session.
//! What is published, and what a client may see, is decided at one place: [`crate::app::outside`].
//!
//! # Invariants
//! - A repeat of a message (`messageId`) is the same task.
//! - A context belongs to one agent and to this protocol: no client reaches a session of others by naming it.
//! - Every bad request gets an error of the protocol, whatever is wrong with it.
//! - Streams and notifications follow the recorded history: a restart of the server loses nothing.
//!
//! # Deliberately absent
//! Messages to a task that exists: an execution takes its message when it begins, and approvals are no matter of the client
//! (see [`crate::interop`]). The gRPC binding, the extended card, signed cards, version 0.3 of the protocol.
//!
//! # Failure
//! What cannot be done now is the error `UNAVAILABLE` (-32000, 503).

mod card;
mod error;
mod http;
mod operations;
mod push;
mod rpc;
mod stream;
mod task;
mod wire;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, Request},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::Authority},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{any, get, post},
};
use baton_activities::EgressPolicy;
use baton_proto::v1::Agent;
use baton_types::{ApiError, Violation, check_name, check_namespace};
use futures::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) use push::Pushing;

use self::error::{A2aError, Kind};
use crate::{
    app::{
        App,
        outside::{Interface, not_offered},
    },
    rest,
};

/// The version of the protocol that is spoken.
const PROTOCOL_VERSION: &str = "1.0";
/// The header in which a client says which version it speaks.
const VERSION_HEADER: &str = "a2a-version";
/// Streams, and requests that wait for a task, at the same time.
const FOLLOWING_MAX: usize = 1024;
/// How sessions of this protocol begin.
const SESSION_PREFIX: &str = "a2a";
/// Longest id of a context, in bytes.
const CONTEXT_BYTES_MAX: usize = 64;

#[derive(Clone)]
struct A2aServer {
    app: App,
    stopping: CancellationToken,
    following: Arc<Semaphore>,
    egress: Arc<EgressPolicy>,
}

/// Which agent a request is for.
#[derive(Clone, Debug)]
struct Place {
    namespace: String,
    agent: String,
}

impl Place {
    /// The session that a context is.
    ///
    /// # Errors
    /// What is wrong with the id of the context.
    fn session_of(&self, context: &str) -> Result<String, A2aError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let session = format!("{SESSION_PREFIX}.{}.{context}", self.agent);
        if context.is_empty() || context.len() > CONTEXT_BYTES_MAX || !context.chars().all(plain) {
            let message = format!(
                "'{}' is no id of a context; allowed are 1 to {CONTEXT_BYTES_MAX} lower-case letters, digits and '-'",
                crate::app::shortened(context)
            );
            return Err(A2aError::field("contextId", message));
        }
        check_name(&session)
            .map_err(|message| A2aError::field("contextId", format!("with the agent's name, {message}")))?;
        Ok(session)
    }

    /// The context that a session of an agent is.
    fn context_of<'s>(agent: &str, session: &'s str) -> &'s str {
        let rest = session.strip_prefix(SESSION_PREFIX).and_then(|rest| rest.strip_prefix('.'));
        rest.and_then(|rest| rest.strip_prefix(agent)?.strip_prefix('.')).unwrap_or(session)
    }
}

/// All routes. `egress` is whom notifications may go to.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(
    app: &App,
    stopping: &CancellationToken,
    egress: &Arc<EgressPolicy>,
) -> Router<S> {
    let server = A2aServer {
        app: app.clone(),
        stopping: stopping.clone(),
        following: Arc::new(Semaphore::new(FOLLOWING_MAX)),
        egress: Arc::clone(egress),
    };
    let (for_card, for_rpc, for_http) = (server.clone(), server.clone(), server);
    let rpc = post(move |Path((namespace, agent)): Path<(String, String)>, request: Request| {
        let server = for_rpc.clone();
        async move {
            match server.find(namespace, agent).await {
                Ok((place, _)) => rpc::answer(&server, &place, request).await,
                Err(refused) => rest::refuse(refused),
            }
        }
    });
    Router::new()
        .route(
            "/a2a/{namespace}/{agent}/.well-known/agent-card.json",
            get(move |Path((namespace, agent)): Path<(String, String)>, uri: Uri, headers: HeaderMap| {
                let server = for_card.clone();
                async move { server.card(namespace, agent, &base(&uri, &headers)).await }
            }),
        )
        .route("/a2a/{namespace}/{agent}", rpc.clone())
        .route("/a2a/{namespace}/{agent}/", rpc)
        .route(
            "/a2a/{namespace}/{agent}/{*rest}",
            any(move |Path((namespace, agent, path)): Path<(String, String, String)>, request: Request| {
                let server = for_http.clone();
                async move {
                    match server.find(namespace, agent).await {
                        Ok((place, _)) => http::answer(&server, &place, &path, request).await,
                        Err(refused) => rest::refuse(refused),
                    }
                }
            }),
        )
}

impl A2aServer {
    /// The agent that a path names, if it is published.
    async fn find(&self, namespace: String, agent: String) -> Result<(Place, Agent), ApiError> {
        let checks =
            [("namespace", check_namespace(&namespace).err()), ("agent", check_name(&agent).err())].into_iter();
        let violations: Vec<_> = checks.filter_map(|(field, message)| Some(Violation::new(field, message?))).collect();
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        let found = self.app.offered::<Agent>(Interface::A2a, &namespace, &agent).await?;
        let found = found.ok_or_else(|| not_offered(Interface::A2a, &namespace, &agent))?;
        Ok((Place { namespace, agent }, found))
    }

    async fn card(&self, namespace: String, agent: String, base: &str) -> Response {
        let (place, agent) = match self.find(namespace, agent).await {
            Ok(found) => found,
            Err(refused) => return rest::refuse(refused),
        };
        let version = agent.metadata.as_ref().map(|meta| meta.resource_version.clone()).unwrap_or_default();
        let mut response = json(StatusCode::OK, &card::card(&agent, &place, base));
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
        if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

/// The URL of this server as a client wrote it.
fn base(uri: &Uri, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    let host = uri.authority().map(Authority::as_str).or(host).unwrap_or("localhost");
    format!("http://{host}")
}

/// Checks that a client speaks this version. One that says nothing speaks 0.3, as the protocol has it.
fn check_version(headers: &HeaderMap) -> Result<(), A2aError> {
    let said = headers.get(VERSION_HEADER).map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    let said = said.unwrap_or_default();
    let same = |rest: &str| rest.is_empty() || rest.starts_with('.');
    if said.trim().strip_prefix(PROTOCOL_VERSION).is_some_and(same) {
        return Ok(());
    }
    let found = if said.is_empty() { "no version".to_owned() } else { format!("'{}'", crate::app::shortened(&said)) };
    let message = format!("the header A2A-Version says {found}; supported is '{PROTOCOL_VERSION}'");
    Err(A2aError::new(Kind::VersionNotSupported, message))
}

fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer that goes on event by event, until the server stops.
fn events(stream: impl Stream<Item = Event> + Send + 'static, stopping: &CancellationToken) -> Response {
    let events = stream.map(Ok::<_, std::convert::Infallible>).take_until(stopping.clone().cancelled_owned());
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_a_session_of_its_agent_alone() {
        let place = Place { namespace: "n".into(), agent: "triage.eu".into() };
        let session = place.session_of("0190-ab").unwrap();
        assert_eq!(session, "a2a.triage.eu.0190-ab");
        assert_eq!(Place::context_of("triage.eu", &session), "0190-ab");
        for bad in ["", "A", "a.b", "a/b", "-", &"x".repeat(65)] {
            assert!(place.session_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_says_which_version_it_speaks() {
        for (said, good) in
            [("1.0", true), ("1.0.1", true), ("0.3", false), ("1.00", false), ("2.0", false), ("", false)]
        {
            let headers = HeaderMap::from_iter([(VERSION_HEADER.parse().unwrap(), HeaderValue::from_static(said))]);
            assert_eq!(check_version(&headers).is_ok(), good, "{said}");
        }
        assert_eq!(check_version(&HeaderMap::new()).unwrap_err().kind, Kind::VersionNotSupported);
    }
}
