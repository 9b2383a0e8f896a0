//! `baton run` in one process.

use rustix::process::Signal;
use serde_json::json;

use crate::support::Baton;

const WAITS: &str =
    "document: {dsl: 1.0.3, namespace: default, name: waits, version: 1.0.0}\ndo:\n  - pause: {wait: {hours: 1}}\n";

#[test]
fn a_workflow_gives_its_output() {
    let baton = Baton::new();
    let hello = "examples/hello/hello.yaml";
    let expected = json!({"greeting": "hello, 40", "n": 40});
    let output = baton.run(&["run", hello, "--input", "{\"n\": 20}"]);
    assert!(
        output.stderr.contains(" double: completed in ") && output.stderr.contains(": completed after "),
        "{}",
        output.stderr
    );
    assert_eq!(output.json(), expected);
    assert_eq!(baton.run_with(&["run", hello, "--input", "-"], "n: 20").json(), expected);
    let file = baton.file("in.json", "{\"n\": 20}");
    let output = baton.run(&["run", hello, "-i", &format!("@{file}"), "--quiet", "-o", "jsonl"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("{\"greeting\":\"hello, 40\",\"n\":40}\n", ""));
    assert_eq!(baton.run(&["run", "-f", "examples/hello", "-i", "{\"n\": 20}"]).json(), expected);
    // Nothing stays behind.
    let left: Vec<_> = std::fs::read_dir(baton.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["in.json"]);
}

#[test]
fn an_agent_gives_its_answer() {
    let baton = Baton::new();
    let output = baton.run(&["run", "examples/hello/agent.yaml", "--message", "Who are you?"]);
    assert_eq!(output.json(), json!("I am an agent that Baton runs, and right now I play back a script."));
    let output = baton.run(&["run", "-f", "examples/hello", "--agent", "agent", "-m", "hi"]);
    assert_eq!(output.json(), json!("Hello!"));
}

#[test]
fn a_fault_is_problem_details_on_stderr_and_code_1() {
    let said = Baton::new().run(&["run", "examples/hello/hello.yaml", "--input", "{\"n\": {}}", "-q"]).refused(1);
    let problem: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(problem["type"].as_str().unwrap().ends_with("/errors/expression"), "{problem}");
    assert_eq!(problem["instance"], "/do/0/double");
}

#[test]
fn what_is_refused_is_told_with_code_1() {
    let baton = Baton::new();
    let wrong = baton.file(
        "wrong.yaml",
        "document: {dsl: 1.0.3, namespace: default, name: a, version: 1.0.0}\ndo:\n  - one: {st: 1}\n",
    );
    let said = baton.run(&["run", &wrong]).refused(1);
    assert!(said.starts_with("error: ") && said.contains("do[0].one: ") && said.contains("wrong.yaml:3:5"), "{said}");
    let said = baton.run(&["run", "examples/hello/hello.yaml", "--input", "hello"]).refused(1);
    assert!(said.contains("error: --input is not JSON"), "{said}");
    let said = baton.run(&["run", "none.yaml"]).refused(1);
    assert!(said.contains("error: read 'none.yaml': No such file"), "{said}");
}

#[test]
fn a_service_that_does_not_come_up_ends_the_run() {
    let baton = Baton::new();
    let run = baton.file(
        "run.yaml",
        &format!("{WAITS}---\napiVersion: baton.dev/v1\nkind: Run\nspec: {{workflow: waits, services: [{{name: desk, command: [sh, -c, 'echo no; exit 7']}}]}}\n"),
    );
    let said = baton.run(&["run", "-f", &run]).refused(1);
    assert!(said.contains("error: start service 'desk': it ended (exit status: 7) before it printed"), "{said}");
}

#[test]
fn an_interrupt_cancels_the_execution() {
    let baton = Baton::new();
    let path = baton.file("waits.yaml", WAITS);
    let mut run = baton.start(&["run", &path]);
    run.says("workflow execution started");
    run.signal(Signal::INT);
    let output = run.end();
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output:?}");
    assert!(
        output.stderr.contains("cancelling waits-") && output.stderr.contains(": cancelled after "),
        "{}",
        output.stderr
    );
}

#[test]
fn a_killed_run_goes_on_with_its_data() {
    let baton = Baton::new();
    let path = baton.file(
        "waits.yaml",
        "document: {dsl: 1.0.3, namespace: default, name: waits, version: 1.0.0}\ndo:\n  - first: {set: {n: 1}}\n  - pause: {wait: {seconds: 2}}\n  - last: {set: {n: '${ .n + 1 }'}}\n",
    );
    let data = baton.folder().join("data").display().to_string();
    let args = ["run", path.as_str(), "--data-dir", data.as_str()];
    let mut run = baton.start(&args);
    run.says("first: completed");
    run.signal(Signal::KILL);
    run.end();
    let output = baton.run(&args);
    assert!(output.stderr.contains("taking up workflowexecution/waits-"), "{}", output.stderr);
    assert_eq!(output.json(), json!({"n": 2}));
    // It was seen to its end, so this is another one.
    let output = baton.run(&args);
    assert!(!output.stderr.contains("taking up"), "{}", output.stderr);
    output.ok();
}
