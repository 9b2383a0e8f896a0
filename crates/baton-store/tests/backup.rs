//! Backup while the store is written to, and restore.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use baton_store::testing::{append, commit, created, key, options};
use baton_store::{Gone, Store, StoreError, WatchError};

#[test]
fn a_backup_under_writes_holds_a_moment_and_restores() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy, restored) = (dir.path().join("data"), dir.path().join("copy.db"), dir.path().join("restored"));
    let store = Store::open(&data, options()).unwrap();
    let resource = created(&store, "a", "1");
    let stop = AtomicBool::new(false);
    let (report, acknowledged_before) = std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let writing = scope.spawn(|| {
            let sender = sender;
            let mut seq = 0;
            while !stop.load(Ordering::Relaxed) {
                seq += 1;
                commit(&store, append(resource.number, seq, format!("record {seq}"))).unwrap();
                let _ = sender.send(seq);
            }
        });
        let before = receiver.iter().nth(50).unwrap();
        let report = store.backup(&copy).unwrap();
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap();
        (report, before)
    });
    assert_eq!((report.path.as_path(), report.bytes), (copy.as_path(), fs::metadata(&copy).unwrap().len()));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the data and one file: {left:?}");
    assert!(matches!(store.backup(&copy), Err(StoreError::Occupied { .. })));

    let made = Store::restore(&copy, &restored, false).unwrap();
    assert_eq!(made.revision, report.revision);
    let back = Store::open(&restored, options()).unwrap();
    assert_ne!(back.cluster_id(), store.cluster_id());
    assert_eq!(back.get(&key("a")).unwrap().unwrap(), resource);
    let records = back.journal(resource.number, 0, 1_000_000).unwrap();
    assert!(i64::try_from(records.len()).unwrap() >= acknowledged_before, "what was acknowledged before is in it");
    assert!(records.iter().map(|record| record.seq).eq(1..=i64::try_from(records.len()).unwrap()));
    assert!(back.verify(true).unwrap().is_clean());
    let settings = rusqlite::Connection::open(restored.join("baton.db")).unwrap();
    let vacuum: i64 = settings.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap();
    assert_eq!(vacuum, 2, "the copy keeps the settings of the file");
    drop(settings);
}

#[test]
fn a_store_that_is_open_elsewhere_is_copied_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy, restored) = (dir.path().join("data"), dir.path().join("copy.db"), dir.path().join("restored"));
    let store = Store::open(&data, options()).unwrap();
    let resource = created(&store, "a", "1");
    let report = Store::backup_of(&data, &copy, &options()).unwrap();
    assert_eq!(report.revision, store.revision());
    commit(&store, append(resource.number, 1, "later")).unwrap();
    Store::restore(&copy, &restored, false).unwrap();
    let back = Store::open(&restored, options()).unwrap();
    assert_eq!(back.get(&key("a")).unwrap().unwrap(), resource);
    assert!(back.journal(resource.number, 0, 9).unwrap().is_empty());
    store.close();
    assert!(matches!(Store::backup_of(&data, &copy, &options()), Err(StoreError::Occupied { .. })));
    let again = dir.path().join("again.db");
    Store::backup_of(&data, &again, &options()).unwrap();
    let store = Store::open(&data, options()).unwrap();
    assert_eq!(store.journal(resource.number, 0, 9).unwrap().len(), 1, "a copy of a closed store leaves it usable");
}

#[test]
fn what_does_not_open_is_not_copied_either() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy.db"));
    let refused = || Store::backup_of(&data, &copy, &options()).unwrap_err();
    assert!(matches!(refused(), StoreError::Io { .. }), "{}", refused());
    assert!(!data.exists(), "nothing is created");
    Store::open(&data, options()).unwrap().close();
    fs::write(data.join("baton.restoring"), "").unwrap();
    assert!(matches!(refused(), StoreError::RestoreUnfinished { .. }), "{}", refused());
    fs::remove_file(data.join("baton.restoring")).unwrap();
    let newer = rusqlite::Connection::open(data.join("baton.db")).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    newer.close().unwrap();
    assert!(matches!(refused(), StoreError::NewerFormat { found: 2, .. }), "{}", refused());
    fs::write(data.join("baton.db"), "a shopping list, much longer than a header").unwrap();
    assert!(matches!(refused(), StoreError::Foreign { .. }), "{}", refused());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the data is there");
}

