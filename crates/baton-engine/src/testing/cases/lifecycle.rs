//! Cancelling, suspending, changing and deleting.

use std::sync::Arc;

use baton_execution::Outcome;
use baton_types::{ErrorKind, Phase};
use serde_json::json;

use crate::testing::{Place, Site, admitted, output, spec, uid};

/// A history is numbered without gaps and ends with the end.
pub async fn a_history_is_numbered_without_gaps_and_ends_with_the_end(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", json!([{"echo": 1}, {"timer": 1}, {"echo": {"n": 9_007_199_254_740_993_i64}}])).await;
    assert_eq!(output(&site.ended("job").await), json!({"n": 9_007_199_254_740_993_i64}), "64-bit integers stay exact");
    let (events, ended) = site.engine.history(uid(&job), 0, 1000).unwrap();
    assert!(ended);
    let numbers: Vec<i32> = events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=i32::try_from(events.len()).unwrap()).collect::<Vec<_>>());
    let types: Vec<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(
        types,
        [
            "Started",
            "ActivityScheduled",
            "ActivityCompleted",
            "TimerStarted",
            "TimerFired",
            "ActivityScheduled",
            "ActivityCompleted",
            "Ended"
        ]
    );
    for after in 0..=8 {
        let (tail, _) = site.engine.history(uid(&job), after, 3).unwrap();
        assert_eq!(
            tail,
            events[usize::try_from(after).unwrap()..].iter().take(3).cloned().collect::<Vec<_>>(),
            "after {after}"
        );
    }
}

/// Cancelling a parent cancels those who work for it unless they are abandoned.
pub async fn cancelling_a_parent_cancels_those_who_work_for_it_unless_they_are_abandoned(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    for (name, abandon, awaited) in [("bound", false, true), ("free", true, true), ("bound-not-awaited", false, false)]
    {
        let steps = if awaited {
            json!([{"child": {"steps": [{"hang": 1}], "abandon": abandon}}])
        } else {
            json!([{"child": {"steps": [{"hang": 1}], "awaited": false}}])
        };
        let parent = site.create(name, steps).await;
        let child = site.child_of(name).await;
        site.until(&child, |_| true).await;
        site.engine.cancel(uid(&parent), "enough".into()).await.unwrap();
        if abandon {
            let token_holder = site.until(&child, |_| true).await;
            assert!(!token_holder.phase().is_terminal());
        } else {
            assert_eq!(site.ended(&child).await.phase(), Phase::Cancelled, "{name}");
        }
        site.ended(name).await;
        assert_eq!(site.engine.cancel(uid(&parent), "again".into()).await.unwrap_err().reason, "EXECUTION_ENDED");
    }
}

/// A child that comes to be after its parent gave up is cancelled.
pub async fn a_child_that_comes_to_be_after_its_parent_gave_up_is_cancelled(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    for n in 0..20 {
        let name = format!("parent-{n}");
        let parent = site.create(&name, json!([{"child": {"steps": [{"hang": 1}]}}])).await;
        if n % 4 < 2 {
            site.until(&name, |parent| parent.phase() == Phase::Running).await;
        }
        if n % 2 == 0 {
            site.engine.cancel(uid(&parent), "at once".into()).await.unwrap();
        } else {
            site.engine.terminate(uid(&parent), "at once".into()).await.unwrap();
        }
        site.ended(&name).await;
        let (events, _) = site.engine.history(uid(&parent), 0, 100).unwrap();
        if events.iter().any(|event| event.r#type == "ChildRequested") {
            let child = site.child_of(&name).await;
            assert_eq!(site.ended(&child).await.phase(), Phase::Cancelled, "{child}");
        }
    }
}

/// Whoever holds a token of an ended caller is cancelled.
pub async fn whoever_holds_a_token_of_an_ended_caller_is_cancelled(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let caller = site.create("caller", json!([{"wait": {"as": "caller"}}])).await;
    let token = site.world.token("caller").await;
    site.engine.create(admitted("worker", &json!([{"hang": 1}]), token.into_bytes())).await.unwrap();
    site.engine.terminate(uid(&caller), "gone".into()).await.unwrap();
    assert_eq!(site.ended("worker").await.phase(), Phase::Cancelled);
}

