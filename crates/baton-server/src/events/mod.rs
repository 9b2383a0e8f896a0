//! The event bus: CloudEvents in, answers to whoever listens out.
//!
//! [`Bus::publish`] and [`Bus::subscribe`] write rows; [`Router`](router::Router) follows those rows and answers the token of
//! a subscription with the events that its filters let through. A listener subscribes again after the cursor it was told.
//!
//! # Invariants
//! - An event is acknowledged once its row is durable. Its place among the others is the revision of its row: the cursor.
//! - The key of an event's row is its `source` and `id` in its namespace, so an event exists once however often it is sent.
//! - The key of a subscription's row is its token, so it exists once however often it is asked for.
//! - Only committed rows make anything happen, so a crash loses nothing; an answer is taken once, so nothing comes twice.
//! - A token lies in the store sealed, and in no log line.
//!
//! # Deliberately absent
//! The whole of a filter: expressions, data and correlations are the listening Program's to judge. Queues for receivers: who
//! listens while an event is kept is told, however late.
//!
//! # Failure
//! What cannot be answered now is tried again until the subscription expires. When the router cannot go on from where it
//! stood it reads all rows again.

mod event;
mod index;
mod router;
mod rows;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use baton_activities::Subscription;
use baton_engine::Sealer;
use baton_store::{
    Change, ChangeKind, CommitError, Expect, Lane, ResourceDelete, ResourcePut, Store, StoredResource, Txn,
};
use baton_types::{ApiError, Violation};
use futures::future::join_all;
use serde_json::Value;

pub(crate) use event::CloudEvent;
pub(crate) use router::Router;
pub(crate) use rows::{EVENT, SUBSCRIPTION};

use crate::{app, metrics};

/// Most events in one request.
pub(crate) const BATCH_EVENTS_MAX: usize = 100;
/// Most filters of one subscription, and bytes of them.
const FILTERS_MAX: usize = 256;
const FILTERS_BYTES_MAX: usize = 64 * 1024;

/// How long events are kept for those who listen, and how many. Of too many the oldest of the namespace that has the most go.
#[derive(Clone, Copy, Debug)]
pub struct EventsOptions {
    /// For so long.
    pub retention: Duration,
    /// At most so many.
    pub keep_max: usize,
    /// At most so many bytes of them.
    pub keep_bytes: usize,
}

impl Default for EventsOptions {
    fn default() -> Self {
        Self { retention: Duration::from_hours(24), keep_max: 100_000, keep_bytes: 512 << 20 }
    }
}

/// What came of events that were published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// New ones.
    pub(crate) accepted: usize,
    /// Those that were there already.
    pub(crate) duplicates: usize,
}

/// Writes events and subscriptions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bus {
    store: Store,
    sealer: Arc<Sealer>,
    options: EventsOptions,
}

impl Bus {
    pub(crate) fn new(store: Store, sealer: Arc<Sealer>, options: EventsOptions) -> Self {
        Self { store, sealer, options }
    }

