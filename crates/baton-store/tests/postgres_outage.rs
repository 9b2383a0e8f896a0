//! The database server goes away, in every way that it can: nothing acknowledged is lost, nothing is written twice, and what
//! cannot be known at once is found out.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use baton_store::testing::postgres::PostgresServer;
use baton_store::testing::{append, commit, create, created, key, options, put};
use baton_store::{CommitError, Lane, Store, StoreError, StoreOptions};

const PATIENCE: Duration = Duration::from_mins(1);

fn impatient() -> StoreOptions {
    StoreOptions { outage_patience_ms: 300, ..options() }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it did not come to this: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn killed_under_load_it_loses_nothing_that_was_acknowledged() {
    const PRODUCERS: i64 = 8;
    let mut server = PostgresServer::start();
    let url = server.create_database();
    let stores: Vec<Store> = (0..2).map(|_| Store::open_postgres(&url, options()).unwrap()).collect();
    let ended = AtomicBool::new(false);
    let acknowledged: Vec<Mutex<i64>> = (0..PRODUCERS * 2).map(|_| Mutex::new(0)).collect();
    std::thread::scope(|scope| {
        for (index, store) in stores.iter().enumerate() {
            for producer in 0..PRODUCERS {
                let n = i64::try_from(index).unwrap() * PRODUCERS + producer;
                let (acknowledged, ended) = (&acknowledged[usize::try_from(n).unwrap()], &ended);
                scope.spawn(move || {
                    for seq in 1.. {
                        // A resource too, so that revisions are at stake.
                        let txn = baton_store::Txn {
                            puts: vec![create(store, &format!("r{n}-{seq}"), "x")],
                            ..append(n, seq, format!("record {n} {seq}"))
                        };
                        // The outage is shorter than their patience: nobody may be refused, whatever was in flight.
                        commit(store, txn).unwrap();
                        *acknowledged.lock().unwrap() = seq;
                        if ended.load(Relaxed) {
                            return;
                        }
                    }
                });
            }
        }
        let total = || acknowledged.iter().map(|count| *count.lock().unwrap()).sum::<i64>();
        for round in 1..=4 {
            let before = total();
            eventually("some work was done", || total() > before + 200 * round);
            server.kill();
            server.restart();
        }
        ended.store(true, Relaxed);
    });
    let mut records = 0;
    for (n, count) in (0..).zip(&acknowledged) {
        let found = stores[0].journal(n, 0, 1_000_000).unwrap();
        let last = *count.lock().unwrap();
        assert!(found.iter().map(|record| record.seq).eq(1..=last), "all that was acknowledged, and nothing else");
        assert!(found.iter().all(|record| record.body == format!("record {n} {}", record.seq)));
        records += u64::try_from(last).unwrap();
    }
    assert_eq!(server.psql(&url, "SELECT count(*), max(revision) FROM baton.change"), format!("{records}|{records}"));
    for store in &stores {
        assert_eq!(store.is_failed(), None);
        eventually("both follow again", || store.revision() == records);
        assert!(store.verify(true).unwrap().is_clean());
    }
}

#[test]
fn while_it_is_down_commits_are_refused_for_certain_and_reads_fail() {
    let mut server = PostgresServer::start();
    let url = server.create_database();
    let store = Store::open_postgres(&url, impatient()).unwrap();
    let stored = created(&store, "a", "1");
    assert!({
        eventually("it leads", || store.leadership().is_leader());
        true
    });
    server.kill();
    let refused = commit(&store, append(1, 1, "x")).unwrap_err();
    assert!(matches!(refused, CommitError::Unavailable { .. }), "{refused:?}");
    assert!(refused.to_string().ends_with("; nothing was written"), "{refused}");
    // From now on it is known: nobody waits again.
    assert!(matches!(commit(&store, append(1, 1, "x")), Err(CommitError::Unavailable { .. })));
    assert!(matches!(store.sweep(0), Err(StoreError::Maintenance(CommitError::Unavailable { .. }))));
    let unread = store.get(&key("a")).unwrap_err();
    assert!(matches!(unread, StoreError::Unreachable { .. }), "{unread:?}");
    assert!(!store.leadership().is_leader());
    assert!(store.next_number() > stored.number, "there is a reserve of numbers");
    server.restart();
    eventually("it takes commits again", || commit(&store, append(1, 1, "x")).is_ok());
    assert_eq!(store.get(&key("a")).unwrap().unwrap(), stored);
    assert_eq!(store.journal(1, 0, 9).unwrap().len(), 1);
    eventually("it leads again", || store.leadership().is_leader());
    assert_eq!(store.is_failed(), None);
}

#[test]
fn a_server_that_hangs_costs_leadership_and_is_waited_for() {
    let server = PostgresServer::start();
    let url = server.create_database();
    let store = Store::open_postgres(&url, options()).unwrap();
    eventually("it leads", || store.leadership().is_leader());
    server.freeze();
    let (sender, receiver) = std::sync::mpsc::channel();
    store.commit(Lane::Internal, append(1, 1, "x"), Box::new(move |outcome| drop(sender.send(outcome))));
    eventually("it does not lead any more", || !store.leadership().is_leader());
    assert!(receiver.try_recv().is_err());
    server.go_on();
    receiver.recv().unwrap().unwrap();
    eventually("it leads again", || store.leadership().is_leader());
    assert_eq!(store.journal(1, 0, 9).unwrap().len(), 1);
}

/// What the proxy does with the second request of a client, which is the one that ends in a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The server gets it and answers; the answer does not arrive.
    Answer,
    /// The server does not get it.
    Request,
    /// The server gets it and is left alone with it; only the client's side ends.
    ClientSide,
}

