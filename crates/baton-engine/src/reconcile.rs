//! The reconciler: compares executions, waits and outbox, and repairs what does not fit.
//!
//! It reads the present state, acts by the same messages that everything else uses, and can run twice. Each call looks at
//! what has work to do, and at the next stretch of all executions, so that its cost is the same however many there are.

use std::sync::Arc;

use baton_execution::OperationId;
use baton_proto::{CallbackState, kind};
use baton_store::{ExecState, ListQuery, Number, ResourceKey, StoreError, StoredResource};
use baton_types::Uid;
use futures::StreamExt as _;

use crate::{
    effects::child_name,
    engine::Engine,
    host::HostState,
    message::{Message, MessageKind},
    stored::Row,
    worker::{Shared, now_ms},
};

/// Executions of each kind that one call looks at.
const STRETCH: usize = 500;

/// Where the scan of each kind stands.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    after: [Option<(String, String)>; 2],
}

/// What a call found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReconcileReport {
    /// Executions looked at.
    pub examined: usize,
    /// Executions with work to do that were (or are) to be in memory.
    pub active: usize,
    /// Ended, with an answer to give and nothing that would give it.
    pub answers_missing: usize,
    /// Waiting for a child that does not exist.
    pub children_missing: usize,
    /// Running for a caller that has ended.
    pub callers_gone: usize,
    /// Running at the host, which had ended without a word.
    pub ended_at_host: usize,
}

/// How long an end at the host may stay unseen by the quick look, in milliseconds: longer than the pause between two rounds.
const QUICK_LOOK_MS: i64 = 10 * 60 * 1000;
/// Questions in a row that the host may leave without an answer before a round is given up.
const UNHEARD_MAX: usize = 2 * ASKED_TOGETHER;
/// Workflows that the host is asked about at a time.
const ASKED_TOGETHER: usize = 16;

impl Engine {
    /// Compares and repairs once. Called at start and periodically.
    pub async fn reconcile(&self) -> ReconcileReport {
        let engine = self.clone();
        let work = tokio::task::spawn_blocking(move || engine.reconcile_now());
        match work.await {
            Ok(Ok((mut report, hosted))) => {
                report.ended_at_host = self.reconcile_hosted(hosted).await;
                report
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the reconciler cannot read the store; trying again later");
                ReconcileReport::default()
            }
            Err(error) => {
                tracing::error!(%error, "the reconciler stopped");
                ReconcileReport::default()
            }
        }
    }

    /// Compares executions with their workflows at the host: those of this stretch, and those that ended lately there.
    async fn reconcile_hosted(&self, mut hosted: Vec<Hosted>) -> usize {
        let Some(host) = &self.shared.elsewhere.host else { return 0 };
        match host.ended_since(now_ms() - QUICK_LOOK_MS).await {
            Ok(ended) => {
                let engine = self.clone();
                let open = move || ended.into_iter().filter_map(|uid| engine.open_at_host(uid)).collect::<Vec<_>>();
                hosted.extend(tokio::task::spawn_blocking(open).await.unwrap_or_default());
            }
            Err(error) => {
                tracing::debug!(%error, "the host cannot be asked which workflows have ended");
                return 0;
            }
        }
        hosted.sort_unstable();
        hosted.dedup();
        let asked = futures::stream::iter(hosted)
            .map(|(number, workflow_id)| async move { (number, host.state(&workflow_id).await) })
            .buffer_unordered(ASKED_TOGETHER);
        let (mut ended, mut unheard) = (0, 0);
        let mut asked = std::pin::pin!(asked);
        while let Some((number, state)) = asked.next().await {
            let Ok(state) = state else {
                unheard += 1;
                if unheard < UNHEARD_MAX {
                    continue;
                }
                break;
            };
            unheard = 0;
            ended += usize::from(!matches!(state, HostState::Running { .. }));
            self.shared.route.send(Message { number, kind: MessageKind::HostState(state) });
        }
        ended
    }

