//! What a worker holds of one execution, and the transaction that one step of it becomes.

use std::collections::{BTreeMap, HashMap, VecDeque};

use baton_execution::{HistoryEvent, Input, OperationId};
use baton_proto::{ExecutionResource, encode_event, history_v1};
use baton_store::{
    BlobPut, ExecState, Expect, JournalAppend, Number, OutboxRow, OutboxUpdate, ResourceDelete, ResourcePut,
    SnapshotPut, TimerKey, TimerRow, Txn, canonical_labels,
};
use baton_types::{ApiError, Digest, Uid};
use prost::Message as _;
use tokio::task::AbortHandle;

use crate::{
    api::{Created, Deleted},
    approvals::ApprovalRow,
    execution::{Execution, Step, StepEffect, Timer},
    host::Reported,
    hosted::HostMessage,
    message::{Ack, AnswerReply, Message, Reply},
    stored::{Row, StoredExecution, key_of},
};

/// Timer id of the whole execution's limit; those of the Program are numbers of events, which begin at 1.
pub(crate) const EXECUTION_TIMER: i64 = 0;

/// A record of the journal: the events of one step. Its position is the number of its last event.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Record {
    #[prost(message, repeated, tag = "1")]
    pub(crate) events: Vec<history_v1::HistoryEvent>,
}

/// What an outbox row says.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OutboxMessage {
    /// The answer to the return address of this fingerprint; empty for the other kind.
    #[prost(string, tag = "1")]
    pub(crate) fingerprint: String,
    /// Otherwise: tell whoever holds the token of this wait (or of any, if empty) that nobody waits any more.
    #[prost(string, tag = "2")]
    pub(crate) position: String,
    #[prost(uint32, tag = "3")]
    pub(crate) attempt: u32,
    /// Otherwise: something for the host.
    #[prost(message, optional, tag = "4")]
    pub(crate) host: Option<HostMessage>,
}

impl OutboxMessage {
    /// Nobody waits for this operation any more.
    pub(crate) fn given_up(id: OperationId) -> Self {
        Self { position: id.position, attempt: id.attempt, ..Self::default() }
    }
}

/// Who is to hear of a commit.
pub(crate) enum AfterCommit {
    Resource(Reply<ExecutionResource>),
    Created {
        reply: Reply<Created>,
        existing: bool,
    },
    Deleted {
        reply: Reply<Deleted>,
    },
    Answered {
        reply: AnswerReply,
        fingerprint: String,
    },
    Reported {
        reply: Reply<Reported>,
        reported: Reported,
    },
    Decided(Reply<()>),
    /// Dropped once the step is durable.
    Ack(std::sync::Arc<Ack>),
}

/// The content that an execution is pinned to.
pub(crate) struct Definition {
    pub(crate) digest: Digest,
    pub(crate) content: bytes::Bytes,
    /// A template's content is kept, as others will be pinned to it; an inline one goes with its last execution.
    pub(crate) keep: bool,
}

/// What has been decided of an execution and is not durable yet.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) step: Step,
    /// The row itself is to be written.
    pub(crate) put: bool,
    pub(crate) create: bool,
    pub(crate) delete: bool,
    pub(crate) timers_set: Vec<TimerRow>,
    pub(crate) timers_clear: Vec<TimerKey>,
    pub(crate) outbox_put: Vec<OutboxRow>,
    pub(crate) outbox_update: Vec<OutboxUpdate>,
    pub(crate) outbox_delete: Vec<i64>,
    pub(crate) blobs: Vec<(Digest, Vec<u8>)>,
    /// Approvals of this execution that are new or changed.
    pub(crate) approvals: Vec<ApprovalRow>,
    /// The pinned content, unless it is known to be in the store.
    pub(crate) definition: Option<Definition>,
    pub(crate) after: Vec<AfterCommit>,
}

