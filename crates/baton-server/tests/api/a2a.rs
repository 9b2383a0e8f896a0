//! Agents for the Python SDK of A2A, over both bindings.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_server::EgressPolicy;
use reqwest::{Method, StatusCode};
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    clients::{Client, PATIENCE},
    harness::{Server, agent, greeter, send, workflow},
};

const BINDINGS: [&str; 2] = ["JSONRPC", "HTTP+JSON"];

impl Server {
    /// One with the agents `echo` and `greeter`, and one that is not published.
    async fn with_agents(self) -> Self {
        let published = |mut agent: Value| {
            agent["metadata"]["annotations"] = json!({"baton.dev/publish": "a2a"});
            agent
        };
        let mut reader = published(agent("reader"));
        reader["spec"]["outputSchema"] = json!({"type": "object"});
        reader["spec"]["model"]["playback"] = json!({"conversations": [{"turns": [{"json": {"sum": 3}}]}]});
        for (plural, object) in [
            ("workflows", workflow("quick")),
            ("agents", published(agent("echo"))),
            ("agents", published(greeter())),
            ("agents", reader),
            ("agents", agent("hidden")),
        ] {
            self.post(&format!("namespaces/default/{plural}"), &object).await.expect(StatusCode::CREATED);
        }
        self
    }

    fn agent(&self, name: &str) -> String {
        format!("{}/a2a/default/{name}", self.url)
    }

    /// The approval that the task with an id waits for.
    async fn asked_by(&self, id: &Value) -> String {
        let runs = "namespaces/default/agentexecutions";
        let of =
            |runs: &Value| runs["items"].as_array().unwrap().iter().find(|it| it["metadata"]["uid"] == *id).cloned();
        let waits = |runs: &Value| of(runs).is_some_and(|run| run["status"]["waitingFor"][0]["approval"].is_string());
        let runs = self.until(runs, waits).await;
        of(&runs).unwrap()["status"]["waitingFor"][0]["approval"].as_str().unwrap().to_owned()
    }

    async fn rpc(&self, agent: &str, body: &str) -> Value {
        let request = self.request(Method::POST, &format!("/a2a/default/{agent}")).header("a2a-version", "1.0");
        send(request.header("content-type", "application/json").body(body.to_owned())).await.expect(StatusCode::OK)
    }
}

fn message(id: &str, text: &str) -> Value {
    json!({"message": {"messageId": id, "role": "ROLE_USER", "parts": [{"text": text}]}})
}

fn send_op(id: &str) -> Value {
    json!({"op": "send", "request": message(id, "hi")})
}

fn state(task: &Value) -> &str {
    task["status"]["state"].as_str().unwrap()
}

