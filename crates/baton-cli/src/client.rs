//! The API as the commands call it: the generated gRPC clients, alike for every kind.
//!
//! # Deliberately absent
//! Any rule of the API. What is refused is refused by the server, and told in its words.

mod rest;

use std::{error::Error as _, io, time::Duration};

use baton_proto::{
    Resource,
    v1::{
        self, agent_execution_service_client::AgentExecutionServiceClient, agent_service_client::AgentServiceClient,
        approval_service_client::ApprovalServiceClient, artifact_service_client::ArtifactServiceClient,
        callback_service_client::CallbackServiceClient, event_service_client::EventServiceClient,
        mcp_server_service_client::McpServerServiceClient, secret_service_client::SecretServiceClient,
        session_service_client::SessionServiceClient, skill_service_client::SkillServiceClient,
        workflow_execution_service_client::WorkflowExecutionServiceClient,
        workflow_service_client::WorkflowServiceClient,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use tonic::{
    Response, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    failure::Failure,
    kind::{Kind, Object, with_kind},
};

/// A resource holds at most 1 MiB, a page of them rather more.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// Time for an answer; the longest is that of `AwaitCallback`, 60 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that vanished without a word is noticed after this and as much again.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Objects asked for at once.
pub(crate) const PAGE_ITEMS: i32 = 250;

/// A connection to a server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Channel,
    address: String,
}

/// The answer to a write.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// As it is stored, or would be.
    pub(crate) object: Object,
    /// What the caller should hear although it went well.
    pub(crate) warnings: Vec<String>,
}

impl Written {
    fn of<R>(response: Response<R>) -> Self
    where
        Object: From<R>,
    {
        let warnings = response.metadata().get_bin("baton-warnings-bin").and_then(|warnings| warnings.to_bytes().ok());
        let warnings = warnings.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { object: response.into_inner().into(), warnings }
    }
}

/// What a list or watch is to cover.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Empty: all namespaces.
    pub(crate) namespace: String,
    pub(crate) labels: String,
    pub(crate) fields: String,
}

/// One change, as a watch tells it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
    pub(crate) what: String,
    pub(crate) object: Object,
}

/// What can be asked of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Cancel,
    Terminate,
    Suspend,
    Resume,
}

impl Client {
    /// Connects, so that a server that is not there is told at once.
    pub(crate) async fn connect(address: &str) -> Result<Self, Failure> {
        if address.starts_with("https://") {
            return Err(Failure::usage(format!(
                "--server '{address}': https is not offered in this version; allowed is http://HOST:PORT"
            )));
        }
        let endpoint = Endpoint::from_shared(address.to_owned())
            .ok()
            .filter(|endpoint| endpoint.uri().scheme_str() == Some("http") && endpoint.uri().authority().is_some())
            .ok_or_else(|| {
                Failure::usage(format!(
                    "--server '{address}' is not a URL; allowed is http://HOST:PORT, such as http://127.0.0.1:8377"
                ))
            })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .tcp_nodelay(true);
        match endpoint.connect().await {
            Ok(channel) => Ok(Self { channel, address: address.to_owned() }),
            Err(error) => Err(unreachable_server(address, &error)),
        }
    }

    /// URL of the server.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Creates an object; an execution that exists with the same name, request id and content is returned.
    pub(crate) async fn create(&self, object: Object, dry_run: bool) -> Result<Written, Failure> {
        let channel = self.channel.clone();
        Ok(match object {
            Object::Workflow(it) => Written::of(v1::Workflow::create(channel, *it, dry_run).await?),
            Object::WorkflowExecution(it) => {
                Written::of(Box::pin(v1::WorkflowExecution::create(channel, *it, dry_run)).await?)
            }
            Object::Agent(it) => Written::of(v1::Agent::create(channel, *it, dry_run).await?),
            Object::AgentExecution(it) => {
                Written::of(Box::pin(v1::AgentExecution::create(channel, *it, dry_run)).await?)
            }
            Object::Secret(it) => Written::of(v1::Secret::create(channel, *it, dry_run).await?),
            Object::McpServer(it) => Written::of(v1::McpServer::create(channel, *it, dry_run).await?),
            Object::Approval(it) => Written::of(v1::Approval::create(channel, *it, dry_run).await?),
            Object::Session(it) => Written::of(v1::Session::create(channel, *it, dry_run).await?),
            Object::Skill(it) => Written::of(v1::Skill::create(channel, *it, dry_run).await?),
            Object::Artifact(it) => Written::of(v1::Artifact::create(channel, *it, dry_run).await?),
        })
    }

