//! Asking a provider over the network: one question, its repetitions, and the stream of the answer.
//!
//! Every answer is asked for as a stream, so that one that takes long is seen to be alive; a server that answers whole is
//! understood too.
//!
//! # Invariants
//! - The key goes where [`Places`] says and nowhere else; redirects are not followed.
//! - Only what may pass by itself is repeated (429, 5xx, connections and streams that break off), a few times, and not beyond
//!   the deadline; `Retry-After` is honoured.
//! - A frame that is not JSON fails the call: nothing of an answer is skipped.
//! - No more of an answer is kept than the client's limit for any response.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable as _};
use baton_agent::{ModelRequest, ModelResponse, ProviderData, RetrySpec, is_deeper_than};
use baton_execution::{Fault, fault_type};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use sse_stream::SseStream;

use super::{
    ModelCall, ModelProvider,
    origin::framed,
    places::{Place, Places},
    speech::Speech,
    wire::{self, Broken, Heard, Listener, Question, Said, Wire},
};
use crate::{
    outgoing::{IDEMPOTENCY_KEY, Opened, Outgoing, Request, header_text, shown, status_fault},
    redact::Secrets,
    secrets::Vault,
};

/// Attempts where the agent says nothing.
const ATTEMPTS_DEFAULT: u32 = 4;
const RETRY_DELAY_MAX: Duration = Duration::from_secs(20);
/// Longest silence within an answer that has begun: some models begin, and then think. Before it begins there may be silence until
/// the deadline.
const SILENCE_MAX: Duration = Duration::from_mins(5);
/// Bytes of text per token where the provider reports no usage: on the high side for English, so that a
/// limit of tokens is reached too early rather than never.
const BYTES_PER_TOKEN_ESTIMATE: usize = 3;
/// Levels on which a provider's own data may be nested: what is deeper could be recorded and not be read again.
const PROVIDER_DATA_DEPTH_MAX: usize = 32;
/// What ends a stream of some providers; it is no JSON.
const DONE: &str = "[DONE]";

pub(super) struct Remote {
    outgoing: Arc<Outgoing>,
    places: Places,
    retry_initial: Duration,
}

/// One attempt that failed.
struct Attempt {
    fault: Fault,
    retry: bool,
    retry_after: Option<Duration>,
}

impl Attempt {
    fn useless(fault: Fault) -> Self {
        Self { fault, retry: false, retry_after: None }
    }
}

/// Everything that the attempts of one call share.
struct Asking<'a> {
    wire: &'static dyn Wire,
    url: Url,
    body: Vec<u8>,
    headers: HeaderMap,
    secrets: Secrets,
    call: &'a ModelCall<'a>,
}

impl Remote {
    pub(super) fn new(outgoing: &Arc<Outgoing>, places: Places, retry_initial: Duration) -> Self {
        Self { outgoing: Arc::clone(outgoing), places, retry_initial }
    }

    fn backoff(&self, retry: Option<RetrySpec>) -> ExponentialBuilder {
        let retry = retry.unwrap_or_default();
        let longest = retry.maximum_interval_ms.map_or(RETRY_DELAY_MAX, Duration::from_millis);
        let first = retry.initial_interval_ms.map_or(self.retry_initial, Duration::from_millis).min(longest);
        #[expect(clippy::cast_possible_truncation, reason = "checked to be from 1 to 10")]
        let factor = retry.backoff_coefficient.unwrap_or(2.0) as f32;
        let attempts = retry.maximum_attempts.unwrap_or(ATTEMPTS_DEFAULT);
        ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_factor(factor)
            .with_max_times(usize::try_from(attempts.saturating_sub(1)).unwrap_or(0))
            .with_jitter()
    }

    async fn attempt(&self, asking: &Asking<'_>) -> Result<Said, Attempt> {
        let deadline = asking.call.deadline;
        let exchange = self.exchange(asking);
        tokio::time::timeout(deadline.left(), exchange)
            .await
            .unwrap_or_else(|_| Err(Attempt::useless(deadline.passed(&asking.url).fault)))
    }

