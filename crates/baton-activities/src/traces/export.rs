//! Sending spans to a collector: OTLP over HTTP, in Protocol Buffers.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use backon::{ExponentialBuilder, Retryable as _};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span as WireSpan, Status, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use reqwest::{
    Client, StatusCode as HttpStatus, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{Attribute, CONTENT_BYTES_MAX, CONVENTIONS, Span, TEXT_BYTES_MAX, TracesOptions, trace_id};
use crate::{ActivitiesError, metric_names};

/// Spans of one request, and how long is waited for more.
const BATCH_SPANS: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Longest that one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Attempts of one request.
const ATTEMPTS: usize = 3;
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What the exporter is to do.
pub(super) enum Order {
    Span(Box<Span>),
    Flush(oneshot::Sender<()>),
}

pub(super) struct Exporter {
    client: Client,
    url: Url,
    headers: HeaderMap,
    resource: Resource,
}

/// Why a request was not taken.
struct Refused {
    why: String,
    passes: bool,
}

impl Exporter {
    pub(super) fn new(options: &TracesOptions, tls: rustls::ClientConfig) -> Result<Self, ActivitiesError> {
        let endpoint = options.endpoint.trim_end_matches('/');
        let refused = |why: &str| ActivitiesError::Traces { what: "endpoint".to_owned(), why: why.to_owned() };
        let url = Url::parse(&format!("{endpoint}/v1/traces"))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| refused("it is not a URL; allowed is such as http://127.0.0.1:4318"))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        for (name, value) in &options.headers {
            let parsed = (HeaderName::try_from(name.as_str()).ok()).zip(HeaderValue::from_str(value.expose()).ok());
            let Some((parsed, mut value)) = parsed else {
                let why = "name or value holds characters that cannot stand in a header".to_owned();
                return Err(ActivitiesError::Traces { what: format!("header '{name}'"), why });
            };
            value.set_sensitive(true);
            headers.insert(parsed, value);
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(REQUEST_LIMIT)
            .user_agent(concat!("baton/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ActivitiesError::Client)?;
        let resource = Resource {
            attributes: vec![
                text("service.name", &options.service_name),
                text("service.version", env!("CARGO_PKG_VERSION")),
            ],
            ..Resource::default()
        };
        Ok(Self { client, url, headers, resource })
    }

    /// Sends what comes until nobody can emit any more.
    pub(super) async fn run(self, mut orders: mpsc::Receiver<Order>) {
        let mut flushes: VecDeque<oneshot::Sender<()>> = VecDeque::new();
        loop {
            let mut batch: Vec<WireSpan> = Vec::new();
            let mut bytes = 0;
            let deadline = Instant::now() + BATCH_WAIT;
            while batch.len() < BATCH_SPANS && bytes < BATCH_BYTES {
                // The first is waited for as long as it takes, those after it for a moment.
                let order = if batch.is_empty() {
                    orders.recv().await
                } else {
                    timeout_at(deadline.max(Instant::now()), orders.recv()).await.unwrap_or(None)
                };
                match order {
                    Some(Order::Span(span)) => {
                        let span = wire(*span);
                        bytes += span.encoded_len();
                        batch.push(span);
                    }
                    Some(Order::Flush(sent)) => {
                        flushes.push_back(sent);
                        break;
                    }
                    None if batch.is_empty() => return,
                    None => break,
                }
            }
            if !batch.is_empty() {
                self.send(batch).await;
            }
            for sent in flushes.drain(..) {
                let _gone = sent.send(());
            }
        }
    }

    async fn send(&self, spans: Vec<WireSpan>) {
        let count = spans.len() as u64;
        let scope = InstrumentationScope {
            name: "baton".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let schema_url = format!("https://opentelemetry.io/schemas/{CONVENTIONS}");
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: schema_url.clone() }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans, schema_url }];
        let body = bytes::Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let sent = (|| self.request(body.clone()))
            .retry(ExponentialBuilder::default().with_max_times(ATTEMPTS - 1).with_jitter())
            .sleep(tokio::time::sleep)
            .when(|refused| refused.passes)
            .await;
        let rejected = match sent {
            Ok(rejected) => rejected.min(count),
            Err(Refused { why, .. }) => {
                tracing::warn!(spans = count, "spans could not be sent to {}: {why}", self.url);
                count
            }
        };
        metrics::counter!(metric_names::SPANS_SENT).increment(count - rejected);
        metrics::counter!(metric_names::SPANS_DROPPED).increment(rejected);
    }

    /// One attempt: how many spans were rejected.
    async fn request(&self, body: bytes::Bytes) -> Result<u64, Refused> {
        let broken = |error: reqwest::Error| Refused { why: error.without_url().to_string(), passes: true };
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            let passes = status == HttpStatus::TOO_MANY_REQUESTS || matches!(status.as_u16(), 502..=504);
            return Err(Refused { why: format!("it answers {status}"), passes });
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > ANSWER_BYTES_MAX {
                return Ok(0);
            }
        }
        let partial = ExportTraceServiceResponse::decode(answer.as_slice()).unwrap_or_default().partial_success;
        let Some(partial) = partial.filter(|partial| partial.rejected_spans > 0) else { return Ok(0) };
        tracing::warn!(
            rejected = partial.rejected_spans,
            "the collector rejects spans: {}",
            cut(&partial.error_message, TEXT_BYTES_MAX)
        );
        Ok(u64::try_from(partial.rejected_spans).unwrap_or(0))
    }
}

fn wire(span: Span) -> WireSpan {
    let Span { root, id, parent, name, is_client, start, end, attributes, error } = span;
    let mut attributes: Vec<KeyValue> = attributes.into_iter().map(|(name, value)| attribute(name, value)).collect();
    attributes.extend(error.as_ref().map(|(kind, _)| text("error.type", kind)));
    WireSpan {
        trace_id: trace_id(root).to_vec(),
        span_id: id.0.to_vec(),
        parent_span_id: parent.map(|id| id.0.to_vec()).unwrap_or_default(),
        // Sampled.
        flags: 1,
        name: cut(&name, TEXT_BYTES_MAX).to_owned(),
        kind: if is_client { SpanKind::Client } else { SpanKind::Internal }.into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(end.max(start)),
        attributes,
        status: error.map(|(_, message)| Status {
            message: cut(&message, TEXT_BYTES_MAX).to_owned(),
            code: StatusCode::Error.into(),
        }),
        ..WireSpan::default()
    }
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn text(name: &str, value: &str) -> KeyValue {
    key_value(name, any_value::Value::StringValue(cut(value, TEXT_BYTES_MAX).to_owned()))
}

fn attribute(name: &'static str, value: Attribute) -> KeyValue {
    let any = |text: &str, max| any_value::Value::StringValue(cut(text, max).to_owned());
    key_value(
        name,
        match value {
            Attribute::Text(text) => any(&text, TEXT_BYTES_MAX),
            Attribute::Content(text) => any(&text, CONTENT_BYTES_MAX),
            Attribute::Count(count) => any_value::Value::IntValue(count),
            Attribute::Number(number) => any_value::Value::DoubleValue(number),
            Attribute::Texts(texts) => {
                let values = texts.iter().map(|it| AnyValue { value: Some(any(it, TEXT_BYTES_MAX)) }).collect();
                any_value::Value::ArrayValue(ArrayValue { values })
            }
        },
    )
}

fn key_value(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The text up to so many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
