//! Calls of Temporal's WorkflowService: one try each, with an end, and with refusals in words of ours.
//!
//! # Deliberately absent
//! No retries: whoever calls knows whether and when to try again, and most keep what they want to say in an outbox.

use std::{fmt, future::Future};

use futures::future::BoxFuture;
use temporalio_client::{
    grpc::WorkflowService,
    tonic::{Code, Request, Response, Status},
};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeActivityExecutionRequest, DescribeActivityExecutionResponse, DescribeNamespaceRequest,
    DescribeNamespaceResponse, DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryReverseRequest, GetWorkflowExecutionHistoryReverseResponse,
    RecordActivityTaskHeartbeatRequest, RecordActivityTaskHeartbeatResponse, RespondActivityTaskCanceledRequest,
    RespondActivityTaskCompletedRequest, RespondActivityTaskFailedRequest,
};
use tokio::time::timeout;

use crate::connect::{Connection, words};

/// Longest text of Temporal's that is passed on.
const TEXT_CHARS_MAX: usize = 400;

/// Why Temporal did not do as it was told.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// Its code; `Unavailable` if there is no connection.
    pub(crate) code: Code,
    /// In its words.
    pub(crate) message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.message, self.code)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { code: status.code(), message: clipped(&words(&status)) }
    }
}

/// The beginning of a text that may be long.
pub(crate) fn clipped(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Temporal, as far as it can be reached.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    connection: Connection,
}

type Answer<T> = Result<T, Refusal>;

impl Rpc {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Who we say that we are.
    pub(crate) fn identity(&self) -> String {
        self.connection.options().identity.clone()
    }

    async fn call<Q, A, F>(&self, request: Q, call: F) -> Answer<A>
    where
        F: for<'s> FnOnce(&'s mut Box<dyn WorkflowService>, Request<Q>) -> BoxFuture<'s, Result<Response<A>, Status>>,
    {
        let Some(client) = self.connection.client() else {
            let message = self.connection.problem().unwrap_or_else(|| "not connected to Temporal".to_owned());
            return Err(Refusal { code: Code::Unavailable, message });
        };
        let mut service = client.connection().workflow_service();
        let longest = self.connection.options().rpc_timeout;
        let mut request = Request::new(request);
        request.set_timeout(longest);
        // The channel's own limit does not count the time in which it finds its way back.
        ended(longest, call(&mut service, request)).await
    }

    pub(crate) async fn describe_namespace(
        &self,
        request: DescribeNamespaceRequest,
    ) -> Answer<DescribeNamespaceResponse> {
        self.call(request, |service, request| service.describe_namespace(request)).await
    }

    pub(crate) async fn describe_workflow(
        &self,
        request: DescribeWorkflowExecutionRequest,
    ) -> Answer<DescribeWorkflowExecutionResponse> {
        self.call(request, |service, request| service.describe_workflow_execution(request)).await
    }

    pub(crate) async fn describe_activity(
        &self,
        request: DescribeActivityExecutionRequest,
    ) -> Answer<DescribeActivityExecutionResponse> {
        self.call(request, |service, request| service.describe_activity_execution(request)).await
    }

    pub(crate) async fn history_from_its_end(
        &self,
        request: GetWorkflowExecutionHistoryReverseRequest,
    ) -> Answer<GetWorkflowExecutionHistoryReverseResponse> {
        self.call(request, |service, request| service.get_workflow_execution_history_reverse(request)).await
    }

    pub(crate) async fn heartbeat(
        &self,
        request: RecordActivityTaskHeartbeatRequest,
    ) -> Answer<RecordActivityTaskHeartbeatResponse> {
        self.call(request, |service, request| service.record_activity_task_heartbeat(request)).await
    }

    pub(crate) async fn complete(&self, request: RespondActivityTaskCompletedRequest) -> Answer<()> {
        self.call(request, |service, request| service.respond_activity_task_completed(request)).await.map(|_| ())
    }

    pub(crate) async fn fail(&self, request: RespondActivityTaskFailedRequest) -> Answer<()> {
        self.call(request, |service, request| service.respond_activity_task_failed(request)).await.map(|_| ())
    }

    pub(crate) async fn cancelled(&self, request: RespondActivityTaskCanceledRequest) -> Answer<()> {
        self.call(request, |service, request| service.respond_activity_task_canceled(request)).await.map(|_| ())
    }
}

async fn ended<A>(longest: std::time::Duration, call: impl Future<Output = Result<Response<A>, Status>>) -> Answer<A> {
    let late = |_| {
        let message = format!("Temporal did not answer within {} ms", longest.as_millis());
        Refusal { code: Code::DeadlineExceeded, message }
    };
    let answer = timeout(longest, call).await.map_err(late)?;
    answer.map(Response::into_inner).map_err(Refusal::from)
}
