//! What is created: a mix of flows, some of them for a caller that waits outside.

use std::io;

use serde_json::{Value, json};

use super::world::ONCE;
use crate::{
    flows::{RUNS, agent, call, call_and_wait, run, run_workflow, scripted, workflow},
    http::Api,
};

/// Executions that one client creates in one round at most.
const RUNS_PER_CLIENT: usize = 20;
/// Sequential calls of [`Flow::Steps`].
pub(crate) const STEPS: usize = 10;

/// Type of the fault of a call that must not be repeated and may have happened.
pub(crate) const IN_DOUBT: &str = "https://baton.dev/errors/in-doubt";

/// What an execution does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Ten calls, one after the other.
    Steps,
    /// A child workflow, which makes a call.
    Parent,
    /// An agent.
    Asks,
    /// A call that is answered by its token.
    Waits,
    /// Short waits.
    Pauses,
    /// A fault.
    Fails,
    /// A child workflow that fails, which is caught.
    Catches,
    /// An hour's wait, which is cancelled in the end.
    Sleeps,
    /// An agent whose tool must not run twice.
    Pays,
}

impl Flow {
    pub(crate) const ALL: [Self; 9] = [
        Self::Steps,
        Self::Parent,
        Self::Waits,
        Self::Asks,
        Self::Pays,
        Self::Catches,
        Self::Pauses,
        Self::Fails,
        Self::Sleeps,
    ];

    pub(crate) fn workflow(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Parent => "parent",
            Self::Asks => "asks",
            Self::Waits => "waits",
            Self::Pauses => "pauses",
            Self::Fails => "fails",
            Self::Catches => "catches",
            Self::Sleeps => "sleeps",
            Self::Pays => "pays",
        }
    }

    /// How it may end: the phase and, if it completes, the output.
    pub(crate) fn ends(self, name: &str) -> Vec<(&'static str, Value)> {
        match self {
            Self::Steps | Self::Pauses | Self::Waits => vec![("Completed", json!({"run": name}))],
            Self::Parent => vec![("Completed", json!({"child": name}))],
            Self::Asks => vec![("Completed", json!({"answer": "pong", "run": name}))],
            Self::Catches => vec![("Completed", json!({"caught": 409, "run": name}))],
            Self::Fails => vec![("Failed", Value::Null)],
            Self::Sleeps => vec![("Cancelled", Value::Null)],
            // Whether the tool did its work before the kill is what nobody can know.
            Self::Pays => vec![
                ("Completed", json!({"answer": "paid", "run": name})),
                ("Completed", json!({"doubt": IN_DOUBT, "run": name})),
            ],
        }
    }

    /// Executions that it starts: the collection and how many.
    pub(crate) fn children(self) -> Option<&'static str> {
        match self {
            Self::Parent | Self::Catches => Some("workflowexecutions"),
            Self::Asks | Self::Pays => Some("agentexecutions"),
            Self::Steps | Self::Waits | Self::Pauses | Self::Fails | Self::Sleeps => None,
        }
    }
}

/// One create.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) flow: Flow,
    /// The token of a caller that waits outside.
    pub(crate) mailbox: Option<String>,
    /// As it was answered; nothing if the answer was lost.
    pub(crate) uid: Option<String>,
    /// Whether it is to be deleted, and was.
    pub(crate) deleted: Deleted,
}

/// How far a deletion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// It is kept.
    Never,
    /// It was asked for, and the answer was lost.
    Asked,
    /// It was acknowledged.
    Acknowledged,
}

