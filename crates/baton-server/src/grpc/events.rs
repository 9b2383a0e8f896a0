//! `EventService`: events for whoever listens.

use baton_proto::v1::{PublishEventsRequest, PublishEventsResponse, event_service_server::EventService};
use tonic::{Request, Response, Status};

use super::{Grpc, status};

#[tonic::async_trait]
impl EventService for Grpc {
    async fn publish_events(
        &self,
        request: Request<PublishEventsRequest>,
    ) -> Result<Response<PublishEventsResponse>, Status> {
        self.app.publish_events(request.get_ref()).await.map(Response::new).map_err(status::of)
    }
}
