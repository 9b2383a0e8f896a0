//! Temporal workflows of others, in the real Python SDK, whose activities are completed by executions: on either engine,
//! against the real dev server, with real processes on every side.

mod caller;
pub(crate) mod site;
mod storm;

use std::path::Path;

use baton_temporal_testing::TemporalServer;
use serde_json::{Value, json};

use self::{
    caller::Caller,
    site::{Engine, Site, asks, handover, named},
};
use crate::{
    eventually,
    flows::{RUNS, TALKS, ended},
};

/// Callers of one execution.
const CALLERS: usize = 100;
/// Type of a failure that says that the execution was cancelled.
const CANCELLED: &str = "https://baton.dev/errors/cancelled";

macro_rules! on_both_engines {
    ($($case:ident),+ $(,)?) => {
        mod embedded {
            $(#[test]
            fn $case() {
                super::$case(&mut super::Site::start(super::Engine::Embedded));
            })+
        }
        mod on_temporal {
            $(#[test]
            fn $case() {
                super::$case(&mut super::Site::start(super::Engine::Temporal));
            })+
        }
    };
}

on_both_engines!(
    output_completes_the_caller,
    failure_fails_the_caller,
    cancelled_callee_fails_the_caller,
    cancelled_caller_cancels_the_callee,
    ended_caller_cancels_the_callee,
    callee_survives_its_caller_if_told_to,
    heartbeats_stop_with_the_server,
    second_attempt_finds_the_execution_of_the_first,
    caller_reattaches_after_the_server_was_down,
    tokens_of_other_namespaces_are_refused,
    corrupted_tokens_answer_nobody,
    first_answer_counts,
    one_execution_answers_all_its_callers,
    example_and_guide_run,
);

fn output_completes_the_caller(site: &mut Site) {
    site.caller.call("agent", &asks("agent", "helper"));
    site.caller.call("odd", &handover(RUNS, named("odd", "odd")));
    site.caller.call("nothing", &handover(RUNS, named("nothing", "nothing")));
    assert_eq!(site.caller.completed("agent"), "pong");
    // As it is, to the last digit.
    let odd = json!({"large": 9_007_199_254_740_993_i64, "list": [1, null, 2.5], "text": "ä\u{1F600}"});
    assert_eq!(site.caller.completed("odd"), odd);
    assert_eq!(site.caller.completed("nothing"), Value::Null);
    for (path, name) in [(TALKS, "agent"), (RUNS, "odd"), (RUNS, "nothing")] {
        assert_eq!(site.settled(path, name), ["Delivered"]);
        let object = site.get(path, name);
        assert_eq!(object["status"]["callbacks"][0]["receiver"], "temporal", "{object}");
        assert!(!object.to_string().contains(site.caller.handed(name, 1)["token"].as_str().unwrap()));
    }
}

