//! The activity `asyncapi`: publishes a message, or takes messages, as an AsyncAPI document describes the operation.
//!
//! Input: `document` (`uri`, `authentication`), `channel` or `operation`, `server` (`name`, `variables`), `protocol`,
//! `authentication`, and either `message` (`payload`, `headers`) or `round`.
//!
//! - A message goes out by HTTP (`POST`, headers as headers) or by MQTT 5 (quality of service 1 unless the document says
//!   0, headers as user properties), with the idempotency key under the name `idempotency-key`. Output: the message.
//! - A `round` is a part of a subscription, by MQTT: `{"recorded", "messagesMax", "waitMs", "expiryMs"}` takes
//!   messages, at least one unless none comes within `waitMs`, and returns
//!   `{"messages": [{"message": {"payload", "headers", "correlationId"}, "receipt"}]}`. `recorded` are the receipts of the
//!   messages of the round before, which are recorded by now and so acknowledged. `"end": true` lets the session go.
//! - All rounds of a task are one session at the broker, named by the execution and the position.
//!
//! # Invariants
//! - A message of quality of service 1 or 2 is acknowledged only after it is recorded: a crash before that makes it come
//!   again, and in the same round, so that nobody sees it twice.
//!
//! # Deliberately absent
//! Other protocols: they are refused by name. Subscriptions by HTTP, which does not say what that would be.
//!
//! # Failure
//! A broker that cannot be reached is tried again until `waitMs` has passed. The end of a session never fails: a broker
//! lets it go by itself later.

mod document;
mod mqtt;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_agent::{DATA_DEPTH_MAX, is_deeper_than};
use baton_execution::{ActivityTask, Fault, fault_type};
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    Activity,
    asyncapi::{
        document::{Asked, Direction, Found, Place, wrong},
        mqtt::{Client, Session, Taken, Wanted},
    },
    auth::Authenticator,
    connection::Target,
    documents::{Kept, Resource},
    outgoing::{Deadline, IDEMPOTENCY_KEY, Outgoing, Request, header_text, shown, status_fault},
    redact::Secrets,
};

/// Pauses between attempts to reach a broker: the first, and the longest that doubling makes of it.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How long the end of a session may take: it is a courtesy.
const END_MAX: Duration = Duration::from_secs(5);
/// Headers of one message.
const HEADERS_MAX: usize = 100;
const JSON: &str = "application/json";

pub(crate) struct AsyncApi {
    outgoing: Arc<Outgoing>,
    authenticator: Arc<Authenticator>,
    kept: Kept<Arc<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    document: Resource,
    #[serde(flatten)]
    asked: Asked,
    #[serde(default)]
    authentication: Value,
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    round: Option<Round>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Round {
    #[serde(default)]
    recorded: Vec<String>,
    #[serde(default)]
    messages_max: usize,
    #[serde(default)]
    wait_ms: u64,
    #[serde(default)]
    expiry_ms: u64,
    #[serde(default)]
    end: bool,
}

impl AsyncApi {
    pub(crate) fn new(outgoing: &Arc<Outgoing>, authenticator: &Arc<Authenticator>) -> Self {
        Self { outgoing: Arc::clone(outgoing), authenticator: Arc::clone(authenticator), kept: Kept::default() }
    }

    async fn document(&self, resource: &Resource, task: &ActivityTask) -> Result<Arc<Value>, Fault> {
        if let Some(document) = self.kept.get(resource) {
            return Ok(document);
        }
        let text = resource.text(&self.authenticator, "the AsyncAPI document", task).await?;
        let (length, place) = (text.bytes.len(), shown(&text.url));
        let read = tokio::task::spawn_blocking(move || document::parse(&text.bytes, &place));
        let document = read.await.map_err(|_| wrong("the AsyncAPI document cannot be read".to_owned()))??;
        let document = Arc::new(document);
        self.kept.put(resource, length, &document);
        Ok(document)
    }

