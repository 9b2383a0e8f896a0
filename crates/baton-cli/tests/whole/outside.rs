//! A world that misbehaves, and callers that send nonsense: each is a fault or a refusal that says what was wrong, and the
//! server goes on as if nothing had been.

use serde_json::{Value, json};

use crate::{
    flows::{AGENTS, RUNS, TALKS, WORKFLOWS, agent, call, create, ended, outcome, run, run_workflow, talk, workflow},
    http::{Answer, Api},
    process::{Home, Output, Server},
    stub::{RESET, Reply, Stub},
};

const FAULTS: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/";
/// Memory that a server needs at most, whatever it is made to read or to compute here.
const MEMORY_KIB_MAX: u64 = 1 << 20;
const JSON: (&str, &str) = ("content-type", "application/json");

/// A server that was not harmed: the next execution runs as any other.
#[track_caller]
fn check_healthy(server: &Server, name: &str) {
    let name = format!("healthy-after-{name}");
    let ended = outcome(
        server.api,
        &name,
        &json!([{"echo": {"call": "baton.dev/echo", "with": {"n": 5}}}, {"double": {"set": {"n": "${ .n * 2 }"}}}]),
    );
    assert_eq!(ended["status"]["output"], json!({"n": 10}), "{ended}");
    assert_eq!(server.api.get("/readyz").text, "ok");
}

/// The end of a server in whose log there is nothing that needs a person.
#[track_caller]
fn check_calm(output: &Output) {
    assert_eq!(output.code, 0);
    let odd: Vec<&str> =
        output.stderr.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked")).collect();
    assert!(odd.is_empty(), "{odd:#?}");
}

/// The fault of an execution that failed: its type, status and detail.
#[track_caller]
fn fault(execution: &Value, instance: &str) -> (String, i64, String) {
    let (phase, error) = (&execution["status"]["phase"], &execution["status"]["error"]);
    assert_eq!((phase, &error["instance"]), (&json!("Failed"), &json!(instance)), "{execution}");
    let kind = error["type"].as_str().unwrap().trim_start_matches(FAULTS).to_owned();
    (kind, error["status"].as_i64().unwrap_or_default(), error["detail"].as_str().unwrap_or_default().to_owned())
}

