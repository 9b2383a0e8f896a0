//! The engine of a rehearsal.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use baton_execution::{
    ChildTarget, Choice, Command, Decision, Ending, Fault, Grant, Input, Note, OperationId, Outcome, Program,
    ProgramKind, Question, Recorded, ScheduleActivity, Start, StartChild, Used, arguments_digest, fault_type,
};
use baton_types::Uid;
use serde_json::{Map, Value, json};

use super::{
    APPROVAL, Answer, Call, INPUTS_MAX, Rehearsal, Reply, START_MS, Script, Stop, TaskRun, TaskState, contains,
};
use crate::{Definition, load};

/// Runs a workflow against a script.
pub fn rehearse(definition: &Arc<Definition>, script: &Script) -> Rehearsal {
    rehearse_program(Box::new(load(Arc::clone(definition))), script)
}

/// Runs any Program, one that has seen nothing yet, against a script.
pub fn rehearse_program(program: Box<dyn Program>, script: &Script) -> Rehearsal {
    let mut stage = Stage::new(program, script);
    let result = stage.play();
    let unused = script.answers.iter().zip(&stage.given);
    let unused = unused.enumerate().filter(|(_, (answer, given))| answer.times.is_some_and(|times| **given < times));
    Rehearsal {
        result,
        unused: unused.map(|(place, _)| place).collect(),
        elapsed_ms: stage.elapsed_ms(),
        calls: stage.calls,
        tasks: stage.tasks,
    }
}

/// What is to come.
enum Coming {
    Start,
    Timer(OperationId),
    Activity(OperationId, Result<Value, Fault>),
    Wait(OperationId, Outcome),
    Event(Value),
    Cancel(String),
    Timeout,
}

/// A wait for events.
struct Subscription {
    /// Number of the last event that it has had.
    after: Option<usize>,
    since_ms: i64,
}

struct Stage<'s> {
    program: Box<dyn Program>,
    script: &'s Script,
    now_ms: i64,
    /// By time, then in the order in which it was asked for.
    coming: BTreeMap<(i64, u64), Coming>,
    asked: u64,
    timers: BTreeSet<OperationId>,
    activities: BTreeSet<OperationId>,
    waits: BTreeMap<OperationId, Option<u64>>,
    subscriptions: BTreeMap<OperationId, Subscription>,
    /// Events that came, with their time. The cursor of an event is its number from 1.
    events: Vec<(i64, Value)>,
    /// How often each answer was given.
    given: Vec<u32>,
    names: HashMap<String, String>,
    calls: Vec<Call>,
    tasks: Vec<TaskRun>,
    unanswered: Vec<usize>,
    ending: Option<Ending>,
}

