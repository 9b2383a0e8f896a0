//! What a Program can ask of its engine.

use baton_types::Phase;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Fault, Grant, OperationId, ProgramKind, Question};

/// One decision of a Program. Recorded in history before anything of it is carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "a step has few commands, and they are not kept")]
pub enum Command {
    /// Run an activity; answered by `ActivityCompleted` or `ActivityFailed` of the same id.
    ScheduleActivity(ScheduleActivity),
    /// Stop caring for an activity; nothing of it comes back.
    CancelActivity {
        /// Which activity.
        id: OperationId,
    },
    /// Answer with `TimerFired` at or after the due time.
    StartTimer {
        /// Names the timer.
        id: OperationId,
        /// Milliseconds since 1970.
        due_ms: i64,
    },
    /// Forget a timer.
    CancelTimer {
        /// Which timer.
        id: OperationId,
    },
    /// Open a wait and mint its callback token; answered by `CallbackAnswered`.
    AwaitCallback {
        /// Names the wait.
        id: OperationId,
        /// After this many milliseconds without a heartbeat the wait fails; `None` asks for no heartbeats.
        heartbeat_timeout_ms: Option<u64>,
        /// When the token stops being accepted, in milliseconds since 1970. The Program arms its own timer for that.
        expires_ms: i64,
    },
    /// Ask a person: opens a wait (as `AwaitCallback`, but with no token to hand out) that only a decision answers, with a
    /// [`Decision`](crate::Decision).
    Ask(Question),
    /// Close a wait that is not wanted any more: its token is fenced, an awaited child follows its close policy, a question
    /// takes no decision any more.
    CloseWait {
        /// Which wait.
        id: OperationId,
    },
    /// Start another execution. If `awaited`, opens a wait (as `AwaitCallback`) whose token the child gets.
    StartChild(StartChild),
    /// Something a reader of the timeline wants to know; has no effect.
    Note(Note),
    /// The execution has ended. Always the last command; whatever is open is closed by the engine.
    End(Ending),
}

/// Work to be done outside the Program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleActivity {
    /// Names the activity; with the execution's uid it is the idempotency key.
    pub id: OperationId,
    /// What to run: `http`, `model`, `echo`.
    pub activity: String,
    /// What it is to be run with, as the activity documents it. What is long and can be derived from the
    /// Program's state is left out here and given by `Program::activity_input` when the activity starts.
    pub input: Value,
    /// Milliseconds from its start after which the activity fails with a timeout.
    pub start_to_close_ms: u64,
    /// What running it twice would mean.
    pub effect: Effect,
    /// The approval that allows it, used up by this; `None` if none was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
}

/// What it means to run an activity again after a crash that lost its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// It may be repeated: it only reads, or the receiver knows the idempotency key.
    Repeatable,
    /// It must not be repeated: after a crash in between it is in doubt, and fails saying so.
    Once,
}

/// Another execution to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartChild {
    /// Names the child and its wait.
    pub id: OperationId,
    /// Whether it is a workflow or an agent.
    pub kind: ProgramKind,
    /// What it is to run.
    pub target: ChildTarget,
    /// Its `spec.input`.
    pub input: Value,
    /// Its `spec.message`; agents only.
    pub message: Option<String>,
    /// Its `spec.session`; agents only.
    pub session: Option<String>,
    /// Its `spec.env`.
    pub env: std::collections::BTreeMap<String, String>,
    /// Its `spec.timeout`, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Limits for it, in the JSON form of `spec.limits`; agents only, `null` for the template's.
    pub limits: Value,
    /// Whether this execution waits for it: it then gets the callback token of `id`.
    pub awaited: bool,
    /// When the token of an awaited child stops being accepted, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// What becomes of it if this execution ends first.
    pub parent_close_policy: ParentClosePolicy,
    /// The approval that allows it, used up by this; `None` if none was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// What it gets of what is left to the tree; put in at the end of the step, by [`Account::end_step`](crate::Account::end_step).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
}

/// What a child runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ChildTarget {
    /// A template of that name in the namespace of the parent.
    Named {
        /// Name of the `Workflow` or `Agent`.
        name: String,
        /// For a workflow: the version that `document.version` must have; `None` takes any.
        version: Option<String>,
    },
    /// A definition of its own: a workflow document, or an agent's spec.
    Inline(Value),
}

/// What becomes of a callee when its caller is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParentClosePolicy {
    /// It is cancelled.
    Cancel,
    /// It goes on by itself.
    Abandon,
}

/// An entry of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Note {
    /// A task began.
    TaskStarted {
        /// Its position.
        position: String,
        /// Its name in the definition.
        name: String,
        /// Its kind, such as `call http`.
        kind: String,
        /// Which time round, from 1.
        attempt: u32,
    },
    /// A task ended well.
    TaskCompleted {
        /// Its position.
        position: String,
    },
    /// A task was not run because its `if` was false.
    TaskSkipped {
        /// Its position.
        position: String,
        /// Its name in the definition.
        name: String,
    },
    /// A task ended with a fault (caught or not).
    TaskFaulted {
        /// Its position.
        position: String,
        /// Why.
        fault: Fault,
    },
    /// A task was stopped: a lost race, a timeout around it.
    TaskCancelled {
        /// Its position.
        position: String,
    },
    /// A fault was caught and the block runs again.
    TaskRetried {
        /// Position of the `try` task.
        position: String,
        /// The attempt that is to come, from 2.
        attempt: u32,
        /// Milliseconds until then.
        delay_ms: u64,
    },
    /// Something was said in an agent's conversation.
    Message {
        /// `user`, `assistant` or `tool`.
        role: String,
        /// The text, or a tool's result.
        content: Value,
        /// Names of the tools that were called.
        tool_calls: Vec<String>,
    },
    /// Something was made: kept as long as the execution, under the digest of its content.
    Artifact {
        /// Its name within the execution; a later one of the same name takes its place.
        name: String,
        /// Such as `text/markdown`.
        media_type: String,
        /// All of it.
        content: String,
    },
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Ending {
    /// With this output.
    Completed {
        /// The output.
        output: Value,
    },
    /// With this fault.
    Failed {
        /// The fault.
        fault: Fault,
        /// What there was until then, if it is worth keeping.
        partial_output: Option<Value>,
    },
    /// Because somebody asked for it.
    Cancelled {
        /// Why.
        reason: String,
        /// What there was until then, if it is worth keeping.
        partial_output: Option<Value>,
    },
    /// Because its time was over.
    TimedOut {
        /// What there was until then, if it is worth keeping.
        partial_output: Option<Value>,
    },
}

impl Ending {
    /// The phase that it leaves the execution in.
    pub const fn phase(&self) -> Phase {
        match self {
            Self::Completed { .. } => Phase::Completed,
            Self::Failed { .. } => Phase::Failed,
            Self::Cancelled { .. } => Phase::Cancelled,
            Self::TimedOut { .. } => Phase::TimedOut,
        }
    }
}
