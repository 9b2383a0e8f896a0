//! Published templates as tools.
//!
//! The name of a tool is the kind and the name of its template, `workflow_NAME` or `agent_NAME`: no two are alike, and no
//! template can take the name of a tool of the server's own.

use std::sync::Arc;

use baton_execution::ProgramKind;
use baton_proto::{
    Resource,
    v1::{Agent, ListRequest, Workflow},
};
use baton_types::ApiError;
use rmcp::model::{JsonObject, ListToolsResult, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::app::{
    App, ServedResource,
    outside::{DESCRIPTION, Interface},
};

/// The tool that collects a run.
pub(super) const RESULT: &str = "baton_result";
/// The tool that asks a run to wind up.
pub(super) const CANCEL: &str = "baton_cancel";
/// Tools in one answer.
const PAGE_MAX: usize = 200;
/// Largest schema of a tool, in bytes; a larger one is left out, and arguments are then checked by the run alone.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Longest description of a tool, in characters.
const DESCRIPTION_CHARS_MAX: usize = 2048;

/// Which template a tool stands for.
pub(super) fn template_of(tool: &str) -> Option<(ProgramKind, &str)> {
    let workflow = tool.strip_prefix("workflow_").map(|name| (ProgramKind::Workflow, name));
    workflow.or_else(|| tool.strip_prefix("agent_").map(|name| (ProgramKind::Agent, name)))
}

/// A page of the tools of a namespace, in order of their names; the cursor is the last name of the page before.
pub(super) async fn list(app: &App, namespace: &str, cursor: Option<String>) -> Result<ListToolsResult, ApiError> {
    let mut tools = own();
    collect::<Agent>(app, namespace, of_agent, &mut tools).await?;
    collect::<Workflow>(app, namespace, of_workflow, &mut tools).await?;
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(cursor) = &cursor {
        tools.retain(|tool| *tool.name > **cursor);
    }
    let more = tools.len() > PAGE_MAX;
    tools.truncate(PAGE_MAX);
    let mut result = ListToolsResult::with_all_items(tools);
    result.next_cursor = result.tools.last().filter(|_| more).map(|tool| tool.name.to_string());
    Ok(result)
}

async fn collect<R: ServedResource>(
    app: &App,
    namespace: &str,
    tool: fn(&R) -> Tool,
    tools: &mut Vec<Tool>,
) -> Result<(), ApiError> {
    let mut request = ListRequest { namespace: namespace.to_owned(), ..ListRequest::default() };
    loop {
        let (page, templates) = app.list::<R>(&request).await?;
        tools.extend(templates.iter().filter(|template| Interface::Mcp.offers(*template)).map(tool));
        if page.r#continue.is_empty() {
            return Ok(());
        }
        request.r#continue = page.r#continue;
    }
}

/// The server's own tools.
fn own() -> Vec<Tool> {
    let id = json!({"type": "string", "description": "The id in the receipt of the run"});
    let wait = json!({"type": "string", "description": "How long to wait for its end, such as 30s; up to 10m"});
    let result = json!({"type": "object", "properties": {"id": id, "wait": wait}, "required": ["id"]});
    let cancel = json!({"type": "object", "properties": {"id": id}, "required": ["id"]});
    vec![
        Tool::new(
            RESULT,
            "Gives the result of a run that was begun with another tool of this server, or says how far it has come",
            object(result),
        )
        .with_annotations(ToolAnnotations::new().read_only(true).open_world(false)),
        Tool::new(CANCEL, "Asks a run that was begun with another tool of this server to wind up", object(cancel))
            .with_annotations(
                ToolAnnotations::new().read_only(false).destructive(true).idempotent(true).open_world(false),
            ),
    ]
}

fn of_workflow(workflow: &Workflow) -> Tool {
    let definition = definition_of(workflow);
    let name = name_of(workflow);
    let document = &definition["document"];
    let summary = document["summary"].as_str().or_else(|| document["title"].as_str());
    let description = described(workflow, summary.unwrap_or_default(), || format!("Runs the workflow '{name}'"));
    let (input, _) = input_of(&definition);
    let tool = Tool::new(format!("workflow_{name}"), description, object(input));
    with_output(tool, &definition["output"]["schema"])
}

fn of_agent(agent: &Agent) -> Tool {
    let name = name_of(agent);
    let spec = agent.spec.clone().unwrap_or_default();
    let first = spec.instructions.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let description = described(agent, first, || format!("Asks the agent '{name}'"));
    let input = json!({
        "type": "object",
        "properties": {
            "message": {"type": "string", "description": "What the agent is asked"},
            "input": {"description": "Data for the agent, as JSON"},
        },
        "required": ["message"],
        "additionalProperties": false,
    });
    let tool = Tool::new(format!("agent_{name}"), description, object(input));
    let schema = spec.output_schema.and_then(|schema| schema.to_value().ok()).unwrap_or_default();
    with_output(tool, &json!({"document": schema}))
}

