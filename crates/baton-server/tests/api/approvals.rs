//! Approvals over REST and gRPC: read, listed across namespaces, watched, decided once, and gone with their execution.

use baton_proto::v1::{self, approval_service_client::ApprovalServiceClient};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{LIMIT, Server, agent_execution, greeter, send, workflow};

const PENDING: &str = "approvals?fieldSelector=status.phase%3DPending";

impl Server {
    /// Starts the greeter in a namespace; the approval that it waits for.
    async fn asked(&self, namespace: &str, name: &str) -> Value {
        for (plural, object) in [("workflows", workflow("quick")), ("agents", greeter())] {
            self.post(&format!("namespaces/{namespace}/{plural}"), &object).await;
        }
        let runs = format!("namespaces/{namespace}/agentexecutions");
        self.post(&runs, &agent_execution(name, "greeter")).await.expect(StatusCode::CREATED);
        let waits =
            self.until(&format!("{runs}/{name}"), |run| run["status"]["waitingFor"][0]["approval"].is_string()).await;
        assert_eq!(waits["status"]["waitingFor"][0]["reason"], "Approval", "{waits}");
        let approval = waits["status"]["waitingFor"][0]["approval"].as_str().unwrap();
        self.get(&format!("namespaces/{namespace}/approvals/{approval}")).await.expect(StatusCode::OK)
    }
}

fn path(approval: &Value) -> String {
    let text = |field: &str| approval["metadata"][field].as_str().unwrap();
    format!("namespaces/{}/approvals/{}", text("namespace"), text("name"))
}

