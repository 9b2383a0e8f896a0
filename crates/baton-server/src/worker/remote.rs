//! The ledger of a server elsewhere: [`Ledger`] over `baton.worker.v1`.
//!
//! Of several servers of one store any will do. The one that answered last is asked first; if it does not answer, the next.
//!
//! # Invariants
//! - Nothing is asked of the server before it is needed: a worker may be there before its server.
//! - Every call ends within [`CALL_LIMIT`], so whoever repeats it decides when.
//! - A report above what one message may hold goes in parts: its contents are kept first, each by itself.
//!
//! # Failure
//! An answer that was not had is `Unavailable` or `Timeout`; the same call again is harmless. A key that is refused makes
//! every call `Unauthenticated`, and [`RemoteLedger::refused`] resolves.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use baton_engine::{HostedTask, Ledger, Report, Reported};
use baton_execution::OperationId;
use baton_proto::worker_v1::{self, worker_service_client::WorkerServiceClient};
use baton_types::{ApiError, Digest, ErrorKind, Uid};
use bytes::Bytes;
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{MESSAGE_BYTES_MAX, WorkerKey, wire};

/// Longest that one call may take. A report passes within a local activity of Temporal's, which has 10 s.
const CALL_LIMIT: Duration = Duration::from_secs(8);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A server that vanished without a word is noticed after this and as much again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Above this, contents of a report are kept one by one before it. The rest of a message is far below the difference.
const REPORT_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;

/// Reasons that a server may give and that are passed on; another one of a later server is told in its words alone.
const REASONS: &[&str] = &[
    "DATA_CORRUPT",
    "EXECUTION_STALLED",
    "EXECUTION_SUSPENDED",
    "FIELD_INVALID",
    "INTERNAL",
    "LEADER_LOST",
    "LEADER_UNREACHABLE",
    "NOT_FOUND",
    "NOT_LEADING",
    "OVERLOADED",
    "REPORT_MALFORMED",
    "REPORT_NOT_FOLLOWED",
    "SHUTTING_DOWN",
    "STARTING",
    "STORAGE_FULL",
    "STORE_FAILED",
    "STORE_UNAVAILABLE",
    "WORKER_KEY_REFUSED",
];

/// The ledger of a server elsewhere, or of several of one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RemoteLedger {
    servers: Arc<[Server]>,
    /// Which of them answered last.
    asked: Arc<AtomicUsize>,
    bearer: MetadataValue<Ascii>,
    refused: watch::Sender<Option<String>>,
}

#[derive(Clone, Debug)]
struct Server {
    client: WorkerServiceClient<Channel>,
    address: String,
}

/// A URL that is not one of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a URL of a server; allowed is http://HOST:PORT, such as http://127.0.0.1:8377")]
pub struct AddressError(String);

impl Server {
    /// Connects when it is first asked.
    fn new(address: &str) -> Result<Self, AddressError> {
        let refused = || AddressError(address.to_owned());
        let endpoint = Endpoint::from_shared(address.to_owned())
            .ok()
            .filter(|it| it.uri().scheme_str() == Some("http") && it.uri().authority().is_some())
            .ok_or_else(refused)?
            .connect_timeout(CONNECT_LIMIT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let client = WorkerServiceClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client, address: address.to_owned() })
    }
}

impl RemoteLedger {
    /// The ledger of the servers at these URLs. Connects when it is first asked.
    ///
    /// # Errors
    /// If one is not a URL, or not of the scheme `http`, or there is none.
    ///
    /// # Panics
    /// Never: a key is of hexadecimal digits, which may stand in a header.
    pub fn new<A: AsRef<str>>(addresses: &[A], key: &WorkerKey) -> Result<Self, AddressError> {
        let servers = addresses.iter().map(|address| Server::new(address.as_ref())).collect::<Result<Arc<[_]>, _>>()?;
        if servers.is_empty() {
            return Err(AddressError(String::new()));
        }
        let mut bearer = MetadataValue::try_from(format!("Bearer {}", key.expose()))
            .expect("hexadecimal digits may stand in a header");
        bearer.set_sensitive(true);
        Ok(Self { servers, asked: Arc::default(), bearer, refused: watch::Sender::new(None) })
    }

    /// Asks for something that changes nothing, to see whether the server lets us in.
    ///
    /// # Errors
    /// What the server, or the way to it, says.
    pub async fn check(&self) -> Result<(), ApiError> {
        self.content(Digest::of(b"")).await.map(|_| ())
    }

    /// Resolves when the server did not let us in, with what it said.
    pub async fn refused(&self) -> String {
        let mut refused = self.refused.subscribe();
        match refused.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // The sender is ours and lives as long as we do.
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks one server after the other until one answers. To ask again is harmless, whatever became of the first time.
    pub(super) async fn call<T: prost::Message + Clone, A, F>(
        &self,
        message: T,
        call: impl Fn(WorkerServiceClient<Channel>, Request<T>) -> F,
    ) -> Result<A, ApiError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let size = message.encoded_len();
        if size > MESSAGE_BYTES_MAX {
            let message =
                format!("a message of {size} bytes does not go to the server, {MESSAGE_BYTES_MAX} are allowed");
            return Err(ApiError::new(ErrorKind::TooLarge, "BODY_TOO_LARGE", message));
        }
        let deadline = Instant::now() + CALL_LIMIT;
        let count = self.servers.len();
        let mut message = Some(message);
        let mut last = None;
        for (turn, index) in (0..count).cycle().skip(self.asked.load(Relaxed) % count).take(count).enumerate() {
            let left = count - turn;
            let Some(message) = (if left == 1 { message.take() } else { message.clone() }) else { break };
            let server = &self.servers[index];
            let mut request = Request::new(message);
            request.metadata_mut().insert("authorization", self.bearer.clone());
            let limit = deadline.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            let error = match timeout(limit, call(server.client.clone(), request)).await {
                Ok(Ok(answer)) => {
                    self.asked.store(index, Relaxed);
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) => self.error_of(&server.address, &status),
                Err(_) => ApiError::new(
                    ErrorKind::Timeout,
                    "SERVER_UNREACHABLE",
                    format!(
                        "the server at {} has not answered within {:.0} seconds",
                        server.address,
                        limit.as_secs_f64()
                    ),
                ),
            };
            if !matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Timeout) || asks_for_patience(&error) {
                self.asked.store(index, Relaxed);
                return Err(error);
            }
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| ApiError::internal("no server was asked")))
    }

    fn error_of(&self, address: &str, status: &Status) -> ApiError {
        let error = error_of(address, status);
        if error.kind == ErrorKind::Unauthenticated {
            let told = match &error.hint {
                Some(hint) => format!("{}; {hint}", error.message),
                None => error.message.clone(),
            };
            self.refused.send_replace(Some(told));
        }
        error
    }
}

