//! `callbacks:create`, `:await`, `:complete`, `:fail`, `:cancel` and `:heartbeat`: answering waits by their token.

use axum::{http::StatusCode, response::Response};
use baton_proto::{to_json_value, v1};
use serde::de::DeserializeOwned;

use super::{call::Call, refusal::Refusal, tokens};
use crate::errors;

/// A return address for a caller outside; the token is there in both of its forms.
pub(super) async fn create(call: Call) -> Result<Response, Refusal> {
    let (object, duplicates) = call.object(false)?;
    let request: v1::CreateCallbackRequest = call.message(object, duplicates)?.message;
    let created = call.app().create_callback(&request).await?;
    let mut value = to_json_value(&created);
    if let (Some(plain), Some(object)) = (tokens::plain(&created.callback_token), value.as_object_mut()) {
        object.insert("token".to_owned(), plain.into());
    }
    call.answer(StatusCode::CREATED, &value, &[])
}

/// Waits for the answer to such an address.
pub(super) async fn wait(call: Call) -> Result<Response, Refusal> {
    let request: v1::AwaitCallbackRequest = read(&call)?;
    let stopping = call.stopping();
    let answer = tokio::select! {
        answer = call.app().await_callback(&request) => answer?,
        () = stopping.cancelled() => return Err(errors::stopping().into()),
    };
    call.answer(StatusCode::OK, &answer, &[])
}

/// Answers a wait: it went well.
pub(super) async fn complete(call: Call) -> Result<Response, Refusal> {
    let request: v1::CompleteCallbackRequest = read(&call)?;
    let answer = call.app().complete_callback(&request).await?;
    call.answer(StatusCode::OK, &answer, &[])
}

/// Answers a wait: it failed.
pub(super) async fn fail(call: Call) -> Result<Response, Refusal> {
    let request: v1::FailCallbackRequest = read(&call)?;
    let answer = call.app().fail_callback(&request).await?;
    call.answer(StatusCode::OK, &answer, &[])
}

/// Answers a wait: it was cancelled.
pub(super) async fn cancel(call: Call) -> Result<Response, Refusal> {
    let request: v1::CancelCallbackRequest = read(&call)?;
    let answer = call.app().cancel_callback(&request).await?;
    call.answer(StatusCode::OK, &answer, &[])
}

/// Says that a wait is still being worked on.
pub(super) async fn heartbeat(call: Call) -> Result<Response, Refusal> {
    let request: v1::HeartbeatCallbackRequest = read(&call)?;
    let answer = call.app().heartbeat_callback(&request).await?;
    call.answer(StatusCode::OK, &answer, &[])
}

fn read<T: DeserializeOwned>(call: &Call) -> Result<T, Refusal> {
    let (mut object, duplicates) = call.object(false)?;
    tokens::accept_anywhere(&mut object, &call.headers)?;
    Ok(call.message(object, duplicates)?.message)
}
