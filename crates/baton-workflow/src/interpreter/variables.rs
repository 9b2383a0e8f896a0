//! The arguments of runtime expressions.

use std::borrow::Cow;

use baton_execution::callback_token_placeholder;
use serde_json::{Map, Value, json};

use crate::{
    expression::Variables,
    interpreter::{
        run::Run,
        state::{Frame, FrameId, Stage},
    },
};

/// `$runtime.version`: it is part of what expressions can see, so it changes with the language, not with each build.
const RUNTIME_VERSION: &str = "1";

/// What expressions of one task (or of the workflow itself) can name.
pub(crate) struct Arguments<'r> {
    run: &'r Run,
    frame: Option<&'r Frame>,
    /// `$output`.
    output: Option<&'r Value>,
    /// `$task.output`.
    raw_output: Option<&'r Value>,
    /// Whether the expressions are those of an extension, about the task that it extends.
    extension: bool,
}

impl Run {
    /// For expressions of a task.
    pub(crate) fn variables<'r>(&'r self, number: FrameId, output: Option<&'r Value>) -> Arguments<'r> {
        let frame = self.frame(number);
        Arguments { run: self, frame: Some(frame), output, raw_output: output, extension: frame.in_extension }
    }

    /// For expressions of the workflow itself.
    pub(super) fn workflow_variables<'r>(&'r self, output: Option<&'r Value>) -> Arguments<'r> {
        Arguments { run: self, frame: None, output, raw_output: output, extension: false }
    }
}

impl Variables for Arguments<'_> {
    fn variable(&self, name: &str) -> Option<Cow<'_, Value>> {
        let start = self.run.execution.start.as_ref();
        Some(match name {
            "context" => Cow::Borrowed(&*self.run.execution.context),
            "input" => match (self.frame, start) {
                (Some(frame), _) => Cow::Borrowed(&*frame.input),
                (None, Some(start)) => Cow::Borrowed(&**start.transformed.as_ref().unwrap_or(&start.raw)),
                (None, None) => Cow::Owned(Value::Null),
            },
            "output" => self.output.map_or(Cow::Owned(Value::Null), Cow::Borrowed),
            "env" => start.map_or(Cow::Owned(Value::Null), |start| Cow::Borrowed(&*start.env)),
            "secrets" => Cow::Borrowed(&self.run.definition.secret_values),
            "authorization" => Cow::Owned(self.authorization()),
            "runtime" => Cow::Owned(runtime()),
            "workflow" => Cow::Owned(self.workflow()),
            "task" => Cow::Owned(self.task()),
            other => return self.enclosing(other),
        })
    }
}

impl<'r> Arguments<'r> {
    /// With another `$task.output` than `$output`.
    pub(super) fn with_raw_output(self, raw: &'r Value) -> Self {
        Self { raw_output: Some(raw), ..self }
    }

    /// For the condition of an extension of the task.
    pub(super) fn of_extension(self) -> Self {
        Self { extension: true, ..self }
    }

    /// A variable that a task around this one gives; the innermost counts.
    fn enclosing(&self, name: &str) -> Option<Cow<'_, Value>> {
        let mut frame = self.frame;
        while let Some(current) = frame {
            if let Some((_, value)) = current.variables.iter().find(|(known, _)| known == name) {
                return Some(Cow::Borrowed(value));
            }
            frame = current.parent.and_then(|parent| self.run.execution.frames.get(&parent));
        }
        None
    }

    /// How the task authenticates where it calls. The parameter is a placeholder: no credential is ever data of a Program.
    fn authorization(&self) -> Value {
        let task = self.frame.and_then(|frame| self.run.definition.task(frame.task));
        let Some(policy) = task.and_then(|task| task.kind.authentication()) else { return Value::Null };
        json!({"scheme": policy.scheme(), "parameter": policy.parameter()})
    }

    fn workflow(&self) -> Value {
        let Some(start) = &self.run.execution.start else { return Value::Null };
        json!({
            "id": start.uid.to_string(),
            "definition": self.run.definition.document(),
            "input": *start.raw,
            "startedAt": instant(start.time_ms),
        })
    }

    /// `$task`: the task itself; for a task of an extension the one that is extended, with the fields of its definition.
    fn task(&self) -> Value {
        let Some(own) = self.frame else { return Value::Null };
        let Some(frame) = self.described(own) else { return Value::Null };
        let Some(task) = self.run.definition.task(frame.task) else { return Value::Null };
        let definition = self.run.definition.document().pointer(&task.pointer);
        let output = match frame.extended.as_ref().map(|extended| &extended.stage) {
            Some(Stage::After { output, .. }) => Some(&**output),
            Some(Stage::Before { .. } | Stage::Task) | None => self.raw_output.filter(|_| !own.in_extension),
        };
        let mut value = match definition {
            Some(Value::Object(fields)) if self.extension => fields.clone(),
            _ => Map::new(),
        };
        let descriptor = [
            ("name", json!(task.name)),
            ("reference", json!(task.pointer)),
            ("definition", json!(definition)),
            ("input", (**frame.raw.as_ref().unwrap_or(&frame.input)).clone()),
            ("output", json!(output)),
            ("startedAt", instant(frame.started_ms)),
        ];
        value.extend(descriptor.map(|(name, value)| (name.to_owned(), value)));
        let waits = self.run.definition.task(own.task).is_some_and(|task| task.wait.is_some());
        if waits {
            value.insert("callbackToken".to_owned(), Value::String(callback_token_placeholder(&own.operation())));
        }
        Value::Object(value)
    }

    /// The task that `$task` is about.
    fn described<'f>(&'f self, own: &'f Frame) -> Option<&'f Frame> {
        let mut frame = own;
        while frame.in_extension {
            frame = frame.parent.and_then(|parent| self.run.execution.frames.get(&parent))?;
        }
        Some(frame)
    }
}

/// `$runtime`.
pub(crate) fn runtime() -> Value {
    json!({"name": "baton", "version": RUNTIME_VERSION, "metadata": {}})
}

fn instant(time_ms: i64) -> Value {
    let iso = jiff::Timestamp::from_millisecond(time_ms).map(|time| time.to_string()).ok();
    json!({"iso8601": iso, "epoch": {"seconds": time_ms.div_euclid(1000), "milliseconds": time_ms}})
}
