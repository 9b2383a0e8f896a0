//! Tool calls: in parallel, by every kind, and when they fail.

use baton_agent::{CHILD_WAIT_MS_DEFAULT, Message, ModelResponse, ToolCall};
use baton_execution::{
    ChildTarget, Command, Effect, Ending, Fault, Input, Note, Outcome, ParentClosePolicy, ProgramKind, WaitReason,
    fault_type,
};
use serde_json::{Value, json};

use crate::support::{Run, calls, says, spec, spec_with, tool_id};

/// The tool messages that the model is shown in the turn.
fn tool_messages(run: &Run, turn: u32) -> Vec<(String, String, bool)> {
    let messages = run.request(turn).messages;
    let results = messages.into_iter().filter_map(|message| match message {
        Message::Tool { name, content, failed, .. } => Some((name, content, failed)),
        Message::User { .. } | Message::Assistant { .. } => None,
    });
    results.collect()
}

#[test]
fn calls_of_a_turn_run_in_parallel_and_enter_the_conversation_in_order() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, calls(&[("get_order", json!({"id": "a/b"})), ("refund", json!({"id": "2"}))]));
    let (read, write) = (tool_id(1, 0, "get_order"), tool_id(1, 1, "refund"));
    let activities = run.activities();
    assert_eq!(activities.len(), 2);
    assert_eq!(
        (&activities[0].id, activities[0].effect, activities[0].start_to_close_ms),
        (&read, Effect::Repeatable, 10_000)
    );
    assert_eq!(
        activities[0].input,
        json!({"method": "GET", "endpoint": "http://orders.test/orders/a%2Fb", "headers": {}, "query": {}, "body": null, "output": "content", "redirect": false, "authentication": null})
    );
    assert_eq!((&activities[1].id, activities[1].effect), (&write, Effect::Once));
    assert_eq!(activities[1].input["body"], json!({"id": "2"}));
    assert_eq!(run.program().progress().waiting.len(), 2);

    run.completes(&write, json!({"refunded": true}));
    assert!(run.activities().is_empty(), "the turn waits for the other call");
    run.completes(&write, json!({"refunded": "twice"}));
    assert!(run.commands.is_empty(), "a second result is ignored");
    run.completes(&read, json!("shipped"));
    assert_eq!(
        tool_messages(&run, 2),
        [("get_order".into(), "shipped".into(), false), ("refund".into(), "{\"refunded\":true}".into(), false)]
    );
    run.model(2, says("Refunded."));
    assert_eq!(run.ending(), &Ending::Completed { output: json!("Refunded.") });
    let progress = run.program().progress();
    assert_eq!(
        (progress.usage.model_calls, progress.usage.tool_calls, progress.tasks_started, progress.tasks_ended),
        (2, 2, 4, 4)
    );
}

#[test]
fn an_agent_is_a_tool() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, calls(&[("ask_legal", json!({"message": "May we?"}))]));
    let id = tool_id(1, 0, "ask_legal");
    let due_ms = run.now_ms() + i64::try_from(CHILD_WAIT_MS_DEFAULT).unwrap();
    let child = run.children()[0].clone();
    assert_eq!(
        (&child.id, child.kind, child.message.as_deref(), child.awaited, child.timeout_ms),
        (&id, ProgramKind::Agent, Some("May we?"), true, None)
    );
    assert_eq!(
        (&child.input, &child.target),
        (&json!({"message": "May we?"}), &ChildTarget::Named { name: "legal".into(), version: None })
    );
    assert_eq!((child.expires_ms, child.parent_close_policy), (Some(due_ms), ParentClosePolicy::Cancel));
    assert!(run.commands.contains(&Command::StartTimer { id: id.clone(), due_ms }));
    let waiting = &run.program().progress().waiting[0];
    assert_eq!(
        (waiting.reason, waiting.on.as_str(), waiting.until_ms),
        (WaitReason::Child, "agent legal", Some(due_ms))
    );

    run.completes(&id, json!("not mine: no activity has this id"));
    assert!(run.commands.is_empty());
    run.answered(&id, Outcome::Completed(json!("You may.")));
    assert!(run.commands.contains(&Command::CancelTimer { id: id.clone() }));
    assert_eq!(tool_messages(&run, 2), [("ask_legal".into(), "You may.".into(), false)]);
    run.give(Input::TimerFired { id });
    assert!(run.commands.is_empty(), "a late timer is ignored");
}

#[test]
fn a_workflow_is_a_tool_and_is_not_waited_for_longer_than_its_timeout() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, calls(&[("ship", json!({"order": 5}))]));
    let id = tool_id(1, 0, "ship");
    let child = run.children()[0].clone();
    assert_eq!(
        (child.kind, child.message, child.input, child.timeout_ms),
        (ProgramKind::Workflow, None, json!({"order": 5}), Some(3_600_000))
    );
    run.give(Input::TimerFired { id: id.clone() });
    assert!(run.commands.contains(&Command::CloseWait { id: id.clone() }));
    let (_, content, failed) = tool_messages(&run, 2).remove(0);
    assert!(failed && content.contains(fault_type::TIMEOUT), "{content}");
    run.answered(&id, Outcome::Completed(json!("late")));
    assert!(run.commands.is_empty());
}

