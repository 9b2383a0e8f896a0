//! Watches over REST and gRPC: nothing is missed, and the end is clean.

use baton_proto::v1;
use futures::{Stream, StreamExt as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{LIMIT, Server, workflow};

/// The lines of an answer, as they come.
struct Lines {
    chunks: std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    rest: Vec<u8>,
}

impl Lines {
    async fn of(server: &Server, path: &str) -> Self {
        let response = server.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/json");
        Self { chunks: Box::pin(response.bytes_stream()), rest: Vec::new() }
    }

    /// The next one; `None` when the stream has ended as it should.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let Some(chunk) = tokio::time::timeout(LIMIT, self.chunks.next()).await.unwrap() else {
                assert!(self.rest.is_empty(), "the last line has no end");
                return None;
            };
            self.rest.extend(chunk.unwrap());
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let event = self.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!(kind), &json!(name)), "{event}");
        event["object"].clone()
    }
}

const WORKFLOWS: &str = "namespaces/default/workflows";

#[tokio::test]
async fn changes_come_in_order_from_a_list_on() {
    let server = Server::start().await;
    server.post(WORKFLOWS, &workflow("a")).await.expect(StatusCode::CREATED);
    let list = server.get("workflows").await.expect(StatusCode::OK);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut after = Lines::of(&server, &format!("workflows?watch=true&resourceVersion={version}")).await;
    let mut whole = Lines::of(&server, "workflows?watch=1").await;
    whole.expect("ADDED", "a").await;
    server.post(WORKFLOWS, &workflow("b")).await.expect(StatusCode::CREATED);
    server.patch(&format!("{WORKFLOWS}/a"), &json!({"metadata": {"labels": {"x": "1"}}})).await.expect(StatusCode::OK);
    server.delete(&format!("{WORKFLOWS}/b")).await.expect(StatusCode::OK);
    for lines in [&mut after, &mut whole] {
        lines.expect("ADDED", "b").await;
        lines.expect("MODIFIED", "a").await;
        lines.expect("DELETED", "b").await;
    }
}

#[tokio::test]
async fn selections_are_entered_and_left() {
    let server = Server::start().await;
    server.post(WORKFLOWS, &workflow("a")).await.expect(StatusCode::CREATED);
    let mut lines = Lines::of(&server, "workflows?watch=1&labelSelector=x%3D1").await;
    let label = |value: Value| json!({"metadata": {"labels": {"x": value}}});
    let one = format!("{WORKFLOWS}/a");
    server.patch(&one, &label(json!("1"))).await.expect(StatusCode::OK);
    lines.expect("ADDED", "a").await;
    server.patch(&one, &label(json!("2"))).await.expect(StatusCode::OK);
    lines.expect("DELETED", "a").await;
}

#[tokio::test]
async fn one_object_is_watched_by_its_path() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        server.post(WORKFLOWS, &workflow(name)).await.expect(StatusCode::CREATED);
    }
    let mut lines = Lines::of(&server, &format!("{WORKFLOWS}/b?watch=true")).await;
    lines.expect("ADDED", "b").await;
    server.delete(&format!("{WORKFLOWS}/a")).await.expect(StatusCode::OK);
    server.delete(&format!("{WORKFLOWS}/b")).await.expect(StatusCode::OK);
    lines.expect("DELETED", "b").await;
}

#[tokio::test]
async fn a_watch_ends_when_asked_to_with_a_bookmark() {
    let server = Server::start().await;
    let created = server.post(WORKFLOWS, &workflow("a")).await.expect(StatusCode::CREATED);
    let mut lines = Lines::of(&server, "workflows?watch=1&timeoutSeconds=1&allowWatchBookmarks=true").await;
    lines.expect("ADDED", "a").await;
    let event = lines.next().await.unwrap();
    assert_eq!(event["type"], "BOOKMARK", "{event}");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"], "{event}");
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn grpc_tells_the_same() {
    let server = Server::start().await;
    let mut workflows = v1::workflow_service_client::WorkflowServiceClient::new(server.channel().await);
    let mut events = workflows.watch_workflows(v1::WatchRequest::default()).await.unwrap().into_inner();
    server.post(WORKFLOWS, &workflow("a")).await.expect(StatusCode::CREATED);
    let event = events.message().await.unwrap().unwrap();
    assert_eq!((event.r#type.as_str(), event.object.unwrap().metadata.unwrap().name.as_str()), ("ADDED", "a"));
}
