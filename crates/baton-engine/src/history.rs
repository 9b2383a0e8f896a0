//! Reading event histories: for replay, and for whoever asks.

use std::cell::Cell;

use baton_execution::{HistoryEvent, OperationId, Programs};
use baton_proto::{
    DataLoader, decode_event, event_type,
    history_v1::{self, history_event::Attributes},
};
use baton_store::{Number, Store};
use baton_types::{ApiError, Digest};
use prost::Message as _;

use crate::{
    effects::child_name,
    entry::{Entry, Record},
    errors,
    execution::{Execution, Pinned, Stalled},
    stored::Row,
};

/// Journal records read at a time.
const RECORDS_PAGE: usize = 256;

/// Content that the store holds by digest.
pub(crate) struct StoreBlobs<'a> {
    store: &'a Store,
    failed: Cell<bool>,
}

impl<'a> StoreBlobs<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, failed: Cell::new(false) }
    }
}

impl DataLoader for StoreBlobs<'_> {
    fn load(&self, digest: &Digest) -> Option<Vec<u8>> {
        let read = self.store.blob(digest.as_bytes());
        self.failed.set(self.failed.get() || read.is_err());
        read.ok().flatten().map(|body| body.to_vec())
    }
}

/// Events of an execution after a number, at most `limit`, with what is for readers filled in.
pub(crate) fn read_events(
    store: &Store,
    row: &Row,
    after: i64,
    limit: usize,
) -> Result<Vec<history_v1::HistoryEvent>, ApiError> {
    let number = row.number;
    let mut events = Vec::new();
    let mut from = after + 1;
    while events.len() < limit {
        let records =
            store.journal(number, from, RECORDS_PAGE.min(limit)).map_err(|error| errors::read_failed(&error))?;
        let Some(last) = records.last() else { break };
        from = last.seq + 1;
        for record in &records {
            let record = Record::decode(record.body.clone())
                .map_err(|error| ApiError::internal(format!("journal of {number} at {}: {error}", record.seq)))?;
            events.extend(record.events.into_iter().filter(|event| i64::from(event.number) > after));
        }
    }
    events.truncate(limit);
    for event in &mut events {
        event_type(event).clone_into(&mut event.r#type);
        if let Some(Attributes::ChildRequested(child)) = &mut event.attributes {
            let operation = child.operation.clone().unwrap_or_default();
            let id = OperationId::new(operation.position, u32::try_from(operation.attempt).unwrap_or_default());
            child.execution_name = child_name(&row.resource.metadata().name, row.uid, &id);
        }
        if let Some(Attributes::ApprovalRequested(asked)) = &mut event.attributes {
            let operation = asked.operation.clone().unwrap_or_default();
            let id = OperationId::new(operation.position, u32::try_from(operation.attempt).unwrap_or_default());
            asked.approval_name = child_name(&row.resource.metadata().name, row.uid, &id);
        }
    }
    Ok(events)
}

/// Why the running half of an execution cannot be had.
pub(crate) enum LoadError {
    /// Not at the moment.
    Read(ApiError),
    /// Not in this build, or not any more.
    Stalled(Stalled),
}

impl From<Stalled> for LoadError {
    fn from(stalled: Stalled) -> Self {
        Self::Stalled(stalled)
    }
}

/// Rebuilds the running half of an execution: its snapshot, if there is a usable one, and the tail of its history.
pub(crate) fn load_execution(store: &Store, programs: &dyn Programs, entry: &Entry) -> Result<Execution, LoadError> {
    let read = |error| LoadError::Read(errors::read_failed(&error));
    let missing =
        |what: &str| LoadError::Read(ApiError::internal(format!("{} of {} is not in the store", what, entry.uid)));
    let template = entry.resource.template().and_then(Option::as_ref).ok_or_else(|| missing("status.template"))?;
    let digest: Digest = template.digest.parse().map_err(|_| missing("the digest of the template"))?;
    let definition = store.blob(digest.as_bytes()).map_err(read)?.ok_or_else(|| missing("the pinned template"))?;
    let pinned = Pinned { kind: entry.resource.program_kind(), digest, definition: &definition };
    if let Some(snapshot) = store.snapshot(entry.number).map_err(read)? {
        match Execution::restore(programs, &pinned, &snapshot.body) {
            Ok(mut execution) => {
                replay(store, entry.number, &mut execution)?;
                return Ok(execution);
            }
            Err(why) => tracing::warn!(execution_id = %entry.uid, why, "snapshot not usable, replaying from the start"),
        }
    }
    let mut execution = Execution::new(programs, &pinned).map_err(Stalled::Load)?;
    replay(store, entry.number, &mut execution)?;
    Ok(execution)
}

fn replay(store: &Store, number: Number, execution: &mut Execution) -> Result<(), LoadError> {
    let blobs = StoreBlobs::new(store);
    let mut from = execution.next_event;
    loop {
        let records =
            store.journal(number, from, RECORDS_PAGE).map_err(|error| LoadError::Read(errors::read_failed(&error)))?;
        let Some(last) = records.last() else { return Ok(()) };
        from = last.seq + 1;
        let mut events: Vec<HistoryEvent> = Vec::new();
        for record in &records {
            let malformed = |what: String| Stalled::Program { number: record.seq, what };
            let decoded = Record::decode(record.body.clone()).map_err(|error| malformed(error.to_string()))?;
            for event in &decoded.events {
                let decoded = decode_event(event, &blobs);
                if blobs.failed.get() {
                    let detail = format!("the data of event {} of execution {number} cannot be read", event.number);
                    return Err(LoadError::Read(ApiError::internal(detail)));
                }
                events.push(decoded.map_err(|error| malformed(error.to_string()))?);
            }
        }
        execution.replay(events)?;
    }
}
