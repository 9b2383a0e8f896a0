//! `call: asyncapi`: publishes a message, or subscribes to some, by the activity `asyncapi`.
//!
//! The activity's input is `{"document": {"uri", "authentication"}, "channel" or "operation", "server": {"name",
//! "variables"}, "protocol", "authentication"}`, everything evaluated, with `"message": {"payload", "headers"}` to publish
//! one; what it returns is the task's raw output. How a subscription goes is told in [`subscription`].

mod subscription;

use std::sync::Arc;

use baton_execution::Fault;
use serde_json::{Map, Value, json};

pub(crate) use subscription::Progress;

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, quoted},
    interpreter::{FrameId, Run},
    task::{
        Event, Kind, Place, Step,
        authentication::{self, Authentication},
        endpoint::Endpoint,
        values::wrong,
    },
    template::Template,
};

/// Protocols of the language; of these, those that are spoken come first.
const PROTOCOLS: [&str; 19] = [
    "http",
    "mqtt",
    "mqtt5",
    "amqp",
    "amqp1",
    "anypointmq",
    "googlepubsub",
    "ibmmq",
    "jms",
    "kafka",
    "mercure",
    "nats",
    "pulsar",
    "redis",
    "sns",
    "solace",
    "sqs",
    "stomp",
    "ws",
];
const SPOKEN: usize = 3;

/// What a document says of the operation.
#[derive(Debug)]
struct Operation {
    document: Endpoint,
    /// `operation` or `channel`, and its name.
    by: &'static str,
    name: String,
    server: Option<(String, Option<Template>)>,
    protocol: Option<&'static str>,
    authentication: Option<Arc<Authentication>>,
}

#[derive(Debug)]
struct Publish {
    operation: Operation,
    payload: Option<Template>,
    headers: Option<Template>,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, place: &Place) -> Option<Box<dyn Kind>> {
    let mut with = fields.need_object("with", builder)?;
    let operation = read_operation(builder, &mut with);
    let message = with.object("message", builder).map(|mut message| {
        let payload = message.template("payload", builder);
        let headers = read_map(builder, &mut message, "headers");
        message.close(builder);
        (payload, headers)
    });
    let subscription =
        with.object("subscription", builder).map(|subscription| subscription::read(builder, subscription, place));
    if with.has("message") == with.has("subscription") {
        builder.violate(&with.path, "must have exactly one of 'message' and 'subscription'");
    }
    with.close(builder);
    let operation = operation?;
    if let Some(subscription) = subscription {
        if fields.object("metadata", builder).is_some_and(|metadata| metadata.has("await")) {
            builder.violate(&fields.at("metadata.await"), "a subscription hands out no token");
        }
        return subscription.map(|subscription| subscription.of(operation));
    }
    let (payload, headers) = message?;
    Some(Box::new(Publish { operation, payload, headers }))
}

fn read_operation(builder: &mut Builder, with: &mut Fields<'_>) -> Option<Operation> {
    let document = Endpoint::read_description(builder, with, "document");
    let operation = with.text("operation", builder).map(|name| ("operation", name));
    let channel = with.text("channel", builder).map(|name| ("channel", name));
    if with.has("operation") == with.has("channel") {
        builder.violate(&with.path, "must have exactly one of 'operation' and 'channel'");
    }
    let server = with.object("server", builder).and_then(|mut server| {
        let name = server.need_text("name", builder).map(str::to_owned);
        let variables = read_map(builder, &mut server, "variables");
        server.close(builder);
        Some((name?, variables))
    });
    let protocol = with.word("protocol", &PROTOCOLS, builder);
    if let Some(protocol) = protocol.filter(|protocol| !PROTOCOLS[..SPOKEN].contains(protocol)) {
        let spoken = quoted(PROTOCOLS[..SPOKEN].iter().copied());
        builder.violate(
            &with.at("protocol"),
            format!("the protocol '{protocol}' is not supported yet; supported are {spoken}"),
        );
    }
    let authentication = authentication::read_field(builder, with);
    let (by, name) = operation.or(channel)?;
    Some(Operation { document: document?, by, name: name.to_owned(), server, protocol, authentication })
}

/// An object, or an expression that gives one.
fn read_map(builder: &mut Builder, fields: &mut Fields<'_>, name: &'static str) -> Option<Template> {
    let value = fields.get(name)?;
    let path = fields.at(name);
    match value {
        Value::Object(_) => {}
        Value::String(text) if enclosed(text).is_some() => {}
        other => {
            builder.violate(&path, format!("must be an object or an expression in '${{ }}', found {}", kind_of(other)));
        }
    }
    Some(builder.template(value, &path))
}

impl Operation {
    /// What the activity needs to know of it.
    fn request(&self, run: &Run, frame: FrameId) -> Result<Map<String, Value>, Fault> {
        let dot = run.input(frame);
        let mut request = Map::new();
        request.insert(
            "document".to_owned(),
            json!({
                "uri": self.document.uri(run, frame, &dot)?,
                "authentication": self.document.authentication(run, frame, &dot)?,
            }),
        );
        request.insert(self.by.to_owned(), Value::String(self.name.clone()));
        if let Some((name, variables)) = &self.server {
            let variables = evaluate_map(run, frame, "'server.variables'", variables.as_ref())?;
            request.insert("server".to_owned(), json!({"name": name, "variables": variables}));
        }
        if let Some(protocol) = self.protocol {
            request.insert("protocol".to_owned(), Value::String(protocol.to_owned()));
        }
        let authentication = authentication::evaluate(self.authentication.as_deref(), run, frame, &dot)?;
        request.insert("authentication".to_owned(), authentication);
        Ok(request)
    }

    /// For people.
    fn on(&self) -> String {
        format!("{} {}", self.by, crate::document::shown(&self.name))
    }
}

/// The object that a template gives; `null` without one.
fn evaluate_map(run: &Run, frame: FrameId, what: &str, template: Option<&Template>) -> Result<Value, Fault> {
    let Some(template) = template else { return Ok(Value::Null) };
    match run.fill(frame, template, &run.input(frame))? {
        map @ (Value::Object(_) | Value::Null) => Ok(map),
        other => Err(wrong(what, "an object", &other)),
    }
}

impl Kind for Publish {
    fn label(&self) -> &'static str {
        "call asyncapi"
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let mut request = self.operation.request(run, frame)?;
        let dot = run.input(frame);
        let payload = self.payload.as_ref().map_or(Ok(Value::Null), |payload| run.fill(frame, payload, &dot))?;
        let headers = evaluate_map(run, frame, "'headers'", self.headers.as_ref())?;
        request.insert("message".to_owned(), json!({"payload": payload, "headers": headers}));
        run.schedule(frame, "asyncapi", Value::Object(request), self.operation.on())
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
