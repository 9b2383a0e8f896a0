//! What reaches a worker.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use baton_execution::{Fault, OperationId, Outcome, Used};
use baton_proto::ExecutionResource;
use baton_store::{CommitError, Committed, Number, OutboxRow, TimerRow};
use baton_types::{ApiError, Uid};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    api::{Admitted, ChildCreated, Created, Deleted, Heartbeat, Released},
    approvals::Decide,
    host::{CallerState, HostError, HostState, HostedRun, HostedTask, Report, Reported},
    sealer::Claims,
    worker::Route,
};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, ApiError>>;
pub(crate) type Change = Box<dyn FnOnce(&mut ExecutionResource) -> Result<(), ApiError> + Send>;

/// One message, always about one execution.
pub(crate) struct Message {
    pub(crate) number: Number,
    pub(crate) kind: MessageKind,
}

pub(crate) enum MessageKind {
    /// Create this execution.
    Create {
        admitted: Box<Admitted>,
        reply: Reply<Created>,
    },
    /// A create under the name of this execution: the same again, or a clash.
    Repeat {
        request_id: String,
        spec_digest: Vec<u8>,
        token: Vec<u8>,
        reply: Reply<Created>,
    },
    /// Bring it to memory and go on with what it was doing.
    Recover,
    ActivityDone {
        id: OperationId,
        result: Result<Value, Fault>,
    },
    ChildDone {
        id: OperationId,
        result: Result<ChildCreated, Fault>,
    },
    /// Somebody answers a wait of this execution.
    Answer {
        claims: Claims,
        fingerprint: String,
        outcome: Outcome,
        /// What whoever answers used, if that is an execution of ours and is known.
        used: Option<Box<Used>>,
        reply: AnswerReply,
    },
    Heartbeat {
        claims: Claims,
        fingerprint: String,
        reply: Reply<Heartbeat>,
    },
    /// Somebody decides on a question of this execution.
    Decide {
        name: String,
        decide: Box<Decide>,
        reply: Reply<()>,
    },
    TimerDue(TimerRow),
    End {
        reason: String,
        terminate: bool,
        reply: Reply<ExecutionResource>,
    },
    /// Whoever waited for this execution has given up: follow the close policy.
    CallerGone {
        caller: Uid,
        operation: Option<OperationId>,
        ack: Option<Arc<Ack>>,
    },
    Update {
        change: Change,
        reply: Reply<ExecutionResource>,
    },
    /// Let it take its first step, if it is held before it.
    Release {
        released: Released,
        reply: Reply<ExecutionResource>,
    },
    Delete {
        expected_revision: Option<u64>,
        reply: Reply<Deleted>,
    },
    Attach {
        token: Vec<u8>,
        reply: Reply<ExecutionResource>,
    },
    RetryCallbacks {
        fingerprint: Option<String>,
        reply: Reply<ExecutionResource>,
    },
    /// Deliver what this outbox row of the execution says.
    Deliver(OutboxRow),
    /// A delivery of this execution's was tried.
    Delivered {
        outbox_id: i64,
        fingerprint: String,
        result: DeliveryResult,
    },
    /// The execution's commit is through, or not.
    Committed(Result<Committed, CommitError>),
    /// A child that the execution waits for is not in the store.
    ChildMissing {
        position: String,
    },
    /// A workflow of the host's reports a step.
    Report {
        report: Report,
        reply: Reply<Reported>,
    },
    /// A worker of the host's asks for an activity.
    Task {
        id: OperationId,
        reply: Reply<Option<HostedTask>>,
    },
    /// Something was given to the host, or not.
    HostDone {
        outbox_id: i64,
        attempts: u32,
        result: Result<Option<HostedRun>, HostError>,
    },
    /// What has become of the execution's workflow.
    HostState(HostState),
    /// What callers elsewhere said, each by the fingerprint of its token.
    CallersHeard {
        row: TimerRow,
        heard: Vec<(String, CallerState)>,
    },
    /// Write down that the execution waits, if it still does.
    Settle,
    /// Stop when the commits under way are through.
    Stop,
}

/// Where the result of an answer goes.
pub(crate) enum AnswerReply {
    /// To a caller of the API: the token's fingerprint.
    Caller(Reply<String>),
    /// To the execution whose outbox the answer came from.
    Outbox { number: Number, outbox_id: i64 },
}

/// How one attempt to deliver an answer went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryResult {
    /// Accepted.
    Delivered,
    /// Will never be accepted.
    Rejected(String),
    /// Not now.
    Failed(String),
    /// The row was not an answer and is done with.
    Done,
}

/// Tells the outbox row of an execution that everybody it concerns has taken notice.
pub(crate) struct Ack {
    number: Number,
    outbox_id: i64,
    missing: AtomicUsize,
    route: Arc<Route>,
}

impl Ack {
    /// To be told by `count` executions, at least one.
    pub(crate) fn new(number: Number, outbox_id: i64, count: usize, route: Arc<Route>) -> Self {
        Self { number, outbox_id, missing: AtomicUsize::new(count), route }
    }

    /// One of them has taken notice, durably. If one never does, the row stays and is dispatched again.
    pub(crate) fn done(&self) {
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            let result = DeliveryResult::Done;
            let kind = MessageKind::Delivered { outbox_id: self.outbox_id, fingerprint: String::new(), result };
            self.route.send(Message { number: self.number, kind });
        }
    }
}