#[test]
fn a_watcher_further_on_than_the_backup_is_told_to_list_again() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy, restored) = (dir.path().join("data"), dir.path().join("copy.db"), dir.path().join("restored"));
    let store = Store::open(&data, options()).unwrap();
    created(&store, "a", "1");
    store.backup(&copy).unwrap();
    created(&store, "later", "1");
    Store::restore(&copy, &restored, false).unwrap();
    let back = Store::open(&restored, options()).unwrap();
    let refused = back.watch(None, store.revision()).unwrap_err();
    assert!(matches!(refused, WatchError::Gone(Gone::Ahead { .. })), "{refused}");
}

#[test]
fn a_restore_spares_what_is_there_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy.db"));
    let store = Store::open(&data, options()).unwrap();
    created(&store, "old", "1");
    store.backup(&copy).unwrap();
    created(&store, "new", "1");
    assert!(
        matches!(Store::restore(&copy, &data, true), Err(StoreError::Locked { .. })),
        "a live store is never touched"
    );
    store.close();
    assert!(matches!(Store::restore(&copy, &data, false), Err(StoreError::Occupied { .. })));
    Store::restore(&copy, &data, true).unwrap();
    let store = Store::open(&data, options()).unwrap();
    assert!(store.get(&key("old")).unwrap().is_some() && store.get(&key("new")).unwrap().is_none());
    store.close();
    // What was replaced is a whole database still.
    let aside = rusqlite::Connection::open(data.join("baton.db.replaced")).unwrap();
    let count: i64 = aside.query_row("SELECT count(*) FROM resource", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
}

#[test]
fn a_restore_of_something_else_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, wrong) = (dir.path().join("data"), dir.path().join("wrong.db"));
    let store = Store::open(&data, options()).unwrap();
    created(&store, "a", "1");
    store.close();
    fs::write(&wrong, "not a database, whatever its name says").unwrap();
    assert!(matches!(Store::restore(&wrong, &data, true), Err(StoreError::Foreign { .. })));
    let store = Store::open(&data, options()).unwrap();
    assert!(store.get(&key("a")).unwrap().is_some());
}

#[test]
fn a_store_does_not_open_in_the_middle_of_a_restore() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("data"), options()).unwrap();
    created(&store, "a", "1");
    let copy = dir.path().join("copy.db");
    store.backup(&copy).unwrap();
    store.close();
    let data = dir.path().join("data");
    fs::write(data.join("baton.restoring"), "").unwrap();
    let error = Store::open(&data, options()).unwrap_err();
    assert!(matches!(error, StoreError::RestoreUnfinished { .. }), "{error}");
    Store::restore(&copy, &data, true).unwrap();
    Store::open(&data, options()).unwrap();
}

#[test]
fn an_interrupted_restore_keeps_what_it_had_set_aside() {
    for database_moved in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (data, copy) = (dir.path().join("data"), dir.path().join("copy.db"));
        let store = Store::open(&data, options()).unwrap();
        store.backup(&copy).unwrap();
        created(&store, "old", "1");
        store.close();
        // As left by a restore that was killed after its first or after its second move.
        fs::write(data.join("baton.restoring"), "").unwrap();
        fs::write(data.join("baton.db.replaced-wal"), "a log").unwrap();
        if database_moved {
            fs::rename(data.join("baton.db"), data.join("baton.db.replaced")).unwrap();
            fs::copy(&copy, data.join("baton.db")).unwrap();
        }
        let original = if database_moved { "baton.db.replaced" } else { "baton.db" };
        let original = fs::read(data.join(original)).unwrap();
        Store::restore(&copy, &data, true).unwrap();
        assert_eq!(fs::read(data.join("baton.db.replaced")).unwrap(), original);
        assert_eq!(fs::read(data.join("baton.db.replaced-wal")).unwrap(), b"a log");
        let store = Store::open(&data, options()).unwrap();
        assert!(store.get(&key("old")).unwrap().is_none());
    }
}
