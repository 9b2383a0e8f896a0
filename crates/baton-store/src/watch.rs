//! Following changes from a revision on.
//!
//! A [`Watch`] is a position. [`Watch::next`] waits until the published head passes it, then takes changes from the ring,
//! or from the table if the position is older than the ring.
//!
//! # Invariants
//! - Every change after the starting revision is given once, in order, or the watch ends with [`Gone`].
//! - [`Watch::next`] may be dropped and called again: the position moves only when changes are handed out, or when there
//!   were none of the kind.
//!
//! # Deliberately absent
//! No filtering by label or field: that needs old and new state and is the API's business; see
//! [`Store::change_body`](crate::Store::change_body). No bookmarks: [`Watch::revision`] is what one carries.

use std::sync::Arc;

use tokio::sync::watch;

use crate::backend::ChangePage;
use crate::error::{Gone, StoreError, WatchError};
use crate::model::Change;
use crate::shared::Shared;

/// Changes handed out at once.
const BATCH_MAX: usize = 256;

/// Some changes, in order.
#[derive(Clone, Debug)]
pub struct WatchBatch {
    /// At least one.
    pub changes: Vec<Arc<Change>>,
    /// The watch has seen everything up to here.
    pub revision: u64,
}

/// A position in the stream of changes.
pub struct Watch {
    shared: Arc<Shared>,
    head: watch::Receiver<u64>,
    kind: Option<String>,
    position: u64,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("kind", &self.kind).field("position", &self.position).finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn begin(shared: Arc<Shared>, kind: Option<String>, from: u64) -> Result<Self, WatchError> {
        let head = shared.head.subscribe();
        let published = *head.borrow();
        if from > published {
            // A list may have read a commit that is a moment away from being published.
            let stored = shared.reads.head()?.revision;
            if from > stored {
                return Err(Gone::Ahead { from, head: stored }.into());
            }
        }
        let compacted = shared.compacted();
        if from < compacted {
            return Err(Gone::Compacted { from, compacted }.into());
        }
        Ok(Self { shared, head, kind, position: from })
    }

    /// The revision up to which this watch has seen everything of its kind; it moves also while nothing of the kind
    /// happens, as long as [`Watch::next`] is being awaited.
    pub fn revision(&self) -> u64 {
        self.position
    }

    /// The store's revision now.
    pub fn head_revision(&self) -> u64 {
        *self.head.borrow()
    }

    /// The next changes. Waits for as long as there are none; ends with [`StoreError::Closed`] when the store does.
    pub async fn next(&mut self) -> Result<WatchBatch, WatchError> {
        loop {
            let head = *self.head.borrow_and_update();
            while self.position < head {
                let changes = self.step(head).await?;
                if !changes.is_empty() {
                    return Ok(WatchBatch { changes, revision: self.position });
                }
            }
            if self.shared.is_over() || self.head.changed().await.is_err() {
                return Err(StoreError::Closed.into());
            }
        }
    }

    /// Changes from the ring or the table; moves the position over what was looked at.
    async fn step(&mut self, head: u64) -> Result<Vec<Arc<Change>>, WatchError> {
        let from_ring = self.shared.rings().after(self.kind.as_deref(), self.position, BATCH_MAX);
        if let Some(changes) = from_ring {
            self.position = match changes.last() {
                // The ring may already hold changes beyond the head that was read, so never go back.
                Some(last) if changes.len() >= BATCH_MAX => last.revision,
                Some(last) => last.revision.max(head),
                None => head,
            };
            return Ok(changes);
        }
        let page = self.read_table().await?;
        let Some(ChangePage { changes, scanned_to }) = page else {
            return Err(Gone::Compacted { from: self.position, compacted: self.shared.compacted() }.into());
        };
        self.position = scanned_to.max(self.position);
        Ok(changes.into_iter().map(Arc::new).collect())
    }

    async fn read_table(&self) -> Result<Option<ChangePage>, WatchError> {
        let (shared, kind, position) = (Arc::clone(&self.shared), self.kind.clone(), self.position);
        let read = move || shared.reads.changes(kind.as_deref(), position, BATCH_MAX);
        match tokio::task::spawn_blocking(read).await {
            Ok(page) => Ok(page?),
            // The runtime is shutting down.
            Err(_) => Err(StoreError::Closed.into()),
        }
    }
}
