//! Keys that agents use are seen by whoever they are sent to and by nobody else, however their receivers repeat them: not in
//! answers, streams, histories, files, logs, metrics or what the command line prints.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::{
    eventually,
    flows::{TALKS, agent, create, ended, talk},
    http::Api,
    process::{Home, Server},
    stub::{Reply, Request, Stub},
};

/// Of a Secret, which the agents name.
const KEY: &str = "sk-named/\"Zk3+w&9%41\\qQ\"-end";
/// Of a Secret that the agent's tools and tool servers name.
const TOKEN: &str = "svc-token/~J4n+p==&%2F\"r\\x";
/// Of the server's configuration.
const CONFIGURED: &str = "sk-configured-8Jw2/+=Lm5";
/// Characters of one part of a stream.
const PART_LENGTH: usize = 3;
const SECRETS: &str = "namespaces/default/secrets";

/// A value in the forms in which it could stand somewhere.
fn forms(value: &str) -> BTreeSet<String> {
    let inner = |text: &str| {
        let json = serde_json::to_string(text).unwrap();
        json[1..json.len() - 1].to_owned()
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let percent: String = value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let numbered = value.chars().fold(String::new(), |text, letter| format!("{text}\\u{:04x}", u32::from(letter)));
    let mut forms = BTreeSet::from([value.to_owned(), inner(value), inner(&inner(value)), percent, numbered]);
    for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let whole = engine.encode([&[0; 2][..before], value.as_bytes()].concat());
            forms.insert(whole[(before * 8).div_ceil(6)..(before + value.len()) * 8 / 6].to_owned());
        }
    }
    forms
}

/// Everything that was written or said anywhere, by where.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    fn get(&mut self, api: Api, path: &str) -> Value {
        let answer = api.get(path);
        let value = answer.json();
        self.add(format!("GET {path}"), [answer.head, answer.text].join("\n\n"));
        value
    }

    /// Every file below a folder, but for the configuration, which the operator has written.
    fn files(&mut self, when: &str, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.files(when, &path);
            } else if path.file_name().is_some_and(|name| name != "baton.toml") {
                self.add(format!("{} {when}", path.display()), fs::read(&path).unwrap());
            }
        }
    }

    fn leaks(&self) -> BTreeSet<String> {
        let forms: BTreeSet<String> = [KEY, TOKEN, CONFIGURED].into_iter().flat_map(forms).collect();
        let mut leaks = BTreeSet::new();
        for (place, bytes) in &self.0 {
            let text = String::from_utf8_lossy(bytes);
            for form in forms.iter().filter(|form| text.contains(form.as_str())) {
                let at = text.find(form.as_str()).unwrap_or_default();
                let from = text[..at].char_indices().rev().take(120).last().map_or(at, |(from, _)| from);
                leaks.insert(format!("{place}: {}", text[from..].chars().take(260).collect::<String>()));
            }
        }
        leaks
    }
}

/// The key that a request brings.
fn key_in(request: &Request) -> String {
    let bearer = request.header("authorization").trim_start_matches("Bearer ");
    [bearer, request.header("x-api-key"), request.header("x-goog-api-key")].concat()
}

/// The key in every form, as a sentence.
fn repeated(key: &str) -> String {
    let all: Vec<String> = forms(key).into_iter().collect();
    format!("your key is {key}; {}; {}", all.join(" and "), BASE64_STANDARD.encode(format!("user:{key}")))
}

