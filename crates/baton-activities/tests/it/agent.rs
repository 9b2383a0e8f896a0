//! The agent loop and the activities together, without an engine: what one writes the other reads.

use std::sync::Arc;

use axum::response::IntoResponse as _;
use baton_activities::ActivitiesOptions;
use baton_agent::{check, load};
use baton_execution::{Activities as _, Command, Ending, Input, Program as _, Recorded, Start};
use baton_types::Uid;
use serde_json::{Value, json};

use crate::support::{Server, task, world};

/// Runs the agent's activities, one after the other, until it has ended.
async fn run_to_end(spec: &Value, options: ActivitiesOptions) -> Ending {
    let world = world(options);
    let mut program = load(Arc::new(check(spec).expect("the spec is good")));
    let start = Start {
        uid: Uid::from_bytes([7; 16]),
        namespace: "default".into(),
        name: "a".into(),
        input: json!({"message": "Where is order 17?", "input": {"id": "17"}}),
        env: std::collections::BTreeMap::new(),
        settings: Value::Null,
        grant: None,
        carried_over: Value::Null,
    };
    let mut inputs = vec![Input::Started(start)];
    while let Some(input) = inputs.pop() {
        for command in program.on_input(&Recorded { time_ms: 0, input }).expect("the program takes the input") {
            match command {
                Command::ScheduleActivity(activity) => {
                    let input = program.activity_input(&activity.id).unwrap_or(activity.input);
                    let result = world.run(task(&activity.activity, input, activity.start_to_close_ms)).await;
                    inputs.push(match result {
                        Ok(output) => Input::ActivityCompleted { id: activity.id, output },
                        Err(fault) => Input::ActivityFailed { id: activity.id, fault },
                    });
                }
                Command::End(ending) => return ending,
                _ => {}
            }
        }
    }
    panic!("the agent waits for something that nobody does")
}

fn spec(orders: &Server, model: Value) -> Value {
    json!({
        "instructions": "You look up orders.",
        "model": model,
        "tools": [{
            "name": "get_order", "description": "Reads an order",
            "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
            "http": {"method": "GET", "url": orders.url("/orders/{id}")}
        }],
        "outputSchema": {"type": "object", "required": ["state"]}
    })
}

#[tokio::test]
async fn a_scripted_agent_calls_its_tool_and_answers() {
    let orders =
        Server::answering(|_, _| ([("content-type", "application/json")], r#"{"state": "shipped"}"#).into_response())
            .await;
    let turns = json!([{"toolCalls": [{"name": "get_order", "arguments": {"id": "17"}}]}, {"text": "It is shipped."}, {"json": {"state": "shipped"}}]);
    let model = json!({"name": "scripted", "provider": "playback", "playback": {"conversations": [{"match": "\"id\":\"17\"", "turns": turns}]}});
    let ending = run_to_end(&spec(&orders, model), ActivitiesOptions::default()).await;
    assert_eq!(ending, Ending::Completed { output: json!({"state": "shipped"}) });
    assert_eq!(orders.seen()[0].uri.path(), "/orders/17");
}

#[tokio::test]
async fn a_model_is_told_what_its_tool_gave_even_a_fault() {
    let orders = Server::answering(|_, _| (axum::http::StatusCode::NOT_FOUND, "no such order").into_response()).await;
    let model = Server::answering(|number, _| {
        let message = match number {
            0 => json!({"content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": "{\"id\": \"17\"}"}}]}),
            _ => json!({"content": "{\"state\": \"unknown\"}"}),
        };
        let body = json!({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}});
        ([("content-type", "application/json")], body.to_string()).into_response()
    })
    .await;
    let ending =
        run_to_end(&spec(&orders, json!({"name": "m", "baseUrl": model.url("/v1")})), ActivitiesOptions::default())
            .await;
    assert_eq!(ending, Ending::Completed { output: json!({"state": "unknown"}) });
    let told = model.seen()[1].json();
    assert_eq!((&told["messages"][3]["role"], &told["messages"][3]["tool_call_id"]), (&json!("tool"), &json!("c1")));
    let content = told["messages"][3]["content"].as_str().unwrap();
    assert!(
        content.contains("answered 404 Not Found: no such order") && content.contains("\"statusCode\":404"),
        "{content}"
    );
}
