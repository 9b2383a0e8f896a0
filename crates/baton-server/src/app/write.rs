//! Create, update, patch and delete, alike for every kind.

use baton_proto::{JsonError, v1};
use baton_types::{ApiError, ErrorKind, Uid, Violation};
use serde_json::Value;

use super::{App, DeletedObject, ServedResource, WriteOptions, Written, error, merge, metadata};

/// Times that a write which names no version is tried when others write the same object.
const RACES_MAX: usize = 8;

impl App {
    /// Creates an object. An execution is created once for its name and `spec.requestId`: `created` is false for a repeat.
    ///
    /// # Errors
    /// InvalidArgument with every violation; AlreadyExists; TooLarge; what the store or the engine answered.
    pub async fn create<R: ServedResource>(&self, object: R, options: WriteOptions) -> Result<Written<R>, ApiError> {
        Box::pin(R::admit_new(self, object, options)).await
    }

    /// Replaces an object; `metadata.resourceVersion` must be the stored one. `status` is ignored.
    ///
    /// # Errors
    /// InvalidArgument with every violation; NotFound; Conflict; Invalid for a change of what cannot change.
    pub async fn update<R: ServedResource>(
        &self,
        mut object: R,
        options: WriteOptions,
    ) -> Result<Written<R>, ApiError> {
        let mut violations = Vec::new();
        metadata::complete(&mut object, &mut violations);
        let meta = object.metadata_mut().clone();
        if meta.name.is_empty() {
            violations.push(Violation::new("metadata.name", "must be set"));
        }
        if meta.resource_version.is_empty() {
            violations.push(Violation::new(
                "metadata.resourceVersion",
                "must be set for an update: the one that the object was read with",
            ));
        }
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        let stored = self.stored::<R>(&meta.namespace, &meta.name).await?;
        let change = move |present: &R| {
            check_preconditions(present, &meta.uid, &meta.resource_version)?;
            Ok(object)
        };
        R::replace(self, stored, Box::new(change), options).await
    }

    /// Changes an object by a merge patch (RFC 7386). Races are retried, unless the patch has a `metadata.resourceVersion`.
    ///
    /// # Errors
    /// As for [`App::update`].
    pub async fn patch<R: ServedResource>(
        &self,
        namespace: &str,
        name: &str,
        mut patch: Value,
        options: WriteOptions,
    ) -> Result<Written<R>, ApiError> {
        if !patch.is_object() {
            return Err(ApiError::violations(vec![Violation::new("", "a merge patch must be a JSON object")]));
        }
        super::refuse_misplaced_token(&patch)?;
        R::prepare_patch(&mut patch);
        let required = patch.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned);
        let mut attempt = 1;
        loop {
            let stored = self.stored::<R>(namespace, name).await?;
            let (patch, version) = (patch.clone(), required.clone());
            let change = move |present: &R| {
                check_preconditions(present, "", version.as_deref().unwrap_or_default())?;
                patched(present, patch)
            };
            match R::replace(self, stored, Box::new(change), options).await {
                Err(refused) if refused.kind == ErrorKind::Conflict && required.is_none() && attempt < RACES_MAX => {
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Deletes an object, or marks it while finalizers hold it.
    ///
    /// # Errors
    /// NotFound; Conflict if `uid` or `resource_version` of the request are not those of the object.
    pub async fn delete<R: ServedResource>(&self, request: &v1::DeleteRequest) -> Result<DeletedObject<R>, ApiError> {
        let mut attempt = 1;
        loop {
            let stored = self.stored::<R>(&request.namespace, &request.name).await?;
            let uid = Uid::from_bytes(stored.uid).to_string();
            if !request.uid.is_empty() && request.uid != uid {
                return Err(error::uid_mismatch::<R>(&request.name, &uid, &request.uid));
            }
            let version = stored.revision.to_string();
            let required = !request.resource_version.is_empty();
            if required && request.resource_version != version {
                return Err(error::conflict::<R>(
                    &stored.key.namespace,
                    &request.name,
                    &version,
                    &request.resource_version,
                ));
            }
            let expected = required.then_some(stored.revision);
            match R::remove(self, stored, expected).await {
                Err(refused) if refused.kind == ErrorKind::Conflict && !required && attempt < RACES_MAX => attempt += 1,
                answer => return answer,
            }
        }
    }

    /// What [`App::delete`] would delete or refuse now; nothing is changed.
    ///
    /// # Errors
    /// As for [`App::delete`].
    pub async fn check_delete<R: ServedResource>(&self, request: &v1::DeleteRequest) -> Result<R, ApiError> {
        let object: R = self.get(&request.namespace, &request.name).await?;
        check_preconditions(&object, &request.uid, &request.resource_version)?;
        Ok(object)
    }
}

/// Refuses a write that means another object or another version than the present one; empty means any.
fn check_preconditions<R: ServedResource>(present: &R, uid: &str, version: &str) -> Result<(), ApiError> {
    let Some(stored) = present.metadata() else { return Err(ApiError::internal("a stored object without metadata")) };
    if !uid.is_empty() && uid != stored.uid {
        return Err(error::uid_mismatch::<R>(&stored.name, &stored.uid, uid));
    }
    if !version.is_empty() && version != stored.resource_version {
        return Err(error::conflict::<R>(&stored.namespace, &stored.name, &stored.resource_version, version));
    }
    Ok(())
}

/// The object that a patch makes of the present one.
fn patched<R: ServedResource>(current: &R, patch: Value) -> Result<R, ApiError> {
    let mut value = baton_proto::to_json_value(current);
    merge::merge_patch(&mut value, patch);
    let mut object: R = baton_proto::from_json_value(value).map_err(|refused| match refused {
        JsonError::Fields(violations) => ApiError::violations(violations),
        JsonError::Syntax(message) => ApiError::violations(vec![Violation::new("", message)]),
    })?;
    let mut violations = Vec::new();
    metadata::complete(&mut object, &mut violations);
    let stored = current.metadata().cloned().unwrap_or_default();
    let meta = object.metadata_mut();
    for (field, found, expected) in
        [("name", &meta.name, &stored.name), ("namespace", &meta.namespace, &stored.namespace)]
    {
        if found != expected {
            violations.push(Violation::new(
                format!("metadata.{field}"),
                format!("is '{}', the object's is '{expected}'; it cannot be changed", metadata::shortened(found)),
            ));
        }
    }
    if !violations.is_empty() {
        return Err(ApiError::violations(violations));
    }
    if meta.uid != stored.uid {
        return Err(error::uid_mismatch::<R>(&stored.name, &stored.uid, &meta.uid));
    }
    meta.resource_version.clone_from(&stored.resource_version);
    Ok(object)
}
