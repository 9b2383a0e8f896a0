//! Stopping and starting again.

use std::{sync::Arc, time::Duration};

use baton_execution::Outcome;
use serde_json::json;

use crate::testing::{Place, Site, admitted, callback_states, output, uid};

/// What waited goes on after a restart with the same token.
pub async fn what_waited_goes_on_after_a_restart_with_the_same_token(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    site.create("waits", json!([{"echo": 1}, {"wait": {"as": "it"}}, {"echo": "after"}])).await;
    let token = site.world.token("it").await;
    site.until("waits", |resource| resource.waiting_for().is_some_and(|all| !all.is_empty())).await;
    let site = site.restart().await;
    assert_eq!(site.world.runs_of(""), 0, "nothing with a recorded result runs again");
    site.engine.answer(token.as_bytes(), Outcome::Completed(json!(2))).await.unwrap();
    assert_eq!(output(&site.ended("waits").await), json!("after"));
    assert_eq!(site.world.runs_of("hand-out"), 0);
}

/// An activity without a result runs again and one that must not is in doubt.
pub async fn an_activity_without_a_result_runs_again_and_one_that_must_not_is_in_doubt(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    site.create("again", json!([{"echo": 1}, {"hang": "again"}])).await;
    site.create("doubt", json!([{"echo": 1}, {"hang": "once"}])).await;
    site.world.began("hang").await;
    site.until("doubt", |_| site.world.runs_of("hang") == 2).await;
    let site = site.restart().await;
    site.world.began("hang").await;
    let doubt = site.ended("doubt").await;
    assert_eq!(doubt.error().unwrap().as_ref().unwrap().r#type, "https://baton.dev/errors/in-doubt");
    assert_eq!((site.world.runs_of("echo"), site.world.runs_of("hang")), (0, 1));
    assert!(!site.get("again").unwrap().phase().is_terminal());
}

/// A long history comes back from its snapshot.
pub async fn a_long_history_comes_back_from_its_snapshot(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let mut steps: Vec<_> = (0..120).map(|n| json!({"echo": n})).collect();
    steps.push(json!({"wait": {"as": "long"}}));
    steps.extend((0..5).map(|n| json!({"echo": n})));
    let long = site.create("long", json!(steps)).await;
    let token = site.world.token("long").await;
    site.until("long", |resource| resource.waiting_for().is_some_and(|all| !all.is_empty())).await;
    let site = site.restart().await;
    site.engine.answer(token.as_bytes(), Outcome::Completed(json!(2))).await.unwrap();
    assert_eq!(output(&site.ended("long").await), json!(4));
    let (events, _) = site.engine.history(uid(&long), 240, 1000).unwrap();
    assert_eq!(events.last().unwrap().r#type, "Ended");
}

/// More waiting than fit in memory are all answered.
pub async fn more_waiting_than_fit_in_memory_are_all_answered(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    for n in 0..60 {
        site.create(&format!("waits-{n}"), json!([{"wait": {"as": format!("{n}")}}])).await;
    }
    site.until("waits-59", |resource| resource.waiting_for().is_some_and(|all| !all.is_empty())).await;
    for n in 0..60 {
        let token = site.world.token(&n.to_string()).await;
        site.engine.answer(token.as_bytes(), Outcome::Completed(json!(n))).await.unwrap();
    }
    for n in 0..60 {
        assert_eq!(output(&site.ended(&format!("waits-{n}")).await), json!({"completed": n}));
    }
}

/// An answer that was not delivered before a restart is delivered after it.
pub async fn an_answer_that_was_not_delivered_before_a_restart_is_delivered_after_it(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let mailbox = site.engine.create_mailbox("default", Duration::from_hours(1)).await.unwrap();
    site.engine.create(admitted("job", &json!([{"wait": {"as": "go"}}]), mailbox.token.clone())).await.unwrap();
    let go = site.world.token("go").await;
    site.engine.answer(go.as_bytes(), Outcome::Completed(json!(1))).await.unwrap();
    // The engine stops as soon as the end is durable, whether or not the answer is out.
    let site = site.restart().await;
    let told = site.engine.await_mailbox(&mailbox.token, Duration::from_secs(20)).await.unwrap();
    assert_eq!(told, Some(Outcome::Completed(json!({"completed": 1}))));
    site.until("job", |job| callback_states(job) == ["Delivered"]).await;
}

/// The reconciler finds nothing to mend in a healthy store.
pub async fn the_reconciler_finds_nothing_to_mend_in_a_healthy_store(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    site.create("parent", json!([{"child": {"steps": [{"wait": {"as": "child"}}]}}])).await;
    site.until("parent", |resource| resource.waiting_for().is_some_and(|all| !all.is_empty())).await;
    site.world.token("child").await;
    site.until(&site.child_of("parent").await, |resource| resource.waiting_for().is_some_and(|all| !all.is_empty()))
        .await;
    let report = site.engine.reconcile().await;
    assert_eq!(
        (report.examined, report.answers_missing, report.children_missing, report.callers_gone),
        (2, 0, 0, 0),
        "{report:?}"
    );
    assert!(!site.get("parent").unwrap().phase().is_terminal());
}

/// No token is readable on the disk.
pub async fn no_token_is_readable_on_the_disk(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    site.create("waits", json!([{"wait": {"as": "it", "repeat": true}}])).await;
    let token = site.world.token("it").await;
    site.until("waits", |resource| resource.waiting_for().is_some_and(|all| !all.is_empty())).await;
    site.engine.create(admitted("holder", &json!([{"hang": 1}]), token.clone().into_bytes())).await.unwrap();
    // Whoever answers repeats it too.
    site.engine.answer(token.as_bytes(), Outcome::Completed(json!({"your-token": token}))).await.unwrap();
    site.ended("waits").await;
    let files: Vec<_> = std::fs::read_dir(site.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    let written: Vec<u8> = files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    let find = |needle: &[u8]| written.windows(needle.len()).any(|window| window == needle);
    assert!(find(b"waits"), "the search itself works");
    assert!(!find(token.as_bytes()));
    assert!(!find(&token.as_bytes()[7..47]));
}

/// What was under way when it was suspended is done again after a restart.
pub async fn what_was_under_way_when_it_was_suspended_is_done_again_after_a_restart(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", json!([{"hang": "again"}])).await;
    site.world.began("hang").await;
    let suspend = |site: &Site, suspend: bool| {
        let change = Box::new(move |resource: &mut baton_proto::ExecutionResource| {
            resource.set_suspend(suspend);
            Ok(())
        });
        let (engine, uid) = (site.engine.clone(), uid(&job));
        async move { engine.update(uid, change).await.unwrap() }
    };
    suspend(&site, true).await;
    site.until("job", |job| job.phase() == baton_types::Phase::Suspended).await;
    let site = site.restart().await;
    assert_eq!(site.world.runs_of("hang"), 0, "nothing starts while it is suspended");
    suspend(&site, false).await;
    site.world.began("hang").await;
}
