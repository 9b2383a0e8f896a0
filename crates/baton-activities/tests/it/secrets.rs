//! Secrets in the inputs of activities: put in before, taken out after.

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_activities::{ActivitiesOptions, WorldActivities};
use baton_execution::{Activities as _, Fault, fault_type, secret_placeholder};
use serde_json::{Value, json};

use crate::support::{Seen, Server, TestHome, task, told};

const PASSWORD: &str = "p/ss \"wörd\"+%41\\";

fn world() -> WorldActivities {
    let secrets = [("db", [("user", "somebody"), ("password", PASSWORD)].as_slice()), ("empty", &[])];
    WorldActivities::new(ActivitiesOptions::default(), TestHome::with(&secrets)).unwrap()
}

async fn run(activity: &str, input: Value) -> Result<Value, Fault> {
    world().run(task(activity, input, 30_000)).await
}

fn password() -> String {
    secret_placeholder("db", "password")
}

/// Everything of the request, in as many forms as an answer may have.
fn echo(seen: &Seen) -> Value {
    let text = String::from_utf8_lossy(&seen.body).into_owned();
    let headers: Vec<String> =
        seen.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect();
    json!({"uri": seen.uri.to_string(), "headers": headers, "text": text, "base64": STANDARD.encode(&seen.body), "again": json!({"in": text}).to_string()})
}

#[track_caller]
fn is_hidden(told: &str) {
    let json = serde_json::to_string(PASSWORD).unwrap();
    for form in [PASSWORD, &json[1..json.len() - 1], "p%2Fss", "p/ss", "somebody", &STANDARD.encode(PASSWORD)] {
        assert!(!told.contains(form), "'{form}' in {told}");
    }
}

#[tokio::test]
async fn the_service_gets_the_values_and_history_does_not() {
    let server = Server::answering(|number, seen| {
        let status = if number == 1 { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        (status, [("content-type", "application/json")], echo(seen).to_string()).into_response()
    })
    .await;
    let input = json!({
        "method": "POST", "endpoint": server.url(&format!("/x?direct={}", secret_placeholder("db", "user"))),
        "headers": {"X-Key": format!("<{}>", secret_placeholder("db", "user"))},
        "query": {"q": password()},
        "body": {"nested": [format!("before {} after", password())], password(): 1},
        "authentication": {"basic": {"username": secret_placeholder("db", "user"), "password": password()}},
        "output": "content",
    });
    let output = run("http", input.clone()).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.json(), json!({"nested": [format!("before {PASSWORD} after")], PASSWORD: 1}));
    assert_eq!(seen.header("x-key"), "<somebody>");
    assert_eq!(seen.header("authorization"), format!("Basic {}", STANDARD.encode(format!("somebody:{PASSWORD}"))));
    let url = reqwest::Url::parse(&format!("http://x{}", seen.uri)).unwrap();
    let query: Vec<_> = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    assert_eq!(query, [("direct".to_owned(), "somebody".to_owned()), ("q".to_owned(), PASSWORD.to_owned())]);
    assert!(output["text"].as_str().unwrap().contains("before *** after"), "{output}");
    is_hidden(&output.to_string());
    let inner = STANDARD.decode(output["base64"].as_str().unwrap()).unwrap();
    is_hidden(std::str::from_utf8(&inner).unwrap());
    let fault = run("http", input.clone()).await.unwrap_err();
    assert!(told(&fault).contains("***"), "{fault:?}");
    is_hidden(&told(&fault));
    let mut raw = input;
    raw["output"] = "raw".into();
    let raw = run("http", raw).await.unwrap();
    is_hidden(std::str::from_utf8(&STANDARD.decode(raw.as_str().unwrap()).unwrap()).unwrap());
}

#[tokio::test]
async fn what_a_process_complains_of_is_cut_after_values_are_taken_out() {
    let key = "-----BEGIN KEY-----\nfirst line of it\nsecond line of it\n-----END KEY-----";
    let world =
        WorldActivities::new(ActivitiesOptions::default(), TestHome::with(&[("tls", &[("key", key)])])).unwrap();
    // All but the last line of the value is cut off, and all of it is within what is read.
    let script = "printf %s \"$KEY\" >&2; head -c \"$LEFT\" /dev/zero | tr '\\0' ' ' >&2; exit 3";
    let environment = |left: &str| json!({"KEY": secret_placeholder("tls", "key"), "LEFT": left});
    let shell = json!({"command": script, "environment": environment("4070")});
    let stdio =
        json!({"command": "sh", "arguments": ["-c", format!("{script} x")], "environment": environment("2030")});
    let mcp = json!({"method": "tools/list", "transport": {"stdio": stdio}});
    for (activity, input) in [("shell", shell), ("mcp", mcp)] {
        let fault = world.run(task(activity, input, 30_000)).await.unwrap_err();
        assert!(!told(&fault).contains("line of it") && !told(&fault).contains("END KEY"), "{fault:?}");
    }
}

