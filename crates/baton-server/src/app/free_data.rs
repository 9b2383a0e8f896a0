//! Free data in a spec: checked to be JSON, and brought to a form that fits on one line.

use baton_agent::{DATA_DEPTH_MAX, is_deeper_than};
use baton_proto::v1::Json;
use baton_types::{JSON_DEPTH_MAX, Violation};
use serde_json::Value;

/// The value of free data that is kept as data, such as an answer; notes a violation of `field` if it is not JSON or is
/// nested deeper than [`DATA_DEPTH_MAX`] levels.
pub(crate) fn read_data(data: &mut Json, field: &str, violations: &mut Vec<Violation>) -> Value {
    let value = read_up_to(DATA_DEPTH_MAX, data, field, violations);
    check_depth(&value, DATA_DEPTH_MAX, field, violations);
    value
}

/// As [`read_data`], but takes what is deeper and can still be read: an execution of an earlier version may have it.
pub(crate) fn read_kept(data: &mut Json, field: &str, violations: &mut Vec<Violation>) -> Value {
    read_up_to(DATA_DEPTH_MAX, data, field, violations)
}

/// Notes a violation of `field` if the value is nested deeper than `levels`, of which some may lie around the field.
pub(crate) fn check_depth(value: &Value, levels: usize, field: &str, violations: &mut Vec<Violation>) {
    if is_deeper_than(value, levels) {
        violations.push(Violation::new(field, too_deep(DATA_DEPTH_MAX)));
    }
}

/// The value of free data; notes a violation of `field` if it is not JSON. Line breaks between tokens are taken out,
/// so that an object always fits on one line of a stream.
pub(crate) fn read(data: &mut Json, field: &str, violations: &mut Vec<Violation>) -> Value {
    read_up_to(JSON_DEPTH_MAX, data, field, violations)
}

fn too_deep(levels: usize) -> String {
    format!("is nested deeper than {levels} levels")
}

/// `levels` is what is allowed in this place; what the reader itself cannot take is deeper than that.
fn read_up_to(levels: usize, data: &mut Json, field: &str, violations: &mut Vec<Violation>) -> Value {
    match data.to_value() {
        Ok(value) => {
            if data.text.contains(['\n', '\r']) {
                *data = Json::from_value(&value);
            }
            value
        }
        Err(error) => {
            let says = error.to_string();
            let says = if says.contains("recursion limit") { too_deep(levels) } else { format!("is not JSON: {says}") };
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