    async fn exchange(&self, asking: &Asking<'_>) -> Result<Said, Attempt> {
        let broken_off = |failure: crate::outgoing::Failure| Attempt {
            fault: failure.fault,
            retry: failure.transient,
            retry_after: None,
        };
        let request = Request {
            method: Method::POST,
            url: asking.url.clone(),
            headers: asking.headers.clone(),
            body: Some(asking.body.clone()),
            follow_redirects: false,
            deadline: asking.call.deadline,
        };
        let opened = self.outgoing.open(request).await.map_err(broken_off)?;
        if !opened.status().is_success() {
            let response = self.outgoing.read(opened).await.map_err(broken_off)?;
            let retry = response.status.as_u16() == 429 || response.status.is_server_error();
            let fault = status_fault(&Method::POST, &asking.url, &response, &asking.secrets);
            return Err(Attempt { fault, retry, retry_after: retry_after(&response.headers) });
        }
        let mut listener = asking.wire.listen();
        let mut aloud = Speech::new(&asking.call.task.emitter, asking.secrets.clone());
        let is_events = opened.is("text/event-stream");
        if is_events || opened.is("application/x-ndjson") {
            let max = self.outgoing.response_bytes_max();
            let bytes = Box::pin(bounded(asking.url.clone(), opened, max));
            if is_events {
                let frames = SseStream::from_bytes_stream(bytes).map(|event| match event {
                    Ok(event) => Ok(event.data.unwrap_or_default()),
                    Err(sse_stream::Error::Body(stopped)) => Err(stopped.downcast::<Stopped>().ok().map(|it| *it)),
                    Err(_) => Err(None),
                });
                hear(asking, frames, listener.as_mut(), &mut aloud).await?;
            } else {
                hear(asking, lines(bytes).map_err(Some), listener.as_mut(), &mut aloud).await?;
            }
            aloud.end();
            return listener.finish().map_err(|broken| asking.broken(broken, true));
        }
        let response = self.outgoing.read(opened).await.map_err(broken_off)?;
        let whole = serde_json::from_slice(&response.body).map_err(|error| {
            let start: String = String::from_utf8_lossy(&response.body).chars().take(200).collect();
            let start = asking.secrets.redact(&start);
            asking.corrupt(&format!("gave an answer that is not JSON ({error}): {start}"), false)
        })?;
        listener.hear(whole, &mut aloud).map_err(|broken| asking.broken(broken, false))?;
        aloud.end();
        listener.finish().map_err(|broken| asking.broken(broken, false))
    }
}

/// Gives a listener every frame, until the answer is whole or the stream ends.
async fn hear(
    asking: &Asking<'_>,
    frames: impl Stream<Item = Result<String, Option<Stopped>>>,
    listener: &mut dyn Listener,
    aloud: &mut Speech<'_>,
) -> Result<(), Attempt> {
    let mut frames = std::pin::pin!(frames);
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|stopped| match stopped {
            Some(Stopped(attempt)) => *attempt,
            None => asking.corrupt("gave a stream that is not one of events", false),
        })?;
        let frame = frame.trim();
        if frame.is_empty() {
            continue;
        }
        if frame == DONE {
            break;
        }
        let frame = serde_json::from_str(frame)
            .map_err(|error| asking.corrupt(&format!("gave a stream with a part that is not JSON ({error})"), false))?;
        if listener.hear(frame, aloud).map_err(|broken| asking.broken(broken, true))? == Heard::Whole {
            break;
        }
    }
    Ok(())
}

impl Asking<'_> {
    fn corrupt(&self, what: &str, retry: bool) -> Attempt {
        let fault = Fault::new(fault_type::COMMUNICATION, 502, format!("the model at {} {what}", shown(&self.url)));
        Attempt { fault, retry, retry_after: None }
    }

    fn broken(&self, broken: Broken, is_stream: bool) -> Attempt {
        match broken {
            // A stream ends early where a connection breaks behind a proxy, too.
            Broken::Cut => self.corrupt("gave an answer without a finish reason: it was cut off", is_stream),
            Broken::Nonsense(what) => self.corrupt(&format!("gave an answer that {what}"), false),
            Broken::Refused { said, transient } => {
                self.corrupt(&format!("answered with an error: {}", self.secrets.redact(&said)), transient)
            }
        }
    }
}

#[async_trait]
impl ModelProvider for Remote {
    fn can_answer(&self, request: &ModelRequest) -> bool {
        self.places.has(&request.model)
    }

    async fn answer(&self, request: &ModelRequest, call: &ModelCall<'_>) -> Result<ModelResponse, Fault> {
        let model = &request.model;
        let wire = wire::of(model.provider).ok_or_else(|| Places::nowhere(model))?;
        let place = self.places.of(model, call).await?;
        let Question { url, body } = wire.question(&framed(request), &place.base)?;
        let body = body.to_string().into_bytes();
        let headers = headers(wire, &place, call)?;
        let mut secrets = Vault::given();
        place.key.iter().for_each(|key| secrets.add(key.expose()));
        let asking = Asking { wire, url, body, headers, secrets, call };
        let said = (|| self.attempt(&asking))
            .retry(self.backoff(model.retry))
            .sleep(tokio::time::sleep)
            .when(|failed| failed.retry)
            .adjust(|failed, delay| {
                delay.map(|delay| failed.retry_after.unwrap_or(delay)).filter(|delay| *delay < call.deadline.left())
            })
            .notify(|failed, delay| {
                tracing::info!(fault = %failed.fault, delay_ms = delay.as_millis(), "the model is asked again");
            })
            .await
            .map_err(|Attempt { mut fault, .. }| {
                if fault.status == 401
                    && let Some(hint) = place.hint
                {
                    fault.detail = Some(format!("{}; {hint}", fault.detail.unwrap_or_default()));
                }
                fault
            })?;
        Ok(response(said, request, asking.body.len(), &asking.secrets))
    }
}

