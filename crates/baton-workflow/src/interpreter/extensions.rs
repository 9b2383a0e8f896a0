//! What extensions do around a task.
//!
//! The tasks of an extension run below the task that they extend, in its frame: `before` once its input is ready, `after`
//! once it has its raw output. They look on: what they put out is dropped, unless they leave their list with `exit`, in
//! which case it takes the place of the task's raw output.
//!
//! # Invariants
//! - No extension applies to a task that belongs to one.
//! - A fault of an extension is a fault of the task, and is not given to its kind: a `try` does not catch it for itself.
//! - The task's `timeout` is its own: what extensions do is not counted.

use std::sync::Arc;

use baton_execution::Fault;

use crate::{
    data::Data,
    document::Extension,
    interpreter::{
        run::Run,
        state::{Extended, FrameId, Stage},
    },
    task::{BlockId, Step, Task, Then},
};

impl Run {
    /// Begins a task whose input is ready, behind what its extensions do before it.
    pub(super) fn begin_task(&mut self, number: FrameId, task: &Task) -> Result<Step, Fault> {
        if self.definition.extensions.is_empty() || self.frame(number).in_extension {
            return self.start_task(number, task);
        }
        let by = self.extensions_of(number, task)?;
        if by.is_empty() {
            return self.start_task(number, task);
        }
        self.frame_mut(number).extended = Some(Extended { by, stage: Stage::Task });
        self.go_before(number, 0, task)
    }

    fn extensions_of(&self, number: FrameId, task: &Task) -> Result<Vec<usize>, Fault> {
        let input = self.input(number);
        let mut by = Vec::new();
        for (place, extension) in self.definition.extensions.iter().enumerate() {
            if !extension.covers(task.keyword) {
                continue;
            }
            let applies = match &extension.when {
                Some(when) => when.test(&input, &self.variables(number, None).of_extension())?,
                None => true,
            };
            if applies {
                by.push(place);
            }
        }
        Ok(by)
    }

    /// Begins the next `before`, or the task itself.
    fn go_before(&mut self, number: FrameId, from: usize, task: &Task) -> Result<Step, Fault> {
        if let Some((at, place, block)) = self.next_block(number, from, |extension| extension.before) {
            self.set_stage(number, Stage::Before { at });
            let input = self.input(number);
            self.start_block(number, block, 0, &format!("/extensions/{place}/before"), input);
            return Ok(Step::Wait);
        }
        self.set_stage(number, Stage::Task);
        self.start_task(number, task)
    }

    /// Begins the first `after` of a task that has its raw output; gives the output back if there is none.
    pub(super) fn begin_after(
        &mut self,
        number: FrameId,
        output: Data,
        then: Option<Then>,
    ) -> Option<(Data, Option<Then>)> {
        self.go_after(number, 0, output, then)
    }

    fn go_after(
        &mut self,
        number: FrameId,
        from: usize,
        output: Data,
        then: Option<Then>,
    ) -> Option<(Data, Option<Then>)> {
        let Some((at, place, block)) = self.next_block(number, from, |extension| extension.after) else {
            self.frame_mut(number).extended = None;
            return Some((output, then));
        };
        self.set_stage(number, Stage::After { at, output: output.clone(), then });
        self.start_block(number, block, 0, &format!("/extensions/{place}/after"), output);
        None
    }

    /// Goes on when the list of an extension has ended.
    pub(super) fn extension_ended(&mut self, number: FrameId, put_out: Data, exit: bool) {
        let definition = Arc::clone(&self.definition);
        let Some(frame) = self.execution.frames.get(&number) else { return };
        let Some(task) = definition.task(frame.task) else { return };
        let result = match frame.extended.as_ref().map(|extended| extended.stage.clone()) {
            Some(Stage::Before { .. }) if exit => {
                self.frame_mut(number).extended = None;
                Ok(Step::Done(put_out))
            }
            Some(Stage::Before { at }) => self.go_before(number, at + 1, task),
            Some(Stage::After { at, output, then }) => {
                let output = if exit { put_out } else { output };
                Ok(match self.go_after(number, at + 1, output, then) {
                    Some((output, Some(then))) => Step::DoneThen(output, then),
                    Some((output, None)) => Step::Done(output),
                    None => Step::Wait,
                })
            }
            Some(Stage::Task) | None => return,
        };
        self.settle(number, result);
    }

    /// Whether an extension of the task is at work, and not the task itself.
    pub(super) fn is_in_other_hands(&self, number: FrameId) -> bool {
        let extended = self.execution.frames.get(&number).and_then(|frame| frame.extended.as_ref());
        extended.is_some_and(|extended| !matches!(extended.stage, Stage::Task))
    }

    /// The next extension of a task that has something to do: its place among those that apply, its place in the
    /// definition, and what it does.
    fn next_block(
        &self,
        number: FrameId,
        from: usize,
        block: impl Fn(&Extension) -> Option<BlockId>,
    ) -> Option<(usize, usize, BlockId)> {
        let extended = self.frame(number).extended.as_ref()?;
        let mut rest = extended.by.iter().copied().enumerate().skip(from);
        rest.find_map(|(at, place)| Some((at, place, block(self.definition.extensions.get(place)?)?)))
    }

    fn set_stage(&mut self, number: FrameId, stage: Stage) {
        if let Some(extended) = &mut self.frame_mut(number).extended {
            extended.stage = stage;
        }
    }
}
