//! The activity `mcp`, against a server that has everything and against servers that misbehave.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use baton_activities::{ActivitiesOptions, Commands, EgressPolicy, RunOptions};
use baton_execution::{Activities as _, Fault, fault_type};
use serde_json::{Value, json};

use crate::{
    programs::{Program, everything},
    support::{Seen, Server, run, task, told, world},
};

async fn mcp(input: Value) -> Result<Value, Fault> {
    run(ActivitiesOptions::default(), "mcp", input).await
}

fn by_http(url: &str, method: &str, parameters: Value) -> Value {
    let http = json!({"endpoint": url, "headers": {"X-Who": "baton"}, "authentication": null});
    json!({"method": method, "parameters": parameters, "transport": {"http": http}})
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// Every method against the server that has everything, however it is reached.
async fn answers_everything(options: &ActivitiesOptions, call: impl Fn(&str, Value) -> Value) {
    let ask = |method: &str, parameters: Value| run(options.clone(), "mcp", call(method, parameters));
    let tools = ask("tools/list", Value::Null).await.unwrap();
    assert!(names(&tools["tools"]).contains(&"get-sum") && tools.get("nextCursor").is_none(), "{tools}");
    assert_eq!(tools["tools"][0]["inputSchema"]["type"], "object");
    let sum = ask("tools/call", json!({"name": "get-sum", "arguments": {"a": 2, "b": 40}})).await.unwrap();
    assert_eq!(sum, json!({"content": [{"type": "text", "text": "The sum of 2 and 40 is 42."}]}));
    let weather = ask("tools/call", json!({"name": "get-structured-content", "arguments": {"location": "New York"}}))
        .await
        .unwrap();
    assert!(weather["structuredContent"]["temperature"].is_number(), "{weather}");
    let prompts = ask("prompts/list", json!({})).await.unwrap();
    assert!(names(&prompts["prompts"]).contains(&"simple-prompt"), "{prompts}");
    let prompt = ask("prompts/get", json!({"name": "args-prompt", "arguments": {"city": "Bonn"}})).await.unwrap();
    assert_eq!(prompt["messages"][0]["role"], "user", "{prompt}");
    let resources = ask("resources/list", Value::Null).await.unwrap();
    let uri = &resources["resources"][0]["uri"];
    let resource = ask("resources/read", json!({"uri": uri})).await.unwrap();
    assert_eq!(&resource["contents"][0]["uri"], uri, "{resource}");
    let templates = ask("resources/templates/list", Value::Null).await.unwrap();
    assert!(!templates["resourceTemplates"].as_array().unwrap().is_empty(), "{templates}");

    let fault = ask("tools/call", json!({"name": "get-sum", "arguments": {"a": "two"}})).await.unwrap_err();
    assert_eq!(fault.kind, fault_type::RUNTIME, "{fault}");
    assert!(fault.to_string().contains("get-sum"), "{fault}");
    let fault = ask("prompts/get", json!({"name": "none"})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::RUNTIME, true), "{fault}");
}

#[tokio::test]
async fn a_server_answers_by_http() {
    let server = Program::everything().await;
    let options = ActivitiesOptions::default();
    answers_everything(&options, |method, parameters| by_http(&server.url("/mcp"), method, parameters)).await;
}

/// Commands may read the servers that the tests brought.
fn with_tools() -> ActivitiesOptions {
    let readable = vec![everything("..").canonicalize().unwrap().join("../..")];
    let options = RunOptions { readable, ..RunOptions::default() };
    ActivitiesOptions { run: options, ..ActivitiesOptions::default() }
}

fn by_stdio(command: &str, arguments: &[&str], method: &str, parameters: Value) -> Value {
    let stdio = json!({"command": command, "arguments": arguments, "environment": {"KEY": "hunter2"}});
    json!({"method": method, "parameters": parameters, "transport": {"stdio": stdio}})
}

