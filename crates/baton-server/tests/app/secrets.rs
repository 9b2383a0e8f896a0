//! Secrets: what can be written and read of them, and that a value that is used is nowhere afterwards.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::Request, http::StatusCode, response::IntoResponse as _};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use baton_proto::{
    history_v1, v1,
    v1::{Secret, Workflow, WorkflowExecution},
};
use baton_types::ErrorKind;
use futures::StreamExt as _;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{DRY, REAL, Server, document, fields, read, run, version};

const PASSWORD: &str = "p4ss/\"w+rd\" & ünder\\score%41";
const TOKEN: &str = "tok-0123456789abcdef";

fn secret(name: &str, data: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"data": data}})
}

fn keys(secret: &Secret) -> Vec<(String, String)> {
    let status = secret.status.as_ref().unwrap();
    status.keys.iter().map(|key| (key.name.clone(), key.fingerprint.clone())).collect()
}

#[tokio::test]
async fn values_go_in_and_names_come_out() {
    let server = Server::start().await;
    let app = server.app();
    let dry = app.create(read::<Secret>(secret("db", &json!({"user": "somebody"}))), DRY).await.unwrap();
    assert!(app.get::<Secret>("", "db").await.is_err());
    let created: Secret =
        server.create(secret("db", &json!({"user": "somebody", "password": PASSWORD}))).await.unwrap();
    assert_eq!(created.spec, None);
    assert_eq!(keys(&created).len(), 2);
    assert_eq!(keys(&dry.object), [("user".to_owned(), String::new())], "a trial tells nothing of a value");
    assert_ne!(keys(&created)[0].1, keys(&created)[1].1);
    let tried = async |value: &str| {
        let guess = json!({"spec": {"data": {"user": value}}});
        let tried = app.patch::<Secret>("", "db", guess, DRY).await.unwrap().object;
        (keys(&tried), tried.metadata.unwrap().generation)
    };
    assert_eq!(tried("somebody").await, tried("something").await, "nor does a trial to change it");

    let again =
        app.update(read::<Secret>(json!({"metadata": created.metadata, "status": {}})), REAL).await.unwrap().object;
    assert_eq!(again, created, "an update without values changes nothing");
    let same = json!({"spec": {"data": {"user": "somebody"}}});
    let same = app.patch::<Secret>("", "db", same, REAL).await.unwrap().object;
    assert_eq!(version(&same), version(&created), "nor does one with the same value");

    let mut changed = created.clone();
    changed.spec = Some(v1::SecretSpec { data: [("user".to_owned(), "else".to_owned())].into(), remove: Vec::new() });
    let changed = app.update(changed, REAL).await.unwrap().object;
    assert_eq!(changed.metadata.as_ref().unwrap().generation, 2);
    assert_eq!(keys(&changed)[0], keys(&created)[0], "the password stays");
    assert_ne!(keys(&changed)[1], keys(&created)[1]);

    let patch = json!({"spec": {"data": {"password": null, "pin": "123456"}}});
    let patched = app.patch::<Secret>("", "db", patch, REAL).await.unwrap().object;
    assert_eq!(keys(&patched).iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["pin", "user"]);
    let (_, listed) = app.list::<Secret>(&v1::ListRequest::default()).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&patched));
    let request = v1::WatchRequest { resource_version: version(&created), ..v1::WatchRequest::default() };
    let watched: Vec<Secret> = Box::pin(app.watch::<Secret>(&request, false).await.unwrap())
        .take(2)
        .map(|item| item.unwrap().object)
        .collect()
        .await;
    assert_eq!(watched, [changed, patched]);
    let deleted = app.delete::<Secret>(&v1::DeleteRequest { name: "db".into(), ..Default::default() }).await.unwrap();
    assert!(deleted.gone);
    let other: Secret = server.create(secret("other", &json!({"user": "somebody"}))).await.unwrap();
    assert_ne!(keys(&other)[0].1, keys(&created)[1].1, "nor does another secret with it");
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_told_without_a_value() {
    let server = Server::start().await;
    let app = server.app();
    let long = "v".repeat(64 * 1024 + 1);
    let refused =
        server.create::<Secret>(secret("Bad", &json!({"a b": TOKEN, "": TOKEN, "long": long}))).await.unwrap_err();
    assert_eq!(fields(&refused), ["metadata.name", "spec.data.", "spec.data.a b", "spec.data.long"]);
    assert!(!refused.message.contains(TOKEN) && !refused.message.contains("vvv"), "{refused}");
    let many: serde_json::Map<String, Value> = (0..129).map(|n| (format!("k{n}"), "x".into())).collect();
    let refused = server.create::<Secret>(secret("many", &many.into())).await.unwrap_err();
    assert!(refused.message.contains("has 129 keys, allowed are up to 128"), "{refused}");

    server.create::<Secret>(secret("db", &json!({"a": TOKEN}))).await.unwrap();
    for patch in
        [json!({"data": {"a": 987_654_321}}), json!({"data": "987654321"}), json!({"data": {"a": {"b": "987654321"}}})]
    {
        let refused = app.patch::<Secret>("", "db", json!({"spec": patch}), REAL).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InvalidArgument);
        assert!(refused.violations[0].field.starts_with("spec.data"), "{refused:?}");
        assert!(!format!("{refused:?}").contains("987654321"), "{refused:?}");
    }
    let both = json!({"spec": {"data": {"a": "other"}, "remove": ["a"]}});
    assert_eq!(fields(&app.patch::<Secret>("", "db", both, REAL).await.unwrap_err()), ["spec.remove[0]"]);
    server.stop().await;
}

