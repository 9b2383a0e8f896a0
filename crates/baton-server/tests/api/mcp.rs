//! Workflows and agents as tools, for the Python SDK of MCP.

use baton_proto::v1;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    clients::Client,
    harness::{Server, agent, greeter, send, with_tasks, workflow},
};

/// A template with annotations.
fn published(mut template: Value, annotations: &Value) -> Value {
    template["metadata"]["annotations"] = annotations.clone();
    template
}

impl Server {
    /// One with tools: `workflow_quick`, `workflow_slow`, `agent_echo` and `agent_greeter`; and templates that are none.
    async fn with_tools(self) -> Self {
        let mut quick = published(workflow("quick"), &json!({"baton.dev/publish": "mcp"}));
        quick["spec"]["definition"]["document"]["summary"] = "Greets somebody".into();
        let schema = json!({"type": "object", "properties": {"who": {"type": "string"}}});
        quick["spec"]["definition"]["input"] = json!({"schema": {"document": schema}});
        let output =
            json!({"type": "object", "properties": {"greeting": {"type": "string"}}, "required": ["greeting"]});
        quick["spec"]["definition"]["output"] = json!({"schema": {"document": output}});
        let pause = json!([{"pause": {"wait": {"hours": 1}}}]);
        let slow = published(with_tasks("slow", &pause), &json!({"baton.dev/publish": "mcp"}));
        let mut number = published(
            with_tasks("number", &json!([{"add": {"set": "${ . + 1 }"}}])),
            &json!({"baton.dev/publish": "mcp"}),
        );
        number["spec"]["definition"]["input"] = json!({"schema": {"document": {"type": "integer"}}});
        let failing = json!([{"fail": {"raise": {"error": {"type": "https://example.com/bad", "status": 400, "title": "no luck"}}}}]);
        let failing = published(with_tasks("failing", &failing), &json!({"baton.dev/publish": "mcp"}));
        let echo =
            published(agent("echo"), &json!({"baton.dev/publish": "mcp", "baton.dev/description": "Says hello"}));
        let greeter = published(greeter(), &json!({"baton.dev/publish": "mcp"}));
        for (plural, object) in [
            ("workflows", quick),
            ("workflows", slow),
            ("workflows", number),
            ("workflows", failing),
            ("workflows", workflow("hidden")),
            ("agents", echo),
            ("agents", greeter),
            ("agents", published(agent("other"), &json!({"baton.dev/publish": "a2a"}))),
        ] {
            self.post(&format!("namespaces/default/{plural}"), &object).await.expect(StatusCode::CREATED);
        }
        self
    }

    fn mcp(&self) -> String {
        format!("{}/mcp/default", self.url)
    }

