//! Callers for the tests: workflows of the plain SDK whose one activity hands its task token out and stays open.

use std::{future::Future, sync::Arc, thread::JoinHandle, time::Duration};

use baton_engine::{Delivery, Receiver as _};
use baton_engine_temporal::{Connection, TemporalOptions, TemporalReceiver, connect};
use baton_execution::Outcome;
use baton_temporal_testing::TemporalServer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use temporalio_client::{
    Client, WorkflowGetResultOptions, WorkflowHandle, WorkflowStartOptions,
    errors::WorkflowGetResultError,
    grpc::WorkflowService as _,
    tonic::{IntoRequest as _, Response},
};
use temporalio_common::{
    RetryPolicy,
    protos::temporal::api::{
        common::v1::{Payloads, WorkflowExecution},
        failure::v1::{Failure, failure::FailureInfo},
        history::v1::history_event::Attributes,
        workflow::v1::PendingActivityInfo,
        workflowservice::v1::{DescribeWorkflowExecutionRequest, GetWorkflowExecutionHistoryRequest},
    },
};
use temporalio_macros::activities;
use temporalio_sdk::{
    ActivityCancellationType, ActivityOptions, Runtime, Worker, WorkerOptions, WorkflowContext, WorkflowResult,
    activities::{ActivityContext, ActivityError},
};
use temporalio_workflow::{workflow, workflow_methods};
use tokio::sync::{
    Mutex,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// Longest that anything here may take; reaching it is a failure.
const PATIENCE: Duration = Duration::from_mins(1);
/// The task queue of the callers.
pub(crate) const QUEUE: &str = "callers";

/// Asks a worker to end.
type Stop = Box<dyn Fn() + Send + Sync>;

/// A token that a caller handed out.
#[derive(Clone, Debug)]
pub(crate) struct Handed {
    /// Which attempt of its activity.
    pub(crate) attempt: u32,
    /// The token.
    pub(crate) token: Vec<u8>,
}

/// How a caller calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) start_to_close_ms: u64,
    pub(crate) heartbeat_ms: Option<u64>,
    pub(crate) attempts: u32,
    pub(crate) waits_for_cancellation: bool,
    pub(crate) progress: Option<Value>,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            start_to_close_ms: 600_000,
            heartbeat_ms: None,
            attempts: 1,
            waits_for_cancellation: false,
            progress: None,
        }
    }
}

/// The activity of the callers.
pub(crate) struct Handing {
    to: UnboundedSender<Handed>,
}

#[activities]
impl Handing {
    /// Hands its token out and leaves.
    #[activity(name = "hand")]
    pub(crate) async fn hand(self: Arc<Self>, ctx: ActivityContext, call: Call) -> Result<Value, ActivityError> {
        if let Some(progress) = call.progress {
            ctx.record_heartbeat(progress).await?;
        }
        let info = ctx.info();
        let _gone_with_its_test = self.to.send(Handed { attempt: info.attempt, token: info.task_token.clone() });
        Err(ActivityError::WillCompleteAsync)
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
        let cancellation = if call.waits_for_cancellation {
            ActivityCancellationType::WaitCancellationCompleted
        } else {
            ActivityCancellationType::TryCancel
        };
        let retries =
            RetryPolicy::builder().maximum_attempts(call.attempts).initial_interval(Duration::from_millis(50)).build();
        let options = ActivityOptions::with_start_to_close_timeout(Duration::from_millis(call.start_to_close_ms))
            .maybe_heartbeat_timeout(call.heartbeat_ms.map(Duration::from_millis))
            .cancellation_type(cancellation)
            .retry_policy(retries)
            .build();
        let answer = ctx.execute_activity(Handing::hand, call, options).await?;
        Ok(json!({ "answer": answer }))
    }
}

/// How a caller ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    /// With what it was answered.
    Completed(Value),
    /// With the failure that it was answered with.
    Failed { kind: String, message: String, non_retryable: bool, details: Value },
    /// Because it was cancelled.
    Cancelled,
    /// In another way.
    Otherwise(String),
}

/// Callers, and what is needed to answer them.
pub(crate) struct Desk {
    pub(crate) client: Client,
    pub(crate) handed: Mutex<UnboundedReceiver<Handed>>,
    worker: Option<(Stop, JoinHandle<()>)>,
}

pub(crate) fn options(address: &str) -> TemporalOptions {
    TemporalOptions { address: address.to_owned(), ..TemporalOptions::default() }
}

/// One who answers callers of these namespaces, and is connected.
pub(crate) async fn receiver(address: &str, namespaces: &[&str]) -> TemporalReceiver {
    let connection = Connection::start(options(address)).unwrap();
    connection.wait_connected().await;
    TemporalReceiver::new(connection, namespaces.iter().map(|name| (*name).to_owned()).collect())
}