#[tokio::test]
async fn what_an_activity_asks_for_itself_is_hidden_too() {
    let server = Server::answering(|_, seen| -> Response { echo(seen).to_string().into_response() }).await;
    let input = json!({"method": "GET", "endpoint": server.url("/"), "output": "content", "authentication": {"basic": {"use": "db"}}});
    // The secret has no key 'username': whatever becomes of it, no value of it is told.
    let ended = run("http", input).await;
    is_hidden(&ended.map_or_else(|fault| told(&fault), |output| output.to_string()));
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named() {
    for (name, key, kind, expected) in [
        ("dc", "user", fault_type::AUTHORIZATION, "no secret 'dc' in namespace 'default'"),
        (
            "db",
            "usr",
            fault_type::CONFIGURATION,
            "secret 'db' in namespace 'default' has no key 'usr'; keys are 'password', 'user'",
        ),
        ("empty", "a", fault_type::CONFIGURATION, "secret 'empty' in namespace 'default' has no key 'a'; it has none"),
    ] {
        let fault = run("echo", json!([secret_placeholder(name, key)])).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.non_retryable), (kind, true));
        assert_eq!(fault.detail.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn what_is_no_whole_placeholder_is_refused() {
    let whole = password();
    let percent: String = whole
        .bytes()
        .map(|byte| if byte.is_ascii() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    for (input, expected) in [
        (whole[..whole.len() - 4].to_owned(), "has cut or changed the text"),
        (STANDARD.encode(format!("user:{whole}")), "encodes a secret"),
        (format!("x{}", STANDARD.encode(&whole)), "encodes a secret"),
        (percent, "encodes a secret"),
    ] {
        let fault = run("echo", json!({"deep": [input]})).await.unwrap_err();
        assert!(fault.non_retryable && fault.detail.as_ref().unwrap().contains(expected), "{fault:?}");
    }
}

#[tokio::test]
async fn values_go_into_any_activity_and_are_not_read_again() {
    let secrets = [("a", [("b", secret_placeholder("db", "user")), ("n", "1234567".to_owned())])];
    let secrets: Vec<(&str, Vec<(&str, &str)>)> = secrets
        .iter()
        .map(|(name, keys)| (*name, keys.iter().map(|(key, value)| (*key, value.as_str())).collect()))
        .collect();
    let secrets: Vec<(&str, &[(&str, &str)])> = secrets.iter().map(|(name, keys)| (*name, keys.as_slice())).collect();
    let world = WorldActivities::new(ActivitiesOptions::default(), TestHome::with(&secrets)).unwrap();
    let mut input = json!({"value": secret_placeholder("a", "b"), "same": 1_234_567, "other": 12, "plain": "x"});
    let output = world.run(task("echo", input.clone(), 1000)).await.unwrap();
    assert_eq!(output, json!({"value": "***", "same": 1_234_567, "other": 12, "plain": "x"}), "'n' was not given");
    input["value"] = secret_placeholder("a", "n").into();
    let output = world.run(task("echo", input, 1000)).await.unwrap();
    assert_eq!(output, json!({"value": "***", "same": "***", "other": 12, "plain": "x"}));
}

#[tokio::test]
async fn what_the_installation_keeps_holds_no_secret() {
    let encoded = STANDARD.encode(format!("user:{}", password()));
    for value in [password(), format!("Bearer {}", password()), encoded] {
        let event = json!({"event": {"specversion": "1.0", "type": "t", "data": {"p": value}}});
        let fault = run("emit", event).await.unwrap_err();
        assert!(fault.non_retryable && fault.kind == fault_type::CONFIGURATION, "{fault:?}");
        is_hidden(&told(&fault));
        let filters =
            json!({"callbackToken": "t", "filters": [{"type": value}], "after": null, "sinceMs": null, "expiresMs": 1});
        assert!(run("subscribe", filters).await.unwrap_err().non_retryable);
    }
    // Without one it goes on its way, which this world does not have.
    let event = json!({"event": {"specversion": "1.0", "type": "t", "data": 1}});
    assert!(!told(&run("emit", event).await.unwrap_err()).contains("an event holds"));
}
