//! What an execution is between two inputs: data, all of it in the snapshot.

use std::collections::{BTreeMap, VecDeque};

use baton_execution::{Account, OperationId, TaskSummary, WaitReason};
use baton_types::Uid;
use serde::{Deserialize, Serialize};

use crate::{
    data::Data,
    interpreter::attempts::Attempts,
    task::{BlockId, Purpose, TaskId, Then, call_asyncapi, listen, try_catch},
};

/// Names a frame; numbers are not used twice.
pub(crate) type FrameId = u32;

/// A state with the number of its format.
#[derive(Serialize, Deserialize)]
pub(crate) struct Snapshot<S> {
    pub(crate) version: u32,
    pub(crate) state: S,
}

/// An execution.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Execution {
    pub(crate) start: Option<Started>,
    pub(crate) context: Data,
    pub(crate) frames: BTreeMap<FrameId, Frame>,
    pub(crate) next_frame: FrameId,
    pub(crate) attempts: Attempts,
    /// When the workflow's own `timeout` passes, if it has one.
    pub(crate) timeout_due_ms: Option<i64>,
    pub(crate) tasks_started: u32,
    pub(crate) tasks_ended: u32,
    pub(crate) recent: VecDeque<TaskSummary>,
    pub(crate) ended: bool,
    /// Where the last event that was consumed stands among those of the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) events_cursor: Option<String>,
    /// What it may use of what is left to its tree, and has given to its children.
    #[serde(default)]
    pub(crate) account: Account,
}

/// What the execution knows from its first input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) uid: Uid,
    pub(crate) time_ms: i64,
    pub(crate) env: Data,
    /// The input as it came.
    pub(crate) raw: Data,
    /// The input after `input.from`; `None` if that is the same.
    pub(crate) transformed: Option<Data>,
}

/// A task that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// The task around it; `None` at the top.
    pub(crate) parent: Option<FrameId>,
    pub(crate) task: TaskId,
    pub(crate) block: BlockId,
    /// Its place in the block.
    pub(crate) slot: usize,
    /// Which branch or iteration of the parent it belongs to.
    pub(crate) branch: u32,
    /// JSON pointer with iteration numbers.
    pub(crate) position: String,
    /// How many bytes of the position are the block's.
    pub(crate) base: usize,
    pub(crate) attempt: u32,
    pub(crate) started_ms: i64,
    /// The input after `input.from`.
    pub(crate) input: Data,
    /// The input before `input.from`; `None` if that is the same.
    pub(crate) raw: Option<Data>,
    /// Variables that it gives to the tasks in it.
    pub(crate) variables: Vec<(String, Data)>,
    pub(crate) state: State,
    pub(crate) open: Option<Open>,
    pub(crate) timers: Vec<Timer>,
    pub(crate) attempts: Attempts,
    /// Extensions that apply to the task, and how far they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extended: Option<Extended>,
    /// Whether the task belongs to an extension.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) in_extension: bool,
}

/// A task with extensions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Extended {
    /// The extensions that apply, in order, by their places in the definition.
    pub(crate) by: Vec<usize>,
    pub(crate) stage: Stage,
}

/// Where a task with extensions is; `at` is a place in [`Extended::by`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// What comes before it runs.
    Before { at: usize },
    /// It runs itself.
    Task,
    /// It has its raw output, and what comes after it runs.
    After { at: usize, output: Data, then: Option<Then> },
}

/// What kinds of tasks keep of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Nothing.
    Plain,
    /// The items; which one it is at, its block says.
    For { items: Data },
    /// The outputs of the branches that have completed, and how many have not.
    Fork { outputs: Vec<Option<Data>>, left: usize },
    /// Where a `try` is.
    Try(try_catch::Progress),
    /// Where a subscription to messages is.
    Subscription(Box<call_asyncapi::Progress>),
    /// Where a `listen` is.
    Listen(Box<listen::Progress>),
}

/// What a task waits for, with who may want to know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    #[serde(flatten)]
    pub(crate) opening: Opening,
    pub(crate) since_ms: i64,
}

/// Something to wait for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Opening {
    pub(crate) reason: WaitReason,
    /// For people.
    pub(crate) on: String,
    pub(crate) until_ms: Option<i64>,
    /// Whether an activity is under way.
    pub(crate) activity: bool,
    /// Whether a wait is open.
    pub(crate) wait: bool,
}

/// A timer that is armed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Timer {
    pub(crate) purpose: Purpose,
    pub(crate) attempt: u32,
}

impl Frame {
    /// The operation of the task: its activity, wait or child, and its own timer.
    pub(crate) fn operation(&self) -> OperationId {
        OperationId::new(self.position.clone(), self.attempt)
    }

    pub(crate) fn timer_id(&self, timer: &Timer) -> OperationId {
        OperationId::new(format!("{}{}", self.position, timer.purpose.suffix()), timer.attempt)
    }

    /// The part of the position that all tasks of its block share.
    pub(crate) fn base_position(&self) -> &str {
        self.position.get(..self.base).unwrap_or_default()
    }
}
