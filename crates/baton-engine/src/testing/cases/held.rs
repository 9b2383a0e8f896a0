//! Executions that wait before their first step, and what executions leave for others.

use std::sync::Arc;

use baton_proto::{ExecutionResource, history_v1::history_event::Attributes};
use baton_types::Phase;
use serde_json::{Value, json};

use crate::{
    Admitted, Held, Released,
    testing::{Place, Site, admitted, output, spec, uid},
};

fn held(name: &str, steps: &Value) -> Admitted {
    let held = Held { reason: "Turn".to_owned(), message: "its turn".to_owned() };
    Admitted { held: Some(held), ..admitted(name, steps, Vec::new()) }
}

async fn release(site: &Site, of: &ExecutionResource, carried_over: Value) -> ExecutionResource {
    let change = |execution: &mut ExecutionResource| {
        execution.metadata_mut().annotations.insert("released".to_owned(), "yes".to_owned());
    };
    site.engine.release(uid(of), Released { carried_over, change: Box::new(change) }).await.unwrap()
}

fn waits(execution: &ExecutionResource) -> Option<(String, String)> {
    let waiting = execution.conditions()?.iter().find(|it| it.r#type == "Waiting" && it.status == "True")?;
    Some((waiting.reason.clone(), waiting.message.clone()))
}

/// One that is held begins when it is released, and leaves what it has to leave.
pub async fn one_that_is_held_begins_when_it_is_released_and_leaves_what_it_has_to_leave(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let mut first = held("first", &json!([{"echo": 1}]));
    first.timeout_ms = Some(3_600_000);
    let first = site.engine.create(first).await.unwrap().resource;
    assert_eq!((first.phase(), waits(&first)), (Phase::Pending, Some(("Turn".to_owned(), "its turn".to_owned()))));
    assert!(first.start_time().copied().flatten().is_none(), "its time has not begun");
    assert!(site.engine.history(uid(&first), 0, 10).unwrap().0.is_empty());
    assert_eq!(site.engine.carried_over(uid(&first)).unwrap(), None);
    let released = release(&site, &first, json!({"turn": 1})).await;
    assert_eq!((waits(&released), released.metadata().annotations["released"].as_str()), (None, "yes"));
    assert!(released.start_time().copied().flatten().is_some());
    assert_eq!(output(&site.ended("first").await), 1);
    let (events, _) = site.engine.history(uid(&first), 0, 10).unwrap();
    let Some(Attributes::Started(started)) = &events[0].attributes else { panic!("{events:?}") };
    assert_eq!(started.carried_over.as_ref().unwrap().text, r#"{"turn":1}"#);
    // What it left is there, once, as its Program has it.
    let left = site.engine.carried_over(uid(&first)).unwrap().unwrap();
    let content: Value = serde_json::from_slice(&left.content).unwrap();
    assert_eq!(content, json!({"before": {"turn": 1}, "phase": "Completed", "last": 1}));
    assert_eq!(site.store.blob(left.digest.as_bytes()).unwrap().unwrap(), left.content);
    // A second release is none.
    let again = release(&site, &first, json!({"turn": 2})).await;
    assert_eq!(again.phase(), Phase::Completed);
    // What was not held has begun, and what goes on from nothing leaves nothing.
    let free = site.create("free", json!([{"echo": 2}])).await;
    site.ended("free").await;
    assert_eq!(site.engine.carried_over(uid(&free)).unwrap(), None);
}

/// One that is held ends like any other.
pub async fn one_that_is_held_ends_like_any_other(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let create = async |name: &str| site.engine.create(held(name, &json!([{"echo": 1}]))).await.unwrap().resource;
    let cancelled = create("cancelled").await;
    site.engine.cancel(uid(&cancelled), "no need".into()).await.unwrap();
    assert_eq!(site.ended("cancelled").await.phase(), Phase::Cancelled);
    assert_eq!(release(&site, &cancelled, json!({"turn": 1})).await.phase(), Phase::Cancelled);
    let terminated = create("terminated").await;
    site.engine.terminate(uid(&terminated), "no need".into()).await.unwrap();
    assert_eq!(site.ended("terminated").await.phase(), Phase::Cancelled);
    let deleted = create("deleted").await;
    site.engine.delete(uid(&deleted), None).await.unwrap();
    site.gone("deleted").await;
    assert_eq!((site.world.runs_of("echo"), site.engine.carried_over(uid(&cancelled)).unwrap()), (0, None));
}

/// One that is held is suspended from its first step on if that is wanted by then.
pub async fn one_that_is_held_is_suspended_from_its_first_step(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let suspend = |suspend: bool| {
        move |execution: &mut ExecutionResource| {
            spec(execution).suspend = suspend;
            Ok(())
        }
    };
    let wanted = site.engine.create(held("wanted", &json!([{"echo": 1}]))).await.unwrap().resource;
    let changed = site.engine.update(uid(&wanted), Box::new(suspend(true))).await.unwrap();
    assert_eq!(changed.phase(), Phase::Pending);
    release(&site, &wanted, json!({"turn": 1})).await;
    site.until("wanted", |it| it.phase() == Phase::Suspended).await;
    assert_eq!(site.world.runs_of("echo"), 0);
    site.engine.update(uid(&wanted), Box::new(suspend(false))).await.unwrap();
    assert_eq!(output(&site.ended("wanted").await), 1);

    let mut unwanted = held("unwanted", &json!([{"echo": 2}]));
    spec(&mut unwanted.resource).suspend = true;
    let unwanted = site.engine.create(unwanted).await.unwrap().resource;
    site.engine.update(uid(&unwanted), Box::new(suspend(false))).await.unwrap();
    release(&site, &unwanted, json!({"turn": 2})).await;
    assert_eq!(output(&site.ended("unwanted").await), 2);
}

/// One that is held waits over a restart.
pub async fn one_that_is_held_waits_over_a_restart(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let long = "x".repeat(100_000);
    let mut waiting = held("waiting", &json!([{"echo": 1}]));
    waiting.input = Value::String(long.clone());
    waiting.timeout_ms = Some(1);
    let waiting = site.engine.create(waiting).await.unwrap().resource;
    let site = site.restart().await;
    site.engine.reconcile().await;
    let again = site.get("waiting").unwrap();
    assert_eq!((again.phase(), waits(&again).is_some()), (Phase::Pending, true));
    // Its time runs from here, and is over at once.
    release(&site, &waiting, json!({"turn": 1})).await;
    let ended = site.ended("waiting").await;
    assert!(matches!(ended.phase(), Phase::Completed | Phase::TimedOut), "{:?}", ended.phase());
    let (events, _) = site.engine.history(uid(&waiting), 0, 10).unwrap();
    if let Some(Attributes::Started(started)) = &events[0].attributes {
        assert_eq!(started.input.as_ref().unwrap().size_bytes, i32::try_from(long.len() + 2).unwrap());
    }
}
