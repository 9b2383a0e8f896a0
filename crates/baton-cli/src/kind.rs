//! The kinds of resources as the command line names them.

use std::str::FromStr;

use baton_proto::{Resource, v1};

use crate::failure::Failure;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Workflow,
    WorkflowExecution,
    Agent,
    AgentExecution,
    Secret,
    Approval,
    McpServer,
    Session,
    Skill,
    Artifact,
}

/// Runs an expression with `$type` standing for the resource type of a kind.
macro_rules! with_kind {
    ($kind:expr, $type:ident => $body:expr) => {
        match $kind {
            $crate::kind::Kind::Workflow => {
                type $type = baton_proto::v1::Workflow;
                $body
            }
            $crate::kind::Kind::WorkflowExecution => {
                type $type = baton_proto::v1::WorkflowExecution;
                $body
            }
            $crate::kind::Kind::Agent => {
                type $type = baton_proto::v1::Agent;
                $body
            }
            $crate::kind::Kind::AgentExecution => {
                type $type = baton_proto::v1::AgentExecution;
                $body
            }
            $crate::kind::Kind::Secret => {
                type $type = baton_proto::v1::Secret;
                $body
            }
            $crate::kind::Kind::Approval => {
                type $type = baton_proto::v1::Approval;
                $body
            }
            $crate::kind::Kind::McpServer => {
                type $type = baton_proto::v1::McpServer;
                $body
            }
            $crate::kind::Kind::Session => {
                type $type = baton_proto::v1::Session;
                $body
            }
            $crate::kind::Kind::Skill => {
                type $type = baton_proto::v1::Skill;
                $body
            }
            $crate::kind::Kind::Artifact => {
                type $type = baton_proto::v1::Artifact;
                $body
            }
        }
    };
}
pub(crate) use with_kind;

impl Kind {
    /// All kinds, each after those that it refers to.
    pub(crate) const ALL: [Self; 10] = [
        Self::Secret,
        Self::McpServer,
        Self::Skill,
        Self::Artifact,
        Self::Agent,
        Self::Workflow,
        Self::Session,
        Self::AgentExecution,
        Self::WorkflowExecution,
        Self::Approval,
    ];

    /// As in `kind`, such as `WorkflowExecution`.
    pub(crate) fn name(self) -> &'static str {
        with_kind!(self, K => K::KIND)
    }

    /// As in `kind` but in lower case, as in `workflowexecution/hello-x2k9d`.
    pub(crate) fn word(self) -> String {
        self.name().to_ascii_lowercase()
    }

    /// For people, such as `workflow execution`.
    pub(crate) fn title(self) -> &'static str {
        with_kind!(self, K => K::TITLE)
    }

    /// As in REST paths, such as `workflowexecutions`.
    pub(crate) fn plural(self) -> &'static str {
        with_kind!(self, K => K::PLURAL)
    }

    fn short_names(self) -> &'static [&'static str] {
        with_kind!(self, K => K::SHORT_NAMES)
    }

    /// Whether this is one run of something.
    pub(crate) fn is_execution(self) -> bool {
        matches!(self, Self::WorkflowExecution | Self::AgentExecution)
    }

    /// The kind whose name in `kind` this is exactly.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let plain = lower.strip_suffix(".baton.dev").unwrap_or(&lower).replace(['-', '_'], "");
        Self::ALL
            .into_iter()
            .find(|kind| plain == kind.word() || plain == kind.plural() || kind.short_names().contains(&plain.as_str()))
            .ok_or_else(|| {
                let allowed: Vec<_> = Self::ALL
                    .iter()
                    .map(|kind| format!("{} ({})", kind.plural(), kind.short_names().join(", ")))
                    .collect();
                format!("no kind '{}'; kinds are {}", crate::printer::one_line(text), allowed.join(", "))
            })
    }
}

/// A kind as the first argument, perhaps with the name behind it: `wfx` or `wfx/hello-x2k9d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KindArg {
    pub(crate) kind: Kind,
    pub(crate) name: Option<String>,
}

impl FromStr for KindArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((kind, name)) => Ok(Self { kind: kind.parse()?, name: Some(name.to_owned()) }),
            None => Ok(Self { kind: text.parse()?, name: None }),
        }
    }
}

impl KindArg {
    /// The name, from either place.
    pub(crate) fn with_name(self, name: Option<String>) -> Result<(Kind, Option<String>), Failure> {
        match (self.name, name) {
            (Some(first), Some(second)) => {
                Err(Failure::usage(format!("two names were given, '{first}' and '{second}'")))
            }
            (first, second) => Ok((self.kind, first.or(second))),
        }
    }

    /// The name, which there must be.
    pub(crate) fn named(self, name: Option<String>) -> Result<(Kind, String), Failure> {
        let (kind, name) = self.with_name(name)?;
        let hint = format!("list them with baton get {}", kind.plural());
        Ok((
            kind,
            name.ok_or_else(|| Failure::usage(format!("the name of the {} is missing", kind.title())).hint(hint))?,
        ))
    }

    /// The name of an execution, which it must be.
    pub(crate) fn execution(self, name: Option<String>) -> Result<(Kind, String), Failure> {
        let (kind, name) = self.named(name)?;
        if kind.is_execution() {
            return Ok((kind, name));
        }
        let failure = Failure::usage(format!(
            "a {} does not run; this command is for workflow executions (wfx) and agent executions (agx)",
            kind.title()
        ));
        Err(match kind.execution_kind() {
            Some(execution) => failure.hint(format!(
                "list its runs with baton get {} --field-selector spec.{}={name}",
                execution.plural(),
                kind.word()
            )),
            None => failure,
        })
    }
}

