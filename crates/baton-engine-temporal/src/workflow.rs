//! The one workflow type that runs every Program on Temporal.
//!
//! A workflow holds an [`Execution`](baton_engine::Execution), takes what happens to it in a fixed order, **reports what
//! came of it to the ledger**, and only then lets it have effects ([`drive`]). What is in flight is always made equal to what
//! the execution has open ([`flight`]), so that a first run, one that continues as new and one that had to take over the
//! ledger's state go the same way. What passes by Temporal is in [`wire`].
//!
//! # Invariants
//! - Nothing here has a clock but Temporal's, and nothing iterates over a hash map: a replay gives the same commands.
//! - No answer is lost: a workflow that continues as new has taken every signal that its run was given.
//! - An answer that this build cannot read fails the workflow's task, which Temporal repeats, until a worker can read it.
//! - A worker of another installation touches nothing: it fails the workflow's task, so that Temporal asks another one.
//! - A cancelled workflow goes on as usual: its Program winds up, and what it does meanwhile is reported.
//!
//! # Deliberately absent
//! Children, waits and heartbeats: those are the server's, and come as inputs. Queries: the server has the whole history.
//!
//! # Failure
//! A ledger that is down is waited for. A Program that cannot go on in this build fails the workflow's task: Temporal shows
//! why and repeats it until a build that can is there. If the execution is over in the ledger by then, the workflow is ended.

mod drive;
mod flight;
pub(crate) mod replay;
mod report;
pub(crate) mod wire;

use std::{any::Any, collections::VecDeque, sync::Arc};

use baton_proto::history_v1::HistoryEvent;
use futures::future::{FutureExt as _, LocalBoxFuture, ready};
use serde_json::Value;
use temporalio_common::{
    HasWorkflowDefinition, WorkflowDefinition, data_converters::PayloadConverter,
    protos::temporal::api::common::v1::Payloads,
};
use temporalio_sdk::{
    WorkflowContext, WorkflowContextView, WorkflowTermination,
    workflow_interceptors::WorkflowOutputValue,
    workflows::{UpdateDefinitionDescriptor, WorkflowDefinitionDescriptor, WorkflowError, WorkflowImplementation},
};

use self::wire::{INPUT_SIGNAL, SUSPEND_UPDATE, Suspend, WORKFLOW_TYPE, WorkflowInput};
use crate::worker::Shared;

/// The workflow type, as the SDK names it.
pub(crate) struct ExecutionRun;

impl WorkflowDefinition for ExecutionRun {
    type Input = WorkflowInput;
    type Output = Value;

    fn name(&self) -> &'static str {
        WORKFLOW_TYPE
    }
}

impl HasWorkflowDefinition for ExecutionRun {
    type Run = Self;
}

/// What a workflow was given and has not taken yet.
pub(crate) struct ExecutionWorkflow {
    shared: Arc<Shared>,
    inbox: VecDeque<Arrived>,
    /// Bytes of the signals that are in the inbox.
    inbox_bytes: u64,
    /// What was said last of suspension in this run.
    suspend: Option<Suspend>,
}

struct Signal {
    arrived: Vec<Arrived>,
    bytes: u64,
}

/// What stands in a signal's content.
enum Arrived {
    Input(Box<HistoryEvent>),
    /// An answer of a kind that this build does not know; why it cannot be read.
    Unreadable(String),
}

impl ExecutionWorkflow {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, inbox: VecDeque::new(), inbox_bytes: 0, suspend: None }
    }
}

type Handled<T> = LocalBoxFuture<'static, Result<T, WorkflowError>>;

impl WorkflowImplementation for ExecutionWorkflow {
    type Run = ExecutionRun;
    const HAS_INIT: bool = false;
    const INIT_TAKES_INPUT: bool = false;

