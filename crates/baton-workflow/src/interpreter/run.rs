//! One execution while it takes an input, and what kinds of tasks may do with it.

use std::sync::Arc;

use baton_execution::{
    Account, Allowance, Amounts, Command, Fault, Input, OperationId, Outcome, Recorded, Usage, fault_type,
};
use serde_json::Value;

use crate::{
    data::Data,
    document::Definition,
    expression::Expression,
    interpreter::{
        SNAPSHOT_VERSION,
        flow::Job,
        state::{Execution, Frame, FrameId, Open, Opening, Snapshot, State, Timer},
    },
    task::{BlockId, Delay, Event, Purpose},
    template::Template,
};

/// Position of the timer of the workflow's own `timeout`.
const WORKFLOW_TIMEOUT: &str = "/timeout";

/// Places of timers among the attempts of a frame: no block has this number.
const TIMERS: usize = usize::MAX;

#[derive(Debug)]
pub(crate) struct Run {
    pub(super) definition: Arc<Definition>,
    pub(super) execution: Execution,
    pub(super) commands: Vec<Command>,
    pub(super) agenda: Vec<Job>,
    pub(super) now_ms: i64,
    /// Tasks that began since the last input.
    pub(super) pure_tasks: u32,
}

impl Run {
    pub(crate) fn new(definition: Arc<Definition>, execution: Execution) -> Self {
        Self { definition, execution, commands: Vec::new(), agenda: Vec::new(), now_ms: 0, pure_tasks: 0 }
    }

    pub(super) fn is_started(&self) -> bool {
        self.execution.start.is_some()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.execution.ended
    }

