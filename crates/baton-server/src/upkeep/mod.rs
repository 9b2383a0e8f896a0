//! The server's own reconciler: engine repair, objects past their time, dependents of objects that are gone, old data.
//!
//! One task, woken by a period and by deletions. What wakes it never alters what it does: it looks at the present state,
//! acts by the same calls as everybody else, and can run twice. What a round finds much of (expired objects, rows of
//! deleted ones) is done in steps with everything else between them, until there is no more of it.
//!
//! # Invariants
//! - A dependent is removed only if every owner that it names is gone: one that remains keeps it.
//! - An execution that may outlive its parent (`spec.parentClosePolicy: Abandon`) is not removed while it runs.
//!
//! # Failure
//! What cannot be done now is logged and done in a later round; nothing here stops the server.

mod expired;
mod held;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, future::ready, time::Duration};

use baton_proto::{Resource, kind, v1};
use baton_store::{ExecState, Keep, Store, StoreError, StoredResource};
use baton_types::{ApiError, ErrorKind, Uid};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, App, ServedResource},
    events, metrics,
};
use expired::Expiry;
use held::Held;

/// Rows looked at in one step of a scan.
const STEP_ROWS: usize = 200;
/// How long after the start the first scan for orphans begins at the latest: recovery goes first.
const FIRST_SCAN_AFTER: Duration = Duration::from_mins(1);
/// Pause between two steps of a scan.
const SCAN_STEP_PERIOD: Duration = Duration::from_millis(200);
/// How often old changes are dropped.
const COMPACT_PERIOD: Duration = Duration::from_mins(5);
/// Transactions waiting for the committer above which sweeping waits.
const SWEEP_QUEUE_MAX: usize = 64;
/// Pause until sweeping looks again whether it has to wait.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Steps of sweeping after which other upkeep has its turn.
const SWEEP_STEPS_MAX: usize = 50;
/// How often owners that a finalizer holds are looked at.
const HELD_PERIOD: Duration = Duration::from_secs(1);
/// Free pages given back in one round.
const VACUUM_PAGES: u32 = 256;

/// How often, and what to keep.
#[derive(Clone, Copy, Debug)]
pub struct UpkeepOptions {
    /// Time between two rounds.
    pub period: Duration,
    /// Pause between two scans of all objects for such whose owners are gone. Dependents that the store finds by their
    /// owner go at once; the others wait for the scan.
    pub scan_period: Duration,
    /// How much of the change history to keep for watches.
    pub keep: Keep,
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        Self { period: Duration::from_secs(30), scan_period: Duration::from_hours(1), keep: Keep::default() }
    }
}

/// The kinds whose objects can be owned.
const KINDS: [&str; 10] = [
    kind::WORKFLOW_EXECUTION,
    kind::AGENT_EXECUTION,
    kind::WORKFLOW,
    kind::AGENT,
    kind::SECRET,
    kind::APPROVAL,
    kind::MCP_SERVER,
    kind::SKILL,
    kind::SESSION,
    kind::ARTIFACT,
];

pub(crate) struct Upkeep {
    app: App,
    options: UpkeepOptions,
    compact_at: Instant,
    scan: Scan,
    held: Held,
    /// `None` once everything that was past its time at the last round was looked at.
    expiry: Option<Expiry>,
    /// `None` once there is nothing more to sweep.
    sweep_at: Option<Instant>,
}

/// What came of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removed {
    /// It is done, or it failed in a way that says nothing about others.
    Settled,
    /// The store takes no more for now.
    NotNow,
}

/// Where the scan for orphans stands.
struct Scan {
    kind: usize,
    after: Option<(String, String)>,
}

impl Upkeep {
    pub(crate) fn new(app: App, options: UpkeepOptions) -> Self {
        Self {
            app,
            options,
            compact_at: Instant::now() + COMPACT_PERIOD,
            scan: Scan { kind: 0, after: None },
            held: Held::default(),
            expiry: None,
            sweep_at: None,
        }
    }

