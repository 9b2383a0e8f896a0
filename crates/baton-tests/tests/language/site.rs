//! A server in this process, with either engine, and the runs on it.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use baton_engine_temporal::TemporalOptions;
use baton_proto::{
    from_json_value,
    history_v1::{HistoryEvent, history_event::Attributes, note::Note},
    to_json_value,
    v1::{HistoryRequest, Json, PublishEventsRequest, Secret, Workflow, WorkflowExecution},
};
use baton_server::{
    RunningServer, ServerOptions,
    app::{App, ServedResource, WriteOptions},
    start,
    worker::TemporalSettings,
};
use baton_temporal_testing::TemporalServer;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{kit::Outcome, world::World};

/// Where executions run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Embedded,
    Temporal,
}

pub(crate) struct Site {
    pub(crate) world: World,
    server: RunningServer,
    folder: TempDir,
    temporal: Option<TemporalSettings>,
}

impl Site {
    pub(crate) async fn start(engine: Engine) -> Self {
        static QUEUES: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let temporal = (engine == Engine::Temporal).then(|| TemporalSettings {
            task_queue: format!("language-{}-{}", std::process::id(), QUEUES.fetch_add(1, Ordering::SeqCst)),
            ..TemporalSettings::new(TemporalOptions {
                address: TemporalServer::shared().address(),
                ..TemporalOptions::default()
            })
        });
        let server = start(options(folder.path(), temporal.clone())).await.unwrap();
        Self { world: World::start().await, server, folder, temporal }
    }

    /// Stops the server and starts another one over the same data.
    pub(crate) async fn restart(self) -> Self {
        let Self { world, server, folder, temporal } = self;
        server.shutdown().await;
        let server = start(options(folder.path(), temporal.clone())).await.unwrap();
        Self { world, server, folder, temporal }
    }

    pub(crate) async fn stop(self) {
        self.server.shutdown().await;
    }

    /// What is done in one namespace.
    pub(crate) fn namespace<'s>(&'s self, namespace: &'s str) -> Place<'s> {
        Place { app: &self.server.app, namespace }
    }

    pub(crate) fn here(&self) -> Place<'_> {
        self.namespace("default")
    }
}

/// A namespace of a site.
pub(crate) struct Place<'s> {
    app: &'s App,
    namespace: &'s str,
}

impl Place<'_> {
    async fn create<R: ServedResource>(&self, name: &str, spec: Value) {
        let metadata = json!({"name": name, "namespace": self.namespace});
        let object = from_json_value::<R>(json!({"metadata": metadata, "spec": spec})).unwrap();
        let created = self.app.create(object, WriteOptions::default()).await;
        created.unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
    }

    pub(crate) async fn secret(&self, name: &str, data: &Value) {
        self.create::<Secret>(name, json!({"data": data})).await;
    }

    /// Creates a workflow.
    pub(crate) async fn workflow(&self, name: &str, definition: &Value) {
        self.create::<Workflow>(name, json!({"definition": definition})).await;
    }

    /// Creates a workflow and a run of it, both of this name.
    pub(crate) async fn run(&self, name: &str, definition: &Value, input: &Value) {
        self.workflow(name, definition).await;
        self.create::<WorkflowExecution>(name, json!({"workflow": name, "input": input})).await;
    }

    pub(crate) async fn cancel(&self, name: &str) {
        self.app.cancel::<WorkflowExecution>(self.namespace, name, "enough").await.unwrap();
    }

    pub(crate) async fn publish(&self, events: &[Value]) {
        let events: Vec<Json> = events.iter().map(Json::from_value).collect();
        let count = i32::try_from(events.len()).unwrap();
        let request = PublishEventsRequest { namespace: self.namespace.to_owned(), events };
        assert_eq!(self.app.publish_events(&request).await.unwrap().accepted, count);
    }

    /// Follows the history of a run until something is found in it, or it ends.
    async fn follow<T>(&self, name: &str, mut find: impl FnMut(HistoryEvent) -> Option<T>) -> Option<T> {
        let (namespace, name) = (self.namespace.to_owned(), name.to_owned());
        let request = HistoryRequest { namespace, name, ..HistoryRequest::default() };
        let mut events = Box::pin(self.app.watch_history::<WorkflowExecution>(&request).await.unwrap());
        while let Some(event) = events.next().await {
            if let Some(found) = find(event.unwrap()) {
                return Some(found);
            }
        }
        None
    }

    /// Until the run has subscribed so often; false if it ended before.
    pub(crate) async fn subscribed(&self, name: &str, times: usize) -> bool {
        let (mut asked, mut done) = (Vec::new(), 0);
        let find = |event: HistoryEvent| {
            match event.attributes {
                Some(Attributes::ActivityScheduled(it)) if it.activity == "subscribe" => asked.push(it.operation),
                Some(Attributes::ActivityCompleted(it)) if asked.contains(&it.operation) => done += 1,
                _ => {}
            }
            (done == times).then_some(())
        };
        self.follow(name, find).await.is_some()
    }

    /// Follows a run to its end.
    pub(crate) async fn outcome(&self, name: &str) -> Outcome {
        let mut order = Vec::new();
        let collect = |event: HistoryEvent| {
            if let Some(Attributes::Note(note)) = event.attributes
                && let Some(Note::TaskStarted(task)) = note.note
            {
                order.push(task.name);
            }
            None::<()>
        };
        self.follow(name, collect).await;
        let mut status = to_json_value(&self.get(name).await)["status"].take();
        let ending = match status["phase"].as_str() {
            Some("Completed") => Ok(status["output"].take()),
            Some("Failed") => Err(status["error"].take()),
            _ => panic!("{name}: {status}"),
        };
        Outcome { ending, order }
    }

    pub(crate) async fn get(&self, name: &str) -> WorkflowExecution {
        self.app.get(self.namespace, name).await.unwrap()
    }
}

fn options(folder: &Path, temporal: Option<TemporalSettings>) -> ServerOptions {
    let mut options = ServerOptions { temporal, ..ServerOptions::new(folder) };
    options.listen.set_port(0);
    (options.store.free_bytes_min, options.store.ballast_bytes) = (0, 0);
    // A file of the repository: one that is written here could be open for writing in a process that is just being started.
    options.run.container_engine =
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language/container-engine.sh"));
    options
}
