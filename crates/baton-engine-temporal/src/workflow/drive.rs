//! A workflow's loop: take what has come, decide, report, carry out.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};

use baton_engine::{Execution, Pinned, Step};
use baton_execution::{Ending, HistoryEventKind, Input, fault_type};
use baton_proto::{DataLoader, decode_event, encode_event};
use baton_types::{Digest, INLINE_BYTES_MAX, Phase};
use futures::future::FutureExt as _;
use serde_json::Value;
use temporalio_common::{RetryPolicy, UntypedActivity, search_attributes::SearchAttributeKey};
use temporalio_sdk::{
    ApplicationFailure, ContinueAsNewOptions, LocalActivityOptions, TimerOptions, WorkflowCancellationToken,
    WorkflowContext, WorkflowTermination,
};

use super::{
    Arrived, ExecutionWorkflow, Suspend,
    flight::{Begin, Flight},
    wire::{self, REPORT_ACTIVITY, ReportAnswer, ReportArgs, ReportResult, WorkflowInput},
};
use crate::{contents::Contents, host::PHASE_ATTRIBUTE, rpc::clipped};

/// What is reported as the reason of a cancellation that names none.
const CANCELLED_AT_TEMPORAL: &str = "cancelled in Temporal";
/// Longest time that one attempt to report may take.
const REPORT_TIME_MAX: Duration = Duration::from_secs(10);
/// First and longest pause between attempts of one local activity.
const REPORT_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Attempts before the workflow lets go of its task and waits with a timer: over a minute of them.
const REPORT_ATTEMPTS: u32 = 20;
/// Attempts each time after such a wait.
const REPORT_ATTEMPTS_LATER: u32 = 2;
/// First and longest wait for a ledger that stays away. A history grows by a few events each time and may not grow for ever.
const REPORT_WAIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));
/// The SDK gives a local activity 100 s if nothing is said; this one ends only when it is done.
const REPORT_TOTAL: Duration = Duration::from_hours(24 * 365);
/// From so many times the mark on, no new activity begins until those in flight are through.
const HARD_MARK: u32 = 2;

type Ctx = WorkflowContext<ExecutionWorkflow>;
type Ended = Result<Value, WorkflowTermination>;

/// Runs an execution to its end, or to the run that goes on with it.
pub(super) async fn drive(ctx: Ctx, input: WorkflowInput) -> Ended {
    let ended = match Driver::new(ctx.clone(), input) {
        Ok(mut driver) => driver.run().await,
        Err(why) => Err(why),
    };
    match ended {
        Ok(ended) => ended,
        // Temporal shows the reason and repeats the task. What is in memory goes.
        Err(why) => {
            ctx.force_task_fail(why);
            std::future::pending().await
        }
    }
}

struct Driver {
    ctx: Ctx,
    input: WorkflowInput,
    execution: Execution,
    flight: Flight,
    cancel_taken: bool,
    phase: Phase,
    /// Events from which on the run is ended, as the last report's answer says.
    mark: Cell<u32>,
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
        Ok(Self {
            ctx,
            input,
            execution,
            flight: Flight::default(),
            cancel_taken: false,
            phase,
            mark: Cell::new(u32::MAX),
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
            self.ctx.state_mut(|state| std::mem::take(&mut state.inbox))
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
        Ok((landed.any || !batch.inputs.is_empty()).then_some(batch))
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
        let hard_mark = self.mark.get().saturating_mul(HARD_MARK);
        let rests = self.ctx.history_length() >= hard_mark || self.may_continue_as_new();
        let begin = if rests { Begin::Nothing } else { Begin::Activities { uid: self.input.uid } };
        self.flight.fit(&self.ctx, &self.execution, shared.times, self.now_ms(), begin);
    }

    fn is_long(&self) -> bool {
        self.ctx.history_length() >= self.mark.get() || self.ctx.continue_as_new_suggested()
    }

    fn may_continue_as_new(&self) -> bool {
        self.is_long() && !self.flight.has_activities()
    }

    fn continue_as_new(&self, state: Digest) -> Ended {
        let input = WorkflowInput { state: Some(state), ..self.input.clone() };
        match self.ctx.continue_as_new(input, ContinueAsNewOptions::default()) {
            Ok(never) => match never {},
            Err(termination) => Err(termination),
        }
    }

    /// The ledger's state of the execution; nothing if it is closed.
    async fn state_of_ledger(&self) -> Result<Option<Digest>, String> {
        match self.report(&Step::default(), true).await? {
            ReportAnswer::Taken { state: Some(state) } | ReportAnswer::Diverged { state } => Ok(Some(state)),
            ReportAnswer::Taken { state: None } => Err("the ledger gave no state".to_owned()),
            ReportAnswer::Closed => Ok(None),
        }
    }

    /// Reports until the ledger has answered.
    async fn report(&self, step: &Step, want_state: bool) -> Result<ReportAnswer, String> {
        let input = wire::raw(&self.report_args(step, want_state));
        let mut attempts = REPORT_ATTEMPTS;
        let mut wait = REPORT_WAIT.0;
        loop {
            let retry = RetryPolicy::builder()
                .initial_interval(REPORT_AGAIN.0)
                .maximum_interval(REPORT_AGAIN.1)
                .maximum_attempts(attempts)
                .build();
            let options = LocalActivityOptions::builder()
                .retry_policy(retry)
                .start_to_close_timeout(REPORT_TIME_MAX)
                .schedule_to_close_timeout(REPORT_TOTAL)
                .cancellation_token(WorkflowCancellationToken::new())
                .build();
            let report = UntypedActivity::new(REPORT_ACTIVITY);
            match self.ctx.execute_local_activity(report, input.clone(), options).await {
                Ok(answer) => {
                    let result: ReportResult = wire::read(&answer.payloads)
                        .map_err(|error| format!("the answer to a report cannot be read: {error}"))?;
                    self.mark.set(result.continue_as_new_events);
                    return Ok(result.answer);
                }
                Err(error) => {
                    tracing::warn!(execution_id = %self.input.uid, %error, "a report was not taken; trying again");
                }
            }
            self.wait_for_ledger(wait).await;
            (attempts, wait) = (REPORT_ATTEMPTS_LATER, (wait * 2).min(REPORT_WAIT.1));
        }
    }

    /// Some time, or until a signal shows that the server is there.
    async fn wait_for_ledger(&self, wait: Duration) {
        let stop = WorkflowCancellationToken::new();
        let options = TimerOptions::builder(wait).cancellation_token(stop.clone()).build();
        let mut timer = std::pin::pin!(self.ctx.timer(options));
        let waiting = self.ctx.state(|state| state.inbox.len());
        poll_fn(|cx| {
            let signalled = self.ctx.state(|state| state.inbox.len()) > waiting;
            if timer.poll_unpin(cx).is_ready() || signalled { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        stop.cancel();
    }

    fn report_args(&self, step: &Step, want_state: bool) -> ReportArgs {
        let mut contents = Vec::new();
        let events = step.events.iter().map(|event| encode_event(event, &mut contents)).collect();
        let text = |content: Vec<u8>| String::from_utf8(content).expect("long data is kept as JSON text");
        ReportArgs {
            uid: self.input.uid,
            workflow_id: self.ctx.workflow_id().to_owned(),
            run_id: self.ctx.run_id().to_owned(),
            events,
            contents: contents.into_iter().map(|(digest, content)| (digest.to_string(), text(content))).collect(),
            want_state,
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
