//! A tool that runs another agent and waits for its answer.
//!
//! The child's message is the argument `message`, or all arguments as JSON; its input is the arguments.

use baton_execution::ProgramKind;
use serde_json::{Value, json};

use super::{Action, Behaviour, CHILD_WAIT_MS_DEFAULT, Kind, template_name};

pub(super) const KIND: Kind = Kind {
    field: "agent",
    read: |fields, common| {
        let name = template_name(fields)?;
        Some(Box::new(Agent { name, timeout_ms: common.timeout_ms }))
    },
    parameters: |_| json!({"type": "object", "properties": {"message": {"type": "string", "description": "What the agent is to do, in full"}}, "required": ["message"]}),
};

#[derive(Debug)]
struct Agent {
    name: String,
    timeout_ms: Option<u64>,
}

impl Behaviour for Agent {
    fn action(&self, arguments: &Value) -> Result<Action, String> {
        let message =
            arguments.get("message").and_then(Value::as_str).map_or_else(|| arguments.to_string(), str::to_owned);
        Ok(Action::Child {
            kind: ProgramKind::Agent,
            name: self.name.clone(),
            message: Some(message),
            input: arguments.clone(),
            timeout_ms: self.timeout_ms,
            wait_ms: self.timeout_ms.unwrap_or(CHILD_WAIT_MS_DEFAULT),
        })
    }

    fn target(&self) -> Option<(ProgramKind, &str)> {
        Some((ProgramKind::Agent, &self.name))
    }
}
