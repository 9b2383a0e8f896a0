//! Sessions: one turn at a time, in order; what a turn is given of those before it; what becomes of it in the end.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::Request};
use baton_execution::fault_type;
use baton_proto::v1::{AgentExecution, DeleteRequest, ExportSessionRequest, ExportedTurn, Session, WorkflowExecution};
use baton_types::ErrorKind;
use futures::{TryStreamExt as _, future::join_all};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::support::{REAL, Server, fields, read};

/// A model that answers `re: ` and the last thing said, when it is let; and remembers what it was told.
#[derive(Clone)]
struct Model {
    url: String,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    /// A permit for each answer.
    let_answer: Arc<Semaphore>,
}

impl Model {
    async fn start(permits: usize) -> Self {
        let (seen, let_answer) = (Arc::<Mutex<Vec<Vec<String>>>>::default(), Arc::new(Semaphore::new(permits)));
        let (memory, gate) = (Arc::clone(&seen), Arc::clone(&let_answer));
        let app = Router::new().fallback(move |request: Request| {
            let (memory, gate) = (Arc::clone(&memory), Arc::clone(&gate));
            async move {
                let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let said: Vec<String> = body["messages"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|it| it["content"].as_str().unwrap_or("?").to_owned())
                    .collect();
                memory.lock().unwrap().push(said.clone());
                gate.acquire().await.unwrap().forget();
                let last = said.last().unwrap();
                let text = if last.starts_with("Summarise") {
                    format!("SUMMARY of {}", said.len() - 2)
                } else {
                    format!("re: {last}")
                };
                let usage = json!({"prompt_tokens": 100, "completion_tokens": 10});
                axum::Json(
                    json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}),
                )
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, seen, let_answer }
    }

    /// What it was told, without the instructions.
    fn told(&self) -> Vec<Vec<String>> {
        self.seen.lock().unwrap().iter().map(|said| said[1..].to_vec()).collect()
    }

    fn definition(&self) -> Value {
        json!({"instructions": "Answer.", "model": {"name": "m", "baseUrl": self.url}})
    }

    fn turn(&self, name: &str, session: &str, message: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"definition": self.definition(), "session": session, "message": message}})
    }

    /// Waits until so many questions have come.
    async fn asked(&self, count: usize) {
        until(async || self.seen.lock().unwrap().len() >= count).await;
    }
}

/// Waits for something to become true.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), wait).await.expect("it comes true");
}

fn phase(execution: &AgentExecution) -> &str {
    &execution.status.as_ref().unwrap().phase
}