fn name_of<R: Resource>(template: &R) -> &str {
    template.metadata().map_or("", |meta| meta.name.as_str())
}

/// The document of a workflow.
pub(super) fn definition_of(workflow: &Workflow) -> Value {
    let definition = workflow.spec.as_ref().and_then(|spec| spec.definition.as_ref());
    definition.and_then(|definition| definition.to_value().ok()).unwrap_or_default()
}

fn described<R: Resource>(template: &R, usual: &str, else_: impl FnOnce() -> String) -> String {
    let said = template.metadata().and_then(|meta| meta.annotations.get(DESCRIPTION)).map_or(usual, String::as_str);
    let said: String = said.trim().chars().take(DESCRIPTION_CHARS_MAX).collect();
    if said.is_empty() { else_() } else { said }
}

/// The schema of a tool's arguments, and whether the input of the workflow is their field `input`: arguments are an object, and
/// an input can be anything.
pub(super) fn input_of(definition: &Value) -> (Value, bool) {
    let any = || json!({"type": "object"});
    let Some(schema) = inline(&definition["input"]["schema"]) else { return (any(), false) };
    if is_object(schema) {
        let mut schema = schema.clone();
        schema["type"] = "object".into();
        return (schema, false);
    }
    // References within the schema would not find their place one level deeper.
    let schema = if refers(schema) { json!({}) } else { schema.clone() };
    (json!({"type": "object", "properties": {"input": schema}, "required": ["input"]}), true)
}

/// What a schema of the workflow language says, if it says it in place, in JSON Schema, and is not too large.
fn inline(schema: &Value) -> Option<&Value> {
    let format = schema["format"].as_str().unwrap_or("json");
    let document = schema.get("document").filter(|document| document.is_object() && format.starts_with("json"))?;
    (document.to_string().len() <= SCHEMA_BYTES_MAX).then_some(document)
}

fn is_object(schema: &Value) -> bool {
    schema["type"] == "object" || (schema.get("type").is_none() && schema.get("properties").is_some())
}

fn refers(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            fields.keys().any(|key| matches!(key.as_str(), "$ref" | "$dynamicRef" | "$id"))
                || fields.values().any(refers)
        }
        Value::Array(items) => items.iter().any(refers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Adds what a call gives: the output, if its schema is known to be an object's, or a receipt.
fn with_output(tool: Tool, schema: &Value) -> Tool {
    let Some(schema) = inline(schema).filter(|schema| is_object(schema) && !refers(schema)) else { return tool };
    let receipt = json!({
        "title": "Receipt of a run that has not ended",
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "execution": {"type": "string"},
            "state": {"enum": ["running", "waiting"]},
            "message": {"type": "string"},
        },
        "required": ["id", "execution", "state", "message"],
    });
    tool.with_raw_output_schema(Arc::new(object(json!({"type": "object", "anyOf": [schema, receipt]}))))
}

fn object(value: Value) -> JsonObject {
    if let Value::Object(object) = value { object } else { JsonObject::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_whatever_the_input_is() {
        let of = |schema: Value| input_of(&json!({"input": {"schema": schema}}));
        assert_eq!(input_of(&json!({})), (json!({"type": "object"}), false));
        let whole = json!({"type": "object", "properties": {"id": {"type": "string"}}});
        assert_eq!(of(json!({"document": whole})), (whole, false));
        let (schema, wrapped) = of(json!({"document": {"type": "string"}}));
        assert!(wrapped);
        assert_eq!(schema["properties"]["input"], json!({"type": "string"}));
        for elsewhere in
            [json!({"resource": {"endpoint": "https://example.com"}}), json!({"format": "avro", "document": {}})]
        {
            assert_eq!(of(elsewhere), (json!({"type": "object"}), false));
        }
        let (schema, wrapped) = of(json!({"document": {"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {}}}}));
        assert!(wrapped);
        assert_eq!(schema["properties"]["input"], json!({}));
    }

    #[test]
    fn a_tool_names_its_template() {
        assert_eq!(template_of("workflow_a.b-c"), Some((ProgramKind::Workflow, "a.b-c")));
        assert_eq!(template_of("agent_agent_x"), Some((ProgramKind::Agent, "agent_x")));
        for other in [RESULT, CANCEL, "x", ""] {
            assert_eq!(template_of(other), None);
        }
    }
}
