//! The same groups of random transactions on both backends: same answers, same contents.
//!
//! Keys are few, so that the transactions of a group touch the same rows again and again, refuse each other and fail on data.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write;
use std::sync::{Arc, Barrier, mpsc};

use baton_store::testing::postgres::PostgresServer;
use baton_store::testing::{KIND, key, options};
use baton_store::{
    BlobPut, CommitError, Committed, ExecState, Expect, Guard, JournalAppend, Lane, ListQuery, MailboxRow, OutboxRow,
    OutboxUpdate, ResourceDelete, ResourcePut, SnapshotPut, Store, StoredResource, TimerRow, Txn,
};
use bytes::Bytes;

/// Numbers from a seed; the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn number(&mut self, bound: u64) -> i64 {
        i64::try_from(self.below(bound)).unwrap()
    }

    fn body(&mut self) -> Bytes {
        Bytes::from(vec![b'a' + u8::try_from(self.below(26)).unwrap(); 3])
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

const NAMES: [&str; 4] = ["w", "x", "y", "z"];

/// One transaction; `store` tells what revisions there are, so that some expectations hold.
fn transaction(dice: &mut Dice, store: &Store, fresh: &mut i64) -> Txn {
    let mut txn = Txn::default();
    let name = NAMES[usize::try_from(dice.below(4)).unwrap()];
    let stored = store.get(&key(name)).unwrap();
    let n = dice.number(3) + 1;
    match dice.below(4) {
        0 | 1 => txn.puts.push(resource(dice, name, stored.as_ref(), fresh)),
        2 => {
            if let Some(StoredResource { key, uid, number, revision, body, .. }) = stored {
                txn.deletes.push(ResourceDelete { key, uid, number, revision, body });
            }
        }
        _ => {}
    }
    if dice.one_in(2) {
        let seq = store.journal_last(n).unwrap().unwrap_or(0) + 1 + dice.number(2);
        txn.journal.push(JournalAppend { n, seq, body: dice.body() });
        if dice.one_in(2) {
            txn.guards.push(Guard::JournalNext { n, seq });
        }
    }
    if dice.one_in(4) {
        txn.snapshot = Some(SnapshotPut { n, seq: dice.number(9), body: dice.body() });
    }
    let timer = TimerRow { due_ms: dice.number(3), n, id: dice.number(2) };
    match dice.below(6) {
        0 => txn.timers_set.push(timer),
        1 => txn.timers_clear.push(timer),
        2 => txn.guards.push(Guard::TimerExists(timer)),
        3 => (txn.timers_set, txn.timers_clear) = (vec![timer], vec![timer]),
        _ => {}
    }
    work(dice, n, &mut txn);
    txn
}

fn resource(dice: &mut Dice, name: &str, stored: Option<&StoredResource>, fresh: &mut i64) -> ResourcePut {
    let replaces = stored.filter(|_| !dice.one_in(4));
    *fresh += 1;
    // Now and then a number or a uid that is taken.
    let number = if dice.one_in(10) { 1 + dice.number(10) } else { 100 + *fresh };
    let uid = if dice.one_in(10) { u128::from(dice.below(10)) } else { 1_000 + u128::try_from(*fresh).unwrap() };
    ResourcePut {
        key: key(name),
        uid: replaces.map_or(uid.to_be_bytes(), |stored| stored.uid),
        number: replaces.map_or(number, |stored| stored.number),
        expect: replaces.map_or(Expect::Absent, |stored| Expect::Revision(stored.revision)),
        body: dice.body(),
        labels: dice.one_in(2).then(|| "\na=b\n".to_owned()),
        state: [ExecState::Active, ExecState::Parked, ExecState::Closed][usize::try_from(dice.below(3)).unwrap()],
        owner: dice.one_in(2).then_some([5; 16]),
        expires_at_ms: dice.one_in(2).then(|| dice.number(5)),
        deleting: dice.one_in(4),
    }
}

fn work(dice: &mut Dice, n: i64, txn: &mut Txn) {
    let id = dice.number(4) + 1;
    let row = |dice: &mut Dice| OutboxRow { id, n: 1, next_at_ms: dice.number(9), attempts: 0, body: dice.body() };
    let attempt = |dice: &mut Dice| {
        let body = dice.one_in(2).then(|| dice.body());
        OutboxUpdate { id, n: 1, next_at_ms: dice.number(9), attempts: 3, body }
    };
    match dice.below(7) {
        0 => txn.outbox_put.push(row(dice)),
        1 => txn.outbox_delete.push(id),
        2 => txn.outbox_update.push(attempt(dice)),
        3 => txn.guards.push(Guard::OutboxExists(id)),
        4 => (txn.outbox_delete, txn.outbox_put) = (vec![id], vec![row(dice)]),
        5 => (txn.outbox_put, txn.outbox_update) = (vec![row(dice)], vec![attempt(dice)]),
        _ => {}
    }
    let digest = [u8::try_from(dice.below(3)).unwrap(); 32];
    let holder = dice.one_in(2).then_some(n);
    match dice.below(4) {
        0 => txn.blobs.push(BlobPut { digest, n: holder, body: Some(Bytes::from(vec![digest[0]; 5])) }),
        1 => txn.blobs.push(BlobPut { digest, n: holder, body: None }),
        _ => {}
    }
    let mailbox = [u8::try_from(dice.below(2)).unwrap(); 16];
    match dice.below(5) {
        0 => {
            let (expires_ms, answered) = (dice.number(9), dice.one_in(2));
            txn.mailbox_put.push(MailboxRow { id: mailbox, expires_ms, answered, body: dice.body() });
        }
        1 => txn.mailbox_delete.push(mailbox),
        2 => txn.guards.push(Guard::MailboxUnanswered(mailbox)),
        _ => {}
    }
    if dice.one_in(4) {
        txn.meta.push(("m".to_owned(), dice.one_in(2).then(|| dice.body().to_vec())));
    }
}

/// Holds the committer in a callback while `txns` queue up, so that they form one group.
fn as_one_group(store: &Store, txns: &[Txn]) -> Vec<Result<Committed, CommitError>> {
    let gate = Arc::new(Barrier::new(2));
    let on_committer = Arc::clone(&gate);
    let hold = move |_| {
        on_committer.wait();
        on_committer.wait();
    };
    store.commit(Lane::Internal, Txn::default(), Box::new(hold));
    gate.wait();
    let (sender, receiver) = mpsc::channel();
    for txn in txns {
        let sender = sender.clone();
        store.commit(Lane::Internal, txn.clone(), Box::new(move |outcome| drop(sender.send(outcome))));
    }
    gate.wait();
    receiver.iter().take(txns.len()).collect()
}

/// Outcomes with what databases word for themselves left out.
fn told(outcomes: &[Result<Committed, CommitError>]) -> Vec<String> {
    outcomes
        .iter()
        .map(|outcome| match outcome {
            Err(CommitError::Rejected { .. }) => "rejected".to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}

/// All that can be read.
fn contents(store: &Store) -> String {
    let mut text = String::new();
    let mut add = |what: &dyn std::fmt::Debug| writeln!(text, "{what:?}").unwrap();
    let list = store.list(&ListQuery::new(KIND, 99)).unwrap();
    add(&(list.items, list.revision, list.corrupt));
    let mut labelled = ListQuery::new(KIND, 99);
    labelled.labels = vec![("a".to_owned(), "b".to_owned())];
    add(&store.list(&labelled).unwrap().items.into_iter().map(|item| item.key).collect::<Vec<_>>());
    add(&(store.active(0, 99).unwrap(), store.deleting(0, 99).unwrap()));
    add(&(store.expiring(3, None, 99).unwrap(), store.by_owner([5; 16], 0, 99).unwrap().items));
    for n in 1..=3 {
        let outbox = store.outbox_by_execution(n).unwrap();
        assert!(outbox.corrupt.is_empty());
        add(&(store.journal(n, 0, 999).unwrap(), store.snapshot(n).unwrap(), outbox.items));
    }
    add(&(store.timers_due(99, None, 99).unwrap(), store.outbox_due(4, 99).unwrap().items));
    add(&(store.outbox_next().unwrap(), store.meta("m").unwrap()));
    for index in 0..3 {
        add(&(store.blob(&[index; 32]).unwrap(), store.mailbox(&[index; 16]).unwrap()));
    }
    text
}

#[test]
fn both_backends_answer_and_keep_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let files = Store::open(dir.path(), options()).unwrap();
    let postgres = PostgresServer::shared().open_store(&options());
    let (mut dice, mut fresh) = (Dice(20_261_123), 0);
    let (mut accepted, mut refused, mut rejected) = (0, 0, 0);
    for round in 0..250 {
        let size = 1 + dice.below(7);
        let txns: Vec<Txn> = (0..size).map(|_| transaction(&mut dice, &files, &mut fresh)).collect();
        let (here, there) = (as_one_group(&files, &txns), as_one_group(&postgres, &txns));
        if told(&here) != told(&there) {
            let at = told(&here).iter().zip(told(&there)).position(|(here, there)| *here != there).unwrap();
            panic!("round {round}, {at}: {:?} and {:?} of\n{txns:?}", here[at], there[at]);
        }
        for outcome in &there {
            match outcome {
                Ok(_) => accepted += 1,
                Err(CommitError::Rejected { .. }) => rejected += 1,
                Err(_) => refused += 1,
            }
        }
        assert_eq!(contents(&files), contents(&postgres), "round {round}: {txns:?}");
        if round % 20 == 19 {
            let now = dice.number(5);
            assert_eq!(files.sweep(now).unwrap(), postgres.sweep(now).unwrap());
        }
    }
    assert!(accepted > 200 && refused > 50 && rejected > 20, "{accepted} {refused} {rejected}");
    let (mut here, mut there) = (files.watch(None, 0).unwrap(), postgres.watch(None, 0).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    while here.revision() < files.revision() {
        let (here, there) = (runtime.block_on(here.next()).unwrap(), runtime.block_on(there.next()).unwrap());
        assert_eq!((here.changes, here.revision), (there.changes, there.revision));
    }
    assert!(files.verify(true).unwrap().is_clean() && postgres.verify(true).unwrap().is_clean());
}
