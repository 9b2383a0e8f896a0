//! The card of a published agent: who it is and where it is reached.

use baton_proto::v1::Agent;
use serde_json::{Value, json};

use super::{PROTOCOL_VERSION, Place};
use crate::app::outside::DESCRIPTION;

/// Longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 2048;

/// The card; `base` is the URL of this server, as the client knows it.
pub(super) fn card(agent: &Agent, place: &Place, base: &str) -> Value {
    let meta = agent.metadata.clone().unwrap_or_default();
    let spec = agent.spec.clone().unwrap_or_default();
    let first = spec.instructions.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let said = meta.annotations.get(DESCRIPTION).map_or(first, |said| said.trim());
    let said: String = said.chars().take(DESCRIPTION_CHARS_MAX).collect();
    let description = if said.is_empty() { format!("The agent '{}'", meta.name) } else { said };
    let url = format!("{base}/a2a/{}/{}", place.namespace, place.agent);
    let interface = |binding| json!({"url": url, "protocolBinding": binding, "protocolVersion": PROTOCOL_VERSION});
    let answers = if spec.output_schema.is_some() { "application/json" } else { "text/plain" };
    json!({
        "name": meta.name,
        "description": description,
        "version": meta.generation.to_string(),
        "supportedInterfaces": [interface("JSONRPC"), interface("HTTP+JSON")],
        "capabilities": {"streaming": true, "pushNotifications": true, "extendedAgentCard": false},
        "defaultInputModes": ["text/plain", "application/json"],
        "defaultOutputModes": [answers],
        "skills": [{"id": meta.name, "name": meta.name, "description": description, "tags": ["agent"]}],
    })
}
