//! A tool that runs a workflow and waits for its output. The workflow's input is the arguments.

use baton_execution::ProgramKind;
use serde_json::{Value, json};

use super::{Action, Behaviour, CHILD_WAIT_MS_DEFAULT, Kind, template_name};

pub(super) const KIND: Kind = Kind {
    field: "workflow",
    read: |fields, common| {
        let name = template_name(fields)?;
        Some(Box::new(Workflow { name, timeout_ms: common.timeout_ms }))
    },
    parameters: |_| json!({"type": "object", "properties": {}}),
};

#[derive(Debug)]
struct Workflow {
    name: String,
    timeout_ms: Option<u64>,
}

impl Behaviour for Workflow {
    fn action(&self, arguments: &Value) -> Result<Action, String> {
        Ok(Action::Child {
            kind: ProgramKind::Workflow,
            name: self.name.clone(),
            message: None,
            input: arguments.clone(),
            timeout_ms: self.timeout_ms,
            wait_ms: self.timeout_ms.unwrap_or(CHILD_WAIT_MS_DEFAULT),
        })
    }

    fn target(&self) -> Option<(ProgramKind, &str)> {
        Some((ProgramKind::Workflow, &self.name))
    }
}
