//! What is tested: a workflow, or an agent whose model is played.

use std::{collections::BTreeSet, sync::Arc};

use baton_server::{
    AgentDefinition, WorkflowDefinition, check_agent, load_agent, play_model,
    rehearsal::{Answer, Rehearsal, Reply, Script, TaskState, rehearse, rehearse_program},
};
use baton_types::Violation;
use serde_json::{Map, Value, json};

use super::{file::Case, servers};

/// Where the turns of a case stand in the spec that is made of them.
const TURNS: &str = "model.playback.conversations[0].";

pub(crate) enum Subject {
    Workflow(Arc<WorkflowDefinition>),
    Agent {
        name: String,
        /// In its JSON form, complete.
        spec: Value,
        definition: Arc<AgentDefinition>,
    },
}

impl Subject {
    /// An agent, completed as the server completes it.
    ///
    /// # Errors
    /// Every violation, with paths within the spec.
    pub(super) fn agent(name: String, mut spec: Value) -> Result<Self, Vec<Violation>> {
        if let Value::Object(fields) = &mut spec {
            fields.entry("policy").or_insert_with(|| Value::Object(Map::new()));
        }
        servers::define(&mut spec);
        let definition = Arc::new(check_agent(&spec)?);
        Ok(Self::Agent { name, spec, definition })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Workflow(definition) => definition.name(),
            Self::Agent { name, .. } => name,
        }
    }

    /// The word for it in a result.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Workflow(_) => "workflow",
            Self::Agent { .. } => "agent",
        }
    }

    /// Whether a case can be played with these turns.
    ///
    /// # Errors
    /// Every violation, with paths within the case.
    pub(super) fn check_turns(&self, turns: Option<&Value>) -> Result<(), Vec<Violation>> {
        match self {
            Self::Workflow(_) => Ok(()),
            Self::Agent { .. } => self.with_turns(turns).map(drop),
        }
    }

    fn with_turns(&self, turns: Option<&Value>) -> Result<Arc<AgentDefinition>, Vec<Violation>> {
        let Self::Agent { spec, definition, .. } = self else { return Err(Vec::new()) };
        let Some(turns) = turns else {
            let is_played = definition.model().playback.is_some();
            let says = "must be given: what the model says, as the agent has no playback of its own";
            return if is_played { Ok(Arc::clone(definition)) } else { Err(vec![Violation::new("turns", says)]) };
        };
        let mut spec = spec.clone();
        let name = &spec["model"]["name"];
        let played = json!({"name": name, "provider": "playback", "playback": {"conversations": [{"turns": turns}]}});
        spec["model"] = played;
        let told = |it: Violation| Violation::new(it.field.replacen(TURNS, "", 1), it.message);
        check_agent(&spec).map(Arc::new).map_err(|violations| violations.into_iter().map(told).collect())
    }

    /// Runs a case.
    pub(super) fn rehearse(&self, case: &Case) -> Rehearsal {
        match self {
            Self::Workflow(definition) => rehearse(definition, &case.script),
            Self::Agent { definition, spec, .. } => {
                // The turns were checked when the file was read.
                let definition = self.with_turns(case.turns.as_ref()).unwrap_or_else(|_| Arc::clone(definition));
                let mut script: Script = case.script.clone();
                let reply = Reply::Voiced(play_model);
                script.answers.push(Answer {
                    task: Some("model".to_owned()),
                    matches: None,
                    after_ms: 0,
                    reply,
                    times: None,
                });
                script.answers.extend(servers::lists(&definition, spec, case));
                rehearse_program(Box::new(load_agent(definition)), &script)
            }
        }
    }

    /// What can be covered: the tasks of a workflow by their pointers, the tools of an agent.
    pub(super) fn parts(&self) -> Vec<String> {
        match self {
            Self::Workflow(definition) => definition.graph().tasks().iter().map(|task| task.pointer.clone()).collect(),
            Self::Agent { definition, .. } => definition.tools().into_iter().map(|tool| tool.name).collect(),
        }
    }

    /// What was covered.
    pub(super) fn covered(&self, rehearsal: &Rehearsal) -> BTreeSet<String> {
        let ran = rehearsal.tasks.iter().filter(|task| task.state != TaskState::Skipped);
        match self {
            Self::Workflow(definition) => {
                let graph = definition.graph();
                ran.filter_map(|task| graph.task_at(&task.position)).map(|task| task.pointer.clone()).collect()
            }
            Self::Agent { .. } => ran
                .filter(|task| !matches!(task.kind.as_str(), "turn" | "server"))
                .map(|task| task.name.clone())
                .collect(),
        }
    }

    /// What its parts are called.
    pub(super) fn parts_word(&self) -> &'static str {
        match self {
            Self::Workflow(_) => "tasks",
            Self::Agent { .. } => "tools",
        }
    }
}