#[tokio::test]
async fn a_manifest_that_a_client_kept_is_not_and_short_values_are_warned_of() {
    let server = Server::start().await;
    let mut object: Secret = read(secret("db", &json!({"pin": "123", "long": TOKEN})));
    let kept = "kubectl.kubernetes.io/last-applied-configuration";
    object.metadata.as_mut().unwrap().annotations =
        [(kept.to_owned(), format!("{{\"spec\":{{\"data\":{{\"long\":\"{TOKEN}\"}}}}}}"))].into();
    let written = server.app().create(object, REAL).await.unwrap();
    assert!(written.object.metadata.unwrap().annotations.is_empty());
    assert_eq!(written.warnings.len(), 2, "{:?}", written.warnings);
    assert!(
        written.warnings[0].contains("spec.data.pin") && written.warnings[1].contains(kept),
        "{:?}",
        written.warnings
    );
    server.stop().await;
}

#[tokio::test]
async fn a_workflow_is_warned_of_secrets_that_are_not_there_and_fails_where_it_needs_one() {
    let server = Server::start().await;
    let definition = json!({
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "w", "version": "1.0.0"}, "use": {"secrets": ["db"]},
        "do": [{"a": {"call": "baton.dev/echo", "with": {"x": "${ $secrets.db.user }"}}}],
    });
    let workflow = json!({"metadata": {"name": "w"}, "spec": {"definition": definition}});
    let written = server.app().create(read::<Workflow>(workflow), REAL).await.unwrap();
    assert!(matches!(written.warnings.as_slice(), [only] if only.contains("no secret 'db'")), "{:?}", written.warnings);
    server.create::<WorkflowExecution>(run("r", "w")).await.unwrap();
    let ended: WorkflowExecution = server.ended("r").await;
    let error = ended.status.unwrap().error.unwrap();
    assert_eq!(error.detail, "no secret 'db' in namespace 'default'");
    assert!(error.r#type.ends_with("/authorization") && error.status == 403, "{error:?}");
    server.stop().await;
}

