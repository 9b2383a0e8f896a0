//! Executions over REST: idempotent creation, ending, holding, history; and the import of old ones.

use baton_proto::v1;
use prost::Message as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, agent_execution, send, workflow_execution};

const RUNS: &str = "namespaces/default/workflowexecutions";

#[tokio::test]
async fn both_kinds_run_to_their_end() {
    let server = Server::start().await.with_templates().await;
    let mut run = workflow_execution("run", "quick");
    run["spec"]["input"] = json!({"who": "you"});
    server.post(RUNS, &run).await.expect(StatusCode::CREATED);
    let ended = server.ended("workflowexecutions", "run").await;
    assert_eq!(ended["status"]["phase"], "Completed", "{ended}");
    assert_eq!(ended["status"]["output"], json!({"greeting": "hello you"}), "{ended}");
    let output = server.get(&format!("{RUNS}/run/output")).await.expect(StatusCode::OK);
    assert_eq!(output, ended["status"]["output"]);
    server
        .post("namespaces/default/agentexecutions", &agent_execution("talk", "echo"))
        .await
        .expect(StatusCode::CREATED);
    let ended = server.ended("agentexecutions", "talk").await;
    assert_eq!(ended["status"]["phase"], "Completed", "{ended}");
}

#[tokio::test]
async fn a_repeated_create_is_one_execution() {
    let server = Server::start().await.with_templates().await;
    let mut run = workflow_execution("run", "slow");
    run["spec"]["requestId"] = "r-1".into();
    let first = server.post(RUNS, &run).await.expect(StatusCode::CREATED);
    let again = server.post(RUNS, &run).await.expect(StatusCode::OK);
    assert_eq!(again["metadata"]["uid"], first["metadata"]["uid"]);
    run["spec"]["requestId"] = "r-2".into();
    server.post(RUNS, &run).await.refused(StatusCode::CONFLICT, "AlreadyExists");
}

#[tokio::test]
async fn cancel_terminate_suspend_and_resume() {
    let server = Server::start().await.with_templates().await;
    for name in ["a", "b", "c"] {
        server.post(RUNS, &workflow_execution(name, "slow")).await.expect(StatusCode::CREATED);
    }
    server.post(&format!("{RUNS}/a/cancel"), &json!({"reason": "no longer needed"})).await.expect(StatusCode::OK);
    assert_eq!(server.ended("workflowexecutions", "a").await["status"]["phase"], "Cancelled");
    send(server.request(Method::POST, &format!("{RUNS}/b/terminate"))).await.expect(StatusCode::OK);
    assert_eq!(server.ended("workflowexecutions", "b").await["status"]["phase"], "Cancelled");
    let held = send(server.request(Method::POST, &format!("{RUNS}/c/suspend"))).await.expect(StatusCode::OK);
    assert_eq!(held["spec"]["suspend"], true);
    let going = server.post(&format!("{RUNS}/c/resume"), &json!({})).await.expect(StatusCode::OK);
    assert_ne!(going["spec"]["suspend"], true);

    let message = server
        .post(&format!("{RUNS}/a/cancel"), &json!({"why": "x"}))
        .await
        .refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("why: no such field"), "{message}");
    let message = server
        .post(&format!("{RUNS}/a/cancel"), &json!({"name": "b"}))
        .await
        .refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("differs from 'a' in the path"), "{message}");
    server.post(&format!("{RUNS}/a/cancel"), &json!({})).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    server.post(&format!("{RUNS}/none/cancel"), &json!({})).await.refused(StatusCode::NOT_FOUND, "NotFound");
}

#[tokio::test]
async fn history_is_paged_and_followed() {
    let server = Server::start().await.with_templates().await;
    server.post(RUNS, &workflow_execution("run", "quick")).await.expect(StatusCode::CREATED);
    let followed = server.get(&format!("{RUNS}/run/history?follow=true")).await;
    assert_eq!(followed.status, StatusCode::OK);
    let events: Vec<Value> = followed.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> = events.iter().map(|it| it["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=i64::try_from(events.len()).unwrap()).collect::<Vec<_>>());

    let (mut paged, mut after) = (Vec::new(), 0);
    loop {
        let page = server.get(&format!("{RUNS}/run/history?after={after}&limit=1")).await.expect(StatusCode::OK);
        paged.extend(page["events"].as_array().unwrap().iter().cloned());
        match page["nextAfter"].as_i64() {
            Some(next) if next > 0 => after = next,
            _ => break,
        }
    }
    assert_eq!(paged, events);
    let rest = server.get(&format!("{RUNS}/run/history?after={}", events.len())).await.expect(StatusCode::OK);
    assert_eq!(rest["events"], json!([]));
    server.get(&format!("{RUNS}/run/history?after=x")).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    server.get(&format!("{RUNS}/none/history?follow=true")).await.refused(StatusCode::NOT_FOUND, "NotFound");
}

/// `WorkflowExecution` as it was when the token stood in status: field 5, in it field 11.
fn old_execution(token: &[u8]) -> Vec<u8> {
    let definition = json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "old", "version": "0.1.0"}, "do": [{"pause": {"wait": {"hours": 1}}}],
    });
    let metadata = v1::ObjectMeta { name: "old".to_owned(), ..Default::default() };
    let spec = v1::WorkflowExecutionSpec { definition: Some(v1::Json::from_value(&definition)), ..Default::default() };
    let mut bytes =
        v1::WorkflowExecution { metadata: Some(metadata), spec: Some(spec), ..Default::default() }.encode_to_vec();
    prost::encoding::message::encode(5, &OldStatus { callback_token: token.to_vec() }, &mut bytes);
    bytes
}

#[derive(Clone, PartialEq, prost::Message)]
struct OldStatus {
    #[prost(bytes = "vec", tag = "11")]
    callback_token: Vec<u8>,
}

#[tokio::test]
async fn old_executions_are_imported_with_their_token_in_spec() {
    let server = Server::start().await;
    let created = server.post("callbacks:create", &json!({})).await.expect(StatusCode::CREATED);
    let token = created["token"].as_str().unwrap().as_bytes();
    let import = |bytes: Vec<u8>| {
        server
            .request(Method::POST, &format!("{RUNS}:import"))
            .header("content-type", "application/octet-stream")
            .body(bytes)
    };
    let imported = send(import(old_execution(token))).await.expect(StatusCode::CREATED);
    assert!(!imported.to_string().contains("baton1."), "a token is never shown: {imported}");
    assert_eq!(imported["status"]["callbacks"][0]["fingerprint"], created["fingerprint"], "{imported}");
    send(import(Vec::new())).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    send(import(b"not protobuf".to_vec())).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
}
