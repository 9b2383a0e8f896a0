//! `raise`: a fault, on purpose.

use std::sync::Arc;

use baton_execution::{Fault, fault_type};
use serde_json::Value;

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, quoted, shown},
    interpreter::{FrameId, Run},
    task::{Kind, Place, Step},
    template::Template,
};

/// Lowest and highest status that an error may have.
const STATUS: (i64, i64) = (100, 599);

/// An error as a document defines it.
#[derive(Debug)]
pub(crate) struct RaisedError {
    kind: Template,
    status: u16,
    title: Option<Template>,
    detail: Option<Template>,
    instance: Option<Template>,
}

#[derive(Debug)]
struct Raise {
    error: Arc<RaisedError>,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut head = fields.need_object("raise", builder)?;
    let error = head.need("error", builder).and_then(|value| match value {
        Value::String(name) => {
            let found = builder.reusable.errors.get(name).cloned();
            if found.is_none() {
                let known = quoted(builder.reusable.errors.keys().map(String::as_str));
                builder.violate(
                    &head.at("error"),
                    format!("no error named '{}' in use.errors; errors there are {known}", shown(name)),
                );
            }
            found.flatten()
        }
        other => read_error(builder, other, &head.at("error")),
    });
    head.close(builder);
    Some(Box::new(Raise { error: error? }))
}

/// Reads the definition of an error.
pub(crate) fn read_error(builder: &mut Builder, value: &Value, path: &str) -> Option<Arc<RaisedError>> {
    let mut fields = Fields::open(value, path, builder)?;
    fields.need("type", builder);
    let kind = text(builder, &mut fields, "type");
    fields.need("status", builder);
    let status = fields.integer("status", STATUS.0, STATUS.1, builder);
    let title = text(builder, &mut fields, "title");
    let detail = text(builder, &mut fields, "detail");
    let instance = text(builder, &mut fields, "instance");
    if let Some(literal) = instance.as_ref().and_then(Template::as_literal_str).filter(|text| !is_pointer(text)) {
        let message = format!("'{}' is not a JSON pointer such as '/do/0/fetch'", shown(literal));
        builder.violate(&fields.at("instance"), message);
    }
    fields.close(builder);
    let status = u16::try_from(status?).ok()?;
    Some(Arc::new(RaisedError { kind: kind?, status, title, detail, instance }))
}

fn text(builder: &mut Builder, fields: &mut Fields<'_>, name: &'static str) -> Option<Template> {
    let text = fields.text(name, builder)?;
    if enclosed(text).is_none() {
        return Some(Template::Literal(Value::String(text.to_owned())));
    }
    builder.expression(text, &fields.at(name)).map(Template::Expression)
}

/// Whether a text is a JSON pointer (RFC 6901).
fn is_pointer(text: &str) -> bool {
    let escaped = |part: &str| part.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    text.is_empty() || (text.starts_with('/') && escaped(text))
}

impl Kind for Raise {
    fn label(&self) -> &'static str {
        "raise"
    }

    fn goes_on(&self) -> bool {
        false
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let input = run.input(frame);
        let word = |template: &Option<Template>| -> Result<Option<String>, Fault> {
            let Some(template) = template else { return Ok(None) };
            match run.fill(frame, template, &input)? {
                Value::String(text) => Ok(Some(text)),
                Value::Null => Ok(None),
                other @ (Value::Bool(_) | Value::Number(_)) => Ok(Some(other.to_string())),
                other @ (Value::Array(_) | Value::Object(_)) => Err(Fault::new(
                    fault_type::EXPRESSION,
                    400,
                    format!("a field of an error must be a string, found {}", kind_of(&other)),
                )),
            }
        };
        let error = &self.error;
        let (title, detail, instance) = (word(&error.title)?, word(&error.detail)?, word(&error.instance)?);
        if let Some(instance) = instance.as_deref().filter(|text| !is_pointer(text)) {
            let detail = format!("the instance of an error must be a JSON pointer, found '{}'", shown(instance));
            return Err(Fault::new(fault_type::EXPRESSION, 400, detail));
        }
        let kind = match run.fill(frame, &error.kind, &input)? {
            Value::String(kind) => kind,
            other => {
                return Err(Fault::new(
                    fault_type::EXPRESSION,
                    400,
                    format!("the type of an error must be a string, found {}", kind_of(&other)),
                ));
            }
        };
        Err(Fault { kind, status: error.status, title, detail, instance, non_retryable: false, data: None })
    }
}
