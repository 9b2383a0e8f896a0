//! What an engine takes and gives: the words between it and the server.

use baton_execution::{Fault, Grant, ProgramKind, StartChild};
use baton_proto::{ExecutionResource, v1};
use baton_types::{ApiError, Digest, Uid};
use bytes::Bytes;
use serde_json::Value;

/// An execution that has passed admission and is to be created.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// `metadata` whole but for resourceVersion (name, namespace, uid, generation, creation time, owners); `spec` with
    /// defaults filled in and the callback token in clear; `status` is ignored and made by the engine.
    pub resource: ExecutionResource,
    /// Content of the template, as JSON: what the execution runs to its end.
    pub definition: Bytes,
    /// Digest of `definition`.
    pub digest: Digest,
    /// Name of the template; empty for an inline definition.
    pub template_name: String,
    /// Generation of the template; 0 for an inline definition.
    pub template_generation: i32,
    /// What the Program gets as its input.
    pub input: Value,
    /// What the Program gets as its settings, such as limits.
    pub settings: Value,
    /// The whole execution's limit of time, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Who started it, if that was an execution.
    pub parent: Option<ParentRef>,
    /// If it is to wait before its first step: for what. It begins with [`Engine::release`](crate::Engine::release).
    pub held: Option<Held>,
}

/// What an execution waits for before its first step: reason and message of its condition `Waiting`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// A CamelCase word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// With what an execution that was held begins.
pub struct Released {
    /// What it goes on from: [`Start::carried_over`](baton_execution::Start::carried_over).
    pub carried_over: Value,
    /// Changes of its status that tell so.
    pub change: Box<dyn FnOnce(&mut ExecutionResource) + Send>,
}

/// What an execution has left for others, by [`Program::carry_over`](baton_execution::Program::carry_over).
#[derive(Clone, Debug, PartialEq)]
pub struct CarriedOver {
    /// Names the content in the store, for as long as the execution is there or somebody else refers to it.
    pub digest: Digest,
    /// The content, as JSON.
    pub content: Bytes,
}

/// The execution that starts another one.
#[derive(Clone, Debug)]
pub struct ParentRef {
    /// Which Program it runs.
    pub kind: ProgramKind,
    /// Its namespace, which is its children's too.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
    /// The root of its tree; itself if it is one.
    pub root: v1::ExecutionReference,
    /// `<position>#<attempt>` of the operation that starts the child.
    pub operation: String,
    /// How many executions are above the child, 1 for a child of a root.
    pub depth: u32,
    /// What the child gets of what is left to the tree.
    pub grant: Option<Grant>,
}

/// The answer to a create.
#[derive(Clone, Debug)]
pub struct Created {
    /// As it is stored; never with a token.
    pub resource: ExecutionResource,
    /// Whether it was there already: the same name, request id and content.
    pub existing: bool,
}

/// The answer to a delete.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// Whether it is gone; false while callers are still to be told.
    pub gone: bool,
    /// As it was last.
    pub resource: ExecutionResource,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Fingerprint of the token.
    pub fingerprint: String,
    /// Whether whoever waits has been asked to end.
    pub cancel_requested: bool,
}

/// A return address for a caller outside.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// The token, to be handed over as `spec.callback_token`.
    pub token: Vec<u8>,
    /// Its fingerprint.
    pub fingerprint: String,
    /// When it stops being accepted, in milliseconds since 1970.
    pub expires_ms: i64,
}

/// A child that exists now.
#[derive(Clone, Debug)]
pub struct ChildCreated {
    /// Kind of its resource.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
}

/// Admits and creates the executions that other executions ask for. The server implements it by the same path
/// that a create from outside takes.
#[async_trait::async_trait]
pub trait Children: Send + Sync {
    /// Creates a child under a name that is the same on every repeat, with the token that it is to answer.
    ///
    /// # Errors
    /// `Ok(Err(fault))` if the child cannot be: the parent gets the fault. `Err` if it cannot be now: the engine tries again.
    async fn create_child(
        &self,
        parent: ParentRef,
        start: StartChild,
        name: String,
        token: Option<Vec<u8>>,
    ) -> Result<Result<ChildCreated, Fault>, ApiError>;
}
