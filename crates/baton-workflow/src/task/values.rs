//! What was evaluated, as the kinds of tasks want it: texts, and maps of texts.

use baton_execution::{Fault, fault_type};
use serde_json::{Map, Value};

use crate::{data::kind_of, document::shown};

/// The fault of a value of another type than is wanted; `what` names it, such as `'method'`.
pub(crate) fn wrong(what: &str, wanted: &str, found: &Value) -> Fault {
    Fault::new(fault_type::EXPRESSION, 400, format!("{what} must be {wanted}, found {}", kind_of(found)))
}

/// A scalar as a text.
pub(crate) fn text(what: &str, value: Value) -> Result<Value, Fault> {
    match value {
        Value::String(_) => Ok(value),
        Value::Bool(_) | Value::Number(_) => Ok(Value::String(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(wrong(what, "a string", &value)),
    }
}

/// An array of texts.
pub(crate) fn texts(what: &str, value: Value) -> Result<Value, Fault> {
    let Value::Array(items) = value else { return Err(wrong(what, "an array of strings", &value)) };
    let items = items.into_iter().enumerate().map(|(index, item)| text(&format!("{what}[{index}]"), item));
    items.collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// An object whose values are texts; those that are null are left out.
pub(crate) fn strings(what: &str, value: Value) -> Result<Value, Fault> {
    mapped(what, value, text)
}

/// An object whose values are texts, or arrays of them; those that are null are left out.
pub(crate) fn lists(what: &str, value: Value) -> Result<Value, Fault> {
    mapped(what, value, |what, value| if value.is_array() { texts(what, value) } else { text(what, value) })
}

fn mapped(what: &str, value: Value, each: fn(&str, Value) -> Result<Value, Fault>) -> Result<Value, Fault> {
    let Value::Object(fields) = value else { return Err(wrong(what, "an object", &value)) };
    let mut map = Map::with_capacity(fields.len());
    for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        let value = each(&format!("{what} '{}'", shown(&key)), value)?;
        map.insert(key, value);
    }
    Ok(Value::Object(map))
}

/// An object.
pub(crate) fn object(what: &str, value: Value) -> Result<Value, Fault> {
    if value.is_object() { Ok(value) } else { Err(wrong(what, "an object", &value)) }
}
