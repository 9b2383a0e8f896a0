//! What a database must be like, and what is said when it is not.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use baton_store::testing::postgres::PostgresServer;
use baton_store::testing::{append, commit, create, created, key, options, put};
use baton_store::{BlobPut, ListQuery, MailboxRow, OutboxRow, SnapshotPut, Store, StoreError, Txn, WatchError};

fn open(url: &str) -> Result<Store, StoreError> {
    Store::open_postgres(url, options())
}

fn refused(url: &str) -> StoreError {
    let error = open(url).unwrap_err();
    assert!(error.hint().is_some(), "{error:?}");
    error
}

#[test]
fn a_server_that_acknowledges_before_it_syncs_is_refused() {
    let server = PostgresServer::shared();
    let url = server.create_database();
    let database = url.rsplit('/').next().unwrap();
    server.psql("postgres", &format!("ALTER DATABASE {database} SET synchronous_commit = off"));
    let error = refused(&url).to_string();
    assert!(error.ends_with("has synchronous_commit 'off', 'on' is needed"), "{error}");
    server.psql("postgres", &format!("ALTER DATABASE {database} SET synchronous_commit = local"));
    open(&url).unwrap();
}

#[test]
fn another_encoding_is_refused() {
    let server = PostgresServer::shared();
    server.psql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let error = refused(&server.url("latin")).to_string();
    assert!(error.ends_with("has server_encoding 'LATIN1', 'UTF8' is needed"), "{error}");
}

