//! The activity `a2a`, against the protocol's own SDK and against agents that misbehave.

use axum::{
    body::Body,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use baton_activities::ActivitiesOptions;
use baton_execution::{Activities as _, Fault, fault_type};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    programs::Program,
    support::{Seen, Server, raw_server, run, task, told, world},
};

async fn a2a(input: Value) -> Result<Value, Fault> {
    run(ActivitiesOptions::default(), "a2a", input).await
}

/// A call by an agent card.
fn by_card(program: &Program, agent: &str, method: &str, parameters: Value) -> Value {
    let card = program.url(&format!("{agent}/card.json"));
    json!({"method": method, "parameters": parameters, "agentCard": {"endpoint": card, "authentication": null}})
}

fn by_server(url: &str, method: &str, parameters: Value) -> Value {
    json!({"method": method, "parameters": parameters, "server": {"endpoint": url, "authentication": null}})
}

fn text(text: &str) -> Value {
    json!({"message": {"parts": [{"kind": "text", "text": text}]}})
}

#[tokio::test]
async fn an_agent_is_found_by_its_card_and_answers() {
    let agent = Program::agent().await;
    let done = a2a(by_card(&agent, "/both", "message/send", text("hello"))).await.unwrap();
    assert_eq!((&done["kind"], &done["status"]["state"]), (&json!("task"), &json!("completed")), "{done}");
    assert_eq!(done["artifacts"][0]["parts"], json!([{"kind": "text", "text": "hello"}]));
    assert_eq!(done["history"][0]["role"], "user");

    let events = a2a(by_card(&agent, "/both", "message/stream", text("hi"))).await.unwrap();
    let kinds: Vec<&str> = events.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["task", "status-update", "artifact-update", "status-update"]);
    assert_eq!(events[3]["status"]["state"], "completed");

    let again = a2a(by_server(&agent.url("/both"), "tasks/get", json!({"id": done["id"]}))).await.unwrap();
    assert_eq!(again["status"], done["status"]);
    // Version 0.3 has no such method: the card says that the agent has version 1, too.
    let list = a2a(by_card(&agent, "/both", "tasks/list", json!({}))).await.unwrap();
    assert_eq!(list["tasks"].as_array().unwrap().len(), 2, "{list}");
    let card = a2a(by_card(&agent, "/both", "agent/getAuthenticatedExtendedCard", Value::Null)).await.unwrap();
    assert_eq!(card["name"], "echo");
}

#[tokio::test]
async fn a_repeated_message_has_the_same_id_and_other_ids_are_kept() {
    let agent = Program::agent().await;
    let say = |parameters: Value| async {
        let answer = a2a(by_server(&agent.url("/both"), "message/send", parameters)).await.unwrap();
        answer["parts"][0]["text"].as_str().unwrap().to_owned()
    };
    let first = say(text("say")).await;
    assert_eq!(say(text("say")).await, first);
    let (id, _) = first.split_once(' ').unwrap();
    assert_eq!((id.len(), id.split('-').count()), (36, 5), "{id} is a UUID");
    let mut own = text("say");
    own["message"]["messageId"] = json!("m-1");
    assert!(say(own).await.starts_with("m-1 "));
}

#[tokio::test]
async fn a_task_is_cancelled_and_its_notifications_are_configured() {
    let agent = Program::agent().await;
    let call = |method: &str, parameters: Value| a2a(by_server(&agent.url("/both"), method, parameters));
    let mut wait = text("wait");
    wait["configuration"] = json!({"blocking": false});
    let waiting = call("message/send", wait).await.unwrap();
    let id = &waiting["id"];
    let config = json!({"taskId": id, "pushNotificationConfig": {"id": "p", "url": "https://example.com/told"}});
    call("tasks/pushNotificationConfig/set", config).await.unwrap();
    let named = json!({"id": id, "pushNotificationConfigId": "p"});
    let got = call("tasks/pushNotificationConfig/get", named.clone()).await.unwrap();
    assert_eq!(got["pushNotificationConfig"]["url"], "https://example.com/told", "{got}");
    let list = call("tasks/pushNotificationConfig/list", json!({"id": id})).await.unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(call("tasks/pushNotificationConfig/delete", named).await.unwrap(), Value::Null);
    assert_eq!(call("tasks/cancel", json!({"id": id})).await.unwrap()["status"]["state"], "canceled");

    let fault = call("tasks/cancel", json!({"id": "none"})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (fault_type::RUNTIME, 400, true));
    assert_eq!(fault.data.unwrap()["code"], -32001);
    let fault = call("tasks/resubscribe", json!({"id": "none"})).await.unwrap_err();
    assert_eq!(fault.data.unwrap()["code"], -32001);
}

