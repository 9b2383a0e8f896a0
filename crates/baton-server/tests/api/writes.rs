//! Create, replace, patch and delete over REST: what holds of any Kubernetes API.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Server, agent, send, workflow, workflow_execution};

const AGENTS: &str = "namespaces/default/agents";
const ONE: &str = "namespaces/default/agents/one";

#[tokio::test]
async fn yaml_and_unnamed_media_types() {
    let server = Server::start().await;
    let yaml = "apiVersion: baton.dev/v1\nkind: Agent\nmetadata: {name: one}\nspec:\n  instructions: Say hello.\n  model: {name: m}\n";
    send(server.request(Method::POST, AGENTS).header("content-type", "application/yaml").body(yaml))
        .await
        .expect(StatusCode::CREATED);
    send(server.request(Method::POST, AGENTS).body(agent("two").to_string())).await.expect(StatusCode::CREATED);
    let form = server
        .request(Method::POST, AGENTS)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(agent("three").to_string());
    send(form).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn names_are_taken_once_or_generated() {
    let server = Server::start().await;
    server.post(AGENTS, &agent("one")).await.expect(StatusCode::CREATED);
    server.post(AGENTS, &agent("one")).await.refused(StatusCode::CONFLICT, "AlreadyExists");
    let mut unnamed = agent("");
    unnamed["metadata"] = json!({"generateName": "made-"});
    let created = server.post(AGENTS, &unnamed).await.expect(StatusCode::CREATED);
    let name = created["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("made-") && name.len() == 10, "{name}");
}

#[tokio::test]
async fn stale_writes_conflict_and_idle_ones_change_nothing() {
    let server = Server::start().await;
    let first = server.post(AGENTS, &agent("one")).await.expect(StatusCode::CREATED);
    let same = server.put(ONE, &first).await.expect(StatusCode::OK);
    assert_eq!(same["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let second = server.patch(ONE, &json!({"spec": {"instructions": "Say goodbye."}})).await.expect(StatusCode::OK);
    assert_eq!(second["metadata"]["generation"], 2, "{second}");
    let answer = server.put(ONE, &first).await;
    assert!(answer.json()["hint"].as_str().is_some_and(|it| it.contains("read it again")), "{}", answer.text);
    answer.refused(StatusCode::CONFLICT, "Conflict");
    let stale = json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"], "labels": {"a": "b"}}});
    server.patch(ONE, &stale).await.refused(StatusCode::CONFLICT, "Conflict");
    let message = server.put(ONE, &agent("one")).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("metadata.resourceVersion"), "{message}");
    let mut absent = first;
    absent["metadata"]["name"] = "none".into();
    server.put("namespaces/default/agents/none", &absent).await.refused(StatusCode::NOT_FOUND, "NotFound");
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let server = Server::start().await;
    server.post(&format!("{AGENTS}?dryRun=All"), &agent("one")).await.expect(StatusCode::CREATED);
    server.get(ONE).await.refused(StatusCode::NOT_FOUND, "NotFound");
    let before = server.post(AGENTS, &agent("one")).await.expect(StatusCode::CREATED);
    let patched = server
        .patch(&format!("{ONE}?dryRun=All"), &json!({"spec": {"instructions": "x"}}))
        .await
        .expect(StatusCode::OK);
    assert_eq!(patched["spec"]["instructions"], "x");
    server.delete(&format!("{ONE}?dryRun=All")).await.expect(StatusCode::OK);
    send(server.request(Method::DELETE, ONE).json(&json!({"dryRun": ["All"]}))).await.expect(StatusCode::OK);
    assert_eq!(server.get(ONE).await.expect(StatusCode::OK), before);
}

#[tokio::test]
async fn deletion_has_preconditions_and_one_policy() {
    let server = Server::start().await;
    let object = server.post(AGENTS, &agent("one")).await.expect(StatusCode::CREATED);
    for (other, reason) in [
        (json!({"preconditions": {"uid": "0197f3c2-6d1e-7c3a-9f00-2b9d6d1e7c3a"}}), "UID_MISMATCH"),
        (json!({"preconditions": {"resourceVersion": "7777"}}), "CONFLICT"),
    ] {
        let refused = send(server.request(Method::DELETE, ONE).json(&other)).await;
        assert_eq!(refused.json()["batonReason"], reason, "{}", refused.text);
        let dry = send(server.request(Method::DELETE, &format!("{ONE}?dryRun=All")).json(&other)).await;
        assert_eq!(dry.json(), refused.json(), "a dry run says what the deletion would");
        refused.refused(StatusCode::CONFLICT, "Conflict");
    }
    let none = "namespaces/default/agents/none";
    let missing = server.delete(&format!("{none}?dryRun=All")).await;
    assert_eq!(missing.json(), server.delete(none).await.json());
    missing.refused(StatusCode::NOT_FOUND, "NotFound");
    for policy in ["Orphan", "Foreground", "Later"] {
        send(server.request(Method::DELETE, ONE).json(&json!({"propagationPolicy": policy})))
            .await
            .refused(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
    }
    let message = send(server.request(Method::DELETE, ONE).json(&json!({"precondition": {}})))
        .await
        .refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("precondition: no such field"), "{message}");
    let own = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "preconditions": {"uid": object["metadata"]["uid"]}});
    let deleted = send(server.request(Method::DELETE, ONE).json(&own)).await.expect(StatusCode::OK);
    assert_eq!(
        deleted["details"],
        json!({"name": "one", "group": "baton.dev", "kind": "agents", "uid": object["metadata"]["uid"]})
    );
    server.delete(ONE).await.refused(StatusCode::NOT_FOUND, "NotFound");
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let server = Server::start().await;
    let mut object = agent("one");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(AGENTS, &object).await.expect(StatusCode::CREATED);
    let held = server.delete(ONE).await.expect(StatusCode::OK);
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    server.patch(ONE, &json!({"metadata": {"finalizers": null}})).await.expect(StatusCode::OK);
    server.get(ONE).await.refused(StatusCode::NOT_FOUND, "NotFound");
}

#[tokio::test]
async fn the_spec_of_an_execution_is_immutable() {
    let server = Server::start().await.with_templates().await;
    server
        .post("namespaces/default/workflowexecutions", &workflow_execution("run", "slow"))
        .await
        .expect(StatusCode::CREATED);
    let answer = server
        .patch("namespaces/default/workflowexecutions/run", &json!({"spec": {"workflow": "quick", "timeout": "5m"}}))
        .await;
    let details = answer.json()["details"].clone();
    assert_eq!(details["kind"], "WorkflowExecution", "{details}");
    let fields: Vec<_> = details["causes"].as_array().unwrap().iter().map(|it| it["field"].clone()).collect();
    assert!(fields.contains(&json!("spec.workflow")) && fields.contains(&json!("spec.timeout")), "{fields:?}");
    answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
    let suspended = server
        .patch("namespaces/default/workflowexecutions/run", &json!({"spec": {"suspend": true}}))
        .await
        .expect(StatusCode::OK);
    assert_eq!(suspended["spec"]["suspend"], true);
}

#[tokio::test]
async fn lists_are_selected_and_paged() {
    let server = Server::start().await;
    for n in 0..7 {
        let mut object = workflow(&format!("w{n}"));
        object["metadata"]["labels"] = json!({"parity": if n % 2 == 0 { "even" } else { "odd" }});
        server.post("namespaces/default/workflows", &object).await.expect(StatusCode::CREATED);
    }
    let names = |page: &serde_json::Value| {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["metadata"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let odd = server.get("workflows?labelSelector=parity%3Dodd").await.expect(StatusCode::OK);
    assert_eq!(names(&odd), ["w1", "w3", "w5"]);
    let one = server.get("workflows?fieldSelector=metadata.name%3Dw4").await.expect(StatusCode::OK);
    assert_eq!(names(&one), ["w4"]);
    let (mut all, mut path) = (Vec::new(), "workflows?limit=3".to_owned());
    loop {
        let page = server.get(&path).await.expect(StatusCode::OK);
        assert!(names(&page).len() <= 3);
        all.extend(names(&page));
        match page["metadata"]["continue"].as_str().filter(|it| !it.is_empty()) {
            Some(next) => {
                path = format!(
                    "workflows?limit=3&continue={}",
                    next.replace('+', "%2B").replace('=', "%3D").replace('/', "%2F")
                );
            }
            None => break,
        }
    }
    assert_eq!(all, ["w0", "w1", "w2", "w3", "w4", "w5", "w6"]);
}
