//! The kind `Workflow`.

use baton_execution::ProgramKind;
use baton_proto::{Resource, v1::Workflow};
use baton_store::StoredResource;
use baton_types::{ApiError, Digest, Violation};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::{
    App, Change, DeletedObject, ServedResource, WriteOptions, Written, free_data, strategy,
    template::{self, TemplateKind},
};

impl ServedResource for Workflow {
    const SELECTABLE_FIELDS: &'static [&'static str] = &["metadata.name", "metadata.namespace"];

    fn field(&self, field: &str) -> Option<String> {
        strategy::common_field(self, field)
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        let mut object = Self::decode(body.clone())
            .map_err(|error| ApiError::internal(format!("a workflow at revision {revision}: {error}")))?;
        object.metadata_mut().resource_version = revision.to_string();
        Ok(object)
    }

    async fn admit_new(app: &App, object: Self, options: WriteOptions) -> Result<Written<Self>, ApiError> {
        template::create(app, object, options).await
    }

    async fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        template::replace(app, &stored, change, options).await
    }

    async fn remove(
        app: &App,
        stored: StoredResource,
        _expected: Option<u64>,
    ) -> Result<DeletedObject<Self>, ApiError> {
        template::remove(app, stored).await
    }
}

impl TemplateKind for Workflow {
    const PROGRAM: ProgramKind = ProgramKind::Workflow;
    const CONTENT_FIELD: &'static str = "spec.definition";

    fn content(&mut self, violations: &mut Vec<Violation>) -> Option<Value> {
        let Some(definition) = self
            .spec
            .as_mut()
            .and_then(|spec| spec.definition.as_mut())
            .filter(|definition| !definition.text.is_empty())
        else {
            violations.push(Violation::new(Self::CONTENT_FIELD, "must be set: a workflow document"));
            return None;
        };
        let noted = violations.len();
        let value = free_data::read(definition, Self::CONTENT_FIELD, violations);
        definition.text = value.to_string();
        (violations.len() == noted).then_some(value)
    }

    fn set_digest(&mut self, digest: &Digest) {
        self.status.get_or_insert_default().digest = digest.to_string();
    }
}
