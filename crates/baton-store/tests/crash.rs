//! kill -9 in the middle of commits: every acknowledged record is found afterwards.
//!
//! The test binary starts itself as the process to be killed. The child prints a line for each acknowledged record; what a
//! complete line says must be in the store after the kill.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use baton_store::testing::{append, commit, options};
use baton_store::{Store, StoreError, StoreOptions};

const CHILD_DIR: &str = "BATON_STORE_CRASH_DIR";
const PRODUCERS: i64 = 8;

fn small_log() -> StoreOptions {
    // Small, so that kills also hit checkpoints.
    StoreOptions { checkpoint_bytes: 256 << 10, ..options() }
}

/// Not a test of its own: does nothing unless started by the test below.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let store = Store::open(Path::new(&dir), small_log()).unwrap();
    std::thread::scope(|scope| {
        for n in 1..=PRODUCERS {
            let store = &store;
            scope.spawn(move || {
                let first = store.journal_last(n).unwrap().unwrap_or(0) + 1;
                for seq in first.. {
                    commit(store, append(n, seq, format!("record {n} {seq}"))).unwrap();
                    let mut out = std::io::stdout().lock();
                    out.write_all(format!("ack {n} {seq}\n").as_bytes()).unwrap();
                    out.flush().unwrap();
                }
            });
        }
    });
}

fn run_and_kill(dir: &Path, acknowledgements: usize) -> Vec<(i64, i64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let parse = |line: String| -> Option<(i64, i64)> {
        let (_, rest) = line.split_once("ack ")?;
        let (n, seq) = rest.split_once(' ')?;
        Some((n.parse().ok()?, seq.parse().ok()?))
    };
    let mut seen = Vec::new();
    while seen.len() < acknowledgements {
        let line = lines.next().expect("the child goes on until it is killed").unwrap();
        seen.extend(parse(line));
    }
    let locked = Store::open(dir, small_log()).unwrap_err();
    assert!(matches!(locked, StoreError::Locked { .. }), "another process holds it: {locked}");
    child.kill().unwrap();
    child.wait().unwrap();
    // Lines already in the pipe were acknowledged too. The last one may be cut short and then does not parse as more.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let whole = rest.len().saturating_sub(1);
    seen.extend(rest.into_iter().take(whole).filter_map(parse));
    seen
}

#[test]
fn nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 1..=4 {
        acknowledged.extend(run_and_kill(dir.path(), 300 * round));
        let store = Store::open(dir.path(), small_log()).unwrap();
        for (n, seq) in &acknowledged {
            let found = store.journal(*n, *seq, 1).unwrap();
            assert_eq!(found[0].body, format!("record {n} {seq}"), "round {round}");
        }
        for n in 1..=PRODUCERS {
            let records = store.journal(n, 0, 1_000_000).unwrap();
            assert!(records.iter().map(|record| record.seq).eq(1..=i64::try_from(records.len()).unwrap()), "no holes");
        }
        assert!(store.verify(true).unwrap().is_clean());
        store.close();
    }
    assert!(acknowledged.len() >= 3_000);
}
