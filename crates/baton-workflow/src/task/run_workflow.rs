//! `run: workflow`: an execution of another workflow of the same namespace.

use baton_execution::{ChildTarget, Fault, ProgramKind, StartChild};
use serde_json::Value;

use crate::{
    document::{Builder, Fields, Reference, is_version, shown},
    interpreter::{Child, FrameId, Run},
    task::{Event, Kind, Place, Step},
    template::Template,
};

/// The version that takes any.
const LATEST: &str = "latest";

#[derive(Debug)]
struct RunWorkflow {
    name: String,
    version: Option<String>,
    input: Option<Template>,
    awaited: bool,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut head = fields.need_object("run", builder)?;
    let awaited = head.boolean("await", builder).unwrap_or(true);
    if head.get("return").is_some() {
        builder.violate(&head.at("return"), "applies to processes only; a workflow returns its output");
    }
    let mut workflow = head.need_object("workflow", builder)?;
    let namespace = workflow.need_text("namespace", builder);
    if let Some(namespace) = namespace
        && namespace != builder.namespace
    {
        let message = format!(
            "is '{}', allowed is the workflow's own namespace '{}'",
            shown(namespace),
            shown(&builder.namespace)
        );
        builder.violate(&workflow.at("namespace"), message);
    }
    let name = workflow.need_text("name", builder).map(str::to_owned);
    let version = workflow.need_text("version", builder).map(str::to_owned).filter(|version| version != LATEST);
    if let Some(version) = version.as_deref().filter(|version| !is_version(version)) {
        builder.violate(
            &workflow.at("version"),
            format!("'{}' is neither '{LATEST}' nor a semantic version such as '1.0.0'", shown(version)),
        );
    }
    let input = workflow.template("input", builder);
    if let Some(name) = &name {
        builder.workflows.push(Reference { name: name.clone(), version: version.clone(), field: workflow.at("name") });
    }
    workflow.close(builder);
    head.close(builder);
    Some(Box::new(RunWorkflow { name: name?, version, input, awaited }))
}

impl RunWorkflow {
    fn child(&self, run: &Run, frame: FrameId) -> Result<Child, Fault> {
        let dot = run.input(frame);
        let input = match &self.input {
            Some(input) => run.fill(frame, input, &dot)?,
            None => Value::Null,
        };
        let target = ChildTarget::Named { name: self.name.clone(), version: self.version.clone() };
        let start = StartChild { target, input, ..run.new_child(frame, ProgramKind::Workflow, self.awaited) };
        Ok(Child { start, on: format!("workflow {}", self.name) })
    }
}

impl Kind for RunWorkflow {
    fn label(&self) -> &'static str {
        "run workflow"
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let child = self.child(run, frame)?;
        run.start_child(frame, child)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
