//! Activities: what touches the world for an execution.

use baton_types::Uid;
use serde_json::{Map, Value};

use crate::{Emitter, Fault, OperationId, ProgramKind};

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
    /// Where it lets values be seen while it runs.
    pub emitter: Emitter,
    /// Whose work it is.
    pub origin: Origin,
}

/// Whose work an activity is, for whoever looks at it from outside. It changes nothing of what the activity does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// What the execution is one run of; `None` for work that belongs to no execution.
    pub kind: Option<ProgramKind>,
    /// The execution above all others of the tree; `None` for the one that asks.
    pub root: Option<Uid>,
    /// Name of the `Workflow` or `Agent`; empty for a definition of its own.
    pub template: String,
    /// `spec.session` of an agent execution; empty if there is none.
    pub session: String,
    /// What [`Program::labels`](crate::Program::labels) says of the activity.
    pub labels: Map<String, Value>,
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
