//! Writes of templates: identity, versions, conflicts, patches, finalizers, calls in a circle.

use baton_proto::v1::{Agent, DeleteRequest, Workflow};
use baton_types::ErrorKind;
use serde_json::{Value, json};

use crate::support::{DRY, REAL, Server, agent, calling, fields, read, trivial, version};

#[tokio::test]
async fn a_new_object_gets_what_is_the_servers() {
    let server = Server::start().await;
    let mut object = trivial("w");
    object["metadata"]["uid"] = json!("mine");
    object["metadata"]["generation"] = json!(7);
    object["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    object["metadata"]["deletionTimestamp"] = json!("2001-01-01T00:00:00Z");
    let stored: Workflow = server.create(object).await.unwrap();
    assert_eq!((stored.api_version.as_str(), stored.kind.as_str()), ("baton.dev/v1", "Workflow"));
    let meta = stored.metadata.clone().unwrap();
    assert_eq!((meta.namespace.as_str(), meta.generation, meta.deletion_timestamp), ("default", 1, None));
    assert!(meta.uid.parse::<baton_types::Uid>().is_ok());
    let created = meta.creation_timestamp.unwrap();
    assert!(created.seconds > 1_000_000_000 && created.nanos == 0);
    assert!(meta.resource_version.parse::<u64>().unwrap() > 0);
    assert_eq!(server.app().get::<Workflow>("default", "w").await.unwrap(), stored);
    server.stop().await;
}

#[tokio::test]
async fn a_name_is_taken_once_and_generated_names_differ() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let refused = server.create::<Workflow>(trivial("w")).await.unwrap_err();
    assert_eq!(
        (refused.kind, refused.message.as_str()),
        (ErrorKind::AlreadyExists, "workflow 'w' exists already in namespace 'default'")
    );
    assert_eq!(
        server.app().create(read::<Workflow>(trivial("w")), DRY).await.unwrap_err().kind,
        ErrorKind::AlreadyExists
    );
    let mut object = trivial("");
    object["metadata"] = json!({"generateName": "w-"});
    let (one, other): (Workflow, Workflow) =
        (server.create(object.clone()).await.unwrap(), server.create(object).await.unwrap());
    let (one, other) = (one.metadata.unwrap().name, other.metadata.unwrap().name);
    assert!(one.starts_with("w-") && one.len() == 7 && one != other, "{one} {other}");
    server.stop().await;
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let server = Server::start().await;
    let written = server.app().create(read::<Workflow>(trivial("w")), DRY).await.unwrap();
    assert!(written.created && version(&written.object).is_empty());
    assert_eq!(server.app().get::<Workflow>("", "w").await.unwrap_err().kind, ErrorKind::NotFound);
    let stored: Workflow = server.create(trivial("w")).await.unwrap();
    server.app().patch::<Workflow>("", "w", json!({"metadata": {"labels": {"a": "b"}}}), DRY).await.unwrap();
    assert_eq!(server.app().get::<Workflow>("", "w").await.unwrap(), stored);
    server.stop().await;
}

#[tokio::test]
async fn an_update_needs_the_version_that_is_stored() {
    let server = Server::start().await;
    let first: Workflow = server.create(trivial("w")).await.unwrap();
    let mut changed = first.clone();
    changed.metadata.as_mut().unwrap().labels.insert("team".into(), "a".into());
    let second = server.app().update(changed.clone(), REAL).await.unwrap().object;
    assert_eq!(second.metadata.as_ref().unwrap().generation, 1, "labels are not the desired state");
    let refused = server.app().update(changed.clone(), REAL).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    let expected = format!(
        "workflow 'w' changed since it was read: resourceVersion is {}, the request has {}",
        version(&second),
        version(&first)
    );
    assert_eq!(
        (refused.message, refused.hint.as_deref()),
        (expected, Some("read it again with baton get workflow w -n default"))
    );
    changed.metadata.as_mut().unwrap().resource_version.clear();
    assert_eq!(fields(&server.app().update(changed.clone(), REAL).await.unwrap_err()), ["metadata.resourceVersion"]);
    changed.metadata.as_mut().unwrap().name = "other".into();
    changed.metadata.as_mut().unwrap().resource_version = version(&second);
    assert_eq!(server.app().update(changed, REAL).await.unwrap_err().kind, ErrorKind::NotFound);
    let mut impostor = second.clone();
    impostor.metadata.as_mut().unwrap().uid = "0197f3c2-6d1e-7c3a-9f00-2b9d6d1e7c3a".into();
    assert_eq!(server.app().update(impostor, REAL).await.unwrap_err().reason, "UID_MISMATCH");
    server.stop().await;
}