    /// Works until the server stops.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        let mut rounds = interval(self.options.period);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut steps = interval_at(Instant::now() + FIRST_SCAN_AFTER.min(self.options.scan_period), SCAN_STEP_PERIOD);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(HELD_PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.find_held().await;
        loop {
            let (expiry, sweep_at) = (self.expiry, self.sweep_at);
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = rounds.tick() => self.round().await,
                () = self.app.collection_wanted() => self.collect().await,
                Some(expiry) = ready(expiry) => self.expire(expiry).await,
                () = sleep_until(sweep_at.unwrap_or_else(Instant::now)), if sweep_at.is_some() => self.sweep().await,
                _ = looks.tick(), if !self.held.is_empty() => self.look_at_held().await,
                _ = steps.tick() => {
                    if self.scan_step().await {
                        steps.reset_after(self.options.scan_period);
                    }
                }
            }
        }
    }

    async fn round(&mut self) {
        if let Ok(engine) = self.app.engine() {
            let report = engine.reconcile().await;
            metrics::reconciler_found("answer_missing", report.answers_missing);
            metrics::reconciler_found("child_missing", report.children_missing);
            metrics::reconciler_found("caller_gone", report.callers_gone);
            metrics::resident(engine.resident());
        }
        self.expiry = Some(Expiry::begin());
        self.sweep_at = Some(Instant::now());
        self.collect().await;
        self.maintain().await;
        metrics::upkeep();
    }

    /// One page of the expired objects; what they leave behind is to be swept.
    async fn expire(&mut self, expiry: Expiry) {
        self.expiry = self.remove_expired(expiry).await;
        self.sweep_at.get_or_insert_with(Instant::now);
    }

    /// Dependents of objects that were deleted since the last time.
    async fn collect(&mut self) {
        let mut owners: VecDeque<Uid> = self.app.take_owners_gone();
        while let Some(owner) = owners.pop_front() {
            if let Err(failed) = self.collect_of(owner).await {
                // The scan finds what is left.
                log("collect dependents", &failed);
            }
        }
    }

    async fn collect_of(&mut self, owner: Uid) -> Result<(), ApiError> {
        if let Some(stored) = self.find(owner).await? {
            if stored.deleting {
                self.held.insert(owner);
            }
            return Ok(());
        }
        let mut after = 0;
        loop {
            let page = self.app.read(move |store| store.by_owner(*owner.as_bytes(), after, STEP_ROWS)).await?;
            let Some(last) = page.items.last() else { return Ok(()) };
            after = last.number;
            for stored in &page.items {
                self.remove_if_orphan(stored).await?;
            }
        }
    }

    /// One step through all objects; whether the scan is through.
    async fn scan_step(&mut self) -> bool {
        let kind = KINDS[self.scan.kind];
        let (rows, next) = match self.app.rows_of(kind, self.scan.after.take(), STEP_ROWS).await {
            Ok(page) => page,
            Err(failed) => {
                log("look for orphans", &failed);
                return true;
            }
        };
        for stored in &rows {
            if let Err(failed) = self.remove_if_orphan(stored).await {
                log("look for orphans", &failed);
            }
        }
        self.scan.after = next;
        if self.scan.after.is_none() {
            self.scan.kind = (self.scan.kind + 1) % KINDS.len();
            return self.scan.kind == 0;
        }
        false
    }

    async fn remove_if_orphan(&self, stored: &StoredResource) -> Result<(), ApiError> {
        if stored.deleting {
            return Ok(());
        }
        let (owners, abandoned) = owners_of(stored)?;
        if owners.is_empty() || (abandoned && stored.state != ExecState::Closed) {
            return Ok(());
        }
        for owner in owners {
            if self.find(owner).await?.is_some() {
                return Ok(());
            }
        }
        self.remove(stored, "owner_gone").await;
        Ok(())
    }

    async fn find(&self, uid: Uid) -> Result<Option<StoredResource>, ApiError> {
        self.app.read(move |store| store.get_by_uid(*uid.as_bytes())).await
    }

    async fn remove(&self, stored: &StoredResource, cause: &'static str) -> Removed {
        let removed = match stored.key.kind.as_ref() {
            kind::WORKFLOW => self.remove_as::<v1::Workflow>(stored).await,
            kind::AGENT => self.remove_as::<v1::Agent>(stored).await,
            kind::SECRET => self.remove_as::<v1::Secret>(stored).await,
            kind::MCP_SERVER => self.remove_as::<v1::McpServer>(stored).await,
            kind::APPROVAL => self.remove_as::<v1::Approval>(stored).await,
            kind::SKILL => self.remove_as::<v1::Skill>(stored).await,
            kind::SESSION => self.remove_as::<v1::Session>(stored).await,
            kind::ARTIFACT => self.remove_as::<v1::Artifact>(stored).await,
            kind::WORKFLOW_EXECUTION => self.remove_as::<v1::WorkflowExecution>(stored).await,
            kind::AGENT_EXECUTION => self.remove_as::<v1::AgentExecution>(stored).await,
            events::EVENT | events::SUBSCRIPTION => events::forget(self.app.store(), stored).await,
            _ => return Removed::Settled,
        };
        match removed {
            Ok(()) => metrics::object_collected(cause),
            // Somebody was quicker.
            Err(failed) if matches!(failed.kind, ErrorKind::NotFound | ErrorKind::Conflict) => {}
            Err(failed) => {
                log("remove an object", &failed);
                if is_not_now(failed.kind) {
                    return Removed::NotNow;
                }
            }
        }
        Removed::Settled
    }

    async fn remove_as<R: ServedResource>(&self, stored: &StoredResource) -> Result<(), ApiError> {
        let request = v1::DeleteRequest {
            namespace: stored.key.namespace.clone(),
            name: stored.key.name.clone(),
            uid: Uid::from_bytes(stored.uid).to_string(),
            resource_version: String::new(),
        };
        self.app.delete::<R>(&request).await.map(|_| ())
    }

    async fn maintain(&mut self) {
        let compact = Instant::now() >= self.compact_at;
        if compact {
            self.compact_at = Instant::now() + COMPACT_PERIOD;
        }
        let (now, keep) = (app::now_ms(), self.options.keep);
        let done = self.app.read(move |store| {
            if compact {
                store.compact(now, keep)?;
            }
            store.vacuum(VACUUM_PAGES)
        });
        if let Err(failed) = done.await {
            log("maintain the store", &failed);
        }
    }

    /// Some steps of deleting what deleted objects left behind.
    async fn sweep(&mut self) {
        let now = app::now_ms();
        self.sweep_at = match self.app.read(move |store| sweep(store, now)).await {
            Ok(pause) => pause.map(|pause| Instant::now() + pause),
            Err(failed) => {
                log("sweep the store", &failed);
                None
            }
        };
    }
}

