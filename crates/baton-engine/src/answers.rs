//! Answers to waits, and the heartbeats of those who work on them.

use std::sync::Arc;

use baton_execution::{Fault, HistoryEventKind, Input, OperationId, Outcome, Used, fault_type};
use baton_store::TimerRow;
use baton_types::{ApiError, ErrorKind, Phase};
use prost::Message as _;

use crate::{
    PAYLOAD_BYTES_MAX,
    api::Heartbeat,
    entry::{AfterCommit, Entry, Record},
    errors, hosted,
    message::{AnswerReply, DeliveryResult, Message, MessageKind},
    sealer::Claims,
    steps::{ensure_running, feed, write_running_status},
    worker::{Shared, now_ms},
};

/// What is answered.
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) used: Option<Used>,
}

pub(crate) fn answer(
    shared: &Arc<Shared>,
    entry: &mut Entry,
    claims: &Claims,
    fingerprint: String,
    answer: Answer,
    reply: AnswerReply,
) {
    let Answer { outcome, used } = answer;
    let outcome = &outcome;
    match take_answer(shared, entry, claims, &fingerprint, outcome, used) {
        Ok(()) => entry.draft.after.push(AfterCommit::Answered { reply, fingerprint }),
        // The same answer once more, before its first taking is durable: it shares the fate of that.
        Err(_) if matches!(reply, AnswerReply::Outbox { .. }) && is_under_way(entry, &claims.operation(), outcome) => {
            entry.draft.after.push(AfterCommit::Answered { reply, fingerprint });
        }
        Err(refusal) => match reply {
            AnswerReply::Caller(reply) => drop(reply.send(Err(refusal))),
            AnswerReply::Outbox { number, outbox_id } => {
                let result = match refusal.kind {
                    ErrorKind::Unavailable | ErrorKind::Internal => DeliveryResult::Failed(refusal.to_string()),
                    _ if was_answered_so(shared, entry, &claims.operation(), outcome) => DeliveryResult::Delivered,
                    _ => DeliveryResult::Rejected(refusal.to_string()),
                };
                shared.route.send(Message { number, kind: MessageKind::Delivered { outbox_id, fingerprint, result } });
            }
        },
    }
    write_running_status(shared, entry);
}

fn take_answer(
    shared: &Arc<Shared>,
    entry: &mut Entry,
    claims: &Claims,
    fingerprint: &str,
    outcome: &Outcome,
    used: Option<Used>,
) -> Result<(), ApiError> {
    if claims.uid() != Some(entry.uid) {
        return Err(errors::callback_gone(fingerprint));
    }
    let id = claims.operation();
    if entry.is_closed() {
        return Err(errors::already_completed(fingerprint));
    }
    if !ensure_running(shared, entry) {
        let why = entry.stalled.clone().unwrap_or_default();
        return Err(ApiError::new(
            ErrorKind::Unavailable,
            "EXECUTION_STALLED",
            format!("the execution that waits is stalled: {why}"),
        ));
    }
    let Some(execution) = &entry.execution else { return Err(errors::already_completed(fingerprint)) };
    if hosted::answered(entry, &id).is_some() {
        return Err(errors::already_completed(fingerprint));
    }
    if !execution.open.waits.contains_key(&id) {
        let newer = execution.open.waits.keys().find(|open| open.position == id.position && open.attempt > id.attempt);
        return Err(match newer {
            Some(open) => errors::stale_attempt(fingerprint, id.attempt, open.attempt),
            None => errors::already_completed(fingerprint),
        });
    }
    if execution.asks(&id) {
        return Err(errors::token_unknown(fingerprint));
    }
    if claims.expires_ms < now_ms() {
        return Err(errors::token_expired(fingerprint));
    }
    entry.heartbeats.remove(&id);
    if feed(shared, entry, Input::CallbackAnswered { id, outcome: outcome.clone(), used }) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorKind::Unavailable,
        "EXECUTION_STALLED",
        "the execution that waits could not take the answer",
    ))
}

fn is_under_way(entry: &Entry, id: &OperationId, outcome: &Outcome) -> bool {
    if let Some(answered) = hosted::answered(entry, id) {
        return answered.digest == hosted::outcome_digest(outcome);
    }
    entry.draft.step.events.iter().any(|event| match &event.kind {
        HistoryEventKind::Input(Input::CallbackAnswered { id: answered, outcome: recorded, .. }) => {
            answered == id && recorded == outcome
        }
        HistoryEventKind::Input(_) | HistoryEventKind::Command(_) => false,
    })
}

