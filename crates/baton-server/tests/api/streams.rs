//! Looking on at executions: events without gaps, what is being made while it is made, from any place in the stream on.

use std::{convert::Infallible, net::SocketAddr, pin::Pin, sync::Arc};

use axum::{Router, body::Body, http::header, response::Response};
use baton_proto::v1::{self, stream_item::Item};
use futures::{Stream, StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tonic::Code;

use crate::harness::{LIMIT, Server, agent_execution, send, workflow_execution};

const RUNS: &str = "namespaces/default/agentexecutions";

/// A message of a stream.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    id: String,
    event: String,
    data: Value,
}

impl Message {
    fn number(&self) -> i64 {
        self.data["event"]["number"].as_i64().unwrap_or(0)
    }

    fn kind(&self) -> &str {
        self.data["event"]["type"].as_str().unwrap_or(&self.event)
    }
}

/// A stream as a client reads it.
struct Reader {
    chunks: Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    rest: String,
    retry: Option<String>,
}

impl Reader {
    async fn open(server: &Server, path: &str, last: Option<&str>) -> Self {
        let mut request = server.request(Method::GET, path).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { chunks: Box::pin(response.bytes_stream()), rest: String::new(), retry: None }
    }

    /// The next message; `None` when the stream has ended, or its connection.
    async fn next(&mut self) -> Option<Message> {
        loop {
            while let Some((block, rest)) = self.rest.split_once("\n\n") {
                let fields: Vec<(&str, &str)> =
                    block.lines().map(|line| line.split_once(": ").unwrap_or((line, ""))).collect();
                let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
                let data = field("data").map(|data| serde_json::from_str(data).unwrap());
                let (id, event) = (field("id").unwrap_or_default().to_owned(), field("event").unwrap_or_default());
                let message = data.map(|data| Message { id, event: event.to_owned(), data });
                self.retry = field("retry").map(str::to_owned).or(self.retry.take());
                let rest = rest.to_owned();
                self.rest = rest;
                if message.is_some() {
                    return message;
                }
            }
            let Ok(chunk) = tokio::time::timeout(LIMIT, self.chunks.next()).await.unwrap()? else { return None };
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn rest(mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await {
            all.push(message);
        }
        all
    }

    /// Reads on to a message of this kind, such as `delta` or `ActivityScheduled`.
    async fn until(&mut self, kind: &str) -> Message {
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("a message of the kind '{kind}' comes"));
            if message.kind() == kind {
                return message;
            }
        }
    }
}

/// A model that says what it is told to say, when it is told.
struct Model {
    address: SocketAddr,
    /// One for each time that the model is asked, in order.
    asked: Mutex<mpsc::UnboundedReceiver<mpsc::UnboundedSender<String>>>,
}

impl Model {
    async fn start() -> Self {
        let (ask, asked) = mpsc::unbounded_channel();
        let ask = Arc::new(ask);
        let app = Router::new().fallback(move || {
            let (say, said) = mpsc::unbounded_channel::<String>();
            ask.send(say).unwrap();
            let body = stream::unfold(said, |mut said| async move { Some((said.recv().await?, said)) });
            let body = Body::from_stream(body.map(Ok::<_, Infallible>));
            async { Response::builder().header(header::CONTENT_TYPE, "text/event-stream").body(body).unwrap() }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, asked: Mutex::new(asked) }
    }

    /// An agent that asks it.
    fn agent(&self, name: &str) -> Value {
        let retry = json!({"maximumAttempts": 3, "initialInterval": "1ms"});
        let model = json!({"name": "m", "baseUrl": format!("http://{}/v1", self.address), "retry": retry});
        json!({"metadata": {"name": name}, "spec": {"instructions": "Talk.", "model": model}})
    }

    /// Waits until it is asked.
    async fn is_asked(&self) -> Talk {
        let mut asked = self.asked.lock().await;
        Talk(tokio::time::timeout(LIMIT, asked.recv()).await.unwrap().unwrap())
    }
}

/// One answer; it breaks off when this is dropped.
struct Talk(mpsc::UnboundedSender<String>);

impl Talk {
    fn say(&self, delta: &Value, reason: &Value) {
        let frame = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        self.0.send(format!("data: {frame}\n\n")).unwrap();
    }

    fn text(&self, text: &str) {
        self.say(&json!({"content": text}), &Value::Null);
    }

