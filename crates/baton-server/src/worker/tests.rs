//! The ledger of a server elsewhere, against the service as it is served, over a scripted ledger.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use baton_activities::{Home, Homeless, Secret, Subscription};
use baton_engine::{HostedRun, HostedTask, Ledger, Report, Reported, Sealer};
use baton_execution::{ActivityTask, Emitter, Fault, OperationId, Origin, fault_type};
use baton_proto::history_v1::{CancelRequested, HistoryEvent, history_event::Attributes};
use baton_store::{Store, StoreOptions};
use baton_types::{ApiError, Digest, ErrorKind, Uid};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{MESSAGE_BYTES_MAX, RemoteLedger, WorkerKey, home::RemoteHome};
use crate::{
    app::App,
    grpc::WorkerSide,
    home::fault_of,
    leading::{Door, Post},
    programs::ProgramCache,
    serve::{Front, Serving, serve},
};

const UID: Uid = Uid::from_bytes([7; 16]);

/// What was asked, and what is answered.
#[derive(Default)]
struct Script {
    asked: Mutex<Vec<String>>,
    reports: Mutex<Vec<Report>>,
    reported: Mutex<VecDeque<Result<Reported, ApiError>>>,
    task: Mutex<Option<HostedTask>>,
}

impl Script {
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

#[async_trait]
impl Ledger for Script {
    async fn installation(&self) -> Result<String, ApiError> {
        Ok("5e1f".to_owned())
    }

    async fn report(&self, report: Report) -> Result<Reported, ApiError> {
        self.note(format!("report {} contents", report.contents.len()));
        self.reports.lock().unwrap().push(report);
        self.reported.lock().unwrap().pop_front().unwrap_or(Ok(Reported::Closed))
    }

    async fn task(&self, uid: Uid, id: OperationId) -> Result<Option<HostedTask>, ApiError> {
        self.note(format!("task {uid} {id}"));
        Ok(self.task.lock().unwrap().clone())
    }

    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, ApiError> {
        self.note("content".to_owned());
        let known = Bytes::from_static(b"known");
        Ok((digest == Digest::of(&known)).then_some(known))
    }

    async fn keep(&self, _uid: Uid, content: Bytes) -> Result<Digest, ApiError> {
        self.note(format!("keep {} bytes", content.len()));
        Ok(Digest::of(&content))
    }
}

#[async_trait]
impl Home for Script {
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Secret>>, Fault> {
        match name {
            "known" => Ok(Some(BTreeMap::from([("key".to_owned(), Secret::new(format!("of {namespace}\n")))]))),
            "broken" => Err(Fault::new(fault_type::CONFIGURATION, 400, "no key fits").non_retryable()),
            "busy" => Err(Fault::new(fault_type::COMMUNICATION, 503, "not now")),
            _ => Ok(None),
        }
    }

    async fn publish(&self, namespace: &str, event: Value) -> Result<(), Fault> {
        if namespace == "busy" {
            return Err(Fault::new(fault_type::COMMUNICATION, 503, "not now"));
        }
        self.note(format!("publish in {namespace} {event}"));
        Ok(())
    }

    async fn subscribe(&self, namespace: &str, subscription: Subscription) -> Result<(), Fault> {
        if namespace == "broken" {
            return Homeless.subscribe(namespace, subscription).await;
        }
        self.note(format!("subscribe in {namespace} {}", serde_json::to_string(&subscription).unwrap()));
        Ok(())
    }

    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, Fault> {
        Ledger::content(self, digest).await.map_err(|error| fault_of(&error))
    }
}

/// The way in to a server with this side for workers.
fn door_of(app: App, worker: Option<WorkerSide>, stopping: &CancellationToken) -> Door {
    let serving = Serving {
        app,
        metrics_page: Arc::new(String::new),
        stopping: stopping.clone(),
        egress: Arc::default(),
        temporal_compatible: false,
        worker,
    };
    let post = Arc::new(Post::default());
    post.lead(Front::new(serving).unwrap());
    Door::new(post, Arc::new(|| Ok(())), Arc::new(String::new), stopping.clone())
}

/// A server with a scripted ledger.
struct Served {
    script: Arc<Script>,
    key: WorkerKey,
    url: String,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
    folder: TempDir,
}

impl Served {
    async fn start(with_worker_side: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions { ballast_bytes: 0, ..StoreOptions::default() }).unwrap();
        let app = App::new(store, Arc::new(Sealer::new(&[1; 32])), 0, Arc::new(ProgramCache::default()));
        let key = WorkerKey::of(&Sealer::new(&[1; 32]));
        let script = Arc::new(Script::default());
        let stopping = CancellationToken::new();
        let side = WorkerSide {
            ledger: Arc::clone(&script) as Arc<dyn Ledger>,
            home: Arc::clone(&script) as Arc<dyn Home>,
            key: key.clone(),
        };
        let worker = with_worker_side.then_some(side);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let door = door_of(app, worker, &stopping);
        let serving = tokio::spawn(serve(listener, door, stopping.clone()));
        Self { script, key, url, stopping, serving, folder }
    }

