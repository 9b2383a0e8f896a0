//! Replays a recorded history of Temporal's: the proof that this build goes on with what another one began.

use std::{
    sync::{Arc, OnceLock},
    thread,
};

use async_trait::async_trait;
use baton_engine::{Ledger, chain};
use baton_execution::{Activities, ActivityTask, Fault, Programs, fault_type};
use prost::Message as _;
use serde_json::Value;
use temporalio_client::WorkflowHistory;
use temporalio_common::protos::temporal::api::history::v1::History;
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};
use tokio::sync::{Notify, watch};

use super::ExecutionWorkflow;
use crate::{
    contents::Contents,
    worker::{ActivityTimes, RunLimits, Shared},
};

/// Replays the history of one run, given as the protobuf message `temporal.api.history.v1.History`, as
/// [`TemporalHost::history`](crate::TemporalHost::history) gives it. Only content is read from the ledger; nothing is
/// reported and no activity runs.
///
/// # Errors
/// Where this build goes another way than the history, or why it cannot be read.
pub fn replay_history(history: &[u8], ledger: Arc<dyn Ledger>, programs: Arc<dyn Programs>) -> Result<(), String> {
    let history = History::decode(history).map_err(|error| chain(&error))?;
    if history.events.is_empty() {
        return Err("the history has no events".to_owned());
    }
    let shared = Arc::new(Shared {
        contents: Contents::new(Arc::clone(&ledger)).map_err(|error| chain(&error))?,
        ledger,
        programs,
        activities: Arc::new(NoActivities),
        limits: RunLimits { continue_as_new_events: u32::MAX, ..RunLimits::default() },
        installation: OnceLock::new(),
        met_stranger: Notify::new(),
        host: None,
        times: ActivityTimes::default(),
        give_up: watch::channel(false).1,
    });
    // The SDK's replay cannot change threads.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| chain(&error))?;
        let options = WorkflowReplayerOptions::new()
            .register_workflow_with_factory::<ExecutionWorkflow, _>(move || ExecutionWorkflow::new(Arc::clone(&shared)))
            .map_err(|error| chain(&error))?
            .build();
        let replayer = WorkflowReplayer::new(options).map_err(|error| chain(&error))?;
        runtime.block_on(replayer.replay_workflow(WorkflowHistory::from(history))).map_err(|error| chain(&error))
    })
    .join()
    .unwrap_or_else(|_panic| Err("the replay panicked".to_owned()))
}

struct NoActivities;

#[async_trait]
impl Activities for NoActivities {
    async fn run(&self, task: ActivityTask) -> Result<Value, Fault> {
        let detail = format!("a replay runs no activity, not even '{}'", task.activity);
        Err(Fault::new(fault_type::RUNTIME, 500, detail))
    }
}
