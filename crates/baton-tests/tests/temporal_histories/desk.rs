//! Somebody outside, whom executions ask.

use std::{
    future::pending,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, unbounded_channel},
    },
};

/// Characters of the long answer: more than a history holds in itself.
const LONG: usize = 66_000;

pub(crate) struct Desk {
    pub(crate) url: String,
    tokens: Mutex<UnboundedReceiver<String>>,
}

impl Desk {
    pub(crate) async fn start() -> Self {
        let (tell, tokens) = unbounded_channel();
        let asked_before = Arc::new(AtomicBool::new(false));
        let flaky = async move || {
            if asked_before.swap(true, Ordering::Relaxed) {
                (StatusCode::OK, Json(json!({"ok": true})))
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ok": false})))
            }
        };
        // It says the token again, which must not come into any history.
        let ask = async move |Json(body): Json<Value>| {
            tell.send(body["token"].as_str().unwrap().to_owned()).unwrap();
            Json(json!({"taken": body}))
        };
        let router = Router::new()
            .route("/stock", get(async || Json(json!({"items": [1, 2, 3]}))))
            .route("/hang", get(pending::<()>))
            .route("/long", get(async || Json("x".repeat(LONG))))
            .route("/flaky", get(flaky))
            .route("/ask", post(ask));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, tokens: Mutex::new(tokens) }
    }

    /// The next token that an execution hands out.
    pub(crate) async fn token(&self) -> String {
        self.tokens.lock().await.recv().await.unwrap()
    }
}
