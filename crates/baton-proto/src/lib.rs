//! The public API as Rust: resource types generated from `proto/`, their JSON mapping, and the history codec.
//!
//! # Invariants
//! - A resource has one Rust type, the generated one; gRPC, REST, YAML and disk share it.
//! - JSON is the Kubernetes-style mapping: camelCase, empty fields left out, free data inline.
//! - Reading a WorkflowExecution lifts a callback token that an old writer put in status; see [`legacy`].
//!
//! # Deliberately absent
//! Any rule of the API: what a field may hold is checked by the server's strategies.

mod data;
mod execution;
mod history;
mod json;
pub mod legacy;
mod resource;
mod timestamp;

pub use data::{DataLoader, NoBlobs};
pub use execution::{CallbackState, ExecutionResource, condition, set_condition};
pub use history::{
    HistoryCodecError, decode_event, decode_used, encode_event, encode_event_within, encode_used, event_type,
    outcome_phase,
};
pub use json::{JsonError, from_json, from_json_value, to_json, to_json_value};
pub use resource::{API_VERSION, Resource, kind};
pub use timestamp::Timestamp;

#[expect(unreachable_pub, reason = "generated")]
mod generated {
    #[expect(
        missing_docs,
        clippy::pedantic,
        clippy::large_enum_variant,
        reason = "generated; the documentation is in the proto files"
    )]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/baton.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/baton.v1.serde.rs"));
    }
    pub mod history {
        #[expect(missing_docs, clippy::pedantic, reason = "generated; the documentation is in the proto files")]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/baton.history.v1.rs"));
            include!(concat!(env!("OUT_DIR"), "/baton.history.v1.serde.rs"));
        }
    }
    pub mod worker {
        #[expect(missing_docs, clippy::pedantic, reason = "generated; the documentation is in the proto files")]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/worker/baton.worker.v1.rs"));
        }
    }
    #[expect(missing_docs, clippy::pedantic, reason = "generated; the documentation is in the proto files")]
    pub mod temporal_api {
        include!(concat!(env!("OUT_DIR"), "/temporal/api.rs"));
    }
}

/// The resources and services, `baton.v1`.
pub use generated::v1;

/// History events, `baton.history.v1`.
pub use generated::history::v1 as history_v1;

/// What a worker asks of the server, `baton.worker.v1`: between the two only, no public API.
pub use generated::worker::v1 as worker_v1;

/// The part of Temporal's API that a server answers in its place, `temporal.api`. Not ours: no JSON mapping, no descriptors.
pub use generated::temporal_api::temporal::api as temporal;

/// The descriptors of `baton.worker.v1` and what it refers to, for the compatibility check.
pub const WORKER_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/worker.binpb"));

/// The descriptors of everything public in `proto/`, for reflection and for the compatibility check.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/baton.binpb"));
