//! The server that a worker works for, as its activities see it: [`Home`] over `baton.worker.v1`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use baton_activities::{Home, Secret, Subscription};
use baton_engine::Ledger;
use baton_execution::Fault;
use baton_proto::worker_v1;
use baton_types::Digest;
use bytes::Bytes;
use serde_json::Value;

use super::RemoteLedger;
use crate::home::fault_of;

/// The home of activities that run elsewhere; asks the same servers as the ledger.
pub(super) struct RemoteHome(pub(super) RemoteLedger);

#[async_trait]
impl Home for RemoteHome {
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Secret>>, Fault> {
        let wire = worker_v1::GetSecretRequest { namespace: namespace.to_owned(), name: name.to_owned() };
        let answer = self.0.call(wire, |mut client, request| async move { client.get_secret(request).await }).await;
        let answer = answer.map_err(|error| fault_of(&error))?;
        let values = |secret: worker_v1::SecretValues| {
            secret.values.into_iter().map(|(key, value)| (key, Secret::new(value))).collect()
        };
        Ok(answer.secret.map(values))
    }

    async fn publish(&self, namespace: &str, event: Value) -> Result<(), Fault> {
        let wire = worker_v1::PublishEventRequest { namespace: namespace.to_owned(), event_json: event.to_string() };
        let answer = self.0.call(wire, |mut client, request| async move { client.publish_event(request).await }).await;
        answer.map(|_| ()).map_err(|error| fault_of(&error))
    }

    async fn subscribe(&self, namespace: &str, subscription: Subscription) -> Result<(), Fault> {
        let subscription_json = serde_json::to_string(&subscription).unwrap_or_default();
        let wire = worker_v1::SubscribeRequest { namespace: namespace.to_owned(), subscription_json };
        let answer = self.0.call(wire, |mut client, request| async move { client.subscribe(request).await }).await;
        answer.map(|_| ()).map_err(|error| fault_of(&error))
    }
    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, Fault> {
        Ledger::content(&self.0, digest).await.map_err(|error| fault_of(&error))
    }
}
