//! What is known of an execution and of those below it.

use std::{collections::HashMap, fmt};

use baton_proto::{
    history_v1::{self as wire, HistoryEvent, history_event::Attributes, note},
    v1::{self, WaitingFor, delta::Delta as Part},
};
use baton_types::Phase;

use super::label::label;
use crate::kind::Kind;

/// Executions that are followed at most; the rest is counted.
pub(crate) const EXECUTIONS_MAX: usize = 256;
/// Tasks of one execution that are shown at most; a loop of a million tasks must not fill the memory.
const TASKS_MAX: usize = 5000;
/// Characters of what is being said that are kept: more than a line has.
const SAYING_MAX: usize = 240;

/// Which execution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExecutionKey {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

impl fmt::Display for ExecutionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// How a task or execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Suspended,
    Completed,
    Faulted,
    Cancelled,
    Skipped,
}

impl State {
    pub(super) fn has_ended(self) -> bool {
        !matches!(self, Self::Running | Self::Suspended)
    }
}

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Callback { fingerprint: Option<String> },
    Child { kind: String, name: String },
    Approval { name: String },
    Timer { due_ms: i64 },
    Retry { attempt: i32, due_ms: i64 },
}

/// One task.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) position: String,
    pub(super) kind: String,
    pub(super) attempt: i32,
    pub(super) state: State,
    pub(super) started_ms: i64,
    pub(super) ended_ms: Option<i64>,
    pub(super) waits_for: Option<Wait>,
    pub(super) fault: Option<String>,
    /// The last of what a model says in it, while it does.
    pub(super) saying: String,
    /// Tasks within it.
    pub(super) tasks: Vec<usize>,
    /// Executions that it started.
    pub(super) children: Vec<usize>,
}

/// One execution.
#[derive(Clone, Debug)]
pub(super) struct Execution {
    pub(super) key: ExecutionKey,
    pub(super) state: State,
    pub(super) started_ms: Option<i64>,
    pub(super) ended_ms: Option<i64>,
    pub(super) tasks: Vec<Task>,
    /// Tasks that are in no other one.
    pub(super) top: Vec<usize>,
    by_position: HashMap<String, usize>,
    /// Tasks beyond the limit.
    pub(super) unshown: usize,
    /// Executions started by no task that is shown.
    pub(super) children: Vec<usize>,
    /// Children that were asked for and are not known to have been started.
    requested: Vec<wire::ChildStarted>,
    pub(super) ending: Option<String>,
}

/// The picture of a tree of executions; the root is the first.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(super) executions: Vec<Execution>,
    by_key: HashMap<ExecutionKey, usize>,
    pub(super) unfollowed: usize,
}

/// What an event means to those who show the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// For a log that only grows.
    Line(String),
    /// A person is to decide: what is asked, and the command that answers it.
    Asked { what: String, command: String },
    /// There is another execution to follow, at this index.
    Follow(usize),
    /// Its status says more than history does: fingerprints of tokens.
    ReadStatus(usize),
}

impl Progress {
    /// Nothing known yet but the root.
    pub(crate) fn new(root: ExecutionKey) -> Self {
        let mut progress = Self { executions: Vec::new(), by_key: HashMap::new(), unfollowed: 0 };
        progress.add(root);
        progress
    }

    fn add(&mut self, key: ExecutionKey) -> usize {
        let index = self.executions.len();
        self.by_key.insert(key.clone(), index);
        self.executions.push(Execution {
            key,
            state: State::Running,
            started_ms: None,
            ended_ms: None,
            tasks: Vec::new(),
            top: Vec::new(),
            by_position: HashMap::new(),
            unshown: 0,
            children: Vec::new(),
            requested: Vec::new(),
            ending: None,
        });
        index
    }

    /// Key of an execution.
    pub(crate) fn key(&self, index: usize) -> ExecutionKey {
        self.executions[index].key.clone()
    }

    /// Takes in what the status of an execution says it waits for.
    pub(crate) fn on_waiting(&mut self, index: usize, waiting: &[WaitingFor]) -> Vec<Effect> {
        let execution = &mut self.executions[index];
        let mut effects = Vec::new();
        for it in waiting.iter().filter(|it| it.reason == "Callback" && !it.fingerprint.is_empty()) {
            let position = it.operation.rsplit_once('#').map_or(it.operation.as_str(), |(position, _)| position);
            let Some(task) = execution.by_position.get(position).and_then(|at| execution.tasks.get_mut(*at)) else {
                continue;
            };
            if let Some(Wait::Callback { fingerprint: known @ None }) = &mut task.waits_for {
                *known = Some(it.fingerprint.clone());
                effects.push(Effect::Line(format!(
                    "{} {}: waits for callback {}",
                    execution.key,
                    label(position),
                    it.fingerprint
                )));
            }
        }
        effects
    }

