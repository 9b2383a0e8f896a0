//! A worker: polls one task queue of Temporal, and runs the workflows and activities that it is given.
//!
//! The SDK's worker cannot change threads, so each has a thread and a runtime of its own ([`Worker::start`]). It uses the
//! caller's connection, and nothing else of the caller's runtime.
//!
//! The SDK's worker remembers the token of every activity that it was ever given. So it is replaced after a number of them:
//! another one polls, and the old one stays until its last activity has ended.
//!
//! # Invariants
//! - [`Worker::shutdown`] lets what is under way end for the time that was stated, and no longer.
//! - Nothing is taken before the ledger has said which installation it is: what is of another one is left to its worker.
//! - A worker that is dropped goes at once, as by a power failure; Temporal gives its work to others.
//! - Replacing the SDK's worker stops no activity.
//!
//! # Deliberately absent
//! The connection, and what is done when it is lost: the SDK polls again for as long as it takes.
//!
//! # Failure
//! While Temporal cannot be reached at the start, or does not have the namespace yet, the worker tries again. When polling
//! dies for good [`Worker::failed`] says why.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use baton_engine::{Host as _, HostedInput, HostedRun, Ledger, Report, Reported, chain};
use baton_execution::{Activities, Programs};
use baton_types::Uid;
use futures::{
    future::{FutureExt as _, LocalBoxFuture},
    stream::{FuturesUnordered, StreamExt as _},
};
use temporalio_client::{Client, tonic::Code};
use temporalio_common::worker::WorkerDeploymentOptions;
use temporalio_sdk::{
    Runtime, WorkerRunError, WorkerValidationError,
    runtime::{
        RuntimeOptions,
        worker_tuner::{FixedSizeSlotSupplier, TunerHolder},
    },
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::{
    activities::Performer, connect::Connection, contents::Contents, host::TemporalHost, rpc::clipped,
    workflow::ExecutionWorkflow,
};

/// Threads that run a worker's activities.
const THREADS: usize = 2;
/// Longest that a worker waits before it tries again to begin.
const BEGIN_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// What the SDK gets beyond the stated grace to say goodbye to Temporal.
const GOODBYE: Duration = Duration::from_secs(5);

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Where it takes its work from.
    pub task_queue: String,
    /// Names of the activities that Programs may ask for. One that is not here waits for a worker that has it.
    pub activity_names: Vec<String>,
    /// When a workflow continues as new, and how much it does at once.
    pub limits: RunLimits,
    /// How it calls itself at Temporal; the connection's identity if there is none.
    pub identity: Option<String>,
    /// Activities at a time.
    pub activities_max: usize,
    /// Workflow tasks at a time.
    pub workflow_tasks_max: usize,
    /// Workflows that stay in memory between their tasks.
    pub workflows_kept_max: usize,
    /// How long Temporal waits for a sign of life of an activity.
    pub times: ActivityTimes,
    /// How long activities may go on at a shutdown.
    pub shutdown_grace: Duration,
    /// Activities and reports after which the SDK's worker is replaced, as it remembers some 300 bytes of each.
    pub replace_after_tasks: u64,
}

/// How long Temporal waits for a sign of life of an activity before it takes its worker for lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivityTimes {
    /// For one that may be repeated, which then runs elsewhere.
    pub heartbeat: Duration,
    /// For one that must not be, which then is in doubt; longer, so that a short outage of Temporal brings none into doubt.
    pub heartbeat_once: Duration,
}

impl Default for ActivityTimes {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(10), heartbeat_once: Duration::from_secs(30) }
    }
}

/// When the run of a workflow is ended and goes on in a new one, and how much it has in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Events of a Temporal history from which on a workflow continues as new when no activity is in flight. From twice as
    /// many on, no new activity begins until those in flight are through; from three and a half times as many on, no timer
    /// either. Temporal ends a workflow at 51,200.
    pub continue_as_new_events: u32,
    /// The same in bytes of results and signals; from then on longer results go by reference. Temporal ends a workflow at 50 MiB.
    pub continue_as_new_bytes: u64,
    /// Activities of one workflow that are in flight at once, at least 1. The others begin when these come back. Temporal
    /// takes 2,000, and refuses what a workflow has decided if there are more.
    pub in_flight_max: u32,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { continue_as_new_events: 10_000, continue_as_new_bytes: 8 * 1024 * 1024, in_flight_max: 1000 }
    }
}