    /// Replaces an object; `metadata.resourceVersion` says what it was read as.
    pub(crate) async fn update(&self, object: Object, dry_run: bool) -> Result<Written, Failure> {
        let channel = self.channel.clone();
        Ok(match object {
            Object::Workflow(it) => Written::of(v1::Workflow::update(channel, *it, dry_run).await?),
            Object::WorkflowExecution(it) => {
                Written::of(Box::pin(v1::WorkflowExecution::update(channel, *it, dry_run)).await?)
            }
            Object::Agent(it) => Written::of(v1::Agent::update(channel, *it, dry_run).await?),
            Object::AgentExecution(it) => {
                Written::of(Box::pin(v1::AgentExecution::update(channel, *it, dry_run)).await?)
            }
            Object::Secret(it) => Written::of(v1::Secret::update(channel, *it, dry_run).await?),
            Object::McpServer(it) => Written::of(v1::McpServer::update(channel, *it, dry_run).await?),
            Object::Approval(it) => Written::of(v1::Approval::update(channel, *it, dry_run).await?),
            Object::Session(it) => Written::of(v1::Session::update(channel, *it, dry_run).await?),
            Object::Skill(it) => Written::of(v1::Skill::update(channel, *it, dry_run).await?),
            Object::Artifact(it) => Written::of(v1::Artifact::update(channel, *it, dry_run).await?),
        })
    }

