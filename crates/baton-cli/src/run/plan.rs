//! What is to be run, decided from manifests and flags before anything is started.

use std::{collections::BTreeMap, path::PathBuf};

use baton_proto::{API_VERSION, kind as kinds};
use baton_types::Digest;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    kind::{Kind, Object},
    manifest::{self, Content, Manifest, RunSpec, ServiceSpec},
    offline,
    yaml::Origin,
};

/// What the flags ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) workflow: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) input: Option<Value>,
    pub(crate) message: Option<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) timeout: Option<String>,
    pub(crate) name: Option<String>,
    /// Whether templates that are not in the manifests may be on the server.
    pub(crate) server_may_have: bool,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Templates and secrets to be applied first, each with the document it is from.
    pub(crate) templates: Vec<(Origin, Object)>,
    /// The execution, but for its namespace and the URLs of services.
    pub(crate) execution: Object,
    /// The document that the execution's definition is from, if it has one of its own.
    pub(crate) definition: Option<Origin>,
    /// Processes, each with the folder it runs in.
    pub(crate) services: Vec<(ServiceSpec, PathBuf)>,
    /// Of all that was asked for, without URLs: tells whether an interrupted run was this one.
    pub(crate) digest: String,
}

/// What is run.
enum Target {
    Named(Kind, String),
    Inline(Kind, String, Value),
    Execution(Box<Object>),
}

/// Decides, or says what is missing or in conflict.
pub(crate) fn plan(manifests: &[Manifest], wishes: Wishes) -> Result<Plan, Failure> {
    let runs: Vec<(&Manifest, &RunSpec)> = manifests
        .iter()
        .filter_map(|it| match &it.content {
            Content::Run(run) => Some((it, run.as_ref())),
            Content::Resource(_) | Content::BareWorkflow(_) | Content::BareAgent(_) => None,
        })
        .collect();
    if let [(first, _), (second, _), ..] = runs.as_slice() {
        return Err(Failure::refused(format!(
            "{} and {} both hold a Run; allowed is one",
            first.origin, second.origin
        )));
    }
    let run = runs.first().map(|(_, run)| (*run).clone()).unwrap_or_default();
    let services = runs.first().map_or_else(Vec::new, |(it, run)| {
        run.services.iter().map(|service| (service.clone(), it.folder.clone())).collect()
    });
    let mut objects = Vec::new();
    let mut origins = Vec::new();
    for manifest in manifests {
        if let Some(object) = manifest.resource()? {
            objects.push(object);
            origins.push(manifest.origin.clone());
        }
    }
    let target = target(manifests, &objects, &run, &wishes)?;
    let is_inline = matches!(target, Target::Inline(..));
    let definition = manifests.first().filter(|_| is_inline).map(|it| it.origin.clone().bare("spec.definition"));
    let templates: Vec<(Origin, Object)> =
        origins.into_iter().zip(objects).filter(|(_, object)| is_template(object.kind(), is_inline)).collect();
    let mut execution = execution(target, &run, wishes)?;
    let content: Vec<String> = templates
        .iter()
        .map(|(_, object)| object)
        .chain([&execution])
        .map(|object| match object {
            // The digest is shown: it must not help anybody to find out a value.
            Object::Secret(_) => object.reference(),
            other => other.to_json().to_string(),
        })
        .collect();
    let digest = Digest::of(content.join("\n").as_bytes()).to_string();
    if !execution.name().is_empty() {
        set_request_id(&mut execution, &digest);
    }
    Ok(Plan { templates, execution, definition, services, digest })
}

/// Whether a manifest is applied before the execution starts; what is run inline is not, but it may need others.
fn is_template(kind: Kind, is_inline: bool) -> bool {
    !kind.is_execution() && (!is_inline || matches!(kind, Kind::Skill | Kind::Artifact))
}

/// Makes a create that is repeated find the first one.
fn set_request_id(execution: &mut Object, digest: &str) {
    match execution {
        Object::WorkflowExecution(it) => digest.clone_into(&mut it.spec.get_or_insert_default().request_id),
        Object::AgentExecution(it) => digest.clone_into(&mut it.spec.get_or_insert_default().request_id),
        Object::Workflow(_)
        | Object::Agent(_)
        | Object::Secret(_)
        | Object::Approval(_)
        | Object::McpServer(_)
        | Object::Session(_)
        | Object::Skill(_)
        | Object::Artifact(_) => {}
    }
}

