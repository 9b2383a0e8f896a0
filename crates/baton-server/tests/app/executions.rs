//! Executions: their life, what may change in them, who is told, and their children.

use baton_proto::v1::{
    Agent, AgentExecution, AttachCallbackRequest, AwaitCallbackRequest, CompleteCallbackRequest, CreateCallbackRequest,
    DeleteRequest, FailCallbackRequest, HistoryRequest, Json, ListCallbacksRequest, WatchRequest, Workflow,
    WorkflowExecution,
};
use baton_server::app::WatchKind;
use baton_types::{ErrorKind, fingerprint};
use futures::StreamExt as _;
use serde_json::json;

use crate::support::{DRY, REAL, Server, agent, calling, fields, read, run, trivial, version, waiting};

async fn mailbox(server: &Server) -> Vec<u8> {
    server.app().create_callback(&CreateCallbackRequest::default()).await.unwrap().callback_token
}

async fn answer(server: &Server, token: &[u8]) -> baton_proto::v1::AwaitCallbackResponse {
    let request = AwaitCallbackRequest { callback_token: token.to_vec(), timeout: "60s".into() };
    server.app().await_callback(&request).await.unwrap()
}

fn told(name: &str, workflow: &str, token: &[u8]) -> WorkflowExecution {
    let mut execution: WorkflowExecution = read(run(name, workflow));
    execution.spec.as_mut().unwrap().callback_token = Some(token.to_vec());
    execution
}

