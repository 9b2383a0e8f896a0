//! One workflow with a schedule, as the scheduler keeps it.

use std::sync::Arc;

use baton_proto::{Resource, Timestamp, v1};
use baton_store::StoredResource;
use baton_types::{ApiError, Digest, Uid};
use baton_workflow::{Schedule, schedule};
use serde_json::Value;

use super::{
    plan,
    policy::{Concurrency, Policy},
    rows::{ACTIVE_MAX, Place, Progress, Tracked},
    start::{Blueprint, Ended, Job, Start, Started},
    status::Shown,
};
use crate::{app::ServedResource as _, metrics};

/// Namespace and name of a workflow.
pub(super) type Key = Arc<(String, String)>;

/// Pauses before what could not be done is tried again, in milliseconds.
const PAUSE_MS_MIN: i64 = 1000;
const PAUSE_MS_MAX: i64 = 60_000;

/// Ended executions of a workflow that wait to be deleted, with those that are kept; beyond it they are left to others.
const PUT_BACK_MAX: usize = 1000;

/// An ended execution that is one too many.
pub(super) struct Surplus {
    pub(super) execution: Tracked,
    completed: bool,
}

/// What a workflow says about its schedule.
pub(super) struct Spec {
    pub(super) uid: Uid,
    pub(super) generation: i32,
    pub(super) created_ms: i64,
    pub(super) schedule: Arc<Schedule>,
    pub(super) policy: Policy,
    pub(super) blueprint: Arc<Blueprint>,
    /// Of what the times and the events depend on.
    pub(super) fingerprint: String,
}

/// What was found in a workflow's row.
pub(super) enum Found {
    /// It has a schedule.
    Scheduled(Box<Spec>),
    /// It has none, or is being deleted; whether its status still tells of one.
    Unscheduled { shown: bool },
}

/// Identity and generation of a stored workflow: as long as both are the same, so is its schedule.
pub(super) fn version(row: &v1::Workflow) -> Option<(Uid, i32)> {
    let meta = row.metadata()?;
    Some((meta.uid.parse().ok()?, meta.generation))
}

/// Decodes a workflow's row.
///
/// # Errors
/// A row that is none.
pub(super) fn decode(body: &bytes::Bytes, revision: u64) -> Result<v1::Workflow, ApiError> {
    v1::Workflow::decode_stored(body, revision)
}

impl Spec {
    /// Reads a workflow.
    ///
    /// # Errors
    /// What this version does not accept of a schedule that another version admitted.
    pub(super) fn read(workflow: &v1::Workflow) -> Result<Found, String> {
        let meta = workflow.metadata.clone().unwrap_or_default();
        let spec = workflow.spec.clone().unwrap_or_default();
        let shown = workflow.status.as_ref().is_some_and(super::status::shows);
        let text = spec.definition.as_ref().map(|definition| definition.text.as_str()).unwrap_or_default();
        // Most workflows have none, and their documents may be large.
        if meta.deletion_timestamp.is_some() || !text.contains("\"schedule\"") {
            return Ok(Found::Unscheduled { shown });
        }
        let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let found = schedule(&document).map_err(|violations| ApiError::violations(violations).message)?;
        let Some(schedule) = found else { return Ok(Found::Unscheduled { shown }) };
        let mut violations = Vec::new();
        let policy = Policy::read(&spec, &mut violations);
        if !violations.is_empty() {
            return Err(ApiError::violations(violations).message);
        }
        let uid: Uid = meta.uid.parse().map_err(|error: baton_types::UidParseError| error.to_string())?;
        let identity = format!("{}\n{}\n{}", document["schedule"], document["evaluate"], spec.time_zone);
        Ok(Found::Scheduled(Box::new(Self {
            uid,
            generation: meta.generation,
            created_ms: meta.creation_timestamp.map_or(0, |time| time.as_millis()),
            schedule: Arc::new(schedule),
            policy,
            blueprint: Arc::new(Blueprint {
                namespace: meta.namespace,
                workflow: meta.name,
                uid,
                input: spec.input,
                env: spec.env,
                ttl_seconds: spec.ttl_seconds_after_finished,
            }),
            fingerprint: Digest::of(identity.as_bytes()).to_string(),
        })))
    }
}

/// A workflow with a schedule.
pub(super) struct Entry {
    pub(super) spec: Spec,
    pub(super) progress: Progress,
    pub(super) place: Option<Place>,
    /// When to look at it next, as the queue has it.
    pub(super) queued_ms: Option<i64>,
    /// Until when nothing is tried, and how long that was.
    pub(super) held: Option<Held>,
    /// Since when starts by events are counted, and how many there were.
    window: (i64, usize),
    /// Why the last start was refused.
    pub(super) refused: Option<String>,
    /// Whether the row in the store, and what the workflow shows, may be old.
    pub(super) row_is_old: bool,
    pub(super) status_is_old: bool,
}

