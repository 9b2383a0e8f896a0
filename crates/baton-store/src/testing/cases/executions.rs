//! Journals, snapshots, and finding resources.

use bytes::Bytes;

use super::read;
use crate::error::CommitError;
use crate::model::{ExecState, ExpiringRow, ListQuery, SnapshotPut, Txn, canonical_labels};
use crate::store::Store;
use crate::testing::{KIND, append, commit, create, created, put, update};

pub(in super::super) fn a_journal_is_ordered_and_pages(store: &Store) {
    let n = store.next_number();
    for seq in [1, 2, 3, 4, 5] {
        commit(store, append(n, seq, format!("record {seq}"))).unwrap();
    }
    commit(store, append(n + 1, 1, "other")).unwrap();
    let seqs = |from, limit| store.journal(n, from, limit).unwrap().iter().map(|r| r.seq).collect::<Vec<_>>();
    assert_eq!(seqs(0, 10), [1, 2, 3, 4, 5]);
    assert_eq!(seqs(2, 2), [2, 3]);
    assert_eq!(seqs(6, 2), [0; 0]);
    assert_eq!(store.journal(n, 4, 1).unwrap()[0].body, "record 4");
    assert_eq!((store.journal_last(n).unwrap(), store.journal_last(n + 9).unwrap()), (Some(5), None));
}

pub(in super::super) fn a_journal_position_is_taken_once(store: &Store) {
    let n = store.next_number();
    commit(store, append(n, 1, "first")).unwrap();
    assert!(matches!(commit(store, append(n, 1, "second")), Err(CommitError::Rejected { .. })));
    assert_eq!(store.journal(n, 0, 9).unwrap()[0].body, "first");
}

pub(in super::super) fn a_snapshot_is_replaced(store: &Store) {
    let n = store.next_number();
    let snapshot =
        |seq, body| Txn { snapshot: Some(SnapshotPut { n, seq, body: Bytes::from_static(body) }), ..Txn::default() };
    assert_eq!(store.snapshot(n).unwrap(), None);
    commit(store, snapshot(3, b"three")).unwrap();
    commit(store, snapshot(7, b"seven")).unwrap();
    let found = store.snapshot(n).unwrap().unwrap();
    assert_eq!((found.seq, found.body.as_ref()), (7, b"seven".as_slice()));
}

pub(in super::super) fn recovery_finds_active_executions_only(store: &Store) {
    let names = ["a", "b", "c", "d"];
    let stored: Vec<_> = names.iter().map(|name| created(store, name, "1")).collect();
    let states = [ExecState::Active, ExecState::Parked, ExecState::Closed, ExecState::Active];
    for (resource, state) in stored.iter().zip(states) {
        let mut next = update(resource, "2");
        next.state = state;
        commit(store, put(next)).unwrap();
    }
    let (a, b, d) = (stored[0].number, stored[1].number, stored[3].number);
    assert_eq!(store.active(0, 10).unwrap(), [a, d]);
    assert_eq!((store.active(a, 10).unwrap(), store.active(0, 1).unwrap()), (vec![d], vec![a]));
    let mut woken = update(&read(store, "b"), "3");
    woken.state = ExecState::Active;
    commit(store, put(woken)).unwrap();
    assert_eq!(store.active(0, 10).unwrap(), [a, b, d]);
    assert_eq!(read(store, "c").state, ExecState::Closed);
}