    fn name() -> &'static str {
        WORKFLOW_TYPE
    }

    fn definition() -> WorkflowDefinitionDescriptor {
        WorkflowDefinitionDescriptor {
            workflow_type: WORKFLOW_TYPE.to_owned(),
            has_init: false,
            init_takes_input: false,
            signals: Vec::new(),
            queries: Vec::new(),
            updates: vec![UpdateDefinitionDescriptor { name: SUSPEND_UPDATE.to_owned(), has_validator: true }],
        }
    }

    fn init(_: WorkflowContextView, _: Option<WorkflowInput>) -> Self {
        unreachable!("the worker registers this workflow with a factory")
    }

    fn run(
        ctx: WorkflowContext<Self>,
        input: Option<WorkflowInput>,
    ) -> LocalBoxFuture<'static, Result<Box<dyn WorkflowOutputValue>, WorkflowTermination>> {
        let input = input.expect("init does not take the input");
        async move { Ok(Box::new(drive::drive(ctx, input).await?) as Box<dyn WorkflowOutputValue>) }.boxed_local()
    }

    fn decode_signal_input(
        name: &str,
        payloads: Payloads,
        _: &PayloadConverter,
    ) -> Result<Option<Box<dyn Any>>, WorkflowError> {
        let signal = || Signal { arrived: arrived(&payloads), bytes: wire::bytes_of(&payloads.payloads) };
        Ok((name == INPUT_SIGNAL).then(|| Box::new(signal()) as Box<dyn Any>))
    }

    // Called while the activation is applied, before anything is polled: the order of the signals is that of the history.
    fn dispatch_signal(ctx: WorkflowContext<Self>, _: &str, input: Box<dyn Any>) -> Handled<()> {
        if let Ok(signal) = input.downcast::<Signal>() {
            ctx.state_mut(|state| {
                state.inbox.extend(signal.arrived);
                state.inbox_bytes += signal.bytes;
            });
        }
        ready(Ok(())).boxed_local()
    }

    fn dispatch_query(
        &self,
        _: WorkflowContextView,
        name: &str,
        _: Box<dyn Any>,
    ) -> Result<Box<dyn WorkflowOutputValue>, WorkflowError> {
        Err(WorkflowError::Execution(format!("there is no query '{name}'; ask the server for the execution").into()))
    }

    fn decode_update_input(
        _: &str,
        payloads: Payloads,
        _: &PayloadConverter,
    ) -> Result<Option<Box<dyn Any>>, WorkflowError> {
        let suspend: Suspend =
            wire::read(&payloads.payloads).map_err(|error| WorkflowError::Execution(error.into()))?;
        Ok(Some(Box::new(suspend)))
    }

    fn validate_update(&self, _: WorkflowContextView, _: &str, _: Box<dyn Any>) -> Result<(), WorkflowError> {
        Ok(())
    }

    fn dispatch_update(
        ctx: WorkflowContext<Self>,
        _: &str,
        input: Box<dyn Any>,
    ) -> Handled<Box<dyn WorkflowOutputValue>> {
        if let Ok(said) = input.downcast::<Suspend>() {
            ctx.state_mut(|state| {
                if state.suspend.is_none_or(|before| before.generation <= said.generation) {
                    state.suspend = Some(*said);
                }
            });
        }
        ready(Ok(Box::new(Value::Null) as Box<dyn WorkflowOutputValue>)).boxed_local()
    }
}

/// What a signal brings. One that is no list of objects is not from the server: it is ignored.
fn arrived(payloads: &Payloads) -> Vec<Arrived> {
    let Ok(Value::Array(events)) = wire::read(&payloads.payloads) else {
        tracing::warn!("a signal of something else than the server is ignored");
        return Vec::new();
    };
    let read = |event: Value| match serde_json::from_value(event) {
        Ok(event) => Arrived::Input(Box::new(event)),
        Err(error) => Arrived::Unreadable(error.to_string()),
    };
    events.into_iter().filter(Value::is_object).map(read).collect()
}
