//! Bodies of requests, by their media type.
//!
//! JSON unless another type is declared. A text that has a declared type goes as it is; an object goes as a form where the
//! type is `application/x-www-form-urlencoded` or `multipart/form-data`, and as JSON otherwise.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::exchange::{is_json, text_of};

/// All but the unreserved characters of RFC 3986.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The bytes of a body, and its type among the headers if there was none. `key` is the same for every repeat of the request.
pub(crate) fn encode(body: &Value, headers: &mut HeaderMap, key: &str) -> Option<Vec<u8>> {
    if body.is_null() {
        return None;
    }
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = declared.map(essence);
    match (body, essence.as_deref()) {
        (Value::Object(fields), Some("application/x-www-form-urlencoded")) => Some(form(fields).into_bytes()),
        (Value::Object(fields), Some("multipart/form-data")) => {
            let boundary = boundary(fields, key);
            let value = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
            headers.insert(CONTENT_TYPE, value.expect("a boundary is letters and digits"));
            Some(multipart(fields, &boundary).into_bytes())
        }
        (Value::String(text), Some(essence)) if !is_json(essence) => Some(text.clone().into_bytes()),
        _ => {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            Some(body.to_string().into_bytes())
        }
    }
}

/// A media type without its parameters.
pub(crate) fn essence(declared: &str) -> String {
    declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// `application/x-www-form-urlencoded`; an array is a field for each item, what is null is left out.
fn form(fields: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in pairs(fields) {
        let separator = if text.is_empty() { "" } else { "&" };
        _ = write!(
            text,
            "{separator}{}={}",
            utf8_percent_encode(name, RESERVED),
            utf8_percent_encode(&text_of(value), RESERVED)
        );
    }
    text
}

/// `multipart/form-data` (RFC 7578): a part for each field, texts as they are, anything else as JSON.
fn multipart(fields: &Map<String, Value>, boundary: &str) -> String {
    let mut text = String::new();
    for (name, value) in pairs(fields) {
        let name = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        let kind = if value.is_object() { "Content-Type: application/json\r\n" } else { "" };
        _ = write!(
            text,
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n{kind}\r\n{}\r\n",
            text_of(value)
        );
    }
    text + "--" + boundary + "--\r\n"
}

/// Names and values; an array is a pair for each item, what is null is left out.
fn pairs(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields
        .iter()
        .flat_map(|(name, value)| {
            let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            items.iter().map(move |item| (name, item))
        })
        .filter(|(_, value)| !value.is_null())
}

/// A text that is not in the fields: it depends on all of them.
fn boundary(fields: &Map<String, Value>, key: &str) -> String {
    let digest = Sha256::new().chain_update(key).chain_update(Value::Object(fields.clone()).to_string()).finalize();
    format!("{digest:x}")
}
