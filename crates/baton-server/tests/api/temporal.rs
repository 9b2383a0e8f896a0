//! Temporal's own calls for answering an activity, for waiting tasks of Baton's: by a plain client, and by the Python SDK.

mod python;

use std::{collections::BTreeMap, net::Ipv4Addr};

use axum::{Json, Router, extract::State, routing::post};
use baton_proto::temporal::{
    common::v1::{Payload, Payloads},
    failure::v1::{ApplicationFailureInfo, CanceledFailureInfo, Failure, failure::FailureInfo},
    workflowservice::v1::{
        DescribeNamespaceRequest, GetSystemInfoRequest, RecordActivityTaskHeartbeatRequest,
        RespondActivityTaskCanceledRequest, RespondActivityTaskCompletedRequest, RespondActivityTaskFailedRequest,
        workflow_service_client::WorkflowServiceClient,
    },
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
};
use tonic::{Code, Status, codec::CompressionEncoding, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::harness::{LIMIT, Server, client, send, with_tasks, workflow_execution};

const RUNS: &str = "namespaces/default/workflowexecutions";
const SERVICE: &str = "temporal.api.workflowservice.v1.WorkflowService";

/// What is offered.
const METHODS: [&str; 6] = [
    "GetSystemInfo",
    "DescribeNamespace",
    "RecordActivityTaskHeartbeat",
    "RespondActivityTaskCompleted",
    "RespondActivityTaskFailed",
    "RespondActivityTaskCanceled",
];

/// A server that answers as Temporal does, and a worker's desk to which its tasks send their tokens.
struct World {
    server: Server,
    tokens: Mutex<UnboundedReceiver<String>>,
    desk: String,
}

impl World {
    async fn new() -> Self {
        async fn take(State(tell): State<UnboundedSender<String>>, Json(task): Json<Value>) {
            tell.send(task["token"].as_str().unwrap().to_owned()).unwrap();
        }
        let (tell, tokens) = unbounded_channel();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let desk = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, Router::new().route("/", post(take)).with_state(tell)).into_future());
        let server = Server::start_with(|options| options.temporal_compatible = true).await;
        let world = Self { server, tokens: Mutex::new(tokens), desk };
        let ask = world.task();
        world.workflow("ask", &json!([{"ask": ask}])).await;
        world
    }

    /// A task that waits for the worker.
    fn task(&self) -> Value {
        json!({"call": "http", "metadata": {"await": "callback"},
               "with": {"method": "post", "endpoint": self.desk, "body": {"token": "${ $task.callbackToken }"}}})
    }

    async fn workflow(&self, name: &str, tasks: &Value) {
        self.server.post("namespaces/default/workflows", &with_tasks(name, tasks)).await.expect(StatusCode::CREATED);
    }

    async fn run(&self, name: &str, workflow: &str) {
        self.server.post(RUNS, &workflow_execution(name, workflow)).await.expect(StatusCode::CREATED);
    }

    /// The next token that comes to the desk.
    async fn token(&self) -> String {
        let mut tokens = self.tokens.lock().await;
        tokio::time::timeout(LIMIT, tokens.recv()).await.expect("a task sends its token").unwrap()
    }

    /// The token of a new run of `ask`.
    async fn asked(&self, name: &str) -> String {
        self.run(name, "ask").await;
        self.token().await
    }

    async fn client(&self) -> WorkflowServiceClient<Channel> {
        WorkflowServiceClient::new(self.server.channel().await)
    }

    async fn phase(&self, name: &str) -> String {
        let run = self.server.get(&format!("{RUNS}/{name}")).await.expect(StatusCode::OK);
        run["status"]["phase"].as_str().unwrap().to_owned()
    }

    async fn output(&self, name: &str) -> Value {
        let ended = self.server.ended("workflowexecutions", name).await;
        assert_eq!(ended["status"]["phase"], "Completed", "{ended}");
        ended["status"]["output"].clone()
    }
}

