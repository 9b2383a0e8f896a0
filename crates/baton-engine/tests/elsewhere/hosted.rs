//! What an execution at a host may report, and what the engine has for it.

use std::{sync::atomic::Ordering, time::Duration};

use baton_engine::{
    HostEnding, HostState, HostedInput, Ledger as _, Reported,
    testing::{admitted, callback_states, output, uid},
};
use baton_execution::{Input, OperationId, Outcome};
use baton_types::Phase;
use serde_json::json;

use crate::support::{Workflow, input_of, only, with_host};

fn completed(step: usize, output: serde_json::Value) -> Input {
    Input::ActivityCompleted { id: OperationId::new(format!("/steps/{step}"), 1), output }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reported_becomes_the_history_and_the_status() {
    let (site, host, _) = with_host().await;
    let created = site.create("job", json!([{"echo": 1}, {"echo": 2}])).await;
    assert_eq!(created.phase(), Phase::Pending);
    let mut workflow = Workflow::of(&site, host.started("job").await).await;
    assert!(matches!(workflow.step(workflow.first()).await, Reported::Taken { state: None }));
    let job = site.until("job", |job| job.phase() == Phase::Running).await;
    assert_eq!(job.temporal_workflow_id().unwrap(), "w/job");
    assert_eq!(job.temporal_run_id().unwrap(), "run-1");
    let id = OperationId::new("/steps/0", 1);
    let task = site.engine.task(uid(&job), id.clone()).await.unwrap().expect("it is open");
    assert_eq!((task.task.input, task.token), (json!(1), None));
    assert_eq!(task.task.idempotency_key, format!("{}//steps/0/1", uid(&job)));
    workflow.step(completed(0, json!("a"))).await;
    assert!(site.engine.task(uid(&job), id).await.unwrap().is_none(), "its result is recorded");
    workflow.step(completed(1, json!("b"))).await;
    assert_eq!(output(&site.ended("job").await), json!("b"));
    let (events, ended) = site.engine.history(uid(&job), 0, 100).unwrap();
    let types: Vec<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(
        types,
        ["Started", "ActivityScheduled", "ActivityCompleted", "ActivityScheduled", "ActivityCompleted", "Ended"]
    );
    assert!(ended);
    assert_eq!(site.world.runs_of(""), 0, "the engine itself runs nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_counts_once_and_one_that_differs_gets_the_state() {
    let (site, host, _) = with_host().await;
    let job = site.create("job", json!([{"echo": 1}, {"echo": 2}])).await;
    let mut workflow = Workflow::of(&site, host.started("job").await).await;
    let first = workflow.take(workflow.first());
    for _ in 0..3 {
        assert!(matches!(workflow.report(&first, false).await.unwrap(), Reported::Taken { .. }));
    }
    let second = workflow.take(completed(0, json!("a")));
    assert!(matches!(workflow.report(&second, false).await.unwrap(), Reported::Taken { .. }));
    // Another attempt of the same workflow task, which sees another clock and another result.
    let mut other = Workflow::of(&site, workflow.start.clone()).await;
    let mut late = other.take(other.first());
    for event in &mut late {
        event.time_ms += 5;
    }
    let Reported::Diverged { state } = other.report(&late, false).await.unwrap() else { panic!("it differs") };
    other.restore(state).await;
    assert_eq!(other.execution.next_event, second.last().unwrap().number + 1);
    assert!(!other.execution.wants(&completed(0, json!("c"))), "the result that is recorded holds");
    // Events from the future are no continuation either.
    let mut hole = other.take(completed(1, json!("b")));
    for event in &mut hole {
        event.number += 7;
    }
    let Reported::Diverged { state } = other.report(&hole, false).await.unwrap() else { panic!("there is a hole") };
    other.restore(state).await;
    let Reported::Taken { state: Some(same) } = other.report(&[], true).await.unwrap() else { panic!("it was wanted") };
    assert_eq!(same, state);
    other.step(completed(1, json!("b"))).await;
    assert_eq!(output(&site.ended("job").await), json!("b"));
    let (events, _) = site.engine.history(uid(&job), 0, 100).unwrap();
    let numbers: Vec<i32> = events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=6).collect::<Vec<i32>>());
    assert_eq!(workflow.report(&second, false).await.unwrap(), Reported::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_taken_once_and_reaches_the_workflow_even_if_the_host_is_down() {
    let (site, host, _) = with_host().await;
    site.create("job", json!([{"wait": {"as": "it"}}])).await;
    let mut workflow = Workflow::of(&site, host.started("job").await).await;
    workflow.step(workflow.first()).await;
    let id = OperationId::new("/steps/0", 1);
    let task = site.engine.task(workflow.start.uid, id.clone()).await.unwrap().unwrap();
    let token = task.token.unwrap();
    assert_eq!(task.task.input["token"], json!(token));
    host.down.store(true, Ordering::SeqCst);
    site.engine.answer(token.as_bytes(), Outcome::Completed(json!(7))).await.unwrap();
    let again = site.engine.answer(token.as_bytes(), Outcome::Completed(json!(8))).await.unwrap_err();
    assert_eq!(again.reason, "CALLBACK_ALREADY_COMPLETED");
    assert_eq!(site.engine.heartbeat(token.as_bytes()).await.unwrap_err().reason, "CALLBACK_ALREADY_COMPLETED");
    // Also after a restart, before the workflow has heard of it.
    let site = site.restart().await;
    let again = site.engine.answer(token.as_bytes(), Outcome::Completed(json!(8))).await.unwrap_err();
    assert_eq!(again.reason, "CALLBACK_ALREADY_COMPLETED");
    host.down.store(false, Ordering::SeqCst);
    let given = only(host.told().await);
    assert_eq!(given, Input::CallbackAnswered { id, outcome: Outcome::Completed(json!(7)), used: None });
    let mut workflow = Workflow::of(&site, workflow.start).await;
    let Reported::Taken { state: Some(state) } = workflow.report(&[], true).await.unwrap() else { panic!("the state") };
    workflow.restore(state).await;
    workflow.step(given).await;
    assert_eq!(output(&site.ended("job").await), json!({"completed": 7}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_the_engines_and_its_answer_is_given_to_the_workflow() {
    let (site, host, _) = with_host().await;
    site.create("parent", json!([{"child": {"steps": [{"echo": 5}]}}])).await;
    let mut parent = Workflow::of(&site, host.started("parent").await).await;
    parent.step(parent.first()).await;
    let name = site.child_of("parent").await;
    let mut child = Workflow::of(&site, host.started(&name).await).await;
    child.step(child.first()).await;
    child.step(completed(0, json!(5))).await;
    let mut answered = false;
    while !answered {
        let HostedInput::Events(events) = host.told().await else { panic!("an input") };
        for event in events {
            let input = input_of(&event);
            answered |= matches!(input, Input::CallbackAnswered { .. });
            if parent.execution.wants(&input) {
                parent.step(input).await;
            }
        }
    }
    assert_eq!(output(&site.ended("parent").await), json!({"completed": 5}));
    site.until(&name, |child| callback_states(child) == ["Delivered"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_begun_ends_at_once_while_the_host_is_down() {
    let (site, host, _) = with_host().await;
    host.down.store(true, Ordering::SeqCst);
    let mailbox = site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap();
    let job = site.engine.create(admitted("job", &json!([{"echo": 1}]), mailbox.token.clone())).await.unwrap().resource;
    site.create("waits", json!([{"echo": 1}])).await;
    let mut slow = admitted("slow", &json!([{"echo": 1}]), Vec::new());
    slow.timeout_ms = Some(20);
    site.engine.create(slow).await.unwrap();
    site.engine.cancel(uid(&job), "not any more".into()).await.unwrap();
    assert_eq!(site.ended("job").await.phase(), Phase::Cancelled);
    assert_eq!(site.ended("slow").await.phase(), Phase::TimedOut);
    assert_eq!(
        site.engine.await_mailbox(&mailbox.token, Duration::from_secs(20)).await.unwrap(),
        Some(Outcome::Cancelled { reason: "not any more".to_owned() })
    );
    assert_eq!(site.get("waits").unwrap().phase(), Phase::Pending);
    let site = site.restart().await;
    host.down.store(false, Ordering::SeqCst);
    let start = host.started("waits").await;
    assert!(host.starts.lock().unwrap().iter().all(|start| start.name == "waits"), "what has ended is not started");
    let workflow = Workflow::of(&site, start).await;
    let begun = Workflow::of(&site, workflow.start.clone()).await;
    assert!(matches!(begun.report(&[], false).await.unwrap(), Reported::Taken { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_cancel_and_terminate_are_told_with_what_they_need() {
    let (site, host, _) = with_host().await;
    let job = site.create("job", json!([{"echo": 1}])).await;
    let mut workflow = Workflow::of(&site, host.started("job").await).await;
    workflow.step(workflow.first()).await;
    let mut last = 0;
    for suspended in [true, false] {
        let change = Box::new(move |resource: &mut baton_proto::ExecutionResource| {
            resource.set_suspend(suspended);
            Ok(())
        });
        site.engine.update(uid(&job), change).await.unwrap();
        let HostedInput::Suspend { suspended: told, generation } = host.told().await else { panic!("a suspension") };
        assert_eq!((told, generation > last), (suspended, true));
        last = generation;
    }
    site.engine.cancel(uid(&job), "enough".into()).await.unwrap();
    assert_eq!(host.told().await, HostedInput::Cancel { reason: "enough".into() });
    assert!(!site.get("job").unwrap().phase().is_terminal(), "its Program winds up");
    let ended = site.engine.terminate(uid(&job), "now".into()).await.unwrap();
    assert_eq!(ended.phase(), Phase::Cancelled);
    assert_eq!(host.told().await, HostedInput::Terminate { reason: "now".into() });
    assert_eq!(workflow.step(completed(0, json!("late"))).await, Reported::Closed);
    assert_eq!(site.get("job").unwrap().phase(), Phase::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_at_the_host_without_a_report_is_found_and_its_callers_are_told() {
    let (site, host, _) = with_host().await;
    let cases = [
        (
            HostState::Ended { how: HostEnding::Terminated, reason: "by an operator".into() },
            Phase::Cancelled,
            "Terminated",
        ),
        (HostState::Ended { how: HostEnding::TimedOut, reason: String::new() }, Phase::TimedOut, "TimedOut"),
        (HostState::Ended { how: HostEnding::Failed, reason: "boom".into() }, Phase::Failed, "FailedInTemporal"),
        (HostState::Ended { how: HostEnding::Cancelled, reason: String::new() }, Phase::Cancelled, "Cancelled"),
        (HostState::Unknown, Phase::Failed, "FailedInTemporal"),
    ];
    let mut tokens = Vec::new();
    for (n, (state, ..)) in cases.iter().enumerate() {
        let (name, mailbox) =
            (format!("job-{n}"), site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap());
        site.engine.create(admitted(&name, &json!([{"wait": {"as": "it"}}]), mailbox.token.clone())).await.unwrap();
        let mut workflow = Workflow::of(&site, host.started(&name).await).await;
        workflow.step(workflow.first()).await;
        site.until(&name, |job| job.phase() == Phase::Running).await;
        host.states.lock().unwrap().insert(format!("w/{name}"), state.clone());
        tokens.push(mailbox.token);
    }
    assert_eq!(site.engine.reconcile().await.ended_at_host, cases.len());
    for (n, (_, phase, word)) in cases.iter().enumerate() {
        let job = site.ended(&format!("job-{n}")).await;
        assert_eq!(job.phase(), *phase);
        let condition = job.conditions().unwrap().iter().find(|it| it.r#type == "Failed").unwrap();
        assert_eq!(condition.reason, *word);
        assert!(site.engine.await_mailbox(&tokens[n], Duration::from_secs(20)).await.unwrap().is_some());
    }
    assert_eq!(site.engine.reconcile().await.ended_at_host, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_given_one_by_one_and_a_cancellation_waits_for_none_of_them() {
    let (site, host, _) = with_host().await;
    let job = site.create("job", json!([{"wait": {"as": "it"}}])).await;
    let mut workflow = Workflow::of(&site, host.started("job").await).await;
    workflow.step(workflow.first()).await;
    site.until("job", |job| job.temporal_workflow_id().is_some_and(|id| !id.is_empty())).await;
    let token = {
        let task = site.engine.task(workflow.start.uid, OperationId::new("/steps/0", 1)).await.unwrap().unwrap();
        task.token.unwrap()
    };
    host.down.store(true, Ordering::SeqCst);
    site.engine.answer(token.as_bytes(), Outcome::Completed(json!("x".repeat(60_000)))).await.unwrap();
    let stuck = site.until("job", |job| job.conditions().unwrap().iter().any(|it| it.r#type == "Stalled")).await;
    let condition = stuck.conditions().unwrap().iter().find(|it| it.r#type == "Stalled").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "Host"));
    site.engine.cancel(uid(&job), "enough".into()).await.unwrap();
    host.down.store(false, Ordering::SeqCst);
    assert_eq!(host.told().await, HostedInput::Cancel { reason: "enough".into() }, "it goes before the answer");
    assert!(matches!(host.told().await, HostedInput::Events(events) if events.len() == 1));
    let stalled = |job: &baton_proto::ExecutionResource| {
        job.conditions().unwrap().iter().any(|it| it.r#type == "Stalled" && it.status == "True")
    };
    site.until("job", |job| !stalled(job)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_execution_stays_until_its_workflow_was_told() {
    let (site, host, _) = with_host().await;
    let job = site.create("job", json!([{"echo": 1}])).await;
    let mut workflow = Workflow::of(&site, host.started("job").await).await;
    workflow.step(workflow.first()).await;
    site.until("job", |job| job.temporal_workflow_id().is_some_and(|id| !id.is_empty())).await;
    host.down.store(true, Ordering::SeqCst);
    assert!(!site.engine.delete(uid(&job), None).await.unwrap().gone);
    let site = site.restart().await;
    let held = site.get("job").expect("its workflow has not heard of it");
    assert_eq!(held.metadata().finalizers, ["baton.dev/temporal-termination"]);
    host.down.store(false, Ordering::SeqCst);
    assert!(matches!(host.told().await, HostedInput::Terminate { .. }));
    site.gone("job").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_any_length_is_told_in_a_length_that_everybody_takes() {
    let (site, host, _) = with_host().await;
    let mailbox = site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap();
    let long = "x".repeat(2_500_000);
    site.engine.create(admitted("job", &json!([{"fail": long}]), mailbox.token.clone())).await.unwrap();
    let mut workflow = Workflow::of(&site, host.started("job").await).await;
    workflow.step(workflow.first()).await;
    let told = site.engine.await_mailbox(&mailbox.token, Duration::from_secs(20)).await.unwrap();
    let Some(Outcome::Failed(fault)) = told else { panic!("{told:?}") };
    assert!(fault.detail.unwrap().len() < 20_000);
    let refusal = baton_execution::Fault::new(baton_execution::fault_type::RUNTIME, 500, "y".repeat(300_000));
    let waiting = site.create("waits", json!([{"wait": {"as": "it"}}])).await;
    let mut workflow = Workflow::of(&site, host.started("waits").await).await;
    workflow.step(workflow.first()).await;
    let task = site.engine.task(uid(&waiting), OperationId::new("/steps/0", 1)).await.unwrap().unwrap();
    let refused = site.engine.answer(task.token.unwrap().as_bytes(), Outcome::Failed(refusal)).await.unwrap_err();
    assert_eq!(refused.reason, "CALLBACK_PAYLOAD_TOO_LARGE");
}
