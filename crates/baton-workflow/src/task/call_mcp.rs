//! `call: mcp`: one request to a server of the Model Context Protocol, by the activity `mcp`.
//!
//! The activity's input is `{"protocolVersion", "method", "parameters", "client", "transport"}`, everything evaluated;
//! `transport` is `{"http": {"endpoint", "headers", "authentication"}}` or `{"stdio": {"command", "arguments",
//! "environment"}}`. What it returns is the task's raw output.
//!
//! `tools/call` must not be repeated after a crash, unlike all other methods, which only read: what a tool does is not
//! known here.

use baton_execution::{Effect, Fault};
use serde_json::{Map, Value, json};

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, shown},
    interpreter::{Call, FrameId, Run},
    task::{
        Delay, Event, Kind, Place, Step,
        endpoint::Endpoint,
        values::{object, strings, text, texts},
    },
    template::Template,
};

const METHODS: [&str; 7] = [
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/read",
    "resources/templates/list",
];
const VERSION_DEFAULT: &str = "2025-06-18";

#[derive(Debug)]
struct CallMcp {
    version: Template,
    method: &'static str,
    parameters: Option<Template>,
    timeout: Option<Delay>,
    client: Option<Client>,
    transport: Transport,
}

#[derive(Debug)]
struct Client {
    name: Template,
    version: Template,
    description: Option<Template>,
}

#[derive(Debug)]
enum Transport {
    Http { endpoint: Endpoint, headers: Option<Template> },
    Stdio { command: Template, arguments: Option<Template>, environment: Option<Template> },
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut with = fields.need_object("with", builder)?;
    let version = with.text("protocolVersion", builder).unwrap_or(VERSION_DEFAULT);
    if enclosed(version).is_none() && !is_date(version) {
        builder.violate(
            &with.at("protocolVersion"),
            format!("'{}' is not a version of the protocol, such as '{VERSION_DEFAULT}'", shown(version)),
        );
    }
    let version = builder.template(&Value::String(version.to_owned()), &with.at("protocolVersion"));
    with.need("method", builder);
    let method = with.word("method", &METHODS, builder);
    let parameters = read_parameters(builder, &mut with);
    let timeout = with.duration("timeout", builder);
    let client = with.object("client", builder).and_then(|client| read_client(builder, client));
    let transport = with.need_object("transport", builder).and_then(|transport| read_transport(builder, transport));
    with.close(builder);
    Some(Box::new(CallMcp { version, method: method?, parameters, timeout, client, transport: transport? }))
}

/// Reads `parameters`: an object with expressions in it, or an expression that gives one.
pub(super) fn read_parameters(builder: &mut Builder, with: &mut Fields<'_>) -> Option<Template> {
    let value = with.get("parameters")?;
    let path = with.at("parameters");
    match value {
        Value::Object(_) => Some(builder.template(value, &path)),
        other => {
            let text = builder.text(other, &path)?;
            builder.expression(text, &path).map(Template::Expression)
        }
    }
}

fn read_client(builder: &mut Builder, mut fields: Fields<'_>) -> Option<Client> {
    fields.need_text("name", builder);
    fields.need_text("version", builder);
    fields.text("description", builder);
    let client = (fields.template("name", builder), fields.template("version", builder));
    let description = fields.template("description", builder);
    fields.close(builder);
    Some(Client { name: client.0?, version: client.1?, description })
}

fn read_transport(builder: &mut Builder, mut fields: Fields<'_>) -> Option<Transport> {
    if fields.get("options").is_some() {
        builder.violate(&fields.at("options"), "is not supported: the language names no option; leave it out");
    }
    let transport = match (fields.has("http"), fields.has("stdio")) {
        (true, false) => fields.object("http", builder).and_then(|http| read_http(builder, http)),
        (false, true) => fields.object("stdio", builder).and_then(|stdio| read_stdio(builder, stdio)),
        (both, _) => {
            fields.get("http");
            fields.get("stdio");
            let found = if both { "both" } else { "neither" };
            builder.violate(&fields.path, format!("must have one of 'http' and 'stdio'; found {found}"));
            None
        }
    };
    fields.close(builder);
    transport
}

fn read_http(builder: &mut Builder, mut fields: Fields<'_>) -> Option<Transport> {
    let endpoint =
        fields.need("endpoint", builder).and_then(|value| Endpoint::read(builder, value, &fields.at("endpoint")));
    let headers = read_texts(builder, &mut fields, "headers");
    fields.close(builder);
    Some(Transport::Http { endpoint: endpoint?, headers })
}

