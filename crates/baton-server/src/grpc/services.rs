//! The generated service traits, joined to the functions that are generic over the kinds.

use baton_proto::{history_v1::HistoryEvent, v1};
use tonic::{Request, Response, Status};

use super::{
    Grpc,
    resources::{Answers, fill_namespace},
    status,
};

/// The service of one kind: what every kind has, and in braces what this one has beside it.
macro_rules! resource_service {
    (
        $kind:ident, $field:ident, $trait:path, $events:ident,
        ($create:ident, $create_request:ident), ($update:ident, $update_request:ident),
        $get:ident, $list:ident, $patch:ident, $delete:ident, $watch:ident,
        { $($more:tt)* }
    ) => {
        #[tonic::async_trait]
        impl $trait for Grpc {
            async fn $create(&self, request: Request<v1::$create_request>) -> Result<Response<v1::$kind>, Status> {
                let request = request.into_inner();
                self.create(stringify!($field), request.$field, request.options).await
            }

            async fn $update(&self, request: Request<v1::$update_request>) -> Result<Response<v1::$kind>, Status> {
                let request = request.into_inner();
                Grpc::update(self, stringify!($field), request.$field, request.options).await
            }

            async fn $get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::$kind>, Status> {
                self.get(request.into_inner()).await
            }

            async fn $list(&self, request: Request<v1::ListRequest>) -> Result<Response<<v1::$kind as baton_proto::Resource>::List>, Status> {
                self.list::<v1::$kind>(request.into_inner()).await
            }

            async fn $patch(&self, request: Request<v1::PatchRequest>) -> Result<Response<v1::$kind>, Status> {
                self.patch(request.into_inner()).await
            }

            async fn $delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
                self.delete::<v1::$kind>(request.into_inner()).await
            }

            type $events = Answers<<v1::$kind as baton_proto::Resource>::WatchEvent>;

            async fn $watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::$events>, Status> {
                Grpc::watch::<v1::$kind>(self, request.into_inner()).await
            }

            $($more)*
        }
    };
}

/// The service of one kind of execution.
macro_rules! execution_service {
    (
        $kind:ident, $field:ident, $trait:path, $events:ident, $history_events:ident,
        ($create:ident, $create_request:ident), ($update:ident, $update_request:ident),
        $get:ident, $list:ident, $patch:ident, $delete:ident, $watch:ident,
        $cancel:ident, $terminate:ident, $suspend:ident, $resume:ident, $history:ident, $watch_history:ident,
        ($stream:ident, $stream_items:ident),
        $callbacks:ident, $attach:ident, $retry:ident,
        { $($more:tt)* }
    ) => {
        resource_service! {
            $kind, $field, $trait, $events, ($create, $create_request), ($update, $update_request),
            $get, $list, $patch, $delete, $watch,
            {
                async fn $cancel(&self, request: Request<v1::EndRequest>) -> Result<Response<v1::$kind>, Status> {
                    self.cancel(request.into_inner()).await
                }

                async fn $terminate(&self, request: Request<v1::EndRequest>) -> Result<Response<v1::$kind>, Status> {
                    self.terminate(request.into_inner()).await
                }

                async fn $suspend(&self, request: Request<v1::SuspendRequest>) -> Result<Response<v1::$kind>, Status> {
                    self.suspend(request.into_inner()).await
                }

                async fn $resume(&self, request: Request<v1::SuspendRequest>) -> Result<Response<v1::$kind>, Status> {
                    self.resume(request.into_inner()).await
                }

                async fn $history(&self, request: Request<v1::HistoryRequest>) -> Result<Response<v1::HistoryPage>, Status> {
                    self.history::<v1::$kind>(request.into_inner()).await
                }

                type $history_events = Answers<HistoryEvent>;

                async fn $watch_history(&self, request: Request<v1::HistoryRequest>) -> Result<Response<Self::$history_events>, Status> {
                    self.watch_history::<v1::$kind>(request.into_inner()).await
                }

                type $stream_items = Answers<v1::StreamItem>;

                async fn $stream(&self, request: Request<v1::StreamRequest>) -> Result<Response<Self::$stream_items>, Status> {
                    self.stream::<v1::$kind>(request.into_inner()).await
                }

                async fn $callbacks(&self, request: Request<v1::ListCallbacksRequest>) -> Result<Response<v1::CallbackList>, Status> {
                    self.callbacks::<v1::$kind>(request.into_inner()).await
                }

                async fn $attach(&self, request: Request<v1::AttachCallbackRequest>) -> Result<Response<v1::CallbackList>, Status> {
                    self.attach_callback::<v1::$kind>(request.into_inner()).await
                }

                async fn $retry(&self, request: Request<v1::RetryCallbackRequest>) -> Result<Response<v1::CallbackList>, Status> {
                    self.retry_callback::<v1::$kind>(request.into_inner()).await
                }

                $($more)*
            }
        }
    };
}

