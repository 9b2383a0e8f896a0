//! Secrets of agents: what is said when they are not there, and what people who decide cannot bring back in.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use baton_proto::v1::{Agent, AgentExecution, Approval, DecideRequest, Json, Secret, WatchRequest, Workflow};
use baton_types::ErrorKind;
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{REAL, Server, fields, read, trivial};

const KEY: &str = "sk-planted/\"0123456789\"";

/// An agent that pays through a workflow, with a key for its model that a playback does not need.
fn payer() -> Value {
    let key = |secret: &str| json!({"secret": secret, "key": "key"});
    let playback = json!({"conversations": [{"turns": [
        {"toolCalls": [{"name": "pay", "arguments": {"to": "kim"}}]},
        {"text": "Done."},
    ]}]});
    let model = json!({
        "name": "m", "provider": "playback", "playback": playback, "apiKey": key("models"),
        "fallbacks": [{"name": "other", "apiKey": key("spare")}, {"name": "third", "apiKey": key("models")}],
    });
    let tool =
        json!({"name": "pay", "description": "Pays", "parameters": {"type": "object"}, "workflow": {"name": "quick"}});
    json!({"metadata": {"name": "payer"}, "spec": {"instructions": "Pay.", "model": model, "tools": [tool]}})
}

#[tokio::test]
async fn an_agent_is_warned_of_secrets_that_are_not_there() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("quick")).await.unwrap();
    server.create::<Secret>(json!({"metadata": {"name": "spare"}, "spec": {"data": {"key": KEY}}})).await.unwrap();
    let written = server.app().create(read::<Agent>(payer()), REAL).await.unwrap();
    assert_eq!(
        written.warnings,
        [
            "spec.model.apiKey.secret: no secret 'models' in namespace 'default' yet; executions fail where they use it until it is created"
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn who_decides_cannot_bring_a_value_of_a_secret_into_the_history() {
    let server = Server::start().await;
    let app = server.app();
    for name in ["models", "spare", "unrelated"] {
        let data = json!({"key": if name == "models" { KEY } else { "another value of a secret" }});
        server.create::<Secret>(json!({"metadata": {"name": name}, "spec": {"data": data}})).await.unwrap();
    }
    server.create::<Workflow>(trivial("quick")).await.unwrap();
    server.create::<Agent>(payer()).await.unwrap();
    let mut raised = Box::pin(app.watch::<Approval>(&WatchRequest::default(), false).await.unwrap());
    for (name, approves) in [("denied", false), ("edited", true)] {
        server
            .create::<AgentExecution>(
                json!({"metadata": {"name": name}, "spec": {"agent": "payer", "message": "Pay kim"}}),
            )
            .await
            .unwrap();
        let approval = loop {
            let approval = raised.next().await.unwrap().unwrap().object;
            let (spec, phase) = (approval.spec.clone().unwrap(), approval.status.clone().unwrap().phase);
            if spec.execution.unwrap().name == name && phase == "Pending" {
                break approval;
            }
        };
        let decide = |decision: &str, reason: String, arguments: Option<Value>| DecideRequest {
            name: approval.metadata.as_ref().unwrap().name.clone(),
            decision: decision.to_owned(),
            reason,
            arguments_digest: approval.spec.as_ref().unwrap().arguments_digest.clone(),
            arguments: arguments.map(|it| Json::from_value(&it)),
            ..DecideRequest::default()
        };
        for pasted in [json!({"to": KEY}), json!({KEY: 1}), json!({"to": [BASE64_STANDARD.encode(format!("u:{KEY}"))]})]
        {
            let refused = app.decide(decide("approve", String::new(), Some(pasted)), None).await.unwrap_err();
            assert_eq!((refused.kind, fields(&refused)), (ErrorKind::InvalidArgument, vec!["arguments".to_owned()]));
            assert!(!format!("{refused:?}").contains("planted"), "{refused:?}");
        }
        let reason = format!("the key is {KEY}, I think");
        let decided = if approves {
            app.decide(decide("approve", reason, Some(json!({"to": "kim, not eve"}))), None).await.unwrap()
        } else {
            app.decide(decide("deny", reason, None), None).await.unwrap()
        };
        assert_eq!(decided.status.unwrap().reason, "the key is ***, I think");
        assert_eq!(server.ended::<AgentExecution>(name).await.status.unwrap().phase, "Completed");
    }
    drop(raised);
    let Server { running, folder } = server;
    running.shutdown().await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains("sk-planted"), "{}", path.display());
        }
    }
}
