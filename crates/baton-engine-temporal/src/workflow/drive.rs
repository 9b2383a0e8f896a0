//! A workflow's loop: take what has come, decide, report, carry out.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::{Context, Poll},
    time::UNIX_EPOCH,
};

use baton_engine::{Execution, Pinned, Step};
use baton_execution::{Ending, HistoryEventKind, Input, fault_type};
use baton_proto::{DataLoader, decode_event};
use baton_types::{Digest, INLINE_BYTES_MAX, Phase};
use serde_json::Value;
use temporalio_common::search_attributes::SearchAttributeKey;
use temporalio_sdk::{ApplicationFailure, ContinueAsNewOptions, WorkflowContext, WorkflowTermination};

use super::{
    Arrived, ExecutionWorkflow, Suspend,
    flight::{Begin, Flight},
    wire::{ReportAnswer, ReportResult, WorkflowInput},
};
use crate::{contents::Contents, host::PHASE_ATTRIBUTE, rpc::clipped};

/// What is reported as the reason of a cancellation that names none.
const CANCELLED_AT_TEMPORAL: &str = "cancelled in Temporal";
/// From so many times a mark on, no new activity begins until those in flight are through; of events, at the latest from so
/// many on.
const HARD_MARK: (u64, u64) = (2, 30_000);
/// From so many halves of the mark of events on, or at the latest from so many on, no timer does either. Temporal ends a
/// workflow at 51,200.
const TIMER_MARK: (u64, u64) = (7, 35_000);

type Ctx = WorkflowContext<ExecutionWorkflow>;
type Ended = Result<Value, WorkflowTermination>;

/// Runs an execution to its end, or to the run that goes on with it.
pub(super) async fn drive(ctx: Ctx, input: WorkflowInput) -> Ended {
    let shared = ctx.state(|state| state.shared.clone());
    let uid = input.uid;
    let ours = shared.is_of(&input.installation);
    let ended = match shared.stranger(&input.installation) {
        Some(why) => Err(why),
        None => match Driver::new(ctx.clone(), input) {
            Ok(mut driver) => driver.run().await,
            Err(why) => Err(why),
        },
    };
    match ended {
        Ok(ended) => ended,
        // Temporal shows the reason and repeats the task. What is in memory goes.
        Err(why) => {
            if ours {
                shared.end_if_closed(uid, ctx.workflow_id(), ctx.run_id());
            }
            ctx.force_task_fail(why);
            std::future::pending().await
        }
    }
}

/// What bounds a run, as the last report's answer says; nothing does before the first.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    /// Events from which on the run is ended.
    events: u32,
    /// Bytes of results and signals from which on it is.
    bytes: u64,
    /// Activities that may be in flight.
    in_flight: Option<u32>,
}

impl Marks {
    pub(super) fn of(result: &ReportResult) -> Self {
        Self {
            events: result.continue_as_new_events,
            bytes: result.continue_as_new_bytes.unwrap_or(u64::MAX),
            in_flight: result.in_flight_max,
        }
    }
}

pub(super) struct Driver {
    pub(super) ctx: Ctx,
    pub(super) input: WorkflowInput,
    execution: Execution,
    flight: Flight,
    cancel_taken: bool,
    phase: Phase,
    pub(super) marks: Cell<Marks>,
    /// Bytes of results and signals that this run has taken.
    bytes: u64,
}

/// What the workflow takes in one step.
#[derive(Default)]
struct Batch {
    inputs: Vec<Input>,
    /// The ledger is ahead: its state is to be taken over before anything else.
    ledger_is_ahead: bool,
}

impl Driver {
    fn new(ctx: Ctx, input: WorkflowInput) -> Result<Self, String> {
        let execution = restore(&ctx, &input, input.state)?;
        let phase = if input.suspended { Phase::Suspended } else { Phase::Running };
        let suspend = Suspend { suspended: input.suspended, generation: input.generation };
        ctx.state_mut(|state| {
            state.suspend = state.suspend.filter(|said| said.generation > suspend.generation).or(Some(suspend));
        });
        let marks = Marks { events: u32::MAX, bytes: u64::MAX, in_flight: input.in_flight_max };
        Ok(Self {
            ctx,
            input,
            execution,
            flight: Flight::default(),
            cancel_taken: false,
            phase,
            marks: Cell::new(marks),
            bytes: 0,
        })
    }

    /// `Err` is a reason to fail the workflow's task.
    async fn run(&mut self) -> Result<Ended, String> {
        // What the run before has left open goes on before anything else has come.
        self.carry_out();
        loop {
            let batch = poll_fn(|cx| match self.take(cx) {
                Ok(None) => Poll::Pending,
                Ok(Some(batch)) => Poll::Ready(Ok(batch)),
                Err(why) => Poll::Ready(Err(why)),
            })
            .await?;
            if let Some(ended) = self.step(batch).await? {
                return Ok(ended);
            }
            while self.may_continue_as_new() {
                let Some(state) = self.state_of_ledger().await? else { return Ok(closed()) };
                match poll_fn(|cx| Poll::Ready(self.take(cx))).await? {
                    // Nothing has come since: no signal of this run is left behind.
                    None => return Ok(self.continue_as_new(state)),
                    Some(batch) => {
                        if let Some(ended) = self.step(batch).await? {
                            return Ok(ended);
                        }
                    }
                }
            }
        }
    }