/// A suspended execution keeps answers and goes on when resumed.
pub async fn a_suspended_execution_keeps_answers_and_goes_on_when_resumed(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let mut held = admitted("held", &json!([{"echo": 1}]), Vec::new());
    spec(&mut held.resource).suspend = true;
    site.engine.create(held).await.unwrap();
    let held = site.until("held", |held| held.phase() == Phase::Suspended).await;
    assert_eq!(site.world.runs_of("echo"), 0);
    let resume = |uid| {
        site.engine.update(
            uid,
            Box::new(|resource| {
                resource.set_suspend(false);
                Ok(())
            }),
        )
    };
    resume(uid(&held)).await.unwrap();
    assert_eq!(output(&site.ended("held").await), json!(1));

    let job = site.create("job", json!([{"wait": {"as": "job"}}])).await;
    let token = site.world.token("job").await;
    site.engine
        .update(
            uid(&job),
            Box::new(|resource| {
                resource.set_suspend(true);
                Ok(())
            }),
        )
        .await
        .unwrap();
    site.engine.answer(token.as_bytes(), Outcome::Completed(json!(7))).await.unwrap();
    assert_eq!(
        site.engine.answer(token.as_bytes(), Outcome::Completed(json!(8))).await.unwrap_err().reason,
        "CALLBACK_ALREADY_COMPLETED"
    );
    site.until("job", |job| job.phase() == Phase::Suspended).await;
    resume(uid(&job)).await.unwrap();
    assert_eq!(output(&site.ended("job").await), json!({"completed": 7}));
}

/// An execution ends when its time is over.
pub async fn an_execution_ends_when_its_time_is_over(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let mut slow = admitted("slow", &json!([{"hang": 1}]), Vec::new());
    slow.timeout_ms = Some(20);
    site.engine.create(slow).await.unwrap();
    let slow = site.ended("slow").await;
    assert_eq!(slow.phase(), Phase::TimedOut);
    assert_eq!(slow.error().unwrap().as_ref().unwrap().status, 408);
}

/// Metadata changes go through the same writer and a change of nothing writes nothing.
pub async fn metadata_changes_go_through_the_same_writer_and_a_change_of_nothing_writes_nothing(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", json!([{"wait": {"as": "job"}}])).await;
    site.until("job", |job| job.waiting_for().is_some_and(|all| !all.is_empty())).await;
    let label = |value: &'static str| {
        site.engine.update(
            uid(&job),
            Box::new(move |resource| {
                resource.metadata_mut().labels.insert("team".into(), value.into());
                Ok(())
            }),
        )
    };
    let first = label("a").await.unwrap();
    let again = label("a").await.unwrap();
    assert_eq!(first.metadata().resource_version, again.metadata().resource_version);
    assert_ne!(label("b").await.unwrap().metadata().resource_version, first.metadata().resource_version);
    let refused = site
        .engine
        .update(uid(&job), Box::new(|_| Err(baton_types::ApiError::new(ErrorKind::Conflict, "CONFLICT", "no"))))
        .await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Conflict);
    let stale = site.engine.delete(uid(&job), Some(1)).await.unwrap_err();
    assert_eq!(stale.kind, ErrorKind::Conflict);
    site.engine.delete(uid(&job), None).await.unwrap();
    site.gone("job").await;
}

/// Of writers that saw the same version one wins.
pub async fn of_writers_that_saw_the_same_version_one_wins(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", json!([{"wait": {"as": "job"}}])).await;
    site.until("job", |job| job.waiting_for().is_some_and(|all| !all.is_empty())).await;
    let seen = site.get("job").unwrap().metadata().resource_version.clone();
    let writes = (0..16).map(|writer| {
        let (engine, uid, seen) = (site.engine.clone(), uid(&job), seen.clone());
        tokio::spawn(async move {
            let change = Box::new(move |resource: &mut baton_proto::ExecutionResource| {
                if resource.metadata().resource_version != seen {
                    return Err(baton_types::ApiError::new(ErrorKind::Conflict, "CONFLICT", "changed"));
                }
                resource.metadata_mut().labels.insert("writer".into(), writer.to_string());
                Ok(())
            });
            engine.update(uid, change).await.is_ok()
        })
    });
    let mut won = 0;
    for write in writes.collect::<Vec<_>>() {
        won += usize::from(write.await.unwrap());
    }
    assert_eq!(won, 1);
}
