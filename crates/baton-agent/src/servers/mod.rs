//! Servers of the Model Context Protocol whose tools an agent can call: `toolServers` in its spec.
//!
//! What tools a server has is not known before it is asked. So an execution begins with a list of each server, which is
//! recorded, and each tool is pinned by the digest of what the model is told of it. See [`listed`] for how a list becomes tools.
//!
//! # Invariants
//! - What changes nothing, and what may be repeated, is said by the author of the agent: what a server says of its own tools is a
//!   hint of an untrusted party and counts for nothing.
//! - Credentials are placeholders here. Their values are put in where the server is asked.
//!
//! # Failure
//! A server whose definition is not there, or a list that cannot be used, is a fault of the configuration that says which.

mod endpoint;
mod listed;
mod patterns;

use baton_execution::{Fault, fault_type};
use baton_types::{Violation, check_name};
use serde_json::{Value, json};

pub use self::listed::{Listed, Listing};
pub(crate) use self::{
    endpoint::Endpoint,
    listed::{PinnedServer, tools_of},
    patterns::Patterns,
};
use crate::fields::{Fields, Report, cut};

/// Servers of one agent: each is asked before the first turn.
pub(crate) const SERVERS_MAX: usize = 32;
/// Longest prefix of the names of tools: some of the name must be the tool's own.
const PREFIX_LENGTH_MAX: usize = 48;

/// One entry of `toolServers`.
#[derive(Debug)]
pub(crate) struct ToolServer {
    /// Name of the server.
    pub(crate) name: String,
    /// `None` in a spec that is only checked: the definition is put in when an execution is created.
    pub(crate) endpoint: Option<Endpoint>,
    /// Before the names of its tools.
    pub(crate) prefix: String,
    pub(crate) tools: Patterns,
    pub(crate) read_only: Patterns,
    pub(crate) idempotent: Patterns,
    pub(crate) egress: Patterns,
    pub(crate) resources: bool,
    pub(crate) prompts: bool,
    /// Path within the spec.
    pub(crate) path: String,
}

/// Checks the spec of a server in its JSON form.
///
/// # Errors
/// Every violation, with paths within the spec; the caller puts `spec` before them.
pub fn check_mcp_server(spec: &Value) -> Result<(), Vec<Violation>> {
    let report = Report::default();
    if let Some(fields) = Fields::of(&report, "", spec) {
        Endpoint::read(fields);
    }
    let violations = report.into_violations();
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// Names of the secrets that a server's spec refers to.
pub fn secrets_of_mcp_server(spec: &Value) -> Vec<String> {
    endpoint::secrets_of(spec)
}

pub(crate) fn read(fields: &Fields<'_>) -> Vec<ToolServer> {
    let mut servers: Vec<ToolServer> = Vec::new();
    for (path, item) in fields.list("toolServers", SERVERS_MAX) {
        let Some(server) = Fields::of(fields.report, path.as_str(), item).and_then(ToolServer::read) else { continue };
        if servers.iter().any(|other| other.name == server.name) {
            fields.report.add(format!("{path}.server"), format!("'{}' is named twice", server.name));
        }
        servers.push(server);
    }
    servers
}

impl ToolServer {
    fn read(fields: Fields<'_>) -> Option<Self> {
        let name = fields.required_text("server").and_then(|name| match check_name(name) {
            Ok(()) => Some(name.to_owned()),
            Err(why) => {
                fields.violation("server", why);
                None
            }
        });
        let prefix = match fields.get("prefix") {
            None => name.as_deref().map(|name| format!("{}__", fitting(name))),
            Some(Value::String(prefix)) if is_prefix(prefix) => Some(prefix.clone()),
            Some(other) => {
                fields.violation(
                    "prefix",
                    format!(
                        "'{}' is not allowed; allowed are 0 to {PREFIX_LENGTH_MAX} letters, digits, '_' and '-'",
                        cut(other.as_str().unwrap_or_default(), 64)
                    ),
                );
                None
            }
        };
        let tools = Patterns::read(&fields, "tools");
        let (read_only, idempotent) = (Patterns::read(&fields, "readOnly"), Patterns::read(&fields, "idempotent"));
        let egress = Patterns::read(&fields, "egress");
        let (resources, prompts) = (fields.flag("resources"), fields.flag("prompts"));
        let endpoint = match fields.object("definition") {
            Some(definition) => Some(Endpoint::read(definition)?),
            None => None,
        };
        let path = fields.path("");
        fields.finish();
        Some(Self {
            name: name?,
            endpoint,
            prefix: prefix?,
            tools,
            read_only,
            idempotent,
            egress,
            resources,
            prompts,
            path,
        })
    }

    /// How the server is reached.
    ///
    /// # Errors
    /// A configuration fault: its definition was not there when the execution was created.
    pub(crate) fn endpoint(&self) -> Result<&Endpoint, Fault> {
        self.endpoint.as_ref().ok_or_else(|| {
            let detail = format!("{}: there is no definition of the MCP server '{}'", self.path, self.name);
            Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
        })
    }

    /// The input of an activity that asks the server.
    pub(crate) fn asked(endpoint: &Endpoint, what: Value) -> Value {
        let mut input = json!({
            "protocolVersion": endpoint.protocol_version, "lifecycle": endpoint.lifecycle, "transport": endpoint.transport,
        });
        if let (Value::Object(input), Value::Object(what)) = (&mut input, what) {
            input.extend(what);
        }
        input
    }

    /// The input of the activity that lists what the server has.
    pub(crate) fn listing_input(&self, endpoint: &Endpoint) -> Value {
        Self::asked(endpoint, json!({"tools": [endpoint.allowed_tools.sources(), self.tools.sources()]}))
    }
}

fn is_prefix(text: &str) -> bool {
    text.len() <= PREFIX_LENGTH_MAX && text.chars().all(fits)
}

fn fits(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// A name of others with `_` for what providers of models do not take in a name.
pub(crate) fn fitting(name: &str) -> String {
    name.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}
