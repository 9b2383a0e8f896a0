//! Callers that wait elsewhere, behind tokens that are not ours: hearing from them while their callee runs.
//!
//! One durable timer of the execution wakes it for as long as such a caller waits. Every one of them is told that work goes
//! on, and answers whether it is still wanted. When the last one is gone, `spec.parentClosePolicy` holds.

use std::{panic::AssertUnwindSafe, sync::Arc};

use baton_execution::Input;
use baton_proto::{CallbackState, Timestamp};
use baton_store::TimerRow;
use futures::{FutureExt as _, future::join_all};

use crate::{
    entry::Entry,
    host::{CallerState, Receiver},
    message::{Message, MessageKind},
    status, steps,
    worker::{Shared, now_ms},
};

/// Timer id of the callers' heartbeat.
pub(crate) const CALLERS_TIMER: i64 = i64::MIN;
/// Pause before a caller is first told, in milliseconds: most callees of short work have ended by then.
const FIRST_MS: i64 = 500;
/// Pauses between two rounds, in milliseconds.
const PAUSE_MS: (i64, i64) = (100, 60_000);
/// Pause after a round in which a caller could not be asked, in milliseconds.
const UNREACHABLE_MS: i64 = 2_000;
/// Pause while nobody here can ask the callers, in milliseconds.
const NOBODY_ASKS_MS: i64 = 30_000;

/// Who answers a token that is not ours, if anybody here does.
pub(crate) fn receiver_of<'a>(shared: &'a Shared, token: &[u8]) -> Option<&'a Arc<dyn Receiver>> {
    shared.elsewhere.receivers.iter().find(|receiver| receiver.accepts(token).is_some())
}

/// The word for `status.callbacks[].receiver`.
pub(crate) fn receiver_name(shared: &Shared, token: &[u8]) -> &'static str {
    if shared.sealer.open_token(token).is_some() {
        return "baton";
    }
    receiver_of(shared, token).map_or("baton", |receiver| receiver.name())
}

/// Begins to hear from the callers, if one of them waits elsewhere.
pub(crate) fn watch(entry: &mut Entry) {
    let elsewhere = entry.resource.callbacks().is_some_and(|all| all.iter().any(|it| it.receiver != "baton"));
    if elsewhere && entry.extra.callers_timer_ms == 0 && !entry.is_closed() {
        let row = TimerRow { due_ms: now_ms() + FIRST_MS, n: entry.number, id: CALLERS_TIMER };
        entry.extra.callers_timer_ms = row.due_ms;
        entry.draft.timers_set.push(row);
        entry.draft.put = true;
    }
}

/// Hears from them no more.
pub(crate) fn unwatch(entry: &mut Entry) {
    let due_ms = std::mem::take(&mut entry.extra.callers_timer_ms);
    if due_ms > 0 {
        entry.draft.timers_set.retain(|row| row.id != CALLERS_TIMER);
        entry.draft.timers_clear.push(TimerRow { due_ms, n: entry.number, id: CALLERS_TIMER });
    }
}

