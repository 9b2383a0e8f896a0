//! Servers of tools: checked when they are written, pinned by executions, and asked again after a restart.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, routing::post};
use baton_proto::{
    history_v1::history_event::Attributes,
    v1::{self, Agent, AgentExecution, Approval, DecideRequest, DeleteRequest, HistoryRequest, McpServer},
};
use baton_types::ErrorKind;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{DRY, REAL, Server, fields, read};

/// A server of the newest version of the protocol with one tool, which wants to know something before it goes on.
struct Trips {
    url: String,
    /// Parameters of the calls.
    calls: Arc<Mutex<Vec<Value>>>,
}

impl Trips {
    async fn start() -> Self {
        let calls: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = Arc::clone(&calls);
        let answer = move |Json(message): Json<Value>| {
            let result = answer(&message, &seen);
            async move { Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})) }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/mcp", post(answer))).await });
        Self { url, calls }
    }

    fn calls(&self) -> Vec<Value> {
        self.calls.lock().unwrap().clone()
    }
}

fn answer(message: &Value, seen: &Mutex<Vec<Value>>) -> Value {
    match message["method"].as_str().unwrap() {
        "server/discover" => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0,
            "cacheScope": "private",
        }),
        "tools/list" => json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "tools": [{"name": "book", "description": "Books a trip", "inputSchema": {"type": "object"}}],
        }),
        _ => {
            seen.lock().unwrap().push(message["params"].clone());
            if message["params"]["requestState"] == "opaque" {
                let text = format!("booked {}", message["params"]["inputResponses"]["seat"]["content"]["seat"]);
                return json!({"resultType": "complete", "content": [{"type": "text", "text": text}]});
            }
            let schema = json!({"type": "object", "properties": {"seat": {"type": "string"}}, "required": ["seat"]});
            let params = json!({"message": "Which seat?", "requestedSchema": schema});
            json!({
                "resultType": "input_required", "requestState": "opaque",
                "inputRequests": {"seat": {"method": "elicitation/create", "params": params}},
            })
        }
    }
}

fn server(name: &str, url: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"http": {"url": url}, "lifecycle": "modern"}})
}

fn traveller() -> Value {
    let turns = json!([{"toolCalls": [{"name": "trips__book", "arguments": {"to": "Bonn"}}]}, {"text": "done"}]);
    let playback = json!({"conversations": [{"turns": turns}]});
    json!({
        "metadata": {"name": "traveller"},
        "spec": {
            "instructions": "Book.", "model": {"name": "m", "provider": "playback", "playback": playback},
            "toolServers": [{"server": "trips"}], "policy": {"rules": [{"server": "trips", "action": "allow"}]},
        },
    })
}

fn run(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"agent": "traveller", "message": "Go"}})
}

/// Name of the approval that an execution asks for.
async fn asked(server: &Server, name: &str) -> String {
    let request = HistoryRequest { name: name.to_owned(), ..HistoryRequest::default() };
    let mut events = Box::pin(server.app().watch_history::<AgentExecution>(&request).await.unwrap());
    while let Some(event) = events.next().await {
        if let Some(Attributes::ApprovalRequested(asked)) = event.unwrap().attributes {
            return asked.approval_name;
        }
    }
    panic!("'{name}' asks nobody")
}

fn answered(name: &str, result: &Value) -> DecideRequest {
    DecideRequest {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        decision: "result".to_owned(),
        result: Some(v1::Json::from_value(result)),
        ..DecideRequest::default()
    }
}

