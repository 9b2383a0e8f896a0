//! How the flow goes from task to task: one job at a time, until every frame waits.

use std::{collections::BTreeSet, sync::Arc};

use baton_execution::{Command, Ending, Fault, Note, Start, fault_type};
use serde_json::{Map, Value};

use crate::{
    data::Data,
    interpreter::{
        PURE_TASKS_MAX, TASKS_MAX,
        run::Run,
        state::{Frame, FrameId, Open, Started, State},
    },
    task::{BlockId, DataFlow, Event, Purpose, Step, Task, Then},
};

/// Something that is to be done before the next input.
#[derive(Debug)]
pub(crate) enum Job {
    /// Begin a task.
    Enter { parent: Option<FrameId>, block: BlockId, slot: usize, branch: u32, base: String, data: Data },
    /// Tell a task what happened in it.
    Resume { frame: FrameId, event: Event },
    /// Go on with a task of which an extension has ended; `exit` says whether it left its list by that directive.
    Extended { frame: FrameId, output: Data, exit: bool },
    /// A task faults by one of its extensions.
    ExtensionFaulted { frame: FrameId, fault: Fault },
}

/// Where a task stood, when it is gone.
struct Left {
    parent: Option<FrameId>,
    block: BlockId,
    slot: usize,
    branch: u32,
    base: String,
}

impl Run {
    /// The first input.
    pub(super) fn begin(&mut self, start: &Start) {
        let env: Map<String, Value> =
            start.env.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
        let raw = Data::new(start.input.clone());
        self.execution.context = Data::new(Value::Object(Map::new()));
        self.execution.start = Some(Started {
            uid: start.uid,
            time_ms: self.now_ms,
            env: Data::new(Value::Object(env)),
            raw: raw.clone(),
            transformed: None,
        });
        let definition = Arc::clone(&self.definition);
        let timeout_ms = definition
            .timeout
            .as_ref()
            .map(|timeout| timeout.evaluate(&raw, &self.workflow_variables(None)))
            .transpose();
        let input = timeout_ms.and_then(|timeout_ms| {
            if let Some(millis) = timeout_ms {
                self.start_workflow_timeout(millis);
            }
            if let Some(schema) = &definition.input.schema {
                schema.check(&raw, "the input of the workflow")?;
            }
            let Some(from) = &definition.input.transform else { return Ok(raw.clone()) };
            let input = Data::measured(from.evaluate(&raw, &self.workflow_variables(None))?)?;
            if let Some(start) = &mut self.execution.start {
                start.transformed = Some(input.clone());
            }
            Ok(input)
        });
        match input {
            Ok(data) => self.agenda.push(Job::Enter {
                parent: None,
                block: definition.root,
                slot: 0,
                branch: 0,
                base: "/do".to_owned(),
                data,
            }),
            Err(fault) => self.end(Ending::Failed { fault: fault.at("/input"), partial_output: None }),
        }
    }

    /// Works off the jobs.
    pub(super) fn drive(&mut self) {
        while let Some(job) = self.agenda.pop() {
            if self.execution.ended {
                self.agenda.clear();
                return;
            }
            match job {
                Job::Enter { parent, block, slot, branch, base, data } => {
                    self.enter(Left { parent, block, slot, branch, base }, data);
                }
                Job::Resume { frame, event } => self.resume(frame, event),
                Job::Extended { frame, output, exit } => self.extension_ended(frame, output, exit),
                Job::ExtensionFaulted { frame, fault } => {
                    if self.execution.frames.contains_key(&frame) {
                        self.settle(frame, Err(fault));
                    }
                }
            }
        }
    }

    fn enter(&mut self, place: Left, data: Data) {
        if place.parent.is_some_and(|parent| !self.execution.frames.contains_key(&parent)) {
            return;
        }
        let definition = Arc::clone(&self.definition);
        let Some(task) = definition.block(place.block).and_then(|block| block.tasks.get(place.slot)).copied() else {
            return;
        };
        let Some((task_id, task)) = definition.task(task).map(|found| (task, found)) else { return };
        if let Some(fault) = self.count() {
            self.end(Ending::Failed {
                fault: fault.at(&format!("{}/{}", place.base, task.segment)),
                partial_output: None,
            });
            return;
        }
        let number = self.push_frame(place, task_id, task, data);
        if let Some(condition) = &task.condition {
            match self.test(number, condition, &self.input(number)) {
                Ok(true) => {}
                Ok(false) => return self.skip(number, task),
                Err(fault) => {
                    self.note_started(number, task);
                    return self.settle(number, Err(fault));
                }
            }
        }
        self.note_started(number, task);
        let result = self.prepare(number, task).and_then(|()| self.begin_task(number, task));
        self.settle(number, result);
    }

