//! The bus over a whole server that stops at the worst moment, and what it leaves in the store.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use baton_activities::Subscription;
use baton_engine::Sealer;
use baton_proto::v1;
use baton_store::{Lane, ListQuery, Store, StoreOptions};
use serde_json::{Value, json};

use super::{Bus, CloudEvent, EVENT, EventsOptions, SUBSCRIPTION};
use crate::{KEY_FILE, RunningServer, ServerOptions, UpkeepOptions, app, start};

fn store_options() -> StoreOptions {
    StoreOptions { free_bytes_min: 0, ballast_bytes: 0, ..StoreOptions::default() }
}

async fn server(folder: &Path, change: impl FnOnce(&mut ServerOptions)) -> RunningServer {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = ServerOptions { listen, store: store_options(), ..ServerOptions::new(folder) };
    change(&mut options);
    start(options).await.unwrap()
}

fn event(id: usize) -> CloudEvent {
    let event = json!({"specversion": "1.0", "id": id.to_string(), "source": "/s", "type": "t", "data": id});
    CloudEvent::check(event, "").unwrap()
}

fn subscription(token: &[u8]) -> Subscription {
    Subscription {
        callback_token: String::from_utf8(token.to_vec()).unwrap(),
        filters: vec![[("type".to_owned(), "t".to_owned())].into()],
        after: None,
        since_ms: Some(0),
        expires_ms: app::now_ms() + 3_600_000,
    }
}

async fn mailbox(server: &RunningServer) -> Vec<u8> {
    server.app.create_callback(&v1::CreateCallbackRequest::default()).await.unwrap().callback_token
}

async fn answer(server: &RunningServer, token: &[u8]) -> Value {
    let request = v1::AwaitCallbackRequest { callback_token: token.to_vec(), timeout: "60s".into() };
    let answer = server.app.await_callback(&request).await.unwrap();
    assert_eq!(answer.state, "Completed");
    answer.output.unwrap().to_value().unwrap()
}

/// What is done to the rows while no server runs: what a crash leaves behind.
async fn between(folder: &Path, work: impl AsyncFnOnce(Bus)) {
    let store = Store::open(folder, store_options()).unwrap();
    let sealer = Arc::new(Sealer::open(&folder.join(KEY_FILE)).unwrap());
    work(Bus::new(store.clone(), sealer, EventsOptions::default())).await;
    store.close();
}

fn rows(store: &Store, kind: &'static str) -> usize {
    store.list(&ListQuery::new(kind, 1000)).unwrap().items.len()
}

#[tokio::test]
async fn what_a_crash_left_between_event_and_answer_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let running = server(folder.path(), |_| {}).await;
    let token = mailbox(&running).await;
    running.shutdown().await;
    between(folder.path(), async |bus| {
        let events = [event(1), event(2)];
        bus.publish(Lane::External, "default", &events).await.unwrap();
        bus.publish(Lane::External, "other", &events).await.unwrap();
        bus.subscribe("default", &subscription(&token)).await.unwrap();
        bus.subscribe("default", &subscription(&token)).await.unwrap();
        assert_eq!((rows(&bus.store, EVENT), rows(&bus.store, SUBSCRIPTION)), (4, 1));
    })
    .await;
    let running = server(folder.path(), |_| {}).await;
    let told = answer(&running, &token).await;
    let heard: Vec<&Value> = told["events"].as_array().unwrap().iter().map(|it| &it["event"]["data"]).collect();
    assert_eq!(heard, [1, 2]);
    assert!(told["cursor"].as_str() >= told["events"][1]["cursor"].as_str(), "{told}");
    // As if the answer had been given, and the subscription not removed: it is refused, and goes.
    running.app.subscribe("default", &subscription(&token)).await.unwrap();
    while rows(running.app.store(), SUBSCRIPTION) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(answer(&running, &token).await, told, "the first answer stands");
    running.shutdown().await;
}

#[tokio::test]
async fn events_go_when_their_time_is_over_or_when_there_are_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let running = server(folder.path(), |options| options.events.keep_max = 3).await;
    let publish = async |running: &RunningServer, ids: std::ops::Range<usize>| {
        let events = ids.map(|id| serde_json::from_str(&event(id).text()).unwrap()).collect();
        running.app.publish(Lane::External, "", events, "events").await.unwrap()
    };
    publish(&running, 0..10).await;
    while rows(running.app.store(), EVENT) > 3 {
        tokio::task::yield_now().await;
    }
    let left = running.app.store().list(&ListQuery::new(EVENT, 1000)).unwrap().items;
    let mut left: Vec<Value> =
        left.iter().map(|row| serde_json::from_slice::<Value>(&row.body).unwrap()["event"]["data"].clone()).collect();
    left.sort_by_key(Value::as_i64);
    assert_eq!(left, [7, 8, 9], "the oldest go first");
    assert_eq!(publish(&running, 0..1).await.accepted, 1, "one that is kept no more is new");
    running.shutdown().await;
    let running = server(folder.path(), |options| {
        options.events.retention = Duration::from_millis(1);
        options.upkeep = UpkeepOptions { period: Duration::from_millis(20), ..UpkeepOptions::default() };
    })
    .await;
    publish(&running, 20..30).await;
    // Those of before have their own time.
    while rows(running.app.store(), EVENT) > 4 {
        tokio::task::yield_now().await;
    }
    running.shutdown().await;
}

