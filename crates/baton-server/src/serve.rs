//! One port for everything: REST and gRPC over HTTP/1.1 and HTTP/2 without TLS, told apart by their content type.
//!
//! [`serve`] takes a bound listener and ends when it has been told to stop and every request has been answered.
//!
//! # Invariants
//! - Once `stopping` is cancelled no connection is accepted, open ones take no new request, streams end, and what is
//!   being answered is answered, at most for [`DRAIN_LIMIT`].
//! - At most [`CONNECTIONS_MAX`] connections are open; others wait in the listener's own queue.
//!
//! # Failure
//! A connection that breaks is nobody's error. A failing `accept` (no more file descriptors) is tried again after a
//! pause: connections that end give theirs back.

use std::{
    convert::Infallible,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, Version, header},
    response::Response,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    app::App,
    grpc::{self, Grpc, WorkerSide},
    metrics,
    rest::{self, Rest},
};

/// Most connections at a time; each holds a file descriptor.
const CONNECTIONS_MAX: usize = 16_384;

/// Most requests at a time on one HTTP/2 connection: a client with a thousand waiting calls needs one connection.
const STREAMS_MAX: u32 = 4096;

/// Flow-control windows of HTTP/2, in bytes: a resource at its limit goes in one piece.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Longest a request's headers may take to arrive over HTTP/1.1.
const HEADERS_LIMIT: Duration = Duration::from_secs(30);

/// How often an idle HTTP/2 connection is asked whether it still lives, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(20);

/// Longest that requests in progress are waited for when the server stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Pause after an `accept` that failed for want of something of ours.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is served.
pub(crate) struct Serving {
    /// The application layer.
    pub(crate) app: App,
    /// Writes the page of metrics, in the text form of Prometheus.
    pub(crate) metrics_page: Arc<dyn Fn() -> String + Send + Sync>,
    /// To be cancelled when the server is to stop.
    pub(crate) stopping: CancellationToken,
    /// Whether Temporal's calls for answering activities are offered too.
    pub(crate) temporal_compatible: bool,
    /// What workers elsewhere need, if executions run in Temporal.
    pub(crate) worker: Option<WorkerSide>,
}

/// Serves on `listener` until `stopping` is cancelled and requests in progress have been answered.
///
/// # Errors
/// Only before the first connection: the built-in descriptors cannot be read.
pub(crate) async fn serve(listener: TcpListener, serving: Serving) -> io::Result<()> {
    let Serving { app, metrics_page, stopping, temporal_compatible, worker } = serving;
    let front = Front {
        grpc: grpc::router(&Grpc { app: app.clone(), stopping: stopping.clone(), temporal_compatible, worker })
            .map_err(io::Error::other)?,
        rest: rest::router(Rest { app, stopping: stopping.clone(), metrics_page }),
    };
    let builder = Arc::new(connections());
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let cut_off = CancellationToken::new();
    let tasks = TaskTracker::new();
    while let Some((stream, place)) = next(&listener, &places, &stopping).await {
        // Small answers go out at once rather than waiting for more.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it was served");
            continue;
        }
        let (builder, front, watcher, cut_off) =
            (Arc::clone(&builder), front.clone(), graceful.watcher(), cut_off.clone());
        tasks.spawn(async move {
            let service =
                TowerToHyperService::new(tower::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let front = front.clone();
                    async move { Ok::<_, Infallible>(front.answer(request.map(Body::new)).await) }
                }));
            let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
            tokio::select! {
                result = connection => if let Err(error) = result {
                    tracing::debug!(error, "a connection broke");
                },
                () = cut_off.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    if timeout(DRAIN_LIMIT, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests in progress were cut off after {} seconds of waiting for them", DRAIN_LIMIT.as_secs());
        cut_off.cancel();
    }
    tasks.wait().await;
    Ok(())
}

fn connections() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_LIMIT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    builder
}

/// The next connection and its place among those that may be open; `None` once the server stops.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stopping: &CancellationToken,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = tokio::select! {
        place = Arc::clone(places).acquire_owned() => place.ok()?,
        () = stopping.cancelled() => return None,
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return None,
        };
        match accepted {
            Ok((stream, _)) => return Some((stream, place)),
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Both adapters.
#[derive(Clone)]
struct Front {
    rest: Router,
    grpc: Router,
}

impl Front {
    async fn answer(self, request: Request) -> Response {
        let started = Instant::now();
        let (router, protocol) =
            if is_grpc(request.version(), request.headers()) { (self.grpc, "grpc") } else { (self.rest, "rest") };
        let response = match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        metrics::request(protocol, code_of(protocol, &response), started.elapsed().as_secs_f64());
        response
    }
}

/// The code to count an answer under: the HTTP status, or the gRPC code where a refusal has it in its head.
fn code_of(protocol: &str, response: &Response) -> u16 {
    if protocol == "rest" {
        return response.status().as_u16();
    }
    response
        .headers()
        .get("grpc-status")
        .and_then(|code| code.to_str().ok())
        .and_then(|code| code.parse().ok())
        .unwrap_or_default()
}

/// gRPC calls are HTTP/2 requests of the type `application/grpc`, perhaps with `+proto` or parameters.
fn is_grpc(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_2
        && headers
            .get(header::CONTENT_TYPE)
            .and_then(|it| it.as_bytes().strip_prefix(b"application/grpc"))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}
