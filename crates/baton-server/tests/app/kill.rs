//! The end of a tree: whatever runs for it, on any level, is stopped, and whoever waits is told.
//!
//! Everything that hangs here holds a connection to one listener, which sees it close. Nothing is waited for but that.

use std::collections::BTreeSet;

use baton_activities::RunOptions;
use baton_proto::v1::{
    Agent, AgentExecution, AwaitCallbackRequest, CreateCallbackRequest, ListRequest, Workflow, WorkflowExecution,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::support::{Server, document, read};

/// What is behind a connection, by the path of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Opened(String),
    Closed(String),
}

/// Answers every request with the beginning of a stream that never ends.
async fn hanging() -> (u16, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(hang(stream, tell.clone()));
        }
    });
    (port, seen)
}

async fn hang(mut stream: TcpStream, tell: mpsc::UnboundedSender<Seen>) {
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while !said.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => said.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    let path = said.split(' ').nth(1).unwrap_or_default().to_owned();
    let data = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"So far\"}}]}\n\n";
    let begun = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{data}\r\n",
        data.len()
    );
    stream.write_all(begun.as_bytes()).await.unwrap();
    drop(tell.send(Seen::Opened(path.clone())));
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    drop(tell.send(Seen::Closed(path)));
}

fn playing(turn: &Value) -> Value {
    json!({"name": "m", "provider": "playback", "playback": {"conversations": [{"turns": [turn]}]}})
}

/// Root and middle are agents; below them hang a request, the stream of a model, and two processes.
async fn tree(port: u16) -> (Server, Vec<u8>) {
    let server = Server::start_with(|options| {
        options.run = RunOptions { network: true, ..RunOptions::default() };
    })
    .await;
    // Both processes hold the connection: it closes when the last of them is gone.
    let command = format!(
        "exec /usr/bin/python3 -I -c 'import os, socket, time\nit = socket.create_connection((\"127.0.0.1\", {port}))\nos.fork() or it.sendall(b\"GET /processes HTTP/1.1\\r\\n\\r\\n\")\ntime.sleep(3600)'"
    );
    let tasks = json!([{"work": {"run": {"shell": {"command": command}}}}]);
    server
        .create::<Workflow>(json!({"metadata": {"name": "work"}, "spec": {"definition": document("work", &tasks)}}))
        .await
        .unwrap();
    let parameters = json!({"type": "object"});
    let tool = |name: &str, kind: &str, what: Value| json!({"name": name, "description": "d", "parameters": parameters, kind: what});
    let agent = |name: &str, model: Value, tools: Value| {
        let spec = json!({"instructions": "i", "model": model, "tools": tools, "policy": {"default": "allow"}});
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let thinker = json!({"name": "m", "baseUrl": format!("http://127.0.0.1:{port}/model")});
    let all = json!([{"name": "think", "arguments": {}}, {"name": "fetch", "arguments": {}}, {"name": "work", "arguments": {}}]);
    let tools = json!([
        tool("think", "agent", json!({"name": "thinker"})),
        tool("fetch", "http", json!({"method": "GET", "url": format!("http://127.0.0.1:{port}/tool")})),
        tool("work", "workflow", json!({"name": "work"})),
    ]);
    let ask = json!([{"name": "ask", "arguments": {}}]);
    for agent in [
        agent("thinker", thinker, json!([])),
        agent("middle", playing(&json!({"text": "Working.", "toolCalls": all})), tools),
        agent(
            "root",
            playing(&json!({"text": "Asking.", "toolCalls": ask})),
            json!([tool("ask", "agent", json!({"name": "middle"}))]),
        ),
    ] {
        server.create::<Agent>(agent).await.unwrap();
    }
    let token = server.app().create_callback(&CreateCallbackRequest::default()).await.unwrap().callback_token;
    let mut run: AgentExecution =
        read(json!({"metadata": {"name": "run"}, "spec": {"agent": "root", "message": "Go"}}));
    run.spec.as_mut().unwrap().callback_token.clone_from(&token);
    server.app().create(run, crate::support::REAL).await.unwrap();
    (server, token)
}

async fn ends_all(terminate: bool) {
    let (port, mut seen) = hanging().await;
    let (server, token) = tree(port).await;
    let paths = ["/model/chat/completions", "/tool", "/processes"].map(str::to_owned);
    let mut open = BTreeSet::new();
    while open.len() < paths.len() {
        match seen.recv().await.unwrap() {
            Seen::Opened(path) => assert!(open.insert(path)),
            Seen::Closed(path) => panic!("{path} was closed before its time"),
        }
    }
    assert_eq!(open, BTreeSet::from(paths));

    if terminate {
        server.app().terminate::<AgentExecution>("", "run", "enough").await.unwrap();
    } else {
        server.app().cancel::<AgentExecution>("", "run", "enough").await.unwrap();
    }
    while !open.is_empty() {
        match seen.recv().await.unwrap() {
            Seen::Closed(path) => assert!(open.remove(&path)),
            Seen::Opened(path) => panic!("{path} was asked again"),
        }
    }

    let answer = AwaitCallbackRequest { callback_token: token, timeout: "60s".into() };
    let answer = server.app().await_callback(&answer).await.unwrap();
    assert_eq!(answer.state, "Cancelled");
    let root = server.ended::<AgentExecution>("run").await.status.unwrap();
    assert_eq!(root.output.unwrap().text, "\"Asking.\"", "what there was is kept");
    assert_eq!(root.phase, "Cancelled");
    let agents = server.app().list::<AgentExecution>(&ListRequest::default()).await.unwrap().1;
    assert_eq!(agents.len(), 3);
    for agent in agents {
        let ended = server.ended::<AgentExecution>(&agent.metadata.unwrap().name).await;
        assert_eq!(ended.status.unwrap().phase, "Cancelled");
    }
    let workflows = server.app().list::<WorkflowExecution>(&ListRequest::default()).await.unwrap().1;
    assert_eq!(workflows.len(), 1);
    let ended = server.ended::<WorkflowExecution>(&workflows[0].metadata.as_ref().unwrap().name).await;
    assert_eq!(ended.status.unwrap().phase, "Cancelled");
    server.stop().await;
}

#[tokio::test]
async fn a_cancelled_tree_stops_streams_requests_and_processes() {
    ends_all(false).await;
}

#[tokio::test]
async fn a_terminated_tree_stops_streams_requests_and_processes() {
    ends_all(true).await;
}