    /// What has come, in a fixed order: suspension, the start, signals, cancellation, results, timers.
    fn take(&mut self, cx: &mut Context<'_>) -> Result<Option<Batch>, String> {
        let shared = self.ctx.state(|state| state.shared.clone());
        let loader = Loader::new(&shared.contents);
        // The SDK polls again whenever the state was open for change: it is opened only if there is something to take.
        let arrived = if self.ctx.state(|state| state.inbox.is_empty()) {
            VecDeque::new()
        } else {
            let (arrived, bytes) =
                self.ctx.state_mut(|state| (std::mem::take(&mut state.inbox), std::mem::take(&mut state.inbox_bytes)));
            self.bytes += bytes;
            arrived
        };
        let suspend = self.ctx.state(|state| state.suspend);
        let mut batch = Batch::default();
        if let Some(said) = suspend {
            (self.input.suspended, self.input.generation) = (said.suspended, said.generation);
            match (self.execution.suspended, said.suspended) {
                (false, true) => batch.inputs.push(Input::Suspended),
                (true, false) => batch.inputs.push(Input::Resumed),
                (true, true) | (false, false) => {}
            }
        }
        let mut events = Vec::new();
        if self.input.state.is_none() && self.execution.next_event == 1 {
            events.push(self.input.started.clone());
        }
        for arrived in arrived {
            match arrived {
                Arrived::Input(event) => events.push(*event),
                Arrived::Unreadable(why) => return Err(format!("a signal cannot be read by this version: {why}")),
            }
        }
        for event in events {
            match decode_event(&event, &loader).map_err(|error| loader.reason(error.to_string()))?.kind {
                HistoryEventKind::Input(input) => batch.inputs.push(input),
                HistoryEventKind::Command(command) => {
                    tracing::warn!(execution_id = %self.input.uid, ?command, "a signal with a command is ignored");
                }
            }
        }
        let cancelled = self.ctx.cancellation_token();
        if cancelled.is_cancelled() && !self.cancel_taken {
            self.cancel_taken = true;
            let reason = cancelled.reason().unwrap_or_else(|| CANCELLED_AT_TEMPORAL.to_owned());
            batch.inputs.push(Input::CancelRequested { reason });
        }
        let landed = self.flight.landed(cx, &loader).map_err(|why| loader.reason(why))?;
        batch.inputs.extend(landed.inputs);
        batch.ledger_is_ahead = landed.unwanted.iter().any(|id| self.execution.open.activities.contains_key(id));
        self.bytes += landed.bytes;
        let room = landed.left && self.flight.holds_back();
        Ok((landed.any || room || !batch.inputs.is_empty()).then_some(batch))
    }

    /// Feeds what has come, reports what came of it, carries it out.
    async fn step(&mut self, batch: Batch) -> Result<Option<Ended>, String> {
        if batch.ledger_is_ahead {
            let Some(state) = self.state_of_ledger().await? else { return Ok(Some(closed())) };
            self.execution = restore(&self.ctx, &self.input, Some(state))?;
        }
        let ending = loop {
            let step = self.feed(&batch.inputs)?;
            if step.events.is_empty() {
                break step.ending;
            }
            match self.report(&step, false).await? {
                ReportAnswer::Taken { .. } => break step.ending,
                // What has come is given to the ledger's state again, as far as that still wants it.
                ReportAnswer::Diverged { state } => {
                    self.execution = restore(&self.ctx, &self.input, Some(state))?;
                }
                // An earlier attempt of this task reported the end, or somebody ended it at the server.
                ReportAnswer::Closed => match step.ending {
                    Some(ending) => break Some(ending),
                    None => return Ok(Some(closed())),
                },
            }
        };
        self.show_phase(ending.as_ref());
        if let Some(ending) = ending {
            return Ok(Some(end(ending)));
        }
        self.carry_out();
        Ok(None)
    }

    fn feed(&mut self, inputs: &[Input]) -> Result<Step, String> {
        let now_ms = self.now_ms();
        let mut step = Step::default();
        for input in inputs {
            if !self.execution.ended && self.execution.wants(input) {
                self.execution.feed(input.clone(), now_ms, &mut step).map_err(|stalled| stalled.to_string())?;
            }
        }
        Ok(step)
    }

