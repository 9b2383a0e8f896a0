//! The real Python SDK answers: its client connects to Baton, and completes, fails, heartbeats and cancels.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{LIMIT, Method, RUNS, StatusCode, World, send};

/// The SDK in a process of its own: a line of JSON to be done, a line with how it went.
struct Sdk {
    _process: Child,
    ask: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
}

impl Sdk {
    async fn connect(world: &World) -> Self {
        let address = world.server.running.address.to_string();
        let mut process = Command::new(baton_temporal_testing::python())
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/temporal/answers.py"), &address])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (ask, told) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut sdk = Self { _process: process, ask, told: BufReader::new(told).lines() };
        assert_eq!(sdk.next().await, json!({"connected": true, "healthy": true, "namespace": "default"}));
        sdk
    }

    async fn next(&mut self) -> Value {
        let line = timeout(LIMIT, self.told.next_line()).await.expect("the SDK answers").unwrap();
        serde_json::from_str(&line.expect("the SDK goes on")).unwrap()
    }

    async fn does(&mut self, what: Value) -> Value {
        self.ask.write_all(format!("{what}\n").as_bytes()).await.unwrap();
        self.next().await
    }
}

#[tokio::test]
async fn the_python_sdk_answers_waiting_tasks() {
    let world = World::new().await;
    let mut sdk = Sdk::connect(&world).await;
    let ended = |name: &'static str| world.server.ended("workflowexecutions", name);

    let token = world.asked("completed").await;
    assert_eq!(sdk.does(json!({"do": "heartbeat", "token": token})).await, json!({"ok": true}));
    let value = json!({"verdict": "refund", "by": ["ann", 7, null]});
    assert_eq!(sdk.does(json!({"do": "complete", "token": token, "value": value})).await, json!({"ok": true}));
    assert_eq!(world.output("completed").await, value);
    let again = sdk.does(json!({"do": "complete", "token": token, "value": 2})).await;
    assert_eq!(again["error"], "NOT_FOUND", "{again}");

    let token = world.asked("nothing").await;
    assert_eq!(sdk.does(json!({"do": "complete with nothing", "token": token})).await, json!({"ok": true}));
    assert_eq!(world.output("nothing").await, Value::Null);

    let token = world.asked("failed").await;
    assert_eq!(sdk.does(json!({"do": "fail", "token": token})).await, json!({"ok": true}));
    let error = ended("failed").await["status"]["error"].clone();
    assert_eq!(
        error,
        json!({"type": "DeskClosed", "title": "DeskClosed", "status": 500, "detail": "nobody is there",
               "instance": "/do/0/ask", "nonRetryable": true, "data": {"desk": 7}})
    );

    let token = world.asked("raised").await;
    assert_eq!(sdk.does(json!({"do": "raise", "token": token})).await, json!({"ok": true}));
    let error = ended("raised").await["status"]["error"].clone();
    assert_eq!((&error["type"], &error["detail"]), (&json!("ValueError"), &json!("bad order: no such key")), "{error}");

    let token = world.asked("cancelled").await;
    let answer = sdk.does(json!({"do": "report cancellation", "token": token, "details": "desk closed"})).await;
    assert_eq!(answer, json!({"ok": true}));
    let error = ended("cancelled").await["status"]["error"].clone();
    assert_eq!(error["type"], "https://baton.dev/errors/cancelled", "{error}");
    assert!(error["detail"].as_str().unwrap().contains("desk closed"), "{error}");

    let token = world.asked("stopped").await;
    send(world.server.request(Method::POST, &format!("{RUNS}/stopped/cancel"))).await.expect(StatusCode::OK);
    assert_eq!(ended("stopped").await["status"]["phase"], "Cancelled");
    assert_eq!(sdk.does(json!({"do": "heartbeat", "token": token})).await, json!({"cancel": true}));
    let answer = sdk.does(json!({"do": "report cancellation", "token": token, "details": "as asked"})).await;
    assert_eq!(answer, json!({"ok": true}));
}

#[tokio::test]
async fn the_python_sdk_is_refused_what_is_wrong() {
    let world = World::new().await;
    let mut sdk = Sdk::connect(&world).await;
    for (token, says) in [("", "Task token not set"), ("nonsense", "Error deserializing task token.")] {
        for what in ["complete with nothing", "fail", "heartbeat"] {
            let answer = sdk.does(json!({"do": what, "token": token})).await;
            assert_eq!(answer["error"], "INVALID_ARGUMENT", "{what} '{token}': {answer}");
            assert!(answer["message"].as_str().unwrap().contains(says), "{what} '{token}': {answer}");
        }
    }
    let token = world.asked("run").await;
    let answer = sdk.does(json!({"do": "complete with bytes", "token": token})).await;
    assert_eq!(answer["error"], "INVALID_ARGUMENT", "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("'binary/plain'"), "{answer}");
    let answer = sdk.does(json!({"do": "start a workflow"})).await;
    assert_eq!(answer["error"], "UNIMPLEMENTED", "{answer}");
    assert!(answer["message"].as_str().unwrap().starts_with("StartWorkflowExecution is not offered"), "{answer}");
    assert_eq!(sdk.does(json!({"do": "complete", "token": token, "value": 1})).await, json!({"ok": true}));
    assert_eq!(world.output("run").await, json!(1));
}
