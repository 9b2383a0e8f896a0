//! Every REST route answers, and what discovery names is what there is.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{self, Server, agent_execution, send, workflow_execution};

/// Writes an object of a name.
type Write = fn(&str) -> Value;

/// Kinds, with how one of them is written.
const KINDS: [(&str, Write); 8] = [
    ("secrets", harness::secret),
    ("skills", harness::skill),
    ("sessions", harness::session),
    ("mcpservers", harness::mcp_server),
    ("workflows", harness::workflow),
    ("agents", harness::agent),
    ("workflowexecutions", |name| workflow_execution(name, "slow")),
    ("agentexecutions", |name| agent_execution(name, "echo")),
];

#[tokio::test]
async fn every_kind_has_its_verbs() {
    let server = Server::start().await.with_templates().await;
    for (plural, object) in KINDS {
        let list = format!("namespaces/default/{plural}");
        let one = format!("{list}/probe");
        let created = server.post(&list, &object("probe")).await.expect(StatusCode::CREATED);
        assert_eq!(created["metadata"]["namespace"], "default", "{created}");
        for field in ["uid", "resourceVersion", "creationTimestamp"] {
            assert!(created["metadata"][field].is_string(), "{field}: {created}");
        }
        for path in [&one, &format!("{one}/status")] {
            let read = server.get(path).await.expect(StatusCode::OK);
            assert_eq!(read["metadata"]["uid"], created["metadata"]["uid"]);
            assert_eq!(read["apiVersion"], "baton.dev/v1");
        }
        for path in [list.as_str(), plural] {
            let page = server.get(path).await.expect(StatusCode::OK);
            assert!(page["items"].as_array().unwrap().iter().any(|it| it["metadata"]["name"] == "probe"), "{page}");
            assert!(page["metadata"]["resourceVersion"].is_string(), "{page}");
        }
        let patched = server.patch(&one, &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(StatusCode::OK);
        assert_eq!(patched["metadata"]["labels"]["a"], "b");
        let mut current = server.get(&one).await.expect(StatusCode::OK);
        current["metadata"]["annotations"] = json!({"note": "x"});
        let replaced = server.put(&one, &current).await.expect(StatusCode::OK);
        assert_eq!(replaced["metadata"]["annotations"]["note"], "x");
        let deleted = server.delete(&one).await.expect(StatusCode::OK);
        if ["secrets", "skills", "sessions", "mcpservers", "workflows", "agents"].contains(&plural) {
            assert_eq!((&deleted["kind"], &deleted["status"]), (&json!("Status"), &json!("Success")), "{deleted}");
            server.get(&one).await.refused(StatusCode::NOT_FOUND, "NotFound");
        }
    }
}

#[tokio::test]
async fn empty_lists_have_items() {
    let server = Server::start().await;
    for (plural, _) in KINDS {
        let page = server.get(plural).await.expect(StatusCode::OK);
        assert_eq!(page["items"], json!([]), "{page}");
        assert!(page["kind"].as_str().unwrap().ends_with("List"), "{page}");
    }
}

#[tokio::test]
async fn discovery_names_what_answers() {
    let server = Server::start().await.with_templates().await;
    for path in [
        "/apis",
        "/apis/",
        "/apis/baton.dev",
        "/apis/baton.dev/",
        "/apis/baton.dev/v1",
        "/apis/baton.dev/v1/",
        "/api",
        "/version",
        "/version/",
        "/",
        "/openapi/v3",
        "/openapi/v3/apis/baton.dev/v1",
    ] {
        server.get(path).await.expect(StatusCode::OK);
    }
    for (path, body) in [("/healthz", "ok"), ("/livez", "ok"), ("/readyz", "ok")] {
        assert_eq!(server.get(path).await.text, body);
    }
    assert_eq!(server.get("/metrics").await.status, StatusCode::OK);

    server
        .post("namespaces/default/workflowexecutions", &workflow_execution("probe", "slow"))
        .await
        .expect(StatusCode::CREATED);
    server
        .post("namespaces/default/agentexecutions", &agent_execution("probe", "echo"))
        .await
        .expect(StatusCode::CREATED);
    let resources = server.get("/apis/baton.dev/v1").await.expect(StatusCode::OK);
    let mut seen = BTreeSet::new();
    for resource in resources["resources"].as_array().unwrap() {
        let name = resource["name"].as_str().unwrap();
        seen.insert(name.to_owned());
        let Some((plural, subresource)) = name.split_once('/') else { continue };
        for verb in resource["verbs"].as_array().unwrap() {
            let method = if verb == "get" { Method::GET } else { Method::POST };
            let object = if plural == "workflows" {
                "slow"
            } else if plural == "agents" {
                "echo"
            } else if plural == "secrets" {
                "key"
            } else if plural == "skills" {
                "greeting"
            } else if plural == "artifacts" {
                "sha256-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
            } else {
                "probe"
            };
            let answer =
                send(server.request(method, &format!("namespaces/default/{plural}/{object}/{subresource}"))).await;
            let known = !matches!(answer.json()["batonReason"].as_str(), Some("PATH_NOT_FOUND" | "METHOD_NOT_ALLOWED"));
            assert!(known, "{verb} {name}: {}", answer.text);
            assert!(answer.status.as_u16() < 500, "{verb} {name}: {}", answer.text);
        }
    }
    for (plural, _) in KINDS {
        assert!(seen.contains(plural), "{plural} is not in {seen:?}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = Server::start().await;
    for path in [
        "/nothing",
        "pods",
        "namespaces/default/pods",
        "namespaces/default/workflows/a/b",
        "namespaces/default/workflows/a/cancel",
        "callbacks:nothing",
    ] {
        server.get(path).await.refused(StatusCode::NOT_FOUND, "NotFound");
    }
    for (method, path, allowed) in [
        (Method::PUT, "workflows", "GET"),
        (Method::DELETE, "namespaces/default/workflows", "POST"),
        (Method::POST, "namespaces/default/agents/a", "PATCH"),
        (Method::PUT, "namespaces/default/agentexecutions/a/status", "GET"),
        (Method::GET, "namespaces/default/agentexecutions/a/cancel", "POST"),
        (Method::GET, "callbacks:complete", "POST"),
        (Method::POST, "/version", "GET"),
    ] {
        let answer = send(server.request(method.clone(), path)).await;
        let allow = answer.headers["allow"].to_str().unwrap().to_owned();
        assert!(allow.contains(allowed), "{method} {path}: {allow}");
        answer.refused(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed");
    }
}