#[tokio::test]
async fn an_agent_of_version_1_is_asked_in_its_words() {
    let agent = Program::agent().await;
    let done = a2a(by_card(&agent, "/new", "message/send", text("hello"))).await.unwrap();
    assert_eq!(done["task"]["status"]["state"], "TASK_STATE_COMPLETED", "{done}");
    assert_eq!(done["task"]["history"][0]["role"], "ROLE_USER");
    let events = a2a(by_card(&agent, "/new", "message/stream", text("hello"))).await.unwrap();
    assert_eq!(events.as_array().unwrap().len(), 4, "{events}");
    let id = &done["task"]["id"];
    let task = a2a(by_card(&agent, "/new", "tasks/get", json!({"id": id}))).await.unwrap();
    assert_eq!(&task["id"], id);
    let fault = a2a(by_card(&agent, "/new", "tasks/get", json!({"id": "none"}))).await.unwrap_err();
    assert_eq!((fault.data.unwrap()["code"].clone(), fault.non_retryable), (json!(-32001), true));
}

#[tokio::test]
async fn credentials_go_to_the_card_and_to_the_agent_at_its_origin() {
    let agent = Program::agent().await;
    let mut call = by_card(&agent, "/guarded", "message/send", text("hello"));
    let fault = a2a(call.clone()).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (fault_type::COMMUNICATION, 401, true));
    call["agentCard"]["authentication"] = json!({"bearer": {"token": "let-me-in"}});
    assert_eq!(a2a(call).await.unwrap()["status"]["state"], "completed");

    let elsewhere = Server::answering(|_, _| StatusCode::NO_CONTENT.into_response()).await;
    let url = elsewhere.url("/");
    let cards = Server::answering(move |_, _| axum::Json(json!({"url": url})).into_response()).await;
    let card = json!({"endpoint": cards.url("/card"), "authentication": {"bearer": {"token": "let-me-in"}}});
    let fault = a2a(json!({"method": "tasks/get", "agentCard": card})).await.unwrap_err();
    assert!(told(&fault).contains("another origin") && !told(&fault).contains("let-me-in"), "{fault}");
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn what_is_no_agent_is_told() {
    let odd = |status: StatusCode, body: &'static str| Server::answering(move |_, _| (status, body).into_response());
    let get = |url: &str| a2a(by_server(url, "tasks/get", json!({"id": "a"})));
    for (status, body, kind, code, says) in [
        (StatusCode::OK, "<p>hello</p>", fault_type::RUNTIME, 502, "no answer of JSON-RPC 2.0: '<p>hello</p>'"),
        (StatusCode::OK, "{\"id\": 1}", fault_type::RUNTIME, 502, "no answer of JSON-RPC"),
        (StatusCode::NOT_FOUND, "no such page", fault_type::COMMUNICATION, 404, "no such page"),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            r#"{"error": {"code": -32603, "message": "out of tea"}}"#,
            fault_type::RUNTIME,
            500,
            "the error -32603: out of tea",
        ),
    ] {
        let fault = get(&odd(status, body).await.url("/")).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.status), (kind, code), "{fault}");
        assert!(fault.to_string().contains(says), "{fault}");
    }
    let card = odd(StatusCode::OK, r#"{"url": "http://a", "preferredTransport": "GRPC"}"#).await;
    let fault = a2a(json!({"method": "tasks/get", "agentCard": {"endpoint": card.url("/")}})).await.unwrap_err();
    assert!(fault.kind == fault_type::CONFIGURATION && fault.to_string().contains("no interface"), "{fault}");
    for (input, says) in [
        (
            by_server("http://127.0.0.1:1/", "tasks/guess", Value::Null),
            "no method 'tasks/guess'; methods are message/send",
        ),
        (by_server("http://127.0.0.1:1/", "message/send", json!({})), "must have an object 'message'"),
        (by_server("agent", "tasks/get", Value::Null), "not an absolute URL"),
        (json!({"method": "tasks/get"}), "one of 'agentCard' and 'server'"),
    ] {
        let fault = a2a(input).await.unwrap_err();
        assert!(fault.kind == fault_type::CONFIGURATION && fault.to_string().contains(says), "{fault}");
    }
}

