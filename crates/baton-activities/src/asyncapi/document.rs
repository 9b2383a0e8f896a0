//! AsyncAPI documents, 2.x and 3.0: from what a task names to where its messages go, or come from.
//!
//! A document of version 2 has its operations in its channels, and servers with a `url`; one of version 3 has both by
//! themselves, and servers with `host` and `pathname`. What a task does is decided by the task (it publishes or it
//! subscribes), not by the word that the document uses: documents are written from either side.
//!
//! # Invariants
//! - References stay within the document, and a chain of them is limited.
//! - What variables put into a topic is one level of it, and never a wildcard.
//!
//! # Failure
//! A fault of the type `configuration` that names what the document has instead.

use baton_execution::{Fault, fault_type};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{connection::Target, documents};

/// Protocols that are spoken, as messages name them.
const SPOKEN: &str = "'http', 'https', 'mqtt', 'mqtt5', 'mqtts' and 'secure-mqtt'";
/// References that lead to one another.
const REFERENCES_MAX: usize = 16;

/// What a task names of a document.
#[derive(Deserialize)]
pub(super) struct Asked {
    channel: Option<String>,
    operation: Option<String>,
    server: Option<Server>,
    protocol: Option<String>,
}

#[derive(Deserialize)]
struct Server {
    name: String,
    #[serde(default)]
    variables: Option<Map<String, Value>>,
}

/// Whether a task gives messages or takes them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Publish,
    Subscribe,
}

/// Where messages go or come from.
pub(super) enum Place {
    Http { url: Url, method: Method },
    Mqtt { target: Target, topic: String, at_most_once: bool, retain: bool },
}

/// What a task asked for.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) content_type: Option<String>,
    /// Where a message holds its correlation id, such as `$message.header#/correlationId`.
    pub(super) correlation: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Http,
    Mqtt,
}

fn family(protocol: &str) -> Option<Family> {
    match protocol {
        "http" | "https" => Some(Family::Http),
        "mqtt" | "mqtt5" | "mqtts" | "secure-mqtt" => Some(Family::Mqtt),
        _ => None,
    }
}

/// The document from JSON or YAML, for a thread that may be blocked.
pub(super) fn parse(text: &[u8], shown: &str) -> Result<Value, Fault> {
    documents::parse(text).map_err(|why| wrong(format!("{shown} {why}")))
}

/// Finds what is asked for.
pub(super) fn find(document: &Value, asked: &Asked, direction: Direction) -> Result<Found, Fault> {
    let version = document["asyncapi"].as_str().unwrap_or_default();
    let is_old = version.starts_with("2.");
    if !is_old && !version.starts_with("3.") {
        return Err(wrong(format!(
            "the document is of AsyncAPI '{}'; supported are the versions 2 and 3",
            short(version)
        )));
    }
    let document = Document { root: document, is_old };
    let operation = document.operation(asked, direction)?;
    let (name, server) = document.server(&operation, asked)?;
    document.join(&operation, &name, server, asked, direction)
}

struct Document<'d> {
    root: &'d Value,
    is_old: bool,
}

/// An operation of a channel; `None` where a document has only the channel.
struct Operation<'d> {
    channel: &'d Value,
    does: Option<&'d Value>,
    address: &'d str,
}

impl<'d> Document<'d> {
    /// Follows references.
    fn follow(&self, mut value: &'d Value) -> Result<&'d Value, Fault> {
        for _ in 0..REFERENCES_MAX {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            value = target.ok_or_else(|| {
                wrong(format!("the reference '{}' does not lead to a part of the document", short(reference)))
            })?;
        }
        Err(wrong(format!("more than {REFERENCES_MAX} references lead to one another")))
    }

    fn entry(&self, of: &str, name: &str, what: &str) -> Result<&'d Value, Fault> {
        let entries = self.root.get(of);
        if let Some(entry) = entries.and_then(|entries| entries.get(name)) {
            return self.follow(entry);
        }
        let known = quoted(entries.and_then(Value::as_object).into_iter().flat_map(Map::keys));
        Err(wrong(format!("the document has no {what} '{}'; those there are {known}", short(name))))
    }

