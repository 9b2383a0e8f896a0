//! The connection to Temporal, which need not be there when Baton starts.
//!
//! [`Connection::start`] checks the options and returns at once; a task in the background connects, and goes on trying for as
//! long as it takes. Once connected the client's channel finds its way back by itself, so a [`Client`] that was given out stays
//! good while Temporal is away: its calls fail until it is back.
//!
//! # Invariants
//! - Every try to connect has an end ([`TemporalOptions::connect_timeout`]).
//! - TLS is used exactly if [`TemporalOptions`] says so; an address that says otherwise is refused, not overruled, so that no
//!   key is ever sent in the clear by accident.
//!
//! # Deliberately absent
//! No wish to know at once whether Temporal is there: that is [`Connection::client`], or `Host::ready`.
//!
//! # Failure
//! What cannot get better by waiting (an address that is none, a certificate that cannot be read) fails [`Connection::start`].
//! All else is tried again, told once as a warning, and by [`Connection::problem`].

use std::{error::Error as _, sync::Arc, time::Duration};

use temporalio_client::{
    Client, ClientOptions, ClientTlsOptions, Connection as Channel, ConnectionOptions, GrpcCompression,
    TlsOptions as ChannelTls, Url, errors::ClientConnectError, tonic::Status,
};
use tokio::{sync::watch, task::AbortHandle, time::timeout};

use crate::options::{Pem, TemporalOptions};

/// Port of Temporal where none is given.
const PORT_DEFAULT: u16 = 7233;
/// Pause after the first try that failed.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The transport's own word, which says nothing.
const TRANSPORT_ERROR: &str = "transport error";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be one of Temporal's.
    #[error("Temporal's address '{address}' {problem}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// A certificate or a key cannot be read.
    #[error("read {setting} from {}", path.display())]
    Pem {
        /// Which.
        setting: &'static str,
        /// Its file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Settings that do not go together, or that the client does not take.
    #[error("{0}")]
    Settings(String),
    /// It did not answer, or not as Temporal does.
    #[error("connect to Temporal at {address}: {problem}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        problem: String,
    },
}

/// Connects, and fails if Temporal is not there.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(options: &TemporalOptions) -> Result<Client, ConnectError> {
    let prepared = Prepared::new(options)?;
    prepared.connect().await
}

/// A connection that may be there later. Cheap to clone; ends when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    options: TemporalOptions,
    state: watch::Receiver<State>,
    task: AbortHandle,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How far it is.
enum State {
    /// Not there yet; why, once a try has failed.
    Connecting(Option<String>),
    /// There.
    Connected(Client),
}

impl Connection {
    /// Begins to connect in the background of the present runtime, and returns at once.
    ///
    /// # Errors
    /// What waiting does not cure: see [`ConnectError`], without `Unreachable`.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(options: TemporalOptions) -> Result<Self, ConnectError> {
        let prepared = Prepared::new(&options)?;
        let (sender, state) = watch::channel(State::Connecting(None));
        let task = tokio::spawn(connect_for_as_long_as_it_takes(prepared, sender)).abort_handle();
        Ok(Self { shared: Arc::new(Shared { options, state, task }) })
    }

    /// The client, once connected. Its namespace is that of the options.
    pub fn client(&self) -> Option<Client> {
        match &*self.shared.state.borrow() {
            State::Connecting(_) => None,
            State::Connected(client) => Some(client.clone()),
        }
    }

    /// Why there is no client yet; `None` if there is one.
    pub fn problem(&self) -> Option<String> {
        match &*self.shared.state.borrow() {
            State::Connecting(why) => Some(
                why.clone().unwrap_or_else(|| format!("connecting to Temporal at {}", self.shared.options.address)),
            ),
            State::Connected(_) => None,
        }
    }

    /// The client, as soon as there is one.
    pub async fn wait_connected(&self) -> Client {
        loop {
            let mut state = self.shared.state.clone();
            if state.wait_for(|state| matches!(state, State::Connected(_))).await.is_err() {
                // The task ends only after it has connected, or with its runtime: then nobody is left to be told.
                if self.client().is_none() {
                    std::future::pending::<()>().await;
                }
            }
            if let Some(client) = self.client() {
                return client;
            }
        }
    }

    /// What it was made with.
    pub fn options(&self) -> &TemporalOptions {
        &self.shared.options
    }
}