/// When to go on; `None` if there is nothing more.
fn sweep(store: &Store, now_ms: i64) -> Result<Option<Duration>, StoreError> {
    for _ in 0..SWEEP_STEPS_MAX {
        if store.stats()?.queue_operations > SWEEP_QUEUE_MAX {
            return Ok(Some(SWEEP_PAUSE));
        }
        if !store.sweep(now_ms)?.more {
            return Ok(None);
        }
    }
    Ok(Some(Duration::ZERO))
}

/// The owners that an object names, and whether it may outlive them.
fn owners_of(stored: &StoredResource) -> Result<(Vec<Uid>, bool), ApiError> {
    let owners = |meta: Option<&v1::ObjectMeta>| {
        meta.map(|meta| meta.owner_references.iter().filter_map(|owner| owner.uid.parse().ok()).collect())
            .unwrap_or_default()
    };
    Ok(match stored.key.kind.as_ref() {
        kind::WORKFLOW => (owners(v1::Workflow::decode_stored(&stored.body, stored.revision)?.metadata()), false),
        kind::AGENT => (owners(v1::Agent::decode_stored(&stored.body, stored.revision)?.metadata()), false),
        kind::SECRET => (owners(v1::Secret::decode_stored(&stored.body, stored.revision)?.metadata()), false),
        kind::MCP_SERVER => (owners(v1::McpServer::decode_stored(&stored.body, stored.revision)?.metadata()), false),
        kind::APPROVAL => (owners(v1::Approval::decode_stored(&stored.body, stored.revision)?.metadata()), false),
        kind::ARTIFACT => (owners(v1::Artifact::decode_stored(&stored.body, stored.revision)?.metadata()), false),
        kind::SKILL => (owners(v1::Skill::decode_stored(&stored.body, stored.revision)?.metadata()), false),
        kind::SESSION => (owners(v1::Session::decode_stored(&stored.body, stored.revision)?.metadata()), false),
        kind::WORKFLOW_EXECUTION | kind::AGENT_EXECUTION => {
            let execution = baton_engine::decode_stored(&stored.key.kind, &stored.body, stored.revision)?;
            (owners(Some(execution.metadata())), execution.parent_close_policy() == "Abandon")
        }
        _ => (Vec::new(), false),
    })
}

/// Whether a failure tells that there is no room or no server now, rather than what is wrong with one object.
fn is_not_now(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ResourceExhausted | ErrorKind::StorageFull | ErrorKind::Unavailable | ErrorKind::Timeout)
}

fn log(doing: &'static str, failed: &ApiError) {
    if is_not_now(failed.kind) && failed.kind != ErrorKind::StorageFull {
        tracing::debug!(doing, "not now: {failed}");
    } else {
        tracing::warn!(doing, detail = failed.detail, "upkeep: {failed}");
    }
}