/// A service that repeats in its answers all that it gets, and remembers it.
struct Echo {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    async fn start() -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let memory = Arc::clone(&seen);
        let app = Router::new().fallback(move |request: Request| {
            let memory = Arc::clone(&memory);
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let text = String::from_utf8_lossy(&body).into_owned();
                let headers: Vec<String> =
                    parts.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
                memory.lock().unwrap().push(format!("{} {headers:?} {text}", parts.uri));
                let echo = json!({"uri": parts.uri.to_string(), "headers": headers, "text": text, "base64": BASE64_STANDARD.encode(&body)});
                let status = if parts.uri.path() == "/fail" { StatusCode::CONFLICT } else { StatusCode::OK };
                (status, [("content-type", "application/json"), ("x-echo", "1")], echo.to_string()).into_response()
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, seen }
    }
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A value in the forms in which it could be somewhere.
fn forms(value: &str) -> Vec<String> {
    let json = serde_json::to_string(value).unwrap();
    let json = &json[1..json.len() - 1];
    let twice = serde_json::to_string(json).unwrap();
    let percent: String = value
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let mut forms = vec![
        value.to_owned(),
        json.to_owned(),
        twice[1..twice.len() - 1].to_owned(),
        percent.replace("%20", "+"),
        percent,
    ];
    for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let whole = engine.encode([&[0; 2][..before], value.as_bytes()].concat());
            forms.push(whole[(before * 8).div_ceil(6)..(before + value.len()) * 8 / 6].to_owned());
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

/// Where a value is, in any of its forms.
fn leaks(places: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut leaks = Vec::new();
    for (place, bytes) in places {
        let text = String::from_utf8_lossy(bytes);
        for form in [PASSWORD, TOKEN].into_iter().flat_map(forms) {
            if text.contains(&form) {
                leaks.push(format!("{place} has '{form}'"));
            }
        }
    }
    leaks
}

fn files(folder: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, places);
        } else {
            places.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

/// A workflow that uses the values in every way, with a service that repeats them.
fn using() -> Value {
    let with = |with: Value| json!({"call": "http", "with": with});
    json!({"metadata": {"name": "using"}, "spec": {"definition": {
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "using", "version": "1.0.0"},
        "use": {"secrets": ["db", "api"]},
        "do": [
            {"keep": {"set": {"dsn": "${ \"db://\" + $secrets.db.password + \"@host\" }"}, "export": {"as": "${ . }"}}},
            {"everywhere": with(json!({
                "method": "post", "endpoint": "${ $env.URL + \"/a?inline=\" + $secrets.api.token }",
                "headers": {"X-Key": "${ $secrets.api.token }"}, "query": {"q": "${ $secrets.db.password }"},
                "body": {"dsn": "${ $context.dsn }", "all": "${ $secrets }"}, "output": "response",
            }))},
            {"basic": with(json!({"method": "get", "endpoint": {"uri": "${ $env.URL }", "authentication": {"basic": {"username": "me", "password": "${ $secrets.db.password }"}}}}))},
            {"bearer": with(json!({"method": "get", "endpoint": {"uri": "${ $env.URL }", "authentication": {"bearer": {"use": "api"}}}}))},
            {"raw": with(json!({"method": "post", "endpoint": "${ $env.URL }", "body": "${ $secrets.db.password }", "output": "raw"}))},
            {"failing": {"try": [{"fail": with(json!({"method": "put", "endpoint": "${ $env.URL + \"/fail\" }", "body": {"p": "${ $secrets.db.password }"}}))}],
                "catch": {"as": "error", "do": [{"told": {"set": {"told": "${ $error }"}}}]}}},
            {"forged": with(json!({"method": "post", "endpoint": "${ $env.URL + \"/forged\" }", "body": "${ $workflow.input }"}))},
            {"echo": {"call": "baton.dev/echo", "with": {"p": "${ $secrets.db.password }", "t": "${ $secrets.api.token }"}}},
            {"fail": with(json!({"method": "delete", "endpoint": "${ $env.URL + \"/fail\" }", "headers": {"Authorization": "${ \"Token \" + $secrets.api.token }"}}))},
        ],
    }}})
}

#[tokio::test]
async fn a_value_that_was_used_is_nowhere_but_where_it_was_sent() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
    subscriber.with_writer(move || writer.clone()).try_init().unwrap();
    let echo = Echo::start().await;
    let server = Server::start().await;
    server.create::<Secret>(secret("db", &json!({"password": PASSWORD}))).await.unwrap();
    server.create::<Secret>(secret("api", &json!({"token": TOKEN}))).await.unwrap();
    server.create::<Workflow>(using()).await.unwrap();
    let forged = baton_execution::secret_placeholder("db", "password");
    let mut execution = run("r", "using");
    execution["spec"]["input"] = json!({"forged": forged});
    execution["spec"]["env"] = json!({"URL": echo.url});
    server.create::<WorkflowExecution>(execution).await.unwrap();
    let ended: WorkflowExecution = server.ended("r").await;
    let detail = ended.status.as_ref().unwrap().error.clone().unwrap_or_default().detail;
    assert!(detail.contains("409"), "the last task fails: {ended:?}");

