//! What needs no server: usage, validation, configuration.

use std::net::TcpListener;

use expect_test::expect;

use crate::support::{Baton, root};

#[test]
fn a_wrong_command_line_is_told_with_code_2() {
    let baton = Baton::new();
    let hello = "examples/hello/hello.yaml";
    for (args, says) in [
        (
            &["get", "pods"][..],
            "no kind 'pods'; kinds are secrets (sec), mcpservers (mcp), skills (sk), artifacts (art), agents (ag)",
        ),
        (&["describe", "wf"], "error: the name of the workflow is missing\nhint: list them with baton get workflows"),
        (&["cancel", "wf", "a"], "error: a workflow does not run"),
        (&["get", "wf/a", "b"], "two names were given, 'a' and 'b'"),
        (&["get", "wf", "-o", "xml"], "invalid value 'xml'"),
        (&["get", "wf", "--server", "https://example.com"], "https is not offered in this version"),
        (&["get", "wf", "--server", "here"], "is not a URL; allowed is http://HOST:PORT"),
        (&["run"], "required arguments were not provided"),
        (&["run", hello, "-f", hello], "cannot be used with"),
        (&["run", hello, "--detach"], "error: --detach needs a server that goes on"),
        (&["run", hello, "--message", "x"], "error: --message is for agents"),
        (&["run", hello, "--env", "A"], "allowed is NAME=VALUE"),
        (
            &["run", hello, "--data-dir", "x", "--server", "http://127.0.0.1:1"],
            "--data-dir is for a run in this process",
        ),
        (&["run", "examples/hello/agent.yaml"], "has nothing to answer"),
        (&["callback", "heartbeat"], "error: the token is missing"),
        (&["callback", "heartbeat", "--base64", "?"], "error: the token is not base64"),
        (&["apply"], "--file <FILE|DIR|->"),
        (&["version", "--log-level", "=;="], "error: log level '=;='"),
    ] {
        let said = baton.run(args).refused(2);
        assert!(said.contains(says), "{args:?}: {said}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_with_code_3() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    for args in [
        &["get", "wf"][..],
        &["apply", "-f", "examples/incident-triage/agents.yaml"],
        &["callback", "create"],
        &["history", "wfx", "a", "--follow"],
    ] {
        let said = Baton::new().with("BATON_SERVER", &url).run(args).refused(3);
        let expected = format!(
            "error: connect to {url}: connection refused\nhint: start the server with baton server, or name another one with --server\n"
        );
        assert_eq!(said, expected, "{args:?}");
    }
}

#[test]
fn the_examples_are_valid() {
    let said = Baton::new().run(&["validate", "examples/incident-triage", "examples/hello"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", "8 documents are valid\n"));
}

#[test]
fn all_violations_of_all_documents_are_told_at_once() {
    let baton = Baton::new();
    let path = baton.file(
        "a.yaml",
        "apiVersion: baton.dev/v1\nkind: Workflow\nmetadata: {name: Bad}\nspec:\n  definition:\n    document: {dsl: 1.0.3, namespace: default, name: a, version: 1.0.0}\n    do:\n      - one: {set: {a: 1}, then: nowhere}\n---\n\
         apiVersion: baton.dev/v1\nkind: Agent\nmetadata: {name: b}\nspec: {instructions: x}\n",
    );
    let said = baton.run(&["validate", &path]).refused(1).replace(&path, "a.yaml");
    expect![[r"
        error: metadata.name: 'Bad' is not a valid name; allowed are lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit
         --> a.yaml:3:18
          |
        3 | metadata: {name: Bad}
          |                  ^^^
        error: spec.definition.do[0].one.then: no task named 'nowhere' in this scope; tasks here are 'one'
         --> a.yaml:8:34
          |
        8 |       - one: {set: {a: 1}, then: nowhere}
          |                                  ^^^^^^^
        error: spec.model: must be given
          --> a.yaml:13:1
           |
        13 | spec: {instructions: x}
           | ^^^^
        error: 3 things are wrong
    "]]
    .assert_eq(&said);
}

#[test]
fn a_name_that_is_not_in_the_manifests_is_only_said() {
    let said = Baton::new().run(&["validate", "examples/incident-triage/workflow.yaml"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stderr.contains("the agent 'triage' is not in these manifests; it must be on the server"),
        "{}",
        said.stderr
    );
}

#[test]
fn the_example_configuration_is_complete_and_holds_the_defaults() {
    let baton = Baton::new();
    let written: toml::Table = std::fs::read_to_string(root().join("baton.example.toml")).unwrap().parse().unwrap();
    let defaults = baton.run(&["config", "show", "-o", "json"]).json();
    let example = baton.run(&["config", "show", "-o", "json", "--config", "baton.example.toml"]).json();
    for (default, example) in defaults.as_array().unwrap().iter().zip(example.as_array().unwrap()) {
        let name = &default["name"];
        assert_eq!(name, &example["name"]);
        if name == "config" || name == "log-level" || name == "client.output" {
            continue;
        }
        assert_eq!(default["source"], "default", "{name}");
        let mut path = name.as_str().unwrap().split('.');
        let top = written.get(path.next().unwrap());
        let written = path.fold(top, |table, key| table.and_then(|table| table.get(key)));
        assert!(written.is_some(), "{name} is not in the example");
        assert_eq!(default["value"], example["value"], "{name}");
    }
}

#[test]
fn temporals_own_settings_count_where_ours_say_nothing() {
    let baton = Baton::new();
    let profiles = baton.file("temporal.toml", "[profile.eu]\nnamespace = 'orders'\napi_key = 'sk-very-secret'\n");
    let baton = baton
        .with("TEMPORAL_CONFIG_FILE", &profiles)
        .with("TEMPORAL_PROFILE", "eu")
        .with("TEMPORAL_ADDRESS", "temporal.example:7233")
        .with("BATON_ENGINE", "temporal");
    let shown = baton.run(&["config", "show"]).ok();
    for (name, value, from) in [
        ("engine.kind", "temporal", "environment, BATON_ENGINE"),
        ("temporal.address", "temporal.example:7233", "environment, TEMPORAL_ADDRESS"),
        ("temporal.namespace", "orders", &format!("profile eu of {profiles}")),
        ("temporal.api-key", "***", &format!("profile eu of {profiles}")),
        ("temporal.task-queue", "baton", "default"),
    ] {
        let row = shown.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        assert!(row.contains(value) && row.ends_with(from), "{row}");
    }
    assert!(!shown.contains("sk-very-secret"), "{shown}");
    let said = baton.with("TEMPORAL_PROFILE", "us").run(&["config", "show"]).refused(3);
    assert!(said.contains("no profile 'us'"), "{said}");
}

#[test]
fn a_secret_of_the_configuration_is_not_shown() {
    let baton = Baton::new().with("BATON_MODEL_API_KEY", "sk-very-secret");
    let shown = baton.run(&["config", "show"]).ok();
    assert!(
        shown.contains("***")
            && shown.contains("environment, BATON_MODEL_API_KEY")
            && !shown.contains("sk-very-secret"),
        "{shown}"
    );
}

#[test]
fn a_wrong_configuration_is_told_with_code_3() {
    let baton = Baton::new();
    let path = baton.file("baton.toml", "[store]\ncash = 1\n");
    let said = baton.run(&["config", "show", "--config", &path]).refused(3);
    assert!(said.contains("cash") && said.contains("baton.toml"), "{said}");
}

#[test]
fn what_is_not_a_backup_is_not_restored() {
    let baton = Baton::new();
    let folder = baton.folder().display().to_string();
    let said = baton.run(&["restore", &folder, "--data-dir", "x"]).refused(1);
    assert!(said.contains("is not a backup: it has no store.db\nhint: make one with baton backup"), "{said}");
    let said = baton.run(&["backup", &format!("{folder}/to"), "--data-dir", &folder]).refused(1);
    assert!(said.contains("is not the data directory of a server"), "{said}");
}
