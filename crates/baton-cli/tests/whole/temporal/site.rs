//! Temporal, a server of Baton's beside it, a foreign caller, and a desk that the executions ask.

use std::{
    collections::HashMap,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use baton_temporal_testing::{TemporalServer, python};
use serde_json::{Value, json};

use super::caller::Caller;
use crate::{
    eventually,
    flows::{TALKS, agent, call, call_and_wait, create, run, scripted, talk, workflow},
    http::Api,
    process::{Home, Output, Process, Server},
    stub::{Reply, Request, Stub},
};

/// Where Baton's own executions run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Embedded,
    Temporal,
}

/// Somebody outside, who counts what is asked and keeps the tokens that are handed out.
#[derive(Default)]
pub(crate) struct Desk {
    /// Calls by `Idempotency-Key`.
    calls: Mutex<HashMap<String, u64>>,
    /// Tokens by the name of the execution that waits.
    tokens: Mutex<HashMap<String, String>>,
}

impl Desk {
    /// A desk, and the URL where it is asked.
    pub(crate) fn start() -> (Arc<Self>, String) {
        let desk = Arc::new(Self::default());
        let counting = Arc::clone(&desk);
        let stub = Stub::start(move |request| counting.take(request));
        (desk, stub.url())
    }

    fn take(&self, request: &Request) -> Reply {
        let (body, key) = (request.json(), request.header("idempotency-key").to_owned());
        let mut calls = self.calls.lock().unwrap();
        let call = calls.entry(key.clone()).or_default();
        *call += 1;
        if let (Some(name), Some(token)) = (body["run"].as_str(), body["token"].as_str()) {
            self.tokens.lock().unwrap().insert(name.to_owned(), token.to_owned());
        }
        Reply::Json(json!({"key": key, "call": *call}))
    }

    /// The token of the execution of this name, once it waits.
    pub(crate) fn token(&self, name: &str) -> String {
        eventually("the execution waits", || self.tokens.lock().unwrap().get(name).cloned())
    }

    /// How many executions have waited so far.
    pub(crate) fn waiting(&self) -> usize {
        self.tokens.lock().unwrap().len()
    }

    /// How many calls an execution has made, by its uid.
    pub(crate) fn calls_of(&self, uid: &str) -> u64 {
        self.calls.lock().unwrap().iter().filter(|(key, _)| key.starts_with(uid)).map(|(_, calls)| calls).sum()
    }

    /// How often a call was made.
    pub(crate) fn calls(&self, key: &str) -> u64 {
        self.calls.lock().unwrap().get(key).copied().unwrap_or_default()
    }
}

pub(crate) struct Site {
    pub(crate) temporal: TemporalServer,
    pub(crate) caller: Caller,
    pub(crate) desk: Arc<Desk>,
    home: Home,
    server: Option<Server>,
}

impl Site {
    pub(crate) fn start(engine: Engine) -> Self {
        Self::start_with(engine, true)
    }

    /// With engine Temporal, `worker` says whether the server runs one.
    pub(crate) fn start_with(engine: Engine, worker: bool) -> Self {
        let (temporal, home) = (TemporalServer::start(), Home::new());
        let kind = if engine == Engine::Temporal { "temporal" } else { "embedded" };
        home.configure(&format!(
            "[store]\nfree-min = \"0B\"\n[engine]\nkind = \"{kind}\"\n[upkeep]\nperiod = \"1s\"\n\
             [temporal]\naddress = \"{}\"\ncallback-namespaces = [\"default\"]\nworker = {worker}\n",
            temporal.address()
        ));
        let server = home.serve();
        let caller = Caller::start(&temporal.address(), "default", server.api);
        let (desk, url) = Desk::start();
        for object in templates(&url) {
            create(server.api, &object);
        }
        Self { temporal, caller, desk, home, server: Some(server) }
    }

    pub(crate) fn api(&self) -> Api {
        self.server.as_ref().unwrap().api
    }

    /// Ends the server as a power failure does.
    pub(crate) fn kill_baton(&mut self) {
        if let Some(server) = self.server.take() {
            let said = server.kill();
            assert!(!said.contains("panicked"), "{said}");
        }
    }

    /// Starts the server again, somewhere else.
    pub(crate) fn start_baton(&mut self) {
        let server = self.home.serve();
        self.caller.reach(server.api);
        self.server = Some(server);
    }

    /// Ends the foreign caller, worker and client alike, and has another one wait for the ends of its workflows.
    pub(crate) fn replace_caller(&mut self, ids: &[String]) {
        self.caller = Caller::start(&self.temporal.address(), "default", self.api());
        self.caller.follow(ids);
    }

    /// A worker process of Baton's.
    pub(crate) fn start_worker(&self) -> Process {
        let key = self.home.data_dir().join("worker.key").display().to_string();
        let address = self.temporal.address();
        let worker = self.home.start(
            self.server.as_ref().unwrap(),
            &["worker", "--worker-key-file", &key, "--temporal-address", &address],
        );
        worker.says("polling");
        worker
    }

