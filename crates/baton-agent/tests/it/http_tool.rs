//! HTTP tools: what a call becomes, and what a model cannot make of it.

use baton_agent::{Message, check};
use serde_json::{Value, json};

use crate::support::{Run, calls, spec_with};

fn tool(http: &Value) -> Value {
    let properties = json!({"id": {}, "name": {}, "q": {}});
    spec_with(
        json!({"tools": [{"name": "t", "description": "d", "parameters": {"type": "object", "properties": properties}, "http": http}]}),
    )
}

/// Input of the activity that the call becomes.
fn request(http: Value, arguments: Value) -> Value {
    let mut run = Run::started(&tool(&http), "Hi", Value::Null);
    run.model(1, calls(&[("t", arguments)]));
    assert_eq!(run.activities()[0].activity, "http", "{}", run.activities()[0].input);
    run.activities()[0].input.clone()
}

/// What the model is told of a call that is not made.
fn refusal(http: Value, arguments: Value) -> String {
    let mut run = Run::started(&tool(&http), "Hi", Value::Null);
    run.model(1, calls(&[("t", arguments)]));
    match run.request(2).messages.last() {
        Some(Message::Tool { content, failed: true, .. }) => content.clone(),
        other => panic!("not a failed call: {other:?}"),
    }
}

#[test]
fn arguments_go_into_the_template_the_query_or_the_body() {
    let get = request(
        json!({"url": "https://x.test/a/{id}?name={name}", "headers": {"X-A": "b"}}),
        json!({"id": 5, "name": "ä b&c", "q": ["x"], "none": null}),
    );
    assert_eq!((&get["method"], &get["endpoint"]), (&json!("GET"), &json!("https://x.test/a/5?name=%C3%A4%20b%26c")));
    assert_eq!(
        (&get["query"], &get["body"], &get["headers"]),
        (&json!({"q": "[\"x\"]"}), &Value::Null, &json!({"X-A": "b"}))
    );
    let post = request(json!({"method": "post", "url": "https://x.test/a/{id}"}), json!({"id": "1", "q": 2}));
    assert_eq!(
        (&post["method"], &post["query"], &post["body"]),
        (&json!("POST"), &json!({}), &json!({"id": "1", "q": 2}))
    );
    let bare = request(json!({"method": "POST", "url": "https://x.test/a", "body": "none"}), json!({"q": 2}));
    assert_eq!((&bare["query"], &bare["body"]), (&json!({"q": "2"}), &Value::Null));
    let delete = request(json!({"method": "DELETE", "url": "https://x.test/a/{id}"}), json!({"id": "1"}));
    assert_eq!((&delete["endpoint"], &delete["body"]), (&json!("https://x.test/a/1"), &Value::Null));
}

#[test]
fn an_argument_cannot_leave_its_place() {
    let url = || json!({"method": "DELETE", "url": "https://x.test/orders/{id}/items"});
    assert_eq!(
        request(url(), json!({"id": "../../admin?x=y#z"}))["endpoint"],
        "https://x.test/orders/..%2F..%2Fadmin%3Fx%3Dy%23z/items"
    );
    assert!(refusal(url(), json!({"id": ".."})).contains("make '..' a segment"));
    assert!(
        refusal(json!({"url": "https://x.test/{id}{name}/x"}), json!({"id": ".", "name": "."}))
            .contains("make '..' a segment")
    );
    assert!(refusal(url(), json!({"id": ""})).contains("'id' must not be empty"));
    assert!(refusal(url(), json!({"q": 1})).contains("'id' must be given"));
}

#[test]
fn templates_that_give_the_model_too_much_are_refused() {
    for (url, says) in [
        ("x.test/a", "must begin with"),
        ("https://{id}.test/", "must name the host literally"),
        ("https://user:pw@x.test/", "must not hold a user name"),
        ("https://", "must name the host literally"),
        ("https://x.test/{other}", "'parameters.properties' of the tool does not have it"),
        ("https://x.test/{+id}", "is not the name of an argument"),
        ("https://x.test/{id", "without its other half"),
        ("https://x.test/}", "without its other half"),
        ("https://x.test/ a", "must not contain spaces"),
    ] {
        let violations = check(&tool(&json!({"url": url}))).unwrap_err();
        assert_eq!(violations.len(), 1, "{url}: {violations:?}");
        assert_eq!(violations[0].field, "tools[0].http.url");
        assert!(violations[0].message.contains(says), "{url}: {}", violations[0]);
    }
}

#[test]
fn what_is_waited_for_is_shown_without_arguments() {
    let mut run = Run::started(&tool(&json!({"url": "https://x.test/a/{id}?key=k"})), "Hi", Value::Null);
    run.model(1, calls(&[("t", json!({"id": "private"}))]));
    assert_eq!(run.program().progress().waiting[0].on, "GET https://x.test/a/{id}");
}