impl Draft {
    pub(crate) fn is_empty(&self) -> bool {
        !self.put
            && !self.delete
            && self.step.events.is_empty()
            && self.timers_set.is_empty()
            && self.outbox_put.is_empty()
            && self.outbox_update.is_empty()
            && self.outbox_delete.is_empty()
            && self.timers_clear.is_empty()
            && self.approvals.is_empty()
            && self.after.is_empty()
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is another thing, and any combination can be")]
pub(crate) struct Entry {
    pub(crate) number: Number,
    pub(crate) uid: Uid,
    pub(crate) owner: Option<Uid>,
    pub(crate) revision: u64,
    pub(crate) stored_state: ExecState,
    pub(crate) resource: ExecutionResource,
    pub(crate) extra: StoredExecution,
    /// The running half; `None` if the execution has ended, or if only its row was needed so far.
    pub(crate) execution: Option<Execution>,
    /// Why the running half cannot be had in this build.
    pub(crate) stalled: Option<String>,
    pub(crate) running: HashMap<OperationId, AbortHandle>,
    /// Children that exist now, to be recorded with the next step.
    pub(crate) started: Vec<Input>,
    /// Children that exist, of those that the host's workflow has not taken notice of yet.
    pub(crate) created: Vec<OperationId>,
    /// What waits to be given to the host, in order; `None` if it was not looked up yet.
    pub(crate) host_queue: Option<VecDeque<OutboxRow>>,
    /// Whether the first of it is on its way.
    pub(crate) host_busy: bool,
    /// Whether its workflow was asked to end.
    pub(crate) cancel_given: bool,
    /// Children that are being created and that nobody wants any more.
    pub(crate) given_up: Vec<OperationId>,
    /// What was open when the running half was brought to memory and has not been set going again.
    pub(crate) redo: Vec<OperationId>,
    /// Whether it stands in the queue of those that may leave memory.
    pub(crate) in_parked: bool,
    /// Whether its commit waits for room in the store.
    pub(crate) waits_for_room: bool,
    /// Last heartbeat of each wait that wants some, in milliseconds since 1970.
    pub(crate) heartbeats: BTreeMap<OperationId, i64>,
    pub(crate) draft: Draft,
    pub(crate) committing: bool,
    pub(crate) queue: VecDeque<Message>,
    pub(crate) status_written_ms: i64,
    pub(crate) settling: bool,
}

impl Entry {
    pub(crate) fn from_row(row: Row) -> Self {
        Self {
            number: row.number,
            uid: row.uid,
            owner: row.owner,
            revision: row.revision,
            stored_state: row.state,
            resource: row.resource,
            extra: row.extra,
            execution: None,
            stalled: None,
            running: HashMap::new(),
            started: Vec::new(),
            created: Vec::new(),
            host_queue: None,
            host_busy: false,
            cancel_given: false,
            given_up: Vec::new(),
            redo: Vec::new(),
            in_parked: false,
            waits_for_room: false,
            heartbeats: BTreeMap::new(),
            draft: Draft::default(),
            committing: false,
            queue: VecDeque::new(),
            status_written_ms: 0,
            settling: false,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.resource.phase().is_terminal()
    }

    /// The state that the store is to have of it.
    pub(crate) fn state(&self) -> ExecState {
        match &self.execution {
            _ if self.is_closed() => ExecState::Closed,
            Some(execution) if self.is_parked(execution) => ExecState::Parked,
            Some(_) => ExecState::Active,
            // A build that can go on with it must find it.
            None if self.stalled.is_some() => ExecState::Active,
            None => self.stored_state,
        }
    }

    /// Whether it only waits. What runs at the host goes on without us; children are ours to start.
    pub(crate) fn is_parked(&self, execution: &Execution) -> bool {
        if self.extra.hosted { execution.open.children.is_empty() } else { execution.is_parked() }
    }

    /// Whether nothing is under way, so that it may leave memory.
    pub(crate) fn is_idle(&self) -> bool {
        !self.committing
            && self.queue.is_empty()
            && self.draft.is_empty()
            && self.running.is_empty()
            && self.started.is_empty()
            && self.given_up.is_empty()
            && !self.host_busy
            && self.heartbeats.is_empty()
            && self.execution.as_ref().is_none_or(|execution| execution.open.children.is_empty())
            && matches!(self.stored_state, ExecState::Parked | ExecState::Closed)
            && self.state() == self.stored_state
    }

    /// Whether somebody is still to be told of the end.
    pub(crate) fn has_answers_under_way(&self) -> bool {
        let pending = baton_proto::CallbackState::Pending.as_str();
        self.resource.callbacks().is_some_and(|all| all.iter().any(|callback| callback.state == pending))
    }

    pub(crate) fn timer_row(&self, timer: Timer) -> TimerRow {
        TimerRow { due_ms: timer.due_ms, n: self.number, id: timer.id }
    }

    /// The transaction of the present draft. Made anew on a repeat, always the same.
    pub(crate) fn transaction(&self) -> Result<Txn, ApiError> {
        let draft = &self.draft;
        let mut blobs = Vec::new();
        let mut txn = Txn::default();
        if let Some(last) = draft.step.events.last() {
            let body = encode_record(&draft.step.events, &mut blobs);
            txn.journal.push(JournalAppend { n: self.number, seq: last.number, body: body.into() });
        }
        txn.timers_set.extend(draft.step.timers_set.iter().map(|timer| self.timer_row(*timer)));
        txn.timers_set.extend(&draft.timers_set);
        txn.timers_clear.extend(draft.step.timers_clear.iter().map(|timer| self.timer_row(*timer)));
        txn.timers_clear.extend(&draft.timers_clear);
        txn.outbox_put.clone_from(&draft.outbox_put);
        txn.outbox_update.clone_from(&draft.outbox_update);
        txn.outbox_delete.clone_from(&draft.outbox_delete);
        blobs.extend(draft.blobs.iter().cloned());
        txn.blobs = blobs
            .into_iter()
            .map(|(digest, body)| BlobPut { digest: *digest.as_bytes(), n: Some(self.number), body: Some(body.into()) })
            .collect();
        txn.blobs.extend(draft.definition.iter().map(|definition| BlobPut {
            digest: *definition.digest.as_bytes(),
            n: (!definition.keep).then_some(self.number),
            body: Some(definition.content.clone()),
        }));
        if draft.delete {
            txn.deletes.push(ResourceDelete {
                key: key_of(&self.resource),
                uid: *self.uid.as_bytes(),
                number: self.number,
                revision: self.revision,
                body: self.body(),
            });
        } else if draft.put {
            txn.puts.push(self.put());
        }
        txn.puts.extend(draft.approvals.iter().map(ApprovalRow::put));
        if let Some(execution) = self.execution.as_ref().filter(|execution| self.wants_snapshot(execution)) {
            let body = execution
                .snapshot()
                .map_err(|error| ApiError::internal(format!("snapshot of {}: {error}", self.uid)))?;
            txn.snapshot = Some(SnapshotPut { n: self.number, seq: execution.next_event - 1, body: body.into() });
        }
        Ok(txn)
    }

    fn wants_snapshot(&self, execution: &Execution) -> bool {
        execution.events_since_snapshot >= SNAPSHOT_EVENTS && !execution.ended && !self.draft.step.events.is_empty()
    }

    fn put(&self) -> ResourcePut {
        let metadata = self.resource.metadata();
        ResourcePut {
            key: key_of(&self.resource),
            uid: *self.uid.as_bytes(),
            number: self.number,
            expect: if self.draft.create { Expect::Absent } else { Expect::Revision(self.revision) },
            body: self.body(),
            labels: canonical_labels(metadata.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
            state: self.state(),
            owner: self.owner.map(|owner| *owner.as_bytes()),
            expires_at_ms: self.expires_at_ms(),
            deleting: metadata.deletion_timestamp.is_some(),
        }
    }

    fn expires_at_ms(&self) -> Option<i64> {
        let ended = self.resource.completion_time().copied().flatten()?;
        let ttl = self.resource.ttl_seconds_after_finished()?;
        Some(ended.as_millis().saturating_add(i64::from(ttl).saturating_mul(1000)))
    }

    fn body(&self) -> bytes::Bytes {
        let resource = self.resource.encode();
        StoredExecution { resource, ..self.extra.clone() }.encode_to_vec().into()
    }

    /// The revision that the present draft has given to the execution itself, of those that its transaction has given.
    pub(crate) fn own_revision(&self, revisions: &[u64]) -> Option<u64> {
        match (self.draft.delete, self.draft.put) {
            (true, _) => revisions.last().copied(),
            (false, true) => revisions.first().copied(),
            (false, false) => None,
        }
    }

    /// Forgets the draft that is durable now and returns what it leaves to do.
    pub(crate) fn committed(&mut self) -> (Vec<StepEffect>, Draft) {
        let mut draft = std::mem::take(&mut self.draft);
        if let Some(execution) = &mut self.execution
            && execution.events_since_snapshot >= SNAPSHOT_EVENTS
            && !draft.step.events.is_empty()
        {
            execution.events_since_snapshot = 0;
        }
        if draft.put {
            self.stored_state = self.state();
        }
        (std::mem::take(&mut draft.step.effects), draft)
    }
}

/// A snapshot is taken with the step in which so many events have come since the last one.
const SNAPSHOT_EVENTS: i64 = 200;

fn encode_record(events: &[HistoryEvent], blobs: &mut Vec<(Digest, Vec<u8>)>) -> Vec<u8> {
    Record { events: events.iter().map(|event| encode_event(event, blobs)).collect() }.encode_to_vec()
}
