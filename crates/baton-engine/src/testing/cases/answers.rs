//! Who is told what, when, and how often.

use std::{sync::Arc, time::Duration};

use baton_execution::Outcome;
use baton_types::{ErrorKind, Phase};
use serde_json::json;

use crate::testing::{Place, Site, admitted, callback_states, output, spec, uid};

/// A parent goes on with its childs answer.
pub async fn a_parent_goes_on_with_its_childs_answer(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    site.create("parent", json!([{"child": {"steps": [{"echo": 5}]}}, {"echo": "after"}])).await;
    assert_eq!(output(&site.ended("parent").await), json!("after"));
    let child = site.child_of("parent").await;
    let (events, _) = site.engine.history(uid(&site.get("parent").unwrap()), 0, 100).unwrap();
    let named = events.iter().find_map(|event| match &event.attributes {
        Some(baton_proto::history_v1::history_event::Attributes::ChildRequested(requested)) => {
            Some(requested.execution_name.clone())
        }
        _ => None,
    });
    assert_eq!(named.as_ref(), Some(&child), "history names the child, however soon it answered");
    let child = site.until(&child, |child| callback_states(child) == ["Delivered"]).await;
    assert!(child.metadata().finalizers.is_empty(), "the finalizer goes when the caller was told");
    assert_eq!(child.parent().unwrap().as_ref().unwrap().name, "parent");
    assert_eq!(child.root().unwrap().as_ref().unwrap().name, "parent");
}

/// Every ending of a child is told.
pub async fn every_ending_of_a_child_is_told(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let kinds = [
        ("completes", json!([{"echo": 5}]), json!({"completed": 5})),
        (
            "fails",
            json!([{"fail": "broken"}]),
            json!({"failed": "https://serverlessworkflow.io/spec/1.0.0/errors/runtime", "detail": "broken"}),
        ),
        (
            "cannot-be",
            json!("impossible"),
            json!({"failed": "https://serverlessworkflow.io/spec/1.0.0/errors/configuration", "detail": "no such workflow"}),
        ),
    ];
    for (name, steps, told) in kinds {
        site.create(name, json!([{"child": {"steps": steps}}])).await;
        assert_eq!(output(&site.ended(name).await), told, "{name}");
    }
    site.create("times-out", json!([{"child": {"steps": [{"hang": 1}], "timeoutMs": 30}}])).await;
    assert_eq!(
        output(&site.ended("times-out").await)["failed"],
        json!("https://serverlessworkflow.io/spec/1.0.0/errors/timeout")
    );
    for (name, terminate) in [("cancelled", false), ("terminated", true)] {
        site.create(name, json!([{"child": {"steps": [{"hang": 1}]}}])).await;
        let child = site.until(&site.child_of(name).await, |_| true).await;
        if terminate {
            let ended = site.engine.terminate(uid(&child), "enough".into()).await.unwrap();
            assert_eq!(ended.phase(), Phase::Cancelled, "at once");
        } else {
            site.engine.cancel(uid(&child), "enough".into()).await.unwrap();
        }
        assert_eq!(site.ended(&child.metadata().name).await.phase(), Phase::Cancelled);
        assert_eq!(output(&site.ended(name).await), json!("cancelled"), "{name}");
    }
    site.create("deleted", json!([{"child": {"steps": [{"hang": 1}]}}])).await;
    let child = site.until(&site.child_of("deleted").await, |_| true).await;
    let deleted = site.engine.delete(uid(&child), None).await.unwrap();
    assert!(!deleted.gone, "its caller is still to be told");
    assert_eq!(output(&site.ended("deleted").await), json!("cancelled"));
    site.until("deleted", |_| site.get(&child.metadata().name).is_none()).await;
}

