//! Events from one execution to another, over a restart, and after a cancellation.

use serde_json::{Value, json};

use crate::site::{Engine, Site};

fn definition(name: &str, tasks: &Value) -> Value {
    json!({"document": {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0"}, "do": tasks})
}

fn event(id: &str, kind: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/test", "type": kind, "data": {"id": id}})
}

fn hear(to: &Value) -> Value {
    definition("hear", &json!([{"hear": {"listen": {"to": to}}}]))
}

pub(crate) async fn what_is_emitted_is_heard(engine: Engine) {
    let site = Site::start(engine).await;
    let to =
        json!({"one": {"with": {"type": "order"}, "correlate": {"number": {"from": ".data.n", "expect": "${ .n }"}}}});
    let each = definition(
        "each",
        &json!([{"hear": {
            "listen": {"to": {"any": [{"with": {"type": "order"}}], "until": {"one": {"with": {"type": "stop"}}}}},
            "foreach": {"item": "order", "do": [{"count": {"set": {"n": "${ $order.n + 1 }"}}}]},
        }}]),
    );
    site.here().run("one", &hear(&to), &json!({"n": 2})).await;
    site.here().run("each", &each, &Value::Null).await;
    for name in ["one", "each"] {
        assert!(site.here().subscribed(name, 1).await);
    }
    let say = |name: &str, kind: &str| {
        definition(name, &json!([{"say": {"emit": {"event": {"with": {"type": kind, "data": {"n": "${ .n }"}}}}}}]))
    };
    for n in 1..=2 {
        let name = format!("say-{n}");
        site.here().run(&name, &say(&name, "order"), &json!({"n": n})).await;
        assert_eq!(site.here().outcome(&name).await.ending.unwrap()["data"], json!({"n": n}));
    }
    site.here().run("stop", &say("stop", "stop"), &json!({"n": 0})).await;
    assert_eq!(site.here().outcome("one").await.ending, Ok(json!([{"n": 2}])));
    assert_eq!(site.here().outcome("each").await.ending, Ok(json!([{"n": 2}, {"n": 3}])));
    site.stop().await;
}

pub(crate) async fn a_listener_outlives_a_restart(engine: Engine) {
    let site = Site::start(engine).await;
    let to = json!({"any": [{"with": {"type": "a"}}], "until": "length == 3"});
    site.here().run("hear", &hear(&to), &Value::Null).await;
    assert!(site.here().subscribed("hear", 1).await);
    site.here().publish(&[event("1", "a")]).await;
    let site = site.restart().await;
    site.here().publish(&[event("2", "a"), event("2b", "b")]).await;
    let site = site.restart().await;
    site.here().publish(&[event("3", "a")]).await;
    assert_eq!(site.here().outcome("hear").await.ending, Ok(json!([{"id": "1"}, {"id": "2"}, {"id": "3"}])));
    site.stop().await;
}

pub(crate) async fn who_is_cancelled_listens_no_more(engine: Engine) {
    let site = Site::start(engine).await;
    site.here().run("gone", &hear(&json!({"any": []})), &Value::Null).await;
    assert!(site.here().subscribed("gone", 1).await);
    site.here().cancel("gone").await;
    assert!(!site.here().subscribed("gone", 2).await, "it ends");
    site.here().publish(&[event("1", "a")]).await;
    let status = site.here().get("gone").await.status.unwrap();
    assert_eq!((status.phase.as_str(), status.output), ("Cancelled", None));
    site.stop().await;
}