pub(in super::super) fn owners_expiry_and_deletion_are_found(store: &Store) {
    let parent = created(store, "parent", "p");
    let mut child = create(store, "child", "c");
    child.owner = Some(parent.uid);
    child.expires_at_ms = Some(100);
    let mut other = create(store, "other", "o");
    other.expires_at_ms = Some(50);
    let (child_number, other_number) = (child.number, other.number);
    commit(store, Txn { puts: vec![child, other], ..Txn::default() }).unwrap();
    let children = store.by_owner(parent.uid, 0, 10).unwrap();
    assert!(children.corrupt.is_empty());
    assert_eq!(children.items, [read(store, "child")]);
    assert!(store.by_owner(parent.uid, child_number, 10).unwrap().items.is_empty());
    assert!(store.by_owner([0; 16], 0, 10).unwrap().items.is_empty());
    let expiring = |before_ms, after: Option<ExpiringRow>, limit| -> Vec<ExpiringRow> {
        store.expiring(before_ms, after, limit).unwrap()
    };
    let first = ExpiringRow { expires_at_ms: 50, number: other_number };
    let second = ExpiringRow { expires_at_ms: 100, number: child_number };
    assert_eq!(expiring(100, None, 10), [first, second]);
    assert_eq!((expiring(100, None, 1), expiring(100, Some(first), 1)), (vec![first], vec![second]));
    assert_eq!(
        (expiring(99, None, 10), expiring(49, None, 10), expiring(100, Some(second), 10)),
        (vec![first], vec![], vec![])
    );
    assert!(store.deleting(0, 10).unwrap().is_empty());
    let mut marked = update(&read(store, "child"), "c2");
    marked.deleting = true;
    commit(store, put(marked)).unwrap();
    assert_eq!(store.deleting(0, 10).unwrap(), [child_number]);
    assert_eq!(expiring(100, None, 10), [first], "what is held stands before nobody");
    assert!(read(store, "child").deleting);
}

pub(in super::super) fn lists_page_in_order_with_one_revision(store: &Store) {
    let mut txn = Txn::default();
    for (namespace, name) in [("b", "1"), ("a", "2"), ("b", "3"), ("a", "1"), ("c", "1"), ("b", "2")] {
        let mut new = create(store, name, "x");
        namespace.clone_into(&mut new.key.namespace);
        txn.puts.push(new);
    }
    let mut agent = create(store, "1", "x");
    agent.key.kind = "Agent".into();
    txn.puts.push(agent);
    commit(store, txn).unwrap();
    let names = |query: &ListQuery| {
        let page = store.list(query).unwrap();
        assert_eq!((page.revision, page.corrupt.len()), (store.revision(), 0));
        let names = page.items.iter().map(|r| format!("{}/{}", r.key.namespace, r.key.name)).collect::<Vec<_>>();
        (names.join(" "), page.more, page.last)
    };
    let mut query = ListQuery::new(KIND, 10);
    assert_eq!(names(&query).0, "a/1 a/2 b/1 b/2 b/3 c/1");
    query.limit = 4;
    let (first, more, last) = names(&query);
    assert_eq!((first.as_str(), more), ("a/1 a/2 b/1 b/2", true));
    query.after = last;
    assert_eq!(names(&query), ("b/3 c/1".to_owned(), false, Some(("c".to_owned(), "1".to_owned()))));
    query.namespace = Some("b".to_owned());
    for (after, rest) in [(("a", "9"), "b/1 b/2 b/3"), (("b", "1"), "b/2 b/3"), (("c", ""), "")] {
        query.after = Some((after.0.to_owned(), after.1.to_owned()));
        assert_eq!(names(&query).0, rest, "after {after:?}");
    }
}

pub(in super::super) fn lists_filter_by_label(store: &Store) {
    let mut txn = Txn::default();
    let labelled = [("a", vec![("app", "x"), ("tier", "db")]), ("b", vec![("app", "xy")]), ("c", vec![])];
    for (name, labels) in labelled {
        let mut new = create(store, name, "x");
        new.labels = canonical_labels(labels);
        txn.puts.push(new);
    }
    commit(store, txn).unwrap();
    let names = |labels: &[(&str, &str)]| {
        let mut query = ListQuery::new(KIND, 10);
        query.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        store.list(&query).unwrap().items.into_iter().map(|r| r.key.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&[("app", "x")]), ["a"]);
    assert_eq!(names(&[("app", "x"), ("tier", "db")]), ["a"]);
    assert_eq!(names(&[("app", "xy")]), ["b"]);
    assert_eq!(names(&[("pp", "x")]), [""; 0]);
    assert_eq!(names(&[("app", "x"), ("tier", "web")]), [""; 0]);
}
