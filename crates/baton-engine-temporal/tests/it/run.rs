//! From start to end: activities, timers, long data, and what the workflow looks like at Temporal.

use baton_engine::{HostEnding, HostState, HostedInput};
use baton_execution::{Ending, fault_type};
use baton_temporal_testing::TemporalServer;
use serde_json::{Value, json};

use crate::{
    lab::Lab,
    script::{Do, activity},
};

#[tokio::test(flavor = "multi_thread")]
async fn activities_run_one_after_the_other_and_their_results_are_the_output() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let list: Vec<Do> = (0..5).map(|number| activity("echo", json!(number))).collect();
    let started = lab.start("five", &list).await;
    assert_eq!(lab.books.output(started.uid).await, json!([0, 1, 2, 3, 4]));
    assert_eq!(lab.ended(&started).await, HostState::Ended { how: HostEnding::Completed, reason: String::new() });
    assert_eq!(lab.hands.repeated(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_fails_is_a_result_and_is_not_repeated() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("fails", &[activity("fail", Value::Null), activity("echo", json!("after"))]).await;
    assert_eq!(lab.books.output(started.uid).await, json!([fault_type::COMMUNICATION, "after"]));
    assert_eq!(lab.hands.begun("/0"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_loses_a_race_is_stopped() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let race =
        Do::Race(vec![Do::Sleep { ms: 600_000 }, activity("hang", Value::Null), Do::Sleep { ms: 400 }, Do::Wait]);
    let started = lab.start("race", &[race, Do::Wait]).await;
    lab.books.until("the loser is dropped", |_| (lab.hands.dropped() == 1).then_some(())).await;
    lab.answer(&started, "/1", json!("go")).await;
    assert_eq!(lab.books.output(started.uid).await, json!(["due", "go"]));
    let history = TemporalServer::shared().workflow_history(&started.run.workflow_id);
    assert!(history.contains("EVENT_TYPE_TIMER_CANCELED"), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_execution_is_a_failed_workflow_of_the_same_words() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("fault", &[Do::Fail("no more tea".to_owned())]).await;
    assert!(matches!(lab.books.ending(started.uid).await, Ending::Failed { .. }));
    let HostState::Ended { how: HostEnding::Failed, reason } = lab.ended(&started).await else {
        panic!("it did not fail at Temporal");
    };
    assert_eq!(reason, "runtime: no more tea");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_data_goes_by_reference() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let list = [activity("long", Value::Null), Do::Wait, activity("echo", json!("short"))];
    let started = lab.start_as(lab.books.open("long", &list, json!("i".repeat(80_000)))).await;
    lab.books.opened(started.uid, "/1").await;
    lab.answer(&started, "/1", json!("a".repeat(90_000))).await;
    let output = lab.books.output(started.uid).await;
    assert_eq!(output, json!(["x".repeat(100_000), "a".repeat(90_000), "short"]));
    lab.ended(&started).await;
    let history = TemporalServer::shared().workflow_history(&started.run.workflow_id);
    assert!(!history.contains(&"x".repeat(1000)), "a long result stands in Temporal's history");
    assert!(history.len() < 60_000, "Temporal's history has {} bytes", history.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_is_found_at_temporal_by_its_name_and_phase() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("found", &[Do::Wait]).await;
    lab.books.opened(started.uid, "/0").await;
    let server = TemporalServer::shared();
    let found = |phase: &str| {
        let query = format!("BatonName = 'found' AND BatonNamespace = 'default' AND BatonPhase = '{phase}'");
        let listed = server.cli(&["workflow", "list", "--query", &query, "--output", "json"]);
        listed.contains(&started.run.workflow_id)
    };
    lab.until_async("it is found as running", async || found("Running")).await;
    lab.give_as(&started, HostedInput::Suspend { suspended: true, generation: 2 }).await;
    lab.until_async("it is found as suspended", async || found("Suspended")).await;
    lab.give_as(&started, HostedInput::Suspend { suspended: false, generation: 3 }).await;
    lab.answer(&started, "/0", json!(1)).await;
    lab.until_async("it is found as completed", async || found("Completed")).await;
    let described = server.describe_workflow(&started.run.workflow_id).expect("it is there");
    assert!(described.contains(&started.uid.to_string()), "the memo has its uid: {described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_come_later_and_temporal_may_go_away() {
    let mut server = TemporalServer::start();
    let lab = Lab::at(&server);
    let list = [activity("echo", json!(1)), Do::Wait, Do::Sleep { ms: 50 }, activity("echo", json!(2))];
    let started = lab.start("outlasts", &list).await;
    let _worker = lab.worker();
    lab.books.opened(started.uid, "/1").await;
    server.restart();
    lab.answer(&started, "/1", json!("through")).await;
    assert_eq!(lab.books.output(started.uid).await, json!([1, "through", "due", 2]));
    assert_eq!(lab.hands.repeated(), []);
}
