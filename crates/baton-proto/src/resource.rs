//! What is alike for every kind of resource.

use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

use crate::v1::{self, Condition, ObjectMeta};

/// `apiVersion` of every resource.
pub const API_VERSION: &str = "baton.dev/v1";

/// Names of the kinds.
pub mod kind {
    /// A workflow template.
    pub const WORKFLOW: &str = "Workflow";
    /// One run of a workflow.
    pub const WORKFLOW_EXECUTION: &str = "WorkflowExecution";
    /// An agent template.
    pub const AGENT: &str = "Agent";
    /// One run of an agent.
    pub const AGENT_EXECUTION: &str = "AgentExecution";
    /// Named secret values.
    pub const SECRET: &str = "Secret";
    /// A question to a person.
    pub const APPROVAL: &str = "Approval";
    /// A server of the Model Context Protocol.
    pub const MCP_SERVER: &str = "McpServer";
    /// A file that was uploaded.
    pub const ARTIFACT: &str = "Artifact";
    /// Instructions that models load when they need them.
    pub const SKILL: &str = "Skill";
    /// A conversation over several executions of agents.
    pub const SESSION: &str = "Session";
}

/// A resource: `apiVersion`, `kind`, `metadata`, `spec`, `status`.
pub trait Resource:
    Message + Default + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// `kind`, such as `WorkflowExecution`.
    const KIND: &'static str;
    /// As in REST paths, such as `workflowexecutions`.
    const PLURAL: &'static str;
    /// For people, such as `workflow execution`.
    const TITLE: &'static str;
    /// Short names that the command line takes.
    const SHORT_NAMES: &'static [&'static str];
    /// What a watch sends.
    type WatchEvent: Message + Default + Serialize + Send;
    /// What a list sends.
    type List: Message + Default + Serialize + Send;

    /// `metadata`, or `None` if it was left out.
    fn metadata(&self) -> Option<&ObjectMeta>;
    /// `metadata`, made if it was left out.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// `apiVersion` and `kind` as they stand.
    fn type_meta(&self) -> (&str, &str);
    /// Sets `apiVersion` and `kind` to what they must be.
    fn set_type_meta(&mut self);
    /// `status.conditions`.
    fn conditions(&self) -> &[Condition];
    /// `status.conditions`, made if there was no status.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    /// Sets `status.observedGeneration`.
    fn set_observed_generation(&mut self, generation: i32);
    /// Puts the system's half, `status`, of another object in place of this one's.
    fn take_status_of(&mut self, other: &Self);
    /// Whether `spec` of both is the same.
    fn same_spec(&self, other: &Self) -> bool;
    /// The event of a watch.
    fn watch_event(kind: &str, object: Self) -> Self::WatchEvent;
    /// The answer to a list.
    fn list(metadata: v1::ListMeta, items: Vec<Self>) -> Self::List;
}

macro_rules! resource {
    ($kind:ident, $plural:literal, $title:literal, $short:expr, $event:ident, $list:ident) => {
        impl Resource for v1::$kind {
            const KIND: &'static str = stringify!($kind);
            const PLURAL: &'static str = $plural;
            const TITLE: &'static str = $title;
            const SHORT_NAMES: &'static [&'static str] = $short;
            type WatchEvent = v1::$event;
            type List = v1::$list;

            fn metadata(&self) -> Option<&ObjectMeta> {
                self.metadata.as_ref()
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                self.metadata.get_or_insert_default()
            }
            fn type_meta(&self) -> (&str, &str) {
                (&self.api_version, &self.kind)
            }
            fn set_type_meta(&mut self) {
                API_VERSION.clone_into(&mut self.api_version);
                Self::KIND.clone_into(&mut self.kind);
            }
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
            fn conditions_mut(&mut self) -> &mut Vec<Condition> {
                &mut self.status.get_or_insert_default().conditions
            }
            fn set_observed_generation(&mut self, generation: i32) {
                self.status.get_or_insert_default().observed_generation = generation;
            }
            fn take_status_of(&mut self, other: &Self) {
                self.status.clone_from(&other.status);
            }
            fn same_spec(&self, other: &Self) -> bool {
                self.spec == other.spec
            }
            fn watch_event(kind: &str, object: Self) -> Self::WatchEvent {
                v1::$event { r#type: kind.to_owned(), object: Some(object) }
            }
            fn list(metadata: v1::ListMeta, items: Vec<Self>) -> Self::List {
                v1::$list {
                    api_version: API_VERSION.to_owned(),
                    kind: concat!(stringify!($kind), "List").to_owned(),
                    metadata: Some(metadata),
                    items,
                }
            }
        }
    };
}

resource!(Workflow, "workflows", "workflow", &["wf"], WorkflowWatchEvent, WorkflowList);
resource!(
    WorkflowExecution,
    "workflowexecutions",
    "workflow execution",
    &["wfx"],
    WorkflowExecutionWatchEvent,
    WorkflowExecutionList
);
resource!(Agent, "agents", "agent", &["ag"], AgentWatchEvent, AgentList);
resource!(AgentExecution, "agentexecutions", "agent execution", &["agx"], AgentExecutionWatchEvent, AgentExecutionList);
resource!(Secret, "secrets", "secret", &["sec"], SecretWatchEvent, SecretList);
resource!(Approval, "approvals", "approval", &["apr"], ApprovalWatchEvent, ApprovalList);
resource!(McpServer, "mcpservers", "MCP server", &["mcp"], McpServerWatchEvent, McpServerList);
resource!(Skill, "skills", "skill", &["sk"], SkillWatchEvent, SkillList);
resource!(Session, "sessions", "session", &["ses"], SessionWatchEvent, SessionList);
resource!(Artifact, "artifacts", "artifact", &["art"], ArtifactWatchEvent, ArtifactList);
