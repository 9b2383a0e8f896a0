//! The arguments of runtime expressions.

use std::borrow::Cow;

use baton_execution::callback_token_placeholder;
use serde_json::{Value, json};

use crate::{
    expression::Variables,
    interpreter::{
        run::Run,
        state::{Frame, FrameId},
    },
};

/// `$runtime.version`: it is part of what expressions can see, so it changes with the language, not with each build.
const RUNTIME_VERSION: &str = "1";

/// What expressions of one task (or of the workflow itself) can name.
pub(crate) struct Arguments<'r> {
    run: &'r Run,
    frame: Option<&'r Frame>,
    output: Option<&'r Value>,
}

impl Run {
    /// For expressions of a task.
    pub(crate) fn variables<'r>(&'r self, number: FrameId, output: Option<&'r Value>) -> Arguments<'r> {
        Arguments { run: self, frame: Some(self.frame(number)), output }
    }

    /// For expressions of the workflow itself.
    pub(super) fn workflow_variables<'r>(&'r self, output: Option<&'r Value>) -> Arguments<'r> {
        Arguments { run: self, frame: None, output }
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
            "secrets" => Cow::Owned(json!({})),
            "authorization" => Cow::Owned(Value::Null),
            "runtime" => Cow::Owned(json!({"name": "baton", "version": RUNTIME_VERSION, "metadata": {}})),
            "workflow" => Cow::Owned(self.workflow()),
            "task" => Cow::Owned(self.task()),
            other => return self.enclosing(other),
        })
    }
}

impl Arguments<'_> {
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

    fn workflow(&self) -> Value {
        let Some(start) = &self.run.execution.start else { return Value::Null };
        json!({
            "id": start.uid.to_string(),
            "definition": self.run.definition.document(),
            "input": *start.raw,
            "startedAt": instant(start.time_ms),
        })
    }

    fn task(&self) -> Value {
        let Some(frame) = self.frame else { return Value::Null };
        let Some(task) = self.run.definition.task(frame.task) else { return Value::Null };
        let mut value = json!({
            "name": task.name,
            "reference": task.pointer,
            "definition": self.run.definition.document().pointer(&task.pointer),
            "input": **frame.raw.as_ref().unwrap_or(&frame.input),
            "output": self.output,
            "startedAt": instant(frame.started_ms),
        });
        if task.wait.is_some() {
            value["callbackToken"] = Value::String(callback_token_placeholder(&frame.operation()));
        }
        value
    }
}

fn instant(time_ms: i64) -> Value {
    let iso = jiff::Timestamp::from_millisecond(time_ms).map(|time| time.to_string()).ok();
    json!({"iso8601": iso, "epoch": {"seconds": time_ms.div_euclid(1000), "milliseconds": time_ms}})
}
