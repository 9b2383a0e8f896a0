//! The activities `mcp-tools` and `mcp-call`: the tools of a server, for an agent.
//!
//! Input of both: `protocolVersion` and `lifecycle` (`auto`, `modern` or `legacy`), of which the first stands before the second,
//! and `transport` as of the activity `mcp`.
//!
//! - `mcp-tools` has `tools`, lists of patterns, and gives `{"tools": […]}`: those that are wanted, without what no model is told.
//! - `mcp-call` has `method`, `parameters` and perhaps `digest`, that of the tool as it is pinned, or `task` with `inputResponses`.
//!   It gives `result`, `changed`, `inputRequired` or `task`, see below.
//!
//! # Invariants
//! - A tool whose digest is another one is not called: `changed` is the tool as it is now.
//! - Nothing is driven further here: what a server wants to know, and work that goes on there, is given to whoever called.
//! - What is no text (images, sounds, files) is replaced by its size: it would be kept in the history for nobody.
//!
//! # Deliberately absent
//! Requests of the server in the middle of a call, as older versions have them: the client says that it has no such capability,
//! and declines.

use baton_agent::{Listed, Listing};
use baton_execution::{ActivityTask, Fault, fault_type};
use rmcp::{
    model::{
        ClientCapabilities, ElicitationCapability, FormElicitationCapability, JsonObject, ProtocolVersion,
        ServerResult, TASKS_EXTENSION_ID, UrlElicitationCapability,
    },
    service::{ClientLifecycleMode, Peer, RoleClient},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Mcp, Place, Question, Work,
    failure::{Trouble, runtime},
    refused, version_named,
};
use crate::{Activity, jsonrpc, secrets::Vault};

/// What a list may have when nobody wants less, in bytes: it is kept in the history of each execution.
const LISTING_BYTES_MAX: usize = 1 << 20;
/// Fields of what a server gives that say nothing to a model.
const DROPPED: [&str; 3] = ["_meta", "annotations", "icons"];

/// Lists what a server has.
pub(crate) struct McpTools(pub(crate) Mcp);

/// Calls what a server has.
pub(crate) struct McpCall(pub(crate) Mcp);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolsInput {
    #[serde(flatten)]
    server: Server,
    #[serde(default)]
    tools: Vec<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallInput {
    #[serde(flatten)]
    server: Server,
    #[serde(flatten)]
    call: Call,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    #[serde(default)]
    protocol_version: Option<String>,
    #[serde(default)]
    lifecycle: Lifecycle,
    transport: Place,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Lifecycle {
    #[default]
    Auto,
    Modern,
    Legacy,
}

/// What is called.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call {
    method: String,
    #[serde(default)]
    parameters: Value,
    /// Of the tool as it is pinned.
    #[serde(default)]
    digest: Option<String>,
    /// Work that goes on at the server.
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    input_responses: Map<String, Value>,
}

#[async_trait::async_trait]
impl Activity for McpTools {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let input = ToolsInput::deserialize(&task.input).map_err(|error| unusable("mcp-tools", &error))?;
        let question = input.server.question(Work::Tools(&input.tools), task, &self.0)?;
        self.0.ask(&input.server.transport, &question, task).await
    }
}

#[async_trait::async_trait]
impl Activity for McpCall {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let input = CallInput::deserialize(&task.input).map_err(|error| unusable("mcp-call", &error))?;
        let question = input.server.question(Work::Call(&input.call), task, &self.0)?;
        self.0.ask(&input.server.transport, &question, task).await
    }
}

fn unusable(activity: &str, error: &serde_json::Error) -> Fault {
    refused(&format!("the input of the activity '{activity}' cannot be used: {error}"))
}

