//! What activities emit while they run, kept for those who look on.
//!
//! An emitted value is no part of the history and is never written: it is kept here while its activity runs, so that whoever
//! comes later sees it from the beginning, and is gone with the activity or with this process.
//!
//! # Invariants
//! - What is kept is bounded: [`ACTIVITY_BYTES_MAX`] for one activity, [`BYTES_MAX`] for all. What is more is not shown; the
//!   recorded result says everything.
//! - Nobody who looks on stops an activity: values are fetched by whoever looks, never pushed.
//! - Values of one run of an activity are numbered from 1 without gaps; a run that begins anew begins at 1 again.
//!
//! # Failure
//! None: an activity whose values cannot be kept goes on without.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use baton_execution::{Emit, Emitter, OperationId};
use baton_store::Number;
use baton_types::{ApiError, ErrorKind};
use serde_json::Value;
use tokio::sync::watch;

/// Bytes of text that are kept of one activity: more than a long answer of a model.
pub const ACTIVITY_BYTES_MAX: usize = 256 * 1024;
/// Bytes that are kept of all activities of this process.
pub const BYTES_MAX: usize = 64 << 20;
/// Those who may look on at a time. Each holds a connection, and reads the store when something was recorded.
pub const WATCHERS_MAX: usize = 4096;
/// Activities that have ended and are still shown to those who look on already: what was emitted at once is seen, too.
const ENDED_MAX: usize = 4;
/// What a value costs beside its text.
const VALUE_BYTES: usize = 64;

/// The values of all activities of this process that run now.
#[derive(Default)]
pub(crate) struct Transients {
    inner: Mutex<Inner>,
    /// Those who look on; none most of the time.
    watchers: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    executions: HashMap<Number, Emitting>,
    bytes: usize,
    runs: u64,
}

/// One execution of which something is emitted, or that somebody looks at.
struct Emitting {
    watchers: usize,
    seen: watch::Sender<Seen>,
    activities: VecDeque<Activity>,
}

/// How often something has happened that whoever looks on may want to look at.
#[derive(Clone, Copy, Default)]
struct Seen {
    emitted: u64,
    written: u64,
}

/// One run of an activity.
struct Activity {
    id: OperationId,
    run: u64,
    values: Vec<Arc<Value>>,
    bytes: usize,
    /// More was emitted than is kept.
    cut: bool,
    ended: bool,
}

/// A value of an activity, or its beginning anew.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// Which activity.
    pub id: OperationId,
    /// Counted from 1; 0 for a beginning anew.
    pub index: u32,
    /// The value; `None`: what was emitted before does not count any more.
    pub value: Option<Arc<Value>>,
}

impl Transients {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an activity emits to.
    pub(crate) fn emitter(self: &Arc<Self>, number: Number, id: OperationId) -> Emitter {
        Emitter::new(Taker { transients: Arc::clone(self), number, id, run: Mutex::new(None) })
    }

    /// Somebody looks at an execution from now on.
    pub(crate) fn watch(self: &Arc<Self>, number: Number) -> Result<Watching, ApiError> {
        let mut inner = self.lock();
        if self.watchers.load(Ordering::Relaxed) >= WATCHERS_MAX {
            let message = format!("{WATCHERS_MAX} streams are open on this server, which is the limit");
            return Err(ApiError::new(ErrorKind::ResourceExhausted, "STREAMS_LIMIT", message)
                .hint("close those that are not looked at, or read the history by pages"));
        }
        self.watchers.fetch_add(1, Ordering::Relaxed);
        let emitting = inner.executions.entry(number).or_insert_with(Emitting::new);
        emitting.watchers += 1;
        let seen = emitting.seen.subscribe();
        // What has ended is shown to those who looked on before: to others its recorded result says everything.
        let ended = emitting.activities.iter().filter(|it| it.ended);
        let at = ended.map(|it| (it.id.clone(), (it.run, it.values.len()))).collect();
        drop(inner);
        Ok(Watching { transients: Arc::clone(self), number, seen, at })
    }

    /// The row of an execution was written.
    pub(crate) fn written(&self, number: Number) {
        if self.watchers.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(emitting) = self.lock().executions.get(&number) {
            emitting.seen.send_modify(|seen| seen.written += 1);
        }
    }
}

impl Emitting {
    fn new() -> Self {
        Self { watchers: 0, seen: watch::Sender::default(), activities: VecDeque::new() }
    }

    fn tell(&self) {
        self.seen.send_modify(|seen| seen.emitted += 1);
    }
}

