//! Rehearsals: a Program run against a script, with simulated time, for tests of workflows and agents.
//!
//! [`rehearse_program`] is a whole engine in one function: it feeds the Program, keeps what is open, and lets time jump to
//! whatever comes next. What the world would say, a [`Script`] says; what happened, a [`Rehearsal`] tells.
//!
//! # Invariants
//! - The same script gives the same rehearsal: no clock, no randomness. An execution begins at [`START_MS`].
//! - What comes at the same time comes in the order in which it was asked for.
//! - A call that the script has no answer for ends the rehearsal: nothing is made up. Only `echo`, `emit` and
//!   subscriptions answer themselves, as what they say follows from what they are given.
//! - A question to a person is a call like any other, of the activity [`APPROVAL`].
//!
//! # Deliberately absent
//! Heartbeats: whoever is to answer a wait is taken to send them, unless the script has it silent. Activities
//! themselves: what a server would do with a request is for the script to say.
//!
//! # Failure
//! [`Stop`] says why a rehearsal did not come to the end of the execution.

mod script;
mod stage;

use baton_execution::ProgramError;
pub use baton_execution::{Ending, Fault, fault_type};
use serde_json::Value;

pub use script::{Answer, Arrival, Reply, Script, Voice, contains};
pub use stage::{rehearse, rehearse_program};

/// When rehearsals begin, in milliseconds since 1970: 2027-01-15T08:00:00Z.
pub const START_MS: i64 = 1_800_000_000_000;

/// The name under which a rehearsal shows a question to a person, as task and as activity. Its input is `kind`, `tool`, `server`,
/// `arguments`, `message`, `why`; its answer is `choice` (`approve`, `deny`, `retry`, `result`, `fail`) and, as needed, `reason`,
/// `arguments` and `result`.
pub const APPROVAL: &str = "approval";

/// Inputs of one rehearsal; more of them are a loop that the script keeps going.
pub const INPUTS_MAX: usize = 100_000;

/// What happened.
#[derive(Debug)]
pub struct Rehearsal {
    /// How the execution ended, or why it did not.
    pub result: Result<Ending, Stop>,
    /// What was called, in order.
    pub calls: Vec<Call>,
    /// The tasks that ran or were skipped, in the order in which they began.
    pub tasks: Vec<TaskRun>,
    /// Simulated time from start to end, in milliseconds.
    pub elapsed_ms: u64,
    /// Answers of the script, by their place in it, that were given fewer times than it says.
    pub unused: Vec<usize>,
}

/// Why an execution did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// The script has no answer for these calls: places in [`Rehearsal::calls`].
    Unanswered(Vec<usize>),
    /// It waits for what the script does not bring: what for, as `status` would say.
    Stuck(Vec<String>),
    /// It took more than [`INPUTS_MAX`] inputs.
    Endless,
    /// The Program met something that cannot be.
    Broken(ProgramError),
}

/// Something that was asked of the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Name of the task.
    pub task: String,
    /// Position of the task, with the numbers of iterations.
    pub position: String,
    /// Which time round, from 1.
    pub attempt: u32,
    /// What does it: `http`, `agent`, `workflow`, or another activity.
    pub activity: String,
    /// What it was given. Tokens and secrets are shown as `<callback token>` and the like. For an agent or a workflow:
    /// `agent` or `workflow` (its name), `version`, `message`, `input`, `session`, `env`, as far as there are any.
    pub input: Value,
    /// When, in milliseconds after the start.
    pub at_ms: u64,
}

/// A task that was begun or skipped.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRun {
    /// Its name.
    pub name: String,
    /// Its position, with the numbers of iterations.
    pub position: String,
    /// Its kind, such as `call http`; empty for a task that was skipped.
    pub kind: String,
    /// Which time round, from 1.
    pub attempt: u32,
    /// What became of it.
    pub state: TaskState,
}

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It had not ended when the rehearsal did.
    Running,
    /// It ended well.
    Completed,
    /// It ended with a fault, caught or not.
    Faulted,
    /// It was stopped.
    Cancelled,
    /// Its `if` was false.
    Skipped,
}

impl TaskState {
    /// The CamelCase word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Faulted => "Faulted",
            Self::Cancelled => "Cancelled",
            Self::Skipped => "Skipped",
        }
    }
}
