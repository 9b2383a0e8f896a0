//! The suite of the engines, with Programs that run on a real Temporal.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use baton_engine::{Elsewhere, Engine, testing::Place};
use baton_engine_temporal::{ActivityTimes, Connection, TemporalHost, TemporalOptions, Worker, WorkerOptions};
use baton_execution::{Activities, Programs};
use baton_temporal_testing::TemporalServer;
use tokio::sync::Mutex;

/// Programs run in workflows, on a task queue of their own.
struct AtTemporal {
    connection: Connection,
    queue: String,
    worker: Mutex<Option<Worker>>,
}

impl AtTemporal {
    fn place() -> Arc<dyn Place> {
        static QUEUES: AtomicU32 = AtomicU32::new(0);
        let queue = format!("contract-{}-{}", std::process::id(), QUEUES.fetch_add(1, Ordering::SeqCst));
        let options = TemporalOptions { address: TemporalServer::shared().address(), ..TemporalOptions::default() };
        let connection = Connection::start(options).unwrap();
        Arc::new(Self { connection, queue, worker: Mutex::new(None) })
    }
}

#[async_trait]
impl Place for AtTemporal {
    async fn elsewhere(&self) -> Elsewhere {
        let host = TemporalHost::new(self.connection.clone(), self.queue.clone());
        Elsewhere { host: Some(Arc::new(host)), receivers: Vec::new() }
    }

    async fn begin(&self, engine: &Engine, programs: Arc<dyn Programs>, activities: Arc<dyn Activities>) {
        let times = ActivityTimes { heartbeat: Duration::from_secs(2), heartbeat_once: Duration::from_secs(2) };
        let options = WorkerOptions {
            times,
            shutdown_grace: Duration::from_millis(100),
            ..WorkerOptions::new(self.queue.clone(), ["echo", "hang", "hand-out"])
        };
        let worker =
            Worker::start(self.connection.clone(), options, Arc::new(engine.clone()), programs, activities).unwrap();
        *self.worker.lock().await = Some(worker);
    }

    async fn end(&self) {
        if let Some(worker) = self.worker.lock().await.take() {
            worker.shutdown().await;
        }
    }
}

baton_engine::conformance!(AtTemporal::place());