    fn ledger(&self) -> RemoteLedger {
        RemoteLedger::new(&[&self.url], &self.key).unwrap()
    }

    /// Stops it. What is left is its folder.
    async fn stop(self) -> TempDir {
        self.stopping.cancel();
        self.serving.await.unwrap();
        self.folder
    }
}

fn report(contents: Vec<Bytes>) -> Report {
    let cancel = Attributes::CancelRequested(CancelRequested { reason: "enough".to_owned() });
    Report {
        uid: UID,
        run: HostedRun { workflow_id: "baton/default/a/x".to_owned(), run_id: "run".to_owned() },
        events: vec![HistoryEvent { number: 4, attributes: Some(cancel), ..HistoryEvent::default() }],
        contents: contents.into_iter().map(|it| (Digest::of(&it), it)).collect(),
        want_state: true,
    }
}

#[tokio::test]
async fn every_answer_comes_back_as_it_was_given() {
    let served = Served::start(true).await;
    let ledger = served.ledger();
    ledger.check().await.unwrap();
    let state = Digest::of(b"state");
    for answer in [
        Reported::Taken { state: None },
        Reported::Taken { state: Some(state) },
        Reported::Diverged { state },
        Reported::Closed,
    ] {
        served.script.reported.lock().unwrap().push_back(Ok(answer.clone()));
        let sent = report(vec![Bytes::from_static(b"long")]);
        assert_eq!(ledger.report(sent.clone()).await.unwrap(), answer);
        assert_eq!(served.script.reports.lock().unwrap().pop().unwrap(), sent);
    }
    assert_eq!(ledger.task(UID, OperationId::new("/do/0/a", 2)).await.unwrap().map(|it| it.token), None);
    let task = HostedTask {
        task: ActivityTask {
            execution: UID,
            namespace: "default".to_owned(),
            name: "a".to_owned(),
            id: OperationId::new("/do/0/a", 2),
            idempotency_key: format!("{UID}//do/0/a/2"),
            activity: "http".to_owned(),
            input: json!({"n": 9_007_199_254_740_993_i64, "token": "baton1.x", "list": [1.5, null]}),
            start_to_close_ms: 1234,
            emitter: Emitter::default(),
            origin: Origin::default(),
        },
        token: Some("baton1.x".to_owned()),
    };
    *served.script.task.lock().unwrap() = Some(task.clone());
    let found = ledger.task(UID, OperationId::new("/do/0/a", 2)).await.unwrap().unwrap();
    assert_eq!(format!("{found:?}"), format!("{task:?}"));
    served.script.asked();
    assert_eq!(ledger.content(Digest::of(b"known")).await.unwrap().unwrap(), "known");
    assert_eq!(ledger.content(Digest::of(b"unknown")).await.unwrap(), None);
    assert_eq!(ledger.installation().await.unwrap(), "5e1f");
    assert_eq!(ledger.keep(UID, Bytes::from_static(b"long")).await.unwrap(), Digest::of(b"long"));
    assert_eq!(served.script.asked(), ["content", "content", "keep 4 bytes"]);
    served.stop().await;
}

#[tokio::test]
async fn secrets_come_from_the_server_and_why_not_as_well() {
    let served = Served::start(true).await;
    let home = RemoteHome(served.ledger());
    let found = home.secret("prod", "known").await.unwrap().unwrap();
    assert_eq!(found, BTreeMap::from([("key".to_owned(), Secret::new("of prod\n"))]));
    assert_eq!(home.secret("prod", "unknown").await.unwrap(), None);
    for (name, detail) in [("broken", "no key fits"), ("busy", "not now")] {
        let (given, expected) = (home.secret("prod", name).await, served.script.secret("prod", name).await);
        assert_eq!(given, expected);
        assert_eq!(given.unwrap_err().detail.as_deref(), Some(detail));
    }
    let home = RemoteHome(RemoteLedger::new(&[&served.url], &WorkerKey::of(&Sealer::new(&[2; 32]))).unwrap());
    let refused = home.secret("prod", "known").await.unwrap_err();
    assert!(refused.non_retryable && refused.detail.unwrap().contains("worker key"));
    served.stop().await;
}