#[tokio::test]
async fn a_program_answers() {
    let server = everything("index.js");
    let call = |method: &str, parameters: Value| by_stdio("node", &[server.to_str().unwrap()], method, parameters);
    answers_everything(&with_tools(), call).await;
    let environment = run(with_tools(), "mcp", call("tools/call", json!({"name": "get-env"}))).await.unwrap();
    let environment = environment["content"][0]["text"].as_str().unwrap();
    assert!(environment.contains("\"KEY\": \"hunter2\"") && !environment.contains("CARGO"), "{environment}");
}

#[tokio::test]
async fn a_program_that_is_no_server_is_told() {
    let call = |script: &str| by_stdio("sh", &["-c", script], "tools/list", Value::Null);
    let fault = mcp(call("echo 'no tea for hunter2' >&2; exit 3")).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (fault_type::COMMUNICATION, 502, false));
    assert!(
        fault.to_string().ends_with("the server 'sh' ended before it answered; its last words were: no tea for ***"),
        "{fault}"
    );

    let fault = world(ActivitiesOptions::default())
        .run(task("mcp", call("echo tea; cat > /dev/null"), 1000))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, fault_type::TIMEOUT, "{fault}");

    let small = ActivitiesOptions { response_bytes_max: 10_000, ..ActivitiesOptions::default() };
    for endless in ["yes", "yes | tr -d '\\n'"] {
        let fault = run(small.clone(), "mcp", call(endless)).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::TOO_LARGE, true), "{endless}: {fault}");
    }
    let fault = mcp(by_stdio("no-such-server", &[], "tools/list", Value::Null)).await.unwrap_err();
    assert!(fault.kind == fault_type::CONFIGURATION && fault.to_string().contains("'no-such-server'"), "{fault}");
    let off = RunOptions { commands: Commands::Off, ..RunOptions::default() };
    let fault =
        run(ActivitiesOptions { run: off, ..ActivitiesOptions::default() }, "mcp", call("true")).await.unwrap_err();
    assert!(fault.kind == fault_type::CONFIGURATION && fault.to_string().contains("runs no commands"), "{fault}");
}

#[tokio::test]
async fn versions_and_clients_are_as_they_are_given() {
    let server = Program::everything().await;
    let mut call = by_http(&server.url("/mcp"), "tools/call", json!({"name": "echo", "arguments": {"message": "hi"}}));
    call["client"] = json!({"name": "me", "version": "7", "description": "a test"});
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        call["protocolVersion"] = json!(version);
        assert_eq!(mcp(call.clone()).await.unwrap()["content"][0]["text"], "Echo: hi", "{version}");
    }
    call["protocolVersion"] = json!("1999-01-01");
    let fault = mcp(call).await.unwrap_err();
    assert!(fault.to_string().contains("no version '1999-01-01' of the protocol; versions are 2024-11-05"), "{fault}");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up() {
    let server = Program::everything().await;
    let long = json!({"name": "trigger-long-running-operation", "arguments": {"duration": 600, "steps": 2}});
    let call = by_http(&server.url("/mcp"), "tools/call", long);
    let fault = world(ActivitiesOptions::default()).run(task("mcp", call, 1500)).await.unwrap_err();
    assert_eq!(fault.kind, fault_type::TIMEOUT, "{fault}");
}

