//! Executions that an older system serialized, with the token where it stood once.

use baton_proto::v1::{ObjectMeta, WorkflowExecution, WorkflowExecutionSpec, WorkflowExecutionStatus};
use baton_server::app::App;
use baton_types::{ErrorKind, fingerprint};
use prost::Message as _;

use crate::support::{Server, trivial};

/// `status` of that time: today's, and the token in field 11.
fn with_old_token(execution: &WorkflowExecution, token: &[u8]) -> Vec<u8> {
    let mut bytes = WorkflowExecution { status: None, ..execution.clone() }.encode_to_vec();
    let mut status = execution.status.clone().unwrap_or_default().encode_to_vec();
    prost::encoding::bytes::encode(11, &token.to_vec(), &mut status);
    prost::encoding::bytes::encode(5, &status, &mut bytes);
    bytes
}

fn execution(name: &str, phase: &str) -> WorkflowExecution {
    WorkflowExecution {
        metadata: Some(ObjectMeta {
            name: name.into(),
            resource_version: "77".into(),
            finalizers: vec!["old.example.com/x".into()],
            ..ObjectMeta::default()
        }),
        spec: Some(WorkflowExecutionSpec { workflow: "w".into(), ..WorkflowExecutionSpec::default() }),
        status: Some(WorkflowExecutionStatus {
            phase: phase.into(),
            temporal_workflow_id: "wf-1".into(),
            ..WorkflowExecutionStatus::default()
        }),
        ..WorkflowExecution::default()
    }
}

async fn token(app: &App) -> Vec<u8> {
    app.create_callback(&baton_proto::v1::CreateCallbackRequest::default()).await.unwrap().callback_token
}

async fn answer(app: &App, token: Vec<u8>) -> baton_proto::v1::AwaitCallbackResponse {
    app.await_callback(&baton_proto::v1::AwaitCallbackRequest { callback_token: token, timeout: "60s".into() })
        .await
        .unwrap()
}

#[tokio::test]
async fn one_that_has_not_ended_runs_here_and_answers_its_lifted_token() {
    let server = Server::start().await;
    server.create::<baton_proto::v1::Workflow>(trivial("w")).await.unwrap();
    let token = token(server.app()).await;
    let imported =
        server.app().import_legacy(&with_old_token(&execution("old", "Running"), &token), None).await.unwrap();
    let callbacks = imported.status.clone().unwrap().callbacks;
    assert_eq!(callbacks[0].fingerprint, fingerprint(&token));
    assert_eq!(imported.spec.clone().unwrap().callback_token.unwrap_or_default(), b"", "a token is never read back");
    assert_eq!(answer(server.app(), token.clone()).await.state, "Completed");
    let again = server.app().import_legacy(&with_old_token(&execution("old", "Running"), &token), None).await.unwrap();
    assert_eq!(again.metadata.unwrap().uid, imported.metadata.unwrap().uid, "a repeat finds it");
    server.stop().await;
}

#[tokio::test]
async fn one_that_has_ended_is_kept_as_it_is_and_answers() {
    let server = Server::start().await;
    let token = token(server.app()).await;
    let mut old = execution("old", "Completed");
    old.status.as_mut().unwrap().output = Some(baton_proto::v1::Json { text: "{\"n\":1}".into() });
    let bytes = with_old_token(&old, &token);
    let imported = server.app().import_legacy(&bytes, Some("archive")).await.unwrap();
    let meta = imported.metadata.as_ref().unwrap();
    assert_eq!((meta.namespace.as_str(), meta.name.as_str()), ("archive", "old"));
    let status = imported.status.unwrap();
    assert_eq!((status.phase.as_str(), status.temporal_workflow_id.as_str()), ("Completed", "wf-1"));
    let answered = answer(server.app(), token).await;
    assert_eq!((answered.state.as_str(), answered.output.unwrap().text.as_str()), ("Completed", "{\"n\":1}"));
    let again = server.app().import_legacy(&bytes, Some("archive")).await.unwrap();
    assert_eq!(again.metadata.unwrap().uid, meta.uid, "a repeat finds it");
    let read = server.app().get::<WorkflowExecution>("archive", "old").await.unwrap();
    assert_eq!(read.spec.unwrap().callback_token.unwrap_or_default(), b"");
    old.status.as_mut().unwrap().phase = "Failed".into();
    assert_eq!(
        server.app().import_legacy(&old.encode_to_vec(), Some("archive")).await.unwrap_err().kind,
        ErrorKind::AlreadyExists
    );
    server.stop().await;
}

#[tokio::test]
async fn an_ended_one_of_another_installation_says_who_was_not_told() {
    let server = Server::start().await;
    let imported =
        server.app().import_legacy(&with_old_token(&execution("old", "Failed"), b"foreign"), None).await.unwrap();
    let callback = imported.status.unwrap().callbacks.remove(0);
    assert_eq!((callback.state.as_str(), callback.fingerprint), ("Abandoned", fingerprint(b"foreign")));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_told_apart_is_refused_and_nothing_written() {
    let server = Server::start().await;
    server.create::<baton_proto::v1::Workflow>(trivial("w")).await.unwrap();
    let mut both = execution("old", "Running");
    both.spec.as_mut().unwrap().callback_token = Some(b"new".to_vec());
    let refused = server.app().import_legacy(&with_old_token(&both, b"old"), None).await.unwrap_err();
    assert_eq!((refused.kind, refused.reason), (ErrorKind::InvalidArgument, "CALLBACK_TOKENS_DIFFER"));
    assert!(
        refused.message.contains(&fingerprint(b"old")) && refused.message.contains(&fingerprint(b"new")),
        "{}",
        refused.message
    );
    assert_eq!(server.app().import_legacy(b"\xff\xff", None).await.unwrap_err().reason, "LEGACY_MALFORMED");
    assert_eq!(
        server
            .app()
            .import_legacy(&with_old_token(&execution("old", "Running"), b"foreign"), None)
            .await
            .unwrap_err()
            .reason,
        "CALLBACK_TOKEN_UNKNOWN"
    );
    assert_eq!(server.app().get::<WorkflowExecution>("", "old").await.unwrap_err().kind, ErrorKind::NotFound);
    server.stop().await;
}
