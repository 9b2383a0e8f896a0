//! What is wrong is refused with a Status that says what, where and what is allowed; nothing is stored.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, agent, send, with_tasks, workflow, workflow_execution};

const AGENTS: &str = "namespaces/default/agents";

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let server = Server::start().await;
    let deep = format!("{{\"spec\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let bomb = (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(10))
    });
    for (media_type, body, status, reason, says) in [
        ("application/json", b"".to_vec(), StatusCode::BAD_REQUEST, "BadRequest", "the body is empty"),
        ("application/json", b"{\"a\": ".to_vec(), StatusCode::BAD_REQUEST, "BadRequest", "line 1 column 6"),
        ("application/json", b"[]".to_vec(), StatusCode::BAD_REQUEST, "BadRequest", "the body is a list"),
        ("application/json", b"{\"kind\": \"\xc3\x28\"}".to_vec(), StatusCode::BAD_REQUEST, "BadRequest", "not UTF-8"),
        ("application/json", deep.into_bytes(), StatusCode::BAD_REQUEST, "BadRequest", "nested deeper than 128 levels"),
        (
            "application/json",
            vec![b' '; 3 << 20],
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            "3145728 bytes; the limit is 2097152 bytes",
        ),
        ("application/yaml", b"a: b: c".to_vec(), StatusCode::BAD_REQUEST, "BadRequest", "not YAML"),
        ("application/yaml", bomb.into_bytes(), StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "aliases"),
        (
            "application/yaml",
            vec![b'['; 1 << 20],
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "nested deeper than 128 levels",
        ),
        (
            "text/plain",
            b"{}".to_vec(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "'application/json', 'application/yaml'",
        ),
    ] {
        let message = send(server.request(Method::POST, AGENTS).header("content-type", media_type).body(body))
            .await
            .refused(status, reason);
        assert!(message.contains(says), "{message}");
    }
    assert_eq!(server.get("agents").await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_stream_without_end_is_cut() {
    let server = Server::start().await;
    let chunk = || Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 64 * 1024]));
    let body = reqwest::Body::wrap_stream(futures::stream::repeat_with(chunk).take_while_bytes(4 << 20));
    let message = send(server.request(Method::POST, AGENTS).header("content-type", "application/json").body(body))
        .await
        .refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge");
    assert!(message.contains("more than 2097152 bytes"), "{message}");
}

trait TakeBytes: futures::Stream<Item = std::io::Result<bytes::Bytes>> + Sized {
    fn take_while_bytes(self, bytes_max: usize) -> impl futures::Stream<Item = std::io::Result<bytes::Bytes>> {
        use futures::StreamExt as _;
        let mut sent = 0;
        self.take_while(move |chunk| {
            sent += chunk.as_ref().map_or(0, bytes::Bytes::len);
            std::future::ready(sent <= bytes_max)
        })
    }
}

impl<S: futures::Stream<Item = std::io::Result<bytes::Bytes>>> TakeBytes for S {}

#[tokio::test]
async fn a_resource_has_a_limit_of_its_own() {
    let server = Server::start().await;
    let object = with_tasks("large", &json!([{"say": {"set": {"text": "x".repeat(1_200_000)}}}]));
    let message = server
        .post("namespaces/default/workflows", &object)
        .await
        .refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge");
    assert!(message.contains("1048576"), "names the limit: {message}");
}

#[tokio::test]
async fn names_in_the_path() {
    let server = Server::start().await;
    for (path, says) in [
        ("namespaces/default/workflows/a%2Fb", "'a/b' is not a valid name"),
        ("namespaces/default/workflows/Triage", "'Triage' is not a valid name"),
        ("namespaces/de_fault/workflows/a", "metadata.namespace"),
        ("namespaces/default/workflows/%ff", "UTF-8"),
        ("namespaces/default/workflows/%00", "is not a valid name"),
    ] {
        let message = server.get(path).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
        assert!(message.contains(says), "{message}");
    }
    let message = server.get("namespaces/default/workflows/none").await.refused(StatusCode::NOT_FOUND, "NotFound");
    assert_eq!(message, "no workflow 'none' in namespace 'default'");
}

#[tokio::test]
async fn path_and_body_must_agree() {
    let server = Server::start().await;
    let mut object = agent("one");
    object["metadata"]["namespace"] = "other".into();
    let message = server.post(AGENTS, &object).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(
        message.contains("metadata.namespace: 'other' in the body differs from 'default' in the path"),
        "{message}"
    );
    let message =
        server.put("namespaces/other/agents/two", &agent("one")).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("metadata.name: 'one' in the body differs from 'two' in the path"), "{message}");
    let message = server
        .patch("namespaces/default/agents/two", &json!({"metadata": {"name": "one"}}))
        .await
        .refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("metadata.name"), "{message}");
    let mut wrong_kind = agent("one");
    wrong_kind["kind"] = "Workflow".into();
    let message = server.post(AGENTS, &wrong_kind).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("kind"), "{message}");
}

