//! Reading a WorkflowExecution whose writer still kept the callback token in status.
//!
//! The token stood in `WorkflowExecutionStatus` field 11 once. It is input, so it moved to `spec` (field 7), and
//! field 11 is reserved. Bytes of that time must still be readable: the token is lifted into spec.

use prost::Message;

use crate::v1::{WorkflowExecution, WorkflowExecutionSpec};

/// Why bytes are not a WorkflowExecution.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    /// Not this message, or cut off.
    #[error("the bytes are not a serialized WorkflowExecution")]
    Malformed(#[source] prost::DecodeError),
    /// Two return addresses that differ: which one is meant cannot be told.
    #[error(
        "the callback token in status (field 11, fingerprint {old}) differs from the one in spec (field 7, fingerprint {new})"
    )]
    TokensDiffer {
        /// Fingerprint of the one in status.
        old: String,
        /// Fingerprint of the one in spec.
        new: String,
    },
}

/// Only what must be looked at; everything else is skipped unread.
#[derive(Clone, PartialEq, Message)]
struct OldWorkflowExecution {
    #[prost(message, optional, tag = "5")]
    status: Option<OldStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct OldStatus {
    #[prost(bytes = "vec", tag = "11")]
    callback_token: Vec<u8>,
}

/// Reads the serialized form, old or new. Equal tokens in both places count as one; an empty one as none.
///
/// # Errors
/// See [`LegacyError`].
pub fn decode_workflow_execution(bytes: &[u8]) -> Result<WorkflowExecution, LegacyError> {
    let mut execution = WorkflowExecution::decode(bytes).map_err(LegacyError::Malformed)?;
    let old = OldWorkflowExecution::decode(bytes)
        .map_err(LegacyError::Malformed)?
        .status
        .map(|status| status.callback_token)
        .unwrap_or_default();
    if old.is_empty() {
        return Ok(execution);
    }
    let spec: &mut WorkflowExecutionSpec = execution.spec.get_or_insert_default();
    match spec.callback_token.as_deref().unwrap_or_default() {
        [] => spec.callback_token = Some(old),
        new if new == old => {}
        new => {
            return Err(LegacyError::TokensDiffer {
                old: baton_types::fingerprint(&old),
                new: baton_types::fingerprint(new),
            });
        }
    }
    Ok(execution)
}
