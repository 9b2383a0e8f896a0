//! The activity `asyncapi`, against an HTTP server and a real broker.

use axum::{http::StatusCode, response::IntoResponse as _};
use baton_activities::ActivitiesOptions;
use baton_execution::{Activities as _, Fault, fault_type};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::{
    broker::Broker,
    support::{Server, raw_server, run, task, told, world},
};

async fn asyncapi(input: Value) -> Result<Value, Fault> {
    run(ActivitiesOptions::default(), "asyncapi", input).await
}

/// A server of one document, whatever is asked for, and of everything else that is sent to it.
async fn documents(document: String) -> Server {
    Server::answering(move |_, request| match request.uri.path() {
        "/api.yaml" => document.clone().into_response(),
        "/refuses" => (StatusCode::BAD_REQUEST, "no").into_response(),
        _ => StatusCode::ACCEPTED.into_response(),
    })
    .await
}

/// A document of version 3 for a broker at a port, in YAML.
fn rooms(port: u16) -> String {
    format!(
        r##"
asyncapi: 3.0.0
info: {{title: Rooms, version: 1.0.0}}
defaultContentType: application/json
servers:
  queue: {{host: "127.0.0.1:9092", protocol: kafka}}
  broker: {{host: "127.0.0.1:{{port}}", protocol: mqtt, variables: {{port: {{default: "{port}"}}}}}}
channels:
  temperature:
    address: rooms/{{room}}/temperature
    servers: [{{$ref: "#/servers/broker"}}]
    parameters: {{room: {{description: which}}}}
    messages: {{reading: {{$ref: "#/components/messages/reading"}}}}
  elsewhere: {{address: x, servers: [{{$ref: "#/servers/queue"}}]}}
operations:
  report: {{action: receive, channel: {{$ref: "#/channels/temperature"}}}}
  read: {{action: send, channel: {{$ref: "#/channels/temperature"}}}}
  lost: {{action: send, channel: {{$ref: "#/channels/nowhere"}}}}
components:
  messages:
    reading: {{correlationId: {{location: "$message.payload#/id"}}}}
"##
    )
}

fn input(documents: &Server, more: Value) -> Value {
    let mut input = json!({"document": {"uri": documents.url("/api.yaml"), "authentication": null}});
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    input
}

fn report(documents: &Server, room: &str, message: Value) -> Value {
    input(
        documents,
        json!({"operation": "report", "server": {"name": "broker", "variables": {"room": room}}, "message": message}),
    )
}

fn round(documents: &Server, wait_ms: u64, recorded: Vec<Value>) -> Value {
    let round = json!({"recorded": recorded, "messagesMax": 10, "waitMs": wait_ms, "expiryMs": 600_000});
    input(documents, json!({"operation": "read", "round": round}))
}

/// What a round took, and the receipts for the next.
fn split(output: &Value) -> (Vec<Value>, Vec<Value>) {
    let taken = output["messages"].as_array().unwrap();
    (
        taken.iter().map(|taken| taken["message"].clone()).collect(),
        taken.iter().map(|taken| taken["receipt"].clone()).collect(),
    )
}

/// Takes until there are so many.
async fn take(documents: &Server, count: usize, mut recorded: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    let mut all = Vec::new();
    loop {
        let (messages, receipts) = split(&asyncapi(round(documents, 20_000, recorded)).await.unwrap());
        all.extend(messages);
        if all.len() >= count {
            return (all, receipts);
        }
        recorded = receipts;
    }
}

#[tokio::test]
async fn messages_are_taken_once_and_not_lost_when_a_round_is_repeated() {
    let broker = Broker::start(None).await;
    let documents = documents(rooms(broker.port)).await;
    assert_eq!(asyncapi(round(&documents, 0, vec![])).await.unwrap(), json!({"messages": []}));
    let sent = json!({"payload": {"id": 7, "degrees": 21}, "headers": {"X-Unit": "C", "n": 1, "none": null}});
    assert_eq!(asyncapi(report(&documents, "kitchen", sent.clone())).await.unwrap(), sent);
    asyncapi(report(&documents, "hall", json!({"payload": {"id": "b"}}))).await.unwrap();

    let (messages, receipts) = take(&documents, 2, vec![]).await;
    assert_eq!(messages[0]["payload"], json!({"id": 7, "degrees": 21}));
    let headers = json!({"X-Unit": "C", "n": "1", "idempotency-key": "uid/do/0/prüfen/1"});
    assert_eq!((&messages[0]["headers"], &messages[0]["correlationId"]), (&headers, &json!("7")));
    assert_eq!(messages[1]["correlationId"], "b");

    // The engine lost the result: the round runs again, and so do its messages.
    let (again, receipts_again) = take(&documents, 2, vec![]).await;
    assert_eq!((again, &receipts_again), (messages, &receipts));

    // It recorded the result: they are gone.
    let none = asyncapi(round(&documents, 300, receipts.clone())).await.unwrap();
    assert_eq!(none, json!({"messages": []}));
    asyncapi(report(&documents, "hall", json!({"payload": {"id": "c"}}))).await.unwrap();
    let (messages, _) = take(&documents, 1, receipts).await;
    assert_eq!((messages.len(), &messages[0]["payload"]), (1, &json!({"id": "c"})));
}

