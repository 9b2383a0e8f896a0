//! Changes as a stream of JSON objects, one a line: `{"type":"ADDED","object":{...}}`.
//!
//! # Failure
//! An error before the first line is an answer like any other, after it a line of type `ERROR` with a Status object;
//! the stream then ends and the client watches again from the last resourceVersion that it saw.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use baton_proto::{API_VERSION, Resource, v1};
use baton_types::ApiError;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{call::Call, query::unsupported, refusal::Refusal};
use crate::app::{ServedResource, WatchItem, WatchKind};

/// Longest a watch may ask for, in seconds: a day. Clients reconnect anyway.
const TIMEOUT_SECONDS_MAX: u32 = 86_400;

/// A collection, or the one object that the path names, and its changes.
pub(super) async fn watch<R: ServedResource>(call: Call) -> Result<Response, Refusal> {
    if !call.query.text("sendInitialEvents").is_empty() {
        return Err(unsupported(
            "sendInitialEvents",
            "is not offered; list first, then watch from the list's resourceVersion",
        ));
    }
    let (bookmarks, seconds) = call
        .query
        .read(|it| (it.flag("allowWatchBookmarks"), it.count::<u32>("timeoutSeconds", "whole numbers of seconds")))?;
    let text = |name| call.query.text(name).to_owned();
    let mut request = v1::WatchRequest {
        namespace: call.namespace.clone(),
        label_selector: text("labelSelector"),
        field_selector: text("fieldSelector"),
        resource_version: text("resourceVersion"),
    };
    if !call.name.is_empty() {
        let own = format!("metadata.name={}", call.name);
        request.field_selector =
            if request.field_selector.is_empty() { own } else { format!("{},{own}", request.field_selector) };
    }
    let items = call.app().watch::<R>(&request, bookmarks).await?;
    let watch = Watch {
        items: Box::pin(items),
        deadline: seconds
            .filter(|it| *it > 0)
            .map(|it| Instant::now() + Duration::from_secs(it.min(TIMEOUT_SECONDS_MAX).into())),
        stopping: call.stopping(),
        bookmarks,
        last_version: request.resource_version,
        ended: false,
    };
    Ok(lines(stream::unfold(watch, Watch::next)))
}

struct Watch<R> {
    items: Pin<Box<dyn Stream<Item = Result<WatchItem<R>, ApiError>> + Send>>,
    deadline: Option<Instant>,
    stopping: CancellationToken,
    bookmarks: bool,
    last_version: String,
    ended: bool,
}

impl<R: Resource> Watch<R> {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        let deadline = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let item = tokio::select! {
            biased;
            () = self.stopping.cancelled() => return None,
            () = deadline => None,
            item = self.items.next() => Some(item?),
        };
        let text = match item {
            Some(Ok(item)) => {
                item.object.metadata().map_or("", |it| &it.resource_version).clone_into(&mut self.last_version);
                line(item.kind.as_str(), &item.object)
            }
            Some(Err(error)) => {
                self.ended = true;
                error_line(error.into())
            }
            None if self.bookmarks && !matches!(self.last_version.as_str(), "" | "0") => {
                self.ended = true;
                let object = json!({"kind": R::KIND, "apiVersion": API_VERSION, "metadata": {"resourceVersion": self.last_version}});
                line(WatchKind::Bookmark.as_str(), &object)
            }
            None => return None,
        };
        Some((text, self))
    }
}

/// One event, with the end of its line.
fn line<T: Serialize>(kind: &str, object: &T) -> Bytes {
    #[derive(Serialize)]
    struct Event<'a, T> {
        r#type: &'a str,
        object: &'a T,
    }
    match serde_json::to_vec(&Event { r#type: kind, object }) {
        Ok(mut text) => {
            text.push(b'\n');
            text.into()
        }
        Err(error) => error_line(ApiError::internal(format!("an object cannot be written as JSON: {error}")).into()),
    }
}

/// A line that says why the stream ends.
#[expect(clippy::needless_pass_by_value, reason = "it is the end of the refusal")]
pub(super) fn error_line(refusal: Refusal) -> Bytes {
    refusal.log();
    format!("{}\n", json!({"type": "ERROR", "object": refusal.status()})).into()
}

/// An answer that goes on line by line.
pub(super) fn lines(stream: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(stream.map(Ok::<_, Infallible>)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
