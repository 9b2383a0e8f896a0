//! The activities of a worker: those that Programs ask for, by any name, and the one that reports.
//!
//! An activity at Temporal carries only which one it is. What it runs with, callback token included, comes from the ledger
//! when it starts, and what it gives is an input of the execution: a fault is a result like any other, never a failure at
//! Temporal. So Temporal repeats exactly what has no result.
//!
//! # Invariants
//! - What is of another installation is given back as not begun: its own worker will be asked.
//! - A result is given only once its long data is with the ledger.
//! - An activity heartbeats from its first moment, so that the loss of its worker shows.
//!
//! # Deliberately absent
//! Retries of the work itself: those are the Program's.
//!
//! # Failure
//! A ledger that cannot be reached is asked again for a while. If the work has not begun by then the activity fails as not
//! begun, and may be started again, even one that must not be repeated.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use baton_engine::{HostedTask, Reported, chain, perform};
use baton_execution::{Fault, HistoryEvent, HistoryEventKind, Input};
use baton_proto::encode_event_within;
use baton_types::{ErrorKind, INLINE_BYTES_MAX, Uid};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use serde_json::Value;
use temporalio_common::{ActivityDefinition, error::ApplicationFailure};
use temporalio_sdk::activities::{
    ActivityContext, ActivityDefinitions, ActivityError, ActivityImplementer, ExecutableActivity,
};
use tokio::time::{Instant, sleep};

use crate::{
    contents,
    worker::{Shared, Tasks},
    workflow::wire::{ActivityArgs, NOT_BEGUN, REPORT_ACTIVITY, ReportArgs, ReportResult},
};

/// Heartbeats within one heartbeat timeout.
const HEARTBEATS: u32 = 3;
/// First and longest pause before the ledger is asked again.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long the ledger is asked for a task before the activity is given back as not begun.
const TASK_TIME_MAX: Duration = Duration::from_secs(20);

/// Longest text in a fault; data beside it goes by reference where it is long.
const FAULT_CHARS_MAX: usize = 64 * 1024;

/// What runs a worker's activities.
pub(crate) struct Performer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Arc<Tasks>,
    /// Every name under which a Program may ask for one.
    pub(crate) names: Vec<String>,
}

thread_local! {
    /// The name of the activity that is being registered.
    static REGISTERED: RefCell<String> = const { RefCell::new(String::new()) };
}

impl ActivityImplementer for Performer {
    fn register_all(self: Arc<Self>, defs: &mut ActivityDefinitions) {
        for name in &self.names {
            REGISTERED.set(name.clone());
            defs.register_activity::<Performed>(Arc::clone(&self));
        }
        defs.register_activity::<Reporting>(self);
    }
}

/// An activity that a Program asks for. The SDK takes the name under which a type is registered from the type alone, and all
/// of these are of one type: the name is handed over beside it.
struct Performed(String);

impl ActivityDefinition for Performed {
    type Input = ActivityArgs;
    type Output = Value;

    fn name(&self) -> &str {
        &self.0
    }
}

impl ExecutableActivity for Performed {
    type Implementer = Performer;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self(REGISTERED.with_borrow(Clone::clone))
    }

    fn execute(
        performer: Option<Arc<Performer>>,
        ctx: ActivityContext,
        args: ActivityArgs,
    ) -> BoxFuture<'static, Result<Value, ActivityError>> {
        async move {
            let performer = performer.expect("it is registered with its instance");
            performer.tasks.count();
            let begun = AtomicBool::new(false);
            let mut give_up = performer.shared.give_up.clone();
            tokio::select! {
                result = performer.perform(&args, &begun) => result,
                () = ctx.cancelled() => Err(ActivityError::cancelled()),
                () = heartbeats(&ctx) => Err(stopped(&begun)),
                _ = give_up.wait_for(|give_up| *give_up) => Err(stopped(&begun)),
            }
        }
        .boxed()
    }
}

/// The local activity that reports a step.
struct Reporting;

impl ActivityDefinition for Reporting {
    type Input = ReportArgs;
    type Output = Value;

    fn name(&self) -> &'static str {
        REPORT_ACTIVITY
    }
}

impl ExecutableActivity for Reporting {
    type Implementer = Performer;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self
    }

    fn execute(
        performer: Option<Arc<Performer>>,
        _: ActivityContext,
        args: ReportArgs,
    ) -> BoxFuture<'static, Result<Value, ActivityError>> {
        async move {
            let performer = performer.expect("it is registered with its instance");
            performer.tasks.count();
            performer.report(args).await
        }
        .boxed()
    }
}

