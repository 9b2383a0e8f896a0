//! What the embedded store does about the directory it is given: locks, foreign files, formats, permissions, room.

use std::fs;
use std::path::Path;

use baton_store::testing::{append, commit, create, created, key, options, put};
use baton_store::{CommitError, ExecState, Keep, Lane, Store, StoreError, StoreOptions, Txn};
use rusqlite::Connection;

fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::open(dir, options())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[test]
fn the_library_is_new_enough_and_syncs_data_only() {
    let parts: Vec<u32> = baton_store::sqlite_version().split('.').map(|part| part.parse().unwrap()).collect();
    assert!(parts >= vec![3, 51, 3], "{parts:?}");
    let flags = baton_store::SQLITE_BUILD_FLAGS.unwrap_or_default();
    assert!(flags.contains("-DHAVE_FDATASYNC=1"), "LIBSQLITE3_FLAGS is '{flags}'; see .cargo/config.toml");
}

#[test]
fn the_settings_are_those_that_were_measured() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let connection = Connection::open(dir.path().join("baton.db")).unwrap();
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("page_size"), 8192);
    assert_eq!(pragma("auto_vacuum"), 2, "incremental");
    assert_eq!(pragma("application_id"), 0x4261_746e);
    assert_eq!(pragma("user_version"), 1);
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    drop(connection);
    store.close();
}

#[test]
fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let cluster = store.cluster_id();
    let resource = created(&store, "a", "1");
    commit(&store, append(resource.number, 1, "record")).unwrap();
    let (number, outbox, revision) = (store.next_number(), store.next_outbox_id(), store.revision());
    commit(&store, put(create(&store, "b", "1"))).unwrap();
    let last = store.get(&key("b")).unwrap().unwrap();
    commit(&store, Txn { deletes: vec![baton_store::testing::delete(&last)], ..Txn::default() }).unwrap();
    while store.sweep(0).unwrap().more {}
    store.close();

    let store = open(dir.path()).unwrap();
    assert_eq!(store.get(&key("a")).unwrap().unwrap(), resource);
    assert_eq!(store.journal(resource.number, 0, 9).unwrap()[0].body, "record");
    assert_eq!((store.cluster_id(), store.revision()), (cluster, revision + 2));
    assert!(store.next_number() > number && store.next_number() > last.number, "numbers are never given twice");
    assert!(store.next_outbox_id() >= outbox);
    let mut watch = store.watch(None, 0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batch = runtime.block_on(watch.next()).unwrap();
    assert_eq!(batch.changes.len(), 3, "changes from before the restart come from the table");
}

#[test]
fn a_second_store_is_refused_until_the_first_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.hint().is_some());
    let clone = store.clone();
    store.close();
    open(dir.path()).unwrap().close();
    assert!(matches!(clone.get(&key("a")), Err(StoreError::Closed)));
    assert!(matches!(commit(&clone, Txn::default()), Err(CommitError::Failed { .. })));
}

#[test]
fn dropping_the_last_handle_releases_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    open(dir.path()).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("baton.db"), "a shopping list, much longer than a header").unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{}", chain(&error));
    let kept = fs::read_to_string(dir.path().join("baton.db")).unwrap();
    assert!(kept.starts_with("a shopping list"), "it is left alone");
}

#[test]
fn another_programs_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = Connection::open(dir.path().join("baton.db")).unwrap();
    other.execute_batch("CREATE TABLE bookmarks (url TEXT); PRAGMA application_id = 7;").unwrap();
    other.close().unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::Foreign { found, .. } if found.contains("id 7")), "{}", chain(&error));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().close();
    let newer = Connection::open(dir.path().join("baton.db")).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    newer.close().unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::NewerFormat { found: 2, supported: 1, .. }), "{}", chain(&error));
}

#[test]
fn an_empty_file_becomes_a_store() {
    let dir = tempfile::tempdir().unwrap();
    fs::File::create(dir.path().join("baton.db")).unwrap();
    let store = open(dir.path()).unwrap();
    created(&store, "a", "1");
}

#[test]
fn what_is_stored_can_be_read_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    let store = open(dir.path()).unwrap();
    created(&store, "a", "1");
    for name in ["baton.db", "baton.db-wal", "baton.db-shm", "baton.lock"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    store.backup(&dir.path().join("backup.db")).unwrap();
    assert_eq!(mode("backup.db"), 0o600);
    store.close();
    fs::set_permissions(dir.path().join("backup.db"), fs::Permissions::from_mode(0o644)).unwrap();
    Store::restore(&dir.path().join("backup.db"), dir.path(), true).unwrap();
    assert_eq!(mode("baton.db"), 0o600, "whatever the mode of the backup");
    fs::set_permissions(dir.path().join("baton.db"), fs::Permissions::from_mode(0o640)).unwrap();
    open(dir.path()).unwrap().close();
    assert_eq!(mode("baton.db"), 0o640, "somebody wanted it so");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    // Permissions do not bind root, who is refused by the kernel's own tree instead.
    let refused = if fs::File::create(locked.join("probe")).is_ok() { Path::new("/sys/kernel") } else { &locked };
    let error = Store::open(refused, options()).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{}", chain(&error));
    assert!(error.hint().is_some());
}

