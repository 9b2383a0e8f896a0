//! Activities: what touches the world for an execution.

use baton_types::Uid;
use serde_json::Value;

use crate::{Fault, OperationId};

/// One activity to run now. At least once: after a crash the same task may be given again.
#[derive(Clone, Debug)]
pub struct ActivityTask {
    /// Which execution asks.
    pub execution: Uid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Names the activity within the execution.
    pub id: OperationId,
    /// `<execution uid>/<position>/<attempt>`: the same whenever this task is repeated; for `Idempotency-Key`.
    pub idempotency_key: String,
    /// What to run: `http`, `model`, `echo`.
    pub activity: String,
    /// What to run it with.
    pub input: Value,
    /// Milliseconds after which the engine gives up and drops the future.
    pub start_to_close_ms: u64,
}

/// Runs activities. Dropping the returned future cancels the work.
#[async_trait::async_trait]
pub trait Activities: Send + Sync {
    /// Runs one activity to its end.
    ///
    /// # Errors
    /// The fault that the Program sees; its `non_retryable` says whether repeating is useless.
    async fn run(&self, task: ActivityTask) -> Result<Value, Fault>;
}
