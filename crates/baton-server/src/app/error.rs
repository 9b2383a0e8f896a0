//! The application layer's refusals, each with its stable reason and the next command.

pub(crate) use baton_engine::{chain, commit_failed, read_failed};
use baton_proto::Resource;
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
