//! One suite for every backend, and the small helpers that tests of stores share.
//!
//! [`conformance()`] checks what callers rely on through the public API alone, so that it says the same of any backend. What
//! belongs to one backend (files, locks, damaged bytes) is tested beside that backend.

#[expect(clippy::unwrap_used, reason = "test code, though outside of a test target")]
mod cases;
mod conformance;
pub mod postgres;

use bytes::Bytes;

pub use conformance::{CASES, Case, conformance};

use crate::error::CommitError;
use crate::model::{
    Committed, ExecState, Expect, JournalAppend, Lane, Number, ResourceDelete, ResourceKey, ResourcePut,
    StoredResource, Txn, Uid,
};
use crate::options::StoreOptions;
use crate::store::Store;

/// The kind that most tests use.
pub const KIND: &str = "WorkflowExecution";

/// Options for tests: small, and independent of how full the machine's disk is.
pub fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 8 << 20, free_bytes_min: 0, ballast_bytes: 0, readers: 2, ..StoreOptions::default() }
}

/// The key of a test resource in namespace `ns`.
pub fn key(name: &str) -> ResourceKey {
    ResourceKey::new(KIND, "ns", name)
}

/// A uid made from a number.
pub fn uid(number: Number) -> Uid {
    u128::from(number.cast_unsigned()).to_be_bytes()
}

/// Creates an active execution.
pub fn create(store: &Store, name: &str, body: &'static str) -> ResourcePut {
    let number = store.next_number();
    ResourcePut {
        key: key(name),
        uid: uid(number),
        number,
        expect: Expect::Absent,
        body: Bytes::from_static(body.as_bytes()),
        labels: None,
        state: ExecState::Active,
        owner: None,
        expires_at_ms: None,
        deleting: false,
    }
}

/// Replaces `stored` by itself with another body.
pub fn update(stored: &StoredResource, body: &'static str) -> ResourcePut {
    ResourcePut {
        key: stored.key.clone(),
        uid: stored.uid,
        number: stored.number,
        expect: Expect::Revision(stored.revision),
        body: Bytes::from_static(body.as_bytes()),
        labels: stored.labels.clone(),
        state: stored.state,
        owner: stored.owner,
        expires_at_ms: stored.expires_at_ms,
        deleting: stored.deleting,
    }
}

/// Deletes `stored`, sending its present body.
pub fn delete(stored: &StoredResource) -> ResourceDelete {
    ResourceDelete {
        key: stored.key.clone(),
        uid: stored.uid,
        number: stored.number,
        revision: stored.revision,
        body: stored.body.clone(),
    }
}

/// A transaction of one put.
pub fn put(put: ResourcePut) -> Txn {
    Txn { puts: vec![put], ..Txn::default() }
}

/// A transaction of one journal record.
pub fn append(n: Number, seq: i64, body: impl Into<Bytes>) -> Txn {
    Txn { journal: vec![JournalAppend { n, seq, body: body.into() }], ..Txn::default() }
}

/// Commits and waits.
pub fn commit(store: &Store, txn: Txn) -> Result<Committed, CommitError> {
    store.commit_blocking(Lane::Internal, txn)
}

/// Creates an execution and reads it back.
///
/// # Panics
/// If either fails: tests only.
pub fn created(store: &Store, name: &str, body: &'static str) -> StoredResource {
    commit(store, put(create(store, name, body))).expect("a test's creation commits");
    store.get(&key(name)).expect("a test's read succeeds").expect("a committed resource is found")
}
