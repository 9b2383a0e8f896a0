//! Temporal as the host of executions: starts a workflow for each, and passes on what the engine has for it.
//!
//! # Invariants
//! - A workflow's id comes from the execution, and no id is used twice: a start that is repeated finds what the first one
//!   made.
//! - Every call has a deadline. Nothing here tries again: the engine's outbox does.
//!
//! - An execution has the search attributes only if the namespace took them at its start; the memo always.
//!
//! # Deliberately absent
//! The workflow itself, and any polling: workers run elsewhere, or not at all for a while.
//!
//! # Failure
//! A workflow that is not there, or has ended, is [`HostError::Gone`]; everything else passes.

mod attributes;
mod reading;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use baton_engine::{Host, HostEnding, HostError, HostState, HostedInput, HostedRun, HostedStart};
use baton_types::{Digest, Uid};
use futures::future::BoxFuture;
use prost::Message as _;
use serde::Serialize;
use temporalio_client::{
    grpc::WorkflowService,
    tonic::{Code, Request, Response, Status},
};
use temporalio_common::protos::{
    google,
    temporal::api::{
        common::v1::{Memo, Payload, Payloads, SearchAttributes, WorkflowExecution, WorkflowType},
        enums::v1::{UpdateWorkflowExecutionLifecycleStage, WorkflowExecutionStatus, WorkflowIdReusePolicy},
        taskqueue::v1::TaskQueue,
        update::v1::{Input as UpdateInput, Meta, Request as UpdateRequest, WaitPolicy, outcome},
        workflowservice::v1::{
            DescribeNamespaceRequest, ListWorkflowExecutionsRequest, RequestCancelWorkflowExecutionRequest,
            SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
            UpdateWorkflowExecutionRequest,
        },
    },
};

use self::attributes::is_about_attributes;
pub use self::attributes::{
    KIND_ATTRIBUTE, NAME_ATTRIBUTE, NAMESPACE_ATTRIBUTE, PHASE_ATTRIBUTE, register_search_attributes,
};
pub use self::reading::TroubleMarks;
use crate::{
    connect::Connection,
    rpc::clipped,
    workflow::wire::{INPUT_SIGNAL, SUSPEND_UPDATE, Suspend, WORKFLOW_TYPE, WorkflowInput, payload},
};

/// How long executions are started without search attributes once they were refused: new ones are known after a while only.
const WITHOUT_ATTRIBUTES: Duration = Duration::from_mins(1);
/// What the ids of our workflows begin with.
const WORKFLOW_ID_PREFIX: &str = "baton/";
/// Workflows of one page of a list, and pages that are read at most.
const LIST_PAGE: (i32, usize) = (1000, 20);
/// Time beyond its own that an execution gets before Temporal ends its workflow.
const LAST_RESORT: Duration = Duration::from_hours(1);

/// Temporal, as far as it can be reached.
pub struct TemporalHost {
    connection: Connection,
    task_queue: String,
    attributes: Mutex<Attributes>,
    marks: TroubleMarks,
}

/// Whether the namespace has the search attributes.
#[derive(Clone, Copy, Debug)]
enum Attributes {
    Unknown,
    There,
    /// Not before this time.
    NotYet(Instant),
}

impl TemporalHost {
    /// A host whose workflows are run by the workers of a task queue. The namespace is that of the connection.
    pub fn new(connection: Connection, task_queue: impl Into<String>) -> Self {
        let attributes = Mutex::new(Attributes::Unknown);
        Self { connection, task_queue: task_queue.into(), attributes, marks: TroubleMarks::default() }
    }

    /// The same, with other marks of trouble.
    #[must_use]
    pub fn with_trouble_marks(self, marks: TroubleMarks) -> Self {
        Self { marks, ..self }
    }

    fn namespace(&self) -> String {
        self.connection.options().namespace.clone()
    }

    fn identity(&self) -> String {
        self.connection.options().identity.clone()
    }

    /// Whether executions can have search attributes; makes them when it is asked first.
    async fn has_attributes(&self) -> bool {
        match *self.attributes.lock().unwrap_or_else(PoisonError::into_inner) {
            Attributes::There => return true,
            Attributes::NotYet(until) if Instant::now() < until => return false,
            Attributes::NotYet(_) | Attributes::Unknown => {}
        }
        let Some(client) = self.connection.client() else { return false };
        let there = register_search_attributes(&client, &self.namespace()).await;
        self.note_attributes(there);
        there
    }

