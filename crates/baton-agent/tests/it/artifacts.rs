//! Artifacts: what a model saves, and what is too long for it to read.

use baton_agent::Message;
use baton_execution::{Command, Ending, Note};
use baton_types::Digest;
use serde_json::{Value, json};

use crate::support::{Run, calls, says, spec_with, tool_id};

fn saves(name: &str, content: &str) -> (&'static str, Value) {
    ("save_artifact", json!({"name": name, "content": content}))
}

/// What was kept with the last input: names, media types and contents.
fn kept(run: &Run) -> Vec<(String, String, String)> {
    let notes = run.notes().into_iter().filter_map(|note| match note {
        Note::Artifact { name, media_type, content } => Some((name.clone(), media_type.clone(), content.clone())),
        _ => None,
    });
    notes.collect()
}

fn last_result(run: &Run, turn: u32) -> (String, bool) {
    match run.request(turn).messages.pop() {
        Some(Message::Tool { content, failed, .. }) => (content, failed),
        other => panic!("not a result: {other:?}"),
    }
}

#[test]
fn what_a_model_saves_is_kept_and_nobody_is_asked() {
    let mut run = Run::started(&spec_with(json!({"artifacts": true, "policy": {"default": "ask"}})), "Hi", Value::Null);
    run.model(1, calls(&[saves("a.txt", "one"), saves("b.txt", "two")]));
    assert!(run.commands.iter().all(|command| !matches!(command, Command::Ask(_))));
    let text = |name: &str, content: &str| (name.to_owned(), "text/plain".to_owned(), content.to_owned());
    assert_eq!(kept(&run), [text("a.txt", "one"), text("b.txt", "two")]);
    let (told, failed) = last_result(&run, 2);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(!failed);
    assert_eq!(told, json!({"name": "b.txt", "digest": Digest::of(b"two").to_string(), "sizeBytes": 3}));

    run.model(2, calls(&[saves("a.txt", "three")]));
    let names: Vec<(String, u64)> =
        run.program().progress().artifacts.into_iter().map(|it| (it.name, it.size_bytes)).collect();
    assert_eq!(names, [("b.txt".to_owned(), 3), ("a.txt".to_owned(), 5)], "the later one takes its place");
    for (turn, arguments) in [
        (3, json!({"name": "../a", "content": "x"})),
        (4, json!({"name": "a", "content": "x", "mediaType": "text"})),
        (5, json!({"name": "a"})),
    ] {
        run.model(turn, calls(&[("save_artifact", arguments)]));
        assert!(last_result(&run, turn + 1).1 && kept(&run).is_empty());
    }
    run.model(6, says("Done."));
    assert_eq!(run.ending(), &Ending::Completed { output: json!("Done.") });
}

#[test]
fn there_is_an_end_to_it() {
    let mut run =
        Run::started(&spec_with(json!({"artifacts": true, "policy": {"default": "allow"}})), "Hi", Value::Null);
    let many: Vec<(String, String)> = (0..33).map(|index| (format!("{index}.txt"), index.to_string())).collect();
    let many: Vec<(&str, Value)> = many.iter().map(|(name, content)| saves(name, content)).collect();
    run.model(1, calls(&many));
    assert_eq!(run.program().progress().artifacts.len(), 32);
    let (told, failed) = last_result(&run, 2);
    assert!(failed && told.contains("at most 32 artifacts"), "{told}");
}

#[test]
fn a_result_that_is_too_long_is_kept_and_its_beginning_is_shown() {
    let huge = format!("begin {}", "ä".repeat(200_000));
    for (artifacts, is_kept) in [(true, true), (false, false)] {
        let mut run = Run::started(&spec_with(json!({"artifacts": artifacts})), "Hi", Value::Null);
        run.model(1, calls(&[("get_order", json!({"id": "1"}))]));
        run.completes(&tool_id(1, 0, "get_order"), json!(huge));
        let (told, failed) = last_result(&run, 2);
        assert_eq!((failed, told.contains("begin ää"), told.len() < 40_000), (!is_kept, is_kept, true));
        let kept = kept(&run);
        assert_eq!(kept.len(), usize::from(is_kept));
        if is_kept {
            assert_eq!(kept[0], ("result-1-0-get_order.txt".to_owned(), "text/plain".to_owned(), huge.clone()));
            assert!(told.contains("\"name\":\"result-1-0-get_order.txt\""), "{}", &told[..200]);
        }
    }
}

#[test]
fn an_agent_without_artifacts_has_no_such_tool() {
    let run = Run::started(&spec_with(json!({})), "Hi", Value::Null);
    assert!(run.request(1).tools.iter().all(|tool| tool.name != "save_artifact"));
}
