//! What has become of a caller: the activity that handed its task token out.
//!
//! Temporal says to a heartbeat only that the token is not good any more. Whether another attempt is to come or there (then the
//! callee works on, to be attached to again) or nobody waits any more is asked here, and so is what the caller demands: how
//! often it must hear from us, and the details of its own last heartbeat, which ours must not wipe out.
//!
//! # Deliberately absent
//! No ids in what is told: they are parts of the token, which is not signed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prost::Message as _;
use temporalio_client::tonic::Code;
use temporalio_common::protos::temporal::api::{
    common::v1::{Payloads, WorkflowExecution},
    enums::v1::{ActivityExecutionStatus, PendingActivityState, WorkflowExecutionStatus},
    failure::v1::Failure,
    history::v1::{HistoryEvent, history_event::Attributes},
    workflow::v1::PendingActivityInfo,
    workflowservice::v1::{
        DescribeActivityExecutionRequest, DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse,
        GetWorkflowExecutionHistoryReverseRequest,
    },
};

use crate::{
    rpc::{Refusal, Rpc, clipped},
    token::{Activity, Task},
};

/// Interval of a caller that says nothing of heartbeats: often enough to learn of its cancellation.
const INTERVAL_WITHOUT_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval if what the caller wants cannot be learnt.
const INTERVAL_UNKNOWN: Duration = Duration::from_secs(10);
/// Shortest and longest interval.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How often we tell it within its timeout: two may be lost.
const HEARTBEATS_A_TIMEOUT: u32 = 3;
/// Longest details of a caller's own heartbeat that are kept for it.
const DETAILS_BYTES_MAX: usize = 16 * 1024;
/// Callers whose demands are remembered in each of the two halves of [`Demands`].
const DEMANDS_MAX: usize = 16 * 1024;
/// Events that are asked for at once, and how often, to find out who was answered.
const HISTORY_PAGE: (i32, usize) = (200, 5);

/// What a caller demands of those who work for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Demand {
    /// When it must hear from us again.
    pub(crate) interval: Duration,
    /// What it said in its own last heartbeat, to be said again.
    pub(crate) details: Option<Payloads>,
}

impl Demand {
    fn of(heartbeat_timeout: Option<Duration>, details: Option<Payloads>) -> Self {
        let interval = match heartbeat_timeout {
            None => INTERVAL_UNKNOWN,
            Some(Duration::ZERO) => INTERVAL_WITHOUT_TIMEOUT,
            Some(timeout) => (timeout / HEARTBEATS_A_TIMEOUT).clamp(INTERVAL.0, INTERVAL.1),
        };
        Self { interval, details: details.filter(|details| details.encoded_len() <= DETAILS_BYTES_MAX) }
    }

    /// For a caller that cannot be asked.
    fn unknown() -> Self {
        Self { interval: INTERVAL_UNKNOWN, details: None }
    }
}

/// What has become of a caller.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Caller {
    /// Its activity is open.
    Open {
        /// What it demands.
        demand: Demand,
        /// Whether it is another attempt than the token's that is open, and which.
        other_attempt: Option<i32>,
        /// Whether an attempt is at work, in the server's eyes.
        started: bool,
        /// Why the attempt before failed.
        last_failure: Option<String>,
    },
    /// Nobody waits there any more, and why.
    Over(String),
    /// We may not ask, or the server cannot tell.
    Untold(Demand),
}

/// Asks Temporal about the caller that a token belongs to.
///
/// # Errors
/// What passes.
pub(crate) async fn ask(rpc: &Rpc, namespace: &str, task: &Task) -> Result<Caller, Refusal> {
    let asked = match &task.activity {
        Activity::OfWorkflow { workflow_id, run_id, activity_id, .. } => {
            let workflow = (workflow_id.as_str(), run_id.as_str());
            ask_workflow(rpc, namespace, workflow, activity_id, task.attempt).await
        }
        Activity::Alone { activity_id, run_id } => {
            ask_activity(rpc, namespace, (activity_id, run_id), task.attempt).await
        }
    };
    match asked {
        Err(refusal) if refusal.code == Code::NotFound => {
            Ok(Caller::Over("Temporal knows nothing of it any more; its history may be deleted".to_owned()))
        }
        Err(refusal) if is_final(refusal.code) => Ok(Caller::Untold(Demand::unknown())),
        asked => asked,
    }
}

