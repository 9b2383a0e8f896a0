//! Tools: what a model can call. One kind is one file here and one line in [`KINDS`].
//!
//! A kind reads its part of the spec and, given the arguments of a call, says what is to be done as an
//! [`Action`]. Everything around it is common: names, the schema of the arguments, running in parallel,
//! timeouts, what the model is told.

mod agent;
pub(crate) mod artifact;
mod http;
mod openapi;
mod remote;
mod shell;
pub(crate) mod skill;
mod workflow;

use std::fmt;

use baton_execution::{Effect, ProgramKind};
use serde_json::{Value, json};

use crate::{
    fields::{Fields, cut, kind_of},
    model::ToolDescription,
    schema::Schema,
};

pub(crate) use remote::{Answer, Change, Exchange, InputRequest, Remote, TaskHandle};

/// Every kind of tool, in the order in which they are named to people.
const KINDS: &[Kind] = &[http::KIND, openapi::KIND, shell::KIND, agent::KIND, workflow::KIND];

/// How long a call of an agent or a workflow is waited for where the spec says nothing: a week, so that a
/// person can be part of it, and never for ever.
pub const CHILD_WAIT_MS_DEFAULT: u64 = 7 * 24 * 3600 * 1000;
/// How long an activity of a tool may take where the spec says nothing.
const ACTIVITY_TIMEOUT_MS_DEFAULT: u64 = 2 * 60 * 1000;
/// Longest name of a tool: what model providers accept.
const TOOL_NAME_LENGTH_MAX: usize = 64;
/// Longest description, in bytes: every model call carries it.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 16 * 1024;

/// One kind of tool.
struct Kind {
    /// Its field in a tool's spec.
    field: &'static str,
    /// Reads that field; `None` if it is not usable, which has been reported then.
    read: fn(&Fields<'_>, &Common) -> Option<Box<dyn Behaviour>>,
    /// Schema of the arguments where the spec gives none, from what the field holds.
    parameters: fn(&Value) -> Value,
}

/// What a kind may want to know of the fields around its own.
struct Common {
    /// Running it twice does no harm.
    repeatable: bool,
    /// `timeout` of the tool.
    timeout_ms: Option<u64>,
    /// Schema of its arguments.
    parameters: Value,
    /// Whether the author of the agent wrote that schema.
    declared: bool,
}

/// What a tool of some kind does with the arguments of a call.
trait Behaviour: fmt::Debug + Send + Sync {
    /// What is to be done; the error is a sentence for the model.
    fn action(&self, arguments: &Value) -> Result<Action, String>;

    /// The template that it refers to.
    fn target(&self) -> Option<(ProgramKind, &str)> {
        None
    }

    /// The server that the tool comes from.
    fn server(&self) -> Option<&str> {
        None
    }

    /// What the output of its activity comes to.
    fn answer(&self, output: Value) -> Answer {
        Answer::Value(output)
    }

    /// What is to be done next in a call that has begun; the error is a sentence for the model.
    fn follow_up(&self, arguments: &Value, _exchange: &Exchange) -> Result<Action, String> {
        self.action(arguments)
    }
}

/// What a call comes to.
#[derive(Debug)]
pub(crate) enum Action {
    /// An activity of the engine.
    Activity {
        activity: &'static str,
        input: Value,
        timeout_ms: u64,
        effect: Effect,
        /// For people: what is waited for.
        on: String,
        /// What is recorded in place of the input, where that is long and the agent's spec has it.
        recorded: Option<Value>,
    },
    /// Nothing is called: the agent's own spec has the answer.
    Answer(String),
    /// Nothing is called: something is kept with the execution.
    Keep { name: String, media_type: String, content: String },
    /// Another execution, awaited.
    Child {
        kind: ProgramKind,
        name: String,
        message: Option<String>,
        input: Value,
        /// `spec.timeout` of the child.
        timeout_ms: Option<u64>,
        wait_ms: u64,
    },
}

impl Action {
    /// For people: what is done.
    pub(crate) fn on(&self) -> String {
        match self {
            Self::Activity { on, .. } => on.clone(),
            Self::Answer(_) | Self::Keep { .. } => String::new(),
            Self::Child { kind: ProgramKind::Agent, name, .. } => format!("agent {name}"),
            Self::Child { kind: ProgramKind::Workflow, name, .. } => format!("workflow {name}"),
        }
    }
}

/// A checked tool.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    description: String,
    /// `tool http`, for the timeline.
    pub(crate) kind: String,
    /// Declared by the author of the agent: calling it changes nothing.
    pub(crate) read_only: bool,
    /// Declared by the author of the agent: calling it can carry data out of the installation.
    pub(crate) egress: bool,
    /// Path of the field that names the kind, for violations that others find.
    path: String,
    parameters: Schema,
    behaviour: Box<dyn Behaviour>,
}

