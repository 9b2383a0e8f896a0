//! The body of a forwarded answer, passed on frame by frame, trailers included.
//!
//! # Invariants
//! - A gRPC answer ends with a status, also when the leader is lost or this server stops in the middle of it.
//! - A stream over REST ends when this server stops. When the leader is lost it breaks off, so that nobody takes it for whole.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::HeaderMap,
};
use baton_types::ApiError;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::links::{Place, root_cause};
use crate::{errors, grpc};

/// How an answer that cannot go on is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// By a status in trailers.
    Grpc,
    /// A stream of lines, which may end after any of them.
    Stream,
    /// Something whole.
    Whole,
}

/// A body as it comes from the leader.
pub(super) struct Forwarded {
    body: Incoming,
    ending: Ending,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
    /// Given back when the body is done with.
    _place: Place,
}

impl Forwarded {
    pub(super) fn body(body: Incoming, ending: Ending, stopping: CancellationToken, place: Place) -> Body {
        let stopping = Box::pin(stopping.cancelled_owned());
        Body::new(Self { body, ending, stopping, ended: false, _place: place })
    }
}

fn trailers(error: ApiError) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    if grpc::status_of(error).add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", axum::http::HeaderValue::from_static("14"));
    }
    Frame::trailers(trailers)
}

/// What is said of an answer that the leader did not finish.
pub(super) fn lost(why: &str) -> ApiError {
    ApiError::new(
        baton_types::ErrorKind::Unavailable,
        "LEADER_LOST",
        format!("the server that leads was lost while it answered ({why}); whether the request took effect is unknown"),
    )
    .hint("repeat the request with the same name and requestId")
}

impl HttpBody for Forwarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What has come goes first: an answer that is there is not cut off.
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() && self.ending != Ending::Whole {
            ready!(self.stopping.as_mut().poll(context));
            self.ended = true;
            let last = (self.ending == Ending::Grpc).then(|| Ok(trailers(errors::stopping())));
            return Poll::Ready(last);
        }
        match ready!(polled) {
            Some(Err(error)) if self.ending == Ending::Grpc => {
                self.ended = true;
                Poll::Ready(Some(Ok(trailers(lost(&root_cause(&error))))))
            }
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.ending {
            Ending::Whole => self.body.size_hint(),
            Ending::Grpc | Ending::Stream => SizeHint::default(),
        }
    }
}
