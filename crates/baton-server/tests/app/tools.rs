//! Tools of agents through a whole server: commands, operations of OpenAPI documents.

use axum::{Router, extract::Request};
use baton_proto::v1::{AgentExecution, Secret};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Server, fields};

/// An execution of an agent with one tool, which it calls once with the arguments.
fn calling(name: &str, tool: &Value, arguments: &Value) -> Value {
    let turns = json!([{"toolCalls": [{"name": tool["name"], "arguments": arguments}]}, {"text": "done"}]);
    let model = json!({"name": "m", "provider": "playback", "playback": {"conversations": [{"turns": turns}]}});
    let definition = json!({"instructions": "Work.", "model": model, "tools": [tool], "policy": {"default": "allow"}});
    json!({"metadata": {"name": name}, "spec": {"definition": definition, "message": "Hi"}})
}

/// What the model was told by its tool.
async fn told(server: &Server, execution: &str) -> Value {
    let ended = server.ended::<AgentExecution>(execution).await.status.unwrap();
    assert_eq!(ended.phase, "Completed", "{:?}", ended.error);
    let request = baton_proto::v1::HistoryRequest { name: execution.to_owned(), ..Default::default() };
    let page = server.app().history::<AgentExecution>(&request).await.unwrap();
    let mut events = page.events.iter().map(baton_proto::to_json_value);
    let told = events.find(|event| event.pointer("/note/message/role") == Some(&json!("tool"))).unwrap();
    let content = &told["note"]["message"]["content"];
    content
        .get("text")
        .and_then(Value::as_str)
        .map_or_else(|| content.clone(), |text| serde_json::from_str(text).unwrap())
}

#[tokio::test]
async fn a_command_runs_with_a_secret_that_nobody_sees() {
    let server = Server::start().await;
    let secret = json!({"metadata": {"name": "git"}, "spec": {"data": {"token": "t0ps3cret-value"}}});
    server.create::<Secret>(secret).await.unwrap();
    let tool = json!({
        "name": "count", "description": "Counts", "readOnly": true,
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        "shell": {
            "command": ["sh", "-c", "test -n \"$TOKEN\" && printf '{\"token\": \"%s\", \"letters\": %d}' \"$TOKEN\" \"${#TEXT}\""],
            "environment": {"TOKEN": {"secret": "git", "key": "token"}, "TEXT": {"value": "{text}"}}, "output": "json",
        },
    });
    server.create::<AgentExecution>(calling("count", &tool, &json!({"text": "$(id)"}))).await.unwrap();
    let result = told(&server, "count").await;
    assert_eq!(result, json!({"exitCode": 0, "stdout": {"token": "***", "letters": 5}, "stderr": ""}));
    server.stop().await;
}

#[tokio::test]
async fn an_operation_is_called_as_its_document_says() {
    let app = Router::new().fallback(|request: Request| async move {
        let authorization = request.headers().get("authorization").and_then(|it| it.to_str().ok()).unwrap_or_default();
        axum::Json(json!({"asked": format!("{} {}", request.method(), request.uri()), "known": authorization == "Bearer t0ps3cret-value"}))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let server = Server::start().await;
    let secret = json!({"metadata": {"name": "orders"}, "spec": {"data": {"token": "t0ps3cret-value"}}});
    server.create::<Secret>(secret).await.unwrap();
    let parameters = json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}, {"name": "full", "in": "query", "schema": {"type": "boolean"}}]);
    let document = json!({
        "openapi": "3.0.3", "servers": [{"url": format!("{origin}/v1")}],
        "paths": {"/orders/{id}": {"get": {"operationId": "getOrder", "parameters": parameters}}},
    });
    let tool = json!({
        "name": "get_order", "description": "Reads an order",
        "openapi": {"document": {"content": document}, "operationId": "getOrder", "authentication": {"bearer": {"use": "orders"}}},
    });
    server.create::<AgentExecution>(calling("order", &tool, &json!({"id": "a/b", "full": true}))).await.unwrap();
    assert_eq!(told(&server, "order").await, json!({"asked": "GET /v1/orders/a%2Fb?full=true", "known": true}));

    let mut wrong = calling("wrong", &tool, &json!({}));
    wrong["spec"]["definition"]["tools"][0]["openapi"]["operationId"] = json!("getOrders");
    let refused = server.create::<AgentExecution>(wrong).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.definition.tools[0].openapi.operationId"]);
    server.stop().await;
}
