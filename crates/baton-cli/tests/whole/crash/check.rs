//! What must hold after the last start.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::{
    Story, all,
    load::{Deleted, Flow, Run},
};
use crate::{
    eventually,
    flows::{RUNS, answer},
    http::Api,
};

/// All of it.
pub(crate) fn everything(story: &Story, api: Api) {
    let kept = || story.runs.iter().filter(|run| run.deleted == Deleted::Never);
    for run in kept().filter(|run| run.flow == Flow::Sleeps) {
        api.post(&format!("{RUNS}/{}/cancel", run.name), &json!({"reason": "enough"})).expect(200);
    }
    let mut histories = HashMap::new();
    for run in kept() {
        let events = api.get(&format!("{RUNS}/{}/history?follow=true", run.name)).lines();
        check_run(api, run, &events);
        histories.insert(run.uid.clone().unwrap(), events);
    }
    let objects = children_have_ended(story, api);
    for ((collection, name), object) in
        objects.iter().filter(|(_, object)| object["metadata"]["ownerReferences"].is_array())
    {
        let events = api.get(&format!("namespaces/default/{collection}/{name}/history?follow=true")).lines();
        check_history(name, &events);
        histories.insert(object["metadata"]["uid"].as_str().unwrap().to_owned(), events);
    }
    check_calls(story, &histories);
    check_answers(story, api);
    check_mailboxes(story, api);
}

pub(crate) fn is_terminal(object: &Value) -> bool {
    matches!(object["status"]["phase"].as_str(), Some("Completed" | "Failed" | "Cancelled" | "TimedOut"))
}

/// An execution is the one that was acknowledged, and ended as its flow does.
fn check_run(api: Api, run: &Run, events: &[Value]) {
    check_history(&run.name, events);
    let object = api.get(&format!("{RUNS}/{}", run.name)).expect(200);
    assert_eq!(object["metadata"]["uid"].as_str(), run.uid.as_deref(), "{}", run.name);
    let status = &object["status"];
    assert!(
        run.flow.ends(&run.name).iter().any(|(phase, output)| status["phase"] == *phase && status["output"] == *output),
        "{}: {object}",
        run.name
    );
}

/// Numbers without a gap from 1, and one end, which is the last event.
fn check_history(name: &str, events: &[Value]) {
    let numbers: Vec<u64> = events.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (1..).take(events.len()).collect();
    assert_eq!(numbers, expected, "{name}");
    let ends: Vec<usize> = (0..events.len()).filter(|at| events[*at]["type"] == "Ended").collect();
    assert_eq!(ends, [events.len() - 1], "{name}: {events:#?}");
    let operations = |kind: &str| {
        events
            .iter()
            .filter(|event| event["type"] == kind)
            .map(|event| key("", &event[lower(kind)]["operation"]))
            .collect::<Vec<_>>()
    };
    for kind in ["ActivityCompleted", "ActivityScheduled", "TimerFired", "CallbackAnswered", "ChildStarted"] {
        let found = operations(kind);
        let once: HashSet<_> = found.iter().collect();
        assert_eq!(once.len(), found.len(), "{name}: one {kind} for an operation: {found:?}");
    }
}

fn lower(kind: &str) -> String {
    kind[..1].to_ascii_lowercase() + &kind[1..]
}

/// An operation as the world outside is told it.
fn key(uid: &str, operation: &Value) -> String {
    format!(
        "{uid}/{}/{}",
        operation["position"].as_str().unwrap_or_default(),
        operation["attempt"].as_u64().unwrap_or_default()
    )
}