impl Server {
    fn question<'q>(&self, work: Work<'q>, task: &'q ActivityTask, mcp: &Mcp) -> Result<Question<'q>, Fault> {
        let version = self.protocol_version.as_deref().map(version_named).transpose()?;
        let (modern, legacy) = (ProtocolVersion::V_2026_07_28, ProtocolVersion::V_2025_11_25);
        let by_version = |version: &ProtocolVersion| {
            if version.has_initialize() { Lifecycle::Legacy } else { Lifecycle::Modern }
        };
        let lifecycle = match (self.lifecycle, &version) {
            (Lifecycle::Auto, Some(version)) => by_version(version),
            (lifecycle, _) => lifecycle,
        };
        let (version, lifecycle) = match (lifecycle, version) {
            (Lifecycle::Auto, _) => {
                let (preferred_versions, legacy_version) = (vec![modern.clone()], Some(legacy));
                (modern, ClientLifecycleMode::Auto { preferred_versions, legacy_version })
            }
            (Lifecycle::Modern, Some(version)) if version.has_initialize() => {
                return Err(refused(&format!("version '{version}' of the protocol is not for the lifecycle 'modern'")));
            }
            (Lifecycle::Legacy, Some(version)) if !version.has_initialize() => {
                return Err(refused(&format!("version '{version}' of the protocol is not for the lifecycle 'legacy'")));
            }
            (Lifecycle::Modern, version) => {
                let version = version.unwrap_or(modern);
                let preferred_versions = vec![version.clone()];
                (version, ClientLifecycleMode::Discover { preferred_versions })
            }
            (Lifecycle::Legacy, version) => (version.unwrap_or(legacy), ClientLifecycleMode::Initialize),
        };
        let capabilities = match &lifecycle {
            // Its servers would call back in the middle of a call.
            ClientLifecycleMode::Initialize => ClientCapabilities::default(),
            _ => capabilities(),
        };
        Ok(Question {
            client: rmcp::model::Implementation::new("baton", env!("CARGO_PKG_VERSION")),
            version,
            lifecycle,
            capabilities,
            work,
            idempotency_key: &task.idempotency_key,
            answer_bytes_max: mcp.outgoing.response_bytes_max(),
        })
    }
}

fn capabilities() -> ClientCapabilities {
    let elicitation = ElicitationCapability::new()
        .with_form(FormElicitationCapability::default())
        .with_url(UrlElicitationCapability::default());
    let mut capabilities = ClientCapabilities::default();
    capabilities.elicitation = Some(elicitation);
    capabilities.extensions = Some([(TASKS_EXTENSION_ID.to_owned(), JsonObject::new())].into());
    capabilities
}

