//! Callback tokens in JSON: base64 as protobuf's JSON has bytes, or a Baton token as the plain text that it is.
//!
//! Baton's own tokens are ASCII and begin with [`PREFIX`], which base64 never has: `.` is not in its alphabet. So a
//! token can be pasted into `callbackToken` as it is; `token` and the header [`HEADER`] take the plain form too.

use axum::http::{HeaderMap, HeaderName};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use baton_types::{ApiError, Violation};
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// What a Baton token begins with.
const PREFIX: &str = baton_engine::TOKEN_PREFIX;

/// Header that carries a token in its plain form.
const HEADER: HeaderName = HeaderName::from_static("baton-callback-token");

/// The field, in the two spellings of protobuf's JSON.
const FIELDS: [&str; 2] = ["callbackToken", "callback_token"];

/// Rewrites a token in plain form, found in `callbackToken`, as base64. Anything else is left to the decoder.
pub(super) fn accept_plain(object: &mut Map<String, Value>) {
    for field in FIELDS {
        if let Some(Value::String(text)) = object.get_mut(field) {
            *text = encoded(text.trim());
        }
    }
}

/// Rewrites the token of a request about one: from `callbackToken`, from `token`, or from the header.
///
/// # Errors
/// A violation of each place but the first, if there are several: which one is meant cannot be told.
pub(super) fn accept_anywhere(object: &mut Map<String, Value>, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut places: Vec<&str> =
        FIELDS.into_iter().filter(|field| object.get(*field).is_some_and(|it| !it.is_null())).collect();
    if let Some(plain) = object.remove("token").filter(|it| !it.is_null()) {
        let Value::String(plain) = plain else {
            return Err(ApiError::violations(vec![Violation::new("token", "must be text")]).into());
        };
        places.push("token");
        object.entry(FIELDS[0]).or_insert_with(|| BASE64_STANDARD.encode(plain.trim()).into());
    }
    if let Some(header) = headers.get(HEADER) {
        places.push("Baton-Callback-Token");
        object.entry(FIELDS[0]).or_insert_with(|| BASE64_STANDARD.encode(header.as_bytes().trim_ascii()).into());
    }
    if let [first, others @ ..] = places.as_slice()
        && !others.is_empty()
    {
        let twice =
            |place: &&str| Violation::new(*place, format!("a token is in '{first}' already; give it in one place"));
        return Err(ApiError::violations(others.iter().map(twice).collect()).into());
    }
    accept_plain(object);
    Ok(())
}

/// The plain form of a token, if it has one.
pub(super) fn plain(token: &[u8]) -> Option<&str> {
    std::str::from_utf8(token).ok().filter(|text| text.starts_with(PREFIX))
}

fn encoded(text: &str) -> String {
    if text.starts_with(PREFIX) { BASE64_STANDARD.encode(text) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(body: Value, header: Option<&'static str>) -> Result<Value, Refusal> {
        let headers = header.into_iter().map(|it| (HEADER, it.parse().unwrap())).collect();
        let Value::Object(mut object) = body else { unreachable!("the cases are objects") };
        accept_anywhere(&mut object, &headers).map(|()| Value::Object(object))
    }

    #[test]
    fn a_token_may_be_pasted_as_it_is() {
        let expected = json!({"callbackToken": BASE64_STANDARD.encode("baton1.abc")});
        for body in [
            json!({"callbackToken": "baton1.abc"}),
            json!({"callbackToken": BASE64_STANDARD.encode("baton1.abc")}),
            json!({"token": " baton1.abc\n"}),
        ] {
            assert_eq!(taken(body, None).unwrap(), expected);
        }
        assert_eq!(taken(json!({}), Some("baton1.abc")).unwrap(), expected);
        assert_eq!(
            taken(json!({"callback_token": "baton1.abc"}), None).unwrap(),
            json!({"callback_token": BASE64_STANDARD.encode("baton1.abc")})
        );
    }

    #[test]
    fn one_place_only() {
        let status =
            taken(json!({"callbackToken": "baton1.a", "token": "baton1.b"}), Some("baton1.c")).unwrap_err().status();
        assert_eq!(status["details"]["causes"].as_array().unwrap().len(), 2);
        assert!(!status.to_string().contains("baton1."), "a token is never shown: {status}");
        taken(json!({"token": 5}), None).unwrap_err();
    }
}
