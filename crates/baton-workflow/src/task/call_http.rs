//! `call: http`: one request, by the activity `http`.
//!
//! The activity's input is `{"method", "endpoint", "headers", "query", "body", "output", "redirect",
//! "authentication"}`, everything evaluated; what it returns is the task's raw output.

use std::sync::Arc;

use baton_execution::{Fault, fault_type};
use serde_json::{Map, Value, json};

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, quoted, shown},
    interpreter::{FrameId, Run},
    task::{Event, Kind, Place, Step},
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
    authentication: Option<Arc<Authentication>>,
}

#[derive(Debug)]
enum Endpoint {
    Expression(Template),
    Uri(UriTemplate),
}

/// A URI with `{name}` in it: literal texts, and names of fields of the input after each but the last.
#[derive(Debug)]
struct UriTemplate {
    parts: Vec<(String, Option<String>)>,
}

/// How a request says who it is from.
#[derive(Debug)]
pub(crate) struct Authentication {
    scheme: &'static str,
    fields: Vec<(&'static str, Template)>,
}

/// Schemes of the language that this version does not use.
const SCHEMES_UNSUPPORTED: [&str; 3] = ["digest", "oauth2", "oidc"];

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut with = fields.need_object("with", builder)?;
    let method = with.need_text("method", builder).map(|text| read_method(builder, text, &with.at("method")));
    let endpoint = with.need("endpoint", builder).and_then(|value| read_endpoint(builder, value, &with.at("endpoint")));
    let headers = read_map(builder, &mut with, "headers");
    let query = read_map(builder, &mut with, "query");
    let body = with.template("body", builder);
    let output = with.word("output", &["content", "raw", "response"], builder).unwrap_or("content");
    let redirect = with.boolean("redirect", builder).unwrap_or(false);
    with.close(builder);
    let (endpoint, authentication) = endpoint?;
    Some(Box::new(CallHttp { method: method?, endpoint, headers, query, body, output, redirect, authentication }))
}

fn read_method(builder: &mut Builder, text: &str, path: &str) -> Template {
    let is_token = !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    if enclosed(text).is_none() && !is_token {
        builder.violate(path, format!("'{}' is not an HTTP method", shown(text)));
    }
    builder.template(&Value::String(text.to_owned()), path)
}

fn read_map(builder: &mut Builder, fields: &mut Fields<'_>, name: &'static str) -> Option<Template> {
    let value = fields.get(name)?;
    let path = fields.at(name);
    match value {
        Value::String(text) if enclosed(text).is_some() => {}
        Value::Object(entries) => {
            for (key, entry) in entries {
                if matches!(entry, Value::Array(_) | Value::Object(_) | Value::Null) {
                    builder.violate(
                        &format!("{path}.{}", shown(key)),
                        format!("must be a string, found {}", kind_of(entry)),
                    );
                }
            }
        }
        other => {
            builder.violate(&path, format!("must be an object or an expression in '${{ }}', found {}", kind_of(other)));
        }
    }
    Some(builder.template(value, &path))
}

fn read_endpoint(builder: &mut Builder, value: &Value, path: &str) -> Option<(Endpoint, Option<Arc<Authentication>>)> {
    let Value::Object(_) = value else {
        let text = builder.text(value, path)?;
        return Some((read_uri(builder, text, path)?, None));
    };
    let mut fields = Fields::open(value, path, builder)?;
    let uri = fields.need_text("uri", builder).and_then(|text| read_uri(builder, text, &fields.at("uri")));
    let authentication = fields
        .get("authentication")
        .and_then(|value| read_authentication(builder, value, &fields.at("authentication")));
    fields.close(builder);
    Some((uri?, authentication))
}

fn read_uri(builder: &mut Builder, text: &str, path: &str) -> Option<Endpoint> {
    if enclosed(text).is_some() {
        return builder.expression(text, path).map(|expression| Endpoint::Expression(Template::Expression(expression)));
    }
    match UriTemplate::parse(text) {
        Ok(template) => Some(Endpoint::Uri(template)),
        Err(message) => {
            builder.violate(path, message);
            None
        }
    }
}

/// Reads an authentication policy, or a reference to one in `use.authentications`.
pub(crate) fn read_authentication(builder: &mut Builder, value: &Value, path: &str) -> Option<Arc<Authentication>> {
    let mut fields = Fields::open(value, path, builder)?;
    if let Some(name) = fields.text("use", builder) {
        let found = builder.reusable.authentications.get(name).cloned();
        if found.is_none() {
            let known = quoted(builder.reusable.authentications.keys().map(String::as_str));
            builder.violate(
                &fields.at("use"),
                format!("no authentication named '{}' in use.authentications; those there are {known}", shown(name)),
            );
        }
        fields.close(builder);
        return found.flatten();
    }
    for scheme in SCHEMES_UNSUPPORTED {
        if fields.get(scheme).is_some() {
            builder.violate(
                &fields.at(scheme),
                format!("authentication by '{scheme}' is not supported yet; supported are 'basic' and 'bearer'"),
            );
            return None;
        }
    }
    let read = if fields.has("bearer") { ("bearer", &["token"][..]) } else { ("basic", &["username", "password"][..]) };
    let (scheme, names) = read;
    let mut inner = fields.need_object(scheme, builder)?;
    let mut parts = Vec::new();
    if inner.get("use").is_some() {
        builder.violate(&inner.at("use"), "secrets are not supported yet; give the values by expressions");
    } else {
        for &name in names {
            if let Some(text) = inner.need_text(name, builder) {
                parts.push((name, builder.template(&Value::String(text.to_owned()), &inner.at(name))));
            }
        }
    }
    inner.close(builder);
    fields.close(builder);
    Some(Arc::new(Authentication { scheme, fields: parts }))
}

