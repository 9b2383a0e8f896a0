//! A server whose executions run at Temporal, somebody whom they ask, and the recorder of their histories.

use std::{fs, path::Path, sync::Arc, time::Duration};

use baton_engine::{Host as _, HostState};
use baton_engine_temporal::{Connection, TemporalHost, TemporalOptions, replay_history};
use baton_proto::{from_json_value, to_json_value, v1, worker_v1::worker_service_client::WorkerServiceClient};
use baton_server::{
    RunningServer, ServerOptions,
    app::{ServedResource, WriteOptions},
    start,
    worker::{TemporalSettings, WORKER_KEY_FILE},
};
use baton_temporal_testing::TemporalServer;
use prost::Message as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::history::v1::{History, history_event::Attributes};
use tonic::transport::Endpoint;

use crate::{
    FIRST_RUN, check_clean,
    contents::{Contents, Server},
    desk::Desk,
    flows,
};

/// Pause between two looks, and how many there are.
const LOOK: (Duration, u32) = (Duration::from_millis(20), 6000);

pub(crate) struct Site {
    pub(crate) server: RunningServer,
    pub(crate) desk: Desk,
    host: TemporalHost,
    directory: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn start(task_queue: &str, continue_as_new_events: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(directory.path());
        options.listen.set_port(0);
        (options.store.free_bytes_min, options.store.ballast_bytes) = (0, 0);
        let connection = TemporalOptions {
            address: TemporalServer::shared().address(),
            // The usual one names the machine.
            identity: "fixture".to_owned(),
            ..TemporalOptions::default()
        };
        options.temporal = Some(TemporalSettings {
            task_queue: task_queue.to_owned(),
            continue_as_new_events,
            ..TemporalSettings::new(connection.clone())
        });
        let server = start(options).await.unwrap();
        let host = TemporalHost::new(Connection::start(connection).unwrap(), task_queue);
        let site = Self { server, desk: Desk::start().await, host, directory };
        site.create::<v1::Workflow>(&flows::look_up()).await;
        site
    }

    pub(crate) async fn stop(self) {
        self.server.shutdown().await;
    }

    pub(crate) async fn create<R: ServedResource + DeserializeOwned>(&self, object: &Value) {
        let object = from_json_value::<R>(object.clone()).unwrap();
        self.server.app.create(object, WriteOptions::default()).await.unwrap();
    }

    /// Starts an execution of this definition that knows where the desk is.
    pub(crate) async fn run(&self, name: &str, tasks: &Value, timeout: &str) {
        let spec =
            json!({"definition": flows::document(name, tasks), "input": {"desk": self.desk.url}, "timeout": timeout});
        let object = json!({"apiVersion": "baton.dev/v1", "kind": "WorkflowExecution", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
        self.create::<v1::WorkflowExecution>(&object).await;
    }

    /// An execution, once it is in one of these phases.
    pub(crate) async fn in_phase<R: ServedResource + Serialize>(&self, name: &str, phases: &[&str]) -> Value {
        let mut last = Value::Null;
        for _ in 0..LOOK.1 {
            last = to_json_value(&self.server.app.get::<R>("default", name).await.unwrap());
            if phases.iter().any(|phase| last["status"]["phase"] == *phase) {
                return last;
            }
            tokio::time::sleep(LOOK.0).await;
        }
        panic!("{name} is not one of {phases:?} but {last:#}")
    }

    /// The ended execution of this name: there is a workflow's or an agent's.
    async fn ended(&self, name: &str) -> Value {
        const ENDS: [&str; 4] = ["Completed", "Failed", "Cancelled", "TimedOut"];
        if self.server.app.get::<v1::WorkflowExecution>("default", name).await.is_ok() {
            self.in_phase::<v1::WorkflowExecution>(name, &ENDS).await
        } else {
            self.in_phase::<v1::AgentExecution>(name, &ENDS).await
        }
    }

    /// Waits until the workflow of an execution has been given a signal.
    pub(crate) async fn signalled(&self, name: &str) {
        let object = to_json_value(&self.server.app.get::<v1::WorkflowExecution>("default", name).await.unwrap());
        let workflow_id = object["status"]["temporalWorkflowId"].as_str().unwrap();
        for _ in 0..LOOK.1 {
            let history = self.host.history(workflow_id, None).await.unwrap();
            let events = History::decode(history.as_slice()).unwrap().events;
            let signalled = |it: &Attributes| matches!(it, Attributes::WorkflowExecutionSignaledEventAttributes(_));
            if events.iter().filter_map(|event| event.attributes.as_ref()).any(signalled) {
                return;
            }
            tokio::time::sleep(LOOK.0).await;
        }
        panic!("{name} is given no signal")
    }

    /// Writes the histories of an execution that ends, and what their replay needs.
    pub(crate) async fn record(&self, name: &str, folder: &Path) {
        let object = self.ended(name).await;
        assert_eq!(object["status"]["phase"], flows::phase(name), "{object:#}");
        let workflow_id = object["status"]["temporalWorkflowId"].as_str().unwrap();
        let contents = folder.join("contents");
        fs::create_dir_all(&contents).unwrap();
        let server = self.seen_by_workers();
        let runs = self.runs(workflow_id).await;
        for (index, history) in runs.iter().enumerate() {
            let file = if index == 0 { FIRST_RUN.to_owned() } else { format!("run-{}.binpb", index + 1) };
            fs::write(folder.join(file), history).unwrap();
            let asking = Contents::of(server.clone(), &contents);
            let replayed = replay_history(history, Arc::new(asking), baton_server::programs());
            assert_eq!(replayed, Ok(()), "{name}, run {}", index + 1);
        }
        let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let directory = self.directory.path().display().to_string();
        let secret: Vec<String> =
            [machine, directory, server.key].into_iter().filter(|word| word.len() > 3 && word != "localhost").collect();
        check_clean(folder, &secret);
    }

    /// The histories of a workflow that ends, run by run.
    async fn runs(&self, workflow_id: &str) -> Vec<Vec<u8>> {
        for _ in 0..LOOK.1 {
            match self.host.state(workflow_id).await {
                Ok(HostState::Ended { .. }) => break,
                _ => tokio::time::sleep(LOOK.0).await,
            }
        }
        let mut runs = Vec::new();
        let mut run = None;
        loop {
            let history = self.host.history(workflow_id, run.as_deref()).await.unwrap();
            let first = History::decode(history.as_slice()).unwrap().events.swap_remove(0).attributes;
            let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) = first else {
                panic!("a history begins with {first:?}")
            };
            runs.insert(0, history);
            if started.continued_execution_run_id.is_empty() {
                return runs;
            }
            run = Some(started.continued_execution_run_id);
        }
    }

    fn seen_by_workers(&self) -> Server {
        let url = format!("http://{}", self.server.address);
        let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
        let key = fs::read_to_string(self.directory.path().join(WORKER_KEY_FILE)).unwrap();
        Server { client: WorkerServiceClient::new(channel), key: key.trim().to_owned() }
    }
}
