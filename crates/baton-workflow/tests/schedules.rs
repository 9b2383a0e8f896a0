//! Schedules: what starts an execution, and what it gets.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use baton_workflow::{Definition, Gathered, Offered, On, Schedule, check};
use serde_json::{Value, json};

fn definition(schedule: &str) -> Definition {
    check(&support::definition(&format!("schedule: {schedule}\ndo: [{{a: {{set: {{x: 1}}}}}}]"))).unwrap()
}

fn event(kind: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": "1", "source": "/s", "type": kind, "data": data})
}

/// What the executions get that a sequence of events starts; what is gathered is written and read after each event.
fn inputs(schedule: &str, events: &[Value]) -> Vec<Value> {
    let definition = definition(schedule);
    let on = on(&definition);
    let (mut gathered, mut inputs) = (Gathered::default(), Vec::new());
    for event in events {
        match on.offer(&mut gathered, event) {
            Offered::Complete(input) => {
                assert!(gathered.is_empty(), "gathering begins anew");
                inputs.push(Value::Array(input));
            }
            Offered::Kept | Offered::Ignored => {}
            Offered::TooMuch => inputs.push(json!("too much")),
        }
        let kept = serde_json::to_string(&gathered).unwrap();
        gathered = serde_json::from_str(&kept).unwrap();
    }
    inputs
}

fn on(definition: &Definition) -> &On {
    match definition.schedule() {
        Some(Schedule::On(on)) => on,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_event_starts_one_execution_with_the_event_its_data_or_its_text() {
    let events = [event("a", &json!({"n": 1})), event("b", &json!(2)), event("a", &json!({"n": 3}))];
    assert_eq!(inputs("{on: {one: {with: {type: a}}}}", &events), [json!([events[0]]), json!([events[2]])]);
    assert_eq!(inputs("{on: {one: {with: {type: b}}}, read: data}", &events), [json!([2])]);
    assert_eq!(inputs("{on: {one: {with: {type: a}}}, read: raw}", &events[..1]), [json!([r#"{"n":1}"#])]);
    assert_eq!(inputs("{on: {any: [{with: {type: a}}, {with: {type: b}}]}}", &events).len(), 3);
    assert_eq!(inputs("{on: {any: []}}", &events).len(), 3);
    assert_eq!(inputs("{on: {one: {with: {data: '${ .n > 2 }'}}}, read: data}", &events), [json!([{"n": 3}])]);
}

#[test]
fn all_take_one_event_each_and_correlate() {
    let both = "{on: {all: [
        {with: {type: ordered}, correlate: {order: {from: .data.order}}},
        {with: {type: paid}, correlate: {order: {from: .data.order}}}]}, read: data}";
    let of = |kind, order: i64| event(kind, &json!({"order": order}));
    let events = [of("ordered", 1), of("paid", 2), of("ordered", 2), of("paid", 1), of("paid", 2), of("ordered", 2)];
    let started = inputs(both, &events);
    assert_eq!(started, [json!([{"order": 1}, {"order": 1}]), json!([{"order": 2}, {"order": 2}])]);
}

#[test]
fn until_gathers() {
    let events = [1, 2, 3, 4, 5].map(|n| event("a", &json!(n)));
    let pairs = inputs("{on: {any: [{with: {type: a}}], until: 'length == 2'}, read: data}", &events);
    assert_eq!(pairs, [json!([1, 2]), json!([3, 4])]);
    let stop = event("stop", &Value::Null);
    let mut stopped = events.to_vec();
    stopped.insert(3, stop.clone());
    stopped.insert(4, stop);
    let batches = inputs("{on: {any: [{with: {type: a}}], until: {one: {with: {type: stop}}}}, read: data}", &stopped);
    assert_eq!(batches, [json!([1, 2, 3]), json!([])]);
}

#[test]
fn what_grows_beyond_the_limits_is_let_go_of() {
    let large = event("a", &json!("x".repeat(200_000)));
    let until = "{on: {any: [{with: {type: a}}], until: 'length == 5'}}";
    assert_eq!(inputs(until, &vec![large; 3]), [json!("too much")]);
    let small = event("a", &json!(1));
    let never = "{on: {any: [{with: {type: a}}], until: '.[0] == 7'}, read: data}";
    assert_eq!(inputs(never, &vec![small; 1001]), [json!("too much")]);
}

#[test]
fn it_says_what_it_is() {
    for (schedule, says) in [
        ("{every: {hours: 1, minutes: 30}}", "every 1h30m"),
        ("{cron: '0 0 * * *'}", "cron 0 0 * * *"),
        ("{after: PT5M}", "after 5m"),
        ("{on: {one: {with: {type: com.example.order}}}}", "on event com.example.order"),
    ] {
        let definition = definition(schedule);
        assert_eq!(definition.schedule().unwrap().to_string(), says);
        let graph = definition.graph();
        assert_eq!(graph.schedule.as_deref(), Some(says));
        for drawn in [graph.text(), graph.mermaid(), graph.svg()] {
            assert!(drawn.contains(says), "{drawn}");
        }
    }
    assert!(check(&support::definition("do: [{a: {set: {x: 1}}}]")).unwrap().schedule().is_none());
}

#[test]
fn the_types_of_events_are_known_unless_any_may_fit() {
    for (schedule, types) in [
        ("{one: {with: {type: a}}}", Some(vec!["a"])),
        ("{all: [{with: {type: a}}, {with: {type: b}}]}", Some(vec!["a", "b"])),
        ("{any: [{with: {type: a}}], until: {one: {with: {source: /s}}}}", None),
        ("{any: []}", None),
        ("{one: {with: {type: 'a.*'}}}", None),
    ] {
        assert_eq!(on(&definition(&format!("{{on: {schedule}}}"))).types(), types, "{schedule}");
    }
}