    /// Counts a task, and says if it is one too many.
    fn count(&mut self) -> Option<Fault> {
        self.pure_tasks += 1;
        let limit = |detail: String| Some(Fault::new(fault_type::LIMIT, 400, detail).non_retryable());
        if self.pure_tasks > PURE_TASKS_MAX {
            return limit(format!("more than {PURE_TASKS_MAX} tasks ran without waiting for anything"));
        }
        if self.execution.tasks_started >= TASKS_MAX {
            return limit(format!("the execution ran {TASKS_MAX} tasks, which is the limit"));
        }
        None
    }

    fn push_frame(&mut self, place: Left, task_id: usize, task: &Task, data: Data) -> FrameId {
        let Left { parent, block, slot, branch, base } = place;
        let in_extension =
            parent.is_some_and(|parent| self.frame(parent).in_extension || self.is_in_other_hands(parent));
        let counters = match parent {
            Some(parent) => &mut self.frame_mut(parent).attempts,
            None => &mut self.execution.attempts,
        };
        let (attempt, attempts) = counters.enter(block, slot);
        let position = format!("{base}/{}", task.segment);
        let number = self.execution.next_frame;
        self.execution.next_frame += 1;
        let frame = Frame {
            parent,
            task: task_id,
            block,
            slot,
            branch,
            position,
            base: base.len(),
            attempt,
            started_ms: self.now_ms,
            input: data,
            raw: None,
            variables: Vec::new(),
            state: State::Plain,
            open: None,
            timers: Vec::new(),
            attempts,
            extended: None,
            in_extension,
        };
        self.execution.frames.insert(number, frame);
        number
    }

    /// The task's input.
    fn prepare(&mut self, number: FrameId, task: &Task) -> Result<(), Fault> {
        if let Some(schema) = &task.input.schema {
            schema.check(&self.frame(number).input, "the input")?;
        }
        if let Some(from) = &task.input.transform {
            let raw = self.input(number);
            let input = Data::measured(self.fill(number, from, &raw)?)?;
            let frame = self.frame_mut(number);
            frame.raw = Some(std::mem::replace(&mut frame.input, input));
        }
        Ok(())
    }

    /// Begins what the task itself does, and the timer of its timeout.
    pub(super) fn start_task(&mut self, number: FrameId, task: &Task) -> Result<Step, Fault> {
        if !task.kind.keeps_time()
            && let Some(millis) = self.timeout_ms(number)?
        {
            let due_ms = self.after(millis);
            self.start_timer(number, Purpose::Timeout, due_ms);
        }
        task.kind.start(self, number)
    }

    pub(super) fn resume(&mut self, number: FrameId, event: Event) {
        let definition = Arc::clone(&self.definition);
        let Some(task) = self.execution.frames.get(&number).and_then(|frame| definition.task(frame.task)) else {
            return;
        };
        let result = task.kind.resume(self, number, event);
        self.settle(number, result);
    }

    /// Does what a step of a task means.
    pub(super) fn settle(&mut self, number: FrameId, result: Result<Step, Fault>) {
        let done = result.and_then(|step| match step {
            Step::Wait => Ok(None),
            Step::Done(output) => self.done(number, output, None),
            Step::DoneThen(output, then) => self.done(number, output, Some(then)),
        });
        match done {
            Ok(None) => {}
            Ok(Some((output, then))) => {
                self.close(number);
                self.note_completed(number);
                let left = self.leave(number);
                self.follow(left, then, output);
            }
            Err(fault) => self.fail(number, fault),
        }
    }

    /// The task itself has ended with this raw output; `None` if what its extensions do after it comes first.
    fn done(&mut self, number: FrameId, raw: Data, then: Option<Then>) -> Result<Option<(Data, Then)>, Fault> {
        if self.frame(number).extended.is_some() {
            let raw = raw.measure()?;
            self.close(number);
            let Some((raw, then)) = self.begin_after(number, raw, then) else { return Ok(None) };
            return self.complete(number, raw, then).map(Some);
        }
        self.complete(number, raw, then).map(Some)
    }

