//! Connections to the leader: HTTP/2, each for many requests at a time.
//!
//! # Invariants
//! - The windows of all requests of a connection fit into its own, so that a caller that does not read holds up nobody.
//! - A leader that says nothing is noticed within [`PING_INTERVAL`] and [`PING_LIMIT`], also while it owes no answer.
//!
//! # Failure
//! Whoever gets [`Failed::Unsent`] has the request back and may try again; after [`Failed::Lost`] nobody knows whether it
//! took effect.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use hyper::{
    Response,
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::timeout};

/// Requests on one connection.
const REQUESTS_MAX: usize = 256;
/// Bytes of an answer that may wait to be passed on.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The same for a connection.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// A refusal with many violations has a large head.
const HEADERS_BYTES_MAX: u32 = 64 << 10;
/// For a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How often the leader is asked whether it lives, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_LIMIT: Duration = Duration::from_secs(3);

/// Why there is no answer.
pub(super) enum Failed {
    /// The request has not left this server.
    Unsent(Box<Request>, String),
    /// It has, or may have.
    Lost(String),
}

/// One request's place on a connection.
pub(super) type Place = Arc<()>;

struct Link {
    address: Arc<str>,
    sender: SendRequest<Body>,
    /// One more reference for every request under way.
    places: Place,
}

/// The connections that there are.
#[derive(Default)]
pub(super) struct Links {
    links: Mutex<Vec<Link>>,
    /// Held by whoever connects: the others find the connection then.
    connecting: tokio::sync::Mutex<()>,
}

impl Links {
    /// Sends a request to `address`, HOST:PORT. The place is to be kept until the answer was read.
    pub(super) async fn send(
        &self,
        address: &Arc<str>,
        request: Request,
    ) -> Result<(Response<Incoming>, Place), Failed> {
        let (mut sender, place) = match self.get(address).await {
            Ok(link) => link,
            Err(why) => return Err(Failed::Unsent(Box::new(request), why)),
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, place)),
            Err(mut error) => {
                let message = error.take_message();
                let why = root_cause(&error.into_error());
                Err(match message {
                    Some(request) => Failed::Unsent(Box::new(request), why),
                    None => Failed::Lost(why),
                })
            }
        }
    }

    async fn get(&self, address: &Arc<str>) -> Result<(SendRequest<Body>, Place), String> {
        if let Some(link) = self.open(address) {
            return Ok(link);
        }
        let connecting = self.connecting.lock().await;
        if let Some(link) = self.open(address) {
            return Ok(link);
        }
        let sender = connect(address).await?;
        let place = Place::default();
        let link = Link { address: Arc::clone(address), sender: sender.clone(), places: Arc::clone(&place) };
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        drop(connecting);
        Ok((sender, place))
    }

    /// One with room. Those that are closed, or lead to another leader, are forgotten: what is under way there goes on.
    fn open(&self, address: &Arc<str>) -> Option<(SendRequest<Body>, Place)> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.address == *address && !link.sender.is_closed());
        let link = links.iter().find(|link| Arc::strong_count(&link.places) <= REQUESTS_MAX)?;
        Some((link.sender.clone(), Arc::clone(&link.places)))
    }
}

async fn connect(address: &str) -> Result<SendRequest<Body>, String> {
    let connecting = async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        // Small requests go out at once rather than waiting for more.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_LIMIT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADERS_BYTES_MAX);
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| root_cause(&error))
    };
    let (sender, connection) = match timeout(CONNECT_LIMIT, connecting).await {
        Ok(connected) => connected?,
        Err(_) => return Err(format!("it has not answered within {} seconds", CONNECT_LIMIT.as_secs())),
    };
    tokio::spawn(async move {
        // Whoever waits for an answer is told by itself.
        if let Err(error) = connection.await {
            tracing::debug!(error = root_cause(&error), "a connection to the leader broke");
        }
    });
    Ok(sender)
}

/// The innermost cause: what the operating system or the other side said.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
