//! What Temporal knows of a workflow.

use std::time::{Duration, UNIX_EPOCH};

use baton_engine::HostError;
use prost::Message as _;
use temporalio_client::tonic::Code;
use temporalio_common::protos::temporal::api::{
    common::v1::WorkflowExecution,
    enums::v1::{HistoryEventFilterType, PendingWorkflowTaskState, TaskQueueType, WorkflowExecutionStatus},
    history::v1::{History, history_event::Attributes as Event},
    taskqueue::v1::TaskQueue,
    workflow::v1::PendingWorkflowTaskInfo,
    workflowservice::v1::{
        DescribeTaskQueueRequest, DescribeWorkflowExecutionRequest, GetWorkflowExecutionHistoryRequest,
        GetWorkflowExecutionHistoryReverseRequest,
    },
};

use super::{TemporalHost, is_about_namespace, refused, unavailable};
use crate::rpc::clipped;

/// What is known of a workflow.
pub(super) struct Described {
    pub(super) status: WorkflowExecutionStatus,
    pub(super) run_id: String,
    task: Option<PendingWorkflowTaskInfo>,
}

/// When a workflow is said not to get on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TroubleMarks {
    /// Attempts of its task; more are trouble.
    pub attempts: i32,
    /// How long its task may lie there while nobody polls for it.
    pub not_taken: Duration,
}

impl Default for TroubleMarks {
    fn default() -> Self {
        Self { attempts: 5, not_taken: Duration::from_secs(30) }
    }
}

/// A worker asks for a minute at a time: one that has not asked for longer is gone.
const POLLED_WITHIN: Duration = Duration::from_secs(90);
/// Events from the end of a history in which the last failure of its task stands, if it stands anywhere.
const LAST_EVENTS: i32 = 10;

/// Time since a moment of Temporal's, given in seconds since 1970.
fn since(moment: Option<i64>) -> Duration {
    let moment = moment.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    moment.and_then(|moment| (UNIX_EPOCH + moment).elapsed().ok()).unwrap_or_default()
}

impl TemporalHost {
    /// Status and run of a workflow; nothing if there is none.
    pub(super) async fn describe(&self, workflow_id: &str) -> Result<Option<Described>, HostError> {
        let request = DescribeWorkflowExecutionRequest {
            namespace: self.namespace(),
            execution: Some(Self::execution(workflow_id)),
        };
        match self.call(request, |service, request| service.describe_workflow_execution(request)).await {
            Ok(description) => {
                let info = description.workflow_execution_info.unwrap_or_default();
                let status = info.status();
                let run_id = info.execution.unwrap_or_default().run_id;
                Ok(Some(Described { status, run_id, task: description.pending_workflow_task }))
            }
            Err(status) if status.code() == Code::NotFound && !is_about_namespace(&status) => Ok(None),
            Err(status) => Err(unavailable(&status)),
        }
    }

    /// Why a workflow that runs does not get on, as far as that is to be seen.
    pub(super) async fn trouble(&self, workflow_id: &str, described: &Described) -> Option<String> {
        let task = described.task.as_ref()?;
        if task.attempt > self.marks.attempts {
            let tried = format!("its workflow task has been tried {} times in vain", task.attempt);
            return Some(match self.last_failure(workflow_id, &described.run_id).await {
                Some(why) => format!("{tried}: {why}"),
                None => tried,
            });
        }
        let waits = task.state() == PendingWorkflowTaskState::Scheduled
            && since(task.scheduled_time.as_ref().map(|it| it.seconds)) >= self.marks.not_taken;
        (waits && !self.is_polled().await?)
            .then(|| format!("no worker polls the task queue '{}'; start one with baton worker", self.task_queue))
    }

    /// Why the task of a run failed last, in the worker's words.
    async fn last_failure(&self, workflow_id: &str, run_id: &str) -> Option<String> {
        let request = GetWorkflowExecutionHistoryReverseRequest {
            namespace: self.namespace(),
            execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() }),
            maximum_page_size: LAST_EVENTS,
            ..GetWorkflowExecutionHistoryReverseRequest::default()
        };
        let answer =
            self.call(request, |service, request| service.get_workflow_execution_history_reverse(request)).await;
        answer.ok()?.history?.events.into_iter().find_map(|event| match event.attributes {
            Some(Event::WorkflowTaskFailedEventAttributes(it)) => Some(clipped(&it.failure?.message)),
            _ => None,
        })
    }

    /// Whether a worker asks for work; nothing if Temporal does not say.
    async fn is_polled(&self) -> Option<bool> {
        let request = DescribeTaskQueueRequest {
            namespace: self.namespace(),
            task_queue: Some(TaskQueue { name: self.task_queue.clone(), ..TaskQueue::default() }),
            task_queue_type: TaskQueueType::Workflow.into(),
            ..DescribeTaskQueueRequest::default()
        };
        let answer = self.call(request, |service, request| service.describe_task_queue(request)).await.ok()?;
        Some(
            answer
                .pollers
                .iter()
                .any(|poller| since(poller.last_access_time.as_ref().map(|it| it.seconds)) < POLLED_WITHIN),
        )
    }

    /// Why a run ended, in Temporal's words.
    pub(super) async fn closing_words(&self, workflow_id: &str, run_id: String) -> Result<String, HostError> {
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: self.namespace(),
            execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id }),
            history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
            ..GetWorkflowExecutionHistoryRequest::default()
        };
        let answer = self
            .call(request, |service, request| service.get_workflow_execution_history(request))
            .await
            .map_err(|status| unavailable(&status))?;
        let last = answer.history.unwrap_or_default().events.pop().and_then(|event| event.attributes);
        Ok(clipped(&match last {
            Some(Event::WorkflowExecutionTerminatedEventAttributes(it)) => it.reason,
            Some(Event::WorkflowExecutionFailedEventAttributes(it)) => it.failure.unwrap_or_default().message,
            _ => String::new(),
        }))
    }

    /// The history of a workflow, of its present run if none is named, as [`replay_history`](crate::replay_history) takes it:
    /// the protobuf message `temporal.api.history.v1.History`.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn history(&self, workflow_id: &str, run_id: Option<&str>) -> Result<Vec<u8>, HostError> {
        let run_id = run_id.unwrap_or_default().to_owned();
        let mut request = GetWorkflowExecutionHistoryRequest {
            namespace: self.namespace(),
            execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id }),
            ..GetWorkflowExecutionHistoryRequest::default()
        };
        let mut events = Vec::new();
        loop {
            let page = self
                .call(request.clone(), |service, request| service.get_workflow_execution_history(request))
                .await
                .map_err(|status| refused(&status))?;
            events.extend(page.history.unwrap_or_default().events);
            if page.next_page_token.is_empty() {
                return Ok(History { events }.encode_to_vec());
            }
            request.next_page_token = page.next_page_token;
        }
    }
}
