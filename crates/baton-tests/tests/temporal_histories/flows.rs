//! The executions that are recorded, and what happens to them meanwhile.

use baton_proto::v1;
use serde_json::{Value, json};

use crate::site::Site;

/// The one that meets most.
pub(crate) const JOURNEY: &str = "journey";
/// The one of several runs.
pub(crate) const CONTINUED: &str = "continued";
/// All of them.
pub(crate) const NAMES: [&str; 5] = ["adviser", "cancelled", CONTINUED, JOURNEY, "timed-out"];

/// How the execution of this name ends.
pub(crate) fn phase(name: &str) -> &'static str {
    match name {
        "cancelled" => "Cancelled",
        "timed-out" => "TimedOut",
        _ => "Completed",
    }
}

pub(crate) fn document(name: &str, tasks: &Value) -> Value {
    json!({"document": {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0"}, "do": tasks})
}

/// The workflow that others run.
pub(crate) fn look_up() -> Value {
    let tasks = json!([
        {"fetch": {"call": "baton.dev/echo", "with": {"item": "${ $workflow.input.item }"}}},
        {"found": {"set": {"left": "${ .item + 40 }"}}},
    ]);
    json!({"apiVersion": "baton.dev/v1", "kind": "Workflow", "metadata": {"name": "look-up", "namespace": "default"}, "spec": {"definition": document("look-up", &tasks)}})
}

fn get(path: &str) -> Value {
    json!({"call": "http", "with": {"method": "get", "endpoint": format!("${{ $workflow.input.desk + \"{path}\" }}")}})
}

/// A question that somebody answers later.
fn ask() -> Value {
    json!({"call": "http", "metadata": {"await": "callback"}, "with": {
        "method": "post", "endpoint": "${ $workflow.input.desk + \"/ask\" }", "body": {"token": "${ $task.callbackToken }"},
    }})
}

fn playback(turns: &Value) -> Value {
    json!({"name": "scripted", "provider": "playback", "playback": {"conversations": [{"turns": turns}]}})
}

/// Every way of waiting that a workflow has. It is suspended when its question is answered, and resumed after that.
pub(crate) async fn journey(site: &Site) {
    let mut late = get("/hang");
    late["timeout"] = json!({"after": {"milliseconds": 50}});
    let mut fetch = get("/stock");
    fetch["export"] = json!({"as": "${ {items: .items} }"});
    let mut long = get("/long");
    long["output"] = json!({"as": "${ length }"});
    let agent = json!({"instructions": "Answer.", "model": playback(&json!([{"text": "yes"}]))});
    let tasks = json!([
        {"fetch": fetch},
        {"note": {"set": {"items": "${ .items }"}}},
        {"each": {"for": {"each": "item", "in": "${ .items }"}, "do": [
            {"double": {"call": "baton.dev/echo", "with": {"item": "${ $item * 2 }"}}},
        ]}},
        {"race": {"fork": {"compete": true, "branches": [
            {"quick": get("/stock")},
            {"never": get("/hang")},
            {"later": {"wait": {"hours": 1}}},
        ]}}},
        {"guarded": {"try": [{"flaky": get("/flaky")}], "catch": {
            "retry": {"delay": {"milliseconds": 5}, "limit": {"attempt": {"count": 2}}},
        }}},
        {"hurried": {"try": [{"late": late}], "catch": {"do": [{"mended": {"set": {"late": true}}}]}}},
        {"long": long},
        {"pause": {"wait": {"milliseconds": 5}}},
        {"ask": ask()},
        {"child": {"run": {"workflow": {"namespace": "default", "name": "look-up", "version": "1.0.0", "input": {"item": 2}}}}},
        {"agent": {"call": "baton.dev/agent", "with": {"agent": agent, "message": "Is that right?"}}},
        {"end": {"set": {"items": "${ $context.items }", "said": "${ . }"}}},
    ]);
    site.run(JOURNEY, &tasks, "").await;
    let token = site.desk.token().await;
    site.server.app.suspend::<v1::WorkflowExecution>("default", JOURNEY).await.unwrap();
    site.in_phase::<v1::WorkflowExecution>(JOURNEY, &["Suspended"]).await;
    let output = Some(v1::Json::from_value(&json!({"answer": 42})));
    let answer = v1::CompleteCallbackRequest { callback_token: token.into_bytes(), output };
    site.server.app.complete_callback(&answer).await.unwrap();
    site.signalled(JOURNEY).await;
    site.server.app.resume::<v1::WorkflowExecution>("default", JOURNEY).await.unwrap();
}

/// An agent that uses two tools at once, one of which is a workflow.
pub(crate) async fn adviser(site: &Site) {
    let calls = json!([{"name": "stock", "arguments": {}}, {"name": "look_up", "arguments": {"item": 2}}]);
    let tools = json!([
        {"name": "stock", "description": "What there is.", "parameters": {"type": "object"}, "readOnly": true,
         "http": {"method": "GET", "url": format!("{}/stock", site.desk.url)}},
        {"name": "look_up", "description": "How many are left.", "parameters": {"type": "object"}, "workflow": {"name": "look-up"}},
    ]);
    let definition = json!({
        "instructions": "Advise.", "tools": tools, "policy": {"rules": [{"tool": "look_up", "action": "allow"}]},
        "model": playback(&json!([{"text": "Let me see.", "toolCalls": calls}, {"text": "42 are left."}])),
    });
    let spec = json!({"definition": definition, "message": "How many are left?"});
    let object = json!({"apiVersion": "baton.dev/v1", "kind": "AgentExecution", "metadata": {"name": "adviser", "namespace": "default"}, "spec": spec});
    site.create::<v1::AgentExecution>(&object).await;
}

/// What waits for ever in three ways.
fn stuck() -> Value {
    let child = json!({"run": {"workflow": {"namespace": "default", "name": "look-up", "version": "1.0.0", "input": {"item": 1}}}});
    json!([
        {"child": child},
        {"stuck": {"fork": {"branches": [{"hang": get("/hang")}, {"sleep": {"wait": {"hours": 1}}}, {"ask": ask()}]}}},
    ])
}

pub(crate) async fn cancelled(site: &Site) {
    site.run("cancelled", &stuck(), "").await;
    site.desk.token().await;
    site.server.app.cancel::<v1::WorkflowExecution>("default", "cancelled", "nobody wants it").await.unwrap();
}

/// Nobody waits for its question: on a slow machine its time may be over before that.
pub(crate) async fn timed_out(site: &Site) {
    site.run("timed-out", &stuck(), "3s").await;
}

/// One that goes on in new runs while a timer of its first one is open.
pub(crate) async fn continued(site: &Site) {
    let count = json!({"for": {"each": "n", "in": "${ [range(8)] }"}, "do": [
        {"echo": {"call": "baton.dev/echo", "with": {"n": "${ $n }"}}},
    ]});
    let branches = json!([{"count": count}, {"sleep": {"wait": {"hours": 1}}}]);
    site.run(CONTINUED, &json!([{"race": {"fork": {"compete": true, "branches": branches}}}]), "").await;
}
