//! What activities need of the installation that they run for: its secrets, its events, and what it keeps.
//!
//! In a server that is the server itself, in a worker elsewhere the server that it works for.

use std::collections::BTreeMap;

use async_trait::async_trait;
use baton_execution::{Fault, fault_type};
use baton_types::Digest;
use bytes::Bytes;
use serde_json::Value;

use crate::options::Secret;

/// The installation, as activities see it.
#[async_trait]
pub trait Home: Send + Sync {
    /// The values of a secret by their keys; `None` if there is no such secret in the namespace.
    ///
    /// # Errors
    /// The secret cannot be read now; the fault says whether repeating may help.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Secret>>, Fault>;

    /// Keeps an event (CloudEvents 1.0, JSON format) for whoever listens in the namespace. An event with the `source` and
    /// `id` of one that is kept is the same event, and changes nothing.
    ///
    /// # Errors
    /// It is no event, or it cannot be kept now.
    async fn publish(&self, namespace: &str, event: Value) -> Result<(), Fault>;

    /// Has the holder of `callback_token` told of events. Repeated with the same token it changes nothing.
    ///
    /// # Errors
    /// The subscription is none, or it cannot be kept now.
    async fn subscribe(&self, namespace: &str, subscription: Subscription) -> Result<(), Fault>;

    /// Content that is kept by its digest; `None` if it is not there.
    ///
    /// # Errors
    /// It cannot be read now.
    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, Fault>;
}

/// Who wants to be told of which events.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Return address; answered once, with `{"events": [{"event": …, "cursor": …}], "cursor": …}`.
    pub callback_token: String,
    /// Context attributes that an event must have, as literal texts; an event that fits any of them is told. What else an
    /// event must be, whoever is told finds out.
    pub filters: Vec<BTreeMap<String, String>>,
    /// The cursor of the last event that is known: what came before is not told. `None` if none is known.
    pub after: Option<String>,
    /// Of the events that are there already, those that were accepted at this time or later are told, in milliseconds since
    /// 1970. `None` tells all after the cursor, and without a cursor those from now on.
    pub since_ms: Option<i64>,
    /// When nobody waits any more, in milliseconds since 1970.
    pub expires_ms: i64,
}

/// No installation: for activities that run by themselves.
pub struct Homeless;

fn nobody() -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, "this process has no server to ask for secrets, events and contents")
        .non_retryable()
}

#[async_trait]
impl Home for Homeless {
    async fn secret(&self, _namespace: &str, _name: &str) -> Result<Option<BTreeMap<String, Secret>>, Fault> {
        Err(nobody())
    }

    async fn publish(&self, _namespace: &str, _event: Value) -> Result<(), Fault> {
        Err(nobody())
    }

    async fn subscribe(&self, _namespace: &str, _subscription: Subscription) -> Result<(), Fault> {
        Err(nobody())
    }
    async fn content(&self, _digest: Digest) -> Result<Option<Bytes>, Fault> {
        Err(nobody())
    }
}
