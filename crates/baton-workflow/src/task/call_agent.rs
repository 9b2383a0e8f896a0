//! `call: baton.dev/agent`: an execution of an agent, whose answer is the task's output.

use std::collections::BTreeMap;

use baton_execution::{ChildTarget, Fault, ProgramKind, StartChild, fault_type};
use serde_json::{Map, Value};

use crate::{
    data::kind_of,
    document::{Builder, Fields, Reference},
    interpreter::{Child, FrameId, Run},
    task::{Delay, Event, Kind, Place, Step},
    template::Template,
};

#[derive(Debug)]
struct CallAgent {
    agent: Template,
    message: Option<Template>,
    input: Option<Template>,
    session: Option<Template>,
    env: Option<Template>,
    timeout: Option<Delay>,
    limits: Option<Template>,
    awaited: bool,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut with = fields.need_object("with", builder)?;
    let path = with.at("agent");
    let agent = with.need("agent", builder).and_then(|value| match value {
        Value::String(_) | Value::Object(_) => Some(builder.template(value, &path)),
        other => {
            builder
                .violate(&path, format!("must be the name of an agent or the spec of one, found {}", kind_of(other)));
            None
        }
    });
    if let Some(name) = agent.as_ref().and_then(Template::as_literal_str) {
        builder.agents.push(Reference { name: name.to_owned(), version: None, field: path });
    }
    let message = with.template("message", builder);
    let input = with.template("input", builder);
    let session = with.template("session", builder);
    let env = with.template("env", builder);
    let timeout = with.duration("timeout", builder);
    let limits = with.template("limits", builder);
    let awaited = with.boolean("await", builder).unwrap_or(true);
    if message.is_none() && input.is_none() {
        builder.violate(&with.at("message"), "is required, unless there is an 'input'");
    }
    with.close(builder);
    Some(Box::new(CallAgent { agent: agent?, message, input, session, env, timeout, limits, awaited }))
}

impl CallAgent {
    fn child(&self, run: &Run, frame: FrameId) -> Result<Child, Fault> {
        let dot = run.input(frame);
        let value = |template: &Option<Template>| {
            template.as_ref().map_or(Ok(Value::Null), |template| run.fill(frame, template, &dot))
        };
        let (target, on) = match run.fill(frame, &self.agent, &dot)? {
            Value::String(name) => {
                let on = format!("agent {name}");
                (ChildTarget::Named { name, version: None }, on)
            }
            spec @ Value::Object(_) => (ChildTarget::Inline(spec), "inline agent".to_owned()),
            other => return Err(wrong("'agent'", "a name or a spec", &other)),
        };
        let timeout_ms = self.timeout.as_ref().map(|delay| run.delay(frame, delay, &dot)).transpose()?;
        let start = StartChild {
            target,
            input: value(&self.input)?,
            message: text(value(&self.message)?),
            session: text(value(&self.session)?),
            env: env(value(&self.env)?)?,
            limits: value(&self.limits)?,
            timeout_ms,
            ..run.new_child(frame, ProgramKind::Agent, self.awaited)
        };
        Ok(Child { start, on })
    }
}

fn wrong(what: &str, wanted: &str, found: &Value) -> Fault {
    Fault::new(fault_type::EXPRESSION, 400, format!("{what} must be {wanted}, found {}", kind_of(found)))
}

/// A message may be any JSON: what is not text is sent as its JSON.
fn text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

fn env(value: Value) -> Result<BTreeMap<String, String>, Fault> {
    let fields = match value {
        Value::Null => Map::new(),
        Value::Object(fields) => fields,
        other => return Err(wrong("'env'", "an object", &other)),
    };
    let mut map = BTreeMap::new();
    for (key, value) in fields {
        let text = match value {
            Value::String(text) => text,
            scalar @ (Value::Bool(_) | Value::Number(_)) => scalar.to_string(),
            other @ (Value::Null | Value::Array(_) | Value::Object(_)) => {
                return Err(wrong(&format!("'env.{key}'"), "a string", &other));
            }
        };
        map.insert(key, text);
    }
    Ok(map)
}

impl Kind for CallAgent {
    fn label(&self) -> &'static str {
        "call baton.dev/agent"
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let child = self.child(run, frame)?;
        run.start_child(frame, child)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
