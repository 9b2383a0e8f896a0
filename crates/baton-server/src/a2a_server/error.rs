//! Errors in the protocol's words, for both bindings (A2A 1.0, section "Error handling").

use baton_types::{ApiError, ErrorKind, Violation};
use serde_json::{Value, json};

use crate::errors;

/// What is wrong, as clients tell errors apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TaskNotFound,
    TaskNotCancelable,
    UnsupportedOperation,
    ContentTypeNotSupported,
    ExtendedCardNotConfigured,
    VersionNotSupported,
    Parse,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    /// Not now: of this server's own, in the range that JSON-RPC leaves to servers.
    Unavailable,
    Internal,
}

/// An error as both bindings word it.
#[derive(Clone, Debug)]
pub(super) struct A2aError {
    pub(super) kind: Kind,
    pub(super) message: String,
    violations: Vec<Violation>,
}

impl Kind {
    /// Code of JSON-RPC, HTTP status, gRPC status, reason.
    const fn row(self) -> (i32, u16, &'static str, &'static str) {
        match self {
            Self::TaskNotFound => (-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND"),
            Self::TaskNotCancelable => (-32002, 400, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE"),
            Self::UnsupportedOperation => (-32004, 400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION"),
            Self::ContentTypeNotSupported => (-32005, 400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED"),
            Self::ExtendedCardNotConfigured => {
                (-32007, 400, "FAILED_PRECONDITION", "EXTENDED_AGENT_CARD_NOT_CONFIGURED")
            }
            Self::VersionNotSupported => (-32009, 400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED"),
            Self::Parse => (-32700, 400, "INVALID_ARGUMENT", "PARSE_ERROR"),
            Self::InvalidRequest => (-32600, 400, "INVALID_ARGUMENT", "INVALID_REQUEST"),
            Self::MethodNotFound => (-32601, 404, "NOT_FOUND", "METHOD_NOT_FOUND"),
            Self::InvalidParams => (-32602, 400, "INVALID_ARGUMENT", "INVALID_PARAMS"),
            Self::Unavailable => (-32000, 503, "UNAVAILABLE", "UNAVAILABLE"),
            Self::Internal => (-32603, 500, "INTERNAL", "INTERNAL_ERROR"),
        }
    }
}

impl A2aError {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), violations: Vec::new() }
    }

    /// Something wrong with one field of the parameters.
    pub(super) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        ApiError::violations(vec![Violation::new(field, message)]).into()
    }

    pub(super) fn no_task(id: &str) -> Self {
        let id = crate::app::shortened(id);
        Self::new(Kind::TaskNotFound, format!("no task '{id}' of this agent"))
    }

    /// `error` of an answer of JSON-RPC.
    pub(super) fn rpc(&self) -> Value {
        let (code, ..) = self.kind.row();
        json!({"code": code, "message": self.message, "data": self.details()})
    }

    /// Status and body of an answer over HTTP+JSON.
    pub(super) fn http(&self) -> (u16, Value) {
        let (_, http, status, _) = self.kind.row();
        let error = json!({"code": http, "status": status, "message": self.message, "details": self.details()});
        (http, json!({"error": error}))
    }

    fn details(&self) -> Vec<Value> {
        let (.., reason) = self.kind.row();
        let mut details = vec![
            json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "a2a-protocol.org"}),
        ];
        if !self.violations.is_empty() {
            let of = |it: &Violation| json!({"field": it.field, "description": it.message});
            let violations: Vec<_> = self.violations.iter().map(of).collect();
            details.push(json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}));
        }
        details
    }
}

impl From<ApiError> for A2aError {
    fn from(error: ApiError) -> Self {
        errors::log(&error);
        let kind = match error.kind {
            ErrorKind::InvalidArgument
            | ErrorKind::Invalid
            | ErrorKind::AlreadyExists
            | ErrorKind::TooLarge
            | ErrorKind::NotFound
            | ErrorKind::Gone => Kind::InvalidParams,
            ErrorKind::FailedPrecondition
            | ErrorKind::Conflict
            | ErrorKind::Unimplemented
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied => Kind::UnsupportedOperation,
            ErrorKind::ResourceExhausted | ErrorKind::StorageFull | ErrorKind::Unavailable | ErrorKind::Timeout => {
                Kind::Unavailable
            }
            ErrorKind::Internal => Kind::Internal,
        };
        Self { kind, message: error.message, violations: error.violations }
    }
}