/// Stands between a store and the server, and cuts one connection when told to.
struct Proxy {
    port: u16,
    armed: Arc<Mutex<Option<Cut>>>,
    /// Whether new connections are refused.
    closed: Arc<AtomicBool>,
}

impl Proxy {
    fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(Mutex::new(None));
        let closed = Arc::new(AtomicBool::new(false));
        let (for_connections, refusing) = (Arc::clone(&armed), Arc::clone(&closed));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if refusing.load(Relaxed) {
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", server_port)).unwrap();
                let armed = Arc::clone(&for_connections);
                std::thread::spawn(move || relay(&client, &server, &armed));
            }
        });
        Self { port, armed, closed }
    }

    fn url(&self, database_url: &str) -> String {
        let database = database_url.rsplit('/').next().unwrap();
        format!("postgresql://baton@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    fn arm(&self, cut: Cut) {
        *self.armed.lock().unwrap() = Some(cut);
    }
}

/// Copies both ways. The writer's group is the one whose first request begins with binding `BEGIN`; what comes after the
/// answer to that is the request with the commit.
fn relay(client: &TcpStream, server: &TcpStream, armed: &Arc<Mutex<Option<Cut>>>) {
    let gate = Arc::new(Mutex::new(None::<Cut>));
    let (muted, of_server, of_client) = (Arc::clone(&gate), server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        let (mut from, mut to, mut buffer) = (&of_server, &of_client, vec![0; 65_536]);
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            match *muted.lock().unwrap() {
                Some(Cut::Answer) => break,
                Some(Cut::Request | Cut::ClientSide) => {}
                None => {
                    if to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
            }
        }
        let _ = of_client.shutdown(Shutdown::Both);
        let _ = of_server.shutdown(Shutdown::Both);
    });
    let (mut from, mut to, mut buffer) = (client, server, vec![0; 65_536]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let request = &buffer[..count];
        let commits = request.windows(MARK.len()).any(|window| window == MARK);
        let cut = if commits { armed.lock().unwrap().take() } else { None };
        *gate.lock().unwrap() = cut;
        if cut == Some(Cut::Request) {
            let _ = server.shutdown(Shutdown::Both);
            break;
        }
        if to.write_all(request).is_err() {
            break;
        }
        if cut == Some(Cut::ClientSide) {
            let _ = client.shutdown(Shutdown::Both);
            // Held open until the server has done what it was asked.
            let _ = back.join();
            return;
        }
    }
    if gate.lock().unwrap().is_none() {
        let _ = server.shutdown(Shutdown::Both);
    }
    let _ = back.join();
}

/// In the record of the one commit that is to be cut; no earlier request has it.
const MARK: &[u8] = b"cut here";

/// A server that listens on a port, with a certificate that nobody looks at.
fn listening() -> PostgresServer {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    PostgresServer::start_with_tls(&certificate, &key)
}