    /// Reads one object.
    pub(crate) async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Object, Failure> {
        let request = v1::GetRequest { namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(with_kind!(kind, K => K::read(self.channel.clone(), request).await?.into()))
    }

    /// Reads one object, or `None` if there is none.
    pub(crate) async fn find(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Object>, Failure> {
        match self.get(kind, namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(failure) if failure.code() == Some(tonic::Code::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Reads an execution.
    pub(crate) async fn execution(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<baton_proto::ExecutionResource, Failure> {
        let object = self.get(kind, namespace, name).await?;
        object.execution().ok_or_else(|| not_an_execution(kind))
    }

    /// Reads all objects of a selection, page by page, with the metadata of the first page.
    pub(crate) async fn list(
        &self,
        kind: Kind,
        selection: &Selection,
        limit: Option<i32>,
    ) -> Result<(v1::ListMeta, Vec<Object>), Failure> {
        let (mut first, mut items, mut next) = (None, Vec::new(), String::new());
        loop {
            let left = limit.map_or(PAGE_ITEMS, |limit| {
                limit.saturating_sub(i32::try_from(items.len()).unwrap_or(i32::MAX)).min(PAGE_ITEMS)
            });
            let request = v1::ListRequest {
                namespace: selection.namespace.clone(),
                label_selector: selection.labels.clone(),
                field_selector: selection.fields.clone(),
                limit: left,
                r#continue: std::mem::take(&mut next),
            };
            let (metadata, page) = with_kind!(kind, K => {
                let (metadata, page) = K::list_page(self.channel.clone(), request).await?;
                (metadata, page.into_iter().map(Object::from).collect::<Vec<_>>())
            });
            items.extend(page);
            next.clone_from(&metadata.r#continue);
            first.get_or_insert(v1::ListMeta { r#continue: String::new(), ..metadata });
            let enough = limit.is_some_and(|limit| items.len() >= usize::try_from(limit).unwrap_or(0));
            if next.is_empty() || enough {
                let metadata = v1::ListMeta { r#continue: next, ..first.unwrap_or_default() };
                return Ok((metadata, items));
            }
        }
    }

    /// Deletes an object; the answer says whether it is gone.
    pub(crate) async fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<v1::DeleteResponse, Failure> {
        let request = v1::DeleteRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..v1::DeleteRequest::default()
        };
        Ok(with_kind!(kind, K => K::remove(self.channel.clone(), request).await?))
    }

    /// Changes of a selection; first the present state, if `resource_version` is empty.
    pub(crate) async fn watch(
        &self,
        kind: Kind,
        selection: &Selection,
        resource_version: &str,
    ) -> Result<BoxStream<'static, Result<Change, Failure>>, Failure> {
        let request = v1::WatchRequest {
            namespace: selection.namespace.clone(),
            label_selector: selection.labels.clone(),
            field_selector: selection.fields.clone(),
            resource_version: resource_version.to_owned(),
        };
        Ok(with_kind!(kind, K => {
            let stream = K::changes(self.channel.clone(), request).await?;
            stream
                .map_err(Failure::from)
                .try_filter_map(|event| async move {
                    let (what, object) = K::parts(event);
                    Ok(object.map(|object| Change { what, object: object.into() }))
                })
                .boxed()
        }))
    }

    /// Asks something of an execution.
    pub(crate) async fn ask(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        ask: Ask,
        reason: &str,
    ) -> Result<Object, Failure> {
        let end = v1::EndRequest { namespace: namespace.to_owned(), name: name.to_owned(), reason: reason.to_owned() };
        Ok(match kind {
            Kind::Workflow
            | Kind::Agent
            | Kind::Secret
            | Kind::Approval
            | Kind::McpServer
            | Kind::Session
            | Kind::Skill
            | Kind::Artifact => {
                return Err(not_an_execution(kind));
            }
            Kind::AgentExecution => v1::AgentExecution::ask(self.channel.clone(), ask, end).await?.into(),
            Kind::WorkflowExecution => v1::WorkflowExecution::ask(self.channel.clone(), ask, end).await?.into(),
        })
    }

    /// Decides on an approval; `caller` is who the decision is recorded of.
    pub(crate) async fn decide(
        &self,
        request: v1::DecideRequest,
        caller: Option<&str>,
    ) -> Result<v1::Approval, Failure> {
        let mut request = tonic::Request::new(request);
        if let Some(caller) = caller {
            let value = caller.parse().map_err(|_| {
                Failure::usage(format!("--as '{}' is no name: allowed is plain text", crate::printer::one_line(caller)))
            })?;
            request.metadata_mut().insert("impersonate-user", value);
        }
        Ok(v1::Approval::client(self.channel.clone()).decide(request).await?.into_inner())
    }

    /// The turns of a session that have ended, oldest first.
    pub(crate) async fn export_session(
        &self,
        request: v1::ExportSessionRequest,
    ) -> Result<Streaming<v1::ExportedTurn>, Failure> {
        Ok(v1::Session::client(self.channel.clone()).export_session(request).await?.into_inner())
    }

    /// The content of an artifact that was uploaded.
    pub(crate) async fn artifact_content(&self, namespace: &str, name: &str) -> Result<v1::ArtifactContent, Failure> {
        let request = v1::GetRequest { namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(v1::Artifact::client(self.channel.clone()).get_artifact_content(request).await?.into_inner())
    }

    /// The content of something that an execution of an agent made.
    pub(crate) async fn execution_artifact(
        &self,
        request: v1::GetExecutionArtifactRequest,
    ) -> Result<v1::ArtifactContent, Failure> {
        let client = v1::AgentExecution::client(self.channel.clone());
        Ok({ client }.get_agent_execution_artifact(request).await?.into_inner())
    }

    /// One page of the history of an execution.
    pub(crate) async fn history(&self, kind: Kind, request: v1::HistoryRequest) -> Result<v1::HistoryPage, Failure> {
        let page = match kind {
            Kind::Workflow
            | Kind::Agent
            | Kind::Secret
            | Kind::Approval
            | Kind::McpServer
            | Kind::Session
            | Kind::Skill
            | Kind::Artifact => {
                return Err(not_an_execution(kind));
            }
            Kind::AgentExecution => v1::AgentExecution::history(self.channel.clone(), request).await,
            Kind::WorkflowExecution => v1::WorkflowExecution::history(self.channel.clone(), request).await,
        };
        Ok(page?)
    }

    /// What happens to an execution, and what it is making, until it has ended.
    pub(crate) async fn stream(
        &self,
        kind: Kind,
        request: v1::StreamRequest,
    ) -> Result<Streaming<v1::StreamItem>, Failure> {
        let stream = match kind {
            Kind::Workflow
            | Kind::Agent
            | Kind::Secret
            | Kind::Approval
            | Kind::McpServer
            | Kind::Session
            | Kind::Skill
            | Kind::Artifact => {
                return Err(not_an_execution(kind));
            }
            Kind::AgentExecution => v1::AgentExecution::stream(self.channel.clone(), request).await,
            Kind::WorkflowExecution => v1::WorkflowExecution::stream(self.channel.clone(), request).await,
        };
        Ok(stream?)
    }

    /// The return addresses of an execution.
    pub(crate) async fn callbacks(
        &self,
        kind: Kind,
        request: v1::ListCallbacksRequest,
    ) -> Result<v1::CallbackList, Failure> {
        let list = match kind {
            Kind::Workflow
            | Kind::Agent
            | Kind::Secret
            | Kind::Approval
            | Kind::McpServer
            | Kind::Session
            | Kind::Skill
            | Kind::Artifact => {
                return Err(not_an_execution(kind));
            }
            Kind::AgentExecution => {
                AgentExecutionServiceClient::new(self.channel.clone()).list_agent_execution_callbacks(request).await
            }
            Kind::WorkflowExecution => {
                WorkflowExecutionServiceClient::new(self.channel.clone())
                    .list_workflow_execution_callbacks(request)
                    .await
            }
        };
        Ok(list?.into_inner())
    }

    /// Adds a return address to an execution.
    pub(crate) async fn attach_callback(
        &self,
        kind: Kind,
        request: v1::AttachCallbackRequest,
    ) -> Result<v1::CallbackList, Failure> {
        let list = match kind {
            Kind::Workflow
            | Kind::Agent
            | Kind::Secret
            | Kind::Approval
            | Kind::McpServer
            | Kind::Session
            | Kind::Skill
            | Kind::Artifact => {
                return Err(not_an_execution(kind));
            }
            Kind::AgentExecution => {
                AgentExecutionServiceClient::new(self.channel.clone()).attach_agent_execution_callback(request).await
            }
            Kind::WorkflowExecution => {
                WorkflowExecutionServiceClient::new(self.channel.clone())
                    .attach_workflow_execution_callback(request)
                    .await
            }
        };
        Ok(list?.into_inner())
    }

    /// Has undelivered answers of an execution tried again.
    pub(crate) async fn retry_callback(
        &self,
        kind: Kind,
        request: v1::RetryCallbackRequest,
    ) -> Result<v1::CallbackList, Failure> {
        let list = match kind {
            Kind::Workflow
            | Kind::Agent
            | Kind::Secret
            | Kind::Approval
            | Kind::McpServer
            | Kind::Session
            | Kind::Skill
            | Kind::Artifact => {
                return Err(not_an_execution(kind));
            }
            Kind::AgentExecution => {
                AgentExecutionServiceClient::new(self.channel.clone()).retry_agent_execution_callback(request).await
            }
            Kind::WorkflowExecution => {
                WorkflowExecutionServiceClient::new(self.channel.clone())
                    .retry_workflow_execution_callback(request)
                    .await
            }
        };
        Ok(list?.into_inner())
    }

    /// The service that takes events.
    pub(crate) fn event_service(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }

    /// The service that answers waits by token.
    pub(crate) fn callback_service(&self) -> CallbackServiceClient<Channel> {
        CallbackServiceClient::new(self.channel.clone())
    }
}

/// Says why a server cannot be reached, by the operating system's own words if there are some.
fn unreachable_server(address: &str, error: &tonic::transport::Error) -> Failure {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            let words = if io.kind() == io::ErrorKind::ConnectionRefused {
                "connection refused".to_owned()
            } else {
                io.to_string()
            };
            return Failure::environment(format!("connect to {address}: {words}"))
                .hint("start the server with baton server, or name another one with --server");
        }
        source = cause.source();
    }
    let failure = Failure::environment(format!("connect to {address}"));
    match error.source() {
        Some(cause) => failure.because(cause),
        None => failure.because(error),
    }
}

fn options(dry_run: bool) -> Option<v1::CreateOptions> {
    dry_run.then(|| v1::CreateOptions { dry_run: "All".to_owned() })
}

/// The generated client of one kind under names that are alike.
trait Api: Resource {
    async fn create(channel: Channel, object: Self, dry_run: bool) -> Result<Response<Self>, Status>;
    async fn update(channel: Channel, object: Self, dry_run: bool) -> Result<Response<Self>, Status>;
    async fn read(channel: Channel, request: v1::GetRequest) -> Result<Self, Status>;
    async fn list_page(channel: Channel, request: v1::ListRequest) -> Result<(v1::ListMeta, Vec<Self>), Status>;
    async fn remove(channel: Channel, request: v1::DeleteRequest) -> Result<v1::DeleteResponse, Status>;
    async fn changes(channel: Channel, request: v1::WatchRequest) -> Result<Streaming<Self::WatchEvent>, Status>;
    fn parts(event: Self::WatchEvent) -> (String, Option<Self>);
}

/// The refusal of a command that is for executions only.
fn not_an_execution(kind: Kind) -> Failure {
    Failure::usage(format!("a {} is not an execution", kind.title()))
}

/// What only executions have.
trait ExecutionApi: Api {
    async fn ask(channel: Channel, ask: Ask, request: v1::EndRequest) -> Result<Self, Status>;
    async fn history(channel: Channel, request: v1::HistoryRequest) -> Result<v1::HistoryPage, Status>;
    async fn stream(channel: Channel, request: v1::StreamRequest) -> Result<Streaming<v1::StreamItem>, Status>;
}

macro_rules! api {
    ($kind:ident, $client:ident, $field:ident, $create:ident $create_request:ident, $update:ident $update_request:ident, $get:ident, $list:ident, $delete:ident, $watch:ident) => {
        impl Api for v1::$kind {
            async fn create(channel: Channel, object: Self, dry_run: bool) -> Result<Response<Self>, Status> {
                Self::client(channel)
                    .$create(v1::$create_request { $field: Some(object), options: options(dry_run) })
                    .await
            }
            async fn update(channel: Channel, object: Self, dry_run: bool) -> Result<Response<Self>, Status> {
                Self::client(channel)
                    .$update(v1::$update_request { $field: Some(object), options: options(dry_run) })
                    .await
            }
            async fn read(channel: Channel, request: v1::GetRequest) -> Result<Self, Status> {
                Ok(Self::client(channel).$get(request).await?.into_inner())
            }
            async fn list_page(
                channel: Channel,
                request: v1::ListRequest,
            ) -> Result<(v1::ListMeta, Vec<Self>), Status> {
                let list = Self::client(channel).$list(request).await?.into_inner();
                Ok((list.metadata.unwrap_or_default(), list.items))
            }
            async fn remove(channel: Channel, request: v1::DeleteRequest) -> Result<v1::DeleteResponse, Status> {
                Ok(Self::client(channel).$delete(request).await?.into_inner())
            }
            async fn changes(
                channel: Channel,
                request: v1::WatchRequest,
            ) -> Result<Streaming<Self::WatchEvent>, Status> {
                Ok(Self::client(channel).$watch(request).await?.into_inner())
            }
            fn parts(event: Self::WatchEvent) -> (String, Option<Self>) {
                (event.r#type, event.object)
            }
        }

        impl GeneratedClient for v1::$kind {
            type Client = $client<Channel>;
            fn client(channel: Channel) -> Self::Client {
                $client::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
            }
        }
    };
}

macro_rules! execution_api {
    ($kind:ident, $cancel:ident, $terminate:ident, $suspend:ident, $resume:ident, $history:ident, $stream:ident) => {
        impl ExecutionApi for v1::$kind {
            async fn ask(channel: Channel, ask: Ask, request: v1::EndRequest) -> Result<Self, Status> {
                let mut client = Self::client(channel);
                let hold = v1::SuspendRequest { namespace: request.namespace.clone(), name: request.name.clone() };
                let answer = match ask {
                    Ask::Cancel => client.$cancel(request).await?,
                    Ask::Terminate => client.$terminate(request).await?,
                    Ask::Suspend => client.$suspend(hold).await?,
                    Ask::Resume => client.$resume(hold).await?,
                };
                Ok(answer.into_inner())
            }
            async fn history(channel: Channel, request: v1::HistoryRequest) -> Result<v1::HistoryPage, Status> {
                Ok(Self::client(channel).$history(request).await?.into_inner())
            }
            async fn stream(channel: Channel, request: v1::StreamRequest) -> Result<Streaming<v1::StreamItem>, Status> {
                Ok(Self::client(channel).$stream(request).await?.into_inner())
            }
        }
    };
}

/// Which generated client serves a kind.
trait GeneratedClient {
    type Client;
    fn client(channel: Channel) -> Self::Client;
}

api!(
    Workflow, WorkflowServiceClient, workflow, create_workflow CreateWorkflowRequest, update_workflow UpdateWorkflowRequest,
    get_workflow, list_workflows, delete_workflow, watch_workflows
);
api!(
    Agent, AgentServiceClient, agent, create_agent CreateAgentRequest, update_agent UpdateAgentRequest,
    get_agent, list_agents, delete_agent, watch_agents
);
api!(
    Secret, SecretServiceClient, secret, create_secret CreateSecretRequest, update_secret UpdateSecretRequest,
    get_secret, list_secrets, delete_secret, watch_secrets
);
api!(
    McpServer, McpServerServiceClient, mcp_server, create_mcp_server CreateMcpServerRequest, update_mcp_server UpdateMcpServerRequest,
    get_mcp_server, list_mcp_servers, delete_mcp_server, watch_mcp_servers
);
api!(
    Session, SessionServiceClient, session, create_session CreateSessionRequest, update_session UpdateSessionRequest,
    get_session, list_sessions, delete_session, watch_sessions
);
api!(
    Artifact, ArtifactServiceClient, artifact, create_artifact CreateArtifactRequest, update_artifact UpdateArtifactRequest,
    get_artifact, list_artifacts, delete_artifact, watch_artifacts
);
api!(
    Skill, SkillServiceClient, skill, create_skill CreateSkillRequest, update_skill UpdateSkillRequest,
    get_skill, list_skills, delete_skill, watch_skills
);
impl GeneratedClient for v1::Approval {
    type Client = ApprovalServiceClient<Channel>;
    fn client(channel: Channel) -> Self::Client {
        ApprovalServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

/// Approvals are read and decided: the API has no other call for them.
impl Api for v1::Approval {
    async fn create(_channel: Channel, _object: Self, _dry_run: bool) -> Result<Response<Self>, Status> {
        Err(raised_by_executions())
    }
    async fn update(_channel: Channel, _object: Self, _dry_run: bool) -> Result<Response<Self>, Status> {
        Err(raised_by_executions())
    }
    async fn read(channel: Channel, request: v1::GetRequest) -> Result<Self, Status> {
        Ok(Self::client(channel).get_approval(request).await?.into_inner())
    }
    async fn list_page(channel: Channel, request: v1::ListRequest) -> Result<(v1::ListMeta, Vec<Self>), Status> {
        let list = Self::client(channel).list_approvals(request).await?.into_inner();
        Ok((list.metadata.unwrap_or_default(), list.items))
    }
    async fn remove(_channel: Channel, _request: v1::DeleteRequest) -> Result<v1::DeleteResponse, Status> {
        Err(raised_by_executions())
    }
    async fn changes(channel: Channel, request: v1::WatchRequest) -> Result<Streaming<Self::WatchEvent>, Status> {
        Ok(Self::client(channel).watch_approvals(request).await?.into_inner())
    }
    fn parts(event: Self::WatchEvent) -> (String, Option<Self>) {
        (event.r#type, event.object)
    }
}

fn raised_by_executions() -> Status {
    Status::unimplemented(
        "approvals are raised by executions, changed by baton approve, deny and resolve, and go with their execution",
    )
}

api!(
    WorkflowExecution, WorkflowExecutionServiceClient, workflow_execution,
    create_workflow_execution CreateWorkflowExecutionRequest, update_workflow_execution UpdateWorkflowExecutionRequest,
    get_workflow_execution, list_workflow_executions, delete_workflow_execution, watch_workflow_executions
);
api!(
    AgentExecution, AgentExecutionServiceClient, agent_execution,
    create_agent_execution CreateAgentExecutionRequest, update_agent_execution UpdateAgentExecutionRequest,
    get_agent_execution, list_agent_executions, delete_agent_execution, watch_agent_executions
);
execution_api!(
    WorkflowExecution,
    cancel_workflow_execution,
    terminate_workflow_execution,
    suspend_workflow_execution,
    resume_workflow_execution,
    get_workflow_execution_history,
    stream_workflow_execution
);
execution_api!(
    AgentExecution,
    cancel_agent_execution,
    terminate_agent_execution,
    suspend_agent_execution,
    resume_agent_execution,
    get_agent_execution_history,
    stream_agent_execution
);
