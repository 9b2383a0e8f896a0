//! Commands as tools: what a call becomes, and what a model cannot make of it.

use baton_agent::{Message, check};
use baton_execution::{Effect, secret_placeholder};
use serde_json::{Value, json};

use crate::support::{Run, calls, spec_with};

fn tool(shell: &Value) -> Value {
    let parameters = json!({"type": "object", "properties": {"path": {}, "n": {}, "q": {}}, "required": ["path"]});
    spec_with(
        json!({"tools": [{"name": "t", "description": "d", "readOnly": true, "parameters": parameters, "shell": shell}]}),
    )
}

/// Input of the activity that the call becomes.
fn command(shell: Value, arguments: Value) -> Value {
    let mut run = Run::started(&tool(&shell), "Hi", Value::Null);
    run.model(1, calls(&[("t", arguments)]));
    assert_eq!(run.activities()[0].activity, "command", "{}", run.activities()[0].input);
    run.activities()[0].input.clone()
}

/// What the model is told of a call that is not made.
fn refusal(shell: Value, arguments: Value) -> String {
    let mut run = Run::started(&tool(&shell), "Hi", Value::Null);
    run.model(1, calls(&[("t", arguments)]));
    match run.request(2).messages.last() {
        Some(Message::Tool { content, failed: true, .. }) => content.clone(),
        other => panic!("not a failed call: {other:?}"),
    }
}

#[test]
fn arguments_stay_in_their_words() {
    let shell = json!({
        "command": ["git", "log", "--max-count={n}", "--grep={q}", "--", "{path}", "{{path}}", "{print $1}"],
        "environment": {"MODE": {"value": "m={q}"}, "GONE": {"value": "{n}"}, "TOKEN": {"secret": "git", "key": "token"}},
        "stdin": "arguments", "output": "json", "network": true, "limits": {"memoryMib": 64, "cpuSeconds": 5, "outputBytes": 100},
    });
    let input = command(shell, json!({"path": "-x; rm $(q) \"'", "q": ["a"]}));
    assert_eq!(input["program"], "git");
    assert_eq!(
        input["arguments"],
        json!(["log", "--grep=[\"a\"]", "--", "-x; rm $(q) \"'", "{path}", "{print $1}"]),
        "a word whose argument is not given is left out"
    );
    assert_eq!(input["environment"], json!({"MODE": "m=[\"a\"]", "TOKEN": secret_placeholder("git", "token")}));
    assert_eq!(input["stdin"], json!({"path": "-x; rm $(q) \"'", "q": ["a"]}).to_string());
    assert_eq!((&input["output"], &input["network"]), (&json!("json"), &json!(true)));
    assert_eq!(input["limits"], json!({"memoryBytes": 64 << 20, "cpuSeconds": 5, "outputBytes": 100}));
    let bare = command(json!({"command": ["ls", "{path}"]}), json!({"path": "a"}));
    assert_eq!((&bare["stdin"], &bare["network"], &bare["output"]), (&Value::Null, &json!(false), &json!("text")));
}

#[test]
fn an_argument_becomes_no_option() {
    let shell = || json!({"command": ["ls", "{path}"]});
    assert!(refusal(shell(), json!({"path": "--all"})).contains("'path' must not begin with '-'"));
    assert!(refusal(shell(), json!({"path": -1})).contains("'path' must not begin with '-'"));
    assert!(refusal(shell(), json!({"path": "a\u{0}b"})).contains("U+0000"));
    assert!(refusal(shell(), json!({"path": "x".repeat(70_000)})).contains("allowed are up to 65536"));
    let behind = command(json!({"command": ["ls", "--", "{path}"]}), json!({"path": "--all"}));
    assert_eq!(behind["arguments"], json!(["--", "--all"]));
}

#[test]
fn a_call_is_in_doubt_after_a_crash_unless_it_may_be_repeated() {
    let effect = |flags: Value| {
        let mut spec = tool(&json!({"command": ["ls"]}));
        spec["tools"][0]["readOnly"] = flags["readOnly"].clone();
        spec["tools"][0]["idempotent"] = flags["idempotent"].clone();
        let mut run = Run::started(&spec, "Hi", Value::Null);
        run.model(1, calls(&[("t", json!({"path": "."}))]));
        run.activities()[0].effect
    };
    assert_eq!(effect(json!({})), Effect::Once);
    assert_eq!(effect(json!({"idempotent": true})), Effect::Repeatable);
    assert_eq!(effect(json!({"readOnly": true})), Effect::Repeatable);
}

#[test]
fn commands_that_give_the_model_too_much_are_refused() {
    for (command, field, says) in [
        (json!([]), "command", "must be given"),
        (json!([""]), "command[0]", "must name a program"),
        (json!(["{path}"]), "command[0]", "must not choose the program"),
        (json!(["ls", "{other}"]), "command[1]", "'parameters.properties' of the tool does not have it"),
        (json!(["ls", 5]), "command[1]", "must be a string"),
        (json!(["ls", "-n", "{n}"]), "command[2]", "would take the next word"),
        (json!(["sh", "-c", "{path}"]), "command[2]", "would become code"),
        (json!(["sh", "-c", "cat {path}"]), "command[2]", "would become code"),
        (json!(["env", "A=1", "bash", "-x", "-c", "{path}"]), "command[5]", "would become code"),
        (json!(["bash", "-o", "pipefail", "-c", "{path}"]), "command[4]", "would become code"),
        (json!(["/usr/bin/python3.12", "{path}"]), "command[1]", "would become code"),
        (json!(["python3", "-c{path}"]), "command[1]", "would become code"),
        (json!(["awk", "{path}"]), "command[1]", "would become code"),
    ] {
        let violations = check(&tool(&json!({"command": command}))).unwrap_err();
        assert_eq!(violations[0].field, format!("tools[0].shell.{field}"), "{violations:?}");
        assert!(violations[0].message.contains(says), "{violations:?}");
    }
    for good in [
        json!(["sh", "-c", "cat \"$1\"", "sh", "{path}"]),
        json!(["python3", "tool.py", "--name={path}"]),
        json!(["grep", "-e", "{path}"]),
        json!(["awk", "{print $1}", "{path}"]),
    ] {
        check(&tool(&json!({"command": good}))).unwrap();
    }
    let wrong = json!({"command": ["ls"], "environment": {"A B": {"value": "x"}, "C": {"value": "x", "secret": "s", "key": "k"}, "D": {"secret": "s"}, "E": 5}, "stdin": "all", "output": "xml", "limits": {"memoryMib": 0}, "shell": true});
    let fields: Vec<String> = check(&tool(&wrong)).unwrap_err().into_iter().map(|it| it.field).collect();
    let expected = [
        "environment.A B",
        "environment.C",
        "environment.D.key",
        "environment.E",
        "stdin",
        "output",
        "limits.memoryMib",
        "shell",
    ];
    assert_eq!(fields, expected.map(|field| format!("tools[0].shell.{field}")));
}
