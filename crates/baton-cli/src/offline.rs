//! Workflow documents checked without a server, and so without what is kept elsewhere.
//!
//! A server fetches functions and schemas when a workflow is created; files come with the manifest. Here, what is not given
//! stands in as something that takes and gives anything, and is told as not checked.

use baton_server::{External, ExternalKind, RESOURCES, WorkflowDefinition, check_workflow, externals};
use baton_types::Violation;
use serde_json::{Map, Value, json};

/// A document that was checked as far as that goes here.
pub(crate) struct Checked {
    pub(crate) definition: Result<WorkflowDefinition, Vec<Violation>>,
    /// What was not there to be checked.
    pub(crate) elsewhere: Vec<External>,
}

/// Checks a document; `resources` is `spec.resources` of what it stands in.
pub(crate) fn check(document: &Value, resources: Option<&Value>) -> Checked {
    let document = with_resources(document, resources.and_then(Value::as_object).cloned().unwrap_or_default());
    let elsewhere = externals(&document);
    if elsewhere.is_empty() {
        return Checked { definition: check_workflow(&document), elsewhere };
    }
    let stand_ins = elsewhere.iter().map(|it| {
        let stand_in = match it.kind {
            ExternalKind::Function => json!({"set": "${ . }"}),
            ExternalKind::Schema => json!({}),
            ExternalKind::File => json!(""),
        };
        (it.uri.clone(), stand_in)
    });
    let document = with_resources(&document, stand_ins.collect());
    Checked { definition: check_workflow(&document), elsewhere }
}

/// A workflow's spec of a document: what stands in it under [`RESOURCES`] goes beside it.
pub(crate) fn spec_of(document: &Value) -> Value {
    let mut document = document.clone();
    let resources = document.as_object_mut().and_then(|fields| fields.remove(RESOURCES));
    let mut spec = json!({"definition": document});
    if let Some(resources) = resources {
        spec["resources"] = resources;
    }
    spec
}

/// The document with these contents beside those that it has.
pub(crate) fn with_resources(document: &Value, resources: Map<String, Value>) -> Value {
    let mut document = document.clone();
    if !resources.is_empty()
        && let Some(fields) = document.as_object_mut()
        && let Some(known) = fields.entry(RESOURCES).or_insert_with(|| Map::new().into()).as_object_mut()
    {
        known.extend(resources);
    }
    document
}