impl WorkerOptions {
    /// The usual options for a task queue.
    pub fn new(task_queue: impl Into<String>, activity_names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            task_queue: task_queue.into(),
            activity_names: activity_names.into_iter().map(Into::into).collect(),
            limits: RunLimits::default(),
            identity: None,
            activities_max: 200,
            workflow_tasks_max: 100,
            workflows_kept_max: 2000,
            times: ActivityTimes::default(),
            shutdown_grace: Duration::from_secs(10),
            replace_after_tasks: 250_000,
        }
    }
}

/// What all workflows and activities of a worker share.
pub(crate) struct Shared {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) programs: Arc<dyn Programs>,
    pub(crate) activities: Arc<dyn Activities>,
    pub(crate) contents: Contents,
    pub(crate) limits: RunLimits,
    /// The ledger's installation, as soon as it has said so; a replay has none.
    pub(crate) installation: OnceLock<String>,
    /// Told whenever something of another installation came by.
    pub(crate) met_stranger: Notify,
    /// What ends workflows that are over and cannot go on.
    pub(crate) host: Option<TemporalHost>,
    pub(crate) times: ActivityTimes,
    /// Whether activities are to give up, as the worker's time is over.
    pub(crate) give_up: watch::Receiver<bool>,
}

impl Shared {
    /// Whether something is known to be of the ledger's installation.
    pub(crate) fn is_of(&self, installation: &str) -> bool {
        self.installation.get().is_some_and(|own| own == installation)
    }

    /// Why something is to be left to another worker, if it is of another installation. What says nothing is of an earlier
    /// version, which knew of one only.
    pub(crate) fn stranger(&self, installation: &str) -> Option<String> {
        let own = self.installation.get().filter(|own| !installation.is_empty() && *own != installation)?;
        self.met_stranger.notify_one();
        Some(format!(
            "the execution is of another installation of Baton ({}, this worker is of {}); \
             give each installation a task queue of its own: temporal.task-queue",
            clipped(installation),
            clipped(own)
        ))
    }

    /// Ends a workflow that cannot go on, if its execution has ended in the ledger or is not there any more.
    pub(crate) fn end_if_closed(self: &Arc<Self>, uid: Uid, workflow_id: &str, run_id: &str) {
        let shared = Arc::clone(self);
        let run = HostedRun { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() };
        self.contents.aside(async move {
            let workflow_id = run.workflow_id.clone();
            let asked = Report { uid, run, events: Vec::new(), contents: Vec::new(), want_state: false };
            let Some(host) = &shared.host else { return };
            if let Ok(Reported::Closed) = shared.ledger.report(asked).await {
                let reason = "the execution has ended in Baton".to_owned();
                if let Err(error) = host.give(&workflow_id, HostedInput::Terminate { reason }).await {
                    tracing::warn!(execution_id = %uid, %error, "a workflow whose execution is over cannot be ended now");
                }
            }
        });
    }
}

/// Counts what the SDK's worker was given.
pub(crate) struct Tasks {
    left: AtomicU64,
    used_up: Notify,
}

impl Tasks {
    fn new(tasks: u64) -> Self {
        Self { left: AtomicU64::new(tasks), used_up: Notify::new() }
    }

    /// Counts one.
    pub(crate) fn count(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.used_up.notify_one();
        }
    }
}

/// Why a worker cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The system has no thread or no runtime to give.
    #[error("the worker's thread cannot be started")]
    Thread(#[from] io::Error),
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    orders: watch::Sender<Order>,
    state: watch::Receiver<State>,
    grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    Stop,
    Die,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
    Failed(String),
}

