//! One request, taken apart: path, query, headers, body. Every handler gets a [`Call`].

use std::{future::Future, pin::Pin};

use axum::{
    extract::{FromRequest, RawPathParams, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use baton_activities::limited::Parsed;
use baton_proto::{JsonError, Resource, from_json_value};
use baton_types::{ApiError, ErrorKind, Violation, check_name, check_namespace};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::{
    Rest, body, json,
    query::Query,
    refusal::{Refusal, printable},
    value::parse,
};
use crate::app::App;

/// A request.
pub(super) struct Call {
    rest: Rest,
    /// From the path; empty if it has none.
    pub(super) namespace: String,
    /// From the path; empty if it has none.
    pub(super) name: String,
    /// The parameters.
    pub(super) query: Query,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The body, whole; empty if there is none.
    pub(super) body: Bytes,
}

/// A message that was read from a body, and what the caller should hear about it.
pub(super) struct Read<T> {
    pub(super) message: T,
    pub(super) warnings: Vec<String>,
}

/// How fields are treated that do not exist, or that are set twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldValidation {
    Strict,
    Warn,
    Ignore,
}

impl FromRequest<Rest> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request, rest: &Rest) -> Result<Self, Refusal> {
        let (mut parts, stream) = request.into_parts();
        let place = place(&mut parts).await;
        // The body is read even if the path is wrong, or the connection could not carry another request.
        let body = body::read(&parts.headers, stream).await?;
        let (namespace, name) = place?;
        refuse_unacceptable(&parts)?;
        let query = Query::of(&parts.uri)?;
        Ok(Self { rest: rest.clone(), namespace, name, query, headers: parts.headers, body })
    }
}

/// Namespace and name in the path, checked.
async fn place(parts: &mut axum::http::request::Parts) -> Result<(String, String), Refusal> {
    use axum::extract::FromRequestParts as _;
    let params = RawPathParams::from_request_parts(parts, &()).await.map_err(|error| {
        Refusal::bad_request("PATH_MALFORMED", format!("the path cannot be read: {}", error.body_text()))
    })?;
    let (mut namespace, mut name) = (String::new(), String::new());
    let mut violations = Vec::new();
    for (key, value) in &params {
        let (slot, field, checked) = match key {
            "namespace" => (&mut namespace, "metadata.namespace", check_namespace(value)),
            _ => (&mut name, "metadata.name", check_name(value)),
        };
        value.clone_into(slot);
        violations.extend(checked.err().map(|message| Violation::new(field, message)));
    }
    if violations.is_empty() { Ok((namespace, name)) } else { Err(ApiError::violations(violations).into()) }
}

/// Answers are JSON, streams server-sent events; a caller that takes only something else is told. The first form that is known is what counts, so
/// that clients asking for a table or protobuf first and JSON after get JSON.
fn refuse_unacceptable(parts: &axum::http::request::Parts) -> Result<(), Refusal> {
    let is_stream = parts.uri.path().ends_with("/stream");
    let mut accepts = parts.headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok()).peekable();
    if accepts.peek().is_none() {
        return Ok(());
    }
    let ranges: Vec<&str> = accepts.flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty()).collect();
    let known = |range: &&str| {
        let mut parts = range.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let is_events = is_stream && ["text/event-stream", "text/*"].iter().any(|it| essence.eq_ignore_ascii_case(it));
        (is_events || ["application/json", "application/*", "*/*"].iter().any(|it| essence.eq_ignore_ascii_case(it)))
            && !parts.any(|it| it.starts_with("as="))
    };
    if ranges.is_empty() || ranges.iter().any(known) {
        Ok(())
    } else {
        Err(Refusal::not_acceptable(&ranges.join(", ")))
    }
}

impl Call {
    /// The application layer.
    pub(super) fn app(&self) -> &App {
        &self.rest.app
    }

