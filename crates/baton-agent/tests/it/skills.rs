//! Skills: announced, and loaded by the model without anything being called.

use baton_agent::{Message, PINNED_SKILLS, check, check_skill};
use baton_execution::{Command, Ending};
use serde_json::{Value, json};

use crate::support::{Run, calls, says, spec_with};

fn skill() -> Value {
    json!({
        "description": "Refunds: when to give them\nand how", "instructions": "# Refunds\nLook at references/limits.md first.",
        "files": [
            {"path": "references/limits.md", "mediaType": "text/markdown", "text": "At most 100."},
            {"path": "logo.png", "mediaType": "image/png", "data": "aGk="},
        ],
        "allowedTools": ["get_order", "refund"], "license": "MIT", "compatibility": "the orders API", "metadata": {"author": "x"},
    })
}

fn agent(changes: Value) -> Value {
    let mut spec = spec_with(json!({"skills": ["refunds"], PINNED_SKILLS: {"refunds": skill()}}));
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

/// The last result that the model is shown, and whether the call failed.
fn last_result(run: &Run, turn: u32) -> (String, bool) {
    match run.request(turn).messages.pop() {
        Some(Message::Tool { content, failed, .. }) => (content, failed),
        other => panic!("not a result: {other:?}"),
    }
}

#[test]
fn a_skill_is_announced_and_loaded_when_it_is_wanted() {
    // Even where everything is asked about: reading what the agent has is no call.
    let mut run = Run::started(&agent(json!({"policy": {"default": "ask"}})), "Hi", Value::Null);
    let request = run.request(1);
    assert!(request.instructions.starts_with("You triage orders.\n\nYou have skills"), "{}", request.instructions);
    assert!(request.instructions.ends_with("- refunds: Refunds: when to give them and how\n"));
    assert!(!request.instructions.contains("references/"), "only the description is told");
    let tools: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert!(tools.ends_with(&["load_skill", "read_skill_file"]), "{tools:?}");

    run.model(1, calls(&[("load_skill", json!({"name": "refunds"}))]));
    assert!(run.commands.iter().all(|command| !matches!(command, Command::Ask(_))));
    let (text, failed) = last_result(&run, 2);
    assert!(!failed && text.contains("Look at references/limits.md first."), "{text}");
    assert!(
        text.contains("- references/limits.md (12 bytes)") && text.contains("- logo.png (image/png, not text"),
        "{text}"
    );
    assert!(text.contains("get_order, refund") && text.contains("the orders API"), "{text}");

    run.model(2, calls(&[("read_skill_file", json!({"name": "refunds", "path": "./references/limits.md"}))]));
    assert_eq!(last_result(&run, 3), ("At most 100.".to_owned(), false));
    for (turn, arguments, says) in [
        (3, json!({"name": "refunds", "path": "logo.png"}), "is no text"),
        (4, json!({"name": "refunds", "path": "../etc/passwd"}), "no file '../etc/passwd'"),
        (5, json!({"name": "other", "path": "x"}), "do not match the parameters"),
    ] {
        run.model(turn, calls(&[("read_skill_file", arguments)]));
        let (text, failed) = last_result(&run, turn + 1);
        assert!(failed && text.contains(says), "{text}");
    }
    run.model(6, says("Done."));
    assert_eq!(run.ending(), &Ending::Completed { output: json!("Done.") });
    assert_eq!(run.program().progress().usage.tool_calls, 5);
}

#[test]
fn a_policy_can_forbid_it() {
    let policy = json!({"policy": {"rules": [{"tool": "load_*", "action": "deny", "reason": "not today"}]}});
    let mut run = Run::started(&agent(policy), "Hi", Value::Null);
    run.model(1, calls(&[("load_skill", json!({"name": "refunds"}))]));
    let (text, failed) = last_result(&run, 2);
    assert!(failed && text.contains("not today"), "{text}");
}

#[test]
fn a_skill_that_was_not_pinned_is_told_to_the_model() {
    let spec = spec_with(json!({"skills": ["refunds"]}));
    assert_eq!(check(&spec).unwrap().skills().collect::<Vec<_>>(), ["refunds"]);
    let mut run = Run::started(&spec, "Hi", Value::Null);
    run.model(1, calls(&[("load_skill", json!({"name": "refunds"}))]));
    assert!(last_result(&run, 2).0.contains("the content of the skill 'refunds' is not there"));
}

#[test]
fn an_agent_without_skills_is_as_before() {
    let run = Run::started(&spec_with(json!({})), "Hi", Value::Null);
    assert_eq!(run.request(1).instructions, "You triage orders.");
    assert!(run.request(1).tools.iter().all(|tool| !tool.name.contains("skill")));
}

#[test]
fn wrong_skills_are_named() {
    let taken = json!({"tools": [{"name": "load_skill", "description": "d", "agent": {"name": "a"}}], "skills": ["refunds", "refunds", "A B", 5]});
    let fields: Vec<String> = check(&agent(taken)).unwrap_err().into_iter().map(|it| it.field).collect();
    assert_eq!(fields, ["skills[1]", "skills[2]", "skills[3]", "tools[0].name"]);

    check_skill(&skill()).unwrap();
    let long = "x".repeat(1025);
    let large = "x".repeat(200_000);
    let wrong = json!({
        "description": long, "instructions": large, "compatibility": "y".repeat(501), "metadata": {"a": 1}, "allowedTools": [""],
        "files": [{"path": "/etc/passwd"}, {"path": "a/../b"}, {"path": "a", "text": "x", "data": "aGk="}, {"path": "a"}, {}], "hooks": 1,
    });
    let fields: Vec<String> = check_skill(&wrong).unwrap_err().into_iter().map(|it| it.field).collect();
    assert_eq!(
        fields,
        [
            "description",
            "instructions",
            "compatibility",
            "metadata.a",
            "allowedTools[0]",
            "files[0].path",
            "files[1].path",
            "files[2].data",
            "files[3].path",
            "files[4].path",
            "hooks"
        ]
    );
}
