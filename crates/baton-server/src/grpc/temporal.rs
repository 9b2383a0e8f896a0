//! Temporal's own calls for answering an activity by its task token, for Baton's tokens: a worker written with one of
//! Temporal's SDKs answers a waiting task as it answers an activity.
//!
//! The four calls mean what `CallbackService` means and end in the same functions; [`payload`] and [`failure`] translate.
//! `GetSystemInfo` and `DescribeNamespace` are what the SDKs ask when they connect.
//!
//! # Invariants
//! - Served only if the server was told so; nothing of it shows otherwise, neither in health nor in reflection.
//! - Codes are Temporal's, as SDKs decide by them: a token that is none is `INVALID_ARGUMENT`, a wait that is over (answered,
//!   expired, of an earlier attempt, gone) is `NOT_FOUND`. The metadata of a refusal has Baton's own reason all the same.
//! - What Temporal offers beside that is `UNIMPLEMENTED` with a sentence that says what is offered; see [`offered`].
//!
//! # Deliberately absent
//! Workflows, polling, completion by activity id: those belong to Temporal. The client's namespace decides nothing: a token
//! is bound to the one that it was made for. Details of heartbeats are not kept.

mod failure;
mod offered;
mod payload;

use baton_engine::PAYLOAD_BYTES_MAX;
use baton_proto::{
    temporal::{
        enums::v1::NamespaceState,
        namespace::v1::{NamespaceInfo, namespace_info::Limits},
        workflowservice::v1::{
            DescribeNamespaceRequest, DescribeNamespaceResponse, GetSystemInfoRequest, GetSystemInfoResponse,
            RecordActivityTaskHeartbeatRequest, RecordActivityTaskHeartbeatResponse,
            RespondActivityTaskCanceledRequest, RespondActivityTaskCanceledResponse,
            RespondActivityTaskCompletedRequest, RespondActivityTaskCompletedResponse,
            RespondActivityTaskFailedRequest, RespondActivityTaskFailedResponse,
            get_system_info_response::Capabilities,
            workflow_service_server::{WorkflowService, WorkflowServiceServer},
        },
    },
    v1,
};
use baton_types::{ApiError, ErrorKind, check_namespace};
use tonic::{Request, Response, Status, codec::CompressionEncoding};

use self::{failure::Ending, offered::Offered};
use super::{Grpc, MESSAGE_BYTES_MAX, status};

pub(super) const SERVICE: &str = "temporal.api.workflowservice.v1.WorkflowService";

/// Temporal's words for a token that is none.
const TOKEN_UNREADABLE: &str = "Error deserializing task token.";
/// And for one that is not there.
const TOKEN_UNSET: &str = "Task token not set on request.";

/// The service. SDKs compress what they send; what comes out of that is held to the same size.
pub(super) fn service(grpc: Grpc) -> Offered<WorkflowServiceServer<Grpc>> {
    Offered::new(
        WorkflowServiceServer::new(grpc)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip),
    )
}

#[tonic::async_trait]
impl WorkflowService for Grpc {
    async fn get_system_info(
        &self,
        _request: Request<GetSystemInfoRequest>,
    ) -> Result<Response<GetSystemInfoResponse>, Status> {
        Ok(Response::new(GetSystemInfoResponse {
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Some(Capabilities { internal_error_differentiation: true, encoded_failure_attributes: true }),
        }))
    }

    async fn describe_namespace(
        &self,
        request: Request<DescribeNamespaceRequest>,
    ) -> Result<Response<DescribeNamespaceResponse>, Status> {
        let name = request.into_inner().namespace;
        if name.is_empty() {
            return Err(Status::invalid_argument("Namespace not set on request."));
        }
        if check_namespace(&name).is_err() {
            return Err(Status::not_found(
                "Namespace is not found: its name is none that a namespace of Baton's can have",
            ));
        }
        let info = NamespaceInfo {
            name,
            state: NamespaceState::Registered.into(),
            description: "a namespace of Baton's".to_owned(),
            limits: Some(Limits { blob_size_limit_error: i64::try_from(PAYLOAD_BYTES_MAX).unwrap_or(i64::MAX) }),
        };
        Ok(Response::new(DescribeNamespaceResponse { namespace_info: Some(info) }))
    }

    async fn record_activity_task_heartbeat(
        &self,
        request: Request<RecordActivityTaskHeartbeatRequest>,
    ) -> Result<Response<RecordActivityTaskHeartbeatResponse>, Status> {
        let callback_token = token(request.into_inner().task_token)?;
        let heartbeat = v1::HeartbeatCallbackRequest { callback_token };
        let heard = self.app.heartbeat_callback(&heartbeat).await.map_err(refused)?;
        Ok(Response::new(RecordActivityTaskHeartbeatResponse { cancel_requested: heard.cancel_requested }))
    }

