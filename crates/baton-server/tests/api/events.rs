//! Events over HTTP, in the three forms of the CloudEvents binding, and over gRPC.

use baton_proto::v1::{Json, PublishEventsRequest, event_service_client::EventServiceClient};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Server, send, with_tasks, workflow_execution};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

async fn post(server: &Server, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    send(server.request(Method::POST, path).header("content-type", media_type).body(body)).await
}

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/test", "type": "a", "data": {"id": id}})
}

/// A workflow that gives all it hears until an event of the type `stop`, and one run of it that listens.
async fn listener(server: &Server) {
    let until = json!({"one": {"with": {"type": "stop"}}});
    let tasks = json!([{"hear": {"listen": {"to": {"any": [], "until": until}, "read": "envelope"}}}]);
    server.post("namespaces/default/workflows", &with_tasks("hear", &tasks)).await.expect(StatusCode::CREATED);
    let run = workflow_execution("run", "hear");
    server.post("namespaces/default/workflowexecutions", &run).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn every_form_of_the_binding_is_taken() {
    let server = Server::start().await;
    listener(&server).await;
    let accepted = |accepted: i32, duplicates: i32| {
        let mut answer = json!({});
        for (name, count) in [("accepted", accepted), ("duplicates", duplicates)] {
            if count > 0 {
                answer[name] = count.into();
            }
        }
        answer
    };
    let one = post(&server, "/events", STRUCTURED, event("1").to_string()).await;
    assert_eq!(one.expect(StatusCode::ACCEPTED), accepted(1, 0));
    let path = "namespaces/default/events";
    let again = post(&server, path, &format!("{STRUCTURED}; charset=UTF-8"), event("1").to_string()).await;
    assert_eq!(again.expect(StatusCode::ACCEPTED), accepted(0, 1));
    let batch = json!([event("1"), event("2")]).to_string();
    assert_eq!(post(&server, path, BATCH, batch).await.expect(StatusCode::ACCEPTED), accepted(1, 1));
    for (id, media_type, body) in
        [("3", "application/json", &b"{\"n\": 1.50}"[..]), ("4", "text/plain", b"hi"), ("5", "image/x", b"\xff\x00")]
    {
        let request = server
            .request(Method::POST, "/events")
            .header("content-type", media_type)
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/caf%C3%A9")
            .header("ce-type", "a")
            .header("ce-room", "7")
            .body(body.to_vec());
        assert_eq!(send(request).await.expect(StatusCode::ACCEPTED), accepted(1, 0));
    }
    let mut grpc = EventServiceClient::new(server.channel().await);
    let mut stop = event("6");
    stop["type"] = json!("stop");
    let request = PublishEventsRequest { namespace: "default".into(), events: vec![Json::from_value(&stop)] };
    assert_eq!(grpc.publish_events(request).await.unwrap().into_inner().accepted, 1);
    let run = server.ended("workflowexecutions", "run").await;
    let binary = |id: &str, media_type: &str, name: &str, data: Value| json!({"specversion": "1.0", "id": id, "source": "/café", "type": "a", "room": "7", "datacontenttype": media_type, name: data});
    let expected = json!([
        event("1"),
        event("2"),
        binary("3", "application/json", "data", json!({"n": 1.5})),
        binary("4", "text/plain", "data", json!("hi")),
        binary("5", "image/x", "data_base64", json!("/wA=")),
    ]);
    assert_eq!(run["status"]["output"], expected, "{run}");
}

#[tokio::test]
async fn what_is_no_event_is_refused_and_says_why() {
    let server = Server::start().await;
    for path in ["/events", "namespaces/default/events"] {
        let message =
            post(&server, path, "application/json", "{}").await.refused(StatusCode::BAD_REQUEST, "BadRequest");
        assert!(message.contains("neither the type 'application/cloudevents+json'"), "{message}");
        let message = post(&server, path, STRUCTURED, "{").await.refused(StatusCode::BAD_REQUEST, "BadRequest");
        assert!(message.contains("EOF"), "{message}");
        let twice = r#"{"specversion": "1.0", "id": "1", "id": "2", "source": "/", "type": "t"}"#;
        let message = post(&server, path, STRUCTURED, twice).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
        assert!(message.contains("id: set more than once"), "{message}");
        let message = post(&server, path, STRUCTURED, r#"{"specversion": "1.0", "id": 7}"#)
            .await
            .refused(StatusCode::BAD_REQUEST, "BadRequest");
        for part in ["source: is required", "type: is required", "id: must be a string"] {
            assert!(message.contains(part), "{message}");
        }
        let wrong = json!([event("1"), {"specversion": "1.0"}, 7]).to_string();
        let message = post(&server, path, BATCH, wrong).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
        for part in ["events[1].id: is required", "events[2]: must be an object"] {
            assert!(message.contains(part), "{message}");
        }
        let many: Value = (0..101).map(|id| event(&id.to_string())).collect();
        let message = post(&server, path, BATCH, many.to_string()).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
        assert!(message.contains("allowed are 1 to 100 events"), "{message}");
        post(&server, path, BATCH, "{}").await.refused(StatusCode::BAD_REQUEST, "BadRequest");
        post(&server, path, "application/cloudevents+xml", "<a/>")
            .await
            .refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType");
        let mut large = event("large");
        large["data"] = "x".repeat(256 << 10).into();
        let message =
            post(&server, path, STRUCTURED, large.to_string()).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
        assert!(message.contains("allowed are up to 261120"), "{message}");
        send(server.request(Method::GET, path)).await.refused(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed");
    }
    // Nothing of a batch is kept of which one event is wrong.
    let batch = json!([event("1")]).to_string();
    let answer = post(&server, "/events", BATCH, batch).await.expect(StatusCode::ACCEPTED);
    assert_eq!(answer, json!({"accepted": 1}));
}

#[tokio::test]
async fn the_rows_of_the_bus_are_no_resources() {
    let server = Server::start().await;
    post(&server, "/events", STRUCTURED, event("1").to_string()).await.expect(StatusCode::ACCEPTED);
    for plural in ["workflows", "agents", "workflowexecutions", "agentexecutions"] {
        let page = server.get(plural).await.expect(StatusCode::OK);
        assert_eq!(page["items"], json!([]), "{page}");
    }
    let resources = server.get("/apis/baton.dev/v1").await.expect(StatusCode::OK).to_string();
    assert!(!resources.contains("event"), "{resources}");
}
