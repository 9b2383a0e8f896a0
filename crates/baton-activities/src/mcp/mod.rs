//! The activity `mcp`: one request to a server of the Model Context Protocol, by `rmcp`, the protocol's own SDK.
//!
//! Input: `protocolVersion`, `method`, `parameters`, `client` (`{"name", "version", "description"}`) and `transport`, which is
//! `{"http": {"endpoint", "headers", "authentication"}}` or `{"stdio": {"command", "arguments", "environment"}}`.
//! Output: the result of the method. Of a list it is the whole list, from all pages, unless `parameters` has a `cursor`.
//!
//! - Each call is a connection of its own: it is initialized, asked, and closed. Nothing is kept between two calls.
//! - A tool gets the idempotency key as `baton.dev/idempotencyKey` in `_meta`. It is no header: a connection is several
//!   requests, and whoever answers by the header would answer all of them alike.
//! - What the server answers as an error, a result with `isError` included, is a fault of the type `runtime`.
//! - The client has no capabilities: requests of the server (sampling, elicitation, roots) are refused.
//!
//! Agents have activities of their own, which ask in the same way: see [`agent`].
//!
//! # Failure
//! A server that cannot be reached, or that breaks off, is a fault of the type `communication`.

mod agent;
mod failure;
mod handler;
mod http;
mod stdio;

use std::{collections::BTreeMap, sync::Arc};

use baton_execution::{ActivityTask, Fault, fault_type};
use rmcp::{
    model::{
        ClientCapabilities, ClientConfig, ClientRequest, Implementation, ProtocolVersion, RequestMetaObject,
        ServerResult,
    },
    service::{ClientLifecycleMode, ClientServiceExt as _, Peer, PeerRequestOptions, RoleClient, ServiceError},
    transport::Transport,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) use self::agent::{McpCall, McpTools};
use self::{
    failure::{Trouble, runtime},
    handler::Handler,
};
use crate::{
    Activity,
    auth::Authenticator,
    jsonrpc,
    outgoing::{Deadline, Outgoing},
    sandbox::Sandbox,
};

/// Pages of one list.
const PAGES_MAX: usize = 100;
/// Items of one list.
const ITEMS_MAX: usize = 10_000;
/// The version that the workflow language has as its default.
const VERSION_DEFAULT: &str = "2025-06-18";
const IDEMPOTENCY_KEY: &str = "baton.dev/idempotencyKey";

/// The methods, and for those that are lists the name of the list in the result.
const METHODS: [(&str, Option<&str>); 7] = [
    ("tools/list", Some("tools")),
    ("tools/call", None),
    ("prompts/list", Some("prompts")),
    ("prompts/get", None),
    ("resources/list", Some("resources")),
    ("resources/read", None),
    ("resources/templates/list", Some("resourceTemplates")),
];

#[derive(Clone)]
pub(crate) struct Mcp {
    authenticator: Arc<Authenticator>,
    outgoing: Arc<Outgoing>,
    sandbox: Sandbox,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    #[serde(default)]
    protocol_version: Option<String>,
    method: String,
    #[serde(default)]
    parameters: Value,
    #[serde(default)]
    client: Option<Client>,
    transport: Place,
}

#[derive(Deserialize)]
struct Client {
    name: String,
    version: String,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    Http(HttpPlace),
    Stdio(StdioPlace),
}

#[derive(Deserialize)]
struct HttpPlace {
    endpoint: String,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    authentication: Value,
}

#[derive(Deserialize)]
struct StdioPlace {
    command: String,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

/// Something to be asked, of whatever server.
struct Question<'q> {
    version: ProtocolVersion,
    client: Implementation,
    lifecycle: ClientLifecycleMode,
    capabilities: ClientCapabilities,
    work: Work<'q>,
    idempotency_key: &'q str,
    answer_bytes_max: usize,
}

