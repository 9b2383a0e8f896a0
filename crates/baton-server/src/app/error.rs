//! The application layer's refusals, each with its stable reason and the next command.

use baton_proto::Resource;
use baton_store::{CommitError, StoreError};
use baton_types::{ApiError, ErrorKind, RESOURCE_BYTES_MAX, Violation};

/// The word that the command line takes for a kind.
pub(crate) fn command_word<R: Resource>() -> String {
    R::KIND.to_ascii_lowercase()
}

pub(crate) fn not_found<R: Resource>(namespace: &str, name: &str) -> ApiError {
    ApiError::not_found(R::TITLE, name, namespace)
        .hint(format!("list them with baton list {} -n {namespace}", command_word::<R>()))
}

pub(crate) fn already_exists<R: Resource>(namespace: &str, name: &str) -> ApiError {
    ApiError::new(
        ErrorKind::AlreadyExists,
        "ALREADY_EXISTS",
        format!("{} '{name}' exists already in namespace '{namespace}'", R::TITLE),
    )
}

pub(crate) fn conflict<R: Resource>(namespace: &str, name: &str, stored: &str, requested: &str) -> ApiError {
    let title = R::TITLE;
    let message =
        format!("{title} '{name}' changed since it was read: resourceVersion is {stored}, the request has {requested}");
    ApiError::new(ErrorKind::Conflict, "CONFLICT", message)
        .hint(format!("read it again with baton get {} {name} -n {namespace}", command_word::<R>()))
}

pub(crate) fn uid_mismatch<R: Resource>(name: &str, stored: &str, requested: &str) -> ApiError {
    let message = format!(
        "{} '{name}' is another object than the one that was read: uid is {stored}, the request has {requested}",
        R::TITLE
    );
    ApiError::new(ErrorKind::Conflict, "UID_MISMATCH", message)
}

pub(crate) fn too_large<R: Resource>(name: &str, bytes: usize) -> ApiError {
    let message = format!("{} '{name}' has {bytes} bytes, allowed are up to {RESOURCE_BYTES_MAX}", R::TITLE);
    ApiError::new(ErrorKind::TooLarge, "RESOURCE_TOO_LARGE", message)
        .hint("keep large data elsewhere and refer to it by URL")
}

/// A change of fields that cannot change.
pub(crate) fn immutable<R: Resource>(name: &str, violations: Vec<Violation>) -> ApiError {
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let message =
        format!("{} '{name}' cannot be changed in {}: only spec.suspend and metadata can", R::TITLE, fields.join(", "));
    ApiError { violations, ..ApiError::new(ErrorKind::Invalid, "SPEC_IMMUTABLE", message) }
        .hint("create a new execution instead")
}

/// A path or parameter that is no selection.
pub(crate) fn selector(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::InvalidArgument, "SELECTOR_INVALID", message)
}

pub(crate) fn gone(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::Gone, "REVISION_GONE", message)
        .hint("list again and go on from the resourceVersion of that list")
}

/// What a failed read means to the caller.
pub(crate) fn read_failed(error: &StoreError) -> ApiError {
    let detail = Some(chain(error));
    match error {
        StoreError::Corrupt { .. } => {
            let message = "the stored data of this resource is damaged; others are not affected";
            ApiError { detail, ..ApiError::new(ErrorKind::Internal, "DATA_CORRUPT", message) }
                .hint("restore it from a backup: baton restore")
        }
        StoreError::Closed => {
            ApiError { detail, ..ApiError::new(ErrorKind::Unavailable, "SHUTTING_DOWN", "the server is shutting down") }
        }
        _ => ApiError::internal(format!("read from the store: {}", chain(error))),
    }
}

/// What a failed commit means to the caller; a taken name and a stale revision are the callers' to word.
pub(crate) fn commit_failed(error: &CommitError) -> ApiError {
    match error {
        CommitError::Overloaded { .. } => ApiError::new(ErrorKind::ResourceExhausted, "OVERLOADED", error.to_string())
            .hint("repeat the request after a short wait"),
        CommitError::DiskFull { free, needed } => ApiError::new(
            ErrorKind::StorageFull,
            "STORAGE_FULL",
            format!("the disk of the data directory has {free} bytes free, {needed} are needed; nothing was written"),
        )
        .hint("free some space and repeat the request"),
        CommitError::Failed { .. } => ApiError {
            detail: Some(error.to_string()),
            ..ApiError::new(
                ErrorKind::Unavailable,
                "STORE_FAILED",
                "the store has stopped; whether the request took effect is unknown",
            )
        }
        .hint("repeat the request once the server is back"),
        CommitError::Conflict { .. } => ApiError::new(ErrorKind::Conflict, "CONFLICT", error.to_string()),
        CommitError::Exists { .. } => ApiError::new(ErrorKind::AlreadyExists, "ALREADY_EXISTS", error.to_string()),
        CommitError::NotFound { .. } => ApiError::new(ErrorKind::NotFound, "NOT_FOUND", error.to_string()),
        CommitError::Rejected { detail } => ApiError::internal(format!("the store rejected a transaction: {detail}")),
    }
}

/// An error and its causes, joined by `: `.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
