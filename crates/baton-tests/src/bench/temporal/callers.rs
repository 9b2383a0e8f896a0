//! Callers: workflows of the plain SDK, on a worker and a task queue of their own, as a user of Temporal has them.
//!
//! One workflow type calls one activity; the activity gives its task token away and stays open. Who gets the token is all
//! that differs from row to row.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use baton_engine_temporal::{TemporalOptions, connect};
use baton_proto::v1::{
    CreateWorkflowExecutionRequest, workflow_execution_service_client::WorkflowExecutionServiceClient,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use temporalio_client::{
    ActivityIdentifier, Client, RpcOptions, WorkflowFetchHistoryOptions, WorkflowGetResultOptions, WorkflowHandle,
    WorkflowStartOptions,
};
use temporalio_common::{RetryPolicy, error::ApplicationFailure, protos::temporal::api::history::v1::HistoryEvent};
use temporalio_macros::activities;
use temporalio_sdk::{
    ActivityOptions, Runtime, Worker, WorkerOptions, WorkflowContext, WorkflowResult,
    activities::{ActivityContext, ActivityError},
    runtime::{
        RuntimeOptions,
        worker_tuner::{FixedSizeSlotSupplier, TunerHolder},
    },
};
use temporalio_workflow::{workflow, workflow_methods};
use tokio::sync::{
    Mutex,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};
use tonic::transport::Channel;

use crate::site::execution;

/// The callers' task queue.
const QUEUE: &str = "callers";
/// Threads that run the callers' activities, as many as a worker of Baton's has.
const THREADS: usize = 2;
/// Longest that one piece of work may take; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// How long a caller has waited before it is answered, where only what comes after the answer is measured.
const PARKED: Duration = Duration::from_millis(50);

/// Who gets a caller's task token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Via {
    /// A plain client in this process, which completes it at once.
    Client,
    /// The same, which completes it when it is told to.
    ClientLater,
    /// An execution of a Baton server that runs it itself.
    Embedded,
    /// An execution of a Baton server that runs it on the same Temporal.
    Temporal,
}

/// What a caller is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    via: Via,
    /// Of the execution that it starts.
    name: String,
}

/// Where the Baton servers are.
pub(crate) struct Servers {
    pub(crate) embedded: WorkflowExecutionServiceClient<Channel>,
    pub(crate) temporal: WorkflowExecutionServiceClient<Channel>,
}

/// The callers' activity.
pub(crate) struct Calling {
    servers: Servers,
    complete: UnboundedSender<Vec<u8>>,
    complete_later: UnboundedSender<Vec<u8>>,
}

#[activities]
impl Calling {
    /// Gives its task token away and leaves.
    #[activity(name = "call")]
    pub(crate) async fn call(self: Arc<Self>, ctx: ActivityContext, call: Call) -> Result<Value, ActivityError> {
        let token = ctx.info().task_token.clone();
        let server = match call.via {
            Via::Client => {
                let _gone = self.complete.send(token);
                return Err(ActivityError::WillCompleteAsync);
            }
            Via::ClientLater => {
                let _gone = self.complete_later.send(token);
                return Err(ActivityError::WillCompleteAsync);
            }
            Via::Embedded => &self.servers.embedded,
            Via::Temporal => &self.servers.temporal,
        };
        let mut execution = execution(call.name, "no-op");
        if let Some(spec) = &mut execution.spec {
            spec.callback_token = Some(token);
        }
        let request = CreateWorkflowExecutionRequest { workflow_execution: Some(execution), options: None };
        match server.clone().create_workflow_execution(request).await {
            Ok(_) => Err(ActivityError::WillCompleteAsync),
            Err(status) => Err(ApplicationFailure::non_retryable(status.to_string()).into()),
        }
    }
}

/// A caller.
#[workflow]
#[derive(Default)]
pub(crate) struct Caller;

#[workflow_methods]
impl Caller {
    #[run]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>, call: Call) -> WorkflowResult<Value> {
        let options = ActivityOptions::with_start_to_close_timeout(PATIENCE)
            .retry_policy(RetryPolicy::builder().maximum_attempts(1).build())
            .build();
        Ok(ctx.execute_activity(Calling::call, call, options).await?)
    }
}

/// A workflow that ends in its first workflow task.
#[workflow]
#[derive(Default)]
pub(crate) struct Nothing;

#[workflow_methods]
impl Nothing {
    #[run]
    #[expect(clippy::unused_async, reason = "as the SDK's macro wants it")]
    pub(crate) async fn run(_: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        Ok(())
    }
}

/// Asks a worker to end.
type Stop = Box<dyn Fn() + Send + Sync>;

/// What is needed to let callers run.
pub(crate) struct Desk {
    client: Client,
    /// Completes tokens; with a connection of its own, as somebody else's would have.
    completer: Client,
    later: Mutex<UnboundedReceiver<Vec<u8>>>,
    worker: Option<(Stop, JoinHandle<anyhow::Result<()>>)>,
    completing: tokio::task::JoinHandle<()>,
    next: AtomicU64,
}