impl Worker {
    /// Starts a worker. It begins to poll as soon as there is a connection and Temporal lets it.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub fn start(
        connection: Connection,
        options: WorkerOptions,
        ledger: Arc<dyn Ledger>,
        programs: Arc<dyn Programs>,
        activities: Arc<dyn Activities>,
    ) -> Result<Self, WorkerError> {
        let (giving_up, give_up) = watch::channel(false);
        let shared = Arc::new(Shared {
            contents: Contents::new(Arc::clone(&ledger))?,
            ledger,
            programs,
            activities,
            limits: RunLimits { in_flight_max: options.limits.in_flight_max.max(1), ..options.limits },
            installation: OnceLock::new(),
            met_stranger: Notify::new(),
            host: Some(TemporalHost::new(connection.clone(), options.task_queue.clone())),
            times: options.times,
            give_up,
        });
        let (orders, ordered) = watch::channel(Order::Run);
        let (state, seen) = watch::channel(State::Running);
        let grace = options.shutdown_grace;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("baton-temporal")
            .enable_all()
            .build()?;
        thread::Builder::new().name("baton-temporal-worker".to_owned()).spawn(move || {
            let ended = runtime.block_on(run(&connection, &options, &shared, ordered, giving_up));
            // Whatever is still under way is not waited for.
            runtime.shutdown_background();
            state.send_replace(ended.map_or_else(State::Failed, |()| State::Stopped));
        })?;
        Ok(Self { orders, state: seen, grace })
    }

    /// Stops polling, lets what is under way end for a while, and goes.
    pub async fn shutdown(self) {
        self.orders.send_replace(Order::Stop);
        let mut state = self.state.clone();
        let gone = state.wait_for(|state| *state != State::Running);
        if timeout(self.grace + 2 * GOODBYE, gone).await.is_err() {
            tracing::warn!("work of this worker did not end in time; it will be given to others");
        }
    }

    /// Waits until polling has died for good, and says why. Never ends otherwise.
    pub async fn failed(&self) -> String {
        let mut state = self.state.clone();
        drop(state.wait_for(|state| matches!(state, State::Failed(_))).await);
        let last = state.borrow().clone();
        match last {
            State::Failed(why) => why,
            // Its thread went without a word.
            State::Running => "the worker's thread has panicked".to_owned(),
            State::Stopped => std::future::pending().await,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders.send_replace(Order::Die);
    }
}

/// Polls until it is told to stop, or cannot go on.
async fn run(
    connection: &Connection,
    options: &WorkerOptions,
    shared: &Arc<Shared>,
    mut ordered: watch::Receiver<Order>,
    giving_up: watch::Sender<bool>,
) -> Result<(), String> {
    let client = tokio::select! {
        client = connection.wait_connected() => client,
        _ = ordered.wait_for(|order| *order != Order::Run) => return Ok(()),
    };
    // Who it works for is known before anything is taken.
    tokio::select! {
        own = installation(shared.ledger.as_ref()) => drop(shared.installation.set(own)),
        _ = ordered.wait_for(|order| *order != Order::Run) => return Ok(()),
    }
    let mut pause = BEGIN_AGAIN.0;
    let mut polling = Poller::new(&client, options, shared)?;
    let mut leaving = FuturesUnordered::new();
    loop {
        let tasks = Arc::clone(&polling.tasks);
        let mut to_end = ordered.clone();
        tokio::select! {
            ended = &mut polling.ended => {
                match ended {
                    Ok(()) => return Err("the SDK's worker has stopped by itself".to_owned()),
                    Err(error) if may_begin_later(&error) => {
                        tracing::warn!(error = chain(&error), "the worker cannot begin yet; trying again");
                    }
                    Err(error) => return Err(chain(&error)),
                }
                tokio::select! {
                    () = sleep(pause) => pause = (pause * 2).min(BEGIN_AGAIN.1),
                    _ = to_end.wait_for(|order| *order != Order::Run) => return Ok(()),
                }
                polling = Poller::new(&client, options, shared)?;
            }
            Some(left) = leaving.next() => note_left(&left),
            () = shared.met_stranger.notified() => still_at_home(shared).await?,
            () = tasks.used_up.notified() => {
                (polling.stop)();
                let next = Poller::new(&client, options, shared)?;
                leaving.push(std::mem::replace(&mut polling, next).ended);
            }
            _ = ordered.wait_for(|order| *order != Order::Run) => break,
        }
    }
    (polling.stop)();
    leaving.push(polling.ended);
    let all_left = async {
        while let Some(left) = leaving.next().await {
            note_left(&left);
        }
    };
    let last_words = async {
        let _in_time = timeout(options.shutdown_grace, std::future::pending::<()>()).await;
        giving_up.send_replace(true);
        sleep(GOODBYE).await;
    };
    tokio::select! {
        () = all_left => {}
        () = last_words => {}
        _ = ordered.wait_for(|order| *order == Order::Die) => {}
    }
    Ok(())
}

