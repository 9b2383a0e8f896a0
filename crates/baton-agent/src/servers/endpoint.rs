//! How a server is reached: the spec of the kind `McpServer`.
//!
//! Wherever a value stands in an environment, in headers and in an authentication, `{"secret": NAME, "key": KEY}` stands for
//! the value of a Secret. It becomes a placeholder, which only the activity that asks the server replaces.

use baton_execution::{secret_placeholder, secret_placeholder_start};
use baton_types::check_name;
use serde_json::{Map, Value, json};

use super::Patterns;
use crate::fields::{Fields, cut, kind_of};

/// How long one exchange may take where the spec says nothing.
const TIMEOUT_MS_DEFAULT: u64 = 2 * 60 * 1000;
/// Arguments of a program, and values of its environment and of headers.
const VALUES_MAX: usize = 256;
/// Longest of them, in bytes.
const VALUE_BYTES_MAX: usize = 32 * 1024;
/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 4096;
/// Longest key of a Secret, in bytes.
const SECRET_KEY_BYTES_MAX: usize = 253;
/// Deepest authentication; what the schemes need, with room.
const DEPTH_MAX: usize = 8;
const LIFECYCLES: [(&str, &str); 3] = [("auto", "auto"), ("modern", "modern"), ("legacy", "legacy")];
/// Fields of an authentication, and headers, whose values are credentials.
const CREDENTIALS: [&str; 4] = ["password", "token", "secret", "assertion"];
const CREDENTIAL_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
const IN_THE_OPEN: &str = "must be {secret: NAME, key: KEY}: credentials are not kept in the open";
const SCHEMES: [&str; 4] = ["basic", "bearer", "oauth2", "oidc"];

/// A server that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// As the activities take it.
    pub(crate) transport: Value,
    pub(crate) protocol_version: Option<String>,
    pub(crate) lifecycle: &'static str,
    pub(crate) allowed_tools: std::sync::Arc<Patterns>,
    /// Of one exchange.
    pub(crate) timeout_ms: u64,
}

impl Endpoint {
    pub(crate) fn read(fields: Fields<'_>) -> Option<Self> {
        let (stdio, http) = (fields.object("stdio"), fields.object("http"));
        let transport = match (stdio, http) {
            (Some(stdio), None) => read_stdio(stdio),
            (None, Some(http)) => read_http(http),
            (stdio, _) => {
                let found = if stdio.is_some() { "both" } else { "none" };
                fields.violation("", format!("exactly one of 'stdio' and 'http' must be given, found {found}"));
                None
            }
        };
        let protocol_version = fields.text("protocolVersion").map(str::to_owned);
        if let Some(version) = protocol_version.as_deref().filter(|version| !is_date(version)) {
            let message = format!("'{}' is not a version of the protocol, such as '2026-07-28'", cut(version, 64));
            fields.violation("protocolVersion", message);
        }
        let lifecycle = fields.word("lifecycle", &LIFECYCLES).unwrap_or("auto");
        let allowed_tools = Patterns::read(&fields, "allowedTools").into();
        let timeout_ms = fields.duration_ms("timeout").unwrap_or(TIMEOUT_MS_DEFAULT);
        fields.finish();
        Some(Self { transport: transport?, protocol_version, lifecycle, allowed_tools, timeout_ms })
    }

    /// For people: where it is, without anything that could be a credential.
    pub(crate) fn place(&self) -> String {
        let http = self.transport.pointer("/http/endpoint").and_then(Value::as_str);
        let stdio = self.transport.pointer("/stdio/command").and_then(Value::as_str);
        cut(http.or(stdio).unwrap_or_default().split(['?', '#']).next().unwrap_or_default(), 200)
    }
}

fn read_stdio(fields: Fields<'_>) -> Option<Value> {
    let command = fields.required_text("command").map(str::to_owned);
    if let Some(command) = command.as_deref().filter(|command| command.len() > VALUE_BYTES_MAX || is_armed(command)) {
        fields.violation("command", format!("has {} bytes, allowed are 1 to {VALUE_BYTES_MAX}", command.len()));
    }
    let mut arguments = Vec::new();
    for (path, item) in fields.list("arguments", VALUES_MAX) {
        match item {
            Value::String(text) if text.len() <= VALUE_BYTES_MAX && !is_armed(text) => arguments.push(text.clone()),
            Value::String(text) => {
                fields.report.add(path, format!("has {} bytes, allowed are 0 to {VALUE_BYTES_MAX}", text.len()));
            }
            other => fields.report.add(path, format!("must be a string, found {}", kind_of(other))),
        }
    }
    let environment =
        read_values(&fields, "environment", |name| !name.is_empty() && !name.contains(['=', '\0']) && !is_armed(name));
    fields.finish();
    Some(json!({"stdio": {"command": command?, "arguments": arguments, "environment": environment}}))
}

fn read_http(fields: Fields<'_>) -> Option<Value> {
    let url = fields.required_text("url").map(str::to_owned);
    if let Some(why) = url.as_deref().and_then(wrong_with_url) {
        fields.violation("url", why);
    }
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let headers = read_values(&fields, "headers", |name| !name.is_empty() && name.chars().all(token));
    let authentication = match fields.get("authentication") {
        None => Value::Null,
        Some(Value::Object(schemes)) => {
            if schemes.len() != 1 || !schemes.keys().all(|scheme| SCHEMES.contains(&scheme.as_str())) {
                let found = cut(&schemes.keys().cloned().collect::<Vec<_>>().join(", "), 64);
                let message = format!("must have exactly one of {}; found {found}", SCHEMES.join(", "));
                fields.violation("authentication", message);
            }
            filled(&fields, "authentication", &Value::Object(schemes.clone()), 0).unwrap_or_default()
        }
        Some(other) => {
            fields.violation("authentication", format!("must be an object, found {}", kind_of(other)));
            Value::Null
        }
    };
    fields.finish();
    Some(json!({"http": {"endpoint": url?, "headers": headers, "authentication": authentication}}))
}

