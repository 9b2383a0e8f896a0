//! Workflows that emit and listen: what is consumed, what is not, and that nothing is lost over a restart.

use baton_proto::{
    history_v1::{HistoryEvent, history_event::Attributes},
    v1::{HistoryRequest, Json, PublishEventsRequest, PublishEventsResponse, WorkflowExecution},
};
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Server, document};

pub(crate) fn event(id: &str, kind: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/test", "type": kind, "data": data})
}

async fn publish(server: &Server, events: &[Value]) -> PublishEventsResponse {
    let events = events.iter().map(Json::from_value).collect();
    server.app().publish_events(&PublishEventsRequest { namespace: String::new(), events }).await.unwrap()
}

async fn start(server: &Server, name: &str, tasks: &Value, input: &Value) {
    let definition = document(name, tasks);
    let execution = json!({"metadata": {"name": name}, "spec": {"definition": definition, "input": input}});
    server.create::<WorkflowExecution>(execution).await.unwrap();
}

/// Follows an execution until its history has what is looked for.
async fn until(server: &Server, name: &str, mut found: impl FnMut(&HistoryEvent) -> bool) {
    let request = HistoryRequest { name: name.to_owned(), ..HistoryRequest::default() };
    let mut events = Box::pin(server.app().watch_history::<WorkflowExecution>(&request).await.unwrap());
    while let Some(event) = events.next().await {
        if found(&event.unwrap()) {
            return;
        }
    }
    panic!("the history of '{name}' ends without it");
}

/// Until the subscription of the task's nth round is kept.
async fn listens(server: &Server, name: &str, round: i32) {
    until(server, name, |event| match &event.attributes {
        Some(Attributes::ActivityCompleted(done)) => done.operation.as_ref().is_some_and(|id| id.attempt == round),
        _ => false,
    })
    .await;
}

async fn output(server: &Server, name: &str) -> Value {
    let ended = server.ended::<WorkflowExecution>(name).await;
    let status = ended.status.unwrap();
    assert_eq!(status.phase, "Completed", "{:?}", status.error);
    serde_json::from_str(&status.output.unwrap().text).unwrap()
}

fn listen(to: &Value) -> Value {
    json!([{"hear": {"listen": {"to": to}}}])
}

