//! The activity `a2a`: one request to an agent that speaks the Agent2Agent protocol, by JSON-RPC over HTTP.
//!
//! Input: `method` (as the workflow language names it), `parameters`, and `agentCard` or `server`, each
//! `{"endpoint", "authentication"}`. Output: the result of the answer; of a method that streams, all results in order.
//!
//! - A card says where the agent is and which version of the protocol it speaks. Without a card the version is 0.3,
//!   whose names of methods the language has. For an agent of version 1 the names are translated, and the parameters
//!   are sent as they are.
//! - `message.messageId` is by default derived from the idempotency key, so that a repeat is the same message;
//!   `message.role` and `message.kind` have the defaults of the language and of the protocol.
//! - The credentials for a card are also those for the agent, if it is at the same origin; no other gets them.
//! - What the agent answers as an error is a fault of the type `runtime`. A task that failed is a result like any other.
//!
//! # Deliberately absent
//! The other transports of the protocol (gRPC, HTTP+JSON): the language has the methods of JSON-RPC. A crate for the
//! protocol: those that there are know one version of it, and would drop the fields that they do not know.

mod card;

use std::sync::Arc;

use baton_execution::{ActivityTask, Fault, fault_type};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{
    Method, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sse_stream::SseStream;

use self::card::{Interface, Version};
use crate::{
    Activity,
    auth::{Authenticator, Credentials},
    jsonrpc,
    outgoing::{Deadline, IDEMPOTENCY_KEY, Opened, Outgoing, Request, Response, header_text, shown, status_fault},
    redact::Secrets,
};

/// Results of one stream.
const EVENTS_MAX: usize = 10_000;
/// Says to an agent that knows several versions which one is meant.
const VERSION: HeaderName = HeaderName::from_static("a2a-version");
/// The error codes of the protocol of which a repeat is useless: no such task, not cancelable, not supported, and so on.
const USELESS: [i64; 8] = [-32001, -32002, -32003, -32004, -32005, -32007, -32008, -32009];

/// The methods: as the language and the versions 0.x name them, and as the versions 1.x do.
const METHODS: [(&str, &str); 11] = [
    ("message/send", "SendMessage"),
    ("message/stream", "SendStreamingMessage"),
    ("tasks/get", "GetTask"),
    ("tasks/list", "ListTasks"),
    ("tasks/cancel", "CancelTask"),
    ("tasks/resubscribe", "SubscribeToTask"),
    ("tasks/pushNotificationConfig/set", "CreateTaskPushNotificationConfig"),
    ("tasks/pushNotificationConfig/get", "GetTaskPushNotificationConfig"),
    ("tasks/pushNotificationConfig/list", "ListTaskPushNotificationConfigs"),
    ("tasks/pushNotificationConfig/delete", "DeleteTaskPushNotificationConfig"),
    ("agent/getAuthenticatedExtendedCard", "GetExtendedAgentCard"),
];

pub(crate) struct A2a {
    authenticator: Arc<Authenticator>,
    outgoing: Arc<Outgoing>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    method: String,
    #[serde(default)]
    parameters: Value,
    #[serde(default)]
    agent_card: Option<Endpoint>,
    #[serde(default)]
    server: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    endpoint: String,
    #[serde(default)]
    authentication: Value,
}

/// The agent to ask.
struct Agent {
    url: Url,
    version: Version,
    tenant: String,
    credentials: Credentials,
}

impl A2a {
    pub(crate) fn new(authenticator: &Arc<Authenticator>, outgoing: &Arc<Outgoing>) -> Self {
        Self { authenticator: Arc::clone(authenticator), outgoing: Arc::clone(outgoing) }
    }

    /// Finds out where the agent is and what it speaks.
    async fn agent(
        &self,
        input: &Input,
        task: &ActivityTask,
        deadline: Deadline,
        secrets: &mut Secrets,
    ) -> Result<Agent, Fault> {
        // The versions 0.x have no such method in JSON-RPC.
        let preferred = if input.method == "tasks/list" { Version::One } else { Version::Zero };
        let Some(place) = &input.agent_card else {
            let server =
                input.server.as_ref().ok_or_else(|| refused("one of 'agentCard' and 'server' must be given"))?;
            let url = absolute(&server.endpoint, "the server")?;
            let credentials = self.authenticator.credentials(&server.authentication, task, secrets).await?;
            return Ok(Agent { url, version: Version::Zero, tenant: String::new(), credentials });
        };
        let at = absolute(&place.endpoint, "the endpoint of the agent card")?;
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let mut credentials = self.authenticator.credentials(&place.authentication, task, secrets).await?;
        let request =
            Request { method: Method::GET, url: at.clone(), headers, body: None, follow_redirects: true, deadline };
        let response =
            self.authenticator.send(request, &mut credentials, secrets).await.map_err(|failure| failure.fault)?;
        if !response.status.is_success() {
            return Err(status_fault(&Method::GET, &at, &response, secrets));
        }
        let unusable = |why: &str| {
            let detail = format!("the agent card at {} cannot be used: {why}", shown(&at));
            Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
        };
        let card: Value = serde_json::from_slice(&response.body).map_err(|error| unusable(&error.to_string()))?;
        let Interface { url, version, tenant } =
            card::interface(&card, preferred).ok_or_else(|| unusable("it names no interface of the kind 'JSONRPC'"))?;
        let url = at.join(&url).map_err(|error| unusable(&format!("the URL of the agent: {error}")))?;
        if !place.authentication.is_null() && url.origin() != at.origin() {
            return Err(unusable(&format!(
                "the agent is at another origin, {}, which must not get the credentials for the card; call it by 'server'",
                url.origin().ascii_serialization()
            )));
        }
        Ok(Agent { url, version, tenant, credentials })
    }

    /// The result of an answer that is one message.
    fn result(who: &str, response: &Response, secrets: &Secrets) -> Result<Value, Fault> {
        let message = serde_json::from_slice(&response.body).ok();
        match message.and_then(jsonrpc::answer) {
            Some(Ok(result)) if response.status.is_success() => jsonrpc::measured(who, result),
            Some(Err(error)) => Err(jsonrpc::fault(who, &error, &USELESS)),
            Some(Ok(_)) | None if !response.status.is_success() => {
                Err(status_fault(&response.method, &response.url, response, secrets))
            }
            Some(Ok(_)) | None => {
                let start = jsonrpc::said(&String::from_utf8_lossy(&response.body));
                Err(jsonrpc::not_an_answer(who, &format!("'{start}'")))
            }
        }
    }

    /// All results of a stream of events, until it ends or the agent says that it has.
    async fn results(&self, who: &str, opened: Opened) -> Result<Value, Fault> {
        let max = self.outgoing.response_bytes_max();
        let mut taken = 0;
        let bytes = stream::try_unfold(opened, |mut opened| async move {
            let chunk = opened.chunk().await?;
            Ok::<_, Stopped>(chunk.map(|chunk| (chunk, opened)))
        });
        let bytes = bytes.and_then(move |chunk: Bytes| {
            taken += chunk.len();
            std::future::ready(if taken > max { Err(Stopped(too_large(max))) } else { Ok(chunk) })
        });
        let mut events = SseStream::from_bytes_stream(Box::pin(bytes));
        let mut results = Vec::new();
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| stopped(who, error))?;
            let Some(data) = event.data.filter(|data| !data.trim().is_empty()) else { continue };
            let answer = serde_json::from_str(&data).ok().and_then(jsonrpc::answer);
            match answer {
                None => return Err(jsonrpc::not_an_answer(who, &format!("'{}'", jsonrpc::said(&data)))),
                Some(Err(error)) => return Err(jsonrpc::fault(who, &error, &USELESS)),
                Some(Ok(_)) if results.len() == EVENTS_MAX => {
                    let detail = format!("the stream of {who} has more than {EVENTS_MAX} events");
                    return Err(Fault::new(fault_type::LIMIT, 400, detail).non_retryable());
                }
                Some(Ok(result)) => {
                    let last = result.get("final").and_then(Value::as_bool) == Some(true);
                    results.push(jsonrpc::measured(who, result)?);
                    if last {
                        break;
                    }
                }
            }
        }
        if results.is_empty() {
            return Err(jsonrpc::not_an_answer(who, "the stream ended without an event"));
        }
        Ok(Value::Array(results))
    }
}