fn wrong_with_url(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if url.len() > URL_BYTES_MAX {
        Some(format!("has {} bytes, allowed are 1 to {URL_BYTES_MAX}", url.len()))
    } else if authority.is_empty() {
        Some("must begin with 'http://' or 'https://' and name a host".to_owned())
    } else if authority.contains('@') {
        Some("must not hold a user name or password; 'authentication' is for that".to_owned())
    } else if url.chars().any(|c| c.is_whitespace() || c.is_control()) || is_armed(url) {
        Some("must not contain spaces or control characters".to_owned())
    } else {
        None
    }
}

/// Texts by name, with placeholders for values of secrets.
fn read_values(fields: &Fields<'_>, field: &'static str, is_name: impl Fn(&str) -> bool) -> Map<String, Value> {
    let mut values = Map::new();
    match fields.get(field) {
        None => {}
        Some(Value::Object(given)) if given.len() > VALUES_MAX => {
            fields.violation(field, format!("has {} entries, allowed are 0 to {VALUES_MAX}", given.len()));
        }
        Some(Value::Object(given)) => {
            for (name, value) in given {
                let path = format!("{field}.{}", cut(name, 64));
                if !is_name(name) {
                    fields.violation(&path, "is not a name that is allowed here");
                }
                let is_header = field == "headers";
                if is_header && value.is_string() && CREDENTIAL_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                    fields.violation(&path, IN_THE_OPEN);
                }
                match filled(fields, &path, value, 0) {
                    Some(Value::String(text)) if !text.contains(['\0', '\n', '\r']) => {
                        values.insert(name.clone(), Value::String(text));
                    }
                    Some(_) => {
                        fields.violation(&path, "must be a string of one line, or {secret: NAME, key: KEY}");
                    }
                    None => {}
                }
            }
        }
        Some(other) => fields.violation(field, format!("must be an object, found {}", kind_of(other))),
    }
    values
}

/// The value with placeholders in place of references to secrets; `None` if something was reported.
fn filled(fields: &Fields<'_>, path: &str, value: &Value, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        fields.violation(path, format!("is nested deeper than {DEPTH_MAX} levels"));
        return None;
    }
    match value {
        Value::Object(object) => match reference(object) {
            Some((secret, key)) => {
                let wrong = check_name(secret).err().map(|why| ("secret", why)).or_else(|| {
                    (key.is_empty() || key.len() > SECRET_KEY_BYTES_MAX || key.contains('~') || is_armed(key))
                        .then(|| ("key", "is not the name of a key".to_owned()))
                });
                match wrong {
                    None => Some(Value::String(secret_placeholder(secret, key))),
                    Some((name, why)) => {
                        fields.violation(&format!("{path}.{name}"), why);
                        None
                    }
                }
            }
            None => object
                .iter()
                .map(|(name, value)| {
                    let inner = format!("{path}.{}", cut(name, 64));
                    if CREDENTIALS.contains(&name.as_str()) && value.is_string() {
                        fields.violation(&inner, IN_THE_OPEN);
                        return None;
                    }
                    Some((name.clone(), filled(fields, &inner, value, depth + 1)?))
                })
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object),
        },
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let items = items.map(|(index, item)| filled(fields, &format!("{path}[{index}]"), item, depth + 1));
            items.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Value::String(text) if text.len() > VALUE_BYTES_MAX || is_armed(text) => {
            fields.violation(path, format!("has {} bytes, allowed are 0 to {VALUE_BYTES_MAX}", text.len()));
            None
        }
        other => Some(other.clone()),
    }
}

/// Secret and key, if the object is a reference to a value.
fn reference(object: &Map<String, Value>) -> Option<(&str, &str)> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    (object.len() == 2).then_some(())?;
    Some((text("secret")?, text("key")?))
}

/// Names of the secrets that are referred to, each once.
pub(super) fn secrets_of(spec: &Value) -> Vec<String> {
    fn find(value: &Value, depth: usize, found: &mut Vec<String>) {
        if depth > DEPTH_MAX + 4 {
            return;
        }
        match value {
            Value::Object(object) => match reference(object) {
                Some((secret, _)) if !found.iter().any(|known| known == secret) => found.push(secret.to_owned()),
                Some(_) => {}
                None => {
                    let used = object.get("use").and_then(Value::as_str).filter(|_| object.len() == 1);
                    if let Some(name) = used.filter(|name| !found.iter().any(|known| known == name)) {
                        found.push(name.to_owned());
                    }
                    object.values().for_each(|value| find(value, depth + 1, found));
                }
            },
            Value::Array(items) => items.iter().for_each(|item| find(item, depth + 1, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    find(spec, 0, &mut found);
    found
}

/// Whether a text could be taken for a placeholder.
fn is_armed(text: &str) -> bool {
    let start = secret_placeholder_start();
    start.chars().next().is_some_and(|first| text.contains(first))
}

/// Whether a text has the form of the protocol's versions, `YYYY-MM-DD`.
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}