#[tokio::test]
async fn events_go_through_the_server() {
    let served = Served::start(true).await;
    let home = RemoteHome(served.ledger());
    home.publish("prod", json!({"id": "1", "data": 1.50})).await.unwrap();
    let subscription = Subscription {
        callback_token: "baton1.x".to_owned(),
        filters: vec![BTreeMap::from([("type".to_owned(), "a".to_owned())])],
        after: Some("7".to_owned()),
        since_ms: None,
        expires_ms: 9,
    };
    home.subscribe("prod", subscription.clone()).await.unwrap();
    let subscribed =
        r#"{"callbackToken":"baton1.x","filters":[{"type":"a"}],"after":"7","sinceMs":null,"expiresMs":9}"#;
    assert_eq!(
        served.script.asked(),
        [r#"publish in prod {"id":"1","data":1.5}"#.to_owned(), format!("subscribe in prod {subscribed}")]
    );
    let busy = home.publish("busy", json!({})).await.unwrap_err();
    assert!(!busy.non_retryable && busy.detail.unwrap() == "not now");
    assert!(home.subscribe("broken", subscription).await.unwrap_err().non_retryable);
    served.stop().await;
}

#[tokio::test]
async fn an_error_keeps_its_kind_its_reason_and_its_hint() {
    let served = Served::start(true).await;
    let ledger = served.ledger();
    for error in [
        ApiError::new(ErrorKind::Unavailable, "SHUTTING_DOWN", "the server is shutting down").hint("try again"),
        ApiError::new(ErrorKind::InvalidArgument, "FIELD_INVALID", "events[0]: cannot be read"),
        ApiError::new(ErrorKind::NotFound, "NOT_FOUND", "no such execution"),
        ApiError::new(ErrorKind::StorageFull, "STORAGE_FULL", "the disk is full"),
        ApiError::new(ErrorKind::ResourceExhausted, "OVERLOADED", "too much at once"),
        ApiError::new(ErrorKind::FailedPrecondition, "EXECUTION_STALLED", "another build is needed"),
        ApiError::internal("page 7 is torn"),
    ] {
        served.script.reported.lock().unwrap().push_back(Err(error.clone()));
        let told = ledger.report(report(Vec::new())).await.unwrap_err();
        assert_eq!(
            (told.kind, told.reason, told.message, told.hint),
            (error.kind, error.reason, error.message, error.hint)
        );
        assert_eq!(told.detail, None, "what only the log may know stays there");
    }
    served.stop().await;
}

#[tokio::test]
async fn without_the_key_nothing_is_answered() {
    let served = Served::start(true).await;
    let ledger = RemoteLedger::new(&[&served.url], &WorkerKey::parse(&"5".repeat(64)).unwrap()).unwrap();
    let told = ledger.check().await.unwrap_err();
    assert_eq!((told.kind, told.reason), (ErrorKind::Unauthenticated, "WORKER_KEY_REFUSED"));
    ledger.report(report(Vec::new())).await.unwrap_err();
    ledger.task(UID, OperationId::new("/do/0/a", 1)).await.unwrap_err();
    ledger.keep(UID, Bytes::new()).await.unwrap_err();
    assert_eq!(served.script.asked(), Vec::<String>::new(), "nothing reached the ledger");
    let why = ledger.refused().await;
    assert!(why.contains("not the one of this server") && why.contains("--worker-key-file"), "{why}");
    let channel = tonic::transport::Endpoint::from_shared(served.url.clone()).unwrap().connect().await.unwrap();
    let mut plain = baton_proto::worker_v1::worker_service_client::WorkerServiceClient::new(channel);
    for shown in [None, Some("Bearer "), Some("Basic x"), Some("bearer")] {
        let mut request = tonic::Request::new(baton_proto::worker_v1::GetContentRequest::default());
        if let Some(shown) = shown {
            request.metadata_mut().insert("authorization", shown.parse().unwrap());
        }
        let status = plain.get_content(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated, "{shown:?}: {status:?}");
    }
    assert!(!format!("{ledger:?}").contains("5555"), "{ledger:?}");
    served.stop().await;
}

#[tokio::test]
async fn what_is_too_large_for_one_message_goes_in_parts() {
    let served = Served::start(true).await;
    let ledger = served.ledger();
    let large = |byte: u8| Bytes::from(vec![byte; MESSAGE_BYTES_MAX / 4]);
    let sent = report((0..6).map(large).collect());
    assert_eq!(ledger.report(sent.clone()).await.unwrap(), Reported::Closed);
    let asked = served.script.asked();
    let kept = asked.iter().filter(|it| **it == format!("keep {} bytes", MESSAGE_BYTES_MAX / 4)).count();
    assert_eq!(asked.last().unwrap(), &format!("report {} contents", 6 - kept), "{asked:?}");
    assert!(kept > 0 && asked.len() == kept + 1, "{asked:?}");
    let told = ledger.keep(UID, Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1])).await.unwrap_err();
    assert_eq!(told.kind, ErrorKind::TooLarge, "{told:?}");
    served.stop().await;
}

