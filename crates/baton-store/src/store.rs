//! The handle that everybody uses: committing, reading, watching, closing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::backend::{Head, Ids, Reads, Upkeep, UpkeepReport, Which};
use crate::committer::Work;
use crate::directory::Directory;
use crate::error::{CommitError, StoreError, WatchError};
use crate::leadership::Leadership;
use crate::model::{
    Committed, Digest, ExpiringRow, JournalRecord, Lane, ListPage, ListQuery, MailboxRow, Number, OutboxRow,
    ResourceKey, Rows, SnapshotRecord, StoredResource, TimerKey, TimerRow, Txn, Uid,
};
use crate::options::StoreOptions;
use crate::postgres;
use crate::queue::{Limits, Queue};
use crate::ring::{RingLimits, Rings};
use crate::shared::Shared;
use crate::sqlite::{self, BackupReport, SqliteEngine, SqliteReads};
use crate::stats::{Counters, StoreStats};
use crate::threads::Handle;
use crate::watch::Watch;

/// The store. Cheap to clone; all methods may be called from any thread.
///
/// Reads block for as long as the disk takes, usually microseconds; see the crate's documentation.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.0.shared.path).finish_non_exhaustive()
    }
}

/// Counting up from what the head says; enough where nobody else writes.
struct Counting {
    numbers: AtomicI64,
    outbox: AtomicI64,
}

impl Ids for Counting {
    fn next_number(&self) -> Number {
        self.numbers.fetch_add(1, Relaxed) + 1
    }

    fn next_outbox_id(&self) -> i64 {
        self.outbox.fetch_add(1, Relaxed) + 1
    }
}

/// What a backend brings to the state that all share.
struct Parts {
    reads: Box<dyn Reads>,
    ids: Box<dyn Ids>,
    head: Head,
    cluster_id: [u8; 16],
    leadership: Leadership,
    directory: Option<Directory>,
}

fn share(parts: Parts, options: StoreOptions) -> Result<Arc<Shared>, StoreError> {
    let Parts { reads, ids, head, cluster_id, leadership, directory } = parts;
    let limits = Limits { operations_max: options.queue_operations_max, bytes_max: options.queue_bytes_max };
    let ring_limits = RingLimits { events_max: options.ring_events_max, bytes_max: options.ring_bytes_max };
    // A database server's disk is that server's business: it refuses by itself.
    let free = directory.as_ref().map_or(Ok(u64::MAX), Directory::free_bytes)?;
    let path = directory.as_ref().map(|directory| directory.path().to_owned());
    Ok(Arc::new(Shared {
        queue: Queue::new(limits),
        reads,
        head: watch::Sender::new(head.revision),
        counters: Counters::default(),
        rings: RwLock::new(Rings::new(head.revision, ring_limits)),
        compacted: AtomicU64::new(head.compacted),
        ids,
        free: AtomicU64::new(free),
        failure: watch::Sender::new(None),
        over: AtomicBool::new(false),
        directory: Mutex::new(directory),
        options,
        path,
        leadership,
        cluster_id,
    }))
}

