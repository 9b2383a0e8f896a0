//! The kind `McpServer`, and how executions come to the servers of their agent.
//!
//! An execution pins the servers together with the agent: each entry of `toolServers` gets the server's spec as its
//! `definition`. So whatever becomes of the server, an execution keeps asking the one that it began with.

use baton_execution::ProgramKind;
use baton_proto::{
    Resource as _,
    v1::{McpServer, McpServerSpec},
};
use baton_store::{ResourceKey, StoredResource};
use baton_types::{ApiError, Digest, Violation};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::{
    App, Change, DeletedObject, ServedResource, WriteOptions, Written, free_data,
    plain::{self, PlainKind},
    strategy,
};

impl ServedResource for McpServer {
    const SELECTABLE_FIELDS: &'static [&'static str] = &["metadata.name", "metadata.namespace"];

    fn field(&self, field: &str) -> Option<String> {
        strategy::common_field(self, field)
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        let mut object = Self::decode(body.clone())
            .map_err(|error| ApiError::internal(format!("an MCP server at revision {revision}: {error}")))?;
        object.metadata_mut().resource_version = revision.to_string();
        Ok(object)
    }

    async fn admit_new(app: &App, object: Self, options: WriteOptions) -> Result<Written<Self>, ApiError> {
        plain::create(app, object, options).await
    }

    async fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        plain::replace(app, &stored, change, options).await
    }

    async fn remove(
        app: &App,
        stored: StoredResource,
        _expected: Option<u64>,
    ) -> Result<DeletedObject<Self>, ApiError> {
        plain::remove(app, &stored).await
    }
}

impl PlainKind for McpServer {
    fn check(&mut self, violations: &mut Vec<Violation>) {
        let Some(spec) = self.spec.as_mut() else {
            violations.push(Violation::new("spec", "must be set: stdio or http"));
            return;
        };
        let noted = violations.len();
        canonicalize(spec, "spec", violations);
        if violations.len() > noted {
            return;
        }
        let content = baton_proto::to_json_value(spec);
        if let Err(found) = baton_agent::check_mcp_server(&content) {
            violations.extend(found.into_iter().map(|violation| violation.under("spec")));
        }
    }

    fn write_status(&mut self) {
        let content = self.spec.as_ref().map(baton_proto::to_json_value).unwrap_or_default();
        self.status.get_or_insert_default().digest = Digest::of(content.to_string().as_bytes()).to_string();
    }

    async fn warnings(&self, app: &App) -> Result<Vec<String>, ApiError> {
        let namespace = self.metadata().map(|meta| meta.namespace.clone()).unwrap_or_default();
        let content = self.spec.as_ref().map(baton_proto::to_json_value).unwrap_or_default();
        let mut warnings = Vec::new();
        for name in baton_agent::secrets_of_mcp_server(&content) {
            if !app.has_secret(&namespace, &name).await? {
                warnings.push(format!(
                    "spec: no secret '{name}' in namespace '{namespace}' yet; executions fail where they use it until it is created"
                ));
            }
        }
        Ok(warnings)
    }

    fn written(app: &App, namespace: &str) {
        app.templates().forget_all(ProgramKind::Agent, namespace);
    }
}

/// Brings the free data of a server's spec to one form.
pub(super) fn canonicalize(spec: &mut McpServerSpec, field: &str, violations: &mut Vec<Violation>) {
    let environment = spec.stdio.iter_mut().flat_map(|stdio| stdio.environment.iter_mut());
    let values = environment.map(|value| ("stdio.environment", value));
    let headers = spec.http.iter_mut().flat_map(|http| http.headers.iter_mut()).map(|value| ("http.headers", value));
    for (place, (name, value)) in values.chain(headers) {
        free_data::read(value, &format!("{field}.{place}.{name}"), violations);
    }
    if let Some(http) = spec.http.as_mut() {
        free_data::canonicalize(&mut http.authentication, &format!("{field}.http.authentication"), violations);
    }
}

impl App {
    /// Puts the servers that an agent names into its content; gives the places of those that there are not, and a sentence for
    /// each.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn join_servers(
        &self,
        namespace: &str,
        content: &mut Value,
    ) -> Result<Vec<(String, String)>, ApiError> {
        let mut missing = Vec::new();
        let Some(Value::Array(entries)) = content.get_mut("toolServers") else { return Ok(missing) };
        for (index, entry) in entries.iter_mut().enumerate() {
            let Some(entry) = entry.as_object_mut().filter(|entry| !entry.contains_key("definition")) else { continue };
            let Some(name) = entry.get("server").and_then(Value::as_str).map(str::to_owned) else { continue };
            match self.mcp_server(namespace, &name).await? {
                Some(spec) => _ = entry.insert("definition".to_owned(), spec),
                None => missing.push((
                    format!("toolServers[{index}].server"),
                    format!("no MCP server '{name}' in namespace '{namespace}'"),
                )),
            }
        }
        Ok(missing)
    }

    /// The spec of a server in its JSON form; `None` if there is none of that name.
    pub(super) async fn mcp_server(&self, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let key = ResourceKey::new(McpServer::KIND, namespace, name);
        let Some(stored) = self.read(move |store| store.get(&key)).await? else { return Ok(None) };
        let server = McpServer::decode_stored(&stored.body, stored.revision)?;
        Ok(Some(baton_proto::to_json_value(&server.spec.unwrap_or_default())))
    }
}
