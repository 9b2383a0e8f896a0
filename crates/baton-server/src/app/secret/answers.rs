//! Values of secrets in answers to callback tokens and to questions: taken out before the answer is recorded.
//!
//! Whoever was handed a token may have been handed a secret in the same request, and may repeat it; a person who decides may paste
//! one. What is looked for are the values, as they are now, of the secrets that the definition of the waiting execution lists.
//!
//! # Failure
//! A secret that cannot be read is passed over, and logged: the answer must not be lost for it.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use baton_activities::redact_outcome;
use baton_execution::{Outcome, ProgramKind};
use baton_proto::v1::{AgentExecution, Secret, WorkflowExecution};
use baton_store::{ListQuery, Store, StoreError};
use baton_types::{ApiError, Digest, Uid};
use bytes::Bytes;

use super::{App, Hidden, Resource, ServedResource};

/// Whether there are secrets at all: where there are none, an answer costs nothing more.
///
/// All secrets are written by the server that leads, so counting its writes is enough to know that nothing has changed.
#[derive(Default)]
pub(in crate::app) struct SecretPresence {
    written: AtomicU64,
    /// One more than the count of writes at which there were none; 0 if that is not known.
    absent_after: AtomicU64,
}

impl SecretPresence {
    /// Notes that a secret is in the store; before whoever created it hears of it.
    pub(super) fn one_was_written(&self) {
        self.written.fetch_add(1, SeqCst);
    }

    fn are_absent(&self) -> bool {
        self.absent_after.load(SeqCst) == self.written.load(SeqCst) + 1
    }
}

/// What a waiting execution runs.
struct Waiting {
    program: ProgramKind,
    namespace: String,
    digest: Digest,
    content: Bytes,
}

impl App {
    /// The answer without the values of the secrets that the waiting execution uses.
    ///
    /// # Errors
    /// What the store says.
    pub(in crate::app) async fn without_secrets(&self, waits: Uid, answer: Outcome) -> Result<Outcome, ApiError> {
        let values = self.values_used_by(waits).await?;
        Ok(if values.is_empty() { answer } else { redact_outcome(&values, answer) })
    }

    /// The values, as they are now, of the secrets that the definition of an execution lists.
    ///
    /// # Errors
    /// What the store says.
    pub(in crate::app) async fn values_used_by(&self, execution: Uid) -> Result<Vec<Hidden>, ApiError> {
        if self.0.secrets.are_absent() {
            return Ok(Vec::new());
        }
        let written = self.0.secrets.written.load(SeqCst);
        let none = |store: &Store| Ok(store.list(&ListQuery::new(Secret::KIND, 1))?.items.is_empty());
        if self.read(none).await? {
            self.0.secrets.absent_after.store(written + 1, SeqCst);
            return Ok(Vec::new());
        }
        let Some(Waiting { program, namespace, digest, content }) =
            self.read(move |store| waiting(store, execution)).await?
        else {
            return Ok(Vec::new());
        };
        let Ok(compiled) = self.programs().get(program, &digest, &content) else { return Ok(Vec::new()) };
        let mut values = Vec::new();
        for (_, name) in compiled.secrets() {
            match self.secret_values(&namespace, name).await {
                Ok(secret) => values.extend(secret.into_iter().flatten().map(|(_, value)| value)),
                Err(error) => tracing::error!(name, namespace, "a secret is not looked for in an answer: {error}"),
            }
        }
        Ok(values)
    }
}

/// `None` for what is no execution, or has not been pinned yet.
fn waiting(store: &Store, uid: Uid) -> Result<Option<Waiting>, StoreError> {
    let Some(stored) = store.get_by_uid(*uid.as_bytes())? else { return Ok(None) };
    let (body, revision) = (&stored.body, stored.revision);
    let (program, template) = match stored.key.kind.as_ref() {
        WorkflowExecution::KIND => {
            let execution = WorkflowExecution::decode_stored(body, revision).ok();
            (ProgramKind::Workflow, execution.and_then(|it| it.status).and_then(|status| status.template))
        }
        AgentExecution::KIND => {
            let execution = AgentExecution::decode_stored(body, revision).ok();
            (ProgramKind::Agent, execution.and_then(|it| it.status).and_then(|status| status.template))
        }
        _ => return Ok(None),
    };
    let Some(digest) = template.and_then(|it| it.digest.parse::<Digest>().ok()) else { return Ok(None) };
    let content = store.blob(digest.as_bytes())?;
    Ok(content.map(|content| Waiting { program, namespace: stored.key.namespace.clone(), digest, content }))
}