    /// From a raw output to the output of the task, and to the context.
    fn complete(&mut self, number: FrameId, raw: Data, then: Option<Then>) -> Result<(Data, Then), Fault> {
        let definition = Arc::clone(&self.definition);
        let task = definition.task(self.frame(number).task).expect("a frame is of a task of its definition");
        // What went through unchanged was measured when it came to be.
        let raw = if raw.is_same(&self.frame(number).input) { raw } else { raw.measure()? };
        let output = self.shape(number, raw, &task.output, &task.export)?;
        Ok((output, then.unwrap_or(task.then)))
    }

    /// From what came of a part of a task to what it puts out, and to the context.
    pub(crate) fn put_out(
        &mut self,
        number: FrameId,
        raw: Data,
        output: &DataFlow,
        export: &DataFlow,
    ) -> Result<Data, Fault> {
        let raw = raw.measure()?;
        self.shape(number, raw, output, export)
    }

    /// Applies `output` and `export` to data that was measured.
    fn shape(&mut self, number: FrameId, raw: Data, output: &DataFlow, export: &DataFlow) -> Result<Data, Fault> {
        let shaped = match &output.transform {
            Some(transform) => Data::measured(transform.evaluate(&raw, &self.variables(number, Some(&raw)))?)?,
            None => raw.clone(),
        };
        if let Some(schema) = &output.schema {
            schema.check(&shaped, "the output")?;
        }
        if let Some(context) = self.export(number, export, &raw, &shaped)? {
            self.execution.context = context;
        }
        Ok(shaped)
    }

    fn export(&self, number: FrameId, export: &DataFlow, raw: &Data, output: &Data) -> Result<Option<Data>, Fault> {
        let context = match &export.transform {
            Some(transform) => {
                let variables = self.variables(number, Some(output)).with_raw_output(raw);
                Some(Data::measured(transform.evaluate(output, &variables)?)?)
            }
            None => None,
        };
        if let Some(schema) = &export.schema {
            schema.check(context.as_ref().unwrap_or(&self.execution.context), "the context")?;
        }
        Ok(context)
    }

    fn skip(&mut self, number: FrameId, task: &Task) {
        self.note_skipped(number, task);
        let output = self.input(number);
        let left = self.leave(number);
        self.follow(left, Then::Continue, output);
    }

    fn fail(&mut self, number: FrameId, fault: Fault) {
        let fault = fault.at(&self.position(number));
        self.cancel_children(number);
        self.close(number);
        self.note_faulted(number, &fault);
        let left = self.leave(number);
        match left.parent {
            Some(frame) if self.is_in_other_hands(frame) => {
                self.agenda.push(Job::ExtensionFaulted { frame, fault });
            }
            Some(frame) => self.agenda.push(Job::Resume { frame, event: Event::BlockFaulted { fault } }),
            None => self.end(Ending::Failed { fault, partial_output: None }),
        }
    }

    fn leave(&mut self, number: FrameId) -> Left {
        let frame = self.execution.frames.remove(&number).expect("a frame is left once");
        let counters = match frame.parent.and_then(|parent| self.execution.frames.get_mut(&parent)) {
            Some(parent) => &mut parent.attempts,
            None => &mut self.execution.attempts,
        };
        counters.leave(frame.block, frame.slot, &frame.attempts);
        Left {
            parent: frame.parent,
            block: frame.block,
            slot: frame.slot,
            branch: frame.branch,
            base: frame.base_position().to_owned(),
        }
    }

    fn follow(&mut self, left: Left, then: Then, data: Data) {
        let Left { parent, block, slot, branch, base } = left;
        let (length, parallel) =
            self.definition.block(block).map_or((0, false), |block| (block.tasks.len(), block.parallel));
        let next = match then {
            Then::End => return self.finish(&data),
            Then::Exit => None,
            Then::Goto(slot) => Some(slot),
            Then::Continue => (!parallel && slot + 1 < length).then_some(slot + 1),
        };
        match (next, parent) {
            (Some(slot), _) => self.agenda.push(Job::Enter { parent, block, slot, branch, base, data }),
            (None, Some(frame)) if self.is_in_other_hands(frame) => {
                self.agenda.push(Job::Extended { frame, output: data, exit: then == Then::Exit });
            }
            (None, Some(frame)) => {
                self.agenda.push(Job::Resume { frame, event: Event::BlockEnded { branch, output: data } });
            }
            (None, None) => self.finish(&data),
        }
    }

