//! Where every request comes in: answered here if this server leads, else by the one that does.
//!
//! What a server says of itself (`/healthz`, `/livez`, `/readyz`, `/metrics`) it says itself, whether it leads or not.
//!
//! # Invariants
//! - A request is sent a second time only if it did not leave this server, or if it reads and has no body.
//! - Head, body and trailers pass as they are, but for what concerns one connection only.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header,
        uri::{Authority, Scheme},
    },
    response::Response,
};
use baton_types::{ApiError, ErrorKind};
use tokio::time::{sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{
    FORWARDED, PATIENCE, Post,
    body::{Ending, Forwarded, lost},
    links::{Failed, Links},
};
use crate::{
    errors, grpc, metrics, rest,
    serve::{Protocol, protocol_of},
};

/// Before a leader that did not answer is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// As [`PATIENCE`], for a request that another server takes this one to lead for: that one waits too.
const PATIENCE_FOR_OTHERS: Duration = Duration::from_secs(3);
/// How long an answer is waited for once this server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long the leader may take to say that it is there.
const REACH_LIMIT: Duration = Duration::from_secs(3);

/// Names of headers that concern one connection.
const OF_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// The way in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Door {
    post: Arc<Post>,
    links: Arc<Links>,
    /// What this server says of itself while it does not lead.
    own: Router,
    stopping: CancellationToken,
}

/// A request that reads and can be repeated.
struct Repeatable {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Repeatable {
    fn of(request: &Request) -> Option<Self> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
        reads.then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        })
    }

    fn request(&self) -> Request {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        *request.version_mut() = Version::HTTP_2;
        request
    }
}

impl Door {
    /// `healthy` says whether this server can stand by.
    pub(crate) fn new(
        post: Arc<Post>,
        healthy: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
        metrics_page: Arc<dyn Fn() -> String + Send + Sync>,
        stopping: CancellationToken,
    ) -> Self {
        let links = Arc::new(Links::default());
        let (asked, reaching) = (Arc::clone(&post), Arc::clone(&links));
        let ready: rest::Ready = Arc::new(move || {
            let (post, links) = (Arc::clone(&asked), Arc::clone(&reaching));
            Box::pin(async move { reach(&post, &links).await })
        });
        Self { post, links, own: rest::standby_router(healthy, ready, metrics_page), stopping }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        match self.post.front() {
            Some(front) => front.answer(request).await,
            // By itself, so that what passes when this server leads is not the larger for it.
            None => Box::pin(self.answer_otherwise(request)).await,
        }
    }

    async fn answer_otherwise(&self, request: Request) -> Response {
        let (started, protocol) = (Instant::now(), protocol_of(&request));
        let response = if protocol == Protocol::Rest && rest::is_of_the_server(request.uri().path()) {
            match self.own.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        } else {
            match self.pass_on(protocol, request).await {
                // It was counted where it was answered.
                Ok(Answered::Here(response)) => return response,
                Ok(Answered::Elsewhere(response)) => response,
                Err(error) => refuse(protocol, error),
            }
        };
        metrics::request(protocol.name(), protocol.code_of(&response), started.elapsed().as_secs_f64());
        response
    }

    async fn pass_on(&self, protocol: Protocol, request: Request) -> Result<Answered, ApiError> {
        let forwarded = request.headers().contains_key(FORWARDED);
        let mut request = if forwarded { request } else { prepared(protocol, request)? };
        let repeatable = Repeatable::of(&request);
        let patience = if forwarded { PATIENCE_FOR_OTHERS } else { PATIENCE };
        let deadline = tokio::time::Instant::now() + patience;
        let mut changes = self.post.changes();
        let mut why = "nobody leads yet".to_owned();
        loop {
            if let Some(front) = self.post.front() {
                return Ok(Answered::Here(front.answer(request).await));
            }
            match self.post.elsewhere() {
                // Whoever sent it thinks that this server leads: soon it may, and if not, it is not passed on again.
                _ if forwarded => "it was forwarded here, and this server does not lead".clone_into(&mut why),
                None => {}
                Some(address) => match self.send(&address, request).await? {
                    Ok((response, place)) => {
                        let (parts, body) = response.into_parts();
                        let ending = ending_of(protocol, &parts.headers);
                        let body = Forwarded::body(body, ending, self.stopping.clone(), place);
                        return Ok(Answered::Elsewhere(answer_of(Response::from_parts(parts, body))));
                    }
                    Err(Failed::Unsent(unsent, said)) => {
                        why = format!("the server at {address} cannot be asked: {said}");
                        request = *unsent;
                        let _ = timeout_at(deadline, sleep(PAUSE)).await;
                    }
                    Err(Failed::Lost(said)) => match &repeatable {
                        Some(repeatable) => {
                            why = format!("the server at {address} was lost: {said}");
                            request = repeatable.request();
                            let _ = timeout_at(deadline, sleep(PAUSE)).await;
                        }
                        None => return Err(lost(&said)),
                    },
                },
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(unreachable(forwarded, &why));
            }
            if self.post.front().is_none() && (forwarded || self.post.elsewhere().is_none()) {
                tokio::select! {
                    _ = timeout_at(deadline, changes.changed()) => {}
                    () = self.stopping.cancelled() => return Err(errors::stopping()),
                }
            }
        }
    }

