//! The loop as a state machine: ask the model, call its tools, until there is an answer.
//!
//! One turn is one model call and the tool calls that it asks for; the calls of a turn run in parallel, and
//! the next turn begins when all have ended. Positions are `/turns/<k>/model` and
//! `/turns/<k>/tools/<index>/<name>`, `k` from 1; see [`asking`] for those of questions to a person, and [`servers`] and
//! [`session`] for what comes before the first turn.
//!
//! # Invariants
//! - Results enter the conversation in the order of the calls, whatever order they come back in.
//! - The command of a model call holds a digest of the conversation, not the conversation: the history grows
//!   with what is said, not with its square. The whole request is derived from the state on demand.
//! - Every call that was begun has ended, in the timeline too, before the execution ends.
//!
//! # Failure
//! A fault of the model, a limit or a call that stays in doubt ends the execution and names what was reached, with
//! the last text of the model as partial output. A tool's fault is a message to the model, and so is a refusal.

mod answer;
mod artifacts;
mod asking;
mod budget;
mod calls;
mod ending;
mod exchange;
mod extending;
mod loops;
mod progress;
mod servers;
mod session;
mod state;
mod turn;

use std::sync::Arc;

use baton_execution::{
    Command, Decision, Fault, Input, OperationId, Outcome, Program, ProgramError, Progress, Recorded, fault_type,
};
use baton_types::Phase;
use serde_json::{Map, Value};

use crate::{definition::AgentDefinition, tools::Tool};
use state::{SNAPSHOT_FORMAT, Stage, State};
use turn::{is_deadline, out_of_time};

/// One run of an agent.
pub struct AgentProgram {
    definition: Arc<AgentDefinition>,
    state: State,
    /// The tools of servers: made of what is pinned in the state.
    served: Vec<Arc<Tool>>,
}

/// A run that has seen nothing yet.
pub fn load(definition: Arc<AgentDefinition>) -> AgentProgram {
    AgentProgram { definition, state: State::default(), served: Vec::new() }
}

/// A run with the state of an earlier snapshot.
///
/// # Errors
/// A runtime fault if the snapshot is not of this build's format; a replay from the start helps then.
pub fn restore(definition: Arc<AgentDefinition>, snapshot: &[u8]) -> Result<AgentProgram, Fault> {
    let refused = |why: String| {
        Fault::new(fault_type::RUNTIME, 500, format!("the snapshot of the agent's run cannot be read: {why}"))
    };
    let state: State = serde_json::from_slice(snapshot).map_err(|error| refused(error.to_string()))?;
    if state.format != SNAPSHOT_FORMAT {
        return Err(refused(format!("it has format {}, this build reads {SNAPSHOT_FORMAT}", state.format)));
    }
    let served = servers::served(&definition, &state.servers)?;
    Ok(AgentProgram { definition, state, served })
}

/// What one input leads to.
struct Step {
    now_ms: i64,
    commands: Vec<Command>,
}

impl Step {
    /// `millis` after now.
    fn after(&self, millis: u64) -> i64 {
        self.now_ms.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    fn push(&mut self, command: Command) {
        self.commands.push(command);
    }
}

impl Program for AgentProgram {
    fn on_input(&mut self, input: &Recorded) -> Result<Vec<Command>, ProgramError> {
        let mut step = Step { now_ms: input.time_ms, commands: Vec::new() };
        if let Input::CallbackAnswered { id, used, .. } = &input.input {
            self.state.account.answered(id, used.as_ref());
        }
        match (&self.state.stage, &input.input) {
            (Stage::Ended, _) | (_, Input::Suspended | Input::Resumed | Input::ChildStarted { .. }) => {}
            (Stage::New, Input::Started(start)) => self.start(start, &mut step),
            (_, Input::CancelRequested { reason }) => self.cancel(reason, &mut step),
            (_, Input::TimerFired { id }) if is_deadline(id) => {
                self.fail(out_of_time(), &mut step);
            }
            (_, Input::TimeoutReached) => self.time_out(&mut step),
            (Stage::Servers(_), Input::ActivityCompleted { id, output }) => {
                self.server_listed(id, Ok(output), &mut step);
            }
            (Stage::Servers(_), Input::ActivityFailed { id, fault }) => self.server_listed(id, Err(fault), &mut step),
            (Stage::Servers(_), Input::TimerFired { id }) => self.server_due(id, &mut step),
            (Stage::Limit(_), Input::CallbackAnswered { id, outcome, .. }) if self.extends(id) => {
                self.extension_decided(outcome, &mut step);
            }
            (Stage::Limit(_), Input::TimerFired { id }) if self.extends(id) => self.extension_overdue(&mut step),
            (Stage::Summary(_) | Stage::Model(_) | Stage::Tools(_), Input::ActivityCompleted { id, output }) => {
                self.activity_ended(id, Ok(output), &mut step);
            }
            (Stage::Summary(_) | Stage::Model(_) | Stage::Tools(_), Input::ActivityFailed { id, fault }) => {
                self.activity_ended(id, Err(fault), &mut step);
            }
            (Stage::Tools(_), Input::CallbackAnswered { id, outcome, .. }) if self.asks(id) => {
                self.decided(id, outcome, &mut step);
            }
            (Stage::Tools(_), Input::TimerFired { id }) if self.asks(id) => self.undecided(id, &mut step),
            (Stage::Tools(_), Input::TimerFired { id }) if self.pauses(id) => self.pause_over(id, &mut step),
            (Stage::Servers(_) | Stage::Model(_) | Stage::Tools(_), Input::CallbackAnswered { id, outcome, .. }) => {
                self.child_ended(id, outcome, &mut step);
            }
            (Stage::Model(_) | Stage::Tools(_), Input::TimerFired { id }) => self.child_overdue(id, &mut step),
            (
                Stage::Summary(_) | Stage::Limit(_),
                Input::ActivityCompleted { .. }
                | Input::ActivityFailed { .. }
                | Input::TimerFired { .. }
                | Input::CallbackAnswered { .. },
            ) => {}
            (
                Stage::Servers(_) | Stage::Summary(_) | Stage::Model(_) | Stage::Tools(_) | Stage::Limit(_),
                Input::Started(_),
            ) => {
                return Err(unexpected("started", &input.input));
            }
            (
                Stage::New,
                Input::ActivityCompleted { .. }
                | Input::ActivityFailed { .. }
                | Input::TimerFired { .. }
                | Input::CallbackAnswered { .. },
            ) => return Err(unexpected("not yet started", &input.input)),
        }
        self.end_step(&mut step);
        Ok(step.commands)
    }

