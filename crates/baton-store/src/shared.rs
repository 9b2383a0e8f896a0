//! What the handle, the threads and the watches of one store share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::backend::{Ids, Reads};
use crate::committer::Work;
use crate::directory::Directory;
use crate::error::CommitError;
use crate::leadership::Leadership;
use crate::model::{Change, Lane};
use crate::options::StoreOptions;
use crate::queue::{Queue, Refused};
use crate::ring::Rings;
use crate::stats::Counters;

/// What the handle, the threads and the watches share.
pub(crate) struct Shared {
    pub(crate) queue: Queue<Work>,
    pub(crate) reads: Box<dyn Reads>,
    pub(crate) head: watch::Sender<u64>,
    pub(crate) counters: Counters,
    pub(crate) options: StoreOptions,
    pub(crate) rings: RwLock<Rings>,
    pub(crate) compacted: AtomicU64,
    pub(crate) ids: Box<dyn Ids>,
    pub(crate) free: AtomicU64,
    pub(crate) failure: watch::Sender<Option<Arc<str>>>,
    pub(crate) over: AtomicBool,
    /// Of a store in files: the lock and what lies beside the database.
    pub(crate) directory: Mutex<Option<Directory>>,
    /// Of a store in files.
    pub(crate) path: Option<PathBuf>,
    pub(crate) leadership: Leadership,
    pub(crate) cluster_id: [u8; 16],
}

impl Shared {
    pub(crate) fn rings(&self) -> RwLockReadGuard<'_, Rings> {
        self.rings.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn rings_mut(&self) -> RwLockWriteGuard<'_, Rings> {
        self.rings.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn compacted(&self) -> u64 {
        self.compacted.load(Relaxed)
    }

    pub(crate) fn set_compacted(&self, revision: u64) {
        self.compacted.fetch_max(revision, Relaxed);
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.free.load(Relaxed)
    }

    /// Shows watchers everything up to `revision`; never goes back.
    pub(crate) fn raise_head(&self, revision: u64) {
        self.head.send_if_modified(|head| {
            let raised = revision > *head;
            *head = revision.max(*head);
            raised
        });
    }

    /// Publishes what other servers committed up to `until`; `None` if it is in the table alone.
    pub(crate) fn publish_others(&self, changes: Option<Vec<Change>>, until: u64) {
        {
            let mut rings = self.rings_mut();
            match changes {
                Some(changes) => changes.into_iter().for_each(|change| rings.push(change)),
                None => rings.begin_again(until),
            }
        }
        self.raise_head(until);
    }

    pub(crate) fn has_directory(&self) -> bool {
        self.path.is_some()
    }

    /// Looks at the disk again.
    pub(crate) fn measure_free(&self) -> u64 {
        let directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(free)) = directory.as_ref().map(Directory::free_bytes) {
            self.free.store(free, Relaxed);
        }
        self.free_bytes()
    }

    pub(crate) fn release_ballast(&self) -> bool {
        let directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        directory.as_ref().is_some_and(Directory::release_ballast)
    }

    /// Whether the store was closed or has failed: nothing will change any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Relaxed);
        // Wakes watches, so that they notice.
        self.head.send_modify(|_| {});
    }

    /// The store is dead: nobody is accepted any more, and everybody who waits is told.
    pub(crate) fn fail(&self, detail: &Arc<str>) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                tracing::error!(%detail, "the store failed and accepts nothing more");
                *failure = Some(Arc::clone(detail));
            }
            first
        });
        self.queue.close();
        for work in self.queue.drain() {
            work.refuse(CommitError::Failed { detail: Arc::clone(detail) });
        }
        self.end();
    }

    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.failure.borrow().clone()
    }

    pub(crate) fn push(&self, lane: Lane, bytes: usize, work: Work) {
        match self.queue.push(lane, bytes, work) {
            Ok(()) => {}
            Err(Refused::Overloaded { item, operations, bytes }) => {
                item.refuse(CommitError::Overloaded { operations, bytes });
            }
            Err(Refused::Closed(item)) => {
                let detail = self.failure().unwrap_or_else(|| Arc::from("it was closed"));
                item.refuse(CommitError::Failed { detail });
            }
        }
    }
}
