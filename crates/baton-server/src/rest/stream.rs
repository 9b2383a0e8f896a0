//! `GET …/stream`: looking on at an execution by server-sent events, as browsers and most HTTP libraries read them.
//!
//! Each message has an `event` (`event`, `delta` or `state`), data (a `StreamItem` as JSON, in one line), and, but for a state, an
//! `id`. Who reconnects sends the last one as `Last-Event-ID` and gets everything that was recorded after the number before its
//! dot, then what is being made from its beginning.
//!
//! # Failure
//! An error within the stream is a last message whose `event` is `error` and whose data is a Status object.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use baton_proto::v1::{self, stream_item::Item};
use baton_types::ApiError;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::time::timeout;

use super::{
    call::Call,
    refusal::{Refusal, printable},
};
use crate::app::ExecutionKind;

/// How soon a client is to come back after its connection was lost.
const RETRY: &str = "retry: 1000\n\n";
/// Longest silence: shorter than what proxies take for the end of a connection.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A comment, which clients skip.
const ALIVE: &str = ": alive\n\n";

/// `GET …/stream?after=`
pub(super) async fn stream<R: ExecutionKind>(call: Call) -> Result<Response, Refusal> {
    let after = call.query.read(|it| it.count("after", "numbers of events, 0 or more"))?;
    let last = last_event(&call)?;
    let request = v1::StreamRequest {
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        after: last.or(after).unwrap_or_default(),
    };
    if last.is_some() && call.app().is_told::<R>(&request).await? {
        // The one answer at which a browser does not come back.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let items = call.app().stream::<R>(&request).await?;
    let messages = Messages { items: Box::pin(items) };
    let all = stream::iter([Bytes::from_static(RETRY.as_bytes())]).chain(stream::unfold(messages, Messages::next));
    let all = all.take_until(call.stopping().cancelled_owned()).map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(all));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    // Proxies of the nginx family otherwise gather what should come at once.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The number in `Last-Event-ID`, if there is one.
fn last_event(call: &Call) -> Result<Option<i32>, Refusal> {
    let Some(given) = call.headers.get("last-event-id") else { return Ok(None) };
    let text = String::from_utf8_lossy(given.as_bytes());
    if text.is_empty() {
        return Ok(None);
    }
    let (number, delta) = text.split_once('.').unwrap_or((&text, "0"));
    let number = number.parse().ok().filter(|number| *number >= 0 && delta.parse::<u32>().is_ok());
    number.map(Some).ok_or_else(|| {
        let message =
            format!("Last-Event-ID is '{}'; allowed are the ids of this stream, such as 12 and 12.3", printable(&text));
        Refusal::bad_request("FIELD_INVALID", message)
    })
}

struct Messages {
    items: Pin<Box<dyn Stream<Item = Result<v1::StreamItem, ApiError>> + Send>>,
}

impl Messages {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let message = match timeout(SILENCE_MAX, self.items.next()).await {
            Err(_) => Bytes::from_static(ALIVE.as_bytes()),
            Ok(Some(Ok(item))) => message(&item),
            Ok(Some(Err(error))) => {
                let refusal = Refusal::from(error);
                refusal.log();
                format!("event: error\ndata: {}\n\n", refusal.status()).into()
            }
            Ok(None) => return None,
        };
        Some((message, self))
    }
}

/// One message. JSON that is written in one line has no line break in it.
fn message(item: &v1::StreamItem) -> Bytes {
    let kind = match &item.item {
        Some(Item::Event(_)) | None => "event",
        Some(Item::Delta(_)) => "delta",
        Some(Item::State(_)) => "state",
    };
    let id = if item.id.is_empty() { String::new() } else { format!("id: {}\n", item.id) };
    format!("event: {kind}\n{id}data: {}\n\n", baton_proto::to_json(item)).into()
}