/// The first answer counts and no other changes anything.
pub async fn the_first_answer_counts_and_no_other_changes_anything(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let waiting = site.create("waits", json!([{"wait": {"as": "first"}}, {"wait": {"as": "second"}}])).await;
    let first = site.world.token("first").await;
    site.until("waits", |resource| resource.waiting_for().is_some_and(|all| !all.is_empty())).await;

    let mut changed = first.clone().into_bytes();
    let end = changed.len() - 1;
    changed[end] = if changed[end] == b'A' { b'B' } else { b'A' };
    for (token, reason) in [
        (changed, "CALLBACK_TOKEN_UNKNOWN"),
        (b"\x0a\x24temporal".to_vec(), "CALLBACK_TOKEN_UNKNOWN"),
        (vec![b'x'; 9000], "FIELD_INVALID"),
    ] {
        let refusal = site.engine.answer(&token, Outcome::Completed(json!(0))).await.unwrap_err();
        assert_eq!((refusal.kind, refusal.reason), (ErrorKind::InvalidArgument, reason));
    }
    let big = json!("x".repeat(300 * 1024));
    let refusal = site.engine.answer(first.as_bytes(), Outcome::Completed(big)).await.unwrap_err();
    assert_eq!(refusal.kind, ErrorKind::TooLarge, "{refusal}");

    let fingerprint = site.engine.answer(first.as_bytes(), Outcome::Completed(json!(1))).await.unwrap();
    assert_eq!(fingerprint, baton_types::fingerprint(first.as_bytes()));
    let refusal = site.engine.answer(first.as_bytes(), Outcome::Completed(json!(2))).await.unwrap_err();
    assert_eq!(refusal.reason, "CALLBACK_ALREADY_COMPLETED");
    assert_eq!(site.engine.heartbeat(first.as_bytes()).await.unwrap_err().reason, "CALLBACK_ALREADY_COMPLETED");

    let second = site.world.token("second").await;
    site.engine.answer(second.as_bytes(), Outcome::Completed(json!(2))).await.unwrap();
    assert_eq!(output(&site.ended("waits").await), json!({"completed": 2}));
    assert_eq!(
        site.engine.answer(second.as_bytes(), Outcome::Completed(json!(3))).await.unwrap_err().reason,
        "CALLBACK_ALREADY_COMPLETED"
    );
    site.engine.delete(uid(&waiting), None).await.unwrap();
    assert_eq!(
        site.engine.answer(second.as_bytes(), Outcome::Completed(json!(3))).await.unwrap_err().reason,
        "CALLBACK_NOT_FOUND"
    );
}

/// A token expires with its wait.
pub async fn a_token_expires_with_its_wait(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    site.create("waits", json!([{"wait": {"as": "short", "expiresMs": -1}}])).await;
    let token = site.world.token("short").await;
    assert_eq!(
        site.engine.answer(token.as_bytes(), Outcome::Completed(json!(1))).await.unwrap_err().reason,
        "CALLBACK_TOKEN_EXPIRED"
    );
    assert_eq!(site.engine.check_token(token.as_bytes()).unwrap_err().reason, "CALLBACK_TOKEN_EXPIRED");
}

/// A wait without the heartbeats it wants fails.
pub async fn a_wait_without_the_heartbeats_it_wants_fails(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    site.create("waits", json!([{"wait": {"as": "worker", "heartbeatMs": 50}}])).await;
    let token = site.world.token("worker").await;
    let _alive = site.engine.heartbeat(token.as_bytes()).await;
    let told = output(&site.ended("waits").await);
    assert_eq!(told["failed"], json!("https://serverlessworkflow.io/spec/1.0.0/errors/timeout"));
    assert!(told["detail"].as_str().unwrap().contains("no heartbeat"), "{told}");
}

