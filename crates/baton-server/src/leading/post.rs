//! Who leads: this server, another one, or nobody yet.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use baton_store::{CommitError, Lane, Store, StoreError, Txn};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use super::ServerFailure;
use crate::serve::Front;

/// Name of the value in the store that says who leads.
const NOTICE: &str = "leader";

/// What a leader writes into the store when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// Where other servers reach it, HOST:PORT.
    pub(super) address: String,
    /// This one time of leading, of this one process.
    pub(super) id: String,
}

impl Notice {
    pub(super) fn new(address: String) -> Self {
        Self { address, id: Uuid::now_v7().to_string() }
    }

    /// The last one that was written. Blocking. What cannot be read by this version is none.
    pub(super) fn read(store: &Store) -> Result<Option<Self>, StoreError> {
        Ok(store.meta(NOTICE)?.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Puts it in place of whatever is there, with `more` named values.
    pub(super) async fn write(&self, store: &Store, more: Option<(String, Vec<u8>)>) -> Result<(), CommitError> {
        let value = serde_json::to_vec(self).expect("two texts can be written as JSON");
        let mut meta = vec![(NOTICE.to_owned(), Some(value))];
        meta.extend(more.map(|(key, value)| (key, Some(value))));
        store.commit_async(Lane::Internal, Txn { meta, ..Txn::default() }).await.map(drop)
    }
}

/// Who leads, as this server knows it.
#[derive(Default)]
pub(crate) struct Post {
    /// What serves here; from the moment on that this server leads.
    front: OnceLock<Front>,
    /// Where the leader is, while it is another one.
    elsewhere: Mutex<Option<Arc<str>>>,
    changes: watch::Sender<()>,
    failure: watch::Sender<Option<Arc<ServerFailure>>>,
}

impl Post {
    /// What serves here, if this server leads.
    pub(crate) fn front(&self) -> Option<&Front> {
        self.front.get()
    }

    /// From now on this server leads; only the first call counts.
    pub(crate) fn lead(&self, front: Front) {
        if self.front.set(front).is_err() {
            tracing::error!("a server began to lead twice; it goes on as before");
        }
        self.changes.send_replace(());
    }

    /// Notes where the leader is.
    pub(super) fn found(&self, elsewhere: Option<String>) {
        let mut known = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() == elsewhere.as_deref() {
            return;
        }
        if let Some(address) = &elsewhere {
            tracing::info!(leader = address, "standing by: requests go to the server that leads");
        }
        *known = elsewhere.map(Arc::from);
        drop(known);
        self.changes.send_replace(());
    }

    /// Where the leader is, if it is another one that is known.
    pub(super) fn elsewhere(&self) -> Option<Arc<str>> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells of whatever changes from now on: that this server leads, or where another one does.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Notes that this server cannot go on; only the first reason counts.
    pub(super) fn fail(&self, why: ServerFailure) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| Arc::new(why));
            first
        });
    }

    /// Resolves when this server cannot go on.
    pub(crate) async fn failed(&self) -> Arc<ServerFailure> {
        match self.failure.subscribe().wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            // The sender is ours and lives as long as we do.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}
