//! The embedded durable engine: runs any Program on this machine, over the store.
//!
//! Executions are spread over worker threads by their number. All inputs of one execution pass its worker's queue; one
//! step takes what is there, feeds the Program, and hands **one transaction** to the store: the history, timers, status
//! and outbox of that step. Only after the commit do its effects start and its callers get their answer.
//!
//! # Invariants
//! - An execution has one writer: its worker. Changes of metadata go through it too.
//! - At most one commit of an execution is under way; inputs that arrive meanwhile are taken together in the next step.
//! - Nothing outside happens because of a step before the step is durable.
//! - What is parked (waits only for timers, callbacks, people) may leave memory; a snapshot and the tail of its history
//!   bring it back.
//! - Every terminal step enqueues an answer for every return address in the same transaction.
//!
//! # Deliberately absent
//! What a workflow or an agent is (a [`Program`](baton_execution::Program)), how a resource is admitted (the server), and
//! what touches the world ([`Activities`](baton_execution::Activities)).
//!
//! # Failure
//! A dead store stops every step: callers are told that the outcome is unknown, and the restart recovers. A history that
//! does not replay stalls that execution alone, with a condition that says so.

mod adopt;
mod answers;
mod api;
mod approvals;
mod callers;
mod changes;
mod delivery;
mod effects;
mod engine;
mod entry;
mod errors;
mod execution;
mod held;
mod hide;
mod history;
mod host;
mod hosted;
mod ledger;
mod message;
mod reconcile;
mod sealer;
mod status;
mod steps;
mod stored;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
mod transients;
mod worker;

pub use adopt::ended_row;
pub use api::{
    Admitted, CarriedOver, ChildCreated, Children, Created, Deleted, Heartbeat, Held, Mailbox, ParentRef, Released,
};
pub use approvals::Decide;
pub use effects::{in_doubt, perform};
pub use engine::{Elsewhere, Engine, EngineOptions, StartError};
pub use errors::{chain, commit_failed, read_failed};
pub use execution::{Asked, Execution, Open, Pinned, Stalled, Step, StepEffect, Timer, Wait};
pub use host::{
    CallerState, Delivery, Host, HostEnding, HostError, HostState, HostedInput, HostedRun, HostedStart, HostedTask,
    Ledger, Receiver, Report, Reported,
};
pub use reconcile::ReconcileReport;
pub use sealer::{KeyError, Sealer, TOKEN_PREFIX};
pub use stored::decode_stored;
pub use transients::{ACTIVITY_BYTES_MAX, BYTES_MAX, Emitted, WATCHERS_MAX, Watching};

/// Longest callback token that is accepted, in bytes. Temporal's are about 110.
pub const CALLBACK_TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Largest output that is kept in `status` and delivered with an answer, in bytes. Above it the content is stored by
/// digest, and status and answer hold a reference that can be read from the API.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Most events that one history may have; the execution then fails, naming this limit.
pub const HISTORY_EVENTS_MAX: i64 = 200_000;

/// How long answers are tried after the end if `spec.callbackDeadline` does not say.
pub const CALLBACK_DEADLINE_DEFAULT: std::time::Duration = std::time::Duration::from_hours(24);

/// Finalizer that holds a deleted execution until its callers were told.
pub const CALLBACK_FINALIZER: &str = "baton.dev/callback-delivery";
