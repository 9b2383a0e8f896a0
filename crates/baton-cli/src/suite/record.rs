//! A test file from what happened in an execution: its input, what it called, what it was told, how it ended.

use std::collections::BTreeMap;

use baton_proto::{
    history_v1::{
        self as history, HistoryEvent, Operation, history_event::Attributes, note::Note, outcome::Result as Told,
    },
    v1,
};
use baton_types::format_duration;
use serde_json::{Map, Value, json};

/// Answers that took less are recorded as given at once, in milliseconds: how fast a server was is of no interest.
const AFTER_MS_MIN: i64 = 1000;

/// A test file, and what could not be recorded.
pub(crate) struct Recording {
    pub(crate) document: Value,
    pub(crate) missing: Vec<String>,
}

type Id = (String, i32);

/// What an execution asked for.
struct Asked {
    id: Id,
    at_ms: i64,
    activity: String,
}

/// What it was told, and when.
struct Answer {
    at_ms: i64,
    said: (&'static str, Value),
}

#[derive(Default)]
struct Recorder {
    start_ms: i64,
    case: Map<String, Value>,
    asked: Vec<Asked>,
    activities: BTreeMap<Id, Answer>,
    waits: BTreeMap<Id, Option<Answer>>,
    events: Vec<Value>,
    names: BTreeMap<String, String>,
    missing: Vec<String>,
    expect: Map<String, Value>,
}

/// Makes a test file. `workflow` is the file that it is to name, `name` the workflow in it, if there may be several.
pub(crate) fn record(events: &[HistoryEvent], workflow: &str, name: &str) -> Recording {
    let mut recorder = Recorder::default();
    for event in events {
        let at_ms = event.time.as_ref().map_or(0, |time| time.seconds * 1000 + i64::from(time.nanos) / 1_000_000);
        if let Some(attributes) = &event.attributes {
            recorder.take(at_ms, attributes);
        }
    }
    let calls = recorder.calls();
    let Recorder { mut case, events, mut missing, expect, .. } = recorder;
    if !calls.is_empty() {
        case.insert("calls".to_owned(), calls.into());
    }
    if !events.is_empty() {
        case.insert("events".to_owned(), events.into());
    }
    if expect.is_empty() {
        missing.push("its end: it has not ended yet".to_owned());
    }
    case.insert("expect".to_owned(), expect.into());
    let mut document = json!({"workflow": workflow, "name": name, "cases": [case]});
    if let (true, Some(fields)) = (name.is_empty(), document.as_object_mut()) {
        fields.shift_remove("name");
    }
    Recording { document, missing }
}

impl Recorder {
    fn take(&mut self, at_ms: i64, attributes: &Attributes) {
        match attributes {
            Attributes::Started(it) => {
                self.start_ms = at_ms;
                self.case.insert("name".to_owned(), format!("as {} went", it.name).into());
                let input = self.data(it.input.as_ref(), "the input");
                self.case.insert("input".to_owned(), input);
                if !it.env.is_empty() {
                    let env: BTreeMap<&String, &String> = it.env.iter().collect();
                    self.case.insert("env".to_owned(), json!(env));
                }
            }
            Attributes::ActivityScheduled(it) => self.ask(at_ms, it.operation.as_ref(), &it.activity),
            Attributes::ChildRequested(it) => {
                if it.awaited {
                    self.ask(at_ms, it.operation.as_ref(), &it.kind);
                    self.waits.entry(id(it.operation.as_ref())).or_default();
                }
            }
            Attributes::CallbackAwaited(it) => {
                self.waits.entry(id(it.operation.as_ref())).or_default();
            }
            Attributes::ActivityCompleted(it) => {
                let id = id(it.operation.as_ref());
                let output = self.data(it.output.as_ref(), &format!("the output of {}", id.0));
                self.activities.insert(id, Answer { at_ms, said: ("returns", output) });
            }
            Attributes::ActivityFailed(it) => {
                let id = id(it.operation.as_ref());
                let fault = self.fault(it.fault.as_ref());
                self.activities.insert(id, Answer { at_ms, said: ("fails", fault) });
            }
            Attributes::CallbackAnswered(it) => {
                let id = id(it.operation.as_ref());
                let said = match it.outcome.as_ref().and_then(|outcome| outcome.result.as_ref()) {
                    Some(Told::Failed(fault)) => ("fails", self.fault(Some(fault))),
                    Some(Told::Cancelled(reason)) => ("cancelled", reason.as_str().into()),
                    Some(Told::Completed(data)) => {
                        ("returns", self.data(Some(data), &format!("the answer to {}", id.0)))
                    }
                    None => ("returns", Value::Null),
                };
                self.waits.insert(id, Some(Answer { at_ms, said }));
            }
            Attributes::CancelRequested(it) => {
                let after = duration(at_ms - self.start_ms);
                self.case.insert("cancel".to_owned(), json!({"after": after, "reason": it.reason}));
            }
            Attributes::TimeoutReached(_) => {
                self.case.insert("timeout".to_owned(), duration(at_ms - self.start_ms).into());
            }
            Attributes::Note(it) => {
                if let Some(Note::TaskStarted(it)) = &it.note {
                    self.names.insert(it.position.clone(), it.name.clone());
                }
            }
            Attributes::Ended(it) => self.end(it),
            Attributes::TimerFired(_)
            | Attributes::Suspended(_)
            | Attributes::Resumed(_)
            | Attributes::ChildStarted(_)
            | Attributes::ActivityCancelled(_)
            | Attributes::TimerStarted(_)
            | Attributes::TimerCancelled(_)
            | Attributes::ApprovalRequested(_)
            | Attributes::WaitClosed(_) => {}
        }
    }

