//! What a workflow has in flight at Temporal: activities and timers.
//!
//! [`Flight::fit`] makes it equal to what the execution has open; [`Flight::landed`] gives what has come back.

use std::{
    collections::BTreeMap,
    task::{Context, Poll},
    time::Duration,
};

use baton_engine::{Execution, Timer, in_doubt};
use baton_execution::{Effect, Fault, HistoryEventKind, Input, OperationId, ScheduleActivity, fault_type};
use baton_proto::{DataLoader, decode_event, history_v1};
use futures::future::{FutureExt as _, LocalBoxFuture};
use temporalio_common::{RetryPolicy, UntypedActivity, data_converters::RawValue, error::IncomingError};
use temporalio_sdk::{
    ActivityCancellationType, ActivityExecutionError, ActivityOptions, TimerOptions, TimerResult,
    WorkflowCancellationToken, WorkflowContext,
};

use super::{
    ExecutionWorkflow,
    wire::{self, ActivityArgs, NOT_BEGUN, WorkflowInput},
};
use crate::worker::ActivityTimes;

/// Added to an activity's own limit, which the worker keeps: for reading the task, and for keeping a long result.
const CLOSE_MARGIN: Duration = Duration::from_secs(30);
/// Longest name of an activity at Temporal; beyond it Temporal counts them.
const ACTIVITY_ID_MAX: usize = 200;
/// First and longest pause before an activity of a lost worker runs again.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Type of the failure by which the SDK says that a worker does not have an activity.
const UNKNOWN_ACTIVITY: &str = "NotFoundError";
/// Bytes from which on a result goes by reference where many come, or where the history is long: from the usual length on,
/// those that may be in flight at once would fill it.
const SHORT_BYTES_MAX: u32 = 4 * 1024;
/// Activities in flight from which on many come.
const MANY: usize = 100;

struct Waited<T> {
    future: LocalBoxFuture<'static, T>,
    /// Its own, not the workflow's: a cancelled workflow winds up as its Program says.
    stop: WorkflowCancellationToken,
}

type ActivityEnd = Result<RawValue, ActivityExecutionError>;

/// Activities and timers that Temporal knows.
#[derive(Default)]
pub(super) struct Flight {
    activities: BTreeMap<OperationId, (Effect, Waited<ActivityEnd>)>,
    timers: BTreeMap<OperationId, (Timer, Waited<TimerResult>)>,
    /// Activities that are not wanted any more, and that Temporal still counts.
    leaving: Vec<LocalBoxFuture<'static, ActivityEnd>>,
    /// Whether some that are open do not begin because too many are in flight.
    holds_back: bool,
}

/// What has come back.
#[derive(Default)]
pub(super) struct Landed {
    pub(super) inputs: Vec<Input>,
    /// Activities that the ledger says are not wanted: it knows more than this workflow.
    pub(super) unwanted: Vec<OperationId>,
    /// Whether anything came at all.
    pub(super) any: bool,
    /// Whether something left that was not wanted any more.
    pub(super) left: bool,
    /// Bytes of what came.
    pub(super) bytes: u64,
}

impl Flight {
    pub(super) fn has_activities(&self) -> bool {
        !self.activities.is_empty()
    }

    /// Whether there are activities that begin when others have come back.
    pub(super) fn holds_back(&self) -> bool {
        self.holds_back
    }

