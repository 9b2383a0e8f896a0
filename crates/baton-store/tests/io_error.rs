//! A write that fails: the store stops, says so to everyone, and a restart finds all that was acknowledged.
//!
//! The fault is real. A child process runs under a limit on file sizes with the limit's signal ignored, so that the
//! kernel refuses to let the write-ahead log grow.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use baton_store::testing::{append, commit, options};
use baton_store::{CommitError, Store, StoreOptions};

const CHILD_DIR: &str = "BATON_STORE_IO_ERROR_DIR";

fn no_checkpoints() -> StoreOptions {
    StoreOptions { checkpoint_bytes: 1 << 30, ..options() }
}

/// Not a test of its own: does nothing unless started by the test below.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let store = Store::open(Path::new(&dir), no_checkpoints()).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        match commit(&store, append(1, acknowledged + 1, vec![1; 8_000])) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "the limit must stop this");
    };
    assert!(matches!(error, CommitError::Failed { .. }), "{error}");
    assert!(store.is_failed().is_some());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let reason = runtime.block_on(store.failed());
    assert!(reason.contains("I/O"), "{reason}");
    let after = commit(&store, append(2, 1, "x"));
    assert!(matches!(after, Err(CommitError::Failed { .. })), "nothing is tried again");
    assert!(store.sweep(0).is_err());
    let ended = runtime.block_on(store.watch(None, 0).unwrap().next());
    assert!(ended.is_err(), "watches end");
    assert_eq!(store.journal(1, 0, 100_000).unwrap().len(), usize::try_from(acknowledged).unwrap(), "reads go on");
    let mut out = std::io::stdout().lock();
    writeln!(out, "acknowledged {acknowledged}.").unwrap();
}

#[test]
fn a_failed_write_stops_the_store_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let binary = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 3000; exec \"$0\" --exact child --nocapture")
        .arg(binary)
        .env(CHILD_DIR, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let (_, rest) = text.split_once("acknowledged ").unwrap();
    let acknowledged: usize = rest.split_once('.').unwrap().0.parse().unwrap();
    assert!(acknowledged > 10);

    let store = Store::open(dir.path(), options()).unwrap();
    let found = store.journal(1, 0, 100_000).unwrap().len();
    assert!(found == acknowledged || found == acknowledged + 1, "one outcome was unknown: {found}");
    assert!(store.verify(true).unwrap().is_clean());
    commit(&store, append(2, 1, "x")).unwrap();
}
