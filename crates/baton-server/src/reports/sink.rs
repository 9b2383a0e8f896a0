//! A receiver of CloudEvents over HTTP, in the structured mode: one event, one request.

use std::{sync::Arc, time::Duration};

use baton_execution::{Activities, ActivityTask, Emitter, Fault, OperationId, Origin};
use baton_types::Uid;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{app::now_ms, metrics};

/// Time for one request, in milliseconds.
const REQUEST_MS_MAX: u64 = 30_000;
/// Pauses before an event that was not taken is sent again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Where events go.
pub(super) struct Sink {
    /// What is sent there, for metrics.
    what: &'static str,
    url: String,
    activities: Arc<dyn Activities>,
}

impl Sink {
    pub(super) fn new(what: &'static str, url: String, activities: Arc<dyn Activities>) -> Self {
        Self { what, url, activities }
    }

    /// Sends an event until it is taken, or refused for what it is. `time_ms` is when it happened.
    pub(super) async fn send(&self, namespace: &str, event: &Value, time_ms: i64) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.try_once(namespace, event).await {
                Ok(_) => return metrics::event_sent(self.what, "accepted"),
                Err(fault) if is_final(&fault) => {
                    metrics::event_sent(self.what, "rejected");
                    let detail = fault.detail.unwrap_or(fault.kind);
                    tracing::warn!(id = %event["id"], what = self.what, "an event was refused and is not sent again: {detail}");
                    return;
                }
                Err(fault) => {
                    metrics::event_sent(self.what, "failed");
                    metrics::events_lag(self.what, seconds_since(time_ms));
                    let detail = fault.detail.unwrap_or(fault.kind);
                    tracing::warn!(id = %event["id"], what = self.what, "an event is sent again later: {detail}");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn try_once(&self, namespace: &str, event: &Value) -> Result<Value, Fault> {
        let id = OperationId::new("/", 1);
        let task = ActivityTask {
            execution: Uid::from_bytes([0; 16]),
            namespace: namespace.to_owned(),
            name: String::new(),
            idempotency_key: event["id"].as_str().unwrap_or_default().to_owned(),
            id,
            activity: "http".to_owned(),
            input: json!({
                "method": "POST",
                "endpoint": self.url,
                "headers": {"content-type": "application/cloudevents+json; charset=UTF-8"},
                "body": event,
                "output": "response",
            }),
            start_to_close_ms: REQUEST_MS_MAX,
            emitter: Emitter::default(),
            origin: Origin::default(),
        };
        self.activities.run(task).await
    }

    /// Everything that there is was taken.
    pub(super) fn is_even(&self) {
        metrics::events_lag(self.what, 0.0);
    }
}

/// Whether the receiver will never take this event. What an operator can mend does not count.
fn is_final(fault: &Fault) -> bool {
    // Only an answer has its status in the data; a request that could not be made has none.
    let answered = fault.data.as_ref().and_then(|data| data["statusCode"].as_u64());
    answered.is_some_and(|status| matches!(status, 400..500) && !matches!(status, 401 | 403 | 404 | 408 | 425 | 429))
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a lag need no more")]
fn seconds_since(time_ms: i64) -> f64 {
    (now_ms().saturating_sub(time_ms).max(0) as f64) / 1000.0
}