    /// Takes in one event of an execution's history.
    pub(crate) fn on_event(&mut self, index: usize, event: &HistoryEvent) -> Vec<Effect> {
        let time_ms = event.time.map_or(0, |time| time.as_millis());
        let Some(attributes) = &event.attributes else { return Vec::new() };
        let execution = &mut self.executions[index];
        match attributes {
            Attributes::Started(_) => {
                execution.started_ms = Some(time_ms);
                vec![execution.says(&format!("{} started", execution.key.kind.title()))]
            }
            Attributes::Note(it) => it.note.as_ref().map_or_else(Vec::new, |note| execution.on_note(note, time_ms)),
            Attributes::CallbackAwaited(it) => {
                execution.wait(it.operation.as_ref(), Wait::Callback { fingerprint: None });
                vec![Effect::ReadStatus(index)]
            }
            Attributes::ApprovalRequested(it) => vec![execution.asks(it)],
            Attributes::TimerStarted(it) => {
                execution.timer(it.operation.as_ref(), it.due.map_or(time_ms, |due| due.as_millis()));
                Vec::new()
            }
            Attributes::ChildRequested(it) => {
                execution.requested.push(requested(it));
                if it.awaited {
                    execution.wait(
                        it.operation.as_ref(),
                        Wait::Child { kind: it.kind.to_ascii_lowercase(), name: it.name.clone() },
                    );
                }
                Vec::new()
            }
            Attributes::ChildStarted(it) => {
                execution.requested.retain(|child| child.operation != it.operation);
                self.child(index, it)
            }
            Attributes::CallbackAnswered(it) => {
                execution.unwait(it.operation.as_ref());
                // A child that answers very soon does so before its start is recorded; one that could not be never was.
                let never_was = matches!(&it.outcome, Some(wire::Outcome { result: Some(wire::outcome::Result::Failed(fault)) }) if fault.r#type.ends_with("/configuration"));
                let unseen = execution
                    .requested
                    .iter()
                    .position(|child| child.operation == it.operation)
                    .map(|at| execution.requested.swap_remove(at));
                unseen.filter(|_| !never_was).map_or_else(Vec::new, |child| self.child(index, &child))
            }
            Attributes::WaitClosed(it) | Attributes::TimerFired(it) | Attributes::TimerCancelled(it) => {
                execution.unwait(it.operation.as_ref());
                Vec::new()
            }
            Attributes::CancelRequested(it) => vec![execution.says(&format!("cancel requested{}", reason(&it.reason)))],
            Attributes::TimeoutReached(_) => vec![execution.says("its time is over")],
            Attributes::Suspended(_) => {
                execution.state = State::Suspended;
                vec![execution.says("suspended")]
            }
            Attributes::Resumed(_) => {
                execution.state = State::Running;
                vec![execution.says("resumed")]
            }
            Attributes::Ended(it) => execution.end(it, time_ms),
            Attributes::ActivityCompleted(wire::ActivityCompleted { operation, .. })
            | Attributes::ActivityFailed(wire::ActivityFailed { operation, .. })
            | Attributes::ActivityCancelled(wire::OperationOnly { operation }) => {
                execution.says_in(operation.as_ref()).map(String::clear);
                Vec::new()
            }
            Attributes::ActivityScheduled(_) => Vec::new(),
        }
    }

    /// Takes in a part of what an execution is making: of that, the end is shown.
    pub(crate) fn on_delta(&mut self, index: usize, delta: &v1::Delta) {
        let Some(saying) = self.executions[index].says_in(delta.operation.as_ref()) else { return };
        if delta.index <= 1 {
            saying.clear();
        }
        match &delta.delta {
            Some(Part::Text(more) | Part::Reasoning(more)) => saying.push_str(more),
            Some(Part::ToolCall(call)) => {
                if !call.name.is_empty() {
                    saying.extend([" ", call.name.as_str(), " "]);
                }
                saying.push_str(&call.arguments);
            }
            Some(Part::Reset(_) | Part::Value(_)) | None => {}
        }
        if let Some((from, _)) = saying.char_indices().rev().nth(SAYING_MAX) {
            saying.drain(..from);
        }
    }

    fn child(&mut self, parent: usize, started: &wire::ChildStarted) -> Vec<Effect> {
        let position = started.operation.as_ref().map(|it| it.position.clone()).unwrap_or_default();
        let Some(kind) = Kind::from_name(&started.kind).and_then(Kind::execution_kind) else { return Vec::new() };
        let key = ExecutionKey { kind, name: started.name.clone() };
        let line = self.executions[parent].says_at(&position, &format!("started {} {}", kind.title(), started.name));
        if self.by_key.contains_key(&key) {
            return Vec::new();
        }
        if self.executions.len() >= EXECUTIONS_MAX {
            self.unfollowed += 1;
            return vec![line];
        }
        let child = self.add(key);
        let execution = &mut self.executions[parent];
        match execution.by_position.get(&position).copied() {
            Some(at) => {
                let task = &mut execution.tasks[at];
                task.children.push(child);
                if let Some(Wait::Child { name, .. }) = &mut task.waits_for {
                    started.name.clone_into(name);
                }
            }
            None => execution.children.push(child),
        }
        vec![line, Effect::Follow(child)]
    }
}

/// The child that an execution has asked for, as its start will be recorded.
fn requested(it: &wire::ChildRequested) -> wire::ChildStarted {
    let kind = format!("{}Execution", it.kind);
    wire::ChildStarted { operation: it.operation.clone(), kind, name: it.execution_name.clone(), uid: String::new() }
}

impl Execution {
    fn says(&self, what: &str) -> Effect {
        Effect::Line(format!("{}: {what}", self.key))
    }