#[tokio::test]
async fn a_change_of_the_spec_counts_and_no_change_is_no_write() {
    let server = Server::start().await;
    let first: Workflow = server.create(trivial("w")).await.unwrap();
    let same = server.app().update(first.clone(), REAL).await.unwrap().object;
    assert_eq!(same, first);
    assert_eq!(server.app().patch::<Workflow>("", "w", json!({}), REAL).await.unwrap().object, first);
    let patch = json!({"spec": {"definition": {"document": {"version": "1.1.0"}}}, "status": {"digest": "mine"}, "metadata": {"generation": 40}});
    let second = server.app().patch::<Workflow>("", "w", patch, REAL).await.unwrap().object;
    let meta = second.metadata.as_ref().unwrap();
    assert_eq!((meta.generation, second.status.as_ref().unwrap().observed_generation), (2, 2));
    assert_ne!(second.status.as_ref().unwrap().digest, first.status.as_ref().unwrap().digest);
    assert_eq!(meta.creation_timestamp, first.metadata.as_ref().unwrap().creation_timestamp);
    let agent: Agent = server.create(agent("a")).await.unwrap();
    assert_eq!(server.app().update(agent.clone(), REAL).await.unwrap().object, agent);
    server.stop().await;
}

#[tokio::test]
async fn patches_follow_rfc_7386_and_keep_identity() {
    let server = Server::start().await;
    let mut object = trivial("w");
    object["metadata"]["labels"] = json!({"a": "1", "b": "2"});
    let first: Workflow = server.create(object).await.unwrap();
    let patched = server
        .app()
        .patch::<Workflow>("", "w", json!({"metadata": {"labels": {"a": null, "c": "3"}}}), REAL)
        .await
        .unwrap()
        .object;
    let labels: Vec<_> = patched.metadata.as_ref().unwrap().labels.clone().into_iter().collect();
    assert_eq!(labels, [("b".to_owned(), "2".to_owned()), ("c".to_owned(), "3".to_owned())]);
    for (patch, kind, says) in [
        (json!({"metadata": {"resourceVersion": version(&first)}}), ErrorKind::Conflict, "changed since it was read"),
        (json!({"metadata": {"name": "x"}}), ErrorKind::InvalidArgument, "metadata.name: is 'x', the object's is 'w'"),
        (json!({"metadata": {"namespace": "x"}}), ErrorKind::InvalidArgument, "metadata.namespace"),
        (json!({"metadata": {"uid": "x"}}), ErrorKind::Conflict, "another object"),
        (json!({"spec": {"definitions": 1}}), ErrorKind::InvalidArgument, "spec.definitions: no such field"),
        (json!({"status": {"callbackToken": "x"}}), ErrorKind::InvalidArgument, "spec.callbackToken"),
        (json!([]), ErrorKind::InvalidArgument, "must be a JSON object"),
    ] {
        let refused = server.app().patch::<Workflow>("", "w", patch.clone(), REAL).await.unwrap_err();
        assert!(refused.kind == kind && refused.message.contains(says), "{patch}: {refused:?}");
    }
    assert_eq!(server.app().get::<Workflow>("", "w").await.unwrap(), patched, "what was refused changed nothing");
    server.stop().await;
}

#[tokio::test]
async fn concurrent_patches_all_arrive() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let patch = |number: usize| {
        let app = server.app().clone();
        async move {
            app.patch::<Workflow>("", "w", json!({"metadata": {"labels": {format!("l{number}"): "x"}}}), REAL)
                .await
                .map(|_| ())
        }
    };
    for answer in futures::future::join_all((0..4).map(patch)).await {
        answer.unwrap();
    }
    assert_eq!(server.app().get::<Workflow>("", "w").await.unwrap().metadata.unwrap().labels.len(), 4);
    server.stop().await;
}

