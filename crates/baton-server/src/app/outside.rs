//! What clients of other protocols (MCP, A2A) may see: templates that were published to them, and the executions that they
//! began.
//!
//! # Invariants
//! - A template is offered through a protocol only if its annotation [`PUBLISH`] names that protocol.
//! - An execution is found by an id only through [`App::begun_through`]: in the namespace that was asked, and begun through
//!   the protocol that asks. Whoever the client is will be checked there, too.
//!
//! # Deliberately absent
//! Who the client is: the server authenticates nobody yet, and listens on the loopback interface only.

use baton_execution::ProgramKind;
use baton_proto::{
    ExecutionResource, Resource, kind,
    v1::{Approval, ObjectMeta},
};
use baton_types::{ApiError, Digest, ErrorKind, Uid, Violation};

use super::{App, ExecutionKind, ServedResource, metadata};

/// Annotation of a template: the protocols through which it is offered, such as `mcp, a2a`.
pub(crate) const PUBLISH: &str = "baton.dev/publish";
/// Annotation of a template: what it does, for those it is published to.
pub(crate) const DESCRIPTION: &str = "baton.dev/description";
/// Label of an execution: the protocol through which a client began it.
pub(crate) const INTERFACE: &str = "baton.dev/interface";
/// Open questions of one execution that are shown.
const QUESTIONS_MAX: usize = 16;

/// A protocol through which templates are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interface {
    /// Model Context Protocol: tools.
    Mcp,
    /// Agent2Agent: agents.
    A2a,
}

