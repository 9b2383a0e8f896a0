//! The outbox: telling callers how an execution ended, and callees that nobody waits any more.
//!
//! A row is written in the transaction of the step that it tells of. It is dispatched when that is durable, again
//! after a restart, and again with a growing pause until it was accepted, rejected for good, or its deadline passed.

use std::{panic::AssertUnwindSafe, sync::Arc};

use baton_execution::{OperationId, Outcome};
use baton_proto::{CallbackState, ExecutionResource, Timestamp, v1::CallbackStatus};
use baton_store::{ExecState, Guard, Lane, MailboxRow, OutboxRow, OutboxUpdate, Txn};
use baton_types::{ApiError, ErrorKind, parse_duration};
use futures::FutureExt as _;
use prost::Message as _;

use crate::{
    CALLBACK_DEADLINE_DEFAULT, CALLBACK_FINALIZER, callers, changes,
    entry::{AfterCommit, Entry, OutboxMessage},
    errors,
    host::Delivery,
    hosted,
    message::{Ack, AnswerReply, DeliveryResult, Message, MessageKind, Reply},
    sealer::Claims,
    status,
    stored::ReturnAddress,
    worker::{Shared, now_ms},
};

/// First and longest pause between two attempts, in milliseconds.
const RETRY_MS: (i64, i64) = (1000, 5 * 60 * 1000);
/// How long an answer stays in a mailbox at least, in milliseconds.
const UNREAD_MS: i64 = 24 * 3600 * 1000;
/// Holders of a return address read at a time.
const HOLDERS_PAGE: usize = 200;

/// Sets one row of the outbox going. Its result comes back as a message.
pub(crate) fn dispatch(shared: &Arc<Shared>, entry: &mut Entry, row: &OutboxRow) {
    let result = match OutboxMessage::decode(row.body.clone()) {
        Ok(OutboxMessage { host: Some(_), .. }) => return hosted::dispatch(shared, entry, row),
        Ok(message) if message.fingerprint.is_empty() => return tell_holders(shared, entry, row, &message),
        Ok(message) => {
            match entry.extra.addresses.iter().find(|address| address.fingerprint == message.fingerprint).cloned() {
                Some(address) => return send_answer(shared, entry, row, &address),
                None => DeliveryResult::Done,
            }
        }
        Err(_) => DeliveryResult::Done,
    };
    shared.route.send(Message {
        number: entry.number,
        kind: MessageKind::Delivered { outbox_id: row.id, fingerprint: String::new(), result },
    });
}

fn send_answer(shared: &Arc<Shared>, entry: &Entry, row: &OutboxRow, address: &ReturnAddress) {
    let number = entry.number;
    let fingerprint = address.fingerprint.clone();
    let outcome = status::outcome_of(&entry.resource);
    let token = address.token(&shared.sealer, entry.uid).unwrap_or_default();
    match shared.sealer.open_token(&token) {
        None => {
            let outcome = if came_late(&entry.resource, &fingerprint) { for_good(outcome) } else { outcome };
            send_elsewhere(shared, number, row.id, fingerprint, token, outcome);
        }
        Some(claims) if claims.is_mailbox() => {
            let (route, outbox_id) = (Arc::clone(&shared.route), row.id);
            put_in_mailbox(shared, &claims, &outcome, move |result| {
                let result = match result {
                    Ok(()) => DeliveryResult::Delivered,
                    Err(error)
                        if matches!(
                            error.kind,
                            baton_types::ErrorKind::NotFound
                                | baton_types::ErrorKind::FailedPrecondition
                                | baton_types::ErrorKind::Conflict
                        ) =>
                    {
                        DeliveryResult::Rejected(error.to_string())
                    }
                    Err(error) => DeliveryResult::Failed(error.to_string()),
                };
                route.send(Message { number, kind: MessageKind::Delivered { outbox_id, fingerprint, result } });
            });
        }
        Some(claims) => {
            let used = entry.extra.used.as_ref().map(|used| Box::new(baton_proto::decode_used(used)));
            let reply = AnswerReply::Outbox { number, outbox_id: row.id };
            shared.route.send(Message {
                number: claims.number,
                kind: MessageKind::Answer { claims, fingerprint, outcome, used, reply },
            });
        }
    }
}

