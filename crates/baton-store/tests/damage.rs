//! Flipped bits on the disk: the damaged row is reported, everything else goes on.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use baton_store::testing::{append, commit, create, created, key, options, put, uid};
use baton_store::{BlobPut, ListQuery, MailboxRow, OutboxRow, SnapshotPut, Store, StoreError, Txn, WatchError};

/// Flips one bit in the middle of the only place in the closed database where `marker` stands, or of the `which`th.
fn flip(dir: &Path, marker: &[u8], which: usize) {
    let path = dir.join("baton.db");
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> =
        bytes.windows(marker.len()).enumerate().filter(|(_, window)| *window == marker).map(|(at, _)| at).collect();
    let at = places[which] + marker.len() / 2;
    bytes[at] ^= 0x10;
    fs::write(&path, bytes).unwrap();
}

fn damaged(dir: &Path, marker: &str) -> Store {
    flip(dir, marker.as_bytes(), 0);
    Store::open(dir, options()).unwrap()
}

fn is_corrupt<T: std::fmt::Debug>(result: Result<T, StoreError>, table: &str) {
    match result {
        Err(StoreError::Corrupt { table: found, .. }) => assert_eq!(found, table),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_journal_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    commit(&store, append(1, 1, "record-one-of-one")).unwrap();
    commit(&store, append(1, 2, "record-two-of-one")).unwrap();
    commit(&store, append(2, 1, "record-one-of-two")).unwrap();
    store.close();
    let store = damaged(dir.path(), "record-two-of-one");
    is_corrupt(store.journal(1, 0, 10), "journal");
    assert_eq!(store.journal(1, 1, 1).unwrap()[0].body, "record-one-of-one");
    assert_eq!(store.journal(2, 0, 10).unwrap()[0].body, "record-one-of-two");
    commit(&store, append(2, 2, "more")).unwrap();
    let report = store.verify(true).unwrap();
    assert_eq!(report.corrupt.len(), 1, "{report:?}");
    assert_eq!((report.corrupt[0].table, report.corrupt[0].number), ("journal", 1));
    assert!(store.verify(false).unwrap().is_clean(), "pages and indexes are whole");
}

#[test]
fn a_resource_body_and_a_resource_column() {
    for marker in ["body-of-victim", "label=of-victim"] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), options()).unwrap();
        created(&store, "before", "x");
        let mut victim = create(&store, "victim", "body-of-victim");
        victim.labels = Some("\nlabel=of-victim\n".to_owned());
        victim.owner = Some([4; 16]);
        let number = victim.number;
        commit(&store, put(victim)).unwrap();
        created(&store, "z-after", "x");
        // Only the resource row is left to hold the marker.
        store.compact(0, baton_store::Keep { revisions: 0, age_ms: 0 }).unwrap();
        store.close();
        scrub(dir.path());
        let store = damaged(dir.path(), marker);
        is_corrupt(store.get(&key("victim")), "resource");
        is_corrupt(store.get_by_uid(uid(number)), "resource");
        is_corrupt(store.get_by_number(number), "resource");
        let page = store.list(&ListQuery::new(baton_store::testing::KIND, 10)).unwrap();
        assert_eq!(page.items.iter().map(|r| r.key.name.as_str()).collect::<Vec<_>>(), ["before", "z-after"]);
        assert_eq!((page.corrupt.len(), page.corrupt[0].number), (1, number));
        let mut query = ListQuery::new(baton_store::testing::KIND, 2);
        query.after = store.list(&query).unwrap().last;
        assert_eq!(store.list(&query).unwrap().items.len(), 1, "paging passes over the damaged row");
        let owned = store.by_owner([4; 16], 0, 10).unwrap();
        assert_eq!((owned.items.len(), owned.corrupt.len()), (0, 1));
        created(&store, "new", "x");
    }
}

/// Rewrites a closed database, so that no deleted copy of a value is left in it.
fn scrub(dir: &Path) {
    let connection = rusqlite::Connection::open(dir.join("baton.db")).unwrap();
    connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    connection.close().unwrap();
}

#[test]
fn every_other_table_with_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let body = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
    let (good, bad) = (store.next_outbox_id(), store.next_outbox_id());
    let outbox = |id, text| OutboxRow { id, n: 1, next_at_ms: 1, attempts: 0, body: body(text) };
    let txn = Txn {
        snapshot: Some(SnapshotPut { n: 1, seq: 1, body: body("the-snapshot") }),
        outbox_put: vec![outbox(good, "whole-message"), outbox(bad, "broken-message")],
        blobs: vec![BlobPut { digest: [1; 32], n: None, body: Some(body("the-blob")) }],
        mailbox_put: vec![MailboxRow { id: [2; 16], expires_ms: 9, answered: false, body: body("the-mailbox") }],
        meta: vec![("k".to_owned(), Some(b"the-named-value".to_vec()))],
        ..Txn::default()
    };
    commit(&store, txn).unwrap();
    store.close();
    for marker in ["the-snapshot", "broken-message", "the-blob", "the-mailbox", "the-named-value"] {
        flip(dir.path(), marker.as_bytes(), 0);
    }
    let store = Store::open(dir.path(), options()).unwrap();
    is_corrupt(store.snapshot(1), "snapshot");
    is_corrupt(store.blob(&[1; 32]), "blob");
    is_corrupt(store.mailbox(&[2; 16]), "mailbox");
    is_corrupt(store.meta("k"), "meta");
    let due = store.outbox_due(9, 10).unwrap();
    assert_eq!(due.items.iter().map(|row| row.id).collect::<Vec<_>>(), [good]);
    assert_eq!(due.corrupt.iter().map(|row| row.number).collect::<Vec<_>>(), [bad]);
    assert_eq!(store.verify(true).unwrap().corrupt.len(), 5);
}

#[test]
fn a_change_ends_the_watch_that_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let first = created(&store, "a", "first-body");
    commit(&store, put(baton_store::testing::update(&first, "second-body"))).unwrap();
    store.close();
    // The resource row no longer holds the first body: its only copy is in the change.
    let store = damaged(dir.path(), "first-body");
    is_corrupt(store.change_body(1), "change");
    assert_eq!(store.change_body(2).unwrap().unwrap(), "second-body");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outcome = runtime.block_on(store.watch(None, 0).unwrap().next());
    assert!(matches!(outcome, Err(WatchError::Store(StoreError::Corrupt { table: "change", .. }))), "{outcome:?}");
    assert_eq!(runtime.block_on(store.watch(None, 1).unwrap().next()).unwrap().changes.len(), 1);
}

#[test]
fn a_value_moved_to_another_row_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    commit(&store, append(1, 1, "one")).unwrap();
    commit(&store, append(1, 2, "two")).unwrap();
    store.close();
    let connection = rusqlite::Connection::open(dir.path().join("baton.db")).unwrap();
    connection
        .execute_batch("UPDATE journal SET body = (SELECT body FROM journal WHERE seq = 1) WHERE seq = 2")
        .unwrap();
    connection.close().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    is_corrupt(store.journal(1, 2, 1), "journal");
    assert_eq!(store.journal(1, 1, 1).unwrap().len(), 1);
}
