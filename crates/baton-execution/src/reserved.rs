//! Characters that nothing written by a person may hold: those of which placeholders are made.
//!
//! A placeholder is a demand for the value of a secret. One that stood in a definition, or in what was fetched for it, would be one
//! that the definition's own list of secrets knows nothing of.

use std::borrow::Cow;

use serde_json::Value;

use crate::disarm_text;

/// What is wrong with a text that holds such a character.
pub const RESERVED_CHARACTERS: &str = "holds one of the characters U+FDD0 and U+FDD1, which stand for secrets and tokens where it runs and have no other meaning; take it out";
/// Places that are told; one is enough to see what is wrong.
const TOLD_MAX: usize = 10;

/// Paths of texts, and of objects with names of fields, that hold such a character; at most ten. The depth of the data has been
/// checked.
pub fn reserved_places(data: &Value) -> Vec<String> {
    let mut places = Vec::new();
    find(data, &mut String::new(), &mut places);
    places
}

fn find(value: &Value, path: &mut String, places: &mut Vec<String>) {
    if places.len() >= TOLD_MAX {
        return;
    }
    let length = path.len();
    match value {
        Value::String(text) if is_reserved(text) => places.push(path.clone()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.extend(["[", &index.to_string(), "]"]);
                find(item, path, places);
                path.truncate(length);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                // A name of such a kind is not shown: its object is.
                if is_reserved(name) {
                    places.push(path.clone());
                    continue;
                }
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                find(field, path, places);
                path.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_reserved(text: &str) -> bool {
    matches!(disarm_text(text), Cow::Owned(_))
}
