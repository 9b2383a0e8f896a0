//! The world outside of the executions: it counts calls by their key, and answers the tokens that it is handed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, OnceLock, mpsc},
    thread,
};

use serde_json::{Value, json};

use crate::{
    PATIENCE,
    http::Api,
    stub::{Reply, Request, Stub},
};

/// A token and what it is to be answered with.
struct Handed {
    token: String,
    run: Value,
}

pub(crate) struct World {
    url: OnceLock<String>,
    /// Calls by `Idempotency-Key`.
    calls: Mutex<HashMap<String, u32>>,
    /// Where the server is now.
    server: Mutex<Option<Api>>,
    moved: Condvar,
    /// Answers of the server that none of this explains.
    surprises: Mutex<Vec<String>>,
    /// Tokens that the server took an answer for.
    answered: Mutex<HashSet<String>>,
}

impl World {
    pub(crate) fn start() -> Arc<Self> {
        let world = Arc::new(Self {
            url: OnceLock::new(),
            calls: Mutex::default(),
            server: Mutex::default(),
            moved: Condvar::new(),
            surprises: Mutex::default(),
            answered: Mutex::default(),
        });
        let (hand, handed) = mpsc::channel();
        let (counting, answering) = (Arc::clone(&world), Arc::clone(&world));
        let stub = Stub::start(move |request| counting.take(request, &hand));
        world.url.set(stub.url()).unwrap();
        thread::spawn(move || answering.answer_all(&handed));
        world
    }

    pub(crate) fn url(&self) -> &str {
        self.url.get().unwrap()
    }

    /// Says where the server is, or that it is not.
    pub(crate) fn reach(&self, server: Option<Api>) {
        *self.server.lock().unwrap() = server;
        self.moved.notify_all();
    }

    /// Calls so far, by key.
    pub(crate) fn calls(&self) -> HashMap<String, u32> {
        self.calls.lock().unwrap().clone()
    }

    /// What was unexpected so far.
    pub(crate) fn surprises(&self) -> Vec<String> {
        self.surprises.lock().unwrap().clone()
    }

    /// Tokens whose answer was acknowledged.
    pub(crate) fn answered(&self) -> Vec<String> {
        self.answered.lock().unwrap().iter().cloned().collect()
    }

    /// Answers a call with its number among those of the same key, so that a recorded result says which call it is of.
    fn take(&self, request: &Request, hand: &mpsc::Sender<Handed>) -> Reply {
        let key = request.header("idempotency-key").to_owned();
        let call = {
            let mut calls = self.calls.lock().unwrap();
            let call = calls.entry(key.clone()).or_default();
            *call += 1;
            *call
        };
        let body = request.json();
        if let Some(token) = body["token"].as_str() {
            drop(hand.send(Handed { token: token.to_owned(), run: body["run"].clone() }));
        }
        Reply::Json(json!({"key": key, "call": call}))
    }

    fn answer_all(&self, handed: &mpsc::Receiver<Handed>) {
        // Tokens of which an answer may have arrived: another one may find it there.
        let mut tried = HashSet::new();
        for Handed { token, run } in handed {
            loop {
                let again = !tried.insert(token.clone());
                let Ok(answer) = self.api().try_post("callbacks:complete", &json!({"token": token, "output": {"run": run}})) else { continue };
                match answer.status {
                    200 => drop(self.answered.lock().unwrap().insert(token)),
                    // The server is on its way down or up.
                    503 => continue,
                    400 if again && answer.reason() == "CALLBACK_ALREADY_COMPLETED" => {}
                    status => self.surprises.lock().unwrap().push(format!("{run}, again {again}: {status} {}", answer.text)),
                }
                break;
            }
        }
    }

    /// The server, once there is one.
    fn api(&self) -> Api {
        let (server, timeout) = self.moved.wait_timeout_while(self.server.lock().unwrap(), PATIENCE, |server| server.is_none()).unwrap();
        assert!(!timeout.timed_out(), "the server stays away");
        server.unwrap()
    }
}
