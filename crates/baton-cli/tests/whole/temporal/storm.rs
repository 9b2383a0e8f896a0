//! Killed while a hundred handshakes are in flight: the server, the workers, Temporal. Every caller gets one answer, which
//! is its own, and no call whose result was recorded is made again.

use std::thread;

use serde_json::{Value, json};

use super::site::{Engine, Site, handover, named};
use crate::{eventually, flows::RUNS};

/// Callers, each with an execution of its own.
const HANDSHAKES: usize = 100;
/// Executions that wait when the first kill comes, and answers that are under way when the second comes.
const SOME: usize = 40;
/// Who answers at the same time.
const CLERKS: usize = 4;

fn name(number: usize) -> String {
    format!("handshake-{number}")
}

fn names() -> Vec<String> {
    (0..HANDSHAKES).map(name).collect()
}

/// A hundred handshakes; `kill` kills and starts again, once while they begin and once while they are answered.
fn storm(mut site: Site, mut kill: impl FnMut(&mut Site)) {
    for name in names() {
        let mut call = handover(RUNS, named(&name, "handshake"));
        call["attempts"] = json!(0);
        site.caller.call(&name, &call);
    }
    for name in names() {
        site.caller.started(&name);
    }
    eventually("some wait", || (site.desk.waiting() >= SOME).then_some(()));
    kill(&mut site);
    eventually("all wait", || (site.desk.waiting() == HANDSHAKES).then_some(()));
    answer(&site, 0..SOME);
    kill(&mut site);
    answer(&site, 0..HANDSHAKES);
    for name in names() {
        let value = site.caller.completed(&name);
        assert_eq!((&value["run"], &value["answer"]), (&json!(name), &json!({"to": name})), "{value}");
        let step = &value["step"];
        // The result that is recorded is that of the last call.
        assert_eq!(step["call"].as_u64().unwrap(), site.desk.calls(step["key"].as_str().unwrap()), "{value}");
        let states = site.settled(RUNS, &name);
        assert!(states.iter().all(|state| state == "Delivered" || state == "Rejected"), "{states:?}");
        assert_eq!(site.get(RUNS, &name)["status"]["phase"], "Completed");
    }
    let all = site.api().get(&format!("{RUNS}?limit=500")).expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), HANDSHAKES, "nothing runs twice");
}

/// Answers these executions, several at a time.
fn answer(site: &Site, numbers: std::ops::Range<usize>) {
    let numbers: Vec<usize> = numbers.collect();
    thread::scope(|scope| {
        for some in numbers.chunks(numbers.len().div_ceil(CLERKS)) {
            scope.spawn(move || {
                for number in some {
                    site.answer(&name(*number), &answer_to(*number));
                }
            });
        }
    });
}

fn answer_to(number: usize) -> Value {
    json!({"to": name(number)})
}

fn kill_baton(site: &mut Site) {
    site.kill_baton();
    site.start_baton();
}

fn kill_temporal(site: &mut Site) {
    site.temporal.kill();
    site.temporal.restart();
}

fn kill_caller(site: &mut Site) {
    site.replace_caller(&names());
}

#[test]
fn server_is_killed() {
    storm(Site::start(Engine::Embedded), kill_baton);
}

#[test]
fn server_is_killed_with_executions_on_temporal() {
    storm(Site::start(Engine::Temporal), kill_baton);
}

#[test]
fn temporal_is_killed() {
    storm(Site::start(Engine::Embedded), kill_temporal);
}

#[test]
fn temporal_is_killed_with_executions_on_it() {
    storm(Site::start(Engine::Temporal), kill_temporal);
}

#[test]
fn workers_of_the_callers_are_killed() {
    storm(Site::start(Engine::Embedded), kill_caller);
}

#[test]
fn workers_of_the_executions_are_killed() {
    let site = Site::start_with(Engine::Temporal, false);
    let mut workers = vec![site.start_worker(), site.start_worker()];
    storm(site, move |site| {
        // A process that goes out of scope is killed.
        workers.remove(0);
        workers.push(site.start_worker());
    });
}
