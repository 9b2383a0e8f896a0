//! The kind `Artifact`: files that were uploaded; and what executions made.
//!
//! An artifact is named by the digest of its content. The content is a blob of the store, once however often it was uploaded or made,
//! and stays as long as something refers to it: the artifact until its time is over, an execution until it is deleted.
//!
//! # Invariants
//! - A content is read by whoever may read the object that refers to it, in its namespace: a digest alone opens nothing.
//! - An execution gets the content of its attachments when it is created: what becomes of an artifact afterwards, changes nothing.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use baton_agent::is_media_type;
use baton_proto::{
    Resource, Timestamp,
    v1::{AgentExecution, Artifact, ArtifactContent, ExecutionArtifact, GetExecutionArtifactRequest},
};
use baton_store::{BlobPut, CommitError, Expect, Lane, ResourceKey, ResourcePut, StoredResource, Txn};
use baton_types::{ApiError, Digest, ErrorKind, Violation};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::{
    App, Change, DeletedObject, ServedResource, WriteOptions, Written, error, metadata,
    plain::{self, PlainKind},
    strategy, template,
};

/// Largest artifact that can be uploaded, in bytes: what a request can carry in Base64.
const ARTIFACT_BYTES_MAX: usize = 1 << 20;
/// How long an artifact is kept where nothing else is said, and at most, in seconds.
const TTL_SECONDS_DEFAULT: i32 = 7 * 24 * 3600;
const TTL_SECONDS_MAX: i32 = 366 * 24 * 3600;
const MEDIA_TYPE_DEFAULT: &str = "application/octet-stream";
/// Content of all attachments of one execution together, in bytes of its Base64.
const ATTACHED_BYTES_MAX: usize = 8 << 20;

impl ServedResource for Artifact {
    const SELECTABLE_FIELDS: &'static [&'static str] = &["metadata.name", "metadata.namespace"];

    fn field(&self, field: &str) -> Option<String> {
        strategy::common_field(self, field)
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        let mut object = Self::decode(body.clone())
            .map_err(|error| ApiError::internal(format!("an artifact at revision {revision}: {error}")))?;
        object.metadata_mut().resource_version = revision.to_string();
        Ok(object)
    }

    async fn admit_new(app: &App, mut object: Self, options: WriteOptions) -> Result<Written<Self>, ApiError> {
        let mut violations = Vec::new();
        let spec = object.spec.get_or_insert_default();
        let content = Bytes::from(std::mem::take(&mut spec.data));
        if content.is_empty() || content.len() > ARTIFACT_BYTES_MAX {
            let message = format!("has {} bytes, allowed are 1 to {ARTIFACT_BYTES_MAX}", content.len());
            violations.push(Violation::new("spec.data", message));
        }
        if spec.media_type.is_empty() {
            MEDIA_TYPE_DEFAULT.clone_into(&mut spec.media_type);
        } else if !is_media_type(&spec.media_type) {
            let message = "must be a media type without parameters, such as 'image/png'";
            violations.push(Violation::new("spec.mediaType", message));
        }
        let ttl = spec.ttl_seconds.unwrap_or(TTL_SECONDS_DEFAULT);
        if !(1..=TTL_SECONDS_MAX).contains(&ttl) {
            violations.push(Violation::new("spec.ttlSeconds", format!("is {ttl}, allowed are 1 to {TTL_SECONDS_MAX}")));
        }
        let digest = Digest::of(&content);
        let name = name_of(&digest);
        let given = &mut object.metadata_mut().name;
        if given.is_empty() {
            given.clone_from(&name);
        } else if *given != name {
            let message = format!("must be '{name}', after the digest of the content, or be left out");
            violations.push(Violation::new("metadata.name", message));
        }
        metadata::complete(&mut object, &mut violations);
        let now = metadata::now_ms();
        metadata::prepare_new(object.metadata_mut(), metadata::new_uid(), now, &mut violations);
        metadata::check(object.metadata_mut(), &mut violations);
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        object.take_status_of(&Self::default());
        let status = object.status.get_or_insert_default();
        status.digest = digest.to_string();
        status.size_bytes = i32::try_from(content.len()).unwrap_or(i32::MAX);
        template::write_accepted(&mut object, now);
        template::check_size(&object)?;
        store(app, object, &digest, content, now.saturating_add(i64::from(ttl) * 1000), options).await
    }

    async fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        let of_metadata = move |present: &Self| {
            let object = change(present)?;
            if object.same_spec(present) {
                return Ok(object);
            }
            let message = "cannot be changed: another content is another artifact";
            Err(ApiError::violations(vec![Violation::new("spec", message)]))
        };
        plain::replace(app, &stored, Box::new(of_metadata), options).await
    }

    async fn remove(
        app: &App,
        stored: StoredResource,
        _expected: Option<u64>,
    ) -> Result<DeletedObject<Self>, ApiError> {
        plain::remove(app, &stored).await
    }
}

impl PlainKind for Artifact {
    fn check(&mut self, _violations: &mut Vec<Violation>) {}

    fn write_status(&mut self) {}
}