    fn note_attributes(&self, there: bool) {
        let now = if there { Attributes::There } else { Attributes::NotYet(Instant::now() + WITHOUT_ATTRIBUTES) };
        *self.attributes.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn execution(workflow_id: &str) -> WorkflowExecution {
        WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: String::new() }
    }

    fn start_request(&self, start: &HostedStart, with_attributes: bool) -> StartWorkflowExecutionRequest {
        let kind = start.kind.execution_kind();
        let phase = if start.suspended { "Suspended" } else { "Running" };
        let memo = [
            ("kind", payload(&kind)),
            ("namespace", payload(&start.namespace)),
            ("name", payload(&start.name)),
            ("uid", payload(&start.uid)),
        ];
        let attributes = [
            (KIND_ATTRIBUTE, keyword(kind)),
            (NAMESPACE_ATTRIBUTE, keyword(&start.namespace)),
            (NAME_ATTRIBUTE, keyword(&start.name)),
            (PHASE_ATTRIBUTE, keyword(phase)),
        ];
        StartWorkflowExecutionRequest {
            namespace: self.namespace(),
            workflow_id: workflow_id(start),
            workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.to_owned() }),
            task_queue: Some(TaskQueue { name: self.task_queue.clone(), ..TaskQueue::default() }),
            input: Some(payloads(&WorkflowInput::new(start, with_attributes))),
            workflow_execution_timeout: start.deadline_ms.and_then(last_resort),
            identity: self.identity(),
            request_id: start.uid.to_string(),
            workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
            memo: Some(Memo { fields: by_name(memo) }),
            search_attributes: with_attributes.then(|| SearchAttributes { indexed_fields: by_name(attributes) }),
            ..StartWorkflowExecutionRequest::default()
        }
    }

    async fn signal(&self, workflow_id: &str, input: &impl Serialize) -> Result<(), HostError> {
        let input = payload(input);
        let request = SignalWorkflowExecutionRequest {
            namespace: self.namespace(),
            workflow_execution: Some(Self::execution(workflow_id)),
            signal_name: INPUT_SIGNAL.to_owned(),
            identity: self.identity(),
            // The same again is not even recorded.
            request_id: Digest::of(&input.data).to_string(),
            input: Some(Payloads { payloads: vec![input] }),
            ..SignalWorkflowExecutionRequest::default()
        };
        self.call(request, |service, request| service.signal_workflow_execution(request))
            .await
            .map_err(|status| refused(&status))?;
        Ok(())
    }

    async fn update(&self, workflow_id: &str, suspend: Suspend) -> Result<(), HostError> {
        let meta = Meta { update_id: format!("{SUSPEND_UPDATE}-{}", suspend.generation), identity: self.identity() };
        let input = UpdateInput { header: None, name: SUSPEND_UPDATE.to_owned(), args: Some(payloads(&suspend)) };
        let request = UpdateWorkflowExecutionRequest {
            namespace: self.namespace(),
            workflow_execution: Some(Self::execution(workflow_id)),
            wait_policy: Some(WaitPolicy { lifecycle_stage: UpdateWorkflowExecutionLifecycleStage::Completed.into() }),
            request: Some(UpdateRequest { meta: Some(meta), input: Some(input), ..UpdateRequest::default() }),
            ..UpdateWorkflowExecutionRequest::default()
        };
        let updated = self
            .call(request, |service, request| service.update_workflow_execution(request))
            .await
            .map_err(|status| refused(&status))?;
        match updated.outcome.and_then(|outcome| outcome.value) {
            Some(outcome::Value::Success(_)) => Ok(()),
            Some(outcome::Value::Failure(failure)) => Err(HostError::Unavailable(clipped(&failure.message))),
            None => Err(HostError::Unavailable("no worker has taken the change of suspension yet".to_owned())),
        }
    }

    async fn cancel(&self, workflow_id: &str, reason: String) -> Result<(), HostError> {
        let request = RequestCancelWorkflowExecutionRequest {
            namespace: self.namespace(),
            workflow_execution: Some(Self::execution(workflow_id)),
            identity: self.identity(),
            request_id: Digest::of(workflow_id.as_bytes()).to_string(),
            reason,
            ..RequestCancelWorkflowExecutionRequest::default()
        };
        match self.call(request, |service, request| service.request_cancel_workflow_execution(request)).await {
            Ok(_) => {}
            // Somebody asked before.
            Err(status) if status.code() == Code::AlreadyExists => {}
            Err(status) => return Err(refused(&status)),
        }
        // Temporal takes the request for a workflow that has ended, too.
        match self.state(workflow_id).await? {
            HostState::Running { .. } | HostState::Ended { how: HostEnding::Cancelled, .. } => Ok(()),
            HostState::Ended { .. } => Err(HostError::Gone("the workflow has ended".to_owned())),
            HostState::Unknown => Err(HostError::Gone("the workflow is not there any more".to_owned())),
        }
    }

    async fn terminate(&self, workflow_id: &str, reason: String) -> Result<(), HostError> {
        let request = TerminateWorkflowExecutionRequest {
            namespace: self.namespace(),
            workflow_execution: Some(Self::execution(workflow_id)),
            identity: self.identity(),
            reason,
            ..TerminateWorkflowExecutionRequest::default()
        };
        self.call(request, |service, request| service.terminate_workflow_execution(request))
            .await
            .map_err(|status| refused(&status))?;
        Ok(())
    }

    async fn call<Q, A>(
        &self,
        request: Q,
        send: impl for<'a> FnOnce(&'a mut dyn WorkflowService, Request<Q>) -> BoxFuture<'a, Result<Response<A>, Status>>,
    ) -> Result<A, Status> {
        let Some(client) = self.connection.client() else {
            return Err(Status::unavailable(self.connection.problem().unwrap_or_default()));
        };
        let mut service = client.connection().workflow_service();
        let mut request = Request::new(request);
        let longest = self.connection.options().rpc_timeout;
        request.set_timeout(longest);
        match tokio::time::timeout(longest, send(service.as_mut(), request)).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_elapsed) => Err(Status::deadline_exceeded(format!("no answer within {} ms", longest.as_millis()))),
        }
    }
}

