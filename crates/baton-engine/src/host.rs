//! Executions that run elsewhere, and callers that wait elsewhere.
//!
//! With a [`Host`] an execution's Program runs in a workflow of the host's (Temporal). The engine stays the keeper of the
//! execution: its resource, its event history, its return addresses, its children. The host's workflow drives the same
//! [`Execution`](crate::Execution) as the engine does, and **reports every step before it carries it out** ([`Ledger::report`]),
//! so that the store's history is whole and nothing happens that is not in it. The engine follows with an `Execution` of its
//! own: that is how it knows what is open, refuses a second answer, and starts children.
//!
//! # Invariants
//! - Events are numbered; a report is taken only as the continuation of the history. The same again changes nothing; anything
//!   else is answered with the present state, which the workflow then goes on from. So an attempt of a workflow task that was
//!   lost after its report, a workflow that was reset, and a late report all end in the same history.
//! - What the engine gives to the host passes the outbox: it is repeated until the host has taken it. A workflow ignores an
//!   input that it does not want any more.
//! - No callback token reaches the host: an activity gets its input, with the token in place, from [`Ledger::task`].

use std::time::Duration;

use async_trait::async_trait;
use baton_execution::{ActivityTask, OperationId, Outcome, ProgramKind};
use baton_proto::history_v1;
use baton_types::{ApiError, Digest, Uid};
use bytes::Bytes;

/// What a host needs to set an execution going; the same on every repeat.
#[derive(Clone, Debug, PartialEq)]
pub struct HostedStart {
    /// Which installation of Baton it is of; see [`Ledger::installation`].
    pub installation: String,
    /// Identity of the execution.
    pub uid: Uid,
    /// Which Program it runs.
    pub kind: ProgramKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The content that it is pinned to, to be had from [`Ledger::content`].
    pub digest: Digest,
    /// Its first input, `Started`, as in history (number and time are 0). Long data is named by digest.
    pub started: history_v1::HistoryEvent,
    /// Whether it is suspended from its first moment.
    pub suspended: bool,
    /// When its whole time is over, in milliseconds since 1970. The engine tells it then; the host may use it as the last
    /// resort against an execution that nobody ends.
    pub deadline_ms: Option<i64>,
}

/// An execution as the host knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedRun {
    /// `status.temporalWorkflowId`.
    pub workflow_id: String,
    /// `status.temporalRunId`.
    pub run_id: String,
}

/// Something that the engine has for an execution at its host.
#[derive(Clone, Debug, PartialEq)]
pub enum HostedInput {
    /// Inputs as in history (numbers and times are 0; long data by digest): answers, children that exist, the end of its time.
    Events(Vec<history_v1::HistoryEvent>),
    /// What `spec.suspend` says. Of two, the one of the higher generation holds.
    Suspend {
        /// Whether it is to be suspended.
        suspended: bool,
        /// Grows with every change of it; more than 0.
        generation: i64,
    },
    /// Somebody asks for its end; its Program winds up.
    Cancel {
        /// Why.
        reason: String,
    },
    /// It has ended here and is to end there, at once. Nothing that it reports is taken any more.
    Terminate {
        /// Why.
        reason: String,
    },
}

/// Why a host did not do as it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is no such workflow, or it has ended: trying again is useless.
    #[error("{0}")]
    Gone(String),
    /// Not now: the host is down, busy, or does not let us in.
    #[error("{0}")]
    Unavailable(String),
}

/// What has become of a workflow, as the host says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It runs; the run may be a later one than the one that was started.
    Running {
        /// The present run.
        run_id: String,
        /// Why it does not get on, if the host sees a reason that somebody must do something about.
        trouble: Option<String>,
    },
    /// It has ended. What its Program had to say was reported before; if it was not, this is all that is known.
    Ended {
        /// How.
        how: HostEnding,
        /// In the host's words.
        reason: String,
    },
    /// The host does not know it: it was never started, or its history is deleted.
    Unknown,
}

/// How a workflow ended without a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostEnding {
    /// As completed, which no workflow of ours does without a report.
    Completed,
    /// Failed.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Terminated by an operator.
    Terminated,
    /// Its time was over.
    TimedOut,
}

/// Runs Programs that do not run in this process.
#[async_trait]
pub trait Host: Send + Sync {
    /// Starts a workflow for an execution. A repeat finds the one that was started before.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn start(&self, start: HostedStart) -> Result<HostedRun, HostError>;

    /// Gives something to a workflow. At least once: a repeat must do no harm.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn give(&self, workflow_id: &str, input: HostedInput) -> Result<(), HostError>;