#[tokio::test]
async fn an_event_reaches_who_listens_and_not_who_came_later() {
    let server = Server::start().await;
    publish(&server, &[event("before", "order", &json!("before"))]).await;
    let accepted_by = jiff_now();
    while jiff_now() <= accepted_by + 1 {
        tokio::task::yield_now().await;
    }
    let to = json!({"one": {"with": {"type": "order"}}});
    start(&server, "first", &listen(&to), &Value::Null).await;
    listens(&server, "first", 1).await;
    let waiting = server.app().get::<WorkflowExecution>("", "first").await.unwrap().status.unwrap();
    assert!(waiting.conditions.iter().any(|it| it.r#type == "Waiting" && it.reason == "Event"), "{waiting:?}");
    publish(&server, &[event("other", "bill", &json!(1)), event("after", "order", &json!("after"))]).await;
    assert_eq!(output(&server, "first").await, json!(["after"]));
    server.stop().await;
}

/// Milliseconds since 1970, as the server counts them.
fn jiff_now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

#[tokio::test]
async fn an_event_that_comes_before_the_subscription_is_kept_is_not_lost() {
    let server = Server::start().await;
    let to = json!({"one": {"with": {"type": "order"}}});
    // Both branches begin in one step: the event may be there before the subscription.
    let tasks = json!([{"both": {"fork": {"branches": [
        {"hear": {"listen": {"to": to}}},
        {"say": {"emit": {"event": {"with": {"type": "order", "data": {"n": "${ $workflow.input }"}}}}}},
    ]}}}]);
    for round in 0..20 {
        let name = format!("run-{round}");
        start(&server, &name, &tasks, &json!(round)).await;
        let output = output(&server, &name).await;
        let (heard, said) = (&output[0], &output[1]);
        assert_eq!((heard, &said["data"]), (&json!([{"n": round}]), &json!({"n": round})));
        assert_eq!(said["source"], format!("/apis/baton.dev/v1/namespaces/default/workflowexecutions/{name}"));
        assert!(said["id"].as_str().unwrap().ends_with("/do/0/both/fork/branches/1/say/1"), "{said}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_event_that_is_sent_twice_is_one() {
    let server = Server::start().await;
    start(&server, "run", &listen(&json!({"any": [{"with": {"type": "a"}}], "until": "length == 3"})), &Value::Null)
        .await;
    listens(&server, "run", 1).await;
    let first = event("1", "a", &json!(1));
    let published = publish(&server, &[first.clone(), first.clone(), event("2", "a", &json!(2))]).await;
    assert_eq!((published.accepted, published.duplicates), (2, 1));
    let again = publish(&server, &[first, event("3", "a", &json!(3))]).await;
    assert_eq!((again.accepted, again.duplicates), (1, 1));
    assert_eq!(output(&server, "run").await, json!([1, 2, 3]));
    server.stop().await;
}

#[tokio::test]
async fn all_any_until_and_foreach() {
    let server = Server::start().await;
    let with = |kind: &str| json!({"with": {"type": kind}});
    start(&server, "all", &listen(&json!({"all": [with("x"), with("y")]})), &Value::Null).await;
    start(&server, "any", &listen(&json!({"any": [with("y"), with("z")]})), &Value::Null).await;
    let tasks = json!([{"hear": {
        "listen": {"to": {"any": [], "until": {"one": with("stop")}}, "read": "envelope"},
        "foreach": {"item": "event", "at": "i", "do": [{"work": {"call": "baton.dev/echo", "with": {"t": "${ $event.type }", "i": "${ $i }"}}}]},
    }}]);
    start(&server, "each", &tasks, &Value::Null).await;
    for name in ["all", "any", "each"] {
        listens(&server, name, 1).await;
    }
    for (id, kind) in ["x", "y", "x", "stop"].iter().enumerate() {
        publish(&server, &[event(&id.to_string(), kind, &json!(id))]).await;
    }
    assert_eq!(output(&server, "all").await, json!([0, 1]));
    assert_eq!(output(&server, "any").await, json!([1]));
    let each = json!([{"t": "x", "i": 0}, {"t": "y", "i": 1}, {"t": "x", "i": 2}]);
    assert_eq!(output(&server, "each").await, each);
    server.stop().await;
}

#[tokio::test]
async fn a_correlation_brings_each_its_own() {
    let server = Server::start().await;
    let to = json!({"one": {"with": {"type": "paid"}, "correlate": {"order": {"from": ".data.order", "expect": "${ .order }"}}}});
    for order in 0..5 {
        start(&server, &format!("order-{order}"), &listen(&to), &json!({"order": order})).await;
        listens(&server, &format!("order-{order}"), 1).await;
    }
    for order in (0..5).rev() {
        publish(&server, &[event(&order.to_string(), "paid", &json!({"order": order}))]).await;
    }
    for order in 0..5 {
        assert_eq!(output(&server, &format!("order-{order}")).await, json!([{"order": order}]));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_listen_to_one_event() {
    const LISTENERS: usize = 1000;
    let server = Server::start().await;
    let tasks = listen(&json!({"one": {"with": {"type": "start"}}}));
    let names: Vec<String> = (0..LISTENERS).map(|number| format!("run-{number}")).collect();
    for some in names.chunks(100) {
        futures::future::join_all(some.iter().map(|name| start(&server, name, &tasks, &Value::Null))).await;
    }
    for name in &names {
        listens(&server, name, 1).await;
    }
    publish(&server, &[event("1", "start", &json!("go"))]).await;
    for name in &names {
        assert_eq!(output(&server, name).await, json!(["go"]));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_listener_whose_time_is_over_or_that_is_cancelled_hears_nothing_more() {
    let server = Server::start().await;
    let to = json!({"one": {"with": {"type": "late"}}});
    let tasks = json!([{"hear": {"listen": {"to": to}, "timeout": {"after": "PT0.2S"}}}]);
    start(&server, "slow", &tasks, &Value::Null).await;
    let ended = server.ended::<WorkflowExecution>("slow").await.status.unwrap();
    assert_eq!((ended.phase.as_str(), ended.error.unwrap().status), ("Failed", 408));
    start(&server, "gone", &listen(&to), &Value::Null).await;
    listens(&server, "gone", 1).await;
    server.app().cancel::<WorkflowExecution>("", "gone", "enough").await.unwrap();
    server.ended::<WorkflowExecution>("gone").await;
    // Another one that listens shows that the event went round.
    start(&server, "there", &listen(&to), &Value::Null).await;
    listens(&server, "there", 1).await;
    publish(&server, &[event("1", "late", &json!(1))]).await;
    assert_eq!(output(&server, "there").await, json!([1]));
    let gone = server.app().get::<WorkflowExecution>("", "gone").await.unwrap().status.unwrap();
    assert_eq!(gone.phase, "Cancelled");
    server.stop().await;
}

#[tokio::test]
async fn who_listens_goes_on_listening_over_a_restart() {
    let server = Server::start().await;
    let to = json!({"any": [{"with": {"type": "a"}}], "until": "length == 4"});
    start(&server, "run", &listen(&to), &Value::Null).await;
    listens(&server, "run", 1).await;
    publish(&server, &[event("1", "a", &json!(1))]).await;
    listens(&server, "run", 2).await;
    let server = server.restart().await;
    publish(&server, &[event("2", "a", &json!(2)), event("1", "a", &json!(1))]).await;
    // The server may stop before the event was told: it is told by the next.
    let server = server.restart().await;
    publish(&server, &[event("3", "a", &json!(3)), event("4", "a", &json!(4))]).await;
    assert_eq!(output(&server, "run").await, json!([1, 2, 3, 4]));
    server.stop().await;
}

#[tokio::test]
async fn namespaces_hear_their_own_events_only() {
    let server = Server::start().await;
    let tasks = listen(&json!({"any": []}));
    start(&server, "run", &tasks, &Value::Null).await;
    listens(&server, "run", 1).await;
    let elsewhere = PublishEventsRequest {
        namespace: "other".to_owned(),
        events: vec![Json::from_value(&event("1", "a", &json!("other")))],
    };
    assert_eq!(server.app().publish_events(&elsewhere).await.unwrap().accepted, 1);
    assert_eq!(publish(&server, &[event("1", "a", &json!("own"))]).await.accepted, 1);
    assert_eq!(output(&server, "run").await, json!(["own"]));
    server.stop().await;
}