/// What is done on a connection.
enum Work<'q> {
    /// One method.
    Method {
        method: &'q str,
        /// The name of the list, if the method gives one.
        list: Option<&'static str>,
        parameters: &'q Value,
    },
    /// The tools of the server that are wanted.
    Tools(&'q [Vec<String>]),
    /// A call of an agent.
    Call(&'q agent::Call),
}

impl Mcp {
    pub(crate) fn new(authenticator: &Arc<Authenticator>, outgoing: &Arc<Outgoing>, sandbox: &Sandbox) -> Self {
        Self { authenticator: Arc::clone(authenticator), outgoing: Arc::clone(outgoing), sandbox: sandbox.clone() }
    }

    async fn ask(&self, place: &Place, question: &Question<'_>, task: &ActivityTask) -> Result<Value, Fault> {
        let deadline = Deadline::of(task);
        match place {
            Place::Http(place) => http::ask(self, place, question, task, deadline).await,
            Place::Stdio(place) => stdio::ask(&self.sandbox, place, question, deadline).await,
        }
    }
}

#[async_trait::async_trait]
impl Activity for Mcp {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let input = Input::deserialize(&task.input)
            .map_err(|error| refused(&format!("the input of the activity 'mcp' cannot be used: {error}")))?;
        let question = question(&input, task, self.outgoing.response_bytes_max())?;
        self.ask(&input.transport, &question, task).await
    }
}

fn question<'q>(input: &'q Input, task: &'q ActivityTask, answer_bytes_max: usize) -> Result<Question<'q>, Fault> {
    let Some(&(_, list)) = METHODS.iter().find(|(method, _)| *method == input.method) else {
        let known: Vec<&str> = METHODS.iter().map(|(method, _)| *method).collect();
        return Err(refused(&format!(
            "no method '{}'; methods are {}",
            jsonrpc::said(&input.method),
            known.join(", ")
        )));
    };
    if !matches!(input.parameters, Value::Null | Value::Object(_)) {
        return Err(refused("the parameters must be an object"));
    }
    let version = version_named(input.protocol_version.as_deref().unwrap_or(VERSION_DEFAULT))?;
    let client = match &input.client {
        Some(client) => {
            let mut implementation = Implementation::new(client.name.clone(), client.version.clone());
            // Older versions do not have it.
            implementation.description =
                client.description.clone().filter(|_| version >= ProtocolVersion::V_2025_11_25);
            implementation
        }
        None => Implementation::new("baton", env!("CARGO_PKG_VERSION")),
    };
    let lifecycle = if version.has_initialize() {
        ClientLifecycleMode::Initialize
    } else {
        ClientLifecycleMode::Discover { preferred_versions: vec![version.clone()] }
    };
    Ok(Question {
        version,
        client,
        lifecycle,
        capabilities: ClientCapabilities::default(),
        work: Work::Method { method: &input.method, list, parameters: &input.parameters },
        idempotency_key: &task.idempotency_key,
        answer_bytes_max,
    })
}

