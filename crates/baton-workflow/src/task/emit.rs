//! `emit`: one CloudEvent, by the activity `emit`.
//!
//! The activity's input is `{"event"}`, evaluated, with `specversion` and `time`; the activity adds `source` and `id` where
//! the document gives none, and returns the whole event, which is the task's raw output.

use baton_execution::{Fault, fault_type};
use serde_json::{Map, Value, json};

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, shown},
    interpreter::{FrameId, Run},
    task::{Event, Kind, Place, Step},
    template::Template,
};

/// The one version of CloudEvents that there is (specification 1.0, section "specversion").
const SPECVERSION: &str = "1.0";

#[derive(Debug)]
struct Emit {
    attributes: Vec<(String, Template)>,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut head = fields.need_object("emit", builder)?;
    let event = head.need_object("event", builder);
    head.close(builder);
    let mut event = event?;
    let with = event.need_object("with", builder);
    event.close(builder);
    let mut with = with?;
    with.need("type", builder);
    let mut attributes = Vec::new();
    for (name, value) in with.entries() {
        let path = with.at(&shown(name));
        check_attribute(builder, name, value, &path);
        attributes.push((name.to_owned(), builder.template(value, &path)));
    }
    Some(Box::new(Emit { attributes }))
}

/// Whether a name can be one of an attribute: lower-case letters and digits (CloudEvents 1.0, "Naming Conventions").
pub(crate) fn is_attribute(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Whether an attribute is one that CloudEvents itself has, all of which are texts.
pub(crate) fn is_text(name: &str) -> bool {
    ["id", "source", "type", "time", "subject", "datacontenttype", "dataschema"].contains(&name)
}

/// What is wrong with an attribute that can be seen before it is evaluated.
fn check_attribute(builder: &mut Builder, name: &str, value: &Value, path: &str) {
    if !is_attribute(name) {
        builder.violate(
            path,
            format!("'{}' is not a name of an attribute; allowed are lower-case letters and digits", shown(name)),
        );
    }
    let literal = value.as_str().filter(|text| enclosed(text).is_none());
    match (name, value, literal) {
        ("data", ..) | ("specversion", _, Some(SPECVERSION)) => {}
        ("specversion", ..) => builder.violate(path, format!("must be '{SPECVERSION}'")),
        ("time", _, Some(text)) if text.parse::<jiff::Timestamp>().is_err() => {
            builder.violate(path, format!("'{}' is not a time such as '2026-01-31T12:00:00Z'", shown(text)));
        }
        (name, _, Some("")) if is_text(name) => builder.violate(path, "must not be empty"),
        (_, Value::Array(_) | Value::Object(_) | Value::Null, _) => {
            builder.violate(path, format!("must be a string, number or boolean, found {}", kind_of(value)));
        }
        (name, other, None) if is_text(name) && !other.is_string() => {
            builder.violate(path, format!("must be a string, found {}", kind_of(other)));
        }
        _ => {}
    }
}

impl Emit {
    fn event(&self, run: &Run, frame: FrameId) -> Result<Value, Fault> {
        let dot = run.input(frame);
        let mut event = Map::with_capacity(self.attributes.len() + 2);
        event.insert("specversion".to_owned(), SPECVERSION.into());
        for (name, template) in &self.attributes {
            let value = match (name.as_str(), run.fill(frame, template, &dot)?) {
                ("data", data) => data,
                // What is null was not there to be given.
                (_, Value::Null) => continue,
                (_, value @ (Value::String(_) | Value::Bool(_))) => value,
                (_, Value::Number(number)) if number.is_i64() => Value::Number(number),
                (_, other) => {
                    let found = kind_of(&other);
                    let detail =
                        format!("'emit.event.with.{name}' must be a string, integer or boolean, found {found}");
                    return Err(Fault::new(fault_type::EXPRESSION, 400, detail));
                }
            };
            event.insert(name.clone(), value);
        }
        if !event.contains_key("time") {
            let time = jiff::Timestamp::from_millisecond(run.now_ms()).unwrap_or_default();
            event.insert("time".to_owned(), time.to_string().into());
        }
        Ok(Value::Object(event))
    }
}

impl Kind for Emit {
    fn label(&self) -> &'static str {
        "emit"
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let event = self.event(run, frame)?;
        let on = format!("event {}", shown(event.get("type").and_then(Value::as_str).unwrap_or_default()));
        run.schedule(frame, "emit", json!({ "event": event }), on)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
