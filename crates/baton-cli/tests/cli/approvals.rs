//! Approvals: the page of the documentation, command by command.

use serde_json::{Value, json};

use crate::support::Served;

const PAGE: &str = include_str!("../../../../docs/agents/policy.md");

/// A server with the example of the documentation, and the approval that a run of it waits for.
fn asked(served: &Served, name: &str) -> String {
    let example = PAGE.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let path = served.baton.file("clerk.yaml", example);
    assert_eq!(served.run(&["apply", "-f", &path]).code, 0);
    let run = format!(
        "apiVersion: baton.dev/v1\nkind: AgentExecution\nmetadata: {{name: {name}}}\nspec: {{agent: clerk, message: Where is my order?}}\n"
    );
    let path = served.baton.file(&format!("{name}.yaml"), &run);
    let mut watch = served.baton.start(&["approvals", "--watch", "-o", "jsonl"]);
    assert_eq!(served.run(&["apply", "-f", &path]).code, 0);
    let change: Value = serde_json::from_str(&watch.first_data()).unwrap();
    change["object"]["metadata"]["name"].as_str().unwrap().to_owned()
}

#[test]
fn an_approval_is_listed_described_and_approved() {
    let served = Served::new();
    let name = asked(&served, "run");
    let table = served.run(&["approvals"]).ok();
    let row = table.lines().nth(1).unwrap();
    assert!(
        table.starts_with("NAME ") && row.starts_with(&name) && row.contains("ToolCall  refund  Pending"),
        "{table}"
    );
    assert!(served.run(&["approvals", "-A"]).ok().starts_with("NAMESPACE "));
    let approval = served.run(&["get", "approval", &name, "-o", "json"]).json();
    assert_eq!(approval["spec"]["arguments"], json!({"order": "17", "amount": 80}));
    assert_eq!(approval["spec"]["why"], "policy.rules[1]: more than 50 is for people to decide");
    let described = served.run(&["describe", "approval", &name]).ok();
    for says in ["call 'refund': workflow refund", "\"amount\": 80", &format!("baton approve {name}")] {
        assert!(described.contains(says), "'{says}' is not in {described}");
    }
    let waits = served.run(&["get", "agx"]).ok();
    assert!(waits.contains(&format!("approval {name}")), "{waits}");

    let refused = served.run(&["approve", &name, "--digest", "sha256:00"]).refused(1);
    assert!(refused.contains("APPROVAL_DIGEST_DIFFERS"), "{refused}");
    let refused = served.run(&["resolve", &name, "--retry"]).refused(1);
    assert!(refused.contains("'retry' cannot be decided here; allowed are 'approve', 'deny'"), "{refused}");
    let digest = approval["spec"]["argumentsDigest"].as_str().unwrap();
    let decided = served.run(&["approve", &name, "--digest", digest, "--as", "kim", "--reason", "a good customer"]);
    assert_eq!(decided.stderr, format!("approval/{name}: Approved by unauthenticated:kim\n"), "{decided:?}");
    assert!(served.run(&["approve", &name]).refused(1).contains("APPROVAL_ALREADY_DECIDED"));
    served.run(&["history", "agx/run", "--follow"]).ok();
    let run = served.run(&["get", "agx", "run", "-o", "json"]).json();
    assert_eq!((&run["status"]["phase"], &run["status"]["output"]), (&json!("Completed"), &json!("It is done.")));
    let said = served.run(&["approvals"]);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", "no approvals in namespace 'default'\n"));
    assert!(served.run(&["approvals", "--all"]).ok().contains("Approved"));
}

#[test]
fn other_arguments_are_read_from_a_file_and_a_denial_has_a_reason() {
    let served = Served::new();
    let name = asked(&served, "run");
    let wrong = served.baton.file("wrong.yaml", "{order: 17, amount: 40}\n");
    let refused = served.run(&["approve", &name, "--arguments", &wrong]).refused(1);
    assert!(refused.contains("do not match the parameters"), "{refused}");
    let decided = served
        .baton
        .run_with(&["approve", &name, "--arguments", "-", "-o", "json"], r#"{"order": "17", "amount": 40}"#);
    assert_eq!(decided.json()["status"]["arguments"], json!({"order": "17", "amount": 40}));
    served.run(&["history", "agx/run", "--follow"]).ok();
    let refunds = served.run(&["get", "wfx", "-o", "json"]).json();
    assert_eq!(refunds["items"][0]["status"]["output"], json!({"refunded": 40, "order": "17"}));

    assert_eq!(served.run(&["deny", "x"]).code, 2, "a denial needs a reason");
    let name = asked(&served, "again");
    let denied = served.run(&["deny", &format!("approval/{name}"), "--reason", "ask for a photo"]);
    assert_eq!(denied.stderr, format!("approval/{name}: Denied by unauthenticated\n"));
    let history = served.run(&["history", "agx/again", "--follow", "-o", "json"]).ok();
    assert!(history.contains("ask for a photo") && history.contains("ApprovalRequested"), "{history}");
    let refused = served.run(&["delete", "approval", &name, "--yes"]).refused(1);
    assert!(refused.contains("raised by executions"), "{refused}");
}

#[test]
fn a_run_says_which_command_answers_it() {
    let served = Served::new();
    asked(&served, "other");
    let mut run = served.baton.start(&["run", "--agent", "clerk", "--message", "Hi", "--name", "mine"]);
    let line = run.says("asks a person");
    let command = line.split_once("; answer with baton ").unwrap().1.to_owned();
    assert!(line.starts_with("mine turn 1/refund: asks a person: call 'refund': workflow refund"), "{line}");
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!(served.run(&words).code, 0, "{command}");
    let output = run.end();
    assert_eq!((output.code, output.stdout.trim()), (0, "\"It is done.\""), "{output:?}");
}
