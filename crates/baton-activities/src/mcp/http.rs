//! Servers that are reached by streamable HTTP.
//!
//! [`Watched`] is the client that the SDK sends with: the one of all outgoing calls, so that the same policy, resolver
//! and certificates apply. It notes the first thing that went wrong, because the SDK tells its callers no more than that
//! the connection is closed, and it keeps URLs and bodies out of what the SDK logs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use baton_execution::{ActivityTask, Fault, fault_type};
use futures::{StreamExt as _, stream::BoxStream};
use reqwest::{
    Client, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use rmcp::{
    model::ClientJsonRpcMessage,
    transport::{
        StreamableHttpClientTransport,
        common::client_side_sse::ExponentialBackoff,
        streamable_http_client::{
            SseError, StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
            StreamableHttpPostResponse, StreamableHttpResponseLimits,
        },
    },
};
use serde_json::Value;
use sse_stream::Sse;
use tokio::sync::Notify;

use super::{
    HttpPlace, Mcp, Question,
    failure::{runtime, too_large, too_late},
    refused,
};
use crate::{
    jsonrpc,
    outgoing::{Deadline, failure, shown},
    redact::Secrets,
};

type Headers = HashMap<HeaderName, HeaderValue>;
type HttpError = StreamableHttpError<reqwest::Error>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// How often a stream of events that broke off is taken up again, where the server can do that.
const RESUMPTIONS_MAX: usize = 3;
const RESUMPTION_DELAY: Duration = Duration::from_millis(200);

/// Asks a server; with a fresh token once more if it refuses one that was kept.
pub(super) async fn ask(
    mcp: &Mcp,
    place: &HttpPlace,
    question: &Question<'_>,
    task: &ActivityTask,
    deadline: Deadline,
) -> Result<Value, Fault> {
    let url = Url::parse(&place.endpoint)
        .map_err(|error| refused(&format!("the endpoint of the server is not an absolute URL: {error}")))?;
    let client = mcp.outgoing.client_for(&url).map_err(|failure| failure.fault)?;
    if place.authentication.get("digest").is_some() {
        return Err(refused("authentication by 'digest' is not possible: MCP has none that answers challenges"));
    }
    let mut secrets = Secrets::default();
    let mut headers = headers(place, &mut secrets)?;
    let mut credentials = mcp.authenticator.credentials(&place.authentication, task, &mut secrets).await?;
    loop {
        if let Some(value) = credentials.authorization()? {
            headers.insert(AUTHORIZATION, value);
        }
        let noted = Arc::new(Noted::default());
        let who = format!("the server at {}", shown(&url));
        let watched = Watched { client: client.clone(), url: url.clone(), who, noted: Arc::clone(&noted) };
        let answer = once(watched, &noted, &headers, question, deadline).await;
        let refused = matches!(&answer, Err(fault) if fault.status == 401 && fault.kind == fault_type::COMMUNICATION);
        if !refused || !mcp.authenticator.renew(&mut credentials, deadline, &mut secrets).await? {
            return match answer {
                Ok(output) => Ok(credentials.hidden.redact_value(output)),
                Err(fault) => Err(secrets.redact_fault(fault)),
            };
        }
    }
}

/// One connection.
async fn once(
    watched: Watched,
    noted: &Noted,
    headers: &Headers,
    question: &Question<'_>,
    deadline: Deadline,
) -> Result<Value, Fault> {
    let who = watched.who.clone();
    let mut config = StreamableHttpClientTransportConfig::with_uri(watched.url.as_str())
        .custom_headers(headers.clone())
        .max_sse_event_size(question.answer_bytes_max)
        .max_json_response_size(question.answer_bytes_max)
        .reinit_on_expired_session(false);
    let mut resume = ExponentialBackoff::default();
    resume.max_times = Some(RESUMPTIONS_MAX);
    resume.base_duration = RESUMPTION_DELAY;
    config.retry_config = Arc::new(resume);
    let asked = question.ask(&who, StreamableHttpClientTransport::with_client(watched, config));
    tokio::select! {
        biased;
        answer = asked => answer.map_err(|trouble| trouble.into_fault(&who, || noted.take())),
        () = noted.hopeless.notified() => Err(noted.take().unwrap_or_else(|| too_large(&who, question.answer_bytes_max))),
        () = tokio::time::sleep(deadline.left()) => Err(too_late(&who, deadline.total_ms)),
    }
}

/// The headers of every request.
fn headers(place: &HttpPlace, secrets: &mut Secrets) -> Result<Headers, Fault> {
    let mut headers = HeaderMap::new();
    for (name, value) in place.headers.iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // The value is not named: it may be a credential.
        let value = HeaderValue::from_str(&text).map_err(|_| {
            refused(&format!("the value of the header '{name}' holds characters that a header cannot hold"))
        })?;
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| refused(&format!("'{}' is not a header name", jsonrpc::said(name))))?;
        if ["accept", "content-type", "mcp-session-id", "mcp-protocol-version", "last-event-id"]
            .contains(&name.as_str())
        {
            return Err(refused(&format!("the header '{name}' is the protocol's own")));
        }
        if name == AUTHORIZATION {
            secrets.add(&text);
            text.split_whitespace().skip(1).for_each(|part| secrets.add(part));
        }
        headers.insert(name, value);
    }
    Ok(headers.into_iter().filter_map(|(name, value)| Some((name?, value))).collect())
}