#[tokio::test]
async fn what_is_malformed_is_refused_field_by_field() {
    let served = Served::start(true).await;
    let ledger = served.ledger();
    let mut forged = report(vec![Bytes::from_static(b"long")]);
    forged.contents[0].0 = Digest::of(b"other");
    let told = ledger.report(forged).await.unwrap_err();
    assert_eq!((told.kind, told.reason), (ErrorKind::InvalidArgument, "FIELD_INVALID"));
    assert!(told.message.contains("contents[0].digest"), "{}", told.message);
    assert_eq!(served.script.asked(), Vec::<String>::new());
    served.stop().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again_when_it_is_back() {
    let served = Served::start(true).await;
    let (ledger, url, key) = (served.ledger(), served.url.clone(), served.key.clone());
    ledger.check().await.unwrap();
    let folder = served.stop().await;
    let told = ledger.check().await.unwrap_err();
    assert_eq!((told.kind, told.reason), (ErrorKind::Unavailable, "SERVER_UNREACHABLE"), "{told:?}");
    assert!(told.message.contains(&url), "{told}");
    let app = App::new(
        Store::open(tempfile::tempdir().unwrap().path(), StoreOptions { ballast_bytes: 0, ..StoreOptions::default() })
            .unwrap(),
        Arc::new(Sealer::new(&[1; 32])),
        0,
        Arc::new(ProgramCache::default()),
    );
    let listener = TcpListener::bind(url.trim_start_matches("http://")).await.unwrap();
    let stopping = CancellationToken::new();
    let side = WorkerSide { ledger: Arc::new(Script::default()), home: Arc::new(Homeless), key };
    let door = door_of(app, Some(side), &stopping);
    let serving = tokio::spawn(serve(listener, door, stopping.clone()));
    ledger.check().await.unwrap();
    stopping.cancel();
    serving.await.unwrap();
    drop(folder);
}

#[tokio::test]
async fn a_server_without_temporal_says_so() {
    let served = Served::start(false).await;
    let told = served.ledger().check().await.unwrap_err();
    assert_eq!(told.kind, ErrorKind::Unimplemented);
    assert!(told.message.contains("runs the embedded engine"), "{told}");
    served.stop().await;
}

#[test]
fn only_http_addresses_are_taken() {
    let key = WorkerKey::parse(&"0".repeat(64)).unwrap();
    for address in ["https://127.0.0.1:1", "127.0.0.1:1", "here", "", "http://"] {
        let told = RemoteLedger::new(&[address], &key).unwrap_err().to_string();
        assert!(told.contains("allowed is http://HOST:PORT"), "{told}");
    }
}

#[tokio::test]
async fn of_several_servers_the_next_is_asked_when_one_does_not_answer() {
    let (first, second) = (Served::start(true).await, Served::start(true).await);
    let ledger = RemoteLedger::new(&[&first.url, &second.url], &first.key).unwrap();
    let known = Digest::of(b"known");
    assert_eq!(ledger.content(known).await.unwrap().unwrap(), "known");
    assert_eq!((first.script.asked().len(), second.script.asked().len()), (1, 0));
    first.stop().await;
    for _ in 0..2 {
        assert_eq!(ledger.content(known).await.unwrap().unwrap(), "known");
    }
    assert_eq!(second.script.asked().len(), 2);
    // What a server says of the execution is no reason to ask another.
    second.script.reported.lock().unwrap().push_back(Err(ApiError::new(
        ErrorKind::NotFound,
        "NOT_FOUND",
        "it is gone",
    )));
    assert_eq!(ledger.report(report(Vec::new())).await.unwrap_err().reason, "NOT_FOUND");
    second.stop().await;
    let error = ledger.content(known).await.unwrap_err();
    assert_eq!((error.kind, error.reason), (ErrorKind::Unavailable, "SERVER_UNREACHABLE"), "{error}");
    let none: [&str; 0] = [];
    assert!(RemoteLedger::new(&none, &WorkerKey::of(&Sealer::new(&[1; 32]))).is_err());
}
