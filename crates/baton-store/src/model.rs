//! What goes into the store and what comes out: transactions, guards, rows and queries.
//!
//! Plain data without behaviour. Bodies are opaque bytes: their meaning belongs to the callers, so that a change of the
//! public messages never touches this crate. Times are milliseconds since 1970 as given by the caller; the store has no
//! clock of its own.
//!
//! # Invariants
//! - A resource has one `number` for life, given by [`Store::next_number`](crate::Store::next_number) and never given
//!   again, also not after a restart. Journal, snapshot, timer and outbox rows name their execution by it.
//! - A body does not contain its own `resourceVersion`: the revision is known only at commit and is returned beside it.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// A resource's uid: the 16 bytes of a UUID.
pub type Uid = [u8; 16];

/// The dense number of a resource; executions use it to name their journal, timers and outbox rows.
pub type Number = i64;

/// The content address of a blob: SHA-256 of its body, computed by the caller.
pub type Digest = [u8; 32];

/// The name under which a resource is stored: unique among the living resources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// Kind such as `WorkflowExecution`.
    pub kind: Cow<'static, str>,
    /// Namespace; empty for kinds without one.
    pub namespace: String,
    /// Name within kind and namespace.
    pub name: String,
}

impl ResourceKey {
    /// A key from its three parts.
    pub fn new(kind: impl Into<Cow<'static, str>>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}/{}'", self.kind, self.namespace, self.name)
    }
}

/// What the store must know of an execution's life to find it at recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ExecState {
    /// Not an execution.
    #[default]
    None,
    /// Has work to do: recovery loads it.
    Active,
    /// Waits for something recorded elsewhere (a timer, a callback, a person): recovery leaves it on disk.
    Parked,
    /// Ended.
    Closed,
}

/// The state that a put expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No resource has this key: the put creates it.
    Absent,
    /// The resource is at this revision: the put replaces it.
    Revision(u64),
}

/// Creates or replaces one resource and records one change.
#[derive(Clone, Debug)]
pub struct ResourcePut {
    /// Where it is stored.
    pub key: ResourceKey,
    /// Must be the stored uid when replacing.
    pub uid: Uid,
    /// From [`Store::next_number`](crate::Store::next_number) when creating, the stored number when replacing.
    pub number: Number,
    /// Optimistic concurrency.
    pub expect: Expect,
    /// The resource as the caller encodes it.
    pub body: Bytes,
    /// Labels in the form of [`canonical_labels`].
    pub labels: Option<String>,
    /// For executions.
    pub state: ExecState,
    /// Uid of the execution that owns this one, or that holds a return address into it; see
    /// [`Store::by_owner`](crate::Store::by_owner).
    pub owner: Option<Uid>,
    /// When it may be deleted by itself; see [`Store::expiring`](crate::Store::expiring).
    pub expires_at_ms: Option<i64>,
    /// Deletion was asked for and finalizers still hold it; see [`Store::deleting`](crate::Store::deleting).
    pub deleting: bool,
}

/// Deletes one resource and records one change.
///
/// The row goes at once; its journal, snapshot, outbox rows and blob references go in steps of
/// [`Store::sweep`](crate::Store::sweep), so that a long history never stalls a group.
#[derive(Clone, Debug)]
pub struct ResourceDelete {
    /// Where it is stored.
    pub key: ResourceKey,
    /// Must be the stored uid.
    pub uid: Uid,
    /// Its number.
    pub number: Number,
    /// The revision it must be at.
    pub revision: u64,
    /// The last body, sent to watchers at the deletion's revision.
    pub body: Bytes,
}

/// Appends one record to an execution's journal.
#[derive(Clone, Debug)]
pub struct JournalAppend {
    /// Execution.
    pub n: Number,
    /// Position within the execution; unique.
    pub seq: i64,
    /// The record.
    pub body: Bytes,
}

/// Replaces an execution's program snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotPut {
    /// Execution.
    pub n: Number,
    /// The last journal position that the snapshot covers.
    pub seq: i64,
    /// The program's state.
    pub body: Bytes,
}

/// One armed timer; also its own key.
///
/// A row may outlive its execution if the caller did not clear it in the transaction that closed the execution;
/// [`Store::sweep`](crate::Store::sweep) removes such rows once they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerRow {
    /// When it is due.
    pub due_ms: i64,
    /// Execution.
    pub n: Number,
    /// Unique within the execution.
    pub id: i64,
}

/// Names one timer. The due time is part of the key because the rows lie in order of due time.
pub type TimerKey = TimerRow;

/// One resource that may be deleted by itself; also its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpiringRow {
    /// When its time was over.
    pub expires_at_ms: i64,
    /// Resource.
    pub number: Number,
}

