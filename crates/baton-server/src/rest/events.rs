//! `POST /events`, and `…/namespaces/{namespace}/events`: events in the three forms of the CloudEvents HTTP binding.
//!
//! - structured: `Content-Type: application/cloudevents+json`, the body is the event;
//! - batch: `Content-Type: application/cloudevents-batch+json`, the body is a list of events;
//! - binary: any other type, with the attributes in headers `ce-…`; the body is the event's data.
//!
//! # Deliberately absent
//! Other event formats (Avro, Protobuf, XML), and the validation handshake of webhooks (`OPTIONS`).

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_activities::limited::Parsed;
use baton_store::Lane;
use baton_types::{ApiError, Violation};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{
    body::{MediaType, essence},
    call::Call,
    refusal::Refusal,
    value::parse,
};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
/// How the headers of attributes begin.
const PREFIX: &str = "ce-";

/// Keeps events; answers once they are durable.
pub(super) async fn publish(call: Call) -> Result<Response, Refusal> {
    let media_type = essence(&call.headers);
    let (events, field) = match media_type.as_str() {
        BATCH => match read(&call.body)? {
            Value::Array(events) => (events, "events"),
            _ => {
                return Err(Refusal::bad_request("BODY_MALFORMED", format!("a body of the type '{BATCH}' is a list")));
            }
        },
        STRUCTURED => (vec![read(&call.body)?], ""),
        other if other.starts_with("application/cloudevents") => {
            return Err(Refusal::unsupported_media_type(other, &[STRUCTURED, BATCH]));
        }
        _ => (vec![binary(&call.headers, &media_type, &call.body)?], ""),
    };
    let published = call.app().publish(Lane::External, &call.namespace, events, field).await?;
    call.answer(StatusCode::ACCEPTED, &published, &[])
}

fn read(body: &[u8]) -> Result<Value, Refusal> {
    let Parsed { value, duplicates } = parse(body, MediaType::Json)?;
    if duplicates.is_empty() {
        return Ok(value);
    }
    let twice = duplicates.into_iter().map(|path| Violation::new(path, "set more than once"));
    Err(ApiError::violations(twice.collect()).into())
}

/// An event whose attributes are headers.
fn binary(headers: &HeaderMap, media_type: &str, body: &[u8]) -> Result<Value, Refusal> {
    let mut event = Map::new();
    let mut violations = Vec::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        let text = value.to_str().ok().and_then(|text| percent_decode_str(text).decode_utf8().ok());
        match text {
            _ if name == "data" || name == "data_base64" => {
                violations.push(Violation::new(format!("{PREFIX}{name}"), "the data of an event is the body"));
            }
            Some(text) => drop(event.insert(name.to_owned(), Value::String(text.into_owned()))),
            None => violations.push(Violation::new(format!("{PREFIX}{name}"), "is not text in UTF-8, percent-encoded")),
        }
    }
    if !violations.is_empty() {
        return Err(ApiError::violations(violations).into());
    }
    if !event.contains_key("specversion") {
        let message = format!(
            "this is no event: it has neither the type '{STRUCTURED}' or '{BATCH}' nor a header '{PREFIX}specversion'"
        );
        return Err(Refusal::bad_request("BODY_MALFORMED", message)
            .hint(format!("send the event as JSON with -H 'content-type: {STRUCTURED}'")));
    }
    if let Some(declared) = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()) {
        event.insert("datacontenttype".to_owned(), declared.into());
    }
    if !body.is_empty() {
        let (name, data) = data(media_type, body)?;
        event.insert(name.to_owned(), data);
    }
    Ok(Value::Object(event))
}

/// The data of an event as its JSON format has it: JSON as it is, text as a string, anything else in base64.
fn data(media_type: &str, body: &[u8]) -> Result<(&'static str, Value), Refusal> {
    if media_type.is_empty() || media_type.ends_with("/json") || media_type.ends_with("+json") {
        return Ok(("data", parse(body, MediaType::Json)?.value));
    }
    Ok(match std::str::from_utf8(body) {
        Ok(text) => ("data", text.into()),
        Err(_) => ("data_base64", STANDARD.encode(body).into()),
    })
}