#[tokio::test]
async fn a_round_ends_when_it_has_enough_bytes_headers_included() {
    let broker = Broker::start(None).await;
    let documents = documents(rooms(broker.port)).await;
    asyncapi(round(&documents, 0, vec![])).await.unwrap();
    let headers: serde_json::Map<String, Value> =
        (0..12).map(|number| (format!("x-{number}"), "x".repeat(55_000).into())).collect();
    for id in 0..3 {
        asyncapi(report(&documents, "hall", json!({"payload": {"id": id}, "headers": headers}))).await.unwrap();
    }
    let taken = asyncapi(round(&documents, 20_000, vec![])).await.unwrap();
    assert_eq!(taken["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_ended_session_has_nothing_left() {
    let broker = Broker::start(None).await;
    let documents = documents(rooms(broker.port)).await;
    asyncapi(round(&documents, 50, vec![])).await.unwrap();
    asyncapi(report(&documents, "hall", json!({"payload": 1}))).await.unwrap();
    let end = json!({"operation": "read", "round": {"end": true}});
    assert_eq!(asyncapi(input(&documents, end.clone())).await.unwrap(), Value::Null);
    assert_eq!(asyncapi(round(&documents, 300, vec![])).await.unwrap(), json!({"messages": []}));
    drop(broker);
    assert_eq!(asyncapi(input(&documents, end)).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn a_broker_may_come_late_and_wants_to_know_who_it_is() {
    let broker = Broker::start(Some(("u", "secret-word"))).await;
    let documents = documents(rooms(broker.port)).await;
    let with = |authentication: Value| {
        let mut input = report(&documents, "hall", json!({"payload": "x"}));
        input["authentication"] = authentication;
        input
    };
    asyncapi(with(json!({"basic": {"username": "u", "password": "secret-word"}}))).await.unwrap();
    for refused in
        [json!({"basic": {"username": "u", "password": "wrong-word"}}), json!({"bearer": {"token": "wrong-word"}})]
    {
        let fault = asyncapi(with(refused)).await.unwrap_err();
        assert!(fault.non_retryable && matches!(fault.status, 401 | 403), "{fault}");
        assert!(!told(&fault).contains("wrong-word"), "{fault}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let documents = crate::asyncapi::documents(rooms(nobody)).await;
    let fault = asyncapi(round(&documents, 50, vec![])).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::COMMUNICATION, false), "{fault}");
}

#[tokio::test]
async fn payloads_are_what_they_are() {
    let broker = Broker::start(None).await;
    let document = rooms(broker.port).replace("defaultContentType: application/json", "defaultContentType: text/plain");
    let documents = documents(document).await;
    asyncapi(round(&documents, 50, vec![])).await.unwrap();
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for payload in [json!("plain"), json!({"a": [1]}), Value::Null, json!(deep)] {
        asyncapi(report(&documents, "hall", json!({"payload": payload}))).await.unwrap();
    }
    let (messages, _) = take(&documents, 4, vec![]).await;
    let payloads: Vec<&Value> = messages.iter().map(|message| &message["payload"]).collect();
    assert_eq!(payloads, [&json!("plain"), &json!({"a": [1]}), &Value::Null, &json!(deep)]);
}

#[tokio::test]
async fn publishes_by_http() {
    let documents = documents(String::new()).await;
    let (host, port) = (documents.address.ip(), documents.address.port());
    let server = Server::answering(move |number, request| match (number, request.uri.path()) {
        (_, "/api.yaml") => format!(
            r#"{{"asyncapi": "2.6.0", "servers": {{
                "test": {{"url": "{{stage}}.example.com", "protocol": "http", "variables": {{"stage": {{"enum": ["a", "b"]}}}}}},
                "main": {{"url": "http://{host}:{port}/base/", "protocol": "http"}}}},
              "channels": {{
                "/users/{{id}}/events": {{"servers": ["main"], "publish": {{"operationId": "tell", "bindings": {{"http": {{"method": "put"}}}}}}}},
                "/refuses": {{"servers": ["main"], "publish": {{}}}},
                "/test": {{"servers": ["test"], "publish": {{}}, "subscribe": {{}}}}}}}}"#
        )
        .into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await;
    let message = json!({"payload": {"a": 1}, "headers": {"X-A": "b"}});
    let tell = json!({
        "operation": "tell", "server": {"name": "main", "variables": {"id": "7"}}, "message": message,
        "authentication": {"bearer": {"token": "abc"}},
    });
    assert_eq!(asyncapi(input(&server, tell)).await.unwrap(), message);
    let seen = &documents.seen()[0];
    assert_eq!((seen.method.as_str(), seen.uri.path(), seen.json()), ("PUT", "/base/users/7/events", json!({"a": 1})));
    assert_eq!((seen.header("x-a"), seen.header("authorization")), ("b", "Bearer abc"));
    assert_eq!(
        (seen.header("idempotency-key"), seen.header("content-type")),
        ("uid/do/0/pr%C3%BCfen/1", "application/json")
    );
    let test = |variables: Value| json!({"channel": "/test", "server": {"name": "test", "variables": variables}, "message": {}});
    let round = json!({"messagesMax": 1, "waitMs": 10});
    for (more, says) in [
        (json!({"operation": "tell", "message": {}}), "needs a value for 'id'"),
        (
            json!({"operation": "tell", "server": {"name": "main", "variables": {"id": "a/b"}}, "message": {}}),
            "one level",
        ),
        (test(json!({})), "needs a value for 'stage'"),
        (test(json!({"stage": "c"})), "'c', allowed are 'a', 'b'"),
        (
            json!({"channel": "/test", "server": {"name": "main"}, "round": round}),
            "subscriptions over 'http' are not supported",
        ),
        (json!({"channel": "/refuses", "round": round}), "no operation 'subscribe', only 'publish'"),
        (json!({"operation": "told", "message": {}}), "no operation 'told'; those there are 'tell'"),
    ] {
        let fault = asyncapi(input(&server, more)).await.unwrap_err();
        assert!(fault.non_retryable && told(&fault).contains(says), "{says}: {fault}");
    }
}

#[tokio::test]
async fn what_cannot_be_found_or_spoken_is_said() {
    let documents = documents(rooms(1)).await;
    for (more, says) in [
        (json!({"operation": "reed", "message": {}}), "no operation 'reed'; those there are 'report', 'read', 'lost'"),
        (json!({"operation": "lost", "message": {}}), "does not lead to a part of the document"),
        (json!({"channel": "none", "message": {}}), "no channel 'none'"),
        (json!({"channel": "elsewhere", "message": {}}), "speaks 'kafka', which is not supported"),
        (json!({"operation": "report", "protocol": "http", "message": {}}), "no server of the channel speaks 'http'"),
        (json!({"operation": "report", "server": {"name": "x"}, "message": {}}), "no server 'x'"),
        (json!({"operation": "report", "message": {}}), "needs a value for 'room'"),
        (json!({"operation": "report"}), "either a 'message' or a 'round'"),
    ] {
        let fault = asyncapi(input(&documents, more)).await.unwrap_err();
        assert!(fault.non_retryable && told(&fault).contains(says), "{says}: {fault}");
    }
    let bomb = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a,".repeat(1000));
    for (document, says) in [
        ("asyncapi: 1.0.0", "AsyncAPI '1.0.0'"),
        ("a: [", "neither JSON nor YAML"),
        ("{", "neither"),
        (bomb.as_str(), "once its aliases are filled in"),
    ] {
        let documents = crate::asyncapi::documents(document.to_owned()).await;
        let fault = asyncapi(input(&documents, json!({"operation": "a", "message": {}}))).await.unwrap_err();
        assert!(fault.non_retryable && told(&fault).contains(says), "{says}: {fault}");
    }
}

#[tokio::test]
async fn a_broker_that_speaks_nonsense_is_a_fault() {
    for nonsense in
        [&[0x20, 0xff, 0xff, 0xff, 0xff, 0xff][..], &[0x20, 3, 0, 0, 0xff], &[0x30, 2, 0, 9], &[0xf0, 1, 0], &[0x20, 0]]
    {
        let address = raw_server(move |mut stream| async move {
            _ = stream.write_all(nonsense).await;
        })
        .await;
        let documents = documents(rooms(address.port())).await;
        let input = report(&documents, "hall", json!({"payload": 1}));
        let fault = world(ActivitiesOptions::default()).run(task("asyncapi", input, 5_000)).await.unwrap_err();
        assert_eq!(fault.kind, fault_type::COMMUNICATION, "{fault}");
    }
}
