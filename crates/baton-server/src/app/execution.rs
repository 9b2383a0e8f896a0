//! Executions: create, change, end, remove. The engine is their only writer; this is the way to it.

use baton_engine::{Admitted, CALLBACK_FINALIZER};
use baton_proto::{ExecutionResource, Resource, v1};
use baton_store::{ResourceKey, StoredResource};
use baton_types::{ApiError, ErrorKind, Uid, Violation, fingerprint};
use bytes::Bytes;
use serde_json::Value;

use super::{
    App, Change, DeletedObject, ExecutionKind, WriteOptions, Written,
    admission::{self, ExecutionStrategy},
    error,
    fetch::CANNOT_BE_USED,
    merge, metadata,
};
use crate::{metrics, sessions};

/// Names tried for a `generateName` before giving up.
const NAME_ATTEMPTS_MAX: usize = 8;
/// Longest reason of a cancel or terminate, in bytes.
const REASON_BYTES_MAX: usize = 4096;

/// The public object of an execution's stored body.
pub(crate) fn decode<R: ExecutionKind>(body: &Bytes, revision: u64) -> Result<R, ApiError> {
    own(baton_engine::decode_stored(R::KIND, body, revision)?)
}

/// The execution as the kind that it is known to be.
pub(crate) fn own<R: ExecutionKind>(execution: ExecutionResource) -> Result<R, ApiError> {
    let found = execution.kind();
    R::from_execution(execution).ok_or_else(|| ApiError::internal(format!("{found} where {} was expected", R::KIND)))
}

/// Creates an execution; a repeat with the same name, request id and content gives the existing one.
pub(crate) async fn create<R: ExecutionStrategy>(
    app: &App,
    object: R,
    options: WriteOptions,
) -> Result<Written<R>, ApiError> {
    let repeatable = Repeatable::of(&object);
    let admission = match admission::admit(app, object, None).await {
        Ok(admission) => admission,
        Err(refused) => {
            return repeated(app, repeatable.filter(|_| !options.dry_run), refused).await;
        }
    };
    if options.dry_run {
        return dry_create(app, admission.admitted).await;
    }
    let mut admitted = admission.admitted;
    for attempt in 1.. {
        let retried = admission.generated && attempt < NAME_ATTEMPTS_MAX;
        let (this, next) = if retried { (admitted.clone(), Some(admitted)) } else { (admitted, None) };
        match sessions::create(app, this).await {
            Ok(created) => {
                if !created.existing {
                    metrics::execution_created(R::KIND);
                }
                return Ok(Written {
                    object: own(created.resource)?,
                    created: !created.existing,
                    warnings: Vec::new(),
                });
            }
            Err(refused) if refused.kind == ErrorKind::AlreadyExists && next.is_some() => {
                let Some(again) = next else { return Err(refused) };
                admitted = again;
                let meta = admitted.resource.metadata_mut();
                meta.name = metadata::generated_name(&meta.generate_name);
                meta.uid = metadata::new_uid().to_string();
            }
            Err(refused) => return repeated(app, repeatable, refused).await,
        }
    }
    Err(ApiError::internal("no name was tried"))
}

/// The answer to a create that was refused, if it is the repeat of one that was not.
async fn repeated<R: ExecutionStrategy>(
    app: &App,
    this: Option<Repeatable<R>>,
    refused: ApiError,
) -> Result<Written<R>, ApiError> {
    let existing = Repeatable::find(app, this, refused).await?;
    Ok(Written { object: own(existing)?, created: false, warnings: Vec::new() })
}

/// A create that may be the repeat of an earlier one.
pub(super) struct Repeatable<R>(R);

impl<R: ExecutionStrategy> Repeatable<R> {
    /// `None` for a create that does not say which request it is.
    pub(super) fn of(object: &R) -> Option<Self> {
        let named = object.metadata().is_some_and(|meta| !meta.name.is_empty());
        let execution = object.clone();
        (named && !execution.clone().into_execution().request_id().is_empty()).then_some(Self(execution))
    }

    /// The execution that the same request created while its template, and what it refers to elsewhere, was still there and
    /// the same; otherwise the refusal.
    pub(super) async fn find(app: &App, this: Option<Self>, refused: ApiError) -> Result<ExecutionResource, ApiError> {
        let field = format!("spec.{}", R::TEMPLATE_FIELD);
        let elsewhere = |violation: &Violation| violation.field == field || violation.message.contains(CANNOT_BE_USED);
        let others_changed = refused.kind == ErrorKind::AlreadyExists
            || (!refused.violations.is_empty() && refused.violations.iter().all(elsewhere));
        let Some(Self(mut object)) = this.filter(|_| others_changed) else { return Err(refused) };
        let meta = object.metadata_mut().clone();
        let key = ResourceKey::new(R::KIND, super::or_default(&meta.namespace), meta.name);
        let Some(stored) = app.read(move |store| store.get(&key)).await? else { return Err(refused) };
        let existing = decode::<R>(&stored.body, stored.revision)?;
        // Brought to the same form as the stored one; what is wrong with it was found before.
        object.keep_resources(&existing);
        object.parts(&mut Vec::new());
        let existing = existing.into_execution();
        let mut execution = object.into_execution();
        let token = execution.take_callback_token();
        if existing.request_id() != execution.request_id()
            || spec_without_changeable(&existing) != spec_without_changeable(&execution)
        {
            return Err(refused);
        }
        if token.is_empty() { Ok(existing) } else { app.engine()?.attach(Uid::from_bytes(stored.uid), token).await }
    }
}

