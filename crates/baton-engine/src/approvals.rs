//! Questions of executions to people, as resources of the kind `Approval`.
//!
//! An approval is written by the worker of its execution and nobody else: with the step that asks, with the decision, and
//! with the step that closes the wait. So it says what the history says, whatever happens in between.
//!
//! # Invariants
//! - A decision is taken once: it closes the wait in the transaction that records it.
//! - What was decided counts for the digest of the arguments that were asked about, and for no other.
//! - A question whose wait is closed takes no decision, whatever its row says; a row that says otherwise is mended.
//!
//! # Failure
//! A row that cannot be read when its wait closes keeps its phase; the next decision on it mends it.

use std::sync::Arc;

use baton_execution::{Choice, Decision, Input, OperationId, Question, QuestionKind, arguments_digest};
use baton_proto::{
    Resource as _, Timestamp, kind,
    v1::{Approval, ApprovalSpec, ApprovalStatus, ExecutionReference, Json, ObjectMeta, OwnerReference},
};
use baton_store::{ExecState, Expect, Number, ResourceKey, ResourcePut};
use baton_types::{ApiError, ErrorKind, Uid, Violation};
use prost::Message as _;
use serde_json::Value;

use crate::{
    effects::child_name,
    entry::{AfterCommit, Entry},
    errors,
    execution::Asked,
    hosted,
    message::Reply,
    steps,
    worker::{Shared, now_ms},
};

/// Phase of an approval that is to be decided.
const PENDING: &str = "Pending";
const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const EXPIRED: &str = "Expired";
const CANCELLED: &str = "Cancelled";

/// What somebody decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Decide {
    /// Which of the choices.
    pub choice: Choice,
    /// Who decides.
    pub decided_by: String,
    /// Why.
    pub reason: String,
    /// The digest that was looked at; empty if none was named, which is enough for what has no call made.
    pub arguments_digest: String,
    /// What the call is to be made with instead.
    pub arguments: Option<Value>,
    /// With [`Choice::Result`], what the call gave.
    pub result: Option<Value>,
}

/// An approval that is to be written with the next transaction.
#[derive(Clone, Debug)]
pub(crate) struct ApprovalRow {
    approval: Approval,
    uid: Uid,
    number: Number,
    /// `None` if it is new.
    revision: Option<u64>,
    owner: Uid,
}

impl ApprovalRow {
    pub(crate) fn put(&self) -> ResourcePut {
        let metadata = self.approval.metadata.clone().unwrap_or_default();
        ResourcePut {
            key: ResourceKey::new(kind::APPROVAL, metadata.namespace, metadata.name),
            uid: *self.uid.as_bytes(),
            number: self.number,
            expect: self.revision.map_or(Expect::Absent, Expect::Revision),
            body: self.approval.encode_to_vec().into(),
            labels: None,
            state: ExecState::None,
            owner: Some(*self.owner.as_bytes()),
            expires_at_ms: None,
            deleting: false,
        }
    }

    fn name(&self) -> &str {
        self.approval.metadata.as_ref().map_or("", |metadata| &metadata.name)
    }

    fn status(&mut self) -> &mut ApprovalStatus {
        self.approval.status.get_or_insert_default()
    }

    fn spec(&self) -> ApprovalSpec {
        self.approval.spec.clone().unwrap_or_default()
    }
}

/// The name of the approval of a question: the same whenever it is asked for.
pub(crate) fn name_of(entry: &Entry, id: &OperationId) -> String {
    child_name(&entry.resource.metadata().name, entry.uid, id)
}

/// Writes what the step did with questions into the approvals.
pub(crate) fn settle(shared: &Arc<Shared>, entry: &mut Entry) {
    for asked in std::mem::take(&mut entry.draft.step.questions) {
        entry.draft.put = true;
        match asked {
            Asked::Opened(question) => {
                let row = opened(shared, entry, &question);
                entry.draft.approvals.push(row);
            }
            Asked::Answered(id) => change(shared, entry, &id, |status, _| {
                status.consumed_time = Some(Timestamp::from_millis(now_ms()));
            }),
            Asked::Closed(id, closed_ms) => change(shared, entry, &id, |status, expires_ms| {
                if status.consumed_time.is_none() {
                    let phase = if closed_ms >= expires_ms { EXPIRED } else { CANCELLED };
                    phase.clone_into(&mut status.phase);
                }
            }),
        }
    }
}