fn waiting(execution: &AgentExecution) -> String {
    let conditions = &execution.status.as_ref().unwrap().conditions;
    let waiting = conditions.iter().find(|it| it.r#type == "Waiting").unwrap();
    format!("{} {}: {}", waiting.status, waiting.reason, waiting.message)
}

async fn session(server: &Server, name: &str) -> Session {
    server.app().get("", name).await.unwrap()
}

async fn execution(server: &Server, name: &str) -> AgentExecution {
    server.app().get("", name).await.unwrap()
}

/// Waits until nobody has a turn.
async fn idle(server: &Server, name: &str) -> Session {
    until(async || {
        let status = session(server, name).await.status.unwrap();
        status.active.is_none() && status.queued == 0
    })
    .await;
    session(server, name).await
}

async fn export(server: &Server, name: &str, after: i32) -> Vec<ExportedTurn> {
    let request = ExportSessionRequest { namespace: "default".into(), name: name.into(), after };
    server.app().export_session(&request).await.unwrap().try_collect().await.unwrap()
}

async fn delete(server: &Server, name: &str) -> bool {
    let request = DeleteRequest { name: name.into(), ..DeleteRequest::default() };
    server.app().delete::<Session>(&request).await.unwrap().gone
}

#[tokio::test]
async fn executions_created_at_once_have_their_turns_one_at_a_time_and_in_order() {
    const COUNT: usize = 20;
    let (server, model) = (Server::start().await, Model::start(0).await);
    let create = |index: usize| {
        let object = model.turn(&format!("t{index}"), "s", &format!("m{index}"));
        let server = &server;
        async move { server.create::<AgentExecution>(object).await.unwrap() }
    };
    join_all((0..COUNT).map(create)).await;
    // The order is that of the places that were taken.
    let status = session(&server, "s").await.status.unwrap();
    assert_eq!((status.queued, status.queue.len(), status.turns), (19, 10, 0));
    let first = status.active.unwrap().name;
    for done in 0..COUNT {
        model.asked(done + 1).await;
        assert_eq!(model.seen.lock().unwrap().len(), done + 1, "nobody else was asked meanwhile");
        model.let_answer.add_permits(1);
    }
    let ended = idle(&server, "s").await.status.unwrap();
    assert_eq!((ended.turns, ended.kept_turns, ended.messages, ended.tokens), (20, 20, 40, 110));
    // What the model was told is all that was said before, and the new message.
    let told = model.told();
    assert_eq!(told[0], [format!("m{}", &first[1..])]);
    for (before, after) in told.iter().zip(&told[1..]) {
        let answer = format!("re: {}", before.last().unwrap());
        assert_eq!(after[..before.len()], before[..]);
        assert_eq!((after[before.len()].as_str(), after.len()), (answer.as_str(), before.len() + 2));
    }
    let turns = export(&server, "s", 0).await;
    let numbers: Vec<i32> = turns.iter().map(|turn| turn.turn).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    for (turn, told) in turns.iter().zip(&told) {
        let told = told.last().unwrap();
        assert_eq!(turn.execution, format!("t{}", &told[1..]));
        assert!(
            turn.messages[0].text.contains(&format!("\"{told}\""))
                && turn.messages[1].text.contains(&format!("re: {told}"))
        );
        let own = execution(&server, &turn.execution).await;
        let status = own.status.unwrap();
        assert_eq!((status.phase.as_str(), status.session.unwrap().turn), ("Completed", turn.turn));
        until(async || execution(&server, &turn.execution).await.metadata.unwrap().finalizers.is_empty()).await;
    }
    assert_eq!(export(&server, "s", 18).await, turns[18..]);
    server.stop().await;
}

#[tokio::test]
async fn one_that_waits_says_for_whom_and_can_be_ended_like_any_other() {
    let (server, model) = (Server::start().await, Model::start(0).await);
    for name in ["a", "b", "c", "d", "e"] {
        server.create::<AgentExecution>(model.turn(name, "s", name)).await.unwrap();
    }
    model.asked(1).await;
    let b = execution(&server, "b").await;
    assert_eq!((phase(&b), waiting(&b).as_str()), ("Pending", "True Session: its turn in session 's', after 'a'"));
    assert!(b.status.unwrap().start_time.is_none());
    // Nothing of it has happened, so its end is all there is of it.
    server.app().cancel::<AgentExecution>("", "b", "no need").await.unwrap();
    assert_eq!(phase(&server.ended::<AgentExecution>("b").await), "Cancelled");
    until(async || waiting(&execution(&server, "c").await).ends_with("after 'a'")).await;
    server.app().terminate::<AgentExecution>("", "c", "no need").await.unwrap();
    let request = DeleteRequest { name: "d".into(), ..DeleteRequest::default() };
    server.app().delete::<AgentExecution>(&request).await.unwrap();
    until(async || server.app().get::<AgentExecution>("", "d").await.is_err()).await;
    until(async || session(&server, "s").await.status.unwrap().queue == ["e"]).await;
    model.let_answer.add_permits(2);
    assert_eq!(phase(&server.ended::<AgentExecution>("e").await), "Completed");
    assert_eq!(idle(&server, "s").await.status.unwrap().turns, 2);
    assert_eq!(model.told(), [vec!["a"], vec!["a", "re: a", "e"]]);
    server.stop().await;
}

#[tokio::test]
async fn a_suspended_one_keeps_its_place_and_time_runs_from_the_beginning_of_the_turn() {
    let (server, model) = (Server::start().await, Model::start(10).await);
    let mut held = model.turn("held", "s", "one");
    held["spec"]["suspend"] = true.into();
    server.create::<AgentExecution>(held).await.unwrap();
    let mut next = model.turn("next", "s", "two");
    next["spec"]["suspend"] = true.into();
    next["spec"]["timeout"] = "1h".into();
    server.create::<AgentExecution>(next).await.unwrap();
    until(async || phase(&execution(&server, "held").await) == "Suspended").await;
    // Resumed while it waits: that counts from its first step on.
    server.app().resume::<AgentExecution>("", "next").await.unwrap();
    assert_eq!(phase(&execution(&server, "next").await), "Pending");
    assert!(model.told().is_empty());
    server.app().resume::<AgentExecution>("", "held").await.unwrap();
    let (held, next) = (server.ended::<AgentExecution>("held").await, server.ended::<AgentExecution>("next").await);
    assert_eq!((phase(&held), phase(&next)), ("Completed", "Completed"));
    assert_eq!(model.told()[1], ["one", "re: one", "two"]);
    assert!(
        next.status.unwrap().start_time.unwrap().as_millis()
            >= held.status.unwrap().completion_time.unwrap().as_millis() / 1000 * 1000
    );
    server.stop().await;
}

#[tokio::test]
async fn a_turn_that_came_to_nothing_leaves_what_was_said() {
    let (server, model) = (Server::start().await, Model::start(0).await);
    server.create::<AgentExecution>(model.turn("a", "s", "one")).await.unwrap();
    model.asked(1).await;
    server.app().cancel::<AgentExecution>("", "a", "changed my mind").await.unwrap();
    model.let_answer.add_permits(10);
    idle(&server, "s").await;
    server.create::<AgentExecution>(model.turn("b", "s", "two")).await.unwrap();
    server.ended::<AgentExecution>("b").await;
    idle(&server, "s").await;
    assert_eq!(model.told()[1], ["one", "(This turn ended without an answer.)", "two"]);
    let phases: Vec<String> = export(&server, "s", 0).await.into_iter().map(|turn| turn.phase).collect();
    assert_eq!(phases, ["Cancelled", "Completed"]);
    server.stop().await;
}

#[tokio::test]
async fn a_session_goes_on_after_a_restart() {
    let (mut server, model) = (Server::start().await, Model::start(0).await);
    for name in ["a", "b", "c"] {
        server.create::<AgentExecution>(model.turn(name, "s", name)).await.unwrap();
    }
    model.asked(1).await;
    server = server.restart().await;
    model.let_answer.add_permits(10);
    assert_eq!(phase(&server.ended::<AgentExecution>("c").await), "Completed");
    idle(&server, "s").await;
    assert_eq!(model.told().last().unwrap(), &["a", "re: a", "b", "re: b", "c"]);
    server = server.restart().await;
    server.create::<AgentExecution>(model.turn("d", "s", "d")).await.unwrap();
    server.ended::<AgentExecution>("d").await;
    assert_eq!(model.told().last().unwrap().len(), 7);
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_session_takes_no_more_and_goes_when_the_last_has_had_its_turn() {
    let (server, model) = (Server::start().await, Model::start(0).await);
    for name in ["a", "b"] {
        server.create::<AgentExecution>(model.turn(name, "s", name)).await.unwrap();
    }
    model.asked(1).await;
    assert!(!delete(&server, "s").await);
    let refused = server.create::<AgentExecution>(model.turn("c", "s", "c")).await.unwrap_err();
    assert_eq!((refused.kind, refused.reason), (ErrorKind::FailedPrecondition, "SESSION_DELETING"));
    model.let_answer.add_permits(10);
    server.ended::<AgentExecution>("b").await;
    assert_eq!(model.told()[1], ["a", "re: a", "b"]);
    until(async || server.app().get::<Session>("", "s").await.is_err()).await;
    // Whoever names it now begins anew; what was an execution of the old one can still be read.
    server.create::<AgentExecution>(model.turn("d", "s", "d")).await.unwrap();
    server.ended::<AgentExecution>("d").await;
    assert_eq!(model.told()[2], ["d"]);
    assert_eq!(phase(&server.ended::<AgentExecution>("a").await), "Completed");
    idle(&server, "s").await;
    delete(&server, "s").await;
    until(async || server.app().get::<Session>("", "s").await.is_err()).await;
    server.stop().await;
}

#[tokio::test]
async fn an_execution_never_waits_for_one_above_it() {
    let (server, model) = (Server::start().await, Model::start(10).await);
    let ask = json!([{"ask": {"call": "baton.dev/agent", "with": {"agent": "clerk", "message": "hello", "session": "${ .session }"}}}]);
    let document =
        json!({"document": {"dsl": "1.0.3", "namespace": "test", "name": "flow", "version": "1.0.0"}, "do": ask});
    server
        .create::<baton_proto::v1::Workflow>(json!({"metadata": {"name": "flow"}, "spec": {"definition": document}}))
        .await
        .unwrap();
    server
        .create::<baton_proto::v1::Agent>(json!({"metadata": {"name": "clerk"}, "spec": model.definition()}))
        .await
        .unwrap();
    let script = json!({"conversations": [{"turns": [{"toolCalls": [{"name": "flow", "arguments": {"session": "s"}}]}, {"text": "told"}]}]});
    let tool = json!({"name": "flow", "description": "Asks.", "parameters": {"type": "object", "properties": {"session": {"type": "string"}}}, "workflow": {"name": "flow"}});
    let definition = json!({
        "instructions": "Ask.", "model": {"name": "m", "provider": "playback", "playback": script}, "tools": [tool], "policy": {"default": "allow"}
    });
    let top = json!({"metadata": {"name": "top"}, "spec": {"definition": definition, "session": "s", "message": "go"}});
    server.create::<AgentExecution>(top).await.unwrap();
    assert_eq!(phase(&server.ended::<AgentExecution>("top").await), "Completed");
    let (_, flows) = server.app().list::<WorkflowExecution>(&baton_proto::v1::ListRequest::default()).await.unwrap();
    let error = flows[0].status.clone().unwrap().error.unwrap();
    assert_eq!(error.r#type, fault_type::CONFIGURATION);
    assert!(error.detail.contains("session 's' is taken by 'top', which is above this execution"), "{}", error.detail);
    // Another session is none of its business.
    let flow = json!({"metadata": {"name": "other"}, "spec": {"workflow": "flow", "input": {"session": "t"}}});
    server.create::<WorkflowExecution>(flow).await.unwrap();
    assert_eq!(server.ended::<WorkflowExecution>("other").await.status.unwrap().phase, "Completed");
    server.stop().await;
}

#[tokio::test]
async fn the_agent_of_a_session_is_that_of_executions_that_name_none() {
    let (server, model) = (Server::start().await, Model::start(10).await);
    server
        .create::<baton_proto::v1::Agent>(json!({"metadata": {"name": "clerk"}, "spec": model.definition()}))
        .await
        .unwrap();
    server.create::<Session>(json!({"metadata": {"name": "s"}, "spec": {"agent": "clerk"}})).await.unwrap();
    let object = json!({"metadata": {"name": "a"}, "spec": {"session": "s", "message": "hello"}});
    let made = server.create::<AgentExecution>(object).await.unwrap();
    assert_eq!(made.spec.unwrap().agent, "clerk");
    assert_eq!(phase(&server.ended::<AgentExecution>("a").await), "Completed");
    let nobody = json!({"metadata": {"name": "b"}, "spec": {"session": "t", "message": "hello"}});
    assert_eq!(fields(&server.create::<AgentExecution>(nobody).await.unwrap_err()), ["spec"]);
    server.stop().await;
}

#[tokio::test]
async fn older_turns_are_left_out_or_summarised_as_the_session_says() {
    let (server, model) = (Server::start().await, Model::start(100).await);
    let say = async |session: &str, name: &str| {
        server.create::<AgentExecution>(model.turn(&format!("{session}-{name}"), session, name)).await.unwrap();
        let ended = server.ended::<AgentExecution>(&format!("{session}-{name}")).await;
        assert_eq!(phase(&ended), "Completed");
        idle(&server, session).await;
        ended.status.unwrap().usage.unwrap()
    };
    let last = json!({"metadata": {"name": "last"}, "spec": {"compaction": {"policy": "keepLast", "keepLast": 2}}});
    server.create::<Session>(last).await.unwrap();
    for name in ["a", "b", "c", "d"] {
        say("last", name).await;
    }
    assert_eq!(model.told()[3], ["b", "re: b", "c", "re: c", "d"]);
    assert_eq!(export(&server, "last", 0).await.len(), 4);

    model.seen.lock().unwrap().clear();
    let compaction = json!({"policy": "summarise", "keepLast": 1, "atBytes": 100});
    let summed = json!({"metadata": {"name": "sum"}, "spec": {"compaction": compaction}});
    server.create::<Session>(summed).await.unwrap();
    let mut calls = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        calls.push(say("sum", name).await.model_calls);
    }
    // Two turns have more than 100 bytes: before the third, the first is summarised; and so on with the summary.
    assert_eq!(calls, [1, 1, 2, 2, 2]);
    let told = model.told();
    assert_eq!(told[2][..3], ["a", "re: a", "Summarise the conversation above."]);
    assert_eq!(told[3][1..], ["b", "re: b", "c"]);
    assert!(told[3][0].ends_with("SUMMARY of 2"), "{}", told[3][0]);
    let status = session(&server, "sum").await.status.unwrap();
    assert!(status.summarised && status.turns == 5 && status.kept_turns < 4);
    let turns = export(&server, "sum", 0).await;
    assert_eq!((turns.len(), turns[2].summary.as_str(), turns[1].summary.as_str()), (5, "SUMMARY of 2", ""));
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_session_is_told_at_once_and_its_spec_can_be_changed() {
    let server = Server::start().await;
    let spec = json!({"agent": "No", "retention": "soon", "ttl": "0s", "compaction": {"policy": "forget", "keepLast": 0, "atTokens": 0}});
    let refused = server.create::<Session>(json!({"metadata": {"name": "s"}, "spec": spec})).await.unwrap_err();
    let wrong = ["spec.agent", "spec.compaction.atTokens", "spec.compaction.keepLast", "spec.compaction.keepLast"];
    assert_eq!(fields(&refused)[..2], wrong[..2]);
    assert!(fields(&refused).ends_with(&["spec.compaction.policy".into(), "spec.retention".into(), "spec.ttl".into()]));
    server.create::<Session>(json!({"metadata": {"name": "s"}, "spec": {}})).await.unwrap();
    let patch = json!({"spec": {"retention": "1h", "compaction": {"policy": "keepLast", "keepLast": 3}}});
    let changed = server.app().patch::<Session>("", "s", patch, REAL).await.unwrap().object;
    assert_eq!(changed.metadata.unwrap().generation, 2);
    let again = read::<Session>(json!({"metadata": {"name": "s"}}));
    assert_eq!(server.app().create(again, REAL).await.unwrap_err().kind, ErrorKind::AlreadyExists);
    server.stop().await;
}

#[tokio::test]
async fn a_session_past_its_time_goes_by_itself_but_never_in_the_middle_of_a_turn() {
    let server = Server::start_with(|options| options.upkeep.period = std::time::Duration::from_millis(50)).await;
    let model = Model::start(0).await;
    for (name, spec) in [("unused", json!({"retention": "1ms"})), ("old", json!({"ttl": "1ms"})), ("kept", json!({}))] {
        server.create::<Session>(json!({"metadata": {"name": name}, "spec": spec})).await.unwrap();
    }
    for name in ["unused", "old"] {
        until(async || server.app().get::<Session>("", name).await.is_err()).await;
    }
    server.create::<AgentExecution>(model.turn("a", "kept", "a")).await.unwrap();
    model.asked(1).await;
    // By now it is long over, but for the turn.
    let patch = json!({"spec": {"retention": "1ms"}});
    server.app().patch::<Session>("", "kept", patch, REAL).await.unwrap();
    let probe = json!({"metadata": {"name": "probe"}, "spec": {"retention": "1ms"}});
    server.create::<Session>(probe).await.unwrap();
    until(async || server.app().get::<Session>("", "probe").await.is_err()).await;
    assert!(session(&server, "kept").await.metadata.unwrap().deletion_timestamp.is_none());
    model.let_answer.add_permits(1);
    until(async || server.app().get::<Session>("", "kept").await.is_err()).await;
    assert_eq!(phase(&server.ended::<AgentExecution>("a").await), "Completed");
    server.stop().await;
}