#[tokio::test]
async fn an_approval_is_found_and_decided_once() {
    let server = Server::start().await;
    let (here, there) = (server.asked("default", "run").await, server.asked("other", "run").await);
    let all = server.get(PENDING).await.expect(StatusCode::OK);
    assert_eq!(all["items"].as_array().unwrap().len(), 2, "{all}");
    assert_eq!(server.get("namespaces/other/approvals").await.json()["items"], json!([there]));
    assert_eq!((&here["apiVersion"], &here["kind"]), (&json!("baton.dev/v1"), &json!("Approval")));
    let spec = &here["spec"];
    assert_eq!(
        (&spec["type"], &spec["tool"], &spec["arguments"]),
        (&json!("ToolCall"), &json!("greet"), &json!({"who": "you"}))
    );
    assert_eq!(spec["execution"]["name"], "run");
    assert!(spec["why"].as_str().unwrap().contains("not declared readOnly"), "{spec}");

    let path = path(&here);
    let digest = &spec["argumentsDigest"];
    for (body, status, reason) in [
        (json!({}), StatusCode::BAD_REQUEST, "BadRequest"),
        (json!({"argumentsDigest": "sha256:00"}), StatusCode::CONFLICT, "Conflict"),
        (json!({"argumentsDigest": digest, "arguments": {"who": 7}}), StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
        (json!({"argumentsDigest": digest, "decision": "deny"}), StatusCode::BAD_REQUEST, "BadRequest"),
        (json!({"argumentsDigest": digest, "who": 1}), StatusCode::BAD_REQUEST, "BadRequest"),
    ] {
        server.post(&format!("{path}/approve"), &body).await.refused(status, reason);
    }
    server
        .post(&format!("{path}/decide"), &json!({"decision": "perhaps"}))
        .await
        .refused(StatusCode::BAD_REQUEST, "BadRequest");
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        send(server.request(method, &path)).await.refused(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed");
    }

    let request = server.request(Method::POST, &format!("{path}/approve")).header("Impersonate-User", "kim");
    let decided =
        send(request.json(&json!({"argumentsDigest": digest, "reason": "fine"}))).await.expect(StatusCode::OK);
    let status = &decided["status"];
    assert_eq!(
        (&status["phase"], &status["decision"], &status["decidedBy"], &status["reason"]),
        (&json!("Approved"), &json!("approve"), &json!("unauthenticated:kim"), &json!("fine")),
        "{decided}"
    );
    let again = server.post(&format!("{path}/deny"), &json!({})).await;
    assert_eq!(again.json()["batonReason"], "APPROVAL_ALREADY_DECIDED");
    again.refused(StatusCode::CONFLICT, "Conflict");
    let ended = server.ended("agentexecutions", "run").await;
    assert_eq!(
        (&ended["status"]["phase"], &ended["status"]["output"]),
        (&json!("Completed"), &json!("Done.")),
        "{ended}"
    );
    let children = server.get("namespaces/default/workflowexecutions").await.expect(StatusCode::OK);
    assert_eq!(children["items"].as_array().unwrap().len(), 1, "one approval, one call");
    assert_eq!(
        server.get(PENDING).await.json()["items"].as_array().unwrap().len(),
        1,
        "the other one is still to be decided"
    );
}

#[tokio::test]
async fn what_a_person_puts_instead_is_what_is_called() {
    let server = Server::start().await;
    let approval = server.asked("default", "run").await;
    let body = json!({"argumentsDigest": approval["spec"]["argumentsDigest"], "arguments": {"who": "everybody"}});
    let decided = server.post(&format!("{}/approve", path(&approval)), &body).await.expect(StatusCode::OK);
    assert_eq!(decided["status"]["arguments"], json!({"who": "everybody"}), "{decided}");
    assert_ne!(decided["status"]["argumentsDigest"], approval["spec"]["argumentsDigest"]);
    assert_eq!(server.ended("agentexecutions", "run").await["status"]["phase"], "Completed");
    let children = server.get("namespaces/default/workflowexecutions").await.expect(StatusCode::OK);
    assert_eq!(children["items"][0]["spec"]["input"], json!({"who": "everybody"}), "{children}");
    let history = server.get("namespaces/default/agentexecutions/run/history").await.expect(StatusCode::OK);
    let events = history["events"].as_array().unwrap();
    let asked = events.iter().find(|event| event["type"] == "ApprovalRequested").unwrap();
    assert_eq!(asked["approvalRequested"]["approvalName"], approval["metadata"]["name"], "{asked}");
    let called = events.iter().find(|event| event["type"] == "ChildRequested").unwrap();
    assert_eq!(called["childRequested"]["approval"], approval["metadata"]["name"], "{called}");
}

#[tokio::test]
async fn grpc_reads_watches_and_decides() {
    let server = Server::start().await;
    let approval = server.asked("default", "run").await;
    let name = approval["metadata"]["name"].as_str().unwrap().to_owned();
    let mut approvals = ApprovalServiceClient::new(server.channel().await);
    let watch = v1::WatchRequest { namespace: "default".into(), ..v1::WatchRequest::default() };
    let mut watched = approvals.watch_approvals(watch).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().r#type, "ADDED");
    let read =
        approvals.get_approval(v1::GetRequest { name: name.clone(), ..v1::GetRequest::default() }).await.unwrap();
    let digest = read.into_inner().spec.unwrap().arguments_digest;
    let request =
        || v1::DecideRequest { name: name.clone(), reason: "not today".into(), ..v1::DecideRequest::default() };
    let other = v1::DecideRequest { arguments_digest: "sha256:00".into(), ..request() };
    assert_eq!(approvals.approve(other).await.unwrap_err().code(), Code::Aborted);
    let mut deny = tonic::Request::new(v1::DecideRequest { arguments_digest: digest, ..request() });
    deny.metadata_mut().insert("impersonate-user", "kim".parse().unwrap());
    let status = approvals.deny(deny).await.unwrap().into_inner().status.unwrap();
    assert_eq!((status.phase.as_str(), status.decided_by.as_str()), ("Denied", "unauthenticated:kim"));
    assert_eq!(approvals.deny(request()).await.unwrap_err().code(), Code::Aborted);
    let changed = tokio::time::timeout(LIMIT, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(
        (changed.r#type.as_str(), changed.object.unwrap().status.unwrap().phase.as_str()),
        ("MODIFIED", "Denied")
    );
    server.ended("agentexecutions", "run").await;
    let history = server.get("namespaces/default/agentexecutions/run/history?limit=1000").await.text;
    assert!(history.contains("not today"), "the model is told: {history}");
    assert_eq!(
        server.get("namespaces/default/workflowexecutions").await.json()["items"],
        json!([]),
        "nothing was called"
    );
}

#[tokio::test]
async fn an_approval_goes_with_its_execution() {
    let server = Server::start().await;
    let approval = server.asked("default", "run").await;
    server.delete("namespaces/default/agentexecutions/run").await.expect(StatusCode::OK);
    server.until(&path(&approval), |gone| gone["code"] == 404).await;
}

#[tokio::test]
async fn a_limit_that_is_near_is_extended_by_a_person() {
    let server = Server::start().await;
    let mut agent = greeter();
    agent["spec"]["policy"] = json!({"default": "allow"});
    agent["spec"]["limits"] = json!({"modelCalls": 1, "tokens": 100_000, "softMark": 0.9});
    for (plural, object) in [("workflows", workflow("quick")), ("agents", agent)] {
        server.post(&format!("namespaces/default/{plural}"), &object).await;
    }
    let runs = "namespaces/default/agentexecutions";
    server.post(runs, &agent_execution("run", "greeter")).await.expect(StatusCode::CREATED);
    let waits =
        server.until(&format!("{runs}/run"), |run| run["status"]["waitingFor"][0]["approval"].is_string()).await;
    let near = waits["status"]["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "LimitNear");
    assert_eq!(near.unwrap()["message"], "1 of 1 modelCalls", "{waits}");
    let name = waits["status"]["waitingFor"][0]["approval"].as_str().unwrap();
    let path = format!("namespaces/default/approvals/{name}");
    let approval = server.get(&path).await.expect(StatusCode::OK);
    let spec = &approval["spec"];
    assert_eq!((&spec["type"], &spec["arguments"]), (&json!("Limit"), &json!({"extend": {"modelCalls": 1}})));
    let approve = |extend: Value| json!({"argumentsDigest": spec["argumentsDigest"], "arguments": {"extend": extend}});
    server
        .post(&format!("{path}/approve"), &approve(json!({"cost": "1"})))
        .await
        .refused(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
    server.post(&format!("{path}/approve"), &approve(json!({"modelCalls": 3}))).await.expect(StatusCode::OK);
    let ended = server.ended("agentexecutions", "run").await;
    assert_eq!(
        (&ended["status"]["phase"], &ended["status"]["output"]),
        (&json!("Completed"), &json!("Done.")),
        "{ended}"
    );
    assert_eq!(ended["status"]["usage"]["left"]["modelCalls"], 2, "{ended}");
}
