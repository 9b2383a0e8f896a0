//! Compaction and sweeping.

use bytes::Bytes;

use super::changes;
use crate::maintenance::Keep;
use crate::model::{JournalAppend, ListQuery, OutboxRow, SnapshotPut, TimerRow, Txn};
use crate::store::Store;
use crate::testing::{KIND, commit, created, delete};

pub(in super::super) fn compaction_keeps_what_it_should(store: &Store) {
    for i in 0..10 {
        created(store, &format!("a{i}"), "x");
    }
    let keep = |revisions, age_ms| Keep { revisions, age_ms };
    let report = store.compact(1_000, keep(4, 100)).unwrap();
    assert_eq!((report.compacted, report.deleted), (0, 0), "nothing is old enough yet");
    created(store, "b", "x");
    let report = store.compact(1_100, keep(4, 100)).unwrap();
    assert_eq!((report.compacted, report.deleted), (7, 7), "old enough, and four are kept");
    let report = store.compact(1_100, keep(1, 100)).unwrap();
    assert_eq!(report.compacted, 10, "the eleventh is young");
    let report = store.compact(1_050, keep(100, 100)).unwrap();
    assert_eq!((report.compacted, report.deleted), (10, 0), "it never goes back");
    assert_eq!(store.compacted_revision(), 10);
    let mut watch = store.watch(None, 10).unwrap();
    assert_eq!(changes(&mut watch, 1)[0].key.name, "b");
    assert_eq!(store.list(&ListQuery::new(KIND, 100)).unwrap().items.len(), 11);
}

pub(in super::super) fn a_deleted_execution_is_swept_in_steps(store: &Store) {
    let (doomed, kept) = (created(store, "doomed", "1"), created(store, "kept", "1"));
    let body = Bytes::from_static(b"r");
    for resource in [&doomed, &kept] {
        let n = resource.number;
        let journal = (1..=1_200).map(|seq| JournalAppend { n, seq, body: body.clone() }).collect();
        let outbox = OutboxRow { id: store.next_outbox_id(), n, next_at_ms: 1, attempts: 0, body: body.clone() };
        let txn = Txn {
            journal,
            snapshot: Some(SnapshotPut { n, seq: 1, body: body.clone() }),
            timers_set: vec![TimerRow { due_ms: 5, n, id: 1 }],
            outbox_put: vec![outbox],
            ..Txn::default()
        };
        commit(store, txn).unwrap();
    }
    commit(store, Txn { deletes: vec![delete(&doomed)], ..Txn::default() }).unwrap();
    let first = store.sweep(10).unwrap();
    assert!(first.more && first.deleted == 500, "{first:?}");
    assert_eq!(store.journal(doomed.number, 0, 9_999).unwrap().len(), 700);
    while store.sweep(10).unwrap().more {}
    let n = doomed.number;
    assert!(store.journal(n, 0, 1).unwrap().is_empty() && store.snapshot(n).unwrap().is_none());
    assert!(store.outbox_by_execution(n).unwrap().items.is_empty());
    let n = kept.number;
    assert_eq!(store.timers_due(10, None, 10).unwrap(), [TimerRow { due_ms: 5, n, id: 1 }]);
    assert_eq!(store.journal(n, 0, 9_999).unwrap().len(), 1_200);
    assert!(store.snapshot(n).unwrap().is_some() && store.outbox_by_execution(n).unwrap().items.len() == 1);
    assert_eq!(store.sweep(10).unwrap().deleted, 0);
}
