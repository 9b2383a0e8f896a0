//! The words in which every backend refuses a transaction, and what it refuses without asking the database.

use crate::error::CommitError;
use crate::model::{Number, ResourceKey, Txn};

pub(crate) fn conflict(what: String, expected: u64, found: u64) -> CommitError {
    CommitError::Conflict { what, expected, found }
}

pub(crate) fn not_found(what: impl Into<String>) -> CommitError {
    CommitError::NotFound { what: what.into() }
}

pub(crate) fn exists(key: &ResourceKey, number: Number, revision: u64) -> CommitError {
    CommitError::Exists { key: key.to_string(), number, revision }
}

/// Expectations are all checked before any write, so a resource may appear only once in a transaction.
pub(crate) fn check_once_each(txn: &Txn) -> Result<(), CommitError> {
    if txn.puts.len() + txn.deletes.len() < 2 {
        return Ok(());
    }
    let mut numbers: Vec<Number> =
        txn.puts.iter().map(|put| put.number).chain(txn.deletes.iter().map(|delete| delete.number)).collect();
    numbers.sort_unstable();
    match numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CommitError::Rejected { detail: format!("resource {} appears twice", pair[0]) }),
        None => Ok(()),
    }
}
