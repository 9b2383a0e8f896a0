//! Temporal's limits of a workflow: what would pass them waits, goes by reference, or goes on in a new run.

use baton_engine_temporal::{RunLimits, WorkerOptions};
use baton_temporal_testing::TemporalServer;
use serde_json::{Value, json};

use crate::{
    lab::Lab,
    script::{Do, activity},
};

fn limited(lab: &Lab, limits: RunLimits) -> WorkerOptions {
    WorkerOptions { limits, ..lab.options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_activities_than_temporal_takes_at_once_begin_one_after_the_other() {
    let server = TemporalServer::start_with(&["limit.numPendingActivities.error=12"]);
    let lab = Lab::at(&server);
    let _worker = lab.worker_with(limited(&lab, RunLimits { in_flight_max: 6, ..RunLimits::default() }));
    let many = Do::All((0..40).map(|number| activity("echo", json!(number))).collect());
    // Those that lose are gone from Temporal only when their worker has heard of it.
    let race = Do::Race([vec![Do::Wait], vec![activity("hang", Value::Null); 20]].concat());
    let started = lab.start("many", &[many, race.clone(), race.clone(), race, activity("echo", json!("end"))]).await;
    for number in 1..=3 {
        lab.books.until("they hang", |_| (lab.hands.hangs() == 6 * number).then_some(())).await;
        lab.answer(&started, &format!("/{number}/0"), json!("won")).await;
    }
    let output = lab.books.output(started.uid).await;
    let output = output.as_array().expect("a list");
    assert_eq!(output.len(), 44);
    assert_eq!(output[40..], [json!("won"), json!("won"), json!("won"), json!("end")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_many_bytes_continues_as_new() {
    let lab = Lab::new();
    let limits = RunLimits { continue_as_new_bytes: 50_000, ..RunLimits::default() };
    let _worker = lab.worker_with(limited(&lab, limits));
    let list = [vec![activity("wide", Value::Null); 6], vec![Do::Wait; 6]].concat();
    let started = lab.start("bytes", &list).await;
    for number in 6..12 {
        lab.books.opened(started.uid, &format!("/{number}")).await;
        lab.answer(&started, &format!("/{number}"), json!("y".repeat(20_000))).await;
    }
    let output = lab.books.output(started.uid).await;
    assert_eq!((&output[0], &output[11]), (&json!("x".repeat(20_000)), &json!("y".repeat(20_000))));
    let runs = lab.books.runs(started.uid).len();
    assert!((4..=5).contains(&runs), "{runs} runs");
    assert_eq!(lab.hands.repeated(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_many_bytes_and_cannot_end_takes_results_by_reference() {
    let lab = Lab::new();
    let limits = RunLimits { continue_as_new_bytes: 300_000, in_flight_max: 10, ..RunLimits::default() };
    let _worker = lab.worker_with(limited(&lab, limits));
    let wide = vec![activity("wide", Value::Null); 60];
    let started = lab.start("wide", &[Do::All([vec![activity("gate", json!("slow"))], wide].concat())]).await;
    // The one at the gate holds the run.
    let begun = |_: &_| (lab.hands.begun("/0/60") == 1).then_some(());
    lab.books.until("all have begun", begun).await;
    let history = lab.host.history(&started.run.workflow_id, None).await.expect("the host has it");
    assert!(history.len() < 700_000, "{} bytes", history.len());
    lab.hands.gate.add_permits(1);
    let output = lab.books.output(started.uid).await;
    assert_eq!(output.as_array().map(Vec::len), Some(61));
    assert_eq!(output.as_array().and_then(|all| all.last()), Some(&json!("x".repeat(20_000))));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_many_are_in_flight_their_results_go_by_reference() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("fan", &[Do::All(vec![activity("wide", Value::Null); 150])]).await;
    assert_eq!(lab.books.output(started.uid).await, json!(vec!["x".repeat(20_000); 150]));
    lab.ended(&started).await;
    let history = lab.host.history(&started.run.workflow_id, None).await.expect("the host has it");
    assert!(history.len() < 2_400_000, "{} bytes", history.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_a_large_step_has_its_data_beside_it() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let input = json!("i".repeat(60_000));
    let started = lab.start("large", &[Do::All(vec![activity("fail", input); 160])]).await;
    let output = lab.books.output(started.uid).await;
    assert_eq!(output.as_array().map(Vec::len), Some(160));
    let bytes = lab.books.report_bytes_max();
    assert!(bytes < 8 * 1024 * 1024, "{bytes} bytes");
}