impl Store {
    /// Opens the store in `dir`, creating both if needed, and locks the directory for as long as the store lives.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let directory = Directory::open(dir, options.allow_network_filesystem)?;
        let path = directory.path().to_owned();
        let (connection, cluster_id) = sqlite::open_for_writing(&path, &options)?;
        directory.probe_sync()?;
        directory.fill_ballast(&options)?;
        let reads = SqliteReads::open(&path, &options)?;
        let head = reads.head()?;
        let ids = Counting { numbers: AtomicI64::new(head.number), outbox: AtomicI64::new(head.outbox) };
        let (reads, ids, leadership): (Box<dyn Reads>, Box<dyn Ids>, _) =
            (Box::new(reads), Box::new(ids), Leadership::always());
        let parts = Parts { reads, ids, head, cluster_id, leadership, directory: Some(directory) };
        let shared = share(parts, options)?;
        let handle = Handle::start(shared, Box::new(SqliteEngine(connection)))?;
        tracing::info!(directory = %path.display(), revision = head.revision, "store opened");
        Ok(Self(Arc::new(handle)))
    }

    /// Opens the store in the PostgreSQL database at `url`, in the schema `baton`, which is created if it is not there.
    /// Several servers may have it open. Blocking; may be called within an async runtime.
    ///
    /// `url` is `postgresql://user:password@host:port/database` with the parameters of libpq, among them
    /// `sslmode=disable|prefer|require|verify-full` (default `prefer`) and `sslrootcert=FILE` for `verify-full`. Of
    /// `options`, what is about disk, cache and checkpoints has no meaning here.
    ///
    /// # Errors
    /// [`StoreError::Address`], [`StoreError::Unreachable`], [`StoreError::Privilege`], [`StoreError::Setting`] (a server
    /// that acknowledges before it syncs, a standby, a database that is not in UTF-8), [`StoreError::Foreign`] (the schema
    /// is another program's) and [`StoreError::NewerFormat`].
    pub fn open_postgres(url: &str, options: StoreOptions) -> Result<Self, StoreError> {
        let opened = postgres::open(url, &options)?;
        let postgres::Opened { reads, ids, head, cluster_id, engine, tail } = opened;
        let leadership = tail.leadership();
        let parts = Parts { reads: Box::new(reads), ids: Box::new(ids), head, cluster_id, leadership, directory: None };
        let shared = share(parts, options)?;
        let handle = Handle::start(Arc::clone(&shared), Box::new(engine))?;
        let address = tail.address();
        *handle.tail.lock().unwrap_or_else(PoisonError::into_inner) = Some(tail.start(shared));
        tracing::info!(%address, revision = head.revision, "store opened");
        Ok(Self(Arc::new(handle)))
    }

    pub(crate) fn reads(&self) -> &dyn Reads {
        self.0.shared.reads.as_ref()
    }

    /// Queues a transaction. `done` is called exactly once: on the committer thread after the sync, or on this thread if
    /// the transaction is refused at once. It must be quick and must not block.
    ///
    /// Does not block on [`Lane::External`]; on [`Lane::Internal`] it may wait while the queue is at twice its bound.
    pub fn commit(&self, lane: Lane, txn: Txn, done: Box<dyn FnOnce(Result<Committed, CommitError>) + Send>) {
        let shared = &self.0.shared;
        let (free, needed) = (shared.free_bytes(), shared.options.free_bytes_min);
        if lane == Lane::External && free < needed {
            return done(Err(CommitError::DiskFull { free, needed }));
        }
        let bytes = txn.cost_bytes();
        shared.push(lane, bytes, Work::Commit { txn: Box::new(txn), done });
    }

    /// [`Store::commit`] as a future. Dropping it does not undo the transaction. On [`Lane::Internal`] the handing over may
    /// block this thread briefly, as there.
    pub async fn commit_async(&self, lane: Lane, txn: Txn) -> Result<Committed, CommitError> {
        let (sender, receiver) = oneshot::channel();
        self.commit(lane, txn, Box::new(move |outcome| drop(sender.send(outcome))));
        receiver.await.unwrap_or_else(|_| Err(CommitError::Failed { detail: Arc::from("the committer went away") }))
    }

    /// [`Store::commit`], waiting on this thread. Not for async code or for callbacks.
    pub fn commit_blocking(&self, lane: Lane, txn: Txn) -> Result<Committed, CommitError> {
        let (sender, receiver) = mpsc::channel();
        self.commit(lane, txn, Box::new(move |outcome| drop(sender.send(outcome))));
        receiver.recv().unwrap_or_else(|_| Err(CommitError::Failed { detail: Arc::from("the committer went away") }))
    }

    pub(crate) fn upkeep(&self, step: Upkeep) -> Result<UpkeepReport, StoreError> {
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |outcome| drop(sender.send(outcome)));
        self.0.shared.push(Lane::Internal, 0, Work::Upkeep { step, done });
        match receiver.recv() {
            Ok(outcome) => outcome.map_err(StoreError::Maintenance),
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// A number for a new resource: never given before, also not by an earlier process whose commit was acknowledged, nor
    /// by another server. On PostgreSQL it waits when the database is away for so long that the reserve is used up.
    pub fn next_number(&self) -> Number {
        self.0.shared.ids.next_number()
    }

    /// An id for a new outbox row, unique like [`Store::next_number`].
    pub fn next_outbox_id(&self) -> i64 {
        self.0.shared.ids.next_outbox_id()
    }

    /// A resource by its key.
    pub fn get(&self, key: &ResourceKey) -> Result<Option<StoredResource>, StoreError> {
        self.reads().get(key)
    }

    /// A resource by its uid.
    pub fn get_by_uid(&self, uid: Uid) -> Result<Option<StoredResource>, StoreError> {
        self.reads().get_by_uid(&uid)
    }

    /// A resource by its number.
    pub fn get_by_number(&self, number: Number) -> Result<Option<StoredResource>, StoreError> {
        self.reads().get_by_number(number)
    }

    /// A page of resources in order of namespace and name, with the revision of the snapshot that it shows.
    pub fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.reads().list(query)
    }

    /// Records of an execution from `from_seq` on, in order. One damaged record fails the read.
    pub fn journal(&self, n: Number, from_seq: i64, limit: usize) -> Result<Vec<JournalRecord>, StoreError> {
        self.reads().journal(n, from_seq, limit)
    }

    /// The last position in an execution's journal.
    pub fn journal_last(&self, n: Number) -> Result<Option<i64>, StoreError> {
        self.reads().journal_last(n)
    }

    /// An execution's program snapshot.
    pub fn snapshot(&self, n: Number) -> Result<Option<SnapshotRecord>, StoreError> {
        self.reads().snapshot(n)
    }

    /// Executions in [`ExecState::Active`](crate::ExecState::Active) with numbers after `after`, in order.
    pub fn active(&self, after: Number, limit: usize) -> Result<Vec<Number>, StoreError> {
        self.reads().numbers(Which::Active { after }, limit)
    }

    /// Resources whose deletion was asked for, with numbers after `after`, in order.
    pub fn deleting(&self, after: Number, limit: usize) -> Result<Vec<Number>, StoreError> {
        self.reads().numbers(Which::Deleting { after }, limit)
    }

    /// Resources with `expires_at_ms` at or before `before_ms`, in order of that time and of number, after a given one.
    /// Those whose deletion was asked for are left out: whatever holds them must not stand before the others.
    pub fn expiring(
        &self,
        before_ms: i64,
        after: Option<ExpiringRow>,
        limit: usize,
    ) -> Result<Vec<ExpiringRow>, StoreError> {
        self.reads().expiring(before_ms, after, limit)
    }

    /// Resources with this owner and numbers after `after`, in order of number.
    pub fn by_owner(&self, owner: Uid, after: Number, limit: usize) -> Result<Rows<StoredResource>, StoreError> {
        self.reads().by_owner(&owner, after, limit)
    }

    /// Timers due at or before `until_ms`, in order of due time, execution and id, after a given one.
    pub fn timers_due(
        &self,
        until_ms: i64,
        after: Option<TimerKey>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.reads().timers_due(until_ms, after, limit)
    }

    /// Outbox rows whose next attempt is at or before `now_ms`, oldest first.
    pub fn outbox_due(&self, now_ms: i64, limit: usize) -> Result<Rows<OutboxRow>, StoreError> {
        self.reads().outbox_due(now_ms, limit)
    }

    /// When the next outbox row is due.
    pub fn outbox_next(&self) -> Result<Option<i64>, StoreError> {
        self.reads().outbox_next()
    }

    /// All outbox rows of an execution.
    pub fn outbox_by_execution(&self, n: Number) -> Result<Rows<OutboxRow>, StoreError> {
        self.reads().outbox_by_execution(n)
    }

    /// A payload by its digest.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.reads().blob(digest)
    }

    /// A mailbox.
    pub fn mailbox(&self, id: &[u8; 16]) -> Result<Option<MailboxRow>, StoreError> {
        self.reads().mailbox(id)
    }

    /// A named value.
    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads().meta(key)
    }

    /// The revision of the last published change.
    pub fn revision(&self) -> u64 {
        *self.0.shared.head.borrow()
    }

    /// Changes up to this revision may be gone.
    pub fn compacted_revision(&self) -> u64 {
        self.0.shared.compacted()
    }

    /// Identifies this life of the store: a restored backup has another.
    pub fn cluster_id(&self) -> [u8; 16] {
        self.0.shared.cluster_id
    }

    /// The data directory; `None` for a store in PostgreSQL.
    pub fn directory(&self) -> Option<&Path> {
        self.0.shared.path.as_deref()
    }

    /// Whether this server leads among those that have the store open: see [`Leadership`].
    pub fn leadership(&self) -> Leadership {
        self.0.shared.leadership.clone()
    }

    /// Follows the changes after revision `from`, of one kind or of all.
    pub fn watch(&self, kind: Option<&str>, from: u64) -> Result<Watch, WatchError> {
        Watch::begin(Arc::clone(&self.0.shared), kind.map(str::to_owned), from)
    }

    /// The body that the change with this revision put in place; `None` once it is compacted. With
    /// [`Change::previous_revision`](crate::Change::previous_revision) it tells what a resource was before a change.
    pub fn change_body(&self, revision: u64) -> Result<Option<Bytes>, StoreError> {
        let in_memory = self.0.shared.rings().at(revision);
        match in_memory {
            Some(change) => Ok(Some(change.body.clone())),
            None => self.reads().change_body(revision),
        }
    }

    /// Copies the store to the file `to` while it is in use. Blocking; reads and writes the whole database.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] for a store in PostgreSQL, which has its own tools for that.
    pub fn backup(&self, to: &Path) -> Result<BackupReport, StoreError> {
        match &self.0.shared.path {
            Some(path) => sqlite::backup(path, to),
            None => Err(StoreError::Unsupported { operation: "backup by file copy" }),
        }
    }

    /// Copies the store in `dir` to the file `to` without opening it: another process may be using it, and goes on. Of
    /// `options`, only `allow_network_filesystem` counts. Blocking; reads and writes the whole database.
    ///
    /// What that process had acknowledged when this was called is in the copy.
    ///
    /// # Errors
    /// As for [`Store::open`], but for [`StoreError::Locked`]; [`StoreError::RestoreUnfinished`] also if a restore into
    /// `dir` runs meanwhile. Nothing is left at `to` then.
    pub fn backup_of(dir: &Path, to: &Path, options: &StoreOptions) -> Result<BackupReport, StoreError> {
        sqlite::backup_unlocked(dir, to, options.allow_network_filesystem)
    }

    /// Puts a backup in place in `dir`, where no store may be open. A store that is there is refused, or with `replace`
    /// set aside in the same directory. The restored store has a new cluster id.
    pub fn restore(from: &Path, dir: &Path, replace: bool) -> Result<BackupReport, StoreError> {
        // The directory's own checks apply; a network file system is judged when the store is opened.
        let directory = Directory::open(dir, true)?;
        sqlite::restore(from, directory.path(), replace)
    }

    /// The store in numbers.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let shared = &self.0.shared;
        let (queue_operations, queue_bytes) = shared.queue.depth();
        let (database_bytes, database_free_bytes) = shared.reads.size()?;
        Ok(StoreStats {
            queue_operations,
            queue_bytes,
            groups: shared.counters.summary(),
            wal_bytes: shared.counters.wal_bytes.load(Relaxed),
            database_bytes,
            database_free_bytes,
            free_bytes: shared.free_bytes(),
            revision: self.revision(),
            compacted_revision: self.compacted_revision(),
        })
    }

    /// Commits what is waiting, checkpoints, and closes the files. All clones of this handle are closed with it. Blocking.
    pub fn close(self) {
        self.0.close();
    }

    /// Why the store died, if it did.
    pub fn is_failed(&self) -> Option<Arc<str>> {
        self.0.shared.failure()
    }

    /// Resolves when the store has died, with the reason; never otherwise. The server must then exit.
    pub async fn failed(&self) -> Arc<str> {
        let mut failure = self.0.shared.failure.subscribe();
        loop {
            if let Some(detail) = failure.borrow_and_update().clone() {
                return detail;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
