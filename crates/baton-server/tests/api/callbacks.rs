//! Return addresses and answers over REST and gRPC: a token goes in as it was given out, and never comes back.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use baton_proto::v1;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, send, workflow_execution};

const RUNS: &str = "namespaces/default/workflowexecutions";

async fn address(server: &Server) -> (String, Value) {
    let created = server.post("callbacks:create", &json!({"expiresAfter": "1h"})).await.expect(StatusCode::CREATED);
    let plain = created["token"].as_str().unwrap().to_owned();
    assert_eq!(BASE64_STANDARD.decode(created["callbackToken"].as_str().unwrap()).unwrap(), plain.as_bytes());
    (plain, created)
}

#[tokio::test]
async fn a_caller_outside_is_answered() {
    let server = Server::start().await.with_templates().await;
    let (plain, created) = address(&server).await;
    let waiting = server.post("callbacks:await", &json!({"token": plain})).await.expect(StatusCode::OK);
    assert_eq!(waiting["state"], "Waiting");
    let mut run = workflow_execution("run", "quick");
    run["spec"]["callbackToken"] = plain.as_str().into();
    let answer = server.post(RUNS, &run).await;
    assert!(
        !answer.text.contains("baton1.") && !answer.text.contains(created["callbackToken"].as_str().unwrap()),
        "{}",
        answer.text
    );
    answer.expect(StatusCode::CREATED);
    let answered = server
        .post("callbacks:await", &json!({"callbackToken": created["callbackToken"], "timeout": "20s"}))
        .await
        .expect(StatusCode::OK);
    assert_eq!(
        (&answered["state"], &answered["output"]),
        (&json!("Completed"), &json!({"greeting": "hello nobody"})),
        "{answered}"
    );
    let list = server.get(&format!("{RUNS}/run/callbacks")).await.expect(StatusCode::OK);
    assert_eq!(list["items"][0]["fingerprint"], created["fingerprint"], "{list}");
}

#[tokio::test]
async fn a_token_is_taken_in_every_form() {
    let server = Server::start().await;
    for form in ["callbackToken as text", "callbackToken", "token", "header", "header alone"] {
        let (plain, created) = address(&server).await;
        let request = server.request(Method::POST, "callbacks:complete");
        let request = match form {
            "callbackToken as text" => request.json(&json!({"callbackToken": plain, "output": 1})),
            "callbackToken" => request.json(&json!({"callbackToken": created["callbackToken"], "output": 1})),
            "token" => request.json(&json!({"token": plain, "output": 1})),
            "header" => request.header("Baton-Callback-Token", &plain).json(&json!({"output": 1})),
            _ => request.header("Baton-Callback-Token", &plain),
        };
        let answer = send(request).await.expect(StatusCode::OK);
        assert_eq!(answer["fingerprint"], created["fingerprint"], "{form}: {answer}");
        let answered = server.post("callbacks:await", &json!({"token": plain})).await.expect(StatusCode::OK);
        assert_eq!(answered["state"], "Completed", "{form}: {answered}");
    }
    let message = server
        .post("callbacks:complete", &json!({"token": "baton1.a", "callbackToken": "baton1.b"}))
        .await
        .refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("one place"), "{message}");
}

#[tokio::test]
async fn failures_and_cancellations_are_told() {
    let server = Server::start().await;
    let (plain, _) = address(&server).await;
    server.post("callbacks:heartbeat", &json!({"token": plain})).await.expect(StatusCode::OK);
    server
        .post(
            "callbacks:fail",
            &json!({"token": plain, "error": {"type": "https://example.com/broken", "title": "broken"}}),
        )
        .await
        .expect(StatusCode::OK);
    let answered = server.post("callbacks:await", &json!({"token": plain})).await.expect(StatusCode::OK);
    assert_eq!((&answered["state"], &answered["error"]["title"]), (&json!("Failed"), &json!("broken")), "{answered}");
    let (plain, _) = address(&server).await;
    server.post("callbacks:cancel", &json!({"token": plain, "reason": "no need"})).await.expect(StatusCode::OK);
    let answered = server.post("callbacks:await", &json!({"token": plain})).await.expect(StatusCode::OK);
    assert_eq!(answered["state"], "Cancelled", "{answered}");
}

