//! What Temporal knows of a workflow.

use baton_engine::HostError;
use prost::Message as _;
use temporalio_client::tonic::Code;
use temporalio_common::protos::temporal::api::{
    common::v1::WorkflowExecution,
    enums::v1::{HistoryEventFilterType, WorkflowExecutionStatus},
    history::v1::{History, history_event::Attributes as Event},
    workflowservice::v1::{DescribeWorkflowExecutionRequest, GetWorkflowExecutionHistoryRequest},
};

use super::{TemporalHost, is_about_namespace, refused, unavailable};
use crate::rpc::clipped;

impl TemporalHost {
    /// Status and run of a workflow; nothing if there is none.
    pub(super) async fn describe(
        &self,
        workflow_id: &str,
    ) -> Result<Option<(WorkflowExecutionStatus, String)>, HostError> {
        let request = DescribeWorkflowExecutionRequest {
            namespace: self.namespace(),
            execution: Some(Self::execution(workflow_id)),
        };
        match self.call(request, |service, request| service.describe_workflow_execution(request)).await {
            Ok(description) => {
                let info = description.workflow_execution_info.unwrap_or_default();
                Ok(Some((info.status(), info.execution.unwrap_or_default().run_id)))
            }
            Err(status) if status.code() == Code::NotFound && !is_about_namespace(&status) => Ok(None),
            Err(status) => Err(unavailable(&status)),
        }
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
