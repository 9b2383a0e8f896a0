//! One port for everything: REST and gRPC over HTTP/1.1 and HTTP/2 without TLS, told apart by their content type.
//!
//! [`serve`] takes a bound listener and ends when it has been told to stop and every request has been answered. Who answers is
//! the [`Door`]'s matter: the [`Front`] of this server, or the server that leads.
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
    http::{Version, header},
    response::Response,
};
use baton_activities::EgressPolicy;
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
    leading::{Door, FORWARDED},
    metrics,
    rest::{self, Rest},
};

/// Most connections at a time; each holds a file descriptor.
const CONNECTIONS_MAX: usize = 16_384;

/// Most requests at a time on one HTTP/2 connection: a client with a thousand waiting calls needs one connection.
const STREAMS_MAX: u32 = 4096;

/// Most requests that were given up before they were looked at: a server that forwards passes on what many callers give up.
const RESETS_MAX: usize = 256;

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
    /// Whom what goes out by a client's wish may go to.
    pub(crate) egress: Arc<EgressPolicy>,
    /// Whether Temporal's calls for answering activities are offered too.
    pub(crate) temporal_compatible: bool,
    /// What workers elsewhere need, if executions run in Temporal.
    pub(crate) worker: Option<WorkerSide>,
}

/// Serves on `listener` until `stopping` is cancelled and requests in progress have been answered.
pub(crate) async fn serve(listener: TcpListener, door: Door, stopping: CancellationToken) {
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
        let (builder, door, watcher, cut_off) =
            (Arc::clone(&builder), door.clone(), graceful.watcher(), cut_off.clone());
        tasks.spawn(async move {
            let service =
                TowerToHyperService::new(tower::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let door = door.clone();
                    async move { Ok::<_, Infallible>(door.answer(request.map(Body::new)).await) }
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
        .max_pending_accept_reset_streams(RESETS_MAX)
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
pub(crate) struct Front {
    rest: Router,
    grpc: Router,
}

impl Front {
    /// The adapters over an application layer.
    ///
    /// # Errors
    /// Only for a build whose built-in descriptors cannot be read.
    pub(crate) fn new(serving: Serving) -> io::Result<Self> {
        let Serving { app, metrics_page, stopping, egress, temporal_compatible, worker } = serving;
        let grpc = Grpc { app: app.clone(), stopping: stopping.clone(), temporal_compatible, worker };
        Ok(Self {
            grpc: grpc::router(&grpc).map_err(io::Error::other)?,
            rest: rest::router(Rest { app, stopping, egress, metrics_page }),
        })
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let (started, protocol) = (Instant::now(), protocol_of(&request));
        let router = match protocol {
            Protocol::Rest => self.rest.clone(),
            Protocol::Grpc => self.grpc.clone(),
        };
        let response = match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        metrics::request(protocol.name(), protocol.code_of(&response), started.elapsed().as_secs_f64());
        response
    }
}

/// Which adapter a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Rest,
    Grpc,
}

impl Protocol {
    /// As it is counted.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
        }
    }

    /// The code to count an answer under: the HTTP status, or the gRPC code where a refusal has it in its head.
    pub(crate) fn code_of(self, response: &Response) -> u16 {
        match self {
            Self::Rest => response.status().as_u16(),
            Self::Grpc => response
                .headers()
                .get("grpc-status")
                .and_then(|code| code.to_str().ok())
                .and_then(|code| code.parse().ok())
                .unwrap_or_default(),
        }
    }
}

/// gRPC calls are HTTP/2 requests of the type `application/grpc`, perhaps with `+proto` or parameters. What is forwarded comes
/// over HTTP/2 whatever its caller spoke.
pub(crate) fn protocol_of(request: &Request) -> Protocol {
    let http2 = request.version() == Version::HTTP_2
        && request.headers().get(FORWARDED).is_none_or(|version| version != "HTTP/1.1");
    let is_grpc = http2
        && request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|it| it.as_bytes().strip_prefix(b"application/grpc"))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
    if is_grpc { Protocol::Grpc } else { Protocol::Rest }
}
