//! What the processes of `run` have in common: `await`, `return`, what they are given, and how their tasks wait for them.
//!
//! A kind reads its own part and gives a [`Process`], which is the task. The input of its activity is the evaluated
//! fields of that part, with `return` (`stdout`, `stderr`, `code`, `all` or `none`) and `await` beside them; the activity
//! returns the output. With `await: false` it returns as soon as the process runs, and the output is the task's input.
//!
//! A process is not repeated after a crash, as nobody knows what it did until then, unless `metadata` has
//! `baton.dev/repeatable: true`.

use baton_execution::{Effect, Fault};
use serde_json::{Map, Value, json};

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, shown},
    interpreter::{Call, FrameId, Run},
    task::{Delay, Event, Kind, Step, endpoint::Endpoint},
    template::Template,
};

/// A field of the activity's input.
#[derive(Debug)]
pub(crate) enum Field {
    Template(Template),
    /// Milliseconds.
    Delay(Delay),
    /// `{"endpoint", "authentication"}`.
    Endpoint(Endpoint),
}

/// Key of `metadata` by which an author says that the process may run again.
const REPEATABLE: &str = "baton.dev/repeatable";

/// A task that runs a process.
#[derive(Debug)]
pub(crate) struct Process {
    label: &'static str,
    activity: &'static str,
    /// Fields of the activity's input.
    fields: Vec<(&'static str, Field)>,
    /// What people call it.
    on: String,
    head: Head,
}

/// What stands beside the process in `run`, and in `metadata`.
#[derive(Debug)]
pub(crate) struct Head {
    awaited: bool,
    result: &'static str,
    effect: Effect,
}

impl Head {
    /// Reads `await`, `return` and `metadata`.
    pub(crate) fn read(builder: &mut Builder, task: &mut Fields<'_>, run: &mut Fields<'_>) -> Self {
        let awaited = run.boolean("await", builder).unwrap_or(true);
        let result = run.word("return", &["stdout", "stderr", "code", "all", "none"], builder).unwrap_or("stdout");
        let repeatable = task.get("metadata").and_then(|metadata| metadata.get(REPEATABLE));
        if let Some(other) = repeatable.filter(|value| !value.is_boolean()) {
            let path = format!("{}.{REPEATABLE}", task.at("metadata"));
            builder.violate(&path, format!("must be a boolean, found {}", kind_of(other)));
        }
        let repeatable = repeatable.and_then(Value::as_bool).unwrap_or(false);
        Self { awaited, result, effect: if repeatable { Effect::Repeatable } else { Effect::Once } }
    }
}

/// The part of `run` that says what is to run.
pub(crate) struct Part<'d, 'b> {
    pub(crate) fields: Fields<'d>,
    pub(crate) builder: &'b mut Builder,
    read: Vec<(&'static str, Field)>,
}

impl<'d, 'b> Part<'d, 'b> {
    pub(crate) fn new(fields: Fields<'d>, builder: &'b mut Builder) -> Self {
        Self { fields, builder, read: Vec::new() }
    }

    /// Takes a field that was read elsewhere.
    pub(crate) fn put(&mut self, name: &'static str, field: Field) {
        self.read.push((name, field));
    }

    /// A field that is a text or an expression.
    pub(crate) fn text(&mut self, name: &'static str) {
        if self.fields.text(name, self.builder).is_some() {
            self.any(name);
        }
    }

    /// A field that is a list of texts and expressions.
    pub(crate) fn texts(&mut self, name: &'static str) {
        let Some(value) = self.fields.get(name) else { return };
        let path = self.fields.at(name);
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if !item.is_string() {
                        let message = format!("must be a string, found {}", kind_of(item));
                        self.builder.violate(&format!("{path}[{index}]"), message);
                    }
                }
            }
            Value::String(text) if enclosed(text).is_some() => {}
            other => self.builder.violate(&path, format!("must be a list of strings, found {}", kind_of(other))),
        }
        self.any(name);
    }

    /// A field that is an object of scalars, or an expression.
    pub(crate) fn map(&mut self, name: &'static str) {
        let Some(value) = self.fields.get(name) else { return };
        let path = self.fields.at(name);
        match value {
            Value::Object(entries) => {
                for (key, entry) in entries.iter().filter(|(_, entry)| entry.is_array() || entry.is_object()) {
                    let message = format!("must be a string, found {}", kind_of(entry));
                    self.builder.violate(&format!("{path}.{}", shown(key)), message);
                }
            }
            Value::String(text) if enclosed(text).is_some() => {}
            other => self.builder.violate(&path, format!("must be an object, found {}", kind_of(other))),
        }
        self.any(name);
    }

    fn any(&mut self, name: &'static str) {
        if let Some(template) = self.fields.template(name, self.builder) {
            self.read.push((name, Field::Template(template)));
        }
    }

    /// Ends the part; the fields of the activity's input.
    pub(crate) fn close(self) -> Vec<(&'static str, Field)> {
        self.fields.close(self.builder);
        self.read
    }
}

impl Process {
    pub(crate) fn kind(
        label: &'static str,
        on: impl Into<String>,
        head: Head,
        fields: Vec<(&'static str, Field)>,
    ) -> Box<dyn Kind> {
        let activity = label.strip_prefix("run ").unwrap_or(label);
        Box::new(Self { label, activity, fields, on: on.into(), head })
    }
}

impl Kind for Process {
    fn label(&self) -> &'static str {
        self.label
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let dot = run.input(frame);
        let mut input = Map::new();
        for (name, field) in &self.fields {
            let value = match field {
                Field::Template(template) => run.fill(frame, template, &dot)?,
                Field::Endpoint(endpoint) => json!({
                    "endpoint": endpoint.uri(run, frame, &dot)?,
                    "authentication": endpoint.authentication(run, frame, &dot)?,
                }),
                Field::Delay(delay) => Value::from(run.delay(frame, delay, &dot)?),
            };
            input.insert((*name).to_owned(), value);
        }
        input.insert("return".to_owned(), Value::from(self.head.result));
        input.insert("await".to_owned(), Value::Bool(self.head.awaited));
        let call = Call {
            activity: self.activity,
            input: Value::Object(input),
            on: self.on.clone(),
            effect: self.head.effect,
            timeout_ms: None,
        };
        run.call(frame, call)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        let started = !self.head.awaited && matches!(event, Event::ActivityCompleted(_));
        match run.activity_event(frame, event)? {
            Step::Done(_) if started => Ok(Step::Done(run.input(frame))),
            step => Ok(step),
        }
    }
}
