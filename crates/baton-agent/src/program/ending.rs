//! The ways in which a run ends. Whatever is open is closed by the engine.

use baton_execution::{Command, Ending, Fault, Note, Program, fault_type};
use serde_json::Value;

use super::{
    AgentProgram, Step,
    session::SUMMARY_POSITION,
    state::{CallState, Stage},
    turn::turn_position,
};

impl AgentProgram {
    pub(super) fn fail(&mut self, fault: Fault, step: &mut Step) {
        let fault = self.scoped(fault);
        self.stop_open(Some(&fault), step);
        let partial_output = Program::partial_output(self);
        self.end(Ending::Failed { fault, partial_output }, step);
    }

    /// Says of a limit that it is one of this execution alone, if it is not one of the tree.
    fn scoped(&self, mut fault: Fault) -> Fault {
        if fault.kind == fault_type::LIMIT
            && self.state.account.is_granted()
            && let Some(Value::Object(data)) = &mut fault.data
        {
            data.entry("scope").or_insert_with(|| Value::from("execution"));
        }
        fault
    }

    pub(super) fn cancel(&mut self, reason: &str, step: &mut Step) {
        self.stop_open(None, step);
        let partial_output = Program::partial_output(self);
        self.end(Ending::Cancelled { reason: reason.to_owned(), partial_output }, step);
    }

    pub(super) fn time_out(&mut self, step: &mut Step) {
        self.stop_open(None, step);
        let partial_output = Program::partial_output(self);
        self.end(Ending::TimedOut { partial_output }, step);
    }

    pub(super) fn end(&mut self, ending: Ending, step: &mut Step) {
        step.push(Command::End(ending));
        self.state.stage = Stage::Ended;
    }

    pub(super) fn turn_completed(&mut self, step: &mut Step) {
        let position = turn_position(self.state.turn);
        self.state.timeline.end(&position, "Completed", step.now_ms);
        step.push(Command::Note(Note::TaskCompleted { position }));
        self.state.stage = Stage::New;
    }

    /// Closes the open calls and the present turn in the timeline.
    fn stop_open(&mut self, fault: Option<&Fault>, step: &mut Step) {
        let open: Vec<String> = match &self.state.stage {
            Stage::Tools(calls) => calls
                .iter()
                .filter(|call| !matches!(call.state, CallState::Done { .. }))
                .map(|call| call.id.position.clone())
                .collect(),
            Stage::Model(_) | Stage::Summary(_) => Vec::new(),
            Stage::Servers(all) => {
                all.iter().filter(|asked| !asked.is_done()).map(|asked| asked.id.position.clone()).collect()
            }
            // No turn is open.
            Stage::New | Stage::Limit(_) | Stage::Ended => return,
        };
        let has_turn = !matches!(self.state.stage, Stage::Servers(_));
        for position in open {
            self.state.timeline.end(&position, "Cancelled", step.now_ms);
            step.push(Command::Note(Note::TaskCancelled { position }));
        }
        if !has_turn {
            return;
        }
        let position = match self.state.stage {
            Stage::Summary(_) => SUMMARY_POSITION.to_owned(),
            _ => turn_position(self.state.turn),
        };
        self.state.timeline.end(&position, if fault.is_some() { "Faulted" } else { "Cancelled" }, step.now_ms);
        step.push(Command::Note(match fault {
            Some(fault) => Note::TaskFaulted { position, fault: fault.clone() },
            None => Note::TaskCancelled { position },
        }));
    }
}
