//! Free data in a spec: checked to be JSON, and brought to a form that fits on one line.

use baton_proto::v1::Json;
use baton_types::{JSON_DEPTH_MAX, Violation};
use serde_json::Value;

/// The value of free data; notes a violation of `field` if it is not JSON. Line breaks between tokens are taken out,
/// so that an object always fits on one line of a stream.
pub(crate) fn read(data: &mut Json, field: &str, violations: &mut Vec<Violation>) -> Value {
    match data.to_value() {
        Ok(value) => {
            if data.text.contains(['\n', '\r']) {
                *data = Json::from_value(&value);
            }
            value
        }
        Err(error) => {
            let says = error.to_string();
            let says = if says.contains("recursion limit") {
                format!("is nested deeper than {JSON_DEPTH_MAX} levels")
            } else {
                format!("is not JSON: {says}")
            };
            violations.push(Violation::new(field, says));
            Value::Null
        }
    }
}

/// Puts free data in the one form that equal values share; notes a violation if it is not JSON.
pub(crate) fn canonicalize(data: &mut Option<Json>, field: &str, violations: &mut Vec<Violation>) {
    if let Some(data) = data {
        let value = read(data, field, violations);
        *data = Json::from_value(&value);
    }
}