/// One message that must reach another party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// From [`Store::next_outbox_id`](crate::Store::next_outbox_id).
    pub id: i64,
    /// Execution.
    pub n: Number,
    /// When to try next.
    pub next_at_ms: i64,
    /// Attempts made.
    pub attempts: u32,
    /// The message.
    pub body: Bytes,
}

/// Records the result of one delivery attempt. A row that is gone is left alone.
#[derive(Clone, Debug)]
pub struct OutboxUpdate {
    /// Row.
    pub id: i64,
    /// Execution of the row.
    pub n: Number,
    /// When to try next.
    pub next_at_ms: i64,
    /// Attempts made.
    pub attempts: u32,
    /// A new message; `None` keeps the stored one.
    pub body: Option<Bytes>,
}

/// Stores a payload by digest, once, and notes who refers to it.
#[derive(Clone, Debug)]
pub struct BlobPut {
    /// SHA-256 of the body.
    pub digest: Digest,
    /// Execution that keeps the blob alive; `None` keeps it for ever. A blob goes when the last execution that
    /// referred to it was swept.
    pub n: Option<Number>,
    /// The payload; `None` adds a reference to a blob that must be there already.
    pub body: Option<Bytes>,
}

/// One answer box for a token minted for an outside caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxRow {
    /// Chosen by the caller.
    pub id: [u8; 16],
    /// When the row may be swept.
    pub expires_ms: i64,
    /// Whether an answer is in it.
    pub answered: bool,
    /// Whatever the caller keeps there.
    pub body: Bytes,
}

/// A condition checked inside the transaction before anything of its [`Txn`] is written.
#[derive(Clone, Debug)]
pub enum Guard {
    /// The resource with this number is at this revision.
    ResourceAt {
        /// Resource.
        number: Number,
        /// Its revision.
        revision: u64,
    },
    /// The resource with this number exists, at any revision.
    ResourceExists(Number),
    /// Nothing has this key.
    ResourceAbsent(ResourceKey),
    /// The execution's next journal position is this one (one more than the last, or any if there is none yet).
    JournalNext {
        /// Execution.
        n: Number,
        /// Position about to be appended.
        seq: i64,
    },
    /// The timer is armed. Firing is one transaction: this guard, the timer's clearing, the record of it.
    TimerExists(TimerKey),
    /// The mailbox exists and has no answer.
    MailboxUnanswered([u8; 16]),
    /// The outbox row exists.
    OutboxExists(i64),
}

/// Mutations that happen together or not at all.
///
/// Order inside the transaction: guards and expectations first, then deletes of timers and outbox rows, then everything
/// else. Earlier transactions of the same group are seen.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// Conditions.
    pub guards: Vec<Guard>,
    /// Resources to create or replace.
    pub puts: Vec<ResourcePut>,
    /// Resources to delete.
    pub deletes: Vec<ResourceDelete>,
    /// Journal records.
    pub journal: Vec<JournalAppend>,
    /// The program snapshot of the execution that took a step.
    pub snapshot: Option<SnapshotPut>,
    /// Timers to arm.
    pub timers_set: Vec<TimerRow>,
    /// Timers to disarm; one that is gone is no error (guard it if it must be there).
    pub timers_clear: Vec<TimerKey>,
    /// Messages to send.
    pub outbox_put: Vec<OutboxRow>,
    /// Results of attempts.
    pub outbox_update: Vec<OutboxUpdate>,
    /// Messages done with.
    pub outbox_delete: Vec<i64>,
    /// Payloads.
    pub blobs: Vec<BlobPut>,
    /// Mailboxes to create or replace.
    pub mailbox_put: Vec<MailboxRow>,
    /// Mailboxes to remove.
    pub mailbox_delete: Vec<[u8; 16]>,
    /// Small named values; `None` removes.
    pub meta: Vec<(String, Option<Vec<u8>>)>,
}

/// What a row costs in the queue beside its body.
const ROW_OVERHEAD_BYTES: usize = 64;

impl Txn {
    /// Bytes this transaction counts for in the queue and in a group: bodies plus a fixed cost for each row.
    pub fn cost_bytes(&self) -> usize {
        let put = |p: &ResourcePut| {
            ROW_OVERHEAD_BYTES + 2 * p.body.len() + p.key.name.len() + p.labels.as_ref().map_or(0, String::len)
        };
        ROW_OVERHEAD_BYTES * (1 + self.guards.len() + self.timers_set.len() + self.timers_clear.len())
            + ROW_OVERHEAD_BYTES * (self.outbox_delete.len() + self.mailbox_delete.len())
            + self.puts.iter().map(put).sum::<usize>()
            + self.deletes.iter().map(|d| ROW_OVERHEAD_BYTES + d.body.len()).sum::<usize>()
            + self.journal.iter().map(|j| ROW_OVERHEAD_BYTES + j.body.len()).sum::<usize>()
            + self.snapshot.as_ref().map_or(0, |s| ROW_OVERHEAD_BYTES + s.body.len())
            + self.outbox_put.iter().map(|o| ROW_OVERHEAD_BYTES + o.body.len()).sum::<usize>()
            + self
                .outbox_update
                .iter()
                .map(|o| ROW_OVERHEAD_BYTES + o.body.as_ref().map_or(0, Bytes::len))
                .sum::<usize>()
            + self.blobs.iter().map(|b| ROW_OVERHEAD_BYTES + b.body.as_ref().map_or(0, Bytes::len)).sum::<usize>()
            + self.mailbox_put.iter().map(|m| ROW_OVERHEAD_BYTES + m.body.len()).sum::<usize>()
            + self.meta.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, Vec::len)).sum::<usize>()
    }
}

