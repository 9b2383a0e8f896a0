//! What earlier versions wrote can be gone on with: recorded histories replay to the same commands, and a store of theirs
//! opens and goes on. The fixtures are added to, never edited.
//!
//! `RECORD_FIXTURES=NAME cargo test -p baton-tests` records those of this version under a new name.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_execution::{Command, HistoryEventKind, Program, Recorded};
use baton_proto::{NoBlobs, history_v1, v1};
use baton_server::{RunningServer, ServerOptions, app::WriteOptions, start};
use prost::Message as _;
use serde_json::{Value, json};

/// A history as a fixture: what it ran, and every event.
#[derive(Clone, PartialEq, prost::Message)]
struct RecordedHistory {
    /// `Workflow` or `Agent`.
    #[prost(string, tag = "1")]
    kind: String,
    /// The pinned content, as JSON.
    #[prost(string, tag = "2")]
    definition: String,
    #[prost(message, repeated, tag = "3")]
    events: Vec<history_v1::HistoryEvent>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn program(history: &RecordedHistory) -> Box<dyn Program> {
    let definition: Value = serde_json::from_str(&history.definition).unwrap();
    if history.kind == "Agent" {
        Box::new(baton_agent::load(Arc::new(baton_agent::check(&definition).unwrap())))
    } else {
        Box::new(baton_workflow::load(Arc::new(baton_workflow::check(&definition).unwrap())))
    }
}

/// Feeds the recorded inputs and compares the commands with those recorded.
fn replay(history: &RecordedHistory) {
    let mut program = program(history);
    let mut produced = std::collections::VecDeque::<Command>::new();
    for event in &history.events {
        let event = baton_proto::decode_event(event, &NoBlobs).unwrap();
        match event.kind {
            HistoryEventKind::Input(baton_execution::Input::ChildStarted { .. }) => {}
            HistoryEventKind::Input(input) => {
                assert_eq!(produced.len(), 0, "event {}: commands that history does not have", event.number);
                produced = program.on_input(&Recorded { time_ms: event.time_ms, input }).unwrap().into();
            }
            HistoryEventKind::Command(recorded) => {
                assert_eq!(produced.pop_front().as_ref(), Some(&recorded), "event {}", event.number);
            }
        }
    }
    assert_eq!(produced.len(), 0);
}

fn check_histories(folder: &Path) {
    let mut replayed = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let history = RecordedHistory::decode(fs::read(&path).unwrap().as_slice()).unwrap();
        assert!(history.events.len() > 5, "{}", path.display());
        replay(&history);
        replayed += 1;
    }
    assert!(replayed >= 3, "{} has too few", folder.display());
}

#[test]
fn recorded_histories_replay() {
    let versions: Vec<_> =
        fs::read_dir(fixtures().join("histories")).unwrap().map(|version| version.unwrap().path()).collect();
    assert!(!versions.is_empty());
    for version in &versions {
        check_histories(version);
    }
}

#[test]
fn a_changed_program_is_noticed() {
    let path = fixtures().join("histories/v0.1/parent.binpb");
    let mut history = RecordedHistory::decode(fs::read(path).unwrap().as_slice()).unwrap();
    history.definition = history.definition.replace("\"ask\"", "\"asked\"");
    assert!(std::panic::catch_unwind(|| replay(&history)).is_err());
}

async fn server(directory: &Path) -> RunningServer {
    let mut options = ServerOptions::new(directory);
    options.listen.set_port(0);
    options.store.free_bytes_min = 0;
    options.store.ballast_bytes = 0;
    start(options).await.unwrap()
}

async fn ended(server: &RunningServer, name: &str) -> v1::WorkflowExecution {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let execution: v1::WorkflowExecution = server.app.get("default", name).await.unwrap();
        let phase = execution.status.as_ref().unwrap().phase.clone();
        if phase != "Running" {
            return execution;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name} is still {phase}");
        let after = v1::HistoryRequest { namespace: "default".into(), name: name.into(), after: 0, limit: 0 };
        let _events = server.app.history::<v1::WorkflowExecution>(&after).await.unwrap();
        tokio::task::yield_now().await;
    }
}

