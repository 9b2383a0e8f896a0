//! The world outside of the executions: it counts calls by their key, and answers the tokens that it is handed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, OnceLock, mpsc},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    PATIENCE,
    http::Api,
    stub::{Reply, Request, Stub},
};

/// Where a call must never arrive twice.
pub(crate) const ONCE: &str = "/once";
/// Longest that a call is held, in hope of another one.
const HOLD: Duration = Duration::from_millis(40);

/// A token and what it is to be answered with.
struct Handed {
    token: String,
    run: Value,
}

/// What was called.
#[derive(Clone, Default)]
pub(crate) struct Calls {
    /// How often, by `Idempotency-Key`.
    pub(crate) by_key: HashMap<String, u32>,
    /// Keys of calls at [`ONCE`].
    pub(crate) once: HashSet<String>,
    /// All of them.
    count: usize,
}

pub(crate) struct World {
    url: OnceLock<String>,
    calls: Mutex<Calls>,
    /// Another call has come.
    called: Condvar,
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
            called: Condvar::new(),
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

    /// Calls so far.
    pub(crate) fn calls(&self) -> Calls {
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
        let body = request.json();
        if let Some(token) = body["token"].as_str() {
            drop(hand.send(Handed { token: token.to_owned(), run: body["run"].clone() }));
        }
        let call = self.count(request, &key);
        Reply::Json(json!({"key": key, "call": call}))
    }

    /// Counts a call, and holds it for a while or until the next one: a kill is to find calls in flight.
    fn count(&self, request: &Request, key: &str) -> u32 {
        let mut calls = self.calls.lock().unwrap();
        calls.count += 1;
        let number = calls.count;
        if request.path == ONCE {
            calls.once.insert(key.to_owned());
        }
        let call = calls.by_key.entry(key.to_owned()).or_default();
        *call += 1;
        let call = *call;
        self.called.notify_all();
        drop(self.called.wait_timeout_while(calls, HOLD, |calls| calls.count == number).unwrap());
        call
    }

    fn answer_all(&self, handed: &mpsc::Receiver<Handed>) {
        // Tokens of which an answer may have arrived: another one may find it there.
        let mut tried = HashSet::new();
        for Handed { token, run } in handed {
            loop {
                let again = !tried.insert(token.clone());
                let Ok(answer) =
                    self.api().try_post("callbacks:complete", &json!({"token": token, "output": {"run": run}}))
                else {
                    continue;
                };
                match answer.status {
                    200 => drop(self.answered.lock().unwrap().insert(token)),
                    // The server is on its way down or up.
                    503 => continue,
                    400 if again && answer.reason() == "CALLBACK_ALREADY_COMPLETED" => {}
                    status => {
                        let surprise = format!("{run}, again {again}: {status} {}", answer.text);
                        self.surprises.lock().unwrap().push(surprise);
                    }
                }
                break;
            }
        }
    }

    /// The server, once there is one.
    fn api(&self) -> Api {
        let (server, timeout) =
            self.moved.wait_timeout_while(self.server.lock().unwrap(), PATIENCE, |server| server.is_none()).unwrap();
        assert!(!timeout.timed_out(), "the server stays away");
        server.unwrap()
    }
}
