//! The provider `openai`: chat completions, as OpenAI and most other model servers speak them.
//!
//! Spoken directly over our own client. The libraries for it (`genai`, `async-openai`) read a response whole
//! into memory whatever its size, and put it whole into their errors; here every response passes the same
//! limits, redaction and egress policy as any other call, and the wire is small.
//!
//! # Invariants
//! - The server's key goes to the origin of the server's own base URL and nowhere else: an agent that names
//!   another place does not get it.
//! - An answer without a finish reason is a failure, whatever arrived: it was cut off.
//! - Only what may pass by itself is repeated (429, 5xx, connections that fail), a few times, and not beyond
//!   the deadline; `Retry-After` is honoured.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use backon::{ExponentialBuilder, Retryable as _};
use baton_agent::{FinishReason, Message, ModelRequest, ModelResponse, ToolCall};
use baton_execution::{Fault, fault_type};
use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ModelCall, ModelProvider};
use crate::{
    options::{ActivitiesError, ActivitiesOptions, Secret},
    outgoing::{IDEMPOTENCY_KEY, Outgoing, Request, Response, header_text, shown, status_fault},
    redact::Secrets,
};

/// Repetitions after the first attempt.
const RETRIES_MAX: usize = 3;
const RETRY_DELAY_MAX: Duration = Duration::from_secs(20);
/// Bytes of text per token where the provider reports no usage: on the high side for English, so that a
/// limit of tokens is reached too early rather than never.
const BYTES_PER_TOKEN_ESTIMATE: usize = 3;

pub(super) struct OpenAi {
    outgoing: Arc<Outgoing>,
    base_url: Option<Url>,
    authorization: Option<HeaderValue>,
    key: Option<Secret>,
    retry_initial: Duration,
}

/// One attempt that failed.
struct Attempt {
    fault: Fault,
    retry: bool,
    retry_after: Option<Duration>,
}

impl OpenAi {
    pub(super) fn new(outgoing: &Arc<Outgoing>, options: ActivitiesOptions) -> Result<Self, ActivitiesError> {
        let base_url = options.model_base_url.as_deref().map(|text| {
            let refused = |why: String| ActivitiesError::ModelBaseUrl { url: text.to_owned(), why };
            let url = Url::parse(text).map_err(|error| refused(error.to_string()))?;
            // The text is shown with the error only if it holds no credentials.
            options
                .egress
                .check_url(&url)
                .map_err(|why| ActivitiesError::ModelBaseUrl { url: shown(&url), why: why.to_string() })?;
            Ok(url)
        });
        let authorization = options.model_api_key.as_ref().map(|key| {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| ActivitiesError::ModelApiKey)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            outgoing: Arc::clone(outgoing),
            base_url: base_url.transpose()?,
            authorization: authorization.transpose()?,
            key: options.model_api_key,
            retry_initial: Duration::from_millis(options.model_retry_initial_ms),
        })
    }

    fn endpoint(&self, request: &ModelRequest) -> Result<Url, Fault> {
        let configuration = |detail: String| Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable();
        let base = match &request.model.base_url {
            Some(text) => {
                Url::parse(text).map_err(|error| configuration(format!("model.baseUrl is not a URL: {error}")))?
            }
            None => self.base_url.clone().ok_or_else(|| configuration("no URL is configured for models".to_owned()))?,
        };
        let mut url = base;
        let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }

    fn headers(&self, url: &Url, call: &ModelCall) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(IDEMPOTENCY_KEY, header_text(&call.idempotency_key));
        let own = self.base_url.as_ref().is_some_and(|base| base.origin() == url.origin());
        if let Some(authorization) = self.authorization.as_ref().filter(|_| own) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers
    }

    async fn attempt(&self, url: &Url, body: &[u8], call: &ModelCall, secrets: &Secrets) -> Result<Response, Attempt> {
        let request = Request {
            method: Method::POST,
            url: url.clone(),
            headers: self.headers(url, call),
            body: Some(body.to_vec()),
            follow_redirects: false,
            deadline: call.deadline,
        };
        let response = self.outgoing.send(request).await.map_err(|failure| Attempt {
            fault: failure.fault,
            retry: failure.transient,
            retry_after: None,
        })?;
        if response.status.is_success() {
            return Ok(response);
        }
        let mut fault = status_fault(&Method::POST, url, &response, secrets);
        if response.status.as_u16() == 401
            && self.authorization.is_some()
            && !self.headers(url, call).contains_key(AUTHORIZATION)
        {
            let detail = format!(
                "{}; the server's model key is only sent to the origin of BATON_MODEL_BASE_URL",
                fault.detail.unwrap_or_default()
            );
            fault.detail = Some(detail);
        }
        let retry = response.status.as_u16() == 429 || response.status.is_server_error();
        Err(Attempt { fault, retry, retry_after: retry_after(&response.headers) })
    }
}

#[async_trait::async_trait]
impl ModelProvider for OpenAi {
    fn can_answer(&self, request: &ModelRequest) -> bool {
        request.model.base_url.is_some() || self.base_url.is_some()
    }

