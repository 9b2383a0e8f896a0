//! Words around the service for what the generated code has none for: methods that are not offered, messages too large.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use baton_types::{ApiError, ErrorKind};
use futures::future::{BoxFuture, FutureExt as _};
use tonic::{Code, Status, body::Body, codegen::http, server::NamedService};
use tower::Service;

use super::super::{MESSAGE_BYTES_MAX, status};

/// The methods that are offered.
const METHODS: [&str; 6] = [
    "RespondActivityTaskCompleted",
    "RespondActivityTaskFailed",
    "RespondActivityTaskCanceled",
    "RecordActivityTaskHeartbeat",
    "GetSystemInfo",
    "DescribeNamespace",
];

/// Longest name of a method that is repeated to the caller, in characters.
const METHOD_CHARS_MAX: usize = 64;

/// A service of which a part is offered.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Offered<S>(S);

impl<S> Offered<S> {
    pub(super) const fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S: NamedService> NamedService for Offered<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Offered<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        if METHODS.contains(&method) {
            return self.0.call(request).map(|response| response.map(worded)).boxed();
        }
        let method: String = method.chars().take(METHOD_CHARS_MAX).collect();
        let message = format!(
            "{method} is not offered: this is Baton, which answers its own callback tokens by {}",
            METHODS.join(", ")
        );
        std::future::ready(Ok(Status::unimplemented(message).into_http())).boxed()
    }
}

/// What is too large is refused with a code that SDKs repeat; repeating does not help.
fn worded(response: http::Response<Body>) -> http::Response<Body> {
    let too_large = Status::from_header_map(response.headers()).is_some_and(|status| match status.code() {
        Code::OutOfRange => true,
        Code::ResourceExhausted => status.message().starts_with("Error decompressing"),
        _ => false,
    });
    if !too_large {
        return response;
    }
    let message = format!("the message is larger than {MESSAGE_BYTES_MAX} bytes");
    status::of(
        ApiError::new(ErrorKind::TooLarge, "BODY_TOO_LARGE", message)
            .hint("store the data elsewhere and answer with a reference to it"),
    )
    .into_http()
}
