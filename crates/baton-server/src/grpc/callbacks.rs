//! `CallbackService`: answering waits by their token. Tokens are raw bytes here.

use baton_proto::v1::{
    AnswerResponse, AwaitCallbackRequest, AwaitCallbackResponse, CancelCallbackRequest, CompleteCallbackRequest,
    CreateCallbackRequest, CreateCallbackResponse, FailCallbackRequest, HeartbeatCallbackRequest,
    HeartbeatCallbackResponse, callback_service_server::CallbackService,
};
use tonic::{Request, Response, Status};

use super::{Grpc, status};
use crate::errors;

#[tonic::async_trait]
impl CallbackService for Grpc {
    async fn create_callback(
        &self,
        request: Request<CreateCallbackRequest>,
    ) -> Result<Response<CreateCallbackResponse>, Status> {
        self.app.create_callback(request.get_ref()).await.map(Response::new).map_err(status::of)
    }

    async fn await_callback(
        &self,
        request: Request<AwaitCallbackRequest>,
    ) -> Result<Response<AwaitCallbackResponse>, Status> {
        tokio::select! {
            answer = self.app.await_callback(request.get_ref()) => answer.map(Response::new).map_err(status::of),
            () = self.stopping.cancelled() => Err(status::of(errors::stopping())),
        }
    }

    async fn complete_callback(
        &self,
        request: Request<CompleteCallbackRequest>,
    ) -> Result<Response<AnswerResponse>, Status> {
        self.app.complete_callback(request.get_ref()).await.map(Response::new).map_err(status::of)
    }

    async fn fail_callback(&self, request: Request<FailCallbackRequest>) -> Result<Response<AnswerResponse>, Status> {
        self.app.fail_callback(request.get_ref()).await.map(Response::new).map_err(status::of)
    }

    async fn cancel_callback(
        &self,
        request: Request<CancelCallbackRequest>,
    ) -> Result<Response<AnswerResponse>, Status> {
        self.app.cancel_callback(request.get_ref()).await.map(Response::new).map_err(status::of)
    }

    async fn heartbeat_callback(
        &self,
        request: Request<HeartbeatCallbackRequest>,
    ) -> Result<Response<HeartbeatCallbackResponse>, Status> {
        self.app.heartbeat_callback(request.get_ref()).await.map(Response::new).map_err(status::of)
    }
}
