//! The client for everything that goes out: limits of time and size, redirects, and words for what failed.

use std::{
    error::Error as _,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use baton_execution::{ActivityTask, Fault, fault_type};
use reqwest::{
    Client, Method, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT},
    redirect,
};

use crate::{
    egress::{EgressPolicy, GuardedResolver, Refused},
    options::{ActivitiesError, ActivitiesOptions},
    redact::Secrets,
};

/// Redirects that are followed for one request.
const REDIRECTS_MAX: usize = 10;
/// What is read of the body of an error.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The trace that a request belongs to (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

tokio::task_local! {
    /// What requests of the activity that runs here say of their trace.
    static TRACE: Option<HeaderValue>;
}

/// Work whose requests belong to a trace.
pub(crate) async fn within_trace<T>(parent: Option<HeaderValue>, work: impl Future<Output = T>) -> T {
    TRACE.scope(parent, work).await
}

fn traceparent() -> Option<HeaderValue> {
    TRACE.try_with(Clone::clone).ok().flatten()
}

pub(crate) struct Outgoing {
    client: Client,
    /// For ports of the installation's own API: a name that is called with one leads elsewhere.
    client_of_own_port: Client,
    pub(crate) policy: Arc<EgressPolicy>,
    /// For connections that are no HTTP requests; says nothing of the protocol to speak.
    pub(crate) tls: rustls::ClientConfig,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_bytes_max: usize,
}

/// One request, with all that bounds it.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) follow_redirects: bool,
    pub(crate) deadline: Deadline,
}

/// What came back, whatever its status.
pub(crate) struct Response {
    /// Method and URL of the request that was answered: redirects change both.
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Whole, unless the status is an error's: then at most the first 64 KiB.
    pub(crate) body: Vec<u8>,
}

/// A response of which only the head is there.
pub(crate) struct Opened {
    /// Method and URL of the request that was answered.
    pub(crate) method: Method,
    pub(crate) url: Url,
    response: reqwest::Response,
}

impl Opened {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Whether its content has this type.
    pub(crate) fn is(&self, essence: &str) -> bool {
        let declared = self.response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        declared.is_some_and(|text| text.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(essence))
    }

    /// The next part of the body. The caller keeps the limits of size and time.
    pub(crate) async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        self.response.chunk().await.map_err(|error| failure(&self.url, &error))
    }
}

/// What went wrong before there was a whole response.
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// Nothing of the request took effect, or nobody can know: repeating may help.
    pub(crate) transient: bool,
}

/// When an activity must have ended.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    pub(crate) total_ms: u64,
}

impl Deadline {
    pub(crate) fn of(task: &ActivityTask) -> Self {
        let total_ms = task.start_to_close_ms.max(1);
        let now = Instant::now();
        // A duration that the clock cannot hold is as good as the longest one that it can.
        let at = now
            .checked_add(Duration::from_millis(total_ms))
            .unwrap_or_else(|| now + Duration::from_secs(u64::from(u32::MAX)));
        Self { at, total_ms }
    }

    pub(crate) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The earlier of this one and one in `millis` from now.
    pub(crate) fn within(self, millis: u64) -> Self {
        let at = Instant::now().checked_add(Duration::from_millis(millis)).unwrap_or(self.at);
        if at < self.at { Self { at, total_ms: millis } } else { self }
    }

    /// What it means that it passed before `url` answered.
    pub(crate) fn passed(self, url: &Url) -> Failure {
        let detail = format!("{} did not answer within {} ms", shown(url), self.total_ms);
        Failure { fault: Fault::new(fault_type::TIMEOUT, 408, detail), transient: false }
    }
}