    fn end(self, text: &str) {
        self.say(&json!({"content": text}), &json!("stop"));
    }
}

/// What all deltas of messages say together, since the last beginning.
fn said(messages: &[Message]) -> String {
    let mut text = String::new();
    for delta in messages.iter().map(|it| &it.data["delta"]) {
        if delta["index"] == 1 || delta["reset"] == true {
            text.clear();
        }
        text += delta["text"].as_str().unwrap_or_default();
    }
    text
}

fn numbers(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(Message::number).filter(|number| *number > 0).collect()
}

#[tokio::test]
async fn events_states_and_deltas_come_in_one_order_and_from_every_place_on() {
    let server = Server::start().await.with_templates().await;
    let mut run = agent_execution("run", "echo");
    run["spec"]["suspend"] = json!(true);
    server.post(RUNS, &run).await.expect(StatusCode::CREATED);
    let mut reader = Reader::open(&server, &format!("{RUNS}/run/stream"), None).await;
    assert_eq!(reader.until("state").await.data["state"]["phase"], "Suspended");
    server.post(&format!("{RUNS}/run/resume"), &json!({})).await.expect(StatusCode::OK);
    let mut all = Vec::new();
    while let Some(message) = reader.next().await {
        all.push(message);
    }
    assert_eq!(reader.retry.as_deref(), Some("1000"));
    let page = server.get(&format!("{RUNS}/run/history")).await.expect(StatusCode::OK);
    let whole = Reader::open(&server, &format!("{RUNS}/run/stream"), None).await.rest().await;
    let events: Vec<&Value> = whole.iter().filter(|it| it.event == "event").map(|it| &it.data["event"]).collect();
    assert_eq!(json!(events), page["events"]);
    assert!(numbers(&all).windows(2).all(|pair| pair[0] + 1 == pair[1]), "{all:?}");

    let place = |kind: &str| all.iter().position(|it| it.kind() == kind).unwrap_or_else(|| panic!("{kind}: {all:?}"));
    assert!(place("ActivityScheduled") < place("delta") && place("delta") < place("ActivityCompleted"), "{all:?}");
    assert_eq!(said(&all), "hello");
    let (scheduled, delta) = (&all[place("ActivityScheduled")], &all[place("delta")]);
    assert_eq!(delta.data["delta"]["operation"], scheduled.data["event"]["activityScheduled"]["operation"]);
    assert_eq!(all.last().unwrap().data["state"]["phase"], "Completed", "{all:?}");
    assert!(delta.id.contains('.') && all.iter().filter(|it| it.event == "event").all(|it| it.id == it.data["id"]));

    // From every place on: what comes after it, without gaps, and nothing twice.
    let last = *numbers(&whole).last().unwrap();
    for from in 0..last {
        for id in [from.to_string(), format!("{from}.7")] {
            let rest = Reader::open(&server, &format!("{RUNS}/run/stream?after=1"), Some(&id)).await.rest().await;
            assert_eq!(numbers(&rest), (from + 1..=last).collect::<Vec<_>>());
        }
        let rest = Reader::open(&server, &format!("{RUNS}/run/stream?after={from}"), None).await.rest().await;
        assert_eq!(numbers(&rest), (from + 1..=last).collect::<Vec<_>>());
    }
    // Whoever has everything is told not to come back.
    let request = server.request(Method::GET, &format!("{RUNS}/run/stream")).header("last-event-id", last.to_string());
    assert_eq!(send(request).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn what_is_being_made_is_seen_by_everybody_from_its_beginning() {
    let (server, model) = (Server::start().await, Model::start().await);
    server.post("namespaces/default/agents", &model.agent("talker")).await.expect(StatusCode::CREATED);
    server.post(RUNS, &agent_execution("run", "talker")).await.expect(StatusCode::CREATED);
    let path = format!("{RUNS}/run/stream");
    let mut early = Reader::open(&server, &path, None).await;
    // Reads nothing until all is over.
    let idle = Reader::open(&server, &path, None).await;
    let talk = model.is_asked().await;
    talk.text("Good ");
    let first = early.until("delta").await;
    assert_eq!((&first.data["delta"]["text"], &first.data["delta"]["index"]), (&json!("Good "), &json!(1)));
    talk.text("day, ");
    let second = early.until("delta").await;
    assert_eq!((&second.data["delta"]["text"], &second.data["delta"]["index"]), (&json!("day, "), &json!(2)));
    drop(early);

    // Who comes back after a delta sees nothing recorded again, and the message from its beginning.
    let mut back = Reader::open(&server, &path, Some(&second.id)).await;
    let mut seen = vec![back.next().await.unwrap(), back.next().await.unwrap(), back.next().await.unwrap()];
    seen.retain(|it| it.event == "delta");
    assert_eq!((said(&seen).as_str(), numbers(&seen).len()), ("Good day, ", 0), "{seen:?}");
    talk.say(
        &json!({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": "{\"at\""}}]}),
        &Value::Null,
    );
    let call = back.until("delta").await.data["delta"]["toolCall"].clone();
    assert_eq!((&call["name"], &call["id"], &call["index"]), (&json!("look"), &json!("c1"), &Value::Null), "{call}");
    assert_eq!(back.until("delta").await.data["delta"]["toolCall"]["arguments"], "{\"at\"");
    drop(talk);

    // It broke off and is asked again: what was seen does not count.
    let talk = model.is_asked().await;
    talk.text("Once ");
    let reset = back.until("delta").await;
    assert_eq!((&reset.data["delta"]["reset"], &reset.data["delta"]["index"]), (&json!(true), &Value::Null));
    assert_eq!(back.until("delta").await.data["delta"]["index"], 1);
    talk.end("more.");
    let rest = back.rest().await;
    assert_eq!(rest.last().unwrap().data["state"]["phase"], "Completed");
    let idle = idle.rest().await;
    let page = server.get(&format!("{RUNS}/run/history")).await.expect(StatusCode::OK);
    assert_eq!(numbers(&idle).len(), page["events"].as_array().unwrap().len(), "a slow reader loses no event");
    let shown = said(&idle);
    assert!(shown.is_empty() || shown == "Once more.", "{shown}");
    let completed = idle.iter().find(|it| it.kind() == "ActivityCompleted").unwrap();
    let output: Value =
        serde_json::from_str(completed.data["event"]["activityCompleted"]["output"]["text"].as_str().unwrap())
            .unwrap_or_else(|_| completed.data["event"]["activityCompleted"]["output"].clone());
    assert_eq!(output["text"], "Once more.", "{completed:?}");
}

#[tokio::test]
async fn a_crowd_that_looks_on_stops_nobody() {
    let (server, model) = (Server::start().await, Model::start().await);
    server.post("namespaces/default/agents", &model.agent("talker")).await.expect(StatusCode::CREATED);
    server.post(RUNS, &agent_execution("run", "talker")).await.expect(StatusCode::CREATED);
    let path = format!("{RUNS}/run/stream");
    let talk = model.is_asked().await;
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(Reader::open(&server, &path, None).await);
    }
    // More than is kept: the rest is recorded, and nobody waits for those who do not read.
    let piece = "word ".repeat(2000);
    for _ in 0..100 {
        talk.text(&piece);
    }
    talk.end("end");
    server.ended("agentexecutions", "run").await;
    let output = server.get(&format!("{RUNS}/run/output")).await.text;
    assert_eq!(output.len(), 100 * piece.len() + "\"end\"".len());
    let last = crowd.pop().unwrap().rest().await;
    let events = numbers(&last);
    assert_eq!(events, (1..=*events.last().unwrap()).collect::<Vec<_>>());
    let shown = said(&last);
    assert!(shown.len() <= 256 * 1024 && shown.bytes().all(|it| b"word ".contains(&it)), "{}", shown.len());
}