#[test]
fn a_standby_is_refused() {
    let server = PostgresServer::shared();
    let url = server.create_database();
    let database = url.rsplit('/').next().unwrap();
    server.psql("postgres", &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
    let error = refused(&url);
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
}

#[test]
fn another_programs_schema_is_refused_and_other_schemas_are_left_alone() {
    let server = PostgresServer::shared();
    let url = server.create_database();
    server.psql(&url, "CREATE TABLE resource (x int); CREATE SCHEMA other; CREATE TABLE other.head (x int)");
    created(&open(&url).unwrap(), "a", "x");
    assert_eq!(server.psql(&url, "SELECT count(*) FROM public.resource"), "0");
    let url = server.create_database();
    server.psql(&url, "CREATE SCHEMA baton; CREATE TABLE baton.format (colour text)");
    let error = refused(&url);
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
    assert!(error.to_string().ends_with("is not a Baton store: its schema 'baton' has other tables"), "{error}");
    assert_eq!(server.psql(&url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'baton'"), "1", "nothing was made");
}

#[test]
fn a_newer_format_is_refused() {
    let server = PostgresServer::shared();
    let url = server.create_database();
    open(&url).unwrap().close();
    server.psql(&url, "UPDATE baton.format SET version = 99");
    assert!(matches!(refused(&url), StoreError::NewerFormat { found: 99, supported: 1, .. }));
}

#[test]
fn servers_that_start_together_make_the_schema_once() {
    let url = PostgresServer::shared().create_database();
    let ids: Vec<[u8; 16]> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..6).map(|_| scope.spawn(|| open(&url).unwrap().cluster_id())).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn missing_rights_are_named() {
    let server = PostgresServer::shared();
    let url = server.create_database();
    server.psql(&url, "CREATE ROLE poor LOGIN; CREATE ROLE owner LOGIN");
    let (poor, owner) = (url.replace("baton@", "poor@"), url.replace("baton@", "owner@"));
    let error = refused(&poor).to_string();
    assert!(
        error.contains("role 'poor' at postgresql://") && error.contains("may not create the schema 'baton'"),
        "{error}"
    );
    // Without the right to create schemas, but with one made for it.
    server.psql(&url, "CREATE SCHEMA baton AUTHORIZATION owner");
    let store = open(&owner).unwrap();
    created(&store, "a", "x");
    server.psql(&url, "GRANT USAGE ON SCHEMA baton TO poor; GRANT SELECT ON ALL TABLES IN SCHEMA baton TO poor");
    let error = refused(&poor).to_string();
    assert!(error.contains("role 'poor'") && error.contains("may not insert "), "{error}");
    server.psql(&url, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA baton TO poor");
    let error = refused(&poor).to_string();
    assert!(error.contains("may not use ") && error.contains("_block"), "{error}");
    server.psql(&url, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA baton TO poor");
    let other = open(&poor).unwrap();
    created(&other, "b", "x");
}

#[test]
fn addresses_that_lead_nowhere_say_so() {
    let server = PostgresServer::shared();
    for url in [server.url("no_such_database"), "postgresql://u:secret@127.0.0.1:1/d".to_owned()] {
        let error = refused(&url);
        let StoreError::Unreachable { address, .. } = &error else { panic!("{error:?}") };
        assert!(!format!("{error:?}{error}").contains("secret") && address.starts_with("postgresql://"), "{error:?}");
    }
    assert!(matches!(refused("mysql://u:secret@h/d"), StoreError::Address { .. }));
}

#[test]
fn what_only_files_have_is_refused_or_does_nothing() {
    let store = PostgresServer::shared().open_store(&options());
    assert!(matches!(store.backup(Path::new("/nowhere/x")), Err(StoreError::Unsupported { .. })));
    assert_eq!(store.directory(), None);
    assert_eq!(store.vacuum(256).unwrap(), 0);
    let stats = store.stats().unwrap();
    assert!(stats.database_bytes > 0 && stats.wal_bytes == 0 && stats.free_bytes == u64::MAX, "{stats:?}");
    // New work is not refused for the server's own disk.
    store.commit_blocking(baton_store::Lane::External, put(create(&store, "a", "x"))).unwrap();
}

#[test]
fn text_that_no_database_takes_is_rejected_alone() {
    let store = PostgresServer::shared().open_store(&options());
    let bad = commit(&store, put(create(&store, "with\0zero", "x")));
    assert!(matches!(bad, Err(baton_store::CommitError::Rejected { .. })), "{bad:?}");
    let long = commit(&store, put(create(&store, &"x".repeat(10_000), "x")));
    assert!(long.is_ok() || matches!(long, Err(baton_store::CommitError::Rejected { .. })), "{long:?}");
    created(&store, "good", "x");
}

#[test]
fn damaged_values_are_found_and_concern_their_row_alone() {
    let server = PostgresServer::shared();
    let url = server.create_database();
    let store = open(&url).unwrap();
    let (a, b) = (created(&store, "a", "body"), created(&store, "b", "body"));
    let n = a.number;
    let body = || bytes::Bytes::from_static(b"value");
    let txn = Txn {
        snapshot: Some(SnapshotPut { n, seq: 1, body: body() }),
        outbox_put: vec![OutboxRow { id: store.next_outbox_id(), n, next_at_ms: 1, attempts: 0, body: body() }],
        blobs: vec![BlobPut { digest: [7; 32], n: Some(n), body: Some(body()) }],
        mailbox_put: vec![MailboxRow { id: [8; 16], expires_ms: 9, answered: false, body: body() }],
        meta: vec![("name".to_owned(), Some(b"value".to_vec()))],
        ..append(n, 1, "value")
    };
    commit(&store, txn).unwrap();
    commit(&store, append(b.number, 1, "value")).unwrap();
    assert!(store.verify(true).unwrap().is_clean());
    let flip = |table: &str, column: &str, which: &str| {
        let sql = format!(
            "UPDATE baton.{table} SET {column} = set_byte({column}, 6, get_byte({column}, 6) # 16) WHERE {which}"
        );
        server.psql(&url, &sql);
    };
    flip("resource", "body", &format!("n = {n}"));
    flip("change", "body", "revision = 1");
    flip("journal", "body", &format!("n = {n}"));
    flip("snapshot", "body", "true");
    flip("outbox", "body", "true");
    flip("blob", "body", "true");
    flip("mailbox", "body", "true");
    flip("meta", "v", "k = 'name'");
    let corrupt = |error: Option<StoreError>, table: &str| match error {
        Some(StoreError::Corrupt { table: found, .. }) => assert_eq!(found, table),
        other => panic!("{table}: {other:?}"),
    };
    corrupt(store.get(&key("a")).err(), "resource");
    corrupt(store.journal(n, 0, 9).err(), "journal");
    corrupt(store.snapshot(n).err(), "snapshot");
    corrupt(store.blob(&[7; 32]).err(), "blob");
    corrupt(store.mailbox(&[8; 16]).err(), "mailbox");
    corrupt(store.meta("name").err(), "meta");
    let due = store.outbox_due(9, 9).unwrap();
    assert_eq!((due.items.len(), due.corrupt.len()), (0, 1));
    let page = store.list(&ListQuery::new(baton_store::testing::KIND, 10)).unwrap();
    assert_eq!((page.items.len(), page.corrupt.len(), page.corrupt[0].number), (1, 1, n));
    assert_eq!(store.journal(b.number, 0, 9).unwrap().len(), 1);
    let report = store.verify(true).unwrap();
    let mut tables: Vec<&str> = report.corrupt.iter().map(|row| row.table).collect();
    tables.sort_unstable();
    assert_eq!(tables, ["blob", "change", "journal", "mailbox", "meta", "outbox", "resource", "snapshot"]);
    assert_eq!(report.values_checked, 12);
    // A server that begins with such a change cannot give it to watchers, and says so.
    let other = open(&url).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let watched = runtime.block_on(other.watch(None, 0).unwrap().next());
    assert!(matches!(watched, Err(WatchError::Store(StoreError::Corrupt { table: "change", .. }))), "{watched:?}");
    // Flipped back, all is well.
    flip("change", "body", "revision = 1");
    assert_eq!(runtime.block_on(other.watch(None, 0).unwrap().next()).unwrap().changes.len(), 2);
}

#[test]
fn the_connection_is_encrypted_as_asked_for() {
    let server = {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("key"));
        std::fs::write(&certificate, certified.cert.pem()).unwrap();
        std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        (PostgresServer::start_with_tls(&certificate, &key), folder)
    };
    let (server, folder) = server;
    let database = server.create_database().rsplit('/').next().unwrap().to_owned();
    let port = server.port().unwrap();
    let url = |host: &str, parameters: &str| format!("postgresql://baton@{host}:{port}/{database}?{parameters}");
    let encrypted = || {
        let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
            WHERE application_name = 'baton'";
        server.psql(&database, sql)
    };
    let mut count = 0;
    for (parameters, expected) in
        [("sslmode=disable", "f"), ("sslmode=prefer", "t"), ("sslmode=require", "t"), ("", "t")]
    {
        let store = open(&url("127.0.0.1", parameters)).unwrap();
        assert_eq!(encrypted(), expected, "{parameters}");
        count += 1;
        created(&store, &format!("r{count}"), "x");
        store.close();
    }
    let authority = folder.path().join("server.crt").display().to_string().replace('/', "%2F");
    let full = format!("sslmode=verify-full&sslrootcert={authority}");
    let store = open(&url("localhost", &full)).unwrap();
    assert_eq!(encrypted(), "t");
    store.close();
    // The certificate is not for this name, and nobody of the system's stands for it.
    for (host, parameters) in [("127.0.0.1", full.as_str()), ("localhost", "sslmode=verify-full")] {
        let error = open(&url(host, parameters)).unwrap_err();
        assert!(
            matches!(error, StoreError::Unreachable { .. } | StoreError::Address { .. }),
            "{host} {parameters}: {error:?}"
        );
    }
    // A server without TLS.
    let plain = PostgresServer::shared();
    let url = plain.create_database();
    open(&format!("{url}?sslmode=prefer")).unwrap();
}