impl Desk {
    /// Lets callers run.
    pub(crate) async fn open(server: &TemporalServer) -> Self {
        let client = connect(&options(&server.address())).await.unwrap();
        let (to, handed) = unbounded_channel();
        let (tell, told) = std::sync::mpsc::channel::<Stop>();
        let address = server.address();
        // The SDK's worker stays on its thread.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let runtime = Runtime::from_current_tokio(temporalio_sdk::runtime::RuntimeOptions::default()).unwrap();
                let client = connect(&options(&address)).await.unwrap();
                let options = WorkerOptions::new(QUEUE)
                    .register_activities(Handing { to })
                    .register_workflow::<Caller>()
                    .unwrap()
                    .build();
                let mut worker = Worker::new(&runtime, client, options).unwrap();
                tell.send(Box::new(worker.shutdown_handle())).unwrap();
                worker.run().await.unwrap();
            });
        });
        let stop = told.recv().unwrap();
        Self { client, handed: Mutex::new(handed), worker: Some((stop, thread)) }
    }

    /// Starts a caller.
    pub(crate) async fn call(&self, id: &str, call: Call) -> WorkflowHandle<Client, Caller> {
        let options = WorkflowStartOptions::new(QUEUE, id).build();
        self.client.start_workflow(Caller::run, call, options).await.unwrap();
        self.client.get_workflow_handle::<Caller>(id)
    }

    /// The next token that is handed out.
    pub(crate) async fn token(&self) -> Handed {
        let next = async { self.handed.lock().await.recv().await };
        tokio::time::timeout(PATIENCE, next).await.expect("a token within a minute").expect("the worker lives")
    }

    /// Starts a caller, and takes its token once its activity has left.
    pub(crate) async fn waiting(&self, id: &str, call: Call) -> (WorkflowHandle<Client, Caller>, Vec<u8>) {
        let handle = self.call(id, call).await;
        (handle, self.token().await.token)
    }

    /// The open activity of a caller, as Temporal describes it.
    pub(crate) async fn pending(&self, id: &str) -> Option<PendingActivityInfo> {
        let execution = Some(WorkflowExecution { workflow_id: id.to_owned(), run_id: String::new() });
        let request = DescribeWorkflowExecutionRequest { namespace: "default".to_owned(), execution };
        let described = self.client.clone().describe_workflow_execution(request.into_request()).await;
        described.map(Response::into_inner).unwrap().pending_activities.into_iter().next()
    }

    /// The details that the activity of a caller was cancelled with, as its history has them.
    pub(crate) async fn cancelled_with(&self, id: &str) -> Option<Value> {
        let execution = Some(WorkflowExecution { workflow_id: id.to_owned(), run_id: String::new() });
        let namespace = "default".to_owned();
        let request = GetWorkflowExecutionHistoryRequest { namespace, execution, ..Default::default() };
        let history = self.client.clone().get_workflow_execution_history(request.into_request()).await.unwrap();
        let events = history.into_inner().history.unwrap().events;
        events.into_iter().find_map(|event| match event.attributes {
            Some(Attributes::ActivityTaskCanceledEventAttributes(it)) => json_of(it.details.as_ref()),
            _ => None,
        })
    }

    /// Ends the worker.
    pub(crate) fn close(mut self) {
        if let Some((stop, thread)) = self.worker.take() {
            stop();
            thread.join().unwrap();
        }
    }
}

/// How a caller ends, which it must within a minute.
pub(crate) async fn end(caller: &WorkflowHandle<Client, Caller>) -> Ended {
    let result = caller.get_result(WorkflowGetResultOptions::default());
    match tokio::time::timeout(PATIENCE, result).await.expect("the caller ends within a minute") {
        Ok(answer) => Ended::Completed(answer["answer"].clone()),
        Err(WorkflowGetResultError::Failed(error)) => {
            let mut next = Some(&*error);
            while let Some(error) = next {
                if let Some(ended) = ended(error.failure()) {
                    return ended;
                }
                next = error.cause();
            }
            Ended::Otherwise(error.to_string())
        }
        Err(WorkflowGetResultError::Cancelled { .. }) => Ended::Cancelled,
        Err(other) => Ended::Otherwise(other.to_string()),
    }
}

/// Reads what the activity was answered with out of a link of the chain of failures.
fn ended(failure: &Failure) -> Option<Ended> {
    match failure.failure_info.as_ref()? {
        FailureInfo::ApplicationFailureInfo(info) => Some(Ended::Failed {
            kind: info.r#type.clone(),
            message: failure.message.clone(),
            non_retryable: info.non_retryable,
            details: json_of(info.details.as_ref()).unwrap_or_default(),
        }),
        FailureInfo::TimeoutFailureInfo(info) => Some(Ended::Otherwise(format!("{:?}", info.timeout_type()))),
        _ => None,
    }
}

/// The JSON in a payload.
pub(crate) fn json_of(payloads: Option<&Payloads>) -> Option<Value> {
    let payload = payloads?.payloads.first()?;
    assert_eq!(payload.metadata["encoding"], b"json/plain");
    Some(serde_json::from_slice(&payload.data).unwrap())
}

/// Asks until there is a value; `what` names it in the failure after a minute.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("it did not come to this: {what}"))
}

/// Delivers until it does not fail for the moment.
pub(crate) async fn delivered(receiver: &TemporalReceiver, token: &[u8], outcome: &Outcome) -> Delivery {
    eventually("a delivery that is settled", || async {
        match receiver.deliver(token, outcome).await {
            Delivery::Failed(_) => None,
            settled => Some(settled),
        }
    })
    .await
}