#[tokio::test]
async fn a_planted_secret_is_in_no_stream() {
    const KEY: &str = "sk-planted-0123456789";
    let (server, model) = (Server::start().await, Model::start().await);
    let secret = json!({"metadata": {"name": "models"}, "spec": {"data": {"key": KEY}}});
    server.post("namespaces/default/secrets", &secret).await.expect(StatusCode::CREATED);
    let mut agent = model.agent("talker");
    agent["spec"]["model"]["apiKey"] = json!({"secret": "models", "key": "key"});
    server.post("namespaces/default/agents", &agent).await.expect(StatusCode::CREATED);
    server.post(RUNS, &agent_execution("run", "talker")).await.expect(StatusCode::CREATED);
    let mut reader = Reader::open(&server, &format!("{RUNS}/run/stream"), None).await;
    let talk = model.is_asked().await;
    talk.text("It is sk-plan");
    let mut all = vec![reader.until("delta").await];
    assert_eq!(all[0].data["delta"]["text"], "It is ");
    talk.text("ted-0123");
    talk.text("456789, ");
    all.push(reader.until("delta").await);
    talk.end("really.");
    all.extend(reader.rest().await);
    assert_eq!(said(&all), "It is ***, really.");
    assert!(!format!("{all:?}").contains("planted"));
}