    /// What has become of a workflow.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn state(&self, workflow_id: &str) -> Result<HostState, HostError>;

    /// Executions whose workflow ended since a time (milliseconds since 1970), as far as the host can tell quickly. A hint
    /// that spares time: what it leaves out is found by [`Self::state`].
    ///
    /// # Errors
    /// `Unavailable`.
    async fn ended_since(&self, since_ms: i64) -> Result<Vec<Uid>, HostError>;

    /// Whether the host can be reached now, for `/readyz`.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    async fn ready(&self) -> Result<(), HostError>;
}

/// A step of an execution that runs at its host: the next events of its history.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which execution.
    pub uid: Uid,
    /// Which workflow and run reports.
    pub run: HostedRun,
    /// Numbered on from the history. May be empty, to ask for the state alone.
    pub events: Vec<history_v1::HistoryEvent>,
    /// Long data of the events, by digest.
    pub contents: Vec<(Digest, Bytes)>,
    /// Whether the state is wanted in any case.
    pub want_state: bool,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It is in the history, durably, now or since an earlier time; go on.
    Taken {
        /// The state after it, to be had from [`Ledger::content`], if it was wanted: bytes for `Execution::restore`.
        state: Option<Digest>,
    },
    /// The history goes on differently. Nothing of the report was taken: go on from this state.
    Diverged {
        /// The state of the execution as its history has it.
        state: Digest,
    },
    /// The execution has ended, or is gone. Nothing of the report was taken: end at once.
    Closed,
}

/// An activity with its input, and the token that it hands out.
#[derive(Clone, Debug)]
pub struct HostedTask {
    /// What to run; a callback token is in its place.
    pub task: ActivityTask,
    /// The token that is in it, to be taken out of what comes back.
    pub token: Option<String>,
}

/// The keeper of executions, as a worker of a host sees it.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Which installation this is: the same for all servers of one store, another one for everybody else. Several that share a
    /// host are told apart by it. Not secret, and at most 64 characters.
    ///
    /// # Errors
    /// Those that pass: ask again.
    async fn installation(&self) -> Result<String, ApiError>;

    /// Reports a step. When it is taken it is durable, and the next one may be decided.
    ///
    /// # Errors
    /// Unavailable and others that pass: report again. InvalidArgument for events that cannot be read.
    async fn report(&self, report: Report) -> Result<Reported, ApiError>;

    /// The activity that is open under an id; `None` if it is not wanted any more.
    ///
    /// # Errors
    /// Those that pass: ask again.
    async fn task(&self, uid: Uid, id: OperationId) -> Result<Option<HostedTask>, ApiError>;

    /// Content by its digest; `None` if there is none. Never changes, so it may be kept for ever.
    ///
    /// # Errors
    /// Those that pass: ask again.
    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, ApiError>;

    /// Keeps long content for as long as the execution exists.
    ///
    /// # Errors
    /// NotFound if the execution is gone; those that pass: try again.
    async fn keep(&self, uid: Uid, content: Bytes) -> Result<Digest, ApiError>;
}

/// How one attempt to answer a caller elsewhere went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The caller has it.
    Accepted,
    /// Nobody waits there any more, or the answer will never be taken.
    Rejected(String),
    /// Not now.
    Failed(String),
}

/// What a heartbeat tells about a caller elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerState {
    /// It waits; it is to be told again after this time at the latest.
    Waits {
        /// The pause.
        again_after: Duration,
    },
    /// It was asked to end and waits for us to do so; it is to be told again after this time at the latest.
    CancelRequested {
        /// The pause.
        again_after: Duration,
    },
    /// This attempt of it is over, another one is to come or is there.
    Retries(String),
    /// Nobody waits there any more.
    Gone(String),
    /// It could not be asked now.
    Unreachable(String),
}

/// Answers tokens that are not Baton's own.
#[async_trait]
pub trait Receiver: Send + Sync {
    /// The word for `status.callbacks[].receiver`.
    fn name(&self) -> &'static str;

    /// Whether this token is one of its kind, and may be answered. `None` if it is of another kind. Does not ask anybody.
    fn accepts(&self, token: &[u8]) -> Option<Result<(), ApiError>>;

    /// Tells the caller how its callee ended.
    async fn deliver(&self, token: &[u8], outcome: &Outcome) -> Delivery;

    /// Tells the caller that its callee is still at work, and learns what became of the caller.
    async fn heartbeat(&self, token: &[u8]) -> CallerState;
}