/// Whether a return address was added to an execution that had ended.
fn came_late(resource: &ExecutionResource, fingerprint: &str) -> bool {
    let ended = resource.completion_time().copied().flatten().map(|at| at.as_millis());
    let mut all = resource.callbacks().into_iter().flatten();
    let added = all.find(|it| it.fingerprint == fingerprint).and_then(|it| it.added_time).map(|at| at.as_millis());
    ended.is_some_and(|ended| added.is_some_and(|added| added > ended))
}

/// The same outcome for a caller that came after the end: were it to repeat its call, it would be told the same again.
fn for_good(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(fault) => Outcome::Failed(fault.non_retryable()),
        outcome @ (Outcome::Completed(_) | Outcome::Cancelled { .. }) => outcome,
    }
}

/// Tells a caller that waits elsewhere.
fn send_elsewhere(
    shared: &Arc<Shared>,
    number: i64,
    outbox_id: i64,
    fingerprint: String,
    token: Vec<u8>,
    outcome: Outcome,
) {
    let route = Arc::clone(&shared.route);
    let settle = move |result| {
        route.send(Message { number, kind: MessageKind::Delivered { outbox_id, fingerprint, result } });
    };
    let Some(receiver) = callers::receiver_of(shared, &token).map(Arc::clone) else {
        let why = "this server is not configured to answer tokens of this kind";
        return settle(DeliveryResult::Failed(why.to_owned()));
    };
    shared.runtime.spawn(async move {
        let delivery = AssertUnwindSafe(receiver.deliver(&token, &outcome)).catch_unwind().await;
        let broken = |_panic| Delivery::Failed("the receiver met a problem of its own".to_owned());
        settle(match delivery.unwrap_or_else(broken) {
            Delivery::Accepted => DeliveryResult::Delivered,
            Delivery::Rejected(why) => DeliveryResult::Rejected(why),
            Delivery::Failed(why) => DeliveryResult::Failed(why),
        });
    });
}

/// Puts an answer in the mailbox of a caller outside; `done` hears of it once it is durable.
pub(crate) fn put_in_mailbox(
    shared: &Arc<Shared>,
    claims: &Claims,
    outcome: &Outcome,
    done: impl FnOnce(Result<(), ApiError>) + Send + 'static,
) {
    let refused = |error: ApiError| Err(error);
    let id: [u8; 16] = claims.uid.as_slice().try_into().unwrap_or_default();
    let body = match serde_json::to_vec(outcome) {
        Ok(body) => body,
        Err(error) => return done(refused(ApiError::internal(error.to_string()))),
    };
    match shared.store.mailbox(&id) {
        Ok(Some(row)) if row.answered && row.body == body => return done(Ok(())),
        Ok(Some(row)) if row.answered => {
            return done(refused(errors::already_completed(&fingerprint_of(shared, claims))));
        }
        Ok(Some(_)) => {}
        Ok(None) => return done(refused(errors::callback_gone(&fingerprint_of(shared, claims)))),
        Err(error) => return done(refused(errors::read_failed(&error))),
    }
    let txn = Txn {
        guards: vec![Guard::MailboxUnanswered(id)],
        mailbox_put: vec![MailboxRow {
            id,
            expires_ms: claims.expires_ms.max(now_ms() + UNREAD_MS),
            answered: true,
            body: body.into(),
        }],
        ..Txn::default()
    };
    let (told, fingerprint) = (Arc::clone(shared), fingerprint_of(shared, claims));
    let when_done = move |result: Result<_, baton_store::CommitError>| {
        let result = match result {
            Ok(_) => {
                told.mailbox_answered.notify_waiters();
                Ok(())
            }
            Err(baton_store::CommitError::Conflict { .. } | baton_store::CommitError::Exists { .. }) => {
                Err(errors::already_completed(&fingerprint))
            }
            Err(error) => Err(errors::commit_failed(&error)),
        };
        done(result);
    };
    shared.store.commit(Lane::Internal, txn, Box::new(when_done));
}

