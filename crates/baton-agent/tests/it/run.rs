//! Runs without tools: answers, repairs, ends.

use baton_agent::{FinishReason, Message, ModelResponse};
use baton_execution::{Command, Effect, Ending, Fault, Input, Note, WaitReason, fault_type};
use serde_json::{Value, json};

use crate::support::{Run, calls, model_id, says, spec, spec_with};

#[test]
fn a_text_answer_completes_the_run() {
    let mut run = Run::started(&spec(), "Where is my order?", Value::Null);
    let asked = run.activities();
    assert_eq!(
        (asked.len(), asked[0].activity.as_str(), asked[0].start_to_close_ms, asked[0].effect),
        (1, "model", 90_000, Effect::Repeatable)
    );
    assert_eq!(asked[0].id, model_id(1));
    assert!(asked[0].input.to_string().len() < 300, "the command holds a descriptor: {}", asked[0].input);
    let request = run.request(1);
    assert_eq!(request.instructions, "You triage orders.");
    assert_eq!(request.messages, [Message::user("Where is my order?")]);
    assert_eq!(
        request.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(),
        ["get_order", "refund", "ask_legal", "ship"]
    );

    let progress = run.program().progress();
    assert_eq!(
        (progress.waiting[0].reason, progress.waiting[0].on.as_str()),
        (WaitReason::Activity, "model test-model")
    );
    run.model(1, says("On its way."));
    assert_eq!(run.ending(), &Ending::Completed { output: json!("On its way.") });
    let progress = run.program().progress();
    assert_eq!((progress.usage.model_calls, progress.usage.input_tokens, progress.usage.output_tokens), (1, 10, 5));
    assert_eq!((progress.tasks_started, progress.tasks_ended, progress.recent[0].state.as_str()), (1, 1, "Completed"));
    assert!(run.program().activity_input(&model_id(1)).is_none());
}

#[test]
fn the_input_is_part_of_the_first_message_once() {
    for (input, content) in [
        (json!({"message": "Hi", "input": {"a": 5}}), "Hi\n\n{\"a\":5}"),
        (json!({"message": null, "input": [1]}), "[1]"),
        (json!({"message": "Hi", "input": {"message": "Hi"}}), "Hi"),
        (json!({"message": "{\"a\":1}", "input": {"a": 1}}), "{\"a\":1}"),
        (json!({"a": 1}), "{\"a\":1}"),
        (json!("plain"), "plain"),
        (Value::Null, "(no message)"),
    ] {
        let run = Run::started_with(&spec(), input, Value::Null);
        assert_eq!(run.request(1).messages, [Message::user(content)]);
    }
}

#[test]
fn structured_output_is_checked_and_repaired() {
    let schema = json!({"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]});
    let mut run = Run::started(&spec_with(json!({"outputSchema": schema})), "Sum", Value::Null);
    assert_eq!(run.request(1).output_schema.as_ref(), Some(&schema));
    run.model(1, says("The total is 5"));
    let Some(Message::User { content, .. }) = run.request(2).messages.last().cloned() else {
        panic!("the model is told")
    };
    assert!(content.contains("it is not JSON"), "{content}");
    run.model(2, says("{\"total\": \"five\"}"));
    let Some(Message::User { content, .. }) = run.request(3).messages.last().cloned() else {
        panic!("the model is told")
    };
    assert!(content.contains("/total: \"five\" is not of type \"integer\""), "{content}");
    run.model(3, says("```json\n{\"total\": 5}\n```"));
    assert_eq!(run.ending(), &Ending::Completed { output: json!({"total": 5}) });
}

#[test]
fn structured_output_is_taken_as_deep_as_it_can_be_read_again() {
    let mut run = Run::started(&spec_with(json!({"outputSchema": {"type": "object"}})), "Nest", Value::Null);
    let deep = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"a": inner}));
    run.model(1, says(&deep(101).to_string()));
    let Some(Message::User { content, .. }) = run.request(2).messages.last().cloned() else {
        panic!("the model is told")
    };
    assert!(content.contains("it is nested deeper than 100 levels"), "{content}");
    run.model(2, says(&deep(100).to_string()));
    assert_eq!(run.ending(), &Ending::Completed { output: deep(100) });
}

#[test]
fn an_answer_that_stays_wrong_ends_the_run() {
    let mut run = Run::started(&spec_with(json!({"outputSchema": {"type": "object"}})), "Sum", Value::Null);
    for turn in 1..=2 {
        run.model(turn, says("[]"));
    }
    run.model(3, says("[]"));
    let (fault, partial) = run.fault();
    assert_eq!((fault.kind.as_str(), partial), (fault_type::VALIDATION, Some(&json!("[]"))));
    assert!(fault.detail.as_deref().unwrap().contains("is not of type \"object\""));
}

