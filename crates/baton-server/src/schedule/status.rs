//! What a workflow's status shows of its schedule.

use baton_proto::{Timestamp, condition, set_condition, v1};

use super::entry::Key;
use crate::app::{App, now_ms};

/// What is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) last: Option<Timestamp>,
    pub(super) next: Option<Timestamp>,
    pub(super) successful: Option<Timestamp>,
    pub(super) active: Vec<v1::ExecutionReference>,
    /// The condition: whether executions are started, and why or why not.
    pub(super) scheduled: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Whether a status tells of a schedule.
pub(super) fn shows(status: &v1::WorkflowStatus) -> bool {
    status.last_schedule_time.is_some()
        || status.next_schedule_time.is_some()
        || !status.active.is_empty()
        || status.conditions.iter().any(|it| it.r#type == condition::SCHEDULED)
}

/// Writes it; `None` for a workflow without a schedule. Returns the key once it is written, or there is nothing to write to.
pub(super) async fn write(app: &App, key: Key, uid: baton_types::Uid, shown: Option<Shown>) -> Option<Key> {
    let now = Timestamp::from_millis(now_ms());
    let change = move |workflow: &mut v1::Workflow| {
        let generation = workflow.metadata.as_ref().map_or(0, |meta| meta.generation);
        let status = workflow.status.get_or_insert_default();
        let Some(shown) = &shown else {
            status.conditions.retain(|it| it.r#type != condition::SCHEDULED);
            (status.last_schedule_time, status.next_schedule_time, status.last_successful_time) = (None, None, None);
            status.active.clear();
            return;
        };
        status.last_schedule_time = shown.last;
        status.next_schedule_time = shown.next;
        status.last_successful_time = shown.successful;
        status.active.clone_from(&shown.active);
        let Shown { scheduled, reason, message, .. } = shown;
        set_condition(&mut status.conditions, condition::SCHEDULED, *scheduled, reason, message, generation, now);
    };
    let (namespace, name) = &*key;
    match app.update_status(namespace, name, uid, change).await {
        Ok(()) => Some(key),
        Err(refused) => {
            tracing::debug!(namespace, name, "the status of a schedule is written later: {refused}");
            None
        }
    }
}
