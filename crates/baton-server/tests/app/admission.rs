//! Strategies: every violation at once, with its path.

use baton_proto::v1::{Agent, AgentExecution, Workflow, WorkflowExecution};
use baton_server::app::{ServedResource, refuse_misplaced_token};
use baton_types::ErrorKind;
use serde_json::{Value, json};

use crate::support::{DRY, REAL, Server, agent, document, fields, read, trivial};

async fn check<R: ServedResource + std::fmt::Debug>(server: &Server, object: Value, expected: &[(&str, &str)]) {
    let refused = server.app().create(read::<R>(object.clone()), REAL).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidArgument, "{}", refused.message);
    let mut names: Vec<_> = expected.iter().map(|(field, _)| (*field).to_owned()).collect();
    names.sort();
    assert_eq!(fields(&refused), names, "{}", refused.message);
    for (field, says) in expected {
        let found = refused.violations.iter().find(|it| it.field == *field && it.message.contains(says));
        assert!(found.is_some(), "{field} should say '{says}': {}", refused.message);
    }
    let dry = server.app().create(read::<R>(object), DRY).await.unwrap_err();
    assert_eq!(dry.message, refused.message, "a dry run says the same");
}

#[tokio::test]
async fn metadata_is_checked_whole() {
    let server = Server::start().await;
    let mut object = trivial("ok");
    let long = "x".repeat(70);
    object["apiVersion"] = json!("baton.dev/v2");
    object["kind"] = json!("Agent");
    object["metadata"] = json!({
        "name": "Not A Name",
        "namespace": "a.b",
        "resourceVersion": "7",
        "labels": {"good": "x", "bad key": "v", "k": "-"},
        "annotations": {"a/b/c": "", "fine": "anything at all\n"},
        "finalizers": ["example.com/held", "no good"],
        "ownerReferences": [
            {"apiVersion": "baton.dev/v1", "kind": "Workflow", "name": "x", "uid": "0197f3c2-6d1e-7c3a-9f00-2b9d6d1e7c3a", "controller": true},
            {"kind": "Workflow", "name": "y", "uid": "nonsense", "controller": true},
        ],
    });
    check::<Workflow>(
        &server,
        object,
        &[
            ("apiVersion", "allowed is 'baton.dev/v1'"),
            ("kind", "allowed here is 'Workflow'"),
            ("metadata.name", "'Not A Name' is not a valid name"),
            ("metadata.namespace", "'a.b'"),
            ("metadata.resourceVersion", "must not be set"),
            ("metadata.labels.bad key", "'bad key'"),
            ("metadata.labels.k", "'-'"),
            ("metadata.annotations.a/b/c", "'b/c'"),
            ("metadata.finalizers[1]", "'no good'"),
            ("metadata.ownerReferences[1].apiVersion", "must be set"),
            ("metadata.ownerReferences[1].uid", "'nonsense' is not a uid"),
            ("metadata.ownerReferences", "has 2 owners with controller true"),
        ],
    )
    .await;
    let mut object = trivial("x");
    object["metadata"] = json!({"labels": {long: "v"}, "annotations": {"big": "x".repeat(300 * 1024)}});
    let label = format!("metadata.labels.{}…", "x".repeat(64));
    check::<Workflow>(
        &server,
        object,
        &[
            ("metadata.name", "or metadata.generateName"),
            (label.as_str(), "has 70 bytes"),
            ("metadata.annotations", "allowed are up to 262144"),
        ],
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn templates_are_checked_whole() {
    let server = Server::start().await;
    check::<Workflow>(&server, json!({"metadata": {"name": "a"}}), &[("spec.definition", "must be set")]).await;
    check::<Agent>(&server, json!({"metadata": {"name": "a"}}), &[("spec", "must be set")]).await;
    let definition = document("a", &json!([{"one": {"set": {"x": 1}, "then": "nowhere"}}, {"two": {"sett": {}}}]));
    let refused = server
        .create::<Workflow>(json!({"metadata": {"name": "A"}, "spec": {"definition": definition}}))
        .await
        .unwrap_err();
    let found = fields(&refused);
    assert!(found.iter().any(|field| field.starts_with("spec.definition.do[0].one")), "{found:?}");
    assert!(found.iter().any(|field| field.starts_with("spec.definition.do[1].two")), "{found:?}");
    assert!(found.contains(&"metadata.name".to_owned()), "{found:?}");
    let mut broken = agent("a");
    broken["spec"]["limits"] = json!({"maxTurns": -1});
    broken["spec"]["tools"] = json!([{"name": "t", "description": "d"}]);
    let refused = server.create::<Agent>(broken).await.unwrap_err();
    let found = fields(&refused);
    assert!(
        found.iter().any(|field| field.starts_with("spec.limits"))
            && found.iter().any(|field| field.starts_with("spec.tools[0]")),
        "{found:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn executions_are_checked_whole() {
    let server = Server::start().await;
    for name in ["triage", "summary", "tirage"] {
        server.create::<Workflow>(trivial(name)).await.unwrap();
    }
    let spec = json!({
        "workflow": "trage",
        "env": {"OK_1": "x", "not ok": "y", "BIG": "x".repeat(40 * 1024)},
        "timeout": "soon",
        "callbackDeadline": "0s",
        "ttlSecondsAfterFinished": -1,
        "parentClosePolicy": "Terminate",
        "requestId": "x".repeat(300),
    });
    check::<WorkflowExecution>(
        &server,
        json!({"metadata": {"name": "run"}, "spec": spec}),
        &[
            (
                "spec.workflow",
                "no workflow 'trage' in namespace 'default'; workflows there are 'tirage', 'triage', 'summary'",
            ),
            ("spec.env.not ok", "is not a valid name"),
            ("spec.env.BIG", "has 40960 bytes"),
            ("spec.timeout", "'soon' is not a duration"),
            ("spec.callbackDeadline", "must be more than 0"),
            ("spec.ttlSecondsAfterFinished", "is -1"),
            ("spec.parentClosePolicy", "allowed are 'Cancel' and 'Abandon'"),
            ("spec.requestId", "has 300 bytes"),
        ],
    )
    .await;
    check::<WorkflowExecution>(&server, json!({"metadata": {"name": "run"}, "spec": {}}), &[("spec", "it has none")])
        .await;
    check::<WorkflowExecution>(&server, json!({"metadata": {"name": "run"}}), &[("spec", "it has none")]).await;
    let both = json!({"workflow": "triage", "definition": document("x", &json!([{"a": {"set": {}}}]))});
    check::<WorkflowExecution>(&server, json!({"metadata": {"name": "run"}, "spec": both}), &[("spec", "it has both")])
        .await;
    check::<AgentExecution>(
        &server,
        json!({"metadata": {"name": "run"}, "spec": {"agent": "nobody", "session": "Not Valid", "limits": {"maxTurns": -1, "maxTokens": 5}}}),
        &[("spec.agent", "no agent 'nobody' in namespace 'default'; there are no agents there"), ("spec.session", "'Not Valid'"), ("spec.limits.maxTurns", "found -1")],
    )
    .await;
    let refused = server
        .create::<WorkflowExecution>(json!({"metadata": {"name": "run"}, "spec": {"workflow": "none"}}))
        .await
        .unwrap_err();
    assert_eq!(refused.hint.as_deref(), Some("create it first with baton apply -f FILE"));
    server.stop().await;
}

#[tokio::test]
async fn an_inline_definition_is_checked_under_its_path() {
    let server = Server::start().await;
    let definition = document("x", &json!([{"a": {"set": {}, "then": "b"}}]));
    let refused = server
        .create::<WorkflowExecution>(json!({"metadata": {"name": "run"}, "spec": {"definition": definition}}))
        .await
        .unwrap_err();
    assert!(fields(&refused).iter().all(|field| field.starts_with("spec.definition.do[0].a")), "{}", refused.message);
    let refused = server
        .create::<AgentExecution>(
            json!({"metadata": {"name": "run"}, "spec": {"definition": {"model": {"name": "m"}}}}),
        )
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["spec.definition.instructions"], "{}", refused.message);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_json_is_refused_and_not_stored() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let mut execution: WorkflowExecution = read(json!({"metadata": {"name": "run"}, "spec": {"workflow": "w"}}));
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let (unreadable, too_deep) = (deep(200), deep(101));
    for (text, says) in [
        ("{", "is not JSON"),
        (unreadable.as_str(), "is nested deeper than 100 levels"),
        (too_deep.as_str(), "is nested deeper than 100 levels"),
        ("1 2", "is not JSON"),
    ] {
        execution.spec.as_mut().unwrap().input = Some(baton_proto::v1::Json { text: text.to_owned() });
        let refused = server.app().create(execution.clone(), REAL).await.unwrap_err();
        assert_eq!(fields(&refused), ["spec.input"]);
        assert!(refused.message.contains(says), "{}", refused.message);
    }
    assert!(server.app().get::<WorkflowExecution>("", "run").await.is_err());
    execution.spec.as_mut().unwrap().input = Some(baton_proto::v1::Json { text: deep(100) });
    server.app().create(execution, REAL).await.unwrap();
    let output = server.ended::<WorkflowExecution>("run").await.status.unwrap().output.unwrap().text;
    assert_eq!(output, format!("{{\"got\":{}}}", deep(100)), "what is taken can be read wherever it comes to lie");
    server.create::<Agent>(agent("a")).await.unwrap();
    let mut execution: AgentExecution = read(json!({"metadata": {"name": "run"}, "spec": {"agent": "a"}}));
    execution.spec.as_mut().unwrap().input = Some(baton_proto::v1::Json { text: too_deep });
    assert_eq!(fields(&server.app().create(execution.clone(), REAL).await.unwrap_err()), ["spec.input"]);
    execution.spec.as_mut().unwrap().input = Some(baton_proto::v1::Json { text: deep(100) });
    server.app().create(execution, REAL).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_resource_over_its_limit_names_size_and_limit() {
    let server = Server::start().await;
    let mut object = trivial("big");
    object["spec"]["definition"]["document"]["summary"] = json!("x".repeat(1_100_000));
    let refused = server.create::<Workflow>(object).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::TooLarge);
    assert!(
        refused.message.contains("allowed are up to 1048576") && refused.message.contains("1100"),
        "{}",
        refused.message
    );
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let run = json!({"metadata": {"name": "run"}, "spec": {"workflow": "w", "input": "x".repeat(1_100_000)}});
    assert_eq!(server.create::<WorkflowExecution>(run).await.unwrap_err().kind, ErrorKind::TooLarge);
    server.stop().await;
}

#[tokio::test]
async fn a_token_in_status_is_refused_and_any_other_status_ignored() {
    for (object, refused) in [
        (json!({"status": {"callbackToken": "dG9rZW4="}}), true),
        (json!({"status": {"callback_token": "dG9rZW4="}}), true),
        (json!({"status": {"callbackToken": null}}), false),
        (json!({"status": {"phase": "Completed"}, "spec": {"callbackToken": "dG9rZW4="}}), false),
        (json!([1]), false),
    ] {
        let answer = refuse_misplaced_token(&object);
        assert_eq!(answer.is_err(), refused, "{object}");
        if let Err(error) = answer {
            assert_eq!(
                (fields(&error), error.reason),
                (vec!["status.callbackToken".to_owned()], "CALLBACK_TOKEN_IN_STATUS")
            );
            assert!(error.message.contains("spec.callbackToken") && !error.message.contains("dG9rZW4="));
        }
    }
    let server = Server::start().await;
    let mut object = trivial("w");
    object["status"] = json!({"digest": "mine", "observedGeneration": 9});
    let stored: Workflow = server.create(object).await.unwrap();
    let status = stored.status.unwrap();
    assert!(status.digest.starts_with("sha256:") && status.observed_generation == 1);
    assert_eq!((status.conditions[0].r#type.as_str(), status.conditions[0].status.as_str()), ("Accepted", "True"));
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_nobody_here_can_answer_is_refused() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let run = |token: &[u8]| {
        let mut execution: WorkflowExecution = read(json!({"metadata": {"name": "run"}, "spec": {"workflow": "w"}}));
        execution.spec.as_mut().unwrap().callback_token = Some(token.to_vec());
        execution
    };
    let refused = server.app().create(run(b"somebody else's token"), REAL).await.unwrap_err();
    assert_eq!(refused.reason, "CALLBACK_TOKEN_UNKNOWN");
    assert!(!refused.message.contains("somebody"), "{}", refused.message);
    let refused = server.app().create(run(&[b'x'; 9000]), REAL).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.callbackToken"]);
    let empty = server.app().create(run(b""), REAL).await.unwrap().object;
    assert!(empty.status.unwrap().callbacks.is_empty(), "nobody waits");
    server.stop().await;
}