    /// An execution that has not ended here.
    fn open_at_host(&self, uid: Uid) -> Option<Hosted> {
        let stored = self.shared.store.get_by_uid(*uid.as_bytes()).ok()??;
        // Most have.
        if stored.state == ExecState::Closed {
            return None;
        }
        hosted_of(&Row::read(&stored, &self.shared.sealer).ok()?)
    }

    fn reconcile_now(&self) -> Result<(ReconcileReport, Vec<Hosted>), StoreError> {
        let shared = &self.shared;
        let mut hosted = Vec::new();
        let mut report = ReconcileReport::default();
        let mut after = 0;
        loop {
            let page = shared.store.active(after, STRETCH)?;
            let Some(last) = page.last() else { break };
            after = *last;
            report.active += page.len();
            for number in page {
                shared.route.send(Message { number, kind: MessageKind::Recover });
            }
        }
        let mut cursors = self.scan.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (index, of) in [kind::WORKFLOW_EXECUTION, kind::AGENT_EXECUTION].into_iter().enumerate() {
            let query = ListQuery { after: cursors.after[index].take(), ..ListQuery::new(of, STRETCH) };
            let page = shared.store.list(&query)?;
            cursors.after[index] = page.last.filter(|_| page.more);
            for stored in &page.items {
                report.examined += 1;
                examine(shared, stored, &mut report, &mut hosted)?;
            }
        }
        Ok((report, hosted))
    }
}

/// An execution by its number, and its workflow.
type Hosted = (Number, String);

/// The workflow of an execution that has not ended here, if it was started.
fn hosted_of(row: &Row) -> Option<Hosted> {
    let workflow_id = row.resource.temporal_workflow_id().filter(|id| !id.is_empty())?;
    (row.extra.hosted && row.state != ExecState::Closed).then(|| (row.number, workflow_id.clone()))
}

fn examine(
    shared: &Arc<Shared>,
    stored: &StoredResource,
    report: &mut ReconcileReport,
    hosted: &mut Vec<Hosted>,
) -> Result<(), StoreError> {
    let Ok(row) = Row::read(stored, &shared.sealer) else { return Ok(()) };
    let number = row.number;
    hosted.extend(hosted_of(&row));
    if row.state == ExecState::Closed {
        let pending = row
            .resource
            .callbacks()
            .is_some_and(|all| all.iter().any(|it| it.state == CallbackState::Pending.as_str()));
        if pending && shared.store.outbox_by_execution(number)?.items.is_empty() {
            report.answers_missing += 1;
            let (reply, _nobody) = tokio::sync::oneshot::channel();
            shared.route.send(Message { number, kind: MessageKind::RetryCallbacks { fingerprint: None, reply } });
        }
        return Ok(());
    }
    for wait in row.resource.waiting_for().into_iter().flatten().filter(|wait| wait.reason == "Child") {
        let Some((position, attempt)) = wait.operation.rsplit_once('#') else { continue };
        let name = child_name(
            &row.resource.metadata().name,
            row.uid,
            &OperationId::new(position, attempt.parse().unwrap_or(1)),
        );
        if !child_exists(shared, &row.resource.metadata().namespace, &name)? {
            report.children_missing += 1;
            shared.route.send(Message { number, kind: MessageKind::ChildMissing { position: wait.operation.clone() } });
        }
    }
    if let Some(owner) = row.owner
        && owner_has_ended(shared, owner)?
        && row.resource.parent_close_policy() != "Abandon"
    {
        report.callers_gone += 1;
        shared
            .route
            .send(Message { number, kind: MessageKind::CallerGone { caller: owner, operation: None, ack: None } });
    }
    Ok(())
}

pub(crate) fn child_exists(shared: &Shared, namespace: &str, name: &str) -> Result<bool, StoreError> {
    for of in [kind::AGENT_EXECUTION, kind::WORKFLOW_EXECUTION] {
        if shared.store.get(&ResourceKey::new(of, namespace, name))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn owner_has_ended(shared: &Shared, owner: Uid) -> Result<bool, StoreError> {
    Ok(shared.store.get_by_uid(*owner.as_bytes())?.is_none_or(|stored| stored.state == ExecState::Closed))
}
