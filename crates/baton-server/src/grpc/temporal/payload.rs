//! Temporal's payloads as JSON.
//!
//! # Deliberately absent
//! Bytes, protobuf and whatever a codec of the client's has made (compressed, encrypted): a workflow could do nothing with
//! them, so they are refused by name rather than passed on.

use baton_proto::{
    temporal::common::v1::{Payload, Payloads},
    v1,
};
use baton_types::{ApiError, Violation};
use serde_json::Value;

use crate::app::free_data;

/// Longest name of an encoding that is repeated to the caller, in characters.
const ENCODING_CHARS_MAX: usize = 64;

/// What the payloads of `field` hold: nothing is null, one is its value, several are an array.
///
/// # Errors
/// InvalidArgument with a violation for each payload that is not JSON.
pub(super) fn value_of(payloads: Option<Payloads>, field: &str) -> Result<Value, ApiError> {
    let mut violations = Vec::new();
    let value = read(payloads, field, &mut violations);
    if violations.is_empty() { Ok(value) } else { Err(ApiError::violations(violations)) }
}

/// As [`value_of`], noting the violations.
pub(super) fn read(payloads: Option<Payloads>, field: &str, violations: &mut Vec<Violation>) -> Value {
    let mut payloads = payloads.unwrap_or_default().payloads;
    if let [one] = payloads.as_mut_slice() {
        return read_one(std::mem::take(one), &format!("{field}.payloads[0]"), violations);
    }
    if payloads.is_empty() {
        return Value::Null;
    }
    let read = |(index, payload)| read_one(payload, &format!("{field}.payloads[{index}]"), violations);
    Value::Array(payloads.into_iter().enumerate().map(read).collect())
}

/// The value of one payload; notes a violation of `field` if it is not JSON.
pub(super) fn read_one(payload: Payload, field: &str, violations: &mut Vec<Violation>) -> Value {
    let encoding = payload.metadata.get("encoding").map(Vec::as_slice).unwrap_or_default();
    match encoding {
        // SDKs leave out the payload of nothing, or send a blank one.
        b"" if payload.data.is_empty() => Value::Null,
        b"binary/null" => Value::Null,
        b"json/plain" | b"json/protobuf" => match String::from_utf8(payload.data) {
            Ok(text) if text.is_empty() => {
                violations.push(Violation::new(field, "is not JSON: it is empty"));
                Value::Null
            }
            Ok(text) => free_data::read_data(&mut v1::Json { text }, field, violations),
            Err(error) => {
                violations.push(Violation::new(field, format!("is not JSON: {}", error.utf8_error())));
                Value::Null
            }
        },
        other => {
            let found: String = String::from_utf8_lossy(other).chars().take(ENCODING_CHARS_MAX).collect();
            let message =
                format!("has the encoding '{found}', allowed are 'json/plain', 'json/protobuf' and 'binary/null'");
            violations.push(Violation::new(field, message));
            Value::Null
        }
    }
}

/// A value in words: a text as it is, an object by its `reason`, several texts one after the other, anything else as JSON.
pub(super) fn text_of(value: &Value) -> String {
    let reason = value.get("reason").unwrap_or(value);
    match reason {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(": ")
        }
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn payload(encoding: &str, data: &[u8]) -> Payload {
        let metadata = BTreeMap::from([("encoding".to_owned(), encoding.as_bytes().to_vec())]);
        Payload { metadata, data: data.to_vec() }
    }

    fn value(payloads: Vec<Payload>) -> Result<Value, String> {
        value_of(Some(Payloads { payloads }), "result").map_err(|error| error.message)
    }

    #[test]
    fn json_and_nothing_are_read() {
        let plain = |text: &str| payload("json/plain", text.as_bytes());
        assert_eq!(value_of(None, "result").unwrap(), Value::Null);
        for (payloads, expected) in [
            (vec![], json!(null)),
            (vec![Payload::default()], json!(null)),
            (vec![payload("binary/null", b"")], json!(null)),
            (vec![plain("null")], json!(null)),
            (vec![plain("{\"n\": 9007199254740993}")], json!({"n": 9_007_199_254_740_993_i64})),
            (vec![payload("json/protobuf", b"{\"name\":\"a\"}")], json!({"name": "a"})),
            (vec![plain("1"), payload("binary/null", b""), plain("\"b\"")], json!([1, null, "b"])),
        ] {
            assert_eq!(value(payloads.clone()), Ok(expected), "{payloads:?}");
        }
    }

    #[test]
    fn what_is_not_json_is_named() {
        for (refused, says) in [
            (payload("binary/plain", b"x"), "result.payloads[0]: has the encoding 'binary/plain', allowed are"),
            (payload("binary/encrypted", b"x"), "'binary/encrypted'"),
            (payload("binary/protobuf", b""), "'binary/protobuf'"),
            (Payload { data: b"1".to_vec(), ..Payload::default() }, "has the encoding ''"),
            (payload("json/plain", b"NaN"), "result.payloads[0]: is not JSON"),
            (payload("json/plain", b""), "is not JSON: it is empty"),
            (payload("json/plain", b"\"\xff\""), "is not JSON: invalid utf-8"),
            (payload("json/plain", "[".repeat(100_000).as_bytes()), "is nested deeper than"),
        ] {
            let message = value(vec![refused]).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
        let message = value(vec![payload("a", b""), payload("json/plain", b"1"), payload("b", b"")]).unwrap_err();
        assert!(message.contains("payloads[0]: has the encoding 'a'") && message.contains("payloads[2]"), "{message}");
        let long = value(vec![payload(&"ä".repeat(5000), b"")]).unwrap_err();
        assert!(long.len() < 500, "{long}");
    }

    #[test]
    fn a_value_in_words() {
        for (value, text) in [
            (json!(null), ""),
            (json!("no need"), "no need"),
            (json!({"reason": "no need"}), "no need"),
            (json!(["no need", "for it"]), "no need: for it"),
            (json!({"code": 7}), "{\"code\":7}"),
            (json!(["no need", 7]), "[\"no need\",7]"),
        ] {
            assert_eq!(text_of(&value), text, "{value}");
        }
    }
}