    async fn respond_activity_task_completed(
        &self,
        request: Request<RespondActivityTaskCompletedRequest>,
    ) -> Result<Response<RespondActivityTaskCompletedResponse>, Status> {
        let RespondActivityTaskCompletedRequest { task_token, result } = request.into_inner();
        let callback_token = token(task_token)?;
        let output = payload::value_of(result, "result").map_err(refused)?;
        let answer = v1::CompleteCallbackRequest { callback_token, output: Some(v1::Json::from_value(&output)) };
        self.app.complete_callback(&answer).await.map_err(refused)?;
        Ok(Response::new(RespondActivityTaskCompletedResponse {}))
    }

    async fn respond_activity_task_failed(
        &self,
        request: Request<RespondActivityTaskFailedRequest>,
    ) -> Result<Response<RespondActivityTaskFailedResponse>, Status> {
        let RespondActivityTaskFailedRequest { task_token, failure } = request.into_inner();
        let callback_token = token(task_token)?;
        match failure::ending_of(failure.unwrap_or_default()).map_err(refused)? {
            Ending::Failed(problem) => {
                let answer = v1::FailCallbackRequest { callback_token, error: Some(problem) };
                self.app.fail_callback(&answer).await.map_err(refused)?;
            }
            Ending::Cancelled { reason } => self.cancelled(callback_token, reason).await?,
        }
        Ok(Response::new(RespondActivityTaskFailedResponse {}))
    }

    async fn respond_activity_task_canceled(
        &self,
        request: Request<RespondActivityTaskCanceledRequest>,
    ) -> Result<Response<RespondActivityTaskCanceledResponse>, Status> {
        let RespondActivityTaskCanceledRequest { task_token, details } = request.into_inner();
        let callback_token = token(task_token)?;
        let reason = payload::text_of(&payload::value_of(details, "details").map_err(refused)?);
        self.cancelled(callback_token, reason).await?;
        Ok(Response::new(RespondActivityTaskCanceledResponse {}))
    }
}

impl Grpc {
    /// A worker that was told by its heartbeat to stop reports that it has: what waited has ended by then, and the two agree.
    async fn cancelled(&self, callback_token: Vec<u8>, reason: String) -> Result<(), Status> {
        let answer = v1::CancelCallbackRequest { callback_token, reason };
        let Err(error) = self.app.cancel_callback(&answer).await else { return Ok(()) };
        if error.kind == ErrorKind::FailedPrecondition {
            let heartbeat = v1::HeartbeatCallbackRequest { callback_token: answer.callback_token };
            if self.app.heartbeat_callback(&heartbeat).await.is_ok_and(|heard| heard.cancel_requested) {
                return Ok(());
            }
        }
        Err(refused(error))
    }
}

fn token(token: Vec<u8>) -> Result<Vec<u8>, Status> {
    if token.is_empty() { Err(Status::invalid_argument(TOKEN_UNSET)) } else { Ok(token) }
}

/// A refusal with the code that Temporal has for it.
fn refused(mut error: ApiError) -> Status {
    let of_the_token = error.violations.iter().any(|violation| violation.field == "callbackToken");
    if of_the_token || error.reason == "CALLBACK_TOKEN_UNKNOWN" {
        TOKEN_UNREADABLE.clone_into(&mut error.message);
    }
    if error.kind == ErrorKind::FailedPrecondition {
        error.kind = ErrorKind::NotFound;
    }
    status::of(error)
}

#[cfg(test)]
mod tests {
    use baton_types::Violation;
    use tonic::Code;

    use super::*;

    #[test]
    fn refusals_have_temporals_codes_and_our_reasons() {
        let token = || ApiError::violations(vec![Violation::new("callbackToken", "has 9000 bytes")]);
        let other = || ApiError::violations(vec![Violation::new("reason", "has 9000 bytes")]);
        let error = |kind, reason| ApiError::new(kind, reason, "as it is");
        for (error, code, message) in [
            (token(), Code::InvalidArgument, TOKEN_UNREADABLE),
            (error(ErrorKind::InvalidArgument, "CALLBACK_TOKEN_UNKNOWN"), Code::InvalidArgument, TOKEN_UNREADABLE),
            (other(), Code::InvalidArgument, "reason: has 9000 bytes"),
            (error(ErrorKind::FailedPrecondition, "CALLBACK_TOKEN_EXPIRED"), Code::NotFound, "as it is"),
            (error(ErrorKind::FailedPrecondition, "CALLBACK_TOKEN_STALE"), Code::NotFound, "as it is"),
            (error(ErrorKind::FailedPrecondition, "CALLBACK_ALREADY_COMPLETED"), Code::NotFound, "as it is"),
            (error(ErrorKind::NotFound, "CALLBACK_NOT_FOUND"), Code::NotFound, "as it is"),
            (error(ErrorKind::TooLarge, "CALLBACK_PAYLOAD_TOO_LARGE"), Code::InvalidArgument, "as it is"),
            (error(ErrorKind::Unavailable, "SHUTTING_DOWN"), Code::Unavailable, "as it is"),
            (error(ErrorKind::ResourceExhausted, "OVERLOADED"), Code::ResourceExhausted, "as it is"),
        ] {
            let reason = error.reason;
            let status = refused(error);
            assert_eq!((status.code(), status.message()), (code, message), "{reason}");
            assert_eq!(status.metadata().get("baton-reason").unwrap(), reason);
        }
    }
}