#[test]
fn a_failing_child_is_told_to_the_model() {
    for (outcome, says) in [
        (Outcome::Failed(Fault::new(fault_type::RUNTIME, 500, "no stock")), "no stock"),
        (Outcome::Cancelled { reason: "operator".into() }, "the call was cancelled: operator"),
    ] {
        let mut run = Run::started(&spec(), "Hi", Value::Null);
        run.model(1, calls(&[("ship", json!({}))])).answered(&tool_id(1, 0, "ship"), outcome);
        let (_, content, failed) = tool_messages(&run, 2).remove(0);
        assert!(failed && content.contains(says), "{content}");
    }
}

#[test]
fn a_failing_tool_an_unknown_one_and_wrong_arguments_are_told_to_the_model() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(
        1,
        calls(&[
            ("get_order", json!({"id": "1"})),
            ("de/lete~all", json!({})),
            ("get_order", json!({"id": 5})),
            ("refund", json!("{broken")),
            ("", json!({})),
        ]),
    );
    assert_eq!(run.activities().len(), 1, "only the first can be begun");
    let faulted: Vec<_> = run
        .notes()
        .into_iter()
        .filter_map(|note| if let Note::TaskFaulted { position, .. } = note { Some(position.as_str()) } else { None })
        .collect();
    assert_eq!(
        faulted,
        [
            "/turns/1/tools/1/de~1lete~0all",
            "/turns/1/tools/2/get_order",
            "/turns/1/tools/3/refund",
            "/turns/1/tools/4/"
        ]
    );
    run.fails(
        &tool_id(1, 0, "get_order"),
        Fault::new(fault_type::COMMUNICATION, 404, "no such order").with_data(json!({"statusCode": 404})),
    );
    let told = tool_messages(&run, 2);
    assert!(told.iter().all(|(.., failed)| *failed));
    for (told, expected) in told.iter().zip([
        "\"statusCode\":404",
        "no tool named 'de/lete~all'; tools are 'get_order', 'refund', 'ask_legal', 'ship'",
        "/id: 5 is not of type",
        "the arguments must be a JSON object, found a string",
        "the call names no tool",
    ]) {
        assert!(told.1.contains(expected), "{told:?} should tell {expected}");
    }
    run.model(2, says("Sorry."));
    assert_eq!(run.ending(), &Ending::Completed { output: json!("Sorry.") });
}

#[test]
fn a_turn_whose_calls_all_fail_at_once_leads_to_the_next_turn() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, calls(&[("nope", json!({}))]));
    assert_eq!(run.activities()[0].activity, "model");
    assert_eq!(run.request(2).messages.len(), 3);
}

#[test]
fn a_call_in_doubt_ends_the_run() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, calls(&[("refund", json!({"id": "1"}))]))
        .fails(&tool_id(1, 0, "refund"), Fault::new(fault_type::IN_DOUBT, 500, "the server stopped"));
    let (fault, _) = run.fault();
    assert_eq!(
        (fault.kind.as_str(), fault.instance.as_deref()),
        (fault_type::IN_DOUBT, Some("/turns/1/tools/0/refund"))
    );
}

#[test]
fn marks_decide_whether_a_call_may_be_repeated() {
    let tool = |marks: Value| {
        let mut tool = json!({"name": "t", "description": "d", "http": {"method": "POST", "url": "http://t.test/"}});
        tool.as_object_mut().unwrap().extend(marks.as_object().unwrap().clone());
        let mut run = Run::started(&spec_with(json!({"tools": [tool]})), "Hi", Value::Null);
        run.model(1, calls(&[("t", json!({}))]));
        run.activities()[0].effect
    };
    assert_eq!(tool(json!({})), Effect::Once);
    assert_eq!(tool(json!({"readOnly": true})), Effect::Repeatable);
    assert_eq!(tool(json!({"idempotent": true})), Effect::Repeatable);
}

#[test]
fn ids_of_calls_are_made_unique() {
    let twice = |id: &str| ToolCall { id: id.into(), name: "nope".into(), arguments: json!({"n": id}) };
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, ModelResponse { tool_calls: vec![twice("x"), twice("x"), twice("")], ..calls(&[]) });
    run.model(2, ModelResponse { tool_calls: vec![twice("x")], ..calls(&[]) });
    let ids: Vec<String> = run
        .request(3)
        .messages
        .into_iter()
        .filter_map(|message| if let Message::Tool { call_id, .. } = message { Some(call_id) } else { None })
        .collect();
    assert_eq!(ids, ["x", "call_1_1", "call_1_2", "call_2_0"]);
}

#[test]
fn a_huge_result_is_left_out() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, calls(&[("get_order", json!({"id": "1"}))]))
        .completes(&tool_id(1, 0, "get_order"), json!("x".repeat(300 * 1024)));
    let (_, content, failed) = tool_messages(&run, 2).remove(0);
    assert!(failed && content.len() < 1000 && content.contains("was left out"), "{content}");
}