#[tokio::test]
async fn a_message_is_a_task_over_both_bindings() {
    let server = Server::start().await.with_agents().await;
    for binding in BINDINGS {
        let mut client = Client::a2a(&server.agent("echo"), binding, &[]).await;
        let card = client.good(&json!({"op": "card"})).await;
        assert_eq!((&card["name"], &card["description"]), (&json!("echo"), &json!("Say hello.")), "{card}");
        assert_eq!(card["supportedInterfaces"][0]["url"], server.agent("echo"));

        let id = format!("m-{binding}");
        let sent = client.good(&send_op(&id)).await;
        let task = &sent[0]["task"];
        assert_eq!(state(task), "TASK_STATE_COMPLETED", "{task}");
        assert_eq!(task["artifacts"][0]["parts"][0]["text"], "hello", "{task}");
        let history = task["history"].as_array().unwrap();
        let said: Vec<_> =
            history.iter().map(|it| (it["role"].as_str().unwrap(), it["parts"][0]["text"].as_str().unwrap())).collect();
        assert_eq!(said, [("ROLE_USER", "hi"), ("ROLE_AGENT", "hello")]);

        let again = client.good(&send_op(&id)).await;
        assert_eq!(
            (&again[0]["task"]["id"], &again[0]["task"]["contextId"]),
            (&task["id"], &task["contextId"]),
            "one message, one task"
        );
        let other = client.ask(&json!({"op": "send", "request": message(&id, "something else")})).await;
        assert_eq!(other["error"]["type"], "InvalidParamsError", "{other}");

        let got = client.good(&json!({"op": "get", "id": task["id"], "history": 1})).await;
        assert_eq!(got["history"].as_array().unwrap().len(), 1, "{got}");
        let got = client.good(&json!({"op": "get", "id": task["id"], "history": 0})).await;
        assert!(got.get("history").is_none(), "{got}");

        // The conversation goes on in its context.
        let mut next = message(&format!("n-{binding}"), "and now?");
        next["message"]["contextId"] = task["contextId"].clone();
        let next = client.good(&json!({"op": "send", "request": next})).await[0]["task"].clone();
        assert_eq!(next["contextId"], task["contextId"]);
        let listed = client.good(&json!({"op": "list", "request": {"contextId": task["contextId"]}})).await;
        assert_eq!(listed["totalSize"], 2, "{listed}");
        let ids: Vec<_> = listed["tasks"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        assert_eq!(ids, [next["id"].clone(), task["id"].clone()], "what changed last comes first");

        let ended = client.ask(&json!({"op": "cancel", "id": task["id"]})).await;
        assert_eq!(ended["error"]["type"], "TaskNotCancelableError", "{ended}");
        for id in ["x", "00000000-0000-0000-0000-000000000000"] {
            let missing = client.ask(&json!({"op": "get", "id": id})).await;
            assert_eq!(missing["error"]["type"], "TaskNotFoundError", "{missing}");
        }
    }
    let mut client = Client::a2a(&server.agent("reader"), "JSONRPC", &[]).await;
    let data = json!({"op": "send", "request": {"message": {"messageId": "d", "role": "ROLE_USER", "parts": [{"text": "add"}, {"data": {"a": 1}}]}}});
    let task = client.good(&data).await[0]["task"].clone();
    assert_eq!(task["artifacts"][0]["parts"][0]["data"], json!({"sum": 3.0}), "{task}");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::start().await.with_agents().await;
    let mut client = Client::a2a(&server.agent("echo"), "HTTP+JSON", &[]).await;
    for number in 0..5 {
        client.good(&send_op(&format!("m{number}"))).await;
    }
    let mut other = Client::a2a(&server.agent("reader"), "JSONRPC", &[]).await;
    other.good(&send_op("other")).await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = json!({"pageSize": 2, "pageToken": token, "status": "TASK_STATE_COMPLETED"});
        let page = client.good(&json!({"op": "list", "request": request})).await;
        assert_eq!(page["totalSize"], 5, "{page}");
        seen.extend(page["tasks"].as_array().unwrap().iter().map(|it| it["id"].to_string()));
        match page["nextPageToken"].as_str().unwrap_or_default() {
            "" => break,
            next => next.clone_into(&mut token),
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5, "each once, and none of another agent");
    let none = client.good(&json!({"op": "list", "request": {"status": "TASK_STATE_FAILED"}})).await;
    assert_eq!(none["totalSize"].as_i64().unwrap_or_default(), 0, "{none}");
    let after = client.good(&json!({"op": "list", "request": {"statusTimestampAfter": "2999-01-01T00:00:00Z"}})).await;
    assert_eq!(after["totalSize"].as_i64().unwrap_or_default(), 0, "{after}");
    for bad in [json!({"pageSize": 101}), json!({"pageToken": "x"}), json!({"historyLength": -1})] {
        let refused = client.ask(&json!({"op": "list", "request": bad})).await;
        assert_eq!(refused["error"]["type"], "InvalidParamsError", "{bad}: {refused}");
    }
}

#[tokio::test]
async fn a_stream_shows_each_state_and_goes_on_after_a_restart() {
    let mut server = Server::start().await.with_agents().await;
    for binding in BINDINGS {
        let mut client = Client::a2a(&server.agent("greeter"), binding, &["stream"]).await;
        let begun = client.good(&json!({"op": "first", "request": message(binding, "hi"), "count": 1})).await;
        let id = begun[0]["task"]["id"].clone();
        let approval = server.asked_by(&id).await;
        let asked = client.good(&json!({"op": "get", "id": id})).await;
        assert_eq!(state(&asked), "TASK_STATE_INPUT_REQUIRED", "{asked}");
        let said = asked["status"]["message"]["parts"][0]["text"].as_str().unwrap();
        assert!(said.contains(&approval) && said.contains("not through this protocol"), "{said}");
        // A message does not decide.
        let mut yes = message(&format!("yes-{binding}"), "yes");
        yes["message"]["taskId"] = id.clone();
        let refused = client.ask(&json!({"op": "send", "request": yes})).await;
        assert_eq!(refused["error"]["type"], "UnsupportedOperationError", "{refused}");

        drop(client);
        server = server.restarted().await;
        let mut client = Client::a2a(&server.agent("greeter"), binding, &["stream"]).await;
        client.tell(&json!({"op": "subscribe", "id": id})).await;
        let first = client.told().await["ok"].clone();
        assert_eq!(state(&first["task"]), "TASK_STATE_INPUT_REQUIRED", "{first}");
        server.approve(&approval).await;
        let told = client.told().await["ok"].clone();
        let told = told.as_array().unwrap();
        let last = told.last().unwrap();
        assert_eq!(state(&last["statusUpdate"]), "TASK_STATE_COMPLETED", "{told:?}");
        let artifact = &told[told.len() - 2]["artifactUpdate"];
        assert_eq!(
            (&artifact["artifact"]["parts"][0]["text"], &artifact["lastChunk"]),
            (&json!("Done."), &json!(true)),
            "{told:?}"
        );
        let over = client.ask(&json!({"op": "subscribe", "id": id})).await;
        assert_eq!(over["error"]["type"], "UnsupportedOperationError", "{over}");
    }
}

#[tokio::test]
async fn a_task_is_cancelled() {
    let server = Server::start().await.with_agents().await;
    let mut client = Client::a2a(&server.agent("greeter"), "JSONRPC", &["poll"]).await;
    let task = client.good(&send_op("m")).await[0]["task"].clone();
    assert!(
        ["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING", "TASK_STATE_INPUT_REQUIRED"].contains(&state(&task)),
        "{task}"
    );
    let approval = server.asked_by(&task["id"]).await;
    let ended = client.good(&json!({"op": "cancel", "id": task["id"]})).await;
    server.until(&format!("namespaces/default/approvals/{approval}"), |it| it["status"]["phase"] == "Cancelled").await;
    let ended = if state(&ended) == "TASK_STATE_CANCELED" {
        ended
    } else {
        client.good(&json!({"op": "get", "id": task["id"]})).await
    };
    assert_eq!(state(&ended), "TASK_STATE_CANCELED", "{ended}");
}

/// What the receiver has got, once the last of it is as wanted.
async fn pushed(client: &mut Client, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    let look = async {
        loop {
            let pushed = client.good(&json!({"op": "pushed", "count": 0})).await;
            let pushed = pushed.as_array().unwrap().clone();
            if pushed.last().is_some_and(|last| is(&last["payload"]["task"])) {
                return pushed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the receiver gets what it waits for")
}

#[tokio::test]
async fn each_state_is_pushed_until_it_is_taken() {
    let server = Server::start().await.with_agents().await;
    let mut client = Client::a2a(&server.agent("greeter"), "JSONRPC", &["poll"]).await;
    let hook = client.hello.clone();
    client.good(&json!({"op": "refuse", "statuses": [503]})).await;
    let authentication = json!({"scheme": "Bearer", "credentials": "cr3d"});
    let mut request = message("m", "hi");
    request["configuration"] = json!({"taskPushNotificationConfig": {"id": "c", "url": hook, "token": "t0ken", "authentication": authentication}});
    let task = client.good(&json!({"op": "send", "request": request})).await[0]["task"].clone();
    let id = task["id"].clone();
    let approval = server.asked_by(&id).await;
    let asked = pushed(&mut client, |task| state(task) == "TASK_STATE_INPUT_REQUIRED").await.pop().unwrap();
    let headers = &asked["headers"];
    assert_eq!(
        (&headers["x-a2a-notification-token"], &headers["authorization"]),
        (&json!("t0ken"), &json!("Bearer cr3d"))
    );
    let text = |name: &str| headers[name].as_str().unwrap();
    let signed = format!("{}.{}.{}", text("webhook-id"), text("webhook-timestamp"), asked["body"].as_str().unwrap());
    let signature = STANDARD.decode(text("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, b"t0ken"), signed.as_bytes(), &signature).unwrap();

    // What was set is shown without its secrets.
    let config = client.good(&json!({"op": "config", "id": id, "config": "c"})).await;
    assert_eq!((&config["url"], &config["authentication"]), (&hook, &json!({"scheme": "Bearer"})), "{config}");
    let configs = client.good(&json!({"op": "configs", "id": id})).await;
    assert_eq!(configs["configs"], json!([config]));
    assert!(!configs.to_string().contains("cr3d") && !configs.to_string().contains("t0ken"));

    // A configuration outlives the server.
    let server = server.restarted().await;
    server.approve(&approval).await;
    let all = pushed(&mut client, |task| state(task) == "TASK_STATE_COMPLETED").await;
    let ended = all.last().unwrap();
    assert_eq!(ended["payload"]["task"]["artifacts"][0]["parts"][0]["text"], "Done.", "{ended}");

    // A task that has ended answers at once, and a configuration can be taken back.
    let more = json!({"op": "push", "config": {"taskId": id, "url": hook}});
    let set = client.good(&more).await;
    let more = json!({"op": "pushed", "count": all.len() + 1});
    let again = client.good(&more).await.as_array().unwrap().last().unwrap().clone();
    assert_eq!(state(&again["payload"]["task"]), "TASK_STATE_COMPLETED");
    let delete = json!({"op": "unpush", "id": id, "config": set["id"]});
    client.good(&delete).await;
    client.good(&delete).await;
    let configs = client.good(&json!({"op": "configs", "id": id})).await;
    assert_eq!(configs["configs"], json!([config]));
    let gone = client.ask(&json!({"op": "config", "id": id, "config": set["id"]})).await;
    assert_eq!(gone["error"]["type"], "InvalidParamsError", "{gone}");
}

#[tokio::test]
async fn what_a_receiver_refuses_for_good_is_seen() {
    let server = Server::start().await.with_agents().await;
    let mut client = Client::a2a(&server.agent("echo"), "JSONRPC", &[]).await;
    client.good(&json!({"op": "refuse", "statuses": [410, 410, 410, 410]})).await;
    let mut request = message("m", "hi");
    request["configuration"] = json!({"taskPushNotificationConfig": {"id": "gone", "url": client.hello}});
    let task = client.good(&json!({"op": "send", "request": request})).await[0]["task"].clone();
    let runs = server.get("namespaces/default/agentexecutions").await.json();
    let path = format!("namespaces/default/agentexecutions/{}", runs["items"][0]["metadata"]["name"].as_str().unwrap());
    let seen = |run: &Value| {
        let said = run["metadata"]["annotations"]["baton.dev/push-abandoned"].as_str().unwrap_or_default();
        said.contains("gone") && said.contains("COMPLETED")
    };
    server.until(&path, seen).await;
    // To set it again begins anew; the receiver has refused it for each state so far.
    let seen = server.get(&path).await.json()["metadata"]["annotations"]["baton.dev/push-abandoned"].clone();
    assert!(seen.as_str().unwrap().contains("410"), "{seen}");
    client.good(&json!({"op": "accept"})).await;
    client.good(&json!({"op": "push", "config": {"taskId": task["id"], "id": "gone", "url": client.hello}})).await;
    pushed(&mut client, |task| state(task) == "TASK_STATE_COMPLETED").await;
}

#[tokio::test]
async fn notifications_go_where_the_policy_lets_them() {
    let closed = EgressPolicy { allow_private: false, ..EgressPolicy::default() };
    let server = Server::start_with(|options| options.egress = closed).await.with_agents().await;
    let mut client = Client::a2a(&server.agent("echo"), "JSONRPC", &[]).await;
    let task = client.good(&send_op("m")).await[0]["task"].clone();
    for url in [
        client.hello.clone(),
        json!("http://10.0.0.1/"),
        json!("http://169.254.169.254/"),
        json!("ftp://x.example/"),
        json!("no"),
    ] {
        let refused = client.ask(&json!({"op": "push", "config": {"taskId": task["id"], "url": url}})).await;
        assert_eq!(refused["error"]["type"], "InvalidParamsError", "{url}: {refused}");
        let mut request = message("with", "hi");
        request["configuration"] = json!({"taskPushNotificationConfig": {"url": url}});
        let refused = client.ask(&json!({"op": "send", "request": request})).await;
        assert_eq!(refused["error"]["type"], "InvalidParamsError", "{url}: {refused}");
    }
    // A name is judged when it is resolved.
    let named = json!({"taskId": task["id"], "id": "named", "url": client.hello.as_str().unwrap().replace("127.0.0.1", "localhost")});
    client.good(&json!({"op": "push", "config": named})).await;
    let runs = server.get("namespaces/default/agentexecutions").await.json();
    let path = format!("namespaces/default/agentexecutions/{}", runs["items"][0]["metadata"]["name"].as_str().unwrap());
    let refused = |run: &Value| {
        run["metadata"]["annotations"]["baton.dev/push-abandoned"].as_str().is_some_and(|it| it.contains("not allowed"))
    };
    server.until(&path, refused).await;
    assert_eq!(client.good(&json!({"op": "pushed", "count": 0})).await, json!([]));

    let open = Server::start().await.with_agents().await;
    let mut client = Client::a2a(&open.agent("echo"), "JSONRPC", &[]).await;
    let task = client.good(&send_op("m")).await[0]["task"].clone();
    let own =
        client.ask(&json!({"op": "push", "config": {"taskId": task["id"], "url": format!("{}/x", open.url)}})).await;
    assert_eq!(own["error"]["type"], "InvalidParamsError", "the server's own API: {own}");
    for number in 0..16 {
        client.good(&json!({"op": "push", "config": {"taskId": task["id"], "id": format!("c{number}"), "url": client.hello}})).await;
    }
    let more =
        client.ask(&json!({"op": "push", "config": {"taskId": task["id"], "id": "more", "url": client.hello}})).await;
    assert!(more["error"]["message"].as_str().unwrap().contains("16"), "{more}");
    client.good(&json!({"op": "push", "config": {"taskId": task["id"], "id": "c3", "url": client.hello}})).await;
}

#[tokio::test]
async fn bad_requests_get_errors_of_the_protocol() {
    let server = Server::start().await.with_agents().await;
    let call = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc": "2.0", "id": 7, "method": "{method}", "params": {params}}}"#)
    };
    let text = |text: &str| {
        call("SendMessage", &format!(r#"{{"message": {{"messageId": "m", "role": "ROLE_USER", "parts": [{text}]}}}}"#))
    };
    let large = text(&format!(r#"{{"text": "{}"}}"#, "x".repeat(3 << 20)));
    let mut cases = vec![
        ("{".to_owned(), -32700),
        (String::new(), -32700),
        (r#"{"jsonrpc": "2.0", "id": 1, "id": 2}"#.to_owned(), -32700),
        ("[]".to_owned(), -32600),
        ("7".to_owned(), -32600),
        ("[".repeat(100_000), -32700),
        (r#"{"jsonrpc": "2.0", "id": {}, "method": "GetTask"}"#.to_owned(), -32600),
        (r#"{"jsonrpc": "1.0", "id": 1, "method": "GetTask"}"#.to_owned(), -32600),
        (call("message/send", "{}"), -32601),
        (call("GetTask", "[]"), -32602),
        (call("GetTask", "{}"), -32001),
        (call("GetTask", r#"{"id": 7}"#), -32602),
        (call("GetTask", r#"{"id": "x", "tenant": "t"}"#), -32602),
        (call("SendMessage", "{}"), -32602),
        (call("SendStreamingMessage", "{}"), -32602),
        (call("SubscribeToTask", r#"{"id": "x"}"#), -32001),
        (call("CancelTask", r#"{"id": "x"}"#), -32001),
        (call("GetExtendedAgentCard", "{}"), -32007),
        (text(""), -32602),
        (text("{}"), -32602),
        (text(r#"{"text": ""}"#), -32602),
        (text(r#"{"raw": "%%"}"#), -32602),
        (text(r#"{"text": "a"}"#).replace("ROLE_USER", "ROLE_AGENT"), -32602),
        (text(r#"{"text": "a"}"#).replace(r#""messageId": "m""#, r#""contextId": "../x", "messageId": "m""#), -32602),
        (text(r#"{"text": "a"}"#).replace(r#""messageId": "m""#, r#""taskId": "x", "messageId": "m""#), -32001),
        (large, -32600),
    ];
    let modes = r#"{"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "a"}]}, "configuration": {"acceptedOutputModes": ["image/png"]}}"#;
    cases.push((call("SendMessage", modes), -32005));
    for (body, code) in cases {
        let answer = server.rpc("echo", &body).await;
        assert_eq!(answer["error"]["code"], code, "{body:.200} was answered with {answer}");
        assert!(!answer["error"]["message"].as_str().unwrap().is_empty() && answer["jsonrpc"] == "2.0");
    }
    let old = server.request(Method::POST, "/a2a/default/echo").body(call("GetTask", "{}"));
    assert_eq!(
        send(old).await.expect(StatusCode::OK)["error"]["code"],
        -32009,
        "a client that names no version speaks 0.3"
    );

    for (method, path, status, reason) in [
        (Method::POST, "message:send", StatusCode::BAD_REQUEST, "INVALID_PARAMS"),
        (Method::GET, "tasks/x", StatusCode::NOT_FOUND, "TASK_NOT_FOUND"),
        (Method::GET, "nothing", StatusCode::NOT_FOUND, "METHOD_NOT_FOUND"),
        (Method::PUT, "tasks", StatusCode::NOT_FOUND, "METHOD_NOT_FOUND"),
        (Method::GET, "tasks?pageSize=x", StatusCode::BAD_REQUEST, "INVALID_PARAMS"),
        (Method::GET, "extendedAgentCard", StatusCode::BAD_REQUEST, "EXTENDED_AGENT_CARD_NOT_CONFIGURED"),
        (Method::DELETE, "tasks/x/pushNotificationConfigs/y", StatusCode::NOT_FOUND, "TASK_NOT_FOUND"),
    ] {
        let request = server.request(method, &format!("/a2a/default/echo/{path}")).header("a2a-version", "1.0");
        let answer = send(request).await.expect(status);
        assert_eq!(answer["error"]["details"][0]["reason"], reason, "{path}: {answer}");
    }
    for path in ["hidden", "nobody", "NO", "hidden/tasks", "hidden/.well-known/agent-card.json"] {
        let answer = server.get(&format!("/a2a/default/{path}")).await;
        assert!(answer.status.is_client_error(), "{path}: {answer:?}");
    }
    let runs = server.get("namespaces/default/agentexecutions").await.json();
    assert_eq!(runs["items"], json!([]), "nothing was begun");
}
