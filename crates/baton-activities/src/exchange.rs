//! One HTTP request and what it gives, as the workflow language's `call: http` and `call: openapi` want it.
//!
//! - `content` is the body: JSON where it is JSON, otherwise text, `null` if it is empty. A body that begins
//!   with `{` or `[` is read as JSON whatever its type says; any other JSON only if the type does not deny it.
//!   JSON that is nested deeper than 100 levels is a fault: it could be recorded and not be read again.
//! - `raw` is the body in Base64. `response` is status, headers and content beside the request, of which
//!   neither the query nor the caller's own headers are shown: both may hold tokens, and a result is recorded.
//! - `redirect: true` follows redirects and takes 300 to 399 as success; otherwise they are errors.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_agent::{DATA_DEPTH_MAX, is_deeper_than};
use baton_execution::{ActivityTask, Fault, fault_type};
use reqwest::{
    Method, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    auth::{Authenticator, Credentials},
    outgoing::{Deadline, IDEMPOTENCY_KEY, Request, Response, header_text, shown, status_fault},
    redact::Secrets,
};

/// A value of the query that is this long may be a token, and is taken out of what error bodies echo.
const QUERY_SECRET_LENGTH_MIN: usize = 16;

/// What a task wants of a response.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Output {
    #[default]
    Content,
    Raw,
    Response,
}

/// A request that is ready but for the credentials.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Those of the caller; [`Call::headers`] makes them.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) output: Output,
    pub(crate) redirect: bool,
}

/// The fault of an input that cannot be used.
pub(crate) fn refused(detail: String) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}

/// The headers of a request: those of every request, and then the caller's. A value that is null is left out.
pub(crate) fn headers<'v>(
    task: &ActivityTask,
    own: impl Iterator<Item = (&'v String, &'v Value)>,
) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    headers.insert(IDEMPOTENCY_KEY, header_text(&task.idempotency_key));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.8"));
    for (name, value) in own.filter(|(_, value)| !value.is_null()) {
        // The value is not named: it may be a credential.
        let value = HeaderValue::from_str(&text_of(value)).map_err(|_| {
            refused(format!("the value of the header '{name}' holds characters that a header cannot hold"))
        })?;
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| refused(format!("'{}' is not a header name", name.chars().take(64).collect::<String>())))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Sends a request and makes of the response what the task wants.
pub(crate) async fn exchange(
    authenticator: &Authenticator,
    call: Call,
    credentials: &mut Credentials,
    secrets: &mut Secrets,
    task: &ActivityTask,
) -> Result<Value, Fault> {
    let Call { method, url, headers, body, output, redirect } = call;
    for (_, value) in url.query_pairs().filter(|(_, value)| value.len() >= QUERY_SECRET_LENGTH_MIN) {
        secrets.add(&value);
    }
    for value in [AUTHORIZATION, COOKIE].into_iter().filter_map(|name| headers.get(name)?.to_str().ok()) {
        secrets.add(value);
        value.split_whitespace().skip(1).for_each(|part| secrets.add(part));
    }
    let request = Request {
        method: method.clone(),
        url: url.clone(),
        headers,
        body,
        follow_redirects: redirect,
        deadline: Deadline::of(task),
    };
    let response = authenticator.send(request, credentials, secrets).await.map_err(|failure| failure.fault)?;
    let status = response.status.as_u16();
    if status < 300 || (redirect && status < 400) {
        return result(&method, &url, &response, output)
            .map(|output| credentials.hidden.redact_value(output))
            .map_err(|TooDeep| too_deep(&url));
    }
    let content = secrets.redact_value(content(&response).unwrap_or_else(|TooDeep| text(&response)));
    Err(status_fault(&method, &url, &response, secrets).with_data(json!({"statusCode": status, "content": content})))
}

/// The body is JSON that is nested deeper than [`DATA_DEPTH_MAX`] levels.
struct TooDeep;

fn too_deep(url: &Url) -> Fault {
    let detail = format!(
        "the JSON in the response of {} is nested deeper than {DATA_DEPTH_MAX} levels; 'output: raw' gives it as it is",
        shown(url)
    );
    Fault::new(fault_type::LIMIT, 400, detail).non_retryable()
}

fn result(method: &Method, url: &Url, response: &Response, output: Output) -> Result<Value, TooDeep> {
    Ok(match output {
        Output::Content => content(response)?,
        Output::Raw => Value::String(STANDARD.encode(&response.body)),
        Output::Response => json!({
            "request": {"method": method.as_str(), "uri": shown(url), "headers": {}},
            "statusCode": response.status.as_u16(),
            "headers": headers_of(response),
            "content": content(response)?,
        }),
    })
}

fn content(response: &Response) -> Result<Value, TooDeep> {
    let body = response.body.as_slice();
    let start = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let Some(start) = start else { return Ok(Value::Null) };
    let declared = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if matches!(start, b'{' | b'[') || declared.is_none_or(is_json) {
        match serde_json::from_slice(body) {
            Ok(value) if is_deeper_than(&value, DATA_DEPTH_MAX) => return Err(TooDeep),
            Ok(value) => return Ok(value),
            Err(error) if error.to_string().starts_with("recursion limit") => return Err(TooDeep),
            Err(_) => {}
        }
    }
    Ok(text(response))
}

fn text(response: &Response) -> Value {
    Value::String(String::from_utf8_lossy(&response.body).into_owned())
}

pub(crate) fn is_json(declared: &str) -> bool {
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// Header names in lower case; the values of a repeated header are joined by a comma.
fn headers_of(response: &Response) -> Map<String, Value> {
    let mut headers = Map::new();
    for name in response.headers.keys() {
        let values: Vec<_> =
            response.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        headers.insert(name.as_str().to_owned(), Value::String(values.join(", ")));
    }
    headers
}

/// A string as it is, anything else as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
