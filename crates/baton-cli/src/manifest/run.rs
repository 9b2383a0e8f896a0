//! The `Run` document: what `baton run -f` starts, with which input, beside which services.

use std::collections::BTreeMap;

use baton_proto::{API_VERSION, JsonError, from_json_value};
use baton_types::{Violation, check_name, parse_duration};
use serde::Deserialize;
use serde_json::Value;

/// What to run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RunSpec {
    /// Name of a Workflow; either this or `agent`.
    pub(crate) workflow: String,
    /// Name of an Agent.
    pub(crate) agent: String,
    /// `spec.input` of the execution.
    pub(crate) input: Option<Value>,
    /// `spec.message`; agents only.
    pub(crate) message: Option<String>,
    /// Goes into `spec.env`.
    pub(crate) env: BTreeMap<String, String>,
    /// `spec.timeout`, such as 10m.
    pub(crate) timeout: String,
    /// Processes that run as long as the execution does.
    pub(crate) services: Vec<ServiceSpec>,
}

/// A process that serves HTTP on the loopback interface and prints `listening on http://127.0.0.1:PORT` when it does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    /// Its URL becomes `NAME_URL` in the execution's env.
    pub(crate) name: String,
    /// Program and arguments; it runs in the folder of the manifest.
    pub(crate) command: Vec<String>,
    /// Added to the environment of `baton run`.
    pub(crate) env: BTreeMap<String, String>,
}

impl ServiceSpec {
    /// Name of the variable that holds its URL, such as `DESK_URL`.
    pub(crate) fn variable(&self) -> String {
        format!("{}_URL", self.name.to_ascii_uppercase().replace(['-', '.'], "_"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunDocument {
    api_version: String,
    #[expect(dead_code, reason = "named so that it is a known field; what it holds was looked at before")]
    kind: String,
    #[expect(dead_code, reason = "a Run is not stored, but a manifest may name it as every other")]
    #[serde(default)]
    metadata: Value,
    spec: RunSpec,
}

/// Reads a `Run`, with all that is wrong with it.
pub(super) fn read(document: Value) -> Result<RunSpec, Vec<Violation>> {
    let run: RunDocument = from_json_value(document).map_err(|error| match error {
        JsonError::Fields(violations) => violations,
        JsonError::Syntax(what) => vec![Violation::new("", what)],
    })?;
    let mut violations = Vec::new();
    if run.api_version != API_VERSION {
        violations.push(Violation::new(
            "apiVersion",
            format!("'{}' is not served; allowed is '{API_VERSION}'", run.api_version),
        ));
    }
    let spec = run.spec;
    if !spec.workflow.is_empty() && !spec.agent.is_empty() {
        violations.push(Violation::new("spec", "has both workflow and agent; allowed is one of them"));
    }
    if !spec.workflow.is_empty() && spec.message.is_some() {
        violations.push(Violation::new("spec.message", "is for agents; a workflow takes spec.input"));
    }
    if !spec.timeout.is_empty()
        && let Err(says) = parse_duration(&spec.timeout)
    {
        violations.push(Violation::new("spec.timeout", says));
    }
    for (index, service) in spec.services.iter().enumerate() {
        if let Err(says) = check_name(&service.name) {
            violations.push(Violation::new(format!("spec.services[{index}].name"), says));
        }
        if spec.services[..index].iter().any(|earlier| earlier.variable() == service.variable()) {
            violations.push(Violation::new(
                format!("spec.services[{index}].name"),
                format!("'{}' is there twice", service.name),
            ));
        }
        if service.command.first().is_none_or(String::is_empty) {
            violations.push(Violation::new(
                format!("spec.services[{index}].command"),
                "must be a list with the program first",
            ));
        }
    }
    if violations.is_empty() { Ok(spec) } else { Err(violations) }
}
