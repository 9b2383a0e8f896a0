//! The backend for several servers: one PostgreSQL database, in the schema `baton`.
//!
//! Every transaction that writes locks the one row of `head` first and gives out revisions under that lock, so that they
//! are consecutive and in commit order over all servers, as a sequence would not be. Each server still has one committer
//! that groups: a group is two round trips, one that locks and reads whatever its guards ask about, one that writes all its
//! rows, a statement for each kind, and commits. What other servers committed is read in order and published here before
//! anything later.
//!
//! # Invariants
//! - Whoever holds the lock on `head` is the only one who writes; what it has read stays true until it commits.
//! - A group's id is written with it. A commit whose answer was lost is looked up under the lock, when whatever was on its
//!   way has ended, so that its outcome is known and the group is never written twice.
//! - A database that is behind what this server has seen, or has another cluster id, is not written to.
//!
//! # Deliberately absent
//! Directory lock, ballast, checkpoints, vacuum and backup: the database server and its tools have them. No connection
//! pooler that gives out sessions by transaction: notifications and leadership need a session of their own.
//!
//! # Failure
//! A server that does not answer is waited for, up to [`StoreOptions::outage_patience_ms`]; then commits are refused as
//! [`CommitError::Unavailable`](crate::CommitError::Unavailable), or, if the outcome of one could not be found out by then,
//! the store fails. Reads connect again by themselves.

mod address;
mod batch;
mod facts;
mod group;
mod ids;
mod link;
mod list;
mod pool;
mod reads;
mod rows;
mod schema;
mod statements;
mod tail;
mod tls;
mod transact;
mod upkeep;
mod verify;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use tokio_postgres::error::{Severity, SqlState};

use self::address::{Address, Role};
use self::ids::Blocks;
use self::pool::PostgresReads;
pub(crate) use self::tail::Tail;
use self::writer::PostgresEngine;
use crate::backend::{Head, Reads};
use crate::error::StoreError;
use crate::options::StoreOptions;

/// Everything of an open database.
pub(crate) struct Opened {
    pub(crate) reads: PostgresReads,
    pub(crate) ids: Blocks,
    pub(crate) head: Head,
    pub(crate) cluster_id: [u8; 16],
    pub(crate) engine: PostgresEngine,
    pub(crate) tail: Tail,
}

/// Connects, creates or updates the schema, and looks at the server's settings.
pub(crate) fn open(url: &str, options: &StoreOptions) -> Result<Opened, StoreError> {
    let address = Arc::new(Address::parse(url, options)?);
    let reads = PostgresReads::start(Arc::clone(&address), options)?;
    let prepared = Arc::clone(&address);
    let cluster_id = reads.wait(async move {
        let mut link = link::connect(&prepared, Role::Writer).await?;
        link::check_server(&link.client, &prepared).await?;
        schema::prepare(&mut link.client, &prepared).await
    })?;
    let head = reads.head()?;
    let ids = Blocks::start(&reads)?;
    let own = Arc::new(AtomicI32::new(0));
    let tail = Tail::new(Arc::clone(&address), reads.handle(), cluster_id, Arc::clone(&own));
    let engine = PostgresEngine::new(address, cluster_id, head, own);
    Ok(Opened { reads, ids, head, cluster_id, engine, tail })
}

/// Wraps an error of the database with what was being done.
fn doing(operation: &'static str) -> impl Fn(tokio_postgres::Error) -> StoreError {
    move |source| StoreError::Postgres { operation, source }
}

/// An error and its causes as one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A limit as PostgreSQL takes it.
fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// What an error of a statement means for its transaction, which has not been committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// The transaction's data is at fault, or a page that it needs is damaged: others may go on.
    Data,
    /// No room on the server's disk.
    Full,
    /// The connection is gone.
    Lost,
    /// Something that may pass: a lock, a limit, a server that is just starting or has become a standby.
    Passing,
    /// It will be so the next time too.
    Refused,
}

fn classify(error: &tokio_postgres::Error) -> Class {
    let Some(found) = error.as_db_error() else {
        // A value that does not fit into a message is the only error that is made on this side.
        let on_this_side = error.to_string().starts_with("error serializing");
        return if on_this_side { Class::Data } else { Class::Lost };
    };
    let code = found.code();
    if matches!(found.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
        return Class::Lost;
    }
    if *code == SqlState::DISK_FULL {
        return Class::Full;
    }
    match code.code().get(..2) {
        // Data, constraints, limits of rows and indexes, damaged pages.
        Some("21" | "22" | "23" | "54" | "XX") => Class::Data,
        Some("08") => Class::Lost,
        Some("57") if *code != SqlState::QUERY_CANCELED => Class::Lost,
        // Rollback by the server, objects in use, resources, system errors, a transaction that may not write.
        Some("25" | "40" | "53" | "55" | "57" | "58") => Class::Passing,
        _ => Class::Refused,
    }
}
