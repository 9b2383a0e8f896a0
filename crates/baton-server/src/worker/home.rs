//! The server that a worker works for, as its activities see it: [`Home`] over `baton.worker.v1`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use baton_activities::{Home, Secret, Subscription};
use baton_execution::{Fault, fault_type};
use baton_proto::worker_v1;
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

    async fn publish(&self, _namespace: &str, _event: Value) -> Result<(), Fault> {
        Err(Fault::new(fault_type::CONFIGURATION, 400, "this server keeps no events").non_retryable())
    }

    async fn subscribe(&self, _namespace: &str, _subscription: Subscription) -> Result<(), Fault> {
        Err(Fault::new(fault_type::CONFIGURATION, 400, "this server keeps no events").non_retryable())
    }
}
