//! Timers, outbox, blobs, mailboxes, named values.

use bytes::Bytes;

use crate::error::CommitError;
use crate::model::{BlobPut, Guard, MailboxRow, OutboxRow, OutboxUpdate, TimerRow, Txn};
use crate::store::Store;
use crate::testing::{append, commit, created, delete};

pub(in super::super) fn timers_come_in_order_and_fire_once(store: &Store) {
    let (n, m) = (store.next_number(), store.next_number());
    let timer = |due_ms, n, id| TimerRow { due_ms, n, id };
    let set = vec![timer(30, n, 1), timer(10, m, 1), timer(10, n, 2), timer(10, n, 1), timer(40, n, 3)];
    commit(store, Txn { timers_set: set, ..Txn::default() }).unwrap();
    let due = store.timers_due(30, None, 10).unwrap();
    assert_eq!(due, [timer(10, n, 1), timer(10, n, 2), timer(10, m, 1), timer(30, n, 1)]);
    assert_eq!(store.timers_due(30, Some(due[1]), 1).unwrap(), [due[2]]);
    let fire = || Txn { guards: vec![Guard::TimerExists(due[0])], timers_clear: vec![due[0]], ..append(n, 1, "fired") };
    commit(store, fire()).unwrap();
    assert!(matches!(commit(store, fire()), Err(CommitError::NotFound { .. })));
    assert_eq!(store.timers_due(30, None, 10).unwrap(), due[1..]);
    let again = Txn { timers_clear: vec![due[1]], timers_set: vec![due[1]], ..Txn::default() };
    commit(store, again).unwrap();
    assert_eq!(store.timers_due(30, None, 1).unwrap(), [due[1]]);
}

pub(in super::super) fn the_outbox_gives_what_is_due(store: &Store) {
    let n = store.next_number();
    let row = |next_at_ms, body| OutboxRow {
        id: store.next_outbox_id(),
        n,
        next_at_ms,
        attempts: 0,
        body: Bytes::from_static(body),
    };
    let (late, soon) = (row(20, b"late"), row(10, b"soon"));
    assert_eq!(store.outbox_next().unwrap(), None);
    commit(store, Txn { outbox_put: vec![late.clone(), soon.clone()], ..Txn::default() }).unwrap();
    assert_eq!(store.outbox_next().unwrap(), Some(10));
    assert_eq!(store.outbox_due(15, 10).unwrap().items, std::slice::from_ref(&soon));
    assert_eq!(store.outbox_due(20, 10).unwrap().items, [soon.clone(), late.clone()]);
    let retry = OutboxUpdate { id: soon.id, n, next_at_ms: 30, attempts: 1, body: None };
    let rewrite = OutboxUpdate { id: late.id, n, next_at_ms: 25, attempts: 2, body: Some(Bytes::from_static(b"new")) };
    let nobody = OutboxUpdate { id: 999, n, next_at_ms: 1, attempts: 1, body: None };
    commit(store, Txn { outbox_update: vec![retry, rewrite, nobody], ..Txn::default() }).unwrap();
    let retried = OutboxRow { next_at_ms: 30, attempts: 1, ..soon };
    let rewritten = OutboxRow { next_at_ms: 25, attempts: 2, body: Bytes::from_static(b"new"), ..late };
    assert_eq!(store.outbox_by_execution(n).unwrap().items, [rewritten.clone(), retried.clone()]);
    commit(store, Txn { outbox_delete: vec![rewritten.id], ..Txn::default() }).unwrap();
    assert_eq!(store.outbox_by_execution(n).unwrap().items, [retried]);
}

pub(in super::super) fn blobs_live_as_long_as_someone_refers_to_them(store: &Store) {
    let (a, b) = (created(store, "a", "1"), created(store, "b", "1"));
    let (shared, pinned, missing) = ([1; 32], [2; 32], [3; 32]);
    let blob = |digest, n, body: Option<&'static [u8]>| BlobPut { digest, n, body: body.map(Bytes::from_static) };
    let blobs = vec![
        blob(shared, Some(a.number), Some(b"shared")),
        blob(shared, Some(b.number), None),
        blob(pinned, None, Some(b"pinned")),
        blob(pinned, Some(a.number), Some(b"pinned")),
    ];
    // A reference to a blob of the same transaction needs the blob itself to be there before.
    commit(store, Txn { blobs: vec![blobs[0].clone()], ..Txn::default() }).unwrap();
    commit(store, Txn { blobs, ..Txn::default() }).unwrap();
    let refused = commit(store, Txn { blobs: vec![blob(missing, Some(a.number), None)], ..Txn::default() });
    assert!(matches!(refused, Err(CommitError::NotFound { .. })));
    commit(store, Txn { deletes: vec![delete(&a)], ..Txn::default() }).unwrap();
    while store.sweep(0).unwrap().more {}
    assert_eq!(store.blob(&shared).unwrap().unwrap(), "shared");
    commit(store, Txn { deletes: vec![delete(&b)], ..Txn::default() }).unwrap();
    while store.sweep(0).unwrap().more {}
    assert_eq!(store.blob(&shared).unwrap(), None);
    assert_eq!(store.blob(&pinned).unwrap().unwrap(), "pinned");
}

pub(in super::super) fn mailboxes_take_one_answer_and_expire(store: &Store) {
    let id = [5; 16];
    let open = MailboxRow { id, expires_ms: 50, answered: false, body: Bytes::from_static(b"?") };
    let answer = MailboxRow { answered: true, body: Bytes::from_static(b"42"), ..open.clone() };
    commit(store, Txn { mailbox_put: vec![open.clone()], ..Txn::default() }).unwrap();
    assert_eq!(store.mailbox(&id).unwrap(), Some(open));
    let give =
        || Txn { guards: vec![Guard::MailboxUnanswered(id)], mailbox_put: vec![answer.clone()], ..Txn::default() };
    commit(store, give()).unwrap();
    assert!(matches!(commit(store, give()), Err(CommitError::Conflict { .. })));
    assert_eq!(store.mailbox(&id).unwrap(), Some(answer.clone()));
    store.sweep(49).unwrap();
    assert!(store.mailbox(&id).unwrap().is_some());
    store.sweep(50).unwrap();
    assert_eq!(store.mailbox(&id).unwrap(), None);
    commit(store, Txn { mailbox_put: vec![answer], ..Txn::default() }).unwrap();
    commit(store, Txn { mailbox_delete: vec![id], ..Txn::default() }).unwrap();
    assert_eq!(store.mailbox(&id).unwrap(), None);
}

pub(in super::super) fn named_values_come_and_go(store: &Store) {
    let set =
        |value: Option<&[u8]>| Txn { meta: vec![("clock".to_owned(), value.map(<[u8]>::to_vec))], ..Txn::default() };
    assert_eq!(store.meta("clock").unwrap(), None);
    commit(store, set(Some(b"1"))).unwrap();
    commit(store, set(Some(b"2"))).unwrap();
    assert_eq!(store.meta("clock").unwrap().unwrap(), b"2");
    commit(store, set(None)).unwrap();
    assert_eq!(store.meta("clock").unwrap(), None);
}
