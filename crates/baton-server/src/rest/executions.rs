//! The subresources of executions: ending, holding, history, return addresses; and the import of old ones.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use baton_proto::{to_json_value, v1};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{call::Call, refusal::Refusal, tokens, watch};
use crate::app::ExecutionKind;

/// `POST …/cancel`
pub(super) async fn cancel<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let request: v1::EndRequest = read(&call)?;
    let object: R = call.app().cancel(&request.namespace, &request.name, &request.reason).await?;
    call.answer(StatusCode::OK, &object, &[])
}

/// `POST …/terminate`
pub(super) async fn terminate<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let request: v1::EndRequest = read(&call)?;
    let object: R = call.app().terminate(&request.namespace, &request.name, &request.reason).await?;
    call.answer(StatusCode::OK, &object, &[])
}

/// `POST …/suspend`
pub(super) async fn suspend<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let request: v1::SuspendRequest = read(&call)?;
    let object: R = call.app().suspend(&request.namespace, &request.name).await?;
    call.answer(StatusCode::OK, &object, &[])
}

/// `POST …/resume`
pub(super) async fn resume<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let request: v1::SuspendRequest = read(&call)?;
    let object: R = call.app().resume(&request.namespace, &request.name).await?;
    call.answer(StatusCode::OK, &object, &[])
}

/// `GET …/output`: the whole output, also where `status.output` is too long to be anything but a reference to it.
pub(super) async fn output<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let text = call.app().output::<R>(&call.namespace, &call.name).await?;
    let mut response = Response::new(text.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `GET …/history?after=&limit=`: a page; with `follow`, one event a line until the execution has ended.
pub(super) async fn history<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let (follow, after, limit) = call.query.read(|it| {
        (
            it.flag("follow"),
            it.count("after", "numbers of events, 0 or more"),
            it.count("limit", "whole numbers from 0 to 1000"),
        )
    })?;
    let request = v1::HistoryRequest {
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        after: after.unwrap_or_default(),
        limit: limit.unwrap_or_default(),
    };
    if !follow {
        let page = call.app().history::<R>(&request).await?;
        return answer_with_list(&call, &page, "events");
    }
    let events = call.app().watch_history::<R>(&request).await?;
    let events = events.map(|event| match event {
        Ok(event) => Bytes::from(format!("{}\n", baton_proto::to_json(&event))),
        Err(error) => watch::error_line(error.into()),
    });
    let stopping = call.stopping();
    Ok(watch::lines(events.take_until(stopping.cancelled_owned())))
}

/// `GET …/callbacks`
pub(super) async fn callbacks<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let request = v1::ListCallbacksRequest { namespace: call.namespace.clone(), name: call.name.clone() };
    let list = call.app().callbacks::<R>(&request).await?;
    answer_with_list(&call, &list, "items")
}

/// `POST …/callbacks` with `{"callbackToken": …}`
pub(super) async fn attach_callback<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let (mut object, duplicates) = call.object(false)?;
    tokens::accept_anywhere(&mut object, &call.headers)?;
    call.settle(&mut object, "")?;
    let request: v1::AttachCallbackRequest = call.message(object, duplicates)?.message;
    let list = call.app().attach_callback::<R>(&request).await?;
    answer_with_list(&call, &list, "items")
}

/// `POST …/callbacks/retry`, perhaps with `{"fingerprint": …}`
pub(super) async fn retry_callback<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let request: v1::RetryCallbackRequest = read(&call)?;
    let list = call.app().retry_callback::<R>(&request).await?;
    answer_with_list(&call, &list, "items")
}

/// `POST …/workflowexecutions:import`: the body is a serialized WorkflowExecution, perhaps of a time when the callback
/// token stood in status.
pub(super) async fn import(call: Call) -> Result<Response, Refusal> {
    if call.body.is_empty() {
        return Err(Refusal::bad_request(
            "BODY_MALFORMED",
            "the body is empty; allowed is a serialized WorkflowExecution",
        ));
    }
    let object = call.app().import_legacy(&call.body, Some(&call.namespace)).await?;
    call.answer(StatusCode::CREATED, &object, &[])
}

/// A request whose namespace and name are the path's; without a body, nothing else is set.
fn read<T: DeserializeOwned>(call: &Call) -> Result<T, Refusal> {
    let (mut object, duplicates) = call.object(false)?;
    call.settle(&mut object, "")?;
    Ok(call.message(object, duplicates)?.message)
}

/// An answer in which a list is there even if it is empty.
fn answer_with_list<T: Serialize>(call: &Call, message: &T, list: &str) -> Result<Response, Refusal> {
    let mut value = to_json_value(message);
    if let Some(object) = value.as_object_mut() {
        object.entry(list).or_insert_with(|| Value::Array(Vec::new()));
    }
    call.answer(StatusCode::OK, &value, &[])
}
