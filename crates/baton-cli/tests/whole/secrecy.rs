//! A callback token is seen by whoever it is handed to and by nobody else: not in logs, answers, streams, histories,
//! files or what the command line prints. Its fingerprint is.

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
use baton_proto::v1;
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    eventually,
    flows::{
        RUNS, TALKS, agent, answer, call_and_wait, create, ended, mailbox, run, run_workflow, scripted, talk, workflow,
    },
    http::{Answer, Api, find},
    process::{Home, Server},
    stub::{Reply, Request, Stub},
};

/// How every token begins.
const PREFIX: &str = "baton1.";
/// Characters after the prefix from which on it is a token and not a word about tokens.
const TOKEN_LENGTH_MIN: usize = 16;
/// Bytes of a token's ciphertext that are looked for.
const CIPHERTEXT_BYTES: usize = 16;

/// Everything that was written or said anywhere, by where.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    /// An answer whole, head and body.
    fn answer(&mut self, place: &str, answer: Answer) -> Value {
        let value = answer.json();
        self.add(format!("the answer to {place}"), [answer.head, answer.text].join("\n\n"));
        value
    }

    fn get(&mut self, api: Api, path: &str) -> Value {
        self.answer(&format!("GET {path}"), api.get(path))
    }

    fn post(&mut self, api: Api, path: &str, body: &Value) -> Value {
        self.answer(&format!("POST {path}"), api.post(path, body))
    }

    /// Every file of a folder. The key is what tokens are made with, not one of them.
    fn files(&mut self, when: &str, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            self.add(format!("{} {when}", path.file_name().unwrap().to_string_lossy()), fs::read(&path).unwrap());
        }
    }

    /// Where any of these tokens is, or any other, in one form or another.
    fn leaks(&self, tokens: &BTreeSet<String>) -> BTreeSet<String> {
        let texts: Vec<String> = tokens.iter().map(|token| token[PREFIX.len()..].to_owned()).collect();
        let ciphertexts: Vec<Vec<u8>> = texts
            .iter()
            .map(|text| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()[..CIPHERTEXT_BYTES].to_vec())
            .collect();
        let encoded = encoded(PREFIX);
        let mut leaks = BTreeSet::new();
        for (place, bytes) in &self.0 {
            // Compiled with optimisation, unlike a search of our own.
            let text = String::from_utf8_lossy(bytes);
            for (form, at) in plain(&text)
                .into_iter()
                .chain(encoded.iter().filter_map(|form| text.find(form.as_str()).map(|at| ("base64 of a token", at))))
            {
                leaks.insert(format!("{form} in {place}: {}", around(&text, at)));
            }
            for token in texts.iter().filter(|token| text.contains(token.as_str())) {
                leaks.insert(format!("the token {token} without its prefix in {place}"));
            }
            // On the disk a token would do harm in its binary form too.
            if place.starts_with("baton.") && ciphertexts.iter().any(|ciphertext| find(bytes, ciphertext).is_some()) {
                leaks.insert(format!("the bytes of a token in {place}"));
            }
        }
        leaks
    }

    /// Places in which a text stands.
    fn places(&self, text: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains(text))
            .map(|(place, _)| place.as_str())
            .collect()
    }
}

/// Where a token stands as it is.
fn plain(text: &str) -> Vec<(&'static str, usize)> {
    let is_of_token = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let is_token = |at: usize| text[at + PREFIX.len()..].chars().take_while(is_of_token).count() >= TOKEN_LENGTH_MIN;
    text.match_indices(PREFIX).map(|(at, _)| at).filter(|at| is_token(*at)).map(|at| ("a token", at)).take(3).collect()
}

/// What base64 makes of a text, wherever in the encoded bytes it begins.
fn encoded(text: &str) -> Vec<String> {
    let shifted = |before: usize| {
        let whole = BASE64_STANDARD_NO_PAD.encode([vec![0; before], text.as_bytes().to_vec()].concat());
        // The first and last characters depend on what stands beside.
        whole[(before * 8).div_ceil(6)..(before + text.len()) * 8 / 6].to_owned()
    };
    (0..3).map(shifted).collect()
}

fn around(text: &str, at: usize) -> String {
    let start = text[..at].char_indices().rev().take(160).last().map_or(at, |(start, _)| start);
    text[start..].chars().take(320).collect()
}

