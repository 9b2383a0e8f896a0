//! The kind `Agent`.

use baton_execution::ProgramKind;
use baton_proto::{
    Resource,
    v1::{Agent, AgentSpec, Model},
};
use baton_store::StoredResource;
use baton_types::{ApiError, Digest, Violation};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::{
    App, Change, DeletedObject, ServedResource, WriteOptions, Written, free_data, mcp_server, strategy,
    template::{self, TemplateKind},
};

impl ServedResource for Agent {
    const SELECTABLE_FIELDS: &'static [&'static str] = &["metadata.name", "metadata.namespace"];

    fn field(&self, field: &str) -> Option<String> {
        strategy::common_field(self, field)
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        let mut object = Self::decode(body.clone())
            .map_err(|error| ApiError::internal(format!("an agent at revision {revision}: {error}")))?;
        object.metadata_mut().resource_version = revision.to_string();
        Ok(object)
    }

    async fn admit_new(app: &App, object: Self, options: WriteOptions) -> Result<Written<Self>, ApiError> {
        template::create(app, object, options).await
    }

    async fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        template::replace(app, &stored, change, options).await
    }

    async fn remove(
        app: &App,
        stored: StoredResource,
        _expected: Option<u64>,
    ) -> Result<DeletedObject<Self>, ApiError> {
        template::remove(app, stored).await
    }
}

impl TemplateKind for Agent {
    const PROGRAM: ProgramKind = ProgramKind::Agent;
    const CONTENT_FIELD: &'static str = "spec";

    fn content(&mut self, violations: &mut Vec<Violation>) -> Option<Value> {
        let Some(spec) = self.spec.as_mut() else {
            violations.push(Violation::new("spec", "must be set: instructions, model, tools"));
            return None;
        };
        agent_content(spec, Self::CONTENT_FIELD, violations)
    }

    fn set_digest(&mut self, digest: &Digest) {
        self.status.get_or_insert_default().digest = digest.to_string();
    }
}

/// The JSON form of an agent's spec, its free data brought to one form; `None` if a violation was noted.
pub(crate) fn agent_content(spec: &mut AgentSpec, field: &str, violations: &mut Vec<Violation>) -> Option<Value> {
    let noted = violations.len();
    free_data::canonicalize(&mut spec.output_schema, &format!("{field}.outputSchema"), violations);
    for (index, tool) in spec.tools.iter_mut().enumerate() {
        let field = format!("{field}.tools[{index}]");
        free_data::canonicalize(&mut tool.parameters, &format!("{field}.parameters"), violations);
        let Some(openapi) = tool.openapi.as_mut() else { continue };
        free_data::canonicalize(&mut openapi.authentication, &format!("{field}.openapi.authentication"), violations);
        let Some(document) = openapi.document.as_mut() else { continue };
        let field = format!("{field}.openapi.document");
        free_data::canonicalize(&mut document.content, &format!("{field}.content"), violations);
        free_data::canonicalize(&mut document.authentication, &format!("{field}.authentication"), violations);
    }
    if let Some(model) = spec.model.as_mut() {
        canonicalize_model(model, &format!("{field}.model"), violations);
    }
    for (index, server) in spec.tool_servers.iter_mut().enumerate() {
        if let Some(definition) = server.definition.as_mut() {
            mcp_server::canonicalize(definition, &format!("{field}.toolServers[{index}].definition"), violations);
        }
    }
    let rules = spec.policy.iter_mut().flat_map(|policy| policy.rules.iter_mut());
    for (index, rule) in rules.enumerate() {
        free_data::canonicalize(&mut rule.arguments, &format!("{field}.policy.rules[{index}].arguments"), violations);
    }
    (violations.len() == noted).then(|| {
        let mut content = baton_proto::to_json_value(spec);
        // What was pinned before there were policies has none, and goes on as it did; whatever is pinned now has one.
        if let Some(fields) = content.as_object_mut() {
            fields.entry("policy").or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
        content
    })
}

/// Brings the free data of a model to one form.
pub(super) fn canonicalize_model(model: &mut Model, field: &str, violations: &mut Vec<Violation>) {
    for (index, fallback) in model.fallbacks.iter_mut().enumerate() {
        canonicalize_playback(fallback, &format!("{field}.fallbacks[{index}]"), violations);
    }
    canonicalize_playback(model, field, violations);
}

fn canonicalize_playback(model: &mut Model, field: &str, violations: &mut Vec<Violation>) {
    let conversations = model.playback.iter_mut().flat_map(|playback| playback.conversations.iter_mut());
    for (index, conversation) in conversations.enumerate() {
        for (turn_index, turn) in conversation.turns.iter_mut().enumerate() {
            let turn_field = format!("{field}.playback.conversations[{index}].turns[{turn_index}]");
            free_data::canonicalize(&mut turn.json, &format!("{turn_field}.json"), violations);
            for (call_index, call) in turn.tool_calls.iter_mut().enumerate() {
                let call_field = format!("{turn_field}.toolCalls[{call_index}].arguments");
                free_data::canonicalize(&mut call.arguments, &call_field, violations);
            }
        }
    }
}