/// A pause.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) until_ms: i64,
    pause_ms: i64,
}

impl Entry {
    /// Of a workflow that was not known to this scheduler; `row` is how far it had come.
    pub(super) fn new(spec: Spec, row: Option<(Progress, Place)>, now_ms: i64, revision: u64) -> Self {
        // The first time that it is seen, it may have been created before a crash.
        let since_ms = if spec.generation == 1 && row.is_none() { spec.created_ms } else { now_ms };
        let (progress, place) = row.map_or((Progress::default(), None), |(progress, place)| (progress, Some(place)));
        let mut entry = Self {
            spec,
            progress,
            place,
            queued_ms: None,
            held: None,
            window: (0, 0),
            refused: None,
            row_is_old: false,
            status_is_old: true,
        };
        entry.settle(since_ms, revision);
        entry
    }

    /// Takes over another version of the workflow.
    pub(super) fn change(&mut self, spec: Spec, now_ms: i64, revision: u64) {
        self.spec = spec;
        (self.held, self.refused, self.status_is_old) = (None, None, true);
        self.settle(now_ms, revision);
    }

    /// Begins anew where the schedule is another one or is resumed.
    fn settle(&mut self, since_ms: i64, revision: u64) {
        let (spec, progress) = (&self.spec, &mut self.progress);
        let another = progress.fingerprint != spec.fingerprint;
        let resumed = progress.suspended && !spec.policy.suspend;
        if another {
            progress.fingerprint.clone_from(&spec.fingerprint);
            progress.gathered = baton_workflow::Gathered::default();
            progress.anchor_ms = spec.created_ms;
        }
        if another || resumed {
            (progress.since_ms, progress.cursor) = (since_ms, revision);
        }
        if another || progress.suspended != spec.policy.suspend {
            progress.suspended = spec.policy.suspend;
            self.row_is_old = true;
        }
    }

    /// Whether events start its executions.
    pub(super) fn hears(&self) -> bool {
        matches!(*self.spec.schedule, Schedule::On(_)) && !self.spec.policy.suspend
    }

    /// When there is next something to do.
    pub(super) fn due_ms(&self) -> Option<i64> {
        let due = plan::next_due(&self.spec.schedule, &self.spec.policy, &self.progress);
        match (due, self.held) {
            (Some(due), Some(held)) => Some(due.max(held.until_ms)),
            (None, Some(held)) if self.hears() => Some(held.until_ms),
            (due, _) => due,
        }
    }

    /// What is to be done now, and how far it has come once that is done.
    pub(super) fn look(&self, now_ms: i64) -> Option<(Job, Progress)> {
        let now = plan::plan(&self.spec.schedule, &self.spec.policy, &self.progress, now_ms);
        let looked_at = now.looked_at?;
        metrics::schedule_started("overlapping", now.overlapping);
        metrics::schedule_started("missed", now.missed);
        let in_minutes = matches!(*self.spec.schedule, Schedule::Cron(_));
        let start = |scheduled_ms: i64| Start {
            suffix: (scheduled_ms / if in_minutes { 60_000 } else { 1000 }).to_string(),
            scheduled_ms,
            input: None,
        };
        let starts = now.starts.into_iter().map(start).collect();
        let mut next = self.progress.clone();
        next.looked_at_ms = Some(looked_at);
        Some((self.job(starts, now.replace), next))
    }

    /// Starts of executions, by events.
    pub(super) fn heard(&self, starts: Vec<Start>) -> Job {
        let running = !self.progress.active.is_empty();
        let concurrency = self.spec.policy.concurrency;
        let (starts, left_out) = plan::overlap(starts, concurrency, running);
        metrics::schedule_started("overlapping", left_out);
        let replace = concurrency == Concurrency::Replace && !starts.is_empty();
        self.job(starts, replace)
    }

    fn job(&self, starts: Vec<Start>, replace: bool) -> Job {
        let active = self.progress.active.iter().filter(|_| replace);
        let cancel = active.map(|execution| execution.name.clone()).collect();
        Job { blueprint: Arc::clone(&self.spec.blueprint), cancel, starts }
    }

    /// Takes what was started.
    pub(super) fn done(&mut self, next: Progress, started: Vec<Started>, refused: Option<&ApiError>) {
        self.progress = next;
        self.held = None;
        self.refused = refused.map(|refused| refused.message.clone());
        for Started { execution, scheduled_ms, ended } in started {
            self.progress.last_ms = self.progress.last_ms.max(Some(scheduled_ms));
            match ended {
                Some(ended) => self.ended(execution, ended),
                None if self.progress.active.contains(&execution) || self.progress.active.len() >= ACTIVE_MAX => {}
                None => self.progress.active.push(execution),
            }
        }
        (self.row_is_old, self.status_is_old) = (true, true);
    }