    /// One try; an error if this server stops before there is an answer.
    async fn send(
        &self,
        address: &Arc<str>,
        request: Request,
    ) -> Result<Result<(hyper::Response<hyper::body::Incoming>, super::links::Place), Failed>, ApiError> {
        let stopped = async {
            self.stopping.cancelled().await;
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            sent = self.links.send(address, request) => Ok(sent),
            () = stopped => Err(errors::stopping()),
        }
    }
}

/// Where a request was answered.
enum Answered {
    Here(Response),
    Elsewhere(Response),
}

/// Whether the leader can be reached; otherwise why not.
async fn reach(post: &Post, links: &Links) -> Result<(), String> {
    // It has begun to lead in this moment.
    if post.front().is_some() {
        return Ok(());
    }
    let Some(address) = post.elsewhere() else { return Err("nobody leads".to_owned()) };
    let asking = Repeatable {
        method: Method::GET,
        uri: uri_of(&address, "/livez")?,
        headers: HeaderMap::from_iter([(HeaderName::from_static(FORWARDED), HeaderValue::from_static("HTTP/2.0"))]),
    };
    let why = match tokio::time::timeout(REACH_LIMIT, links.send(&address, asking.request())).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(Failed::Unsent(_, why) | Failed::Lost(why))) => why,
        Err(_) => format!("it has not answered within {} seconds", REACH_LIMIT.as_secs()),
    };
    Err(format!("the server that leads, at {address}, cannot be reached: {why}"))
}

fn uri_of(authority: &str, path: &str) -> Result<Uri, String> {
    let built = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build();
    built.map_err(|error| error.to_string())
}

/// The request as it goes to the leader: over HTTP/2, with the host that the caller asked for.
fn prepared(protocol: Protocol, request: Request) -> Result<Request, ApiError> {
    if protocol == Protocol::Rest {
        rest::check_host(request.uri(), request.headers())?;
    }
    let (mut parts, body) = request.into_parts();
    let version = HeaderValue::from_static(match parts.version {
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    });
    let host = parts.uri.authority().cloned();
    let host = host.or_else(|| parts.headers.get(header::HOST)?.to_str().ok()?.parse::<Authority>().ok());
    let path = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    let host = host.as_ref().map_or("localhost", Authority::as_str);
    parts.uri = uri_of(host, path).map_err(|why| {
        ApiError::new(ErrorKind::InvalidArgument, "PATH_MALFORMED", format!("the path of the request: {why}"))
    })?;
    parts.version = Version::HTTP_2;
    drop_headers_of_connection(&mut parts.headers);
    parts.headers.remove(header::HOST);
    // It was answered when this server took the body.
    parts.headers.remove(header::EXPECT);
    if parts.headers.get(header::TE).is_some_and(|te| te != "trailers") {
        parts.headers.remove(header::TE);
    }
    parts.headers.insert(FORWARDED, version);
    parts.extensions.clear();
    Ok(Request::from_parts(parts, body))
}

fn drop_headers_of_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in OF_CONNECTION.iter().chain(&named) {
        headers.remove(name);
    }
}

/// The answer as it goes to the caller: in the version of its own connection.
fn answer_of(mut response: Response) -> Response {
    drop_headers_of_connection(response.headers_mut());
    *response.version_mut() = Version::default();
    response.extensions_mut().clear();
    response
}

fn ending_of(protocol: Protocol, headers: &HeaderMap) -> Ending {
    match protocol {
        Protocol::Grpc => Ending::Grpc,
        Protocol::Rest if headers.contains_key(header::CONTENT_LENGTH) => Ending::Whole,
        Protocol::Rest => Ending::Stream,
    }
}

fn unreachable(forwarded: bool, why: &str) -> ApiError {
    let (reason, message) = if forwarded {
        ("NOT_LEADING", "this server does not lead any more, or not yet".to_owned())
    } else {
        ("LEADER_UNREACHABLE", format!("no server leads that could answer: {why}"))
    };
    ApiError::new(ErrorKind::Unavailable, reason, message).hint("repeat the request after a moment; it was not begun")
}

fn refuse(protocol: Protocol, error: ApiError) -> Response {
    match protocol {
        Protocol::Rest => rest::refuse(error),
        Protocol::Grpc => grpc::status_of(error).into_http(),
    }
}
