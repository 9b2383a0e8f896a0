//! The data that flows through a workflow: shared, measured, and kept in snapshots as JSON text.
//!
//! # Invariants
//! - What a task puts out is at most [`VALUE_DEPTH_MAX`] deep and about [`VALUE_BYTES_MAX`] long, so that nothing
//!   downstream (a snapshot, a history, a recursion over the value) meets more.
//!
//! # Deliberately absent
//! Interior mutation: data is replaced, never changed, so a clone is a reference.

use std::{ops::Deref, sync::Arc};

use baton_execution::{Fault, fault_type};
use baton_types::JSON_DEPTH_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Deepest nesting of a value that a task may put out: what a JSON reader accepts from outside, less room for an envelope.
pub const VALUE_DEPTH_MAX: usize = JSON_DEPTH_MAX - 8;

/// Largest value that a task may put out, in bytes of its JSON text (estimated): four times the largest resource.
pub const VALUE_BYTES_MAX: usize = 4 * baton_types::RESOURCE_BYTES_MAX;

/// A shared, immutable value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Data(Arc<Value>);

impl Data {
    pub(crate) fn new(value: Value) -> Self {
        Self(Arc::new(value))
    }

    /// The value itself, without a copy if nobody else holds it.
    pub(crate) fn into_value(self) -> Value {
        Arc::try_unwrap(self.0).unwrap_or_else(|shared| (*shared).clone())
    }

    /// Whether both are the one value, shared.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Refuses a value that is too deep or too large.
    pub(crate) fn measured(value: Value) -> Result<Self, Fault> {
        Self::new(value).measure()
    }

    /// The same data, unless it is too deep or too large.
    pub(crate) fn measure(self) -> Result<Self, Fault> {
        Budget::new().take(&self)?;
        Ok(self)
    }
}

impl Deref for Data {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl Default for Data {
    fn default() -> Self {
        Self::new(Value::Null)
    }
}

/// As JSON text in a string: a snapshot stays shallow however deep the data is.
impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => scalar.serialize(serializer),
            value => value.to_string().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => serde_json::from_str(&text).map(Self::new).map_err(serde::de::Error::custom),
            scalar => Ok(Self::new(scalar)),
        }
    }
}

/// What may still be added to a value under construction.
pub(crate) struct Budget {
    bytes: usize,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { bytes: VALUE_BYTES_MAX }
    }

    /// Counts a part of the value; a part that does not fit is a fault.
    pub(crate) fn take(&mut self, part: &Value) -> Result<(), Fault> {
        match self.count(part, 0) {
            Ok(()) => Ok(()),
            Err(Excess::Depth) => Err(limit(format!("the value is nested deeper than {VALUE_DEPTH_MAX} levels"))),
            Err(Excess::Bytes) => Err(too_large()),
        }
    }

    /// Counts literal text of the value.
    pub(crate) fn take_bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    }

    fn count(&mut self, value: &Value, depth: usize) -> Result<(), Excess> {
        if depth > VALUE_DEPTH_MAX {
            return Err(Excess::Depth);
        }
        let own = match value {
            Value::Null | Value::Bool(_) => 4,
            Value::Number(_) => 8,
            Value::String(text) => text.len() + 2,
            Value::Array(items) => items.len() + 2,
            Value::Object(fields) => fields.keys().map(|key| key.len() + 4).sum::<usize>() + 2,
        };
        self.bytes = self.bytes.checked_sub(own).ok_or(Excess::Bytes)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.count(item, depth + 1)),
            Value::Object(fields) => fields.values().try_for_each(|item| self.count(item, depth + 1)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }
}

enum Excess {
    Depth,
    Bytes,
}

fn limit(detail: String) -> Fault {
    Fault::new(fault_type::LIMIT, 400, detail).non_retryable()
}

fn too_large() -> Fault {
    Fault::new(fault_type::TOO_LARGE, 413, format!("the value is larger than {VALUE_BYTES_MAX} bytes")).non_retryable()
}

/// What kind of JSON a value is, with its article, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
