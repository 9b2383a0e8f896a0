//! The one table between the kinds of errors and what goes over the wire: HTTP status, Kubernetes reason, gRPC code.
//!
//! [`wire`] is used by both adapters and nowhere else; [`log`] writes what only the log may know, once, at the edge.
//!
//! # Invariants
//! - A kind has the same meaning over REST and gRPC; a caller that retries on `Retry-After` retries on the same kinds
//!   as one that retries on `UNAVAILABLE` and `RESOURCE_EXHAUSTED`.
//! - `detail` of an error never leaves through an adapter.

use axum::http::StatusCode;
use baton_types::{ApiError, ErrorKind};
use tonic::Code;

/// Whether the same may be done later, for work of the server's own that nobody repeats.
pub(crate) fn passes(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::ResourceExhausted
            | ErrorKind::StorageFull
            | ErrorKind::Internal
    )
}

/// What a kind of error is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    /// Status code of the HTTP answer and `code` of its Status object.
    pub(crate) http: StatusCode,
    /// `reason` of the Status object, a word that Kubernetes clients match.
    pub(crate) reason: &'static str,
    /// Code of the gRPC answer.
    pub(crate) grpc: Code,
    /// After how many seconds the same request may help; `None` if it never does.
    pub(crate) retry_after_seconds: Option<u32>,
}

/// The table.
pub(crate) const fn wire(kind: ErrorKind) -> Wire {
    const fn row(http: StatusCode, reason: &'static str, grpc: Code) -> Wire {
        Wire { http, reason, grpc, retry_after_seconds: None }
    }
    const fn retried(http: StatusCode, reason: &'static str, grpc: Code) -> Wire {
        Wire { http, reason, grpc, retry_after_seconds: Some(1) }
    }
    match kind {
        ErrorKind::InvalidArgument => row(StatusCode::BAD_REQUEST, "BadRequest", Code::InvalidArgument),
        ErrorKind::Invalid => row(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", Code::InvalidArgument),
        ErrorKind::Unauthenticated => row(StatusCode::UNAUTHORIZED, "Unauthorized", Code::Unauthenticated),
        ErrorKind::PermissionDenied => row(StatusCode::FORBIDDEN, "Forbidden", Code::PermissionDenied),
        ErrorKind::NotFound => row(StatusCode::NOT_FOUND, "NotFound", Code::NotFound),
        ErrorKind::AlreadyExists => row(StatusCode::CONFLICT, "AlreadyExists", Code::AlreadyExists),
        ErrorKind::Conflict => row(StatusCode::CONFLICT, "Conflict", Code::Aborted),
        ErrorKind::FailedPrecondition => row(StatusCode::BAD_REQUEST, "BadRequest", Code::FailedPrecondition),
        ErrorKind::Gone => row(StatusCode::GONE, "Expired", Code::OutOfRange),
        ErrorKind::TooLarge => row(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", Code::InvalidArgument),
        ErrorKind::ResourceExhausted => {
            retried(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", Code::ResourceExhausted)
        }
        ErrorKind::StorageFull => row(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", Code::ResourceExhausted),
        ErrorKind::Unavailable => retried(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", Code::Unavailable),
        ErrorKind::Timeout => retried(StatusCode::GATEWAY_TIMEOUT, "Timeout", Code::DeadlineExceeded),
        ErrorKind::Unimplemented => row(StatusCode::NOT_IMPLEMENTED, "NotImplemented", Code::Unimplemented),
        ErrorKind::Internal => row(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", Code::Internal),
    }
}

/// Writes an error to the log, at the level that its kind deserves: a caller's mistake is never an error of ours.
pub(crate) fn log(error: &ApiError) {
    let detail = error.detail.as_deref().unwrap_or_default();
    match error.kind {
        ErrorKind::Internal | ErrorKind::StorageFull => {
            tracing::error!(reason = error.reason, detail, "request failed: {}", error.message);
        }
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::ResourceExhausted => {
            tracing::warn!(reason = error.reason, detail, "request put off: {}", error.message);
        }
        ErrorKind::InvalidArgument
        | ErrorKind::Invalid
        | ErrorKind::Unauthenticated
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::FailedPrecondition
        | ErrorKind::Gone
        | ErrorKind::TooLarge
        | ErrorKind::Unimplemented => {
            tracing::debug!(reason = error.reason, detail, "request refused: {}", error.message);
        }
    }
}

/// The answer to whoever still waits while the server stops.
pub(crate) fn stopping() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "SHUTTING_DOWN", "the server is shutting down")
        .hint("try again; nothing was lost")
}
