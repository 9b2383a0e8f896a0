//! What is sealed opens in its place, with its key, and nowhere else.

use std::sync::Arc;

use baton_engine::Sealer;
use baton_proto::v1::ObjectMeta;
use baton_store::{Lane, ResourcePut, Store, StoreOptions, Txn};

use super::*;

const VALUE: &str = "correct horse battery staple";

fn app(folder: &std::path::Path, key: u8) -> App {
    let options = StoreOptions { free_bytes_min: 0, ballast_bytes: 0, ..StoreOptions::default() };
    App::new(Store::open(folder, options).unwrap(), Arc::new(Sealer::new(&[key; 32])), 0, Arc::default())
}

fn secret(name: &str) -> Secret {
    Secret {
        metadata: Some(ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() }),
        spec: Some(SecretSpec { data: BTreeMap::from([("key".to_owned(), VALUE.to_owned())]), remove: Vec::new() }),
        ..Secret::default()
    }
}

fn row(name: &str) -> ResourceKey {
    ResourceKey::new(Secret::KIND, "default", name)
}

#[tokio::test]
async fn a_value_is_read_by_the_name_of_its_secret_in_any_case() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(folder.path(), 1);
    app.create(secret("mine"), WriteOptions::default()).await.unwrap();
    for name in ["mine", "Mine"] {
        let values = app.secret_values("default", name).await.unwrap().unwrap();
        assert_eq!(values, BTreeMap::from([("key".to_owned(), Hidden::new(VALUE))]));
    }
    assert_eq!(app.secret_values("other", "mine").await.unwrap(), None);
    assert!(app.has_secret("default", "Mine").await.unwrap());
    assert!(!app.has_secret("default", "theirs").await.unwrap());
}

#[tokio::test]
async fn a_row_holds_nothing_readable_and_opens_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(folder.path(), 1);
    app.create(secret("mine"), WriteOptions::default()).await.unwrap();
    let stored = app.store().get(&row("mine")).unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&stored.body).contains(VALUE));
    // Somebody who can write into the store puts the sealed value where another one reads it.
    let put = ResourcePut {
        key: row("other"),
        uid: [9; 16],
        number: app.store().next_number(),
        expect: Expect::Absent,
        body: stored.body.clone(),
        labels: None,
        state: baton_store::ExecState::None,
        owner: None,
        expires_at_ms: None,
        deleting: false,
    };
    let mut moved = Secret::decode(stored.body.clone()).unwrap();
    moved.metadata_mut().name = "other".to_owned();
    let body = body_of(&moved, &sealed_of(&stored).unwrap());
    app.store()
        .commit_blocking(Lane::Internal, Txn { puts: vec![ResourcePut { body, ..put }], ..Txn::default() })
        .unwrap();
    let refused = app.secret_values("default", "other").await.unwrap_err();
    assert_eq!((refused.reason, refused.hint.is_some()), ("SECRET_UNREADABLE", true));
    assert!(refused.message.contains("'key'") && refused.message.contains("'other'"), "{refused}");
}

#[tokio::test]
async fn another_key_opens_nothing_and_a_new_value_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = app(folder.path(), 1);
    first.create(secret("mine"), WriteOptions::default()).await.unwrap();
    first.store().clone().close();
    drop(first);
    let second = app(folder.path(), 2);
    assert_eq!(second.secret_values("default", "mine").await.unwrap_err().reason, "SECRET_UNREADABLE");
    let patch = serde_json::json!({"spec": {"data": {"key": VALUE}}});
    second.patch::<Secret>("default", "mine", patch, WriteOptions::default()).await.unwrap();
    assert_eq!(second.secret_values("default", "mine").await.unwrap().unwrap()["key"].expose(), VALUE);
}

#[tokio::test]
async fn what_an_update_does_not_name_stays_sealed_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(folder.path(), 1);
    app.create(secret("mine"), WriteOptions::default()).await.unwrap();
    let before = sealed_of(&app.store().get(&row("mine")).unwrap().unwrap()).unwrap();
    let patch = serde_json::json!({"metadata": {"labels": {"a": "b"}}, "spec": {"data": {"more": "another value"}}});
    app.patch::<Secret>("default", "mine", patch, WriteOptions::default()).await.unwrap();
    let after = sealed_of(&app.store().get(&row("mine")).unwrap().unwrap()).unwrap();
    assert_eq!((after.values.len(), &after.values["key"]), (2, &before.values["key"]));
    let patch = serde_json::json!({"spec": {"data": {"key": null}}});
    app.patch::<Secret>("default", "mine", patch, WriteOptions::default()).await.unwrap();
    let values = app.secret_values("default", "mine").await.unwrap().unwrap();
    assert_eq!(values, BTreeMap::from([("more".to_owned(), Hidden::new("another value"))]));
}
