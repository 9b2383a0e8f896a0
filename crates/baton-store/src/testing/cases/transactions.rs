//! Transactions: revisions, refusals, groups, callbacks.

use std::sync::{Arc, Barrier, mpsc};

use bytes::Bytes;

use super::read;
use crate::error::CommitError;
use crate::model::{
    Committed, ExecState, Expect, Guard, JournalAppend, Lane, ListQuery, ResourceKey, ResourcePut, TimerRow, Txn,
    canonical_labels,
};
use crate::store::Store;
use crate::testing::{KIND, append, commit, create, created, delete, key, put, uid, update};

pub(in super::super) fn a_created_resource_reads_back_whole(store: &Store) {
    let mut new = create(store, "a", "body");
    new.labels = canonical_labels([("app", "x"), ("tier", "y")]);
    new.owner = Some([7; 16]);
    new.expires_at_ms = Some(99);
    let committed = commit(store, put(new.clone())).unwrap();
    assert_eq!(committed, Committed { revisions: vec![store.revision()] });
    let stored = read(store, "a");
    assert_eq!((stored.key.clone(), stored.uid, stored.number), (new.key, new.uid, new.number));
    assert_eq!((stored.labels.clone(), stored.owner, stored.expires_at_ms), (new.labels, new.owner, new.expires_at_ms));
    assert_eq!((stored.state, stored.body.as_ref()), (ExecState::Active, b"body".as_slice()));
    assert_eq!(store.get_by_uid(stored.uid).unwrap().unwrap(), stored);
    assert_eq!(store.get_by_number(stored.number).unwrap().unwrap(), stored);
    assert_eq!(store.get(&key("b")).unwrap(), None);
    assert_eq!(store.get(&ResourceKey::new("Agent", "ns", "a")).unwrap(), None);
}

pub(in super::super) fn an_update_needs_the_current_revision(store: &Store) {
    let old = created(store, "a", "1");
    commit(store, put(update(&old, "2"))).unwrap();
    let refused = commit(store, put(update(&old, "3"))).unwrap_err();
    let found = old.revision + 1;
    assert!(
        matches!(refused, CommitError::Conflict { expected, found: f, .. } if expected == old.revision && f == found)
    );
    let now = read(store, "a");
    assert_eq!((now.body.as_ref(), now.revision), (b"2".as_slice(), found));
}

pub(in super::super) fn a_name_is_taken_once(store: &Store) {
    let first = created(store, "a", "1");
    let refused = commit(store, put(create(store, "a", "2"))).unwrap_err();
    assert_eq!(
        refused,
        CommitError::Exists { key: key("a").to_string(), number: first.number, revision: first.revision }
    );
    commit(store, Txn { deletes: vec![delete(&first)], ..Txn::default() }).unwrap();
    assert_ne!(created(store, "a", "3").number, first.number);
}

pub(in super::super) fn a_number_or_uid_that_is_not_the_stored_one_is_not_found(store: &Store) {
    let stored = created(store, "a", "1");
    let mut other = update(&stored, "2");
    other.uid = [9; 16];
    assert!(matches!(commit(store, put(other)), Err(CommitError::NotFound { .. })));
    let mut other = update(&stored, "2");
    other.number = store.next_number();
    assert!(matches!(commit(store, put(other)), Err(CommitError::NotFound { .. })));
    let mut same_uid = create(store, "b", "1");
    same_uid.uid = stored.uid;
    assert!(matches!(commit(store, put(same_uid)), Err(CommitError::Rejected { .. })));
    assert_eq!(read(store, "a"), stored);
}

pub(in super::super) fn a_resource_appears_once_in_a_transaction(store: &Store) {
    let stored = created(store, "a", "1");
    let txn = Txn { puts: vec![update(&stored, "2")], deletes: vec![delete(&stored)], ..Txn::default() };
    assert!(matches!(commit(store, txn), Err(CommitError::Rejected { .. })));
    assert_eq!(read(store, "a"), stored);
}

pub(in super::super) fn revisions_are_consecutive_in_order(store: &Store) {
    let old = created(store, "old", "x");
    let before = store.revision();
    let txn = Txn {
        puts: vec![create(store, "a", "a"), create(store, "b", "b")],
        deletes: vec![delete(&old)],
        ..Txn::default()
    };
    let committed = commit(store, txn).unwrap();
    assert_eq!(committed.revisions, [before + 1, before + 2, before + 3]);
    assert_eq!(store.revision(), before + 3);
    assert_eq!((read(store, "a").revision, read(store, "b").revision), (before + 1, before + 2));
    let journal_only = commit(store, append(old.number, 1, "x")).unwrap();
    assert_eq!((journal_only.revisions.len(), store.revision()), (0, before + 3));
}

pub(in super::super) fn a_refused_transaction_writes_nothing(store: &Store) {
    let before = store.revision();
    let (n, due_ms) = (store.next_number(), 5);
    let txn = Txn {
        guards: vec![Guard::ResourceExists(4_711)],
        puts: vec![create(store, "a", "a")],
        journal: vec![JournalAppend { n, seq: 1, body: Bytes::new() }],
        timers_set: vec![TimerRow { due_ms, n, id: 1 }],
        meta: vec![("k".to_owned(), Some(vec![1]))],
        ..Txn::default()
    };
    assert!(matches!(commit(store, txn), Err(CommitError::NotFound { .. })));
    assert_eq!(store.revision(), before);
    assert_eq!(store.get(&key("a")).unwrap(), None);
    assert!(store.journal(n, 0, 10).unwrap().is_empty());
    assert!(store.timers_due(due_ms, None, 10).unwrap().is_empty());
    assert_eq!(store.meta("k").unwrap(), None);
}