fn opened(shared: &Shared, entry: &Entry, question: &Question) -> ApprovalRow {
    let (uid, now) = (Uid::from_bytes(uuid::Uuid::now_v7().into_bytes()), Timestamp::from_millis(now_ms()));
    let metadata = entry.resource.metadata();
    let mut approval = Approval {
        metadata: Some(ObjectMeta {
            name: name_of(entry, &question.id),
            namespace: metadata.namespace.clone(),
            uid: uid.to_string(),
            generation: 1,
            creation_timestamp: Some(now.whole_seconds()),
            owner_references: vec![OwnerReference {
                api_version: baton_proto::API_VERSION.to_owned(),
                kind: entry.resource.kind().to_owned(),
                name: metadata.name.clone(),
                uid: entry.uid.to_string(),
                controller: true,
                block_owner_deletion: false,
            }],
            ..ObjectMeta::default()
        }),
        spec: Some(ApprovalSpec {
            execution: Some(ExecutionReference {
                kind: entry.resource.kind().to_owned(),
                name: metadata.name.clone(),
                uid: entry.uid.to_string(),
                position: question.id.to_string(),
            }),
            r#type: question.kind.as_str().to_owned(),
            tool: question.tool.clone(),
            server: question.server.clone(),
            arguments: Some(Json::from_value(&question.arguments)),
            arguments_digest: arguments_digest(&question.arguments),
            message: question.message.clone(),
            why: question.why.clone(),
            choices: question.kind.choices().iter().map(|choice| choice.as_str().to_owned()).collect(),
            expires: Some(Timestamp::from_millis(question.expires_ms)),
        }),
        status: Some(ApprovalStatus { observed_generation: 1, phase: PENDING.to_owned(), ..ApprovalStatus::default() }),
        ..Approval::default()
    };
    approval.set_type_meta();
    ApprovalRow { approval, uid, number: shared.store.next_number(), revision: None, owner: entry.uid }
}

/// Changes the status of the approval of a question, which gets its expiry too.
fn change(shared: &Shared, entry: &mut Entry, id: &OperationId, change: impl FnOnce(&mut ApprovalStatus, i64)) {
    let name = name_of(entry, id);
    match load(shared, entry, &name) {
        Ok(Some(mut row)) => {
            let expires_ms = row.spec().expires.map_or(i64::MAX, |time| time.as_millis());
            change(row.status(), expires_ms);
            keep(entry, row);
        }
        Ok(None) => {
            tracing::warn!(execution_id = %entry.uid, name, "an approval is not there any more; its wait ends without it");
        }
        Err(error) => {
            tracing::error!(execution_id = %entry.uid, name, detail = error.detail, %error, "an approval cannot be read; its phase stays as it was");
        }
    }
}

/// An approval as it is to be, or as it is stored.
fn load(shared: &Shared, entry: &Entry, name: &str) -> Result<Option<ApprovalRow>, ApiError> {
    if let Some(row) = entry.draft.approvals.iter().find(|row| row.name() == name) {
        return Ok(Some(row.clone()));
    }
    let key = ResourceKey::new(kind::APPROVAL, entry.resource.metadata().namespace.clone(), name);
    let Some(stored) = shared.store.get(&key).map_err(|error| errors::read_failed(&error))? else { return Ok(None) };
    let approval = Approval::decode(stored.body.clone())
        .map_err(|error| ApiError::internal(format!("{} at revision {}: {error}", stored.key, stored.revision)))?;
    Ok(Some(ApprovalRow {
        approval,
        uid: Uid::from_bytes(stored.uid),
        number: stored.number,
        revision: Some(stored.revision),
        owner: entry.uid,
    }))
}

/// Has a changed approval written with the next transaction.
fn keep(entry: &mut Entry, row: ApprovalRow) {
    match entry.draft.approvals.iter_mut().find(|known| known.number == row.number) {
        Some(known) => *known = row,
        None => entry.draft.approvals.push(row),
    }
}

/// Takes a decision on a question of this execution.
pub(crate) fn decide(shared: &Arc<Shared>, entry: &mut Entry, name: &str, decide: Decide, reply: Reply<()>) {
    match take_decision(shared, entry, name, decide) {
        Ok(()) => entry.draft.after.push(AfterCommit::Decided(reply)),
        Err(refusal) => drop(reply.send(Err(refusal))),
    }
    steps::write_running_status(shared, entry);
}