async fn dry_create<R: ExecutionStrategy>(app: &App, mut admitted: Admitted) -> Result<Written<R>, ApiError> {
    let meta = admitted.resource.metadata();
    let key = ResourceKey::new(R::KIND, meta.namespace.clone(), meta.name.clone());
    let request_id = admitted.resource.request_id().to_owned();
    if let Some(stored) = app.read(move |store| store.get(&key)).await? {
        let existing: R = decode(&stored.body, stored.revision)?;
        let repeated = !request_id.is_empty() && existing.clone().into_execution().request_id() == request_id;
        if !repeated {
            return Err(error::already_exists::<R>(&stored.key.namespace, &stored.key.name));
        }
        return Ok(Written { object: existing, created: false, warnings: Vec::new() });
    }
    admitted.resource.take_callback_token();
    Ok(Written { object: own(admitted.resource)?, created: true, warnings: Vec::new() })
}

/// Changes metadata and `spec.suspend`; any other change of the spec is refused with its path.
///
/// `change` sees the execution as its only writer has it, so a busy execution does not turn a patch into conflicts.
pub(crate) async fn replace<R: ExecutionStrategy>(
    app: &App,
    stored: &StoredResource,
    change: Change<R>,
    options: WriteOptions,
) -> Result<Written<R>, ApiError> {
    let apply_to = move |current: &mut ExecutionResource| {
        let present: R = own(current.clone())?;
        let mut object = change(&present)?;
        let mut violations = Vec::new();
        object.metadata_mut().uid.clone_from(&current.metadata().uid);
        object.keep_resources(&present);
        metadata::check(object.metadata_mut(), &mut violations);
        object.parts(&mut violations);
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        super::template::check_size(&object)?;
        apply::<R>(object.into_execution(), current)
    };
    let execution = if options.dry_run {
        let mut current = decode::<R>(&stored.body, stored.revision)?.into_execution();
        apply_to(&mut current)?;
        current
    } else {
        app.engine()?.update(Uid::from_bytes(stored.uid), Box::new(apply_to)).await?
    };
    Ok(Written { object: own(execution)?, created: false, warnings: Vec::new() })
}

/// Puts the fields of `new` that may change into `current`.
fn apply<R: Resource>(mut new: ExecutionResource, current: &mut ExecutionResource) -> Result<(), ApiError> {
    let mut violations = Vec::new();
    check_same_token(&new.take_callback_token(), current, &mut violations);
    check_same_spec(&new, current, &mut violations);
    if !violations.is_empty() {
        return Err(error::immutable::<R>(&current.metadata().name, violations));
    }
    metadata::check_no_new_finalizers(new.metadata(), current.metadata(), &mut violations);
    if !violations.is_empty() {
        return Err(ApiError { kind: ErrorKind::Invalid, ..ApiError::violations(violations) });
    }
    let suspend = new.suspend();
    let requested = std::mem::take(new.metadata_mut());
    let meta = current.metadata_mut();
    // The system's own: a caller must not be left without its answer, or a session without its turn, because somebody
    // replaced the metadata.
    let ours = |it: &String| it == CALLBACK_FINALIZER || it == sessions::SESSION_FINALIZER;
    let held: Vec<String> = meta.finalizers.iter().filter(|it| ours(it)).cloned().collect();
    meta.labels = requested.labels;
    meta.annotations = requested.annotations;
    meta.owner_references = requested.owner_references;
    meta.finalizers = requested.finalizers;
    for finalizer in held {
        if !meta.finalizers.contains(&finalizer) {
            meta.finalizers.push(finalizer);
        }
    }
    set_suspend(current, suspend)
}

fn check_same_token(token: &[u8], current: &ExecutionResource, violations: &mut Vec<Violation>) {
    if token.is_empty() {
        return;
    }
    let first =
        current.callbacks().and_then(|callbacks| callbacks.first()).map(|callback| callback.fingerprint.as_str());
    let message = match first {
        Some(known) if known == fingerprint(token) => return,
        Some(known) => format!("cannot be changed: the execution answers the token with fingerprint {known}"),
        None => "cannot be added after creation; attach it through the callbacks subresource".to_owned(),
    };
    violations.push(Violation::new("spec.callbackToken", message));
}

