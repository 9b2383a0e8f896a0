//! Several stores over one database: each sees what the others do, once and in order, and one of them leads.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashSet;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use baton_store::testing::postgres::PostgresServer;
use baton_store::testing::{append, commit, create, created, key, options, put, uid, update};
use baton_store::{Change, CommitError, Guard, Keep, Store, StoreOptions, Txn, Watch};

/// Longest that anything here may take; reaching it is a failure.
const PATIENCE: Duration = Duration::from_mins(1);

fn stores(count: usize, options: &StoreOptions) -> (String, Vec<Store>) {
    let url = PostgresServer::shared().create_database();
    let stores = (0..count).map(|_| Store::open_postgres(&url, options.clone()).unwrap()).collect();
    (url, stores)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.unwrap() })
}

/// Changes from a watch until `count` have come.
fn changes(watch: &mut Watch, count: usize) -> Vec<Arc<Change>> {
    wait(async {
        let mut seen = Vec::new();
        while seen.len() < count {
            seen.extend(watch.next().await.unwrap().changes);
        }
        seen
    })
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it did not come to this: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Both commit at the same time; every watcher of both sees every change, once and in order.
fn watchers_of_both_see_everything(options: &StoreOptions) {
    const EACH: usize = 150;
    let (_, stores) = stores(2, options);
    let mut watches: Vec<Watch> = stores.iter().map(|store| store.watch(None, 0).unwrap()).collect();
    std::thread::scope(|scope| {
        for (index, store) in stores.iter().enumerate() {
            for producer in 0..4 {
                scope.spawn(move || {
                    for turn in 0..EACH {
                        let name = format!("s{index}-p{producer}-{turn}");
                        commit(store, put(create(store, &name, "x"))).unwrap();
                    }
                });
            }
        }
        for watch in &mut watches {
            scope.spawn(|| {
                let seen = changes(watch, EACH * 8);
                let revisions: Vec<u64> = seen.iter().map(|change| change.revision).collect();
                assert!(revisions.iter().copied().eq(1..=(EACH as u64 * 8)), "once and in order");
                let names: HashSet<&str> = seen.iter().map(|change| change.key.name.as_str()).collect();
                assert_eq!(names.len(), EACH * 8);
            });
        }
    });
    let numbers: HashSet<i64> = stores[0].active(0, 10_000).unwrap().into_iter().collect();
    assert_eq!(numbers.len(), EACH * 8, "no number was given twice");
    for store in &stores {
        eventually("both are at the same revision", || store.revision() == EACH as u64 * 8);
    }
}

#[test]
fn watchers_of_both_servers_see_everything_in_order() {
    watchers_of_both_see_everything(&options());
}

#[test]
fn so_do_watchers_that_have_to_read_the_table() {
    watchers_of_both_see_everything(&StoreOptions { ring_events_max: 3, ..options() });
}

#[test]
fn an_idle_server_hears_of_others_commits() {
    let (_, stores) = stores(2, &options());
    let mut watch = stores[1].watch(None, 0).unwrap();
    for turn in 1..=20 {
        let committed = created(&stores[0], &format!("n{turn}"), "x");
        let seen = changes(&mut watch, 1);
        assert_eq!((seen[0].revision, seen[0].number), (committed.revision, committed.number));
        assert_eq!(seen[0].body, "x");
    }
    assert_eq!(stores[1].change_body(20).unwrap().unwrap(), "x");
    // Compaction by one is known to the other.
    stores[0].compact(0, Keep { revisions: 0, age_ms: 0 }).unwrap();
    created(&stores[0], "after", "x");
    eventually("the other knows what is compacted", || stores[1].compacted_revision() == 20);
    assert!(stores[1].watch(None, 5).is_err());
}

#[test]
fn of_those_who_expect_the_same_revision_one_wins() {
    let (_, stores) = stores(3, &options());
    let mut current = created(&stores[0], "contested", "0");
    for _ in 0..30 {
        let start = Barrier::new(stores.len());
        let outcomes: Vec<Result<_, CommitError>> = std::thread::scope(|scope| {
            let (current, start) = (&current, &start);
            let running: Vec<_> = stores
                .iter()
                .map(|store| {
                    scope.spawn(move || {
                        start.wait();
                        commit(store, put(update(current, "next")))
                    })
                })
                .collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let won: Vec<_> = outcomes.iter().flatten().collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        let revision = won[0].revisions[0];
        for lost in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            let CommitError::Conflict { expected, found, .. } = lost else { panic!("{lost}") };
            assert_eq!((*expected, *found), (current.revision, revision));
        }
        current = stores[1].get(&key("contested")).unwrap().unwrap();
        assert_eq!(current.revision, revision);
    }
}

#[test]
fn a_guard_holds_against_other_servers() {
    let (_, stores) = stores(2, &options());
    let n = stores[0].next_number();
    let next = |seq| Txn { guards: vec![Guard::JournalNext { n, seq }], ..append(n, seq, "x") };
    let mut taken = [0; 2];
    for seq in 1..=50 {
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = stores.iter().map(|store| scope.spawn(|| commit(store, next(seq)))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (count, outcome) in taken.iter_mut().zip(&outcomes) {
            *count += usize::from(outcome.is_ok());
        }
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    }
    assert_eq!(taken.iter().sum::<usize>(), 50);
    assert_eq!(stores[0].journal(n, 0, 100).unwrap().len(), 50);
}

#[test]
fn numbers_are_unique_over_servers_and_restarts() {
    let (url, stores) = stores(2, &options());
    let mut numbers = HashSet::new();
    let mut ids = HashSet::new();
    for store in &stores {
        // More than a block.
        assert!((0..70_000).all(|_| numbers.insert(store.next_number())), "a number was given twice");
        assert!((0..70_000).all(|_| ids.insert(store.next_outbox_id())), "an id was given twice");
    }
    for store in stores {
        store.close();
    }
    let again = Store::open_postgres(&url, options()).unwrap();
    assert!((0..1_000).all(|_| numbers.insert(again.next_number())));
    assert!(numbers.iter().all(|number| *number > 0));
}

#[test]
fn everything_is_there_after_reopening() {
    let (url, mut stores) = stores(1, &options());
    let store = stores.remove(0);
    let stored = created(&store, "a", "body");
    let cluster = store.cluster_id();
    commit(&store, append(stored.number, 1, "record")).unwrap();
    let closed = store.clone();
    store.close();
    assert!(matches!(commit(&closed, append(1, 1, "late")), Err(CommitError::Failed { .. })));
    assert!(closed.get(&key("a")).is_err());
    assert!(closed.next_number() > 0, "numbers go on, though for nothing");
    let store = Store::open_postgres(&url, options()).unwrap();
    assert_eq!(store.get(&key("a")).unwrap().unwrap(), stored);
    assert_eq!((store.revision(), store.cluster_id()), (1, cluster));
    assert_eq!(store.journal(stored.number, 0, 9).unwrap()[0].body, "record");
    assert!(store.verify(true).unwrap().is_clean());
    assert_eq!(PostgresServer::shared().psql(&url, "SELECT count(*) FROM baton.committed"), "0", "closing forgets it");
}

#[test]
fn it_can_be_used_and_dropped_on_an_async_runtime() {
    let url = PostgresServer::shared().create_database();
    for flavour in [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()] {
        let mut flavour = flavour;
        flavour.enable_time().build().unwrap().block_on(async {
            let store = Store::open_postgres(&url, options()).unwrap();
            let before = store.revision();
            let mut watch = store.watch(None, before).unwrap();
            let name = format!("r{before}");
            store.commit_async(baton_store::Lane::Internal, put(create(&store, &name, "x"))).await.unwrap();
            assert_eq!(store.get(&key(&name)).unwrap().unwrap().body, "x");
            assert_eq!(watch.next().await.unwrap().revision, before + 1);
            drop(watch);
            drop(store);
        });
    }
}

#[test]
fn one_leads_and_another_takes_over() {
    let (url, mut stores) = stores(3, &options());
    let server = PostgresServer::shared();
    let leaders = |stores: &[Store]| stores.iter().filter(|store| store.leadership().is_leader()).count();
    eventually("one leads", || leaders(&stores) == 1);
    // In order: the leader closes.
    let leader = stores.iter().position(|store| store.leadership().is_leader()).unwrap();
    let closed = stores.remove(leader);
    let leadership = closed.leadership();
    closed.close();
    assert!(!leadership.is_leader());
    eventually("another leads", || leaders(&stores) == 1);
    // Out of order: its session is ended.
    for _ in 0..3 {
        let holder = "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database \
            WHERE locktype = 'advisory' AND granted AND datname = current_database()";
        eventually("the session of a leader was ended", || server.psql(&url, holder) == "t");
        eventually("one leads again", || leaders(&stores) == 1);
    }
    commit(&stores[0], put(create(&stores[0], "still", "x"))).unwrap();
    assert_eq!(stores[1].get_by_uid(uid(stores[1].active(0, 1).unwrap()[0])).unwrap().unwrap().body, "x");
}

#[test]
fn a_store_in_files_always_leads() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    assert!(store.leadership().is_leader());
    assert_eq!(store.directory(), Some(dir.path()));
}