/// Whether the same question will always be refused.
fn is_final(code: Code) -> bool {
    matches!(code, Code::PermissionDenied | Code::Unimplemented | Code::InvalidArgument)
}

async fn ask_workflow(
    rpc: &Rpc,
    namespace: &str,
    (workflow_id, run_id): (&str, &str),
    activity_id: &str,
    attempt: i32,
) -> Result<Caller, Refusal> {
    let described = describe(rpc, namespace, workflow_id, run_id).await?;
    if is_running(&described) {
        return Ok(pending(&described, activity_id, Some(attempt)));
    }
    let ended = format!("its workflow has ended: {}", ending(&described));
    let reset_to = described.workflow_extended_info.map(|info| info.reset_run_id).unwrap_or_default();
    if reset_to.is_empty() || reset_to == run_id {
        return Ok(Caller::Over(ended));
    }
    // It was reset: the same activity may be open again in the run that goes on in its place.
    let described = describe(rpc, namespace, workflow_id, &reset_to).await?;
    match pending(&described, activity_id, None) {
        open @ Caller::Open { .. } if is_running(&described) => Ok(open),
        _ => Ok(Caller::Over(ended)),
    }
}

async fn describe(
    rpc: &Rpc,
    namespace: &str,
    workflow_id: &str,
    run_id: &str,
) -> Result<DescribeWorkflowExecutionResponse, Refusal> {
    let execution = Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() });
    rpc.describe_workflow(DescribeWorkflowExecutionRequest { namespace: namespace.to_owned(), execution }).await
}

fn status(described: &DescribeWorkflowExecutionResponse) -> WorkflowExecutionStatus {
    match &described.workflow_execution_info {
        Some(info) => info.status(),
        None => WorkflowExecutionStatus::Unspecified,
    }
}

fn is_running(described: &DescribeWorkflowExecutionResponse) -> bool {
    matches!(status(described), WorkflowExecutionStatus::Running | WorkflowExecutionStatus::Paused)
}

fn ending(described: &DescribeWorkflowExecutionResponse) -> &'static str {
    match status(described) {
        WorkflowExecutionStatus::Completed => "completed",
        WorkflowExecutionStatus::Failed => "failed",
        WorkflowExecutionStatus::Canceled => "cancelled",
        WorkflowExecutionStatus::Terminated => "terminated",
        WorkflowExecutionStatus::ContinuedAsNew => "continued as new",
        WorkflowExecutionStatus::TimedOut => "timed out",
        WorkflowExecutionStatus::Unspecified | WorkflowExecutionStatus::Running | WorkflowExecutionStatus::Paused => {
            "not running"
        }
    }
}

/// Finds the activity among the open ones. `attempt` is the token's, if it is of this run.
fn pending(described: &DescribeWorkflowExecutionResponse, activity_id: &str, attempt: Option<i32>) -> Caller {
    if activity_id.is_empty() {
        return Caller::Untold(Demand::unknown());
    }
    let Some(found) = described.pending_activities.iter().find(|found| found.activity_id == activity_id) else {
        return Caller::Over("its activity is closed: answered, timed out or cancelled".to_owned());
    };
    open(found, attempt)
}

fn open(found: &PendingActivityInfo, attempt: Option<i32>) -> Caller {
    let timeout = found.activity_options.as_ref().map(|options| duration(options.heartbeat_timeout));
    Caller::Open {
        demand: Demand::of(timeout, found.heartbeat_details.clone()),
        other_attempt: (attempt != Some(found.attempt)).then_some(found.attempt),
        started: is_started(found.state()),
        last_failure: found.last_failure.as_ref().map(|failure| clipped(&failure.message)),
    }
}

