use baton_proto::history_v1::HistoryEvent;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{
    model::{Effect, ExecutionKey, Progress},
    render::{Canvas, render},
};
use crate::kind::Kind;

fn event(seconds: u32, attributes: &Value) -> HistoryEvent {
    let mut fields = attributes.as_object().unwrap().clone();
    fields.insert("time".to_owned(), json!(format!("2026-01-01T00:00:{seconds:02}Z")));
    baton_proto::from_json_value(Value::Object(fields)).unwrap()
}

/// A picture after events, each for the execution of an index, and the lines told on the way.
fn picture(events: &[(usize, u32, Value)]) -> (Progress, Vec<String>) {
    let mut progress = Progress::new(ExecutionKey { kind: Kind::WorkflowExecution, name: "incident-x2k9d".to_owned() });
    let mut told = Vec::new();
    for (index, seconds, attributes) in events {
        for effect in progress.on_event(*index, &event(*seconds, attributes)) {
            if let Effect::Line(line) = effect {
                told.push(line);
            }
        }
    }
    (progress, told)
}

fn started(position: &str, kind: &str) -> Value {
    json!({"note": {"taskStarted": {"position": position, "name": position.rsplit('/').next(), "kind": kind, "attempt": 1}}})
}

fn story() -> Vec<(usize, u32, Value)> {
    let ask = "/do/1/each/for/1/do/0/ask";
    vec![
        (0, 0, json!({"started": {"uid": "u"}})),
        (0, 0, started("/do/0/fetch", "call http")),
        (0, 1, json!({"note": {"taskCompleted": "/do/0/fetch"}})),
        (0, 1, started("/do/1/each", "for")),
        (0, 1, started(ask, "call agent")),
        (
            0,
            1,
            json!({"childRequested": {"operation": {"position": ask, "attempt": 1}, "kind": "Agent", "name": "triage", "awaited": true}}),
        ),
        (0, 1, json!({"timerStarted": {"operation": {"position": ask, "attempt": 1}, "due": "2026-01-08T00:00:00Z"}})),
        (
            0,
            1,
            json!({"childStarted": {"operation": {"position": ask, "attempt": 1}, "kind": "AgentExecution", "name": "triage-a1", "uid": "v"}}),
        ),
        (1, 1, json!({"started": {"uid": "v"}})),
        (1, 1, started("/turns/1", "turn")),
        (1, 2, started("/turns/1/tools/0/runbook", "http")),
        (
            1,
            3,
            json!({"note": {"taskFaulted": {"position": "/turns/1/tools/0/runbook", "fault": {"type": "t", "status": 503, "title": "communication", "detail": "503 from the desk"}}}}),
        ),
        (0, 3, started("/do/2/page", "call http")),
        (0, 3, json!({"callbackAwaited": {"operation": {"position": "/do/2/page", "attempt": 1}}})),
    ]
}

fn check(progress: &Progress, rows: usize, seconds: i64, expected: &Expect) {
    let canvas = Canvas { rows, columns: 78, colour: false, now_ms: 1_767_225_600_000 + seconds * 1000 };
    expected.assert_eq(&render(progress, canvas).join("\n"));
}

