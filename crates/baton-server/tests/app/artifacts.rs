//! Artifacts: uploaded and attached by their digest, made by models, read again.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::Request};
use baton_proto::v1::{AgentExecution, Artifact, GetExecutionArtifactRequest, ListRequest};
use baton_types::{Digest, ErrorKind};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{DRY, REAL, Server, fields, read};

fn upload(text: &str) -> Value {
    use base64::Engine as _;
    json!({"spec": {"mediaType": "text/plain", "data": base64::prelude::BASE64_STANDARD.encode(text)}})
}

#[tokio::test]
async fn what_is_uploaded_is_named_by_its_digest_and_kept_once() {
    let server = Server::start().await;
    let app = server.app();
    let dry = app.create(read::<Artifact>(upload("hello")), DRY).await.unwrap();
    let name = dry.object.metadata.unwrap().name;
    assert_eq!(name, "sha256-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert!(app.get::<Artifact>("", &name).await.is_err());

    let written = app.create(read::<Artifact>(upload("hello")), REAL).await.unwrap();
    assert!(written.created && written.object.spec.as_ref().unwrap().data.is_empty());
    let status = written.object.status.unwrap();
    assert_eq!((status.digest, status.size_bytes), (Digest::of(b"hello").to_string(), 5));
    let mut longer = upload("hello");
    longer["spec"]["ttlSeconds"] = json!(30 * 24 * 3600);
    let again = app.create(read::<Artifact>(longer), REAL).await.unwrap();
    assert!(!again.created && again.object.status.unwrap().expires > status.expires);
    let (_, all) = app.list::<Artifact>(&ListRequest::default()).await.unwrap();
    assert_eq!(all.len(), 1);
    let content = app.artifact_content("", &name).await.unwrap();
    assert_eq!((content.data.as_slice(), content.media_type.as_str()), (b"hello".as_slice(), "text/plain"));
    assert_eq!(
        app.artifact_content("other", &name).await.unwrap_err().kind,
        ErrorKind::NotFound,
        "of another namespace"
    );

    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let patched = app.patch::<Artifact>("", &name, labels, REAL).await.unwrap().object;
    assert!(patched.status.unwrap().digest.ends_with("9824"));
    let refused =
        app.patch::<Artifact>("", &name, json!({"spec": {"mediaType": "text/html"}}), REAL).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec"]);

    let server = server.restart().await;
    assert_eq!(server.app().artifact_content("", &name).await.unwrap().data, b"hello");
    server
        .app()
        .delete::<Artifact>(&baton_proto::v1::DeleteRequest { name: name.clone(), ..Default::default() })
        .await
        .unwrap();
    assert!(server.app().artifact_content("", &name).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn wrong_uploads_are_refused() {
    let server = Server::start().await;
    let mut wrong = upload("");
    wrong["spec"]["mediaType"] = json!("text");
    wrong["spec"]["ttlSeconds"] = json!(0);
    wrong["metadata"] = json!({"name": "report"});
    let refused = server.app().create(read::<Artifact>(wrong), REAL).await.unwrap_err();
    assert_eq!(fields(&refused), ["metadata.name", "spec.data", "spec.mediaType", "spec.ttlSeconds"]);
    let refused = server.app().create(read::<Artifact>(upload(&"x".repeat((1 << 20) + 1))), REAL).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.data"]);
    server.stop().await;
}

/// A model that answers with the scripted messages, and remembers what it was asked.
async fn model(answers: Vec<Value>) -> (String, Arc<Mutex<Vec<Value>>>) {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let memory = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: Request| {
        let (memory, answers) = (Arc::clone(&memory), answers.clone());
        async move {
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
            let mut memory = memory.lock().unwrap();
            memory.push(serde_json::from_slice(&body).unwrap());
            let message = answers[memory.len() - 1].clone();
            let reason = if message["tool_calls"].is_null() { "stop" } else { "tool_calls" };
            axum::Json(json!({"choices": [{"message": message, "finish_reason": reason}]}))
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

#[tokio::test]
async fn an_attachment_is_named_by_its_digest_and_reaches_the_model() {
    let server = Server::start().await;
    let (url, seen) = model(vec![json!({"content": "I see."})]).await;
    let execution = |name: &str| {
        let attachments = json!([{"name": "a.png", "mediaType": "image/png", "digest": Digest::of(b"hi").to_string()}]);
        let definition = json!({"instructions": "Look.", "model": {"name": "m", "baseUrl": url}});
        json!({"metadata": {"name": name}, "spec": {"definition": definition, "message": "What is it?", "attachments": attachments}})
    };
    let refused = server.create::<AgentExecution>(execution("early")).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.attachments[0].digest"]);
    let uploaded: Artifact = server.create(upload("hi")).await.unwrap();
    let created: AgentExecution = server.create(execution("look")).await.unwrap();
    assert!(created.spec.unwrap().attachments[0].data.is_empty(), "the resource keeps the digest alone");
    let request = baton_proto::v1::DeleteRequest { name: uploaded.metadata.unwrap().name, ..Default::default() };
    server.app().delete::<Artifact>(&request).await.unwrap();
    let ended = server.ended::<AgentExecution>("look").await.status.unwrap();
    assert_eq!(ended.phase, "Completed", "{:?}", ended.error);
    let asked = seen.lock().unwrap()[0].clone();
    assert_eq!(asked["messages"][1]["content"][1]["image_url"]["url"], "data:image/png;base64,aGk=");
    server.stop().await;
}

#[tokio::test]
async fn what_a_model_saves_can_be_read_by_its_name() {
    let server = Server::start().await;
    let long = "a long line of a report\n".repeat(5000);
    let save = |name: &str, text: &str| json!({"name": "save_artifact", "arguments": {"name": name, "mediaType": "text/markdown", "content": text}});
    let turns = json!([
        {"toolCalls": [save("report.md", "a draft"), save("notes.md", "notes")]},
        {"toolCalls": [save("report.md", &long), save("../etc/passwd", "x")]},
        {"text": "done"}
    ]);
    let model = json!({"name": "m", "provider": "playback", "playback": {"conversations": [{"turns": turns}]}});
    let definition = json!({"instructions": "Write.", "artifacts": true, "model": model});
    let execution = json!({"metadata": {"name": "writer"}, "spec": {"definition": definition, "message": "Hi"}});
    server.create::<AgentExecution>(execution).await.unwrap();
    let status = server.ended::<AgentExecution>("writer").await.status.unwrap();
    assert_eq!(status.phase, "Completed", "{:?}", status.error);
    let made: Vec<(&str, i32)> = status.artifacts.iter().map(|it| (it.name.as_str(), it.size_bytes)).collect();
    assert_eq!(made, [("notes.md", 5), ("report.md", i32::try_from(long.len()).unwrap())]);
    assert_eq!(status.artifacts[1].digest, Digest::of(long.as_bytes()).to_string());

    let server = server.restart().await;
    let read_one = async |name: &str| {
        let request =
            GetExecutionArtifactRequest { name: "writer".into(), artifact: name.into(), ..Default::default() };
        server.app().execution_artifact(&request).await
    };
    assert_eq!(read_one("report.md").await.unwrap().data, long.as_bytes());
    let refused = read_one("other").await.unwrap_err();
    assert!(refused.to_string().contains("it made 'notes.md', 'report.md'"), "{refused}");
    server.stop().await;
}
