//! What went wrong, as problem details (RFC 9457), the error shape of the workflow language and of the API.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A fault of a workflow, an agent or an activity. Data, not a Rust error: it can be raised, caught and retried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// URI naming the kind of fault; the standard ones are in [`fault_type`].
    #[serde(rename = "type")]
    pub kind: String,
    /// HTTP-like status code.
    pub status: u16,
    /// Short and the same for every fault of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What happened this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// JSON pointer to the task at which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Whether repeating the same call is known to be useless.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub non_retryable: bool,
    /// Structured data for the handler, such as the body of an HTTP error response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// Types of the standard faults: those of the workflow language (DSL reference, "Standard Error Types") and Baton's own.
pub mod fault_type {
    /// Something in a definition or configuration is wrong.
    pub const CONFIGURATION: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/configuration";
    /// Data does not have the shape that was demanded.
    pub const VALIDATION: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/validation";
    /// An expression failed.
    pub const EXPRESSION: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/expression";
    /// The other side did not accept who we are.
    pub const AUTHENTICATION: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/authentication";
    /// The other side does not let us do this.
    pub const AUTHORIZATION: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/authorization";
    /// A limit of time passed.
    pub const TIMEOUT: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/timeout";
    /// The other side could not be reached or answered with an error.
    pub const COMMUNICATION: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/communication";
    /// Anything else that went wrong while running.
    pub const RUNTIME: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/runtime";
    /// The callee was cancelled.
    pub const CANCELLED: &str = "https://baton.dev/errors/cancelled";
    /// Data is larger than the limit.
    pub const TOO_LARGE: &str = "https://baton.dev/errors/too-large";
    /// A call that must not be repeated may or may not have happened before a restart.
    pub const IN_DOUBT: &str = "https://baton.dev/errors/in-doubt";
    /// A policy, or a person who was asked, does not allow it.
    pub const DENIED: &str = "https://baton.dev/errors/denied";
    /// A limit of the execution (turns, tokens, depth, history) was reached.
    pub const LIMIT: &str = "https://baton.dev/errors/limit";
    /// A replay gave other commands than the history holds.
    pub const NON_DETERMINISM: &str = "https://baton.dev/errors/non-determinism";
}

impl Fault {
    /// A fault of a type, with what happened.
    pub fn new(kind: &str, status: u16, detail: impl Into<String>) -> Self {
        let title = kind.rsplit('/').next().unwrap_or(kind).replace('-', " ");
        Self {
            kind: kind.to_owned(),
            status,
            title: Some(title),
            detail: Some(detail.into()),
            instance: None,
            non_retryable: false,
            data: None,
        }
    }

    /// The same fault, marked as useless to retry.
    #[must_use]
    pub fn non_retryable(mut self) -> Self {
        self.non_retryable = true;
        self
    }

    /// The same fault at a position, unless it already names one.
    #[must_use]
    pub fn at(mut self, position: &str) -> Self {
        self.instance.get_or_insert_with(|| position.to_owned());
        self
    }

    /// The same fault with structured data for a handler.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title.as_deref().unwrap_or(&self.kind))?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}
