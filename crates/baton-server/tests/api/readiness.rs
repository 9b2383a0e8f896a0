//! What a server says of itself while executions run in Temporal: it serves without it, and is ready with it.

use std::net::Ipv4Addr;

use baton_engine_temporal::TemporalOptions;
use baton_server::{RunningServer, ServerOptions, StartError, start, worker::TemporalSettings};
use baton_temporal_testing::TemporalServer;
use reqwest::{Client, StatusCode};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::harness::{LIMIT, client, send, workflow, workflow_execution};

struct Site {
    running: RunningServer,
    client: Client,
    folder: TempDir,
}

impl Site {
    async fn start(address: &str, change: impl FnOnce(&mut TemporalSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let connection = TemporalOptions { address: address.to_owned(), ..TemporalOptions::default() };
        let mut settings = TemporalSettings::new(connection);
        change(&mut settings);
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let options = ServerOptions { listen, temporal: Some(settings), ..ServerOptions::new(folder.path()) };
        Self { running: start(options).await.unwrap(), client: client().build().unwrap(), folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address)
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = send(self.client.get(self.url(path))).await;
        (answer.status, answer.text)
    }

    async fn post(&self, plural: &str, body: &serde_json::Value) -> StatusCode {
        let url = self.url(&format!("/apis/baton.dev/v1/namespaces/default/{plural}"));
        send(self.client.post(url).json(body)).await.status
    }

    async fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(Endpoint::from_shared(self.url("")).unwrap().connect().await.unwrap())
    }

    /// Follows the health of the server until it is this, and gives what `/readyz` says then.
    async fn becomes(&self, wanted: ServingStatus) -> (StatusCode, String) {
        let mut changes = self.health().await.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        let becomes = async { while changes.message().await.unwrap().unwrap().status() != wanted {} };
        tokio::time::timeout(2 * LIMIT, becomes).await.unwrap();
        self.get("/readyz").await
    }
}

#[tokio::test]
async fn without_temporal_it_serves_and_is_not_ready() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let site = Site::start(&nowhere, |_| {}).await;
    let (status, said) = site.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.starts_with("not ready: executions wait until Temporal can be reached: "), "{said}");
    assert_eq!(site.get("/healthz").await, (StatusCode::OK, "ok".to_owned()), "starting again would not help");
    let health = site.health().await.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::NotServing);
    assert_eq!(site.post("workflows", &workflow("quick")).await, StatusCode::CREATED);
    assert_eq!(site.post("workflowexecutions", &workflow_execution("early", "quick")).await, StatusCode::CREATED);
    let (status, early) = site.get("/apis/baton.dev/v1/namespaces/default/workflowexecutions/early").await;
    assert!(status == StatusCode::OK && early.contains("\"phase\":\"Pending\""), "{early}");
    site.running.shutdown().await;
    assert!(site.folder.path().join("worker.key").is_file());
}

#[tokio::test]
async fn it_is_ready_while_temporal_can_be_reached() {
    let mut temporal = TemporalServer::start();
    let site = Site::start(&temporal.address(), |_| {}).await;
    let ready = (StatusCode::OK, "ok".to_owned());
    assert_eq!(site.becomes(ServingStatus::Serving).await, ready);
    temporal.kill();
    assert_eq!(site.becomes(ServingStatus::NotServing).await.0, StatusCode::SERVICE_UNAVAILABLE);
    temporal.restart();
    assert_eq!(site.becomes(ServingStatus::Serving).await, ready);
    site.running.shutdown().await;
}

#[tokio::test]
async fn the_embedded_engine_is_ready_without_the_temporal_that_it_answers() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let site = Site::start(&nowhere, |settings| settings.runs_executions = false).await;
    assert_eq!(site.get("/readyz").await, (StatusCode::OK, "ok".to_owned()));
    assert!(!site.folder.path().join("worker.key").exists(), "there are no workers to let in");
    site.running.shutdown().await;
}

#[tokio::test]
async fn settings_that_can_never_work_are_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let with = |address: &str| {
        let connection = TemporalOptions { address: address.to_owned(), ..TemporalOptions::default() };
        let temporal = Some(TemporalSettings::new(connection));
        ServerOptions { listen: (Ipv4Addr::LOCALHOST, 0).into(), temporal, ..ServerOptions::new(folder.path()) }
    };
    let refused = start(with("ftp://temporal")).await.unwrap_err();
    assert!(matches!(refused, StartError::Temporal(_)) && refused.hint().unwrap().contains("config show"), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the data was not touched");
}
