//! The servers of an agent's tools in a test: nobody asks them.
//!
//! Each has the tools that the case speaks of, by the names that the model has for them, and takes any arguments. A case may
//! say itself what a server has: an answer in `calls` whose task is the server's name, such as
//! `returns: {tools: [{name, description, inputSchema}]}`.

use std::collections::BTreeSet;

use baton_server::{
    AgentDefinition,
    rehearsal::{Answer, Reply},
};
use serde_json::{Value, json};

use super::file::Case;

/// Says of servers that are defined elsewhere that they are somewhere.
pub(super) fn define(spec: &mut Value) {
    let Some(Value::Array(entries)) = spec.get_mut("toolServers") else { return };
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        entry.entry("definition").or_insert_with(|| json!({"http": {"url": "http://server.test"}}));
    }
}

/// What each server has, unless the case says so itself: those answers come first.
pub(super) fn lists(definition: &AgentDefinition, spec: &Value, case: &Case) -> Vec<Answer> {
    let own: BTreeSet<String> = definition.tools().into_iter().map(|tool| tool.name).collect();
    let scripted = case.script.answers.iter().filter_map(|answer| answer.task.clone());
    let mut named: BTreeSet<String> = scripted.collect();
    called(case.turns.as_ref().unwrap_or(&spec["model"]), &mut named);
    let named: Vec<&String> = named.iter().filter(|name| !own.contains(*name)).collect();
    let prefixes: Vec<(&str, &str)> = definition.prefixes().collect();
    let lists = prefixes.iter().map(|(server, prefix)| {
        let is_of_another = |name: &str| {
            prefixes.iter().any(|(_, other)| other.len() > prefix.len() && name.starts_with(other))
                || prefixes.iter().any(|(server, _)| *server == name)
        };
        let tools: Vec<Value> = named
            .iter()
            .filter(|name| !is_of_another(name))
            .filter_map(|name| name.strip_prefix(prefix))
            .filter(|name| !name.is_empty() && !is_made(spec, server, name))
            .map(|name| json!({"name": name, "description": name, "inputSchema": {"type": "object"}}))
            .collect();
        Answer {
            task: Some((*server).to_owned()),
            matches: None,
            after_ms: 0,
            reply: Reply::Returns(json!({"tools": tools})),
            times: None,
        }
    });
    lists.collect()
}

/// Whether a tool is not of the server's list, but made for its resources or prompts.
fn is_made(spec: &Value, server: &str, name: &str) -> bool {
    let flag = match name {
        "list_resources" | "read_resource" => "resources",
        "list_prompts" | "get_prompt" => "prompts",
        _ => return false,
    };
    let mut entries = spec["toolServers"].as_array().into_iter().flatten();
    entries.any(|entry| entry["server"] == *server && entry[flag] == true)
}

/// The names of the tools that scripted turns call, wherever they stand.
fn called(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                if field == "toolCalls" {
                    let calls = value.as_array().into_iter().flatten();
                    names.extend(calls.filter_map(|call| call["name"].as_str()).map(str::to_owned));
                } else {
                    called(value, names);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| called(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