    fn operation(&self, asked: &Asked, direction: Direction) -> Result<Operation<'d>, Fault> {
        match (&asked.operation, &asked.channel) {
            (Some(name), _) if self.is_old => self.old_operation(name),
            (Some(name), _) => {
                let operation = self.entry("operations", name, "operation")?;
                let channel = self.follow(&operation["channel"])?;
                let address = channel["address"].as_str().unwrap_or_default();
                Ok(Operation { channel, does: Some(operation), address })
            }
            (None, Some(name)) => {
                let channel = self.entry("channels", name, "channel")?;
                if !self.is_old {
                    return Ok(Operation {
                        channel,
                        does: None,
                        address: channel["address"].as_str().unwrap_or_default(),
                    });
                }
                let (word, other) = match direction {
                    Direction::Publish => ("publish", "subscribe"),
                    Direction::Subscribe => ("subscribe", "publish"),
                };
                let address = self.key("channels", name);
                match channel.get(word) {
                    Some(operation) => Ok(Operation { channel, does: Some(self.follow(operation)?), address }),
                    None => Err(wrong(format!(
                        "the channel '{}' has no operation '{word}'{}",
                        short(name),
                        if channel.get(other).is_some() { format!(", only '{other}'") } else { String::new() }
                    ))),
                }
            }
            (None, None) => Err(wrong("the task names neither 'operation' nor 'channel'".to_owned())),
        }
    }

    /// An operation of version 2, by its `operationId`.
    fn old_operation(&self, name: &str) -> Result<Operation<'d>, Fault> {
        let mut known = Vec::new();
        for (address, channel) in self.root["channels"].as_object().into_iter().flatten() {
            let channel = self.follow(channel)?;
            for word in ["publish", "subscribe"] {
                let Some(operation) = channel.get(word) else { continue };
                let operation = self.follow(operation)?;
                match operation["operationId"].as_str() {
                    Some(id) if id == name => return Ok(Operation { channel, does: Some(operation), address }),
                    Some(id) => known.push(id.to_owned()),
                    None => {}
                }
            }
        }
        Err(wrong(format!("the document has no operation '{}'; those there are {}", short(name), quoted(known.iter()))))
    }

    fn key(&self, of: &str, name: &str) -> &'d str {
        let entries = self.root[of].as_object();
        entries.and_then(|entries| entries.get_key_value(name)).map_or("", |(key, _)| key.as_str())
    }

    /// The server that is named, or the first of the protocol that is named, or the first that the channel is on.
    fn server(&self, operation: &Operation<'d>, asked: &Asked) -> Result<(String, &'d Value), Fault> {
        if let Some(Server { name, .. }) = &asked.server {
            return Ok((name.clone(), self.entry("servers", name, "server")?));
        }
        let on: Option<Vec<&str>> = operation.channel["servers"].as_array().filter(|on| !on.is_empty()).map(|on| {
            let name = |entry: &'d Value| entry.as_str().or_else(|| entry["$ref"].as_str()?.rsplit('/').next());
            on.iter().filter_map(name).collect()
        });
        let mut protocols = Vec::new();
        for (name, server) in self.root["servers"].as_object().into_iter().flatten() {
            if on.as_ref().is_some_and(|on| !on.contains(&name.as_str())) {
                continue;
            }
            let server = self.follow(server)?;
            let protocol = server["protocol"].as_str().unwrap_or_default();
            let fits = asked.protocol.as_deref().is_none_or(|asked| asked == protocol || same_family(asked, protocol));
            if fits {
                return Ok((name.clone(), server));
            }
            protocols.push(protocol.to_owned());
        }
        Err(wrong(match &asked.protocol {
            Some(protocol) => format!(
                "no server of the channel speaks '{}'; protocols of its servers are {}",
                short(protocol),
                quoted(protocols.iter())
            ),
            None => "the channel is on no server of the document".to_owned(),
        }))
    }

    fn join(
        &self,
        operation: &Operation<'d>,
        name: &str,
        server: &'d Value,
        asked: &Asked,
        direction: Direction,
    ) -> Result<Found, Fault> {
        let protocol = server["protocol"].as_str().unwrap_or_default();
        let family = family(protocol).ok_or_else(|| {
            wrong(format!(
                "the server '{}' speaks '{}', which is not supported; supported are {SPOKEN}; another server can be named by 'server' or 'protocol'",
                short(name),
                short(protocol)
            ))
        })?;
        let base = self.base(server, asked)?;
        let (scheme, rest) = base.split_once("://").unwrap_or((protocol, &base));
        let url = Url::parse(&format!("baton://{rest}"))
            .ok()
            .filter(|url| url.host_str().is_some_and(|host| !host.is_empty()))
            .ok_or_else(|| wrong(format!("the server '{}' has no address that can be used", short(name))))?;
        let tls = matches!(scheme, "https" | "mqtts" | "ssl" | "tls" | "secure-mqtt")
            || matches!(protocol, "https" | "mqtts" | "secure-mqtt");
        let address = self.address(operation, asked, family, direction)?;
        let bindings = [operation.does, Some(operation.channel)];
        let binding = |protocol: &str, field: &str| {
            bindings.iter().flatten().find_map(|part| part.get("bindings")?.get(protocol)?.get(field)).cloned()
        };
        let place = match family {
            Family::Http => {
                let method = binding("http", "method").and_then(|method| method.as_str().map(str::to_ascii_uppercase));
                let method = Method::from_bytes(method.as_deref().unwrap_or("POST").as_bytes())
                    .map_err(|_| wrong("the binding of the operation names no HTTP method".to_owned()))?;
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                let whole = format!(
                    "{}://{}{port}{}/{}",
                    if tls { "https" } else { "http" },
                    url.host_str().unwrap_or_default(),
                    url.path().trim_end_matches('/'),
                    address.trim_start_matches('/')
                );
                let url = Url::parse(&whole)
                    .map_err(|error| wrong(format!("the operation's address is not a URL: {error}")))?;
                Place::Http { url, method }
            }
            Family::Mqtt => {
                let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
                let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
                Place::Mqtt {
                    target: Target { host, port, tls: tls.then_some("") },
                    topic: address,
                    at_most_once: binding("mqtt", "qos") == Some(Value::from(0)),
                    retain: binding("mqtt", "retain") == Some(Value::Bool(true)),
                }
            }
        };
        let message = self.message(operation)?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let correlation = message.and_then(|message| message.get("correlationId"));
        let correlation = correlation.map(|correlation| self.follow(correlation)).transpose()?;
        Ok(Found {
            place,
            content_type: text(message.and_then(|message| message.get("contentType")))
                .or_else(|| text(self.root.get("defaultContentType"))),
            correlation: text(correlation.and_then(|correlation| correlation.get("location"))),
        })
    }

    /// Address of a server, with its variables filled in.
    fn base(&self, server: &'d Value, asked: &Asked) -> Result<String, Fault> {
        let text = |field: &str| server[field].as_str().unwrap_or_default();
        let template =
            if self.is_old { text("url").to_owned() } else { format!("{}{}", text("host"), text("pathname")) };
        fill(&template, |name| {
            let definition = server["variables"].get(name).map(|definition| self.follow(definition)).transpose()?;
            let value = given(asked, name)?.or_else(|| definition?["default"].as_str().map(str::to_owned));
            let value = value.ok_or_else(|| {
                wrong(format!("the server needs a value for '{}' in 'server.variables'", short(name)))
            })?;
            check_enum(definition, name, &value)?;
            Ok(value)
        })
    }

    /// Address of a channel, with its parameters filled in. Who subscribes by MQTT may leave some open.
    fn address(
        &self,
        operation: &Operation<'d>,
        asked: &Asked,
        family: Family,
        direction: Direction,
    ) -> Result<String, Fault> {
        let address = fill(operation.address, |name| {
            let definition =
                operation.channel["parameters"].get(name).map(|definition| self.follow(definition)).transpose()?;
            let default = definition
                .and_then(|definition| definition.get("default").or_else(|| definition["schema"].get("default")))
                .and_then(Value::as_str);
            match given(asked, name)?.or_else(|| default.map(str::to_owned)) {
                Some(value) => {
                    check_enum(definition, name, &value)?;
                    if value.is_empty() || value.contains(['/', '+', '#', '?', '\0']) {
                        return Err(wrong(format!(
                            "the value of the parameter '{}' must be one level of the address: not empty, without '/', '+', '#' and '?'",
                            short(name)
                        )));
                    }
                    Ok(value)
                }
                None if family == Family::Mqtt && direction == Direction::Subscribe => Ok("+".to_owned()),
                None => Err(wrong(format!(
                    "the channel needs a value for '{}'; parameters are taken from 'server.variables'",
                    short(name)
                ))),
            }
        })?;
        let topic = family == Family::Mqtt;
        let wild = topic && direction == Direction::Publish && address.contains(['+', '#']);
        if topic && (address.is_empty() || address.len() > 65_535 || address.contains('\0') || wild) {
            return Err(wrong(format!("the channel's address '{}' is not a topic of MQTT", short(&address))));
        }
        Ok(address)
    }

    /// The one message of the operation, or the first.
    fn message(&self, operation: &Operation<'d>) -> Result<Option<&'d Value>, Fault> {
        let of_operation = operation
            .does
            .and_then(|operation| operation.get("message").or_else(|| operation.get("messages")?.as_array()?.first()));
        let of_channel = || operation.channel.get("messages")?.as_object()?.values().next();
        let Some(message) = of_operation.or_else(of_channel) else { return Ok(None) };
        let message = self.follow(message)?;
        match message.get("oneOf").and_then(Value::as_array).and_then(|choices| choices.first()) {
            Some(choice) => self.follow(choice).map(Some),
            None => Ok(Some(message)),
        }
    }
}

