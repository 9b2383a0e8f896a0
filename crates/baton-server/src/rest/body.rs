//! The body of a request: its size, its media type, its text.

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use baton_types::{ApiError, ErrorKind, RESOURCE_BYTES_MAX};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::refusal::Refusal;

/// Largest body, in bytes. A resource is measured in its stored form, of which JSON and YAML are up to twice as long.
pub(crate) const BODY_BYTES_MAX: usize = 2 * RESOURCE_BYTES_MAX;

/// How much of a body that is too large is read and thrown away, in bytes. Most clients read the answer only after they
/// have sent everything; a connection cut before that shows them a broken pipe instead of the reason.
const DISCARDED_BYTES_MAX: usize = 16 * RESOURCE_BYTES_MAX;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
}

/// Media types of an object, as they are named in refusals.
const OBJECT_TYPES: [&str; 2] = ["application/json", "application/yaml"];

/// Media type of a merge patch (RFC 7386).
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";

/// Reads a body whole.
///
/// # Errors
/// `TooLarge` with the size and the limit; the body is then not kept. `InvalidArgument` if the connection broke.
pub(super) async fn read(headers: &HeaderMap, mut body: Body) -> Result<Bytes, Refusal> {
    if let Some(encoding) =
        headers.get(header::CONTENT_ENCODING).filter(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Refusal::unsupported_media_type(
            &format!("encoded as {}", String::from_utf8_lossy(encoding.as_bytes())),
            &["no encoding"],
        ));
    }
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()).and_then(|it| it.parse::<u64>().ok());
    let expects = headers.contains_key(header::EXPECT);
    if let Some(size) = declared.filter(|size| *size > BODY_BYTES_MAX as u64) {
        if !expects && size <= DISCARDED_BYTES_MAX as u64 {
            discard(body, 0).await;
        }
        return Err(too_large(&format!("{size} bytes")));
    }
    let mut first: Option<Bytes> = None;
    let mut text = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Refusal::bad_request("BODY_MALFORMED", format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let size = first.as_ref().map_or(0, Bytes::len) + text.len() + data.len();
        if size > BODY_BYTES_MAX {
            drop(text);
            discard(body, size).await;
            return Err(too_large(&format!("more than {BODY_BYTES_MAX} bytes")));
        }
        // Most bodies come in one piece, which then needs no copy.
        match first.take() {
            None if text.is_empty() => first = Some(data),
            Some(before) => {
                text.reserve(before.len() + data.len());
                text.extend_from_slice(&before);
                text.extend_from_slice(&data);
            }
            None => text.extend_from_slice(&data),
        }
    }
    Ok(first.unwrap_or_else(|| text.freeze()))
}

async fn discard(mut body: Body, mut size: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        size += frame.data_ref().map_or(0, Bytes::len);
        if size > DISCARDED_BYTES_MAX {
            return;
        }
    }
}

fn too_large(found: &str) -> Refusal {
    let message = format!("the body has {found}; the limit is {BODY_BYTES_MAX} bytes");
    let hint = format!(
        "a resource may have {RESOURCE_BYTES_MAX} bytes; keep larger data elsewhere and pass a reference to it"
    );
    ApiError::new(ErrorKind::TooLarge, "BODY_TOO_LARGE", message).hint(hint).into()
}

/// The media type of an object. None is JSON, as several Kubernetes clients send none; so is what `curl -d` says
/// unless told otherwise, which no browser gets past the check of the page's origin.
pub(super) fn object_type(headers: &HeaderMap) -> Result<MediaType, Refusal> {
    match essence(headers).as_str() {
        "" | "application/json" | "application/x-www-form-urlencoded" => Ok(MediaType::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Ok(MediaType::Yaml),
        other => Err(Refusal::unsupported_media_type(other, &OBJECT_TYPES)),
    }
}

/// Checks the media type of a patch.
pub(super) fn check_patch_type(headers: &HeaderMap) -> Result<(), Refusal> {
    match essence(headers).as_str() {
        "" | MERGE_PATCH | "application/x-www-form-urlencoded" => Ok(()),
        other => Err(Refusal::unsupported_media_type(other, &[MERGE_PATCH])
            .hint("send a merge patch (RFC 7386); with kubectl: kubectl patch --type=merge, or kubectl apply without --server-side")),
    }
}

/// The media type without its parameters, in lower case; empty if there is none.
pub(super) fn essence(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).map(|it| String::from_utf8_lossy(it.as_bytes())).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