    async fn publish(&self, task: &ActivityTask, input: &Input, message: &Message) -> Result<Value, Fault> {
        let document = self.document(&input.document, task).await?;
        let found = document::find(&document, &input.asked, Direction::Publish)?;
        let content_type = found.content_type.as_deref().unwrap_or(JSON);
        let payload = match &message.payload {
            Value::Null => Vec::new(),
            Value::String(text) if !is_json(content_type) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        };
        let headers = headers_of(message)?;
        match &found.place {
            Place::Http { url, method } => {
                self.post(task, input, (method, url), content_type, &headers, payload).await?;
            }
            Place::Mqtt { target, topic, at_most_once, retain } => {
                let mut properties = PublishProperties {
                    user_properties: headers,
                    content_type: Some(content_type.to_owned()),
                    ..PublishProperties::default()
                };
                properties.user_properties.push((IDEMPOTENCY_KEY.as_str().to_owned(), task.idempotency_key.clone()));
                let publish = Publish {
                    retain: *retain,
                    properties: Some(properties),
                    ..mqtt::message(topic.clone(), payload, *at_most_once)
                };
                let session = Session {
                    client_id: client_id(task, "publication"),
                    clean: true,
                    expiry_s: 0,
                    login: self.login(task, input).await?,
                };
                let mut client = Client::open(&self.outgoing, target, session).await?;
                client.publish(publish).await?;
                client.close().await;
            }
        }
        Ok(json!({"payload": message.payload, "headers": message.headers}))
    }

    async fn post(
        &self,
        task: &ActivityTask,
        input: &Input,
        (method, url): (&Method, &Url),
        content_type: &str,
        given: &[(String, String)],
        payload: Vec<u8>,
    ) -> Result<(), Fault> {
        let mut secrets = Secrets::default();
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, header_text(&task.idempotency_key));
        let unfit = || wrong(format!("the content type '{content_type}' cannot be sent in a header"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).map_err(|_| unfit())?);
        for (name, value) in given {
            let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
            let (header, value) =
                header.ok_or_else(|| wrong(format!("the header '{name}' holds characters that HTTP cannot send")))?;
            headers.insert(header, value);
        }
        let request = Request {
            method: method.clone(),
            url: url.clone(),
            headers,
            body: Some(payload),
            follow_redirects: false,
            deadline: Deadline::of(task),
        };
        let mut credentials = self.authenticator.credentials(&input.authentication, task, &mut secrets).await?;
        let sent = self.authenticator.send(request, &mut credentials, &mut secrets).await;
        let response = sent.map_err(|failure| failure.fault)?;
        if response.status.is_success() { Ok(()) } else { Err(status_fault(method, url, &response, &secrets)) }
    }

