//! The kind `WorkflowExecution`.

use baton_execution::ProgramKind;
use baton_proto::{ExecutionResource, v1::WorkflowExecution};
use baton_store::StoredResource;
use baton_types::{ApiError, Violation};
use bytes::Bytes;
use serde_json::Value;

use super::{
    App, Change, DeletedObject, ExecutionKind, ServedResource, WriteOptions, Written,
    admission::{ExecutionStrategy, Inline, SpecParts},
    execution, fetch, free_data, strategy, workflow,
};

impl ServedResource for WorkflowExecution {
    const SELECTABLE_FIELDS: &'static [&'static str] =
        &["metadata.name", "metadata.namespace", "status.phase", "spec.workflow"];

    fn field(&self, field: &str) -> Option<String> {
        match field {
            "status.phase" => Some(self.status.as_ref().map(|status| status.phase.clone()).unwrap_or_default()),
            "spec.workflow" => Some(self.spec.as_ref().map(|spec| spec.workflow.clone()).unwrap_or_default()),
            _ => strategy::common_field(self, field),
        }
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        execution::decode(body, revision)
    }

    async fn admit_new(app: &App, object: Self, options: WriteOptions) -> Result<Written<Self>, ApiError> {
        execution::create(app, object, options).await
    }

    async fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        execution::replace(app, &stored, change, options).await
    }

    async fn remove(app: &App, stored: StoredResource, expected: Option<u64>) -> Result<DeletedObject<Self>, ApiError> {
        execution::remove(app, stored, expected).await
    }
}

impl ExecutionKind for WorkflowExecution {
    const PROGRAM: ProgramKind = ProgramKind::Workflow;

    fn into_execution(self) -> ExecutionResource {
        ExecutionResource::Workflow(Box::new(self))
    }

    fn from_execution(execution: ExecutionResource) -> Option<Self> {
        match execution {
            ExecutionResource::Workflow(it) => Some(*it),
            ExecutionResource::Agent(_) => None,
        }
    }
}

impl ExecutionStrategy for WorkflowExecution {
    const TEMPLATE_FIELD: &'static str = "workflow";

    fn parts(&mut self, violations: &mut Vec<Violation>) -> SpecParts {
        let spec = self.spec.get_or_insert_default();
        let inline = match spec.definition.as_mut().filter(|definition| !definition.text.is_empty()) {
            None => {
                spec.definition = None;
                Inline::Absent
            }
            Some(definition) => {
                let noted = violations.len();
                let value = free_data::read(definition, "spec.definition", violations);
                let resources = workflow::read_resources(&value, &mut spec.resources, violations);
                if violations.len() == noted {
                    Inline::Present(fetch::join(value, resources))
                } else {
                    Inline::Unreadable
                }
            }
        };
        if matches!(inline, Inline::Absent) && !spec.resources.is_empty() {
            violations.push(Violation::new("spec.resources", "belongs to an inline 'definition'; there is none"));
        }
        let input =
            spec.input.as_mut().map_or(Value::Null, |input| free_data::read_kept(input, "spec.input", violations));
        SpecParts { template: spec.workflow.clone(), inline, input, settings: Value::Null }
    }

    fn keep_resources(&mut self, present: &Self) {
        let kept = present.spec.as_ref().map(|spec| spec.resources.clone()).unwrap_or_default();
        if let Some(spec) = self.spec.as_mut().filter(|spec| spec.resources.is_empty() && spec.definition.is_some()) {
            spec.resources = kept;
        }
    }
}