fn take_decision(shared: &Arc<Shared>, entry: &mut Entry, name: &str, decide: Decide) -> Result<(), ApiError> {
    let namespace = entry.resource.metadata().namespace.clone();
    let mut row = load(shared, entry, name)?.ok_or_else(|| ApiError::not_found(Approval::TITLE, name, &namespace))?;
    if row.status().phase != PENDING {
        return Err(already_decided(&mut row));
    }
    if !entry.is_closed() && !steps::ensure_running(shared, entry) {
        return Err(errors::stalled(entry.stalled.as_deref()));
    }
    let waits = entry.execution.iter().flat_map(|execution| &execution.open.waits);
    let question = waits
        .filter_map(|(id, wait)| wait.asks.map(|kind| (id.clone(), kind, wait.expires_ms)))
        .find(|(id, ..)| hosted::answered(entry, id).is_none() && name_of(entry, id) == name);
    let Some((id, kind, expires_ms)) = question.filter(|_| !entry.is_closed()) else {
        // Its execution ended, or went on, and the row could not be read then.
        CANCELLED.clone_into(&mut row.status().phase);
        let refusal = already_decided(&mut row);
        keep(entry, row);
        return Err(refusal);
    };
    if now_ms() >= expires_ms {
        let message = format!("approval '{name}' has expired: nobody waits for the decision any more");
        return Err(ApiError::new(ErrorKind::Conflict, "APPROVAL_EXPIRED", message));
    }
    let decision = checked(&row, kind, decide)?;
    if let Some(execution) = &entry.execution
        && let Err(wrong) = execution.program().check_decision(&id, &decision)
    {
        let field = if decision.choice == Choice::Result { "result" } else { "arguments" };
        let violations = wrong.into_iter().map(|what| Violation::new(field, what)).collect();
        return Err(ApiError { kind: ErrorKind::Invalid, ..ApiError::violations(violations) });
    }
    let before = entry.draft.approvals.clone();
    write_decision(row.status(), &decision);
    keep(entry, row);
    if steps::feed(shared, entry, Input::CallbackAnswered { id, outcome: decision.into_outcome(), used: None }) {
        return Ok(());
    }
    entry.draft.approvals = before;
    Err(errors::stalled(entry.stalled.as_deref()))
}

/// The decision, if it is one on this very question.
fn checked(row: &ApprovalRow, kind: QuestionKind, decide: Decide) -> Result<Decision, ApiError> {
    let spec = row.spec();
    let mut violations = Vec::new();
    if !kind.choices().contains(&decide.choice) {
        let message =
            format!("'{}' cannot be decided here; allowed are {}", decide.choice.as_str(), quoted(&spec.choices));
        violations.push(Violation::new("decision", message));
    }
    if decide.choice.calls() && decide.arguments_digest.is_empty() {
        let message = "must be given: the digest of the arguments that were looked at, spec.argumentsDigest";
        violations.push(Violation::new("argumentsDigest", message));
    }
    if decide.arguments.is_some() && decide.choice != Choice::Approve {
        violations.push(Violation::new("arguments", "is for the decision 'approve'"));
    }
    if decide.result.is_some() != (decide.choice == Choice::Result) {
        violations.push(Violation::new("result", "must be given for the decision 'result' and for no other"));
    }
    if !violations.is_empty() {
        return Err(ApiError::violations(violations));
    }
    if !decide.arguments_digest.is_empty() && decide.arguments_digest != spec.arguments_digest {
        let message = format!(
            "approval '{}' is for arguments with the digest {}, the decision names {}",
            row.name(),
            spec.arguments_digest,
            decide.arguments_digest
        );
        return Err(ApiError::new(ErrorKind::Conflict, "APPROVAL_DIGEST_DIFFERS", message)
            .hint(format!("look at it again with baton get approval {}", row.name())));
    }
    Ok(Decision {
        choice: decide.choice,
        approval: row.name().to_owned(),
        decided_by: decide.decided_by,
        reason: decide.reason,
        arguments_digest: spec.arguments_digest,
        arguments: decide.arguments,
        result: decide.result,
    })
}

fn write_decision(status: &mut ApprovalStatus, decision: &Decision) {
    (if decision.choice.agrees() { APPROVED } else { DENIED }).clone_into(&mut status.phase);
    decision.choice.as_str().clone_into(&mut status.decision);
    status.decided_by.clone_from(&decision.decided_by);
    status.decided_time = Some(Timestamp::from_millis(now_ms()));
    status.reason.clone_from(&decision.reason);
    if decision.choice.calls() {
        status.arguments = decision.arguments.as_ref().map(Json::from_value);
        status.arguments_digest =
            decision.arguments.as_ref().map_or_else(|| decision.arguments_digest.clone(), arguments_digest);
    }
}

fn already_decided(row: &mut ApprovalRow) -> ApiError {
    let name = row.name().to_owned();
    let status = row.status();
    let by = if status.decided_by.is_empty() { String::new() } else { format!(", by {}", status.decided_by) };
    let message = format!("approval '{name}' is {}{by}; this decision changed nothing", status.phase);
    ApiError::new(ErrorKind::Conflict, "APPROVAL_ALREADY_DECIDED", message)
        .hint(format!("look at it with baton get approval {name}"))
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}