impl Kind {
    /// The kind of the runs of a template; an execution's own kind. `None` for what does not run.
    pub(crate) fn execution_kind(self) -> Option<Self> {
        match self {
            Self::Workflow | Self::WorkflowExecution => Some(Self::WorkflowExecution),
            Self::Agent | Self::AgentExecution => Some(Self::AgentExecution),
            Self::Secret | Self::Approval | Self::McpServer | Self::Session | Self::Skill | Self::Artifact => None,
        }
    }
}

/// A resource of any kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Object {
    Workflow(Box<v1::Workflow>),
    WorkflowExecution(Box<v1::WorkflowExecution>),
    Agent(Box<v1::Agent>),
    AgentExecution(Box<v1::AgentExecution>),
    Secret(Box<v1::Secret>),
    Approval(Box<v1::Approval>),
    McpServer(Box<v1::McpServer>),
    Session(Box<v1::Session>),
    Skill(Box<v1::Skill>),
    Artifact(Box<v1::Artifact>),
}

macro_rules! each {
    ($object:expr, $it:ident => $body:expr) => {
        match $object {
            $crate::kind::Object::Workflow($it) => $body,
            $crate::kind::Object::WorkflowExecution($it) => $body,
            $crate::kind::Object::Agent($it) => $body,
            $crate::kind::Object::AgentExecution($it) => $body,
            $crate::kind::Object::Secret($it) => $body,
            $crate::kind::Object::Approval($it) => $body,
            $crate::kind::Object::McpServer($it) => $body,
            $crate::kind::Object::Session($it) => $body,
            $crate::kind::Object::Skill($it) => $body,
            $crate::kind::Object::Artifact($it) => $body,
        }
    };
}
pub(crate) use each;

macro_rules! object_from {
    ($($kind:ident),*) => {$(
        impl From<v1::$kind> for Object {
            fn from(it: v1::$kind) -> Self {
                Self::$kind(Box::new(it))
            }
        }
    )*};
}
object_from!(Workflow, WorkflowExecution, Agent, AgentExecution, Secret, Approval, McpServer, Session, Skill, Artifact);

impl Object {
    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Workflow(_) => Kind::Workflow,
            Self::WorkflowExecution(_) => Kind::WorkflowExecution,
            Self::Agent(_) => Kind::Agent,
            Self::AgentExecution(_) => Kind::AgentExecution,
            Self::Secret(_) => Kind::Secret,
            Self::Approval(_) => Kind::Approval,
            Self::McpServer(_) => Kind::McpServer,
            Self::Session(_) => Kind::Session,
            Self::Skill(_) => Kind::Skill,
            Self::Artifact(_) => Kind::Artifact,
        }
    }

    /// `metadata`; all of it empty if it was left out.
    pub(crate) fn metadata(&self) -> &v1::ObjectMeta {
        static NONE: std::sync::LazyLock<v1::ObjectMeta> = std::sync::LazyLock::new(v1::ObjectMeta::default);
        each!(self, it => Resource::metadata(it.as_ref())).unwrap_or(&NONE)
    }

    /// `metadata`, made if it was left out.
    pub(crate) fn metadata_mut(&mut self) -> &mut v1::ObjectMeta {
        each!(self, it => it.metadata_mut())
    }

    /// `metadata.name`.
    pub(crate) fn name(&self) -> &str {
        &self.metadata().name
    }

    /// `workflow/hello`.
    pub(crate) fn reference(&self) -> String {
        let name = if self.name().is_empty() {
            format!("{}…", self.metadata().generate_name)
        } else {
            self.name().to_owned()
        };
        format!("{}/{name}", self.kind().word())
    }

    /// The API's JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        each!(self, it => baton_proto::to_json_value(it.as_ref()))
    }

    /// The same object as an execution of either kind.
    pub(crate) fn execution(&self) -> Option<baton_proto::ExecutionResource> {
        match self {
            Self::WorkflowExecution(it) => Some(baton_proto::ExecutionResource::Workflow(it.clone())),
            Self::AgentExecution(it) => Some(baton_proto::ExecutionResource::Agent(it.clone())),
            Self::Workflow(_)
            | Self::Agent(_)
            | Self::Secret(_)
            | Self::Approval(_)
            | Self::McpServer(_)
            | Self::Session(_)
            | Self::Skill(_)
            | Self::Artifact(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_many_names() {
        for text in
            ["wfx", "WorkflowExecution", "workflowexecutions", "workflow-execution", "workflowexecutions.baton.dev"]
        {
            assert_eq!(text.parse(), Ok(Kind::WorkflowExecution), "{text}");
        }
        assert_eq!("ag/triage".parse(), Ok(KindArg { kind: Kind::Agent, name: Some("triage".to_owned()) }));
        assert_eq!(
            "pods".parse::<Kind>().unwrap_err(),
            "no kind 'pods'; kinds are secrets (sec), mcpservers (mcp), skills (sk), artifacts (art), agents (ag), workflows (wf), sessions (ses), agentexecutions (agx), workflowexecutions (wfx), approvals (apr)"
        );
    }

    #[test]
    fn a_template_cannot_be_cancelled() {
        let failure = "wf".parse::<KindArg>().unwrap().execution(Some("a".to_owned())).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.lines()[0].contains("does not run"));
    }
}
