//! A server on a free port with its data in a directory of its own, and objects to give it.

use std::{net::SocketAddr, path::Path};

use baton_proto::{Resource, history_v1::history_event::Attributes, v1};
use baton_server::{
    RunningServer, ServerOptions, StoreOptions,
    app::{App, ExecutionKind, ServedResource, WriteOptions},
};
use baton_types::ApiError;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const DRY: WriteOptions = WriteOptions { dry_run: true };
pub(crate) const REAL: WriteOptions = WriteOptions { dry_run: false };

pub(crate) struct Server {
    pub(crate) running: RunningServer,
    pub(crate) folder: TempDir,
}

pub(crate) fn options(folder: &Path) -> ServerOptions {
    let store = StoreOptions { free_bytes_min: 0, ballast_bytes: 0, ..StoreOptions::default() };
    ServerOptions { listen: SocketAddr::from(([127, 0, 0, 1], 0)), store, ..ServerOptions::new(folder) }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path());
        change(&mut options);
        let running = baton_server::start(options).await.unwrap();
        Self { running, folder }
    }

    pub(crate) fn app(&self) -> &App {
        &self.running.app
    }

    /// Stops the server and starts another one over the same data.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let Self { running, folder } = self;
        running.shutdown().await;
        let mut options = options(folder.path());
        change(&mut options);
        let running = baton_server::start(options).await.unwrap();
        Self { running, folder }
    }

    pub(crate) async fn stop(self) {
        self.running.shutdown().await;
    }

    pub(crate) async fn create<R: ServedResource>(&self, object: Value) -> Result<R, ApiError> {
        self.app().create(read::<R>(object), REAL).await.map(|written| written.object)
    }

    /// Follows an execution to its end and gives it as it is then.
    pub(crate) async fn ended<R: ExecutionKind>(&self, name: &str) -> R {
        let request = v1::HistoryRequest { name: name.to_owned(), ..v1::HistoryRequest::default() };
        let mut events = Box::pin(self.app().watch_history::<R>(&request).await.unwrap());
        let mut ended = false;
        while let Some(event) = events.next().await {
            ended = matches!(event.unwrap().attributes, Some(Attributes::Ended(_)));
        }
        assert!(ended, "the history of '{name}' goes to its end");
        self.app().get("", name).await.unwrap()
    }
}

/// An object from its JSON, in which only what matters is said.
pub(crate) fn read<R: Resource>(object: Value) -> R {
    baton_proto::from_json_value(object).unwrap()
}

pub(crate) fn document(name: &str, tasks: &Value) -> Value {
    json!({"document": {"dsl": "1.0.3", "namespace": "test", "name": name, "version": "1.0.0"}, "do": tasks})
}

/// A workflow that ends at once with its input.
pub(crate) fn trivial(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"definition": document(name, &json!([{"say": {"set": {"got": "${ $workflow.input }"}}}]))}})
}

/// A workflow that waits for somebody to answer.
pub(crate) fn waiting(name: &str) -> Value {
    let ask = json!([{"ask": {"call": "baton.dev/echo", "with": {"token": "${ $task.callbackToken }"}, "metadata": {"await": "callback"}}}]);
    json!({"metadata": {"name": name}, "spec": {"definition": document(name, &ask)}})
}

/// A workflow that runs another one.
pub(crate) fn calling(name: &str, callee: &str) -> Value {
    let run = json!([{"call": {"run": {"workflow": {"namespace": "test", "name": callee, "version": "1.0.0"}}}}]);
    json!({"metadata": {"name": name}, "spec": {"definition": document(name, &run)}})
}

/// An agent that plays back one answer.
pub(crate) fn agent(name: &str) -> Value {
    let playback = json!({"conversations": [{"turns": [{"text": "done"}]}]});
    json!({"metadata": {"name": name}, "spec": {"instructions": "Answer.", "model": {"name": "m", "provider": "playback", "playback": playback}}})
}

pub(crate) fn run(name: &str, workflow: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"workflow": workflow}})
}

pub(crate) fn version<R: Resource>(object: &R) -> String {
    object.metadata().unwrap().resource_version.clone()
}

/// The fields that are named, sorted.
pub(crate) fn fields(refused: &ApiError) -> Vec<String> {
    let mut fields: Vec<_> = refused.violations.iter().map(|violation| violation.field.clone()).collect();
    fields.sort();
    fields
}