#[async_trait]
impl Host for TemporalHost {
    async fn start(&self, start: HostedStart) -> Result<HostedRun, HostError> {
        let id = workflow_id(&start);
        let with_attributes = self.has_attributes().await;
        let send = |request| self.call(request, |service, request| service.start_workflow_execution(request));
        let mut started = send(self.start_request(&start, with_attributes)).await;
        if with_attributes && started.as_ref().is_err_and(is_about_attributes) {
            tracing::warn!("the Temporal namespace does not know the search attributes (yet); starting without them");
            self.note_attributes(false);
            started = send(self.start_request(&start, false)).await;
        }
        match started {
            Ok(answer) => Ok(HostedRun { workflow_id: id, run_id: answer.run_id }),
            Err(status) if status.code() == Code::AlreadyExists => match self.describe(&id).await? {
                Some(described) => Ok(HostedRun { workflow_id: id, run_id: described.run_id }),
                None => Err(unavailable(&status)),
            },
            Err(status) => Err(unavailable(&status)),
        }
    }

    async fn give(&self, workflow_id: &str, input: HostedInput) -> Result<(), HostError> {
        match input {
            HostedInput::Events(events) => self.signal(workflow_id, &events).await,
            HostedInput::Suspend { suspended, generation } => {
                self.update(workflow_id, Suspend { suspended, generation }).await
            }
            HostedInput::Cancel { reason } => self.cancel(workflow_id, reason).await,
            HostedInput::Terminate { reason } => self.terminate(workflow_id, reason).await,
        }
    }

    async fn state(&self, workflow_id: &str) -> Result<HostState, HostError> {
        let Some(described) = self.describe(workflow_id).await? else { return Ok(HostState::Unknown) };
        let how = match described.status {
            WorkflowExecutionStatus::Unspecified
            | WorkflowExecutionStatus::Running
            | WorkflowExecutionStatus::Paused
            | WorkflowExecutionStatus::ContinuedAsNew => {
                let trouble = self.trouble(workflow_id, &described).await;
                return Ok(HostState::Running { run_id: described.run_id, trouble });
            }
            WorkflowExecutionStatus::Completed => HostEnding::Completed,
            WorkflowExecutionStatus::Failed => HostEnding::Failed,
            WorkflowExecutionStatus::Canceled => HostEnding::Cancelled,
            WorkflowExecutionStatus::Terminated => HostEnding::Terminated,
            WorkflowExecutionStatus::TimedOut => HostEnding::TimedOut,
        };
        let reason = self.closing_words(workflow_id, described.run_id).await?;
        Ok(HostState::Ended { how, reason })
    }

