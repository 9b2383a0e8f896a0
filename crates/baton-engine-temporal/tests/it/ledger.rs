//! The ledger as the keeper: lost answers, lost attempts, outages, ends, and workers that are lost.

use std::time::Duration;

use baton_engine::{HostEnding, HostState};
use baton_engine_temporal::WorkerOptions;
use baton_execution::{Ending, Input, fault_type};
use baton_temporal_testing::TemporalServer;
use serde_json::{Value, json};

use crate::{
    lab::Lab,
    script::{Do, activity, once},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_report_whose_answer_is_lost_is_repeated_and_changes_nothing() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let start = lab.books.open("lost", &[activity("echo", json!(1)), activity("echo", json!(2))], Value::Null);
    lab.books.lose_answers(start.uid, 3);
    let started = lab.start_as(start).await;
    assert_eq!(lab.books.output(started.uid).await, json!([1, 2]));
    assert_eq!(lab.books.divergences(started.uid), 0);
    assert_eq!(lab.hands.repeated(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_went_on_without_the_workflow_is_taken_over() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let list = [
        activity("echo", json!(1)),
        once("echo", json!(2)),
        Do::Sleep { ms: 20 },
        Do::Wait,
        activity("echo", json!(3)),
    ];
    let start = lab.books.open("overtaken", &list, Value::Null);
    lab.books.overtake_next(start.uid, 3);
    let started = lab.start_as(start).await;
    lab.books.opened(started.uid, "/3").await;
    lab.books.overtake_next(started.uid, 1);
    lab.answer(&started, "/3", json!("answer")).await;
    assert_eq!(lab.books.output(started.uid).await, json!([1, 2, "due", "answer", 3]));
    assert_eq!(lab.books.divergences(started.uid), 4);
    assert_eq!(lab.hands.repeated(), [], "what has a recorded result does not run again");
    assert_eq!(lab.books.inputs(started.uid, |input| matches!(input, Input::CallbackAnswered { .. })), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_recorded_by_a_lost_attempt_ends_the_workflow() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("ended-before", &[Do::Wait]).await;
    lab.books.opened(started.uid, "/0").await;
    lab.books.overtake_next(started.uid, 1);
    lab.answer(&started, "/0", json!("the end")).await;
    assert_eq!(lab.books.output(started.uid).await, json!(["the end"]));
    assert_eq!(lab.ended(&started).await, HostState::Ended { how: HostEnding::Completed, reason: String::new() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_down_is_waited_for() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started =
        lab.start("waits", &[activity("gate", json!(1)), once("echo", json!(2)), activity("long", json!(3))]).await;
    lab.books.until("it runs", |_| (lab.hands.begun("/0") == 1).then_some(())).await;
    lab.books.set_down(true);
    lab.hands.gate.add_permits(1);
    lab.books.until("it is asked in vain", |books| (books.refused() >= 4).then_some(())).await;
    lab.books.set_down(false);
    let output = lab.books.output(started.uid).await;
    assert_eq!((&output[0], &output[1]), (&json!(1), &json!(2)));
    assert_eq!(lab.hands.repeated(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_ended_at_the_server_ends_at_temporal() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("closed", &[Do::Wait, activity("echo", json!(1))]).await;
    lab.books.opened(started.uid, "/0").await;
    lab.books.close(started.uid);
    lab.answer(&started, "/0", json!("too late")).await;
    assert!(matches!(lab.ended(&started).await, HostState::Ended { how: HostEnding::Cancelled, .. }));
    assert_eq!(lab.hands.begun("/1"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_whose_execution_is_gone_ends() {
    let lab = Lab::new();
    let never_began = lab.books.open("never-began", &[Do::Wait, activity("echo", json!(1))], Value::Null);
    let waits = lab.books.open("waits", &[Do::Wait, activity("echo", json!(2))], Value::Null);
    let worker = lab.worker();
    let second = lab.start_as(waits.clone()).await;
    lab.books.opened(waits.uid, "/0").await;
    drop(worker);
    let first = lab.start_as(never_began.clone()).await;
    let late = lab.event_of_answer("/0", json!("late"));
    for gone in [&never_began, &waits] {
        lab.books.forget(gone);
    }
    // A worker that has nothing in memory.
    let _worker = lab.worker();
    lab.give_as(&second, late).await;
    for (name, started) in [("never began", first), ("waits", second)] {
        let ended = lab.ended(&started).await;
        assert!(
            matches!(&ended, HostState::Ended { reason, .. } if reason.contains("ended in Baton")),
            "{name}: {ended:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_the_ledger_does_not_want_makes_the_workflow_ask_where_it_stands() {
    let lab = Lab::new();
    let started = lab.start("behind", &[activity("echo", json!(1)), Do::Wait]).await;
    // Its task is refused once the start is recorded: the server has gone on meanwhile.
    lab.books.skip_when_asked(started.uid, json!("from elsewhere"));
    let _worker = lab.worker();
    lab.books.opened(started.uid, "/1").await;
    lab.answer(&started, "/1", json!(2)).await;
    assert_eq!(lab.books.output(started.uid).await, json!(["from elsewhere", 2]));
    assert_eq!(lab.hands.begun("/0"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_repeated_is_in_doubt_when_its_worker_is_lost() {
    let lab = Lab::new();
    let worker = lab.worker();
    let both = Do::All(vec![once("gate", json!("once")), activity("gate", json!("again"))]);
    let started = lab.start("doubt", &[both]).await;
    let begun = |_: &_| (lab.hands.begun("/0/0") == 1 && lab.hands.begun("/0/1") == 1).then_some(());
    lab.books.until("both run", begun).await;
    drop(worker);
    let _other = lab.worker();
    lab.books.until("the other runs again", |_| (lab.hands.begun("/0/1") >= 2).then_some(())).await;
    lab.hands.gate.add_permits(10);
    assert_eq!(lab.books.output(started.uid).await, json!([fault_type::IN_DOUBT, "again"]));
    assert_eq!(lab.hands.begun("/0/0"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_shut_down_lets_its_activities_end() {
    let lab = Lab::new();
    let worker = lab.worker();
    let started = lab.start("handover", &[once("gate", json!("done")), activity("echo", json!("next"))]).await;
    lab.books.until("it runs", |_| (lab.hands.begun("/0") == 1).then_some(())).await;
    let shutdown = tokio::spawn(worker.shutdown());
    lab.hands.gate.add_permits(1);
    shutdown.await.expect("the shutdown does not panic");
    let _other = lab.worker();
    assert_eq!(lab.books.output(started.uid).await, json!(["done", "next"]));
    assert_eq!(lab.hands.begun("/0"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_outlasts_the_grace_runs_elsewhere_or_is_in_doubt() {
    let lab = Lab::new();
    let worker = lab.worker_with(WorkerOptions { shutdown_grace: Duration::from_millis(100), ..lab.options() });
    let both = Do::All(vec![once("gate", json!("once")), activity("gate", json!("again"))]);
    let started = lab.start("grace", &[both]).await;
    let begun = |_: &_| (lab.hands.begun("/0/0") == 1 && lab.hands.begun("/0/1") == 1).then_some(());
    lab.books.until("both run", begun).await;
    worker.shutdown().await;
    let _other = lab.worker();
    lab.books.until("the other runs again", |_| (lab.hands.begun("/0/1") >= 2).then_some(())).await;
    lab.hands.gate.add_permits(10);
    assert_eq!(lab.books.output(started.uid).await, json!([fault_type::IN_DOUBT, "again"]));
    assert_eq!(lab.hands.begun("/0/0"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_half_at_the_sdk_is_replaced_loses_nothing() {
    let lab = Lab::new();
    let _worker = lab.worker_with(WorkerOptions { replace_after_tasks: 15, ..lab.options() });
    let slow = lab.start("slow", &[once("gate", json!("slow"))]).await;
    lab.books.until("it runs", |_| (lab.hands.begun("/0") == 1).then_some(())).await;
    let list: Vec<Do> = (0..8).map(|number| Do::All(vec![activity("echo", json!(number)), Do::Wait])).collect();
    for name in ["one", "two", "three"] {
        let started = lab.start(name, &list).await;
        for number in 0..8 {
            let position = format!("/{number}/1");
            lab.books.opened(started.uid, &position).await;
            lab.answer(&started, &position, json!("x")).await;
        }
        lab.books.output(started.uid).await;
    }
    lab.hands.gate.add_permits(1);
    assert_eq!(lab.books.output(slow.uid).await, json!(["slow"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_its_namespace() {
    let lab = Lab::in_namespace("elsewhere");
    let _worker = lab.worker();
    TemporalServer::shared().create_namespace("elsewhere");
    let started = lab.start("elsewhere", &[activity("echo", json!("here"))]).await;
    assert!(matches!(lab.books.ending(started.uid).await, Ending::Completed { .. }));
}
