//! Traces: what was done, for how long, as spans of OpenTelemetry.
//!
//! A span is made when what it tells of has ended, with the times of its beginning and its end, so nothing is held open: an
//! execution may take days, and processes may change in between. The ids follow from what is told of, so that spans from several
//! processes are one trace without knowing of each other:
//! - the trace from the uid of the execution above all others,
//! - the span of an execution from its uid, the span of an activity from that, its position and its attempt.
//!
//! # Invariants
//! - No span holds what was asked, said or given, unless that was configured; and the value of a secret in no case.
//! - Whoever emits a span never waits: what does not fit in the queue is dropped and counted.
//!
//! # Failure
//! A collector that is not there costs spans, nothing else. What was not sent when the process is killed is lost.

mod activity;
mod export;
mod messages;

use std::{fmt, sync::Arc, time::SystemTime};

use baton_types::{Digest, Uid};
use reqwest::header::HeaderValue;
use tokio::sync::{mpsc, oneshot};

pub(crate) use activity::Watched;

use crate::{ActivitiesError, Secret, metric_names};
use export::{Exporter, Order};

/// Version of the semantic conventions that spans follow; those for generative AI are not stable, so it is pinned.
pub const CONVENTIONS: &str = "1.41.0";
/// Spans that wait to be sent; at a few hundred a second, those of several seconds.
const QUEUE_MAX: usize = 4096;
/// Longest text of an attribute, in bytes; content is longer than names.
const TEXT_BYTES_MAX: usize = 1024;
const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracesOptions {
    /// URL of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; `/v1/traces` is added.
    pub endpoint: String,
    /// Headers of each request, such as one with a key.
    pub headers: Vec<(String, Secret)>,
    /// Whether spans hold messages, arguments and results.
    pub content: bool,
    /// `service.name` of all spans.
    pub service_name: String,
}

/// Takes spans. Cheap to clone; all clones send to one collector.
#[derive(Clone)]
pub struct Tracer(Arc<Inner>);

struct Inner {
    orders: mpsc::Sender<Order>,
    content: bool,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("content", &self.0.content).finish_non_exhaustive()
    }
}

/// Names a span within its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl SpanId {
    /// Of an execution.
    pub fn of_execution(uid: Uid) -> Self {
        Self::named(&uid.to_string())
    }

    /// Of an attempt of something at a position of an execution.
    pub fn of_operation(uid: Uid, position: &str, attempt: u32) -> Self {
        Self::named(&format!("{uid}/{position}/{attempt}"))
    }

    fn named(name: &str) -> Self {
        Self(first_bytes(&format!("span {name}")))
    }
}

fn trace_id(root: Uid) -> [u8; 16] {
    first_bytes(&format!("trace {root}"))
}

fn first_bytes<const N: usize>(name: &str) -> [u8; N] {
    let digest = Digest::of(name.as_bytes());
    *digest.as_bytes().first_chunk().expect("a digest has 32 bytes")
}

/// The header by which others join a trace (W3C Trace Context).
pub(crate) fn traceparent(root: Uid, span: SpanId) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("00-{}-{}-01", hex::encode(trace_id(root)), hex::encode(span.0))).ok()
}

/// Something that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The execution above all others.
    pub root: Uid,
    /// Which one it is.
    pub id: SpanId,
    /// The one around it; `None` for the outermost.
    pub parent: Option<SpanId>,
    /// Short, of few different words.
    pub name: String,
    /// Whether it asks another service.
    pub is_client: bool,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Why it failed: a type, and a description.
    pub error: Option<(String, String)>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// Text; cut at 1 KiB.
    Text(String),
    /// Several.
    Texts(Vec<String>),
    /// What was said or given; cut at 64 KiB.
    Content(String),
    /// A whole number.
    Count(i64),
    /// Any number.
    Number(f64),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Attribute {
    fn from(count: u64) -> Self {
        Self::Count(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl Tracer {
    /// Begins to send what will be emitted, in the present runtime.
    ///
    /// # Errors
    /// An endpoint that is no URL, or a header that is none.
    pub(crate) fn start(options: &TracesOptions, tls: rustls::ClientConfig) -> Result<Self, ActivitiesError> {
        let exporter = Exporter::new(options, tls)?;
        let (orders, ordered) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(exporter.run(ordered));
        Ok(Self(Arc::new(Inner { orders, content: options.content })))
    }

    /// Whether spans are to hold what was said and given.
    pub fn wants_content(&self) -> bool {
        self.0.content
    }

    /// Has a span sent, unless too many wait.
    pub fn emit(&self, span: Span) {
        if self.0.orders.try_send(Order::Span(Box::new(span))).is_err() {
            metrics::counter!(metric_names::SPANS_DROPPED).increment(1);
        }
    }

    /// Waits until what was emitted is sent, or has failed to be.
    pub async fn flush(&self) {
        let (sent, all_sent) = oneshot::channel();
        if self.0.orders.send(Order::Flush(sent)).await.is_ok() {
            // If the exporter is gone there is nothing to wait for.
            let _ = all_sent.await;
        }
    }
}