    fn activity_input(&self, id: &OperationId) -> Option<Value> {
        match &self.state.stage {
            Stage::Model(call) if call.id == *id => serde_json::to_value(self.request()).ok(),
            Stage::Summary(call) if call.id == *id => serde_json::to_value(self.summary_request()?).ok(),
            Stage::Tools(_) => self.call_input(id),
            Stage::Summary(_) | Stage::Model(_) | Stage::New | Stage::Servers(_) | Stage::Limit(_) | Stage::Ended => {
                None
            }
        }
    }

    fn labels(&self, id: &OperationId) -> Map<String, Value> {
        let Stage::Tools(calls) = &self.state.stage else { return Map::new() };
        let called = calls.iter().find(|call| call.id == *id);
        called.map_or_else(Map::new, |call| {
            Map::from_iter([
                ("tool".to_owned(), call.asked.name.as_str().into()),
                ("callId".to_owned(), call.asked.id.as_str().into()),
                ("arguments".to_owned(), call.sent().clone()),
            ])
        })
    }

    fn carry_over(&self, phase: Phase, ended_ms: i64) -> Option<Value> {
        serde_json::to_value(self.turn_record(phase, ended_ms)?).ok()
    }

    fn check_decision(&self, id: &OperationId, decision: &Decision) -> Result<(), Vec<String>> {
        let wrong = if self.extends(id) { self.wrong_with_extension(decision) } else { self.wrong_with(id, decision) };
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn partial_output(&self) -> Option<Value> {
        self.state.last_text.clone().map(Value::String)
    }

    fn progress(&self) -> Progress {
        progress::of(&self.definition, &self.state, self.marks_said())
    }

    fn snapshot(&self) -> Vec<u8> {
        // Every key of the state is a string and every number is finite, so this cannot fail; an empty
        // snapshot would be refused by `restore`, which costs a replay and nothing else.
        serde_json::to_vec(&self.state).unwrap_or_default()
    }
}

impl AgentProgram {
    fn activity_ended(&mut self, id: &OperationId, result: Result<&Value, &Fault>, step: &mut Step) {
        match &self.state.stage {
            Stage::Model(call) if call.id == *id => self.model_answered(result, step),
            Stage::Summary(call) if call.id == *id => self.summary_ended(result, step),
            Stage::Tools(_) => self.call_ended(id, false, result.cloned().map_err(Fault::clone), step),
            Stage::Summary(_) | Stage::Model(_) | Stage::New | Stage::Servers(_) | Stage::Limit(_) | Stage::Ended => {}
        }
    }

    fn child_ended(&mut self, id: &OperationId, outcome: &Outcome, step: &mut Step) {
        let result = match outcome {
            Outcome::Completed(output) => Ok(output.clone()),
            Outcome::Failed(fault) => Err(fault.clone()),
            Outcome::Cancelled { reason } => {
                Err(Fault::new(fault_type::CANCELLED, 499, format!("the call was cancelled: {reason}")).non_retryable())
            }
        };
        if self.awaits_child(id) {
            step.push(Command::CancelTimer { id: id.clone() });
            self.call_ended(id, true, result, step);
        }
    }

    fn child_overdue(&mut self, id: &OperationId, step: &mut Step) {
        if self.awaits_child(id) {
            step.push(Command::CloseWait { id: id.clone() });
            self.call_ended(
                id,
                true,
                Err(Fault::new(fault_type::TIMEOUT, 408, "no answer came within the tool's timeout")),
                step,
            );
        }
    }
}

fn unexpected(state: &str, input: &Input) -> ProgramError {
    let name = match input {
        Input::Started(_) => "Started",
        Input::ActivityCompleted { .. } => "ActivityCompleted",
        Input::ActivityFailed { .. } => "ActivityFailed",
        Input::TimerFired { .. } => "TimerFired",
        Input::CallbackAnswered { .. } => "CallbackAnswered",
        Input::CancelRequested { .. } => "CancelRequested",
        Input::TimeoutReached => "TimeoutReached",
        Input::Suspended => "Suspended",
        Input::Resumed => "Resumed",
        Input::ChildStarted { .. } => "ChildStarted",
    };
    ProgramError { what: format!("input {name} while the agent is {state}"), position: "/".to_owned() }
}
