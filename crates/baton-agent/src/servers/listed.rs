//! What servers say they have, and the tools that become of it.
//!
//! Each tool is pinned: an execution keeps what it was told at its beginning, and before each call the activity compares the
//! digest of the tool as the server has it then. Name, description and schemas are what makes a tool what it is; titles, icons
//! and annotations are left out, as the model does not see them.

use std::sync::Arc;

use baton_execution::{Fault, canonical_json, fault_type};
use baton_types::Digest;
use globset::Glob;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ToolServer, fitting};
use crate::{
    fields::cut,
    tools::{DESCRIPTION_BYTES_MAX, Remote, Tool, is_tool_name},
};

/// A tool that is of no list: name, method, description, schema of the arguments.
type Made = (&'static str, &'static str, &'static str, fn() -> Value);

/// Tools that the model is given for a server's resources and prompts.
const RESOURCE_TOOLS: [Made; 2] = [
    ("list_resources", "resources/list", "Lists the resources of the server, with their URIs", nothing),
    ("read_resource", "resources/read", "Reads a resource of the server by its URI", uri),
];
const PROMPT_TOOLS: [Made; 2] = [
    ("list_prompts", "prompts/list", "Lists the prompts of the server, with their arguments", nothing),
    ("get_prompt", "prompts/get", "Gets a prompt of the server, filled with arguments", prompt),
];

fn nothing() -> Value {
    json!({"type": "object", "properties": {}})
}

fn uri() -> Value {
    json!({"type": "object", "properties": {"uri": {"type": "string"}}, "required": ["uri"]})
}

fn prompt() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "arguments": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["name"],
    })
}

/// A tool as a server describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// As the server knows it.
    pub name: String,
    /// For the model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON schema of the arguments.
    #[serde(default)]
    pub input_schema: Value,
    /// JSON schema of the structured result.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output_schema: Value,
}

impl Listed {
    /// Of all that makes the tool what it is.
    pub fn digest(&self) -> String {
        let parts = json!([self.name, self.description, self.input_schema, self.output_schema]);
        Digest::of(canonical_json(&parts).to_string().as_bytes()).to_string()
    }
}

/// What a server has, as the activity `mcp-tools` gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// Those that are wanted.
    pub tools: Vec<Listed>,
}

impl Listing {
    /// Whether a tool is wanted: of each list of patterns that is not empty, one matches its name.
    pub fn wants(patterns: &[Vec<String>], name: &str) -> bool {
        patterns.iter().filter(|patterns| !patterns.is_empty()).all(|patterns| {
            patterns.iter().any(|pattern| Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(name)))
        })
    }
}

/// The tools of a server as an execution keeps them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PinnedServer {
    pub(crate) name: String,
    pub(crate) tools: Vec<Listed>,
}

/// The tools that the model is given of a server.
///
/// # Errors
/// A fault that names the tool that cannot be given to a model, and why.
pub(crate) fn tools_of(server: &ToolServer, pinned: &PinnedServer) -> Result<Vec<Arc<Tool>>, Fault> {
    let endpoint = server.endpoint()?;
    let mut tools = Vec::new();
    for listed in &pinned.tools {
        let remote = Remote {
            server: server.name.clone(),
            endpoint: endpoint.clone(),
            method: "tools/call",
            tool: Some((listed.name.clone(), listed.digest())),
            repeatable: server.read_only.matches(&listed.name) || server.idempotent.matches(&listed.name),
        };
        let name = format!("{}{}", server.prefix, fitting(&listed.name));
        let description = match listed.description.trim() {
            "" => format!("The tool '{}' of the server '{}'", listed.name, server.name),
            text => text.to_owned(),
        };
        let read_only = server.read_only.matches(&listed.name);
        let mut tool = of(&name, description, &listed.input_schema, read_only, remote)
            .map_err(|why| unusable(server, &listed.name, &why))?;
        tool.egress = server.egress.matches(&listed.name);
        tools.push(Arc::new(tool));
    }
    let more = RESOURCE_TOOLS.iter().filter(|_| server.resources);
    for (name, method, description, parameters) in more.chain(PROMPT_TOOLS.iter().filter(|_| server.prompts)) {
        let (server_name, endpoint) = (server.name.clone(), endpoint.clone());
        let remote = Remote { server: server_name, endpoint, method, tool: None, repeatable: true };
        let shown = format!("{}{name}", server.prefix);
        let description = format!("{description} ('{}')", server.name);
        let tool = of(&shown, description, &parameters(), true, remote).map_err(|why| unusable(server, name, &why))?;
        tools.push(Arc::new(tool));
    }
    Ok(tools)
}

fn of(name: &str, description: String, schema: &Value, read_only: bool, remote: Remote) -> Result<Tool, String> {
    if !is_tool_name(name) || name.is_empty() {
        return Err(format!(
            "its name for the model would be '{}', of {} characters; allowed are 1 to 64: give the server a shorter 'prefix'",
            cut(name, 80),
            name.chars().count()
        ));
    }
    if description.len() > DESCRIPTION_BYTES_MAX {
        let found = description.len();
        return Err(format!("its description has {found} bytes, allowed are 0 to {DESCRIPTION_BYTES_MAX}"));
    }
    Tool::remote(name.to_owned(), description, schema, read_only, remote)
        .map_err(|why| format!("the schema of its arguments {why}"))
}

fn unusable(server: &ToolServer, tool: &str, why: &str) -> Fault {
    let detail = format!(
        "{}: the tool '{}' of the server '{}' cannot be given to a model: {why}; 'tools' of the entry can leave it out",
        server.path,
        cut(tool, 80),
        server.name
    );
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_all_that_the_model_is_told() {
        let tool = Listed {
            name: "read".to_owned(),
            description: "Reads".to_owned(),
            input_schema: json!({"type": "object", "properties": {"a": {}, "b": {}}}),
            output_schema: Value::Null,
        };
        let same = Listed { input_schema: json!({"properties": {"b": {}, "a": {}}, "type": "object"}), ..tool.clone() };
        assert_eq!(tool.digest(), same.digest());
        for other in [
            Listed { name: "reads".to_owned(), ..tool.clone() },
            Listed { description: "Reads all".to_owned(), ..tool.clone() },
            Listed { input_schema: json!({"type": "object"}), ..tool.clone() },
            Listed { output_schema: json!({"type": "object"}), ..tool.clone() },
        ] {
            assert_ne!(tool.digest(), other.digest(), "{other:?}");
        }
    }

    #[test]
    fn a_tool_is_wanted_if_every_list_has_a_pattern_for_it() {
        let list = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
        assert!(Listing::wants(&[list(&[]), list(&[])], "read"));
        assert!(Listing::wants(&[list(&["read*", "list*"]), list(&["*_file"])], "read_file"));
        assert!(!Listing::wants(&[list(&["read*"]), list(&["*_dir"])], "read_file"));
    }
}
