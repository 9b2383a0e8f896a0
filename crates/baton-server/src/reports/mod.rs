//! CloudEvents to others: what happens to executions ("lifecycle events"), and what workflows emit.
//!
//! The store is the outbox. A [`Trail`](trail::Trail) follows the changes of a kind from a place that is kept in the store, and
//! that place moves once everything up to it was taken. So a sink that is away, or a server that is killed, loses nothing, and
//! both engines are alike: what is read is the history that both of them write.
//!
//! # Invariants
//! - At least once, in order for each execution; emitted events in order of all of them.
//! - The id of an event follows from the history: a repeat is the same event, by `source` and `id`.
//! - Requests pass the one egress policy, as `http` activities do.
//!
//! # Deliberately absent
//! Events of agent executions: the specification knows workflows and tasks.
//!
//! # Failure
//! A sink that does not take an event now is asked again, ever less often, for ever; one that refuses an event for what it is
//! (4xx but 401, 403, 404, 408, 425 and 429) does not get that one again. Both are in the log and in the metrics.

mod emitted;
mod lifecycle;
mod sink;
#[cfg(test)]
mod tests;
mod trail;
mod words;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use baton_execution::Activities;
use baton_proto::{Resource as _, v1::WorkflowExecution};
use baton_store::{ExecState, StoredResource};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::{App, now_ms};

/// How long an execution that is past its time is kept for a sink that has not taken its end.
const HELD_FOR: Duration = Duration::from_hours(24);

/// Which lifecycle events are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// None.
    Off,
    /// Those of workflows.
    #[default]
    Workflows,
    /// Those of workflows and of their tasks.
    Tasks,
}

/// Where events go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportOptions {
    /// URL that gets lifecycle events; `None`: nobody.
    pub lifecycle_sink: Option<String>,
    /// Which of them.
    pub lifecycle: Lifecycle,
    /// URL that gets what workflows emit; `None`: nobody.
    pub sink: Option<String>,
}

/// How far the lifecycle of executions was reported.
#[derive(Debug, Default)]
pub(crate) struct Reported(AtomicU64);

impl Reported {
    fn set(&self, revision: u64) {
        self.0.store(revision, Relaxed);
    }

    /// Whether an execution has ended and that was not reported yet.
    pub(crate) fn is_behind(&self, row: &StoredResource) -> bool {
        row.key.kind == WorkflowExecution::KIND && row.state == ExecState::Closed && row.revision > self.0.load(Relaxed)
    }

    /// Whether one that is past its time is to be kept a while longer for that.
    pub(crate) fn holds(&self, row: &StoredResource) -> bool {
        let held_ms = i64::try_from(HELD_FOR.as_millis()).unwrap_or(i64::MAX);
        self.is_behind(row) && row.expires_at_ms.is_some_and(|since_ms| now_ms() - since_ms < held_ms)
    }
}

/// Sends events to whoever is to get them, until the server stops. Whoever got none before gets those after revision `begin`.
pub(crate) async fn run(
    app: App,
    activities: Arc<dyn Activities>,
    options: ReportOptions,
    begin: u64,
    stopping: CancellationToken,
) {
    let mut reporting = JoinSet::new();
    let lifecycle = options.lifecycle_sink.filter(|_| options.lifecycle != Lifecycle::Off);
    if let Some(url) = lifecycle {
        let reported = Arc::new(Reported::default());
        app.join_reported(Arc::clone(&reported));
        let sink = sink::Sink::new("lifecycle", url, Arc::clone(&activities));
        reporting.spawn(lifecycle::run(app.clone(), sink, options.lifecycle, reported, begin, stopping.clone()));
    } else {
        trail::forget(&app, lifecycle::TRAIL).await;
    }
    if let Some(url) = options.sink {
        reporting.spawn(emitted::run(app, sink::Sink::new("emitted", url, activities), begin, stopping));
    } else {
        trail::forget(&app, emitted::TRAIL).await;
    }
    while let Some(ended) = reporting.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "reporting events stopped");
        }
    }
}
