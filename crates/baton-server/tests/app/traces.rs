//! Traces as a collector gets them: one for a tree of executions, whoever ran what and whenever, and without what was said.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::Request, http::StatusCode, response::IntoResponse as _};
use baton_proto::v1::{Agent, AgentExecution, Secret, Workflow, WorkflowExecution};
use baton_server::{ServerOptions, TracesOptions};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::any_value::Value as Any,
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Server, document, run};

const KEY: &str = "sk-planted-0123456789";

/// A collector that keeps what it gets; the first so many requests it refuses.
#[derive(Clone, Default)]
struct Collector {
    bodies: Arc<Mutex<Vec<Bytes>>>,
    headers: Arc<Mutex<Vec<String>>>,
    refuse: Arc<Mutex<Vec<u16>>>,
}

/// A span as these tests look at it.
#[derive(Clone, Debug)]
struct Seen {
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
    client: bool,
    start: u64,
    end: u64,
    attributes: HashMap<String, Value>,
    error: Option<String>,
}

impl Collector {
    async fn start(self) -> (Self, SocketAddr) {
        let this = self.clone();
        let app = Router::new().fallback(move |request: Request| {
            let this = this.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let (path, header) = (parts.uri.path().to_owned(), |name: &str| {
                    parts.headers.get(name).map(|it| it.to_str().unwrap().to_owned()).unwrap_or_default()
                });
                this.headers.lock().unwrap().push(format!("{path} {} {}", header("content-type"), header("x-key")));
                let refused = this.refuse.lock().unwrap().pop();
                if let Some(status) = refused {
                    return StatusCode::from_u16(status).unwrap().into_response();
                }
                this.bodies.lock().unwrap().push(body);
                let partial_success = Some(ExportTracePartialSuccess::default());
                ExportTraceServiceResponse { partial_success }.encode_to_vec().into_response()
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (self, address)
    }

    fn spans(&self) -> Vec<Seen> {
        let bodies = self.bodies.lock().unwrap().clone();
        let requests = bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap());
        requests
            .flat_map(|it| it.resource_spans)
            .flat_map(|it| {
                assert_eq!(it.schema_url, "https://opentelemetry.io/schemas/1.41.0");
                let resource = it.resource.unwrap();
                assert!(resource.attributes.iter().any(|it| it.key == "service.name"), "{resource:?}");
                it.scope_spans
            })
            .flat_map(|it| it.spans)
            .map(seen)
            .collect()
    }

    fn span(&self, name: &str) -> Seen {
        let spans = self.spans();
        let named: Vec<&Seen> = spans.iter().filter(|it| it.name == name).collect();
        assert_eq!(named.len(), 1, "{name}: {:?}", spans.iter().map(|it| &it.name).collect::<Vec<_>>());
        named[0].clone()
    }

    /// All bytes that came.
    fn text(&self) -> String {
        self.bodies.lock().unwrap().iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }
}

fn seen(span: Span) -> Seen {
    let value = |value: Option<Any>| match value {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::DoubleValue(number)) => json!(number),
        Some(Any::ArrayValue(all)) => {
            let texts = all.values.into_iter().filter_map(|it| match it.value {
                Some(Any::StringValue(text)) => Some(text),
                _ => None,
            });
            json!(texts.collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    let attributes =
        span.attributes.into_iter().map(|it| (it.key, value(it.value.and_then(|value| value.value)))).collect();
    Seen {
        trace: span.trace_id,
        id: span.span_id,
        parent: span.parent_span_id,
        name: span.name,
        client: span.kind == 3,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes,
        error: span.status.filter(|status| status.code == 2).map(|status| status.message),
    }
}

fn traced(address: SocketAddr, content: bool) -> impl Fn(&mut ServerOptions) {
    move |options| {
        options.traces = Some(TracesOptions {
            endpoint: format!("http://{address}/"),
            headers: vec![("x-key".to_owned(), baton_server::Secret::new("collector-key"))],
            content,
            service_name: "test".to_owned(),
        });
    }
}

/// A service that says what it was asked with.
async fn service() -> (String, Arc<Mutex<Vec<String>>>) {
    let parents: Arc<Mutex<Vec<String>>> = Arc::default();
    let memory = Arc::clone(&parents);
    let app = Router::new().fallback(move |request: Request| {
        let parent = request.headers().get("traceparent").map(|it| it.to_str().unwrap().to_owned());
        memory.lock().unwrap().extend(parent);
        async { axum::Json(json!({"found": "a red bicycle"})) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, parents)
}

/// A workflow that calls an agent, which calls a service.
async fn create_tree(server: &Server, service: &str) {
    let secret = json!({"metadata": {"name": "planted"}, "spec": {"data": {"key": KEY}}});
    server.create::<Secret>(secret).await.unwrap();
    let turns = json!([
        {"text": "Let me look.", "toolCalls": [{"name": "look_up", "arguments": {"id": "velo-17"}}], "inputTokens": 120, "outputTokens": 15},
        {"text": "It is a bicycle.", "inputTokens": 200, "outputTokens": 5},
    ]);
    let tool = json!({
        "name": "look_up", "description": "Looks up", "readOnly": true,
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
        "http": {"method": "GET", "url": format!("{service}/things/{{id}}")},
    });
    let model = json!({
        "name": "scripted", "provider": "playback", "temperature": 0.5, "maxOutputTokens": 100,
        "playback": {"conversations": [{"turns": turns}]},
    });
    let spec = json!({"instructions": "Answer briefly.", "model": model, "tools": [tool]});
    server.create::<Agent>(json!({"metadata": {"name": "clerk"}, "spec": spec})).await.unwrap();
    let ask = json!([
        {"ask": {"call": "baton.dev/agent", "with": {"agent": "clerk", "message": "What is velo-17?", "session": "s1"}}},
        {"tell": {"call": "http", "with": {
            "method": "post", "endpoint": format!("{service}/told"), "body": {"key": "${ $secrets.planted.key }"}}}},
    ]);
    let mut definition = document("desk", &ask);
    definition["use"] = json!({"secrets": ["planted"]});
    server.create::<Workflow>(json!({"metadata": {"name": "desk"}, "spec": {"definition": definition}})).await.unwrap();
}

#[tokio::test]
async fn a_tree_of_executions_is_one_trace_without_what_was_said() {
    let ((collector, address), (service, parents)) = (Collector::default().start().await, service().await);
    let server = Server::start_with(traced(address, false)).await;
    create_tree(&server, &service).await;
    server.create::<WorkflowExecution>(run("run", "desk")).await.unwrap();
    let ended = server.ended::<WorkflowExecution>("run").await;
    assert_eq!(ended.status.unwrap().phase, "Completed");
    server.stop().await;

    let spans = collector.spans();
    let trace = spans[0].trace.clone();
    assert_eq!((trace.len(), spans.len()), (16, 6), "{:?}", spans.iter().map(|it| &it.name).collect::<Vec<_>>());
    assert!(spans.iter().all(|it| it.trace == trace && it.id.len() == 8 && it.start <= it.end && it.start > 0));
    let (flow, agent) = (collector.span("workflow desk"), collector.span("invoke_agent clerk"));
    assert_eq!((flow.parent.len(), &agent.parent), (0, &flow.id));
    let chats: Vec<&Seen> = spans.iter().filter(|it| it.name == "chat scripted").collect();
    assert_eq!(chats.len(), 2);
    let first = chats.iter().min_by_key(|it| it.start).unwrap();
    for (name, value) in [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("playback")),
        ("gen_ai.request.model", json!("scripted")),
        ("gen_ai.response.model", json!("scripted")),
        ("gen_ai.request.temperature", json!(0.5)),
        ("gen_ai.request.max_tokens", json!(100)),
        ("gen_ai.response.finish_reasons", json!(["tool_calls"])),
        ("gen_ai.usage.input_tokens", json!(120)),
        ("gen_ai.usage.output_tokens", json!(15)),
        ("gen_ai.conversation.id", json!("s1")),
        ("gen_ai.agent.name", json!("clerk")),
        ("baton.usage.cost_microdollars", json!(0)),
    ] {
        assert_eq!(first.attributes.get(name), Some(&value), "{name}: {first:?}");
    }
    assert!(first.client && first.parent == agent.id && first.start >= agent.start / 1_000_000 * 1_000_000);
    let tool = collector.span("execute_tool look_up");
    for (name, value) in [
        ("gen_ai.operation.name", json!("execute_tool")),
        ("gen_ai.tool.name", json!("look_up")),
        ("gen_ai.tool.type", json!("function")),
        ("gen_ai.tool.call.id", json!("call_1_0")),
        ("baton.activity", json!("http")),
    ] {
        assert_eq!(tool.attributes.get(name), Some(&value), "{name}: {tool:?}");
    }
    assert!(!tool.client && tool.parent == agent.id);
    for (name, value) in [
        ("gen_ai.usage.input_tokens", json!(320)),
        ("baton.usage.model_calls", json!(2)),
        ("baton.phase", json!("Completed")),
        ("gen_ai.operation.name", json!("invoke_agent")),
    ] {
        assert_eq!(agent.attributes.get(name), Some(&value), "{name}: {agent:?}");
    }
    let call = spans.iter().find(|it| it.name == "http tell").unwrap();
    assert!(call.client && call.parent == flow.id, "{call:?}");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let expected = [&tool, call].map(|span| format!("00-{}-{}-01", hex(&trace), hex(&span.id)));
    assert_eq!(*parents.lock().unwrap(), expected, "who is called can join the trace");
    let text = collector.text();
    for said in ["bicycle", "velo-17", "Answer briefly", "Let me look", KEY] {
        assert!(!text.contains(said), "'{said}' is in a span");
    }
    assert!(collector.headers.lock().unwrap().iter().all(|it| it == "/v1/traces application/x-protobuf collector-key"));
}

#[tokio::test]
async fn content_is_there_if_it_is_wanted_and_secrets_are_not() {
    let ((collector, address), (service, _)) = (Collector::default().start().await, service().await);
    collector.refuse.lock().unwrap().extend([503, 429]);
    let server = Server::start_with(traced(address, true)).await;
    create_tree(&server, &service).await;
    server.create::<WorkflowExecution>(run("run", "desk")).await.unwrap();
    server.ended::<WorkflowExecution>("run").await;
    // A server that stops does not wait long for a collector: what is refused for a while is sent again before.
    let all = async {
        while collector.spans().len() < 6 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), all)
        .await
        .expect("what is refused for a while is sent again");
    server.stop().await;
    assert_eq!(collector.spans().len(), 6);
    let tool = collector.span("execute_tool look_up");
    assert_eq!(tool.attributes["gen_ai.tool.call.arguments"], r#"{"id":"velo-17"}"#);
    assert!(tool.attributes["gen_ai.tool.call.result"].as_str().unwrap().contains("a red bicycle"), "{tool:?}");
    let chats: Vec<Seen> = collector.spans().into_iter().filter(|it| it.name == "chat scripted").collect();
    let last = chats.iter().max_by_key(|it| it.start).unwrap();
    let json = |name: &str| serde_json::from_str::<Value>(last.attributes[name].as_str().unwrap()).unwrap();
    assert_eq!(json("gen_ai.system_instructions"), json!([{"type": "text", "content": "Answer briefly."}]));
    assert_eq!(json("gen_ai.input.messages")[0]["role"], "user");
    assert_eq!(json("gen_ai.input.messages")[2]["parts"][0]["type"], "tool_call_response");
    assert_eq!(
        json("gen_ai.output.messages"),
        json!([{"role": "assistant", "parts": [{"type": "text", "content": "It is a bicycle."}], "finish_reason": "stop"}])
    );
    let agent = collector.span("invoke_agent clerk");
    assert!(agent.attributes["gen_ai.output.messages"].as_str().unwrap().contains("It is a bicycle."));
    assert!(!collector.text().contains(KEY), "a secret is in no span");
}

#[tokio::test]
async fn a_trace_goes_on_after_a_restart_and_failures_are_told() {
    let (collector, address) = Collector::default().start().await;
    let server = Server::start_with(traced(address, false)).await;
    let model = json!({"name": "gone", "baseUrl": "http://127.0.0.1:1/v1", "retry": {"maximumAttempts": 1}});
    let spec = json!({"instructions": "Talk.", "model": model});
    server.create::<Agent>(json!({"metadata": {"name": "mute"}, "spec": spec})).await.unwrap();
    let tasks = json!([
        {"one": {"call": "baton.dev/echo", "with": {"n": 1}}},
        {"pause": {"wait": {"milliseconds": 300}}},
        {"two": {"try": [{"ask": {"call": "baton.dev/agent", "with": {"agent": "mute", "message": "hi"}}}], "catch": {}}},
    ]);
    let object = json!({"metadata": {"name": "slow"}, "spec": {"definition": document("slow", &tasks)}});
    server.create::<Workflow>(object).await.unwrap();
    server.create::<WorkflowExecution>(run("run", "slow")).await.unwrap();
    // The first task has ended, and its span is sent when the server stops.
    let server = server.restart_with(traced(address, false)).await;
    assert_eq!(server.ended::<WorkflowExecution>("run").await.status.unwrap().phase, "Completed");
    server.stop().await;
    let spans = collector.spans();
    let flow = collector.span("workflow slow");
    assert!(spans.len() >= 3 && spans.iter().all(|it| it.trace == flow.trace), "{spans:?}");
    let agent = collector.span("invoke_agent mute");
    assert_eq!((agent.error.is_some(), &agent.attributes["error.type"]), (true, &json!("communication")), "{agent:?}");
    let chat = collector.span("chat gone");
    assert_eq!((&chat.attributes["error.type"], &chat.parent), (&json!("communication"), &agent.id));
    assert!(!chat.error.as_deref().unwrap().contains("127.0.0.1"), "{chat:?}");
}

#[tokio::test]
async fn a_collector_that_is_not_there_stops_nobody() {
    let server = Server::start_with(traced(SocketAddr::from(([127, 0, 0, 1], 1)), false)).await;
    server.create::<Agent>(crate::support::agent("quick")).await.unwrap();
    let object = json!({"metadata": {"name": "run"}, "spec": {"agent": "quick", "message": "hi"}});
    server.create::<AgentExecution>(object).await.unwrap();
    assert_eq!(server.ended::<AgentExecution>("run").await.status.unwrap().phase, "Completed");
    tokio::time::timeout(Duration::from_secs(20), server.stop()).await.unwrap();
}