fn check_same_spec(new: &ExecutionResource, current: &ExecutionResource, violations: &mut Vec<Violation>) {
    let mut paths = Vec::new();
    merge::changed_paths("spec", &spec_without_changeable(current), &spec_without_changeable(new), &mut paths);
    violations.extend(paths.into_iter().map(|path| Violation::new(path, "cannot be changed after creation")));
}

fn spec_without_changeable(execution: &ExecutionResource) -> Value {
    let mut spec = match execution {
        ExecutionResource::Workflow(it) => baton_proto::to_json_value(&it.spec),
        ExecutionResource::Agent(it) => baton_proto::to_json_value(&it.spec),
    };
    if let Some(fields) = spec.as_object_mut() {
        fields.shift_remove("suspend");
        fields.shift_remove("callbackToken");
    }
    spec
}

/// Changes `spec.suspend`; the desired state has then another generation.
pub(crate) fn set_suspend(execution: &mut ExecutionResource, suspend: bool) -> Result<(), ApiError> {
    if execution.suspend() == suspend {
        return Ok(());
    }
    if execution.phase().is_terminal() {
        let message = format!(
            "{} '{}' has ended: its phase is {}",
            title(execution),
            execution.metadata().name,
            execution.phase()
        );
        return Err(ApiError::new(ErrorKind::FailedPrecondition, "EXECUTION_ENDED", message));
    }
    execution.set_suspend(suspend);
    execution.metadata_mut().generation += 1;
    Ok(())
}

fn title(execution: &ExecutionResource) -> &'static str {
    match execution {
        ExecutionResource::Workflow(_) => v1::WorkflowExecution::TITLE,
        ExecutionResource::Agent(_) => v1::AgentExecution::TITLE,
    }
}

/// Deletes an execution, or marks it while its callers are still to be told.
pub(crate) async fn remove<R: ExecutionKind>(
    app: &App,
    stored: StoredResource,
    expected: Option<u64>,
) -> Result<DeletedObject<R>, ApiError> {
    let uid = Uid::from_bytes(stored.uid);
    let deleted = app.engine()?.delete(uid, expected).await?;
    app.owner_is_gone(uid);
    Ok(DeletedObject { gone: deleted.gone, object: own(deleted.resource)? })
}

impl App {
    /// Asks an execution to wind up; it ends as cancelled.
    ///
    /// # Errors
    /// NotFound; FailedPrecondition if it has ended.
    pub async fn cancel<R: ExecutionKind>(&self, namespace: &str, name: &str, reason: &str) -> Result<R, ApiError> {
        let (uid, reason) =
            (self.uid_of::<R>(namespace, name).await?, checked_reason(reason, "cancelled by a request")?);
        own(self.engine()?.cancel(uid, reason).await?)
    }

    /// Ends an execution at once, as cancelled.
    ///
    /// # Errors
    /// As for [`App::cancel`].
    pub async fn terminate<R: ExecutionKind>(&self, namespace: &str, name: &str, reason: &str) -> Result<R, ApiError> {
        let (uid, reason) =
            (self.uid_of::<R>(namespace, name).await?, checked_reason(reason, "terminated by a request")?);
        own(self.engine()?.terminate(uid, reason).await?)
    }

    /// Holds an execution: nothing new starts, answers are kept.
    ///
    /// # Errors
    /// As for [`App::cancel`].
    pub async fn suspend<R: ExecutionKind>(&self, namespace: &str, name: &str) -> Result<R, ApiError> {
        self.change_suspend(namespace, name, true).await
    }

    /// Lets a held execution go on.
    ///
    /// # Errors
    /// As for [`App::cancel`].
    pub async fn resume<R: ExecutionKind>(&self, namespace: &str, name: &str) -> Result<R, ApiError> {
        self.change_suspend(namespace, name, false).await
    }

    async fn change_suspend<R: ExecutionKind>(
        &self,
        namespace: &str,
        name: &str,
        suspend: bool,
    ) -> Result<R, ApiError> {
        let uid = self.uid_of::<R>(namespace, name).await?;
        own(self.engine()?.update(uid, Box::new(move |execution| set_suspend(execution, suspend))).await?)
    }
}

fn checked_reason(reason: &str, default: &str) -> Result<String, ApiError> {
    if reason.len() > REASON_BYTES_MAX {
        let message = format!("has {} bytes, allowed are up to {REASON_BYTES_MAX}", reason.len());
        return Err(ApiError::violations(vec![Violation::new("reason", message)]));
    }
    Ok(if reason.is_empty() { default.to_owned() } else { reason.to_owned() })
}
