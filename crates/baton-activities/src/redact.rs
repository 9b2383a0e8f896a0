//! Taking credentials out of text that leaves the process, by value.

use baton_execution::Fault;
use serde_json::Value;

/// Shorter values are not looked for: they would blot out ordinary words.
const SECRET_LENGTH_MIN: usize = 4;
const SHOWN_INSTEAD: &str = "***";

/// Texts that must not be shown.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() >= SECRET_LENGTH_MIN && !self.0.iter().any(|known| known == secret) {
            self.0.push(secret.to_owned());
            // A longer secret may contain a shorter one, and goes first.
            self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret) { text.replace(secret, SHOWN_INSTEAD) } else { text }
        })
    }

    /// A fault whose words may come from the other side.
    pub(crate) fn redact_fault(&self, mut fault: Fault) -> Fault {
        fault.detail = fault.detail.map(|detail| self.redact(&detail));
        fault.data = fault.data.map(|data| self.redact_value(data));
        fault
    }

    pub(crate) fn redact_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.redact(&text)),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.redact_value(item)).collect()),
            Value::Object(fields) => Value::Object(
                fields.into_iter().map(|(name, field)| (self.redact(&name), self.redact_value(field))).collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }
}