/// A server outside that does what the path says.
fn misbehaving() -> Stub {
    Stub::start(|request| {
        let json = "content-type: application/json\r\n".to_owned();
        match request.path.split('/').nth(1).unwrap_or_default() {
            "hang" => Reply::Hang,
            "half" => Reply::Half,
            "endless" => Reply::Endless,
            "huge" => Reply::Huge,
            "broken" => Reply::Raw(500, json, br#"{"why": "broken inside"}"#.to_vec()),
            "teapot" => Reply::Raw(418, "content-type: text/plain\r\n".to_owned(), b"short and stout".to_vec()),
            "nonsense" => Reply::Raw(200, json, b"{\"n\": ".to_vec()),
            "binary" => Reply::Raw(200, json, vec![0xff, 0xfe, 0, 1, 2]),
            "deep" => Reply::Raw(200, json, format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes()),
            "empty" => Reply::Raw(200, json, Vec::new()),
            "circle" => Reply::Raw(302, "location: /circle\r\n".to_owned(), Vec::new()),
            "metadata" => Reply::Raw(302, "location: http://169.254.169.254/latest\r\n".to_owned(), Vec::new()),
            "no-choice" => Reply::Json(json!({"choices": []})),
            "cut-off" => Reply::Json(json!({"choices": [{"message": {"content": "and then"}}]})),
            "wrong-types" => Reply::Json(json!({"choices": "none", "usage": []})),
            "tool-for-ever" => {
                let call = json!({"id": "c1", "type": "function", "function": {"name": "no-such-tool", "arguments": "{not json"}});
                Reply::Json(json!({"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}))
            }
            _ => Reply::Json(json!({"n": 1})),
        }
    })
}

#[test]
fn http_targets_that_misbehave() {
    let (home, stub) = (Home::new(), misbehaving());
    let server = home.serve();
    for (name, kind, status, says) in [
        ("hang", "timeout", 408, ""),
        (&RESET[1..], "communication", 502, "broke off"),
        ("half", "communication", 502, "broke off"),
        ("endless", "https://baton.dev/errors/too-large", 413, "more than 8388608 bytes"),
        ("huge", "https://baton.dev/errors/too-large", 413, "10000000000 bytes"),
        ("broken", "communication", 500, "broken inside"),
        ("teapot", "communication", 418, "short and stout"),
        ("circle", "communication", 508, "redirects more than 10 times"),
        ("metadata", "authorization", 403, "metadata addresses are never allowed"),
    ] {
        let mut task = call(&format!("{}/{name}", stub.url()), &json!({"a": "b"}));
        task["with"]["redirect"] = json!(true);
        if kind == "timeout" {
            task["timeout"] = json!({"after": {"milliseconds": 300}});
        }
        let (found_kind, found_status, detail) =
            fault(&outcome(server.api, name, &json!([{"ask": task}])), "/do/0/ask");
        assert_eq!((found_kind.as_str(), found_status), (kind, status), "{name}: {detail}");
        assert!(detail.contains(says), "{name}: {detail}");
        // The same is caught like any other fault.
        let caught = json!([{"attempt": {"try": [{"ask": task}], "catch": {"as": "error", "do": [{"note": {"set": {"status": "${ $error.status }"}}}]}}}]);
        assert_eq!(
            outcome(server.api, &format!("{name}-caught"), &caught)["status"]["output"],
            json!({"status": status}),
            "{name}"
        );
    }
    let (kind, status, detail) =
        fault(&outcome(server.api, "nobody", &json!([{"ask": call("http://127.0.0.1:1/", &json!({}))}])), "/do/0/ask");
    assert_eq!((kind.as_str(), status), ("communication", 503), "{detail}");
    check_healthy(&server, "targets");
    let peak = server.memory_peak_kib();
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
    check_calm(&server.stop());
}

#[test]
fn http_answers_that_are_not_what_they_say() {
    let (home, stub) = (Home::new(), misbehaving());
    let server = home.serve();
    // What is no JSON is text, and a text has no fields: the fault is where it is used.
    for (name, says) in [("nonsense", "cannot index"), ("binary", "cannot index")] {
        let tasks = json!([{"ask": call(&format!("{}/{name}", stub.url()), &json!({}))}, {"use": {"set": {"n": "${ .n + 1 }"}}}]);
        let (kind, status, detail) = fault(&outcome(server.api, name, &tasks), "/do/1/use");
        assert_eq!((kind.as_str(), status), ("expression", 400), "{name}: {detail}");
        assert!(detail.to_lowercase().contains(says) && detail.len() < 2000, "{name}: {detail}");
    }
    // What could not be read back from history is refused where it comes in.
    let tasks = json!([{"ask": call(&format!("{}/deep", stub.url()), &json!({}))}]);
    let (kind, status, detail) = fault(&outcome(server.api, "deep", &tasks), "/do/0/ask");
    assert_eq!((kind.as_str(), status), ("https://baton.dev/errors/limit", 400), "{detail}");
    assert!(detail.contains("nested deeper than 100 levels"), "{detail}");
    let tasks = json!([{"ask": call(&format!("{}/empty", stub.url()), &json!({}))}]);
    let ended = outcome(server.api, "empty", &tasks);
    assert_eq!((&ended["status"]["phase"], &ended["status"]["output"]), (&json!("Completed"), &Value::Null), "{ended}");
    check_healthy(&server, "answers");
    check_calm(&server.stop());
}

#[test]
fn models_that_misbehave() {
    let (home, stub) = (Home::new(), misbehaving());
    let server = home.serve();
    for (name, kind, says) in [
        ("nonsense", "communication", "not JSON"),
        ("binary", "communication", "not JSON"),
        ("deep", "communication", "not JSON"),
        ("empty", "communication", "not JSON"),
        ("wrong-types", "communication", "not a chat completion"),
        ("no-choice", "communication", "without a finish reason"),
        ("cut-off", "communication", "cut off"),
        ("teapot", "communication", "short and stout"),
        ("broken", "communication", "broken inside"),
        ("hang", "timeout", "did not"),
        ("endless", "https://baton.dev/errors/too-large", "more than"),
        ("tool-for-ever", "https://baton.dev/errors/limit", "model calls"),
        (&RESET[1..], "communication", ""),
    ] {
        let mut object =
            agent(name, &json!({"name": "m", "baseUrl": format!("{}/{name}", stub.url()), "timeout": "1s"}));
        object["spec"]["limits"] = json!({"maxTurns": 3});
        create(server.api, &object);
        server.api.post(TALKS, &talk(name, name)).expect(201);
        let ended = ended(server.api, TALKS, name);
        let error = &ended["status"]["error"];
        assert_eq!(ended["status"]["phase"], "Failed", "{name}: {ended}");
        assert_eq!(error["type"].as_str().unwrap().trim_start_matches(FAULTS), kind, "{name}: {error}");
        assert!(error["detail"].as_str().unwrap().contains(says), "{name}: {error}");
    }
    // A workflow catches what became of its agent.
    let ask = json!({"call": "baton.dev/agent", "with": {"agent": "teapot", "message": "hello"}});
    let tasks = json!([{"attempt": {"try": [{"ask": ask}], "catch": {"as": "error", "do": [{"note": {"set": {"status": "${ $error.status }"}}}]}}}]);
    assert_eq!(outcome(server.api, "caught", &tasks)["status"]["output"], json!({"status": 418}));
    check_healthy(&server, "models");
    check_calm(&server.stop());
}

/// A refusal that is a whole Status object with this code and these words.
#[track_caller]
fn check_refused(answer: &Answer, code: u16, says: &[&str]) {
    assert_eq!(answer.status, code, "{}", answer.text);
    assert!(!answer.reason().is_empty(), "{}", answer.text);
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    for part in says {
        assert!(message.contains(part), "'{part}': {message}");
    }
    assert!(message.len() < 20_000, "a refusal does not repeat what it refuses: {} bytes", message.len());
}

#[test]
fn requests_that_cannot_be_read() {
    let home = Home::new();
    let server = home.serve();
    let api = server.api;
    let deep = format!("{{\"spec\": {{\"input\": {}1{}}}}}", "[".repeat(10_000), "]".repeat(10_000));
    let large = json!({"metadata": {"name": "large"}, "spec": {"input": "x".repeat(2 << 20)}}).to_string();
    for (path, body, code, says) in [
        (RUNS, large.into_bytes(), 413, "the limit is 2097152 bytes"),
        (RUNS, deep.into_bytes(), 400, "nested deeper than 128 levels"),
        (RUNS, b"{\"kind\": \"\xc3\x28\"}".to_vec(), 400, "not UTF-8"),
        (RUNS, b"{\"kind\": \"Work".to_vec(), 400, "line 1"),
        (RUNS, b"".to_vec(), 400, "the body is empty"),
        (RUNS, b"[1, 2]".to_vec(), 400, "the body is a list"),
        (RUNS, vec![0; 4096], 400, ""),
        ("callbacks:complete", vec![b'['; 1 << 20], 400, "nested deeper than 128 levels"),
        ("namespaces/a%2Fb/workflows", b"{}".to_vec(), 400, "metadata.namespace"),
    ] {
        check_refused(&api.send("POST", path, &[JSON], &body).unwrap(), code, &[says]);
    }
    check_refused(&api.get(&format!("{RUNS}/a%2Fb")), 400, &["metadata.name", "'a/b'"]);
    check_refused(&api.get(&format!("{RUNS}/..%2f..%2fetc%2fpasswd")), 400, &["metadata.name"]);
    check_refused(&api.get(&format!("{RUNS}/none")), 404, &["no workflow execution 'none' in namespace 'default'"]);
    check_refused(&api.get("/nowhere"), 404, &["/nowhere"]);
    check_refused(&api.send("BREW", RUNS, &[], b"").unwrap(), 405, &["BREW"]);
    check_healthy(&server, "requests");
    check_calm(&server.stop());
}

#[test]
fn resources_with_wrong_fields() {
    let home = Home::new();
    let server = home.serve();
    let api = server.api;
    create(api, &workflow("quick", &json!([{"say": {"set": {"said": true}}}])));
    let with = |path: &str, value: Value| {
        let mut object = run("wrong", "quick");
        *object.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        object
    };
    let spec = |fields: Value| with("/spec", fields);
    for (collection, object, code, says) in [
        (RUNS, with("/metadata/name", json!("a/b")), 400, ["metadata.name", "'a/b' is not a valid name"]),
        (RUNS, with("/metadata/name", json!("")), 400, ["metadata.name", ""]),
        (RUNS, with("/metadata/name", json!(5)), 400, ["metadata.name", "invalid type"]),
        (RUNS, with("/metadata/name", json!("x".repeat(100_000))), 400, ["metadata.name", ""]),
        (RUNS, with("/kind", json!("Pod")), 400, ["kind", "'Pod'"]),
        (RUNS, spec(json!({"workflow": "quick", "inptu": 1})), 400, ["spec.inptu", "no such field"]),
        (RUNS, spec(json!({"workflow": ["quick"]})), 400, ["spec.workflow", "invalid type"]),
        (RUNS, spec(json!({"workflow": "quick", "suspend": "yes"})), 400, ["spec.suspend", "invalid type"]),
        (RUNS, spec(json!({"workflow": "quick", "env": {"A": 1}})), 400, ["spec.env", "invalid type"]),
        (RUNS, spec(json!({"workflow": "quick", "timeout": "soon"})), 400, ["spec.timeout", "'soon'"]),
        (RUNS, spec(json!({"workflow": "quick", "timeout": "-5s"})), 400, ["spec.timeout", "-5s"]),
        (
            RUNS,
            spec(json!({"workflow": "quick", "ttlSecondsAfterFinished": -1})),
            400,
            ["spec.ttlSecondsAfterFinished", "-1"],
        ),
        (
            RUNS,
            spec(json!({"workflow": "quick", "parentClosePolicy": "Maybe"})),
            400,
            ["spec.parentClosePolicy", "Maybe"],
        ),
        (
            RUNS,
            spec(json!({"workflow": "quick", "callbackToken": "bm9uZSBvZiBvdXJz"})),
            400,
            ["callback token", "was not made by this server"],
        ),
        (RUNS, spec(json!({})), 400, ["spec", "workflow"]),
        (RUNS, spec(json!({"workflow": "gone"})), 400, ["spec.workflow", "no workflow 'gone' in namespace 'default'"]),
        (
            TALKS,
            json!({"metadata": {"name": "wrong"}, "spec": {"agent": "gone", "message": "x"}}),
            400,
            ["spec.agent", "no agent 'gone' in namespace 'default'"],
        ),
        (
            AGENTS,
            json!({"metadata": {"name": "wrong"}, "spec": {"model": {"name": "m", "temperature": "hot"}}}),
            400,
            ["spec.model.temperature", "float"],
        ),
        (
            AGENTS,
            json!({"metadata": {"name": "wrong"}, "spec": {"instructions": "x", "model": {"name": "m", "provider": "oracle"}}}),
            400,
            ["spec.model.provider", "oracle"],
        ),
    ] {
        check_refused(&api.post(collection, &object), code, &says);
    }
    assert_eq!(api.get(RUNS).expect(200)["items"], json!([]), "nothing that was refused was stored");
    check_healthy(&server, "fields");
    check_calm(&server.stop());
}

#[test]
fn definitions_that_are_wrong() {
    let home = Home::new();
    let server = home.serve();
    let at = |path: &str| format!("spec.definition.do[0].{path}");
    for (name, task, says) in [
        ("unknown-kind", json!({"dance": {}}), vec!["spec.definition.do[0].bad".to_owned()]),
        ("unknown-field", json!({"set": {"a": 1}, "colour": "red"}), vec![at("bad.colour")]),
        ("no-expression", json!({"set": {"a": "${ .a + }"}}), vec![at("bad.set.a")]),
        (
            "no-function",
            json!({"set": {"a": "${ nosuchfunction(1) }"}}),
            vec![at("bad.set.a"), "nosuchfunction".to_owned()],
        ),
        ("no-clock", json!({"set": {"a": "${ now }"}}), vec![at("bad.set.a"), "now".to_owned()]),
        (
            "no-target",
            json!({"set": {"a": 1}, "then": "nowhere"}),
            vec![at("bad.then"), "no task named 'nowhere'".to_owned()],
        ),
        ("no-method", json!({"call": "http", "with": {"endpoint": "http://127.0.0.1/"}}), vec![at("bad.with.method")]),
        ("no-kind-yet", json!({"emit": {"event": {"with": {}}}}), vec![at("bad"), "emit".to_owned()]),
        ("no-duration", json!({"wait": {"fortnights": 1}}), vec![at("bad.wait"), "fortnights".to_owned()]),
        ("wrong-type", json!({"for": "each"}), vec![at("bad.for")]),
    ] {
        let answer = server.api.post(WORKFLOWS, &workflow(name, &json!([{"bad": task}])));
        let says: Vec<&str> = says.iter().map(String::as_str).collect();
        check_refused(&answer, 400, &says);
        // An inline definition is checked in the same way.
        let mut object = run(name, "");
        object["spec"] = json!({"definition": workflow(name, &json!([{"bad": task}]))["spec"]["definition"]});
        check_refused(&server.api.post(RUNS, &object), 400, &says);
    }
    // All that is wrong is told at once.
    let answer = server
        .api
        .post(WORKFLOWS, &workflow("two", &json!([{"one": {"set": {"a": "${ ( }"}}}, {"two": {"dance": 1}}])));
    check_refused(&answer, 400, &["spec.definition.do[0].one.set.a", "spec.definition.do[1].two"]);
    check_healthy(&server, "definitions");
    check_calm(&server.stop());
}

#[test]
fn expressions_that_do_not_end_or_eat_memory() {
    let home = Home::new();
    let server = home.serve();
    for (at, expression) in [
        "def f: f; f",
        "def f: 1 + f; f",
        "[range(1e18)] | length",
        "last(range(1e18))",
        "reduce range(1e9) as $i (\"x\"; . + .)",
        "\"x\" * 1e12",
        "[limit(1e9; repeat(1))] | length",
        "until(false; .)",
        "def f: try error(1) catch f; f",
        "[.[0]?] | .[1000000000] = 1",
        "[range(100000)] | [combinations(3)?] | length",
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\" | test(\"^(a+)+$\") | while(true; .)",
    ]
    .into_iter()
    .enumerate()
    {
        let ended = outcome(
            server.api,
            &format!("hostile-{at}"),
            &json!([{"bad": {"set": {"a": format!("${{ {expression} }}")}}}]),
        );
        let (kind, _, detail) = fault(&ended, "/do/0/bad");
        assert!(
            matches!(kind.as_str(), "expression" | "https://baton.dev/errors/limit"),
            "{expression}: {kind} {detail}"
        );
        assert!(!detail.is_empty(), "{expression}");
    }
    check_healthy(&server, "expressions");
    let peak = server.memory_peak_kib();
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
    check_calm(&server.stop());
}

#[test]
fn workflows_that_never_end_by_themselves() {
    let home = Home::new();
    let server = home.serve();
    let api = server.api;
    // Round and round without a pause.
    let tasks = json!([{"one": {"set": {"n": 1}}}, {"two": {"set": {"n": 2}, "then": "one"}}]);
    let ended = outcome(api, "loops", &tasks);
    let error = &ended["status"]["error"];
    assert_eq!(
        (&ended["status"]["phase"], &error["type"]),
        (&json!("Failed"), &json!("https://baton.dev/errors/limit")),
        "{error}"
    );
    // One that calls itself, and two that call each other.
    let itself = api.post(WORKFLOWS, &workflow("itself", &json!([{"call": run_workflow("itself", &json!({}))}])));
    check_refused(
        &itself,
        400,
        &["spec.definition.do[0].call.run.workflow.name", "workflow 'itself' would call itself"],
    );
    create(api, &workflow("chicken", &json!([{"call": run_workflow("egg", &json!({}))}])));
    let egg = api.post(WORKFLOWS, &workflow("egg", &json!([{"call": run_workflow("chicken", &json!({}))}])));
    check_refused(&egg, 400, &["spec.definition.do[0].call.run.workflow.name", "egg -> chicken -> egg"]);
    // A child that does not exist.
    let missing = outcome(api, "orphan", &json!([{"call": run_workflow("no-such", &json!({}))}]));
    let (kind, _, detail) = fault(&missing, "/do/0/call");
    assert_eq!(kind, "configuration");
    assert!(detail.contains("no workflow 'no-such' in namespace 'default'"), "{detail}");
    check_healthy(&server, "workflows");
    check_calm(&server.stop());
}

#[test]
fn clients_that_go_away() {
    let home = Home::new();
    let server = home.serve();
    let api: Api = server.api;
    create(api, &workflow("quick", &json!([{"say": {"set": {"said": true}}}])));
    let body = run("half", "quick").to_string();
    // Half a request, a stream that nobody reads, a wait that nobody waits for.
    for length in [0, 1, body.len() / 2, body.len() - 1] {
        let mut open = api.begin_post(RUNS, body.len()).unwrap();
        open.write(&body.as_bytes()[..length]).unwrap();
    }
    for _ in 0..50 {
        drop(api.open("GET", &format!("{RUNS}?watch=true"), &[], 0).unwrap());
        drop(api.open("GET", RUNS, &[], 0).unwrap());
    }
    assert_eq!(api.get(RUNS).expect(200)["items"], json!([]), "half a request does nothing");
    check_healthy(&server, "clients");
    check_calm(&server.stop());
}
