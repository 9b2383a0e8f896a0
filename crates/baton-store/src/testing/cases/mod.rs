//! The cases of the suite, by subject.

pub(super) mod executions;
pub(super) mod guards;
pub(super) mod transactions;
pub(super) mod upkeep;
pub(super) mod watch;
pub(super) mod work;

use std::sync::Arc;

use super::key;
use crate::model::{Change, StoredResource};
use crate::store::Store;
use crate::watch::Watch;

/// Waits for a future that needs Tokio's blocking pool.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without I/O starts").block_on(future)
}

/// A resource that is there.
fn read(store: &Store, name: &str) -> StoredResource {
    store.get(&key(name)).unwrap().unwrap()
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
