//! A Program that takes nothing for a secret's placeholder that came from outside.
//!
//! A placeholder is a demand for the value. If a caller's input or a service's answer could bring one, the next activity
//! would send the secret to whoever that activity calls.

use baton_execution::{Command, Decision, OperationId, Program, ProgramError, Progress, Recorded, disarm_input};
use baton_types::Phase;
use serde_json::{Map, Value};

/// A Program behind the fence that every input passes.
pub(crate) struct Fenced<P>(pub(crate) P);

impl<P: Program> Program for Fenced<P> {
    fn on_input(&mut self, input: &Recorded) -> Result<Vec<Command>, ProgramError> {
        match disarm_input(&input.input) {
            None => self.0.on_input(input),
            Some(disarmed) => self.0.on_input(&Recorded { time_ms: input.time_ms, input: disarmed }),
        }
    }

    fn activity_input(&self, id: &OperationId) -> Option<Value> {
        self.0.activity_input(id)
    }

    fn labels(&self, id: &OperationId) -> Map<String, Value> {
        self.0.labels(id)
    }

    fn check_decision(&self, id: &OperationId, decision: &Decision) -> Result<(), Vec<String>> {
        self.0.check_decision(id, decision)
    }

    fn partial_output(&self) -> Option<Value> {
        self.0.partial_output()
    }

    fn carry_over(&self, phase: Phase, ended_ms: i64) -> Option<Value> {
        self.0.carry_over(phase, ended_ms)
    }

    fn progress(&self) -> Progress {
        self.0.progress()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.snapshot()
    }
}