#[tokio::test]
async fn tokens_that_are_none_are_refused_and_not_shown() {
    let server = Server::start().await;
    for body in [
        json!({}),
        json!({"token": "nonsense"}),
        json!({"token": "baton1.AAAA"}),
        json!({"callbackToken": "not base64!"}),
    ] {
        for verb in ["await", "complete", "fail", "cancel", "heartbeat"] {
            let answer = server.post(&format!("callbacks:{verb}"), &body).await;
            assert!(answer.status.is_client_error(), "{verb} {body}: {}", answer.text);
            assert!(
                !answer.text.contains("nonsense") && !answer.text.contains("AAAA"),
                "{verb} {body}: {}",
                answer.text
            );
        }
    }
}

#[tokio::test]
async fn addresses_are_attached_and_retried() {
    let server = Server::start().await.with_templates().await;
    server.post(RUNS, &workflow_execution("run", "slow")).await.expect(StatusCode::CREATED);
    let empty = server.get(&format!("{RUNS}/run/callbacks")).await.expect(StatusCode::OK);
    assert_eq!(empty["items"], json!([]));
    let (plain, created) = address(&server).await;
    let list =
        server.post(&format!("{RUNS}/run/callbacks"), &json!({"callbackToken": plain})).await.expect(StatusCode::OK);
    assert_eq!(list["items"][0]["fingerprint"], created["fingerprint"]);
    send(server.request(Method::POST, &format!("{RUNS}/run/terminate"))).await.expect(StatusCode::OK);
    let answered =
        server.post("callbacks:await", &json!({"token": plain, "timeout": "20s"})).await.expect(StatusCode::OK);
    assert_eq!(answered["state"], "Cancelled", "{answered}");
    server.post(&format!("{RUNS}/run/callbacks/retry"), &json!({})).await.expect(StatusCode::OK);
    server
        .post(&format!("{RUNS}/none/callbacks"), &json!({"token": plain}))
        .await
        .refused(StatusCode::NOT_FOUND, "NotFound");
}

#[tokio::test]
async fn grpc_has_the_same_tokens_as_bytes() {
    let server = Server::start().await.with_templates().await;
    let mut callbacks = v1::callback_service_client::CallbackServiceClient::new(server.channel().await);
    let created = callbacks.create_callback(v1::CreateCallbackRequest::default()).await.unwrap().into_inner();
    assert!(created.callback_token.starts_with(b"baton1."));
    let mut executions =
        v1::workflow_execution_service_client::WorkflowExecutionServiceClient::new(server.channel().await);
    let spec = v1::WorkflowExecutionSpec {
        workflow: "quick".to_owned(),
        callback_token: Some(created.callback_token.clone()),
        ..Default::default()
    };
    let metadata = v1::ObjectMeta { name: "run".to_owned(), ..Default::default() };
    let object = v1::WorkflowExecution { metadata: Some(metadata), spec: Some(spec), ..Default::default() };
    let answer = executions
        .create_workflow_execution(v1::CreateWorkflowExecutionRequest {
            workflow_execution: Some(object),
            options: None,
        })
        .await
        .unwrap();
    assert_eq!(answer.metadata().get("baton-created").unwrap(), "true");
    assert_eq!(answer.into_inner().spec.unwrap().callback_token.unwrap_or_default(), b"");
    let request = v1::AwaitCallbackRequest { callback_token: created.callback_token, timeout: "20s".to_owned() };
    let answered = callbacks.await_callback(request).await.unwrap().into_inner();
    assert_eq!(
        (answered.state.as_str(), answered.output.unwrap().text.as_str()),
        ("Completed", r#"{"greeting":"hello nobody"}"#)
    );
}
