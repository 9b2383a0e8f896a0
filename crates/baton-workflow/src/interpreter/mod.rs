//! The interpreter: a checked definition and the data of one execution, as a [`Program`].
//!
//! A running task is a frame; a frame knows its parent, its data and what it waits for. An input goes to the frame
//! that it is for; what follows from it is worked off one job after the other until every frame waits again.
//!
//! # Invariants
//! - The state is data: a snapshot holds all of it, and a restored Program goes on as the first would have.
//! - No recursion over tasks: jobs are a list, so that neither nesting nor loops use the stack.
//! - An [`OperationId`](baton_execution::OperationId) never repeats: the attempt of a position rises each time it is entered.
//! - Between two inputs at most [`PURE_TASKS_MAX`] tasks run, in an execution at most [`TASKS_MAX`]; more is a fault.
//!
//! # Deliberately absent
//! Retries of activities by the engine: a retry is `try` with a policy, seen in the timeline.
//!
//! # Failure
//! Faults go up from frame to frame until a `try` catches one or the execution has failed.

mod attempts;
mod calls;
mod extensions;
mod flow;
mod listening;
mod report;
mod run;
mod state;
mod variables;

use std::sync::Arc;

use baton_execution::{
    Command, Input, OperationId, Program, ProgramError, Progress, Recorded, with_present_placeholders,
};

pub(crate) use calls::{Call, Child};
pub(crate) use run::Run;
pub(crate) use state::{FrameId, Opening, State};
pub(crate) use variables::runtime;

use crate::document::Definition;

/// Tasks that run between two inputs; more of them without waiting for anything is a loop that does not end.
pub const PURE_TASKS_MAX: u32 = 10_000;

/// Tasks of one execution, all in all.
pub const TASKS_MAX: u32 = 1_000_000;

/// How long a waiting task without a timeout waits, in milliseconds: seven days.
pub const DEFAULT_WAIT_MS: u64 = 7 * 24 * 3600 * 1000;

/// How long an activity of a task without a timeout may run, in milliseconds.
pub const DEFAULT_ACTIVITY_MS: u64 = 60_000;

/// Format of the snapshots that this build writes.
const SNAPSHOT_VERSION: u32 = 2;
/// The format before, which differs in its placeholders alone: read as well.
const SNAPSHOT_VERSION_BEFORE: u32 = 1;

/// A snapshot that this build cannot go on from; the execution is replayed from its history instead.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not a snapshot of a workflow, or one of another format.
    #[error("the snapshot has the format {found}, this build reads {SNAPSHOT_VERSION_BEFORE} and {SNAPSHOT_VERSION}")]
    Format {
        /// The format that it says it has.
        found: u32,
    },
    /// It cannot be read.
    #[error("read the snapshot of a workflow")]
    Unreadable(#[source] serde_json::Error),
    /// It names tasks that the definition does not have.
    #[error("the snapshot is at '{position}', which the definition does not have")]
    Foreign {
        /// Where it is.
        position: String,
    },
}

/// One execution of a workflow.
#[derive(Debug)]
pub struct WorkflowProgram {
    run: Run,
}

/// A Program that has seen nothing yet. Cheap: it shares the definition.
pub fn load(definition: Arc<Definition>) -> WorkflowProgram {
    WorkflowProgram { run: Run::new(definition, state::Execution::default()) }
}

/// A Program with the state of an earlier [`Program::snapshot`].
///
/// # Errors
/// If the snapshot is not one of this build's format, or not one of this definition.
pub fn restore(definition: Arc<Definition>, snapshot: &[u8]) -> Result<WorkflowProgram, RestoreError> {
    let bytes = snapshot;
    let mut snapshot: state::Snapshot<state::Execution> =
        serde_json::from_slice(bytes).map_err(RestoreError::Unreadable)?;
    if snapshot.version == SNAPSHOT_VERSION_BEFORE {
        let text = String::from_utf8_lossy(bytes);
        snapshot.state = serde_json::from_str::<state::Snapshot<state::Execution>>(&with_present_placeholders(&text))
            .map_err(RestoreError::Unreadable)?
            .state;
    } else if snapshot.version != SNAPSHOT_VERSION {
        return Err(RestoreError::Format { found: snapshot.version });
    }
    for frame in snapshot.state.frames.values() {
        let known = definition.task(frame.task).is_some_and(|task| frame.position.ends_with(&task.segment));
        let placed =
            definition.block(frame.block).is_some_and(|block| block.tasks.get(frame.slot) == Some(&frame.task));
        let based = frame.position.is_char_boundary(frame.base)
            && frame.parent.is_none_or(|parent| snapshot.state.frames.contains_key(&parent));
        if !(known && placed && based) {
            return Err(RestoreError::Foreign { position: frame.position.clone() });
        }
    }
    Ok(WorkflowProgram { run: Run::new(definition, snapshot.state) })
}

impl Program for WorkflowProgram {
    fn on_input(&mut self, input: &Recorded) -> Result<Vec<Command>, ProgramError> {
        if self.run.has_ended() {
            return Ok(Vec::new());
        }
        let started = self.run.is_started();
        match &input.input {
            Input::Started(_) if started => {
                return Err(ProgramError {
                    what: "a second 'Started' for a running workflow".to_owned(),
                    position: "/".to_owned(),
                });
            }
            Input::Started(_) | Input::CancelRequested { .. } | Input::TimeoutReached => {}
            _ if !started => {
                return Err(ProgramError { what: "an input before 'Started'".to_owned(), position: "/".to_owned() });
            }
            _ => {}
        }
        Ok(self.run.on_input(input))
    }

    fn activity_input(&self, _id: &OperationId) -> Option<serde_json::Value> {
        None
    }

    fn progress(&self) -> Progress {
        self.run.progress()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.run.snapshot()
    }
}
