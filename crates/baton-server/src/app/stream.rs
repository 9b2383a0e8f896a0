//! Looking on at an execution: its history, its state, and what its activities emit while they run, as one stream.
//!
//! # Invariants
//! - Every event is told once, in order; a stream that begins after a number tells all that was recorded after it.
//! - The last state is told last, after the event of the end.
//! - What an activity emits is told after the event that schedules it and before the event that ends it.
//! - Whoever reads slowly holds up nobody: a stream keeps no more than a page of events, and reads on when it was read.
//!
//! # Deliberately absent
//! A promise that everything is told that was emitted: that is what the recorded result is for.
//!
//! # Failure
//! An execution that is deleted, and a server that stops, end a stream as they end the following of a history.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    marker::PhantomData,
};

use baton_agent::ModelDelta;
use baton_engine::{Emitted, Watching};
use baton_execution::OperationId;
use baton_proto::{ExecutionResource, history_v1, v1};
use baton_types::{ApiError, ErrorKind, Uid, Violation};
use futures::{Stream, future::BoxFuture};
use history_v1::history_event::Attributes;
use serde::Deserialize as _;
use serde_json::Value;
use v1::{delta, stream_item::Item};

use super::{App, ExecutionKind};

/// Events that are read and kept at once.
const PAGE_EVENTS: usize = 200;
/// Activities that ended, remembered so that nothing of them is told late.
const ENDED_MAX: usize = 64;

impl App {
    /// Looks on at an execution: what was recorded after `after` and what its activities are making, then all that comes, up to
    /// its end.
    ///
    /// # Errors
    /// NotFound; InvalidArgument for a negative `after`; ResourceExhausted if too many look on already. An error within the
    /// stream ends it.
    pub async fn stream<R: ExecutionKind>(
        &self,
        request: &v1::StreamRequest,
    ) -> Result<impl Stream<Item = Result<v1::StreamItem, ApiError>> + Send + 'static + use<R>, ApiError> {
        if request.after < 0 {
            let violation = Violation::new("after", format!("is {}, allowed are 0 and more", request.after));
            return Err(ApiError::violations(vec![violation]));
        }
        let uid = self.uid_of::<R>(&request.namespace, &request.name).await?;
        let engine = self.engine()?.clone();
        let watching = tokio::task::spawn_blocking(move || engine.watch(uid)).await;
        let watching = watching.map_err(|stopped| ApiError::internal(format!("a read was stopped: {stopped}")))??;
        let streaming = Streaming::<R> {
            app: self.clone(),
            uid,
            watching,
            after: request.after,
            deltas: 0,
            ready: VecDeque::new(),
            open: HashSet::new(),
            ended: VecDeque::new(),
            log: Log::Due,
            state: None,
            written: None,
            has_ended: false,
            over: false,
            kind: PhantomData,
        };
        Ok(futures::stream::unfold(streaming, |mut streaming| async move {
            streaming.next().await.map(|item| (item, streaming))
        }))
    }

    /// Whether an execution has ended and nothing was recorded after `after`: a stream would have nothing new.
    ///
    /// # Errors
    /// NotFound.
    pub(crate) async fn is_told<R: ExecutionKind>(&self, request: &v1::StreamRequest) -> Result<bool, ApiError> {
        let uid = self.uid_of::<R>(&request.namespace, &request.name).await?;
        let (events, has_ended) = self.read_history(uid, request.after, 1).await?;
        Ok(has_ended && events.is_empty())
    }
}

struct Streaming<R> {
    app: App,
    uid: Uid,
    watching: Watching,
    /// Number of the last event that was made ready.
    after: i32,
    /// Deltas since then.
    deltas: u32,
    ready: VecDeque<v1::StreamItem>,
    /// Activities that are known to be scheduled at or before `after`.
    open: HashSet<OperationId>,
    ended: VecDeque<OperationId>,
    log: Log,
    state: Option<v1::ExecutionState>,
    /// How often the row was written when it was read last.
    written: Option<u64>,
    has_ended: bool,
    over: bool,
    kind: PhantomData<fn() -> R>,
}

