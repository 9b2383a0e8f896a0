//! Keeping a worker polling: it starts once Temporal is there, and starts again after a pause when it has failed.

use std::{sync::Arc, time::Duration};

use baton_engine::Ledger;
use baton_engine_temporal::{Connection, RunLimits, Worker, WorkerOptions};
use baton_execution::{Activities, Programs};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::TemporalSettings;

/// Pause after a worker that failed at once.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause between two.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a worker works with.
#[derive(Clone)]
pub(crate) struct Parts {
    /// Keeps the executions.
    pub(crate) ledger: Arc<dyn Ledger>,
    /// Loads their Programs.
    pub(crate) programs: Arc<dyn Programs>,
    /// Touches the world for them.
    pub(crate) activities: Arc<dyn Activities>,
    /// What it does there, by name.
    pub(crate) activity_names: Vec<&'static str>,
}

/// A worker that is started again when it fails.
#[derive(Debug)]
pub(crate) struct Supervised {
    stopping: CancellationToken,
    polling: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts one as soon as there is a connection.
    pub(crate) fn start(connection: Connection, settings: &TemporalSettings, parts: Parts) -> Self {
        let stopping = CancellationToken::new();
        let (polls, polling) = watch::channel(false);
        let options = WorkerOptions {
            limits: RunLimits { continue_as_new_events: settings.continue_as_new_events, ..RunLimits::default() },
            ..WorkerOptions::new(settings.task_queue.clone(), parts.activity_names.iter().copied())
        };
        let task = tokio::spawn(keep_polling(connection, options, parts, polls, stopping.clone()));
        Self { stopping, polling, task }
    }

    /// Resolves once it polls.
    pub(crate) async fn polling(&self) {
        if self.polling.clone().wait_for(|polls| *polls).await.is_err() {
            // It was stopped before it ever polled.
            std::future::pending::<()>().await;
        }
    }

    /// Stops it, and waits for its end.
    pub(crate) async fn shutdown(self) {
        self.stopping.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the worker stopped");
        }
    }
}

async fn keep_polling(
    connection: Connection,
    options: WorkerOptions,
    parts: Parts,
    polls: watch::Sender<bool>,
    stopping: CancellationToken,
) {
    let mut pause = PAUSE_MIN;
    loop {
        tokio::select! {
            _ = connection.wait_connected() => {}
            () = stopping.cancelled() => return,
        }
        let Parts { ledger, programs, activities, activity_names: _ } = parts.clone();
        let started = Instant::now();
        match Worker::start(connection.clone(), options.clone(), ledger, programs, activities) {
            Ok(worker) => {
                polls.send_replace(true);
                tracing::info!(task_queue = options.task_queue, "polling Temporal for work");
                tokio::select! {
                    why = worker.failed() => tracing::warn!(why, "the worker has failed; it starts again"),
                    () = stopping.cancelled() => {
                        worker.shutdown().await;
                        return;
                    }
                }
                worker.shutdown().await;
                polls.send_replace(false);
            }
            Err(error) => tracing::warn!(%error, "the worker cannot start; trying again"),
        }
        if started.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