#[test]
fn the_directory_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/data");
    let _store = open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn new_work_is_refused_below_the_free_space_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions { free_bytes_min: u64::MAX, ..options() }).unwrap();
    let refused = store.commit_blocking(Lane::External, Txn::default()).unwrap_err();
    assert!(matches!(refused, CommitError::DiskFull { needed: u64::MAX, .. }), "{refused}");
    let running = commit(&store, put(create(&store, "a", "1")));
    assert!(running.is_ok(), "running work goes on: {running:?}");
}

#[test]
fn a_full_disk_refuses_keeps_what_was_acknowledged_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let small =
        StoreOptions { database_bytes_max: Some(1 << 20), free_bytes_min: 1, ballast_bytes: 1 << 20, ..options() };
    let store = Store::open(dir.path(), small).unwrap();
    let ballast = dir.path().join("baton.ballast");
    assert!(ballast.exists());
    let n = created(&store, "a", "1").number;
    let value = vec![7_u8; 40_000];
    let mut acknowledged = 0;
    let refused = loop {
        match commit(&store, append(n, acknowledged + 1, value.clone())) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "one MiB cannot hold this much");
    };
    assert!(matches!(refused, CommitError::DiskFull { .. }), "{refused}");
    assert!(store.is_failed().is_none());
    assert!(!ballast.exists(), "its room is given to the deletes");
    assert_eq!(store.journal(n, 0, 1_000).unwrap().len(), usize::try_from(acknowledged).unwrap());

    // Deleting makes room within the file.
    let resource = store.get(&key("a")).unwrap().unwrap();
    commit(&store, Txn { deletes: vec![baton_store::testing::delete(&resource)], ..Txn::default() }).unwrap();
    while store.sweep(0).unwrap().more {}
    let m = created(&store, "b", "1").number;
    commit(&store, append(m, 1, value)).unwrap();
    store.close();
    let store = open(dir.path()).unwrap();
    assert_eq!(store.journal(m, 0, 9).unwrap().len(), 1);
    assert!(store.verify(true).unwrap().is_clean());
}

#[test]
fn overload_refuses_new_work_and_not_running_work() {
    use std::sync::{Arc, Barrier};
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions { queue_operations_max: 8, ..options() }).unwrap();
    let gate = Arc::new(Barrier::new(2));
    let held = Arc::clone(&gate);
    let hold = move |_| {
        held.wait();
        held.wait();
    };
    store.commit(Lane::Internal, Txn::default(), Box::new(hold));
    gate.wait();
    let (sender, receiver) = std::sync::mpsc::channel();
    let queue = |lane| {
        let sender = sender.clone();
        store.commit(lane, Txn::default(), Box::new(move |outcome| drop(sender.send((lane, outcome)))));
    };
    for _ in 0..6 {
        queue(Lane::External);
    }
    assert!(receiver.try_recv().is_err(), "six are waiting");
    queue(Lane::External);
    let (_, refused) = receiver.try_recv().unwrap();
    assert!(matches!(refused, Err(CommitError::Overloaded { operations: 6, .. })), "{refused:?}");
    for _ in 0..6 {
        queue(Lane::Internal);
    }
    assert_eq!(store.stats().unwrap().queue_operations, 12);
    gate.wait();
    let rest: Vec<_> = receiver.iter().take(12).collect();
    assert!(rest.iter().all(|(_, outcome)| outcome.is_ok()));
}

#[test]
fn freed_pages_go_back_to_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut resource = create(&store, "a", "1");
    resource.state = ExecState::Closed;
    let n = resource.number;
    commit(&store, put(resource)).unwrap();
    for seq in 1..=200 {
        commit(&store, append(n, seq, vec![1_u8; 8_000])).unwrap();
    }
    let full = store.stats().unwrap().database_bytes;
    let stored = store.get(&key("a")).unwrap().unwrap();
    commit(&store, Txn { deletes: vec![baton_store::testing::delete(&stored)], ..Txn::default() }).unwrap();
    while store.sweep(0).unwrap().more {}
    store.compact(0, Keep { revisions: 0, age_ms: 0 }).unwrap();
    assert!(store.stats().unwrap().database_free_bytes > 1 << 20);
    assert_eq!(store.vacuum(10).unwrap(), 10);
    while store.vacuum(64).unwrap() > 0 {}
    let stats = store.stats().unwrap();
    assert!(stats.database_bytes < full / 4 && stats.database_free_bytes == 0, "{stats:?}");
}

#[test]
fn the_log_stays_small_by_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions { checkpoint_bytes: 256 << 10, ..options() }).unwrap();
    for seq in 1..=300 {
        commit(&store, append(1, seq, vec![1_u8; 8_000])).unwrap();
    }
    assert!(fs::metadata(dir.path().join("baton.db-wal")).unwrap().len() < 2 << 20);
    let stats = store.stats().unwrap();
    assert!(stats.database_bytes > 2 << 20 && stats.groups.operations == 300, "{stats:?}");
    store.close();
    assert!(!dir.path().join("baton.db-wal").exists(), "closing leaves one file");
}