impl Outgoing {
    pub(crate) fn new(options: &ActivitiesOptions) -> Result<Self, ActivitiesError> {
        let tls = tls()?;
        let mut http = tls.clone();
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connect_timeout = Duration::from_millis(options.connect_timeout_ms);
        let client = |policy: &Arc<EgressPolicy>| {
            Client::builder()
                .tls_backend_preconfigured(http.clone())
                .dns_resolver(Arc::new(GuardedResolver(Arc::clone(policy))))
                .redirect(redirect::Policy::none())
                .no_proxy()
                .referer(false)
                .connect_timeout(connect_timeout)
                .user_agent(concat!("baton/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(ActivitiesError::Client)
        };
        let policy = Arc::new(options.egress.clone());
        Ok(Self {
            client: client(&policy)?,
            client_of_own_port: client(&Arc::new(policy.of_own_port()))?,
            policy,
            tls,
            connect_timeout,
            response_bytes_max: options.response_bytes_max,
        })
    }

    /// Largest response that is read, in bytes.
    pub(crate) fn response_bytes_max(&self) -> usize {
        self.response_bytes_max
    }

    /// The client, for a library that sends requests itself, if it may call this URL. It follows no redirects and sends to
    /// judged addresses alone; limits of size and time are the library's.
    pub(crate) fn client_for(&self, url: &Url) -> Result<&Client, Failure> {
        self.policy.check_url(url).map_err(|refused| refusal(&refused))?;
        let own = url.port_or_known_default().is_some_and(|port| self.policy.is_own_port(port));
        Ok(if own { &self.client_of_own_port } else { &self.client })
    }

    /// Sends a request and reads the response, within the deadline.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, Failure> {
        let (deadline, url) = (request.deadline, request.url.clone());
        let exchange = async { self.read(self.open(request).await?).await };
        tokio::time::timeout(deadline.left(), exchange).await.unwrap_or_else(|_| Err(deadline.passed(&url)))
    }

    /// Sends a request and gives back the response once its head is there. The caller keeps the deadline.
    pub(crate) async fn open(&self, request: Request) -> Result<Opened, Failure> {
        let Request { mut method, mut url, mut headers, mut body, follow_redirects, .. } = request;
        for _ in 0..=REDIRECTS_MAX {
            let mut builder = self.client_for(&url)?.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(parent) = traceparent().filter(|_| !headers.contains_key(TRACEPARENT)) {
                builder = builder.header(TRACEPARENT, parent);
            }
            if let Some(body) = &body {
                builder = builder.body(body.clone());
            }
            let response = builder.send().await.map_err(|error| failure(&url, &error))?;
            let next = if follow_redirects { target_of(&response, &url)? } else { None };
            let Some(next) = next else { return Ok(Opened { method, url, response }) };
            let status = response.status();
            if status == StatusCode::SEE_OTHER || (matches!(status.as_u16(), 301 | 302) && method == Method::POST) {
                method = if method == Method::HEAD { Method::HEAD } else { Method::GET };
                body = None;
                headers.remove(CONTENT_TYPE);
            }
            if next.origin() != url.origin() {
                // Any other header may hold a credential that is meant for the first origin alone.
                headers = [ACCEPT, CONTENT_TYPE, USER_AGENT]
                    .into_iter()
                    .filter_map(|name| headers.get(&name).cloned().map(|value| (name, value)))
                    .collect();
            }
            url = next;
        }
        let fault = Fault::new(
            fault_type::COMMUNICATION,
            508,
            format!("{} redirects more than {REDIRECTS_MAX} times", shown(&url)),
        );
        Err(Failure { fault: fault.non_retryable(), transient: false })
    }

    /// Reads the rest of a response. The caller keeps the deadline.
    pub(crate) async fn read(&self, opened: Opened) -> Result<Response, Failure> {
        let Opened { method, url, mut response } = opened;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let is_error = status.is_client_error() || status.is_server_error();
        let max = if is_error { ERROR_BODY_BYTES_MAX.min(self.response_bytes_max) } else { self.response_bytes_max };
        let announced = response.content_length().unwrap_or(0);
        if !is_error && announced > max as u64 {
            return Err(too_large(&url, &format!("{announced} bytes"), max));
        }
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(max));
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&url, &error))? {
            if body.len() + chunk.len() > max {
                if !is_error {
                    return Err(too_large(&url, &format!("more than {max} bytes"), max));
                }
                body.extend_from_slice(&chunk[..max - body.len()]);
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { method, url, status, headers, body })
    }
}

/// A URL as people may see it: no query, which may hold a token, no fragment, no credentials.
pub(crate) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// The fault of a response whose status is an error, with the beginning of its body.
pub(crate) fn status_fault(method: &Method, url: &Url, response: &Response, secrets: &Secrets) -> Fault {
    let status = response.status;
    let start: String = secrets.redact(&String::from_utf8_lossy(&response.body)).chars().take(512).collect();
    let said = if start.trim().is_empty() { String::new() } else { format!(": {}", start.trim()) };
    let fault = Fault::new(
        fault_type::COMMUNICATION,
        status.as_u16(),
        format!("{method} {} answered {status}{said}", shown(url)),
    );
    let worth_repeating = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    if worth_repeating { fault } else { fault.non_retryable() }
}

/// A text as a header value; characters that a header cannot hold are percent-encoded.
pub(crate) fn header_text(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x21..=0x7e).contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            _ = write!(encoded, "%{byte:02X}");
        }
    }
    HeaderValue::from_str(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Where a redirect leads; `None` if the response is none that is to be followed.
fn target_of(response: &reqwest::Response, from: &Url) -> Result<Option<Url>, Failure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
    let next = location.to_str().ok().and_then(|location| from.join(location).ok());
    next.map(Some).ok_or_else(|| {
        let fault = Fault::new(
            fault_type::COMMUNICATION,
            502,
            format!("{} redirects to something that is not a URL", shown(from)),
        );
        Failure { fault: fault.non_retryable(), transient: false }
    })
}

fn refusal(refused: &Refused) -> Failure {
    Failure { fault: Fault::new(fault_type::AUTHORIZATION, 403, refused.to_string()).non_retryable(), transient: false }
}

fn too_large(url: &Url, found: &str, max: usize) -> Failure {
    let fault = Fault::new(
        fault_type::TOO_LARGE,
        413,
        format!("the response of {} has {found}; allowed are 0 to {max}", shown(url)),
    );
    Failure { fault: fault.non_retryable(), transient: false }
}

/// What an error of the client means.
pub(crate) fn failure(url: &Url, error: &reqwest::Error) -> Failure {
    let mut cause = error.source();
    let mut root = String::new();
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return refusal(refused);
        }
        root = inner.to_string();
        cause = inner.source();
    }
    let shown = shown(url);
    let fault = if error.is_timeout() {
        Fault::new(fault_type::TIMEOUT, 408, format!("connect to {shown}: no answer in time"))
    } else if error.is_dns() {
        Fault::new(fault_type::COMMUNICATION, 503, format!("resolve the host of {shown}: {root}"))
    } else if error.is_connect() {
        Fault::new(fault_type::COMMUNICATION, 503, format!("connect to {shown}: {root}"))
    } else if error.is_builder() {
        return Failure {
            fault: Fault::new(fault_type::CONFIGURATION, 400, format!("the request to {shown} cannot be made"))
                .non_retryable(),
            transient: false,
        };
    } else {
        Fault::new(fault_type::COMMUNICATION, 502, format!("the exchange with {shown} broke off: {root}"))
    };
    Failure { fault, transient: true }
}

fn tls() -> Result<rustls::ClientConfig, ActivitiesError> {
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        tracing::warn!(
            "the system has no root certificates: every https call will be refused; install ca-certificates or set SSL_CERT_FILE"
        );
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(ActivitiesError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
