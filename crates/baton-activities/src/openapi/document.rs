//! What a call needs of an OpenAPI document: an operation, its parameters, its body, its server.
//!
//! Documents of 2.0, 3.0 and 3.1 (and later ones of 3) are read as JSON, because no crate reads them all and a call
//! needs little of them: whatever else is wrong with a document does not keep a call from being made.
//!
//! # Invariants
//! - References (`$ref`) go to places of the same document, at most [`REFERENCES_MAX`] after each other.

use baton_execution::{Fault, fault_type};
use reqwest::{Method, Url};
use serde_json::{Map, Value};

use super::parameters::{In, Parameter};
use crate::{body::essence, documents, exchange::is_json, outgoing::shown};

/// References that are followed one after the other.
const REFERENCES_MAX: usize = 16;
/// Operations that are named when the one that is asked for is not there.
const NEAR_MAX: usize = 3;
/// Operations that are looked at for that, and characters of each: the work grows with their square.
const COMPARED_MAX: usize = 2000;
const COMPARED_CHARACTERS_MAX: usize = 80;
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// A document, and where it is from.
pub(super) struct Document {
    pub(super) url: Url,
    root: Value,
    version: Version,
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    Two,
    Three,
}

/// One operation of a document, with everything that is needed to call it.
pub(super) struct Operation {
    pub(super) method: Method,
    /// With names in braces.
    pub(super) path: String,
    /// Absolute, without a query.
    pub(super) server: Url,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
}

/// What an operation wants as its body.
pub(super) struct Body {
    pub(super) media_type: String,
    pub(super) needed: bool,
    /// Names under which it can be given; `body` always is one.
    pub(super) name: String,
}

impl Document {
    /// Reads a document in JSON or YAML.
    pub(super) fn read(text: &[u8], url: Url) -> Result<Self, Fault> {
        let unusable = |why: &str| unusable(&url, why);
        let root = documents::parse(text).map_err(|why| unusable(&format!("it {why}")))?;
        let text = |name: &str| root.get(name).and_then(Value::as_str).unwrap_or_default();
        let version = match (text("swagger"), text("openapi")) {
            ("2.0", _) => Version::Two,
            (_, version) if version.starts_with("3.") => Version::Three,
            (two, three) => {
                let found: String = format!("{two}{three}").chars().take(32).collect();
                return Err(unusable(&format!(
                    "its version is '{found}'; known are 'swagger: \"2.0\"' and 'openapi: 3.x'"
                )));
            }
        };
        Ok(Self { url, root, version })
    }

    /// The operation of an id; the first in the document if there are several, as generators make them of aliases.
    ///
    /// # Errors
    /// There is none (those with a similar id are named), or the document says of it what cannot be used.
    pub(super) fn operation(&self, id: &str) -> Result<Operation, Fault> {
        let mut known = Vec::new();
        for (path, item) in self.root.get("paths").and_then(Value::as_object).into_iter().flatten() {
            let item = self.follow(item)?;
            for method in METHODS {
                let Some(operation) = item.get(method) else { continue };
                match operation.get("operationId").and_then(Value::as_str) {
                    Some(name) if name == id => return self.describe(path, item, method, operation),
                    Some(name) => known.push(name),
                    None => {}
                }
            }
        }
        Err(self.no_operation(id, &known))
    }