/// Whether history holds this very answer: a delivery that is repeated after a crash did arrive the first time.
fn was_answered_so(shared: &Arc<Shared>, entry: &Entry, id: &OperationId, outcome: &Outcome) -> bool {
    if let Some(answered) = hosted::answered(entry, id) {
        return answered.digest == hosted::outcome_digest(outcome);
    }
    let blobs = crate::history::StoreBlobs::new(&shared.store);
    let mut from = 1;
    while let Ok(records) = shared.store.journal(entry.number, from, 256) {
        let Some(last) = records.last() else { return false };
        from = last.seq + 1;
        for event in records
            .iter()
            .filter_map(|record| Record::decode(record.body.clone()).ok())
            .flat_map(|record| record.events)
        {
            if let Ok(event) = baton_proto::decode_event(&event, &blobs)
                && let HistoryEventKind::Input(Input::CallbackAnswered { id: answered, outcome: recorded, .. }) =
                    &event.kind
                && answered == id
            {
                return recorded == outcome;
            }
        }
    }
    false
}

pub(crate) fn heartbeat(
    shared: &Arc<Shared>,
    entry: &mut Entry,
    claims: &Claims,
    fingerprint: String,
) -> Result<Heartbeat, ApiError> {
    if claims.uid() != Some(entry.uid) {
        return Err(errors::callback_gone(&fingerprint));
    }
    if entry.is_closed() {
        return if entry.resource.phase() == Phase::Completed {
            Err(errors::already_completed(&fingerprint))
        } else {
            Ok(Heartbeat { fingerprint, cancel_requested: true })
        };
    }
    ensure_running(shared, entry);
    let id = claims.operation();
    let open = entry.execution.as_ref().is_some_and(|execution| execution.open.waits.contains_key(&id));
    if !open || hosted::answered(entry, &id).is_some() {
        return Err(errors::already_completed(&fingerprint));
    }
    entry.heartbeats.insert(id, now_ms());
    Ok(Heartbeat { fingerprint, cancel_requested: false })
}

/// Whether the timer of a wait's heartbeats is done with.
pub(crate) fn heartbeat_due(shared: &Arc<Shared>, entry: &mut Entry, row: TimerRow) -> bool {
    let Some(execution) = &entry.execution else { return false };
    let Some((id, wait)) = execution.open.waits.iter().find(|(_, wait)| wait.event == -row.id) else { return true };
    let timeout_ms = i64::try_from(wait.heartbeat_timeout_ms.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
    // Heartbeats are not recorded: whoever was heard before a restart has the whole time again.
    let unheard_ms = row.due_ms.saturating_sub(timeout_ms).max(shared.started_ms);
    let heard_ms = entry.heartbeats.get(id).copied().unwrap_or(unheard_ms);
    let due_ms = heard_ms.saturating_add(timeout_ms);
    if due_ms > now_ms() {
        entry.draft.timers_set.push(TimerRow { due_ms, ..row });
        return true;
    }
    let detail = format!("no heartbeat came within {timeout_ms} ms");
    let fault = Fault::new(fault_type::TIMEOUT, 408, detail).at(&id.position);
    let id = id.clone();
    feed(shared, entry, Input::CallbackAnswered { id, outcome: Outcome::Failed(fault), used: None })
}

/// Refuses an outcome that no receiver takes.
pub(crate) fn check_payload(outcome: &Outcome) -> Result<(), ApiError> {
    let (what, size) = match outcome {
        Outcome::Completed(output) => ("output", output.to_string().len()),
        Outcome::Failed(fault) => ("fault", serde_json::to_string(fault).map_or(usize::MAX, |text| text.len())),
        Outcome::Cancelled { reason } => ("reason", reason.len()),
    };
    if size <= PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    let message = format!("{what} has {size} bytes, allowed are at most {PAYLOAD_BYTES_MAX}");
    Err(ApiError::new(ErrorKind::TooLarge, "CALLBACK_PAYLOAD_TOO_LARGE", message)
        .hint("store the data elsewhere and answer with a reference to it"))
}
