//! Guards and what they refuse.

use bytes::Bytes;

use crate::error::CommitError;
use crate::model::{Guard, MailboxRow, OutboxRow, TimerRow, Txn};
use crate::store::Store;
use crate::testing::{append, commit, created, key};

pub(in super::super) fn every_guard_holds_and_refuses(store: &Store) {
    let stored = created(store, "a", "1");
    let (n, revision) = (stored.number, stored.revision);
    let timer = TimerRow { due_ms: 5, n, id: 1 };
    let outbox = OutboxRow { id: store.next_outbox_id(), n, next_at_ms: 1, attempts: 0, body: Bytes::new() };
    let (open, answered) = ([1; 16], [2; 16]);
    let mailbox = |id, answered| MailboxRow { id, expires_ms: 9, answered, body: Bytes::new() };
    let txn = Txn {
        timers_set: vec![timer],
        outbox_put: vec![outbox.clone()],
        mailbox_put: vec![mailbox(open, false), mailbox(answered, true)],
        ..append(n, 1, "x")
    };
    commit(store, txn).unwrap();
    let check = |guard: Guard| commit(store, Txn { guards: vec![guard], ..Txn::default() });
    for holds in [
        Guard::ResourceAt { number: n, revision },
        Guard::ResourceExists(n),
        Guard::ResourceAbsent(key("b")),
        Guard::JournalNext { n, seq: 2 },
        Guard::JournalNext { n: n + 1, seq: 77 },
        Guard::TimerExists(timer),
        Guard::MailboxUnanswered(open),
        Guard::OutboxExists(outbox.id),
    ] {
        let outcome = check(holds.clone());
        assert!(outcome.is_ok(), "{holds:?}: {outcome:?}");
    }
    for (refuses, conflict) in [
        (Guard::ResourceAt { number: n, revision: revision + 1 }, true),
        (Guard::JournalNext { n, seq: 1 }, true),
        (Guard::JournalNext { n, seq: 3 }, true),
        (Guard::MailboxUnanswered(answered), true),
        (Guard::ResourceAt { number: n + 1, revision }, false),
        (Guard::ResourceExists(n + 1), false),
        (Guard::TimerExists(TimerRow { id: 2, ..timer }), false),
        (Guard::MailboxUnanswered([3; 16]), false),
        (Guard::OutboxExists(outbox.id + 1), false),
    ] {
        let error = check(refuses.clone()).unwrap_err();
        let is_conflict = matches!(error, CommitError::Conflict { .. });
        assert!(
            is_conflict == conflict && (conflict || matches!(error, CommitError::NotFound { .. })),
            "{refuses:?}: {error:?}"
        );
    }
    assert!(matches!(check(Guard::ResourceAbsent(key("a"))), Err(CommitError::Exists { .. })));
}