fn chat(message: &Value, finish: &str) -> Value {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 4});
    json!({"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage})
}

/// A stream of server-sent events.
fn events(frames: impl IntoIterator<Item = Value>, end: &str) -> Reply {
    let frames = frames.into_iter().fold(String::new(), |text, frame| format!("{text}data: {frame}\n\n"));
    Reply::Raw(200, "content-type: text/event-stream\r\n".to_owned(), format!("{frames}{end}").into_bytes())
}

fn delta(delta: &Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

/// A text in parts of a few characters, each within a message.
fn parts(text: &str, within: impl Fn(&str) -> Value) -> Vec<Value> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(PART_LENGTH).map(|part| within(&part.iter().collect::<String>())).collect()
}

/// Has the model call `note` with the key, once.
fn calling(key: &str) -> Value {
    let arguments = json!({"token": key, key: [repeated(key)], "base64": BASE64_STANDARD.encode(key)}).to_string();
    let call =
        json!({"id": format!("call-{key}"), "type": "function", "function": {"name": "note", "arguments": arguments}});
    chat(&json!({"content": repeated(key), "reasoning_content": repeated(key), "tool_calls": [call]}), "tool_calls")
}

/// A server of tools that repeats its token: as a text, as data, as a failure, and as an error.
fn tools(request: &Request, said: &str) -> Reply {
    let question = request.json();
    let result = match question["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "tools", "version": "1"},
        }),
        "tools/list" => {
            let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
            json!({"tools": [tool("says"), tool("fails"), tool("breaks")]})
        }
        "tools/call" => match question["params"]["name"].as_str().unwrap_or_default() {
            "says" => json!({"content": [{"type": "text", "text": said}], "structuredContent": {"said": said}}),
            "fails" => json!({"content": [{"type": "text", "text": said}], "isError": true}),
            _ => {
                let error = json!({"code": -32000, "message": said, "data": {"said": said}});
                return Reply::Json(json!({"jsonrpc": "2.0", "id": question["id"], "error": error}));
            }
        },
        // No stream of its own, and nothing to say to a notification.
        _ => return Reply::Raw(if question.is_null() { 405 } else { 202 }, String::new(), Vec::new()),
    };
    Reply::Json(json!({"jsonrpc": "2.0", "id": question["id"], "result": result}))
}

/// An agent whose tools use a token, and repeat it.
fn using(stub: Stub) -> Value {
    let operation = |name: &str| json!({"get": {"operationId": name, "responses": {"200": {"description": "said"}}}});
    let document = json!({
        "openapi": "3.1.0", "info": {"title": "Tools", "version": "1"}, "servers": [{"url": stub.url()}],
        "paths": {"/plainly": operation("plainly"), "/refused": operation("refused")},
    });
    let tool = |name: &str| {
        let operation = json!({"operationId": name, "authentication": {"bearer": {"use": "service"}}, "document": {"content": document}});
        json!({"name": name, "description": "Says something", "readOnly": true, "openapi": operation})
    };
    let names = ["plainly", "refused", "served__says", "served__fails", "served__breaks"];
    let calls: Vec<Value> = names.iter().map(|name| json!({"name": name, "arguments": {}})).collect();
    let turns = json!([{"toolCalls": calls}, {"text": "done"}]);
    let mut agent = agent(
        "using",
        &json!({"name": "script", "provider": "playback", "playback": {"conversations": [{"turns": turns}]}}),
    );
    let token = json!({"secret": "service", "key": "token"});
    let http = json!({"url": format!("{}/tools", stub.url()), "headers": {"x-token": token}, "authentication": {"bearer": {"token": token}}});
    agent["spec"]["tools"] = json!([tool("plainly"), tool("refused")]);
    agent["spec"]["toolServers"] =
        json!([{"server": "served", "readOnly": ["*"], "definition": {"http": http, "lifecycle": "legacy"}}]);
    agent
}

