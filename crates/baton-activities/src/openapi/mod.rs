//! The activity `openapi`: an operation that an OpenAPI document describes, as the language's `call: openapi` has it.
//!
//! Input: `document` (`{"uri", "authentication", "digest"}`, or the `content` of a file), `operationId`, `parameters` (by name; the body is `body`),
//! `authentication` (as [`crate::auth`] has it), `output`, `redirect`. What comes back is described at
//! [`crate::exchange`], how a body is sent at [`crate::body`].
//!
//! # Invariants
//! - A parameter that the operation does not know is a fault, not ignored: a misspelt filter would give everything.
//!
//! # Failure
//! `configuration` for a document that cannot be used and for an operation that is not in it; `validation` for
//! parameters that are missing or not known. Both before anything is sent.

mod document;
mod parameters;

use std::sync::Arc;

use baton_execution::{ActivityTask, Fault, fault_type};
use reqwest::{
    Url,
    header::{CONTENT_TYPE, COOKIE, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    Activity,
    auth::Authenticator,
    body,
    documents::{Kept, Resource, Text},
    exchange::{Call, Output, exchange, headers, refused},
    outgoing::shown,
    redact::Secrets,
};
use document::{Document, Operation};
use parameters::In;

pub(crate) struct OpenApi {
    authenticator: Arc<Authenticator>,
    kept: Kept<Arc<Document>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    document: Resource,
    operation_id: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default)]
    output: Option<Output>,
    #[serde(default)]
    redirect: Option<bool>,
}

impl OpenApi {
    pub(crate) fn new(authenticator: &Arc<Authenticator>) -> Self {
        Self { authenticator: Arc::clone(authenticator), kept: Kept::default() }
    }

    async fn document(&self, resource: &Resource, task: &ActivityTask) -> Result<Arc<Document>, Fault> {
        if let Some(document) = self.kept.get(resource) {
            return Ok(document);
        }
        let Text { bytes, url } = resource.text(&self.authenticator, "the OpenAPI document", task).await?;
        let (length, place) = (bytes.len(), shown(&url));
        // Megabytes of YAML take their time.
        let read = tokio::task::spawn_blocking(move || Document::read(&bytes, url));
        let document = read.await.map_err(|_| refused(format!("the OpenAPI document {place} cannot be read")))?;
        let document = Arc::new(document?);
        self.kept.put(resource, length, &document);
        Ok(document)
    }
}

#[async_trait::async_trait]
impl Activity for OpenApi {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let mut secrets = Secrets::default();
        let authentication = task.input.get("authentication").unwrap_or(&Value::Null);
        let mut credentials = self.authenticator.credentials(authentication, task, &mut secrets).await?;
        let input = Input::deserialize(credentials.fill(&task.input).as_ref())
            .map_err(|error| refused(format!("the input of the activity 'openapi' cannot be used: {error}")))?;
        let document = self.document(&input.document, task).await?;
        let operation = document.operation(&input.operation_id)?;
        let call = build(&operation, &input, task)?;
        exchange(&self.authenticator, call, &mut credentials, &mut secrets, task).await
    }
}

fn invalid(input: &Input, why: &str) -> Fault {
    let detail = format!("the operation '{}' {why}", input.operation_id);
    Fault::new(fault_type::VALIDATION, 400, detail).non_retryable()
}

/// The request of an operation with the parameters that are given.
fn build(operation: &Operation, input: &Input, task: &ActivityTask) -> Result<Call, Fault> {
    check_names(operation, input)?;
    let mut path = operation.path.clone();
    let (mut query, mut cookies) = (Vec::new(), Vec::new());
    let (mut own, mut form) = (Map::new(), Map::new());
    let mut missing = Vec::new();
    for parameter in &operation.parameters {
        let value = input.parameters.get(&parameter.name).filter(|value| !value.is_null());
        let Some(value) = value else {
            if parameter.needed {
                missing.push(format!("'{}'", parameter.name));
            }
            continue;
        };
        match parameter.place {
            In::Path => {
                let text = parameter.as_text(value);
                // Empty or dots: the request would go to another path.
                if matches!(text.as_str(), "" | "." | "..") {
                    let why = format!("has the path '{path}': '{}' must not be '{text}' in it", parameter.name);
                    return Err(invalid(input, &why));
                }
                path = path.replace(&format!("{{{}}}", parameter.name), &text);
            }
            In::Query => query.extend(parameter.as_pairs(value)),
            In::Cookie => cookies.extend(parameter.as_pairs(value)),
            In::Header => _ = own.insert(parameter.name.clone(), Value::String(parameter.as_text(value))),
            In::Form => _ = form.insert(parameter.name.clone(), parameter.as_field(value)),
        }
    }
    let mut payload = Value::Null;
    if let Some(body) = &operation.body {
        let given =
            input.parameters.get("body").or_else(|| input.parameters.get(&body.name)).filter(|value| !value.is_null());
        match given {
            Some(given) => payload = given.clone(),
            None if !form.is_empty() => payload = Value::Object(form),
            None if body.needed => missing.push("'body'".to_owned()),
            None => {}
        }
    }
    if !missing.is_empty() {
        return Err(invalid(input, &format!("needs {}, which 'parameters' does not have", missing.join(", "))));
    }
    if path.contains(['{', '}']) {
        return Err(invalid(input, &format!("has the path '{path}', in which a name is no declared parameter")));
    }
    let mut headers = headers(task, own.iter())?;
    if !cookies.is_empty() {
        let value = HeaderValue::from_str(&joined(&cookies, "; "));
        headers.insert(COOKIE, value.map_err(|_| invalid(input, "has a cookie that a header cannot hold"))?);
    }
    if let Some(body) = operation.body.as_ref().filter(|_| !payload.is_null()) {
        let media_type = HeaderValue::from_str(&body.media_type);
        headers.entry(CONTENT_TYPE).or_insert(media_type.map_err(|_| invalid(input, "has a media type that is none"))?);
    }
    let body = body::encode(&payload, &mut headers, &task.idempotency_key);
    Ok(Call {
        method: operation.method.clone(),
        url: url(operation, &path, &query),
        headers,
        body,
        output: input.output.unwrap_or_default(),
        redirect: input.redirect.unwrap_or(false),
    })
}

/// Every name that is given must be one that the operation knows.
fn check_names(operation: &Operation, input: &Input) -> Result<(), Fault> {
    let body = operation.body.iter().flat_map(|body| ["body", body.name.as_str()]).filter(|name| !name.is_empty());
    let mut known: Vec<&str> =
        operation.parameters.iter().map(|parameter| parameter.name.as_str()).chain(body).collect();
    known.dedup();
    let Some(unknown) = input.parameters.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
    let known: Vec<String> = known.iter().map(|name| format!("'{name}'")).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let unknown: String = unknown.chars().take(80).collect();
    Err(invalid(input, &format!("has no parameter '{unknown}'; its parameters are {known}")))
}

/// The path is put behind that of the server.
fn url(operation: &Operation, path: &str, query: &[(String, String)]) -> Url {
    let mut url = operation.server.clone();
    url.set_path(&format!("{}/{}", url.path().trim_end_matches('/'), path.trim_start_matches('/')));
    if !query.is_empty() {
        url.set_query(Some(&joined(query, "&")));
    }
    url
}

fn joined(pairs: &[(String, String)], separator: &str) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(separator)
}
