//! The JSON-RPC binding: one request, one answer, or a stream of answers.

use axum::{
    extract::Request,
    http::StatusCode,
    response::{Response, sse::Event},
};
use baton_types::ErrorKind;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::{
    A2aServer, Place, check_version,
    error::{A2aError, Kind},
    events, json as body,
    operations::{Operation, Reply, perform},
};
use crate::rest;

/// Answers a request. Errors are answers with status 200, as JSON-RPC over HTTP has them.
pub(super) async fn answer(server: &A2aServer, place: &Place, request: Request) -> Response {
    let (parts, stream) = request.into_parts();
    let mut id = Value::Null;
    let reply = async {
        let mut message = rest::read_json(&parts.headers, stream).await.map_err(|refused| match refused.kind {
            ErrorKind::TooLarge => A2aError::new(Kind::InvalidRequest, refused.message),
            _ => A2aError::new(Kind::Parse, refused.message),
        })?;
        id = id_of(&message)?;
        check_version(&parts.headers)?;
        if message["jsonrpc"] != "2.0" {
            return Err(A2aError::new(Kind::InvalidRequest, "'jsonrpc' must be '2.0'"));
        }
        let method = message["method"].as_str().unwrap_or_default();
        let operation = Operation::parse(method).ok_or_else(|| {
            let method = crate::app::shortened(method);
            A2aError::new(Kind::MethodNotFound, format!("no method '{method}' in version 1.0 of A2A"))
        })?;
        let params = message.get_mut("params").map(Value::take).filter(|params| !params.is_null());
        let params = params.unwrap_or_else(|| json!({}));
        if !params.is_object() {
            return Err(A2aError::new(Kind::InvalidParams, "'params' must be an object"));
        }
        perform(server, place, operation, params).await
    };
    match reply.await {
        Ok(Reply::Whole(result)) => body(StatusCode::OK, &json!({"jsonrpc": "2.0", "id": id, "result": result})),
        Ok(Reply::Stream(stream)) => {
            let answers = stream.map(move |item| {
                let answer = match item {
                    Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
                    Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error.rpc()}),
                };
                Event::default().data(answer.to_string())
            });
            events(answers, &server.stopping)
        }
        Err(error) => body(StatusCode::OK, &json!({"jsonrpc": "2.0", "id": id, "error": error.rpc()})),
    }
}

fn id_of(message: &Value) -> Result<Value, A2aError> {
    let Some(fields) = message.as_object() else {
        return Err(A2aError::new(Kind::InvalidRequest, "a request is one object; batches are not part of A2A"));
    };
    match fields.get("id") {
        Some(id @ (Value::String(_) | Value::Null)) => Ok(id.clone()),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Ok(Value::Number(id.clone())),
        _ => Err(A2aError::new(Kind::InvalidRequest, "'id' must be a text or a whole number")),
    }
}