/// Whether there is something to read in the history.
enum Log {
    Due,
    /// It was read to its end, and nothing has come that is known of.
    Read,
    /// Somebody waits for what comes.
    Awaited(BoxFuture<'static, Result<(), ApiError>>),
}

impl<R: ExecutionKind> Streaming<R> {
    async fn next(&mut self) -> Option<Result<v1::StreamItem, ApiError>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            if self.over {
                return None;
            }
            if let Err(failed) = self.step().await {
                self.over = true;
                // Deleted, or the server is stopping: there is nothing more to tell.
                let quiet = matches!(failed.kind, ErrorKind::NotFound) || failed.reason == "SHUTTING_DOWN";
                return (!quiet).then_some(Err(failed));
            }
        }
    }

    /// Makes ready what there is, or waits until there is something.
    async fn step(&mut self) -> Result<(), ApiError> {
        let (events, emitted) = self.catch_up().await?;
        self.tell(events, emitted);
        let at_end = matches!(self.log, Log::Read | Log::Awaited(_));
        if at_end && (self.has_ended || self.written != Some(self.watching.written())) {
            self.tell_state().await?;
        }
        if at_end && self.has_ended {
            self.over = true;
        } else if self.ready.is_empty() && at_end {
            self.wait().await?;
        }
        Ok(())
    }

    /// A page of new events, and once all events are read what was emitted.
    async fn catch_up(&mut self) -> Result<(Vec<history_v1::HistoryEvent>, Vec<Emitted>), ApiError> {
        let (mut events, mut emitted) = (Vec::new(), Vec::new());
        loop {
            if matches!(self.log, Log::Due) {
                let last = events.last().map_or(self.after, |event: &history_v1::HistoryEvent| event.number);
                let (page, has_ended) = self.app.read_history(self.uid, last, PAGE_EVENTS).await?;
                let is_last = page.len() < PAGE_EVENTS;
                events.extend(page);
                if !is_last && emitted.is_empty() {
                    return Ok((events, emitted));
                }
                if !is_last {
                    continue;
                }
                (self.log, self.has_ended) = (Log::Read, has_ended);
            }
            let fetched = self.watching.fetch();
            let unknown: Vec<OperationId> =
                fetched.iter().filter(|it| !self.open.contains(&it.id)).map(|it| it.id.clone()).collect();
            emitted.extend(fetched);
            if unknown.is_empty() {
                return Ok((events, emitted));
            }
            // The event that schedules an activity is recorded before the activity begins: now it is there to be read.
            self.open.extend(unknown);
            self.log = Log::Due;
        }
    }

    /// Makes events ready, and what was emitted before the end of its activity.
    fn tell(&mut self, events: Vec<history_v1::HistoryEvent>, emitted: Vec<Emitted>) {
        let mut of_activity: BTreeMap<OperationId, Vec<Emitted>> = BTreeMap::new();
        for it in emitted.into_iter().filter(|it| !self.ended.contains(&it.id)) {
            of_activity.entry(it.id.clone()).or_default().push(it);
        }
        for event in events {
            if let Some(id) = ended_activity(&event) {
                of_activity.remove(&id).into_iter().flatten().for_each(|it| self.tell_delta(it));
                self.open.remove(&id);
                self.ended.truncate(ENDED_MAX - 1);
                self.ended.push_front(id);
            }
            (self.after, self.deltas) = (event.number, 0);
            self.ready.push_back(v1::StreamItem { id: event.number.to_string(), item: Some(Item::Event(event)) });
        }
        of_activity.into_values().flatten().for_each(|it| self.tell_delta(it));
    }

    fn tell_delta(&mut self, emitted: Emitted) {
        self.deltas += 1;
        let id = format!("{}.{}", self.after, self.deltas);
        self.ready.push_back(v1::StreamItem { id, item: Some(Item::Delta(delta_of(emitted))) });
    }

    async fn tell_state(&mut self) -> Result<(), ApiError> {
        self.written = Some(self.watching.written());
        let uid = self.uid;
        let row = self.app.read(move |store| store.get_by_uid(*uid.as_bytes())).await?;
        let row = row.ok_or_else(|| ApiError::not_found("execution", &uid.to_string(), ""))?;
        let execution = baton_engine::decode_stored(R::KIND, &row.body, row.revision)?;
        if execution.phase().is_terminal() && !self.has_ended {
            // It has just ended: the events of its end come first.
            self.log = Log::Due;
            return Ok(());
        }
        let state = state_of(execution);
        if self.state.as_ref() != Some(&state) {
            self.state = Some(state.clone());
            self.ready.push_back(v1::StreamItem { id: String::new(), item: Some(Item::State(state)) });
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), ApiError> {
        if matches!(self.log, Log::Read) {
            let (engine, uid, after) = (self.app.engine()?.clone(), self.uid, self.after);
            self.log = Log::Awaited(Box::pin(async move { engine.wait_history(uid, after).await }));
        }
        let Log::Awaited(waiting) = &mut self.log else { return Ok(()) };
        tokio::select! {
            come = waiting => {
                self.log = Log::Due;
                come
            }
            () = self.watching.changed() => Ok(()),
        }
    }
}

/// The activity that an event ends.
fn ended_activity(event: &history_v1::HistoryEvent) -> Option<OperationId> {
    let operation = match event.attributes.as_ref()? {
        Attributes::ActivityCompleted(it) => it.operation.as_ref(),
        Attributes::ActivityFailed(it) => it.operation.as_ref(),
        Attributes::ActivityCancelled(it) => it.operation.as_ref(),
        _ => None,
    }?;
    Some(OperationId::new(operation.position.clone(), u32::try_from(operation.attempt).unwrap_or_default()))
}

fn delta_of(emitted: Emitted) -> v1::Delta {
    let OperationId { position, attempt } = emitted.id;
    let operation = history_v1::Operation { position, attempt: i32::try_from(attempt).unwrap_or(i32::MAX) };
    let index = i32::try_from(emitted.index).unwrap_or(i32::MAX);
    let delta = emitted.value.map_or(delta::Delta::Reset(true), |value| value_of(&value));
    v1::Delta { operation: Some(operation), index, delta: Some(delta) }
}

fn value_of(value: &Value) -> delta::Delta {
    match ModelDelta::deserialize(value) {
        Ok(ModelDelta::Text(text)) => delta::Delta::Text(text),
        Ok(ModelDelta::Reasoning(text)) => delta::Delta::Reasoning(text),
        Ok(ModelDelta::ToolCall(call)) => delta::Delta::ToolCall(v1::ToolCallDelta {
            index: i32::try_from(call.index).unwrap_or(i32::MAX),
            id: call.id,
            name: call.name,
            arguments: call.arguments,
        }),
        Err(_) => delta::Delta::Value(v1::Json::from_value(value)),
    }
}

fn state_of(execution: ExecutionResource) -> v1::ExecutionState {
    match execution {
        ExecutionResource::Workflow(execution) => {
            let status = execution.status.unwrap_or_default();
            v1::ExecutionState {
                phase: status.phase,
                conditions: status.conditions,
                waiting_for: status.waiting_for,
                usage: None,
            }
        }
        ExecutionResource::Agent(execution) => {
            let status = execution.status.unwrap_or_default();
            v1::ExecutionState {
                phase: status.phase,
                conditions: status.conditions,
                waiting_for: status.waiting_for,
                usage: status.usage,
            }
        }
    }
}