/// Whether another server would say the same: it is about the execution, not about the server.
fn asks_for_patience(error: &ApiError) -> bool {
    matches!(error.reason, "EXECUTION_STALLED" | "EXECUTION_SUSPENDED" | "REPORT_NOT_FOLLOWED" | "STORE_UNAVAILABLE")
}

#[async_trait]
impl Ledger for RemoteLedger {
    async fn installation(&self) -> Result<String, ApiError> {
        let wire = worker_v1::GetInstallationRequest {};
        let answer =
            self.call(wire, |mut client, request| async move { client.get_installation(request).await }).await?;
        Ok(answer.installation)
    }

    async fn report(&self, mut report: Report) -> Result<Reported, ApiError> {
        let size = |report: &Report| -> usize {
            let events: usize = report.events.iter().map(|it| it.encoded_len() + 8).sum();
            events + report.contents.iter().map(|(_, content)| content.len() + 128).sum::<usize>()
        };
        while size(&report) > REPORT_BYTES_MAX {
            let Some((digest, content)) = report.contents.pop() else { break };
            let kept = self.keep(report.uid, content).await?;
            if kept != digest {
                return Err(ApiError::internal(format!("content {digest} was kept as {kept}")));
            }
        }
        let wire = wire::of_report(report);
        wire::reported(self.call(wire, |mut client, request| async move { client.report(request).await }).await?)
    }

    async fn task(&self, uid: Uid, id: OperationId) -> Result<Option<HostedTask>, ApiError> {
        let wire = worker_v1::GetTaskRequest { uid: uid.to_string(), operation: Some(wire::of_operation(&id)) };
        wire::task(self.call(wire, |mut client, request| async move { client.get_task(request).await }).await?)
    }

    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, ApiError> {
        let wire = worker_v1::GetContentRequest { digest: digest.to_string() };
        let answer = self.call(wire, |mut client, request| async move { client.get_content(request).await }).await?;
        match answer.content {
            Some(content) if Digest::of(&content) != digest => {
                Err(ApiError::internal(format!("what came as content {digest} is {}", Digest::of(&content))))
            }
            content => Ok(content),
        }
    }

    async fn keep(&self, uid: Uid, content: Bytes) -> Result<Digest, ApiError> {
        let wire = worker_v1::KeepContentRequest { uid: uid.to_string(), content };
        let answer = self.call(wire, |mut client, request| async move { client.keep_content(request).await }).await?;
        wire::digest("digest", &answer.digest)
    }
}

/// What a status says, as the error that the ledger gave on the other side.
fn error_of(address: &str, status: &Status) -> ApiError {
    let given = status.metadata().get("baton-reason").and_then(|it| it.to_str().ok());
    let known = given.and_then(|given| REASONS.iter().copied().find(|it| *it == given));
    let kind = kind_of(status.code(), given);
    let passes = matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::ResourceExhausted);
    let reason = known.unwrap_or(if passes && given.is_none() { "SERVER_UNREACHABLE" } else { "INTERNAL" });
    let said = match status.message() {
        "" => format!("it answered {:?}", status.code()),
        said => said.to_owned(),
    };
    let message = match (status.code(), given) {
        (Code::Unimplemented, _) => format!(
            "the server at {address} has no executions for workers: it runs the embedded engine, or is of another version"
        ),
        (_, Some(_)) => said,
        (_, None) => format!("the server at {address} cannot be asked: {}", root_cause(status).unwrap_or(said)),
    };
    let mut error = ApiError::new(kind, reason, message);
    if let Some(hint) = status.metadata().get_bin("baton-hint-bin").and_then(|it| it.to_bytes().ok()) {
        error.hint = Some(String::from_utf8_lossy(&hint).into_owned());
    }
    error
}

/// The innermost cause of a broken connection: what the operating system said.
fn root_cause(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause.to_string())
}

/// The kind of error that a code stands for; the inverse of the table of the server.
fn kind_of(code: Code, reason: Option<&str>) -> ErrorKind {
    match code {
        Code::InvalidArgument => ErrorKind::InvalidArgument,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::Aborted => ErrorKind::Conflict,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        // Without a reason it is what tonic says of a message over the limit.
        Code::OutOfRange if reason.is_none() => ErrorKind::TooLarge,
        Code::OutOfRange => ErrorKind::Gone,
        Code::ResourceExhausted if reason == Some("STORAGE_FULL") => ErrorKind::StorageFull,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::Internal if reason.is_some() => ErrorKind::Internal,
        // A connection that broke in the middle of a call has any of these; nothing is known then.
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DataLoss | Code::Internal | Code::Ok => {
            ErrorKind::Unavailable
        }
    }
}