    /// Makes what is in flight equal to what is open, as far as it may begin.
    pub(super) fn fit(
        &mut self,
        ctx: &WorkflowContext<ExecutionWorkflow>,
        execution: &Execution,
        times: ActivityTimes,
        now_ms: i64,
        begin: &Begin<'_>,
    ) {
        let open = &execution.open;
        let unwanted = self.activities.extract_if(.., |id, _| !open.activities.contains_key(id));
        self.leaving.extend(unwanted.map(|(_, (_, waited))| {
            waited.stop.cancel();
            waited.future
        }));
        self.timers.retain(|id, (timer, waited)| {
            let wanted = open.timers.get(id).is_some_and(|now| (now.id, now.due_ms) == (timer.id, timer.due_ms));
            if !wanted {
                waited.stop.cancel();
            }
            wanted
        });
        if begin.timers {
            for (id, timer) in &open.timers {
                self.timers.entry(id.clone()).or_insert_with(|| (*timer, start_timer(ctx, *timer, now_ms)));
            }
        }
        self.holds_back = false;
        if begin.activities && self.activities.len() < open.activities.len() {
            for (id, activity) in &open.activities {
                if self.activities.contains_key(id) {
                    continue;
                }
                let in_flight = self.activities.len() + self.leaving.len();
                if in_flight >= begin.in_flight_max {
                    self.holds_back = true;
                    break;
                }
                let short = begin.short_results || (in_flight >= MANY && begin.in_flight_max < usize::MAX);
                let waited = start_activity(ctx, activity, begin.of, short, times);
                self.activities.insert(id.clone(), (activity.effect, waited));
            }
        }
    }

    /// What has come back since the last time, in an order that does not depend on anything but what came.
    pub(super) fn landed(&mut self, cx: &mut Context<'_>, contents: &dyn DataLoader) -> Result<Landed, String> {
        let mut landed = Landed::default();
        let mut unreadable = None;
        self.activities.retain(|id, (effect, waited)| {
            let Poll::Ready(end) = waited.future.poll_unpin(cx) else { return true };
            landed.any = true;
            landed.bytes += bytes_of(&end);
            match activity_landed(id, *effect, end, contents) {
                Ok(Back::Input(input)) => landed.inputs.push(*input),
                Ok(Back::Unwanted) => landed.unwanted.push(id.clone()),
                Ok(Back::NotBegun) => {}
                Err(why) => unreadable = Some(why),
            }
            false
        });
        self.leaving.retain_mut(|future| {
            let Poll::Ready(end) = future.poll_unpin(cx) else { return true };
            landed.left = true;
            landed.bytes += bytes_of(&end);
            false
        });
        self.timers.retain(|id, (_, waited)| {
            let Poll::Ready(result) = waited.future.poll_unpin(cx) else { return true };
            landed.any = true;
            if matches!(result, TimerResult::Fired) {
                landed.inputs.push(Input::TimerFired { id: id.clone() });
            }
            false
        });
        unreadable.map_or(Ok(landed), Err)
    }
}

/// What may begin now.
pub(super) struct Begin<'a> {
    /// Whose it is.
    pub(super) of: &'a WorkflowInput,
    /// Whether activities may: if the run is about to end they begin in the next one.
    pub(super) activities: bool,
    /// Whether timers may.
    pub(super) timers: bool,
    /// Activities that may be in flight: Temporal takes 2,000, those that are about to leave included.
    pub(super) in_flight_max: usize,
    /// Whether only short results may stand in the history.
    pub(super) short_results: bool,
}

fn bytes_of(end: &ActivityEnd) -> u64 {
    end.as_ref().map_or(0, |raw| wire::bytes_of(&raw.payloads))
}

fn start_timer(ctx: &WorkflowContext<ExecutionWorkflow>, timer: Timer, now_ms: i64) -> Waited<TimerResult> {
    let pause = u64::try_from(timer.due_ms.saturating_sub(now_ms)).unwrap_or(0).max(1);
    let stop = WorkflowCancellationToken::new();
    let options = TimerOptions::builder(Duration::from_millis(pause)).cancellation_token(stop.clone()).build();
    let ctx = ctx.clone();
    Waited { future: async move { ctx.timer(options).await }.boxed_local(), stop }
}