fn fingerprint_of(shared: &Shared, claims: &Claims) -> String {
    baton_types::fingerprint(shared.sealer.mint(claims).as_bytes())
}

/// Tells whoever holds a token of this execution's wait (or of any, if the row names none) that nobody waits any more. If it
/// cannot be done now, the row stays and is dispatched again.
fn tell_holders(shared: &Arc<Shared>, entry: &Entry, row: &OutboxRow, message: &OutboxMessage) {
    if !entry.given_up.is_empty() {
        // A child that is being created would not be found yet.
        return;
    }
    let operation = (!message.position.is_empty()).then(|| OperationId::new(message.position.clone(), message.attempt));
    let mut holders = Vec::new();
    let mut after = 0;
    loop {
        let page = match shared.store.by_owner(*entry.uid.as_bytes(), after, HOLDERS_PAGE) {
            Ok(page) => page.items,
            Err(error) => {
                return tracing::error!(execution_id = %entry.uid, %error, "callees could not be told that nobody waits; trying again");
            }
        };
        let Some(last) = page.last() else { break };
        after = last.number;
        holders.extend(
            page.iter()
                .filter(|holder| matches!(holder.state, ExecState::Active | ExecState::Parked))
                .map(|holder| holder.number),
        );
    }
    if holders.is_empty() {
        let kind =
            MessageKind::Delivered { outbox_id: row.id, fingerprint: String::new(), result: DeliveryResult::Done };
        return shared.route.send(Message { number: entry.number, kind });
    }
    let ack = Arc::new(Ack::new(entry.number, row.id, holders.len(), Arc::clone(&shared.route)));
    for number in holders {
        let ack = Some(Arc::clone(&ack));
        let kind = MessageKind::CallerGone { caller: entry.uid, operation: operation.clone(), ack };
        shared.route.send(Message { number, kind });
    }
}

/// Records how an attempt went.
pub(crate) fn settled(
    _shared: &Arc<Shared>,
    entry: &mut Entry,
    outbox_id: i64,
    fingerprint: &str,
    result: DeliveryResult,
) {
    let now = now_ms();
    let at = Timestamp::from_millis(now);
    let deadline = deadline_ms(&entry.resource);
    let number = entry.number;
    let pending = entry
        .resource
        .callbacks_mut()
        .iter_mut()
        .find(|it| it.fingerprint == fingerprint && it.state == CallbackState::Pending.as_str());
    let Some(callback) = pending else {
        // Not an answer, or one that was settled before: the row is done with.
        return entry.draft.outbox_delete.push(outbox_id);
    };
    callback.attempts = callback.attempts.saturating_add(1);
    callback.last_attempt_time = Some(at);
    callback.next_attempt_time = None;
    let state = match result {
        DeliveryResult::Delivered | DeliveryResult::Done => {
            callback.last_error.clear();
            CallbackState::Delivered
        }
        DeliveryResult::Rejected(why) => {
            callback.last_error = why;
            CallbackState::Rejected
        }
        DeliveryResult::Failed(why) => {
            callback.last_error = why;
            if now >= deadline { CallbackState::Abandoned } else { CallbackState::Pending }
        }
    };
    state.as_str().clone_into(&mut callback.state);
    let attempts = u32::try_from(callback.attempts).unwrap_or(u32::MAX);
    if state == CallbackState::Pending {
        let next_at_ms = (now + pause_ms(outbox_id, attempts)).min(deadline);
        callback.next_attempt_time = Some(Timestamp::from_millis(next_at_ms));
        entry.draft.outbox_update.push(OutboxUpdate { id: outbox_id, n: number, next_at_ms, attempts, body: None });
    } else {
        callback.settled_time = Some(at);
        entry.draft.outbox_delete.push(outbox_id);
        metrics::counter!("baton_callbacks_settled_total", "state" => state.as_str()).increment(1);
    }
    release_when_settled(entry);
    status::write_callback_condition(&mut entry.resource, at);
    entry.draft.put = true;
}

