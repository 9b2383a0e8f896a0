//! Lists: selection, order, pages.

use baton_proto::v1::{ListRequest, Workflow, WorkflowExecution};
use baton_types::ErrorKind;
use serde_json::json;

use crate::support::{Server, run, trivial, waiting};

async fn names(server: &Server, request: ListRequest) -> Vec<String> {
    let (_, items) = server.app().list::<Workflow>(&request).await.unwrap();
    items
        .into_iter()
        .map(|item| {
            let meta = item.metadata.unwrap();
            format!("{}/{}", meta.namespace, meta.name)
        })
        .collect()
}

async fn some_workflows(server: &Server) {
    for (namespace, name, tier) in [("one", "a", "web"), ("one", "b", "data"), ("two", "a", "web"), ("two", "c", "")] {
        let mut object = trivial(name);
        object["metadata"]["namespace"] = json!(namespace);
        if !tier.is_empty() {
            object["metadata"]["labels"] = json!({"tier": tier});
        }
        server.create::<Workflow>(object).await.unwrap();
    }
}

#[tokio::test]
async fn selectors_select() {
    let server = Server::start().await;
    some_workflows(&server).await;
    for (namespace, labels, fields, expected) in [
        ("", "", "", vec!["one/a", "one/b", "two/a", "two/c"]),
        ("one", "", "", vec!["one/a", "one/b"]),
        ("nowhere", "", "", vec![]),
        ("", "tier=web", "", vec!["one/a", "two/a"]),
        ("", "tier!=web", "", vec!["one/b", "two/c"]),
        ("", "!tier", "", vec!["two/c"]),
        ("", "tier in (web,data)", "metadata.namespace=one", vec!["one/a", "one/b"]),
        ("", "", "metadata.name=a", vec!["one/a", "two/a"]),
        ("two", "", "metadata.name=a", vec!["two/a"]),
        ("two", "tier=data", "metadata.name=a", vec![]),
        ("two", "", "metadata.name=zzz", vec![]),
        ("two", "", "metadata.name!=a", vec!["two/c"]),
    ] {
        let request = ListRequest {
            namespace: namespace.into(),
            label_selector: labels.into(),
            field_selector: fields.into(),
            ..ListRequest::default()
        };
        assert_eq!(names(&server, request).await, expected, "{namespace} {labels} {fields}");
    }
    for (labels, fields, limit, says) in [
        ("a=(", "", 0, "selector"),
        ("", "spec.input=1", 0, "field label not supported: spec.input"),
        ("", "", -1, "limit"),
    ] {
        let request = ListRequest {
            label_selector: labels.into(),
            field_selector: fields.into(),
            limit,
            ..ListRequest::default()
        };
        let refused = server.app().list::<Workflow>(&request).await.unwrap_err();
        assert!(refused.kind == ErrorKind::InvalidArgument && refused.message.contains(says), "{refused:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn executions_are_selected_by_phase_and_template() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("quick")).await.unwrap();
    server.create::<Workflow>(waiting("slow")).await.unwrap();
    server.create::<WorkflowExecution>(run("q", "quick")).await.unwrap();
    server.create::<WorkflowExecution>(run("s", "slow")).await.unwrap();
    server.ended::<WorkflowExecution>("q").await;
    for (selector, expected) in [
        ("status.phase=Completed", vec!["q"]),
        ("status.phase!=Completed", vec!["s"]),
        ("spec.workflow=slow", vec!["s"]),
        ("spec.workflow=slow,status.phase=Completed", vec![]),
    ] {
        let request = ListRequest { field_selector: selector.into(), ..ListRequest::default() };
        let (_, items) = server.app().list::<WorkflowExecution>(&request).await.unwrap();
        let names: Vec<_> = items.into_iter().map(|item| item.metadata.unwrap().name).collect();
        assert_eq!(names, expected, "{selector}");
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_together_are_the_list_and_share_its_version() {
    let server = Server::start().await;
    some_workflows(&server).await;
    let (mut found, mut versions, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let request = ListRequest { limit: 3, r#continue: token, ..ListRequest::default() };
        let (meta, items) = server.app().list::<Workflow>(&request).await.unwrap();
        assert!(items.len() <= 3);
        found.extend(items.into_iter().map(|item| item.metadata.unwrap().name));
        versions.push(meta.resource_version);
        token = meta.r#continue;
        if token.is_empty() {
            break;
        }
        let mut late = trivial(&format!("late-{}", versions.len()));
        late["metadata"]["namespace"] = json!("zzz");
        server.create::<Workflow>(late).await.unwrap();
    }
    assert_eq!(found[..4], ["a", "b", "a", "c"]);
    assert!(versions.len() >= 2 && versions.iter().all(|version| *version == versions[0]), "{versions:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_limit_counts_what_matches() {
    let server = Server::start().await;
    for number in 0..30 {
        let mut object = trivial(&format!("w{number:02}"));
        object["metadata"]["labels"] = json!({"mod": (number % 10).to_string()});
        server.create::<Workflow>(object).await.unwrap();
    }
    let request = |token: String| ListRequest {
        label_selector: "mod in (7,9)".into(),
        limit: 2,
        r#continue: token,
        ..ListRequest::default()
    };
    let (meta, first) = server.app().list::<Workflow>(&request(String::new())).await.unwrap();
    let (_, second) = server.app().list::<Workflow>(&request(meta.r#continue)).await.unwrap();
    let names: Vec<_> = first.into_iter().chain(second).map(|item| item.metadata.unwrap().name).collect();
    assert_eq!(names, ["w07", "w09", "w17", "w19"]);
    server.stop().await;
}

#[tokio::test]
async fn a_continue_token_that_is_none_is_gone() {
    let server = Server::start().await;
    for token in ["nonsense", "999999/a/b", "-1/a/b"] {
        let request = ListRequest { r#continue: token.into(), ..ListRequest::default() };
        let refused = server.app().list::<Workflow>(&request).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Gone, "{token}");
        assert!(refused.hint.unwrap().contains("list again"));
    }
    server.stop().await;
}
