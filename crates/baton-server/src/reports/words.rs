//! The lifecycle events of the specification, made of the events of a history.
//!
//! Pure: the same history gives the same events, with the same ids. The id is `<uid>/<number>`, of the execution and in its
//! history; where one event of the history makes several, the further ones have a word behind that.

use std::collections::BTreeMap;

use baton_proto::history_v1::{Fault, HistoryEvent, Note, history_event::Attributes, note::Note as NoteKind};
use baton_types::{Phase, Uid};
use serde_json::{Map, Value, json};

use super::Lifecycle;

/// Largest output that an event has with it.
pub(super) const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// What types of events begin with.
const PREFIX: &str = "io.serverlessworkflow";
/// The activity by which a task begins to listen.
const SUBSCRIBE: &str = "subscribe";

/// The execution that events are about.
pub(super) struct About {
    pub(super) namespace: String,
    name: String,
    pub(super) uid: Uid,
}

impl About {
    pub(super) fn new(namespace: &str, name: &str, uid: Uid) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned(), uid }
    }

    /// The name with the namespace, as the specification has it.
    fn qualified(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

/// How far an execution was told of, and what is going on in it.
#[derive(Debug, Default)]
pub(super) struct Story {
    number: i32,
    ended: bool,
    /// Tasks that run, by their positions.
    open: BTreeMap<String, Open>,
}

#[derive(Debug)]
struct Open {
    listens: bool,
    correlates: bool,
}

/// An event that is to be told.
#[derive(Debug)]
pub(super) struct Telling {
    number: i32,
    /// What its id has behind the number.
    mark: String,
    /// What its type has between prefix and version, such as `task.started`.
    kind: &'static str,
    data: Map<String, Value>,
    /// In which field of the data the time stands.
    at: &'static str,
    wants_definition: bool,
    wants_output: bool,
    /// The task that it is about, if it is about one.
    task: Option<String>,
}

impl Story {
    /// The last number of the history that it has come to.
    pub(super) fn number(&self) -> i32 {
        self.number
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next event of the history; what there is to be told of it.
    pub(super) fn follow(&mut self, event: &HistoryEvent, level: Lifecycle) -> Vec<Telling> {
        self.number = event.number;
        let mut told = Vec::new();
        match &event.attributes {
            Some(Attributes::Started(_)) => {
                let started = self.workflow("workflow.started", "startedAt");
                told.push(Telling { wants_definition: true, ..started });
                told.push(self.status("running"));
            }
            Some(Attributes::Suspended(_)) => {
                self.hold(["workflow.suspended", "task.suspended"], "suspendedAt", "suspended", &mut told);
            }
            Some(Attributes::Resumed(_)) => {
                self.hold(["workflow.resumed", "task.resumed"], "resumedAt", "running", &mut told);
            }
            Some(Attributes::ActivityScheduled(it)) if it.activity == SUBSCRIBE => {
                let position = it.operation.as_ref().map(|id| id.position.as_str()).unwrap_or_default();
                if let Some(open) = self.open.get_mut(position).filter(|open| open.listens && !open.correlates) {
                    open.correlates = true;
                    told.push(self.workflow("workflow.correlation-started", "startedAt"));
                }
            }
            Some(Attributes::Note(Note { note: Some(note) })) => self.note(note, &mut told),
            Some(Attributes::Ended(it)) => {
                self.ended = true;
                let (kind, at, status) = match it.phase.parse() {
                    Ok(Phase::Completed) => ("workflow.completed", "completedAt", "completed"),
                    Ok(Phase::Cancelled) => ("workflow.cancelled", "cancelledAt", "cancelled"),
                    _ => ("workflow.faulted", "faultedAt", "faulted"),
                };
                let mut ended = self.workflow(kind, at);
                match status {
                    "completed" => ended.wants_output = true,
                    "faulted" => drop(ended.data.insert("error".to_owned(), error_of(it.fault.as_ref()))),
                    _ => {}
                }
                told.push(ended);
                told.push(self.status(status));
            }
            _ => {}
        }
        told.retain(|telling| match level {
            Lifecycle::Off => false,
            Lifecycle::Workflows => telling.task.is_none(),
            Lifecycle::Tasks => true,
        });
        told
    }

    fn note(&mut self, note: &NoteKind, told: &mut Vec<Telling>) {
        match note {
            NoteKind::TaskStarted(it) => {
                let open = Open { listens: it.kind == "listen", correlates: false };
                self.open.insert(it.position.clone(), open);
                if it.attempt <= 1 {
                    told.push(self.task("task.created", "createdAt", &it.position, "created"));
                }
                told.push(self.task("task.started", "startedAt", &it.position, ""));
                told.push(self.task_status(&it.position, "running"));
            }
            NoteKind::TaskRetried(it) => told.push(self.task("task.retried", "retriedAt", &it.position, "")),
            NoteKind::TaskCompleted(position) => {
                self.close(position, told);
                told.push(self.task("task.completed", "completedAt", position, ""));
                told.push(self.task_status(position, "completed"));
            }
            NoteKind::TaskFaulted(it) => {
                self.open.remove(&it.position);
                let mut faulted = self.task("task.faulted", "faultedAt", &it.position, "");
                faulted.data.insert("error".to_owned(), error_of(it.fault.as_ref()));
                told.push(faulted);
                told.push(self.task_status(&it.position, "faulted"));
            }
            NoteKind::TaskCancelled(position) => {
                self.open.remove(position);
                told.push(self.task("task.cancelled", "cancelledAt", position, ""));
                told.push(self.task_status(position, "cancelled"));
            }
            // A task that is skipped was never created.
            NoteKind::TaskSkipped(_) | NoteKind::Message(_) | NoteKind::Artifact(_) => {}
        }
    }

    fn close(&mut self, position: &str, told: &mut Vec<Telling>) {
        if self.open.remove(position).is_some_and(|open| open.correlates) {
            let completed = self.workflow("workflow.correlation-completed", "completedAt");
            told.push(Telling { mark: "correlation".to_owned(), ..completed });
        }
    }

    /// The workflow is suspended or resumed, and with it all its tasks that run.
    fn hold(&self, kinds: [&'static str; 2], at: &'static str, status: &'static str, told: &mut Vec<Telling>) {
        let [workflow, task] = kinds;
        told.push(self.workflow(workflow, at));
        told.push(self.status(status));
        for position in self.open.keys() {
            told.push(self.task(task, at, position, position));
            let changed = self.task_status(position, status);
            told.push(Telling { mark: format!("{position}/status"), ..changed });
        }
    }

    fn workflow(&self, kind: &'static str, at: &'static str) -> Telling {
        Telling {
            number: self.number,
            mark: String::new(),
            kind,
            data: Map::new(),
            at,
            wants_definition: false,
            wants_output: false,
            task: None,
        }
    }

    fn status(&self, status: &str) -> Telling {
        let mut changed = self.workflow("workflow.status-changed", "updatedAt");
        changed.data.insert("status".to_owned(), status.into());
        Telling { mark: "status".to_owned(), ..changed }
    }

    fn task(&self, kind: &'static str, at: &'static str, position: &str, mark: &str) -> Telling {
        Telling { mark: mark.to_owned(), task: Some(position.to_owned()), ..self.workflow(kind, at) }
    }

    fn task_status(&self, position: &str, status: &str) -> Telling {
        let mut changed = self.task("task.status-changed", "updatedAt", position, "status");
        changed.data.insert("status".to_owned(), status.into());
        changed
    }
}

impl Telling {
    /// Whether [`Self::set_definition`] is to be called.
    pub(super) fn wants_definition(&self) -> bool {
        self.wants_definition
    }

    /// `document` is what the definition says of itself.
    pub(super) fn set_definition(&mut self, document: &Value) {
        let of = |name: &str| document.get(name).cloned().unwrap_or_default();
        let about = json!({"name": of("name"), "namespace": of("namespace"), "version": of("version")});
        self.data.insert("definition".to_owned(), about);
    }

    /// Whether [`Self::set_output`] is to be called.
    pub(super) fn wants_output(&self) -> bool {
        self.wants_output
    }

    pub(super) fn set_output(&mut self, output: Option<Value>) {
        if let Some(output) = output {
            self.data.insert("output".to_owned(), output);
        }
    }

    /// The event in the JSON format of CloudEvents.
    pub(super) fn event(mut self, about: &About, time_ms: i64) -> Value {
        let time = baton_proto::Timestamp::from_millis(time_ms).to_string();
        let qualified = about.qualified();
        let mut data = Map::new();
        match self.task.take() {
            None => data.insert("name".to_owned(), qualified.clone().into()),
            Some(task) => {
                data.insert("workflow".to_owned(), qualified.clone().into());
                data.insert("task".to_owned(), task.into())
            }
        };
        data.insert(self.at.to_owned(), time.clone().into());
        data.append(&mut self.data);
        let separator = if self.mark.is_empty() || self.mark.starts_with('/') { "" } else { "/" };
        json!({
            "specversion": "1.0",
            "id": format!("{}/{}{separator}{}", about.uid, self.number, self.mark),
            "source": format!("/apis/baton.dev/v1/namespaces/{}/workflowexecutions/{}", about.namespace, about.name),
            "type": format!("{PREFIX}.{}.v1", self.kind),
            "subject": qualified,
            "time": time,
            "datacontenttype": "application/json",
            "data": data,
        })
    }
}

/// A fault in the words of the language.
fn error_of(fault: Option<&Fault>) -> Value {
    let Some(fault) = fault else {
        // An execution whose own time was over.
        return json!({"type": baton_execution::fault_type::TIMEOUT, "status": 408, "title": "Timeout"});
    };
    let mut error = Map::new();
    error.insert("type".to_owned(), fault.r#type.clone().into());
    error.insert("status".to_owned(), fault.status.into());
    for (name, text) in [("title", &fault.title), ("detail", &fault.detail), ("instance", &fault.instance)] {
        if let Some(text) = text {
            error.insert(name.to_owned(), text.clone().into());
        }
    }
    Value::Object(error)
}