/// Holds the committer in a callback while `txns` queue up, so that they form one group.
fn as_one_group(store: &Store, txns: Vec<Txn>) -> Vec<Result<Committed, CommitError>> {
    let gate = Arc::new(Barrier::new(2));
    let on_committer = Arc::clone(&gate);
    let hold = move |_| {
        on_committer.wait();
        on_committer.wait();
    };
    store.commit(Lane::Internal, Txn::default(), Box::new(hold));
    gate.wait();
    let (sender, receiver) = mpsc::channel();
    let count = txns.len();
    for (index, txn) in txns.into_iter().enumerate() {
        let sender = sender.clone();
        store.commit(Lane::Internal, txn, Box::new(move |outcome| drop(sender.send((index, outcome)))));
    }
    let before = store.stats().unwrap().groups.groups;
    gate.wait();
    let outcomes: Vec<_> = receiver.iter().take(count).collect();
    assert!(outcomes.iter().enumerate().all(|(index, (given, _))| index == *given), "answers come in order");
    assert_eq!(store.stats().unwrap().groups.groups, before + 1, "they were one group");
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

pub(in super::super) fn a_bad_transaction_harms_no_other_of_its_group(store: &Store) {
    let n = store.next_number();
    // The bad one creates a resource before its second journal record fails on data.
    let twice = JournalAppend { n, seq: 1, body: Bytes::from_static(b"x") };
    let bad = Txn { puts: vec![create(store, "bad", "b")], journal: vec![twice.clone(), twice], ..Txn::default() };
    let before = store.revision();
    let txns = vec![put(create(store, "first", "f")), bad, put(create(store, "last", "l"))];
    let outcomes = as_one_group(store, txns);
    assert_eq!(outcomes[0], Ok(Committed { revisions: vec![before + 1] }));
    assert!(matches!(outcomes[1], Err(CommitError::Rejected { .. })), "{:?}", outcomes[1]);
    assert_eq!(outcomes[2], Ok(Committed { revisions: vec![before + 2] }));
    assert_eq!(store.revision(), before + 2);
    assert_eq!(store.get(&key("bad")).unwrap(), None);
    assert!(store.journal(n, 0, 10).unwrap().is_empty());
    assert_eq!(read(store, "last").revision, before + 2);
}

pub(in super::super) fn later_transactions_of_a_group_see_earlier_ones(store: &Store) {
    let first = create(store, "a", "1");
    let number = first.number;
    let guarded = Txn {
        guards: vec![Guard::ResourceExists(number), Guard::JournalNext { n: number, seq: 2 }],
        ..append(number, 2, "y")
    };
    let with_record = Txn { puts: vec![first], ..append(number, 1, "x") };
    let outcomes = as_one_group(store, vec![with_record, guarded, put(create(store, "a", "2"))]);
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok(), "{outcomes:?}");
    assert!(matches!(outcomes[2], Err(CommitError::Exists { .. })));
    assert_eq!(store.journal(number, 0, 10).unwrap().len(), 2);
}

pub(in super::super) fn callbacks_run_once_in_order(store: &Store) {
    let (sender, receiver) = mpsc::channel();
    let n = store.next_number();
    for seq in 1..=200 {
        let sender = sender.clone();
        let done = Box::new(move |outcome: Result<Committed, CommitError>| {
            let _ = sender.send((seq, outcome.is_ok()));
        });
        store.commit(Lane::Internal, append(n, seq, "x"), done);
    }
    drop(sender);
    let answers: Vec<_> = receiver.iter().collect();
    assert_eq!(answers, (1..=200).map(|seq| (seq, true)).collect::<Vec<_>>());
    // A callback that panics takes nothing with it.
    store.commit(Lane::Internal, Txn::default(), Box::new(|_| std::panic::resume_unwind(Box::new("on purpose"))));
    commit(store, append(n, 201, "x")).unwrap();
}

pub(in super::super) fn many_producers_commit_everything_once(store: &Store) {
    std::thread::scope(|scope| {
        for producer in 0..8_i64 {
            scope.spawn(move || {
                let n = 1_000 + producer;
                for seq in 1..=50 {
                    let name = format!("p{producer}-{seq}");
                    let mut new = create(store, &name, "x");
                    new.uid = uid(n * 1_000 + seq);
                    let txn = Txn { puts: vec![new], ..append(n, seq, name.clone()) };
                    let revision = commit(store, txn).unwrap().revisions[0];
                    assert_eq!(store.get(&key(&name)).unwrap().unwrap().revision, revision);
                }
            });
        }
    });
    assert_eq!(store.revision(), 400);
    let mut revisions: Vec<u64> =
        store.list(&ListQuery::new(KIND, 1_000)).unwrap().items.iter().map(|r| r.revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=400).collect::<Vec<_>>());
    for producer in 0..8 {
        assert_eq!(store.journal(1_000 + producer, 0, 99).unwrap().len(), 50);
    }
    assert!(matches!(
        commit(store, put(ResourcePut { expect: Expect::Revision(9_999), ..create(store, "none", "x") })),
        Err(CommitError::NotFound { .. })
    ));
}
