//! Programs: the pure half of every execution.

use std::fmt;

use baton_types::{Digest, Phase};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Allowance, Command, Decision, Fault, OperationId, Recorded, Used};

/// A workflow or an agent as a state machine.
///
/// No clock, no randomness, no IO, no iteration over hash maps: the same inputs give the same commands.
pub trait Program: Send {
    /// Takes one input and returns what is to be done, in order.
    ///
    /// An input for an operation that is closed already (a late timer, an answer to a lost race) is not an
    /// error: it is ignored, with no commands. After `Command::End` every input is ignored.
    ///
    /// # Errors
    /// A bug or a changed Program, never a fault of the user's: those are data and end the execution.
    fn on_input(&mut self, input: &Recorded) -> Result<Vec<Command>, ProgramError>;

    /// What an open activity is run with, where that is more than its command holds; `None` for the command's own input.
    fn activity_input(&self, id: &OperationId) -> Option<Value>;

    /// What an open activity is for, in words of the Program, for whoever looks at it from outside: the tool that an agent calls.
    fn labels(&self, _id: &OperationId) -> Map<String, Value> {
        Map::new()
    }

    /// Whether a decision on an open question is one that the Program can go on with. Asked before the decision is taken,
    /// so that whoever decides can correct it.
    ///
    /// # Errors
    /// What is wrong with it, as sentences.
    fn check_decision(&self, _id: &OperationId, _decision: &Decision) -> Result<(), Vec<String>> {
        Ok(())
    }

    /// What there is so far and is worth keeping, for an end that the Program is not asked about.
    fn partial_output(&self) -> Option<Value> {
        None
    }

    /// What is kept of the execution when it has ended, in this phase and at this time (milliseconds since 1970), for
    /// executions that go on from it; `None` if nobody will. Never changes the state.
    fn carry_over(&self, _phase: Phase, _ended_ms: i64) -> Option<Value> {
        None
    }

    /// What `status` says of the execution.
    fn progress(&self) -> Progress;

    /// The whole state as data, for [`Programs::restore`].
    fn snapshot(&self) -> Vec<u8>;
}

/// Makes Programs from the content that an execution was pinned to at admission.
pub trait Programs: Send + Sync {
    /// A Program that has seen nothing yet.
    ///
    /// # Errors
    /// A fault that ends the execution: the content was admitted once but cannot be loaded any more.
    fn load(&self, kind: ProgramKind, digest: &Digest, definition: &[u8]) -> Result<Box<dyn Program>, Fault>;

    /// A Program with the state of an earlier [`Program::snapshot`].
    ///
    /// # Errors
    /// As for `load`, or if the snapshot is not one of this build's formats; the engine then replays from the start.
    fn restore(
        &self,
        kind: ProgramKind,
        digest: &Digest,
        definition: &[u8],
        snapshot: &[u8],
    ) -> Result<Box<dyn Program>, Fault>;
}

/// The two Programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProgramKind {
    /// An Open Workflow document.
    Workflow,
    /// A model with tools.
    Agent,
}

impl ProgramKind {
    /// Kind of the resource that is one run of it.
    pub const fn execution_kind(self) -> &'static str {
        match self {
            Self::Workflow => "WorkflowExecution",
            Self::Agent => "AgentExecution",
        }
    }

    /// Kind of the resource that is its template.
    pub const fn template_kind(self) -> &'static str {
        match self {
            Self::Workflow => "Workflow",
            Self::Agent => "Agent",
        }
    }
}

/// A Program met something that cannot be: the execution is stopped with a loud log, the process goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at {position}")]
pub struct ProgramError {
    /// State and input, both named.
    pub what: String,
    /// Where in the Program.
    pub position: String,
}

/// What `status` says of a running execution; small whatever the execution does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Open waits, at most 32, oldest first.
    pub waiting: Vec<Waiting>,
    /// Tasks (or tool calls) begun so far.
    pub tasks_started: u32,
    /// Tasks (or tool calls) ended so far, well or not.
    pub tasks_ended: u32,
    /// The last few tasks or turns, at most 8, newest last.
    pub recent: Vec<TaskSummary>,
    /// What models have used so far.
    pub usage: Usage,
    /// What was made so far, oldest first; few.
    pub artifacts: Vec<ArtifactSummary>,
    /// The same of it and all below it.
    pub tree: TreeProgress,
}