fn failure_fails_the_caller(site: &mut Site) {
    // What no repeat can mend ends the caller at once.
    let mut call = asks("mute", "mute");
    call["attempts"] = json!(3);
    site.caller.call("mute", &call);
    let failed = site.caller.ended("mute");
    let error = &site.get(TALKS, "mute")["status"]["error"];
    assert_eq!((&failed["how"], &failed["type"]), (&json!("Failed"), &error["type"]), "{failed}");
    assert_eq!(failed["nonRetryable"], true, "{failed}");
    assert!(failed["message"].as_str().unwrap().contains(error["detail"].as_str().unwrap()), "{failed}");
    assert_eq!(failed["details"][0]["type"], error["type"], "{failed}");
    assert_eq!(site.caller.attempts("mute"), 1);
    // Another attempt finds the same end, and nothing runs for it.
    let mut call = handover(RUNS, named("taken", "fails"));
    call["attempts"] = json!(2);
    site.caller.call("taken", &call);
    let failed = site.caller.ended("taken");
    assert_eq!(
        (&failed["how"], &failed["type"]),
        (&json!("Failed"), &json!("https://example.com/errors/taken")),
        "{failed}"
    );
    assert_eq!(failed["nonRetryable"], true, "a third would find nothing else: {failed}");
    assert_eq!(failed["details"][0]["status"], 409, "{failed}");
    assert_eq!(site.caller.attempts("taken"), 2);
    assert_eq!(site.settled(RUNS, "taken"), ["Delivered", "Delivered"]);
    let uid = site.get(RUNS, "taken")["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(site.desk.calls_of(&uid), 1, "it ran once");
}

fn cancelled_callee_fails_the_caller(site: &mut Site) {
    let mut call = asks("sleeper", "sleeper");
    call["attempts"] = json!(3);
    site.caller.call("sleeper", &call);
    site.caller.handed("sleeper", 1);
    site.api().post(&format!("{TALKS}/sleeper/cancel"), &json!({"reason": "enough"})).expect(200);
    let failed = site.caller.ended("sleeper");
    assert_eq!((&failed["how"], &failed["type"]), (&json!("Failed"), &json!(CANCELLED)), "{failed}");
    assert_eq!((&failed["nonRetryable"], site.caller.attempts("sleeper")), (&json!(true), 1), "{failed}");
    assert!(failed.to_string().contains("enough"), "{failed}");
    assert_eq!(site.settled(TALKS, "sleeper"), ["Delivered"]);
}

fn cancelled_caller_cancels_the_callee(site: &mut Site) {
    let mut call = asks("sleeper", "sleeper");
    call["heartbeat"] = json!(3);
    site.caller.call("waits", &call);
    call["execution"]["metadata"]["name"] = json!("left");
    call["tryCancel"] = json!(true);
    site.caller.call("leaves", &call);
    for id in ["waits", "leaves"] {
        site.caller.handed(id, 1);
        site.caller.cancel(id);
    }
    for (id, name, states) in [("waits", "sleeper", ["Delivered"]), ("leaves", "left", ["Rejected"])] {
        let cancelled = site.caller.ended(id);
        assert_eq!(cancelled["how"], "Cancelled", "{cancelled}");
        assert_eq!(ended(site.api(), TALKS, name)["status"]["phase"], "Cancelled", "{name}");
        assert_eq!(site.settled(TALKS, name), states, "{name}");
    }
}

fn ended_caller_cancels_the_callee(site: &mut Site) {
    let mut call = handover(RUNS, named("late", "waits"));
    call["heartbeat"] = json!(3);
    site.caller.call("terminated", &call);
    call["execution"]["metadata"]["name"] = json!("later");
    call["startToClose"] = json!(2);
    site.caller.call("timed-out", &call);
    site.caller.handed("terminated", 1);
    site.caller.terminate("terminated");
    assert_eq!(site.caller.ended("terminated")["how"], "Terminated");
    let late = site.caller.ended("timed-out");
    assert_eq!((&late["how"], &late["timeout"]), (&json!("TimedOut"), &json!("START_TO_CLOSE")), "{late}");
    for name in ["late", "later"] {
        let object = ended(site.api(), RUNS, name);
        assert_eq!(object["status"]["phase"], "Cancelled", "{object}");
        assert_eq!(site.settled(RUNS, name), ["Rejected"]);
    }
}

fn callee_survives_its_caller_if_told_to(site: &mut Site) {
    let mut call = handover(RUNS, named("kept", "waits"));
    call["execution"]["spec"]["parentClosePolicy"] = json!("Abandon");
    (call["heartbeat"], call["startToClose"]) = (json!(1), json!(2));
    site.caller.call("gone", &call);
    assert_eq!(site.caller.ended("gone")["how"], "TimedOut");
    assert_eq!(site.settled(RUNS, "kept"), ["Rejected"]);
    site.answer("kept", &json!({"n": 1}));
    let object = ended(site.api(), RUNS, "kept");
    assert_eq!((&object["status"]["phase"], &object["status"]["output"]), (&json!("Completed"), &json!({"n": 1})));
}

fn heartbeats_stop_with_the_server(site: &mut Site) {
    let mut call = handover(RUNS, named("alone", "waits"));
    call["heartbeat"] = json!(3);
    site.caller.call("alone", &call);
    site.desk.token("alone");
    site.kill_baton();
    let late = site.caller.ended("alone");
    assert_eq!((&late["how"], &late["timeout"]), (&json!("TimedOut"), &json!("HEARTBEAT")), "{late}");
    site.start_baton();
    let object = ended(site.api(), RUNS, "alone");
    assert_eq!(object["status"]["phase"], "Cancelled", "{object}");
    assert_eq!(site.settled(RUNS, "alone"), ["Rejected"]);
}

fn second_attempt_finds_the_execution_of_the_first(site: &mut Site) {
    for (id, lose, states) in
        [("never-came", "before", ["Delivered"].as_slice()), ("lost", "after", &["Rejected", "Delivered"])]
    {
        let mut call = handover(RUNS, named(id, "handshake"));
        (call["heartbeat"], call["attempts"], call["lose"]) = (json!(2), json!(5), json!(lose));
        site.caller.call(id, &call);
        let first = site.caller.handed(id, 1);
        let second = site.caller.handed(id, 2);
        assert_ne!(first["token"], second["token"]);
        assert_eq!(second["status"], if lose == "before" { 201 } else { 200 }, "{second}");
        site.answer(id, &json!(id));
        let value = site.caller.completed(id);
        assert_eq!((&value["answer"], &value["step"]["call"]), (&json!(id), &json!(1)), "{value}");
        assert_eq!(site.settled(RUNS, id), states, "{id}");
    }
}

fn caller_reattaches_after_the_server_was_down(site: &mut Site) {
    let mut call = handover(RUNS, named("patient", "handshake"));
    (call["heartbeat"], call["attempts"]) = (json!(2), json!(0));
    site.caller.call("patient", &call);
    let first = site.caller.handed("patient", 1);
    site.desk.token("patient");
    site.kill_baton();
    eventually("an attempt has timed out", || {
        site.temporal.describe_workflow("patient").filter(|text| text.contains("\"attempt\": 2"))
    });
    site.start_baton();
    let second = site.caller.handed("patient", 2);
    assert_eq!(second["status"], 200, "{second}");
    assert_eq!(first["body"]["metadata"]["uid"], second["body"]["metadata"]["uid"]);
    site.answer("patient", &json!("here"));
    let value = site.caller.completed("patient");
    assert_eq!(value["answer"], "here");
    assert_eq!(value["step"]["call"].as_u64().unwrap(), site.desk.calls(value["step"]["key"].as_str().unwrap()));
}

fn tokens_of_other_namespaces_are_refused(site: &mut Site) {
    const FORBIDDEN: &str = "CALLBACK_TOKEN_NAMESPACE_FORBIDDEN";
    site.temporal.create_namespace("other");
    let mut other = Caller::start(&site.temporal.address(), "other", site.api());
    other.call("first", &asks("first", "helper"));
    let refused = other.ended("first");
    assert_eq!((&refused["how"], &refused["type"]), (&json!("Failed"), &json!(FORBIDDEN)), "{refused}");
    assert_eq!((&refused["nonRetryable"], other.attempts("first")), (&json!(true), 1));
    assert_eq!(site.api().get(&format!("{TALKS}/first")).status, 404);
    // A namespace that there is not.
    let mut call = handover(RUNS, named("known", "waits"));
    call["attempts"] = json!(1);
    site.caller.call("known", &call);
    let token = decode(site.caller.handed("known", 1)["token"].as_str().unwrap());
    let mut unknown = token.clone();
    let digit = namespace_id(&unknown);
    unknown[digit] = if unknown[digit] == b'0' { b'1' } else { b'0' };
    let refused = site.api().post(TALKS, &with_token("nowhere", &unknown));
    assert_eq!(refused.reason(), FORBIDDEN, "{}", refused.text);
    let attached = json!({"callbackToken": encode(&unknown)});
    assert_eq!(site.api().post(&format!("{RUNS}/known/callbacks"), &attached).reason(), FORBIDDEN);
    site.answer("known", &json!(7));
    assert_eq!(site.caller.completed("known"), 7);
}

fn corrupted_tokens_answer_nobody(site: &mut Site) {
    site.caller.call("whole", &handover(RUNS, named("whole", "waits")));
    let token = decode(site.caller.handed("whole", 1)["token"].as_str().unwrap());
    // What is no token is refused at once.
    for (name, broken) in
        [("cut", &token[..=token.len() / 2]), ("noise", &[0xff; 40]), ("text", b"baton2.abc".as_slice())]
    {
        let refused = site.api().post(TALKS, &with_token(name, broken));
        assert_eq!(
            (refused.status, refused.reason().as_str()),
            (400, "CALLBACK_TOKEN_UNKNOWN"),
            "{name}: {}",
            refused.text
        );
        assert_eq!(site.api().get(&format!("{TALKS}/{name}")).status, 404, "{name}");
    }
    // What still looks like one reaches nobody, or is refused: the workflow id is another one.
    let mut other = token.clone();
    let at = other.windows(5).position(|part| part == b"whole").unwrap();
    other[at] = b'W';
    site.api().post(TALKS, &with_token("strange", &other)).expect(201);
    assert_eq!(ended(site.api(), TALKS, "strange")["status"]["phase"], "Completed");
    assert_eq!(site.settled(TALKS, "strange"), ["Rejected"]);
    // Whoever waits is not disturbed.
    site.answer("whole", &json!("mine"));
    assert_eq!(site.caller.completed("whole"), "mine");
}

fn first_answer_counts(site: &mut Site) {
    site.caller.call("elsewhere", &handover(RUNS, named("elsewhere", "waits")));
    let token = site.caller.handed("elsewhere", 1)["token"].as_str().unwrap().to_owned();
    site.desk.token("elsewhere");
    assert_eq!(site.caller.complete(&token, &json!("first")), None);
    assert_eq!(site.caller.completed("elsewhere"), "first");
    site.answer("elsewhere", &json!("second"));
    ended(site.api(), RUNS, "elsewhere");
    assert_eq!(site.settled(RUNS, "elsewhere"), ["Rejected"]);
    // The other way round.
    site.caller.call("here", &asks("here", "helper"));
    let token = site.caller.handed("here", 1)["token"].as_str().unwrap().to_owned();
    assert_eq!(site.caller.completed("here"), "pong");
    assert_eq!(site.settled(TALKS, "here"), ["Delivered"]);
    let refused = site.caller.complete(&token, &json!("second")).unwrap();
    assert!(refused.starts_with("NOT_FOUND"), "{refused}");
    // A token that was answered can still be handed over; nobody is there.
    let late = site.api().post(&format!("{TALKS}/here/callbacks"), &json!({"callbackToken": token}));
    assert_eq!(late.status, 200, "{}", late.text);
    assert_eq!(site.settled(TALKS, "here"), ["Delivered"], "one address, however often it is given");
}

fn one_execution_answers_all_its_callers(site: &mut Site) {
    let call = handover(RUNS, named("shared", "waits"));
    site.caller.call("caller-0", &call);
    site.caller.handed("caller-0", 1);
    for number in 1..CALLERS {
        let mut call = call.clone();
        call["attach"] = json!(number % 2 == 0);
        site.caller.call(&format!("caller-{number}"), &call);
    }
    for number in 1..CALLERS {
        let handed = site.caller.handed(&format!("caller-{number}"), 1);
        assert_eq!(handed["status"], 200, "{handed}");
    }
    site.answer("shared", &json!({"for": "all"}));
    for number in 0..CALLERS {
        assert_eq!(site.caller.completed(&format!("caller-{number}")), json!({"for": "all"}));
    }
    assert_eq!(site.settled(RUNS, "shared"), ["Delivered"; CALLERS]);
    assert_eq!(site.api().get(&format!("{RUNS}?limit=10")).expect(200)["items"].as_array().unwrap().len(), 1);
}

fn example_and_guide_run(site: &mut Site) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let example = root.join("examples/temporal-python");
    let applied = site.baton(&["apply", "-f", &example.display().to_string()]);
    assert_eq!(applied.code, 0, "{applied:?}");
    let run = site.python(&example.join("main.py"), &["I was charged twice.", "--temporal", &site.temporal.address()]);
    assert_eq!(run.code, 0, "{run:?}");
    let readme = std::fs::read_to_string(example.join("README.md")).unwrap();
    assert!(readme.contains(&format!("```json\n{}```", run.stdout)), "the README has another output: {}", run.stdout);
    let guide = root.join("crates/baton-cli/tests/whole/temporal/guide.py");
    let run = site.python(&guide, &[&site.temporal.address(), &format!("http://{}", site.api().0)]);
    assert_eq!(run.code, 0, "{run:?}");
    let given: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&given["team"], &given["urgent"]), (&json!("payments"), &json!(true)), "{given}");
    let all = site.api().get(TALKS).expect(200);
    for object in all["items"].as_array().unwrap() {
        assert_eq!(site.settled(TALKS, object["metadata"]["name"].as_str().unwrap()), ["Delivered"]);
    }
}