#[test]
fn nonsense_of_the_model_is_repaired_or_ends_the_run_with_a_clear_fault() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    let empty = ModelResponse { text: Some("  ".into()), ..says("") };
    run.model(1, empty.clone()).model(2, empty.clone());
    assert!(matches!(run.request(3).messages.last(), Some(Message::User { content, .. }) if content.contains("empty")));
    run.model(3, empty);
    assert!(run.fault().0.detail.as_deref().unwrap().contains("neither a text nor a tool call"));

    for garbage in [Value::Null, json!("text"), json!({"text": 5}), json!({"finishReason": "stop"}), json!([])] {
        let mut run = Run::started(&spec(), "Hi", Value::Null);
        run.completes(&model_id(1), garbage);
        assert_eq!(run.fault().0.kind, fault_type::RUNTIME);
    }
    for (reason, kind) in
        [(FinishReason::Length, fault_type::LIMIT), (FinishReason::ContentFilter, fault_type::RUNTIME)]
    {
        let mut run = Run::started(&spec(), "Hi", Value::Null);
        run.model(1, ModelResponse { finish_reason: reason, ..says("Once upon") });
        assert_eq!((run.fault().0.kind.as_str(), run.fault().1), (kind, Some(&json!("Once upon"))));
    }
}

#[test]
fn a_finish_reason_of_stop_does_not_hide_calls() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, ModelResponse { finish_reason: FinishReason::Stop, ..calls(&[("get_order", json!({"id": "1"}))]) });
    assert_eq!(run.activities()[0].activity, "http");
}

#[test]
fn a_fault_of_the_model_ends_the_run_and_says_where() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.fails(&model_id(1), Fault::new(fault_type::COMMUNICATION, 503, "no model"));
    let (fault, partial) = run.fault();
    assert_eq!(
        (fault.kind.as_str(), fault.instance.as_deref(), partial),
        (fault_type::COMMUNICATION, Some("/turns/1/model"), None)
    );
    assert!(
        run.notes().iter().any(|note| matches!(note, Note::TaskFaulted { position, .. } if position == "/turns/1"))
    );
}

#[test]
fn cancel_and_timeout_end_the_run_at_once_with_what_there_is() {
    let with_text = ModelResponse {
        text: Some("Let me look.".into()),
        ..calls(&[("get_order", json!({"id": "1"})), ("ask_legal", json!({"message": "?"}))])
    };
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, with_text.clone()).give(Input::CancelRequested { reason: "not needed".into() });
    assert_eq!(
        run.ending(),
        &Ending::Cancelled { reason: "not needed".into(), partial_output: Some(json!("Let me look.")) }
    );
    let cancelled = run.notes().into_iter().filter(|note| matches!(note, Note::TaskCancelled { .. })).count();
    assert_eq!(cancelled, 3, "two calls and the turn");
    let progress = run.program().progress();
    assert_eq!((progress.tasks_started, progress.tasks_ended, progress.waiting.len()), (3, 3, 0));

    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.model(1, with_text).give(Input::TimeoutReached);
    assert_eq!(run.ending(), &Ending::TimedOut { partial_output: Some(json!("Let me look.")) });

    let mut run = Run::new(&spec());
    run.give(Input::CancelRequested { reason: "early".into() });
    assert_eq!(run.commands, [Command::End(Ending::Cancelled { reason: "early".into(), partial_output: None })]);
}

#[test]
fn late_and_foreign_inputs_are_ignored() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    run.completes(&model_id(9), json!({}));
    assert!(run.commands.is_empty());
    run.give(Input::TimerFired { id: model_id(1) });
    assert!(run.commands.is_empty());
    run.give(Input::Suspended);
    assert!(run.commands.is_empty());
    run.model(1, says("Done."));
    run.model(1, says("Done again."));
    assert!(run.commands.is_empty());
    run.give(Input::CancelRequested { reason: "late".into() });
    assert!(run.commands.is_empty());
}

#[test]
fn the_digest_of_the_command_covers_the_conversation() {
    let digest = |message: &str| Run::started(&spec(), message, Value::Null).activities()[0].input["digest"].clone();
    assert_eq!(digest("a"), digest("a"));
    assert_ne!(digest("a"), digest("b"));
}

#[test]
fn an_unusable_snapshot_is_refused() {
    let definition = std::sync::Arc::new(baton_agent::check(&spec()).unwrap());
    for snapshot in [b"".as_slice(), b"{}", b"\xff"] {
        let fault = baton_agent::restore(std::sync::Arc::clone(&definition), snapshot).err().unwrap();
        assert_eq!(fault.kind, fault_type::RUNTIME);
    }
}
