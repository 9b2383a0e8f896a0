//! The event history of an execution: what came in and what was asked for, in order, append-only.

use std::collections::BTreeMap;

use baton_types::Uid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Command, Fault, Grant, OperationId, Used};

/// One numbered entry of an event history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEvent {
    /// Counted from 1 within the execution, without gaps.
    pub number: i64,
    /// When it was recorded, in milliseconds since 1970.
    pub time_ms: i64,
    /// What happened.
    pub kind: HistoryEventKind,
}

/// Either side of the contract.
#[derive(Clone, Debug, PartialEq)]
pub enum HistoryEventKind {
    /// Something happened to the execution.
    Input(Input),
    /// The Program asked for something, in answer to the inputs before.
    Command(Command),
}

/// An input with the time at which the engine took it: the only clock a Program has.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// What happened.
    pub input: Input,
}

/// What can happen to an execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// The first input of every execution.
    Started(Start),
    /// An activity gave its result.
    ActivityCompleted {
        /// Which activity.
        id: OperationId,
        /// Its result.
        output: Value,
    },
    /// An activity failed for good; retries inside it are over.
    ActivityFailed {
        /// Which activity.
        id: OperationId,
        /// Why.
        fault: Fault,
    },
    /// A timer became due.
    TimerFired {
        /// Which timer.
        id: OperationId,
    },
    /// Somebody answered the token of a wait, or a child could not be started.
    CallbackAnswered {
        /// Which wait.
        id: OperationId,
        /// The answer.
        outcome: Outcome,
        /// What whoever answers and all below it used; `None` if that is not known, as of anybody but a child.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        used: Option<Used>,
    },
    /// Somebody asked for the end of the execution; the Program winds up and ends as cancelled.
    CancelRequested {
        /// Why, in the words of who asked.
        reason: String,
    },
    /// `spec.timeout` passed; the Program ends as timed out.
    TimeoutReached,
    /// Inputs are kept from now on, not given to the Program.
    Suspended,
    /// Kept inputs are given to the Program, in their order.
    Resumed,
    /// A child was created. Recorded by the engine for readers; not given to the Program.
    ChildStarted {
        /// The wait whose token the child holds, or the command that started it.
        id: OperationId,
        /// Kind of the child's resource, such as `AgentExecution`.
        kind: String,
        /// Name of the child's resource, in the namespace of the parent.
        name: String,
        /// Its uid.
        uid: Uid,
    },
}

/// What an execution knows of itself from its first moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Identity of the execution.
    pub uid: Uid,
    /// Namespace of the resource.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// The input, `null` if there is none. For an agent: `{"message": …, "input": …}`.
    pub input: Value,
    /// Plain settings by name, from `spec.env`.
    pub env: BTreeMap<String, String>,
    /// Limits or other settings of the execution that its Program understands; `null` if there are none.
    pub settings: Value,
    /// What it may use of what is left to its tree. `None` for an execution that began before there were grants: it goes on
    /// as it did then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// What it goes on from, where executions before it have left something ([`Program::carry_over`]); `null` if it does not.
    ///
    /// [`Program::carry_over`]: crate::Program::carry_over
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub carried_over: Value,
}

/// How a callee ended, as told to whoever holds the wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// With this output.
    Completed(Value),
    /// With this fault.
    Failed(Fault),
    /// It was cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
}