/// A server of one's own making: `answer` gets the method and the whole message, and gives the result.
async fn made(answer: impl Fn(&str, &Value) -> Response + Clone + Send + Sync + 'static) -> Server {
    Server::answering(move |_, request: &Seen| {
        if request.method != "POST" {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let message = request.json();
        match message["method"].as_str().unwrap_or_default() {
            "initialize" => result(&message, &initialized("2025-06-18")),
            "notifications/initialized" => StatusCode::ACCEPTED.into_response(),
            method => answer(method, &message),
        }
    })
    .await
}

fn initialized(version: &str) -> Value {
    json!({"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}})
}

fn result(message: &Value, result: &Value) -> Response {
    axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

#[tokio::test]
async fn a_tool_gets_the_idempotency_key_and_headers_go_with_every_request() {
    let server = made(|_, message| result(message, &json!({"content": []}))).await;
    let mut call = by_http(&server.url("/"), "tools/call", json!({"name": "t", "_meta": {"mine": 1}}));
    call["transport"]["http"]["authentication"] = json!({"basic": {"username": "u", "password": "p:w"}});
    assert_eq!(mcp(call).await.unwrap(), json!({"content": []}));
    let seen = server.seen();
    let posts: Vec<&Seen> = seen.iter().filter(|request| request.method == "POST").collect();
    assert!(posts.iter().all(|request| request.header("x-who") == "baton"));
    assert!(posts.iter().all(|request| request.header("authorization") == "Basic dTpwOnc="));
    let first = posts[0].json();
    assert_eq!((&first["method"], &first["params"]["protocolVersion"]), (&json!("initialize"), &json!("2025-06-18")));
    assert_eq!(first["params"]["clientInfo"]["name"], "baton");
    assert!(posts.iter().all(|request| request.header("idempotency-key").is_empty()), "each is another request");
    let call = posts[2].json();
    assert_eq!(call["params"]["_meta"]["baton.dev/idempotencyKey"], "uid/do/0/prüfen/1", "{call}");
    assert_eq!((&call["params"]["_meta"]["mine"], posts[2].header("mcp-protocol-version")), (&json!(1), "2025-06-18"));
}

#[tokio::test]
async fn a_tool_that_fails_is_a_fault_with_its_result() {
    let failed = json!({"content": [{"type": "text", "text": "no tea"}], "isError": true});
    let told = failed.clone();
    let server = made(move |_, message| result(message, &told)).await;
    let fault = mcp(by_http(&server.url("/"), "tools/call", json!({"name": "brew"}))).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (fault_type::RUNTIME, 500, false));
    assert!(fault.to_string().contains("the tool 'brew' of the server at http://127.0.0.1"), "{fault}");
    assert_eq!(fault.data, Some(failed));
}

#[tokio::test]
async fn all_pages_of_a_list_are_read_unless_one_is_asked_for() {
    let server = made(|_, message| {
        let at: u64 = message["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
        let tool = json!({"name": format!("t{at}"), "inputSchema": {"type": "object"}});
        let mut page = json!({"tools": [tool]});
        if at < 2 || message["params"]["endless"] == true {
            page["nextCursor"] = json!((at + 1).to_string());
        }
        result(message, &page)
    })
    .await;
    let list = |parameters: Value| mcp(by_http(&server.url("/"), "tools/list", parameters));
    let all = list(Value::Null).await.unwrap();
    assert_eq!((names(&all["tools"]), all.get("nextCursor")), (vec!["t0", "t1", "t2"], None));
    let page = list(json!({"cursor": "1"})).await.unwrap();
    assert_eq!((names(&page["tools"]), &page["nextCursor"]), (vec!["t1"], &json!("2")));
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let server =
        made(|_, message| result(message, &json!({"resources": [{"uri": "a:b", "name": "n"}], "nextCursor": "again"})))
            .await;
    let fault = mcp(by_http(&server.url("/"), "resources/list", Value::Null)).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::LIMIT, true), "{fault}");
}

#[tokio::test]
async fn what_a_server_answers_wrongly_is_told() {
    let small = || ActivitiesOptions { response_bytes_max: 20_000, ..ActivitiesOptions::default() };
    let list = |server: &Server| by_http(&server.url("/"), "tools/list", Value::Null);
    let error = |code: i64| json!({"code": code, "message": "no", "data": {"why": 1}});
    let refusing = made(move |_, message| {
        axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": error(-32601)})).into_response()
    })
    .await;
    let fault = mcp(list(&refusing)).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (fault_type::RUNTIME, 400, true));
    assert_eq!(fault.data.unwrap(), error(-32601));

    let odd = made(|_, message| result(message, &json!({"prompts": []}))).await;
    let fault = mcp(list(&odd)).await.unwrap_err();
    assert!(fault.kind == fault_type::RUNTIME && fault.to_string().contains("no list 'tools'"), "{fault}");

    let large =
        made(|_, message| result(message, &json!({"content": [{"type": "text", "text": "x".repeat(30_000)}]}))).await;
    let call = by_http(&large.url("/"), "tools/call", json!({"name": "t"}));
    let fault = run(small(), "mcp", call).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::TOO_LARGE, true), "{fault}");

    let events = made(|_, message| {
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": [{"type": "text", "text": "x".repeat(30_000)}]}});
        ([("content-type", "text/event-stream")], format!("data: {answer}\n\n")).into_response()
    })
    .await;
    let call = by_http(&events.url("/"), "tools/call", json!({"name": "t"}));
    let fault = run(small(), "mcp", call).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::TOO_LARGE, true), "{fault}");

    let deep = "[".repeat(110) + &"]".repeat(110);
    let deep: Value = serde_json::from_str(&deep).unwrap();
    let nested =
        made(move |_, message| result(message, &json!({"content": [], "structuredContent": {"a": deep}}))).await;
    let fault = mcp(by_http(&nested.url("/"), "tools/call", json!({"name": "t"}))).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::LIMIT, true), "{fault}");
}