    fn ask(&mut self, at_ms: i64, operation: Option<&Operation>, activity: &str) {
        self.asked.push(Asked { id: id(operation), at_ms, activity: activity.to_owned() });
    }

    fn end(&mut self, ended: &history::Ended) {
        match ended.phase.as_str() {
            "Completed" => {
                let output = self.data(ended.output.as_ref(), "the output");
                self.expect.insert("output".to_owned(), output);
            }
            "Failed" => {
                let fault = self.fault(ended.fault.as_ref());
                self.expect.insert("fault".to_owned(), json!({"type": fault["type"], "status": fault["status"]}));
            }
            phase => {
                self.expect.insert("ended".to_owned(), phase.into());
            }
        }
    }

    /// The answers in the order of the calls; those that answer themselves are left out.
    fn calls(&mut self) -> Vec<Value> {
        let mut calls = Vec::new();
        for Asked { id, at_ms, activity } in std::mem::take(&mut self.asked) {
            let wait = self.waits.remove(&id);
            if activity == "subscribe" {
                self.arrivals(wait.flatten());
                continue;
            }
            let is_own = wait.is_none() && matches!(activity.as_str(), "echo" | "emit");
            let answer = match wait {
                Some(answer) => answer,
                None => self.activities.remove(&id),
            };
            if is_own && answer.as_ref().is_some_and(|answer| answer.said.0 == "returns") {
                continue;
            }
            let mut call = Map::new();
            call.insert("task".to_owned(), self.task(&id.0).into());
            match answer {
                None => {
                    call.insert("silent".to_owned(), true.into());
                }
                Some(Answer { at_ms: answered_ms, said: (how, what) }) => {
                    call.insert(how.to_owned(), what);
                    if answered_ms - at_ms >= AFTER_MS_MIN {
                        call.insert("after".to_owned(), duration(answered_ms - at_ms).into());
                    }
                }
            }
            calls.push(call.into());
        }
        calls
    }

    /// Events that came to a listener.
    fn arrivals(&mut self, answer: Option<Answer>) {
        let Some(Answer { at_ms, said: (_, answer) }) = answer else { return };
        let after = duration(at_ms - self.start_ms);
        for entry in answer["events"].as_array().into_iter().flatten() {
            self.events.push(json!({"after": after, "event": entry["event"]}));
        }
    }

    /// The task's name if that says which, else its position.
    fn task(&self, position: &str) -> String {
        match self.names.get(position) {
            Some(name) if self.names.values().filter(|other| *other == name).count() == 1 => name.clone(),
            _ => position.to_owned(),
        }
    }

    fn data(&mut self, data: Option<&history::Data>, what: &str) -> Value {
        let Some(data) = data else { return Value::Null };
        if data.text.is_empty() && !data.digest.is_empty() {
            self.missing.push(format!("{what}: its {} bytes are not in the history", data.size_bytes));
            return Value::Null;
        }
        serde_json::from_str(&data.text).unwrap_or_default()
    }

    fn fault(&mut self, fault: Option<&history::Fault>) -> Value {
        let Some(fault) = fault else { return Value::Null };
        let mut fields = Map::new();
        fields.insert("type".to_owned(), fault.r#type.as_str().into());
        fields.insert("status".to_owned(), fault.status.into());
        for (name, text) in [("title", &fault.title), ("detail", &fault.detail)] {
            if let Some(text) = text {
                fields.insert(name.to_owned(), text.as_str().into());
            }
        }
        if fault.non_retryable {
            fields.insert("nonRetryable".to_owned(), true.into());
        }
        if fault.data.is_some() {
            let data = self.data(fault.data.as_ref(), "the data of a fault");
            fields.insert("data".to_owned(), data);
        }
        fields.into()
    }
}

fn id(operation: Option<&Operation>) -> Id {
    operation.map(|it| (it.position.clone(), it.attempt)).unwrap_or_default()
}

fn duration(millis: i64) -> String {
    format_duration(std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// Name of the workflow that an execution runs, if it is not its own.
pub(crate) fn workflow_name(execution: &v1::WorkflowExecution) -> &str {
    execution.spec.as_ref().map(|spec| spec.workflow.as_str()).unwrap_or_default()
}
