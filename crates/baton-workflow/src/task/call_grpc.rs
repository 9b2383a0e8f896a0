//! `call: grpc`: one call of a method of a service that a proto file describes, by the activity `grpc`.
//!
//! The activity's input is `{"proto": {"uri", "authentication", "content"}, "service": {"name", "host", "port", "tls",
//! "authentication"}, "method", "arguments"}`, everything evaluated; what it returns is the task's raw output.
//!
//! The language does not say when TLS is spoken: it is on the ports of HTTPS (443, which is the default, and 8443), unless
//! `metadata.tls` says otherwise.

use std::sync::Arc;

use baton_execution::Fault;
use serde_json::{Value, json};

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, shown},
    interpreter::{FrameId, Run},
    task::{
        Event, Kind, Place, Step,
        authentication::{self, Authentication},
        endpoint::Endpoint,
    },
    template::Template,
};

/// The port of a service that names none, and the ports on which TLS is spoken.
const PORT_DEFAULT: u16 = 443;
const PORTS_TLS: [u16; 2] = [443, 8443];

#[derive(Debug)]
struct CallGrpc {
    proto: Endpoint,
    service: Service,
    method: String,
    arguments: Option<Template>,
    tls: bool,
}

#[derive(Debug)]
struct Service {
    name: String,
    host: String,
    port: u16,
    authentication: Option<Arc<Authentication>>,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut with = fields.need_object("with", builder)?;
    let proto = Endpoint::read_description(builder, &mut with, "proto");
    let service = with.need_object("service", builder).and_then(|service| read_service(builder, service));
    let method = with.need_text("method", builder).map(str::to_owned);
    let arguments = read_arguments(builder, &mut with);
    with.close(builder);
    let tls = fields.object("metadata", builder).and_then(|mut metadata| metadata.boolean("tls", builder));
    let service = service?;
    let tls = tls.unwrap_or(PORTS_TLS.contains(&service.port));
    Some(Box::new(CallGrpc { proto: proto?, service, method: method?, arguments, tls }))
}

fn read_service(builder: &mut Builder, mut fields: Fields<'_>) -> Option<Service> {
    let name = fields.need_text("name", builder).map(str::to_owned);
    let host = fields.need_text("host", builder).map(str::to_owned);
    if let Some(host) = host.as_ref().filter(|host| !is_host(host)) {
        builder.violate(
            &fields.at("host"),
            format!(
                "'{}' is not the name of a host; allowed are letters, digits, '-' and '.', beginning and ending with a letter or digit",
                shown(host)
            ),
        );
    }
    let port = fields.integer("port", 0, u16::MAX.into(), builder);
    let authentication = authentication::read_field(builder, &mut fields);
    fields.close(builder);
    let port = port.map_or(PORT_DEFAULT, |port| u16::try_from(port).unwrap_or_default());
    Some(Service { name: name?, host: host?, port, authentication })
}

/// A host as the language has it.
fn is_host(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    (1..=253).contains(&text.len())
        && text.starts_with(plain)
        && text.ends_with(plain)
        && text.chars().all(|c| plain(c) || matches!(c, '-' | '.'))
}

/// An object; for a method that takes a stream, an array of them; or an expression that gives one of the two.
fn read_arguments(builder: &mut Builder, with: &mut Fields<'_>) -> Option<Template> {
    let value = with.get("arguments")?;
    let path = with.at("arguments");
    match value {
        Value::Object(_) | Value::Array(_) => {}
        Value::String(text) if enclosed(text).is_some() => {}
        other => builder.violate(
            &path,
            format!("must be an object, an array of objects or an expression in '${{ }}', found {}", kind_of(other)),
        ),
    }
    Some(builder.template(value, &path))
}

impl CallGrpc {
    fn request(&self, run: &Run, frame: FrameId) -> Result<Value, Fault> {
        let dot = run.input(frame);
        let arguments = self.arguments.as_ref().map_or(Ok(json!({})), |arguments| run.fill(frame, arguments, &dot))?;
        let Service { name, host, port, authentication } = &self.service;
        Ok(json!({
            "proto": self.proto.evaluate(run, frame, &dot)?,
            "service": {
                "name": name,
                "host": host,
                "port": port,
                "tls": self.tls,
                "authentication": authentication::evaluate(authentication.as_deref(), run, frame, &dot)?,
            },
            "method": self.method,
            "arguments": arguments,
        }))
    }
}

impl Kind for CallGrpc {
    fn label(&self) -> &'static str {
        "call grpc"
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let input = self.request(run, frame)?;
        run.schedule(frame, "grpc", input, format!("{}/{}", shown(&self.service.name), shown(&self.method)))
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