impl Performer {
    async fn perform(&self, args: &ActivityArgs, begun: &AtomicBool) -> Result<Value, ActivityError> {
        if let Some(why) = self.shared.stranger(&args.installation) {
            return Err(failure(Some(NOT_BEGUN), why));
        }
        let Some(task) = self.task(args).await? else { return Ok(Value::Null) };
        begun.store(true, Ordering::Relaxed);
        let id = args.id();
        let input = match perform(self.shared.activities.as_ref(), task).await {
            Ok(output) => Input::ActivityCompleted { id, output },
            Err(fault) => Input::ActivityFailed { id, fault: bounded(fault) },
        };
        let mut long = Vec::new();
        let inline_bytes_max = args.inline_bytes_max.map_or(INLINE_BYTES_MAX, |max| max as usize);
        let event = HistoryEvent { number: 0, time_ms: 0, kind: HistoryEventKind::Input(input) };
        let event = encode_event_within(&event, inline_bytes_max, &mut long);
        for (_, content) in long {
            if !self.keep(args.execution, content.into()).await {
                return Ok(Value::Null);
            }
        }
        serde_json::to_value(event).map_err(|error| failure(None, error))
    }

    /// What is to be run; nothing if it is not wanted any more.
    async fn task(&self, args: &ActivityArgs) -> Result<Option<HostedTask>, ActivityError> {
        let begun = Instant::now();
        let mut pause = AGAIN_AFTER.0;
        loop {
            match self.shared.ledger.task(args.execution, args.id()).await {
                Ok(task) => return Ok(task),
                Err(error) if begun.elapsed() + pause > TASK_TIME_MAX => {
                    return Err(failure(Some(NOT_BEGUN), chain(&error)));
                }
                Err(error) => {
                    tracing::warn!(execution_id = %args.execution, position = args.position, %error, "an activity's task cannot be read now; trying again");
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AFTER.1);
        }
    }

    /// Keeps long content with the ledger, for as long as it takes. `false` if the execution is gone.
    async fn keep(&self, execution: Uid, content: Bytes) -> bool {
        let mut pause = AGAIN_AFTER.0;
        loop {
            match self.shared.ledger.keep(execution, content.clone()).await {
                Ok(digest) => {
                    self.shared.contents.put(digest, content);
                    return true;
                }
                Err(error) if error.kind == ErrorKind::NotFound => return false,
                Err(error) => {
                    tracing::warn!(execution_id = %execution, %error, "a long result cannot be kept now; trying again");
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AFTER.1);
        }
    }

    async fn report(&self, args: ReportArgs) -> Result<Value, ActivityError> {
        let shared = &self.shared;
        let report = args.into_report().map_err(|why| failure(None, why))?;
        let reported = shared.ledger.report(report).await.map_err(|error| failure(None, chain(&error)))?;
        if let Reported::Taken { state: Some(state) } | Reported::Diverged { state } = &reported
            && shared.contents.kept(state).is_none()
        {
            // The workflow is about to ask for it, and may not wait.
            let content = contents::fetch(shared.ledger.as_ref(), *state).await.map_err(|why| failure(None, why))?;
            shared.contents.put(*state, content);
        }
        let result = ReportResult {
            answer: reported.into(),
            continue_as_new_events: shared.limits.continue_as_new_events,
            continue_as_new_bytes: Some(shared.limits.continue_as_new_bytes),
            in_flight_max: Some(shared.limits.in_flight_max),
        };
        serde_json::to_value(result).map_err(|error| failure(None, error))
    }
}

/// A fault whose words are not longer than Temporal takes: one that it refuses would have the activity repeated for ever.
fn bounded(mut fault: Fault) -> Fault {
    for text in [&mut fault.title, &mut fault.detail, &mut fault.instance].into_iter().flatten() {
        if let Some((end, _)) = text.char_indices().nth(FAULT_CHARS_MAX) {
            text.truncate(end);
        }
    }
    fault
}

/// Tells Temporal that the activity is at work; ends only if that cannot be said.
async fn heartbeats(ctx: &ActivityContext) {
    let timeout = ctx.info().heartbeat_timeout.unwrap_or(Duration::from_secs(30));
    loop {
        if let Err(error) = ctx.record_heartbeat(Value::Null).await {
            tracing::error!(%error, "a heartbeat cannot be written");
            return;
        }
        sleep(timeout / HEARTBEATS).await;
    }
}

/// Given back: what may be repeated runs elsewhere at once.
fn stopped(begun: &AtomicBool) -> ActivityError {
    failure((!begun.load(Ordering::Relaxed)).then_some(NOT_BEGUN), "the worker stops")
}

fn failure(kind: Option<&str>, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ActivityError {
    ApplicationFailure::builder(why).maybe_type_name(kind.map(str::to_owned)).build().into()
}
