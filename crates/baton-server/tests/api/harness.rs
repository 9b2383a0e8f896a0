//! A server in a directory of its own, and clients of it.

use std::{net::Ipv4Addr, time::Duration};

use baton_server::{RunningServer, ServerOptions, start};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Longest that anything here may take: a test that needs it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A running server; it stops when the test ends.
pub(crate) struct Server {
    pub(crate) running: RunningServer,
    pub(crate) url: String,
    pub(crate) client: Client,
    directory: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// One with other options.
    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options =
            ServerOptions { listen: (Ipv4Addr::LOCALHOST, 0).into(), ..ServerOptions::new(directory.path()) };
        change(&mut options);
        let running = start(options).await.unwrap();
        let url = format!("http://{}", running.address);
        Self { running, url, client: client().build().unwrap(), directory }
    }

    /// Stops it and starts it again, on the same data and the same port.
    pub(crate) async fn restarted(self) -> Self {
        let Self { running, url, client, directory } = self;
        let listen = running.address;
        running.shutdown().await;
        let running = start(ServerOptions { listen, ..ServerOptions::new(directory.path()) }).await.unwrap();
        Self { running, url, client, directory }
    }

    /// A request of a path; what has no scheme is below the API's root if it does not begin with a slash.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/apis/baton.dev/v1/{path}") };
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        send(
            self.request(Method::PATCH, path)
                .header("content-type", "application/merge-patch+json")
                .body(body.to_string()),
        )
        .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    /// A connection for the generated clients.
    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    /// Creates what the other tests refer to: a workflow `quick` that ends at once, `slow` that does not end, an agent.
    pub(crate) async fn with_templates(self) -> Self {
        for (plural, object) in [
            ("workflows", workflow("quick")),
            ("workflows", slow_workflow("slow")),
            ("agents", agent("echo")),
            ("secrets", secret("key")),
            ("skills", skill("greeting")),
            (
                "artifacts",
                json!({"apiVersion": "baton.dev/v1", "kind": "Artifact", "spec": {"mediaType": "text/plain", "data": "aGVsbG8="}}),
            ),
        ] {
            self.post(&format!("namespaces/default/{plural}"), &object).await.expect(StatusCode::CREATED);
        }
        self
    }

    /// Reads an object until it is as wanted.
    pub(crate) async fn until(&self, path: &str, is: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let object = self.get(path).await.json();
                if is(&object) {
                    return object;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, look).await.unwrap_or_else(|_| panic!("{path} did not become what was waited for"))
    }

    /// Follows an execution to its end and gives it.
    pub(crate) async fn ended(&self, plural: &str, name: &str) -> Value {
        self.get(&format!("namespaces/default/{plural}/{name}/history?follow=true")).await.expect(StatusCode::OK);
        self.get(&format!("namespaces/default/{plural}/{name}")).await.expect(StatusCode::OK)
    }
}

/// A client without TLS, which is not what these tests are about.
pub(crate) fn client() -> reqwest::ClientBuilder {
    // A second installation is refused, and the first one is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(LIMIT)
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

impl Answer {
    /// The body, if the status is the expected one.
    #[track_caller]
    pub(crate) fn expect(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// The refusal's message, after a check that it is a whole Status object.
    #[track_caller]
    pub(crate) fn refused(self, status: StatusCode, reason: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        let body = self.json();
        assert_eq!(
            (&body["kind"], &body["apiVersion"], &body["status"]),
            (&json!("Status"), &json!("v1"), &json!("Failure")),
            "{body}"
        );
        assert_eq!((&body["code"], &body["reason"]), (&json!(status.as_u16()), &json!(reason)), "{body}");
        assert!(body["batonReason"].as_str().is_some_and(|it| !it.is_empty()), "{body}");
        body["message"].as_str().unwrap().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The values of the header `Warning`.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|it| it.to_str().unwrap()).collect()
    }
}

pub(crate) fn workflow(name: &str) -> Value {
    with_tasks(name, &json!([{"greet": {"set": {"greeting": "${ \"hello \" + (.who // \"nobody\") }"}}}]))
}

pub(crate) fn slow_workflow(name: &str) -> Value {
    with_tasks(name, &json!([{"pause": {"wait": {"hours": 1}}}]))
}

pub(crate) fn with_tasks(name: &str, tasks: &Value) -> Value {
    json!({
        "apiVersion": "baton.dev/v1", "kind": "Workflow", "metadata": {"name": name},
        "spec": {"definition": {"document": {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "0.1.0"}, "do": tasks}},
    })
}

/// A secret with one value.
pub(crate) fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "baton.dev/v1", "kind": "Secret", "metadata": {"name": name}, "spec": {"data": {"token": "s3cr3t-value"}},
    })
}

pub(crate) fn skill(name: &str) -> Value {
    json!({
        "apiVersion": "baton.dev/v1", "kind": "Skill", "metadata": {"name": name},
        "spec": {"description": "How to greet", "instructions": "Say hello."},
    })
}

pub(crate) fn session(name: &str) -> Value {
    json!({
        "apiVersion": "baton.dev/v1", "kind": "Session", "metadata": {"name": name}, "spec": {"agent": "echo", "retention": "1h"},
    })
}

/// A server of tools.
pub(crate) fn mcp_server(name: &str) -> Value {
    json!({
        "apiVersion": "baton.dev/v1", "kind": "McpServer", "metadata": {"name": name},
        "spec": {"stdio": {"command": "files", "environment": {"LEVEL": "info"}}},
    })
}

pub(crate) fn agent(name: &str) -> Value {
    let playback = json!({"conversations": [{"turns": [{"text": "hello"}]}]});
    json!({
        "apiVersion": "baton.dev/v1", "kind": "Agent", "metadata": {"name": name},
        "spec": {"instructions": "Say hello.", "model": {"name": "script", "provider": "playback", "playback": playback}},
    })
}

pub(crate) fn workflow_execution(name: &str, workflow: &str) -> Value {
    json!({"apiVersion": "baton.dev/v1", "kind": "WorkflowExecution", "metadata": {"name": name}, "spec": {"workflow": workflow}})
}

pub(crate) fn agent_execution(name: &str, agent: &str) -> Value {
    json!({"apiVersion": "baton.dev/v1", "kind": "AgentExecution", "metadata": {"name": name}, "spec": {"agent": agent, "message": "hi"}})
}

/// An agent that greets somebody through a workflow, which nobody declared to be harmless.
pub(crate) fn greeter() -> Value {
    json!({
        "metadata": {"name": "greeter"},
        "spec": {
            "instructions": "Greet.",
            "model": {"name": "scripted", "provider": "playback", "playback": {"conversations": [{"turns": [
                {"toolCalls": [{"name": "greet", "arguments": {"who": "you"}}]},
                {"text": "Done."},
            ]}]}},
            "tools": [{
                "name": "greet", "description": "Greets",
                "parameters": {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]},
                "workflow": {"name": "quick"},
            }],
        },
    })
}
