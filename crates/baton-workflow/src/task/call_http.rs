//! `call: http`: one request, by the activity `http`.
//!
//! The activity's input is `{"method", "endpoint", "headers", "query", "body", "output", "redirect",
//! "authentication"}`, everything evaluated; what it returns is the task's raw output.

use baton_execution::Fault;
use serde_json::{Map, Value, json};

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, shown},
    interpreter::{FrameId, Run},
    task::{
        Authentication, Event, Kind, Place, Step,
        endpoint::Endpoint,
        values::{lists, strings, wrong},
    },
    template::Template,
};

#[derive(Debug)]
struct CallHttp {
    method: Template,
    endpoint: Endpoint,
    headers: Option<Template>,
    query: Option<Template>,
    body: Option<Template>,
    output: &'static str,
    redirect: bool,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut with = fields.need_object("with", builder)?;
    let method = with.need_text("method", builder).map(|text| read_method(builder, text, &with.at("method")));
    let endpoint =
        with.need("endpoint", builder).and_then(|value| Endpoint::read(builder, value, &with.at("endpoint")));
    let headers = read_map(builder, &mut with, "headers");
    let query = read_map(builder, &mut with, "query");
    let body = with.template("body", builder);
    let output = with.word("output", &["content", "raw", "response"], builder).unwrap_or("content");
    let redirect = with.boolean("redirect", builder).unwrap_or(false);
    with.close(builder);
    Some(Box::new(CallHttp { method: method?, endpoint: endpoint?, headers, query, body, output, redirect }))
}

fn read_method(builder: &mut Builder, text: &str, path: &str) -> Template {
    let is_token = !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    if enclosed(text).is_none() && !is_token {
        builder.violate(path, format!("'{}' is not an HTTP method", shown(text)));
    }
    builder.template(&Value::String(text.to_owned()), path)
}

/// Reads headers or query: an object of scalars, or an expression that gives one.
fn read_map(builder: &mut Builder, fields: &mut Fields<'_>, name: &'static str) -> Option<Template> {
    for (key, entry) in fields.get(name).and_then(Value::as_object).into_iter().flatten() {
        if matches!(entry, Value::Array(_) | Value::Object(_) | Value::Null) {
            let path = format!("{}.{}", fields.at(name), shown(key));
            builder.violate(&path, format!("must be a string, found {}", kind_of(entry)));
        }
    }
    fields.map(name, builder)
}

impl CallHttp {
    fn request(&self, run: &Run, frame: FrameId) -> Result<(Value, String), Fault> {
        let dot = run.input(frame);
        let method = match run.fill(frame, &self.method, &dot)? {
            Value::String(method) => method.to_ascii_uppercase(),
            other => return Err(wrong("'method'", "a string", &other)),
        };
        let endpoint = self.endpoint.uri(run, frame, &dot)?;
        let authentication = self.endpoint.authentication(run, frame, &dot)?;
        let map = |template: &Option<Template>| match template {
            Some(template) => run.fill(frame, template, &dot),
            None => Ok(Value::Object(Map::new())),
        };
        let (headers, query) = (strings("'headers'", map(&self.headers)?)?, lists("'query'", map(&self.query)?)?);
        let body = self.body.as_ref().map_or(Ok(Value::Null), |body| run.fill(frame, body, &dot))?;
        let on = format!("{method} {}", shown(endpoint.split('?').next().unwrap_or_default()));
        let input = json!({
            "method": method, "endpoint": endpoint, "headers": headers, "query": query, "body": body,
            "output": self.output, "redirect": self.redirect, "authentication": authentication,
        });
        Ok((input, on))
    }
}

impl Kind for CallHttp {
    fn label(&self) -> &'static str {
        "call http"
    }

    fn authentication(&self) -> Option<&Authentication> {
        self.endpoint.policy()
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let (input, on) = self.request(run, frame)?;
        run.schedule(frame, "http", input, on)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