#[async_trait::async_trait]
impl Activity for A2a {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let input = Input::deserialize(&task.input)
            .map_err(|error| refused(&format!("the input of the activity 'a2a' cannot be used: {error}")))?;
        let deadline = Deadline::of(task);
        let mut secrets = Secrets::default();
        let mut agent = self.agent(&input, task, deadline, &mut secrets).await?;
        let who = format!("the agent at {}", shown(&agent.url));
        let streams = matches!(input.method.as_str(), "message/stream" | "tasks/resubscribe");
        let request = build(&input, &agent, task, deadline)?;
        let exchange = async {
            let opened = self.authenticator.open(request, &mut agent.credentials, &mut secrets).await;
            let opened = opened.map_err(|failure| failure.fault)?;
            if streams && opened.status().is_success() && opened.is("text/event-stream") {
                return self.results(&who, opened).await;
            }
            let response = self.outgoing.read(opened).await.map_err(|failure| failure.fault)?;
            let result = Self::result(&who, &response, &secrets)?;
            Ok(if streams { json!([result]) } else { result })
        };
        let answer = tokio::time::timeout(deadline.left(), exchange).await;
        match answer.unwrap_or_else(|_| Err(deadline.passed(&agent.url).fault)) {
            Ok(output) => Ok(agent.credentials.hidden.redact_value(output)),
            Err(fault) => Err(secrets.redact_fault(fault)),
        }
    }
}

