//! Runs Programs on Temporal, and answers Temporal task tokens.
//!
//! [`TemporalHost`] starts a workflow for each execution and passes on what the engine has for it; a [`Worker`] polls Temporal
//! and runs those workflows and their activities. The engine stays the keeper: see [`baton_engine::Host`] and
//! [`baton_engine::Ledger`].

pub mod connect;
pub mod options;
mod receiver;

mod caller;
mod namespaces;
mod rpc;
mod token;

mod activities;
mod contents;
mod host;
mod worker;
mod workflow;

pub use self::{
    connect::{ConnectError, Connection, connect},
    host::{
        KIND_ATTRIBUTE, NAME_ATTRIBUTE, NAMESPACE_ATTRIBUTE, PHASE_ATTRIBUTE, TemporalHost, TroubleMarks,
        register_search_attributes,
    },
    options::{
        Hidden, OptionsError, Origin, Pem, Resolved, TemporalOptions, TemporalOptionsOverrides, TlsOptions,
        from_environment, resolve,
    },
    receiver::TemporalReceiver,
    worker::{ActivityTimes, RunLimits, Worker, WorkerError, WorkerOptions},
    workflow::replay::replay_history,
};