fn fingerprint(token: &str) -> String {
    baton_types::fingerprint(token.as_bytes())
}

/// The world outside: it keeps every token that it is handed, and repeats it in all the ways that it can.
fn world() -> (Stub, Arc<Mutex<Vec<String>>>) {
    let handed = Arc::new(Mutex::new(Vec::new()));
    let keeping = Arc::clone(&handed);
    let stub = Stub::start(move |request| {
        let token = token_in(request);
        if token.starts_with(PREFIX) {
            keeping.lock().unwrap().push(token.clone());
        }
        let echo = json!({"token": token, token.clone(): [format!("your token is {token}, thank you")], "base64": BASE64_STANDARD.encode(&token)});
        let head = format!("content-type: application/json\r\nx-your-token: {token}\r\n");
        match request.path.split(['/', '?']).nth(1).unwrap_or_default() {
            "broken" => Reply::Raw(500, head, echo.to_string().into_bytes()),
            "refused" => Reply::Raw(
                400,
                format!("content-type: text/plain\r\nlocation: /hook/{token}\r\n"),
                format!("no: {token}").into_bytes(),
            ),
            "half" => Reply::Half,
            _ => Reply::Raw(200, head, echo.to_string().into_bytes()),
        }
    });
    (stub, handed)
}

/// Wherever the caller put it.
fn token_in(request: &Request) -> String {
    let body = request.json();
    let places = [body["token"].as_str().unwrap_or_default(), request.header("x-token"), &request.path];
    let found = places.into_iter().find_map(|place| place.find(PREFIX).map(|at| &place[at..])).unwrap_or_default();
    found.chars().take_while(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')).collect()
}

/// Workflows that hand their token out in a way of their own, and whether the call itself fails.
fn handing(url: &str) -> Vec<(&'static str, Value, bool)> {
    let token = json!({"token": "${ $task.callbackToken }"});
    let mut whole = call_and_wait(&format!("{url}/hook"), &token);
    whole["with"]["output"] = json!("response");
    let mut raw = call_and_wait(&format!("{url}/hook"), &token);
    raw["with"]["output"] = json!("raw");
    let mut header = call_and_wait(&format!("{url}/hook"), &Value::Null);
    header["with"]["headers"] = json!({"x-token": "${ $task.callbackToken }"});
    let mut query = call_and_wait(&format!("{url}/hook"), &Value::Null);
    query["with"]["query"] = json!({"token": "${ $task.callbackToken }"});
    let path = |start: &str| call_and_wait(&format!("${{ \"{start}/\" + $task.callbackToken }}"), &json!({}));
    vec![
        ("body", call_and_wait(&format!("{url}/hook"), &token), false),
        ("whole", whole, false),
        ("raw", raw, false),
        ("header", header, false),
        ("query", query, false),
        ("path", path(&format!("{url}/hook")), false),
        ("broken", call_and_wait(&format!("{url}/broken"), &token), true),
        ("refused", call_and_wait(&format!("{url}/refused"), &token), true),
        ("broken-path", path(&format!("{url}/broken")), true),
        ("half-path", path(&format!("{url}/half")), true),
        // Nobody listens there.
        ("nobody", path("http://127.0.0.1:1"), true),
    ]
}

#[test]
fn a_token_is_seen_by_nobody_but_its_holder() {
    let home = Home::new();
    let mut command = home.server_command();
    command.args(["--log-level", "trace"]);
    let server = Server::start(command);
    let api = server.api;
    let mut seen = Seen::default();
    let mut tokens = BTreeSet::new();
    let watches: Vec<_> = [RUNS, TALKS]
        .into_iter()
        .map(|path| (path, api.open("GET", &format!("{path}?watch=true"), &[], 0).unwrap()))
        .collect();

    tokens.extend(waits_that_are_answered(api, &mut seen));
    tokens.extend(handshakes_and_callers(api, &mut seen));
    tokens.extend(mistakes(api, &mut seen));
    tokens.extend(import(api, &mut seen));
    tokens.extend(command_line(&home, &server, &mut seen));
    everything_that_can_be_read(api, &mut seen);

    seen.files("while the server runs", &home.data_dir());
    let output = server.stop();
    assert_eq!(output.code, 0);
    for (path, watch) in watches {
        seen.answer(&format!("the watch of {path}"), watch.finish().unwrap());
    }
    assert!(output.stderr.contains("TRACE") && output.stderr.contains("DEBUG"), "everything is logged");
    seen.add("stdout of the server", output.stdout);
    seen.add("the log", output.stderr);
    seen.files("after the end", &home.data_dir());

    assert!(tokens.len() > 20, "{} tokens were handed out", tokens.len());
    let leaks = seen.leaks(&tokens);
    assert!(leaks.is_empty(), "{} leaks: {leaks:#?}", leaks.len());
    check_the_search(&seen, &tokens);
}

/// The search finds what is there: fingerprints in all places, and tokens in all forms.
fn check_the_search(seen: &Seen, tokens: &BTreeSet<String>) {
    let places: BTreeSet<&str> = tokens.iter().flat_map(|token| seen.places(&fingerprint(token))).collect();
    for place in [
        "GET namespaces",
        "watch of",
        "baton.db after the end",
        "baton get",
        "baton describe",
        "baton history",
        "baton callback",
    ] {
        assert!(places.iter().any(|found| found.contains(place)), "no fingerprint in any {place}: {places:#?}");
    }
    let token = tokens.first().unwrap();
    let ciphertext = BASE64_URL_SAFE_NO_PAD.decode(&token[PREFIX.len()..]).unwrap();
    let forms = [
        token.clone(),
        BASE64_STANDARD.encode(token),
        BASE64_STANDARD.encode(format!("x{token}")),
        BASE64_STANDARD.encode(format!("{{\"{token}")),
        token[PREFIX.len()..].to_owned(),
    ];
    for bytes in forms.into_iter().map(String::into_bytes).chain([ciphertext]) {
        let mut control = Seen::default();
        control.add("baton.control", [b"before ".to_vec(), bytes.clone(), b" after".to_vec()].concat());
        assert!(!control.leaks(tokens).is_empty(), "{}", String::from_utf8_lossy(&bytes));
    }
}

/// Waits of all kinds; the ones that go well are answered, and the answer repeats the token.
fn waits_that_are_answered(api: Api, seen: &mut Seen) -> Vec<String> {
    let (stub, handed) = world();
    for (number, (name, task, fails)) in handing(&stub.url()).into_iter().enumerate() {
        create(api, &workflow(name, &json!([{"wait": task}])));
        seen.post(api, RUNS, &run(name, name));
        if !fails {
            let token = eventually("the token is handed out", || handed.lock().unwrap().get(number).cloned());
            let output = json!({"token": token, "of": [format!("{token}!")], "base64": BASE64_STANDARD.encode(&token)});
            let answered = seen.post(api, "callbacks:complete", &json!({"token": token, "output": output}));
            assert_eq!(answered["fingerprint"], json!(fingerprint(&token)), "{name}: {answered}");
            seen.post(api, "callbacks:heartbeat", &json!({"token": token}));
        }
        let ended = ended(api, RUNS, name);
        assert_eq!(ended["status"]["phase"], if fails { "Failed" } else { "Completed" }, "{name}: {ended}");
    }
    // A wait that fails with its token in the answer, one that is cancelled, one that is deleted.
    for (name, verb) in [("fails", "fail"), ("cancels", "cancel"), ("deletes", "")] {
        create(
            api,
            &workflow(
                name,
                &json!([{"wait": call_and_wait(&format!("{}/hook", stub.url()), &json!({"token": "${ $task.callbackToken }"}))}]),
            ),
        );
        let known = handed.lock().unwrap().len();
        seen.post(api, RUNS, &run(name, name));
        let token = eventually("the token is handed out", || handed.lock().unwrap().get(known).cloned());
        match verb {
            "fail" => drop(seen.post(api, "callbacks:fail", &json!({"token": token, "error": {"type": "https://example.com/no", "title": format!("no {token}"), "detail": format!("not {token}"), "data": {"token": token}}}))),
            "cancel" => drop(seen.post(api, "callbacks:cancel", &json!({"token": token, "reason": format!("because of {token}")}))),
            _ => drop(seen.answer("DELETE", api.delete(&format!("{RUNS}/{name}")))),
        }
        if !verb.is_empty() {
            assert_eq!(ended(api, RUNS, name)["status"]["phase"], "Failed", "{name}");
        }
    }
    handed.lock().unwrap().clone()
}

/// Executions that wait for each other, and callers outside that wait for them.
fn handshakes_and_callers(api: Api, seen: &mut Seen) -> Vec<String> {
    create(api, &workflow("quick", &json!([{"say": {"set": {"said": true}}}])));
    create(api, &workflow("sleeps", &json!([{"sleep": {"wait": {"hours": 1}}}])));
    create(api, &agent("helper", &scripted("pong")));
    let ask = json!({"call": "baton.dev/agent", "with": {"agent": "helper", "message": "ping"}});
    create(api, &workflow("asks", &json!([{"child": run_workflow("quick", &json!({}))}, {"ask": ask}])));
    let mut tokens = Vec::new();
    for (collection, object) in [
        (RUNS, run("asks", "asks")),
        (TALKS, talk("talk", "helper")),
        (RUNS, run("sleeps", "sleeps")),
        (RUNS, run("gone", "sleeps")),
    ] {
        let (own, attached) = (mailbox(api), mailbox(api));
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut object = object;
        object["spec"]["callbackToken"] = json!(own);
        object["spec"]["requestId"] = json!("one");
        let created = seen.post(api, collection, &object);
        assert_eq!(created["kind"].as_str().map(|kind| kind.ends_with("Execution")), Some(true), "{created}");
        seen.post(api, &format!("{collection}/{name}/callbacks"), &json!({"token": attached}));
        seen.post(api, collection, &object);
        object["spec"]["callbackToken"] = json!(BASE64_STANDARD.encode(mailbox(api)));
        seen.answer(
            "PUT",
            api.send(
                "PUT",
                &format!("{collection}/{name}"),
                &[("content-type", "application/json")],
                object.to_string().as_bytes(),
            )
            .unwrap(),
        );
        match name.as_str() {
            "sleeps" => drop(seen.post(api, &format!("{collection}/{name}/cancel"), &json!({"reason": "enough"}))),
            "gone" => drop(seen.answer("DELETE", api.delete(&format!("{collection}/{name}")))),
            _ => drop(ended(api, collection, &name)),
        }
        for token in [&own, &attached] {
            let answered = answer(api, token);
            let expected = if matches!(name.as_str(), "sleeps" | "gone") { "Cancelled" } else { "Completed" };
            assert_eq!(answered["state"], expected, "{name}: {answered}");
            seen.add(format!("the answer of {name}"), answered.to_string());
        }
        tokens.extend([own, attached]);
    }
    tokens
}

/// Tokens in wrong places, and wrong ones in the right places.
fn mistakes(api: Api, seen: &mut Seen) -> Vec<String> {
    let token = mailbox(api);
    let changed: String = token
        .chars()
        .rev()
        .enumerate()
        .map(|(at, letter)| if at == 20 { if letter == 'A' { 'B' } else { 'A' } } else { letter })
        .collect::<String>()
        .chars()
        .rev()
        .collect();
    for verb in ["await", "complete", "fail", "cancel", "heartbeat"] {
        for body in [
            json!({"token": changed}),
            json!({"callbackToken": changed}),
            json!({"token": [token]}),
            json!({"tokens": token}),
            json!({"token": token, "callbackToken": token}),
        ] {
            let answer = api.post(&format!("callbacks:{verb}"), &body);
            assert_eq!(answer.status, 400, "{verb}: {}", answer.text);
            seen.answer(verb, answer);
        }
        let header = [("content-type", "application/json"), ("baton-callback-token", changed.as_str())];
        seen.answer(verb, api.send("POST", &format!("callbacks:{verb}"), &header, b"{}").unwrap());
        seen.answer(
            verb,
            api.send(
                "POST",
                &format!("callbacks:{verb}"),
                &header[..1],
                format!("{{\"token\": \"{token}\", ").as_bytes(),
            )
            .unwrap(),
        );
    }
    let mut object = run("misplaced", "quick");
    object["spec"]["callbackToken"] = json!(changed);
    seen.post(api, RUNS, &object);
    object["status"] = json!({"callbackToken": token});
    seen.post(api, RUNS, &object);
    seen.post(api, &format!("{RUNS}/asks/callbacks"), &json!({"token": changed}));
    vec![token, changed]
}

/// An execution as an older system serialized it: the token is in status, and with it is one that differs.
fn import(api: Api, seen: &mut Seen) -> Vec<String> {
    let (token, other) = (mailbox(api), mailbox(api));
    let serialized = |name: &str, in_spec: Option<&str>| {
        let metadata = Some(v1::ObjectMeta { name: name.to_owned(), ..Default::default() });
        let callback_token = in_spec.map(|token| token.as_bytes().to_vec());
        let spec =
            Some(v1::WorkflowExecutionSpec { workflow: "quick".to_owned(), callback_token, ..Default::default() });
        let mut bytes = v1::WorkflowExecution { metadata, spec, ..Default::default() }.encode_to_vec();
        let mut status = Vec::new();
        prost::encoding::bytes::encode(11, &token.as_bytes().to_vec(), &mut status);
        prost::encoding::bytes::encode(5, &status, &mut bytes);
        bytes
    };
    for (bytes, status) in
        [(serialized("imported", None), 201), (serialized("torn", Some(&other)), 400), (b"\xff".to_vec(), 400)]
    {
        let answer = api
            .send("POST", &format!("{RUNS}:import"), &[("content-type", "application/octet-stream")], &bytes)
            .unwrap();
        assert_eq!(answer.status, status, "{}", answer.text);
        seen.answer("import", answer);
    }
    assert_eq!(answer(api, &token)["state"], "Completed");
    vec![token, other]
}

/// The command line, which is given tokens and shows everything else.
fn command_line(home: &Home, server: &Server, seen: &mut Seen) -> Vec<String> {
    let token = mailbox(server.api);
    // A token on the command line is its owner's doing; what is said about it is not.
    let complete = ["callback", "complete", token.as_str(), "--result", "5", "--log-level", "trace"];
    for args in [complete.as_slice(), &complete] {
        let output = home.run(server, args);
        seen.add("baton callback complete", [output.stdout, output.stderr].concat());
    }
    let attached = mailbox(server.api);
    let output = home.run(server, &["callback", "attach", "wfx/body", &attached, "--log-level", "trace"]);
    assert_eq!(output.code, 0, "{output:?}");
    seen.add("baton callback attach", [output.stdout, output.stderr].concat());
    for (kind, name) in [("wfx", "body"), ("wfx", "asks"), ("wfx", "broken"), ("agx", "talk")] {
        for args in [
            vec!["get", kind, name, "-o", "yaml"],
            vec!["get", kind, name, "-o", "json"],
            vec!["describe", kind, name],
            vec!["history", kind, name],
            vec!["history", kind, name, "-o", "json"],
            vec!["tree", kind, name],
            vec!["tree", kind, name, "-o", "json"],
        ] {
            let output = home.run(server, &[args.as_slice(), &["--log-level", "trace"]].concat());
            assert_eq!(output.code, 0, "{args:?}: {output:?}");
            seen.add(format!("baton {}", args.join(" ")), [output.stdout, output.stderr].concat());
        }
    }
    let output = home.run(server, &["get", "wfx", "-o", "jsonl"]);
    seen.add("baton get wfx", [output.stdout, output.stderr].concat());
    vec![token, attached]
}

/// Every path that shows something of an execution, and the rest.
fn everything_that_can_be_read(api: Api, seen: &mut Seen) {
    for collection in [RUNS, TALKS] {
        let list = seen.get(api, collection);
        let items = list["items"].as_array().unwrap();
        assert!(!items.is_empty());
        for item in items {
            let name = item["metadata"]["name"].as_str().unwrap();
            for rest in ["", "/status", "/output", "/history", "/history?follow=true", "/callbacks"] {
                seen.get(api, &format!("{collection}/{name}{rest}"));
            }
        }
        seen.get(api, &format!("{collection}?watch=true&timeoutSeconds=1"));
    }
    for path in ["/metrics", "/", "/openapi/v3/apis/baton.dev/v1", "workflows", "agents"] {
        seen.get(api, path);
    }
    let broken = api.get(&format!("{RUNS}/broken")).expect(200);
    assert!(
        broken["status"]["error"]["detail"].as_str().is_some_and(|detail| detail.contains("callback token ")),
        "the place of the token is marked: {broken}"
    );
}