fn delete(name: &str) -> DeleteRequest {
    DeleteRequest { name: name.to_owned(), ..DeleteRequest::default() }
}

#[tokio::test]
async fn finalizers_hold_a_deletion() {
    let server = Server::start().await;
    let mut object = trivial("w");
    object["metadata"]["finalizers"] = json!(["example.com/one", "example.com/two"]);
    server.create::<Workflow>(object).await.unwrap();
    let marked = server.app().delete::<Workflow>(&delete("w")).await.unwrap();
    let meta = marked.object.metadata.unwrap();
    assert!(!marked.gone && meta.deletion_timestamp.is_some() && meta.generation == 2);
    let again = server.app().delete::<Workflow>(&delete("w")).await.unwrap();
    assert_eq!((again.gone, version(&again.object)), (false, meta.resource_version), "a second delete changes nothing");
    let refused = server
        .app()
        .patch::<Workflow>("", "w", json!({"metadata": {"finalizers": ["example.com/one", "example.com/new"]}}), REAL)
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["metadata.finalizers[1]"]);
    server
        .app()
        .patch::<Workflow>(
            "",
            "w",
            json!({"metadata": {"finalizers": ["example.com/two"], "deletionTimestamp": null}}),
            REAL,
        )
        .await
        .unwrap();
    assert!(server.app().get::<Workflow>("", "w").await.unwrap().metadata.unwrap().deletion_timestamp.is_some());
    server.app().patch::<Workflow>("", "w", json!({"metadata": {"finalizers": null}}), REAL).await.unwrap();
    assert_eq!(server.app().get::<Workflow>("", "w").await.unwrap_err().kind, ErrorKind::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_delete_can_name_what_it_means() {
    let server = Server::start().await;
    let stored: Workflow = server.create(trivial("w")).await.unwrap();
    let meta = stored.metadata.clone().unwrap();
    for request in [
        DeleteRequest { uid: "0197f3c2-6d1e-7c3a-9f00-2b9d6d1e7c3a".into(), ..delete("w") },
        DeleteRequest { resource_version: "1000000".into(), ..delete("w") },
    ] {
        assert_eq!(server.app().delete::<Workflow>(&request).await.unwrap_err().kind, ErrorKind::Conflict);
    }
    let gone = server
        .app()
        .delete::<Workflow>(&DeleteRequest { uid: meta.uid, resource_version: meta.resource_version, ..delete("w") })
        .await
        .unwrap();
    assert!(gone.gone);
    let missing = server.app().delete::<Workflow>(&delete("w")).await.unwrap_err();
    assert_eq!(missing.message, "no workflow 'w' in namespace 'default'");
    server.create::<Workflow>(trivial("w")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn calls_in_a_circle_are_refused_and_missing_callees_warned_of() {
    let server = Server::start().await;
    let create = |object: Value| server.app().create(read::<Workflow>(object), REAL);
    let written = create(calling("a", "b")).await.unwrap();
    assert_eq!(written.warnings.len(), 1);
    assert!(written.warnings[0].contains("no workflow 'b' in namespace 'default' yet"), "{:?}", written.warnings);
    assert!(create(calling("b", "c")).await.unwrap().warnings[0].contains("'c'"));
    let refused = create(calling("c", "a")).await.unwrap_err();
    assert!(refused.message.contains("workflow 'c' would call itself: c -> a -> b -> c"), "{}", refused.message);
    assert!(refused.violations[0].field.starts_with("spec.definition.do[0].call"), "{}", refused.message);
    let refused = create(calling("s", "s")).await.unwrap_err();
    assert!(refused.message.contains("s -> s"), "{}", refused.message);
    let leaf = create(trivial("c")).await.unwrap().object;
    let mut turned: Workflow = read(calling("c", "a"));
    turned.metadata.as_mut().unwrap().resource_version = version(&leaf);
    assert!(server.app().update(turned, REAL).await.unwrap_err().message.contains("c -> a -> b -> c"));
    let mut elsewhere = calling("c", "a");
    elsewhere["metadata"]["namespace"] = json!("other");
    create(elsewhere).await.unwrap();
    server.stop().await;
}
