//! Executions that wait before their first step, until somebody releases them.
//!
//! Nothing of such an execution has happened: its history is empty and its phase is `Pending`. What it will begin with
//! stands in its row. It can be cancelled, terminated, suspended and deleted like any other.
//!
//! # Invariants
//! - Its time (`spec.timeout`) begins with its release.
//! - A release is done once: what is not held any more is left as it is.
//!
//! # Deliberately absent
//! Whom it waits for, and in which order: that is for whoever holds it to know, and to know again after a restart.

use std::sync::Arc;

use baton_execution::{Ending, Fault, HistoryEvent, HistoryEventKind, Input, Start, fault_type};
use baton_proto::{ExecutionResource, Timestamp, condition, decode_event, encode_event};
use baton_store::TimerRow;
use baton_types::Phase;

use crate::{
    api::{Held, Released},
    entry::{AfterCommit, EXECUTION_TIMER, Entry},
    errors,
    history::StoreBlobs,
    hosted,
    message::Reply,
    steps,
    stored::HeldStart,
    worker::{Shared, now_ms},
};

/// Keeps the first step of a new execution for later.
pub(crate) fn hold(entry: &mut Entry, start: Start, timeout_ms: Option<u64>, held: &Held) {
    let event = HistoryEvent { number: 0, time_ms: 0, kind: HistoryEventKind::Input(Input::Started(start)) };
    let started = encode_event(&event, &mut entry.draft.blobs);
    entry.extra.held = Some(HeldStart { started: Some(started), timeout_ms: timeout_ms.unwrap_or(0) });
    *entry.resource.start_time_mut() = None;
    entry.resource.set_phase(Phase::Pending);
    let at = Timestamp::from_millis(now_ms());
    entry.resource.set_condition(condition::WAITING, true, &held.reason, &held.message, at);
}

/// Lets an execution that is held take its first step.
pub(crate) fn release(shared: &Arc<Shared>, entry: &mut Entry, released: Released, reply: Reply<ExecutionResource>) {
    if entry.is_closed() || entry.extra.held.is_none() {
        return entry.draft.after.push(AfterCommit::Resource(reply));
    }
    if !steps::ensure_running(shared, entry) {
        return drop(reply.send(Err(errors::stalled(entry.stalled.as_deref()))));
    }
    let held = entry.extra.held.take().unwrap_or_default();
    let now = now_ms();
    *entry.resource.start_time_mut() = Some(Timestamp::from_millis(now));
    entry.resource.set_condition(condition::WAITING, false, "NotWaiting", "", Timestamp::from_millis(now));
    (released.change)(&mut entry.resource);
    entry.draft.put = true;
    if held.timeout_ms > 0 {
        entry.extra.timeout_at_ms = now.saturating_add(i64::try_from(held.timeout_ms).unwrap_or(i64::MAX));
        let row = TimerRow { due_ms: entry.extra.timeout_at_ms, n: entry.number, id: EXECUTION_TIMER };
        entry.draft.timers_set.push(row);
    }
    match start_of(shared, &held) {
        Ok(start) => begin(shared, entry, Start { carried_over: released.carried_over, ..start }),
        Err(why) => {
            let fault = Fault::new(fault_type::RUNTIME, 500, why).non_retryable();
            steps::finish(shared, entry, &Ending::Failed { fault, partial_output: None });
        }
    }
    steps::write_running_status(shared, entry);
    entry.draft.after.push(AfterCommit::Resource(reply));
}

fn start_of(shared: &Shared, held: &HeldStart) -> Result<Start, String> {
    let event = held.started.as_ref().ok_or("what the execution was to begin with is missing")?;
    match decode_event(event, &StoreBlobs::new(&shared.store)).map_err(|error| error.to_string())?.kind {
        HistoryEventKind::Input(Input::Started(start)) => Ok(start),
        HistoryEventKind::Input(_) | HistoryEventKind::Command(_) => {
            Err("what the execution was to begin with is something else".to_owned())
        }
    }
}

/// The first step of an execution.
pub(crate) fn begin(shared: &Arc<Shared>, entry: &mut Entry, start: Start) {
    if entry.extra.hosted {
        return hosted::start(shared, entry, start);
    }
    if entry.resource.suspend() {
        steps::feed(shared, entry, Input::Suspended);
    }
    steps::feed(shared, entry, Input::Started(start));
    if let Some(why) = entry.stalled.clone() {
        // Nothing of it has happened yet, so nothing can be gone on with later.
        let fault = Fault::new(fault_type::RUNTIME, 500, why).non_retryable();
        steps::finish(shared, entry, &Ending::Failed { fault, partial_output: None });
    }
}