/// Everything that the flows refer to; `url` is the world outside.
pub(crate) fn templates(url: &str) -> Vec<Value> {
    let body = json!({"run": "${ $workflow.input.run }"});
    let name = json!({"set": {"run": "${ $workflow.input.run }"}});
    let step = call(&format!("{url}/step"), &body);
    let mut steps: Vec<Value> = (0..STEPS).map(|step_number| json!({format!("step{step_number}"): step})).collect();
    steps.push(json!({"name": name}));
    let input = json!({"run": "${ $workflow.input.run }"});
    let raise =
        json!({"raise": {"error": {"type": "https://example.com/errors/taken", "status": 409, "title": "Taken"}}});
    let wait = call_and_wait(
        &format!("{url}/wait"),
        &json!({"run": "${ $workflow.input.run }", "token": "${ $task.callbackToken }"}),
    );
    let pause = json!({"wait": {"milliseconds": 20}});
    let ask = json!({"call": "baton.dev/agent", "with": {"agent": "helper", "message": "ping"}, "output": {"as": "${ {answer: ., run: $workflow.input.run} }"}});
    let ask_to_pay = json!({"call": "baton.dev/agent", "with": {"agent": "payer", "message": "pay"}, "output": {"as": "${ {answer: ., run: $workflow.input.run} }"}});
    let doubt = json!({
        "try": [{"pay": ask_to_pay}],
        "catch": {"as": "error", "do": [{"note": {"set": {"doubt": "${ $error.type }", "run": "${ $workflow.input.run }"}}}]},
    });
    let caught = json!({
        "try": [{"fail": run_workflow("fails", &input)}],
        "catch": {"as": "error", "do": [{"note": {"set": {"caught": "${ $error.status }", "run": "${ $workflow.input.run }"}}}]},
    });
    let mut parent = run_workflow("child", &input);
    parent["output"] = json!({"as": "${ {child: .run} }"});
    vec![
        workflow("steps", &Value::Array(steps)),
        workflow("child", &json!([{"step": step}, {"name": name}])),
        workflow("parent", &json!([{"child": parent}])),
        agent("helper", &scripted("pong")),
        workflow("asks", &json!([{"ask": ask}])),
        payer(url),
        workflow("pays", &json!([{"attempt": doubt}])),
        workflow("waits", &json!([{"wait": wait}])),
        workflow("pauses", &json!([{"first": pause}, {"second": pause}, {"third": pause}, {"name": name}])),
        workflow("fails", &json!([{"fail": raise}])),
        workflow("catches", &json!([{"attempt": caught}])),
        workflow("sleeps", &json!([{"sleep": {"wait": {"hours": 1}}}])),
    ]
}

/// An agent with a tool that is neither read-only nor idempotent.
fn payer(url: &str) -> Value {
    let turns = json!([{"toolCalls": [{"name": "pay", "arguments": {"amount": 5}}]}, {"text": "paid"}]);
    let mut payer = agent(
        "payer",
        &json!({"name": "script", "provider": "playback", "playback": {"conversations": [{"turns": turns}]}}),
    );
    let parameters = json!({"type": "object", "properties": {"amount": {"type": "integer"}}});
    payer["spec"]["tools"] = json!([{"name": "pay", "description": "Pays.", "parameters": parameters, "http": {"method": "POST", "url": format!("{url}{ONCE}")}}]);
    payer["spec"]["policy"] = json!({"rules": [{"tool": "pay", "action": "allow"}], "inDoubt": "fail"});
    payer
}

/// Creates until an answer is lost, which is when the server was killed, or enough was created.
pub(crate) fn create_until_killed(api: Api, round: usize, client: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    for number in 0..RUNS_PER_CLIENT {
        let flow = Flow::ALL[(number + 3 * client + round) % Flow::ALL.len()];
        let name = format!("{}-{round}-{client}-{number}", flow.workflow());
        let mut run = Run { name, flow, mailbox: None, uid: None, deleted: Deleted::Never };
        if number % 2 == 0 || flow == Flow::Sleeps {
            match api.try_post("callbacks:create", &json!({})) {
                Ok(created) => run.mailbox = Some(created.expect(201)["token"].as_str().unwrap().to_owned()),
                Err(_lost) => return runs,
            }
        }
        let mut lost = true;
        if let Ok((status, uid)) = create(api, &run) {
            assert_eq!(status, 201, "{}", run.name);
            run.uid = Some(uid);
            lost = flow == Flow::Sleeps && round % 2 == 1 && delete(api, &mut run).is_err();
        }
        runs.push(run);
        if lost {
            return runs;
        }
    }
    runs
}

/// Deletes a run; a repeat of a deletion may find that it is gone.
pub(crate) fn delete(api: Api, run: &mut Run) -> io::Result<()> {
    let again = run.deleted == Deleted::Asked;
    run.deleted = Deleted::Asked;
    let answer = api.send("DELETE", &format!("{RUNS}/{}", run.name), &[], b"")?;
    assert!(matches!(answer.status, 200 | 202) || again && answer.status == 404, "{}: {}", run.name, answer.text);
    run.deleted = Deleted::Acknowledged;
    Ok(())
}

/// Creates a run again; the answer must have one of these codes.
pub(crate) fn repeat(api: Api, run: &Run, allowed: &[u16]) -> String {
    let (status, uid) = create(api, run).unwrap_or_else(|error| panic!("{}: {error}", run.name));
    assert!(allowed.contains(&status), "{}: {status}", run.name);
    uid
}

fn create(api: Api, of: &Run) -> io::Result<(u16, String)> {
    let mut object = run(&of.name, of.flow.workflow());
    object["spec"]["input"] = json!({"run": of.name});
    object["spec"]["requestId"] = json!(format!("request of {}", of.name));
    if let Some(token) = &of.mailbox {
        object["spec"]["callbackToken"] = json!(token);
    }
    let answer = api.try_post(RUNS, &object)?;
    let uid =
        answer.json()["metadata"]["uid"].as_str().unwrap_or_else(|| panic!("{}: {}", of.name, answer.text)).to_owned();
    Ok((answer.status, uid))
}