impl UriTemplate {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("'{}' has a '{{' without a '}}'", shown(text)))?;
            let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !plain {
                return Err(format!(
                    "'{{{}}}' is not supported in a URI template; allowed are names of fields of the input, such as '{{petId}}'",
                    shown(name)
                ));
            }
            parts.push((literal.to_owned(), Some(name.to_owned())));
            rest = after;
        }
        if rest.contains('}') {
            return Err(format!("'{}' has a '}}' without a '{{'", shown(text)));
        }
        parts.push((rest.to_owned(), None));
        let found = text.trim();
        let scheme = found.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let template_first = text.starts_with('{');
        if !template_first && !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(format!("'{}' is not an absolute http or https URI", shown(text)));
        }
        Ok(Self { parts })
    }

    fn expand(&self, input: &Value) -> Result<String, Fault> {
        let mut uri = String::new();
        for (literal, name) in &self.parts {
            uri.push_str(literal);
            let Some(name) = name else { continue };
            match input.get(name) {
                Some(Value::String(text)) => percent_encode(text, &mut uri),
                Some(scalar @ (Value::Bool(_) | Value::Number(_))) => percent_encode(&scalar.to_string(), &mut uri),
                other => {
                    let found = other.map_or("no such field", kind_of);
                    let detail = format!(
                        "the endpoint needs '{name}' of the task's input as a string, number or boolean; found {found}"
                    );
                    return Err(Fault::new(fault_type::EXPRESSION, 400, detail));
                }
            }
        }
        Ok(uri)
    }
}

/// Everything but the unreserved characters of RFC 3986 becomes `%XX`.
fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            for nibble in [byte >> 4, byte & 15] {
                into.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
}

impl CallHttp {
    fn request(&self, run: &Run, frame: FrameId) -> Result<(Value, String), Fault> {
        let dot = run.input(frame);
        let method = match run.fill(frame, &self.method, &dot)? {
            Value::String(method) => method.to_ascii_uppercase(),
            other => return Err(wrong("'method'", "a string", &other)),
        };
        let endpoint = match &self.endpoint {
            Endpoint::Uri(template) => template.expand(&dot)?,
            Endpoint::Expression(expression) => match run.fill(frame, expression, &dot)? {
                Value::String(uri) => uri,
                other => return Err(wrong("'endpoint'", "a string", &other)),
            },
        };
        let authentication = match &self.authentication {
            Some(policy) => {
                let mut values = Map::new();
                for (name, template) in &policy.fields {
                    values.insert((*name).to_owned(), text(&format!("'{name}'"), run.fill(frame, template, &dot)?)?);
                }
                json!({ policy.scheme: values })
            }
            None => Value::Null,
        };
        let map = |name, template: &Option<Template>| match template {
            Some(template) => strings(name, run.fill(frame, template, &dot)?),
            None => Ok(Value::Object(Map::new())),
        };
        let (headers, query) = (map("'headers'", &self.headers)?, map("'query'", &self.query)?);
        let body = self.body.as_ref().map_or(Ok(Value::Null), |body| run.fill(frame, body, &dot))?;
        let on = format!("{method} {}", shown(endpoint.split('?').next().unwrap_or_default()));
        let input = json!({
            "method": method, "endpoint": endpoint, "headers": headers, "query": query, "body": body,
            "output": self.output, "redirect": self.redirect, "authentication": authentication,
        });
        Ok((input, on))
    }
}

fn wrong(what: &str, wanted: &str, found: &Value) -> Fault {
    Fault::new(fault_type::EXPRESSION, 400, format!("{what} must be {wanted}, found {}", kind_of(found)))
}

fn text(what: &str, value: Value) -> Result<Value, Fault> {
    match value {
        Value::String(_) => Ok(value),
        Value::Bool(_) | Value::Number(_) => Ok(Value::String(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(wrong(what, "a string", &value)),
    }
}

/// An object whose values are strings; those that are null are left out.
fn strings(what: &str, value: Value) -> Result<Value, Fault> {
    let Value::Object(fields) = value else { return Err(wrong(what, "an object", &value)) };
    let mut map = Map::with_capacity(fields.len());
    for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        let value = text(&format!("{what} '{}'", shown(&key)), value)?;
        map.insert(key, value);
    }
    Ok(Value::Object(map))
}

impl Kind for CallHttp {
    fn label(&self) -> &'static str {
        "call http"
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
