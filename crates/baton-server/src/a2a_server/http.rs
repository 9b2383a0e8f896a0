//! The HTTP+JSON binding: paths and methods in place of operations.

use axum::{
    extract::Request,
    http::{Method, StatusCode},
    response::{Response, sse::Event},
};
use baton_types::ErrorKind;
use futures::StreamExt as _;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{
    A2aServer, Place, check_version,
    error::{A2aError, Kind},
    events, json,
    operations::{Operation, Reply, perform},
};
use crate::rest;

/// Answers a request; `path` is what comes after the agent.
pub(super) async fn answer(server: &A2aServer, place: &Place, path: &str, request: Request) -> Response {
    let (parts, stream) = request.into_parts();
    let reply = async {
        // The body is read even if the path is wrong, or the connection could not carry another request.
        let body = rest::read_body(&parts.headers, stream).await.map_err(|refused| match refused.kind {
            ErrorKind::TooLarge => A2aError::new(Kind::InvalidRequest, refused.message),
            _ => A2aError::from(refused),
        })?;
        check_version(&parts.headers)?;
        let (operation, ids) = route(&parts.method, path).ok_or_else(|| {
            let path = crate::app::shortened(path);
            A2aError::new(
                Kind::MethodNotFound,
                format!("nothing answers {} '{path}' in version 1.0 of A2A", parts.method),
            )
        })?;
        let mut params = if body.is_empty() {
            query(parts.uri.query().unwrap_or_default())
        } else {
            let parsed = rest::parse_json(&body).map_err(|refused| A2aError::new(Kind::Parse, refused.message))?;
            let Value::Object(params) = parsed else {
                return Err(A2aError::new(Kind::InvalidRequest, "the body must be one object"));
            };
            params
        };
        params.extend(ids.into_iter().map(|(name, id)| (name.to_owned(), id.into())));
        perform(server, place, operation, Value::Object(params)).await
    };
    match reply.await {
        Ok(Reply::Whole(result)) => json(StatusCode::OK, &result),
        Ok(Reply::Stream(stream)) => {
            let answers = stream.map(|item| match item {
                Ok(result) => Event::default().data(result.to_string()),
                Err(error) => Event::default().event("error").data(error.http().1.to_string()),
            });
            events(answers, &server.stopping)
        }
        Err(error) => {
            let (status, body) = error.http();
            json(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &body)
        }
    }
}

/// The operation that a path stands for, with the ids in it.
fn route<'p>(method: &Method, path: &'p str) -> Option<(Operation, Vec<(&'static str, &'p str)>)> {
    let segments: Vec<&str> = path.split('/').collect();
    let (get, post) = (method == Method::GET, method == Method::POST);
    Some(match segments.as_slice() {
        ["message:send"] if post => (Operation::SendMessage, Vec::new()),
        ["message:stream"] if post => (Operation::SendStreamingMessage, Vec::new()),
        ["tasks"] if get => (Operation::ListTasks, Vec::new()),
        ["tasks", last] if post || get => match last.split_once(':') {
            Some((id, "cancel")) if post => (Operation::CancelTask, vec![("id", id)]),
            Some((id, "subscribe")) => (Operation::SubscribeToTask, vec![("id", id)]),
            None if get => (Operation::GetTask, vec![("id", *last)]),
            _ => return None,
        },
        ["tasks", id, "pushNotificationConfigs"] if post => (Operation::CreatePushConfig, vec![("taskId", *id)]),
        ["tasks", id, "pushNotificationConfigs"] if get => (Operation::ListPushConfigs, vec![("taskId", *id)]),
        ["tasks", id, "pushNotificationConfigs", config] if get => {
            (Operation::GetPushConfig, vec![("taskId", *id), ("id", *config)])
        }
        ["tasks", id, "pushNotificationConfigs", config] if method == Method::DELETE => {
            (Operation::DeletePushConfig, vec![("taskId", *id), ("id", *config)])
        }
        ["extendedAgentCard"] if get => (Operation::GetExtendedAgentCard, Vec::new()),
        _ => return None,
    })
}

/// Parameters of a query, as their fields have them in JSON.
fn query(text: &str) -> Map<String, Value> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name), decoded(value));
            let value = match name.as_str() {
                "historyLength" | "pageSize" => value.parse::<i64>().map_or(Value::String(value), Value::from),
                "includeArtifacts" => value.parse::<bool>().map_or(Value::String(value), Value::from),
                _ => Value::String(value),
            };
            (name, value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_stand_for_operations() {
        let of = |method: &str, path| route(&method.parse().unwrap(), path);
        assert_eq!(of("POST", "message:send"), Some((Operation::SendMessage, vec![])));
        assert_eq!(of("GET", "tasks/x"), Some((Operation::GetTask, vec![("id", "x")])));
        assert_eq!(of("POST", "tasks/x:cancel"), Some((Operation::CancelTask, vec![("id", "x")])));
        assert_eq!(of("GET", "tasks/x:subscribe"), Some((Operation::SubscribeToTask, vec![("id", "x")])));
        assert_eq!(
            of("DELETE", "tasks/x/pushNotificationConfigs/y"),
            Some((Operation::DeletePushConfig, vec![("taskId", "x"), ("id", "y")]))
        );
        for (method, path) in
            [("GET", "message:send"), ("POST", "tasks/x"), ("GET", "tasks/x:cancel"), ("GET", ""), ("PUT", "tasks")]
        {
            assert_eq!(of(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn parameters_are_read_from_a_query() {
        let read =
            query("historyLength=3&includeArtifacts=true&statusTimestampAfter=2026-01-01T00%3A00%3A00Z&pageSize=x&a+b");
        let expected = json!({
            "historyLength": 3, "includeArtifacts": true, "statusTimestampAfter": "2026-01-01T00:00:00Z", "pageSize": "x", "a b": "",
        });
        assert_eq!(Value::Object(read), expected);
    }
}