fn behind_a_proxy(options: StoreOptions) -> (PostgresServer, String, Proxy, Store) {
    let server = listening();
    let url = server.create_database();
    let proxy = Proxy::start(server.port().unwrap());
    let store = Store::open_postgres(&proxy.url(&url), options).unwrap();
    (server, url, proxy, store)
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_out() {
    let (_server, _, proxy, store) = behind_a_proxy(options());
    for (turn, cut) in (1..).zip([Cut::Answer, Cut::Request, Cut::Answer, Cut::Request]) {
        let mut watch = store.watch(None, store.revision()).unwrap();
        proxy.arm(cut);
        let txn =
            baton_store::Txn { puts: vec![create(&store, &format!("r{turn}"), "x")], ..append(1, turn, "cut here") };
        let committed = commit(&store, txn).unwrap();
        assert!(proxy.armed.lock().unwrap().is_none(), "it was cut");
        assert_eq!(store.journal(1, 0, 99).unwrap().len(), usize::try_from(turn).unwrap(), "{cut:?}: once");
        assert_eq!(committed.revisions, [u64::try_from(turn).unwrap()]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(watch.next()).unwrap().changes[0].key.name, format!("r{turn}"));
    }
    assert_eq!(store.is_failed(), None);
}

/// A session of the administrator that stays open.
struct Psql {
    child: Child,
    stdin: ChildStdin,
}

impl Psql {
    /// Runs `sql` and waits until it is done.
    fn start(url: &str, sql: &str) -> Self {
        let mut child = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{sql}\n\\echo done").unwrap();
        stdin.flush().unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "done"));
        Self { child, stdin }
    }

    fn end(mut self) {
        drop(self.stdin);
        self.child.wait().unwrap();
    }
}

#[test]
fn a_commit_that_is_still_on_its_way_is_waited_for() {
    let (server, url, proxy, store) = behind_a_proxy(options());
    commit(&store, append(2, 1, "over a connection that is there")).unwrap();
    // Whoever inserts the same key waits for what becomes of this one.
    let hold = Psql::start(&url, "BEGIN; INSERT INTO baton.journal VALUES (1, 1, 'x');");
    proxy.arm(Cut::ClientSide);
    let (sender, receiver) = std::sync::mpsc::channel();
    store.commit(Lane::Internal, append(1, 1, "cut here"), Box::new(move |outcome| drop(sender.send(outcome))));
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // The old session waits for the table, the new one for the old one's lock.
    eventually("its successor asks what became of it", || server.psql(&url, waiting) == "2");
    assert!(receiver.try_recv().is_err());
    hold.end();
    receiver.recv().unwrap().unwrap();
    assert_eq!(store.journal(1, 0, 9).unwrap().len(), 1);
    assert_eq!(store.is_failed(), None);
}

#[test]
fn a_commit_that_cannot_be_found_out_stops_the_store() {
    let (_server, url, proxy, store) = behind_a_proxy(impatient());
    let next = Store::open_postgres(&url, options()).unwrap();
    commit(&store, append(2, 1, "over a connection that is there")).unwrap();
    proxy.arm(Cut::Answer);
    proxy.closed.store(true, Relaxed);
    let failed = commit(&store, append(1, 1, "cut here")).unwrap_err();
    assert!(matches!(failed, CommitError::Failed { .. }), "{failed:?}");
    assert!(store.is_failed().is_some());
    assert!(matches!(commit(&store, append(1, 2, "x")), Err(CommitError::Failed { .. })));
    assert_eq!(next.journal(1, 0, 9).unwrap().len(), 1, "this one had been written");
    commit(&next, append(1, 2, "x")).unwrap();
}

#[test]
fn a_database_that_went_back_in_time_is_not_written_to() {
    let server = PostgresServer::shared();
    let url = server.create_database();
    let store = Store::open_postgres(&url, options()).unwrap();
    commit(&store, put(create(&store, "a", "x"))).unwrap();
    commit(&store, put(create(&store, "b", "x"))).unwrap();
    server.psql(&url, "UPDATE baton.head SET revision = 1");
    let failed = commit(&store, append(1, 1, "x")).unwrap_err();
    assert!(failed.to_string().contains("is at revision 1 and was at 2 before"), "{failed}");
    assert!(store.is_failed().is_some());
}

#[test]
fn another_store_in_its_place_is_not_written_to() {
    let server = PostgresServer::shared();
    let url = server.create_database();
    let store = Store::open_postgres(&url, options()).unwrap();
    commit(&store, append(1, 1, "x")).unwrap();
    server.psql(&url, "DROP SCHEMA baton CASCADE");
    let other = Store::open_postgres(&url, options()).unwrap();
    server.psql(
        &url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid()",
    );
    let failed = commit(&store, append(1, 2, "x")).unwrap_err();
    assert!(failed.to_string().contains("another store than before"), "{failed}");
    commit(&other, append(1, 1, "x")).unwrap();
}

#[test]
fn sessions_that_are_ended_one_after_the_other_are_replaced() {
    let server = PostgresServer::shared();
    let url = server.create_database();
    let store = Store::open_postgres(&url, options()).unwrap();
    for turn in 1..=10 {
        server.psql(
            &url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid()",
        );
        commit(&store, append(1, turn, "x")).unwrap();
        assert_eq!(store.journal(1, 0, 99).unwrap().len(), usize::try_from(turn).unwrap());
        let before = store.revision();
        created(&store, &format!("r{turn}"), "x");
        assert_eq!(store.revision(), before + 1);
    }
}