fn same_family(asked: &str, protocol: &str) -> bool {
    family(asked).is_some_and(|asked| family(protocol) == Some(asked))
}

/// A value from `server.variables`.
fn given(asked: &Asked, name: &str) -> Result<Option<String>, Fault> {
    let variables = asked.server.as_ref().and_then(|server| server.variables.as_ref());
    match variables.and_then(|variables| variables.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(scalar @ (Value::Bool(_) | Value::Number(_))) => Ok(Some(scalar.to_string())),
        Some(Value::Array(_) | Value::Object(_)) => {
            Err(wrong(format!("the variable '{}' must be a string, a number or a boolean", short(name))))
        }
    }
}

fn check_enum(definition: Option<&Value>, name: &str, value: &str) -> Result<(), Fault> {
    let choices = definition.and_then(|definition| definition.get("enum").or_else(|| definition["schema"].get("enum")));
    let Some(choices) = choices.and_then(Value::as_array) else { return Ok(()) };
    let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
    if choices.is_empty() || choices.contains(&value) {
        return Ok(());
    }
    let known = quoted(choices.iter());
    Err(wrong(format!("the value of '{}' is '{}', allowed are {known}", short(name), short(value))))
}

/// A text with every `{name}` in it replaced.
fn fill(template: &str, mut value: impl FnMut(&str) -> Result<String, Fault>) -> Result<String, Fault> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| wrong(format!("'{}' has a '{{' without a '}}'", short(template))))?;
        filled.push_str(literal);
        filled.push_str(&value(name)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

pub(super) fn wrong(detail: String) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

fn quoted<T: AsRef<str>>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.take(16).map(|name| format!("'{}'", short(name.as_ref()))).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