    fn says_at(&self, position: &str, what: &str) -> Effect {
        let place = label(position);
        if place.is_empty() { self.says(what) } else { Effect::Line(format!("{} {place}: {what}", self.key)) }
    }

    /// The task at a position; a question to a person stands beside the call that it is about.
    fn task(&mut self, position: &str) -> Option<&mut Task> {
        let call = |segment: &str| position.replacen(segment, "/tools/", 1);
        let at = *self
            .by_position
            .get(position)
            .or_else(|| self.by_position.get(&call("/approvals/")))
            .or_else(|| self.by_position.get(&call("/in-doubt/")))?;
        self.tasks.get_mut(at)
    }

    /// A person is asked.
    fn asks(&mut self, asked: &wire::ApprovalRequested) -> Effect {
        self.wait(asked.operation.as_ref(), Wait::Approval { name: asked.approval_name.clone() });
        let place = asked.operation.as_ref().map(|it| label(&it.position)).unwrap_or_default();
        let what = format!("{} {place}: asks a person: {}", self.key, asked.message);
        let verb = if asked.r#type == "InDoubt" { "resolve" } else { "approve" };
        Effect::Asked { what, command: format!("baton {verb} {}", asked.approval_name) }
    }

    /// What is said in the task of an activity, or in the task around it.
    fn says_in(&mut self, operation: Option<&wire::Operation>) -> Option<&mut String> {
        let position = &operation?.position;
        let mut around = std::iter::once(position.as_str()).chain(ancestors(position));
        let at = around.find_map(|position| self.by_position.get(position).copied())?;
        self.tasks.get_mut(at).map(|task| &mut task.saying)
    }

    fn wait(&mut self, operation: Option<&wire::Operation>, what: Wait) {
        if let Some(task) = operation.and_then(|it| self.task(&it.position)) {
            task.waits_for = Some(what);
        }
    }

    /// A timer beside another wait only limits it.
    fn timer(&mut self, operation: Option<&wire::Operation>, due_ms: i64) {
        if let Some(task) = operation.and_then(|it| self.task(&it.position))
            && task.kind == "wait"
        {
            task.waits_for = Some(Wait::Timer { due_ms });
        }
    }

    fn unwait(&mut self, operation: Option<&wire::Operation>) {
        if let Some(task) = operation.and_then(|it| self.task(&it.position)) {
            task.waits_for = None;
        }
    }

