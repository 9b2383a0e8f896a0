//! `baton.worker.v1.WorkerService`: the ledger of executions that run in Temporal, for workers in processes of their own.
//!
//! # Invariants
//! - Whoever does not show the worker key is refused before anything of the message is read.
//! - It is there only while the engine runs executions in Temporal; it is in no reflection, being no public API.
//!
//! # Deliberately absent
//! Meaning: every call goes to the [`Ledger`] or to the [`Home`] as it is.

use std::{collections::BTreeMap, sync::Arc};

use baton_activities::{Home, Secret};
use baton_engine::Ledger;
use baton_execution::Fault;
use baton_proto::worker_v1::{
    GetContentRequest, GetContentResponse, GetInstallationRequest, GetInstallationResponse, GetSecretRequest,
    GetSecretResponse, GetTaskRequest, GetTaskResponse, KeepContentRequest, KeepContentResponse, PublishEventRequest,
    PublishEventResponse, ReportRequest, ReportResponse, SecretValues, SubscribeRequest, SubscribeResponse,
    worker_service_server::{WorkerService, WorkerServiceServer},
};
use baton_types::{ApiError, ErrorKind, Violation};
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    service::{Interceptor, interceptor::InterceptedService},
};

use super::status;
use crate::worker::{MESSAGE_BYTES_MAX, WORKER_KEY_FILE, WorkerKey, wire};

/// What workers elsewhere need of a server.
#[derive(Clone)]
pub(crate) struct WorkerSide {
    /// What they ask.
    pub(crate) ledger: Arc<dyn Ledger>,
    /// What their activities ask.
    pub(crate) home: Arc<dyn Home>,
    /// What they show to be let in.
    pub(crate) key: WorkerKey,
}

/// Lets in who shows the key.
#[derive(Clone)]
pub(super) struct Door(WorkerKey);

impl WorkerSide {
    /// The service behind its door.
    pub(super) fn service(&self) -> InterceptedService<WorkerServiceServer<Self>, Door> {
        let service = WorkerServiceServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        InterceptedService::new(service, Door(self.key.clone()))
    }
}

impl Interceptor for Door {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match shown(request.metadata()) {
            Some(key) if self.0.is(key) => Ok(request),
            Some(_) => Err(refused("the worker key is not the one of this server")),
            None => Err(refused("the worker key is missing")),
        }
    }
}

fn shown(metadata: &MetadataMap) -> Option<&str> {
    metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

fn refused(message: &str) -> Status {
    let hint = format!(
        "start the worker with --worker-key-file and the file {WORKER_KEY_FILE} in the server's data directory"
    );
    status::of(ApiError::new(ErrorKind::Unauthenticated, "WORKER_KEY_REFUSED", message).hint(hint))
}

#[tonic::async_trait]
impl WorkerService for WorkerSide {
    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let report = wire::report(request.into_inner()).map_err(status::of)?;
        let reported = self.ledger.report(report).await.map_err(status::of)?;
        Ok(Response::new(wire::of_reported(&reported)))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        let GetTaskRequest { uid, operation } = request.into_inner();
        let uid = wire::uid("uid", &uid).map_err(status::of)?;
        let id = wire::operation("operation", operation).map_err(status::of)?;
        let task = self.ledger.task(uid, id).await.map_err(status::of)?;
        Ok(Response::new(wire::of_task(task)))
    }

    async fn get_content(&self, request: Request<GetContentRequest>) -> Result<Response<GetContentResponse>, Status> {
        let digest = wire::digest("digest", &request.get_ref().digest).map_err(status::of)?;
        let content = self.ledger.content(digest).await.map_err(status::of)?;
        Ok(Response::new(GetContentResponse { content }))
    }

    async fn keep_content(
        &self,
        request: Request<KeepContentRequest>,
    ) -> Result<Response<KeepContentResponse>, Status> {
        let KeepContentRequest { uid, content } = request.into_inner();
        let uid = wire::uid("uid", &uid).map_err(status::of)?;
        let digest = self.ledger.keep(uid, content).await.map_err(status::of)?;
        Ok(Response::new(KeepContentResponse { digest: digest.to_string() }))
    }

    async fn get_installation(
        &self,
        _: Request<GetInstallationRequest>,
    ) -> Result<Response<GetInstallationResponse>, Status> {
        let installation = self.ledger.installation().await.map_err(status::of)?;
        Ok(Response::new(GetInstallationResponse { installation }))
    }

    async fn publish_event(
        &self,
        request: Request<PublishEventRequest>,
    ) -> Result<Response<PublishEventResponse>, Status> {
        let PublishEventRequest { namespace, event_json } = request.into_inner();
        let event = read("event_json", &event_json)?;
        self.home.publish(&namespace, event).await.map_err(|fault| status::of(refusal_of(&fault)))?;
        Ok(Response::new(PublishEventResponse {}))
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<SubscribeResponse>, Status> {
        let SubscribeRequest { namespace, subscription_json } = request.into_inner();
        let subscription = read("subscription_json", &subscription_json)?;
        self.home.subscribe(&namespace, subscription).await.map_err(|fault| status::of(refusal_of(&fault)))?;
        Ok(Response::new(SubscribeResponse {}))
    }

    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let GetSecretRequest { namespace, name } = request.into_inner();
        let secret = self.home.secret(&namespace, &name).await.map_err(|fault| status::of(refusal_of(&fault)))?;
        let values = |values: BTreeMap<String, Secret>| SecretValues {
            values: values.into_iter().map(|(key, value)| (key, value.expose().to_owned())).collect(),
        };
        Ok(Response::new(GetSecretResponse { secret: secret.map(values) }))
    }
}

/// A part of a message that is JSON text.
fn read<T: serde::de::DeserializeOwned>(field: &str, text: &str) -> Result<T, Status> {
    serde_json::from_str(text).map_err(|error| {
        let violation = Violation::new(field, format!("cannot be read: {error}"));
        status::of(ApiError::violations(vec![violation]))
    })
}

/// What activities were not given, as the refusal that gives the same fault again on the other side.
fn refusal_of(fault: &Fault) -> ApiError {
    let (kind, reason) = if fault.non_retryable {
        (ErrorKind::InvalidArgument, "FIELD_INVALID")
    } else {
        (ErrorKind::Unavailable, "STARTING")
    };
    ApiError::new(kind, reason, fault.detail.clone().unwrap_or_default())
}