async fn check_store(version: &Path) {
    let directory = tempfile::tempdir().unwrap();
    for file in fs::read_dir(version).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, directory.path().join(file.file_name().unwrap())).unwrap();
    }
    let token = fs::read(version.join("token.txt")).unwrap();
    let server = server(directory.path()).await;
    let done: v1::WorkflowExecution = server.app.get("default", "done").await.unwrap();
    assert_eq!(done.status.unwrap().phase, "Completed");
    let answer = v1::CompleteCallbackRequest { callback_token: token, output: Some(v1::Json::from_value(&json!(41))) };
    server.app.complete_callback(&answer).await.unwrap();
    let waited = ended(&server, "waits").await.status.unwrap();
    assert_eq!(
        (waited.phase.as_str(), waited.output.unwrap().text.as_str()),
        ("Completed", "42"),
        "{}",
        version.display()
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_an_earlier_version_opens_and_goes_on() {
    let versions: Vec<_> =
        fs::read_dir(fixtures().join("stores")).unwrap().map(|version| version.unwrap().path()).collect();
    assert!(!versions.is_empty());
    for version in versions {
        check_store(&version).await;
    }
}

fn execution(name: &str, definition: &Value) -> v1::WorkflowExecution {
    v1::WorkflowExecution {
        metadata: Some(v1::ObjectMeta { name: name.into(), namespace: "default".into(), ..Default::default() }),
        spec: Some(v1::WorkflowExecutionSpec {
            definition: Some(v1::Json::from_value(definition)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn document(tasks: &Value) -> Value {
    json!({"document": {"dsl": "1.0.3", "namespace": "default", "name": "fixture", "version": "1.0.0"}, "do": tasks})
}

fn parent() -> Value {
    let agent = json!({
        "instructions": "Answer.",
        "model": {"name": "scripted", "provider": "playback", "playback": {"conversations": [{"turns": [{"text": "yes"}]}]}},
    });
    document(&json!([
        {"both": {"fork": {"branches": [
            {"one": {"call": "baton.dev/echo", "with": {"n": 1}}},
            {"two": {"do": [{"pause": {"wait": {"milliseconds": 5}}}, {"two-set": {"set": {"n": 2}}}]}},
        ]}}},
        {"each": {"for": {"each": "n", "in": "${ [1, 2] }"}, "do": [{"again": {"call": "baton.dev/echo", "with": {"n": "${ $n }"}}}]}},
        {"guarded": {"try": [{"boom": {"raise": {"error": {"type": "https://example.com/boom", "status": 500}}}}], "catch": {"do": [{"mended": {"set": {"ok": true}}}]}}},
        {"ask": {"call": "baton.dev/agent", "with": {"agent": agent, "message": "Well?"}}},
    ]))
}

/// What this version writes, it can go on with; if it is asked to, it leaves that as a fixture for later ones.
#[tokio::test(flavor = "multi_thread")]
async fn what_this_version_writes_it_can_go_on_with() {
    let scratch = tempfile::tempdir().unwrap();
    let (target, name) = match std::env::var("RECORD_FIXTURES") {
        Ok(name) => (fixtures(), name),
        Err(_) => (scratch.path().to_owned(), "now".to_owned()),
    };
    let histories = target.join("histories").join(&name);
    let store = target.join("stores").join(&name);
    fs::create_dir_all(&histories).unwrap();
    fs::create_dir_all(&store).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let running = server(directory.path()).await;
    let waits = document(&json!([
        {"ask": {"call": "baton.dev/echo", "metadata": {"await": "callback"}, "with": {"token": "${ $task.callbackToken }"}}},
        {"add": {"set": "${ . + 1 }"}},
    ]));
    let simple = document(
        &json!([{"step": {"call": "baton.dev/echo", "with": {"n": 5}}}, {"pause": {"wait": {"milliseconds": 5}}}, {"out": {"set": "${ .n }"}}]),
    );
    for (name, definition) in [("parent", parent()), ("done", simple.clone())] {
        running.app.create(execution(name, &definition), WriteOptions::default()).await.unwrap();
        let ended = ended(&running, name).await;
        assert_eq!(ended.status.unwrap().phase, "Completed");
        write(
            &histories.join(format!("{name}.binpb")),
            "Workflow",
            &definition,
            history::<v1::WorkflowExecution>(&running, name).await,
        );
    }
    let (_, agents) = running.app.list::<v1::AgentExecution>(&v1::ListRequest::default()).await.unwrap();
    let agent = &agents[0];
    let definition = baton_proto::to_json_value(agent.spec.as_ref().unwrap().definition.as_ref().unwrap());
    write(
        &histories.join("agent.binpb"),
        "Agent",
        &definition,
        history::<v1::AgentExecution>(&running, &agent.metadata.as_ref().unwrap().name).await,
    );
    // The token goes to the fixture by way of a service that the workflow calls, as it does in life.
    let (sender, mut tokens) = tokio::sync::mpsc::unbounded_channel::<String>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/", axum::routing::post(async move |body: String| drop(sender.send(body))));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut asking = waits;
    asking["do"][0]["ask"] = json!({"call": "http", "metadata": {"await": "callback"}, "with": {"method": "post", "endpoint": url, "body": "${ $task.callbackToken }"}});
    running.app.create(execution("waits", &asking), WriteOptions::default()).await.unwrap();
    let token = tokens.recv().await.unwrap();
    loop {
        let waits: v1::WorkflowExecution = running.app.get("default", "waits").await.unwrap();
        if waits.status.unwrap().conditions.iter().any(|condition| {
            condition.r#type == "Waiting" && condition.status == "True" && condition.reason == "Callback"
        }) {
            break;
        }
        tokio::task::yield_now().await;
    }
    running.shutdown().await;
    serving.abort();
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() && file.extension().is_none_or(|extension| extension != "lock") {
            fs::copy(&file, store.join(file.file_name().unwrap())).unwrap();
        }
    }
    fs::write(store.join("token.txt"), token.trim_matches('"')).unwrap();
    check_histories(&histories);
    check_store(&store).await;
}

async fn history<R: baton_server::app::ExecutionKind>(
    server: &RunningServer,
    name: &str,
) -> Vec<history_v1::HistoryEvent> {
    let request = v1::HistoryRequest { namespace: "default".into(), name: name.into(), after: 0, limit: 1000 };
    server.app.history::<R>(&request).await.unwrap().events
}

fn write(path: &Path, kind: &str, definition: &Value, events: Vec<history_v1::HistoryEvent>) {
    let history = RecordedHistory { kind: kind.to_owned(), definition: definition.to_string(), events };
    fs::write(path, history.encode_to_vec()).unwrap();
}
