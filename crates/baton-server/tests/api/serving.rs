//! One port for both protocols, and a stop that leaves nobody hanging.

use std::net::Ipv4Addr;

use baton_proto::v1;
use baton_server::{ServerOptions, start};
use reqwest::{Method, StatusCode, Version};
use serde_json::json;
use tonic::Code;

use crate::harness::{LIMIT, Server, client, send, workflow_execution};

#[tokio::test]
async fn rest_speaks_both_versions_of_http() {
    let server = Server::start().await;
    let answer = send(server.request(Method::GET, "/version")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let client = client().http2_prior_knowledge().build().unwrap();
    let response = client.get(format!("{}/version", server.url)).send().await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
}

#[tokio::test]
async fn a_stop_ends_streams_and_refuses_what_comes_after() {
    let server = Server::start().await.with_templates().await;
    server
        .post("namespaces/default/workflowexecutions", &workflow_execution("run", "slow"))
        .await
        .expect(StatusCode::CREATED);
    let mut workflows = v1::workflow_service_client::WorkflowServiceClient::new(server.channel().await);
    let mut events = workflows.watch_workflows(v1::WatchRequest::default()).await.unwrap().into_inner();
    events.message().await.unwrap().unwrap();
    let watch = server.request(Method::GET, "workflows?watch=1").send().await.unwrap();
    let history = server
        .request(Method::GET, "namespaces/default/workflowexecutions/run/history?follow=true")
        .send()
        .await
        .unwrap();
    let token = server.post("callbacks:create", &json!({})).await.expect(StatusCode::CREATED)["token"].clone();
    let waiting = tokio::spawn(send(
        server.request(Method::POST, "callbacks:await").json(&json!({"token": token, "timeout": "60s"})),
    ));
    // The await is under way once the server has read its request, which nothing tells; an answer either way is right.
    tokio::time::timeout(LIMIT, server.running.shutdown()).await.unwrap();
    watch.text().await.unwrap();
    history.text().await.unwrap();
    let last = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(last.unwrap_err().code(), Code::Unavailable);
    if let Ok(answer) = waiting.await {
        answer.refused(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    assert!(server.client.get(&server.url).send().await.is_err(), "the port is closed");
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = || ServerOptions { listen: (Ipv4Addr::LOCALHOST, 0).into(), ..ServerOptions::new(directory.path()) };
    let client = client().build().unwrap();
    let running = start(options()).await.unwrap();
    let url = format!("http://{}/apis/baton.dev/v1/namespaces/default/workflows", running.address);
    let created = send(client.post(url).json(&crate::harness::workflow("kept"))).await.expect(StatusCode::CREATED);
    running.shutdown().await;
    let running = start(options()).await.unwrap();
    let url = format!("http://{}/apis/baton.dev/v1/namespaces/default/workflows/kept", running.address);
    assert_eq!(send(client.get(url)).await.expect(StatusCode::OK), created);
    running.shutdown().await;
}
