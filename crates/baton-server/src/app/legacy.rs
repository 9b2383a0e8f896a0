//! Taking over executions that an older system serialized.
//!
//! Such bytes may have the callback token in `status`, where it stood once. It is input: it is lifted into `spec`, and
//! from there takes the way of every token. Bytes with two different tokens are refused whole.

use baton_proto::{Resource as _, legacy, v1};
use baton_types::{ApiError, ErrorKind, Violation};

use super::{App, WriteOptions, error};

impl App {
    /// Takes over a WorkflowExecution from its serialized form, old or new, and starts it as a new execution with the
    /// same name, labels, spec and return address. What the engine observed elsewhere (uid, phase, history) stays there.
    ///
    /// # Errors
    /// InvalidArgument if the bytes are something else, hold two different tokens, or hold an execution that has
    /// ended: nothing is written then. Otherwise as for [`App::create`].
    pub async fn import_legacy(&self, bytes: &[u8], namespace: Option<&str>) -> Result<v1::WorkflowExecution, ApiError> {
        let mut execution = legacy::decode_workflow_execution(bytes).map_err(|failed| {
            let reason = match &failed {
                legacy::LegacyError::Malformed(_) => "LEGACY_MALFORMED",
                legacy::LegacyError::TokensDiffer { .. } => "CALLBACK_TOKENS_DIFFER",
            };
            ApiError::new(ErrorKind::InvalidArgument, reason, error::chain(&failed))
        })?;
        let meta = execution.metadata_mut();
        if let Some(namespace) = namespace {
            namespace.clone_into(&mut meta.namespace);
        }
        let status = execution.status.take().unwrap_or_default();
        if status.phase.parse().is_ok_and(baton_types::Phase::is_terminal) {
            let violation = Violation::new("status.phase", format!("is '{}': the execution has ended where it ran, so there is nothing to take over", status.phase));
            return Err(ApiError::violations(vec![violation]));
        }
        let meta = execution.metadata_mut();
        meta.resource_version.clear();
        meta.owner_references.clear();
        meta.finalizers.clear();
        Ok(self.create(execution, WriteOptions::default()).await?.object)
    }
}
