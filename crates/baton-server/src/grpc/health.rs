//! `grpc.health.v1.Health`: the same answer as `/readyz`, for the server and for each of its services.

use std::time::Duration;

use futures::stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use super::{Grpc, resources::Answers, temporal};

/// Names of the services; the empty one is the server as a whole.
const SERVICES: [&str; 7] = [
    "",
    "baton.v1.AgentExecutionService",
    "baton.v1.AgentService",
    "baton.v1.CallbackService",
    "baton.v1.SecretService",
    "baton.v1.WorkflowExecutionService",
    "baton.v1.WorkflowService",
];

/// How often a watch looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

impl Grpc {
    fn serving(&self, service: &str) -> ServingStatus {
        let known = SERVICES.contains(&service) || (self.temporal_compatible && service == temporal::SERVICE);
        if !known {
            return ServingStatus::ServiceUnknown;
        }
        let serving = !self.stopping.is_cancelled() && self.app.ready().is_ok();
        if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

#[tonic::async_trait]
impl Health for Grpc {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match self.serving(&request.get_ref().service) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found("no such service; the empty name is the server as a whole"))
            }
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    type WatchStream = Answers<HealthCheckResponse>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let grpc = self.clone();
        let changes = stream::unfold(None, move |last: Option<ServingStatus>| {
            let (grpc, service) = (grpc.clone(), service.clone());
            async move {
                let mut now = grpc.serving(&service);
                while last == Some(now) {
                    tokio::time::sleep(WATCH_INTERVAL).await;
                    now = grpc.serving(&service);
                }
                Some((Ok(HealthCheckResponse { status: now.into() }), Some(now)))
            }
        });
        Ok(Response::new(self.until_stopping(changes)))
    }
}
