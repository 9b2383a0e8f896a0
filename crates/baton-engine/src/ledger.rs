//! The engine as workers of a host see it.

use async_trait::async_trait;
use baton_execution::OperationId;
use baton_store::{BlobPut, Lane, Txn};
use baton_types::{ApiError, Digest, ErrorKind, Uid};
use bytes::Bytes;

use crate::{
    engine::Engine,
    errors,
    host::{HostedTask, Ledger, Report, Reported},
    message::MessageKind,
    sealer::Sealer,
};

/// The name of the installation, 32 hexadecimal digits: it has what others do not have, its key.
pub(crate) fn installation(sealer: &Sealer) -> String {
    let key = sealer.derive("installation");
    let half = key.first_chunk().expect("a key has 32 bytes");
    format!("{:032x}", u128::from_be_bytes(*half))
}

#[async_trait]
impl Ledger for Engine {
    async fn installation(&self) -> Result<String, ApiError> {
        Ok(installation(&self.shared.sealer))
    }

    async fn report(&self, report: Report) -> Result<Reported, ApiError> {
        let uid = report.uid;
        let answer = match self.number_of(uid) {
            Ok(number) => self.ask(number, |reply| MessageKind::Report { report, reply }).await,
            Err(error) => Err(error),
        };
        match answer {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Reported::Closed),
            answer => answer,
        }
    }

    async fn task(&self, uid: Uid, id: OperationId) -> Result<Option<HostedTask>, ApiError> {
        let answer = match self.number_of(uid) {
            Ok(number) => self.ask(number, |reply| MessageKind::Task { id, reply }).await,
            Err(error) => Err(error),
        };
        match answer {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            answer => answer,
        }
    }

    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, ApiError> {
        self.shared.store.blob(digest.as_bytes()).map_err(|error| errors::read_failed(&error))
    }

    async fn keep(&self, uid: Uid, content: Bytes) -> Result<Digest, ApiError> {
        let number = self.number_of(uid)?;
        let digest = Digest::of(&content);
        let blobs = vec![BlobPut { digest: *digest.as_bytes(), n: Some(number), body: Some(content) }];
        let txn = Txn { blobs, ..Txn::default() };
        self.shared.store.commit_async(Lane::Internal, txn).await.map_err(|error| errors::commit_failed(&error))?;
        Ok(digest)
    }
}