impl Tool {
    /// Reads one tool; `None` if it is not usable, which has been reported then.
    pub(crate) fn read(fields: Fields<'_>) -> Option<Self> {
        let name = fields.required_text("name");
        if let Some(name) = name.filter(|name| !is_tool_name(name)) {
            fields.violation(
                "name",
                format!(
                    "'{}' is not a tool name; allowed are 1 to {TOOL_NAME_LENGTH_MAX} letters, digits, '_' and '-'",
                    cut(name, TOOL_NAME_LENGTH_MAX)
                ),
            );
        }
        let description = fields.required_text("description").unwrap_or_default();
        if description.len() > DESCRIPTION_BYTES_MAX {
            fields.violation(
                "description",
                format!("has {} bytes, allowed are 1 to {DESCRIPTION_BYTES_MAX}", description.len()),
            );
        }
        let (read_only, idempotent) = (fields.flag("readOnly"), fields.flag("idempotent"));
        let egress = fields.flag("egress");
        let timeout_ms = fields.duration_ms("timeout");
        let schema = fields.get("parameters").cloned();
        let given: Vec<&Kind> = KINDS.iter().filter(|kind| fields.get(kind.field).is_some()).collect();
        let kind = given.first().copied().filter(|_| given.len() == 1);
        if kind.is_none() {
            let names: Vec<String> = KINDS.iter().map(|kind| format!("'{}'", kind.field)).collect();
            fields.violation("", format!("exactly one of {} must be given, found {}", names.join(", "), given.len()));
        }
        let declared = schema.is_some();
        let own = kind.and_then(|kind| fields.get(kind.field));
        let derived = || kind.zip(own).map(|(kind, own)| (kind.parameters)(own));
        let parameters = schema.or_else(derived).unwrap_or_else(|| json!({"type": "object"}));
        let compiled = arguments_schema(&parameters).map_err(|why| fields.violation("parameters", why)).ok();
        let common = Common { repeatable: read_only || idempotent, timeout_ms, parameters, declared };
        let behaviour = kind.and_then(|kind| {
            fields.object(kind.field).and_then(|own| (kind.read)(&own, &common).inspect(|_| own.finish()))
        });
        let path = kind.map(|kind| fields.path(kind.field)).unwrap_or_default();
        fields.finish();
        Some(Self {
            name: name?.to_owned(),
            description: description.to_owned(),
            kind: format!("tool {}", kind?.field),
            read_only,
            egress,
            path,
            parameters: compiled?,
            behaviour: behaviour?,
        })
    }

    /// A tool of a server; the error says what is wrong with the schema.
    pub(crate) fn remote(
        name: String,
        description: String,
        schema: &Value,
        read_only: bool,
        remote: Remote,
    ) -> Result<Self, String> {
        let parameters = arguments_schema(schema)?;
        let (kind, behaviour) = ("tool mcp".to_owned(), Box::new(remote));
        Ok(Self { name, description, kind, read_only, egress: false, path: String::new(), parameters, behaviour })
    }

    /// A tool that is no part of the spec: it only reads.
    fn built_in(name: &str, description: &str, parameters: &Value, kind: &str, behaviour: Box<dyn Behaviour>) -> Self {
        let parameters = Schema::compile(parameters).expect("the schema of a built-in tool is good");
        Self {
            name: name.to_owned(),
            description: description.to_owned(),
            kind: format!("tool {kind}"),
            read_only: true,
            egress: false,
            path: String::new(),
            parameters,
            behaviour,
        }
    }

    /// The tool as the model sees it.
    pub(crate) fn description(&self) -> ToolDescription {
        ToolDescription {
            name: self.name.clone(),
            description: self.description.clone(),
            parameters: self.parameters.source().clone(),
        }
    }

    /// Length of [`Self::description`] in bytes, about.
    pub(crate) fn described_bytes(&self) -> usize {
        self.name.len() + self.description.len() + self.parameters.source().to_string().len()
    }

    /// The template that it refers to, with the path of the field that names it.
    pub(crate) fn target(&self) -> Option<(ProgramKind, String, &str)> {
        self.behaviour.target().map(|(kind, name)| (kind, format!("{}.name", self.path), name))
    }

    /// The server that it comes from; `None` for one of the agent's own.
    pub(crate) fn server(&self) -> Option<&str> {
        self.behaviour.server()
    }

    /// What a call with these arguments comes to; the error is a sentence for the model.
    pub(crate) fn action(&self, arguments: &Value) -> Result<Action, String> {
        if !arguments.is_object() {
            return Err(format!("the arguments must be a JSON object, found {}", kind_of(arguments)));
        }
        let violations = self.parameters.violations(arguments);
        if !violations.is_empty() {
            return Err(format!("the arguments do not match the parameters: {}", violations.join("; ")));
        }
        self.behaviour.action(arguments)
    }

    /// What is to be done next in a call that has begun; the error is a sentence for the model.
    pub(crate) fn follow_up(&self, arguments: &Value, exchange: &Exchange) -> Result<Action, String> {
        self.behaviour.follow_up(arguments, exchange)
    }

    /// What the output of its activity comes to.
    pub(crate) fn answer(&self, output: Value) -> Answer {
        self.behaviour.answer(output)
    }
}

fn arguments_schema(schema: &Value) -> Result<Schema, String> {
    Schema::compile(schema).and_then(|compiled| match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(compiled),
        _ => Err("must have 'type: object': arguments are an object".to_owned()),
    })
}

pub(crate) fn is_tool_name(name: &str) -> bool {
    name.len() <= TOOL_NAME_LENGTH_MAX && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Reads `name` of an agent or workflow tool.
fn template_name(fields: &Fields<'_>) -> Option<String> {
    let name = fields.required_text("name")?;
    match baton_types::check_name(name) {
        Ok(()) => Some(name.to_owned()),
        Err(why) => {
            fields.violation("name", why);
            None
        }
    }
}
