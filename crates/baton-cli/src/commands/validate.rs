//! `baton validate`: what can be checked without a server.
//!
//! The rules of the language and of agents are checked, and whether names that manifests use are in the manifests; a name
//! that is not is only said, as it may be on the server.

use std::collections::BTreeSet;

use baton_proto::to_json_value;
use baton_server::{check_agent, check_mcp_server, check_skill};
use baton_types::{Violation, check_name};
use serde_json::{Value, json};

use super::Context;
use crate::{
    args::{Format, ValidateArgs},
    failure::{Failure, Finding},
    kind::{Kind, Object},
    manifest::{self, Content, Manifest},
    offline, output,
};

/// What was found.
#[derive(Default)]
struct Findings {
    wrong: Vec<Finding>,
    warnings: Vec<Finding>,
    present: BTreeSet<(Kind, String)>,
    /// Kind, name, and where it is used.
    wanted: Vec<(Kind, String, Finding)>,
}

pub(crate) fn validate(context: &Context, args: &ValidateArgs) -> Result<(), Failure> {
    let (manifests, findings) = manifest::load_what_can_be_read(&args.files)?;
    let mut findings = Findings { wrong: findings, ..Findings::default() };
    for manifest in &manifests {
        findings.check(manifest);
    }
    let Findings { wrong: mut findings, mut warnings, present, wanted } = findings;
    Finding::sort(&mut findings);
    let absent = wanted.into_iter().filter(|(kind, name, _)| !present.contains(&(*kind, name.clone())));
    warnings.extend(absent.map(|(.., finding)| finding));
    let count = manifests.len();
    let format = context.settings.output.value;
    if !matches!(format, Format::Table | Format::Name) {
        let report = json!({
            "valid": findings.is_empty(),
            "documents": count,
            "violations": findings.iter().map(as_json).collect::<Vec<_>>(),
            "warnings": warnings.iter().map(as_json).collect::<Vec<_>>(),
        });
        context.printer.data(&output::value(format, &report, String::new))?;
        return if findings.is_empty() { Ok(()) } else { Err(Failure::told()) };
    }
    if !findings.is_empty() {
        return Err(Failure::findings(findings));
    }
    for finding in &warnings {
        context.printer.warning(&finding.to_string());
    }
    context.printer.message(&format!("{count} {} valid", if count == 1 { "document is" } else { "documents are" }));
    Ok(())
}

/// `file`, `document` (from 1), `path`, `message`, and the place: lines and columns from 1, columns in characters.
fn as_json(finding: &Finding) -> Value {
    let mut json = json!({"path": finding.violation.field, "message": finding.violation.message});
    if let Some(origin) = &finding.origin {
        json["file"] = origin.source().name().into();
        json["document"] = origin.number().into();
    }
    if let Some(place) = &finding.place {
        for (name, number) in [
            ("line", place.line),
            ("column", place.column),
            ("endLine", place.end_line),
            ("endColumn", place.end_column),
        ] {
            json[name] = number.into();
        }
    }
    json
}

impl Findings {
    fn check(&mut self, manifest: &Manifest) {
        match &manifest.content {
            Content::Resource(object) => self.object(manifest, object),
            Content::BareWorkflow(document) => {
                self.workflow(manifest, document, None);
                if let Some(name) = document.pointer("/document/name").and_then(Value::as_str) {
                    self.present.insert((Kind::Workflow, name.to_owned()));
                }
            }
            Content::BareAgent(spec) => {
                self.agent(manifest, spec, "spec");
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
        // An artifact is named by its content.
        let is_generated = is_generated || object.kind() == Kind::Artifact && metadata.name.is_empty();
        if !is_generated && let Err(says) = check_name(&metadata.name) {
            self.violate(manifest, Violation::new("metadata.name", says));
        }
        let json = object.to_json();
        let spec = json.get("spec").cloned().unwrap_or_default();
        match object {
            Object::Workflow(_) => {
                self.present.insert((Kind::Workflow, metadata.name.clone()));
                match spec.get("definition") {
                    Some(definition) => self.workflow(manifest, definition, spec.get("resources")),
                    None => self.violate(manifest, Violation::new("spec.definition", "must be given")),
                }
            }
            Object::Agent(it) => {
                self.present.insert((Kind::Agent, metadata.name.clone()));
                self.agent(manifest, &to_json_value(&it.spec.clone().unwrap_or_default()), "spec");
            }
            Object::Approval(_) => {
                self.violate(manifest, Violation::new("kind", "approvals are raised by executions, not by manifests"));
            }
            Object::McpServer(_) => {
                self.present.insert((Kind::McpServer, metadata.name.clone()));
                if let Err(violations) = check_mcp_server(&spec) {
                    for it in violations {
                        self.violate(manifest, it.under("spec"));
                    }
                }
            }
            Object::Session(it) => {
                self.present.insert((Kind::Session, metadata.name.clone()));
                let name = it.spec.as_ref().map(|spec| spec.agent.clone()).unwrap_or_default();
                self.want(Kind::Agent, &name, manifest, "spec.agent");
                if let Err(found) = baton_server::check_compaction(spec.get("compaction").unwrap_or(&Value::Null)) {
                    for it in found {
                        self.violate(manifest, it.under("spec.compaction"));
                    }
                }
            }
            Object::Artifact(_) => {}
            Object::Skill(_) => {
                for found in check_skill(&spec).err().unwrap_or_default() {
                    self.violate(manifest, found.under("spec"));
                }
                self.present.insert((Kind::Skill, metadata.name.clone()));
            }
            Object::Secret(_) => _ = self.present.insert((Kind::Secret, metadata.name.clone())),
            Object::WorkflowExecution(it) => {
                let name = it.spec.as_ref().map(|spec| spec.workflow.clone()).unwrap_or_default();
                self.want(Kind::Workflow, &name, manifest, "spec.workflow");
                if let Some(definition) = spec.get("definition") {
                    self.workflow(manifest, definition, spec.get("resources"));
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

    fn workflow(&mut self, manifest: &Manifest, document: &Value, resources: Option<&Value>) {
        let prefix = "spec.definition";
        let offline::Checked { definition, elsewhere } = offline::check(document, resources);
        for it in elsewhere {
            let says = format!("the {} is kept elsewhere and not checked here: {}", it.kind.title(), it.uri);
            let violation = Violation::new(under(prefix, &it.field), says);
            self.warnings.push(Finding::within(violation, &manifest.origin));
        }
        match definition {
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
                for it in definition.secrets() {
                    self.want(Kind::Secret, &it.name.to_ascii_lowercase(), manifest, &under(prefix, &it.field));
                }
                for (name, field, _) in definition.servers().filter(|(.., is_defined)| !is_defined) {
                    self.want(Kind::McpServer, name, manifest, &under(prefix, &field));
                }
                for (index, name) in definition.skills().enumerate() {
                    self.want(Kind::Skill, name, manifest, &under(prefix, &format!("skills[{index}]")));
                }
            }
        }
    }

    fn want(&mut self, kind: Kind, name: &str, manifest: &Manifest, field: &str) {
        if !name.is_empty() {
            let says = format!("the {} '{name}' is not in these manifests; it must be on the server", kind.title());
            let finding = Finding::within(Violation::new(field, says), &manifest.origin);
            self.wanted.push((kind, name.to_owned(), finding));
        }
    }

    fn violate(&mut self, manifest: &Manifest, violation: Violation) {
        self.wrong.push(Finding::within(violation, &manifest.origin));
    }
}

fn under(prefix: &str, field: &str) -> String {
    Violation::new(field, "").under(prefix).field.trim_start_matches('.').to_owned()
}