impl Question<'_> {
    /// What the server has, of what is wanted.
    pub(super) async fn tools(
        &self,
        who: &str,
        peer: &Peer<RoleClient>,
        patterns: &[Vec<String>],
    ) -> Result<Value, Trouble> {
        let tools = self.listed(who, peer).await?;
        let tools: Vec<Listed> = tools.into_iter().filter(|tool| Listing::wants(patterns, &tool.name)).collect();
        let listing = json!(Listing { tools });
        let bytes = listing.to_string().len();
        if bytes > LISTING_BYTES_MAX {
            let detail = format!(
                "the tools of {who} have {bytes} bytes, allowed are up to {LISTING_BYTES_MAX}; 'tools' and 'allowedTools' can leave some out"
            );
            return Err(Trouble::Fault(Fault::new(fault_type::LIMIT, 400, detail).non_retryable()));
        }
        Ok(listing)
    }

    async fn listed(&self, who: &str, peer: &Peer<RoleClient>) -> Result<Vec<Listed>, Trouble> {
        let mut list = self.all_pages(who, peer, "tools/list", &json!({}), "tools").await?;
        // The digest is of what is recorded, now as then.
        Vec::deserialize(Vault::as_recorded(list["tools"].take()))
            .map_err(|error| Trouble::Fault(jsonrpc::not_an_answer(who, &format!("its list of tools: {error}"))))
    }

    /// One call, as far as it goes.
    pub(super) async fn call(&self, who: &str, peer: &Peer<RoleClient>, call: &Call) -> Result<Value, Trouble> {
        if let Some(task) = &call.task {
            return self.task(who, peer, task, call).await;
        }
        if let Some(digest) = &call.digest {
            let name = call.parameters.get("name").and_then(Value::as_str).unwrap_or_default();
            let listed = self.listed(who, peer).await?.into_iter().find(|tool| tool.name == name);
            if listed.as_ref().is_none_or(|tool| tool.digest() != *digest) {
                return Ok(json!({"changed": listed}));
            }
        }
        if call.method == "resources/list" {
            return self.resources(who, peer).await;
        }
        if let Some((_, Some(list))) = super::METHODS.iter().find(|(method, _)| *method == call.method) {
            let found = self.all_pages(who, peer, &call.method, &call.parameters, list).await?;
            return Ok(json!({"result": plain(found)}));
        }
        Ok(match self.send(peer, &call.method, &call.parameters).await? {
            ServerResult::InputRequiredResult(required) => json!({"inputRequired": encoded(who, &required)?}),
            ServerResult::CreateTaskResult(created) => json!({"task": encoded(who, &created)?}),
            result => json!({"result": plain(encoded(who, &result)?)}),
        })
    }

    /// Resources, and templates of them where the server has such.
    async fn resources(&self, who: &str, peer: &Peer<RoleClient>) -> Result<Value, Trouble> {
        let mut found = self.all_pages(who, peer, "resources/list", &json!({}), "resources").await?;
        let templates = self.all_pages(who, peer, "resources/templates/list", &json!({}), "resourceTemplates").await;
        if let Ok(mut templates) = templates {
            found["resourceTemplates"] = templates["resourceTemplates"].take();
        }
        Ok(json!({"result": plain(found)}))
    }

    /// How work at the server stands, after it was told what it wants to know.
    async fn task(&self, who: &str, peer: &Peer<RoleClient>, task: &str, call: &Call) -> Result<Value, Trouble> {
        if !call.input_responses.is_empty() {
            let responses = json!({"taskId": task, "inputResponses": call.input_responses});
            self.send(peer, "tasks/update", &responses).await?;
        }
        let found = self.send(peer, "tasks/get", &json!({"taskId": task})).await?;
        let mut found = encoded(who, &found)?;
        Ok(match found.get("status").and_then(Value::as_str) {
            Some("completed") => json!({"result": plain(found["result"].take())}),
            Some("working" | "input_required") => json!({"task": found}),
            Some("failed") => {
                let error = found["error"].take();
                let said = error.get("message").and_then(Value::as_str).unwrap_or_default();
                let detail = format!("the work at {who} failed: {}", jsonrpc::said(said));
                return Err(Trouble::Fault(runtime(500, detail).with_data(error)));
            }
            Some("cancelled") => {
                let detail = format!("the work at {who} was cancelled there");
                return Err(Trouble::Fault(Fault::new(fault_type::CANCELLED, 499, detail).non_retryable()));
            }
            _ => return Err(Trouble::Fault(jsonrpc::not_an_answer(who, "the state of its work"))),
        })
    }
}

fn encoded(who: &str, result: &impl serde::Serialize) -> Result<Value, Trouble> {
    serde_json::to_value(result)
        .map_err(|error| Trouble::Fault(jsonrpc::not_an_answer(who, &format!("the result: {error}"))))
}

/// What a server gave, without what is no text and what says nothing to a model. Structured data stays as it is.
fn plain(mut value: Value) -> Value {
    match &mut value {
        Value::Object(object) => {
            let is_binary = object.get("type").is_some_and(|kind| kind == "image" || kind == "audio");
            let binary = if is_binary { "data" } else { "blob" };
            if let Some(Value::String(data)) = object.get(binary) {
                let bytes = data.trim_end_matches('=').len() * 3 / 4;
                object.remove(binary);
                object.insert("bytes".to_owned(), json!(bytes));
            }
            for name in DROPPED {
                object.remove(name);
            }
            for (name, field) in object.iter_mut() {
                if name != "structuredContent" {
                    *field = plain(field.take());
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = plain(item.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}