fn payload(encoding: &str, data: impl Into<Vec<u8>>) -> Payload {
    let metadata = BTreeMap::from([("encoding".to_owned(), encoding.as_bytes().to_vec())]);
    Payload { metadata, data: data.into() }
}

fn plain(values: &[Value]) -> Payloads {
    Payloads { payloads: values.iter().map(|it| payload("json/plain", it.to_string())).collect() }
}

fn completed(token: &str, result: impl Into<Option<Payloads>>) -> RespondActivityTaskCompletedRequest {
    RespondActivityTaskCompletedRequest { task_token: token.into(), result: result.into() }
}

fn failed(token: &str, message: &str, info: FailureInfo) -> RespondActivityTaskFailedRequest {
    let failure = Failure { message: message.to_owned(), failure_info: Some(info), ..Failure::default() };
    RespondActivityTaskFailedRequest { task_token: token.into(), failure: Some(failure) }
}

fn application(kind: &str, details: impl Into<Option<Payloads>>) -> FailureInfo {
    FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
        r#type: kind.to_owned(),
        details: details.into(),
        ..ApplicationFailureInfo::default()
    })
}

fn cancelled(token: &str, details: impl Into<Option<Payloads>>) -> RespondActivityTaskCanceledRequest {
    RespondActivityTaskCanceledRequest { task_token: token.into(), details: details.into() }
}

