//! Ending, holding, history and return addresses of executions.

use baton_proto::{history_v1::HistoryEvent, v1};
use futures::StreamExt as _;
use tonic::{Response, Status};

use super::{
    Grpc,
    resources::{Answers, fill_namespace},
    status,
};
use crate::app::ExecutionKind;

impl Grpc {
    pub(super) async fn cancel<R: ExecutionKind>(&self, mut request: v1::EndRequest) -> Result<Response<R>, Status> {
        fill_namespace(&mut request.namespace);
        self.app.cancel(&request.namespace, &request.name, &request.reason).await.map(Response::new).map_err(status::of)
    }

    pub(super) async fn terminate<R: ExecutionKind>(&self, mut request: v1::EndRequest) -> Result<Response<R>, Status> {
        fill_namespace(&mut request.namespace);
        self.app
            .terminate(&request.namespace, &request.name, &request.reason)
            .await
            .map(Response::new)
            .map_err(status::of)
    }

    pub(super) async fn suspend<R: ExecutionKind>(
        &self,
        mut request: v1::SuspendRequest,
    ) -> Result<Response<R>, Status> {
        fill_namespace(&mut request.namespace);
        self.app.suspend(&request.namespace, &request.name).await.map(Response::new).map_err(status::of)
    }

    pub(super) async fn resume<R: ExecutionKind>(
        &self,
        mut request: v1::SuspendRequest,
    ) -> Result<Response<R>, Status> {
        fill_namespace(&mut request.namespace);
        self.app.resume(&request.namespace, &request.name).await.map(Response::new).map_err(status::of)
    }

    pub(super) async fn history<R: ExecutionKind>(
        &self,
        mut request: v1::HistoryRequest,
    ) -> Result<Response<v1::HistoryPage>, Status> {
        fill_namespace(&mut request.namespace);
        self.app.history::<R>(&request).await.map(Response::new).map_err(status::of)
    }

    pub(super) async fn watch_history<R: ExecutionKind>(
        &self,
        mut request: v1::HistoryRequest,
    ) -> Result<Response<Answers<HistoryEvent>>, Status> {
        fill_namespace(&mut request.namespace);
        let events = self.app.watch_history::<R>(&request).await.map_err(status::of)?;
        Ok(Response::new(self.until_stopping(events.map(|event| event.map_err(status::of)))))
    }

    pub(super) async fn stream<R: ExecutionKind>(
        &self,
        mut request: v1::StreamRequest,
    ) -> Result<Response<Answers<v1::StreamItem>>, Status> {
        fill_namespace(&mut request.namespace);
        let items = self.app.stream::<R>(&request).await.map_err(status::of)?;
        Ok(Response::new(self.until_stopping(items.map(|item| item.map_err(status::of)))))
    }

    pub(super) async fn callbacks<R: ExecutionKind>(
        &self,
        mut request: v1::ListCallbacksRequest,
    ) -> Result<Response<v1::CallbackList>, Status> {
        fill_namespace(&mut request.namespace);
        self.app.callbacks::<R>(&request).await.map(Response::new).map_err(status::of)
    }

    pub(super) async fn attach_callback<R: ExecutionKind>(
        &self,
        mut request: v1::AttachCallbackRequest,
    ) -> Result<Response<v1::CallbackList>, Status> {
        fill_namespace(&mut request.namespace);
        self.app.attach_callback::<R>(&request).await.map(Response::new).map_err(status::of)
    }

    pub(super) async fn retry_callback<R: ExecutionKind>(
        &self,
        mut request: v1::RetryCallbackRequest,
    ) -> Result<Response<v1::CallbackList>, Status> {
        fill_namespace(&mut request.namespace);
        self.app.retry_callback::<R>(&request).await.map(Response::new).map_err(status::of)
    }
}