    fn no_operation(&self, id: &str, known: &[&str]) -> Fault {
        let start = |text: &str| -> String {
            text.chars().take(COMPARED_CHARACTERS_MAX).flat_map(char::to_lowercase).collect()
        };
        let own = start(id);
        let compared = known.iter().take(COMPARED_MAX);
        let mut near: Vec<(f64, &str)> =
            compared.map(|name| (strsim::jaro_winkler(&own, &start(name)), *name)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let shown = |name: &str| -> String { name.chars().take(COMPARED_CHARACTERS_MAX).collect() };
        let near: Vec<String> = near.iter().take(NEAR_MAX).map(|(_, name)| format!("'{}'", shown(name))).collect();
        let near = if near.is_empty() { String::new() } else { format!("; the nearest are {}", near.join(", ")) };
        let id: String = id.chars().take(80).collect();
        let count = known.len();
        self.fault(&format!("has no operation with the id '{id}' among its {count}{near}"))
    }

    fn describe(&self, path: &str, item: &Value, method: &str, operation: &Value) -> Result<Operation, Fault> {
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut body = None;
        let mut fields = false;
        for declared in [item, operation].into_iter().flat_map(|of| array(of, "parameters")) {
            let declared = self.follow(declared)?;
            if text(declared, "in") == "body" {
                let name = text(declared, "name").to_owned();
                let needed = flag(declared, "required");
                body = Some(Body { media_type: self.consumes(operation, &[]), needed, name });
                continue;
            }
            let parameter = self.parameter(declared)?;
            fields |= parameter.place == In::Form;
            // An operation's own parameter takes the place of its path's.
            parameters.retain(|known| (&known.name, known.place) != (&parameter.name, parameter.place));
            parameters.push(parameter);
        }
        if fields {
            let form = ["multipart/form-data", "application/x-www-form-urlencoded"];
            let mut media_type = self.consumes(operation, &form);
            if !form.contains(&media_type.as_str()) {
                form[1].clone_into(&mut media_type);
            }
            body = Some(Body { media_type, needed: false, name: String::new() });
        }
        if let Some(declared) = operation.get("requestBody") {
            let declared = self.follow(declared)?;
            let types = declared.get("content").and_then(Value::as_object).into_iter().flat_map(Map::keys);
            let media_type = preferred(types.map(String::as_str));
            body = Some(Body { media_type, needed: flag(declared, "required"), name: String::new() });
        }
        for key in self.keys()? {
            // A key that is declared as a parameter, too, is that parameter.
            if !parameters.iter().any(|known| known.name == key.name) {
                parameters.push(key);
            }
        }
        let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("it is one of METHODS");
        Ok(Operation { method, path: path.to_owned(), server: self.server(item, operation)?, parameters, body })
    }

    fn parameter(&self, declared: &Value) -> Result<Parameter, Fault> {
        let schema = declared.get("schema").map(|schema| self.follow(schema)).transpose()?;
        Parameter::read(declared, schema).map_err(|why| self.unusable(&why))
    }

    /// API keys can be given as parameters: there is no scheme for them in the language.
    fn keys(&self) -> Result<Vec<Parameter>, Fault> {
        let pointer = match self.version {
            Version::Two => "/securityDefinitions",
            Version::Three => "/components/securitySchemes",
        };
        let mut keys = Vec::new();
        for scheme in self.root.pointer(pointer).and_then(Value::as_object).into_iter().flat_map(Map::values) {
            let scheme = self.follow(scheme)?;
            if text(scheme, "type") == "apiKey" {
                keys.extend(Parameter::read(scheme, None).ok());
            }
        }
        Ok(keys)
    }

    /// The media type that an operation of 2.0 takes; one of `wanted` if it takes one.
    fn consumes(&self, operation: &Value, wanted: &[&str]) -> String {
        let own = operation.get("consumes").or_else(|| self.root.get("consumes"));
        let types: Vec<&str> = own.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        match types.iter().find(|known| wanted.contains(known)) {
            Some(known) => (*known).to_owned(),
            None => preferred(types.into_iter()),
        }
    }

    /// Where the operation is: the nearest server that is declared, or the document's own origin.
    fn server(&self, item: &Value, operation: &Value) -> Result<Url, Fault> {
        let text = match self.version {
            Version::Two => self.host(),
            Version::Three => {
                let servers = [operation, item, &self.root].into_iter().find_map(|of| array(of, "servers").first());
                servers.map_or(Ok("/".to_owned()), |server| self.fill_server(server))?
            }
        };
        let mut url = self
            .url
            .join(&text)
            .map_err(|error| self.unusable(&format!("its server '{}' is no URL: {error}", cut(&text))))?;
        url.set_query(None);
        url.set_fragment(None);
        Ok(url)
    }

    /// `schemes`, `host` and `basePath` of 2.0.
    fn host(&self) -> String {
        let own = self.url.scheme();
        let schemes: Vec<&str> = array(&self.root, "schemes").iter().filter_map(Value::as_str).collect();
        let scheme = if schemes.is_empty() || schemes.contains(&own) && !schemes.contains(&"https") {
            own
        } else if schemes.contains(&"https") {
            "https"
        } else {
            "http"
        };
        let own_host = || {
            let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}{port}", self.url.host_str().unwrap_or_default())
        };
        let authority = match text(&self.root, "host") {
            "" => own_host(),
            host => host.to_owned(),
        };
        format!("{scheme}://{authority}{}", text(&self.root, "basePath"))
    }

    /// A server's URL with the defaults of its variables.
    fn fill_server(&self, server: &Value) -> Result<String, Fault> {
        let mut url = text(server, "url").to_owned();
        for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
            url = url.replace(&format!("{{{name}}}"), text(variable, "default"));
        }
        if url.contains(['{', '}']) {
            return Err(self.unusable(&format!("its server '{}' has a variable without a default", cut(&url))));
        }
        Ok(url)
    }

    /// What a reference refers to; anything else is itself.
    fn follow<'d>(&'d self, value: &'d Value) -> Result<&'d Value, Fault> {
        let mut value = value;
        for _ in 0..REFERENCES_MAX {
            let Some(target) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
            let found = target.strip_prefix('#').and_then(|pointer| {
                let pointer = percent_encoding::percent_decode_str(pointer).decode_utf8().ok()?;
                self.root.pointer(&pointer)
            });
            value = found.ok_or_else(|| {
                self.unusable(&format!(
                    "it refers to '{}', which is no place in it; references go to '#/…'",
                    cut(target)
                ))
            })?;
        }
        Err(self.unusable(&format!("it has more than {REFERENCES_MAX} references to references")))
    }

    fn unusable(&self, why: &str) -> Fault {
        unusable(&self.url, why)
    }

    fn fault(&self, why: &str) -> Fault {
        Fault::new(fault_type::CONFIGURATION, 400, format!("the OpenAPI document {} {why}", shown(&self.url)))
            .non_retryable()
    }
}

fn unusable(url: &Url, why: &str) -> Fault {
    let detail = format!("the OpenAPI document {} cannot be used: {why}", shown(url));
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}

/// The media type to send: JSON if it is taken, else a form, else the first.
fn preferred<'t>(types: impl Iterator<Item = &'t str>) -> String {
    let rank = |media_type: &str| match essence(media_type).as_str() {
        essence if is_json(essence) => 0,
        "*/*" | "application/*" => 1,
        "application/x-www-form-urlencoded" => 2,
        "multipart/form-data" => 3,
        _ => 4,
    };
    let best = types.min_by_key(|media_type| rank(media_type)).unwrap_or("application/json");
    if best.contains('*') { "application/json".to_owned() } else { best.to_owned() }
}

fn text<'d>(value: &'d Value, name: &str) -> &'d str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn array<'d>(value: &'d Value, name: &str) -> &'d [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}