    /// Approves, as a person does.
    pub(crate) async fn approve(&self, approval: &str) {
        let path = format!("namespaces/default/approvals/{approval}");
        let digest = self.get(&path).await.json()["spec"]["argumentsDigest"].clone();
        self.post(&format!("{path}/approve"), &json!({"argumentsDigest": digest})).await.expect(StatusCode::OK);
    }
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn what_is_published_is_a_tool() {
    let server = Server::start().await.with_tools().await;
    for (mode, version) in [("auto", "2026-07-28"), ("legacy", "2025-11-25")] {
        let mut client = Client::mcp(&server.mcp(), mode, &[]).await;
        let hello = client.good(&json!({"op": "hello"})).await;
        assert_eq!((&hello["version"], &hello["name"]), (&json!(version), &json!("baton")), "{hello}");
        let tools = client.good(&json!({"op": "list"})).await["tools"].clone();
        let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        let expected = [
            "agent_echo",
            "agent_greeter",
            "baton_cancel",
            "baton_result",
            "workflow_failing",
            "workflow_number",
            "workflow_quick",
            "workflow_slow",
        ];
        assert_eq!(names, expected);
        let tool = |name: &str| tools.as_array().unwrap().iter().find(|tool| tool["name"] == name).unwrap().clone();
        assert_eq!(tool("agent_echo")["description"], "Says hello");
        assert_eq!(tool("agent_greeter")["description"], "Greet.");
        assert_eq!(tool("agent_echo")["inputSchema"]["required"], json!(["message"]));
        let quick = tool("workflow_quick");
        assert_eq!(
            (&quick["description"], &quick["inputSchema"]["properties"]),
            (&json!("Greets somebody"), &json!({"who": {"type": "string"}}))
        );
        assert_eq!(quick["outputSchema"]["anyOf"][0]["required"], json!(["greeting"]), "{quick}");
        assert_eq!(tool("workflow_number")["inputSchema"]["required"], json!(["input"]));
    }
    let mut elsewhere = Client::mcp(&format!("{}/mcp/other", server.url), "auto", &[]).await;
    let tools = elsewhere.good(&json!({"op": "list"})).await["tools"].clone();
    assert_eq!(tools.as_array().unwrap().len(), 2, "another namespace has its own: {tools}");
}

#[tokio::test]
async fn a_call_gives_what_its_run_gives() {
    let server = Server::start().await.with_tools().await;
    for mode in ["auto", "legacy"] {
        let mut client = Client::mcp(&server.mcp(), mode, &[]).await;
        let called = client.call("workflow_quick", json!({"who": "you"}), json!({})).await;
        let result = &called["result"];
        assert_eq!(
            (&result["isError"], &result["structuredContent"]),
            (&json!(false), &json!({"greeting": "hello you"})),
            "{called}"
        );
        let called = client.call("workflow_slow", json!({}), json!({"baton.dev/wait": "300ms"})).await;
        let progress = called["progress"].as_array().unwrap();
        assert!(progress.iter().any(|told| told[1].as_str().is_some_and(|text| text.contains("pause"))), "{called}");
        let called = client.call("agent_echo", json!({"message": "hi"}), json!({})).await;
        assert_eq!(text(&called["result"]), "hello", "{called}");
        let called = client.call("workflow_number", json!({"input": 41}), json!({})).await;
        assert_eq!(text(&called["result"]), "42", "{called}");
        let failed = client.call("workflow_failing", json!({}), json!({})).await["result"].clone();
        assert_eq!(failed["isError"], true);
        assert!(text(&failed).contains("no luck") && text(&failed).contains("https://example.com/bad"), "{failed}");
        // What the model can mend is a result that it sees.
        for (tool, arguments, says) in [
            ("agent_echo", json!({}), "message"),
            ("agent_echo", json!({"message": "hi", "mesage": 1}), "mesage"),
            ("workflow_number", json!({"inputs": 1}), "input"),
        ] {
            let wrong = client.call(tool, arguments, json!({})).await["result"].clone();
            assert!(wrong["isError"] == true && text(&wrong).contains(says), "{wrong}");
        }
        // What it cannot is an error of the protocol.
        for tool in ["workflow_hidden", "agent_other", "workflow_nothing", "nothing", "agent_"] {
            let refused = client.ask(&json!({"op": "call", "tool": tool, "arguments": {"message": "x"}})).await;
            assert_eq!(refused["error"]["code"], -32602, "{tool}: {refused}");
        }
    }
    let label =
        server.get("namespaces/default/workflowexecutions?labelSelector=baton.dev/interface%3Dmcp").await.json();
    assert!(!label["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_run_that_takes_long_is_collected_after_a_restart() {
    let server = Server::start().await.with_tools().await;
    let mut client = Client::mcp(&server.mcp(), "auto", &[]).await;
    let meta = json!({"baton.dev/idempotencyKey": "one", "baton.dev/wait": "50ms"});
    let receipt = client.call("workflow_slow", json!({}), meta.clone()).await["result"].clone();
    assert_eq!(
        (&receipt["isError"], &receipt["structuredContent"]["state"]),
        (&json!(false), &json!("running")),
        "{receipt}"
    );
    assert!(text(&receipt).contains("baton_result"), "{receipt}");
    let again = client.call("workflow_slow", json!({}), meta.clone()).await["result"].clone();
    assert_eq!(again["structuredContent"]["id"], receipt["structuredContent"]["id"], "the same key, the same run");
    let other = client.call("workflow_slow", json!({"x": 1}), meta).await["result"].clone();
    assert!(other["isError"] == true && text(&other).contains("idempotency key"), "{other}");
    let id = receipt["structuredContent"]["id"].clone();

    drop(client);
    let server = server.restarted().await;
    let mut client = Client::mcp(&server.mcp(), "legacy", &[]).await;
    let still = client.call("baton_result", json!({"id": id, "wait": "0s"}), json!({})).await["result"].clone();
    assert_eq!(still["structuredContent"]["state"], "running", "{still}");
    // Whoever waits hears of the end.
    client.tell(&json!({"op": "call", "tool": "baton_result", "arguments": {"id": id}})).await;
    let mut second = Client::mcp(&server.mcp(), "auto", &[]).await;
    second.call("baton_cancel", json!({"id": id}), json!({})).await;
    let ended = client.told().await["ok"]["result"].clone();
    assert!(ended["isError"] == true && text(&ended).contains("cancelled"), "{ended}");
    second.call("baton_cancel", json!({"id": id}), json!({})).await;

    for id in [json!("x"), json!(7), json!("00000000-0000-0000-0000-000000000000")] {
        let refused = second.ask(&json!({"op": "call", "tool": "baton_result", "arguments": {"id": id}})).await;
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
    }
    for wait in ["11m", "soon", ""] {
        let refused =
            second.ask(&json!({"op": "call", "tool": "baton_result", "arguments": {"id": id, "wait": wait}})).await;
        assert_eq!(refused["error"]["code"], -32602, "{wait}: {refused}");
    }
}

#[tokio::test]
async fn a_task_outlives_client_and_server() {
    let server = Server::start().await.with_tools().await;
    let mut client = Client::mcp(&server.mcp(), "auto", &["tasks"]).await;
    // The client polls by itself.
    let called = client.call("workflow_quick", json!({"who": "you"}), json!({})).await;
    assert_eq!(called["result"]["structuredContent"], json!({"greeting": "hello you"}), "{called}");

    let task = client.good(&json!({"op": "begin", "tool": "agent_greeter", "arguments": {"message": "go"}})).await;
    assert_eq!((&task["resultType"], &task["status"]), (&json!("task"), &json!("working")), "{task}");
    let id = task["taskId"].clone();
    let get = json!({"op": "task", "method": "tasks/get", "id": id});
    let name = {
        let run = server.get("namespaces/default/agentexecutions").await.json();
        run["items"].as_array().unwrap().iter().find(|it| it["metadata"]["uid"] == id).unwrap()["metadata"]["name"]
            .clone()
    };
    let path = format!("namespaces/default/agentexecutions/{}", name.as_str().unwrap());
    let waits = server.until(&path, |run| run["status"]["waitingFor"][0]["approval"].is_string()).await;
    let approval = waits["status"]["waitingFor"][0]["approval"].as_str().unwrap();

    let asked = client.good(&get).await;
    assert_eq!(asked["status"], "input_required", "{asked}");
    assert!(asked["statusMessage"].as_str().unwrap().contains(approval), "{asked}");
    // It is shown, and not for the client to decide.
    for responses in [json!({}), json!({approval: {"action": "accept"}})] {
        let update = json!({"op": "task", "method": "tasks/update", "id": id, "params": {"inputResponses": responses}});
        let refused = client.ask(&update).await;
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("decided by a person"), "{refused}");
    }
    let pending = server.get(&format!("namespaces/default/approvals/{approval}")).await.json();
    assert_eq!(pending["status"]["phase"], "Pending", "{pending}");

    drop(client);
    let server = server.restarted().await;
    let mut client = Client::mcp(&server.mcp(), "auto", &["tasks"]).await;
    assert_eq!(client.good(&get).await["status"], "input_required");
    server.approve(approval).await;
    server.ended("agentexecutions", name.as_str().unwrap()).await;
    let done = client.good(&get).await;
    assert_eq!(
        (&done["status"], &done["result"]["content"][0]["text"]),
        (&json!("completed"), &json!("Done.")),
        "{done}"
    );

    let task = client.good(&json!({"op": "begin", "tool": "workflow_slow", "arguments": {}})).await;
    let of = |method: &str, id: &Value| json!({"op": "task", "method": method, "id": id});
    client.good(&of("tasks/cancel", &task["taskId"])).await;
    let slow = server.get("namespaces/default/workflowexecutions").await.json();
    let slow =
        slow["items"].as_array().unwrap().iter().find(|it| it["metadata"]["uid"] == task["taskId"]).unwrap().clone();
    server.ended("workflowexecutions", slow["metadata"]["name"].as_str().unwrap()).await;
    assert_eq!(client.good(&of("tasks/get", &task["taskId"])).await["status"], "cancelled");

    // What was not begun here is not there, whoever knows its id.
    let run = json!({"metadata": {"name": "own"}, "spec": {"agent": "echo", "message": "hi"}});
    let own = server.post("namespaces/default/agentexecutions", &run).await.expect(StatusCode::CREATED);
    let refused = client.ask(&of("tasks/get", &own["metadata"]["uid"])).await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    let mut elsewhere = Client::mcp(&format!("{}/mcp/other", server.url), "auto", &["tasks"]).await;
    assert_eq!(elsewhere.ask(&get).await["error"]["code"], -32602, "a task is of its namespace");
}

#[tokio::test]
async fn who_waits_for_a_person_is_told_so() {
    let server = Server::start().await.with_tools().await;
    let mut client = Client::mcp(&server.mcp(), "auto", &[]).await;
    let receipt = client.call("agent_greeter", json!({"message": "go"}), json!({})).await["result"].clone();
    let content = &receipt["structuredContent"];
    assert_eq!(content["state"], "waiting", "{receipt}");
    let name = content["execution"].as_str().unwrap();
    let run = server.get(&format!("namespaces/default/agentexecutions/{name}")).await.json();
    let approval = run["status"]["waitingFor"][0]["approval"].as_str().unwrap();
    assert!(text(&receipt).contains(approval), "{receipt}");
    client.tell(&json!({"op": "call", "tool": "baton_result", "arguments": {"id": content["id"]}})).await;
    server.approve(approval).await;
    assert_eq!(text(&client.told().await["ok"]["result"]), "Done.");
}

const PAGE: &str = include_str!("../../../../docs/agents/interop.md");

#[tokio::test]
async fn the_examples_of_the_page_work() {
    let server = Server::start().await;
    let examples = PAGE.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    for example in examples {
        let plural = if example.contains("kind: Agent") { "agents" } else { "workflows" };
        let request = server.request(Method::POST, &format!("namespaces/default/{plural}"));
        let request = request.header("content-type", "application/yaml").body(example.to_owned());
        send(request).await.expect(StatusCode::CREATED);
    }
    let mut client = Client::mcp(&server.mcp(), "auto", &[]).await;
    let called = client.call("workflow_quote", json!({"pieces": 5}), json!({})).await["result"].clone();
    assert_eq!(called["structuredContent"], json!({"price": 12.5}), "{called}");
    let called = client.call("agent_concierge", json!({"message": "When?"}), json!({})).await["result"].clone();
    assert_eq!(text(&called), "We open at nine.");
    let body = PAGE.split("-d '").nth(1).unwrap().split('\'').next().unwrap().trim().to_owned();
    let request = server.request(Method::POST, "/a2a/default/concierge/message:send").header("a2a-version", "1.0");
    let sent = send(request.header("content-type", "application/json").body(body)).await.expect(StatusCode::OK);
    assert_eq!(sent["task"]["artifacts"][0]["parts"][0]["text"], "We open at nine.", "{sent}");
}

#[tokio::test]
async fn bad_requests_get_errors_of_the_protocol() {
    let server = Server::start().await.with_tools().await;
    let post = |body: String| {
        let request = server.request(Method::POST, "/mcp/default").header("content-type", "application/json");
        send(request.header("accept", "application/json, text/event-stream").body(body))
    };
    for (body, status) in [
        ("{", StatusCode::BAD_REQUEST),
        ("[]", StatusCode::BAD_REQUEST),
        (r#"{"jsonrpc": "2.0", "id": 1}"#, StatusCode::BAD_REQUEST),
        (r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": 7}}"#, StatusCode::OK),
    ] {
        let answer = post(body.to_owned()).await;
        assert!(answer.status.is_client_error() || answer.status == status, "{body}: {answer:?}");
    }
    let large =
        format!(r#"{{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {{"x": "{}"}}}}"#, "x".repeat(3 << 20));
    assert_eq!(post(large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(send(server.request(Method::GET, "/mcp/default")).await.status, StatusCode::METHOD_NOT_ALLOWED);
    server.get("/mcp/NOT_ONE").await.refused(StatusCode::NOT_FOUND, "NotFound");
    let foreign = server.request(Method::POST, "/mcp/default").header("origin", "https://page.example");
    assert_eq!(send(foreign).await.status, StatusCode::FORBIDDEN);
    let wrong = published(workflow("wrong"), &json!({"baton.dev/publish": "mcp, a2a"}));
    let message =
        server.post("namespaces/default/workflows", &wrong).await.refused(StatusCode::BAD_REQUEST, "BadRequest");
    assert!(message.contains("baton.dev/publish") && message.contains("a2a"), "{message}");
    let read: v1::Workflow =
        serde_json::from_value(server.get("namespaces/default/workflows/quick").await.json()).unwrap();
    assert_eq!(read.metadata.unwrap().annotations["baton.dev/publish"], "mcp");
}
