//! An error of the API as a [`tonic::Status`].
//!
//! Beside code and message, the metadata has:
//!
//! | Key | Value |
//! |---|---|
//! | `baton-reason` | the stable reason, such as `NOT_FOUND` |
//! | `baton-hint-bin` | what to do next, UTF-8; only if there is a hint |
//! | `baton-violations-bin` | JSON, `[{"field": "spec.workflow", "message": "…"}]`; only if there are any |
//!
//! # Invariants
//! - All of it fits into the header block that clients accept (often 8 KiB in all): what is too long is cut, and the
//!   last violation then says how many more there are.

use baton_types::{ApiError, Violation};
use serde_json::json;
use tonic::{
    Status,
    metadata::{BinaryMetadataValue, MetadataMap, MetadataValue},
};

use crate::errors;

/// Longest message, in bytes as they are sent: what is not plain ASCII takes three for each byte.
const MESSAGE_BYTES_MAX: usize = 2048;
/// Longest hint, in bytes.
const HINT_BYTES_MAX: usize = 512;
/// Longest list of violations, in bytes of JSON; sent as base64, which is a third longer.
const VIOLATIONS_BYTES_MAX: usize = 3072;

/// Writes `error` to the log and gives what the caller gets.
#[expect(clippy::needless_pass_by_value, reason = "it is the end of the error, and fits `map_err`")]
pub(super) fn of(error: ApiError) -> Status {
    errors::log(&error);
    let mut metadata = MetadataMap::new();
    metadata.insert("baton-reason", MetadataValue::from_static(error.reason));
    if let Some(hint) = &error.hint {
        metadata.insert_bin("baton-hint-bin", BinaryMetadataValue::from_bytes(cut(hint, HINT_BYTES_MAX, 1).as_bytes()));
    }
    if !error.violations.is_empty() {
        metadata.insert_bin(
            "baton-violations-bin",
            BinaryMetadataValue::from_bytes(violations(&error.violations).as_bytes()),
        );
    }
    Status::with_metadata(errors::wire(error.kind).grpc, cut(&error.message, MESSAGE_BYTES_MAX, 3), metadata)
}

/// Adds what the caller should hear although the call went well: `baton-warnings-bin`, a JSON list of sentences.
pub(super) fn warn(metadata: &mut MetadataMap, warnings: &[String]) {
    let mut size = 0;
    let fitting: Vec<&String> = warnings
        .iter()
        .take_while(|it| {
            size += it.len();
            size <= VIOLATIONS_BYTES_MAX
        })
        .collect();
    if !fitting.is_empty() {
        metadata
            .insert_bin("baton-warnings-bin", BinaryMetadataValue::from_bytes(json!(fitting).to_string().as_bytes()));
    }
}

/// `text`, cut so that it takes at most `bytes_max` when a byte beyond ASCII, or a control character, takes `factor`.
fn cut(text: &str, bytes_max: usize, factor: usize) -> String {
    let cost = |c: char| if c.is_ascii_graphic() || c == ' ' { 1 } else { c.len_utf8() * factor };
    if text.chars().map(cost).sum::<usize>() <= bytes_max {
        return text.to_owned();
    }
    let mut left = bytes_max - cost('…');
    let mut shown: String = text
        .chars()
        .take_while(|c| {
            let fits = cost(*c) <= left;
            left = left.saturating_sub(cost(*c));
            fits
        })
        .collect();
    shown.push('…');
    shown
}

fn violations(all: &[Violation]) -> String {
    let mut list = Vec::new();
    let mut left = VIOLATIONS_BYTES_MAX;
    for (index, violation) in all.iter().enumerate() {
        let entry = json!({"field": cut(&violation.field, 256, 1), "message": cut(&violation.message, 512, 1)});
        let size = entry.to_string().len() + 1;
        if size > left {
            list.push(json!({"field": "", "message": format!("and {} more", all.len() - index)}));
            break;
        }
        left -= size;
        list.push(entry);
    }
    json!(list).to_string()
}

#[cfg(test)]
mod tests {
    use baton_types::ErrorKind;
    use serde_json::Value;
    use tonic::Code;

    use super::*;

    #[test]
    fn everything_fits_into_headers() {
        let many = (0..2000).map(|n| Violation::new(format!("spec.definition.do[{n}]"), "ä".repeat(2000))).collect();
        let status = of(ApiError::violations(many).hint("ö".repeat(5000)));
        assert_eq!(status.code(), Code::InvalidArgument);
        let size: usize =
            status.into_http::<()>().headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(size <= 8192, "{size} bytes");
    }

    #[test]
    fn tells_reason_hint_and_violations() {
        let status =
            of(ApiError::violations(vec![Violation::new("spec.workflow", "no workflow 'a'")]).hint("create it first"));
        let binary = |key| status.metadata().get_bin(key).unwrap().to_bytes().unwrap();
        assert_eq!(status.metadata().get("baton-reason").unwrap(), "FIELD_INVALID");
        assert_eq!(binary("baton-hint-bin"), "create it first");
        let violations: Value = serde_json::from_slice(&binary("baton-violations-bin")).unwrap();
        assert_eq!(violations, json!([{"field": "spec.workflow", "message": "no workflow 'a'"}]));
    }

    #[test]
    fn detail_stays_here() {
        let status = of(ApiError::internal("page 7 is torn"));
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("page 7"));
        assert_eq!(of(ApiError::new(ErrorKind::Conflict, "CONFLICT", "changed")).code(), Code::Aborted);
    }
}