    let seen = echo.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 7, "{seen:#?}");
    assert!(seen[0].contains(TOKEN) && seen[0].contains("db://p4ss/"), "{}", seen[0]);
    assert!(seen[1].contains(&BASE64_STANDARD.encode(format!("me:{PASSWORD}"))), "{}", seen[1]);
    assert!(seen[2].contains(&format!("Bearer {TOKEN}")) && seen[6].contains(&format!("Token {TOKEN}")), "{seen:#?}");
    let forged = &seen[5];
    assert!(
        forged.contains("/forged") && forged.contains("secret~db~password") && !forged.contains("p4ss"),
        "{forged}"
    );

    let mut places = vec![("status".to_owned(), ended.encode_to_vec())];
    let request = v1::HistoryRequest { name: "r".into(), ..Default::default() };
    let history: Vec<history_v1::HistoryEvent> =
        Box::pin(server.app().watch_history::<WorkflowExecution>(&request).await.unwrap())
            .map(Result::unwrap)
            .collect()
            .await;
    let history = serde_json::to_string(&history).unwrap();
    assert!(history.contains("***"), "what the service repeats is taken out: {history}");
    places.push(("history".to_owned(), history.into_bytes()));
    let base = format!("http://{}", server.running.address);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in [
        "/metrics",
        "/apis/baton.dev/v1/secrets",
        "/apis/baton.dev/v1/namespaces/default/secrets/db",
        "/apis/baton.dev/v1/workflowexecutions",
        "/apis/baton.dev/v1/namespaces/default/workflowexecutions/r",
        "/apis/baton.dev/v1/namespaces/default/workflowexecutions/r/history",
        "/apis/baton.dev/v1/workflows",
    ] {
        let answer = client.get(format!("{base}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        places.push((path.to_owned(), answer.bytes().await.unwrap().to_vec()));
    }
    files(server.folder.path(), &mut places);
    let Server { running, folder } = server;
    running.shutdown().await;
    files(folder.path(), &mut places);
    let logged = log.0.lock().unwrap().clone();
    assert!(String::from_utf8_lossy(&logged).contains("server stopped"), "the log is seen");
    places.push(("log".to_owned(), logged));
    assert_eq!(leaks(&places), Vec::<String>::new());
    assert!(!leaks(&[("seen".to_owned(), seen.concat().into_bytes())]).is_empty(), "the search finds what is there");
}

#[tokio::test]
async fn what_answers_a_token_does_not_bring_a_value_back() {
    let (handed, mut tokens) = tokio::sync::mpsc::unbounded_channel();
    let desk = Router::new().fallback(move |Json(task): Json<Value>| {
        assert!(task["key"] == TOKEN || task["key"] == "none", "{task}");
        handed.send(task["token"].as_str().unwrap().as_bytes().to_vec()).unwrap();
        std::future::ready(())
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, desk).await });
    let server = Server::start().await;
    // An answer while there are no secrets: that there are some is noticed afterwards.
    let plain = json!([{"ask": {"call": "http", "metadata": {"await": "callback"}, "with": {"method": "post", "endpoint": url, "body": {"key": "none", "token": "${ $task.callbackToken }"}}}}]);
    server
        .create::<WorkflowExecution>(
            json!({"metadata": {"name": "before"}, "spec": {"definition": document("before", &plain)}}),
        )
        .await
        .unwrap();
    let request = v1::CompleteCallbackRequest { callback_token: tokens.recv().await.unwrap(), output: None };
    server.app().complete_callback(&request).await.unwrap();
    server.create::<Secret>(secret("api", &json!({"token": TOKEN}))).await.unwrap();
    let with = json!({"method": "post", "endpoint": url, "body": {"key": "${ $secrets.api.token }", "token": "${ $task.callbackToken }"}});
    let ask = json!({"ask": {"call": "http", "metadata": {"await": "callback"}, "with": with}});
    let caught = json!({"try": [ask], "catch": {"as": "error", "do": [{"told": {"set": {"told": "${ $error }"}}}]}});
    let definition = json!({
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "asks", "version": "1.0.0"},
        "use": {"secrets": ["api"]}, "do": [{"asks": caught}],
    });
    server.create::<Workflow>(json!({"metadata": {"name": "asks"}, "spec": {"definition": definition}})).await.unwrap();
    let said = json!({"said": format!("your key is {TOKEN}"), "base64": BASE64_STANDARD.encode(TOKEN), TOKEN: 1});
    for (name, fails) in [("completed", false), ("failed", true)] {
        server.create::<WorkflowExecution>(run(name, "asks")).await.unwrap();
        let callback_token = tokens.recv().await.unwrap();
        if fails {
            let error = v1::Problem {
                r#type: "Wrong".into(),
                detail: TOKEN.into(),
                data: Some(v1::Json::from_value(&said)),
                ..Default::default()
            };
            let request = v1::FailCallbackRequest { callback_token, error: Some(error) };
            server.app().fail_callback(&request).await.unwrap();
        } else {
            let request = v1::CompleteCallbackRequest { callback_token, output: Some(v1::Json::from_value(&said)) };
            server.app().complete_callback(&request).await.unwrap();
        }
        let status = server.ended::<WorkflowExecution>(name).await.status.unwrap();
        assert_eq!(status.phase, "Completed", "{status:?}");
        let output: Value = serde_json::from_str(&status.output.unwrap().text).unwrap();
        let output = if fails { output["told"]["data"].clone() } else { output };
        assert_eq!(output, json!({"said": "your key is ***", "base64": BASE64_STANDARD.encode("***"), "***": 1}));
    }
    let Server { running, folder } = server;
    running.shutdown().await;
    let mut places = Vec::new();
    files(folder.path(), &mut places);
    assert_eq!(leaks(&places), Vec::<String>::new());
}
