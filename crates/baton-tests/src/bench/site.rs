//! A server in this process with the workflows that are measured, and somebody who hears of every end.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, anyhow};
use baton_execution::{Activities, ActivityTask, Fault};
use baton_proto::v1::{self, Json, ObjectMeta, Workflow, WorkflowExecution, WorkflowExecutionSpec, WorkflowSpec};
use baton_server::{
    RunningServer, ServerOptions,
    app::{App, WriteOptions},
    start_with,
};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::oneshot;

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<String>>>>;

pub(crate) struct Site {
    pub(crate) server: RunningServer,
    waiting: Waiting,
    next: AtomicU64,
}

/// Where activities of the benchmark leave what they were given.
pub(crate) type Sink = Arc<dyn Fn(&ActivityTask) + Send + Sync>;

struct Told {
    inner: Arc<dyn Activities>,
    sink: Option<Sink>,
}

#[async_trait::async_trait]
impl Activities for Told {
    async fn run(&self, task: ActivityTask) -> Result<Value, Fault> {
        if let Some(sink) = &self.sink {
            sink(&task);
        }
        self.inner.run(task).await
    }
}

impl Site {
    pub(crate) async fn open(directory: &Path, sink: Option<Sink>) -> anyhow::Result<Self> {
        Self::open_with(ServerOptions::new(directory), sink).await
    }

    /// The same, of a server that is not quite as usual.
    pub(crate) async fn open_with(mut options: ServerOptions, sink: Option<Sink>) -> anyhow::Result<Self> {
        options.listen.set_port(0);
        let server = start_with(options, |inner| Arc::new(Told { inner, sink })).await?;
        Ok(Self { server, waiting: Waiting::default(), next: AtomicU64::new(0) })
    }

    /// Applies the workflows and begins to hear of ends.
    pub(crate) async fn prepare(&self) -> anyhow::Result<()> {
        let echo = |n: usize| json!({format!("step{n}"): {"call": "baton.dev/echo", "with": {"n": n}}});
        let ten: Vec<Value> = (0..10).map(echo).collect();
        let url = serve_no_op().await?;
        let get = |n: usize| json!({format!("step{n}"): {"call": "http", "with": {"method": "get", "endpoint": url}}});
        let ten_http: Vec<Value> = (0..10).map(get).collect();
        let child =
            json!([{"ask": {"run": {"workflow": {"namespace": "default", "name": "no-op", "version": "1.0.0"}}}}]);
        let wait = json!([{"ask": {
            "call": "baton.dev/echo",
            "with": {"token": "${ $task.callbackToken }"},
            "metadata": {"await": "callback"},
        }}]);
        for (name, tasks) in [
            ("no-op", json!([{"done": {"set": {"ok": true}}}])),
            ("ten", json!(ten)),
            ("ten-http", json!(ten_http)),
            ("handshake", child),
            ("wait", wait),
        ] {
            let definition = json!({"document": {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0"}, "do": tasks});
            let workflow = Workflow {
                metadata: Some(metadata(name.to_owned())),
                spec: Some(WorkflowSpec { definition: Some(Json::from_value(&definition)), ..WorkflowSpec::default() }),
                ..Workflow::default()
            };
            self.app().create(workflow, WriteOptions::default()).await.map_err(|error| anyhow!("{name}: {error}"))?;
        }
        self.listen().await
    }

    /// Begins to hear of ends.
    pub(crate) async fn listen(&self) -> anyhow::Result<()> {
        let (meta, _) =
            self.app().list::<WorkflowExecution>(&v1::ListRequest { limit: 1, ..Default::default() }).await?;
        let from = v1::WatchRequest { resource_version: meta.resource_version, ..Default::default() };
        let changes = self.app().watch::<WorkflowExecution>(&from, false).await?;
        let waiting = Arc::clone(&self.waiting);
        tokio::spawn(async move {
            let mut changes = std::pin::pin!(changes);
            while let Some(Ok(change)) = changes.next().await {
                let object = change.object;
                let phase = object.status.map(|status| status.phase).unwrap_or_default();
                if ["Completed", "Failed", "Cancelled", "TimedOut"].contains(&phase.as_str())
                    && let Some(told) =
                        waiting.lock().ok().and_then(|mut all| all.remove(&object.metadata.unwrap_or_default().name))
                {
                    let _gone = told.send(phase);
                }
            }
        });
        Ok(())
    }

    pub(crate) fn app(&self) -> &App {
        &self.server.app
    }

    /// A name that no execution of this site has.
    pub(crate) fn name(&self) -> String {
        format!("bench-{:08}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Resolves when the execution of this name ends; to be called before it is created.
    pub(crate) fn end_of(&self, name: &str) -> oneshot::Receiver<String> {
        let (told, end) = oneshot::channel();
        if let Ok(mut waiting) = self.waiting.lock() {
            waiting.insert(name.to_owned(), told);
        }
        end
    }

    /// Creates an execution and waits for its end.
    pub(crate) async fn run(&self, workflow: &str) -> anyhow::Result<()> {
        let name = self.name();
        let end = self.end_of(&name);
        let created = self
            .app()
            .create(execution(name, workflow), WriteOptions::default())
            .await
            .map_err(|error| anyhow!("{error}"))?;
        let phase = match created.object.status.map(|status| status.phase).unwrap_or_default() {
            phase if ["Pending", "Running"].contains(&phase.as_str()) => end.await.context("the watch ended")?,
            phase => phase,
        };
        if phase == "Completed" { Ok(()) } else { Err(anyhow!("an execution of {workflow} ended as {phase}")) }
    }
}

/// A server on loopback that answers `{}`, for as long as this process lives.
pub(crate) async fn serve_no_op() -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let router = axum::Router::new().route("/", axum::routing::get(async || axum::Json(json!({}))));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

pub(crate) fn execution(name: String, workflow: &str) -> WorkflowExecution {
    let spec = WorkflowExecutionSpec { workflow: workflow.to_owned(), ..Default::default() };
    WorkflowExecution { metadata: Some(metadata(name)), spec: Some(spec), ..Default::default() }
}

pub(crate) fn metadata(name: String) -> ObjectMeta {
    ObjectMeta { name, namespace: "default".to_owned(), ..ObjectMeta::default() }
}

/// Anonymous memory of a process, in bytes.
pub(crate) fn memory_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Size of the files in a directory, in bytes.
pub(crate) fn disk_bytes(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter(|file| !file.file_name().to_string_lossy().contains("ballast"))
        .filter_map(|file| file.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}