#[tokio::test]
async fn nobody_pushes_out_the_events_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let running =
        server(folder.path(), |options| (options.events.keep_max, options.events.keep_bytes) = (4, 700)).await;
    let publish = async |namespace: &str, ids: std::ops::Range<usize>| {
        let events = ids.map(|id| serde_json::from_str(&event(id).text()).unwrap()).collect();
        running.app.publish(Lane::External, namespace, events, "events").await.unwrap()
    };
    let kept = |namespace: &str| -> Vec<u64> {
        let rows = running.app.store().list(&ListQuery::new(EVENT, 1000)).unwrap().items;
        let own = rows.iter().filter(|row| row.key.namespace == namespace);
        let mut ids: Vec<u64> = own
            .map(|row| serde_json::from_slice::<Value>(&row.body).unwrap()["event"]["data"].as_u64().unwrap())
            .collect();
        ids.sort_unstable();
        ids
    };
    publish("other", 0..2).await;
    publish("default", 0..50).await;
    while kept("default").len() > 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!((kept("default"), kept("other")), (vec![48, 49], vec![0, 1]));
    let mut large = serde_json::from_str::<Value>(&event(50).text()).unwrap();
    large["padding"] = "x".repeat(300).into();
    running.app.publish(Lane::External, "default", vec![large], "events").await.unwrap();
    while kept("default") != [50] {
        tokio::task::yield_now().await;
    }
    assert_eq!(kept("other"), [0, 1], "by bytes as well");
    running.shutdown().await;
}

#[tokio::test]
async fn a_token_does_not_lie_open_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let running = server(folder.path(), |_| {}).await;
    let token = mailbox(&running).await;
    let mut listens = subscription(&token);
    listens.filters = vec![[("type".to_owned(), "never".to_owned())].into()];
    running.app.subscribe("default", &listens).await.unwrap();
    let kept = running.app.store().list(&ListQuery::new(SUBSCRIPTION, 10)).unwrap().items;
    assert_eq!(kept.len(), 1);
    let (body, text) = (String::from_utf8_lossy(&kept[0].body), String::from_utf8(token).unwrap());
    assert!(!body.contains(&text) && !body.contains(&text[10..40]), "{body}");
    let mut wrong = subscription(b"baton1.AAAA");
    assert!(running.app.subscribe("default", &wrong).await.is_err(), "a token of nobody");
    wrong = subscription(text.as_bytes());
    wrong.filters.clear();
    assert_eq!(running.app.subscribe("default", &wrong).await.unwrap_err().violations.len(), 1);
    running.shutdown().await;
}

#[tokio::test]
async fn who_has_ended_leaves_no_subscription() {
    let folder = tempfile::tempdir().unwrap();
    let running = server(folder.path(), |_| {}).await;
    let subscribed = async |count: usize| {
        while rows(running.app.store(), SUBSCRIPTION) != count {
            tokio::task::yield_now().await;
        }
    };
    let listen = json!({"listen": {"to": {"one": {"with": {"type": "never"}}}}});
    let raced =
        json!({"fork": {"compete": true, "branches": [{"a": listen}, {"b": listen}, {"c": {"wait": {"hours": 9}}}]}});
    let definition = json!({"document": {"dsl": "1.0.3", "namespace": "test", "name": "w", "version": "1.0.0"}, "do": [{"race": raced}]});
    for name in ["one", "two"] {
        let execution = json!({"metadata": {"name": name}, "spec": {"definition": definition}});
        let execution = baton_proto::from_json_value::<v1::WorkflowExecution>(execution).unwrap();
        running.app.create(execution, app::WriteOptions::default()).await.unwrap();
    }
    subscribed(4).await;
    running.app.cancel::<v1::WorkflowExecution>("", "one", "enough").await.unwrap();
    subscribed(2).await;
    running.app.terminate::<v1::WorkflowExecution>("", "two", "enough").await.unwrap();
    subscribed(0).await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_loop_leaves_no_subscriptions_behind() {
    let folder = tempfile::tempdir().unwrap();
    let running = server(folder.path(), |_| {}).await;
    // Each time round, what is listened to comes too late: it is the other branch that waits for the answer of a listener of its own.
    let listen = json!({"listen": {"to": {"one": {"with": {"type": "never"}}}}});
    let quick = json!({"listen": {"to": {"one": {"with": {"type": "go"}}}}});
    let race = json!({"fork": {"compete": true, "branches": [{"slow": listen}, {"quick": quick}]}});
    let round = json!({"for": {"in": "${ [range(40)] }"}, "do": [{"race": race}]});
    let definition = json!({"document": {"dsl": "1.0.3", "namespace": "test", "name": "w", "version": "1.0.0"}, "do": [{"round": round}, {"last": {"wait": {"hours": 9}}}]});
    let execution = json!({"metadata": {"name": "loops"}, "spec": {"definition": definition}});
    let execution = baton_proto::from_json_value::<v1::WorkflowExecution>(execution).unwrap();
    running.app.create(execution, app::WriteOptions::default()).await.unwrap();
    for id in 0.. {
        let mut go = serde_json::from_str::<Value>(&event(id).text()).unwrap();
        go["type"] = "go".into();
        running.app.publish(Lane::External, "default", vec![go], "events").await.unwrap();
        let now = running.app.get::<v1::WorkflowExecution>("", "loops").await.unwrap().status.unwrap();
        if now.conditions.iter().any(|condition| condition.reason == "Timer") {
            break;
        }
        tokio::task::yield_now().await;
    }
    // Forty were left behind; of those that still may be, there are fewer than would be looked at.
    while rows(running.app.store(), SUBSCRIPTION) >= 16 {
        tokio::task::yield_now().await;
    }
    running.shutdown().await;
}