/// What went wrong first.
#[derive(Default)]
struct Noted {
    first: Mutex<Option<Fault>>,
    /// Nothing will come any more, though the SDK may wait.
    hopeless: Notify,
}

impl Noted {
    fn note(&self, fault: Fault) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }

    fn take(&self) -> Option<Fault> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The client of all outgoing calls, which notes what goes wrong.
#[derive(Clone)]
struct Watched {
    client: Client,
    url: Url,
    who: String,
    noted: Arc<Noted>,
}

impl Watched {
    /// Notes what an error means, and takes out of it what should not be logged.
    fn seen(&self, error: HttpError) -> HttpError {
        let who = &self.who;
        let status = |status: u16, said: &str| {
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            let fault =
                Fault::new(fault_type::COMMUNICATION, status, format!("{who} answered with the status {status}{said}"));
            if status >= 500 || matches!(status, 408 | 425 | 429) { fault } else { fault.non_retryable() }
        };
        let (fault, error) = match error {
            HttpError::Client(error) => {
                let fault = match error.status() {
                    Some(found) => status(found.as_u16(), ""),
                    None => failure(&self.url, &error).fault,
                };
                (fault, HttpError::Client(error.without_url()))
            }
            HttpError::HttpStatus(error) => (status(error.status, ""), HttpError::HttpStatus(error)),
            HttpError::AuthRequired(error) => (status(401, ""), HttpError::AuthRequired(error)),
            HttpError::InsufficientScope(error) => (status(403, ""), HttpError::InsufficientScope(error)),
            HttpError::SessionExpired => (status(404, "the session ended"), HttpError::SessionExpired),
            HttpError::ResponseBodyTooLarge { max_size } => {
                (too_large(who, max_size), HttpError::ResponseBodyTooLarge { max_size })
            }
            HttpError::UnexpectedServerResponse(said) => {
                // The SDK has no variant for most errors of HTTP: it writes them as `HTTP 404 Not Found: …`.
                let found = said.strip_prefix("HTTP ").and_then(|rest| rest.get(..3)?.parse().ok());
                let said = jsonrpc::said(&said);
                let fault = match found {
                    Some(found) => status(found, &said),
                    None => jsonrpc::not_an_answer(who, &said),
                };
                (fault, HttpError::UnexpectedServerResponse("not an answer of the protocol".into()))
            }
            HttpError::UnexpectedContentType(found) => {
                let shown = found.as_deref().unwrap_or("none");
                let detail = format!("{who} answered with the content type '{}'", jsonrpc::said(shown));
                (runtime(502, detail), HttpError::UnexpectedContentType(found))
            }
            other => (
                Fault::new(fault_type::COMMUNICATION, 502, format!("the exchange with {who} broke off: {other}")),
                other,
            ),
        };
        self.noted.note(fault);
        error
    }

    /// A stream of events that notes when it has to give up.
    fn watched(&self, events: Events, event_bytes_max: usize) -> Events {
        let watch = self.clone();
        events
            .inspect(move |event| {
                // The SDK drops such a stream and lets those wait who wait for its events. Its error has no type of its own.
                if let Err(error) = event
                    && error.to_string().contains("exceeded the maximum size")
                {
                    watch.noted.note(too_large(&watch.who, event_bytes_max));
                    watch.noted.hopeless.notify_one();
                }
            })
            .boxed()
    }
}

impl StreamableHttpClient for Watched {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        authorization: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session, authorization, headers, limits).await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        authorization: Option<String>,
        headers: Headers,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let event_bytes_max = limits.max_sse_event_size;
        let answer =
            self.client.post_message_with_response_limits(uri, message, session, authorization, headers, limits).await;
        match answer.map_err(|error| self.seen(error))? {
            StreamableHttpPostResponse::Sse(events, session) => {
                Ok(StreamableHttpPostResponse::Sse(self.watched(events, event_bytes_max), session))
            }
            other => Ok(other),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        authorization: Option<String>,
        headers: Headers,
    ) -> Result<(), HttpError> {
        self.client.delete_session(uri, session, authorization, headers).await.map_err(|error| self.seen(error))
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        authorization: Option<String>,
        headers: Headers,
    ) -> Result<Events, HttpError> {
        let max = StreamableHttpResponseLimits::default().max_sse_event_size;
        self.get_stream_with_max_sse_event_size(uri, session, last_event, authorization, headers, max).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        authorization: Option<String>,
        headers: Headers,
        event_bytes_max: usize,
    ) -> Result<Events, HttpError> {
        // Not noted: a server need not have this stream, and a call ends well without it.
        let events = self
            .client
            .get_stream_with_max_sse_event_size(uri, session, last_event, authorization, headers, event_bytes_max)
            .await
            .map_err(|error| match error {
                HttpError::Client(error) => HttpError::Client(error.without_url()),
                other => other,
            })?;
        Ok(self.watched(events, event_bytes_max))
    }
}