    async fn answer(&self, request: &ModelRequest, call: &ModelCall) -> Result<ModelResponse, Fault> {
        let url = self.endpoint(request)?;
        let body = body_of(request, &url).to_string().into_bytes();
        let mut secrets = Secrets::default();
        if let Some(key) = &self.key {
            secrets.add(key.expose());
        }
        let backoff = ExponentialBuilder::default()
            .with_min_delay(self.retry_initial)
            .with_max_delay(RETRY_DELAY_MAX)
            .with_max_times(RETRIES_MAX)
            .with_jitter();
        let response = (|| self.attempt(&url, &body, call, &secrets))
            .retry(backoff)
            .sleep(tokio::time::sleep)
            .when(|failed| failed.retry)
            .adjust(|failed, delay| delay.map(|delay| failed.retry_after.unwrap_or(delay)).filter(|delay| *delay < call.deadline.left()))
            .notify(|failed, delay| tracing::info!(fault = %failed.fault, delay_ms = delay.as_millis(), "the model is asked again"))
            .await
            .map_err(|failed| failed.fault)?;
        read(&response, &url, body.len(), &secrets)
    }
}

/// The request on the wire.
fn body_of(request: &ModelRequest, url: &Url) -> Value {
    let model = &request.model;
    let mut messages = vec![json!({"role": "system", "content": request.instructions})];
    messages.extend(request.messages.iter().map(message));
    let mut body = json!({"model": model.name, "messages": messages, "stream": false});
    if let Some(temperature) = model.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(max) = model.max_output_tokens {
        // OpenAI's own newer models know only the new name, most other servers only the old one.
        let name = if url.host_str() == Some("api.openai.com") { "max_completion_tokens" } else { "max_tokens" };
        body[name] = json!(max);
    }
    if !request.tools.is_empty() {
        let tools = request
            .tools
            .iter()
            .map(|tool| json!({"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters}}));
        body["tools"] = Value::Array(tools.collect());
    }
    if let Some(schema) = &request.output_schema {
        body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
    }
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { content } => json!({"role": "user", "content": content}),
        Message::Tool { call_id, content, .. } => json!({"role": "tool", "tool_call_id": call_id, "content": content}),
        Message::Assistant { content, tool_calls } => {
            let mut fields =
                Map::from_iter([("role".to_owned(), json!("assistant")), ("content".to_owned(), json!(content))]);
            if !tool_calls.is_empty() {
                let calls = tool_calls.iter().map(|call| {
                    // A provider refuses its own call without a name when it comes back.
                    let name = if call.name.is_empty() { "unknown" } else { &call.name };
                    let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
                    json!({"id": call.id, "type": "function", "function": {"name": name, "arguments": arguments}})
                });
                fields.insert("tool_calls".to_owned(), Value::Array(calls.collect()));
            }
            Value::Object(fields)
        }
    }
}

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
    model: Option<String>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    message: Option<Reply>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Reply {
    content: Option<Value>,
    refusal: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
}

#[derive(Deserialize)]
struct WireCall {
    id: Option<String>,
    function: Option<WireFunction>,
}

#[derive(Deserialize)]
struct WireFunction {
    name: Option<String>,
    arguments: Option<Value>,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

fn read(response: &Response, url: &Url, request_bytes: usize, secrets: &Secrets) -> Result<ModelResponse, Fault> {
    let corrupt =
        |what: String| Fault::new(fault_type::COMMUNICATION, 502, format!("the model at {} {what}", shown(url)));
    let completion: Completion = serde_json::from_slice(&response.body).map_err(|error| {
        let start: String = secrets.redact(&String::from_utf8_lossy(&response.body)).chars().take(200).collect();
        corrupt(format!("gave an answer that is not a chat completion ({error}): {start}"))
    })?;
    if let Some(error) = completion.error.filter(|error| !error.is_null()) {
        let said: String = secrets.redact(&error.to_string()).chars().take(512).collect();
        return Err(corrupt(format!("answered with an error: {said}")));
    }
    let choice =
        completion.choices.into_iter().next().ok_or_else(|| corrupt("gave an answer without a choice".to_owned()))?;
    let reason = choice
        .finish_reason
        .ok_or_else(|| corrupt("gave an answer without a finish reason: it was cut off".to_owned()))?;
    let reply = choice.message.ok_or_else(|| corrupt("gave an answer without a message".to_owned()))?;
    let refusal = reply.refusal.filter(|text| !text.is_empty());
    let finish_reason = match reason.as_str() {
        _ if refusal.is_some() => FinishReason::ContentFilter,
        "stop" => FinishReason::Stop,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "length" => FinishReason::Length,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    };
    let reported = completion.usage.and_then(|usage| usage.prompt_tokens.zip(usage.completion_tokens));
    let estimate = |bytes: usize| bytes.div_ceil(BYTES_PER_TOKEN_ESTIMATE) as u64;
    let (input_tokens, output_tokens) =
        reported.unwrap_or_else(|| (estimate(request_bytes), estimate(response.body.len())));
    Ok(ModelResponse {
        text: refusal.or_else(|| reply.content.as_ref().and_then(text_of)),
        tool_calls: reply.tool_calls.unwrap_or_default().into_iter().map(tool_call).collect(),
        finish_reason,
        input_tokens,
        output_tokens,
        usage_estimated: reported.is_none(),
        provider: "openai".to_owned(),
        model: completion.model.unwrap_or_default(),
    })
}

/// A text, or the texts of a list of parts.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn tool_call(call: WireCall) -> ToolCall {
    let (name, arguments) = call.function.map(|function| (function.name, function.arguments)).unwrap_or_default();
    let arguments = match arguments {
        None | Some(Value::Null) => json!({}),
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        // What is not JSON stays text: the loop tells the model so.
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Some(other) => other,
    };
    ToolCall { id: call.id.unwrap_or_default(), name: name.unwrap_or_default(), arguments }
}

/// `Retry-After` in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = SystemTime::from(jiff::fmt::rfc2822::parse(text).ok()?.timestamp());
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}