async fn connect_for_as_long_as_it_takes(prepared: Prepared, state: watch::Sender<State>) {
    let mut pause = PAUSE_MIN;
    let mut told = String::new();
    loop {
        match prepared.connect().await {
            Ok(client) => {
                tracing::info!(address = %prepared.address, "connected to Temporal");
                state.send_replace(State::Connected(client));
                return;
            }
            Err(error) => {
                let why = error.to_string();
                if why == told {
                    tracing::debug!(%why, "Temporal is still not there");
                } else {
                    tracing::warn!(%why, "Temporal is not there; going on without it until it is");
                    told.clone_from(&why);
                }
                state.send_replace(State::Connecting(Some(why)));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Options in the client's form, checked.
struct Prepared {
    address: String,
    namespace: String,
    channel: ConnectionOptions,
    connect_timeout: Duration,
}

impl Prepared {
    fn new(options: &TemporalOptions) -> Result<Self, ConnectError> {
        if options.namespace.is_empty() {
            return Err(ConnectError::Settings("the Temporal namespace is empty; it must be named".to_owned()));
        }
        let target = Target::parse(options)?;
        let tls = if target.tls { Some(channel_tls(options)?) } else { None };
        let headers =
            options.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect::<_>();
        // Payloads are small or already in one piece: compressing them costs more than it spares.
        let channel = ConnectionOptions::new(target.url)
            .identity(options.identity.clone())
            .connect_timeout(options.connect_timeout)
            .maybe_api_key(options.api_key.as_ref().map(|key| key.expose().to_owned()))
            .maybe_tls_options(tls)
            .headers(headers)
            .grpc_compression(GrpcCompression::None)
            .build();
        Ok(Self {
            address: options.address.clone(),
            namespace: options.namespace.clone(),
            channel,
            connect_timeout: options.connect_timeout,
        })
    }

    async fn connect(&self) -> Result<Client, ConnectError> {
        let unreachable = |problem: String| ConnectError::Unreachable { address: self.address.clone(), problem };
        // A name with several addresses is connected to without an end by the client.
        let channel = timeout(self.connect_timeout, Channel::connect(self.channel.clone()))
            .await
            .map_err(|_| unreachable(format!("no answer within {} ms", self.connect_timeout.as_millis())))?
            .map_err(|error| unreachable(why(&error)))?;
        Client::new(channel, ClientOptions::new(self.namespace.clone()).build())
            .map_err(|error| ConnectError::Settings(error.to_string()))
    }
}

/// What went wrong, down to the cause, without the headers that some of these errors carry.
fn why(error: &ClientConnectError) -> String {
    match error {
        ClientConnectError::SystemInfoCallError(status) => format!("{} ({:?})", words(status), status.code()),
        ClientConnectError::TonicTransportError(error) => chain(error),
        ClientConnectError::DnsResolutionError { host, source } => format!("look up '{host}': {source}"),
        error => error.to_string(),
    }
}

/// What a status says. One that the transport made says why only in its cause.
pub(crate) fn words(status: &Status) -> String {
    match status.source() {
        Some(source) if ["", TRANSPORT_ERROR].contains(&status.message()) => chain(source),
        _ => status.message().to_owned(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Some errors repeat their cause.
        if text != TRANSPORT_ERROR && words.last() != Some(&text) {
            words.push(text);
        }
        next = error.source();
    }
    words.join(": ")
}

/// An address, taken apart.
struct Target {
    url: Url,
    tls: bool,
}

impl Target {
    fn parse(options: &TemporalOptions) -> Result<Self, ConnectError> {
        let address = options.address.as_str();
        let refused =
            |problem: &str| ConnectError::Address { address: address.to_owned(), problem: problem.to_owned() };
        let (scheme, rest) = match address.split_once("://") {
            None => (None, address),
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme == "https"), rest.trim_end_matches('/')),
            Some(_) => return Err(refused("has an unknown scheme; allowed are host:port, http:// and https://")),
        };
        let tls = tls_wanted(options, scheme).map_err(refused)?;
        if rest.is_empty() || rest.contains(['/', '@', '?', '#']) {
            return Err(refused("is no address; allowed are host:port, http://host:port and https://host:port"));
        }
        let (host, port) = split_port(rest)
            .ok_or_else(|| refused("has no valid port, or is an IPv6 address without brackets; write [::1]:7233"))?;
        let scheme = if tls { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://{host}:{port}"))
            .map_err(|error| refused(&format!("is no address: {error}")))?;
        Ok(Self { url, tls })
    }
}

fn tls_wanted(options: &TemporalOptions, scheme: Option<bool>) -> Result<bool, &'static str> {
    let tls = &options.tls;
    match (tls.enabled, scheme) {
        (Some(true), Some(false)) => {
            Err("says http://, but TLS is switched on; write https:// or leave the scheme out")
        }
        (Some(false), Some(true)) => {
            Err("says https://, but TLS is switched off; write http:// or leave the scheme out")
        }
        (Some(wanted), _) | (None, Some(wanted)) => Ok(wanted),
        (None, None) => Ok(options.api_key.is_some()
            || tls.server_name.is_some()
            || [&tls.ca, &tls.cert, &tls.key].into_iter().any(Option::is_some)),
    }
}

fn split_port(rest: &str) -> Option<(&str, u16)> {
    let after_host = match rest.strip_prefix('[') {
        Some(inner) => inner.find(']').map(|end| end + 2)?,
        None => rest.find(':').unwrap_or(rest.len()),
    };
    let (host, port) = rest.split_at_checked(after_host)?;
    match port {
        "" => Some((host, PORT_DEFAULT)),
        port => Some((host, port.strip_prefix(':')?.parse().ok()?)),
    }
}

fn channel_tls(options: &TemporalOptions) -> Result<ChannelTls, ConnectError> {
    let tls = &options.tls;
    let ours = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some(
            ClientTlsOptions::builder()
                .client_cert(read("tls-cert", cert)?)
                .client_private_key(read("tls-key", key)?)
                .build(),
        ),
        (None, None) => None,
        (Some(_), None) => {
            return Err(ConnectError::Settings("tls-cert is set without tls-key; mutual TLS needs both".to_owned()));
        }
        (None, Some(_)) => {
            return Err(ConnectError::Settings("tls-key is set without tls-cert; mutual TLS needs both".to_owned()));
        }
    };
    let ca = tls.ca.as_ref().map(|ca| read("tls-ca", ca)).transpose()?;
    Ok(ChannelTls::builder()
        .maybe_server_root_ca_cert(ca)
        .maybe_domain(tls.server_name.clone())
        .maybe_client_tls_options(ours)
        .build())
}

fn read(setting: &'static str, pem: &Pem) -> Result<Vec<u8>, ConnectError> {
    match pem {
        Pem::Text(text) => Ok(text.clone()),
        Pem::File(path) => {
            std::fs::read(path).map_err(|source| ConnectError::Pem { setting, path: path.clone(), source })
        }
    }
}

#[cfg(test)]
mod tests;
