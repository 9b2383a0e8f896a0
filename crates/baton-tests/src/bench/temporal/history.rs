//! What Temporal recorded of Baton's executions: counted in their histories, not guessed.

use anyhow::Context;
use baton_proto::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::history::v1::{HistoryEvent, history_event::Attributes};

use super::callers::{Desk, Via};
use crate::site::Site;

/// Events of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Workflow tasks that a worker was given: each is a round trip of the execution's.
    pub(crate) workflow_tasks: usize,
    /// Activities, timers, signals, updates and children.
    pub(crate) others: usize,
}

impl Counts {
    fn add(&mut self, event: &HistoryEvent) {
        match &event.attributes {
            Some(Attributes::WorkflowTaskStartedEventAttributes(_)) => self.workflow_tasks += 1,
            Some(
                Attributes::ActivityTaskScheduledEventAttributes(_)
                | Attributes::TimerStartedEventAttributes(_)
                | Attributes::WorkflowExecutionSignaledEventAttributes(_)
                | Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(_)
                | Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(_),
            ) => self.others += 1,
            _ => {}
        }
    }

    fn most(self, other: Self) -> Self {
        Self { workflow_tasks: self.workflow_tasks.max(other.workflow_tasks), others: self.others.max(other.others) }
    }
}

/// The most that was found in any of some handshakes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handshakes {
    /// In the execution's history, before the answer stands in its caller's.
    pub(crate) before_answer: Counts,
    /// In the execution's whole history.
    pub(crate) whole: Counts,
}

/// Lets callers call executions on Temporal, one after the other, and reads both histories of each.
pub(crate) async fn count(desk: &Desk, site: &Site, handshakes: usize) -> anyhow::Result<Handshakes> {
    let mut most = Handshakes::default();
    for _ in 0..handshakes {
        let name = desk.call(Via::Temporal).await?;
        let caller = desk.history(&name).await?;
        let answered = caller
            .iter()
            .find(|event| matches!(event.attributes, Some(Attributes::ActivityTaskCompletedEventAttributes(_))))
            .map(time)
            .context("a caller's history has no answer")?;
        let execution: WorkflowExecution = site.app().get("default", &name).await?;
        let workflow_id = execution.status.unwrap_or_default().temporal_workflow_id;
        let history = desk.history(&workflow_id).await?;
        let (mut before_answer, mut whole) = (Counts::default(), Counts::default());
        for event in &history {
            whole.add(event);
            if time(event) <= answered {
                before_answer.add(event);
            }
        }
        most.before_answer = most.before_answer.most(before_answer);
        most.whole = most.whole.most(whole);
    }
    Ok(most)
}

/// Of Temporal's one clock.
fn time(event: &HistoryEvent) -> (i64, i32) {
    event.event_time.as_ref().map_or((0, 0), |time| (time.seconds, time.nanos))
}