    /// Runs a command of Baton's against the server.
    pub(crate) fn baton(&self, args: &[&str]) -> Output {
        self.home.run(self.server.as_ref().unwrap(), args)
    }

    /// Runs a program with Temporal's SDK, beside the server.
    pub(crate) fn python(&self, program: &Path, args: &[&str]) -> Output {
        let mut command = self.home.wrapped(Command::new(python()), &[&program.display().to_string()]);
        command.args(args).env("BATON_SERVER", format!("http://{}", self.api().0)).env("PYTHONDONTWRITEBYTECODE", "1");
        Process::start(command).end()
    }

    /// Answers an execution that waits for the desk. A repeat finds that it is answered.
    pub(crate) fn answer(&self, name: &str, output: &Value) {
        let token = self.desk.token(name);
        let answer = eventually("the server takes an answer", || {
            let answer = self.api().try_post("callbacks:complete", &json!({"token": token, "output": output})).ok()?;
            (answer.status < 500).then_some(answer)
        });
        let repeated = answer.status == 400 && answer.reason() == "CALLBACK_ALREADY_COMPLETED";
        assert!(answer.status == 200 || repeated, "{}", answer.text);
    }

    /// An execution.
    pub(crate) fn get(&self, path: &str, name: &str) -> Value {
        self.api().get(&format!("{path}/{name}")).expect(200)
    }

    /// Waits until no answer of an execution is on its way, and gives their states in the order of the addresses.
    #[track_caller]
    pub(crate) fn settled(&self, path: &str, name: &str) -> Vec<String> {
        eventually("the answers are settled", || {
            let object = self.get(path, name);
            let all = object["status"]["callbacks"].as_array().cloned().unwrap_or_default();
            let states: Vec<String> =
                all.iter().map(|it| it["state"].as_str().unwrap_or_default().to_owned()).collect();
            (!states.iter().any(|state| state == "Waiting" || state == "Pending")).then_some(states)
        })
    }
}

/// A call of a foreign caller: once, with a heartbeat that Baton keeps up easily.
pub(crate) fn handover(path: &str, mut execution: Value) -> Value {
    execution["spec"]["requestId"] = execution["metadata"]["name"].clone();
    json!({"path": path, "execution": execution, "heartbeat": 10})
}

/// A run of a workflow that is told its own name.
pub(crate) fn named(name: &str, workflow: &str) -> Value {
    let mut object = run(name, workflow);
    object["spec"]["input"] = json!({"run": name});
    object
}

/// A run of the agent of this name.
pub(crate) fn asks(name: &str, agent: &str) -> Value {
    handover(TALKS, talk(name, agent))
}

/// Everything that the executions refer to; `url` is the desk.
pub(crate) fn templates(url: &str) -> Vec<Value> {
    let body = json!({"run": "${ $workflow.input.run }"});
    let with_token = json!({"run": "${ $workflow.input.run }", "token": "${ $task.callbackToken }"});
    let (step, wait) = (call(&format!("{url}/step"), &body), call_and_wait(&format!("{url}/wait"), &with_token));
    let mut counted = step.clone();
    counted["export"] = json!({"as": "${ {step: .} }"});
    let both = json!({"set": {"run": "${ $workflow.input.run }", "step": "${ $context.step }", "answer": "${ . }"}});
    let taken = json!({"raise": {"error": {"type": "https://example.com/errors/taken", "status": 409, "title": "Taken", "detail": "by another"}}});
    let odd = json!({"set": {"large": 9_007_199_254_740_993_i64, "list": [1, null, 2.5], "text": "ä\u{1F600}"}});
    let sleep = json!([{"toolCalls": [{"name": "sleep", "arguments": {}}]}, {"text": "rested"}]);
    let model = |conversation: Value| json!({"name": "script", "provider": "playback", "playback": {"conversations": [conversation]}});
    let mut sleeper = agent("sleeper", &model(json!({"turns": sleep})));
    sleeper["spec"]["tools"] = json!([{"name": "sleep", "description": "Sleeps.", "parameters": {"type": "object"}, "workflow": {"name": "sleeps"}}]);
    sleeper["spec"]["policy"] = json!({"rules": [{"tool": "sleep", "action": "allow"}]});
    vec![
        workflow("waits", &json!([{"wait": wait}])),
        workflow("handshake", &json!([{"step": counted}, {"wait": wait}, {"both": both}])),
        workflow("fails", &json!([{"step": step}, {"fail": taken}])),
        workflow("sleeps", &json!([{"sleep": {"wait": {"hours": 1}}}])),
        workflow("odd", &json!([{"odd": odd}])),
        workflow("nothing", &json!([{"nothing": {"set": {"a": 1}, "output": {"as": "${ null }"}}}])),
        agent("helper", &scripted("pong")),
        agent("mute", &model(json!({"match": "a word that nobody says", "turns": [{"text": "never"}]}))),
        sleeper,
    ]
}
