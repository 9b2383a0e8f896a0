//! Following changes.

use bytes::Bytes;

use super::{changes, read, wait};
use crate::error::{Gone, WatchError};
use crate::maintenance::Keep;
use crate::model::{ChangeKind, Txn};
use crate::store::Store;
use crate::testing::{KIND, commit, create, created, delete, key, put, update};

pub(in super::super) fn a_watch_sees_everything_in_order(store: &Store) {
    let before = created(store, "before", "0");
    let mut watch = store.watch(Some(KIND), before.revision).unwrap();
    let a = created(store, "a", "1");
    commit(store, put(update(&a, "2"))).unwrap();
    let a = read(store, "a");
    commit(store, Txn { deletes: vec![delete(&a)], ..Txn::default() }).unwrap();
    let seen = changes(&mut watch, 3);
    let short: Vec<_> = seen.iter().map(|c| (c.kind, c.revision, c.previous_revision, c.body.clone())).collect();
    let r = before.revision;
    assert_eq!(
        short,
        [
            (ChangeKind::Added, r + 1, 0, Bytes::from_static(b"1")),
            (ChangeKind::Modified, r + 2, r + 1, Bytes::from_static(b"2")),
            (ChangeKind::Deleted, r + 3, r + 2, Bytes::from_static(b"2")),
        ]
    );
    assert!(seen.iter().all(|c| c.key == key("a") && c.uid == a.uid && c.number == a.number));
    assert_eq!((watch.revision(), watch.head_revision()), (r + 3, r + 3));
}

pub(in super::super) fn a_watch_of_one_kind_moves_on_while_others_change(store: &Store) {
    let mut watch = store.watch(Some("Agent"), store.revision()).unwrap();
    for name in ["a", "b", "c"] {
        created(store, name, "1");
    }
    let waits = wait(async {
        // Polled once: nothing of its kind, so it waits; its position has moved all the same.
        let next = std::pin::pin!(watch.next());
        is_pending(next).await
    });
    assert!(waits);
    assert_eq!(watch.revision(), store.revision());
    let mut agent = create(store, "x", "1");
    agent.key.kind = "Agent".into();
    commit(store, put(agent)).unwrap();
    assert_eq!(changes(&mut watch, 1)[0].key.name, "x");
}

/// Whether a future is pending when polled once.
async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

pub(in super::super) fn a_watch_from_a_wrong_revision_is_gone(store: &Store) {
    created(store, "a", "1");
    let head = store.revision();
    let from = head + 1;
    let ahead = store.watch(None, from).unwrap_err();
    assert!(matches!(ahead, WatchError::Gone(Gone::Ahead { from: f, head: h }) if f == from && h == head));
    created(store, "b", "1");
    store.compact(0, Keep { revisions: 0, age_ms: 0 }).unwrap();
    let compacted = store.compacted_revision();
    assert_eq!(compacted, head + 1);
    let gone = store.watch(None, head).unwrap_err();
    assert!(matches!(gone, WatchError::Gone(Gone::Compacted { from, compacted: c }) if from == head && c == compacted));
    assert!(store.watch(None, compacted).is_ok());
}

pub(in super::super) fn a_slow_watch_gets_everything_from_the_table(store: &Store) {
    let start = store.revision();
    let mut watch = store.watch(Some(KIND), start).unwrap();
    let mut all = store.watch(None, start).unwrap();
    // More than a small ring holds; the suite also passes with a large one.
    for round in 0..60 {
        let names: Vec<String> = (0..10).map(|i| format!("r{round}-{i}")).collect();
        let puts = names.iter().map(|name| create(store, name, "x")).collect();
        commit(store, Txn { puts, ..Txn::default() }).unwrap();
    }
    for watch in [&mut watch, &mut all] {
        let seen: Vec<u64> = changes(watch, 600).iter().map(|change| change.revision).collect();
        assert_eq!(seen, (start + 1..=start + 600).collect::<Vec<_>>());
    }
    // It rejoins the ring.
    created(store, "live", "x");
    assert_eq!(changes(&mut watch, 1)[0].key.name, "live");
}

pub(in super::super) fn old_state_of_a_change_is_readable(store: &Store) {
    let a = created(store, "a", "old");
    commit(store, put(update(&a, "new"))).unwrap();
    assert_eq!(store.change_body(a.revision).unwrap().unwrap(), "old");
    assert_eq!(store.change_body(a.revision + 1).unwrap().unwrap(), "new");
    assert_eq!(store.change_body(a.revision + 2).unwrap(), None);
}
