//! The server: one application layer under REST and gRPC, joined to the engine and the store.
//!
//! [`start`] runs it in the present tokio runtime. A call comes in through `rest/` or `grpc/`, which check its shape, and
//! goes to [`app`], which knows its meaning; executions go on to the engine, templates to the store.
//!
//! # Invariants
//! - Of several servers over one store one leads and does everything; the others forward to it ([`leading`]).
//! - One port, one process; everything that a caller can do over REST can be done over gRPC, by the same functions.
//! - No secret is logged: neither callback tokens nor the payload of a request.
//!
//! # Deliberately absent
//! Authentication: the server refuses to listen on anything but loopback addresses.

mod a2a_server;
pub mod app;
pub mod config;
mod errors;
mod events;
mod fence;
mod grpc;
mod home;
mod interop;
mod leading;
mod mcp_server;
pub mod metrics;
mod programs;
mod reports;
mod rest;
mod schedule;
mod serve;
mod server;
mod sessions;
mod templates;
mod traces;
mod upkeep;
pub mod worker;

pub use events::EventsOptions;
pub use leading::ServerFailure;
pub use programs::programs;
pub use reports::{Lifecycle, ReportOptions};
pub use schedule::{Clock, ScheduleOptions, SystemClock};
pub use server::{KEY_FILE, PORT_DEFAULT, RunningServer, ServerOptions, StartError, start, start_with};
pub use upkeep::UpkeepOptions;

// For programs that run a server or work on its data directory, so that they need no crate of the layers below.
pub use baton_activities::{EgressPolicy, Secret, TracesOptions};
pub use baton_agent::{
    AgentDefinition, PINNED_SKILLS, check as check_agent, check_compaction, check_mcp_server, check_skill,
    load as load_agent, play_model,
};
pub use baton_engine::EngineOptions;
pub use baton_store::{BackupReport, Keep, Store, StoreError, StoreOptions};
pub use baton_workflow::{
    Definition as WorkflowDefinition, External, ExternalKind, RESOURCES, check as check_workflow, externals, graph,
    rehearsal,
};
