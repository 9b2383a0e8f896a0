//! How deep data from outside may nest.
//!
//! Whoever reads JSON here counts levels: a value at the reader's limit could be taken in and, once it lies in a result, a
//! record or an object, never be read again. So data that comes in is kept well below.

use serde_json::Value;

/// Deepest nesting of data that comes from outside (inputs, answers, responses): what every reader of JSON takes, less
/// room for whatever it is put into.
pub const DATA_DEPTH_MAX: usize = 100;

/// Whether objects and arrays lie within each other on more levels than these. Recursion ends one level beyond.
pub fn is_deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper_than(item, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|field| is_deeper_than(field, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn levels_are_counted_along_the_deepest_way() {
        for (value, levels) in [(json!("x"), 0), (json!([]), 1), (json!({"a": 1, "b": [2, {"c": 3}]}), 3)] {
            assert!(!is_deeper_than(&value, levels), "{value}");
            assert!(levels == 0 || is_deeper_than(&value, levels - 1), "{value}");
        }
    }
}