#[tokio::test]
async fn a_workflow_runs_to_its_output_pinned_to_its_template() {
    let server = Server::start().await;
    let template: Workflow = server.create(trivial("w")).await.unwrap();
    let mut object = run("run", "w");
    object["spec"]["input"] = json!({"big": 9_007_199_254_740_993_i64});
    let created: WorkflowExecution = server.create(object).await.unwrap();
    assert_eq!(created.metadata.as_ref().unwrap().generation, 1);
    let ended = server.ended::<WorkflowExecution>("run").await;
    let status = ended.status.unwrap();
    assert_eq!(status.phase, "Completed");
    assert_eq!(status.output.unwrap().text, r#"{"got":{"big":9007199254740993}}"#);
    let pinned = status.template.unwrap();
    assert_eq!((pinned.name.as_str(), pinned.generation, pinned.digest), ("w", 1, template.status.unwrap().digest));
    server.stop().await;
}

#[tokio::test]
async fn an_agent_and_inline_definitions_run() {
    let server = Server::start().await;
    server.create::<Agent>(agent("a")).await.unwrap();
    server
        .create::<AgentExecution>(json!({"metadata": {"name": "named"}, "spec": {"agent": "a", "message": "hello"}}))
        .await
        .unwrap();
    server
        .create::<AgentExecution>(
            json!({"metadata": {"name": "inline"}, "spec": {"definition": agent("x")["spec"], "message": "hello"}}),
        )
        .await
        .unwrap();
    for name in ["named", "inline"] {
        let status = server.ended::<AgentExecution>(name).await.status.unwrap();
        assert_eq!((status.phase.as_str(), status.output.unwrap().text.as_str()), ("Completed", "\"done\""), "{name}");
    }
    let definition = trivial("x")["spec"]["definition"].clone();
    server
        .create::<WorkflowExecution>(json!({"metadata": {"name": "inline"}, "spec": {"definition": definition}}))
        .await
        .unwrap();
    let status = server.ended::<WorkflowExecution>("inline").await.status.unwrap();
    assert_eq!((status.phase.as_str(), status.template.unwrap().name.as_str()), ("Completed", ""));
    server.stop().await;
}

#[tokio::test]
async fn the_template_that_is_there_at_creation_is_the_one_that_runs() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    server.create::<WorkflowExecution>(run("one", "w")).await.unwrap();
    let patch = json!({"spec": {"definition": {"do": [{"say": {"set": {"version": "new"}}}]}}});
    server.app().patch::<Workflow>("", "w", patch, REAL).await.unwrap();
    let created: WorkflowExecution = server.create(run("two", "w")).await.unwrap();
    assert_eq!(created.status.unwrap().template.unwrap().generation, 2, "a written template is seen at once");
    assert_eq!(server.ended::<WorkflowExecution>("one").await.status.unwrap().output.unwrap().text, r#"{"got":null}"#);
    assert_eq!(
        server.ended::<WorkflowExecution>("two").await.status.unwrap().output.unwrap().text,
        r#"{"version":"new"}"#
    );
    server.app().delete::<Workflow>(&DeleteRequest { name: "w".into(), ..DeleteRequest::default() }).await.unwrap();
    assert_eq!(fields(&server.create::<WorkflowExecution>(run("three", "w")).await.unwrap_err()), ["spec.workflow"]);
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_create_is_the_same_execution_and_adds_its_token() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let (first_token, second_token) = (mailbox(&server).await, mailbox(&server).await);
    let mut request = told("run", "w", &first_token);
    request.spec.as_mut().unwrap().request_id = "r1".into();
    let first = server.app().create(request.clone(), REAL).await.unwrap();
    assert!(first.created);
    request.spec.as_mut().unwrap().callback_token = Some(second_token.clone());
    let second = server.app().create(request.clone(), REAL).await.unwrap();
    assert!(!second.created);
    assert_eq!(second.object.metadata.unwrap().uid, first.object.metadata.unwrap().uid);
    for token in [&first_token, &second_token] {
        assert_eq!(answer(&server, token).await.state, "Completed");
    }
    assert!(!server.app().create(request.clone(), DRY).await.unwrap().created);
    request.spec.as_mut().unwrap().input = Some(Json { text: "1".into() });
    assert_eq!(server.app().create(request.clone(), REAL).await.unwrap_err().kind, ErrorKind::AlreadyExists);
    request.spec.as_mut().unwrap().request_id.clear();
    assert_eq!(server.app().create(request, REAL).await.unwrap_err().kind, ErrorKind::AlreadyExists);
    server.stop().await;
}

#[tokio::test]
async fn generated_names_and_dry_runs() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let mut object = run("", "w");
    object["metadata"] = json!({"generateName": "run-"});
    let created: WorkflowExecution = server.create(object).await.unwrap();
    assert!(created.metadata.unwrap().name.starts_with("run-"));
    let token = mailbox(&server).await;
    let dry = server.app().create(told("dry", "w", &token), DRY).await.unwrap();
    assert!(dry.created && version(&dry.object).is_empty());
    assert_eq!(dry.object.spec.unwrap().callback_token.unwrap_or_default(), b"");
    assert_eq!(server.app().get::<WorkflowExecution>("", "dry").await.unwrap_err().kind, ErrorKind::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn the_spec_cannot_change_but_for_suspend() {
    let server = Server::start().await;
    server.create::<Workflow>(waiting("w")).await.unwrap();
    let token = mailbox(&server).await;
    let mut object = told("run", "w", &token);
    object.spec.as_mut().unwrap().env.insert("A".into(), "1".into());
    object.spec.as_mut().unwrap().input = Some(Json { text: r#"{"x":1,"y":2}"#.into() });
    server.app().create(object, REAL).await.unwrap();
    let patch = json!({"spec": {"workflow": "other", "input": {"x": 2}, "timeout": "10s", "env": {"A": "2", "B": "1"}, "callbackToken": "b3RoZXI=", "suspend": true}});
    let refused = server.app().patch::<WorkflowExecution>("", "run", patch, REAL).await.unwrap_err();
    assert_eq!((refused.kind, refused.reason), (ErrorKind::Invalid, "SPEC_IMMUTABLE"));
    assert_eq!(
        fields(&refused),
        ["spec.callbackToken", "spec.env.A", "spec.env.B", "spec.input.x", "spec.timeout", "spec.workflow"]
    );
    let token_refused = refused.violations.iter().find(|it| it.field == "spec.callbackToken").unwrap();
    assert!(token_refused.message.contains(&fingerprint(&token)), "{token_refused}");
    let current = server.app().get::<WorkflowExecution>("", "run").await.unwrap();
    assert!(!current.spec.unwrap().suspend, "what was refused changed nothing");
    server.stop().await;
}

#[tokio::test]
async fn metadata_and_suspend_change_and_the_token_stays() {
    let server = Server::start().await;
    server.create::<Workflow>(waiting("w")).await.unwrap();
    let token = mailbox(&server).await;
    let created = server.app().create(told("run", "w", &token), REAL).await.unwrap().object;
    assert_eq!(created.spec.as_ref().unwrap().callback_token.clone().unwrap_or_default(), b"");
    let labelled = server
        .app()
        .patch::<WorkflowExecution>("", "run", json!({"metadata": {"labels": {"a": "b"}, "finalizers": null}}), REAL)
        .await
        .unwrap()
        .object;
    let meta = labelled.metadata.as_ref().unwrap();
    assert_eq!((meta.labels["a"].as_str(), meta.generation), ("b", 1));
    let mut named = labelled.clone();
    named.spec.as_mut().unwrap().callback_token = Some(token.clone());
    named.spec.as_mut().unwrap().suspend = true;
    let current = server.app().get::<WorkflowExecution>("", "run").await.unwrap();
    named.metadata.as_mut().unwrap().resource_version = version(&current);
    let suspended = server.app().update(named, REAL).await.unwrap().object;
    assert_eq!(suspended.metadata.as_ref().unwrap().generation, 2);
    assert!(suspended.spec.as_ref().unwrap().suspend);
    let resumed = server.app().resume::<WorkflowExecution>("", "run").await.unwrap();
    assert_eq!((resumed.metadata.unwrap().generation, resumed.spec.unwrap().suspend), (3, false));
    server.app().terminate::<WorkflowExecution>("", "run", "enough").await.unwrap();
    assert_eq!(answer(&server, &token).await.state, "Cancelled", "the answer comes whatever was done to the metadata");
    let refused = server.app().suspend::<WorkflowExecution>("", "run").await.unwrap_err();
    assert_eq!((refused.kind, refused.reason), (ErrorKind::FailedPrecondition, "EXECUTION_ENDED"));
    server.stop().await;
}

#[tokio::test]
async fn a_stale_version_of_an_execution_conflicts() {
    let server = Server::start().await;
    server.create::<Workflow>(waiting("w")).await.unwrap();
    server.create::<WorkflowExecution>(run("run", "w")).await.unwrap();
    server
        .app()
        .patch::<WorkflowExecution>("", "run", json!({"metadata": {"labels": {"a": "b"}}}), REAL)
        .await
        .unwrap();
    let patch = json!({"metadata": {"resourceVersion": "1", "labels": {"a": "c"}}});
    assert_eq!(
        server.app().patch::<WorkflowExecution>("", "run", patch, REAL).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    server.stop().await;
}

/// Follows a watch until the execution waits for a callback, and answers the echo of its token.
async fn token_of(server: &Server, name: &str) -> Vec<u8> {
    let request = WatchRequest { field_selector: format!("metadata.name={name}"), ..WatchRequest::default() };
    let mut events = Box::pin(server.app().watch::<WorkflowExecution>(&request, false).await.unwrap());
    loop {
        let item = events.next().await.unwrap().unwrap();
        assert_ne!(item.kind, WatchKind::Deleted);
        let waits = item.object.status.unwrap_or_default().waiting_for;
        if let Some(wait) = waits.into_iter().find(|wait| wait.reason == "Callback") {
            return wait.fingerprint.into_bytes();
        }
    }
}

#[tokio::test]
async fn a_wait_shows_its_fingerprint_and_no_token_is_ever_read_back() {
    let server = Server::start().await;
    server.create::<Workflow>(waiting("w")).await.unwrap();
    server.create::<WorkflowExecution>(run("run", "w")).await.unwrap();
    let shown = token_of(&server, "run").await;
    assert_eq!(shown.len(), 12);
    let page = server
        .app()
        .history::<WorkflowExecution>(&HistoryRequest { name: "run".into(), ..HistoryRequest::default() })
        .await
        .unwrap();
    assert!(!baton_proto::to_json(&page).contains("baton1."), "no token in history");
    let object = server.app().get::<WorkflowExecution>("", "run").await.unwrap();
    assert!(!baton_proto::to_json(&object).contains("baton1."), "no token in the object");
    server.stop().await;
}

#[tokio::test]
async fn history_is_paged_and_followed() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    server.create::<WorkflowExecution>(run("run", "w")).await.unwrap();
    server.ended::<WorkflowExecution>("run").await;
    let request = |after, limit| HistoryRequest { name: "run".into(), after, limit, ..HistoryRequest::default() };
    let all = server.app().history::<WorkflowExecution>(&request(0, 0)).await.unwrap();
    assert!(all.events.len() > 2 && all.next_after == 0);
    assert_eq!((all.events[0].number, all.events[0].r#type.as_str()), (1, "Started"));
    let first = server.app().history::<WorkflowExecution>(&request(0, 2)).await.unwrap();
    assert_eq!((first.events.len(), first.next_after), (2, 2));
    let rest = server.app().history::<WorkflowExecution>(&request(first.next_after, 1000)).await.unwrap();
    assert_eq!(rest.events, all.events[2..]);
    let followed: Vec<_> = server
        .app()
        .watch_history::<WorkflowExecution>(&request(2, 0))
        .await
        .unwrap()
        .map(Result::unwrap)
        .collect()
        .await;
    assert_eq!(followed, all.events[2..]);
    for (after, limit, field) in [(-1, 0, "after"), (0, -1, "limit"), (0, 1001, "limit")] {
        assert_eq!(
            fields(&server.app().history::<WorkflowExecution>(&request(after, limit)).await.unwrap_err()),
            [field]
        );
    }
    assert_eq!(server.app().history::<AgentExecution>(&request(0, 0)).await.unwrap_err().kind, ErrorKind::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn callers_outside_are_told_and_can_be_added_later() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    server.create::<WorkflowExecution>(run("run", "w")).await.unwrap();
    server.ended::<WorkflowExecution>("run").await;
    let token = mailbox(&server).await;
    let waiting = server
        .app()
        .await_callback(&AwaitCallbackRequest { callback_token: token.clone(), timeout: String::new() })
        .await
        .unwrap();
    assert_eq!(waiting.state, "Waiting");
    let attach =
        AttachCallbackRequest { name: "run".into(), callback_token: token.clone(), ..AttachCallbackRequest::default() };
    let list = server.app().attach_callback::<WorkflowExecution>(&attach).await.unwrap();
    assert_eq!(list.items[0].fingerprint, fingerprint(&token));
    let answered = answer(&server, &token).await;
    assert_eq!((answered.state.as_str(), answered.output.unwrap().text.as_str()), ("Completed", r#"{"got":null}"#));
    let callbacks = server
        .app()
        .callbacks::<WorkflowExecution>(&ListCallbacksRequest { name: "run".into(), ..ListCallbacksRequest::default() })
        .await
        .unwrap();
    assert_eq!(callbacks.items.len(), 1);
    for (token, field) in [(vec![], "callbackToken"), (vec![b'x'; 9000], "callbackToken")] {
        let request = AttachCallbackRequest { callback_token: token, ..attach.clone() };
        assert_eq!(fields(&server.app().attach_callback::<WorkflowExecution>(&request).await.unwrap_err()), [field]);
    }
    let foreign = AttachCallbackRequest { callback_token: b"foreign".to_vec(), ..attach };
    assert_eq!(
        server.app().attach_callback::<WorkflowExecution>(&foreign).await.unwrap_err().reason,
        "CALLBACK_TOKEN_UNKNOWN"
    );
    server.stop().await;
}

#[tokio::test]
async fn answers_are_checked_before_they_count() {
    let server = Server::start().await;
    let token = mailbox(&server).await;
    let complete = |text: &str| CompleteCallbackRequest {
        callback_token: token.clone(),
        output: Some(Json { text: text.into() }),
    };
    assert_eq!(fields(&server.app().complete_callback(&complete("{")).await.unwrap_err()), ["output"]);
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    for levels in [101, 200] {
        let refused = server.app().complete_callback(&complete(&deep(levels))).await.unwrap_err();
        assert_eq!((refused.kind, fields(&refused)), (ErrorKind::InvalidArgument, vec!["output".to_owned()]));
        assert!(refused.message.contains("is nested deeper than 100 levels"), "{}", refused.message);
        let problem = baton_proto::v1::Problem { data: Some(Json { text: deep(levels) }), ..Default::default() };
        let fail = FailCallbackRequest { callback_token: token.clone(), error: Some(problem) };
        assert_eq!(fields(&server.app().fail_callback(&fail).await.unwrap_err()), ["error.data"]);
    }
    let nested = mailbox(&server).await;
    let request = CompleteCallbackRequest { callback_token: nested.clone(), output: Some(Json { text: deep(100) }) };
    server.app().complete_callback(&request).await.unwrap();
    assert_eq!(answer(&server, &nested).await.output.unwrap().text, deep(100));
    // One limit, that of the engine, whichever way data comes; spaces around it do not count.
    let text = |bytes: usize| format!("{}\"{}\"", " ".repeat(1000), "x".repeat(bytes - 2));
    let refused = server.app().complete_callback(&complete(&text(262_145))).await.unwrap_err();
    assert_eq!((refused.kind, refused.reason), (ErrorKind::TooLarge, "CALLBACK_PAYLOAD_TOO_LARGE"));
    assert_eq!(refused.message, "output has 262145 bytes, allowed are at most 262144");
    let problem = baton_proto::v1::Problem { data: Some(Json { text: text(262_145) }), ..Default::default() };
    let fail = FailCallbackRequest { callback_token: token.clone(), error: Some(problem) };
    let refused = server.app().fail_callback(&fail).await.unwrap_err();
    assert_eq!(refused.message, "error.data has 262145 bytes, allowed are at most 262144");
    let full = mailbox(&server).await;
    let most = CompleteCallbackRequest { callback_token: full, output: Some(Json { text: text(262_144) }) };
    server.app().complete_callback(&most).await.unwrap();
    let problem = baton_proto::v1::Problem { status: 7, ..baton_proto::v1::Problem::default() };
    let fail = FailCallbackRequest { callback_token: token.clone(), error: Some(problem) };
    assert_eq!(fields(&server.app().fail_callback(&fail).await.unwrap_err()), ["error.status"]);
    assert_eq!(server.app().complete_callback(&complete("5")).await.unwrap().fingerprint, fingerprint(&token));
    assert_eq!(answer(&server, &token).await.output.unwrap().text, "5");
    assert_eq!(server.app().complete_callback(&complete("6")).await.unwrap_err().reason, "CALLBACK_ALREADY_COMPLETED");
    for (request, field) in [
        (CreateCallbackRequest { expires_after: "0s".into(), ..CreateCallbackRequest::default() }, "expiresAfter"),
        (CreateCallbackRequest { namespace: "No".into(), ..CreateCallbackRequest::default() }, "namespace"),
    ] {
        assert_eq!(fields(&server.app().create_callback(&request).await.unwrap_err()), [field]);
    }
    let long = AwaitCallbackRequest { callback_token: token, timeout: "2m".into() };
    assert_eq!(fields(&server.app().await_callback(&long).await.unwrap_err()), ["timeout"]);
    server.stop().await;
}

#[tokio::test]
async fn a_child_is_admitted_like_any_other_and_knows_its_parent() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("leaf")).await.unwrap();
    server.create::<Workflow>(calling("top", "leaf")).await.unwrap();
    let top: WorkflowExecution = server.create(run("top", "top")).await.unwrap();
    let ended = server.ended::<WorkflowExecution>("top").await;
    assert_eq!(ended.status.as_ref().unwrap().phase, "Completed", "{ended:?}");
    let request = baton_proto::v1::ListRequest {
        field_selector: "spec.workflow=leaf".into(),
        ..baton_proto::v1::ListRequest::default()
    };
    let (_, children) = server.app().list::<WorkflowExecution>(&request).await.unwrap();
    let child = &children[0];
    let owner = &child.metadata.as_ref().unwrap().owner_references[0];
    let uid = top.metadata.unwrap().uid;
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str(), owner.controller),
        ("WorkflowExecution", "top", uid.as_str(), true)
    );
    let status = child.status.as_ref().unwrap();
    assert_eq!(status.parent.as_ref().unwrap().uid, uid);
    assert_eq!(status.root.as_ref().unwrap().uid, uid);
    server.stop().await;
}

#[tokio::test]
async fn a_child_that_cannot_be_is_a_fault_of_its_parent() {
    let server = Server::start().await;
    server.create::<Workflow>(calling("top", "missing")).await.unwrap();
    server.create::<WorkflowExecution>(run("top", "top")).await.unwrap();
    let error = server.ended::<WorkflowExecution>("top").await.status.unwrap().error.unwrap();
    assert!(
        error.r#type.ends_with("/configuration")
            && error.detail.contains("no workflow 'missing' in namespace 'default'"),
        "{error:?}"
    );
    let mut other = calling("other", "leaf");
    other["spec"]["definition"]["do"][0]["call"]["run"]["workflow"]["version"] = json!("2.0.0");
    server.create::<Workflow>(trivial("leaf")).await.unwrap();
    server.create::<Workflow>(other).await.unwrap();
    server.create::<WorkflowExecution>(run("other", "other")).await.unwrap();
    let error = server.ended::<WorkflowExecution>("other").await.status.unwrap().error.unwrap();
    assert!(error.detail.contains("has the version '1.0.0', the call asks for '2.0.0'"), "{error:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_parent_takes_its_children_along() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("leaf")).await.unwrap();
    server.create::<Workflow>(calling("top", "leaf")).await.unwrap();
    server.create::<WorkflowExecution>(run("top", "top")).await.unwrap();
    server.ended::<WorkflowExecution>("top").await;
    let request = WatchRequest { field_selector: "spec.workflow=leaf".into(), ..WatchRequest::default() };
    let mut events = Box::pin(server.app().watch::<WorkflowExecution>(&request, false).await.unwrap());
    assert_eq!(events.next().await.unwrap().unwrap().kind, WatchKind::Added);
    server
        .app()
        .delete::<WorkflowExecution>(&DeleteRequest { name: "top".into(), ..DeleteRequest::default() })
        .await
        .unwrap();
    while events.next().await.unwrap().unwrap().kind != WatchKind::Deleted {}
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn a_running_execution_that_is_deleted_answers_first() {
    let server = Server::start().await;
    server.create::<Workflow>(waiting("w")).await.unwrap();
    let token = mailbox(&server).await;
    let created = server.app().create(told("run", "w", &token), REAL).await.unwrap().object;
    let request = WatchRequest { resource_version: version(&created), ..WatchRequest::default() };
    let mut events = Box::pin(server.app().watch::<WorkflowExecution>(&request, false).await.unwrap());
    server
        .app()
        .delete::<WorkflowExecution>(&DeleteRequest { name: "run".into(), ..DeleteRequest::default() })
        .await
        .unwrap();
    assert_eq!(answer(&server, &token).await.state, "Cancelled");
    while events.next().await.unwrap().unwrap().kind != WatchKind::Deleted {}
    assert_eq!(server.app().get::<WorkflowExecution>("", "run").await.unwrap_err().kind, ErrorKind::NotFound);
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn an_execution_past_its_time_to_live_goes() {
    let server = Server::start_with(|options| options.upkeep.period = std::time::Duration::from_millis(10)).await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let mut object = run("run", "w");
    object["spec"]["ttlSecondsAfterFinished"] = json!(0);
    let created: WorkflowExecution = server.create(object).await.unwrap();
    let request = WatchRequest { resource_version: version(&created), ..WatchRequest::default() };
    let mut events = Box::pin(server.app().watch::<WorkflowExecution>(&request, false).await.unwrap());
    let last = loop {
        let item = events.next().await.unwrap().unwrap();
        if item.kind == WatchKind::Deleted {
            break item.object;
        }
    };
    assert_eq!(last.status.unwrap().phase, "Completed");
    assert!(server.app().get::<WorkflowExecution>("", "run").await.is_err());
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn calls_without_end_stop_at_a_depth() {
    const LEVELS: usize = 34;
    let server = Server::start().await;
    server.create::<Workflow>(trivial(&format!("level-{LEVELS}"))).await.unwrap();
    for level in (0..LEVELS).rev() {
        server.create::<Workflow>(calling(&format!("level-{level}"), &format!("level-{}", level + 1))).await.unwrap();
    }
    server.create::<WorkflowExecution>(run("top", "level-0")).await.unwrap();
    let status = server.ended::<WorkflowExecution>("top").await.status.unwrap();
    let error = status.error.unwrap();
    assert!(status.phase == "Failed" && error.r#type.ends_with("/limit"), "{error:?}");
    let (_, all) = server.app().list::<WorkflowExecution>(&baton_proto::v1::ListRequest::default()).await.unwrap();
    assert_eq!(all.len(), 33, "the root and 32 below it");
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_create_finds_its_execution_when_the_template_is_gone() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let (first_token, second_token) = (mailbox(&server).await, mailbox(&server).await);
    let mut request = told("run", "w", &first_token);
    request.spec.as_mut().unwrap().request_id = "r1".into();
    let first = server.app().create(request.clone(), REAL).await.unwrap();
    server.app().delete::<Workflow>(&DeleteRequest { name: "w".into(), ..DeleteRequest::default() }).await.unwrap();
    request.spec.as_mut().unwrap().callback_token = Some(second_token.clone());
    let again = server.app().create(request.clone(), REAL).await.unwrap();
    assert!(!again.created && again.object.metadata.unwrap().uid == first.object.metadata.unwrap().uid);
    assert_eq!(answer(&server, &second_token).await.state, "Completed");
    request.spec.as_mut().unwrap().input = Some(Json { text: "1".into() });
    assert_eq!(fields(&server.app().create(request, REAL).await.unwrap_err()), ["spec.workflow"]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_owned_goes_with_its_last_owner_unless_it_may_stay() {
    let server = Server::start_with(|options| options.upkeep.scan_period = std::time::Duration::from_millis(1)).await;
    server.create::<Workflow>(waiting("w")).await.unwrap();
    let mut owners = Vec::new();
    for name in ["one", "two"] {
        let owner: Workflow = server.create(trivial(name)).await.unwrap();
        owners.push(
            json!({"apiVersion": "baton.dev/v1", "kind": "Workflow", "name": name, "uid": owner.metadata.unwrap().uid}),
        );
    }
    for (name, policy) in [("abandoned", "Abandon"), ("bound", "Cancel")] {
        let mut object = run(name, "w");
        object["metadata"]["ownerReferences"] = json!([owners[0], owners[1]]);
        object["spec"]["parentClosePolicy"] = json!(policy);
        server.create::<WorkflowExecution>(object).await.unwrap();
    }
    let mut only = trivial("only");
    only["metadata"]["ownerReferences"] = json!([owners[0]]);
    let only: Workflow = server.create(only).await.unwrap();
    let from = WatchRequest { resource_version: version(&only), ..WatchRequest::default() };
    let delete = |name: &str| DeleteRequest { name: name.into(), ..DeleteRequest::default() };
    let mut templates = Box::pin(
        server
            .app()
            .watch::<Workflow>(&WatchRequest { field_selector: "metadata.name=only".into(), ..from.clone() }, false)
            .await
            .unwrap(),
    );
    server.app().delete::<Workflow>(&delete("one")).await.unwrap();
    while templates.next().await.unwrap().unwrap().kind != WatchKind::Deleted {}
    assert!(server.app().get::<WorkflowExecution>("", "bound").await.is_ok(), "its other owner is there");
    let mut runs = Box::pin(server.app().watch::<WorkflowExecution>(&from, false).await.unwrap());
    server.app().delete::<Workflow>(&delete("two")).await.unwrap();
    loop {
        let item = runs.next().await.unwrap().unwrap();
        if item.kind == WatchKind::Deleted {
            assert_eq!(item.object.metadata.unwrap().name, "bound");
            break;
        }
    }
    assert!(
        server.app().get::<WorkflowExecution>("", "abandoned").await.is_ok(),
        "it may outlive its owner while it runs"
    );
    drop((templates, runs));
    server.stop().await;
}
