//! A host that notes what it is told, a workflow driven by hand, and a caller that answers what it is told to.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use baton_engine::{
    CallerState, Delivery, Elsewhere, Engine, Execution, Host, HostError, HostState, HostedInput, HostedRun,
    HostedStart, Ledger, Pinned, Receiver, Report, Reported, Step,
    testing::{Place, Scripts, Site},
};
use baton_execution::{Activities, HistoryEvent, Input, Outcome, ProgramKind, Programs};
use baton_proto::{DataLoader, decode_event, encode_event};
use baton_types::{ApiError, Digest, ErrorKind, Uid};
use tokio::sync::Notify;

#[derive(Default)]
pub struct StubHost {
    pub starts: Mutex<Vec<HostedStart>>,
    pub given: Mutex<VecDeque<(String, HostedInput)>>,
    pub states: Mutex<HashMap<String, HostState>>,
    pub ended: Mutex<Vec<Uid>>,
    pub down: AtomicBool,
    changed: Notify,
}

impl StubHost {
    fn up(&self) -> Result<(), HostError> {
        if self.down.load(Ordering::SeqCst) { Err(HostError::Unavailable("down".to_owned())) } else { Ok(()) }
    }

    pub async fn started(&self, name: &str) -> HostedStart {
        self.wait(|| self.starts.lock().unwrap().iter().find(|start| start.name == name).cloned()).await
    }

    /// The next thing that the engine has for any workflow.
    pub async fn told(&self) -> HostedInput {
        self.wait(|| self.given.lock().unwrap().pop_front()).await.1
    }

    async fn wait<T>(&self, look: impl Fn() -> Option<T>) -> T {
        let work = async {
            loop {
                let next = self.changed.notified();
                if let Some(found) = look() {
                    return found;
                }
                let _ = tokio::time::timeout(Duration::from_millis(50), next).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), work).await.expect("the host is told")
    }
}

#[async_trait]
impl Host for StubHost {
    async fn start(&self, start: HostedStart) -> Result<HostedRun, HostError> {
        self.up()?;
        let run = run_of(&start);
        self.starts.lock().unwrap().push(start);
        self.changed.notify_waiters();
        Ok(run)
    }

    async fn give(&self, workflow_id: &str, input: HostedInput) -> Result<(), HostError> {
        self.up()?;
        self.given.lock().unwrap().push_back((workflow_id.to_owned(), input));
        self.changed.notify_waiters();
        Ok(())
    }

    async fn state(&self, workflow_id: &str) -> Result<HostState, HostError> {
        self.up()?;
        let running = HostState::Running { run_id: "run-1".to_owned(), trouble: None };
        Ok(self.states.lock().unwrap().get(workflow_id).cloned().unwrap_or(running))
    }

    async fn ended_since(&self, _since_ms: i64) -> Result<Vec<Uid>, HostError> {
        self.up()?;
        Ok(self.ended.lock().unwrap().clone())
    }

    async fn ready(&self) -> Result<(), HostError> {
        self.up()
    }
}

fn run_of(start: &HostedStart) -> HostedRun {
    HostedRun { workflow_id: format!("w/{}", start.name), run_id: "run-1".to_owned() }
}

/// A caller elsewhere: its tokens begin with `caller:`; those with `forbidden` in them are not answered.
#[derive(Default)]
pub struct StubCaller {
    /// What the next heartbeats of a token hear; the last one stays.
    pub says: Mutex<HashMap<Vec<u8>, CallerState>>,
    pub deliveries: Mutex<VecDeque<Delivery>>,
    pub told: Mutex<Vec<(Vec<u8>, Outcome)>>,
    pub heartbeats: Mutex<HashMap<Vec<u8>, u32>>,
}

#[async_trait]
impl Receiver for StubCaller {
    fn name(&self) -> &'static str {
        "stub"
    }

    fn accepts(&self, token: &[u8]) -> Option<Result<(), ApiError>> {
        let name = token.strip_prefix(b"caller:")?;
        let forbidden = name.starts_with(b"forbidden");
        Some(if forbidden { Err(ApiError::new(ErrorKind::FailedPrecondition, "FORBIDDEN", "no")) } else { Ok(()) })
    }

    async fn deliver(&self, token: &[u8], outcome: &Outcome) -> Delivery {
        let delivery = self.deliveries.lock().unwrap().pop_front().unwrap_or(Delivery::Accepted);
        if delivery == Delivery::Accepted {
            self.told.lock().unwrap().push((token.to_vec(), outcome.clone()));
        }
        delivery
    }

    async fn heartbeat(&self, token: &[u8]) -> CallerState {
        *self.heartbeats.lock().unwrap().entry(token.to_vec()).or_default() += 1;
        let waits = CallerState::Waits { again_after: Duration::from_millis(100) };
        self.says.lock().unwrap().get(token).cloned().unwrap_or(waits)
    }
}

