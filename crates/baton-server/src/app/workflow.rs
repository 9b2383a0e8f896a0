//! The kind `Workflow`.

use std::collections::BTreeMap;

use baton_execution::ProgramKind;
use baton_proto::{
    Resource,
    v1::{Json, Workflow},
};
use baton_store::StoredResource;
use baton_types::{ApiError, Digest, Violation};
use baton_workflow::{RESOURCES, Schedule};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::{
    App, Change, DeletedObject, ServedResource, WriteOptions, Written, admission, fetch, free_data, strategy,
    template::{self, Checked, TemplateKind},
};
use crate::{programs::Compiled, schedule::Policy};

/// Longest name of a workflow with a schedule: executions have it as a label.
const SCHEDULED_NAME_LENGTH_MAX: usize = 63;

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
        let resources = self.spec.as_mut().map(|spec| &mut spec.resources);
        let resources = resources.map(|resources| read_resources(&value, resources, violations)).unwrap_or_default();
        (violations.len() == noted).then(|| fetch::join(value, resources))
    }

    fn check_spec(&mut self, checked: Option<&Checked>, violations: &mut Vec<Violation>) {
        let name = self.metadata_mut().name.clone();
        let Some(spec) = self.spec.as_mut() else { return };
        Policy::read(spec, violations);
        admission::check_env(&spec.env, violations);
        if let Some(seconds) = spec.ttl_seconds_after_finished.filter(|seconds| *seconds < 0) {
            let message = format!("is {seconds}, allowed are 0 and more");
            violations.push(Violation::new("spec.ttlSecondsAfterFinished", message));
        }
        if let Some(input) = spec.input.as_mut() {
            free_data::read_data(input, "spec.input", violations);
        }
        let Some(Compiled::Workflow(definition)) = checked.map(|checked| &checked.compiled) else { return };
        let Some(schedule) = definition.schedule() else { return };
        if name.len() > SCHEDULED_NAME_LENGTH_MAX {
            let message = format!(
                "has {} bytes; a workflow with a schedule has at most {SCHEDULED_NAME_LENGTH_MAX}, as its name is a label of executions",
                name.len()
            );
            violations.push(Violation::new("metadata.name", message));
        }
        if spec.input.is_some() && matches!(schedule, Schedule::On(_)) {
            violations.push(Violation::new("spec.input", "cannot be set with 'schedule.on': the input is the events"));
        }
    }

    fn set_resources(&mut self, resources: BTreeMap<String, Value>) {
        self.spec.get_or_insert_default().resources = resources_of(resources);
    }

    fn set_digest(&mut self, digest: &Digest) {
        self.status.get_or_insert_default().digest = digest.to_string();
    }
}

/// The resources of a document in their JSON form; a document that brings its own is a violation.
pub(super) fn read_resources(
    definition: &Value,
    resources: &mut BTreeMap<String, Json>,
    violations: &mut Vec<Violation>,
) -> BTreeMap<String, Value> {
    if definition.get(RESOURCES).is_some() {
        violations.push(Violation::new(
            format!("spec.definition.{RESOURCES}"),
            "is not part of what is written; it belongs in spec.resources",
        ));
    }
    let read = |(uri, content): (&String, &mut Json)| {
        let field = format!("spec.resources.{}", super::metadata::shortened(uri));
        (uri.clone(), free_data::read(content, &field, violations))
    };
    resources.iter_mut().map(read).collect()
}

/// Resources as an object has them.
pub(super) fn resources_of(resources: BTreeMap<String, Value>) -> BTreeMap<String, Json> {
    resources.into_iter().map(|(uri, content)| (uri, Json::from_value(&content))).collect()
}