#[tokio::test]
async fn what_a_server_wants_to_know_waits_over_a_restart_and_over_changes_of_the_server() {
    let trips = Trips::start().await;
    let baton = Server::start().await;
    baton.create::<McpServer>(server("trips", &trips.url)).await.unwrap();
    baton.create::<Agent>(traveller()).await.unwrap();
    baton.create::<AgentExecution>(run("trip")).await.unwrap();
    let name = asked(&baton, "trip").await;
    let approval: Approval = baton.app().get("default", &name).await.unwrap();
    let spec = approval.spec.unwrap();
    assert_eq!(
        (spec.r#type.as_str(), spec.tool.as_str(), spec.server.as_str()),
        ("Elicitation", "trips__book", "trips")
    );
    assert_eq!(spec.choices, ["approve", "result", "deny"]);
    assert_eq!(spec.arguments.unwrap().to_value().unwrap()["message"], "Which seat?");

    let request = DeleteRequest { namespace: String::new(), name: "trips".to_owned(), ..DeleteRequest::default() };
    baton.app().delete::<McpServer>(&request).await.unwrap();
    let refused = baton.create::<AgentExecution>(run("later")).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.agent"]);
    assert!(refused.to_string().contains("no MCP server 'trips' in namespace 'default'"), "{refused}");

    let baton = baton.restart().await;
    let wrong = baton.app().decide(answered(&name, &json!({"seat": 12})), None).await.unwrap_err();
    assert_eq!((wrong.kind, fields(&wrong)), (ErrorKind::Invalid, vec!["result".to_owned()]));
    baton.app().decide(answered(&name, &json!({"seat": "12a"})), None).await.unwrap();
    let ended: AgentExecution = baton.ended("trip").await;
    assert_eq!(ended.status.unwrap().phase, "Completed");
    let calls = trips.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!(calls[1]["inputResponses"]["seat"], json!({"action": "accept", "content": {"seat": "12a"}}));
    baton.stop().await;
}

#[tokio::test]
async fn an_execution_keeps_the_server_that_it_began_with_and_the_next_one_has_the_new_one() {
    let (first, second) = (Trips::start().await, Trips::start().await);
    let baton = Server::start().await;
    let warned = baton.app().create(read::<Agent>(traveller()), REAL).await.unwrap();
    assert!(warned.warnings.iter().any(|it| it.contains("no MCP server 'trips'")), "{:?}", warned.warnings);
    baton.create::<McpServer>(server("trips", &first.url)).await.unwrap();
    baton.create::<AgentExecution>(run("one")).await.unwrap();
    let one = asked(&baton, "one").await;
    let patch = json!({"spec": {"http": {"url": second.url}}});
    baton.app().patch::<McpServer>("default", "trips", patch, REAL).await.unwrap();
    baton.create::<AgentExecution>(run("two")).await.unwrap();
    let two = asked(&baton, "two").await;
    for (run, name) in [("one", &one), ("two", &two)] {
        baton.app().decide(answered(name, &json!({"seat": run})), None).await.unwrap();
        assert_eq!(baton.ended::<AgentExecution>(run).await.status.unwrap().phase, "Completed");
    }
    for (trips, seat) in [(&first, "one"), (&second, "two")] {
        let calls = trips.calls();
        assert_eq!((calls.len(), &calls[1]["inputResponses"]["seat"]["content"]["seat"]), (2, &json!(seat)));
    }
    let digests: Vec<String> = [baton.ended::<AgentExecution>("one").await, baton.ended("two").await]
        .into_iter()
        .map(|it| it.status.unwrap().template.unwrap().digest)
        .collect();
    assert_ne!(digests[0], digests[1], "the server is part of what is pinned");
    baton.stop().await;
}

#[tokio::test]
async fn a_server_is_checked_whole_and_kept_as_any_other_kind() {
    let baton = Server::start().await;
    let bad = json!({
        "metadata": {"name": "bad"},
        "spec": {"stdio": {"command": ""}, "lifecycle": "old", "allowedTools": ["["], "timeout": "soon"},
    });
    let refused = baton.app().create(read::<McpServer>(bad), DRY).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.allowedTools[0]", "spec.lifecycle", "spec.stdio.command", "spec.timeout"]);
    let none = baton.app().create(read::<McpServer>(json!({"metadata": {"name": "bad"}})), DRY).await.unwrap_err();
    assert_eq!(fields(&none), ["spec"]);

    let good = json!({
        "metadata": {"name": "files"},
        "spec": {"stdio": {"command": "files", "environment": {"KEY": {"secret": "files", "key": "token"}}}},
    });
    let written = baton.app().create(read::<McpServer>(good.clone()), REAL).await.unwrap();
    assert!(written.warnings[0].contains("no secret 'files' in namespace 'default' yet"), "{:?}", written.warnings);
    let status = written.object.status.clone().unwrap();
    assert!(status.digest.starts_with("sha256:") && status.conditions[0].r#type == "Accepted", "{status:?}");
    let again = baton.app().create(read::<McpServer>(good.clone()), REAL).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::AlreadyExists);
    let same = baton.app().patch::<McpServer>("default", "files", json!({"spec": good["spec"]}), REAL).await.unwrap();
    assert_eq!(same.object.metadata.unwrap().resource_version, written.object.metadata.unwrap().resource_version);
    baton.stop().await;
}

#[tokio::test]
async fn an_inline_agent_may_name_servers_or_define_them() {
    let trips = Trips::start().await;
    let baton = Server::start().await;
    let inline = |name: &str, entry: Value| {
        let mut spec = traveller()["spec"].clone();
        spec["toolServers"] = json!([entry]);
        json!({"metadata": {"name": name}, "spec": {"definition": spec, "message": "Go"}})
    };
    let refused = baton.create::<AgentExecution>(inline("none", json!({"server": "trips"}))).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.definition.toolServers[0].server"]);
    let defined = json!({"server": "trips", "definition": server("x", &trips.url)["spec"]});
    baton.create::<AgentExecution>(inline("defined", defined)).await.unwrap();
    baton.create::<McpServer>(server("trips", &trips.url)).await.unwrap();
    baton.create::<AgentExecution>(inline("named", json!({"server": "trips"}))).await.unwrap();
    for name in ["defined", "named"] {
        let approval = asked(&baton, name).await;
        let deny = DecideRequest { decision: "deny".to_owned(), result: None, ..answered(&approval, &json!({})) };
        baton.app().decide(deny, None).await.unwrap();
        assert_eq!(baton.ended::<AgentExecution>(name).await.status.unwrap().phase, "Completed");
    }
    baton.stop().await;
}
