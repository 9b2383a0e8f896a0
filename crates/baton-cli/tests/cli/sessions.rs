//! Sessions: the page of the documentation, command by command.

use serde_json::{Value, json};

use crate::support::Served;

const PAGE: &str = include_str!("../../../../docs/agents/sessions.md");

fn example(index: usize) -> &'static str {
    PAGE.split("```yaml\n").nth(index).unwrap().split("```").next().unwrap()
}

#[test]
fn a_conversation_goes_on_from_line_to_line_and_is_exported() {
    let served = Served::new();
    let path = served.baton.file("clerk.yaml", example(1));
    assert_eq!(served.run(&["apply", "-f", &path]).code, 0);
    let lines = "Where is my order?\n\nWhen will it be here?\n";
    let talk = served.baton.run_with(&["chat", "--session", "customer-4711", "--quiet"], lines);
    assert_eq!(
        (talk.code, talk.stdout.as_str()),
        (0, "Order 17 was sent on Monday.\nIt should be there tomorrow.\n"),
        "{talk:?}"
    );

    let table = served.run(&["get", "sessions"]).ok();
    assert!(table.starts_with("NAME ") && table.contains("customer-4711  clerk  2 "), "{table}");
    let described = served.run(&["describe", "session", "customer-4711"]).ok();
    assert!(described.contains("2 turns (4 messages, "), "{described}");
    let export = served.run(&["session", "export", "customer-4711"]).ok();
    for says in
        ["# Session customer-4711", "## Turn 2: ", "> Where is my order?", "**assistant**", "> It should be there"]
    {
        assert!(export.contains(says), "'{says}' is not in {export}");
    }
    let turns = served.run(&["session", "export", "customer-4711", "-o", "json", "--after", "1"]).json();
    let messages: Vec<&Value> =
        turns["turns"][0]["messages"].as_array().unwrap().iter().map(|it| &it["content"]).collect();
    assert_eq!(
        (turns["turns"].as_array().unwrap().len(), messages),
        (1, vec![&json!("When will it be here?"), &json!("It should be there tomorrow.")])
    );

    let begun = served.baton.run_with(&["chat", "clerk", "-o", "jsonl"], "Where is my order?\n");
    let answer: Value = serde_json::from_str(begun.stdout.trim()).unwrap();
    assert_eq!(answer["answer"], "Order 17 was sent on Monday.");
    assert!(
        begun.stderr.starts_with("session clerk-") && begun.stderr.contains("baton chat clerk --session clerk-"),
        "{begun:?}"
    );
    assert_eq!(served.run(&["delete", "session", "customer-4711", "--yes"]).code, 0);
    assert!(served.run(&["session", "export", "customer-4711"]).refused(1).contains("no session 'customer-4711'"));
}

#[test]
fn a_turn_that_does_not_end_well_is_told_and_the_conversation_goes_on() {
    let served = Served::new();
    let path = served.baton.file("clerk.yaml", example(1));
    assert_eq!(served.run(&["apply", "-f", &path]).code, 0);
    let stubborn = example(1)
        .replace("name: clerk", "name: stubborn")
        .replace("        - turns: [{text: It should be there tomorrow.}]\n", "");
    let path = served.baton.file("stubborn.yaml", stubborn.split("---").next().unwrap());
    assert_eq!(served.run(&["apply", "-f", &path]).code, 0);
    let talk = served.baton.run_with(&["chat", "stubborn", "--session", "s", "--quiet"], "What?\nWhere is my order?\n");
    assert_eq!((talk.code, talk.stdout.as_str()), (0, "Order 17 was sent on Monday.\n"), "{talk:?}");
    assert!(talk.stderr.contains("ended as Failed"), "{talk:?}");
    let talk = served.baton.run_with(&["chat", "stubborn", "--session", "s", "--quiet"], "What?\n");
    assert_eq!((talk.code, talk.stdout.as_str()), (1, ""), "{talk:?}");
}

#[test]
fn the_other_example_of_the_page_is_good() {
    let served = Served::new();
    let path = served.baton.file("research.yaml", example(2));
    assert_eq!(served.run(&["apply", "-f", &path]).code, 0);
    assert_eq!(served.run(&["validate", &path]).code, 0);
}
