//! Operations of OpenAPI documents as tools.

use baton_agent::check;
use baton_execution::Effect;
use serde_json::{Value, json};

use crate::support::{Run, calls, spec_with, tool_id};

fn document() -> Value {
    json!({
        "openapi": "3.1.0", "info": {"title": "Orders", "version": "1"}, "servers": [{"url": "https://orders.test/v1"}],
        "paths": {"/orders/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {"operationId": "getOrder", "parameters": [{"name": "full", "in": "query", "description": "With its lines", "schema": {"type": "boolean"}}]},
            "put": {"operationId": "putOrder", "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}}
        }},
        "components": {
            "parameters": {"Id": {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}},
            "schemas": {
                "Order": {"type": "object", "properties": {"lines": {"type": "array", "items": {"$ref": "#/components/schemas/Line"}}}, "required": ["lines"]},
                "Line": {"type": "object", "properties": {"sku": {"type": "string"}, "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Line"}}}, "required": ["sku"]}
            }
        }
    })
}

fn agent(openapi: Value) -> Value {
    spec_with(json!({"tools": [{"name": "t", "description": "d", "openapi": openapi}]}))
}

#[test]
fn an_operation_of_a_document_in_the_spec_says_itself_what_its_arguments_are() {
    let spec = agent(
        json!({"document": {"content": document()}, "operationId": "getOrder", "authentication": {"bearer": {"use": "orders"}}}),
    );
    let tool = &check(&spec).unwrap().tools()[0];
    assert_eq!(
        tool.parameters,
        json!({"type": "object", "required": ["id"], "additionalProperties": false, "properties": {
            "id": {"type": "string"}, "full": {"type": "boolean", "description": "With its lines"}}})
    );
    let mut run = Run::started(&spec, "Hi", Value::Null);
    run.model(1, calls(&[("t", json!({"id": "7", "full": true}))]));
    let id = tool_id(1, 0, "t");
    let scheduled = run.activities()[0].clone();
    assert_eq!((scheduled.activity.as_str(), scheduled.effect), ("openapi", Effect::Repeatable));
    assert_eq!(scheduled.input["parameters"], json!({"id": "7", "full": true}));
    assert_eq!(scheduled.input["authentication"], json!({"bearer": {"use": "orders"}}));
    let document_shown = &scheduled.input["document"];
    assert!(document_shown["digest"].as_str().unwrap().starts_with("sha256:") && document_shown["content"].is_null());
    let sent = run.program().activity_input(&id).unwrap();
    assert_eq!(serde_json::from_str::<Value>(sent["document"]["content"].as_str().unwrap()).unwrap(), document());
    assert_eq!(sent["operationId"], "getOrder");
    run.completes(&id, json!({"id": "7"}));
    assert!(run.program().activity_input(&id).is_none());
}

#[test]
fn schemas_that_it_refers_to_are_taken_along() {
    let spec = agent(json!({"document": {"content": document()}, "operationId": "putOrder"}));
    let tool = &check(&spec).unwrap().tools()[0];
    assert_eq!(tool.parameters["required"], json!(["body", "id"]));
    assert_eq!(tool.parameters["properties"]["body"], json!({"$ref": "#/$defs/s0"}));
    let mut run = Run::started(&spec, "Hi", Value::Null);
    run.model(1, calls(&[("t", json!({"id": "7", "body": {"lines": [{"sku": "a", "parts": [{}]}]}}))]));
    assert!(run.activities().iter().all(|activity| activity.activity == "model"), "the innermost part has no sku");
    run.model(2, calls(&[("t", json!({"id": "7", "body": {"lines": [{"sku": "a", "parts": [{"sku": "b"}]}]}}))]));
    assert_eq!((run.activities()[0].activity.as_str(), run.activities()[0].effect), ("openapi", Effect::Once));
}

#[test]
fn a_document_elsewhere_needs_parameters_and_is_named_in_the_history() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let openapi =
        json!({"document": {"url": "https://x.test/openapi.json", "digest": digest}, "operationId": "getOrder"});
    let mut spec = agent(openapi);
    let violations = check(&spec).unwrap_err();
    assert_eq!(violations[0].field, "tools[0].openapi.document");
    spec["tools"][0]["parameters"] = json!({"type": "object", "properties": {"id": {}}});
    let mut run = Run::started(&spec, "Hi", Value::Null);
    run.model(1, calls(&[("t", json!({"id": "7", "none": null}))]));
    let input = &run.activities()[0].input;
    assert_eq!(
        input["document"],
        json!({"uri": "https://x.test/openapi.json", "authentication": null, "digest": digest})
    );
    assert_eq!(input["parameters"], json!({"id": "7"}));
    assert!(run.program().activity_input(&tool_id(1, 0, "t")).is_none());
}

#[test]
fn what_cannot_be_called_is_refused() {
    let inline = |changes: Value| {
        let mut own = json!({"document": {"content": document()}, "operationId": "getOrder"});
        own.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        own
    };
    for (openapi, field, says) in [
        (inline(json!({"operationId": "getOrders"})), "operationId", "there are 'getOrder', 'putOrder'"),
        (inline(json!({"document": {}})), "document", "'url' or 'content'"),
        (inline(json!({"document": null})), "document", "must be given"),
        (inline(json!({"document": {"url": "file:///x"}})), "document.url", "must begin with"),
        (inline(json!({"document": {"content": {"paths": {"/a": {"$ref": "#/x"}}}}})), "operationId", "no place in it"),
        (
            inline(json!({"authentication": {"bearer": {"token": "t0ps3cret"}}})),
            "authentication",
            "the name of a Secret",
        ),
        (inline(json!({"authentication": {"magic": {"use": "x"}}})), "authentication", "schemes are"),
        (inline(json!({"server": "https://x.test"})), "server", "unknown field"),
    ] {
        let violations = check(&agent(openapi)).unwrap_err();
        let found = violations.iter().find(|it| it.field == format!("tools[0].openapi.{field}"));
        assert!(found.is_some_and(|it| it.message.contains(says)), "{field}: {violations:?}");
        assert!(!format!("{violations:?}").contains("t0ps3cret"));
    }
}