#[tokio::test]
async fn a_server_that_is_none_is_told() {
    for (status, body, kind, code, says) in [
        (StatusCode::NOT_FOUND, "", fault_type::COMMUNICATION, 404, "status 404"),
        (StatusCode::SERVICE_UNAVAILABLE, "", fault_type::COMMUNICATION, 503, "status 503"),
        (StatusCode::UNAUTHORIZED, "", fault_type::COMMUNICATION, 401, "401"),
        (StatusCode::OK, "<p>hello</p>", fault_type::RUNTIME, 502, "content type 'text/plain"),
        (StatusCode::FOUND, "", fault_type::COMMUNICATION, 302, "status 302"),
    ] {
        let server = Server::answering(move |_, _| (status, body).into_response()).await;
        let url = server.url("/?token=hunter2hunter2");
        let fault = mcp(by_http(&url, "tools/list", Value::Null)).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.status), (kind, code), "{fault}");
        assert!(fault.to_string().contains(says) && !told(&fault).contains("hunter2"), "{fault}");
    }
    let fault = mcp(by_http("http://127.0.0.1:1/", "tools/list", Value::Null)).await.unwrap_err();
    assert_eq!(
        (fault.kind.as_str(), fault.status, fault.non_retryable),
        (fault_type::COMMUNICATION, 503, false),
        "{fault}"
    );
    let closed = ActivitiesOptions {
        egress: EgressPolicy { allow_private: false, ..EgressPolicy::default() },
        ..ActivitiesOptions::default()
    };
    for host in ["127.0.0.1:1", "localhost:1"] {
        let call = by_http(&format!("http://{host}/"), "tools/list", Value::Null);
        let fault = run(closed.clone(), "mcp", call).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::AUTHORIZATION, true), "{host}: {fault}");
    }
}

#[tokio::test]
async fn a_session_is_ended_and_a_strange_version_is_refused() {
    let server = Server::answering(|_, request: &Seen| match request.method.as_str() {
        "POST" => {
            let message = request.json();
            match message["method"].as_str().unwrap() {
                "initialize" => {
                    ([("mcp-session-id", "s-1")], result(&message, &initialized("2199-01-01"))).into_response()
                }
                _ => StatusCode::ACCEPTED.into_response(),
            }
        }
        "GET" => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        _ => StatusCode::OK.into_response(),
    })
    .await;
    let fault = mcp(by_http(&server.url("/"), "tools/list", Value::Null)).await.unwrap_err();
    assert!(fault.kind == fault_type::RUNTIME && fault.to_string().contains("version '2199-01-01'"), "{fault}");
    let ended = || server.seen().iter().any(|seen| seen.method == "DELETE" && seen.header("mcp-session-id") == "s-1");
    while !ended() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let http = |headers: Value| json!({"http": {"endpoint": "http://127.0.0.1:1/", "headers": headers}});
    for (input, says) in [
        (
            json!({"method": "tools/guess", "transport": http(json!({}))}),
            "no method 'tools/guess'; methods are tools/list",
        ),
        (json!({"method": "tools/list", "parameters": [1], "transport": http(json!({}))}), "must be an object"),
        (
            json!({"method": "tools/list", "transport": http(json!({"Accept": "x"}))}),
            "the header 'accept' is the protocol's own",
        ),
        (json!({"method": "tools/list", "transport": http(json!({"a b": "x"}))}), "'a b' is not a header name"),
        (
            json!({"method": "tools/list", "transport": http(json!({"a": "hunter2\n"}))}),
            "the header 'a' holds characters",
        ),
        (json!({"method": "tools/list", "transport": {"http": {"endpoint": "here"}}}), "not an absolute URL"),
        (json!({"method": "tools/list", "transport": {}}), "cannot be used"),
    ] {
        let fault = mcp(input).await.unwrap_err();
        assert!(fault.kind == fault_type::CONFIGURATION && fault.to_string().contains(says), "{fault}");
        assert!(!told(&fault).contains("hunter2"));
    }
}