/// A server of streams.
async fn streaming(events: impl Fn(&Seen) -> Body + Clone + Send + Sync + 'static) -> Server {
    Server::answering(move |_, request| {
        Response::builder().header("content-type", "text/event-stream").body(events(request)).unwrap()
    })
    .await
}

fn event(result: &Value) -> String {
    format!(": a comment\n\nid: 1\ndata: {}\n\n", json!({"jsonrpc": "2.0", "id": 1, "result": result}))
}

#[tokio::test]
async fn a_stream_ends_where_the_agent_says_so() {
    let server = streaming(|_| {
        let told = [event(&json!({"kind": "task"})), event(&json!({"kind": "status-update", "final": true}))];
        // It is never closed.
        Body::from_stream(stream::iter(told.map(Ok::<_, std::io::Error>)).chain(stream::pending()))
    })
    .await;
    let call = by_server(&server.url("/"), "tasks/resubscribe", json!({"id": "a"}));
    let events = a2a(call).await.unwrap();
    assert_eq!(events, json!([{"kind": "task"}, {"kind": "status-update", "final": true}]));
    assert_eq!(server.seen()[0].json()["method"], "tasks/resubscribe");
}

#[tokio::test]
async fn streams_have_limits_and_may_fail() {
    let call = |url: String| by_server(&url, "message/stream", text("a"));
    let endless = streaming(|_| {
        let told = stream::repeat_with(|| Ok::<_, std::io::Error>(event(&json!({"text": "x".repeat(10_000)}))));
        Body::from_stream(told)
    })
    .await;
    let options = ActivitiesOptions { response_bytes_max: 100_000, ..ActivitiesOptions::default() };
    let fault = run(options, "a2a", call(endless.url("/"))).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::TOO_LARGE, true), "{fault}");

    let silent = streaming(|_| Body::from_stream(stream::pending::<Result<String, std::io::Error>>())).await;
    let fault = world(ActivitiesOptions::default()).run(task("a2a", call(silent.url("/")), 50)).await.unwrap_err();
    assert_eq!(fault.kind, fault_type::TIMEOUT, "{fault}");

    let failing = r#"data: {"id": 1, "error": {"code": -32603, "message": "lost"}}"#;
    for (told, says) in [
        (format!("{}{failing}\n\n", event(&json!({}))), "lost"),
        (String::new(), "without an event"),
        ("data: 7\n\n".into(), "'7'"),
    ] {
        let server = streaming(move |_| Body::from(told.clone())).await;
        let fault = a2a(call(server.url("/"))).await.unwrap_err();
        assert!(fault.kind == fault_type::RUNTIME && fault.to_string().contains(says), "{fault}");
    }
    let address = raw_server(|mut stream| async move {
        use tokio::io::AsyncWriteExt as _;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 900\r\n\r\n";
        stream.write_all(format!("{head}{}", event(&json!({}))).as_bytes()).await.unwrap();
    })
    .await;
    let fault = a2a(call(format!("http://{address}/"))).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::COMMUNICATION, false), "{fault}");
}