/// Something that an execution made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSummary {
    /// Its name within the execution.
    pub name: String,
    /// Such as `text/markdown`.
    pub media_type: String,
    /// Of its content, such as `sha256:…`.
    pub digest: String,
    /// Of its content.
    pub size_bytes: u64,
}

/// What an execution and all below it have used, and may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TreeProgress {
    /// What was used so far; what is reserved counts as unsettled.
    pub used: Used,
    /// What is left.
    pub left: Allowance,
    /// Levels of executions that may be below it; `None` is without a limit.
    pub depth: Option<u32>,
    /// When the time of the tree is over, in milliseconds since 1970.
    pub deadline_ms: Option<i64>,
    /// Limits whose soft mark is passed, in words for people.
    pub marks: Vec<String>,
}

/// Something an execution waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Where.
    pub id: OperationId,
    /// What kind of thing.
    pub reason: WaitReason,
    /// For people: `agent triage`, `GET http://…`, `2m`.
    pub on: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// Until when at most, in milliseconds since 1970.
    pub until_ms: Option<i64>,
}

/// Reason of the condition `Waiting`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitReason {
    /// Somebody outside holds a token.
    Callback,
    /// A person is to decide.
    Approval,
    /// A time is to come.
    Timer,
    /// An event is to come.
    Event,
    /// A child holds the token.
    Child,
    /// An activity runs: work is under way, not parked.
    Activity,
}

impl WaitReason {
    /// The CamelCase word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Callback => "Callback",
            Self::Approval => "Approval",
            Self::Timer => "Timer",
            Self::Event => "Event",
            Self::Child => "Child",
            Self::Activity => "Activity",
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One task of the last few.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Its position.
    pub position: String,
    /// Its name in the definition, or `turn 3`.
    pub name: String,
    /// Its kind, such as `call http`.
    pub kind: String,
    /// `Running`, `Completed`, `Faulted`, `Cancelled` or `Skipped`.
    pub state: String,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
}

/// What models have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Calls of a model.
    pub model_calls: u32,
    /// Calls of tools.
    pub tool_calls: u32,
    /// Tokens read by models, as they reported.
    pub input_tokens: u64,
    /// Tokens written by models, as they reported.
    pub output_tokens: u64,
    /// Tokens of `input_tokens` that a provider had kept from an earlier call.
    #[serde(default)]
    pub cached_input_tokens: u64,
    /// What the calls of known price cost, in millionths of a US dollar.
    #[serde(default)]
    pub cost_micros: u64,
    /// Calls whose price is not known.
    #[serde(default)]
    pub cost_unknown_calls: u32,
    /// Executions that were started.
    #[serde(default)]
    pub children: u32,
}

impl Usage {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            model_calls: self.model_calls.saturating_add(other.model_calls),
            tool_calls: self.tool_calls.saturating_add(other.tool_calls),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_input_tokens: self.cached_input_tokens.saturating_add(other.cached_input_tokens),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
            cost_unknown_calls: self.cost_unknown_calls.saturating_add(other.cost_unknown_calls),
            children: self.children.saturating_add(other.children),
        }
    }

    /// What the calls of known price cost, in dollars as a decimal; `None` if no call that was answered is one.
    pub fn cost(&self) -> Option<String> {
        if self.cost_micros == 0 && (self.cost_unknown_calls > 0 || self.model_calls == 0) {
            return None;
        }
        Some(decimal_of_micros(self.cost_micros))
    }
}

const MICROS: u64 = 1_000_000;

/// Millionths of a dollar as a decimal of dollars, such as `0.0123`.
pub fn decimal_of_micros(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / MICROS, micros % MICROS);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The millionths of a dollar of a decimal; `None` if it is none, has more than six places, or is too large.
pub fn micros_of_decimal(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let micros: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(MICROS)?.checked_add(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_whole_millionths() {
        for (text, micros) in [("0", 0), ("0.000001", 1), ("12.5", 12_500_000), ("0.05", 50_000), ("7", 7_000_000)] {
            assert_eq!(micros_of_decimal(text), Some(micros), "{text}");
            assert_eq!(decimal_of_micros(micros), text);
        }
        for wrong in ["", ".", "1.", ".5", "-1", "1e3", "0.0000001", "99999999999999", " 1"] {
            assert_eq!(micros_of_decimal(wrong), None, "{wrong}");
        }
    }
}
