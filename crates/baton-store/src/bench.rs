//! The raw parts of the benchmark: what the disk gives, and what the store makes of it.
//!
//! Run by `cargo xtask bench` beside the product's own figures, so that every result stands next to the machine's limit.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::StoreError;
use crate::model::{ExecState, Expect, JournalAppend, Lane, Number, ResourceKey, ResourcePut, TimerRow, Txn};
use crate::options::StoreOptions;
use crate::store::Store;

/// What a run measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Acknowledged operations per second, all producers together.
    pub per_second: f64,
    /// Median time from handing over to acknowledgement, in microseconds.
    pub p50_us: u32,
    /// 99th percentile of the same.
    pub p99_us: u32,
    /// Microseconds that the committer spent for each operation, waiting for the disk included; 0 without a committer.
    pub committer_us: f64,
}

fn report(mut latencies: Vec<u32>, elapsed: Duration, committer_us: f64) -> Report {
    latencies.sort_unstable();
    let at = |percent: usize| {
        let index = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies.get(index).copied().unwrap_or(0)
    };
    #[expect(clippy::cast_precision_loss, reason = "a count of operations in a short run")]
    let per_second = latencies.len() as f64 / elapsed.as_secs_f64();
    Report { per_second, p50_us: at(50), p99_us: at(99), committer_us }
}

fn micros(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX)
}

/// What one operation of the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One journal record.
    Append,
    /// A new execution: resource, two journal records, a timer.
    Create,
}

/// `producers` threads that each append one journal record of `value_bytes` at a time, for `seconds`, into a new store in `dir`.
pub fn raw_group_commit(dir: &Path, producers: usize, value_bytes: usize, seconds: f64) -> Result<Report, StoreError> {
    group_commit(dir, Operation::Append, producers, value_bytes, seconds)
}

/// [`raw_group_commit`] for a chosen operation.
pub fn group_commit(
    dir: &Path,
    operation: Operation,
    producers: usize,
    value_bytes: usize,
    seconds: f64,
) -> Result<Report, StoreError> {
    measure(Store::open(dir, StoreOptions::default())?, operation, producers, value_bytes, seconds)
}

/// [`group_commit`] in the PostgreSQL database at `url`; see [`Store::open_postgres`].
pub fn postgres_group_commit(
    url: &str,
    operation: Operation,
    producers: usize,
    value_bytes: usize,
    seconds: f64,
) -> Result<Report, StoreError> {
    measure(Store::open_postgres(url, StoreOptions::default())?, operation, producers, value_bytes, seconds)
}

fn measure(
    store: Store,
    operation: Operation,
    producers: usize,
    value_bytes: usize,
    seconds: f64,
) -> Result<Report, StoreError> {
    let body = Bytes::from(vec![0xa5; value_bytes]);
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..producers).map(|_| scope.spawn(|| produce(&store, operation, &body, &stop))).collect();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Relaxed);
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<u32>>()
    });
    let elapsed = begun.elapsed();
    let groups = store.stats()?.groups;
    store.close();
    #[expect(clippy::cast_precision_loss, reason = "a count of operations in a short run")]
    let committer_us = groups.busy_us as f64 / groups.operations.max(1) as f64;
    Ok(report(latencies, elapsed, committer_us))
}

fn produce(store: &Store, operation: Operation, body: &Bytes, stop: &AtomicBool) -> Vec<u32> {
    let mut latencies = Vec::new();
    let own = store.next_number();
    let (sender, receiver) = mpsc::sync_channel(1);
    let mut seq = 0;
    while !stop.load(Relaxed) {
        seq += 1;
        let txn = match operation {
            Operation::Append => append(own, seq, body),
            Operation::Create => create(store.next_number(), body),
        };
        let begun = Instant::now();
        let sender = sender.clone();
        store.commit(
            Lane::Internal,
            txn,
            Box::new(move |outcome| {
                let _ = sender.send(outcome.is_ok());
            }),
        );
        if receiver.recv() != Ok(true) {
            break;
        }
        latencies.push(micros(begun.elapsed()));
    }
    latencies
}

fn append(n: Number, seq: i64, body: &Bytes) -> Txn {
    Txn { journal: vec![JournalAppend { n, seq, body: body.clone() }], ..Txn::default() }
}

fn create(n: Number, body: &Bytes) -> Txn {
    let put = ResourcePut {
        key: ResourceKey::new("WorkflowExecution", "default", format!("bench-{n:012}")),
        uid: u128::from(n.cast_unsigned()).to_be_bytes(),
        number: n,
        expect: Expect::Absent,
        body: body.clone(),
        labels: None,
        state: ExecState::Active,
        owner: None,
        expires_at_ms: None,
        deleting: false,
    };
    Txn {
        puts: vec![put],
        journal: (1..=2).map(|seq| JournalAppend { n, seq, body: body.clone() }).collect(),
        timers_set: vec![TimerRow { due_ms: 1_000_000 + n, n, id: 1 }],
        ..Txn::default()
    }
}

/// Appends 4 KiB and syncs, one at a time for two seconds, to a new file in `dir`: the floor under every commit.
pub fn raw_disk(dir: &Path) -> Result<Report, StoreError> {
    const SECONDS: f64 = 2.0;
    let path = dir.join("raw-disk");
    let failed = |source| StoreError::Io { operation: "write", path: path.clone(), source };
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path).map_err(failed)?;
    let block = [0xa5_u8; 4096];
    let mut latencies = Vec::new();
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < SECONDS {
        let one = Instant::now();
        file.write_all(&block).and_then(|()| file.sync_data()).map_err(failed)?;
        latencies.push(micros(one.elapsed()));
    }
    let elapsed = begun.elapsed();
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(report(latencies, elapsed, 0.0))
}