/// Takes the finalizer off once every caller was told, and lets a deletion that waited for it go on.
fn release_when_settled(entry: &mut Entry) {
    let open = |state: &str| state == CallbackState::Pending.as_str() || state == CallbackState::Waiting.as_str();
    if entry.resource.callbacks().is_some_and(|all| all.iter().any(|it| open(&it.state))) {
        return;
    }
    entry.resource.metadata_mut().finalizers.retain(|finalizer| finalizer != CALLBACK_FINALIZER);
    changes::delete_if_free(entry);
}

fn deadline_ms(resource: &ExecutionResource) -> i64 {
    let allowed = parse_duration(resource.callback_deadline()).unwrap_or(CALLBACK_DEADLINE_DEFAULT);
    let ended = resource.completion_time().copied().flatten().map_or_else(now_ms, |at| at.as_millis());
    ended.saturating_add(i64::try_from(allowed.as_millis()).unwrap_or(i64::MAX))
}

/// Doubling pauses, shortened by up to a quarter in a way that differs from row to row, so that they do not come together.
fn pause_ms(outbox_id: i64, attempts: u32) -> i64 {
    let whole = RETRY_MS.0.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(RETRY_MS.1);
    let spread = outbox_id.wrapping_mul(2_654_435_761).wrapping_add(i64::from(attempts)).rem_euclid(256);
    whole - whole / 4 * spread / 256
}

/// Tries answers again that are pending or were given up.
pub(crate) fn retry(
    shared: &Arc<Shared>,
    entry: &mut Entry,
    fingerprint: Option<&str>,
    reply: Reply<ExecutionResource>,
) {
    let wanted = |callback: &CallbackStatus| fingerprint.is_none_or(|wanted| wanted == callback.fingerprint);
    if fingerprint.is_some() && !entry.resource.callbacks().is_some_and(|all| all.iter().any(&wanted)) {
        let message = format!("no return address with the fingerprint '{}'", fingerprint.unwrap_or_default());
        return drop(reply.send(Err(ApiError::new(ErrorKind::NotFound, "NOT_FOUND", message))));
    }
    let rows = match shared.store.outbox_by_execution(entry.number) {
        Ok(rows) => rows.items,
        Err(error) => return drop(reply.send(Err(errors::read_failed(&error)))),
    };
    let again = [CallbackState::Pending.as_str(), CallbackState::Rejected.as_str(), CallbackState::Abandoned.as_str()];
    let mut chosen = Vec::new();
    for callback in entry.resource.callbacks_mut() {
        if again.contains(&callback.state.as_str()) && wanted(callback) {
            CallbackState::Pending.as_str().clone_into(&mut callback.state);
            callback.settled_time = None;
            chosen.push(callback.fingerprint.clone());
        }
    }
    if chosen.is_empty() {
        return drop(reply.send(Ok(entry.resource.clone())));
    }
    for fingerprint in chosen {
        let says = |row: &&OutboxRow| {
            OutboxMessage::decode(row.body.clone()).is_ok_and(|message| message.fingerprint == fingerprint)
        };
        match rows.iter().find(says) {
            Some(row) => dispatch(shared, entry, row),
            None => {
                crate::steps::push_outbox(shared, entry, &OutboxMessage { fingerprint, ..OutboxMessage::default() });
            }
        }
    }
    changes::hold_for_callers(entry);
    status::write_callback_condition(&mut entry.resource, Timestamp::from_millis(now_ms()));
    entry.draft.put = true;
    entry.draft.after.push(AfterCommit::Resource(reply));
}