    fn carry_out(&mut self) {
        let shared = self.ctx.state(|state| state.shared.clone());
        let marks = self.marks.get();
        let (events, mark) = (u64::from(self.ctx.history_length()), u64::from(marks.events));
        let rests = events >= (HARD_MARK.0 * mark).min(HARD_MARK.1.max(mark))
            || self.bytes >= marks.bytes.saturating_mul(HARD_MARK.0)
            || self.may_continue_as_new();
        let begin = Begin {
            of: &self.input,
            activities: !rests,
            timers: events < (TIMER_MARK.0 * mark / 2).min(TIMER_MARK.1.max(mark)),
            in_flight_max: marks.in_flight.map_or(usize::MAX, |max| max as usize),
            short_results: marks.in_flight.is_some() && self.is_long(),
        };
        self.flight.fit(&self.ctx, &self.execution, shared.times, self.now_ms(), &begin);
    }

    fn is_long(&self) -> bool {
        let marks = self.marks.get();
        self.ctx.history_length() >= marks.events || self.bytes >= marks.bytes || self.ctx.continue_as_new_suggested()
    }

    fn may_continue_as_new(&self) -> bool {
        self.is_long() && !self.flight.has_activities()
    }

    fn continue_as_new(&self, state: Digest) -> Ended {
        let in_flight_max = self.marks.get().in_flight;
        let input = WorkflowInput { state: Some(state), in_flight_max, ..self.input.clone() };
        match self.ctx.continue_as_new(input, ContinueAsNewOptions::default()) {
            Ok(never) => match never {},
            Err(termination) => Err(termination),
        }
    }

    fn show_phase(&mut self, ending: Option<&Ending>) {
        let phase = match ending {
            Some(Ending::Completed { .. }) => Phase::Completed,
            Some(Ending::Failed { .. }) => Phase::Failed,
            Some(Ending::Cancelled { .. }) => Phase::Cancelled,
            Some(Ending::TimedOut { .. }) => Phase::TimedOut,
            None if self.execution.suspended => Phase::Suspended,
            None => Phase::Running,
        };
        if phase != self.phase {
            self.phase = phase;
            if self.input.search_attributes {
                let key: SearchAttributeKey<String> = SearchAttributeKey::keyword(PHASE_ATTRIBUTE);
                self.ctx.upsert_search_attributes([key.value_set(phase.to_string())]);
            }
        }
    }

    fn now_ms(&self) -> i64 {
        let now = self.ctx.workflow_time().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The execution at its beginning, or as a state has it.
fn restore(ctx: &Ctx, input: &WorkflowInput, state: Option<Digest>) -> Result<Execution, String> {
    let shared = ctx.state(|workflow| workflow.shared.clone());
    let definition = shared.contents.get(&input.digest)?;
    let pinned = Pinned { kind: input.kind, digest: input.digest, definition: &definition };
    match state {
        None => Execution::new(shared.programs.as_ref(), &pinned)
            .map_err(|fault| format!("the pinned content {} cannot be loaded: {fault}", input.digest)),
        Some(state) => Execution::restore(shared.programs.as_ref(), &pinned, &shared.contents.get(&state)?)
            .map_err(|why| format!("the state {state} cannot be used by this version: {why}")),
    }
}

/// How a workflow ends of which nothing is wanted any more, and whose own end is not known here.
fn closed() -> Ended {
    Err(WorkflowTermination::cancelled_with_details("the execution has ended in Baton".to_owned()))
}

fn end(ending: Ending) -> Ended {
    match ending {
        Ending::Completed { output } if output.to_string().len() > INLINE_BYTES_MAX => Ok(Value::Null),
        Ending::Completed { output } => Ok(output),
        Ending::Failed { fault, .. } => {
            let failure =
                ApplicationFailure::builder(clipped(&fault.to_string())).type_name(fault.kind).non_retryable(true);
            Err(failure.build().into())
        }
        Ending::Cancelled { reason, .. } => Err(WorkflowTermination::cancelled_with_details(clipped(&reason))),
        Ending::TimedOut { .. } => {
            let failure = ApplicationFailure::builder("the time of the execution was over")
                .type_name(fault_type::TIMEOUT.to_owned())
                .non_retryable(true);
            Err(failure.build().into())
        }
    }
}

/// Long data, for what is read inside a workflow.
struct Loader<'a> {
    contents: &'a Contents,
    failed: RefCell<Option<String>>,
}

impl<'a> Loader<'a> {
    fn new(contents: &'a Contents) -> Self {
        Self { contents, failed: RefCell::new(None) }
    }

    /// Why content could not be had, if that is what went wrong.
    fn reason(&self, otherwise: String) -> String {
        self.failed.take().unwrap_or(otherwise)
    }
}

impl DataLoader for Loader<'_> {
    fn load(&self, digest: &Digest) -> Option<Vec<u8>> {
        match self.contents.get(digest) {
            Ok(content) => Some(content.to_vec()),
            Err(why) => {
                *self.failed.borrow_mut() = Some(why);
                None
            }
        }
    }
}
