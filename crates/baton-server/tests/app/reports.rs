//! Events to others: what happens to executions, and what workflows emit, to a receiver that is not always there.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use baton_proto::v1::{self, PublishEventsRequest, Workflow, WorkflowExecution};
use baton_server::{Lifecycle, ReportOptions, ServerOptions};
use serde_json::{Value, json};

use crate::{
    events::event,
    support::{Server, document, run, trivial},
};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_mins(1);

/// A receiver of events.
#[derive(Default)]
struct Receiver {
    taken: Mutex<Vec<Value>>,
    refused: Mutex<Vec<Value>>,
    /// What it answers instead of taking an event; 0: it takes it.
    refuses_with: AtomicU16,
}

impl Receiver {
    async fn start() -> (Arc<Self>, String) {
        let receiver = Arc::<Self>::default();
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}/sink?key=k", listener.local_addr().unwrap());
        let router = Router::new().route("/sink", post(take)).with_state(Arc::clone(&receiver));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn refuse_with(&self, status: u16) {
        self.refuses_with.store(status, SeqCst);
    }

    /// Waits for what is looked for in the events that it took, each once, in order.
    async fn took<T>(&self, look: impl Fn(&[Value]) -> Option<T>) -> T {
        let looking = async {
            loop {
                let mut taken = self.taken.lock().unwrap().clone();
                let mut ids = std::collections::BTreeSet::new();
                taken.retain(|event| ids.insert((event["source"].to_string(), event["id"].to_string())));
                if let Some(found) = look(&taken) {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, looking).await.expect("they come")
    }

    async fn was_asked(&self) {
        let looking = async {
            while self.refused.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, looking).await.expect("it is asked");
    }
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    headers: axum::http::HeaderMap,
    Json(event): Json<Value>,
) -> StatusCode {
    assert_eq!(headers["content-type"], "application/cloudevents+json; charset=UTF-8");
    match receiver.refuses_with.load(SeqCst) {
        0 => {
            receiver.taken.lock().unwrap().push(event);
            StatusCode::NO_CONTENT
        }
        status => {
            receiver.refused.lock().unwrap().push(event);
            StatusCode::from_u16(status).unwrap()
        }
    }
}

fn lifecycle(url: &str, level: Lifecycle) -> impl FnOnce(&mut ServerOptions) + use<> {
    let url = url.to_owned();
    move |options| {
        options.reports = ReportOptions { lifecycle_sink: Some(url), lifecycle: level, sink: None };
    }
}

/// The kinds of the events of an execution, if it is told of to its end.
fn whole(events: &[Value], name: &str) -> Option<Vec<String>> {
    let source = format!("/apis/baton.dev/v1/namespaces/default/workflowexecutions/{name}");
    let own = events.iter().filter(|event| event["source"] == source.as_str());
    let kinds: Vec<String> = own
        .map(|event| event["type"].as_str().unwrap().replace("io.serverlessworkflow.", "").replace(".v1", ""))
        .filter(|kind| !kind.ends_with("status-changed"))
        .collect();
    let ends = ["workflow.completed", "workflow.faulted", "workflow.cancelled"];
    kinds.last().is_some_and(|last| ends.contains(&last.as_str())).then_some(kinds)
}

const OF_TRIVIAL: [&str; 5] =
    ["workflow.started", "task.created", "task.started", "task.completed", "workflow.completed"];

#[tokio::test]
async fn an_execution_is_told_of_although_the_receiver_is_away_at_first() {
    let (receiver, url) = Receiver::start().await;
    receiver.refuse_with(503);
    let server = Server::start_with(lifecycle(&url, Lifecycle::Tasks)).await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    server.create::<WorkflowExecution>(run("run-1", "w")).await.unwrap();
    receiver.was_asked().await;
    receiver.refuse_with(0);
    let kinds = receiver.took(|events| whole(events, "run-1")).await;
    assert_eq!(kinds, OF_TRIVIAL);
    let first = receiver.took(|events| events.first().cloned()).await;
    let uid = server.app().get::<WorkflowExecution>("", "run-1").await.unwrap().metadata.unwrap().uid;
    assert_eq!(
        (first["id"].as_str().unwrap(), &first["data"]["name"]),
        (format!("{uid}/1").as_str(), &json!("run-1.default"))
    );
    assert_eq!(first["data"]["definition"], json!({"name": "w", "namespace": "test", "version": "1.0.0"}));
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_over_a_restart_and_what_was_there_before_is_not_told() {
    let (receiver, url) = Receiver::start().await;
    let server = Server::start().await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    server.create::<WorkflowExecution>(run("before", "w")).await.unwrap();
    server.ended::<WorkflowExecution>("before").await;
    let server = server.restart_with(lifecycle(&url, Lifecycle::Tasks)).await;
    server.create::<WorkflowExecution>(run("run-1", "w")).await.unwrap();
    receiver.took(|events| whole(events, "run-1")).await;
    receiver.refuse_with(500);
    for number in 2..6 {
        server.create::<WorkflowExecution>(run(&format!("run-{number}"), "w")).await.unwrap();
        server.ended::<WorkflowExecution>(&format!("run-{number}")).await;
    }
    receiver.was_asked().await;
    let server = server.restart_with(lifecycle(&url, Lifecycle::Tasks)).await;
    receiver.refuse_with(0);
    for number in 1..6 {
        let kinds = receiver.took(|events| whole(events, &format!("run-{number}"))).await;
        assert_eq!(kinds, OF_TRIVIAL, "run-{number}");
    }
    assert_eq!(receiver.took(|events| Some(whole(events, "before"))).await, None);
    server.stop().await;
}

#[tokio::test]
async fn an_execution_past_its_time_waits_until_its_end_was_told() {
    let (receiver, url) = Receiver::start().await;
    receiver.refuse_with(503);
    let sink = lifecycle(&url, Lifecycle::Workflows);
    let server = Server::start_with(|options| {
        sink(options);
        options.upkeep.period = Duration::from_millis(20);
    })
    .await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let mut short = run("short", "w");
    short["spec"]["ttlSecondsAfterFinished"] = json!(0);
    server.create::<WorkflowExecution>(short).await.unwrap();
    receiver.was_asked().await;
    // An agent's execution is nothing that is told of, so it goes: upkeep has had its rounds.
    server.create::<v1::Agent>(crate::support::agent("a")).await.unwrap();
    let other =
        json!({"metadata": {"name": "other"}, "spec": {"agent": "a", "message": "hi", "ttlSecondsAfterFinished": 0}});
    server.create::<v1::AgentExecution>(other).await.unwrap();
    gone::<v1::AgentExecution>(&server, "other").await;
    assert!(server.app().get::<WorkflowExecution>("", "short").await.is_ok());
    receiver.refuse_with(0);
    let kinds = receiver.took(|events| whole(events, "short")).await;
    assert_eq!(kinds, ["workflow.started", "workflow.completed"]);
    gone::<WorkflowExecution>(&server, "short").await;
    server.stop().await;
}

async fn gone<R: baton_server::app::ServedResource>(server: &Server, name: &str) {
    let looking = async {
        while server.app().get::<R>("", name).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, looking).await.expect("it goes");
}

#[tokio::test]
async fn an_event_that_is_refused_for_what_it_is_stands_before_no_other() {
    let (receiver, url) = Receiver::start().await;
    receiver.refuse_with(422);
    let server = Server::start_with(lifecycle(&url, Lifecycle::Workflows)).await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    server.create::<WorkflowExecution>(run("refused", "w")).await.unwrap();
    let all = async {
        // Started and completed, and that the status changed, twice.
        while receiver.refused.lock().unwrap().len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("all are tried");
    receiver.refuse_with(0);
    server.create::<WorkflowExecution>(run("taken", "w")).await.unwrap();
    receiver.took(|events| whole(events, "taken")).await;
    assert_eq!(receiver.refused.lock().unwrap().len(), 4, "each was tried once");
    server.stop().await;
}

#[tokio::test]
async fn what_workflows_emit_goes_to_the_sink_in_order_and_nothing_else() {
    let (receiver, url) = Receiver::start().await;
    receiver.refuse_with(503);
    let sink = || {
        let url = url.clone();
        |options: &mut ServerOptions| options.reports.sink = Some(url)
    };
    let server = Server::start_with(sink()).await;
    let emit = |n: i32| json!({"emit": {"event": {"with": {"type": "said", "source": "https://example.com/w", "data": {"n": n}}}}});
    let tasks = json!([{"a": emit(1)}, {"b": emit(2)}, {"c": emit(3)}]);
    let execution = json!({"metadata": {"name": "run"}, "spec": {"definition": document("w", &tasks)}});
    let outside = Json::<Value>(event("outside", "said", &json!({"n": 0})));
    let events = vec![v1::Json::from_value(&outside.0)];
    server.app().publish_events(&PublishEventsRequest { namespace: String::new(), events }).await.unwrap();
    server.create::<WorkflowExecution>(execution).await.unwrap();
    server.ended::<WorkflowExecution>("run").await;
    receiver.was_asked().await;
    let server = server.restart_with(sink()).await;
    receiver.refuse_with(0);
    let said = receiver.took(|events| (events.len() >= 3).then(|| events.to_vec())).await;
    let numbers: Vec<Value> = said.iter().map(|event| event["data"]["n"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    server.stop().await;
}
