//! What the engine has for an execution: answers, suspension, cancellation, the end.

use baton_engine::{Host as _, HostEnding, HostError, HostState, HostedInput};
use baton_execution::{Ending, Input, OperationId, Outcome};
use baton_temporal_testing::TemporalServer;
use serde_json::{Value, json};

use crate::{
    lab::{Lab, Started},
    script::{Do, activity},
};

fn answered(input: &Input) -> bool {
    matches!(input, Input::CallbackAnswered { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_taken_once_and_strange_signals_are_ignored() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("answers", &[Do::All(vec![Do::Wait, Do::Wait]), Do::Wait]).await;
    lab.books.opened(started.uid, "/0/0").await;
    let answer = |position: &str, output: Value| {
        let id = OperationId::new(position, 1);
        Input::CallbackAnswered { id, outcome: Outcome::Completed(output), used: None }
    };
    let server = TemporalServer::shared();
    for (name, input) in [("other", "1"), ("input", "7"), ("input", "[3]"), ("input", "\"text\"")] {
        server.cli(&[
            "workflow",
            "signal",
            "--workflow-id",
            &started.run.workflow_id,
            "--name",
            name,
            "--input",
            input,
        ]);
    }
    lab.give(&started, vec![answer("/0/1", json!("b")), answer("/0/1", json!("again")), answer("/9", json!("never"))])
        .await;
    lab.give(&started, vec![answer("/0/0", json!("a"))]).await;
    lab.give(&started, vec![answer("/0/0", json!("late"))]).await;
    lab.books.opened(started.uid, "/1").await;
    lab.give(&started, vec![answer("/1", json!("c"))]).await;
    assert_eq!(lab.books.output(started.uid).await, json!(["a", "b", "c"]));
    assert_eq!(lab.books.inputs(started.uid, answered), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_come_with_the_end_do_not_keep_it_from_ending() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let mut ends = Vec::new();
    for number in 0..5 {
        let started = lab.start(&format!("busy-{number}"), &[Do::Wait, activity("echo", json!(number))]).await;
        lab.books.opened(started.uid, "/0").await;
        lab.answer(&started, "/0", json!("go")).await;
        // It is at its end while these come. Some find it gone, which is as it should be.
        let late = (0..20).map(|late| {
            let id = OperationId::new("/0", 2 + late);
            let input = Input::CallbackAnswered { id, outcome: Outcome::Completed(json!(late)), used: None };
            lab.host.give(&started.run.workflow_id, HostedInput::Events(vec![crate::lab::event(&lab.books, input)]))
        });
        for given in futures::future::join_all(late).await {
            assert!(matches!(given, Ok(()) | Err(HostError::Gone(_))), "{given:?}");
        }
        ends.push(started);
    }
    for (number, started) in ends.iter().enumerate() {
        assert_eq!(lab.books.output(started.uid).await, json!(["go", number]));
        let ended = lab.ended(started).await;
        assert!(matches!(ended, HostState::Ended { how: HostEnding::Completed, .. }), "{ended:?}");
    }
    assert_eq!(lab.hands.begun("/1"), 5);
}

async fn suspend(lab: &Lab, started: &Started, suspended: bool, generation: i64) {
    lab.give_as(started, HostedInput::Suspend { suspended, generation }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_execution_keeps_what_comes_until_it_is_resumed() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let mut start = lab.books.open("pauses", &[Do::Wait, activity("echo", json!("on"))], Value::Null);
    start.suspended = true;
    let started = lab.start_as(start).await;
    let resumed = |input: &Input| matches!(input, Input::Resumed);
    let suspended = |input: &Input| matches!(input, Input::Suspended);
    let count = |is: fn(&Input) -> bool, times: usize| {
        let uid = started.uid;
        move |books: &crate::books::Books| (books.inputs(uid, is) == times).then_some(())
    };
    lab.books.until("it is suspended from the start", count(suspended, 1)).await;
    assert!(!lab.books.is_open(started.uid, "/0"), "nothing begins while it is suspended");
    suspend(&lab, &started, false, 2).await;
    lab.books.opened(started.uid, "/0").await;
    suspend(&lab, &started, true, 3).await;
    suspend(&lab, &started, false, 2).await;
    lab.books.until("it is suspended again", count(suspended, 2)).await;
    lab.answer(&started, "/0", json!("kept")).await;
    lab.books.until("the answer is recorded", count(answered, 1)).await;
    assert_eq!((lab.hands.begun("/1"), lab.books.inputs(started.uid, resumed)), (0, 1));
    suspend(&lab, &started, false, 4).await;
    assert_eq!(lab.books.output(started.uid).await, json!(["kept", "on"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_carries_its_reason_and_shows_at_temporal() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("unwanted", &[Do::All(vec![Do::Wait, activity("hang", Value::Null)])]).await;
    lab.books.until("it runs", |_| (lab.hands.begun("/0/1") == 1).then_some(())).await;
    for _ in 0..2 {
        lab.give_as(&started, HostedInput::Cancel { reason: "nobody wants it".to_owned() }).await;
    }
    let Ending::Cancelled { reason, .. } = lab.books.ending(started.uid).await else { panic!("it was not cancelled") };
    assert_eq!(reason, "nobody wants it");
    assert!(matches!(lab.ended(&started).await, HostState::Ended { how: HostEnding::Cancelled, .. }));
    lab.books.until("the activity is stopped", |_| (lab.hands.dropped() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_temporal_can_cancel() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("unwanted-there", &[Do::Wait]).await;
    lab.books.opened(started.uid, "/0").await;
    TemporalServer::shared().cancel_workflow(&started.run.workflow_id);
    assert!(matches!(lab.books.ending(started.uid).await, Ending::Cancelled { reason, .. } if !reason.is_empty()));
    assert!(matches!(lab.ended(&started).await, HostState::Ended { how: HostEnding::Cancelled, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_over_ends_it() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("late", &[Do::Sleep { ms: 600_000 }]).await;
    lab.books.opened(started.uid, "/0").await;
    lab.give(&started, vec![Input::TimeoutReached]).await;
    assert!(matches!(lab.books.ending(started.uid).await, Ending::TimedOut { .. }));
    assert!(matches!(lab.ended(&started).await, HostState::Ended { how: HostEnding::Failed, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_workflow_is_gone_and_is_listed_as_ended() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("broken-off", &[Do::Wait]).await;
    let id = &started.run.workflow_id;
    lab.books.opened(started.uid, "/0").await;
    assert_eq!(lab.host.state(id).await, Ok(HostState::Running { run_id: started.run.run_id.clone(), trouble: None }));
    lab.give_as(&started, HostedInput::Terminate { reason: "deleted".to_owned() }).await;
    let ended = HostState::Ended { how: HostEnding::Terminated, reason: "deleted".to_owned() };
    assert_eq!(lab.ended(&started).await, ended);
    for input in [
        HostedInput::Events(Vec::new()),
        HostedInput::Suspend { suspended: true, generation: 5 },
        HostedInput::Cancel { reason: "late".to_owned() },
        HostedInput::Terminate { reason: "late".to_owned() },
    ] {
        let refused = lab.host.give(id, input.clone()).await;
        assert!(matches!(refused, Err(HostError::Gone(_))), "{input:?}: {refused:?}");
    }
    let listed = async || lab.host.ended_since(0).await.expect("the host can list").contains(&started.uid);
    lab.until_async("it is listed", listed).await;
    let later = i64::MAX / 1_000_000;
    assert_eq!(lab.host.ended_since(later).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_repeated_finds_the_first_one() {
    let lab = Lab::new();
    let start = lab.books.open("twice", &[activity("echo", json!(1))], Value::Null);
    let first = lab.start_as(start.clone()).await;
    assert_eq!(lab.host.start(start.clone()).await.as_ref(), Ok(&first.run));
    let _worker = lab.worker();
    lab.ended(&first).await;
    assert_eq!(lab.host.start(start).await.as_ref(), Ok(&first.run), "also once it has ended");
    assert_eq!(first.run.workflow_id, format!("baton/default/twice/{}", first.uid));
    assert_eq!(lab.host.ready().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_never_was_is_unknown() {
    let lab = Lab::new();
    lab.until_async("the host is ready", async || lab.host.ready().await.is_ok()).await;
    assert_eq!(lab.host.state("baton/default/none/x").await, Ok(HostState::Unknown));
    let refused = lab.host.give("baton/default/none/x", HostedInput::Events(Vec::new())).await;
    assert!(matches!(refused, Err(HostError::Gone(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_gone_whatever_its_name_and_a_namespace_that_is_not_there_is_waited_for() {
    let lab = Lab::new();
    lab.until_async("the host is ready", async || lab.host.ready().await.is_ok()).await;
    for id in ["baton/default/namespace-cleaner/x", "Namespace x is not found"] {
        assert_eq!(lab.host.state(id).await, Ok(HostState::Unknown), "{id}");
        let refused = lab.host.give(id, HostedInput::Events(Vec::new())).await;
        assert!(matches!(refused, Err(HostError::Gone(_))), "{id}: {refused:?}");
    }
    let nowhere = Lab::in_namespace("not-made-yet");
    let answered = async || match nowhere.host.state("baton/default/none/x").await {
        Err(HostError::Unavailable(why)) => why.contains("not-made-yet"),
        other => panic!("{other:?}"),
    };
    nowhere.until_async("Temporal says that there is no such namespace", answered).await;
}
