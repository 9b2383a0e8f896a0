//! Approvals: read, watched and decided.

use baton_execution::Choice;
use baton_proto::v1::{
    Approval, ApprovalList, ApprovalWatchEvent, DecideRequest, GetRequest, ListRequest, WatchRequest,
    approval_service_server::ApprovalService,
};
use baton_types::{ApiError, Violation};
use tonic::{Request, Response, Status};

use super::{
    Grpc,
    resources::{Answers, fill_namespace},
    status,
};

/// Who decides, in the word of Kubernetes' clients.
const CALLER: &str = "impersonate-user";

#[tonic::async_trait]
impl ApprovalService for Grpc {
    async fn get_approval(&self, request: Request<GetRequest>) -> Result<Response<Approval>, Status> {
        self.get(request.into_inner()).await
    }

    async fn list_approvals(&self, request: Request<ListRequest>) -> Result<Response<ApprovalList>, Status> {
        self.list::<Approval>(request.into_inner()).await
    }

    type WatchApprovalsStream = Answers<ApprovalWatchEvent>;

    async fn watch_approvals(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchApprovalsStream>, Status> {
        Grpc::watch::<Approval>(self, request.into_inner()).await
    }

    async fn approve(&self, request: Request<DecideRequest>) -> Result<Response<Approval>, Status> {
        self.decide_as(request, Some(Choice::Approve)).await
    }

    async fn deny(&self, request: Request<DecideRequest>) -> Result<Response<Approval>, Status> {
        self.decide_as(request, Some(Choice::Deny)).await
    }

    async fn decide(&self, request: Request<DecideRequest>) -> Result<Response<Approval>, Status> {
        self.decide_as(request, None).await
    }
}

impl Grpc {
    async fn decide_as(
        &self,
        request: Request<DecideRequest>,
        choice: Option<Choice>,
    ) -> Result<Response<Approval>, Status> {
        let caller = request.metadata().get(CALLER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let mut request = request.into_inner();
        fill_namespace(&mut request.namespace);
        if let Some(choice) = choice {
            if !request.decision.is_empty() && request.decision != choice.as_str() {
                let message = format!("differs from '{}', which this method decides", choice.as_str());
                return Err(status::of(ApiError::violations(vec![Violation::new("decision", message)])));
            }
            choice.as_str().clone_into(&mut request.decision);
        }
        self.app.decide(request, caller.as_deref()).await.map(Response::new).map_err(status::of)
    }
}