fn headers(wire: &dyn Wire, place: &Place, call: &ModelCall<'_>) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(IDEMPOTENCY_KEY, header_text(&call.task.idempotency_key));
    for (name, value) in wire.headers() {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Some(key) = &place.key {
        let (name, text) = wire.key_header(key.expose());
        // The key was checked where it was configured; one of a Secret is checked here.
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            let detail = "the model's key holds characters that cannot be sent in a header; allowed are visible ASCII characters";
            Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn response(said: Said, request: &ModelRequest, asked_bytes: usize, secrets: &Secrets) -> ModelResponse {
    let Said { text, calls, finish, tokens, model, data } = said;
    let estimate = |bytes: usize| bytes.div_ceil(BYTES_PER_TOKEN_ESTIMATE).max(1) as u64;
    let called: usize = calls.iter().map(|call| call.name.len() + call.arguments.to_string().len()).sum();
    let counted = tokens.unwrap_or_else(|| baton_agent::Tokens {
        input: estimate(asked_bytes),
        cached_input: 0,
        output: estimate(text.len() + called),
    });
    let provider = request.model.provider.as_str();
    let data = data.filter(|data| !is_deeper_than(data, PROVIDER_DATA_DEPTH_MAX));
    ModelResponse {
        text: (!text.is_empty()).then(|| secrets.redact(&text)),
        tool_calls: calls
            .into_iter()
            .map(|call| baton_agent::ToolCall {
                id: secrets.redact(&call.id),
                name: secrets.redact(&call.name),
                arguments: secrets.redact_value(call.arguments),
            })
            .collect(),
        finish_reason: finish.unwrap_or(baton_agent::FinishReason::Other),
        input_tokens: counted.input,
        output_tokens: counted.output,
        usage_estimated: tokens.is_none(),
        cached_input_tokens: counted.cached_input,
        cost_micros: None,
        provider: provider.to_owned(),
        model: model.map_or_else(|| request.model.name.clone(), |name| secrets.redact(&name)),
        provider_data: data.map(|data| ProviderData {
            provider: provider.to_owned(),
            model: request.model.name.clone(),
            data: secrets.redact_value(data),
        }),
    }
}

/// Why a stream of bytes stopped.
#[derive(Debug, thiserror::Error)]
#[error("the stream stopped")]
struct Stopped(Box<Attempt>);

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.fault)
    }
}

/// The bytes of a response: no more than `max`, and no long silence once it has begun.
fn bounded(url: Url, opened: Opened, max: usize) -> impl Stream<Item = Result<Bytes, Stopped>> {
    let stop = |fault: Fault, retry: bool| Stopped(Box::new(Attempt { fault, retry, retry_after: None }));
    stream::try_unfold((opened, 0_usize), move |(mut opened, taken)| {
        let shown = shown(&url);
        async move {
            let next = opened.chunk();
            let next = if taken == 0 {
                next.await
            } else {
                tokio::time::timeout(SILENCE_MAX, next).await.map_err(|_| {
                    let detail = format!("the model at {shown} fell silent for {} s", SILENCE_MAX.as_secs());
                    stop(Fault::new(fault_type::TIMEOUT, 408, detail), true)
                })?
            };
            let Some(chunk) = next.map_err(|failure| stop(failure.fault, failure.transient))? else { return Ok(None) };
            let taken = taken.saturating_add(chunk.len());
            if taken > max {
                let detail = format!("the response of {shown} has more than {max} bytes; allowed are 0 to {max}");
                return Err(stop(Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable(), false));
            }
            Ok(Some((chunk, (opened, taken))))
        }
    })
}

/// The lines of a stream of bytes, the last one without an end, too.
fn lines(bytes: impl Stream<Item = Result<Bytes, Stopped>> + Unpin) -> impl Stream<Item = Result<String, Stopped>> {
    stream::try_unfold((bytes, Vec::new(), false), |(mut bytes, mut kept, mut ended)| async move {
        let mut searched = 0;
        loop {
            let end = kept[searched..].iter().position(|byte| *byte == b'\n').map(|at| searched + at + 1);
            if let Some(end) = end {
                let rest = kept.split_off(end);
                return Ok(Some((String::from_utf8_lossy(&kept).into_owned(), (bytes, rest, ended))));
            }
            searched = kept.len();
            match bytes.try_next().await? {
                Some(chunk) => kept.extend_from_slice(&chunk),
                None if ended || kept.is_empty() => return Ok(None),
                None => {
                    ended = true;
                    return Ok(Some((String::from_utf8_lossy(&kept).into_owned(), (bytes, Vec::new(), ended))));
                }
            }
        }
    })
}

/// `Retry-After` in seconds or as a date, or the same in milliseconds as some providers say it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse::<u64>().ok()) {
        return Some(Duration::from_millis(millis));
    }
    let text = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = SystemTime::from(jiff::fmt::rfc2822::parse(text).ok()?.timestamp());
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}