/// Tells every caller elsewhere that its callee is at work. What they say comes back as a message.
pub(crate) fn due(shared: &Arc<Shared>, entry: &mut Entry, row: TimerRow) {
    if entry.is_closed() || entry.extra.callers_timer_ms != row.due_ms {
        return entry.draft.timers_clear.push(row);
    }
    let waiting = |fingerprint: &str| {
        let all = entry.resource.callbacks().into_iter().flatten();
        all.into_iter().any(|it| it.fingerprint == fingerprint && it.state == CallbackState::Waiting.as_str())
    };
    let calls: Vec<_> = entry
        .extra
        .addresses
        .iter()
        .filter(|address| waiting(&address.fingerprint))
        .filter_map(|address| Some((address.fingerprint.clone(), address.token(&shared.sealer, entry.uid)?)))
        .filter(|(_, token)| shared.sealer.open_token(token).is_none())
        .filter_map(|(fingerprint, token)| Some((fingerprint, Arc::clone(receiver_of(shared, &token)?), token)))
        .map(|(fingerprint, receiver, token)| async move {
            let heard = AssertUnwindSafe(receiver.heartbeat(&token)).catch_unwind().await;
            let broken = |_panic| CallerState::Unreachable("the receiver met a problem of its own".to_owned());
            (fingerprint, heard.unwrap_or_else(broken))
        })
        .collect();
    if calls.is_empty() {
        // One that waits while this server is not configured to ask it is asked again when it is.
        let waits = entry.resource.callbacks().into_iter().flatten().any(|it| it.receiver != "baton" && is_waiting(it));
        return if waits { shared.timers.again_at(row, now_ms() + NOBODY_ASKS_MS) } else { unwatch(entry) };
    }
    let (route, number) = (Arc::clone(&shared.route), entry.number);
    shared.runtime.spawn(async move {
        let heard = join_all(calls).await;
        route.send(Message { number, kind: MessageKind::CallersHeard { row, heard } });
    });
}

/// Takes notice of what the callers said.
pub(crate) fn heard(shared: &Arc<Shared>, entry: &mut Entry, row: TimerRow, heard: Vec<(String, CallerState)>) {
    if entry.is_closed() {
        return;
    }
    let mut pause_ms = PAUSE_MS.1;
    let (mut ended, mut asked) = (None, Vec::new());
    for (fingerprint, state) in heard {
        match state {
            CallerState::Waits { again_after } => {
                pause_ms = pause_ms.min(i64::try_from(again_after.as_millis()).unwrap_or(i64::MAX));
            }
            CallerState::CancelRequested { again_after } => {
                pause_ms = pause_ms.min(i64::try_from(again_after.as_millis()).unwrap_or(i64::MAX));
                asked.push(fingerprint);
            }
            // Its next attempt brings a token of its own. Until then this one stands for it.
            CallerState::Retries(why) if others_wait(entry, &fingerprint) => reject(entry, &fingerprint, why),
            CallerState::Retries(_) | CallerState::Unreachable(_) => pause_ms = pause_ms.min(UNREACHABLE_MS),
            CallerState::Gone(why) => {
                reject(entry, &fingerprint, why.clone());
                ended = Some(why);
            }
        }
    }
    shared.timers.again_at(row, now_ms() + pause_ms.max(PAUSE_MS.0));
    let waiting = entry.resource.callbacks().into_iter().flatten().filter(|it| is_waiting(it)).count();
    let reason = match ended {
        _ if waiting > asked.len() || entry.resource.parent_close_policy() == "Abandon" => return,
        _ if !asked.is_empty() => {
            "the caller was asked to end, and asks its callee to (spec.parentClosePolicy is Cancel)".to_owned()
        }
        Some(why) => format!("the caller is gone (spec.parentClosePolicy is Cancel): {why}"),
        None => return,
    };
    steps::feed(shared, entry, Input::CancelRequested { reason });
    steps::write_running_status(shared, entry);
}

fn is_waiting(callback: &baton_proto::v1::CallbackStatus) -> bool {
    callback.state == CallbackState::Waiting.as_str()
}

fn others_wait(entry: &Entry, fingerprint: &str) -> bool {
    let mut all = entry.resource.callbacks().into_iter().flatten();
    all.any(|it| it.fingerprint != fingerprint && it.receiver != "baton" && is_waiting(it))
}

/// Records that nobody waits behind a token any more.
fn reject(entry: &mut Entry, fingerprint: &str, why: String) {
    let at = Timestamp::from_millis(now_ms());
    if let Some(callback) =
        entry.resource.callbacks_mut().iter_mut().find(|it| it.fingerprint == fingerprint && is_waiting(it))
    {
        CallbackState::Rejected.as_str().clone_into(&mut callback.state);
        callback.last_error = why;
        callback.settled_time = Some(at);
        status::write_callback_condition(&mut entry.resource, at);
        entry.draft.put = true;
    }
}