#[test]
fn a_child_stands_under_the_task_that_started_it() {
    let (mut progress, told) = picture(&story());
    progress.on_waiting(
        0,
        &[baton_proto::v1::WaitingFor {
            operation: "/do/2/page#1".to_owned(),
            reason: "Callback".to_owned(),
            fingerprint: "3fa2c81b90de".to_owned(),
            ..Default::default()
        }],
    );
    check(
        &progress,
        40,
        65,
        &expect![[r"
        ● workflow execution incident-x2k9d  1m05s
          ✓ fetch  call http  1.0s
          ● each  for  1m04s
            ◌ [1]/ask  call agent  1m04s  waiting for agent triage-a1
              ● agent execution triage-a1  1m04s
                ● turn 1  turn  1m04s
                  ✗ runbook  http  1.0s  communication: 503 from the desk
          ◌ page  call http  1m02s  waiting for callback 3fa2c81b90de"]],
    );
    expect![[r"
        incident-x2k9d: workflow execution started
        incident-x2k9d fetch: completed in 1.0s
        incident-x2k9d each[1]/ask: started agent execution triage-a1
        triage-a1: agent execution started
        triage-a1 turn 1/runbook: failed after 1.0s: communication: 503 from the desk"]]
    .assert_eq(&told.join("\n"));
}

#[test]
fn what_does_not_fit_is_folded_then_cut() {
    let mut events = story();
    events.push((1, 4, json!({"ended": {"phase": "Completed"}})));
    events.push((0, 4, json!({"note": {"taskCompleted": "/do/1/each"}})));
    let (progress, _) = picture(&events);
    check(
        &progress,
        5,
        65,
        &expect![[r"
        ● workflow execution incident-x2k9d  1m05s
          ✓ fetch  call http  1.0s
          ✓ each  for  3.0s
          ◌ page  call http  1m02s  waiting for a callback"]],
    );
    check(
        &progress,
        3,
        65,
        &expect![[r"
        … 2 lines above
          ✓ each  for  3.0s
          ◌ page  call http  1m02s  waiting for a callback"]],
    );
}

#[test]
fn an_ending_closes_what_is_open() {
    let mut events = story();
    events.push((0, 5, json!({"cancelRequested": {"reason": "enough"}})));
    events.push((0, 6, json!({"ended": {"phase": "Cancelled", "reason": "enough"}})));
    let (progress, told) = picture(&events);
    check(
        &progress,
        6,
        65,
        &expect![[r"
        ⊘ workflow execution incident-x2k9d  6.0s  Cancelled: enough
          ✓ fetch  call http  1.0s
          ⊘ each  for  5.0s
          ⊘ page  call http  3.0s"]],
    );
    assert_eq!(told.last().unwrap(), "incident-x2k9d: cancelled after 6.0s: enough");
}

#[test]
fn a_loop_of_many_tasks_stays_small() {
    let events: Vec<_> =
        (0..6000).map(|index| (0, 0, started(&format!("/do/0/each/for/{index}/do/0/a"), "set"))).collect();
    let (progress, _) = picture(&events);
    assert_eq!((progress.executions[0].tasks.len(), progress.executions[0].unshown), (5000, 1000));
}

#[test]
fn what_a_model_says_stands_at_its_turn_until_it_has_said_it() {
    let (mut progress, _) = picture(&story());
    let delta = |fields: Value| -> baton_proto::v1::Delta {
        let mut delta = fields;
        delta["operation"] = json!({"position": "/turns/1/model", "attempt": 1});
        baton_proto::from_json_value(delta).unwrap()
    };
    let says = |progress: &Progress| {
        let canvas = Canvas { rows: 40, columns: 100, colour: false, now_ms: 1_767_225_665_000 };
        render(progress, canvas).into_iter().find(|line| line.contains("turn 1")).unwrap().trim().to_owned()
    };
    progress.on_delta(1, &delta(json!({"index": 1, "text": "Never mind "})));
    progress.on_delta(1, &delta(json!({"reset": true})));
    progress.on_delta(1, &delta(json!({"index": 1, "text": "Good\n"})));
    progress.on_delta(1, &delta(json!({"index": 2, "text": "\u{1b}day"})));
    assert_eq!(says(&progress), "● turn 1  turn  1m04s  Good \u{fffd}day");
    progress.on_delta(1, &delta(json!({"index": 3, "text": " and so on and so on".repeat(40)})));
    progress.on_delta(1, &delta(json!({"index": 4, "toolCall": {"name": "look", "arguments": "{}"}})));
    let line = says(&progress);
    assert!(line.contains("  …") && line.ends_with("and so on look {}") && line.chars().count() < 80, "{line}");
    let answered = json!({"activityCompleted": {"operation": {"position": "/turns/1/model", "attempt": 1}}});
    progress.on_event(1, &event(5, &answered));
    assert_eq!(says(&progress), "● turn 1  turn  1m04s");
}