#[tokio::test]
async fn unknown_fields_by_the_validation_asked_for() {
    let server = Server::start().await;
    let mut object = agent("typo");
    object["spec"]["instruction"] = "x".into();
    object["spec"]["model"]["tmperature"] = 1.into();
    for path in [AGENTS.to_owned(), format!("{AGENTS}?fieldValidation=Strict")] {
        let answer = server.post(&path, &object).await;
        let causes = answer.json()["details"]["causes"].as_array().cloned().unwrap_or_default();
        let fields: Vec<&Value> = causes.iter().map(|it| &it["field"]).collect();
        assert_eq!(fields, ["spec.model.tmperature", "spec.instruction"], "{}", answer.text);
        answer.refused(StatusCode::BAD_REQUEST, "BadRequest");
    }
    let twice = r#"{"metadata": {"name": "typo"}, "spec": {"instructions": "a", "instructions": "b"}}"#;
    let message = send(server.request(Method::POST, AGENTS).header("content-type", "application/json").body(twice))
        .await
        .refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("spec.instructions: set more than once"), "{message}");

    let warned = server.post(&format!("{AGENTS}?fieldValidation=Warn&dryRun=All"), &object).await;
    assert!(
        warned.warnings().iter().any(|it| it.contains("spec.instruction: no such field")),
        "{:?}",
        warned.warnings()
    );
    warned.expect(StatusCode::CREATED);
    let ignored = server.post(&format!("{AGENTS}?fieldValidation=Ignore&dryRun=All"), &object).await;
    assert!(ignored.warnings().is_empty(), "{:?}", ignored.warnings());
    let created = ignored.expect(StatusCode::CREATED);
    assert!(created["spec"].get("instruction").is_none(), "{created}");
    server
        .post(&format!("{AGENTS}?fieldValidation=Perhaps"), &object)
        .await
        .refused(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
    server.get(&format!("{AGENTS}/typo")).await.refused(StatusCode::NOT_FOUND, "NotFound");
}

#[tokio::test]
async fn a_token_in_status_is_sent_to_spec() {
    let server = Server::start().await.with_templates().await;
    let mut object = workflow_execution("misplaced", "slow");
    object["status"] = json!({"callbackToken": "c2VjcmV0"});
    let answer = server.post("namespaces/default/workflowexecutions", &object).await;
    assert!(!answer.text.contains("c2VjcmV0"), "a token is never shown: {}", answer.text);
    let message = answer.refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("status.callbackToken") && message.contains("spec"), "{message}");
}

#[tokio::test]
async fn patches_of_other_types() {
    let server = Server::start().await.with_templates().await;
    for media_type in [
        "application/strategic-merge-patch+json",
        "application/json-patch+json",
        "application/apply-patch+yaml",
        "application/json",
    ] {
        let request = server
            .request(Method::PATCH, "namespaces/default/agents/echo")
            .header("content-type", media_type)
            .body("{}");
        let message = send(request).await.refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType");
        assert!(message.contains("application/merge-patch+json"), "{message}");
    }
    let request = server
        .request(Method::PATCH, "namespaces/default/agents/echo")
        .header("content-type", "application/merge-patch+json")
        .body("[1]");
    send(request).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    let message = server
        .patch("namespaces/default/agents/echo", &json!({"spec": {"nope": 1}}))
        .await
        .refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("spec.nope"), "{message}");
}

#[tokio::test]
async fn parameters() {
    let server = Server::start().await;
    for (path, status, reason, says) in [
        ("workflows?limit=many&watch=perhaps", StatusCode::BAD_REQUEST, "BadRequest", "limit: 'many'"),
        ("workflows?limit=-1", StatusCode::BAD_REQUEST, "BadRequest", "limit"),
        ("workflows?labelSelector=a+in+(", StatusCode::BAD_REQUEST, "BadRequest", "label selector 'a in ('"),
        (
            "workflows?fieldSelector=spec.color=red",
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "field label not supported: spec.color",
        ),
        ("workflows?resourceVersion=new", StatusCode::BAD_REQUEST, "BadRequest", "resourceVersion"),
        (
            "workflows?resourceVersion=1&resourceVersionMatch=Exact",
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            "'Exact' is not offered",
        ),
        (
            "workflows?resourceVersionMatch=NotOlderThan",
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            "needs a resourceVersion",
        ),
        ("workflows?resourceVersion=999999999", StatusCode::GATEWAY_TIMEOUT, "Timeout", "in the future"),
        ("workflows?continue=nonsense", StatusCode::GONE, "Expired", "continue"),
        ("workflows?watch=1&sendInitialEvents=true", StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "sendInitialEvents"),
        ("workflows?watch=1&timeoutSeconds=soon", StatusCode::BAD_REQUEST, "BadRequest", "timeoutSeconds"),
    ] {
        let message = server.get(path).await.refused(status, reason);
        assert!(message.contains(says), "{path}: {message}");
    }
    let object = workflow("dry");
    server
        .post("namespaces/default/workflows?dryRun=Some", &object)
        .await
        .refused(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
    let odd = server.get("workflows?labelselector=a").await;
    assert!(odd.warnings().iter().any(|it| it.contains("labelselector")), "{:?}", odd.warnings());
}

#[tokio::test]
async fn pages_of_foreign_hosts_are_kept_out() {
    let server = Server::start().await;
    for (header, value, reason) in
        [("host", "page.example", "HOST_FOREIGN"), ("origin", "https://page.example", "ORIGIN_FOREIGN")]
    {
        let answer = send(server.request(Method::GET, "/version").header(header, value)).await;
        assert_eq!(answer.json()["batonReason"], reason, "{}", answer.text);
        answer.refused(StatusCode::FORBIDDEN, "Forbidden");
    }
    let own = send(server.request(Method::GET, "/version").header("origin", &server.url)).await;
    own.expect(StatusCode::OK);
}
