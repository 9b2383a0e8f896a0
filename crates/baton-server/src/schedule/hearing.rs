//! Schedules by events: what the bus keeps is offered to those who wait for it.
//!
//! # Invariants
//! - Each schedule is offered every event after its cursor, in order, and each once: events that are read again are known by
//!   their revision.
//! - Filters are evaluated beside: an expression that takes its time stops no other schedule by time.
//! - At most [`STARTS_MAX`](super::plan::STARTS_MAX) executions of one workflow start in a second; the events stay until then.

use std::{collections::BTreeMap, sync::Arc};

use baton_proto::v1::Json;
use baton_store::WatchBatch;
use baton_workflow::{Gathered, Offered, Schedule};
use serde_json::Value;

use super::{Scheduler, entry::Key, start::Start, text, work::Task};
use crate::{
    events::{Arrived, EVENT},
    metrics,
};

/// Digits of an event's identity in the name of an execution.
const IDENTITY_DIGITS: usize = 16;
/// Events that are offered at a time.
const OFFERED_MAX: usize = 256;

/// What is offered to one schedule.
struct Offer {
    key: Key,
    schedule: Arc<Schedule>,
    gathered: Gathered,
    after: u64,
    starts_max: usize,
}

/// What came of it.
struct Heard {
    key: Key,
    gathered: Gathered,
    /// Whether there is something new in that.
    changed: bool,
    starts: Vec<Start>,
    /// Events up to here were looked at.
    cursor: u64,
    /// Whether there are more that had to wait.
    stopped: bool,
    too_much: usize,
}

impl Scheduler {
    pub(super) async fn hear(&mut self, batch: &WatchBatch) -> Result<(), String> {
        let events = batch.changes.iter().filter_map(|change| Arrived::of_change(change)).collect();
        self.offer(events, batch.revision).await
    }

    /// Has events followed from where everybody has come to; if they cannot be any more, those that are kept are offered.
    pub(super) async fn catch_up(&mut self) -> Result<(), String> {
        let Some(from) = self.rewind else { return Ok(()) };
        if self.app.store().watch(Some(EVENT), from).is_ok() {
            return Ok(());
        }
        let (rows, upto) = self.rows(EVENT).await?;
        let mut events: Vec<Arrived> = rows.iter().filter_map(Arrived::of_row).collect();
        events.retain(|event| event.revision > from && event.revision <= upto);
        events.sort_by_key(|event| event.revision);
        while !events.is_empty() {
            let rest = events.split_off(OFFERED_MAX.min(events.len()));
            let last = events.last().map_or(upto, |event| event.revision);
            self.offer(events, last).await?;
            events = rest;
        }
        self.offer(Vec::new(), upto).await?;
        self.rewind = Some(upto);
        Ok(())
    }

    /// Offers events up to a revision to all who listen.
    async fn offer(&mut self, events: Vec<Arrived>, upto: u64) -> Result<(), String> {
        let now_ms = self.clock.now_ms();
        let mut offers: Vec<Offer> = Vec::new();
        let mut wanted: BTreeMap<&str, Vec<&Arrived>> = BTreeMap::new();
        for event in &events {
            wanted.entry(&event.namespace).or_default().push(event);
        }
        for (key, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.hears() && entry.held.is_none()) {
            let Schedule::On(on) = &*entry.spec.schedule else { continue };
            let types = on.types();
            let may_fit = |event: &&Arrived| {
                let of_type = |types: &Vec<&str>| event.event["type"].as_str().is_some_and(|it| types.contains(&it));
                event.revision > entry.progress.cursor && types.as_ref().is_none_or(of_type)
            };
            if !wanted.get(key.0.as_str()).is_some_and(|events| events.iter().any(may_fit)) {
                entry.progress.cursor = entry.progress.cursor.max(upto);
                continue;
            }
            offers.push(Offer {
                key: Arc::clone(key),
                schedule: Arc::clone(&entry.spec.schedule),
                gathered: entry.progress.gathered.clone(),
                after: entry.progress.cursor,
                starts_max: entry.allowance(now_ms),
            });
        }
        if offers.is_empty() {
            return Ok(());
        }
        let evaluate = move || offers.into_iter().map(|offer| offer.evaluate(&events, upto)).collect::<Vec<_>>();
        let heard = tokio::task::spawn_blocking(evaluate).await.map_err(text)?;
        let tasks = heard.into_iter().filter_map(|heard| self.heard(heard)).collect();
        self.perform(tasks).await
    }

    /// Takes what one schedule has heard; what there is to do, if anything.
    fn heard(&mut self, heard: Heard) -> Option<Task> {
        let Heard { key, gathered, changed, starts, cursor, stopped, too_much } = heard;
        let entry = self.entries.get_mut(&key)?;
        metrics::schedule_started("too_much", too_much);
        if starts.is_empty() {
            if stopped {
                entry.wait_for_allowance();
            }
            entry.row_is_old |= changed;
            (entry.progress.gathered, entry.progress.cursor) = (gathered, cursor);
            self.enqueue(&key);
            return None;
        }
        entry.spend(starts.len());
        let mut next = entry.progress.clone();
        (next.gathered, next.cursor) = (gathered, cursor);
        let job = entry.heard(starts);
        Some(Task { key, job, next, more: stopped })
    }
}

impl Offer {
    fn evaluate(mut self, events: &[Arrived], upto: u64) -> Heard {
        let before = self.gathered.clone();
        let mut starts = Vec::new();
        let (mut cursor, mut stopped, mut too_much) = (self.after, false, 0);
        let own = events.iter().filter(|event| event.namespace == self.key.0 && event.revision > self.after);
        for event in own {
            let Schedule::On(on) = &*self.schedule else { break };
            if starts.len() >= self.starts_max {
                stopped = true;
                break;
            }
            match on.offer(&mut self.gathered, &event.event) {
                Offered::Complete(inputs) => starts.push(Start {
                    suffix: event.identity.chars().take(IDENTITY_DIGITS).collect(),
                    scheduled_ms: event.accepted_ms,
                    input: Some(Json::from_value(&Value::Array(inputs))),
                }),
                Offered::TooMuch => too_much += 1,
                Offered::Kept | Offered::Ignored => {}
            }
            cursor = event.revision;
        }
        if !stopped {
            cursor = cursor.max(upto);
        }
        let changed = self.gathered != before;
        Heard { key: self.key, gathered: self.gathered, changed, starts, cursor, stopped, too_much }
    }
}
