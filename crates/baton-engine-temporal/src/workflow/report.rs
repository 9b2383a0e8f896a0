//! Reporting a step: until the ledger has answered, however long that takes.

use std::{future::poll_fn, task::Poll, time::Duration};

use baton_engine::Step;
use baton_proto::encode_event_within;
use baton_types::{Digest, INLINE_BYTES_MAX};
use futures::future::FutureExt as _;
use temporalio_common::{RetryPolicy, UntypedActivity};
use temporalio_sdk::{LocalActivityOptions, TimerOptions, WorkflowCancellationToken};

use super::{
    drive::{Driver, Marks},
    wire::{self, REPORT_ACTIVITY, ReportAnswer, ReportArgs, ReportResult},
};

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

/// Data that all events of a report hold together, at most; what is longer goes beside them.
const REPORT_INLINE_BYTES: usize = 8 * 1024 * 1024;
/// Data that one event holds in any case.
const INLINE_BYTES_MIN: usize = 256;

impl Driver {
    /// The ledger's state of the execution; nothing if it is closed.
    pub(super) async fn state_of_ledger(&self) -> Result<Option<Digest>, String> {
        match self.report(&Step::default(), true).await? {
            ReportAnswer::Taken { state: Some(state) } | ReportAnswer::Diverged { state } => Ok(Some(state)),
            ReportAnswer::Taken { state: None } => Err("the ledger gave no state".to_owned()),
            ReportAnswer::Closed => Ok(None),
        }
    }

    /// Reports until the ledger has answered.
    pub(super) async fn report(&self, step: &Step, want_state: bool) -> Result<ReportAnswer, String> {
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
                    self.marks.set(Marks::of(&result));
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
        // What many events hold inline would be more than one message takes.
        let inline_bytes_max =
            (REPORT_INLINE_BYTES / step.events.len().max(1)).clamp(INLINE_BYTES_MIN, INLINE_BYTES_MAX);
        let mut contents = Vec::new();
        let events =
            step.events.iter().map(|event| encode_event_within(event, inline_bytes_max, &mut contents)).collect();
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
}
