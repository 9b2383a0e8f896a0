//! An agent with three tools and a sub-agent, killed at every event that its history records, and at every event of the
//! sub-agent's: whatever was recorded is not asked for again, neither of the model, of which a server that others wrote keeps
//! the journal, nor of the tools; the caller gets one answer, the same as without a kill.

mod models;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use self::models::Models;
use crate::{
    eventually,
    flows::{TALKS, agent, answer, create, mailbox, talk},
    http::Api,
    process::Home,
    stub::{Reply, Stub},
};

/// More events than either history has.
const EVENTS_MAX: u64 = 200;

/// What the tools were asked: path and idempotency key, in order.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

struct Stage {
    models: Models,
    tools: Stub,
    asked: Asked,
}

impl Stage {
    fn start() -> Self {
        let asked = Asked::default();
        let book = Arc::clone(&asked);
        let tools = Stub::start(move |request| {
            let path = request.path.split('?').next().unwrap_or_default().to_owned();
            book.lock().unwrap().push((path.clone(), request.header("idempotency-key").to_owned()));
            Reply::Json(json!({"of": path}))
        });
        Self { models: Models::start(&answers()), tools, asked }
    }

    fn tool(&self, name: &str, method: &str) -> Value {
        let url = format!("{}/{name}", self.tools.url());
        json!({"name": name, "description": name, "parameters": {"type": "object"}, "http": {"method": method, "url": url}})
    }

    fn agents(&self) -> [Value; 2] {
        let model = json!({"name": "test-model", "provider": "openai", "baseUrl": self.models.url("/v1")});
        let mut clerk = agent("clerk", &model);
        clerk["spec"]["instructions"] = json!("You are the clerk.");
        clerk["spec"]["tools"] = json!([self.tool("check", "GET")]);
        clerk["spec"]["policy"] = json!({"default": "allow"});
        let mut desk = agent("desk", &model);
        desk["spec"]["instructions"] = json!("You are the desk.");
        let mut note = self.tool("note", "PUT");
        note["idempotent"] = json!(true);
        let ask = json!({"name": "ask_clerk", "description": "asks", "parameters": {"type": "object", "properties": {"message": {"type": "string"}}}, "agent": {"name": "clerk"}});
        desk["spec"]["tools"] = json!([self.tool("look", "GET"), note, self.tool("charge", "POST"), ask]);
        desk["spec"]["policy"] = json!({"default": "allow"});
        [clerk, desk]
    }

    fn charges(&self, uid: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(path, key)| path == "/charge" && key.starts_with(uid)).count()
    }
}

/// What the models say, in the mock's own form.
fn answers() -> Value {
    let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "name": name, "arguments": arguments});
    // Slow enough for kills to come while an answer is under way.
    let turn = |message: &str, index: u32, response: Value| json!({"match": {"userMessage": message, "turnIndex": index}, "response": response, "latency": 5});
    json!({"fixtures": [
        turn("hello", 0, json!({"toolCalls": [call("a", "look", json!({})), call("b", "note", json!({}))]})),
        turn("hello", 1, json!({"toolCalls": [call("c", "charge", json!({}))]})),
        turn("hello", 2, json!({"toolCalls": [call("d", "ask_clerk", json!({"message": "is it right"}))]})),
        turn("hello", 3, json!({"content": "all is done"})),
        turn("is it right", 0, json!({"toolCalls": [call("e", "check", json!({}))]})),
        turn("is it right", 1, json!({"content": "it is right"})),
    ]})
}

/// Whose history the kill goes by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Whose {
    Desk,
    Clerk,
}

/// The calls of a model by who asked and in which of its turns.
type Calls = BTreeMap<(Whose, usize), usize>;

/// The mock's journal from an entry on.
fn calls(models: &Models, from: usize) -> Calls {
    let mut calls = Calls::new();
    for entry in &models.journal()[from..] {
        let messages = entry["body"]["messages"].as_array().unwrap();
        let whose = if messages[0].to_string().contains("clerk") { Whose::Clerk } else { Whose::Desk };
        let turn = 1 + messages.iter().filter(|message| message["role"] == "assistant").count();
        *calls.entry((whose, turn)).or_default() += 1;
    }
    calls
}

/// One run and the moment of its kill.
struct Run<'a> {
    home: &'a Home,
    stage: &'a Stage,
    name: String,
    kill: Option<(Whose, u64)>,
}

/// What a run left.
struct Told {
    /// Whether the kill came before the end; without a kill it did not.
    interrupted: bool,
    calls: Calls,
    /// Model calls of which the answer was recorded before the kill.
    recorded: Vec<(Whose, usize)>,
    output: Value,
    answer: Value,
}

