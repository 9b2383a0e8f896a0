//! `call: openapi`: an operation that an OpenAPI document describes, by the activity `openapi`.
//!
//! The activity's input is `{"document": {"uri", "authentication"}, "operationId", "parameters", "authentication",
//! "output", "redirect"}`, everything evaluated; what it returns is the task's raw output. The document is read by the
//! activity, so what it says (which operations there are, which parameters they need) is checked when the task runs.

use std::sync::Arc;

use baton_execution::Fault;
use serde_json::{Map, Value, json};

use crate::{
    document::{Builder, Fields, shown},
    interpreter::{FrameId, Run},
    task::{
        Authentication, Event, Kind, Place, Step, authentication,
        endpoint::Endpoint,
        values::{text, wrong},
    },
    template::Template,
};

#[derive(Debug)]
struct CallOpenApi {
    document: Endpoint,
    operation: Template,
    parameters: Option<Template>,
    authentication: Option<Arc<Authentication>>,
    output: &'static str,
    redirect: bool,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut with = fields.need_object("with", builder)?;
    let document = Endpoint::read_description(builder, &mut with, "document");
    let operation = with
        .need_text("operationId", builder)
        .map(|text| builder.template(&Value::String(text.to_owned()), &with.at("operationId")));
    let parameters = with.map("parameters", builder);
    let authentication = authentication::read_field(builder, &mut with);
    let output = with.word("output", &["content", "raw", "response"], builder).unwrap_or("content");
    let redirect = with.boolean("redirect", builder).unwrap_or(false);
    with.close(builder);
    Some(Box::new(CallOpenApi {
        document: document?,
        operation: operation?,
        parameters,
        authentication,
        output,
        redirect,
    }))
}

impl CallOpenApi {
    fn request(&self, run: &Run, frame: FrameId) -> Result<(Value, String), Fault> {
        let dot = run.input(frame);
        let operation = text("'operationId'", run.fill(frame, &self.operation, &dot)?)?;
        let parameters = match &self.parameters {
            None => Value::Object(Map::new()),
            Some(template) => match run.fill(frame, template, &dot)? {
                parameters @ Value::Object(_) => parameters,
                other => return Err(wrong("'parameters'", "an object", &other)),
            },
        };
        let document = self.document.evaluate(run, frame, &dot)?;
        let on = format!("operation {}", shown(operation.as_str().unwrap_or_default()));
        let input = json!({
            "document": document, "operationId": operation, "parameters": parameters,
            "authentication": authentication::evaluate(self.authentication.as_deref(), run, frame, &dot)?,
            "output": self.output, "redirect": self.redirect,
        });
        Ok((input, on))
    }
}

impl Kind for CallOpenApi {
    fn label(&self) -> &'static str {
        "call openapi"
    }

    fn authentication(&self) -> Option<&Authentication> {
        self.authentication.as_deref()
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let (input, on) = self.request(run, frame)?;
        run.schedule(frame, "openapi", input, on)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