resource_service! {
    Workflow, workflow, v1::workflow_service_server::WorkflowService, WatchWorkflowsStream,
    (create_workflow, CreateWorkflowRequest), (update_workflow, UpdateWorkflowRequest),
    get_workflow, list_workflows, patch_workflow, delete_workflow, watch_workflows, {}
}

resource_service! {
    Agent, agent, v1::agent_service_server::AgentService, WatchAgentsStream,
    (create_agent, CreateAgentRequest), (update_agent, UpdateAgentRequest),
    get_agent, list_agents, patch_agent, delete_agent, watch_agents, {}
}

resource_service! {
    Secret, secret, v1::secret_service_server::SecretService, WatchSecretsStream,
    (create_secret, CreateSecretRequest), (update_secret, UpdateSecretRequest),
    get_secret, list_secrets, patch_secret, delete_secret, watch_secrets, {}
}

resource_service! {
    McpServer, mcp_server, v1::mcp_server_service_server::McpServerService, WatchMcpServersStream,
    (create_mcp_server, CreateMcpServerRequest), (update_mcp_server, UpdateMcpServerRequest),
    get_mcp_server, list_mcp_servers, patch_mcp_server, delete_mcp_server, watch_mcp_servers, {}
}

resource_service! {
    Artifact, artifact, v1::artifact_service_server::ArtifactService, WatchArtifactsStream,
    (create_artifact, CreateArtifactRequest), (update_artifact, UpdateArtifactRequest),
    get_artifact, list_artifacts, patch_artifact, delete_artifact, watch_artifacts,
    {
        async fn get_artifact_content(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::ArtifactContent>, Status> {
            let mut request = request.into_inner();
            fill_namespace(&mut request.namespace);
            let content = self.app.artifact_content(&request.namespace, &request.name).await;
            content.map(Response::new).map_err(status::of)
        }
    }
}

resource_service! {
    Skill, skill, v1::skill_service_server::SkillService, WatchSkillsStream,
    (create_skill, CreateSkillRequest), (update_skill, UpdateSkillRequest),
    get_skill, list_skills, patch_skill, delete_skill, watch_skills, {}
}

resource_service! {
    Session, session, v1::session_service_server::SessionService, WatchSessionsStream,
    (create_session, CreateSessionRequest), (update_session, UpdateSessionRequest),
    get_session, list_sessions, patch_session, delete_session, watch_sessions,
    {
        type ExportSessionStream = Answers<v1::ExportedTurn>;

        async fn export_session(
            &self,
            request: Request<v1::ExportSessionRequest>,
        ) -> Result<Response<Self::ExportSessionStream>, Status> {
            self.export(request.into_inner()).await
        }
    }
}

execution_service! {
    WorkflowExecution, workflow_execution, v1::workflow_execution_service_server::WorkflowExecutionService,
    WatchWorkflowExecutionsStream, WatchWorkflowExecutionHistoryStream,
    (create_workflow_execution, CreateWorkflowExecutionRequest), (update_workflow_execution, UpdateWorkflowExecutionRequest),
    get_workflow_execution, list_workflow_executions, patch_workflow_execution, delete_workflow_execution, watch_workflow_executions,
    cancel_workflow_execution, terminate_workflow_execution, suspend_workflow_execution, resume_workflow_execution,
    get_workflow_execution_history, watch_workflow_execution_history, (stream_workflow_execution, StreamWorkflowExecutionStream),
    list_workflow_execution_callbacks, attach_workflow_execution_callback, retry_workflow_execution_callback, {}
}

execution_service! {
    AgentExecution, agent_execution, v1::agent_execution_service_server::AgentExecutionService,
    WatchAgentExecutionsStream, WatchAgentExecutionHistoryStream,
    (create_agent_execution, CreateAgentExecutionRequest), (update_agent_execution, UpdateAgentExecutionRequest),
    get_agent_execution, list_agent_executions, patch_agent_execution, delete_agent_execution, watch_agent_executions,
    cancel_agent_execution, terminate_agent_execution, suspend_agent_execution, resume_agent_execution,
    get_agent_execution_history, watch_agent_execution_history, (stream_agent_execution, StreamAgentExecutionStream),
    list_agent_execution_callbacks, attach_agent_execution_callback, retry_agent_execution_callback,
    {
        async fn get_agent_execution_artifact(
            &self,
            request: Request<v1::GetExecutionArtifactRequest>,
        ) -> Result<Response<v1::ArtifactContent>, Status> {
            let mut request = request.into_inner();
            fill_namespace(&mut request.namespace);
            self.app.execution_artifact(&request).await.map(Response::new).map_err(status::of)
        }
    }
}