fn start_activity(
    ctx: &WorkflowContext<ExecutionWorkflow>,
    activity: &ScheduleActivity,
    of: &WorkflowInput,
    short_result: bool,
    times: ActivityTimes,
) -> Waited<ActivityEnd> {
    let id = activity.id.to_string();
    let (attempts, heartbeat) = match activity.effect {
        Effect::Repeatable => (0, times.heartbeat),
        Effect::Once => (1, times.heartbeat_once),
    };
    let stop = WorkflowCancellationToken::new();
    let limit = Duration::from_millis(activity.start_to_close_ms).saturating_add(CLOSE_MARGIN);
    let retry = RetryPolicy::builder()
        .initial_interval(AGAIN_AFTER.0)
        .maximum_interval(AGAIN_AFTER.1)
        .maximum_attempts(attempts)
        .build();
    let options = ActivityOptions::with_start_to_close_timeout(limit)
        .heartbeat_timeout(heartbeat)
        .retry_policy(retry)
        .maybe_activity_id((id.len() <= ACTIVITY_ID_MAX).then_some(id))
        .cancellation_token(stop.clone())
        // Until it is gone it counts.
        .cancellation_type(ActivityCancellationType::WaitCancellationCompleted)
        .build();
    let args = ActivityArgs {
        execution: of.uid,
        position: activity.id.position.clone(),
        attempt: activity.id.attempt,
        installation: of.installation.clone(),
        inline_bytes_max: short_result.then_some(SHORT_BYTES_MAX),
    };
    // What it gives stays raw: a result that cannot be read must not fail the task over and over.
    let (ctx, named, input) = (ctx.clone(), UntypedActivity::new(&activity.activity), wire::raw(&args));
    Waited { future: async move { ctx.execute_activity(named, input, options).await }.boxed_local(), stop }
}

enum Back {
    Input(Box<Input>),
    Unwanted,
    NotBegun,
}

fn activity_landed(
    id: &OperationId,
    effect: Effect,
    end: ActivityEnd,
    contents: &dyn DataLoader,
) -> Result<Back, String> {
    let failed = |fault| Ok(Back::Input(Box::new(Input::ActivityFailed { id: id.clone(), fault })));
    match end {
        Ok(raw) => match wire::read::<Option<history_v1::HistoryEvent>>(&raw.payloads) {
            Ok(None) => Ok(Back::Unwanted),
            Ok(Some(event)) => match decode_event(&event, contents).map_err(|error| error.to_string())?.kind {
                HistoryEventKind::Input(input @ (Input::ActivityCompleted { .. } | Input::ActivityFailed { .. })) => {
                    Ok(Back::Input(Box::new(input)))
                }
                other => Err(format!("the result of activity {id} is {other:?}")),
            },
            Err(error) => Err(format!("the result of activity {id} cannot be read: {error}")),
        },
        Err(error) => match (failure_type(&error), effect) {
            (Some(NOT_BEGUN), _) => Ok(Back::NotBegun),
            (Some(UNKNOWN_ACTIVITY), Effect::Once) => {
                let detail = format!("the worker that was asked has no such activity: {}", message(&error));
                failed(Fault::new(fault_type::CONFIGURATION, 501, detail).at(&id.position))
            }
            (_, Effect::Once) => failed(in_doubt(id)),
            // Somebody cancelled it at Temporal, which this workflow did not ask for.
            (_, Effect::Repeatable) if matches!(error, ActivityExecutionError::Cancelled(_)) => Ok(Back::NotBegun),
            (_, Effect::Repeatable) => {
                let detail = format!("the host of the execution gave the activity up: {}", message(&error));
                failed(Fault::new(fault_type::RUNTIME, 500, detail).at(&id.position))
            }
        },
    }
}

fn failure_type(error: &ActivityExecutionError) -> Option<&str> {
    match error.cause() {
        Some(IncomingError::Application(failure)) => failure.type_name(),
        _ => None,
    }
}

fn message(error: &ActivityExecutionError) -> String {
    error.cause().map_or_else(|| error.to_string(), |cause| cause.failure().message.clone())
}