/// Both of them.
#[derive(Default)]
pub struct There {
    pub host: Option<Arc<StubHost>>,
    pub caller: Arc<StubCaller>,
}

#[async_trait]
impl Place for There {
    async fn elsewhere(&self) -> Elsewhere {
        Elsewhere {
            host: self.host.clone().map(|host| host as Arc<dyn Host>),
            receivers: vec![Arc::clone(&self.caller) as Arc<dyn Receiver>],
        }
    }

    async fn begin(&self, _engine: &Engine, _programs: Arc<dyn Programs>, _activities: Arc<dyn Activities>) {}

    async fn end(&self) {}
}

pub async fn with_host() -> (Site, Arc<StubHost>, Arc<StubCaller>) {
    let (host, caller) = (Arc::new(StubHost::default()), Arc::new(StubCaller::default()));
    let place = There { host: Some(Arc::clone(&host)), caller: Arc::clone(&caller) };
    (Site::new(Arc::new(place)).await, host, caller)
}

pub async fn with_caller() -> (Site, Arc<StubCaller>) {
    let caller = Arc::new(StubCaller::default());
    (Site::new(Arc::new(There { host: None, caller: Arc::clone(&caller) })).await, caller)
}

struct Nothing;

impl DataLoader for Nothing {
    fn load(&self, _digest: &Digest) -> Option<Vec<u8>> {
        None
    }
}

/// A workflow as a host would run it, one input at a time.
pub struct Workflow {
    pub execution: Execution,
    pub start: HostedStart,
    engine: Engine,
    now_ms: i64,
}

impl Workflow {
    pub async fn of(site: &Site, start: HostedStart) -> Self {
        let definition = site.engine.content(start.digest).await.unwrap().expect("the pinned content");
        let pinned = Pinned { kind: ProgramKind::Workflow, digest: start.digest, definition: &definition };
        let execution = Execution::new(&Scripts, &pinned).expect("it loads");
        Self { execution, start, engine: site.engine.clone(), now_ms: 1_800_000_000_000 }
    }

    /// The first input.
    pub fn first(&self) -> Input {
        input_of(&self.start.started)
    }

    /// Takes an input, without reporting it.
    pub fn take(&mut self, input: Input) -> Vec<HistoryEvent> {
        self.now_ms += 1;
        let mut step = Step::default();
        self.execution.feed(input, self.now_ms, &mut step).expect("it is taken");
        step.events
    }

    pub async fn report(&self, events: &[HistoryEvent], want_state: bool) -> Result<Reported, ApiError> {
        let mut contents = Vec::new();
        let events = events.iter().map(|event| encode_event(event, &mut contents)).collect();
        let contents = contents.into_iter().map(|(digest, content)| (digest, content.into())).collect();
        let report = Report { uid: self.start.uid, run: run_of(&self.start), events, contents, want_state };
        self.engine.report(report).await
    }

    /// Takes an input and reports it.
    pub async fn step(&mut self, input: Input) -> Reported {
        let events = self.take(input);
        self.report(&events, false).await.expect("the report is answered")
    }

    /// Goes on from a state.
    pub async fn restore(&mut self, state: Digest) {
        let content = |digest| self.engine.content(digest);
        let definition = content(self.start.digest).await.unwrap().expect("the pinned content");
        let state = content(state).await.unwrap().expect("the state");
        let pinned = Pinned { kind: ProgramKind::Workflow, digest: self.start.digest, definition: &definition };
        self.execution = Execution::restore(&Scripts, &pinned, &state).expect("it is one");
    }
}

/// An input as the engine gives it.
pub fn input_of(event: &baton_proto::history_v1::HistoryEvent) -> Input {
    match decode_event(event, &Nothing).expect("it decodes").kind {
        baton_execution::HistoryEventKind::Input(input) => input,
        baton_execution::HistoryEventKind::Command(command) => panic!("not an input: {command:?}"),
    }
}

/// The only input of what the engine gave.
pub fn only(given: HostedInput) -> Input {
    match given {
        HostedInput::Events(events) if events.len() == 1 => input_of(&events[0]),
        other => panic!("{other:?}"),
    }
}