fn is_started(state: PendingActivityState) -> bool {
    match state {
        PendingActivityState::Started
        | PendingActivityState::CancelRequested
        | PendingActivityState::PauseRequested => true,
        PendingActivityState::Unspecified | PendingActivityState::Scheduled | PendingActivityState::Paused => false,
    }
}

async fn ask_activity(
    rpc: &Rpc,
    namespace: &str,
    (activity_id, run_id): (&str, &str),
    attempt: i32,
) -> Result<Caller, Refusal> {
    let request = DescribeActivityExecutionRequest {
        namespace: namespace.to_owned(),
        activity_id: activity_id.to_owned(),
        run_id: run_id.to_owned(),
        include_heartbeat_details: true,
        include_last_failure: true,
        ..DescribeActivityExecutionRequest::default()
    };
    let Some(info) = rpc.describe_activity(request).await?.info else {
        return Ok(Caller::Untold(Demand::unknown()));
    };
    let how = match info.status() {
        ActivityExecutionStatus::Unspecified | ActivityExecutionStatus::Running | ActivityExecutionStatus::Paused => {
            return Ok(Caller::Open {
                demand: Demand::of(Some(duration(info.heartbeat_timeout)), info.heartbeat_details.clone()),
                other_attempt: (info.attempt != attempt).then_some(info.attempt),
                started: is_started(info.run_state()),
                last_failure: info.last_failure.as_ref().map(|failure| clipped(&failure.message)),
            });
        }
        ActivityExecutionStatus::Completed => "completed",
        ActivityExecutionStatus::Failed => "failed",
        ActivityExecutionStatus::Canceled => "cancelled",
        ActivityExecutionStatus::Terminated => "terminated",
        ActivityExecutionStatus::TimedOut => "timed out",
    };
    Ok(Caller::Over(format!("its activity has ended: {how}")))
}

/// A protobuf duration; none and negative ones are zero.
fn duration(given: Option<impl TryInto<Duration>>) -> Duration {
    given.and_then(|given| given.try_into().ok()).unwrap_or_default()
}

/// What callers demand, by token, for as long as there is room: the older half goes when the younger one is full.
#[derive(Default)]
pub(crate) struct Demands {
    halves: Mutex<(HashMap<Task, Demand>, HashMap<Task, Demand>)>,
}

impl Demands {
    pub(crate) fn get(&self, task: &Task) -> Option<Demand> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(demand) = halves.0.get(task) {
            return Some(demand.clone());
        }
        let demand = halves.1.remove(task)?;
        insert(&mut halves, task.clone(), demand.clone());
        Some(demand)
    }

    pub(crate) fn put(&self, task: Task, demand: Demand) {
        insert(&mut self.halves.lock().unwrap_or_else(PoisonError::into_inner), task, demand);
    }

    pub(crate) fn forget(&self, task: &Task) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.0.remove(task);
        halves.1.remove(task);
    }
}

fn insert(halves: &mut (HashMap<Task, Demand>, HashMap<Task, Demand>), task: Task, demand: Demand) {
    if halves.0.len() >= DEMANDS_MAX {
        halves.1 = std::mem::take(&mut halves.0);
    }
    halves.0.insert(task, demand);
}