impl<'s> Stage<'s> {
    fn new(program: Box<dyn Program>, script: &'s Script) -> Self {
        let mut stage = Self {
            program,
            script,
            now_ms: START_MS,
            coming: BTreeMap::new(),
            asked: 0,
            timers: BTreeSet::new(),
            activities: BTreeSet::new(),
            waits: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            events: Vec::new(),
            given: vec![0; script.answers.len()],
            names: HashMap::new(),
            calls: Vec::new(),
            tasks: Vec::new(),
            unanswered: Vec::new(),
            ending: None,
        };
        stage.expect(0, Coming::Start);
        for arrival in &script.events {
            stage.expect(arrival.after_ms, Coming::Event(arrival.event.clone()));
        }
        if let Some((after_ms, reason)) = &script.cancel {
            stage.expect(*after_ms, Coming::Cancel(reason.clone()));
        }
        if let Some(after_ms) = script.timeout_ms {
            stage.expect(after_ms, Coming::Timeout);
        }
        stage
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.now_ms.saturating_sub(START_MS)).unwrap_or(0)
    }

    fn expect(&mut self, after_ms: u64, coming: Coming) {
        let at_ms = self.now_ms.saturating_add(i64::try_from(after_ms).unwrap_or(i64::MAX));
        self.expect_at(at_ms, coming);
    }

    fn expect_at(&mut self, at_ms: i64, coming: Coming) {
        self.asked += 1;
        self.coming.insert((at_ms.max(self.now_ms), self.asked), coming);
    }

    fn play(&mut self) -> Result<Ending, Stop> {
        for _ in 0..INPUTS_MAX {
            let Some(((at_ms, _), coming)) = self.coming.pop_first() else {
                let waiting = self.program.progress().waiting;
                return Err(Stop::Stuck(waiting.iter().map(|it| format!("{} at {}", it.on, it.id.position)).collect()));
            };
            let Some(input) = self.input(at_ms, coming) else { continue };
            self.now_ms = at_ms;
            let commands = self.program.on_input(&Recorded { time_ms: at_ms, input }).map_err(Stop::Broken)?;
            for command in commands {
                self.carry_out(command);
            }
            if !self.unanswered.is_empty() {
                return Err(Stop::Unanswered(std::mem::take(&mut self.unanswered)));
            }
            if let Some(ending) = self.ending.take() {
                return Ok(ending);
            }
        }
        Err(Stop::Endless)
    }

    /// What comes as an input, unless nobody waits for it any more.
    fn input(&mut self, at_ms: i64, coming: Coming) -> Option<Input> {
        match coming {
            Coming::Start => Some(Input::Started(Start {
                uid: Uid::from_bytes([7; 16]),
                namespace: "default".to_owned(),
                name: "rehearsal".to_owned(),
                input: self.script.input.clone(),
                env: self.script.env.clone(),
                settings: self.script.limits.clone(),
                grant: Some(Grant::default()),
                carried_over: Value::Null,
            })),
            Coming::Timer(id) => self.timers.remove(&id).then_some(Input::TimerFired { id }),
            Coming::Activity(id, result) => self.activities.remove(&id).then_some(match result {
                Ok(output) => Input::ActivityCompleted { id, output },
                Err(fault) => Input::ActivityFailed { fault: fault.at(&id.position), id },
            }),
            Coming::Wait(id, outcome) => {
                self.waits.remove(&id)?;
                // What answers here is a script, which uses nothing.
                Some(Input::CallbackAnswered { id, outcome, used: Some(Used::default()) })
            }
            Coming::Event(event) => {
                self.events.push((at_ms, event));
                self.serve(at_ms);
                None
            }
            Coming::Cancel(reason) => Some(Input::CancelRequested { reason }),
            Coming::Timeout => Some(Input::TimeoutReached),
        }
    }

    /// Answers subscriptions for which there are events.
    fn serve(&mut self, at_ms: i64) {
        let served: Vec<(OperationId, Vec<Value>)> = self
            .subscriptions
            .iter()
            .filter_map(|(id, subscription)| {
                let events: Vec<Value> = (1..)
                    .zip(&self.events)
                    .filter(|(number, (came_ms, _))| match subscription.after {
                        Some(after) => *number > after,
                        None => *came_ms >= subscription.since_ms,
                    })
                    .map(|(number, (_, event)): (usize, _)| json!({"event": event, "cursor": number.to_string()}))
                    .collect();
                (!events.is_empty()).then(|| (id.clone(), events))
            })
            .collect();
        for (id, events) in served {
            self.subscriptions.remove(&id);
            let answer = json!({"events": events, "cursor": self.events.len().to_string()});
            self.expect_at(at_ms, Coming::Wait(id, Outcome::Completed(answer)));
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::ScheduleActivity(activity) => self.schedule(activity),
            Command::CancelActivity { id } => {
                self.activities.remove(&id);
            }
            Command::StartTimer { id, due_ms } => {
                self.timers.insert(id.clone());
                self.expect_at(due_ms, Coming::Timer(id));
            }
            Command::CancelTimer { id } => {
                self.timers.remove(&id);
            }
            Command::AwaitCallback { id, heartbeat_timeout_ms, .. } => {
                self.waits.insert(id, heartbeat_timeout_ms);
            }
            Command::Ask(question) => self.ask(&question),
            Command::CloseWait { id } => {
                self.waits.remove(&id);
                self.subscriptions.remove(&id);
            }
            Command::StartChild(child) => self.start_child(&child),
            Command::Note(note) => self.note(note),
            Command::End(ending) => self.ending = Some(ending),
        }
    }

    fn schedule(&mut self, activity: ScheduleActivity) {
        let ScheduleActivity { id, activity, input, start_to_close_ms, .. } = activity;
        self.activities.insert(id.clone());
        if activity == "subscribe" {
            let after = input["after"].as_str().and_then(|cursor| cursor.parse().ok());
            let since_ms = input["sinceMs"].as_i64().unwrap_or(START_MS);
            self.subscriptions.insert(id.clone(), Subscription { after, since_ms });
            self.expect(0, Coming::Activity(id, Ok(Value::Null)));
            return self.serve(self.now_ms);
        }
        let own = match activity.as_str() {
            "echo" => Some(input.clone()),
            "emit" => input.get("event").cloned(),
            _ => None,
        };
        let given = self.program.activity_input(&id).unwrap_or(input);
        let call = self.call(&id, &activity, visible(given));
        // The answer to a request with a callback is the callback's: the request itself is taken at once.
        let is_awaited = self.waits.contains_key(&id);
        if is_awaited {
            self.expect(0, Coming::Activity(id.clone(), Ok(Value::Null)));
        }
        let Some(answer) = self.answer(call) else {
            match own {
                Some(own) if !is_awaited => self.expect(0, Coming::Activity(id, Ok(own))),
                _ => self.unanswered.push(call),
            }
            return;
        };
        if is_awaited {
            return self.answer_wait(id, answer);
        }
        let result = match &answer.reply {
            Reply::Returns(output) => Ok(output.clone()),
            Reply::Fails(fault) => Err(fault.clone()),
            Reply::Voiced(voice) => voice(&self.calls[call].input),
            Reply::Cancelled(reason) => Err(Fault::new(fault_type::CANCELLED, 499, reason)),
            Reply::Silent => return self.run_out(id, &activity, start_to_close_ms),
        };
        if answer.after_ms > start_to_close_ms {
            return self.run_out(id, &activity, start_to_close_ms);
        }
        self.expect(answer.after_ms, Coming::Activity(id, result));
    }

    /// What an engine says to an activity that takes too long.
    fn run_out(&mut self, id: OperationId, activity: &str, limit_ms: u64) {
        let fault =
            Fault::new(fault_type::TIMEOUT, 408, format!("activity '{activity}' did not end within {limit_ms} ms"));
        self.expect(limit_ms, Coming::Activity(id, Err(fault)));
    }

    fn answer_wait(&mut self, id: OperationId, answer: &Answer) {
        let outcome = match &answer.reply {
            Reply::Returns(output) => Outcome::Completed(output.clone()),
            Reply::Fails(fault) => Outcome::Failed(fault.clone()),
            Reply::Voiced(voice) => voice(&Value::Null).map_or_else(Outcome::Failed, Outcome::Completed),
            Reply::Cancelled(reason) => Outcome::Cancelled { reason: reason.clone() },
            Reply::Silent => {
                // Without heartbeats the Program's own timer is what ends the wait.
                if let Some(Some(limit_ms)) = self.waits.get(&id).copied() {
                    let fault = Fault::new(fault_type::TIMEOUT, 408, format!("no heartbeat came within {limit_ms} ms"));
                    self.expect(limit_ms, Coming::Wait(id, Outcome::Failed(fault)));
                }
                return;
            }
        };
        self.expect(answer.after_ms, Coming::Wait(id, outcome));
    }

    /// A question to a person, who says what the script has as the answer.
    fn ask(&mut self, question: &Question) {
        let Question { id, kind, tool, server, arguments, message, why, .. } = question;
        let shown = json!({
            "kind": kind.as_str(), "tool": tool, "server": server, "arguments": arguments, "message": message, "why": why,
        });
        self.names.insert(id.position.clone(), APPROVAL.to_owned());
        let call = self.call(id, APPROVAL, visible(shown));
        self.waits.insert(id.clone(), None);
        match self.answer(call) {
            Some(answer) => match &answer.reply {
                Reply::Returns(said) => {
                    let decision = decision(said, question);
                    let after_ms = answer.after_ms;
                    self.expect(after_ms, Coming::Wait(id.clone(), decision));
                }
                // Nobody decides: the Program's own timer is what ends the wait.
                Reply::Silent | Reply::Fails(_) | Reply::Voiced(_) | Reply::Cancelled(_) => {}
            },
            None => self.unanswered.push(call),
        }
    }

    fn start_child(&mut self, child: &StartChild) {
        let (activity, mut input) = (
            match child.kind {
                ProgramKind::Agent => "agent",
                ProgramKind::Workflow => "workflow",
            },
            Map::new(),
        );
        let target = match &child.target {
            ChildTarget::Named { name, version } => {
                if let Some(version) = version {
                    input.insert("version".to_owned(), version.as_str().into());
                }
                Value::from(name.as_str())
            }
            ChildTarget::Inline(definition) => definition.clone(),
        };
        input.insert(activity.to_owned(), target);
        for (name, text) in [("message", &child.message), ("session", &child.session)] {
            if let Some(text) = text {
                input.insert(name.to_owned(), text.as_str().into());
            }
        }
        if !child.input.is_null() {
            input.insert("input".to_owned(), child.input.clone());
        }
        if !child.env.is_empty() {
            input.insert("env".to_owned(), json!(child.env));
        }
        let call = self.call(&child.id, activity, visible(Value::Object(input)));
        if child.awaited {
            self.waits.insert(child.id.clone(), None);
        }
        match self.answer(call) {
            Some(answer) if child.awaited => self.answer_wait(child.id.clone(), answer),
            None if child.awaited => self.unanswered.push(call),
            // Nobody waits for what becomes of it.
            Some(_) | None => {}
        }
    }

    /// Notes a call, and gives its place.
    fn call(&mut self, id: &OperationId, activity: &str, input: Value) -> usize {
        self.calls.push(Call {
            task: self.names.get(&id.position).cloned().unwrap_or_else(|| {
                // The call of a model has no task of its own: it is the turn.
                id.position.rsplit('/').next().unwrap_or_default().to_owned()
            }),
            position: id.position.clone(),
            attempt: id.attempt,
            activity: activity.to_owned(),
            input,
            at_ms: self.elapsed_ms(),
        });
        self.calls.len() - 1
    }

    /// The first answer that fits and is not used up.
    fn answer(&mut self, call: usize) -> Option<&'s Answer> {
        let call = &self.calls[call];
        let fits = |answer: &Answer| {
            answer.task.as_ref().is_none_or(|task| *task == call.task || *task == call.position)
                && answer.matches.as_ref().is_none_or(|wanted| contains(&call.input, wanted))
        };
        let mut answers = self.script.answers.iter().zip(&mut self.given);
        let (answer, given) =
            answers.find(|(answer, given)| answer.times.is_none_or(|times| **given < times) && fits(answer))?;
        *given += 1;
        Some(answer)
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::TaskStarted { position, name, kind, attempt } => {
                self.names.insert(position.clone(), name.clone());
                self.tasks.push(TaskRun { name, position, kind, attempt, state: TaskState::Running });
            }
            Note::TaskSkipped { position, name } => {
                let state = TaskState::Skipped;
                self.tasks.push(TaskRun { name, position, kind: String::new(), attempt: 1, state });
            }
            Note::TaskCompleted { position } => self.ended(&position, TaskState::Completed),
            Note::TaskFaulted { position, .. } => self.ended(&position, TaskState::Faulted),
            Note::TaskCancelled { position } => self.ended(&position, TaskState::Cancelled),
            Note::TaskRetried { .. } | Note::Message { .. } | Note::Artifact { .. } => {}
        }
    }

    fn ended(&mut self, position: &str, state: TaskState) {
        let open = |task: &&mut TaskRun| task.state == TaskState::Running && task.position == position;
        if let Some(task) = self.tasks.iter_mut().rev().find(open) {
            task.state = state;
        }
    }
}

