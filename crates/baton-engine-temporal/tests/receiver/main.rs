//! Temporal task tokens of plain SDK workflows are answered, over a real server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;
mod tls;

use std::time::Duration;

use baton_engine::{CallerState, Delivery, Receiver as _};
use baton_engine_temporal::{Connection, TemporalOptions, TemporalReceiver};
use baton_execution::{Fault, Outcome, fault_type};
use baton_temporal_testing::TemporalServer;
use baton_types::ErrorKind;
use serde_json::{Value, json};
use temporalio_client::{ActivityStartOptions, WorkflowCancelOptions, WorkflowTerminateOptions};
use temporalio_common::{
    UntypedActivity,
    data_converters::{PayloadConverter, RawValue},
    protos::temporal::api::workflow::v1::PendingActivityInfo,
};

use crate::harness::{Call, Desk, Ended, QUEUE, delivered, end, eventually, json_of, options, receiver};

fn output(value: Value) -> Outcome {
    Outcome::Completed(value)
}

fn cancelled(reason: &str) -> Outcome {
    Outcome::Cancelled { reason: reason.to_owned() }
}

fn rejected(delivery: &Delivery) -> &str {
    match delivery {
        Delivery::Rejected(why) => why,
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_gets_the_output_and_nothing_else() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    for (id, value) in [("object", json!({"answer": 42, "big": 9_007_199_254_740_993_u64})), ("null", Value::Null)] {
        let (caller, token) = desk.waiting(id, Call::default()).await;
        assert!(receiver.accepts(&token).unwrap().is_ok());
        assert_eq!(receiver.deliver(&token, &output(value.clone())).await, Delivery::Accepted);
        assert_eq!(end(&caller).await, Ended::Completed(value));
    }
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_gets_a_failure_with_type_message_and_details() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    for (id, fault) in [
        ("limit", Fault::new(fault_type::LIMIT, 429, "12 turns were used up").with_data(json!({"turns": 12}))),
        ("time", Fault::new(fault_type::TIMEOUT, 408, "ran longer than 5s").non_retryable()),
    ] {
        let (caller, token) = desk.waiting(id, Call::default()).await;
        assert_eq!(receiver.deliver(&token, &Outcome::Failed(fault.clone())).await, Delivery::Accepted);
        let expected = Ended::Failed {
            kind: fault.kind.clone(),
            message: fault.to_string(),
            non_retryable: fault.non_retryable,
            details: serde_json::to_value(&fault).unwrap(),
        };
        assert_eq!(end(&caller).await, expected);
    }
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_that_may_be_retried_only_the_next_attempts_token_is_good() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let caller = desk.call("retried", Call { attempts: 3, ..Call::default() }).await;
    let one = desk.token().await;
    let fault = Fault::new(fault_type::COMMUNICATION, 503, "try again");
    assert_eq!(receiver.deliver(&one.token, &Outcome::Failed(fault)).await, Delivery::Accepted);
    let two = desk.token().await;
    assert_eq!((one.attempt, two.attempt), (1, 2));
    assert_ne!(one.token, two.token);
    let CallerState::Retries(why) = receiver.heartbeat(&one.token).await else { panic!("the attempt is over") };
    assert_eq!(
        why,
        "attempt 1 of the caller's activity is over, attempt 2 is there or to come after: communication: try again"
    );
    rejected(&receiver.deliver(&one.token, &output(json!("old"))).await);
    assert!(matches!(receiver.heartbeat(&two.token).await, CallerState::Waits { .. }));
    assert_eq!(receiver.deliver(&two.token, &output(json!("new"))).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Completed(json!("new")));
    // The answer is there, but it was not this attempt that got it.
    rejected(&receiver.deliver(&one.token, &output(json!("new"))).await);
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_cancelled_tells_so_and_hears_that_it_was_done() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let (caller, token) = desk.waiting("cancelled", Call { waits_for_cancellation: true, ..Call::default() }).await;
    assert!(matches!(receiver.heartbeat(&token).await, CallerState::Waits { .. }));
    caller.cancel(WorkflowCancelOptions::default()).await.unwrap();
    eventually("the caller tells that it is cancelled", || async {
        (matches!(receiver.heartbeat(&token).await, CallerState::CancelRequested { .. })).then_some(())
    })
    .await;
    assert_eq!(receiver.deliver(&token, &cancelled("the caller was cancelled")).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Cancelled);
    assert_eq!(desk.cancelled_with("cancelled").await, Some(json!({"reason": "the caller was cancelled"})));
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callee_cancelled_by_somebody_else_fails_its_caller_for_good() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let (caller, token) = desk.waiting("uncancelled", Call { attempts: 5, ..Call::default() }).await;
    assert_eq!(receiver.deliver(&token, &cancelled("by ann")).await, Delivery::Accepted);
    let Ended::Failed { kind, message, non_retryable, details } = end(&caller).await else { panic!("it failed") };
    assert_eq!((kind.as_str(), message.as_str()), (fault_type::CANCELLED, "cancelled: by ann"));
    assert!(non_retryable);
    assert_eq!(details["detail"], "by ann");
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_a_caller_alive_in_its_own_time_and_with_its_own_details() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let progress = json!({"execution": "triage-7"});
    let call = Call { heartbeat_ms: Some(6_000), progress: Some(progress.clone()), ..Call::default() };
    let (caller, token) = desk.waiting("alive", call).await;
    // The SDK sends the heartbeat of an activity beside it.
    let told = |it: &PendingActivityInfo| json_of(it.heartbeat_details.as_ref()).as_ref() == Some(&progress);
    let before = eventually("its own heartbeat is there", || async { desk.pending("alive").await.filter(told) }).await;
    let waits = |again_after| CallerState::Waits { again_after };
    assert_eq!(receiver.heartbeat(&token).await, waits(Duration::from_secs(2)));
    assert_eq!(receiver.heartbeat(&token).await, waits(Duration::from_secs(2)), "from memory");
    let pending = desk.pending("alive").await.unwrap();
    assert_ne!(pending.last_heartbeat_time, before.last_heartbeat_time);
    assert_eq!(json_of(pending.heartbeat_details.as_ref()), Some(progress));
    assert_eq!(receiver.deliver(&token, &output(json!(1))).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Completed(json!(1)));

    let (_, token) = desk.waiting("silent", Call::default()).await;
    assert_eq!(receiver.heartbeat(&token).await, waits(Duration::from_secs(30)), "it has no timeout of heartbeats");
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_time_is_over_is_gone_or_retries() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let (caller, token) = desk.waiting("late", Call { start_to_close_ms: 300, ..Call::default() }).await;
    assert_eq!(end(&caller).await, Ended::Otherwise("StartToClose".to_owned()));
    assert_eq!(receiver.heartbeat(&token).await, CallerState::Gone("its workflow has ended: failed".to_owned()));
    let why = receiver.deliver(&token, &output(json!(1))).await;
    assert_eq!(rejected(&why), "nobody waits there any more: workflow execution already completed");

    let call = Call { heartbeat_ms: Some(300), attempts: 2, ..Call::default() };
    let (_, token) = desk.waiting("unheard", call).await;
    let two = desk.token().await;
    assert_eq!(two.attempt, 2);
    let CallerState::Retries(why) = receiver.heartbeat(&token).await else { panic!("there is another attempt") };
    assert!(why.ends_with("attempt 2 is there or to come after: activity Heartbeat timeout"), "{why}");
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_was_ended_from_outside_is_gone() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let (caller, token) = desk.waiting("terminated", Call::default()).await;
    assert!(matches!(receiver.heartbeat(&token).await, CallerState::Waits { .. }));
    caller.terminate(WorkflowTerminateOptions::default()).await.unwrap();
    let gone = CallerState::Gone("its workflow has ended: terminated".to_owned());
    assert_eq!(receiver.heartbeat(&token).await, gone);
    rejected(&receiver.deliver(&token, &output(json!(1))).await);
    server.delete_workflow("terminated");
    eventually("its history is deleted", || async {
        let state = receiver.heartbeat(&token).await;
        let deleted = "Temporal knows nothing of it any more; its history may be deleted";
        (state == CallerState::Gone(deleted.to_owned())).then_some(())
    })
    .await;
    rejected(&receiver.deliver(&token, &output(json!(1))).await);

    // A caller that does not wait for us has ended its activity with its own cancellation.
    let (caller, token) = desk.waiting("hasty", Call::default()).await;
    caller.cancel(WorkflowCancelOptions::default()).await.unwrap();
    assert_eq!(end(&caller).await, Ended::Cancelled);
    assert_eq!(receiver.heartbeat(&token).await, CallerState::Gone("its workflow has ended: cancelled".to_owned()));
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_was_reset_or_paused_is_not_given_up() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let (caller, token) = desk.waiting("paused", Call::default()).await;
    server.cli(&["activity", "pause", "--workflow-id", "paused", "--activity-id", "1"]);
    eventually("it is paused", || async { desk.pending("paused").await.filter(|it| it.paused) }).await;
    assert!(matches!(receiver.heartbeat(&token).await, CallerState::Waits { .. }));
    assert_eq!(receiver.deliver(&token, &output(json!(1))).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Completed(json!(1)));

    let (caller, token) = desk.waiting("reset", Call::default()).await;
    server.cli(&["workflow", "reset", "--workflow-id", "reset", "--type", "FirstWorkflowTask", "--reason", "test"]);
    let again = desk.token().await;
    let CallerState::Retries(_) = receiver.heartbeat(&token).await else { panic!("it calls again") };
    rejected(&receiver.deliver(&token, &output(json!("old"))).await);
    assert_eq!(receiver.deliver(&again.token, &output(json!("new"))).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Completed(json!("new")));
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_without_a_workflow_is_a_caller_too() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let input = RawValue::from_value(&Call::default(), &PayloadConverter::serde_json());
    let start = ActivityStartOptions::with_start_to_close_timeout(QUEUE, "alone", Duration::from_mins(1))
        .heartbeat_timeout(Duration::from_secs(3))
        .build();
    let caller = desk.client.start_activity(UntypedActivity::new("hand"), input, start).await.unwrap();
    let token = desk.token().await.token;
    assert!(receiver.accepts(&token).unwrap().is_ok());
    assert_eq!(receiver.heartbeat(&token).await, CallerState::Waits { again_after: Duration::from_secs(1) });
    assert_eq!(receiver.deliver(&token, &output(json!("done"))).await, Delivery::Accepted);
    let result = caller.result().await.unwrap();
    assert_eq!(result.to_value::<Value>(&PayloadConverter::serde_json()), json!("done"));
    assert_eq!(receiver.heartbeat(&token).await, CallerState::Gone("its activity has ended: completed".to_owned()));
    rejected(&receiver.deliver(&token, &output(json!("other"))).await);
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_activities_of_executions_are_not_answered() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let id = "baton/default/victim/01a20771-b59d-75a8-8e4f-36e57155468f";
    let (caller, token) = desk.waiting(id, Call::default()).await;
    let refusal = receiver.accepts(&token).unwrap().unwrap_err();
    assert_eq!((refusal.kind, refusal.reason), (ErrorKind::PermissionDenied, "CALLBACK_TOKEN_RESERVED"));
    let fault = Fault::new(fault_type::RUNTIME, 500, "forged");
    for outcome in [output(json!("forged")), Outcome::Failed(fault), cancelled("forged")] {
        assert!(rejected(&receiver.deliver(&token, &outcome).await).contains("of Baton's own"));
    }
    assert!(matches!(receiver.heartbeat(&token).await, CallerState::Gone(_)));
    assert!(desk.pending(id).await.is_some(), "its activity still waits");
    caller.terminate(WorkflowTerminateOptions::default()).await.unwrap();
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_namespaces_that_are_named_are_answered() {
    let server = TemporalServer::shared();
    server.create_namespace("other");
    let desk = Desk::open(server).await;
    let (caller, token) = desk.waiting("foreign", Call::default()).await;

    let only_other = receiver(&server.address(), &["other"]).await;
    let refusal = eventually("the ids are known", || async { only_other.accepts(&token).unwrap().err() }).await;
    assert_eq!((refusal.kind, refusal.reason), (ErrorKind::PermissionDenied, "CALLBACK_TOKEN_NAMESPACE_FORBIDDEN"));
    assert!(refusal.message.ends_with("only 'other' may be answered"), "{}", refusal.message);
    assert!(refusal.hint.unwrap().contains("temporal.callback-namespaces"));
    assert!(rejected(&only_other.deliver(&token, &output(json!(1))).await).contains("only 'other' may be answered"));
    assert!(matches!(only_other.heartbeat(&token).await, CallerState::Gone(_)));

    let nobody = receiver(&server.address(), &[]).await;
    assert!(nobody.accepts(&token).unwrap().unwrap_err().message.ends_with("no namespace may be answered"));

    // One that does not exist is not known to be another one, until it was looked for.
    let missing = receiver(&server.address(), &["missing"]).await;
    assert!(missing.accepts(&token).unwrap().is_ok());
    rejected(&delivered(&missing, &token, &output(json!(1))).await);
    assert!(matches!(missing.heartbeat(&token).await, CallerState::Gone(_)));

    let both = receiver(&server.address(), &["missing", "other", "default"]).await;
    assert_eq!(delivered(&both, &token, &output(json!(2))).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Completed(json!(2)));
    assert!(both.accepts(b"baton1.AAAA").is_none() && both.accepts(b"no token").is_none());
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_token_does_no_harm() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let (caller, token) = desk.waiting("flipped", Call::default()).await;
    assert!(matches!(receiver.heartbeat(&token).await, CallerState::Waits { .. }));
    let changed = |bit: usize| {
        let mut token = token.clone();
        token[bit / 8] ^= 1 << (bit % 8);
        token
    };
    let bits = token.len() * 8;
    for bit in 0..bits {
        match receiver.heartbeat(&changed(bit)).await {
            CallerState::Waits { .. } | CallerState::Retries(_) | CallerState::Gone(_) => {}
            // With a clock that cannot be, Temporal says that something went wrong, and to try again.
            CallerState::Unreachable(why) if why.contains("Unknown") => {}
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    assert_eq!(receiver.deliver(&token, &output(json!("first"))).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Completed(json!("first")));
    for bit in 0..bits {
        let delivery = receiver.deliver(&changed(bit), &output(json!("second"))).await;
        let unclear = matches!(&delivery, Delivery::Failed(why) if why.contains("Unknown"));
        assert!(unclear || matches!(delivery, Delivery::Rejected(_)), "bit {bit}: {delivery:?}");
    }
    for length in 0..token.len() {
        rejected(&receiver.deliver(&token[..length], &output(json!("second"))).await);
    }
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_holds() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let fault = Outcome::Failed(Fault::new(fault_type::RUNTIME, 500, "broken").non_retryable());
    for (id, first) in [("out", output(json!({"n": 1}))), ("fault", fault), ("cancel", cancelled("by ann"))] {
        let (caller, token) = desk.waiting(id, Call::default()).await;
        assert_eq!(receiver.deliver(&token, &first).await, Delivery::Accepted);
        let ended = end(&caller).await;
        // The same answer again is there already; another one comes too late.
        assert_eq!(receiver.deliver(&token, &first).await, Delivery::Accepted, "{id}");
        rejected(&receiver.deliver(&token, &output(json!("second"))).await);
        assert_eq!(end(&caller).await, ended);
    }
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_not_sent() {
    let server = TemporalServer::shared();
    let (desk, receiver) = (Desk::open(server).await, receiver(&server.address(), &["default"]).await);
    let (caller, token) = desk.waiting("large", Call::default()).await;
    let why = receiver.deliver(&token, &output(json!("x".repeat(2 << 20)))).await;
    assert!(rejected(&why).contains("takes at most 2088960"), "{why:?}");
    let most = json!("x".repeat(2_088_000));
    assert_eq!(receiver.deliver(&token, &output(most.clone())).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Completed(most));

    let (caller, token) = desk.waiting("large-fault", Call::default()).await;
    let fault = Fault::new(fault_type::TOO_LARGE, 413, "too much").with_data(json!("x".repeat(3 << 20)));
    assert_eq!(receiver.deliver(&token, &Outcome::Failed(fault)).await, Delivery::Accepted);
    let Ended::Failed { message, details, .. } = end(&caller).await else { panic!("it failed") };
    assert_eq!((message.as_str(), details.get("data")), ("too large: too much", None));
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_temporal_is_away_answers_fail_for_the_moment() {
    let mut server = TemporalServer::start();
    let (desk, known) = (Desk::open(&server).await, receiver(&server.address(), &["default"]).await);
    let (caller, token) = desk.waiting("patient", Call::default()).await;
    assert!(matches!(
        eventually("the connection is there", || async {
            Some(known.heartbeat(&token).await).filter(|state| !matches!(state, CallerState::Unreachable(_)))
        })
        .await,
        CallerState::Waits { .. }
    ));
    server.kill();
    assert!(known.accepts(&token).unwrap().is_ok());
    assert!(matches!(known.deliver(&token, &output(json!(1))).await, Delivery::Failed(_)));
    assert!(matches!(known.heartbeat(&token).await, CallerState::Unreachable(_)));

    // One that starts while Temporal is away takes tokens too, and answers them later.
    let connection = Connection::start(options(&server.address())).unwrap();
    let fresh = TemporalReceiver::new(connection.clone(), vec!["default".to_owned()]);
    assert!(fresh.accepts(&token).unwrap().is_ok());
    assert!(matches!(fresh.deliver(&token, &output(json!(1))).await, Delivery::Failed(_)));
    eventually("it is told why", || async { connection.problem().filter(|why| why.contains("refused")) }).await;
    assert!(connection.client().is_none());

    server.restart();
    connection.wait_connected().await;
    assert_eq!(connection.problem(), None);
    assert_eq!(delivered(&fresh, &token, &output(json!(2))).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Completed(json!(2)));
    rejected(&delivered(&known, &token, &output(json!(3))).await);
    desk.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_answer_does_not_hold_us_up_and_what_it_took_is_found() {
    let server = TemporalServer::start();
    let desk = Desk::open(&server).await;
    let hasty = TemporalOptions { rpc_timeout: Duration::from_secs(1), ..options(&server.address()) };
    let connection = Connection::start(hasty).unwrap();
    let receiver = TemporalReceiver::new(connection, vec!["default".to_owned()]);
    let (caller, token) = desk.waiting("frozen", Call::default()).await;
    eventually("the connection is there", || async {
        matches!(receiver.heartbeat(&token).await, CallerState::Waits { .. }).then_some(())
    })
    .await;
    server.freeze();
    eventually("every thread of it is frozen", || async {
        matches!(receiver.heartbeat(&token).await, CallerState::Unreachable(_)).then_some(())
    })
    .await;
    let Delivery::Failed(why) = receiver.deliver(&token, &output(json!("kept"))).await else { panic!("no answer") };
    assert!(why.contains("DeadlineExceeded") || why.contains("Cancelled"), "{why}");
    server.go_on();
    // Whether the frozen server had read the answer or not: the caller has it, and we know.
    assert_eq!(delivered(&receiver, &token, &output(json!("kept"))).await, Delivery::Accepted);
    assert_eq!(end(&caller).await, Ended::Completed(json!("kept")));
    desk.close();
}