    async fn ended_since(&self, since_ms: i64) -> Result<Vec<Uid>, HostError> {
        let since = jiff::Timestamp::from_millisecond(since_ms).map_err(|error| {
            HostError::Unavailable(format!("{since_ms} ms is no time that Temporal knows: {error}"))
        })?;
        let query = format!(
            "WorkflowType = '{WORKFLOW_TYPE}' AND CloseTime >= '{since}' AND ExecutionStatus != 'ContinuedAsNew'"
        );
        let mut ended = Vec::new();
        let mut next_page_token = Vec::new();
        for _ in 0..LIST_PAGE.1 {
            let request = ListWorkflowExecutionsRequest {
                namespace: self.namespace(),
                page_size: LIST_PAGE.0,
                next_page_token,
                query: query.clone(),
            };
            let page = self
                .call(request, |service, request| service.list_workflow_executions(request))
                .await
                .map_err(|status| unavailable(&status))?;
            let uid = |execution: WorkflowExecution| execution.workflow_id.rsplit('/').next()?.parse::<Uid>().ok();
            ended.extend(page.executions.into_iter().filter_map(|info| info.execution.and_then(uid)));
            next_page_token = page.next_page_token;
            if next_page_token.is_empty() {
                break;
            }
        }
        Ok(ended)
    }

    async fn ready(&self) -> Result<(), HostError> {
        let request = DescribeNamespaceRequest { namespace: self.namespace(), ..DescribeNamespaceRequest::default() };
        self.call(request, |service, request| service.describe_namespace(request))
            .await
            .map_err(|status| unavailable(&status))?;
        Ok(())
    }
}

/// The id of an execution's workflow: `baton/<namespace>/<name>/<uid>`.
fn workflow_id(start: &HostedStart) -> String {
    format!("{WORKFLOW_ID_PREFIX}{}/{}/{}", start.namespace, start.name, start.uid)
}

/// Whether a workflow runs an execution of a Baton's, as its id says.
pub(crate) fn is_execution(workflow_id: &str) -> bool {
    workflow_id.starts_with(WORKFLOW_ID_PREFIX)
        && workflow_id.rsplit('/').next().is_some_and(|last| last.parse::<Uid>().is_ok())
}

fn by_name<const N: usize>(fields: [(&str, Payload); N]) -> HashMap<String, Payload> {
    fields.into_iter().map(|(name, payload)| (name.to_owned(), payload)).collect()
}

fn keyword(text: &str) -> Payload {
    let mut payload = payload(&text);
    payload.metadata.insert("type".to_owned(), b"Keyword".to_vec());
    payload
}

fn payloads(value: &impl Serialize) -> Payloads {
    Payloads { payloads: vec![payload(value)] }
}

/// The time after which Temporal itself ends a workflow that nobody ends.
fn last_resort<D: TryFrom<Duration>>(deadline_ms: i64) -> Option<D> {
    let deadline = Duration::from_millis(u64::try_from(deadline_ms).ok()?);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    deadline.saturating_sub(now).saturating_add(LAST_RESORT).try_into().ok()
}

/// Whether what was not found is the namespace, and not the workflow, whose id may have that word in it.
fn is_about_namespace(status: &Status) -> bool {
    let typed = google::rpc::Status::decode(status.details())
        .is_ok_and(|said| said.details.iter().any(|detail| detail.type_url.ends_with(".NamespaceNotFoundFailure")));
    typed || status.message().starts_with("Namespace ")
}

fn refused(status: &Status) -> HostError {
    if status.code() == Code::NotFound && !is_about_namespace(status) {
        HostError::Gone(clipped(status.message()))
    } else {
        unavailable(status)
    }
}

fn unavailable(status: &Status) -> HostError {
    let code = status.code();
    HostError::Unavailable(format!("Temporal answered {code:?}: {}", clipped(status.message())))
}
