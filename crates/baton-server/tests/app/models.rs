//! Models of agents: where they are asked, with whose key, what they are given, and what that cost.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::Request};
use baton_agent::Price;
use baton_proto::v1::{AgentExecution, Secret};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{REAL, Server, agent, fields, read};

const KEY: &str = "sk-planted-0123456789";

/// A model that always says the same, and remembers keys and questions.
async fn model() -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
    let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let memory = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: Request| {
        let memory = Arc::clone(&memory);
        async move {
            let (parts, body) = request.into_parts();
            let key = parts.headers.get("authorization").and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            memory.lock().unwrap().push((key, serde_json::from_slice(&body).unwrap()));
            let usage = json!({"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 600}});
            let said = json!({"choices": [{"message": {"content": format!("I was given {KEY}.")}, "finish_reason": "stop"}], "usage": usage});
            axum::Json(said)
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

#[tokio::test]
async fn a_key_of_a_secret_and_attachments_reach_the_model_and_the_cost_is_told() {
    let server = Server::start().await;
    server.create::<Secret>(json!({"metadata": {"name": "models"}, "spec": {"data": {"key": KEY}}})).await.unwrap();
    let (url, seen) = model().await;
    let model = json!({
        "name": "m", "baseUrl": url, "apiKey": {"secret": "models", "key": "key"}, "topP": 0.5, "stop": ["END"],
        "price": {"inputPerMillion": 1.0, "outputPerMillion": 0, "cachedInputPerMillion": 0.5}
    });
    let attachments = json!([{"name": "a.png", "mediaType": "image/png", "data": "aGk="}]);
    let spec = json!({"definition": {"instructions": "Look.", "model": model}, "message": "What is it?", "attachments": attachments});
    server.create::<AgentExecution>(json!({"metadata": {"name": "look"}, "spec": spec})).await.unwrap();
    let status = server.ended::<AgentExecution>("look").await.status.unwrap();
    assert_eq!((status.phase.as_str(), status.output.unwrap().text.as_str()), ("Completed", "\"I was given ***.\""));
    let usage = status.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.cost_unknown_calls), (1000, 600, 0));
    assert_eq!((usage.cost.as_str(), usage.currency.as_str()), ("0.0007", "USD"));

    let seen = seen.lock().unwrap().clone();
    assert_eq!((seen.len(), seen[0].0.as_str()), (1, format!("Bearer {KEY}").as_str()));
    assert_eq!((&seen[0].1["top_p"], &seen[0].1["stop"]), (&json!(0.5), &json!(["END"])));
    assert_eq!(
        seen[0].1["messages"][1]["content"],
        json!([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}])
    );
    server.stop().await;
}

#[tokio::test]
async fn attachments_are_checked_when_the_execution_is_created() {
    let server = Server::start().await;
    let attachments = json!([{"name": "a", "mediaType": "image/png", "data": "aGk="}, {"name": "", "mediaType": "png", "url": "ftp://x"}]);
    let spec = json!({"definition": agent("x")["spec"], "message": "Look", "attachments": attachments});
    let object = read::<AgentExecution>(json!({"metadata": {"name": "bad"}, "spec": spec}));
    let refused = server.app().create(object, REAL).await.unwrap_err();
    assert_eq!(
        fields(&refused),
        ["spec.attachments[1].mediaType", "spec.attachments[1].name", "spec.attachments[1].url"]
    );
    server.stop().await;
}

#[tokio::test]
async fn calls_tokens_and_cost_are_counted_by_model() {
    let price = Price::from_dollars(1.0, 10.0, Some(0.5)).unwrap();
    let server = Server::start_with(|options| _ = options.models.prices.insert("metered".to_owned(), price)).await;
    let (url, _) = model().await;
    for (name, base_url) in [("one", url.as_str()), ("two", url.as_str()), ("none", "http://127.0.0.1:1/v1")] {
        let model = json!({"name": "metered", "baseUrl": base_url, "retry": {"maximumAttempts": 1}});
        let spec = json!({"definition": {"instructions": "Look.", "model": model}, "message": "What is it?"});
        server.create::<AgentExecution>(json!({"metadata": {"name": name}, "spec": spec})).await.unwrap();
        server.ended::<AgentExecution>(name).await;
    }
    // A second installation is refused, and the first one is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let page = reqwest::Client::builder().no_proxy().build().unwrap();
    let page =
        page.get(format!("http://{}/metrics", server.running.address)).send().await.unwrap().text().await.unwrap();
    // 400 fresh tokens at a dollar for a million, 600 kept ones at half of it, 10 written ones at ten.
    for (metric, count) in [
        ("baton_model_calls_total", 2),
        ("baton_model_failures_total", 1),
        ("baton_model_input_tokens_total", 2000),
        ("baton_model_output_tokens_total", 20),
        ("baton_model_cost_microdollars_total", 2 * (400 + 300 + 100)),
    ] {
        let line = format!("{metric}{{provider=\"openai\",model=\"metered\"}} {count}");
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    server.stop().await;
}
