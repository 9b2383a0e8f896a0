//! Changes of an execution's resource that come from the API: metadata, suspend, return addresses, deletion.

use std::sync::Arc;

use baton_execution::Input;
use baton_proto::{CallbackState, ExecutionResource, Timestamp};
use baton_types::{ApiError, ErrorKind};

use crate::{
    CALLBACK_FINALIZER,
    api::{Created, Deleted},
    callers,
    entry::{AfterCommit, Entry, OutboxMessage},
    errors,
    message::{Change, Reply},
    status, steps,
    stored::ReturnAddress,
    worker::{Shared, now_ms},
};

/// Most return addresses of one execution.
const RETURN_ADDRESSES_MAX: usize = 256;

pub(crate) fn update(shared: &Arc<Shared>, entry: &mut Entry, change: Change, reply: Reply<ExecutionResource>) {
    let mut changed = entry.resource.clone();
    if let Err(refusal) = change(&mut changed) {
        return drop(reply.send(Err(refusal)));
    }
    if changed == entry.resource {
        return reply_when_durable(entry, reply);
    }
    let (was, is) = (entry.resource.suspend(), changed.suspend());
    // One that has not begun looks at it when it does.
    let told = was != is && !entry.is_closed() && entry.extra.held.is_none();
    if told && !steps::ensure_running(shared, entry) {
        return drop(reply.send(Err(errors::stalled(entry.stalled.as_deref()))));
    }
    entry.resource = changed;
    entry.draft.put = true;
    if told {
        steps::feed(shared, entry, if is { Input::Suspended } else { Input::Resumed });
        steps::write_running_status(shared, entry);
    }
    if entry.resource.metadata().deletion_timestamp.is_some()
        && entry.resource.metadata().finalizers.is_empty()
        && entry.is_closed()
    {
        entry.draft.delete = true;
    }
    entry.draft.after.push(AfterCommit::Resource(reply));
}

fn reply_when_durable(entry: &mut Entry, reply: Reply<ExecutionResource>) {
    if entry.draft.is_empty() {
        drop(reply.send(Ok(entry.resource.clone())));
    } else {
        entry.draft.after.push(AfterCommit::Resource(reply));
    }
}

pub(crate) fn delete(shared: &Arc<Shared>, entry: &mut Entry, expected_revision: Option<u64>, reply: Reply<Deleted>) {
    if let Some(expected) = expected_revision.filter(|expected| *expected != entry.revision) {
        let message = format!(
            "'{}' changed since it was read: resourceVersion is {}, the request has {expected}",
            entry.resource.metadata().name,
            entry.revision
        );
        return drop(reply.send(Err(ApiError::new(ErrorKind::Conflict, "CONFLICT", message))));
    }
    if entry.resource.metadata().deletion_timestamp.is_none() {
        let metadata = entry.resource.metadata_mut();
        metadata.deletion_timestamp = Some(Timestamp::from_millis(now_ms()).whole_seconds());
        metadata.generation = metadata.generation.saturating_add(1);
        entry.draft.put = true;
    }
    if !entry.is_closed() {
        steps::finish_as(shared, entry, "Deleted", "the execution was deleted");
    } else if entry.resource.metadata().finalizers.is_empty() {
        entry.draft.delete = true;
    }
    entry.draft.after.push(AfterCommit::Deleted { reply });
}

/// Deletes an execution for whose deletion somebody asked, if nothing holds it any more.
pub(crate) fn delete_if_free(entry: &mut Entry) -> bool {
    let metadata = entry.resource.metadata();
    let free = entry.is_closed() && metadata.deletion_timestamp.is_some() && metadata.finalizers.is_empty();
    entry.draft.delete |= free;
    free
}

pub(crate) fn attach(shared: &Arc<Shared>, entry: &mut Entry, token: &[u8], reply: Reply<ExecutionResource>) {
    match add_address(shared, entry, token) {
        Ok(()) => reply_when_durable(entry, reply),
        Err(refusal) => drop(reply.send(Err(refusal))),
    }
}

/// A deletion is to wait until callers were told.
pub(crate) fn hold_for_callers(entry: &mut Entry) {
    let finalizers = &mut entry.resource.metadata_mut().finalizers;
    if !finalizers.iter().any(|finalizer| finalizer == CALLBACK_FINALIZER) {
        finalizers.push(CALLBACK_FINALIZER.to_owned());
    }
}

/// Adds a return address; one that is known already changes nothing. An ended execution answers at once.
fn add_address(shared: &Arc<Shared>, entry: &mut Entry, token: &[u8]) -> Result<(), ApiError> {
    let address = ReturnAddress::new(&shared.sealer, entry.uid, token);
    if entry.extra.addresses.iter().any(|known| known.fingerprint == address.fingerprint) {
        return Ok(());
    }
    if entry.extra.addresses.len() >= RETURN_ADDRESSES_MAX {
        let message = format!(
            "'{}' has {RETURN_ADDRESSES_MAX} return addresses, which is the limit",
            entry.resource.metadata().name
        );
        return Err(ApiError::new(ErrorKind::ResourceExhausted, "CALLBACKS_LIMIT", message));
    }
    let at = Timestamp::from_millis(now_ms());
    let fingerprint = address.fingerprint.clone();
    let receiver = callers::receiver_name(shared, token);
    let state = if entry.is_closed() { CallbackState::Pending } else { CallbackState::Waiting };
    entry.resource.callbacks_mut().push(status::new_callback(fingerprint.clone(), receiver, state, at));
    entry.extra.addresses.push(address);
    hold_for_callers(entry);
    if entry.is_closed() {
        steps::push_outbox(shared, entry, &OutboxMessage { fingerprint, ..OutboxMessage::default() });
    }
    callers::watch(entry);
    status::write_callback_condition(&mut entry.resource, at);
    entry.draft.put = true;
    Ok(())
}

/// A create under a taken name: the same request again gets the existing execution, and its token is added.
pub(crate) fn repeat(
    shared: &Arc<Shared>,
    entry: &mut Entry,
    request_id: &str,
    spec_digest: &[u8],
    token: &[u8],
    reply: Reply<Created>,
) {
    let (kind, name) = (entry.resource.kind(), entry.resource.metadata().name.clone());
    let refusal = if request_id.is_empty() || entry.resource.request_id() != request_id {
        Some(format!("{kind} '{name}' exists already"))
    } else if entry.extra.spec_digest != spec_digest {
        Some(format!("{kind} '{name}' exists already: it was created with the same requestId and another spec"))
    } else {
        None
    };
    if let Some(message) = refusal {
        let error = ApiError::new(ErrorKind::AlreadyExists, "ALREADY_EXISTS", message);
        return drop(reply.send(Err(
            error.hint("choose another metadata.name, or repeat the request with the same spec.requestId and content"),
        )));
    }
    if !token.is_empty()
        && let Err(refusal) = add_address(shared, entry, token)
    {
        return drop(reply.send(Err(refusal)));
    }
    if entry.draft.is_empty() {
        drop(reply.send(Ok(Created { resource: entry.resource.clone(), existing: true })));
    } else {
        entry.draft.after.push(AfterCommit::Created { reply, existing: true });
    }
}
