//! Callers behind tokens that are not Baton's: told at the end, heard from until then.

use std::{sync::Arc, time::Duration};

use baton_engine::{
    CallerState, Delivery, HostedInput,
    testing::{Site, admitted, callback_states, output, spec, uid},
};
use baton_execution::{Input, Outcome, fault_type};
use baton_types::Phase;
use serde_json::json;

use crate::support::{StubCaller, Workflow, with_caller, with_host};

fn token(name: &str) -> Vec<u8> {
    format!("caller:{name}").into_bytes()
}

fn say(caller: &Arc<StubCaller>, name: &str, state: CallerState) {
    caller.says.lock().unwrap().insert(token(name), state);
}

async fn told(site: &Site, name: &str, states: &[&str]) -> baton_proto::ExecutionResource {
    site.until(name, |job| callback_states(job) == states).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ending_is_told_and_tried_until_it_is_taken() {
    let (site, caller) = with_caller().await;
    caller.deliveries.lock().unwrap().extend([Delivery::Failed("down".into()), Delivery::Accepted]);
    let job = site.engine.create(admitted("job", &json!([{"echo": 5}]), token("a"))).await.unwrap().resource;
    assert_eq!(job.callbacks().unwrap()[0].receiver, "stub");
    let job = told(&site, "job", &["Delivered"]).await;
    assert_eq!(job.callbacks().unwrap()[0].attempts, 2);
    site.engine.create(admitted("fails", &json!([{"fail": "broken"}]), token("b"))).await.unwrap();
    told(&site, "fails", &["Delivered"]).await;
    caller.deliveries.lock().unwrap().push_back(Delivery::Rejected("nobody waits".into()));
    site.engine.create(admitted("late", &json!([{"echo": 5}]), token("c"))).await.unwrap();
    let late = told(&site, "late", &["Rejected"]).await;
    assert_eq!(late.callbacks().unwrap()[0].last_error, "nobody waits");
    assert_eq!(late.phase(), Phase::Completed, "a failed delivery changes nothing of the outcome");
    let told = caller.told.lock().unwrap();
    assert_eq!(told[0], (token("a"), Outcome::Completed(json!(5))));
    assert!(matches!(&told[1].1, Outcome::Failed(fault) if fault.kind == fault_type::RUNTIME));
    assert_eq!(told.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_be_answered_is_refused() {
    let (site, _) = with_caller().await;
    assert_eq!(site.engine.check_token(&token("forbidden")).unwrap_err().reason, "FORBIDDEN");
    assert_eq!(site.engine.check_token(b"other").unwrap_err().reason, "CALLBACK_TOKEN_UNKNOWN");
    site.engine.check_token(&token("a")).unwrap();
    let job = site.create("job", json!([{"echo": 1}])).await;
    assert_eq!(site.engine.attach(uid(&job), token("forbidden")).await.unwrap_err().reason, "FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callee_follows_its_last_caller_unless_it_is_to_be_abandoned() {
    let (site, caller) = with_caller().await;
    for (name, state) in [
        ("asked", CallerState::CancelRequested { again_after: Duration::from_millis(100) }),
        ("gone", CallerState::Gone("its workflow was terminated".into())),
    ] {
        say(&caller, name, state);
        site.engine.create(admitted(name, &json!([{"hang": 1}]), token(name))).await.unwrap();
        assert_eq!(site.ended(name).await.phase(), Phase::Cancelled, "{name}");
    }
    told(&site, "asked", &["Delivered"]).await;
    told(&site, "gone", &["Rejected"]).await;
    assert_eq!(caller.told.lock().unwrap().len(), 1, "who is gone is told nothing");

    say(&caller, "left", CallerState::Gone("timed out".into()));
    let mut abandoned = admitted("left", &json!([{"wait": {"as": "left"}}]), token("left"));
    spec(&mut abandoned.resource).parent_close_policy = "Abandon".to_owned();
    site.engine.create(abandoned).await.unwrap();
    told(&site, "left", &["Rejected"]).await;
    let wait = site.world.token("left").await;
    site.engine.answer(wait.as_bytes(), Outcome::Completed(json!(1))).await.unwrap();
    assert_eq!(output(&site.ended("left").await), json!({"completed": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_of_the_caller_takes_the_place_of_the_one_that_is_over() {
    let (site, caller) = with_caller().await;
    let create = |attempt: &str| {
        let mut job = admitted("job", &json!([{"wait": {"as": "job"}}]), token(attempt));
        spec(&mut job.resource).request_id = "r".to_owned();
        site.engine.create(job)
    };
    create("one").await.unwrap();
    say(&caller, "one", CallerState::Retries("attempt 1 timed out".into()));
    let wait = site.world.token("job").await;
    site.until("job", |_| caller.heartbeats.lock().unwrap().get(&token("one")).is_some_and(|count| *count > 1)).await;
    assert_eq!(callback_states(&site.get("job").unwrap()), ["Waiting"], "until the next one is there it stands for it");
    assert!(create("two").await.unwrap().existing);
    let job = told(&site, "job", &["Rejected", "Waiting"]).await;
    assert_eq!(job.callbacks().unwrap()[0].last_error, "attempt 1 timed out");
    site.engine.answer(wait.as_bytes(), Outcome::Completed(json!(1))).await.unwrap();
    told(&site, "job", &["Rejected", "Delivered"]).await;
    assert_eq!(*caller.told.lock().unwrap(), [(token("two"), Outcome::Completed(json!({"completed": 1})))]);
    assert_eq!(site.world.runs_of("hand-out"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_callers_may_go_and_a_restart_forgets_nobody() {
    let (site, caller) = with_caller().await;
    let job =
        site.engine.create(admitted("job", &json!([{"wait": {"as": "job"}}]), token("a"))).await.unwrap().resource;
    site.engine.attach(uid(&job), token("b")).await.unwrap();
    let mailbox = site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap();
    site.engine.attach(uid(&job), mailbox.token.clone()).await.unwrap();
    say(&caller, "a", CallerState::Gone("terminated".into()));
    say(&caller, "b", CallerState::CancelRequested { again_after: Duration::from_millis(100) });
    let wait = site.world.token("job").await;
    told(&site, "job", &["Rejected", "Waiting", "Waiting"]).await;
    let site = site.restart().await;
    let before = caller.heartbeats.lock().unwrap()[&token("b")];
    site.until("job", |_| caller.heartbeats.lock().unwrap()[&token("b")] > before).await;
    assert!(!site.get("job").unwrap().phase().is_terminal(), "somebody else still waits");
    site.engine.answer(wait.as_bytes(), Outcome::Completed(json!(1))).await.unwrap();
    told(&site, "job", &["Rejected", "Delivered", "Delivered"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_asks_for_the_end_reaches_the_workflow_once_and_is_heard_from_until_then() {
    let (site, host, caller) = with_host().await;
    site.engine.create(admitted("job", &json!([{"echo": 1}]), token("a"))).await.unwrap();
    let mut workflow = Workflow::of(&site, host.started("job").await).await;
    workflow.step(workflow.first()).await;
    say(&caller, "a", CallerState::CancelRequested { again_after: Duration::from_millis(100) });
    let HostedInput::Cancel { reason } = host.told().await else { panic!("it is to be cancelled") };
    let heard = || caller.heartbeats.lock().unwrap()[&token("a")];
    let before = heard();
    site.until("job", |_| heard() > before + 1).await;
    assert!(host.given.lock().unwrap().is_empty(), "once is enough");
    workflow.step(Input::CancelRequested { reason }).await;
    assert_eq!(site.ended("job").await.phase(), Phase::Cancelled);
    told(&site, "job", &["Delivered"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_for_good_for_who_comes_after_the_end() {
    let (site, caller) = with_caller().await;
    let job = site.engine.create(admitted("job", &json!([{"fail": "broken"}]), token("first"))).await.unwrap().resource;
    told(&site, "job", &["Delivered"]).await;
    // The clock has milliseconds.
    let ended = site.get("job").unwrap().completion_time().copied().flatten().unwrap();
    site.until("job", |_| {
        std::time::SystemTime::now()
            > std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(ended.as_millis()).unwrap() + 2)
    })
    .await;
    site.engine.attach(uid(&job), token("second")).await.unwrap();
    told(&site, "job", &["Delivered", "Delivered"]).await;
    let told = caller.told.lock().unwrap();
    let retryable = |n: usize| matches!(&told[n].1, Outcome::Failed(fault) if !fault.non_retryable);
    assert_eq!((retryable(0), retryable(1)), (true, false), "{told:?}");
}
