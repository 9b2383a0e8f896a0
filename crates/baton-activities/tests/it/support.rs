//! Servers and tasks.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::{HeaderMap, Method, Uri},
    response::Response,
};
use baton_activities::{ActivitiesOptions, Home, Homeless, Secret, Subscription, WorldActivities};
use baton_execution::{Activities as _, ActivityTask, Emitter, Fault, OperationId, Origin};
use baton_types::{Digest, Uid};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server that remembers what it was asked.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// A server that answers the n-th request, from 0, with `answer(n, request)`.
    pub(crate) async fn answering(answer: impl Fn(usize, &Seen) -> Response + Clone + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let memory = Arc::clone(&seen);
        let app = Router::new().fallback(move |request: Request| {
            let (memory, answer) = (Arc::clone(&memory), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let request = Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body };
                let number = {
                    let mut memory = memory.lock().unwrap();
                    memory.push(request.clone());
                    memory.len() - 1
                };
                answer(number, &request)
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// A server that reads the head of each request and then does `then` with the connection.
pub(crate) async fn raw_server<F: Future<Output = ()> + Send + 'static>(
    then: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok() {
                tokio::spawn(then(stream));
            }
        }
    });
    address
}

/// Writes a head that promises a body without an end, and then that body.
pub(crate) async fn stream_endlessly(mut stream: TcpStream, status: &str) {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
    if stream.write_all(head.as_bytes()).await.is_ok() {
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    }
}

/// An installation that has secrets and nothing else.
pub(crate) struct TestHome(BTreeMap<String, BTreeMap<String, Secret>>);

impl TestHome {
    /// With these secrets in the namespace `default`: names, each with keys and values.
    pub(crate) fn with(secrets: &[(&str, &[(&str, &str)])]) -> Arc<Self> {
        let values = |values: &[(&str, &str)]| {
            values.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect()
        };
        Arc::new(Self(secrets.iter().map(|(name, secret)| ((*name).to_owned(), values(secret))).collect()))
    }
}

#[async_trait::async_trait]
impl Home for TestHome {
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Secret>>, Fault> {
        assert_eq!(namespace, "default");
        Ok(self.0.get(name).cloned())
    }

    async fn publish(&self, namespace: &str, event: Value) -> Result<(), Fault> {
        Homeless.publish(namespace, event).await
    }

    async fn subscribe(&self, namespace: &str, subscription: Subscription) -> Result<(), Fault> {
        Homeless.subscribe(namespace, subscription).await
    }

    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, Fault> {
        Homeless.content(digest).await
    }
}

pub(crate) fn world(options: ActivitiesOptions) -> WorldActivities {
    WorldActivities::new(options, std::sync::Arc::new(baton_activities::Homeless)).expect("the options are good")
}

pub(crate) fn task(activity: &str, input: Value, start_to_close_ms: u64) -> ActivityTask {
    ActivityTask {
        execution: Uid::from_bytes([7; 16]),
        namespace: "default".into(),
        name: "a".into(),
        id: OperationId::new("/do/0/prüfen", 1),
        idempotency_key: "uid/do/0/prüfen/1".into(),
        activity: activity.into(),
        input,
        start_to_close_ms,
        emitter: Emitter::default(),
        origin: Origin::default(),
    }
}

/// Runs one activity with a generous timeout.
pub(crate) async fn run(options: ActivitiesOptions, activity: &str, input: Value) -> Result<Value, Fault> {
    world(options).run(task(activity, input, 30_000)).await
}

/// All that a fault tells.
pub(crate) fn told(fault: &Fault) -> String {
    serde_json::to_string(fault).unwrap()
}

/// The result of a tool without the frame in which a model is shown it.
pub(crate) fn unframed(shown: &Value) -> String {
    let text = shown.as_str().unwrap_or_else(|| panic!("no text: {shown}"));
    let (head, rest) = text.split_once('\n').unwrap();
    let (result, mark) = rest.rsplit_once('\n').unwrap();
    assert!(head.contains(&format!("up to the line '{mark}': data")), "{text}");
    result.to_owned()
}
