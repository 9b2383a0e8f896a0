//! Watches: what is there, then what changes, in the words of the selection.

use baton_proto::{
    Resource as _,
    v1::{DeleteRequest, ListRequest, WatchRequest, Workflow},
};
use baton_server::app::WatchKind;
use baton_types::ErrorKind;
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};

use crate::support::{REAL, Server, trivial, version};

type Event = (&'static str, String, String);

async fn next(
    events: &mut (impl Stream<Item = Result<baton_server::app::WatchItem<Workflow>, baton_types::ApiError>> + Unpin),
) -> Event {
    let item = events.next().await.expect("the watch goes on").unwrap();
    let meta = item.object.metadata().unwrap();
    (item.kind.as_str(), meta.name.clone(), meta.labels.get("tier").cloned().unwrap_or_default())
}

fn event(kind: &'static str, name: &str, tier: &str) -> Event {
    (kind, name.to_owned(), tier.to_owned())
}

async fn create(server: &Server, name: &str, tier: &str) -> Workflow {
    let mut object = trivial(name);
    object["metadata"]["labels"] = json!({"tier": tier});
    server.create(object).await.unwrap()
}

async fn patch(server: &Server, name: &str, patch: Value) -> Workflow {
    server.app().patch("", name, patch, REAL).await.unwrap().object
}

async fn delete(server: &Server, name: &str) -> Workflow {
    let request = DeleteRequest { name: name.into(), ..DeleteRequest::default() };
    server.app().delete(&request).await.unwrap().object
}

#[tokio::test]
async fn from_the_start_it_tells_what_is_there_and_then_every_change() {
    let server = Server::start().await;
    create(&server, "a", "web").await;
    create(&server, "b", "web").await;
    let mut events = Box::pin(server.app().watch::<Workflow>(&WatchRequest::default(), false).await.unwrap());
    assert_eq!(next(&mut events).await, event("ADDED", "a", "web"));
    assert_eq!(next(&mut events).await, event("ADDED", "b", "web"));
    create(&server, "c", "data").await;
    patch(&server, "a", json!({"metadata": {"labels": {"tier": "x"}}})).await;
    patch(&server, "a", json!({})).await;
    delete(&server, "b").await;
    assert_eq!(next(&mut events).await, event("ADDED", "c", "data"));
    assert_eq!(next(&mut events).await, event("MODIFIED", "a", "x"));
    assert_eq!(next(&mut events).await, event("DELETED", "b", "web"), "a write that changes nothing tells nothing");
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn from_a_list_it_misses_nothing() {
    let server = Server::start().await;
    create(&server, "a", "web").await;
    let (meta, _) = server.app().list::<Workflow>(&ListRequest::default()).await.unwrap();
    create(&server, "b", "web").await;
    let gone = delete(&server, "a").await;
    let request = WatchRequest { resource_version: meta.resource_version, ..WatchRequest::default() };
    let mut events = Box::pin(server.app().watch::<Workflow>(&request, false).await.unwrap());
    assert_eq!(next(&mut events).await, event("ADDED", "b", "web"));
    let last = events.next().await.unwrap().unwrap();
    assert_eq!(
        (last.kind, version(&last.object)),
        (WatchKind::Deleted, version(&gone)),
        "with the version of the deletion"
    );
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn a_selection_is_entered_and_left() {
    let server = Server::start().await;
    create(&server, "a", "data").await;
    let request = WatchRequest { label_selector: "tier=web".into(), ..WatchRequest::default() };
    let mut events = Box::pin(server.app().watch::<Workflow>(&request, false).await.unwrap());
    create(&server, "b", "web").await;
    assert_eq!(next(&mut events).await, event("ADDED", "b", "web"));
    patch(&server, "a", json!({"metadata": {"labels": {"tier": "web"}}})).await;
    assert_eq!(next(&mut events).await, event("ADDED", "a", "web"));
    patch(&server, "a", json!({"metadata": {"labels": {"other": "x"}}})).await;
    assert_eq!(next(&mut events).await, event("MODIFIED", "a", "web"));
    let left = patch(&server, "a", json!({"metadata": {"labels": {"tier": "data"}}})).await;
    let item = events.next().await.unwrap().unwrap();
    assert_eq!((item.kind, version(&item.object)), (WatchKind::Deleted, version(&left)));
    assert_eq!(item.object.metadata.unwrap().labels["tier"], "web", "its old state");
    patch(&server, "a", json!({"metadata": {"labels": {"other": "y"}}})).await;
    delete(&server, "a").await;
    delete(&server, "b").await;
    assert_eq!(next(&mut events).await, event("DELETED", "b", "web"), "what is outside is not told");
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn a_namespace_and_a_name_select_too() {
    let server = Server::start().await;
    let request = WatchRequest {
        namespace: "default".into(),
        field_selector: "metadata.name=b".into(),
        ..WatchRequest::default()
    };
    let mut events = Box::pin(server.app().watch::<Workflow>(&request, false).await.unwrap());
    create(&server, "a", "x").await;
    let mut other = trivial("b");
    other["metadata"]["namespace"] = json!("other");
    server.create::<Workflow>(other).await.unwrap();
    create(&server, "b", "x").await;
    assert_eq!(next(&mut events).await, event("ADDED", "b", "x"));
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn a_version_that_is_none_or_not_of_this_store_is_refused() {
    let server = Server::start().await;
    for (version, kind) in
        [("x", ErrorKind::InvalidArgument), ("-1", ErrorKind::InvalidArgument), ("999999", ErrorKind::Gone)]
    {
        let request = WatchRequest { resource_version: version.into(), ..WatchRequest::default() };
        let refused = server.app().watch::<Workflow>(&request, false).await.err().unwrap();
        assert_eq!(refused.kind, kind, "{version}");
    }
    server.stop().await;
}

#[tokio::test]
async fn it_ends_with_the_server() {
    let server = Server::start().await;
    let mut events = Box::pin(server.app().watch::<Workflow>(&WatchRequest::default(), false).await.unwrap());
    let ended = tokio::spawn(async move { events.next().await.is_none() });
    server.stop().await;
    assert!(ended.await.unwrap());
}