/// What a person says to a question, in the words of the script.
fn decision(said: &Value, question: &Question) -> Outcome {
    let text = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default();
    let Some(choice) = Choice::of(text("choice")).filter(|choice| question.kind.choices().contains(choice)) else {
        let choices: Vec<&str> = question.kind.choices().iter().map(|choice| choice.as_str()).collect();
        let detail = format!("'choice' is '{}', allowed are {}", text("choice"), choices.join(", "));
        return Outcome::Failed(Fault::new(fault_type::CONFIGURATION, 400, detail));
    };
    let decided = Decision {
        choice,
        approval: APPROVAL.to_owned(),
        decided_by: "rehearsal".to_owned(),
        reason: text("reason").to_owned(),
        arguments_digest: arguments_digest(&question.arguments),
        arguments: said.get("arguments").cloned(),
        result: said.get("result").cloned(),
    };
    decided.into_outcome()
}

/// Data with the placeholders of tokens and secrets made readable: they stand between two characters that no data holds.
fn visible(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains(START) => Value::String(visible_text(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(visible).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, field)| (name, visible(field))).collect())
        }
        other => other,
    }
}

fn visible_text(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(START) {
        let (inside, left) = after.split_once(END).unwrap_or((after, ""));
        let what = match inside.strip_prefix("baton.dev/").map(|what| what.split_once(':').unwrap_or((what, ""))) {
            // Which task it is for is seen beside it.
            Some((what, _)) => what.replace('-', " "),
            None => inside.replacen('~', " ", 1).replace('~', "."),
        };
        shown.extend([before, "<", &what, ">"]);
        rest = left;
    }
    shown + rest
}

/// What placeholders begin and end with.
const START: char = '\u{fdd0}';
const END: char = '\u{fdd1}';
