//! Taking in an execution that ended somewhere else.
//!
//! Such an execution has a row and nothing beside it: no history, no snapshot, nothing to run. Whoever stores the row may
//! then [`attach`](crate::Engine::attach) a return address to it, as to any execution that has ended.
//!
//! # Invariants
//! - No token gets into the row, sealed or not: a return address comes by `attach` alone.
//!
//! # Deliberately absent
//! One that has not ended: it starts anew, by [`Engine::create`](crate::Engine::create).

use baton_proto::ExecutionResource;
use baton_store::{ExecState, Expect, Number, ResourcePut, canonical_labels};
use baton_types::Uid;
use prost::Message as _;

use crate::stored::{StoredExecution, key_of};

/// The row of an execution whose phase is terminal, to be created as `number`. `expires_at_ms` is when it is to be
/// deleted, in milliseconds since 1970; `None` for never. A callback token in `resource` is left out.
pub fn ended_row(mut resource: ExecutionResource, uid: Uid, number: Number, expires_at_ms: Option<i64>) -> ResourcePut {
    resource.take_callback_token();
    let labels = resource.metadata().labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let labels = canonical_labels(labels);
    let row = StoredExecution { resource: resource.encode(), ..StoredExecution::default() };
    ResourcePut {
        key: key_of(&resource),
        uid: *uid.as_bytes(),
        number,
        expect: Expect::Absent,
        body: row.encode_to_vec().into(),
        labels,
        state: ExecState::Closed,
        owner: None,
        expires_at_ms,
        deleting: false,
    }
}
