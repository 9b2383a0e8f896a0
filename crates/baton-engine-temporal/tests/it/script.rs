//! A Program that does what a list says, one entry after the other.

use std::collections::BTreeMap;

use baton_execution::{
    Command, Effect, Ending, Fault, Input, OperationId, Outcome, Program, ProgramError, ProgramKind, Programs,
    Progress, Recorded, ScheduleActivity, fault_type,
};
use baton_types::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// When tokens expire: never, as far as tests go.
const EXPIRES_MS: i64 = 4_000_000_000_000;

/// One entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Do {
    /// An activity; its result, or the type of its fault.
    Activity { name: String, input: Value, once: bool },
    /// A timer.
    Sleep { ms: i64 },
    /// A wait for a callback.
    Wait,
    /// All at once; the first that ends stops the others.
    Race(Vec<Do>),
    /// All at once; all are waited for.
    All(Vec<Do>),
    /// The end, with a fault of this detail.
    Fail(String),
}

pub(crate) fn activity(name: &str, input: Value) -> Do {
    Do::Activity { name: name.to_owned(), input, once: false }
}

pub(crate) fn once(name: &str, input: Value) -> Do {
    Do::Activity { name: name.to_owned(), input, once: true }
}

/// The definition of a list.
pub(crate) fn definition(list: &[Do]) -> Vec<u8> {
    serde_json::to_vec(list).expect("a list is JSON")
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    /// The entry that runs, from 0.
    at: usize,
    /// What it waits for, and what has come of that.
    parts: BTreeMap<String, Option<Value>>,
    results: Vec<Value>,
    ended: bool,
}

struct Script {
    list: Vec<Do>,
    state: State,
}

/// Makes the Programs of lists.
pub(crate) struct Scripts;

impl Programs for Scripts {
    fn load(&self, _: ProgramKind, _: &Digest, definition: &[u8]) -> Result<Box<dyn Program>, Fault> {
        self.restore(ProgramKind::Workflow, &Digest::of(definition), definition, b"{}")
    }

    fn restore(
        &self,
        _: ProgramKind,
        _: &Digest,
        definition: &[u8],
        snapshot: &[u8],
    ) -> Result<Box<dyn Program>, Fault> {
        let wrong = |error: serde_json::Error| Fault::new(fault_type::CONFIGURATION, 400, error.to_string());
        let state =
            if snapshot == b"{}" { State::default() } else { serde_json::from_slice(snapshot).map_err(wrong)? };
        Ok(Box::new(Script { list: serde_json::from_slice(definition).map_err(wrong)?, state }))
    }
}

impl Script {
    /// The entries of the step that runs.
    fn parts(&self) -> Vec<(String, Do)> {
        match self.list.get(self.state.at) {
            None => Vec::new(),
            Some(Do::Race(parts) | Do::All(parts)) => {
                parts.iter().enumerate().map(|(k, part)| (format!("/{}/{k}", self.state.at), part.clone())).collect()
            }
            Some(one) => vec![(format!("/{}", self.state.at), one.clone())],
        }
    }

    fn begin(&mut self, now_ms: i64) -> Vec<Command> {
        match self.list.get(self.state.at) {
            None => {
                self.state.ended = true;
                return vec![Command::End(Ending::Completed { output: Value::Array(self.state.results.clone()) })];
            }
            Some(Do::Fail(detail)) => {
                self.state.ended = true;
                let fault = Fault::new(fault_type::RUNTIME, 500, detail.clone());
                return vec![Command::End(Ending::Failed { fault, partial_output: None })];
            }
            Some(_) => {}
        }
        let parts = self.parts();
        self.state.parts = parts.iter().map(|(position, _)| (position.clone(), None)).collect();
        parts
            .into_iter()
            .map(|(position, part)| {
                let id = OperationId::new(position, 1);
                match part {
                    Do::Activity { name, input, once } => Command::ScheduleActivity(ScheduleActivity {
                        id,
                        activity: name,
                        input,
                        start_to_close_ms: 60_000,
                        effect: if once { Effect::Once } else { Effect::Repeatable },
                        approval: None,
                    }),
                    Do::Sleep { ms } => Command::StartTimer { id, due_ms: now_ms + ms },
                    Do::Wait => Command::AwaitCallback { id, heartbeat_timeout_ms: None, expires_ms: EXPIRES_MS },
                    Do::Race(_) | Do::All(_) | Do::Fail(_) => panic!("a list within a list holds simple entries"),
                }
            })
            .collect()
    }

    fn came(&mut self, id: &OperationId, result: Value, now_ms: i64) -> Vec<Command> {
        let Some(part @ None) = self.state.parts.get_mut(&id.position) else { return Vec::new() };
        *part = Some(result);
        let race = matches!(self.list.get(self.state.at), Some(Do::Race(_)));
        if !race && self.state.parts.values().any(Option::is_none) {
            return Vec::new();
        }
        let mut commands = Vec::new();
        let parts = std::mem::take(&mut self.state.parts);
        for (position, part) in self.parts() {
            if parts.get(&position).is_some_and(Option::is_none) {
                let id = OperationId::new(position, 1);
                commands.push(match part {
                    Do::Activity { .. } => Command::CancelActivity { id },
                    Do::Sleep { .. } => Command::CancelTimer { id },
                    Do::Wait => Command::CloseWait { id },
                    Do::Race(_) | Do::All(_) | Do::Fail(_) => panic!("a list within a list holds simple entries"),
                });
            }
        }
        self.state.results.extend(parts.into_values().flatten());
        self.state.at += 1;
        commands.extend(self.begin(now_ms));
        commands
    }
}

impl Program for Script {
    fn on_input(&mut self, input: &Recorded) -> Result<Vec<Command>, ProgramError> {
        if self.state.ended {
            return Ok(Vec::new());
        }
        let now_ms = input.time_ms;
        Ok(match &input.input {
            Input::Started(_) => self.begin(now_ms),
            Input::ActivityCompleted { id, output } => self.came(id, output.clone(), now_ms),
            Input::ActivityFailed { id, fault } => self.came(id, json!(fault.kind), now_ms),
            Input::TimerFired { id } => self.came(id, json!("due"), now_ms),
            Input::CallbackAnswered { id, outcome, .. } => {
                let result = match outcome {
                    Outcome::Completed(output) => output.clone(),
                    Outcome::Failed(fault) => json!(fault.kind),
                    Outcome::Cancelled { reason } => json!(reason),
                };
                self.came(id, result, now_ms)
            }
            Input::CancelRequested { .. }
            | Input::TimeoutReached
            | Input::Suspended
            | Input::Resumed
            | Input::ChildStarted { .. } => Vec::new(),
        })
    }

    fn activity_input(&self, _: &OperationId) -> Option<Value> {
        None
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(&self.state).expect("a state is JSON")
    }
}