/// What was given to a caller, to be found again in its history.
pub(crate) enum Given<'a> {
    /// A result.
    Result(&'a Payloads),
    /// A failure.
    Failure(&'a Failure),
    /// The news that it was cancelled, in the one form or the other.
    Cancelled(&'a Payloads, &'a Failure),
}

/// Whether a caller's history says that this attempt of it was answered with exactly this. So an answer that was taken, though
/// we were not told so, is not called refused.
///
/// # Errors
/// What passes.
pub(crate) async fn has(rpc: &Rpc, namespace: &str, task: &Task, given: &Given<'_>) -> Result<bool, Refusal> {
    let Activity::OfWorkflow { workflow_id, run_id, scheduled_event_id, .. } = &task.activity else {
        return Ok(false);
    };
    let mut request = GetWorkflowExecutionHistoryReverseRequest {
        namespace: namespace.to_owned(),
        execution: Some(WorkflowExecution { workflow_id: workflow_id.clone(), run_id: run_id.clone() }),
        maximum_page_size: HISTORY_PAGE.0,
        next_page_token: Vec::new(),
    };
    let mut closed_as_given = false;
    for _ in 0..HISTORY_PAGE.1 {
        let page = match rpc.history_from_its_end(request.clone()).await {
            Err(refusal) if refusal.code == Code::NotFound || is_final(refusal.code) => return Ok(false),
            page => page?,
        };
        for event in page.history.map(|history| history.events).unwrap_or_default() {
            match told(&event, *scheduled_event_id, given) {
                Told::Nothing => {}
                Told::Closed(as_given) => closed_as_given = as_given,
                // Backwards, its start comes after its end: the attempt that was answered.
                Told::Started(attempt) => return Ok(closed_as_given && attempt == task.attempt),
                Told::Scheduled => return Ok(false),
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(false);
        }
        request.next_page_token = page.next_page_token;
    }
    Ok(false)
}

/// What an event tells of an activity.
enum Told {
    Nothing,
    Closed(bool),
    Started(i32),
    Scheduled,
}

fn told(event: &HistoryEvent, scheduled: i64, given: &Given<'_>) -> Told {
    match &event.attributes {
        Some(Attributes::ActivityTaskCompletedEventAttributes(it)) if it.scheduled_event_id == scheduled => {
            Told::Closed(matches!(given, Given::Result(result) if it.result.as_ref() == Some(result)))
        }
        Some(Attributes::ActivityTaskFailedEventAttributes(it)) if it.scheduled_event_id == scheduled => {
            let failed = |failure| it.failure.as_ref() == Some(failure);
            Told::Closed(matches!(given, Given::Failure(failure) | Given::Cancelled(_, failure) if failed(failure)))
        }
        Some(Attributes::ActivityTaskCanceledEventAttributes(it)) if it.scheduled_event_id == scheduled => {
            Told::Closed(matches!(given, Given::Cancelled(details, _) if it.details.as_ref() == Some(details)))
        }
        Some(Attributes::ActivityTaskStartedEventAttributes(it)) if it.scheduled_event_id == scheduled => {
            Told::Started(it.attempt)
        }
        Some(Attributes::ActivityTaskScheduledEventAttributes(_)) if event.event_id == scheduled => Told::Scheduled,
        _ => Told::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(attempt: i32) -> Task {
        let activity = Activity::Alone { activity_id: "a".to_owned(), run_id: String::new() };
        Task { namespace_id: String::new(), activity, attempt }
    }

    #[test]
    fn the_interval_is_a_third_of_the_callers_timeout_within_bounds() {
        let interval = |timeout: Option<u64>| Demand::of(timeout.map(Duration::from_millis), None).interval.as_millis();
        assert_eq!(interval(Some(9_000)), 3_000);
        assert_eq!(interval(Some(300)), 250);
        assert_eq!(interval(Some(3_600_000)), 30_000);
        assert_eq!(interval(Some(0)), 30_000, "it has none");
        assert_eq!(interval(None), 10_000, "it does not tell");
    }

    #[test]
    fn demands_are_remembered_as_long_as_there_is_room() {
        let demands = Demands::default();
        let first = Demand::of(Some(Duration::from_secs(9)), None);
        demands.put(task(0), first.clone());
        for attempt in 1..=i32::try_from(DEMANDS_MAX).unwrap() {
            demands.put(task(attempt), Demand::unknown());
        }
        assert_eq!(demands.get(&task(0)), Some(first), "in the older half, and young again");
        for attempt in 1..=2 * i32::try_from(DEMANDS_MAX).unwrap() {
            demands.put(task(-attempt), Demand::unknown());
        }
        assert_eq!(demands.get(&task(0)), None);
        demands.put(task(7), Demand::unknown());
        demands.forget(&task(7));
        assert_eq!(demands.get(&task(7)), None);
        let halves = demands.halves.lock().unwrap();
        assert!(halves.0.len() <= DEMANDS_MAX && halves.1.len() <= DEMANDS_MAX);
    }
}