    /// Ends when the server stops.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.rest.stopping.clone()
    }

    /// The body as an object; an empty one if there is no body and `required` is not set.
    pub(super) fn object(&self, required: bool) -> Result<(Map<String, Value>, Vec<String>), Refusal> {
        let media_type = body::object_type(&self.headers)?;
        if self.body.is_empty() && !required {
            return Ok((Map::new(), Vec::new()));
        }
        let Parsed { value, duplicates } = parse(&self.body, media_type)?;
        match value {
            Value::Object(object) => Ok((object, duplicates)),
            other => Err(Refusal::bad_request(
                "BODY_MALFORMED",
                format!("the body is {}; allowed is one object", kind_of(&other)),
            )),
        }
    }

    /// Reads a message from an object, by the rules of `fieldValidation`: `Strict` (as it is here without the
    /// parameter), `Warn` or `Ignore`.
    pub(super) fn message<T: DeserializeOwned>(
        &self,
        object: Map<String, Value>,
        duplicates: Vec<String>,
    ) -> Result<Read<T>, Refusal> {
        let mode = self.field_validation()?;
        let twice = duplicates.into_iter().map(|path| Violation::new(path, "set more than once"));
        let spare = (mode != FieldValidation::Strict).then(|| Value::Object(object.clone()));
        let (message, mut odd) = match from_json_value::<T>(Value::Object(object)) {
            Ok(message) => (Ok(message), Vec::new()),
            // What reads well without strictness had unknown fields and nothing else.
            Err(JsonError::Fields(violations)) => match spare.map(serde_json::from_value) {
                Some(Ok(message)) => (Ok(message), violations),
                None | Some(Err(_)) => (Err(violations), Vec::new()),
            },
            Err(error @ JsonError::Syntax(_)) => return Err(Refusal::bad_request("BODY_MALFORMED", error.to_string())),
        };
        odd.extend(twice);
        match (message, mode) {
            (Ok(message), FieldValidation::Strict) if odd.is_empty() => Ok(Read { message, warnings: Vec::new() }),
            (Ok(message), FieldValidation::Warn) => {
                Ok(Read { message, warnings: odd.iter().map(ToString::to_string).collect() })
            }
            (Ok(message), FieldValidation::Ignore) => Ok(Read { message, warnings: Vec::new() }),
            (Ok(_), FieldValidation::Strict) => Err(ApiError::violations(odd).into()),
            (Err(mut violations), _) => {
                violations.append(&mut odd);
                Err(ApiError::violations(violations).into())
            }
        }
    }

    fn field_validation(&self) -> Result<FieldValidation, Refusal> {
        match self.query.text("fieldValidation") {
            "" | "Strict" => Ok(FieldValidation::Strict),
            "Warn" => Ok(FieldValidation::Warn),
            "Ignore" => Ok(FieldValidation::Ignore),
            other => {
                let message =
                    format!("'{}' is not a value of it; allowed are 'Strict', 'Warn' and 'Ignore'", printable(other));
                Err(super::query::unsupported("fieldValidation", &message))
            }
        }
    }

    /// Puts namespace and name of the path into `object`.
    ///
    /// # Errors
    /// One violation for each that is there already and says something else; `prefix` is such as `metadata.`.
    pub(super) fn settle(&self, object: &mut Map<String, Value>, prefix: &str) -> Result<(), Refusal> {
        let mut violations = Vec::new();
        for (key, from_path) in [("namespace", &self.namespace), ("name", &self.name)] {
            if from_path.is_empty() {
                continue;
            }
            match object.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if text.is_empty() || text == from_path => {}
                Some(found) => {
                    let found = found.as_str().map_or_else(|| found.to_string(), ToOwned::to_owned);
                    let message = format!("'{}' in the body differs from '{from_path}' in the path", printable(&found));
                    violations.push(Violation::new(format!("{prefix}{key}"), message));
                    continue;
                }
            }
            object.insert(key.to_owned(), from_path.as_str().into());
        }
        if violations.is_empty() { Ok(()) } else { Err(ApiError::violations(violations).into()) }
    }

    /// An answer with a JSON body and a `Warning` header for each warning, those about the query included.
    pub(super) fn answer<T: serde::Serialize>(
        &self,
        status: StatusCode,
        body: &T,
        warnings: &[String],
    ) -> Result<Response, Refusal> {
        let mut response = json(status, body)?;
        for warning in self.query.warnings().chain(warnings.iter().cloned()).take(WARNINGS_MAX) {
            if let Ok(value) = HeaderValue::from_bytes(warning_header(&warning).as_bytes()) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
        Ok(response)
    }
}

/// Most warnings in one answer, and most bytes of one: headers have limits in every client.
const WARNINGS_MAX: usize = 20;
const WARNING_BYTES_MAX: usize = 240;

/// `299 - "text"`, quoted by the rules of HTTP, in one line.
fn warning_header(text: &str) -> String {
    let mut quoted = String::from("299 - \"");
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if quoted.len() > WARNING_BYTES_MAX {
            quoted.push('…');
            break;
        }
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A future of an answer.
type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler for axum out of one of ours: its refusals say which resource they are about.
pub(super) fn handle<R: Resource, F>(handler: fn(Call) -> F) -> impl Fn(Call) -> Answer + Clone + Send + Sync + 'static
where
    F: Future<Output = Result<Response, Refusal>> + Send + 'static,
{
    move |call: Call| {
        Box::pin(async move {
            let name = call.name.clone();
            match handler(call).await {
                Ok(response) => response,
                Err(refusal) => refusal.about(R::KIND, R::PLURAL, &name).into_response(),
            }
        })
    }
}

/// The answer for a path that exists under another method.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    Refusal::method_not_allowed(method.as_str(), uri.path())
}

/// The answer for a path that does not exist.
pub(super) async fn no_such_path(uri: Uri) -> Refusal {
    let message = format!("no such path: '{}'", printable(uri.path()));
    Refusal::from(ApiError::new(ErrorKind::NotFound, "PATH_NOT_FOUND", message))
        .hint("GET / lists the paths; resources are at /apis/baton.dev/v1/namespaces/{namespace}/{plural}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_json_among_other_forms() {
        for (accept, good) in [
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", true),
            ("application/vnd.kubernetes.protobuf,application/json", true),
            ("*/*", true),
            ("", true),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", false),
            ("text/html", false),
        ] {
            let request = |path: &str| {
                axum::http::Request::get(path).header(header::ACCEPT, accept).body(()).unwrap().into_parts().0
            };
            assert_eq!(refuse_unacceptable(&request("/x")).is_ok(), good, "{accept}");
        }
        for (path, good) in [("/x/stream", true), ("/x", false)] {
            let request = axum::http::Request::get(path).header(header::ACCEPT, "text/event-stream").body(()).unwrap();
            assert_eq!(refuse_unacceptable(&request.into_parts().0).is_ok(), good, "{path}");
        }
    }

    #[test]
    fn warnings_fit_in_a_header() {
        assert_eq!(warning_header("a \"b\"\nc"), r#"299 - "a \"b\" c""#);
        assert!(warning_header(&"x".repeat(10_000)).len() < 300);
    }
}
