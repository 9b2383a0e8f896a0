//! From the JSON form of an agent's spec to a checked definition. One that exists has been validated.

use std::sync::Arc;

use baton_execution::{Fault, ProgramKind, RESERVED_CHARACTERS, fault_type, reserved_places};
use baton_types::Violation;
use serde_json::Value;

use crate::{
    fields::{Fields, Report},
    limits::Limits,
    model::{INSTRUCTIONS_BYTES_MAX, ModelSpec, ToolDescription},
    policy::Policy,
    schema::Schema,
    secrets,
    servers::{self, ToolServer},
    skills::{self, Skill},
    tools::{self, Tool},
};

/// Tools of one agent: what model providers accept.
pub const TOOLS_MAX: usize = 128;

/// An agent that can be run.
#[derive(Debug)]
pub struct AgentDefinition {
    pub(crate) instructions: String,
    pub(crate) model: ModelSpec,
    pub(crate) tools: Vec<Arc<Tool>>,
    /// Servers whose tools it has beside its own.
    pub(crate) servers: Vec<ToolServer>,
    pub(crate) limits: Limits,
    pub(crate) output: Option<Schema>,
    /// `None` only in what was pinned before there were policies: every call is made.
    pub(crate) policy: Option<Policy>,
    timeout_ms: Option<u64>,
    pub(crate) skills: Arc<[Skill]>,
    secrets: Vec<Reference>,
    /// Whether the model may save artifacts.
    pub(crate) artifacts: bool,
}

/// A template or a secret that an agent refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Path of the field within the spec, such as `tools[1].agent.name`.
    pub field: String,
    /// Its name, in the namespace of the agent.
    pub name: String,
}

/// Checks an agent's spec in its JSON form.
///
/// # Errors
/// Every violation, with paths within the spec; the caller puts `spec` before them.
pub fn check(spec: &Value) -> Result<AgentDefinition, Vec<Violation>> {
    let report = Report::default();
    for place in reserved_places(spec) {
        report.add(place, RESERVED_CHARACTERS);
    }
    let definition = Fields::of(&report, "", spec)
        .and_then(read)
        .map(|definition| AgentDefinition { secrets: secrets::named_in(spec), ..definition });
    match (definition, report.into_violations()) {
        (Some(definition), violations) if violations.is_empty() => Ok(definition),
        (_, violations) => Err(violations),
    }
}

