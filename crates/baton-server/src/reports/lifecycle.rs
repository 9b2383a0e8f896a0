//! Lifecycle events: the histories of workflow executions, told in the words of the specification.
//!
//! The trail says which executions have changed; what is new in a history is what comes after the number that was sent last,
//! which is kept in the store for each execution that has not ended.
//!
//! # Failure
//! An execution that was deleted before its history was read is not told of. Its own end of time waits for that
//! ([`Reported::holds`]); a caller who deletes does not.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use baton_proto::{Resource as _, history_v1::HistoryEvent, v1::WorkflowExecution};
use baton_store::{Change, ChangeKind};
use baton_types::{ApiError, ErrorKind, Uid};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Lifecycle, Reported,
    sink::Sink,
    trail::{Steps, Trail},
    words::{About, Story},
};
use crate::app::App;

/// Where the place is kept.
pub(super) const TRAIL: &str = "reports/lifecycle";
/// Pause before everything begins again.
const PAUSE: Duration = Duration::from_secs(1);
/// Executions that are told of at the same time.
const AT_ONCE: usize = 16;
/// Events of a history that are read at a time.
const EVENTS_PAGE: usize = 500;
/// Executions that are kept in memory; beyond it all are read again.
const STORIES_MAX: usize = 10_000;

struct Reporter {
    app: App,
    sink: Sink,
    level: Lifecycle,
    /// How far each execution was told of.
    stories: Mutex<HashMap<Uid, Story>>,
}

/// Up to where an execution was told of.
enum Told {
    /// Up to this number of its history; there may be more.
    Upto(i32),
    /// To its end, or it is gone.
    Ended,
}

pub(super) async fn run(
    app: App,
    sink: Sink,
    level: Lifecycle,
    reported: Arc<Reported>,
    begin: u64,
    stopping: CancellationToken,
) {
    let reporter = Reporter { app, sink, level, stories: Mutex::default() };
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            lost = reporter.follow(&reported, begin) => tracing::warn!("lifecycle events are followed again: {lost}"),
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = sleep(PAUSE) => {}
        }
    }
}

/// Under which name the number is kept that was sent last.
fn sent_key(uid: Uid) -> String {
    format!("{TRAIL}/{uid}")
}

impl Reporter {
    /// Follows executions until that cannot be done any more; why.
    async fn follow(&self, reported: &Reported, begin: u64) -> String {
        let mut trail = match Trail::open(&self.app, TRAIL, WorkflowExecution::KIND, begin).await {
            Ok(trail) => trail,
            Err(why) => return why,
        };
        reported.set(trail.place());
        loop {
            let told = match trail.next().await {
                Ok(steps) => self.tell(&trail, steps).await,
                Err(why) => return why,
            };
            match told {
                Ok(upto) => {
                    reported.set(upto);
                    if trail.is_at_end(upto) {
                        self.sink.is_even();
                    }
                }
                Err(why) => return why,
            }
        }
    }

    /// Tells of all executions that have changed, then moves the place; where that is.
    async fn tell(&self, trail: &Trail, steps: Steps) -> Result<u64, String> {
        let mut seen = HashSet::new();
        // The last change of each: a history is read whole anyway.
        let mut last: Vec<Arc<Change>> = steps.changes;
        last.reverse();
        last.retain(|change| seen.insert(change.uid));
        let mut jobs = Vec::new();
        for change in last {
            jobs.push(self.tell_of(change));
        }
        let told: Vec<(Uid, Result<Told, ApiError>)> = stream::iter(jobs).buffer_unordered(AT_ONCE).collect().await;
        let mut values = Vec::with_capacity(told.len());
        for (uid, told) in told {
            let value = match told.map_err(|failed| format!("read a history: {failed}"))? {
                Told::Upto(number) => Some(number.to_string().into_bytes()),
                Told::Ended => None,
            };
            values.push((sent_key(uid), value));
        }
        trail.settle(steps.upto, values).await;
        Ok(steps.upto)
    }

    async fn tell_of(&self, change: Arc<Change>) -> (Uid, Result<Told, ApiError>) {
        let uid = Uid::from_bytes(change.uid);
        let told = match self.tell_whole(uid, &change).await {
            // Deleted in the meantime: nothing of it is left to be read.
            Err(failed) if failed.kind == ErrorKind::NotFound => Ok(Told::Ended),
            told => told,
        };
        if matches!(told, Ok(Told::Ended)) {
            self.stories().remove(&uid);
        }
        (uid, told)
    }

    /// Sends what is new in a history.
    async fn tell_whole(&self, uid: Uid, change: &Change) -> Result<Told, ApiError> {
        if change.kind == ChangeKind::Deleted {
            return Ok(Told::Ended);
        }
        let about = About::new(&change.key.namespace, &change.key.name, uid);
        let mut story = self.story(uid).await?;
        loop {
            let (events, over) = self.read(uid, story.number()).await?;
            for event in &events {
                self.send(&about, &mut story, event).await?;
            }
            if events.len() < EVENTS_PAGE {
                let (number, ended) = (story.number(), story.has_ended());
                let mut stories = self.stories();
                if stories.len() >= STORIES_MAX {
                    stories.clear();
                }
                stories.insert(uid, story);
                // A row says that it has ended only once its history does.
                return Ok(if over && ended { Told::Ended } else { Told::Upto(number) });
            }
        }
    }

    /// An execution as far as it was told of.
    async fn story(&self, uid: Uid) -> Result<Story, ApiError> {
        let known = self.stories().remove(&uid);
        if let Some(story) = known {
            return Ok(story);
        }
        let key = sent_key(uid);
        let sent = self.app.read(move |store| store.meta(&key)).await?;
        let sent: i32 = sent.and_then(|text| String::from_utf8(text).ok()?.parse().ok()).unwrap_or(0);
        let mut story = Story::default();
        while story.number() < sent {
            let (events, _) = self.read(uid, story.number()).await?;
            if events.is_empty() {
                break;
            }
            for event in events.iter().filter(|event| event.number <= sent) {
                story.follow(event, self.level);
            }
        }
        Ok(story)
    }

    async fn send(&self, about: &About, story: &mut Story, event: &HistoryEvent) -> Result<(), ApiError> {
        let time_ms = event.time.map_or(0, |time| time.as_millis());
        for mut told in story.follow(event, self.level) {
            if told.wants_definition() {
                told.set_definition(&self.app.pinned_document(about.uid).await?);
            }
            if told.wants_output() {
                told.set_output(self.output(about.uid).await?);
            }
            self.sink.send(&about.namespace, &told.event(about, time_ms), time_ms).await;
        }
        Ok(())
    }

    async fn read(&self, uid: Uid, after: i32) -> Result<(Vec<HistoryEvent>, bool), ApiError> {
        self.app.read_history(uid, after, EVENTS_PAGE).await
    }

    /// The output of an execution, unless it is too large for an event.
    async fn output(&self, uid: Uid) -> Result<Option<Value>, ApiError> {
        let engine = self.app.engine()?.clone();
        let read = tokio::task::spawn_blocking(move || engine.output(uid)).await;
        let text = match read.map_err(|stopped| ApiError::internal(stopped.to_string()))? {
            Ok(text) => text,
            Err(none) if none.kind == ErrorKind::NotFound => return Ok(None),
            Err(failed) => return Err(failed),
        };
        Ok(Some(text)
            .filter(|text| text.len() <= super::words::OUTPUT_BYTES_MAX)
            .and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn stories(&self) -> std::sync::MutexGuard<'_, HashMap<Uid, Story>> {
        self.stories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