    /// Keeps events, in their order, and returns when all of them are durable.
    ///
    /// # Errors
    /// What the store refuses; some of the events may be kept then, and to send all of them again does no harm.
    pub(crate) async fn publish(
        &self,
        lane: Lane,
        namespace: &str,
        events: &[CloudEvent],
    ) -> Result<Published, ApiError> {
        let now_ms = app::now_ms();
        let retention_ms = i64::try_from(self.options.retention.as_millis()).unwrap_or(i64::MAX);
        let commits = events.iter().map(|event| {
            let put = ResourcePut {
                key: rows::event_key(namespace, event),
                uid: *app::new_uid().as_bytes(),
                number: self.store.next_number(),
                expect: Expect::Absent,
                // What is under way publishes on a lane of its own.
                body: rows::event_body(event, now_ms, lane == Lane::Internal),
                labels: None,
                state: baton_store::ExecState::None,
                owner: None,
                expires_at_ms: Some(now_ms.saturating_add(retention_ms)),
                deleting: false,
            };
            // Handed over when it is first polled, so they are queued in order, and one group takes them all.
            self.store.commit_async(lane, Txn { puts: vec![put], ..Txn::default() })
        });
        let mut published = Published::default();
        let mut refused = None;
        for outcome in join_all(commits).await {
            match outcome {
                Ok(_) => published.accepted += 1,
                Err(CommitError::Exists { .. }) => published.duplicates += 1,
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        metrics::events_published(published.accepted, published.duplicates);
        match refused {
            Some(error) => Err(baton_engine::commit_failed(&error)),
            None => Ok(published),
        }
    }

    /// Keeps a subscription and returns when it is durable.
    ///
    /// # Errors
    /// A subscription that is too large; what the store refuses.
    pub(crate) async fn subscribe(&self, namespace: &str, subscription: &Subscription) -> Result<(), ApiError> {
        let mut violations = Vec::new();
        if subscription.filters.is_empty() || subscription.filters.len() > FILTERS_MAX {
            let message = format!("has {} filters, allowed are 1 to {FILTERS_MAX}", subscription.filters.len());
            violations.push(Violation::new("filters", message));
        }
        let texts = subscription.filters.iter().flatten();
        let bytes: usize = texts.map(|(name, value)| name.len() + value.len()).sum();
        if bytes > FILTERS_BYTES_MAX {
            violations
                .push(Violation::new("filters", format!("have {bytes} bytes, allowed are up to {FILTERS_BYTES_MAX}")));
        }
        if subscription.after.as_deref().is_some_and(|after| after.parse::<u64>().is_err()) {
            violations.push(Violation::new("after", "is not a cursor of this installation"));
        }
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        let put = ResourcePut {
            key: rows::subscription_key(namespace, subscription.callback_token.as_bytes()),
            uid: *app::new_uid().as_bytes(),
            number: self.store.next_number(),
            expect: Expect::Absent,
            body: rows::subscription_body(&self.sealer, namespace, subscription),
            labels: None,
            state: baton_store::ExecState::None,
            owner: None,
            expires_at_ms: Some(subscription.expires_ms),
            deleting: false,
        };
        match self.store.commit_async(Lane::Internal, Txn { puts: vec![put], ..Txn::default() }).await {
            Ok(_) | Err(CommitError::Exists { .. }) => Ok(()),
            Err(error) => Err(baton_engine::commit_failed(&error)),
        }
    }
}

/// An event as others than listeners see it.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    /// Its place among all events.
    pub(crate) revision: u64,
    pub(crate) namespace: String,
    /// What its source and id are together, as 64 hexadecimal digits.
    pub(crate) identity: String,
    pub(crate) accepted_ms: i64,
    /// Whether an execution published it.
    pub(crate) emitted: bool,
    /// In the JSON format.
    pub(crate) event: Value,
}

impl Arrived {
    /// The event of a change; `None` for one that is let go of or cannot be read.
    pub(crate) fn of_change(change: &Change) -> Option<Self> {
        if change.kind == ChangeKind::Deleted { None } else { Self::read(&rows::Row::of_change(change)) }
    }

    /// The event of a row; `None` for one that cannot be read.
    pub(crate) fn of_row(row: &StoredResource) -> Option<Self> {
        Self::read(&rows::Row::of(row))
    }

    fn read(row: &rows::Row<'_>) -> Option<Self> {
        match rows::read_event(row) {
            Ok((kept, event)) => Some(Self {
                revision: kept.revision,
                namespace: kept.key.namespace,
                identity: kept.key.name,
                accepted_ms: kept.accepted_ms,
                emitted: kept.emitted,
                event: Value::Object(event),
            }),
            Err(why) => {
                tracing::warn!(key = %row.key, "an event is left out: {why}");
                None
            }
        }
    }
}

/// Removes a row of the bus whose time is over.
///
/// # Errors
/// What the store refuses; a row that is gone or has changed is none.
pub(crate) async fn forget(store: &Store, row: &StoredResource) -> Result<(), ApiError> {
    let delete = ResourceDelete {
        key: row.key.clone(),
        uid: row.uid,
        number: row.number,
        revision: row.revision,
        body: bytes::Bytes::new(),
    };
    remove(store, vec![delete]).await
}

async fn remove(store: &Store, deletes: Vec<ResourceDelete>) -> Result<(), ApiError> {
    match store.commit_async(Lane::Internal, Txn { deletes, ..Txn::default() }).await {
        Ok(_) | Err(CommitError::NotFound { .. } | CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(baton_engine::commit_failed(&error)),
    }
}