#[tokio::test]
async fn a_server_without_initialization_is_discovered() {
    let server = Server::answering(|_, request: &Seen| {
        let message = request.json();
        match message["method"].as_str().unwrap() {
            "server/discover" => result(
                &message,
                &json!({
                    "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}, "ttlMs": 0,
                    "cacheScope": "private",
                }),
            ),
            "tools/list" => {
                result(&message, &json!({"resultType": "complete", "tools": [], "ttlMs": 0, "cacheScope": "private"}))
            }
            other => panic!("{other} is not asked"),
        }
    })
    .await;
    let mut call = by_http(&server.url("/"), "tools/list", Value::Null);
    call["protocolVersion"] = json!("2026-07-28");
    assert_eq!(mcp(call).await.unwrap()["tools"], json!([]));
    let seen = server.seen();
    assert_eq!((seen.len(), seen[1].header("mcp-protocol-version")), (2, "2026-07-28"));

    let old = made(|_, message| {
        let error = json!({"code": -32601, "message": "no such method"});
        axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": error})).into_response()
    })
    .await;
    let mut call = by_http(&old.url("/"), "tools/list", Value::Null);
    call["protocolVersion"] = json!("2026-07-28");
    let fault = mcp(call).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (fault_type::RUNTIME, 400, true), "{fault}");
}

#[tokio::test]
async fn a_token_that_was_kept_and_is_refused_is_renewed_once() {
    // One path takes the first token that the authority gave, the other the second.
    let given = Arc::new(AtomicUsize::new(0));
    let server = Server::answering(move |_, request: &Seen| {
        if request.uri.path() == "/oauth2/token" {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            let token =
                json!({"access_token": format!("token-number-{number}"), "token_type": "bearer", "expires_in": 3600});
            return axum::Json(token).into_response();
        }
        let renewed = request.uri.path() == "/renewed";
        let expected = if renewed { "Bearer token-number-2" } else { "Bearer token-number-1" };
        if request.header("authorization") != expected {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        if request.method != "POST" {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let message = request.json();
        match message["method"].as_str().unwrap() {
            "initialize" => result(&message, &initialized("2025-06-18")),
            "notifications/initialized" => StatusCode::ACCEPTED.into_response(),
            _ => result(&message, &json!({"content": [{"type": "text", "text": request.header("authorization")}]})),
        }
    })
    .await;
    let world = world(ActivitiesOptions::default());
    let call = |path: &str| {
        let mut call = by_http(&server.url(path), "tools/call", json!({"name": "t"}));
        let client = json!({"id": "me", "secret": "client-secret"});
        let policy = json!({"authority": server.url("/"), "grant": "client_credentials", "client": client});
        call["transport"]["http"]["authentication"] = json!({"oauth2": policy});
        world.run(task("mcp", call, 30_000))
    };
    for path in ["/first", "/first", "/renewed"] {
        let output = call(path).await.unwrap();
        // Tokens do not come back.
        assert_eq!(output["content"][0]["text"], "Bearer ***", "{path}");
    }
    let fault = call("/first").await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status), (fault_type::COMMUNICATION, 401), "{fault}");
    let tokens = server.seen().iter().filter(|seen| seen.uri.path() == "/oauth2/token").count();
    assert_eq!(tokens, 3, "a token, and one for each refusal");
}