/// A model that repeats the key that it is given, in the way that the path names; with it, what its tools were sent.
fn model() -> (Stub, Arc<Mutex<Vec<Vec<u8>>>>) {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let keeping = Arc::clone(&noted);
    let stub = Stub::start(move |request| {
        let key = key_in(request);
        // Tools of the agent itself are given none.
        let said = if key.is_empty() { String::new() } else { repeated(&key) };
        let head = |more: &str| format!("content-type: application/json\r\nx-your-key: {key}\r\n{more}");
        let answered =
            request.json()["messages"].as_array().is_some_and(|all| all.iter().any(|one| one["role"] == "tool"));
        match request.path.split(['/', '?']).nth(1).unwrap_or_default() {
            "note" => {
                keeping.lock().unwrap().push([request.body.clone(), request.path.clone().into_bytes()].concat());
                Reply::Json(json!({"noted": true}))
            }
            "calls" | "asks" if !answered => Reply::Json(calling(&key)),
            "nameless" if !answered => {
                let call = json!({"id": "c", "type": "function", "function": {"name": key, "arguments": "{}"}});
                Reply::Json(chat(&json!({"tool_calls": [call]}), "tool_calls"))
            }
            "tools" => tools(request, &said),
            "stream" => {
                let text = parts(&said, |part| delta(&json!({"content": part, "reasoning_content": part})));
                let end = json!({"model": key, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
                events(text.into_iter().chain([end]), "data: [DONE]\n\n")
            }
            "stream-calls" if !answered => {
                let arguments = json!({"token": key, "said": said}).to_string();
                let begin =
                    json!({"index": 0, "id": "c", "type": "function", "function": {"name": "note", "arguments": ""}});
                let begin = delta(&json!({"tool_calls": [begin]}));
                let parts = parts(&arguments, |part| {
                    delta(&json!({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
                });
                let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]});
                events([begin].into_iter().chain(parts).chain([end]), "data: [DONE]\n\n")
            }
            "stream-error" => {
                events([delta(&json!({"content": said})), json!({"error": {"message": said, "code": key}})], "")
            }
            "stream-cut" => events(parts(&said, |part| delta(&json!({"content": part}))), ""),
            "stream-broken" => events([delta(&json!({"content": said}))], &format!("data: {{\"key\": \"{key}\n\n")),
            "refused" => Reply::Raw(401, head(""), json!({"error": {"message": said}}).to_string().into_bytes()),
            "broken" => Reply::Raw(500, head(""), said.into_bytes()),
            "cut-error" => Reply::Raw(400, head(""), format!("{}{key}", "x".repeat(990)).into_bytes()),
            "nonsense" => Reply::Raw(200, "content-type: text/html\r\n".to_owned(), format!("<p>{said}").into_bytes()),
            "other" => Reply::Json(json!({"key": said})),
            "redirect" => Reply::Raw(302, head(&format!("location: /stolen?key={key}\r\n")), Vec::new()),
            "half" => Reply::Half,
            "reset" => Reply::Raw(200, "content-length: 5\r\n".to_owned(), Vec::new()),
            "anthropic" => Reply::Json(json!({
                "type": "message", "model": key, "content": [{"type": "thinking", "thinking": said, "signature": said}, {"type": "text", "text": said}],
                "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1},
            })),
            "gemini" => Reply::Json(json!({
                "modelVersion": key, "candidates": [{"content": {"parts": [{"text": said, "thoughtSignature": said}]}, "finishReason": "STOP"}],
            })),
            "responses" => {
                Reply::Raw(400, head(""), json!({"error": {"message": said, "type": key}}).to_string().into_bytes())
            }
            "ollama" => Reply::Json(
                json!({"model": key, "message": {"role": "assistant", "content": said}, "done": true, "done_reason": "stop"}),
            ),
            _ => Reply::Json(chat(&json!({"content": said}), "stop")),
        }
    });
    (stub, noted)
}

/// Ways in which a model repeats its key: the path, the provider, and how the run ends.
const WAYS: [(&str, &str, &str); 21] = [
    ("plain", "openai", "Completed"),
    ("configured", "openai", "Completed"),
    ("calls", "openai", "Completed"),
    ("nameless", "openai", "Completed"),
    ("stream", "openai", "Completed"),
    ("stream-calls", "openai", "Completed"),
    ("anthropic", "anthropic", "Completed"),
    ("gemini", "gemini", "Completed"),
    ("ollama", "ollama", "Completed"),
    ("stream-error", "openai", "Failed"),
    ("stream-cut", "openai", "Failed"),
    ("stream-broken", "openai", "Failed"),
    ("refused", "openai", "Failed"),
    ("broken", "openai", "Failed"),
    ("cut-error", "openai", "Failed"),
    ("nonsense", "openai", "Failed"),
    ("other", "openai", "Failed"),
    ("redirect", "openai", "Failed"),
    ("half", "openai", "Failed"),
    ("reset", "openai", "Failed"),
    ("responses", "openai-responses", "Failed"),
];

/// An agent whose model is at this path.
fn repeating(stub: Stub, name: &str, provider: &str) -> Value {
    let mut model = json!({
        "name": "m", "provider": provider, "baseUrl": format!("{}/{name}", stub.url()),
        "apiKey": {"secret": "models", "key": "key"}, "retry": {"maximumAttempts": 2, "initialInterval": "1ms"},
    });
    if name == "configured" {
        // Where the server's own key belongs.
        model = json!({"name": "m", "provider": provider});
    }
    let mut agent = agent(name, &model);
    let tool = |name: &str| json!({"name": name, "description": "Notes it", "http": {"method": "POST", "url": format!("{}/note", stub.url())}});
    agent["spec"]["tools"] = json!([tool("note")]);
    agent["spec"]["policy"] = json!({"default": if name == "asks" { "ask" } else { "allow" }});
    agent
}

#[test]
fn a_key_is_seen_by_nobody_but_the_service_that_it_is_for() {
    let (stub, noted) = model();
    let home = Home::new();
    home.configure(&format!(
        "[store]\nfree-min = \"0B\"\n[models.openai]\nbase-url = \"{}/configured\"\napi-key = \"{CONFIGURED}\"\n",
        stub.url()
    ));
    let mut command = home.server_command();
    command.args(["--log-level", "trace"]);
    let server = Server::start(command);
    let api = server.api;
    let mut seen = Seen::default();
    let watches: Vec<_> = [TALKS, SECRETS, "approvals"]
        .into_iter()
        .map(|path| (path, api.open("GET", &format!("{path}?watch=true"), &[], 0).unwrap()))
        .collect();

    for (name, data) in [("models", json!({"key": KEY})), ("service", json!({"token": TOKEN}))] {
        let secret =
            json!({"apiVersion": "baton.dev/v1", "kind": "Secret", "metadata": {"name": name}, "spec": {"data": data}});
        let created = api.post(SECRETS, &secret);
        assert_eq!(created.status, 201, "{}", created.text);
        seen.add("the answer to the secret", created.text);
    }
    for (name, provider, phase) in WAYS {
        create(api, &repeating(stub, name, provider));
        if name.starts_with("stream") {
            streamed(api, name, &mut seen);
        } else {
            api.post(TALKS, &talk(name, name)).expect(201);
        }
        let run = ended(api, TALKS, name);
        assert_eq!(run["status"]["phase"], phase, "{name}: {run}");
        if phase == "Completed" && !matches!(name, "calls" | "nameless" | "stream-calls") {
            assert!(run["status"]["output"].as_str().unwrap().starts_with("your key is ***; "), "{name}: {run}");
        }
    }
    create(api, &using(stub));
    api.post(TALKS, &talk("using", "using")).expect(201);
    let run = ended(api, TALKS, "using");
    assert_eq!(run["status"]["output"], "done", "{run}");
    let history = api.get(&format!("{TALKS}/using/history?limit=1000")).text;
    assert!(history.matches("your key is ***; ").count() >= 5, "each tool said it: {history}");
    decisions(api, stub, &mut seen);
    command_line(&home, &server, &mut seen);
    everything_that_can_be_read(api, &mut seen);

    seen.files("while the server runs", home.folder());
    let output = server.stop();
    assert_eq!(output.code, 0);
    for (path, watch) in watches {
        let watched = watch.finish().unwrap();
        assert!(!watched.text.is_empty(), "something happened in {path}");
        seen.add(format!("the watch of {path}"), watched.text);
    }
    assert!(output.stderr.contains("TRACE") && output.stderr.contains("DEBUG"), "everything is logged");
    seen.add("stdout of the server", output.stdout);
    seen.add("the log", output.stderr);
    seen.files("after the end", home.folder());

    let noted = noted.lock().unwrap().clone();
    assert_eq!(noted.len(), 3, "the tools were called, with what is left of the arguments");
    for body in noted {
        seen.add("what a tool was sent", body);
    }
    let leaks = seen.leaks();
    assert!(leaks.is_empty(), "{} leaks: {leaks:#?}", leaks.len());
    check_the_search();
}

/// A run whose words are heard as they come: what is told in parts is searched as a whole.
fn streamed(api: Api, name: &str, seen: &mut Seen) {
    let mut object = talk(name, name);
    object["spec"]["suspend"] = json!(true);
    api.post(TALKS, &object).expect(201);
    let stream = api.follow(&format!("{TALKS}/{name}/stream")).unwrap();
    api.post(&format!("{TALKS}/{name}/resume"), &json!({})).expect(200);
    let text = stream.finish().unwrap().text;
    let mut told = [String::new(), String::new(), String::new()];
    for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let delta = serde_json::from_str::<Value>(line).unwrap()["delta"].take();
        let parts = [&delta["text"], &delta["reasoning"], &delta["toolCall"]["arguments"]];
        for (told, part) in told.iter_mut().zip(parts) {
            told.push_str(part.as_str().unwrap_or_default());
        }
    }
    assert!(told.iter().any(|told| told.contains("your key is ***; ")), "{name}: {told:?}");
    for told in told {
        seen.add(format!("what is told of {name} in parts, as a whole"), told);
    }
    seen.add(format!("the stream of {name}"), text);
}

/// A person is asked about a call that holds the key, and gives it in every place of a decision.
fn decisions(api: Api, stub: Stub, seen: &mut Seen) {
    create(api, &repeating(stub, "asks", "openai"));
    for (name, decision) in [("asks-denied", "deny"), ("asks-approved", "approve")] {
        api.post(TALKS, &talk(name, "asks")).expect(201);
        let approval = eventually("a person is asked", || {
            let run = api.get(&format!("{TALKS}/{name}")).expect(200);
            run["status"]["waitingFor"][0]["approval"].as_str().map(str::to_owned)
        });
        let path = format!("namespaces/default/approvals/{approval}");
        let asked = seen.get(api, &path);
        assert_eq!(asked["spec"]["arguments"]["token"], "***", "{asked}");
        let digest = &asked["spec"]["argumentsDigest"];
        for arguments in [json!({"token": KEY}), json!({"token": BASE64_STANDARD.encode(KEY)})] {
            let pasted = json!({"decision": "approve", "argumentsDigest": digest, "arguments": arguments});
            let refused = api.post(&format!("{path}/decide"), &pasted);
            assert_eq!(refused.status, 400, "{}", refused.text);
            seen.add("the refusal", refused.text);
        }
        let body = json!({"decision": decision, "argumentsDigest": digest, "reason": repeated(KEY)});
        let decided = api.post(&format!("{path}/decide"), &body);
        assert_eq!(decided.status, 200, "{}", decided.text);
        seen.add("the decision", decided.text);
        assert_eq!(ended(api, TALKS, name)["status"]["phase"], "Completed");
    }
}

fn command_line(home: &Home, server: &Server, seen: &mut Seen) {
    let names = WAYS.iter().map(|(name, ..)| *name).chain(["using", "asks-denied", "asks-approved"]);
    let mut all: Vec<Vec<&str>> = vec![
        vec!["get", "agx", "-o", "yaml"],
        vec!["get", "secrets", "-o", "json"],
        vec!["describe", "secret", "models"],
        vec!["approvals", "--all"],
        vec!["get", "approvals", "-o", "yaml"],
    ];
    for name in names {
        all.push(vec!["describe", "agx", name]);
        all.push(vec!["history", "agx", name]);
    }
    for args in all {
        let output = home.run(server, &[args.as_slice(), &["--log-level", "trace"]].concat());
        assert_eq!(output.code, 0, "{args:?}: {output:?}");
        seen.add(format!("baton {}", args.join(" ")), [output.stdout, output.stderr].concat());
    }
}

/// Every path that shows something of an execution, and the rest.
fn everything_that_can_be_read(api: Api, seen: &mut Seen) {
    let list = seen.get(api, TALKS);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), WAYS.len() + 3);
    for item in items {
        let name = item["metadata"]["name"].as_str().unwrap();
        for rest in ["", "/status", "/output", "/history", "/history?follow=true", "/callbacks", "/stream"] {
            seen.get(api, &format!("{TALKS}/{name}{rest}"));
        }
    }
    for path in ["/metrics", "/", SECRETS, "namespaces/default/secrets/models", "approvals", "agents"] {
        seen.get(api, path);
    }
}

/// The search finds what is there, in each of the forms.
fn check_the_search() {
    for form in [KEY, TOKEN, CONFIGURED].into_iter().flat_map(forms) {
        let mut control = Seen::default();
        control.add("control", format!("before {form} after"));
        assert!(!control.leaks().is_empty(), "{form}");
    }
    for before in ["", "u", "us", "user:"] {
        let mut control = Seen::default();
        control.add("control", BASE64_STANDARD.encode(format!("{before}{KEY}")));
        assert!(!control.leaks().is_empty(), "{before}");
    }
}
