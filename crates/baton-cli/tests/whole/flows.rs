//! Manifests.

use serde_json::{Value, json};

use crate::http::Api;

pub(crate) const WORKFLOWS: &str = "namespaces/default/workflows";
pub(crate) const AGENTS: &str = "namespaces/default/agents";
pub(crate) const RUNS: &str = "namespaces/default/workflowexecutions";
pub(crate) const TALKS: &str = "namespaces/default/agentexecutions";

/// A workflow with these tasks.
pub(crate) fn workflow(name: &str, tasks: &Value) -> Value {
    json!({
        "apiVersion": "baton.dev/v1", "kind": "Workflow", "metadata": {"name": name},
        "spec": {"definition": {"document": {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0"}, "do": tasks}},
    })
}

/// An agent with this model.
pub(crate) fn agent(name: &str, model: &Value) -> Value {
    json!({"apiVersion": "baton.dev/v1", "kind": "Agent", "metadata": {"name": name}, "spec": {"instructions": "Answer.", "model": model}})
}

/// A model that says one thing.
pub(crate) fn scripted(text: &str) -> Value {
    json!({"name": "script", "provider": "playback", "playback": {"conversations": [{"turns": [{"text": text}]}]}})
}

/// A task that POSTs `body` to `url`, an expression or a text.
pub(crate) fn call(url: &str, body: &Value) -> Value {
    json!({"call": "http", "with": {"method": "post", "endpoint": url, "body": body}})
}

/// The same, completed by whoever answers its token.
pub(crate) fn call_and_wait(url: &str, body: &Value) -> Value {
    let mut task = call(url, body);
    task["metadata"] = json!({"await": "callback"});
    task
}

/// A task that runs another workflow.
pub(crate) fn run_workflow(name: &str, input: &Value) -> Value {
    json!({"run": {"workflow": {"namespace": "default", "name": name, "version": "1.0.0", "input": input}}})
}

/// A run of a workflow.
pub(crate) fn run(name: &str, workflow: &str) -> Value {
    json!({"apiVersion": "baton.dev/v1", "kind": "WorkflowExecution", "metadata": {"name": name}, "spec": {"workflow": workflow}})
}

/// A run of an agent.
pub(crate) fn talk(name: &str, agent: &str) -> Value {
    json!({"apiVersion": "baton.dev/v1", "kind": "AgentExecution", "metadata": {"name": name}, "spec": {"agent": agent, "message": "hello"}})
}

/// Creates a template.
#[track_caller]
pub(crate) fn create(api: Api, object: &Value) -> Value {
    let path = if object["kind"] == "Agent" { AGENTS } else { WORKFLOWS };
    api.post(path, object).expect(201)
}

/// Starts `tasks` as a workflow of this name and gives the execution when it has ended.
#[track_caller]
pub(crate) fn outcome(api: Api, name: &str, tasks: &Value) -> Value {
    create(api, &workflow(name, tasks));
    api.post(RUNS, &run(name, name)).expect(201);
    ended(api, RUNS, name)
}

/// Follows an execution to its end and gives it.
#[track_caller]
pub(crate) fn ended(api: Api, collection: &str, name: &str) -> Value {
    let followed = api.get(&format!("{collection}/{name}/history?follow=true"));
    assert_eq!(followed.status, 200, "{}", followed.text);
    api.get(&format!("{collection}/{name}")).expect(200)
}

/// A return address for a caller outside.
#[track_caller]
pub(crate) fn mailbox(api: Api) -> String {
    api.post("callbacks:create", &json!({})).expect(201)["token"].as_str().unwrap().to_owned()
}

/// The answer to a caller outside, once there is one.
#[track_caller]
pub(crate) fn answer(api: Api, token: &str) -> Value {
    loop {
        let answer = api.post("callbacks:await", &json!({"token": token, "timeout": "30s"})).expect(200);
        if answer["state"] != "Waiting" {
            return answer;
        }
    }
}
