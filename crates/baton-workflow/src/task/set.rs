//! `set`: data, with expressions filled in.

use baton_execution::Fault;
use serde_json::Value;

use crate::{
    data::{Data, kind_of},
    document::{Builder, Fields, enclosed},
    interpreter::{FrameId, Run},
    task::{Kind, Place, Step},
    template::Template,
};

#[derive(Debug)]
struct Set {
    template: Template,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let value = fields.need("set", builder)?;
    let path = fields.at("set");
    match value {
        Value::Object(map) if map.is_empty() => builder.violate(&path, "must have at least one field"),
        Value::Object(_) => {}
        Value::String(text) if builder.loose || enclosed(text).is_some() => {}
        Value::String(_) => builder.violate(&path, "must be an object, or an expression in '${ }'"),
        other => builder.violate(&path, format!("must be an object or an expression, found {}", kind_of(other))),
    }
    Some(Box::new(Set { template: builder.template(value, &path) }))
}

impl Kind for Set {
    fn label(&self) -> &'static str {
        "set"
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let input = run.input(frame);
        run.fill(frame, &self.template, &input).map(|value| Step::Done(Data::new(value)))
    }
}
