//! The public servers that the specification's documents name, as one server of the test.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Where documents go; no path is asked of two of them.
const HOSTS: [&str; 13] = [
    "https://petstore.swagger.io",
    "https://httpbin.org",
    "https://swapi.dev",
    "https://fake-hospital.com",
    "https://fake-chat-api.com",
    "https://fake.com",
    "https://superbet-casinos.com",
    "https://virtual-wf-powered-race.com",
    "https://external-service.example.com",
    "https://raw.githubusercontent.com",
    "https://example.com",
    "http://keycloak",
    "http://myorg.io",
];

const PETSTORE: &str = include_str!("../../../baton-activities/tests/data/petstore-2.0.json");

/// What was asked, by the uid of the execution that asked.
type Asked = Arc<Mutex<HashMap<String, Vec<String>>>>;

pub(crate) struct World {
    address: SocketAddr,
    asked: Asked,
}

#[derive(Clone)]
struct Desk {
    address: SocketAddr,
    asked: Asked,
}

impl World {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Asked::default());
        let desk = Desk { address, asked: Arc::clone(&asked) };
        tokio::spawn(axum::serve(listener, Router::new().fallback(answer).with_state(desk)).into_future());
        Self { address, asked }
    }

    /// A text in which the hosts are this server.
    pub(crate) fn near(&self, text: &str) -> String {
        let here = format!("http://{}", self.address);
        HOSTS.iter().fold(text.to_owned(), |text, host| text.replace(&format!("{host}/"), &format!("{here}/")))
    }

    /// What an execution has asked so far: method, path, and the body if there is one.
    pub(crate) fn asked_by(&self, uid: &str) -> Vec<String> {
        self.asked.lock().unwrap().get(uid).cloned().unwrap_or_default()
    }
}

async fn answer(State(desk): State<Desk>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let key = parts.headers.get("idempotency-key").map(|key| key.to_str().unwrap()).unwrap_or_default();
    let uid = key.split('/').next().unwrap_or_default().to_owned();
    let line = format!("{} {path} {body}", parts.method).trim_end().to_owned();
    let times = {
        let mut asked = desk.asked.lock().unwrap();
        let lines = asked.entry(uid).or_default();
        lines.push(line.clone());
        lines.iter().filter(|other| **other == line).count()
    };
    let segments: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
    match segments.as_slice() {
        ["v2", rest @ ..] => pets(rest, parts.method.as_str(), &body, times, &parts.headers, desk.address),
        ["basic-auth", "serverless-workflow", "conformance-test"] => {
            let basic = "Basic c2VydmVybGVzcy13b3JrZmxvdzpjb25mb3JtYW5jZS10ZXN0";
            if authorization(&parts.headers) != basic {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            Json(json!({"authenticated": true})).into_response()
        }
        ["realms", "fake-authority", ".well-known", "openid-configuration"] => {
            let realm = format!("http://{}/realms/fake-authority", desk.address);
            Json(json!({"issuer": realm, "token_endpoint": format!("{realm}/auth/token")})).into_response()
        }
        ["realms", "fake-authority", "auth", "token"] => {
            let asked = body.replace("%5F", "_").replace("%2D", "-");
            let right =
                "grant_type=client_credentials&client_id=workflow-runtime-id&client_secret=workflow-runtime-secret";
            if asked != right {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            Json(json!({"access_token": "fake-token", "token_type": "Bearer"})).into_response()
        }
        ["api", "people", "7"] => {
            Json(json!({"name": "Beru", "homeworld": format!("http://{}/api/planets/1", desk.address)})).into_response()
        }
        // Moved, as the real one has done it.
        ["api", "people", ""] => Redirect::permanent("/api/people").into_response(),
        ["api", "people"] => Json(json!({"count": 1, "asked": parts.uri.query()})).into_response(),
        ["api", "planets", "1"] => Json(json!({"name": "Tatooine"})).into_response(),
        ["ordersservices.json"] => Json(orders(desk.address)).into_response(),
        ["docs", "asyncapi.json"] => Json(asyncapi(desk.address)).into_response(),
        ["serverlessworkflow", "catalog", ..] => "set: {logged: '${ .level + \": \" + .message }'}".into_response(),
        ["api"] => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => Json(json!({"asked": parts.uri.path()})).into_response(),
    }
}

fn authorization(headers: &HeaderMap) -> &str {
    headers.get("authorization").map(|it| it.to_str().unwrap()).unwrap_or_default()
}

/// The pet store. Pets are numbers; 503 is away at its first request, 401 only for those who are let in.
fn pets(path: &[&str], method: &str, body: &str, times: usize, headers: &HeaderMap, own: SocketAddr) -> Response {
    let pet = |id: u64| json!({"id": id, "name": "Milou", "status": "available"});
    match path {
        ["swagger.json"] => PETSTORE.replace("petstore.swagger.io", &own.to_string()).into_response(),
        ["pet", "findByStatus"] => Json(json!([pet(1)])).into_response(),
        ["pet", id] => match id.parse() {
            Ok(_) if method == "PUT" => Json(serde_json::from_str::<Value>(body).unwrap()).into_response(),
            Ok(503) if times == 1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Ok(401) if authorization(headers) != "Bearer fake-token" => StatusCode::UNAUTHORIZED.into_response(),
            Ok(404) | Err(_) => StatusCode::NOT_FOUND.into_response(),
            Ok(id) => Json(pet(id)).into_response(),
        },
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn orders(own: SocketAddr) -> Value {
    let operation = |id: &str| json!({"post": {"operationId": id, "responses": {"200": {"description": "done"}}}});
    json!({
        "openapi": "3.0.3", "info": {"title": "orders", "version": "1"}, "servers": [{"url": format!("http://{own}/orders")}],
        "paths": {"/log": operation("logreading"), "/report": operation("produceReport")},
    })
}

fn asyncapi(own: SocketAddr) -> Value {
    json!({
        "asyncapi": "2.6.0", "info": {"title": "pets", "version": "1"},
        "servers": {"staging": {"url": format!("http://{own}/messages"), "protocol": "http"}},
        "channels": {"/pets": {"servers": ["staging"], "publish": {"operationId": "findPetsByStatus"}}},
    })
}