/// Every parent has one child and no more, all of them have ended, and there is nothing that nobody asked for.
fn children_have_ended(story: &Story, api: Api) -> HashMap<(String, String), Value> {
    let objects = eventually("all executions have ended and all callers were told", || {
        let objects = all(api);
        let settled = |object: &Value| {
            object["status"]["callbacks"]
                .as_array()
                .into_iter()
                .flatten()
                .all(|callback| callback["state"] == "Delivered")
        };
        objects.values().all(|object| is_terminal(object) && settled(object)).then_some(objects)
    });
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    for ((collection, _), object) in &objects {
        if let Some(owner) = object["metadata"]["ownerReferences"][0]["name"].as_str() {
            children.entry(owner).or_default().push(collection);
        }
    }
    for run in &story.runs {
        let expected: Vec<&str> = run.flow.children().into_iter().collect();
        assert_eq!(children.get(run.name.as_str()).cloned().unwrap_or_default(), expected, "{}", run.name);
    }
    let kept = story.runs.iter().filter(|run| run.deleted == Deleted::Never).count();
    assert!(kept < story.runs.len(), "something was deleted");
    let asked_for = kept + story.runs.iter().filter(|run| run.flow.children().is_some()).count();
    assert_eq!(objects.len(), asked_for);
    objects
}

/// The result that a history holds is that of the last call: none was made after it was recorded.
fn check_calls(story: &Story, histories: &HashMap<String, Vec<Value>>) {
    let calls = story.world.calls();
    let mut recorded = 0;
    for (uid, events) in histories {
        for event in events.iter().filter(|event| event["type"] == "ActivityCompleted") {
            let completed = &event["activityCompleted"];
            let output = &completed["output"];
            let key = key(uid, &completed["operation"]);
            if let Some(call) = output["call"].as_u64() {
                assert_eq!(
                    (output["key"].as_str(), call),
                    (Some(key.as_str()), u64::from(calls.by_key[&key])),
                    "{key} was called again"
                );
                recorded += 1;
            }
        }
    }
    let twice: Vec<_> = calls.once.iter().filter(|key| calls.by_key[*key] != 1).collect();
    assert!(!calls.once.is_empty() && twice.is_empty(), "a call that must not be repeated was: {twice:?}");
    let steps = story.runs.iter().filter(|run| run.flow == Flow::Steps).count();
    assert!(recorded >= steps * super::load::STEPS, "{recorded} results are recorded");
    let repeats = calls.by_key.values().map(|calls| *calls as usize - 1).sum::<usize>();
    assert!(
        repeats <= story.in_flight_max,
        "{repeats} calls were repeated, at most {} can have been in flight",
        story.in_flight_max
    );
}

/// Nobody who answered was told anything odd, and an answer counts once.
fn check_answers(story: &Story, api: Api) {
    assert_eq!(story.world.surprises(), Vec::<String>::new());
    let answered = story.world.answered();
    assert!(!answered.is_empty());
    for token in answered.iter().take(20) {
        let again = api.post("callbacks:complete", &json!({"token": token, "output": {"run": "another"}}));
        assert_eq!((again.status, again.reason().as_str()), (400, "CALLBACK_ALREADY_COMPLETED"), "{}", again.text);
    }
}

/// Every caller outside has its answer, which is that of its execution, and is told once.
fn check_mailboxes(story: &Story, api: Api) {
    let callers = story.runs.iter().filter_map(|run| run.mailbox.as_ref().map(|token| (run, token)));
    let mut told = 0;
    for (run, token) in callers {
        if run.deleted == Deleted::Acknowledged {
            assert_eq!(answer(api, token)["state"], "Cancelled", "{}", run.name);
            assert_eq!(api.get(&format!("{RUNS}/{}", run.name)).status, 404, "{}", run.name);
            continue;
        }
        let status = &api.get(&format!("{RUNS}/{}", run.name)).expect(200)["status"];
        let answer = answer(api, token);
        assert_eq!(
            (&answer["state"], &answer["output"]),
            (&status["phase"], &status["output"]),
            "{}: {answer}",
            run.name
        );
        let list = api.get(&format!("{RUNS}/{}/callbacks", run.name)).expect(200);
        let states: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["state"]).collect();
        assert_eq!(states, ["Delivered"], "{}: {list}", run.name);
        told += 1;
    }
    assert!(told > 0);
}