/// Who is asking for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Work that is already running: results, timers, callbacks. Never refused for lack of room; may wait briefly.
    Internal,
    /// New work. May fill at most three quarters of the queue and is refused beyond, so that running work can end.
    External,
}

/// A transaction that is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One revision for each put, then one for each delete, in the order given.
    pub revisions: Vec<u64>,
}

/// A resource as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResource {
    /// Where.
    pub key: ResourceKey,
    /// Identity.
    pub uid: Uid,
    /// Dense number.
    pub number: Number,
    /// The revision of its last change: the `resourceVersion`.
    pub revision: u64,
    /// For executions.
    pub state: ExecState,
    /// As put.
    pub owner: Option<Uid>,
    /// As put.
    pub expires_at_ms: Option<i64>,
    /// As put.
    pub deleting: bool,
    /// As put.
    pub labels: Option<String>,
    /// As put.
    pub body: Bytes,
}

/// What to list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Kind.
    pub kind: Cow<'static, str>,
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// Start after this namespace and name.
    pub after: Option<(String, String)>,
    /// At most this many rows.
    pub limit: usize,
    /// Pairs that must all be among the labels. A prefilter for equality; anything finer is the caller's.
    pub labels: Vec<(String, String)>,
}

impl ListQuery {
    /// The first `limit` resources of a kind in all namespaces.
    pub fn new(kind: impl Into<Cow<'static, str>>, limit: usize) -> Self {
        Self { kind: kind.into(), namespace: None, after: None, limit, labels: Vec::new() }
    }
}

/// A page in order of namespace, then name.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// Rows.
    pub items: Vec<StoredResource>,
    /// Rows that are damaged on disk, left out of `items`.
    pub corrupt: Vec<CorruptRow>,
    /// The store's revision in the snapshot that was read: watch from here.
    pub revision: u64,
    /// Whether rows follow. Continue after the last of `items` and `corrupt`, see [`ListPage::last`].
    pub more: bool,
    /// Namespace and name of the last row looked at, damaged or not.
    pub last: Option<(String, String)>,
}

/// Rows of which damaged ones were left out, so that one bad row does not hide the others.
#[derive(Clone, Debug)]
pub struct Rows<T> {
    /// Good rows.
    pub items: Vec<T>,
    /// Damaged rows.
    pub corrupt: Vec<CorruptRow>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { items: Vec::new(), corrupt: Vec::new() }
    }
}

/// A row whose checksum does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptRow {
    /// Table.
    pub table: &'static str,
    /// Primary key as text.
    pub key: String,
    /// The number or id of the row, to go on after it.
    pub number: Number,
}

/// One record of an execution's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Position within the execution.
    pub seq: i64,
    /// The record.
    pub body: Bytes,
}

/// An execution's program snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// The last journal position that it covers.
    pub seq: i64,
    /// The program's state.
    pub body: Bytes,
}

/// What happened to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// Created.
    Added,
    /// Replaced.
    Modified,
    /// Deleted.
    Deleted,
}

/// One change of one resource, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The store's revision of this change.
    pub revision: u64,
    /// The resource's revision before; 0 if it was created.
    pub previous_revision: u64,
    /// Where.
    pub key: ResourceKey,
    /// Identity.
    pub uid: Uid,
    /// Dense number.
    pub number: Number,
    /// What happened.
    pub kind: ChangeKind,
    /// The new body; the last one for [`ChangeKind::Deleted`].
    pub body: Bytes,
}

/// Labels as the store keeps them: each pair as `\nkey=value\n`, adjoining line ends shared, in the order given.
///
/// `None` for no labels. Neither keys nor values may contain a line end or, for keys, an equals sign; the label syntax of
/// Kubernetes allows neither.
pub fn canonical_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let mut text = String::new();
    for (key, value) in labels {
        if text.is_empty() {
            text.push('\n');
        }
        text.push_str(key);
        text.push('=');
        text.push_str(value);
        text.push('\n');
    }
    (!text.is_empty()).then_some(text)
}
