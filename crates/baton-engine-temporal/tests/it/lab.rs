//! A Temporal server, a host, workers and activities for one test.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use baton_engine::{Host as _, HostState, HostedInput, HostedRun, HostedStart};
use baton_engine_temporal::{
    ActivityTimes, Connection, RunLimits, TemporalHost, TemporalOptions, TroubleMarks, Worker, WorkerOptions,
};
use baton_execution::{
    Activities, ActivityTask, Fault, HistoryEvent, HistoryEventKind, Input, OperationId, Outcome, fault_type,
};
use baton_proto::{encode_event, history_v1};
use baton_temporal_testing::TemporalServer;
use baton_types::Uid;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    books::Books,
    script::{Do, Scripts},
};

/// Activities of tests.
pub(crate) struct Hands {
    /// How often each was begun.
    begun: Mutex<BTreeMap<OperationId, usize>>,
    /// `gate` passes once for each permit.
    pub(crate) gate: Semaphore,
    /// How many were dropped before their end.
    dropped: Arc<AtomicUsize>,
    hanging: AtomicUsize,
    books: Arc<Books>,
}

impl Hands {
    pub(crate) fn begun(&self, position: &str) -> usize {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.get(&OperationId::new(position, 1)).copied().unwrap_or_default()
    }

    /// How many hang, or have hung.
    pub(crate) fn hangs(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Each one that was begun more than once.
    pub(crate) fn repeated(&self) -> Vec<OperationId> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id.clone()).collect()
    }
}

struct Dropped(Arc<AtomicUsize>, Arc<Books>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.look_again();
    }
}

const NAMES: [&str; 6] = ["echo", "fail", "gate", "hang", "long", "wide"];

#[async_trait]
impl Activities for Hands {
    async fn run(&self, task: ActivityTask) -> Result<Value, Fault> {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner).entry(task.id).or_default() += 1;
        self.books.look_again();
        match task.activity.as_str() {
            "echo" => Ok(task.input),
            "fail" => Err(Fault::new(fault_type::COMMUNICATION, 503, "it is closed")),
            "gate" => {
                self.gate.acquire().await.expect("it is never closed").forget();
                Ok(task.input)
            }
            "long" => Ok(json!("x".repeat(100_000))),
            "wide" => Ok(json!("x".repeat(20_000))),
            _ => {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                self.books.look_again();
                let _noticed = Dropped(Arc::clone(&self.dropped), Arc::clone(&self.books));
                std::future::pending().await
            }
        }
    }
}

pub(crate) struct Lab {
    pub(crate) books: Arc<Books>,
    pub(crate) hands: Arc<Hands>,
    pub(crate) host: TemporalHost,
    queue: String,
    options: TemporalOptions,
}