impl Run<'_> {
    /// `None` if there is no such event.
    fn go(&self) -> Option<Told> {
        let from = self.stage.models.journal().len();
        let server = self.home.serve();
        let mut run = talk(&self.name, "desk");
        let token = mailbox(server.api);
        run["spec"]["callbackToken"] = json!(token);
        let uid = server.api.post(TALKS, &run).expect(201)["metadata"]["uid"].as_str().unwrap().to_owned();
        let Some((whose, number)) = self.kill else {
            return Some(self.end(server.api, &token, &uid, from, false, Vec::new()));
        };
        let name = match whose {
            Whose::Desk => self.name.clone(),
            Whose::Clerk => child(server.api, &self.name),
        };
        let mut follow = server.api.open("GET", &format!("{TALKS}/{name}/history?follow=true"), &[], 0).unwrap();
        let seen = follow.lines_until(&format!("\"number\":{number},"));
        server.kill();
        let server = self.home.serve();
        let Ok(events) = seen else {
            self.end(server.api, &token, &uid, from, false, Vec::new());
            return None;
        };
        let interrupted = whose == Whose::Clerk || events.iter().all(|event| event["type"] != "Ended");
        let recorded = events.iter().filter(|event| event["type"] == "ActivityCompleted").filter_map(|event| {
            let position = event["activityCompleted"]["operation"]["position"].as_str().unwrap();
            let turn = position.strip_prefix("/turns/")?.strip_suffix("/model")?;
            Some((whose, turn.parse().unwrap()))
        });
        Some(self.end(server.api, &token, &uid, from, interrupted, recorded.collect()))
    }

    /// Sees the run to its end; a call in doubt is decided on as somebody does who asks the receiver.
    fn end(
        &self,
        api: Api,
        token: &str,
        uid: &str,
        from: usize,
        interrupted: bool,
        recorded: Vec<(Whose, usize)>,
    ) -> Told {
        let path = format!("{TALKS}/{}", self.name);
        let ended = eventually("the run has ended", || {
            let run = api.get(&path).expect(200);
            if let Some(approval) = run["status"]["waitingFor"][0]["approval"].as_str() {
                self.settle(api, approval, self.stage.charges(uid) > 0);
            }
            run["status"]["completionTime"].is_string().then_some(run)
        });
        let output = ended["status"]["output"].clone();
        Told { interrupted, calls: calls(&self.stage.models, from), recorded, output, answer: answer(api, token) }
    }

    fn settle(&self, api: Api, approval: &str, made: bool) {
        let path = format!("namespaces/default/approvals/{approval}");
        let question = api.get(&path).expect(200);
        assert_eq!(
            (&question["spec"]["type"], &question["spec"]["tool"]),
            (&json!("InDoubt"), &json!("charge")),
            "{}",
            self.name
        );
        let digest = &question["spec"]["argumentsDigest"];
        let decision = if made {
            json!({"decision": "result", "result": {"of": "/charge"}, "argumentsDigest": digest})
        } else {
            json!({"decision": "retry", "argumentsDigest": digest})
        };
        // Decided a moment ago, it may still be waited for.
        let answer = api.post(&format!("{path}/decide"), &decision);
        assert!(answer.status == 200 || answer.reason() == "APPROVAL_ALREADY_DECIDED", "{}", answer.text);
    }
}

/// The sub-agent's run, once it is there.
fn child(api: Api, parent: &str) -> String {
    eventually("the sub-agent runs", || {
        let list = api.get(TALKS).expect(200);
        let found =
            list["items"].as_array().unwrap().iter().find(|run| run["status"]["parent"]["name"] == parent)?.clone();
        found["metadata"]["name"].as_str().map(str::to_owned)
    })
}

#[test]
fn an_agent_killed_at_any_recorded_event_asks_nothing_twice() {
    let (home, stage) = (Home::new(), Stage::start());
    let server = home.serve();
    stage.agents().iter().for_each(|agent| drop(create(server.api, agent)));
    server.stop();
    let undisturbed = Run { home: &home, stage: &stage, name: "undisturbed".into(), kill: None }.go().unwrap();
    assert_eq!(undisturbed.output, "all is done");
    assert_eq!(undisturbed.calls.values().collect::<Vec<_>>(), [&1; 6], "{:?}", undisturbed.calls);

    let (mut kills, mut interrupted, mut repeated) = (0, 0, 0);
    for whose in [Whose::Desk, Whose::Clerk] {
        for number in 1..EVENTS_MAX {
            let name = format!("{whose:?}-{number}").to_lowercase();
            let Some(told) = (Run { home: &home, stage: &stage, name: name.clone(), kill: Some((whose, number)) }).go()
            else {
                assert!(number > 10, "{whose:?} has {number} events");
                break;
            };
            (kills, interrupted) = (kills + 1, interrupted + usize::from(told.interrupted));
            repeated += usize::from(told.calls.values().any(|count| *count > 1));
            check(&name, &undisturbed, &told);
        }
    }
    check_tools(&stage, kills + 3);
    assert!(interrupted * 2 > kills, "{interrupted} of {kills} kills came before the end");
    // Otherwise no kill came while a model was answering, and the test would have shown little.
    assert!(repeated > 0, "{repeated} of {kills} kills came while a model was answering");
}

fn check(name: &str, undisturbed: &Told, told: &Told) {
    assert_eq!(told.output, undisturbed.output, "{name}");
    assert_eq!(
        (&told.answer["state"], &told.answer["output"]),
        (&undisturbed.answer["state"], &undisturbed.answer["output"]),
        "{name}"
    );
    let asked: Vec<_> = told.calls.keys().collect();
    assert_eq!(asked, undisturbed.calls.keys().collect::<Vec<_>>(), "{name}: the same was asked");
    for call in &told.recorded {
        assert_eq!(told.calls[call], 1, "{name}: {call:?} was recorded and asked for again");
    }
    // One kill can catch one call of each run in flight.
    assert!(told.calls.values().filter(|count| **count > 1).count() <= 2, "{name}: {:?}", told.calls);
    assert!(told.calls.values().all(|count| *count <= 2), "{name}: {:?}", told.calls);
}

/// What may not be repeated was done once in each run; what may be was done with one key.
fn check_tools(stage: &Stage, runs: usize) {
    let asked = stage.asked.lock().unwrap();
    for path in ["/look", "/note", "/charge", "/check"] {
        let keys: Vec<&str> = asked.iter().filter(|(found, _)| found == path).map(|(_, key)| key.as_str()).collect();
        let mut different = keys.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), runs, "{path}: one key for each run");
        if path == "/charge" {
            assert_eq!(keys.len(), runs, "a charge is made once");
        }
    }
}