/// Stores an artifact; one that is there already gets the later of both ends.
async fn store(
    app: &App,
    mut object: Artifact,
    digest: &Digest,
    content: Bytes,
    expires_ms: i64,
    options: WriteOptions,
) -> Result<Written<Artifact>, ApiError> {
    let meta = object.metadata_mut().clone();
    let key = ResourceKey::new(Artifact::KIND, meta.namespace.clone(), meta.name.clone());
    loop {
        let looked_at = key.clone();
        let present = app.read(move |store| store.get(&looked_at)).await?;
        let (number, expect) = if let Some(stored) = &present {
            let until = expires_ms.max(stored.expires_at_ms.unwrap_or(i64::MAX));
            object = Artifact::decode_stored(&stored.body, stored.revision)?;
            object.metadata_mut().resource_version.clear();
            object.status.get_or_insert_default().expires = Some(Timestamp::from_millis(until).whole_seconds());
            (stored.number, Expect::Revision(stored.revision))
        } else {
            object.status.get_or_insert_default().expires = Some(Timestamp::from_millis(expires_ms).whole_seconds());
            (app.store().next_number(), Expect::Absent)
        };
        let written = |object: Artifact| Written { object, created: present.is_none(), warnings: Vec::new() };
        if options.dry_run {
            return Ok(written(object));
        }
        let until = present.as_ref().map_or(expires_ms, |it| expires_ms.max(it.expires_at_ms.unwrap_or(i64::MAX)));
        let put = ResourcePut { expires_at_ms: Some(until), ..template::put_of(&object, key.clone(), number, expect)? };
        let blob = BlobPut { digest: *digest.as_bytes(), n: Some(number), body: Some(content.clone()) };
        let txn = Txn { puts: vec![put], blobs: vec![blob], ..Txn::default() };
        match app.store().commit_async(Lane::External, txn).await {
            Ok(committed) => {
                let revision = committed.revisions.first().copied().unwrap_or_default();
                object.metadata_mut().resource_version = revision.to_string();
                return Ok(written(object));
            }
            // Somebody uploaded or deleted it at the same time.
            Err(CommitError::Exists { .. } | CommitError::Conflict { .. } | CommitError::NotFound { .. }) => {}
            Err(failed) => return Err(error::commit_failed(&failed)),
        }
    }
}

fn name_of(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

impl App {
    /// The content of an artifact that was uploaded.
    ///
    /// # Errors
    /// NotFound.
    pub async fn artifact_content(&self, namespace: &str, name: &str) -> Result<ArtifactContent, ApiError> {
        let object: Artifact = self.get(namespace, name).await?;
        let media_type = object.spec.unwrap_or_default().media_type;
        self.content(media_type, object.status.unwrap_or_default().digest).await
    }

    /// What an execution of an agent made, oldest first.
    ///
    /// # Errors
    /// NotFound.
    pub async fn execution_artifacts(&self, namespace: &str, name: &str) -> Result<Vec<ExecutionArtifact>, ApiError> {
        let execution: AgentExecution = self.get(namespace, name).await?;
        Ok(execution.status.unwrap_or_default().artifacts)
    }

    /// The content of something that an execution of an agent made.
    ///
    /// # Errors
    /// NotFound if there is no such execution, or if it made nothing of that name.
    pub async fn execution_artifact(&self, request: &GetExecutionArtifactRequest) -> Result<ArtifactContent, ApiError> {
        let all = self.execution_artifacts(&request.namespace, &request.name).await?;
        let Some(found) = all.iter().find(|artifact| artifact.name == request.artifact) else {
            let names: Vec<String> = all.iter().map(|artifact| format!("'{}'", artifact.name)).collect();
            let made =
                if names.is_empty() { "it made none".to_owned() } else { format!("it made {}", names.join(", ")) };
            let message = format!(
                "agent execution '{}' made no artifact '{}'; {made}",
                request.name,
                metadata::shortened(&request.artifact)
            );
            return Err(ApiError::new(ErrorKind::NotFound, "ARTIFACT_NOT_FOUND", message));
        };
        self.content(found.media_type.clone(), found.digest.clone()).await
    }

    async fn content(&self, media_type: String, digest: String) -> Result<ArtifactContent, ApiError> {
        let missing = |why: &str| ApiError::internal(format!("the content of artifact {digest}: {why}"));
        let parsed: Digest = digest.parse().map_err(|_| missing("its digest is none"))?;
        let found = self.read(move |store| store.blob(parsed.as_bytes())).await?;
        let data = found.ok_or_else(|| missing("it is not in the store"))?.to_vec();
        Ok(ArtifactContent { media_type, digest, data })
    }
}

/// Puts the contents of artifacts in place of their digests in the attachments of an execution.
pub(super) async fn attach(
    app: &App,
    namespace: &str,
    input: &mut Value,
    violations: &mut Vec<Violation>,
) -> Result<(), ApiError> {
    let Some(attachments) = input.get_mut("attachments").and_then(Value::as_array_mut) else { return Ok(()) };
    let mut bytes = 0_usize;
    for (index, attachment) in attachments.iter_mut().enumerate() {
        let digest = attachment.get("digest").and_then(Value::as_str).and_then(|text| text.parse::<Digest>().ok());
        if let (Some(digest), Some(fields)) = (digest, attachment.as_object_mut()) {
            match app.artifact_content(namespace, &name_of(&digest)).await {
                Ok(content) => {
                    fields.remove("digest");
                    fields.insert("data".to_owned(), BASE64_STANDARD.encode(content.data).into());
                }
                Err(refused) if refused.kind == ErrorKind::NotFound => {
                    let message = format!(
                        "no artifact {digest} in namespace '{namespace}'; upload it first with baton artifact put FILE"
                    );
                    violations.push(Violation::new(format!("spec.attachments[{index}].digest"), message));
                }
                Err(refused) => return Err(refused),
            }
        }
        bytes += attachment.get("data").and_then(Value::as_str).map_or(0, str::len);
    }
    if bytes > ATTACHED_BYTES_MAX {
        let message = format!("have {bytes} bytes in Base64 together, allowed are up to {ATTACHED_BYTES_MAX}");
        violations.push(Violation::new("spec.attachments", message));
    }
    Ok(())
}