/// An execution that was started.
pub(crate) struct Started {
    pub(crate) uid: Uid,
    pub(crate) run: HostedRun,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::at(TemporalServer::shared())
    }

    /// At a server that a test has for itself.
    pub(crate) fn at(server: &TemporalServer) -> Self {
        Self::with(TemporalOptions { address: server.address(), ..TemporalOptions::default() })
    }

    pub(crate) fn in_namespace(namespace: &str) -> Self {
        let address = TemporalServer::shared().address();
        Self::with(TemporalOptions { address, namespace: namespace.to_owned(), ..TemporalOptions::default() })
    }

    fn with(options: TemporalOptions) -> Self {
        static LABS: AtomicUsize = AtomicUsize::new(0);
        Self::on(format!("lab-{}", LABS.fetch_add(1, Ordering::Relaxed)), options)
    }

    /// Another installation, with the same task queue.
    pub(crate) fn beside(&self) -> Self {
        Self::on(self.queue.clone(), self.options.clone())
    }

    fn on(queue: String, options: TemporalOptions) -> Self {
        let books = Arc::new(Books::default());
        let hands = Hands {
            begun: Mutex::default(),
            gate: Semaphore::new(0),
            dropped: Arc::default(),
            hanging: AtomicUsize::new(0),
            books: Arc::clone(&books),
        };
        let connection = Connection::start(options.clone()).expect("the options are right");
        let marks = TroubleMarks { attempts: 1, not_taken: Duration::ZERO };
        let host = TemporalHost::new(connection, queue.clone()).with_trouble_marks(marks);
        Self { books, hands: Arc::new(hands), host, queue, options }
    }

    pub(crate) fn options(&self) -> WorkerOptions {
        WorkerOptions {
            times: ActivityTimes { heartbeat: Duration::from_secs(2), heartbeat_once: Duration::from_secs(2) },
            shutdown_grace: Duration::from_secs(5),
            ..WorkerOptions::new(self.queue.clone(), NAMES)
        }
    }

    /// With a worker that ends runs at so many events.
    pub(crate) fn options_renewing(&self, continue_as_new_events: u32) -> WorkerOptions {
        let limits = RunLimits { continue_as_new_events, ..RunLimits::default() };
        WorkerOptions { limits, ..self.options() }
    }

    pub(crate) fn worker(&self) -> Worker {
        self.worker_with(self.options())
    }

    pub(crate) fn worker_with(&self, options: WorkerOptions) -> Worker {
        let connection = Connection::start(self.options.clone()).expect("the options are right");
        Worker::start(connection, options, self.books.clone(), Arc::new(Scripts), self.hands.clone())
            .expect("a worker can be started")
    }

    pub(crate) async fn start(&self, name: &str, list: &[Do]) -> Started {
        self.start_as(self.books.open(name, list, Value::Null)).await
    }

    pub(crate) async fn start_as(&self, start: HostedStart) -> Started {
        let uid = start.uid;
        let run = self.connected(|| self.host.start(start.clone())).await;
        Started { uid, run }
    }

    /// What the host says once it is connected.
    async fn connected<T, F>(&self, mut ask: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, baton_engine::HostError>>,
    {
        for _ in 0..600 {
            match ask().await {
                Ok(value) => return value,
                Err(error) => assert!(matches!(error, baton_engine::HostError::Unavailable(_)), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the host does not become available")
    }

    pub(crate) async fn give(&self, started: &Started, inputs: Vec<Input>) {
        let events = inputs.into_iter().map(|input| event(&self.books, input)).collect();
        self.give_as(started, HostedInput::Events(events)).await;
    }

    /// Gives something for as long as the host is not available, as the engine's outbox does.
    pub(crate) async fn give_as(&self, started: &Started, input: HostedInput) {
        self.connected(|| self.host.give(&started.run.workflow_id, input.clone())).await;
    }

    /// The answer to a wait, as it is given.
    pub(crate) fn event_of_answer(&self, position: &str, output: Value) -> HostedInput {
        let id = OperationId::new(position, 1);
        HostedInput::Events(vec![event(
            &self.books,
            Input::CallbackAnswered { id, outcome: Outcome::Completed(output), used: None },
        )])
    }

    pub(crate) async fn answer(&self, started: &Started, position: &str, output: Value) {
        let id = OperationId::new(position, 1);
        self.give(started, vec![Input::CallbackAnswered { id, outcome: Outcome::Completed(output), used: None }]).await;
    }

    pub(crate) async fn until_async(&self, what: &str, ask: impl AsyncFn() -> bool) {
        for _ in 0..600 {
            if ask().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it did not come to this: {what}");
    }

    /// Why the workflow does not get on, once the host sees a reason.
    pub(crate) async fn trouble(&self, started: &Started) -> String {
        self.trouble_with(started, "").await
    }

    /// The same, once there are certain words in it.
    pub(crate) async fn trouble_with(&self, started: &Started, words: &str) -> String {
        for _ in 0..1200 {
            let state = self.host.state(&started.run.workflow_id).await.expect("the host can be asked");
            match state {
                HostState::Running { trouble: Some(trouble), .. } if trouble.contains(words) => return trouble,
                HostState::Running { .. } => tokio::time::sleep(Duration::from_millis(25)).await,
                ended => panic!("it ended: {ended:?}"),
            }
        }
        panic!("nothing is said of any trouble")
    }

    /// What the host says once the workflow has ended there.
    pub(crate) async fn ended(&self, started: &Started) -> HostState {
        for _ in 0..1200 {
            match self.host.state(&started.run.workflow_id).await.expect("the host can be asked") {
                HostState::Running { .. } => tokio::time::sleep(Duration::from_millis(25)).await,
                state => return state,
            }
        }
        panic!("the workflow does not end")
    }
}

/// An input as the engine gives it: long data is in the books.
pub(crate) fn event(books: &Books, input: Input) -> history_v1::HistoryEvent {
    let mut long = Vec::new();
    let event = encode_event(&HistoryEvent { number: 0, time_ms: 0, kind: HistoryEventKind::Input(input) }, &mut long);
    for (digest, content) in long {
        books.put(digest, content.into());
    }
    event
}
