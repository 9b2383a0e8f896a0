//! Identity of what a Program asks for: the same on every replay, because it comes from position alone.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::secret::{END, START};

const CALLBACK_TOKEN: &str = "baton.dev/callback-token:";

/// An activity, timer, wait or child: where in the Program it was asked for and which time round.
///
/// The activity, the timer and the wait of one operation may share an id; an engine keeps the three apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationId {
    /// JSON pointer to the task, with iteration numbers: `/do/1/summarise/for/3/do/0/ask`.
    pub position: String,
    /// Counted from 1; a retry of the task, or a later turn at the same position, has the next number.
    pub attempt: u32,
}

impl OperationId {
    /// The operation at a position, the `attempt`-th time.
    pub fn new(position: impl Into<String>, attempt: u32) -> Self {
        Self { position: position.into(), attempt }
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.position, self.attempt)
    }
}

/// The text that stands for the callback token of `id` until an engine starts the activity.
///
/// As with the placeholder of a secret, nothing that comes from outside can hold it: see [`crate::disarm_input`].
pub fn callback_token_placeholder(id: &OperationId) -> String {
    format!("{START}{CALLBACK_TOKEN}{id}{END}")
}

/// Puts the token made by `mint` in place of every placeholder of `id` in the strings (and keys) of `data`.
pub fn replace_callback_tokens(data: &mut Value, id: &OperationId, mint: impl FnOnce() -> String) {
    let placeholder = callback_token_placeholder(id);
    if contains(data, &placeholder) {
        replace(data, &placeholder, &mint());
    }
}

/// What `$authorization.parameter` is in a Program: the credentials with which a task calls, until an activity calls with
/// them. It never leaves as itself, and nothing that comes from outside can hold it.
pub const AUTHORIZATION_PLACEHOLDER: &str = "\u{fdd0}baton.dev/authorization\u{fdd1}";

/// Whether `text` stands anywhere in the strings (and keys) of `data`.
pub fn has_text(data: &Value, text: &str) -> bool {
    contains(data, text)
}

/// Puts `instead` in place of `text` wherever it stands in the strings (and keys) of `data`.
pub fn replace_text(data: &mut Value, text: &str, instead: &str) {
    if !text.is_empty() && contains(data, text) {
        replace(data, text, instead);
    }
}

fn contains(data: &Value, placeholder: &str) -> bool {
    match data {
        Value::String(text) => text.contains(placeholder),
        Value::Array(items) => items.iter().any(|item| contains(item, placeholder)),
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| key.contains(placeholder) || contains(value, placeholder))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn replace(data: &mut Value, placeholder: &str, token: &str) {
    match data {
        Value::String(text) if text.contains(placeholder) => *text = text.replace(placeholder, token),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, placeholder, token)),
        Value::Object(fields) => {
            let renamed: Vec<String> = fields.keys().filter(|key| key.contains(placeholder)).cloned().collect();
            for key in renamed {
                if let Some(value) = fields.shift_remove(&key) {
                    fields.insert(key.replace(placeholder, token), value);
                }
            }
            fields.values_mut().for_each(|value| replace(value, placeholder, token));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_placeholder_is_replaced_wherever_it_stands_and_only_for_its_operation() {
        let (id, other) = (OperationId::new("/do/0/ask", 1), OperationId::new("/do/0/ask", 2));
        let mut data = json!({"url": format!("http://x/?t={}", callback_token_placeholder(&id)), "list": [callback_token_placeholder(&other)], callback_token_placeholder(&id): 1});
        replace_callback_tokens(&mut data, &id, || "T".to_owned());
        assert_eq!(data, json!({"url": "http://x/?t=T", "list": [callback_token_placeholder(&other)], "T": 1}));
    }
}