    fn start_task(&mut self, started: &wire::TaskStarted, time_ms: i64) {
        if let Some(&at) = self.by_position.get(&started.position) {
            let task = &mut self.tasks[at];
            *task = Task {
                attempt: started.attempt,
                state: State::Running,
                started_ms: time_ms,
                ended_ms: None,
                waits_for: None,
                fault: None,
                saying: String::new(),
                children: std::mem::take(&mut task.children),
                tasks: std::mem::take(&mut task.tasks),
                ..task.clone()
            };
            return;
        }
        if self.tasks.len() >= TASKS_MAX {
            self.unshown += 1;
            return;
        }
        let parent = ancestors(&started.position).find_map(|position| self.by_position.get(position).copied());
        let index = self.tasks.len();
        match parent {
            Some(parent) => self.tasks[parent].tasks.push(index),
            None => self.top.push(index),
        }
        self.by_position.insert(started.position.clone(), index);
        self.tasks.push(Task {
            position: started.position.clone(),
            kind: started.kind.clone(),
            attempt: started.attempt,
            state: State::Running,
            started_ms: time_ms,
            ended_ms: None,
            waits_for: None,
            fault: None,
            saying: String::new(),
            tasks: Vec::new(),
            children: Vec::new(),
        });
    }

    fn end_task(&mut self, position: &str, state: State, fault: Option<String>, time_ms: i64) -> Vec<Effect> {
        let key = self.key.name.clone();
        let Some(task) = self.task(position) else { return Vec::new() };
        task.state = state;
        task.ended_ms = Some(time_ms);
        task.waits_for = None;
        task.saying.clear();
        let took = super::render::elapsed(time_ms - task.started_ms);
        let words = match state {
            State::Completed => format!("completed in {took}"),
            State::Faulted => format!("failed after {took}: {}", fault.as_deref().unwrap_or("no reason given")),
            State::Cancelled => format!("cancelled after {took}"),
            State::Skipped | State::Running | State::Suspended => "skipped".to_owned(),
        };
        task.fault = fault;
        vec![Effect::Line(format!("{key} {}: {words}", label(position)))]
    }

    fn on_note(&mut self, note: &note::Note, time_ms: i64) -> Vec<Effect> {
        match note {
            note::Note::TaskStarted(it) => {
                self.start_task(it, time_ms);
                Vec::new()
            }
            note::Note::TaskCompleted(position) => self.end_task(position, State::Completed, None, time_ms),
            note::Note::TaskCancelled(position) => self.end_task(position, State::Cancelled, None, time_ms),
            note::Note::TaskFaulted(it) => self.end_task(
                &it.position,
                State::Faulted,
                Some(crate::output::fault_words(it.fault.as_ref())),
                time_ms,
            ),
            note::Note::TaskSkipped(it) => {
                let started = wire::TaskStarted {
                    position: it.position.clone(),
                    name: it.name.clone(),
                    kind: String::new(),
                    attempt: 1,
                };
                self.start_task(&started, time_ms);
                self.end_task(&it.position, State::Skipped, None, time_ms)
            }
            note::Note::TaskRetried(it) => {
                if let Some(task) = self.task(&it.position) {
                    task.waits_for =
                        Some(Wait::Retry { attempt: it.attempt, due_ms: time_ms.saturating_add(it.delay_ms) });
                }
                vec![self.says_at(
                    &it.position,
                    &format!("attempt {} in {}", it.attempt, super::render::elapsed(it.delay_ms)),
                )]
            }
            note::Note::Message(_) | note::Note::Artifact(_) => Vec::new(),
        }
    }

    fn end(&mut self, ended: &wire::Ended, time_ms: i64) -> Vec<Effect> {
        self.state = match ended.phase.parse() {
            Ok(Phase::Completed) => State::Completed,
            Ok(Phase::Cancelled) => State::Cancelled,
            Ok(Phase::Failed | Phase::TimedOut | Phase::Pending | Phase::Running | Phase::Suspended) | Err(_) => {
                State::Faulted
            }
        };
        self.ended_ms = Some(time_ms);
        for task in self.tasks.iter_mut().filter(|task| !task.state.has_ended()) {
            task.state = if self.state == State::Completed { State::Completed } else { State::Cancelled };
            task.ended_ms = Some(time_ms);
            task.waits_for = None;
        }
        let took = self
            .started_ms
            .map(|started| format!(" after {}", super::render::elapsed(time_ms - started)))
            .unwrap_or_default();
        let fault = crate::output::fault_words(ended.fault.as_ref());
        let why = if fault.is_empty() { reason(&ended.reason) } else { format!(": {fault}") };
        self.ending = (self.state != State::Completed).then(|| format!("{}{why}", ended.phase));
        vec![self.says(&format!("{}{took}{why}", ended.phase.to_ascii_lowercase()))]
    }
}

fn reason(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// The positions around one, nearest first.
fn ancestors(position: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(position), |position| position.rsplit_once('/').map(|(rest, _)| rest)).skip(1)
}
