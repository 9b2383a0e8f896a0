//! JSON in and out, with every unknown field reported at once and a path for what cannot be read.

use std::fmt::Write as _;

use baton_types::{JSON_DEPTH_MAX, Violation};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Why some JSON is not the message that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("the body is not JSON: {0}")]
    Syntax(String),
    /// JSON, but with these fields wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Fields(Vec<Violation>),
}

/// Reads a message from JSON text of any depth and encoding; both are checked.
///
/// # Errors
/// See [`JsonError`]. A depth over 128 and invalid UTF-8 are syntax errors that say so.
pub fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    let value: Value = serde_json::from_slice(text).map_err(|error| {
        let says = error.to_string();
        JsonError::Syntax(if says.contains("recursion limit") {
            format!("it is nested deeper than {JSON_DEPTH_MAX} levels")
        } else {
            says
        })
    })?;
    from_json_value(value)
}

/// Reads a message from a JSON value.
///
/// # Errors
/// [`JsonError::Fields`] with every unknown field, or with the first field of a wrong type.
pub fn from_json_value<T: DeserializeOwned>(value: Value) -> Result<T, JsonError> {
    let mut unknown = Vec::new();
    let mut on_unknown = |path: serde_ignored::Path<'_>| {
        let path = path.to_string().replace(".?", "");
        unknown.push(Violation::new(brackets(&path), "no such field"));
    };
    let mut track = serde_path_to_error::Track::new();
    let ignoring = serde_ignored::Deserializer::new(value, &mut on_unknown);
    let read = T::deserialize(serde_path_to_error::Deserializer::new(ignoring, &mut track));
    match read {
        Ok(message) if unknown.is_empty() => Ok(message),
        Ok(_) => Err(JsonError::Fields(unknown)),
        Err(error) => {
            let path = track.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let message = if is_secret(&path) { type_only(&error.to_string()) } else { error.to_string() };
            unknown.push(Violation::new(path, message));
            Err(JsonError::Fields(unknown))
        }
    }
}

/// Whether values of secrets stand there.
fn is_secret(path: &str) -> bool {
    path == "spec.data" || path.starts_with("spec.data.")
}

/// What serde says of a wrong type without the value that it found.
fn type_only(message: &str) -> String {
    let expected = message.rsplit_once(", expected ").map_or("another type", |(_, expected)| expected);
    let found = message.strip_prefix("invalid type: ").and_then(|rest| rest.split([' ', ',']).next());
    match found {
        Some(found) => {
            format!("invalid type: {found}, expected {expected}; text that looks like a number needs quotes")
        }
        None => format!("invalid value, expected {expected}"),
    }
}

/// A message as JSON text.
pub fn to_json<T: Serialize>(message: &T) -> String {
    serde_json::to_string(message).unwrap_or_else(|_| "null".to_owned())
}

/// A message as a JSON value.
pub fn to_json_value<T: Serialize>(message: &T) -> Value {
    serde_json::to_value(message).unwrap_or(Value::Null)
}

/// `spec.tools.0.name` as `spec.tools[0].name`.
fn brackets(path: &str) -> String {
    path.split('.').fold(String::new(), |mut written, part| {
        if part.parse::<usize>().is_ok() {
            let _ = write!(written, "[{part}]");
        } else {
            if !written.is_empty() {
                written.push('.');
            }
            written.push_str(part);
        }
        written
    })
}