/// An agent that would answer a token.
fn with_token(name: &str, token: &[u8]) -> Value {
    let mut object = crate::flows::talk(name, "helper");
    object["spec"]["callbackToken"] = json!(encode(token));
    object
}

fn encode(token: &[u8]) -> String {
    base64::Engine::encode(&base64::prelude::BASE64_STANDARD, token)
}

fn decode(token: &str) -> Vec<u8> {
    base64::Engine::decode(&base64::prelude::BASE64_STANDARD, token).unwrap()
}

/// Where a digit of the namespace's id stands in a task token: it is the first field, a UUID as text.
fn namespace_id(token: &[u8]) -> usize {
    assert_eq!(token[..2], [0x0a, 36], "field 1, 36 bytes");
    2 + 35
}

/// Winding up takes longer than the caller waits for a heartbeat: no worker is there for the callee.
#[test]
fn heartbeats_go_on_while_the_callee_winds_up() {
    let mut site = Site::start_with(Engine::Temporal, false);
    let worker = site.start_worker();
    let mut call = handover(RUNS, named("slow", "sleeps"));
    call["heartbeat"] = json!(2);
    site.caller.call("slow", &call);
    site.caller.handed("slow", 1);
    eventually("it sleeps", || (site.get(RUNS, "slow")["status"]["waitingFor"][0]["reason"] == "Timer").then_some(()));
    drop(worker);
    site.caller.cancel("slow");
    // A caller whose heartbeat nobody keeps up tells that the time has passed, twice.
    let mut call = asks("clock", "helper");
    (call["heartbeat"], call["attempts"], call["lose"]) = (json!(2), json!(1), json!("before"));
    for clock in ["clock-1", "clock-2"] {
        site.caller.call(clock, &call);
        assert_eq!(site.caller.ended(clock)["timeout"], "HEARTBEAT");
    }
    let _worker = site.start_worker();
    let cancelled = site.caller.ended("slow");
    assert_eq!(cancelled["how"], "Cancelled", "{cancelled}");
    assert_eq!(site.settled(RUNS, "slow"), ["Delivered"]);
}

/// Whatever Temporal is asked by these tests, the dev server is there to answer.
#[test]
fn the_dev_server_is_there() {
    assert!(TemporalServer::shared().cli(&["operator", "cluster", "health"]).contains("SERVING"));
}
