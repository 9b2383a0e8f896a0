//! A tool that is one HTTP request.
//!
//! The URL is a template: `{name}` is replaced by the argument of that name, encoded so that it stays within
//! its place. Scheme and host are always literal, and an argument cannot make a path go up, so a model cannot
//! choose whom to call. `POST`, `PUT` and `PATCH` send the arguments as a JSON body; the other methods put
//! the arguments that the template does not name into the query.

use std::{collections::BTreeMap, fmt::Write as _};

use baton_execution::Effect;
use serde_json::{Map, Value, json};

use super::{ACTIVITY_TIMEOUT_MS_DEFAULT, Action, Behaviour, Common, Kind};
use crate::fields::{Fields, cut};

pub(super) const KIND: Kind = Kind {
    field: "http",
    read: |fields, common| {
        let http = Http::read(fields, common)?;
        Some(Box::new(http))
    },
    parameters: |_| json!({"type": "object", "properties": {}}),
};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const URL_BYTES_MAX: usize = 4096;

#[derive(Debug)]
struct Http {
    method: String,
    url: Vec<Part>,
    headers: BTreeMap<String, String>,
    sends_body: bool,
    timeout_ms: u64,
    effect: Effect,
}

/// A piece of a URL template.
#[derive(Debug, PartialEq)]
enum Part {
    Literal(String),
    Argument(String),
}

impl Http {
    fn read(fields: &Fields<'_>, common: &Common) -> Option<Self> {
        let method = fields.text("method").unwrap_or("GET").to_ascii_uppercase();
        if !METHODS.contains(&method.as_str()) {
            fields.violation(
                "method",
                format!("'{}' is not a method; allowed are {}", cut(&method, 32), METHODS.join(", ")),
            );
        }
        let url = fields
            .required_text("url")
            .and_then(|text| read_template(text, common).map_err(|why| fields.violation("url", why)).ok());
        let headers = read_headers(fields);
        let has_body = matches!(method.as_str(), "POST" | "PUT" | "PATCH");
        let sends_body = match fields.text("body") {
            None => has_body,
            Some("arguments") if has_body => true,
            Some("none") => false,
            Some(other) => {
                fields.violation(
                    "body",
                    format!(
                        "'{}' is not allowed; allowed are 'arguments' (for POST, PUT and PATCH) and 'none'",
                        cut(other, 32)
                    ),
                );
                false
            }
        };
        let reads = matches!(method.as_str(), "GET" | "HEAD");
        let effect = if common.repeatable || reads { Effect::Repeatable } else { Effect::Once };
        Some(Self {
            method,
            url: url?,
            headers,
            sends_body,
            timeout_ms: common.timeout_ms.unwrap_or(ACTIVITY_TIMEOUT_MS_DEFAULT),
            effect,
        })
    }
}

impl Behaviour for Http {
    fn action(&self, arguments: &Value) -> Result<Action, String> {
        let empty = Map::new();
        let arguments_map = arguments.as_object().unwrap_or(&empty);
        let (mut endpoint, mut on, mut named) = (String::new(), format!("{} ", self.method), Vec::new());
        for part in &self.url {
            match part {
                Part::Literal(text) => {
                    endpoint.push_str(text);
                    on.push_str(text);
                }
                Part::Argument(name) => {
                    let value = arguments_map
                        .get(name)
                        .filter(|value| !value.is_null())
                        .ok_or_else(|| format!("the argument '{name}' must be given: the URL needs it"))?;
                    let text = text_of(value);
                    if text.is_empty() {
                        return Err(format!("the argument '{name}' must not be empty: the URL needs it"));
                    }
                    encode(&text, &mut endpoint);
                    _ = write!(on, "{{{name}}}");
                    named.push(name.as_str());
                }
            }
        }
        if let Some(segment) = path_of(&endpoint).split('/').find(|segment| matches!(*segment, "." | "..")) {
            return Err(format!("the arguments make '{segment}' a segment of the URL's path, which is not allowed"));
        }
        let mut query = Map::new();
        if !self.sends_body {
            query.extend(
                arguments_map
                    .iter()
                    .filter(|(name, value)| !named.contains(&name.as_str()) && !value.is_null())
                    .map(|(name, value)| (name.clone(), Value::String(text_of(value)))),
            );
        }
        let body = if self.sends_body { arguments.clone() } else { Value::Null };
        let input = json!({
            "method": self.method, "endpoint": endpoint, "headers": self.headers, "query": query,
            "body": body, "output": "content", "redirect": false, "authentication": null,
        });
        let on = on.split(['?', '#']).next().unwrap_or_default().to_owned();
        Ok(Action::Activity {
            activity: "http",
            input,
            timeout_ms: self.timeout_ms,
            effect: self.effect,
            on,
            recorded: None,
        })
    }
}

fn read_headers(fields: &Fields<'_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    match fields.get("headers") {
        None => {}
        Some(Value::Object(map)) => {
            for (name, value) in map {
                let path = format!("headers.{name}");
                let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
                if name.is_empty() || !name.chars().all(token) {
                    fields.violation(&path, "is not a header name");
                }
                match value.as_str().filter(|text| !text.chars().any(char::is_control)) {
                    Some(text) => _ = headers.insert(name.clone(), text.to_owned()),
                    None => fields.violation(&path, "must be a string without control characters"),
                }
            }
        }
        Some(_) => fields.violation("headers", "must be an object of strings"),
    }
    headers
}

fn read_template(text: &str, common: &Common) -> Result<Vec<Part>, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("has {} bytes, allowed are 1 to {URL_BYTES_MAX}", text.len()));
    }
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or("must begin with 'http://' or 'https://'")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains(['{', '}']) {
        return Err("must name the host literally: a model must not choose whom to call".to_owned());
    }
    if authority.contains('@') {
        return Err("must not hold a user name or password".to_owned());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("must not contain spaces, control characters or '\\'".to_owned());
    }
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(start) = rest.find(['{', '}']) {
        let after = &rest[start..];
        let end =
            after.find('}').filter(|_| after.starts_with('{')).ok_or("has a '{' or '}' without its other half")?;
        let name = &after[1..end];
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Err(format!(
                "'{{{}}}' is not the name of an argument; allowed are letters, digits, '_' and '-'",
                cut(name, 64)
            ));
        }
        if common.parameters.pointer("/properties").and_then(|properties| properties.get(name)).is_none() {
            return Err(format!(
                "'{{{name}}}' is not an argument: 'parameters.properties' of the tool does not have it"
            ));
        }
        parts.push(Part::Literal(rest[..start].to_owned()));
        parts.push(Part::Argument(name.to_owned()));
        rest = &after[end + 1..];
    }
    parts.push(Part::Literal(rest.to_owned()));
    parts.retain(|part| *part != Part::Literal(String::new()));
    Ok(parts)
}

/// A string as it is, anything else as JSON.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The path of a URL that begins with `http://` or `https://`.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    rest.find('/').map_or("", |start| &rest[start..])
}