impl Desk {
    /// Connects, and starts the callers' worker.
    pub(crate) async fn open(options: &TemporalOptions, servers: Servers) -> anyhow::Result<Self> {
        let (complete, mut at_once) = unbounded_channel();
        let (complete_later, later) = unbounded_channel();
        let (client, completer) = (connect(options).await?, connect(options).await?);
        let its = completer.clone();
        let completing = tokio::spawn(async move {
            while let Some(token) = at_once.recv().await {
                let client = its.clone();
                tokio::spawn(async move {
                    // A caller that is not answered fails the measurement after a while.
                    let _told_there = answer(&client, token).await;
                });
            }
        });
        let calling = Calling { servers, complete, complete_later };
        let (tell, started) = oneshot::channel();
        let for_worker = connect(options).await?;
        // The SDK's worker stays on its thread.
        let thread = std::thread::Builder::new()
            .name("callers-worker".to_owned())
            .spawn(move || work(for_worker, calling, tell))?;
        let worker = match started.await {
            Ok(stop) => (stop, thread),
            Err(_) => {
                return Err(thread
                    .join()
                    .map_or_else(
                        |_| anyhow!("it panicked"),
                        |ended| match ended {
                            Ok(()) => anyhow!("it ended at once"),
                            Err(error) => error,
                        },
                    )
                    .context("start the callers' worker"));
            }
        };
        let later = Mutex::new(later);
        Ok(Self { client, completer, later, worker: Some(worker), completing, next: AtomicU64::new(0) })
    }

    /// From the start of a caller until its end is known here, with what the execution that it calls answers.
    pub(crate) async fn handshake(&self, via: Via) -> anyhow::Result<()> {
        self.call(via).await.map(|_| ())
    }

    /// The same; gives the name of the caller, which that of the execution is too.
    pub(crate) async fn call(&self, via: Via) -> anyhow::Result<String> {
        let name = self.name();
        let caller = self.start(&name, via).await?;
        ended(&caller).await?;
        Ok(name)
    }

    /// From a start until the end of a workflow that does nothing: one workflow task.
    pub(crate) async fn round_trip(&self) -> anyhow::Result<()> {
        let options = WorkflowStartOptions::new(QUEUE, self.name()).build();
        let workflow = self.client.start_workflow(Nothing::run, (), options).await?;
        let end = workflow.get_result(WorkflowGetResultOptions::default());
        Ok(tokio::time::timeout(PATIENCE, end).await.context("a workflow that does nothing does not end")??)
    }

    /// From the call that completes a waiting caller until its end is known here.
    pub(crate) async fn answer_to_end(&self) -> anyhow::Result<Duration> {
        let caller = self.start(&self.name(), Via::ClientLater).await?;
        let token = tokio::time::timeout(PATIENCE, async { self.later.lock().await.recv().await });
        let token = token.await.context("no token comes")?.context("the callers' worker is gone")?;
        let waiting = tokio::spawn(async move { ended(&caller).await });
        parked().await;
        let began = Instant::now();
        answer(&self.completer, token).await?;
        waiting.await??;
        Ok(began.elapsed())
    }

    async fn start(&self, name: &str, via: Via) -> anyhow::Result<WorkflowHandle<Client, Caller>> {
        let options = WorkflowStartOptions::new(QUEUE, name).build();
        let call = Call { via, name: name.to_owned() };
        self.client.start_workflow(Caller::run, call, options).await?;
        Ok(self.client.get_workflow_handle::<Caller>(name))
    }

    /// The whole history of a workflow, be it a caller's or one of Baton's, which ends a moment after its answer.
    pub(crate) async fn history(&self, workflow_id: &str) -> anyhow::Result<Vec<HistoryEvent>> {
        let workflow = self.client.get_workflow_handle::<Caller>(workflow_id);
        ended(&workflow).await?;
        Ok(workflow.fetch_history(WorkflowFetchHistoryOptions::default()).into_events().await?)
    }

    /// Version of the SDK, as it tells Temporal.
    pub(crate) fn sdk_version(&self) -> &str {
        self.client.connection().client_version()
    }

    /// A name that no workflow of this Temporal has.
    fn name(&self) -> String {
        format!("caller-{:08}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends the worker.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.completing.abort();
        let Some((stop, thread)) = self.worker.take() else { return Ok(()) };
        stop();
        match tokio::task::spawn_blocking(move || thread.join()).await? {
            Ok(ended) => ended,
            Err(_) => bail!("the callers' worker panicked"),
        }
    }
}

/// Lets somebody who has just begun to wait come to rest.
pub(crate) async fn parked() {
    tokio::time::sleep(PARKED).await;
}

/// What a no-op execution of Baton gives, and a plain client too.
pub(crate) fn result() -> Value {
    json!({"ok": true})
}

async fn answer(client: &Client, token: Vec<u8>) -> anyhow::Result<()> {
    let activity = client.get_async_activity_handle(ActivityIdentifier::from_task_token(token.into()));
    Ok(activity.complete(Some(result()), RpcOptions::default()).await?)
}

async fn ended(caller: &WorkflowHandle<Client, Caller>) -> anyhow::Result<()> {
    let end = caller.get_result(WorkflowGetResultOptions::default());
    let got = tokio::time::timeout(PATIENCE, end).await.context("a caller is not answered")??;
    if got == result() { Ok(()) } else { Err(anyhow!("a caller was answered with {got}")) }
}

/// The thread of the callers' worker; `tell` gets what ends it. It may do as many things at a time as Baton's.
fn work(client: Client, calling: Calling, tell: oneshot::Sender<Stop>) -> anyhow::Result<()> {
    let like = baton_engine_temporal::WorkerOptions::new(QUEUE, [""; 0]);
    let tuner = TunerHolder::builder()
        .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(like.workflow_tasks_max))
        .activity_task_slot_supplier(FixedSizeSlotSupplier::new(like.activities_max))
        .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(like.workflow_tasks_max))
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(async {
        let runtime = Runtime::from_current_tokio(RuntimeOptions::default())?;
        let options = WorkerOptions::new(QUEUE)
            .max_cached_workflows(like.workflows_kept_max)
            .tuner(tuner)
            .register_activities(calling)
            .register_workflow::<Caller>()?
            .register_workflow::<Nothing>()?
            .build();
        let mut worker = Worker::new(&runtime, client, options)?;
        let _gone = tell.send(Box::new(worker.shutdown_handle()) as Stop);
        Ok(worker.run().await?)
    })
}