fn target(manifests: &[Manifest], objects: &[Object], run: &RunSpec, wishes: &Wishes) -> Result<Target, Failure> {
    let names = |kind: Kind| -> Vec<String> {
        objects.iter().filter(|object| object.kind() == kind).map(|object| object.name().to_owned()).collect()
    };
    let (workflows, agents) = (names(Kind::Workflow), names(Kind::Agent));
    let named = |kind: Kind, name: &str, present: &[String]| {
        if present.iter().any(|it| it == name) || wishes.server_may_have {
            return Ok(Target::Named(kind, name.to_owned()));
        }
        let there =
            if present.is_empty() { "there is none".to_owned() } else { format!("there are {}", quoted(present)) };
        let says = format!("no {} '{name}' in the manifests; {there}", kind.title());
        Err(Failure::refused(says).hint("give its manifest with -f, or run what is on a server with --server URL"))
    };
    let given = |text: &Option<String>, field: &str| {
        text.clone().or_else(|| Some(field.to_owned()).filter(|field| !field.is_empty()))
    };
    if let Some(name) = &wishes.agent {
        return named(Kind::Agent, name, &agents);
    }
    if let Some(name) = given(&wishes.workflow, &run.workflow) {
        return named(Kind::Workflow, &name, &workflows);
    }
    if let Some(name) = given(&None, &run.agent) {
        return named(Kind::Agent, &name, &agents);
    }
    if let [only] = manifests {
        match &only.content {
            Content::BareWorkflow(document) => {
                let name = document
                    .pointer("/document/name")
                    .and_then(Value::as_str)
                    .map_or_else(|| only.stem(), str::to_owned);
                return Ok(Target::Inline(Kind::Workflow, name, document.clone()));
            }
            Content::BareAgent(spec) => return Ok(Target::Inline(Kind::Agent, only.stem(), spec.clone())),
            Content::Resource(_) | Content::Run(_) => {}
        }
    }
    let executions: Vec<&Object> = objects.iter().filter(|object| object.kind().is_execution()).collect();
    match (executions.as_slice(), workflows.as_slice(), agents.as_slice()) {
        ([only], _, _) => Ok(Target::Execution(Box::new((*only).clone()))),
        ([_, _, ..], _, _) => Err(Failure::refused("the manifests hold several executions; baton run runs one")
            .hint("create them with baton apply -f")),
        ([], [only], _) => Ok(Target::Named(Kind::Workflow, only.clone())),
        ([], [], [only]) => Ok(Target::Named(Kind::Agent, only.clone())),
        ([], [], []) => Err(Failure::refused(
            "nothing to run in the manifests; allowed are a Workflow, an Agent, and an execution of one",
        )),
        ([], [], several) => Err(Failure::refused(format!("the manifests hold the agents {}", quoted(several)))
            .hint("name one with --agent NAME")),
        ([], several, _) => Err(Failure::refused(format!("the manifests hold the workflows {}", quoted(several)))
            .hint("name one with --workflow NAME")),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

fn execution(target: Target, run: &RunSpec, wishes: Wishes) -> Result<Object, Failure> {
    let (kind, base, mut spec) = match target {
        Target::Execution(object) => {
            let json = object.to_json();
            let name = if object.name().is_empty() {
                object.metadata().generate_name.trim_end_matches('-').to_owned()
            } else {
                String::new()
            };
            let mut execution = existing(json, wishes)?;
            if !name.is_empty() && execution.name().is_empty() {
                execution.metadata_mut().generate_name = format!("{name}-");
            }
            return Ok(execution);
        }
        Target::Named(Kind::Agent | Kind::AgentExecution, name) => {
            (Kind::AgentExecution, name.clone(), json!({"agent": name}))
        }
        Target::Named(_, name) => (Kind::WorkflowExecution, name.clone(), json!({"workflow": name})),
        Target::Inline(template, name, definition) => {
            (template.execution_kind().unwrap_or(template), name, offline::spec_of(&definition))
        }
    };
    let message = wishes.message.clone().or_else(|| run.message.clone());
    let input = wishes.input.clone().or_else(|| run.input.clone());
    match kind {
        Kind::WorkflowExecution | Kind::Workflow if message.is_some() => {
            return Err(Failure::usage("--message is for agents").hint("a workflow takes --input"));
        }
        Kind::AgentExecution | Kind::Agent if message.is_none() && input.is_none() => {
            return Err(Failure::usage(format!("agent '{base}' has nothing to answer"))
                .hint("say something with --message TEXT, or give --input JSON"));
        }
        Kind::Workflow
        | Kind::WorkflowExecution
        | Kind::Agent
        | Kind::AgentExecution
        | Kind::Secret
        | Kind::Approval
        | Kind::McpServer
        | Kind::Session
        | Kind::Skill
        | Kind::Artifact => {}
    }
    let mut env = run.env.clone();
    env.extend(wishes.env);
    let timeout = wishes.timeout.or_else(|| Some(run.timeout.clone()).filter(|timeout| !timeout.is_empty()));
    for (field, value) in
        [("message", message.map(Value::String)), ("input", input), ("timeout", timeout.map(Value::String))]
    {
        if let Some(value) = value {
            spec[field] = value;
        }
    }
    if !env.is_empty() {
        spec["env"] = json!(env);
    }
    let metadata = match wishes.name {
        Some(name) => json!({"name": name}),
        None => json!({"generateName": format!("{base}-")}),
    };
    decode(json!({"apiVersion": API_VERSION, "kind": kind.name(), "metadata": metadata, "spec": spec}))
}

/// An execution as a manifest has it, with what the flags change.
fn existing(mut json: Value, wishes: Wishes) -> Result<Object, Failure> {
    if json.get("spec").is_none_or(Value::is_null) {
        json["spec"] = json!({});
    }
    for (field, value) in [
        ("message", wishes.message.map(Value::String)),
        ("input", wishes.input),
        ("timeout", wishes.timeout.map(Value::String)),
    ] {
        if let Some(value) = value {
            json["spec"][field] = value;
        }
    }
    for (name, value) in wishes.env {
        json["spec"]["env"][name] = Value::String(value);
    }
    if let Some(name) = wishes.name {
        json["metadata"]["name"] = Value::String(name);
    }
    decode(json)
}

fn decode(json: Value) -> Result<Object, Failure> {
    debug_assert!(json["kind"] == kinds::WORKFLOW_EXECUTION || json["kind"] == kinds::AGENT_EXECUTION);
    manifest::decode(json).map_err(Failure::violations)
}

impl Plan {
    /// Adds to `spec.env`; what the manifest or a flag has set stays.
    pub(crate) fn add_env(&mut self, name: &str, value: &str) {
        let env = match &mut self.execution {
            Object::WorkflowExecution(it) => &mut it.spec.get_or_insert_default().env,
            Object::AgentExecution(it) => &mut it.spec.get_or_insert_default().env,
            Object::Workflow(_)
            | Object::Agent(_)
            | Object::Secret(_)
            | Object::Approval(_)
            | Object::McpServer(_)
            | Object::Session(_)
            | Object::Skill(_)
            | Object::Artifact(_) => return,
        };
        env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifests(text: &str) -> Vec<Manifest> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        manifest::load(&[folder.path().join("a.yaml")]).unwrap()
    }

    fn planned(text: &str, wishes: Wishes) -> Result<Value, String> {
        plan(&manifests(text), wishes).map(|plan| plan.execution.to_json()).map_err(|failure| failure.to_string())
    }

    const TWO: &str = "{apiVersion: baton.dev/v1, kind: Workflow, metadata: {name: one}, spec: {definition: {}}}\n---\n\
                       {apiVersion: baton.dev/v1, kind: Workflow, metadata: {name: two}, spec: {definition: {}}}\n";
    const AGENT: &str =
        "---\n{apiVersion: baton.dev/v1, kind: Agent, metadata: {name: helper}, spec: {instructions: help}}\n";

    #[test]
    fn a_bare_document_is_run_inline() {
        let execution =
            planned("document: {name: hello}\ndo: []\n", Wishes { input: Some(json!({"n": 1})), ..Wishes::default() })
                .unwrap();
        assert_eq!(
            execution["spec"],
            json!({"definition": {"document": {"name": "hello"}, "do": []}, "input": {"n": 1}})
        );
        assert_eq!(execution["metadata"], json!({"generateName": "hello-"}));
    }

    #[test]
    fn the_only_workflow_is_run_and_of_several_one_must_be_named() {
        let says = planned(TWO, Wishes::default()).unwrap_err();
        assert_eq!(says, "error: the manifests hold the workflows 'one', 'two'\nhint: name one with --workflow NAME");
        let execution =
            planned(TWO, Wishes { workflow: Some("two".to_owned()), name: Some("x".to_owned()), ..Wishes::default() })
                .unwrap();
        assert_eq!(execution["spec"]["workflow"], "two");
        assert!(execution["spec"]["requestId"].as_str().unwrap().starts_with("sha256:"));
        let says = planned(TWO, Wishes { workflow: Some("three".to_owned()), ..Wishes::default() }).unwrap_err();
        assert_eq!(
            says,
            "error: no workflow 'three' in the manifests; there are 'one', 'two'\nhint: give its manifest with -f, or run what is on a server with --server URL"
        );
    }

    #[test]
    fn a_run_decides_and_flags_go_before_it() {
        let run = "---\n{apiVersion: baton.dev/v1, kind: Run, spec: {workflow: one, input: {n: 1}, env: {A: run, B: run}, timeout: 5m}}\n";
        let wishes = Wishes {
            input: Some(json!(2)),
            env: BTreeMap::from([("A".to_owned(), "flag".to_owned())]),
            ..Wishes::default()
        };
        let execution = planned(&format!("{TWO}{AGENT}{run}"), wishes).unwrap();
        assert_eq!(
            execution["spec"],
            json!({"workflow": "one", "input": 2, "env": {"A": "flag", "B": "run"}, "timeout": "5m"})
        );
    }

    #[test]
    fn an_agent_needs_something_to_answer() {
        let says = planned(AGENT, Wishes::default()).unwrap_err();
        assert!(says.contains("agent 'helper' has nothing to answer"), "{says}");
        let execution = planned(AGENT, Wishes { message: Some("hi".to_owned()), ..Wishes::default() }).unwrap();
        assert_eq!(execution["spec"], json!({"agent": "helper", "message": "hi"}));
        let says = planned(
            &format!("{TWO}{AGENT}"),
            Wishes { workflow: Some("one".to_owned()), message: Some("hi".to_owned()), ..Wishes::default() },
        )
        .unwrap_err();
        assert!(says.contains("--message is for agents"), "{says}");
    }
}
