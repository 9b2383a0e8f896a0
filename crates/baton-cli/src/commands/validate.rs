//! `baton validate`: what can be checked without a server.
//!
//! The rules of the language and of agents are checked, and whether names that manifests use are in the manifests; a name
//! that is not is only said, as it may be on the server.

use std::collections::BTreeSet;

use baton_proto::to_json_value;
use baton_server::{check_agent, check_workflow};
use baton_types::{Violation, check_name};
use serde_json::Value;

use super::Context;
use crate::{
    args::ValidateArgs,
    failure::Failure,
    kind::{Kind, Object},
    manifest::{self, Content, Manifest},
};

/// What was found.
#[derive(Default)]
struct Findings {
    violations: Vec<Violation>,
    present: BTreeSet<(Kind, String)>,
    /// Kind, name, and where it is used.
    wanted: Vec<(Kind, String, String)>,
}

pub(crate) fn validate(context: &Context, args: &ValidateArgs) -> Result<(), Failure> {
    let manifests = manifest::load(&args.files)?;
    let mut findings = Findings::default();
    for manifest in &manifests {
        findings.check(manifest);
    }
    let Findings { violations, present, wanted } = findings;
    if !violations.is_empty() {
        return Err(Failure::violations(violations));
    }
    for (kind, name, place) in wanted {
        if !present.contains(&(kind, name.clone())) {
            context.printer.warning(&format!(
                "{place}: the {} '{name}' is not in these manifests; it must be on the server",
                kind.title()
            ));
        }
    }
    let count = manifests.len();
    context.printer.message(&format!("{count} {} valid", if count == 1 { "document is" } else { "documents are" }));
    Ok(())
}

impl Findings {
    fn check(&mut self, manifest: &Manifest) {
        match &manifest.content {
            Content::Resource(object) => self.object(manifest, object),
            Content::BareWorkflow(document) => {
                self.workflow(manifest, document, "");
                if let Some(name) = document.pointer("/document/name").and_then(Value::as_str) {
                    self.present.insert((Kind::Workflow, name.to_owned()));
                }
            }
            Content::BareAgent(spec) => {
                self.agent(manifest, spec, "");
                self.present.insert((Kind::Agent, manifest.stem()));
            }
            Content::Run(run) => {
                for (kind, name, field) in
                    [(Kind::Workflow, &run.workflow, "spec.workflow"), (Kind::Agent, &run.agent, "spec.agent")]
                {
                    self.want(kind, name, manifest, field);
                }
            }
        }
    }

    fn object(&mut self, manifest: &Manifest, object: &Object) {
        let metadata = object.metadata();
        let is_generated = metadata.name.is_empty() && !metadata.generate_name.is_empty();
        if !is_generated && let Err(says) = check_name(&metadata.name) {
            self.violate(manifest, Violation::new("metadata.name", says));
        }
        let json = object.to_json();
        let spec = json.get("spec").cloned().unwrap_or_default();
        match object {
            Object::Workflow(_) => {
                self.present.insert((Kind::Workflow, metadata.name.clone()));
                match spec.get("definition") {
                    Some(definition) => self.workflow(manifest, definition, "spec.definition"),
                    None => self.violate(manifest, Violation::new("spec.definition", "must be given")),
                }
            }
            Object::Agent(it) => {
                self.present.insert((Kind::Agent, metadata.name.clone()));
                self.agent(manifest, &to_json_value(&it.spec.clone().unwrap_or_default()), "spec");
            }
            Object::Secret(_) => _ = self.present.insert((Kind::Secret, metadata.name.clone())),
            Object::WorkflowExecution(it) => {
                let name = it.spec.as_ref().map(|spec| spec.workflow.clone()).unwrap_or_default();
                self.want(Kind::Workflow, &name, manifest, "spec.workflow");
                if let Some(definition) = spec.get("definition") {
                    self.workflow(manifest, definition, "spec.definition");
                }
            }
            Object::AgentExecution(it) => {
                let name = it.spec.as_ref().map(|spec| spec.agent.clone()).unwrap_or_default();
                self.want(Kind::Agent, &name, manifest, "spec.agent");
                if let Some(definition) = spec.get("definition") {
                    self.agent(manifest, definition, "spec.definition");
                }
            }
        }
    }

    fn workflow(&mut self, manifest: &Manifest, document: &Value, prefix: &str) {
        match check_workflow(document) {
            Err(violations) => violations.into_iter().for_each(|it| self.violate(manifest, it.under(prefix))),
            Ok(definition) => {
                for it in definition.agents() {
                    self.want(Kind::Agent, &it.name, manifest, &under(prefix, &it.field));
                }
                for it in definition.workflows() {
                    self.want(Kind::Workflow, &it.name, manifest, &under(prefix, &it.field));
                }
                for name in definition.secrets() {
                    self.want(Kind::Secret, &name.to_ascii_lowercase(), manifest, &under(prefix, "use.secrets"));
                }
            }
        }
    }

    fn agent(&mut self, manifest: &Manifest, spec: &Value, prefix: &str) {
        match check_agent(spec) {
            Err(violations) => violations.into_iter().for_each(|it| self.violate(manifest, it.under(prefix))),
            Ok(definition) => {
                for it in definition.agents() {
                    self.want(Kind::Agent, &it.name, manifest, &under(prefix, &it.field));
                }
                for it in definition.workflows() {
                    self.want(Kind::Workflow, &it.name, manifest, &under(prefix, &it.field));
                }
            }
        }
    }

    fn want(&mut self, kind: Kind, name: &str, manifest: &Manifest, field: &str) {
        if !name.is_empty() {
            self.wanted.push((kind, name.to_owned(), format!("{}: {field}", manifest.origin)));
        }
    }

    fn violate(&mut self, manifest: &Manifest, violation: Violation) {
        self.violations.push(manifest::at(&manifest.origin, violation));
    }
}

fn under(prefix: &str, field: &str) -> String {
    Violation::new(field, "").under(prefix).field.trim_start_matches('.').to_owned()
}
