//! Open Workflow documents (CNCF Serverless Workflow 1.0): checked definitions and their interpreter, a Program.
//!
//! [`check`] turns a document into a [`Definition`], or into every [`Violation`](baton_types::Violation) at once.
//! [`load`] makes a [`WorkflowProgram`] of it: inputs in, commands out, the whole state serializable.
//!
//! # Invariants
//! - A [`Definition`] that exists is sound: every expression compiles, every `then` has a target, every name that is used is defined.
//! - Same inputs, same commands. Expressions know no clock, no environment and no randomness; jitter comes from the position.
//! - No document, no expression and no data can stop or kill the process: steps, memory, depth and size are
//!   limited, and passing a limit is a fault (see `docs/workflows/semantics.md`, "Limits").
//!
//! # Deliberately absent
//! Stores, servers, async and IO. Expressions of other languages than jq.
//!
//! # Failure
//! A fault of a workflow is data: it is raised, caught, retried or ends the execution. A
//! [`ProgramError`](baton_execution::ProgramError) means a bug or a foreign snapshot.

mod data;
mod document;
mod expression;
pub mod graph;
mod interpreter;
pub mod rehearsal;
mod schema;
mod task;
mod template;

pub use data::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX};
pub use document::{
    CATALOG_DEFAULT, Cron, Definition, External, ExternalKind, GATHERED_BYTES_MAX, GATHERED_EVENTS_MAX, Gathered,
    INTERVAL_MS_MIN, NOT_THERE, Offered, On, RESOURCES, Reference, Schedule, catalog_uri, check, externals, schedule,
};
pub use interpreter::{
    DEFAULT_ACTIVITY_MS, DEFAULT_WAIT_MS, PURE_TASKS_MAX, RestoreError, TASKS_MAX, WorkflowProgram, load, restore,
};
