//! `fork`: branches side by side, either all of them or the first to complete.

use baton_execution::Fault;
use serde_json::Value;

use crate::{
    data::Data,
    document::{Builder, Fields},
    interpreter::{FrameId, Run, State},
    task::{BlockId, Event, Kind, Place, Step},
};

#[derive(Debug)]
struct Fork {
    branches: BlockId,
    compete: bool,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, place: &Place) -> Option<Box<dyn Kind>> {
    let mut head = fields.need_object("fork", builder)?;
    let compete = head.boolean("compete", builder).unwrap_or(false);
    let branches = head
        .need("branches", builder)
        .map(|tasks| builder.block(tasks, &head.at("branches"), &format!("{}/fork/branches", place.pointer), true));
    head.close(builder);
    Some(Box::new(Fork { branches: branches?, compete }))
}

impl Kind for Fork {
    fn label(&self) -> &'static str {
        "fork"
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let input = run.input(frame);
        let count = run.start_branches(frame, self.branches, "/fork/branches", &input);
        run.set_state(frame, State::Fork { outputs: vec![None; count], left: count });
        Ok(Step::Wait)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        let State::Fork { outputs, left } = run.state_mut(frame) else { return Ok(Step::Wait) };
        match event {
            Event::BlockEnded { output, .. } if self.compete => {
                run.cancel_children(frame);
                Ok(Step::Done(output))
            }
            Event::BlockEnded { branch, output } => {
                if let Some(slot) = outputs.get_mut(branch as usize) {
                    *slot = Some(output);
                }
                *left = left.saturating_sub(1);
                if *left > 0 {
                    return Ok(Step::Wait);
                }
                let outputs: Vec<Value> =
                    std::mem::take(outputs).into_iter().map(|output| output.unwrap_or_default().into_value()).collect();
                Ok(Step::Done(Data::new(Value::Array(outputs))))
            }
            // A branch that faults leaves the race; the race is lost with the last of them.
            Event::BlockFaulted { fault, .. } if self.compete => {
                *left = left.saturating_sub(1);
                if *left > 0 { Ok(Step::Wait) } else { Err(fault) }
            }
            other => other.into_fault(),
        }
    }
}