fn heartbeat(token: &str) -> RecordActivityTaskHeartbeatRequest {
    RecordActivityTaskHeartbeatRequest { task_token: token.into() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(status.metadata().get("baton-reason").map(|it| it.to_str().unwrap()), Some(reason), "{status:?}");
    status.message().to_owned()
}

#[tokio::test]
async fn an_activity_is_completed_once() {
    let world = World::new().await;
    let mut client = world.client().await;
    for (name, result, output) in [
        (
            "value",
            Some(plain(&[json!({"verdict": "refund", "n": 9_007_199_254_740_993_i64})])),
            json!({"verdict": "refund", "n": 9_007_199_254_740_993_i64}),
        ),
        ("nothing", None, json!(null)),
        ("null", Some(Payloads { payloads: vec![payload("binary/null", "")] }), json!(null)),
        ("proto", Some(Payloads { payloads: vec![payload("json/protobuf", "{\"a\":1}")] }), json!({"a": 1})),
        ("several", Some(plain(&[json!(1), json!("b")])), json!([1, "b"])),
    ] {
        let token = world.asked(name).await;
        let heard = client.record_activity_task_heartbeat(heartbeat(&token)).await.unwrap().into_inner();
        assert!(!heard.cancel_requested, "{name}");
        client.respond_activity_task_completed(completed(&token, result)).await.unwrap();
        assert_eq!(world.output(name).await, output, "{name}");
        let again = client.respond_activity_task_completed(completed(&token, None)).await;
        let message = refused(again, Code::NotFound, "CALLBACK_ALREADY_COMPLETED");
        assert!(message.contains("was answered before") && !message.contains(&token), "{message}");
        refused(
            client.record_activity_task_heartbeat(heartbeat(&token)).await,
            Code::NotFound,
            "CALLBACK_ALREADY_COMPLETED",
        );
        refused(
            client.respond_activity_task_canceled(cancelled(&token, None)).await,
            Code::NotFound,
            "CALLBACK_ALREADY_COMPLETED",
        );
    }
}

#[tokio::test]
async fn a_failure_can_be_caught_by_its_type() {
    let world = World::new().await;
    let caught = json!([
        {"try": {"try": [{"ask": world.task()}],
                 "catch": {"errors": {"with": {"type": "DeskClosed"}}, "as": "error",
                           "do": [{"tell": {"set": {"caught": "${ $error }"}}}]}}},
    ]);
    world.workflow("catches", &caught).await;
    let mut client = world.client().await;
    world.run("caught", "catches").await;
    let token = world.token().await;
    let failure = application("DeskClosed", plain(&[json!({"desk": 7})]));
    client.respond_activity_task_failed(failed(&token, "nobody is there", failure)).await.unwrap();
    let error = world.output("caught").await["caught"].clone();
    assert_eq!(
        (&error["type"], &error["detail"], &error["status"], &error["data"]),
        (&json!("DeskClosed"), &json!("nobody is there"), &json!(500), &json!({"desk": 7})),
        "{error}"
    );
    world.run("failed", "catches").await;
    let token = world.token().await;
    client.respond_activity_task_failed(failed(&token, "no paper", application("ValueError", None))).await.unwrap();
    let ended = world.server.ended("workflowexecutions", "failed").await;
    assert_eq!(
        (&ended["status"]["phase"], &ended["status"]["error"]["type"], &ended["status"]["error"]["detail"]),
        (&json!("Failed"), &json!("ValueError"), &json!("no paper")),
        "{ended}"
    );
    let again = client.respond_activity_task_failed(failed(&token, "no paper", application("ValueError", None))).await;
    refused(again, Code::NotFound, "CALLBACK_ALREADY_COMPLETED");
}

#[tokio::test]
async fn each_attempt_has_its_own_token() {
    let world = World::new().await;
    let retry = json!({"delay": {"milliseconds": 1}, "limit": {"attempt": {"count": 2}}});
    world.workflow("retries", &json!([{"try": {"try": [{"ask": world.task()}], "catch": {"retry": retry}}}])).await;
    world.run("run", "retries").await;
    let mut client = world.client().await;
    let first = world.token().await;
    client.respond_activity_task_failed(failed(&first, "once more", application("Busy", None))).await.unwrap();
    let second = world.token().await;
    let stale = client.respond_activity_task_completed(completed(&first, None)).await;
    refused(stale, Code::NotFound, "CALLBACK_TOKEN_STALE");
    client.respond_activity_task_completed(completed(&second, plain(&[json!({"n": 2})]))).await.unwrap();
    assert_eq!(world.output("run").await, json!({"n": 2}));
}

#[tokio::test]
async fn an_activity_that_was_cancelled_says_so() {
    let world = World::new().await;
    let mut client = world.client().await;
    let info = |details| FailureInfo::CanceledFailureInfo(CanceledFailureInfo { details: Some(details) });
    for name in ["report", "failure"] {
        let token = world.asked(name).await;
        let details = plain(&[json!("desk closed")]);
        if name == "report" {
            client.respond_activity_task_canceled(cancelled(&token, details)).await.unwrap();
        } else {
            client.respond_activity_task_failed(failed(&token, "Cancelled", info(details))).await.unwrap();
        }
        let ended = world.server.ended("workflowexecutions", name).await;
        let error = &ended["status"]["error"];
        assert_eq!(error["type"], "https://baton.dev/errors/cancelled", "{ended}");
        assert!(error["detail"].as_str().unwrap().contains("desk closed"), "{ended}");
    }
}

#[tokio::test]
async fn a_cancelled_execution_is_told_by_heartbeat() {
    let world = World::new().await;
    let mut client = world.client().await;
    let token = world.asked("run").await;
    send(world.server.request(Method::POST, &format!("{RUNS}/run/cancel"))).await.expect(StatusCode::OK);
    assert_eq!(world.server.ended("workflowexecutions", "run").await["status"]["phase"], "Cancelled");
    let heard = client.record_activity_task_heartbeat(heartbeat(&token)).await.unwrap().into_inner();
    assert!(heard.cancel_requested);
    // A worker reports that it has stopped, as often as it likes; a result comes too late.
    client.respond_activity_task_canceled(cancelled(&token, None)).await.unwrap();
    client.respond_activity_task_canceled(cancelled(&token, None)).await.unwrap();
    let late = client.respond_activity_task_completed(completed(&token, None)).await;
    refused(late, Code::NotFound, "CALLBACK_ALREADY_COMPLETED");
    send(world.server.request(Method::DELETE, &format!("{RUNS}/run"))).await.expect(StatusCode::OK);
    let gone = client.respond_activity_task_completed(completed(&token, None)).await;
    refused(gone, Code::NotFound, "CALLBACK_NOT_FOUND");
    let gone = client.record_activity_task_heartbeat(heartbeat(&token)).await;
    refused(gone, Code::NotFound, "CALLBACK_NOT_FOUND");
}

#[tokio::test]
async fn a_caller_outside_is_answered_too() {
    let world = World::new().await;
    let created = world.server.post("callbacks:create", &json!({})).await.expect(StatusCode::CREATED);
    let token = created["token"].as_str().unwrap();
    world.client().await.respond_activity_task_completed(completed(token, plain(&[json!(7)]))).await.unwrap();
    let answered = world.server.post("callbacks:await", &json!({"token": token})).await.expect(StatusCode::OK);
    assert_eq!((&answered["state"], &answered["output"]), (&json!("Completed"), &json!(7)), "{answered}");
}

#[tokio::test]
async fn what_is_no_token_is_refused_in_temporals_words() {
    let world = World::new().await;
    let mut client = world.client().await;
    let real = world.asked("run").await;
    let mut changed = real.clone();
    changed.replace_range(20..21, if &real[20..21] == "A" { "B" } else { "A" });
    let long = "x".repeat(10_000);
    // What a task token of Temporal's begins with: a namespace id in protobuf.
    let foreign = "\n$7f3c1f6e-0000-4000-8000-000000000000\u{12}\u{4}flow";
    for token in ["", "nonsense", "baton1.", "baton1.AAAA", changed.as_str(), long.as_str(), foreign] {
        let mut answers = vec![
            client.record_activity_task_heartbeat(heartbeat(token)).await.unwrap_err(),
            client.respond_activity_task_completed(completed(token, None)).await.unwrap_err(),
            client.respond_activity_task_canceled(cancelled(token, None)).await.unwrap_err(),
        ];
        for info in [application("A", None), FailureInfo::CanceledFailureInfo(CanceledFailureInfo::default())] {
            answers.push(client.respond_activity_task_failed(failed(token, "a", info)).await.unwrap_err());
        }
        for status in answers {
            let words =
                if token.is_empty() { "Task token not set on request." } else { "Error deserializing task token." };
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, words), "{status:?}");
        }
    }
    assert_eq!(world.phase("run").await, "Running");
}