fn read_stdio(builder: &mut Builder, mut fields: Fields<'_>) -> Option<Transport> {
    fields.need_text("command", builder);
    let command = fields.template("command", builder);
    let arguments = read_list(builder, &mut fields, "arguments");
    let environment = read_texts(builder, &mut fields, "environment");
    fields.close(builder);
    Some(Transport::Stdio { command: command?, arguments, environment })
}

/// Reads a list of texts, of which some may be expressions, or an expression that gives one.
fn read_list(builder: &mut Builder, fields: &mut Fields<'_>, name: &'static str) -> Option<Template> {
    let value = fields.get(name)?;
    let path = fields.at(name);
    match value {
        Value::String(text) if enclosed(text).is_some() => {}
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                builder.text(item, &format!("{path}[{index}]"));
            }
        }
        other => {
            builder.violate(&path, format!("must be an array or an expression in '${{ }}', found {}", kind_of(other)));
        }
    }
    Some(builder.template(value, &path))
}

/// Reads texts by name, of which some may be expressions, or an expression that gives them.
fn read_texts(builder: &mut Builder, fields: &mut Fields<'_>, name: &'static str) -> Option<Template> {
    let value = fields.get(name)?;
    let path = fields.at(name);
    match value {
        Value::String(text) if enclosed(text).is_some() => {}
        Value::Object(entries) => {
            for (key, entry) in entries {
                builder.text(entry, &format!("{path}.{}", shown(key)));
            }
        }
        other => {
            builder.violate(&path, format!("must be an object or an expression in '${{ }}', found {}", kind_of(other)));
        }
    }
    Some(builder.template(value, &path))
}

/// Whether a text has the form of the protocol's versions, `YYYY-MM-DD`.
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

impl CallMcp {
    fn call(&self, run: &Run, frame: FrameId) -> Result<Call, Fault> {
        let dot = run.input(frame);
        let version = text("'protocolVersion'", run.fill(frame, &self.version, &dot)?)?;
        let parameters = match &self.parameters {
            Some(parameters) => object("'parameters'", run.fill(frame, parameters, &dot)?)?,
            None => Value::Null,
        };
        let client = match &self.client {
            Some(client) => client.evaluate(run, frame, &dot)?,
            None => Value::Null,
        };
        let timeout_ms = self.timeout.as_ref().map(|timeout| run.delay(frame, timeout, &dot)).transpose()?;
        let (transport, place) = self.transport.evaluate(run, frame, &dot)?;
        let input = json!({
            "protocolVersion": version, "method": self.method, "parameters": parameters, "client": client,
            "transport": transport,
        });
        let effect = if self.method == "tools/call" { Effect::Once } else { Effect::Repeatable };
        Ok(Call { activity: "mcp", input, on: format!("{} {place}", self.method), effect, timeout_ms })
    }
}

impl Client {
    fn evaluate(&self, run: &Run, frame: FrameId, dot: &Value) -> Result<Value, Fault> {
        let mut client = Map::new();
        for (name, template) in
            [("name", Some(&self.name)), ("version", Some(&self.version)), ("description", self.description.as_ref())]
        {
            if let Some(template) = template {
                client.insert(name.to_owned(), text(&format!("'client.{name}'"), run.fill(frame, template, dot)?)?);
            }
        }
        Ok(Value::Object(client))
    }
}

impl Transport {
    /// What the activity takes, and what people call the server.
    fn evaluate(&self, run: &Run, frame: FrameId, dot: &Value) -> Result<(Value, String), Fault> {
        let map = |what: &str, template: &Option<Template>| match template {
            Some(template) => strings(what, run.fill(frame, template, dot)?),
            None => Ok(Value::Object(Map::new())),
        };
        match self {
            Self::Http { endpoint, headers } => {
                let uri = endpoint.uri(run, frame, dot)?;
                let place = shown(uri.split('?').next().unwrap_or_default());
                let http = json!({
                    "endpoint": uri, "headers": map("'headers'", headers)?,
                    "authentication": endpoint.authentication(run, frame, dot)?,
                });
                Ok((json!({"http": http}), place))
            }
            Self::Stdio { command, arguments, environment } => {
                let command = text("'command'", run.fill(frame, command, dot)?)?;
                let place = shown(command.as_str().unwrap_or_default());
                let arguments = match arguments {
                    Some(arguments) => texts("'arguments'", run.fill(frame, arguments, dot)?)?,
                    None => Value::Array(Vec::new()),
                };
                let environment = map("'environment'", environment)?;
                let stdio = json!({"command": command, "arguments": arguments, "environment": environment});
                Ok((json!({"stdio": stdio}), place))
            }
        }
    }
}

impl Kind for CallMcp {
    fn label(&self) -> &'static str {
        "call mcp"
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let call = self.call(run, frame)?;
        run.call(frame, call)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
