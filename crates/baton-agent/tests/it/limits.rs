//! Limits: each ends the run by name, before what would exceed it.

use baton_agent::{Limits, ModelResponse, check_limits};
use baton_execution::{Ending, fault_type};
use serde_json::{Value, json};

use crate::support::{Run, calls, says, spec, spec_with, tool_id};

fn assert_limit(run: &Run, name: &str) {
    let (fault, _) = run.fault();
    assert_eq!(
        (fault.kind.as_str(), fault.data.as_ref().unwrap()["limit"].as_str(), fault.non_retryable),
        (fault_type::LIMIT, Some(name), true),
        "{fault}"
    );
    assert!(run.activities().is_empty() && run.children().is_empty(), "nothing is begun");
}

#[test]
fn zero_of_a_limit_is_none_left() {
    assert_limit(&Run::started(&spec(), "Hi", json!({"maxTurns": 0})), "maxTurns");
    assert_limit(&Run::started(&spec(), "Hi", json!({"maxTokens": 0})), "maxTokens");
    let mut run = Run::started(&spec(), "Hi", json!({"maxToolCalls": 0}));
    run.model(1, calls(&[("get_order", json!({"id": "1"}))]));
    assert_limit(&run, "maxToolCalls");
}

#[test]
fn turns_are_limited_and_calls_nobody_could_read_are_not_made() {
    let mut run = Run::started(&spec(), "Hi", json!({"maxTurns": 1}));
    run.model(1, ModelResponse { text: Some("Looking.".into()), ..calls(&[("refund", json!({"id": "1"}))]) });
    assert_limit(&run, "maxTurns");
    assert_eq!(run.fault().1, Some(&json!("Looking.")));

    let mut run = Run::started(&spec(), "Hi", json!({"maxTurns": 1}));
    run.model(1, says("Done."));
    assert_eq!(run.ending(), &Ending::Completed { output: json!("Done.") });
}

#[test]
fn tokens_are_limited_over_the_whole_run() {
    let spec = spec_with(json!({"limits": {"maxTokens": 20}, "model": {"name": "m", "maxOutputTokens": 100}}));
    let mut run = Run::started(&spec, "Hi", Value::Null);
    assert_eq!(run.request(1).model.max_output_tokens, Some(20), "no answer can be longer than what is left");
    run.model(1, calls(&[("get_order", json!({"id": "1"}))])).completes(&tool_id(1, 0, "get_order"), json!("a"));
    assert_eq!(run.request(2).model.max_output_tokens, Some(5));
    run.model(2, calls(&[("get_order", json!({"id": "2"}))]));
    assert_limit(&run, "maxTokens");
}

#[test]
fn tool_calls_are_reserved_together() {
    let mut run = Run::started(&spec(), "Hi", json!({"maxToolCalls": 2}));
    run.model(1, calls(&[("get_order", json!({"id": "1"}))])).completes(&tool_id(1, 0, "get_order"), json!("a"));
    run.model(2, calls(&[("get_order", json!({"id": "2"})), ("get_order", json!({"id": "3"}))]));
    assert_limit(&run, "maxToolCalls");
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    let many: Vec<(&str, Value)> = (0..65).map(|id| ("get_order", json!({"id": id.to_string()}))).collect();
    run.model(1, calls(&many));
    assert_limit(&run, "toolCallsPerTurn");
}

#[test]
fn the_same_call_five_times_in_a_row_is_no_progress() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    for turn in 1..=4 {
        // Equal arguments, whatever the order of their keys.
        let arguments = if turn % 2 == 0 { json!({"id": "1", "x": 2}) } else { json!({"x": 2, "id": "1"}) };
        run.model(turn, calls(&[("get_order", arguments)])).completes(&tool_id(turn, 0, "get_order"), json!("a"));
    }
    run.model(5, calls(&[("get_order", json!({"id": "1", "x": 2}))]));
    assert_limit(&run, "noProgress");

    let mut run = Run::started(&spec(), "Hi", Value::Null);
    for turn in 1..=8 {
        run.model(turn, calls(&[("get_order", json!({"id": (turn % 2).to_string()}))]))
            .completes(&tool_id(turn, 0, "get_order"), json!("a"));
    }
    assert_eq!(run.activities().len(), 1, "different calls are progress");
}

#[test]
fn limits_of_the_execution_stand_before_those_of_the_agent() {
    let spec = spec_with(json!({"limits": {"maxTurns": 0}}));
    assert_limit(&Run::started(&spec, "Hi", Value::Null), "maxTurns");
    let mut run = Run::started(&spec, "Hi", json!({"maxTurns": 3}));
    run.model(1, says("Done."));
    assert_eq!(run.ending(), &Ending::Completed { output: json!("Done.") });
}

#[test]
fn limits_that_cannot_be_read_are_named() {
    assert_eq!(check_limits(&Value::Null).unwrap(), Limits::default());
    assert_eq!(
        check_limits(&json!({"maxTurns": 5, "maxTokens": null})).unwrap(),
        Limits { max_turns: Some(5), ..Limits::default() }
    );
    let violations = check_limits(&json!({"maxTurns": -1, "maxTokens": 1.5, "maxMoney": 1})).unwrap_err();
    assert_eq!(
        violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(),
        ["maxTurns", "maxTokens", "maxMoney"]
    );
    let run = Run::started(&spec(), "Hi", json!({"maxTurns": "many"}));
    assert_eq!(run.fault().0.kind, fault_type::CONFIGURATION);
}