    pub(super) fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(&Snapshot { version: SNAPSHOT_VERSION, state: &self.execution })
            .expect("a state of strings, numbers and lists is always JSON")
    }

    /// Takes one input and does everything that follows from it.
    pub(super) fn on_input(&mut self, recorded: &Recorded) -> Vec<Command> {
        self.now_ms = recorded.time_ms;
        self.pure_tasks = 0;
        match &recorded.input {
            Input::Started(start) => {
                // A workflow has no limits of its own: it gives to those below it what it was given.
                self.execution.account = Account::new(start.grant.clone(), Allowance::default(), None);
                self.begin(start);
            }
            Input::ActivityCompleted { id, output } => self.activity_completed(id, output),
            Input::ActivityFailed { id, fault } => self.activity_failed(id, fault),
            Input::TimerFired { id } => self.timer_fired(id),
            Input::CallbackAnswered { id, outcome, used } => {
                self.execution.account.answered(id, used.as_ref());
                self.answered(id, outcome);
            }
            Input::CancelRequested { reason } => self.cancelled(reason),
            Input::TimeoutReached => self.timed_out(),
            // Kept for readers of the history; they change nothing here.
            Input::Suspended | Input::Resumed | Input::ChildStarted { .. } => {}
        }
        self.drive();
        let mut commands = std::mem::take(&mut self.commands);
        self.execution.account.end_step(Usage::default(), &mut commands, Amounts::default(), 0);
        commands
    }

    fn activity_completed(&mut self, id: &OperationId, output: &Value) {
        let Some(frame) = self.find(id, |open| std::mem::take(&mut open.activity)) else { return };
        match Data::measured(output.clone()) {
            Ok(output) => self.resume(frame, Event::ActivityCompleted(output)),
            Err(fault) => self.settle(frame, Err(fault)),
        }
    }

    fn activity_failed(&mut self, id: &OperationId, fault: &Fault) {
        if let Some(frame) = self.find(id, |open| std::mem::take(&mut open.activity)) {
            self.settle(frame, Err(fault.clone()));
        }
    }

    fn answered(&mut self, id: &OperationId, outcome: &Outcome) {
        if let Some(frame) = self.find(id, |open| std::mem::take(&mut open.wait)) {
            self.resume(frame, Event::Answered(outcome.clone()));
        }
    }

    fn timer_fired(&mut self, id: &OperationId) {
        if id.position == WORKFLOW_TIMEOUT && self.execution.timeout_due_ms.is_some() {
            self.execution.timeout_due_ms = None;
            self.timed_out();
            return;
        }
        let found = self.execution.frames.iter().find_map(|(&number, frame)| {
            let index = frame.timers.iter().position(|timer| {
                timer.attempt == id.attempt
                    && id.position.strip_prefix(frame.position.as_str()) == Some(timer.purpose.suffix())
            })?;
            Some((number, index))
        });
        let Some((number, index)) = found else { return };
        let timer = self.frame_mut(number).timers.remove(index);
        match timer.purpose {
            Purpose::Timeout => {
                self.cancel_children(number);
                self.settle(number, Err(Fault::new(fault_type::TIMEOUT, 408, "the task took longer than its timeout")));
            }
            Purpose::Own | Purpose::Retry | Purpose::Attempt => self.resume(number, Event::TimerFired(timer.purpose)),
        }
    }

    /// The frame of an operation, if `take` finds open what the input is for.
    fn find(&mut self, id: &OperationId, mut take: impl FnMut(&mut Opening) -> bool) -> Option<FrameId> {
        let (&number, frame) = self
            .execution
            .frames
            .iter_mut()
            .find(|(_, frame)| frame.attempt == id.attempt && frame.position == id.position)?;
        frame.open.as_mut().is_some_and(|open| take(&mut open.opening)).then_some(number)
    }

    pub(super) fn frame(&self, number: FrameId) -> &Frame {
        self.execution.frames.get(&number).expect("a kind is only called with a frame that lives")
    }

    pub(super) fn frame_mut(&mut self, number: FrameId) -> &mut Frame {
        self.execution.frames.get_mut(&number).expect("a kind is only called with a frame that lives")
    }

    /// The time of the input.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// The time so many milliseconds from now.
    pub(crate) fn after(&self, millis: u64) -> i64 {
        self.now_ms.saturating_add_unsigned(millis)
    }

    pub(crate) fn emit(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// The task's input, after `input.from`.
    pub(crate) fn input(&self, number: FrameId) -> Data {
        self.frame(number).input.clone()
    }

    pub(crate) fn position(&self, number: FrameId) -> String {
        self.frame(number).position.clone()
    }

    pub(crate) fn state(&self, number: FrameId) -> &State {
        &self.frame(number).state
    }

    pub(crate) fn state_mut(&mut self, number: FrameId) -> &mut State {
        &mut self.frame_mut(number).state
    }

    pub(crate) fn set_state(&mut self, number: FrameId, state: State) {
        self.frame_mut(number).state = state;
    }

    /// Gives a variable to the tasks in this one.
    pub(crate) fn set_variable(&mut self, number: FrameId, name: &str, value: Data) {
        let variables = &mut self.frame_mut(number).variables;
        match variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => variables.push((name.to_owned(), value)),
        }
    }

    pub(crate) fn clear_variables(&mut self, number: FrameId) {
        self.frame_mut(number).variables.clear();
    }

    /// Fills in a template for a task.
    pub(crate) fn fill(&self, number: FrameId, template: &Template, dot: &Value) -> Result<Value, Fault> {
        template.evaluate(dot, &self.variables(number, None))
    }

    /// Evaluates a condition for a task.
    pub(crate) fn test(&self, number: FrameId, condition: &Expression, dot: &Value) -> Result<bool, Fault> {
        condition.test(dot, &self.variables(number, None))
    }

    /// Milliseconds of a duration for a task.
    pub(crate) fn delay(&self, number: FrameId, delay: &Delay, dot: &Value) -> Result<u64, Fault> {
        delay.evaluate(dot, &self.variables(number, None))
    }

    /// Milliseconds of the task's `timeout`, if it has one.
    pub(crate) fn timeout_ms(&self, number: FrameId) -> Result<Option<u64>, Fault> {
        let frame = self.frame(number);
        let timeout = self.definition.task(frame.task).and_then(|task| task.timeout.as_ref());
        timeout.map(|timeout| timeout.evaluate(&frame.input, &self.variables(number, None))).transpose()
    }

    /// Begins a block in a task; `branch` says which time, and `base` is put behind the task's position.
    pub(crate) fn start_block(&mut self, number: FrameId, block: BlockId, branch: u32, base: &str, data: Data) {
        let frame = self.frame_mut(number);
        if branch > 0 {
            frame.attempts.next_iteration();
        }
        let base = format!("{}{base}", frame.position);
        self.agenda.push(Job::Enter { parent: Some(number), block, slot: 0, branch, base, data });
    }

    /// Begins every task of a block side by side, and says how many there are.
    pub(crate) fn start_branches(&mut self, number: FrameId, block: BlockId, base: &str, data: &Data) -> usize {
        let count = self.definition.block(block).map_or(0, |block| block.tasks.len());
        let base = format!("{}{base}", self.frame(number).position);
        // The agenda is worked off from its end: the first branch goes first.
        for slot in (0..count).rev() {
            let branch = u32::try_from(slot).unwrap_or(u32::MAX);
            self.agenda.push(Job::Enter {
                parent: Some(number),
                block,
                slot,
                branch,
                base: base.clone(),
                data: data.clone(),
            });
        }
        count
    }

    /// Says what the task waits for from now on.
    pub(crate) fn open(&mut self, number: FrameId, opening: Opening) {
        let since_ms = self.now_ms;
        self.frame_mut(number).open = Some(Open { opening, since_ms });
    }

    /// The task waits for nothing of its own any more.
    pub(crate) fn shut(&mut self, number: FrameId) {
        self.frame_mut(number).open = None;
    }

    /// Arms a timer for a task.
    pub(crate) fn start_timer(&mut self, number: FrameId, purpose: Purpose, due_ms: i64) {
        let frame = self.frame_mut(number);
        let attempt = match purpose {
            Purpose::Own | Purpose::Timeout => frame.attempt,
            Purpose::Retry | Purpose::Attempt => frame.attempts.enter(TIMERS, purpose as usize).0,
        };
        let timer = Timer { purpose, attempt };
        let id = frame.timer_id(&timer);
        frame.timers.push(timer);
        self.emit(Command::StartTimer { id, due_ms });
    }

    /// Disarms the timer of a purpose, if it is armed.
    pub(crate) fn cancel_timer(&mut self, number: FrameId, purpose: Purpose) {
        let frame = self.frame_mut(number);
        let Some(index) = frame.timers.iter().position(|timer| timer.purpose == purpose) else { return };
        let timer = frame.timers.remove(index);
        let id = frame.timer_id(&timer);
        self.emit(Command::CancelTimer { id });
    }

    /// A number that looks random and is the same on every replay: from the execution, the position and the attempt.
    pub(crate) fn scatter(&self, number: FrameId, round: u32) -> u64 {
        let frame = self.frame(number);
        let uid = self.execution.start.as_ref().map(|start| start.uid).unwrap_or_default();
        let bytes = uid
            .as_bytes()
            .iter()
            .copied()
            .chain(frame.position.bytes())
            .chain(frame.attempt.to_le_bytes())
            .chain(round.to_le_bytes());
        // FNV-1a, then a finish that spreads every bit.
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }

    /// Arms the timer of the workflow's own `timeout`.
    pub(super) fn start_workflow_timeout(&mut self, millis: u64) {
        let due_ms = self.after(millis);
        self.execution.timeout_due_ms = Some(due_ms);
        self.emit(Command::StartTimer { id: OperationId::new(WORKFLOW_TIMEOUT, 1), due_ms });
    }
}
