//! The stored form of an execution: its public message, and beside it what only the engine may see.

use baton_execution::ProgramKind;
use baton_proto::{ExecutionResource, history_v1, kind};
use baton_store::{Number, ResourceKey, StoredResource};
use baton_types::{ApiError, Uid};
use bytes::Bytes;
use prost::Message;

use crate::{hosted::Answered, sealer::Sealer};

/// A resource row's body. The public message never has the callback token in it: return addresses stand beside it, sealed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredExecution {
    /// `baton.v1.WorkflowExecution` or `baton.v1.AgentExecution`.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) resource: Bytes,
    /// In the order of `status.callbacks`.
    #[prost(message, repeated, tag = "2")]
    pub(crate) addresses: Vec<ReturnAddress>,
    /// SHA-256 of the spec without its token: what a repeated create is compared with.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) spec_digest: Vec<u8>,
    /// How many executions are above this one.
    #[prost(uint32, tag = "4")]
    pub(crate) depth: u32,
    /// When the whole execution's time is over, in milliseconds since 1970; 0 for never.
    #[prost(int64, tag = "5")]
    pub(crate) timeout_at_ms: i64,
    /// The output, where it is too long for `status`: its digest.
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) output_digest: Vec<u8>,
    /// Whether its Program runs at the host.
    #[prost(bool, tag = "7")]
    pub(crate) hosted: bool,
    /// Answers on their way to the host's workflow.
    #[prost(message, repeated, tag = "8")]
    pub(crate) answered: Vec<Answered>,
    /// Due time of the timer by which callers elsewhere are heard from, in milliseconds since 1970; 0 for none.
    #[prost(int64, tag = "9")]
    pub(crate) callers_timer_ms: i64,
    /// Of one that has ended: what it and all below it used; absent if nobody knows.
    #[prost(message, optional, tag = "18")]
    pub(crate) used: Option<history_v1::Used>,
    /// What it begins with, as long as it is held before its first step.
    #[prost(message, optional, tag = "10")]
    pub(crate) held: Option<HeldStart>,
    /// Digest of what it has left for others; empty for nothing.
    #[prost(bytes = "vec", tag = "11")]
    pub(crate) carried_digest: Vec<u8>,
}

/// The first step of an execution that is held.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeldStart {
    /// Its first input.
    #[prost(message, optional, tag = "1")]
    pub(crate) started: Option<history_v1::HistoryEvent>,
    /// The whole execution's limit of time from then on, in milliseconds; 0 for none.
    #[prost(uint64, tag = "2")]
    pub(crate) timeout_ms: u64,
}

/// Where an answer is to go.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ReturnAddress {
    /// The token, sealed to the execution's uid.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) sealed: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) fingerprint: String,
}

impl ReturnAddress {
    pub(crate) fn new(sealer: &Sealer, uid: Uid, token: &[u8]) -> Self {
        Self { sealed: sealer.seal(token, uid.as_bytes()), fingerprint: baton_types::fingerprint(token) }
    }

    pub(crate) fn token(&self, sealer: &Sealer, uid: Uid) -> Option<Vec<u8>> {
        sealer.unseal(&self.sealed, uid.as_bytes())
    }
}

/// An execution's row, read.
pub(crate) struct Row {
    pub(crate) number: Number,
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) state: baton_store::ExecState,
    pub(crate) owner: Option<Uid>,
    pub(crate) resource: ExecutionResource,
    pub(crate) extra: StoredExecution,
}

impl Row {
    /// Reads a row. A token that an old writer left in the message itself becomes a return address.
    pub(crate) fn read(stored: &StoredResource, sealer: &Sealer) -> Result<Self, ApiError> {
        let damaged =
            |what: String| ApiError::internal(format!("{} at revision {}: {what}", stored.key, stored.revision));
        let mut extra = StoredExecution::decode(stored.body.clone()).map_err(|error| damaged(error.to_string()))?;
        let bytes = std::mem::take(&mut extra.resource);
        let program = program_kind(&stored.key.kind).ok_or_else(|| damaged("not an execution".to_owned()))?;
        let mut resource = ExecutionResource::decode(program, &bytes).map_err(damaged)?;
        let uid = Uid::from_bytes(stored.uid);
        let token = resource.take_callback_token();
        if !token.is_empty() && extra.addresses.is_empty() {
            extra.addresses.push(ReturnAddress::new(sealer, uid, &token));
        }
        resource.metadata_mut().resource_version = stored.revision.to_string();
        Ok(Self {
            number: stored.number,
            uid,
            revision: stored.revision,
            state: stored.state,
            owner: stored.owner.map(Uid::from_bytes),
            resource,
            extra,
        })
    }
}

/// Which Program a kind of resource runs, if it is an execution.
pub(crate) fn program_kind(of: &str) -> Option<ProgramKind> {
    match of {
        kind::WORKFLOW_EXECUTION => Some(ProgramKind::Workflow),
        kind::AGENT_EXECUTION => Some(ProgramKind::Agent),
        _ => None,
    }
}

/// The key of an execution's row.
pub(crate) fn key_of(resource: &ExecutionResource) -> ResourceKey {
    let metadata = resource.metadata();
    ResourceKey::new(resource.kind(), metadata.namespace.clone(), metadata.name.clone())
}

/// The public resource of a body and revision of the store, for reads and watches: never with a token.
///
/// # Errors
/// Internal, if the body is damaged.
pub fn decode_stored(kind: &str, body: &Bytes, revision: u64) -> Result<ExecutionResource, ApiError> {
    let damaged = |what: String| ApiError::internal(format!("a {kind} at revision {revision}: {what}"));
    let program = program_kind(kind).ok_or_else(|| damaged("not an execution".to_owned()))?;
    let extra = StoredExecution::decode(body.clone()).map_err(|error| damaged(error.to_string()))?;
    let mut resource = ExecutionResource::decode(program, &extra.resource).map_err(damaged)?;
    resource.take_callback_token();
    resource.metadata_mut().resource_version = revision.to_string();
    Ok(resource)
}
