//! Rehearsals: an engine in one function.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::sync::Arc;

use baton_workflow::{
    check,
    rehearsal::{
        Answer, Arrival, Ending, Fault, Rehearsal, Reply, Script, Stop, TaskState, contains, fault_type, rehearse,
    },
};
use serde_json::{Value, json};

fn answer(task: &str, reply: Reply) -> Answer {
    Answer { task: Some(task.to_owned()), matches: None, after_ms: 0, reply, times: Some(1) }
}

fn run(tasks: &str, script: &Script) -> Rehearsal {
    rehearse(&Arc::new(check(&support::definition(tasks)).unwrap()), script)
}

fn output(rehearsal: &Rehearsal) -> &Value {
    match &rehearsal.result {
        Ok(Ending::Completed { output }) => output,
        other => panic!("{other:?}"),
    }
}

fn fault(rehearsal: &Rehearsal) -> &Fault {
    match &rehearsal.result {
        Ok(Ending::Failed { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

const CALL: &str = "do: [{ask: {call: http, with: {method: get, endpoint: 'https://example.com'}}}]";
const CALLBACK: &str = "do:
  - ask:
      call: http
      metadata: {await: callback, heartbeat: PT30S}
      with: {method: post, endpoint: 'https://example.com', body: {token: '${ $task.callbackToken }'}}
      timeout: {after: PT1H}";

#[test]
fn time_jumps_to_what_comes_next() {
    let tasks = "do:
      - race:
          fork:
            compete: true
            branches:
              - slow: {wait: PT2H}
              - quick: {do: [{pause: {wait: PT1H}}, {say: {set: {won: quick}}}]}";
    let rehearsal = run(tasks, &Script::default());
    assert_eq!((output(&rehearsal), rehearsal.elapsed_ms), (&json!({"won": "quick"}), 3_600_000));
    let slow = rehearsal.tasks.iter().find(|task| task.name == "slow").unwrap();
    assert_eq!(slow.state, TaskState::Cancelled);
}

#[test]
fn a_call_without_an_answer_ends_it_and_is_told() {
    let rehearsal = run(CALL, &Script::default());
    assert!(matches!(&rehearsal.result, Err(Stop::Unanswered(calls)) if *calls == [0]), "{:?}", rehearsal.result);
    let call = &rehearsal.calls[0];
    assert_eq!((call.task.as_str(), call.position.as_str(), call.activity.as_str()), ("ask", "/do/0/ask", "http"));
    assert!(contains(&call.input, &json!({"method": "GET"})));
}

#[test]
fn answers_are_taken_in_order_and_the_rest_is_told() {
    let tasks = "do:
      - again:
          try: [{ask: {call: http, with: {method: get, endpoint: 'https://example.com'}}}]
          catch: {retry: {delay: PT10S, limit: {attempt: {count: 5}}}}";
    let fails = || Reply::Fails(Fault::new(fault_type::COMMUNICATION, 503, "busy"));
    let answers = vec![
        Answer { times: Some(2), ..answer("ask", fails()) },
        Answer { matches: Some(json!({"method": "DELETE"})), ..answer("ask", Reply::Returns(json!("wrong"))) },
        Answer { times: None, ..answer("/do/0/again/try/0/ask", Reply::Returns(json!("well"))) },
        answer("ask", Reply::Returns(json!("too late"))),
    ];
    let rehearsal = run(tasks, &Script { answers, ..Script::default() });
    assert_eq!((output(&rehearsal), rehearsal.elapsed_ms), (&json!("well"), 20_000));
    assert_eq!(rehearsal.unused, [1, 3]);
    assert_eq!(rehearsal.calls.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn silence_is_ended_by_limits_of_time() {
    let script = |answers| Script { answers, ..Script::default() };
    let rehearsal = run(CALL, &script(vec![answer("ask", Reply::Silent)]));
    assert_eq!((fault(&rehearsal).kind.as_str(), rehearsal.elapsed_ms), (fault_type::TIMEOUT, 60_000));
    let late = Answer { after_ms: 61_000, ..answer("ask", Reply::Returns(json!(1))) };
    assert_eq!(run(CALL, &script(vec![late])).elapsed_ms, 60_000);
    let rehearsal = run(CALLBACK, &script(vec![answer("ask", Reply::Silent)]));
    assert_eq!((fault(&rehearsal).status, rehearsal.elapsed_ms), (408, 30_000));
    let late = Answer { after_ms: 59 * 60_000, ..answer("ask", Reply::Returns(json!("yes"))) };
    let rehearsal = run(CALLBACK, &script(vec![late]));
    assert_eq!(output(&rehearsal), &json!("yes"), "heartbeats are taken to come");
    assert_eq!(rehearsal.calls[0].input["body"]["token"], "<callback token>");
}

#[test]
fn agents_and_workflows_are_calls_too() {
    let tasks = "do:
      - ask: {call: baton.dev/agent, with: {agent: triage, message: hi, input: {n: 1}}}
      - later: {run: {await: false, workflow: {namespace: default, name: report, version: 1.0.0, input: {a: 1}}}}";
    let ask = Answer { after_ms: 5_000, ..answer("ask", Reply::Cancelled("enough".to_owned())) };
    let rehearsal = run(tasks, &Script { answers: vec![ask], ..Script::default() });
    assert_eq!((fault(&rehearsal).kind.as_str(), rehearsal.elapsed_ms), (fault_type::CANCELLED, 5_000));
    let answers = vec![answer("ask", Reply::Returns(json!({"severity": "minor"})))];
    let rehearsal = run(tasks, &Script { answers, ..Script::default() });
    assert_eq!(output(&rehearsal), &json!({"severity": "minor"}));
    assert_eq!(rehearsal.calls[0].input, json!({"agent": "triage", "message": "hi", "input": {"n": 1}}));
    assert_eq!(rehearsal.calls[1].input, json!({"workflow": "report", "version": "1.0.0", "input": {"a": 1}}));
}

#[test]
fn an_execution_can_be_cancelled_and_run_out_of_time() {
    let tasks = "do: [{rest: {wait: PT1H}}]";
    let rehearsal = run(tasks, &Script { cancel: Some((60_000, "enough".to_owned())), ..Script::default() });
    assert!(matches!(&rehearsal.result, Ok(Ending::Cancelled { reason, .. }) if reason == "enough"));
    let rehearsal = run(tasks, &Script { timeout_ms: Some(90_000), ..Script::default() });
    assert!(matches!(&rehearsal.result, Ok(Ending::TimedOut { .. })));
    assert_eq!(rehearsal.elapsed_ms, 90_000);
}

#[test]
fn what_a_value_holds() {
    for (found, wanted, holds) in [
        (json!({"a": 1, "b": 2}), json!({"a": 1}), true),
        (json!({"a": 1}), json!({"a": 1, "b": null}), false),
        (json!({"a": {"b": [1, {"c": 2, "d": 3}]}}), json!({"a": {"b": [1, {"c": 2}]}}), true),
        (json!([1, 2]), json!([1]), false),
        (json!(1.0), json!(1), true),
        (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992_i64), false),
        (json!("1"), json!(1), false),
    ] {
        assert_eq!(contains(&found, &wanted), holds, "{found} {wanted}");
    }
}

#[test]
fn events_come_to_who_listens() {
    let tasks = "do:
      - rest: {wait: PT1M}
      - hear: {listen: {to: {any: [{with: {type: com.example.paid}}], until: '. | length == 2'}}}";
    let event = |after_ms: u64, kind: &str, n: u64| Arrival {
        after_ms,
        event: json!({"specversion": "1.0", "id": format!("{n}"), "source": "/test", "type": kind, "data": {"n": n}}),
    };
    let paid = "com.example.paid";
    let events = vec![event(90_000, paid, 1), event(100_000, "com.example.other", 2), event(120_000, paid, 3)];
    let rehearsal = run(tasks, &Script { events, ..Script::default() });
    assert_eq!((output(&rehearsal), rehearsal.elapsed_ms), (&json!([{"n": 1}, {"n": 3}]), 120_000));
    let rehearsal = run("do: [{hear: {listen: {to: {one: {with: {type: a}}}}}}]", &Script::default());
    assert_eq!(rehearsal.elapsed_ms, 7 * 24 * 3_600_000, "nobody waits forever: {:?}", rehearsal.result);
}
