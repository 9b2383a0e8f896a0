//! A CloudEvent (specification 1.0, JSON event format), checked.
//!
//! Kept as it was sent, attribute for attribute: types of a library would bring times into another form and refuse at the
//! first mistake, where all of them are to be told.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_agent::{DATA_DEPTH_MAX, is_deeper_than};
use baton_engine::PAYLOAD_BYTES_MAX;
use baton_types::Violation;
use serde_json::{Map, Value};

/// Largest event, in bytes of its JSON: with a cursor around it, it is an answer at its limit.
const EVENT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 1024;
/// Longest attribute, in bytes; `data` is none.
const ATTRIBUTE_BYTES_MAX: usize = 4096;
/// Most attributes.
const ATTRIBUTES_MAX: usize = 64;

/// An event that is one.
#[derive(Clone, Debug)]
pub(crate) struct CloudEvent(Map<String, Value>);

impl CloudEvent {
    /// Checks an event in the JSON format; attributes that are `null` count as absent.
    ///
    /// # Errors
    /// Every violation, below `field`.
    pub(crate) fn check(value: Value, field: &str) -> Result<Self, Vec<Violation>> {
        let at = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
        let Value::Object(mut event) = value else {
            return Err(vec![Violation::new(field, "must be an object")]);
        };
        event.retain(|name, value| name == "data" || !value.is_null());
        let mut violations = Vec::new();
        for name in ["id", "source", "type"] {
            if !event.contains_key(name) {
                violations.push(Violation::new(at(name), "is required"));
            }
        }
        match event.get("specversion") {
            Some(Value::String(version)) if version == "1.0" => {}
            Some(_) => violations.push(Violation::new(at("specversion"), "must be '1.0'")),
            None => violations.push(Violation::new(at("specversion"), "is required; it must be '1.0'")),
        }
        if event.len() > ATTRIBUTES_MAX {
            violations.push(Violation::new(
                field,
                format!("has {} attributes, allowed are up to {ATTRIBUTES_MAX}", event.len()),
            ));
        }
        for (name, value) in event.iter().take(ATTRIBUTES_MAX) {
            if let Err(message) = check_attribute(name, value) {
                violations.push(Violation::new(at(&shown(name)), message));
            }
        }
        if event.contains_key("data") && event.contains_key("data_base64") {
            violations.push(Violation::new(at("data_base64"), "must not stand beside 'data'"));
        }
        let event = Self(event);
        if violations.is_empty() {
            let bytes = event.text().len();
            if bytes > EVENT_BYTES_MAX {
                let message = format!("has {bytes} bytes, allowed are up to {EVENT_BYTES_MAX}");
                violations.push(Violation::new(field, message));
            }
        }
        if violations.is_empty() { Ok(event) } else { Err(violations) }
    }

    /// What makes it itself: its source and its id.
    pub(super) fn identity(&self) -> [&str; 2] {
        ["source", "id"].map(|name| self.0.get(name).and_then(Value::as_str).unwrap_or_default())
    }

    /// Its JSON.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

fn check_attribute(name: &str, value: &Value) -> Result<(), String> {
    match (name, value) {
        ("data", data) if is_deeper_than(data, DATA_DEPTH_MAX) => {
            Err(format!("is nested deeper than {DATA_DEPTH_MAX} levels"))
        }
        ("data" | "specversion", _) => Ok(()),
        ("data_base64", Value::String(text)) => match STANDARD.decode(text) {
            Ok(_) => Ok(()),
            Err(_) => Err("is not base64".to_owned()),
        },
        ("data_base64", _) => Err("must be a string".to_owned()),
        _ if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) => {
            Err("is not a name of an attribute; allowed are lower-case letters and digits".to_owned())
        }
        (_, Value::String(text)) if text.len() > ATTRIBUTE_BYTES_MAX => {
            Err(format!("has {} bytes, allowed are up to {ATTRIBUTE_BYTES_MAX}", text.len()))
        }
        (_, Value::String(text)) if text.chars().any(char::is_control) => {
            Err("must not hold control characters".to_owned())
        }
        ("id" | "source" | "type" | "subject" | "dataschema" | "datacontenttype", Value::String(text))
            if text.is_empty() =>
        {
            Err("must not be empty".to_owned())
        }
        ("time", Value::String(text)) => {
            if is_time(text) {
                Ok(())
            } else {
                Err("is not a time such as '2026-01-31T12:00:00Z'".to_owned())
            }
        }
        (_, Value::String(_)) => Ok(()),
        ("id" | "source" | "type" | "subject" | "dataschema" | "datacontenttype" | "time", _) => {
            Err("must be a string".to_owned())
        }
        (_, Value::Bool(_)) => Ok(()),
        (_, Value::Number(number)) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => Ok(()),
        _ => Err("must be a string, a boolean or an integer of 32 bits".to_owned()),
    }
}

/// Whether a text is a time as RFC 3339 has it, which CloudEvents prescribes.
fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

/// A name from outside, not too long for a message.
fn shown(name: &str) -> String {
    name.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The attributes of an event as texts, for whoever compares them with literals; `data` is none.
pub(super) fn attributes(event: &Map<String, Value>) -> impl Iterator<Item = (&str, std::borrow::Cow<'_, str>)> {
    event.iter().filter(|(name, _)| *name != "data" && *name != "data_base64").filter_map(|(name, value)| match value {
        Value::String(text) => Some((name.as_str(), text.as_str().into())),
        Value::Bool(_) | Value::Number(_) => Some((name.as_str(), value.to_string().into())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(event: Value) -> Vec<String> {
        match CloudEvent::check(event, "") {
            Ok(_) => Vec::new(),
            Err(violations) => violations.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn what_is_an_event() {
        let least = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
        assert_eq!(check(least.clone()), Vec::<String>::new());
        let mut most = least.clone();
        for (name, value) in [
            ("time", json!("2026-01-31T12:00:00.5+01:00")),
            ("subject", Value::Null),
            ("data", Value::Null),
            ("count", json!(-5)),
            ("flag", json!(true)),
        ] {
            most[name] = value;
        }
        assert_eq!(check(most), Vec::<String>::new());
        let mut binary = least;
        binary["data_base64"] = json!("AAE=");
        assert_eq!(check(binary), Vec::<String>::new());
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
        let found = check(json!({
            "specversion": "0.3", "id": "", "source": 7, "Type": "t", "time": "noon", "count": 5_000_000_000_i64,
            "subject": "a\nb", "list": [1], "data": deep, "data_base64": "?",
        }));
        assert_eq!(
            found,
            [
                "type: is required",
                "specversion: must be '1.0'",
                "id: must not be empty",
                "source: must be a string",
                "Type: is not a name of an attribute; allowed are lower-case letters and digits",
                "time: is not a time such as '2026-01-31T12:00:00Z'",
                "count: must be a string, a boolean or an integer of 32 bits",
                "subject: must not hold control characters",
                "list: must be a string, a boolean or an integer of 32 bits",
                "data: is nested deeper than 100 levels",
                "data_base64: is not base64",
                "data_base64: must not stand beside 'data'",
            ]
        );
        assert_eq!(check(json!([])), ["must be an object"]);
        let large =
            json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": "x".repeat(EVENT_BYTES_MAX)});
        assert!(check(large)[0].contains("allowed are up to 261120"));
    }
}
