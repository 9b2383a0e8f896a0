//! The engine's refusals, each with its stable reason and the next command.

use baton_store::{CommitError, StoreError};
use baton_types::{ApiError, ErrorKind, Phase};

pub(crate) fn token_unknown(fingerprint: &str) -> ApiError {
    ApiError::new(
        ErrorKind::InvalidArgument,
        "CALLBACK_TOKEN_UNKNOWN",
        format!("callback token {fingerprint} was not made by this server, or was changed; no configured engine can answer it"),
    )
    .hint("hand over the token exactly as it was received; Temporal task tokens are answered for the namespaces in temporal.callback-namespaces")
}

pub(crate) fn token_expired(fingerprint: &str) -> ApiError {
    ApiError::new(
        ErrorKind::FailedPrecondition,
        "CALLBACK_TOKEN_EXPIRED",
        format!("callback token {fingerprint} has expired: whoever waited has given up"),
    )
}

pub(crate) fn callback_gone(fingerprint: &str) -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        "CALLBACK_NOT_FOUND",
        format!("the execution that waits for callback token {fingerprint} does not exist any more"),
    )
}

pub(crate) fn already_completed(fingerprint: &str) -> ApiError {
    ApiError::new(
        ErrorKind::FailedPrecondition,
        "CALLBACK_ALREADY_COMPLETED",
        format!("callback token {fingerprint} was answered before, or its wait has ended; this answer changed nothing"),
    )
}

pub(crate) fn stale_attempt(fingerprint: &str, attempt: u32, open: u32) -> ApiError {
    ApiError::new(
        ErrorKind::FailedPrecondition,
        "CALLBACK_TOKEN_STALE",
        format!(
            "callback token {fingerprint} is of attempt {attempt}, the task is at attempt {open}; this answer changed nothing"
        ),
    )
}

pub(crate) fn ended(title: &str, name: &str, phase: Phase) -> ApiError {
    ApiError::new(
        ErrorKind::FailedPrecondition,
        "EXECUTION_ENDED",
        format!("{title} '{name}' has ended: its phase is {phase}"),
    )
}

pub(crate) fn stopped() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "SHUTTING_DOWN", "the server is shutting down")
        .hint("repeat the request with the same name and requestId")
}

/// What a failed commit means to the caller; a taken name and a stale revision are the caller's to word.
pub fn commit_failed(error: &CommitError) -> ApiError {
    match error {
        CommitError::Overloaded { .. } => ApiError::new(ErrorKind::ResourceExhausted, "OVERLOADED", error.to_string())
            .hint("repeat the request after a short wait"),
        CommitError::DiskFull { free, needed } => ApiError::new(
            ErrorKind::StorageFull,
            "STORAGE_FULL",
            format!("the disk of the data directory has {free} bytes free, {needed} are needed; nothing was written"),
        )
        .hint("free some space and repeat the request"),
        CommitError::Unavailable { .. } => ApiError {
            detail: Some(error.to_string()),
            ..ApiError::new(
                ErrorKind::Unavailable,
                "STORE_UNAVAILABLE",
                "the database of the store cannot take commits now; nothing was written",
            )
        }
        .hint("repeat the request once the database is back"),
        CommitError::Failed { .. } => ApiError {
            detail: Some(error.to_string()),
            ..ApiError::new(
                ErrorKind::Unavailable,
                "STORE_FAILED",
                "the store has stopped; whether the request took effect is unknown",
            )
        }
        .hint("repeat the request with the same name and requestId once the server is back"),
        CommitError::Conflict { .. } => ApiError::new(ErrorKind::Conflict, "CONFLICT", error.to_string()),
        CommitError::Exists { .. } => ApiError::new(ErrorKind::AlreadyExists, "ALREADY_EXISTS", error.to_string()),
        CommitError::NotFound { .. } => ApiError::new(ErrorKind::NotFound, "NOT_FOUND", error.to_string()),
        CommitError::Rejected { detail } => ApiError::internal(format!("the store rejected a transaction: {detail}")),
    }
}

/// What a failed read means to the caller.
pub fn read_failed(error: &StoreError) -> ApiError {
    match error {
        StoreError::Corrupt { .. } => ApiError {
            detail: Some(error.to_string()),
            ..ApiError::new(
                ErrorKind::Internal,
                "DATA_CORRUPT",
                "the stored data of this resource is damaged; others are not affected",
            )
        }
        .hint("restore it from a backup: baton restore"),
        StoreError::Closed => stopped(),
        _ => ApiError::internal(format!("read from the store: {}", chain(error))),
    }
}

pub(crate) fn stalled(why: Option<&str>) -> ApiError {
    let why = why.unwrap_or("it cannot be read at the moment");
    ApiError::new(ErrorKind::Unavailable, "EXECUTION_STALLED", format!("the execution cannot go on: {why}"))
        .hint("end it at once with baton terminate, or run the version that wrote it")
}

pub(crate) fn panicked() -> ApiError {
    ApiError::internal("a step of the execution panicked")
}

/// An error and its causes, joined by `: `.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
