//! The installation as its activities see it: [`Home`] over the application layer.
//!
//! # Invariants
//! - It does not keep the application layer alive: that one has the engine, which has the activities, which have this.
//! - What cannot be had now is a fault that may be repeated; what will never be had is none.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use baton_activities::{Home, Secret, Subscription};
use baton_execution::{Fault, fault_type};
use baton_store::Lane;
use baton_types::{ApiError, Digest, ErrorKind};
use bytes::Bytes;
use serde_json::Value;

use crate::app::{App, WeakApp};

/// The server that the activities run in. Made before the application layer, which it is joined to once that is there.
#[derive(Default)]
pub(crate) struct ServerHome(OnceLock<WeakApp>);

impl ServerHome {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Joins the application layer; only the first call counts.
    pub(crate) fn join(&self, app: &App) {
        if self.0.set(app.downgrade()).is_err() {
            tracing::error!("a second application layer was joined and is not used");
        }
    }

    fn app(&self) -> Result<App, Fault> {
        let stopping = || ApiError::new(ErrorKind::Unavailable, "SHUTTING_DOWN", "the server is shutting down");
        self.0.get().and_then(WeakApp::upgrade).ok_or_else(|| fault_of(&stopping()))
    }
}

#[async_trait]
impl Home for ServerHome {
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Secret>>, Fault> {
        self.app()?.secret_values(namespace, name).await.map_err(|error| fault_of(&error))
    }

    async fn publish(&self, namespace: &str, event: Value) -> Result<(), Fault> {
        // What an execution has done is not refused for want of room: it would only be done again.
        let published = self.app()?.publish(Lane::Internal, namespace, vec![event], "").await;
        published.map(|_| ()).map_err(|error| fault_of(&error))
    }

    async fn subscribe(&self, namespace: &str, subscription: Subscription) -> Result<(), Fault> {
        self.app()?.subscribe(namespace, &subscription).await.map_err(|error| fault_of(&error))
    }

    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, Fault> {
        let read = self.app()?.read(move |store| store.blob(digest.as_bytes())).await;
        read.map_err(|error| fault_of(&error))
    }
}

/// A refusal of the application layer, in the words of an activity. Its detail is for the log and stays there.
pub(crate) fn fault_of(error: &ApiError) -> Fault {
    let passes = matches!(
        error.kind,
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::ResourceExhausted | ErrorKind::StorageFull
    );
    if passes {
        return Fault::new(fault_type::COMMUNICATION, 503, error.message.clone());
    }
    if error.kind == ErrorKind::Internal {
        tracing::error!(reason = error.reason, detail = error.detail, "what an activity asked for cannot be had");
        return Fault::new(fault_type::RUNTIME, 500, error.message.clone());
    }
    Fault::new(fault_type::CONFIGURATION, 400, error.message.clone()).non_retryable()
}
