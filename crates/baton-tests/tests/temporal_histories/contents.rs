//! Content for replays: from a folder alone, or from a server, whose answers are then kept in the folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use baton_engine::{HostedTask, Ledger, Report, Reported};
use baton_execution::OperationId;
use baton_proto::worker_v1::{GetContentRequest, worker_service_client::WorkerServiceClient};
use baton_types::{ApiError, Digest, Uid};
use bytes::Bytes;
use tonic::{Request, transport::Channel};

/// Longest content that a fixture may need, in bytes.
const CONTENT_BYTES_MAX: usize = 1 << 20;

/// A ledger that can only be read.
pub(crate) struct Contents {
    folder: PathBuf,
    server: Option<Server>,
}

/// A server as its workers see it.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) client: WorkerServiceClient<Channel>,
    pub(crate) key: String,
}

impl Contents {
    /// What is in a folder, and nothing else.
    pub(crate) fn kept(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), server: None }
    }

    /// What a server has. Whatever it is asked for is then in the folder.
    pub(crate) fn of(server: Server, folder: &Path) -> Self {
        Self { folder: folder.to_owned(), server: Some(server) }
    }
}

/// The name of a content's file: the digits of its digest.
pub(crate) fn file_of(digest: &Digest) -> String {
    digest.to_string().trim_start_matches("sha256:").to_owned()
}

#[async_trait]
impl Ledger for Contents {
    async fn installation(&self) -> Result<String, ApiError> {
        Err(ApiError::internal("a replay is of no installation"))
    }

    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, ApiError> {
        let file = self.folder.join(file_of(&digest));
        if let Ok(content) = fs::read(&file) {
            return Ok(Some(content.into()));
        }
        let Some(Server { mut client, key }) = self.server.clone() else { return Ok(None) };
        let mut request = Request::new(GetContentRequest { digest: digest.to_string() });
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        client = client.max_decoding_message_size(CONTENT_BYTES_MAX);
        let content = client.get_content(request).await.unwrap().into_inner().content;
        if let Some(content) = &content {
            fs::write(file, content).unwrap();
        }
        Ok(content)
    }

    async fn report(&self, _: Report) -> Result<Reported, ApiError> {
        Err(ApiError::internal("a replay reports nothing"))
    }

    async fn task(&self, _: Uid, _: OperationId) -> Result<Option<HostedTask>, ApiError> {
        Err(ApiError::internal("a replay runs nothing"))
    }

    async fn keep(&self, _: Uid, _: Bytes) -> Result<Digest, ApiError> {
        Err(ApiError::internal("a replay keeps nothing"))
    }
}