/// A caller outside collects its answer.
pub async fn a_caller_outside_collects_its_answer(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let mailbox = site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap();
    assert_eq!(site.engine.await_mailbox(&mailbox.token, Duration::ZERO).await.unwrap(), None);
    let created =
        site.engine.create(admitted("job", &json!([{"echo": {"n": 5}}]), mailbox.token.clone())).await.unwrap();
    assert_eq!(created.resource.callback_token(), b"", "a read never has the token");
    let told = site.engine.await_mailbox(&mailbox.token, Duration::from_secs(20)).await.unwrap();
    assert_eq!(told, Some(Outcome::Completed(json!({"n": 5}))));
    let job = site.until("job", |job| callback_states(job) == ["Delivered"]).await;
    assert_eq!(job.callbacks().unwrap()[0].fingerprint, mailbox.fingerprint);
    assert_eq!(
        site.engine.answer(&mailbox.token, Outcome::Completed(json!(1))).await.unwrap_err().reason,
        "CALLBACK_ALREADY_COMPLETED"
    );
}

/// A repeated create runs once and adds its token.
pub async fn a_repeated_create_runs_once_and_adds_its_token(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let mut tokens = Vec::new();
    let mut uids = Vec::new();
    for existing in [false, true, true] {
        let mailbox = site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap();
        let mut again = admitted("job", &json!([{"echo": 5}]), mailbox.token.clone());
        spec(&mut again.resource).request_id = "r1".to_owned();
        let created = site.engine.create(again).await.unwrap();
        assert_eq!(created.existing, existing);
        uids.push(uid(&created.resource));
        tokens.push(mailbox.token);
    }
    assert!(uids.iter().all(|uid| *uid == uids[0]));
    for token in tokens {
        assert_eq!(
            site.engine.await_mailbox(&token, Duration::from_secs(20)).await.unwrap(),
            Some(Outcome::Completed(json!(5)))
        );
    }
    assert_eq!(site.world.runs_of("echo"), 1);
    for (request_id, steps) in [("r2", json!([{"echo": 5}])), ("", json!([{"echo": 5}])), ("r1", json!([{"echo": 6}]))]
    {
        let mut other = admitted("job", &steps, Vec::new());
        spec(&mut other.resource).request_id = request_id.to_owned();
        assert_eq!(site.engine.create(other).await.unwrap_err().kind, ErrorKind::AlreadyExists, "{request_id} {steps}");
    }
}

/// A token can be attached before and after the end.
pub async fn a_token_can_be_attached_before_and_after_the_end(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", json!([{"wait": {"as": "go"}}])).await;
    let early = site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap();
    let with = site.engine.attach(uid(&job), early.token.clone()).await.unwrap();
    assert_eq!(callback_states(&with), ["Waiting"]);
    site.engine.attach(uid(&job), early.token.clone()).await.unwrap();
    let token = site.world.token("go").await;
    site.engine.answer(token.as_bytes(), Outcome::Cancelled { reason: "no".into() }).await.unwrap();
    site.ended("job").await;
    let late = site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap();
    site.engine.attach(uid(&job), late.token.clone()).await.unwrap();
    for token in [&early.token, &late.token] {
        assert_eq!(
            site.engine.await_mailbox(token, Duration::from_secs(20)).await.unwrap(),
            Some(Outcome::Completed(json!("cancelled")))
        );
    }
    let job = site.until("job", |job| callback_states(job) == ["Delivered", "Delivered"]).await;
    let condition = job.conditions().unwrap().iter().find(|it| it.r#type == "CallbackDelivered").unwrap();
    assert_eq!((condition.status.as_str(), condition.message.as_str()), ("True", "2 of 2 delivered"));
}

/// An output over the limit is delivered as a reference.
pub async fn an_output_over_the_limit_is_delivered_as_a_reference(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let mailbox = site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap();
    let created = site.engine.create(admitted("big", &json!([{"big": 700_000}]), mailbox.token.clone())).await.unwrap();
    let Some(Outcome::Completed(reference)) =
        site.engine.await_mailbox(&mailbox.token, Duration::from_secs(20)).await.unwrap()
    else {
        panic!("completed")
    };
    assert_eq!(reference["sizeBytes"], json!(700_002));
    assert_eq!(reference["$ref"], json!("/apis/baton.dev/v1/namespaces/default/workflowexecutions/big/output"));
    assert_eq!(site.engine.output(uid(&created.resource)).unwrap().len(), 700_002);
}