#[tokio::test]
async fn what_cannot_be_an_answer_is_refused_and_the_task_waits_on() {
    let world = World::new().await;
    let mut client = world.client().await;
    let token = world.asked("run").await;
    for (encoding, data, says) in [
        ("binary/plain", "bytes", "result.payloads[0]: has the encoding 'binary/plain', allowed are 'json/plain'"),
        ("binary/protobuf", "", "'binary/protobuf'"),
        ("binary/encrypted", "secret", "'binary/encrypted'"),
        ("json/plain", "NaN", "result.payloads[0]: is not JSON"),
    ] {
        let result = Some(Payloads { payloads: vec![payload(encoding, data)] });
        let answer = client.respond_activity_task_completed(completed(&token, result)).await;
        let message = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        assert!(message.contains(says), "{message}");
    }
    let bytes = || Payloads { payloads: vec![payload("binary/plain", "bytes")] };
    let answer = client.respond_activity_task_failed(failed(&token, "a", application("A", bytes()))).await;
    let message = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
    assert!(message.contains("failure.application_failure_info.details.payloads[0]"), "{message}");
    let answer = client.respond_activity_task_canceled(cancelled(&token, bytes())).await;
    let message = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
    assert!(message.contains("details.payloads[0]: has the encoding 'binary/plain'"), "{message}");
    let large = plain(&[json!("x".repeat(300_000))]);
    let answer = client.respond_activity_task_completed(completed(&token, large)).await;
    let message = refused(answer, Code::InvalidArgument, "CALLBACK_PAYLOAD_TOO_LARGE");
    assert!(message.contains("262144"), "{message}");
    let reason = plain(&[json!("x".repeat(5000))]);
    let answer = client.respond_activity_task_canceled(cancelled(&token, reason)).await;
    refused(answer, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(world.phase("run").await, "Running");
    client.respond_activity_task_completed(completed(&token, plain(&[json!(1)]))).await.unwrap();
    assert_eq!(world.output("run").await, json!(1));
}

#[tokio::test]
async fn what_sdks_send_is_compressed_and_limited() {
    let world = World::new().await;
    let token = world.asked("run").await;
    let mut packing = world.client().await.send_compressed(CompressionEncoding::Gzip);
    // A few kilobytes as they are sent.
    let bomb = || plain(&[json!("x".repeat(3 << 20))]);
    for client in [&mut packing.clone(), &mut world.client().await] {
        let answer = client.respond_activity_task_completed(completed(&token, bomb())).await;
        // SDKs repeat what is out of range, or exhausts a resource, until their time is over.
        let message = refused(answer, Code::InvalidArgument, "BODY_TOO_LARGE");
        assert!(message.contains("2097152"), "{message}");
    }
    packing.get_system_info(GetSystemInfoRequest {}).await.unwrap();
    packing.respond_activity_task_completed(completed(&token, plain(&[json!({"a": 1})]))).await.unwrap();
    assert_eq!(world.output("run").await, json!({"a": 1}));
}

#[tokio::test]
async fn a_client_learns_what_it_is_connected_to() {
    let world = World::new().await;
    let mut client = world.client().await;
    let info = client.get_system_info(GetSystemInfoRequest {}).await.unwrap().into_inner();
    let parts: Vec<_> = info.server_version.split('.').map(str::parse::<u32>).collect();
    assert!(parts.len() == 3 && parts.iter().all(Result::is_ok), "{}", info.server_version);
    let capabilities = info.capabilities.unwrap();
    assert!(capabilities.internal_error_differentiation && capabilities.encoded_failure_attributes);
    let describe = |namespace: &str| DescribeNamespaceRequest { namespace: namespace.to_owned() };
    let described = client.describe_namespace(describe("prod")).await.unwrap().into_inner().namespace_info.unwrap();
    assert_eq!((described.name.as_str(), described.state), ("prod", 1));
    assert_eq!(described.limits.unwrap().blob_size_limit_error, 262_144);
    let status = client.describe_namespace(describe("Not A Name")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    let status = client.describe_namespace(describe("")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "Namespace not set on request."));
    let mut health = HealthClient::new(world.server.channel().await);
    let answer = health.check(HealthCheckRequest { service: SERVICE.to_owned() }).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}

/// Code and message of an empty request.
async fn call(server: &Server, method: &str) -> (Code, String) {
    let request = client()
        .http2_prior_knowledge()
        .build()
        .unwrap()
        .post(format!("{}/{SERVICE}/{method}", server.url))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(vec![0; 5]);
    let status = Status::from_header_map(request.send().await.unwrap().headers());
    status.map_or((Code::Ok, String::new()), |status| (status.code(), status.message().to_owned()))
}

#[tokio::test]
async fn the_rest_of_temporal_is_not_offered() {
    let world = World::new().await;
    for method in ["StartWorkflowExecution", "PollActivityTaskQueue", "RespondActivityTaskCompletedById", "Nothing"] {
        let (code, message) = call(&world.server, method).await;
        assert_eq!(code, Code::Unimplemented, "{method}");
        assert!(message.starts_with(&format!("{method} is not offered")), "{message}");
        assert!(METHODS.iter().all(|offered| message.contains(offered)), "{message}");
    }
    for method in METHODS {
        assert_ne!(call(&world.server, method).await.0, Code::Unimplemented, "{method}");
    }
}

#[tokio::test]
async fn nothing_of_it_is_served_unless_it_was_asked_for() {
    let server = Server::start().await;
    for method in METHODS {
        assert_eq!(call(&server, method).await.0, Code::Unimplemented, "{method}");
    }
    let mut health = HealthClient::new(server.channel().await);
    let status = health.check(HealthCheckRequest { service: SERVICE.to_owned() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}
