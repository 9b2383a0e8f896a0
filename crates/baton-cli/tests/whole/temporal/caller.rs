//! The foreign caller: a process with Temporal's Python SDK, which the tests steer.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use baton_temporal_testing::python;
use serde_json::{Value, json};

use crate::{PATIENCE, http::Api};

/// What it has said so far.
#[derive(Default)]
struct Said {
    events: Mutex<Vec<Value>>,
    more: Condvar,
}

/// A worker and client of Temporal's; it goes when this goes.
pub(crate) struct Caller {
    child: Child,
    stdin: ChildStdin,
    said: Arc<Said>,
}

impl Caller {
    /// Starts it for a namespace; it hands over to the server at `baton`.
    pub(crate) fn start(temporal: &str, namespace: &str, baton: Api) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/temporal/foreign_caller.py");
        let mut command = Command::new(python());
        command.arg(program).args(["--temporal", temporal, "--namespace", namespace, "--baton", &url(baton)]);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let said = Arc::new(Said::default());
        let heard = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line)
                    .unwrap_or_else(|error| json!({"event": "broken", "error": format!("{error}: {line}")}));
                heard.events.lock().unwrap().push(event);
                heard.more.notify_all();
            }
        });
        let caller = Self { child, stdin, said };
        caller.wait("the foreign caller is ready", |event| (event["event"] == "ready").then_some(()));
        caller
    }

    /// What `find` makes of the first event that it makes something of.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut(&Value) -> Option<T>) -> T {
        let mut found = None;
        let waiting = self.said.events.lock().unwrap();
        let (events, _) = self
            .said
            .more
            .wait_timeout_while(waiting, PATIENCE, |events| {
                let broken = events.iter().find(|event| event["event"] == "broken");
                assert!(broken.is_none(), "{broken:?}");
                found = events.iter().find_map(&mut find);
                found.is_none()
            })
            .unwrap();
        found.unwrap_or_else(|| {
            panic!("it did not come to this: {what}: {:#?}", events.iter().rev().take(3).collect::<Vec<_>>())
        })
    }

    fn tell(&mut self, command: &Value) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).unwrap();
    }

    /// Starts a workflow that makes a call.
    pub(crate) fn call(&mut self, id: &str, call: &Value) {
        self.tell(&json!({"op": "start", "id": id, "call": call}));
    }

    /// Waits for the ends of workflows that another process has started.
    pub(crate) fn follow(&mut self, ids: &[String]) {
        self.tell(&json!({"op": "follow", "ids": ids}));
    }

    pub(crate) fn cancel(&mut self, id: &str) {
        self.tell(&json!({"op": "cancel", "id": id}));
    }

    pub(crate) fn terminate(&mut self, id: &str) {
        self.tell(&json!({"op": "terminate", "id": id}));
    }

    /// The server is somewhere else now.
    pub(crate) fn reach(&mut self, baton: Api) {
        self.tell(&json!({"op": "baton", "url": url(baton)}));
    }

    /// Answers a token as somebody else; what Temporal says against it.
    pub(crate) fn complete(&mut self, token: &str, value: &Value) -> Option<String> {
        self.tell(&json!({"op": "complete", "token": token, "value": value}));
        self.wait("the token is answered", |event| {
            (event["event"] == "answered" && event["token"] == token)
                .then(|| event["error"].as_str().map(str::to_owned))
        })
    }

    /// Waits until Temporal has a workflow.
    #[track_caller]
    pub(crate) fn started(&self, id: &str) {
        self.wait(&format!("{id} is started"), |event| {
            (event["event"] == "started" && event["id"] == id).then_some(())
        });
    }

    /// What an attempt of the activity handed over, and what was said to it.
    #[track_caller]
    pub(crate) fn handed(&self, id: &str, attempt: u64) -> Value {
        self.wait(&format!("attempt {attempt} of {id} hands over"), |event| {
            (event["event"] == "handed" && event["id"] == id && event["attempt"].as_u64() >= Some(attempt))
                .then(|| event.clone())
        })
    }

    /// How often an activity has handed over so far.
    pub(crate) fn attempts(&self, id: &str) -> usize {
        let events = self.said.events.lock().unwrap();
        events.iter().filter(|event| event["event"] == "handed" && event["id"] == id).count()
    }

    /// How a workflow ended.
    #[track_caller]
    pub(crate) fn ended(&self, id: &str) -> Value {
        self.wait(&format!("{id} ends"), |event| {
            (event["event"] == "ended" && event["id"] == id).then(|| event.clone())
        })
    }

    /// What a workflow completed with.
    #[track_caller]
    pub(crate) fn completed(&self, id: &str) -> Value {
        let ended = self.ended(id);
        assert_eq!(ended["how"], "Completed", "{ended}");
        ended["value"].clone()
    }
}

fn url(api: Api) -> String {
    format!("http://{}", api.0)
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
