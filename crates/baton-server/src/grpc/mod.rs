//! gRPC: the services of `baton.v1`, with health and reflection; if wanted, a part of Temporal's ([`temporal`]).
//!
//! One set of functions, generic over the kinds ([`resources`], [`executions`]), is joined to the generated traits by
//! the macros of [`services`]. As in REST, what a call means is decided in [`App`].
//!
//! # Invariants
//! - A refusal has the code of the table in [`crate::errors`], and in its metadata `baton-reason`, `baton-hint-bin` and
//!   `baton-violations-bin`; see [`status`].
//! - A message is refused above [`MESSAGE_BYTES_MAX`] before it is read.
//! - A stream ends with `UNAVAILABLE` when the server stops, so that no client waits for the next item of a dead one.
//!
//! # Deliberately absent
//! Compression: the loopback interface gains nothing by it. Temporal's SDKs compress, and are understood.

mod approvals;
mod callbacks;
mod events;
mod executions;
mod health;
mod resources;
mod services;
mod sessions;
mod status;
mod temporal;
mod worker;

use axum::{Router, response::Response};
use baton_proto::{DESCRIPTORS, v1};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use self::worker::WorkerSide;
use crate::{app::App, rest::panic_message};

/// Largest message that is read, in bytes: a resource in its stored form, and as much again for what is around it.
const MESSAGE_BYTES_MAX: usize = 2 * baton_types::RESOURCE_BYTES_MAX;

/// What every service needs.
#[derive(Clone)]
pub(crate) struct Grpc {
    /// The application layer.
    pub(crate) app: App,
    /// Cancelled when the server stops: streams end.
    pub(crate) stopping: CancellationToken,
    /// Whether Temporal's calls for answering activities are offered too.
    pub(crate) temporal_compatible: bool,
    /// What workers elsewhere need, if executions run in Temporal.
    pub(crate) worker: Option<WorkerSide>,
}

/// A refusal of what did not get as far as the services.
pub(crate) fn status_of(error: baton_types::ApiError) -> tonic::Status {
    status::of(error)
}

/// All services.
///
/// # Errors
/// If the descriptors that are built in cannot be read.
pub(crate) fn router(grpc: &Grpc) -> Result<Router, tonic_reflection::server::Error> {
    macro_rules! service {
        ($($server:ident)::+) => {
            $($server)::+::new(grpc.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
        };
    }
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut health = service!(tonic_health::pb::health_server::HealthServer);
    if grpc.temporal_compatible {
        health = health.accept_compressed(CompressionEncoding::Gzip);
    }
    let mut routes = Routes::new(service!(v1::workflow_service_server::WorkflowServiceServer))
        .add_service(service!(v1::agent_service_server::AgentServiceServer))
        .add_service(service!(v1::secret_service_server::SecretServiceServer))
        .add_service(service!(v1::mcp_server_service_server::McpServerServiceServer))
        .add_service(service!(v1::skill_service_server::SkillServiceServer))
        .add_service(service!(v1::artifact_service_server::ArtifactServiceServer))
        .add_service(service!(v1::workflow_execution_service_server::WorkflowExecutionServiceServer))
        .add_service(service!(v1::agent_execution_service_server::AgentExecutionServiceServer))
        .add_service(service!(v1::approval_service_server::ApprovalServiceServer))
        .add_service(service!(v1::session_service_server::SessionServiceServer))
        .add_service(service!(v1::callback_service_server::CallbackServiceServer))
        .add_service(service!(v1::event_service_server::EventServiceServer))
        .add_service(health)
        .add_service(descriptors().build_v1()?)
        .add_service(descriptors().build_v1alpha()?);
    if let Some(worker) = &grpc.worker {
        routes = routes.add_service(worker.service());
    }
    if grpc.temporal_compatible {
        routes = routes.add_service(temporal::service(grpc.clone()));
    }
    Ok(routes.prepare().into_axum_router().layer(CatchPanicLayer::custom(on_panic)))
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is tower-http's")]
fn on_panic(cause: Box<dyn std::any::Any + Send>) -> Response {
    let error = baton_types::ApiError::internal(format!("a handler panicked: {}", panic_message(cause.as_ref())));
    status::of(error).into_http()
}
