//! Taking over executions that an older system serialized.
//!
//! Such bytes may have the callback token in `status`, where it stood once. It is input: it is lifted into `spec`, and
//! from there takes the way of every token. Bytes with two different tokens are refused whole.
//!
//! # Invariants
//! - One that has not ended starts anew here, with its spec and its return address. If nobody gave it a request id, it gets
//!   one that stands for its bytes, so that to import it again finds it.
//! - One that has ended is kept as it is: phase, output, error and times. Its token is attached, so it is answered (again,
//!   if it was before: a second answer is harmless).
//! - No token reaches the disk in clear.

use baton_proto::{CallbackState, ExecutionResource, Timestamp, condition, legacy, v1};
use baton_store::{CommitError, Lane, Txn};
use baton_types::{ApiError, ErrorKind, Phase, Uid, fingerprint};

use super::{
    App, ServedResource as _, WriteOptions,
    admission::ExecutionStrategy as _,
    error, execution,
    metadata::{self, now_ms},
    template,
};

impl App {
    /// Takes over a WorkflowExecution from its serialized form, old or new.
    ///
    /// # Errors
    /// InvalidArgument if the bytes are something else, hold two different tokens, or break a rule of admission;
    /// AlreadyExists if another execution has the name. Nothing is written then.
    pub async fn import_legacy(
        &self,
        bytes: &[u8],
        namespace: Option<&str>,
    ) -> Result<v1::WorkflowExecution, ApiError> {
        let mut object = legacy::decode_workflow_execution(bytes).map_err(|failed| {
            let reason = match &failed {
                legacy::LegacyError::Malformed(_) => "LEGACY_MALFORMED",
                legacy::LegacyError::TokensDiffer { .. } => "CALLBACK_TOKENS_DIFFER",
            };
            ApiError::new(ErrorKind::InvalidArgument, reason, error::chain(&failed))
        })?;
        let meta = object.metadata.get_or_insert_default();
        if let Some(namespace) = namespace {
            namespace.clone_into(&mut meta.namespace);
        }
        meta.resource_version.clear();
        // Owners and finalizers of the system that it comes from mean nothing here.
        meta.owner_references.clear();
        meta.finalizers.clear();
        meta.deletion_timestamp = None;
        let ended = object.status.as_ref().is_some_and(|status| status.phase.parse().is_ok_and(Phase::is_terminal));
        if ended {
            self.keep_ended(object).await
        } else {
            let spec = object.spec.get_or_insert_default();
            if spec.request_id.is_empty() {
                spec.request_id = format!("import-{}", fingerprint(bytes));
            }
            Ok(self.create(object, WriteOptions::default()).await?.object)
        }
    }

    async fn keep_ended(&self, mut object: v1::WorkflowExecution) -> Result<v1::WorkflowExecution, ApiError> {
        let mut violations = Vec::new();
        metadata::complete(&mut object, &mut violations);
        let meta = object.metadata.get_or_insert_default();
        let uid = meta.uid.parse().unwrap_or_else(|_| metadata::new_uid());
        meta.uid = uid.to_string();
        meta.generation = meta.generation.max(1);
        meta.creation_timestamp =
            meta.creation_timestamp.or_else(|| Some(Timestamp::from_millis(now_ms()).whole_seconds()));
        metadata::check(meta, &mut violations);
        object.parts(&mut violations);
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        template::check_size(&object)?;
        let mut execution = ExecutionResource::Workflow(Box::new(object));
        let token = execution.take_callback_token();
        // A return address of another installation: nobody here can answer it, and the status says so.
        let answerable = !token.is_empty() && self.engine()?.check_token(&token).is_ok();
        if !token.is_empty() && !answerable {
            note_unanswerable(&mut execution, &token);
        }
        let stored: v1::WorkflowExecution = self.put_ended(uid, execution).await?;
        if !answerable {
            return Ok(stored);
        }
        let uid = stored.metadata.as_ref().and_then(|meta| meta.uid.parse().ok()).unwrap_or(uid);
        execution::own(self.engine()?.attach(uid, token).await?)
    }

    /// Stores an execution that has ended, or finds the same one there already.
    async fn put_ended(&self, uid: Uid, execution: ExecutionResource) -> Result<v1::WorkflowExecution, ApiError> {
        let expires_at_ms =
            execution.ttl_seconds_after_finished().map(|seconds| now_ms().saturating_add(i64::from(seconds) * 1000));
        let put = baton_engine::ended_row(execution.clone(), uid, self.store().next_number(), expires_at_ms);
        let (key, body) = (put.key.clone(), put.body.clone());
        match self.store().commit_async(Lane::External, Txn { puts: vec![put], ..Txn::default() }).await {
            Ok(committed) => {
                v1::WorkflowExecution::decode_stored(&body, committed.revisions.first().copied().unwrap_or_default())
            }
            Err(CommitError::Exists { .. }) => {
                let stored: v1::WorkflowExecution = self.get(&key.namespace, &key.name).await?;
                let same = |status: &v1::WorkflowExecutionStatus| {
                    (status.phase.clone(), status.output.clone(), status.error.clone())
                };
                let new: v1::WorkflowExecution = execution::own(execution)?;
                let repeated =
                    stored.spec == new.spec && stored.status.as_ref().map(same) == new.status.as_ref().map(same);
                if repeated {
                    Ok(stored)
                } else {
                    Err(error::already_exists::<v1::WorkflowExecution>(&key.namespace, &key.name))
                }
            }
            Err(failed) => Err(error::commit_failed(&failed)),
        }
    }
}

fn note_unanswerable(execution: &mut ExecutionResource, token: &[u8]) {
    let now = Timestamp::from_millis(now_ms());
    execution.callbacks_mut().push(v1::CallbackStatus {
        fingerprint: fingerprint(token),
        state: CallbackState::Abandoned.as_str().to_owned(),
        added_time: Some(now),
        settled_time: Some(now),
        last_error: "the token is of another installation; no configured engine can answer it".to_owned(),
        ..v1::CallbackStatus::default()
    });
    execution.set_condition(
        condition::CALLBACK_DELIVERED,
        false,
        CallbackState::Abandoned.as_str(),
        "0 of 1 delivered",
        now,
    );
}