    /// The workflow has come to its end with this data.
    fn finish(&mut self, data: &Data) {
        let definition = Arc::clone(&self.definition);
        let output = match &definition.output.transform {
            Some(transform) => transform.evaluate(data, &self.workflow_variables(Some(data))).and_then(Data::measured),
            None => Ok(data.clone()),
        };
        let checked = output.and_then(|output| match &definition.output.schema {
            Some(schema) => schema.check(&output, "the output of the workflow").map(|()| output),
            None => Ok(output),
        });
        self.end(match checked {
            Ok(output) => Ending::Completed { output: output.into_value() },
            Err(fault) => Ending::Failed { fault: fault.at("/output"), partial_output: None },
        });
    }

    pub(super) fn cancelled(&mut self, reason: &str) {
        self.end(Ending::Cancelled { reason: reason.to_owned(), partial_output: None });
    }

    pub(super) fn timed_out(&mut self) {
        self.end(Ending::TimedOut { partial_output: None });
    }

    /// The end of the execution. What is open, the engine closes.
    fn end(&mut self, ending: Ending) {
        let open: Vec<FrameId> = self.execution.frames.keys().rev().copied().collect();
        for number in open {
            self.note_cancelled(number);
        }
        self.emit(Command::End(ending));
        self.agenda.clear();
        self.execution.frames.clear();
        self.execution.context = Data::default();
        self.execution.start = None;
        self.execution.ended = true;
    }

    /// Stops everything below a task, the innermost first.
    pub(crate) fn cancel_children(&mut self, number: FrameId) {
        let mut below: BTreeSet<FrameId> = BTreeSet::new();
        // A child has a higher number than its parent: one pass in order finds all descendants.
        for (&candidate, frame) in self.execution.frames.range(number + 1..) {
            if frame.parent.is_some_and(|parent| parent == number || below.contains(&parent)) {
                below.insert(candidate);
            }
        }
        for candidate in below.into_iter().rev() {
            self.close(candidate);
            self.note_cancelled(candidate);
            self.leave(candidate);
        }
    }

    /// Closes what the task itself has open.
    fn close(&mut self, number: FrameId) {
        self.close_operation(number);
        let timers = std::mem::take(&mut self.frame_mut(number).timers);
        let frame = self.frame(number);
        let mut commands: Vec<Command> =
            timers.iter().map(|timer| Command::CancelTimer { id: frame.timer_id(timer) }).collect();
        self.commands.append(&mut commands);
    }

    /// Closes the activity and the wait that the task has open.
    pub(crate) fn close_operation(&mut self, number: FrameId) {
        let frame = self.frame_mut(number);
        let Some(Open { opening, .. }) = frame.open.take() else { return };
        let id = frame.operation();
        if opening.activity {
            self.emit(Command::CancelActivity { id: id.clone() });
        }
        if opening.wait {
            self.emit(Command::CloseWait { id });
        }
    }

    fn note_started(&mut self, number: FrameId, task: &Task) {
        let frame = self.frame(number);
        let note = Note::TaskStarted {
            position: frame.position.clone(),
            name: task.name.clone(),
            kind: task.kind.label().to_owned(),
            attempt: frame.attempt,
        };
        self.emit(Command::Note(note));
        self.execution.tasks_started += 1;
        self.report_started(number, task);
    }

    fn note_completed(&mut self, number: FrameId) {
        let position = self.position(number);
        self.report_ended(number, "Completed");
        self.emit(Command::Note(Note::TaskCompleted { position }));
    }

    fn note_faulted(&mut self, number: FrameId, fault: &Fault) {
        let position = self.position(number);
        self.report_ended(number, "Faulted");
        self.emit(Command::Note(Note::TaskFaulted { position, fault: fault.clone() }));
    }

    fn note_cancelled(&mut self, number: FrameId) {
        let position = self.position(number);
        self.report_ended(number, "Cancelled");
        self.emit(Command::Note(Note::TaskCancelled { position }));
    }

    fn note_skipped(&mut self, number: FrameId, task: &Task) {
        let position = self.position(number);
        self.report_skipped(number, task);
        self.emit(Command::Note(Note::TaskSkipped { position, name: task.name.clone() }));
    }
}