/// Reads a definition that was admitted before, from the bytes of its JSON form.
///
/// # Errors
/// A configuration fault naming every violation: this build does not accept any more what was admitted.
pub fn parse(definition: &[u8]) -> Result<AgentDefinition, Fault> {
    let refused = |why: String| {
        Fault::new(fault_type::CONFIGURATION, 400, format!("the agent cannot be loaded: {why}")).non_retryable()
    };
    let spec: Value =
        serde_json::from_slice(definition).map_err(|error| refused(format!("it is not JSON: {error}")))?;
    check(&spec)
        .map_err(|violations| refused(violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
}

fn read(fields: Fields<'_>) -> Option<AgentDefinition> {
    let instructions = fields.required_text("instructions").unwrap_or_default();
    if instructions.len() > INSTRUCTIONS_BYTES_MAX {
        fields.violation(
            "instructions",
            format!("has {} bytes, allowed are 1 to {INSTRUCTIONS_BYTES_MAX}", instructions.len()),
        );
    }
    if fields.get("model").is_none() {
        fields.violation("model", "must be given");
    }
    let model = fields.object("model").map(|own| {
        let model = ModelSpec::read(&own);
        own.finish();
        model
    });
    let servers = servers::read(&fields);
    let skills: Arc<[Skill]> = skills::read_skills(&fields).into();
    let artifacts = fields.flag("artifacts");
    let built_in = tools::skill::tools(&skills).into_iter().chain(tools::artifact::tools(artifacts)).collect();
    let tools = read_tools(&fields, built_in);
    let limits = fields.object("limits").map(|own| {
        let limits = Limits::read(&own);
        own.finish();
        limits
    });
    let policy = fields.object("policy").map(|own| {
        let policy = Policy::read(&own);
        own.finish();
        policy
    });
    let output = fields
        .get("outputSchema")
        .and_then(|schema| Schema::compile(schema).map_err(|why| fields.violation("outputSchema", why)).ok());
    let timeout_ms = fields.duration_ms("timeout");
    fields.finish();
    Some(AgentDefinition {
        instructions: instructions.to_owned(),
        model: model?,
        tools,
        servers,
        limits: limits.unwrap_or_default(),
        output,
        policy,
        timeout_ms,
        skills,
        artifacts,
        secrets: Vec::new(),
    })
}

/// The tools of the spec, and behind them those that the agent has beside them.
fn read_tools(fields: &Fields<'_>, built_in: Vec<Tool>) -> Vec<Arc<Tool>> {
    let mut tools: Vec<Arc<Tool>> = Vec::new();
    for (path, item) in fields.list("tools", TOOLS_MAX) {
        let Some(tool) = Fields::of(fields.report, path.as_str(), item).and_then(Tool::read) else { continue };
        if tools.iter().any(|other| other.name == tool.name) {
            fields
                .report
                .add(format!("{path}.name"), format!("the name '{}' is taken by another tool of the agent", tool.name));
        }
        if built_in.iter().any(|other| other.name == tool.name) {
            let why = format!("the name '{}' is that of a tool that the agent has by itself", tool.name);
            fields.report.add(format!("{path}.name"), why);
        }
        tools.push(Arc::new(tool));
    }
    tools.extend(built_in.into_iter().map(Arc::new));
    tools
}

impl AgentDefinition {
    /// The model that it asks.
    pub fn model(&self) -> &ModelSpec {
        &self.model
    }

    /// `timeout` in milliseconds: the default for executions.
    pub fn timeout_ms(&self) -> Option<u64> {
        self.timeout_ms
    }

    /// Limits that an execution has unless it brings its own.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Which tool calls are made, refused, or asked about. `None` for what was pinned before there were policies: every call
    /// is made, and one in doubt ends the execution.
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// JSON schema of the answer; `None` for text.
    pub fn output_schema(&self) -> Option<&Schema> {
        self.output.as_ref()
    }

    /// Names of the servers whose tools it has beside its own, with their paths within the spec, and whether it says itself how
    /// they are reached.
    pub fn servers(&self) -> impl Iterator<Item = (&str, String, bool)> {
        self.servers
            .iter()
            .map(|server| (server.name.as_str(), format!("{}.server", server.path), server.endpoint.is_some()))
    }

    /// Names of the Skills that it has.
    pub fn skills(&self) -> impl Iterator<Item = &str> {
        self.skills.iter().map(|skill| skill.name.as_str())
    }

    /// Its instructions, with what it has beside its tools.
    pub(crate) fn whole_instructions(&self) -> String {
        format!("{}{}", self.instructions, skills::announcement(&self.skills))
    }

    /// Names of those servers, and what stands before the names of their tools.
    pub fn prefixes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.servers.iter().map(|server| (server.name.as_str(), server.prefix.as_str()))
    }

    /// Its own tools as the model sees them; those of servers are not known before they are asked.
    pub fn tools(&self) -> Vec<ToolDescription> {
        self.tools.iter().map(|tool| tool.description()).collect()
    }

    /// Agents that it can call.
    pub fn agents(&self) -> Vec<Reference> {
        self.references(ProgramKind::Agent)
    }

    /// Workflows that it can call.
    pub fn workflows(&self) -> Vec<Reference> {
        self.references(ProgramKind::Workflow)
    }

    /// Secrets that it may use, with the first field that names each: what their values are looked for in, and what is warned of
    /// if they are not there.
    pub fn secrets(&self) -> &[Reference] {
        &self.secrets
    }

    fn references(&self, wanted: ProgramKind) -> Vec<Reference> {
        self.tools
            .iter()
            .filter_map(|tool| tool.target())
            .filter(|(kind, ..)| *kind == wanted)
            .map(|(_, field, name)| Reference { field, name: name.to_owned() })
            .collect()
    }
}