    /// Waits before it is tried again.
    pub(super) fn hold(&mut self, now_ms: i64) {
        let pause_ms = self.held.map_or(PAUSE_MS_MIN, |held| (held.pause_ms * 2).min(PAUSE_MS_MAX));
        self.held = Some(Held { until_ms: now_ms + pause_ms, pause_ms });
    }

    /// How many executions events may start now. With none left, it waits for the next second.
    pub(super) fn allowance(&mut self, now_ms: i64) -> usize {
        if now_ms.saturating_sub(self.window.0).unsigned_abs() >= 1000 {
            self.window = (now_ms, 0);
        }
        plan::STARTS_MAX.saturating_sub(self.window.1)
    }

    /// Uses some of the allowance.
    pub(super) fn spend(&mut self, count: usize) {
        self.window.1 += count;
    }

    /// Waits for more allowance.
    pub(super) fn wait_for_allowance(&mut self) {
        self.held = Some(Held { until_ms: self.window.0 + 1000, pause_ms: 0 });
    }

    /// Takes the end of an execution that it started.
    pub(super) fn ended(&mut self, execution: Tracked, ended: Ended) {
        self.progress.active.retain(|it| *it != execution);
        self.progress.ended_ms = self.progress.ended_ms.max(Some(ended.time_ms));
        let policy = &self.spec.policy;
        let (limit, kept) = if ended.completed {
            self.progress.completed_ms = self.progress.completed_ms.max(Some(ended.time_ms));
            (policy.successful_limit, &mut self.progress.successful)
        } else {
            (policy.failed_limit, &mut self.progress.failed)
        };
        if limit.is_some() && !kept.contains(&execution) {
            kept.push(execution);
        }
        (self.row_is_old, self.status_is_old) = (true, true);
    }

    /// The end of an execution by its uid.
    pub(super) fn ended_by_uid(&mut self, uid: Uid, ended: Ended) {
        if let Some(execution) = self.progress.active.iter().find(|it| it.uid == uid).cloned() {
            self.ended(execution, ended);
        }
    }

    /// Ended executions that are one too many; they are no longer counted.
    pub(super) fn take_surplus(&mut self) -> Vec<Surplus> {
        let Progress { successful, failed, .. } = &mut self.progress;
        let policy = &self.spec.policy;
        let mut surplus = Vec::new();
        for (limit, kept, completed) in
            [(policy.successful_limit, successful, true), (policy.failed_limit, failed, false)]
        {
            let count = limit.map_or(0, |limit| kept.len().saturating_sub(limit));
            surplus.extend(kept.drain(..count).map(|execution| Surplus { execution, completed }));
            if limit.is_none() {
                kept.clear();
            }
        }
        self.row_is_old |= !surplus.is_empty();
        surplus
    }

    /// An execution that was one too many is to stay for a while, with those that are to go next.
    pub(super) fn put_back(&mut self, surplus: Surplus) {
        let Progress { successful, failed, .. } = &mut self.progress;
        let kept = if surplus.completed { successful } else { failed };
        if kept.len() < PUT_BACK_MAX {
            kept.insert(0, surplus.execution);
            self.row_is_old = true;
        }
    }

    /// What the workflow's status is to show.
    pub(super) fn shown(&self) -> Shown {
        let time = |millis: Option<i64>| millis.map(|millis| Timestamp::from_millis(millis).whole_seconds());
        let active = self.progress.active.iter().map(|it| v1::ExecutionReference {
            kind: v1::WorkflowExecution::KIND.to_owned(),
            name: it.name.clone(),
            uid: it.uid.to_string(),
            position: String::new(),
        });
        let (scheduled, reason, message) = match (&self.refused, self.spec.policy.suspend) {
            (_, true) => (false, "Suspended", String::new()),
            (Some(refused), false) => (false, "StartRefused", refused.clone()),
            (None, false) => (true, "Kept", self.spec.schedule.to_string()),
        };
        Shown {
            last: time(self.progress.last_ms),
            next: time(plan::next_due(&self.spec.schedule, &self.spec.policy, &self.progress)),
            successful: time(self.progress.completed_ms),
            active: active.collect(),
            scheduled,
            reason,
            message,
        }
    }
}

/// The key of a workflow's row.
pub(super) fn key_of(row: &StoredResource) -> Key {
    Arc::new((row.key.namespace.clone(), row.key.name.clone()))
}
