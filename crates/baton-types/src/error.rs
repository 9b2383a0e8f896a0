//! The one error of the API's edge: what a caller may know, and what only the log may.

use std::fmt;

/// What kind of refusal it is. Decides the gRPC code, the HTTP status, whether a retry helps, and the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong; all violations are listed.
    InvalidArgument,
    /// A change of a field that cannot change, or content that cannot be processed.
    Invalid,
    /// Nobody is known to be calling.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// No such resource.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The resource changed since it was read.
    Conflict,
    /// The resource is in the wrong phase for this.
    FailedPrecondition,
    /// The position is older than what is kept: list again.
    Gone,
    /// The request is larger than the limit.
    TooLarge,
    /// Over a limit; try later.
    ResourceExhausted,
    /// No space is left on the disk of the store.
    StorageFull,
    /// Not able at the moment; try later.
    Unavailable,
    /// The time for this request ran out.
    Timeout,
    /// Not offered by this server.
    Unimplemented,
    /// A bug; the log has the detail.
    Internal,
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Full path, for example `spec.definition.do[2].retry.then`.
    pub field: String,
    /// What was found and what is allowed.
    pub message: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// The same violation seen from outside: `prefix` is put before the path.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => prefix.to_owned(),
            field if field.starts_with('[') => format!("{prefix}{field}"),
            field => format!("{prefix}.{field}"),
        };
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.field, self.message) }
    }
}

/// An answer that is not the one that was asked for.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// What kind of refusal.
    pub kind: ErrorKind,
    /// Stable word that programs can match, such as `CALLBACK_TOKEN_EXPIRED`; each has a page in `docs/errors`.
    pub reason: &'static str,
    /// For the caller: what, which one, what was found, what is allowed.
    pub message: String,
    /// What to do next, as a command where there is one.
    pub hint: Option<String>,
    /// Every field that is wrong.
    pub violations: Vec<Violation>,
    /// For the log only.
    pub detail: Option<String>,
}

impl ApiError {
    /// An error of a kind, with its stable reason and its message.
    pub fn new(kind: ErrorKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into(), hint: None, violations: Vec::new(), detail: None }
    }

    /// A request with these violations, which become the message.
    pub fn violations(violations: Vec<Violation>) -> Self {
        let message = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Self { violations, ..Self::new(ErrorKind::InvalidArgument, "FIELD_INVALID", message) }
    }

    /// No resource of that name; `what` is such as `workflow execution`.
    pub fn not_found(what: &str, name: &str, namespace: &str) -> Self {
        Self::new(ErrorKind::NotFound, "NOT_FOUND", format!("no {what} '{name}' in namespace '{namespace}'"))
    }

    /// A broken invariant; `detail` goes to the log, not to the caller.
    pub fn internal(detail: impl Into<String>) -> Self {
        let error =
            Self::new(ErrorKind::Internal, "INTERNAL", "the server met a problem of its own; its log has the detail");
        Self { detail: Some(detail.into()), ..error }
    }

    /// The same error with the next command to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}