impl Inner {
    /// Begins a run, in place of an earlier one of the same activity.
    fn begin(&mut self, number: Number, id: &OperationId) -> u64 {
        self.runs += 1;
        let run = self.runs;
        let emitting = self.executions.entry(number).or_insert_with(Emitting::new);
        let before =
            emitting.activities.iter().position(|it| it.id == *id).and_then(|at| emitting.activities.remove(at));
        self.bytes -= before.map_or(0, |it| it.bytes);
        let activity = Activity { id: id.clone(), run, values: Vec::new(), bytes: 0, cut: false, ended: false };
        emitting.activities.push_back(activity);
        run
    }

    fn activity(&mut self, number: Number, run: u64) -> Option<&mut Activity> {
        self.executions.get_mut(&number)?.activities.iter_mut().find(|it| it.run == run)
    }

    /// Forgets what nobody needs any more of an execution.
    fn tidy(&mut self, number: Number) {
        let Some(emitting) = self.executions.get_mut(&number) else { return };
        let kept = if emitting.watchers == 0 { 0 } else { ENDED_MAX };
        let mut ended = emitting.activities.iter().filter(|it| it.ended).count();
        let mut freed = 0;
        emitting.activities.retain(|activity| {
            let gone = activity.ended && ended > kept;
            if gone {
                ended -= 1;
                freed += activity.bytes;
            }
            !gone
        });
        if emitting.watchers == 0 && emitting.activities.is_empty() {
            self.executions.remove(&number);
        }
        self.bytes -= freed;
    }
}

/// Takes the values of one activity.
struct Taker {
    transients: Arc<Transients>,
    number: Number,
    id: OperationId,
    /// The present run, once something was emitted.
    run: Mutex<Option<u64>>,
}

impl Emit for Taker {
    fn emit(&self, value: Value) {
        let size = bytes_of(&value).saturating_add(VALUE_BYTES);
        let mut present = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.transients.lock();
        let run = *present.get_or_insert_with(|| inner.begin(self.number, &self.id));
        let room = BYTES_MAX.saturating_sub(inner.bytes);
        let Some(activity) = inner.activity(self.number, run) else { return };
        if activity.cut || size > room || activity.bytes + size > ACTIVITY_BYTES_MAX {
            activity.cut = true;
            return;
        }
        activity.bytes += size;
        activity.values.push(Arc::new(value));
        inner.bytes += size;
        if let Some(emitting) = inner.executions.get(&self.number) {
            emitting.tell();
        }
    }

    fn reset(&self) {
        let mut present = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if present.is_none() {
            return;
        }
        let mut inner = self.transients.lock();
        *present = Some(inner.begin(self.number, &self.id));
        if let Some(emitting) = inner.executions.get(&self.number) {
            emitting.tell();
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let run = *self.run.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(run) = run else { return };
        let mut inner = self.transients.lock();
        if let Some(activity) = inner.activity(self.number, run) {
            activity.ended = true;
        }
        inner.tidy(self.number);
    }
}

/// Somebody who looks at an execution, for as long as this lives.
pub struct Watching {
    transients: Arc<Transients>,
    number: Number,
    seen: watch::Receiver<Seen>,
    /// The run of each activity, and how many of its values were fetched.
    at: HashMap<OperationId, (u64, usize)>,
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Watching {
    /// Resolves when something was emitted, or the execution's row was written, since this resolved last.
    pub async fn changed(&mut self) {
        if self.seen.changed().await.is_err() {
            // The sender lives as long as somebody looks on.
            std::future::pending::<()>().await;
        }
    }

    /// How often the execution's row was written since somebody looks on.
    pub fn written(&self) -> u64 {
        self.seen.borrow().written
    }

    /// What was emitted and not fetched before, in the order of each activity.
    pub fn fetch(&mut self) -> Vec<Emitted> {
        let inner = self.transients.lock();
        let Some(emitting) = inner.executions.get(&self.number) else { return Vec::new() };
        let mut fetched = Vec::new();
        for activity in &emitting.activities {
            let at = self.at.entry(activity.id.clone()).or_insert((activity.run, 0));
            if at.0 != activity.run {
                if at.1 > 0 {
                    fetched.push(Emitted { id: activity.id.clone(), index: 0, value: None });
                }
                *at = (activity.run, 0);
            }
            for value in activity.values.iter().skip(at.1) {
                at.1 += 1;
                let index = u32::try_from(at.1).unwrap_or(u32::MAX);
                fetched.push(Emitted { id: activity.id.clone(), index, value: Some(Arc::clone(value)) });
            }
        }
        self.at.retain(|id, _| emitting.activities.iter().any(|it| it.id == *id));
        fetched
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut inner = self.transients.lock();
        self.transients.watchers.fetch_sub(1, Ordering::Relaxed);
        if let Some(emitting) = inner.executions.get_mut(&self.number) {
            emitting.watchers -= 1;
        }
        inner.tidy(self.number);
    }
}

/// About what a value takes.
fn bytes_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| bytes_of(item) + VALUE_BYTES).sum(),
        Value::Object(fields) => fields.iter().map(|(name, field)| name.len() + bytes_of(field) + VALUE_BYTES).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(position: &str) -> OperationId {
        OperationId::new(position, 1)
    }