impl Question<'_> {
    /// Connects by a transport, asks, and closes the connection.
    async fn ask(&self, who: &str, transport: impl Transport<RoleClient> + 'static) -> Result<Value, Trouble> {
        let mut client = ClientConfig::new(self.capabilities.clone(), self.client.clone());
        client.protocol_version = self.version.clone();
        let service = Handler::new(client, who).serve_with_lifecycle(transport, self.lifecycle.clone()).await?;
        let peer = service.peer();
        if let Some(info) = peer.peer_info()
            && !ProtocolVersion::KNOWN_VERSIONS.contains(&info.protocol_version)
        {
            let detail = format!("{who} speaks version '{}' of the protocol only", info.protocol_version);
            return Err(Trouble::Fault(runtime(400, detail).non_retryable()));
        }
        let result = match self.work {
            Work::Method { method, list: Some(list), parameters }
                if parameters.get("cursor").is_none_or(Value::is_null) =>
            {
                self.all_pages(who, peer, method, parameters, list).await?
            }
            Work::Method { method, parameters, .. } => self.once(who, peer, method, parameters).await?,
            Work::Tools(patterns) => self.tools(who, peer, patterns).await?,
            Work::Call(call) => self.call(who, peer, call).await?,
        };
        Ok(jsonrpc::measured(who, result)?)
        // Dropping the service closes the connection, in a task of its own: nobody waits for a slow good-bye.
    }

    async fn send(&self, peer: &Peer<RoleClient>, method: &str, parameters: &Value) -> Result<ServerResult, Trouble> {
        let mut request = json!({"method": method});
        if !parameters.is_null() {
            request["params"] = parameters.clone();
        }
        let request = ClientRequest::deserialize(request).map_err(|error| {
            refused(&format!("the parameters of '{}' cannot be used: {error}", jsonrpc::said(method)))
        })?;
        let mut options = PeerRequestOptions::no_options();
        if method == "tools/call" {
            let key = (IDEMPOTENCY_KEY.to_owned(), Value::String(self.idempotency_key.to_owned()));
            options = options.with_meta(RequestMetaObject::from(Map::from_iter([key])));
        }
        let answer: Result<ServerResult, ServiceError> =
            peer.send_request_with_option(request, options).await?.await_response().await;
        Ok(answer?)
    }

    async fn once(
        &self,
        who: &str,
        peer: &Peer<RoleClient>,
        method: &str,
        parameters: &Value,
    ) -> Result<Value, Trouble> {
        let result = self.send(peer, method, parameters).await?;
        let is_error = matches!(&result, ServerResult::CallToolResult(result) if result.is_error == Some(true));
        if let ServerResult::InputRequiredResult(_) | ServerResult::CreateTaskResult(_) = &result {
            let detail = format!("{who} wants more than a request before it answers '{method}'");
            return Err(Trouble::Fault(runtime(501, detail).non_retryable()));
        }
        let result = serde_json::to_value(result)
            .map_err(|error| jsonrpc::not_an_answer(who, &format!("the result of '{method}': {error}")))?;
        if is_error {
            return Err(Trouble::Fault(tool_error(who, parameters, result)));
        }
        Ok(result)
    }

    /// The list of all pages in the shape of one page.
    async fn all_pages(
        &self,
        who: &str,
        peer: &Peer<RoleClient>,
        method: &str,
        parameters: &Value,
        list: &str,
    ) -> Result<Value, Trouble> {
        let mut page = self.once(who, peer, method, parameters).await?;
        let mut items: Vec<Value> = Vec::new();
        let mut bytes = 0;
        for _ in 0..PAGES_MAX {
            let Some(Value::Array(found)) = page.get_mut(list).map(Value::take) else {
                let detail = format!("the result of '{method}' has no list '{list}'");
                return Err(Trouble::Fault(jsonrpc::not_an_answer(who, &detail)));
            };
            bytes += found.iter().map(|item| item.to_string().len()).sum::<usize>();
            items.extend(found);
            if bytes > self.answer_bytes_max || items.len() > ITEMS_MAX {
                break;
            }
            let Some(cursor) = page.as_object_mut().and_then(|page| page.remove("nextCursor")) else {
                page[list] = Value::Array(items);
                return Ok(page);
            };
            let mut parameters = parameters.as_object().cloned().unwrap_or_default();
            parameters.insert("cursor".to_owned(), cursor);
            page = self.once(who, peer, method, &Value::Object(parameters)).await?;
        }
        let detail = format!(
            "the list of {who} has more than {PAGES_MAX} pages, {ITEMS_MAX} items or {} bytes; with a 'cursor' in 'parameters' it is read page by page",
            self.answer_bytes_max
        );
        Err(Trouble::Fault(Fault::new(fault_type::LIMIT, 400, detail).non_retryable()))
    }
}

fn version_named(version: &str) -> Result<ProtocolVersion, Fault> {
    ProtocolVersion::KNOWN_VERSIONS.iter().find(|known| known.as_str() == version).cloned().ok_or_else(|| {
        let known: Vec<&str> = ProtocolVersion::KNOWN_VERSIONS.iter().map(ProtocolVersion::as_str).collect();
        let found = jsonrpc::said(version);
        refused(&format!("no version '{found}' of the protocol; versions are {}", known.join(", ")))
    })
}

/// The fault of a tool that says that it failed; its result is the data.
fn tool_error(who: &str, parameters: &Value, result: Value) -> Fault {
    let name = parameters.get("name").and_then(Value::as_str).unwrap_or_default();
    let texts = result.get("content").and_then(Value::as_array).into_iter().flatten();
    let text: Vec<&str> = texts.filter_map(|item| item.get("text")).filter_map(Value::as_str).collect();
    let detail = format!("the tool '{}' of {who} failed: {}", jsonrpc::said(name), jsonrpc::said(&text.join(" ")));
    runtime(500, detail).with_data(result)
}

fn refused(detail: &str) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}