fn build(input: &Input, agent: &Agent, task: &ActivityTask, deadline: Deadline) -> Result<Request, Fault> {
    let Some(&(of_zero, of_one)) = METHODS.iter().find(|(method, _)| *method == input.method) else {
        let known: Vec<&str> = METHODS.iter().map(|(method, _)| *method).collect();
        return Err(refused(&format!(
            "no method '{}'; methods are {}",
            jsonrpc::said(&input.method),
            known.join(", ")
        )));
    };
    let mut headers = HeaderMap::new();
    headers.insert(IDEMPOTENCY_KEY, header_text(&task.idempotency_key));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    let method = match agent.version {
        Version::Zero => of_zero,
        Version::One => {
            headers.insert(VERSION, HeaderValue::from_static("1.0"));
            of_one
        }
    };
    let parameters = parameters(input, agent, task)?;
    Ok(Request {
        method: Method::POST,
        url: agent.url.clone(),
        headers,
        body: Some(jsonrpc::request(method, &parameters).to_string().into_bytes()),
        follow_redirects: false,
        deadline,
    })
}

/// The parameters, with the defaults of a message and of the interface.
fn parameters(input: &Input, agent: &Agent, task: &ActivityTask) -> Result<Value, Fault> {
    let mut parameters = input.parameters.clone();
    if !agent.tenant.is_empty() {
        if parameters.is_null() {
            parameters = json!({});
        }
        if let Some(parameters) = parameters.as_object_mut() {
            parameters.entry("tenant").or_insert_with(|| Value::String(agent.tenant.clone()));
        }
    }
    if !matches!(input.method.as_str(), "message/send" | "message/stream") {
        return Ok(parameters);
    }
    let message = parameters.get_mut("message").and_then(Value::as_object_mut);
    let message: &mut Map<String, Value> = message
        .ok_or_else(|| refused(&format!("the parameters of '{}' must have an object 'message'", input.method)))?;
    let defaults = match agent.version {
        Version::Zero => &[("role", "user"), ("kind", "message")][..],
        Version::One => &[("role", "ROLE_USER")][..],
    };
    let id = message_id(&task.idempotency_key);
    for (name, value) in defaults.iter().copied().chain([("messageId", id.as_str())]) {
        if message.get(name).is_none_or(Value::is_null) {
            message.insert(name.to_owned(), Value::String(value.to_owned()));
        }
    }
    Ok(parameters)
}

/// The same UUID whenever the activity is repeated.
fn message_id(idempotency_key: &str) -> String {
    let digest = Sha256::digest(idempotency_key.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// Why the bytes of a stream stopped.
#[derive(Debug)]
struct Stopped(Fault);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Stopped {}

impl From<crate::outgoing::Failure> for Stopped {
    fn from(failure: crate::outgoing::Failure) -> Self {
        Self(failure.fault)
    }
}

fn stopped(who: &str, error: sse_stream::Error) -> Fault {
    if let sse_stream::Error::Body(cause) = error {
        return match cause.downcast::<Stopped>() {
            Ok(stopped) => stopped.0,
            Err(other) => jsonrpc::not_an_answer(who, &other.to_string()),
        };
    }
    jsonrpc::not_an_answer(who, &error.to_string())
}

fn too_large(max: usize) -> Fault {
    let detail = format!("the stream of events has more than {max} bytes; allowed are 0 to {max}");
    Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable()
}

fn absolute(text: &str, what: &str) -> Result<Url, Fault> {
    Url::parse(text).map_err(|error| refused(&format!("{what} is not an absolute URL: {error}")))
}

fn refused(detail: &str) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}