    async fn round(&self, task: &ActivityTask, input: &Input, round: &Round) -> Result<Value, Fault> {
        let deadline = Deadline::of(task);
        let until = Instant::now() + Duration::from_millis(round.wait_ms).min(deadline.left());
        let document = self.document(&input.document, task).await?;
        let found = document::find(&document, &input.asked, Direction::Subscribe)?;
        let Place::Mqtt { target, topic, .. } = &found.place else {
            return Err(wrong(
                "subscriptions over 'http' are not supported; supported are 'mqtt', 'mqtt5', 'mqtts' and 'secure-mqtt'"
                    .to_owned(),
            ));
        };
        let mut pause = PAUSE_MIN;
        loop {
            let session = Session {
                client_id: client_id(task, "subscription"),
                clean: round.end,
                expiry_s: if round.end { 0 } else { u32::try_from(round.expiry_ms.div_ceil(1000)).unwrap_or(u32::MAX) },
                login: self.login(task, input).await?,
            };
            let wanted = Wanted {
                topic: topic.clone(),
                messages_max: round.messages_max,
                until,
                recorded: round.recorded.iter().cloned().collect::<BTreeSet<String>>(),
            };
            match self.connected(target, session, (!round.end).then_some(wanted)).await {
                Ok(taken) => {
                    let messages: Vec<Value> = taken.iter().map(|taken| inbound(taken, &found)).collect();
                    return Ok(json!({"messages": messages}));
                }
                Err(fault) if fault.non_retryable => return Err(fault),
                Err(fault) => {
                    // Nothing was acknowledged that was not recorded: whatever came will come again.
                    if until.saturating_duration_since(Instant::now()) <= pause {
                        return Err(fault);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// User name and password; a token is a password without a user.
    async fn login(&self, task: &ActivityTask, input: &Input) -> Result<Option<(String, String)>, Fault> {
        let mut secrets = Secrets::default();
        let credentials = self.authenticator.credentials(&input.authentication, task, &mut secrets).await?;
        Ok(match (credentials.password(), credentials.parameter()) {
            (Some((username, password)), _) => Some((username.to_owned(), password.to_owned())),
            (None, Some((_, token))) => Some((String::new(), token)),
            (None, None) => None,
        })
    }

    async fn connected(&self, target: &Target, session: Session, wanted: Option<Wanted>) -> Result<Vec<Taken>, Fault> {
        let mut client = Client::open(&self.outgoing, target, session).await?;
        let taken = match wanted {
            Some(wanted) => client.take(wanted).await?,
            None => Vec::new(),
        };
        client.close().await;
        Ok(taken)
    }
}

#[async_trait::async_trait]
impl Activity for AsyncApi {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let input = Input::deserialize(&task.input)
            .map_err(|error| wrong(format!("the input of the activity 'asyncapi' cannot be used: {error}")))?;
        let deadline = Deadline::of(task);
        let late = |_| Err(Fault::new(fault_type::TIMEOUT, 408, format!("no end within {} ms", deadline.total_ms)));
        match (&input.message, &input.round) {
            (Some(message), None) => {
                tokio::time::timeout(deadline.left(), self.publish(task, &input, message)).await.unwrap_or_else(late)
            }
            (None, Some(round)) if round.end => {
                let ended = tokio::time::timeout(END_MAX.min(deadline.left()), self.round(task, &input, round)).await;
                if !matches!(ended, Ok(Ok(_))) {
                    tracing::info!(execution = %task.execution, "the end of a subscription did not reach its broker");
                }
                Ok(Value::Null)
            }
            (None, Some(round)) => {
                tokio::time::timeout(deadline.left(), self.round(task, &input, round)).await.unwrap_or_else(late)
            }
            _ => Err(wrong("the activity 'asyncapi' takes either a 'message' or a 'round'".to_owned())),
        }
    }
}

/// Names a client at a broker: the same for every round, repeat and retry of a task. 23 letters and digits, which is what every
/// broker must take.
fn client_id(task: &ActivityTask, what: &str) -> String {
    let mut hash = Sha256::new();
    for part in [&task.execution.to_string(), &task.id.position, what] {
        hash.update(part);
        hash.update([0]);
    }
    format!("baton{}", hex::encode(&hash.finalize()[..9]))
}

fn headers_of(message: &Message) -> Result<Vec<(String, String)>, Fault> {
    let given = message.headers.iter().flatten().filter(|(_, value)| !value.is_null());
    let headers: Vec<(String, String)> = given
        .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    if headers.len() > HEADERS_MAX {
        return Err(wrong(format!("the message has {} headers; allowed are 0 to {HEADERS_MAX}", headers.len())));
    }
    if let Some((name, _)) = headers.iter().find(|(name, value)| name.len() + value.len() > 60_000) {
        return Err(wrong(format!("the header '{}' is too long", name.chars().take(80).collect::<String>())));
    }
    Ok(headers)
}

/// A message as a workflow sees it.
fn inbound(taken: &Taken, found: &Found) -> Value {
    let publish = &taken.publish;
    let properties = publish.properties.clone().unwrap_or_default();
    let content_type = properties.content_type.or_else(|| found.content_type.clone());
    let payload = payload(&publish.payload, content_type.as_deref());
    let headers: Map<String, Value> =
        properties.user_properties.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    let headers = Value::Object(headers);
    let told = properties
        .correlation_data
        .map(|data| String::from_utf8(data.to_vec()).unwrap_or_else(|error| STANDARD.encode(error.as_bytes())));
    let correlation = told.or_else(|| {
        let location = found.correlation.as_deref()?;
        let (part, pointer) = location.strip_prefix("$message.")?.split_once('#')?;
        let value = if part == "header" { headers.pointer(pointer)? } else { payload.pointer(pointer)? };
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    });
    json!({
        "message": {"payload": payload, "headers": headers, "correlationId": correlation},
        "receipt": taken.receipt,
    })
}

/// JSON where it is JSON, otherwise text, otherwise Base64; nothing is `null`.
fn payload(bytes: &[u8], content_type: Option<&str>) -> Value {
    let Some(start) = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) else { return Value::Null };
    if (matches!(start, b'{' | b'[') || content_type.is_none_or(is_json))
        && let Ok(value) = serde_json::from_slice(bytes)
        && !is_deeper_than(&value, DATA_DEPTH_MAX)
    {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => Value::String(STANDARD.encode(bytes)),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}