impl Interface {
    /// As [`PUBLISH`] and [`INTERFACE`] have it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::A2a => "a2a",
        }
    }

    /// Those that a kind of template can be offered through.
    const fn of(kind: ProgramKind) -> &'static [Self] {
        match kind {
            ProgramKind::Workflow => &[Self::Mcp],
            ProgramKind::Agent => &[Self::Mcp, Self::A2a],
        }
    }

    /// Whether a template is offered through it.
    pub(crate) fn offers<R: Resource>(self, template: &R) -> bool {
        let published = template.metadata().and_then(|meta| meta.annotations.get(PUBLISH));
        published.is_some_and(|list| words(list).any(|word| word == self.as_str()))
    }

    /// The name of the execution that the request with a key makes of a template: the same for the same request.
    pub(crate) fn execution_name(self, kind: ProgramKind, template: &str, key: &str) -> String {
        let identity = [kind.template_kind(), template, key].join("\0");
        format!("{}-{}", self.as_str(), &hex::encode(Digest::of(identity.as_bytes()).as_bytes())[..40])
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Notes what [`PUBLISH`] names and is no protocol that a kind of template can be offered through.
pub(crate) fn check_published(kind: ProgramKind, meta: &ObjectMeta, violations: &mut Vec<Violation>) {
    let known = Interface::of(kind);
    for word in meta.annotations.get(PUBLISH).into_iter().flat_map(|list| words(list)) {
        if !known.iter().any(|interface| interface.as_str() == word) {
            let allowed: Vec<_> = known.iter().map(|it| format!("'{}'", it.as_str())).collect();
            let message = format!(
                "'{}' is nothing that this can be published to; allowed here: {}",
                metadata::shortened(word),
                allowed.join(", ")
            );
            violations.push(Violation::new(format!("metadata.annotations.{PUBLISH}"), message));
        }
    }
}

/// The refusal for an agent that is not offered through a protocol.
pub(crate) fn not_offered(interface: Interface, namespace: &str, agent: &str) -> ApiError {
    let word = interface.as_str();
    let message = format!("no agent '{agent}' is published to '{word}' in the namespace '{namespace}'");
    ApiError::new(ErrorKind::NotFound, "PATH_NOT_FOUND", message)
        .hint(format!("publish one with the annotation {PUBLISH}: {word}"))
}

impl App {
    /// A template that is offered through a protocol; `None` if there is none of that name, or it is not.
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) async fn offered<R: ServedResource>(
        &self,
        interface: Interface,
        namespace: &str,
        name: &str,
    ) -> Result<Option<R>, ApiError> {
        match self.get::<R>(namespace, name).await {
            Ok(template) => Ok(Some(template).filter(|template| interface.offers(template))),
            Err(refused) if refused.kind == ErrorKind::NotFound => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// The execution with a uid that was begun through a protocol in a namespace; `None` for anything else.
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) async fn begun_through(
        &self,
        interface: Interface,
        namespace: &str,
        id: &str,
    ) -> Result<Option<ExecutionResource>, ApiError> {
        let Ok(uid) = id.parse::<Uid>() else { return Ok(None) };
        let row = self.read(move |store| store.get_by_uid(*uid.as_bytes())).await?;
        let execution_kinds = [kind::WORKFLOW_EXECUTION, kind::AGENT_EXECUTION];
        let Some(row) =
            row.filter(|row| row.key.namespace == namespace && execution_kinds.contains(&row.key.kind.as_ref()))
        else {
            return Ok(None);
        };
        let execution = baton_engine::decode_stored(&row.key.kind, &row.body, row.revision)?;
        Ok(Some(execution).filter(|it| it.metadata().labels.get(INTERFACE).is_some_and(|it| it == interface.as_str())))
    }

    /// What an execution asks people now: the approvals that it waits for.
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) async fn questions(&self, execution: &ExecutionResource) -> Result<Vec<Approval>, ApiError> {
        let mut open = Vec::new();
        let waits = execution.waiting_for().map(Vec::as_slice).unwrap_or_default();
        for wait in waits.iter().filter(|wait| !wait.approval.is_empty()).take(QUESTIONS_MAX) {
            match self.get::<Approval>(&execution.metadata().namespace, &wait.approval).await {
                Ok(approval) => open.push(approval),
                Err(refused) if refused.kind == ErrorKind::NotFound => {}
                Err(refused) => return Err(refused),
            }
        }
        Ok(open)
    }

    /// The whole output of an execution of either kind, as JSON text; `None` if it has none.
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) async fn output_of(&self, execution: &ExecutionResource) -> Result<Option<String>, ApiError> {
        let meta = execution.metadata();
        let output = match execution {
            ExecutionResource::Workflow(_) => {
                self.output::<baton_proto::v1::WorkflowExecution>(&meta.namespace, &meta.name).await
            }
            ExecutionResource::Agent(_) => {
                self.output::<baton_proto::v1::AgentExecution>(&meta.namespace, &meta.name).await
            }
        };
        match output {
            Ok(text) => Ok(Some(text)),
            Err(refused) if refused.kind == ErrorKind::NotFound => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// Asks an execution of either kind to wind up; one that has ended is left as it is.
    ///
    /// # Errors
    /// What the engine answers.
    pub(crate) async fn cancel_begun(
        &self,
        execution: &ExecutionResource,
        reason: &str,
    ) -> Result<ExecutionResource, ApiError> {
        let meta = execution.metadata();
        match execution {
            ExecutionResource::Workflow(_) => {
                let object: baton_proto::v1::WorkflowExecution =
                    self.cancel(&meta.namespace, &meta.name, reason).await?;
                Ok(object.into_execution())
            }
            ExecutionResource::Agent(_) => {
                let object: baton_proto::v1::AgentExecution = self.cancel(&meta.namespace, &meta.name, reason).await?;
                Ok(object.into_execution())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::v1::Agent;

    use super::*;

    fn agent(published: &str) -> Agent {
        let mut agent = Agent::default();
        agent.metadata_mut().annotations.insert(PUBLISH.to_owned(), published.to_owned());
        agent
    }

    #[test]
    fn nothing_is_offered_that_was_not_published() {
        assert!(!Interface::Mcp.offers(&Agent::default()));
        for (published, mcp, a2a) in [
            ("mcp", true, false),
            (" a2a , mcp ", true, true),
            ("a2a", false, true),
            ("", false, false),
            ("mcpx", false, false),
        ] {
            let agent = agent(published);
            assert_eq!((Interface::Mcp.offers(&agent), Interface::A2a.offers(&agent)), (mcp, a2a), "{published}");
        }
    }

    #[test]
    fn a_word_that_is_no_protocol_is_named() {
        let check = |kind, published: &str| {
            let mut violations = Vec::new();
            check_published(kind, agent(published).metadata_mut(), &mut violations);
            violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(check(ProgramKind::Agent, "mcp,a2a"), "");
        let says = check(ProgramKind::Workflow, "mcp,a2a");
        assert!(
            says.contains("baton.dev/publish") && says.contains("'a2a' is nothing") && says.contains("'mcp'"),
            "{says}"
        );
    }

    #[test]
    fn a_request_has_one_name() {
        let name = |template, key| Interface::Mcp.execution_name(ProgramKind::Agent, template, key);
        assert_eq!(name("a", "k"), name("a", "k"));
        assert_ne!(name("a", "k"), name("b", "k"));
        baton_types::check_name(&name("a.b", "\u{7f}κ")).unwrap();
    }
}
