//! Characters that no document may hold: those of which placeholders are made.
//!
//! A placeholder is a demand for the value of a secret. One that stood in a document, or in a function that was fetched for
//! it, would be one that `use.secrets` knows nothing of.

use std::borrow::Cow;

use baton_execution::disarm_text;
use serde_json::Value;

use super::builder::Builder;

/// Places that are told; one is enough to see what is wrong.
const TOLD_MAX: usize = 10;

/// Refuses texts and names of fields with such a character. The depth of the document has been checked.
pub(super) fn refuse_reserved(document: &Value, builder: &mut Builder) {
    let mut places = Vec::new();
    find(document, &mut String::new(), &mut places);
    for place in places {
        builder.violate(
            &place,
            "holds one of the characters U+FDD0 and U+FDD1, which stand for secrets and tokens where a workflow runs and have no other meaning; take it out",
        );
    }
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
