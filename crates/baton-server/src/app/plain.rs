//! Writing objects of kinds that nothing runs: checked whole, stored as they are, read by others when they need them.
//!
//! # Invariants
//! - A stored object has been checked whole; its digest and generation tell whether it changed.
//! - A write that changes nothing keeps `resourceVersion` and tells watchers nothing.

use baton_store::{CommitError, Expect, ResourceKey, ResourcePut, StoredResource};
use baton_types::{ApiError, Violation};
use bytes::Bytes;

use super::{App, Change, DeletedObject, ServedResource, WriteOptions, Written, error, metadata, template};

/// A kind whose objects only hold something.
pub(super) trait PlainKind: ServedResource {
    /// Brings the spec to one form and notes what is wrong with it.
    fn check(&mut self, violations: &mut Vec<Violation>);
    /// Writes what `status` says of a spec that passed its check.
    fn write_status(&mut self);
    /// What is odd in it and stops nothing, as sentences.
    fn warnings(&self, _app: &App) -> impl Future<Output = Result<Vec<String>, ApiError>> + Send {
        async { Ok(Vec::new()) }
    }
    /// Notes that an object of a namespace was written or removed.
    fn written(_app: &App, _namespace: &str) {}
}

/// Creates an object.
pub(super) async fn create<R: PlainKind>(
    app: &App,
    mut object: R,
    options: WriteOptions,
) -> Result<Written<R>, ApiError> {
    let mut violations = Vec::new();
    metadata::complete(&mut object, &mut violations);
    let now = metadata::now_ms();
    let generated = metadata::prepare_new(object.metadata_mut(), metadata::new_uid(), now, &mut violations);
    metadata::check(object.metadata_mut(), &mut violations);
    object.take_status_of(&R::default());
    object.check(&mut violations);
    if !violations.is_empty() {
        return Err(ApiError::violations(violations));
    }
    let warnings = object.warnings(app).await?;
    object.write_status();
    template::write_accepted(&mut object, now);
    for attempt in 1.. {
        template::check_size(&object)?;
        let meta = object.metadata_mut().clone();
        let key = ResourceKey::new(R::KIND, meta.namespace.clone(), meta.name.clone());
        let taken = if options.dry_run {
            app.read(move |store| store.get(&key)).await?.is_some()
        } else {
            let put = template::put_of(&object, key, app.store().next_number(), Expect::Absent)?;
            match template::commit_put(app, put).await {
                Ok(revision) => {
                    object.metadata_mut().resource_version = revision.to_string();
                    R::written(app, &meta.namespace);
                    false
                }
                Err(CommitError::Exists { .. }) => true,
                Err(error) => return Err(error::commit_failed(&error)),
            }
        };
        if !taken {
            break;
        }
        if !generated || attempt >= template::NAME_ATTEMPTS_MAX {
            return Err(error::already_exists::<R>(&meta.namespace, &meta.name));
        }
        object.metadata_mut().name = metadata::generated_name(&meta.generate_name);
    }
    Ok(Written { object, created: true, warnings })
}

/// Replaces an object.
pub(super) async fn replace<R: PlainKind>(
    app: &App,
    stored: &StoredResource,
    change: Change<R>,
    options: WriteOptions,
) -> Result<Written<R>, ApiError> {
    let old = R::decode_stored(&stored.body, stored.revision)?;
    let mut object = change(&old)?;
    let mut violations = Vec::new();
    let before = old.metadata().cloned().unwrap_or_default();
    metadata::keep_system_fields(object.metadata_mut(), &before);
    metadata::check_no_new_finalizers(object.metadata_mut(), &before, &mut violations);
    metadata::check(object.metadata_mut(), &mut violations);
    object.take_status_of(&old);
    object.check(&mut violations);
    if !violations.is_empty() {
        return Err(ApiError::violations(violations));
    }
    let warnings = object.warnings(app).await?;
    if !object.same_spec(&old) {
        object.metadata_mut().generation += 1;
    }
    object.write_status();
    template::write_accepted(&mut object, metadata::now_ms());
    template::check_size(&object)?;
    object.metadata_mut().resource_version.clone_from(&before.resource_version);
    if options.dry_run || object == old {
        return Ok(Written { object, created: false, warnings });
    }
    object.metadata_mut().resource_version.clear();
    let ends = before.deletion_timestamp.is_some() && object.metadata_mut().finalizers.is_empty();
    let revision = if ends {
        template::delete_row(app, stored, &object).await
    } else {
        let expect = Expect::Revision(stored.revision);
        let put = template::put_of(&object, stored.key.clone(), stored.number, expect)?;
        template::commit_put(app, ResourcePut { expires_at_ms: stored.expires_at_ms, ..put }).await
    };
    R::written(app, &stored.key.namespace);
    let revision = revision.map_err(|failed| template::write_failed::<R>(stored, &failed))?;
    object.metadata_mut().resource_version = revision.to_string();
    Ok(Written { object, created: false, warnings })
}

/// Deletes an object, or marks it while finalizers hold it.
pub(super) async fn remove<R: PlainKind>(app: &App, stored: &StoredResource) -> Result<DeletedObject<R>, ApiError> {
    let removed = template::remove_row(app, stored, |object: &R| Bytes::from(object.encode_to_vec())).await;
    R::written(app, &stored.key.namespace);
    removed
}
