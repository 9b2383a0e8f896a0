//! What upkeep does to the store, seen in the store.

use std::sync::Arc;

use baton_engine::Sealer;
use baton_store::{
    ExecState, Expect, JournalAppend, Lane, ResourceDelete, ResourceKey, ResourcePut, Store, StoreOptions, Txn,
};
use bytes::Bytes;

use super::*;
use crate::programs::ProgramCache;

/// Leaves the journal of a deleted execution behind; its number.
fn leave_journal(store: &Store, records: i64) -> i64 {
    let (number, key) = (store.next_number(), ResourceKey::new(kind::WORKFLOW_EXECUTION, "default", "gone"));
    let put = ResourcePut {
        key: key.clone(),
        uid: [7; 16],
        number,
        expect: Expect::Absent,
        body: Bytes::new(),
        labels: None,
        state: ExecState::Closed,
        owner: None,
        expires_at_ms: None,
        deleting: false,
    };
    let journal = (1..=records).map(|seq| JournalAppend { n: number, seq, body: Bytes::new() }).collect();
    let commit = |txn| store.commit_blocking(Lane::Internal, txn).unwrap();
    commit(Txn { puts: vec![put], journal, ..Txn::default() });
    let revision = store.get(&key).unwrap().unwrap().revision;
    let delete = ResourceDelete { key, uid: [7; 16], number, revision, body: Bytes::new() };
    commit(Txn { deletes: vec![delete], ..Txn::default() });
    number
}

#[tokio::test]
async fn one_round_sweeps_all_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { free_bytes_min: 0, ballast_bytes: 0, ..StoreOptions::default() };
    let store = Store::open(folder.path(), options).unwrap();
    let number = leave_journal(&store, 40_000);
    let app = App::new(store.clone(), Arc::new(Sealer::new(&[1; 32])), 0, Arc::new(ProgramCache::default()));
    let period = Duration::from_hours(1);
    let stopping = CancellationToken::new();
    let options = UpkeepOptions { period, scan_period: period, ..UpkeepOptions::default() };
    let upkeep = tokio::spawn(Upkeep::new(app, options).run(stopping.clone()));
    let swept = async {
        while store.journal_last(number).unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), swept).await.expect("nothing is left to the next round");
    stopping.cancel();
    upkeep.await.unwrap();
    store.close();
}