/// The ledger's installation, as soon as it says so.
async fn installation(ledger: &dyn Ledger) -> String {
    let mut pause = BEGIN_AGAIN.0;
    loop {
        match ledger.installation().await {
            Ok(installation) => return installation,
            Err(error) => tracing::warn!(%error, "the server does not say which installation it is; asking again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(BEGIN_AGAIN.1);
    }
}

/// Whoever meets an execution of another installation may be the stranger himself: the server at the address is asked
/// once more who it is.
async fn still_at_home(shared: &Shared) -> Result<(), String> {
    match shared.ledger.installation().await {
        Ok(now) if !shared.is_of(&now) => Err("the server is another installation of Baton by now".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "the server does not say whether it is still the same installation");
            Ok(())
        }
    }
}

fn note_left(left: &Result<(), WorkerRunError>) {
    if let Err(error) = left {
        tracing::warn!(error = chain(error), "a worker that was to go did not end well");
    }
}

/// One worker of the SDK's.
struct Poller {
    /// Tells it to stop polling.
    stop: Box<dyn Fn()>,
    /// Runs it; ends when it has stopped and its last activity has ended.
    ended: LocalBoxFuture<'static, Result<(), WorkerRunError>>,
    tasks: Arc<Tasks>,
}

impl Poller {
    fn new(client: &Client, options: &WorkerOptions, shared: &Arc<Shared>) -> Result<Self, String> {
        let runtime = Runtime::from_current_tokio(RuntimeOptions::default()).map_err(|error| chain(&error))?;
        let tasks = Arc::new(Tasks::new(options.replace_after_tasks));
        let sdk_options = sdk_options(options, shared, &tasks)?;
        let mut worker =
            temporalio_sdk::Worker::new(&runtime, client.clone(), sdk_options).map_err(|error| chain(&error))?;
        let (stop, key, client) = (worker.shutdown_handle(), worker.worker_instance_key(), client.clone());
        let ended = async move {
            let ended = worker.run().await;
            // Without this the connection refuses another worker on the same task queue.
            let workers = client.connection().workers();
            let _unknown = workers.unregister_slot_provider(key);
            let _unknown = workers.finalize_unregister(key);
            ended
        };
        Ok(Self { stop: Box::new(stop), ended: ended.boxed_local(), tasks })
    }
}

/// Whether Temporal, or the namespace, was not there yet.
fn may_begin_later(error: &WorkerRunError) -> bool {
    match error {
        WorkerRunError::Validation(WorkerValidationError::NamespaceDescribeError { source, .. }) => {
            !matches!(source.code(), Code::Unauthenticated | Code::PermissionDenied)
        }
        _ => false,
    }
}

fn sdk_options(
    options: &WorkerOptions,
    shared: &Arc<Shared>,
    tasks: &Arc<Tasks>,
) -> Result<temporalio_sdk::WorkerOptions, String> {
    let slots = FixedSizeSlotSupplier::new;
    let tuner = TunerHolder::builder()
        .workflow_task_slot_supplier(slots(options.workflow_tasks_max))
        .activity_task_slot_supplier(slots(options.activities_max))
        .local_activity_task_slot_supplier(slots(options.workflow_tasks_max))
        .nexus_task_slot_supplier(slots(1))
        .build();
    let for_workflows = Arc::clone(shared);
    let performer =
        Performer { shared: Arc::clone(shared), tasks: Arc::clone(tasks), names: options.activity_names.clone() };
    let built = temporalio_sdk::WorkerOptions::new(options.task_queue.as_str())
        .deployment_options(WorkerDeploymentOptions::from_build_id(env!("CARGO_PKG_VERSION").to_owned()))
        .maybe_client_identity_override(options.identity.clone())
        .max_cached_workflows(options.workflows_kept_max)
        .tuner(tuner)
        .max_heartbeat_throttle_interval(options.times.heartbeat / 4)
        .register_activities(performer)
        .register_workflow_with_factory::<ExecutionWorkflow, _>(move || {
            ExecutionWorkflow::new(Arc::clone(&for_workflows))
        })
        .map_err(|error| chain(&error))?;
    Ok(built.build())
}