    /// What was fetched, in short: the activity, the number, the value.
    fn fetched(watching: &mut Watching) -> Vec<String> {
        let show = |it: Emitted| match it.value {
            Some(value) => format!("{}.{} {value}", it.id.position, it.index),
            None => format!("{} anew", it.id.position),
        };
        watching.fetch().into_iter().map(show).collect()
    }

    #[test]
    fn whoever_comes_late_sees_an_activity_from_its_beginning_and_nobody_sees_a_value_twice() {
        let transients = Arc::new(Transients::default());
        let (model, other) = (transients.emitter(7, id("/a")), transients.emitter(8, id("/a")));
        other.emit(json!("elsewhere"));
        let mut early = transients.watch(7).unwrap();
        model.emit(json!("one"));
        assert_eq!(fetched(&mut early), [r#"/a.1 "one""#]);
        model.emit(json!("two"));
        let mut late = transients.watch(7).unwrap();
        assert_eq!(fetched(&mut late), [r#"/a.1 "one""#, r#"/a.2 "two""#]);
        assert_eq!(fetched(&mut early), [r#"/a.2 "two""#]);
        assert!(fetched(&mut early).is_empty());
    }

    #[test]
    fn a_run_that_begins_anew_takes_back_what_was_shown() {
        let transients = Arc::new(Transients::default());
        let mut watching = transients.watch(7).unwrap();
        let first = transients.emitter(7, id("/a"));
        first.reset();
        first.emit(json!(1));
        assert_eq!(fetched(&mut watching), ["/a.1 1"]);
        first.reset();
        first.emit(json!(2));
        assert_eq!(fetched(&mut watching), ["/a anew", "/a.1 2"]);
        // The same activity once more, as after a crash.
        let again = transients.emitter(7, id("/a"));
        again.emit(json!(3));
        assert_eq!(fetched(&mut watching), ["/a anew", "/a.1 3"]);
        first.emit(json!("of a run that does not count"));
        assert!(fetched(&mut watching).is_empty());
    }

    #[test]
    fn what_has_ended_is_kept_for_those_who_look_on_alone_and_not_for_long() {
        let transients = Arc::new(Transients::default());
        transients.emitter(7, id("/unseen")).emit(json!(1));
        assert!(transients.lock().executions.is_empty());
        let mut watching = transients.watch(7).unwrap();
        for n in 0..10 {
            transients.emitter(7, id(&format!("/{n}"))).emit(json!(n));
        }
        assert_eq!(fetched(&mut watching), ["/6.1 6", "/7.1 7", "/8.1 8", "/9.1 9"]);
        let mut late = transients.watch(7).unwrap();
        assert!(fetched(&mut late).is_empty(), "to those who come later it is over");
        drop((watching, late));
        let inner = transients.lock();
        assert_eq!((inner.bytes, inner.executions.len()), (0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let transients = Arc::new(Transients::default());
        let mut watching = transients.watch(7).unwrap();
        let emitter = transients.emitter(7, id("/a"));
        let piece = "x".repeat(ACTIVITY_BYTES_MAX / 4);
        for _ in 0..8 {
            emitter.emit(json!(piece));
        }
        assert_eq!(watching.fetch().len(), 3);
        let others: Vec<_> = (0..BYTES_MAX / ACTIVITY_BYTES_MAX + 8)
            .map(|n| {
                let emitter = transients.emitter(9, id(&format!("/{n}")));
                (0..3).for_each(|_| emitter.emit(json!(piece)));
                emitter
            })
            .collect();
        assert!(transients.lock().bytes <= BYTES_MAX);
        drop((others, emitter, watching));
        assert_eq!(transients.lock().bytes, 0);
    }

    #[test]
    fn those_who_look_on_are_limited() {
        let transients = Arc::new(Transients::default());
        let mut all: Vec<_> = (0..WATCHERS_MAX).map(|_| transients.watch(7).unwrap()).collect();
        let refused = transients.watch(7).unwrap_err();
        assert_eq!((refused.kind, refused.reason), (ErrorKind::ResourceExhausted, "STREAMS_LIMIT"));
        all.pop();
        transients.watch(7).unwrap();
    }
}
