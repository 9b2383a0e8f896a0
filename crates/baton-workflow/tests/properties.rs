//! What holds for every document, every input and every order of them.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::sync::Arc;

use baton_execution::{Command, Ending, Input, OperationId, Outcome, Program, Recorded, Start, fault_type};
use baton_types::Uid;
use baton_workflow::{PURE_TASKS_MAX, TASKS_MAX, check, load, restore};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Words that documents have, so that arbitrary JSON comes near to being one.
const WORDS: &[&str] = &[
    "document",
    "dsl",
    "1.0.3",
    "namespace",
    "name",
    "version",
    "do",
    "call",
    "http",
    "with",
    "method",
    "endpoint",
    "set",
    "switch",
    "when",
    "then",
    "for",
    "in",
    "each",
    "fork",
    "branches",
    "compete",
    "try",
    "catch",
    "retry",
    "delay",
    "limit",
    "attempt",
    "count",
    "raise",
    "error",
    "type",
    "status",
    "wait",
    "seconds",
    "use",
    "timeouts",
    "after",
    "input",
    "from",
    "schema",
    "output",
    "as",
    "export",
    "if",
    "metadata",
    "await",
    "callback",
    "run",
    "workflow",
    "timeout",
    "PT1S",
    "${ .a }",
    "${ $item }",
    "${ [ }",
    "${",
    ".",
    "continue",
    "end",
    "exit",
    "baton.dev/agent",
    "baton.dev/echo",
    "agent",
    "message",
    "default",
    "a",
    "b",
    "",
    "https://example.com/{a}",
    "evaluate",
    "mode",
    "loose",
    "strict",
    "jq",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![prop::sample::select(WORDS).prop_map(str::to_owned), ".{0,6}"]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from)
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A task that is sound, with tasks in it.
fn task() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"set": {"x": "${ (.x? // 0) + 1 }"}})),
        Just(json!({"set": "${ {y: ., n: ($context.n? // 0)} }", "export": {"as": "{n: (($context.n? // 0) + 1)}"}})),
        Just(json!({"call": "baton.dev/echo", "with": "${ . }"})),
        Just(json!({"call": "baton.dev/echo", "metadata": {"await": "callback"}, "timeout": {"after": "PT5S"}})),
        Just(json!({"run": {"shell": {"command": "true"}, "await": false}})),
        Just(
            json!({"call": "mcp", "with": {"method": "tools/call", "parameters": "${ {name: \"t\"} }", "transport": {"stdio": {"command": "t"}}}})
        ),
        Just(json!({"call": "http", "with": {"method": "get", "endpoint": "${ \"https://example.com/\\(.x?)\" }"}})),
        Just(json!({"call": "a2a", "with": {"method": "tasks/list", "server": "https://example.com/"}})),
        Just(json!({"call": "baton.dev/agent", "with": {"agent": "a", "message": "hi"}})),
        Just(
            json!({"call": "openapi", "with": {"document": {"endpoint": "https://example.com/api"}, "operationId": "a", "parameters": "${ {x: .x?} }"}})
        ),
        Just(
            json!({"call": "grpc", "with": {"proto": {"endpoint": "https://x.y/a.proto"}, "service": {"name": "a.B", "host": "x"}, "method": "M"}})
        ),
        Just(
            json!({"call": "asyncapi", "with": {"document": {"endpoint": "https://x.y/"}, "operation": "a", "subscription": {"consume": {"amount": 1, "for": "PT3S"}}}})
        ),
        Just(json!({"wait": {"seconds": 1}})),
        Just(json!({"emit": {"event": {"with": {"type": "a", "data": "${ . }"}}}})),
        Just(json!({"listen": {"to": {"any": [], "until": "length > 2"}}, "timeout": {"after": "PT9S"}})),
        Just(json!({"listen": {"to": {"all": [{"with": {"type": "a"}}, {"with": {"type": "b"}}]}}})),
        Just(json!({"raise": {"error": {"type": "https://example.com/x", "status": 500}}})),
        Just(json!({"if": "(.x? // 0) < 2", "switch": [{"a": {"when": "(.x? // 0) > 1", "then": "exit"}}]})),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let block = prop::collection::vec(inner, 1..4).prop_map(|tasks| tasks.into_iter().enumerate().map(|(index, task)| json!({format!("t{index}"): task})).collect::<Value>());
        prop_oneof![
            block.clone().prop_map(|block| json!({"do": block, "timeout": {"after": "PT20S"}})),
            block.clone().prop_map(|block| json!({"for": {"in": "[1, 2]"}, "do": block})),
            block.clone().prop_map(|block| json!({"listen": {"to": {"any": [{"with": {"type": "a"}}], "until": "length > 1"}}, "foreach": {"do": block}})),
            (block.clone(), any::<bool>()).prop_map(|(block, compete)| json!({"fork": {"branches": block, "compete": compete}})),
            (block.clone(), block).prop_map(|(block, handler)| json!({"try": block, "catch": {"retry": {"delay": "PT1S", "limit": {"attempt": {"count": 1}}}, "do": handler}})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn checking_never_panics(document in json_value()) {
        let _ = check(&document);
    }

    #[test]
    fn checking_what_is_almost_a_document_never_panics(tasks in json_value(), extra in json_value()) {
        let head = json!({"dsl": "1.0.3", "namespace": "default", "name": "a", "version": "1.0.0"});
        let _ = check(&json!({"document": head, "use": extra, "do": tasks}));
        let _ = check(&json!({"document": head, "do": [{"a": tasks}], "input": extra}));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// The harness replays and restores with each input; here every operation is answered in some order, until the end.
    #[test]
    fn whatever_the_answers_are_it_ends_and_replays(tasks in prop::collection::vec(task(), 1..4), choices in prop::collection::vec(any::<(usize, u8)>(), 60)) {
        let tasks: Value = tasks.into_iter().enumerate().map(|(index, task)| json!({format!("t{index}"): task})).collect();
        let document = json!({"document": {"dsl": "1.0.3", "namespace": "default", "name": "a", "version": "1.0.0"}, "do": tasks});
        let definition = Arc::new(check(&document).unwrap());
        let again = Arc::clone(&definition);
        let mut harness = baton_execution::testing::Harness::new(
            move || Box::new(load(Arc::clone(&definition))),
            move |snapshot| Box::new(restore(Arc::clone(&again), snapshot).unwrap()),
        );
        let mut open: Vec<Open> = Vec::new();
        let mut ids: Vec<(&'static str, OperationId)> = Vec::new();
        let mut ended = false;
        let mut choices = choices.into_iter();
        let mut next = Some(start());
        while let Some(input) = next {
            harness.now_ms += 700;
            for command in harness.give(input) {
                prop_assert!(!ended, "nothing comes after the end");
                ended = follow(&command, &mut open, &mut ids);
            }
            let progress = harness.program().progress();
            prop_assert!(progress.tasks_ended <= progress.tasks_started);
            prop_assert!(ended || !progress.waiting.is_empty(), "an execution that has not ended waits for something");
            next = match choices.next() {
                Some((index, how)) if !ended => {
                    let index = index % open.len();
                    Some(open.remove(index).answer(how))
                }
                _ => None,
            };
        }
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        prop_assert_eq!(unique.len(), ids.len(), "no operation has the id of another");
    }
}

/// Something that the Program waits for.
enum Open {
    Activity(OperationId),
    Timer(OperationId),
    Wait(OperationId),
}

impl Open {
    fn answer(self, how: u8) -> Input {
        let fault = baton_execution::Fault::new(fault_type::COMMUNICATION, 503, "no");
        match self {
            Self::Timer(id) => Input::TimerFired { id },
            Self::Activity(id) if how.is_multiple_of(3) => Input::ActivityFailed { id, fault },
            Self::Activity(id) => Input::ActivityCompleted { id, output: json!({"x": how}) },
            Self::Wait(id) => {
                let outcome = match how % 3 {
                    0 => Outcome::Failed(fault),
                    1 => Outcome::Cancelled { reason: "no".to_owned() },
                    _ => {
                        let event =
                            |kind: &str| json!({"event": {"type": kind, "data": how}, "cursor": how.to_string()});
                        Outcome::Completed(
                            json!({"x": how, "events": [event("a"), event("b"), event("a")], "cursor": "9"}),
                        )
                    }
                };
                Input::CallbackAnswered { id, outcome, used: None }
            }
        }
    }
}

/// Keeps account of what is open; whether the execution ended.
fn follow(command: &Command, open: &mut Vec<Open>, ids: &mut Vec<(&'static str, OperationId)>) -> bool {
    match command {
        Command::ScheduleActivity(activity) => {
            ids.push(("activity", activity.id.clone()));
            open.push(Open::Activity(activity.id.clone()));
        }
        Command::StartTimer { id, .. } => {
            ids.push(("timer", id.clone()));
            open.push(Open::Timer(id.clone()));
        }
        Command::AwaitCallback { id, .. } => {
            ids.push(("wait", id.clone()));
            open.push(Open::Wait(id.clone()));
        }
        Command::Ask(question) => {
            ids.push(("wait", question.id.clone()));
            open.push(Open::Wait(question.id.clone()));
        }
        Command::StartChild(child) => {
            ids.push(("wait", child.id.clone()));
            open.push(Open::Wait(child.id.clone()));
        }
        Command::CancelActivity { id } => open.retain(|entry| !matches!(entry, Open::Activity(known) if known == id)),
        Command::CancelTimer { id } => open.retain(|entry| !matches!(entry, Open::Timer(known) if known == id)),
        Command::CloseWait { id } => open.retain(|entry| !matches!(entry, Open::Wait(known) if known == id)),
        Command::Note(_) => {}
        Command::End(_) => return true,
    }
    false
}

fn start() -> Input {
    Input::Started(Start {
        uid: Uid::from_bytes([7; 16]),
        namespace: "default".to_owned(),
        name: "run".to_owned(),
        input: json!({}),
        env: std::collections::BTreeMap::new(),
        settings: Value::Null,
        grant: None,
        carried_over: Value::Null,
    })
}

fn ends_with_limit(tasks: &str, says: &str) {
    let mut program = load(Arc::new(check(&support::definition(tasks)).unwrap()));
    let commands = program.on_input(&Recorded { time_ms: 1, input: start() }).unwrap();
    let Some(Command::End(Ending::Failed { fault, .. })) = commands.last() else { panic!("{:?}", commands.last()) };
    assert!([fault_type::LIMIT, fault_type::TOO_LARGE].contains(&fault.kind.as_str()), "{fault:?}");
    assert!(fault.detail.as_deref().unwrap().contains(says), "{fault:?}");
}

#[test]
fn loops_that_wait_for_nothing_are_stopped() {
    let says = format!("more than {PURE_TASKS_MAX} tasks ran without waiting");
    ends_with_limit("do: [{a: {set: {x: 1}, then: a}}]", &says);
    ends_with_limit(
        "do: [{a: {set: {x: 1}}}, {b: {if: 'false', set: {x: 1}}}, {c: {switch: [{again: {then: a}}]}}]",
        &says,
    );
    ends_with_limit("do: [{t: {try: [{a: {set: {x: 1}, then: a}}], catch: {do: [{b: {set: {x: 1}}}]}}}]", &says);
    ends_with_limit("do: [{f: {for: {in: '[range(9999)]'}, do: [{a: {set: {x: 1}}}, {b: {set: {x: 1}}}]}}]", &says);
}

#[test]
fn an_execution_has_a_last_task() {
    let definition = Arc::new(
        check(&support::definition("do: [{w: {wait: PT1S}}, {a: {set: {x: 1}}}, {b: {set: {x: 1}}}]")).unwrap(),
    );
    let mut program = load(Arc::clone(&definition));
    program.on_input(&Recorded { time_ms: 1, input: start() }).unwrap();
    let snapshot = String::from_utf8(program.snapshot()).unwrap();
    let late = snapshot.replacen("\"tasks_started\":1,", &format!("\"tasks_started\":{},", TASKS_MAX - 1), 1);
    assert_ne!(snapshot, late);
    let mut program = restore(definition, late.as_bytes()).unwrap();
    let fired = Input::TimerFired { id: OperationId::new("/do/0/w", 1) };
    let commands = program.on_input(&Recorded { time_ms: 2, input: fired }).unwrap();
    let Some(Command::End(Ending::Failed { fault, .. })) = commands.last() else { panic!("{commands:?}") };
    assert_eq!((fault.kind.as_str(), fault.instance.as_deref()), (fault_type::LIMIT, Some("/do/2/b")));
}

#[test]
fn a_retry_policy_without_limit_has_one() {
    let definition = "do: [{t: {try: [{a: {call: baton.dev/echo}}], catch: {retry: {}}}}]";
    let mut program = load(Arc::new(check(&support::definition(definition)).unwrap()));
    let mut commands = program.on_input(&Recorded { time_ms: 1, input: start() }).unwrap();
    let mut attempts = 0;
    while let Some(id) = commands.iter().find_map(|command| match command {
        Command::ScheduleActivity(activity) => Some(activity.id.clone()),
        _ => None,
    }) {
        attempts += 1;
        let fault = baton_execution::Fault::new(fault_type::COMMUNICATION, 503, "no");
        commands = program.on_input(&Recorded { time_ms: 1, input: Input::ActivityFailed { id, fault } }).unwrap();
    }
    assert_eq!(attempts, 11, "the first attempt and ten retries");
    assert!(matches!(commands.last(), Some(Command::End(Ending::Failed { .. }))));
}

#[test]
fn values_that_grow_without_end_are_stopped() {
    ends_with_limit("do: [{a: {set: {l: '${ . }', r: '${ . }'}, then: a}}]", "larger than");
    ends_with_limit("do: [{a: {set: {l: '${ . }'}, then: a}}]", "nested deeper than");
    ends_with_limit(
        "do: [{a: {set: {l: 1}, export: {as: {a: '${ $context }', b: '${ $context }', c: '${ [range(99)] }'}}, then: a}}]",
        "",
    );
    ends_with_limit("do: [{f: {fork: {branches: [{a: {set: '${ . }'}}, {b: {set: '${ . }'}}]}, then: f}}]", "");
}

#[test]
fn a_snapshot_of_something_else_is_refused() {
    let definition = Arc::new(check(&support::definition("do: [{w: {wait: PT1S}}]")).unwrap());
    let mut program = load(Arc::clone(&definition));
    program.on_input(&Recorded { time_ms: 1, input: start() }).unwrap();
    let snapshot = program.snapshot();
    restore(Arc::clone(&definition), &snapshot).unwrap();
    let other = Arc::new(check(&support::definition("do: [{x: {wait: PT1S}}]")).unwrap());
    assert!(restore(other, &snapshot).unwrap_err().to_string().contains("/do/0/w"));
    for broken in [&b""[..], b"{}", b"[1, 2]", &snapshot[..snapshot.len() / 2]] {
        assert!(restore(Arc::clone(&definition), broken).is_err());
    }
    let later = String::from_utf8(snapshot).unwrap().replacen("\"version\":2", "\"version\":3", 1);
    assert!(restore(definition, later.as_bytes()).unwrap_err().to_string().contains("has the format 3"));
}

#[test]
fn a_snapshot_with_placeholders_of_before_is_gone_on_with() {
    let text = "do: [{ask: {call: http, with: {method: post, endpoint: 'https://x/'}, metadata: {await: callback}, output: {as: '${ $task.callbackToken }'}}}, {w: {wait: PT1S}}]";
    let definition = Arc::new(check(&support::definition(text)).unwrap());
    let mut program = load(Arc::clone(&definition));
    let id = OperationId::new("/do/0/ask", 1);
    let answer = Input::CallbackAnswered {
        id: id.clone(),
        outcome: baton_execution::Outcome::Completed(Value::Null),
        used: None,
    };
    for input in [start(), answer] {
        program.on_input(&Recorded { time_ms: 1, input }).unwrap();
    }
    let now = String::from_utf8(program.snapshot()).unwrap();
    assert!(now.contains(&baton_execution::callback_token_placeholder(&id)), "{now}");
    let before = now
        .replacen("\"version\":2", "\"version\":1", 1)
        .replace('\u{fdd0}', "\u{e000}")
        .replace('\u{fdd1}', "\u{e001}");
    assert_eq!(
        String::from_utf8(restore(Arc::clone(&definition), before.as_bytes()).unwrap().snapshot()).unwrap(),
        now
    );
    // In a snapshot of today such a text came from outside, and is nothing but that.
    let outside = now.replace('\u{fdd0}', "\u{e000}").replace('\u{fdd1}', "\u{e001}");
    assert_eq!(String::from_utf8(restore(definition, outside.as_bytes()).unwrap().snapshot()).unwrap(), outside);
}

#[test]
fn inputs_that_cannot_be_are_errors_and_late_ones_are_not() {
    let definition = Arc::new(check(&support::definition("do: [{w: {wait: PT1S}}]")).unwrap());
    let mut program = load(definition);
    let give = |program: &mut baton_workflow::WorkflowProgram, input| program.on_input(&Recorded { time_ms: 1, input });
    let fired = || Input::TimerFired { id: OperationId::new("/do/0/w", 1) };
    assert!(give(&mut program, fired()).is_err(), "nothing can fire before the start");
    give(&mut program, start()).unwrap();
    assert!(give(&mut program, start()).is_err(), "an execution starts once");
    assert!(give(&mut program, Input::TimerFired { id: OperationId::new("/do/0/w", 2) }).unwrap().is_empty());
    assert!(give(&mut program, Input::TimerFired { id: OperationId::new("/elsewhere", 1) }).unwrap().is_empty());
    assert!(give(&mut program, Input::Suspended).unwrap().is_empty());
    assert!(matches!(give(&mut program, fired()).unwrap().last(), Some(Command::End(_))));
    for late in [fired(), start(), Input::TimeoutReached, Input::CancelRequested { reason: "x".to_owned() }] {
        assert_eq!(give(&mut program, late), Ok(Vec::new()));
    }
}