#[tokio::test]
async fn grpc_tells_the_same_and_workflows_are_looked_at_too() {
    use v1::{
        agent_execution_service_client::AgentExecutionServiceClient,
        workflow_execution_service_client::WorkflowExecutionServiceClient,
    };
    let (server, model) = (Server::start().await.with_templates().await, Model::start().await);
    server.post("namespaces/default/agents", &model.agent("talker")).await.expect(StatusCode::CREATED);
    server.post(RUNS, &agent_execution("run", "talker")).await.expect(StatusCode::CREATED);
    let mut agents = AgentExecutionServiceClient::new(server.channel().await);
    let request = |name: &str, after| v1::StreamRequest { namespace: String::new(), name: name.to_owned(), after };
    let mut items = agents.stream_agent_execution(request("run", 0)).await.unwrap().into_inner();
    let talk = model.is_asked().await;
    talk.text("Hel");
    let mut numbers = Vec::new();
    let mut text = String::new();
    let mut talk = Some(talk);
    let mut phase = String::new();
    while let Some(item) = items.message().await.unwrap() {
        match item.item.unwrap() {
            Item::Event(event) => numbers.push(event.number),
            Item::Delta(delta) => {
                let Some(v1::delta::Delta::Text(more)) = delta.delta else { panic!("{delta:?}") };
                text += &more;
                if let Some(talk) = talk.take() {
                    talk.end("lo");
                }
            }
            Item::State(state) => phase = state.phase,
        }
    }
    assert_eq!((text.as_str(), phase.as_str()), ("Hello", "Completed"));
    assert_eq!(numbers, (1..=*numbers.last().unwrap()).collect::<Vec<_>>());
    let status = agents.stream_agent_execution(request("none", 0)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let status = agents.stream_agent_execution(request("run", -1)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    let runs = "namespaces/default/workflowexecutions";
    server.post(runs, &workflow_execution("flow", "slow")).await.expect(StatusCode::CREATED);
    let mut workflows = WorkflowExecutionServiceClient::new(server.channel().await);
    let mut items = workflows.stream_workflow_execution(request("flow", 0)).await.unwrap().into_inner();
    // That it waits is written without an event.
    loop {
        let item = items.message().await.unwrap().unwrap();
        if let Some(Item::State(state)) = item.item
            && state.waiting_for.iter().any(|it| it.reason == "Timer")
        {
            break;
        }
    }
    server.post(&format!("{runs}/flow/cancel"), &json!({})).await.expect(StatusCode::OK);
    let rest = Reader::open(&server, &format!("{runs}/flow/stream"), None).await.rest().await;
    assert_eq!(rest.last().unwrap().data["state"]["phase"], "Cancelled");
}

#[tokio::test]
async fn a_stream_of_what_is_deleted_ends_and_a_wrong_place_is_refused() {
    let server = Server::start().await.with_templates().await;
    let runs = "namespaces/default/workflowexecutions";
    server.post(runs, &workflow_execution("run", "slow")).await.expect(StatusCode::CREATED);
    let path = format!("{runs}/run/stream");
    for id in ["x", "1.x", "-1", "1.", "99999999999"] {
        let request = server.request(Method::GET, &path).header("last-event-id", id);
        let message = send(request).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
        assert!(message.contains("Last-Event-ID") && message.contains("12.3"), "{message}");
    }
    server.get(&format!("{path}?after=-1")).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    server.get(&format!("{runs}/none/stream")).await.refused(StatusCode::NOT_FOUND, "NotFound");
    let mut reader = Reader::open(&server, &path, None).await;
    reader.until("state").await;
    server.delete(&format!("{runs}/run")).await.expect(StatusCode::OK);
    let rest = reader.rest().await;
    assert!(rest.iter().all(|it| it.event != "error"), "{rest:?}");
}

#[tokio::test]
async fn a_stop_ends_streams_and_the_next_server_goes_on_where_they_were() {
    let server = Server::start().await.with_templates().await;
    let runs = "namespaces/default/workflowexecutions";
    server.post(runs, &workflow_execution("run", "slow")).await.expect(StatusCode::CREATED);
    let mut reader = Reader::open(&server, &format!("{runs}/run/stream"), None).await;
    reader.until("state").await;
    tokio::time::timeout(LIMIT, server.running.shutdown()).await.unwrap();
    assert!(reader.rest().await.iter().all(|it| it.event != "error"));
}
